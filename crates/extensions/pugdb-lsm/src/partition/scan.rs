//! Scans over several partitions: one behind the other where they hold ranges, merged where their keys are mixed.

use std::cmp::Ordering;
use std::ops::Range;

use pugdb_core::Result;
use pugdb_core::engine::{BatchSize, Cursor, Direction, Entries, Parts, Room};

/// A batch of a source that is merged holds this many entries more than its share.
const ENTRIES_BESIDE: usize = 4;

/// Partitions one behind the other; each is begun when the one before it is over.
pub(super) struct Chained<F> {
    left: Range<usize>,
    direction: Direction,
    open: F,
    current: Option<Box<dyn Cursor>>,
}

impl<F> Chained<F> {
    pub(super) fn new(parts: Range<usize>, direction: Direction, open: F) -> Self {
        Self { left: parts, direction, open, current: None }
    }
}

impl<F: Fn(usize) -> Result<Box<dyn Cursor>> + Send> Cursor for Chained<F> {
    fn fill(&mut self, size: BatchSize, out: &mut Entries) -> Result<()> {
        let before = out.len();
        loop {
            if let Some(cursor) = &mut self.current {
                // A batch ends with its partition: what is left of its room is not known here, and the next one comes soon.
                cursor.fill(size, out)?;
                if out.len() > before {
                    return Ok(());
                }
            }
            let next = match self.direction {
                Direction::Forward => self.left.next(),
                Direction::Reverse => self.left.next_back(),
            };
            let Some(next) = next else {
                self.current = None;
                return Ok(());
            };
            self.current = Some((self.open)(next)?);
        }
    }
}

/// Partitions merged by their keys, of which each is in one of them.
pub(super) struct Merged {
    direction: Direction,
    sources: Vec<Source>,
    /// The sources that have an entry, the one whose turn it is last.
    order: Vec<usize>,
    is_begun: bool,
}

struct Source {
    cursor: Box<dyn Cursor>,
    batch: Entries,
    /// The entry whose turn it is.
    at: usize,
}

impl Source {
    /// Makes sure that there is an entry whose turn it is. False when the source is over.
    fn supply(&mut self, size: BatchSize) -> Result<bool> {
        if self.at < self.batch.len() {
            return Ok(true);
        }
        self.batch.clear();
        self.at = 0;
        self.cursor.fill(size, &mut self.batch)?;
        Ok(!self.batch.is_empty())
    }

    fn key(&self) -> &[u8] {
        self.batch.key_value(self.at).map_or(&[], |(key, _)| key)
    }
}

impl Merged {
    pub(super) fn new(cursors: Vec<Box<dyn Cursor>>, direction: Direction) -> Self {
        let source = |cursor| Source { cursor, batch: Entries::default(), at: 0 };
        Self {
            direction,
            sources: cursors.into_iter().map(source).collect(),
            order: Vec::new(),
            is_begun: false,
        }
    }

    /// What one source brings at once, for a batch of this size: its share and a little, for chance.
    fn share(&self, size: BatchSize) -> BatchSize {
        let of = |all: usize| all / self.sources.len() + all / (2 * self.sources.len());
        BatchSize { entries: of(size.entries).saturating_add(ENTRIES_BESIDE), bytes: of(size.bytes).max(1) }
    }

    fn begin(&mut self, size: BatchSize, parts: Parts) -> Result<()> {
        for number in 0..self.sources.len() {
            self.sources[number].batch = Entries::of(parts);
            if self.sources[number].supply(size)? {
                self.order.push(number);
            }
        }
        let (sources, direction) = (&self.sources, self.direction);
        self.order.sort_unstable_by(|&one, &other| turn(sources, direction, other, one));
        self.is_begun = true;
        Ok(())
    }

    /// The source whose turn it was has moved on: puts it where it belongs now.
    fn reorder(&mut self) {
        let Some((moved, others)) = self.order.split_last() else { return };
        let comes_later =
            |other: &usize| turn(&self.sources, self.direction, *other, *moved) == Ordering::Greater;
        // Often it is its turn again.
        if others.last().is_none_or(comes_later) {
            return;
        }
        let place = others.partition_point(comes_later);
        self.order[place..].rotate_right(1);
    }
}

/// Which of two sources comes first.
fn turn(sources: &[Source], direction: Direction, one: usize, other: usize) -> Ordering {
    let order = sources[one].key().cmp(sources[other].key());
    if direction == Direction::Forward { order } else { order.reverse() }
}

impl Cursor for Merged {
    fn fill(&mut self, size: BatchSize, out: &mut Entries) -> Result<()> {
        let share = self.share(size);
        if !self.is_begun {
            self.begin(share, if out.has_values() { Parts::All } else { Parts::Keys })?;
        }
        let mut room = Room::new(size);
        while let Some(&number) = self.order.last() {
            let source = &mut self.sources[number];
            let bytes = source.batch.key_value(source.at).map_or(0, |(key, value)| key.len() + value.len());
            if room.is_full() || !room.take_bytes(bytes) {
                break;
            }
            out.push_from(&source.batch, source.at);
            source.at += 1;
            // An error leaves the source without an entry: it is not its turn again, and the scan is over.
            if source.supply(share)? {
                self.reorder();
            } else {
                self.order.pop();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pugdb_core::{Entry, Found, Key, Seqno, Value};

    /// Shows keys, at most `most` at once.
    struct Keys {
        keys: std::vec::IntoIter<u32>,
        most: usize,
    }

    impl Cursor for Keys {
        fn fill(&mut self, size: BatchSize, out: &mut Entries) -> Result<()> {
            for key in self.keys.by_ref().take(size.entries.min(self.most)) {
                let entry = Entry::put(Value::new(key.to_be_bytes().to_vec())?);
                out.push_found(&Key::copy(&key.to_be_bytes())?, &Found { seqno: Seqno(1), entry });
            }
            Ok(())
        }
    }

    fn seen(cursor: &mut dyn Cursor, rng: &mut fastrand::Rng) -> Vec<u32> {
        let (mut all, mut batch) = (Vec::new(), Entries::default());
        loop {
            batch.clear();
            let size = BatchSize { entries: rng.usize(1..40), bytes: rng.usize(1..400) };
            cursor.fill(size, &mut batch).unwrap();
            assert!(batch.len() <= size.entries && (batch.len() <= 1 || batch.len() * 8 <= size.bytes));
            if batch.is_empty() {
                return all;
            }
            all.extend((0..batch.len()).map(|at| {
                let (key, value) = batch.key_value(at).unwrap();
                assert_eq!(key, value);
                u32::from_be_bytes(key.try_into().unwrap())
            }));
        }
    }

    #[test]
    fn sources_are_merged_in_both_directions_whatever_the_batches() {
        let mut rng = fastrand::Rng::with_seed(1);
        for round in 0..300 {
            let direction = if rng.bool() { Direction::Forward } else { Direction::Reverse };
            let count = rng.usize(1..12);
            let mut parts: Vec<Vec<u32>> = vec![Vec::new(); count];
            let mut all: Vec<u32> = (0..rng.u32(0..400)).filter(|_| rng.bool()).collect();
            for key in &all {
                // Sometimes long stretches in one of them.
                let part = if round % 2 == 0 { rng.usize(..count) } else { *key as usize / 50 % count };
                parts[part].push(*key);
            }
            if direction == Direction::Reverse {
                all.reverse();
                for part in &mut parts {
                    part.reverse();
                }
            }
            let cursors = parts.into_iter().map(|keys| {
                let (keys, most) = (keys.into_iter(), rng.usize(1..30));
                Box::new(Keys { keys, most }) as Box<dyn Cursor>
            });
            let mut merged = Merged::new(cursors.collect(), direction);
            assert_eq!(seen(&mut merged, &mut rng), all);
        }
    }

    #[test]
    fn ranges_come_one_behind_the_other_and_empty_ones_end_nothing() {
        let mut rng = fastrand::Rng::with_seed(2);
        let parts = [vec![], vec![1, 2], vec![], vec![], vec![5], vec![]];
        for direction in [Direction::Forward, Direction::Reverse] {
            let parts = parts.clone();
            let open = move |number: usize| {
                let mut keys: Vec<u32> = parts[number].clone();
                if direction == Direction::Reverse {
                    keys.reverse();
                }
                Ok(Box::new(Keys { keys: keys.into_iter(), most: 10 }) as Box<dyn Cursor>)
            };
            let mut chained = Chained::new(0..6, direction, open);
            let expected = if direction == Direction::Forward { [1, 2, 5] } else { [5, 2, 1] };
            assert_eq!(seen(&mut chained, &mut rng), expected);
            assert_eq!(seen(&mut chained, &mut rng), [], "it stays over");
        }
    }
}
