//! A scan as an iterator: asks the engine for batches, hands out entries.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use pugdb_core::engine::{BatchSize, Cursor, Direction, KeyRange};
use pugdb_core::{Entry, Found, Key, Result, Value};

use crate::database::Inner;
use crate::keyspace::Space;
use crate::read::{Pinned, pin};
use crate::snapshot::Snapshot;

/// The first batch is small, for scans that look at a few entries; later ones grow.
const FIRST_ENTRIES: usize = 16;
const ENTRIES_MAX: usize = 1024;
/// A batch holds at most this much, and always at least one entry.
const BATCH_BYTES: usize = 256 << 10;

/// The entries of a range, in order. It starts with the first `next`, and what it sees does not change after that.
///
/// It yields keys with values; [`next_entry`](Self::next_entry) also gives expiry and meta byte. An error ends it.
///
/// ```
/// let db = pugdb::Database::in_memory()?;
/// let users = db.keyspace("users")?;
/// users.put(b"ada", b"1815")?;
/// users.put(b"bob", b"1920")?;
/// let mut bytes = 0;
/// for entry in users.scan(..) {
///     let (key, value) = entry?;
///     bytes += key.len() + value.len();
/// }
/// assert_eq!(bytes, 14);
/// # Ok::<(), pugdb::Error>(())
/// ```
pub struct Scan {
    inner: Arc<Inner>,
    space: Arc<Space>,
    range: KeyRange,
    direction: Direction,
    left: usize,
    snapshot: Option<Snapshot>,
    state: State,
}

enum State {
    Fresh,
    Running {
        cursor: Box<dyn Cursor>,
        ready: VecDeque<(Key, Found)>,
        entries: usize,
        /// Keeps the versions that the cursor reads.
        _pinned: Pinned,
    },
    Over,
}

impl Scan {
    pub(crate) fn new(
        inner: &Arc<Inner>,
        space: &Arc<Space>,
        range: KeyRange,
        snapshot: Option<Snapshot>,
    ) -> Self {
        Self {
            inner: Arc::clone(inner),
            space: Arc::clone(space),
            range,
            direction: Direction::Forward,
            left: usize::MAX,
            snapshot,
            state: State::Fresh,
        }
    }

    /// From the largest key down. Call it before the first `next`.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let events = db.keyspace("events")?;
    /// for number in 1..=3_u64 {
    ///     events.put(number.to_be_bytes(), b"")?;
    /// }
    /// let (newest, _) = events.scan(..).reverse().next().unwrap()?;
    /// assert_eq!(newest, 3_u64.to_be_bytes());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[must_use]
    pub fn reverse(mut self) -> Self {
        self.direction = Direction::Reverse;
        self
    }

    /// At most `count` entries.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// for name in [b"ada", b"bob", b"cat"] {
    ///     users.put(name, b"")?;
    /// }
    /// let page: Vec<_> = users.scan(..).limit(2).map(|entry| entry.unwrap().0).collect();
    /// assert_eq!(page, [b"ada", b"bob"]);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[must_use]
    pub fn limit(mut self, count: usize) -> Self {
        self.left = count;
        self
    }

    /// The next key with its whole entry.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// let (key, entry) = users.scan(..).next_entry()?.unwrap();
    /// assert_eq!((key, entry.meta), (pugdb::Key::copy(b"ada")?, 0));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::get`](crate::Keyspace::get). The scan is over then.
    pub fn next_entry(&mut self) -> Result<Option<(Key, Entry)>> {
        if self.left == 0 {
            return Ok(None);
        }
        let next = self.advance();
        match &next {
            Ok(Some(_)) => self.left -= 1,
            Ok(None) | Err(_) => self.state = State::Over,
        }
        next
    }

    fn advance(&mut self) -> Result<Option<(Key, Entry)>> {
        if let State::Fresh = self.state {
            let pinned = pin(&self.inner, &self.space, self.snapshot.as_ref())?;
            let cursor = self.space.engine().scan(self.range.clone(), self.direction, pinned.point)?;
            self.state =
                State::Running { cursor, ready: VecDeque::new(), entries: FIRST_ENTRIES, _pinned: pinned };
        }
        let State::Running { cursor, ready, entries, .. } = &mut self.state else { return Ok(None) };
        if ready.is_empty() {
            self.inner.check_open()?;
            let mut batch = Vec::new();
            cursor.fill(BatchSize { entries: (*entries).min(self.left), bytes: BATCH_BYTES }, &mut batch)?;
            *entries = (*entries * 4).min(ENTRIES_MAX);
            ready.extend(batch);
        }
        Ok(ready.pop_front().map(|(key, found)| (key, found.entry)))
    }
}

impl Iterator for Scan {
    type Item = Result<(Key, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_entry().transpose().map(|next| next.map(|(key, entry)| (key, entry.value)))
    }
}

impl fmt::Debug for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scan({:?}, keyspace {})", self.direction, self.space.id)
    }
}
