//! Lengths and strings of RDB: bytes as they are, small integers, and LZF.

use std::error::Error;
use std::fmt;

use super::{Source, lzf_decompress};

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
    /// A type of value that no version up to [`RDB_VERSION_MAX`](super::RDB_VERSION_MAX) has.
    Type(u8),
    /// What a module has written has a part of an unknown kind.
    Module,
}

impl fmt::Display for RdbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "it ends too early",
            Self::Length => "a length or an encoding is not one of RDB",
            Self::Lzf => "a compressed string is damaged",
            Self::TooLong => "a string is longer than allowed",
            Self::Type(number) => return write!(f, "there is no type of value {number}"),
            Self::Module => "a module's value has an unknown part",
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
/// [`RdbError::Truncated`] and [`RdbError::Length`], and what the source adds.
pub fn read_length<S: Source>(source: &mut S) -> Result<Length, S::Error> {
    let [first] = source.array()?;
    Ok(match first {
        0x00..=0x3f => Length::Bytes(first.into()),
        0x40..=0x7f => {
            let [low] = source.array()?;
            Length::Bytes(u16::from_be_bytes([first & 0x3f, low]).into())
        }
        LENGTH_OF_32_BITS => Length::Bytes(u32::from_be_bytes(source.array()?).into()),
        LENGTH_OF_64_BITS => Length::Bytes(u64::from_be_bytes(source.array()?)),
        ENCODED.. => Length::Encoded(first & !ENCODED),
        _ => return Err(RdbError::Length.into()),
    })
}

/// Takes a number that is written as a length.
pub(super) fn read_number<S: Source>(source: &mut S) -> Result<u64, S::Error> {
    match read_length(source)? {
        Length::Bytes(number) => Ok(number),
        Length::Encoded(_) => Err(RdbError::Length.into()),
    }
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
/// [`RdbError`], but for what is about values, and what the source adds.
pub fn read_string<S: Source>(source: &mut S, bytes_max: usize) -> Result<Vec<u8>, S::Error> {
    let head = Head::read(source)?;
    head.string(source, bytes_max)?.ok_or_else(|| RdbError::TooLong.into())
}

/// A string that was read, or not for want of room.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Text {
    Bytes(Vec<u8>),
    TooLong(u64),
}

/// Takes a string of at most `bytes_max` bytes; a longer one is passed over.
pub(super) fn read_or_skip_string<S: Source>(source: &mut S, bytes_max: usize) -> Result<Text, S::Error> {
    let head = Head::read(source)?;
    if let Some(string) = head.string(source, bytes_max)? {
        return Ok(Text::Bytes(string));
    }
    head.skip(source)?;
    Ok(Text::TooLong(head.bytes()))
}

/// Passes over a string.
pub(super) fn skip_string<S: Source>(source: &mut S) -> Result<(), S::Error> {
    Head::read(source)?.skip(source)
}

/// What stands before the bytes of a string and announces them; all of it, when it is an integer.
enum Head {
    Integer(i32),
    Plain(u64),
    /// The lengths before and after unpacking.
    Packed(u64, u64),
}

impl Head {
    fn read<S: Source>(source: &mut S) -> Result<Self, S::Error> {
        Ok(match read_length(source)? {
            Length::Bytes(length) => Self::Plain(length),
            Length::Encoded(INTEGER_OF_8_BITS) => Self::Integer(i8::from_le_bytes(source.array()?).into()),
            Length::Encoded(INTEGER_OF_16_BITS) => Self::Integer(i16::from_le_bytes(source.array()?).into()),
            Length::Encoded(INTEGER_OF_32_BITS) => Self::Integer(i32::from_le_bytes(source.array()?)),
            Length::Encoded(LZF) => Self::Packed(read_number(source)?, read_number(source)?),
            Length::Encoded(_) => return Err(RdbError::Length.into()),
        })
    }

    /// The string, whose bytes come next. `None`, and nothing is taken, when more than `bytes_max` would be held:
    /// packed bytes count too, which are fewer in all that Redis writes.
    fn string<S: Source>(&self, source: &mut S, bytes_max: usize) -> Result<Option<Vec<u8>>, S::Error> {
        let fits = |length: u64| usize::try_from(length).ok().filter(|length| *length <= bytes_max);
        Ok(match *self {
            Self::Integer(integer) => {
                Some(integer.to_string().into_bytes()).filter(|text| text.len() <= bytes_max)
            }
            Self::Plain(length) => match fits(length) {
                Some(length) => Some(source.bytes(length)?.into()),
                None => None,
            },
            Self::Packed(packed, length) => match (fits(packed), fits(length)) {
                (Some(packed), Some(length)) => Some(lzf_decompress(source.bytes(packed)?.as_ref(), length)?),
                _ => None,
            },
        })
    }

    fn skip<S: Source>(&self, source: &mut S) -> Result<(), S::Error> {
        match *self {
            Self::Integer(_) => Ok(()),
            Self::Plain(length) | Self::Packed(length, _) => source.skip(length),
        }
    }

    /// How much would have been held.
    fn bytes(&self) -> u64 {
        match *self {
            Self::Integer(integer) => integer.to_string().len() as u64,
            Self::Plain(length) => length,
            Self::Packed(packed, length) => packed.max(length),
        }
    }
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
        // Packed bytes are held too. These five would be four unpacked.
        let packed = &b"\xc3\x05\x04\x03abcd"[..];
        assert_eq!(read_string(&mut &packed[..], 4), Err(RdbError::TooLong));
        assert_eq!(read_string(&mut &packed[..], 5).unwrap(), b"abcd");
    }

    #[test]
    fn a_string_over_the_bound_is_passed_over_to_its_last_byte() {
        let cases: [(&[u8], u64); 5] = [
            (b"\xc0\x80", 4),
            (b"\x05abcde", 5),
            (b"\xc3\x05\x0a\x00a\xe0\x00\x00", 10),
            (b"\xc3\x05\x04\x03abcd", 5),
            (b"\xc3\x04\x03\x02abc", 4),
        ];
        for (bytes, length) in cases {
            let input = [bytes, b"rest"].concat();
            let (mut read, mut skipped) = (&input[..], &input[..]);
            assert_eq!(read_or_skip_string(&mut read, 3), Ok(Text::TooLong(length)), "{bytes:?}");
            assert_eq!(skip_string(&mut skipped), Ok(()), "{bytes:?}");
            assert_eq!((read, skipped), (&b"rest"[..], &b"rest"[..]), "{bytes:?}");
            assert_eq!(
                read_or_skip_string(&mut bytes[..bytes.len() - 1].as_ref(), 3),
                Err(RdbError::Truncated)
            );
        }
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
