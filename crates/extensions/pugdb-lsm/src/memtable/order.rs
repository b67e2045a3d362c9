//! The keys in order, prepared while they come: a short tail as it grew, and sorted runs of ever larger size before it.
//!
//! The writer sorts a tail of 64 and merges runs up to a few thousand keys, some microseconds each. A job in the background
//! merges the larger ones. A scan merges what it finds: a dozen runs when the job keeps up, and never so many that it
//! could not begin within a millisecond. The more scans there are, the fewer runs: when they have paid as much for two runs as it
//! costs to make one of them, one is made.

#![expect(unsafe_code, reason = "items lead to cells that the writer has published")]

use std::cmp::Ordering;
use std::ops::{Bound, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering as Memory};

use parking_lot::RwLock;
use pugdb_core::engine::{Direction, KeyRange};

use super::cells::{Head, Item, head_of};

/// Keys that wait unsorted: what a scan may have to sort by itself, in about a microsecond.
const TAIL_ITEMS: usize = 64;
/// The writer merges up to here, which takes it some 30 microseconds once in so many keys.
const WRITER_MERGE_ITEMS: usize = 4096;

/// A scan pays for each run that it meets about as much as it costs to merge so many keys.
const SCAN_COST_ITEMS: usize = 10;
/// A scan asks for the cells of keys so many keys before it comes to them.
const KEYS_AHEAD: usize = 4;
/// A search looks at every so manieth key first: those fit into the processor's cache where all do not.
const SAMPLED_ITEMS: usize = 64;

/// Sorted keys.
struct Run {
    items: Box<[Item]>,
    /// The heads of every 64th key, from the first one on.
    samples: Box<[Head]>,
}

/// The keys of a memtable, each once. Its methods may only be used with items of one arena that lives as long as this.
pub(super) struct KeyOrder {
    /// Scans that met several runs since two were last merged for them.
    scans: AtomicUsize,
    /// They have paid for a merge that is left to the background.
    is_asked: AtomicBool,
    /// Guards what scans begin with. Held for a copy, never for a sort or a merge.
    state: RwLock<State>,
}

struct State {
    /// Oldest and largest first.
    runs: Arc<Vec<Arc<Run>>>,
    tail: Vec<Item>,
    /// The tail in order, when a scan has asked since it last grew.
    sorted_tail: Option<Arc<Run>>,
}

impl KeyOrder {
    pub(super) fn new() -> Self {
        let state = State { runs: Arc::default(), tail: Vec::new(), sorted_tail: None };
        Self { scans: AtomicUsize::new(0), is_asked: AtomicBool::new(false), state: RwLock::new(state) }
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
        let own = sorted(tail);
        let mut run = Arc::clone(&own);
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
        // A scan may have merged some of them meanwhile. Then this was for nothing.
        if is_same(&runs, &state.runs) {
            let runs = Arc::make_mut(&mut state.runs);
            runs.truncate(runs.len() - merged_runs);
            runs.push(run);
        } else {
            Arc::make_mut(&mut state.runs).push(own);
        }
        // A scan may have sorted the full tail meanwhile: its keys are in the run now.
        (state.tail, state.sorted_tail) = (Vec::new(), None);
        is_large && pair_to_merge(&state.runs).is_some()
    }

    /// Merges two large runs of like size, or two that scans have met often enough. False when there are none.
    pub(super) fn merge_step(&self) -> bool {
        self.is_asked.store(false, Memory::Relaxed);
        let runs = Arc::clone(&self.state.read().runs);
        let of_scans = pair_for_scans(&runs, self.scans.load(Memory::Relaxed));
        match pair_to_merge(&runs).or(of_scans) {
            Some(at) => self.merge_pair(&runs[at], &runs[at + 1], of_scans == Some(at)),
            None => return false,
        }
        true
    }

    fn merge_pair(&self, older: &Arc<Run>, newer: &Arc<Run>, for_scans: bool) {
        if for_scans {
            self.scans.store(0, Memory::Relaxed);
        }
        let run = merged(older, newer);
        let mut state = self.state.write();
        let runs = Arc::make_mut(&mut state.runs);
        // Others may have merged meanwhile, a flush for one. Then this was for nothing.
        if let Some(at) =
            runs.windows(2).position(|pair| Arc::ptr_eq(&pair[0], older) && Arc::ptr_eq(&pair[1], newer))
        {
            runs[at] = run;
            runs.remove(at + 1);
        }
    }

    /// True when scans want the background to merge something.
    pub(super) fn is_asked(&self) -> bool {
        self.is_asked.load(Memory::Relaxed)
    }

    /// Counts a scan that has met these runs. It merges two small ones itself when that is due.
    fn count_scan(&self, runs: &[Arc<Run>]) {
        if runs.len() < 2 {
            return;
        }
        let scans = self.scans.fetch_add(1, Memory::Relaxed) + 1;
        let Some(at) = pair_for_scans(runs, scans) else { return };
        if runs[at].len() + runs[at + 1].len() <= WRITER_MERGE_ITEMS {
            self.merge_pair(&runs[at], &runs[at + 1], true);
        } else {
            self.is_asked.store(true, Memory::Relaxed);
        }
    }

    /// Merges everything, for a memtable that takes no more.
    pub(super) fn merge_all(&self) {
        let (runs, tail) = self.snapshot();
        if runs.len() <= 1 && tail.len() == 0 {
            return;
        }
        let mut runs: Vec<Arc<Run>> = runs.iter().cloned().chain([tail]).collect();
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

    #[cfg(test)]
    pub(super) fn runs(&self) -> usize {
        self.state.read().runs.len()
    }

    fn snapshot(&self) -> (Arc<Vec<Arc<Run>>>, Arc<Run>) {
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

    /// How many keys a range has now.
    pub(super) fn count(&self, range: &KeyRange) -> usize {
        let (runs, tail) = self.snapshot();
        runs.iter().chain([&tail]).map(|run| run.within(range).len()).sum()
    }

    /// The keys of a range as they are now.
    pub(super) fn scan(&self, range: &KeyRange, direction: Direction) -> KeyScan {
        let (runs, tail) = self.snapshot();
        let sources = runs.iter().chain([&tail]).filter_map(|run| {
            let within = run.within(range);
            (within.start < within.end).then(|| Source { run: Arc::clone(run), left: within })
        });
        let scan = KeyScan { sources: sources.collect(), direction };
        self.count_scan(&runs);
        scan
    }
}

fn is_same(one: &[Arc<Run>], other: &[Arc<Run>]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| Arc::ptr_eq(one, other))
}

/// The first of the large runs that is not much larger than the one behind it.
fn pair_to_merge(runs: &[Arc<Run>]) -> Option<usize> {
    let is_pair =
        |pair: &[Arc<Run>]| pair[1].len() >= WRITER_MERGE_ITEMS && pair[1].len() * 2 > pair[0].len();
    runs.windows(2).position(is_pair)
}

/// The last two runs that so many scans have paid for.
fn pair_for_scans(runs: &[Arc<Run>], scans: usize) -> Option<usize> {
    let is_paid = |pair: &[Arc<Run>]| pair[0].len() + pair[1].len() <= scans.saturating_mul(SCAN_COST_ITEMS);
    runs.windows(2).rposition(is_paid)
}

fn sorted(mut items: Vec<Item>) -> Arc<Run> {
    // SAFETY: the cells of these items live as long as the order.
    items.sort_unstable_by(|one, other| unsafe { one.cmp(*other) });
    Run::new(items)
}

fn merged(one: &Run, other: &Run) -> Arc<Run> {
    let (one, other) = (&*one.items, &*other.items);
    let mut items = Vec::with_capacity(one.len() + other.len());
    let (mut one, mut other) = (one.iter().copied().peekable(), other.iter().copied().peekable());
    while let (Some(left), Some(right)) = (one.peek(), other.peek()) {
        // SAFETY: the cells of these items live as long as the order.
        let order = unsafe { left.cmp(*right) };
        items.extend(if order == Ordering::Less { one.next() } else { other.next() });
    }
    items.extend(one);
    items.extend(other);
    Run::new(items)
}

impl Run {
    fn new(items: Vec<Item>) -> Arc<Self> {
        let samples = items.iter().step_by(SAMPLED_ITEMS).map(|item| item.head()).collect();
        Arc::new(Self { items: items.into(), samples })
    }

    fn len(&self) -> usize {
        self.items.len()
    }

    /// The places of the keys in a range.
    fn within(&self, range: &KeyRange) -> Range<usize> {
        let start = match &range.start {
            Bound::Included(key) => self.before(key, false),
            Bound::Excluded(key) => self.before(key, true),
            Bound::Unbounded => 0,
        };
        let end = match &range.end {
            Bound::Included(key) => self.before(key, true),
            Bound::Excluded(key) => self.before(key, false),
            Bound::Unbounded => self.len(),
        };
        start..end.max(start)
    }

    /// How many keys come before this one, or are equal to it if those count.
    fn before(&self, key: &[u8], or_equal: bool) -> usize {
        let head = head_of(key);
        // What lies at or before the last sample with a smaller head comes before the key, what lies at or behind the first one
        // with a larger head does not.
        let smaller = self.samples.partition_point(|sample| *sample < head);
        let larger = smaller + self.samples[smaller..].partition_point(|sample| *sample <= head);
        let from = smaller.saturating_sub(1) * SAMPLED_ITEMS;
        let upto = (larger * SAMPLED_ITEMS).min(self.len());
        from + self.items[from..upto].partition_point(|item| {
            // SAFETY: the cells of these items live as long as the order.
            match unsafe { item.cmp_key(head, key) } {
                Ordering::Less => true,
                Ordering::Equal => or_equal,
                Ordering::Greater => false,
            }
        })
    }
}

/// Keys in order, from several runs.
pub(super) struct KeyScan {
    sources: Vec<Source>,
    direction: Direction,
}

struct Source {
    run: Arc<Run>,
    /// Not empty.
    left: Range<usize>,
}

impl Source {
    fn peek(&self, direction: Direction) -> Item {
        match direction {
            Direction::Forward => self.run.items[self.left.start],
            Direction::Reverse => self.run.items[self.left.end - 1],
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
        if let Some(item) = ahead.and_then(|ahead| source.run.items.get(ahead)) {
            item.prefetch();
        }
        if source.left.is_empty() {
            self.sources.swap_remove(number);
        }
        Some(item)
    }
}
