//! The database for programs with an asynchronous runtime: the same names, and futures where the others wait.
//!
//! | call | what happens |
//! |---|---|
//! | a read of what is in memory | it is answered at once, in the poll |
//! | a read that needs the disk | it is done by a thread of the database's own (`pool.rs`) |
//! | a write | it is applied at once, and the future waits for its durability; where the write would have to wait, for room or for a key, it is done elsewhere |
//! | closures (`update`, `transact`), scans, flushes, closing | elsewhere |
//!
//! No thread of the runtime waits, and no runtime in particular is needed. Blocking and asynchronous handles of one database mix.

mod keyspace;
mod pool;
mod scan;
mod transaction;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pugdb_core::{Error, Result};

pub use keyspace::AsyncKeyspace;
pub use scan::AsyncScan;
pub use transaction::AsyncTransaction;

use pool::Pool;

use crate::write::{self, Tried};
use crate::{
    Builder, Database, KeyspaceOptions, Snapshot, Stats, Transaction, TransactionOptions, WriteBatch,
};

/// A [`Database`] whose calls are futures. Cheap to clone; all clones are the same database, and so is the [blocking](Self::blocking)
/// one.
///
/// A future that is dropped leaves nothing half-done: what it was to do is done wholly, or not at all.
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// let db = pugdb::AsyncDatabase::in_memory()?;
/// let users = db.keyspace("users").await?;
/// users.put(b"ada", b"1815").await?;
/// assert_eq!(users.get(b"ada").await?.unwrap(), b"1815");
/// assert!(users.blocking().exists(b"ada")?); // the same, where a thread may wait
/// # Ok::<(), pugdb::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct AsyncDatabase {
    db: Database,
    pool: Arc<Pool>,
}

impl From<Database> for AsyncDatabase {
    /// The same database for asynchronous callers.
    fn from(db: Database) -> Self {
        let pool = Pool::new(db.inner.options.env.clone());
        Self { db, pool }
    }
}

impl AsyncDatabase {
    /// Opens the database in `dir` with the defaults, as [`Database::open`] does.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let db = pugdb::AsyncDatabase::open(&path).await?;
    /// db.keyspace("users").await?.put(b"ada", b"1815").await?;
    /// assert_eq!(db.stats()?.keyspaces, 1);
    /// db.close().await?;
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub async fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(Database::builder(), dir).await
    }

    /// Opens the database in `dir` with settings.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let builder = pugdb::Database::builder().memory_bytes(64 << 20);
    /// let db = pugdb::AsyncDatabase::open_with(builder, &path).await?;
    /// assert_eq!(db.blocking().memory_bytes(), 64 << 20);
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub async fn open_with(builder: Builder, dir: impl AsRef<Path>) -> Result<Self> {
        let dir: PathBuf = dir.as_ref().to_owned();
        let pool = Pool::new(builder.env.clone());
        let db = pool.run(move || builder.open(dir)).await?;
        Ok(Self { db, pool })
    }

    /// A database in memory, gone with its last handle.
    ///
    /// ```
    /// let db = pugdb::AsyncDatabase::in_memory()?;
    /// assert!(db.blocking().keyspaces()?.is_empty());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Database::in_memory`].
    pub fn in_memory() -> Result<Self> {
        Database::in_memory().map(Self::from)
    }

    /// The same database for threads that may wait; for what does not wait too, as [`Database::batch`].
    ///
    /// ```
    /// let db = pugdb::AsyncDatabase::in_memory()?;
    /// db.blocking().keyspace("users")?;
    /// assert_eq!(db.blocking().keyspaces()?, ["users"]);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn blocking(&self) -> &Database {
        &self.db
    }

    /// A keyspace, made with the defaults if it does not exist.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let db = pugdb::AsyncDatabase::in_memory()?;
    /// assert_eq!(&*db.keyspace("users").await?.blocking().name(), "users");
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Database::keyspace`].
    pub async fn keyspace(&self, name: &str) -> Result<AsyncKeyspace> {
        if let Some(keyspace) = self.db.existing_keyspace(name)? {
            return Ok(AsyncKeyspace::new(keyspace, &self.pool));
        }
        self.keyspace_with(name, KeyspaceOptions::default()).await
    }

    /// A keyspace, made with these options if it does not exist.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let db = pugdb::AsyncDatabase::in_memory()?;
    /// let hash = pugdb::KeyspaceOptions { engine: Some(pugdb::EngineKind::Hash), ..Default::default() };
    /// let users = db.keyspace_with("users", hash).await?;
    /// assert_eq!(users.blocking().engine(), pugdb::EngineKind::Hash);
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Database::keyspace_with`].
    pub async fn keyspace_with(&self, name: &str, options: KeyspaceOptions) -> Result<AsyncKeyspace> {
        let (db, name) = (self.db.clone(), name.to_owned());
        let keyspace = self.pool.run(move || db.keyspace_with(&name, options)).await?;
        Ok(AsyncKeyspace::new(keyspace, &self.pool))
    }

    /// Removes a keyspace and all it holds. False when there is none of this name.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let db = pugdb::AsyncDatabase::in_memory()?;
    /// db.keyspace("users").await?;
    /// assert!(db.drop_keyspace("users").await? && !db.drop_keyspace("users").await?);
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Database::drop_keyspace`].
    pub async fn drop_keyspace(&self, name: &str) -> Result<bool> {
        let (db, name) = (self.db.clone(), name.to_owned());
        self.pool.run(move || db.drop_keyspace(&name)).await
    }

    /// Commits a batch of [`Database::batch`]. Done when the commit has reached its durability.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let db = pugdb::AsyncDatabase::in_memory()?;
    /// let users = db.keyspace("users").await?;
    /// let mut batch = db.blocking().batch();
    /// batch.put(users.blocking(), b"ada", b"1815");
    /// batch.put(users.blocking(), b"bob", b"1920");
    /// db.commit(batch).await?;
    /// assert_eq!(users.count().await?, 2);
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`WriteBatch::commit`].
    pub async fn commit(&self, batch: WriteBatch) -> Result<()> {
        commit(&self.pool, batch).await
    }

    /// A view of all keyspaces as they are now. Read it with [`AsyncKeyspace::at`].
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let db = pugdb::AsyncDatabase::in_memory()?;
    /// let users = db.keyspace("users").await?;
    /// let before = db.snapshot()?;
    /// users.put(b"ada", b"1815").await?;
    /// assert_eq!(users.at(&before).get(b"ada").await?, None);
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `Closed`.
    pub fn snapshot(&self) -> Result<Snapshot> {
        self.db.snapshot()
    }

    /// Begins a serializable transaction.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let db = pugdb::AsyncDatabase::in_memory()?;
    /// let users = db.keyspace("users").await?;
    /// let mut transaction = db.begin()?;
    /// if transaction.get(&users, b"ada").await?.is_none() {
    ///     transaction.put(&users, b"ada", b"1815")?;
    /// }
    /// transaction.commit().await?;
    /// assert!(users.exists(b"ada").await?);
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `Closed`.
    pub fn begin(&self) -> Result<AsyncTransaction> {
        self.begin_with(TransactionOptions::default())
    }

    /// Begins a transaction with options.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let db = pugdb::AsyncDatabase::in_memory()?;
    /// let options = pugdb::TransactionOptions { isolation: pugdb::Isolation::Snapshot, ..Default::default() };
    /// assert!(db.begin_with(options)?.commit().await.is_ok());
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `Closed`.
    pub fn begin_with(&self, options: TransactionOptions) -> Result<AsyncTransaction> {
        Ok(AsyncTransaction::new(self.db.begin_with(options)?, &self.pool))
    }

    /// Runs `work` in a serializable transaction and commits it, again when it has met others, on a thread of the database's own: as
    /// [`Database::transact`], which it is.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let db = pugdb::AsyncDatabase::in_memory()?;
    /// let users = db.keyspace("users").await?;
    /// let theirs = users.blocking().clone();
    /// db.transact(move |transaction| transaction.put(&theirs, b"ada", b"1815")).await?;
    /// assert!(users.exists(b"ada").await?);
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Database::transact`]; `Internal` when `work` panics.
    pub async fn transact<R: Send + 'static>(
        &self,
        work: impl FnMut(&mut Transaction) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let db = self.db.clone();
        self.pool.run(move || db.transact(work)).await
    }

    /// Writes all memtables to tables.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let db = pugdb::AsyncDatabase::open(&path).await?;
    /// db.keyspace("users").await?.put(b"ada", b"1815").await?;
    /// db.flush().await?;
    /// assert_eq!(db.stats()?.tables, 1);
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Database::flush`].
    pub async fn flush(&self) -> Result<()> {
        let db = self.db.clone();
        self.pool.run(move || db.flush()).await
    }

    /// How it is doing.
    ///
    /// ```
    /// assert_eq!(pugdb::AsyncDatabase::in_memory()?.stats()?.keyspaces, 0);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Closed`.
    pub fn stats(&self) -> Result<Stats> {
        self.db.stats()
    }

    /// Ends the database in good order.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let db = pugdb::AsyncDatabase::in_memory()?;
    /// db.close().await?;
    /// assert_eq!(db.keyspace("users").await.unwrap_err().kind(), pugdb::ErrorKind::Closed);
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Database::close`].
    pub async fn close(&self) -> Result<()> {
        let db = self.db.clone();
        self.pool.run(move || db.close()).await
    }
}

/// Commits here if nothing has to be waited for, else elsewhere, and then waits for the durability.
async fn commit(pool: &Arc<Pool>, batch: WriteBatch) -> Result<()> {
    let ticket = match write::try_commit(batch) {
        Tried::Done(ticket) => ticket?,
        Tried::WouldWait(batch) => pool.run(move || batch.commit_ticket()).await?,
    };
    ticket.await
}

/// What a transaction says whose future was dropped while it was elsewhere.
fn given_up() -> Error {
    Error::invalid("the transaction was given up together with a future that was dropped; begin another one")
}

impl fmt::Debug for AsyncDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Async{:?}, {:?}", self.db, self.pool)
    }
}
