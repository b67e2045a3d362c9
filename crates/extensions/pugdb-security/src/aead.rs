//! Authenticated encryption: the wrapper around the one library that does it.

use std::fmt;

use pugdb_core::{Error, Result};
use ring::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use crate::secret::Secret;
use crate::wiped::Wiped;

/// What a seal adds to what it seals.
pub const TAG_BYTES: usize = 16;
/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 12;

/// A way to seal. The numbers are part of the disk format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Algorithm {
    /// AES-256 in Galois counter mode (NIST SP 800-38D).
    Aes256Gcm = 1,
    /// `ChaCha20` and Poly1305 (RFC 8439).
    ChaCha20Poly1305 = 2,
}

impl Algorithm {
    /// What this machine does fastest: AES where the processor has instructions for it.
    pub fn of_this_machine() -> Self {
        #[cfg(target_arch = "x86_64")]
        let has_aes =
            std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
        #[cfg(target_arch = "aarch64")]
        let has_aes = std::arch::is_aarch64_feature_detected!("aes")
            && std::arch::is_aarch64_feature_detected!("pmull");
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let has_aes = false;
        if has_aes { Self::Aes256Gcm } else { Self::ChaCha20Poly1305 }
    }

    /// Reads the number in a header.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Aes256Gcm, Self::ChaCha20Poly1305].into_iter().find(|algorithm| *algorithm as u8 == number)
    }

    /// The name in standards.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes256Gcm => "AES-256-GCM",
            Self::ChaCha20Poly1305 => "ChaCha20-Poly1305",
        }
    }
}

/// A key that seals and opens.
///
/// Whoever seals sees to it that no nonce meets a key twice: two contents under one nonce give away their difference, and with AES-GCM the
/// means to forge.
///
/// ```
/// use pugdb_core::env::os::OsRandom;
/// use pugdb_security::{AeadKey, Algorithm, Secret};
///
/// let key = AeadKey::new(Algorithm::Aes256Gcm, &Secret::random(&OsRandom));
/// let mut data = b"headpug".to_vec();
/// key.seal(&[0; 12], b"about", &mut data, 4)?;
/// assert_eq!((&data[..4], data.len()), (&b"head"[..], 4 + 3 + 16));
/// assert_eq!(key.open(&[0; 12], b"about", &mut data[4..]), Some(3));
/// assert_eq!(&data[..7], b"headpug");
/// # Ok::<(), pugdb_core::Error>(())
/// ```
pub struct AeadKey(Wiped<LessSafeKey>);

impl AeadKey {
    /// A key for an algorithm.
    pub fn new(algorithm: Algorithm, secret: &Secret) -> Self {
        let algorithm = match algorithm {
            Algorithm::Aes256Gcm => &AES_256_GCM,
            Algorithm::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        };
        let key = UnboundKey::new(algorithm, secret.expose()).expect("both algorithms take 32 bytes");
        Self(Wiped::new(LessSafeKey::new(key)))
    }

    /// Where it lies.
    #[cfg(all(test, target_os = "linux"))]
    pub(crate) fn address(&self) -> usize {
        std::ptr::from_ref(&*self.0).addr()
    }

    /// Seals `data[from..]` in its place and appends the tag.
    ///
    /// # Errors
    /// `Invalid` when there is more than a seal can cover (64 GiB).
    pub fn seal(
        &self,
        nonce: &[u8; NONCE_BYTES],
        associated: &[u8],
        data: &mut Vec<u8>,
        from: usize,
    ) -> Result<()> {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce, Aad::from(associated), &mut data[from..])
            .map_err(|_| Error::invalid("a piece is too long for one seal"))?;
        data.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Opens `sealed`, content and tag, in its place: the length of the content, or `None` when it is not what was sealed so. What is in
    /// `sealed` is of no use then.
    pub fn open(&self, nonce: &[u8; NONCE_BYTES], associated: &[u8], sealed: &mut [u8]) -> Option<usize> {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        self.0.open_in_place(nonce, Aad::from(associated), sealed).ok().map(|content| content.len())
    }
}

impl fmt::Debug for AeadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AeadKey")
    }
}
