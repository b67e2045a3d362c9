//! The keys of an encrypted database: where the root key is kept, what is known of the others, how they are changed.
//!
//! A database is encrypted from its beginning, with [`Builder::root_key`](crate::Builder::root_key). [`Database::keys`] is what can be
//! asked of its keys, and done with them, while it is open.

use std::sync::Arc;

use pugdb_core::{Error, Result, SealId};
#[cfg(feature = "os-keyring")]
pub use pugdb_security::OsKeyring;
#[cfg(feature = "pkcs11")]
pub use pugdb_security::Token;
pub use pugdb_security::{
    Algorithm, Certificate, ErasedObject, Fingerprint, GivenKey, Held, KEYRING, KeyAge, KeyFile, KeyMemory,
    KeyStatus, KeyspaceKeys, Passphrase, RootProvider, Rotation, SUBJECT_BYTES_MAX, Secret, VALUE_SEAL_BYTES,
    Vault, VaultCipher,
};

use crate::{Database, ErasureReport, sealed, write};

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

    /// Whom values are about: what [`EntryOptions::seal`](crate::EntryOptions::seal) takes. A value that is written so is sealed with a key
    /// of this subject before anything else sees it, and [`erase_subjects`](Self::erase_subjects) makes an end of all of them.
    ///
    /// A name costs nothing and is written nowhere. A subject that was erased and comes back is another one: ask again for each write, or
    /// keep what this returns for as long as you know the subject.
    ///
    /// ```
    /// use pugdb::keys::KeyFile;
    /// use pugdb::{Database, EntryOptions, ErrorKind};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let (path, key) = (dir.path().join("data"), dir.path().join("orders.key"));
    /// let db = Database::builder().root_key(KeyFile::new(&key)).open(&path)?;
    /// let orders = db.keyspace("orders")?;
    /// let of_ada = EntryOptions { seal: Some(db.subject("ada")?), ..Default::default() };
    /// orders.put_with(b"1", b"an engine", of_ada)?;
    /// orders.put(b"2", b"nobody's")?;
    /// assert_eq!(orders.get(b"1")?.unwrap(), b"an engine");
    ///
    /// db.erase_subjects(&["ada"])?;
    /// assert_eq!(orders.get(b"1").unwrap_err().kind(), ErrorKind::Erased);
    /// assert_eq!(orders.scan(..).count(), 1);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` when the database is not encrypted, or the name is empty or longer than 4,096 bytes; `Closed`.
    pub fn subject(&self, name: impl AsRef<[u8]>) -> Result<SealId> {
        self.inner.check_open()?;
        self.need_keys()?.subject(name.as_ref())
    }

    /// Destroys the keys of subjects. What was written for them cannot be read any more, by nobody: not here, not by older snapshots, in no
    /// checkpoint and no backup. Reading it is `Erased`, scans pass over it, and merges forget it. It costs what a rotation costs, for any number
    /// of subjects, whatever they have written.
    ///
    /// Keys of entries stay, and so does what was written without a subject, operands of merges too. Whoever keeps a copy of an older
    /// keyring **and** of the root key that opens it can still read copies of the data: [`Certificate::proves`] says what is shown by it.
    ///
    /// ```
    /// use pugdb::Database;
    /// use pugdb::keys::{Certificate, ErasedObject, KeyFile};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let (path, key) = (dir.path().join("data"), dir.path().join("orders.key"));
    /// let db = Database::builder().root_key(KeyFile::new(&key)).open(&path)?;
    /// let certificate = db.erase_subjects(&["ada", "bob"])?;
    /// assert!(certificate.erased.len() == 2 && certificate.is_root_key_destroyed);
    /// // Its text is what is kept. It names nobody; whoever has the database can say who is meant.
    /// let read = Certificate::parse(&certificate.to_string())?;
    /// let keys = db.keys().unwrap();
    /// assert!(read.signer == keys.signer() && keys.is_about(&read.erased[0], b"ada"));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Denied` when one of them is under [legal hold](Vault::hold_subject), and then none is erased; `Invalid` when the database is not encrypted, a
    /// name is none, or the keyring has no room for more; as [`Vault::rotate`], and then the subjects may be erased or not.
    pub fn erase_subjects(&self, names: &[impl AsRef<[u8]>]) -> Result<Certificate> {
        self.inner.check_open()?;
        let names: Vec<&[u8]> = names.iter().map(AsRef::as_ref).collect();
        self.need_keys()?.erase_subjects(&names)
    }

    /// Ends a keyspace as [`drop_keyspace`](Self::drop_keyspace) does, and destroys its keys: nothing of it can be read any more, in no checkpoint
    /// and no backup. `None` when there is no keyspace of this name.
    ///
    /// Handles, snapshots and scans that are open get `Erased`. Processes that [read beside](crate::Builder::open_read_only) have the keys in
    /// memory until they close.
    ///
    /// ```
    /// use pugdb::keys::KeyFile;
    /// use pugdb::{Database, ErrorKind};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let (path, key) = (dir.path().join("data"), dir.path().join("orders.key"));
    /// let db = Database::builder().root_key(KeyFile::new(&key)).open(&path)?;
    /// let year = db.keyspace("orders-2019")?;
    /// year.put(b"1", b"an engine")?;
    /// let certificate = db.erase_keyspace("orders-2019")?.unwrap();
    /// assert_eq!(certificate.keyring_generation, certificate.keyring_before + 1);
    /// assert_eq!(year.get(b"1").unwrap_err().kind(), ErrorKind::Erased);
    /// assert!(db.erase_keyspace("orders-2019")?.is_none());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Denied` when it is under [legal hold](Vault::hold_keyspace); `Invalid` when the database is not encrypted; `Conflict` when a prepared transaction
    /// has changed it; as [`drop_keyspace`](Self::drop_keyspace) and [`Vault::rotate`] else: what was begun then is ended by the next open.
    pub fn erase_keyspace(&self, name: &str) -> Result<Option<Certificate>> {
        write::erase_keyspace(&self.inner, name)
    }

    /// Tries to read what was erased: opens each value that is sealed for a subject, in all keyspaces, and counts. It reads all there is.
    ///
    /// It is about this copy. Open a checkpoint with the keyring of today to see that it is erased there, and an older keyring with the
    /// root key of today to see that it does not open.
    ///
    /// ```
    /// use pugdb::keys::KeyFile;
    /// use pugdb::{Database, EntryOptions};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let (path, key) = (dir.path().join("data"), dir.path().join("orders.key"));
    /// let db = Database::builder().root_key(KeyFile::new(&key)).open(&path)?;
    /// let orders = db.keyspace("orders")?;
    /// for (number, name) in ["ada", "ada", "bob"].iter().enumerate() {
    ///     let options = EntryOptions { seal: Some(db.subject(name)?), ..Default::default() };
    ///     orders.put_with([number as u8], b"an engine", options)?;
    /// }
    /// db.erase_subjects(&["ada"])?;
    /// let report = db.verify_erasure()?;
    /// assert_eq!((report.entries, report.sealed, report.erased, report.opened), (3, 1, 2, 0));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Closed`, `Corrupt` when stored bytes are damaged, `Unavailable` when the disk fails.
    pub fn verify_erasure(&self) -> Result<ErasureReport> {
        sealed::verify(&self.inner)
    }

    fn need_keys(&self) -> Result<Arc<Vault>> {
        self.keys().ok_or_else(|| {
            Error::invalid(
                "the database is not encrypted: it has no keys of subjects; make one with a root key",
            )
        })
    }
}
