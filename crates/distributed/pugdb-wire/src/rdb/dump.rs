//! What `DUMP` returns and `RESTORE` reads: one object, the version of RDB, a checksum.

use std::error::Error;
use std::fmt;

use super::value::type_name;
use super::{RdbError, crc64, read_string, write_string};

/// The version of RDB that is written: that of Redis 7.2.
///
/// ```
/// assert_eq!(pugdb_wire::rdb::RDB_VERSION, 11);
/// ```
pub const RDB_VERSION: u16 = 11;

/// The newest version that is read. Strings have stayed the same through all of them.
///
/// ```
/// use pugdb_wire::rdb::{RDB_VERSION, RDB_VERSION_MAX};
///
/// assert!(RDB_VERSION <= RDB_VERSION_MAX);
/// ```
pub const RDB_VERSION_MAX: u16 = 12;

/// The first byte of a string.
///
/// ```
/// use pugdb_wire::rdb::{TYPE_STRING, dump_string};
///
/// assert_eq!(dump_string(b"1815")[0], TYPE_STRING);
/// ```
pub const TYPE_STRING: u8 = 0;

/// Version and checksum.
const FOOTER_BYTES: usize = 10;

/// Why a dump is not restored.
///
/// ```
/// use pugdb_wire::rdb::{DumpError, restore_string};
///
/// assert_eq!(restore_string(b"too short", 100), Err(DumpError::Footer));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DumpError {
    /// The version is unknown, or the checksum is another one.
    Footer,
    /// It is intact, and holds something else than a string.
    Type,
    /// It is no object.
    Format(RdbError),
}

impl fmt::Display for DumpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Footer => f.write_str("version or checksum are wrong"),
            Self::Type => f.write_str("it is no string"),
            Self::Format(error) => write!(f, "it is damaged: {error}"),
        }
    }
}

impl Error for DumpError {}

/// The dump of a string. It is never compressed.
///
/// ```
/// use pugdb_wire::rdb::{dump_string, restore_string};
///
/// assert_eq!(restore_string(&dump_string(b"1815"), 100).unwrap(), b"1815");
/// ```
#[must_use]
pub fn dump_string(string: &[u8]) -> Vec<u8> {
    // Type, the longest length, the string, the footer.
    let mut dump = Vec::with_capacity(1 + 9 + string.len() + FOOTER_BYTES);
    dump.push(TYPE_STRING);
    write_string(string, &mut dump);
    dump.extend(RDB_VERSION.to_le_bytes());
    dump.extend(crc64(0, &dump).to_le_bytes());
    dump
}

/// The string in a dump, of at most `bytes_max` bytes.
///
/// ```
/// use pugdb_wire::rdb::restore_string;
///
/// let of_redis = b"\x00\xc1\x17\x07\x0a\x00\xa4O\x17\x9f\xd1\xfdD\xe1";
/// assert_eq!(restore_string(of_redis, 100).unwrap(), b"1815");
/// ```
///
/// # Errors
/// [`DumpError`], each of them.
pub fn restore_string(dump: &[u8], bytes_max: usize) -> Result<Vec<u8>, DumpError> {
    let (object, footer) = dump.split_last_chunk::<FOOTER_BYTES>().ok_or(DumpError::Footer)?;
    let [low, high, checksum @ ..] = *footer;
    let version = u16::from_le_bytes([low, high]);
    let checked = dump.len() - checksum.len();
    let is_intact = dump.get(..checked).map(|bytes| crc64(0, bytes)) == Some(u64::from_le_bytes(checksum));
    if version > RDB_VERSION_MAX || !is_intact {
        return Err(DumpError::Footer);
    }
    let (kind, mut rest) = object.split_first().ok_or(DumpError::Format(RdbError::Truncated))?;
    match *kind {
        TYPE_STRING => read_string(&mut rest, bytes_max).map_err(DumpError::Format),
        number if type_name(number).is_some() => Err(DumpError::Type),
        number => Err(DumpError::Format(RdbError::Type(number))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealed(object: &[u8], version: u16) -> Vec<u8> {
        let mut dump = [object, &version.to_le_bytes()].concat();
        dump.extend(crc64(0, &dump).to_le_bytes());
        dump
    }

    #[test]
    fn dumps_of_redis_are_restored() {
        let long = b"\x00\xc3\t2\x01aa\xe0%\x00\x01aa\n\x00\t\xacH\xb9\xab\x15\xfb\xc9";
        assert_eq!(restore_string(long, 50).unwrap(), [b'a'; 50]);
        assert_eq!(restore_string(long, 49), Err(DumpError::Format(RdbError::TooLong)));
    }

    #[test]
    fn versions_up_to_the_newest_are_read() {
        assert_eq!(restore_string(&sealed(b"\x00\x01a", 1), 100).unwrap(), b"a");
        assert_eq!(restore_string(&sealed(b"\x00\x01a", RDB_VERSION_MAX), 100).unwrap(), b"a");
        assert_eq!(restore_string(&sealed(b"\x00\x01a", RDB_VERSION_MAX + 1), 100), Err(DumpError::Footer));
    }

    #[test]
    fn what_is_intact_and_no_string_says_which_it_is() {
        assert_eq!(restore_string(&sealed(b"\x01\x01\x01a", 11), 100), Err(DumpError::Type));
        for number in [6, 8, 26, 0xff] {
            let error = DumpError::Format(RdbError::Type(number));
            assert_eq!(restore_string(&sealed(&[number], 11), 100), Err(error));
        }
        assert_eq!(restore_string(&sealed(b"\x19", 11), 100), Err(DumpError::Type));
        assert_eq!(restore_string(&sealed(b"", 11), 100), Err(DumpError::Format(RdbError::Truncated)));
        assert_eq!(
            restore_string(&sealed(b"\x00\x05a", 11), 100),
            Err(DumpError::Format(RdbError::Truncated))
        );
        assert_eq!(
            restore_string(&sealed(b"\x00\x05abcde", 11), 4),
            Err(DumpError::Format(RdbError::TooLong))
        );
    }

    proptest! {
        #[test]
        fn a_string_comes_back_and_a_changed_byte_is_noticed(string: Vec<u8>, place: usize, bit in 0_u32..8) {
            let mut dump = dump_string(&string);
            prop_assert_eq!(restore_string(&dump, string.len()).unwrap(), string);
            let place = place % dump.len();
            dump[place] ^= 1 << bit;
            prop_assert_eq!(restore_string(&dump, 1 << 20), Err(DumpError::Footer));
        }

        #[test]
        fn any_bytes_end_in_a_string_or_an_error(bytes: Vec<u8>, version in 0_u16..20) {
            let _: Result<Vec<u8>, DumpError> = restore_string(&bytes, 100);
            let dump = sealed(&bytes, version);
            prop_assert!(restore_string(&dump, 100).map_or(true, |string| string.len() <= 100));
        }
    }
}
