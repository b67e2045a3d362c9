//! Counters for `INFO`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::commands::TABLE;

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
    /// Keys that a read found.
    hits,
    /// Keys that a read did not find.
    misses,
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

/// What each command has done.
#[derive(Debug)]
pub(crate) struct AllCommandStats {
    /// In the order of the table; for each the commands behind it, and at least one.
    counters: Vec<Vec<CommandStats>>,
}

/// What a command has done.
#[derive(Debug, Default)]
pub(crate) struct CommandStats {
    pub(crate) calls: Counter,
    /// Calls that ended in an error.
    pub(crate) failed: Counter,
    pub(crate) nanoseconds: Counter,
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

    pub(crate) fn reset(&self) {
        for stats in self.counters.iter().flatten() {
            for counter in [&stats.calls, &stats.failed, &stats.nanoseconds] {
                counter.0.store(0, Ordering::Relaxed);
            }
        }
    }
}

impl CommandStats {
    pub(crate) fn note(&self, took: Duration, failed: bool) {
        self.calls.add(1);
        self.failed.add(usize::from(failed));
        self.nanoseconds.add(usize::try_from(took.as_nanos()).unwrap_or(usize::MAX));
    }
}
