//! Partitioned keyspaces as a program sees them: what the model walk, the crash scripts and the conformance suite do not single out.

#![expect(clippy::unwrap_used, reason = "a test's helper fails as its test does")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pugdb::seam::{CompactionFilter, FilteredEntry, Verdict};
use pugdb::{Database, EngineKind, ErrorKind, Keyspace, KeyspaceOptions, PartitionKeys, Partitioning};
use pugdb_sim::World;
use pugdb_tests::model_setup::{Setup, table_file_bytes};

fn ranges(starts: &[&str]) -> Partitioning {
    Partitioning::Ranges { starts: starts.iter().map(|start| start.as_bytes().to_vec()).collect() }
}

fn partitioned(db: &Database, partitioning: &Partitioning) -> Keyspace {
    db.partitioned_keyspace("users", partitioning, KeyspaceOptions::default()).unwrap()
}

fn open(world: &World) -> Database {
    Setup::PLAIN.open(world, pugdb::Durability::Sync).unwrap().db
}

fn fill(keyspace: &Keyspace, count: u32) {
    for number in 0..count {
        keyspace.put(key(number), number.to_be_bytes()).unwrap();
    }
}

fn key(number: u32) -> String {
    format!("user{number:05}")
}

fn refused<T: std::fmt::Debug>(outcome: pugdb::Result<T>, kind: ErrorKind, word: &str) {
    let error = outcome.unwrap_err();
    assert!(error.kind() == kind && error.to_string().contains(word), "{error:?}");
}

#[test]
fn what_cannot_be_is_refused_and_says_why() {
    let world = World::new(1);
    let db = open(&world);
    let users = partitioned(&db, &ranges(&["m"]));
    let plain = db.keyspace("plain").unwrap();
    let none = &mut |_| ();
    refused(plain.partitions(), ErrorKind::Invalid, "no partitions");
    refused(plain.split_partition(0, None, none), ErrorKind::Invalid, "no partitions");
    refused(users.split_partition(2, None, none), ErrorKind::Invalid, "from 0 to 1");
    refused(users.split_partition(0, Some(b"z"), none), ErrorKind::Invalid, "inside");
    refused(users.split_partition(0, Some(b""), none), ErrorKind::Invalid, "inside");
    refused(users.split_partition(0, None, none), ErrorKind::Invalid, "less than two keys");
    refused(users.merge_partitions(1, none), ErrorKind::Invalid, "behind it");
    let hash = Partitioning::default();
    refused(
        db.partitioned_keyspace("users", &hash, KeyspaceOptions::default()),
        ErrorKind::Conflict,
        "something else",
    );
    refused(
        db.partitioned_keyspace("plain", &hash, KeyspaceOptions::default()),
        ErrorKind::Conflict,
        "engine",
    );
    let lsm = KeyspaceOptions { engine: Some(EngineKind::Lsm), ..Default::default() };
    refused(
        db.partitioned_keyspace("users", &ranges(&["m"]), lsm),
        ErrorKind::Invalid,
        "leave the engine out",
    );
    refused(db.keyspace_with("users", lsm), ErrorKind::Conflict, "another engine");
    let memory = Database::in_memory().unwrap();
    refused(
        memory.partitioned_keyspace("users", &hash, KeyspaceOptions::default()),
        ErrorKind::Invalid,
        "in memory",
    );
    let inside = users.update("a", |_| {
        refused(users.split_partition(0, Some(b"c"), &mut |_| ()), ErrorKind::Invalid, "wait for itself");
        Ok((pugdb::Change::Keep, ()))
    });
    inside.unwrap();
    let by_hash =
        db.partitioned_keyspace("hash", &Partitioning::Hash { partitions: 1 }, KeyspaceOptions::default());
    let by_hash = by_hash.unwrap();
    refused(by_hash.split_partition(0, Some(b"c"), none), ErrorKind::Invalid, "leave the key out");
    (0..16).for_each(|_| by_hash.split_partition(0, None, &mut |_| ()).unwrap());
    assert_eq!(by_hash.partitions().unwrap()[0].keys, PartitionKeys::Slots(0..1));
    refused(by_hash.split_partition(0, None, &mut |_| ()), ErrorKind::Invalid, "one slot");
    db.drop_keyspace("users").unwrap();
    refused(users.partitions(), ErrorKind::NotFound, "dropped");
    refused(users.split_partition(0, Some(b"c"), none), ErrorKind::NotFound, "dropped");
    db.close().unwrap();
    refused(users.partitions(), ErrorKind::Closed, "closed");
    refused(by_hash.merge_partitions(0, none), ErrorKind::Closed, "closed");
}

#[test]
fn there_are_256_partitions_at_most() {
    let world = World::new(2);
    let db = open(&world);
    let users = partitioned(&db, &Partitioning::Hash { partitions: 256 });
    fill(&users, 300);
    refused(users.split_partition(7, None, &mut |_| ()), ErrorKind::Invalid, "257");
    assert_eq!((users.partitions().unwrap().len(), users.count().unwrap()), (256, 300));
    let keys: Vec<_> = users.scan(..).map(|entry| entry.unwrap().0.to_vec()).collect();
    assert!(keys.len() == 300 && keys.is_sorted());
}

#[test]
fn snapshots_and_scans_from_before_see_what_they_saw_and_files_go_with_the_last_of_them() {
    let world = World::new(3);
    let db = open(&world);
    let users = partitioned(&db, &Partitioning::Hash { partitions: 2 });
    fill(&users, 2000);
    db.flush().unwrap();
    let before = db.snapshot().unwrap();
    let mut scan = users.scan(..);
    assert_eq!(*scan.next().unwrap().unwrap().0, *key(0).as_bytes());
    users.split_partition(0, None, &mut |_| ()).unwrap();
    users.merge_partitions(1, &mut |_| ()).unwrap();
    users.put(key(7), "new").unwrap();
    users.delete(key(8)).unwrap();
    assert_eq!(before.get(&users, key(7)).unwrap().unwrap(), 7_u32.to_be_bytes());
    assert!(before.exists(&users, key(8)).unwrap());
    assert_eq!(before.multi_get(&users, [key(7), key(8)]).unwrap().iter().flatten().count(), 2);
    assert_eq!((before.scan(&users, ..).count(), scan.count()), (2000, 1999));
    assert_eq!(users.count().unwrap(), 1999);
    assert_eq!(users.get(key(7)).unwrap().unwrap(), b"new");
    db.flush().unwrap();
    world.run_until_idle();
    let with_old = table_file_bytes(&world);
    drop(before);
    users.put(key(9), "new").unwrap();
    db.flush().unwrap();
    users.compact_range(..).unwrap();
    world.run_until_idle();
    let without = table_file_bytes(&world);
    assert!(without * 10 < with_old * 7, "{without} of {with_old}");
    let live: u64 = users.partitions().unwrap().iter().map(|one| one.table_bytes).sum();
    assert_eq!(without, live, "nothing lies there that nobody reads");
}

#[test]
fn what_a_crash_leaves_of_a_split_gives_its_space_back() {
    for call in 0.. {
        let world = World::new(4);
        let db = open(&world);
        let users = partitioned(&db, &ranges(&["user00500"]));
        fill(&users, 1000);
        db.flush().unwrap();
        world.run_until_idle();
        world.stop_at(world.calls() + call);
        let is_done = users.split_partition(0, Some(b"user00250"), &mut |_| ()).is_ok();
        let is_off = world.is_off();
        drop((users, db));
        let world = world.power_cut();
        let db = open(&world);
        let users = db.existing_keyspace("users").unwrap().unwrap();
        let partitions = users.partitions().unwrap();
        assert!(partitions.len() == 3 || partitions.len() == 2 && !is_done, "call {call}");
        assert_eq!(users.count().unwrap(), 1000);
        db.flush().unwrap();
        world.run_until_idle();
        let live: u64 = partitions.iter().map(|one| one.table_bytes).sum();
        assert_eq!(table_file_bytes(&world), live, "call {call}");
        if !is_off {
            assert!(is_done && call > 10, "{call}");
            break;
        }
    }
}

#[test]
fn a_transaction_that_has_read_before_a_split_begins_again() {
    let world = World::new(5);
    let db = open(&world);
    let users = partitioned(&db, &Partitioning::Hash { partitions: 2 });
    fill(&users, 10);
    let mut transaction = db.begin().unwrap();
    assert!(transaction.get(&users, key(1)).unwrap().is_some());
    transaction.put(&users, key(2), b"2").unwrap();
    users.split_partition(0, None, &mut |_| ()).unwrap();
    assert!(transaction.commit().unwrap_err().is_retry());
    let read = db.transact(|transaction| {
        let read = transaction.get(&users, key(1))?;
        transaction.put(&users, key(2), b"2")?;
        Ok(read)
    });
    assert_eq!(read.unwrap().unwrap(), 1_u32.to_be_bytes());
    let scanned = db.transact(|transaction| Ok(transaction.scan(&users, ..).count()));
    assert_eq!(scanned.unwrap(), 10);
}

#[test]
fn sorted_files_go_to_their_partitions_unless_those_have_changed() {
    let world = World::new(6);
    let db = open(&world);
    let users = partitioned(&db, &Partitioning::Hash { partitions: 3 });
    users.put(key(0), "old").unwrap();
    let write = |from: u32| {
        let mut writer = users.sorted_writer().unwrap();
        (from..from + 500).for_each(|number| writer.put(key(number), number.to_be_bytes()).unwrap());
        writer.finish().unwrap()
    };
    let (first, late) = (write(0), write(500));
    users.ingest([first]).unwrap();
    assert_eq!(users.count().unwrap(), 500);
    assert_eq!(users.get(key(0)).unwrap().unwrap(), 0_u32.to_be_bytes());
    assert!(users.partitions().unwrap().iter().all(|one| one.table_bytes > 1000));
    users.split_partition(1, None, &mut |_| ()).unwrap();
    refused(users.ingest([late]), ErrorKind::Invalid, "write it anew");
    users.ingest([write(500)]).unwrap();
    let mut load = users.bulk_load().unwrap();
    (0..1500).rev().for_each(|number| load.put(key(number), "loaded").unwrap());
    load.finish().unwrap();
    drop((users, db));
    let db = open(&world.power_cut());
    let users = db.existing_keyspace("users").unwrap().unwrap();
    assert_eq!((users.count().unwrap(), users.partitions().unwrap().len()), (1500, 4));
    assert_eq!(users.get(key(1499)).unwrap().unwrap(), b"loaded");
}

#[test]
fn a_close_ends_a_split_that_is_under_way() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path().join("data")).unwrap();
    let users = partitioned(&db, &ranges(&[]));
    let mut batch = db.batch();
    (0..20_000).for_each(|number| batch.put(&users, key(number), [7; 100]));
    batch.commit().unwrap();
    let outcome = std::thread::scope(|scope| {
        let mut closing = None;
        let outcome = users.split_partition(0, Some(b"user10000"), &mut |_| {
            // Another thread closes it, and waits until this one lets go.
            closing.get_or_insert_with(|| scope.spawn(|| db.close()));
            while db.keyspaces().is_ok() {
                std::thread::yield_now();
            }
        });
        closing.unwrap().join().unwrap().unwrap();
        outcome
    });
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Closed);
    let db = Database::open(dir.path().join("data")).unwrap();
    let users = db.existing_keyspace("users").unwrap().unwrap();
    assert_eq!((users.partitions().unwrap().len(), users.count().unwrap()), (1, 20_000));
}

#[test]
fn the_partition_that_is_asked_for_most_is_hot() {
    let world = World::new(8);
    let db = open(&world);
    let users = partitioned(&db, &ranges(&["user00250", "user00500", "user00750"]));
    fill(&users, 1000);
    let hot = || users.partitions().unwrap().iter().map(|one| one.is_hot).collect::<Vec<_>>();
    assert_eq!(hot(), [false; 4]);
    for number in 0..40_000_u32 {
        assert!(users.get(key(600 + number % 100)).unwrap().is_some());
    }
    assert_eq!(hot(), [false, false, true, false]);
    // It is over when somebody has looked twice since.
    for _ in 0..2 {
        world.advance(Duration::from_secs(11));
        hot();
    }
    world.advance(Duration::from_secs(11));
    assert_eq!(hot(), [false; 4]);
    let partitions = users.partitions().unwrap();
    assert_eq!(
        partitions[1].keys,
        PartitionKeys::Range { from: Some(b"user00250".to_vec()), to: Some(b"user00500".to_vec()) }
    );
    assert!(partitions.iter().all(|one| (one.writes, one.approximate_keys) == (250, 250)));
    assert!(partitions[2].reads > 30_000 && partitions[0].reads < 1000);
}

/// Forgets everything, once it is told to.
#[derive(Debug)]
struct Forget(AtomicBool);

impl CompactionFilter for Forget {
    fn judge(&self, _: &FilteredEntry<'_>) -> Verdict {
        if self.0.load(Ordering::Relaxed) { Verdict::Forget } else { Verdict::Keep }
    }
}

#[test]
fn a_filter_counts_for_all_partitions_and_snapshots_keep_what_they_saw() {
    let world = World::new(9);
    let filter = Arc::new(Forget(AtomicBool::new(false)));
    let given = Arc::clone(&filter) as Arc<dyn CompactionFilter>;
    let opened = Setup::PLAIN.open_with(&world, |builder| builder.compaction_filter("users", given));
    let db = opened.unwrap().db;
    let users = partitioned(&db, &Partitioning::Hash { partitions: 3 });
    fill(&users, 300);
    users.split_partition(0, None, &mut |_| ()).unwrap();
    let before = db.snapshot().unwrap();
    filter.0.store(true, Ordering::Relaxed);
    users.compact_range(..).unwrap();
    assert_eq!(users.count().unwrap(), 0);
    assert_eq!((before.scan(&users, ..).count(), before.scan(&users, ..).reverse().count()), (300, 300));
    assert_eq!(before.get(&users, key(5)).unwrap().unwrap(), 5_u32.to_be_bytes());
    assert!(before.exists(&users, key(5)).unwrap());
    assert_eq!(before.multi_get(&users, (0..300).map(key)).unwrap().iter().flatten().count(), 300);
}
