//! Edits: their bytes, their damage, and taking them back.

use std::collections::BTreeSet;
use std::sync::Arc;

use pugdb_core::engine::EngineKind;
use pugdb_core::seam::{Plain, Sealing};
use pugdb_core::{DatabaseId, ErrorKind, FileId, Key, KeySpan, KeyspaceId, Seqno, Timestamp};
use xxhash_rust::xxh3::xxh3_64;

use super::edit::{self, Edit, TableEntry};
use super::state::State;
use super::{Pointer, file_name, parse_name};
use crate::TreeOptions;
use crate::partition::PartitionMap;
use crate::table::{Expiries, TableMeta};
use crate::tombstones::RangeTombstone;
use crate::values::ValueUse;

const KEYSPACE: KeyspaceId = KeyspaceId(5);
/// Nothing was erased.
const NONE: BTreeSet<KeyspaceId> = BTreeSet::new();

fn key(bytes: &[u8]) -> Key {
    Key::copy(bytes).unwrap()
}

fn table(file: u8) -> TableEntry {
    let meta = TableMeta {
        id: FileId([file; 16]),
        keyspace: KEYSPACE,
        bytes: 300,
        entries: 7,
        deletes: 2,
        keys: 6,
        data_bytes: 130,
        content_bytes: 200,
        expiries: Expiries::decode(1, &[90, 31]).unwrap(),
        first: key(b"ada"),
        last: key(b"grace"),
        min_seqno: Seqno(11),
        max_seqno: Seqno(17),
        sealing: Sealing::Plain,
        values: vec![ValueUse {
            file: FileId([8; 16]),
            file_bytes: 300,
            record_bytes: 200,
            bytes: 120,
            sealing: Sealing::Plain,
        }],
    };
    TableEntry {
        meta: Arc::new(meta),
        run: 4,
        global_seqno: None,
        bounds: (key(b"b"), key(b"grace")),
        quarantined: true,
        cleared: Seqno(9),
    }
}

fn create() -> Edit {
    let (engine, options) = (EngineKind::Lsm, TreeOptions::default());
    Edit::Create { keyspace: KEYSPACE, name: "users".to_owned(), engine, at: Seqno(1), options }
}

/// Head and sections, as a frame gives them back.
fn encoded(edits: &[Edit]) -> (Vec<u8>, Vec<(KeyspaceId, Vec<u8>)>) {
    let (head, sections) = edit::encode(edits);
    (head, sections.into_iter().collect())
}

/// As `docs/format/manifest.md` draws it.
#[test]
fn the_bytes_of_an_added_table_are_these() {
    let (head, sections) = encoded(&[Edit::AddTable { table: table(0xab) }]);
    let numbers: [&[u8]; 8] = [
        &[1, 8, 5, 4, 0xac, 2, 7, 11, 17, 2],
        &[6, 0x82, 1, 0xc8, 1, 1],
        &[2, 90, 31, 9],
        // Quarantined, with value files, plain.
        &[2 | 4 | 8],
        &[0xab; 16],
        &[1],
        &[8; 16],
        &[0xac, 2, 0xc8, 1, 120, 1],
    ];
    assert_eq!(head, numbers.concat());
    assert_eq!(sections, [(KEYSPACE, b"\x03ada\x05grace\x01b\x05grace".to_vec())]);
    let edits = edit::decode(&head, &sections, &NONE).unwrap();
    assert_eq!(edits, [Edit::AddTable { table: table(0xab) }]);
}

#[test]
fn what_was_cut_or_changed_is_an_error_or_another_edit_and_never_a_panic() {
    let mut other = table(2);
    other.global_seqno = Some(Seqno(9));
    let edits = [create(), Edit::AddTable { table: table(1) }, Edit::AddTable { table: other }];
    let (head, sections) = encoded(&edits);
    for end in 0..head.len() {
        assert!(edit::decode(&head[..end], &sections, &NONE).is_err(), "a head of {end} bytes");
    }
    for flag in [16, 32, 64, 128] {
        let mut unknown = encoded(&[Edit::AddTable { table: table(1) }]);
        *unknown.0.iter_mut().rev().nth(16 + 1 + 16 + 6).unwrap() |= flag;
        let error = edit::decode(&unknown.0, &unknown.1, &NONE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "flag {flag}: {error}");
        assert_eq!(error.to_string().contains("extension"), flag == 128, "{error}");
    }
    for end in 0..sections[0].1.len() {
        let cut = [(KEYSPACE, sections[0].1[..end].to_vec())];
        assert!(edit::decode(&head, &cut, &NONE).is_err(), "a section of {end} bytes");
    }
    let (mut rng, mut noticed) = (fastrand::Rng::with_seed(1), 0);
    for _ in 0..20_000 {
        let (mut head, mut sections) = (head.clone(), sections.clone());
        let part = if rng.bool() { &mut head } else { &mut sections[0].1 };
        let place = rng.usize(..part.len());
        part[place] = rng.u8(..);
        noticed += usize::from(edit::decode(&head, &sections, &NONE).is_err());
    }
    assert!(noticed > 1_000, "{noticed} of 20,000 were noticed");
}

#[test]
fn edits_are_taken_in_all_or_none_and_can_be_taken_back() {
    let mut state = State::new(DatabaseId([1; 16]));
    for known in [create(), Edit::AddTable { table: table(1) }, Edit::Time(Timestamp(5))] {
        state.apply(&known).unwrap();
    }
    let before = state.clone();
    let edits = [
        Edit::LastSeqno(Seqno(99)),
        Edit::Time(Timestamp(8)),
        Edit::NextKeyspace(40),
        Edit::RemoveTable { keyspace: KEYSPACE, file: FileId([1; 16]) },
        Edit::AddTable { table: table(2) },
        Edit::Flushed { keyspace: KEYSPACE, seqno: Seqno(17) },
        Edit::Drop { keyspace: KEYSPACE },
    ];
    for count in 0..=edits.len() {
        let undo = state.apply_all(&edits[..count]).unwrap();
        assert_eq!(state == before, count == 0, "after {count} edits");
        state.take_back(undo);
        assert_eq!(state, before, "{count} edits were taken back");
    }
    // The last one is about a table that never was: none of them counts.
    let unknown = Edit::Quarantine { keyspace: KEYSPACE, file: FileId([3; 16]) };
    let with_unknown = [&edits[..5], &[unknown]].concat();
    assert_eq!(state.apply_all(&with_unknown).err().unwrap().kind(), ErrorKind::Corrupt);
    assert_eq!(state, before);
    // A keyspace that came with them goes with them.
    let mut empty = State::new(DatabaseId([1; 16]));
    let undo = empty.apply_all(&[create()]).unwrap();
    empty.take_back(undo);
    assert_eq!(empty, State::new(DatabaseId([1; 16])));
}

#[test]
fn of_an_erased_keyspace_the_numbers_are_left_that_must_not_be_used_again() {
    let span = KeySpan { start: key(b"a"), end: Some(key(b"b")) };
    let tombstone = RangeTombstone { span, seqno: Seqno(60) };
    let map = PartitionMap::by_hash(2, KeyspaceId(6)).unwrap();
    let mut later = table(2);
    later.global_seqno = Some(Seqno(80));
    let all = [
        create(),
        Edit::Options { keyspace: KEYSPACE, options: TreeOptions::default() },
        Edit::Rename { keyspace: KEYSPACE, name: "people".to_owned(), at: Seqno(10) },
        Edit::Partitions { keyspace: KEYSPACE, map, at: Seqno(20) },
        Edit::Truncate { keyspace: KEYSPACE, at: Seqno(30) },
        Edit::Flushed { keyspace: KEYSPACE, seqno: Seqno(40) },
        Edit::RangeTombstones {
            keyspace: KEYSPACE,
            after: Seqno(50),
            through: Seqno(60),
            left: vec![tombstone],
        },
        Edit::AddTable { table: table(1) },
        Edit::AddTable { table: later },
        Edit::Quarantine { keyspace: KEYSPACE, file: FileId([1; 16]) },
        Edit::RemoveTable { keyspace: KEYSPACE, file: FileId([1; 16]) },
        Edit::Drop { keyspace: KEYSPACE },
        Edit::Time(Timestamp(7)),
    ];
    let erased = BTreeSet::from([KEYSPACE]);
    for count in 0..=all.len() {
        let (head, _) = encoded(&all[..count]);
        let edits = edit::decode(&head, &[], &erased).unwrap();
        let (mut whole, mut rest) = (State::new(DatabaseId([1; 16])), State::new(DatabaseId([1; 16])));
        for edit in &all[..count] {
            whole.apply(edit).unwrap();
        }
        for edit in &edits {
            rest.apply(edit).unwrap();
        }
        whole.keyspaces.clear();
        assert_eq!(rest, whole, "{count} edits");
        assert!(count < 2 || edit::decode(&head, &[], &NONE).is_err(), "{count}");
    }
}

/// A line of `CURRENT` whose checksum is right.
fn line(text: &str) -> Vec<u8> {
    format!("{text} {:016x}\n", xxh3_64(text.as_bytes())).into_bytes()
}

#[test]
fn current_says_its_version_and_another_one_is_no_damage() {
    let pointer = Pointer { number: 7, file: FileId([0x3d; 16]), durable: 352 };
    let bytes = pointer.encode(&Plain).unwrap();
    let id = "3d".repeat(16);
    assert_eq!(bytes, line(&format!("pugdb 1 7 {id} 352 -")));
    assert_eq!(Pointer::decode(&bytes, &Plain).unwrap(), pointer);
    let kind = |bytes: &[u8]| Pointer::decode(bytes, &Plain).expect_err("it is another line").kind();
    for newer in [
        format!("pugdb 2 7 {id} 352 -"),
        format!("pugdb 2 7 {id} {} -", "word ".repeat(600).trim_end()),
        format!("pugdb 01 7 {id} 352 -"),
        "pugdb x y".to_owned(),
    ] {
        assert_eq!(kind(&line(&newer)), ErrorKind::Unsupported, "{newer}");
    }
    for damaged in [
        format!("pugdb 1 7 {id} 352"),
        format!("pugdb 1 7 {id} 352 9 -"),
        format!("pug 1 7 {id} 352 -"),
        "pugdb".to_owned(),
    ] {
        assert_eq!(kind(&line(&damaged)), ErrorKind::Corrupt, "{damaged}");
    }
    // Without a right checksum nothing of it is believed, its version neither.
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(kind(&flipped), ErrorKind::Corrupt, "bit {bit}");
    }
    for end in 0..bytes.len() {
        assert_eq!(kind(&bytes[..end]), ErrorKind::Corrupt, "cut at {end}");
    }
}

#[test]
fn a_manifest_has_one_name() {
    assert_eq!(parse_name(&file_name(7)), Some(7));
    for other in
        ["manifest-7", "manifest-+000000007", "manifest-00000000007", "manifest-", "manifest-0000000007.new"]
    {
        assert_eq!(parse_name(other), None, "{other}");
    }
}
