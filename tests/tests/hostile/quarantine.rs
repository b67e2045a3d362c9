//! A damaged table: compaction leaves it alone, its damaged block is an error, everything else goes on.

use std::path::PathBuf;
use std::time::Duration;

use pugdb::{Database, ErrorKind, Keyspace, Result, Value};
use pugdb_sim::World;
use pugdb_tests::hostile::{DIR, MARK_TIME, Seal, builder, check_reads, decent, key, name, read_all, value};

use super::TARGET;

const KEYS: usize = 30;
const VALUE_BYTES: usize = 1000;

/// Without a cache: what counts is what the disk gives.
fn open(world: &World, seal: Seal) -> Result<Database> {
    builder(world, seal).cache_bytes(0).open(DIR)
}

fn table_key(letter: char, number: usize) -> Vec<u8> {
    key(&format!("{letter}{number:02}"))
}

fn table_value(letter: char, number: usize, version: &str) -> Vec<u8> {
    value(&format!("{letter}{number} {version}"), VALUE_BYTES)
}

/// One run of one table with several blocks.
fn write_run(db: &Database, space: &Keyspace, letter: char, version: &str) {
    let mut batch = db.batch();
    for number in 0..KEYS {
        batch.put(space, table_key(letter, number), table_value(letter, number, version));
    }
    batch.commit().and_then(|()| db.flush()).expect("the disk is well");
}

fn tables(world: &World) -> Vec<PathBuf> {
    let files = world.files().into_iter().map(|(path, _)| path);
    files.filter(|path| path.extension().is_some_and(|extension| extension == "table")).collect()
}

fn rest(world: &World) {
    for _ in 0..8 {
        world.advance(50 * MARK_TIME);
        world.run_until_idle();
    }
}

fn same(found: Option<&Value>, expected: &[u8]) -> bool {
    found.map(|value| &**value) == Some(expected)
}

/// Two runs over the same keys, two over others; the second one is damaged in the middle before the compaction. Returns the damaged file.
fn damage_before_compaction(world: &World, db: &Database, offset: u64) -> PathBuf {
    let (space, other) = (db.keyspace(&name("main")).unwrap(), db.keyspace(&name("other")).unwrap());
    write_run(db, &other, 'o', "only");
    write_run(db, &space, 'k', "older");
    let before = tables(world);
    write_run(db, &space, 'k', "newer");
    let damaged = tables(world).into_iter().find(|path| !before.contains(path)).expect("a table was written");
    write_run(db, &space, 'x', "only");
    world.flip_bit(&damaged, offset, 2).expect("the byte is there");
    write_run(db, &space, 'y', "only");
    rest(world);
    damaged
}

/// Every key of the damaged run is its newest version or `Corrupt`; the rest is whole. Returns how many are `Corrupt`.
fn check_around_damage(db: &Database, what: &str) -> usize {
    let (space, other) = (db.keyspace(&name("main")).unwrap(), db.keyspace(&name("other")).unwrap());
    let mut corrupt = 0;
    for number in 0..KEYS {
        for (space, letter) in [(&space, 'x'), (&space, 'y'), (&other, 'o')] {
            let found = space.get(table_key(letter, number)).unwrap();
            assert!(same(found.as_ref(), &table_value(letter, number, "only")), "{letter}{number} {what}");
        }
        match space.get(table_key('k', number)) {
            Ok(found) => {
                assert!(same(found.as_ref(), &table_value('k', number, "newer")), "k{number} {what}");
            }
            Err(error) => {
                decent(&error);
                assert_eq!(error.kind(), ErrorKind::Corrupt, "k{number} {what}: {error}");
                corrupt += 1;
            }
        }
    }
    // A scan shows what is whole up to the damage, then says so.
    let mut scan = space.prefix(key("k"));
    let before = (0..KEYS).take_while(|&number| match scan.next() {
        Some(Ok((found, value))) => {
            assert!(
                found == *table_key('k', number) && value == *table_value('k', number, "newer"),
                "{what}"
            );
            true
        }
        Some(Err(error)) => {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {}", decent(&error));
            false
        }
        None => false,
    });
    let before = before.count();
    assert!(scan.next().is_none() && before < KEYS, "the scan went on {what}");
    assert_eq!(space.prefix(key("x")).chain(space.prefix(key("y"))).map(Result::unwrap).count(), 2 * KEYS);
    corrupt
}

#[test]
fn a_damaged_input_is_quarantined_and_stays_and_the_rest_is_readable() {
    pugdb_sim::check(TARGET, "a_damaged_input_is_quarantined", 50..56, |seed| {
        let seal = if seed % 2 == 0 { Seal::Plain } else { Seal::Cipher };
        let world = World::new(seed);
        let db = open(&world, seal).unwrap();
        let damaged = damage_before_compaction(&world, &db, 1000 + seed % 5 * 5000);
        let stats = db.stats().unwrap();
        assert_eq!((stats.quarantined, stats.tables), (1, 5));
        let corrupt = check_around_damage(&db, "after the quarantine");
        assert!((1..KEYS / 2).contains(&corrupt), "{corrupt} keys are in the damaged block");

        // It outlives a reopen, a kill and any number of compactions of its neighbours.
        db.close().unwrap();
        let db = open(&world, seal).unwrap();
        assert_eq!(db.stats().unwrap().quarantined, 1);
        assert_eq!(check_around_damage(&db, "after a reopen"), corrupt);
        let space = db.keyspace(&name("main")).unwrap();
        for _ in 0..8 {
            write_run(&db, &space, 'z', "many");
            rest(&world);
        }
        let stats = db.stats().unwrap();
        assert!(stats.compactions >= 1 && stats.quarantined == 1, "{stats:?}");
        assert_eq!(check_around_damage(&db, "after compactions"), corrupt);
        let next = world.kill();
        drop((space, db));
        let db = open(&next, seal).unwrap();
        assert_eq!((db.stats().unwrap().quarantined, check_around_damage(&db, "after a kill")), (1, corrupt));
        assert!(next.read_file(&damaged).is_ok(), "the damaged table was removed");
        let problems = db.verify().unwrap().problems;
        let stem = damaged.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(problems.len() == 1 && problems[0].contains(&stem), "{problems:?}");

        // What is written over the damage hides it.
        let space = db.keyspace(&name("main")).unwrap();
        write_run(&db, &space, 'k', "newest");
        for number in 0..KEYS {
            let found = space.get(table_key('k', number)).unwrap();
            assert!(same(found.as_ref(), &table_value('k', number, "newest")));
            space.delete(table_key('k', number)).unwrap();
            assert_eq!(space.get(table_key('k', number)).unwrap(), None);
        }
        // With the keyspace the damaged table goes, too.
        db.drop_keyspace(&space.name()).unwrap();
        drop(space);
        rest(&next);
        assert!(next.read_file(&damaged).is_err(), "a dropped keyspace keeps its damaged table");
    });
}

/// The edit that records a compaction is damaged after its inputs are gone. What is left must outlive the open, or no
/// backup of the manifest could help any more.
#[test]
fn a_damaged_last_edit_of_the_manifest_costs_no_table() {
    let world = World::new(58);
    let db = open(&world, Seal::Plain).unwrap();
    let space = db.keyspace(&name("main")).unwrap();
    for version in ['a', 'b', 'c'] {
        write_run(&db, &space, 'k', &String::from(version));
    }
    rest(&world);
    let manifest = PathBuf::from("db/manifest-0000000001");
    let used =
        |world: &World| world.read_file(&manifest).unwrap().iter().rposition(|&byte| byte != 0).unwrap();
    let before = used(&world);
    write_run(&db, &space, 'k', "last");
    world.advance(Duration::from_mins(1));
    rest(&world);
    assert_eq!((db.stats().unwrap().compactions, db.stats().unwrap().tables), (2, 1));
    let state = read_all(&db).unwrap();
    let dead = world.kill();
    drop((space, db));
    let kept = tables(&dead);
    for offset in (before..=used(&dead)).step_by(5) {
        let copy = dead.kill();
        copy.flip_bit(&manifest, offset as u64, 1).unwrap();
        let what = ("the last edits of the manifest", offset);
        let is_right = match open(&copy, Seal::Plain) {
            Ok(db) => check_reads(&db, &state, &what) == 0,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{what:?}: {}", decent(&error));
                false
            }
        };
        let is_left = kept.iter().all(|table| copy.read_file(table).is_ok());
        assert!(is_right || is_left, "a table was removed, and what it held is not readable: {what:?}");
    }
}

#[test]
fn a_table_cut_short_while_it_is_open_is_quarantined_too() {
    let world = World::new(57);
    let db = open(&world, Seal::Plain).unwrap();
    let space = db.keyspace(&name("main")).unwrap();
    for letter in ['a', 'b', 'c'] {
        write_run(&db, &space, letter, "only");
    }
    let cut = tables(&world).remove(0);
    world.truncate_file(&cut, 12_000).unwrap();
    write_run(&db, &space, 'd', "only");
    // A run that shares keys with all of them, so that they are read.
    let mut batch = db.batch();
    for (letter, number) in ['a', 'b', 'c'].into_iter().flat_map(|letter| (0..10).map(move |n| (letter, n))) {
        batch.put(&space, table_key(letter, number), table_value(letter, number, "only"));
    }
    batch.commit().and_then(|()| db.flush()).unwrap();
    rest(&world);
    assert_eq!(db.stats().unwrap().quarantined, 1);
    let (mut whole, mut corrupt) = (0, 0);
    for (letter, number) in
        ['a', 'b', 'c', 'd'].into_iter().flat_map(|letter| (0..KEYS).map(move |n| (letter, n)))
    {
        match space.get(table_key(letter, number)) {
            Ok(found) => {
                assert!(same(found.as_ref(), &table_value(letter, number, "only")), "{letter}{number}");
                whole += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", decent(&error));
                corrupt += 1;
            }
        }
    }
    assert!(whole > 3 * KEYS && corrupt > 0, "{whole} {corrupt}");
}
