//! The model test: random operations on a whole database and on a sorted map, which must agree, from life to life.
//!
//! Beside it stand what the walks cannot single out: old snapshots across flush and compaction, and the space they
//! give back.

use std::time::Duration;

use pugdb::{
    Builder, CompactionPolicy, Compression, Database, Durability, EngineKind, EntryOptions, Keyspace,
    KeyspaceOptions,
};
use pugdb_sim::World;
use pugdb_tests::model_setup::{Company, Place, Reads, Sealing, Setup, Sizes, Trees, table_file_bytes};
use pugdb_tests::model_walk::{Tally, Walk};

const TARGET: &str = "-p pugdb-tests --test model";
/// In the world of one seed.
const STEPS: usize = 10_000;

/// Walks with each seed.
fn walk(name: &str, setup: Setup, seeds: std::ops::Range<u64>, check: impl Fn(&Tally)) {
    pugdb_sim::check(TARGET, name, seeds, |seed| {
        let tally = Walk::run(setup, seed, STEPS);
        assert_eq!(tally.operations, STEPS);
        assert!(tally.commits > 3000 && tally.found > 1000 && tally.expired > 5, "{tally:?}");
        assert!(tally.reopens > 50 && tally.kills > 10 && tally.times_ahead > 0, "{tally:?}");
        check(&tally);
    });
}

/// On disk, things went through tables and came back from the log.
fn went_to_disk(tally: &Tally) {
    assert!(tally.ranges > 50 && tally.merges > 100 && tally.folded > 100, "{tally:?}");
    assert!(tally.flushes > 100 && tally.compactions > 20 && tally.replayed > 1000, "{tally:?}");
}

#[test]
fn a_database_in_memory_does_as_the_model() {
    let setup = Setup { place: Place::Memory, ..Setup::PLAIN };
    walk("a_database_in_memory_does_as_the_model", setup, 1..5, |tally| {
        assert_eq!((tally.flushes, tally.replayed, tally.shown), (0, 0, [false; 3]));
    });
}

#[test]
fn a_database_of_hashes_in_memory_does_as_the_model() {
    let setup = Setup { place: Place::Memory, volatile: EngineKind::Hash, ..Setup::PLAIN };
    walk("a_database_of_hashes_in_memory_does_as_the_model", setup, 71..75, |tally| {
        assert_eq!((tally.flushes, tally.replayed, tally.shown), (0, 0, [false; 3]));
    });
}

#[test]
fn a_hash_beside_durable_keyspaces_does_as_the_model() {
    let setup = Setup { company: Company::Volatile, volatile: EngineKind::Hash, ..Setup::PLAIN };
    walk("a_hash_beside_durable_keyspaces_does_as_the_model", setup, 81..85, |tally| {
        went_to_disk(tally);
        assert!(tally.mixed > 100, "{tally:?}");
    });
}

#[test]
fn a_durable_database_does_as_the_model() {
    walk("a_durable_database_does_as_the_model", Setup::PLAIN, 11..15, |tally| {
        went_to_disk(tally);
        // The control of the test below: without a cipher everything can be read.
        assert_eq!(tally.shown, [true; 3]);
    });
}

#[test]
fn a_database_under_a_cipher_does_as_the_model_and_shows_nothing() {
    let setup = Setup { sealing: Sealing::TestCipher, ..Setup::PLAIN };
    walk("a_database_under_a_cipher_does_as_the_model_and_shows_nothing", setup, 21..25, |tally| {
        went_to_disk(tally);
        assert_eq!(tally.shown, [false; 3]);
    });
}

#[test]
fn an_encrypted_database_does_as_the_model_and_shows_nothing() {
    let setup = Setup { sealing: Sealing::Keys, sizes: Sizes::Small, ..Setup::PLAIN };
    walk("an_encrypted_database_does_as_the_model_and_shows_nothing", setup, 26..31, |tally| {
        went_to_disk(tally);
        assert_eq!(tally.shown, [false; 3]);
    });
}

#[test]
fn a_database_on_a_slow_store_does_as_the_model() {
    let setup = Setup { reads: Reads::Slow, ..Setup::PLAIN };
    walk("a_database_on_a_slow_store_does_as_the_model", setup, 31..35, |tally| {
        went_to_disk(tally);
        assert!(tally.slow_reads > 1000, "{tally:?}");
    });
}

#[test]
fn a_volatile_keyspace_beside_durable_ones_does_as_the_model() {
    let setup = Setup { company: Company::Volatile, ..Setup::PLAIN };
    walk("a_volatile_keyspace_beside_durable_ones_does_as_the_model", setup, 41..45, |tally| {
        went_to_disk(tally);
        assert!(tally.mixed > 100, "{tally:?}");
    });
}

/// Something is always flushed, merged, rotated and trimmed.
fn never_rested(tally: &Tally) {
    assert!(tally.merges > 100 && tally.folded > 100, "{tally:?}");
    assert!(tally.flushes > 300 && tally.compactions > 50 && tally.replayed > 1000, "{tally:?}");
    // Every life begins a segment, and some filled theirs; most of them are gone.
    assert!(tally.segment_last > tally.reopens as u64 + 5 && tally.segments_max < 20, "{tally:?}");
}

#[test]
fn a_database_of_small_sizes_does_as_the_model() {
    let setup = Setup { sizes: Sizes::Small, ..Setup::PLAIN };
    walk("a_database_of_small_sizes_does_as_the_model", setup, 51..56, never_rested);
}

#[test]
fn a_database_with_everything_at_once_does_as_the_model() {
    let setup = Setup {
        place: Place::Disk,
        sealing: Sealing::TestCipher,
        reads: Reads::Slow,
        sizes: Sizes::Small,
        company: Company::Volatile,
        volatile: EngineKind::Btree,
        trees: Trees::One,
    };
    walk("a_database_with_everything_at_once_does_as_the_model", setup, 61..66, |tally| {
        never_rested(tally);
        assert!(tally.mixed > 100 && tally.slow_reads > 1000, "{tally:?}");
        assert_eq!(tally.shown, [false; 3]);
    });
}

#[test]
fn a_database_of_partitions_that_are_split_and_merged_does_as_the_model() {
    let setup = Setup { trees: Trees::Several, ..Setup::PLAIN };
    walk("a_database_of_partitions_that_are_split_and_merged_does_as_the_model", setup, 91..95, |tally| {
        went_to_disk(tally);
        assert!(tally.repartitions > 50, "{tally:?}");
    });
}

#[test]
fn partitions_with_everything_at_once_do_as_the_model_and_show_nothing() {
    let setup = Setup {
        place: Place::Disk,
        sealing: Sealing::TestCipher,
        reads: Reads::Slow,
        sizes: Sizes::Small,
        company: Company::Volatile,
        volatile: EngineKind::Hash,
        trees: Trees::Several,
    };
    walk("partitions_with_everything_at_once_do_as_the_model_and_show_nothing", setup, 101..104, |tally| {
        never_rested(tally);
        assert!(tally.repartitions > 30 && tally.slow_reads > 1000, "{tally:?}");
        assert_eq!(tally.shown, [false; 3]);
    });
}

/// What happens to the entries that an old snapshot sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Overwritten,
    Deleted,
    RangeDeleted,
    Truncated,
    Dropped,
    Expired,
    /// Deleted and written again, by turns.
    ComingAndGoing,
}

const FATES: [Fate; 7] = [
    Fate::Overwritten,
    Fate::Deleted,
    Fate::RangeDeleted,
    Fate::Truncated,
    Fate::Dropped,
    Fate::Expired,
    Fate::ComingAndGoing,
];
const KEYS: u32 = 20;
const VALUE_BYTES: usize = 500;
const ROUNDS: u32 = 100;

fn key(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

fn fill(db: &Database, keyspace: &Keyspace, byte: u8, length: usize) {
    let mut batch = db.batch();
    (0..KEYS).for_each(|number| batch.put(keyspace, key(number), vec![byte; length]));
    batch.commit().expect("the disk is whole");
}

fn empty(db: &Database, keyspace: &Keyspace) {
    let mut batch = db.batch();
    (0..KEYS).for_each(|number| batch.delete(keyspace, key(number)));
    batch.commit().expect("the disk is whole");
}

/// The value that all keys have; `None` when none has one.
fn common_value<K>(
    get: impl Fn(&[u8]) -> Option<pugdb::Value>,
    scan: impl Iterator<Item = pugdb::Result<(K, pugdb::Value)>>,
) -> Option<u8> {
    let values: Vec<_> = (0..KEYS).map(|number| get(&key(number))).collect();
    assert!(values.iter().all(|value| *value == values[0]), "the keys have one value");
    let scanned: Vec<_> = scan.map(|entry| Some(entry.expect("the disk is whole").1)).collect();
    assert_eq!(scanned.len(), if values[0].is_some() { values.len() } else { 0 });
    assert!(scanned.iter().all(|value| *value == values[0]), "get and scan agree");
    values[0].as_ref().map(|value| {
        assert_eq!((value.len(), value.iter().all(|byte| *byte == value[0])), (VALUE_BYTES, true));
        value[0]
    })
}

/// One round of what happens, and what a reader sees after it.
fn suffer(fate: Fate, db: &Database, world: &World, users: &mut Keyspace, round: u32) -> Option<u8> {
    let byte = u8::try_from(round).expect("there are a hundred");
    let is_there = match fate {
        Fate::Overwritten | Fate::Dropped => true,
        Fate::Deleted | Fate::RangeDeleted | Fate::Truncated | Fate::Expired => false,
        Fate::ComingAndGoing => round.is_multiple_of(2),
    };
    match fate {
        Fate::RangeDeleted => {
            fill(db, users, byte, VALUE_BYTES);
            // In two steps, which overlap and cover each other in turn.
            let middle = key(round % KEYS);
            users.delete_range(middle..).expect("the disk is whole");
            users.delete_range(..key(KEYS)).expect("the disk is whole");
        }
        Fate::Truncated => {
            fill(db, users, byte, VALUE_BYTES);
            users.truncate().expect("the disk is whole");
        }
        Fate::Dropped => {
            assert!(db.drop_keyspace("users").expect("the disk is whole"));
            *users = db.keyspace("users").expect("the disk is whole");
            fill(db, users, byte, VALUE_BYTES);
        }
        Fate::Expired => {
            let expires_at = Some(db.now().plus_ms(1));
            let options = EntryOptions { expires_at, ..EntryOptions::default() };
            for number in 0..KEYS {
                users.put_with(key(number), [byte; VALUE_BYTES], options).expect("the disk is whole");
            }
            world.advance(Duration::from_millis(1));
        }
        Fate::Overwritten | Fate::Deleted | Fate::ComingAndGoing if is_there => {
            fill(db, users, byte, VALUE_BYTES);
        }
        Fate::Overwritten | Fate::Deleted | Fate::ComingAndGoing => empty(db, users),
    }
    is_there.then_some(byte)
}

#[test]
fn an_old_snapshot_reads_what_it_saw_across_flushes_and_compactions() {
    // What the snapshot sees lies in a table already, or goes there together with what hides it.
    for (fate, is_flushed) in FATES.into_iter().flat_map(|fate| [(fate, true), (fate, false)]) {
        let world = World::new(100 + fate as u64);
        let setup = Setup { sizes: Sizes::Small, ..Setup::PLAIN };
        let db = setup.open(&world, Durability::Os).expect("a new database").db;
        let mut users = db.keyspace("users").expect("a new keyspace");
        fill(&db, &users, 0xff, VALUE_BYTES);
        if is_flushed {
            db.flush().expect("the disk is whole");
        }
        let (snapshot, then) = (db.snapshot().expect("it is open"), users.clone());
        for round in 1..=ROUNDS {
            let expected = suffer(fate, &db, &world, &mut users, round);
            if round.is_multiple_of(10) {
                db.flush().expect("the disk is whole");
                world.run_until_idle();
            }
            let get = |key: &[u8]| users.get(key).expect("the disk is whole");
            assert_eq!(common_value(get, users.scan(..)), expected, "{fate:?}, round {round}: now");
            let get = |key: &[u8]| snapshot.get(&then, key).expect("the disk is whole");
            assert_eq!(
                common_value(get, snapshot.scan(&then, ..)),
                Some(0xff),
                "{fate:?}, round {round}: then"
            );
        }
        let stats = db.stats().expect("it is open");
        // A keyspace that is dropped in every round has no runs to merge.
        let compactions_min = if fate == Fate::Dropped { 0 } else { 2 };
        assert!(stats.flushes > 5 && stats.compactions >= compactions_min, "{fate:?}: {stats:?}");
        assert!(db.verify().expect("it is open").problems.is_empty());
    }
}

/// Writes so much that compaction takes the old tables up. All that counts after it are the last values.
fn make_compaction_worth_while(db: &Database, world: &World) -> u64 {
    const LARGE: usize = 8000;
    let users = db.keyspace("users").expect("the disk is whole");
    for byte in 0..16 {
        fill(db, &users, byte, LARGE);
        db.flush().expect("the disk is whole");
        world.run_until_idle();
    }
    // When it is quiet, what is old goes.
    world.advance(Duration::from_mins(1));
    world.run_until_idle();
    u64::from(KEYS) * LARGE as u64
}

#[test]
fn what_only_an_old_snapshot_saw_gives_its_space_back_when_it_is_dropped() {
    for fate in FATES {
        // The same twice: with the snapshot held to the end, and with the snapshot dropped before the last writes.
        let sizes = [false, true].map(|is_held| {
            let world = World::new(200 + fate as u64);
            let setup = Setup { sizes: Sizes::Small, ..Setup::PLAIN };
            // Sizes of files are to tell what is in them.
            let plain = KeyspaceOptions {
                upper_compression: Some(Compression::None),
                bottom_compression: Some(Compression::None),
                separate_values: Some(0),
                ..KeyspaceOptions::default()
            };
            let lazy = |builder: Builder| {
                let builder = builder.durability(Durability::Os).default_options(plain);
                builder.compaction(CompactionPolicy::LazyLeveled)
            };
            let db = setup.open_with(&world, lazy).expect("a new database").db;
            let mut users = db.keyspace("users").expect("a new keyspace");
            fill(&db, &users, 0xff, VALUE_BYTES);
            let snapshot = db.snapshot().expect("it is open");
            for round in 1..=ROUNDS {
                suffer(fate, &db, &world, &mut users, round);
                if round.is_multiple_of(10) {
                    db.flush().expect("the disk is whole");
                }
            }
            drop(users);
            let held = is_held.then_some(snapshot);
            let live = make_compaction_worth_while(&db, &world);
            drop(held);
            let stats = db.stats().expect("it is open");
            assert!(stats.table_bytes <= table_file_bytes(&world));
            (live, stats.table_bytes, table_file_bytes(&world))
        });
        let [(live, bytes, file_bytes), (_, bytes_held, _)] = sizes;
        assert!(file_bytes == bytes, "{fate:?}: {file_bytes} bytes of files for {bytes} of tables");
        assert!(bytes < live * 11 / 10, "{fate:?}: {bytes} bytes for {live} that live");
        assert!(bytes_held > 2 * bytes, "{fate:?}: {bytes} without the snapshot and {bytes_held} with it");
    }
}

#[test]
fn many_half_full_memtables_do_not_lock_a_large_write_out() {
    // Memory 1 MiB: half of it for what is in no table, a quarter for one write.
    let world = World::new(1);
    let setup = Setup { sizes: Sizes::Small, ..Setup::PLAIN };
    let db = setup.open_with(&world, |builder| builder.memtable_bytes(128 << 10).cache_bytes(0));
    let db = db.expect("a new database").db;
    for number in 0..5 {
        let keyspace = db.keyspace(&format!("keyspace {number}")).expect("a new keyspace");
        let mut batch = db.batch().durability(Durability::Os);
        batch.put(&keyspace, b"half", vec![1; 100 << 10]);
        batch.commit().expect("there is room, sooner or later");
    }
    let large = db.keyspace("large").expect("a new keyspace");
    large.put(b"large", vec![2; 200 << 10]).expect("there is room, sooner or later");
    assert_eq!(large.get(b"large").expect("the disk is whole").expect("it was put").len(), 200 << 10);
}
