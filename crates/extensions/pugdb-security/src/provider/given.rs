//! A root key that the caller has: from its own key service, or from an environment variable, as a container gets it.

use std::ffi::OsStr;
use std::io::Read as _;
use std::process::{Command, Stdio};

use pugdb_core::env::Env;
use pugdb_core::{DatabaseId, Error, Result};
use zeroize::Zeroizing;

use super::{Kind, RootProvider, unhex};
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
        Self::from_digits(&digits, format!("the environment variable {variable}")).ok_or_else(|| {
            Error::invalid(format!(
                "{variable} has to hold 64 hexadecimal digits, as `openssl rand -hex 32` makes them"
            ))
        })
    }

    /// The key that a command prints: 64 hexadecimal digits. It is run once, now, without a shell: its program, then its arguments. So a
    /// password manager, a key service or a hardware token with a command line can keep the root key.
    ///
    /// ```
    /// use pugdb_security::{GivenKey, RootProvider as _};
    ///
    /// let key = GivenKey::from_command(&["printf", "%064d", "7"])?;
    /// assert_eq!(key.describe(), "what the command printf prints");
    /// assert!(GivenKey::from_command(&["false"]).is_err());
    /// # Ok::<(), pugdb_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` when no command is named, or it prints something else; `Unavailable` when it cannot be run, or fails.
    pub fn from_command(command: &[impl AsRef<OsStr>]) -> Result<Self> {
        let Some((program, arguments)) = command.split_first() else {
            return Err(Error::invalid("a command that prints the root key has at least a program"));
        };
        let name = program.as_ref().display().to_string();
        let failed =
            |what: String| Error::unavailable(format!("the command {name} that prints the root key {what}"));
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::inherit())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| failed(format!("cannot be run: {error}")))?;
        let mut digits = Zeroizing::new(Vec::with_capacity(PRINTED_BYTES_MAX));
        let read =
            child.stdout.take().map(|stdout| stdout.take(PRINTED_BYTES_MAX as u64).read_to_end(&mut digits));
        let status = child.wait().map_err(|error| failed(format!("cannot be waited for: {error}")))?;
        if !status.success() || read.is_none_or(|read| read.is_err()) {
            return Err(failed(format!("has failed ({status})")));
        }
        let digits = std::str::from_utf8(&digits).unwrap_or_default();
        Self::from_digits(digits, format!("what the command {name} prints"))
            .ok_or_else(|| Error::invalid(format!("the command {name} has to print 64 hexadecimal digits")))
    }

    fn from_digits(digits: &str, from: String) -> Option<Self> {
        let mut read = None;
        let root = Secret::fill(|bytes| read = unhex(digits.trim(), bytes));
        read.map(|()| Self { from, root })
    }
}

/// More than 64 digits and the ends of some lines are no key.
const PRINTED_BYTES_MAX: usize = 256;

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
        let mut out = vec![Kind::Given as u8];
        out.extend_from_slice(&super::wrap(env, &self.root, database, LABEL, epoch));
        Ok(out)
    }

    fn unwrap(&self, _: &Env, database: DatabaseId, wrapped: &[u8]) -> Result<Secret> {
        super::unwrap(&self.root, database, LABEL, Kind::Given.of(wrapped)?)?.ok_or_else(|| {
            Error::denied(format!("wrong key: {} is not the key that sealed the keyring", self.describe()))
        })
    }

    fn settle(&self, _: &Env, _: DatabaseId, _: &[u8]) -> Result<()> {
        Ok(())
    }
}
