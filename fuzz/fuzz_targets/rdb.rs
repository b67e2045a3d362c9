//! Fuzzes RDB, its strings and its files: bytes never do harm or take more memory than allowed, a dump that is read is
//! written again as one that means the same, and a file reads the same whole and in pieces.

#![no_main]

use std::io::{BufRead, BufReader};

use libfuzzer_sys::fuzz_target;
use pugdb_wire::rdb::{
    FileItem, FileLimits, FileReader, crc64, dump_string, lzf_decompress, read_string, restore_string,
};

const BYTES_MAX: usize = 64 << 10;
const KEY_BYTES_MAX: usize = 64;

/// The items of a file up to its end or an error, and the text of the error.
fn items(input: impl BufRead) -> (Vec<FileItem>, Option<String>) {
    let limits = FileLimits { key_bytes_max: KEY_BYTES_MAX, value_bytes_max: BYTES_MAX };
    let mut items = Vec::new();
    let mut file = match FileReader::new(input, limits) {
        Ok(file) => file,
        Err(error) => return (items, Some(error.to_string())),
    };
    loop {
        match file.next_item() {
            Ok(Some(item)) => items.push(item),
            Ok(None) => return (items, None),
            Err(error) => return (items, Some(error.to_string())),
        }
    }
}

fn check_file(bytes: &[u8]) {
    let whole = items(bytes);
    for item in &whole.0 {
        if let FileItem::String { key, value, .. } = item {
            assert!(key.len() <= KEY_BYTES_MAX && value.len() <= BYTES_MAX);
        }
    }
    assert_eq!(items(BufReader::with_capacity(3, bytes)), whole);
}

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

    check_file(input);
    // The same between a beginning and an end that are right.
    let mut file = [b"REDIS0011", input, b"\xff"].concat();
    file.extend(crc64(0, &file).to_le_bytes());
    check_file(&file);
});
