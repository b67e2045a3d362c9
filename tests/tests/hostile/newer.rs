//! Files that a newer version wrote: whole, and not known here. They are refused as such; nothing of them is cut, removed or put in
//! quarantine, and the newer version finds everything as it was.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pugdb::{Database, ErrorKind, Keyspace, KeyspaceOptions};
use pugdb_core::FileId;
use pugdb_core::env::Access;
use pugdb_core::seam::Plain;
use pugdb_lsm::checksum::Checksum;
use pugdb_lsm::file::{FORMAT_VERSION, FileHeader};
use pugdb_lsm::frame::{FrameReader, HEADER_BYTES, Step, first_offset};
use pugdb_lsm::inspect::{Detail, inspect};
use pugdb_sim::World;
use pugdb_tests::hostile::{DIR, Ending, Fixture, Seal, builder, check_reads, decent, name, read_all};
use xxhash_rust::xxh3::xxh3_64;

use super::TARGET;

/// Where a header has its version, its kind and its features.
const VERSION_AT: usize = 8;
const KIND_AT: usize = 10;
const FEATURES_AT: usize = 11;

/// All files but the lock, with their bytes.
fn image(world: &World) -> Vec<(PathBuf, Vec<u8>)> {
    let files = world.files().into_iter().filter(|(path, _)| !path.ends_with("LOCK"));
    files.map(|(path, _)| (path.clone(), world.read_file(&path).expect("it is there"))).collect()
}

fn put_checksum(bytes: &mut [u8], content: std::ops::Range<usize>, id: FileId, position: usize) {
    let checksum = Checksum::of(id).at(position as u64, &bytes[content.clone()]);
    bytes[content.end..content.end + 8].copy_from_slice(&checksum.to_le_bytes());
}

fn id_of(bytes: &[u8]) -> FileId {
    FileId(bytes[32..48].try_into().expect("a header is longer"))
}

fn header_bytes(bytes: &[u8]) -> usize {
    u32::from_le_bytes(bytes[12..16].try_into().expect("a header is longer")) as usize
}

/// Changes a byte of a file's header, and makes its checksum.
fn change_header(world: &World, file: &Path, at: usize, byte: u8) {
    let mut bytes = world.read_file(file).expect("it is there");
    bytes[at] = byte;
    let (end, id) = (header_bytes(&bytes) - 8, id_of(&bytes));
    put_checksum(&mut bytes, 0..end, id, 0);
    world.write_file(file, &bytes).expect("it is there");
}

/// Where a record lies.
struct Place {
    start: usize,
    /// Its head.
    head: usize,
    /// Its first section, if it has one.
    section: usize,
    end: usize,
}

/// Of a log record.
const CREATE_KEYSPACE: u8 = 2;

/// The records of a plain log segment or manifest.
fn records(world: &World, file: &Path) -> Vec<Place> {
    let bytes = world.read_file(file).expect("it is there");
    let opened = world.env().fs.open(file, Access::Read).expect("it is there");
    let header = FileHeader::read_any(&*opened, &Plain).expect("it is whole");
    let id = header.header.context.file;
    let mut reader = FrameReader::new(opened, id, Arc::new(Plain), u64::MAX).expect("it is there");
    let (mut records, mut offset) = (Vec::new(), first_offset(header.bytes));
    while let Step::Frame(frame) = reader.step(offset).expect("it is whole") {
        let at = usize::try_from(offset).expect("it is small");
        let length =
            |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize;
        let framing = at + HEADER_BYTES + length(at + 8);
        // The head is the last of the framing.
        let (head, end) = (framing - frame.head.len(), at + HEADER_BYTES + length(at + 4));
        records.push(Place { start: at, head, section: framing, end });
        offset = frame.next;
    }
    records
}

/// Changes a byte of a record, and makes its checksums.
fn change_record(world: &World, file: &Path, (start, end): (usize, usize), at: usize, byte: u8) {
    let mut bytes = world.read_file(file).expect("it is there");
    bytes[at] = byte;
    let id = id_of(&bytes);
    let body = Checksum::of(id).at((start + HEADER_BYTES) as u64, &bytes[start + HEADER_BYTES..end]);
    bytes[start + 16..start + 24].copy_from_slice(&body.to_le_bytes());
    put_checksum(&mut bytes, start..start + 24, id, start);
    world.write_file(file, &bytes).expect("it is there");
}

/// The open is refused, the file named, and nothing changed.
fn is_left_alone(fixture: &Fixture, copy: &World, what: &str) {
    let before = image(copy);
    let error = fixture.open(copy).map(drop).expect_err(what);
    let text = decent(&error);
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{what}: {text}");
    assert!(text.contains("newer version"), "{what}: {text}");
    assert!(image(copy) == before, "the open has changed something: {what}");
}

#[test]
fn a_log_or_manifest_of_a_newer_version_keeps_the_database_closed_and_as_it_was() {
    let newer = FORMAT_VERSION.to_le_bytes()[0] + 1;
    for (seed, ending) in (1..).zip([Ending::Dropped, Ending::KilledWithMark, Ending::KilledAtOnce]) {
        let fixture = Fixture::new(seed, Seal::Plain, ending);
        let mut files = fixture.files_of("/log/");
        files.extend(fixture.files_of("manifest-"));
        // One that was made ahead of time has no header yet.
        files.retain(|(file, _)| fixture.copy().read_file(file).is_ok_and(|bytes| bytes[0] != 0));
        assert!(files.len() > 3, "{files:?}");
        for (file, _) in files {
            for (at, byte) in [(VERSION_AT, newer), (KIND_AT, 77), (FEATURES_AT, 1)] {
                let copy = fixture.copy();
                let whole = copy.read_file(&file).unwrap();
                change_header(&copy, &file, at, byte);
                let what = format!("{ending:?}: byte {at} of {}", file.display());
                is_left_alone(&fixture, &copy, &what);
                copy.write_file(&file, &whole).unwrap();
                let db = fixture.open(&copy).expect("the newer version opens it");
                assert!(read_all(&db).unwrap() == *fixture.state(), "{what}");
            }
        }
    }
}

/// The last records too: nothing states that they are durable, and they are no torn tail.
#[test]
fn a_record_that_a_newer_version_wrote_is_never_cut() {
    for (seed, ending) in (11..).zip([Ending::Dropped, Ending::KilledWithMark, Ending::KilledAtOnce]) {
        let fixture = Fixture::new(seed, Seal::Plain, ending);
        let (mut changed, mut sections) = (0, 0);
        for (file, _) in fixture.files() {
            let is_shared = file.starts_with("db/log") || file.to_string_lossy().contains("manifest-");
            let is_begun = fixture.copy().read_file(&file).is_ok_and(|bytes| bytes[0] != 0);
            if !is_shared || !is_begun {
                continue;
            }
            for Place { start, head, section, end } in records(&fixture.copy(), &file) {
                let copy = fixture.copy();
                // The kind of a log record; of a manifest's, how many edits there are: one more than is read.
                let is_log = file.starts_with("db/log");
                let was = copy.read_file(&file).unwrap()[head];
                let byte = if is_log { was | 0x80 } else { was - 1 };
                change_record(&copy, &file, (start, end), head, byte);
                let what = format!("{ending:?}: the record at {start} of {}", file.display());
                is_left_alone(&fixture, &copy, &what);
                change_record(&copy, &file, (start, end), head, was);
                if is_log && was == CREATE_KEYSPACE {
                    // Its section begins with the engine, one that there is not.
                    change_record(&copy, &file, (start, end), section, 9);
                    is_left_alone(&fixture, &copy, &format!("{what}, its section"));
                    change_record(&copy, &file, (start, end), section, 1);
                    sections += 1;
                }
                let db = fixture.open(&copy).expect("the newer version opens it");
                assert!(read_all(&db).unwrap() == *fixture.state(), "{what}");
                changed += 1;
            }
        }
        assert!(changed > 20 && sections > 0, "{changed} records, {sections} of them with a section");
    }
}

#[test]
fn a_stream_that_this_version_does_not_read_keeps_the_database_closed() {
    let fixture = Fixture::new(21, Seal::Plain, Ending::Dropped);
    let (file, _) = fixture.files_of("/log/").remove(0);
    let other = |name: &str| Path::new(DIR).join("log").join(name);
    let copy = fixture.copy();
    let bytes = copy.read_file(&file).unwrap();
    copy.write_file(other("1-0000000001.log"), &bytes).unwrap();
    is_left_alone(&fixture, &copy, "a segment of stream 1");
    copy.remove_file(other("1-0000000001.log")).unwrap();
    // What no version calls a segment is somebody's own.
    for ours in ["0-1.log", "0-+000000001.log", "00-0000000001.log"] {
        copy.write_file(other(ours), &bytes).unwrap();
    }
    assert!(read_all(&fixture.open(&copy).unwrap()).unwrap() == *fixture.state());
    // Behind the header's parts of fixed length stands the extra one, which begins with the stream.
    let copy = fixture.copy();
    change_header(&copy, &file, 56, 1);
    let error = fixture.open(&copy).map(drop).expect_err("it says that it is of another stream");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", decent(&error));
    // A number that none can follow is an error, too.
    let copy = fixture.copy();
    copy.write_file(other(&format!("0-{}.log", u64::MAX)), &bytes).unwrap();
    let error = fixture.open(&copy).map(drop).expect_err("it cannot be a segment");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", decent(&error));
}

#[test]
fn a_current_of_a_newer_version_keeps_the_database_closed() {
    let fixture = Fixture::new(22, Seal::Plain, Ending::Closed);
    let (copy, current) = (fixture.copy(), Path::new(DIR).join("CURRENT"));
    let text = String::from_utf8(copy.read_file(&current).unwrap()).unwrap();
    let rest = text.strip_prefix("pugdb 1 ").expect("it says its version");
    let long = "a word more ".repeat(300);
    for newer in [rest.rsplit_once(' ').unwrap().0, long.trim_end()] {
        let line = format!("pugdb 2 {newer}");
        let line = format!("{line} {:016x}\n", xxh3_64(line.as_bytes()));
        copy.write_file(&current, line.as_bytes()).unwrap();
        is_left_alone(&fixture, &copy, "CURRENT of version 2");
    }
    copy.write_file(&current, text.as_bytes()).unwrap();
    assert_eq!(check_reads(&fixture.open(&copy).unwrap(), fixture.state(), &"CURRENT came back"), 0);
}

/// The segment that was being begun when the power went: of its first sector only the magic, or a little more, has come to the disk.
#[test]
fn a_header_torn_anywhere_is_no_other_version() {
    let fixture = Fixture::new(23, Seal::Plain, Ending::Dropped);
    let (last, _) = fixture.files_of("/log/").pop().unwrap();
    let bytes = fixture.copy().read_file(&last).unwrap();
    let number: u64 = last.file_stem().unwrap().to_str().unwrap()[2..].parse().unwrap();
    let next = last.with_file_name(format!("0-{:010}.log", number + 1));
    for end in 0..header_bytes(&bytes) {
        let copy = fixture.copy();
        let torn = [&bytes[..end], &vec![0; 4096 - end]].concat();
        copy.write_file(&next, &torn).unwrap();
        let db = fixture.open(&copy).unwrap_or_else(|error| panic!("torn at {end}: {error}"));
        assert!(read_all(&db).unwrap() == *fixture.state(), "torn at {end}");
    }
}

const KEYS: u32 = 60;

fn options() -> KeyspaceOptions {
    KeyspaceOptions { separate_values: Some(600), block_bytes: Some(1024), ..KeyspaceOptions::default() }
}

fn scrubbing(world: &World) -> Database {
    let builder = builder(world, Seal::Plain).cache_bytes(0).scrub_interval(Some(Duration::from_hours(1)));
    builder.open(DIR).unwrap()
}

fn entry(number: u32) -> (Vec<u8>, Vec<u8>) {
    (format!("k{number:03}").into_bytes(), vec![b'v'; if number.is_multiple_of(7) { 700 } else { 150 }])
}

/// One run, with values beside it.
fn filled(world: &World) -> Keyspace {
    let db = scrubbing(world);
    let space = db.keyspace_with(&name("main"), options()).unwrap();
    for number in 0..KEYS {
        let (key, value) = entry(number);
        space.put(key, value).unwrap();
    }
    db.flush().unwrap();
    space
}

fn rest(world: &World) {
    for _ in 0..200 {
        world.advance(Duration::from_mins(1));
        world.run_until_idle();
    }
}

/// What is wrong with each key, and how many are right. Nobody gets another value.
fn read_each(space: &Keyspace, what: &str) -> usize {
    let right = |number: &u32| {
        let (key, value) = entry(*number);
        match space.get(key) {
            Ok(found) => {
                assert!(found.as_deref() == Some(&value[..]), "{what}");
                true
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{what}: {}", decent(&error));
                false
            }
        }
    };
    (0..KEYS).filter(right).count()
}

/// Puts bytes in place of the newer version's, has everything look at the file that would quarantine what is damaged, and takes
/// them back.
fn is_never_quarantined(world: &World, file: &Path, newer: &[u8], what: &str) {
    let copy = world.kill();
    let whole = copy.read_file(file).unwrap();
    copy.write_file(file, newer).unwrap();
    let db = scrubbing(&copy);
    let space = db.keyspace(&name("main")).unwrap();
    assert!(read_each(&space, what) < KEYS as usize, "{what}");
    let problems = db.verify().unwrap().problems;
    assert!(problems.iter().any(|problem| problem.contains("newer version")), "{what}: {problems:?}");
    // The scrub comes by more than once, and merges want the run.
    for round in 0..6_u32 {
        for number in 0..KEYS {
            space.put(entry(number).0, vec![b'x'; 100 + round as usize]).unwrap();
        }
        db.flush().unwrap();
        rest(&copy);
    }
    let asked = space.compact_range(..);
    assert!(!matches!(&asked, Err(error) if error.kind() == ErrorKind::Corrupt), "{what}: {asked:?}");
    assert_eq!(db.stats().unwrap().quarantined, 0, "{what}");
    drop((space, db));
    // The newer version again.
    copy.write_file(file, &whole).unwrap();
    let db = scrubbing(&copy);
    let space = db.keyspace(&name("main")).unwrap();
    space.compact_range(..).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!((db.stats().unwrap().quarantined, db.verify().unwrap().problems), (0, Vec::new()), "{what}");
    assert!((0..KEYS).all(|number| space.get(entry(number).0).unwrap().is_some()), "{what}");
}

fn find(world: &World, extension: &str) -> (PathBuf, Vec<u8>) {
    let files = world.files().into_iter().map(|(path, _)| path);
    let file = files.into_iter().find(|path| path.extension().is_some_and(|kind| kind == extension)).unwrap();
    let bytes = world.read_file(&file).unwrap();
    (file, bytes)
}

/// The first part of this name, as `inspect` tells it.
fn part(world: &World, file: &Path, what: &str) -> (usize, usize) {
    let (mut found, world) = (None, world.kill());
    inspect(&world.env(), file, &Plain, Detail::Structure, &mut |part| {
        if part.what == what && found.is_none() {
            found = Some((part.offset, part.bytes));
        }
        Ok(())
    })
    .unwrap();
    let (offset, bytes) = found.expect("there is one");
    (usize::try_from(offset).unwrap(), usize::try_from(bytes).unwrap())
}

#[test]
fn a_table_or_value_file_of_a_newer_version_is_an_error_and_not_damaged() {
    pugdb_sim::check(TARGET, "a_table_or_value_file_of_a_newer", [31], |seed| {
        let world = World::new(seed);
        drop(filled(&world));
        let newer = FORMAT_VERSION.to_le_bytes()[0] + 1;
        for extension in ["table", "values"] {
            let (file, bytes) = find(&world, extension);
            for (at, byte) in [(VERSION_AT, newer), (KIND_AT, 77), (FEATURES_AT, 128)] {
                let scratch = world.kill();
                change_header(&scratch, &file, at, byte);
                let mut changed = scratch.read_file(&file).unwrap();
                assert_eq!(changed.len(), bytes.len());
                let what = format!("byte {at} of a file of kind {extension}");
                is_never_quarantined(&world, &file, &changed, &what);
                if at == VERSION_AT && extension == "table" {
                    // It may end in another way, too.
                    let end = changed.len() - 56;
                    changed[end..].fill(0xee);
                    is_never_quarantined(&world, &file, &changed, &format!("{what}, and another footer"));
                }
            }
        }
    });
}

#[test]
fn a_block_or_a_record_of_a_newer_version_is_an_error_and_not_damaged() {
    pugdb_sim::check(TARGET, "a_block_or_a_record_of_a_newer", [32], |seed| {
        let world = World::new(seed);
        drop(filled(&world));
        for (extension, what) in [("table", "block"), ("table", "filter"), ("values", "value")] {
            let (file, mut bytes) = find(&world, extension);
            let (start, length) = part(&world, &file, what);
            let (end, id) = (start + length - 8, id_of(&bytes));
            // Before the checksum stands how it is compressed.
            bytes[end - 1] = 200;
            put_checksum(&mut bytes, start..end, id, start);
            is_never_quarantined(&world, &file, &bytes, what);
        }
    });
}
