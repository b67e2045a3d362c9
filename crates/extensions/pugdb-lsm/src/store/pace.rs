//! How much a writer pays for what is behind: nothing, then a little and more, up to a millisecond for each KiB. Pure
//! but for the account. Write path, step 1.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Writers pay from this part of what may be in no table.
const UNFLUSHED_PART: (u64, u64) = (3, 4);
/// For a KiB, just below the limits at which writers wait.
const DELAY_MAX_NS: u64 = 1_000_000;
/// What is owed is paid in sleeps of this length or more: shorter ones last as long.
const PAUSE_MIN: Duration = Duration::from_micros(100);
/// A batch of many MiB does not sleep for seconds: it is let in whole anyway.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// How far flushes and compactions are behind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Behind {
    /// Bytes that are in no table, and how many may be.
    pub(super) unflushed: u64,
    pub(super) unflushed_max: u64,
    /// Runs, from how many on there are too many, and at how many writers wait.
    pub(super) runs: u64,
    pub(super) runs_many: u64,
    pub(super) runs_max: u64,
}

impl Behind {
    /// What a write of so many bytes owes, in nanoseconds.
    pub(super) fn price(&self, bytes: u64) -> u64 {
        let from = self.unflushed_max / UNFLUSHED_PART.1 * UNFLUSHED_PART.0;
        let per_mille = part_of(self.unflushed, from, self.unflushed_max).max(part_of(
            self.runs,
            self.runs_many,
            self.runs_max,
        ));
        // Squared: it begins gently.
        let per_million = per_mille * per_mille;
        let price =
            u128::from(bytes) * u128::from(per_million) * u128::from(DELAY_MAX_NS) / (1024 * 1_000_000);
        u64::try_from(price).unwrap_or(u64::MAX)
    }
}

/// How far it is from `from` to `to`, in thousandths.
fn part_of(now: u64, from: u64, to: u64) -> u64 {
    let whole = to.saturating_sub(from).max(1);
    (now.saturating_sub(from).saturating_mul(1000) / whole).min(1000)
}

/// What writers owe together.
#[derive(Debug, Default)]
pub(super) struct Account {
    owed_ns: AtomicU64,
}

impl Account {
    /// Adds a write's price. Says for how long this writer is to sleep now, if it is worth while.
    pub(super) fn charge(&self, price_ns: u64) -> Option<Duration> {
        let owed = self.owed_ns.fetch_add(price_ns, Ordering::Relaxed).saturating_add(price_ns);
        if owed < nanoseconds(PAUSE_MIN) {
            return None;
        }
        // No writer pays much more than its own part.
        let paid = owed.min(price_ns.clamp(nanoseconds(PAUSE_MIN), nanoseconds(PAUSE_MAX)));
        let taken =
            self.owed_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |owed| owed.checked_sub(paid));
        // Somebody else has just paid it.
        taken.ok().map(|_| Duration::from_nanos(paid))
    }

    /// Nothing is behind any more: what is owed is forgotten.
    pub(super) fn forgive(&self) {
        if self.owed_ns.load(Ordering::Relaxed) > 0 {
            self.owed_ns.store(0, Ordering::Relaxed);
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behind(unflushed: u64, runs: u64) -> Behind {
        Behind { unflushed, unflushed_max: 4000, runs, runs_many: 16, runs_max: 48 }
    }

    #[test]
    fn the_price_grows_smoothly_up_to_a_millisecond_for_a_kib() {
        let prices = |of: &dyn Fn(u64) -> Behind, upto: u64| {
            (0..=upto).map(|at| of(at).price(1024)).collect::<Vec<_>>()
        };
        for prices in [prices(&|unflushed| behind(unflushed, 0), 4000), prices(&|runs| behind(0, runs), 48)] {
            assert!(prices.is_sorted() && prices[prices.len() * 3 / 10] == 0);
            assert_eq!(prices[prices.len() - 1], DELAY_MAX_NS);
            let steps = prices.windows(2).map(|pair| pair[1] - pair[0]);
            assert!(steps.max().is_some_and(|step| step <= DELAY_MAX_NS / 15), "there is a cliff");
        }
        // Half of the way costs a quarter, and bytes cost what they are.
        assert_eq!(behind(3500, 0).price(1024), DELAY_MAX_NS / 4);
        assert_eq!(behind(0, 32).price(100 * 1024), 25 * DELAY_MAX_NS);
        assert_eq!(behind(9000, 900).price(1024), DELAY_MAX_NS);
    }

    #[test]
    fn small_prices_are_paid_together_and_nobody_pays_for_all() {
        let account = Account::default();
        let pauses: Vec<_> = (0..1000).filter_map(|_| account.charge(7_000)).collect();
        assert!(pauses.iter().all(|pause| *pause == PAUSE_MIN) && (60..=70).contains(&pauses.len()));
        assert!(account.charge(1_000_000).is_some_and(|pause| pause <= Duration::from_millis(1)));
        assert_eq!(account.charge(u64::MAX / 2), Some(PAUSE_MAX));
        account.forgive();
        assert_eq!(account.charge(1), None);
    }
}
