//! Blocks kept in memory, verified and opened, up to a number of bytes, in which filters and indexes count. A hit is one load of a pointer and writes nothing
//! that others read; second chance (CLOCK) decides who goes. Read path, step 3.
//!
//! Each open table has a slot for each of its blocks. A block that comes for a point read is kept among the others; one
//! that a scan brings is on probation until somebody asks for it again, so a long scan displaces little.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};

use arc_swap::{ArcSwapOption, Guard};
use pugdb_core::sync::Mutex;
use pugdb_core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::block::Block;
use super::load::Flight;

/// What a block costs beside its content and columns: slot, place in a queue, headers.
const SLOT_BYTES: usize = 160;
/// One block takes no more than this part of the cache: it would displace all others.
const BLOCK_PART_MAX: usize = 4;
/// However many tables are open, this part is left to their blocks.
const BLOCKS_PART_MIN: usize = 4;
/// A thread tells of its hits when it has had so many.
const HITS_TOLD_AT_ONCE: u32 = 256;
/// A reader who brings a block lets go so many of tables that are closed.
const LET_GO_BY_READERS: usize = 16;
/// While more than this part is on probation, those go first.
const PROBATION_PART: usize = 8;

/// Blocks of all tables, bounded by bytes: what filters and indexes of open tables take is not there for them. A block that is still in use when it goes lives on until its last reader
/// is done.
pub struct BlockCache {
    bytes_max: usize,
    hits: AtomicU64,
    misses: AtomicU64,
    /// Guards what is kept and what goes. Hits do not look at it.
    kept: Mutex<Kept>,
}

/// For whom a block is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// For a read of a key.
    Point,
    /// For a scan, which may never come back.
    Scan,
    /// For nobody yet: it is kept where there is room, and displaces nothing.
    Spare,
}

/// The blocks of one open table that are in memory.
pub(super) struct Slots {
    blocks: Box<[ArcSwapOption<Block>]>,
    /// Guards who reads a block that is missing.
    pub(super) flights: Mutex<BTreeMap<usize, Arc<Flight>>>,
}

/// What a block in the cache says about itself.
#[derive(Debug, Default)]
pub(super) struct Mark {
    /// Somebody has asked for it since it was asked whether it may go.
    is_used: AtomicBool,
    /// It is on probation no more. Changed under the cache's lock.
    is_settled: AtomicBool,
}

#[derive(Default)]
struct Kept {
    probation: Queue,
    settled: Queue,
    /// What open tables take, blocks aside.
    table_bytes: usize,
    /// Tables that are closed and whose blocks have not been let go yet.
    closed: VecDeque<Closed>,
    /// At least so many places in the queues are of tables that are gone.
    dead: usize,
}

/// A table that is closed: its blocks from `next` on are still there.
struct Closed {
    slots: Arc<Slots>,
    next: usize,
}

/// Who is asked next whether it may go.
#[derive(Default)]
struct Queue {
    places: VecDeque<Place>,
    bytes: usize,
}

struct Place {
    slots: Weak<Slots>,
    number: usize,
}

thread_local! {
    /// What this thread has not told of yet.
    static HITS_UNTOLD: Cell<u32> = const { Cell::new(0) };
}

/// What has left the cache: dropped when its lock is free again, because it may be the last of a table.
#[derive(Default)]
struct Gone(Vec<(Option<Arc<Block>>, Arc<Slots>)>);

impl Slots {
    pub(super) fn new(blocks: usize) -> Arc<Self> {
        let blocks = (0..blocks).map(|_| ArcSwapOption::empty()).collect();
        Arc::new(Self { blocks, flights: Mutex::default() })
    }

    /// The block number `number`, if it is in memory. What is returned borrows it: no count is changed.
    pub(super) fn get(&self, number: usize) -> Guard<Option<Arc<Block>>> {
        let block = self.blocks[number].load();
        if let Some(block) = &*block {
            block.mark.set_used();
        }
        block
    }

    /// [`get`](Self::get) by one who is no reason to keep the block.
    pub(super) fn peek(&self, number: usize) -> Guard<Option<Arc<Block>>> {
        self.blocks[number].load()
    }

    /// How many readers wait for another one to bring a block.
    #[cfg(test)]
    pub(super) fn waiting(&self, number: usize) -> usize {
        // One count is the map's, and one the reader's.
        self.flights.lock().get(&number).map_or(0, |flight| Arc::strong_count(flight) - 2)
    }

    /// What the slots take in memory.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.blocks)
    }
}

impl Mark {
    /// Written only when it changes: the line stays with all who read it.
    fn set_used(&self) {
        if !self.is_used.load(Ordering::Relaxed) {
            self.is_used.store(true, Ordering::Relaxed);
        }
    }
}

impl BlockCache {
    /// A cache of at most `bytes`; 0 turns it off.
    pub fn new(bytes: usize) -> Self {
        Self { bytes_max: bytes, hits: AtomicU64::new(0), misses: AtomicU64::new(0), kept: Mutex::default() }
    }

    /// What the blocks take now: never more than the cache was given.
    pub fn bytes(&self) -> usize {
        self.kept.lock().bytes()
    }

    /// What filters, indexes and slots of open tables take now.
    pub fn table_bytes(&self) -> usize {
        self.kept.lock().table_bytes
    }

    /// How many blocks readers have found here, near enough, and how many they have read.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }

    /// A reader has found a block here. Of a thread that looks into several caches each is told of as many in the long run.
    #[inline]
    pub(super) fn hit(&self) {
        let hits = HITS_UNTOLD.get() + 1;
        HITS_UNTOLD.set(hits % HITS_TOLD_AT_ONCE);
        if hits == HITS_TOLD_AT_ONCE {
            self.tell_hits();
        }
    }

    #[cold]
    fn tell_hits(&self) {
        self.hits.fetch_add(u64::from(HITS_TOLD_AT_ONCE), Ordering::Relaxed);
    }

    /// Readers have not found blocks here, and have read them.
    pub(super) fn missed(&self, blocks: usize) {
        self.misses.fetch_add(blocks as u64, Ordering::Relaxed);
    }

    /// Counts what an open table takes, and lets blocks go for it.
    pub(super) fn hold(&self, table_bytes: usize) {
        let mut gone = Gone::default();
        let mut kept = self.kept.lock();
        kept.table_bytes += table_bytes;
        let room = kept.room(self.bytes_max);
        kept.make_room(0, room, &mut gone);
        drop(kept);
        drop(gone);
    }

    /// A table is closed, which took so many bytes itself. Its blocks are [let go](Self::let_go) by and by: they may be many, and
    /// whoever was its last reader must not wait for that.
    pub(super) fn close(&self, slots: &Arc<Slots>, table_bytes: usize) {
        let mut kept = self.kept.lock();
        kept.table_bytes -= table_bytes;
        kept.closed.push_back(Closed { slots: Arc::clone(slots), next: 0 });
    }

    /// Drops about so many blocks of tables that are closed. False when there are none.
    pub fn let_go(&self, blocks: usize) -> bool {
        let mut gone = Vec::new();
        let mut kept = self.kept.lock();
        let Some(mut closed) = kept.closed.pop_front() else { return false };
        let end = closed.slots.blocks.len().min(closed.next.saturating_add(blocks));
        for slot in &closed.slots.blocks[closed.next..end] {
            if let Some(block) = slot.swap(None) {
                kept.queue_of(&block).bytes -= cost(&block);
                gone.push(block);
            }
        }
        closed.next = end;
        kept.sweep(gone.len());
        let over = if end < closed.slots.blocks.len() {
            kept.closed.push_front(closed);
            None
        } else {
            Some(closed)
        };
        drop(kept);
        drop((gone, over));
        true
    }

    /// Keeps a block of a table, unless it is too large.
    pub(super) fn insert(&self, slots: &Arc<Slots>, number: usize, block: &Arc<Block>, access: Access) {
        let bytes = cost(block);
        let mut gone = Gone::default();
        let mut kept = self.kept.lock();
        let room = kept.room(self.bytes_max);
        if bytes > room / BLOCK_PART_MAX {
            return;
        }
        if slots.blocks[number].load().is_some() {
            return; // Two readers that would not wait for each other brought the same bytes.
        }
        if access == Access::Spare && kept.bytes() + bytes > room {
            return;
        }
        kept.make_room(bytes, room, &mut gone);
        block.mark.is_settled.store(access == Access::Point, Ordering::Relaxed);
        let queue = kept.queue_of(block);
        queue.bytes += bytes;
        queue.places.push_back(Place { slots: Arc::downgrade(slots), number });
        slots.blocks[number].store(Some(Arc::clone(block)));
        let has_closed = !kept.closed.is_empty();
        drop(kept);
        drop(gone);
        if has_closed {
            self.let_go(LET_GO_BY_READERS);
        }
    }
}

impl Kept {
    fn bytes(&self) -> usize {
        self.probation.bytes + self.settled.bytes
    }

    /// What there is for blocks in a cache of `bytes_max`.
    fn room(&self, bytes_max: usize) -> usize {
        bytes_max.saturating_sub(self.table_bytes).max(bytes_max / BLOCKS_PART_MIN)
    }

    fn queue_of(&mut self, block: &Block) -> &mut Queue {
        if block.mark.is_settled.load(Ordering::Relaxed) { &mut self.settled } else { &mut self.probation }
    }

    /// Lets blocks go until there is place for `bytes` in this room.
    fn make_room(&mut self, bytes: usize, room: usize, gone: &mut Gone) {
        // Readers may set marks as fast as they are taken away: each block is spared once.
        let mut spared = self.probation.places.len() + self.settled.places.len();
        while self.bytes() + bytes > room {
            let from_probation =
                self.probation.bytes > room / PROBATION_PART || self.settled.places.is_empty();
            let queue = if from_probation { &mut self.probation } else { &mut self.settled };
            let Some(place) = queue.places.pop_front() else { return };
            let Some(slots) = place.slots.upgrade() else {
                self.dead = self.dead.saturating_sub(1);
                continue;
            };
            let slot = &slots.blocks[place.number];
            let block = slot.load_full();
            if let Some(block) = &block {
                queue.bytes -= cost(block);
                if spared > 0 && block.mark.is_used.swap(false, Ordering::Relaxed) {
                    spared -= 1;
                    block.mark.is_settled.store(true, Ordering::Relaxed);
                    self.settled.bytes += cost(block);
                    self.settled.places.push_back(place);
                } else {
                    slot.store(None);
                }
            }
            gone.0.push((block, slots));
        }
    }

    /// Makes sure that places of closed tables, of which there are `more` soon, are never more than those of open ones.
    fn sweep(&mut self, more: usize) {
        let places = self.probation.places.len() + self.settled.places.len();
        if self.dead * 2 > places {
            for queue in [&mut self.probation, &mut self.settled] {
                queue.places.retain(|place| place.slots.strong_count() > 0);
            }
            self.dead = 0;
        }
        self.dead += more;
    }
}

fn cost(block: &Block) -> usize {
    block.bytes() + SLOT_BYTES
}
