//! Scans of a prefix pass over tables whose filter does not know it: nothing is read, and nothing is missed.

#![expect(clippy::unwrap_used, reason = "a test's helper fails as its test does")]

use pugdb::{CompactionPolicy, Durability, ErrorKind, Keyspace, KeyspaceOptions, PrefixExtractor};
use pugdb_sim::World;
use pugdb_tests::model_setup::{Opened, Reads, Setup};

const RUNS: u32 = 4;

fn open(world: &World) -> Opened {
    let setup = Setup { reads: Reads::Slow, ..Setup::PLAIN };
    // Tables stay where they are flushed to.
    let adjust = |builder: pugdb::Builder| builder.compaction(CompactionPolicy::Fifo);
    setup.open_with(world, |builder| adjust(builder.durability(Durability::Os))).unwrap()
}

fn options(prefix: PrefixExtractor) -> KeyspaceOptions {
    KeyspaceOptions { prefix: Some(prefix), filter_bits: Some(20), ..KeyspaceOptions::default() }
}

/// Even users only, each in one of the runs; all runs have the same bounds.
fn fill(opened: &Opened, users: &Keyspace) {
    for run in 0..RUNS {
        users.put("user:", [0]).unwrap();
        users.put("user:999999/", [0]).unwrap();
        for number in (0..400).filter(|number| number / 2 % RUNS == run && number % 2 == 0) {
            for field in 0..3 {
                users.put(format!("user:{number:06}/{field}"), [7; 100]).unwrap();
            }
        }
        opened.db.flush().unwrap();
    }
}

fn of(number: u32) -> String {
    format!("user:{number:06}/")
}

/// Reads of tables, while `read` is done.
fn calls(opened: &Opened, read: impl FnOnce()) -> u64 {
    let slow = opened.slow.as_ref().unwrap();
    let before = slow.calls();
    read();
    slow.calls() - before
}

#[test]
fn a_scan_of_an_absent_prefix_reads_nothing_and_one_that_is_there_reads_its_run() {
    for reverse in [false, true] {
        let world = World::new(1);
        let opened = open(&world);
        fill(&opened, &opened.db.keyspace_with("users", options(PrefixExtractor::UpTo(b'/'))).unwrap());
        drop(opened);
        let opened = open(&world);
        let users = opened.db.keyspace("users").unwrap();
        // Opens all tables.
        assert_eq!(users.get("user:5").unwrap(), None);
        let scan =
            |prefix: String| if reverse { users.prefix(prefix).reverse() } else { users.prefix(prefix) };
        let absent = calls(&opened, || {
            for number in (1..400).step_by(2) {
                assert_eq!(scan(of(number)).count(), 0);
                assert_eq!(
                    users.scan((of(number) + "1").as_bytes()..(of(number) + "2").as_bytes()).count(),
                    0
                );
            }
        });
        // A filter of 20 bits is wrong about one prefix of thousands.
        assert!(absent <= 4, "{absent} reads");
        let there = calls(&opened, || assert_eq!(scan(of(100)).count(), 3));
        assert_eq!(there, 1);
        assert_eq!(scan("user:".to_owned()).count(), 602);
        let across = users.scan(of(101).as_bytes()..=(of(102) + "1").as_bytes());
        assert_eq!(across.count(), 2, "the range begins in a prefix that is not there");
    }
}

#[test]
fn deletes_of_a_prefix_hide_and_what_hides_nothing_is_passed_over() {
    let world = World::new(2);
    let opened = open(&world);
    let users = opened.db.keyspace_with("users", options(PrefixExtractor::UpTo(b'/'))).unwrap();
    fill(&opened, &users);
    // A run of nothing but a delete, and a range delete without a run.
    users.delete(of(100) + "1").unwrap();
    opened.db.flush().unwrap();
    assert_eq!(users.prefix(of(100)).count(), 2);
    users.delete_range(of(200).as_bytes()..of(201).as_bytes()).unwrap();
    assert_eq!(users.prefix(of(200)).count(), 0);
    users.put(of(200) + "9", [1]).unwrap();
    opened.db.flush().unwrap();
    assert_eq!(users.prefix(of(200)).count(), 1);
    drop((users, opened));
    let opened = open(&world);
    let users = opened.db.keyspace("users").unwrap();
    assert_eq!([100, 200, 202].map(|number| users.prefix(of(number)).count()), [2, 1, 3]);
}

#[test]
fn a_changed_extractor_counts_for_new_tables_and_old_ones_keep_theirs() {
    let world = World::new(3);
    let opened = open(&world);
    let users = opened.db.keyspace_with("users", options(PrefixExtractor::None)).unwrap();
    fill(&opened, &users);
    let other = opened.db.keyspace_with("users", options(PrefixExtractor::Length(5)));
    assert_eq!(other.err().map(|error| error.kind()), Some(ErrorKind::Conflict));
    let refused = users.alter(options(PrefixExtractor::Length(0)));
    assert_eq!(refused.err().map(|error| error.kind()), Some(ErrorKind::Invalid));
    for prefix in [PrefixExtractor::UpTo(b'/'), PrefixExtractor::Length(12), PrefixExtractor::Length(3)] {
        users.alter(options(prefix)).unwrap();
        fill(&opened, &users);
        for number in 0..400 {
            assert_eq!(users.prefix(of(number)).count(), if number % 2 == 0 { 3 } else { 0 });
        }
    }
    drop((users, opened));
    let opened = open(&world);
    let users = opened.db.keyspace("users").unwrap();
    assert_eq!(users.options().prefix, Some(PrefixExtractor::Length(3)));
    users.compact_range(..).unwrap();
    for number in 0..400 {
        assert_eq!(users.prefix(of(number)).count(), if number % 2 == 0 { 3 } else { 0 });
    }
}

#[test]
fn files_that_are_taken_in_are_passed_over_too() {
    let world = World::new(4);
    let opened = open(&world);
    let users = opened.db.keyspace_with("users", options(PrefixExtractor::UpTo(b'/'))).unwrap();
    let mut writer = users.sorted_writer().unwrap();
    for number in (0..400).step_by(2) {
        writer.put(of(number) + "1", b"1").unwrap();
    }
    users.ingest([writer.finish().unwrap()]).unwrap();
    drop((users, opened));
    let opened = open(&world);
    let users = opened.db.keyspace("users").unwrap();
    assert_eq!(users.get("user:000000/5").unwrap(), None);
    let absent = calls(&opened, || {
        assert!((1..399).step_by(2).all(|number| users.prefix(of(number)).count() == 0));
    });
    assert!(absent <= 2, "{absent} reads");
    assert!((0..400).step_by(2).all(|number| users.prefix(of(number)).count() == 1));
}
