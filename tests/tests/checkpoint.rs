//! A checkpoint is whole or not there, whatever call the machine stops at; it is a prefix of the commits, and neither of
//! the two databases touches a byte of the other.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pugdb::{Builder, Compression, Database, Durability, ErrorKind, Keyspace, KeyspaceOptions, Result};
use pugdb_core::seam::{Cipher, Plain};
use pugdb_sim::{CallKind, ModelState, TestCipher, World};
use pugdb_tests::crash::state;

const ORIGINAL: &str = "db";
const COPY: &str = "copies/first";
const UNFINISHED: &str = "copies/first.unfinished";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Dress {
    Plain,
    Sealed,
}

fn open(world: &World, dress: Dress, dir: &str) -> Result<Database> {
    let env = world.env();
    let cipher: Arc<dyn Cipher> = match dress {
        Dress::Plain => Arc::new(Plain),
        Dress::Sealed => Arc::new(TestCipher::new(7, Arc::clone(&env.random))),
    };
    let options = KeyspaceOptions {
        upper_compression: Some(Compression::Lz4),
        block_bytes: Some(512),
        separate_values: Some(350),
        ..KeyspaceOptions::default()
    };
    let builder: Builder = Database::builder().env(env).cipher(cipher).default_options(options);
    builder
        .create_if_missing(dir == ORIGINAL)
        .memory_bytes(1 << 20)
        .cache_bytes(64 << 10)
        .memtable_bytes(4 << 10)
        .log_segment_bytes(8 << 10)
        .open(dir)
}

/// Tables, and a log that is not in them; a keyspace that was dropped, one truncated, two that exchanged their names.
fn fill(world: &World, db: &Database) -> Result<()> {
    let (users, names) = (db.keyspace("users")?, db.keyspace("names")?);
    for round in 0..6_u8 {
        for number in 0..6_u8 {
            users.put([number], vec![round; 400])?;
            names.put([number, round], [round; 300])?;
        }
        users.delete([round])?;
        db.flush()?;
        world.maybe_step();
    }
    db.keyspace("gone")?.put("a", "1")?;
    db.drop_keyspace("gone")?;
    names.truncate()?;
    db.swap_keyspaces("users", "names")?;
    names.put("after", vec![9; 2000])?;
    // In the hands of the system only: what is in a checkpoint must not be lost in the original.
    users.durability(Durability::Os).put("young", "1")
}

/// The bytes of every file below a directory, by path.
fn files_below(world: &World, dir: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let below = world.files().into_iter().filter(|(path, _)| path.starts_with(dir));
    below.map(|(path, _)| (path.clone(), world.read_file(&path).expect("it is there"))).collect()
}

/// The state of the copy, which opens in good order and without damage; `None` when there is no copy.
fn copied(world: &World, dress: Dress) -> Option<ModelState> {
    let is_there = world.files().iter().any(|(path, _)| path.starts_with(COPY));
    is_there.then(|| {
        let copy = open(world, dress, COPY).unwrap_or_else(|error| panic!("the copy does not open: {error}"));
        assert!(copy.recovery_report().clean && copy.recovery_report().cut.is_none());
        assert_eq!(copy.verify().expect("it reads").problems, Vec::<String>::new());
        let state = state(&copy).expect("it reads");
        copy.keyspace("users").and_then(|users| users.put("more", "1")).expect("the disk is well");
        copy.flush().expect("the disk is well");
        state
    })
}

#[test]
fn a_copy_holds_what_the_original_held_and_neither_changes_the_other() {
    for dress in [Dress::Plain, Dress::Sealed] {
        let world = World::new(1);
        let db = open(&world, dress, ORIGINAL).unwrap();
        fill(&world, &db).unwrap();
        let before = state(&db).unwrap();
        db.checkpoint(COPY).unwrap();
        assert_eq!(state(&db).unwrap(), before);
        assert_eq!(db.checkpoint(COPY).unwrap_err().kind(), ErrorKind::Invalid, "it exists");
        // The original goes on, and merges away what it shares with the copy.
        let users = db.keyspace("users").unwrap();
        for round in 0..20_u8 {
            users.put("young", vec![round; 3000]).unwrap();
            db.flush().unwrap();
        }
        world.run_until_idle();
        let after = state(&db).unwrap();
        db.close().unwrap();
        let original = files_below(&world, ORIGINAL);
        assert_eq!(copied(&world, dress), Some(before));
        assert!(
            files_below(&world, ORIGINAL) == original,
            "opening and writing the copy changed the original"
        );
        let db = open(&world, dress, ORIGINAL).unwrap();
        assert_eq!(state(&db).unwrap(), after);
        assert!(db.verify().unwrap().problems.is_empty());
    }
}

#[test]
fn a_copy_of_a_copy_and_of_an_empty_database_are_databases() {
    let world = World::new(2);
    let db = open(&world, Dress::Plain, ORIGINAL).unwrap();
    db.checkpoint(COPY).unwrap();
    assert_eq!(copied(&world, Dress::Plain), Some(ModelState::new()));
    let copy = open(&world, Dress::Plain, COPY).unwrap();
    copy.keyspace("users").unwrap().put("a", "1").unwrap();
    copy.checkpoint("second").unwrap();
    copy.close().unwrap();
    let copy = open(&world, Dress::Plain, COPY).unwrap();
    copy.checkpoint("third").unwrap();
    for dir in ["second", "third"] {
        let copy = open(&world, Dress::Plain, dir).unwrap();
        assert_eq!(copy.keyspace("users").unwrap().get("a").unwrap().unwrap(), b"1");
    }
}

/// Runs to a checkpoint, until the machine stops. Says what the original held when it began, and how it ended.
fn run(world: &World, dress: Dress) -> (Option<ModelState>, Result<()>) {
    let mut held = None;
    let mut life = || {
        let db = open(world, dress, ORIGINAL)?;
        fill(world, &db)?;
        held = Some(state(&db)?);
        db.checkpoint(COPY)
    };
    let outcome = life();
    (held, outcome)
}

fn cut_at_every_call(seed: u64, dress: Dress, stride: usize, prepare: &dyn Fn(&World)) {
    let whole = World::new(seed);
    let begun = {
        let db = open(&whole, dress, ORIGINAL).unwrap();
        fill(&whole, &db).unwrap();
        whole.calls()
    };
    let whole = World::new(seed);
    prepare(&whole);
    run(&whole, dress).1.unwrap();
    // And some calls behind its end: what has returned stays.
    for call in (begun..whole.calls() + 20).step_by(stride) {
        let world = World::new(seed);
        prepare(&world);
        world.stop_at(call);
        let (held, outcome) = run(&world, dress);
        for after in [world.power_cut(), world.power_cut(), world.power_cut(), world.kill()] {
            let what = format!("seed {seed}, call {call}, {:?}", after.fate());
            let copy = copied(&after, dress);
            assert!(copy.is_some() || outcome.is_err(), "{what}: it had returned, and is gone");
            assert!(copy.is_none() || copy == held, "{what}: the copy is another one");
            let db = open(&after, dress, ORIGINAL).unwrap_or_else(|error| panic!("{what}: {error}"));
            let now = Some(state(&db).expect("it reads"));
            assert!(copy.is_none() || now == held, "{what}: the original has lost what is in the copy");
            if copy.is_none() {
                // What is left of the attempt is not in the way of the next one.
                db.checkpoint(COPY).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(copied(&after, dress), Some(state(&db).expect("it reads")), "{what}");
                assert!(files_below(&after, UNFINISHED).is_empty(), "{what}");
            }
        }
    }
}

#[test]
fn a_checkpoint_cut_at_every_call_is_whole_or_not_there() {
    cut_at_every_call(3, Dress::Plain, 1, &|_| {});
    cut_at_every_call(4, Dress::Sealed, 3, &|_| {});
}

#[test]
fn a_checkpoint_of_copied_tables_cut_at_calls_is_whole_or_not_there() {
    cut_at_every_call(5, Dress::Plain, 3, &no_links);
}

/// As if the directory were in another file system.
fn no_links(world: &World) {
    world.fail_when(|kind, _| (kind == CallKind::Link).then_some(io::ErrorKind::CrossesDevices));
}

/// On a disk that says yes to some syncs and does nothing, the suite goes red: none of them can be left out.
#[test]
fn without_any_one_of_its_syncs_the_suite_is_red() {
    type Lie = fn(CallKind, &Path) -> bool;
    let lies: [(&str, Lie); 7] = [
        ("copied segments", |kind, path| {
            kind == CallKind::SyncData && path.starts_with("copies/first.unfinished/log")
        }),
        ("copied tables", |kind, path| {
            kind == CallKind::SyncData && path.starts_with("copies/first.unfinished/tables")
        }),
        ("manifest", |kind, path| {
            let is_manifest = path.to_string_lossy().contains("unfinished/manifest");
            kind == CallKind::SyncData && is_manifest
        }),
        ("names of segments", |kind, path| {
            kind == CallKind::SyncDir && path.ends_with("first.unfinished/log")
        }),
        ("names of tables", |kind, path| {
            kind == CallKind::SyncDir && path.ends_with("first.unfinished/tables")
        }),
        ("names in the copy", |kind, path| kind == CallKind::SyncDir && path.ends_with("first.unfinished")),
        ("name of the copy", |kind, path| kind == CallKind::SyncDir && path.ends_with("copies")),
    ];
    // On a disk that tells the truth it is green.
    cut_at_every_call(6, Dress::Plain, 2, &no_links);
    std::panic::set_hook(Box::new(|_| {}));
    let missed: Vec<&str> = lies
        .into_iter()
        .filter(|(_, lie)| {
            let lie = *lie;
            let prepare = move |world: &World| {
                world.ignore_syncs(lie);
                no_links(world);
            };
            let suite =
                |seed| catch_unwind(AssertUnwindSafe(|| cut_at_every_call(seed, Dress::Plain, 2, &prepare)));
            (6..12).all(|seed| suite(seed).is_ok())
        })
        .map(|(what, _)| what)
        .collect();
    let _ = std::panic::take_hook();
    assert_eq!(missed, Vec::<&str>::new());
}

#[test]
fn a_checkpoint_whose_calls_fail_is_whole_or_leaves_no_database() {
    let mut failed = 0;
    for number in 1.. {
        let world = World::new(7);
        world.count_reads(true);
        let db = open(&world, Dress::Plain, ORIGINAL).unwrap();
        fill(&world, &db).unwrap();
        db.flush().unwrap();
        world.run_until_idle();
        let held = state(&db).unwrap();
        let call = world.calls() + number;
        world.fail_call(call, io::ErrorKind::Other);
        let outcome = db.checkpoint(COPY);
        let is_over = world.calls() < call;
        world.heal();
        assert!(db.failure().is_none(), "call {number}: the original is not concerned");
        let is_there = world.files().iter().any(|(path, _)| path.starts_with(COPY));
        if outcome.is_err() && !is_there {
            failed += 1;
            let left = files_below(&world, UNFINISHED);
            assert!(
                !left.contains_key(&Path::new(UNFINISHED).join("CURRENT")),
                "call {number}: {:?}",
                left.keys()
            );
            db.checkpoint(COPY).unwrap_or_else(|error| panic!("call {number}: {error}"));
        }
        // One that has its name, though the sync of that failed, is whole all the same.
        assert_eq!(copied(&world, Dress::Plain), Some(held), "call {number}");
        if is_over {
            break;
        }
    }
    assert!(failed > 20, "{failed} calls of a checkpoint were failed");
}

#[test]
fn what_cannot_be_is_refused() {
    let world = World::new(8);
    let db = open(&world, Dress::Plain, ORIGINAL).unwrap();
    let refused = |dir: &str| db.checkpoint(dir).unwrap_err().kind();
    assert_eq!(refused(ORIGINAL), ErrorKind::Invalid);
    assert_eq!(refused("db/CURRENT"), ErrorKind::Invalid, "a file");
    world.write_file("copies/first.unfinished/letter", b"dear").unwrap();
    assert_eq!(refused(COPY), ErrorKind::Invalid, "somebody's files");
    assert_eq!(world.read_file("copies/first.unfinished/letter").unwrap(), b"dear");
    assert_eq!(Database::in_memory().unwrap().checkpoint("x").unwrap_err().kind(), ErrorKind::Invalid);
    db.close().unwrap();
    assert_eq!(refused("other"), ErrorKind::Closed);
    assert!(world.files().iter().all(|(path, _)| !path.starts_with("other")));
}

/// A test that fails must not leave the writers at it for good.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Real threads and a real disk: each writer puts its next number into the first keyspace and then into the last. Between
/// these two many memtables are sealed, so that writers come from one to the other meanwhile: tables alone are no prefix.
#[test]
fn copies_beside_writers_are_prefixes_across_keyspaces() {
    const WRITERS: usize = 2;
    const KEYSPACES: usize = 100;
    let dir = tempfile::tempdir().unwrap();
    let db = Database::builder()
        .memory_bytes(4 << 20)
        .memtable_bytes(64 << 10)
        .log_segment_bytes(256 << 10)
        .durability(Durability::Os)
        .open(dir.path().join("db"))
        .unwrap();
    let names: Vec<String> = (0..KEYSPACES).map(|number| format!("keyspace{number:02}")).collect();
    let keyspaces: Vec<Keyspace> = names.iter().map(|name| db.keyspace(name).unwrap()).collect();
    let (is_over, written) = (AtomicBool::new(false), [const { AtomicU64::new(0) }; WRITERS]);
    std::thread::scope(|scope| {
        let _over = Over(&is_over);
        for (writer, written) in written.iter().enumerate() {
            let (is_over, keyspaces) = (&is_over, &keyspaces);
            scope.spawn(move || {
                for number in 0_u64.. {
                    let key = [&[u8::try_from(writer).unwrap()][..], &number.to_be_bytes()].concat();
                    keyspaces[0].put(&key, vec![7; 30]).unwrap();
                    keyspaces[KEYSPACES - 1].put(&key, vec![7; 30]).unwrap();
                    written.store(number + 1, Ordering::Release);
                    if is_over.load(Ordering::Acquire) {
                        return;
                    }
                }
            });
        }
        for number in 0..4 {
            let mut batch = db.batch();
            keyspaces[1..KEYSPACES - 1].iter().for_each(|keyspace| batch.put(keyspace, b"between", b"1"));
            batch.commit().unwrap();
            let before: Vec<u64> = written.iter().map(|written| written.load(Ordering::Acquire)).collect();
            let path = dir.path().join(format!("copy{number}"));
            db.checkpoint(&path).unwrap();
            let copy = Database::open(&path).unwrap();
            assert!(copy.verify().unwrap().problems.is_empty());
            for (writer, before) in before.into_iter().enumerate() {
                let prefix = [u8::try_from(writer).unwrap()];
                let count = |name: &str| {
                    let keyspace = copy.keyspace(name).unwrap();
                    let keys = keyspace.prefix(prefix).map(|entry| entry.unwrap().0);
                    let numbers = keys.map(|key| u64::from_be_bytes(key[1..].try_into().unwrap()));
                    numbers.enumerate().map(|(place, number)| assert_eq!(place as u64, number)).count() as u64
                };
                let (ones, others) = (count(&names[0]), count(&names[KEYSPACES - 1]));
                assert!(before <= others, "{others} of {before} that had returned before");
                assert!(ones == others || ones == others + 1, "{ones} in the first, {others} in the last");
            }
        }
    });
}
