//! An epoch key as a token wraps it, drawn in `docs/format/keyring.md`. Nobody sees the key that wraps it, so nothing can be derived from that:
//! the commitment is to the epoch key, and a hash of what lies there tells damage from a wrong key.

use pugdb_core::coding::Reader;
use pugdb_core::{DatabaseId, Error, Result};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::super::Kind;
use super::super::kept::KeyName;
use crate::aead::{NONCE_BYTES, TAG_BYTES};
use crate::derive::{Derivation, PUBLIC_BYTES, Purpose};
use crate::secret::{KEY_BYTES, Secret};

const SEALED_BYTES: usize = KEY_BYTES + TAG_BYTES;

/// AES-256-GCM under one key, which is never seen.
pub(super) trait Gcm {
    /// Ciphertext and tag. Tokens that make their own nonces write it into `nonce`.
    fn encrypt(&mut self, nonce: &mut [u8; NONCE_BYTES], associated: &[u8], plain: &[u8]) -> Result<Vec<u8>>;

    /// `None` when the tag says that it was another key, or something else.
    fn decrypt(
        &mut self,
        nonce: &mut [u8; NONCE_BYTES],
        associated: &[u8],
        sealed: &[u8],
    ) -> Result<Option<Zeroizing<Vec<u8>>>>;
}

/// Wraps `epoch`. `nonce` is random; no key wraps a second time.
pub(super) fn seal(
    key: &mut dyn Gcm,
    (database, name): (DatabaseId, KeyName),
    mut nonce: [u8; NONCE_BYTES],
    epoch: &Secret,
) -> Result<Vec<u8>> {
    let context = context(database, name);
    let sealed = key.encrypt(&mut nonce, &context, epoch.expose())?;
    if sealed.len() != SEALED_BYTES {
        return Err(Error::unavailable(
            "the token answers with another length than AES-256-GCM has; ask its maker for a newer module",
        ));
    }
    let mut out = nonce.to_vec();
    out.extend_from_slice(&commitment(epoch, &context));
    out.extend_from_slice(&sealed);
    out.extend_from_slice(&hash(&context, &out));
    Ok(out)
}

/// What [`seal`] was given.
///
/// # Errors
/// `Denied` when another key has wrapped it, `Corrupt` when it was changed.
pub(super) fn open(
    key: &mut dyn Gcm,
    (database, name): (DatabaseId, KeyName),
    wrapped: &[u8],
) -> Result<Secret> {
    let changed =
        || Error::corrupt("the wrapped key in the keyring was changed; put back a copy of the keyring");
    let context = context(database, name);
    let (content, expected) = wrapped.split_last_chunk::<PUBLIC_BYTES>().ok_or_else(changed)?;
    if content.len() != NONCE_BYTES + PUBLIC_BYTES + SEALED_BYTES || hash(&context, content) != *expected {
        return Err(changed());
    }
    let mut reader = Reader::new(content);
    let (mut nonce, expected) = (reader.array()?, reader.array::<PUBLIC_BYTES>()?);
    // What lies there is what was written: if it does not open, it is the key that is another one.
    let plain = key.decrypt(&mut nonce, &context, reader.rest())?.ok_or_else(|| {
        Error::denied(format!(
            "wrong key: root key {} of the token is not the one that sealed the keyring, whatever its name says",
            name.digits()
        ))
    })?;
    let plain: &[u8; KEY_BYTES] = plain.as_slice().try_into().map_err(|_| changed())?;
    let epoch = Secret::copy(plain);
    // One ciphertext can have a right tag under two keys of AES-GCM. Two epoch keys do not have one commitment.
    let is_it = commitment(&epoch, &context).ct_eq(&expected);
    if bool::from(is_it) { Ok(epoch) } else { Err(changed()) }
}

/// Of one database and one key: nothing that was wrapped for another one opens.
fn context(database: DatabaseId, name: KeyName) -> Vec<u8> {
    [&[Kind::Token as u8][..], &database.0, &name.0].concat()
}

fn commitment(epoch: &Secret, context: &[u8]) -> [u8; PUBLIC_BYTES] {
    Derivation::new(epoch, &[]).public(Purpose::EpochCommitment, context)
}

fn hash(context: &[u8], content: &[u8]) -> [u8; PUBLIC_BYTES] {
    *blake3::Hasher::new().update(context).update(content).finalize().as_bytes()
}

#[cfg(test)]
pub(super) mod tests {
    use pugdb_core::ErrorKind;
    use pugdb_core::env::Random as _;
    use pugdb_core::env::os::OsRandom;

    use super::*;
    use crate::aead::{AeadKey, Algorithm};

    /// As a token does it.
    impl Gcm for AeadKey {
        fn encrypt(
            &mut self,
            nonce: &mut [u8; NONCE_BYTES],
            associated: &[u8],
            plain: &[u8],
        ) -> Result<Vec<u8>> {
            let mut out = plain.to_vec();
            self.seal(nonce, associated, &mut out, 0)?;
            Ok(out)
        }

        fn decrypt(
            &mut self,
            nonce: &mut [u8; NONCE_BYTES],
            associated: &[u8],
            sealed: &[u8],
        ) -> Result<Option<Zeroizing<Vec<u8>>>> {
            let mut out = Zeroizing::new(sealed.to_vec());
            let length = self.open(nonce, associated, &mut out);
            Ok(length.map(|length| Zeroizing::new(out[..length].to_vec())))
        }
    }

    pub(in super::super) fn new_key() -> AeadKey {
        AeadKey::new(Algorithm::Aes256Gcm, &Secret::random(&OsRandom))
    }

    const PLACE: (DatabaseId, KeyName) = (DatabaseId([1; 16]), KeyName([2; 8]));

    fn nonce() -> [u8; NONCE_BYTES] {
        let mut nonce = [0; NONCE_BYTES];
        OsRandom.fill(&mut nonce);
        nonce
    }

    #[test]
    fn a_wrapped_key_opens_with_its_own_key_and_place_and_every_changed_bit_is_noticed() {
        let (mut key, epoch) = (new_key(), Secret::random(&OsRandom));
        let wrapped = seal(&mut key, PLACE, nonce(), &epoch).unwrap();
        assert!(open(&mut key, PLACE, &wrapped).unwrap() == epoch);
        let kind = |outcome: Result<Secret>| outcome.map(|_| ()).unwrap_err().kind();
        for bit in 0..wrapped.len() * 8 {
            let mut changed = wrapped.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(kind(open(&mut key, PLACE, &changed)), ErrorKind::Corrupt, "bit {bit}");
        }
        for length in 0..wrapped.len() {
            assert_eq!(kind(open(&mut key, PLACE, &wrapped[..length])), ErrorKind::Corrupt, "{length}");
        }
        for place in [(DatabaseId([9; 16]), PLACE.1), (PLACE.0, KeyName([9; 8]))] {
            assert_eq!(kind(open(&mut key, place, &wrapped)), ErrorKind::Corrupt);
        }
        assert_eq!(kind(open(&mut new_key(), PLACE, &wrapped)), ErrorKind::Denied, "another key of its name");
    }

    #[test]
    fn who_makes_the_hash_anew_is_stopped_by_the_tag_the_context_and_the_commitment() {
        let (mut key, epoch) = (new_key(), Secret::random(&OsRandom));
        let wrapped = seal(&mut key, PLACE, nonce(), &epoch).unwrap();
        let rehashed = |mut content: Vec<u8>, (database, name)| {
            content.extend_from_slice(&hash(&context(database, name), &content));
            content
        };
        let content = wrapped[..wrapped.len() - PUBLIC_BYTES].to_vec();
        for at in 0..content.len() {
            let mut changed = content.clone();
            changed[at] ^= 1;
            let is_commitment = (NONCE_BYTES..NONCE_BYTES + PUBLIC_BYTES).contains(&at);
            let expected = if is_commitment { ErrorKind::Corrupt } else { ErrorKind::Denied };
            let error = open(&mut key, PLACE, &rehashed(changed, PLACE)).map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), expected, "byte {at}: {error}");
        }
        // Moved to another database, or another key's name.
        for place in [(DatabaseId([9; 16]), PLACE.1), (PLACE.0, KeyName([9; 8]))] {
            let error = open(&mut key, place, &rehashed(content.clone(), place)).map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied);
        }
        // A right tag, of something else: what AES-GCM alone would take.
        let mut nonce = nonce();
        let other = Gcm::encrypt(&mut key, &mut nonce, &context(PLACE.0, PLACE.1), &[7; 32]).unwrap();
        let forged = [&nonce[..], &content[NONCE_BYTES..NONCE_BYTES + PUBLIC_BYTES], &other].concat();
        let error = open(&mut key, PLACE, &rehashed(forged, PLACE)).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn a_token_that_makes_its_own_nonce_is_read_with_that_one_and_another_answer_is_refused() {
        struct Stubborn(AeadKey, usize);
        impl Gcm for Stubborn {
            fn encrypt(
                &mut self,
                nonce: &mut [u8; NONCE_BYTES],
                with: &[u8],
                plain: &[u8],
            ) -> Result<Vec<u8>> {
                *nonce = [0xee; NONCE_BYTES];
                let mut out = Gcm::encrypt(&mut self.0, nonce, with, plain)?;
                out.truncate(self.1);
                Ok(out)
            }

            fn decrypt(
                &mut self,
                nonce: &mut [u8; NONCE_BYTES],
                with: &[u8],
                sealed: &[u8],
            ) -> Result<Option<Zeroizing<Vec<u8>>>> {
                Gcm::decrypt(&mut self.0, nonce, with, sealed)
            }
        }
        let epoch = Secret::random(&OsRandom);
        let mut token = Stubborn(new_key(), SEALED_BYTES);
        let wrapped = seal(&mut token, PLACE, nonce(), &epoch).unwrap();
        assert_eq!(wrapped[..NONCE_BYTES], [0xee; NONCE_BYTES]);
        assert!(open(&mut token, PLACE, &wrapped).unwrap() == epoch);
        token.1 = SEALED_BYTES - 1;
        assert_eq!(seal(&mut token, PLACE, nonce(), &epoch).unwrap_err().kind(), ErrorKind::Unavailable);
    }
}
