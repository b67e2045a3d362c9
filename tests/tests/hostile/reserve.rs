//! A full disk and a reserve: deletes go on, merges make room of them, and when there is room everything else goes on, though nobody has
//! given the disk another byte.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pugdb::env::Env;
use pugdb::{Builder, Database, DatabaseEvent, ErrorKind, Keyspace, Observer};
use pugdb_sim::{CallKind, World};

use super::TARGET;
use super::full_disk::{Tmpfs, eventually, is_full};

const DIR: &str = "data";
const RESERVE_BYTES: u64 = 96 << 10;
/// Longer than the reserve waits before it is tried to be made anew, and merges before they are tried again.
const PATIENCE: Duration = Duration::from_millis(1100);

fn builder(world: &World) -> Builder {
    Database::builder()
        .env(world.env())
        .memory_bytes(1 << 20)
        .cache_bytes(64 << 10)
        .memtable_bytes(8 << 10)
        .log_segment_bytes(16 << 10)
        .reserve_bytes(RESERVE_BYTES)
}

fn rest(world: &World) {
    for _ in 0..6 {
        world.advance(PATIENCE);
        world.run_until_idle();
    }
}

fn reserve(world: &World) -> Option<u64> {
    let is_it = |(path, bytes): (std::path::PathBuf, u64)| path.ends_with("RESERVE").then_some(bytes);
    world.files().into_iter().find_map(is_it)
}

/// Writes until the disk is full and stays so. Returns what was acknowledged.
fn fill(world: &World, db: &Database, space: &Keyspace, room: u64) -> BTreeMap<u32, Vec<u8>> {
    world.set_capacity(Some(world.used() + room));
    let mut acknowledged = BTreeMap::new();
    for number in 0..5000_u32 {
        let value = vec![u8::try_from(number % 251).unwrap(); 700];
        match space.put(number.to_be_bytes(), &value) {
            Ok(()) => drop(acknowledged.insert(number, value)),
            Err(error) => {
                is_full(&error);
                // The log that is in tables now, and what merges make of those, may be room enough to go on.
                rest(world);
                if db.stats().unwrap().is_disk_full {
                    return acknowledged;
                }
            }
        }
        world.maybe_step();
    }
    panic!("the disk never fills up");
}

fn check(space: &Keyspace, expected: &BTreeMap<u32, Vec<u8>>, seed: u64) {
    for (number, value) in expected {
        let found = space.get(number.to_be_bytes()).unwrap();
        assert!(found.as_deref() == Some(value), "seed {seed}: {number}");
    }
    assert_eq!(space.count().unwrap(), expected.len() as u64, "seed {seed}");
}

#[test]
fn deletes_go_on_on_a_full_disk_and_make_room_for_all_the_rest() {
    pugdb_sim::check(TARGET, "deletes_go_on", 0..60, |seed| {
        let world = World::new(seed);
        let db = builder(&world).open(DIR).unwrap();
        let space = db.keyspace("full").unwrap();
        let parts = pugdb::Partitioning::Hash { partitions: 2 };
        let parts = db.partitioned_keyspace("parts", &parts, pugdb::KeyspaceOptions::default()).unwrap();
        parts.put("a", "1").unwrap();
        rest(&world);
        assert_eq!(reserve(&world), Some(RESERVE_BYTES));
        let mut expected = fill(&world, &db, &space, (300 << 10) + seed * 977);
        assert_eq!(reserve(&world), None, "seed {seed}");
        check(&space, &expected, seed);

        // What adds is refused, whoever adds it; nothing of it is there.
        let mut batch = db.batch();
        batch.delete(&space, 0_u32.to_be_bytes());
        batch.put(&space, "new", "1");
        for refused in [
            batch.commit(),
            space.put("new", "1"),
            db.transact(|tx| tx.put(&space, "new", "1")),
            space.sorted_writer().map(drop),
            parts.split_partition(0, None, &mut |_| {}),
        ] {
            is_full(&refused.unwrap_err());
        }
        check(&space, &expected, seed);
        assert!(db.failure().is_none());

        // What removes is let in, all of it.
        let removed: Vec<u32> = expected.keys().copied().filter(|number| number % 4 != 0).collect();
        for number in removed {
            space.delete(number.to_be_bytes()).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            expected.remove(&number);
            world.maybe_step();
        }
        // Nobody flushes or merges anything: time passes.
        rest(&world);
        assert!(!db.stats().unwrap().is_disk_full, "seed {seed}: the disk is as large as before");
        assert_eq!(reserve(&world), Some(RESERVE_BYTES));
        space.put(9999_u32.to_be_bytes(), "again").unwrap();
        expected.insert(9999, b"again".to_vec());
        check(&space, &expected, seed);
        assert_eq!(db.verify().unwrap().problems, [""; 0]);

        let next = world.power_cut();
        let db = builder(&next).open(DIR).unwrap();
        check(&db.keyspace("full").unwrap(), &expected, seed);
    });
}

#[test]
fn a_disk_that_is_full_when_the_database_is_opened_lets_deletes_in() {
    let full = AtomicUsize::new(0);
    pugdb_sim::check(TARGET, "a_disk_that_is_full_when", 0..20, |seed| {
        let world = World::new(seed);
        let db = builder(&world).open(DIR).unwrap();
        let space = db.keyspace("full").unwrap();
        rest(&world);
        let mut expected = BTreeMap::new();
        if seed % 3 == 0 {
            // The reserve is there, and somebody else has taken all that was beside it.
            for number in 0..50_u32 {
                space.put(number.to_be_bytes(), vec![7; 700]).unwrap();
                expected.insert(number, vec![7; 700]);
            }
            world.set_capacity(Some(world.used()));
        } else {
            expected = fill(&world, &db, &space, 250 << 10);
        }
        let next = if seed % 2 == 0 { world.power_cut() } else { world.kill() };
        drop((space, db));
        if seed % 3 != 0 {
            // Of what the reserve has given back there is as much left as an open needs.
            next.set_capacity(Some(next.used() + (130 << 10)));
        }
        let db = builder(&next).open(DIR).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        rest(&next);
        let space = db.keyspace("full").unwrap();
        check(&space, &expected, seed);
        // The open may have made room: segments of the log whose entries are in tables now.
        if db.stats().unwrap().is_disk_full {
            is_full(&space.put("new", "1").unwrap_err());
            full.fetch_add(1, Ordering::Relaxed);
        }
        space.truncate().unwrap();
        expected.clear();
        rest(&next);
        check(&space, &expected, seed);
        space.put(1_u32.to_be_bytes(), "1").unwrap();
    });
    assert!(full.into_inner() >= 10);
}

#[test]
fn a_call_that_fails_for_once_spends_the_reserve_and_it_comes_back() {
    pugdb_sim::check(TARGET, "a_call_that_fails_for_once", 0..2, |seed| {
        for call in 1..120 {
            let world = World::new(seed);
            let db = builder(&world).open(DIR).unwrap();
            rest(&world);
            let space = db.keyspace("full").unwrap();
            world.fail_call(world.calls() + call, io::ErrorKind::StorageFull);
            let mut expected = BTreeMap::new();
            for number in 0..60_u32 {
                match space.put(number.to_be_bytes(), vec![7; 700]) {
                    Ok(()) => drop(expected.insert(number, vec![7; 700])),
                    Err(error) if db.failure().is_none() => is_full(&error),
                    // A write that fails into room that was taken before is no full disk: nothing more is written.
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable),
                }
                world.maybe_step();
            }
            rest(&world);
            if db.failure().is_none() {
                check(&space, &expected, seed);
                assert!(!db.stats().unwrap().is_disk_full, "seed {seed}, call {call}");
                assert_eq!(reserve(&world), Some(RESERVE_BYTES), "seed {seed}, call {call}");
                space.put("after", "1").unwrap();
            }
        }
    });
}

#[test]
fn whoever_finds_no_room_first_spends_the_reserve() {
    type Work = fn(&Keyspace, &Database) -> pugdb::Result<()>;
    let flush: Work = |_, db| db.flush();
    let merge: Work = |space, _| space.compact_range(..);
    let commit: Work = |space, _| (0..40_u32).try_for_each(|n| space.put(n.to_be_bytes(), vec![7; 700]));
    for (what, folder, work) in
        [("flush", "tables", flush), ("merge", "tables", merge), ("commit", "log", commit)]
    {
        let world = World::new(1);
        let db = builder(&world).memtable_bytes(64 << 10).open(DIR).unwrap();
        let space = db.keyspace("full").unwrap();
        rest(&world);
        for round in 0..3_u8 {
            space.put("same", vec![round; 700]).unwrap();
            db.flush().unwrap();
        }
        space.put("more", "1").unwrap();
        if what == "merge" {
            db.flush().unwrap();
        }
        let folder = Path::new(DIR).join(folder);
        world.fail_when(move |kind, path| {
            let is_full = path.starts_with(&folder) || path.ends_with("RESERVE");
            let is_it = is_full && matches!(kind, CallKind::Create | CallKind::Allocate);
            is_it.then_some(io::ErrorKind::StorageFull)
        });
        if let Err(error) = work(&space, &db) {
            is_full(&error);
        }
        assert_eq!(reserve(&world), None, "{what}");
        assert!(db.stats().unwrap().is_disk_full, "{what}");
        world.heal();
        rest(&world);
        assert!(!db.stats().unwrap().is_disk_full, "{what}");
        space.put("after", "1").unwrap();
    }
}

#[test]
fn a_reserve_comes_and_goes_with_its_option() {
    let world = World::new(1);
    drop(builder(&world).reserve_bytes(0).open(DIR).unwrap());
    assert_eq!(reserve(&world), None);
    for bytes in [RESERVE_BYTES, 2 * RESERVE_BYTES, RESERVE_BYTES / 2] {
        let db = builder(&world).reserve_bytes(bytes).open(DIR).unwrap();
        rest(&world);
        assert_eq!(reserve(&world), Some(bytes));
        db.close().unwrap();
    }
    let db = builder(&world).reserve_bytes(0).open(DIR).unwrap();
    assert_eq!(reserve(&world), None);
    db.keyspace("full").unwrap().put("a", "1").unwrap();
}

/// The names of what was told of the disk.
#[derive(Default)]
struct Told(Mutex<Vec<&'static str>>);

impl Observer for Told {
    fn on_event(&self, event: &DatabaseEvent) {
        let name = match event {
            DatabaseEvent::DiskFull { reserve_bytes: 2_097_152 } => "full",
            DatabaseEvent::DiskFreed { .. } => "freed",
            _ => return,
        };
        self.0.lock().unwrap().push(name);
    }
}

#[test]
fn a_real_full_disk_is_emptied_by_deletes() {
    let dir = tempfile::tempdir().unwrap();
    let tmpfs = match Tmpfs::mount(dir.path()) {
        Ok(tmpfs) => tmpfs,
        Err(reason) => return println!("skipped: no tmpfs can be mounted here: {reason}"),
    };
    let (data, env, told) = (tmpfs.0.join("data"), Env::os(), Arc::new(Told::default()));
    let builder = Database::builder().memory_bytes(2 << 20).log_segment_bytes(256 << 10);
    let db = builder.reserve_bytes(2 << 20).observer(told.clone()).open(&data).unwrap();
    let space = db.keyspace("full").unwrap();
    let mut acknowledged = Vec::new();
    for number in 0..2000_u32 {
        match space.put(number.to_be_bytes(), vec![7; 10_000]) {
            Ok(()) => acknowledged.push(number),
            Err(error) => {
                is_full(&error);
                break;
            }
        }
    }
    assert!((50..2000).contains(&acknowledged.len()), "{}", acknowledged.len());
    for number in &acknowledged {
        assert_eq!(space.get(number.to_be_bytes()).unwrap().map(|value| value.len()), Some(10_000));
        space.delete(number.to_be_bytes()).unwrap();
    }
    let again = eventually(&env, || space.put("again", vec![7; 10_000]).is_ok());
    assert!(again, "nothing is left on the disk, and no write goes on");
    assert_eq!(space.count().unwrap(), 1);
    assert_eq!(*told.0.lock().unwrap(), ["full", "freed"]);
    db.close().unwrap();
}
