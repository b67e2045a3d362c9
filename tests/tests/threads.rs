//! Real threads on a real disk: writers, readers, flushes and compactions at once. What a snapshot sees is whole, what
//! was acknowledged stays, counters add up.

#![expect(clippy::unwrap_used, reason = "a test's helper fails as its test does")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use pugdb::env::Env;
use pugdb::{Change, Database, Durability, EngineKind, EntryOptions, Keyspace, KeyspaceOptions};

const WRITERS: u8 = 4;
const ROUNDS: u64 = 1_500;

fn number(db: &pugdb::Snapshot, keyspace: &Keyspace, key: &[u8]) -> u64 {
    let value = db.get(keyspace, key).unwrap();
    value.map_or(0, |value| u64::from_le_bytes(value[..8].try_into().unwrap()))
}

/// A number with padding, so that memtables fill.
fn padded(number: u64) -> Vec<u8> {
    let mut value = number.to_le_bytes().to_vec();
    value.resize(300, b'.');
    value
}

#[test]
fn snapshots_are_whole_while_everything_happens_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let options =
        || Database::builder().memory_bytes(4 << 20).memtable_bytes(64 << 10).log_segment_bytes(256 << 10);
    let db = options().open(&path).unwrap();
    let (left, right) = (db.keyspace("left").unwrap(), db.keyspace("right").unwrap());
    let is_over = AtomicBool::new(false);
    let checks = AtomicU64::new(0);

    thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (db, left, right) = (&db, &left, &right);
                scope.spawn(move || {
                    for round in 1..=ROUNDS {
                        let durability = if round % 50 == 0 { Durability::Sync } else { Durability::Os };
                        let mut batch = db.batch().durability(durability);
                        batch.put(left, [b'w', writer], padded(round));
                        batch.put(right, [b'w', writer], padded(round));
                        batch.put(right, [b'x', writer, round.to_le_bytes()[0]], padded(round));
                        batch.commit().unwrap();
                        let add = |old: Option<&pugdb::Entry>| {
                            let old =
                                old.map_or(0, |old| u64::from_le_bytes(old.value[..8].try_into().unwrap()));
                            Ok((Change::put((old + 1).to_le_bytes()), ()))
                        };
                        left.durability(Durability::Os).update(b"counter", add).unwrap();
                    }
                })
            })
            .collect();
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Acquire) {
                    let snapshot = db.snapshot().unwrap();
                    for writer in 0..WRITERS {
                        let key = [b'w', writer];
                        assert_eq!(number(&snapshot, &left, &key), number(&snapshot, &right, &key));
                    }
                    let keys: Vec<_> = snapshot.scan(&right, ..).map(|entry| entry.unwrap().0).collect();
                    assert!(keys.is_sorted());
                    let back: Vec<_> =
                        snapshot.scan(&right, ..).reverse().map(|entry| entry.unwrap().0).collect();
                    assert!(keys.iter().eq(back.iter().rev()));
                    checks.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| {
            while !is_over.load(Ordering::Acquire) {
                db.flush().unwrap();
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        is_over.store(true, Ordering::Release);
    });

    let stats = db.stats().unwrap();
    assert!(stats.flushes > 0 && stats.compactions > 0 && checks.load(Ordering::Relaxed) > 0, "{stats:?}");
    assert_eq!(db.verify().unwrap().problems, Vec::<String>::new());
    db.close().unwrap();

    let db = options().open(&path).unwrap();
    assert!(db.recovery_report().clean);
    let (snapshot, left) = (db.snapshot().unwrap(), db.keyspace("left").unwrap());
    assert_eq!(number(&snapshot, &left, b"counter"), u64::from(WRITERS) * ROUNDS);
    for writer in 0..WRITERS {
        assert_eq!(number(&snapshot, &left, &[b'w', writer]), ROUNDS);
    }
}

/// Whole batches, deletes, truncations and entries that expire at once, in memory and with the real housekeeper.
#[test]
fn snapshots_of_engines_in_memory_are_whole_while_memory_is_given_back() {
    const KEYS: u64 = 200;
    for engine in [EngineKind::Btree, EngineKind::Hash] {
        let db = Database::builder().default_engine(engine).in_memory().unwrap();
        let space = db.keyspace("space").unwrap();
        let (is_over, checks) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Acquire) {
                        let snapshot = db.snapshot().unwrap();
                        // Either all of a batch, or nothing of it.
                        let first = snapshot.get(&space, 0_u64.to_be_bytes()).unwrap();
                        for key in 0..KEYS {
                            assert!(snapshot.get(&space, key.to_be_bytes()).unwrap() == first);
                        }
                        let scanned: Vec<_> = snapshot.scan(&space, ..).map(|entry| entry.unwrap()).collect();
                        assert!(scanned.iter().all(|(_, value)| Some(value) == first.as_ref()));
                        let keys: BTreeSet<_> = scanned.iter().map(|(key, _)| key.clone()).collect();
                        let there = if first.is_some() { KEYS } else { 0 };
                        let found = (scanned.len() as u64, keys.len() as u64);
                        assert_eq!(found, (there, there), "each key once");
                        checks.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            for round in 0_u64..1500 {
                let mut batch = db.batch();
                // One moment for the whole batch: it expires as one.
                let expires_at = (round % 3 == 1).then(|| db.now().plus_ms(2));
                for key in 0..KEYS {
                    match round % 5 {
                        4 => batch.delete(&space, key.to_be_bytes()),
                        _ => batch.put_with(
                            &space,
                            key.to_be_bytes(),
                            round.to_be_bytes(),
                            EntryOptions { expires_at, ..Default::default() },
                        ),
                    }
                }
                batch.commit().unwrap();
                if round % 100 == 99 {
                    space.truncate().unwrap();
                }
                assert!(space.counts().unwrap().keys <= KEYS);
            }
            is_over.store(true, Ordering::Release);
        });
        assert!(checks.load(Ordering::Relaxed) > 10);
        let mut batch = db.batch();
        (0..KEYS).for_each(|key| batch.delete(&space, key.to_be_bytes()));
        batch.commit().unwrap();
        // Nobody writes any more: the housekeeper comes by.
        let clock = Env::os().clock;
        let patience = clock.monotonic() + Duration::from_mins(1);
        while db.stats().unwrap().memtable_bytes > 0 {
            assert!(clock.monotonic() < patience, "{:?}", db.stats());
            thread::yield_now();
        }
        db.close().unwrap();
    }
}

#[test]
fn tickets_of_many_threads_share_syncs_and_all_become_durable() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path().join("data")).unwrap();
    let keyspace = db.keyspace("keys").unwrap();
    thread::scope(|scope| {
        for writer in 0..8_u8 {
            let (db, keyspace) = (&db, &keyspace);
            scope.spawn(move || {
                for round in 0..50_u8 {
                    let mut batch = db.batch();
                    batch.put(keyspace, [writer, round], b"1");
                    let ticket = batch.commit_ticket().unwrap();
                    ticket.wait().unwrap();
                    assert!(ticket.is_done() && db.shown_ticket().wait().is_ok());
                }
            });
        }
    });
    assert_eq!(keyspace.count().unwrap(), 400);
}

#[test]
fn closing_while_others_write_ends_them_with_a_typed_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let db = Database::open(&path).unwrap();
    let keyspace = db.keyspace("keys").unwrap();
    let written = AtomicU64::new(0);
    thread::scope(|scope| {
        for writer in 0..4_u8 {
            let (keyspace, written) = (&keyspace, &written);
            scope.spawn(move || {
                for round in 0_u64.. {
                    match keyspace.put([&[writer][..], &round.to_be_bytes()].concat(), b"1") {
                        Ok(()) => written.fetch_add(1, Ordering::AcqRel),
                        Err(error) => {
                            assert_eq!(error.kind(), pugdb::ErrorKind::Closed);
                            return;
                        }
                    };
                }
            });
        }
        while written.load(Ordering::Acquire) < 100 {
            thread::yield_now();
        }
        db.close().unwrap();
    });
    let db = Database::open(&path).unwrap();
    assert!(db.recovery_report().clean);
    assert!(db.keyspace("keys").unwrap().count().unwrap() >= written.load(Ordering::Acquire));
}

/// A generation of keys takes the place of the one before in one batch: the range is deleted, and some of its keys are put
/// again. Readers of every kind see one generation, and never an older one than before.
#[test]
fn a_range_that_is_deleted_and_written_again_is_seen_whole() {
    const GENERATIONS: u64 = 400;
    const KEYS: u64 = 64;
    let dir = tempfile::tempdir().unwrap();
    let on_disk = Database::builder().memory_bytes(4 << 20).memtable_bytes(64 << 10);
    let databases =
        [on_disk.open(dir.path().join("data")).unwrap(), Database::builder().in_memory().unwrap()];
    // Of sixty-four keys each generation has thirty-two, by turns.
    let is_of = |key: u64, generation: u64| (key + generation).is_multiple_of(2);
    let key = |number: u64| [b"key".as_slice(), &number.to_be_bytes()].concat();
    let generation_of = |value: &[u8]| u64::from_le_bytes(value[..8].try_into().unwrap());
    for db in databases {
        let space = db.keyspace("space").unwrap();
        let write = |generation: u64| {
            let mut batch = db.batch().durability(Durability::Os);
            batch.delete_range(&space, b"key".as_slice()..b"kez");
            let keys = (0..KEYS).filter(|number| is_of(*number, generation));
            keys.for_each(|number| batch.put(&space, key(number), padded(generation)));
            batch.commit().unwrap();
        };
        write(0);
        let (is_over, checks) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            let writer = scope.spawn(|| (1..=GENERATIONS).for_each(write));
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut last = 0;
                    while !is_over.load(Ordering::Acquire) {
                        for is_reverse in [false, true] {
                            let scan = space.scan(..);
                            let scan = if is_reverse { scan.reverse() } else { scan };
                            let seen: Vec<u64> = scan.map(|entry| generation_of(&entry.unwrap().1)).collect();
                            assert_eq!(seen.len() as u64, KEYS / 2, "half of two generations: {seen:?}");
                            let first = seen[0].max(last);
                            assert!(seen.iter().all(|seen| *seen == first), "{last}: {seen:?}");
                            last = first;
                        }
                        let keys: Vec<_> = (0..KEYS).map(key).collect();
                        let found = space.multi_get(&keys).unwrap();
                        let seen: BTreeSet<u64> =
                            found.iter().flatten().map(|value| generation_of(value)).collect();
                        assert_eq!((seen.len(), found.iter().flatten().count()), (1, 32), "{seen:?}");
                        last = last.max(*seen.first().unwrap());
                        // Without a pin: the key's newest generation from before, or a later one, or none of its own.
                        for number in 0..KEYS {
                            let found = space.get(key(number)).unwrap().map(|value| generation_of(&value));
                            assert!(found.is_none_or(|found| found >= last && is_of(number, found)));
                            last = last.max(found.unwrap_or(0));
                        }
                        checks.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            scope.spawn(|| {
                while !is_over.load(Ordering::Acquire) {
                    db.flush().unwrap();
                }
            });
            writer.join().unwrap();
            is_over.store(true, Ordering::Release);
        });
        assert!(checks.load(Ordering::Relaxed) > 0);
        assert_eq!(db.verify().unwrap().problems, Vec::<String>::new());
        db.close().unwrap();
    }
}

#[test]
fn a_counter_that_is_compared_and_set_or_fetched_and_updated_loses_no_step() {
    const STEPS: u64 = 200;
    for engine in [EngineKind::Lsm, EngineKind::Hash, EngineKind::Btree, EngineKind::Partitioned] {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::builder().durability(Durability::Os).open(dir.path().join("data")).unwrap();
        let options = KeyspaceOptions { engine: Some(engine), ..KeyspaceOptions::default() };
        let space = db.keyspace_with("counter", options).unwrap();
        let number = |value: &[u8]| u64::from_be_bytes(value.try_into().unwrap());
        let number = &number;
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..STEPS {
                        let mut is_set = false;
                        while !is_set {
                            let old = space.get("n").unwrap();
                            let next = old.as_deref().map_or(0, number) + 1;
                            is_set = space
                                .compare_and_set("n", old.as_deref(), Some(&next.to_be_bytes()))
                                .unwrap();
                        }
                    }
                });
                scope.spawn(|| {
                    for _ in 0..STEPS {
                        let step =
                            |old: Option<&[u8]>| Some((old.map_or(0, number) + 1).to_be_bytes().to_vec());
                        space.fetch_update("n", step).unwrap();
                    }
                });
            }
        });
        assert_eq!(number(&space.get("n").unwrap().unwrap()), 4 * STEPS, "{engine:?}");
    }
}
