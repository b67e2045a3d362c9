//! The btree engine: one keyspace in memory, in key order, with snapshots. It is what an in-memory database uses.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::housekeeper::{Housekeeper, Tidied, Tidy};
use super::refuse_operands;
use super::versions::{Floors, Leftovers, VersionedMap};
use crate::engine::{
    BatchSize, Capabilities, Counts, Cursor, Direction, Engine, Entries, KeyRange, Operands, Persistence,
    ReadPoint, Scans,
};
use crate::entry::{Found, Timestamp};
use crate::error::Result;
use crate::ids::Seqno;
use crate::ops::Ops;
use crate::snapshots::Snapshots;

/// An ordered engine in memory.
///
/// ```
/// use pugdb_core::engine::{Engine, ReadPoint};
/// use pugdb_core::memory::Btree;
/// use pugdb_core::snapshots::Snapshots;
/// use pugdb_core::{Entry, Key, Op, Seqno, Timestamp, Value};
///
/// let snapshots = Snapshots::new(Seqno::ZERO);
/// let engine = Btree::new(snapshots.clone());
/// let op = Op { key: Key::copy(b"ada").unwrap(), entry: Entry::put(Value::new(b"1815".as_slice()).unwrap()) };
/// engine.apply(Seqno(1), &[op].into_iter().collect()).unwrap();
/// snapshots.publish(Seqno(1));
/// let point = ReadPoint { seqno: snapshots.visible(), now: Timestamp(0) };
/// assert_eq!(engine.get(b"ada", point).unwrap().unwrap().entry.value, b"1815");
/// ```
#[derive(Debug)]
pub struct Btree {
    snapshots: Arc<Snapshots>,
    housekeeper: Option<Arc<Housekeeper>>,
    map: Arc<VersionedMap>,
    /// The newest truncation; 0 when there was none, and then no reader asks the state, which a writer holds.
    cut: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    applied: Seqno,
    floors: Floors,
    /// The floor up to which everything has been dropped from the map.
    dropped: Seqno,
}

/// What an apply gives back beside what its own operations leave behind.
const TIDY_MIN: usize = 64;
/// Of each of its operations: more than it can leave behind, so that nothing piles up.
const TIDY_PER_OP: usize = 4;
/// Keys that are counted at a time.
const COUNT_KEYS: usize = 4096;

impl Btree {
    /// An empty engine whose versions live as long as `snapshots` needs them.
    pub fn new(snapshots: Arc<Snapshots>) -> Self {
        Self {
            snapshots,
            housekeeper: None,
            map: Arc::default(),
            cut: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    /// The same, looked after by `housekeeper` when no writes come.
    pub fn watched(snapshots: Arc<Snapshots>, housekeeper: &Arc<Housekeeper>) -> Arc<Self> {
        let engine = Arc::new(Self { housekeeper: Some(Arc::clone(housekeeper)), ..Self::new(snapshots) });
        housekeeper.watch(Arc::downgrade(&engine) as _);
        engine
    }

    /// How many versions it holds.
    pub fn count_versions(&self) -> usize {
        self.map.count()
    }

    /// How many entries there are, near enough: those that a delete or an expiry has not yet rid it of are counted.
    pub fn approximate_counts(&self) -> Counts {
        let state = self.state.lock();
        if state.floors.hide(state.applied) { Counts::default() } else { self.map.approximate_counts() }
    }

    /// What its entries cost, near enough for a budget.
    pub fn bytes(&self) -> usize {
        self.map.bytes()
    }

    /// The same without what a truncation hides, when that is everything.
    pub fn shown_bytes(&self) -> usize {
        let state = self.state.lock();
        if state.floors.hide(state.applied) { 0 } else { self.map.bytes() }
    }

    /// The newest operation that was applied.
    pub fn applied(&self) -> Seqno {
        self.state.lock().applied
    }

    fn floor(&self, seqno: Seqno) -> Seqno {
        if self.cut.load(Ordering::Acquire) == 0 {
            return Seqno::ZERO;
        }
        self.state.lock().floors.at(seqno)
    }

    fn expect(&self, at: Timestamp) {
        if let Some(housekeeper) = &self.housekeeper {
            housekeeper.expect(at);
        }
    }

    /// Gives back what nobody can read any more, when `left` is what the map has left to do at `horizon`.
    fn tidy(&self, state: &mut State, horizon: Seqno, mut left: Leftovers) -> Leftovers {
        let floor = state.floors.settle(horizon);
        if floor > state.dropped {
            self.map.drop_through(floor);
            state.dropped = floor;
            left = Leftovers { budget: left.budget, ..self.map.prune(horizon, 0) };
        }
        // The horizon of times takes a lock that every reader takes: only when something may have expired.
        if left.budget > 0 && left.next_expiry.is_some_and(|next| next <= self.snapshots.time()) {
            return self.map.expire(self.snapshots.expiry_horizon(), horizon, state.applied, left.budget);
        }
        left
    }
}

impl Engine for Btree {
    fn capabilities(&self) -> Capabilities {
        let (scans, persistence) = (Scans::Ordered, Persistence::Volatile);
        Capabilities { scans, persistence, operands: Operands::Refused }
    }

    fn apply(&self, first: Seqno, ops: &Ops) -> Result<()> {
        refuse_operands(ops)?;
        let mut state = self.state.lock();
        let (applied, horizon) = (state.applied, self.snapshots.horizon());
        let left = self.map.apply(ops.behind(applied, first), horizon, TIDY_MIN + TIDY_PER_OP * ops.len());
        state.applied = applied.max(ops.last(first));
        let left = self.tidy(&mut state, horizon, left);
        drop(state);
        if let Some(at) = ops.iter().filter_map(|op| op.expires_at()).min() {
            self.expect(at);
        }
        if let Some(housekeeper) = self.housekeeper.as_ref().filter(|_| left.garbage > 0) {
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
        let found = self.map.get(key, point.seqno);
        Ok(found.filter(|found| found.entry.is_live(point.now) && found.seqno > self.floor(point.seqno)))
    }

    fn changed_since(&self, key: &[u8], since: Seqno) -> Result<bool> {
        let newest = self.map.get(key, Seqno::MAX).map_or(Seqno::ZERO, |found| found.seqno);
        Ok(newest.max(self.floor(Seqno::MAX)) > since)
    }

    fn range_changed_since(&self, range: &KeyRange, since: Seqno) -> Result<bool> {
        Ok(self.applied() > since && (self.floor(Seqno::MAX) > since || self.map.has_newer(range, since)))
    }

    fn scan(&self, range: KeyRange, direction: Direction, point: ReadPoint) -> Result<Box<dyn Cursor>> {
        let floor = self.floor(point.seqno);
        Ok(Box::new(BtreeCursor { map: Arc::clone(&self.map), range: Some(range), direction, point, floor }))
    }

    fn count(&self, range: KeyRange, point: ReadPoint) -> Result<Counts> {
        let floor = self.floor(point.seqno);
        let (mut counts, mut left) = (Counts::default(), range);
        while let Some(last) = self.map.count_live(&left, point, floor, COUNT_KEYS, &mut counts) {
            left = left.after(&last, Direction::Forward);
        }
        Ok(counts)
    }
}

impl Tidy for Btree {
    fn tidy(&self, budget: usize) -> Tidied {
        let mut state = self.state.lock();
        let horizon = self.snapshots.horizon();
        let left = Self::tidy(self, &mut state, horizon, self.map.prune(horizon, budget));
        let is_expired = left.next_expiry.is_some_and(|next| next <= self.snapshots.time());
        let is_cut = state.floors.cuts().last().is_some_and(|&cut| cut > state.dropped);
        Tidied {
            is_busy: left.budget == 0,
            is_held: left.garbage > 0 || is_expired || is_cut,
            next_expiry: left.next_expiry.filter(|_| !is_expired),
        }
    }
}

struct BtreeCursor {
    map: Arc<VersionedMap>,
    /// What is left to visit; `None` at the end.
    range: Option<KeyRange>,
    direction: Direction,
    point: ReadPoint,
    floor: Seqno,
}

impl Cursor for BtreeCursor {
    fn fill(&mut self, size: BatchSize, out: &mut Entries) -> Result<()> {
        let before = out.len();
        let mut seen = Vec::new();
        while let Some(range) = self.range.take() {
            let more = self.map.collect(&range, self.direction, self.point.seqno, size, &mut seen);
            self.range = match seen.last() {
                Some((last, _)) if more => Some(range.after(last, self.direction)),
                _ => None,
            };
            let live = |found: &Found| found.entry.is_live(self.point.now) && found.seqno > self.floor;
            for (key, found) in seen.drain(..).filter(|(_, found)| live(found)) {
                out.push_found(&key, &found);
            }
            if out.len() > before {
                break;
            }
        }
        Ok(())
    }
}
