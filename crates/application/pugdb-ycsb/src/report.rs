//! What a run of one workload says.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::limits;
use crate::run::Settings;
use crate::usage::moment;
use crate::workload::{Distribution, Workload};

/// The figures of one workload. As JSON it is one object.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Which workload.
    pub workload: Workload,
    /// Operations in a second by the wall's clock, all clients together.
    pub ops_per_second: f64,
    /// Microseconds of processor time an operation took, everything that the process did counted in: background
    /// threads, what the store put off to the time right after, and the yardstick itself.
    pub cpu_us_per_op: f64,
    /// Half of the operations were faster than this many microseconds. In a load by batches, of the batches.
    pub p50_us: f64,
    /// 99 of 100 were faster.
    pub p99_us: f64,
    /// 999 of 1000 were faster.
    pub p999_us: f64,
    /// The slowest.
    pub max_us: f64,
    /// How many operations there were.
    pub operations: u64,
    /// How many records the store held before.
    pub records: u64,
    /// The size of each value.
    pub value_bytes: usize,
    /// How many clients, a thread each.
    pub threads: usize,
    /// How the records were chosen.
    pub distribution: &'static str,
    /// How many entries the store was given at once; more than 1 only in a load.
    pub batch: usize,
    /// Time from the first operation to the last.
    pub seconds: f64,
    /// Values that were read, each checked against its key. One that was wrong would have ended the run.
    pub checked: u64,
    /// Gets that found nothing: all of workload M. In any other workload one would have ended the run.
    pub misses: u64,
    /// The operations that took [`SLOW`] or longer, at most the slowest thousand of each client: when they began and ended by
    /// [`moment`](crate::moment). Whoever watches the machine can tell which of them it has held up.
    #[serde(skip)]
    pub slow: Vec<(Duration, Duration)>,
}

/// An operation that takes so long is noted by itself.
pub const SLOW: Duration = Duration::from_millis(5);

/// What one client saw.
pub(crate) struct Tally {
    pub(crate) latencies: Histogram<u64>,
    pub(crate) operations: u64,
    pub(crate) checked: u64,
    pub(crate) misses: u64,
    pub(crate) slow: Vec<(Duration, Duration)>,
}

/// Longer waits than ten minutes are noted as ten minutes.
const LATENCY_NS_MAX: u64 = 600_000_000_000;

impl Tally {
    pub(crate) fn new() -> Self {
        let latencies = Histogram::new_with_max(LATENCY_NS_MAX, 3).expect("the bounds are the two above");
        Self { latencies, operations: 0, checked: 0, misses: 0, slow: Vec::new() }
    }

    pub(crate) fn record(&mut self, latency: Duration, operations: u64) {
        self.latencies.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(LATENCY_NS_MAX));
        self.operations += operations;
        if latency >= SLOW {
            self.note(latency);
        }
    }

    /// Notes one that has ended just now.
    #[cold]
    fn note(&mut self, latency: Duration) {
        let took = |(start, end): &(Duration, Duration)| end.saturating_sub(*start);
        let now = moment();
        self.slow.push((now.saturating_sub(latency), now));
        if self.slow.len() > limits::SLOW_NOTED_MAX {
            let quickest = (0..self.slow.len()).min_by_key(|&index| took(&self.slow[index]));
            quickest.map(|index| self.slow.swap_remove(index));
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.latencies.add(&other.latencies).expect("both have the same bounds");
        self.operations += other.operations;
        self.checked += other.checked;
        self.misses += other.misses;
        self.slow.extend_from_slice(&other.slow);
    }
}

/// What a run took.
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    pub(crate) processor: Duration,
}

impl Report {
    pub(crate) fn new(
        workload: Workload,
        settings: &Settings,
        records: u64,
        batch: usize,
        tally: &Tally,
        cost: &Cost,
    ) -> Self {
        let quantile = |part: f64| microseconds(tally.latencies.value_at_quantile(part));
        #[expect(clippy::cast_precision_loss, reason = "there are far fewer than 2^53 operations")]
        let operations = tally.operations.max(1) as f64;
        Self {
            workload,
            ops_per_second: rounded(operations / cost.wall.as_secs_f64().max(1e-9)),
            cpu_us_per_op: rounded(cost.processor.as_secs_f64() * 1e6 / operations),
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            p999_us: quantile(0.999),
            max_us: microseconds(tally.latencies.max()),
            operations: tally.operations,
            records,
            value_bytes: settings.value_bytes,
            threads: settings.threads,
            distribution: match (workload, settings.distribution) {
                (Workload::Load, _) => "each once",
                (Workload::D, _) => "latest",
                (Workload::W | Workload::M, _) | (_, Distribution::Uniform) => "uniform",
                (_, Distribution::Zipfian) => "zipfian",
            },
            batch,
            seconds: rounded(cost.wall.as_secs_f64()),
            checked: tally.checked,
            misses: tally.misses,
            slow: tally.slow.clone(),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "at most ten minutes in nanoseconds")]
fn microseconds(nanoseconds: u64) -> f64 {
    rounded(nanoseconds as f64 / 1e3)
}

/// Three digits behind the point: more would be noise.
fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_operations_are_noted_and_no_more_than_a_thousand() {
        let mut tally = Tally::new();
        tally.record(SLOW.saturating_sub(Duration::from_nanos(1)), 1);
        assert_eq!(tally.slow, []);
        let before = moment();
        for ms in 0..=limits::SLOW_NOTED_MAX as u64 {
            tally.record(SLOW + Duration::from_millis(ms), 1);
        }
        assert_eq!(tally.slow.len(), limits::SLOW_NOTED_MAX);
        for (start, end) in &tally.slow {
            assert!(*end >= before && end.saturating_sub(*start) > SLOW, "the quickest gave way");
        }
    }
}
