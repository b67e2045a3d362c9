//! A rate for what is merged in the background: it is kept, and nobody waits for it who has something to write or to close.

use std::time::Duration;

use pugdb::{CompactionPolicy, Database, Durability};
use pugdb_core::coding::index;
use pugdb_sim::World;
use pugdb_tests::model_setup::{DIRECTORY, table_file_bytes};

const TARGET: &str = "-p pugdb-tests --test throttle";
const VALUE_BYTES: usize = 400;
/// What idle time leaves to be made up for, and a step of the clock.
const CREDIT: Duration = Duration::from_millis(200);
/// Of a run.
const KEYS: u32 = 40;
/// So slow that whoever waited for it would wait for days.
const CRAWL: u64 = 1;

/// Memtables of 32 KiB, tables of 64 KiB; six young runs are merged.
fn open(world: &World, rate: u64) -> Database {
    let builder = Database::builder().env(world.env()).durability(Durability::Os);
    let builder = builder.compaction(CompactionPolicy::LazyLeveled).memory_bytes(1 << 20);
    let builder = builder.memtable_bytes(32 << 10).cache_bytes(0).compaction_jobs(jobs(world));
    builder.background_bytes_per_second(rate).open(DIRECTORY).expect("the disk is whole")
}

/// What ends a piece is paid for behind it: of each job the table that it reads again.
fn last_slices(world: &World) -> u64 {
    64_000 * jobs(world) as u64
}

fn jobs(world: &World) -> usize {
    [1, 2, 3][index(world.seed() % 3)]
}

fn now(world: &World) -> Duration {
    world.env().clock.monotonic()
}

fn since(world: &World, begun: Duration) -> Duration {
    now(world).saturating_sub(begun)
}

/// How long so many bytes take.
fn at_rate(bytes: u64, rate: u64) -> Duration {
    Duration::from_millis(bytes * 1000 / rate)
}

/// Writes keys all over the place, and has them in a run of their own.
fn write_run(db: &Database, random: &mut fastrand::Rng) {
    let users = db.keyspace("users").expect("the disk is whole");
    for _ in 0..KEYS {
        let value: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(VALUE_BYTES).collect();
        users.put(random.u32(..).to_be_bytes(), value).expect("the disk is whole");
    }
    db.flush().expect("the disk is whole");
}

#[test]
fn merges_keep_the_rate_over_time_and_are_done_in_time() {
    pugdb_sim::check(TARGET, "merges_keep_the_rate", 0..12, |seed| {
        const RATE: u64 = 20_000;
        let world = World::new(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        let db = open(&world, RATE);
        let begun = now(&world);
        // As many as there can be without anybody who would have to wait.
        (0..15).for_each(|_| write_run(&db, &mut random));
        let stats = loop {
            world.run_until_idle();
            let (stats, spent) = (db.stats().expect("it is open"), since(&world, begun));
            // Each byte is read where it was, written, and read where it is.
            let least = at_rate((3 * stats.compacted_bytes).saturating_sub(last_slices(&world)), RATE);
            assert!(spent + CREDIT >= least, "{} bytes in {spent:?}", stats.compacted_bytes);
            if stats.runs <= 6 && spent > Duration::from_mins(1) {
                break stats;
            }
            assert!(spent < Duration::from_mins(5), "it never ends");
            world.advance(Duration::from_millis(100));
        };
        assert!(stats.compacted_bytes > 200_000 && stats.stalls == 0, "{} bytes", stats.compacted_bytes);
        let (held, spent) = (Duration::from_micros(stats.compaction_held_us), since(&world, begun));
        assert!(held > spent / 2 && held < spent * 3, "held back {held:?} of {spent:?}");
    });
}

#[test]
fn a_merge_takes_as_long_as_the_rate_says() {
    pugdb_sim::check(TARGET, "a_merge_takes_as_long", 0..12, |seed| {
        const RATE: u64 = 10_000;
        let world = World::new(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        let db = open(&world, RATE);
        (0..12).for_each(|_| write_run(&db, &mut random));
        // What flushes have left to be paid for.
        world.advance(Duration::from_secs(10));
        let begun = now(&world);
        while db.stats().expect("it is open").runs > 1 {
            world.run_until_idle();
            world.advance(Duration::from_millis(100));
            assert!(since(&world, begun) < Duration::from_mins(5), "it never ends");
        }
        let (merged, spent) = (db.stats().expect("it is open").compacted_bytes, since(&world, begun));
        // It reads as much as it writes, and that again.
        let least = at_rate(3 * merged - last_slices(&world), RATE);
        assert!(spent + CREDIT >= least, "{merged} bytes in {spent:?}");
        assert!(spent < at_rate(3 * merged, RATE) + Duration::from_secs(20), "{merged} bytes in {spent:?}");
    });
}

#[test]
fn flushes_and_the_close_do_not_wait_for_the_rate() {
    pugdb_sim::check(TARGET, "flushes_and_the_close", 0..12, |seed| {
        let world = World::new(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        let db = open(&world, CRAWL);
        (0..8).for_each(|_| write_run(&db, &mut random));
        // The first slices of a merge need not wait when flushes are paid for.
        world.advance(Duration::from_secs(11));
        world.run_until_idle();
        let begun = now(&world);
        for _ in 0..6 {
            write_run(&db, &mut random);
            world.run_until_idle();
        }
        assert!(db.stats().expect("it is open").runs > 6, "nothing was held back");
        if seed % 2 == 0 {
            db.drop_keyspace("users").expect("the disk is whole");
            world.run_until_idle();
            assert_eq!(table_file_bytes(&world), 0, "what was held back still has its files");
        }
        db.close().expect("the disk is whole");
        assert!(since(&world, begun) < Duration::from_secs(1), "somebody waited");
    });
}

#[test]
fn where_writers_would_wait_for_merges_there_is_no_rate() {
    pugdb_sim::check(TARGET, "where_writers_would_wait", 0..12, |seed| {
        let world = World::new(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        let db = open(&world, CRAWL);
        let begun = now(&world);
        let mut most = 0;
        for _ in 0..80 {
            write_run(&db, &mut random);
            world.run_until_idle();
            most = most.max(db.stats().expect("it is open").runs);
        }
        let stats = db.stats().expect("it is open");
        assert!((7..=16).contains(&most), "there were {most} runs");
        assert_eq!(stats.stalls, 0);
        assert!(since(&world, begun) < Duration::from_secs(1), "somebody waited");
    });
}

#[test]
fn who_asks_for_a_compaction_waits_for_no_rate() {
    pugdb_sim::check(TARGET, "who_asks_for_a_compaction", 0..12, |seed| {
        let world = World::new(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        let db = open(&world, CRAWL);
        let begun = now(&world);
        for _ in 0..8 {
            write_run(&db, &mut random);
            (0..random.usize(..20)).for_each(|_| {
                world.step();
            });
        }
        let users = db.keyspace("users").expect("the disk is whole");
        users.compact_range(..).expect("the disk is whole");
        assert_eq!(db.stats().expect("it is open").runs, 1);
        assert!(since(&world, begun) < Duration::from_secs(1), "somebody waited");
    });
}
