//! Fuzzes the records of value files and the pointers to them: damaged and hostile bytes are an error, never a panic, and a
//! record that is opened holds no more than its bytes can stand for. What was sealed is opened as it was, and nowhere else.

#![no_main]

use std::sync::Arc;

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use pugdb_core::seam::Plain;
use pugdb_core::{FileId, KeyspaceId};
use pugdb_lsm::checksum::Checksum;
use pugdb_lsm::table::compression::Compressor;
use pugdb_lsm::table::{Compression, KeyHash};
use pugdb_lsm::values::{Pointer, Records};

const ID: FileId = FileId([7; 16]);

fn records() -> Records {
    Records::new(ID, KeyspaceId(1), Arc::new(Plain))
}

// The first two bytes choose where the record lies.
fuzz_target!(|data: &[u8]| {
    let Some((at, input)) = data.split_first_chunk::<2>() else { return };
    let offset = u64::from(u16::from_le_bytes(*at));
    if let Ok(pointer) = Pointer::decode(input) {
        let mut again = Vec::new();
        pointer.encode(&mut again);
        assert_eq!(Pointer::decode(&again).expect("it was a pointer"), pointer);
    }
    let _ = records().open(offset, BytesMut::from(input));

    // With a right length and checksum, so that what is behind them is reached.
    let length = u32::try_from(input.len()).expect("inputs are short").to_le_bytes();
    let mut record = [&length[..], input].concat();
    let checksum = Checksum::of(ID).at(offset, &record);
    record.extend_from_slice(&checksum.to_le_bytes());
    if let Ok(opened) = records().open(offset, BytesMut::from(&record[..])) {
        assert!(opened.value.len() <= input.len().max(16 << 20) * 256);
    }

    let key = KeyHash::of(at);
    let mut compressor = Compressor::new(Compression::Lz4).expect("there is such a compression");
    let mut sealed = Vec::new();
    records().seal(offset, key, input, &mut compressor, &mut sealed).expect("nothing is sealed");
    let opened = records().open(offset, BytesMut::from(&sealed[..])).expect("it was sealed here");
    assert!(opened.key == key && opened.value == input);
    assert!(records().open(offset + 1, BytesMut::from(&sealed[..])).is_err());
    let at = usize::from(at[0]) % sealed.len();
    sealed[at] ^= 1 << (at % 8);
    assert!(records().open(offset, BytesMut::from(&sealed[..])).is_err());
});
