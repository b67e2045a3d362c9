//! The keys of an encrypted database: where the root key is kept, what is known of the others, how they are changed.
//!
//! A database is encrypted from its beginning, with [`Builder::root_key`](crate::Builder::root_key). [`Database::keys`] is what can be
//! asked of its keys, and done with them, while it is open.

use std::sync::Arc;

pub use pugdb_security::{
    Algorithm, GivenKey, KEYRING, KeyAge, KeyFile, KeyStatus, KeyspaceKeys, RootProvider, Rotation, Secret,
    Vault, VaultCipher,
};

use crate::Database;

impl Database {
    /// The keys, when the database is encrypted.
    ///
    /// ```
    /// use pugdb::Database;
    /// use pugdb::keys::KeyFile;
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let (path, key) = (dir.path().join("data"), dir.path().join("orders.key"));
    /// let db = Database::builder().root_key(KeyFile::new(&key)).open(&path)?;
    /// let keys = db.keys().unwrap();
    /// let rotation = keys.rotate()?;
    /// // The data is not written anew, however much there is.
    /// assert!(rotation.bytes < 4096 && rotation.destroyed);
    /// assert_eq!(keys.status().keyring_generation, rotation.keyring_generation);
    /// assert!(Database::in_memory()?.keys().is_none());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn keys(&self) -> Option<Arc<Vault>> {
        self.inner.durable.as_ref()?.vault.clone()
    }
}
