//! Files made by hand, byte by byte, and what is read of them.

use std::io::BufReader;

use proptest::prelude::*;

use super::stream::Stream;
use super::{FileError, FileItem, FileLimits, FileReader};
use crate::rdb::{RdbError, crc64, read_string};

const LIMITS: FileLimits = FileLimits { key_bytes_max: 100, value_bytes_max: 10_000 };

/// A file of this version with this content, its end and checksum.
fn dump(version: u16, content: &[u8]) -> Vec<u8> {
    let mut bytes = format!("REDIS{version:04}").into_bytes();
    bytes.extend_from_slice(content);
    bytes.push(0xff);
    if version >= 5 {
        bytes.extend_from_slice(&crc64(0, &bytes).to_le_bytes());
    }
    bytes
}

fn read(bytes: &[u8]) -> Result<Vec<FileItem>, FileError> {
    read_within(bytes, LIMITS)
}

fn read_within(bytes: &[u8], limits: FileLimits) -> Result<Vec<FileItem>, FileError> {
    // Pieces so small that almost every number and string is cut.
    let mut file = FileReader::new(BufReader::with_capacity(3, bytes), limits)?;
    let mut items = Vec::new();
    while let Some(item) = file.next_item()? {
        items.push(item);
    }
    assert_eq!(file.position(), bytes.len() as u64);
    assert!(matches!(file.next_item(), Ok(None)));
    Ok(items)
}

fn string(key: &[u8], value: &[u8], expires_at_ms: Option<u64>) -> FileItem {
    FileItem::String { key: key.to_vec(), value: value.to_vec(), expires_at_ms }
}

#[test]
fn every_spelling_of_a_string() {
    let cases: [(&[u8], &[u8]); 10] = [
        (b"\x00", b""),
        (b"\x03abc", b"abc"),
        (b"\x40\x03abc", b"abc"),
        (b"\x80\x00\x00\x00\x03abc", b"abc"),
        (b"\x81\x00\x00\x00\x00\x00\x00\x00\x03abc", b"abc"),
        (b"\xc0\x7b", b"123"),
        (b"\xc0\x80", b"-128"),
        (b"\xc1\x39\x30", b"12345"),
        (b"\xc2\x00\x00\x00\x80", b"-2147483648"),
        (b"\xc3\x05\x0a\x00a\xe0\x00\x00", b"aaaaaaaaaa"),
    ];
    for (spelled, value) in cases {
        for version in [1, 4, 5, 9, 10, 11, 12] {
            let content = [&b"\x00\x01k"[..], spelled].concat();
            assert_eq!(read(&dump(version, &content)).unwrap(), [string(b"k", value, None)], "{spelled:x?}");
        }
    }
    // A key is a string like any other.
    assert_eq!(read(&dump(11, b"\x00\xc0\x07\x01v")).unwrap(), [string(b"7", b"v", None)]);
}

#[test]
fn databases_expiry_and_what_else_stands_around_a_key() {
    let content = [
        b"\xfa\x09redis-ver\x057.0.0".as_slice(),
        b"\xfa\x0aredis-bits\xc0\x40",
        b"\xf5\x0e#!lua name=lib",
        b"\xf7\x81\x11\x22\x33\x44\x55\x66\x77\x00\x02\x01\x02\x07\x05\x03aux\x00",
        b"\xfe\x00\xfb\x02\x01\xf4\x01\x01\x00",
        b"\xfc\x00\xe8\x76\x48\x17\x00\x00\x00\xf8\x05\x00\x01a\x011",
        b"\xfd\x01\x00\x00\x00\xf9\x07\x00\x01b\x012",
        b"\x00\x01c\x013",
        b"\xfe\x0f",
        b"\xfc\xff\xff\xff\xff\xff\xff\xff\xff\x00\x01d\x014",
    ]
    .concat();
    let items = [
        FileItem::Other("function library"),
        FileItem::Database(0),
        string(b"a", b"1", Some(100_000_000_000)),
        string(b"b", b"2", Some(1_000)),
        string(b"c", b"3", None),
        FileItem::Database(15),
        string(b"d", b"4", Some(0)),
    ];
    assert_eq!(read(&dump(12, &content)).unwrap(), items);
}

#[test]
fn every_other_type_is_passed_over_to_its_last_byte() {
    let id = [7; 16];
    let stream = |version: u8| {
        let group = |more: &[u8], seen: &[u8]| {
            [
                &b"\x01\x01g\x01\x02"[..],
                more,
                b"\x01",
                &id,
                &[1; 8],
                b"\x03",
                b"\x01\x02me",
                seen,
                b"\x01",
                &id,
            ]
            .concat()
        };
        let block = [&b"\x01\x10"[..], &id, b"\x04list"].concat();
        match version {
            1 => [&block[..], b"\x01\x05\x06", &group(b"", &[2; 8])].concat(),
            2 => [&block[..], b"\x01\x05\x06\x01\x01\x00\x00\x01", &group(b"\x09", &[2; 8])].concat(),
            _ => [&block[..], b"\x01\x05\x06\x01\x01\x00\x00\x01", &group(b"\x09", &[2; 16])].concat(),
        }
    };
    let cases: Vec<(u8, &str, Vec<u8>)> = vec![
        (1, "list", b"\x02\x01a\xc0\x05".to_vec()),
        (2, "set", b"\x02\x01a\x01b".to_vec()),
        (3, "zset", b"\x03\x01a\x031.5\x01b\xff\x01c\xfd".to_vec()),
        (4, "hash", b"\x01\x01f\x01v".to_vec()),
        (5, "zset", [&b"\x01\x01a"[..], &1.5_f64.to_le_bytes()].concat()),
        (7, "module", b"\x81\x11\x22\x33\x44\x55\x66\x77\x88\x01\x05\x02\x05\x03\x00\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x05\x02hi\x00".to_vec()),
        (14, "list", b"\x02\x02zl\x02zl".to_vec()),
        (15, "stream", stream(1)),
        (18, "list", b"\x02\x01\x05plain\x02\x02lp".to_vec()),
        (19, "stream", stream(2)),
        (21, "stream", stream(3)),
        (22, "hash", b"\x01\x05\x01f\x01v".to_vec()),
        (24, "hash", b"\x00\x00\x00\x00\x00\x00\x00\x00\x01\x05\x01f\x01v".to_vec()),
        (25, "hash", b"\x00\x00\x00\x00\x00\x00\x00\x00\x02lp".to_vec()),
    ];
    let blobs = [
        (9, "hash"),
        (10, "list"),
        (11, "set"),
        (12, "zset"),
        (13, "hash"),
        (16, "hash"),
        (17, "zset"),
        (20, "set"),
        (23, "hash"),
    ];
    let cases = cases
        .into_iter()
        .chain(blobs.map(|(number, name)| (number, name, b"\xc3\x05\x0a\x00a\xe0\x00\x00".to_vec())));
    for (number, name, value) in cases {
        let content = [&[number, 1, b'k'][..], &value, b"\x00\x01s\x01v"].concat();
        let items = read(&dump(11, &content)).unwrap_or_else(|error| panic!("type {number}: {error}"));
        assert_eq!(items, [FileItem::Other(name), string(b"s", b"v", None)], "type {number}");
    }
}

#[test]
fn a_string_over_the_limit_is_passed_over() {
    let long = |length: usize| {
        [&[0x80][..], &u32::try_from(length).unwrap().to_be_bytes(), &vec![b'x'; length]].concat()
    };
    let content = [
        &b"\x00"[..],
        &long(101),
        b"\x01v\x00\x01k",
        &long(10_001),
        b"\x00\x01c\xc3\x05\x80\x00\x00\x27\x11\x00a\xe0\x00\x00",
        // So is one whose packed bytes alone are too many to hold, whatever they would unpack to.
        &[&b"\x00\x01p\xc3\x80\x00\x00\x27\x11\x05"[..], &[b'x'; 10_001]].concat(),
        b"\x00\x01s\x01v",
    ]
    .concat();
    let items = [
        FileItem::KeyTooLong { bytes: 101 },
        FileItem::ValueTooLong { bytes: 10_001 },
        FileItem::ValueTooLong { bytes: 10_001 },
        FileItem::ValueTooLong { bytes: 10_001 },
        string(b"s", b"v", None),
    ];
    assert_eq!(read(&dump(11, &content)).unwrap(), items);
}

#[test]
fn the_checksum_is_checked_unless_the_server_made_none() {
    let sound = dump(11, b"\x00\x01k\x01v");
    let mut without = sound.clone();
    let at = without.len() - 8;
    without[at..].fill(0);
    assert_eq!(read(&without).unwrap().len(), 1);
    for bit in 9 * 8..sound.len() * 8 {
        let mut damaged = sound.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&damaged).is_err(), "bit {bit}");
    }
    assert!(matches!(read(&dump(4, b"")), Ok(items) if items.is_empty()));
}

#[test]
fn what_is_no_dump_is_told_so() {
    for bytes in [&b""[..], b"REDI", b"REDIS00", b"REDISabcd", b"PugDB\x1a\r\n and more", b"REDIS+011\xff"] {
        assert!(matches!(read(bytes), Err(FileError::NoDump)), "{}", bytes.escape_ascii());
    }
    for version in [0, 13, 80, 9999] {
        assert!(matches!(read(&dump(version, b"")), Err(FileError::Version(told)) if told == version));
    }
}

#[test]
fn hostile_bytes_give_errors_and_take_no_memory() {
    let huge = b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff";
    let cases: Vec<Vec<u8>> = vec![
        [&b"\x00"[..], huge].concat(),
        [&b"\x00\x01k"[..], huge].concat(),
        [&b"\x00\x01k\xc3"[..], huge, huge].concat(),
        [&b"\x00\x01k\xc3\x05"[..], huge].concat(),
        b"\x00\x01k\xc3\x03\x40\xff\x00a\xe0".to_vec(),
        [&b"\x01\x01k"[..], huge].concat(),
        [&b"\x0f\x01k"[..], huge].concat(),
        b"\x07\x01k\x00\x09".to_vec(),
        b"\x06\x01k\x00".to_vec(),
        b"\xf6\x01k".to_vec(),
        b"\x63\x01k".to_vec(),
        b"\x00\xc4".to_vec(),
        b"\x00\x82".to_vec(),
        b"\xfe\xc0\x01".to_vec(),
    ];
    for content in cases {
        let bytes = dump(11, &content);
        // Without limits only bytes that are there can take memory: a buffer of what is announced would end the test.
        let endless = FileLimits { key_bytes_max: usize::MAX, value_bytes_max: usize::MAX };
        for limits in [LIMITS, endless] {
            assert!(read_within(&bytes, limits).is_err(), "{}", content.escape_ascii());
        }
    }
    let mut random = fastrand::Rng::with_seed(41);
    let sound =
        dump(11, b"\xfe\x00\x00\x01k\x01v\x03\x01z\x01\x01a\x031.5\x04\x01h\x01\x01f\x01v\x07\x01m\x01\x00");
    for _ in 0..50_000 {
        let mut bytes = sound.clone();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(9..bytes.len());
            bytes[at] = random.u8(..);
        }
        bytes.truncate(random.usize(9..=bytes.len()));
        assert!(read(&bytes).is_err() || bytes == sound);
    }
    for end in 9..sound.len() {
        assert!(matches!(read(&sound[..end]), Err(FileError::Format(RdbError::Truncated))), "{end}");
    }
}

proptest! {
    #[test]
    fn a_string_reads_the_same_from_a_slice_and_a_stream(
        first in prop_oneof![0..=u8::MAX, 0xc0..=0xc4_u8],
        more in proptest::collection::vec(prop_oneof![0..=u8::MAX, 0..8_u8], 0..20),
        max in 0_usize..20,
    ) {
        let bytes = [&[first][..], &more].concat();
        let (mut slice, mut stream) = (&bytes[..], Stream::new(BufReader::with_capacity(3, &bytes[..])));
        let streamed = read_string(&mut stream, max).map_err(|error| match error {
            FileError::Format(error) => error,
            other => panic!("{other}"),
        });
        let read = read_string(&mut slice, max);
        if read.is_ok() {
            prop_assert_eq!(stream.position(), (bytes.len() - slice.len()) as u64);
            prop_assert_eq!(stream.crc(), crc64(0, &bytes[..bytes.len() - slice.len()]));
        }
        prop_assert_eq!(streamed, read);
    }
}
