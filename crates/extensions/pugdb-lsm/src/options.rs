//! How a keyspace's tables are made: options that its creation and its manifest keep, and that can change for new tables.

use std::fmt;
use std::ops::RangeInclusive;

use pugdb_core::coding::{Reader, put_bytes, put_varint};
use pugdb_core::seam::Sealing;
use pugdb_core::{Error, Result, limits};

use crate::table::{Compression, PrefixExtractor, TableOptions};

/// How the tables of one keyspace are made.
///
/// ```
/// use pugdb_lsm::TreeOptions;
/// use pugdb_lsm::table::Compression;
///
/// assert_eq!(TreeOptions::default().upper, Compression::None);
/// assert_eq!(TreeOptions::default().bottom, Compression::Lz4);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeOptions {
    /// Of what a flush writes, and of merges that are not to the bottom: young, and soon written again.
    pub upper: Compression,
    /// Of merges to the bottom, where most of the data is and stays.
    pub bottom: Compression,
    /// The content of a block, about.
    pub block_bytes: usize,
    /// Bits of filter for each key; none without a filter.
    pub filter_bits: u8,
    /// Whose prefixes filters know beside the keys.
    pub prefix: PrefixExtractor,
    /// Values of this length and longer go into value files; `None`: none does.
    pub separate_values: Option<usize>,
    /// Whether its operations are in the log. It never changes.
    pub logging: Logging,
    /// Whose operands it may hold. It comes with the first of them, and never changes.
    pub operator: Option<OperatorName>,
    /// After how many milliseconds an entry expires that was written without an expiry; `None`: it does not. Whoever writes
    /// looks at it, of engines in memory too.
    pub default_expiry_ms: Option<u64>,
    /// How many bytes it may take, of engines in memory too; `None`: any. Whoever writes looks at it.
    pub quota_bytes: Option<u64>,
    /// How many keys it may have.
    pub quota_keys: Option<u64>,
    /// Whether its tables and value files are sealed, in a database that is encrypted. What log and manifest have of it always is.
    pub sealing: Sealing,
}

/// The name of a merge operator.
///
/// ```
/// use pugdb_lsm::OperatorName;
///
/// assert_eq!(OperatorName::new("greatest")?.as_str(), "greatest");
/// assert!(OperatorName::new("").is_err());
/// # Ok::<(), pugdb_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct OperatorName {
    length: u8,
    bytes: [u8; limits::OPERATOR_NAME_BYTES_MAX],
}

impl OperatorName {
    /// Takes over the name.
    ///
    /// # Errors
    /// `Invalid` when it has not 1 to 63 bytes, or control characters.
    pub fn new(name: &str) -> Result<Self> {
        let max = limits::OPERATOR_NAME_BYTES_MAX;
        let length = u8::try_from(name.len()).ok().filter(|length| (1..=max).contains(&usize::from(*length)));
        let (Some(length), false) = (length, name.chars().any(char::is_control)) else {
            return Err(Error::invalid(format!(
                "the name of a merge operator has 1 to {max} bytes and no control characters"
            )));
        };
        let mut bytes = [0; limits::OPERATOR_NAME_BYTES_MAX];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Ok(Self { length, bytes })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).expect("it was made of a string")
    }
}

impl fmt::Debug for OperatorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Whether what is written to a keyspace is written to the log.
///
/// ```
/// assert_eq!(pugdb_lsm::Logging::default(), pugdb_lsm::Logging::Logged);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Logging {
    /// A commit survives what its durability says.
    #[default]
    Logged,
    /// A commit survives a crash when it was flushed before, and so were those before it.
    Unlogged,
}

/// Where in a tree a table is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something older lies beneath it, or will be merged with it soon.
    Upper,
    /// It holds the oldest that there is.
    Bottom,
}

// The numbers are part of the disk format.
const UPPER: u64 = 1;
const BOTTOM: u64 = 2;
const BLOCK_BYTES: u64 = 3;
const FILTER_BITS: u64 = 4;
const SEPARATE_VALUES: u64 = 5;
const UNLOGGED: u64 = 6;
const OPERATOR: u64 = 7;
const PREFIX: u64 = 8;
const DEFAULT_EXPIRY: u64 = 9;
const QUOTA_BYTES: u64 = 10;
const QUOTA_KEYS: u64 = 11;
const PLAIN: u64 = 12;

/// What can be asked for.
const SEPARATE_RANGE: RangeInclusive<usize> = limits::SEPARATE_BYTES_MIN..=limits::VALUE_BYTES_MAX;

impl Default for TreeOptions {
    fn default() -> Self {
        let table = TableOptions::default();
        Self {
            upper: Compression::None,
            bottom: Compression::Lz4,
            block_bytes: table.block_bytes,
            filter_bits: table.filter_bits,
            prefix: table.prefix,
            separate_values: None,
            logging: Logging::default(),
            operator: None,
            default_expiry_ms: None,
            quota_bytes: None,
            quota_keys: None,
            sealing: Sealing::default(),
        }
    }
}

impl TreeOptions {
    /// How a table there is made.
    pub fn table(&self, level: Level) -> TableOptions {
        let compression = match level {
            Level::Upper => self.upper,
            Level::Bottom => self.bottom,
        };
        let &Self { block_bytes, filter_bits, prefix, sealing, .. } = self;
        TableOptions { block_bytes, compression, filter_bits, prefix, sealing }
    }

    /// Refuses what is out of range.
    ///
    /// # Errors
    /// `Invalid`, naming the range.
    pub fn check(&self) -> Result<()> {
        self.upper.check()?;
        self.bottom.check()?;
        self.prefix.check()?;
        if !(limits::BLOCK_BYTES_MIN..=limits::BLOCK_BYTES_MAX).contains(&self.block_bytes) {
            return Err(Error::invalid(format!(
                "block_bytes is {}; {} to {} are allowed",
                self.block_bytes,
                limits::BLOCK_BYTES_MIN,
                limits::BLOCK_BYTES_MAX
            )));
        }
        if self.default_expiry_ms == Some(0) {
            return Err(Error::invalid(
                "a default expiry of nothing would forget all that is written; leave it out",
            ));
        }
        if self.quota_bytes == Some(0) || self.quota_keys == Some(0) {
            return Err(Error::invalid(
                "a quota of 0 would let nothing in; leave it out, and nothing bounds it",
            ));
        }
        if self.filter_bits > limits::FILTER_BITS_MAX {
            return Err(Error::invalid(format!(
                "filter_bits is {}; at most {} are allowed",
                self.filter_bits,
                limits::FILTER_BITS_MAX
            )));
        }
        if self.separate_values.is_some_and(|bytes| !SEPARATE_RANGE.contains(&bytes)) {
            return Err(Error::invalid(format!(
                "separate_values is {}; {} to {} are allowed, and 0 to keep all values in tables",
                self.separate_values.unwrap_or(0),
                SEPARATE_RANGE.start(),
                SEPARATE_RANGE.end()
            )));
        }
        Ok(())
    }

    /// Appends them to `out`: their length, then each as its number, its length and its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut fields = Vec::with_capacity(16);
        for (id, compression) in [(UPPER, self.upper), (BOTTOM, self.bottom)] {
            put_varint(&mut fields, id);
            put_bytes(&mut fields, &compression.to_bytes());
        }
        let separate = self.separate_values.unwrap_or(0);
        for (id, number) in [
            (BLOCK_BYTES, self.block_bytes as u64),
            (FILTER_BITS, self.filter_bits.into()),
            (SEPARATE_VALUES, separate as u64),
        ] {
            let mut bytes = Vec::with_capacity(10);
            put_varint(&mut bytes, number);
            put_varint(&mut fields, id);
            put_bytes(&mut fields, &bytes);
        }
        if self.logging == Logging::Unlogged {
            put_varint(&mut fields, UNLOGGED);
            put_bytes(&mut fields, &[1]);
        }
        if let Some(operator) = &self.operator {
            put_varint(&mut fields, OPERATOR);
            put_bytes(&mut fields, operator.as_str().as_bytes());
        }
        if self.prefix != PrefixExtractor::None {
            put_varint(&mut fields, PREFIX);
            put_bytes(&mut fields, &self.prefix.to_bytes());
        }
        for (id, number) in [
            (DEFAULT_EXPIRY, self.default_expiry_ms),
            (QUOTA_BYTES, self.quota_bytes),
            (QUOTA_KEYS, self.quota_keys),
        ] {
            let Some(number) = number else { continue };
            let mut bytes = Vec::with_capacity(10);
            put_varint(&mut bytes, number);
            put_varint(&mut fields, id);
            put_bytes(&mut fields, &bytes);
        }
        if self.sealing == Sealing::Plain {
            put_varint(&mut fields, PLAIN);
            put_bytes(&mut fields, &[1]);
        }
        put_bytes(out, &fields);
    }

    /// Reads what [`encode`](Self::encode) wrote. One that is absent has its default. One that is not known is an error:
    /// who made the keyspace asked for something that this version would not do.
    ///
    /// # Errors
    /// `Corrupt` when they are no options, `Unsupported` when this version does not know one of them or what it says.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let mut fields = Reader::new(reader.bytes()?);
        let (mut options, mut last) = (Self::default(), 0);
        while !fields.is_empty() {
            let id = fields.varint()?;
            let mut value = Reader::new(fields.bytes()?);
            if id <= last {
                return Err(Error::corrupt("the options of a keyspace are not in order"));
            }
            last = id;
            match id {
                UPPER => options.upper = Compression::from_bytes(value.array()?)?,
                BOTTOM => options.bottom = Compression::from_bytes(value.array()?)?,
                BLOCK_BYTES => options.block_bytes = value.length()?,
                SEPARATE_VALUES => {
                    options.separate_values = Some(value.length()?).filter(|bytes| *bytes > 0);
                }
                FILTER_BITS => options.filter_bits = u8::try_from(value.varint()?).unwrap_or(u8::MAX),
                UNLOGGED => match value.u8()? {
                    1 => options.logging = Logging::Unlogged,
                    _ => return Err(Error::newer("how a keyspace is logged")),
                },
                OPERATOR => {
                    let name =
                        std::str::from_utf8(value.rest()).ok().and_then(|name| OperatorName::new(name).ok());
                    let wrong = || Error::corrupt("a keyspace's merge operator has no name");
                    options.operator = Some(name.ok_or_else(wrong)?);
                    continue;
                }
                PREFIX => options.prefix = PrefixExtractor::from_bytes(value.array()?)?,
                DEFAULT_EXPIRY => options.default_expiry_ms = Some(value.varint()?),
                QUOTA_BYTES => options.quota_bytes = Some(value.varint()?),
                QUOTA_KEYS => options.quota_keys = Some(value.varint()?),
                PLAIN => match value.u8()? {
                    1 => options.sealing = Sealing::Plain,
                    _ => return Err(Error::newer("how a keyspace is sealed")),
                },
                _ => return Err(Error::newer(format_args!("option {id} of a keyspace"))),
            }
            if !value.is_empty() {
                return Err(Error::newer(format_args!("what more option {id} of a keyspace says")));
            }
        }
        // A later version may allow more.
        options.check().map_err(|error| {
            Error::newer(format_args!("an option of a keyspace beyond its range ({})", error.cause()))
        })?;
        Ok(options)
    }

    /// Reads what [`encode`](Self::encode) wrote, with nothing behind it.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_alone(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let options = Self::decode(&mut reader)?;
        if reader.is_empty() {
            Ok(options)
        } else {
            Err(Error::newer("what stands behind the options of a keyspace"))
        }
    }
}

#[cfg(test)]
mod tests {
    use pugdb_core::ErrorKind;

    use super::*;

    fn encoded(options: &TreeOptions) -> Vec<u8> {
        let mut out = Vec::new();
        options.encode(&mut out);
        out
    }

    fn decoded(bytes: &[u8]) -> Result<TreeOptions> {
        TreeOptions::decode(&mut Reader::new(bytes))
    }

    const OTHERS: TreeOptions = TreeOptions {
        upper: Compression::Lz4,
        bottom: Compression::Zstd { level: 9 },
        block_bytes: 1 << 20,
        filter_bits: 0,
        prefix: PrefixExtractor::Length(3),
        separate_values: Some(300),
        logging: Logging::Unlogged,
        operator: None,
        default_expiry_ms: Some(86_400_000),
        quota_bytes: Some(1 << 40),
        quota_keys: Some(1_000_000),
        sealing: Sealing::Plain,
    };

    #[test]
    fn options_round_trip_and_every_cut_is_corrupt() {
        let merging = TreeOptions { operator: Some(OperatorName::new("greatest").unwrap()), ..OTHERS };
        for options in [TreeOptions::default(), OTHERS, merging] {
            let bytes = encoded(&options);
            assert_eq!(decoded(&bytes).unwrap(), options);
            for end in 0..bytes.len() {
                assert!(decoded(&bytes[..end]).is_err());
            }
        }
        assert_eq!(decoded(&[0]).unwrap(), TreeOptions::default(), "what is absent has its default");
    }

    #[test]
    fn options_that_are_unknown_too_long_or_out_of_range_are_of_a_newer_version() {
        let newer: [&[u8]; 19] = [
            &[3, 9, 1, 0],
            &[4, 9, 2, 1, 1],
            &[3, 10, 1, 0],
            &[3, 11, 1, 0],
            &[4, 11, 2, 1, 1],
            &[3, 12, 1, 0],
            &[4, 12, 2, 1, 1],
            &[3, 13, 1, 0],
            &[4, 8, 2, 1, 0],
            &[5, 8, 3, 1, 4, 0],
            &[3, 6, 1, 0],
            &[4, 6, 2, 1, 1],
            &[3, 5, 1, 7],
            &[4, 4, 2, 9, 0],
            &[3, 4, 1, 21],
            &[3, 3, 1, 1],
            &[4, 1, 2, 9, 0],
            &[4, 1, 2, 1, 1],
            &[4, 2, 2, 3, 20],
        ];
        for bytes in newer {
            assert_eq!(decoded(bytes).unwrap_err().kind(), ErrorKind::Unsupported, "{bytes:?}");
        }
        let corrupt: [&[u8]; 4] = [&[2, 7, 0], &[3, 7, 1, 0xff], &[3, 8, 1, 0], &[6, 4, 1, 9, 4, 1, 9]];
        for bytes in corrupt {
            assert_eq!(decoded(bytes).unwrap_err().kind(), ErrorKind::Corrupt, "{bytes:?}");
        }
        let behind = TreeOptions::decode_alone(&[3, 4, 1, 9, 0]).unwrap_err();
        assert_eq!(behind.kind(), ErrorKind::Unsupported);
        assert_eq!(decoded(&[3, 4, 1, 9]).unwrap().filter_bits, 9);
    }

    #[test]
    fn the_level_decides_between_the_two_compressions() {
        assert_eq!(OTHERS.table(Level::Upper).compression, Compression::Lz4);
        assert_eq!(OTHERS.table(Level::Bottom).compression, Compression::Zstd { level: 9 });
    }
}
