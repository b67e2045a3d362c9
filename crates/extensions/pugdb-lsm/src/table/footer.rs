//! The footer: the last bytes of the file, saying where the tail lies. Nothing in it is secret.

use pugdb_core::coding::Reader;
use pugdb_core::{Error, FileId, Result};

use super::piece::TRAILER_BYTES;
use crate::checksum::Checksum;

const MAGIC: [u8; 8] = *b"PugTable";
/// Five numbers, magic, checksum.
pub(super) const FOOTER_BYTES: usize = 5 * 8 + 8 + 8;

/// Where the parts of a table lie: header, blocks, filter, index, properties and footer, side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    /// The header's length: where the first block begins.
    pub(super) header_bytes: u64,
    /// Where the blocks end and the tail begins.
    pub(super) tail_offset: u64,
    /// The filter's stored length.
    pub(super) filter_bytes: u64,
    /// The index's stored length.
    pub(super) index_bytes: u64,
    /// The properties' stored length.
    pub(super) properties_bytes: u64,
}

impl Footer {
    /// Where the footer itself begins; `None` when there is no such file.
    pub(super) fn offset(&self) -> Option<u64> {
        let tail = self.filter_bytes.checked_add(self.index_bytes)?.checked_add(self.properties_bytes)?;
        self.tail_offset.checked_add(tail)
    }

    /// Appends the footer, to be stored at `offset` of the file `id`.
    pub(super) fn encode(&self, id: FileId, offset: u64, out: &mut Vec<u8>) {
        let start = out.len();
        for number in
            [self.header_bytes, self.tail_offset, self.filter_bytes, self.index_bytes, self.properties_bytes]
        {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&MAGIC);
        let checksum = Checksum::of(id).at(offset, &out[start..]);
        out.extend_from_slice(&checksum.to_le_bytes());
    }

    /// Reads the footer stored at `offset` of the file `id`.
    pub(super) fn decode(id: FileId, offset: u64, bytes: &[u8]) -> Result<Self> {
        let damaged = || Error::corrupt("the footer is damaged; run `pugdb verify`");
        let (content, checksum) = bytes.split_last_chunk::<8>().ok_or_else(damaged)?;
        if Checksum::of(id).at(offset, content) != u64::from_le_bytes(*checksum) {
            return Err(damaged());
        }
        let mut reader = Reader::new(content);
        let footer = Self {
            header_bytes: reader.u64()?,
            tail_offset: reader.u64()?,
            filter_bytes: reader.u64()?,
            index_bytes: reader.u64()?,
            properties_bytes: reader.u64()?,
        };
        let parts = [footer.filter_bytes, footer.index_bytes, footer.properties_bytes];
        let sound = reader.rest() == MAGIC
            && footer.offset() == Some(offset)
            && footer.header_bytes < footer.tail_offset
            && parts.iter().all(|&part| part >= TRAILER_BYTES as u64);
        if sound { Ok(footer) } else { Err(damaged()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: FileId = FileId([9; 16]);

    fn decode(footer: &Footer, offset: u64) -> Result<Footer> {
        let mut out = Vec::new();
        footer.encode(ID, offset, &mut out);
        assert_eq!(out.len(), FOOTER_BYTES);
        Footer::decode(ID, offset, &out)
    }

    #[test]
    fn the_parts_lie_side_by_side_up_to_the_footer() {
        let sound = Footer {
            header_bytes: 80,
            tail_offset: 200,
            filter_bytes: 8,
            index_bytes: 20,
            properties_bytes: 30,
        };
        assert_eq!(decode(&sound, 258).unwrap(), sound);
        let wrong = [
            (257, sound.clone()),
            (259, sound.clone()),
            (258, Footer { tail_offset: 199, ..sound.clone() }),
            (258, Footer { header_bytes: 200, ..sound.clone() }),
            (258, Footer { filter_bytes: 7, index_bytes: 21, ..sound.clone() }),
            (257, Footer { filter_bytes: u64::MAX, index_bytes: 28, ..sound }),
        ];
        for (offset, footer) in wrong {
            assert!(decode(&footer, offset).is_err(), "{footer:?}");
        }
    }
}
