//! Values that prove whose they are: a version, printable bytes, and a checksum over them, the version and the key.

use pugdb::{Error, Result};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::limits;
use crate::random::Random;

/// Makes values of one size, and knows them again.
///
/// ```text
/// version u64 | printable bytes, random as those of YCSB | checksum u64 over key, version and bytes
/// ```
#[derive(Debug)]
pub struct Values {
    bytes: usize,
    /// Values are cut out of it.
    pool: Vec<u8>,
}

/// Larger than what a block or a compression window sees of it, so that values do not compress by their likeness; small
/// enough for a cache.
const POOL_BYTES: usize = 1 << 20;
const VERSION_BYTES: usize = 8;
const CHECKSUM_BYTES: usize = 8;

impl Values {
    /// Values of this size.
    ///
    /// # Errors
    /// `Invalid` when it is out of range.
    pub fn new(bytes: usize, seed: u64) -> Result<Self> {
        if !(limits::VALUE_BYTES_MIN..=limits::VALUE_BYTES_MAX).contains(&bytes) {
            return Err(Error::invalid(format!(
                "values of {bytes} bytes are asked for; {} to {} are possible",
                limits::VALUE_BYTES_MIN,
                limits::VALUE_BYTES_MAX
            )));
        }
        let mut random = Random::for_part(seed, u64::MAX);
        let printable = |random: &mut Random| b' ' + u8::try_from(random.below(95)).expect("below 95");
        Ok(Self { bytes, pool: (0..POOL_BYTES + bytes).map(|_| printable(&mut random)).collect() })
    }

    /// The size of every value.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts the value of this version of a key into `value`, whatever was in it.
    pub fn make(&self, key: &[u8], version: u64, value: &mut Vec<u8>) {
        let length = self.bytes - VERSION_BYTES - CHECKSUM_BYTES;
        let seed = seed(key, version);
        let at = usize::try_from(seed).unwrap_or(usize::MAX) % POOL_BYTES;
        let body = &self.pool[at..at + length];
        value.clear();
        value.extend_from_slice(&version.to_le_bytes());
        value.extend_from_slice(body);
        value.extend_from_slice(&xxh3_64_with_seed(body, seed).to_le_bytes());
    }

    /// True when `value` is whole, and of this key.
    pub fn is_of(&self, key: &[u8], value: &[u8]) -> bool {
        if value.len() != self.bytes {
            return false;
        }
        let Some((version, rest)) = value.split_first_chunk::<VERSION_BYTES>() else { return false };
        let Some((body, checksum)) = rest.split_last_chunk::<CHECKSUM_BYTES>() else { return false };
        xxh3_64_with_seed(body, seed(key, u64::from_le_bytes(*version))) == u64::from_le_bytes(*checksum)
    }
}

fn seed(key: &[u8], version: u64) -> u64 {
    xxh3_64(key) ^ version.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_known_by_its_key_and_by_nothing_else() {
        for bytes in [limits::VALUE_BYTES_MIN, 100, 1_000, 5_000] {
            let values = Values::new(bytes, 1).unwrap();
            let mut value = Vec::new();
            values.make(b"ada", 7, &mut value);
            assert_eq!(value.len(), bytes);
            assert!(values.is_of(b"ada", &value));
            assert!(!values.is_of(b"bob", &value));
        }
    }

    #[test]
    fn a_value_with_one_bit_wrong_is_caught() {
        let values = Values::new(100, 1).unwrap();
        let mut value = Vec::new();
        values.make(b"ada", 7, &mut value);
        for at in 0..value.len() {
            value[at] ^= 1;
            assert!(!values.is_of(b"ada", &value), "byte {at}");
            value[at] ^= 1;
        }
        assert!(values.is_of(b"ada", &value));
    }

    #[test]
    fn a_value_torn_between_two_versions_is_caught() {
        let values = Values::new(100, 1).unwrap();
        let (mut old, mut new) = (Vec::new(), Vec::new());
        values.make(b"ada", 7, &mut old);
        values.make(b"ada", 8, &mut new);
        for cut in 1..old.len() - 1 {
            let torn = [&new[..cut], &old[cut..]].concat();
            assert!(torn == old || torn == new || !values.is_of(b"ada", &torn), "cut at {cut}");
        }
        for length in [0, 1, 8, 16, 99] {
            assert!(!values.is_of(b"ada", &old[..length]), "{length} bytes");
        }
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        for bytes in [0, limits::VALUE_BYTES_MIN - 1, limits::VALUE_BYTES_MAX + 1] {
            assert_eq!(Values::new(bytes, 1).unwrap_err().kind(), pugdb::ErrorKind::Invalid);
        }
    }
}
