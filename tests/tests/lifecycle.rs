//! The end of a database: what is still open is told, nothing waits for it, and the directory is free at once.

use std::time::Duration;

use pugdb::OperationKind::{Commit, Exists, MultiGet, ScanStep};
use pugdb::{Database, EngineKind, ErrorKind, KeyspaceOptions};
use pugdb_sim::World;

const ENGINES: [EngineKind; 3] = [EngineKind::Lsm, EngineKind::Btree, EngineKind::Hash];

#[test]
fn a_close_ends_what_is_open_with_an_error_and_frees_the_directory() {
    for engine in ENGINES {
        let world = World::new(1);
        let open = || Database::builder().env(world.env()).memtable_bytes(64 << 10).open("data");
        let db = open().expect("the disk is whole");
        let options = KeyspaceOptions { engine: Some(engine), ..KeyspaceOptions::default() };
        let space = db.keyspace_with("space", options).expect("it is open");
        for number in 0..5000_u32 {
            space.durability(pugdb::Durability::Os).put(number.to_be_bytes(), [7; 50]).expect("it is open");
        }
        let mut scan = space.scan(..);
        assert!(scan.next().expect("it is not over").is_ok());
        let snapshot = db.snapshot().expect("it is open");
        let mut begun = snapshot.scan(&space, ..);
        assert!(begun.next().expect("it is not over").is_ok());
        let mut transaction = db.begin().expect("it is open");
        transaction.get_for_update(&space, b"row").expect("nobody has it");
        transaction.put(&space, b"row", b"1").expect("it is small");
        let watch = space.watch(b"row").expect("it is open");
        let batch = {
            let mut batch = db.batch();
            batch.put(&space, b"batch", b"1");
            batch
        };

        let clock = world.env().clock;
        let before = clock.monotonic();
        db.close().expect("the disk is whole");
        assert!(clock.monotonic().saturating_sub(before) < Duration::from_secs(1));

        // What a scan holds it may still give out; it ends with the error, and not as if that were all.
        for scan in [&mut scan, &mut begun] {
            let error = scan.find_map(Result::err).expect("it ended as if there were no more");
            assert_eq!(error.kind(), ErrorKind::Closed);
            assert!(scan.next().is_none());
        }
        let closed = [
            space.get(b"row").err(),
            space.put(b"row", b"1").err(),
            snapshot.get(&space, b"row").err(),
            transaction.get(&space, b"row").err(),
            transaction.commit().err(),
            batch.commit().err(),
            db.snapshot().err(),
            db.begin().err(),
            db.stats().err(),
            db.flush().err(),
            db.keyspace("other").err(),
            space.scan(..).next().and_then(Result::err),
            space.watch(b"k").err(),
        ];
        for (number, error) in closed.into_iter().enumerate() {
            assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::Closed), "call {number}");
        }
        let _ = watch.is_broken();
        db.close().expect("once more changes nothing");

        // All of these handles are alive, and the directory is free.
        let again = open().expect("nothing holds on to it");
        let space = again.keyspace_with("space", options).expect("it is open");
        let expected = if engine == EngineKind::Lsm { 5000 } else { 0 };
        assert_eq!(space.count().expect("it is open"), expected);
        again.close().expect("the disk is whole");
    }
}

#[test]
fn a_database_that_nobody_holds_any_more_frees_its_directory_too() {
    let world = World::new(2);
    let open = || Database::builder().env(world.env()).open("data");
    let db = open().expect("the disk is whole");
    let space = db.keyspace("space").expect("it is open");
    space.put(b"k", b"1").expect("it is open");
    let snapshot = db.snapshot().expect("it is open");
    drop((db, space));
    // A snapshot is a handle too.
    assert_eq!(open().map(drop).map_err(|error| error.kind()), Err(ErrorKind::Unavailable));
    drop(snapshot);
    let db = open().expect("nothing holds on to it");
    assert!(db.keyspace("space").expect("it is open").exists(b"k").expect("the disk is whole"));
}

#[test]
fn what_was_never_given_back_is_told_with_the_place_where_it_was_taken() {
    let world = World::new(3);
    let db =
        Database::builder().env(world.env()).track_handles(true).open("data").expect("the disk is whole");
    let space = db.keyspace("space").expect("it is open");
    space.put(b"k", b"1").expect("it is open");
    db.transact(|transaction| transaction.put(&space, b"k", b"2")).expect("nobody else writes");
    assert_eq!(space.scan(..).count(), 1);
    let before = line!();
    let snapshot = db.snapshot().expect("it is open");
    let scan = snapshot.scan(&space, ..);
    let prefix = space.prefix(b"k");
    let transaction = db.begin().expect("it is open");
    let writer = space.sorted_writer().expect("it is open");
    let load = space.bulk_load().expect("it is open");
    let held = db.open_handles();
    let lines: Vec<u32> = held.iter().map(|one| one.place.line() - before).collect();
    assert_eq!(lines, [1, 2, 3, 4, 5, 6], "{held:?}");
    assert!(held.iter().all(|one| one.place.file().ends_with("lifecycle.rs")), "{held:?}");
    let counts = db.stats().expect("it is open").handles;
    let loads = (counts.sorted_files, counts.bulk_loads);
    assert_eq!((counts.snapshots, counts.scans, counts.transactions, loads), (1, 2, 1, (1, 1)));
    let file = writer.finish().expect("the disk is whole");
    drop((scan, prefix, transaction, file, load));
    let error = db.close().expect_err("a snapshot is held");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains(&format!("a snapshot of {}:{}", file!(), before + 1)), "{error}");
    // It is closed all the same.
    assert_eq!(space.get(b"k").map_err(|error| error.kind()), Err(ErrorKind::Closed));
    drop(snapshot);
    db.close().expect("nothing is held any more");
}

#[test]
fn slow_operations_are_kept_with_their_shapes_and_never_with_what_they_hold() {
    let world = World::new(4);
    let slow = Duration::ZERO;
    let db =
        Database::builder().env(world.env()).slow_operations(slow).open("data").expect("the disk is whole");
    let space = db.keyspace("canary-name").expect("it is open");
    let mut batch = db.batch();
    (0..10).for_each(|number| batch.put(&space, format!("canary-key {number}"), b"canary-value"));
    batch.commit().expect("it is open");
    assert!(space.exists(b"canary-key 3").expect("it is open"));
    assert_eq!(space.multi_get(["canary-key 1", "other"]).expect("it is open").iter().flatten().count(), 1);
    assert_eq!(space.scan(..).limit(4).count(), 4);
    let told = db.slow_operations();
    let shapes: Vec<_> = told.iter().map(|one| (one.kind, one.keyspace, one.keys)).collect();
    let id = Some(space.id());
    assert_eq!(shapes, [(Commit, id, 10), (Exists, id, 1), (MultiGet, id, 2), (ScanStep, id, 4)]);
    assert_eq!((told[1].bytes, told[2].bytes, told[3].bytes), (12, 17, 48));
    assert!(!format!("{told:?}").contains("canary"));
    assert_eq!(db.stats().expect("it is open").slow_operations, 4);
}
