//! Keeps compaction to a rate of bytes, if one is chosen: a token bucket, kept as the moment at which all that was read and
//! written is paid for. Nobody sleeps here: who is over the rate is told when to come again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pugdb_core::env::Next;

use super::Store;
use super::pick::runs_behind;

/// What was not used for so long may be made up for.
const CREDIT: Duration = Duration::from_millis(100);
/// What was read and written without being held back leaves no more than this to be paid for: merges have to go on behind
/// flushes that alone are faster than the rate, and when writers no longer wait.
const DEBT_MAX: Duration = Duration::from_secs(10);
/// A slice ends when it has moved so much, where there is a rate.
const SLICE_BYTES: u64 = 256 << 10;

/// The rate, and what is owed.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// Bytes in a second; `None`: as fast as can be.
    rate: Option<u64>,
    bucket: Mutex<Bucket>,
    held_us: AtomicU64,
}

/// When all is paid for, by the stopwatch. The past is credit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bucket {
    pub(super) paid_at: Duration,
}

/// Who waits for compaction.
#[derive(Clone, Copy, Debug)]
struct Demand {
    /// Somebody has asked for it by name.
    is_requested: bool,
    /// The most runs of a tree, and from how many on writers pay.
    runs: usize,
    runs_many: usize,
}

impl Demand {
    fn is_pressing(self) -> bool {
        self.is_requested || self.runs >= self.runs_many
    }
}

impl Bucket {
    /// So many bytes were read or written.
    pub(super) fn charge(self, now: Duration, bytes: u64, rate: u64) -> Self {
        let cost = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
        let cost = Duration::from_nanos(u64::try_from(cost).unwrap_or(u64::MAX));
        Self { paid_at: self.paid_at.max(now.saturating_sub(CREDIT)).saturating_add(cost) }
    }

    /// The same bytes, of somebody who is not held back.
    fn charge_unheld(self, now: Duration, bytes: u64, rate: u64) -> Self {
        let all = self.charge(now, bytes, rate).paid_at;
        Self { paid_at: all.min(self.paid_at.max(now.saturating_add(DEBT_MAX))) }
    }

    /// Until when compaction is to rest, if it is.
    fn held_until(self, now: Duration, demand: Demand) -> Option<Duration> {
        (self.paid_at > now && !demand.is_pressing()).then_some(self.paid_at)
    }
}

impl Throttle {
    pub(super) fn new(rate: Option<u64>) -> Self {
        Self { rate, ..Self::default() }
    }

    /// How much a slice moves before it ends.
    pub(super) fn slice_bytes(&self) -> u64 {
        if self.rate.is_some() { SLICE_BYTES } else { u64::MAX }
    }

    /// How long jobs were held back, all together, in microseconds.
    pub(super) fn held_us(&self) -> u64 {
        self.held_us.load(Ordering::Relaxed)
    }
}

/// Since when a job is held back, and until when, if it is.
#[derive(Debug, Default)]
pub(super) struct Hold(Option<(Duration, Duration)>);

impl Store {
    /// What a job that merges is to do before its next slice, if it is over the rate: nothing, for a while. Where writers wait for
    /// merges, or somebody has asked for one, there is no rate.
    pub(super) fn hold(&self, hold: &mut Hold) -> Option<Next> {
        self.throttle.rate?;
        let now = self.context.env.clock.monotonic();
        let until = self.held_until(now);
        if let Some((since, until)) = std::mem::replace(&mut hold.0, until.map(|until| (now, until))) {
            // What it was at may be gone since, and it had nothing to do then.
            let us = u64::try_from(now.min(until).saturating_sub(since).as_micros()).unwrap_or(u64::MAX);
            self.throttle.held_us.fetch_add(us, Ordering::Relaxed);
        }
        until.map(Next::WaitUntil)
    }

    /// Until when merges are held back, if they are.
    pub(super) fn held_until(&self, now: Duration) -> Option<Duration> {
        self.throttle.rate?;
        let demand = self.demand();
        self.throttle.bucket.lock().held_until(now, demand)
    }

    /// A slice of a merge has read and written so much.
    pub(super) fn charge(&self, bytes: u64) {
        let Some(rate) = self.throttle.rate.filter(|_| bytes > 0) else { return };
        let (now, is_held) = (self.context.env.clock.monotonic(), !self.demand().is_pressing());
        let mut bucket = self.throttle.bucket.lock();
        *bucket =
            if is_held { bucket.charge(now, bytes, rate) } else { bucket.charge_unheld(now, bytes, rate) };
    }

    /// A slice of a flush, or of the scrub, has. They take what is left for merges.
    pub(super) fn charge_beside(&self, bytes: u64) {
        let Some(rate) = self.throttle.rate.filter(|_| bytes > 0) else { return };
        let now = self.context.env.clock.monotonic();
        let mut bucket = self.throttle.bucket.lock();
        *bucket = bucket.charge_unheld(now, bytes, rate);
    }

    fn demand(&self) -> Demand {
        Demand {
            is_requested: self.request().is_some(),
            runs: self.runs_max.load(Ordering::Acquire),
            runs_many: runs_behind(self.options.policy),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Demand = Demand { is_requested: false, runs: 15, runs_many: 16 };

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A bucket of 1,000 bytes a second, so of a byte in a millisecond.
    fn after(charges: &[(u64, u64)]) -> u64 {
        let bucket = Bucket::default();
        let bucket = charges.iter().fold(bucket, |bucket, &(now, bytes)| bucket.charge(at(now), bytes, 1000));
        u64::try_from(bucket.paid_at.as_millis()).unwrap()
    }

    #[test]
    fn what_was_moved_is_paid_for_at_the_rate() {
        // When, and how much; when all of it is paid for.
        let table: [(&[(u64, u64)], u64); 6] = [
            (&[(0, 500)], 500),
            (&[(0, 500), (500, 500)], 1000),
            (&[(0, 500), (100, 500)], 1000),
            // Only a little of an idle time is made up for.
            (&[(0, 500), (5000, 500)], 5400),
            (&[(5000, 50)], 4950),
            (&[(5000, 50), (5000, 50), (5000, 50)], 5050),
        ];
        for (charges, paid_at) in table {
            assert_eq!(after(charges), paid_at, "{charges:?}");
        }
        assert_eq!(Bucket::default().charge(at(0), u64::MAX, 1).paid_at, Duration::from_nanos(u64::MAX));
    }

    #[test]
    fn it_is_held_while_something_is_owed_and_nobody_waits() {
        let bucket = Bucket { paid_at: at(700) };
        let behind = Demand { runs: 16, ..IDLE };
        let requested = Demand { is_requested: true, ..IDLE };
        let table = [
            (699, IDLE, Some(700)),
            (700, IDLE, None),
            (900, IDLE, None),
            (0, behind, None),
            (0, requested, None),
        ];
        for (now, demand, until) in table {
            assert_eq!(bucket.held_until(at(now), demand), until.map(at), "{now} {demand:?}");
        }
    }

    #[test]
    fn what_is_not_held_back_leaves_a_bounded_debt() {
        let (now, bucket) = (at(60_000), Bucket { paid_at: at(61_000) });
        assert_eq!(bucket.charge_unheld(now, 2000, 1000).paid_at, at(63_000));
        assert_eq!(bucket.charge_unheld(now, 1 << 40, 1000).paid_at, now + DEBT_MAX);
        // Nor does it take away from what is owed already.
        let deep = Bucket { paid_at: at(200_000) };
        assert_eq!(deep.charge_unheld(now, 1000, 1000), deep);
    }
}
