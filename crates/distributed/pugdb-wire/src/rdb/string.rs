//! Lengths and strings of RDB: bytes as they are, small integers, and LZF.

use std::error::Error;
use std::fmt;

use super::lzf_decompress;

/// Bytes that are not what RDB says they should be.
///
/// ```
/// use pugdb_wire::rdb::RdbError;
///
/// assert_eq!(RdbError::Truncated.to_string(), "it ends too early");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RdbError {
    /// The bytes end where more of them belong.
    Truncated,
    /// A length or an encoding that RDB does not have at this place.
    Length,
    /// The bytes are not LZF, or unpack to another length than announced.
    Lzf,
    /// A string is longer than the reader allows.
    TooLong,
}

impl fmt::Display for RdbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "it ends too early",
            Self::Length => "a length or an encoding is not one of RDB",
            Self::Lzf => "a compressed string is damaged",
            Self::TooLong => "a string is longer than allowed",
        })
    }
}

impl Error for RdbError {}

/// What stands where a length is.
///
/// ```
/// use pugdb_wire::rdb::Length;
///
/// assert_ne!(Length::Bytes(1), Length::Encoded(1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// A length, or a number that is written as one.
    Bytes(u64),
    /// A string in another encoding: 0, 1, 2 an integer of 1, 2, 4 bytes, 3 LZF.
    Encoded(u8),
}

const LENGTH_OF_32_BITS: u8 = 0x80;
const LENGTH_OF_64_BITS: u8 = 0x81;
const ENCODED: u8 = 0xc0;
const INTEGER_OF_8_BITS: u8 = 0;
const INTEGER_OF_16_BITS: u8 = 1;
const INTEGER_OF_32_BITS: u8 = 2;
const LZF: u8 = 3;

/// Longer strings than `-2147483648` are no integers of 32 bits.
const INTEGER_DIGITS_MAX: usize = 11;

/// Takes a length from the front.
///
/// ```
/// use pugdb_wire::rdb::{Length, read_length};
///
/// let mut input = &b"\x41\x00rest"[..];
/// assert_eq!(read_length(&mut input).unwrap(), Length::Bytes(256));
/// assert_eq!(input, b"rest");
/// ```
///
/// # Errors
/// [`RdbError::Truncated`] and [`RdbError::Length`].
pub fn read_length(input: &mut &[u8]) -> Result<Length, RdbError> {
    let [first] = take(input)?;
    Ok(match first {
        0x00..=0x3f => Length::Bytes(u64::from(first)),
        0x40..=0x7f => Length::Bytes(u64::from(u16::from_be_bytes([first & 0x3f, take::<1>(input)?[0]]))),
        LENGTH_OF_32_BITS => Length::Bytes(u64::from(u32::from_be_bytes(take(input)?))),
        LENGTH_OF_64_BITS => Length::Bytes(u64::from_be_bytes(take(input)?)),
        ENCODED.. => Length::Encoded(first & !ENCODED),
        _ => return Err(RdbError::Length),
    })
}

/// Appends a length in its shortest form.
///
/// ```
/// use pugdb_wire::rdb::write_length;
///
/// let mut out = Vec::new();
/// write_length(256, &mut out);
/// assert_eq!(out, b"\x41\x00");
/// ```
pub fn write_length(length: u64, out: &mut Vec<u8>) {
    let [.., high, low] = length.to_be_bytes();
    if length < 1 << 6 {
        out.push(low);
    } else if length < 1 << 14 {
        out.extend([0x40 | high, low]);
    } else if let Ok(length) = u32::try_from(length) {
        out.push(LENGTH_OF_32_BITS);
        out.extend(length.to_be_bytes());
    } else {
        out.push(LENGTH_OF_64_BITS);
        out.extend(length.to_be_bytes());
    }
}

/// Takes a string of at most `bytes_max` bytes from the front, in whatever encoding.
///
/// ```
/// use pugdb_wire::rdb::read_string;
///
/// let mut input = &b"\x03ada\xc0\xffrest"[..];
/// assert_eq!(read_string(&mut input, 100).unwrap(), b"ada");
/// assert_eq!(read_string(&mut input, 100).unwrap(), b"-1");
/// assert_eq!(input, b"rest");
/// ```
///
/// # Errors
/// [`RdbError`], each of them.
pub fn read_string(input: &mut &[u8], bytes_max: usize) -> Result<Vec<u8>, RdbError> {
    let integer = match read_length(input)? {
        Length::Bytes(length) => return Ok(take_slice(input, bounded(length, bytes_max)?)?.to_vec()),
        Length::Encoded(INTEGER_OF_8_BITS) => i32::from(i8::from_le_bytes(take(input)?)),
        Length::Encoded(INTEGER_OF_16_BITS) => i32::from(i16::from_le_bytes(take(input)?)),
        Length::Encoded(INTEGER_OF_32_BITS) => i32::from_le_bytes(take(input)?),
        Length::Encoded(LZF) => {
            let (packed, length) = (plain_length(input)?, plain_length(input)?);
            let length = bounded(length, bytes_max)?;
            // Packed bytes are here already, so they need no bound of their own.
            return lzf_decompress(take_slice(input, bounded(packed, usize::MAX)?)?, length);
        }
        Length::Encoded(_) => return Err(RdbError::Length),
    };
    let text = integer.to_string().into_bytes();
    if text.len() <= bytes_max { Ok(text) } else { Err(RdbError::TooLong) }
}

/// Appends a string: an integer of at most 32 bits as one, everything else as it is.
///
/// ```
/// use pugdb_wire::rdb::write_string;
///
/// let mut out = Vec::new();
/// write_string(b"ada", &mut out);
/// write_string(b"-1", &mut out);
/// assert_eq!(out, b"\x03ada\xc0\xff");
/// ```
pub fn write_string(string: &[u8], out: &mut Vec<u8>) {
    let Some(integer) = integer(string) else {
        write_length(string.len() as u64, out);
        out.extend_from_slice(string);
        return;
    };
    if let Ok(integer) = i8::try_from(integer) {
        out.push(ENCODED | INTEGER_OF_8_BITS);
        out.extend(integer.to_le_bytes());
    } else if let Ok(integer) = i16::try_from(integer) {
        out.push(ENCODED | INTEGER_OF_16_BITS);
        out.extend(integer.to_le_bytes());
    } else {
        out.push(ENCODED | INTEGER_OF_32_BITS);
        out.extend(integer.to_le_bytes());
    }
}

/// The integer that a string is to the byte: written again, it is the same string.
fn integer(string: &[u8]) -> Option<i32> {
    if string.len() > INTEGER_DIGITS_MAX {
        return None;
    }
    let integer: i32 = std::str::from_utf8(string).ok()?.parse().ok()?;
    (integer.to_string().as_bytes() == string).then_some(integer)
}

fn plain_length(input: &mut &[u8]) -> Result<u64, RdbError> {
    match read_length(input)? {
        Length::Bytes(length) => Ok(length),
        Length::Encoded(_) => Err(RdbError::Length),
    }
}

fn bounded(length: u64, max: usize) -> Result<usize, RdbError> {
    usize::try_from(length).ok().filter(|length| *length <= max).ok_or(RdbError::TooLong)
}

fn take_slice<'a>(input: &mut &'a [u8], count: usize) -> Result<&'a [u8], RdbError> {
    let (taken, rest) = input.split_at_checked(count).ok_or(RdbError::Truncated)?;
    *input = rest;
    Ok(taken)
}

fn take<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], RdbError> {
    let (taken, rest) = input.split_first_chunk().ok_or(RdbError::Truncated)?;
    *input = rest;
    Ok(*taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 1 << 20;

    fn written(string: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_string(string, &mut out);
        out
    }

    #[test]
    fn integers_are_written_short_and_only_when_they_come_back_the_same() {
        for (text, bytes) in [
            ("0", &b"\xc0\x00"[..]),
            ("-128", b"\xc0\x80"),
            ("128", b"\xc1\x80\x00"),
            ("-32768", b"\xc1\x00\x80"),
            ("32768", b"\xc2\x00\x80\x00\x00"),
            ("-2147483648", b"\xc2\x00\x00\x00\x80"),
            ("2147483648", b"\x0a2147483648"),
            ("007", b"\x03007"),
            ("+7", b"\x02+7"),
            ("-0", b"\x02-0"),
            ("", b"\x00"),
        ] {
            assert_eq!(written(text.as_bytes()), bytes, "{text}");
        }
    }

    #[test]
    fn a_length_is_written_in_its_shortest_form_and_read_in_any() {
        for (length, bytes) in [
            (0, &b"\x00"[..]),
            (63, b"\x3f"),
            (64, b"\x40\x40"),
            (16_383, b"\x7f\xff"),
            (16_384, b"\x80\x00\x00\x40\x00"),
            (u64::from(u32::MAX), b"\x80\xff\xff\xff\xff"),
            (1 << 32, b"\x81\x00\x00\x00\x01\x00\x00\x00\x00"),
            (u64::MAX, b"\x81\xff\xff\xff\xff\xff\xff\xff\xff"),
        ] {
            let mut out = Vec::new();
            write_length(length, &mut out);
            assert_eq!(out, bytes);
            assert_eq!(read_length(&mut &bytes[..]), Ok(Length::Bytes(length)));
        }
        assert_eq!(read_length(&mut &b"\x80\x00\x00\x00\x01"[..]), Ok(Length::Bytes(1)));
        assert_eq!(read_length(&mut &b"\x82"[..]), Err(RdbError::Length));
    }

    #[test]
    fn hostile_strings_are_refused_before_they_take_memory() {
        let cases: [(&[u8], RdbError); 9] = [
            (b"", RdbError::Truncated),
            (b"\x03ab", RdbError::Truncated),
            (b"\x81\xff\xff\xff\xff\xff\xff\xff\xff", RdbError::TooLong),
            (b"\x80\x00\x10\x00\x01", RdbError::TooLong),
            (b"\x80\x00\x10\x00\x00", RdbError::Truncated),
            (b"\xc2\x00\x00", RdbError::Truncated),
            (b"\xc4", RdbError::Length),
            (b"\xc3\xc0\x01", RdbError::Length),
            (b"\xc3\x02\x80\x00\x10\x00\x00\x00a", RdbError::Lzf),
        ];
        for (bytes, error) in cases {
            assert_eq!(read_string(&mut &bytes[..], MAX), Err(error), "{bytes:?}");
        }
        assert_eq!(read_string(&mut &b"\xc0\x80"[..], 3), Err(RdbError::TooLong));
    }

    proptest! {
        #[test]
        fn a_string_comes_back_and_what_follows_stays(string: Vec<u8>, number: i64, rest: Vec<u8>) {
            for string in [string, number.to_string().into_bytes(), (number >> 40).to_string().into_bytes()] {
                let bytes = [written(&string), rest.clone()].concat();
                let mut input = &bytes[..];
                prop_assert_eq!(read_string(&mut input, MAX).unwrap(), string);
                prop_assert_eq!(input, &rest[..]);
            }
        }

        #[test]
        fn any_bytes_end_in_a_string_within_the_bound_or_an_error(bytes: Vec<u8>, max in 0_usize..300) {
            if let Ok(string) = read_string(&mut &bytes[..], max) {
                prop_assert!(string.len() <= max);
            }
        }
    }
}
