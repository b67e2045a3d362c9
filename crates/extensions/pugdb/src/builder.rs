//! How a database is opened: the one place where its parts are chosen.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pugdb_core::engine::{EngineKind, Persistence};
use pugdb_core::env::Env;
use pugdb_core::observer::{DatabaseEvent, Observer};
use pugdb_core::seam::{Cipher, CompactionFilter, MergeOperator, Plain, Sealing, TableStore};
use pugdb_core::{Error, Result, limits};
use pugdb_lsm::store::CompactionPolicy;
use pugdb_lsm::{Filters, Operators, TreeOptions};
use pugdb_security::RootProvider;

use crate::audit::{AuditLog, AuditOptions};
use crate::{Database, Durability, KeyspaceOptions, durable, key_locks};

/// A thread each, and room on disk for two or three tables.
const COMPACTION_JOBS_MAX: usize = 64;
/// A disk has other things to do.
const SCRUB_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Time enough for a clock to be set right by hand or by the network, and little against the life of most entries.
const EXPIRY_GRACE_DEFAULT: Duration = Duration::from_hours(1);

/// Settings of a database, and the parts it is made of. Made by [`Database::builder`].
///
/// ```
/// use pugdb::{Database, Durability};
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("data");
/// let db = Database::builder()
///     .memory_bytes(256 << 20)
///     .cache_bytes(64 << 20)
///     .durability(Durability::Os)
///     .open(&path)?;
/// assert_eq!(db.durability(), Durability::Os);
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone)]
pub struct Builder {
    pub(crate) memory_bytes: usize,
    pub(crate) cache_bytes: Option<usize>,
    pub(crate) memtable_bytes: Option<usize>,
    pub(crate) log_segment_bytes: Option<u64>,
    pub(crate) table_files_max: Option<usize>,
    pub(crate) durability: Durability,
    pub(crate) default_options: KeyspaceOptions,
    pub(crate) expiry_grace: Duration,
    pub(crate) compaction: CompactionPolicy,
    pub(crate) compaction_jobs: Option<usize>,
    pub(crate) background_bytes_per_second: Option<u64>,
    pub(crate) scrub_interval: Option<Duration>,
    pub(crate) reserve_bytes: u64,
    pub(crate) expected_generation: u64,
    pub(crate) filters: Filters,
    pub(crate) operators: Operators,
    pub(crate) create: bool,
    pub(crate) env: Env,
    pub(crate) cipher: Arc<dyn Cipher>,
    pub(crate) root_key: Option<Arc<dyn RootProvider>>,
    /// A database that is not encrypted gets keys.
    pub(crate) encrypts: bool,
    pub(crate) keyring: Option<PathBuf>,
    pub(crate) table_store: Option<Arc<dyn TableStore>>,
    pub(crate) observers: Vec<Arc<dyn Observer>>,
    pub(crate) track_handles: bool,
    pub(crate) slow_operations: Option<Duration>,
    pub(crate) audit: Option<AuditOptions>,
    pub(crate) audit_copy: Option<PathBuf>,
}

/// An observer that cannot wait for its own thread.
struct Reading(Arc<dyn Observer>);

impl Observer for Reading {
    fn on_event(&self, event: &DatabaseEvent) {
        key_locks::inside_observer(|| self.0.on_event(event));
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            memory_bytes: limits::MEMORY_BYTES_DEFAULT,
            cache_bytes: None,
            memtable_bytes: None,
            log_segment_bytes: None,
            table_files_max: None,
            durability: Durability::default(),
            default_options: KeyspaceOptions::default(),
            expiry_grace: EXPIRY_GRACE_DEFAULT,
            compaction: CompactionPolicy::default(),
            compaction_jobs: None,
            background_bytes_per_second: None,
            scrub_interval: None,
            reserve_bytes: 0,
            expected_generation: 0,
            filters: Filters::default(),
            operators: Operators::default(),
            create: true,
            env: Env::os(),
            cipher: Arc::new(Plain),
            root_key: None,
            encrypts: false,
            keyring: None,
            table_store: None,
            observers: Vec::new(),
            track_handles: false,
            slow_operations: None,
            audit: None,
            audit_copy: None,
        }
    }
}

impl Builder {
    /// What the database may hold in memory: memtables and cache. Default 512 MiB.
    ///
    /// ```
    /// let db = pugdb::Database::builder().memory_bytes(16 << 20).in_memory()?;
    /// assert_eq!(db.memory_bytes(), 16 << 20);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[must_use]
    pub fn memory_bytes(mut self, bytes: usize) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// The part of [`memory_bytes`](Self::memory_bytes) that keeps blocks of tables, and what open tables need to find
    /// them. Default a quarter.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// // A quarter is kept for blocks when nothing is said; a database that is mostly read gains from more.
    /// let db = pugdb::Database::builder().memory_bytes(64 << 20).cache_bytes(24 << 20).open(&path)?;
    /// db.keyspace("users")?.put(b"ada", b"1815")?;
    /// assert!(db.stats()?.cache_bytes <= 24 << 20);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[must_use]
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = Some(bytes);
        self
    }

    /// The size at which a memtable is written to a table. Default an eighth of the memory, at most 64 MiB.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::builder().memory_bytes(64 << 20).memtable_bytes(4 << 20).open(&path)?;
    /// db.keyspace("users")?.put(b"ada", b"1815")?;
    /// assert!(db.stats()?.memtable_bytes < 4 << 20);
    ///
    /// // Cache and memtable together leave half of the memory free.
    /// assert!(pugdb::Database::builder().memory_bytes(4 << 20).memtable_bytes(3 << 20).in_memory().is_err());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[must_use]
    pub fn memtable_bytes(mut self, bytes: usize) -> Self {
        self.memtable_bytes = Some(bytes);
        self
    }

    /// The size of a log segment. Default 64 MiB, at most 64 GiB.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// // Segments are preallocated: small ones suit a small disk.
    /// let db = pugdb::Database::builder().log_segment_bytes(1 << 20).open(&path)?;
    /// db.keyspace("users")?.put(b"ada", b"1815")?;
    /// assert!(db.stats()?.log_bytes < 1 << 20);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[must_use]
    pub fn log_segment_bytes(mut self, bytes: u64) -> Self {
        self.log_segment_bytes = Some(bytes);
        self
    }

    /// How many tables and value files are kept open. Default a quarter of what the process may open, at least 16 and at most 4,096.
    /// There may be any number of them: a file that was closed is opened again when it is read.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// // A guest in a process that needs its files for others.
    /// let db = pugdb::Database::builder().table_files_max(2).open(&path)?;
    /// for name in ["ada", "grace", "barbara"] {
    ///     db.keyspace(name)?.put(b"field", b"computing")?;
    ///     db.flush()?;
    /// }
    /// assert_eq!(db.stats()?.tables, 3);
    /// assert_eq!(db.keyspace("ada")?.get(b"field")?.as_deref(), Some(&b"computing"[..]));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[must_use]
    pub fn table_files_max(mut self, files: usize) -> Self {
        self.table_files_max = Some(files);
        self
    }

    /// What a commit survives when nothing else is said with it. Default [`Durability::Sync`].
    ///
    /// ```
    /// use pugdb::{Database, Durability};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = Database::builder().durability(Durability::Os).open(&path)?;
    /// db.keyspace("clicks")?.put(b"ada", b"1")?; // not synced
    ///
    /// let orders = db.keyspace("orders")?.durability(Durability::Sync);
    /// orders.put(b"1", b"paid")?; // synced, and all before it
    /// assert_eq!(db.durability(), Durability::Os);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// What keeps the entries of keyspaces that are made without options. Default: the lsm engine on disk, the btree in
    /// memory.
    ///
    /// ```
    /// use pugdb::{Database, EngineKind};
    ///
    /// let db = Database::builder().default_engine(EngineKind::Hash).in_memory()?;
    /// let counters = db.keyspace("counters")?;
    /// counters.put(b"visits", b"1")?;
    /// assert_eq!(counters.engine(), EngineKind::Hash);
    /// // A hash is for points: it has no order to scan in.
    /// assert!(counters.prefix(b"vis").next().unwrap().is_err());
    /// assert_eq!(counters.scan(..).count(), 1);
    ///
    /// // The lsm engine needs a directory.
    /// assert!(Database::builder().default_engine(EngineKind::Lsm).in_memory().is_err());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[must_use]
    pub fn default_engine(mut self, engine: EngineKind) -> Self {
        self.default_options.engine = Some(engine);
        self
    }

    /// How keyspaces are made when they are made without options, or with some only. Keyspaces that exist stay as they
    /// are.
    ///
    /// ```
    /// use pugdb::{Compression, Database, KeyspaceOptions};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let small = KeyspaceOptions { bottom_compression: Some(Compression::ZSTD), ..Default::default() };
    /// let db = Database::builder().default_options(small).open(&path)?;
    /// assert_eq!(db.keyspace("users")?.options().bottom_compression, Some(Compression::ZSTD));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[must_use]
    pub fn default_options(mut self, options: KeyspaceOptions) -> Self {
        self.default_options = options.or(self.default_options);
        self
    }

    /// How long an entry on disk stays there, hidden, after it has expired. Default one hour; zero is allowed.
    ///
    /// Within this time a calendar that was wrong can be put right, and nothing is lost: an entry is given up only when
    /// the calendar has said for all of the time that it has expired. Snapshots from before are not concerned: they
    /// read what they saw for as long as they live. Entries in memory go at once.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use pugdb::EntryOptions;
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::builder().expiry_grace(Duration::ZERO).open(&path)?;
    /// let sessions = db.keyspace("sessions")?;
    /// let expired = EntryOptions { expires_at: Some(db.now()), ..Default::default() };
    /// sessions.put_with(b"token", vec![7; 10_000], expired)?;
    /// db.flush()?;
    /// assert_eq!(db.stats()?.table_bytes, 0); // nobody can read it, and no grace keeps it
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[must_use]
    pub fn expiry_grace(mut self, grace: Duration) -> Self {
        self.expiry_grace = grace;
        self
    }

    /// Which sorted runs are merged in the background, and when. Default [`CompactionPolicy::LazyLeveled`]. Nothing on
    /// disk depends on it: the next open may choose another one.
    ///
    /// ```
    /// use pugdb::{CompactionPolicy, Database};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// // Events that expire in the order in which they come: tables go whole, and are hardly ever written anew.
    /// let db = Database::builder().compaction(CompactionPolicy::Fifo).open(&path)?;
    /// db.keyspace("events")?.put(b"1", b"login")?;
    /// assert_eq!(db.keyspace("events")?.get(b"1")?.as_deref(), Some(&b"login"[..]));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[must_use]
    pub fn compaction(mut self, policy: CompactionPolicy) -> Self {
        self.compaction = policy;
        self
    }

    /// How many threads merge tables, 1 to 64. Default half of the processors, at least one and at most four. A large
    /// merge is cut into as many parts; each takes room for two or three tables while it is written.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// // A database that is loaded faster than one thread can merge.
    /// let db = pugdb::Database::builder().compaction_jobs(4).open(&path)?;
    /// db.keyspace("users")?.put(b"ada", b"1815")?;
    /// db.keyspace("users")?.compact_range(..)?;
    /// assert_eq!(db.keyspace("users")?.get(b"ada")?.unwrap(), b"1815");
    ///
    /// assert!(pugdb::Database::builder().compaction_jobs(0).in_memory().is_err());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[must_use]
    pub fn compaction_jobs(mut self, jobs: usize) -> Self {
        self.compaction_jobs = Some(jobs);
        self
    }

    /// How many bytes compactions may read and write in a second, all together. Default: as many as they can.
    ///
    /// For a disk that others need too: what is merged in the background is spread over time. What flushes write counts, but they
    /// never wait. The rate gives way to whoever would wait for it: while writers are slowed down because there are too
    /// many runs, and while [`compact_range`](crate::Keyspace::compact_range) is under way, merges go on at full speed.
    /// Choose it well above what is written in the long run times the write amplification, or it will give way all the
    /// time. `Stats::compaction_held_us` says how long it has held merges back.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::builder().background_bytes_per_second(32 << 20).open(&path)?;
    /// db.keyspace("users")?.put(b"ada", b"1815")?;
    /// db.keyspace("users")?.compact_range(..)?;
    /// assert_eq!(db.stats()?.compaction_held_us, 0); // somebody waited for it
    ///
    /// assert!(pugdb::Database::builder().background_bytes_per_second(0).in_memory().is_err());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[must_use]
    pub fn background_bytes_per_second(mut self, bytes: u64) -> Self {
        self.background_bytes_per_second = Some(bytes);
        self
    }

    /// Room on the disk that is kept for a full one, in bytes; 0, the default: none is. A database on a disk that fills up should have
    /// as much as a segment of the log and two tables take, 192 MiB with sizes that nobody has changed: `pugdb serve` does.
    ///
    /// It is a file of this size, `RESERVE`. When a write, a flush or a merge finds no room, the file is given back. From then on what
    /// would add something is `Unavailable`, [`Error::is_disk_full`](crate::Error::is_disk_full); deletes, range deletes, truncations, drops of keyspaces and reads go on, and so
    /// do the merges that turn them into room. When there is room for the reserve and half as much, it is made anew and
    /// everything goes on: `Stats::is_disk_full`, the events `DiskFull` and `DiskFreed`. Without a reserve every write tries by
    /// itself, and on a full disk it may be that not even a delete can be written.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::builder().reserve_bytes(1 << 20).open(&path)?;
    /// db.keyspace("users")?.put(b"ada", b"1815")?;
    /// assert!(!db.stats()?.is_disk_full);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[must_use]
    pub fn reserve_bytes(mut self, bytes: u64) -> Self {
        self.reserve_bytes = bytes;
        self
    }

    /// After how long each table, with its values, is read again from disk and checked as [`Database::verify`] does, so that damage is
    /// found before it is needed. Default `None`: a process that lives for minutes gains nothing, and a disk that sleeps should not
    /// be woken. A server does well with a week.
    ///
    /// It goes on in the background at some mebibytes a second and waits for flushes and merges. Nothing of it stays in the
    /// cache. A damaged table is put into quarantine: it is never merged and never removed, reads of its damaged
    /// blocks are errors, and `Stats::quarantined` counts it. Tables that were there at the open come at random moments of the
    /// interval. What the operating system has in its cache is read from there.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let week = Duration::from_hours(7 * 24);
    /// let db = pugdb::Database::builder().scrub_interval(Some(week)).open(&path)?;
    /// db.keyspace("users")?.put(b"ada", b"1815")?;
    /// assert_eq!(db.stats()?.scrubbed_tables, 0); // nothing is a week old
    ///
    /// let never = Some(Duration::ZERO);
    /// assert!(pugdb::Database::builder().scrub_interval(never).in_memory().is_err());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[must_use]
    pub fn scrub_interval(mut self, interval: Option<Duration>) -> Self {
        self.scrub_interval = interval;
        self
    }

    /// What compaction may forget of the keyspace that has this name, now or later; another filter than before takes its
    /// place. It is code, so it is not written down: who opens the database gives it again, and a keyspace without its
    /// filter keeps what it has. A keyspace in memory is not compacted.
    ///
    /// What the filter condemns is gone as if it had been deleted, some time after. A [`Snapshot`](crate::Snapshot) goes
    /// on seeing what it saw, and keeps the tables of such keyspaces for that. An entry that was written anew
    /// meanwhile is judged anew. `Stats::filtered` counts.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use pugdb::seam::{CompactionFilter, FilteredEntry, Verdict};
    ///
    /// /// Sessions of a version that nobody speaks any more.
    /// struct OldSessions;
    ///
    /// impl CompactionFilter for OldSessions {
    ///     fn judge(&self, entry: &FilteredEntry<'_>) -> Verdict {
    ///         if entry.value.starts_with(b"v1:") { Verdict::Forget } else { Verdict::Keep }
    ///     }
    /// }
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let builder = pugdb::Database::builder().compaction_filter("sessions", Arc::new(OldSessions));
    /// let db = builder.open(&path)?;
    /// let sessions = db.keyspace("sessions")?;
    /// sessions.put(b"ada", b"v1:x")?;
    /// sessions.put(b"bob", b"v2:x")?;
    /// sessions.compact_range(..)?;
    /// assert_eq!(sessions.get(b"ada")?, None);
    /// assert_eq!(sessions.count()?, 1);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[must_use]
    pub fn compaction_filter(mut self, keyspace: &str, filter: Arc<dyn CompactionFilter>) -> Self {
        self.filters.insert(keyspace, filter);
        self
    }

    /// What makes values of the operands that are [merged](crate::Keyspace::merge) into the keyspace that has this name, now or
    /// later; another operator than before takes its place. It is code, so its name alone is written down, with the first merge:
    /// who opens the database gives it again, and gets an error for another one. Without it keys with operands cannot be
    /// read, and nothing is lost. `docs/guide/merge.md`.
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
    /// for _ in 0..3 {
    ///     visits.merge(b"/index", b"1")?; // nothing is read
    /// }
    /// assert_eq!(visits.get(b"/index")?.unwrap(), b"3");
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[must_use]
    pub fn merge_operator(mut self, keyspace: &str, operator: Arc<dyn MergeOperator>) -> Self {
        self.operators.insert(keyspace, operator);
        self
    }

    /// Whether [`open`](Self::open) makes a database where there is none. Default true.
    ///
    /// ```
    /// use pugdb::{Database, ErrorKind};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let missing = Database::builder().create_if_missing(false).open(&path).unwrap_err();
    /// assert_eq!(missing.kind(), ErrorKind::NotFound);
    /// ```
    #[must_use]
    pub fn create_if_missing(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Another outside world (for tests).
    ///
    /// ```
    /// use pugdb::Timestamp;
    /// use pugdb::env::{Clock, Env};
    ///
    /// struct Stopped;
    ///
    /// impl Clock for Stopped {
    ///     fn now(&self) -> Timestamp {
    ///         Timestamp(1_000)
    ///     }
    ///
    ///     fn monotonic(&self) -> std::time::Duration {
    ///         std::time::Duration::ZERO
    ///     }
    /// }
    ///
    /// let env = Env { clock: std::sync::Arc::new(Stopped), ..Env::os() };
    /// let db = pugdb::Database::builder().env(env).in_memory()?;
    /// assert_eq!(db.now(), Timestamp(1_000));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[must_use]
    pub fn env(mut self, env: Env) -> Self {
        self.env = env;
        self
    }

    /// What seals every byte bound for disk.
    ///
    /// ```
    /// use pugdb::seam::Plain;
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// // `Plain` seals nothing; it is the default.
    /// let db = pugdb::Database::builder().cipher(std::sync::Arc::new(Plain)).open(&path)?;
    /// db.keyspace("users")?.put(b"ada", b"1815")?;
    /// assert!(db.verify()?.problems.is_empty());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[must_use]
    pub fn cipher(mut self, cipher: Arc<dyn Cipher>) -> Self {
        self.cipher = cipher;
        self
    }

    /// Encrypts the database: every byte of log, tables, value files and manifest is sealed, with keys that only who has this root key
    /// can use. Without it the database does not open. One that was made without is encrypted by [`encrypt`](Self::encrypt).
    ///
    /// ```
    /// use pugdb::keys::KeyFile;
    /// use pugdb::{Database, ErrorKind};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let (path, key) = (dir.path().join("data"), dir.path().join("orders.key"));
    /// // The file is made with the database. Keep a copy of it where no copy of the data is.
    /// let db = Database::builder().root_key(KeyFile::new(&key)).open(&path)?;
    /// db.keyspace("users")?.put(b"ada", b"1815")?;
    /// db.close()?;
    ///
    /// assert_eq!(Database::open(&path).unwrap_err().kind(), ErrorKind::Denied);
    /// let db = Database::builder().root_key(KeyFile::new(&key)).open(&path)?;
    /// assert_eq!(db.keyspace("users")?.get(b"ada")?.as_deref(), Some(&b"1815"[..]));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[must_use]
    pub fn root_key(mut self, provider: impl RootProvider + 'static) -> Self {
        self.root_key = Some(Arc::new(provider));
        self
    }

    /// The keyring of another directory, for a checkpoint. It has none of its own, which would keep keys that are destroyed later: it opens
    /// with that of the database that it was made of, as long as there is one. The file is read and never written, so keys are rotated there.
    ///
    /// ```
    /// use pugdb::Database;
    /// use pugdb::keys::KeyFile;
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let (path, key, copy) = (dir.path().join("data"), dir.path().join("orders.key"), dir.path().join("copy"));
    /// let db = Database::builder().root_key(KeyFile::new(&key)).open(&path)?;
    /// db.keyspace("users")?.put(b"ada", b"1815")?;
    /// db.checkpoint(&copy)?;
    ///
    /// let copy = Database::builder().root_key(KeyFile::new(&key)).keyring(path.join("KEYRING")).open(&copy)?;
    /// assert_eq!(copy.keyspace("users")?.get(b"ada")?.as_deref(), Some(&b"1815"[..]));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[must_use]
    pub fn keyring(mut self, path: impl Into<PathBuf>) -> Self {
        self.keyring = Some(path.into());
        self
    }

    /// Refuses a database that has not come as far as this [`generation`](Database::generation), which somebody has noted elsewhere: it was
    /// put back from an older copy. From inside that cannot be seen, for an old copy is whole.
    ///
    /// ```
    /// use pugdb::{Database, ErrorKind};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let (path, copy) = (dir.path().join("data"), dir.path().join("copy"));
    /// let db = Database::open(&path)?;
    /// db.checkpoint(&copy)?;
    /// db.keyspace("users")?.put(b"ada", b"1815")?;
    /// let noted = db.generation();
    /// db.close()?;
    ///
    /// assert!(Database::builder().expect_generation(noted).open(&path).is_ok());
    /// let older = Database::builder().expect_generation(noted).open(&copy).unwrap_err();
    /// assert_eq!(older.kind(), ErrorKind::Denied);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[must_use]
    pub fn expect_generation(mut self, generation: u64) -> Self {
        self.expected_generation = generation;
        self
    }

    /// Keeps an audit log in the database's directory: opens and closes, changes of keys and keyspaces, erasures, what the program above records, and
    /// reads and writes by rule, in a chain that shows whether somebody has changed it. `docs/guide/audit.md`. None, if nothing is said; a database in
    /// memory, or one that is open for reading only, has none.
    ///
    /// ```
    /// use pugdb::audit::{AuditOptions, OnFailure};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let options = AuditOptions { on_failure: OnFailure::Continue, ..AuditOptions::default() };
    /// let db = pugdb::Database::builder().audit(options).open(&path)?;
    /// db.keyspace("users")?;
    /// assert_eq!(db.audit().unwrap().stats().records, 3); // the open, and two about the keyspace
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[must_use]
    pub fn audit(mut self, options: AuditOptions) -> Self {
        self.audit = Some(options);
        self
    }

    /// A second place for the audit log: a file, best on another machine's disk, to which each signed checkpoint is added. It shows what the log alone
    /// cannot: that its end was cut off, or that somebody who has the keyring has written it anew.
    ///
    /// ```
    /// use pugdb::audit::{AuditOptions, Checkpoint};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let (path, copy) = (dir.path().join("data"), dir.path().join("checkpoints"));
    /// let db = pugdb::Database::builder().audit(AuditOptions::default()).audit_copy(&copy).open(&path)?;
    /// let made = db.audit().unwrap().checkpoint()?;
    /// let copied = std::fs::read_to_string(&copy).unwrap();
    /// assert_eq!(Checkpoint::parse(&copied)?, made);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[must_use]
    pub fn audit_copy(mut self, path: impl Into<PathBuf>) -> Self {
        self.audit_copy = Some(path.into());
        self
    }

    /// The audit log of the database in `dir`, to be read, whoever has the database open: it takes no lock and changes nothing. A copy of the directory
    /// will do, with [`root_key`](Self::root_key) and [`keyring`](Self::keyring).
    ///
    /// ```
    /// use pugdb::audit::AuditOptions;
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::builder().audit(AuditOptions::default()).open(&path)?;
    /// let report = pugdb::Database::builder().audit_log(&path)?.verify(None)?; // while it is open
    /// assert_eq!((report.last, report.is_closed), (1, false));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` when there is none, `Denied` without the root key of an encrypted database.
    pub fn audit_log(&self, dir: impl AsRef<Path>) -> Result<AuditLog> {
        durable::audit_log(self, dir.as_ref())
    }

    /// Where table bytes come from, instead of the database's directory.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    ///
    /// use bytes::Bytes;
    /// use pugdb::seam::{RangeRequest, TableStore, Wait};
    /// use pugdb::{FileId, LocalTables};
    ///
    /// /// Counts the reads of another store.
    /// struct Counting {
    ///     inner: Arc<dyn TableStore>,
    ///     calls: AtomicUsize,
    /// }
    ///
    /// impl TableStore for Counting {
    ///     fn read_ranges(&self, pieces: &[RangeRequest], wait: Wait) -> pugdb::Result<Option<Vec<Bytes>>> {
    ///         self.calls.fetch_add(1, Ordering::Relaxed);
    ///         self.inner.read_ranges(pieces, wait)
    ///     }
    ///
    ///     fn forget(&self, file: FileId) {
    ///         self.inner.forget(file);
    ///     }
    /// }
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let inner = Arc::new(LocalTables::new(&pugdb::env::Env::os(), path.join("tables")));
    /// let store = Arc::new(Counting { inner, calls: AtomicUsize::new(0) });
    /// let db = pugdb::Database::builder().table_store(store.clone()).open(&path)?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// db.flush()?;
    /// assert_eq!(users.get(b"ada")?.unwrap(), b"1815");
    /// assert!(store.calls.load(Ordering::Relaxed) > 0);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[must_use]
    pub fn table_store(mut self, store: Arc<dyn TableStore>) -> Self {
        self.table_store = Some(store);
        self
    }

    /// Keeps the last 256 operations that take as long or longer, for [`Database::slow_operations`]: none, if nothing is said. Each
    /// operation then reads the clock twice, some 60 ns.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let db = pugdb::Database::builder().slow_operations(Duration::from_millis(10)).in_memory()?;
    /// db.keyspace("users")?.put(b"ada", b"1815")?;
    /// for slow in db.slow_operations() {
    ///     eprintln!("{:?} of {} keys, {} bytes: {:?}", slow.kind, slow.keys, slow.bytes, slow.took);
    /// }
    /// assert!(db.stats()?.slow_operations <= 1);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[must_use]
    pub fn slow_operations(mut self, threshold: Duration) -> Self {
        self.slow_operations = Some(threshold);
        self
    }

    /// Notes where the program takes snapshots, scans, transactions, sorted files and bulk loads, until they are dropped: not, if nothing
    /// is said. Then [`open_handles`](Database::open_handles) tells them, and [`close`](Database::close) is an error, after it has closed the database,
    /// while there are any: for tests of a program, which so learn of what was leaked, and where it was taken. Of asynchronous
    /// calls the place is in this crate. Each costs a lock and an entry in a map.
    ///
    /// ```
    /// let db = pugdb::Database::builder().track_handles(true).in_memory()?;
    /// std::mem::forget(db.begin()?);
    /// let error = db.close().unwrap_err();
    /// assert!(error.to_string().contains("holds a transaction of "), "{error}");
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[must_use]
    pub fn track_handles(mut self, is_tracked: bool) -> Self {
        self.track_handles = is_tracked;
        self
    }

    /// Is told what happens: opens, flushes, merges, stalls, syncs, failures and the close. Several may be given. It may read the
    /// database; what could wait for the thread that tells it, such as a write or a flush, is `Invalid` inside. One that holds the
    /// database keeps it open until it is closed.
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    ///
    /// use pugdb::{Database, DatabaseEvent, Observer};
    ///
    /// #[derive(Default)]
    /// struct Notes(Mutex<Vec<DatabaseEvent>>);
    ///
    /// impl Observer for Notes {
    ///     fn on_event(&self, event: &DatabaseEvent) {
    ///         self.0.lock().unwrap().push(event.clone());
    ///     }
    /// }
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let notes = Arc::new(Notes::default());
    /// let db = Database::builder().observer(notes.clone()).open(&path)?;
    /// db.keyspace("users")?.put(b"ada", b"1815")?;
    /// db.flush()?;
    /// db.close()?;
    /// let notes = notes.0.lock().unwrap();
    /// assert!(matches!(notes[0], DatabaseEvent::Opened { .. }));
    /// assert!(notes.iter().any(|event| matches!(event, DatabaseEvent::Flushed { memtables: 1, .. })));
    /// assert!(matches!(notes.last(), Some(DatabaseEvent::Closed { .. })));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observers.push(Arc::new(Reading(observer)));
        self
    }

    /// Opens the database in `dir`, recovering it if need be, or makes one.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::builder().memory_bytes(64 << 20).open(&path)?;
    /// db.keyspace("users")?.put(b"ada", b"1815")?;
    ///
    /// // It is open already: a second open is refused.
    /// let second = pugdb::Database::open(&path).unwrap_err();
    /// assert_eq!(second.kind(), pugdb::ErrorKind::Unavailable);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Unavailable` when another process has it open, `Corrupt` when something durable is damaged, `Denied` without the
    /// rights, `Invalid` when the directory holds something else, a setting is out of range or a keyspace has another merge operator, `NotFound` when there is
    /// no database and none may be made.
    pub fn open(self, dir: impl AsRef<Path>) -> Result<Database> {
        self.check()?;
        Database::open_with(self, dir.as_ref())
    }

    /// Encrypts a database that is not, and opens it. New keys are made for the [`root_key`](Self::root_key); log, manifest and whatever is written
    /// from now on are sealed. Tables and value files that are there stay plain until they are merged, or until
    /// [`rewrite`](Database::rewrite), which takes the time that a compaction of everything takes. It can be cut off anywhere, and
    /// a database that is encrypted with this root key is just opened.
    ///
    /// Copies that were made before stay as they are, and so do the blocks of a disk that files have left behind.
    ///
    /// ```
    /// use pugdb::keys::KeyFile;
    /// use pugdb::{Database, ErrorKind};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let (path, key) = (dir.path().join("data"), dir.path().join("orders.key"));
    /// let db = Database::open(&path)?;
    /// db.keyspace("users")?.put(b"ada", b"1815")?;
    /// db.close()?;
    ///
    /// let db = Database::builder().root_key(KeyFile::new(&key)).encrypt(&path)?;
    /// let done = db.rewrite(None)?;
    /// assert!(done.files == 1 && done.left_files == 0);
    /// db.close()?;
    /// assert_eq!(Database::open(&path).unwrap_err().kind(), ErrorKind::Denied);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` when there is no database; `Invalid` without a root key, or when the database has an audit log, which is plain: move
    /// its directory `audit` elsewhere, and another one begins; `Conflict` when it was used meanwhile; as [`open`](Self::open) otherwise.
    pub fn encrypt(self, dir: impl AsRef<Path>) -> Result<Database> {
        self.check()?;
        Database::encrypt_with(self, dir.as_ref())
    }

    /// Opens the database in `dir` for reading, while another process may have it open and write. It shows what was committed before
    /// the call, all of it, and nothing later: open it again for that. Every change is `Denied`.
    ///
    /// The reader has a directory of its own in `readers/`, with a second name for each file that it needs, so that the writer can
    /// remove what it likes; their space comes back when the reader is closed, or at the next open after its death. It has its own
    /// memory, as this builder says, and no background jobs. What was in memory only is not there: memtables of unlogged keyspaces, and
    /// keyspaces of the memory engines. What it shows may not be synced yet, so that a power cut can take it from the writer.
    /// [`Database::checkpoint`] works: a backup that the writer need not make.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::open(&path)?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    ///
    /// let reader = pugdb::Database::builder().memory_bytes(64 << 20).open_read_only(&path)?;
    /// users.put(b"ada", b"1852")?;
    /// let seen = reader.keyspace("users")?;
    /// assert_eq!(seen.get(b"ada")?.unwrap(), b"1815");
    /// assert_eq!(seen.put(b"ada", b"1900").unwrap_err().kind(), pugdb::ErrorKind::Denied);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` when there is no database, `Corrupt` when something durable is damaged, `Denied` without the right to make a directory
    /// there, `Invalid` with a [`table_store`](Self::table_store) of the caller's, as for [`open`](Self::open) otherwise.
    pub fn open_read_only(self, dir: impl AsRef<Path>) -> Result<Database> {
        self.check()?;
        Database::read_with(&self, dir.as_ref())
    }

    /// A database in memory, gone when the last handle is.
    ///
    /// ```
    /// let db = pugdb::Database::builder().memory_bytes(16 << 20).in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// assert_eq!(users.get(b"ada")?.unwrap(), b"1815");
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` when a setting is out of range.
    pub fn in_memory(self) -> Result<Database> {
        self.check()?;
        let engine = self.default_options.engine;
        if engine.is_some_and(|engine| engine.persistence() == Persistence::Durable) {
            return Err(Error::invalid(
                "a database in memory has no tables on disk; choose the btree or the hash engine as default",
            ));
        }
        Ok(Database::in_memory_with(self))
    }

    fn check(&self) -> Result<()> {
        if self.memory_bytes < limits::MEMORY_BYTES_MIN {
            return Err(Error::invalid(format!(
                "memory_bytes is {}; at least {} are needed",
                self.memory_bytes,
                limits::MEMORY_BYTES_MIN
            )));
        }
        let parts = self.cache_bytes.unwrap_or(0).saturating_add(self.memtable_bytes.unwrap_or(0));
        if parts > self.memory_bytes / 2 {
            return Err(Error::invalid(format!(
                "cache_bytes and memtable_bytes take {parts} together; at most half of memory_bytes ({}) is allowed, \
                 for a memtable is filled while another is written out",
                self.memory_bytes
            )));
        }
        self.operators.check()?;
        self.audit.as_ref().map_or(Ok(()), AuditOptions::check)?;
        self.default_options.tables(TreeOptions::default())?;
        if self.default_options.sealing == Some(Sealing::Plain) {
            return Err(Error::invalid(
                "not all keyspaces are left plain, for some are the database's own; name them one by one, or give no root key",
            ));
        }
        if let Some(jobs) = self.compaction_jobs.filter(|jobs| !(1..=COMPACTION_JOBS_MAX).contains(jobs)) {
            return Err(Error::invalid(format!(
                "compaction_jobs is {jobs}; 1 to {COMPACTION_JOBS_MAX} are allowed"
            )));
        }
        if self.scrub_interval.is_some_and(|interval| interval < SCRUB_INTERVAL_MIN) {
            return Err(Error::invalid(format!("scrub_interval is shorter than {SCRUB_INTERVAL_MIN:?}")));
        }
        if self.background_bytes_per_second == Some(0) {
            return Err(Error::invalid(
                "background_bytes_per_second is 0; at least 1 is allowed, and nothing said is no limit",
            ));
        }
        if let Some(bytes) = self.log_segment_bytes.filter(|&bytes| bytes > limits::LOG_SEGMENT_BYTES_MAX) {
            return Err(Error::invalid(format!(
                "log_segment_bytes is {bytes}; at most {} are allowed",
                limits::LOG_SEGMENT_BYTES_MAX
            )));
        }
        Ok(())
    }

    /// The largest value or batch that one write may bring.
    pub(crate) fn write_bytes_max(&self) -> usize {
        self.memory_bytes / limits::MEMORY_PART_MAX
    }
}
