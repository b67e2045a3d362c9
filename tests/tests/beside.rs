//! Reading beside a writer: a reader shows all that was committed before it was opened and nothing later, whatever the writer does to
//! its files meanwhile; it changes nothing, and leaves nothing.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pugdb::{
    Builder, Compression, Database, Durability, EngineKind, ErrorKind, KeyspaceOptions, LockScope, Logging,
    Partitioning,
};
use pugdb_core::env::Env;
use pugdb_core::seam::{Cipher, Plain};
use pugdb_sim::{ModelState, TestCipher, World};
use pugdb_tests::{crash, killed};

/// How to run these tests again.
const TARGET: &str = "-p pugdb-tests --test beside";
const DIR: &str = "db";
/// Keys in partitions that are split and merged.
const PARTED: u16 = 50;

fn small(env: Env, cipher: Arc<dyn Cipher>) -> Builder {
    let options = KeyspaceOptions {
        upper_compression: Some(Compression::Lz4),
        block_bytes: Some(512),
        separate_values: Some(350),
        ..KeyspaceOptions::default()
    };
    Database::builder()
        .env(env)
        .cipher(cipher)
        .default_options(options)
        .memory_bytes(1 << 20)
        .cache_bytes(64 << 10)
        .memtable_bytes(4 << 10)
        .log_segment_bytes(8 << 10)
}

fn state(db: &Database) -> ModelState {
    crash::state(db).unwrap()
}

fn builder(world: &World) -> Builder {
    small(world.env(), Arc::new(Plain))
}

/// Tables, a log that is in none of them, keyspaces that were dropped, truncated, partitioned and renamed.
fn fill(world: &World, db: &Database) {
    let (users, names) = (db.keyspace("users").unwrap(), db.keyspace("names").unwrap());
    let parts = Partitioning::Hash { partitions: 3 };
    let parts = db.partitioned_keyspace("parts", &parts, KeyspaceOptions::default()).unwrap();
    for round in 0..6_u8 {
        for number in 0..6_u8 {
            users.put([number], vec![round; 400]).unwrap();
            names.put([number, round], [round; 300]).unwrap();
            parts.put([number, round], [number; 100]).unwrap();
        }
        users.delete([round]).unwrap();
        db.flush().unwrap();
        world.maybe_step();
    }
    db.keyspace("gone").unwrap().put("a", "1").unwrap();
    db.drop_keyspace("gone").unwrap();
    names.truncate().unwrap();
    db.swap_keyspaces("users", "names").unwrap();
    names.put("after", vec![9; 2000]).unwrap();
    users.durability(Durability::Os).put("young", "1").unwrap();
}

/// Makes every file of before useless to the writer.
fn turn_over(world: &World, db: &Database) {
    for name in ["users", "names", "parts"] {
        let space = db.keyspace(name).unwrap();
        space.truncate().unwrap();
        for round in 0..40_u8 {
            space.put([round], vec![round; 700]).unwrap();
        }
    }
    db.flush().unwrap();
    for name in ["users", "names", "parts"] {
        db.keyspace(name).unwrap().compact_range(..).unwrap();
    }
    world.run_until_idle();
}

fn files_of_readers(world: &World) -> usize {
    let readers = Path::new(DIR).join("readers");
    world.files().iter().filter(|(path, _)| path.starts_with(&readers)).count()
}

#[test]
fn a_reader_shows_what_was_committed_before_it_and_nothing_later() {
    pugdb_sim::check(TARGET, "a_reader_shows", 0..40, |seed| {
        let world = World::new(seed);
        let env = world.env();
        let cipher = |number| -> Arc<dyn Cipher> {
            if seed % 2 == 0 {
                Arc::new(Plain)
            } else {
                Arc::new(TestCipher::new(number, Arc::clone(&env.random)))
            }
        };
        let db = small(world.env(), cipher(7)).open(DIR).unwrap();
        fill(&world, &db);
        let before = state(&db);
        let reader = small(world.env(), cipher(7)).open_read_only(DIR).unwrap();
        assert_eq!(state(&reader), before, "seed {seed}");

        turn_over(&world, &db);
        let after = state(&db);
        assert_ne!(after, before);
        assert_eq!(
            state(&reader),
            before,
            "seed {seed}: what the writer has removed is there for the reader"
        );
        assert_eq!(reader.verify().unwrap().problems, [""; 0]);
        let second = small(world.env(), cipher(7)).open_read_only(DIR).unwrap();
        assert_eq!(state(&second), after, "seed {seed}");

        // The writer ends, another one comes: it leaves living readers alone.
        db.close().unwrap();
        let db = small(world.env(), cipher(7)).open(DIR).unwrap();
        turn_over(&world, &db);
        assert_eq!(state(&reader), before, "seed {seed}");
        assert_eq!(state(&second), after, "seed {seed}");
        reader.close().unwrap();
        drop(second);
        assert_eq!(files_of_readers(&world), 0, "seed {seed}");
        assert_eq!(state(&db).len(), 3);
        assert_eq!(db.verify().unwrap().problems, [""; 0]);
    });
}

#[test]
fn whatever_would_change_it_is_denied_and_nothing_changes() {
    let world = World::new(1);
    let db = builder(&world).open(DIR).unwrap();
    fill(&world, &db);
    let before = state(&db);
    let reader = builder(&world).open_read_only(DIR).unwrap();
    let users = reader.keyspace("users").unwrap();

    let mut batch = reader.batch();
    batch.put(&users, "a", "1");
    let key: [(pugdb::Keyspace, &[u8]); 1] = [(users.clone(), b"a")];
    let denied = [
        users.put("a", "1"),
        users.delete("a"),
        users.delete_range(..),
        users.truncate(),
        users.merge("a", "1"),
        batch.commit(),
        reader.keyspace("new").map(drop),
        reader.drop_keyspace("users").map(drop),
        reader.swap_keyspaces("users", "names"),
        users.alter(KeyspaceOptions { filter_bits: Some(4), ..KeyspaceOptions::default() }),
        users.sorted_writer().map(drop),
        users.compact_range(..),
        reader.flush(),
        reader.transact(|tx| tx.put(&users, "a", "1")),
        reader.update_keys(LockScope::Keys(&key), |keys| keys.put(&users, "a", "1")),
        reader.keyspace("parts").unwrap().merge_partitions(0, &mut |_| {}),
    ];
    for (number, outcome) in denied.into_iter().enumerate() {
        let error = outcome.expect_err(&format!("change {number}"));
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Denied, "change {number}: {text}");
        assert!(text.contains("open for reading only"), "change {number}: {text}");
    }
    assert!(reader.is_read_only() && reader.failure().is_none());
    assert_eq!(state(&reader), before);
    assert_eq!(state(&db), before);
    // A transaction that only reads, and a snapshot, are nobody's business.
    assert!(reader.transact(|tx| tx.get(&users, "young")).is_ok());
    assert_eq!(reader.snapshot().unwrap().get(&users, "after").unwrap(), users.get("after").unwrap());
}

#[test]
fn a_reader_that_was_killed_leaves_nothing_for_long() {
    let world = World::new(3);
    let db = builder(&world).open(DIR).unwrap();
    fill(&world, &db);
    let before = state(&db);
    let readers = [1, 2].map(|_| builder(&world).open_read_only(DIR).unwrap());
    assert!(files_of_readers(&world) > 2);
    let next = world.kill();
    drop((readers, db));
    assert!(files_of_readers(&next) > 2, "who is killed removes nothing");
    let reader = builder(&next).open_read_only(DIR).unwrap();
    let of_one = files_of_readers(&next);
    let db = builder(&next).open(DIR).unwrap();
    assert_eq!(files_of_readers(&next), of_one, "the living one keeps what is its own");
    assert_eq!(state(&reader), before);
    drop(reader);
    assert_eq!(files_of_readers(&next), 0);
    assert_eq!(state(&db), before);
}

#[test]
fn a_reader_copies_itself_into_a_checkpoint() {
    let world = World::new(4);
    let db = builder(&world).open(DIR).unwrap();
    fill(&world, &db);
    let before = state(&db);
    let reader = builder(&world).open_read_only(DIR).unwrap();
    turn_over(&world, &db);
    reader.checkpoint("copy").unwrap();
    drop(reader);
    let copy = builder(&world).create_if_missing(false).open("copy").unwrap();
    assert_eq!(state(&copy), before);
    assert_eq!(copy.verify().unwrap().problems, [""; 0]);
}

#[test]
fn a_log_that_is_larger_than_the_readers_memory_goes_into_tables_of_its_own() {
    let world = World::new(5);
    let db = builder(&world).memory_bytes(64 << 20).memtable_bytes(8 << 20).log_segment_bytes(1 << 20);
    let db = db.open(DIR).unwrap();
    let users = db.keyspace("users").unwrap();
    for number in 0..3000_u32 {
        users.durability(Durability::Os).put(number.to_be_bytes(), vec![7; 300]).unwrap();
    }
    assert_eq!(db.stats().unwrap().tables, 0);
    let reader = builder(&world).open_read_only(DIR).unwrap();
    let stats = reader.stats().unwrap();
    assert!(stats.tables > 0 && stats.memtable_bytes < 64 << 10, "{stats:?}");
    assert_eq!(state(&reader), state(&db));
    drop(reader);
    assert_eq!(files_of_readers(&world), 0);
}

#[test]
fn what_is_in_memory_only_is_not_there_and_a_missing_database_is_said() {
    let world = World::new(6);
    assert_eq!(builder(&world).open_read_only(DIR).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(world.files().is_empty(), "reading makes nothing");
    let db = builder(&world).open(DIR).unwrap();
    let volatile = KeyspaceOptions { engine: Some(EngineKind::Hash), ..KeyspaceOptions::default() };
    db.keyspace_with("volatile", volatile).unwrap().put("a", "1").unwrap();
    let unlogged = KeyspaceOptions { logging: Some(Logging::Unlogged), ..KeyspaceOptions::default() };
    let unlogged = db.keyspace_with("unlogged", unlogged).unwrap();
    unlogged.put("a", "1").unwrap();
    db.flush().unwrap();
    unlogged.put("b", "2").unwrap();
    let reader = builder(&world).open_read_only(DIR).unwrap();
    assert_eq!(reader.keyspaces().unwrap(), ["unlogged", "volatile"]);
    assert_eq!(reader.keyspace("volatile").unwrap().count().unwrap(), 0);
    assert_eq!(reader.keyspace("unlogged").unwrap().count().unwrap(), 1);
}

#[test]
fn a_call_that_fails_ends_the_readers_open_and_nothing_else() {
    pugdb_sim::check(TARGET, "a_call_that_fails", 0..6, |seed| {
        let kind = match seed % 3 {
            0 => io::ErrorKind::Other,
            1 => io::ErrorKind::StorageFull,
            _ => io::ErrorKind::PermissionDenied,
        };
        let world = World::new(seed);
        let db = builder(&world).open(DIR).unwrap();
        fill(&world, &db);
        world.run_until_idle();
        let before = state(&db);
        for call in 1.. {
            let calls = world.calls();
            world.fail_call(calls + call, kind);
            let reader = builder(&world).open_read_only(DIR);
            let has_failed = world.calls() >= calls + call;
            world.heal();
            match reader {
                Ok(reader) => assert_eq!(state(&reader), before, "seed {seed}, call {call}"),
                Err(error) => {
                    let known = [ErrorKind::Unavailable, ErrorKind::Denied].contains(&error.kind());
                    assert!(known, "seed {seed}, call {call}: {:?}: {error}", error.kind());
                }
            }
            assert!(db.failure().is_none(), "seed {seed}, call {call}");
            if !has_failed {
                assert!(call > 20, "the open makes calls");
                break;
            }
        }
        assert_eq!(state(&builder(&world).open_read_only(DIR).unwrap()), before, "seed {seed}");
        assert_eq!(
            files_of_readers(&world),
            0,
            "seed {seed}: what could not be removed goes with the next open"
        );
        db.keyspace("users").unwrap().put("after", "1").unwrap();
        assert_eq!(db.verify().unwrap().problems, [""; 0], "seed {seed}");
    });
}

/// What the writer of the next tests does until it is killed: pairs that are equal in two keyspaces, sorted files that come between two
/// commits, partitions that are split and merged; and files that come and go.
fn write_pairs(dir: &Path, acknowledged: &AtomicU64, until: impl Fn() -> bool) {
    let db = small(Env::os(), Arc::new(Plain)).log_segment_bytes(64 << 10).memtable_bytes(32 << 10);
    let db = db.open(dir).unwrap();
    let (one, other) = (db.keyspace("one").unwrap(), db.keyspace("other").unwrap());
    let sorted = db.keyspace("sorted").unwrap();
    let parts = Partitioning::Hash { partitions: 2 };
    let parts = db.partitioned_keyspace("parts", &parts, KeyspaceOptions::default()).unwrap();
    let first = one.get("last").unwrap().map_or(0, |last| decode(&last));
    let mut batch = db.batch();
    for key in 0..PARTED {
        batch.put(&parts, key.to_be_bytes(), "1");
    }
    batch.put(&parts, "all", "1");
    batch.commit().unwrap();
    for number in first + 1.. {
        let mut batch = db.batch().durability(Durability::Os);
        for space in [&one, &other] {
            batch.put(space, number.to_be_bytes(), vec![7; 400]);
            batch.put(space, "last", number.to_be_bytes());
            batch.delete(space, number.saturating_sub(100).to_be_bytes());
        }
        batch.commit().unwrap();
        acknowledged.store(number, Ordering::Release);
        if number % 16 == 0 {
            let mut writer = sorted.sorted_writer().unwrap();
            writer.put("round", number.to_be_bytes()).unwrap();
            sorted.ingest([writer.finish().unwrap()]).unwrap();
            // One that is synced says so in the log.
            one.put("after", number.to_be_bytes()).unwrap();
        }
        if number % 64 == 0 {
            parts.split_partition(0, None, &mut |_| {}).unwrap();
            parts.merge_partitions(0, &mut |_| {}).unwrap();
        }
        if until() {
            break;
        }
    }
}

fn decode(value: &[u8]) -> u64 {
    u64::from_be_bytes(value.try_into().unwrap())
}

/// Opens, and checks that all is of the same moment. Returns which.
fn read_pairs(dir: &Path) -> u64 {
    let reader = Database::builder().memory_bytes(64 << 20).open_read_only(dir).unwrap();
    let number = |space: &str, key: &str| {
        let space = reader.existing_keyspace(space).unwrap()?;
        space.get(key).unwrap().map(|value| decode(&value))
    };
    let last = number("one", "last");
    assert_eq!(last, number("other", "last"), "half of a batch");
    let (before, after) = (number("sorted", "round"), number("one", "after"));
    assert!(
        after <= before,
        "what came behind a sorted file is there, and the file is not: {after:?} {before:?}"
    );
    if let Some(parts) =
        reader.existing_keyspace("parts").unwrap().filter(|parts| parts.exists("all").unwrap())
    {
        assert_eq!(parts.scan(..).count(), usize::from(PARTED) + 1, "a partition is missing");
    }
    let Some(last) = last else { return 0 };
    for space in ["one", "other"] {
        let keys: Vec<_> = reader.keyspace(space).unwrap().scan(..).keys_of_numbers().collect();
        let expected: Vec<u64> = (last.saturating_sub(99).max(1)..=last).collect();
        assert_eq!(keys, expected);
    }
    last
}

trait Numbers {
    fn keys_of_numbers(self) -> impl Iterator<Item = u64>;
}

impl Numbers for pugdb::Scan {
    fn keys_of_numbers(self) -> impl Iterator<Item = u64> {
        self.filter_map(|entry| <[u8; 8]>::try_from(&entry.unwrap().0[..]).ok().map(u64::from_be_bytes))
    }
}

/// Ends the writer when it is dropped, also by a check that has failed.
struct Over<'a>(&'a AtomicU64);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(1, Ordering::Release);
    }
}

#[test]
fn readers_beside_a_busy_writer_see_one_moment_each() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    Database::open(&path).unwrap().close().unwrap();
    let (acknowledged, is_over) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| write_pairs(&path, &acknowledged, || is_over.load(Ordering::Acquire) == 1));
        let _over = Over(&is_over);
        for _ in 0..25 {
            let before = acknowledged.load(Ordering::Acquire);
            let seen = read_pairs(&path);
            assert!(seen >= before, "what was acknowledged before the open is missing: {seen} of {before}");
        }
    });
    assert!(!path.join("readers").exists());
}

#[test]
fn readers_beside_a_writer_in_another_process_that_is_killed() {
    const TEST: &str = "readers_beside_a_writer_in_another_process_that_is_killed";
    if let Some((dir, _)) = killed::told() {
        return write_pairs(&dir, &AtomicU64::new(0), || false);
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    Database::open(&path).unwrap().close().unwrap();
    let mut last = 0;
    for round in 0..3 {
        let is_over = AtomicU64::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                killed::run_and_kill(TEST, &path, round, Duration::from_millis(700));
                is_over.store(1, Ordering::Release);
            });
            while is_over.load(Ordering::Acquire) == 0 {
                let seen = read_pairs(&path);
                assert!(seen >= last, "a later reader sees less: {seen} after {last}");
                last = seen;
            }
        });
        assert!(read_pairs(&path) >= last, "nobody writes");
    }
    assert!(last > 0);
}
