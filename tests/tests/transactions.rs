//! Transactions: the anomalies that each isolation level rules out, random histories through a checker, prepared transactions over
//! crashes, and what programs may get wrong.

#![expect(clippy::unwrap_used, reason = "a test's helper fails as its test does")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use pugdb::env::{Env, Event};
use pugdb::seam::{RangeRequest, TableStore, Wait};
use pugdb::{
    Change, Database, EngineKind, EntryOptions, ErrorKind, FileId, Isolation, Keyspace, KeyspaceOptions,
    LocalTables, LockScope, Savepoint, Timestamp, Transaction, TransactionOptions,
};
use pugdb_sim::{World, check};
use pugdb_tests::crash::{self, Dress};

const TARGET: &str = "-p pugdb-tests --test transactions";
type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

const LEVELS: [Isolation; 2] = [Isolation::Snapshot, Isolation::Serializable];

fn memory() -> (Database, Keyspace) {
    let db = Database::in_memory().unwrap();
    let space = db.keyspace("users").unwrap();
    (db, space)
}

fn begin(db: &Database, isolation: Isolation) -> Transaction {
    db.begin_with(TransactionOptions { isolation, ..Default::default() }).unwrap()
}

/// On disk and in memory: the same questions, the same answers.
fn each_engine(test: impl Fn(&Database, &Keyspace)) {
    let dir = tempfile::tempdir().unwrap();
    let disk = Database::open(dir.path().join("data")).unwrap();
    test(&disk, &disk.keyspace("users").unwrap());
    let (db, space) = memory();
    test(&db, &space);
}

fn value(transaction: &Transaction, space: &Keyspace, key: &str) -> Option<Vec<u8>> {
    transaction.get(space, key).unwrap().map(|value| value.to_vec())
}

fn keys(transaction: &Transaction, space: &Keyspace) -> Vec<String> {
    transaction.scan(space, ..).map(|entry| String::from_utf8(entry.unwrap().0.to_vec()).unwrap()).collect()
}

fn is_conflict(result: pugdb::Result<()>) -> bool {
    match result {
        Ok(()) => false,
        Err(error) => {
            assert!(error.kind() == ErrorKind::Conflict && error.is_retry(), "{error}");
            true
        }
    }
}

// The catalogue.

#[test]
fn dirty_writes_and_dirty_reads_do_not_happen() {
    each_engine(|db, space| {
        for isolation in LEVELS {
            space.put("k", "old").unwrap();
            let (mut one, mut other) = (begin(db, isolation), begin(db, isolation));
            one.put(space, "k", "one").unwrap();
            // Not read by others before it commits,
            assert_eq!(value(&other, space, "k").unwrap(), b"old");
            assert_eq!(space.get("k").unwrap().unwrap(), b"old");
            // nor written over: the later one is told.
            other.put(space, "k", "other").unwrap();
            one.commit().unwrap();
            assert!(is_conflict(other.commit()));
            assert_eq!(space.get("k").unwrap().unwrap(), b"one");
            // And never there when it gives up.
            let mut third = begin(db, isolation);
            third.put(space, "k", "third").unwrap();
            third.rollback();
            assert_eq!(space.get("k").unwrap().unwrap(), b"one");
        }
    });
}

#[test]
fn lost_updates_do_not_happen() {
    each_engine(|db, space| {
        for isolation in LEVELS {
            space.put("k", [1]).unwrap();
            let (mut one, mut other) = (begin(db, isolation), begin(db, isolation));
            for transaction in [&mut one, &mut other] {
                let number = value(transaction, space, "k").unwrap()[0];
                transaction.put(space, "k", [number + 1]).unwrap();
            }
            other.commit().unwrap();
            assert!(is_conflict(one.commit()));
            assert_eq!(space.get("k").unwrap().unwrap(), [2]);
            // A plain put counts as well, and so do a delete and an update.
            let plain: [fn(&Keyspace); 4] = [
                |space| space.put("k", [9]).unwrap(),
                |space| space.delete("k").unwrap(),
                |space| space.update("k", |_| Ok((Change::put([9]), ()))).unwrap(),
                |space| space.batch_delete(),
            ];
            for write in plain {
                space.put("k", [1]).unwrap();
                let mut one = begin(db, isolation);
                let number = value(&one, space, "k").unwrap()[0];
                one.put(space, "k", [number + 1]).unwrap();
                write(space);
                assert!(is_conflict(one.commit()));
            }
        }
    });
}

trait BatchDelete {
    fn batch_delete(&self);
}

impl BatchDelete for Keyspace {
    /// A range delete over the key.
    fn batch_delete(&self) {
        self.delete_range(b"a"..b"z").unwrap();
    }
}

#[test]
fn read_skew_does_not_happen() {
    each_engine(|db, space| {
        for isolation in LEVELS {
            space.put("x", "50").unwrap();
            space.put("y", "50").unwrap();
            let reader = begin(db, isolation);
            assert_eq!(value(&reader, space, "x").unwrap(), b"50");
            let mut writer = begin(db, isolation);
            writer.put(space, "x", "25").unwrap();
            writer.put(space, "y", "75").unwrap();
            writer.commit().unwrap();
            assert_eq!(value(&reader, space, "y").unwrap(), b"50");
            // Whoever only reads has nothing to fear.
            reader.commit().unwrap();
        }
    });
}

#[test]
fn write_skew_happens_to_snapshots_and_not_to_what_is_serializable() {
    each_engine(|db, space| {
        for isolation in LEVELS {
            space.put("on call: ada", "yes").unwrap();
            space.put("on call: bob", "yes").unwrap();
            let (mut one, mut other) = (begin(db, isolation), begin(db, isolation));
            for transaction in [&one, &other] {
                assert_eq!(keys(transaction, space).len(), 2);
            }
            one.delete(space, "on call: ada").unwrap();
            other.delete(space, "on call: bob").unwrap();
            one.commit().unwrap();
            assert_eq!(is_conflict(other.commit()), isolation == Isolation::Serializable);
            // The same with keys that were read one by one, of which one is not there.
            let (mut one, mut other) = (begin(db, isolation), begin(db, isolation));
            assert_eq!((value(&one, space, "left"), value(&other, space, "right")), (None, None));
            one.put(space, "right", "1").unwrap();
            other.put(space, "left", "1").unwrap();
            other.commit().unwrap();
            assert_eq!(is_conflict(one.commit()), isolation == Isolation::Serializable);
            space.delete_range(..).unwrap();
        }
    });
}

#[test]
fn phantoms_are_seen_by_nobody_and_stop_what_is_serializable() {
    each_engine(|db, space| {
        for isolation in LEVELS {
            let mut one = begin(db, isolation);
            assert_eq!(one.scan(space, b"a"..b"m").count(), 0);
            // Beside the range nobody minds; into it matters.
            for key in ["zoe", "bob"] {
                space.put(key, "1").unwrap();
                assert_eq!(one.scan(space, b"a"..b"m").count(), 0);
                let mut beside = begin(db, isolation);
                assert_eq!(beside.scan(space, b"n"..b"p").count(), 0);
                beside.put(space, "count", "0").unwrap();
                beside.commit().unwrap();
                space.delete("count").unwrap();
            }
            one.put(space, "x", "0").unwrap();
            assert_eq!(is_conflict(one.commit()), isolation == Isolation::Serializable);
            space.delete_range(..).unwrap();
        }
    });
}

#[test]
fn a_scan_that_was_not_finished_has_read_what_it_has_shown() {
    each_engine(|db, space| {
        for name in ["ada", "bob", "cat", "dan"] {
            space.put(name, "1").unwrap();
        }
        // The range up to what was shown, in either direction, and whether it stops by itself or is dropped.
        for (key, is_reverse, is_read) in
            [("bzz", false, false), ("aaa", false, true), ("cca", true, true), ("abc", true, false)]
        {
            for limit in [2, usize::MAX] {
                let mut one = db.begin().unwrap();
                let scan = one.scan(space, ..).limit(limit);
                let mut scan = if is_reverse { scan.reverse() } else { scan };
                (0..2).for_each(|_| drop(scan.next().unwrap().unwrap()));
                assert!(limit == usize::MAX || scan.next().is_none());
                drop(scan);
                one.put(space, "seen", "1").unwrap();
                space.put(key, "1").unwrap();
                assert_eq!(is_conflict(one.commit()), is_read, "{key} {is_reverse} {limit}");
                space.delete(key).unwrap();
                space.delete("seen").unwrap();
            }
        }
    });
}

#[test]
fn what_only_writes_conflicts_with_nobody_unless_updates_could_be_lost() {
    each_engine(|db, space| {
        for isolation in LEVELS {
            let mut one = begin(db, isolation);
            one.put(space, "k", "one").unwrap();
            space.put("k", "other").unwrap();
            assert_eq!(is_conflict(one.commit()), isolation == Isolation::Snapshot);
        }
    });
}

#[test]
fn a_truncation_and_sorted_files_are_changes_too() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path().join("data")).unwrap();
    let space = db.keyspace("users").unwrap();
    let change: [fn(&Database, &Keyspace); 2] = [
        |db, space| {
            let mut batch = db.batch();
            batch.truncate(space);
            batch.commit().unwrap();
        },
        |_, space| {
            let mut writer = space.sorted_writer().unwrap();
            writer.put("k", "ingested").unwrap();
            space.ingest([writer.finish().unwrap()]).unwrap();
        },
    ];
    for change in change {
        space.put("k", "1").unwrap();
        for by_range in [false, true] {
            let mut one = db.begin().unwrap();
            if by_range {
                one.scan(&space, ..).for_each(drop);
            } else {
                one.get(&space, "k").unwrap();
            }
            one.put(&space, "other", "1").unwrap();
            change(&db, &space);
            assert!(is_conflict(one.commit()), "by range: {by_range}");
        }
    }
}

#[test]
fn a_range_of_which_keys_were_deleted_has_changed() {
    each_engine(|db, space| {
        for (deleted, is_conflicting) in [("b".."d", true), ("e".."z", false), ("a".."b", false)] {
            space.put("bob", "1").unwrap();
            let mut one = db.begin().unwrap();
            assert_eq!(one.scan(space, b"b"..b"e").count(), 1);
            one.put(space, "seen", "1").unwrap();
            space.delete_range(deleted).unwrap();
            assert_eq!(is_conflict(one.commit()), is_conflicting);
        }
    });
}

#[test]
fn what_was_flushed_and_merged_meanwhile_is_still_seen() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::builder().memtable_bytes(64 << 10).open(dir.path().join("data")).unwrap();
    let space = db.keyspace("users").unwrap();
    space.put("k", "1").unwrap();
    space.put("kept", "1").unwrap();
    let settle = || {
        db.flush().unwrap();
        space.compact_range(..).unwrap();
    };
    settle();
    for (changed, is_conflicting) in [("k", true), ("beside", false)] {
        for by_range in [false, true] {
            let mut one = db.begin().unwrap();
            if by_range {
                assert!(one.scan(&space, b"k"..b"l").count() >= 1);
            } else {
                assert!(one.get(&space, "k").unwrap().is_some());
            }
            one.put(&space, "result", "1").unwrap();
            space.put(changed, "2").unwrap();
            space.delete("never there").unwrap();
            settle();
            assert_eq!(is_conflict(one.commit()), is_conflicting, "{changed}, by range: {by_range}");
        }
    }
}

// What a program does.

#[test]
fn a_transaction_reads_its_own_writes_in_every_way() {
    check(TARGET, "a_transaction_reads_its_own_writes_in_every_way", 0..200, |seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let (db, space) = memory();
        let mut expected = Entries::new();
        let mut saved: Vec<(Savepoint, Entries)> = Vec::new();
        let key = |random: &mut fastrand::Rng| vec![b'a' + random.u8(..8); random.usize(..3)];
        for number in 0..10_u8 {
            let key = key(&mut random);
            space.put(&key, [number]).unwrap();
            expected.insert(key, vec![number]);
        }
        let mut one = db.begin().unwrap();
        for step in 0..60_u8 {
            match random.u8(..12) {
                0..5 => {
                    let key = key(&mut random);
                    one.put(&space, &key, [step]).unwrap();
                    expected.insert(key, vec![step]);
                }
                5 | 6 => {
                    let key = key(&mut random);
                    one.delete(&space, &key).unwrap();
                    expected.remove(&key);
                }
                7 => {
                    let (start, end) = (key(&mut random), key(&mut random));
                    one.delete_range(&space, start.as_slice()..end.as_slice()).unwrap();
                    expected.retain(|key, _| !(*key >= start && *key < end));
                }
                8 => saved.push((one.savepoint(), expected.clone())),
                9 if !saved.is_empty() => {
                    let at = random.usize(..saved.len());
                    one.rollback_to(&saved[at].0).unwrap();
                    expected = saved[at].1.clone();
                    assert!(saved[at + 1..].iter().all(|(later, _)| one.rollback_to(later).is_err()));
                    saved.truncate(at + 1);
                }
                10 if !saved.is_empty() => {
                    let at = random.usize(..saved.len());
                    one.release(&saved[at].0).unwrap();
                    saved.truncate(at);
                }
                _ => {
                    let (start, end) = (key(&mut random), key(&mut random));
                    let read = |reverse: bool| -> Vec<(Vec<u8>, Vec<u8>)> {
                        let scan = one.scan(&space, start.as_slice()..end.as_slice());
                        let scan = if reverse { scan.reverse() } else { scan };
                        scan.map(|entry| entry.unwrap())
                            .map(|(key, value)| (key.to_vec(), value.to_vec()))
                            .collect()
                    };
                    let within = expected.iter().filter(|(key, _)| **key >= start && **key < end);
                    let mut within: Vec<_> =
                        within.map(|(key, value)| (key.clone(), value.clone())).collect();
                    assert_eq!(read(false), within);
                    within.reverse();
                    assert_eq!(read(true), within);
                    let asked: Vec<Vec<u8>> = (0..4).map(|_| key(&mut random)).collect();
                    let found = one.multi_get(&space, &asked).unwrap();
                    for (key, found) in asked.iter().zip(found) {
                        let wanted = expected.get(key);
                        assert_eq!(found.as_deref(), wanted.map(Vec::as_slice));
                        assert_eq!(one.get(&space, key).unwrap().as_deref(), wanted.map(Vec::as_slice));
                        assert_eq!(one.exists(&space, key).unwrap(), wanted.is_some());
                    }
                }
            }
        }
        one.commit().unwrap();
        let after = space.scan(..).map(|entry| entry.unwrap());
        let after: BTreeMap<_, _> = after.map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        assert_eq!(after, expected);
    });
}

#[test]
fn merges_within_a_transaction_are_folded_for_it_and_blind_for_others() {
    let dir = tempfile::tempdir().unwrap();
    let builder = Database::builder().merge_operator("log", Arc::new(pugdb::operators::Append::new(",")));
    let db = builder.open(dir.path().join("data")).unwrap();
    let log = db.keyspace("log").unwrap();
    log.put("a", "1").unwrap();
    let mut one = db.begin().unwrap();
    let savepoint = one.savepoint();
    one.merge(&log, "a", "2").unwrap();
    one.merge(&log, "b", "x").unwrap();
    one.rollback_to(&savepoint).unwrap();
    one.merge(&log, "a", "3").unwrap();
    one.merge(&log, "a", "4").unwrap();
    one.merge(&log, "c", "y").unwrap();
    one.put(&log, "d", "put").unwrap();
    one.merge(&log, "d", "on it").unwrap();
    one.delete(&log, "e").unwrap();
    one.merge(&log, "e", "anew").unwrap();
    // Others merge into the same keys, and nobody minds.
    log.merge("a", "between").unwrap();
    one.commit().unwrap();
    let found: Vec<_> =
        log.scan(..).map(|entry| String::from_utf8(entry.unwrap().1.to_vec()).unwrap()).collect();
    assert_eq!(found, ["1,between,3,4", "y", "put,on it", "anew"]);

    // Nor under snapshot isolation, though both write the key.
    let mut blind = begin(&db, Isolation::Snapshot);
    blind.merge(&log, "c", "z").unwrap();
    log.merge("c", "meanwhile").unwrap();
    blind.commit().unwrap();
    assert_eq!(log.get("c").unwrap().unwrap(), b"y,meanwhile,z");

    let mut two = db.begin().unwrap();
    two.merge(&log, "a", "5").unwrap();
    assert_eq!(value(&two, &log, "a").unwrap(), b"1,between,3,4,5");
    assert!(two.exists(&log, "a").unwrap());
    let values = two.multi_get(&log, ["a", "none"]).unwrap();
    assert_eq!(values[0].as_deref(), Some(&b"1,between,3,4,5"[..]));
    assert_eq!(two.scan(&log, ..).next().unwrap().unwrap().1, b"1,between,3,4,5");
    log.merge("a", "meanwhile").unwrap();
    assert!(is_conflict(two.commit()), "it has read the key");
}

#[test]
fn expiry_and_meta_bytes_travel_with_a_transaction() {
    let (db, space) = memory();
    let mut one = db.begin().unwrap();
    let expires_at = Some(one.now().plus_ms(60_000));
    one.put_with(&space, "k", "v", EntryOptions { expires_at, meta: 7, seal: None }).unwrap();
    one.put_with(&space, "gone", "v", EntryOptions { expires_at: Some(Timestamp(1)), ..Default::default() })
        .unwrap();
    assert!(!one.exists(&space, "gone").unwrap() && one.get(&space, "gone").unwrap().is_none());
    assert_eq!(keys(&one, &space), ["k"]);
    one.commit().unwrap();
    let entry = space.get_entry("k").unwrap().unwrap();
    assert_eq!((entry.expires_at, entry.meta), (expires_at, 7));
}

#[test]
fn several_keyspaces_change_together() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path().join("data")).unwrap();
    let (left, right) = (db.keyspace("left").unwrap(), db.keyspace("right").unwrap());
    let mut one = db.begin().unwrap();
    one.put(&left, "k", "1").unwrap();
    one.put(&right, "k", "2").unwrap();
    let before = db.snapshot().unwrap();
    one.commit().unwrap();
    assert!(!before.exists(&left, "k").unwrap() && !before.exists(&right, "k").unwrap());
    assert!(left.exists("k").unwrap() && right.exists("k").unwrap());

    let options = KeyspaceOptions { engine: Some(EngineKind::Hash), ..Default::default() };
    let volatile = db.keyspace_with("volatile", options).unwrap();
    let mut mixed = db.begin().unwrap();
    mixed.put(&left, "mixed", "1").unwrap();
    mixed.put(&volatile, "mixed", "1").unwrap();
    assert_eq!(mixed.commit().unwrap_err().kind(), ErrorKind::Invalid);
    assert!(!left.exists("mixed").unwrap() && !volatile.exists("mixed").unwrap());
    // The hash engine alone is fine, and its scans are of everything.
    let mut alone = db.begin().unwrap();
    alone.put(&volatile, "k", "1").unwrap();
    assert_eq!(alone.scan(&volatile, ..).count(), 1);
    assert_eq!(alone.delete_range(&volatile, b"a"..b"b").unwrap_err().kind(), ErrorKind::Invalid);
    volatile.put("anywhere", "1").unwrap();
    assert!(is_conflict(alone.commit()));
}

#[test]
fn what_is_wrong_is_said_and_changes_nothing() {
    let (db, space) = memory();
    let (other_db, foreign) = memory();
    let mut one = db.begin().unwrap();
    let scanned = one.scan(&foreign, ..).next().unwrap().unwrap_err();
    for error in [
        scanned,
        one.get(&foreign, "k").unwrap_err(),
        one.put(&foreign, "k", "v").unwrap_err(),
        one.delete(&foreign, "k").unwrap_err(),
        one.delete_range(&foreign, ..).unwrap_err(),
        one.get_for_update(&foreign, "k").unwrap_err(),
        one.multi_get(&foreign, ["k"]).unwrap_err(),
        one.merge(&space, "k", "no operator").unwrap_err(),
        one.put(&space, vec![0; 70_000], "too long").unwrap_err(),
        one.get(&space, vec![0; 70_000]).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    let mut theirs = other_db.begin().unwrap();
    let savepoint = theirs.savepoint();
    drop(theirs);
    assert_eq!(one.rollback_to(&savepoint).unwrap_err().kind(), ErrorKind::Invalid);
    one.put(&space, "k", "v").unwrap();
    // Within an update it would wait for itself.
    let mut inner = Some(one);
    let refused = space.update("k", |_| Ok((Change::Keep, inner.take().unwrap().commit()))).unwrap();
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
    assert!(!space.exists("k").unwrap());

    let dir = tempfile::tempdir().unwrap();
    let small = Database::builder().memory_bytes(8 << 20).open(dir.path().join("data")).unwrap();
    let space = small.keyspace("users").unwrap();
    let mut large = small.begin().unwrap();
    let failed = (0..100).find_map(|number: u8| large.put(&space, [number], vec![0; 1 << 20]).err()).unwrap();
    assert_eq!(failed.kind(), ErrorKind::Invalid);
    // What came before is still to be committed.
    assert!(large.get(&space, [0]).unwrap().is_some());
    large.commit().unwrap();
    assert!(space.exists([0]).unwrap());
}

#[test]
fn a_closed_database_and_a_dropped_keyspace_end_a_transaction() {
    let (db, space) = memory();
    let mut one = db.begin().unwrap();
    one.put(&space, "k", "v").unwrap();
    db.drop_keyspace("users").unwrap();
    assert_eq!(one.commit().unwrap_err().kind(), ErrorKind::NotFound);
    let space = db.keyspace("users").unwrap();
    let mut one = db.begin().unwrap();
    one.put(&space, "k", "v").unwrap();
    db.close().unwrap();
    assert_eq!(one.get(&space, "x").unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(one.commit().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(db.begin().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn watches_and_locked_keys_and_transactions_see_each_other() {
    let (db, space) = memory();
    let watch = space.watch("k").unwrap();
    let mut one = db.begin().unwrap();
    one.put(&space, "k", "v").unwrap();
    assert!(!watch.is_broken());
    one.commit().unwrap();
    assert!(watch.is_broken());
    let mut two = db.begin().unwrap();
    two.get(&space, "k").unwrap();
    two.put(&space, "other", "v").unwrap();
    let scope = [(space.clone(), &b"k"[..])];
    db.update_keys(LockScope::Keys(&scope), |locked| locked.put(&space, "k", "w")).unwrap();
    assert!(is_conflict(two.commit()));
}

// Rows.

#[test]
fn who_locks_rows_waits_and_does_not_fail() {
    each_engine(|db, space| {
        space.put("counter", 0_u64.to_le_bytes()).unwrap();
        let attempts = AtomicU64::new(0);
        let (threads, times) = (4, 50_u64);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    for _ in 0..times {
                        db.transact(|transaction| {
                            attempts.fetch_add(1, Ordering::Relaxed);
                            let old = transaction.get_for_update(space, "counter")?.unwrap();
                            let next = u64::from_le_bytes(old[..].try_into().unwrap()) + 1;
                            transaction.put(space, "counter", next.to_le_bytes())
                        })
                        .unwrap();
                    }
                });
            }
        });
        let expected = threads * times;
        assert_eq!(space.get("counter").unwrap().unwrap(), expected.to_le_bytes());
        assert_eq!(attempts.into_inner(), expected, "somebody had to begin again");
    });
}

#[test]
fn locks_do_not_hold_up_plain_writes_which_then_count() {
    let (db, space) = memory();
    space.put("k", "1").unwrap();
    let mut one = db.begin().unwrap();
    assert_eq!(one.get_for_update(&space, "k").unwrap().unwrap(), b"1");
    space.put("k", "2").unwrap();
    one.put(&space, "k", "3").unwrap();
    assert!(is_conflict(one.commit()));
}

#[test]
fn a_lock_moves_the_view_on_only_if_all_that_was_read_is_still_so() {
    each_engine(|db, space| {
        space.put("read", "1").unwrap();
        space.put("row", "1").unwrap();
        let mut one = db.begin().unwrap();
        assert_eq!(value(&one, space, "read").unwrap(), b"1");
        space.put("row", "2").unwrap();
        assert_eq!(one.get_for_update(space, "row").unwrap().unwrap(), b"2");
        // The same view for everything.
        assert_eq!(value(&one, space, "row").unwrap(), b"2");
        one.put(space, "row", "3").unwrap();
        one.commit().unwrap();

        let mut two = db.begin().unwrap();
        assert_eq!(value(&two, space, "read").unwrap(), b"1");
        space.put("read", "2").unwrap();
        space.put("row", "4").unwrap();
        let error = two.get_for_update(space, "row").unwrap_err();
        assert!(error.is_retry(), "{error}");
    });
}

#[test]
fn deadlocks_end_with_one_that_begins_anew() {
    let (db, space) = memory();
    space.put("a", [0]).unwrap();
    space.put("b", [0]).unwrap();
    std::thread::scope(|scope| {
        for (first, second) in [("a", "b"), ("b", "a")] {
            let (db, space) = (&db, &space);
            scope.spawn(move || {
                for _ in 0..50 {
                    db.transact(|transaction| {
                        for key in [first, second] {
                            let old = transaction.get_for_update(space, key)?.unwrap()[0];
                            transaction.put(space, key, [old + 1])?;
                        }
                        Ok(())
                    })
                    .unwrap();
                }
            });
        }
    });
    assert_eq!((space.get("a").unwrap().unwrap()[0], space.get("b").unwrap().unwrap()[0]), (100, 100));
}

#[test]
fn a_rollback_to_a_savepoint_lets_go_of_its_rows() {
    let (db, space) = memory();
    let options = TransactionOptions { lock_wait: Duration::from_millis(1), ..Default::default() };
    let (mut one, mut other) = (db.begin_with(options).unwrap(), db.begin_with(options).unwrap());
    one.get_for_update(&space, "kept").unwrap();
    let savepoint = one.savepoint();
    one.get_for_update(&space, "let go").unwrap();
    assert!(other.get_for_update(&space, "let go").unwrap_err().is_retry());
    one.rollback_to(&savepoint).unwrap();
    other.get_for_update(&space, "let go").unwrap();
    assert!(other.get_for_update(&space, "kept").unwrap_err().is_retry());
    drop(one);
    other.get_for_update(&space, "kept").unwrap();
}

// Again and again.

#[test]
fn transact_ends_with_what_its_work_says_and_tries_no_more_often_than_it_may() {
    let (db, space) = memory();
    let mut times = 0;
    let failed = db.transact(|_| -> pugdb::Result<()> {
        times += 1;
        Err(pugdb::Error::not_found("nothing to do"))
    });
    assert_eq!((failed.unwrap_err().kind(), times), (ErrorKind::NotFound, 1));
    let mut times = 0;
    let options = TransactionOptions { attempts: 5, ..Default::default() };
    let lost = db.transact_with(options, |transaction| {
        times += 1;
        transaction.get(&space, "k")?;
        space.put("k", [times])?;
        transaction.put(&space, "k", "mine")
    });
    let error = lost.unwrap_err();
    assert!(error.is_retry() && error.to_string().contains("5 times"), "{error}");
    assert_eq!(times, 5);
    // Then it comes through.
    let value = db.transact(|transaction| {
        transaction.put(&space, "k", "mine")?;
        Ok(value(transaction, &space, "k"))
    });
    assert_eq!(value.unwrap().unwrap(), b"mine");
}

// Between the question and the commit.

/// Runs something once, in the middle of the first read of a table after it was armed.
struct Meanwhile {
    inner: LocalTables,
    work: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl TableStore for Meanwhile {
    fn read_ranges(&self, requests: &[RangeRequest], wait: Wait) -> pugdb::Result<Option<Vec<Bytes>>> {
        let work = self.work.lock().take();
        if let Some(work) = work {
            work();
        }
        self.inner.read_ranges(requests, wait)
    }

    fn forget(&self, file: FileId) {
        self.inner.forget(file);
    }
}

/// Whose turn it is, between two threads.
#[derive(Default)]
struct Turns {
    turn: AtomicU64,
    event: Event,
}

impl Turns {
    fn go(&self, turn: u64) {
        self.turn.store(turn, Ordering::SeqCst);
        self.event.notify();
    }

    /// False when it has taken too long.
    fn wait(&self, env: &Env, turn: u64, patience: Duration) -> bool {
        let until = env.clock.monotonic() + patience;
        env.executor.block_until(&self.event, Some(until), &mut || self.turn.load(Ordering::SeqCst) >= turn)
    }
}

/// A commit has to read a table to know whether something has changed. While it does, others write: a key that it has read, which they
/// cannot, and into a range that it has scanned, which it has to notice.
#[test]
fn nobody_comes_between_the_question_and_the_commit() {
    for (is_range, theirs) in [(false, "k"), (true, "k"), (true, "new"), (true, "beside it")] {
        let dir = tempfile::tempdir().unwrap();
        let env = Env::os();
        let path = dir.path().join("data");
        let store = Arc::new(Meanwhile {
            inner: LocalTables::new(&env, path.join("tables")),
            work: Mutex::default(),
        });
        let builder =
            Database::builder().cache_bytes(0).table_store(Arc::clone(&store) as Arc<dyn TableStore>);
        let db = builder.durability(pugdb::Durability::Os).open(&path).unwrap();
        let space = db.keyspace("users").unwrap();
        space.put("k", "1").unwrap();
        db.flush().unwrap();
        let mut one = db.begin().unwrap();
        if is_range {
            assert_eq!(one.scan(&space, b"k"..b"p").count(), 1);
        } else {
            assert!(one.get(&space, "k").unwrap().is_some());
        }
        one.put(&space, "result", "1").unwrap();
        // One table holds what the transaction has read, and something newer beside it.
        space.put("a", "1").unwrap();
        space.put("z", "1").unwrap();
        db.flush().unwrap();
        space.compact_range(..).unwrap();
        let turns = Arc::new(Turns::default());
        let (theirs_env, our_turns) = (env.clone(), Arc::clone(&turns));
        *store.work.lock() = Some(Box::new(move || {
            our_turns.go(1);
            // A put that nobody holds up comes through, however slow the machine is; one that is held up does not.
            let patience = if is_range { Duration::from_secs(30) } else { Duration::from_millis(300) };
            our_turns.wait(&theirs_env, 2, patience);
        }));
        let came_between = std::thread::scope(|scope| {
            scope.spawn(|| {
                assert!(turns.wait(&env, 1, Duration::from_secs(30)), "the commit has not read a table");
                space.put(theirs, "2").unwrap();
                turns.go(2);
            });
            let result = one.commit();
            (is_conflict(result), turns.turn.load(Ordering::SeqCst) == 2)
        });
        match (is_range, theirs) {
            // The key is locked: the put comes behind the commit.
            (false, _) => assert_eq!(came_between, (false, false)),
            // The range is not, and the commit is told.
            (true, "beside it") => assert_eq!(came_between, (false, true)),
            (true, _) => assert_eq!(came_between, (true, true), "{theirs}"),
        }
    }
}

// Two phases.

#[test]
fn a_prepared_transaction_holds_on_to_what_it_is_about() {
    each_engine(|db, space| {
        for name in ["read", "written", "beside"] {
            space.put(name, "old").unwrap();
        }
        let mut one = db.begin().unwrap();
        one.get(space, "read").unwrap();
        one.scan(space, b"s"..b"t").for_each(drop);
        one.put(space, "written", "new").unwrap();
        one.delete_range(space, b"d"..b"e").unwrap();
        let prepared = one.prepare("one").unwrap();
        assert_eq!(value(&db.begin().unwrap(), space, "written").unwrap(), b"old");
        let refused = |result: pugdb::Result<()>| assert!(is_conflict(result), "a write came through");
        for key in ["read", "written", "sam", "dan"] {
            refused(space.put(key, "x"));
            refused(space.delete(key));
            refused(space.update(key, |_| Ok((Change::put("x"), ()))));
            let mut other = db.begin().unwrap();
            other.put(space, key, "x").unwrap();
            refused(other.commit());
            let mut other = db.begin().unwrap();
            other.put(space, key, "x").unwrap();
            refused(other.prepare("two").map(drop));
        }
        refused(space.delete_range(b"r"..b"s"));
        refused(space.delete_range("a".."dd"));
        let mut batch = db.batch();
        batch.truncate(space);
        refused(batch.commit());
        assert_eq!(db.drop_keyspace(&space.name()).unwrap_err().kind(), ErrorKind::Conflict);
        // Beside it all goes on, and its name is taken.
        space.put("beside", "x").unwrap();
        space.delete_range(b"t"..b"u").unwrap();
        let mut other = db.begin().unwrap();
        other.put(space, "other", "x").unwrap();
        assert_eq!(other.prepare("one").unwrap_err().kind(), ErrorKind::Conflict);
        // A reader of what it will write comes before it.
        let mut reader = db.begin().unwrap();
        reader.get(space, "written").unwrap();
        reader.put(space, "reader", "x").unwrap();
        reader.commit().unwrap();

        assert_eq!(db.prepared_transactions().unwrap(), ["one"]);
        prepared.commit().unwrap();
        assert_eq!(space.get("written").unwrap().unwrap(), b"new");
        space.put("written", "later").unwrap();
        space.put("sam", "x").unwrap();
        assert!(db.prepared_transactions().unwrap().is_empty());
        assert!(db.prepared_transaction("one").unwrap().is_none());
    });
}

#[test]
fn a_preparation_that_is_not_right_lets_everything_go() {
    each_engine(|db, space| {
        space.put("read", "1").unwrap();
        for by_range in [false, true] {
            let mut one = db.begin().unwrap();
            if by_range {
                one.scan(space, ..).for_each(drop);
            } else {
                one.get(space, "read").unwrap();
            }
            one.put(space, "written", "1").unwrap();
            space.put("read", "2").unwrap();
            assert!(is_conflict(one.prepare("one").map(drop)));
            space.put("written", "free").unwrap();
            assert!(db.prepared_transactions().unwrap().is_empty());
        }
        let one = db.begin().unwrap();
        assert_eq!(one.prepare("").unwrap_err().kind(), ErrorKind::Invalid);
        let one = db.begin().unwrap();
        assert_eq!(one.prepare(&"x".repeat(256)).unwrap_err().kind(), ErrorKind::Invalid);
    });
}

#[test]
fn two_prepared_transactions_do_not_read_what_the_other_one_writes() {
    let (db, space) = memory();
    let mut one = db.begin().unwrap();
    one.get(&space, "x").unwrap();
    one.put(&space, "y", "1").unwrap();
    let mut other = db.begin().unwrap();
    other.get(&space, "y").unwrap();
    other.put(&space, "x", "1").unwrap();
    let prepared = one.prepare("one").unwrap();
    assert!(is_conflict(other.prepare("other").map(drop)));
    prepared.rollback().unwrap();
    space.put("x", "2").unwrap();
}

#[test]
fn a_database_on_disk_prepares_nothing_that_is_only_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path().join("data")).unwrap();
    let options = KeyspaceOptions { engine: Some(EngineKind::Btree), ..Default::default() };
    let volatile = db.keyspace_with("volatile", options).unwrap();
    let mut one = db.begin().unwrap();
    one.put(&volatile, "k", "v").unwrap();
    assert_eq!(one.prepare("one").unwrap_err().kind(), ErrorKind::Invalid);
    volatile.put("k", "free").unwrap();
}

#[test]
fn the_databases_own_keyspaces_are_nobody_elses() {
    let (db, space) = memory();
    let mut one = db.begin().unwrap();
    one.put(&space, "k", "v").unwrap();
    let prepared = one.prepare("one").unwrap();
    assert_eq!(db.keyspaces().unwrap(), ["users"]);
    assert!(db.existing_keyspace("pugdb.system.prepared").unwrap().is_none());
    assert!(!db.drop_keyspace("pugdb.system.prepared").unwrap());
    assert_eq!(db.keyspace("pugdb.system.prepared").unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(db.swap_keyspaces("users", "pugdb.system.prepared").unwrap_err().kind(), ErrorKind::NotFound);
    prepared.rollback().unwrap();
}

/// Two transactions are prepared, one is committed and one rolled back, and the power is cut at each call to the disk. Each of them
/// is then as it was before a step, or as after it, and never half.
#[test]
fn a_crash_at_any_call_leaves_a_prepared_transaction_whole() {
    check(TARGET, "a_crash_at_any_call_leaves_a_prepared_transaction_whole", 0..4, |seed| {
        let dress = if seed % 2 == 0 { Dress::Plain } else { Dress::Sealed };
        // How far it had come when a step returned.
        let run = |world: &World, done: &mut u32| -> pugdb::Result<()> {
            let db = crash::open(world, dress)?;
            let (users, names) = (db.keyspace("users")?, db.keyspace("names")?);
            users.put("old", "1")?;
            *done = 1;
            let mut keep = db.begin()?;
            keep.get(&users, "read")?;
            keep.put(&users, "kept", "1")?;
            keep.put(&names, "kept", "1")?;
            keep.delete(&users, "old")?;
            let mut give_up = db.begin()?;
            give_up.put(&users, "given up", "1")?;
            let keep = keep.prepare("keep")?;
            *done = 2;
            let give_up = give_up.prepare("give up")?;
            *done = 3;
            if seed >= 2 {
                db.flush()?;
            }
            keep.commit()?;
            *done = 4;
            give_up.rollback()?;
            *done = 5;
            db.close()
        };
        let world = World::new(seed);
        let mut done = 0;
        run(&world, &mut done).unwrap();
        let calls = world.calls();
        let mut seen = BTreeSet::new();
        for call in 0..calls {
            let world = World::new(seed);
            world.stop_at(call);
            let mut done = 0;
            let _ = run(&world, &mut done);
            let after = if call % 3 == 0 { world.kill() } else { world.power_cut() };
            let db = crash::open(&after, dress).unwrap();
            let prepared = db.prepared_transactions().unwrap();
            let is_prepared = |name: &str| prepared.iter().any(|other| other == name);
            let (users, names) = (db.keyspace("users").unwrap(), db.keyspace("names").unwrap());
            let is_kept = users.exists("kept").unwrap();
            assert_eq!(names.exists("kept").unwrap(), is_kept);
            let is_old_there = users.exists("old").unwrap();
            assert!(if is_kept { !is_old_there } else { is_old_there || done < 1 }, "call {call}");
            assert!(!users.exists("given up").unwrap());
            assert!(!(is_prepared("keep") && is_kept));
            match done {
                2 => assert!(is_prepared("keep") && !is_kept, "call {call}"),
                3 => assert!(is_prepared("give up") && (is_prepared("keep") || is_kept), "call {call}"),
                4 => assert!(is_kept, "call {call}"),
                5 => assert!(is_kept && prepared.is_empty(), "call {call}"),
                _ => {}
            }
            seen.insert((done, prepared.clone(), is_kept));
            // What is still prepared holds on, and can be decided.
            if is_prepared("keep") {
                assert!(is_conflict(users.put("read", "1")) && is_conflict(names.put("kept", "2")));
                db.prepared_transaction("keep").unwrap().unwrap().commit().unwrap();
                assert!(users.exists("kept").unwrap() && names.exists("kept").unwrap());
                assert!(!users.exists("old").unwrap());
            }
            if is_prepared("give up") {
                db.prepared_transaction("give up").unwrap().unwrap().rollback().unwrap();
            }
            users.put("read", "1").unwrap();
            users.put("given up", "2").unwrap();
            drop((users, names, db));
            let db = crash::open(&after.power_cut(), dress).unwrap();
            assert!(db.prepared_transactions().unwrap().is_empty());
        }
        assert!(seen.len() >= 6, "hardly any place was met: {seen:?}");
    });
}
