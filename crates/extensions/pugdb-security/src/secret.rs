//! A key as memory holds it: 32 bytes that nothing prints and that are gone with their owner.

use std::fmt;

use pugdb_core::env::Random;
use subtle::ConstantTimeEq as _;

use crate::wiped::Wiped;

/// Bytes of every key and of everything that is derived.
pub const KEY_BYTES: usize = 32;

/// 256 secret bytes. They are overwritten when this is dropped, compared in constant time, and lie where no core dump takes them along
/// (on Linux; [`KeyMemory`](crate::KeyMemory)).
///
/// ```
/// use pugdb_core::env::os::OsRandom;
/// use pugdb_security::Secret;
///
/// let secret = Secret::random(&OsRandom);
/// assert_eq!(format!("{secret:?}"), "Secret(32 bytes)");
/// assert!(secret != Secret::random(&OsRandom));
/// ```
pub struct Secret(Wiped<[u8; KEY_BYTES]>);

impl Clone for Secret {
    fn clone(&self) -> Self {
        Self::copy(self.expose())
    }
}

impl Secret {
    /// A new one.
    pub fn random(random: &dyn Random) -> Self {
        Self::fill(|bytes| random.fill(bytes))
    }

    /// One that `fill` writes in its place, so that no copy is left behind on a stack.
    pub fn fill(fill: impl FnOnce(&mut [u8; KEY_BYTES])) -> Self {
        let mut secret = Self(Wiped::new([0; KEY_BYTES]));
        fill(&mut secret.0);
        secret
    }

    /// One from bytes that the caller has to overwrite.
    pub fn copy(bytes: &[u8; KEY_BYTES]) -> Self {
        Self::fill(|secret| secret.copy_from_slice(bytes))
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(32 bytes)")
    }
}
