//! The btree engine: one keyspace in memory, in key order, with snapshots. It is what an in-memory database uses.

use std::sync::Arc;

use parking_lot::Mutex;

use super::versions::{Floors, TrackGarbage, VersionedMap, found};
use crate::engine::{
    BatchSize, Capabilities, Cursor, Direction, Engine, KeyRange, Persistence, ReadPoint, Scans,
};
use crate::entry::{Found, Key, Op};
use crate::error::Result;
use crate::ids::Seqno;
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
/// engine.apply(Seqno(1), &[op]).unwrap();
/// snapshots.publish(Seqno(1));
/// let point = ReadPoint { seqno: snapshots.visible(), now: Timestamp(0) };
/// assert_eq!(engine.get(b"ada", point).unwrap().unwrap().entry.value, b"1815");
/// ```
#[derive(Debug)]
pub struct Btree {
    snapshots: Arc<Snapshots>,
    map: Arc<VersionedMap>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    applied: Seqno,
    floors: Floors,
    /// The floor up to which everything has been dropped from the map.
    dropped: Seqno,
}

impl Btree {
    /// An empty engine whose versions live as long as `snapshots` needs them.
    pub fn new(snapshots: Arc<Snapshots>) -> Self {
        Self { snapshots, map: Arc::default(), state: Mutex::default() }
    }

    /// How many versions it holds.
    pub fn count(&self) -> usize {
        self.map.count()
    }

    /// What they cost, near enough for a budget.
    pub fn bytes(&self) -> usize {
        self.map.bytes()
    }

    fn floor(&self, seqno: Seqno) -> Seqno {
        self.state.lock().floors.at(seqno)
    }
}

impl Engine for Btree {
    fn capabilities(&self) -> Capabilities {
        Capabilities { scans: Scans::Ordered, persistence: Persistence::Volatile }
    }

    fn apply(&self, first: Seqno, ops: &[Op]) -> Result<()> {
        let horizon = self.snapshots.horizon();
        let mut state = self.state.lock();
        let applied = state.applied;
        let numbered = (first.0..).map(Seqno).zip(ops).filter(|(seqno, _)| *seqno > applied);
        self.map
            .insert(numbered.map(|(seqno, op)| (op.key.clone(), found(seqno, &op.entry))), TrackGarbage::Yes);
        state.applied = applied.max(Seqno((first.0 + ops.len() as u64).saturating_sub(1)));
        let floor = state.floors.settle(horizon);
        if floor > state.dropped {
            self.map.drop_through(floor);
            state.dropped = floor;
        }
        self.map.prune(horizon);
        Ok(())
    }

    fn truncate(&self, at: Seqno) -> Result<()> {
        let mut state = self.state.lock();
        state.floors.add(at);
        state.applied = state.applied.max(at);
        Ok(())
    }

    fn get(&self, key: &[u8], point: ReadPoint) -> Result<Option<Found>> {
        let found = self.map.get(key, point.seqno);
        Ok(found.filter(|found| found.entry.is_live(point.now) && found.seqno > self.floor(point.seqno)))
    }

    fn scan(&self, range: KeyRange, direction: Direction, point: ReadPoint) -> Result<Box<dyn Cursor>> {
        let floor = self.floor(point.seqno);
        Ok(Box::new(BtreeCursor { map: Arc::clone(&self.map), range: Some(range), direction, point, floor }))
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
    fn fill(&mut self, size: BatchSize, out: &mut Vec<(Key, Found)>) -> Result<()> {
        let before = out.len();
        let mut seen = Vec::new();
        while let Some(range) = self.range.take() {
            let more = self.map.collect(&range, self.direction, self.point.seqno, size, &mut seen);
            self.range = match seen.last() {
                Some((last, _)) if more => Some(range.after(last, self.direction)),
                _ => None,
            };
            let live = |found: &Found| found.entry.is_live(self.point.now) && found.seqno > self.floor;
            out.extend(seen.drain(..).filter(|(_, found)| live(found)));
            if out.len() > before {
                break;
            }
        }
        Ok(())
    }
}
