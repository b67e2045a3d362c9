//! Transactions: several reads and changes that take place as one, or not at all.
//!
//! | file | what it is |
//! |---|---|
//! | `mod.rs` | [`Transaction`]: what a program does with one |
//! | `options.rs` | [`Isolation`], [`TransactionOptions`] |
//! | `../overlay.rs` | the changes so far, over the view that the transaction reads |
//! | `reads.rs` | what it has read |
//! | `row_locks.rs` | rows locked before they are changed |
//! | `commit.rs` | has anybody changed what it read? then the write path |
//! | `guards.rs` | what nobody changes unseen meanwhile |
//! | `prepared.rs` | the two phases of a commit that others decide |
//! | `retry.rs` | [`transact`](crate::Database::transact): again, when transactions have met |
//!
//! It is optimistic: nothing is locked for it while it runs, and nothing is written down for it. `docs/internals/transactions.md`
//! has the reasons.

mod commit;
mod guards;
mod options;
mod prepared;
mod reads;
mod retry;
mod row_locks;
mod scan;

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use pugdb_core::engine::{Direction, KeyRange};
use pugdb_core::seam::AtHand;
use pugdb_core::{Entry, EntryOptions, Error, Key, Result, Timestamp, Value};

pub(crate) use commit::Watching;
pub(crate) use guards::{Guard, Guards};
pub use options::{Isolation, TransactionOptions};
pub use prepared::PreparedTransaction;
pub(crate) use prepared::{KEYSPACE as PREPARED_KEYSPACE, Prepared, SYSTEM_PREFIX, recover};
pub(crate) use retry::transact;
pub(crate) use row_locks::RowLocks;
pub use scan::TransactionScan;

use crate::database::Inner;
use crate::handles::{HandleKind, Held};
use crate::key_locks::refuse_inside_update;
use crate::keyspace::Keyspace;
use crate::overlay::{Overlay, Seen, fold};
use crate::snapshot::Snapshot;
use crate::{CommitTicket, Durability};

use reads::Reads;
use row_locks::LockedRows;

/// Reads and changes of any keyspaces of one database that take place as one. Made by [`Database::begin`](crate::Database::begin).
///
/// It reads from a view that was taken when it began, with its own changes on top. Nobody sees those before it commits, and then
/// all of them at once. A commit fails with a [`Conflict`](crate::ErrorKind::Conflict), and changes nothing, when others have
/// changed meanwhile what its [`Isolation`] is about: begin again, or leave that to [`transact`](crate::Database::transact).
/// Dropping it gives everything up.
///
/// ```
/// let db = pugdb::Database::in_memory()?;
/// let accounts = db.keyspace("accounts")?;
/// accounts.put(b"ada", b"10")?;
///
/// let mut one = db.begin()?;
/// let mut other = db.begin()?;
/// for transaction in [&mut one, &mut other] {
///     let money = transaction.get(&accounts, b"ada")?.unwrap();
///     assert_eq!(money, b"10");
///     transaction.put(&accounts, b"ada", b"9")?;
/// }
/// one.commit()?;
/// let error = other.commit().unwrap_err(); // it has read what is no longer so
/// assert!(error.kind() == pugdb::ErrorKind::Conflict && error.is_retry());
/// # Ok::<(), pugdb::Error>(())
/// ```
#[must_use = "a transaction changes nothing until it is committed"]
pub struct Transaction {
    inner: Arc<Inner>,
    options: TransactionOptions,
    durability: Durability,
    overlay: Overlay,
    /// A savepoint's number: never given to another one.
    last_savepoint: u64,
    savepoints: Vec<Mark>,
    rows: LockedRows,
    /// Guards what is noted by reads, which take the transaction by `&self`.
    reads: Mutex<Reads>,
    _held: Held,
}

/// Where to go back to.
struct Mark {
    number: u64,
    undo: usize,
    rows: usize,
}

/// A place in a transaction to [go back to](Transaction::rollback_to). Made by [`Transaction::savepoint`].
///
/// ```
/// let db = pugdb::Database::in_memory()?;
/// let users = db.keyspace("users")?;
/// let mut transaction = db.begin()?;
/// let savepoint = transaction.savepoint();
/// transaction.put(&users, b"ada", b"1815")?;
/// transaction.rollback_to(&savepoint)?;
/// assert_eq!(transaction.get(&users, b"ada")?, None);
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Debug)]
pub struct Savepoint {
    number: u64,
}

impl Transaction {
    #[track_caller]
    pub(crate) fn new(inner: &Arc<Inner>, options: TransactionOptions) -> Result<Self> {
        inner.check_open()?;
        Ok(Self {
            inner: Arc::clone(inner),
            options,
            durability: inner.options.durability,
            overlay: Overlay::new(inner),
            last_savepoint: 0,
            savepoints: Vec::new(),
            rows: LockedRows::none(&inner.row_locks),
            reads: Mutex::default(),
            _held: inner.handles.take(HandleKind::Transaction),
        })
    }

    /// Commits at this level instead of the database's own.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// let mut transaction = db.begin()?.durability(pugdb::Durability::Os);
    /// transaction.put(&users, b"ada", b"1815")?;
    /// transaction.commit()?;
    /// assert!(users.exists(b"ada")?);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// The time by which expiry is judged: when the transaction began, or when [`get_for_update`](Self::get_for_update) has
    /// moved on.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let transaction = db.begin()?;
    /// assert!(transaction.now() <= db.now());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn now(&self) -> Timestamp {
        self.overlay.now()
    }

    // Reading.

    /// The value of a key, as the transaction sees it.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// let mut transaction = db.begin()?;
    /// users.put(b"ada", b"1852")?; // beside it, and later
    /// assert_eq!(transaction.get(&users, b"ada")?, None);
    /// transaction.put(&users, b"ada", b"1815")?;
    /// assert_eq!(transaction.get(&users, b"ada")?.unwrap(), b"1815");
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::get`]; `Invalid` when the keyspace belongs to another database.
    pub fn get(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        Ok(self.get_entry(keyspace, key)?.map(|entry| entry.value))
    }

    /// The value of a key, if it is in memory: as [`Keyspace::try_get`].
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// assert_eq!(db.begin()?.try_get(&users, b"ada")?, pugdb::AtHand::Yes(None));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn try_get(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<AtHand<Option<Value>>> {
        let (key, overlay) = (key.as_ref(), &self.overlay);
        overlay.check_owner(keyspace)?;
        let seen = overlay.see(&keyspace.space, key);
        let beneath = match seen {
            Seen::Own(entry) => return Ok(AtHand::Yes(entry.map(|entry| entry.value))),
            Seen::Beneath | Seen::Merged(_) => overlay.snapshot.try_get_entry(keyspace, key)?,
        };
        let AtHand::Yes(beneath) = beneath else { return Ok(AtHand::WouldBlock) };
        self.note_key(keyspace, key)?;
        let entry = match seen {
            Seen::Merged(operands) => Some(fold(&keyspace.space, key, beneath, &operands)?),
            Seen::Own(_) | Seen::Beneath => beneath,
        };
        Ok(AtHand::Yes(entry.map(|entry| entry.value)))
    }

    /// The entry of a key, with expiry and meta byte.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// assert_eq!(db.begin()?.get_entry(&users, b"ada")?.unwrap().meta, 0);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_entry(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Entry>> {
        let (key, overlay) = (key.as_ref(), &self.overlay);
        overlay.check_owner(keyspace)?;
        if !matches!(overlay.see(&keyspace.space, key), Seen::Own(_)) {
            self.note_key(keyspace, key)?;
        }
        overlay.get(keyspace, key)
    }

    /// True when the key has a value. One that lies apart is not fetched.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// let mut transaction = db.begin()?;
    /// transaction.put(&users, b"ada", b"1815")?;
    /// assert!(transaction.exists(&users, b"ada")? && !users.exists(b"ada")?);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn exists(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<bool> {
        let (key, overlay) = (key.as_ref(), &self.overlay);
        overlay.check_owner(keyspace)?;
        match overlay.see(&keyspace.space, key) {
            Seen::Own(entry) => Ok(entry.is_some()),
            // Whatever is beneath, operands make a value of it.
            Seen::Merged(_) => Ok(true),
            Seen::Beneath => {
                self.note_key(keyspace, key)?;
                overlay.snapshot.exists(keyspace, key)
            }
        }
    }

    /// The values of several keys, read together.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// let mut transaction = db.begin()?;
    /// transaction.put(&users, b"bob", b"1920")?;
    /// let values = transaction.multi_get(&users, [b"ada", b"bob", b"cat"])?;
    /// assert_eq!(values.iter().flatten().count(), 2);
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
        let overlay = &self.overlay;
        overlay.check_owner(keyspace)?;
        let keys: Vec<K> = keys.into_iter().collect();
        let seen: Vec<Seen> = keys.iter().map(|key| overlay.see(&keyspace.space, key.as_ref())).collect();
        let is_beneath = |seen: &Seen| !matches!(seen, Seen::Own(_));
        let beneath =
            keys.iter().zip(&seen).filter(|(_, seen)| is_beneath(seen)).map(|(key, _)| key.as_ref());
        let beneath: Vec<&[u8]> = beneath.collect();
        beneath.iter().try_for_each(|key| self.note_key(keyspace, key))?;
        let mut entries = overlay.snapshot.multi_get_entries(keyspace, beneath)?.into_iter();
        let found = keys.iter().zip(seen).map(|(key, seen)| match seen {
            Seen::Own(entry) => Ok(entry),
            Seen::Beneath => Ok(entries.next().flatten()),
            Seen::Merged(operands) => {
                fold(&keyspace.space, key.as_ref(), entries.next().flatten(), &operands).map(Some)
            }
        });
        found.map(|entry| Ok(entry?.map(|entry| entry.value))).collect()
    }

    /// The entries in a range of keys, in order, the transaction's own changes among them. What it shows counts as read, and so
    /// does what is not there between.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// users.put(b"bob", b"1920")?;
    /// let mut transaction = db.begin()?;
    /// transaction.delete(&users, b"ada")?;
    /// transaction.put(&users, b"cat", b"2000")?;
    /// let keys: Vec<_> = transaction.scan(&users, ..).map(|entry| entry.unwrap().0).collect();
    /// assert_eq!(keys, [b"bob", b"cat"]);
    /// let (last, _) = transaction.scan(&users, ..).reverse().next().unwrap()?;
    /// assert_eq!(last, b"cat");
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn scan(&self, keyspace: &Keyspace, range: impl Into<KeyRange>) -> TransactionScan<'_> {
        TransactionScan::new(self, keyspace, range.into())
    }

    /// Locks a row against other transactions that do the same, waits for those who have it locked, and reads it as it stands
    /// then. When somebody has changed it since the transaction began, the transaction goes on with a view of now, if all that it
    /// has read before is still so. So those who change a row one after the other need not fail. It stays locked until the transaction
    /// ends, or goes [back](Self::rollback_to) behind it.
    ///
    /// Locks order those who take them. A write without one is not held up, and makes this transaction's commit fail.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let accounts = db.keyspace("accounts")?;
    /// accounts.put(b"ada", b"10")?;
    /// let mut transaction = db.begin()?;
    /// accounts.put(b"ada", b"9")?; // before it is locked
    /// assert_eq!(transaction.get_for_update(&accounts, b"ada")?.unwrap(), b"9");
    /// transaction.put(&accounts, b"ada", b"8")?;
    /// transaction.commit()?;
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Conflict`, to begin again, when two transactions wait for each other (a deadlock: whoever would close the circle is told at
    /// once), when the wait has taken [`lock_wait`](TransactionOptions::lock_wait), or when the row was changed, and so was
    /// something that the transaction has read before. As [`get`](Self::get) for the rest.
    pub fn get_for_update(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        refuse_inside_update()?;
        self.overlay.check_owner(keyspace)?;
        let (key, space) = (key.as_ref(), &keyspace.space);
        self.rows.lock(&self.inner.options.env, (space.id, key), self.options.lock_wait)?;
        if space.engine().changed_since(key, self.overlay.snapshot.point().seqno)? {
            self.refresh()?;
        }
        self.get(keyspace, key)
    }

    // Changing.

    /// Sets a key.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// let mut transaction = db.begin()?;
    /// transaction.put(&users, b"ada", b"1815")?;
    /// transaction.commit()?;
    /// assert_eq!(users.get(b"ada")?.unwrap(), b"1815");
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` when key, value or all changes together are too large, or the keyspace belongs to another database.
    pub fn put(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.put_with(keyspace, key, value, EntryOptions::default())
    }

    /// Sets a key, with expiry and meta byte.
    ///
    /// ```
    /// use pugdb::EntryOptions;
    ///
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// let mut transaction = db.begin()?;
    /// let expires_at = Some(transaction.now().plus_ms(60_000));
    /// transaction.put_with(&users, b"ada", b"1815", EntryOptions { expires_at, meta: 7, seal: None })?;
    /// transaction.commit()?;
    /// assert_eq!(users.get_entry(b"ada")?.unwrap().meta, 7);
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
        self.overlay.put(keyspace, key.as_ref(), value.as_ref(), options)
    }

    /// Removes a key.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// let mut transaction = db.begin()?;
    /// transaction.delete(&users, b"ada")?;
    /// transaction.commit()?;
    /// assert!(!users.exists(b"ada")?);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn delete(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<()> {
        self.overlay.set(keyspace, key.as_ref(), Entry::delete())
    }

    /// Removes all keys of a range, those too that the transaction has put there before.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// let mut transaction = db.begin()?;
    /// transaction.delete_range(&users, b"a"..b"c")?;
    /// transaction.put(&users, b"bob", b"1920")?;
    /// assert_eq!(transaction.scan(&users, ..).count(), 1);
    /// transaction.commit()?;
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put), and `Invalid` for the hash engine.
    pub fn delete_range(&mut self, keyspace: &Keyspace, range: impl Into<KeyRange>) -> Result<()> {
        self.overlay.delete_range(keyspace, &range.into())
    }

    /// Writes an operand, as [`Keyspace::merge`] does. It is no read of the key: others may merge into it meanwhile.
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
    /// let mut transaction = db.begin()?;
    /// transaction.merge(&visits, b"/index", b"2")?;
    /// visits.merge(b"/index", b"40")?;
    /// transaction.commit()?;
    /// assert_eq!(visits.get(b"/index")?.unwrap(), b"42");
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put), and as [`Keyspace::merge`] when the keyspace has no merge operator.
    pub fn merge(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        operand: impl AsRef<[u8]>,
    ) -> Result<()> {
        self.overlay.merge(keyspace, key.as_ref(), operand.as_ref())
    }

    // Going back.

    /// A place to [go back to](Self::rollback_to).
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// let mut transaction = db.begin()?;
    /// transaction.put(&users, b"ada", b"1815")?;
    /// let savepoint = transaction.savepoint();
    /// transaction.put(&users, b"ada", b"1852")?;
    /// transaction.rollback_to(&savepoint)?;
    /// transaction.commit()?;
    /// assert_eq!(users.get(b"ada")?.unwrap(), b"1815");
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn savepoint(&mut self) -> Savepoint {
        self.last_savepoint += 1;
        let (number, rows) = (self.last_savepoint, self.rows.len());
        let undo = self.overlay.mark();
        self.savepoints.push(Mark { number, undo, rows });
        Savepoint { number }
    }

    /// Takes back all changes, and lets go of all rows, since a savepoint, which can be gone back to again. Later savepoints are
    /// forgotten. What was read stays read.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// let mut transaction = db.begin()?;
    /// let first = transaction.savepoint();
    /// transaction.put(&users, b"ada", b"1815")?;
    /// let second = transaction.savepoint();
    /// transaction.rollback_to(&first)?;
    /// let gone = transaction.rollback_to(&second).unwrap_err();
    /// assert_eq!(gone.kind(), pugdb::ErrorKind::Invalid);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` when the savepoint is another transaction's, or came behind one that was gone back to or let go.
    pub fn rollback_to(&mut self, savepoint: &Savepoint) -> Result<()> {
        let at = self.position(savepoint)?;
        self.savepoints.truncate(at + 1);
        let (undo, rows) = (self.savepoints[at].undo, self.savepoints[at].rows);
        self.overlay.roll_back(undo);
        self.rows.release(rows);
        Ok(())
    }

    /// Forgets a savepoint and those behind it. The changes stay.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let mut transaction = db.begin()?;
    /// let savepoint = transaction.savepoint();
    /// transaction.release(&savepoint)?;
    /// assert!(transaction.rollback_to(&savepoint).is_err());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`rollback_to`](Self::rollback_to).
    pub fn release(&mut self, savepoint: &Savepoint) -> Result<()> {
        let at = self.position(savepoint)?;
        self.savepoints.truncate(at);
        Ok(())
    }

    fn position(&self, savepoint: &Savepoint) -> Result<usize> {
        let at = self.savepoints.iter().position(|mark| mark.number == savepoint.number);
        at.ok_or_else(|| {
            Error::invalid(
                "the savepoint is gone: an earlier one was gone back to or let go, or it is another transaction's",
            )
        })
    }

    /// Gives everything up, as dropping it does.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// let mut transaction = db.begin()?;
    /// transaction.put(&users, b"ada", b"1815")?;
    /// transaction.rollback();
    /// assert!(!users.exists(b"ada")?);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn rollback(self) {}

    // Ending.

    /// Commits, and returns when the commit has reached its durability.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// let mut transaction = db.begin()?;
    /// transaction.put(&users, b"ada", b"1815")?;
    /// transaction.commit()?;
    /// assert!(users.exists(b"ada")?);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Conflict`, to begin again, when others have changed what its [`Isolation`] is about, or a prepared transaction holds on to
    /// what it changes; `Invalid` when it mixes keyspaces of memory and disk; `NotFound` when a keyspace was dropped; `Closed`;
    /// `Unavailable` when the disk is full or failed.
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
    /// let mut transaction = db.begin()?;
    /// transaction.put(&users, b"ada", b"1815")?;
    /// let ticket = transaction.commit_ticket()?;
    /// assert!(users.exists(b"ada")?); // others see it; the sync is still to come
    /// ticket.wait()?;
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn commit_ticket(mut self) -> Result<CommitTicket> {
        let reads = std::mem::take(self.reads.get_mut());
        commit::commit(&self.inner, self.overlay, &reads, self.options.isolation, self.durability)
    }

    /// The first of two phases: makes sure, whatever happens, that the transaction can still be committed and still be rolled back, by
    /// whoever knows its name. It is durable when this returns, and survives a crash. Until it is decided, writes of what it has
    /// read or will write are refused with a [`Conflict`](crate::ErrorKind::Conflict).
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::open(&path)?;
    /// let users = db.keyspace("users")?;
    /// let mut transaction = db.begin()?;
    /// transaction.put(&users, b"ada", b"1815")?;
    /// transaction.prepare("order 17")?;
    /// assert!(!users.exists(b"ada")? && users.put(b"ada", b"1852").is_err());
    /// db.close()?;
    ///
    /// let db = pugdb::Database::open(&path)?;
    /// assert_eq!(db.prepared_transactions()?, ["order 17"]);
    /// db.prepared_transaction("order 17")?.unwrap().commit()?;
    /// assert!(db.keyspace("users")?.exists(b"ada")?);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`commit`](Self::commit); `Conflict` when there is a prepared transaction of this name; `Invalid` when the name is empty or
    /// longer than 255 bytes, the transaction is too large to be written down in one piece, or changes keyspaces in memory or
    /// without a log of a database on disk.
    pub fn prepare(mut self, name: &str) -> Result<PreparedTransaction> {
        let reads = std::mem::take(self.reads.get_mut());
        prepared::prepare(&self.inner, self.overlay, &reads, self.options.isolation, name)
    }

    /// Goes on with a view of now, if what was read so far is still so.
    fn refresh(&mut self) -> Result<()> {
        let since = self.overlay.snapshot.point().seqno;
        // The view first: what changes behind it is for the commit to find.
        let now = Snapshot::new(&self.inner);
        if self.reads.get_mut().changed_since(since)? {
            return Err(commit::conflict());
        }
        self.overlay.snapshot = now;
        Ok(())
    }

    /// A key is read in the view.
    fn note_key(&self, keyspace: &Keyspace, key: &[u8]) -> Result<()> {
        Key::check(key)?;
        self.reads.lock().key(&keyspace.space, key);
        Ok(())
    }

    fn note_range(&self, keyspace: &Keyspace, range: &KeyRange) -> reads::Noted {
        self.reads.lock().range(&keyspace.space, range)
    }

    fn narrow(&self, noted: &reads::Noted, range: &KeyRange, last: &Key, direction: Direction) {
        self.reads.lock().narrow(noted, crate::overlay::shown_part(range, last, direction));
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transaction({:?}, {:?})", self.options.isolation, self.overlay)
    }
}
