//! Fuzzes the codecs of tables without the checksum that protects them: hostile bytes are an error, or content of the length
//! they say; what was packed is unpacked as it was, also by a compressor that has packed something else before.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use pugdb_lsm::table::Compression;
use pugdb_lsm::table::compression::{Compressor, unpack};

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Lz4,
    Compression::Snappy,
    Compression::Zstd { level: 1 },
    Compression::Gzip { level: 1 },
];

fn check(packed: &[u8]) {
    let Ok(content) = unpack(BytesMut::from(packed)) else { return };
    let (&codec, rest) = packed.split_last().expect("nothing is an error");
    if codec == 0 {
        assert_eq!(content, rest);
    } else {
        let length = rest.last_chunk::<4>().expect("what is compressed says its length");
        assert_eq!(content.len() as u64, u64::from(u32::from_le_bytes(*length)));
    }
}

// The first three bytes choose a codec and a length.
fuzz_target!(|data: &[u8]| {
    let Some(([codec, length @ ..], input)) = data.split_first_chunk::<3>() else { return };
    check(input);
    // With an end that is right, so that the codec is reached.
    let length = u32::from(u16::from_le_bytes(*length));
    check(&[input, &length.to_le_bytes(), &[codec % 5]].concat());

    let compression = CODECS[usize::from(*codec) % CODECS.len()];
    let mut compressor = Compressor::new(compression).expect("there are such levels");
    for content in [input, &input.repeat(9), input] {
        let mut packed = content.to_vec();
        compressor.pack(&mut packed, 0);
        assert!(packed.len() <= content.len() + 1);
        assert_eq!(unpack(BytesMut::from(&packed[..])).expect("it was packed here"), content);
        // And with a byte of it changed, it is still no harm.
        if let Some(byte) = packed.get_mut(usize::from(*codec)) {
            *byte ^= 1 << (codec % 8);
            check(&packed);
        }
    }
});
