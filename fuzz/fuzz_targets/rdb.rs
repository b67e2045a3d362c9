//! Fuzzes the strings of RDB: bytes never do harm or take more memory than allowed, and a dump that is read is written
//! again as one that means the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pugdb_wire::rdb::{crc64, dump_string, lzf_decompress, read_string, restore_string};

const BYTES_MAX: usize = 64 << 10;

// The first two bytes are a length, the rest is the input.
fuzz_target!(|data: &[u8]| {
    let Some((length, input)) = data.split_first_chunk::<2>() else { return };
    let length = usize::from(u16::from_le_bytes(*length));

    if let Ok(string) = lzf_decompress(input, length) {
        assert_eq!(string.len(), length);
    }
    let mut rest = input;
    if let Ok(string) = read_string(&mut rest, length) {
        assert!(string.len() <= length && input.ends_with(rest));
        assert_eq!(restore_string(&dump_string(&string), length), Ok(string));
    }
    let _ = restore_string(input, BYTES_MAX);

    // The same with a footer that is right, so that what lies behind the checksum is reached.
    let mut dump = [input, &11_u16.to_le_bytes()].concat();
    dump.extend(crc64(0, &dump).to_le_bytes());
    if let Ok(string) = restore_string(&dump, BYTES_MAX) {
        assert!(string.len() <= BYTES_MAX);
    }
});
