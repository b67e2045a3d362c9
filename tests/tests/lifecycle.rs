//! The end of a database: what is still open is told, nothing waits for it, and the directory is free at once.

use std::time::Duration;

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
