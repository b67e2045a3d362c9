//! The keys of one file: derived when it is made, from its header when it is read.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use parking_lot::RwLock;
use pugdb_core::coding::Reader;
use pugdb_core::seam::{FileCipher, FileContext, Scope};
use pugdb_core::{Error, KeyspaceId, Result};
use subtle::ConstantTimeEq as _;

use crate::aead::{AeadKey, Algorithm, NONCE_BYTES, TAG_BYTES};
use crate::derive::{Derivation, PUBLIC_BYTES, Purpose, SALT_BYTES};
use crate::keyring::KeyId;
use crate::newer;
use crate::secret::Secret;
use crate::vault::Vault;

/// What the seal of a part adds to it.
pub const PART_SEAL_BYTES: usize = HEADER_BYTES + TAG_BYTES;
const LAYOUT: u8 = 1;
const HEADER_BYTES: usize = 2 + PUBLIC_BYTES + SALT_BYTES + PUBLIC_BYTES;
/// The key of a part seals once.
const PART_NONCE: [u8; NONCE_BYTES] = [0; NONCE_BYTES];

/// What a sealed file's header keeps for its cipher, and a shared file's first frame for each section: enough to derive the key again, with
/// the key it came from. Drawn in `docs/format/sealing.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) algorithm: Algorithm,
    /// The key that this one was derived from.
    pub(crate) parent: KeyId,
    salt: [u8; SALT_BYTES],
    /// To the derived key.
    commitment: [u8; PUBLIC_BYTES],
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(&[LAYOUT, self.algorithm as u8]);
        out.extend_from_slice(&self.parent.0);
        out.extend_from_slice(&self.salt);
        out.extend_from_slice(&self.commitment);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let (layout, algorithm) = (reader.u8()?, reader.u8()?);
        let (LAYOUT, Some(algorithm)) = (layout, Algorithm::from_number(algorithm)) else {
            return Err(newer("the seal of a file"));
        };
        let damaged = || Error::corrupt("a file's key header is damaged; run `pugdb verify`");
        let (parent, salt, commitment) = (KeyId(reader.array()?), reader.array()?, reader.array()?);
        if reader.is_empty() { Ok(Self { algorithm, parent, salt, commitment }) } else { Err(damaged()) }
    }
}

/// What a derived key is for.
#[derive(Clone, Copy)]
enum Derived {
    File,
    Section(KeyspaceId),
}

impl Derived {
    /// The key and the commitment to it.
    fn purposes(self) -> [Purpose; 2] {
        match self {
            Self::File => [Purpose::File, Purpose::FileCommitment],
            Self::Section(_) => [Purpose::Section, Purpose::SectionCommitment],
        }
    }

    /// Everything about the file, in one form.
    fn context(self, algorithm: Algorithm, file: &FileContext) -> [u8; 38] {
        let keyspace = match self {
            Self::File => file.keyspace,
            Self::Section(keyspace) => Some(keyspace),
        };
        let mut out = [0; 38];
        out[0] = algorithm as u8;
        out[1] = file.kind as u8;
        out[2..18].copy_from_slice(&file.database.0);
        out[18..34].copy_from_slice(&file.file.0);
        out[34..].copy_from_slice(&keyspace.map_or(0, |keyspace| keyspace.0).to_le_bytes());
        out
    }
}

/// Bytes of a keyspace that lie where another one's key seals: under a key of its own, which goes with the keyspace.
impl Vault {
    /// The bytes, sealed. Each call has a new key. `place` says where they lie: elsewhere they do not open.
    ///
    /// # Errors
    /// `Erased` when the keyspace was erased, `Denied` when it has no key.
    pub fn seal_part(&self, keyspace: KeyspaceId, place: &[u8], bytes: &[u8]) -> Result<Vec<u8>> {
        let (parent, secret) = self.newest(Some(keyspace))?;
        let mut salt = [0; SALT_BYTES];
        self.env().random.fill(&mut salt);
        let algorithm = self.algorithm;
        let (key, commitment) = self.derive_part(algorithm, keyspace, &secret, &salt);
        let mut out = Header { algorithm, parent, salt, commitment }.encode();
        let from = out.len();
        out.extend_from_slice(bytes);
        key.seal(&PART_NONCE, place, &mut out, from)?;
        Ok(out)
    }

    /// What [`seal_part`](Self::seal_part) was given.
    ///
    /// # Errors
    /// `Erased` when the keyspace was erased, `Denied` when its key is not here, `Corrupt` when it is not what was sealed for this place.
    pub fn open_part(&self, keyspace: KeyspaceId, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>> {
        let damaged = || Error::corrupt("a sealed part of an entry was changed; run `pugdb verify`");
        let (header, content) = sealed.split_at_checked(HEADER_BYTES).ok_or_else(damaged)?;
        let Header { algorithm, parent, salt, commitment } = Header::decode(header)?;
        let secret = self.find(Some(keyspace), &parent)?;
        let (key, expected) = self.derive_part(algorithm, keyspace, &secret, &salt);
        if !bool::from(expected.ct_eq(&commitment)) {
            return Err(damaged());
        }
        let mut bytes = content.to_vec();
        let length = key.open(&PART_NONCE, place, &mut bytes).ok_or_else(damaged)?;
        bytes.truncate(length);
        Ok(bytes)
    }

    fn derive_part(
        &self,
        algorithm: Algorithm,
        keyspace: KeyspaceId,
        secret: &Secret,
        salt: &[u8; SALT_BYTES],
    ) -> (AeadKey, [u8; PUBLIC_BYTES]) {
        let derivation = Derivation::new(secret, salt);
        let context = [&[algorithm as u8], &self.database().0[..], &keyspace.0.to_le_bytes()].concat();
        let key = AeadKey::new(algorithm, &derivation.secret(Purpose::Part, &context));
        (key, derivation.public(Purpose::PartCommitment, &context))
    }
}

/// What a file's keys may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// It was made here: sealing, and opening what was sealed.
    Write,
    /// It was opened: a second writer would use positions again, so it can only open.
    Read,
}

pub(crate) struct SealedFile {
    vault: Arc<Vault>,
    context: FileContext,
    allowed: Use,
    algorithm: Algorithm,
    key: AeadKey,
    /// The section keys of a shared file.
    sections: RwLock<BTreeMap<KeyspaceId, Section>>,
}

struct Section {
    key: AeadKey,
    /// Two introductions of one keyspace in one file have to be the same.
    commitment: [u8; PUBLIC_BYTES],
}

impl SealedFile {
    pub(crate) fn create(
        vault: &Arc<Vault>,
        algorithm: Algorithm,
        (parent, secret): (KeyId, &Secret),
        context: &FileContext,
        salt: [u8; SALT_BYTES],
    ) -> (Header, Self) {
        let (key, commitment) = derive(algorithm, secret, Derived::File, context, &salt);
        let file = Self::new(vault, algorithm, key, context, Use::Write);
        (Header { algorithm, parent, salt, commitment }, file)
    }

    pub(crate) fn open(
        vault: &Arc<Vault>,
        header: &Header,
        secret: &Secret,
        context: &FileContext,
    ) -> Result<Self> {
        let Header { algorithm, salt, commitment, .. } = header;
        let (key, expected) = derive(*algorithm, secret, Derived::File, context, salt);
        if !bool::from(expected.ct_eq(commitment)) {
            return Err(Error::corrupt(
                "a file's header was changed, or belongs to another file; run `pugdb verify`",
            ));
        }
        Ok(Self::new(vault, *algorithm, key, context, Use::Read))
    }

    fn new(
        vault: &Arc<Vault>,
        algorithm: Algorithm,
        key: AeadKey,
        context: &FileContext,
        allowed: Use,
    ) -> Self {
        let (vault, sections) = (Arc::clone(vault), RwLock::default());
        Self { vault, context: *context, allowed, algorithm, key, sections }
    }

    fn with_key<R>(&self, scope: Scope, work: impl FnOnce(&AeadKey) -> R) -> Option<R> {
        match (scope, self.context.keyspace) {
            (Scope::Database, None) => Some(work(&self.key)),
            (Scope::Keyspace(keyspace), Some(own)) if keyspace == own => Some(work(&self.key)),
            (Scope::Keyspace(keyspace), None) => {
                self.sections.read().get(&keyspace).map(|section| work(&section.key))
            }
            _ => None,
        }
    }

    fn refuse_unless_shared(&self, keyspace: KeyspaceId) -> Result<()> {
        match self.context.keyspace {
            None => Ok(()),
            Some(owner) => {
                let message = format!(
                    "keyspace {keyspace} has no section in a file of keyspace {owner}; please report it"
                );
                Err(Error::internal(message))
            }
        }
    }
}

fn derive(
    algorithm: Algorithm,
    parent: &Secret,
    derived: Derived,
    file: &FileContext,
    salt: &[u8; SALT_BYTES],
) -> (AeadKey, [u8; PUBLIC_BYTES]) {
    let derivation = Derivation::new(parent, salt);
    let context = derived.context(algorithm, file);
    let [key, commitment] = derived.purposes();
    (AeadKey::new(algorithm, &derivation.secret(key, &context)), derivation.public(commitment, &context))
}

/// A piece's place in its file is its nonce: no two pieces share one.
fn nonce(position: u64) -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    nonce[4..].copy_from_slice(&position.to_le_bytes());
    nonce
}

impl FileCipher for SealedFile {
    fn tag_bytes(&self) -> usize {
        TAG_BYTES
    }

    fn introduce(&self, keyspace: KeyspaceId) -> Result<Vec<u8>> {
        self.refuse_unless_shared(keyspace)?;
        if self.allowed == Use::Read {
            return Err(Error::internal(
                "a keyspace is introduced in a file that was opened again; please report it",
            ));
        }
        let (parent, secret) = self.vault.newest(Some(keyspace))?;
        let mut salt = [0; SALT_BYTES];
        self.vault.env().random.fill(&mut salt);
        let algorithm = self.algorithm;
        let (key, commitment) = derive(algorithm, &secret, Derived::Section(keyspace), &self.context, &salt);
        match self.sections.write().entry(keyspace) {
            Entry::Occupied(_) => {
                let message =
                    format!("keyspace {keyspace} is introduced twice in one file; please report it");
                return Err(Error::internal(message));
            }
            Entry::Vacant(slot) => slot.insert(Section { key, commitment }),
        };
        Ok(Header { algorithm, parent, salt, commitment }.encode())
    }

    fn accept(&self, keyspace: KeyspaceId, introduction: &[u8]) -> Result<()> {
        self.refuse_unless_shared(keyspace)?;
        let Header { algorithm, parent, salt, commitment } = Header::decode(introduction)?;
        let secret = self.vault.find(Some(keyspace), &parent)?;
        let (key, expected) = derive(algorithm, &secret, Derived::Section(keyspace), &self.context, &salt);
        if !bool::from(expected.ct_eq(&commitment)) {
            return Err(Error::corrupt(format!(
                "the section key of keyspace {keyspace} was changed; run `pugdb verify`"
            )));
        }
        let mut sections = self.sections.write();
        if sections.entry(keyspace).or_insert(Section { key, commitment }).commitment != commitment {
            return Err(Error::corrupt(format!("keyspace {keyspace} has two section keys in one file")));
        }
        Ok(())
    }

    fn seal(
        &self,
        scope: Scope,
        position: u64,
        associated: &[u8],
        data: &mut Vec<u8>,
        from: usize,
    ) -> Result<()> {
        if self.allowed == Use::Read {
            return Err(Error::internal(
                "a piece is sealed in a file that was opened again; please report it",
            ));
        }
        self.with_key(scope, |key| key.seal(&nonce(position), associated, data, from)).unwrap_or_else(|| {
            Err(Error::internal("a piece is sealed without a key of its scope; please report it"))
        })
    }

    fn open(&self, scope: Scope, position: u64, associated: &[u8], sealed: &mut [u8]) -> Result<usize> {
        let opened = self.with_key(scope, |key| key.open(&nonce(position), associated, sealed));
        let opened =
            opened.ok_or_else(|| Error::corrupt("a section has no key in its file; run `pugdb verify`"))?;
        opened.ok_or_else(|| {
            Error::corrupt("a seal is broken: these bytes were changed, or moved here; run `pugdb verify`")
        })
    }
}
