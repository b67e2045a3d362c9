//! An RDB file: one item after the other, from the first byte to the checksum.
//!
//! It stands here and not beside the command that imports it, because it is what this crate is for: bytes of Redis are
//! given their meaning, and nothing of PugDB is known. So the fuzzer reaches it, and marks, lengths and types of RDB are
//! in one place. Which keyspace a key goes to, and what is counted and told, is the import's.
//!
//! The caller brings a reader. No more is held than the longest key and value that [`FileLimits`] allow, whatever the
//! file announces.

mod stream;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::fmt;
use std::io::{self, BufRead};

use super::string::{Text, read_number, read_or_skip_string, skip_string};
use super::value::{skip_module, skip_value};
use super::{RDB_VERSION_MAX, RdbError, Source as _, TYPE_STRING};
use stream::Stream;

const AUX: u8 = 0xfa;
const SELECT_DB: u8 = 0xfe;
const RESIZE_DB: u8 = 0xfb;
const EXPIRE_SECONDS: u8 = 0xfd;
const EXPIRE_MS: u8 = 0xfc;
const IDLE: u8 = 0xf8;
const FREQUENCY: u8 = 0xf9;
const MODULE_AUX: u8 = 0xf7;
const FUNCTION_OF_CANDIDATE: u8 = 0xf6;
const FUNCTION: u8 = 0xf5;
const SLOT_INFO: u8 = 0xf4;
const END: u8 = 0xff;

/// The checksum stands behind files of this version and later.
const VERSION_WITH_CHECKSUM: u16 = 5;

/// What is wrong with a file, without a byte of its content.
///
/// ```
/// use pugdb_wire::rdb::{FileError, FileLimits, FileReader};
///
/// let limits = FileLimits { key_bytes_max: 100, value_bytes_max: 1_000 };
/// let error = FileReader::new(&b"REDIS9999"[..], limits).err().expect("that is no version");
/// assert!(matches!(error, FileError::Version(9999)));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum FileError {
    /// The reader failed.
    Io(io::Error),
    /// It does not begin as a file does.
    NoDump,
    /// A version that is not known here.
    Version(u16),
    /// What stands in it is not RDB.
    Format(RdbError),
    /// The checksum at the end is another one.
    Checksum,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "it cannot be read: {error}"),
            Self::NoDump => {
                f.write_str("this is no dump of Redis: it does not begin with REDIS and a version")
            }
            Self::Version(version) => {
                write!(f, "the dump has version {version}; versions 1 to {RDB_VERSION_MAX} are read")
            }
            Self::Format(RdbError::Truncated) => f.write_str("the dump ends in the middle"),
            Self::Format(error @ RdbError::Type(_)) => write!(f, "damaged, or newer: {error}"),
            Self::Format(error) => write!(f, "damaged: {error}"),
            Self::Checksum => f.write_str("damaged: the checksum at the end is another one"),
        }
    }
}

impl Error for FileError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Format(error) => Some(error),
            Self::NoDump | Self::Version(_) | Self::Checksum => None,
        }
    }
}

impl From<RdbError> for FileError {
    fn from(error: RdbError) -> Self {
        Self::Format(error)
    }
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Format(RdbError::Truncated),
            _ => Self::Io(error),
        }
    }
}

/// How long strings may be. Longer ones are passed over.
///
/// ```
/// use pugdb_wire::rdb::{FileItem, FileLimits, FileReader};
///
/// let limits = FileLimits { key_bytes_max: 100, value_bytes_max: 3 };
/// let mut file = FileReader::new(&b"REDIS0004\x00\x03ada\xc1\x17\x07\xff"[..], limits)?;
/// assert_eq!(file.next_item()?, Some(FileItem::ValueTooLong { bytes: 4 }));
/// # Ok::<(), pugdb_wire::rdb::FileError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct FileLimits {
    /// The longest key that is read.
    pub key_bytes_max: usize,
    /// The longest string that is read.
    pub value_bytes_max: usize,
}

/// What a file holds.
///
/// ```
/// use pugdb_wire::rdb::FileItem;
///
/// assert_ne!(FileItem::Database(0), FileItem::Other("hash"));
/// ```
#[derive(Debug, PartialEq, Eq)]
pub enum FileItem {
    /// What follows is of this database.
    Database(u64),
    /// A key of type string.
    String {
        /// The key.
        key: Vec<u8>,
        /// The string.
        value: Vec<u8>,
        /// When it expires, in milliseconds since 1970.
        expires_at_ms: Option<u64>,
    },
    /// A key of another type, which is named; or a function library, which has no key.
    Other(&'static str),
    /// A string under a key that is longer than allowed.
    KeyTooLong {
        /// Its length.
        bytes: u64,
    },
    /// A string that is longer than allowed.
    ValueTooLong {
        /// Its length.
        bytes: u64,
    },
}

/// Reads a file item by item. Behind an error it is of no more use.
///
/// ```
/// use pugdb_wire::rdb::{FileItem, FileLimits, FileReader};
///
/// let limits = FileLimits { key_bytes_max: 100, value_bytes_max: 1_000 };
/// let mut file = FileReader::new(&b"REDIS0004\xfe\x07\x00\x03ada\xc1\x17\x07\xff"[..], limits)?;
/// assert_eq!(file.next_item()?, Some(FileItem::Database(7)));
/// let ada = FileItem::String { key: b"ada".to_vec(), value: b"1815".to_vec(), expires_at_ms: None };
/// assert_eq!(file.next_item()?, Some(ada));
/// assert_eq!(file.next_item()?, None);
/// # Ok::<(), pugdb_wire::rdb::FileError>(())
/// ```
#[derive(Debug)]
pub struct FileReader<R> {
    stream: Stream<R>,
    version: u16,
    limits: FileLimits,
    is_done: bool,
}

impl<R: BufRead> FileReader<R> {
    /// Reads the beginning.
    ///
    /// # Errors
    /// [`FileError::NoDump`] and [`FileError::Version`].
    pub fn new(input: R, limits: FileLimits) -> Result<Self, FileError> {
        let mut stream = Stream::new(input);
        let head = stream.array::<9>().map_err(|error| match error {
            FileError::Format(_) => FileError::NoDump,
            error => error,
        })?;
        let digits = head.strip_prefix(b"REDIS").and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()));
        let version = digits.and_then(|digits| digits.parse().ok()).ok_or(FileError::NoDump)?;
        if !(1..=RDB_VERSION_MAX).contains(&version) {
            return Err(FileError::Version(version));
        }
        Ok(Self { stream, version, limits, is_done: false })
    }

    /// How many bytes were read.
    pub fn position(&self) -> u64 {
        self.stream.position()
    }

    /// The next item; `None` behind the last one, when the checksum is right.
    ///
    /// # Errors
    /// [`FileError`], but for those of [`FileReader::new`].
    pub fn next_item(&mut self) -> Result<Option<FileItem>, FileError> {
        if self.is_done {
            return Ok(None);
        }
        let mut expires_at_ms = None;
        loop {
            let stream = &mut self.stream;
            let [mark] = stream.array()?;
            match mark {
                AUX => {
                    skip_string(stream)?;
                    skip_string(stream)?;
                }
                SELECT_DB => return Ok(Some(FileItem::Database(read_number(stream)?))),
                RESIZE_DB => {
                    read_number(stream)?;
                    read_number(stream)?;
                }
                SLOT_INFO => {
                    for _ in 0..3 {
                        read_number(stream)?;
                    }
                }
                EXPIRE_SECONDS => {
                    let seconds = u32::from_le_bytes(stream.array()?);
                    expires_at_ms = Some(u64::from(seconds) * 1_000);
                }
                EXPIRE_MS => {
                    // Signed there: what lies before 1970 has expired as much as 1970 itself.
                    let ms = i64::from_le_bytes(stream.array()?);
                    expires_at_ms = Some(u64::try_from(ms).unwrap_or(0));
                }
                IDLE => {
                    read_number(stream)?;
                }
                FREQUENCY => stream.skip(1)?,
                MODULE_AUX => {
                    // The module's id, and when it is to be loaded, with the mark of a number before.
                    for _ in 0..3 {
                        read_number(stream)?;
                    }
                    skip_module(stream)?;
                }
                FUNCTION => {
                    skip_string(stream)?;
                    return Ok(Some(FileItem::Other("function library")));
                }
                FUNCTION_OF_CANDIDATE => return Err(RdbError::Type(mark).into()),
                END => {
                    self.end()?;
                    return Ok(None);
                }
                _ => return self.entry(mark, expires_at_ms).map(Some),
            }
        }
    }

    fn entry(&mut self, number: u8, expires_at_ms: Option<u64>) -> Result<FileItem, FileError> {
        let key = read_or_skip_string(&mut self.stream, self.limits.key_bytes_max)?;
        if number != TYPE_STRING {
            return skip_value(&mut self.stream, number).map(FileItem::Other);
        }
        let key = match key {
            Text::Bytes(key) => key,
            Text::TooLong(bytes) => {
                skip_string(&mut self.stream)?;
                return Ok(FileItem::KeyTooLong { bytes });
            }
        };
        Ok(match read_or_skip_string(&mut self.stream, self.limits.value_bytes_max)? {
            Text::Bytes(value) => FileItem::String { key, value, expires_at_ms },
            Text::TooLong(bytes) => FileItem::ValueTooLong { bytes },
        })
    }

    /// What stands behind the end is nobody's matter: a dump can be a part of a stream.
    fn end(&mut self) -> Result<(), FileError> {
        self.is_done = true;
        if self.version < VERSION_WITH_CHECKSUM {
            return Ok(());
        }
        let crc = self.stream.crc();
        let stored = u64::from_le_bytes(self.stream.array()?);
        // 0: the server was told to compute none.
        if stored == 0 || stored == crc { Ok(()) } else { Err(FileError::Checksum) }
    }
}
