//! Counters for `INFO`.

use std::sync::atomic::{AtomicU64, Ordering};

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
