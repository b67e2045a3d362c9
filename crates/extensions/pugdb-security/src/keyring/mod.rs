//! All keys of a database: a pure value. How it lies in a file says `file.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use pugdb_core::coding::{Reader, put_varint};
use pugdb_core::env::Random;
use pugdb_core::{DatabaseId, Error, KeyspaceId, Result, SealId, Timestamp};
use zeroize::Zeroizing;

use crate::derive::{Derivation, PUBLIC_BYTES, Purpose};
use crate::secret::Secret;

pub(crate) mod file;
mod subjects;

pub(crate) use subjects::{ERASURE_BYTES_MAX, SubjectKeys};

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

/// What stands for a name: who does not have the keyring cannot tell whose it is, nor try names.
pub(crate) type NameDigest = [u8; PUBLIC_BYTES];

/// What names are digested with, and what comes of it by HKDF before it is told which name: each write for a subject needs that.
#[derive(Clone)]
struct Names(Arc<NameKey>);

struct NameKey {
    secret: Secret,
    derivation: Derivation,
}

impl Names {
    fn new(secret: Secret) -> Self {
        let derivation = Derivation::new(&secret, &[]);
        Self(Arc::new(NameKey { secret, derivation }))
    }
}

impl PartialEq for Names {
    fn eq(&self, other: &Self) -> bool {
        self.0.secret == other.0.secret
    }
}

impl Eq for Names {}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.secret.fmt(f)
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
    /// Every keyspace below has keys, or had.
    provided: KeyspaceId,
    /// Partitions, and of which keyspace: their keys are destroyed with its own, also those of partitions that are not there any more.
    owners: BTreeMap<KeyspaceId, KeyspaceId>,
    /// The keyspaces that were erased, and when. Those that still have keys are to be.
    erased: BTreeMap<KeyspaceId, Timestamp>,
    /// Of those, the ones that nobody needs any more: they are refused, and gone with the next epoch. Not written down.
    ending: BTreeSet<KeyspaceId>,
    pub(crate) subjects: SubjectKeys,
    pub(crate) holds: Holds,
    /// What names are digested with. It never changes: a subject is found by its digest.
    names: Names,
    /// The seed of the key that signs certificates.
    pub(crate) signing: Secret,
    /// The database was not encrypted before: log and manifest may still be as they were. Taken back when they are not any more.
    pub(crate) has_plain_past: bool,
}

/// What lies under a keyring's seal, read and written again: for the fuzzer, which has no way to what a keyring holds.
///
/// # Errors
/// As an open's.
#[doc(hidden)]
pub fn keyring_bytes_again(bytes: &[u8]) -> Result<Vec<u8>> {
    Ok(Keyring::decode(DatabaseId([0; 16]), 0, bytes)?.encode().to_vec())
}

/// What must not be erased, and since when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holds {
    pub(crate) subjects: BTreeMap<NameDigest, Timestamp>,
    pub(crate) keyspaces: BTreeMap<KeyspaceId, Timestamp>,
}

/// The first keyspace there can be.
const FIRST: KeyspaceId = KeyspaceId(1);

impl Keyring {
    pub(crate) fn new(database: DatabaseId, now: Timestamp, random: &dyn Random) -> Self {
        let mut database_keys = Keys::default();
        database_keys.renew(now, random);
        Self {
            database,
            generation: 0,
            database_keys,
            keyspaces: BTreeMap::new(),
            provided: FIRST,
            owners: BTreeMap::new(),
            erased: BTreeMap::new(),
            ending: BTreeSet::new(),
            subjects: SubjectKeys::new(random),
            holds: Holds::default(),
            names: Names::new(Secret::random(random)),
            signing: Secret::random(random),
            has_plain_past: false,
        }
    }

    /// Every keyspace below has keys, or had.
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

    /// True when [`own`](Self::own) would change nothing.
    pub(crate) fn is_owned(&self, made: &Range<KeyspaceId>, owner: Option<KeyspaceId>) -> bool {
        let mut owned = (made.start.0..made.end.0).map(|id| self.owners.get(&KeyspaceId(id)).copied());
        owned.all(|there| there == owner) && self.owners.range(made.end..).next().is_none()
    }

    /// These are about to be made, and are a keyspace's own, or nobody's. What is beyond never was made.
    pub(crate) fn own(&mut self, made: &Range<KeyspaceId>, owner: Option<KeyspaceId>) {
        self.owners.retain(|id, _| *id < made.start);
        if let Some(owner) = owner {
            self.owners.extend((made.start.0..made.end.0).map(|id| (KeyspaceId(id), owner)));
        }
    }

    /// These partitions were made before there were keys.
    pub(crate) fn own_those(&mut self, owners: BTreeMap<KeyspaceId, KeyspaceId>) {
        self.owners = owners;
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
    /// `Erased` when they were destroyed, `Denied` when there never were any.
    pub(crate) fn keyspace_keys(&self, keyspace: KeyspaceId) -> Result<&Keys> {
        let keys = self.keyspaces.get(&keyspace).filter(|_| !self.ending.contains(&keyspace));
        keys.ok_or_else(|| {
            if self.erased.contains_key(&keyspace) {
                return Error::erased(format!(
                    "keyspace {keyspace} was erased: its key was destroyed, and nothing brings its data back"
                ));
            }
            Error::denied(format!(
                "the keyring has no key for keyspace {keyspace}: it is older than the data"
            ))
        })
    }

    /// A keyspace with all partitions that it ever had. Those from `unused` on were never made.
    fn with_parts(&self, keyspace: KeyspaceId, unused: KeyspaceId) -> BTreeSet<KeyspaceId> {
        let parts = self.owners.range(..unused).filter(|(_, owner)| **owner == keyspace);
        parts.map(|(part, _)| *part).chain([keyspace]).collect()
    }

    /// This keyspace is to be erased, whatever happens in between.
    pub(crate) fn begin_erasure(&mut self, keyspace: KeyspaceId, unused: KeyspaceId, now: Timestamp) {
        self.erased.extend(self.with_parts(keyspace, unused).into_iter().map(|id| (id, now)));
    }

    /// It is not to be erased after all.
    pub(crate) fn give_up_erasure(&mut self, keyspace: KeyspaceId, unused: KeyspaceId) {
        let parts = self.with_parts(keyspace, unused);
        self.erased.retain(|id, _| !(parts.contains(id) && self.keyspaces.contains_key(id)));
    }

    /// What is to be erased and has keys.
    fn begun(&self) -> BTreeSet<KeyspaceId> {
        self.erased.keys().filter(|id| self.keyspaces.contains_key(id)).copied().collect()
    }

    /// Nobody needs the keys any more of what is to be erased: one keyspace, or whatever was begun. False when there is nothing to be erased.
    pub(crate) fn refuse_begun(&mut self, keyspace: Option<(KeyspaceId, KeyspaceId)>) -> bool {
        let begun = self.begun();
        let parts = keyspace.map_or_else(|| begun.clone(), |(id, unused)| self.with_parts(id, unused));
        self.ending.extend(parts.intersection(&begun));
        !self.ending.is_empty()
    }

    /// Forgets the keys that nobody needs any more.
    pub(crate) fn end_erasures(&mut self) {
        let ending = std::mem::take(&mut self.ending);
        self.keyspaces.retain(|keyspace, _| !ending.contains(keyspace));
    }

    /// The keyspaces that were erased, and when.
    pub(crate) fn erased(&self) -> impl Iterator<Item = (KeyspaceId, Timestamp)> {
        let has_no_key = |keyspace: &KeyspaceId| !self.keyspaces.contains_key(keyspace);
        self.erased
            .iter()
            .map(|(keyspace, at)| (*keyspace, *at))
            .filter(move |(keyspace, _)| has_no_key(keyspace))
    }

    /// What stands for a name.
    pub(crate) fn digest(&self, purpose: Purpose, name: &[u8]) -> NameDigest {
        self.names.0.derivation.public(purpose, name)
    }

    /// The number of a subject, as it is the first time, the second time and so on: once for each erasure it has come back from.
    pub(crate) fn seal_id(&self, name: &[u8], times: u32) -> SealId {
        let named = [&times.to_le_bytes()[..], name].concat();
        let digest = self.digest(Purpose::SubjectLeaf, &named);
        SealId(u64::from_le_bytes(*digest.first_chunk().expect("a digest is longer")))
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
        let marks =
            self.owners.len() + self.erased.len() + self.holds.subjects.len() + self.holds.keyspaces.len();
        let length = 256 + (count + self.keyspaces.len() + marks) * 64 + self.subjects.encoded_bytes();
        let mut out = Zeroizing::new(Vec::with_capacity(length));
        put_keys(&mut out, &self.database_keys);
        put_varint(&mut out, u64::from(self.provided.0));
        put_varint(&mut out, self.keyspaces.len() as u64);
        for (keyspace, keys) in &self.keyspaces {
            put_varint(&mut out, u64::from(keyspace.0));
            put_keys(&mut out, keys);
        }
        out.extend_from_slice(self.names.0.secret.expose());
        out.extend_from_slice(self.signing.expose());
        out.push(u8::from(self.has_plain_past));
        put_varint(&mut out, self.owners.len() as u64);
        for (part, owner) in &self.owners {
            put_varint(&mut out, u64::from(part.0));
            put_varint(&mut out, u64::from(owner.0));
        }
        put_times(&mut out, &self.erased);
        put_times(&mut out, &self.holds.keyspaces);
        put_varint(&mut out, self.holds.subjects.len() as u64);
        for (digest, at) in &self.holds.subjects {
            out.extend_from_slice(digest);
            put_varint(&mut out, at.0);
        }
        self.subjects.encode(&mut out);
        debug_assert!(out.len() <= length, "it would have left copies behind");
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
        let (names, signing) = (read_secret(&mut reader)?, read_secret(&mut reader)?);
        let has_plain_past = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Error::corrupt("the keyring does not say what was before it")),
        };
        let mut owners = BTreeMap::new();
        for _ in 0..reader.length()? {
            owners.insert(KeyspaceId(reader.varint_u32()?), KeyspaceId(reader.varint_u32()?));
        }
        let (erased, held) = (read_times(&mut reader)?, read_times(&mut reader)?);
        let mut holds = Holds { keyspaces: held, ..Holds::default() };
        for _ in 0..reader.length()? {
            holds.subjects.insert(reader.array()?, Timestamp(reader.varint()?));
        }
        let subjects = SubjectKeys::decode(&mut reader)?;
        if !reader.is_empty() || database_keys.newest().is_none() {
            return Err(Error::corrupt("the keyring does not hold what a keyring holds"));
        }
        Ok(Self {
            database,
            generation,
            database_keys,
            keyspaces,
            provided,
            owners,
            erased,
            ending: BTreeSet::new(),
            subjects,
            holds,
            names: Names::new(names),
            signing,
            has_plain_past,
        })
    }
}

fn put_times(out: &mut Vec<u8>, times: &BTreeMap<KeyspaceId, Timestamp>) {
    put_varint(out, times.len() as u64);
    for (keyspace, at) in times {
        put_varint(out, u64::from(keyspace.0));
        put_varint(out, at.0);
    }
}

fn read_times(reader: &mut Reader<'_>) -> Result<BTreeMap<KeyspaceId, Timestamp>> {
    let mut times = BTreeMap::new();
    for _ in 0..reader.length()? {
        times.insert(KeyspaceId(reader.varint_u32()?), Timestamp(reader.varint()?));
    }
    Ok(times)
}

fn read_secret(reader: &mut Reader<'_>) -> Result<Secret> {
    let bytes = reader.take(crate::secret::KEY_BYTES)?;
    Ok(Secret::fill(|secret| secret.copy_from_slice(bytes)))
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
        generations.push(Generation::new(number, made_at, read_secret(reader)?));
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
        keyring.holds.subjects.insert([3; 32], Timestamp(4));
        keyring.holds.keyspaces.insert(KeyspaceId(3), Timestamp(5));
        keyring.subjects.erase(keyring.seal_id(b"ada", 0));
        let counts: Vec<usize> = keyring.keyspaces().map(|(_, keys)| keys.generations().len()).collect();
        assert_eq!(counts, [2, 2, 2, 1, 1]);
        let decoded = Keyring::decode(keyring.database, keyring.generation, &keyring.encode()).unwrap();
        assert_eq!(decoded, keyring);
        assert_eq!(keyring.keyspace_keys(KeyspaceId(6)).unwrap_err().kind(), pugdb_core::ErrorKind::Denied);
    }

    #[test]
    fn keys_of_keyspaces_that_are_erased_are_not_in_it_and_the_others_are() {
        let mut keyring = Keyring::new(DatabaseId([1; 16]), Timestamp(5), &OsRandom);
        keyring.provide(KeyspaceId(4), Timestamp(6), &OsRandom);
        keyring.renew(Timestamp(7), &OsRandom);
        let secrets = |keyring: &Keyring, id| -> Vec<Secret> {
            let keys = keyring.keyspace_keys(KeyspaceId(id)).unwrap();
            keys.generations().iter().map(|generation| generation.key.clone()).collect()
        };
        let [gone, kept] = [2, 3].map(|id| secrets(&keyring, id));
        let unused = KeyspaceId(4);
        keyring.begin_erasure(KeyspaceId(2), unused, Timestamp(8));
        keyring.begin_erasure(KeyspaceId(3), unused, Timestamp(8));
        assert!(keyring.erased().next().is_none() && secrets(&keyring, 2) == gone);
        keyring.give_up_erasure(KeyspaceId(3), unused);
        assert!(keyring.refuse_begun(Some((KeyspaceId(2), unused))));
        assert_eq!(keyring.keyspace_keys(KeyspaceId(2)).unwrap_err().kind(), pugdb_core::ErrorKind::Erased);
        assert_eq!(secrets(&keyring, 3), kept);
        // Until it is ended it is begun, for whoever reads it.
        assert_eq!(
            Keyring::decode(keyring.database, 0, &keyring.encode()).unwrap().begun(),
            [KeyspaceId(2)].into()
        );
        keyring.end_erasures();
        keyring.give_up_erasure(KeyspaceId(2), unused);
        assert!(!keyring.refuse_begun(None));
        assert_eq!(keyring.erased().collect::<Vec<_>>(), [(KeyspaceId(2), Timestamp(8))]);
        let bytes = keyring.encode();
        let holds = |secret: &Secret| bytes.windows(32).any(|window| window == secret.expose());
        assert!(!gone.iter().any(holds) && kept.iter().all(holds));
        // New keys are not made for it, either.
        keyring.renew(Timestamp(9), &OsRandom);
        keyring.provide(KeyspaceId(6), Timestamp(9), &OsRandom);
        let error = keyring.keyspace_keys(KeyspaceId(2)).unwrap_err();
        assert_eq!(error.kind(), pugdb_core::ErrorKind::Erased);
        let decoded = Keyring::decode(keyring.database, keyring.generation, &keyring.encode()).unwrap();
        assert_eq!(decoded, keyring);
    }

    #[test]
    fn a_keyspace_is_erased_with_all_partitions_that_it_ever_had() {
        let id = KeyspaceId;
        let mut keyring = Keyring::new(DatabaseId([1; 16]), Timestamp(5), &OsRandom);
        keyring.provide(id(20), Timestamp(6), &OsRandom);
        for (made, owner) in [(1..2, None), (2..4, Some(1)), (4..5, None), (5..7, Some(1)), (7..9, Some(4))] {
            let (made, owner) = (id(made.start)..id(made.end), owner.map(id));
            keyring.own(&made, owner);
            assert!(keyring.is_owned(&made, owner));
        }
        assert!(!keyring.is_owned(&(id(5)..id(7)), Some(id(1))), "7 and 8 are behind");
        // Those of 4 were not made after all, and are used for something else.
        assert!(!keyring.is_owned(&(id(7)..id(8)), None));
        keyring.own(&(id(7)..id(8)), None);
        let mut keyring = Keyring::decode(keyring.database, 0, &keyring.encode()).unwrap();
        keyring.own(&(id(8)..id(10)), Some(id(1)));
        for keyspace in [1, 4] {
            // 9 was to be made and never was: it may become something else.
            keyring.begin_erasure(id(keyspace), id(9), Timestamp(7));
        }
        assert!(keyring.refuse_begun(None));
        keyring.end_erasures();
        let erased: Vec<u32> = keyring.erased().map(|(keyspace, _)| keyspace.0).collect();
        assert_eq!(erased, [1, 2, 3, 4, 5, 6, 8]);
    }

    #[test]
    fn subjects_have_numbers_of_their_own_each_time() {
        let keyring = Keyring::new(DatabaseId([1; 16]), Timestamp(5), &OsRandom);
        let ids = [("ada", 0), ("ada", 1), ("bob", 0), ("", 0)]
            .map(|(name, times)| keyring.seal_id(name.as_bytes(), times));
        assert!((0..4).all(|at| !ids[at + 1..].contains(&ids[at])));
        let other = Keyring::new(DatabaseId([1; 16]), Timestamp(5), &OsRandom);
        assert_ne!(other.seal_id(b"ada", 0), ids[0], "who knows the name does not know the number");
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
