//! What a file is made of, for people who look into one: headers, records, edits, blocks. It reads only, takes no lock,
//! and goes on behind damage where it can.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use pugdb_core::env::{Access, Env, File};
use pugdb_core::seam::{Cipher, FileKind, Plain};
use pugdb_core::{EntryKind, Error, ErrorKind, Found, Key, RawSpan, Result, Seqno};

use crate::TreeOptions;
use crate::file::{FORMAT_VERSION, FileHeader, OpenedHeader, name};
use crate::{log, manifest, table, values};

/// How much is shown.
///
/// ```
/// use pugdb_lsm::inspect::Detail;
///
/// assert_ne!(Detail::Structure, Detail::Entries);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Records, edits, blocks.
    Structure,
    /// Also every entry in them: its seqno, its key, the length of its value. Never a value.
    Entries,
}

/// What a part says about itself.
///
/// ```
/// use pugdb_lsm::inspect::Field;
///
/// // Bytes of a user are not printed by accident.
/// assert_eq!(format!("{:?}", Field::User(b"secret".as_slice().into())), "User(6 bytes)");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub enum Field {
    /// A number.
    Number(u64),
    /// Words of PugDB's own.
    Text(String),
    /// A key, or the name of a keyspace.
    User(Bytes),
}

impl fmt::Debug for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "Number({number})"),
            Self::Text(text) => write!(f, "Text({text:?})"),
            Self::User(bytes) => write!(f, "User({} bytes)", bytes.len()),
        }
    }
}

impl From<u64> for Field {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<String> for Field {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Field {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Bytes> for Field {
    fn from(bytes: Bytes) -> Self {
        Self::User(bytes)
    }
}

/// A part of a file.
///
/// ```
/// use pugdb_lsm::inspect::{Field, Part};
///
/// let part = Part { offset: 96, bytes: 64, what: "record", fields: vec![("lag", Field::Number(0))] };
/// assert_eq!(part.what, "record");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where it begins in the file; of an entry, where the part begins that holds it.
    pub offset: u64,
    /// Its length; 0 of an entry or an edit, which are parts of parts.
    pub bytes: u64,
    /// `header`, `record`, `edit`, `entry`, `block`, `filter`, `index`, `properties`, `footer`, `value`,
    /// `damage`.
    pub what: &'static str,
    /// What it says.
    pub fields: Vec<(&'static str, Field)>,
}

/// How far a file was read.
///
/// ```
/// use pugdb_core::seam::FileKind;
/// use pugdb_lsm::inspect::Inspected;
///
/// let whole = Inspected { kind: FileKind::Log, end: 4096, reason: "nothing more was written".into(), damaged: false };
/// assert!(!whole.damaged);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// What the file is.
    pub kind: FileKind,
    /// Where reading ended.
    pub end: u64,
    /// Why there.
    pub reason: String,
    /// Some of it could not be read.
    pub damaged: bool,
}

/// Takes the parts of a file, one after the other.
pub type Visit<'a> = dyn FnMut(Part) -> Result<()> + 'a;

/// Shows each part of a file to `visit`, whose error ends it.
///
/// # Errors
/// What `visit` says; `Corrupt` when the file does not begin as one of PugDB's does, `Unsupported` when it has a newer
/// version, what the cipher says without the right key, what the disk says. Damage further on is a part.
pub fn inspect(
    env: &Env,
    path: &Path,
    cipher: &dyn Cipher,
    detail: Detail,
    visit: &mut Visit<'_>,
) -> Result<Inspected> {
    let doing = |error| Error::io(format!("open {}", name(path)), error);
    let file = env.fs.open(path, Access::Read).map_err(doing)?;
    let opened = match FileHeader::read_any(&*file, cipher) {
        Err(error) if error.kind() == ErrorKind::Denied => plain(&*file).ok_or(error),
        opened => opened,
    };
    let opened = opened.map_err(|error| error.at(name(path)))?;
    match opened.header.context.kind {
        FileKind::Log => log::inspect(file, &opened, detail, visit),
        FileKind::Table => table::inspect(&file, &opened, detail, visit),
        FileKind::Manifest => manifest::inspect(file, &opened, visit),
        FileKind::Values => values::inspect(&file, &opened, visit),
        FileKind::Audit => {
            Err(Error::invalid("this is a segment of the audit log; `pugdb audit show` prints it"))
        }
    }
}

/// A table or a value file that is not sealed: the manifest of an encrypted database may say so of one, and is not asked here.
fn plain(file: &dyn File) -> Option<OpenedHeader> {
    let opened = FileHeader::read_any(file, &Plain).ok()?;
    opened.header.context.keyspace.is_some().then_some(opened)
}

/// The part every file begins with, and `more` that its kind keeps there.
pub(crate) fn header(opened: &OpenedHeader, more: Vec<(&'static str, Field)>) -> Part {
    let context = &opened.header.context;
    let mut fields: Vec<(&'static str, Field)> = vec![
        ("kind", format!("{:?}", context.kind).to_lowercase().into()),
        ("format", u64::from(FORMAT_VERSION).into()),
        ("database", context.database.to_string().into()),
        ("file", context.file.to_string().into()),
    ];
    fields.extend(context.keyspace.map(|keyspace| ("keyspace", u64::from(keyspace.0).into())));
    fields.extend(more);
    Part { offset: 0, bytes: opened.bytes, what: "header", fields }
}

/// A place that cannot be read.
pub(crate) fn damage(offset: u64, bytes: u64, reason: impl Into<String>) -> Part {
    Part { offset, bytes, what: "damage", fields: vec![("reason", Field::Text(reason.into()))] }
}

/// One entry in the record or block at `offset`.
pub(crate) fn entry(offset: u64, key: &Key, found: &Found) -> Part {
    let entry = &found.entry;
    let kind = match entry.kind {
        EntryKind::Put => "put",
        EntryKind::Delete => "delete",
        EntryKind::Operand => "operand",
    };
    let mut fields: Vec<(&'static str, Field)> = vec![
        ("seqno", found.seqno.0.into()),
        ("kind", kind.into()),
        ("key", key.clone().into_bytes().into()),
        ("value_bytes", (entry.value.len() as u64).into()),
    ];
    fields.extend(entry.expires_at.map(|at| ("expires_at_ms", at.0.into())));
    if entry.meta != 0 {
        fields.push(("meta", u64::from(entry.meta).into()));
    }
    Part { offset, bytes: 0, what: "entry", fields }
}

/// One range delete in the record at `offset`.
pub(crate) fn range_delete(offset: u64, span: &RawSpan<'_>, seqno: Seqno) -> Part {
    let user = |bytes: &[u8]| Field::User(Bytes::copy_from_slice(bytes));
    let mut fields: Vec<(&'static str, Field)> =
        vec![("seqno", seqno.0.into()), ("kind", "delete range".into()), ("start", user(span.start))];
    fields.extend(span.end.map(|end| ("end", user(end))));
    Part { offset, bytes: 0, what: "entry", fields }
}

/// How the tables of a keyspace are made.
pub(crate) fn option_fields(options: &TreeOptions) -> Vec<(&'static str, Field)> {
    vec![
        ("upper_compression", options.upper.to_string().into()),
        ("bottom_compression", options.bottom.to_string().into()),
        ("block_bytes", (options.block_bytes as u64).into()),
        ("filter_bits", u64::from(options.filter_bits).into()),
        ("prefix", options.prefix.to_string().into()),
        ("separate_values", (options.separate_values.unwrap_or(0) as u64).into()),
    ]
}

/// Reads a piece of the file; `None` when the file ends before it.
pub(crate) fn piece(file: &Arc<dyn File>, offset: u64, bytes: u64) -> Result<Option<Vec<u8>>> {
    let length = file.length().map_err(|error| Error::io("read a file's length", error))?;
    if offset.checked_add(bytes).is_none_or(|end| end > length) {
        return Ok(None);
    }
    let mut piece = vec![0; pugdb_core::coding::index(bytes)];
    file.read_exact_at(&mut piece, offset).map_err(|error| Error::io("read the file", error))?;
    Ok(Some(piece))
}
