//! A scan as an iterator: asks the engine for batches, hands out entries.

use std::fmt;
use std::sync::Arc;

use pugdb_core::engine::{BatchSize, Cursor, Direction, Entries, KeyRange, Parts};
use pugdb_core::{Entry, ErrorKind, Found, Key, Result, Value};

use crate::audit;
use crate::database::Inner;
use crate::handles::{HandleKind, Held};
use crate::read::{Pinned, pin};
use crate::sealed;
use crate::slow::{OperationKind, Shape};
use crate::snapshot::Snapshot;
use crate::space::Space;

/// The first batch is small, for scans that look at a few entries; later ones grow.
const FIRST_ENTRIES: usize = 16;
/// A scan that says how many it wants gets so many at once.
const FIRST_ENTRIES_LIMITED: usize = 128;
const ENTRIES_MAX: usize = 1024;
/// Room for so much of an entry is made beforehand.
const ENTRY_BYTES: usize = 128;
/// A batch holds at most this much, and always at least one entry.
const BATCH_BYTES: usize = 256 << 10;

/// The entries of a range, in order. It starts with the first `next`, and what it sees does not change after that.
///
/// It yields keys with values; [`next_entry`](Self::next_entry) also gives expiry and meta byte, and
/// [`next_ref`](Self::next_ref), the fastest way, lends both where they lie. An error ends it. Entries whose value was erased are passed
/// over.
///
/// Entries come in batches of up to a thousand and a quarter of a mebibyte. Small keys and values that are kept share the
/// memory of their batch; copy them when few are kept for long.
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
    parts: Parts,
    snapshot: Option<Snapshot>,
    state: State,
    /// The value of the entry that was shown last, if it was sealed for a subject.
    opened: Option<Vec<u8>>,
    _held: Held,
}

enum State {
    Fresh,
    Running {
        cursor: Box<dyn Cursor>,
        batch: Entries,
        /// How many of the batch were given out.
        given: usize,
        /// How many the next batch has.
        entries: usize,
        /// The last batch that was asked for was empty.
        is_over: bool,
        /// Keeps the versions that the cursor reads.
        _pinned: Pinned,
    },
    Over,
}

/// Where an entry lies.
struct Next<'a> {
    batch: &'a mut Entries,
    /// Its number there.
    at: usize,
    /// Its value, if that had to be opened.
    opened: &'a mut Option<Vec<u8>>,
}

impl Scan {
    #[track_caller]
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
            parts: Parts::All,
            snapshot,
            state: State::Fresh,
            opened: None,
            _held: inner.handles.take(HandleKind::Scan),
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

    /// Keys only: all values are empty, and none is copied. Call it before the first `next`.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// let (key, value) = users.scan(..).keys_only().next().unwrap()?;
    /// assert_eq!((key.len(), value.len()), (3, 0));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[must_use]
    pub fn keys_only(mut self) -> Self {
        self.parts = Parts::Keys;
        self
    }

    /// The next key and its value, lent until the next call.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// users.put(b"bob", b"1920")?;
    /// let (mut scan, mut bytes) = (users.scan(..), 0);
    /// while let Some((key, value)) = scan.next_ref()? {
    ///     bytes += key.len() + value.len();
    /// }
    /// assert_eq!(bytes, 14);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::get`](crate::Keyspace::get). The scan is over then.
    pub fn next_ref(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        let Some(Next { batch, at, opened }) = self.advance()? else { return Ok(None) };
        Ok(batch.key_value(at).map(|(key, value)| (key, opened.as_deref().unwrap_or(value))))
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
        let Some(Next { batch, at, opened }) = self.advance()? else { return Ok(None) };
        let Some((key, Found { mut entry, .. })) = batch.take(at) else { return Ok(None) };
        if let Some(value) = opened.take() {
            entry.value = Value::new(value)?;
        }
        Ok(Some((key, entry)))
    }

    /// The next entry.
    fn advance(&mut self) -> Result<Option<Next<'_>>> {
        self.opened = None;
        let at = match self.plain_next() {
            Some(at) => at,
            None => match self.next_opened()? {
                Some(at) => at,
                None => return Ok(None),
            },
        };
        self.left -= 1;
        self.pass_over_erased();
        let State::Running { batch, .. } = &mut self.state else { return Ok(None) };
        Ok(Some(Next { batch, at, opened: &mut self.opened }))
    }

    /// The place of the next entry in a batch in which nothing is sealed for anybody: most of the time it is that.
    #[inline]
    fn plain_next(&mut self) -> Option<usize> {
        let State::Running { batch, given, .. } = &mut self.state else { return None };
        let at = *given;
        let is_plain = self.left > 0 && at < batch.len() && !batch.has_fields();
        if !is_plain || self.space.check_not_erased().is_err() {
            return None;
        }
        *given += 1;
        Some(at)
    }

    /// The place of the next entry, whatever it is and wherever it has to come from. Its value is opened if it is sealed.
    fn next_opened(&mut self) -> Result<Option<usize>> {
        loop {
            if self.left == 0 {
                return Ok(None);
            }
            if let Err(error) = self.space.check_not_erased().and_then(|()| self.bring()) {
                self.state = State::Over;
                return Err(error);
            }
            let State::Running { batch, given, .. } = &mut self.state else { return Ok(None) };
            if *given >= batch.len() {
                self.state = State::Over;
                return Ok(None);
            }
            let at = *given;
            *given += 1;
            let Some(seal) = batch.seal(at).filter(|_| batch.has_values()) else { return Ok(Some(at)) };
            let (key, value) = batch.key_value(at).unwrap_or_default();
            match sealed::open_value(&self.inner, self.space.id, seal, key, value) {
                Ok(value) => {
                    self.opened = Some(value);
                    return Ok(Some(at));
                }
                // Just now.
                Err(error) if error.kind() == ErrorKind::Erased => {}
                Err(error) => {
                    self.state = State::Over;
                    return Err(error);
                }
            }
        }
    }

    /// Goes to the next entry of the batch that can be shown.
    #[inline]
    fn pass_over_erased(&mut self) {
        if let State::Running { batch, given, .. } = &mut self.state
            && batch.has_fields()
        {
            while sealed::is_hidden(&self.inner, batch, *given) {
                *given += 1;
            }
        }
    }

    /// True when the next entry, or the end, is known without a wait.
    pub(crate) fn is_at_hand(&self) -> bool {
        self.left == 0
            || match &self.state {
                State::Fresh => false,
                State::Running { batch, given, is_over, .. } => *given < batch.len() || *is_over,
                State::Over => true,
            }
    }

    /// Makes sure that there is an entry to give out, unless the scan is over.
    pub(crate) fn bring(&mut self) -> Result<()> {
        loop {
            self.fill()?;
            self.pass_over_erased();
            let is_there = match &self.state {
                State::Running { batch, given, is_over, .. } => *given < batch.len() || *is_over,
                State::Fresh | State::Over => true,
            };
            if is_there {
                return Ok(());
            }
        }
    }

    /// Makes sure that there is a batch that was not given out to its end, unless the scan is over.
    fn fill(&mut self) -> Result<()> {
        if let State::Fresh = self.state {
            audit::scanning(&self.inner, &self.space)?;
            let pinned = pin(&self.inner, &self.space, self.snapshot.as_ref())?;
            let view = self.snapshot.as_ref().and_then(|snapshot| snapshot.view(self.space.id));
            let (range, direction) = (self.range.clone(), self.direction);
            let cursor = match view {
                Some(view) => view.scan(range, direction, pinned.point)?,
                None => self.space.engine().scan(range, direction, pinned.point)?,
            };
            let entries = if self.left <= FIRST_ENTRIES_LIMITED { self.left } else { FIRST_ENTRIES };
            let mut batch = Entries::of(self.parts);
            batch.reserve(entries, ENTRY_BYTES);
            self.state = State::Running { cursor, batch, given: 0, entries, is_over: false, _pinned: pinned };
        }
        let State::Running { cursor, batch, given, entries, is_over, .. } = &mut self.state else {
            return Ok(());
        };
        if *given == batch.len() && !*is_over {
            self.inner.check_open()?;
            batch.clear();
            *given = 0;
            let mut timed = self.inner.timed(OperationKind::ScanStep, Shape::default);
            cursor.fill(BatchSize { entries: (*entries).min(self.left), bytes: BATCH_BYTES }, batch)?;
            if let Some(timed) = &mut timed {
                let bytes =
                    (0..batch.len()).filter_map(|at| batch.key_value(at)).map(|(key, _)| key.len()).sum();
                timed.has_shape(Shape { keyspace: Some(self.space.id), keys: batch.len(), bytes });
            }
            *is_over = batch.is_empty();
            *entries = (*entries * 4).min(ENTRIES_MAX);
        }
        Ok(())
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
