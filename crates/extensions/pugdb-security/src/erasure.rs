//! Subjects: whose values are sealed with which key; and erasure, which destroys keys. Why it is so: `docs/adr/0050-erasure.md`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::RwLock;
use pugdb_core::{Error, KeyspaceId, Result, SealId, Timestamp};

use crate::aead::{AeadKey, Algorithm, NONCE_BYTES, TAG_BYTES};
use crate::audit::{Action, Count, Event, ObjectKind, object};
use crate::certificate::{Certificate, ErasedObject, signer};
use crate::derive::{Derivation, Purpose};
use crate::keyring::{Keyring, NameDigest};
use crate::newer;
use crate::vault::{Rotation, Vault};

/// What the seal of a value adds to it: the algorithm's number, a nonce, a tag.
pub const VALUE_SEAL_BYTES: usize = 1 + NONCE_BYTES + TAG_BYTES;
/// A subject's name is no longer.
pub const SUBJECT_BYTES_MAX: usize = 4096;
/// How often a subject can be erased and come back.
const TIMES_MAX: u32 = 1 << 16;
/// Keys of values that are kept at hand.
const KEYS_KEPT: usize = 2048;
/// Who only reads somebody else's keyring looks this often whether it has changed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Keys of values that were used, so that a subject's is not derived each time.
#[derive(Default)]
pub(crate) struct ValueKeys(RwLock<Kept>);

#[derive(Default)]
struct Kept {
    /// The keyring's generation that they are of.
    generation: u64,
    keys: HashMap<(SealId, KeyspaceId, Algorithm), Arc<AeadKey>>,
}

impl ValueKeys {
    /// Forgets all keys. What is derived from an older keyring does not come back.
    pub(crate) fn clear(&self, generation: u64) {
        *self.0.write() = Kept { generation, keys: HashMap::new() };
    }
}

/// What must not be erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// A subject, by what stands for its name.
    Subject(NameDigest, Timestamp),
    /// A keyspace.
    Keyspace(KeyspaceId, Timestamp),
}

fn gone() -> Error {
    Error::erased("the value was erased: the key of its subject was destroyed, and nothing brings it back")
}

impl Vault {
    /// Whom a value is about: what [`seal_value`](Self::seal_value) takes. A subject that was erased and comes back is another one.
    ///
    /// # Errors
    /// `Invalid` when the name is empty or longer than 4,096 bytes.
    pub fn subject(&self, name: &[u8]) -> Result<SealId> {
        check_subject(name)?;
        let state = self.state.read();
        newest(&state.keyring, name)
    }

    /// A value as it is stored: sealed with the key of its subject, and bound to its keyspace and its key.
    ///
    /// # Errors
    /// `Erased` when the subject was erased.
    pub fn seal_value(
        &self,
        keyspace: KeyspaceId,
        seal: SealId,
        key: &[u8],
        value: &[u8],
    ) -> Result<Vec<u8>> {
        let value_key = self.value_key(seal, keyspace, self.algorithm)?;
        let mut nonce = [0; NONCE_BYTES];
        self.env().random.fill(&mut nonce);
        let mut out = Vec::with_capacity(value.len() + VALUE_SEAL_BYTES);
        out.push(self.algorithm as u8);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(value);
        value_key.seal(&nonce, key, &mut out, 1 + NONCE_BYTES)?;
        Ok(out)
    }

    /// The value that [`seal_value`](Self::seal_value) was given.
    ///
    /// # Errors
    /// `Erased` when the subject was erased, `Corrupt` when it is not what was sealed for this key, `Unsupported` when it is
    /// sealed in a way that only a newer version knows.
    pub fn open_value(
        &self,
        keyspace: KeyspaceId,
        seal: SealId,
        key: &[u8],
        sealed: &[u8],
    ) -> Result<Vec<u8>> {
        let damaged = || Error::corrupt("the seal of a value is broken; run `pugdb verify`");
        let (&algorithm, rest) = sealed.split_first().ok_or_else(damaged)?;
        let Some(algorithm) = Algorithm::from_number(algorithm) else {
            return Err(if self.is_erased(seal)? { gone() } else { newer("the seal of a value") });
        };
        let (nonce, content) = rest.split_first_chunk::<NONCE_BYTES>().ok_or_else(damaged)?;
        let value_key = self.value_key(seal, keyspace, algorithm)?;
        let mut value = content.to_vec();
        let length = value_key.open(nonce, key, &mut value).ok_or_else(damaged)?;
        value.truncate(length);
        Ok(value)
    }

    /// True when a value's key was destroyed.
    ///
    /// # Errors
    /// What keeps it from looking at a keyring that another process changes.
    pub fn is_erased(&self, seal: SealId) -> Result<bool> {
        self.look_again()?;
        Ok(self.state.read().keyring.subjects.is_erased(seal))
    }

    fn value_key(&self, seal: SealId, keyspace: KeyspaceId, algorithm: Algorithm) -> Result<Arc<AeadKey>> {
        self.look_again()?;
        let at = (seal, keyspace, algorithm);
        if let Some(key) = self.values.0.read().keys.get(&at) {
            return Ok(Arc::clone(key));
        }
        let (generation, leaf) = {
            let state = self.state.read();
            (state.keyring.generation, state.keyring.subjects.leaf(seal).ok_or_else(gone)?)
        };
        let context = [&[algorithm as u8][..], &keyspace.0.to_le_bytes()].concat();
        let secret = Derivation::new(&leaf, &[]).secret(Purpose::SubjectValue, &context);
        let key = Arc::new(AeadKey::new(algorithm, &secret));
        let mut kept = self.values.0.write();
        if kept.generation == generation {
            if kept.keys.len() >= KEYS_KEPT {
                kept.keys.clear();
            }
            kept.keys.insert(at, Arc::clone(&key));
        }
        Ok(key)
    }

    /// Somebody else may have erased something since.
    fn look_again(&self) -> Result<()> {
        if !self.is_borrowed {
            return Ok(());
        }
        let now = self.env().clock.monotonic();
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let next = self.look_at_ms.load(Ordering::Acquire);
        let later = u64::try_from((now + LOOK_AGAIN).as_millis()).unwrap_or(u64::MAX);
        let is_mine = now_ms >= next
            && self.look_at_ms.compare_exchange(next, later, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if !is_mine {
            return Ok(());
        }
        // Who cannot find out what was erased shows nothing: the next one looks again.
        self.reload().inspect_err(|_| self.look_at_ms.store(0, Ordering::Release))
    }

    /// Destroys the keys of subjects: their values cannot be read any more, neither here nor in any copy.
    ///
    /// # Errors
    /// `Invalid` for a name that is none, `Denied` when one of them is held: nothing is erased then. As [`rotate`](Self::rotate) else.
    pub fn erase_subjects(&self, names: &[&[u8]]) -> Result<Certificate> {
        names.iter().try_for_each(|name| check_subject(name))?;
        if names.is_empty() {
            return Err(Error::invalid("name a subject to be erased"));
        }
        self.witnessed(
            |vault| vault.about_subjects(Action::EraseSubjects, names),
            || self.destroy_subjects(names),
        )
    }

    /// An event about subjects.
    fn about_subjects(&self, action: Action, names: &[&[u8]]) -> Event {
        let keyring = &self.state.read().keyring;
        let mut event = Event::begun(action);
        event.objects = names.iter().map(|name| object(keyring, ObjectKind::Subject, name)).collect();
        event
    }

    fn destroy_subjects(&self, names: &[&[u8]]) -> Result<Certificate> {
        let mut objects = Vec::new();
        let rotation = self.replace_epoch(|keyring| {
            // Who is named twice is erased once.
            for name in names.iter().collect::<BTreeSet<_>>() {
                let digest = keyring.digest(Purpose::SubjectName, name);
                if let Some(since) = keyring.holds.subjects.get(&digest) {
                    return Err(held("subject", *since));
                }
                let id = newest(keyring, name)?;
                keyring.subjects.erase(id);
                objects.push(ErasedObject::Subject(digest));
            }
            Ok(())
        })?;
        Ok(self.certify(objects, &rotation))
    }

    /// Notes durably that a keyspace is to be erased, with all partitions that it ever had: an open ends it, if nobody does before. It is a rotation
    /// as well, so that what ends it will not lack the root key. `unused` is the first number that no keyspace has had.
    ///
    /// # Errors
    /// `Denied` when it is held, `Erased`; as [`rotate`](Self::rotate) else, and then nobody knows whether it was noted.
    pub fn begin_keyspace_erasure(&self, keyspace: KeyspaceId, unused: KeyspaceId) -> Result<()> {
        let now = self.env().clock.now();
        let noted = self.replace_epoch(|keyring| {
            check_erasable(keyring, keyspace)?;
            keyring.begin_erasure(keyspace, unused, now);
            Ok(())
        });
        noted.map(drop)
    }

    /// Refuses what must not be erased, or cannot be from here, before anything is done.
    ///
    /// # Errors
    /// `Denied` when it is held, or the keyring is only read here; `Erased`, `Closed`.
    pub fn check_erasable(&self, keyspace: KeyspaceId) -> Result<()> {
        self.change.lock().check()?;
        check_erasable(&self.state.read().keyring, keyspace)
    }

    /// Takes back what [`begin_keyspace_erasure`](Self::begin_keyspace_erasure) has noted, or may have.
    ///
    /// # Errors
    /// As [`rotate`](Self::rotate): the next open may erase it.
    pub fn give_up_keyspace_erasure(&self, keyspace: KeyspaceId, unused: KeyspaceId) -> Result<()> {
        let mut own = self.change.lock();
        let mut state = self.state.read().clone();
        state.keyring.give_up_erasure(keyspace, unused);
        self.write(&mut own, state)
    }

    /// Destroys the keys of a keyspace whose erasure was begun, and which nobody writes about any more. `name` stands in the certificate.
    ///
    /// # Errors
    /// As [`rotate`](Self::rotate). Its keys are refused from here on in any case, and the next rotation or open destroys them.
    pub fn end_keyspace_erasure(
        &self,
        keyspace: KeyspaceId,
        unused: KeyspaceId,
        name: &str,
    ) -> Result<Certificate> {
        let rotation = {
            // Together: who rotates meanwhile writes the keyring as he has read it.
            let mut own = self.change.lock();
            self.state.write().keyring.refuse_begun(Some((keyspace, unused)));
            self.replace_epoch_of(&mut own, |_| Ok(()))?
        };
        let digest = self.state.read().keyring.digest(Purpose::KeyspaceName, name.as_bytes());
        Ok(self.certify(vec![ErasedObject::Keyspace(keyspace, digest)], &rotation))
    }

    /// Ends what an erasure that was cut off has begun. Where the keyring cannot be written now, its keys are refused, and the next rotation or
    /// open destroys them.
    pub(crate) fn end_begun_erasures(&self) {
        let mut own = self.change.lock();
        if self.state.write().keyring.refuse_begun(None) {
            let _ = self.replace_epoch_of(&mut own, |_| Ok(()));
        }
    }

    fn certify(&self, objects: Vec<ErasedObject>, rotation: &Rotation) -> Certificate {
        let mut certificate = Certificate::unsigned(self.database(), objects, self.env().clock.now());
        certificate.keyring_before = rotation.keyring_before;
        certificate.keyring_generation = rotation.keyring_generation;
        certificate.provider = self.provider_name();
        certificate.is_root_key_destroyed = rotation.destroyed;
        certificate.sign(&self.state.read().keyring.signing)
    }

    /// The public key that certificates of this database are signed with.
    pub fn signer(&self) -> [u8; 32] {
        signer(&self.state.read().keyring.signing)
    }

    /// True when a certificate is about this name.
    pub fn is_about(&self, object: &ErasedObject, name: &[u8]) -> bool {
        let keyring = &self.state.read().keyring;
        match object {
            ErasedObject::Subject(digest) => *digest == keyring.digest(Purpose::SubjectName, name),
            ErasedObject::Keyspace(_, digest) => *digest == keyring.digest(Purpose::KeyspaceName, name),
        }
    }

    /// Keeps a subject from being erased, until it is released. False when it was held before.
    ///
    /// # Errors
    /// `Invalid` for a name that is none; as [`rotate`](Self::rotate).
    pub fn hold_subject(&self, name: &[u8]) -> Result<bool> {
        check_subject(name)?;
        let now = self.env().clock.now();
        let put = |keyring: &mut Keyring| {
            let digest = keyring.digest(Purpose::SubjectName, name);
            hold(&mut keyring.holds.subjects, digest, now)
        };
        self.witnessed(|vault| vault.about_subjects(Action::Hold, &[name]), || self.change_holds(put))
    }

    /// Ends a hold. False when there was none.
    ///
    /// # Errors
    /// As [`hold_subject`](Self::hold_subject).
    pub fn release_subject(&self, name: &[u8]) -> Result<bool> {
        check_subject(name)?;
        let end = |keyring: &mut Keyring| {
            let digest = keyring.digest(Purpose::SubjectName, name);
            keyring.holds.subjects.remove(&digest).is_some()
        };
        self.witnessed(|vault| vault.about_subjects(Action::Release, &[name]), || self.change_holds(end))
    }

    /// Keeps a keyspace from being erased, until it is released. False when it was held before.
    ///
    /// # Errors
    /// `Erased` when it is too late; as [`rotate`](Self::rotate).
    pub fn hold_keyspace(&self, keyspace: KeyspaceId) -> Result<bool> {
        self.state.read().keyring.keyspace_keys(keyspace)?;
        let now = self.env().clock.now();
        let put = |keyring: &mut Keyring| hold(&mut keyring.holds.keyspaces, keyspace, now);
        self.witnessed(|_| about_keyspace(Action::Hold, keyspace), || self.change_holds(put))
    }

    /// Ends a hold. False when there was none.
    ///
    /// # Errors
    /// As [`rotate`](Self::rotate).
    pub fn release_keyspace(&self, keyspace: KeyspaceId) -> Result<bool> {
        let end = |keyring: &mut Keyring| keyring.holds.keyspaces.remove(&keyspace).is_some();
        self.witnessed(|_| about_keyspace(Action::Release, keyspace), || self.change_holds(end))
    }

    /// What is held.
    pub fn held(&self) -> Vec<Held> {
        let holds = &self.state.read().keyring.holds;
        let subjects = holds.subjects.iter().map(|(digest, since)| Held::Subject(*digest, *since));
        let keyspaces = holds.keyspaces.iter().map(|(keyspace, since)| Held::Keyspace(*keyspace, *since));
        subjects.chain(keyspaces).collect()
    }

    fn change_holds(&self, change: impl FnOnce(&mut Keyring) -> bool) -> Result<bool> {
        let mut own = self.change.lock();
        let mut state = self.state.read().clone();
        let is_changed = change(&mut state.keyring);
        if is_changed {
            self.write(&mut own, state)?;
        }
        Ok(is_changed)
    }
}

/// An event about a keyspace, of which only the number is known here.
fn about_keyspace(action: Action, keyspace: KeyspaceId) -> Event {
    Event::begun(action).count(Count::Keyspace, u64::from(keyspace.0))
}

fn check_erasable(keyring: &Keyring, keyspace: KeyspaceId) -> Result<()> {
    keyring.keyspace_keys(keyspace)?;
    keyring.holds.keyspaces.get(&keyspace).map_or(Ok(()), |since| Err(held("keyspace", *since)))
}

fn check_subject(name: &[u8]) -> Result<()> {
    if (1..=SUBJECT_BYTES_MAX).contains(&name.len()) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "the name of a subject has 1 to {SUBJECT_BYTES_MAX} bytes; this one has {}",
        name.len()
    )))
}

/// The first number of a subject that has a key.
fn newest(keyring: &Keyring, name: &[u8]) -> Result<SealId> {
    let mut ids = (0..TIMES_MAX).map(|times| keyring.seal_id(name, times));
    ids.find(|id| !keyring.subjects.is_erased(*id))
        .ok_or_else(|| Error::invalid("this subject was erased too often; give it another name"))
}

/// False when it was held before: that is since when it is.
fn hold<T: Ord>(holds: &mut BTreeMap<T, Timestamp>, what: T, now: Timestamp) -> bool {
    let count = holds.len();
    holds.entry(what).or_insert(now);
    holds.len() > count
}

fn held(what: &str, since: Timestamp) -> Error {
    Error::denied(format!("the {what} is under legal hold since {}; release it first", since.utc()))
}
