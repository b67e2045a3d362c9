//! Settings that `CONFIG SET` changes while the server runs.

use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::ServerOptions;
use crate::limits::{SLOWLOG_ENTRIES, SLOWLOG_MICROSECONDS};

#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) clients_max: AtomicUsize,
    /// Zero: idle clients stay.
    pub(crate) idle_timeout_s: AtomicU64,
    /// For connections that come. Zero: nobody asks.
    pub(crate) keepalive_s: AtomicU64,
    /// Commands that take at least so long are kept; negative: none.
    pub(crate) slowlog_us: AtomicI64,
    pub(crate) slowlog_entries: AtomicUsize,
    /// Commands that take at least so long are events of `LATENCY`; zero: none.
    pub(crate) latency_ms: AtomicU64,
}

impl Settings {
    pub(crate) fn new(options: &ServerOptions) -> Self {
        Self {
            clients_max: AtomicUsize::new(options.max_clients),
            idle_timeout_s: AtomicU64::new(options.idle_timeout.map_or(0, |idle| idle.as_secs().max(1))),
            keepalive_s: AtomicU64::new(options.keepalive.as_secs()),
            slowlog_us: AtomicI64::new(SLOWLOG_MICROSECONDS),
            slowlog_entries: AtomicUsize::new(SLOWLOG_ENTRIES),
            latency_ms: AtomicU64::new(0),
        }
    }

    pub(crate) fn idle_timeout(&self) -> Option<Duration> {
        match self.idle_timeout_s.load(Ordering::Relaxed) {
            0 => None,
            seconds => Some(Duration::from_secs(seconds)),
        }
    }
}
