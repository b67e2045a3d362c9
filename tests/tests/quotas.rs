//! Quotas of keyspaces: the bytes to the last one, the keys by estimate; whoever writes, and over crashes.

#![expect(clippy::unwrap_used, reason = "a test's helper fails as its test does")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::scope;

use pugdb::operators::Append;
use pugdb::{
    AsyncDatabase, Change, Compression, Database, Durability, EngineKind, EntryOptions, ErrorKind, Keyspace,
    KeyspaceOptions, LockScope, Partitioning, Quota, Result,
};
use pugdb_sim::World;
use pugdb_tests::model_setup::{Setup, table_file_bytes};

const ENGINES: [EngineKind; 4] =
    [EngineKind::Lsm, EngineKind::Partitioned, EngineKind::Btree, EngineKind::Hash];
const VALUE: [u8; 96] = [7; 96];
/// What an entry of this value takes in memory, with a key of 4 bytes.
const ENTRY: u64 = 4 + 96 + 176;

fn open(world: &World) -> Database {
    Setup::PLAIN.open(world, Durability::Sync).unwrap().db
}

fn bytes(most: u64) -> KeyspaceOptions {
    KeyspaceOptions { quota_bytes: Some(Quota::AtMost(most)), ..KeyspaceOptions::default() }
}

fn keys(most: u64) -> KeyspaceOptions {
    KeyspaceOptions { quota_keys: Some(Quota::AtMost(most)), ..KeyspaceOptions::default() }
}

fn users(db: &Database, engine: EngineKind, options: KeyspaceOptions) -> Keyspace {
    db.keyspace_with("users", KeyspaceOptions { engine: Some(engine), ..options }).unwrap()
}

fn key(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

fn fill(keyspace: &Keyspace, numbers: std::ops::Range<u32>) {
    numbers.for_each(|number| keyspace.put(key(number), VALUE).unwrap());
}

/// The quota has refused it, and says whose it is.
fn refused<T>(outcome: Result<T>) {
    let error = outcome.map(drop).expect_err("it was let in");
    assert!(error.kind() == ErrorKind::Unavailable && error.is_over_quota(), "{error:?}");
    assert!(error.to_string().contains("keyspace \"users\"") && !error.is_retry(), "{error}");
}

fn used(keyspace: &Keyspace) -> u64 {
    keyspace.usage().unwrap().bytes
}

#[test]
fn a_keyspace_is_filled_to_the_last_byte_and_not_one_more() {
    for engine in ENGINES {
        let world = World::new(1);
        let db = open(&world);
        let space = users(&db, engine, bytes(10 * ENTRY));
        fill(&space, 0..9);
        refused(space.put(key(9), [7; 97]));
        assert_eq!((used(&space), space.exists(key(9)).unwrap()), (9 * ENTRY, false));
        space.put(key(9), VALUE).unwrap();
        assert_eq!(used(&space), 10 * ENTRY);
        refused(space.put(b"", b""));
        refused(space.put(key(0), b""));
        assert_eq!((space.count().unwrap(), space.get(key(0)).unwrap().unwrap().len()), (10, 96));

        // What deletes is let in, and makes room: in memory at once, on disk when it is merged.
        (0..5).for_each(|number| space.delete(key(number)).unwrap());
        if matches!(engine, EngineKind::Lsm | EngineKind::Partitioned) {
            assert_eq!(used(&space), 10 * ENTRY + 5 * (4 + 176));
            refused(space.put(b"", b""));
            space.compact_range(..).unwrap();
            world.run_until_idle();
            assert_eq!(used(&space), table_file_bytes(&world));
            assert!(used(&space) < 10 * ENTRY);
            space.put(b"", b"").unwrap();
        } else {
            fill(&space, 0..5);
            refused(space.put(b"", b""));
            let snapshot = db.snapshot().unwrap();
            space.delete(key(9)).unwrap();
            refused(space.put(key(9), VALUE));
            drop(snapshot);
            space.put(key(9), VALUE).unwrap();
        }
        db.close().unwrap();
    }
}

#[test]
fn what_a_keyspace_takes_is_what_its_files_take_garbage_and_all() {
    let world = World::new(2);
    let db = open(&world);
    for engine in [EngineKind::Lsm, EngineKind::Partitioned] {
        let options = KeyspaceOptions {
            separate_values: Some(64),
            bottom_compression: Some(Compression::None),
            ..KeyspaceOptions::default()
        };
        let space = users(&db, engine, options);
        let mut seen = Vec::new();
        for round in 0..4 {
            fill(&space, round * 20..100 + round * 20);
            (0..10).for_each(|number| space.delete(key(number + round * 10)).unwrap());
            let memory = 100 * ENTRY + 10 * (4 + 176);
            assert_eq!(used(&space), table_file_bytes(&world) + memory);
            db.flush().unwrap();
            world.run_until_idle();
            assert_eq!(used(&space), table_file_bytes(&world));
            seen.push(used(&space));
        }
        assert!(seen.is_sorted() && seen[3] > 100 * 96, "{seen:?}");
        space.compact_range(..).unwrap();
        world.run_until_idle();
        assert_eq!(used(&space), table_file_bytes(&world));
        db.drop_keyspace("users").unwrap();
        assert_eq!(space.usage().unwrap_err().kind(), ErrorKind::NotFound);
        drop(space);
        world.run_until_idle();
        assert_eq!(table_file_bytes(&world), 0);
    }
}

#[test]
fn a_value_file_into_which_several_tables_point_counts_once() {
    let world = World::new(12);
    let small = |builder: pugdb::Builder| builder.memory_bytes(1 << 20).memtable_bytes(32 << 10);
    let db = Setup::PLAIN.open_with(&world, small).unwrap().db;
    let options = KeyspaceOptions {
        separate_values: Some(64),
        bottom_compression: Some(Compression::None),
        ..KeyspaceOptions::default()
    };
    let space = users(&db, EngineKind::Lsm, options);
    // Each flush has keys from everywhere.
    for number in 0..2000_u32 {
        space.put([&key(number.reverse_bits())[..], &[7; 100]].concat(), [7; 512]).unwrap();
    }
    db.flush().unwrap();
    space.compact_range(..).unwrap();
    world.run_until_idle();
    let stats = db.stats().unwrap();
    assert!(stats.tables > 1 && stats.value_files > 1, "{stats:?}");
    assert_eq!(used(&space), table_file_bytes(&world));
}

#[test]
fn the_quota_is_for_all_partitions_together_and_outlives_a_split() {
    let world = World::new(3);
    let db = open(&world);
    let ranges = Partitioning::Ranges { starts: vec![key(50).to_vec(), key(90).to_vec()] };
    let space = db.partitioned_keyspace("users", &ranges, bytes(100 * ENTRY)).unwrap();
    fill(&space, 0..100);
    refused(space.put(key(100), b""));
    let sum = |space: &Keyspace| {
        let partitions = space.partitions().unwrap();
        partitions.iter().map(|one| one.table_bytes + one.memtable_bytes as u64).sum::<u64>()
    };
    assert_eq!((used(&space), sum(&space)), (100 * ENTRY, 100 * ENTRY));
    // It is written anew: smaller than it was in memory.
    space.split_partition(0, None, &mut |_| ()).unwrap();
    world.run_until_idle();
    assert_eq!(used(&space), sum(&space));
    let room = 100 * ENTRY - used(&space);
    fill(&space, 100..100 + u32::try_from(room / ENTRY).unwrap());
    refused(space.put(key(0), VALUE));
    space.alter(bytes(100 * ENTRY + ENTRY)).unwrap();
    space.put(key(0), VALUE).unwrap();
}

#[test]
fn quotas_are_kept_over_crashes_and_what_is_in_the_log_comes_back_all_the_same() {
    for engine in [EngineKind::Lsm, EngineKind::Partitioned] {
        let world = World::new(4);
        let db = open(&world);
        let space = users(&db, engine, bytes(1 << 20));
        assert_eq!(space.options().quota_bytes, Some(Quota::AtMost(1 << 20)));
        fill(&space, 0..100);
        space.alter(bytes(ENTRY)).unwrap();
        space.alter(keys(3)).unwrap();
        let world = world.power_cut();
        drop((space, db));
        let db = open(&world);
        let space = db.keyspace("users").unwrap();
        assert_eq!((space.count().unwrap(), used(&space)), (100, 100 * ENTRY));
        refused(space.put(key(0), b""));
        let usage = space.usage().unwrap();
        assert_eq!((usage.quota_bytes, usage.quota_keys), (Quota::AtMost(ENTRY), Quota::AtMost(3)));
        assert_eq!(usage.keys_estimate, 100);
        db.close().unwrap();
        drop((space, db));
        let db = open(&world);
        let space = db.keyspace("users").unwrap();
        assert_eq!(space.options().quota_bytes, Some(Quota::AtMost(ENTRY)));
        assert_eq!(used(&space), table_file_bytes(&world));
        refused(space.put(key(0), b""));
        assert!(db.keyspace_with("users", bytes(ENTRY + 1)).is_err(), "it is made otherwise");
    }
    // In memory they are those of its creation, and what it held is gone.
    let world = World::new(4);
    let db = open(&world);
    let space = users(&db, EngineKind::Btree, bytes(ENTRY));
    fill(&space, 0..1);
    assert_eq!(space.alter(bytes(2 * ENTRY)).unwrap_err().kind(), ErrorKind::Invalid);
    space.alter(bytes(ENTRY)).unwrap();
    db.close().unwrap();
    let space = open(&world).keyspace("users").unwrap();
    fill(&space, 0..1);
    refused(space.put(key(1), b""));
}

#[test]
fn a_quota_below_what_there_is_refuses_writes_and_nothing_else() {
    for engine in [EngineKind::Btree, EngineKind::Hash] {
        let db = Database::in_memory().unwrap();
        below(&users(&db, engine, KeyspaceOptions::default()), &db);
    }
    for engine in [EngineKind::Lsm, EngineKind::Partitioned] {
        let db = open(&World::new(5));
        below(&users(&db, engine, KeyspaceOptions::default()), &db);
    }
}

fn below(space: &Keyspace, db: &Database) {
    fill(space, 0..10);
    space.alter(bytes(5 * ENTRY)).unwrap();
    refused(space.put(key(0), b""));
    assert_eq!((space.scan(..).count(), space.get(key(9)).unwrap().unwrap().len()), (10, 96));
    space.delete(key(0)).unwrap();
    if space.engine() != EngineKind::Hash {
        space.delete_range(key(1)..key(3)).unwrap();
    }
    let mut batch = db.batch();
    batch.delete(space, key(3));
    batch.delete(space, key(4));
    batch.commit().unwrap();
    space.update(key(5), |_| Ok((Change::Delete, ()))).unwrap();
    assert!(space.count().unwrap() <= 6);
    refused(space.update(key(9), |_| Ok((Change::put([7; 2000]), ()))));
    let both = |batch: &mut pugdb::WriteBatch| {
        batch.delete(space, key(6));
        batch.put(space, key(7), [7; 2000]);
    };
    let mut batch = db.batch();
    both(&mut batch);
    refused(batch.commit());
    assert!(space.exists(key(6)).unwrap());

    space.alter(bytes(100 * ENTRY)).unwrap();
    space.put(key(0), VALUE).unwrap();
    space.alter(bytes(1)).unwrap();
    refused(space.put(key(0), VALUE));
    for zero in [bytes(0), keys(0)] {
        assert_eq!(space.alter(zero).unwrap_err().kind(), ErrorKind::Invalid);
    }
    assert_eq!(space.usage().unwrap().quota_bytes, Quota::AtMost(1));
    space.alter(KeyspaceOptions { quota_bytes: Some(Quota::None), ..Default::default() }).unwrap();
    fill(space, 0..200);
    assert_eq!(space.options().quota_bytes, Some(Quota::None));
}

#[test]
fn a_batch_of_which_one_keyspace_is_over_its_quota_changes_neither() {
    let world = World::new(6);
    let db = open(&world);
    let (space, names) = (users(&db, EngineKind::Lsm, bytes(ENTRY)), db.keyspace("names").unwrap());
    let both = |number: u32| {
        let mut batch = db.batch();
        batch.put(&names, key(number), b"1");
        batch.put(&space, key(number), VALUE);
        batch.commit()
    };
    both(0).unwrap();
    refused(both(1));
    names.put(key(2), b"1").unwrap();
    let world = world.power_cut();
    drop((space, names, db));
    let db = open(&world);
    let count = |name: &str| db.keyspace(name).unwrap().count().unwrap();
    assert_eq!((count("users"), count("names")), (1, 2));
}

#[test]
fn threads_do_not_pass_a_quota_together() {
    let dir = tempfile::tempdir().unwrap();
    let on_disk = Database::builder().durability(Durability::Os).open(dir.path().join("data")).unwrap();
    for engine in ENGINES {
        let in_memory = Database::in_memory().unwrap();
        let is_durable = matches!(engine, EngineKind::Lsm | EngineKind::Partitioned);
        let db = if is_durable { &on_disk } else { &in_memory };
        for most in [bytes(1000 * ENTRY), keys(1000)] {
            let space = users(db, engine, most);
            let let_in = AtomicU64::new(0);
            scope(|scope| {
                for thread in 0..8 {
                    let (space, let_in) = (&space, &let_in);
                    scope.spawn(move || {
                        for number in 0..1000 {
                            match space.put(key(thread * 1000 + number), VALUE) {
                                Ok(()) => let_in.fetch_add(1, Ordering::Relaxed),
                                refusal => {
                                    refused(refusal);
                                    break;
                                }
                            };
                        }
                    });
                }
            });
            assert_eq!(let_in.into_inner(), 1000, "{engine:?}");
            let usage = space.usage().unwrap();
            assert_eq!(
                (usage.bytes, usage.keys_estimate, space.count().unwrap()),
                (1000 * ENTRY, 1000, 1000)
            );
            db.drop_keyspace("users").unwrap();
        }
    }
}

#[test]
fn whoever_writes_is_asked() {
    let world = World::new(7);
    let db = Setup::PLAIN
        .open_with(&world, |builder| builder.merge_operator("users", Arc::new(Append::new(","))))
        .unwrap()
        .db;
    let space = users(&db, EngineKind::Lsm, bytes(4096));
    space.merge(key(0), b"first").unwrap();
    let large = [7; 4096];
    refused(space.merge(key(0), large));
    refused(space.put_with(key(0), large, EntryOptions { expires_at: Some(db.now()), meta: 1, seal: None }));
    refused(space.update(key(0), |_| Ok((Change::put(large), ()))));
    refused(space.fetch_update(key(0), |_| Some(large.to_vec())));
    refused(space.compare_and_set(key(1), None, Some(&large)));
    let locked = [(space.clone(), &key(1)[..])];
    refused(db.update_keys(LockScope::Keys(&locked), |locked| locked.put(&space, key(1), large)));
    let mut tries = 0;
    refused(db.transact(|transaction| {
        tries += 1;
        transaction.put(&space, key(1), large)
    }));
    assert_eq!(tries, 1, "another try would not do");
    let mut transaction = db.begin().unwrap();
    transaction.put(&space, key(1), large).unwrap();
    refused(transaction.prepare("order"));
    assert!(db.prepared_transactions().unwrap().is_empty());
    let mut writer = space.sorted_writer().unwrap();
    writer.put(key(1), large).unwrap();
    writer.put(key(2), [8; 3000]).unwrap();
    let before = used(&space);
    space.alter(KeyspaceOptions { upper_compression: Some(Compression::None), ..bytes(300) }).unwrap();
    refused(space.ingest([writer.finish().unwrap()]));
    let mut load = space.bulk_load().unwrap();
    load.put(key(1), large).unwrap();
    refused(load.finish());
    assert_eq!((space.count().unwrap(), used(&space)), (1, before));
    space.alter(bytes(1 << 20)).unwrap();
    space.put(key(1), large).unwrap();
}

#[test]
fn a_future_is_refused_as_well() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let db = AsyncDatabase::open(dir.path().join("data")).await.unwrap();
        let space = db.keyspace_with("users", bytes(ENTRY)).await.unwrap();
        space.put(key(0), VALUE).await.unwrap();
        refused(space.put(key(1), VALUE).await);
        space.delete(key(0)).await.unwrap();
        db.close().await.unwrap();
    });
}

#[test]
fn sorted_files_fit_by_what_they_take_on_disk() {
    let world = World::new(8);
    let db = open(&world);
    let space = users(&db, EngineKind::Lsm, KeyspaceOptions::default());
    let file = |from: u32| {
        let mut writer = space.sorted_writer().unwrap();
        (from..from + 100).for_each(|number| writer.put(key(number), VALUE).unwrap());
        writer.finish().unwrap()
    };
    let first = file(0);
    let length = table_file_bytes(&world);
    space.alter(bytes(length - 1)).unwrap();
    refused(space.ingest([first]));
    world.run_until_idle();
    assert_eq!((table_file_bytes(&world), space.count().unwrap()), (0, 0), "the file is removed");
    space.alter(bytes(length)).unwrap();
    space.ingest([file(0)]).unwrap();
    assert_eq!((used(&space), space.count().unwrap()), (length, 100));
    refused(space.ingest([file(100)]));
    refused(space.put(b"", b""));
    // Its entries are counted.
    space.alter(KeyspaceOptions { quota_bytes: Some(Quota::None), ..keys(199) }).unwrap();
    refused(space.ingest([file(100)]));
    space.alter(keys(200)).unwrap();
    space.ingest([file(100)]).unwrap();
    refused(space.put(key(200), b""));
}

#[test]
fn a_prepared_transaction_can_be_committed_whatever_happens_to_the_quota() {
    let world = World::new(9);
    let db = open(&world);
    let space = users(&db, EngineKind::Lsm, bytes(10 * ENTRY));
    let mut transaction = db.begin().unwrap();
    transaction.put(&space, key(0), VALUE).unwrap();
    let prepared = transaction.prepare("order").unwrap();
    fill(&space, 1..11);
    space.alter(bytes(1)).unwrap();
    refused(space.put(key(1), VALUE));
    prepared.commit().unwrap();
    assert_eq!((space.count().unwrap(), used(&space)), (11, 11 * ENTRY));
}

#[test]
fn a_truncation_begins_anew_at_once() {
    for engine in ENGINES {
        for most in [bytes(10 * ENTRY), keys(10)] {
            let world = World::new(10);
            let db = open(&world);
            let space = users(&db, engine, most);
            for round in 0..5 {
                fill(&space, 0..10);
                refused(space.put(key(10), VALUE));
                if round % 2 == 0 && space.engine() == EngineKind::Lsm {
                    db.flush().unwrap();
                }
                space.truncate().unwrap();
                let usage = space.usage().unwrap();
                assert_eq!((usage.bytes, usage.keys_estimate), (0, 0), "{engine:?}");
            }
            fill(&space, 0..10);
            // In one batch with what comes behind.
            let renewed = |count: u32| {
                let mut batch = db.batch();
                batch.truncate(&space);
                (0..count).for_each(|number| batch.put(&space, key(100 + number), VALUE));
                batch.commit()
            };
            refused(renewed(11));
            assert!(space.exists(key(9)).unwrap());
            renewed(10).unwrap();
            refused(space.put(key(10), VALUE));
            assert_eq!((space.count().unwrap(), space.exists(key(9)).unwrap()), (10, false));
            if space.engine() == EngineKind::Lsm {
                // A replay counts as the first time.
                let (before, world) = (used(&space), world.power_cut());
                drop((space, db));
                let db = open(&world);
                let space = db.keyspace("users").unwrap();
                assert_eq!((used(&space), space.count().unwrap()), (before, 10));
            }
        }
    }
}

#[test]
fn keys_are_right_where_each_is_written_once_and_off_by_what_is_written_again() {
    for engine in ENGINES {
        let world = World::new(11);
        let db = open(&world);
        let space = users(&db, engine, keys(100));
        fill(&space, 0..100);
        refused(space.put(key(100), b""));
        assert_eq!(space.usage().unwrap().keys_estimate, 100);
        if matches!(engine, EngineKind::Btree | EngineKind::Hash) {
            // Right whatever is done.
            (0..10).for_each(|number| space.delete(key(number)).unwrap());
            (500..600).for_each(|number| space.delete(key(number)).unwrap());
            fill(&space, 0..10);
            refused(space.put(key(100), b""));
            continue;
        }
        on_disk(&db, &space);
    }
}

fn on_disk(db: &Database, space: &Keyspace) {
    // Too many: what is written again counts in every run that has it, and in no more.
    space.alter(keys(1000)).unwrap();
    for _ in 0..3 {
        db.flush().unwrap();
        fill(space, 0..100);
        fill(space, 0..100);
    }
    let estimate = space.usage().unwrap().keys_estimate;
    assert!((101..=400).contains(&estimate), "{estimate}");
    space.alter(keys(100)).unwrap();
    refused(space.put(key(0), b""));
    space.compact_range(..).unwrap();
    assert_eq!(space.usage().unwrap().keys_estimate, 100);
    // Too few, by so many as were deleted and not there.
    (500..520).for_each(|number| space.delete(key(number)).unwrap());
    fill(space, 100..120);
    refused(space.put(key(120), b""));
    assert_eq!(space.count().unwrap(), 120);
    space.compact_range(..).unwrap();
    assert_eq!(space.usage().unwrap().keys_estimate, 120);
    (0..30).for_each(|number| space.delete(key(number)).unwrap());
    fill(space, 200..210);
    refused(space.put(key(210), b""));
}
