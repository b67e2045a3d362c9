//! Watches: has anybody changed this key since? What optimistic clients build on (`WATCH` of Redis).

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use pugdb_core::engine::KeyRange;
use pugdb_core::{Key, KeyspaceId, Operation, Result, Seqno, Timestamp};

use crate::batch::Changes;
use crate::database::Inner;
use crate::read;
use crate::space::Space;

/// Looks after one key, from [`Keyspace::watch`](crate::Keyspace::watch) until it is dropped.
///
/// It is broken by a put, a delete or an expiry of the key, by a range delete over it, a truncation or a change of name of
/// its keyspace while the key is there, and by a drop of the keyspace. Once broken it stays broken. Ask while the key is locked
/// ([`Database::update_keys`](crate::Database::update_keys)), and the answer still holds when the change is made.
///
/// ```
/// let db = pugdb::Database::in_memory()?;
/// let users = db.keyspace("users")?;
/// users.put(b"ada", b"1815")?;
/// let watch = users.watch(b"ada")?;
/// users.put(b"grace", b"1906")?;
/// assert!(!watch.is_broken());
/// users.delete(b"ada")?;
/// users.put(b"ada", b"1815")?; // the same value again is another one
/// assert!(watch.is_broken());
/// # Ok::<(), pugdb::Error>(())
/// ```
pub struct Watch {
    inner: Arc<Inner>,
    space: Arc<Space>,
    key: Key,
    /// When the entry that was there expires.
    expires_at: Option<Timestamp>,
    broken: Arc<AtomicBool>,
}

impl Watch {
    pub(crate) fn new(inner: &Arc<Inner>, space: &Arc<Space>, key: &[u8]) -> Result<Self> {
        let key = Key::copy(key)?;
        // Under the key's lock: a commit is through, or finds the watch.
        let _lock = inner.locks.one(space.id, &key)?;
        let entry = read::get(inner, space, &key, None)?;
        let broken = inner.watches.add(space.id, &key);
        let expires_at = entry.and_then(|entry| entry.expires_at);
        Ok(Self { inner: Arc::clone(inner), space: Arc::clone(space), key, expires_at, broken })
    }

    /// Whether something has happened to the key.
    ///
    /// ```
    /// use pugdb::{EntryOptions, Timestamp};
    ///
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// let watch = users.watch(b"ada")?;
    /// users.delete(b"grace")?;
    /// assert!(!watch.is_broken());
    /// users.put(b"ada", b"1815")?;
    /// assert!(watch.is_broken());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
            || self.expires_at.is_some_and(|at| self.inner.now() >= at)
            || self.space.check_readable(Seqno(u64::MAX - 1)).is_err()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.inner.watches.remove(self.space.id, &self.key, &self.broken);
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watch(keyspace {}, broken: {})", self.space.id, self.is_broken())
    }
}

/// All watches of a database.
#[derive(Default)]
pub(crate) struct Watches {
    /// A commit that finds none here pays one load.
    live: AtomicUsize,
    /// What to break when a key changes.
    by_key: Mutex<HashMap<KeyspaceId, WatchedKeys>>,
}

/// A keyspace's keys, each with the watches on it.
type WatchedKeys = BTreeMap<Key, Vec<Arc<AtomicBool>>>;

impl Watches {
    fn add(&self, keyspace: KeyspaceId, key: &Key) -> Arc<AtomicBool> {
        let broken = Arc::new(AtomicBool::new(false));
        let mut by_key = self.by_key.lock();
        by_key.entry(keyspace).or_default().entry(key.clone()).or_default().push(Arc::clone(&broken));
        self.live.fetch_add(1, Ordering::AcqRel);
        broken
    }

    fn remove(&self, keyspace: KeyspaceId, key: &Key, broken: &Arc<AtomicBool>) {
        let mut by_key = self.by_key.lock();
        let Some(keys) = by_key.get_mut(&keyspace) else { return };
        if let Some(watches) = keys.get_mut(key) {
            watches.retain(|watch| !Arc::ptr_eq(watch, broken));
            if watches.is_empty() {
                keys.remove(key);
            }
        }
        if keys.is_empty() {
            by_key.remove(&keyspace);
        }
        self.live.fetch_sub(1, Ordering::AcqRel);
    }

    /// Breaks the watches of all that is about to change. The keys' locks are held.
    pub(crate) fn note(&self, inner: &Arc<Inner>, changes: &Changes) -> Result<()> {
        if self.live.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        // Of what goes only if it is there: looked at behind the lock, for that may take a read.
        let mut asked: Vec<([&Arc<Space>; 2], Watched)> = Vec::new();
        let by_key = self.by_key.lock();
        for part in &changes.parts {
            let Some(keys) = by_key.get(&part.space.id) else { continue };
            for op in part.ops.iter() {
                match op {
                    Operation::Entry(op) => {
                        keys.get(op.key).into_iter().for_each(|watches| break_all(watches));
                    }
                    Operation::DeleteRange(span) => {
                        let range = span.range();
                        let watched = keys.range::<[u8], _>(range.bounds());
                        asked.extend(watched.map(|watched| ([&part.space; 2], owned(watched))));
                    }
                }
            }
        }
        for space in &changes.truncated {
            let watched = by_key.get(&space.id).into_iter().flatten();
            asked.extend(watched.map(|watched| ([space; 2], owned(watched))));
        }
        for (one, other) in &changes.swapped {
            // The name leads to another value if either of the two had one.
            let watched = [one, other].into_iter().filter_map(|space| by_key.get(&space.id)).flatten();
            asked.extend(watched.map(|watched| ([one, other], owned(watched))));
        }
        drop(by_key);
        for ([one, other], (key, watches)) in asked {
            let is_there = |space: &Arc<Space>| read::exists(inner, space, &key, None);
            if is_there(one)? || !Arc::ptr_eq(one, other) && is_there(other)? {
                break_all(&watches);
            }
        }
        Ok(())
    }

    /// Breaks the watches of all keys in ranges of which some are about to change. Their locks are held.
    pub(crate) fn note_ranges(&self, keyspace: KeyspaceId, ranges: &[KeyRange]) {
        if self.live.load(Ordering::Acquire) == 0 {
            return;
        }
        let by_key = self.by_key.lock();
        for (key, watches) in by_key.get(&keyspace).into_iter().flatten() {
            if ranges.iter().any(|range| range.contains(key)) {
                break_all(watches);
            }
        }
    }
}

/// A key, and the watches on it.
type Watched = (Key, Vec<Arc<AtomicBool>>);

fn owned((key, watches): (&Key, &Vec<Arc<AtomicBool>>)) -> Watched {
    (key.clone(), watches.clone())
}

fn break_all(watches: &[Arc<AtomicBool>]) {
    for broken in watches {
        broken.store(true, Ordering::Release);
    }
}
