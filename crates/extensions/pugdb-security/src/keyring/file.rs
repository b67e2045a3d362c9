//! A keyring as a file, drawn in `docs/format/keyring.md`: a head that says who can open it, the keys, sealed.

use std::io;
use std::path::{Path, PathBuf};

use pugdb_core::coding::{Reader, index};
use pugdb_core::env::{Access, Env};
use pugdb_core::{DatabaseId, Error, Result};
use subtle::ConstantTimeEq as _;

use super::Keyring;
use crate::aead::{AeadKey, Algorithm, NONCE_BYTES, TAG_BYTES};
use crate::derive::{Derivation, PUBLIC_BYTES, Purpose, SALT_BYTES};
use crate::newer;
use crate::secret::Secret;

const MAGIC: [u8; 8] = *b"PugKeys\n";
const VERSION: u16 = 1;
/// Where every version has its length, and behind how much of a file its checksum begins at the earliest.
const LENGTH_AT: usize = 12;
/// Magic, version, algorithm, zero, length, database, generation, length of the wrapped epoch key.
const PREFIX_BYTES: usize = 8 + 2 + 1 + 1 + 4 + 16 + 8 + 4;
/// A provider's answer: a wrapped key and what it needs to unwrap it.
pub(crate) const WRAPPED_BYTES_MAX: usize = 16 << 10;
/// Two million keyspaces, or 130,000 erased subjects. A longer file is none of ours.
pub(crate) const FILE_BYTES_MAX: u64 = 256 << 20;
const CHECKSUM_BYTES: usize = 8;
/// Each file has a key of its own, which seals once.
const NONCE: [u8; NONCE_BYTES] = [0; NONCE_BYTES];

/// What a keyring's file says before it is opened.
#[derive(Debug)]
pub(crate) struct SealedKeyring {
    algorithm: Algorithm,
    pub(crate) database: DatabaseId,
    pub(crate) generation: u64,
    /// The epoch key as the provider has wrapped it.
    pub(crate) wrapped: Vec<u8>,
    /// The salt and all before it.
    associated: Vec<u8>,
    commitment: [u8; PUBLIC_BYTES],
    sealed: Vec<u8>,
}

/// The file of a keyring that `epoch` seals. `wrapped` is how the provider finds `epoch` again.
pub(crate) fn encode(
    keyring: &Keyring,
    algorithm: Algorithm,
    epoch: &Secret,
    wrapped: &[u8],
    salt: &[u8; SALT_BYTES],
) -> Result<Vec<u8>> {
    let mut content = keyring.encode();
    let length =
        PREFIX_BYTES + wrapped.len() + SALT_BYTES + PUBLIC_BYTES + content.len() + TAG_BYTES + CHECKSUM_BYTES;
    let too_long = || {
        Error::invalid(
            "the keyring would be larger than 256 MiB: there is no room for more keyspaces or erased subjects",
        )
    };
    let narrow = |length: usize| u32::try_from(length).map_err(|_| too_long());
    if length as u64 > FILE_BYTES_MAX || wrapped.len() > WRAPPED_BYTES_MAX {
        return Err(too_long());
    }
    let mut out = Vec::with_capacity(length);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[algorithm as u8, 0]);
    out.extend_from_slice(&narrow(length)?.to_le_bytes());
    out.extend_from_slice(&keyring.database.0);
    out.extend_from_slice(&keyring.generation.to_le_bytes());
    out.extend_from_slice(&narrow(wrapped.len())?.to_le_bytes());
    out.extend_from_slice(wrapped);
    out.extend_from_slice(salt);
    let derived = Derivation::new(epoch, salt);
    let key = AeadKey::new(algorithm, &derived.secret(Purpose::Keyring, &out));
    // With room for the tag: a buffer that grows would leave the keys behind.
    content.reserve_exact(TAG_BYTES);
    key.seal(&NONCE, &out, &mut content, 0)?;
    let commitment = derived.public(Purpose::KeyringCommitment, &out);
    out.extend_from_slice(&commitment);
    out.extend_from_slice(&content);
    out.extend_from_slice(&xxhash_rust::xxh3::xxh3_64(&out).to_le_bytes());
    Ok(out)
}

fn damaged() -> Error {
    Error::corrupt("the keyring is damaged; put back a copy of it that is not older than the data")
}

/// What every version has: magic, the version, the length, and a checksum of all before it at the end. Only what is whole is asked for its version:
/// a damaged one is damaged, and no newer version's.
fn envelope(bytes: &[u8]) -> Result<(u16, &[u8])> {
    let (content, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or_else(damaged)?;
    let mut reader = Reader::new(content);
    let (magic, version) = (reader.array()?, reader.u16()?);
    reader.take(LENGTH_AT - 10)?;
    let length = index(u64::from(reader.u32()?));
    let is_whole = magic == MAGIC
        && length == bytes.len()
        && xxhash_rust::xxh3::xxh3_64(content).to_le_bytes() == *checksum;
    if is_whole { Ok((version, content)) } else { Err(damaged()) }
}

/// Reads the head of a keyring's file.
///
/// # Errors
/// `Corrupt` when it is damaged or cut, `Unsupported` when a newer version has written it.
pub(crate) fn decode(bytes: &[u8]) -> Result<SealedKeyring> {
    let (version, content) = envelope(bytes)?;
    if version < VERSION {
        return Err(Error::invalid(format!(
            "the keyring has format version {version}, and this build reads {VERSION}; export with the PugDB that wrote it"
        )));
    }
    let mut reader = Reader::new(&content[MAGIC.len() + 2..]);
    let (algorithm, zero) = (Algorithm::from_number(reader.u8()?), reader.u8()?);
    let (VERSION, Some(algorithm), 0) = (version, algorithm, zero) else { return Err(newer("the keyring")) };
    reader.u32()?;
    let (database, generation) = (DatabaseId(reader.array()?), reader.u64()?);
    let wrapped = index(u64::from(reader.u32()?));
    let wrapped = reader.take(wrapped)?.to_vec();
    reader.take(SALT_BYTES)?;
    let associated = content[..PREFIX_BYTES + wrapped.len() + SALT_BYTES].to_vec();
    let commitment = reader.array()?;
    Ok(SealedKeyring {
        algorithm,
        database,
        generation,
        wrapped,
        associated,
        commitment,
        sealed: reader.rest().to_vec(),
    })
}

impl SealedKeyring {
    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// How long the file is.
    pub(crate) fn file_bytes(&self) -> u64 {
        (self.associated.len() + PUBLIC_BYTES + self.sealed.len() + CHECKSUM_BYTES) as u64
    }

    /// Opens it with the epoch key.
    ///
    /// # Errors
    /// `Denied` when it is another key's, `Corrupt` when it was changed.
    pub(crate) fn open(mut self, epoch: &Secret) -> Result<Keyring> {
        let salt = &self.associated[self.associated.len() - SALT_BYTES..];
        let derived = Derivation::new(epoch, salt);
        let commitment = derived.public(Purpose::KeyringCommitment, &self.associated);
        if !bool::from(commitment.ct_eq(&self.commitment)) {
            return Err(Error::corrupt("the keyring's head was changed; put back a copy of the keyring"));
        }
        let key = AeadKey::new(self.algorithm, &derived.secret(Purpose::Keyring, &self.associated));
        let length = key
            .open(&NONCE, &self.associated, &mut self.sealed)
            .ok_or_else(|| Error::corrupt("the keyring was changed; put back a copy of it"))?;
        let content = zeroize::Zeroizing::new(std::mem::take(&mut self.sealed));
        Keyring::decode(self.database, self.generation, &content[..length])
    }
}

/// Reads a keyring's file; `None` when there is none.
///
/// # Errors
/// What the disk says; as [`decode`].
pub(crate) fn read(env: &Env, path: &Path) -> Result<Option<SealedKeyring>> {
    let doing = |error| Error::io("read the keyring", error);
    let file = match env.fs.open(path, Access::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(doing)?,
    };
    let length = file.length().map_err(doing)?;
    if length > FILE_BYTES_MAX {
        return Err(Error::corrupt("the keyring is larger than a keyring can be; put back a copy of it"));
    }
    let mut bytes = vec![0; index(length)];
    file.read_exact_at(&mut bytes, 0).map_err(doing)?;
    decode(&bytes).map(Some)
}

/// Puts a file in the place of another one, in one step that is done or not, and durable when this returns.
///
/// # Errors
/// What the disk says. Which of the two is there is unknown then: the next open takes the one that is.
pub(crate) fn replace(env: &Env, path: &Path, bytes: &[u8], private: bool) -> io::Result<()> {
    let dir = path.parent().unwrap_or_else(|| Path::new("."));
    let new = beside(path);
    let _ = env.fs.remove(&new);
    let file = if private { env.fs.create_private(&new) } else { env.fs.create(&new) }?;
    file.write_at(bytes, 0)?;
    file.sync_data()?;
    env.fs.rename(&new, path)?;
    env.fs.sync_dir(dir)
}

/// Where a file's next version is written.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}
