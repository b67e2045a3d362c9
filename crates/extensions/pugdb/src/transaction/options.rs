//! What a transaction promises, and how it behaves when it meets others.

use std::time::Duration;

/// What a transaction is kept from seeing of others that run beside it.
///
/// Both read from one view of the whole database, taken when the transaction begins, with the own changes on top: no dirty
/// reads, no read skew, no phantoms in what is read. They differ in what makes a commit fail with
/// [`Conflict`](crate::ErrorKind::Conflict).
///
/// ```
/// use pugdb::{Isolation, TransactionOptions};
///
/// let db = pugdb::Database::in_memory()?;
/// let on_call = db.keyspace("on call")?;
/// for (isolation, fails) in [(Isolation::Snapshot, false), (Isolation::Serializable, true)] {
///     on_call.put(b"ada", b"")?;
///     on_call.put(b"bob", b"")?;
///     let options = TransactionOptions { isolation, ..Default::default() };
///     let (mut one, mut other) = (db.begin_with(options)?, db.begin_with(options)?);
///     // Each sees that there is another one, and leaves.
///     assert!(one.scan(&on_call, ..).count() == 2 && other.scan(&on_call, ..).count() == 2);
///     one.delete(&on_call, b"ada")?;
///     other.delete(&on_call, b"bob")?;
///     one.commit()?;
///     assert_eq!(other.commit().is_err(), fails);
/// }
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Somebody has committed a change of a key that this transaction changes too (first committer wins, snapshot isolation):
    /// no update is lost. Operands of a merge conflict with nobody. Two transactions that read what the other one changes may both commit: write skew.
    Snapshot,
    /// Somebody has committed a change of a key that this transaction has read, or of any key of a range that it has
    /// scanned, keys that were not there included: what commits could have run one after the other, in the order of the
    /// commits (backward validation; Härder, "Observations on optimistic concurrency control schemes", 1984). Keys that it only
    /// writes conflict with nobody. One that changes nothing always commits.
    #[default]
    Serializable,
}

/// How a transaction behaves.
///
/// ```
/// use pugdb::{Isolation, TransactionOptions};
///
/// let db = pugdb::Database::in_memory()?;
/// let users = db.keyspace("users")?;
/// let options = TransactionOptions { isolation: Isolation::Snapshot, ..Default::default() };
/// let mut transaction = db.begin_with(options)?;
/// transaction.put(&users, b"ada", b"1815")?;
/// transaction.commit()?;
/// assert!(users.exists(b"ada")?);
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionOptions {
    /// What makes its commit fail.
    pub isolation: Isolation,
    /// How long [`get_for_update`](crate::Transaction::get_for_update) waits for a row that another transaction has locked.
    pub lock_wait: Duration,
    /// How often [`transact`](crate::Database::transact) tries before it gives the last conflict to its caller.
    pub attempts: u32,
}

impl Default for TransactionOptions {
    /// Serializable, five seconds, a hundred attempts.
    fn default() -> Self {
        Self { isolation: Isolation::default(), lock_wait: Duration::from_secs(5), attempts: 100 }
    }
}
