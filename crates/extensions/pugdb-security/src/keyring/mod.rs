//! All keys of a database: a pure value. How it lies in a file says `file.rs`.

use std::collections::BTreeMap;

use pugdb_core::coding::{Reader, put_varint};
use pugdb_core::env::Random;
use pugdb_core::{DatabaseId, Error, KeyspaceId, Result, Timestamp};
use zeroize::Zeroizing;

use crate::derive::{Derivation, PUBLIC_BYTES, Purpose};
use crate::secret::Secret;

pub(crate) mod file;

/// A key's public name: who has it does not have the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeyId(pub(crate) [u8; PUBLIC_BYTES]);

/// One key of a database or a keyspace, from which those of files are derived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Generation {
    /// Ascending from 1.
    pub(crate) number: u64,
    pub(crate) made_at: Timestamp,
    pub(crate) id: KeyId,
    pub(crate) key: Secret,
}

impl Generation {
    fn new(number: u64, made_at: Timestamp, key: Secret) -> Self {
        let id = KeyId(Derivation::new(&key, &[]).public(Purpose::KeyId, &[]));
        Self { number, made_at, id, key }
    }
}

/// The keys of a database or of a keyspace, oldest first. Files are made with the newest one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keys {
    generations: Vec<Generation>,
}

impl Keys {
    fn renew(&mut self, now: Timestamp, random: &dyn Random) {
        let number = self.generations.last().map_or(1, |last| last.number + 1);
        self.generations.push(Generation::new(number, now, Secret::random(random)));
    }

    /// The one that new files are made with.
    pub(crate) fn newest(&self) -> Option<&Generation> {
        self.generations.last()
    }

    pub(crate) fn find(&self, id: &KeyId) -> Option<&Generation> {
        self.generations.iter().find(|generation| generation.id == *id)
    }

    /// Oldest first.
    pub(crate) fn generations(&self) -> &[Generation] {
        &self.generations
    }
}

/// The keys of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keyring {
    pub(crate) database: DatabaseId,
    /// Ascends with each time that it is written.
    pub(crate) generation: u64,
    database_keys: Keys,
    keyspaces: BTreeMap<KeyspaceId, Keys>,
    /// Every keyspace below has keys.
    provided: KeyspaceId,
}

/// The first keyspace there can be.
const FIRST: KeyspaceId = KeyspaceId(1);

impl Keyring {
    pub(crate) fn new(database: DatabaseId, now: Timestamp, random: &dyn Random) -> Self {
        let mut database_keys = Keys::default();
        database_keys.renew(now, random);
        Self { database, generation: 0, database_keys, keyspaces: BTreeMap::new(), provided: FIRST }
    }

    /// Every keyspace below has keys.
    pub(crate) fn provided(&self) -> KeyspaceId {
        self.provided
    }

    /// Makes keys for all keyspaces below `end` that have none.
    pub(crate) fn provide(&mut self, end: KeyspaceId, now: Timestamp, random: &dyn Random) {
        for id in self.provided.0..end.0 {
            self.keyspaces.entry(KeyspaceId(id)).or_default().renew(now, random);
        }
        self.provided = self.provided.max(end);
    }

    /// New keys for what is written from now on.
    pub(crate) fn renew(&mut self, now: Timestamp, random: &dyn Random) {
        self.database_keys.renew(now, random);
        for keys in self.keyspaces.values_mut() {
            keys.renew(now, random);
        }
    }

    /// The keys of the database's framing.
    pub(crate) fn database_keys(&self) -> &Keys {
        &self.database_keys
    }

    /// The keys of a keyspace.
    ///
    /// # Errors
    /// `Denied` when there are none.
    pub(crate) fn keyspace_keys(&self, keyspace: KeyspaceId) -> Result<&Keys> {
        self.keyspaces.get(&keyspace).ok_or_else(|| {
            Error::denied(format!(
                "the keyring has no key for keyspace {keyspace}: it is older than the data"
            ))
        })
    }

    /// The keyspaces with their keys, in order.
    pub(crate) fn keyspaces(&self) -> impl Iterator<Item = (KeyspaceId, &Keys)> {
        self.keyspaces.iter().map(|(id, keys)| (*id, keys))
    }

    /// The form that is sealed: everything but what stands in the file's head.
    fn encode(&self) -> Zeroizing<Vec<u8>> {
        // All of it at once: a buffer that grows leaves copies behind.
        let generations = |keys: &Keys| keys.generations.len();
        let count =
            generations(&self.database_keys) + self.keyspaces.values().map(generations).sum::<usize>();
        let mut out = Zeroizing::new(Vec::with_capacity(64 + count * 64 + self.keyspaces.len() * 32));
        put_keys(&mut out, &self.database_keys);
        put_varint(&mut out, u64::from(self.provided.0));
        put_varint(&mut out, self.keyspaces.len() as u64);
        for (keyspace, keys) in &self.keyspaces {
            put_varint(&mut out, u64::from(keyspace.0));
            put_keys(&mut out, keys);
        }
        out
    }

    fn decode(database: DatabaseId, generation: u64, bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let database_keys = read_keys(&mut reader)?;
        let provided = KeyspaceId(reader.varint_u32()?);
        let mut keyspaces = BTreeMap::new();
        for _ in 0..reader.length()? {
            let keyspace = KeyspaceId(reader.varint_u32()?);
            keyspaces.insert(keyspace, read_keys(&mut reader)?);
        }
        if !reader.is_empty() || database_keys.newest().is_none() {
            return Err(Error::corrupt("the keyring does not hold what a keyring holds"));
        }
        Ok(Self { database, generation, database_keys, keyspaces, provided })
    }
}

fn put_keys(out: &mut Vec<u8>, keys: &Keys) {
    put_varint(out, keys.generations.len() as u64);
    for generation in &keys.generations {
        put_varint(out, generation.number);
        put_varint(out, generation.made_at.0);
        out.extend_from_slice(generation.key.expose());
    }
}

fn read_keys(reader: &mut Reader<'_>) -> Result<Keys> {
    let mut generations = Vec::new();
    for _ in 0..reader.length()? {
        let (number, made_at) = (reader.varint()?, Timestamp(reader.varint()?));
        let bytes = reader.take(crate::secret::KEY_BYTES)?;
        let key = Secret::fill(|secret| secret.copy_from_slice(bytes));
        generations.push(Generation::new(number, made_at, key));
    }
    Ok(Keys { generations })
}

#[cfg(test)]
mod tests {
    use pugdb_core::env::os::OsRandom;

    use super::*;

    #[test]
    fn a_keyring_is_read_as_it_was_written() {
        let mut keyring = Keyring::new(DatabaseId([1; 16]), Timestamp(5), &OsRandom);
        keyring.provide(KeyspaceId(4), Timestamp(6), &OsRandom);
        keyring.renew(Timestamp(7), &OsRandom);
        keyring.provide(KeyspaceId(6), Timestamp(9), &OsRandom);
        let counts: Vec<usize> = keyring.keyspaces().map(|(_, keys)| keys.generations().len()).collect();
        assert_eq!(counts, [2, 2, 2, 1, 1]);
        let decoded = Keyring::decode(keyring.database, keyring.generation, &keyring.encode()).unwrap();
        assert_eq!(decoded, keyring);
        assert_eq!(keyring.keyspace_keys(KeyspaceId(6)).unwrap_err().kind(), pugdb_core::ErrorKind::Denied);
    }

    #[test]
    fn what_is_no_keyring_is_refused_whatever_it_is() {
        let mut keyring = Keyring::new(DatabaseId([1; 16]), Timestamp(5), &OsRandom);
        keyring.provide(KeyspaceId(4), Timestamp(6), &OsRandom);
        let bytes = keyring.encode();
        for length in 0..bytes.len() {
            assert!(Keyring::decode(keyring.database, 1, &bytes[..length]).is_err(), "{length}");
        }
        assert!(Keyring::decode(keyring.database, 1, &[&bytes[..], &[0]].concat()).is_err());
    }
}
