//! The directory is somebody else's, in use, forbidden, or half a database: one clear sentence, and nothing is touched.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use pugdb::env::{Access, Env};
use pugdb::{Database, Error, ErrorKind};
use pugdb_sim::World;
use pugdb_tests::hostile::{DIR, Ending, Fixture, Seal, builder, check_reads, decent, name, open, read_all};

fn refused(kind: ErrorKind, says: &str, outcome: pugdb::Result<Database>) -> Error {
    let error = outcome.expect_err("the directory is no place for this database");
    let text = decent(&error);
    assert_eq!(error.kind(), kind, "{text}");
    assert!(text.contains(says), "`{says}` is not said: {text}");
    error
}

#[test]
fn a_second_open_is_told_who_has_it() {
    let world = World::new(230);
    let db = open(&world, Seal::Plain).unwrap();
    let space = db.keyspace("k").unwrap();
    space.put(b"k", b"v").unwrap();
    for _ in 0..3 {
        refused(ErrorKind::Unavailable, "in use by process 1000", open(&world, Seal::Plain));
        space.put(b"k", b"w").unwrap();
    }
    // It is free with the close, though handles are left; and with the last handle; and with the process.
    db.close().unwrap();
    let second = open(&world, Seal::Plain).unwrap();
    assert_eq!(second.keyspace("k").unwrap().get(b"k").unwrap().unwrap(), b"w");
    drop((db, space));
    refused(ErrorKind::Unavailable, "in use by process 1000", open(&world, Seal::Plain));
    drop(second);
    let third = open(&world, Seal::Plain).unwrap();
    let next = world.kill();
    drop(third);
    open(&next, Seal::Plain).unwrap();
}

#[test]
fn a_second_open_on_the_real_system_is_told_who_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path()).unwrap();
    let says = format!("in use by process {};", std::process::id());
    refused(ErrorKind::Unavailable, &says, Database::open(dir.path()));
    db.keyspace("k").unwrap().put(b"k", b"v").unwrap();
    db.close().unwrap();
    assert_eq!(Database::open(dir.path()).unwrap().keyspaces().unwrap(), ["k"]);
}

#[test]
fn a_directory_with_other_files_is_refused_and_untouched() {
    for file in ["notes.txt", "CURRENT.bak", "manifest-old", "tables.zip"] {
        let world = World::new(231);
        world.write_file(Path::new(DIR).join(file), b"mine").unwrap();
        refused(ErrorKind::Invalid, "not empty", open(&world, Seal::Plain));
        assert_eq!(world.files(), [(Path::new(DIR).join(file), 4)]);
    }
    // What a creation that was cut off leaves behind is nobody's.
    let world = World::new(232);
    world.write_file(Path::new(DIR).join("LOCK"), b"77").unwrap();
    world.write_file(Path::new(DIR).join("CURRENT.new"), b"half a li").unwrap();
    world.write_file(Path::new(DIR).join("manifest-0000000001"), b"half").unwrap();
    assert!(open(&world, Seal::Plain).unwrap().recovery_report().created);
}

#[test]
fn a_database_without_current_is_corrupt_and_untouched() {
    for (seed, ending) in (233..).zip([Ending::Closed, Ending::Dropped, Ending::KilledWithMark]) {
        let fixture = Fixture::new(seed, Seal::Plain, ending);
        let (copy, current) = (fixture.copy(), Path::new(DIR).join("CURRENT"));
        let bytes = copy.read_file(&current).unwrap();
        copy.remove_file(&current).unwrap();
        refused(ErrorKind::Corrupt, "CURRENT", fixture.open(&copy));
        copy.write_file(&current, &bytes).unwrap();
        assert_eq!(check_reads(&fixture.open(&copy).unwrap(), fixture.state(), &"CURRENT came back"), 0);
    }
}

/// Neither log nor tables are left after a close, but keyspaces are: they must not be lost in silence.
#[test]
fn a_database_of_empty_keyspaces_without_current_is_corrupt() {
    for reopens in 0..3 {
        let world = World::new(236);
        open(&world, Seal::Plain)
            .and_then(|db| db.keyspace(&name("empty")).and_then(|_| db.close()))
            .unwrap();
        for _ in 0..reopens {
            open(&world, Seal::Plain).and_then(|db| db.close()).unwrap();
        }
        world.remove_file(Path::new(DIR).join("CURRENT")).unwrap();
        refused(ErrorKind::Corrupt, "CURRENT", open(&world, Seal::Plain));
    }
}

#[test]
fn a_directory_that_is_not_there_is_made_or_not_found() {
    let world = World::new(237);
    let none = builder(&world, Seal::Plain).create_if_missing(false);
    refused(ErrorKind::NotFound, "no database", none.open(DIR));
    assert_eq!(world.files(), []);
    let deep = "a/b/c/db";
    builder(&world, Seal::Plain).open(deep).unwrap().keyspace("k").unwrap();
    let next = world.power_cut();
    assert_eq!(builder(&next, Seal::Plain).open(deep).unwrap().keyspaces().unwrap(), ["k"]);
}

#[test]
fn a_file_in_place_of_the_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    Env::os().fs.create(&path).unwrap();
    let error = Database::open(&path).unwrap_err();
    decent(&error);
    assert!(
        matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Unavailable | ErrorKind::Conflict),
        "{error:?}"
    );
    let error = Database::open(path.join("below")).unwrap_err();
    decent(&error);
}

// No rights: root has all of them, so a child without them tries.

const CHILD: &str = "PUGDB_TEST_FORBIDDEN_DIR";

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// What the child without rights does: each directory below, one sentence each.
fn open_forbidden(dir: &Path) {
    for place in ["closed", "readonly", "foreign", "foreign_current"] {
        refused(ErrorKind::Denied, "ermission denied", Database::open(dir.join(place)));
    }
    refused(ErrorKind::Denied, "check owner and mode", Database::open(dir.join("readonly/new")));
    println!("the child was denied");
}

/// Directories that nobody but the owner may use.
fn make_forbidden(dir: &Path) {
    set_mode(dir, 0o755);
    for place in ["closed", "readonly", "foreign", "foreign_current"] {
        let path = dir.join(place);
        std::fs::create_dir(&path).unwrap();
        if place.starts_with("foreign") {
            let db = Database::open(&path).unwrap();
            db.keyspace("k").and_then(|space| space.put(b"k", b"v")).unwrap();
            db.close().unwrap();
            set_mode(&path.join("LOCK"), 0o600);
        }
    }
    set_mode(&dir.join("foreign_current/CURRENT"), 0o600);
    set_mode(&dir.join("closed"), 0o700);
    set_mode(&dir.join("readonly"), 0o555);
}

/// The test binary where a user without rights can run it.
fn runnable_copy(dir: &Path) -> PathBuf {
    let copy = dir.join("tests");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    set_mode(&copy, 0o755);
    copy
}

#[test]
fn without_rights_it_is_denied_in_one_sentence() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return open_forbidden(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    make_forbidden(dir.path());
    let probe = dir.path().join("readonly/probe");
    let may_do_anything = Env::os().fs.create(&probe).and_then(|_| Env::os().fs.remove(&probe)).is_ok();
    if !may_do_anything {
        // An ordinary user: what is its own is forbidden by mode alone.
        set_mode(&dir.path().join("closed"), 0o000);
        set_mode(&dir.path().join("foreign/LOCK"), 0o000);
        set_mode(&dir.path().join("foreign_current/CURRENT"), 0o000);
        open_forbidden(dir.path());
        // Or nobody could remove them.
        for place in ["closed", "readonly"] {
            set_mode(&dir.path().join(place), 0o755);
        }
        return;
    }
    let mut child = Command::new("setpriv");
    child.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]);
    child.arg(runnable_copy(dir.path()));
    child.args(["--exact", "directory::without_rights_it_is_denied_in_one_sentence", "--nocapture"]);
    child.env(CHILD, dir.path()).current_dir("/");
    let output = match child.output() {
        Ok(output) => output,
        Err(error) => return println!("skipped: this is root, and setpriv does not run: {error}"),
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("the child was denied"), "{said}{why}");
    let db = Database::open(dir.path().join("foreign")).unwrap();
    assert_eq!(db.keyspace("k").unwrap().get(b"k").unwrap().unwrap(), b"v");
}

#[test]
fn a_lost_right_to_read_a_file_is_denied_and_not_taken_for_damage() {
    let fixture = Fixture::new(238, Seal::Plain, Ending::KilledWithMark);
    for (file, _) in fixture.files() {
        let copy = fixture.copy();
        let forbidden = file.clone();
        copy.fail_when(move |_, path| (path == forbidden).then_some(std::io::ErrorKind::PermissionDenied));
        let before = copy.files();
        match fixture.open(&copy) {
            Ok(db) => {
                // A table is opened by the first who needs it, and tried again by the next.
                match read_all(&db) {
                    Ok(state) => assert!(state == *fixture.state(), "{file:?}"),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Denied, "{file:?}: {}", decent(&error)),
                }
                copy.heal();
                assert_eq!(check_reads(&db, fixture.state(), &file), 0);
                assert_eq!(db.stats().unwrap().quarantined, 0, "{file:?}");
            }
            Err(error) => {
                decent(&error);
                assert_eq!(error.kind(), ErrorKind::Denied, "{file:?}: {error}");
            }
        }
        copy.heal();
        assert!(before.iter().all(|(path, _)| !path.starts_with("db/log") || copy.read_file(path).is_ok()));
        assert_eq!(check_reads(&fixture.open(&copy).unwrap(), fixture.state(), &file), 0);
        assert!(copy.env().fs.open(Path::new("db/CURRENT"), Access::Read).is_ok());
    }
}
