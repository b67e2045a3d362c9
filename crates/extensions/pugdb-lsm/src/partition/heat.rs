//! How much each partition is asked for, and which of them is asked for too much.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pugdb_core::KeyspaceId;

/// One read in so many is counted, for all of them: readers of a partition would meet at its counter.
const SAMPLE: u64 = 64;
/// A partition is hot that does this many times its fair share of the work, if there are several.
const HOT_SHARES: u128 = 2;
/// Fewer operations say nothing.
const HOT_OPERATIONS_MIN: u64 = 10_000;
/// What is more recent than this is not looked at alone.
const MARKS_APART: Duration = Duration::from_secs(10);

/// How many operations a partition has had. Of reads near enough: one in 64 is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heat {
    /// Keys and scans.
    pub reads: u64,
    /// Operations of commits.
    pub writes: u64,
}

impl Heat {
    /// What came since.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            reads: self.reads.saturating_sub(before.reads),
            writes: self.writes.saturating_sub(before.writes),
        }
    }

    fn operations(self) -> u64 {
        self.reads.saturating_add(self.writes)
    }

    /// Which of the partitions of a keyspace are hot: each has had so much in the same time.
    pub fn hot(all: &[Self]) -> Vec<bool> {
        let sum: u128 = all.iter().map(|heat| u128::from(heat.operations())).sum();
        let is_hot = |heat: &Self| {
            let operations = heat.operations();
            all.len() > 1
                && operations >= HOT_OPERATIONS_MIN
                && u128::from(operations) * all.len() as u128 > HOT_SHARES * sum
        };
        all.iter().map(is_hot).collect()
    }
}

/// What partitions had had at two moments at which somebody looked, ten seconds apart or more.
#[derive(Default)]
pub(super) struct Marks {
    older: Mark,
    newer: Mark,
}

#[derive(Default)]
struct Mark {
    at: Duration,
    heats: Vec<(KeyspaceId, Heat)>,
}

impl Marks {
    /// What has come since the older moment: at `now` they have had so much.
    pub(super) fn look(&mut self, now: Duration, heats: &[(KeyspaceId, Heat)]) -> Vec<Heat> {
        if now >= self.newer.at.saturating_add(MARKS_APART) {
            let mark = Mark { at: now, heats: heats.to_vec() };
            self.older = std::mem::replace(&mut self.newer, mark);
        }
        let before = |id: &KeyspaceId| {
            let known = self.older.heats.iter().find(|(known, _)| known == id);
            known.map_or_else(Heat::default, |(_, heat)| *heat)
        };
        heats.iter().map(|(id, heat)| heat.since(before(id))).collect()
    }
}

/// Counts for one partition.
#[derive(Default)]
pub(super) struct Thermometer {
    reads: AtomicU64,
    writes: AtomicU64,
}

thread_local! {
    /// Which reads are counted is chance: a pattern in what a thread reads must not meet one in what is counted.
    static CHANCE: Cell<u64> = const { Cell::new(0x9e37_79b9_7f4a_7c15) };
}

fn is_sampled() -> bool {
    // Knuth's linear congruential generator, whose high bits are good: The Art of Computer Programming, volume 2, 3.3.4.
    let next = CHANCE.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    CHANCE.set(next);
    next >> 32 < (1 << 32) / SAMPLE
}

impl Thermometer {
    pub(super) fn read_one(&self) {
        if is_sampled() {
            self.reads.fetch_add(SAMPLE, Ordering::Relaxed);
        }
    }

    pub(super) fn read_many(&self, keys: u64) {
        self.reads.fetch_add(keys, Ordering::Relaxed);
    }

    pub(super) fn written(&self, operations: u64) {
        self.writes.fetch_add(operations, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Heat {
        Heat { reads: self.reads.load(Ordering::Relaxed), writes: self.writes.load(Ordering::Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heats(operations: &[(u64, u64)]) -> Vec<bool> {
        Heat::hot(&operations.iter().map(|&(reads, writes)| Heat { reads, writes }).collect::<Vec<_>>())
    }

    #[test]
    fn hot_is_what_does_more_than_twice_its_share() {
        assert_eq!(
            heats(&[(40_000, 0), (20_000, 0), (10_000, 0), (10_000, 0)]),
            [false; 4],
            "twice is not more"
        );
        assert_eq!(
            heats(&[(1000, 40_000), (20_000, 0), (10_000, 0), (10_000, 0)]),
            [true, false, false, false]
        );
        assert_eq!(heats(&[(9_999, 0), (0, 0), (0, 0)]), [false; 3], "too few to say");
        assert_eq!(heats(&[(1 << 60, 1 << 60)]), [false], "alone it does what there is to do");
        assert_eq!(heats(&[(u64::MAX, u64::MAX), (0, 0), (0, 0)]), [true, false, false]);
    }

    #[test]
    fn recent_is_what_came_since_somebody_looked_ten_seconds_ago() {
        let mut marks = Marks::default();
        let mut look = |seconds, one, other| {
            let heats = [one, other].map(|writes| Heat { reads: 0, writes });
            let recent = marks
                .look(Duration::from_secs(seconds), &[(KeyspaceId(1), heats[0]), (KeyspaceId(2), heats[1])]);
            [recent[0].writes, recent[1].writes]
        };
        assert_eq!(look(100, 5, 50), [5, 50]);
        assert_eq!(look(105, 7, 70), [7, 70], "it was never looked before");
        assert_eq!(look(110, 10, 100), [5, 50]);
        assert_eq!(look(119, 20, 200), [15, 150]);
        assert_eq!(look(130, 21, 201), [11, 101]);
    }

    #[test]
    fn of_many_reads_about_all_are_counted() {
        let thermometer = Thermometer::default();
        (0..1_000_000).for_each(|_| thermometer.read_one());
        thermometer.written(3);
        let heat = thermometer.read();
        assert!((950_000..1_050_000).contains(&heat.reads), "{heat:?}");
        let later = Heat { reads: heat.reads + 5, writes: 3 };
        assert_eq!(later.since(heat), Heat { reads: 5, writes: 0 });
    }
}
