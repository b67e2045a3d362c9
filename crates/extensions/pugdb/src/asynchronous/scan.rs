//! A scan as a stream: its batches are read elsewhere, its entries given out at once.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use pugdb_core::{Entry, Key, Result, Value};

use super::pool::{Elsewhere, Pool};
use crate::Scan;

/// The entries of a range, in order. Made by [`AsyncKeyspace::scan`](super::AsyncKeyspace::scan).
///
/// It is a [`Stream`]; [`next`](Self::next) needs no other crate. An error ends it. What it sees does not change after the first
/// entry. Dropped while a batch is read, it lets that be.
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// let users = pugdb::AsyncDatabase::in_memory()?.keyspace("users").await?;
/// users.put(b"ada", b"1815").await?;
/// users.put(b"bob", b"1920").await?;
/// let mut scan = users.scan(..).reverse();
/// assert_eq!(scan.next().await?.unwrap().0, b"bob");
/// # Ok::<(), pugdb::Error>(())
/// # }).unwrap();
/// ```
pub struct AsyncScan {
    pool: Arc<Pool>,
    state: State,
}

enum State {
    /// The scan, and whether it can give an entry without a wait.
    Here(Box<Scan>),
    /// It brings its next batch.
    Away(Elsewhere<Box<Scan>>),
    Over,
}

impl AsyncScan {
    pub(super) fn new(scan: Scan, pool: &Arc<Pool>) -> Self {
        Self { pool: Arc::clone(pool), state: State::Here(Box::new(scan)) }
    }

    fn adjusted(mut self, adjust: impl FnOnce(Scan) -> Scan) -> Self {
        if let State::Here(scan) = self.state {
            self.state = State::Here(Box::new(adjust(*scan)));
        }
        self
    }

    /// From the largest key down. Call it before the first `next`.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let users = pugdb::AsyncDatabase::in_memory()?.keyspace("users").await?;
    /// assert!(users.scan(..).reverse().next().await?.is_none());
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn reverse(self) -> Self {
        self.adjusted(Scan::reverse)
    }

    /// At most `count` entries. Call it before the first `next`.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let users = pugdb::AsyncDatabase::in_memory()?.keyspace("users").await?;
    /// users.put(b"ada", b"1815").await?;
    /// assert!(users.scan(..).limit(0).next().await?.is_none());
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn limit(self, count: usize) -> Self {
        self.adjusted(|scan| scan.limit(count))
    }

    /// Keys only: all values are empty. Call it before the first `next`.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let users = pugdb::AsyncDatabase::in_memory()?.keyspace("users").await?;
    /// users.put(b"ada", b"1815").await?;
    /// assert_eq!(users.scan(..).keys_only().next().await?.unwrap().1, b"");
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn keys_only(self) -> Self {
        self.adjusted(Scan::keys_only)
    }

    /// The next key with its value; `None` at the end.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let users = pugdb::AsyncDatabase::in_memory()?.keyspace("users").await?;
    /// users.put(b"ada", b"1815").await?;
    /// let mut scan = users.scan(..);
    /// while let Some((key, value)) = scan.next().await? {
    ///     assert_eq!((key.len(), value.len()), (3, 4));
    /// }
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::get`](crate::Keyspace::get).
    pub async fn next(&mut self) -> Result<Option<(Key, Value)>> {
        Ok(self.next_entry().await?.map(|(key, entry)| (key, entry.value)))
    }

    /// The next key with its whole entry; `None` at the end.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let users = pugdb::AsyncDatabase::in_memory()?.keyspace("users").await?;
    /// users.put(b"ada", b"1815").await?;
    /// assert_eq!(users.scan(..).next_entry().await?.unwrap().1.meta, 0);
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::get`](crate::Keyspace::get).
    pub async fn next_entry(&mut self) -> Result<Option<(Key, Entry)>> {
        poll_fn(|context| self.poll_entry(context)).await
    }

    fn poll_entry(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<(Key, Entry)>>> {
        loop {
            match std::mem::replace(&mut self.state, State::Over) {
                State::Over => return Poll::Ready(Ok(None)),
                State::Here(mut scan) if scan.is_at_hand() => {
                    let next = scan.next_entry();
                    if matches!(next, Ok(Some(_))) {
                        self.state = State::Here(scan);
                    }
                    return Poll::Ready(next);
                }
                State::Here(mut scan) => {
                    self.state = State::Away(self.pool.run(move || scan.bring().map(|()| scan)));
                }
                State::Away(mut away) => match Pin::new(&mut away).poll(context) {
                    Poll::Pending => {
                        self.state = State::Away(away);
                        return Poll::Pending;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Ready(Ok(scan)) => self.state = State::Here(scan),
                },
            }
        }
    }
}

impl Stream for AsyncScan {
    type Item = Result<(Key, Value)>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(self.poll_entry(context));
        Poll::Ready(next.transpose().map(|next| next.map(|(key, entry)| (key, entry.value))))
    }
}

impl fmt::Debug for AsyncScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.state {
            State::Here(_) => "AsyncScan",
            State::Away(_) => "AsyncScan(reading)",
            State::Over => "AsyncScan(over)",
        })
    }
}
