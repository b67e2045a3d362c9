//! A damaged file gives an error or the right answer, never another one; hostile bytes give no panic.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use pugdb_core::{Error, ErrorKind};

use super::super::compression::Compressor;
use super::super::footer::{FOOTER_BYTES, Footer};
use super::super::piece::{PieceKind, Pieces, TRAILER_BYTES};
use super::super::tail::Tail;
use super::*;

fn bytes_of(kit: &Kit, meta: &TableMeta) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(meta.bytes).unwrap()];
    OpenOptions::new().read(true).open(kit.path(meta)).unwrap().read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn overwrite(kit: &Kit, meta: &TableMeta, at: usize, bytes: &[u8]) {
    OpenOptions::new().write(true).open(kit.path(meta)).unwrap().write_all_at(bytes, at as u64).unwrap();
}

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Lz4,
    Compression::Snappy,
    Compression::ZSTD,
    Compression::Gzip { level: 6 },
];

/// A few blocks, of which every codec gains something, a key with versions in several of them, a delete.
fn small_entries() -> Vec<(Key, Found)> {
    let value = |seqno: u64| [&seqno.to_be_bytes()[..], &[b'.'; 60]].concat();
    let mut entries: Vec<_> = (1..=6).rev().map(|seqno| (key(b"bb"), put(seqno, value(seqno)))).collect();
    entries.insert(0, (key(b"aa"), put(4, "a")));
    entries.push((key(b"cc"), delete(5)));
    entries
}

/// A message says which table it is about, and does not say it again.
fn names_it_once(error: &Error, meta: &TableMeta) {
    assert_eq!(error.to_string().matches(&format!("table {}", meta.id)).count(), 1, "{error}");
}

/// Every read of `table` is an error or right. Returns how many were errors.
fn right_or_error(table: &Arc<Table>, entries: &[(Key, Found)], what: &str) -> usize {
    let mut errors = 0;
    let mut check = |right: Result<bool>| match right {
        Ok(right) => assert!(right, "a wrong answer after {what}"),
        Err(error) => {
            names_it_once(&error, table.meta());
            errors += 1;
        }
    };
    for name in [b"aa", b"ab", b"bb", b"cc"] {
        for seqno in [0, 3, 4, 6].map(Seqno) {
            check(table.get(name, seqno).map(|found| found == expected_get(entries, name, seqno)));
        }
    }
    for direction in [Direction::Forward, Direction::Reverse] {
        let scanned = run_scan(table, &KeyRange::all(), direction, Seqno(4));
        check(
            scanned.map(|scanned| scanned == expected_scan(entries, &KeyRange::all(), direction, Seqno(4))),
        );
    }
    check(walk(table).map(|walked| walked == entries));
    errors
}

#[test]
fn every_flipped_bit_is_an_error_or_harmless_and_verify_always_finds_it() {
    let toy = || Arc::new(Toy { header_bytes: 5 }) as Arc<dyn Cipher>;
    let ciphers = [toy(), Arc::new(Plain), toy(), Arc::new(Plain), toy(), Arc::new(Plain)];
    for (cipher, compression) in ciphers.into_iter().zip(CODECS.into_iter().cycle()) {
        let (kit, entries) = (Kit::new(cipher), small_entries());
        let meta = kit.write_compressed(40, compression, &entries);
        let (bytes, sound) = (bytes_of(&kit, &meta), kit.open(&meta).unwrap());
        assert!(sound.verify().unwrap().blocks >= 4);
        let mut block_errors = 0;
        for bit in 0..bytes.len() * 8 {
            let (at, what) = (bit / 8, format!("bit {bit} was flipped"));
            overwrite(&kit, &meta, at, &[bytes[at] ^ (1 << (bit % 8))]);
            match kit.open(&meta) {
                Ok(table) => block_errors += usize::from(right_or_error(&table, &entries, &what) > 0),
                Err(error) => names_it_once(&error, &meta),
            }
            right_or_error(&sound, &entries, &what);
            assert!(sound.verify().is_err(), "verify missed that {what}");
            overwrite(&kit, &meta, at, &[bytes[at]]);
        }
        assert_eq!(
            block_errors as u64,
            sound.meta().data_bytes * 8,
            "reads find every flipped bit of the blocks"
        );
        assert_eq!(right_or_error(&sound, &entries, "nothing"), 0);
    }
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let (kit, entries) = (Kit::plain(), small_entries());
    let meta = kit.write(40, &entries);
    let sound = kit.open(&meta).unwrap();
    let file = OpenOptions::new().write(true).open(kit.path(&meta)).unwrap();
    for length in (0..meta.bytes).rev() {
        file.set_len(length).unwrap();
        assert_eq!(sound.verify().unwrap_err().kind(), ErrorKind::Corrupt, "cut at {length}");
        right_or_error(&sound, &entries, &format!("a cut at {length}"));
        kit.context.tables.forget(meta.id);
        let error = kit.open(&meta).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "cut at {length}");
        names_it_once(&error, &meta);
    }
    kit.context.tables.forget(meta.id);
    kit.context.env.fs.remove(&kit.path(&meta)).unwrap();
    assert_eq!(kit.open(&meta).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_block_in_another_ones_place_is_noticed() {
    for cipher in [Arc::new(Plain) as Arc<dyn Cipher>, Arc::new(Toy { header_bytes: 0 })] {
        let kit = Kit::new(cipher);
        let entries: Vec<_> = (b'a'..=b'h').map(|name| (key(&[name]), put(1, vec![name; 50]))).collect();
        let meta = kit.write(0, &entries);
        let (mut bytes, table) = (bytes_of(&kit, &meta), kit.open(&meta).unwrap());
        let length = usize::try_from(table.meta().data_bytes).unwrap() / entries.len();
        let start = usize::try_from(table.tail().offset(0)).unwrap();
        let (left, right) = bytes[start..].split_at_mut(length);
        left.swap_with_slice(&mut right[..length]);
        overwrite(&kit, &meta, 0, &bytes);
        for name in [b"a", b"b"] {
            let error = table.get(name, Seqno::MAX).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            assert!(error.to_string().contains("checksum mismatch"), "{error}");
        }
        assert_eq!(table.get(b"c", Seqno::MAX).unwrap(), Some(put(1, vec![b'c'; 50])));
        let message = table.verify().unwrap_err().to_string();
        assert_eq!(
            message,
            format!("table {} block at byte {start}: checksum mismatch; run `pugdb verify`", meta.id)
        );
    }
}

#[test]
fn a_file_other_than_the_manifest_says_is_corrupt() {
    let (kit, entries) = (Kit::plain(), small_entries());
    let meta = kit.write(40, &entries);
    let other = kit.write(40, &entries);
    let changes: [fn(&mut TableMeta); 13] = [
        |meta| meta.keyspace = KeyspaceId(4),
        |meta| meta.bytes -= 1,
        |meta| meta.bytes = 0,
        |meta| meta.entries += 1,
        |meta| meta.deletes += 1,
        |meta| meta.keys += 1,
        |meta| meta.data_bytes += 1,
        |meta| meta.content_bytes += 1,
        |meta| meta.expiries = Expiries::decode(1, &[5, 1]).unwrap(),
        |meta| meta.first = key(b"ab"),
        |meta| meta.last = key(b"cd"),
        |meta| meta.min_seqno = Seqno(2),
        |meta| meta.max_seqno = Seqno(7),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut other_meta = meta.clone();
        change(&mut other_meta);
        assert_eq!(kit.open(&other_meta).unwrap_err().kind(), ErrorKind::Corrupt, "change {number}");
    }
    let mut database = kit.context.clone();
    database.database = DatabaseId([8; 16]);
    let opened =
        Table::open(&database, Arc::new(BlockCache::new(0)), Arc::new(meta.clone()), meta.bounds(), None);
    assert_eq!(opened.unwrap_err().kind(), ErrorKind::Corrupt);
    // A whole sound file under another one's name.
    overwrite(&kit, &meta, 0, &bytes_of(&kit, &other));
    assert_eq!(kit.open(&meta).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn garbage_is_no_block_and_never_a_panic() {
    let mut rng = fastrand::Rng::with_seed(2);
    for _ in 0..20_000 {
        let mut content: Vec<u8> = (0..rng.usize(0..200)).map(|_| rng.u8(..)).collect();
        if content.len() >= 8 && rng.bool() {
            // Few entries and a known form, so that these are not the first things to be wrong.
            content[..4].copy_from_slice(&rng.u32(0..5).to_le_bytes());
            content[4..8].copy_from_slice(&[rng.u8(..3), 0, rng.u8(..4), rng.u8(..9)]);
        }
        let Ok(block) = Block::decode(content.into(), 0) else { continue };
        assert!(block.count() * 4 <= block.bytes());
        assert_eq!(block.entries().count(), block.count());
    }
}

/// Somebody who can write the file can make the checksums right.
#[test]
fn hostile_bytes_with_right_checksums_never_panic() {
    for (seed, compression) in (3..).zip(CODECS) {
        hostile_bytes_with_right_checksums(seed, compression);
    }
}

fn hostile_bytes_with_right_checksums(seed: u64, compression: Compression) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let (kit, entries) = (Kit::plain(), small_entries());
    let meta = kit.write_compressed(40, compression, &entries);
    let (bytes, sound) = (bytes_of(&kit, &meta), kit.open(&meta).unwrap());
    let end = bytes.len() - FOOTER_BYTES;
    let footer = Footer::decode(meta.id, end as u64, &bytes[end..]).unwrap();
    let index = &sound.tail().index;
    let mut pieces: Vec<(usize, usize)> = (0..index.len())
        .map(|number| (usize::try_from(index.offset(number)).unwrap(), index.length(number..number + 1)))
        .collect();
    let mut at = usize::try_from(footer.tail_offset).unwrap();
    for length in [footer.filter_bytes, footer.index_bytes, footer.properties_bytes] {
        pieces.push((at, usize::try_from(length).unwrap()));
        at += pieces.last().unwrap().1;
    }
    let mut noticed = 0;
    for _ in 0..5_000 {
        let mut hostile = bytes.clone();
        let &(start, length) = rng.choice(&pieces).unwrap();
        let content = start..start + length - TRAILER_BYTES;
        for _ in 0..rng.usize(1..4) {
            let byte = rng.u8(..);
            hostile[rng.usize(content.clone())] = rng.choice([0, 1, 127, 128, 255, byte]).unwrap();
        }
        let checksum = crate::checksum::Checksum::of(meta.id).at(start as u64, &hostile[content.clone()]);
        hostile[content.end..start + length].copy_from_slice(&checksum.to_le_bytes());
        overwrite(&kit, &meta, start, &hostile[start..start + length]);
        if let Ok(table) = kit.open(&meta) {
            drop((walk(&table), table.get(b"bb", Seqno(3)), table.get(b"cc", Seqno(9))));
            for direction in [Direction::Forward, Direction::Reverse] {
                drop(run_scan(&table, &KeyRange::all(), direction, Seqno(4)));
            }
        }
        noticed += usize::from(sound.verify().is_err());
        overwrite(&kit, &meta, start, &bytes[start..start + length]);
    }
    // What is left is a changed value, or a filter with more bits than it needs.
    assert!(noticed > 2_000, "verify noticed {noticed} of 5,000 with {compression}");
}

#[test]
fn hostile_footers_with_right_checksums_never_panic() {
    let mut rng = fastrand::Rng::with_seed(4);
    let kit = Kit::plain();
    let meta = kit.write(40, &small_entries());
    let (bytes, sound) = (bytes_of(&kit, &meta), kit.open(&meta).unwrap());
    let end = bytes.len() - FOOTER_BYTES;
    let footer = Footer::decode(meta.id, end as u64, &bytes[end..]).unwrap();
    for _ in 0..5000 {
        let mut hostile = footer.clone();
        let any = rng.u64(1..);
        let shift = rng.choice([1, 8, 1 << 20, 1 << 40, u64::MAX / 2, any]).unwrap();
        hostile.header_bytes = hostile.header_bytes.wrapping_add(shift * rng.u64(..2));
        hostile.tail_offset = hostile.tail_offset.wrapping_add(shift);
        let taker = rng.choice([0, 1, 2]).unwrap();
        let parts = [&mut hostile.filter_bytes, &mut hostile.index_bytes, &mut hostile.properties_bytes];
        let part = parts.into_iter().nth(taker).unwrap();
        if rng.bool() {
            *part = part.wrapping_sub(shift);
        }
        let mut out = Vec::new();
        hostile.encode(meta.id, end as u64, &mut out);
        overwrite(&kit, &meta, end, &out);
        assert!(kit.open(&meta).is_err() && sound.verify().is_err(), "{hostile:?}");
    }
}

/// Verify finds what only a faulty writer can make: pieces that are sound by themselves and do not agree.
#[test]
fn verify_finds_entries_out_of_order_and_a_filter_that_misses_a_key() {
    let (kit, entries) = (Kit::plain(), small_entries());
    let meta = kit.write(8 << 10, &entries);
    let bytes = bytes_of(&kit, &meta);
    let tail = Tail::read(&kit.context, &meta).unwrap();
    let keys: Arc<dyn FileCipher> = Arc::new(Plain);
    let pieces = Pieces::new(meta.id, KEYSPACE, keys);
    let reseal = |kind, at: usize, content: &[u8]| {
        let mut data = content.to_vec();
        pieces.seal(kind, at as u64, &mut Compressor::none(), &mut data, 0).unwrap();
        overwrite(&kit, &meta, at, &data);
        let error = kit.open(&meta).unwrap().verify().unwrap_err();
        overwrite(&kit, &meta, 0, &bytes);
        error.to_string()
    };
    let (at, length) = (usize::try_from(tail.index.offset(0)).unwrap(), tail.index.length(0..1));
    // Behind the content stands that it is not compressed.
    let mut content = bytes[at..at + length - TRAILER_BYTES - 1].to_vec();
    // Behind the header, two ends and the flags of each entry are the seqnos, one byte each as the difference to 1.
    let second = 16 + 8 * 4 + 8 + 1;
    assert_eq!(content[second], 6 - 1);
    content[second] = 0;
    let message = reseal(PieceKind::Data, at, &content);
    assert!(message.contains(&format!("block at byte {at}: the entries are not in order")), "{message}");
    let filter = at + length;
    let mut empty = vec![0; 65];
    empty[64] = 6;
    let message = reseal(PieceKind::Filter, filter, &empty);
    assert!(message.contains("the filter misses a key"), "{message}");
}
