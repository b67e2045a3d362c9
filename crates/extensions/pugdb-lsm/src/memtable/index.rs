//! From a key to its cell: a hash table in partitions, each of which grows by itself, so no growth holds up a commit for
//! long. One writer; readers look without a lock.

#![expect(unsafe_code, reason = "cells are reached through addresses that the writer has published")]

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use super::cells::{ALIGN, Cell};

/// Independent parts. With eight million keys one has 32 thousand, and doubling it moves no more than those.
const PARTITIONS: usize = 256;
/// The bits of a hash that a slot keeps: those by which keys are placed, and those by which they are told apart.
const TAG_BITS: u32 = 20;
const ADDRESS_BITS: u32 = 64 - TAG_BITS;

/// As many slots as the processor fetches at once. Tables consist of whole lines.
#[repr(align(64))]
struct Line([AtomicU64; LINE_SLOTS]);

const LINE_SLOTS: usize = 8;
const _: () = assert!(size_of::<Line>() == align_of::<Line>());

/// A partition's slots, in one word: the address of the first line, and in the bits that its alignment leaves free one more than the
/// logarithm of how many lines there are. So a look fetches the line it needs and no head before it. Null stands for no table.
///
/// A slot is 0, or a tag above a cell's address, which is a multiple of 16 below 2^48.
#[derive(Clone, Copy)]
struct Table(*mut Line);

impl Table {
    const SIZE_MASK: usize = align_of::<Line>() - 1;
    const NONE: Self = Self(ptr::null_mut());

    /// An empty one. Who made it frees it.
    fn new(lines: usize) -> Self {
        assert!(lines.is_power_of_two(), "places are masked");
        let size = lines.trailing_zeros() as usize + 1;
        assert!(size <= Self::SIZE_MASK, "more lines than memory has");
        let lines: Box<[Line]> =
            (0..lines).map(|_| Line([const { AtomicU64::new(0) }; LINE_SLOTS])).collect();
        Self(Box::into_raw(lines).cast::<Line>().map_addr(|address| address | size))
    }

    fn is_none(self) -> bool {
        self.0.is_null()
    }

    fn lines(self) -> usize {
        1 << ((self.0.addr() & Self::SIZE_MASK) - 1)
    }

    fn slots(self) -> usize {
        self.lines() * LINE_SLOTS
    }

    /// The slot at a place, or at the same place one round on.
    ///
    /// # Safety
    /// It is not `NONE` and has not been freed while `'t` lasts.
    unsafe fn at<'t>(self, place: usize) -> &'t AtomicU64 {
        let line = (place / LINE_SLOTS) & (self.lines() - 1);
        let first = self.0.map_addr(|address| address & !Self::SIZE_MASK);
        // SAFETY: the line is one of the table's, which the caller says is there.
        let line = unsafe { &*first.add(line) };
        &line.0[place % LINE_SLOTS]
    }

    /// The first free slot for a tag. There is one: a table is never full.
    ///
    /// # Safety
    /// As for [`at`](Self::at).
    unsafe fn free<'t>(self, tag: usize) -> &'t AtomicU64 {
        let mut place = tag;
        loop {
            // SAFETY: as the caller says.
            let slot = unsafe { self.at(place) };
            if slot.load(Ordering::Relaxed) == 0 {
                return slot;
            }
            place += 1;
        }
    }
}

pub(super) struct Index {
    seed: u64,
    /// What [`Table`] says in a word.
    partitions: Box<[AtomicPtr<Line>]>,
}

/// What only the writer needs.
pub(super) struct Writer {
    counts: Box<[u32]>,
    /// Tables that readers may still look at: all that were ever used. Freed with the memtable.
    tables: Vec<Table>,
}

// SAFETY: the tables own what they point to, and only this frees it.
unsafe impl Send for Writer {}

impl Writer {
    pub(super) fn new() -> Self {
        Self { counts: Box::default(), tables: Vec::new() }
    }

    fn add(&mut self, table: Table) -> Table {
        self.tables.push(table);
        table
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        for table in self.tables.drain(..) {
            let first = table.0.map_addr(|address| address & !Table::SIZE_MASK);
            // SAFETY: it came from a box of as many lines, and the memtable's readers are gone with the memtable.
            drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(first, table.lines())) });
        }
    }
}

/// Where a key belongs.
#[derive(Clone, Copy)]
pub(super) struct Place {
    partition: usize,
    tag: usize,
}

impl Index {
    /// The seed is a secret: who knew it could make keys that all meet in one place.
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, partitions: (0..PARTITIONS).map(|_| AtomicPtr::new(Table::NONE.0)).collect() }
    }

    pub(super) fn place(&self, key: &[u8]) -> Place {
        let hash = xxhash_rust::xxh3::xxh3_64_with_seed(key, self.seed);
        let bits =
            |shift: u32, bits: u32| usize::try_from(hash >> shift & ((1 << bits) - 1)).expect("a few bits");
        Place { partition: bits(56, 8), tag: bits(36, TAG_BITS) }
    }

    fn table(&self, place: Place) -> Table {
        Table(self.partitions[place.partition].load(Ordering::Acquire))
    }

    /// The cell of a key.
    pub(super) fn find(&self, place: Place, key: &[u8]) -> Option<Cell<'_>> {
        let table = self.table(place);
        if table.is_none() {
            return None;
        }
        for at in place.tag.. {
            // SAFETY: a table that was published is freed only with the memtable.
            let slot = unsafe { table.at(at) }.load(Ordering::Acquire);
            if slot == 0 {
                return None;
            }
            if slot >> ADDRESS_BITS == place.tag as u64 {
                // SAFETY: the slot was filled with release order, and the arena lives as long as the index.
                let cell = unsafe { Cell::at(address_of(slot)) };
                if cell.key() == key {
                    return Some(cell);
                }
            }
        }
        None
    }

    /// Adds a cell whose key is not there.
    pub(super) fn add(&self, writer: &mut Writer, place: Place, cell: Cell<'_>) {
        if writer.counts.is_empty() {
            writer.counts = vec![0; PARTITIONS].into_boxed_slice();
        }
        let count = writer.counts[place.partition] as usize;
        let mut table = self.table(place);
        // A quarter stays free, so that the way to a free slot is short.
        if table.is_none() || count * 4 >= table.slots() * 3 {
            table = self.grow(writer, place, table);
        }
        let slot = (place.tag as u64) << ADDRESS_BITS | (cell.address() / ALIGN) as u64;
        // SAFETY: it is freed only with the memtable.
        unsafe { table.free(place.tag) }.store(slot, Ordering::Release);
        writer.counts[place.partition] += 1;
    }

    /// A table with twice the room. Readers in the old one miss only what was not there when they began.
    fn grow(&self, writer: &mut Writer, place: Place, old: Table) -> Table {
        let table = writer.add(Table::new(if old.is_none() { 1 } else { old.lines() * 2 }));
        let places = if old.is_none() { 0 } else { old.slots() };
        for at in 0..places {
            // SAFETY: both are freed only with the memtable.
            let slot = unsafe { old.at(at) }.load(Ordering::Relaxed);
            if slot != 0 {
                let tag = usize::try_from(slot >> ADDRESS_BITS).expect("a few bits");
                // SAFETY: as above.
                unsafe { table.free(tag) }.store(slot, Ordering::Relaxed);
            }
        }
        self.partitions[place.partition].store(table.0, Ordering::Release);
        table
    }
}

fn address_of(slot: u64) -> usize {
    usize::try_from(slot & ((1 << ADDRESS_BITS) - 1)).expect("44 bits") * ALIGN
}
