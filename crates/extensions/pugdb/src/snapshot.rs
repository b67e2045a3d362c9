//! A view of the whole database that does not change.

use std::fmt;
use std::sync::Arc;

use pugdb_core::engine::{KeyRange, ReadPoint};
use pugdb_core::seam::{AtHand, Wait};
use pugdb_core::snapshots::SnapshotGuard;
use pugdb_core::{Entry, KeyspaceId, Result, Value};
use pugdb_lsm::KeyspaceView;

use crate::database::Inner;
use crate::handles::{HandleKind, Held};
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
    /// Of keyspaces whose entries can go without a commit: what this reads instead.
    views: Arc<[(KeyspaceId, KeyspaceView)]>,
    /// Of what the program has taken; clones are one handle.
    _held: Option<Arc<Held>>,
}

impl Snapshot {
    /// For the program itself.
    #[track_caller]
    pub(crate) fn taken(inner: &Arc<Inner>) -> Self {
        let held = Arc::new(inner.handles.take(HandleKind::Snapshot));
        Self { _held: Some(held), ..Self::new(inner) }
    }

    /// For what the program has taken and needs one.
    pub(crate) fn new(inner: &Arc<Inner>) -> Self {
        let guard = inner.snapshots.take_at(inner.options.env.clock.now());
        // Behind the seqno: a view has everything up to it.
        let views = inner.durable.as_ref().map_or_else(Vec::new, |durable| durable.store.filtered_views());
        Self { inner: Arc::clone(inner), guard, views: views.into(), _held: None }
    }

    /// What it reads of a keyspace, if that is not what is there now.
    pub(crate) fn view(&self, keyspace: KeyspaceId) -> Option<&KeyspaceView> {
        self.views.iter().find(|(id, _)| *id == keyspace).map(|(_, view)| view)
    }

    pub(crate) fn point(&self) -> ReadPoint {
        ReadPoint { seqno: self.guard.seqno(), now: self.guard.now() }
    }

    /// The value of a key.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// let snapshot = db.snapshot()?;
    /// users.put(b"ada", b"1852")?;
    /// assert_eq!(snapshot.get(&users, b"ada")?.unwrap(), b"1815");
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::get`], and `Invalid` when the keyspace belongs to another database.
    pub fn get(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        Ok(self.get_entry(keyspace, key)?.map(|entry| entry.value))
    }

    /// The value of a key, if it is in memory: as [`Keyspace::try_get`].
    ///
    /// ```
    /// use pugdb::AtHand;
    ///
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// let snapshot = db.snapshot()?;
    /// users.put(b"ada", b"1815")?;
    /// assert_eq!(snapshot.try_get(&users, b"ada")?, AtHand::Yes(None));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn try_get(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<AtHand<Option<Value>>> {
        let looked = read::look(&keyspace.inner, &keyspace.space, key.as_ref(), Some(self), Wait::Never);
        Ok(read::value(looked?))
    }

    /// The entry of a key, if it is in memory: as [`Keyspace::try_get_entry`].
    ///
    /// ```
    /// use pugdb::AtHand;
    ///
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// assert_eq!(db.snapshot()?.try_get_entry(&users, b"ada")?, AtHand::Yes(None));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn try_get_entry(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<AtHand<Option<Entry>>> {
        read::look(&keyspace.inner, &keyspace.space, key.as_ref(), Some(self), Wait::Never)
    }

    /// The whole entry of a key.
    ///
    /// ```
    /// use pugdb::EntryOptions;
    ///
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.put_with(b"ada", b"1815", EntryOptions { meta: 7, ..Default::default() })?;
    /// let snapshot = db.snapshot()?;
    /// users.put(b"ada", b"1852")?;
    /// let entry = snapshot.get_entry(&users, b"ada")?.unwrap();
    /// assert_eq!((entry.meta, entry.expires_at), (7, None));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_entry(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Entry>> {
        read::get(&keyspace.inner, &keyspace.space, key.as_ref(), Some(self))
    }

    /// True when the key has a value, as [`Keyspace::exists`].
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// let snapshot = db.snapshot()?;
    /// users.put(b"ada", b"1815")?;
    /// assert!(!snapshot.exists(&users, b"ada")? && db.snapshot()?.exists(&users, b"ada")?);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn exists(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<bool> {
        read::exists(&keyspace.inner, &keyspace.space, key.as_ref(), Some(self))
    }

    /// The values of several keys.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// let snapshot = db.snapshot()?;
    /// users.put(b"bob", b"1920")?;
    /// let values = snapshot.multi_get(&users, [b"ada", b"bob"])?;
    /// assert!(values[0].is_some() && values[1].is_none());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn multi_get<K: AsRef<[u8]>>(
        &self,
        keyspace: &Keyspace,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Value>>> {
        Ok(read::values(self.multi_get_entries(keyspace, keys)?))
    }

    /// The entries of several keys, with their expiry and meta bytes.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// let entries = db.snapshot()?.multi_get_entries(&users, [b"ada", b"bob"])?;
    /// assert_eq!(entries[0].as_ref().map(|entry| entry.meta), Some(0));
    /// assert!(entries[1].is_none());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn multi_get_entries<K: AsRef<[u8]>>(
        &self,
        keyspace: &Keyspace,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Entry>>> {
        let keys: Vec<K> = keys.into_iter().collect();
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        read::multi_get(&keyspace.inner, &keyspace.space, &keys, Some(self))
    }

    /// The entries in a range of keys, in order.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// users.put(b"bob", b"1920")?;
    /// let snapshot = db.snapshot()?;
    /// users.delete(b"bob")?;
    /// let keys: Vec<_> = snapshot.scan(&users, b"b".as_slice()..).map(|entry| entry.unwrap().0).collect();
    /// assert_eq!(keys, [b"bob"]);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[track_caller]
    pub fn scan(&self, keyspace: &Keyspace, range: impl Into<KeyRange>) -> Scan {
        Scan::new(&keyspace.inner, &keyspace.space, range.into(), Some(self.clone()))
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot({})", self.guard.seqno())
    }
}
