//! Who signs the audit log, and what stands for names in it: the keyring, or nobody.

use std::fmt;
use std::sync::Arc;

use pugdb_core::{DatabaseId, Error, Result, Timestamp};

use super::chain::ChainHash;
use super::checkpoint::Checkpoint;
use super::merkle::{Frontier, TreeHash};
use super::record::{Event, Object, ObjectKind};
use crate::derive::Purpose;
use crate::keyring::Keyring;
use crate::vault::Vault;

/// Ends with a zero: it is the beginning of no other label.
const PLAIN_LABEL: &[u8] = b"pugdb 1 audit object, not keyed\0";

/// Signs checkpoints and makes digests of names: with the keys of an encrypted database, or, where there are none, without. A digest without a key
/// hides a name from nobody who can guess it.
#[derive(Clone)]
pub struct Notary(Keys);

#[derive(Clone)]
enum Keys {
    Vault(Arc<Vault>),
    None(DatabaseId),
}

impl Notary {
    /// The keyring of an encrypted database.
    pub fn of(vault: Arc<Vault>) -> Self {
        Self(Keys::Vault(vault))
    }

    /// Nobody: the database is not encrypted.
    pub fn nobody(database: DatabaseId) -> Self {
        Self(Keys::None(database))
    }

    /// The database.
    pub fn database(&self) -> DatabaseId {
        match &self.0 {
            Keys::Vault(vault) => vault.database(),
            Keys::None(database) => *database,
        }
    }

    /// The public key that checkpoints are signed with.
    pub fn signer(&self) -> Option<[u8; 32]> {
        match &self.0 {
            Keys::Vault(vault) => Some(vault.signer()),
            Keys::None(_) => None,
        }
    }

    /// What stands for a name.
    pub fn object(&self, kind: ObjectKind, name: &[u8]) -> Object {
        let digest = match &self.0 {
            Keys::Vault(vault) => return object(&vault.state.read().keyring, kind, name),
            Keys::None(database) => {
                let named = [&[kind.number()], name].concat();
                let mut hasher = blake3::Hasher::new();
                hasher.update(PLAIN_LABEL).update(&database.0).update(&named);
                *hasher.finalize().as_bytes()
            }
        };
        Object { kind, digest }
    }

    /// States how long the log is.
    pub fn checkpoint(&self, tree: &Frontier, last: ChainHash, at: Timestamp) -> Checkpoint {
        let state: (u64, TreeHash, ChainHash) = (tree.size(), tree.root(), last);
        match &self.0 {
            Keys::Vault(vault) => {
                let seed = vault.state.read().keyring.signing.clone();
                Checkpoint::new(vault.database(), state, at, Some(&seed))
            }
            Keys::None(database) => Checkpoint::new(*database, state, at, None),
        }
    }
}

/// What stands for a name where there is a keyring.
pub(crate) fn object(keyring: &Keyring, kind: ObjectKind, name: &[u8]) -> Object {
    let named = [&[kind.number()], name].concat();
    Object { kind, digest: keyring.digest(Purpose::AuditObject, &named) }
}

impl fmt::Debug for Notary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Notary(of database {:?}, {})",
            self.database(),
            if self.signer().is_some() { "signs" } else { "does not sign" }
        )
    }
}

/// Who is told before keys are changed, and afterwards what came of it.
pub trait Witness: Send + Sync {
    /// What is about to be done. Returns what stands for this act at its end.
    ///
    /// # Errors
    /// It must not be done.
    fn before(&self, event: Event) -> Result<u64>;

    /// What came of it. It is done or not, whether or not that can be noted.
    fn after(&self, begun: u64, event: Event, outcome: Result<(), &Error>);
}
