//! A scan within a transaction: notes what it shows, so that the commit can ask whether it is still so.

use std::fmt;

use pugdb_core::engine::{Direction, KeyRange};
use pugdb_core::{Entry, Key, Result, Value};

use super::Transaction;
use super::reads::Noted;
use crate::keyspace::Keyspace;
use crate::overlay::OverlayScan;

/// Entries in order, those too that the transaction has written. Made by [`Transaction::scan`].
///
/// It yields keys with values; [`next_entry`](Self::next_entry) also gives expiry and meta byte. Of a scan that is dropped before its
/// end only what it has shown counts as read.
///
/// ```
/// let db = pugdb::Database::in_memory()?;
/// let users = db.keyspace("users")?;
/// users.put(b"ada", b"1815")?;
/// let mut transaction = db.begin()?;
/// transaction.put(&users, b"bob", b"1920")?;
/// let keys: Vec<_> = transaction.scan(&users, ..).map(|entry| entry.unwrap().0).collect();
/// assert_eq!(keys, [b"ada", b"bob"]);
/// # Ok::<(), pugdb::Error>(())
/// ```
pub struct TransactionScan<'a> {
    transaction: &'a Transaction,
    keyspace: Keyspace,
    range: KeyRange,
    direction: Direction,
    left: usize,
    state: State<'a>,
}

enum State<'a> {
    Fresh,
    Running(Box<Running<'a>>),
    Over,
}

struct Running<'a> {
    scan: OverlayScan<'a>,
    /// As a whole, until it is known that less was read.
    noted: Noted,
    last: Option<Key>,
}

impl<'a> TransactionScan<'a> {
    pub(super) fn new(transaction: &'a Transaction, keyspace: &Keyspace, range: KeyRange) -> Self {
        Self {
            transaction,
            keyspace: keyspace.clone(),
            range,
            direction: Direction::Forward,
            left: usize::MAX,
            state: State::Fresh,
        }
    }

    /// From the largest key down. Call it before the first `next`.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// users.put(b"ada", b"1815")?;
    /// users.put(b"bob", b"1920")?;
    /// let (last, _) = db.begin()?.scan(&users, ..).reverse().next().unwrap()?;
    /// assert_eq!(last, b"bob");
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
    /// users.put(b"ada", b"1815")?;
    /// users.put(b"bob", b"1920")?;
    /// assert_eq!(db.begin()?.scan(&users, ..).limit(1).count(), 1);
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
    /// let transaction = db.begin()?;
    /// let (key, entry) = transaction.scan(&users, ..).next_entry()?.unwrap();
    /// assert_eq!((key, entry.meta), (pugdb::Key::copy(b"ada")?, 0));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Transaction::get`]. The scan is over then.
    pub fn next_entry(&mut self) -> Result<Option<(Key, Entry)>> {
        if self.left == 0 {
            self.finish();
            return Ok(None);
        }
        if let State::Fresh = self.state {
            let transaction = self.transaction;
            transaction.overlay.check_owner(&self.keyspace)?;
            let scan = transaction.overlay.scan(&self.keyspace, &self.range, self.direction);
            let noted = transaction.note_range(&self.keyspace, &self.range);
            self.state = State::Running(Box::new(Running { scan, noted, last: None }));
        }
        let State::Running(running) = &mut self.state else { return Ok(None) };
        match running.scan.advance() {
            Ok(Some((key, entry))) => {
                running.last = Some(key.clone());
                self.left -= 1;
                Ok(Some((key, entry)))
            }
            // All of the range was read.
            end => {
                self.state = State::Over;
                end
            }
        }
    }

    /// Only what was shown was read.
    fn finish(&mut self) {
        let State::Running(running) = &self.state else { return };
        let Running { noted, last: Some(last), .. } = &**running else { return };
        // Without order what was shown lies anywhere.
        if self.keyspace.space.engine().capabilities().scans == pugdb_core::engine::Scans::Ordered {
            self.transaction.narrow(noted, &self.range, last, self.direction);
        }
        self.state = State::Over;
    }
}

impl Iterator for TransactionScan<'_> {
    type Item = Result<(Key, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_entry().transpose().map(|next| next.map(|(key, entry)| (key, entry.value)))
    }
}

impl Drop for TransactionScan<'_> {
    fn drop(&mut self) {
        self.finish();
    }
}

impl fmt::Debug for TransactionScan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransactionScan({:?}, keyspace {})", self.direction, self.keyspace.space.id)
    }
}
