//! One bit flipped, one file cut off: every byte of every kind of file, after every kind of end.

use std::path::{Path, PathBuf};

use pugdb::{Database, ErrorKind, Result};
use pugdb_sim::World;
use pugdb_tests::hostile::{Ending, Fixture, Seal, check_reads, decent, read_all, shows_no_user_bytes};

use super::TARGET;

/// What became of the flips in one kind of file.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    /// The database did not open.
    refused: usize,
    /// It opened, and some reads were `Corrupt`.
    damaged: usize,
    /// It opened, and every read was right.
    right: usize,
}

/// The tables that an open keeps: others are outputs or keyspaces that were given up.
fn named_tables(fixture: &Fixture) -> Vec<PathBuf> {
    let copy = fixture.copy();
    let db = fixture.open(&copy).expect("the files are whole");
    assert_eq!(check_reads(&db, fixture.state(), &"no damage"), 0);
    copy.files().into_iter().map(|(path, _)| path).filter(|path| path.starts_with("db/tables")).collect()
}

fn all_are_there(copy: &World, files: &[PathBuf]) -> bool {
    files.iter().all(|file| copy.read_file(file).is_ok())
}

/// What a message must name when this file is damaged.
fn stem(path: &Path) -> String {
    path.file_stem().expect("every file has a name").to_string_lossy().into_owned()
}

/// An open that fails does so with one sentence. `None` when it failed, and the sentence.
fn opened(outcome: Result<Database>, what: &dyn std::fmt::Debug) -> (Option<Database>, String) {
    let error = match outcome {
        Ok(db) => return (Some(db), String::new()),
        Err(error) => error,
    };
    let text = decent(&error);
    assert_eq!(error.kind(), ErrorKind::Corrupt, "after {what:?}: {error:?}");
    (None, text)
}

/// An open that fails names the damaged file.
fn opened_or_named(outcome: Result<Database>, file: &Path, what: &dyn std::fmt::Debug) -> Option<Database> {
    let (db, text) = opened(outcome, what);
    let is_named = db.is_some() || text.contains(&stem(file));
    assert!(is_named, "after {what:?} the message names another file: {text}");
    db
}

/// The bytes to flip of a file: all of a small one; head, tail and a sample of a large one.
fn offsets(fixture: &Fixture, file: &Path, every: usize) -> Vec<u64> {
    let bytes = fixture.copy().read_file(file).expect("it is there");
    let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let is_table = file.extension().is_some_and(|extension| extension == "table");
    let dense = |at: usize| !is_table || at < 200 || at + 600 > used;
    let meaning = (0..used).filter(|&at| if dense(at) { at % every == 0 } else { at % (41 * every) == 0 });
    // Space that is taken and not used yet: a few places of it.
    let blank = [used, used + 1, used.next_multiple_of(8) + 8, used + 100, bytes.len() - 1];
    meaning.chain(blank.into_iter().filter(|&at| at < bytes.len())).map(|at| at as u64).collect()
}

fn flip_all(seed: u64, fixture: &Fixture, every: usize, mut each: impl FnMut(World, PathBuf, u64, u8)) {
    for (file, _) in fixture.files() {
        for offset in offsets(fixture, &file, every) {
            let copy = fixture.copy();
            let bit = (offset.wrapping_mul(5) + seed) % 8;
            let bit = u8::try_from(bit).expect("it is below 8");
            copy.flip_bit(&file, offset, bit).expect("the byte is there");
            each(copy, file.clone(), offset, bit);
        }
    }
}

/// Flips bits and reads everything. Nothing that was acknowledged may be missing without an error.
fn flips_are_noticed_or_harmless(seed: u64, seal: Seal, ending: Ending, every: usize) {
    let fixture = Fixture::new(seed, seal, ending);
    let named = named_tables(&fixture);
    let (mut tables, mut logs, mut others) = (Tally::default(), Tally::default(), Tally::default());
    flip_all(seed, &fixture, every, |copy, file, offset, bit| {
        let what = (seal, ending, &file, offset, bit);
        let kind = file.to_string_lossy();
        let is_table = named.contains(&file);
        let tally = if is_table {
            &mut tables
        } else if kind.contains("/log/") {
            &mut logs
        } else {
            &mut others
        };
        let Some(db) = opened_or_named(fixture.open(&copy), &file, &what) else { return tally.refused += 1 };
        shows_no_user_bytes(&db.recovery_report().to_string());
        let corrupt = check_reads(&db, fixture.state(), &what);
        tally.damaged += usize::from(corrupt > 0);
        tally.right += usize::from(corrupt == 0);
        let problems = db.verify().expect("the database is open").problems;
        shows_no_user_bytes(&problems.concat());
        assert_eq!(problems.is_empty(), corrupt == 0, "verify after {what:?}: {problems:?}");
        assert!(
            !is_table || problems.iter().any(|text| text.contains(&stem(&file))),
            "{what:?}: {problems:?}"
        );
        assert!(corrupt == 0 || all_are_there(&copy, &named), "a table was removed after {what:?}");
    });
    assert!(tables.damaged > 0 && tables.right == 0, "{tables:?}");
    assert_eq!(tables.refused, 0, "one table keeps the others from being read: {tables:?}");
    assert!(others.refused > 0, "{others:?}");
    assert!(ending == Ending::Closed || logs.refused > 0 && logs.right > 0, "{logs:?}");
    assert_eq!(logs.damaged, 0);
}

#[test]
fn a_flipped_bit_after_a_close_is_an_error_or_harmless() {
    pugdb_sim::check(TARGET, "a_flipped_bit_after_a_close", [1], |seed| {
        flips_are_noticed_or_harmless(seed, Seal::Plain, Ending::Closed, 1);
    });
}

#[test]
fn a_flipped_bit_after_the_last_handle_was_dropped_is_an_error_or_harmless() {
    pugdb_sim::check(TARGET, "a_flipped_bit_after_the_last_handle", [2], |seed| {
        flips_are_noticed_or_harmless(seed, Seal::Plain, Ending::Dropped, 1);
    });
}

#[test]
fn a_flipped_bit_after_a_kill_loses_nothing_that_a_mark_states() {
    pugdb_sim::check(TARGET, "a_flipped_bit_after_a_kill", [3], |seed| {
        flips_are_noticed_or_harmless(seed, Seal::Plain, Ending::KilledWithMark, 1);
    });
}

#[test]
fn a_flipped_bit_of_a_sealed_database_is_an_error_or_harmless() {
    pugdb_sim::check(TARGET, "a_flipped_bit_of_a_sealed", [4, 5, 6], |seed| {
        let endings = [Ending::Closed, Ending::Dropped, Ending::KilledWithMark];
        let ending = endings[usize::try_from(seed % 3).expect("it is below 3")];
        flips_are_noticed_or_harmless(seed, Seal::Cipher, ending, 3);
    });
}

#[test]
fn a_flipped_bit_of_an_encrypted_database_is_an_error_or_harmless() {
    pugdb_sim::check(TARGET, "a_flipped_bit_of_an_encrypted", [7, 8, 9], |seed| {
        let endings = [Ending::Closed, Ending::Dropped, Ending::KilledWithMark];
        let ending = endings[usize::try_from(seed % 3).expect("it is below 3")];
        flips_are_noticed_or_harmless(seed, Seal::Keys, ending, 3);
    });
}

/// The last record is the only one that nothing states to be durable.
#[test]
fn without_a_mark_a_flipped_bit_of_the_log_costs_the_last_commit_at_most() {
    pugdb_sim::check(TARGET, "without_a_mark", [7, 8], |seed| {
        let fixture = Fixture::new(seed, Seal::Plain, Ending::KilledAtOnce);
        let (last, others) = fixture.records.split_last().expect("there are commits");
        let is_alone = others.last().is_some_and(|before| before.file != last.file);
        let mut lost = 0_u64;
        for (file, _) in fixture.files_of("/log/") {
            for offset in offsets(&fixture, &file, 1) {
                let copy = fixture.copy();
                let what = (&file, offset);
                copy.flip_bit(&file, offset, 3).expect("the byte is there");
                let Some(db) = opened_or_named(fixture.open(&copy), &file, &what) else { continue };
                let found = read_all(&db).expect("no table is damaged");
                if found == fixture.states[fixture.states.len() - 2] {
                    let is_last =
                        file == last.file && offset < last.end && (is_alone || offset >= last.start);
                    assert!(is_last, "the last commit is lost after {what:?}");
                    assert!(db.recovery_report().cut.is_some_and(|cut| cut.file.contains(&stem(&file))));
                    lost += 1;
                } else {
                    assert!(found == *fixture.state(), "more than the last commit is lost after {what:?}");
                }
            }
        }
        assert!(lost + 8 >= last.end - last.start, "{lost} flips cost the last commit");
    });
}

/// How many commits are whole in a log that has lost everything behind `length` in `file`. The zeros between records mean
/// nothing.
fn whole_records(fixture: &Fixture, file: &Path, length: u64) -> usize {
    let bytes = fixture.copy().read_file(file).expect("it is there");
    let is_zero =
        |at: u64| bytes.get(usize::try_from(at).expect("it is small")).is_none_or(|&byte| byte == 0);
    let is_whole = |end: u64| end <= length || end < length + 8 && (length..end).all(is_zero);
    fixture.records.iter().filter(|record| record.file != file || is_whole(record.end)).count()
}

/// The state after a cut of the log: what is left is told by the records alone.
fn expected_after_cut<'a>(fixture: &'a Fixture, file: &Path, length: u64) -> &'a pugdb_tests::hostile::State {
    let is_last = fixture.records.last().is_some_and(|last| last.file == file);
    if is_last { &fixture.states[whole_records(fixture, file, length)] } else { fixture.state() }
}

/// The lengths to which a file is cut.
fn lengths(fixture: &Fixture, file: &Path, length: u64) -> Vec<u64> {
    let ends = fixture.records.iter().filter(|record| record.file == *file);
    let ends = ends.flat_map(|record| [record.start, record.end - 1, record.end, record.end + 1]);
    let mut lengths: Vec<u64> = ends.chain(0..140).chain((140..length).step_by(7)).collect();
    if length > 8000 {
        lengths.retain(|length| length % 11 < 3 || *length < 140);
    }
    lengths.push(length - 1);
    lengths.retain(|&cut| cut < length);
    lengths
}

#[test]
fn a_file_cut_off_anywhere_is_an_error_or_ends_at_a_whole_commit() {
    let endings = [Ending::Closed, Ending::Dropped, Ending::KilledWithMark, Ending::KilledAtOnce];
    pugdb_sim::check(TARGET, "a_file_cut_off", 10..20, |seed| {
        let number = usize::try_from(seed).expect("it is small");
        let seal = [Seal::Plain, Seal::Cipher, Seal::Keys][number.saturating_sub(10) / 4];
        let ending = endings[number % 4];
        let fixture = Fixture::new(seed, seal, ending);
        let named = named_tables(&fixture);
        let mut shortened = 0;
        for (file, length) in fixture.files() {
            let is_log = file.starts_with("db/log");
            for cut in lengths(&fixture, &file, length) {
                let copy = fixture.copy();
                copy.truncate_file(&file, cut).expect("it is there");
                let what = (seal, ending, &file, cut);
                let (db, text) = opened(fixture.open(&copy), &what);
                let Some(db) = db else {
                    // A manifest cut between two edits is whole: what they spoke of is missing then, and is named.
                    let is_named = text.contains(&stem(&file)) || file.to_string_lossy().contains("manifest");
                    assert!(is_named, "after {what:?} the message names another file: {text}");
                    continue;
                };
                let expected =
                    if is_log { expected_after_cut(&fixture, &file, cut) } else { fixture.state() };
                let corrupt = check_reads(&db, expected, &what);
                // A manifest that has lost the edit by which a truncated table went names a table that is not there.
                let is_manifest = file.to_string_lossy().contains("manifest");
                assert!(is_manifest || (corrupt > 0) == named.contains(&file), "{what:?}");
                assert!(corrupt == 0 || all_are_there(&copy, &named), "a table was removed after {what:?}");
                shortened += usize::from(expected != fixture.state());
                assert!(expected == fixture.state() || ending != Ending::Dropped, "{what:?}");
            }
        }
        // Where the log alone knows of its end, a cut at a record's edge cannot be told from a torn tail.
        assert_eq!(
            shortened > 0,
            matches!(ending, Ending::KilledAtOnce | Ending::KilledWithMark),
            "{ending:?}"
        );
    });
}

#[test]
fn a_missing_file_is_an_error_or_the_end_of_the_log() {
    let endings = [Ending::Closed, Ending::Dropped, Ending::KilledWithMark, Ending::KilledAtOnce];
    for (seed, ending) in (20..).zip(endings) {
        let fixture = Fixture::new(seed, Seal::Plain, ending);
        let named = named_tables(&fixture);
        for (file, _) in fixture.files() {
            let copy = fixture.copy();
            copy.remove_file(&file).expect("it is there");
            let what = (ending, "removed", &file);
            match fixture.open(&copy) {
                Err(error) => {
                    let text = decent(&error);
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "{what:?}: {text}");
                    let names_it = text.contains(&stem(&file))
                        || file.starts_with("db/log") && text.contains("db/log")
                        || text.contains("log segment");
                    assert!(names_it, "{what:?}: {text}");
                }
                Ok(db) => {
                    let is_last = fixture.records.last().is_some_and(|last| last.file == file);
                    let is_obsolete = file.starts_with("db/tables") || file.starts_with("db/log") && !is_last;
                    assert!(is_last && ending != Ending::Dropped || is_obsolete, "opened after {what:?}");
                    let corrupt = check_reads(&db, expected_after_cut(&fixture, &file, 0), &what);
                    assert_eq!(corrupt > 0, named.contains(&file), "{what:?}");
                    let problems = db.verify().expect("the database is open").problems;
                    let is_named = problems.iter().any(|text| text.contains(&stem(&file)));
                    assert_eq!(is_named, named.contains(&file), "verify after {what:?}: {problems:?}");
                }
            }
        }
    }
}

/// Damage while the database is open: the walk finds it, or it lies in bytes that mean nothing.
#[test]
fn verify_of_an_open_database_finds_every_flip_that_matters() {
    pugdb_sim::check(TARGET, "verify_of_an_open_database", [30, 31, 32], |seed| {
        let seal = if seed == 31 { Seal::Cipher } else { Seal::Plain };
        let fixture = Fixture::new(seed, seal, Ending::KilledWithMark);
        let opened_copy = || {
            let copy = fixture.copy();
            let db = fixture.open(&copy).expect("the files are whole");
            // The segment that is being written is there, too.
            let space = db.keyspace(fixture.state().keys().next().expect("there are keyspaces"));
            space.and_then(|space| space.delete(b"none")).expect("the disk is well");
            assert_eq!(db.verify().expect("the database is open").problems, [""; 0]);
            (copy, db)
        };
        let (model, db) = opened_copy();
        let (mut found, mut harmless) = (0, 0);
        for (file, _) in model.files().into_iter().filter(|(file, _)| !file.ends_with("LOCK")) {
            let used = model.read_file(&file).expect("it is there").iter().rposition(|&byte| byte != 0);
            let used = used.map_or(0, |last| last as u64 + 40);
            let every = (used / 60).max(1) | 1;
            for offset in (seed % every..used).step_by(usize::try_from(every).expect("it is small")) {
                let (copy, db) = opened_copy();
                if copy.flip_bit(&file, offset, 6).is_err() {
                    continue;
                }
                let what = (seal, &file, offset);
                let problems = db.verify().expect("the database is open").problems;
                shows_no_user_bytes(&problems.concat());
                if problems.is_empty() {
                    let after = copy.kill();
                    drop(db);
                    let db = fixture.open(&after).unwrap_or_else(|error| panic!("{what:?}: {error}"));
                    assert_eq!(check_reads(&db, fixture.state(), &what), 0, "verify missed {what:?}");
                    harmless += 1;
                } else {
                    assert!(
                        problems.iter().any(|text| text.contains(&stem(&file))),
                        "{what:?}: {problems:?}"
                    );
                    found += 1;
                }
            }
        }
        drop((model, db));
        assert!(found > 10 * harmless && harmless > 0, "{found} found, {harmless} harmless");
    });
}
