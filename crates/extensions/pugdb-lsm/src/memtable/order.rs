//! The keys in order, prepared while they come: a short tail as it grew, and sorted runs of ever larger size before it.
//!
//! The writer sorts a tail of 64 and merges runs up to a few thousand keys, some microseconds each. A job in the background
//! merges the larger ones. A scan merges what it finds: a dozen runs when the job keeps up, and never so many that it
//! could not begin within a millisecond.

#![expect(unsafe_code, reason = "items lead to cells that the writer has published")]

use std::cmp::Ordering;
use std::ops::{Bound, Range};
use std::sync::Arc;

use parking_lot::RwLock;
use pugdb_core::engine::{Direction, KeyRange};

use super::cells::{Item, head_of};

/// Keys that wait unsorted: what a scan may have to sort by itself, in about a microsecond.
const TAIL_ITEMS: usize = 64;
/// The writer merges up to here, which takes it some 30 microseconds once in so many keys.
const WRITER_MERGE_ITEMS: usize = 4096;

/// A scan asks for the cells of keys so many keys before it comes to them.
const KEYS_AHEAD: usize = 4;

/// Sorted keys.
type Run = Arc<[Item]>;

/// The keys of a memtable, each once. Its methods may only be used with items of one arena that lives as long as this.
pub(super) struct KeyOrder {
    /// Guards what scans begin with. Held for a copy, never for a sort or a merge.
    state: RwLock<State>,
}

struct State {
    /// Oldest and largest first.
    runs: Arc<Vec<Run>>,
    tail: Vec<Item>,
    /// The tail in order, when a scan has asked since it last grew.
    sorted_tail: Option<Run>,
}

impl KeyOrder {
    pub(super) fn new() -> Self {
        Self { state: RwLock::new(State { runs: Arc::default(), tail: Vec::new(), sorted_tail: None }) }
    }

    /// Adds a key that is not there. True when it has left the background something to merge. Called by one writer at a
    /// time.
    pub(super) fn push(&self, item: Item) -> bool {
        let mut state = self.state.write();
        state.sorted_tail = None;
        state.tail.push(item);
        if state.tail.len() < TAIL_ITEMS {
            return false;
        }
        let (tail, runs) = (state.tail.clone(), Arc::clone(&state.runs));
        // Scans see the tail as it is while it is sorted.
        drop(state);
        let mut run = sorted(tail);
        // Smaller ones only: those the background leaves alone.
        let small = runs.iter().rev().take_while(|run| run.len() < WRITER_MERGE_ITEMS);
        let mut merged_runs = 0;
        for last in small {
            if last.len() > run.len() || run.len() >= WRITER_MERGE_ITEMS {
                break;
            }
            run = merged(last, &run);
            merged_runs += 1;
        }
        let is_large = run.len() >= WRITER_MERGE_ITEMS;
        let mut state = self.state.write();
        let runs = Arc::make_mut(&mut state.runs);
        runs.truncate(runs.len() - merged_runs);
        runs.push(run);
        // A scan may have sorted the full tail meanwhile: its keys are in the run now.
        (state.tail, state.sorted_tail) = (Vec::new(), None);
        is_large && pair_to_merge(&state.runs).is_some()
    }

    /// Merges two large runs of like size. False when there are none.
    pub(super) fn merge_step(&self) -> bool {
        let pair = {
            let state = self.state.read();
            pair_to_merge(&state.runs).map(|at| [at, at + 1].map(|at| Arc::clone(&state.runs[at])))
        };
        let Some([older, newer]) = pair else { return false };
        let run = merged(&older, &newer);
        let mut state = self.state.write();
        let runs = Arc::make_mut(&mut state.runs);
        // Others may have merged meanwhile, a flush for one. Then this was for nothing.
        if let Some(at) =
            runs.windows(2).position(|pair| Arc::ptr_eq(&pair[0], &older) && Arc::ptr_eq(&pair[1], &newer))
        {
            runs[at] = run;
            runs.remove(at + 1);
        }
        true
    }

    /// Merges everything, for a memtable that takes no more.
    pub(super) fn merge_all(&self) {
        let (runs, tail) = self.snapshot();
        if runs.len() <= 1 && tail.is_empty() {
            return;
        }
        let mut runs: Vec<Run> = runs.iter().cloned().chain([tail]).collect();
        // The smallest two first, so that no key is moved more often than it must.
        while runs.len() > 1 {
            runs.sort_unstable_by_key(|run| std::cmp::Reverse(run.len()));
            if let (Some(one), Some(other)) = (runs.pop(), runs.pop()) {
                runs.push(merged(&one, &other));
            }
        }
        let mut state = self.state.write();
        state.runs = Arc::new(runs);
        (state.tail, state.sorted_tail) = (Vec::new(), None);
    }

    fn snapshot(&self) -> (Arc<Vec<Run>>, Run) {
        let (runs, tail) = {
            let state = self.state.read();
            if let Some(tail) = &state.sorted_tail {
                return (Arc::clone(&state.runs), Arc::clone(tail));
            }
            (Arc::clone(&state.runs), state.tail.clone())
        };
        let length = tail.len();
        let tail = sorted(tail);
        let mut state = self.state.write();
        // A tail of the same length behind the same runs is the same tail.
        if state.tail.len() == length && Arc::ptr_eq(&state.runs, &runs) {
            state.sorted_tail = Some(Arc::clone(&tail));
        }
        (runs, tail)
    }

    /// The keys of a range as they are now.
    pub(super) fn scan(&self, range: &KeyRange, direction: Direction) -> KeyScan {
        let (runs, tail) = self.snapshot();
        let sources = runs.iter().chain([&tail]).filter_map(|run| {
            let within = within(run, range);
            (within.start < within.end).then(|| Source { run: Arc::clone(run), left: within })
        });
        KeyScan { sources: sources.collect(), direction }
    }
}

/// The first of the large runs that is not much larger than the one behind it.
fn pair_to_merge(runs: &[Run]) -> Option<usize> {
    let is_pair = |pair: &[Run]| pair[1].len() >= WRITER_MERGE_ITEMS && pair[1].len() * 2 > pair[0].len();
    runs.windows(2).position(is_pair)
}

fn sorted(mut items: Vec<Item>) -> Run {
    // SAFETY: the cells of these items live as long as the order.
    items.sort_unstable_by(|one, other| unsafe { one.cmp(*other) });
    items.into()
}

fn merged(one: &[Item], other: &[Item]) -> Run {
    let mut items = Vec::with_capacity(one.len() + other.len());
    let (mut one, mut other) = (one.iter().copied().peekable(), other.iter().copied().peekable());
    while let (Some(left), Some(right)) = (one.peek(), other.peek()) {
        // SAFETY: the cells of these items live as long as the order.
        let order = unsafe { left.cmp(*right) };
        items.extend(if order == Ordering::Less { one.next() } else { other.next() });
    }
    items.extend(one);
    items.extend(other);
    items.into()
}

/// The places of the keys in a range.
fn within(run: &[Item], range: &KeyRange) -> Range<usize> {
    let before = |key: &[u8], or_equal: bool| {
        let head = head_of(key);
        run.partition_point(|item| {
            // SAFETY: the cells of these items live as long as the order.
            match unsafe { item.cmp_key(head, key) } {
                Ordering::Less => true,
                Ordering::Equal => or_equal,
                Ordering::Greater => false,
            }
        })
    };
    let start = match &range.start {
        Bound::Included(key) => before(key, false),
        Bound::Excluded(key) => before(key, true),
        Bound::Unbounded => 0,
    };
    let end = match &range.end {
        Bound::Included(key) => before(key, true),
        Bound::Excluded(key) => before(key, false),
        Bound::Unbounded => run.len(),
    };
    start..end.max(start)
}

/// Keys in order, from several runs.
pub(super) struct KeyScan {
    sources: Vec<Source>,
    direction: Direction,
}

struct Source {
    run: Run,
    /// Not empty.
    left: Range<usize>,
}

impl Source {
    fn peek(&self, direction: Direction) -> Item {
        match direction {
            Direction::Forward => self.run[self.left.start],
            Direction::Reverse => self.run[self.left.end - 1],
        }
    }
}

impl KeyScan {
    /// One without keys.
    pub(super) fn over() -> Self {
        Self { sources: Vec::new(), direction: Direction::Forward }
    }

    /// The next key. Its cell lives as long as the order.
    pub(super) fn next(&mut self) -> Option<Item> {
        let mut best: Option<(usize, Item)> = None;
        for (number, source) in self.sources.iter().enumerate() {
            let item = source.peek(self.direction);
            let is_better = best.is_none_or(|(_, best)| {
                // SAFETY: the cells of these items live as long as the order.
                let order = unsafe { item.cmp(best) };
                order == if self.direction == Direction::Forward { Ordering::Less } else { Ordering::Greater }
            });
            if is_better {
                best = Some((number, item));
            }
        }
        let (number, item) = best?;
        let left = &mut self.sources[number].left;
        let ahead = match self.direction {
            Direction::Forward => {
                left.start += 1;
                left.start.checked_add(KEYS_AHEAD)
            }
            Direction::Reverse => {
                left.end -= 1;
                left.end.checked_sub(1 + KEYS_AHEAD)
            }
        };
        let source = &self.sources[number];
        if let Some(item) = ahead.and_then(|ahead| source.run.get(ahead)) {
            item.prefetch();
        }
        if source.left.is_empty() {
            self.sources.swap_remove(number);
        }
        Some(item)
    }
}
