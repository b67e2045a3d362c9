//! Many tables: none is opened before it is needed, few files are open at once, and damage is found by the one who needs
//! the table.

#![expect(clippy::unwrap_used, reason = "a test's helper fails as its test does")]

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use pugdb::{AtHand, Builder, CompactionPolicy, Database, Durability, KeyspaceOptions};
use pugdb_sim::{CallKind, World};

const KEYSPACES: usize = 250;
const ROUNDS: usize = 4;
/// For log, manifest, lock, tables that are written, and the tables that are kept open.
const OPEN_FILES_MAX: usize = 144;
const TABLE_FILES_MAX: usize = 64;

fn builder(world: &World) -> Builder {
    // Nothing is merged: as many tables as were written.
    let builder = Database::builder().env(world.env()).compaction(CompactionPolicy::Fifo);
    builder.log_segment_bytes(1 << 20).table_files_max(TABLE_FILES_MAX).durability(Durability::Os)
}

fn name(number: usize) -> String {
    format!("keyspace {number}")
}

fn value(number: usize, round: usize) -> Vec<u8> {
    format!("{number} {round}").into_bytes()
}

/// Four tables for each of 250 keyspaces, flushed in groups, closed in good order.
fn thousand_tables(world: &World) {
    world.set_open_files_max(OPEN_FILES_MAX);
    let db = builder(world).open("db").unwrap();
    for round in 0..ROUNDS {
        for number in 0..KEYSPACES {
            let space = db.keyspace(&name(number)).unwrap();
            space.put([u8::try_from(round).unwrap()], value(number, round)).unwrap();
            space.put(b"newest", value(number, round)).unwrap();
        }
        db.flush().unwrap();
    }
    let stats = db.stats().unwrap();
    assert_eq!((stats.tables, stats.flushes), (KEYSPACES * ROUNDS, (KEYSPACES * ROUNDS) as u64));
    db.close().unwrap();
}

fn tables(world: &World) -> Vec<PathBuf> {
    let files = world.files().into_iter().map(|(path, _)| path);
    files.filter(|path| path.extension().is_some_and(|extension| extension == "table")).collect()
}

/// How often the manifest was synced; the trace must be kept.
fn manifest_syncs(world: &World) -> usize {
    world.trace().iter().filter(|call| call.contains("sync") && call.contains("manifest-")).count()
}

#[test]
fn a_thousand_tables_are_opened_when_they_are_needed_and_few_files_are_open_at_once() {
    let world = World::new(1);
    world.keep_trace(true);
    thousand_tables(&world);
    // A flush of 250 memtables is four groups.
    let recorded = manifest_syncs(&world);
    assert!((4 * ROUNDS..8 * ROUNDS).contains(&recorded), "{recorded} syncs of the manifest");

    world.count_reads(true);
    let before = world.trace().len();
    let db = builder(&world).create_if_missing(false).open("db").unwrap();
    world.run_until_idle();
    let opening = world.trace().split_off(before);
    let touched = opening.iter().filter(|call| call.contains(".table")).count();
    assert_eq!(touched, 0, "opening a database touches tables");
    assert_eq!(db.stats().unwrap().tables, KEYSPACES * ROUNDS);
    for number in 0..KEYSPACES {
        let counts = db.keyspace(&name(number)).unwrap().approximate_counts().unwrap();
        assert_eq!(counts.keys, 2 * ROUNDS as u64, "counts come from the manifest");
    }
    let before = world.trace().len();
    for number in [7, 70] {
        let space = db.keyspace(&name(number)).unwrap();
        assert_eq!(space.try_get(b"newest").unwrap(), AtHand::WouldBlock);
        assert_eq!(world.trace().len(), before, "who may not wait opens nothing");
    }
    for turn in 0..2 {
        for number in 0..KEYSPACES {
            let space = db.keyspace(&name(number)).unwrap();
            for round in 0..ROUNDS {
                let found = space.get([u8::try_from(round).unwrap()]).unwrap();
                assert_eq!(found.as_deref(), Some(&value(number, round)[..]), "turn {turn}");
            }
            assert_eq!(space.get(b"newest").unwrap().as_deref(), Some(&value(number, ROUNDS - 1)[..]));
            assert_eq!(space.scan(..).map(Result::unwrap).count(), ROUNDS + 1);
        }
    }
    assert!(db.verify().unwrap().problems.is_empty());
    // What is merged needs all of its tables at once, beside those that are kept open.
    let space = db.keyspace(&name(3)).unwrap();
    space.compact_range(..).unwrap();
    assert_eq!(space.scan(..).map(Result::unwrap).count(), ROUNDS + 1);
    db.close().unwrap();
}

#[test]
fn value_files_are_opened_when_they_are_needed_and_count_among_the_files_that_are_kept_open() {
    let world = World::new(3);
    world.set_open_files_max(OPEN_FILES_MAX);
    let apart = KeyspaceOptions { separate_values: Some(8), ..KeyspaceOptions::default() };
    let open = || builder(&world).default_options(apart).open("db").unwrap();
    let (db, value) = (open(), |number: usize| name(number).repeat(10).into_bytes());
    for number in 0..KEYSPACES {
        db.keyspace(&name(number)).unwrap().put(b"ada", value(number)).unwrap();
    }
    db.flush().unwrap();
    assert_eq!(db.stats().unwrap().value_files, KEYSPACES);
    db.close().unwrap();
    drop(db);

    world.set_open_files_max(TABLE_FILES_MAX + 16);
    world.keep_trace(true);
    world.count_reads(true);
    let db = open();
    world.run_until_idle();
    for number in 0..KEYSPACES {
        assert!(db.keyspace(&name(number)).unwrap().exists(b"ada").unwrap());
    }
    let touched = world.trace().iter().filter(|call| call.contains(".values")).count();
    assert_eq!(touched, 0, "nobody needs a value yet");
    for _ in 0..2 {
        for number in 0..KEYSPACES {
            let found = db.keyspace(&name(number)).unwrap().get(b"ada").unwrap();
            assert_eq!(found.as_deref(), Some(&value(number)[..]));
        }
    }
    db.close().unwrap();
}

#[test]
fn damage_is_found_when_the_table_is_needed_and_the_others_are_whole() {
    let world = World::new(2);
    thousand_tables(&world);
    // The first two bytes of a header, a byte of a footer, a file that is gone, one that ends in the middle.
    let damaged: Vec<PathBuf> = tables(&world).into_iter().step_by(250).collect();
    world.flip_bit(&damaged[0], 1, 3).unwrap();
    let length = world.read_file(&damaged[1]).unwrap().len() as u64;
    world.flip_bit(&damaged[1], length - 9, 3).unwrap();
    world.remove_file(&damaged[2]).unwrap();
    world.truncate_file(&damaged[3], 100).unwrap();

    let db = builder(&world).open("db").unwrap();
    world.run_until_idle();
    assert_eq!(db.stats().unwrap().quarantined, 0, "nobody has needed them yet");
    assert_eq!(db.recovery_report().files_removed, 0, "while one is missing nothing is removed");
    let (mut whole, mut corrupt) = (0, 0);
    for number in 0..KEYSPACES {
        let space = db.keyspace(&name(number)).unwrap();
        for round in 0..ROUNDS {
            match space.get([u8::try_from(round).unwrap()]) {
                Ok(found) => {
                    assert_eq!(found.as_deref(), Some(&value(number, round)[..]));
                    whole += 1;
                }
                Err(error) => {
                    assert_eq!(error.kind(), pugdb::ErrorKind::Corrupt, "{error}");
                    corrupt += 1;
                }
            }
        }
    }
    assert!(whole >= (KEYSPACES - 4) * ROUNDS && (4..=4 * ROUNDS).contains(&corrupt), "{whole} {corrupt}");
    assert_eq!(db.stats().unwrap().quarantined, 4);
    let problems = db.verify().unwrap().problems;
    let is_named = |path: &PathBuf| {
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        problems.iter().any(|problem| problem.contains(&stem))
    };
    assert!(problems.len() == 4 && damaged.iter().all(is_named), "{problems:?}");
    db.close().unwrap();
}

/// A read that fails for another reason than damage is no reason for a quarantine: the next one may be better.
#[test]
fn a_table_that_could_not_be_read_once_is_read_the_next_time() {
    let world = World::new(3);
    thousand_tables(&world);
    let db = builder(&world).open("db").unwrap();
    let space = db.keyspace(&name(0)).unwrap();
    world.fail_when(|_, path| {
        let is_table = path.extension().is_some_and(|extension| extension == "table");
        is_table.then_some(ErrorKind::Other)
    });
    assert_eq!(space.get(b"newest").unwrap_err().kind(), pugdb::ErrorKind::Unavailable);
    assert!(space.scan(..).next().unwrap().is_err());
    world.heal();
    assert_eq!(space.get(b"newest").unwrap().as_deref(), Some(&value(0, ROUNDS - 1)[..]));
    assert_eq!(db.stats().unwrap().quarantined, 0);
    db.close().unwrap();
}

/// None of the memtables is full. What seals them is that all of them together are too large, or that they keep the log.
#[test]
fn many_small_memtables_are_sealed_and_flushed_together() {
    let sizes: [(&str, usize, u64, usize); 2] =
        [("memory", 4 << 20, 1 << 20, 2 << 10), ("the log", 64 << 20, 32 << 10, 50)];
    for (reason, memory, segment, bytes) in sizes {
        let world = World::new(4);
        world.keep_trace(true);
        let db = builder(&world).memory_bytes(memory).log_segment_bytes(segment).open("db").unwrap();
        let spaces: Vec<_> = (0..KEYSPACES).map(|number| db.keyspace(&name(number)).unwrap()).collect();
        for round in 0..12_u8 {
            for space in &spaces {
                space.put([round], vec![round; bytes]).unwrap();
            }
            world.run_until_idle();
        }
        let (stats, recorded) = (db.stats().unwrap(), manifest_syncs(&world));
        let flushes = usize::try_from(stats.flushes).unwrap();
        assert!(
            flushes > KEYSPACES && recorded < flushes / 4,
            "{reason}: {flushes} flushes, {recorded} edits"
        );
        for space in &spaces {
            assert_eq!(space.scan(..).map(Result::unwrap).count(), 12);
        }
        db.close().unwrap();
    }
}

/// A full disk is met when the manifest is to grow. What was to be recorded then is no part of what it knows.
#[test]
fn an_edit_for_which_there_is_no_room_changes_nothing() {
    let world = World::new(5);
    let db = builder(&world).open("db").unwrap();
    let spaces: Vec<_> = (0..KEYSPACES).map(|number| db.keyspace(&name(number)).unwrap()).collect();
    let is_growth = |kind, path: &Path| {
        let is_manifest = path.to_string_lossy().contains("manifest-");
        (kind == CallKind::Allocate && is_manifest).then_some(ErrorKind::StorageFull)
    };
    let mut refusals = 0;
    for round in 0..8_u8 {
        for space in &spaces {
            space.put([round], [round; 10]).unwrap();
        }
        world.fail_when(is_growth);
        if let Err(error) = db.flush() {
            assert_eq!(error.kind(), pugdb::ErrorKind::Unavailable, "{error}");
            refusals += 1;
        }
        world.heal();
        db.flush().unwrap();
    }
    assert!(refusals > 0, "the manifest never grew");
    // A checkpoint has the tables that the manifest in memory names, all of which are there.
    db.checkpoint("copy").unwrap();
    db.close().unwrap();
    for dir in ["db", "copy"] {
        let db = builder(&world).open(dir).unwrap();
        assert!(db.verify().unwrap().problems.is_empty());
        for number in 0..KEYSPACES {
            assert_eq!(db.keyspace(&name(number)).unwrap().scan(..).map(Result::unwrap).count(), 8);
        }
        db.close().unwrap();
    }
}
