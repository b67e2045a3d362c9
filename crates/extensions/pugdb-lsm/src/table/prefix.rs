//! Prefixes of keys in filters: a scan within one prefix passes over tables that have no key with it. Read path, step
//! "look".

use std::fmt;
use std::ops::Bound;
use std::str::FromStr;

use pugdb_core::engine::KeyRange;
use pugdb_core::{Error, Result};

use super::filter::KeyHash;

/// What of a key is its prefix, which filters know beside the whole key. A key that is too short for it has none.
///
/// Whatever it says, all keys that begin with a prefix have it, and no others do: they lie side by side.
///
/// ```
/// use pugdb_lsm::table::PrefixExtractor;
///
/// assert_eq!(PrefixExtractor::Length(4).of(b"user:1"), Some(&b"user"[..]));
/// assert_eq!(PrefixExtractor::Length(4).of(b"use"), None);
/// assert_eq!(PrefixExtractor::UpTo(b':').of(b"user:1:name"), Some(&b"user:"[..]));
/// assert_eq!("up-to::".parse::<PrefixExtractor>()?, PrefixExtractor::UpTo(b':'));
/// assert_eq!("length:4".parse::<PrefixExtractor>()?, PrefixExtractor::Length(4));
/// # Ok::<(), pugdb_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PrefixExtractor {
    /// Filters know whole keys only.
    #[default]
    None,
    /// So many bytes from the start, 1 to 255.
    Length(u8),
    /// All up to the first such byte, which belongs to it.
    UpTo(u8),
}

// The numbers are part of the disk format.
const NONE: u8 = 0;
const LENGTH: u8 = 1;
const UP_TO: u8 = 2;

impl PrefixExtractor {
    /// The prefix of a key, if it has one.
    pub fn of(self, key: &[u8]) -> Option<&[u8]> {
        match self {
            Self::None => None,
            Self::Length(bytes) => key.get(..usize::from(bytes)),
            Self::UpTo(last) => key.iter().position(|&byte| byte == last).map(|at| &key[..=at]),
        }
    }

    /// The prefix that every key has which can lie in a range, if there is one.
    pub fn of_range(self, range: &KeyRange) -> Option<&[u8]> {
        let (Bound::Included(start) | Bound::Excluded(start)) = &range.start else { return None };
        let prefix = self.of(start)?;
        // The range begins among the keys with the prefix, and those end where all that begin with it do.
        let is_within = match &range.end {
            Bound::Included(end) => end.starts_with(prefix),
            Bound::Excluded(end) => end.starts_with(prefix) || is_next(end, prefix),
            // Behind a prefix of 0xff only there is nothing.
            Bound::Unbounded => prefix.iter().all(|&byte| byte == 0xff),
        };
        is_within.then_some(prefix)
    }

    pub(super) fn hash_of(self, key: &[u8]) -> Option<KeyHash> {
        self.of(key).map(KeyHash::of_prefix)
    }

    /// Refuses what is out of range.
    ///
    /// # Errors
    /// `Invalid` for a length of 0: every key would have it.
    pub fn check(self) -> Result<()> {
        match self {
            Self::Length(0) => Err(Error::invalid("a prefix has a length of 1 to 255 bytes")),
            _ => Ok(()),
        }
    }

    /// As it is stored.
    pub(crate) fn to_bytes(self) -> [u8; 2] {
        match self {
            Self::None => [NONE, 0],
            Self::Length(bytes) => [LENGTH, bytes],
            Self::UpTo(last) => [UP_TO, last],
        }
    }

    /// Reads what was stored.
    ///
    /// # Errors
    /// `Unsupported` when it says nothing that this version knows.
    pub(crate) fn from_bytes(bytes: [u8; 2]) -> Result<Self> {
        match bytes {
            [NONE, 0] => Ok(Self::None),
            [LENGTH, bytes] if bytes > 0 => Ok(Self::Length(bytes)),
            [UP_TO, last] => Ok(Self::UpTo(last)),
            _ => Err(Error::newer("what prefixes a filter has")),
        }
    }
}

impl fmt::Display for PrefixExtractor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Length(bytes) => write!(f, "length:{bytes}"),
            Self::UpTo(last) if last.is_ascii_graphic() => write!(f, "up-to:{}", char::from(*last)),
            Self::UpTo(last) => write!(f, "up-to:{last:#04x}"),
        }
    }
}

impl FromStr for PrefixExtractor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let unknown =
            || Error::invalid("a prefix is one of none, length:1 to length:255, up-to:BYTE (/ or 0x2f)");
        let extractor = match text.split_once(':') {
            None if text == "none" => Self::None,
            Some(("length", bytes)) => Self::Length(bytes.parse().map_err(|_| unknown())?),
            Some(("up-to", last)) => match (last.as_bytes(), last.strip_prefix("0x")) {
                (&[last], _) => Self::UpTo(last),
                (_, Some(hex)) => Self::UpTo(u8::from_str_radix(hex, 16).map_err(|_| unknown())?),
                _ => return Err(unknown()),
            },
            _ => return Err(unknown()),
        };
        extractor.check()?;
        Ok(extractor)
    }
}

/// True when `key` is the first behind all that begin with `prefix`. It is not made for that: this is asked for each table.
fn is_next(key: &[u8], prefix: &[u8]) -> bool {
    let end = prefix.iter().rposition(|&byte| byte != 0xff);
    let Some((last, before)) = end.and_then(|end| prefix[..=end].split_last()) else { return false };
    key.split_last().is_some_and(|(key_last, key_before)| key_before == before && *key_last == last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXTRACTORS: [PrefixExtractor; 6] = [
        PrefixExtractor::None,
        PrefixExtractor::Length(1),
        PrefixExtractor::Length(2),
        PrefixExtractor::UpTo(b'a'),
        PrefixExtractor::UpTo(0),
        PrefixExtractor::UpTo(0xff),
    ];

    /// All keys of up to three bytes of an alphabet with both ends.
    fn keys() -> Vec<Vec<u8>> {
        let mut keys = vec![Vec::new()];
        let mut from = 0;
        for _ in 0..3 {
            let upto = keys.len();
            for number in from..upto {
                for byte in [0, b'a', b'b', 0xfe, 0xff] {
                    keys.push([&keys[number][..], &[byte]].concat());
                }
            }
            from = upto;
        }
        keys.sort();
        keys
    }

    #[test]
    fn a_range_has_a_prefix_only_when_each_key_in_it_has() {
        let keys = keys();
        let mut ends = vec![Bound::Unbounded];
        for key in keys.iter().filter(|key| key.len() < 3) {
            ends.extend([Bound::Included(key.clone()), Bound::Excluded(key.clone())]);
        }
        let mut have = 0;
        for extractor in EXTRACTORS {
            for (start, end) in ends.iter().flat_map(|start| ends.iter().map(move |end| (start, end))) {
                let range = KeyRange { start: start.clone(), end: end.clone() };
                let Some(prefix) = extractor.of_range(&range) else { continue };
                have += 1;
                for key in keys.iter().filter(|key| range.contains(key)) {
                    assert_eq!(extractor.of(key), Some(prefix), "{extractor} {range:?} {key:?}");
                }
            }
        }
        assert!(have > 1000, "{have} ranges have a prefix");
    }

    #[test]
    fn the_range_of_a_prefix_has_it_and_so_do_longer_ones() {
        for extractor in EXTRACTORS {
            for key in keys() {
                let prefix = extractor.of(&key);
                assert_eq!(extractor.of_range(&KeyRange::prefix(&key)), prefix, "{extractor} {key:?}");
                if let Some(prefix) = prefix {
                    assert_eq!(extractor.of_range(&KeyRange::prefix(prefix)), Some(prefix));
                }
            }
        }
    }

    #[test]
    fn extractors_round_trip_as_bytes_and_as_text() {
        for extractor in
            EXTRACTORS.into_iter().chain([PrefixExtractor::UpTo(b':'), PrefixExtractor::Length(255)])
        {
            assert_eq!(PrefixExtractor::from_bytes(extractor.to_bytes()).unwrap(), extractor);
            assert_eq!(extractor.to_string().parse::<PrefixExtractor>().unwrap(), extractor);
        }
        for bytes in [[0, 1], [1, 0], [3, 0], [255, 255]] {
            let error = PrefixExtractor::from_bytes(bytes).unwrap_err();
            assert_eq!(error.kind(), pugdb_core::ErrorKind::Unsupported, "{bytes:?}");
        }
        for text in ["", "length", "length:0", "length:256", "up-to:", "up-to:ab", "up-to:0x100", "none:1"] {
            assert!(text.parse::<PrefixExtractor>().is_err(), "{text}");
        }
    }
}
