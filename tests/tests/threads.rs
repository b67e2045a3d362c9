//! Real threads on a real disk: writers, readers, flushes and compactions at once. What a snapshot sees is whole, what
//! was acknowledged stays, counters add up.

#![expect(clippy::unwrap_used, reason = "a test's helper fails as its test does")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use pugdb::{Change, Database, Durability, Keyspace};

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
