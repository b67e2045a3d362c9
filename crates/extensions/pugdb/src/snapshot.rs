//! A view of the whole database that does not change.

use std::fmt;
use std::sync::Arc;

use pugdb_core::engine::{KeyRange, ReadPoint};
use pugdb_core::snapshots::SnapshotGuard;
use pugdb_core::{Entry, Result, Timestamp, Value};

use crate::database::Inner;
use crate::keyspace::Keyspace;
use crate::read;
use crate::scan::Scan;

/// All keyspaces as they were when it was taken, expiry included. Versions it needs are kept until it is dropped.
///
/// ```
/// let db = pugdb::Database::in_memory()?;
/// let users = db.keyspace("users")?;
/// users.put(b"ada", b"1815")?;
/// let snapshot = db.snapshot()?;
/// users.delete(b"ada")?;
/// assert_eq!(snapshot.get(&users, b"ada")?.unwrap(), b"1815");
/// assert_eq!(snapshot.scan(&users, ..).count(), 1);
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone)]
pub struct Snapshot {
    pub(crate) inner: Arc<Inner>,
    guard: SnapshotGuard,
    now: Timestamp,
}

impl Snapshot {
    pub(crate) fn new(inner: &Arc<Inner>) -> Self {
        let guard = inner.snapshots.take();
        Self { inner: Arc::clone(inner), guard, now: inner.now() }
    }

    pub(crate) fn point(&self) -> ReadPoint {
        ReadPoint { seqno: self.guard.seqno(), now: self.now }
    }

    /// The value of a key.
    ///
    /// # Errors
    /// As [`Keyspace::get`], and `Invalid` when the keyspace belongs to another database.
    pub fn get(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        Ok(self.get_entry(keyspace, key)?.map(|entry| entry.value))
    }

    /// The whole entry of a key.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_entry(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Entry>> {
        read::get(&keyspace.inner, &keyspace.space, key.as_ref(), Some(self))
    }

    /// The values of several keys.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn multi_get<K: AsRef<[u8]>>(
        &self,
        keyspace: &Keyspace,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Value>>> {
        let keys: Vec<K> = keys.into_iter().collect();
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        read::multi_get(&keyspace.inner, &keyspace.space, &keys, Some(self))
    }

    /// The entries in a range of keys, in order.
    pub fn scan(&self, keyspace: &Keyspace, range: impl Into<KeyRange>) -> Scan {
        Scan::new(&keyspace.inner, &keyspace.space, range.into(), Some(self.clone()))
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot({})", self.guard.seqno())
    }
}
