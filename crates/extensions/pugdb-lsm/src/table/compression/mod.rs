//! What becomes of a piece's content before it is sealed: compressed where that gains enough, as it is otherwise.
//!
//! ```text
//! content ──[Compressor::pack]──> packed, then sealed      as it is:    content | 0
//! opened  ──[unpack]──> content                            compressed:  bytes | length of the content u32 | codec
//! ```
//!
//! A table belongs to one keyspace and a piece to one table, so two keyspaces never share what compression could tell of
//! one to a reader of the other. Drawn in `docs/format/table.md`.

use std::fmt;
use std::str::FromStr;

use bytes::{Bytes, BytesMut};
use pugdb_core::coding::index;
use pugdb_core::{Error, Result, limits};

use super::block::BLOCK_BYTES_MAX;

mod gzip;
mod lz4;
mod snappy;
#[cfg(test)]
mod tests;
mod zstd;

/// Below this gain a piece stays as it is: each read of it would pay for the few bytes that were won.
const GAIN_PERCENT_MIN: usize = 12;
/// The codec's number.
const CODEC_BYTES: usize = 1;
/// The length of what was compressed, and the codec's number.
const TRAILER_BYTES: usize = 4 + CODEC_BYTES;
/// What a piece may hold: a block that is as large as one may be made, and the largest entry behind it.
const CONTENT_BYTES_MAX: usize = BLOCK_BYTES_MAX + limits::KEY_BYTES_MAX + limits::VALUE_BYTES_MAX + 1024;
/// Content larger than a block is made on purpose is at most so many times what is stored of it. A few stored bytes must
/// not take half a GiB of memory; what is that much alike is stored as it is.
const EXPANSION_MAX: usize = 256;
/// Zstd's levels above take much more memory and are made for files of another size.
const ZSTD_LEVEL_MAX: u8 = 19;
const GZIP_LEVEL_MAX: u8 = 9;

const _: () = assert!(CONTENT_BYTES_MAX < u32::MAX as usize);

/// How the blocks of tables are compressed.
///
/// Written as `none`, `lz4`, `snappy`, `zstd:LEVEL` (1 to 19) and `gzip:LEVEL` (1 to 9); `zstd` is `zstd:1`, and `gzip` is
/// `gzip:6`.
///
/// ```
/// use pugdb_lsm::table::Compression;
///
/// assert_eq!("zstd".parse::<Compression>()?, Compression::Zstd { level: 1 });
/// assert_eq!(Compression::Gzip { level: 6 }.to_string(), "gzip:6");
/// assert!("zstd:20".parse::<Compression>().is_err());
/// # Ok::<(), pugdb_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// None: the cheapest to write and to read.
    #[default]
    None,
    /// LZ4: little work, about half the size where values are text.
    Lz4,
    /// Snappy: much like LZ4.
    Snappy,
    /// Zstandard: smaller, and more work.
    Zstd {
        /// From 1, the fastest, to 19.
        level: u8,
    },
    /// Gzip: for comparison with other systems; Zstandard is smaller in less time.
    Gzip {
        /// From 1, the fastest, to 9.
        level: u8,
    },
}

/// How a piece is compressed, as it stands in the piece. The numbers are part of the disk format.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Codec {
    Raw = 0,
    Lz4 = 1,
    Snappy = 2,
    Zstd = 3,
    Gzip = 4,
}

impl Codec {
    fn from_number(number: u8) -> Option<Self> {
        [Self::Raw, Self::Lz4, Self::Snappy, Self::Zstd, Self::Gzip]
            .into_iter()
            .find(|codec| *codec as u8 == number)
    }
}

impl Compression {
    /// Zstandard at its fastest level.
    pub const ZSTD: Self = Self::Zstd { level: 1 };

    /// Refuses a level that there is not.
    ///
    /// # Errors
    /// `Invalid`, naming the levels that there are.
    pub fn check(self) -> Result<()> {
        match self {
            Self::Zstd { level } if !(1..=ZSTD_LEVEL_MAX).contains(&level) => {
                Err(Error::invalid(format!("zstd has the levels 1 to {ZSTD_LEVEL_MAX}, and not {level}")))
            }
            Self::Gzip { level } if !(1..=GZIP_LEVEL_MAX).contains(&level) => {
                Err(Error::invalid(format!("gzip has the levels 1 to {GZIP_LEVEL_MAX}, and not {level}")))
            }
            _ => Ok(()),
        }
    }

    /// The codec's number and its level, as they are stored.
    pub(crate) fn to_bytes(self) -> [u8; 2] {
        match self {
            Self::None => [Codec::Raw as u8, 0],
            Self::Lz4 => [Codec::Lz4 as u8, 0],
            Self::Snappy => [Codec::Snappy as u8, 0],
            Self::Zstd { level } => [Codec::Zstd as u8, level],
            Self::Gzip { level } => [Codec::Gzip as u8, level],
        }
    }

    /// Reads what [`to_bytes`](Self::to_bytes) made.
    ///
    /// # Errors
    /// `Unsupported` when it is no compression that this version knows.
    pub(crate) fn from_bytes([codec, level]: [u8; 2]) -> Result<Self> {
        let unknown = || Error::newer(format_args!("compression {codec} with level {level}"));
        let compression = match Codec::from_number(codec).ok_or_else(unknown)? {
            Codec::Zstd => Self::Zstd { level },
            Codec::Gzip => Self::Gzip { level },
            _ if level != 0 => return Err(unknown()),
            Codec::Raw => Self::None,
            Codec::Lz4 => Self::Lz4,
            Codec::Snappy => Self::Snappy,
        };
        compression.check().map_err(|_| unknown())?;
        Ok(compression)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Lz4 => f.write_str("lz4"),
            Self::Snappy => f.write_str("snappy"),
            Self::Zstd { level } => write!(f, "zstd:{level}"),
            Self::Gzip { level } => write!(f, "gzip:{level}"),
        }
    }
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, Some(level.parse::<u8>())),
            None => (text, None),
        };
        let compression = match (name, level) {
            ("none", None) => Self::None,
            ("lz4", None) => Self::Lz4,
            ("snappy", None) => Self::Snappy,
            ("zstd", None) => Self::ZSTD,
            ("gzip", None) => Self::Gzip { level: 6 },
            ("zstd", Some(Ok(level))) => Self::Zstd { level },
            ("gzip", Some(Ok(level))) => Self::Gzip { level },
            _ => {
                return Err(Error::invalid(
                    "a compression is none, lz4, snappy, zstd[:1..19] or gzip[:1..9]",
                ));
            }
        };
        compression.check()?;
        Ok(compression)
    }
}

/// Compresses the pieces of one file after the other: what a codec needs to work is made once.
pub struct Compressor {
    state: State,
    packed: Vec<u8>,
}

enum State {
    None,
    Lz4(lz4::State),
    Snappy(Box<snappy::State>),
    Zstd(zstd::State),
    Gzip(gzip::State),
}

impl Compressor {
    /// One that leaves everything as it is.
    pub fn none() -> Self {
        Self { state: State::None, packed: Vec::new() }
    }

    /// One for this compression.
    ///
    /// # Errors
    /// `Invalid` when there is no such level; `Unavailable` without memory for it.
    pub fn new(compression: Compression) -> Result<Self> {
        compression.check()?;
        let state = match compression {
            Compression::None => State::None,
            Compression::Lz4 => State::Lz4(lz4::State::default()),
            Compression::Snappy => State::Snappy(Box::new(snappy::State::new())),
            Compression::Zstd { level } => State::Zstd(zstd::compressor(level)?),
            Compression::Gzip { level } => State::Gzip(gzip::compressor(level)),
        };
        Ok(Self { state, packed: Vec::new() })
    }

    /// Replaces `data[from..]` by its packed form.
    pub fn pack(&mut self, data: &mut Vec<u8>, from: usize) {
        let codec = self.compress(&data[from..]);
        if codec != Codec::Raw {
            let length =
                u32::try_from(data.len() - from).expect("what is compressed is under 4 GiB: see `gain`");
            data.truncate(from);
            data.extend_from_slice(&self.packed);
            data.extend_from_slice(&length.to_le_bytes());
        }
        data.push(codec as u8);
        // One huge value must not keep its memory until the table is done.
        self.packed.clear();
        self.packed.shrink_to(1 << 20);
    }

    /// Leaves the compressed content in `packed`, if it gains enough.
    fn compress(&mut self, content: &[u8]) -> Codec {
        let packed = &mut self.packed;
        packed.clear();
        let Some(room) = room(content.len()) else { return Codec::Raw };
        let (codec, fits) = match &mut self.state {
            State::None => return Codec::Raw,
            State::Lz4(state) => (Codec::Lz4, lz4::compress(state, content, packed)),
            State::Snappy(state) => (Codec::Snappy, snappy::compress(state, content, packed)),
            State::Zstd(state) => (Codec::Zstd, zstd::compress(state, content, packed, room)),
            State::Gzip(state) => (Codec::Gzip, gzip::compress(state, content, packed, room)),
        };
        let gains = fits && packed.len() <= room && content.len() <= content_bytes_max(packed.len());
        if gains { codec } else { Codec::Raw }
    }
}

/// How long `content` may be when it is compressed; `None` when no length would be a gain.
fn room(content: usize) -> Option<usize> {
    let most = content - content.checked_mul(GAIN_PERCENT_MIN)?.div_ceil(100);
    most.checked_sub(TRAILER_BYTES).filter(|room| *room > 0 && content <= CONTENT_BYTES_MAX)
}

/// How much content so many compressed bytes may stand for.
fn content_bytes_max(packed: usize) -> usize {
    packed.saturating_mul(EXPANSION_MAX).clamp(BLOCK_BYTES_MAX, CONTENT_BYTES_MAX)
}

/// The content of what [`pack`](Compressor::pack) made.
///
/// # Errors
/// `Corrupt` when it is nothing of the kind, before memory is taken for more than a piece can hold; `Unsupported` when it was
/// packed in a way that came later.
pub fn unpack(mut packed: BytesMut) -> Result<Bytes> {
    let damaged = || Error::corrupt("it cannot be decompressed; run `pugdb verify`");
    let (&codec, rest) = packed.split_last().ok_or_else(damaged)?;
    let codec = Codec::from_number(codec).ok_or_else(|| Error::newer(format_args!("codec {codec}")))?;
    if codec == Codec::Raw {
        packed.truncate(packed.len() - CODEC_BYTES);
        return Ok(packed.freeze());
    }
    let (bytes, length) = rest.split_last_chunk::<4>().ok_or_else(damaged)?;
    let length = index(u64::from(u32::from_le_bytes(*length)));
    if length > content_bytes_max(bytes.len()) {
        return Err(damaged());
    }
    let mut content = vec![0; length];
    let is_whole = match codec {
        Codec::Raw => false,
        Codec::Lz4 => lz4::decompress(bytes, &mut content),
        Codec::Snappy => snappy::decompress(bytes, &mut content),
        Codec::Zstd => zstd::decompress(bytes, &mut content),
        Codec::Gzip => gzip::decompress(bytes, &mut content),
    };
    if is_whole { Ok(content.into()) } else { Err(damaged()) }
}
