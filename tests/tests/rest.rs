//! Memtables at rest: what nobody writes to any more is flushed, if there is enough of it.

use std::time::Duration;

use pugdb::{Database, Durability, KeyspaceOptions, Logging};
use pugdb_sim::World;

const VALUE_BYTES: usize = 4 << 10;

/// A memtable is full with 8 MiB, and worth a table at rest from one on.
fn open(world: &World) -> Database {
    let builder = Database::builder().env(world.env()).memory_bytes(64 << 20).memtable_bytes(8 << 20);
    builder.durability(Durability::Os).open("data").expect("the disk is whole")
}

/// So many times 4 KiB in a keyspace.
fn fill(db: &Database, name: &str, values: u32) {
    let space = db.keyspace(name).expect("the disk is whole");
    for number in 0..values {
        space.put(number.to_be_bytes(), [1; VALUE_BYTES]).expect("the disk is whole");
    }
}

/// Time passes, and jobs have time enough.
fn wait(world: &World, time: Duration) {
    world.run_until_idle();
    world.advance(time);
    world.run_until_idle();
}

#[test]
fn what_nobody_writes_to_any_more_is_flushed_and_the_log_is_not_needed() {
    let world = World::new(1);
    let db = open(&world);
    // Here, so that no job has anything else to wake up for.
    for name in ["large", "small"] {
        db.keyspace(name).expect("the disk is whole");
    }
    wait(&world, Duration::from_secs(3));
    fill(&db, "large", 300);
    fill(&db, "small", 200);
    wait(&world, Duration::from_millis(900));
    let stats = db.stats().expect("it is open");
    assert!(stats.flushes == 0 && stats.memtable_bytes > 500 * VALUE_BYTES, "{stats:?}");
    wait(&world, Duration::from_millis(200));
    let stats = db.stats().expect("it is open");
    assert_eq!((stats.flushes, stats.tables), (1, 1));
    assert!((200 * VALUE_BYTES..300 * VALUE_BYTES).contains(&stats.memtable_bytes), "{stats:?}");
    // A little is left in memory for as long as it is little.
    wait(&world, Duration::from_hours(1));
    assert_eq!(db.stats().expect("it is open").flushes, 1);
}

#[test]
fn what_is_written_to_stays_in_memory() {
    let world = World::new(2);
    let db = open(&world);
    fill(&db, "users", 300);
    let users = db.keyspace("users").expect("the disk is whole");
    for _ in 0..100 {
        wait(&world, Duration::from_millis(500));
        users.put(b"again", b"and again").expect("the disk is whole");
    }
    assert_eq!(db.stats().expect("it is open").flushes, 0);
}

#[test]
fn without_a_log_what_is_at_rest_outlives_a_crash() {
    let world = World::new(3);
    let db = open(&world);
    let options = KeyspaceOptions { logging: Some(Logging::Unlogged), ..KeyspaceOptions::default() };
    db.keyspace_with("users", options).expect("the disk is whole");
    fill(&db, "users", 300);
    wait(&world, Duration::from_secs(3));
    let next = world.power_cut();
    drop(db);
    let db = open(&next);
    assert_eq!(db.keyspace("users").expect("the disk is whole").count().expect("it is whole"), 300);
}
