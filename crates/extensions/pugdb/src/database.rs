//! A database: its keyspaces, and what they share.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use pugdb_core::engine::{EngineKind, Persistence};
use pugdb_core::env::Clock;
use pugdb_core::memory::Housekeeper;
use pugdb_core::observer::DatabaseEvent;
use pugdb_core::snapshots::Snapshots;
use pugdb_core::{DatabaseId, Error, KeyspaceId, Lsn, Result, Seqno, Timestamp, limits};
use pugdb_lsm::{Sequencer, TreeOptions};

use crate::audit::{self, Action, Count, Event, ObjectKind, witnessed};
use crate::durable::Durable;
use crate::handles::{Handles, OpenHandle};
use crate::key_locks::{KeyLocks, refuse_inside_observer, refuse_inside_update};
use crate::keyspace::Keyspace;
use crate::latency::{Latencies, Recorders, Timed};
use crate::options::KeyspaceOptions;
use crate::partition::Partitioning;
use crate::report::{RecoveryReport, Stats, VerifyReport};
use crate::slow::{OperationKind, Shape, SlowLog, SlowOperation};
use crate::snapshot::Snapshot;
use crate::space::Space;
use crate::transaction::{
    Guards, Prepared, PreparedTransaction, RowLocks, SYSTEM_PREFIX, Transaction, TransactionOptions, recover,
    transact,
};
use crate::watch::Watches;
use crate::{
    Builder, CommitTicket, Durability, LockScope, LockedKeys, WriteBatch, checkpoint, durable, encrypt,
    rights, write,
};

/// A database: one directory (or none, in memory), one log, one order of changes. Cheap to clone; all clones are the
/// same database.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("data");
/// let db = pugdb::Database::open(&path)?;
/// db.keyspace("users")?.put(b"ada", b"1815")?;
/// db.close()?;
///
/// let db = pugdb::Database::open(&path)?;
/// assert_eq!(db.keyspace("users")?.get(b"ada")?.unwrap(), b"1815");
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone)]
pub struct Database {
    pub(crate) inner: Arc<Inner>,
}

/// What all handles of a database share.
pub(crate) struct Inner {
    pub(crate) options: Builder,
    pub(crate) snapshots: Arc<Snapshots>,
    /// Gives memory back where keyspaces in memory have no use for it.
    pub(crate) housekeeper: Arc<Housekeeper>,
    pub(crate) locks: KeyLocks,
    /// Log, trees and manifest; `None` in memory.
    pub(crate) durable: Option<Durable>,
    /// Refuses everything once it is set.
    pub(crate) closed: AtomicBool,
    /// Behind the newest `Sync` commit that can be seen.
    pub(crate) synced_commits_end: AtomicU64,
    /// The keyspaces that exist.
    pub(crate) names: RwLock<Names>,
    pub(crate) watches: Watches,
    /// Rows that transactions have locked.
    pub(crate) row_locks: Arc<RowLocks>,
    /// Transactions that wait for somebody's decision.
    pub(crate) prepared: Prepared,
    /// Who may do what, once somebody has asked. Guards the reading of it.
    pub(crate) rights: Mutex<Option<Arc<rights::Shared>>>,
    /// How long calls take.
    pub(crate) recorders: Recorders,
    /// What the program holds.
    pub(crate) handles: Arc<Handles>,
    /// Guards the order of changes of keyspaces and of the taking in of sorted files, which alone is held across a sync:
    /// it has to be done before the next commit. Taken behind key locks and before the writer.
    pub(crate) changing: Mutex<()>,
    /// Guards the order of changes: seqnos, log positions and memtables agree on it. Held across one store into the
    /// preallocated log and never across a sync.
    pub(crate) writer: Arc<Mutex<Writer>>,
}

/// An error names so many things at most that were not given back.
const LEAKS_TOLD_MAX: usize = 20;

/// Keyspaces by name.
pub(crate) type Names = BTreeMap<String, Arc<Space>>;

/// What only the writer whose turn it is touches.
pub(crate) struct Writer {
    pub(crate) sequencer: Sequencer,
    pub(crate) next_keyspace: u32,
    /// What transactions want left alone.
    pub(crate) guards: Guards,
}

impl Database {
    /// Opens the database in `dir` with the defaults: durable, recovered if need be, made if there is none.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::open(&path)?;
    /// assert!(db.recovery_report().created);
    /// db.keyspace("users")?.put(b"ada", b"1815")?;
    /// db.close()?;
    ///
    /// let db = pugdb::Database::open(&path)?;
    /// assert!(!db.recovery_report().created);
    /// assert!(db.keyspace("users")?.exists(b"ada")?);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Self::builder().open(dir)
    }

    /// Opens the database in `dir` for reading, with the defaults, while another process may have it open and write.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::open(&path)?;
    /// db.keyspace("users")?.put(b"ada", b"1815")?;
    ///
    /// let reader = pugdb::Database::open_read_only(&path)?;
    /// assert_eq!(reader.keyspace("users")?.get(b"ada")?.unwrap(), b"1815");
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Builder::open_read_only`].
    pub fn open_read_only(dir: impl AsRef<Path>) -> Result<Self> {
        Self::builder().open_read_only(dir)
    }

    /// A database in memory, gone with its last handle.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// assert!(db.keyspaces()?.is_empty());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// None today; a wrong setting of a builder would be `Invalid`.
    pub fn in_memory() -> Result<Self> {
        Self::builder().in_memory()
    }

    /// Settings for a database that is not opened yet.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::builder()
    ///     .memory_bytes(64 << 20)
    ///     .durability(pugdb::Durability::Os)
    ///     .open(&path)?;
    /// assert_eq!(db.memory_bytes(), 64 << 20);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn open_with(options: Builder, dir: &Path) -> Result<Self> {
        let clock = Arc::clone(&options.env.clock);
        Self::opened(&*clock, || durable::open(options, dir))
    }

    pub(crate) fn read_with(options: &Builder, dir: &Path) -> Result<Self> {
        Self::opened(&*options.env.clock, || durable::open_reader(options, dir))
    }

    fn opened(clock: &dyn Clock, open: impl FnOnce() -> Result<Arc<Inner>>) -> Result<Self> {
        let begun = clock.monotonic();
        let inner = open()?;
        recover(&inner)?;
        // Behind what was prepared: as long as the past is plain, that may be.
        encrypt::end_plain_past(&inner)?;
        inner.tell(|| DatabaseEvent::Opened { took: clock.monotonic().saturating_sub(begun) });
        Ok(Self { inner })
    }

    pub(crate) fn in_memory_with(options: Builder) -> Self {
        let snapshots = Snapshots::new(Seqno::ZERO);
        let writer = Writer {
            sequencer: Sequencer::starting_after(Seqno::ZERO),
            next_keyspace: 1,
            guards: Guards::default(),
        };
        let writer = Arc::new(Mutex::new(writer));
        let housekeeper = Housekeeper::new(&options.env, Arc::clone(&snapshots));
        let names = BTreeMap::new();
        Self { inner: Arc::new(Inner::new(options, snapshots, housekeeper, None, names, writer)) }
    }

    /// A keyspace, made with the defaults if it does not exist.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// assert_eq!(&*users.name(), "users");
    /// assert_eq!(db.keyspaces()?, ["users"]);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` when the name is empty, longer than 255 bytes or has control characters; `Closed`; `Unavailable` when
    /// it has to be made and the disk is full or failed.
    pub fn keyspace(&self, name: &str) -> Result<Keyspace> {
        match self.existing_keyspace(name)? {
            Some(keyspace) => Ok(keyspace),
            None => self.keyspace_with(name, KeyspaceOptions::default()),
        }
    }

    /// A keyspace, made with these options if it does not exist.
    ///
    /// ```
    /// use pugdb::{Database, EngineKind, KeyspaceOptions};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = Database::open(&path)?;
    /// // Volatile: never logged, empty when the database is opened again.
    /// let sessions = db.keyspace_with("sessions", KeyspaceOptions { engine: Some(EngineKind::Btree), ..Default::default() })?;
    /// assert_eq!(sessions.engine(), EngineKind::Btree);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`keyspace`](Self::keyspace); `Conflict` when it exists with other options than these;
    /// `Invalid` when an option is out of range, or of tables and the engine has none.
    pub fn keyspace_with(&self, name: &str, options: KeyspaceOptions) -> Result<Keyspace> {
        let engine = options.engine.unwrap_or(self.inner.default_engine());
        let partitioning = (engine == EngineKind::Partitioned).then(Partitioning::default);
        self.make_keyspace(name, engine, partitioning.as_ref(), options)
    }

    /// A keyspace whose keys are distributed over several trees, made so if it does not exist. One that does keeps the
    /// partitions that it has. `docs/guide/partitions.md`.
    ///
    /// ```
    /// use pugdb::{Database, KeyspaceOptions, Partitioning};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = Database::open(&path)?;
    /// let by_hash = Partitioning::Hash { partitions: 4 };
    /// let events = db.partitioned_keyspace("events", &by_hash, KeyspaceOptions::default())?;
    /// events.put(b"b", b"2")?;
    /// events.put(b"a", b"1")?;
    /// let keys: Vec<_> = events.scan(..).map(|entry| entry.unwrap().0).collect();
    /// assert_eq!(keys, [b"a", b"b"]); // in order, whichever tree they lie in
    /// assert_eq!(events.partitions()?.len(), 4);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`keyspace_with`](Self::keyspace_with); `Invalid` when there are no partitions or more than 256, their first keys do not
    /// ascend, or the options name another engine; `Conflict` when it exists and is not partitioned, or by something else.
    pub fn partitioned_keyspace(
        &self,
        name: &str,
        partitioning: &Partitioning,
        options: KeyspaceOptions,
    ) -> Result<Keyspace> {
        partitioning.check()?;
        if options.engine.is_some_and(|engine| engine != EngineKind::Partitioned) {
            return Err(Error::invalid("only the partitioned engine has partitions; leave the engine out"));
        }
        let options = KeyspaceOptions { engine: Some(EngineKind::Partitioned), ..options };
        let keyspace = self.make_keyspace(name, EngineKind::Partitioned, Some(partitioning), options)?;
        if !partitioning.is_kind_of(&keyspace.space) {
            return Err(Error::conflict(
                "the keyspace exists and is partitioned by something else; drop it or choose another name",
            ));
        }
        Ok(keyspace)
    }

    fn make_keyspace(
        &self,
        name: &str,
        engine: EngineKind,
        partitioning: Option<&Partitioning>,
        options: KeyspaceOptions,
    ) -> Result<Keyspace> {
        self.inner.check_open()?;
        check_name(name)?;
        options.check_for(engine)?;
        let tables = options.or(self.inner.options.default_options).tables(TreeOptions::default())?;
        if engine.persistence() == Persistence::Durable && self.inner.durable.is_none() {
            return Err(Error::invalid(
                "a database in memory has no tables on disk; choose the btree or the hash engine",
            ));
        }
        let (space, ticket) = write::create_keyspace(&self.inner, name, engine, partitioning, tables)?;
        ticket.wait()?;
        let exists = space.options();
        if options.engine.is_some_and(|engine| exists.engine != Some(engine)) {
            return Err(Error::conflict(
                "the keyspace exists with another engine; drop it or choose another name",
            ));
        }
        if !options.agree_with(exists) {
            return Err(Error::conflict("the keyspace exists with other options; alter it, or ask for none"));
        }
        Ok(Keyspace::new(&self.inner, space))
    }

    /// A keyspace if it exists.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// assert!(db.existing_keyspace("users")?.is_none());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Closed`.
    pub fn existing_keyspace(&self, name: &str) -> Result<Option<Keyspace>> {
        self.inner.check_open()?;
        let space = self.inner.names.read().get(name).cloned().filter(|_| !name.starts_with(SYSTEM_PREFIX));
        Ok(space.map(|space| Keyspace::new(&self.inner, space)))
    }

    /// The names of the keyspaces, in order.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// db.keyspace("users")?;
    /// db.keyspace("orders")?;
    /// assert_eq!(db.keyspaces()?, ["orders", "users"]);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Closed`.
    pub fn keyspaces(&self) -> Result<Vec<String>> {
        self.inner.check_open()?;
        let names = self.inner.names.read();
        Ok(names.keys().filter(|name| !name.starts_with(SYSTEM_PREFIX)).cloned().collect())
    }

    /// Removes a keyspace and all it holds. Older snapshots still read it. False when there is none of this name.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// assert!(db.drop_keyspace("users")?);
    /// assert!(!db.drop_keyspace("users")?);
    /// assert!(users.get(b"ada").is_err());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Closed`; `Conflict` when a prepared transaction is about it; `Unavailable` when the disk is full or failed.
    pub fn drop_keyspace(&self, name: &str) -> Result<bool> {
        if self.existing_keyspace(name)?.is_none() {
            return Ok(false);
        }
        match write::drop_keyspace(&self.inner, name)? {
            Some(ticket) => ticket.wait().map(|()| true),
            None => Ok(false),
        }
    }

    /// Exchanges the names of two keyspaces in one step: what was found as `one` is found as `other`, and the other way
    /// round. Handles follow what they hold, not its name.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let (live, fresh) = (db.keyspace("live")?, db.keyspace("fresh")?);
    /// fresh.put(b"ada", b"1815")?;
    /// db.swap_keyspaces("live", "fresh")?;
    /// assert!(db.keyspace("live")?.exists(b"ada")?);
    /// assert_eq!((&*live.name(), &*fresh.name()), ("fresh", "live"));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` when there is no keyspace of one of the names; `Closed`; `Unavailable` when the disk is full or failed.
    pub fn swap_keyspaces(&self, one: &str, other: &str) -> Result<()> {
        let find = |name: &str| {
            let missing = || Error::not_found("there is no keyspace of this name; create it first");
            self.existing_keyspace(name)?.ok_or_else(missing)
        };
        let (one, other) = (find(one)?, find(other)?);
        self.update_keys(LockScope::Everything, |locked| locked.swap_names(&one, &other))
    }

    /// Reads, decides and writes several keys as one step: nobody else writes them meanwhile, and all that the closure
    /// changes is one commit. An error of the closure changes nothing.
    ///
    /// A write inside the closure goes through what it is given; any other one is refused, for it would wait for
    /// itself. The commit has the database's own durability, and this returns when it is reached.
    ///
    /// ```
    /// use pugdb::{Error, LockScope};
    ///
    /// let db = pugdb::Database::in_memory()?;
    /// let stock = db.keyspace("stock")?;
    /// stock.put(b"apples", b"3")?;
    /// let keys = [(stock.clone(), &b"apples"[..]), (stock.clone(), &b"sold"[..])];
    /// let sold = db.update_keys(LockScope::Keys(&keys), |locked| {
    ///     let apples = locked.get(&stock, b"apples")?.ok_or_else(|| Error::not_found("no apples"))?;
    ///     locked.put(&stock, b"sold", &apples)?;
    ///     locked.delete(&stock, b"apples")?;
    ///     Ok(apples)
    /// })?;
    /// assert_eq!(sold, b"3");
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// The closure's; `Invalid` when the changes break a limit or mix keyspaces of memory and disk; `NotFound` when a
    /// keyspace was dropped; `Closed`; `Unavailable` when the disk is full or failed.
    pub fn update_keys<R>(
        &self,
        scope: LockScope<'_>,
        decide: impl FnOnce(&mut LockedKeys) -> Result<R>,
    ) -> Result<R> {
        let (result, ticket) = self.update_keys_ticket(scope, decide)?;
        ticket.wait()?;
        Ok(result)
    }

    /// As [`update_keys`](Self::update_keys), and returns at once with a ticket for the durability.
    ///
    /// ```
    /// use pugdb::LockScope;
    ///
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// let change = |locked: &mut pugdb::LockedKeys| locked.put(&users, b"ada", b"1815");
    /// let ((), ticket) = db.update_keys_ticket(LockScope::Everything, change)?;
    /// assert!(users.exists(b"ada")?);
    /// ticket.wait()?;
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`update_keys`](Self::update_keys).
    pub fn update_keys_ticket<R>(
        &self,
        scope: LockScope<'_>,
        decide: impl FnOnce(&mut LockedKeys) -> Result<R>,
    ) -> Result<(R, CommitTicket)> {
        write::update_locked(&self.inner, scope, decide)
    }

    /// Begins a transaction, serializable unless [options](Self::begin_with) say otherwise.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// let mut transaction = db.begin()?;
    /// if transaction.get(&users, b"ada")?.is_none() {
    ///     transaction.put(&users, b"ada", b"1815")?;
    /// }
    /// transaction.commit()?;
    /// assert!(users.exists(b"ada")?);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Closed`.
    #[track_caller]
    pub fn begin(&self) -> Result<Transaction> {
        self.begin_with(TransactionOptions::default())
    }

    /// Begins a transaction with options.
    ///
    /// ```
    /// use pugdb::{Isolation, TransactionOptions};
    ///
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// let options = TransactionOptions { isolation: Isolation::Snapshot, ..Default::default() };
    /// let mut transaction = db.begin_with(options)?;
    /// transaction.put(&users, b"ada", b"1815")?;
    /// users.put(b"ada", b"1852")?;
    /// assert!(transaction.commit().unwrap_err().is_retry()); // an update would be lost
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Closed`.
    #[track_caller]
    pub fn begin_with(&self, options: TransactionOptions) -> Result<Transaction> {
        Transaction::new(&self.inner, options)
    }

    /// Runs `work` in a serializable transaction and commits it; again from the beginning when it has met others, up to a
    /// hundred times. What `work` does outside of the transaction it does each time.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let accounts = db.keyspace("accounts")?;
    /// accounts.put(b"ada", b"10")?;
    /// db.transact(|transaction| {
    ///     let all = transaction.get(&accounts, b"ada")?.unwrap_or_default();
    ///     transaction.put(&accounts, b"bob", all)?;
    ///     transaction.delete(&accounts, b"ada")
    /// })?;
    /// assert_eq!(accounts.get(b"bob")?.unwrap(), b"10");
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of `work`, which end it unless they say [`is_retry`](crate::Error::is_retry); those of
    /// [`Transaction::commit`], of its conflicts the last one.
    #[track_caller]
    pub fn transact<R>(&self, work: impl FnMut(&mut Transaction) -> Result<R>) -> Result<R> {
        self.transact_with(TransactionOptions::default(), work)
    }

    /// [`transact`](Self::transact) with options.
    ///
    /// ```
    /// use pugdb::TransactionOptions;
    ///
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// let once = TransactionOptions { attempts: 1, ..Default::default() };
    /// let result = db.transact_with(once, |transaction| {
    ///     transaction.get(&users, b"ada")?;
    ///     users.put(b"ada", b"1815")?; // beside it
    ///     transaction.put(&users, b"ada", b"1852")
    /// });
    /// assert!(result.unwrap_err().is_retry());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`transact`](Self::transact).
    #[track_caller]
    pub fn transact_with<R>(
        &self,
        options: TransactionOptions,
        work: impl FnMut(&mut Transaction) -> Result<R>,
    ) -> Result<R> {
        transact(&self.inner, options, work)
    }

    /// The names of all transactions that are [prepared](Transaction::prepare) and not decided, in order.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let mut transaction = db.begin()?;
    /// transaction.put(&db.keyspace("users")?, b"ada", b"1815")?;
    /// transaction.prepare("order 17")?;
    /// assert_eq!(db.prepared_transactions()?, ["order 17"]);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Closed`.
    pub fn prepared_transactions(&self) -> Result<Vec<String>> {
        self.inner.check_open()?;
        Ok(self.inner.prepared.names())
    }

    /// The prepared transaction of this name, if there is one.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// assert!(db.prepared_transaction("order 17")?.is_none());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Closed`.
    pub fn prepared_transaction(&self, name: &str) -> Result<Option<PreparedTransaction>> {
        self.inner.check_open()?;
        Ok(PreparedTransaction::find(&self.inner, name))
    }

    /// An empty batch.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let accounts = db.keyspace("accounts")?;
    /// accounts.put(b"ada", b"10")?;
    /// let mut batch = db.batch();
    /// batch.put(&accounts, b"ada", b"7");
    /// batch.put(&accounts, b"bob", b"3");
    /// assert!(!accounts.exists(b"bob")?);
    /// batch.commit()?;
    /// assert_eq!(accounts.get(b"bob")?.unwrap(), b"3");
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn batch(&self) -> WriteBatch {
        WriteBatch::new(&self.inner)
    }

    /// A view of all keyspaces as they are now, expiry included.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// let before = db.snapshot()?;
    /// users.put(b"ada", b"1815")?;
    /// assert_eq!(before.get(&users, b"ada")?, None);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Closed`.
    #[track_caller]
    pub fn snapshot(&self) -> Result<Snapshot> {
        self.inner.check_open()?;
        Ok(Snapshot::taken(&self.inner))
    }

    /// Done when every commit that a read could have shown until now has met its own durability. A server waits for it
    /// before it replies.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// let reply = users.get(b"ada")?;
    /// let ticket = db.shown_ticket();
    /// ticket.wait()?; // what the reply says cannot be lost any more
    /// assert!(ticket.is_done() && reply.is_some());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn shown_ticket(&self) -> CommitTicket {
        self.inner.shown_ticket()
    }

    /// What a commit survives when nothing else is said with it.
    ///
    /// ```
    /// use pugdb::{Database, Durability};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = Database::open(&path)?;
    /// assert_eq!(db.durability(), Durability::Sync);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn durability(&self) -> Durability {
        self.inner.options.durability
    }

    /// What the database may hold in memory.
    ///
    /// ```
    /// let db = pugdb::Database::builder().memory_bytes(16 << 20).in_memory()?;
    /// let users = db.keyspace("users")?;
    /// // A value may take a quarter of it.
    /// assert!(users.put(b"ada", vec![0; db.memory_bytes() / 4 + 1]).is_err());
    /// assert!(users.put(b"ada", vec![0; db.memory_bytes() / 8]).is_ok());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn memory_bytes(&self) -> usize {
        self.inner.options.memory_bytes
    }

    /// The time by which expiry is judged: the clock, which never goes back here.
    ///
    /// ```
    /// use pugdb::EntryOptions;
    ///
    /// let db = pugdb::Database::in_memory()?;
    /// let sessions = db.keyspace("sessions")?;
    /// let in_a_minute = db.now().plus_ms(60_000);
    /// sessions.put_with(b"token", b"ada", EntryOptions { expires_at: Some(in_a_minute), ..Default::default() })?;
    /// assert!(db.now() < in_a_minute && sessions.exists(b"token")?);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn now(&self) -> Timestamp {
        self.inner.now()
    }

    /// How long reads and commits have taken since the open, from those of them that were timed. It needs no disk.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// for number in 0..1_000_u32 {
    ///     users.put(number.to_be_bytes(), b"1815")?;
    /// }
    /// assert!(db.latencies().commit.samples >= 10);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn latencies(&self) -> Latencies {
        self.inner.recorders.summary()
    }

    /// The last operations that took longer than [the builder](Builder::slow_operations) was told, 256 at most, the oldest first. Sizes only:
    /// no key, no value and no name.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// db.keyspace("users")?.put(b"ada", b"1815")?;
    /// assert!(db.slow_operations().is_empty()); // nobody has said what is slow
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn slow_operations(&self) -> Vec<SlowOperation> {
        self.inner.recorders.slow().map_or_else(Vec::new, SlowLog::kept)
    }

    /// Writes all memtables to tables. It shortens the next open, and makes durable what has been written to
    /// [unlogged](crate::KeyspaceOptions::logging) keyspaces; for others it is not needed.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::open(&path)?;
    /// db.keyspace("users")?.put(b"ada", b"1815")?;
    /// db.flush()?;
    /// assert_eq!(db.stats()?.tables, 1);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Closed`; `Unavailable` when the disk is full or failed.
    pub fn flush(&self) -> Result<()> {
        self.inner.check_open()?;
        refuse_inside_observer()?;
        self.inner.durable.as_ref().map_or(Ok(()), Durable::flush)
    }

    /// Makes a copy that opens as the database is now, in a new directory; writers go on meanwhile. It holds a prefix of the
    /// commits: all that have returned before this was called, perhaps some of those under way.
    ///
    /// Tables are linked where the directory is in the same file system, so the copy takes no time and no space for
    /// them at first. It is made under the name with `.unfinished` behind it, and has its own when it is whole and
    /// durable. It is as sealed as the database, and opens with the same cipher.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let (path, copy) = (dir.path().join("data"), dir.path().join("copy"));
    /// let db = pugdb::Database::open(&path)?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// db.checkpoint(&copy)?;
    /// users.delete(b"ada")?;
    ///
    /// let copy = pugdb::Database::open(&copy)?;
    /// assert_eq!(copy.keyspace("users")?.get(b"ada")?.unwrap(), b"1815");
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` when the directory exists, or the database is in memory; `Unavailable` when a checkpoint of this name is
    /// being made, or the disk is full or failed; `Corrupt` when a table is gone; `Closed`.
    pub fn checkpoint(&self, dir: impl AsRef<Path>) -> Result<()> {
        self.inner.check_open()?;
        refuse_inside_update()?;
        let missing = || Error::invalid("a database in memory has no files to make a checkpoint of");
        let durable = self.inner.durable.as_ref().ok_or_else(missing)?;
        let dir = dir.as_ref();
        let about = |core: &audit::Core| {
            Event::begun(Action::Checkpoint)
                .on(core.object(ObjectKind::Path, dir.as_os_str().as_encoded_bytes()))
        };
        witnessed(self.inner.audit(), about, || checkpoint::checkpoint(durable, dir, self.now()))
    }

    /// Which database this is, wherever its directory lies and whoever copies it; `None` in memory.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let (path, copy) = (dir.path().join("data"), dir.path().join("copy"));
    /// let db = pugdb::Database::open(&path)?;
    /// db.checkpoint(&copy)?;
    /// assert_eq!(pugdb::Database::open(&copy)?.id(), db.id());
    /// assert!(pugdb::Database::in_memory()?.id().is_none());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn id(&self) -> Option<DatabaseId> {
        Some(self.inner.durable.as_ref()?.context.database)
    }

    /// How far the database has come: a number that rises with what is logged and durable, and never falls. Who notes it elsewhere can tell
    /// later whether the whole directory was put back ([`Builder::expect_generation`]). It is 0 in memory.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::open(&path)?;
    /// let users = db.keyspace("users")?;
    /// let before = db.generation();
    /// users.put(b"ada", b"1815")?;
    /// assert!(db.generation() > before);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn generation(&self) -> u64 {
        self.inner.durable.as_ref().map_or(0, Durable::generation)
    }

    /// What the last open found and did; empty in memory.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::open(&path)?;
    /// assert!(db.recovery_report().created);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn recovery_report(&self) -> RecoveryReport {
        self.inner.durable.as_ref().map(|durable| durable.report.clone()).unwrap_or_default()
    }

    /// Sizes and counts.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::open(&path)?;
    /// db.keyspace("users")?.put(b"ada", b"1815")?;
    /// assert!(db.stats()?.memtable_bytes > 0);
    /// db.flush()?;
    /// let stats = db.stats()?;
    /// assert_eq!((stats.keyspaces, stats.tables, stats.flushes), (1, 1, 1));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Closed`.
    pub fn stats(&self) -> Result<Stats> {
        self.inner.check_open()?;
        Ok(self.inner.stats())
    }

    /// Walks through every byte on disk and checks it: checksums, seals, order, counts.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::open(&path)?;
    /// assert!(db.verify()?.problems.is_empty());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Closed`; what the disk says. Damage is no error but a problem in the report.
    pub fn verify(&self) -> Result<VerifyReport> {
        self.inner.check_open()?;
        let report =
            self.inner.durable.as_ref().map_or_else(|| Ok(VerifyReport::default()), Durable::verify)?;
        if let Some(core) = self.inner.audit() {
            core.note(Event::done(Action::Verify).count(Count::Problems, report.problems.len() as u64))?;
        }
        Ok(report)
    }

    /// The failure after which writes are refused and reads go on, if there was one.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::open(&path)?;
    /// if let Err(error) = db.keyspace("users")?.put(b"ada", b"1815") {
    ///     // `Some` when every later write is refused as well.
    ///     eprintln!("{error}; the database: {:?}", db.failure());
    /// }
    /// assert!(db.failure().is_none());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn failure(&self) -> Option<Error> {
        let writing = self.inner.durable.as_ref().filter(|durable| !durable.is_reader());
        writing.and_then(Durable::failure)
    }

    /// True when it was opened by [`Builder::open_read_only`], and refuses every change.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::open(&path)?;
    /// let reader = pugdb::Database::open_read_only(&path)?;
    /// assert!(!db.is_read_only());
    /// assert!(reader.is_read_only());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn is_read_only(&self) -> bool {
        self.inner.durable.as_ref().is_some_and(Durable::is_reader)
    }

    /// Ends the database in good order: waits for commits under way, writes memtables to tables, syncs, and marks the
    /// end, so that the next open need not replay and takes any damage as damage. All handles are closed.
    ///
    /// Dropping the last handle ends it too, without writing memtables, but for those of unlogged keyspaces.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::open(&path)?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// db.close()?;
    /// assert_eq!(users.get(b"ada").unwrap_err().kind(), pugdb::ErrorKind::Closed);
    ///
    /// // Nothing is left to be replayed.
    /// let db = pugdb::Database::open(&path)?;
    /// assert_eq!(db.recovery_report().operations, 0);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Unavailable` when the disk is full or failed: the database is closed all the same, as if the process had died.
    pub fn close(&self) -> Result<()> {
        // Before anything is changed: a close that would wait for itself must leave the database as it is.
        refuse_inside_update()?;
        let clock = &self.inner.options.env.clock;
        let (was_open, begun) = (self.inner.check_open().is_ok(), clock.monotonic());
        let closed = self.inner.close(durable::CloseMode::Flush);
        if was_open && closed.is_ok() {
            self.inner.tell(|| DatabaseEvent::Closed { took: clock.monotonic().saturating_sub(begun) });
        }
        closed?;
        self.refuse_leaks()
    }

    /// What the program holds of this database and has not dropped, the oldest first, if [the
    /// builder](Builder::track_handles) was asked to note it. [`Stats::handles`] counts it in any case.
    ///
    /// ```
    /// let db = pugdb::Database::builder().track_handles(true).in_memory()?;
    /// let snapshot = db.snapshot()?;
    /// let held = db.open_handles();
    /// assert_eq!((held.len(), held[0].kind), (1, pugdb::HandleKind::Snapshot));
    /// assert_eq!(held[0].place.line(), line!() - 3);
    /// drop(snapshot);
    /// assert!(db.open_handles().is_empty());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn open_handles(&self) -> Vec<OpenHandle> {
        self.inner.handles.open()
    }

    fn refuse_leaks(&self) -> Result<()> {
        let held = self.inner.handles.open();
        if held.is_empty() {
            return Ok(());
        }
        let told: Vec<String> = held.iter().take(LEAKS_TOLD_MAX).map(ToString::to_string).collect();
        let more = held.len().saturating_sub(LEAKS_TOLD_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Err(Error::invalid(format!(
            "the database is closed, and the program still holds {}{more}; drop that before the close",
            told.join(", ")
        )))
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.inner.durable.is_some() { "on disk" } else { "in memory" };
        write!(f, "Database({place}, {} keyspaces)", self.inner.names.read().len())
    }
}

impl Inner {
    pub(crate) fn new(
        options: Builder,
        snapshots: Arc<Snapshots>,
        housekeeper: Arc<Housekeeper>,
        durable: Option<Durable>,
        names: Names,
        writer: Arc<Mutex<Writer>>,
    ) -> Self {
        let handles = Handles::new(options.track_handles);
        let recorders = Recorders::new(options.slow_operations);
        Self {
            options,
            snapshots,
            housekeeper,
            locks: KeyLocks::new(),
            durable,
            closed: AtomicBool::new(false),
            synced_commits_end: AtomicU64::new(0),
            names: RwLock::new(names),
            watches: Watches::default(),
            row_locks: Arc::default(),
            prepared: Prepared::default(),
            rights: Mutex::new(None),
            recorders,
            handles,
            changing: Mutex::new(()),
            writer,
        }
    }

    /// Tells the observers of a database on disk. For callers that hold no lock.
    fn tell(&self, event: impl FnOnce() -> DatabaseEvent) {
        let observers = self.durable.as_ref().map(|durable| &durable.context.observers);
        if let Some(observers) = observers.filter(|observers| !observers.is_empty()) {
            observers.tell(&event());
        }
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::closed("the database was closed; open it again"));
        }
        Ok(())
    }

    /// What is recorded of what is done, if anything is.
    pub(crate) fn audit(&self) -> Option<&Arc<audit::Core>> {
        self.durable.as_ref()?.audit.as_ref()
    }

    pub(crate) fn default_engine(&self) -> EngineKind {
        let usual = if self.durable.is_some() { EngineKind::Lsm } else { EngineKind::Btree };
        self.options.default_options.engine.unwrap_or(usual)
    }

    /// The clock, never behind a time it has shown before.
    pub(crate) fn now(&self) -> Timestamp {
        self.snapshots.advance(self.options.env.clock.now())
    }

    pub(crate) fn shown_ticket(&self) -> CommitTicket {
        let end = Lsn(self.synced_commits_end.load(Ordering::Acquire));
        let by = match self.options.durability {
            Durability::Group { max_delay } => self.options.env.clock.monotonic() + max_delay,
            _ => Duration::ZERO,
        };
        self.durable
            .as_ref()
            .map_or_else(CommitTicket::done, |durable| CommitTicket::at(&durable.log, end, by))
    }

    /// Times a call, if its turn has come.
    #[inline]
    pub(crate) fn timed(&self, kind: OperationKind, shape: impl FnOnce() -> Shape) -> Option<Timed<'_>> {
        self.recorders.begin(kind, &*self.options.env.clock, shape)
    }

    fn stats(&self) -> Stats {
        let mut stats = self.durable.as_ref().map(Durable::stats).unwrap_or_default();
        let names = self.names.read();
        stats.keyspaces = names.keys().filter(|name| !name.starts_with(SYSTEM_PREFIX)).count();
        drop(names);
        stats.snapshots = self.snapshots.live();
        stats.handles = self.handles.counts();
        stats.slow_operations = self.recorders.slow().map_or(0, SlowLog::count);
        stats.prepared_transactions = self.prepared.names().len();
        for space in self.names.read().values() {
            stats.memtable_bytes += space.volatile_bytes();
        }
        stats
    }

    pub(crate) fn close(&self, mode: durable::CloseMode) -> Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        // Whoever has passed the check is through once these locks were ours.
        drop(self.changing.lock());
        let writer = self.writer.lock();
        let last = writer.sequencer.last();
        drop(writer);
        let stopped = self.housekeeper.stop();
        self.durable.as_ref().map_or(Ok(()), |durable| durable.close(mode, last, self.now())).and(stopped)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Nobody is left to hear of a failure, and the next open recovers as from a kill.
        let _ = self.close(durable::CloseMode::Quick);
    }
}

/// Names appear in messages and listings, so they are short and printable.
fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > limits::KEYSPACE_NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(Error::invalid(format!(
            "a keyspace's name has 1 to {} bytes and no control characters",
            limits::KEYSPACE_NAME_BYTES_MAX
        )));
    }
    if name.starts_with(SYSTEM_PREFIX) {
        return Err(Error::invalid(format!(
            "names of keyspaces that begin with {SYSTEM_PREFIX:?} are the database's own; choose another one"
        )));
    }
    Ok(())
}

/// The number of the keyspace that a new name gets.
impl Writer {
    pub(crate) fn take_keyspace_id(&mut self) -> Result<KeyspaceId> {
        self.take_keyspace_ids(1)
    }

    /// The first of so many numbers, one behind the other.
    pub(crate) fn take_keyspace_ids(&mut self, count: usize) -> Result<KeyspaceId> {
        let id = KeyspaceId(self.next_keyspace);
        let next = u32::try_from(count).ok().and_then(|count| id.0.checked_add(count));
        self.next_keyspace = next.ok_or_else(|| Error::invalid("2^32 keyspaces were created"))?;
        Ok(id)
    }
}
