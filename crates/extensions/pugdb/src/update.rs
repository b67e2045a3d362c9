//! Reads, decides and writes one key as one step, under the key's lock: what needs no transaction.

use std::time::Duration;

use pugdb_core::{Entry, EntryOptions, Result, Timestamp, Value};

use crate::keyspace::Keyspace;
use crate::{CommitTicket, write};

/// What an [`update`](Keyspace::update) closure wants done.
///
/// ```
/// use pugdb::Change;
///
/// let db = pugdb::Database::in_memory()?;
/// let users = db.keyspace("users")?;
/// users.update(b"ada", |_| Ok((Change::put(b"1815"), ())))?;
/// let year = users.update(b"ada", |old| Ok((Change::Keep, old.map(|entry| entry.value.clone()))))?;
/// assert_eq!(year.unwrap(), b"1815");
/// users.update(b"ada", |_| Ok((Change::Delete, ())))?;
/// assert!(!users.exists(b"ada")?);
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Keep,
    /// This value, with these options.
    Put(Vec<u8>, EntryOptions),
    /// The key removed.
    Delete,
}

impl Change {
    /// A value without options.
    ///
    /// ```
    /// use pugdb::Change;
    ///
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// let added = users.update(b"ada", |old| match old {
    ///     Some(_) => Ok((Change::Keep, false)),
    ///     None => Ok((Change::put(b"1815"), true)),
    /// })?;
    /// assert!(added);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn put(value: impl Into<Vec<u8>>) -> Self {
        Self::Put(value.into(), EntryOptions::default())
    }
}

impl Keyspace {
    /// Reads, decides and writes one key as one step: no other write to the key comes between.
    ///
    /// The closure must not write to a database: that is refused, it would wait for itself. It may be slow, but other
    /// writers of the key wait for it.
    ///
    /// ```
    /// use pugdb::Change;
    ///
    /// let db = pugdb::Database::in_memory()?;
    /// let counters = db.keyspace("counters")?;
    /// let next = |old: Option<&pugdb::Entry>| {
    ///     let number = old.map_or(0, |entry| entry.value[0]) + 1;
    ///     Ok((Change::put([number]), number))
    /// };
    /// assert_eq!(counters.update(b"visits", next)?, 1);
    /// assert_eq!(counters.update(b"visits", next)?, 2);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// What the closure returns, which changes nothing, and as [`put`](Self::put) and [`get`](Self::get).
    pub fn update<R>(
        &self,
        key: impl AsRef<[u8]>,
        decide: impl FnOnce(Option<&Entry>) -> Result<(Change, R)>,
    ) -> Result<R> {
        let (result, ticket) = self.update_ticket(key, decide)?;
        ticket.wait()?;
        Ok(result)
    }

    /// As [`update`](Self::update), and returns at once with a ticket for the durability.
    ///
    /// ```
    /// use pugdb::Change;
    ///
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// let (existed, ticket) = users.update_ticket(b"ada", |old| Ok((Change::Delete, old.is_some())))?;
    /// ticket.wait()?;
    /// assert!(!existed);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`update`](Self::update).
    pub fn update_ticket<R>(
        &self,
        key: impl AsRef<[u8]>,
        decide: impl FnOnce(Option<&Entry>) -> Result<(Change, R)>,
    ) -> Result<(R, CommitTicket)> {
        write::update(&self.inner, &self.space, key.as_ref(), self.durability, decide)
    }

    /// Sets the key to `new`, or removes it for `None`, if its value is `expected`, or there is none for `None`. False when it is
    /// not, and nothing is changed. An expiry and a meta byte go with the old value.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let leaders = db.keyspace("leaders")?;
    /// assert!(leaders.compare_and_set(b"east", None, Some(b"ada"))?);
    /// assert!(!leaders.compare_and_set(b"east", None, Some(b"bob"))?);
    /// assert!(leaders.compare_and_set(b"east", Some(b"ada"), Some(b"bob"))?);
    /// assert!(leaders.compare_and_set(b"east", Some(b"bob"), None)?);
    /// assert!(!leaders.exists(b"east")?);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put) and [`get`](Self::get).
    pub fn compare_and_set(
        &self,
        key: impl AsRef<[u8]>,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<bool> {
        self.update(key, |old| {
            if old.map(|entry| &*entry.value) != expected {
                return Ok((Change::Keep, false));
            }
            let change = match (new, old) {
                (Some(new), old) => {
                    // About whom the old one was the new one is, too.
                    let seal = old.and_then(|entry| entry.seal);
                    Change::Put(new.to_vec(), EntryOptions { seal, ..EntryOptions::default() })
                }
                (None, Some(_)) => Change::Delete,
                (None, None) => Change::Keep,
            };
            Ok((change, true))
        })
    }

    /// Sets the key to what `next` makes of its value, or removes it for `None`, and returns the value from before. Expiry and meta
    /// byte stay as they are. `next` runs once, and must not write to a database.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let counters = db.keyspace("counters")?;
    /// let add_one = |old: Option<&[u8]>| Some(vec![old.map_or(0, |old| old[0]) + 1]);
    /// assert_eq!(counters.fetch_update(b"visits", add_one)?, None);
    /// assert_eq!(counters.fetch_update(b"visits", add_one)?.unwrap(), [1]);
    /// assert_eq!(counters.get(b"visits")?.unwrap(), [2]);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put) and [`get`](Self::get).
    pub fn fetch_update(
        &self,
        key: impl AsRef<[u8]>,
        next: impl FnOnce(Option<&[u8]>) -> Option<Vec<u8>>,
    ) -> Result<Option<Value>> {
        self.update(key, |old| {
            let change = match (next(old.map(|entry| &*entry.value)), old) {
                (Some(value), Some(old)) => Change::Put(value, EntryOptions::of(old)),
                (Some(value), None) => Change::put(value),
                (None, Some(_)) => Change::Delete,
                (None, None) => Change::Keep,
            };
            Ok((change, old.map(|entry| entry.value.clone())))
        })
    }

    /// Lets a key expire at a moment, whatever its keyspace's default. False when the key is not there.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let sessions = db.keyspace("sessions")?;
    /// sessions.put(b"token", b"ada")?;
    /// assert!(sessions.expire(b"token", db.now().plus_ms(60_000))?);
    /// assert!(sessions.expire(b"token", pugdb::Timestamp(1))?); // long ago: it is gone now
    /// assert!(!sessions.expire(b"token", db.now().plus_ms(60_000))?);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put) and [`get`](Self::get).
    pub fn expire(&self, key: impl AsRef<[u8]>, at: Timestamp) -> Result<bool> {
        Ok(self.set_expiry(key.as_ref(), at)?.is_some())
    }

    /// Takes a key's expiry away, whatever its keyspace's default. False when the key is not there, or has none.
    ///
    /// ```
    /// use pugdb::EntryOptions;
    ///
    /// let db = pugdb::Database::in_memory()?;
    /// let sessions = db.keyspace("sessions")?;
    /// let in_a_minute = Some(db.now().plus_ms(60_000));
    /// sessions.put_with(b"token", b"ada", EntryOptions { expires_at: in_a_minute, ..Default::default() })?;
    /// assert!(sessions.persist(b"token")? && !sessions.persist(b"token")?);
    /// assert_eq!(sessions.get_entry(b"token")?.unwrap().expires_at, None);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put) and [`get`](Self::get).
    pub fn persist(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.set_expiry(key.as_ref(), Timestamp::NEVER)?.is_some_and(|before| before != Timestamp::NEVER))
    }

    /// How long a key still lives.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use pugdb::{Database, KeyspaceOptions, TimeToLive};
    ///
    /// let db = Database::in_memory()?;
    /// let minute = Some(Duration::from_secs(60));
    /// let sessions = db.keyspace_with("sessions", KeyspaceOptions { default_expiry: minute, ..Default::default() })?;
    /// sessions.put(b"token", b"ada")?;
    /// assert!(matches!(sessions.ttl(b"token")?, TimeToLive::Left(left) if left <= Duration::from_secs(60)));
    /// sessions.persist(b"token")?;
    /// assert_eq!(sessions.ttl(b"token")?, TimeToLive::Forever);
    /// assert_eq!(sessions.ttl(b"other")?, TimeToLive::Absent);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn ttl(&self, key: impl AsRef<[u8]>) -> Result<TimeToLive> {
        // Before the read: what was alive in it has something left.
        let now = self.inner.now();
        Ok(match self.get_entry(key)?.map(|entry| entry.expires_at) {
            None => TimeToLive::Absent,
            Some(None) => TimeToLive::Forever,
            Some(Some(at)) => TimeToLive::Left(Duration::from_millis(at.0.saturating_sub(now.0))),
        })
    }

    /// Sets the expiry of a key that is there, and returns the one from before.
    fn set_expiry(&self, key: &[u8], at: Timestamp) -> Result<Option<Timestamp>> {
        self.update(key, |old| {
            let Some(entry) = old else { return Ok((Change::Keep, None)) };
            let before = EntryOptions::of(entry).expires_at;
            let options = EntryOptions { expires_at: Some(at), ..EntryOptions::of(entry) };
            let change = if EntryOptions::of(entry) == options {
                Change::Keep
            } else {
                Change::Put(entry.value.to_vec(), options)
            };
            Ok((change, before))
        })
    }
}

/// How long a key still lives: what [`Keyspace::ttl`] says.
///
/// ```
/// use pugdb::TimeToLive;
///
/// let db = pugdb::Database::in_memory()?;
/// assert_eq!(db.keyspace("users")?.ttl(b"ada")?, TimeToLive::Absent);
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeToLive {
    /// The key is not there.
    Absent,
    /// It does not expire.
    Forever,
    /// So long, to the millisecond.
    Left(Duration),
}
