//! Handles at the wrong time and in the wrong place: a closed database, a foreign handle, a dropped keyspace, a write
//! inside an `update`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pugdb::{
    Change, Database, Durability, EngineKind, Entry, EntryOptions, Error, ErrorKind, Keyspace,
    KeyspaceOptions, Result,
};
use pugdb_sim::World;
use pugdb_tests::hostile::{Seal, decent, key, name, open, shows_no_user_bytes, value};

fn fails<T>(kind: ErrorKind, what: &str, outcome: Result<T>) {
    match outcome {
        Ok(_) => panic!("{what} works"),
        Err(error) => {
            let text = decent(&error);
            assert_eq!(error.kind(), kind, "{what}: {text}");
        }
    }
}

/// One on the simulated disk and one in memory.
fn subjects(world: &World) -> [Database; 2] {
    [open(world, Seal::Plain).unwrap(), Database::in_memory().unwrap()]
}

fn filled(db: &Database, space: &str, count: usize) -> Keyspace {
    let space = db.keyspace(&name(space)).unwrap();
    for number in 0..count {
        space.put(key(&format!("{number:03}")), value("v", 10)).unwrap();
    }
    space
}

#[test]
fn every_call_on_a_closed_database_is_closed() {
    for db in subjects(&World::new(70)) {
        let space = filled(&db, "space", 100);
        let snapshot = db.snapshot().unwrap();
        let mut ready = db.batch();
        ready.put(&space, key("late"), b"v");
        let mut scan = space.scan(..);
        let mut fresh = space.scan(..).reverse();
        assert!(scan.next().unwrap().is_ok());
        let mut entries = snapshot.scan(&space, ..);
        let old = space.update_ticket(key("early"), |_| Ok((Change::put("v"), ()))).unwrap().1;
        db.close().unwrap();

        let closed = |what: &str, outcome: Result<()>| fails(ErrorKind::Closed, what, outcome);
        closed("keyspace", db.keyspace(&space.name()).map(drop));
        closed("a new keyspace", db.keyspace("new").map(drop));
        closed("keyspace_with", db.keyspace_with("new", KeyspaceOptions::default()).map(drop));
        closed("existing_keyspace", db.existing_keyspace("new").map(drop));
        closed("keyspaces", db.keyspaces().map(drop));
        closed("drop_keyspace", db.drop_keyspace(&space.name()).map(drop));
        closed("snapshot", db.snapshot().map(drop));
        closed("flush", db.flush());
        closed("stats", db.stats().map(drop));
        closed("verify", db.verify().map(drop));
        closed("batch", ready.commit());
        closed("an empty batch", db.batch().commit());
        closed("get", space.get(key("000")).map(drop));
        closed("get_with", space.get_with(key("000"), <[u8]>::len).map(drop));
        closed("get_entry", space.get_entry(key("000")).map(drop));
        closed("exists", space.exists(key("000")).map(drop));
        closed("multi_get", space.multi_get([key("000")]).map(drop));
        closed("put", space.put(key("000"), b"v"));
        closed("put_with", space.put_with(key("000"), b"v", EntryOptions::default()));
        closed("delete", space.delete(key("000")));
        closed("update", space.update(key("000"), |_| -> Result<(Change, ())> { panic!("it ran") }));
        closed("truncate", space.truncate());
        closed("count", space.count().map(drop));
        closed("a keyspace's snapshot", space.snapshot().map(drop));
        closed("a snapshot's get", snapshot.get(&space, key("000")).map(drop));
        closed("a snapshot's get_entry", snapshot.get_entry(&space, key("000")).map(drop));
        closed("a snapshot's multi_get", snapshot.multi_get(&space, [key("000")]).map(drop));
        closed("a scan", fresh.next_entry().map(drop));
        assert!(fresh.next().is_none(), "an error ends a scan");
        closed("a snapshot's scan", entries.next().unwrap().map(drop));
        // A scan under way gives what it has read already, then ends with the error.
        let mut shown = 1;
        let end = scan.by_ref().find_map(|entry| entry.inspect(|_| shown += 1).err());
        closed("a scan under way", end.map_or(Ok(()), Err));
        assert!(shown < 100 && scan.next().is_none());

        // What needs no disk still answers, and a second close is none.
        assert!(old.is_done());
        old.wait().unwrap();
        db.shown_ticket().wait().unwrap();
        assert!(db.failure().is_none() && db.now() > pugdb::Timestamp(0));
        for text in [format!("{db:?}"), format!("{space:?}"), format!("{snapshot:?}"), format!("{scan:?}")] {
            shows_no_user_bytes(&text);
        }
        db.close().unwrap();
    }
}

#[test]
fn handles_of_another_database_are_refused() {
    let world = World::new(71);
    for [db, other] in [subjects(&world), [Database::in_memory().unwrap(), Database::in_memory().unwrap()]] {
        let (ours, theirs) = (filled(&db, "same name", 3), filled(&other, "same name", 5));
        let mut batch = db.batch();
        batch.put(&ours, key("000"), b"changed");
        batch.put(&theirs, key("000"), b"changed");
        fails(ErrorKind::Invalid, "a batch over two databases", batch.commit());
        let snapshot = db.snapshot().unwrap();
        fails(ErrorKind::Invalid, "a foreign get", snapshot.get(&theirs, key("000")));
        fails(ErrorKind::Invalid, "a foreign multi_get", snapshot.multi_get(&theirs, [key("000")]));
        fails(ErrorKind::Invalid, "a foreign scan", snapshot.scan(&theirs, ..).next_entry());
        assert_eq!((ours.count().unwrap(), theirs.count().unwrap()), (3, 5));
        assert_eq!(ours.get(key("000")).unwrap().unwrap(), value("v", 10)[..]);
        db.close().unwrap();
    }
}

#[test]
fn a_dropped_keyspace_is_not_found_and_its_name_is_free() {
    for db in subjects(&World::new(72)) {
        let space = filled(&db, "dropped", 40);
        let mut ready = db.batch();
        ready.put(&space, key("late"), b"v");
        let snapshot = db.snapshot().unwrap();
        let mut scan = space.scan(..);
        assert!(scan.next().unwrap().is_ok());
        assert!(db.drop_keyspace(&space.name()).unwrap());
        fails(ErrorKind::NotFound, "get", space.get(key("000")));
        fails(ErrorKind::NotFound, "put", space.put(key("000"), b"v"));
        fails(ErrorKind::NotFound, "delete", space.delete(key("000")));
        fails(ErrorKind::NotFound, "batch", ready.commit());
        fails(ErrorKind::NotFound, "truncate", space.truncate());
        fails(ErrorKind::NotFound, "update", space.update(key("000"), |_| Ok((Change::put("v"), ()))));
        fails(ErrorKind::NotFound, "scan", space.scan(..).next_entry());
        // Who looked before still sees it, and a namesake is another keyspace.
        assert_eq!(scan.map(Result::unwrap).count(), 39);
        let namesake = db.keyspace(&space.name()).unwrap();
        assert_eq!(namesake.count().unwrap(), 0);
        namesake.put(key("000"), b"new").unwrap();
        assert_eq!(snapshot.get(&space, key("000")).unwrap().unwrap(), value("v", 10)[..]);
        assert_eq!(snapshot.scan(&space, ..).count(), 40);
        fails(ErrorKind::NotFound, "get beside the namesake", space.get(key("000")));
        db.close().unwrap();
    }
}

#[test]
fn keyspaces_on_disk_and_in_memory_do_not_mix() {
    let world = World::new(73);
    let db = open(&world, Seal::Plain).unwrap();
    let durable = filled(&db, "durable", 1);
    let options = KeyspaceOptions { engine: Some(EngineKind::Btree), ..Default::default() };
    let volatile = db.keyspace_with(&name("volatile"), options).unwrap();
    let mut batch = db.batch();
    batch.put(&durable, key("000"), b"changed");
    batch.put(&volatile, key("000"), b"changed");
    fails(ErrorKind::Invalid, "a mixed batch", batch.commit());
    assert_eq!(durable.get(key("000")).unwrap().unwrap(), value("v", 10)[..]);
    assert_eq!(volatile.get(key("000")).unwrap(), None);
    fails(ErrorKind::Conflict, "another engine", db.keyspace_with(&durable.name(), options));
    let lsm = KeyspaceOptions { engine: Some(EngineKind::Lsm), ..Default::default() };
    fails(ErrorKind::Invalid, "tables in memory", Database::in_memory().unwrap().keyspace_with("lsm", lsm));
    volatile.put(key("000"), b"v").unwrap();
    let next = world.kill();
    drop((durable, volatile, db));
    let volatile = open(&next, Seal::Plain).unwrap().keyspace(&name("volatile")).unwrap();
    assert_eq!((volatile.engine(), volatile.count().unwrap()), (EngineKind::Btree, 0));
}

/// Tries everything that would wait for the lock that the closure holds.
fn writes_from_inside(db: &Database, space: &Keyspace, other: &Keyspace) {
    let refused = |what: &str, outcome: Result<()>| fails(ErrorKind::Invalid, what, outcome);
    refused("the same key", space.put(key("000"), b"inside"));
    refused("another key", space.put(key("001"), b"inside"));
    refused("another database", other.put(key("000"), b"inside"));
    refused("an update", space.update(key("000"), |_| -> Result<(Change, ())> { panic!("it ran") }));
    refused("a delete", space.delete(key("000")));
    refused("a truncation", space.truncate());
    let mut batch = db.batch().durability(Durability::Os);
    batch.put(space, key("002"), b"inside");
    refused("a batch", batch.commit());
    refused("a close", db.close());
}

#[test]
fn a_write_inside_an_update_is_refused_and_the_update_goes_on() {
    let world = World::new(74);
    let other = filled(&Database::in_memory().unwrap(), "other", 1);
    for db in subjects(&world) {
        let space = filled(&db, "space", 3);
        let old = space
            .update(key("000"), |old| {
                writes_from_inside(&db, &space, &other);
                // Reads are fine, and so is a database that comes and goes.
                assert_eq!(space.get(key("001"))?.as_deref(), Some(&value("v", 10)[..]));
                assert_eq!(space.count()?, 3);
                drop(Database::in_memory()?);
                let brief = World::new(75);
                drop(open(&brief, Seal::Plain)?);
                open(&brief, Seal::Plain)?;
                Ok((Change::put("decided"), old.map(|entry| entry.value.clone())))
            })
            .unwrap();
        assert_eq!(old.as_deref(), Some(&value("v", 10)[..]));
        assert_eq!(space.get(key("000")).unwrap().unwrap(), b"decided");
        assert_eq!((space.count().unwrap(), other.count().unwrap()), (3, 1));
        space.put(key("000"), b"after").unwrap();
        db.close().unwrap();
    }
    let db = open(&world, Seal::Plain).unwrap();
    assert!(db.recovery_report().clean, "the close inside the update was no close");
}

#[test]
fn a_closure_that_fails_or_panics_changes_nothing_and_leaves_the_database_usable() {
    for db in subjects(&World::new(76)) {
        let space = filled(&db, "space", 3);
        let own =
            |_: Option<&Entry>| -> Result<(Change, ())> { Err(Error::conflict("the closure's own words")) };
        let error = space.update(key("000"), own).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::Conflict, "the closure's own words")
        );
        let panics = || space.update(key("000"), |_| -> Result<(Change, ())> { panic!("on purpose") });
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        let read = || space.get_with(key("001"), |_| panic!("on purpose"));
        assert!(catch_unwind(AssertUnwindSafe(read)).is_err());
        assert_eq!(space.get(key("000")).unwrap().unwrap(), value("v", 10)[..]);
        // The key, its stripe and this thread are free again.
        space.put(key("000"), b"after").unwrap();
        space.update(key("000"), |_| Ok((Change::put("again"), ()))).unwrap();
        space.truncate().unwrap();
        assert_eq!(space.count().unwrap(), 0);
        db.close().unwrap();
    }
}
