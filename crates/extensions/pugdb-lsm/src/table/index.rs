//! The index: for each data block its last entry, its length and its count. The offsets follow from the lengths,
//! because blocks lie side by side.

use std::cmp::Ordering;
use std::ops::Range;

use pugdb_core::coding::{Reader, index, put_bytes, put_varint};
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

/// The index in memory: at least one block, in order, side by side.
pub(super) struct Index {
    /// As it stands in the file.
    content: Box<[u8]>,
    places: Box<[Place]>,
    /// Where the last block ends.
    end: u64,
    /// Of the last keys of the blocks.
    heads: Heads,
}

/// Of one block.
struct Place {
    /// Where it begins in the file.
    offset: u64,
    /// Where its handle begins in the index.
    handle: usize,
}

/// What the index says of a block.
pub(super) struct BlockHandle<'a> {
    /// Its last key.
    pub(super) last: &'a [u8],
    /// The seqno of its last entry.
    pub(super) last_seqno: Seqno,
    /// Its stored length, trailer included.
    length: usize,
    /// How many entries it holds.
    pub(super) entries: u64,
}

impl Index {
    /// Reads the index of the blocks that fill the file from `start` to `end`.
    pub(super) fn decode(content: &[u8], start: u64, end: u64) -> Result<Self> {
        let places = parse(content, start, end);
        let places = places.ok_or_else(|| Error::corrupt("the index is damaged; run `pugdb verify`"))?;
        let last = |place: &Place| handle_at(content, place.handle).last;
        let first = places.first().map_or(&[][..], last);
        let heads = Heads::new(first, places.last().map_or(first, last), places.iter().map(last));
        Ok(Self { content: content.into(), places, end, heads })
    }

    /// How many blocks there are.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// What it says of block `number`.
    pub(super) fn handle(&self, number: usize) -> BlockHandle<'_> {
        handle_at(&self.content, self.places[number].handle)
    }

    /// The last key of block `number`.
    pub(super) fn last(&self, number: usize) -> &[u8] {
        self.handle(number).last
    }

    /// Where block `number` begins, or behind the last one where that ends.
    pub(super) fn offset(&self, number: usize) -> u64 {
        self.places.get(number).map_or(self.end, |place| place.offset)
    }

    /// The stored length of the blocks of `run`, which lie side by side, trailers included.
    pub(super) fn length(&self, run: Range<usize>) -> usize {
        index(self.offset(run.end).saturating_sub(self.offset(run.start)))
    }

    /// The number of blocks whose last entry (and so every entry) is `before`. That holds for all entries of smaller keys
    /// than `near`, and for none of larger ones.
    pub(super) fn partition(&self, near: &[u8], before: impl Fn(&[u8], Seqno) -> bool) -> usize {
        let near = self.heads.near(near);
        let is_before = |place: &Place| {
            let handle = handle_at(&self.content, place.handle);
            before(handle.last, handle.last_seqno)
        };
        near.start + self.places[near].partition_point(is_before)
    }

    /// How many entries all blocks hold; `None` when the sum is no number of entries.
    pub(super) fn entries(&self) -> Option<u64> {
        (0..self.len()).try_fold(0_u64, |sum, number| sum.checked_add(self.handle(number).entries))
    }

    /// What it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.content.len() + size_of_val(&*self.places) + self.heads.bytes()
    }
}

#[inline]
fn handle_at(content: &[u8], at: usize) -> BlockHandle<'_> {
    let mut reader = Reader::new(content.get(at..).unwrap_or_default());
    read_handle(&mut reader).expect("every handle was read when the index was decoded")
}

#[inline]
fn read_handle<'a>(reader: &mut Reader<'a>) -> Option<BlockHandle<'a>> {
    Some(BlockHandle {
        last: reader.bytes().ok()?,
        last_seqno: Seqno(reader.varint().ok()?),
        length: reader.length().ok()?,
        entries: reader.varint().ok()?,
    })
}

fn parse(content: &[u8], start: u64, end: u64) -> Option<Box<[Place]>> {
    let mut reader = Reader::new(content);
    let count = reader.length().ok()?;
    if count == 0 || count > reader.rest().len() / HANDLE_BYTES_MIN {
        return None;
    }
    let mut places: Vec<Place> = Vec::with_capacity(count);
    let (mut offset, mut before) = (start, None);
    for _ in 0..count {
        let place = Place { offset, handle: content.len() - reader.rest().len() };
        let handle = read_handle(&mut reader)?;
        let entry = (handle.last, handle.last_seqno);
        let in_order = before.is_none_or(|before| entry_order(before, entry) == Ordering::Less);
        if !in_order || handle.last.len() > limits::KEY_BYTES_MAX || handle.entries == 0 {
            return None;
        }
        places.push(place);
        offset = offset.checked_add(handle.length as u64)?;
        before = Some(entry);
    }
    (offset == end && reader.is_empty()).then(|| places.into())
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
        let index = Index::decode(&content, 30, 250).unwrap();
        assert_eq!(
            (0..=index.len()).map(|number| index.offset(number)).collect::<Vec<_>>(),
            [30, 130, 180, 250]
        );
        assert_eq!((index.length(1..2), index.length(0..3), index.length(3..3)), (50, 220, 0));
        assert_eq!(
            (index.last(2), index.handle(1).last_seqno, index.entries()),
            (&b"b"[..], Seqno(4), Some(6))
        );
        assert_eq!(index.partition(b"a", |key, seqno| key < b"b".as_slice() && seqno > Seqno(4)), 1);
    }

    #[test]
    fn an_index_that_does_not_fill_the_file_in_order_is_corrupt() {
        let sound = content(&[(b"a", 5, 100, 2), (b"b", 9, 70, 3)]);
        let decodes = |content: &[u8], end| Index::decode(content, 30, end).is_ok();
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
