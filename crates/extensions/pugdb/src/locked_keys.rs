//! Several keys under their locks: what the closure of `update_keys` sees and changes, all in one commit.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::fmt;
use std::iter::Peekable;
use std::sync::Arc;

use pugdb_core::engine::{KeyRange, Scans};
use pugdb_core::{Entry, EntryOptions, Error, Key, KeyspaceId, Op, Result, Timestamp, Value};

use crate::batch::{Changes, Part};
use crate::database::Inner;
use crate::key_locks::Stripes;
use crate::keyspace::{Keyspace, Space};
use crate::scan::Scan;
use crate::snapshot::Snapshot;
use crate::write;

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
    inner: Arc<Inner>,
    stripes: Stripes,
    snapshot: Snapshot,
    changed: BTreeMap<KeyspaceId, Changed>,
    swapped: Vec<(Arc<Space>, Arc<Space>)>,
    /// As a batch counts them.
    bytes: usize,
}

/// What has become of a keyspace.
struct Changed {
    space: Arc<Space>,
    truncated: bool,
    entries: BTreeMap<Key, Entry>,
}

impl LockedKeys {
    pub(crate) fn new(inner: &Arc<Inner>, stripes: Stripes) -> Result<Self> {
        inner.check_open()?;
        Ok(Self {
            inner: Arc::clone(inner),
            stripes,
            snapshot: Snapshot::new(inner),
            changed: BTreeMap::new(),
            swapped: Vec::new(),
            bytes: 0,
        })
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
        self.snapshot.point().now
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
        self.check_owner(keyspace)?;
        let (key, now) = (key.as_ref(), self.now());
        if let Some(changed) = self.changed.get(&keyspace.space.id) {
            if let Some(entry) = changed.entries.get(key) {
                return Ok(entry.is_live(now).then(|| entry.clone()));
            }
            if changed.truncated {
                return Ok(None);
            }
        }
        self.snapshot.get_entry(keyspace, key)
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
    ///     locked.put_with(&users, b"ada", b"1815", EntryOptions { expires_at, meta: 0 })
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
        let entry = write::put_entry(&self.inner, value.as_ref(), options)?;
        self.set(keyspace, key.as_ref(), entry)
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
        self.set(keyspace, key.as_ref(), Entry::delete())
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
        self.check_owner(keyspace)?;
        let changed = self.changed_mut(&keyspace.space);
        changed.truncated = true;
        let forgotten: usize = std::mem::take(&mut changed.entries)
            .into_iter()
            .map(|(key, entry)| entry.raw(&key).cost_bytes())
            .sum();
        self.bytes -= forgotten;
        Ok(())
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
        self.check_owner(one)?;
        self.check_owner(other)?;
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
        self.check_owner(keyspace)?;
        let range = range.into();
        let changed = self.changed.get(&keyspace.space.id);
        let mut scan = self.snapshot.scan(keyspace, range.clone());
        if changed.is_some_and(|changed| changed.truncated) {
            scan = scan.limit(0);
        }
        let ours = changed.filter(|_| !range.is_empty());
        let ours = ours.map(|changed| changed.entries.range::<[u8], _>(range.bounds())).unwrap_or_default();
        Ok(LockedScan {
            base: Base { scan, next: None },
            hidden: changed.map(|changed| &changed.entries),
            ours: ours.peekable(),
            is_ordered: keyspace.space.engine().capabilities().scans == Scans::Ordered,
            now: self.now(),
        })
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
        self.inner.check_open()?;
        let mut space = self.inner.names.read().get(name).cloned();
        for (one, other) in &self.swapped {
            space = space.map(|space| match space.id {
                id if id == one.id => Arc::clone(other),
                id if id == other.id => Arc::clone(one),
                _ => space,
            });
        }
        Ok(space.map(|space| Keyspace::new(&self.inner, space)))
    }

    fn set(&mut self, keyspace: &Keyspace, key: &[u8], entry: Entry) -> Result<()> {
        self.check_owner(keyspace)?;
        if !self.stripes.hold(keyspace.space.id, key) {
            return Err(Error::invalid("a key is changed that was not locked; name it in the scope"));
        }
        let owned = Key::copy(key)?;
        let bytes = self.bytes.saturating_add(entry.raw(key).cost_bytes());
        if bytes > write::batch_bytes_max(&self.inner) && self.bytes > 0 {
            return Err(write::batch_too_large(&self.inner));
        }
        let replaced = self.changed_mut(&keyspace.space).entries.insert(owned, entry);
        let replaced = replaced.map_or(0, |entry| entry.raw(key).cost_bytes());
        self.bytes = bytes - replaced;
        Ok(())
    }

    fn changed_mut(&mut self, space: &Arc<Space>) -> &mut Changed {
        let fresh = || Changed { space: Arc::clone(space), truncated: false, entries: BTreeMap::new() };
        self.changed.entry(space.id).or_insert_with(fresh)
    }

    fn check_owner(&self, keyspace: &Keyspace) -> Result<()> {
        if Arc::ptr_eq(&self.inner, &keyspace.inner) {
            return Ok(());
        }
        Err(Error::invalid("the keyspace belongs to another database than the locked keys"))
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
    pub(crate) fn into_changes(self) -> Changes {
        let mut changes = Changes { swapped: self.swapped, bytes: self.bytes, ..Changes::default() };
        for Changed { space, truncated, entries } in self.changed.into_values() {
            if truncated {
                changes.truncated.push(Arc::clone(&space));
            }
            if !entries.is_empty() {
                let ops = entries.into_iter().map(|(key, entry)| Op { key, entry }).collect();
                changes.parts.push(Part { space, ops });
            }
        }
        changes
    }
}

impl fmt::Debug for LockedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockedKeys({} keyspaces changed, {} bytes)", self.changed.len(), self.bytes)
    }
}

/// What stands in the database, with the next entry looked at.
struct Base {
    scan: Scan,
    next: Option<(Key, Entry)>,
}

impl Base {
    fn peek(&mut self) -> Result<Option<&Key>> {
        if self.next.is_none() {
            self.next = self.scan.next_entry()?;
        }
        Ok(self.next.as_ref().map(|(key, _)| key))
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
pub struct LockedScan<'a> {
    base: Base,
    /// Keys that the base does not show.
    hidden: Option<&'a BTreeMap<Key, Entry>>,
    ours: Peekable<btree_map::Range<'a, Key, Entry>>,
    /// Otherwise our own come last.
    is_ordered: bool,
    now: Timestamp,
}

impl LockedScan<'_> {
    fn advance(&mut self) -> Result<Option<(Key, Entry)>> {
        loop {
            let ours_first = match (self.base.peek()?, self.ours.peek()) {
                (None, None) => return Ok(None),
                (None, Some(_)) => true,
                (Some(_), None) => false,
                (Some(theirs), Some((ours, _))) => self.is_ordered && *ours <= theirs,
            };
            if ours_first {
                let Some((key, entry)) = self.ours.next() else { continue };
                if entry.is_live(self.now) {
                    return Ok(Some((key.clone(), entry.clone())));
                }
            } else if let Some((key, entry)) = self.base.next.take()
                && !self.hidden.is_some_and(|entries| entries.contains_key(&key))
            {
                return Ok(Some((key, entry)));
            }
        }
    }
}

impl Iterator for LockedScan<'_> {
    type Item = Result<(Key, Entry)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}

impl fmt::Debug for LockedScan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LockedScan")
    }
}
