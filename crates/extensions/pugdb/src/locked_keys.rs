//! Several keys under their locks: what the closure of `update_keys` sees and changes, all in one commit.

use std::fmt;
use std::sync::Arc;

use pugdb_core::engine::{Direction, KeyRange};
use pugdb_core::{Entry, EntryOptions, Error, Key, Result, Timestamp, Value};

use crate::batch::Changes;
use crate::database::Inner;
use crate::key_locks::Stripes;
use crate::keyspace::Keyspace;
use crate::overlay::{Overlay, OverlayScan};
use crate::space::Space;

/// What [`Database::update_keys`](crate::Database::update_keys) locks.
///
/// ```
/// use pugdb::{LockScope, LockedKeys};
///
/// let db = pugdb::Database::in_memory()?;
/// let users = db.keyspace("users")?;
/// let keys = [(users.clone(), &b"ada"[..])];
/// db.update_keys(LockScope::Keys(&keys), |locked| locked.put(&users, b"ada", b"1815"))?;
/// let count = |locked: &mut LockedKeys| Ok(locked.scan(&users, ..)?.count());
/// assert_eq!(db.update_keys(LockScope::Everything, count)?, 1);
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub enum LockScope<'a> {
    /// These keys.
    Keys(&'a [(Keyspace, &'a [u8])]),
    /// Every key of every keyspace. Other writers wait meanwhile.
    Everything,
}

/// Locked keys, as the closure of [`Database::update_keys`](crate::Database::update_keys) sees and changes them.
///
/// Reads see what stood there when the locks were taken, at one moment in time, and the closure's own changes on top.
/// Nobody else sees a change before the closure has returned, and then sees all of them. Reads of keys that are not
/// locked are allowed; changes of them are refused.
///
/// ```
/// use pugdb::LockScope;
///
/// let db = pugdb::Database::in_memory()?;
/// let accounts = db.keyspace("accounts")?;
/// accounts.put(b"ada", b"10")?;
/// let keys = [(accounts.clone(), &b"ada"[..]), (accounts.clone(), &b"grace"[..])];
/// db.update_keys(LockScope::Keys(&keys), |locked| {
///     let all = locked.get(&accounts, b"ada")?.unwrap();
///     locked.put(&accounts, b"grace", all)?;
///     locked.delete(&accounts, b"ada")
/// })?;
/// assert_eq!(accounts.get(b"grace")?.unwrap(), b"10");
/// # Ok::<(), pugdb::Error>(())
/// ```
pub struct LockedKeys {
    overlay: Overlay,
    stripes: Stripes,
    swapped: Vec<(Arc<Space>, Arc<Space>)>,
}

impl LockedKeys {
    pub(crate) fn new(inner: &Arc<Inner>, stripes: Stripes) -> Result<Self> {
        inner.check_open()?;
        Ok(Self { overlay: Overlay::new(inner), stripes, swapped: Vec::new() })
    }

    /// The time by which expiry is judged, and from which a new one counts.
    ///
    /// ```
    /// use pugdb::LockScope;
    ///
    /// let db = pugdb::Database::in_memory()?;
    /// let (now, _) = db.update_keys_ticket(LockScope::Keys(&[]), |locked| Ok(locked.now()))?;
    /// assert!(now <= db.now());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn now(&self) -> Timestamp {
        self.overlay.now()
    }

    /// The value of a key.
    ///
    /// ```
    /// use pugdb::LockScope;
    ///
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// db.update_keys(LockScope::Everything, |locked| {
    ///     locked.put(&users, b"ada", b"1815")?;
    ///     assert_eq!(locked.get(&users, b"ada")?.unwrap(), b"1815"); // its own change
    ///     Ok(())
    /// })?;
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn get(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        Ok(self.get_entry(keyspace, key)?.map(|entry| entry.value))
    }

    /// The entry of a key, with expiry and meta byte.
    ///
    /// ```
    /// use pugdb::LockScope;
    ///
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// let meta = db.update_keys(LockScope::Keys(&[]), |locked| {
    ///     Ok(locked.get_entry(&users, b"ada")?.map(|entry| entry.meta))
    /// })?;
    /// assert_eq!(meta, Some(0));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn get_entry(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Entry>> {
        self.overlay.get(keyspace, key.as_ref())
    }

    /// Sets a key.
    ///
    /// ```
    /// use pugdb::{ErrorKind, LockScope};
    ///
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// let keys = [(users.clone(), &b"ada"[..])];
    /// db.update_keys(LockScope::Keys(&keys), |locked| locked.put(&users, b"ada", b"1815"))?;
    /// assert!(users.exists(b"ada")?);
    ///
    /// let other = db.update_keys(LockScope::Keys(&keys), |locked| locked.put(&users, b"grace", b"1906"));
    /// assert_eq!(other.unwrap_err().kind(), ErrorKind::Invalid); // it is not locked
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` for a key that is not locked, or a key or value beyond the limits.
    pub fn put(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.put_with(keyspace, key, value, EntryOptions::default())
    }

    /// Sets a key, with expiry and meta byte.
    ///
    /// ```
    /// use pugdb::{EntryOptions, LockScope};
    ///
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// db.update_keys(LockScope::Everything, |locked| {
    ///     let expires_at = Some(locked.now().plus_ms(60_000));
    ///     locked.put_with(&users, b"ada", b"1815", EntryOptions { expires_at, ..Default::default() })
    /// })?;
    /// assert!(users.get_entry(b"ada")?.unwrap().expires_at.is_some());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn put_with(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: EntryOptions,
    ) -> Result<()> {
        self.check_locked(keyspace, key.as_ref())?;
        self.overlay.put(keyspace, key.as_ref(), value.as_ref(), options)
    }

    /// Removes a key.
    ///
    /// ```
    /// use pugdb::LockScope;
    ///
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// let keys = [(users.clone(), &b"ada"[..])];
    /// db.update_keys(LockScope::Keys(&keys), |locked| locked.delete(&users, b"ada"))?;
    /// assert!(!users.exists(b"ada")?);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn delete(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<()> {
        self.check_locked(keyspace, key.as_ref())?;
        self.overlay.set(keyspace, key.as_ref(), Entry::delete())
    }

    /// Removes everything that was in a keyspace before.
    ///
    /// ```
    /// use pugdb::LockScope;
    ///
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// db.update_keys(LockScope::Everything, |locked| {
    ///     locked.truncate(&users)?;
    ///     locked.put(&users, b"grace", b"1906")
    /// })?;
    /// assert_eq!(users.count()?, 1);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` unless [everything](LockScope::Everything) is locked.
    pub fn truncate(&mut self, keyspace: &Keyspace) -> Result<()> {
        self.check_everything()?;
        self.overlay.truncate(keyspace)
    }

    /// Exchanges the names of two keyspaces. Handles follow what they hold, not its name.
    ///
    /// ```
    /// use pugdb::LockScope;
    ///
    /// let db = pugdb::Database::in_memory()?;
    /// let (new, old) = (db.keyspace("new")?, db.keyspace("old")?);
    /// db.update_keys(LockScope::Everything, |locked| {
    ///     locked.put(&new, b"ada", b"1815")?;
    ///     locked.swap_names(&new, &old)
    /// })?;
    /// assert!(db.keyspace("old")?.exists(b"ada")?);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` unless [everything](LockScope::Everything) is locked.
    pub fn swap_names(&mut self, one: &Keyspace, other: &Keyspace) -> Result<()> {
        self.check_everything()?;
        self.overlay.check_owner(one)?;
        self.overlay.check_owner(other)?;
        if one.space.id != other.space.id {
            self.swapped.push((Arc::clone(&one.space), Arc::clone(&other.space)));
        }
        Ok(())
    }

    /// The entries in a range of keys, in the keyspace's order.
    ///
    /// ```
    /// use pugdb::LockScope;
    ///
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// let count = db.update_keys(LockScope::Everything, |locked| {
    ///     locked.put(&users, b"grace", b"1906")?;
    ///     locked.delete(&users, b"ada")?;
    ///     Ok(locked.scan(&users, ..)?.count())
    /// })?;
    /// assert_eq!(count, 1);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` when the keyspace belongs to another database. The items fail as those of [`Keyspace::scan`].
    pub fn scan(&self, keyspace: &Keyspace, range: impl Into<KeyRange>) -> Result<LockedScan<'_>> {
        self.overlay.check_owner(keyspace)?;
        Ok(LockedScan(self.overlay.scan(keyspace, &range.into(), Direction::Forward)))
    }

    /// The keyspace of this name, if there is one, after the names exchanged so far.
    ///
    /// ```
    /// use pugdb::LockScope;
    ///
    /// let db = pugdb::Database::in_memory()?;
    /// let (new, old) = (db.keyspace("new")?, db.keyspace("old")?);
    /// new.put(b"ada", b"1815")?;
    /// let value = db.update_keys(LockScope::Everything, |locked| {
    ///     locked.swap_names(&new, &old)?;
    ///     let found = locked.keyspace("old")?.unwrap();
    ///     locked.get(&found, b"ada")
    /// })?;
    /// assert_eq!(value.unwrap(), b"1815");
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Closed`.
    pub fn keyspace(&self, name: &str) -> Result<Option<Keyspace>> {
        let inner = &self.overlay.inner;
        inner.check_open()?;
        let mut space = inner.names.read().get(name).cloned();
        for (one, other) in &self.swapped {
            space = space.map(|space| match space.id {
                id if id == one.id => Arc::clone(other),
                id if id == other.id => Arc::clone(one),
                _ => space,
            });
        }
        Ok(space.map(|space| Keyspace::new(inner, space)))
    }

    fn check_locked(&self, keyspace: &Keyspace, key: &[u8]) -> Result<()> {
        self.overlay.check_owner(keyspace)?;
        if self.stripes.hold(keyspace.space.id, key) {
            return Ok(());
        }
        Err(Error::invalid("a key is changed that was not locked; name it in the scope"))
    }

    fn check_everything(&self) -> Result<()> {
        match self.stripes {
            Stripes::All => Ok(()),
            Stripes::One(_) | Stripes::Some(_) => {
                Err(Error::invalid("a whole keyspace is changed; lock LockScope::Everything for that"))
            }
        }
    }

    /// What is to be committed.
    pub(crate) fn into_changes(self) -> Result<Changes> {
        Ok(Changes { swapped: self.swapped, ..self.overlay.into_changes()? })
    }
}

impl fmt::Debug for LockedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockedKeys({:?})", self.overlay)
    }
}

/// Entries of locked keys, in order: what stands in the database, and the closure's own changes on top. Made by
/// [`LockedKeys::scan`].
///
/// ```
/// use pugdb::LockScope;
///
/// let db = pugdb::Database::in_memory()?;
/// let users = db.keyspace("users")?;
/// users.put(b"ada", b"1815")?;
/// db.update_keys(LockScope::Everything, |locked| {
///     let mut scan = locked.scan(&users, ..)?;
///     assert_eq!(scan.next().transpose()?.map(|(key, _)| key.to_vec()), Some(b"ada".to_vec()));
///     assert!(scan.next().is_none());
///     Ok(())
/// })?;
/// # Ok::<(), pugdb::Error>(())
/// ```
pub struct LockedScan<'a>(OverlayScan<'a>);

impl Iterator for LockedScan<'_> {
    type Item = Result<(Key, Entry)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.advance().transpose()
    }
}

impl fmt::Debug for LockedScan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LockedScan")
    }
}
