//! Root keys in a place that keeps many of them under names: what a token and a login keyring have in common. Each wrap makes a new one, and
//! settling destroys the others of its database.

use pugdb_core::env::Env;
use pugdb_core::{DatabaseId, Error, Result};

use super::{Kind, hex, unhex};
use crate::secret::Secret;

/// More than these are rotations that failed.
const KEYS_MAX: usize = 64;
/// Bytes of a key's name.
const NAME_BYTES: usize = 8;

/// Tells a database's root keys apart. It is random, so that two copies of a keyring never make the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeyName(pub(crate) [u8; NAME_BYTES]);

impl KeyName {
    /// As places and messages show it.
    pub(crate) fn digits(self) -> String {
        hex(&self.0)
    }

    pub(crate) fn from_digits(digits: &str) -> Option<Self> {
        let mut name = [0; NAME_BYTES];
        unhex(digits, &mut name).map(|()| Self(name))
    }
}

/// The place, while it is open. What a method has done is durable when it returns.
pub(crate) trait KeyStore {
    /// The keys of a database.
    fn list(&mut self, database: DatabaseId) -> Result<Vec<KeyName>>;

    /// Makes a key.
    fn make(&mut self, env: &Env, database: DatabaseId, name: KeyName) -> Result<()>;

    /// Destroys a key, and whatever else has its name.
    fn destroy(&mut self, database: DatabaseId, name: KeyName) -> Result<()>;

    /// Wraps an epoch key with a key.
    fn seal(&mut self, env: &Env, database: DatabaseId, name: KeyName, epoch: &Secret) -> Result<Vec<u8>>;

    /// The epoch key.
    ///
    /// # Errors
    /// `Denied` when it is not the key that wrapped it, `Corrupt` when it was changed.
    fn unseal(&mut self, database: DatabaseId, name: KeyName, sealed: &[u8]) -> Result<Secret>;
}

/// Takes what a place has written to the disks that it is on, whichever they are. It is for places that do not do it themselves.
#[cfg(any(feature = "pkcs11", target_os = "linux"))]
pub(crate) fn sync_all_disks() {
    rustix::fs::sync();
}

/// As [`RootProvider::wrap`](super::RootProvider::wrap).
pub(crate) fn wrap(
    store: &mut dyn KeyStore,
    env: &Env,
    kind: Kind,
    database: DatabaseId,
    epoch: &Secret,
) -> Result<Vec<u8>> {
    if store.list(database)?.len() >= KEYS_MAX {
        return Err(Error::unavailable(
            "rotations failed too often; open the database again, which destroys the root keys that they have left",
        ));
    }
    let mut name = KeyName([0; NAME_BYTES]);
    env.random.fill(&mut name.0);
    store.make(env, database, name)?;
    let mut out = vec![kind as u8];
    out.extend_from_slice(&name.0);
    out.extend_from_slice(&store.seal(env, database, name, epoch)?);
    Ok(out)
}

/// As [`RootProvider::unwrap`](super::RootProvider::unwrap). `place`: where the keys are, for messages.
pub(crate) fn unwrap(
    store: &mut dyn KeyStore,
    place: &str,
    kind: Kind,
    database: DatabaseId,
    wrapped: &[u8],
) -> Result<Secret> {
    let (name, sealed) = split(kind, wrapped)?;
    let names = store.list(database)?;
    if names.contains(&name) {
        return store.unseal(database, name, sealed);
    }
    if names.is_empty() {
        return Err(Error::not_found(format!(
            "there is no root key of database {database} in {place}: it was destroyed, or is kept elsewhere; without it the database cannot be read"
        )));
    }
    Err(Error::denied(format!(
        "the keyring was sealed with root key {}, and {place} has {}: one of the two is an older copy",
        name.digits(),
        names.into_iter().map(KeyName::digits).collect::<Vec<_>>().join(" and "),
    )))
}

/// As [`RootProvider::settle`](super::RootProvider::settle).
pub(crate) fn settle(
    store: &mut dyn KeyStore,
    place: &str,
    kind: Kind,
    database: DatabaseId,
    wrapped: &[u8],
) -> Result<()> {
    let (own, _) = split(kind, wrapped)?;
    let names = store.list(database)?;
    // Looked for first: another one may be all that opens anything.
    if !names.contains(&own) {
        return Err(Error::denied(format!(
            "root key {} is not in {place} any more: a copy of the database has taken a new one",
            own.digits()
        )));
    }
    names.into_iter().filter(|name| *name != own).try_for_each(|other| store.destroy(database, other))
}

/// The name of the key stands before what it has wrapped.
fn split(kind: Kind, wrapped: &[u8]) -> Result<(KeyName, &[u8])> {
    let (name, sealed) = kind.of(wrapped)?.split_first_chunk().ok_or_else(|| {
        Error::corrupt("the wrapped key in the keyring is cut off; put back a copy of the keyring")
    })?;
    Ok((KeyName(*name), sealed))
}

#[cfg(test)]
mod tests;
