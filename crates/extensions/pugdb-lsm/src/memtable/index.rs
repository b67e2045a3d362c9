//! From a key to its cell: a hash table in partitions, each of which grows by itself, so no growth holds up a commit for
//! long. One writer; readers look without a lock.

#![expect(unsafe_code, reason = "cells are reached through addresses that the writer has published")]

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use super::cells::{ALIGN, Cell};

/// Independent parts. With eight million keys one has 32 thousand, and doubling it moves no more than those.
const PARTITIONS: usize = 256;
/// Slots of a partition when its first key comes.
const SLOTS_MIN: usize = 8;
/// The bits of a hash that a slot keeps: those by which keys are placed, and those by which they are told apart.
const TAG_BITS: u32 = 20;
const ADDRESS_BITS: u32 = 64 - TAG_BITS;

/// A partition's slots. A slot is 0, or a tag above a cell's address, which is a multiple of 16 below 2^48.
struct Table {
    slots: Box<[AtomicU64]>,
}

impl Table {
    fn new(slots: usize) -> Self {
        Self { slots: (0..slots).map(|_| AtomicU64::new(0)).collect() }
    }

    fn at(&self, place: usize) -> &AtomicU64 {
        &self.slots[place & (self.slots.len() - 1)]
    }

    /// The first free slot for a tag. There is one: a table is never full.
    fn free(&self, tag: usize) -> &AtomicU64 {
        let mut place = tag;
        while self.at(place).load(Ordering::Relaxed) != 0 {
            place += 1;
        }
        self.at(place)
    }
}

pub(super) struct Index {
    seed: u64,
    partitions: Box<[AtomicPtr<Table>]>,
}

/// What only the writer needs.
pub(super) struct Writer {
    counts: Box<[u32]>,
    /// Tables that readers may still look at: all that were ever used. Freed with the memtable.
    tables: Vec<*mut Table>,
}

// SAFETY: the pointers own what they point to, and only this frees it.
unsafe impl Send for Writer {}

impl Writer {
    pub(super) fn new() -> Self {
        Self { counts: Box::default(), tables: Vec::new() }
    }

    fn add(&mut self, table: Table) -> *mut Table {
        let table = Box::into_raw(Box::new(table));
        self.tables.push(table);
        table
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        for table in self.tables.drain(..) {
            // SAFETY: it came from a box, and the memtable's readers are gone with the memtable.
            drop(unsafe { Box::from_raw(table) });
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
        Self { seed, partitions: (0..PARTITIONS).map(|_| AtomicPtr::new(ptr::null_mut())).collect() }
    }

    pub(super) fn place(&self, key: &[u8]) -> Place {
        let hash = xxhash_rust::xxh3::xxh3_64_with_seed(key, self.seed);
        let bits =
            |shift: u32, bits: u32| usize::try_from(hash >> shift & ((1 << bits) - 1)).expect("a few bits");
        Place { partition: bits(56, 8), tag: bits(36, TAG_BITS) }
    }

    fn table(&self, place: Place) -> Option<&Table> {
        let table = self.partitions[place.partition].load(Ordering::Acquire);
        // SAFETY: a table that was published is freed only with the memtable.
        unsafe { table.as_ref() }
    }

    /// The cell of a key.
    pub(super) fn find(&self, place: Place, key: &[u8]) -> Option<Cell<'_>> {
        let table = self.table(place)?;
        for at in place.tag.. {
            let slot = table.at(at).load(Ordering::Acquire);
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
        let table = match self.table(place) {
            // A quarter stays free, so that the way to a free slot is short.
            Some(table) if count * 4 < table.slots.len() * 3 => table,
            full => self.grow(writer, place, full),
        };
        let slot = (place.tag as u64) << ADDRESS_BITS | (cell.address() / ALIGN) as u64;
        table.free(place.tag).store(slot, Ordering::Release);
        writer.counts[place.partition] += 1;
    }

    /// A table with twice the room. Readers in the old one miss only what was not there when they began.
    fn grow(&self, writer: &mut Writer, place: Place, old: Option<&Table>) -> &Table {
        let table = Table::new(old.map_or(SLOTS_MIN, |old| old.slots.len() * 2));
        for slot in old.into_iter().flat_map(|old| &old.slots) {
            let slot = slot.load(Ordering::Relaxed);
            if slot != 0 {
                let tag = usize::try_from(slot >> ADDRESS_BITS).expect("a few bits");
                table.free(tag).store(slot, Ordering::Relaxed);
            }
        }
        let table = writer.add(table);
        self.partitions[place.partition].store(table, Ordering::Release);
        // SAFETY: it was just made, and is freed only with the memtable.
        unsafe { &*table }
    }
}

fn address_of(slot: u64) -> usize {
    usize::try_from(slot & ((1 << ADDRESS_BITS) - 1)).expect("44 bits") * ALIGN
}
