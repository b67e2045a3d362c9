//! The index: for each data block its last entry, its length and its count. The offsets follow from the lengths,
//! because blocks lie side by side.

use std::cmp::Ordering;

use bytes::Bytes;
use pugdb_core::coding::{Reader, put_bytes, put_varint};
use pugdb_core::{Error, Result, Seqno, limits};

use super::entry_order;
use super::heads::Heads;

/// Key length, seqno, block length, count: one byte each at least.
const HANDLE_BYTES_MIN: usize = 4;

/// Collects the index while blocks are written.
#[derive(Debug, Default)]
pub(super) struct IndexBuilder {
    handles: Vec<u8>,
    count: u64,
}

impl IndexBuilder {
    /// Adds the next block: its last entry, its stored length, its number of entries.
    pub(super) fn add(&mut self, last: &[u8], last_seqno: Seqno, length: usize, entries: usize) {
        put_bytes(&mut self.handles, last);
        put_varint(&mut self.handles, last_seqno.0);
        put_varint(&mut self.handles, length as u64);
        put_varint(&mut self.handles, entries as u64);
        self.count += 1;
    }

    /// Appends the index to `out`.
    pub(super) fn finish(&self, out: &mut Vec<u8>) {
        put_varint(out, self.count);
        out.extend_from_slice(&self.handles);
    }
}

/// Where a data block lies and what it ends with.
pub(super) struct BlockHandle {
    /// Its last key.
    pub(super) last: Bytes,
    /// The seqno of its last entry.
    pub(super) last_seqno: Seqno,
    /// Where it begins.
    pub(super) offset: u64,
    /// Its stored length, trailer included.
    pub(super) length: usize,
    /// How many entries it holds.
    pub(super) entries: u64,
}

/// The index in memory: at least one block, in order, side by side.
pub(super) struct Index {
    blocks: Vec<BlockHandle>,
    /// Of their last keys.
    heads: Heads,
    bytes: usize,
}

impl Index {
    /// Reads the index of the blocks that fill the file from `start` to `end`.
    pub(super) fn decode(content: &Bytes, start: u64, end: u64) -> Result<Self> {
        let blocks = parse(content, start, end);
        let blocks = blocks.ok_or_else(|| Error::corrupt("the index is damaged; run `pugdb verify`"))?;
        let heads = match blocks.as_slice() {
            [first, .., last] => Heads::new(&first.last, &last.last, blocks.iter().map(|block| &*block.last)),
            rest => Heads::new(&[], &[], rest.iter().map(|block| &*block.last)),
        };
        let bytes = content.len() + blocks.len() * size_of::<BlockHandle>() + heads.bytes();
        Ok(Self { blocks, heads, bytes })
    }

    /// The blocks, in order.
    pub(super) fn blocks(&self) -> &[BlockHandle] {
        &self.blocks
    }

    /// The number of blocks whose last entry (and so every entry) is `before`. That holds for all entries of smaller keys
    /// than `near`, and for none of larger ones.
    pub(super) fn partition(&self, near: &[u8], before: impl Fn(&[u8], Seqno) -> bool) -> usize {
        let near = self.heads.near(near);
        near.start + self.blocks[near].partition_point(|block| before(&block.last, block.last_seqno))
    }

    /// How many entries all blocks hold; `None` when the sum is no number of entries.
    pub(super) fn entries(&self) -> Option<u64> {
        self.blocks.iter().try_fold(0_u64, |sum, block| sum.checked_add(block.entries))
    }

    /// What it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

fn parse(content: &Bytes, start: u64, end: u64) -> Option<Vec<BlockHandle>> {
    let mut reader = Reader::new(content);
    let count = reader.length().ok()?;
    if count == 0 || count > reader.rest().len() / HANDLE_BYTES_MIN {
        return None;
    }
    let mut blocks: Vec<BlockHandle> = Vec::with_capacity(count);
    let mut offset = start;
    for _ in 0..count {
        let last = content.slice_ref(reader.bytes().ok()?);
        let last_seqno = Seqno(reader.varint().ok()?);
        let length = reader.length().ok()?;
        let entries = reader.varint().ok()?;
        let in_order = blocks.last().is_none_or(|before| {
            entry_order((&before.last, before.last_seqno), (&last, last_seqno)) == Ordering::Less
        });
        let next = offset.checked_add(length as u64)?;
        if !in_order || last.len() > limits::KEY_BYTES_MAX || entries == 0 {
            return None;
        }
        blocks.push(BlockHandle { last, last_seqno, offset, length, entries });
        offset = next;
    }
    (offset == end && reader.is_empty()).then_some(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(blocks: &[(&[u8], u64, usize, usize)]) -> Vec<u8> {
        let mut builder = IndexBuilder::default();
        for &(last, seqno, length, entries) in blocks {
            builder.add(last, Seqno(seqno), length, entries);
        }
        let mut out = Vec::new();
        builder.finish(&mut out);
        out
    }

    #[test]
    fn blocks_lie_side_by_side() {
        let content = content(&[(b"a", 5, 100, 2), (b"a", 4, 50, 1), (b"b", 9, 70, 3)]);
        let index = Index::decode(&content.into(), 30, 250).unwrap();
        assert_eq!(index.blocks().iter().map(|block| block.offset).collect::<Vec<_>>(), [30, 130, 180]);
        assert_eq!(index.entries(), Some(6));
        assert_eq!(index.partition(b"a", |key, seqno| key < b"b".as_slice() && seqno > Seqno(4)), 1);
    }

    #[test]
    fn an_index_that_does_not_fill_the_file_in_order_is_corrupt() {
        let sound = content(&[(b"a", 5, 100, 2), (b"b", 9, 70, 3)]);
        let decodes = |content: &[u8], end| Index::decode(&Bytes::copy_from_slice(content), 30, end).is_ok();
        assert!(decodes(&sound, 200));
        assert!(!decodes(&sound, 199) && !decodes(&sound, 201) && !decodes(&sound, 130));
        assert!(!decodes(&[&sound[..], &[0]].concat(), 200), "bytes behind the last block");
        for end in 0..sound.len() {
            assert!(!decodes(&sound[..end], 200));
        }
        assert!(!decodes(&content(&[]), 30));
        assert!(!decodes(&content(&[(b"b", 9, 100, 2), (b"a", 5, 70, 3)]), 200), "keys descend");
        assert!(!decodes(&content(&[(b"a", 5, 100, 2), (b"a", 5, 70, 3)]), 200), "seqnos do not descend");
        assert!(!decodes(&content(&[(b"a", 5, 170, 0)]), 200), "a block without entries");
        assert!(
            !decodes(&content(&[(b"a", 5, usize::MAX, 1), (b"b", 9, 171, 3)]), 200),
            "lengths wrap around"
        );
    }
}
