//! A keyspace: a named map. What all its handles share is in `space.rs`.

use std::fmt;
use std::sync::Arc;

use pugdb_core::engine::{EngineKind, KeyRange};
use pugdb_core::seam::{AtHand, Wait};
use pugdb_core::{Entry, EntryOptions, KeyspaceId, Result, Value};
use pugdb_lsm::Approximate;

use crate::count::{self, KeyCounts};
use crate::database::Inner;
use crate::key_locks::refuse_inside_observer;
use crate::partition::Plan;
use crate::quota::{self, KeyspaceUsage};
use crate::scan::Scan;
use crate::snapshot::Snapshot;
use crate::space::Space;
use crate::{
    BulkLoad, CommitTicket, Durability, KeyspaceOptions, Partition, SortedFile, SortedWriter, Watch,
    WriteBatch, ingest, partition, read, write,
};

/// A handle to a keyspace: a named map, ordered unless its engine is the hash. Cheap to clone.
///
/// ```
/// let db = pugdb::Database::in_memory()?;
/// let users = db.keyspace("users")?;
/// users.put(b"ada", b"1815")?;
/// assert_eq!(users.get(b"ada")?.as_deref(), Some(&b"1815"[..]));
/// users.delete(b"ada")?;
/// assert_eq!(users.get(b"ada")?, None);
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone)]
pub struct Keyspace {
    pub(crate) inner: Arc<Inner>,
    pub(crate) space: Arc<Space>,
    pub(crate) durability: Durability,
}

impl Keyspace {
    pub(crate) fn new(inner: &Arc<Inner>, space: Arc<Space>) -> Self {
        Self { inner: Arc::clone(inner), space, durability: inner.options.durability }
    }

    /// The same keyspace, whose writes through this handle have another durability than the database's.
    ///
    /// ```
    /// use pugdb::Durability;
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::open(&path)?;
    /// let clicks = db.keyspace("clicks")?.durability(Durability::Os);
    /// clicks.put(b"ada", b"1")?; // the operating system has it; it is not synced
    /// assert!(clicks.exists(b"ada")?);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[must_use]
    pub fn durability(&self, durability: Durability) -> Self {
        Self { durability, ..self.clone() }
    }

    /// Its number, which is never given to another keyspace of the database.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// assert_eq!(users.id(), db.keyspace("users")?.id());
    /// assert_ne!(users.id(), db.keyspace("names")?.id());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn id(&self) -> KeyspaceId {
        self.space.id
    }

    /// Its name, which [`swap_keyspaces`](crate::Database::swap_keyspaces) may change.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// assert!(db.drop_keyspace(&users.name())?);
    /// assert!(db.keyspaces()?.is_empty());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn name(&self) -> Arc<str> {
        self.space.name()
    }

    /// What keeps its entries.
    ///
    /// ```
    /// use pugdb::{Database, EngineKind};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = Database::open(&path)?;
    /// assert_eq!(db.keyspace("users")?.engine(), EngineKind::Lsm);
    /// assert_eq!(Database::in_memory()?.keyspace("users")?.engine(), EngineKind::Btree);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn engine(&self) -> EngineKind {
        self.space.kind
    }

    /// How it is made: everything that counts for it.
    ///
    /// ```
    /// use pugdb::{Compression, Database, EngineKind};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let options = Database::open(&path)?.keyspace("users")?.options();
    /// assert_eq!(options.upper_compression, Some(Compression::None));
    /// assert_eq!(options.bottom_compression, Some(Compression::Lz4));
    /// assert_eq!((options.engine, options.block_bytes), (Some(EngineKind::Lsm), Some(8192)));
    /// // A keyspace in memory has no tables.
    /// assert_eq!(Database::in_memory()?.keyspace("users")?.options().block_bytes, None);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn options(&self) -> KeyspaceOptions {
        self.space.options()
    }

    /// Changes how its tables are made from now on. Those that there are stay as they are until they are merged. Quotas count from
    /// the next write on.
    ///
    /// ```
    /// use pugdb::{Compression, Database, KeyspaceOptions};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = Database::open(&path)?;
    /// let users = db.keyspace("users")?;
    /// users.alter(KeyspaceOptions { upper_compression: Some(Compression::Lz4), ..Default::default() })?;
    /// users.put(b"ada", vec![b'a'; 100_000])?;
    /// db.flush()?;
    /// assert!(db.stats()?.table_bytes < 10_000);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` when an option is out of range, names another engine, or is of tables and the keyspace is in memory;
    /// `NotFound` when the keyspace was dropped; `Closed`; `Unavailable` when the disk is full or failed.
    pub fn alter(&self, options: KeyspaceOptions) -> Result<()> {
        write::alter_keyspace(&self.inner, &self.space, options)?.wait()
    }

    fn batch_of(&self, fill: impl FnOnce(&mut WriteBatch)) -> WriteBatch {
        let mut batch = WriteBatch::new(&self.inner).durability(self.durability);
        fill(&mut batch);
        batch
    }

    /// Sets a key. Returns when the change has reached this handle's durability.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// users.put(String::from("ada"), "1852")?;
    /// assert_eq!(users.get("ada")?.unwrap(), b"1852");
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` when key or value are too long, `NotFound` when the keyspace was dropped, `Closed`, `Unavailable` when
    /// the disk is full or failed, or the keyspace would pass its [quota](KeyspaceOptions::quota_bytes).
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.put_with(key, value, EntryOptions::default())
    }

    /// Sets a key, with an expiry and a byte of the caller's own.
    ///
    /// ```
    /// use pugdb::EntryOptions;
    ///
    /// let db = pugdb::Database::in_memory()?;
    /// let sessions = db.keyspace("sessions")?;
    /// let in_a_minute = Some(db.now().plus_ms(60_000));
    /// sessions.put_with(b"token", b"ada", EntryOptions { expires_at: in_a_minute, ..Default::default() })?;
    /// assert_eq!(sessions.get_entry(b"token")?.unwrap().expires_at, in_a_minute);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn put_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: EntryOptions,
    ) -> Result<()> {
        self.batch_of(|batch| batch.put_with(self, key, value, options)).commit()
    }

    /// Writes an operand, from which the keyspace's [merge operator](crate::Builder::merge_operator) makes a value when the key is
    /// read. Nothing is read now. Expiry and meta byte of the key stay as they are; what has expired counts as not there.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use pugdb::operators::Append;
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::builder().merge_operator("log", Arc::new(Append::new(","))).open(&path)?;
    /// let log = db.keyspace("log")?;
    /// log.put(b"ada", b"born")?;
    /// log.merge(b"ada", b"wrote")?;
    /// log.merge(b"ada", b"died")?;
    /// assert_eq!(log.get(b"ada")?.unwrap(), b"born,wrote,died");
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put), and `Invalid` when the keyspace has no merge operator, the database was opened without it, or the
    /// keyspace's engine is not the lsm engine.
    pub fn merge(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<()> {
        self.batch_of(|batch| batch.merge(self, key, operand)).commit()
    }

    /// What the merge operator is called whose operands the keyspace may hold: none before the first [`merge`](Self::merge).
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use pugdb::operators::Extreme;
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::builder().merge_operator("seen", Arc::new(Extreme::Greatest)).open(&path)?;
    /// let seen = db.keyspace("seen")?;
    /// assert_eq!(seen.merge_operator(), None);
    /// seen.merge(b"ada", b"2026-11-26")?;
    /// assert_eq!(seen.merge_operator().as_deref(), Some("greatest"));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn merge_operator(&self) -> Option<String> {
        self.space.operator().map(|name| name.as_str().to_owned())
    }

    /// Removes a key; fine when it is not there.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// users.delete(b"ada")?;
    /// users.delete(b"ada")?; // not there any more: fine
    /// assert_eq!(users.get(b"ada")?, None);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        self.batch_of(|batch| batch.delete(self, key)).commit()
    }

    /// Removes all keys of a range in one step. On disk that costs the same however many there are: they are hidden from here
    /// on, and merges give their space back. Older snapshots still read them. Other writers wait for a moment: no
    /// [`update`](Self::update) of a key of the range is under way meanwhile. A range without keys changes nothing.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let events = db.keyspace("events")?;
    /// for day in ["2025-12-30", "2025-12-31", "2026-01-01"] {
    ///     events.put(day, b"")?;
    /// }
    /// events.delete_range(.."2026")?;
    /// assert_eq!(events.count()?, 1);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put); `Invalid` when the engine is the hash, which has no order.
    pub fn delete_range(&self, range: impl Into<KeyRange>) -> Result<()> {
        self.batch_of(|batch| batch.delete_range(self, range)).commit()
    }

    /// The value of a key.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// if let Some(value) = users.get(b"ada")? {
    ///     assert_eq!(value.len(), 4);
    /// }
    /// assert_eq!(users.get(b"bob")?, None);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` when the keyspace was dropped, `Closed`, `Corrupt` when the stored bytes are damaged, `Unavailable`
    /// when the disk fails, `Erased` when the key that sealed it was destroyed.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        Ok(self.get_entry(key)?.map(|entry| entry.value))
    }

    /// The value of a key, if it is in memory: the disk is not touched, and nobody is waited for.
    ///
    /// It is for threads that must not stop, such as those of an asynchronous runtime. What is on disk stays there: ask for
    /// it with [`get`](Self::get) where a wait does no harm, and it is in the cache for the next one.
    ///
    /// ```
    /// use pugdb::AtHand;
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::open(&path)?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// db.close()?;
    ///
    /// // Opened again, nothing of it is in memory yet.
    /// let db = pugdb::Database::open(&path)?;
    /// let users = db.keyspace("users")?;
    /// assert_eq!(users.try_get(b"ada")?, AtHand::WouldBlock);
    /// let year = users.get(b"ada")?;
    /// assert_eq!(users.try_get(b"ada")?, AtHand::Yes(year));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn try_get(&self, key: impl AsRef<[u8]>) -> Result<AtHand<Option<Value>>> {
        Ok(read::value(read::look(&self.inner, &self.space, key.as_ref(), None, Wait::Never)?))
    }

    /// The entry of a key, if it is in memory: as [`try_get`](Self::try_get).
    ///
    /// ```
    /// use pugdb::AtHand;
    ///
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// assert_eq!(users.try_get_entry(b"ada")?, AtHand::Yes(None));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn try_get_entry(&self, key: impl AsRef<[u8]>) -> Result<AtHand<Option<Entry>>> {
        read::look(&self.inner, &self.space, key.as_ref(), None, Wait::Never)
    }

    /// Gives the value to a closure, without a copy.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// assert_eq!(users.get_with(b"ada", |value| value.len())?, Some(4));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_with<R>(&self, key: impl AsRef<[u8]>, read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        Ok(self.get_entry(key)?.map(|entry| read(&entry.value)))
    }

    /// The whole entry of a key: value, expiry, meta byte.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// let entry = users.get_entry(b"ada")?.unwrap();
    /// assert_eq!((entry.meta, entry.expires_at), (0, None));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_entry(&self, key: impl AsRef<[u8]>) -> Result<Option<Entry>> {
        read::get(&self.inner, &self.space, key.as_ref(), None)
    }

    /// True when the key has a value, which is not read when it is kept apart
    /// ([`separate_values`](crate::KeyspaceOptions::separate_values)).
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// assert!(!db.keyspace("users")?.exists(b"ada")?);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn exists(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        read::exists(&self.inner, &self.space, key.as_ref(), None)
    }

    /// The values of several keys as they are at one moment, in the order of the keys. What has to come from the disk is
    /// asked for in one call, for all of them.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// let values = users.multi_get([b"ada".as_slice(), b"bob"])?;
    /// assert!(values[0].is_some() && values[1].is_none());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get); `Erased` when one of the values was erased: ask for each by itself then.
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Value>>> {
        let keys: Vec<K> = keys.into_iter().collect();
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        Ok(read::values(read::multi_get(&self.inner, &self.space, &keys, None)?))
    }

    /// Looks after a key: whether anybody changes it from now on. See [`Watch`].
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// let watch = users.watch(b"ada")?;
    /// assert!(!watch.is_broken());
    /// users.put(b"ada", b"1815")?;
    /// assert!(watch.is_broken());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn watch(&self, key: impl AsRef<[u8]>) -> Result<Watch> {
        Watch::new(&self.inner, &self.space, key.as_ref())
    }

    /// Removes everything in the keyspace in one step. Older snapshots still read it.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// users.truncate()?;
    /// assert_eq!(users.count()?, 0);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn truncate(&self) -> Result<()> {
        self.truncate_ticket()?.wait()
    }

    /// As [`truncate`](Self::truncate), and returns at once with a ticket for the durability.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// let ticket = users.truncate_ticket()?;
    /// assert!(!users.exists(b"ada")?); // gone for readers already
    /// ticket.wait()?;
    /// assert!(ticket.is_done());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn truncate_ticket(&self) -> Result<CommitTicket> {
        self.batch_of(|batch| batch.truncate(self)).commit_ticket()
    }

    /// Merges everything on disk in a range of keys, and waits for it: old versions, deletes and expired entries (after
    /// their [grace](crate::Builder::expiry_grace)) take no room there any more, but for those that a snapshot needs. Keys
    /// before the range may be merged along. It happens by itself, sooner or later; to ask for it is worth while after
    /// large deletes, and before many scans. How it goes is seen in [`Stats::compacted_bytes`](crate::Stats). A keyspace
    /// in memory has nothing to merge.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::open(&path)?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", vec![7; 10_000])?;
    /// db.flush()?;
    /// users.delete(b"ada")?;
    /// users.compact_range(..)?;
    /// assert_eq!(db.stats()?.table_bytes, 0);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Unavailable` when the disk is full or failed, `Closed`.
    pub fn compact_range(&self, range: impl Into<KeyRange>) -> Result<()> {
        self.inner.check_open()?;
        refuse_inside_observer()?;
        match &self.inner.durable {
            Some(durable) => durable.compact_range(self.id(), &range.into()),
            None => Ok(()),
        }
    }

    /// A writer of a file of entries in the order of their keys, for [`ingest`](Self::ingest).
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::open(&path)?;
    /// let mut writer = db.keyspace("users")?.sorted_writer()?;
    /// writer.put(b"ada", b"1815")?;
    /// assert_eq!(writer.finish()?.entries(), 1);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` for a keyspace in memory, `NotFound` when it was dropped, `Closed`.
    #[track_caller]
    pub fn sorted_writer(&self) -> Result<SortedWriter> {
        SortedWriter::new(&self.inner, &self.space)
    }

    /// Loads much, in any order of keys: collected, sorted and taken in a portion at a time. See [`BulkLoad`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::open(&path)?;
    /// let users = db.keyspace("users")?;
    /// let mut load = users.bulk_load()?;
    /// load.put(b"grace", b"1906")?;
    /// load.put(b"ada", b"1815")?;
    /// assert_eq!(load.finish()?.entries, 2);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` when the keyspace was dropped, `Closed`.
    #[track_caller]
    pub fn bulk_load(&self) -> Result<BulkLoad> {
        BulkLoad::new(self)
    }

    /// Takes in sorted files, all of them or none, as one commit: past log and memtable, every byte written once. Their
    /// entries hide what was there of the same keys. It is durable when this returns.
    ///
    /// Other commits wait meanwhile for one write of the manifest, and for a flush of this keyspace if it was just
    /// written to in the range of the files. Watches on keys in that range are broken.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::open(&path)?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"0")?;
    /// let (mut one, mut other) = (users.sorted_writer()?, users.sorted_writer()?);
    /// one.put(b"ada", b"1815")?;
    /// other.put(b"grace", b"1906")?;
    /// users.ingest([one.finish()?, other.finish()?])?;
    /// assert_eq!(users.get(b"ada")?.unwrap(), b"1815");
    /// assert_eq!(users.count()?, 2);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` when two files have keys of the same range, or one is another keyspace's or database's; `NotFound` when the
    /// keyspace was dropped; `Closed`; `Unavailable` when the disk is full or failed, or the keyspace would pass its
    /// [quota](KeyspaceOptions::quota_bytes). The files are removed then.
    pub fn ingest(&self, files: impl IntoIterator<Item = SortedFile>) -> Result<()> {
        ingest::ingest(&self.inner, &self.space, files.into_iter().collect())
    }

    /// The entries in a range of keys, in order, as they are now.
    ///
    /// The hash engine has no order: it gives the whole keyspace (`..`), each entry once, and its first `next` is
    /// `Invalid` when more is asked.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// for name in [b"ada", b"bob", b"cat"] {
    ///     users.put(name, b"1")?;
    /// }
    /// let keys: Vec<_> = users.scan(b"b".as_slice()..).map(|entry| entry.unwrap().0).collect();
    /// assert_eq!(keys, [b"bob", b"cat"]);
    /// let (last, _) = users.scan(..).reverse().limit(1).next().unwrap()?;
    /// assert_eq!(last, b"cat");
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[track_caller]
    pub fn scan(&self, range: impl Into<KeyRange>) -> Scan {
        Scan::new(&self.inner, &self.space, range.into(), None)
    }

    /// The entries whose keys begin with `prefix`, in order, as they are now.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"user:1", b"ada")?;
    /// users.put(b"zebra", b"")?;
    /// assert_eq!(users.prefix(b"user:").count(), 1);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[track_caller]
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Scan {
        self.scan(KeyRange::prefix(prefix.as_ref()))
    }

    /// How many keys there are now. Walks through all keys, and remembers the answer until the next commit to the
    /// keyspace or the next expiry in it.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// users.put(b"bob", b"1920")?;
    /// users.put(b"ada", b"1852")?;
    /// assert_eq!(users.count()?, 2);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn count(&self) -> Result<u64> {
        Ok(self.counts()?.keys)
    }

    /// How many keys there are now, and how many of them have an expiry. As dear as [`count`](Self::count), and as
    /// cheap when nothing has changed.
    ///
    /// ```
    /// use pugdb::EntryOptions;
    ///
    /// let db = pugdb::Database::in_memory()?;
    /// let sessions = db.keyspace("sessions")?;
    /// let in_a_minute = Some(db.now().plus_ms(60_000));
    /// sessions.put_with(b"token", b"ada", EntryOptions { expires_at: in_a_minute, ..Default::default() })?;
    /// let counts = sessions.counts()?;
    /// assert_eq!((counts.keys, counts.expiring), (1, 1));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn counts(&self) -> Result<KeyCounts> {
        count::exact(&self.inner, &self.space)
    }

    /// About how many keys there are, and how many of them expire, without looking at them: an estimate.
    ///
    /// Keys that have expired or were deleted count until they are cleared away. On disk a key that was written
    /// several times can count several times, and a delete takes one away whether it hides one or not.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// for number in 0..100_u32 {
    ///     users.put(number.to_be_bytes(), b"")?;
    /// }
    /// assert_eq!(users.approximate_counts()?.keys, 100);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` when the keyspace was dropped, `Closed`.
    pub fn approximate_counts(&self) -> Result<KeyCounts> {
        count::approximate(&self.inner, &self.space)
    }

    /// What it takes, and what its [quotas](KeyspaceOptions::quota_bytes) allow. It is added up from what memtables and the
    /// manifest say, so the bytes are exact: what a merge is writing counts when it takes part in reads, and what only
    /// snapshots still need does not count. The keys are an estimate, in memory too while what was deleted is not given back.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::open(&path)?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// let usage = users.usage()?;
    /// assert_eq!((usage.bytes, usage.keys_estimate), (3 + 4 + 176, 1)); // in memory
    /// db.flush()?;
    /// assert_eq!(users.usage()?.bytes, db.stats()?.table_bytes);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` when the keyspace was dropped, `Closed`.
    pub fn usage(&self) -> Result<KeyspaceUsage> {
        quota::usage(&self.inner, &self.space)
    }

    /// About how much a range of keys holds, on disk and in memory, from indexes: no block of a table is read, so it takes
    /// microseconds for any range. A table in which the range begins or ends is opened if no read has done that yet.
    ///
    /// Versions in tables are counted, deletes and old ones among them. Of each table whole blocks are counted (8 KiB each
    /// if nothing else is said, before they are compressed): it is never less than what is there, and more by less
    /// than two blocks a table, the first and the last that may have keys of the range. In a memtable each key counts once,
    /// and its bytes are those of the average. In the memory engines keys are counted one by one.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::open(&path)?;
    /// let users = db.keyspace("users")?;
    /// let mut batch = db.batch();
    /// for number in 0..10_000_u32 {
    ///     batch.put(&users, number.to_be_bytes(), [7; 100]);
    /// }
    /// batch.commit()?;
    /// let few = |number: u32| users.approximate(..number.to_be_bytes());
    /// assert_eq!(few(2_500)?.entries, 2_500); // in memory
    /// db.flush()?;
    /// assert!((2_500..2_700).contains(&few(2_500)?.entries));
    /// assert!(few(2_500)?.bytes < users.approximate(..)?.bytes / 3);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` when the keyspace was dropped, `Closed`; `Invalid` for a range of a keyspace without an order;
    /// `Unavailable` when such a table cannot be read now. A damaged one counts whole.
    pub fn approximate(&self, range: impl Into<KeyRange>) -> Result<Approximate> {
        count::range(&self.inner, &self.space, range.into())
    }

    /// Its partitions: which keys each of them holds, how large it is, how much it is asked for.
    ///
    /// ```
    /// use pugdb::{Database, EngineKind, KeyspaceOptions, PartitionKeys};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = Database::open(&path)?;
    /// let partitioned = KeyspaceOptions { engine: Some(EngineKind::Partitioned), ..Default::default() };
    /// let events = db.keyspace_with("events", partitioned)?;
    /// for number in 0..1000_u32 {
    ///     events.put(number.to_be_bytes(), b"")?;
    /// }
    /// let partitions = events.partitions()?;
    /// assert_eq!((partitions.len(), &partitions[7].keys), (8, &PartitionKeys::Slots(57_344..65_536)));
    /// assert_eq!(partitions.iter().map(|one| one.writes).sum::<u64>(), 1000);
    /// assert!(partitions.iter().all(|one| one.writes > 80 && !one.is_hot));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` when it has none, `NotFound` when the keyspace was dropped, `Closed`.
    pub fn partitions(&self) -> Result<Vec<Partition>> {
        partition::partitions(&self.inner, &self.space)
    }

    /// Makes two partitions of the partition `number`, with half of its slots each; of ranges, at the key `at`, or in the middle of
    /// its keys. `progress` is told how many versions of entries were read.
    ///
    /// It is for quiet times: all that the partition holds is written anew, and until that is done, and durable, writers of the
    /// whole database wait. Reads go on, and snapshots see what they saw. A crash leaves the partitions as they were, or as
    /// they are to be.
    ///
    /// ```
    /// use pugdb::{Database, KeyspaceOptions, Partitioning};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = Database::open(&path)?;
    /// let ranges = Partitioning::Ranges { starts: vec![b"m".to_vec()] };
    /// let users = db.partitioned_keyspace("users", &ranges, KeyspaceOptions::default())?;
    /// for name in ["ada", "bob", "cat", "dan"] {
    ///     users.put(name, b"1")?;
    /// }
    /// users.split_partition(0, None, &mut |_| ())?;
    /// let keys: Vec<u64> = users.partitions()?.iter().map(|one| one.approximate_keys).collect();
    /// assert_eq!(keys, [2, 2, 0]);
    /// users.merge_partitions(1, &mut |_| ())?;
    /// assert_eq!((users.partitions()?.len(), users.count()?), (2, 4));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` when it has no such partition, or `at` is not inside it, or it would be one too many, or it is called from a closure
    /// of `update` or an observer; `NotFound` when the keyspace was dropped; `Closed`, also when it is closed meanwhile;
    /// `Unavailable` when the disk is full or failed; `Corrupt` when what is to be copied is damaged. Nothing has changed then, but
    /// for a failure of log or manifest, behind which that is not known until it is opened again.
    pub fn split_partition(
        &self,
        number: usize,
        at: Option<&[u8]>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        partition::change(&self.inner, &self.space, &Plan::Split { number, at }, progress)
    }

    /// Makes one partition of the partition `number` and the one behind it, as [`split_partition`](Self::split_partition) makes two
    /// of one.
    ///
    /// ```
    /// use pugdb::{Database, KeyspaceOptions, PartitionKeys, Partitioning};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = Database::open(&path)?;
    /// let events =
    ///     db.partitioned_keyspace("events", &Partitioning::Hash { partitions: 4 }, KeyspaceOptions::default())?;
    /// events.put(b"a", b"1")?;
    /// events.merge_partitions(1, &mut |_| ())?;
    /// let partitions = events.partitions()?;
    /// assert_eq!(partitions[1].keys, PartitionKeys::Slots(16_384..49_152));
    /// assert_eq!(events.get(b"a")?.unwrap(), b"1");
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`split_partition`](Self::split_partition).
    pub fn merge_partitions(&self, number: usize, progress: &mut dyn FnMut(u64)) -> Result<()> {
        partition::change(&self.inner, &self.space, &Plan::Merge { number }, progress)
    }

    /// A snapshot of the whole database.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// let before = users.snapshot()?;
    /// users.truncate()?;
    /// assert_eq!(before.scan(&users, ..).count(), 1);
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
}

impl fmt::Debug for Keyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyspace({}, {:?})", self.space.id, self.space.kind)
    }
}
