//! What every file of a database begins with: magic, version, kind, identity, the cipher's part, a checksum.
//!
//! Drawn in `docs/format/file-header.md`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pugdb_core::coding::{Reader, index};
use pugdb_core::env::{Env, File};
use pugdb_core::observer::Observers;
use pugdb_core::seam::{Cipher, FileCipher, FileContext, FileKind, Scope, SealedWith, TableStore};
use pugdb_core::{DatabaseId, Error, ErrorKind, FileId, KeyspaceId, Result};

use crate::checksum::Checksum;

const MAGIC: [u8; 8] = *b"PugDB\x1a\r\n";
/// Not frozen yet: any other number is refused.
pub const FORMAT_VERSION: u16 = 0;
/// Magic, version, kind, reserved byte, header length.
const PREFIX_BYTES: usize = 8 + 2 + 1 + 1 + 4;
/// Where the file's id stands.
pub const ID_OFFSET: u64 = PREFIX_BYTES as u64 + 16;
/// Where the kind's own part begins: behind the id, the keyspace and the part's length.
pub const EXTRA_OFFSET: u64 = ID_OFFSET + 16 + 4 + 4;
/// What the header's seal counts as: no piece lies here.
const SEAL_POSITION: u64 = 0;
/// A header is a few hundred bytes; a larger length is damage.
const HEADER_BYTES_MAX: usize = 64 << 10;

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
    let with = with.and_then(|with| header.open(cipher, &bytes, seal).map(|_| with));
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
        out.push(0);
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

    /// Reads the header's bytes (all of them), and where its seal begins.
    fn decode(bytes: &[u8]) -> Result<(Self, usize)> {
        let damaged = || Error::corrupt("the file header is damaged");
        let (content, checksum) = bytes.split_last_chunk::<8>().ok_or_else(damaged)?;
        let mut reader = Reader::new(content);
        reader.take(10)?;
        let kind = FileKind::from_number(reader.u8()?).ok_or_else(damaged)?;
        reader.take(5)?;
        let database = DatabaseId(reader.array()?);
        let file = FileId(reader.array()?);
        if Checksum::of(file).at(0, content) != u64::from_le_bytes(*checksum) {
            return Err(damaged());
        }
        let keyspace = Some(KeyspaceId(reader.u32()?)).filter(|keyspace| keyspace.0 != 0);
        let mut part = || -> Result<Vec<u8>> {
            let length = reader.u32()?;
            Ok(reader.take(index(u64::from(length)))?.to_vec())
        };
        let (extra, cipher) = (part()?, part()?);
        let seal = content.len() - reader.rest().len();
        Ok((Self { context: FileContext { database, file, kind, keyspace }, extra, cipher }, seal))
    }

    /// Reads the header of a file of this kind and this database, and opens its keys.
    ///
    /// # Errors
    /// `Corrupt` when it is damaged or no such file, `Invalid` when it has another version, what the cipher says when
    /// the key is wrong.
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
        read: &dyn Fn(&mut [u8], u64) -> io::Result<()>,
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

    fn read_raw(read: &dyn Fn(&mut [u8], u64) -> io::Result<()>) -> Result<(Self, Vec<u8>, usize)> {
        let mut prefix = [0; PREFIX_BYTES];
        let short = |error: io::Error| Error::io("read the file header", error);
        read(&mut prefix, 0).map_err(short)?;
        if prefix[..8] != MAGIC {
            return Err(Error::corrupt("the file does not begin as a PugDB file does"));
        }
        let version = u16::from_le_bytes([prefix[8], prefix[9]]);
        if version != FORMAT_VERSION {
            return Err(Error::invalid(format!(
                "the file has format version {version}; this build reads version {FORMAT_VERSION}"
            )));
        }
        let length = index(u64::from(u32::from_le_bytes([prefix[12], prefix[13], prefix[14], prefix[15]])));
        if !(PREFIX_BYTES + 8..=HEADER_BYTES_MAX).contains(&length) {
            return Err(Error::corrupt("the file header is damaged"));
        }
        let mut bytes = vec![0; length];
        read(&mut bytes, 0).map_err(short)?;
        let (header, seal) = Self::decode(&bytes)?;
        Ok((header, bytes, seal))
    }
}

/// A file's path as messages show it: the name without the directory, which the user knows.
pub fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use pugdb_core::seam::Plain;

    use super::*;

    #[test]
    fn every_flipped_bit_of_a_header_is_noticed() {
        let header = FileHeader {
            context: FileContext {
                database: DatabaseId([1; 16]),
                file: FileId([2; 16]),
                kind: FileKind::Log,
                keyspace: None,
            },
            extra: vec![3; 20],
            cipher: vec![4; 33],
        };
        let bytes = header.encode(&Plain).unwrap();
        assert_eq!(bytes.len() as u64, header.length(&Plain));
        assert_eq!(FileHeader::decode(&bytes).unwrap().0, header);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(FileHeader::decode(&damaged).is_err(), "bit {bit}");
        }
    }
}
