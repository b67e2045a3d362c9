//! A root key that the caller has: from its own key service, or from an environment variable, as a container gets it.

use pugdb_core::env::Env;
use pugdb_core::{DatabaseId, Error, Result};
use zeroize::Zeroizing;

use super::{RootProvider, unhex};
use crate::secret::Secret;

/// A root key that is kept elsewhere and given to the database each time that it is opened.
///
/// ```
/// use pugdb_core::env::os::OsRandom;
/// use pugdb_security::{GivenKey, RootProvider as _, Secret};
///
/// let provider = GivenKey::new(Secret::random(&OsRandom));
/// assert_eq!(provider.describe(), "a key that the program gives");
/// assert!(!provider.destroys());
/// ```
#[derive(Clone, Debug)]
pub struct GivenKey {
    from: String,
    root: Secret,
}

const LABEL: &[u8] = b"given";

impl GivenKey {
    /// The key itself.
    pub fn new(root: Secret) -> Self {
        Self { from: "a key that the program gives".to_owned(), root }
    }

    /// The key in an environment variable: 64 hexadecimal digits. It is read once, now.
    ///
    /// ```
    /// use pugdb_security::GivenKey;
    ///
    /// let error = GivenKey::from_environment("A_VARIABLE_THAT_IS_NOT_SET").unwrap_err();
    /// assert_eq!(error.kind(), pugdb_core::ErrorKind::NotFound);
    /// ```
    ///
    /// # Errors
    /// `NotFound` when the variable is not set, `Invalid` when it does not hold 64 hexadecimal digits.
    pub fn from_environment(variable: &str) -> Result<Self> {
        let digits = std::env::var(variable).map(Zeroizing::new).map_err(|_| {
            Error::not_found(format!(
                "the environment variable {variable} is not set; it has to hold the root key"
            ))
        })?;
        let mut read = None;
        let root = Secret::fill(|bytes| read = unhex(digits.trim(), bytes));
        read.map(|()| Self { from: format!("the environment variable {variable}"), root }).ok_or_else(|| {
            Error::invalid(format!(
                "{variable} has to hold 64 hexadecimal digits, as `openssl rand -hex 32` makes them"
            ))
        })
    }
}

impl RootProvider for GivenKey {
    fn describe(&self) -> String {
        self.from.clone()
    }

    fn protects(&self) -> &'static str {
        "a copy of the data: a backup, a bucket, a lost disk. It does not protect the data from who can read the process's memory or environment. \
         A rotation does not destroy the root key, so what an older copy of the keyring holds is gone only when the key is."
    }

    fn destroys(&self) -> bool {
        false
    }

    fn wrap(&self, env: &Env, database: DatabaseId, epoch: &Secret) -> Result<Vec<u8>> {
        Ok(super::wrap(env, &self.root, database, LABEL, epoch))
    }

    fn unwrap(&self, _: &Env, database: DatabaseId, wrapped: &[u8]) -> Result<Secret> {
        super::unwrap(&self.root, database, LABEL, wrapped)?.ok_or_else(|| {
            Error::denied(format!("wrong key: {} is not the key that sealed the keyring", self.describe()))
        })
    }

    fn settle(&self, _: &Env, _: DatabaseId, _: &[u8]) -> Result<()> {
        Ok(())
    }
}
