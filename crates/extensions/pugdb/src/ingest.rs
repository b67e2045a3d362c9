//! Sorted files: a keyspace's entries written in the order of their keys, past log and memtable, and taken in as one
//! commit.

use std::fmt;
use std::sync::Arc;

use pugdb_core::{EntryKind, EntryOptions, Error, Key, RawOp, Result};
use pugdb_lsm::Trees;
use pugdb_lsm::store::{SortedTables, Store};

use crate::audit;
use crate::database::Inner;
use crate::durable::Durable;
use crate::handles::{HandleKind, Held};
use crate::key_locks::{Stripes, refuse_inside_update};
use crate::space::{Keeper, Space};
use crate::{quota, sealed};

/// Writes entries in the order of their keys to a file that [`Keyspace::ingest`](crate::Keyspace::ingest) takes in. Made by
/// [`Keyspace::sorted_writer`](crate::Keyspace::sorted_writer). Dropped before [`finish`](Self::finish), it leaves nothing.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("data");
/// let db = pugdb::Database::open(&path)?;
/// let users = db.keyspace("users")?;
/// let mut writer = users.sorted_writer()?;
/// for number in 0..1000_u32 {
///     writer.put(number.to_be_bytes(), b"value")?;
/// }
/// assert!(writer.put(7_u32.to_be_bytes(), b"too late").is_err());
/// users.ingest([writer.finish()?])?;
/// assert_eq!(users.count()?, 1000);
/// # Ok::<(), pugdb::Error>(())
/// ```
#[must_use = "what it writes is removed when it is dropped"]
pub struct SortedWriter {
    inner: Arc<Inner>,
    space: Arc<Space>,
    tables: SortedTables,
    held: Held,
}

/// What a [`SortedWriter`] has written: on disk, read again, and in no keyspace yet. Dropped, it is removed.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("data");
/// let db = pugdb::Database::open(&path)?;
/// let users = db.keyspace("users")?;
/// let mut writer = users.sorted_writer()?;
/// writer.put(b"ada", b"1815")?;
/// let file = writer.finish()?;
/// assert_eq!(file.entries(), 1);
/// drop(file); // it was never there
/// assert_eq!(users.count()?, 0);
/// # Ok::<(), pugdb::Error>(())
/// ```
#[must_use = "it is removed when it is dropped"]
pub struct SortedFile {
    inner: Arc<Inner>,
    tables: SortedTables,
    _held: Held,
}

impl SortedWriter {
    #[track_caller]
    pub(crate) fn new(inner: &Arc<Inner>, space: &Arc<Space>) -> Result<Self> {
        inner.check_open()?;
        space.check_writable()?;
        let (durable, trees) = on_disk(inner, space)?;
        durable.failure().map_or(Ok(()), Err)?;
        durable.store.refuse_on_full_disk()?;
        let tables = durable.store.sorted_tables(space.id, trees);
        let held = inner.handles.take(HandleKind::SortedFile);
        Ok(Self { inner: Arc::clone(inner), space: Arc::clone(space), tables, held })
    }

    /// Appends an entry.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::open(&path)?;
    /// let mut writer = db.keyspace("users")?.sorted_writer()?;
    /// writer.put(b"ada", b"1815")?;
    /// writer.put(b"bob", b"1920")?;
    /// assert_eq!(writer.put(b"ada", b"again").unwrap_err().kind(), pugdb::ErrorKind::Invalid);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` when the key is not larger than the one before, or an entry breaks a limit: it is left out, and the
    /// next one may come. `Unavailable` when the disk is full or failed: the writer is of no use then.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.put_with(key, value, EntryOptions::default())
    }

    /// Appends an entry with expiry and meta byte.
    ///
    /// ```
    /// use pugdb::{EntryOptions, Timestamp};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::open(&path)?;
    /// let users = db.keyspace("users")?;
    /// let mut writer = users.sorted_writer()?;
    /// writer.put_with(b"ada", b"1815", EntryOptions { meta: 7, ..EntryOptions::default() })?;
    /// users.ingest([writer.finish()?])?;
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
        Key::check(key)?;
        let EntryOptions { expires_at, meta, seal } = options;
        sealed::check(&self.inner, value, seal)?;
        self.inner.check_open()?;
        let value = &sealed::seal(&self.inner, &self.space, key, value, seal)?;
        let expires_at = self.space.expiry(expires_at, || self.inner.now());
        let kind = EntryKind::Put;
        self.tables.add(&RawOp { key, kind, meta, expires_at, seal, stamp: None, value })
    }

    /// Makes it durable and reads it again from disk, every byte.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::open(&path)?;
    /// let empty = db.keyspace("users")?.sorted_writer()?.finish()?;
    /// assert_eq!(empty.entries(), 0);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Unavailable` when the disk is full or failed, `Corrupt` when it does not give back what was written.
    pub fn finish(mut self) -> Result<SortedFile> {
        self.inner.check_open()?;
        self.tables.finish()?;
        Ok(SortedFile { inner: self.inner, tables: self.tables, _held: self.held })
    }
}

impl SortedFile {
    /// How many entries it holds.
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
    pub fn entries(&self) -> u64 {
        self.tables.entries()
    }
}

/// Takes in files as one commit, durable when this returns.
pub(crate) fn ingest(inner: &Arc<Inner>, space: &Arc<Space>, files: Vec<SortedFile>) -> Result<()> {
    refuse_inside_update()?;
    let (durable, trees) = on_disk(inner, space)?;
    if files.iter().any(|file| !Arc::ptr_eq(&file.inner, inner)) {
        return Err(Error::invalid("a sorted file belongs to the database whose writer made it"));
    }
    let files: Vec<SortedTables> =
        files.into_iter().map(|file| file.tables).filter(|tables| tables.entries() > 0).collect();
    if files.is_empty() {
        return inner.check_open();
    }
    let store = &durable.store;
    let _room = store.admit(0)?;
    // Most of it before anybody has to wait.
    store.make_way(space.id, trees, &files)?;
    audit::taking_in(inner, space)?;
    commit(inner, space, (store, trees), files)
}

/// Nobody else commits from the flush of what lies beneath until the files are in the manifest and seen: so they come between
/// two commits, in memory as after a crash, and no snapshot sees half.
fn commit(
    inner: &Arc<Inner>,
    space: &Arc<Space>,
    (store, trees): (&Store, &Trees),
    files: Vec<SortedTables>,
) -> Result<()> {
    let _keys = inner.locks.stripes(&Stripes::All)?;
    let _keyspaces = inner.changing.lock();
    inner.check_open()?;
    space.check_writable()?;
    let ranges = store.make_way(space.id, trees, &files)?;
    let mut writer = inner.writer.lock();
    writer.guards.meet_ranges(space.id, &ranges)?;
    let (bytes, entries) =
        files.iter().fold((0, 0), |(bytes, entries), file| (bytes + file.bytes(), entries + file.entries()));
    quota::check_files(space, bytes, entries)?;
    let at = writer.sequencer.reserve(1);
    drop(writer);
    store.ingest(files, at)?;
    inner.watches.note_ranges(space.id, &ranges);
    inner.snapshots.publish(at);
    Ok(())
}

/// Its trees, and what they are a part of.
fn on_disk<'a>(inner: &'a Inner, space: &'a Space) -> Result<(&'a Durable, &'a Trees)> {
    match (&inner.durable, &space.keeper) {
        (Some(durable), Keeper::Lsm(trees)) => Ok((durable, trees)),
        _ => Err(Error::invalid("a keyspace in memory takes no sorted files; write to it in batches")),
    }
}

impl fmt::Debug for SortedWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SortedWriter({} entries, keyspace {})", self.tables.entries(), self.space.id)
    }
}

impl fmt::Debug for SortedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SortedFile({} entries)", self.entries())
    }
}
