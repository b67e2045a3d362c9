//! Counters for `INFO` and the metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::commands::TABLE;
use crate::limits::ERROR_WORDS_MAX;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What has happened since the start, or since `CONFIG RESETSTAT`.
        #[derive(Debug, Default)]
        pub(crate) struct Stats {
            $($(#[$doc])* pub(crate) $name: Counter,)*
        }

        impl Stats {
            pub(crate) fn reset(&self) {
                $(self.$name.0.store(0, Ordering::Relaxed);)*
            }
        }
    };
}

counters! {
    /// Connections that were served.
    connections,
    /// Connections that were refused for the limit of clients.
    rejected,
    /// Commands that ran.
    commands,
    /// Replies that were errors.
    errors,
    /// Connections that were closed for bytes that are not RESP.
    protocol_errors,
    /// Connections that were closed because the buffers of all took too much.
    out_of_buffers,
    /// Commands that ended in a panic.
    panics,
    /// Connections that were closed because the client did not read.
    stalled,
    /// Connections that were closed for their silence.
    idle_closed,
    /// Handshakes of TLS that came to a connection.
    tls_handshakes,
    /// Those that did not: no TLS, no common version, a certificate that is missing or wrong, too slow.
    tls_failures,
    /// Those that had to end because too many were under way.
    tls_evicted,
    /// Syncs that failed, as connections saw it.
    sync_failures,
    /// Keys that a read found.
    hits,
    /// Keys that a read did not find.
    misses,
    /// Logins that went well.
    logins,
    /// Logins with a wrong name or password.
    login_failures,
    /// Logins that were not tried because too many from there had failed.
    logins_held_off,
    /// Commands refused for want of a right to the command.
    denied_commands,
    /// Commands refused for want of a right to a database.
    denied_keyspaces,
    /// Commands refused for want of a right to a key.
    denied_keys,
    /// Commands refused for want of a right to a channel.
    denied_channels,
    /// Changes of users and roles.
    rights_changes,
    /// Bytes that were received.
    bytes_in,
    /// Bytes that were sent.
    bytes_out,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Replies that were errors, by their first word. The words are ours.
#[derive(Debug, Default)]
pub(crate) struct ErrorCounts(Mutex<BTreeMap<String, u64>>);

impl ErrorCounts {
    /// Counts an error reply by its text.
    pub(crate) fn add(&self, text: &str) {
        let word = text.split(' ').next().unwrap_or_default();
        let mut counts = self.0.lock();
        if let Some(count) = counts.get_mut(word) {
            *count += 1;
        } else if counts.len() < ERROR_WORDS_MAX {
            counts.insert(word.to_owned(), 1);
        }
    }

    pub(crate) fn all(&self) -> BTreeMap<String, u64> {
        self.0.lock().clone()
    }

    pub(crate) fn reset(&self) {
        self.0.lock().clear();
    }
}

/// What each command has done.
#[derive(Debug)]
pub(crate) struct AllCommandStats {
    /// In the order of the table; for each the commands behind it, and at least one.
    counters: Vec<Vec<CommandStats>>,
}

/// Bucket n counts calls of up to 2^n microseconds; the last one, all that took longer: over half a minute.
pub(crate) const BUCKETS: usize = 26;

/// What a command has done.
#[derive(Debug, Default)]
pub(crate) struct CommandStats {
    pub(crate) calls: Counter,
    /// Calls that ended in an error.
    pub(crate) failed: Counter,
    /// Calls that could not even begin.
    pub(crate) rejected: Counter,
    pub(crate) nanoseconds: Counter,
    histogram: [Counter; BUCKETS],
}

impl AllCommandStats {
    pub(crate) fn new() -> Self {
        let counters = TABLE.iter().map(|command| {
            // One more than there are: the last one is for HELP.
            (0..=command.subcommands().len()).map(|_| CommandStats::default()).collect()
        });
        Self { counters: counters.collect() }
    }

    /// Of the command at a place in the table.
    pub(crate) fn of(&self, (index, subcommand): (usize, usize)) -> &CommandStats {
        &self.counters[index][subcommand]
    }

    /// Of all commands that do something themselves, with their names.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, &CommandStats)> {
        self.counters.iter().zip(TABLE).flat_map(|(counters, command)| {
            let names = command.subcommands().iter().map(|subcommand| subcommand.name);
            counters.iter().zip(names.chain([command.name])).map(|(stats, name)| (name, stats))
        })
    }

    pub(crate) fn reset(&self) {
        for stats in self.counters.iter().flatten() {
            for counter in [&stats.calls, &stats.failed, &stats.rejected, &stats.nanoseconds]
                .into_iter()
                .chain(&stats.histogram)
            {
                counter.0.store(0, Ordering::Relaxed);
            }
        }
    }
}

impl CommandStats {
    pub(crate) fn note(&self, took: Duration, failed: bool) {
        self.calls.add(1);
        if failed {
            self.failed.add(1);
        }
        self.nanoseconds.add(usize::try_from(took.as_nanos()).unwrap_or(usize::MAX));
        self.histogram[bucket_of(took)].add(1);
    }

    /// Microseconds that calls took at most, and how many took no more than that and more than the one before. The last
    /// one has no upper end.
    pub(crate) fn histogram(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        self.histogram.iter().enumerate().map(|(bucket, counter)| {
            (if bucket + 1 < BUCKETS { Some(1 << bucket) } else { None }, counter.get())
        })
    }

    /// Microseconds that `share` of the calls did not exceed, as exactly as the buckets tell.
    pub(crate) fn percentile(&self, share: f64) -> u64 {
        let counts: Vec<_> = self.histogram().collect();
        let total: u64 = counts.iter().map(|(_, count)| count).sum();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank among calls, and a bucket is far coarser than the error"
        )]
        let rank = ((total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (microseconds, count) in counts {
            seen += count;
            if seen >= rank {
                return microseconds.unwrap_or(1 << (BUCKETS - 1));
            }
        }
        0
    }
}

/// The bucket of a call: the first whose microseconds it did not exceed.
fn bucket_of(took: Duration) -> usize {
    let microseconds = u64::try_from(took.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX);
    let bits = u64::BITS - microseconds.saturating_sub(1).leading_zeros();
    usize::try_from(bits).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_counted_where_its_time_fits() {
        let cases = [(0, 0), (999, 0), (1_000, 0), (1_001, 1), (2_000, 1), (2_001, 2), (1_000_000, 10)];
        for (nanoseconds, bucket) in cases {
            assert_eq!(bucket_of(Duration::from_nanos(nanoseconds)), bucket, "{nanoseconds}");
        }
        assert_eq!(bucket_of(Duration::from_hours(1)), BUCKETS - 1);
        assert_eq!(bucket_of(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_upper_ends_of_buckets() {
        let stats = CommandStats::default();
        assert_eq!(stats.percentile(0.5), 0);
        for _ in 0..99 {
            stats.note(Duration::from_micros(3), false);
        }
        stats.note(Duration::from_millis(1), true);
        assert_eq!((stats.percentile(0.5), stats.percentile(0.99), stats.percentile(0.999)), (4, 4, 1024));
        assert_eq!((stats.calls.get(), stats.failed.get()), (100, 1));
    }

    #[test]
    fn every_command_has_its_counters() {
        let stats = AllCommandStats::new();
        let get = TABLE.iter().position(|command| command.name == "get").unwrap();
        stats.of((get, 0)).note(Duration::from_micros(1), false);
        let called: Vec<_> = stats.all().filter(|(_, stats)| stats.calls.get() > 0).collect();
        assert_eq!((called.len(), called[0].0), (1, "get"));
    }

    #[test]
    fn words_of_errors_are_bounded() {
        let counts = ErrorCounts::default();
        for number in 0..1_000 {
            counts.add(&format!("WORD{number} text"));
            counts.add("ERR text");
        }
        assert_eq!(counts.all().len(), ERROR_WORDS_MAX);
        assert_eq!(counts.all()["ERR"], 1_000);
    }
}
