//! The unit of change: all of it or none of it, to readers and after any crash.

use std::fmt;
use std::sync::Arc;

use pugdb_core::{Entry, EntryOptions, Error, Key, Op, Result, Value};

use crate::database::Inner;
use crate::keyspace::{Keyspace, Space};
use crate::{CommitTicket, Durability, write};

/// Changes to any keyspaces of one database, committed together. Made by [`Database::batch`](crate::Database::batch).
///
/// A change that breaks a limit is reported by the commit, which then changes nothing.
///
/// ```
/// let db = pugdb::Database::in_memory()?;
/// let (users, names) = (db.keyspace("users")?, db.keyspace("names")?);
/// let mut batch = db.batch();
/// batch.put(&users, b"ada", b"1815");
/// batch.put(&names, b"ada", b"Lovelace");
/// batch.commit()?;
/// assert!(users.exists(b"ada")? && names.exists(b"ada")?);
/// # Ok::<(), pugdb::Error>(())
/// ```
#[must_use = "a batch changes nothing until it is committed"]
pub struct WriteBatch {
    pub(crate) inner: Arc<Inner>,
    pub(crate) durability: Durability,
    pub(crate) parts: Vec<Part>,
    /// Bytes of keys and values, and what each operation costs beside them.
    pub(crate) bytes: usize,
    error: Option<Error>,
}

/// A batch's operations on one keyspace.
pub(crate) struct Part {
    pub(crate) space: Arc<Space>,
    pub(crate) ops: Vec<Op>,
}

impl WriteBatch {
    pub(crate) fn new(inner: &Arc<Inner>) -> Self {
        Self {
            inner: Arc::clone(inner),
            durability: inner.options.durability,
            parts: Vec::new(),
            bytes: 0,
            error: None,
        }
    }

    /// Commits at this level instead of the database's own.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// let mut batch = db.batch().durability(pugdb::Durability::Os);
    /// batch.put(&users, b"ada", b"1815");
    /// batch.commit()?;
    /// assert_eq!(users.get(b"ada")?.unwrap(), b"1815");
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets a key.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// let mut batch = db.batch();
    /// batch.put(&users, b"ada", b"1815");
    /// batch.put(&users, b"ada", b"1852"); // the last change of a key counts
    /// batch.commit()?;
    /// assert_eq!(users.get(b"ada")?.unwrap(), b"1852");
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn put(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.put_with(keyspace, key, value, EntryOptions::default());
    }

    /// Sets a key, with expiry and meta byte.
    ///
    /// ```
    /// use pugdb::{EntryOptions, Timestamp};
    ///
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// let mut batch = db.batch();
    /// let gone = EntryOptions { expires_at: Some(Timestamp(1)), ..EntryOptions::default() };
    /// batch.put_with(&users, b"ada", b"1815", gone);
    /// batch.commit()?;
    /// assert_eq!(users.get(b"ada")?, None);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn put_with(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: EntryOptions,
    ) {
        let bytes = value.as_ref();
        // Looked at before it is copied: a refused value costs nothing.
        let value = if bytes.len() > self.inner.options.write_bytes_max() {
            Err(write::value_too_large(&self.inner, bytes.len()))
        } else {
            Value::new(bytes.to_vec())
        };
        match value {
            Ok(value) => self.push(keyspace, key.as_ref(), Entry::put_with(value, options)),
            Err(error) => self.refuse(error),
        }
    }

    /// Removes a key.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// let mut batch = db.batch();
    /// batch.delete(&users, b"ada");
    /// batch.commit()?;
    /// assert!(!users.exists(b"ada")?);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn delete(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) {
        self.push(keyspace, key.as_ref(), Entry::delete());
    }

    fn push(&mut self, keyspace: &Keyspace, key: &[u8], entry: Entry) {
        if !Arc::ptr_eq(&self.inner, &keyspace.inner) {
            return self.refuse(Error::invalid("the keyspace belongs to another database than the batch"));
        }
        let space = &keyspace.space;
        let op = match Key::copy(key) {
            Ok(key) => Op { key, entry },
            Err(error) => return self.refuse(error),
        };
        self.bytes = self.bytes.saturating_add(op.cost_bytes());
        // A single operation was held against the limits of keys and values.
        if self.bytes > write::batch_bytes_max(&self.inner) && !self.parts.is_empty() {
            // The operations are let go at once: a batch without end must not fill memory.
            self.parts.clear();
            return self.refuse(write::batch_too_large(&self.inner));
        }
        if self.error.is_none() {
            match self.parts.iter_mut().find(|part| part.space.id == space.id) {
                Some(part) => part.ops.push(op),
                None => self.parts.push(Part { space: Arc::clone(space), ops: vec![op] }),
            }
        }
    }

    fn refuse(&mut self, error: Error) {
        self.error.get_or_insert(error);
    }

    /// How many changes it holds.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// let mut batch = db.batch();
    /// for name in ["ada", "bob", "cat"] {
    ///     batch.put(&users, name, b"");
    /// }
    /// assert_eq!(batch.len(), 3);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.ops.len()).sum()
    }

    /// True when it holds no change.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// let mut batch = db.batch();
    /// assert!(batch.is_empty());
    /// batch.delete(&users, b"ada");
    /// assert!(!batch.is_empty());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Commits, and returns when the commit has reached its durability.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// let mut batch = db.batch();
    /// batch.put(&users, b"ada", b"1815");
    /// batch.put(&users, vec![0; 70_000], b"too long a key");
    /// assert_eq!(batch.commit().unwrap_err().kind(), pugdb::ErrorKind::Invalid);
    /// assert!(users.scan(..).next().is_none()); // all of it or none of it
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` when a change breaks a limit, keyspaces of several databases or of memory and disk are mixed;
    /// `NotFound` when a keyspace was dropped; `Closed`; `Unavailable` when the disk is full or failed.
    pub fn commit(self) -> Result<()> {
        self.commit_ticket()?.wait()
    }

    /// Commits, and returns at once with a ticket for the durability.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::open(&path)?;
    /// let users = db.keyspace("users")?;
    /// let mut batch = db.batch();
    /// batch.put(&users, b"ada", b"1815");
    /// let ticket = batch.commit_ticket()?;
    /// assert!(users.exists(b"ada")?); // applied; the sync is still to come
    /// ticket.wait()?;
    /// assert!(ticket.is_done());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn commit_ticket(mut self) -> Result<CommitTicket> {
        match self.error.take() {
            Some(error) => Err(error),
            None => write::commit(self),
        }
    }
}

impl fmt::Debug for WriteBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriteBatch({} changes, {} bytes)", self.len(), self.bytes)
    }
}
