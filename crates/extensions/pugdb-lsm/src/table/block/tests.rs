//! Blocks round trip whatever entries can be, are searched as a list is, and are refused when a byte is wrong.

use super::*;
use pugdb_core::{Entry, SealId, Stamp, Timestamp, Value};

fn block_of(entries: &[(Vec<u8>, Found)]) -> Vec<u8> {
    let (mut builder, mut content) = (BlockBuilder::default(), vec![9; 3]);
    for (key, found) in entries {
        let op = found.entry.raw(key);
        let size = builder.size_with(found.seqno, &op, Cell::Value).bytes();
        assert!(
            builder.is_full(found.seqno, &op, Cell::Value, size - 1)
                && !builder.is_full(found.seqno, &op, Cell::Value, size)
        );
        builder.add(found.seqno, &op, Cell::Value);
        assert_eq!(builder.bytes(), size);
    }
    let size = builder.bytes();
    assert_eq!((builder.finish(&mut content), content.len()), (3, 3 + size), "the length is known before");
    assert_eq!((builder.count(), builder.bytes()), (0, 0));
    content.split_off(3)
}

fn put(seqno: u64, bytes: usize) -> Found {
    Found { seqno: Seqno(seqno), entry: Entry::put(Value::new(vec![7; bytes]).unwrap()) }
}

fn decoded(entries: &[(&[u8], u64)]) -> Result<Block> {
    let entries: Vec<_> = entries.iter().map(|&(key, seqno)| (key.to_vec(), put(seqno, 5))).collect();
    Block::decode(block_of(&entries).into(), 0)
}

/// Entries in order, of every kind, with few or many bytes.
fn random_entries(rng: &mut fastrand::Rng) -> Vec<(Vec<u8>, Found)> {
    let prefix = vec![b'p'; rng.choice([0, 3, 20]).unwrap()];
    let (plain, high) = (rng.bool(), rng.choice([2, 300, u64::MAX]).unwrap());
    let large = rng.choice([10, 200, 70_000]).unwrap();
    let mut entries = std::collections::BTreeMap::new();
    for _ in 0..rng.usize(1..40) {
        let tail = (0..rng.usize(..12)).map(|_| [0, b'a', 255][rng.usize(..3)]);
        let key: Vec<u8> = prefix.iter().copied().chain(tail).collect();
        let seqno = rng.u64(..=high);
        let mut found = put(seqno, rng.usize(..large));
        if !plain && rng.bool() {
            found.entry.meta = rng.u8(..);
            found.entry.expires_at = rng.bool().then(|| Timestamp(rng.u64(..)));
            found.entry.seal = rng.bool().then(|| SealId(rng.u64(..)));
            found.entry.stamp = rng.bool().then(|| Stamp([rng.u8(..); 16]));
        }
        match rng.u8(..5) {
            0 if !plain => {
                found.entry.kind = EntryKind::Delete;
                found.entry.value = Value::default();
            }
            1 if !plain => {
                found.entry.kind = EntryKind::Operand;
                (found.entry.meta, found.entry.expires_at) = (0, None);
            }
            _ => {}
        }
        entries.insert((key, u64::MAX - seqno), found);
    }
    entries.into_iter().map(|((key, _), found)| (key, found)).collect()
}

#[test]
fn every_field_of_every_entry_comes_back() {
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..500 {
        let entries = random_entries(&mut rng);
        let block = Block::decode(block_of(&entries).into(), 0).unwrap();
        let back: Vec<_> = block.entries().map(|(key, found, _)| (key.to_vec(), found)).collect();
        assert_eq!(back, entries);
        let mut key = vec![1; 3];
        for (position, (expected, found)) in entries.iter().enumerate() {
            block.copy_key(position, &mut key);
            assert_eq!((&key, block.found(position)), (expected, found.clone()));
            assert!(block.has_key(position, expected) && !block.has_key(position, b"?"));
        }
        let versions = entries.windows(2).any(|pair| pair[0].0 == pair[1].0);
        assert_eq!(block.has_versions(), versions);
    }
}

#[test]
fn a_search_finds_what_a_list_would() {
    let mut rng = fastrand::Rng::with_seed(2);
    for _ in 0..300 {
        let entries = random_entries(&mut rng);
        let block = Block::decode(block_of(&entries).into(), 0).unwrap();
        let mut wanted: Vec<Vec<u8>> = entries.iter().map(|(key, _)| key.clone()).collect();
        for key in wanted.clone() {
            wanted.push([&key[..], &[0]].concat());
            wanted.push(key[..key.len().saturating_sub(1)].to_vec());
        }
        wanted.extend([vec![], vec![255; 30], b"p".to_vec(), b"ppq".to_vec()]);
        for key in &wanted {
            let past = entries.iter().filter(|(other, _)| other <= key).count();
            assert_eq!(block.seek(key, Edge::Past), past);
            for seqno in [0, 1, 2, 200, u64::MAX].map(Seqno) {
                let before =
                    |entry: &&(Vec<u8>, Found)| entry.0 < *key || entry.0 == *key && entry.1.seqno > seqno;
                let at = entries.iter().filter(before).count();
                assert_eq!(block.seek(key, Edge::At(seqno)), at);
                let ahead = (0..=at).map(|from| block.seek_ahead(from, key, Edge::At(seqno)));
                assert!(ahead.into_iter().all(|found| found == at));
                let is_there = entries.get(at).is_some_and(|(other, _)| other == key);
                assert_eq!(block.find(key, seqno), is_there.then_some(at));
            }
        }
    }
}

#[test]
fn entries_that_do_not_ascend_are_corrupt() {
    assert!(decoded(&[(b"a", 9), (b"a", 8), (b"b", 9)]).is_ok());
    for wrong in [
        [(&b"a"[..], 9), (b"a", 9), (b"b", 9)],
        [(b"a", 8), (b"a", 9), (b"b", 9)],
        [(b"a", 1), (b"c", 1), (b"b", 1)],
        // The same head, and not the same beginning of all.
        [(b"0", 1), (b"12345678c", 9), (b"12345678b", 8)],
    ] {
        let error = decoded(&wrong).unwrap_err().to_string();
        assert!(error.contains("not in order"), "{error}");
    }
}

#[test]
fn bytes_behind_the_last_cell_are_corrupt() {
    let mut content = block_of(&[(b"a".to_vec(), put(1, 5)), (b"b".to_vec(), put(1, 5))]);
    assert!(Block::decode(content.clone().into(), 0).is_ok());
    content.push(0);
    assert!(Block::decode(content.into(), 0).is_err());
}

#[test]
fn a_form_and_flags_that_came_later_are_of_a_newer_version_and_no_damage() {
    let kind = |content: Vec<u8>| Block::decode(content.into(), 0).unwrap_err().kind();
    let mut found = put(1, 5);
    let plain = block_of(&[(b"a".to_vec(), found.clone())]);
    for bit in 2..8 {
        let mut other = plain.clone();
        other[6] |= 1 << bit;
        assert_eq!(kind(other), ErrorKind::Unsupported, "bit {bit} of the form");
    }
    found.entry.meta = 9;
    let with_flags = block_of(&[(b"a".to_vec(), found)]);
    // Behind the two ends of the only entry.
    let at = HEADER_BYTES + 4;
    assert_eq!(with_flags[at], 0b100);
    // A second byte of flags, a range delete, an operand with a meta byte, a delete whose value lies elsewhere.
    for flags in [0b1000_0100, 0b110, 0b111, 0b100_0101] {
        let mut other = with_flags.clone();
        other[at] = flags;
        assert_eq!(kind(other), ErrorKind::Unsupported, "flags {flags:#b}");
    }
    let mut short = with_flags;
    short[at] |= 1 << 5;
    assert_eq!(kind(short), ErrorKind::Corrupt, "a stamp that is not there");
}

/// Looks at everything that a reader could ask of a block.
fn read_all(block: &Block) {
    let mut key = Vec::new();
    for position in 0..block.count() {
        block.copy_key(position, &mut key);
        assert!(key.len() <= limits::KEY_BYTES_MAX);
        assert!(block.find(&key, block.seqno(position)).is_some());
        let op = block.op(position, &key);
        assert!(op.kind != EntryKind::Delete || op.value.is_empty());
    }
    assert_eq!(block.entries().count(), block.count());
}

#[test]
fn hostile_bytes_are_refused_or_entries_and_never_a_panic() {
    let mut rng = fastrand::Rng::with_seed(3);
    let mut refused = 0;
    for _ in 0..400 {
        let mut content = block_of(&random_entries(&mut rng));
        content.truncate(20_000);
        for _ in 0..50 {
            let mut hostile = content.clone();
            match rng.u8(..4) {
                0 => hostile.truncate(rng.usize(..hostile.len())),
                1 => hostile.extend_from_slice(&[0; 3][..rng.usize(..4)]),
                2 => {
                    let at = rng.usize(..HEADER_BYTES.min(hostile.len()));
                    hostile[at] = rng.u8(..);
                }
                _ => {
                    let at = rng.usize(..hostile.len().min(400));
                    hostile[at] = rng.u8(..);
                }
            }
            match Block::decode(hostile.into(), 0) {
                Ok(block) => read_all(&block),
                Err(error) => {
                    let is_known = [ErrorKind::Corrupt, ErrorKind::Unsupported].contains(&error.kind());
                    assert!(is_known, "{error:?}");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 5_000, "{refused} of 20,000 were refused");
}
