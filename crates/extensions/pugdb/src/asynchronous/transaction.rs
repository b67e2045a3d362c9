//! A transaction for asynchronous callers.

use std::fmt;
use std::sync::Arc;

use pugdb_core::engine::KeyRange;
use pugdb_core::seam::AtHand;
use pugdb_core::{EntryOptions, Key, Result, Value};

use super::pool::Pool;
use super::{AsyncKeyspace, given_up};
use crate::{PreparedTransaction, Savepoint, Transaction};

/// A [`Transaction`] whose reads and commit are futures; its changes are kept in memory and wait for nothing. Made by
/// [`AsyncDatabase::begin`](super::AsyncDatabase::begin).
///
/// A future of it that is dropped while it is at work elsewhere gives the transaction up: every later call is `Invalid`, and nothing is
/// changed, unless it was the commit, which is done wholly or not at all.
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// let db = pugdb::AsyncDatabase::in_memory()?;
/// let accounts = db.keyspace("accounts").await?;
/// accounts.put(b"ada", b"10").await?;
/// let mut transaction = db.begin()?;
/// let money = transaction.get(&accounts, b"ada").await?.unwrap();
/// transaction.put(&accounts, b"bob", money)?;
/// transaction.delete(&accounts, b"ada")?;
/// transaction.commit().await?;
/// assert_eq!(accounts.get(b"bob").await?.unwrap(), b"10");
/// # Ok::<(), pugdb::Error>(())
/// # }).unwrap();
/// ```
#[must_use = "a transaction changes nothing until it is committed"]
pub struct AsyncTransaction {
    /// Not here while it is at work elsewhere.
    transaction: Option<Transaction>,
    pool: Arc<Pool>,
}

impl AsyncTransaction {
    pub(super) fn new(transaction: Transaction, pool: &Arc<Pool>) -> Self {
        Self { transaction: Some(transaction), pool: Arc::clone(pool) }
    }

    fn here(&mut self) -> Result<&mut Transaction> {
        self.transaction.as_mut().ok_or_else(given_up)
    }

    /// Does something with the transaction elsewhere.
    async fn elsewhere<R: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Transaction) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let mut transaction = self.transaction.take().ok_or_else(given_up)?;
        let (transaction, result) = self
            .pool
            .run(move || {
                let result = work(&mut transaction);
                Ok((transaction, result))
            })
            .await?;
        self.transaction = Some(transaction);
        result
    }

    /// The value of a key, as the transaction sees it.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let db = pugdb::AsyncDatabase::in_memory()?;
    /// let users = db.keyspace("users").await?;
    /// assert_eq!(db.begin()?.get(&users, b"ada").await?, None);
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub async fn get(&mut self, keyspace: &AsyncKeyspace, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        let (keyspace, key) = (keyspace.blocking(), key.as_ref());
        if let AtHand::Yes(value) = self.here()?.try_get(keyspace, key)? {
            return Ok(value);
        }
        let (keyspace, key) = (keyspace.clone(), key.to_vec());
        self.elsewhere(move |transaction| transaction.get(&keyspace, key)).await
    }

    /// Locks a row against other transactions that do the same, and reads it: as [`Transaction::get_for_update`].
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let db = pugdb::AsyncDatabase::in_memory()?;
    /// let users = db.keyspace("users").await?;
    /// let mut transaction = db.begin()?;
    /// assert_eq!(transaction.get_for_update(&users, b"ada").await?, None);
    /// transaction.put(&users, b"ada", b"1815")?;
    /// transaction.commit().await?;
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Transaction::get_for_update`].
    pub async fn get_for_update(
        &mut self,
        keyspace: &AsyncKeyspace,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<Value>> {
        let (keyspace, key) = (keyspace.blocking().clone(), key.as_ref().to_vec());
        self.elsewhere(move |transaction| transaction.get_for_update(&keyspace, key)).await
    }

    /// The entries in a range, `limit` at most, all at once: what it has shown counts as read.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let db = pugdb::AsyncDatabase::in_memory()?;
    /// let users = db.keyspace("users").await?;
    /// users.put(b"ada", b"1815").await?;
    /// let mut transaction = db.begin()?;
    /// transaction.put(&users, b"bob", b"1920")?;
    /// assert_eq!(transaction.scan(&users, .., 100).await?.len(), 2);
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub async fn scan(
        &mut self,
        keyspace: &AsyncKeyspace,
        range: impl Into<KeyRange>,
        limit: usize,
    ) -> Result<Vec<(Key, Value)>> {
        let (keyspace, range) = (keyspace.blocking().clone(), range.into());
        self.elsewhere(move |transaction| transaction.scan(&keyspace, range).limit(limit).collect()).await
    }

    /// Sets a key.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let db = pugdb::AsyncDatabase::in_memory()?;
    /// let users = db.keyspace("users").await?;
    /// let mut transaction = db.begin()?;
    /// transaction.put(&users, b"ada", b"1815")?;
    /// transaction.commit().await?;
    /// assert!(users.exists(b"ada").await?);
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Transaction::put`].
    pub fn put(
        &mut self,
        keyspace: &AsyncKeyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<()> {
        self.here()?.put(keyspace.blocking(), key, value)
    }

    /// Sets a key, with expiry and meta byte.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let db = pugdb::AsyncDatabase::in_memory()?;
    /// let users = db.keyspace("users").await?;
    /// let mut transaction = db.begin()?;
    /// transaction.put_with(&users, b"ada", b"1815", pugdb::EntryOptions { meta: 7, ..Default::default() })?;
    /// transaction.commit().await?;
    /// assert_eq!(users.get_entry(b"ada").await?.unwrap().meta, 7);
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Transaction::put`].
    pub fn put_with(
        &mut self,
        keyspace: &AsyncKeyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: EntryOptions,
    ) -> Result<()> {
        self.here()?.put_with(keyspace.blocking(), key, value, options)
    }

    /// Removes a key.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let db = pugdb::AsyncDatabase::in_memory()?;
    /// let users = db.keyspace("users").await?;
    /// users.put(b"ada", b"1815").await?;
    /// let mut transaction = db.begin()?;
    /// transaction.delete(&users, b"ada")?;
    /// transaction.commit().await?;
    /// assert!(!users.exists(b"ada").await?);
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Transaction::put`].
    pub fn delete(&mut self, keyspace: &AsyncKeyspace, key: impl AsRef<[u8]>) -> Result<()> {
        self.here()?.delete(keyspace.blocking(), key)
    }

    /// Removes all keys of a range.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let db = pugdb::AsyncDatabase::in_memory()?;
    /// let users = db.keyspace("users").await?;
    /// users.put(b"ada", b"1815").await?;
    /// let mut transaction = db.begin()?;
    /// transaction.delete_range(&users, ..)?;
    /// transaction.commit().await?;
    /// assert_eq!(users.count().await?, 0);
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Transaction::delete_range`].
    pub fn delete_range(&mut self, keyspace: &AsyncKeyspace, range: impl Into<KeyRange>) -> Result<()> {
        self.here()?.delete_range(keyspace.blocking(), range)
    }

    /// A place to go back to.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let db = pugdb::AsyncDatabase::in_memory()?;
    /// let users = db.keyspace("users").await?;
    /// let mut transaction = db.begin()?;
    /// let savepoint = transaction.savepoint()?;
    /// transaction.put(&users, b"ada", b"1815")?;
    /// transaction.rollback_to(&savepoint)?;
    /// assert_eq!(transaction.get(&users, b"ada").await?, None);
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `Invalid` when the transaction was given up.
    pub fn savepoint(&mut self) -> Result<Savepoint> {
        self.here().map(Transaction::savepoint)
    }

    /// Takes back all changes since a savepoint.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let mut transaction = pugdb::AsyncDatabase::in_memory()?.begin()?;
    /// let savepoint = transaction.savepoint()?;
    /// assert!(transaction.rollback_to(&savepoint).is_ok());
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Transaction::rollback_to`].
    pub fn rollback_to(&mut self, savepoint: &Savepoint) -> Result<()> {
        self.here()?.rollback_to(savepoint)
    }

    /// Commits. Done when the commit has reached its durability.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let transaction = pugdb::AsyncDatabase::in_memory()?.begin()?;
    /// assert!(transaction.commit().await.is_ok());
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Transaction::commit`].
    pub async fn commit(mut self) -> Result<()> {
        let transaction = self.transaction.take().ok_or_else(given_up)?;
        let ticket = self.pool.run(move || transaction.commit_ticket()).await?;
        ticket.await
    }

    /// The first of two phases: as [`Transaction::prepare`]. The second one belongs on a thread that may wait.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let db = pugdb::AsyncDatabase::in_memory()?;
    /// let users = db.keyspace("users").await?;
    /// let mut transaction = db.begin()?;
    /// transaction.put(&users, b"ada", b"1815")?;
    /// let prepared = transaction.prepare("order 17").await?;
    /// assert_eq!(prepared.name(), "order 17");
    /// prepared.rollback()?;
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Transaction::prepare`].
    pub async fn prepare(mut self, name: &str) -> Result<PreparedTransaction> {
        let (transaction, name) = (self.transaction.take().ok_or_else(given_up)?, name.to_owned());
        self.pool.run(move || transaction.prepare(&name)).await
    }
}

impl fmt::Debug for AsyncTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.transaction {
            Some(transaction) => write!(f, "Async{transaction:?}"),
            None => f.write_str("AsyncTransaction(elsewhere)"),
        }
    }
}
