//! Where the root key of a database is kept, and what that is worth.

use std::fmt;
use std::sync::Arc;

use pugdb_core::coding::Reader;
use pugdb_core::env::Env;
use pugdb_core::{DatabaseId, Error, Result};
use subtle::ConstantTimeEq as _;

use crate::aead::{AeadKey, Algorithm, NONCE_BYTES, TAG_BYTES};
use crate::derive::{Derivation, PUBLIC_BYTES, Purpose, SALT_BYTES};
use crate::secret::{KEY_BYTES, Secret};

mod given;
#[cfg(any(feature = "pkcs11", feature = "os-keyring"))]
mod kept;
mod key_file;
#[cfg(feature = "os-keyring")]
mod os_keyring;
mod passphrase;
#[cfg(feature = "pkcs11")]
mod token;

pub use given::GivenKey;
pub use key_file::KeyFile;
#[cfg(feature = "os-keyring")]
pub use os_keyring::OsKeyring;
pub use passphrase::Passphrase;
#[cfg(feature = "pkcs11")]
pub use token::Token;

/// Keeps a root key, which wraps one key of the database: its epoch key. Who has the root key and the data directory can read the database.
///
/// The same provider serves one database. Its methods are called when a database is opened and when its keys are rotated, never for a read or a write.
pub trait RootProvider: Send + Sync + fmt::Debug {
    /// Where the key is kept, for messages and reports; nothing secret.
    fn describe(&self) -> String;

    /// Who this protects the data from, and from whom it does not.
    fn protects(&self) -> &'static str;

    /// True when an old root key can be destroyed. Only then is what older copies of the keyring hold gone after an erasure.
    fn destroys(&self) -> bool;

    /// What keeps the root key from being lost, for whoever has just made a database.
    fn safekeeping(&self) -> &'static str {
        "keep copies of the key, and of KEYRING, where no copy of the data is: without both nobody can read the data"
    }

    /// The database that an earlier attempt to make one got as far as.
    ///
    /// # Errors
    /// What keeps it from looking.
    fn begun(&self, env: &Env) -> Result<Option<DatabaseId>> {
        let _ = env;
        Ok(None)
    }

    /// Wraps a database's epoch key, under a new root key where it can make one. Those that it had stay until [`settle`](Self::settle). The
    /// result is durable with the provider when this returns.
    ///
    /// # Errors
    /// `Denied`, `Unavailable`, `NotFound`: what keeps it from the root key.
    fn wrap(&self, env: &Env, database: DatabaseId, epoch: &Secret) -> Result<Vec<u8>>;

    /// The epoch key that [`wrap`](Self::wrap) was given.
    ///
    /// # Errors
    /// `Denied` when it was wrapped with another root key, `NotFound` when there is none, `Corrupt` when it was changed.
    fn unwrap(&self, env: &Env, database: DatabaseId, wrapped: &[u8]) -> Result<Secret>;

    /// Destroys all root keys but the one that made `wrapped`: nothing else that was wrapped can be had any more.
    ///
    /// # Errors
    /// What the disk says. It is tried again with the next open.
    fn settle(&self, env: &Env, database: DatabaseId, wrapped: &[u8]) -> Result<()>;
}

impl<P: RootProvider + ?Sized> RootProvider for Arc<P> {
    fn describe(&self) -> String {
        (**self).describe()
    }

    fn protects(&self) -> &'static str {
        (**self).protects()
    }

    fn destroys(&self) -> bool {
        (**self).destroys()
    }

    fn safekeeping(&self) -> &'static str {
        (**self).safekeeping()
    }

    fn begun(&self, env: &Env) -> Result<Option<DatabaseId>> {
        (**self).begun(env)
    }

    fn wrap(&self, env: &Env, database: DatabaseId, epoch: &Secret) -> Result<Vec<u8>> {
        (**self).wrap(env, database, epoch)
    }

    fn unwrap(&self, env: &Env, database: DatabaseId, wrapped: &[u8]) -> Result<Secret> {
        (**self).unwrap(env, database, wrapped)
    }

    fn settle(&self, env: &Env, database: DatabaseId, wrapped: &[u8]) -> Result<()> {
        (**self).settle(env, database, wrapped)
    }
}

/// Which of the providers here has wrapped an epoch key: the first byte of what it has made of it. The numbers are part of the disk format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    KeyFile = 1,
    Given = 2,
    Passphrase = 3,
    #[cfg(feature = "pkcs11")]
    Token = 4,
    #[cfg(feature = "os-keyring")]
    OsKeyring = 5,
}

impl Kind {
    /// What stands behind its number.
    ///
    /// # Errors
    /// `Denied` when another provider has wrapped it.
    fn of(self, wrapped: &[u8]) -> Result<&[u8]> {
        match wrapped.split_first() {
            Some((&number, rest)) if number == self as u8 => Ok(rest),
            Some((&number, _)) => {
                Err(Error::denied(format!("wrong key: the keyring was sealed with {}", Self::words(number))))
            }
            None => Err(Error::corrupt(
                "the wrapped key in the keyring is missing; put back a copy of the keyring",
            )),
        }
    }

    fn words(number: u8) -> &'static str {
        match number {
            1 => "a key file; name it by --root-key file:PATH",
            2 => "a key that is kept elsewhere; name it by --root-key env:VARIABLE or command:PROGRAM",
            3 => "a passphrase; give it by --root-key passphrase",
            4 => "a key in a PKCS#11 token; name it by --root-key 'pkcs11:token=LABEL?module-path=FILE'",
            5 => "a key in the login keyring; name it by --root-key keyring",
            _ => "a root key of another kind",
        }
    }
}

/// Salt, commitment, sealed key with its tag.
const WRAPPED_BYTES: usize = SALT_BYTES + PUBLIC_BYTES + KEY_BYTES + TAG_BYTES;
/// A wrapping key is derived for one seal.
const NONCE: [u8; NONCE_BYTES] = [0; NONCE_BYTES];

/// Wraps `epoch` under a root key that is at hand. `label` is bound beside the database.
pub(crate) fn wrap(env: &Env, root: &Secret, database: DatabaseId, label: &[u8], epoch: &Secret) -> Vec<u8> {
    let mut salt = [0; SALT_BYTES];
    env.random.fill(&mut salt);
    let derived = Derivation::new(root, &salt);
    let context = [&database.0[..], label].concat();
    let key = AeadKey::new(Algorithm::Aes256Gcm, &derived.secret(Purpose::Wrap, &context));
    let mut out = Vec::with_capacity(WRAPPED_BYTES);
    out.extend_from_slice(&salt);
    out.extend_from_slice(&derived.public(Purpose::WrapCommitment, &context));
    out.extend_from_slice(epoch.expose());
    key.seal(&NONCE, &context, &mut out, SALT_BYTES + PUBLIC_BYTES).expect("32 bytes are not too long");
    out
}

/// What [`wrap`] was given; `None` when it was another root key, database or label.
///
/// # Errors
/// `Corrupt` when the bytes were changed.
pub(crate) fn unwrap(
    root: &Secret,
    database: DatabaseId,
    label: &[u8],
    wrapped: &[u8],
) -> Result<Option<Secret>> {
    let damaged =
        || Error::corrupt("the wrapped key in the keyring was changed; put back a copy of the keyring");
    let mut reader = Reader::new(wrapped);
    let salt: [u8; SALT_BYTES] = reader.array()?;
    let commitment: [u8; PUBLIC_BYTES] = reader.array()?;
    let mut sealed = zeroize::Zeroizing::new(reader.rest().to_vec());
    if sealed.len() != KEY_BYTES + TAG_BYTES {
        return Err(damaged());
    }
    let derived = Derivation::new(root, &salt);
    let context = [&database.0[..], label].concat();
    if !bool::from(derived.public(Purpose::WrapCommitment, &context).ct_eq(&commitment)) {
        return Ok(None);
    }
    let key = AeadKey::new(Algorithm::Aes256Gcm, &derived.secret(Purpose::Wrap, &context));
    let length = key.open(&NONCE, &context, &mut sealed).ok_or_else(damaged)?;
    Ok(Some(Secret::fill(|bytes| bytes.copy_from_slice(&sealed[..length]))))
}

/// A database's id in hexadecimal digits, as messages and key files show it.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).expect("half a byte is below 16");
    // At its full length: one that grows would leave secrets behind.
    let mut out = String::with_capacity(bytes.len() * 2);
    out.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
    out
}

/// The bytes that so many hexadecimal digits stand for.
pub(crate) fn unhex(digits: &str, out: &mut [u8]) -> Option<()> {
    if digits.len() != out.len() * 2 {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).expect("two digits are a byte");
    }
    Some(())
}
