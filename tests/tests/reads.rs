//! Reads beside what else happens: lists of keys in one call, reads that may not wait, reads that hold nothing.

#![expect(clippy::unwrap_used, reason = "a test's helper fails as its test does")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use pugdb::{AtHand, Database, Durability};
use pugdb_sim::World;
use pugdb_tests::model_setup::{Opened, Reads, Setup};

/// A database on a slow store. Nothing is in its cache yet.
fn slow(world: &World) -> Opened {
    Setup { reads: Reads::Slow, ..Setup::PLAIN }.open(world, Durability::Os).unwrap()
}

/// The same with `runs` runs, each with some keys of its own and `shared` in all of them.
fn slow_runs(world: &World, runs: u8) -> Opened {
    let opened = slow(world);
    let keyspace = opened.db.keyspace("users").unwrap();
    for run in 0..runs {
        for number in 0..50_u8 {
            keyspace.put([run, number], vec![run; 300]).unwrap();
        }
        keyspace.put(b"shared", [run]).unwrap();
        opened.db.flush().unwrap();
    }
    drop((keyspace, opened));
    let opened = slow(world);
    // A key that no table has, within the bounds of all: now they are open.
    assert_eq!(opened.db.keyspace("users").unwrap().get(b"far beyond").unwrap(), None);
    opened
}

#[test]
fn a_list_of_keys_is_read_in_one_call() {
    let world = World::new(1);
    let opened = slow_runs(&world, 3);
    let (slow, keyspace) = (opened.slow.unwrap(), opened.db.keyspace("users").unwrap());
    let keys: Vec<[u8; 2]> = (0..3).flat_map(|run| [0, 17, 49].map(|number| [run, number])).collect();
    let wanted = keys.iter().map(<[u8; 2]>::as_slice).chain([b"shared".as_slice(), b"absent"]);
    let wanted: Vec<&[u8]> = wanted.collect();
    let before = (slow.calls(), slow.ranges());
    let values = keyspace.multi_get(&wanted).unwrap();
    for (key, value) in keys.iter().zip(&values) {
        assert_eq!(value.as_deref(), Some(&[key[0]; 300][..]));
    }
    assert_eq!((values[9].as_deref(), values[10].as_deref()), (Some(&[2][..]), None));
    // A filter that lets a key pass may cost a second one.
    assert!((1..=2).contains(&(slow.calls() - before.0)), "{} calls", slow.calls() - before.0);
    assert!(slow.ranges() - before.1 >= 3, "blocks of several runs");
    let before = slow.calls();
    assert_eq!(keyspace.multi_get(&wanted).unwrap(), values);
    assert_eq!(slow.calls(), before, "all of them are in the cache");
}

#[test]
fn a_read_that_may_not_wait_does_not_touch_the_disk() {
    let world = World::new(2);
    let opened = slow_runs(&world, 1);
    let (slow, keyspace) = (opened.slow.unwrap(), opened.db.keyspace("users").unwrap());
    let snapshot = opened.db.snapshot().unwrap();
    let (calls, disk) = (slow.calls(), world.calls());
    assert_eq!(keyspace.try_get([0, 7]).unwrap(), AtHand::WouldBlock);
    assert_eq!(snapshot.try_get(&keyspace, [0, 7]).unwrap(), AtHand::WouldBlock);
    assert_eq!(keyspace.try_get(b"far beyond").unwrap(), AtHand::Yes(None));
    assert_eq!((slow.calls(), world.calls()), (calls, disk));
    let value = keyspace.get([0, 7]).unwrap();
    assert!(value.is_some());
    assert_eq!(keyspace.try_get([0, 7]).unwrap(), AtHand::Yes(value.clone()));
    keyspace.put([0, 7], b"new").unwrap();
    assert!(matches!(keyspace.try_get([0, 7]).unwrap(), AtHand::Yes(Some(value)) if value == b"new"));
    assert_eq!(snapshot.try_get(&keyspace, [0, 7]).unwrap(), AtHand::Yes(value));
}

#[test]
fn a_read_that_may_not_wait_does_not_touch_files_either() {
    let world = World::new(2);
    let db = Database::builder().env(world.env()).cache_bytes(0).open("db").unwrap();
    let keyspace = db.keyspace("users").unwrap();
    keyspace.put(b"ada", b"1815").unwrap();
    db.flush().unwrap();
    assert!(keyspace.get(b"ada").unwrap().is_some());
    let disk = world.calls();
    assert_eq!(keyspace.try_get(b"ada").unwrap(), AtHand::WouldBlock);
    assert_eq!(world.calls(), disk);
}

#[test]
fn a_long_scan_reads_ahead_and_a_short_one_does_not() {
    for reverse in [false, true] {
        let world = World::new(3);
        let opened = slow(&world);
        let keyspace = opened.db.keyspace("long").unwrap();
        for number in 0..4_000_u32 {
            keyspace.put(number.to_be_bytes(), [7; 300]).unwrap();
        }
        opened.db.flush().unwrap();
        drop((keyspace, opened));
        let opened = slow(&world);
        let (slow, keyspace) = (opened.slow.unwrap(), opened.db.keyspace("long").unwrap());
        // Opens the table: its filter knows that it does not have this key.
        assert_eq!(keyspace.get([0; 5]).unwrap(), None);
        let scan = || if reverse { keyspace.scan(..).reverse() } else { keyspace.scan(..) };
        let before = (slow.calls(), slow.ranges());
        assert_eq!(scan().take(10).count(), 10);
        assert_eq!((slow.calls() - before.0, slow.ranges() - before.1), (1, 1), "one block");
        let before = (slow.calls(), slow.ranges());
        let keys: Vec<u32> =
            scan().map(|entry| u32::from_be_bytes((*entry.unwrap().0).try_into().unwrap())).collect();
        let expected: Vec<u32> = if reverse { (0..4_000).rev().collect() } else { (0..4_000).collect() };
        assert_eq!(keys, expected);
        // 1.2 MB in more than 150 blocks: 8, 8, 16, 32, 64, 128 KiB, then 256 each.
        let calls = slow.calls() - before.0;
        assert!((5..=14).contains(&calls), "{calls} calls");
        assert_eq!(slow.ranges() - before.1, calls, "blocks side by side are one range");
        // All of it is in the cache now, and right.
        let before = slow.calls();
        assert!(scan().map(Result::unwrap).all(|(_, value)| value == [7; 300]));
        assert_eq!(slow.calls(), before);
    }
}

/// A read of one key holds neither a snapshot nor a lock: memtables are sealed, flushed and merged under it.
#[test]
fn reads_that_hold_nothing_miss_no_acknowledged_write_and_never_go_back() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::builder()
        .memory_bytes(4 << 20)
        .memtable_bytes(32 << 10)
        .durability(Durability::Os)
        .open(dir.path().join("data"))
        .unwrap();
    let keyspace = db.keyspace("counters").unwrap();
    let (acknowledged, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let value = |number: u64| {
        let mut value = number.to_be_bytes().to_vec();
        value.resize(400, b'.');
        value
    };
    keyspace.put(b"counter", value(0)).unwrap();
    thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let (mut last, mut reads) = (0, 0_u64);
                    while !is_over.load(Ordering::Acquire) {
                        let at_least = acknowledged.load(Ordering::Acquire).max(last);
                        let value = keyspace.get(b"counter").unwrap().expect("the key is always there");
                        last = u64::from_be_bytes(value[..8].try_into().unwrap());
                        assert!(last >= at_least, "{last} was read after {at_least}");
                        reads += 1;
                    }
                    reads
                })
            })
            .collect();
        for number in 1..20_000 {
            keyspace.put(b"counter", value(number)).unwrap();
            acknowledged.store(number, Ordering::Release);
        }
        is_over.store(true, Ordering::Release);
        assert!(readers.into_iter().all(|reader| reader.join().unwrap() > 0));
    });
    db.close().unwrap();
}
