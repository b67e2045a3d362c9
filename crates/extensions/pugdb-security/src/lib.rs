//! Keys and what they seal. It is the only crate that names a cryptographic primitive.
//!
//! | module | what it is |
//! |---|---|
//! | `vault.rs` | [`Vault`]: the keys of an open database, made, found, rotated; [`VaultCipher`]: what seals its files |
//! | `erasure.rs`, `certificate.rs` | subjects, whose values are sealed one by one; keys that are destroyed, and what is signed of it |
//! | [`mod@audit`] | what was done, in a chain that shows whether somebody changed it |
//! | `file_cipher.rs` | the keys of one file |
//! | `fingerprint.rs` | [`Fingerprint`]: what people compare of a certificate |
//! | `keyring` | all keys of a database as a value, and as a file |
//! | `provider` | where the root key is kept: [`RootProvider`] and those there are |
//! | [`rights`] | who may do what, and how a user shows who it is |
//! | `aead.rs`, `derive.rs`, `secret.rs`, `wiped.rs`, `slots.rs` | sealing, keys from keys, keys in memory |
//!
//! Which key seals what, and why, is in `docs/adr/0049-keys-and-what-they-seal.md`; the bytes are drawn in `docs/format/sealing.md` and
//! `docs/format/keyring.md`.

use pugdb_core::Error;

mod aead;
pub mod audit;
mod certificate;
mod derive;
mod erasure;
mod file_cipher;
mod fingerprint;
#[cfg(test)]
mod golden;
mod keyring;
mod provider;
pub mod rights;
mod secret;
mod slots;
#[cfg(test)]
mod tests;
mod vault;
mod wiped;

pub use aead::{AeadKey, Algorithm, NONCE_BYTES, TAG_BYTES};
pub use certificate::{Certificate, ErasedObject};
pub use erasure::{Held, SUBJECT_BYTES_MAX, VALUE_SEAL_BYTES};
pub use file_cipher::PART_SEAL_BYTES;
pub use fingerprint::Fingerprint;
#[doc(hidden)]
pub use keyring::keyring_bytes_again;
#[cfg(feature = "os-keyring")]
pub use provider::OsKeyring;
#[cfg(feature = "pkcs11")]
pub use provider::Token;
pub use provider::{GivenKey, KeyFile, Passphrase, RootProvider};
pub use secret::{KEY_BYTES, Secret};
pub use slots::KeyMemory;
pub use vault::{Adopted, KEYRING, KeyAge, KeyStatus, KeyspaceKeys, Rotation, Vault, VaultCipher};

/// The error for a layout, a version or an algorithm that only a newer version can have written: nothing is damaged, and nothing is to be changed.
pub(crate) fn newer(what: &str) -> Error {
    Error::unsupported(format!("{what} was written by a newer version of PugDB; open it with that one"))
}
