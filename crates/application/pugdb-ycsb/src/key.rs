//! Keys: `user` and twenty digits of the hashed number of the record, so that neighbours in time are none in order.

/// Every key has this many bytes.
pub const KEY_BYTES: usize = 24;

/// A key.
pub type Key = [u8; KEY_BYTES];

const PREFIX: &[u8; 4] = b"user";

/// 64-bit FNV-1a over the eight bytes of a number, made positive, as YCSB's `Utils.fnvhash64`.
pub(crate) fn fnv_hash(number: u64) -> u64 {
    let hash = number.to_le_bytes().into_iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    hash.cast_signed().unsigned_abs()
}

/// The key of a record.
pub fn key(record: u64) -> Key {
    spell(fnv_hash(record))
}

/// A key in the same shape and range that no record has: the hash of a number beyond all records.
pub fn absent_key(number: u64) -> Key {
    key(number | 1 << 63)
}

/// The key with this number behind the prefix.
pub(crate) fn spell(mut number: u64) -> Key {
    let mut key = [b'0'; KEY_BYTES];
    key[..PREFIX.len()].copy_from_slice(PREFIX);
    // Two digits a step: half the divisions.
    for pair in key[PREFIX.len()..].rchunks_exact_mut(2) {
        pair.copy_from_slice(&PAIRS[usize::try_from(number % 100).expect("below 100")]);
        number /= 100;
    }
    key
}

/// The number behind the prefix.
pub(crate) fn number_of(key: &[u8]) -> u64 {
    let digits = key.get(PREFIX.len()..).unwrap_or_default();
    digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}

/// `00` to `99`.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [*b"00"; 100];
    let (mut tens, mut at) = (b'0', 0);
    while tens <= b'9' {
        let mut ones = b'0';
        while ones <= b'9' {
            pairs[at] = [tens, ones];
            at += 1;
            ones += 1;
        }
        tens += 1;
    }
    pairs
};

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_key_is_user_and_twenty_digits_of_the_hash() {
        for record in [0, 1, 99, 100, 12_345, u64::from(u32::MAX)] {
            assert_eq!(key(record).as_slice(), format!("user{:020}", fnv_hash(record)).as_bytes());
        }
        assert_eq!(spell(u64::MAX).as_slice(), b"user18446744073709551615");
        assert_eq!(spell(7).as_slice(), b"user00000000000000000007");
        assert_eq!(number_of(&key(12_345)), fnv_hash(12_345));
    }

    #[test]
    fn the_hash_is_that_of_ycsb() {
        // `user6284781860667377211` is the first key that YCSB itself loads.
        assert_eq!(fnv_hash(0), 6_284_781_860_667_377_211);
    }

    #[test]
    fn records_have_keys_of_their_own_and_absent_keys_are_none_of_them() {
        let records: HashSet<Key> = (0..100_000).map(key).collect();
        assert_eq!(records.len(), 100_000);
        assert!((0..100_000).all(|number| !records.contains(&absent_key(number))));
    }
}
