//! Whole files in the wrong place: swapped, from another database, from an earlier day.

use std::path::{Path, PathBuf};

use pugdb::ErrorKind;
use pugdb_sim::World;
use pugdb_tests::hostile::{Author, DIR, Ending, Fixture, Seal, builder, check_reads, decent, open};

/// Opening is refused as corruption, with one sentence that names one of `names`, and nothing was removed meanwhile.
fn refused(copy: &World, seal: Seal, names: &[&Path], what: &dyn std::fmt::Debug) {
    let before = copy.files();
    let error = open(copy, seal).expect_err("the file is in the wrong place");
    let text = decent(&error);
    // Another database's file has another key, which is a wrong key here.
    let is_foreign = seal == Seal::Keys && error.kind() == ErrorKind::Denied;
    assert!(is_foreign || error.kind() == ErrorKind::Corrupt, "{what:?}: {text}");
    let stem = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let is_named = names.iter().filter_map(|path| stem(path)).any(|stem| text.contains(&stem));
    assert!(is_named, "{what:?}: {text}");
    assert!(before.iter().all(|(path, _)| copy.read_file(path).is_ok()), "{what:?} removed files");
}

/// A table in the wrong place: what it should hold is `Corrupt`, the rest is right, and the files stay.
fn unreadable(fixture: &Fixture, copy: &World, tables: &[&Path], what: &dyn std::fmt::Debug) {
    let db = fixture.open(copy).expect("one table keeps nobody from the others");
    assert!(check_reads(&db, fixture.state(), what) > 0, "nobody noticed {what:?}");
    // A table that hides behind a newer one is needed by no read.
    let quarantined = db.stats().expect("the database is open").quarantined;
    assert!((1..=tables.len()).contains(&quarantined), "{quarantined} after {what:?}");
    let problems = db.verify().expect("the database is open").problems;
    for table in tables {
        let stem = table.file_stem().expect("every file has a name").to_string_lossy().into_owned();
        assert!(problems.iter().any(|problem| problem.contains(&stem)), "{what:?}: {problems:?}");
        assert!(copy.read_file(table).is_ok(), "{what:?} removed a table");
    }
}

fn paste(from: &World, path: &Path, to: &World, name: &Path) {
    let bytes = from.read_file(path).expect("it is there");
    to.write_file(name, &bytes).expect("the directory is there");
}

fn paths(fixture: &Fixture, part: &str) -> Vec<PathBuf> {
    fixture.files_of(part).into_iter().map(|(path, _)| path).collect()
}

const SEALS: [Seal; 3] = [Seal::Plain, Seal::Cipher, Seal::Keys];

#[test]
fn two_tables_that_changed_places_are_corrupt() {
    for seal in SEALS {
        let fixture = Fixture::new(40, seal, Ending::Closed);
        let tables = paths(&fixture, "/tables/");
        for (number, one) in tables.iter().enumerate() {
            for other in &tables[number + 1..] {
                let copy = fixture.copy();
                paste(&fixture.copy(), one, &copy, other);
                paste(&fixture.copy(), other, &copy, one);
                unreadable(&fixture, &copy, &[one, other], &("swapped", one, other));
            }
        }
        assert!(tables.len() >= 4);
    }
}

#[test]
fn a_table_of_another_database_is_corrupt() {
    for seal in SEALS {
        let (fixture, other) =
            (Fixture::new(41, seal, Ending::Closed), Fixture::new(42, seal, Ending::Closed));
        for (table, theirs) in paths(&fixture, "/tables/").iter().zip(paths(&other, "/tables/")) {
            let copy = fixture.copy();
            paste(&other.copy(), &theirs, &copy, table);
            unreadable(&fixture, &copy, &[table], &("another database's table", table));
        }
    }
}

/// A whole segment that is another one than its place says was put there by somebody: it is never cut off and removed.
#[test]
fn a_log_segment_of_another_database_is_corrupt_and_stays() {
    for seal in SEALS {
        let fixture = Fixture::new(43, seal, Ending::KilledWithMark);
        let other = Fixture::new(44, seal, Ending::KilledWithMark);
        let (ours, theirs) = (paths(&fixture, "/log/"), paths(&other, "/log/"));
        assert!(ours.len() >= 3);
        for segment in &ours {
            for foreign in &theirs {
                let copy = fixture.copy();
                paste(&other.copy(), foreign, &copy, segment);
                refused(&copy, seal, &[segment], &("another database's segment", foreign, segment));
            }
        }
        let behind = Path::new(DIR).join("log/0-0000000099.log");
        let copy = fixture.copy();
        paste(&other.copy(), &theirs[0], &copy, &behind);
        refused(&copy, seal, &[&behind], &"another database's segment behind the last");
    }
}

#[test]
fn a_log_segment_under_another_number_is_corrupt_and_stays() {
    for seal in SEALS {
        let fixture = Fixture::new(45, seal, Ending::KilledWithMark);
        let mut names = paths(&fixture, "/log/");
        let segments = names.clone();
        names.push(Path::new(DIR).join("log/0-0000000099.log"));
        for segment in &segments {
            for name in names.iter().filter(|name| *name != segment) {
                let copy = fixture.copy();
                paste(&fixture.copy(), segment, &copy, name);
                refused(&copy, seal, &[name], &("copied", segment, name));
            }
        }
    }
}

#[test]
fn a_manifest_of_an_earlier_life_is_corrupt() {
    for seal in SEALS {
        let fixture = Fixture::new(46, seal, Ending::KilledWithMark);
        let first = paths(&fixture, "/manifest").remove(0);
        let later = fixture.copy();
        fixture.open(&later).and_then(|db| db.close()).expect("the files are whole");
        let later = later.kill();
        let files = later.files();
        let second =
            files.iter().map(|(path, _)| path).find(|path| path.to_string_lossy().contains("manifest"));
        let second = second.expect("there is a manifest");
        assert_ne!(first, *second);
        // Under the new one's name; then CURRENT of that day without the manifest that it names.
        let copy = later.kill();
        paste(&fixture.copy(), &first, &copy, second);
        refused(&copy, seal, &[second], &"the old manifest under the new name");
        let copy = later.kill();
        paste(&fixture.copy(), Path::new("db/CURRENT"), &copy, Path::new("db/CURRENT"));
        refused(&copy, seal, &[&first], &"the old CURRENT");
    }
}

/// The same file as it was some edits ago: what the log has lost since is noticed, and what it still holds is replayed.
#[test]
fn a_manifest_of_an_earlier_hour_is_noticed_or_harmless() {
    for (seal, seed) in SEALS.into_iter().zip(47..) {
        let world = World::new(seed);
        let author = Author::new(&world, seal);
        let mut earlier = Vec::new();
        let manifest = Path::new("db/manifest-0000000001");
        let space = author.create("hourly");
        let (mut refusals, mut harmless) = (0, 0);
        for hour in 0..9 {
            for number in 0..3 {
                author.put(&space, &format!("{number}"), 300 + 100 * hour);
            }
            if hour % 2 == 1 {
                author.db().flush().expect("the disk is well");
            }
            world.run_until_idle();
            earlier.push(world.read_file(manifest).expect("it is there"));
            for (then, bytes) in earlier.iter().enumerate() {
                let copy = world_of_the_moment(&world);
                copy.write_file(manifest, bytes).expect("it is there");
                let what = (seal, "the manifest of hour", then, "at hour", hour);
                match open(&copy, seal) {
                    Ok(db) => {
                        assert_eq!(check_reads(&db, &author.state(), &what), 0);
                        harmless += 1;
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Corrupt, "{what:?}: {}", decent(&error));
                        assert!(then < hour, "{what:?}: {error}");
                        refusals += 1;
                    }
                }
            }
        }
        assert!(refusals > 5 && harmless > 5, "{refusals} {harmless}");
    }
}

/// A copy of the disk as it is; the world goes on.
fn world_of_the_moment(world: &World) -> World {
    let copy = World::new(world.seed());
    for (path, _) in world.files() {
        copy.write_file(&path, &world.read_file(&path).expect("it is there")).expect("a new disk");
    }
    copy
}

/// Two copies that are written to go on at the same place of the log, under the same keys: what one has written fits behind the other.
#[test]
fn log_segments_of_a_copy_that_was_written_to_are_refused() {
    for (seed, seal) in [(50, Seal::Plain), (51, Seal::Cipher), (52, Seal::Keys)] {
        for ending in [Ending::Closed, Ending::Dropped, Ending::KilledWithMark] {
            let fixture = Fixture::new(seed, seal, ending);
            let (one, other) = (fixture.copy(), fixture.copy());
            for (world, value) in [(&one, "one"), (&other, "other")] {
                let db = open(world, seal).expect("it is whole");
                let keyspace = db.keyspace("branch").expect("it opens");
                keyspace.put(b"branch", value).expect("it can be written");
                drop(db);
            }
            let (one, other) = (one.kill(), other.kill());
            let log = Path::new(DIR).join("log");
            let names = |world: &World| -> Vec<PathBuf> {
                let paths = world.files().into_iter().map(|(path, _)| path);
                paths.filter(|path| path.starts_with(&log)).collect()
            };
            let before = names(&fixture.copy());
            let theirs: Vec<PathBuf> =
                names(&other).into_iter().filter(|path| !before.contains(path)).collect();
            assert!(!theirs.is_empty(), "the copy has written a segment");
            // Once more, so that the manifest names the segment.
            let again = one.kill();
            drop(open(&again, seal).expect("it is whole"));
            for path in &theirs {
                // In the place of our own, which has the same number, and behind a log that has none yet.
                for into in [&one, &again, &fixture.copy()] {
                    let copy = into.kill();
                    paste(&other, path, &copy, path);
                    refused(&copy, seal, &[path], &("a copy's segment", seal, path));
                }
            }
        }
    }
}

/// What a database writes after a checkpoint goes on where the checkpoint ends, and is not the checkpoint's.
#[test]
fn log_segments_of_the_original_are_refused_in_a_checkpoint() {
    for (seed, seal) in [(55, Seal::Plain), (56, Seal::Cipher)] {
        let fixture = Fixture::new(seed, seal, Ending::Closed);
        let (world, target) = (fixture.copy(), Path::new("checkpoint"));
        let db = open(&world, seal).expect("it is whole");
        db.checkpoint(target).expect("there is room");
        db.keyspace("more").expect("it opens").put(b"key", b"value").expect("it can be written");
        drop(db);
        let written = world.files().into_iter().map(|(path, _)| path);
        let written: Vec<PathBuf> =
            written.filter(|path| path.starts_with(Path::new(DIR).join("log"))).collect();
        let name = written.last().and_then(|path| path.file_name()).expect("it has written a segment");
        let there = target.join("log").join(name);
        assert!(world.read_file(&there).is_err(), "the checkpoint ends before");
        paste(&world, &written[written.len() - 1], &world, &there);
        let error = builder(&world, seal).open(target).expect_err("it is not the checkpoint's");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", decent(&error));
        world.remove_file(&there).expect("it is there");
        builder(&world, seal).open(target).expect("without it the checkpoint is whole");
    }
}

/// A copy of the whole directory is whole: only a number that was noted elsewhere tells that it is old.
#[test]
fn a_database_that_was_put_back_is_refused_by_whoever_expects_more_of_it() {
    for (seed, seal) in [(53, Seal::Plain), (54, Seal::Keys)] {
        for ending in [Ending::Closed, Ending::Dropped, Ending::KilledWithMark] {
            let fixture = Fixture::new(seed, seal, ending);
            let (older, newer) = (fixture.copy(), fixture.copy());
            let db = open(&newer, seal).expect("it is whole");
            let before = db.generation();
            db.keyspace("more").expect("it opens").put(b"key", b"value").expect("it can be written");
            let noted = db.generation();
            assert!(noted > before);
            drop(db);
            let newer = newer.kill();
            for reads in [false, true] {
                let open = |world: &World, expected| {
                    let builder = builder(world, seal).expect_generation(expected);
                    if reads { builder.open_read_only(DIR) } else { builder.open(DIR) }
                };
                open(&newer.kill(), noted).expect("it has come so far");
                let copy = older.kill();
                let files = copy.files();
                let error = open(&copy, noted).expect_err("it is older");
                assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
                assert!(error.to_string().contains("older copy"), "{error}");
                let kept = |(path, _): &(PathBuf, _)| {
                    path.starts_with(Path::new(DIR).join("log")) || path.ends_with("CURRENT")
                };
                for (path, _) in files.iter().filter(|file| kept(file)) {
                    assert_eq!(
                        copy.read_file(path).ok(),
                        older.kill().read_file(path).ok(),
                        "{path:?} was changed"
                    );
                }
                open(&copy, before).expect("it opens for who expects less");
            }
            let nothing = World::new(seed);
            let error =
                builder(&nothing, seal).expect_generation(noted).open(DIR).expect_err("it is not there");
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        }
    }
}
