//! The unit of change: all of it or none of it, to readers and after any crash.

use std::fmt;
use std::sync::Arc;

use pugdb_core::coding;
use pugdb_core::engine::{KeyRange, Scans};
use pugdb_core::{Entry, EntryKind, EntryOptions, Error, KeySpan, Operation, Ops, RawOp, Result};

use crate::database::Inner;
use crate::keyspace::Keyspace;
use crate::slow::Shape;
use crate::space::Space;
use crate::{CommitTicket, Durability, sealed, write};

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
    pub(crate) changes: Changes,
    error: Option<Error>,
}

/// What a commit changes, in this order.
#[derive(Default)]
pub(crate) struct Changes {
    pub(crate) truncated: Vec<Arc<Space>>,
    pub(crate) swapped: Vec<(Arc<Space>, Arc<Space>)>,
    pub(crate) parts: Vec<Part>,
    /// Bytes of keys and values, and what each operation costs beside them.
    pub(crate) bytes: usize,
}

/// A batch's operations on one keyspace.
pub(crate) struct Part {
    pub(crate) space: Arc<Space>,
    pub(crate) ops: Ops,
}

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        self.truncated.is_empty() && self.swapped.is_empty() && self.parts.is_empty()
    }

    /// Forgets what was there before, earlier operations of these changes too.
    pub(crate) fn truncate(&mut self, space: &Arc<Space>) {
        let forgotten = self.parts.extract_if(.., |part| part.space.id == space.id);
        self.bytes -= forgotten.map(|part| part.ops.cost_bytes()).sum::<usize>();
        if self.truncated.iter().all(|truncated| truncated.id != space.id) {
            self.truncated.push(Arc::clone(space));
        }
    }

    /// All keyspaces it touches, some of them perhaps twice.
    pub(crate) fn spaces(&self) -> impl Iterator<Item = &Arc<Space>> {
        let swapped = self.swapped.iter().flat_map(|(one, other)| [one, other]);
        self.truncated.iter().chain(swapped).chain(self.parts.iter().map(|part| &part.space))
    }

    /// True when keys are deleted that it does not name.
    pub(crate) fn has_ranges(&self) -> bool {
        self.parts.iter().any(|part| part.ops.has_ranges())
    }

    /// True when something in it sets a key: the rest only removes.
    pub(crate) fn adds(&self) -> bool {
        self.parts.iter().any(|part| part.ops.additions() > 0)
    }

    /// What may be told of it.
    pub(crate) fn shape(&self) -> Shape {
        let keyspace = if let [part] = &*self.parts { Some(part.space.id) } else { None };
        Shape { keyspace, keys: coding::index(self.seqnos()), bytes: self.bytes }
    }

    /// How many seqnos it takes.
    pub(crate) fn seqnos(&self) -> u64 {
        let operations: usize = self.parts.iter().map(|part| part.ops.len()).sum();
        (self.truncated.len() + self.swapped.len() + operations) as u64
    }
}

impl WriteBatch {
    pub(crate) fn new(inner: &Arc<Inner>) -> Self {
        Self {
            inner: Arc::clone(inner),
            durability: inner.options.durability,
            changes: Changes::default(),
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
        let (key, value) = (key.as_ref(), value.as_ref());
        let EntryOptions { expires_at, meta, seal } = options;
        let expires_at = keyspace.space.expiry(expires_at, || self.inner.now());
        let checked = sealed::check(&self.inner, value, seal);
        match checked.and_then(|()| sealed::seal(&self.inner, &keyspace.space, key, value, seal)) {
            Ok(value) => {
                let kind = EntryKind::Put;
                let op = RawOp { key, kind, meta, expires_at, seal, stamp: None, value: &value };
                self.push_entry(keyspace, &op);
            }
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
        self.push_entry(keyspace, &Entry::delete().raw(key.as_ref()));
    }

    /// Writes an operand, as [`Keyspace::merge`] does. It counts behind what this batch has said of the key before.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use pugdb::operators::Add;
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::builder().merge_operator("visits", Arc::new(Add)).open(&path)?;
    /// let visits = db.keyspace("visits")?;
    /// let mut batch = db.batch();
    /// batch.put(&visits, b"/index", b"40");
    /// batch.merge(&visits, b"/index", b"2");
    /// batch.merge(&visits, b"/about", b"1");
    /// batch.commit()?;
    /// assert_eq!(visits.get(b"/index")?.unwrap(), b"42");
    ///
    /// let mut batch = db.batch();
    /// batch.merge(&db.keyspace("other")?, b"key", b"1"); // it has no operator
    /// assert_eq!(batch.commit().unwrap_err().kind(), pugdb::ErrorKind::Invalid);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn merge(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) {
        if !self.owns(keyspace) {
            return;
        }
        let (key, operand) = (key.as_ref(), operand.as_ref());
        let checked = write::check_value(&self.inner, operand);
        match checked.and_then(|()| write::take_operator(&self.inner, &keyspace.space)) {
            Ok(()) => self.push_entry(keyspace, &RawOp::operand(key, operand)),
            Err(error) => self.refuse(error),
        }
    }

    /// Removes all keys of a range, those too that this batch has put there before. What it puts there behind stays. A range
    /// without keys changes nothing.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// for name in ["ada", "bob", "cat"] {
    ///     users.put(name, b"1")?;
    /// }
    /// let mut batch = db.batch();
    /// batch.delete_range(&users, b"a"..b"c");
    /// batch.put(&users, b"bob", b"2");
    /// batch.commit()?; // nobody ever sees it without bob
    /// let keys: Vec<_> = users.scan(..).map(|entry| entry.unwrap().0).collect();
    /// assert_eq!(keys, [b"bob", b"cat"]);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn delete_range(&mut self, keyspace: &Keyspace, range: impl Into<KeyRange>) {
        if keyspace.space.engine().capabilities().scans == Scans::Unordered {
            return self.refuse(Error::invalid(
                "the hash engine has no order and deletes no ranges; choose the btree or the lsm engine, or truncate",
            ));
        }
        if let Some(span) = KeySpan::of(&range.into()) {
            self.push(keyspace, &Operation::DeleteRange(span.raw()), |ops| {
                ops.push_range(&span);
                Ok(())
            });
        }
    }

    /// Removes everything that was in the keyspace before, in this batch too.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// let mut batch = db.batch();
    /// batch.truncate(&users);
    /// batch.put(&users, b"grace", b"1906");
    /// batch.commit()?; // nobody ever sees it empty
    /// assert_eq!(users.count()?, 1);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn truncate(&mut self, keyspace: &Keyspace) {
        if self.owns(keyspace) {
            self.changes.truncate(&keyspace.space);
        }
    }

    /// Notes an error for a keyspace of another database.
    fn owns(&mut self, keyspace: &Keyspace) -> bool {
        let owns = Arc::ptr_eq(&self.inner, &keyspace.inner);
        if !owns {
            self.refuse(Error::invalid("the keyspace belongs to another database than the batch"));
        }
        owns
    }

    fn push_entry(&mut self, keyspace: &Keyspace, op: &RawOp<'_>) {
        self.push(keyspace, &Operation::Entry(*op), |ops| ops.push(op));
    }

    fn push(&mut self, keyspace: &Keyspace, op: &Operation<'_>, push: impl FnOnce(&mut Ops) -> Result<()>) {
        if !self.owns(keyspace) {
            return;
        }
        let Changes { parts, bytes, .. } = &mut self.changes;
        *bytes = bytes.saturating_add(op.cost_bytes());
        // A single operation was held against the limits of keys and values.
        if *bytes > write::batch_bytes_max(&self.inner) && !parts.is_empty() {
            // The operations are let go at once: a batch without end must not fill memory.
            self.changes = Changes::default();
            return self.refuse(write::batch_too_large(&self.inner));
        }
        if self.error.is_none() {
            let space = &keyspace.space;
            let at = parts.iter().position(|part| part.space.id == space.id);
            let at = at.unwrap_or_else(|| {
                parts.push(Part { space: Arc::clone(space), ops: Ops::default() });
                parts.len() - 1
            });
            if let Err(error) = push(&mut parts[at].ops) {
                self.refuse(error);
            }
        }
    }

    fn refuse(&mut self, error: Error) {
        self.error.get_or_insert(error);
    }

    /// True when no change of it breaks a rule.
    pub(crate) fn is_sound(&self) -> bool {
        self.error.is_none()
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
        coding::index(self.changes.seqnos())
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
        self.changes.is_empty()
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
        write!(f, "WriteBatch({} changes, {} bytes)", self.len(), self.changes.bytes)
    }
}
