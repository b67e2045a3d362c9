//! A data block: entries in order, then the offset of each, then their count.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use pugdb_core::RawOp;
use pugdb_core::coding::{Reader, index};
use pugdb_core::{
    Entry, EntryKind, Error, Found, Key, Result, SealId, Seqno, Stamp, Timestamp, Value, limits,
};

use super::entry_order;
use super::heads::Heads;

/// An entry's offset, and the count at the end.
const OFFSET_BYTES: usize = 4;
/// What an entry takes beside its key and value, at most: seqno, the entry's own fields, its offset.
const ENTRY_OVERHEAD_BYTES: usize = 8 + 48 + OFFSET_BYTES;
/// Larger blocks are not made on purpose: a point read would have to verify all of one.
pub(super) const BLOCK_BYTES_MAX: usize = 16 << 20;

const _: () = assert!(
    BLOCK_BYTES_MAX + limits::KEY_BYTES_MAX + limits::VALUE_BYTES_MAX + ENTRY_OVERHEAD_BYTES
        < u32::MAX as usize
);

/// Writes the content of one block behind what a buffer holds already.
#[derive(Debug, Default)]
pub(super) struct BlockBuilder {
    /// Where in the buffer the block begins.
    start: usize,
    offsets: Vec<u32>,
}

impl BlockBuilder {
    /// How many entries the block has.
    pub(super) fn count(&self) -> usize {
        self.offsets.len()
    }

    /// True when the entry would make the block larger than `bytes`.
    pub(super) fn is_full(&self, buffer: &[u8], op: &RawOp<'_>, bytes: usize) -> bool {
        let size = buffer.len() - self.start + self.offsets.len() * OFFSET_BYTES;
        size + op.key.len() + op.value.len() + ENTRY_OVERHEAD_BYTES > bytes
    }

    /// Appends an entry. The first one says where the block begins.
    pub(super) fn add(&mut self, buffer: &mut Vec<u8>, seqno: Seqno, op: &RawOp<'_>) {
        if self.offsets.is_empty() {
            self.start = buffer.len();
        }
        self.offsets.push(offset(buffer.len() - self.start));
        buffer.extend_from_slice(&seqno.0.to_le_bytes());
        op.encode(buffer);
    }

    /// Ends the block, gets ready for the next one, and returns where in the buffer the content begins.
    pub(super) fn finish(&mut self, buffer: &mut Vec<u8>) -> usize {
        for offset in &self.offsets {
            buffer.extend_from_slice(&offset.to_le_bytes());
        }
        buffer.extend_from_slice(&offset(self.offsets.len()).to_le_bytes());
        self.offsets.clear();
        self.start
    }
}

fn offset(value: usize) -> u32 {
    u32::try_from(value).expect("a block is closed before 16 MiB and one entry more: asserted above")
}

/// The content of a data block, verified and opened. Cheap to clone; keys and values given out are views of it.
///
/// A checksum says that the bytes are what was written, not who wrote them: each entry and their order are checked when
/// the block is decoded.
#[derive(Clone)]
pub struct Block(Arc<Decoded>);

struct Decoded {
    content: Bytes,
    /// Where the entries end and their offsets begin.
    entries_end: usize,
    count: usize,
    heads: Heads,
}

/// An entry of a block, decoded: where its key and its value lie, and all else.
#[derive(Clone)]
pub(super) struct Spot {
    pub(super) seqno: Seqno,
    key: Range<usize>,
    pub(super) kind: EntryKind,
    meta: u8,
    pub(super) expires_at: Option<Timestamp>,
    seal: Option<SealId>,
    stamp: Option<Stamp>,
    pub(super) value_bytes: usize,
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Block({} entries, {} bytes)", self.0.count, self.0.content.len())
    }
}

impl Block {
    /// Takes over a block's content.
    pub(super) fn decode(content: Bytes) -> Result<Self> {
        let (rest, count) = content.split_last_chunk::<OFFSET_BYTES>().ok_or_else(damaged)?;
        let count = index(u64::from(u32::from_le_bytes(*count)));
        let entries_end = rest.len().checked_sub(count * OFFSET_BYTES).ok_or_else(damaged)?;
        let mut entries: Vec<(&[u8], Seqno)> = Vec::with_capacity(count);
        for position in 0..count {
            let (seqno, raw) = entry_at(&content, entries_end, count, position)?;
            if entries.last().is_some_and(|&last| entry_order(last, (raw.key, seqno)).is_ge()) {
                return Err(out_of_order());
            }
            entries.push((raw.key, seqno));
        }
        let (Some((first, _)), Some((last, _))) = (entries.first(), entries.last()) else {
            return Err(damaged());
        };
        let heads = Heads::new(first, last, entries.iter().map(|(key, _)| *key));
        Ok(Self(Arc::new(Decoded { content, entries_end, count, heads })))
    }

    /// How many entries it holds; at least one.
    pub fn count(&self) -> usize {
        self.0.count
    }

    /// How long its content is, before it was compressed.
    pub(super) fn content_bytes(&self) -> usize {
        self.0.content.len()
    }

    /// What it takes in memory.
    pub fn bytes(&self) -> usize {
        self.0.content.len() + self.0.heads.bytes()
    }

    /// The entry number `position`, as it lies in the block.
    pub(super) fn raw(&self, position: usize) -> Result<(Seqno, RawOp<'_>)> {
        entry_at(&self.0.content, self.0.entries_end, self.0.count, position)
    }

    /// Where entry number `position` lies.
    pub(super) fn spot(&self, position: usize) -> Result<Spot> {
        let (seqno, raw) = self.raw(position)?;
        // The key is a part of the content.
        let start = raw.key.as_ptr().addr() - self.0.content.as_ptr().addr();
        Ok(Spot {
            seqno,
            key: start..start + raw.key.len(),
            kind: raw.kind,
            meta: raw.meta,
            expires_at: raw.expires_at,
            seal: raw.seal,
            stamp: raw.stamp,
            value_bytes: raw.value.len(),
        })
    }

    /// The key of an entry of this block.
    pub(super) fn key(&self, spot: &Spot) -> &[u8] {
        &self.0.content[spot.key.clone()]
    }

    /// What lies at a spot of this block, where it lies.
    pub(super) fn raw_at(&self, spot: &Spot) -> (Seqno, RawOp<'_>) {
        let &Spot { seqno, kind, meta, expires_at, seal, stamp, .. } = spot;
        // The value stands behind the key.
        let (key, value) =
            self.0.content[spot.key.start..][..spot.key.len() + spot.value_bytes].split_at(spot.key.len());
        (seqno, RawOp { key, kind, meta, expires_at, seal, stamp, value })
    }

    /// What lies at a spot of this block: key and value are views of it.
    pub(super) fn at(&self, spot: &Spot) -> Result<(Key, Found)> {
        let &Spot { seqno, kind, meta, expires_at, seal, stamp, .. } = spot;
        // The value stands behind the key.
        let value = self.0.content.slice(spot.key.end..spot.key.end + spot.value_bytes);
        let value = Value::new(value).map_err(|_| damaged())?;
        Ok((
            self.owned_key(spot)?,
            Found { seqno, entry: Entry { kind, meta, expires_at, seal, stamp, value } },
        ))
    }

    /// The key of an entry of this block, as a view of it.
    pub(super) fn owned_key(&self, spot: &Spot) -> Result<Key> {
        Key::new(self.0.content.slice(spot.key.clone())).map_err(|_| damaged())
    }

    /// The entry number `position`: key and value are views of the block.
    pub(super) fn entry(&self, position: usize) -> Result<(Key, Found)> {
        self.at(&self.spot(position)?)
    }

    /// What an entry of this block says.
    pub(super) fn found<'a>(&'a self, seqno: Seqno, raw: &RawOp<'a>) -> Found {
        Found { seqno, entry: raw.entry(&|part| self.0.content.slice_ref(part)) }
    }

    /// The number of entries for which `before` holds. It holds for entries of smaller keys than `near` and for none of
    /// larger ones; among those of `near` itself it must hold for none behind one for which it does not.
    pub(super) fn partition(&self, near: &[u8], before: impl Fn(&[u8], Seqno) -> bool) -> Result<usize> {
        let Range { start: mut low, end: mut high } = self.0.heads.near(near);
        while low < high {
            let middle = low + (high - low) / 2;
            let (seqno, raw) = self.raw(middle)?;
            if before(raw.key, seqno) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}

/// The entry number `position` of a block's content.
fn entry_at(content: &[u8], entries_end: usize, count: usize, position: usize) -> Result<(Seqno, RawOp<'_>)> {
    let offset = |position: usize| {
        let at = entries_end + position * OFFSET_BYTES;
        let bytes = content.get(at..).and_then(|rest| rest.first_chunk::<OFFSET_BYTES>());
        bytes.map(|bytes| index(u64::from(u32::from_le_bytes(*bytes)))).ok_or_else(damaged)
    };
    let start = offset(position)?;
    let end = if position + 1 < count { offset(position + 1)? } else { entries_end };
    let mut reader = Reader::new(content.get(start..end.min(entries_end)).ok_or_else(damaged)?);
    let seqno = Seqno(reader.u64().map_err(|_| damaged())?);
    let raw = RawOp::decode(&mut reader).map_err(|_| damaged())?;
    if reader.is_empty() { Ok((seqno, raw)) } else { Err(damaged()) }
}

/// Entries do not ascend.
pub(super) fn out_of_order() -> Error {
    Error::corrupt("the entries are not in order; restore the file from a backup")
}

fn damaged() -> Error {
    Error::corrupt("an entry is damaged; run `pugdb verify`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use pugdb_core::{Entry, Value};

    #[test]
    fn entries_that_do_not_ascend_are_corrupt() {
        let content = |entries: [(&[u8], u64); 3]| {
            let (mut builder, mut content) = (BlockBuilder::default(), Vec::new());
            for (key, seqno) in entries {
                let entry = Entry::put(Value::new(vec![0; 5]).unwrap());
                builder.add(&mut content, Seqno(seqno), &entry.raw(key));
            }
            builder.finish(&mut content);
            Bytes::from(content)
        };
        assert!(Block::decode(content([(b"a", 9), (b"a", 8), (b"b", 9)])).is_ok());
        for wrong in [
            [(&b"a"[..], 9), (b"a", 9), (b"b", 9)],
            [(b"a", 8), (b"a", 9), (b"b", 9)],
            [(b"a", 1), (b"c", 1), (b"b", 1)],
        ] {
            let error = Block::decode(content(wrong)).unwrap_err().to_string();
            assert!(error.contains("not in order"), "{error}");
        }
    }

    #[test]
    fn an_entry_that_does_not_fill_its_place_is_corrupt() {
        let (mut builder, mut content) = (BlockBuilder::default(), Vec::new());
        for (seqno, name) in [(1, b"a"), (2, b"b")] {
            let entry = Entry::put(Value::new(vec![0; 50]).unwrap());
            builder.add(&mut content, Seqno(seqno), &entry.raw(name));
        }
        assert_eq!(builder.finish(&mut content), 0);
        let sound = Block::decode(content.clone().into()).unwrap();
        assert_eq!(sound.entry(1).unwrap().0, b"b");
        let offsets = content.len() - 12;
        let second = content[offsets + 4];
        for moved in (0..=255).filter(|&moved| moved != second) {
            content[offsets + 4] = moved;
            assert!(Block::decode(content.clone().into()).is_err(), "second entry at {moved}");
        }
        // The first entry takes the second one and an offset for its own.
        content[8 + 2] += second + 4;
        content[offsets + 4] = 2 * second + 4;
        assert!(Block::decode(content.clone().into()).is_err());
        content[8 + 2] -= second + 4;
        content[offsets + 4] = second;
        // The last entry takes the offsets for its own: its value is as long as if they were part of it.
        content[usize::from(second) + 8 + 2] += 8;
        assert!(Block::decode(content.into()).is_err());
    }
}
