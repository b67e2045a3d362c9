//! A keyspace for asynchronous callers.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use pugdb_core::engine::KeyRange;
use pugdb_core::seam::AtHand;
use pugdb_core::{Entry, EntryOptions, Result, Value};

use super::pool::Pool;
use super::{AsyncScan, commit};
use crate::{Change, Durability, Keyspace, Snapshot, WriteBatch};

/// A [`Keyspace`] whose calls are futures. Made by [`AsyncDatabase::keyspace`](super::AsyncDatabase::keyspace); cheap to clone.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("data");
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// let db = pugdb::AsyncDatabase::open(&path).await?;
/// let users = db.keyspace("users").await?;
/// users.put(b"ada", b"1815").await?;
/// assert_eq!(users.get(b"ada").await?.as_deref(), Some(&b"1815"[..]));
/// users.delete(b"ada").await?;
/// assert!(!users.exists(b"ada").await?);
/// # Ok::<(), pugdb::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct AsyncKeyspace {
    keyspace: Keyspace,
    pool: Arc<Pool>,
    /// What reads see, if that is not what is there now.
    snapshot: Option<Snapshot>,
}

impl AsyncKeyspace {
    pub(super) fn new(keyspace: Keyspace, pool: &Arc<Pool>) -> Self {
        Self { keyspace, pool: Arc::clone(pool), snapshot: None }
    }

    /// The same keyspace for threads that may wait.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let users = pugdb::AsyncDatabase::in_memory()?.keyspace("users").await?;
    /// users.blocking().put(b"ada", b"1815")?;
    /// assert!(users.exists(b"ada").await?);
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn blocking(&self) -> &Keyspace {
        &self.keyspace
    }

    /// The same keyspace, whose writes through this handle have another durability than the database's.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let db = pugdb::AsyncDatabase::open(&path).await?;
    /// let clicks = db.keyspace("clicks").await?.durability(pugdb::Durability::Os);
    /// clicks.put(b"ada", b"1").await?;
    /// assert!(clicks.exists(b"ada").await?);
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn durability(&self, durability: Durability) -> Self {
        Self { keyspace: self.keyspace.durability(durability), ..self.clone() }
    }

    /// The same keyspace, whose reads through this handle see what a snapshot sees.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let db = pugdb::AsyncDatabase::in_memory()?;
    /// let users = db.keyspace("users").await?;
    /// users.put(b"ada", b"1815").await?;
    /// let snapshot = db.snapshot()?;
    /// users.delete(b"ada").await?;
    /// assert!(users.at(&snapshot).exists(b"ada").await? && !users.exists(b"ada").await?);
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn at(&self, snapshot: &Snapshot) -> Self {
        Self { snapshot: Some(snapshot.clone()), ..self.clone() }
    }

    /// The value of a key.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let users = pugdb::AsyncDatabase::in_memory()?.keyspace("users").await?;
    /// assert_eq!(users.get(b"ada").await?, None);
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        let key = key.as_ref();
        let looked = match &self.snapshot {
            None => self.keyspace.try_get(key)?,
            Some(snapshot) => snapshot.try_get(&self.keyspace, key)?,
        };
        match looked {
            AtHand::Yes(value) => Ok(value),
            AtHand::WouldBlock => Ok(self.get_elsewhere(key).await?.map(|entry| entry.value)),
        }
    }

    /// The entry of a key, with expiry and meta byte.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let users = pugdb::AsyncDatabase::in_memory()?.keyspace("users").await?;
    /// users.put(b"ada", b"1815").await?;
    /// assert_eq!(users.get_entry(b"ada").await?.unwrap().meta, 0);
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub async fn get_entry(&self, key: impl AsRef<[u8]>) -> Result<Option<Entry>> {
        let key = key.as_ref();
        let looked = match &self.snapshot {
            None => self.keyspace.try_get_entry(key)?,
            Some(snapshot) => snapshot.try_get_entry(&self.keyspace, key)?,
        };
        match looked {
            AtHand::Yes(entry) => Ok(entry),
            AtHand::WouldBlock => self.get_elsewhere(key).await,
        }
    }

    fn get_elsewhere(&self, key: &[u8]) -> impl Future<Output = Result<Option<Entry>>> + Send + use<> {
        let (keyspace, snapshot, key) = (self.keyspace.clone(), self.snapshot.clone(), key.to_vec());
        self.pool.run(move || match snapshot {
            None => keyspace.get_entry(&key),
            Some(snapshot) => snapshot.get_entry(&keyspace, &key),
        })
    }

    /// True when the key has a value.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let users = pugdb::AsyncDatabase::in_memory()?.keyspace("users").await?;
    /// assert!(!users.exists(b"ada").await?);
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub async fn exists(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get_entry(key).await?.is_some())
    }

    /// The values of several keys, read together elsewhere.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let users = pugdb::AsyncDatabase::in_memory()?.keyspace("users").await?;
    /// users.put(b"ada", b"1815").await?;
    /// let values = users.multi_get([b"ada", b"bob"]).await?;
    /// assert!(values[0].is_some() && values[1].is_none());
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub async fn multi_get<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Value>>> {
        let keys: Vec<Vec<u8>> = keys.into_iter().map(|key| key.as_ref().to_vec()).collect();
        let (keyspace, snapshot) = (self.keyspace.clone(), self.snapshot.clone());
        let values = self.pool.run(move || match snapshot {
            None => keyspace.multi_get(keys),
            Some(snapshot) => snapshot.multi_get(&keyspace, keys),
        });
        values.await
    }

    /// The entries in a range of keys, in order, as a stream.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let users = pugdb::AsyncDatabase::in_memory()?.keyspace("users").await?;
    /// users.put(b"ada", b"1815").await?;
    /// users.put(b"bob", b"1920").await?;
    /// let mut scan = users.scan(b"b".as_slice()..);
    /// let (key, value) = scan.next().await?.unwrap();
    /// assert_eq!((&*key, &*value), (&b"bob"[..], &b"1920"[..]));
    /// assert!(scan.next().await?.is_none());
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn scan(&self, range: impl Into<KeyRange>) -> AsyncScan {
        let range = range.into();
        let scan = match &self.snapshot {
            None => self.keyspace.scan(range),
            Some(snapshot) => snapshot.scan(&self.keyspace, range),
        };
        AsyncScan::new(scan, &self.pool)
    }

    /// How many keys there are now.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let users = pugdb::AsyncDatabase::in_memory()?.keyspace("users").await?;
    /// assert_eq!(users.count().await?, 0);
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::count`].
    pub async fn count(&self) -> Result<u64> {
        let keyspace = self.keyspace.clone();
        self.pool.run(move || keyspace.count()).await
    }

    /// Sets a key. Done when the change has reached this handle's durability.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let users = pugdb::AsyncDatabase::in_memory()?.keyspace("users").await?;
    /// users.put(b"ada", b"1815").await?;
    /// assert_eq!(users.get(b"ada").await?.unwrap(), b"1815");
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::put`].
    pub async fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.put_with(key, value, EntryOptions::default()).await
    }

    /// Sets a key, with expiry and meta byte.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let users = pugdb::AsyncDatabase::in_memory()?.keyspace("users").await?;
    /// users.put_with(b"ada", b"1815", pugdb::EntryOptions { meta: 7, ..Default::default() }).await?;
    /// assert_eq!(users.get_entry(b"ada").await?.unwrap().meta, 7);
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::put`].
    pub async fn put_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: EntryOptions,
    ) -> Result<()> {
        self.commit(|batch| batch.put_with(&self.keyspace, key, value, options)).await
    }

    /// Removes a key.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let users = pugdb::AsyncDatabase::in_memory()?.keyspace("users").await?;
    /// users.put(b"ada", b"1815").await?;
    /// users.delete(b"ada").await?;
    /// assert!(!users.exists(b"ada").await?);
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::put`].
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        self.commit(|batch| batch.delete(&self.keyspace, key)).await
    }

    /// Removes all keys of a range, in one step.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let users = pugdb::AsyncDatabase::in_memory()?.keyspace("users").await?;
    /// users.put(b"ada", b"1815").await?;
    /// users.delete_range(..).await?;
    /// assert_eq!(users.count().await?, 0);
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::delete_range`].
    pub async fn delete_range(&self, range: impl Into<KeyRange>) -> Result<()> {
        self.commit(|batch| batch.delete_range(&self.keyspace, range)).await
    }

    /// Writes an operand.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let add = std::sync::Arc::new(pugdb::operators::Add);
    /// let builder = pugdb::Database::builder().merge_operator("visits", add);
    /// let visits = pugdb::AsyncDatabase::open_with(builder, &path).await?.keyspace("visits").await?;
    /// visits.merge(b"/index", b"2").await?;
    /// assert_eq!(visits.get(b"/index").await?.unwrap(), b"2");
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::merge`].
    pub async fn merge(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<()> {
        self.commit(|batch| batch.merge(&self.keyspace, key, operand)).await
    }

    async fn commit(&self, fill: impl FnOnce(&mut WriteBatch)) -> Result<()> {
        let mut batch = WriteBatch::new(&self.keyspace.inner).durability(self.keyspace.durability);
        fill(&mut batch);
        commit(&self.pool, batch).await
    }

    /// Reads, decides and writes one key as one step, elsewhere: as [`Keyspace::update`].
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let counters = pugdb::AsyncDatabase::in_memory()?.keyspace("counters").await?;
    /// let next = |old: Option<&pugdb::Entry>| {
    ///     let number = old.map_or(0, |entry| entry.value[0]) + 1;
    ///     Ok((pugdb::Change::put([number]), number))
    /// };
    /// assert_eq!(counters.update(b"visits", next).await?, 1);
    /// assert_eq!(counters.update(b"visits", next).await?, 2);
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::update`]; `Internal` when the closure panics.
    pub async fn update<R: Send + 'static>(
        &self,
        key: impl AsRef<[u8]>,
        decide: impl FnOnce(Option<&Entry>) -> Result<(Change, R)> + Send + 'static,
    ) -> Result<R> {
        let (keyspace, key) = (self.keyspace.clone(), key.as_ref().to_vec());
        let (result, ticket) = self.pool.run(move || keyspace.update_ticket(key, decide)).await?;
        ticket.await?;
        Ok(result)
    }

    /// Sets or removes the key if its value is what is expected: as [`Keyspace::compare_and_set`].
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let leaders = pugdb::AsyncDatabase::in_memory()?.keyspace("leaders").await?;
    /// assert!(leaders.compare_and_set(b"east", None, Some(b"ada")).await?);
    /// assert!(!leaders.compare_and_set(b"east", None, Some(b"bob")).await?);
    /// # Ok::<(), pugdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::compare_and_set`].
    pub async fn compare_and_set(
        &self,
        key: impl AsRef<[u8]>,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<bool> {
        let (keyspace, key) = (self.keyspace.clone(), key.as_ref().to_vec());
        let (expected, new) = (expected.map(<[u8]>::to_vec), new.map(<[u8]>::to_vec));
        self.pool.run(move || keyspace.compare_and_set(key, expected.as_deref(), new.as_deref())).await
    }
}

impl fmt::Debug for AsyncKeyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Async{:?}", self.keyspace)
    }
}
