//! The memtable: the newest entries of a tree, in memory until they are flushed. Write path, step 5.
//!
//! | file | what it holds | who writes, who reads |
//! |---|---|---|
//! | `cells` | keys and versions, in an arena that only grows | one writer; readers follow pointers, without a lock |
//! | `index` | from a key to its cell: a hash table | one writer; readers without a lock |
//! | `order` | the keys in order, sorted bit by bit | one writer and the background; scans copy a few pointers |
//!
//! A point read costs a hash and two cache misses, whatever the size; a write puts its order off. The measurements that
//! decided it are in `docs/adr/`.

#![expect(
    unsafe_code,
    reason = "it leads from items to cells and lends bytes of the arena; the rest is in the files below"
)]

mod cells;
mod index;
mod order;
mod scan;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use pugdb_core::engine::{Direction, KeyRange};
use pugdb_core::{EntryKind, Found, Operation, RawOp, Result, Seqno};

use cells::{Arena, Cell, Item, Node};
use index::Index;
use order::KeyOrder;
pub(crate) use scan::MemtableScan;

/// Values up to here are copied for their readers. A larger one is lent, and keeps the memtable in memory.
const COPIED_BYTES_MAX: usize = 16 << 10;

/// Keys that a flush asks the memory for together.
const VISITED_TOGETHER: usize = 32;

/// Entries in memory. One writer at a time, any number of readers; sealed when a newer memtable takes its place.
pub(crate) struct Memtable {
    index: Index,
    order: KeyOrder,
    /// Guards the order of writes, and holds the memory that readers look at: it goes last.
    writer: Mutex<Writer>,
    /// What its operations count in the budget.
    bytes: AtomicUsize,
    tally: Tally,
    /// The first and the last seqno; zero while it is empty.
    first: AtomicU64,
    last: AtomicU64,
    /// Its bytes are no longer counted as waiting for a flush.
    is_forgotten: AtomicBool,
}

struct Writer {
    index: index::Writer,
    arena: Arena,
}

impl Memtable {
    /// An empty one. The seed is a secret of this process.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            index: Index::new(seed),
            order: KeyOrder::new(),
            writer: Mutex::new(Writer { index: index::Writer::new(), arena: Arena::default() }),
            bytes: AtomicUsize::new(0),
            tally: Tally::default(),
            first: AtomicU64::new(0),
            last: AtomicU64::new(0),
            is_forgotten: AtomicBool::new(false),
        }
    }

    /// Adds operations, whose seqnos ascend. True when it has left the background something to merge. Range deletes are
    /// counted only: what they hide the tree knows, and the manifest when this is flushed.
    pub(crate) fn insert<'o>(&self, ops: impl Iterator<Item = (Seqno, Operation<'o>)>) -> bool {
        let mut writer = self.writer.lock();
        let Writer { index, arena } = &mut *writer;
        let mut has_work = false;
        for (seqno, operation) in ops {
            if let Operation::Entry(op) = operation {
                let place = self.index.place(op.key);
                if let Some(cell) = self.index.find(place, op.key) {
                    self.tally.remove(cell.newest());
                    arena.add_version(cell, seqno, &op);
                    self.tally.add(cell.newest());
                } else {
                    let cell = arena.add_cell(seqno, &op);
                    self.tally.add(cell.newest());
                    self.index.add(index, place, cell);
                    has_work |= self.order.push(Item::new(cell));
                }
            }
            self.bytes.fetch_add(operation.cost_bytes(), Ordering::Relaxed);
            if self.is_empty() {
                self.first.store(seqno.0, Ordering::Release);
            }
            self.last.store(seqno.0, Ordering::Release);
        }
        has_work || self.order.is_asked()
    }

    /// The newest version of a key that a reader at `seqno` can see, deletes included.
    pub(crate) fn get(self: &Arc<Self>, key: &[u8], seqno: Seqno) -> Option<Found> {
        if self.is_empty() {
            return None;
        }
        let cell = self.index.find(self.index.place(key), key)?;
        Some(self.found(cell.visible(seqno)?))
    }

    /// When a key was changed last.
    pub(crate) fn newest(&self, key: &[u8]) -> Option<Seqno> {
        if self.is_empty() {
            return None;
        }
        self.index.find(self.index.place(key), key).map(|cell| cell.newest().seqno())
    }

    /// Shows the versions of a key at or below `seqno`, the newest first.
    pub(crate) fn visit_key(
        self: &Arc<Self>,
        key: &[u8],
        seqno: Seqno,
        visit: &mut dyn FnMut(Found) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let cell = if self.is_empty() { None } else { self.index.find(self.index.place(key), key) };
        let mut next = cell.and_then(|cell| cell.visible(seqno));
        while let Some(node) = next {
            visit(self.found(node))?;
            next = node.older();
        }
        ControlFlow::Continue(())
    }

    fn found(self: &Arc<Self>, node: Node<'_>) -> Found {
        node.found(|value| self.share(value))
    }

    /// Bytes of the arena as something that can be kept.
    fn share(self: &Arc<Self>, bytes: &[u8]) -> Bytes {
        if bytes.len() <= COPIED_BYTES_MAX {
            return Bytes::copy_from_slice(bytes);
        }
        // SAFETY: they are in the arena, which does not change them and lives as long as this memtable.
        Bytes::from_owner(unsafe { cells::Lent::new(Arc::clone(self), bytes) })
    }

    /// The newest visible version of each key in a range, in order.
    pub(crate) fn scan(
        self: &Arc<Self>,
        range: &KeyRange,
        direction: Direction,
        seqno: Seqno,
    ) -> MemtableScan {
        MemtableScan::new(Arc::clone(self), range, direction, seqno)
    }

    /// Shows every version behind a key where it lies, in the order of tables: keys ascending, versions descending. Ends
    /// after about `bytes`, and then says behind which key to go on. For a memtable that is sealed.
    pub(crate) fn visit_versions(
        &self,
        after: Option<&[u8]>,
        bytes: usize,
        visit: &mut dyn FnMut(Seqno, &RawOp<'_>) -> Result<()>,
    ) -> Result<Option<Vec<u8>>> {
        let range = KeyRange {
            start: after.map_or(Bound::Unbounded, |key| Bound::Excluded(key.to_vec())),
            end: Bound::Unbounded,
        };
        self.order.merge_all();
        let mut keys = self.order.scan(&range, Direction::Forward);
        let mut left = bytes;
        // Keys that are neighbours lie anywhere in memory. A loop that looks at many and does little else lets the processor
        // wait for all of them at once.
        let mut together: Vec<(Node<'_>, RawOp<'_>)> = Vec::with_capacity(VISITED_TOGETHER);
        loop {
            together.clear();
            together.extend(std::iter::from_fn(|| keys.next()).take(VISITED_TOGETHER).map(|item| {
                // SAFETY: its arena is that of this memtable.
                let cell: Cell<'_> = unsafe { item.cell() };
                (cell.newest(), cell.newest().raw(cell.key()))
            }));
            for (newest, op) in &together {
                visit(newest.seqno(), op)?;
                left = left.saturating_sub(op.key.len() + op.value.len());
                let mut older = newest.older();
                while let Some(node) = older {
                    visit(node.seqno(), &node.raw(op.key))?;
                    left = left.saturating_sub(op.key.len() + node.value().len());
                    older = node.older();
                }
            }
            match together.last() {
                Some((_, last)) if left == 0 => return Ok(Some(last.key.to_vec())),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    /// Merges a little of what scans would have to. False when there is nothing to do.
    pub(crate) fn merge_step(&self) -> bool {
        self.order.merge_step()
    }

    /// What its operations count in the budget of memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How many keys of a range it holds.
    pub(crate) fn keys(&self, range: &KeyRange) -> u64 {
        self.order.count(range) as u64
    }

    /// How many keys it adds to a tree, near enough: those that it deletes were there before.
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    fn is_empty(&self) -> bool {
        self.first.load(Ordering::Acquire) == 0
    }

    /// The first seqno it holds.
    pub(crate) fn first(&self) -> Option<Seqno> {
        Some(Seqno(self.first.load(Ordering::Acquire))).filter(|seqno| *seqno != Seqno::ZERO)
    }

    /// The last seqno it holds.
    pub(crate) fn last(&self) -> Seqno {
        Seqno(self.last.load(Ordering::Acquire))
    }

    /// Its bytes, for the one who takes them out of the count; zero for everybody after.
    pub(crate) fn forget(&self) -> usize {
        if self.is_forgotten.swap(true, Ordering::AcqRel) { 0 } else { self.bytes() }
    }
}

/// How many keys there are, by what their newest version is. One writer at a time.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    puts: AtomicU64,
    deletes: AtomicU64,
    /// Of the puts.
    expiring: AtomicU64,
}

impl Tally {
    fn add(&self, newest: Node<'_>) {
        self.of(newest).fetch_add(1, Ordering::Relaxed);
        self.expiring.fetch_add(u64::from(newest.expires_at().is_some()), Ordering::Relaxed);
    }

    /// A newer version follows.
    fn remove(&self, newest: Node<'_>) {
        self.of(newest).fetch_sub(1, Ordering::Relaxed);
        self.expiring.fetch_sub(u64::from(newest.expires_at().is_some()), Ordering::Relaxed);
    }

    fn of(&self, newest: Node<'_>) -> &AtomicU64 {
        match newest.kind() {
            EntryKind::Delete => &self.deletes,
            EntryKind::Put | EntryKind::Operand => &self.puts,
        }
    }

    pub(crate) fn puts(&self) -> u64 {
        self.puts.load(Ordering::Relaxed)
    }

    pub(crate) fn deletes(&self) -> u64 {
        self.deletes.load(Ordering::Relaxed)
    }

    pub(crate) fn expiring(&self) -> u64 {
        self.expiring.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Memtable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memtable({} bytes)", self.bytes())
    }
}
