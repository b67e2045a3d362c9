//! A root key in the keyring that the operating system unlocks when its user logs in.

use pugdb_core::env::Env;
use pugdb_core::{DatabaseId, Error, Result};
use zeroize::Zeroizing;

use super::kept::{self, KeyName, KeyStore};
use super::{Kind, RootProvider, hex, unhex};
use crate::secret::Secret;

#[cfg(target_os = "linux")]
mod dbus;
#[cfg(target_os = "macos")]
mod keychain;
#[cfg(target_os = "linux")]
mod secret_service;

#[cfg(target_os = "macos")]
use keychain::Keychain as Keyring;
#[cfg(target_os = "linux")]
use secret_service::SecretService as Keyring;

/// Room enough for a name.
const SERVICE_BYTES_MAX: usize = 128;

/// Root keys in the login keyring: on Linux whatever answers to `org.freedesktop.secrets` on the session's D-Bus (GNOME Keyring, `KWallet`,
/// `KeePassXC`), on macOS the login keychain. Each is an entry of its own, with the database's id in its name. A rotation makes another one and
/// deletes the one before.
///
/// ```
/// use pugdb_security::{OsKeyring, RootProvider as _};
///
/// let keyring = OsKeyring::new("orders")?;
/// assert_eq!(keyring.describe(), "the login keyring, for orders");
/// assert!(keyring.destroys());
/// assert!(OsKeyring::new("").is_err());
/// # Ok::<(), pugdb_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct OsKeyring {
    service: String,
}

impl OsKeyring {
    /// The keyring of whoever runs this. `service` is what its entries are called after.
    ///
    /// # Errors
    /// `Invalid` when that is empty, longer than 128 bytes, or has control characters.
    pub fn new(service: impl Into<String>) -> Result<Self> {
        let service = service.into();
        if service.is_empty() || service.len() > SERVICE_BYTES_MAX || service.contains(char::is_control) {
            return Err(Error::invalid(
                "what entries of the keyring are called after has 1 to 128 bytes, and no control characters",
            ));
        }
        Ok(Self { service })
    }

    fn open(&self) -> Result<Secrets<Keyring>> {
        Ok(Secrets(Keyring::open(&self.service)?))
    }
}

impl RootProvider for OsKeyring {
    fn describe(&self) -> String {
        format!("the login keyring, for {}", self.service)
    }

    fn protects(&self) -> &'static str {
        "a copy of the data without the keyring (a backup, a bucket, a lost disk), and a copy with it as far as the login password that seals the \
         keyring cannot be guessed. It does not protect the data from programs of the same user while the keyring is unlocked, from root, or from who \
         reads the process's memory. A rotation deletes the old entry; copies of the keyring, its file's old blocks on the disk, and the \
         wastebasket of a password manager may still have it, sealed with that password."
    }

    fn safekeeping(&self) -> &'static str {
        "keep copies of the login keyring, and of KEYRING, where no copy of the data is: without both nobody can read the data"
    }

    fn destroys(&self) -> bool {
        true
    }

    fn wrap(&self, env: &Env, database: DatabaseId, epoch: &Secret) -> Result<Vec<u8>> {
        kept::wrap(&mut self.open()?, env, Kind::OsKeyring, database, epoch)
    }

    fn unwrap(&self, _: &Env, database: DatabaseId, wrapped: &[u8]) -> Result<Secret> {
        Kind::OsKeyring.of(wrapped)?;
        kept::unwrap(&mut self.open()?, &self.describe(), Kind::OsKeyring, database, wrapped)
    }

    fn settle(&self, _: &Env, database: DatabaseId, wrapped: &[u8]) -> Result<()> {
        kept::settle(&mut self.open()?, &self.describe(), Kind::OsKeyring, database, wrapped)
    }
}

/// A keyring, while it is open: secrets under names.
trait Entries {
    fn names(&mut self, database: DatabaseId) -> Result<Vec<KeyName>>;

    fn read(&mut self, database: DatabaseId, name: KeyName) -> Result<Zeroizing<Vec<u8>>>;

    fn write(&mut self, database: DatabaseId, name: KeyName, secret: &[u8]) -> Result<()>;

    fn remove(&mut self, database: DatabaseId, name: KeyName) -> Result<()>;
}

/// Root keys in it: 64 hexadecimal digits each, which every program for keyrings can show and copy.
struct Secrets<E>(E);

impl<E: Entries> Secrets<E> {
    fn root(&mut self, database: DatabaseId, name: KeyName) -> Result<Secret> {
        let digits = self.0.read(database, name)?;
        let mut read = None;
        let root = Secret::fill(|bytes| {
            read = std::str::from_utf8(&digits).ok().and_then(|digits| unhex(digits.trim_end(), bytes));
        });
        read.map(|()| root).ok_or_else(|| {
            Error::corrupt(format!(
                "the entry {} of the keyring does not hold 64 hexadecimal digits any more; put back a copy of it",
                name.digits()
            ))
        })
    }
}

impl<E: Entries> KeyStore for Secrets<E> {
    fn list(&mut self, database: DatabaseId) -> Result<Vec<KeyName>> {
        self.0.names(database)
    }

    fn make(&mut self, env: &Env, database: DatabaseId, name: KeyName) -> Result<()> {
        let digits = Zeroizing::new(hex(Secret::random(&*env.random).expose()));
        self.0.write(database, name, digits.as_bytes())
    }

    fn destroy(&mut self, database: DatabaseId, name: KeyName) -> Result<()> {
        self.0.remove(database, name)?;
        // Erasure rests on it.
        if !self.0.names(database)?.contains(&name) {
            return Ok(());
        }
        Err(Error::unavailable(format!(
            "the keyring says that entry {} is deleted, and still has it",
            name.digits()
        )))
    }

    fn seal(&mut self, env: &Env, database: DatabaseId, name: KeyName, epoch: &Secret) -> Result<Vec<u8>> {
        // As the keyring has it, not as it was given: what it has lost in between would be lost for good.
        let root = self.root(database, name)?;
        Ok(super::wrap(env, &root, database, &name.0, epoch))
    }

    fn unseal(&mut self, database: DatabaseId, name: KeyName, sealed: &[u8]) -> Result<Secret> {
        let root = self.root(database, name)?;
        super::unwrap(&root, database, &name.0, sealed)?.ok_or_else(|| {
            Error::denied(format!(
                "wrong key: entry {} of the keyring is not the key that sealed this database's",
                name.digits()
            ))
        })
    }
}

#[cfg(test)]
mod tests;
