//! Checksums bound to where the bytes belong: the file's random id and the position in it.

use pugdb_core::FileId;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// A file's seed for every checksum in it.
///
/// A block of another file, or of another place in the same file, has another checksum even when its bytes are
/// intact, so a misplaced write is noticed. XXH3, 64 bits: <https://github.com/Cyan4973/xxHash>.
#[derive(Clone, Copy, Debug)]
pub struct Checksum {
    seed: u64,
}

impl Checksum {
    /// The seed of the file `id`.
    pub fn of(id: FileId) -> Self {
        Self { seed: xxh3_64(&id.0) }
    }

    /// The checksum of `bytes` at `position`.
    pub fn at(self, position: u64, bytes: &[u8]) -> u64 {
        // An odd multiplier spreads neighbouring positions over the whole seed.
        xxh3_64_with_seed(bytes, self.seed ^ position.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}
