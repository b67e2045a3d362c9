//! The promise of durability: something a thread or a future waits for. Write path, step 8.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pugdb_core::{Lsn, Result};
use pugdb_lsm::log::Log;

/// A commit under way to its durability. It is applied and visible; wait for it, or await it.
///
/// Tickets are ordered: when a later one is done, so are all earlier ones of the same database. Dropping a ticket does
/// not undo anything; the commit is made durable by the next sync.
///
/// ```
/// let db = pugdb::Database::in_memory()?;
/// let users = db.keyspace("users")?;
/// let mut batch = db.batch();
/// batch.put(&users, b"ada", b"1815");
/// let ticket = batch.commit_ticket()?;
/// ticket.wait()?;
/// assert!(ticket.is_done());
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone)]
#[must_use = "the commit is durable only when the ticket is done"]
pub struct CommitTicket {
    pending: Option<Pending>,
}

#[derive(Clone)]
struct Pending {
    log: Arc<Log>,
    lsn: Lsn,
    /// The moment of the stopwatch at which the sync is wanted.
    by: Duration,
}

impl CommitTicket {
    /// Done already.
    pub(crate) fn done() -> Self {
        Self { pending: None }
    }

    /// Done when the log is durable up to `lsn`. Whoever waits for it lets the moment `by` come first.
    pub(crate) fn at(log: &Arc<Log>, lsn: Lsn, by: Duration) -> Self {
        Self { pending: (log.durable() < lsn).then(|| Pending { log: Arc::clone(log), lsn, by }) }
    }

    /// True when the commit has reached its durability.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::open(&path)?;
    /// let users = db.keyspace("users")?;
    /// let mut batch = db.batch();
    /// batch.put(&users, b"ada", b"1815");
    /// let ticket = batch.commit_ticket()?;
    /// users.put(b"bob", b"1920")?; // returns after a sync, which carries the earlier commit too
    /// assert!(ticket.is_done());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn is_done(&self) -> bool {
        self.pending.as_ref().is_none_or(|pending| pending.log.durable() >= pending.lsn)
    }

    /// Blocks until the commit has reached its durability.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::open(&path)?;
    /// let users = db.keyspace("users")?;
    /// let mut batch = db.batch();
    /// batch.put(&users, b"ada", b"1815");
    /// let ticket = batch.commit_ticket()?;
    /// assert!(users.exists(b"ada")?); // visible before it is durable
    /// ticket.wait()?;
    /// assert!(ticket.is_done());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Unavailable` when the log could not be written or synced: whether the commit survives is unknown.
    pub fn wait(&self) -> Result<()> {
        self.pending.as_ref().map_or(Ok(()), |pending| pending.log.sync_by(pending.lsn, pending.by))
    }

    /// The ticket that is done when both are.
    ///
    /// ```
    /// use pugdb::Change;
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::open(&path)?;
    /// let users = db.keyspace("users")?;
    /// let (_, first) = users.update_ticket(b"ada", |_| Ok((Change::put(b"1815"), ())))?;
    /// let (_, second) = users.update_ticket(b"bob", |_| Ok((Change::put(b"1920"), ())))?;
    /// first.clone().and(second.clone()).wait()?;
    /// assert!(first.is_done() && second.is_done());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn and(self, other: Self) -> Self {
        match (self.pending, other.pending) {
            (Some(one), Some(other)) => {
                let by = one.by.min(other.by);
                let later = if one.lsn >= other.lsn { one } else { other };
                Self { pending: Some(Pending { by, ..later }) }
            }
            (one, other) => Self { pending: one.or(other) },
        }
    }
}

impl Future for CommitTicket {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let Some(Pending { log, lsn, by }) = &self.pending else { return Poll::Ready(Ok(())) };
        match log.poll_durable(*lsn, *by, context.waker()) {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl fmt::Debug for CommitTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommitTicket(done: {})", self.is_done())
    }
}
