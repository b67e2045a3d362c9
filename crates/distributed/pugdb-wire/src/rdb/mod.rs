//! The RDB format of Redis, as far as strings go: what `DUMP` returns, and the pieces that a file is made of.
//!
//! ```text
//! string   length, then so many bytes; or an integer of 1, 2 or 4 bytes; or LZF: two lengths, then the packed bytes
//! length   00xxxxxx; 01xxxxxx and one byte more; 0x80 and 4 bytes; 0x81 and 8 bytes (all big-endian); 11xxxxxx: an
//!          encoding of the string, not a length
//! dump     type (1 byte), object, RDB version (2 bytes, little-endian), CRC-64 of all before (8 bytes, little-endian)
//! ```
//!
//! Nothing here trusts a length: a string is refused before it is made when it would be larger than the caller allows,
//! or than its bytes can unpack to.

mod crc64;
mod dump;
mod lzf;
mod string;

pub use crc64::crc64;
pub use dump::{DumpError, RDB_VERSION, RDB_VERSION_MAX, TYPE_STRING, TYPES, dump_string, restore_string};
pub use lzf::lzf_decompress;
pub use string::{Length, RdbError, read_length, read_string, write_length, write_string};
