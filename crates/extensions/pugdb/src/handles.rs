//! What a program holds of a database: always counted, and noted with its place where that is asked for, so that a test can say
//! what was never given back, and where it was taken.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

/// What can be held.
///
/// ```
/// use pugdb::HandleKind;
///
/// let db = pugdb::Database::builder().track_handles(true).in_memory()?;
/// let scan = db.keyspace("users")?.scan(..);
/// assert_eq!(db.open_handles()[0].kind, HandleKind::Scan);
/// # drop(scan);
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum HandleKind {
    /// A [`Snapshot`](crate::Snapshot): keeps old versions.
    Snapshot,
    /// A [`Scan`](crate::Scan): keeps old versions and the files it reads.
    Scan,
    /// A [`Transaction`](crate::Transaction): keeps old versions, and the rows that it has locked.
    Transaction,
    /// A [`SortedWriter`](crate::SortedWriter) or what it has written: keeps files that are in no keyspace.
    SortedFile,
    /// A [`BulkLoad`](crate::BulkLoad): keeps what it has not taken in yet in memory.
    BulkLoad,
}

const KINDS: [HandleKind; 5] = [
    HandleKind::Snapshot,
    HandleKind::Scan,
    HandleKind::Transaction,
    HandleKind::SortedFile,
    HandleKind::BulkLoad,
];

/// How many are held of each kind.
///
/// ```
/// let db = pugdb::Database::in_memory()?;
/// let transaction = db.begin()?;
/// assert_eq!(db.stats()?.handles.transactions, 1);
/// drop(transaction);
/// assert_eq!(db.stats()?.handles, pugdb::HandleCounts::default());
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandleCounts {
    /// Snapshots that the program has taken; those that transactions and reads take for themselves are not among them.
    pub snapshots: usize,
    /// Scans that are not dropped, over or not.
    pub scans: usize,
    /// Transactions that are neither committed nor dropped.
    pub transactions: usize,
    /// Sorted writers, and their files that are not taken in.
    pub sorted_files: usize,
    /// Bulk loads.
    pub bulk_loads: usize,
}

/// Something that is held.
///
/// ```
/// let db = pugdb::Database::builder().track_handles(true).in_memory()?;
/// let snapshot = db.snapshot()?;
/// let told = db.open_handles()[0].to_string();
/// assert!(told.starts_with("a snapshot of ") && told.contains(".rs:"), "{told}"); // file, line and column
/// # drop(snapshot);
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenHandle {
    /// What it is.
    pub kind: HandleKind,
    /// Where the program took it.
    pub place: &'static Location<'static>,
}

impl fmt::Display for OpenHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            HandleKind::Snapshot => "snapshot",
            HandleKind::Scan => "scan",
            HandleKind::Transaction => "transaction",
            HandleKind::SortedFile => "sorted file",
            HandleKind::BulkLoad => "bulk load",
        };
        write!(f, "a {kind} of {}", self.place)
    }
}

/// What is held of one database.
#[derive(Default)]
pub(crate) struct Handles {
    counts: [AtomicUsize; KINDS.len()],
    /// Guards the places, by the order in which they were taken. `None` where they are not noted.
    places: Option<Mutex<BTreeMap<u64, OpenHandle>>>,
    taken: AtomicU64,
}

/// One thing that is held, until this is dropped.
pub(crate) struct Held {
    handles: Arc<Handles>,
    kind: HandleKind,
    number: u64,
}

impl Handles {
    /// Notes places too if `has_places`.
    pub(crate) fn new(has_places: bool) -> Arc<Self> {
        Arc::new(Self { places: has_places.then(Mutex::default), ..Self::default() })
    }

    /// The caller of the caller takes something.
    #[track_caller]
    pub(crate) fn take(self: &Arc<Self>, kind: HandleKind) -> Held {
        self.counts[kind as usize].fetch_add(1, Ordering::Relaxed);
        let mut number = 0;
        if let Some(places) = &self.places {
            number = self.taken.fetch_add(1, Ordering::Relaxed);
            places.lock().insert(number, OpenHandle { kind, place: Location::caller() });
        }
        Held { handles: Arc::clone(self), kind, number }
    }

    pub(crate) fn counts(&self) -> HandleCounts {
        let [snapshots, scans, transactions, sorted_files, bulk_loads] =
            self.counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        HandleCounts { snapshots, scans, transactions, sorted_files, bulk_loads }
    }

    /// What is held, the oldest first; nothing where places are not noted.
    pub(crate) fn open(&self) -> Vec<OpenHandle> {
        self.places.as_ref().map_or_else(Vec::new, |places| places.lock().values().copied().collect())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.handles.counts[self.kind as usize].fetch_sub(1, Ordering::Relaxed);
        if let Some(places) = &self.handles.places {
            places.lock().remove(&self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_counter_of_its_own() {
        assert!(KINDS.iter().enumerate().all(|(number, kind)| *kind as usize == number));
        let handles = Handles::new(true);
        let held: Vec<Held> = KINDS.iter().map(|kind| handles.take(*kind)).collect();
        let one = HandleCounts { snapshots: 1, scans: 1, transactions: 1, sorted_files: 1, bulk_loads: 1 };
        assert_eq!((handles.counts(), handles.open().len()), (one, 5));
        assert!(
            handles.open()[0].to_string().starts_with("a snapshot of ")
                && handles.open()[0].place.file().ends_with("handles.rs")
        );
        drop(held);
        assert_eq!((handles.counts(), handles.open().len()), (HandleCounts::default(), 0));
    }
}
