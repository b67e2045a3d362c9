//! The scrub job: reads every table and its values again from disk, gently, when it was not read for long, so that damage is
//! found while there is a good copy somewhere. What is damaged goes into quarantine.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use pugdb_core::env::{Job, Next, Random};
use pugdb_core::{ErrorKind, FileId, Result};

use super::Store;
use super::throttle::Bucket;
use crate::table::{TableSummary, TableWalk};
use crate::tree::{LiveTable, Tree};

/// What is read in a second: little for a disk, and more than a terabyte in four days.
const BYTES_PER_SECOND_MIN: u64 = 4 << 20;
/// While flushes and merges have work, it is looked this often whether they still do.
const YIELD: Duration = Duration::from_millis(100);
/// What could not be read is read again this much later, or when the interval is over.
const RETRY: Duration = Duration::from_mins(10);
/// It looks for new tables so often in an interval.
const LOOKS: u32 = 16;
/// What is late by this part of the interval is read though there is other work: some stores always have some.
const LATE_PART: u32 = 8;

pub(super) struct ScrubJob {
    store: Arc<Store>,
    schedule: Schedule,
    /// What is due, the most urgent first. It is not kept for that.
    queue: VecDeque<(Duration, Weak<Tree>, Weak<LiveTable>)>,
    reading: Option<Reading>,
    /// Keeps the pace.
    bucket: Bucket,
    bytes_per_second: u64,
    next_look: Duration,
    /// Something, since there was nothing left that was due.
    has_read: bool,
}

/// A table that is being read.
struct Reading {
    due: Duration,
    tree: Arc<Tree>,
    live: Arc<LiveTable>,
    walk: Option<TableWalk>,
}

/// When each table is to be read. Pure: moments of the stopwatch in, moments out.
struct Schedule {
    interval: Duration,
    due: BTreeMap<FileId, Duration>,
    /// When it was last looked for new ones.
    looked: Option<Duration>,
}

impl Schedule {
    fn new(interval: Duration) -> Self {
        Self { interval, due: BTreeMap::new(), looked: None }
    }

    /// Takes note of the tables that there are. Nobody knows when those were read that were there before: they come at moments all over
    /// the interval, other ones in each process, so that in the long run all of them come in processes that live less long.
    fn look(&mut self, now: Duration, files: impl Iterator<Item = FileId>, part: impl Fn() -> u8) {
        let (interval, looked) = (self.interval, self.looked.replace(now));
        let first_due = || match looked {
            Some(looked) => looked.saturating_add(interval),
            None => now.saturating_add(interval / 256 * u32::from(part())),
        };
        let known = std::mem::take(&mut self.due);
        self.due = files.map(|file| (file, known.get(&file).copied().unwrap_or_else(first_due))).collect();
    }

    fn due(&self, file: FileId) -> Option<Duration> {
        self.due.get(&file).copied()
    }

    /// When to look again, if nothing is due now.
    fn next_look(&self, now: Duration) -> Duration {
        let look = now.saturating_add((self.interval / LOOKS).max(Duration::from_millis(1)));
        self.due.values().copied().min().map_or(look, |due| due.min(look)).max(now)
    }

    fn was_read(&mut self, file: FileId, now: Duration) {
        self.due.insert(file, now.saturating_add(self.interval));
    }

    fn could_not_be_read(&mut self, file: FileId, now: Duration) {
        self.due.insert(file, now.saturating_add(RETRY.min(self.interval)));
    }

    /// True when it can wait no longer for other work.
    fn is_late(&self, due: Duration, now: Duration) -> bool {
        now >= due.saturating_add(self.interval / LATE_PART)
    }
}

/// So fast that all of it is read in half of the interval.
fn bytes_per_second(all: u64, interval: Duration) -> u64 {
    let needed = u128::from(all) * 2000 / interval.as_millis().max(1);
    u64::try_from(needed).unwrap_or(u64::MAX).max(BYTES_PER_SECOND_MIN)
}

fn part(random: &dyn Random) -> u8 {
    let mut byte = [0];
    random.fill(&mut byte);
    byte[0]
}

impl ScrubJob {
    pub(super) fn new(store: Arc<Store>, interval: Duration) -> Self {
        Self {
            store,
            schedule: Schedule::new(interval),
            queue: VecDeque::new(),
            reading: None,
            bucket: Bucket::default(),
            bytes_per_second: BYTES_PER_SECOND_MIN,
            next_look: Duration::ZERO,
            has_read: false,
        }
    }

    fn slice(&mut self) -> Next {
        if let Some(next) = self.store.ended() {
            (self.reading, self.queue) = (None, VecDeque::new());
            return next;
        }
        // A file is not kept for this.
        self.reading = self.reading.take().filter(|reading| !reading.is_gone());
        let now = self.store.context.env.clock.monotonic();
        if self.reading.is_none() {
            self.reading = self.next(now);
        }
        let Some(reading) = &self.reading else { return Next::WaitUntil(self.next_look) };
        if let Some(until) = self.rests_until(now, reading.due) {
            return Next::WaitUntil(until);
        }
        self.read(now);
        Next::Again
    }

    /// What is to be read now.
    fn next(&mut self, now: Duration) -> Option<Reading> {
        if self.queue.is_empty() && self.next_look <= now {
            self.look(now);
        }
        while let Some((due, tree, live)) = self.queue.pop_front() {
            let there = tree.upgrade().zip(live.upgrade());
            let reading = there.map(|(tree, live)| Reading { due, tree, live, walk: None });
            if let Some(reading) = reading.filter(|reading| !reading.is_gone()) {
                return Some(reading);
            }
        }
        None
    }

    /// Finds what is due.
    fn look(&mut self, now: Duration) {
        let store = &self.store;
        let trees: Vec<Arc<Tree>> = store.trees.read().values().cloned().collect();
        let mut tables: Vec<(&Arc<Tree>, Arc<LiveTable>)> = Vec::new();
        for tree in &trees {
            let version = tree.version();
            let live = version.runs.iter().flat_map(|run| &run.tables);
            // Of what is in quarantine it is known.
            tables.extend(live.filter(|live| !live.is_quarantined()).map(|live| (tree, Arc::clone(live))));
        }
        let random = &*store.context.env.random;
        self.schedule.look(now, tables.iter().map(|(_, live)| live.id()), || part(random));
        let all = tables.iter().map(|(_, live)| live.meta().bytes).sum();
        self.bytes_per_second = bytes_per_second(all, self.schedule.interval);
        let due = tables.iter().filter_map(|(tree, live)| {
            let due = self.schedule.due(live.id()).filter(|due| *due <= now)?;
            Some((due, Arc::downgrade(tree), Arc::downgrade(live)))
        });
        let mut due: Vec<_> = due.collect();
        due.sort_by_key(|(due, ..)| *due);
        self.queue = due.into();
        self.next_look = if self.queue.is_empty() { self.schedule.next_look(now) } else { now };
        if self.queue.is_empty() && std::mem::take(&mut self.has_read) {
            let at = store.context.env.clock.now();
            store.counters.scrub_pass_at.store(at.0, Ordering::Relaxed);
        }
    }

    /// Until when it rests, because it has read enough for now, or others have work.
    fn rests_until(&mut self, now: Duration, due: Duration) -> Option<Duration> {
        let store = &self.store;
        let is_busy = || {
            store.is_flushing.load(Ordering::Acquire)
                || store.is_merging.load(Ordering::Acquire)
                || store.held_until(now).is_some()
        };
        let yields = (!self.schedule.is_late(due, now) && is_busy()).then(|| now + YIELD);
        // Not for long at once: the table may go meanwhile.
        let paced = Some(self.bucket.paid_at.min(now + YIELD)).filter(|until| *until > now);
        yields.or(paced)
    }

    /// Reads a little of the table at hand.
    fn read(&mut self, now: Duration) {
        let Some(mut reading) = self.reading.take() else { return };
        let before = reading.bytes();
        let step = reading.live.verify_step(&mut reading.walk);
        let counters = &self.store.counters;
        let after = match &step {
            Ok(Some(summary)) => read_in_all(&reading.live, summary),
            Ok(None) | Err(_) => reading.bytes(),
        };
        let bytes = after.saturating_sub(before);
        counters.scrubbed_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bucket = self.bucket.charge(now, bytes, self.bytes_per_second);
        self.store.charge_beside(bytes);
        match self.judge(&reading, step) {
            Ok(false) => self.reading = Some(reading),
            Ok(true) => {
                self.has_read = true;
                self.store.counters.scrubbed_tables.fetch_add(1, Ordering::Relaxed);
                self.schedule.was_read(reading.live.id(), now);
            }
            Err(_) => {
                self.store.counters.scrub_failures.fetch_add(1, Ordering::Relaxed);
                self.schedule.could_not_be_read(reading.live.id(), now);
            }
        }
    }

    /// True when the table is done: it is sound, or in quarantine.
    fn judge(&self, reading: &Reading, step: Result<Option<TableSummary>>) -> Result<bool> {
        match step {
            Ok(summary) => Ok(summary.is_some()),
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                self.store.quarantine(&reading.tree, &reading.live)?;
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }
}

impl Reading {
    /// Nobody needs the file any more.
    fn is_gone(&self) -> bool {
        self.live.is_doomed() || self.tree.is_dropped()
    }

    fn bytes(&self) -> u64 {
        self.walk.as_ref().map_or(0, TableWalk::bytes_read)
    }
}

/// What was read when all is.
fn read_in_all(live: &LiveTable, summary: &TableSummary) -> u64 {
    live.meta().bytes + summary.value_bytes
}

impl Job for ScrubJob {
    fn run(&mut self) -> Next {
        let store = Arc::clone(&self.store);
        store.guarded(|| self.slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn file(number: u8) -> FileId {
        FileId([number; 16])
    }

    fn minutes(of: u64) -> Duration {
        Duration::from_mins(of)
    }

    #[test]
    fn each_table_is_due_once_in_an_interval() {
        let (mut schedule, now) = (Schedule::new(HOUR), minutes(1000));
        let parts = std::cell::Cell::new(0_u8);
        schedule.look(now, (0..4).map(file), || parts.replace(parts.get().wrapping_add(64)));
        let due = |schedule: &Schedule, number| schedule.due(file(number)).unwrap().as_secs() / 60;
        assert_eq!([0, 1, 2, 3].map(|number| due(&schedule, number)), [1000, 1015, 1030, 1045]);
        // What comes later was written since the look before; what is gone is forgotten.
        schedule.look(minutes(1010), [0, 1, 5].into_iter().map(file), || 0);
        assert_eq!([0, 1, 5].map(|number| due(&schedule, number)), [1000, 1015, 1060]);
        assert_eq!(schedule.due(file(2)), None);
        schedule.was_read(file(0), minutes(1011));
        schedule.could_not_be_read(file(1), minutes(1015));
        assert_eq!([0, 1].map(|number| due(&schedule, number)), [1071, 1025]);
    }

    #[test]
    fn it_looks_when_something_is_due_and_now_and_then() {
        let mut schedule = Schedule::new(HOUR);
        schedule.look(minutes(0), [file(1)].into_iter(), || 128);
        assert_eq!(schedule.next_look(minutes(0)), HOUR / LOOKS);
        assert_eq!(schedule.next_look(minutes(29)), minutes(30));
        assert_eq!(schedule.next_look(minutes(31)), minutes(31));
        assert!(!schedule.is_late(minutes(30), minutes(37)) && schedule.is_late(minutes(30), minutes(38)));
    }

    #[test]
    fn it_is_as_fast_as_the_interval_needs() {
        assert_eq!(bytes_per_second(0, HOUR), BYTES_PER_SECOND_MIN);
        assert_eq!(bytes_per_second(1 << 40, 168 * HOUR), BYTES_PER_SECOND_MIN);
        assert_eq!(bytes_per_second(36_000_000_000, HOUR), 20_000_000);
        assert_eq!(bytes_per_second(u64::MAX, Duration::ZERO), u64::MAX);
    }
}
