//! What a database tells whoever wants to know: events, with how long they took and how many bytes they moved.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::Error;

/// Something that happened in a database. More kinds may come.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum DatabaseEvent {
    /// It was opened, and recovered if it had to be.
    Opened {
        /// From the call to its return.
        took: Duration,
    },
    /// Memtables are in tables.
    Flushed {
        /// How many memtables.
        memtables: u64,
        /// What was written, value files included.
        bytes: u64,
        /// From the first byte to the manifest.
        took: Duration,
    },
    /// Tables were merged, moved or removed.
    Compacted {
        /// Tables that are gone.
        tables_in: u64,
        /// Tables that took their place.
        tables_out: u64,
        /// What was written, value files included; 0 when tables were only moved.
        bytes: u64,
        /// From the first byte to the manifest.
        took: Duration,
    },
    /// Writers had to wait, since this was told last: flushes or merges are behind.
    Stalled {
        /// How many writes.
        writes: u64,
        /// How long all of them together.
        took: Duration,
    },
    /// The log was synced, since this was told last.
    Synced {
        /// How often.
        syncs: u64,
        /// How much of the log became durable.
        bytes: u64,
        /// How long all of them together took.
        took: Duration,
        /// The slowest.
        slowest: Duration,
    },
    /// A write or a sync has failed: the database refuses writes until it is opened again.
    Failed {
        /// What writers are told.
        error: Error,
    },
    /// The disk is full: the reserve was given back, and what would add to the database is refused.
    DiskFull {
        /// How large the reserve was.
        reserve_bytes: u64,
    },
    /// The reserve is there again, and everything goes on.
    DiskFreed {
        /// Since the disk was full.
        took: Duration,
    },
    /// It was closed in good order.
    Closed {
        /// From the call to its return.
        took: Duration,
    },
}

/// Is told of events.
///
/// It is called by the database's own threads, by the one that opens and the one that closes, without a lock of the database, one
/// event at a time for each thread. It should be quick: a flush waits for it. It may read the database, and nothing else: a write could
/// wait for the very thread that tells it. A panic is counted and goes no further.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use pugdb_core::observer::{DatabaseEvent, Observer};
///
/// /// Counts what flushes write.
/// #[derive(Default)]
/// struct Flushed(AtomicU64);
///
/// impl Observer for Flushed {
///     fn on_event(&self, event: &DatabaseEvent) {
///         if let DatabaseEvent::Flushed { bytes, .. } = event {
///             self.0.fetch_add(*bytes, Ordering::Relaxed);
///         }
///     }
/// }
///
/// let flushed = Flushed::default();
/// let (memtables, bytes, took) = (1, 4096, std::time::Duration::from_millis(2));
/// flushed.on_event(&DatabaseEvent::Flushed { memtables, bytes, took });
/// assert_eq!(flushed.0.into_inner(), 4096);
/// ```
pub trait Observer: Send + Sync {
    /// Something has happened.
    fn on_event(&self, event: &DatabaseEvent);
}

/// All observers of a database. Cheap to clone.
#[derive(Clone, Default)]
pub struct Observers {
    all: Arc<[Arc<dyn Observer>]>,
    panics: Arc<AtomicU64>,
}

impl Observers {
    /// These.
    pub fn new(all: Vec<Arc<dyn Observer>>) -> Self {
        Self { all: all.into(), panics: Arc::default() }
    }

    /// True when nobody wants to know.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Tells all of them. For callers that hold no lock.
    pub fn tell(&self, event: &DatabaseEvent) {
        for observer in self.all.iter() {
            // Nothing of an observer that panics is used.
            if catch_unwind(AssertUnwindSafe(|| observer.on_event(event))).is_err() {
                self.panics.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// How often one has panicked.
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Observers({})", self.all.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Panics;

    impl Observer for Panics {
        fn on_event(&self, _: &DatabaseEvent) {
            panic!("an observer that cannot cope");
        }
    }

    #[derive(Default)]
    struct Counts(AtomicU64);

    impl Observer for Counts {
        fn on_event(&self, _: &DatabaseEvent) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn one_that_panics_keeps_nothing_from_the_others() {
        let counts = Arc::new(Counts::default());
        let observers = Observers::new(vec![Arc::new(Panics), Arc::clone(&counts) as Arc<dyn Observer>]);
        for _ in 0..3 {
            observers.tell(&DatabaseEvent::Closed { took: Duration::ZERO });
        }
        assert_eq!((observers.panics(), counts.0.load(Ordering::Relaxed)), (3, 3));
        assert!(Observers::default().is_empty() && !observers.is_empty());
    }
}
