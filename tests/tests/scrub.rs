//! Tables are read again in the background: damage is found within the interval though nobody asks for it, and nobody is
//! disturbed meanwhile.

use std::path::PathBuf;
use std::time::Duration;

use pugdb::{Builder, CompactionPolicy, Database, Durability, ErrorKind, Keyspace, KeyspaceOptions};
use pugdb_sim::{CallKind, World};
use pugdb_tests::model_setup::{DIRECTORY, policy, table_file_bytes};

const TARGET: &str = "-p pugdb-tests --test scrub";
const INTERVAL: Duration = Duration::from_hours(1);
/// Time is let pass in steps of this length.
const STEP: Duration = Duration::from_secs(20);
const KEYS: u32 = 300;
const VALUE_BYTES: usize = 300;

/// In some worlds the values are apart.
fn builder(world: &World, interval: Duration) -> Builder {
    let builder = Database::builder().env(world.env()).durability(Durability::Os).memory_bytes(4 << 20);
    let apart = if world.seed().is_multiple_of(2) { VALUE_BYTES } else { 0 };
    let options = KeyspaceOptions { separate_values: Some(apart), ..KeyspaceOptions::default() };
    let builder = builder.cache_bytes(0).compaction(policy(world.seed())).default_options(options);
    builder.scrub_interval(Some(interval))
}

fn open_with(builder: Builder) -> Database {
    builder.open(DIRECTORY).expect("the disk is whole")
}

fn open(world: &World) -> Database {
    open_with(builder(world, INTERVAL))
}

fn value(number: u32) -> Vec<u8> {
    let mut value = vec![0; VALUE_BYTES];
    fastrand::Rng::with_seed(number.into()).fill(&mut value);
    value
}

/// A keyspace with one run.
fn fill(db: &Database, name: &str) -> Keyspace {
    fill_with(db, name, KEYS)
}

fn fill_with(db: &Database, name: &str, keys: u32) -> Keyspace {
    let space = db.keyspace(name).expect("the disk is whole");
    for number in 0..keys {
        space.put(number.to_be_bytes(), value(number)).expect("the disk is whole");
    }
    db.flush().expect("the disk is whole");
    space
}

/// Lets time pass, in which the jobs do what they want to.
fn wait(world: &World, time: Duration) {
    let end = world.env().clock.monotonic() + time;
    while world.env().clock.monotonic() < end {
        world.run_until_idle();
        world.advance(STEP);
    }
    world.run_until_idle();
}

/// Tables, and the value files beside them.
fn files(world: &World) -> Vec<(PathBuf, u64)> {
    let is_ours = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "table" || kind == "values");
    world.files().into_iter().filter(|(path, _)| is_ours(path)).collect()
}

#[test]
fn a_flipped_bit_is_found_within_the_interval() {
    pugdb_sim::check(TARGET, "a_flipped_bit_is_found", 0..48, |seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = World::new(seed);
        let mut db = open(&world);
        let (cold, whole) = (fill(&db, "cold"), fill(&db, "whole"));
        wait(&world, Duration::from_mins(5));
        // Written in this process, or found there by it.
        if random.bool() {
            drop((cold, whole));
            db.close().expect("the disk is whole");
            world = world.kill();
            db = open(&world);
        }
        let files = files(&world);
        let (path, bytes) = &files[random.usize(..files.len())];
        world.flip_bit(path, random.u64(..*bytes), random.u8(..8)).expect("the byte is there");
        assert_eq!(db.stats().expect("it is open").quarantined, 0);
        wait(&world, INTERVAL + Duration::from_mins(5));
        let stats = db.stats().expect("it is open");
        assert_eq!(stats.quarantined, 1, "{} in {stats:?}", path.display());
        assert!(stats.scrub_pass_at.is_some() && stats.scrub_failures == 0, "{stats:?}");
        // The manifest knows it, too, and it is the one that is damaged: what it says is an error or right.
        db.close().expect("the disk is whole");
        let world = world.kill();
        let db = open_with(builder(&world, 1000 * INTERVAL));
        assert_eq!(db.stats().expect("it is open").quarantined, 1);
        let mut damaged = Vec::new();
        for name in ["cold", "whole"] {
            let space = db.keyspace(name).expect("the disk is whole");
            for number in 0..KEYS {
                match space.get(number.to_be_bytes()) {
                    Ok(got) => assert!(got.is_some_and(|got| *got == *value(number))),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Corrupt);
                        damaged.push(name);
                    }
                }
            }
        }
        damaged.dedup();
        assert!(damaged.len() <= 1, "{damaged:?}");
    });
}

#[test]
fn without_damage_everything_is_read_once_in_an_interval_and_nothing_else_happens() {
    pugdb_sim::check(TARGET, "without_damage_everything", 0..24, |seed| {
        let world = World::new(seed);
        let db = open_with(builder(&world, INTERVAL).cache_bytes(1 << 20));
        let _spaces = (fill(&db, "one"), fill(&db, "two"));
        wait(&world, Duration::from_mins(5));
        let before = db.stats().expect("it is open");
        wait(&world, 10 * INTERVAL);
        let after = db.stats().expect("it is open");
        let (tables, reads) = (before.tables as u64, after.scrubbed_tables);
        assert!((9 * tables..=11 * tables).contains(&reads), "{reads} reads of {tables} tables");
        let bytes = after.scrubbed_bytes / reads * tables;
        let all = before.table_bytes + before.value_live_bytes;
        assert!(bytes <= all && bytes > all * 9 / 10, "{bytes} of {all} were read");
        // Neither is the cache displaced, nor is this a hit or miss of anybody.
        let cache = |stats: &pugdb::Stats| (stats.cache_bytes, stats.cache_hits, stats.cache_misses);
        assert_eq!(cache(&before), cache(&after));
        assert_eq!((after.quarantined, after.scrub_failures), (0, 0));
        assert_eq!((before.flushes, before.tables), (after.flushes, after.tables));
    });
}

#[test]
fn a_read_that_fails_is_no_damage_and_is_tried_again() {
    pugdb_sim::check(TARGET, "a_read_that_fails", 0..12, |seed| {
        let world = World::new(seed);
        let db = open(&world);
        let _space = fill(&db, "users");
        wait(&world, Duration::from_mins(5));
        world.fail_when(|call, path| {
            let is_read = matches!(call, CallKind::Read | CallKind::Open);
            (is_read && path.starts_with("data/tables")).then_some(std::io::ErrorKind::Other)
        });
        wait(&world, 2 * INTERVAL);
        let stats = db.stats().expect("it is open");
        assert!(stats.scrub_failures > 2 && stats.scrubbed_tables == 0, "{stats:?}");
        assert_eq!((stats.quarantined, stats.scrub_pass_at), (0, None));
        world.heal();
        wait(&world, Duration::from_mins(15));
        let stats = db.stats().expect("it is open");
        assert!(stats.scrubbed_tables > 0 && stats.quarantined == 0, "{stats:?}");
    });
}

#[test]
fn a_table_that_goes_while_it_is_read_is_let_go() {
    pugdb_sim::check(TARGET, "a_table_that_goes", 0..24, |seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let world = World::new(seed);
        // Always at it.
        let db = open_with(builder(&world, Duration::from_secs(1)));
        for round in 0..30 {
            let users = fill(&db, "users");
            for _ in 0..random.usize(..60) {
                world.step();
                world.advance(Duration::from_millis(random.u64(..60)));
            }
            match random.u8(..3) {
                0 => users.truncate().expect("the disk is whole"),
                1 => users.compact_range(..).expect("the disk is whole"),
                _ => assert!(db.drop_keyspace("users").expect("the disk is whole")),
            }
            drop(users);
            if round % 5 == 4 {
                wait(&world, STEP);
                let stats = db.stats().expect("it is open");
                assert_eq!(table_file_bytes(&world), stats.table_bytes + stats.value_bytes);
            }
        }
        let stats = db.stats().expect("it is open");
        assert!(stats.scrubbed_tables > 5 && stats.quarantined == 0, "{stats:?}");
        db.close().expect("the disk is whole");
    });
}

#[test]
fn a_dropped_keyspace_keeps_no_file_for_the_walk_that_was_in_it() {
    pugdb_sim::check(TARGET, "a_dropped_keyspace_keeps_no_file", 0..12, |seed| {
        let world = World::new(seed);
        let db = open_with(builder(&world, Duration::from_secs(1)).memory_bytes(64 << 20));
        drop(fill_with(&db, "users", 4000));
        let is_in_the_midst = || {
            let stats = db.stats().expect("it is open");
            !stats.scrubbed_bytes.is_multiple_of(stats.table_bytes + stats.value_live_bytes)
        };
        while !is_in_the_midst() {
            world.run_until_idle();
            world.advance(Duration::from_millis(10));
        }
        assert!(db.drop_keyspace("users").expect("the disk is whole"));
        // It need not wait for its pace to hear of it.
        world.run_until_idle();
        assert_eq!(table_file_bytes(&world), 0);
    });
}

#[test]
fn it_waits_for_flushes_and_merges_until_it_is_late() {
    pugdb_sim::check(TARGET, "it_waits_for_flushes", 0..12, |seed| {
        let world = World::new(seed);
        let builder = builder(&world, INTERVAL).compaction(CompactionPolicy::LazyLeveled);
        // A merge that is under way for days.
        let db = open_with(builder.background_bytes_per_second(1));
        (0..10).for_each(|_| drop(fill(&db, "users")));
        let scrubbed = || db.stats().expect("it is open").scrubbed_tables;
        wait(&world, INTERVAL + INTERVAL / 30);
        assert_eq!((scrubbed(), db.stats().expect("it is open").runs), (0, 10));
        wait(&world, INTERVAL / 4);
        assert_eq!(scrubbed(), 10);
    });
}
