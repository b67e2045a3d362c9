//! Takes a dump apart: one item after the other, from the first byte to the checksum.

use super::reader::{RdbError, Reader, Text};
use super::skip::{skip_module, skip_value};
use super::{Limits, VERSION_MAX};

const AUX: u8 = 0xfa;
const SELECT_DB: u8 = 0xfe;
const RESIZE_DB: u8 = 0xfb;
const EXPIRE_SECONDS: u8 = 0xfd;
const EXPIRE_MS: u8 = 0xfc;
const IDLE: u8 = 0xf8;
const FREQUENCY: u8 = 0xf9;
const MODULE_AUX: u8 = 0xf7;
const FUNCTION_OF_CANDIDATE: u8 = 0xf6;
const FUNCTION: u8 = 0xf5;
const SLOT_INFO: u8 = 0xf4;
const END: u8 = 0xff;
const STRING: u8 = 0;

/// The checksum stands behind dumps of this version and later.
const VERSION_WITH_CHECKSUM: u64 = 5;

/// What a dump holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// What follows is of this database.
    Database(u64),
    /// A string key.
    String { key: Vec<u8>, value: Vec<u8>, expires_at_ms: Option<u64> },
    /// A key of another type; or a function library, which has no key.
    Other(&'static str),
    /// A string that is longer than a key or a value may be.
    TooLong { what: &'static str, bytes: u64 },
}

/// Reads a dump item by item.
pub(super) struct Decoder<'a> {
    reader: Reader<'a>,
    version: u64,
    limits: Limits,
    is_done: bool,
}

impl<'a> Decoder<'a> {
    /// Reads the beginning.
    pub(super) fn new(mut reader: Reader<'a>, limits: Limits) -> Result<Self, RdbError> {
        let Ok(head) = reader.array::<9>() else { return Err(RdbError::NoDump) };
        let digits = head.strip_prefix(b"REDIS").and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()));
        let version = digits.and_then(|digits| digits.parse().ok()).ok_or(RdbError::NoDump)?;
        if !(1..=VERSION_MAX).contains(&version) {
            return Err(RdbError::Version(version));
        }
        Ok(Self { reader, version, limits, is_done: false })
    }

    /// How many bytes were read.
    pub(super) fn position(&self) -> u64 {
        self.reader.position()
    }

    /// The next item; `None` behind the last one, when the checksum is right.
    pub(super) fn next(&mut self) -> Result<Option<Item>, RdbError> {
        if self.is_done {
            return Ok(None);
        }
        let mut expires_at_ms = None;
        loop {
            let reader = &mut self.reader;
            match reader.u8()? {
                AUX => {
                    reader.skip_text()?;
                    reader.skip_text()?;
                }
                SELECT_DB => return Ok(Some(Item::Database(reader.length()?))),
                RESIZE_DB => {
                    reader.length()?;
                    reader.length()?;
                }
                SLOT_INFO => {
                    for _ in 0..3 {
                        reader.length()?;
                    }
                }
                EXPIRE_SECONDS => {
                    let seconds = u32::from_le_bytes(reader.array()?);
                    expires_at_ms = Some(u64::from(seconds) * 1_000);
                }
                EXPIRE_MS => {
                    // Signed there: what lies before 1970 has expired as much as 1970 itself.
                    let ms = i64::from_le_bytes(reader.array()?);
                    expires_at_ms = Some(u64::try_from(ms).unwrap_or(0));
                }
                IDLE => {
                    reader.length()?;
                }
                FREQUENCY => {
                    reader.u8()?;
                }
                MODULE_AUX => {
                    // The module's id, and when it is to be loaded, with the mark of a number before.
                    for _ in 0..3 {
                        reader.length()?;
                    }
                    skip_module(reader)?;
                }
                FUNCTION => {
                    reader.skip_text()?;
                    return Ok(Some(Item::Other("function library")));
                }
                number @ FUNCTION_OF_CANDIDATE => return Err(RdbError::Type(number)),
                END => {
                    self.end()?;
                    return Ok(None);
                }
                number => return self.entry(number, expires_at_ms).map(Some),
            }
        }
    }

    fn entry(&mut self, number: u8, expires_at_ms: Option<u64>) -> Result<Item, RdbError> {
        let key = self.reader.text(self.limits.key_bytes_max)?;
        if number != STRING {
            return skip_value(&mut self.reader, number).map(Item::Other);
        }
        let key = match key {
            Text::Bytes(key) => key,
            Text::TooLong(bytes) => {
                self.reader.skip_text()?;
                return Ok(Item::TooLong { what: "key", bytes });
            }
        };
        Ok(match self.reader.text(self.limits.value_bytes_max)? {
            Text::Bytes(value) => Item::String { key, value, expires_at_ms },
            Text::TooLong(bytes) => Item::TooLong { what: "value", bytes },
        })
    }

    /// What stands behind the end is nobody's matter: a dump can be a part of a stream.
    fn end(&mut self) -> Result<(), RdbError> {
        self.is_done = true;
        if self.version < VERSION_WITH_CHECKSUM {
            return Ok(());
        }
        let sum = self.reader.sum();
        let stored = u64::from_le_bytes(self.reader.array()?);
        // 0: the server was told to compute none.
        if stored == 0 || stored == sum { Ok(()) } else { Err(RdbError::Checksum) }
    }
}
