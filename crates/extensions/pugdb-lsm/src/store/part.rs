//! A part of a piece of a merge: a range of its keys, which is merged, written and read again by whichever compaction job
//! has time. The parts of a piece are cut so that each has about as much to read, and recorded together.
//!
//! ```text
//!   piece   |-------------------------------|      one edit of the manifest
//!   parts   |---------|----------|----------|      a job each, tables of their own
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use pugdb_core::env::{Job, Next};
use pugdb_core::{Error, Key, Result};

use super::Store;
use super::merge::{Damage, Merge};
use super::throttle::Hold;
use crate::table::{Access, Peek};
use crate::tree::{LiveTable, Outputs, Tree, sync_contents};

/// Entries merged in one slice.
const SLICE_ENTRIES: usize = 2048;
/// Where a table may be cut: at the ends of so many stretches of it, of like size.
pub(super) const ANCHORS: usize = 64;

/// What the parts of a piece share.
pub(super) struct Crew {
    pub(super) tree: Arc<Tree>,
    pub(super) inputs: Vec<Arc<LiveTable>>,
    /// Nobody waits for the piece any more.
    is_given_up: AtomicBool,
    /// Guards who does what, for moments.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: Vec<Part>,
    /// How many are in somebody's hands.
    working: usize,
    done: Vec<Outputs>,
    damage: Option<Damage>,
}

/// How a piece stands when no part of it waits for a hand.
pub(super) enum Standing {
    /// Others are at it.
    Working,
    /// What all parts have written, in no order.
    Done(Vec<Outputs>),
    Damaged(Damage),
}

/// A range of the keys of a piece.
pub(super) struct Part {
    crew: Arc<Crew>,
    merge: Merge,
    outputs: Outputs,
    stage: Stage,
    /// How much of what it has read and written is counted.
    charged: u64,
}

enum Stage {
    Write,
    Sync,
    Check,
}

impl Crew {
    pub(super) fn new(
        tree: &Arc<Tree>,
        inputs: Vec<Arc<LiveTable>>,
        parts: Vec<(Merge, Outputs)>,
    ) -> Arc<Self> {
        let (tree, is_given_up) = (Arc::clone(tree), AtomicBool::new(false));
        let crew = Arc::new(Self { tree, inputs, is_given_up, state: Mutex::default() });
        let part = |(merge, outputs)| {
            let crew = Arc::clone(&crew);
            Part { crew, merge, outputs, stage: Stage::Write, charged: 0 }
        };
        crew.state.lock().waiting = parts.into_iter().map(part).collect();
        crew
    }

    /// A part that nobody is at.
    pub(super) fn take(&self) -> Option<Part> {
        let mut state = self.state.lock();
        let part = state.waiting.pop()?;
        state.working += 1;
        Some(part)
    }

    /// How it stands, for the one who records it.
    pub(super) fn standing(&self) -> Standing {
        let mut state = self.state.lock();
        match state.damage.take() {
            Some(damage) => Standing::Damaged(damage),
            None if state.working > 0 => Standing::Working,
            None => Standing::Done(std::mem::take(&mut state.done)),
        }
    }

    pub(super) fn is_damaged(&self) -> bool {
        self.state.lock().damage.is_some()
    }

    /// What is in others' hands is laid down at their next slice, and what they have written goes.
    pub(super) fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Release);
        // Outside the lock: files are removed.
        let state = std::mem::take(&mut *self.state.lock());
        drop(state);
    }

    fn put_down(&self, done: Result<Outputs, Damage>) {
        let mut state = self.state.lock();
        state.working = state.working.saturating_sub(1);
        match done {
            Ok(outputs) => state.done.push(outputs),
            Err(damage) => {
                state.damage.get_or_insert(damage);
            }
        }
    }
}

impl Part {
    /// Does a slice, and counts what it moves. `None` when the part is done, or cannot be.
    pub(super) fn step(mut self, store: &Store) -> Option<Self> {
        if self.is_in_vain() {
            return None;
        }
        let sliced = self.slice(store.throttle.slice_bytes());
        // A table that could not be finished counts for nothing any more.
        let moved = self.bytes_moved().max(self.charged);
        store.charge(moved - self.charged);
        self.charged = moved;
        match sliced {
            Ok(true) => Some(self),
            Ok(false) => {
                let Self { crew, outputs, .. } = self;
                crew.put_down(Ok(outputs));
                None
            }
            Err(damage) => {
                self.crew.put_down(Err(damage));
                None
            }
        }
    }

    fn is_in_vain(&self) -> bool {
        self.crew.is_given_up.load(Ordering::Acquire) || self.crew.tree.is_dropped()
    }

    /// What was read and written so far.
    fn bytes_moved(&self) -> u64 {
        let written = self.outputs.bytes_written();
        let read_again = if matches!(self.stage, Stage::Check) { written } else { 0 };
        self.merge.bytes_read() + written + read_again
    }

    /// Moves about so many bytes at most. False when it is done.
    fn slice(&mut self, bytes_max: u64) -> Result<bool, Damage> {
        let without_file = |error: Error| Damage { file: None, error };
        match self.stage {
            Stage::Write => {
                for _ in 0..SLICE_ENTRIES {
                    let Some(Peek { seqno, op, apart }) = self.merge.next()? else {
                        self.stage = Stage::Sync;
                        break;
                    };
                    self.outputs.add(seqno, &op, apart).map_err(without_file)?;
                    if bytes_max < u64::MAX && self.bytes_moved() >= self.charged.saturating_add(bytes_max) {
                        break;
                    }
                }
            }
            Stage::Sync => {
                self.outputs.finish().map_err(without_file)?;
                sync_contents([&mut self.outputs].into_iter()).map_err(without_file)?;
                self.stage = Stage::Check;
            }
            Stage::Check => {
                let inputs = &self.crew.inputs;
                self.outputs.check(|key| warmth(inputs, key)).map_err(without_file)?;
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// For whom a block is kept that was written anew: its place in the cache is that of those it was made of, as far as can be
/// told from one of its keys.
fn warmth(inputs: &[Arc<LiveTable>], key: &[u8]) -> Access {
    let here = inputs.iter().filter(|live| live.bounds().contains(key)).filter_map(|live| live.if_open());
    let (cached, all) =
        here.fold((0, 0), |(cached, all), table| (cached + usize::from(table.is_cached(key)), all + 1));
    if cached * 2 > all { Access::Point } else { Access::Spare }
}

/// Where a piece is cut into so many parts, of which each has about as many bytes to read: `anchors` are keys of it, with
/// the bytes between each and the one before in its table.
pub(super) fn cuts(mut anchors: Vec<(Key, u64)>, parts: usize) -> Vec<Key> {
    anchors.sort_unstable();
    let all: u64 = anchors.iter().map(|(_, bytes)| bytes).sum();
    let (mut cuts, mut passed) = (Vec::new(), 0);
    for (key, bytes) in anchors {
        passed += bytes;
        let wanted = all / parts as u64 * (cuts.len() as u64 + 1);
        // Of a key all versions are in one part, and no part is empty of anchors.
        if passed >= wanted && cuts.len() + 1 < parts && cuts.last() != Some(&key) {
            cuts.push(key);
        }
    }
    cuts
}

/// A pair of hands: takes parts of pieces that the compaction job has cut.
pub(super) struct HandJob {
    store: Arc<Store>,
    part: Option<Part>,
    hold: Hold,
}

impl HandJob {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { store, part: None, hold: Hold::default() }
    }

    fn slice(&mut self) -> Next {
        if let Some(next) = self.store.ended() {
            self.part = None;
            return next;
        }
        let waiting = || self.store.called.lock().upgrade().and_then(|crew| crew.take());
        let Some(part) = self.part.take().or_else(waiting) else { return Next::Wait };
        if !part.is_in_vain()
            && let Some(next) = self.store.hold(&mut self.hold)
        {
            self.part = Some(part);
            return next;
        }
        self.part = part.step(&self.store);
        if self.part.is_none() {
            self.store.counters.parts_beside.fetch_add(1, Ordering::Relaxed);
            self.store.wake_compaction();
        }
        Next::Again
    }
}

impl Job for HandJob {
    fn run(&mut self) -> Next {
        let store = Arc::clone(&self.store);
        store.guarded(|| self.slice())
    }
}

impl Store {
    /// There is a piece for all hands.
    pub(super) fn call_hands(&self, crew: &Arc<Crew>) {
        *self.called.lock() = Arc::downgrade(crew);
        self.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anchors(of: &[(&str, u64)]) -> Vec<(Key, u64)> {
        of.iter().map(|&(key, bytes)| (Key::copy(key.as_bytes()).unwrap(), bytes)).collect()
    }

    fn names(cuts: &[Key]) -> Vec<&str> {
        cuts.iter().map(|key| std::str::from_utf8(key).unwrap()).collect()
    }

    #[test]
    fn parts_have_as_much_to_read_as_each_other() {
        let of_two_tables = anchors(&[("b", 10), ("d", 10), ("f", 10), ("h", 10), ("a", 10), ("c", 10)]);
        assert_eq!(names(&cuts(of_two_tables.clone(), 3)), ["b", "d"]);
        assert_eq!(names(&cuts(of_two_tables.clone(), 2)), ["c"]);
        assert_eq!(names(&cuts(of_two_tables, 1)), [""; 0]);
    }

    #[test]
    fn a_key_is_in_one_part_however_much_there_is_of_it() {
        assert_eq!(
            names(&cuts(anchors(&[("a", 1), ("b", 90), ("b", 90), ("b", 90), ("c", 1)]), 4)),
            ["b", "c"]
        );
        assert_eq!(names(&cuts(anchors(&[("a", 1)]), 4)), ["a"]);
        assert_eq!(names(&cuts(Vec::new(), 4)), [""; 0]);
    }
}
