//! The envelope of a file: what no version ever changes of its header, so that every version tells a newer file from a damaged one.
//!
//! Where magic, version, kind, length and file id stand, and that the header ends with its checksum. Drawn in
//! `docs/format/compatibility.md`.

use std::io;

use pugdb_core::coding::index;
use pugdb_core::{Error, FileId, Result};

use crate::checksum::Checksum;

/// What every file begins with.
pub(crate) const MAGIC: [u8; 8] = *b"PugDB\x1a\r\n";
/// Magic, version, kind, features, length.
pub(crate) const PREFIX_BYTES: usize = 8 + 2 + 1 + 1 + 4;
/// Where the file's id stands, which the checksum is bound to.
pub(crate) const ID_OFFSET: usize = PREFIX_BYTES + 16;
const ID_END: usize = ID_OFFSET + 16;
const CHECKSUM_BYTES: usize = 8;
/// A header is a few hundred bytes; a larger length is damage, in every version.
const HEADER_BYTES_MAX: usize = 64 << 10;

/// Fills a buffer with what a file has from an offset on.
pub(crate) type ReadAt<'a> = dyn Fn(&mut [u8], u64) -> io::Result<()> + 'a;

/// What a file begins with.
pub(crate) enum Envelope {
    /// A header that proves itself, of whatever version.
    Whole {
        /// The version, of this kind of file.
        version: u16,
        /// The whole header, checksum included.
        header: Vec<u8>,
    },
    /// No header, or one that is torn or damaged.
    Damaged(&'static str),
}

impl Envelope {
    /// Reads the beginning of a file. The version is nothing to go by before the checksum is right.
    ///
    /// # Errors
    /// What the disk says. A file that ends too early is no error: it is damaged.
    pub(crate) fn read(read: &ReadAt<'_>) -> Result<Self> {
        let fill = |buffer: &mut [u8]| match read(buffer, 0) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(Error::io("read the file header", error)),
        };
        let mut prefix = [0; PREFIX_BYTES];
        if !fill(&mut prefix)? {
            return Ok(Self::Damaged("the file ends within its header"));
        }
        let [.., a, b, c, d] = prefix;
        let length = index(u64::from(u32::from_le_bytes([a, b, c, d])));
        if prefix[..MAGIC.len()] != MAGIC {
            return Ok(Self::Damaged("the file does not begin as a PugDB file does"));
        }
        if !(ID_END + CHECKSUM_BYTES..=HEADER_BYTES_MAX).contains(&length) {
            return Ok(Self::Damaged("the file header is damaged"));
        }
        let mut header = vec![0; length];
        if !fill(&mut header)? {
            return Ok(Self::Damaged("the file ends within its header"));
        }
        Ok(Self::of(header))
    }

    /// Takes over a header, from the magic to the checksum.
    pub(crate) fn of(header: Vec<u8>) -> Self {
        let id = header.get(ID_OFFSET..).and_then(|rest| rest.first_chunk());
        let (Some(id), Some((content, checksum))) = (id, header.split_last_chunk::<CHECKSUM_BYTES>()) else {
            return Self::Damaged("the file header is damaged");
        };
        if Checksum::of(FileId(*id)).at(0, content) != u64::from_le_bytes(*checksum) {
            return Self::Damaged("the file header is damaged");
        }
        Self::Whole { version: u16::from_le_bytes([header[8], header[9]]), header }
    }
}
