//! What took long: the last operations that were slower than a threshold, with their shapes and never with what they held.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use pugdb_core::{KeyspaceId, Timestamp};

/// The oldest ones make way.
const KEPT_MAX: usize = 256;

/// What is timed.
///
/// ```
/// use std::time::Duration;
///
/// use pugdb::OperationKind;
///
/// let db = pugdb::Database::builder().slow_operations(Duration::ZERO).in_memory()?;
/// assert_eq!(db.keyspace("users")?.multi_get(["ada", "bob"])?.len(), 2);
/// assert_eq!(db.slow_operations()[0].kind, OperationKind::MultiGet);
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OperationKind {
    /// A read of one key.
    Get,
    /// A look whether a key is there.
    Exists,
    /// A read of several keys.
    MultiGet,
    /// A step of a scan: it brings up to a thousand entries.
    ScanStep,
    /// A commit, from the call until it is visible: a wait for room counts, a wait for a sync does not. Of a transaction what it asks
    /// before counts.
    Commit,
}

/// An operation that took long. It tells sizes; no key, no value and no name.
///
/// ```
/// use std::time::Duration;
///
/// let db = pugdb::Database::builder().slow_operations(Duration::ZERO).in_memory()?; // everything is slow
/// let users = db.keyspace("users")?;
/// users.put(b"ada", b"1815")?;
/// users.get(b"ada")?;
/// let slow = db.slow_operations();
/// assert_eq!(slow.iter().map(|one| one.kind).collect::<Vec<_>>(), [pugdb::OperationKind::Commit, pugdb::OperationKind::Get]);
/// assert_eq!((slow[1].keyspace, slow[1].keys, slow[1].bytes), (Some(users.id()), 1, 3));
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlowOperation {
    /// When it ended.
    pub at: Timestamp,
    /// What it was.
    pub kind: OperationKind,
    /// How long it took.
    pub took: Duration,
    /// The keyspace, if it was about one.
    pub keyspace: Option<KeyspaceId>,
    /// How many keys it was asked for; of a commit its operations; of a step of a scan the entries that it has brought.
    pub keys: usize,
    /// The bytes of those keys; of a commit those of values too, and what each operation costs in memory.
    pub bytes: usize,
}

/// The shape of an operation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shape {
    pub(crate) keyspace: Option<KeyspaceId>,
    pub(crate) keys: usize,
    pub(crate) bytes: usize,
}

impl Shape {
    pub(crate) fn of_key(keyspace: KeyspaceId, key: &[u8]) -> Self {
        Self { keyspace: Some(keyspace), keys: 1, bytes: key.len() }
    }
}

pub(crate) struct SlowLog {
    threshold: Duration,
    /// Guards the operations, the oldest first, and how many there have been.
    kept: Mutex<(VecDeque<SlowOperation>, u64)>,
}

impl SlowLog {
    pub(crate) fn new(threshold: Duration) -> Self {
        Self { threshold, kept: Mutex::default() }
    }

    /// Keeps an operation, if it was slow.
    pub(crate) fn note(
        &self,
        kind: OperationKind,
        took: Duration,
        shape: Shape,
        at: impl FnOnce() -> Timestamp,
    ) {
        if took < self.threshold {
            return;
        }
        let Shape { keyspace, keys, bytes } = shape;
        let operation = SlowOperation { at: at(), kind, took, keyspace, keys, bytes };
        let mut kept = self.kept.lock();
        let (operations, count) = &mut *kept;
        if operations.len() == KEPT_MAX {
            operations.pop_front();
        }
        operations.push_back(operation);
        *count += 1;
    }

    pub(crate) fn kept(&self) -> Vec<SlowOperation> {
        self.kept.lock().0.iter().copied().collect()
    }

    pub(crate) fn count(&self) -> u64 {
        self.kept.lock().1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_slow_ones_are_kept_and_all_are_counted() {
        let log = SlowLog::new(Duration::from_millis(5));
        for number in 0..1000_u64 {
            let took = Duration::from_millis(number % 10);
            let shape = Shape { keys: 1, ..Shape::default() };
            log.note(OperationKind::Get, took, shape, || Timestamp(number));
        }
        let kept = log.kept();
        assert_eq!((kept.len(), log.count()), (KEPT_MAX, 500));
        assert!(kept.iter().all(|one| one.took >= Duration::from_millis(5)));
        assert_eq!(kept.last().map(|one| one.at), Some(Timestamp(999)));
    }
}
