//! What every file of a database begins with: magic, version, kind, identity, the cipher's part, a checksum.
//!
//! Drawn in `docs/format/file-header.md`.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pugdb_core::coding::{Reader, index};
use pugdb_core::env::{Env, File};
use pugdb_core::observer::Observers;
use pugdb_core::seam::{
    Cipher, FileCipher, FileContext, FileKind, Plain, Scope, SealedWith, Sealing, TableStore,
};
use pugdb_core::{DatabaseId, Error, ErrorKind, FileId, KeyspaceId, Result};

use crate::checksum::Checksum;
use crate::envelope::{self, Envelope, MAGIC, ReadAt};
use crate::log::SEGMENT_EXTRA_BYTES;

/// Of every kind of file so far; one kind can go on alone. Files of it are read by every later version: `docs/format/compatibility.md`.
pub const FORMAT_VERSION: u16 = 1;
/// Where the file's id stands.
pub const ID_OFFSET: u64 = envelope::ID_OFFSET as u64;
/// Where the kind's own part begins: behind the id, the keyspace and the part's length.
pub const EXTRA_OFFSET: u64 = ID_OFFSET + 16 + 4 + 4;
/// What the header's seal counts as: no piece lies here.
const SEAL_POSITION: u64 = 0;
/// No bit of the header's features has a meaning yet. One that a reader does not know keeps it from reading the file.
const FEATURES: u8 = 0;

/// What all parts of one database share: the outside world, the seams, where its files lie.
#[derive(Clone)]
pub struct Context {
    /// The outside world.
    pub env: Env,
    /// The database's directory.
    pub dir: PathBuf,
    /// The database's identity.
    pub database: DatabaseId,
    /// What seals every byte.
    pub cipher: Arc<dyn Cipher>,
    /// Where table bytes come from.
    pub tables: Arc<dyn TableStore>,
    /// Who is told what happens.
    pub observers: Observers,
}

impl Context {
    /// Where the log segments lie.
    pub fn log_dir(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// How a new file is sealed of which this is asked: in a database that is not encrypted nothing is.
    pub fn sealing(&self, asked: Sealing) -> Sealing {
        match self.cipher.sealing() {
            Sealing::Sealed => asked,
            Sealing::Plain => Sealing::Plain,
        }
    }

    /// What seals and opens a table or a value file of which the manifest says this. A file that is otherwise is refused.
    pub fn cipher_of(&self, sealing: Sealing) -> &dyn Cipher {
        match sealing {
            Sealing::Sealed => &*self.cipher,
            Sealing::Plain => &Plain,
        }
    }

    /// Where the tables lie.
    pub fn table_dir(&self) -> PathBuf {
        self.dir.join("tables")
    }
}

/// The beginning of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// Which file of which database this is.
    pub context: FileContext,
    /// What the kind of file keeps here (a segment's number and first position, say).
    pub extra: Vec<u8>,
    /// What the cipher keeps here.
    pub cipher: Vec<u8>,
}

/// A header read from disk.
pub struct OpenedHeader {
    /// The header.
    pub header: FileHeader,
    /// Its length in bytes: where the content begins.
    pub bytes: u64,
    /// The file's keys.
    pub cipher: Arc<dyn FileCipher>,
}

/// How a file is sealed: read in its header, whose seal was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileSeal {
    /// It is plain text.
    Plain,
    /// It is sealed so.
    Sealed(SealedWith),
    /// It is sealed, and its key was destroyed.
    Erased,
}

/// What a file of any kind is, and how it is sealed.
///
/// # Errors
/// As [`FileHeader::read`], but for `Erased`.
pub fn seal_of(file: &dyn File, cipher: &dyn Cipher) -> Result<(FileContext, FileSeal)> {
    let (header, bytes, seal) = FileHeader::read_raw(&|buffer, offset| file.read_exact_at(buffer, offset))?;
    let context = header.context;
    let with = cipher.sealed_with(&context, &header.cipher);
    let with = with.and_then(|with| {
        let cipher = if with.is_none() { &Plain } else { cipher };
        header.open(cipher, &bytes, seal).map(|_| with)
    });
    match with {
        Ok(None) => Ok((context, FileSeal::Plain)),
        Ok(Some(with)) => Ok((context, FileSeal::Sealed(with))),
        Err(error) if error.kind() == ErrorKind::Erased => Ok((context, FileSeal::Erased)),
        Err(error) => Err(error),
    }
}

impl FileHeader {
    /// The header's bytes, sealed with the file's keys.
    ///
    /// # Errors
    /// What the cipher says.
    pub fn encode(&self, keys: &dyn FileCipher) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.push(self.context.kind as u8);
        out.push(FEATURES);
        let length = u32::try_from(self.length(keys)).expect("a header is under 64 KiB: it is made here");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&self.context.database.0);
        out.extend_from_slice(&self.context.file.0);
        out.extend_from_slice(&self.context.keyspace.map_or(0, |keyspace| keyspace.0).to_le_bytes());
        for part in [&self.extra, &self.cipher] {
            let length = u32::try_from(part.len()).expect("a header part is under 64 KiB: it is made here");
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(part);
        }
        // Nothing is sealed, and everything before bound to it.
        let mut seal = Vec::new();
        keys.seal(self.scope(), SEAL_POSITION, &out, &mut seal, 0)?;
        out.extend_from_slice(&seal);
        let checksum = Checksum::of(self.context.file).at(0, &out);
        out.extend_from_slice(&checksum.to_le_bytes());
        Ok(out)
    }

    /// How many bytes it has.
    pub fn length(&self, keys: &dyn FileCipher) -> u64 {
        let parts = 4 + self.extra.len() + 4 + self.cipher.len() + keys.tag_bytes() + 8;
        EXTRA_OFFSET - 4 + parts as u64
    }

    fn scope(&self) -> Scope {
        self.context.keyspace.map_or(Scope::Database, Scope::Keyspace)
    }

    /// Reads the header's bytes (all of them, and their checksum is right), and where its seal begins.
    fn decode(bytes: &[u8]) -> Result<(Self, usize)> {
        let damaged = || Error::corrupt("the file header is damaged");
        let (content, _) = bytes.split_last_chunk::<8>().ok_or_else(damaged)?;
        let mut reader = Reader::new(content);
        reader.take(10)?;
        let (kind, features) = (reader.u8()?, reader.u8()?);
        let kind = FileKind::from_number(kind)
            .ok_or_else(|| Error::newer(format_args!("a file of the kind {kind}")))?;
        if features != FEATURES {
            return Err(Error::newer(format_args!("a file with the features {features:#010b}")));
        }
        reader.take(4)?;
        let database = DatabaseId(reader.array()?);
        let file = FileId(reader.array()?);
        let keyspace = Some(KeyspaceId(reader.u32()?)).filter(|keyspace| keyspace.0 != 0);
        let mut part = || -> Result<Vec<u8>> {
            let length = reader.u32()?;
            Ok(reader.take(index(u64::from(length)))?.to_vec())
        };
        let (extra, cipher) = (part()?, part()?);
        if extra_bytes(kind).is_some_and(|bytes| bytes != extra.len()) {
            return Err(Error::newer(format_args!("a file that keeps {} bytes in its header", extra.len())));
        }
        let seal = content.len() - reader.rest().len();
        Ok((Self { context: FileContext { database, file, kind, keyspace }, extra, cipher }, seal))
    }

    /// Reads the header of a file of this kind and this database, and opens its keys.
    ///
    /// # Errors
    /// `Corrupt` when it is damaged or no such file, `Unsupported` when it has a newer version or what came later,
    /// `Invalid` when it has an older version, what the cipher says when the key is wrong.
    pub fn read(
        file: &dyn File,
        kind: FileKind,
        database: Option<DatabaseId>,
        cipher: &dyn Cipher,
    ) -> Result<OpenedHeader> {
        Self::read_with(&|buffer, offset| file.read_exact_at(buffer, offset), kind, database, cipher)
    }

    /// [`read`](Self::read) for bytes that come from elsewhere: `read` fills a buffer from an offset of the file.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_with(
        read: &ReadAt<'_>,
        kind: FileKind,
        database: Option<DatabaseId>,
        cipher: &dyn Cipher,
    ) -> Result<OpenedHeader> {
        let (header, bytes, seal) = Self::read_raw(read)?;
        if header.context.kind != kind {
            return Err(Error::corrupt("the file is of another kind than its name says"));
        }
        if database.is_some_and(|database| database != header.context.database) {
            return Err(Error::corrupt("the file belongs to another database"));
        }
        header.open(cipher, &bytes, seal)
    }

    /// Reads the header of a file of any kind and any database, and opens its keys.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_any(file: &dyn File, cipher: &dyn Cipher) -> Result<OpenedHeader> {
        let (header, bytes, seal) = Self::read_raw(&|buffer, offset| file.read_exact_at(buffer, offset))?;
        header.open(cipher, &bytes, seal)
    }

    /// Has the cipher say whether `bytes`, whose seal begins at `seal`, are what it sealed.
    fn open(self, cipher: &dyn Cipher, bytes: &[u8], seal: usize) -> Result<OpenedHeader> {
        let keys = cipher.open(&self.context, &self.cipher)?;
        let mut sealed = bytes[seal..bytes.len() - 8].to_vec();
        if sealed.len() != keys.tag_bytes()
            || keys.open(self.scope(), SEAL_POSITION, &bytes[..seal], &mut sealed)? != 0
        {
            return Err(Error::corrupt("the file header is damaged"));
        }
        Ok(OpenedHeader { bytes: bytes.len() as u64, header: self, cipher: keys })
    }

    /// False when the file does not begin with a header that proves itself, of whatever version: only then can a crash have
    /// left it so.
    ///
    /// # Errors
    /// What the disk says.
    pub fn is_whole(file: &dyn File) -> Result<bool> {
        let envelope = Envelope::read(&|buffer, offset| file.read_exact_at(buffer, offset))?;
        Ok(matches!(envelope, Envelope::Whole { .. }))
    }

    /// Why a file is not read that begins with a header that proves itself, if it is for what came later.
    pub(crate) fn refusal(read: &ReadAt<'_>) -> Option<Error> {
        Self::read_raw(read).err().filter(|error| error.kind() != ErrorKind::Corrupt)
    }

    fn read_raw(read: &ReadAt<'_>) -> Result<(Self, Vec<u8>, usize)> {
        match Envelope::read(read)? {
            Envelope::Damaged(what) => Err(Error::corrupt(what)),
            Envelope::Whole { version, header } => {
                check_version(version)?;
                let (decoded, seal) = Self::decode(&header)?;
                Ok((decoded, header, seal))
            }
        }
    }
}

/// Refuses every version but this one.
///
/// # Errors
/// `Unsupported` for a newer one, `Invalid` for an older one.
fn check_version(version: u16) -> Result<()> {
    match version.cmp(&FORMAT_VERSION) {
        Ordering::Equal => Ok(()),
        Ordering::Greater => Err(Error::newer(format_args!("format version {version} of the file"))),
        Ordering::Less => Err(Error::invalid(format!(
            "the file has format version {version}, and this build reads {FORMAT_VERSION}; export with the PugDB that wrote it"
        ))),
    }
}

/// How many bytes a kind of file keeps in its header, where it is not the kind's own reader that looks.
fn extra_bytes(kind: FileKind) -> Option<usize> {
    match kind {
        FileKind::Log => Some(SEGMENT_EXTRA_BYTES),
        FileKind::Manifest => Some(size_of::<u64>()),
        FileKind::Table | FileKind::Values => Some(0),
        FileKind::Audit => None,
    }
}

/// A file's path as messages show it: the name without the directory, which the user knows.
pub fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn header(kind: FileKind, extra: usize) -> FileHeader {
        let keyspace = matches!(kind, FileKind::Table | FileKind::Values).then_some(KeyspaceId(5));
        let context = FileContext { database: DatabaseId([1; 16]), file: FileId([2; 16]), kind, keyspace };
        FileHeader { context, extra: vec![3; extra], cipher: vec![4; 33] }
    }

    fn log() -> Vec<u8> {
        header(FileKind::Log, SEGMENT_EXTRA_BYTES).encode(&Plain).unwrap()
    }

    fn read(bytes: &[u8]) -> Result<(FileHeader, Vec<u8>, usize)> {
        FileHeader::read_raw(&|buffer, offset| {
            let from = index(offset);
            let there = bytes.get(from..from + buffer.len());
            buffer.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn refused(bytes: &[u8]) -> Error {
        read(bytes).map(|(header, ..)| header).expect_err("it is another header")
    }

    /// As somebody would have written it who means it: the checksum is right.
    fn resealed(mut bytes: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
        bytes[at] = byte;
        let end = bytes.len() - 8;
        let checksum = Checksum::of(FileId([2; 16])).at(0, &bytes[..end]);
        bytes[end..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    #[test]
    fn every_flipped_bit_of_a_header_and_every_cut_is_damage_and_no_other_version() {
        let bytes = log();
        assert_eq!(bytes.len() as u64, header(FileKind::Log, SEGMENT_EXTRA_BYTES).length(&Plain));
        assert_eq!(read(&bytes).unwrap().0, header(FileKind::Log, SEGMENT_EXTRA_BYTES));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(refused(&damaged).kind(), ErrorKind::Corrupt, "bit {bit}");
        }
        for end in 0..bytes.len() {
            assert_eq!(refused(&bytes[..end]).kind(), ErrorKind::Corrupt, "cut at {end}");
            // A sector that is torn has zeros behind what was written of it.
            let torn = [&bytes[..end], &vec![0; 4096 - end]].concat();
            let is_torn = torn[..bytes.len()] != bytes;
            assert!(!is_torn || refused(&torn).kind() == ErrorKind::Corrupt, "torn at {end}");
        }
    }

    #[test]
    fn a_header_that_proves_itself_and_says_what_is_not_known_is_of_a_newer_version() {
        let newer = FORMAT_VERSION.to_le_bytes()[0] + 1;
        for (at, byte) in [(8, newer), (9, 1), (10, 6), (10, 0), (11, 1), (11, 128)] {
            let error = refused(&resealed(log(), at, byte));
            assert_eq!(error.kind(), ErrorKind::Unsupported, "byte {at}: {error}");
        }
        // Before anything else is looked at: a newer one may have all of it elsewhere.
        let later = resealed(resealed(resealed(log(), 8, newer), 10, 99), 52, 255);
        assert!(refused(&later).to_string().contains("format version"));
        for (kind, extra) in
            [(FileKind::Table, 1), (FileKind::Values, 8), (FileKind::Manifest, 9), (FileKind::Log, 61)]
        {
            let error = refused(&header(kind, extra).encode(&Plain).unwrap());
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{kind:?}: {error}");
        }
    }

    #[test]
    fn a_header_of_an_older_version_is_told_from_a_newer_one() {
        let older = FORMAT_VERSION.checked_sub(1).map(|older| resealed(log(), 8, older.to_le_bytes()[0]));
        if let Some(older) = older {
            assert_eq!(refused(&older).kind(), ErrorKind::Invalid);
        }
        assert!(check_version(FORMAT_VERSION).is_ok());
    }
}
