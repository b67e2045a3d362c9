//! The hash engine: one keyspace in memory for point operations, without order, with snapshots.
//!
//! Keys are spread over shards by a hash that is computed once and seeded for each engine. A shard is locked for one
//! operation, or for a part of it when it is walked, so readers of other keys are never held up.
//!
//! Walks go by shard, and within a shard by a part of the hash: an entry's place follows from its key alone, whatever
//! is inserted and however often the shard grows meanwhile.

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
use super::slot::Slot;
use super::versions::{Floors, found};
use crate::engine::{
    BatchSize, Capabilities, Counts, Cursor, Direction, Engine, KeyRange, Persistence, ReadPoint, Room, Scans,
};
use crate::entry::{Entry, EntryKind, Found, Key, Op, Timestamp};
use crate::error::{Error, Result};
use crate::ids::Seqno;
use crate::snapshots::Snapshots;

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
/// use pugdb_core::engine::{Direction, Engine, KeyRange, ReadPoint};
/// use pugdb_core::memory::Hash;
/// use pugdb_core::snapshots::Snapshots;
/// use pugdb_core::{Entry, ErrorKind, Key, Op, Seqno, Timestamp, Value};
///
/// let snapshots = Snapshots::new(Seqno::ZERO);
/// let engine = Hash::new(snapshots.clone(), 4711);
/// let op = Op { key: Key::copy(b"ada").unwrap(), entry: Entry::put(Value::new(b"1815".as_slice()).unwrap()) };
/// engine.apply(Seqno(1), &[op]).unwrap();
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

    /// How many keys there are, near enough: those that a delete or an expiry has not yet rid it of are counted.
    pub fn approximate_count(&self) -> usize {
        let state = self.state.lock();
        if state.floors.cuts().last().is_some_and(|&cut| cut >= state.applied) { 0 } else { state.keys }
    }

    /// What its entries cost, near enough for a budget.
    pub fn bytes(&self) -> usize {
        self.state.lock().bytes
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
            return Err(Error::invalid(
                "the hash engine has no order: it scans the whole keyspace, forward, and nothing else; choose the \
                 btree or the lsm engine for ranges, prefixes and scans in reverse",
            ));
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

    fn put(&mut self, shards: &Shards, seqno: Seqno, op: &Op) {
        let hash = shards.hash(&op.key);
        let found = found(seqno, &op.entry);
        let cost = op.cost_bytes();
        let mut slots = shards.shard(hash).write();
        match slots.entry(hash, |slot| slot.key == op.key, |slot| slot.hash) {
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
                place.insert(Slot::new(hash, op.key.clone(), found));
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
        let mut slots = shards.shard(hash).write();
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
            let mut slots = shards.shard(hash).write();
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
        let mut slots = shard.slots.write();
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

impl Engine for Hash {
    fn capabilities(&self) -> Capabilities {
        Capabilities { scans: Scans::Unordered, persistence: Persistence::Volatile }
    }

    fn apply(&self, first: Seqno, ops: &[Op]) -> Result<()> {
        let mut state = self.state.lock();
        let applied = state.applied;
        let mut first_expiry: Option<Timestamp> = None;
        for (seqno, op) in (first.0..).map(Seqno).zip(ops).filter(|(seqno, _)| *seqno > applied) {
            state.put(&self.shards, seqno, op);
            let expires_at = op.entry.expires_at;
            first_expiry = first_expiry.into_iter().chain(expires_at).min();
        }
        state.applied = applied.max(Seqno((first.0 + ops.len() as u64).saturating_sub(1)));
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
        let slots = self.shards.shard(hash).read();
        let slot = slots.find(hash, |slot| *slot.key == *key);
        let found = slot.and_then(|slot| slot.at(point.seqno)).cloned();
        drop(slots);
        Ok(found.filter(|found| self.shows(found, point)))
    }

    fn scan(&self, range: KeyRange, direction: Direction, point: ReadPoint) -> Result<Box<dyn Cursor>> {
        let walk = self.walk(&range, direction, point)?;
        Ok(Box::new(HashCursor { shards: Arc::clone(&self.shards), walk, ready: VecDeque::new() }))
    }

    fn count(&self, range: KeyRange, point: ReadPoint) -> Result<Counts> {
        let mut walk = self.walk(&range, Direction::Forward, point)?;
        let mut counts = Counts::default();
        while walk.visit(&self.shards, |_, found| counts.add(found)) {}
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
        let slots = shard.slots.read();
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
    fn fill(&mut self, size: BatchSize, out: &mut Vec<(Key, Found)>) -> Result<()> {
        let mut room = Room::new(size);
        loop {
            while let Some((key, found)) = self.ready.front() {
                if !room.take(key, found) {
                    return Ok(());
                }
                out.extend(self.ready.pop_front());
            }
            let ready = &mut self.ready;
            if !self.walk.visit(&self.shards, |key, found| ready.push_back((key.clone(), found.clone()))) {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{EntryOptions, Value};

    /// An engine with the one who writes to it.
    struct Writer {
        snapshots: Arc<Snapshots>,
        engine: Hash,
        last: Seqno,
    }

    impl Writer {
        fn new() -> Self {
            let snapshots = Snapshots::new(Seqno::ZERO);
            Self { engine: Hash::new(Arc::clone(&snapshots), 7), snapshots, last: Seqno::ZERO }
        }

        fn apply(&mut self, ops: impl IntoIterator<Item = (u32, Entry)>) {
            let op = |(number, entry)| Op { key: key(number), entry };
            let ops: Vec<Op> = ops.into_iter().map(op).collect();
            self.engine.apply(self.last.plus(1), &ops).unwrap();
            self.last = self.last.plus(ops.len() as u64);
            self.snapshots.publish(self.last);
        }

        fn point(&self) -> ReadPoint {
            ReadPoint { seqno: self.last, now: self.snapshots.time() }
        }

        /// Keys, versions, bytes, leftovers and entries that expire.
        fn sizes(&self) -> [usize; 5] {
            let state = self.engine.state.lock();
            let expiring = usize::from(state.expiring.next().is_some());
            [state.keys, state.versions, state.bytes, state.garbage.len(), expiring]
        }

        fn capacity(&self) -> usize {
            self.engine.shards.shards.iter().map(|shard| shard.slots.read().capacity()).sum()
        }

        fn tidy(&self) {
            while self.engine.tidy(1000).is_busy {}
        }
    }

    fn key(number: u32) -> Key {
        Key::copy(&number.to_be_bytes()).unwrap()
    }

    fn put() -> Entry {
        Entry::put(Value::new(vec![1; 100]).unwrap())
    }

    fn brief(expires_at: u64) -> Entry {
        let options = EntryOptions { expires_at: Some(Timestamp(expires_at)), ..EntryOptions::default() };
        Entry::put_with(Value::new(vec![1; 100]).unwrap(), options)
    }

    #[test]
    fn deleted_keys_give_all_of_their_memory_back() {
        let mut writer = Writer::new();
        writer.apply((0..100_000).map(|number| (number, put())));
        let full = writer.capacity();
        let held = writer.snapshots.take();
        writer.apply((0..100_000).map(|number| (number, Entry::delete())));
        writer.tidy();
        assert_eq!(writer.sizes()[..2], [100_000, 200_000], "a snapshot needs them");
        drop(held);
        writer.tidy();
        assert_eq!(writer.sizes(), [0; 5]);
        assert!(writer.capacity() < full / 8, "{} of {full}", writer.capacity());
        writer.apply([(1, Entry::delete())]);
        assert_eq!(writer.sizes(), [0; 5], "a delete of nothing leaves nothing");
    }

    #[test]
    fn a_key_that_is_written_again_and_again_keeps_two_versions_at_most() {
        let mut writer = Writer::new();
        for _ in 0..1000 {
            writer.apply([(1, put())]);
            assert!(writer.sizes()[1] <= 2);
        }
        writer.tidy();
        assert_eq!(writer.sizes()[..2], [1, 1]);
    }

    #[test]
    fn a_truncation_gives_memory_back_without_another_write() {
        let mut writer = Writer::new();
        writer.apply((0..10_000).map(|number| (number, brief(1_000_000))));
        writer.last = writer.last.plus(1);
        writer.engine.truncate(writer.last).unwrap();
        writer.snapshots.publish(writer.last);
        assert_eq!(writer.engine.approximate_count(), 0);
        writer.tidy();
        assert_eq!(writer.sizes(), [0; 5]);
    }

    #[test]
    fn expired_entries_give_memory_back_when_no_snapshot_judges_before() {
        let mut writer = Writer::new();
        writer.snapshots.advance(Timestamp(1000));
        writer.apply((0..1000).map(|number| (number, brief(2000 + u64::from(number)))));
        writer.apply([(1, brief(1999)), (2, put()), (3, brief(9000))]);
        let early = writer.snapshots.take();
        writer.snapshots.advance(Timestamp(5000));
        writer.tidy();
        let at = |now, number: u32| {
            let point = ReadPoint { seqno: writer.last, now: Timestamp(now) };
            writer.engine.get(&number.to_be_bytes(), point).unwrap().is_some()
        };
        assert!((0..1000).all(|number| at(1000, number)), "the snapshot reads at its own moment");
        assert_eq!((at(5000, 1), at(5000, 2), at(5000, 3), at(5000, 4)), (false, true, true, false));
        drop(early);
        writer.tidy();
        assert_eq!(writer.sizes()[..2], [2, 2]);
        writer.snapshots.advance(Timestamp(9000));
        writer.tidy();
        assert_eq!((writer.sizes()[..2].to_vec(), writer.sizes()[3..].to_vec()), (vec![1, 1], vec![0, 0]));
    }

    #[test]
    fn an_expired_entry_that_hides_an_older_version_goes_with_it_and_not_before() {
        let mut writer = Writer::new();
        writer.snapshots.advance(Timestamp(100));
        writer.apply([(1, put())]);
        let old = writer.snapshots.take();
        writer.apply([(1, brief(50))]);
        writer.tidy();
        let at = |seqno| writer.engine.get(&key(1), ReadPoint { seqno, now: Timestamp(100) }).unwrap();
        assert!(at(old.seqno()).is_some() && at(writer.last).is_none());
        assert_eq!(writer.sizes()[..2], [1, 2]);
        drop(old);
        writer.tidy();
        assert_eq!(writer.sizes(), [0; 5]);
    }

    #[test]
    fn a_shard_of_many_parts_is_walked_once_whatever_is_inserted_meanwhile() {
        let mut writer = Writer::new();
        let many = u32::try_from(SHARDS * PART_ENTRIES * 3).unwrap();
        writer.apply((0..many).map(|number| (number, Entry::put(Value::default()))));
        let guard = writer.snapshots.take();
        let mut cursor = writer.engine.scan(KeyRange::all(), Direction::Forward, writer.point()).unwrap();
        let (mut seen, mut batch) = (vec![false; many as usize], Vec::new());
        let mut next = many;
        loop {
            cursor.fill(BatchSize { entries: 10_000, bytes: 1 << 20 }, &mut batch).unwrap();
            if batch.is_empty() {
                break;
            }
            for (key, _) in batch.drain(..) {
                let number = u32::from_be_bytes((*key).try_into().unwrap());
                assert!(!std::mem::replace(&mut seen[number as usize], true), "a key comes once");
            }
            writer.apply((next..next + 5000).map(|number| (number, Entry::put(Value::default()))));
            next += 5000;
        }
        assert!(seen.iter().all(|seen| *seen));
        drop(guard);
        let counts = writer.engine.count(KeyRange::all(), writer.point()).unwrap();
        assert_eq!((counts.keys, counts.expiring), (u64::from(next), 0));
    }
}
