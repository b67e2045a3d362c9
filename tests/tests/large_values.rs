//! Values that are kept apart: what is read of them and in how many calls, what becomes of their files when entries go, when
//! they are damaged or lost, and when somebody changes their mind.

#![expect(clippy::unwrap_used, reason = "a test's helper fails as its test does")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pugdb::{
    AtHand, CompactionPolicy, Compression, Database, Durability, EngineKind, EntryOptions, ErrorKind,
    KeyRange, Keyspace, KeyspaceOptions, Stats,
};
use pugdb_core::engine::{BatchSize, Direction, Engine, Entries, ReadPoint};
use pugdb_core::observer::Observers;
use pugdb_core::seam::Plain;
use pugdb_core::snapshots::Snapshots;
use pugdb_core::{DatabaseId, KeyspaceId, Ops, RawOp, Seqno, Timestamp};
use pugdb_lsm::file::Context;
use pugdb_lsm::manifest::{Manifest, State};
use pugdb_lsm::store::{Store, StoreOptions};
use pugdb_lsm::table::LocalTables;
use pugdb_lsm::{Tree, TreeOptions};
use pugdb_sim::{CallKind, World};
use pugdb_tests::model_setup::{DIRECTORY, Opened, Reads, Setup, policy, table_file_bytes};

const TARGET: &str = "-p pugdb-tests --test large_values";
const VALUE_BYTES: usize = 400;
const KEYS: u32 = 200;

fn apart(bytes: usize) -> KeyspaceOptions {
    let none = Some(Compression::None);
    KeyspaceOptions {
        separate_values: Some(bytes),
        bottom_compression: none,
        block_bytes: Some(512),
        ..KeyspaceOptions::default()
    }
}

/// Memtables of 8 KiB, so tables and value files of 16 KiB; values of 100 bytes and more are apart.
fn open_with(world: &World, policy: CompactionPolicy) -> Database {
    let builder = Database::builder().env(world.env()).durability(Durability::Os).compaction(policy);
    let builder = builder.memory_bytes(1 << 20).cache_bytes(16 << 10).memtable_bytes(8 << 10);
    builder.expiry_grace(Duration::ZERO).default_options(apart(100)).open(DIRECTORY).unwrap()
}

fn open(world: &World) -> Database {
    open_with(world, CompactionPolicy::LazyLeveled)
}

fn value(number: u32, round: u32) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(u64::from(number) << 32 | u64::from(round));
    (0..VALUE_BYTES).map(|_| random.u8(..)).collect()
}

fn write(keyspace: &Keyspace, numbers: impl Iterator<Item = u32>, round: u32) {
    numbers.for_each(|number| keyspace.put(number.to_be_bytes(), value(number, round)).unwrap());
}

/// All is in tables, nothing is left to do, and it is quiet.
fn settle(world: &World, db: &Database) -> Stats {
    db.flush().unwrap();
    world.run_until_idle();
    world.advance(Duration::from_mins(2));
    world.run_until_idle();
    db.stats().unwrap()
}

fn value_files(world: &World) -> Vec<(PathBuf, u64)> {
    let is_one = |(path, _): &(PathBuf, u64)| path.extension().is_some_and(|ending| ending == "values");
    world.files().into_iter().filter(is_one).collect()
}

fn value_file_bytes(world: &World) -> u64 {
    value_files(world).iter().map(|(_, bytes)| bytes).sum()
}

#[test]
fn overwritten_values_give_their_room_back_whatever_the_policy() {
    pugdb_sim::check(TARGET, "overwritten_values_give_their_room_back", 0..8, |seed| {
        let (world, policy) = (World::new(seed), policy(seed));
        let db = open_with(&world, policy);
        let (users, mut random) = (db.keyspace("users").unwrap(), fastrand::Rng::with_seed(seed));
        let mut rounds = [0; KEYS as usize];
        write(&users, 0..KEYS, 0);
        for round in 1..=4000 {
            let number = random.u32(..KEYS);
            write(&users, [number].into_iter(), round);
            rounds[number as usize] = round;
            world.maybe_step();
        }
        let stats = settle(&world, &db);
        assert_eq!(stats.value_bytes, value_file_bytes(&world), "files that nobody names");
        assert_eq!(stats.table_bytes + stats.value_bytes, table_file_bytes(&world));
        // Garbage is a quarter of all at most; what the policy keeps of old versions counts as alive.
        let garbage = stats.value_bytes - stats.value_live_bytes;
        let headers = stats.value_files as u64 * 200;
        assert!(garbage <= stats.value_bytes / 4 + headers, "{policy:?}: {stats:?}");
        if matches!(policy, CompactionPolicy::LazyLeveled | CompactionPolicy::Leveled) {
            let live = u64::from(KEYS) * VALUE_BYTES as u64;
            assert!(stats.value_bytes * 2 <= live * 3, "{policy:?}: {stats:?}");
        }
        for (number, &round) in (0..KEYS).zip(&rounds) {
            assert_eq!(users.get(number.to_be_bytes()).unwrap().unwrap().to_vec(), value(number, round));
        }
        assert!(db.verify().unwrap().problems.is_empty());
    });
}

#[test]
fn merges_move_pointers_and_leave_values_where_they_are() {
    let written = [100, 0].map(|separate| {
        let world = World::new(1);
        let db = open(&world);
        let users = db.keyspace_with("users", apart(separate)).unwrap();
        for round in 0..10 {
            write(&users, (0..KEYS).filter(|number| number % 10 == round), round);
        }
        settle(&world, &db);
        users.compact_range(..).unwrap();
        let stats = db.stats().unwrap();
        assert_eq!(stats.value_files > 0, separate > 0);
        stats.flushed_bytes + stats.compacted_bytes
    });
    assert!(written[0] * 2 < written[1], "{written:?}");
}

#[test]
fn value_files_go_with_what_is_deleted_truncated_dropped_or_expired() {
    let ways: [fn(&Database, &Keyspace, &World); 4] = [
        |_, users, _| (0..KEYS).for_each(|number| users.delete(number.to_be_bytes()).unwrap()),
        |_, users, _| users.truncate().unwrap(),
        |db, _, _| assert!(db.drop_keyspace("users").unwrap()),
        |_, _, world| world.advance(Duration::from_hours(2)),
    ];
    for policy in [CompactionPolicy::LazyLeveled, CompactionPolicy::Fifo] {
        for (number, way) in ways.iter().enumerate() {
            let world = World::new(number as u64);
            let db = open_with(&world, policy);
            let users = db.keyspace("users").unwrap();
            let expires_at = (number == 3).then(|| db.now().plus_ms(3_600_000));
            let options = EntryOptions { expires_at, ..EntryOptions::default() };
            (0..KEYS).for_each(|n| users.put_with(n.to_be_bytes(), value(n, 0), options).unwrap());
            assert!(settle(&world, &db).value_bytes > u64::from(KEYS) * VALUE_BYTES as u64);
            way(&db, &users, &world);
            settle(&world, &db);
            if number < 2 {
                users.compact_range(..).unwrap();
            }
            drop(users);
            world.run_until_idle();
            assert_eq!(value_files(&world), [], "{policy:?}, way {number}");
        }
    }
}

#[test]
fn an_old_snapshot_keeps_value_files_and_an_open_removes_what_nothing_names() {
    let world = World::new(1);
    let db = open(&world);
    let users = db.keyspace("users").unwrap();
    write(&users, 0..KEYS, 0);
    settle(&world, &db);
    let (snapshot, mut scan) = (db.snapshot().unwrap(), users.scan(..));
    assert!(scan.next().is_some());
    for round in 1..20 {
        write(&users, 0..KEYS, round);
        db.flush().unwrap();
    }
    users.compact_range(..).unwrap();
    settle(&world, &db);
    for number in 0..KEYS {
        let seen = snapshot.get(&users, number.to_be_bytes()).unwrap();
        assert_eq!(seen.unwrap().to_vec(), value(number, 0));
    }
    assert!(scan.zip(1..).all(|(entry, number)| entry.unwrap().1.to_vec() == value(number, 0)));
    drop(snapshot);
    let path = value_files(&world)[0].0.with_file_name(format!("{:032x}.values", 7));
    db.close().unwrap();
    world.write_file(&path, b"left over").unwrap();
    let db = open(&world);
    assert!(world.read_file(&path).is_err());
    assert!(db.verify().unwrap().problems.is_empty());
}

/// A database on a slow store, with one run, in which every second value is apart.
fn slow(world: &World) -> Opened {
    let setup = Setup { reads: Reads::Slow, ..Setup::PLAIN };
    let opened = setup.open_with(world, |builder| builder.default_options(apart(100))).unwrap();
    let users = opened.db.keyspace("users").unwrap();
    for number in 0..KEYS {
        let value = if number % 2 == 0 { value(number, 0) } else { vec![7; 10] };
        users.durability(Durability::Os).put(number.to_be_bytes(), value).unwrap();
    }
    opened.db.flush().unwrap();
    opened
}

#[test]
fn values_of_a_list_or_a_batch_are_read_in_one_call_and_those_nobody_wants_in_none() {
    let world = World::new(1);
    let opened = slow(&world);
    let (store, users) = (opened.slow.unwrap(), opened.db.keyspace("users").unwrap());
    // Blocks in the cache, values not.
    assert_eq!(users.scan(..).keys_only().count(), KEYS as usize);
    let calls = |work: &dyn Fn()| {
        let before = store.calls();
        work();
        store.calls() - before
    };
    assert_eq!(calls(&|| assert_eq!(users.scan(..).keys_only().count(), KEYS as usize)), 0);
    assert_eq!(calls(&|| assert_eq!(users.count().unwrap(), u64::from(KEYS))), 0);
    let exists = || {
        let snapshot = opened.db.snapshot().unwrap();
        for number in 0..KEYS + 5 {
            let key = number.to_be_bytes();
            assert_eq!(users.exists(key).unwrap(), number < KEYS);
            assert_eq!(snapshot.exists(&users, key).unwrap(), number < KEYS);
        }
    };
    assert_eq!(calls(&exists), 0);
    let keys: Vec<[u8; 4]> = [4_u32, 198, 4, 5, 0].map(u32::to_be_bytes).into();
    let list = || {
        let values = users.multi_get(&keys).unwrap();
        let lengths: Vec<usize> = values.iter().flatten().map(|value| value.len()).collect();
        assert_eq!(lengths, [VALUE_BYTES, VALUE_BYTES, VALUE_BYTES, 10, VALUE_BYTES]);
        assert_eq!(values[1].as_ref().unwrap().to_vec(), value(198, 0));
    };
    assert_eq!(calls(&list), 1);
    for reverse in [false, true] {
        let scan = || {
            let scan = if reverse { users.scan(..).reverse() } else { users.scan(..) };
            for (key, read) in scan.map(Result::unwrap) {
                let number = u32::from_be_bytes((*key).try_into().unwrap());
                let right = if number % 2 == 0 { value(number, 0) } else { vec![7; 10] };
                assert_eq!(read.to_vec(), right);
            }
        };
        // One call for each batch, and batches grow.
        let calls = calls(&scan);
        assert!((1..=6).contains(&calls), "{calls} calls");
    }
    assert_eq!(calls(&|| assert_eq!(users.try_get(4_u32.to_be_bytes()).unwrap(), AtHand::WouldBlock)), 0);
    assert_eq!(
        calls(&|| assert!(matches!(users.try_get(5_u32.to_be_bytes()).unwrap(), AtHand::Yes(Some(_))))),
        0
    );
    assert_eq!(calls(&|| assert!(users.get(4_u32.to_be_bytes()).unwrap().is_some())), 1);
}

#[test]
fn a_damaged_value_is_an_error_for_its_readers_and_quarantines_its_table() {
    let world = World::new(1);
    let db = open(&world);
    let users = db.keyspace("users").unwrap();
    write(&users, 0..20, 0);
    settle(&world, &db);
    let (path, bytes) = value_files(&world).pop().unwrap();
    world.flip_bit(&path, bytes - 100, 3).unwrap();
    let (mut damaged, mut whole) = (0, 0);
    for number in 0..20_u32 {
        match users.get(number.to_be_bytes()) {
            Ok(read) => {
                assert_eq!(read.unwrap().to_vec(), value(number, 0));
                whole += 1;
            }
            Err(error) => {
                assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("value file"));
                damaged += 1;
            }
        }
    }
    assert_eq!((damaged, whole), (1, 19));
    // A scan ends with the error, goes on with no other, and shows nothing wrong before it.
    let mut scan = users.scan(..);
    let ends = scan.by_ref().find_map(Result::err);
    assert_eq!(ends.unwrap().kind(), ErrorKind::Corrupt);
    assert!(scan.all(|entry| entry.is_err()));
    assert_eq!(users.scan(..).keys_only().map(Result::unwrap).count(), 20);
    assert_eq!(db.verify().unwrap().problems.len(), 1);
    // A merge that has to read it leaves its table alone from then on, and loses nothing.
    users.alter(apart(0)).unwrap();
    write(&users, (20..25).chain([0]), 1);
    users.compact_range(..).unwrap();
    assert_eq!(db.stats().unwrap().quarantined, 1);
    db.close().unwrap();
    let db = open(&world);
    let users = db.keyspace("users").unwrap();
    assert_eq!((0..25_u32).filter(|number| users.get(number.to_be_bytes()).is_ok()).count(), 24);
}

/// A tree that is alone in its store, without a log.
fn lone_tree(world: &World) -> (Arc<Store>, Arc<Tree>) {
    let (env, dir) = (world.env(), PathBuf::from(DIRECTORY));
    env.fs.create_dir_all(&dir.join("tables")).unwrap();
    let tables = Arc::new(LocalTables::new(&env, dir.join("tables")));
    let (database, cipher) = (DatabaseId([7; 16]), Arc::new(Plain));
    let context = Context { env, dir, database, cipher, tables, observers: Observers::default() };
    let manifest = Manifest::begin(context.clone(), State::new(database), 1).unwrap();
    let options = StoreOptions {
        memtable_bytes: 64 << 10,
        unflushed_bytes_max: 256 << 10,
        cache_bytes: 64 << 10,
        expiry_grace: Duration::ZERO,
        policy: CompactionPolicy::LazyLeveled,
        table_bytes: 32 << 10,
        compaction_jobs: 1,
        background_bytes_per_second: None,
        scrub_interval: None,
        reserve_bytes: 0,
    };
    let store = Store::open(context, options, Default::default(), Snapshots::new(Seqno(1)), manifest);
    let apart = TreeOptions { separate_values: Some(100), ..TreeOptions::default() };
    let trees = store.create(KeyspaceId(1), "users", (EngineKind::Lsm, None), apart, Seqno(1)).unwrap();
    let tree = Arc::clone(trees.one().unwrap());
    store.start(None);
    (store, tree)
}

#[test]
fn a_cursor_that_could_not_fetch_a_value_does_not_go_on_behind_it() {
    let world = World::new(1);
    let (store, tree) = lone_tree(&world);
    let mut ops = Ops::default();
    for number in 0..20_u32 {
        ops.push(&RawOp::put(&number.to_be_bytes(), &value(number, 0))).unwrap();
    }
    tree.apply(Seqno(2), &ops).unwrap();
    store.flush().unwrap();
    let (path, bytes) = value_files(&world).pop().unwrap();
    world.flip_bit(&path, bytes / 2, 3).unwrap();
    let point = ReadPoint { seqno: Seqno(100), now: Timestamp(0) };
    let mut cursor = tree.scan(KeyRange::all(), Direction::Forward, point).unwrap();
    let (size, mut batch) = (BatchSize { entries: 6, bytes: 1 << 20 }, Entries::default());
    cursor.fill(size, &mut batch).unwrap();
    assert_eq!(batch.len(), 6);
    for _ in 0..2 {
        let failed = cursor.fill(size, &mut batch);
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(batch.len(), 6, "entries without their values");
    }
    store.stop().unwrap();
}

#[test]
fn a_value_file_that_is_gone_is_told_of_and_takes_no_other_file_along() {
    let world = World::new(1);
    let db = open(&world);
    let users = db.keyspace("users").unwrap();
    write(&users, 0..20, 0);
    users.put(b"small", b"in the table").unwrap();
    settle(&world, &db);
    db.close().unwrap();
    let (path, _) = value_files(&world).pop().unwrap();
    world.remove_file(&path).unwrap();
    let nameless = path.with_file_name(format!("{:032x}.values", 7));
    world.write_file(&nameless, b"perhaps what took its place").unwrap();
    let db = open(&world);
    let users = db.keyspace("users").unwrap();
    assert_eq!(users.get(b"small").unwrap().unwrap(), b"in the table"[..]);
    let gone = (0..20_u32).find_map(|number| users.get(number.to_be_bytes()).err()).unwrap();
    assert!(gone.kind() == ErrorKind::Corrupt && gone.to_string().contains("value file"), "{gone}");
    assert!(!db.verify().unwrap().problems.is_empty());
    // A merge that needs it leaves the table alone from then on.
    users.alter(apart(0)).unwrap();
    write(&users, (0..20).step_by(5), 1);
    users.compact_range(..).unwrap();
    assert_eq!(db.stats().unwrap().quarantined, 1);
    assert_eq!(users.get(b"small").unwrap().unwrap(), b"in the table"[..]);
    assert!(world.read_file(&nameless).is_ok());
}

#[test]
fn a_threshold_can_be_set_changed_and_taken_back() {
    let world = World::new(1);
    let db = open(&world);
    let users = db.keyspace_with("users", apart(0)).unwrap();
    write(&users, 0..KEYS, 0);
    assert_eq!(settle(&world, &db).value_files, 0);
    for (separate, is_apart) in [(VALUE_BYTES, true), (VALUE_BYTES + 1, false), (8, true), (0, false)] {
        users.alter(KeyspaceOptions { separate_values: Some(separate), ..Default::default() }).unwrap();
        assert_eq!(users.options().separate_values, Some(separate));
        // Something new in every table, so that all of them are written anew.
        write(&users, (0..KEYS).step_by(5), 1);
        users.compact_range(..).unwrap();
        let stats = settle(&world, &db);
        assert_eq!(
            stats.value_live_bytes > u64::from(KEYS) * VALUE_BYTES as u64,
            is_apart,
            "{separate}: {stats:?}"
        );
        assert_eq!(stats.value_files > 0, is_apart);
        let right = |number: u32| value(number, u32::from(number.is_multiple_of(5)));
        for (number, entry) in (0..KEYS).zip(users.scan(..)) {
            assert_eq!(entry.unwrap().1.to_vec(), right(number));
        }
    }
    for wrong in [1, 7, (512 << 20) + 1] {
        let refused = users.alter(apart(wrong)).unwrap_err();
        assert!(refused.kind() == ErrorKind::Invalid && refused.to_string().contains("separate_values"));
    }
}

#[test]
fn a_failed_write_of_a_value_file_leaves_none_behind_and_loses_nothing() {
    let world = World::new(1);
    let db = open(&world);
    let users = db.keyspace("users").unwrap();
    write(&users, 0..KEYS, 0);
    settle(&world, &db);
    write(&users, 0..10, 1);
    let left = |ending: &str| {
        let is_one = |path: &PathBuf| path.extension().is_some_and(|of_path| of_path == ending);
        world.files().iter().filter(|(path, _)| is_one(path)).count()
    };
    let counts = || ["values", "table"].map(left);
    let before = counts();
    // While the value file is written, when it is whole, when it is durable and its table is not, when only the names of both
    // are not, and when all is durable and cannot be read again.
    for (kind, part) in [
        (CallKind::Write, ".values"),
        (CallKind::SyncData, ".values"),
        (CallKind::Write, ".table"),
        (CallKind::SyncData, ".table"),
        (CallKind::SyncDir, "tables"),
        (CallKind::Read, ".values"),
    ] {
        world.fail_when(move |call, path| {
            let is_it = call == kind && path.to_string_lossy().ends_with(part);
            is_it.then_some(std::io::ErrorKind::StorageFull)
        });
        assert_eq!(db.flush().unwrap_err().kind(), ErrorKind::Unavailable, "{kind:?} {part}");
        assert_eq!(counts(), before, "{kind:?} {part}");
        world.heal();
    }
    db.flush().unwrap();
    settle(&world, &db);
    for number in 0..KEYS {
        let right = value(number, u32::from(number < 10));
        assert_eq!(users.get(number.to_be_bytes()).unwrap().unwrap().to_vec(), right);
    }
}
