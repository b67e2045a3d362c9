//! Keyspaces without a log: what a crash takes of them and what it does not, what they may share a batch with, and that
//! they keep nothing of the log alive.

use std::time::Duration;

use pugdb::{Database, EngineKind, EntryOptions, ErrorKind, Keyspace, KeyspaceOptions, Logging};
use pugdb_sim::World;

const DIRECTORY: &str = "db";

fn open(world: &World) -> Database {
    let builder = Database::builder().env(world.env()).memory_bytes(1 << 20).cache_bytes(64 << 10);
    let builder = builder.memtable_bytes(16 << 10).log_segment_bytes(8 << 10).expiry_grace(Duration::ZERO);
    builder.open(DIRECTORY).expect("the disk is whole")
}

fn unlogged() -> KeyspaceOptions {
    KeyspaceOptions { logging: Some(Logging::Unlogged), ..KeyspaceOptions::default() }
}

fn scratch(db: &Database) -> Keyspace {
    db.keyspace_with("scratch", unlogged()).expect("the disk is whole")
}

fn count(db: &Database, name: &str) -> u64 {
    db.keyspace(name).expect("it is open").count().expect("the disk is whole")
}

#[test]
fn a_kill_takes_what_was_not_flushed_and_nothing_of_others() {
    let world = World::new(1);
    let db = open(&world);
    let (users, cache) = (db.keyspace("users").unwrap(), scratch(&db));
    let write = |from: u32| {
        for number in from..from + 10 {
            users.put(number.to_be_bytes(), [7; 100]).unwrap();
            cache.put(number.to_be_bytes(), [7; 100]).unwrap();
        }
    };
    write(0);
    db.flush().unwrap();
    write(10);
    let after = world.kill();
    drop((users, cache, db));
    let db = open(&after);
    assert_eq!((count(&db, "users"), count(&db, "scratch")), (20, 10));
    // What comes now is seen, though seqnos that are lost are used again.
    let cache = scratch(&db);
    for number in 10..30_u32 {
        cache.put(number.to_be_bytes(), [8; 100]).unwrap();
    }
    assert_eq!(cache.get(25_u32.to_be_bytes()).unwrap().unwrap(), [8; 100]);
    assert_eq!(cache.count().unwrap(), 30);
}

#[test]
fn an_end_in_good_order_keeps_everything_and_so_does_a_drop() {
    let world = World::new(2);
    for life in 0..6_u32 {
        let db = open(&world);
        assert_eq!(count(&db, "users"), life.into());
        let cache = scratch(&db);
        assert_eq!(cache.count().unwrap(), life.into(), "life {life}");
        cache.put(life.to_be_bytes(), [7; 100]).unwrap();
        db.keyspace("users").unwrap().put(life.to_be_bytes(), b"").unwrap();
        if life % 2 == 0 {
            db.close().unwrap();
        }
        drop((cache, db));
    }
    let db = open(&world.kill());
    assert_eq!((count(&db, "users"), count(&db, "scratch")), (6, 6), "it was on disk, not in memory");
    assert!(db.verify().unwrap().problems.is_empty());
}

#[test]
fn a_batch_changes_one_such_keyspace_or_none() {
    let world = World::new(3);
    let db = open(&world);
    let (users, cache) = (db.keyspace("users").unwrap(), scratch(&db));
    let other = db.keyspace_with("other", unlogged()).unwrap();
    let engine = Some(EngineKind::Btree);
    let memory =
        db.keyspace_with("memory", KeyspaceOptions { engine, ..KeyspaceOptions::default() }).unwrap();
    for (second, name) in [(&users, "users"), (&other, "other"), (&memory, "memory")] {
        for truncates in [false, true] {
            let mut batch = db.batch();
            batch.put(&cache, "a", "1");
            if truncates {
                batch.truncate(second);
            } else {
                batch.put(second, "a", "1");
            }
            let error = batch.commit().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(name) && error.to_string().contains("scratch"), "{error}");
        }
    }
    assert_eq!(["users", "scratch", "other", "memory"].map(|name| count(&db, name)), [0; 4]);
    let mut batch = db.batch();
    batch.truncate(&cache);
    batch.put(&cache, "a", "1");
    batch.put(&cache, "b", "2");
    batch.commit().unwrap();
    assert_eq!(count(&db, "scratch"), 2);
    // Names are logged, whatever they stand for.
    db.swap_keyspaces("users", "scratch").unwrap();
    assert_eq!((count(&db, "users"), count(&db, "scratch")), (2, 0));
    users.put("c", "3").unwrap();
    let after = world.power_cut();
    drop((users, cache, other, memory, db));
    let db = open(&after);
    assert_eq!((count(&db, "users"), count(&db, "scratch")), (0, 1), "users has no log now");
    assert_eq!(db.keyspace("users").unwrap().options().logging, Some(Logging::Unlogged));
}

#[test]
fn it_is_written_down_and_does_not_change() {
    let world = World::new(4);
    let db = open(&world);
    let cache = scratch(&db);
    let logged = KeyspaceOptions { logging: Some(Logging::Logged), ..KeyspaceOptions::default() };
    assert_eq!(cache.alter(logged).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(db.keyspace_with("scratch", logged).unwrap_err().kind(), ErrorKind::Conflict);
    cache.alter(KeyspaceOptions { filter_bits: Some(4), ..unlogged() }).unwrap();
    assert_eq!(db.keyspace("users").unwrap().options().logging, Some(Logging::Logged));
    let hash = KeyspaceOptions { engine: Some(EngineKind::Hash), ..unlogged() };
    assert_eq!(db.keyspace_with("hash", hash).unwrap_err().kind(), ErrorKind::Invalid);
    drop((cache, db));
    // From the log, then from the manifest.
    for _ in 0..2 {
        let db = open(&world);
        let options = db.keyspace("scratch").unwrap().options();
        assert_eq!((options.logging, options.filter_bits), (Some(Logging::Unlogged), Some(4)));
        db.close().unwrap();
    }
}

#[test]
fn its_writes_take_no_log_and_its_memtable_keeps_none() {
    let world = World::new(5);
    let db = open(&world);
    let (users, cache) = (db.keyspace("users").unwrap(), scratch(&db));
    cache.put("old", "1").unwrap();
    let before = db.stats().unwrap().log_bytes;
    for number in 0..50_u32 {
        cache.put(number.to_be_bytes(), [7; 100]).unwrap();
    }
    assert_eq!(db.stats().unwrap().log_bytes, before);
    let flushes = db.stats().unwrap().flushes;
    for number in 0..3000_u32 {
        users.put((number % 100).to_be_bytes(), [7; 100]).unwrap();
        world.maybe_step();
    }
    world.run_until_idle();
    let stats = db.stats().unwrap();
    assert!(stats.flushes > flushes && stats.log_bytes < 100_000, "{stats:?}");
    // What was written first lies in memory still: nobody had a reason to flush it.
    let after = world.kill();
    drop((users, cache, db));
    assert_eq!(count(&open(&after), "scratch"), 0);
}

#[test]
fn seqnos_of_which_nothing_is_left_are_not_used_again() {
    let world = World::new(6);
    let db = open(&world);
    let cache = scratch(&db);
    let expired = EntryOptions { expires_at: Some(db.now()), ..EntryOptions::default() };
    for number in 0..40_u32 {
        cache.put_with(number.to_be_bytes(), b"", expired).unwrap();
    }
    db.flush().unwrap();
    assert_eq!(db.stats().unwrap().tables, 0, "nothing was worth a table");
    let after = world.kill();
    drop((cache, db));
    let db = open(&after);
    let cache = scratch(&db);
    cache.put("new", "1").unwrap();
    assert_eq!(cache.get("new").unwrap().unwrap(), b"1", "its seqno was taken for one that is flushed");

    // A truncation is no entry either.
    (0..40).for_each(|_| cache.truncate().unwrap());
    db.flush().unwrap();
    let after = after.kill();
    drop((cache, db));
    let cache = scratch(&open(&after));
    (0..100_u32).for_each(|number| cache.put(number.to_be_bytes(), "1").unwrap());
    assert_eq!(cache.count().unwrap(), 100, "some seqnos lie before the truncation");
}
