//! The bytes of a dump: numbers, lengths and strings, counted and summed. Nothing that a dump announces is believed
//! before its bytes are there.

use std::fmt;
use std::io::{self, BufRead, Read as _};

use super::{crc64, lzf};

/// What is wrong with a dump, without a byte of its content.
#[derive(Debug)]
pub(super) enum RdbError {
    Io(io::Error),
    /// It ends in the middle of something.
    Short,
    /// It does not begin as a dump does.
    NoDump,
    /// A version that is not known here.
    Version(u64),
    /// A length or a string is spelled in a way that no version knows.
    Spelling(&'static str),
    /// A type of value that no version up to 12 knows.
    Type(u8),
    /// The checksum at the end is another one.
    Checksum,
}

impl fmt::Display for RdbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "it cannot be read: {error}"),
            Self::Short => f.write_str("the dump ends in the middle"),
            Self::NoDump => {
                f.write_str("this is no dump of Redis: it does not begin with REDIS and a version")
            }
            Self::Version(version) => {
                write!(f, "the dump has version {version}; versions 1 to {} are read", super::VERSION_MAX)
            }
            Self::Spelling(what) => write!(f, "damaged: {what}"),
            Self::Type(number) => write!(f, "damaged, or newer: there is no type of value {number}"),
            Self::Checksum => f.write_str("damaged: the checksum at the end is another one"),
        }
    }
}

impl From<io::Error> for RdbError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Short,
            _ => Self::Io(error),
        }
    }
}

/// A length, or what stands in place of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Plain(u64),
    /// A string in a special spelling.
    Special(u8),
}

/// A string that was read, or not for want of room.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Text {
    Bytes(Vec<u8>),
    TooLong(u64),
}

/// Reads a dump from front to back.
pub(super) struct Reader<'a> {
    input: &'a mut dyn BufRead,
    position: u64,
    sum: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(input: &'a mut dyn BufRead) -> Self {
        Self { input, position: 0, sum: 0 }
    }

    /// How many bytes were read.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The checksum of what was read.
    pub(super) fn sum(&self) -> u64 {
        self.sum
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], RdbError> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        self.note(&bytes);
        Ok(bytes)
    }

    fn note(&mut self, bytes: &[u8]) {
        self.position += bytes.len() as u64;
        self.sum = crc64::update(self.sum, bytes);
    }

    pub(super) fn u8(&mut self) -> Result<u8, RdbError> {
        Ok(self.array::<1>()?[0])
    }

    /// Passes over bytes.
    pub(super) fn skip(&mut self, count: u64) -> Result<(), RdbError> {
        let mut left = count;
        while left > 0 {
            let chunk = self.input.fill_buf()?;
            let length = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if length == 0 {
                return Err(RdbError::Short);
            }
            self.sum = crc64::update(self.sum, &chunk[..length]);
            self.position += length as u64;
            self.input.consume(length);
            left -= length as u64;
        }
        Ok(())
    }

    /// As many bytes as there have to be. They take memory only as they come.
    fn bytes(&mut self, count: usize) -> Result<Vec<u8>, RdbError> {
        let mut bytes = Vec::new();
        (&mut *self.input).take(count as u64).read_to_end(&mut bytes)?;
        if bytes.len() < count {
            return Err(RdbError::Short);
        }
        self.note(&bytes);
        Ok(bytes)
    }

    fn length_or_special(&mut self) -> Result<Length, RdbError> {
        let first = self.u8()?;
        Ok(match (first >> 6, first & 0x3f) {
            (0, low) => Length::Plain(low.into()),
            (1, high) => Length::Plain(u64::from(high) << 8 | u64::from(self.u8()?)),
            (2, 0) => Length::Plain(u32::from_be_bytes(self.array()?).into()),
            (2, 1) => Length::Plain(u64::from_be_bytes(self.array()?)),
            (2, _) => return Err(RdbError::Spelling("a length is spelled in an unknown way")),
            (_, special) => Length::Special(special),
        })
    }

    /// A length or a number.
    pub(super) fn length(&mut self) -> Result<u64, RdbError> {
        match self.length_or_special()? {
            Length::Plain(length) => Ok(length),
            Length::Special(_) => Err(RdbError::Spelling("a string stands where a length has to be")),
        }
    }

    /// A string of at most `bytes_max`; a longer one is passed over.
    pub(super) fn text(&mut self, bytes_max: usize) -> Result<Text, RdbError> {
        let number = |number: i64| Ok(Text::Bytes(number.to_string().into_bytes()));
        match self.length_or_special()? {
            Length::Plain(length) => match usize::try_from(length).ok().filter(|&length| length <= bytes_max)
            {
                Some(length) => self.bytes(length).map(Text::Bytes),
                None => self.skip(length).map(|()| Text::TooLong(length)),
            },
            Length::Special(0) => number(i8::from_le_bytes(self.array()?).into()),
            Length::Special(1) => number(i16::from_le_bytes(self.array()?).into()),
            Length::Special(2) => number(i32::from_le_bytes(self.array()?).into()),
            Length::Special(3) => self.compressed(bytes_max),
            Length::Special(_) => Err(RdbError::Spelling("a string is spelled in an unknown way")),
        }
    }

    fn compressed(&mut self, bytes_max: usize) -> Result<Text, RdbError> {
        let (compressed, length) = (self.length()?, self.length()?);
        let fits = |length: u64| usize::try_from(length).ok().filter(|&length| length <= bytes_max);
        // What is compressed is never longer than what it stands for.
        let (Some(short), Some(long)) = (fits(compressed), fits(length)) else {
            self.skip(compressed)?;
            return Ok(Text::TooLong(length));
        };
        let bytes = self.bytes(short)?;
        lzf::decompress(&bytes, long)
            .map(Text::Bytes)
            .ok_or(RdbError::Spelling("a compressed string does not add up"))
    }

    /// Passes over a string.
    pub(super) fn skip_text(&mut self) -> Result<(), RdbError> {
        match self.length_or_special()? {
            Length::Plain(length) => self.skip(length),
            Length::Special(0) => self.skip(1),
            Length::Special(1) => self.skip(2),
            Length::Special(2) => self.skip(4),
            Length::Special(3) => {
                let (compressed, _) = (self.length()?, self.length()?);
                self.skip(compressed)
            }
            Length::Special(_) => Err(RdbError::Spelling("a string is spelled in an unknown way")),
        }
    }
}
