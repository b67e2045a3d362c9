//! The RDB format of Redis: lengths and strings, the dump of one string, and the file that holds a whole server.
//!
//! ```text
//! string   length, then so many bytes; or an integer of 1, 2 or 4 bytes; or LZF: two lengths, then the packed bytes
//! length   00xxxxxx; 01xxxxxx and one byte more; 0x80 and 4 bytes; 0x81 and 8 bytes (all big-endian); 11xxxxxx: an
//!          encoding of the string, not a length
//! dump     type (1 byte), object, RDB version (2 bytes, little-endian), CRC-64 of all before (8 bytes, little-endian)
//! file     "REDIS", RDB version (4 digits), marks and keys, 0xff, CRC-64 of all before (8 bytes, little-endian)
//! ```
//!
//! | file | its part |
//! |---|---|
//! | `source` | where bytes come from: a slice or a stream |
//! | `string` | lengths and strings, from and to bytes |
//! | `lzf`, `crc64` | compressed strings; the checksum |
//! | `value` | values of other types: their names, and where they end |
//! | `dump` | what `DUMP` returns and `RESTORE` reads |
//! | `file` | a file, one item after the other |
//!
//! Nothing here trusts a length: a string is refused before it is made when it would be larger than the caller allows,
//! or than its bytes can unpack to; and what is announced takes memory only as its bytes come.
//!
//! The format is that of `rdb.c` and `rdb.h` of Redis 7.4, versions 1 to 12.

mod crc64;
mod dump;
mod file;
mod lzf;
mod source;
mod string;
mod value;

pub use crc64::crc64;
pub use dump::{DumpError, RDB_VERSION, RDB_VERSION_MAX, TYPE_STRING, dump_string, restore_string};
pub use file::{FileError, FileItem, FileLimits, FileReader};
pub use lzf::lzf_decompress;
pub use source::Source;
pub use string::{Length, RdbError, read_length, read_string, write_length, write_string};
