//! What a table holds in place of a value that lies in a value file.

use pugdb_core::coding::{Reader, index, put_varint};
use pugdb_core::{Error, Result, limits};

/// A record is at most so much longer than its value: length, hash of the key, codec, tag of a seal, checksum.
pub(super) const RECORD_OVERHEAD_MAX: usize = 4 + 8 + 1 + 64 + 8;

/// Where a value lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// The number of its file in the table's list of value files.
    pub file: u32,
    /// Where its record begins.
    pub offset: u64,
    /// The length of the record.
    pub bytes: usize,
    /// The length of the value.
    pub length: usize,
}

impl Pointer {
    /// Appends it to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for number in [u64::from(self.file), self.offset, self.bytes as u64, self.length as u64] {
            put_varint(out, number);
        }
    }

    /// Reads what [`encode`](Self::encode) wrote, and nothing behind it.
    ///
    /// # Errors
    /// `Corrupt` when it is no pointer, or one to something that no value can take.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let (file, offset) = (reader.varint_u32()?, reader.varint()?);
        let (bytes, length) = (index(reader.varint()?), index(reader.varint()?));
        if !reader.is_empty() || length > limits::VALUE_BYTES_MAX || bytes > length + RECORD_OVERHEAD_MAX {
            return Err(Error::corrupt("it points to no value"));
        }
        Ok(Self { file, offset, bytes, length })
    }
}
