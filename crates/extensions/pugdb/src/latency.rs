//! How long reads and commits take: one in so many is timed, so that it costs the others next to nothing.
//!
//! Latencies go into buckets an eighth of their size wide, as in an HDR histogram (Tene, "How NOT to measure latency"): what
//! is said of a quantile is at most an eighth too much.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pugdb_core::coding::index;
use pugdb_core::env::Clock;

use crate::slow::{OperationKind, Shape, SlowLog};

/// One of so many is timed, in each thread. A prime: no period of the work has it for a divisor.
const SAMPLE: u32 = 61;
/// A bucket is this part of the power of two that it lies in.
const PARTS: usize = 8;
/// Powers of two of nanoseconds: the last is beyond 18 minutes, and holds all that took longer.
const POWERS: usize = 40;

/// What one kind of call took, from those that were timed since the open.
///
/// ```
/// let db = pugdb::Database::in_memory()?;
/// let users = db.keyspace("users")?;
/// users.put(b"ada", b"1815")?;
/// for _ in 0..1_000 {
///     users.get(b"ada")?;
/// }
/// let get = db.latencies().get;
/// assert!(get.samples > 0 && get.p50 <= get.p99 && get.p99 <= get.p999);
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// How many were timed: about one in 61.
    pub samples: u64,
    /// Half of them took no longer.
    pub p50: Duration,
    /// 99 of 100 took no longer.
    pub p99: Duration,
    /// 999 of 1,000 took no longer.
    pub p999: Duration,
}

/// What calls took, from [`Database::latencies`](crate::Database::latencies).
///
/// ```
/// let db = pugdb::Database::in_memory()?;
/// assert_eq!(db.latencies(), pugdb::Latencies::default());
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latencies {
    /// Reads of one key, by a keyspace or by a snapshot.
    pub get: Latency,
    /// Commits, from the call until they are visible: to wait for room counts, to wait for a sync does not.
    pub commit: Latency,
}

/// Where the times of a database are gathered.
pub(crate) struct Recorders {
    get: Recorder,
    commit: Recorder,
    /// What took long, if somebody wants to know: then all calls are timed.
    slow: Option<SlowLog>,
}

/// The times of one kind of call.
struct Recorder {
    buckets: [AtomicU64; PARTS * POWERS],
}

/// A call that is timed. It ends when this is dropped.
pub(crate) struct Timed<'a> {
    /// Where its time is gathered, if its turn has come.
    recorder: Option<&'a Recorder>,
    slow: Option<&'a SlowLog>,
    clock: &'a dyn Clock,
    began: Duration,
    kind: OperationKind,
    shape: Shape,
}

thread_local! {
    /// Calls until the next one that is timed.
    static UNTIL_NEXT: Cell<u32> = const { Cell::new(0) };
}

impl Recorders {
    pub(crate) fn new(slow: Option<Duration>) -> Self {
        Self { get: Recorder::new(), commit: Recorder::new(), slow: slow.map(SlowLog::new) }
    }

    pub(crate) fn slow(&self) -> Option<&SlowLog> {
        self.slow.as_ref()
    }

    /// A call begins: it is timed when its turn has come, or all are.
    #[inline]
    pub(crate) fn begin<'a>(
        &'a self,
        kind: OperationKind,
        clock: &'a dyn Clock,
        shape: impl FnOnce() -> Shape,
    ) -> Option<Timed<'a>> {
        let recorder = match kind {
            OperationKind::Get => Some(&self.get),
            OperationKind::Commit => Some(&self.commit),
            _ => None,
        };
        let recorder = recorder.filter(|_| is_due());
        (recorder.is_some() || self.slow.is_some()).then(|| self.time(recorder, kind, clock, shape()))
    }

    #[cold]
    fn time<'a>(
        &'a self,
        recorder: Option<&'a Recorder>,
        kind: OperationKind,
        clock: &'a dyn Clock,
        shape: Shape,
    ) -> Timed<'a> {
        Timed { recorder, slow: self.slow.as_ref(), clock, began: clock.monotonic(), kind, shape }
    }

    pub(crate) fn summary(&self) -> Latencies {
        Latencies { get: self.get.summary(), commit: self.commit.summary() }
    }
}

impl Recorder {
    fn new() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; PARTS * POWERS] }
    }

    fn record(&self, took: Duration) {
        self.buckets[bucket_of(took)].fetch_add(1, Ordering::Relaxed);
    }

    fn summary(&self) -> Latency {
        let counts = self.buckets.each_ref().map(|bucket| bucket.load(Ordering::Relaxed));
        let samples: u64 = counts.iter().sum();
        let quantile = |thousandths: u64| {
            let rank = (samples * thousandths).div_ceil(1_000);
            let mut seen = 0;
            let bucket = counts.iter().position(|count| {
                seen += count;
                seen >= rank
            });
            bucket.filter(|_| samples > 0).map_or(Duration::ZERO, end_of)
        };
        Latency { samples, p50: quantile(500), p99: quantile(990), p999: quantile(999) }
    }
}

/// Whether the turn of this thread's next call has come.
#[inline]
fn is_due() -> bool {
    UNTIL_NEXT.with(|until_next| {
        let left = until_next.get();
        until_next.set(left.checked_sub(1).unwrap_or(SAMPLE - 1));
        left == 0
    })
}

impl Timed<'_> {
    /// What is known of its shape now.
    pub(crate) fn has_shape(&mut self, shape: Shape) {
        self.shape = shape;
    }
}

impl Drop for Timed<'_> {
    #[cold]
    fn drop(&mut self) {
        let took = self.clock.monotonic().saturating_sub(self.began);
        if let Some(recorder) = self.recorder {
            recorder.record(took);
        }
        if let Some(slow) = self.slow {
            slow.note(self.kind, took, self.shape, || self.clock.now());
        }
    }
}

/// The bucket of a time.
fn bucket_of(took: Duration) -> usize {
    let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(PARTS as u64);
    let power = ns.ilog2();
    // The three bits behind the first.
    let part = index((ns >> (power - PARTS.ilog2())) % PARTS as u64);
    ((power - PARTS.ilog2()) as usize * PARTS + part).min(PARTS * POWERS - 1)
}

/// The longest time of a bucket.
fn end_of(bucket: usize) -> Duration {
    let (power, part) = (bucket / PARTS, bucket % PARTS);
    Duration::from_nanos((((PARTS + part + 1) as u64) << power) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_in_a_bucket_that_ends_at_most_an_eighth_later() {
        let mut last = 0;
        for power in 3..42 {
            for ns in [1_u64 << power, (1 << power) + 1, (1 << power) * 3 / 2, (2 << power) - 1] {
                let (took, bucket) = (Duration::from_nanos(ns), bucket_of(Duration::from_nanos(ns)));
                assert!(bucket >= last, "{ns} ns");
                last = bucket;
                let end = end_of(bucket);
                assert!(
                    end >= took && end <= took + took / 8,
                    "{ns} ns are in a bucket that ends at {end:?}"
                );
            }
        }
        assert_eq!(bucket_of(Duration::ZERO), 0);
        assert_eq!(bucket_of(Duration::MAX), PARTS * POWERS - 1);
    }

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        let recorder = Recorder::new();
        assert_eq!(recorder.summary(), Latency::default());
        for us in 1..=1_000 {
            recorder.record(Duration::from_micros(us));
        }
        let Latency { samples, p50, p99, p999 } = recorder.summary();
        assert_eq!(samples, 1_000);
        for (quantile, us) in [(p50, 500), (p99, 990), (p999, 999)] {
            let exact = Duration::from_micros(us);
            assert!(quantile >= exact && quantile <= exact + exact / 8, "{quantile:?} for {us} us");
        }
    }

    #[test]
    fn one_in_61_is_timed() {
        struct Still;
        impl Clock for Still {
            fn now(&self) -> pugdb_core::Timestamp {
                pugdb_core::Timestamp(0)
            }
            fn monotonic(&self) -> Duration {
                Duration::from_secs(1)
            }
        }
        let recorders = Recorders::new(None);
        let begin = |kind| recorders.begin(kind, &Still, Shape::default).is_some();
        let timed = (0..SAMPLE * 10).filter(|_| begin(OperationKind::Get)).count();
        assert_eq!((timed, recorders.summary().get.samples), (10, 10));
        assert!((0..SAMPLE * 10).all(|_| !begin(OperationKind::MultiGet)), "it is in no histogram");

        // Slow ones are found wherever they are, and the histograms have as many as before.
        let recorders = Recorders::new(Some(Duration::ZERO));
        let begin = |kind| recorders.begin(kind, &Still, Shape::default).is_some();
        assert!((0..SAMPLE * 10).all(|_| begin(OperationKind::Get) && begin(OperationKind::MultiGet)));
        assert_eq!(recorders.summary().get.samples, 10);
        assert_eq!(recorders.slow().map(SlowLog::count), Some(2 * 610));
    }
}
