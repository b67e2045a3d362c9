//! How much a range holds, told from indexes: never too little, and too much by two blocks a table at most.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use pugdb::{Compression, Database, EngineKind, ErrorKind, KeyRange, KeyspaceOptions};
use pugdb_sim::World;
use pugdb_tests::model_setup::{DIRECTORY, policy};

const TARGET: &str = "-p pugdb-tests --test approximate";
const BLOCK_BYTES: usize = 1 << 10;
const VALUE_BYTES: usize = 100;
/// A block is closed when it is full: this many entries fit into one, and one that fills it.
const BLOCK_ENTRIES: u64 = (BLOCK_BYTES / VALUE_BYTES) as u64 + 1;

fn open(world: &World, seed: u64) -> Database {
    let options = KeyspaceOptions {
        block_bytes: Some(BLOCK_BYTES),
        bottom_compression: Some([Compression::None, Compression::Lz4][usize::from(seed.is_multiple_of(2))]),
        ..KeyspaceOptions::default()
    };
    let builder = Database::builder().env(world.env()).compaction(policy(seed)).default_options(options);
    let builder = builder.memory_bytes(2 << 20).cache_bytes(16 << 10).memtable_bytes(32 << 10);
    builder.log_segment_bytes(256 << 10).open(DIRECTORY).expect("the disk is whole")
}

fn key(number: u64) -> Vec<u8> {
    format!("user{number:06}").into_bytes()
}

#[test]
fn a_range_holds_no_more_than_is_told_and_less_by_two_blocks_a_table_at_most() {
    pugdb_sim::check(TARGET, "a_range_holds", 0..16, |seed| {
        let world = World::new(seed);
        let db = open(&world, seed);
        let users = db.keyspace("users").expect("the disk is whole");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut model = BTreeSet::new();
        for round in 0..12 {
            let mut batch = db.batch();
            for _ in 0..random.usize(1..400) {
                // Each key once: no version is hidden.
                let number = random.u64(..100_000);
                if model.insert(key(number)) {
                    batch.put(&users, key(number), [7; VALUE_BYTES]);
                }
            }
            batch.commit().expect("the disk is whole");
            if random.bool() {
                db.flush().expect("the disk is whole");
            }
            for _ in 0..random.usize(..60) {
                world.step();
                // In the midst of merges too, where a table shows what is left of it.
                let (stats, told) =
                    (db.stats().expect("it is open"), users.approximate(..).expect("it is open"));
                let (held, over) = (model.len() as u64, 2 * BLOCK_ENTRIES * stats.tables as u64);
                assert!((held..=held + over).contains(&told.entries), "round {round}: {told:?} for {held}");
            }
            let stats = db.stats().expect("it is open");
            for _ in 0..50 {
                let (one, other) = (random.u64(..100_000), random.u64(..100_000));
                let (start, end) = (key(one.min(other)), key(one.max(other)));
                let range = match random.u8(..4) {
                    0 => KeyRange::from(start.clone()..),
                    1 => KeyRange::from(..=end.clone()),
                    2 => KeyRange::from(start.clone()..=end.clone()),
                    _ => KeyRange::from(start.clone()..end.clone()),
                };
                let told = users.approximate(range.clone()).expect("it is open");
                let held = model.iter().filter(|key| range.contains(key)).count() as u64;
                let most = held + 2 * BLOCK_ENTRIES * stats.tables as u64;
                assert!((held..=most).contains(&told.entries), "round {round}: {told:?} for {held}");
                assert!(told.bytes <= users.approximate(..).expect("it is open").bytes);
            }
        }
        assert_eq!(users.approximate(key(5)..key(4)).expect("it is open").entries, 0);
        db.flush().expect("the disk is whole");
        users.compact_range(..).expect("the disk is whole");
        let (stats, told) = (db.stats().expect("it is open"), users.approximate(..).expect("it is open"));
        assert_eq!((told.bytes, told.entries), (stats.table_bytes, model.len() as u64), "all of it is exact");
        // Equal entries: a third of them takes a third.
        let (keys, third) = (model.iter().collect::<Vec<_>>(), model.len() / 3);
        let told_third = users.approximate(..keys[third].as_slice()).expect("it is open");
        let blocks = told.bytes * 2 * BLOCK_ENTRIES * stats.tables as u64 / told.entries;
        let exact = told.bytes / 3;
        assert!(told_third.bytes.abs_diff(exact) <= blocks + 500, "{told_third:?} of {told:?}");
        users.truncate().expect("the disk is whole");
        assert_eq!(users.approximate(..).expect("it is open").entries, 0);
    });
}

/// What a table says of itself is in the manifest; what is in its index is not.
#[test]
fn only_tables_in_which_a_range_begins_or_ends_are_opened_for_it() {
    let world = World::new(3);
    let db = open(&world, 1);
    let users = db.keyspace("users").expect("the disk is whole");
    (0..100).for_each(|number| users.put(key(number), [7; VALUE_BYTES]).expect("the disk is whole"));
    // A table of another commit's seqno beside it.
    let mut writer = users.sorted_writer().expect("it is open");
    (100..300).for_each(|number| writer.put(key(number), [7; VALUE_BYTES]).expect("the disk is whole"));
    users.ingest([writer.finish().expect("the disk is whole")]).expect("the disk is whole");
    db.close().expect("the disk is whole");

    let db = open(&world, 1);
    let users = db.keyspace("users").expect("the disk is whole");
    let is_table = |path: &Path| path.extension().is_some_and(|extension| extension == "table");
    world.fail_when(move |_, path| is_table(path).then_some(io::ErrorKind::Other));
    let told = |range: KeyRange| users.approximate(range).map(|told| told.entries);
    assert_eq!(told(KeyRange::all()).expect("no table is looked at"), 300);
    let refused = told(KeyRange::from(key(200)..)).expect_err("the table has to be opened");
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    world.heal();
    let held = told(KeyRange::from(key(200)..)).expect("the disk is whole");
    assert!((100..100 + 2 * BLOCK_ENTRIES).contains(&held), "{held}");

    // A table that is gone counts whole, for nobody knows more.
    let files = world.files().into_iter().map(|(path, _)| path).filter(|path| is_table(path));
    let files: Vec<PathBuf> = files.collect();
    db.close().expect("the disk is whole");
    assert_eq!(files.len(), 2);
    for path in &files {
        world.remove_file(path).expect("it was listed");
    }
    let db = open(&world, 1);
    let users = db.keyspace("users").expect("the disk is whole");
    assert_eq!(users.approximate(key(200)..).expect("it is open").entries, 200);
    // What was truncated away is known by seqnos, which no table has to be opened for.
    users.truncate().expect("the disk is whole");
    assert_eq!(users.approximate(..).expect("it is open").entries, 0);
    assert_eq!(users.approximate_counts().expect("it is open").keys, 0);
    let mut writer = users.sorted_writer().expect("it is open");
    writer.put(key(7), b"1").expect("the disk is whole");
    users.ingest([writer.finish().expect("the disk is whole")]).expect("the disk is whole");
    assert_eq!(users.approximate(..).expect("it is open").entries, 1);
    assert_eq!(users.approximate_counts().expect("it is open").keys, 1);
}

#[test]
fn engines_in_memory_count_and_a_hash_has_no_ranges() {
    let db = Database::in_memory().unwrap();
    for engine in [EngineKind::Btree, EngineKind::Hash] {
        let options = KeyspaceOptions { engine: Some(engine), ..KeyspaceOptions::default() };
        let users = db.keyspace_with(&format!("{engine:?}"), options).unwrap();
        (0..100).for_each(|number| users.put(key(number), [7; 50]).unwrap());
        let all = users.approximate(..).unwrap();
        assert_eq!(all.entries, 100);
        assert!((5_000..50_000).contains(&all.bytes));
        match engine {
            EngineKind::Hash => {
                assert_eq!(users.approximate(key(5)..).unwrap_err().kind(), ErrorKind::Invalid);
            }
            _ => assert_eq!(users.approximate(key(5)..key(15)).unwrap().entries, 10),
        }
    }
}
