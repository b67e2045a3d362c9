//! Who observes a database is told what happens, without a lock, and cannot hurt it.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use pugdb::{Builder, Change, Database, DatabaseEvent, Durability, ErrorKind, Observer};
use pugdb_sim::World;

#[derive(Default)]
struct Notes {
    events: Mutex<Vec<DatabaseEvent>>,
    /// What it works on while it is told.
    db: OnceLock<Database>,
    /// What could have waited for the thread that tells it, and was not refused.
    wrong: Mutex<Vec<(usize, Option<ErrorKind>)>>,
}

impl Observer for Notes {
    fn on_event(&self, event: &DatabaseEvent) {
        self.events.lock().push(event.clone());
        let Some(db) = self.db.get().filter(|_| !matches!(event, DatabaseEvent::Closed { .. })) else {
            return;
        };
        // With a lock held it would wait for itself.
        let Some(users) = db.existing_keyspace("users").expect("it is open") else { return };
        users.get(b"k").expect("reads are allowed");
        db.stats().expect("so is this");
        let mut transaction = db.begin().expect("nothing is written yet");
        transaction.put(&users, b"k", b"1").expect("nothing is written yet");
        let refused = [
            users.put(b"k", b"1").err(),
            users.update(b"k", |_| Ok((Change::Keep, ()))).err(),
            users.compact_range(..).err(),
            transaction.commit().err(),
            db.keyspace("another").err(),
            db.drop_keyspace("users").err(),
            db.flush().err(),
            db.close().err(),
        ];
        for (number, error) in refused.into_iter().enumerate() {
            let kind = error.map(|error| error.kind());
            if kind != Some(ErrorKind::Invalid) {
                self.wrong.lock().push((number, kind));
            }
        }
    }
}

impl Notes {
    fn count(&self, is_it: impl Fn(&DatabaseEvent) -> bool) -> usize {
        self.events.lock().iter().filter(|event| is_it(event)).count()
    }
}

fn builder(world: &World, observer: &Arc<Notes>) -> Builder {
    let observer = Arc::clone(observer) as Arc<dyn Observer>;
    Database::builder().env(world.env()).log_segment_bytes(1 << 20).observer(observer)
}

#[test]
fn what_happens_is_told_from_the_open_to_the_close() {
    let world = World::new(1);
    let notes = Arc::new(Notes::default());
    let db = builder(&world, &notes).open("data").expect("the disk is whole");
    assert!(notes.db.set(db.clone()).is_ok());
    let users = db.keyspace("users").expect("it is open");
    for round in 0..4_u8 {
        for key in 0..50_u8 {
            users.put([key], vec![round; 100]).expect("it is open");
        }
        db.flush().expect("it is open");
    }
    users.compact_range(..).expect("it is open");
    world.advance(Duration::from_secs(1));
    let stats = db.stats().expect("it is open");
    db.close().expect("the disk is whole");
    assert_eq!(*notes.wrong.lock(), []);
    assert_eq!(stats.observer_panics, 0);
    let events = notes.events.lock().clone();
    assert!(matches!(events[0], DatabaseEvent::Opened { .. }), "{events:?}");
    assert!(matches!(events.last(), Some(DatabaseEvent::Closed { .. })), "{events:?}");
    let sum = |part: fn(&DatabaseEvent) -> u64| events.iter().map(part).sum::<u64>();
    let flushed = sum(|event| match event {
        DatabaseEvent::Flushed { memtables, .. } => *memtables,
        _ => 0,
    });
    assert!(flushed >= stats.flushes && flushed >= 4, "{flushed} of {}", stats.flushes);
    let flushed_bytes = sum(|event| match event {
        DatabaseEvent::Flushed { bytes, .. } => *bytes,
        _ => 0,
    });
    assert!(flushed_bytes >= stats.flushed_bytes && stats.flushed_bytes > 0);
    let compacted = sum(|event| match event {
        DatabaseEvent::Compacted { bytes, .. } => *bytes,
        _ => 0,
    });
    assert!(compacted >= stats.compacted_bytes && stats.compacted_bytes > 0);
    // Each put was synced, and what is told of the log is all that is in it.
    let syncs = sum(|event| match event {
        DatabaseEvent::Synced { syncs, .. } => *syncs,
        _ => 0,
    });
    assert!(syncs >= 200, "{syncs}");
    let synced = sum(|event| match event {
        DatabaseEvent::Synced { bytes, .. } => *bytes,
        _ => 0,
    });
    assert!(synced > 200 * 100, "{synced}");
}

#[test]
fn writers_that_wait_are_told_of_by_a_job() {
    let world = World::new(2);
    let notes = Arc::new(Notes::default());
    let builder =
        builder(&world, &notes).memory_bytes(1 << 20).memtable_bytes(16 << 10).durability(Durability::Os);
    let db = builder.open("data").expect("the disk is whole");
    let users = db.keyspace("users").expect("it is open");
    for key in 0..2000_u32 {
        users.put(key.to_be_bytes(), vec![7; 1000]).expect("it is open");
    }
    world.run_until_idle();
    let stats = db.stats().expect("it is open");
    assert!(stats.stalls > 0, "nobody had to wait: the test tests nothing");
    let told: u64 = notes
        .events
        .lock()
        .iter()
        .map(|event| match event {
            DatabaseEvent::Stalled { writes, .. } => *writes,
            _ => 0,
        })
        .sum();
    assert!(told > 0 && told <= stats.stalls, "{told} of {}", stats.stalls);
}

#[test]
fn a_failed_sync_is_told_once() {
    let world = World::new(3);
    let notes = Arc::new(Notes::default());
    let db = builder(&world, &notes).open("data").expect("the disk is whole");
    let users = db.keyspace("users").expect("it is open");
    users.put(b"k", b"1").expect("it is open");
    world.fail_from(world.calls(), io::ErrorKind::Other);
    assert_eq!(users.put(b"k", b"2").map_err(|error| error.kind()), Err(ErrorKind::Unavailable));
    assert!(users.put(b"k", b"3").is_err());
    world.run_until_idle();
    assert_eq!(notes.count(|event| matches!(event, DatabaseEvent::Failed { .. })), 1);
}

struct Panics;

impl Observer for Panics {
    fn on_event(&self, event: &DatabaseEvent) {
        assert!(matches!(event, DatabaseEvent::Opened { .. }), "an observer that cannot cope");
    }
}

#[test]
fn an_observer_that_panics_hurts_nobody() {
    let world = World::new(4);
    let notes = Arc::new(Notes::default());
    let db = builder(&world, &notes).observer(Arc::new(Panics)).open("data").expect("the disk is whole");
    let users = db.keyspace("users").expect("it is open");
    for _ in 0..3 {
        users.put(b"k", b"1").expect("it is open");
        db.flush().expect("it is open");
    }
    users.compact_range(..).expect("it is open");
    world.run_until_idle();
    assert_eq!(users.get(b"k").expect("it is open").expect("it was written"), b"1");
    assert!(db.stats().expect("it is open").observer_panics >= 3);
    db.close().expect("the disk is whole");
    assert!(notes.count(|event| matches!(event, DatabaseEvent::Flushed { .. })) >= 3);
}
