//! The filter: says for most absent keys that they are absent, from one cache line and one hash.
//!
//! A blocked Bloom filter (Putze, Sanders, Singler: "Cache-, Hash- and Space-Efficient Bloom Filters", 2007) with
//! double hashing (Kirsch, Mitzenmacher: "Less Hashing, Same Performance", 2006). About 1.5 % of absent keys pass.

use pugdb_core::{Error, Result};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// One cache line.
const LINE_BYTES: usize = 64;
const LINE_BITS: u64 = LINE_BYTES as u64 * 8;
/// Of ten bits of filter for each key six are set, which is the best number for lines; of others as many in proportion.
const PROBES_IN_TEN_BITS: u32 = 6;

/// More would be another kind of filter: no version has one yet.
const PROBES_MAX: u8 = 127;

/// Of prefixes: a key that is a prefix of others is not found in a filter because they are.
const PREFIX_SEED: u64 = 1;

/// A key's hash, the same for every table: a read computes it once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHash(u64);

impl KeyHash {
    /// Hashes a key.
    pub fn of(key: &[u8]) -> Self {
        Self(xxh3_64(key))
    }

    /// Hashes a prefix of keys.
    pub(super) fn of_prefix(prefix: &[u8]) -> Self {
        Self(xxh3_64_with_seed(prefix, PREFIX_SEED))
    }

    /// The hash, as it is stored.
    pub fn to_bytes(self) -> [u8; 8] {
        self.0.to_le_bytes()
    }

    /// The hash that was stored.
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(u64::from_le_bytes(bytes))
    }

    /// The line, from the upper half of the hash.
    fn line(self, lines: u64) -> usize {
        pugdb_core::coding::index(((self.0 >> 32) * lines) >> 32)
    }

    /// The bits in the line, from the lower half: byte and mask.
    fn bits(self, probes: u8) -> impl Iterator<Item = (usize, u8)> {
        #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
        let start = self.0 as u32;
        // Odd, so that no two probes of a key start from the same number.
        let step = start.rotate_left(15) | 1;
        (0..u32::from(probes)).map(move |probe| {
            let bit = start.wrapping_add(step.wrapping_mul(probe)) >> 23;
            ((bit / 8) as usize, 1 << (bit % 8))
        })
    }
}

/// How many bits are set for each key.
fn probes(bits_per_key: u8) -> u8 {
    let probes = (u32::from(bits_per_key) * PROBES_IN_TEN_BITS).div_ceil(10);
    u8::try_from(probes).expect("it is less than the bits, which are a byte")
}

/// Appends the filter over `keys`, and prefixes among them, to `out`: so many bits for each, or none at all.
pub(super) fn encode(keys: &[KeyHash], bits_per_key: u8, out: &mut Vec<u8>) {
    let probes = probes(bits_per_key);
    if probes == 0 {
        out.push(0);
        return;
    }
    let lines = (keys.len() as u64 * u64::from(bits_per_key)).div_ceil(LINE_BITS).max(1);
    let start = out.len();
    out.resize(start + pugdb_core::coding::index(lines) * LINE_BYTES, 0);
    for hash in keys {
        let line = start + hash.line(lines) * LINE_BYTES;
        for (byte, mask) in hash.bits(probes) {
            out[line + byte] |= mask;
        }
    }
    out.push(probes);
}

/// A filter in memory.
pub(super) struct Filter {
    lines: Box<[Line]>,
    probes: u8,
}

/// Begins where a cache line does.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([u8; LINE_BYTES]);

impl Filter {
    pub(super) fn decode(content: &[u8]) -> Result<Self> {
        let damaged = || Error::corrupt("the filter is damaged; run `pugdb verify`");
        let (&probes, content) = content.split_last().ok_or_else(damaged)?;
        if probes > PROBES_MAX {
            return Err(Error::newer(format_args!("a filter of the kind {probes}")));
        }
        let (lines, rest) = content.as_chunks();
        // Without probes there are no lines, and every key passes.
        if lines.is_empty() != (probes == 0) || u32::try_from(lines.len()).is_err() || !rest.is_empty() {
            return Err(damaged());
        }
        Ok(Self { lines: lines.iter().copied().map(Line).collect(), probes })
    }

    /// False when no key with this hash was added.
    pub(super) fn may_contain(&self, hash: KeyHash) -> bool {
        if self.probes == 0 {
            return true;
        }
        let Line(line) = &self.lines[hash.line(self.lines.len() as u64)];
        hash.bits(self.probes).all(|(byte, mask)| line[byte] & mask != 0)
    }

    /// What it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_passes_and_few_others_do() {
        for keys in [1_u32, 50, 52, 1000, 20_000] {
            let hashes: Vec<KeyHash> = (0..keys).map(|key| KeyHash::of(&key.to_le_bytes())).collect();
            let mut content = Vec::new();
            encode(&hashes, 10, &mut content);
            let filter = Filter::decode(&content).unwrap();
            assert!(hashes.iter().all(|&hash| filter.may_contain(hash)));
            let absent = (keys..keys + 100_000).map(|key| KeyHash::of(&key.to_le_bytes()));
            let passed = absent.filter(|&hash| filter.may_contain(hash)).count();
            assert!(passed < 2_000, "{passed} of 100,000 absent keys pass a filter over {keys} keys");
        }
    }

    #[test]
    fn more_bits_let_fewer_pass_and_none_let_all() {
        let hashes: Vec<KeyHash> = (0..5_000_u32).map(|key| KeyHash::of(&key.to_le_bytes())).collect();
        let passing = |bits| {
            let mut content = Vec::new();
            encode(&hashes, bits, &mut content);
            let filter = Filter::decode(&content).unwrap();
            assert!(hashes.iter().all(|&hash| filter.may_contain(hash)), "{bits} bits");
            let absent = (5_000..55_000_u32).map(|key| KeyHash::of(&key.to_le_bytes()));
            (filter.bytes(), absent.filter(|&hash| filter.may_contain(hash)).count())
        };
        assert_eq!(passing(0), (0, 50_000));
        let passed: Vec<usize> = [1, 4, 8, 10, 16, 20].map(|bits| passing(bits).1).into();
        assert!(passed.is_sorted_by(|more, fewer| more > fewer), "{passed:?}");
    }

    #[test]
    fn a_filter_of_any_other_shape_is_corrupt() {
        for content in [vec![], vec![6], vec![0; 64], vec![0; 65], vec![1; 64], vec![1; 66]] {
            assert!(Filter::decode(&content).is_err());
        }
        let full = [&[255; 64][..], &[PROBES_MAX]].concat();
        assert!(Filter::decode(&full).unwrap().may_contain(KeyHash(u64::MAX)));
    }

    #[test]
    fn more_probes_than_there_can_be_are_a_filter_of_a_newer_version() {
        for kind in PROBES_MAX + 1..=u8::MAX {
            // Of whatever shape: it is not known.
            for lines in [0, 1, 64, 65] {
                let error = Filter::decode(&[&vec![255; lines][..], &[kind]].concat()).err().unwrap();
                assert_eq!(error.kind(), pugdb_core::ErrorKind::Unsupported, "{kind}: {error}");
            }
        }
    }
}
