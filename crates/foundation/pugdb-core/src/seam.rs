//! The seams through which encryption, tiered storage and rules of forgetting plug in without the engine knowing them.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::entry::{SealId, Timestamp};
use crate::error::Result;
use crate::ids::{DatabaseId, FileId, KeyspaceId};

/// What a file holds. The numbers are part of the disk format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FileKind {
    /// A log segment.
    Log = 1,
    /// A sorted table.
    Table = 2,
    /// A manifest.
    Manifest = 3,
    /// Values that tables point to.
    Values = 4,
    /// A segment of the audit log.
    Audit = 5,
}

impl FileKind {
    /// Reads the number in a file header.
    pub fn from_number(number: u8) -> Option<Self> {
        let all = [Self::Log, Self::Table, Self::Manifest, Self::Values, Self::Audit];
        all.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// Which file a seal belongs to. A cipher binds all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileContext {
    /// The database the file belongs to.
    pub database: DatabaseId,
    /// The file's own identity.
    pub file: FileId,
    /// What it holds.
    pub kind: FileKind,
    /// The only keyspace whose bytes it holds; `None` for a shared file (log, manifest).
    pub keyspace: Option<KeyspaceId>,
}

/// Whose key seals a piece of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Framing: the database's key.
    Database,
    /// A keyspace's user bytes: the keyspace's key.
    Keyspace(KeyspaceId),
}

/// With what a file is sealed, as its header says.
///
/// ```
/// use pugdb_core::seam::SealedWith;
///
/// let with = SealedWith { algorithm: "AES-256-GCM", generation: Some(2) };
/// assert_ne!(with, SealedWith::UNKNOWN);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SealedWith {
    /// The algorithm's name in standards.
    pub algorithm: &'static str,
    /// The number of the key that the file's own was derived from, where the cipher counts its keys.
    pub generation: Option<u64>,
}

impl SealedWith {
    /// By a cipher that does not say how it seals.
    pub const UNKNOWN: Self = Self { algorithm: "a cipher of the program", generation: None };
}

/// Seals every byte bound for disk. [`Plain`] seals nothing; checksums still find damage.
pub trait Cipher: Send + Sync {
    /// Keys for a new file, and the bytes that its header keeps so that the file can be opened again.
    fn create(&self, context: &FileContext) -> Result<(Vec<u8>, Arc<dyn FileCipher>)>;

    /// Keys for an existing file from the bytes in its header.
    ///
    /// # Errors
    /// `Erased` when the key it was made with was destroyed.
    fn open(&self, context: &FileContext, header: &[u8]) -> Result<Arc<dyn FileCipher>>;

    /// What the header of an existing file says of its seal, for reports; `None` when the file is plain. Whether the header is true,
    /// [`open`](Self::open) finds out.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    fn sealed_with(&self, context: &FileContext, header: &[u8]) -> Result<Option<SealedWith>> {
        let _ = context;
        Ok((!header.is_empty()).then_some(SealedWith::UNKNOWN))
    }

    /// Sees to it that there are keys, durably, for every keyspace below the end of `made`. Called outside of all locks before these are made:
    /// keyspaces, or partitions of `owner`, whose keys go with its own. None beyond was ever made.
    ///
    /// # Errors
    /// What keeps it from that: they are not made then.
    fn provide(&self, made: Range<KeyspaceId>, owner: Option<KeyspaceId>) -> Result<()> {
        let _ = (made, owner);
        Ok(())
    }

    /// True when nobody can open a value any more that this key has sealed.
    fn is_erased(&self, seal: SealId) -> bool {
        let _ = seal;
        false
    }

    /// True when there are keys of values that were destroyed.
    fn has_erased(&self) -> bool {
        false
    }

    /// Every keyspace that was erased has a smaller number.
    fn erased_below(&self) -> KeyspaceId {
        KeyspaceId(0)
    }

    /// The database that it has keys for, if it has any: a new one takes this identity.
    fn database(&self) -> Option<DatabaseId> {
        None
    }

    /// A tag by which [`check`](Self::check) knows that who has the database's key has made a statement, which is stored in plain text.
    /// Empty where nothing is sealed.
    ///
    /// # Errors
    /// What keeps it from its key.
    fn vouch(&self, statement: &[u8]) -> Result<Vec<u8>> {
        let _ = statement;
        Ok(Vec::new())
    }

    /// Finds that a statement is as it was when [`vouch`](Self::vouch) made its tag.
    ///
    /// # Errors
    /// `Corrupt` when it is not, `Denied` when it was made with another key, or with one and there is none.
    fn check(&self, statement: &[u8], tag: &[u8]) -> Result<()> {
        let _ = statement;
        if tag.is_empty() { Ok(()) } else { Err(needs_its_key()) }
    }
}

/// The keys of one file.
pub trait FileCipher: Send + Sync {
    /// How many bytes a seal adds.
    fn tag_bytes(&self) -> usize;

    /// Makes this shared file's section key for `keyspace`. The bytes are stored before the keyspace's first section
    /// and given to [`accept`](Self::accept) when the file is read.
    fn introduce(&self, keyspace: KeyspaceId) -> Result<Vec<u8>>;

    /// Takes the section key that [`introduce`](Self::introduce) made.
    ///
    /// # Errors
    /// `Erased` when the keyspace's key was destroyed: it alone says that the keyspace is gone for good.
    fn accept(&self, keyspace: KeyspaceId, introduction: &[u8]) -> Result<()>;

    /// Seals `data[from..]` in place and appends the tag. `position` is unique in the file for every piece;
    /// `associated` is authenticated and not stored.
    fn seal(
        &self,
        scope: Scope,
        position: u64,
        associated: &[u8],
        data: &mut Vec<u8>,
        from: usize,
    ) -> Result<()>;

    /// Opens `sealed` (content and tag) in place and returns the length of the content.
    ///
    /// # Errors
    /// `Corrupt` when it is not what was sealed at this position of this file.
    fn open(&self, scope: Scope, position: u64, associated: &[u8], sealed: &mut [u8]) -> Result<usize>;
}

fn needs_its_key() -> crate::Error {
    crate::Error::denied("the file is encrypted; open the database with its key")
}

/// The cipher that seals nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Cipher for Plain {
    fn create(&self, _: &FileContext) -> Result<(Vec<u8>, Arc<dyn FileCipher>)> {
        Ok((Vec::new(), Arc::new(Self)))
    }

    fn open(&self, _: &FileContext, header: &[u8]) -> Result<Arc<dyn FileCipher>> {
        if header.is_empty() { Ok(Arc::new(Self)) } else { Err(needs_its_key()) }
    }
}

impl FileCipher for Plain {
    fn tag_bytes(&self) -> usize {
        0
    }

    fn introduce(&self, _: KeyspaceId) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn accept(&self, _: KeyspaceId, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn seal(&self, _: Scope, _: u64, _: &[u8], _: &mut Vec<u8>, _: usize) -> Result<()> {
        Ok(())
    }

    fn open(&self, _: Scope, _: u64, _: &[u8], sealed: &mut [u8]) -> Result<usize> {
        Ok(sealed.len())
    }
}

/// A piece of a table or of a value file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RangeRequest {
    /// Which of the two the file is.
    pub kind: FileKind,
    /// The file.
    pub file: FileId,
    /// Where the piece begins.
    pub offset: u64,
    /// How many bytes it has.
    pub length: usize,
}

/// May a read wait for a slow medium?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Wait as long as it takes.
    Always,
    /// Answer at once or not at all.
    Never,
}

/// What a read that may not wait has to say.
///
/// ```
/// use pugdb_core::seam::AtHand;
///
/// let looked: AtHand<Option<&str>> = AtHand::Yes(Some("1815"));
/// assert_eq!(looked.map(|year| year.is_some()), AtHand::Yes(true));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtHand<T> {
    /// The answer was in memory.
    Yes(T),
    /// It has to come from a slow medium, which was not touched: ask on a thread that may wait.
    WouldBlock,
}

impl<T> AtHand<T> {
    /// The answer changed, if there is one.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> AtHand<U> {
        match self {
            Self::Yes(answer) => AtHand::Yes(change(answer)),
            Self::WouldBlock => AtHand::WouldBlock,
        }
    }

    /// The answer to one who would have waited.
    ///
    /// # Errors
    /// `Internal` when there is none.
    pub fn waited(self) -> Result<T> {
        match self {
            Self::Yes(answer) => Ok(answer),
            Self::WouldBlock => {
                Err(crate::Error::internal("a table store that may wait did not; please report it"))
            }
        }
    }
}

/// Where the bytes of tables and value files come from: local files, or tiers.
pub trait TableStore: Send + Sync {
    /// Reads several pieces of several files in one call, in the order of the requests. `None` when `wait` is
    /// [`Wait::Never`] and the bytes are not at hand.
    ///
    /// # Errors
    /// `Corrupt` when a file is shorter than a request says, `NotFound` when it is gone.
    fn read_ranges(&self, requests: &[RangeRequest], wait: Wait) -> Result<Option<Vec<Bytes>>>;

    /// The file is gone for good: forget what is kept of it.
    fn forget(&self, file: FileId);
}

/// Makes a value of what a key had and of operands that were written to it since. Writers then write an operand and read nothing:
/// the value is made when it is read, and kept when tables are written anew.
///
/// It must be a function of what it is given: the same every time, on every machine. Operands may come in any portions,
/// as long as they come in order: `merge(key, v, [a, b])` is `merge(key, merge(key, v, [a]), [b])`. It is called on any
/// thread, by a reader or in the background, and must not call the database. A panic is an error of the read, and so is a
/// refusal; in the background both leave everything as it was written.
///
/// Ready-made ones are in [`operators`](crate::operators).
///
/// ```
/// use pugdb_core::seam::MergeOperator;
///
/// /// Sets bits: operand and value are one byte.
/// struct Bits;
///
/// impl MergeOperator for Bits {
///     fn name(&self) -> &str {
///         "bits v1"
///     }
///
///     fn merge(&self, _: &[u8], existing: Option<&[u8]>, operands: &[&[u8]]) -> Option<Vec<u8>> {
///         let mut bits = existing.map_or(Some(0), |value| value.first().copied())?;
///         for operand in operands {
///             bits |= operand.first()?;
///         }
///         Some(vec![bits])
///     }
///
///     fn combine(&self, _: &[u8], older: &[u8], newer: &[u8]) -> Option<Vec<u8>> {
///         Some(vec![older.first()? | newer.first()?])
///     }
/// }
///
/// assert_eq!(Bits.merge(b"ada", Some(&[1]), &[&[2], &[4]]), Some(vec![7]));
/// assert_eq!(Bits.merge(b"ada", None, &[&[2]]), Some(vec![2]));
/// assert_eq!(Bits.merge(b"ada", None, &[b""]), None); // no operand of this operator: refused
/// ```
pub trait MergeOperator: Send + Sync {
    /// What it is called, 1 to 63 bytes without control characters. It is written down with the keyspace at the first merge, and
    /// another one is refused from then on: change it when the meaning of operands changes.
    fn name(&self) -> &str;

    /// The value that the key has when `operands`, the oldest first and at least one, have been added to what was there;
    /// `None` of `existing` when nothing was. `None` refuses: these operands make no sense for this value. Whoever reads the
    /// key gets an error until a put or a delete lies above them.
    fn merge(&self, key: &[u8], existing: Option<&[u8]>, operands: &[&[u8]]) -> Option<Vec<u8>>;

    /// One operand that does what these two do, one after the other, if there is one: many operands whose value lies deeper in
    /// the tree become one. `None`, as here, keeps both.
    fn combine(&self, key: &[u8], older: &[u8], newer: &[u8]) -> Option<Vec<u8>> {
        let _ = (key, older, newer);
        None
    }
}

/// An entry about which a [`CompactionFilter`] is asked.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct FilteredEntry<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
    /// The user's byte.
    pub meta: u8,
    /// When it expires, which may be past.
    pub expires_at: Option<Timestamp>,
}

impl<'a> FilteredEntry<'a> {
    /// An entry without expiry, its meta byte 0.
    pub fn new(key: &'a [u8], value: &'a [u8]) -> Self {
        Self { key, value, meta: 0, expires_at: None }
    }
}

impl fmt::Debug for FilteredEntry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FilteredEntry({} bytes of key, {} of value)", self.key.len(), self.value.len())
    }
}

/// What a [`CompactionFilter`] says of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays.
    Keep,
    /// It goes, as if it had been deleted.
    Forget,
}

/// May this entry be forgotten? Compaction asks it while it writes entries anew, so what it condemns goes without a write
/// of its own, some time after it could: when, or whether at all, depends on what is merged.
///
/// It is asked about the newest version of a key that every reader sees, if that is no delete, on a background thread
/// that holds no lock. It must not wait for the database, and has to be quick: a merge asks it about each entry. After
/// a panic it is not asked again in the same merge, and what it was not asked about is kept.
///
/// ```
/// use pugdb_core::seam::{CompactionFilter, FilteredEntry, Verdict};
///
/// /// Sessions of a version that nobody speaks any more.
/// struct OldSessions;
///
/// impl CompactionFilter for OldSessions {
///     fn judge(&self, entry: &FilteredEntry<'_>) -> Verdict {
///         if entry.value.starts_with(b"v1:") { Verdict::Forget } else { Verdict::Keep }
///     }
/// }
///
/// assert_eq!(OldSessions.judge(&FilteredEntry::new(b"ada", b"v1:x")), Verdict::Forget);
/// assert_eq!(OldSessions.judge(&FilteredEntry::new(b"bob", b"v2:x")), Verdict::Keep);
/// ```
pub trait CompactionFilter: Send + Sync {
    /// Says what becomes of an entry.
    fn judge(&self, entry: &FilteredEntry<'_>) -> Verdict;
}
