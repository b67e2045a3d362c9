//! Loading much in any order: entries are collected, sorted, and taken in a portion at a time, past log and memtable.

use std::fmt;

use pugdb_core::{EntryOptions, Key, Result, Value};

use crate::handles::{HandleKind, Held};
use crate::keyspace::Keyspace;
use crate::space::Keeper;
use crate::{WriteBatch, sealed, write};

/// A portion takes a part of the database's memory: one in so many,
const PORTION_PART: usize = 8;
/// and never more.
const PORTION_BYTES_MAX: usize = 64 << 20;
/// What an entry takes beside its key and value while it waits.
const ENTRY_OVERHEAD_BYTES: usize = 96;

/// Loads entries in any order, many at a time. Made by [`Keyspace::bulk_load`](crate::Keyspace::bulk_load).
///
/// Entries are collected up to an eighth of the database's memory, 64 MiB at most; then they are sorted and taken in as [sorted
/// files](crate::SortedWriter) are, each portion in one commit, durable at once. So a load is seen portion by portion, and what was
/// taken in stays when it is given up. Of entries with the same key the last one counts. In memory, portions are batches.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("data");
/// let db = pugdb::Database::open(&path)?;
/// let users = db.keyspace("users")?;
/// let mut load = users.bulk_load()?;
/// for number in (0..10_000_u32).rev() {
///     load.put(number.to_be_bytes(), b"value")?;
/// }
/// let done = load.finish()?;
/// assert_eq!((done.entries, users.count()?), (10_000, 10_000));
/// # Ok::<(), pugdb::Error>(())
/// ```
#[must_use = "what was not taken in is forgotten when it is dropped; finish it"]
pub struct BulkLoad {
    keyspace: Keyspace,
    waiting: Vec<(Key, Value, EntryOptions)>,
    waiting_bytes: usize,
    portion_bytes: usize,
    done: BulkProgress,
    _held: Held,
}

/// How far a load has come.
///
/// ```
/// let db = pugdb::Database::in_memory()?;
/// let mut load = db.keyspace("users")?.bulk_load()?;
/// load.put(b"ada", b"1815")?;
/// assert_eq!((load.progress().entries, load.progress().waiting), (0, 1));
/// assert_eq!(load.finish()?.portions, 1);
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BulkProgress {
    /// Entries that were taken in. Those with the same key in one portion count once.
    pub entries: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// In so many commits.
    pub portions: u64,
    /// Entries that are collected and not taken in yet.
    pub waiting: u64,
}

impl BulkLoad {
    #[track_caller]
    pub(crate) fn new(keyspace: &Keyspace) -> Result<Self> {
        let inner = &keyspace.inner;
        inner.check_open()?;
        keyspace.space.check_writable()?;
        let part = inner.options.memory_bytes / PORTION_PART;
        // A portion in memory is a batch, and has its limit.
        let portion_bytes = part.min(PORTION_BYTES_MAX).min(write::batch_bytes_max(inner) / 2);
        let (waiting, done) = Default::default();
        let held = inner.handles.take(HandleKind::BulkLoad);
        Ok(Self { keyspace: keyspace.clone(), waiting, waiting_bytes: 0, portion_bytes, done, _held: held })
    }

    /// Adds an entry. Takes in a portion when enough are collected.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// let mut load = users.bulk_load()?;
    /// load.put(b"grace", b"1906")?;
    /// load.put(b"ada", b"0")?;
    /// load.put(b"ada", b"1815")?;
    /// load.finish()?;
    /// assert_eq!(users.get(b"ada")?.unwrap(), b"1815");
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` when key or value are too long: the entry is left out, and the next one may come. `NotFound` when the keyspace was
    /// dropped, `Closed`, `Unavailable` when the disk is full or failed: the portion at hand is kept, and tried again with the next
    /// entry.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.put_with(key, value, EntryOptions::default())
    }

    /// Adds an entry with expiry and meta byte.
    ///
    /// ```
    /// use pugdb::EntryOptions;
    ///
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// let mut load = users.bulk_load()?;
    /// load.put_with(b"ada", b"1815", EntryOptions { meta: 7, ..EntryOptions::default() })?;
    /// load.finish()?;
    /// assert_eq!(users.get_entry(b"ada")?.unwrap().meta, 7);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn put_with(
        &mut self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: EntryOptions,
    ) -> Result<()> {
        let (key, value) = (key.as_ref(), value.as_ref());
        sealed::check(&self.keyspace.inner, value, options.seal)?;
        let key = Key::copy(key)?;
        let bytes = key.len() + value.len() + ENTRY_OVERHEAD_BYTES;
        if self.waiting_bytes + bytes > self.portion_bytes {
            self.take_in()?;
        }
        self.waiting.push((key, Value::new(value.to_vec())?, options));
        self.waiting_bytes += bytes;
        Ok(())
    }

    /// How far it has come.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let load = db.keyspace("users")?.bulk_load()?;
    /// assert_eq!(load.progress(), pugdb::BulkProgress::default());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn progress(&self) -> BulkProgress {
        BulkProgress { waiting: self.waiting.len() as u64, ..self.done }
    }

    /// Takes in what is left, and says what there was.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let done = db.keyspace("users")?.bulk_load()?.finish()?;
    /// assert_eq!((done.entries, done.portions), (0, 0));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put): what the last portion held is not there then.
    pub fn finish(mut self) -> Result<BulkProgress> {
        self.take_in()?;
        Ok(self.progress())
    }

    /// One portion, in one commit.
    fn take_in(&mut self) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        // Stable: of those with the same key the last one comes last.
        self.waiting.sort_by(|one, other| one.0.cmp(&other.0));
        let keys = self.waiting.iter().map(|(key, ..)| key).skip(1).map(Some).chain([None]);
        let last_of_each = self.waiting.iter().zip(keys).filter(|((key, ..), next)| Some(key) != *next);
        let last_of_each = last_of_each.map(|(entry, _)| entry);
        let (mut entries, mut bytes) = (0, 0);
        if let (Some(_), Keeper::Lsm(_)) = (&self.keyspace.inner.durable, &self.keyspace.space.keeper) {
            let mut writer = self.keyspace.sorted_writer()?;
            for (key, value, options) in last_of_each {
                writer.put_with(key, value, *options)?;
                (entries, bytes) = (entries + 1, bytes + (key.len() + value.len()) as u64);
            }
            self.keyspace.ingest([writer.finish()?])?;
        } else {
            let mut batch = WriteBatch::new(&self.keyspace.inner).durability(self.keyspace.durability);
            for (key, value, options) in last_of_each {
                batch.put_with(&self.keyspace, key, value, *options);
                (entries, bytes) = (entries + 1, bytes + (key.len() + value.len()) as u64);
            }
            batch.commit()?;
        }
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.done.entries += entries;
        self.done.bytes += bytes;
        self.done.portions += 1;
        Ok(())
    }
}

impl fmt::Debug for BulkLoad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BulkLoad({:?}, keyspace {})", self.progress(), self.keyspace.id())
    }
}
