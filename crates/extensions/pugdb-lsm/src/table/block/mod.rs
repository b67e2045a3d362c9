//! A data block: columns of keys, seqnos, flags and values. Any entry is found by its number, nothing is parsed on the way.
//!
//! All is checked when a block is decoded, so what looks at it afterwards cannot fail.

use std::cmp::Ordering;
use std::ops::Range;

use bytes::Bytes;
use pugdb_core::RawOp;
use pugdb_core::coding::{Reader, index};
use pugdb_core::engine::{Entries, Room};
use pugdb_core::{EntryKind, Error, ErrorKind, Found, Key, Result, Seqno, limits};

use super::cache::Mark;
use super::heads::{head_at, head_of};
use crate::prefetch::{prefetch, prefetch_at};
use crate::values::Pointer;
use places::Places;

mod places;

/// Count, length of the prefix, form, bytes of a seqno, least seqno.
const HEADER_BYTES: usize = 4 + 2 + 1 + 1 + 8;
/// Ends take four bytes instead of two.
const IS_WIDE: u8 = 1;
/// There is a column of flags: some entry is no plain put.
const HAS_FLAGS: u8 = 1 << 1;
/// In the flags of an entry: the cell ends with a pointer in place of the value, which lies in a value file.
const SEPARATED: u8 = 1 << 6;
/// What an entry takes beside its key, value and fields, at most: two ends, flags, seqno.
const ENTRY_OVERHEAD_BYTES: usize = 2 * 4 + 1 + 8;
const FIELDS_BYTES_MAX: usize = 1 + 8 + 8 + 16;
/// Larger blocks are not made on purpose: a point read would have to verify all of one.
pub(super) const BLOCK_BYTES_MAX: usize = 16 << 20;
/// Values that are copied one after the other are asked for so many bytes before.
const BYTES_AHEAD: usize = 512;
/// Shorter values are copied for a reader of one key, which is cheaper than counting one more reader of the block.
const COPIED_BYTES_MAX: usize = 256;

const _: () = assert!(
    BLOCK_BYTES_MAX
        + HEADER_BYTES
        + limits::KEY_BYTES_MAX
        + FIELDS_BYTES_MAX
        + limits::VALUE_BYTES_MAX
        + ENTRY_OVERHEAD_BYTES
        < u32::MAX as usize
);

/// What stands for the value in an entry's cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    /// The value.
    Value,
    /// A pointer to it.
    Pointer,
}

impl Cell {
    fn flags(self, op: &RawOp<'_>) -> u8 {
        match self {
            Self::Value => op.flags(),
            Self::Pointer => op.flags() | SEPARATED,
        }
    }
}

/// Collects the columns of one block.
#[derive(Debug, Default)]
pub(super) struct BlockBuilder {
    /// Whole keys, one behind the other.
    keys: Vec<u8>,
    key_ends: Vec<u32>,
    seqnos: Vec<u64>,
    flags: Vec<u8>,
    cells: Vec<u8>,
    cell_ends: Vec<u32>,
    size: Size,
}

/// What makes the length of a block.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    count: usize,
    /// How many bytes all keys begin with.
    prefix: usize,
    /// Of whole keys.
    key_bytes: usize,
    cell_bytes: usize,
    least: u64,
    greatest: u64,
    has_flags: bool,
}

impl Size {
    fn suffix_bytes(&self) -> usize {
        self.key_bytes - self.count * self.prefix
    }

    fn is_wide(&self) -> bool {
        self.suffix_bytes().max(self.cell_bytes) > usize::from(u16::MAX)
    }

    /// How many bytes hold the difference of any seqno to the least one.
    fn seqno_bytes(&self) -> usize {
        (u64::BITS - (self.greatest - self.least).leading_zeros()).div_ceil(8) as usize
    }

    fn bytes(&self) -> usize {
        let end_bytes = if self.is_wide() { 4 } else { 2 };
        let entry_bytes = 2 * end_bytes + usize::from(self.has_flags) + self.seqno_bytes();
        HEADER_BYTES + self.count * entry_bytes + self.prefix + self.suffix_bytes() + self.cell_bytes
    }
}

impl BlockBuilder {
    /// How many entries the block has.
    pub(super) fn count(&self) -> usize {
        self.size.count
    }

    /// How long the block is so far.
    pub(super) fn bytes(&self) -> usize {
        if self.size.count == 0 { 0 } else { self.size.bytes() }
    }

    /// True when the entry would make the block larger than `bytes`.
    pub(super) fn is_full(&self, seqno: Seqno, op: &RawOp<'_>, cell: Cell, bytes: usize) -> bool {
        self.size_with(seqno, op, cell).bytes() > bytes
    }

    /// Appends an entry, whose value may be a pointer.
    pub(super) fn add(&mut self, seqno: Seqno, op: &RawOp<'_>, cell: Cell) {
        self.size = self.size_with(seqno, op, cell);
        self.keys.extend_from_slice(op.key);
        self.key_ends.push(end_of(&self.keys));
        self.seqnos.push(seqno.0);
        self.flags.push(cell.flags(op));
        op.put_fields(&mut self.cells);
        self.cells.extend_from_slice(op.value);
        self.cell_ends.push(end_of(&self.cells));
    }

    fn size_with(&self, seqno: Seqno, op: &RawOp<'_>, cell: Cell) -> Size {
        let before = &self.size;
        let (prefix, least, greatest) = if before.count == 0 {
            (op.key.len(), seqno.0, seqno.0)
        } else {
            // All keys so far begin with these bytes of the first one.
            let shared = self.keys[..before.prefix].iter().zip(op.key);
            let shared = shared.take_while(|(one, other)| one == other).count();
            (shared, before.least.min(seqno.0), before.greatest.max(seqno.0))
        };
        Size {
            count: before.count + 1,
            prefix,
            key_bytes: before.key_bytes + op.key.len(),
            cell_bytes: before.cell_bytes + op.fields_bytes() + op.value.len(),
            least,
            greatest,
            has_flags: before.has_flags || cell.flags(op) != 0,
        }
    }

    /// Appends the block to a buffer, gets ready for the next one, and returns where in the buffer it begins.
    pub(super) fn finish(&mut self, buffer: &mut Vec<u8>) -> usize {
        let (start, size) = (buffer.len(), self.size);
        buffer.reserve(size.bytes());
        let (is_wide, seqno_bytes) = (size.is_wide(), size.seqno_bytes());
        buffer.extend_from_slice(&u32::try_from(size.count).expect(LENGTH_FITS).to_le_bytes());
        let prefix = u16::try_from(size.prefix).expect("a key has at most 65,535 bytes");
        buffer.extend_from_slice(&prefix.to_le_bytes());
        buffer.push(if is_wide { IS_WIDE } else { 0 } | if size.has_flags { HAS_FLAGS } else { 0 });
        buffer.push(u8::try_from(seqno_bytes).expect("a seqno has eight bytes"));
        buffer.extend_from_slice(&size.least.to_le_bytes());
        let mut cut = 0;
        for (key_end, cell_end) in self.key_ends.iter().zip(&self.cell_ends) {
            cut += u32::from(prefix);
            for end in [key_end - cut, *cell_end] {
                let bytes = end.to_le_bytes();
                buffer.extend_from_slice(if is_wide { &bytes } else { &bytes[..2] });
            }
        }
        if size.has_flags {
            buffer.extend_from_slice(&self.flags);
        }
        for seqno in &self.seqnos {
            buffer.extend_from_slice(&(seqno - size.least).to_le_bytes()[..seqno_bytes]);
        }
        buffer.extend_from_slice(&self.keys[..size.prefix]);
        let mut key_start = 0;
        for &key_end in &self.key_ends {
            let key_end = index(u64::from(key_end));
            buffer.extend_from_slice(&self.keys[key_start + size.prefix..key_end]);
            key_start = key_end;
        }
        buffer.extend_from_slice(&self.cells);
        self.clear();
        start
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.key_ends.clear();
        self.seqnos.clear();
        self.flags.clear();
        self.cells.clear();
        // One huge value must not keep its memory until the table is done.
        self.cells.shrink_to(CELLS_KEPT_BYTES);
        self.cell_ends.clear();
        self.size = Size::default();
    }
}

/// The builder keeps so much room for the cells of the next block.
const CELLS_KEPT_BYTES: usize = 256 << 10;

const LENGTH_FITS: &str = "a block is closed before 16 MiB and one entry more: asserted above";

/// How many of the ascending heads are smaller, if it is likely that few are (Bentley and Yao, "An almost optimal algorithm for
/// unbounded searching", 1976).
fn gallop(heads: &[u64], head: u64) -> usize {
    let mut end = 1;
    while heads.get(end - 1).is_some_and(|&other| other < head) {
        end *= 2;
    }
    let (start, end) = (end / 2, end.min(heads.len()));
    start + heads[start..end].partition_point(|&other| other < head)
}

fn end_of(column: &[u8]) -> u32 {
    u32::try_from(column.len()).expect(LENGTH_FITS)
}

/// The content of a data block, verified and opened. Large values given out are views of it.
///
/// A checksum says that the bytes are what was written, not who wrote them: each entry and their order are checked when
/// the block is decoded.
pub struct Block {
    /// For the cache.
    pub(super) mark: Mark,
    content: Bytes,
    columns: Columns,
    /// Of the suffixes of keys.
    heads: Box<[u64]>,
    /// From a suffix to its first entry.
    places: Places,
    /// Some key has several versions here.
    has_versions: bool,
    newest: Seqno,
}

/// Where each column begins.
#[derive(Clone, Copy)]
struct Columns {
    count: u32,
    flags: u32,
    seqnos: u32,
    prefix: u32,
    suffixes: u32,
    cells: u32,
    least: u64,
    is_wide: bool,
    has_flags: bool,
    seqno_bytes: u8,
}

/// Where a search ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edge {
    /// Before the newest version at or below this seqno.
    At(Seqno),
    /// Behind all versions of the key.
    Past,
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Block({} entries, {} bytes)", self.count(), self.content.len())
    }
}

impl Block {
    /// Takes over a block's content. Its pointers may name so many value files.
    pub(super) fn decode(content: Bytes, value_files: usize) -> Result<Self> {
        let columns = columns_of(&content)?;
        let (heads, places) = Default::default();
        let (mark, newest) = (Mark::default(), Seqno::ZERO);
        let mut block = Self { mark, content, columns, heads, places, has_versions: false, newest };
        block.check(value_files)?;
        Ok(block)
    }

    /// Looks at each entry once, and makes heads and places on the way.
    fn check(&mut self, value_files: usize) -> Result<()> {
        let count = self.count();
        let (mut heads, mut places) = (Vec::with_capacity(count), Places::of(count));
        let (mut key_start, mut cell_start) = (0, 0);
        let mut before: &[u8] = &[];
        let (mut head_before, mut has_versions, mut newest) = (0, false, Seqno::ZERO);
        let prefix_bytes = self.prefix().len();
        let suffixes = self.content.get(self.suffixes_at()..self.cells_at()).ok_or_else(damaged)?;
        let cells = self.content.get(self.cells_at()..).ok_or_else(damaged)?;
        for position in 0..count {
            let (key_end, cell_end) = (self.end(2 * position), self.end(2 * position + 1));
            let suffix = suffixes.get(key_start..key_end).ok_or_else(damaged)?;
            let cell = cells.get(cell_start..cell_end).ok_or_else(damaged)?;
            let head = head_at(&self.content, self.suffixes_at() + key_start, suffix.len());
            let mut is_older = false;
            if position > 0 && head <= head_before {
                match if head < head_before { Ordering::Less } else { suffix.cmp(before) } {
                    Ordering::Less => return Err(out_of_order()),
                    Ordering::Equal if self.seqno(position) >= self.seqno(position - 1) => {
                        return Err(out_of_order());
                    }
                    Ordering::Equal => is_older = true,
                    Ordering::Greater => {}
                }
            }
            let fields = self.fields(position, cell)?;
            let is_whole = if self.is_separated(position) {
                if fields.kind != EntryKind::Put {
                    return Err(Error::newer("a delete or an operand whose value lies elsewhere"));
                }
                let pointer = Pointer::decode(fields.value).map_err(|_| damaged())?;
                index(pointer.file.into()) < value_files
            } else {
                fields.kind != EntryKind::Delete || fields.value.is_empty()
            };
            if !is_whole
                || fields.value.len() > limits::VALUE_BYTES_MAX
                || prefix_bytes + suffix.len() > limits::KEY_BYTES_MAX
                || self.seqno(position).0 < self.columns.least
            {
                return Err(damaged());
            }
            heads.push(head);
            newest = newest.max(self.seqno(position));
            if !is_older {
                places.add(suffix, position);
            }
            has_versions |= is_older;
            (key_start, cell_start, before, head_before) = (key_end, cell_end, suffix, head);
        }
        if key_start != suffixes.len() || cell_start != cells.len() {
            return Err(damaged());
        }
        (self.heads, self.places) = (heads.into(), places);
        (self.has_versions, self.newest) = (has_versions, newest);
        Ok(())
    }

    /// How many entries it holds; at least one.
    pub fn count(&self) -> usize {
        self.columns.count as usize
    }

    /// The length of its content.
    pub(super) fn content_bytes(&self) -> usize {
        self.content.len()
    }

    /// What it takes in memory.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.content.len() + size_of_val(&*self.heads) + self.places.bytes()
    }

    /// True when some key has several versions in this block.
    pub(super) fn has_versions(&self) -> bool {
        self.has_versions
    }

    /// True when every entry is a plain put that a reader sees who sees seqnos above `floor` up to `seqno`, and the only
    /// one of its key.
    pub(super) fn is_plain(&self, floor: Seqno, seqno: Seqno) -> bool {
        !self.columns.has_flags && !self.has_versions && floor.0 < self.columns.least && self.newest <= seqno
    }

    /// Copies entries of a [plain](Self::is_plain) block as far as there is room. Returns how many.
    pub(crate) fn pour(&self, positions: Range<usize>, room: &mut Room, out: &mut Entries) -> usize {
        let (prefix, suffixes) = (self.prefix(), &self.content[self.suffixes_at()..self.cells_at()]);
        let cells = &self.content[self.cells_at()..];
        let first = positions.start;
        let (mut key_start, mut cell_start) =
            if first == 0 { (0, 0) } else { (self.end(2 * first - 2), self.end(2 * first - 1)) };
        for position in positions.clone() {
            let (key_end, cell_end) = (self.end(2 * position), self.end(2 * position + 1));
            let (suffix, value) = (&suffixes[key_start..key_end], &cells[cell_start..cell_end]);
            if !room.take_bytes(prefix.len() + suffix.len() + value.len()) {
                return position - first;
            }
            if let Some(ahead) = cells.get(cell_end + BYTES_AHEAD) {
                prefetch_at(ahead);
            }
            out.push_put(self.seqno(position), [prefix, suffix], value, || self.share(value));
            (key_start, cell_start) = (key_end, cell_end);
            if room.is_full() {
                return position - first + 1;
            }
        }
        positions.len()
    }

    /// What all keys of this block begin with.
    pub(super) fn prefix(&self) -> &[u8] {
        &self.content[self.columns.prefix as usize..self.suffixes_at()]
    }

    /// What the key of an entry has behind the prefix.
    pub(super) fn suffix(&self, position: usize) -> &[u8] {
        let start = if position == 0 { 0 } else { self.end(2 * position - 2) };
        &self.content[self.suffixes_at() + start..self.suffixes_at() + self.end(2 * position)]
    }

    /// The seqno of an entry.
    pub(super) fn seqno(&self, position: usize) -> Seqno {
        let bytes = usize::from(self.columns.seqno_bytes);
        let at = self.columns.seqnos as usize + position * bytes;
        // The columns behind it nearly always have eight bytes more.
        let more = if let Some(chunk) = self.content.get(at..at + 8).and_then(<[u8]>::first_chunk) {
            u64::from_le_bytes(*chunk) & low_bytes(bytes)
        } else {
            let mut chunk = [0; 8];
            chunk[..bytes].copy_from_slice(&self.content[at..at + bytes]);
            u64::from_le_bytes(chunk)
        };
        Seqno(self.columns.least.wrapping_add(more))
    }

    /// An entry as it lies in the block, under its key, which the caller has put together. The value is empty where there is
    /// a [pointer](Self::pointer) to it.
    pub(super) fn op<'a>(&'a self, position: usize, key: &'a [u8]) -> RawOp<'a> {
        let cell = &self.content[self.cell(position)];
        if !self.columns.has_flags {
            return RawOp::put(key, cell);
        }
        let fields = self.fields(position, cell).expect("its fields were read when the block was decoded");
        let value = if self.is_separated(position) { &[] } else { fields.value };
        RawOp { key, value, ..fields }
    }

    /// Where the value of an entry lies when it is not here.
    pub(super) fn pointer(&self, position: usize) -> Option<Pointer> {
        if !self.is_separated(position) {
            return None;
        }
        let fields = self.fields(position, &self.content[self.cell(position)]);
        let pointer = fields.and_then(|fields| Pointer::decode(fields.value));
        Some(pointer.expect("its pointer was read when the block was decoded"))
    }

    fn is_separated(&self, position: usize) -> bool {
        self.columns.has_flags && self.flags(position) & SEPARATED != 0
    }

    /// The flags of an entry of a block that has them.
    fn flags(&self, position: usize) -> u8 {
        self.content[self.columns.flags as usize + position]
    }

    /// Puts a key together, in place of another one.
    pub(super) fn copy_key(&self, position: usize, key: &mut Vec<u8>) {
        key.clear();
        key.extend_from_slice(self.prefix());
        key.extend_from_slice(self.suffix(position));
    }

    /// True when an entry has this key.
    pub(super) fn has_key(&self, position: usize, key: &[u8]) -> bool {
        key.strip_prefix(self.prefix()).is_some_and(|rest| rest == self.suffix(position))
    }

    /// Asks for the value of an entry, if there is one, before it is needed.
    pub(super) fn prefetch(&self, position: usize) {
        if position < self.count() {
            prefetch(&self.content[self.cell(position)]);
        }
    }

    /// A part of the block as something that can be kept.
    pub(super) fn share(&self, part: &[u8]) -> Bytes {
        self.content.slice_ref(part)
    }

    /// What an entry says, for a reader of one key, without a value that is not here.
    pub(super) fn found(&self, position: usize) -> Found {
        let entry = self.op(position, &[]).entry(|value| {
            if value.len() < COPIED_BYTES_MAX { Bytes::copy_from_slice(value) } else { self.share(value) }
        });
        Found { seqno: self.seqno(position), entry }
    }

    /// All entries, in order. Their keys are views of one copy, their values of the block.
    pub(super) fn entries(&self) -> impl Iterator<Item = (Key, Found, Option<Pointer>)> {
        let suffixes = self.cells_at() - self.suffixes_at();
        let mut keys = Vec::with_capacity(suffixes + self.count() * self.prefix().len());
        for position in 0..self.count() {
            keys.extend_from_slice(self.prefix());
            keys.extend_from_slice(self.suffix(position));
        }
        let (keys, mut start) = (Bytes::from(keys), 0);
        (0..self.count()).map(move |position| {
            let end = start + self.prefix().len() + self.suffix(position).len();
            let key =
                Key::new(keys.slice(start..end)).expect("its length was checked when the block was decoded");
            start = end;
            let entry = self.op(position, &[]).entry(|value| self.share(value));
            (key, Found { seqno: self.seqno(position), entry }, self.pointer(position))
        })
    }

    /// The newest version of `key` at or below `seqno`.
    pub(super) fn find(&self, key: &[u8], seqno: Seqno) -> Option<usize> {
        let rest = key.strip_prefix(self.prefix())?;
        if self.places.is_empty() {
            return match self.search(key, Edge::At(seqno)) {
                (position, true) => Some(position),
                (_, false) => None,
            };
        }
        let mut position = self.places.find(rest, |position| self.suffix(position) == rest)?;
        // Newer versions are rare, and few fit into one block.
        while self.seqno(position) > seqno {
            position += 1;
            if position == self.count() || !self.has_versions || self.suffix(position) != rest {
                return None;
            }
        }
        Some(position)
    }

    /// How many entries are before an edge of `key`.
    pub(super) fn seek(&self, key: &[u8], edge: Edge) -> usize {
        self.search(key, edge).0
    }

    /// [`seek`](Self::seek) for an edge that is likely to be near: the entries before `from` are before it.
    pub(super) fn seek_ahead(&self, from: usize, key: &[u8], edge: Edge) -> usize {
        self.search_by(key, edge, |heads, head| from + gallop(&heads[from..], head)).0
    }

    /// How many entries are before an edge of `key`, and whether the next one is of that key.
    fn search(&self, key: &[u8], edge: Edge) -> (usize, bool) {
        self.search_by(key, edge, |heads, head| heads.partition_point(|&other| other < head))
    }

    fn search_by(&self, key: &[u8], edge: Edge, smaller: impl FnOnce(&[u64], u64) -> usize) -> (usize, bool) {
        let prefix = self.prefix();
        let (begin, rest) = key.split_at(prefix.len().min(key.len()));
        match begin.cmp(prefix) {
            Ordering::Less => return (0, false),
            Ordering::Greater => return (self.count(), false),
            Ordering::Equal => {}
        }
        let head = head_of(rest);
        let low = smaller(&self.heads, head);
        let Range { start: mut low, end: mut high } = match self.heads[low..] {
            [one, ..] if one != head => return (low, false),
            [] => return (low, false),
            // Most keys are the only ones with their head.
            [_] => low..low + 1,
            [_, next, ..] if next != head => low..low + 1,
            _ => low..low + self.heads[low..].partition_point(|&other| other == head),
        };
        let mut is_same = false;
        while low < high {
            let middle = low + (high - low) / 2;
            let order = self.suffix(middle).cmp(rest);
            let is_before = match (order, edge) {
                (Ordering::Equal, Edge::At(seqno)) => self.seqno(middle) > seqno,
                (Ordering::Equal, Edge::Past) => true,
                (order, _) => order == Ordering::Less,
            };
            if is_before {
                low = middle + 1;
            } else {
                high = middle;
                // The last one that is not before is the one that is found.
                is_same = order == Ordering::Equal;
            }
        }
        (low, is_same)
    }

    /// A number of the column of ends: of a suffix and of a cell for each entry.
    fn end(&self, number: usize) -> usize {
        if self.columns.is_wide {
            let at = HEADER_BYTES + number * 4;
            let bytes = self.content[at..at + 4].first_chunk().expect("four bytes were taken");
            index(u64::from(u32::from_le_bytes(*bytes)))
        } else {
            let at = HEADER_BYTES + number * 2;
            let bytes = self.content[at..at + 2].first_chunk().expect("two bytes were taken");
            usize::from(u16::from_le_bytes(*bytes))
        }
    }

    fn cell(&self, position: usize) -> Range<usize> {
        let start = if position == 0 { 0 } else { self.end(2 * position - 1) };
        self.cells_at() + start..self.cells_at() + self.end(2 * position + 1)
    }

    fn suffixes_at(&self) -> usize {
        self.columns.suffixes as usize
    }

    fn cells_at(&self) -> usize {
        self.columns.cells as usize
    }

    /// What the flags of an entry and its cell say.
    fn fields<'a>(&'a self, position: usize, cell: &'a [u8]) -> Result<RawOp<'a>> {
        if !self.columns.has_flags {
            return Ok(RawOp::put(&[], cell));
        }
        let mut reader = Reader::new(cell);
        let flags = self.flags(position) & !SEPARATED;
        let fields = RawOp::decode_fields(flags, &mut reader).map_err(or_damaged)?;
        Ok(RawOp { value: reader.rest(), ..fields })
    }
}

/// Reads the header, and says where each column begins. The columns of fixed width are within the content.
fn columns_of(content: &[u8]) -> Result<Columns> {
    let mut reader = Reader::new(content);
    let mut read = || -> Result<(u32, u16, u8, u8, u64)> {
        Ok((reader.u32()?, reader.u16()?, reader.u8()?, reader.u8()?, reader.u64()?))
    };
    let (count, prefix_bytes, form, seqno_bytes, least) = read().map_err(|_| damaged())?;
    if form & !(IS_WIDE | HAS_FLAGS) != 0 {
        return Err(Error::newer(format_args!("a block of the form {form}")));
    }
    if count == 0 || seqno_bytes > 8 {
        return Err(damaged());
    }
    let (is_wide, has_flags) = (form & IS_WIDE != 0, form & HAS_FLAGS != 0);
    let entries = index(u64::from(count));
    // Less than 2^32 entries of less than 32 bytes: no sum wraps around.
    let end_bytes = if is_wide { 4 } else { 2 };
    let flags = HEADER_BYTES + entries * 2 * end_bytes;
    let seqnos = flags + if has_flags { entries } else { 0 };
    let prefix = seqnos + entries * usize::from(seqno_bytes);
    let suffixes = prefix + usize::from(prefix_bytes);
    if suffixes > content.len() {
        return Err(damaged());
    }
    // The last suffix ends where the cells begin.
    let last = HEADER_BYTES + (2 * entries - 2) * end_bytes;
    let mut end = [0; 8];
    end[..end_bytes].copy_from_slice(&content[last..last + end_bytes]);
    let cells = suffixes + index(u64::from_le_bytes(end));
    let at = |offset: usize| u32::try_from(offset).map_err(|_| damaged());
    Ok(Columns {
        count,
        flags: at(flags)?,
        seqnos: at(seqnos)?,
        prefix: at(prefix)?,
        suffixes: at(suffixes)?,
        cells: at(cells)?,
        least,
        is_wide,
        has_flags,
        seqno_bytes,
    })
}

/// A mask for the lowest bytes of a number.
fn low_bytes(bytes: usize) -> u64 {
    if bytes == 0 { 0 } else { u64::MAX >> (64 - 8 * bytes) }
}

/// Entries do not ascend.
pub(super) fn out_of_order() -> Error {
    Error::corrupt("the entries are not in order; restore the file from a backup")
}

fn damaged() -> Error {
    Error::corrupt("an entry is damaged; run `pugdb verify`")
}

/// What came later is no damage: a table must not be put in quarantine for it.
fn or_damaged(error: Error) -> Error {
    if error.kind() == ErrorKind::Unsupported { error } else { damaged() }
}

#[cfg(test)]
mod tests;
