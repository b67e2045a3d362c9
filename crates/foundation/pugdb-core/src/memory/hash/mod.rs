//! The hash engine: one keyspace in memory for point operations, without order, with snapshots.
//!
//! Keys are spread over shards by a hash that is computed once and seeded for each engine. A shard is locked for one
//! operation, or for a part of it when it is walked, so readers of other keys are never held up.
//!
//! Walks go by shard, and within a shard by a part of the hash: an entry's place follows from its key alone, whatever
//! is inserted and however often the shard grows meanwhile.

mod slot;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Place;
use parking_lot::{Mutex, RwLock};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::expiry::ExpiryQueue;
use super::housekeeper::{Housekeeper, Tidied, Tidy};
use super::refuse_operands;
use super::versions::Floors;
use crate::engine::{
    BatchSize, Capabilities, Counts, Cursor, Direction, Engine, Entries, KeyRange, Operands, Persistence,
    ReadPoint, Room, Scans,
};
use crate::entry::{Entry, EntryKind, Found, Key, RawOp, Timestamp};
use crate::error::{Error, Result};
use crate::ids::Seqno;
use crate::ops::Ops;
use crate::snapshots::Snapshots;
use crate::soon;
use slot::Slot;

/// So many that writers of a large map grow a small part of it at a time, and readers seldom meet.
const SHARDS: usize = 256;
/// About so many entries are looked at under a shard's lock when it is walked.
const PART_ENTRIES: usize = 1024;
/// At most so many parts a shard has: two to the power of this.
const PART_BITS_MAX: u32 = 16;
/// What an apply gives back beside what its own operations leave behind.
const TIDY_MIN: usize = 64;
/// Of each of its operations: more than it can leave behind, so that nothing piles up.
const TIDY_PER_OP: usize = 4;
/// A shard that fills less than this part of its room gives room back.
const SPARSE: usize = 8;
const CAPACITY_MIN: usize = 64;

/// An engine in memory for points: the fastest `get` and `put`, and no order.
///
/// A scan over the whole keyspace, forward, gives every entry once, in no order. Ranges, prefixes and scans in reverse
/// are refused.
///
/// ```
/// use pugdb_core::engine::{Direction, Engine, Entries, KeyRange, ReadPoint};
/// use pugdb_core::memory::Hash;
/// use pugdb_core::snapshots::Snapshots;
/// use pugdb_core::{Entry, ErrorKind, Key, Op, Seqno, Timestamp, Value};
///
/// let snapshots = Snapshots::new(Seqno::ZERO);
/// let engine = Hash::new(snapshots.clone(), 4711);
/// let op = Op { key: Key::copy(b"ada").unwrap(), entry: Entry::put(Value::new(b"1815".as_slice()).unwrap()) };
/// engine.apply(Seqno(1), &[op].into_iter().collect()).unwrap();
/// snapshots.publish(Seqno(1));
/// let point = ReadPoint { seqno: snapshots.visible(), now: Timestamp(0) };
/// assert_eq!(engine.get(b"ada", point).unwrap().unwrap().entry.value, b"1815");
/// assert!(engine.scan(KeyRange::all(), Direction::Forward, point).is_ok());
/// let refused = engine.scan(KeyRange::prefix(b"a"), Direction::Forward, point).err().unwrap();
/// assert_eq!(refused.kind(), ErrorKind::Invalid);
/// ```
#[derive(Debug)]
pub struct Hash {
    snapshots: Arc<Snapshots>,
    housekeeper: Option<Arc<Housekeeper>>,
    shards: Arc<Shards>,
    /// The newest truncation: what is newer is hidden by none.
    cut: AtomicU64,
    /// Guards the order of writes.
    state: Mutex<State>,
}

#[derive(Debug)]
struct Shards {
    seed: u64,
    shards: Box<[Shard]>,
}

/// A part of the keys. Neighbours do not share a cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Shard {
    slots: RwLock<HashTable<Slot>>,
}

#[derive(Debug)]
struct State {
    applied: Seqno,
    floors: Floors,
    /// The floor below which everything is dropped, or is being dropped.
    dropped: Seqno,
    /// The next shard to be rid of what lies below `dropped`; beyond the last one when all are.
    dropping: usize,
    keys: usize,
    versions: usize,
    /// What they cost, near enough for a budget.
    bytes: usize,
    /// Hashes of keys that have a version which can go once the horizon has passed the seqno; ascending.
    garbage: VecDeque<(Seqno, u64)>,
    expiring: ExpiryQueue<u64>,
}

impl Hash {
    /// An empty engine whose versions live as long as `snapshots` needs them. With the same `seed` it walks its keys in
    /// the same order; who chooses keys must not know it, or they could all be made to meet.
    pub fn new(snapshots: Arc<Snapshots>, seed: u64) -> Self {
        let shards = (0..SHARDS).map(|_| Shard::default()).collect();
        let state = State {
            applied: Seqno::ZERO,
            floors: Floors::default(),
            dropped: Seqno::ZERO,
            dropping: SHARDS,
            keys: 0,
            versions: 0,
            bytes: 0,
            garbage: VecDeque::new(),
            expiring: ExpiryQueue::default(),
        };
        Self {
            snapshots,
            housekeeper: None,
            shards: Arc::new(Shards { seed, shards }),
            cut: AtomicU64::new(0),
            state: Mutex::new(state),
        }
    }

    /// The same, looked after by `housekeeper` when no writes come.
    pub fn watched(snapshots: Arc<Snapshots>, seed: u64, housekeeper: &Arc<Housekeeper>) -> Arc<Self> {
        let engine =
            Arc::new(Self { housekeeper: Some(Arc::clone(housekeeper)), ..Self::new(snapshots, seed) });
        housekeeper.watch(Arc::downgrade(&engine) as _);
        engine
    }

    /// How many versions it holds.
    pub fn count_versions(&self) -> usize {
        self.state.lock().versions
    }

    /// How many entries there are, near enough: those that a delete or an expiry has not yet rid it of are counted.
    pub fn approximate_counts(&self) -> Counts {
        let state = self.state.lock();
        if state.floors.hide(state.applied) {
            return Counts::default();
        }
        Counts {
            keys: state.keys as u64,
            expiring: state.expiring.len() as u64,
            next_expiry: state.expiring.next(),
        }
    }

    /// What its entries cost, near enough for a budget.
    pub fn bytes(&self) -> usize {
        self.state.lock().bytes
    }

    /// The same without what a truncation hides, when that is everything.
    pub fn shown_bytes(&self) -> usize {
        let state = self.state.lock();
        if state.floors.hide(state.applied) { 0 } else { state.bytes }
    }

    /// The newest operation that was applied.
    pub fn applied(&self) -> Seqno {
        self.state.lock().applied
    }

    fn floor(&self, seqno: Seqno) -> Seqno {
        self.state.lock().floors.at(seqno)
    }

    fn shows(&self, found: &Found, point: ReadPoint) -> bool {
        // The lock is only for those who may be below a truncation.
        found.entry.is_live(point.now)
            && (found.seqno.0 > self.cut.load(Ordering::Acquire) || found.seqno > self.floor(point.seqno))
    }

    fn expect(&self, at: Timestamp) {
        if let Some(housekeeper) = &self.housekeeper {
            housekeeper.expect(at);
        }
    }

    fn walk(&self, range: &KeyRange, direction: Direction, point: ReadPoint) -> Result<Walk> {
        let starts_first = match &range.start {
            Bound::Unbounded => true,
            Bound::Included(start) => start.is_empty(),
            Bound::Excluded(_) => false,
        };
        if !starts_first || range.end != Bound::Unbounded || direction == Direction::Reverse {
            return Err(no_order());
        }
        Ok(Walk { point, floor: self.floor(point.seqno), shard: 0, part: 0, bits: None })
    }
}

impl Shards {
    fn hash(&self, key: &[u8]) -> u64 {
        xxh3_64_with_seed(key, self.seed)
    }

    /// The bits for the shard, the part within it and the place in its table are different ones.
    fn shard(&self, hash: u64) -> &RwLock<HashTable<Slot>> {
        &self.shards[(hash >> 48) as usize % SHARDS].slots
    }
}

impl State {
    fn count_in(&mut self, cost: usize) {
        self.versions += 1;
        self.bytes += cost;
    }

    fn count_out(&mut self, slot: &Slot, gone: &[Found]) {
        for found in gone {
            self.versions -= 1;
            self.bytes -= slot.cost(found);
            self.expiring.remove(found);
        }
    }

    /// The slot has left its table.
    fn bury(&mut self, slot: &Slot) {
        self.keys -= 1;
        self.count_out(slot, std::slice::from_ref(slot.newest()));
    }

    fn put(&mut self, shards: &Shards, seqno: Seqno, op: &RawOp<'_>) {
        let hash = shards.hash(op.key);
        let found = Found { seqno, entry: op.to_entry() };
        let cost = op.cost_bytes();
        let mut slots = soon::write(shards.shard(hash));
        match slots.entry(hash, |slot| slot.key == *op.key, |slot| slot.hash) {
            Place::Occupied(mut place) => {
                self.expiring.add(&found, || hash);
                place.get_mut().push(found);
                self.count_in(cost);
                self.garbage.push_back((seqno, hash));
            }
            // Nothing to hide: a delete leaves nothing behind.
            Place::Vacant(_) if found.entry.kind == EntryKind::Delete => {}
            Place::Vacant(place) => {
                self.expiring.add(&found, || hash);
                place.insert(Slot::new(hash, op.to_key(), found));
                self.count_in(cost);
                self.keys += 1;
            }
        }
    }

    /// Gives back what nobody can read any more, and returns how much of `budget` is left.
    fn tidy(&mut self, shards: &Shards, snapshots: &Snapshots, budget: usize) -> usize {
        let horizon = snapshots.horizon();
        let mut left = self.prune(shards, horizon, budget);
        // The horizon takes a lock that every reader takes: only when something may have expired.
        if left > 0 && self.expiring.next().is_some_and(|next| next <= snapshots.time()) {
            left = self.expire(shards, horizon, snapshots.expiry_horizon(), left);
        }
        let floor = self.floors.settle(horizon);
        if floor > self.dropped {
            (self.dropped, self.dropping) = (floor, 0);
        }
        while left > 0 && self.dropping < SHARDS {
            left = left.saturating_sub(self.drop_in_shard(&shards.shards[self.dropping]));
            self.dropping += 1;
        }
        left
    }

    /// Of keys that were written again or deleted: what the horizon has passed.
    fn prune(&mut self, shards: &Shards, horizon: Seqno, budget: usize) -> usize {
        let mut left = budget;
        while left > 0 && self.garbage.front().is_some_and(|&(seqno, _)| seqno <= horizon) {
            let Some((_, hash)) = self.garbage.pop_front() else { break };
            self.prune_hash(shards, horizon, hash);
            left -= 1;
        }
        left
    }

    fn prune_hash(&mut self, shards: &Shards, horizon: Seqno, hash: u64) {
        let mut slots = soon::write(shards.shard(hash));
        let mut is_over = |slot: &mut Slot| {
            if slot.hash != hash {
                return false;
            }
            let (gone, is_over) = slot.prune(horizon);
            self.count_out(slot, &gone);
            is_over
        };
        // Keys that share a hash are as good as never there; each is looked at all the same.
        slots.iter_hash_mut(hash).for_each(|slot| _ = is_over(slot));
        while let Ok(place) = slots.find_entry(hash, |slot| slot.hash == hash && is_deleted_at(slot, horizon))
        {
            let (slot, _) = place.remove();
            self.bury(&slot);
        }
        shrink(&mut slots);
    }

    /// Entries that have expired for everybody become deletes in their places, and go as deletes do.
    fn expire(&mut self, shards: &Shards, horizon: Seqno, cutoff: Timestamp, budget: usize) -> usize {
        let mut left = budget;
        while left > 0
            && let Some((seqno, hash)) = self.expiring.pop_expired(cutoff)
        {
            let mut slots = soon::write(shards.shard(hash));
            for slot in slots.iter_hash_mut(hash).filter(|slot| slot.hash == hash) {
                let Some(found) = slot.version_mut(seqno) else { continue };
                let value_bytes = found.entry.value.len();
                found.entry = Entry::delete();
                self.bytes -= value_bytes;
            }
            drop(slots);
            if self.applied <= horizon {
                self.prune_hash(shards, horizon, hash);
            } else {
                self.garbage.push_back((self.applied, hash));
            }
            left -= 1;
        }
        left
    }

    /// Drops what a truncation has hidden from everybody, and returns how much was looked at.
    fn drop_in_shard(&mut self, shard: &Shard) -> usize {
        let mut slots = soon::write(&shard.slots);
        let looked_at = slots.len();
        let floor = self.dropped;
        slots.retain(|slot| {
            let (gone, is_cut) = slot.cut(floor);
            self.count_out(slot, &gone);
            if is_cut {
                self.bury(slot);
            }
            !is_cut
        });
        shrink(&mut slots);
        looked_at.max(1)
    }
}

fn is_deleted_at(slot: &Slot, horizon: Seqno) -> bool {
    let newest = slot.newest();
    newest.seqno <= horizon && newest.entry.kind == EntryKind::Delete
}

/// Deleted keys give their room back.
fn shrink(slots: &mut HashTable<Slot>) {
    if slots.capacity() > CAPACITY_MIN && slots.len() < slots.capacity() / SPARSE {
        slots.shrink_to(slots.len() * 2, |slot| slot.hash);
    }
}

fn no_order() -> Error {
    Error::invalid(
        "the hash engine has no order: it scans the whole keyspace, forward, and nothing else; choose the btree or the lsm \
         engine for ranges, prefixes, scans in reverse and range deletes",
    )
}

impl Engine for Hash {
    fn capabilities(&self) -> Capabilities {
        let (scans, persistence) = (Scans::Unordered, Persistence::Volatile);
        Capabilities { scans, persistence, operands: Operands::Refused }
    }

    fn apply(&self, first: Seqno, ops: &Ops) -> Result<()> {
        if ops.has_ranges() {
            return Err(no_order());
        }
        refuse_operands(ops)?;
        let mut state = self.state.lock();
        let applied = state.applied;
        let mut first_expiry: Option<Timestamp> = None;
        let entries = ops.behind(applied, first).filter_map(|(seqno, op)| Some((seqno, op.entry()?)));
        for (seqno, op) in entries {
            state.put(&self.shards, seqno, &op);
            first_expiry = first_expiry.into_iter().chain(op.expires_at).min();
        }
        state.applied = applied.max(ops.last(first));
        state.tidy(&self.shards, &self.snapshots, TIDY_MIN + TIDY_PER_OP * ops.len());
        let leftovers = state.garbage.len();
        drop(state);
        if let Some(at) = first_expiry {
            self.expect(at);
        }
        if let Some(housekeeper) = self.housekeeper.as_ref().filter(|_| leftovers > 0) {
            housekeeper.expect_leftovers();
        }
        Ok(())
    }

    fn truncate(&self, at: Seqno) -> Result<()> {
        let mut state = self.state.lock();
        state.floors.add(at);
        state.applied = state.applied.max(at);
        self.cut.fetch_max(at.0, Ordering::AcqRel);
        drop(state);
        self.expect(Timestamp(0));
        Ok(())
    }

    fn get(&self, key: &[u8], point: ReadPoint) -> Result<Option<Found>> {
        let hash = self.shards.hash(key);
        let slots = soon::read(self.shards.shard(hash));
        let slot = slots.find(hash, |slot| *slot.key == *key);
        let found = slot.and_then(|slot| slot.at(point.seqno)).cloned();
        drop(slots);
        Ok(found.filter(|found| self.shows(found, point)))
    }

    fn changed_since(&self, key: &[u8], since: Seqno) -> Result<bool> {
        let hash = self.shards.hash(key);
        let slots = soon::read(self.shards.shard(hash));
        let newest =
            slots.find(hash, |slot| *slot.key == *key).map_or(Seqno::ZERO, |slot| slot.newest().seqno);
        Ok(newest.max(Seqno(self.cut.load(Ordering::Acquire))) > since)
    }

    fn range_changed_since(&self, _: &KeyRange, since: Seqno) -> Result<bool> {
        Ok(self.applied() > since)
    }

    fn scan(&self, range: KeyRange, direction: Direction, point: ReadPoint) -> Result<Box<dyn Cursor>> {
        let walk = self.walk(&range, direction, point)?;
        Ok(Box::new(HashCursor { shards: Arc::clone(&self.shards), walk, ready: VecDeque::new() }))
    }

    fn count(&self, range: KeyRange, point: ReadPoint) -> Result<Counts> {
        let mut walk = self.walk(&range, Direction::Forward, point)?;
        let mut counts = Counts::default();
        while walk.visit(&self.shards, |_, found| counts.add(found.entry.expires_at)) {}
        Ok(counts)
    }
}

impl Tidy for Hash {
    fn tidy(&self, budget: usize) -> Tidied {
        let mut state = self.state.lock();
        let is_busy = state.tidy(&self.shards, &self.snapshots, budget) == 0;
        let next = state.expiring.next();
        let is_expired = next.is_some_and(|next| next <= self.snapshots.time());
        let is_cut = state.floors.cuts().last().is_some_and(|&cut| cut > state.dropped);
        Tidied {
            is_busy,
            is_held: !state.garbage.is_empty() || is_expired || is_cut,
            next_expiry: next.filter(|_| !is_expired),
        }
    }
}

/// A walk through all shards, a part of one at a time.
#[derive(Debug)]
struct Walk {
    point: ReadPoint,
    floor: Seqno,
    shard: usize,
    part: usize,
    /// The shard has two to the power of this many parts, by its size when the walk came to it. `None`: not there yet.
    bits: Option<u32>,
}

impl Walk {
    /// Shows the live entries of the next part; false when there is none.
    fn visit(&mut self, shards: &Shards, mut show: impl FnMut(&Key, &Found)) -> bool {
        let Some(shard) = shards.shards.get(self.shard) else { return false };
        let slots = soon::read(&shard.slots);
        let bits = *self.bits.get_or_insert_with(|| {
            let parts = (slots.len() / PART_ENTRIES + 1).next_power_of_two();
            parts.trailing_zeros().min(PART_BITS_MAX)
        });
        let mask = (1 << bits) - 1;
        for slot in slots.iter().filter(|slot| (slot.hash >> 32) & mask == self.part as u64) {
            let Some(found) = slot.at(self.point.seqno) else { continue };
            if found.entry.is_live(self.point.now) && found.seqno > self.floor {
                show(&slot.key, found);
            }
        }
        drop(slots);
        self.part += 1;
        if self.part as u64 > mask {
            (self.shard, self.part, self.bits) = (self.shard + 1, 0, None);
        }
        true
    }
}

struct HashCursor {
    shards: Arc<Shards>,
    walk: Walk,
    /// Of the part that was visited last: what did not fit.
    ready: VecDeque<(Key, Found)>,
}

impl Cursor for HashCursor {
    fn fill(&mut self, size: BatchSize, out: &mut Entries) -> Result<()> {
        let mut room = Room::new(size);
        loop {
            while let Some((key, found)) = self.ready.front() {
                if !room.take(key, found) {
                    return Ok(());
                }
                out.push_found(key, found);
                self.ready.pop_front();
            }
            let ready = &mut self.ready;
            if !self.walk.visit(&self.shards, |key, found| ready.push_back((key.clone(), found.clone()))) {
                return Ok(());
            }
        }
    }
}
