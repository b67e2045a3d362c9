//! Range deletes on disk: nothing that they hide is read, its space comes back, and in the end they are forgotten.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pugdb::env::{Env, Event};
use pugdb::{
    Builder, Change, Compression, Database, Durability, EngineKind, ErrorKind, Keyspace, KeyspaceOptions,
};
use pugdb_core::seam::TableStore;
use pugdb_lsm::table::LocalTables;
use pugdb_sim::{SlowStore, World};
use pugdb_tests::model_setup::{DIRECTORY, table_file_bytes};

/// Longer than the store waits for a reader that is in the way.
const PATIENCE: Duration = Duration::from_secs(11);
/// Longer than it takes until it counts as quiet.
const QUIET: Duration = Duration::from_mins(1);
const VALUE_BYTES: usize = 500;

fn open_with(world: &World, adjust: impl FnOnce(Builder) -> Builder) -> Database {
    // Sizes of files tell what is in them where nothing is compressed.
    let plain = KeyspaceOptions {
        upper_compression: Some(Compression::None),
        bottom_compression: Some(Compression::None),
        block_bytes: Some(1 << 10),
        ..KeyspaceOptions::default()
    };
    let builder = Database::builder().env(world.env()).durability(Durability::Os).default_options(plain);
    adjust(builder).open(DIRECTORY).expect("the disk is whole")
}

fn open(world: &World) -> Database {
    open_with(world, |builder| builder.log_segment_bytes(64 << 10))
}

fn users(db: &Database) -> Keyspace {
    db.keyspace("users").expect("the disk is whole")
}

fn key(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

/// One batch, flushed: a table of its own.
fn fill(db: &Database, space: &Keyspace, keys: std::ops::Range<u32>) {
    let mut batch = db.batch();
    keys.for_each(|number| batch.put(space, key(number), vec![7; VALUE_BYTES]));
    batch.commit().expect("the disk is whole");
    db.flush().expect("the disk is whole");
}

fn delete(space: &Keyspace, keys: std::ops::Range<u32>) {
    space.delete_range(key(keys.start)..key(keys.end)).expect("the disk is whole");
}

fn pass(world: &World, time: Duration) {
    world.advance(time);
    world.run_until_idle();
}

/// How many keys there are; a count and a scan each way agree.
fn count(space: &Keyspace) -> u64 {
    let counted = space.count().expect("the disk is whole");
    for scan in [space.scan(..), space.scan(..).reverse()] {
        assert_eq!(scan.inspect(|entry| assert!(entry.is_ok())).count() as u64, counted);
    }
    counted
}

/// Sixty thousand keys in three runs of interleaved keys; the snapshot keeps all of them where they are. Then six ranges
/// are deleted, between which ten keys stay each time, and one key is put again.
#[test]
fn what_a_range_delete_hides_is_not_read() {
    const KEYS: u32 = 60_000;
    const THERE: u64 = 61;
    let world = World::new(1);
    let tables = LocalTables::new(&world.env(), Path::new(DIRECTORY).join("tables"));
    let store = Arc::new(SlowStore::new(Arc::new(tables), world.env()));
    let slow = Arc::clone(&store) as Arc<dyn TableStore>;
    let db = open_with(&world, |builder| builder.cache_bytes(0).table_store(slow));
    let users = users(&db);
    for run in 0..3 {
        for from in (0..KEYS).step_by(10_000) {
            let mut batch = db.batch();
            let keys = (from..from + 10_000).filter(|number| number % 3 == run);
            keys.for_each(|number| batch.put(&users, key(number), [7; 40]));
            batch.commit().expect("the disk is whole");
        }
        db.flush().expect("the disk is whole");
    }
    let before = db.snapshot().expect("it is open");
    for from in (10..KEYS).step_by(10_000) {
        delete(&users, from..from + 9_990);
    }
    users.put(key(25_000), b"new").expect("the disk is whole");
    let bytes = |read: &dyn Fn() -> u64, there: u64| {
        let before = store.bytes();
        assert_eq!(read(), there);
        store.bytes() - before
    };
    let all = bytes(&|| before.scan(&users, ..).count() as u64, u64::from(KEYS));
    // Of each run a block or two of a KiB, at each end of each range.
    let few = 3 * 6 * 2 * 2 * 1100;
    assert!(all > 10 * few, "{all} bytes of everything");
    let forward = bytes(&|| users.scan(..).count() as u64, THERE);
    let reverse = bytes(&|| users.scan(..).reverse().count() as u64, THERE);
    let counted = bytes(&|| users.count().expect("the disk is whole"), THERE);
    assert!(forward <= few && reverse <= few && counted <= few, "{forward}, {reverse}, {counted} of {all}");
    // A read of one key needs nothing, whatever the filters say.
    let exists = |number: &u32| users.exists(key(*number)).expect("the disk is whole");
    assert_eq!(bytes(&|| (10..5_000).filter(exists).count() as u64, 0), 0);
    let keys: Vec<_> = (10..1_000).map(key).collect();
    let found = || users.multi_get(&keys).expect("the disk is whole").into_iter().flatten().count() as u64;
    assert_eq!(bytes(&found, 0), 0);
    assert_eq!(users.get(key(25_000)).expect("the disk is whole").expect("it was put"), b"new");
}

#[test]
fn tables_that_are_wholly_hidden_go_unread_and_the_range_delete_with_them() {
    let world = World::new(2);
    let db = open(&world);
    let users = users(&db);
    fill(&db, &users, 0..100);
    fill(&db, &users, 100..200);
    world.run_until_idle();
    let written = db.stats().expect("it is open").compacted_bytes;
    delete(&users, 0..100);
    world.run_until_idle();
    // The range delete itself is in memory and log only.
    let stats = db.stats().expect("it is open");
    assert!(stats.table_bytes < 70_000 && stats.table_bytes > 50_000, "{stats:?}");
    assert_eq!((stats.compacted_bytes, stats.range_tombstones, count(&users)), (written, 1, 100));
    users.delete_range(..).expect("the disk is whole");
    db.flush().expect("the disk is whole");
    world.run_until_idle();
    let stats = db.stats().expect("it is open");
    assert_eq!((stats.table_bytes, stats.range_tombstones, count(&users)), (0, 0, 0));
    assert_eq!((stats.compacted_bytes, table_file_bytes(&world)), (written, 0));
    // What comes behind is there, also in the next life.
    fill(&db, &users, 50..60);
    drop((users, db));
    let db = open(&world.kill());
    assert_eq!(count(&self::users(&db)), 10);
}

#[test]
fn a_table_of_which_half_is_hidden_is_written_anew() {
    let world = World::new(3);
    let db = open(&world);
    let users = users(&db);
    fill(&db, &users, 0..1000);
    world.run_until_idle();
    let whole = db.stats().expect("it is open").table_bytes;
    delete(&users, 0..400);
    db.flush().expect("the disk is whole");
    world.run_until_idle();
    let stats = db.stats().expect("it is open");
    assert_eq!((stats.table_bytes, stats.range_tombstones), (whole, 1), "not yet half");
    delete(&users, 300..600);
    db.flush().expect("the disk is whole");
    world.run_until_idle();
    let stats = db.stats().expect("it is open");
    assert!(stats.table_bytes < whole / 2, "{} of {whole}", stats.table_bytes);
    assert_eq!((stats.range_tombstones, count(&users)), (0, 400));
    // Somebody who does not want to wait for the other half.
    delete(&users, 600..700);
    users.compact_range(..).expect("the disk is whole");
    pass(&world, QUIET);
    let less = db.stats().expect("it is open");
    assert!(less.table_bytes < stats.table_bytes * 4 / 5 && less.range_tombstones == 0, "{less:?}");
}

#[test]
fn a_snapshot_keeps_what_was_deleted_and_space_comes_back_after_it() {
    let world = World::new(4);
    let db = open(&world);
    let users = users(&db);
    fill(&db, &users, 0..200);
    let snapshot = db.snapshot().expect("it is open");
    users.delete_range(..).expect("the disk is whole");
    db.flush().expect("the disk is whole");
    pass(&world, QUIET);
    assert!(db.stats().expect("it is open").table_bytes > 100_000);
    assert_eq!((count(&users), snapshot.scan(&users, ..).count()), (0, 200));
    drop(snapshot);
    // Nothing is written, and nobody says that the snapshot is gone.
    pass(&world, PATIENCE);
    let stats = db.stats().expect("it is open");
    assert_eq!((stats.table_bytes, stats.range_tombstones), (0, 0), "{stats:?}");
}

#[test]
fn range_deletes_outlive_the_log_that_held_them() {
    let world = World::new(5);
    let db = open(&world);
    let users = users(&db);
    fill(&db, &users, 0..1000);
    delete(&users, 10..20);
    users.delete_range(key(990)..).expect("the disk is whole");
    users.put(key(15), b"new").expect("the disk is whole");
    db.flush().expect("the disk is whole");
    // Much of another keyspace: the log segment with the range deletes goes.
    let names = db.keyspace("names").expect("the disk is whole");
    for _ in 0..4 {
        fill(&db, &names, 0..200);
    }
    assert_eq!(db.stats().expect("it is open").range_tombstones, 2);
    let copy = "copy";
    db.checkpoint(copy).expect("there is room");
    drop((users, names, db));
    let world = world.power_cut();
    let db = open(&world);
    assert_eq!((db.stats().expect("it is open").range_tombstones, count(&self::users(&db))), (2, 981));
    let builder = Database::builder().env(world.env());
    let copied = builder.open(copy).expect("a checkpoint is a database");
    assert_eq!(count(&self::users(&copied)), 981);
}

/// What is visible is known from the manifest before the log is replayed, and a table may be written in the middle of that.
#[test]
fn a_table_that_is_written_during_a_replay_is_not_cleared_of_what_comes_behind() {
    let world = World::new(7);
    let db = open_with(&world, |builder| builder.memory_bytes(4 << 20).memtable_bytes(256 << 10));
    let users = users(&db);
    let mut batch = db.batch();
    (0..100).for_each(|number| batch.put(&users, key(number), vec![7; VALUE_BYTES]));
    batch.commit().expect("the disk is whole");
    delete(&users, 10..90);
    // Only this one fills its memtable: a table says that later seqnos were used.
    let names = db.keyspace("names").expect("the disk is whole");
    for number in 0..600 {
        names.put(key(number), vec![7; VALUE_BYTES]).expect("the disk is whole");
    }
    world.run_until_idle();
    assert!(db.stats().expect("it is open").tables > 0);
    let world = world.kill();
    drop((users, names, db));
    let small = |builder: Builder| builder.memory_bytes(1 << 20).memtable_bytes(4 << 10);
    let db = open_with(&world, small);
    let users = self::users(&db);
    for _ in 0..2 {
        assert_eq!(count(&users), 20);
        db.flush().expect("the disk is whole");
        pass(&world, QUIET);
    }
    assert_eq!(db.stats().expect("it is open").range_tombstones, 0);
    assert_eq!(count(&users), 20);
}

#[test]
fn a_damaged_table_that_is_wholly_hidden_is_in_nobodys_way() {
    let world = World::new(6);
    let db = open(&world);
    let users = users(&db);
    fill(&db, &users, 0..100);
    let (table, length) = world
        .files()
        .into_iter()
        .find(|(path, _)| path.extension().is_some_and(|end| end == "table"))
        .expect("it was flushed");
    drop((users, db));
    // Its properties: it cannot be opened.
    world.flip_bit(&table, length - 100, 3).expect("the file is there");
    let db = open(&world);
    let users = self::users(&db);
    assert_eq!(users.get(key(5)).expect_err("it is damaged").kind(), ErrorKind::Corrupt);
    users.delete_range(..).expect("the disk is whole");
    fill(&db, &users, 5..10);
    pass(&world, QUIET);
    assert_eq!(count(&users), 5);
    assert_eq!(users.get(key(4)).expect("nothing of it is needed"), None);
    let stats = db.stats().expect("it is open");
    assert_eq!((stats.quarantined, stats.range_tombstones), (1, 1), "it is never removed, nor what hides it");
}

#[test]
fn a_range_without_keys_changes_nothing_and_a_hash_refuses() {
    let db = Database::in_memory().expect("memory is there");
    let users = users(&db);
    users.put(b"b", b"1").expect("it is open");
    let mut batch = db.batch();
    batch.delete_range(&users, b"b".as_slice()..b"b");
    batch.delete_range(&users, b"c".as_slice()..b"a");
    assert!(batch.is_empty());
    batch.commit().expect("there is nothing to do");
    assert_eq!(users.count().expect("it is open"), 1);
    let options = KeyspaceOptions { engine: Some(EngineKind::Hash), ..KeyspaceOptions::default() };
    let hashed = db.keyspace_with("hashed", options).expect("it is open");
    hashed.put(b"b", b"1").expect("it is open");
    assert_eq!(hashed.delete_range(..).expect_err("it has no order").kind(), ErrorKind::Invalid);
    let mut batch = db.batch();
    batch.put(&users, b"c", b"1");
    batch.delete_range(&hashed, b"a".as_slice()..);
    assert_eq!(batch.commit().expect_err("it has no order").kind(), ErrorKind::Invalid);
    assert_eq!((users.count().expect("it is open"), hashed.count().expect("it is open")), (1, 1));
}

#[test]
fn watches_are_broken_by_range_deletes_over_keys_that_are_there() {
    let db = Database::in_memory().expect("memory is there");
    let users = users(&db);
    users.put(b"a", b"1").expect("it is open");
    users.put(b"d", b"1").expect("it is open");
    let watch = |key: &[u8]| users.watch(key).expect("it is open");
    let (there, absent, beside) = (watch(b"a"), watch(b"b"), watch(b"d"));
    users.delete_range(b"a".as_slice()..b"d").expect("it is open");
    assert_eq!([there.is_broken(), absent.is_broken(), beside.is_broken()], [true, false, false]);
    // What a batch has put there before was changed by it.
    let absent = watch(b"b");
    let mut batch = db.batch();
    batch.put(&users, b"b", b"1");
    batch.delete_range(&users, ..);
    batch.commit().expect("it is open");
    assert!(absent.is_broken() && beside.is_broken());
}

#[test]
fn a_range_delete_waits_for_updates_and_is_refused_inside_one() {
    let db = Database::in_memory().expect("memory is there");
    let counters = db.keyspace("counters").expect("it is open");
    counters.put(b"visits", [1]).expect("it is open");
    let inside = counters.update(b"visits", |_| {
        let refused = counters.delete_range(..).expect_err("it would wait for itself").kind();
        Ok((Change::Keep, refused))
    });
    assert_eq!(inside.expect("it is open"), ErrorKind::Invalid);
    // One that comes while an update has read the key is through after it, and deletes what it has put. The wait within the
    // closure is for a range delete that does not wait.
    let env = Env::os();
    let (has_read, is_deleted) = (AtomicBool::new(false), AtomicBool::new(false));
    let wait_for = |what: &AtomicBool, most: Duration| {
        let until = env.clock.monotonic() + most;
        env.executor.block_until(&Event::default(), Some(until), &mut || what.load(Ordering::Acquire))
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert!(wait_for(&has_read, Duration::from_mins(1)), "the update has begun");
            counters.delete_range(b"a".as_slice()..).expect("it is open");
            is_deleted.store(true, Ordering::Release);
        });
        let count_up = |old: Option<&pugdb::Entry>| {
            has_read.store(true, Ordering::Release);
            wait_for(&is_deleted, Duration::from_millis(100));
            Ok((Change::put([old.map_or(0, |entry| entry.value[0]) + 1]), ()))
        };
        counters.update(b"visits", count_up).expect("it is open");
    });
    assert_eq!(counters.get(b"visits").expect("it is open"), None);
}
