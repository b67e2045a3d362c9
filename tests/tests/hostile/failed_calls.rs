//! Calls that fail: after the log or the manifest could not be written the database only reads until it is opened again;
//! a table that could not be written is made anew.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pugdb::{Database, Durability, Error, ErrorKind, Keyspace};
use pugdb_sim::{CallKind, World};
use pugdb_tests::hostile::{MARK_TIME, Seal, check_reads, decent, key, name, open, read_all, value};

use super::TARGET;

fn unavailable(error: &Error) {
    let text = decent(error);
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{text}");
    assert!(!error.is_disk_full(), "{text}");
}

/// Ten acknowledged keys, five of them in a table.
fn filled(world: &World) -> (Database, Keyspace) {
    let db = open(world, Seal::Plain).unwrap();
    let space = db.keyspace(&name("space")).unwrap();
    for number in 0..10 {
        space.put(key(&number.to_string()), value("v", 50)).unwrap();
        if number == 4 {
            db.flush().unwrap();
        }
    }
    (db, space)
}

/// Fails the next `count` calls of this kind on files whose path contains `part`. Returns how many are left to fail.
fn fail_next(world: &World, kind: CallKind, part: &'static str, count: usize) -> Arc<AtomicUsize> {
    let left = Arc::new(AtomicUsize::new(count));
    let counter = Arc::clone(&left);
    world.fail_when(move |call, path: &Path| {
        let is_meant = call == kind && path.to_string_lossy().contains(part);
        let fails = is_meant
            && counter.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_ok();
        fails.then_some(io::ErrorKind::Other)
    });
    left
}

/// Every write is refused and every read works, also when the disk is well again.
fn only_reads(db: &Database, space: &Keyspace, keys: u64) {
    unavailable(&db.failure().expect("it is said that writing is over"));
    for attempt in 0..3 {
        unavailable(&space.put(key("refused"), b"v").unwrap_err());
        unavailable(&space.delete(key("0")).unwrap_err());
        unavailable(&db.keyspace(&name(&format!("refused {attempt}"))).unwrap_err());
        unavailable(&db.drop_keyspace(&space.name()).unwrap_err());
        unavailable(&space.truncate().unwrap_err());
        let mut batch = db.batch().durability(Durability::Os);
        batch.put(space, key("refused"), b"v");
        unavailable(&batch.commit().unwrap_err());
        unavailable(&db.flush().unwrap_err());
        assert_eq!(space.count().unwrap(), keys);
        assert_eq!(space.get(key("3")).unwrap().unwrap(), value("v", 50)[..]);
        assert_eq!(db.snapshot().unwrap().scan(space, ..).count() as u64, keys);
    }
}

#[test]
fn after_a_failed_log_write_or_sync_it_only_reads_until_it_is_opened_again() {
    let cases = [(CallKind::SyncData, "log/0"), (CallKind::Write, "log/0"), (CallKind::SyncDir, "db/log")];
    pugdb_sim::check(TARGET, "after_a_failed_log_write", 150..180, |seed| {
        let (kind, part) = cases[usize::try_from(seed % 3).unwrap()];
        let world = World::new(seed);
        let (db, space) = filled(&world);
        // A directory is synced when a segment is new: enough is written that one is.
        let count = if kind == CallKind::SyncDir { 40 } else { 1 };
        let before = fail_next(&world, kind, part, 1);
        let mut acknowledged = 10;
        let error = (0..count).find_map(|number| {
            let outcome = space.put(key(&format!("more {number:02}")), value("m", 300));
            acknowledged += u64::from(outcome.is_ok());
            outcome.err()
        });
        unavailable(&error.expect("a call failed"));
        assert_eq!(before.load(Ordering::Acquire), 0);
        world.heal();
        world.advance(10 * MARK_TIME);
        world.run_until_idle();
        let shown = space.count().unwrap();
        assert!(shown == acknowledged || shown == acknowledged + 1, "{shown} keys");
        only_reads(&db, &space, shown);
        let held = read_all(&db).unwrap();

        // The commit in flight is there or not; everything acknowledged is.
        let next = match seed % 4 {
            0 => {
                unavailable(&db.close().unwrap_err());
                world.clone()
            }
            1 => world.kill(),
            _ => world.power_cut(),
        };
        drop((space, db));
        let db = open(&next, Seal::Plain).unwrap();
        let mut found = read_all(&db).unwrap();
        let in_flight = key(&format!("more {:02}", acknowledged - 10));
        let entries = found.get_mut(&name("space")).unwrap();
        if let Some(value) = held[&name("space")].get(&in_flight) {
            entries.entry(in_flight).or_insert_with(|| value.clone());
        }
        assert!(found == held || entries_without_in_flight(&found, &held, acknowledged), "seed {seed}");
        db.keyspace(&name("space")).unwrap().put(key("after"), b"v").unwrap();
        assert!(db.failure().is_none());
    });
}

/// The commit in flight can be on disk though no reader ever saw it.
fn entries_without_in_flight(
    found: &pugdb_tests::hostile::State,
    held: &pugdb_tests::hostile::State,
    acknowledged: u64,
) -> bool {
    let mut found = found.clone();
    let in_flight = key(&format!("more {:02}", acknowledged - 10));
    found.get_mut(&name("space")).is_some_and(|entries| entries.remove(&in_flight).is_some())
        && found == *held
}

#[test]
fn after_a_failed_manifest_write_or_sync_it_only_reads_until_it_is_opened_again() {
    pugdb_sim::check(TARGET, "after_a_failed_manifest", 180..200, |seed| {
        let kind = if seed % 2 == 0 { CallKind::SyncData } else { CallKind::Write };
        let world = World::new(seed);
        let (db, space) = filled(&world);
        let state = read_all(&db).unwrap();
        fail_next(&world, kind, "manifest", 1);
        unavailable(&db.flush().unwrap_err());
        world.heal();
        world.advance(10 * MARK_TIME);
        world.run_until_idle();
        only_reads(&db, &space, 10);
        unavailable(&db.close().unwrap_err());
        let next = if seed % 4 < 2 { world.kill() } else { world.power_cut() };
        drop((space, db));
        let db = open(&next, Seal::Plain).unwrap();
        assert_eq!(check_reads(&db, &state, &("a failed", kind, "of the manifest")), 0);
        db.flush().unwrap();
        assert_eq!(db.verify().unwrap().problems, [""; 0]);
    });
}

/// As many table files as the database knows tables.
fn no_leftovers(world: &World, db: &Database) {
    let is_table = |path: &Path| path.extension().is_some_and(|extension| extension == "table");
    let files = world.files().iter().filter(|(path, _)| is_table(path)).count();
    assert_eq!(files, db.stats().unwrap().tables, "files and tables");
}

#[test]
fn a_table_that_cannot_be_written_is_made_anew() {
    let kinds = [
        (CallKind::Create, "tables/"),
        (CallKind::Write, "tables/"),
        (CallKind::SyncData, "tables/"),
        (CallKind::SyncDir, "db/tables"),
        (CallKind::Open, "tables/"),
        (CallKind::Length, "tables/"),
        (CallKind::Read, "tables/"),
        (CallKind::Allocate, "manifest"),
    ];
    for (number, (kind, part)) in kinds.into_iter().enumerate() {
        for count in 1..4 {
            let world = World::new(200 + number as u64);
            let (db, space) = filled(&world);
            let state = read_all(&db).unwrap();
            let what = (kind, count);
            let left = fail_next(&world, kind, part, count);
            let outcome = db.flush();
            if part == "manifest" {
                // It has room: nothing is taken, nothing fails.
                outcome.unwrap();
                continue;
            }
            unavailable(&outcome.unwrap_err());
            assert_eq!(check_reads(&db, &state, &what), 0);
            assert!(db.failure().is_none(), "{what:?} is no failure for good");
            // Writes go on meanwhile, and time alone brings the table.
            space.put(key("meanwhile"), b"v").unwrap();
            for _ in 0..count {
                world.advance(15 * MARK_TIME);
                world.run_until_idle();
            }
            assert_eq!(left.load(Ordering::Acquire), 0, "{what:?}");
            assert_eq!(db.stats().unwrap().flushes, 2, "{what:?}: the flush did not end by itself");
            db.flush().unwrap();
            no_leftovers(&world, &db);
            let held = read_all(&db).unwrap();
            let next = world.power_cut();
            drop((space, db));
            let db = open(&next, Seal::Plain).unwrap();
            assert_eq!(check_reads(&db, &held, &what), 0);
            no_leftovers(&next, &db);
        }
    }
}

#[test]
fn a_compaction_that_cannot_read_or_write_is_begun_anew() {
    for (number, kind) in
        [CallKind::Read, CallKind::Create, CallKind::Write, CallKind::SyncData].into_iter().enumerate()
    {
        let world = World::new(210 + number as u64);
        let (db, space) = filled(&world);
        for round in 0..3 {
            for number in 0..5 {
                space.put(key(&format!("{round} {number}")), value("v", 50)).unwrap();
            }
            if round == 2 {
                break;
            }
            db.flush().unwrap();
        }
        db.flush().unwrap();
        let state = read_all(&db).unwrap();
        let left = fail_next(&world, kind, "tables/", 2);
        for _ in 0..10 {
            world.advance(30 * MARK_TIME);
            world.run_until_idle();
        }
        let stats = db.stats().unwrap();
        assert!(stats.compactions == 1 && stats.quarantined == 0, "{kind}: {stats:?}");
        assert!(left.load(Ordering::Acquire) == 0, "{kind}: the compaction was over before a call failed");
        assert_eq!(check_reads(&db, &state, &kind), 0);
        no_leftovers(&world, &db);
    }
}

#[test]
fn a_log_segment_that_cannot_be_made_is_made_later() {
    for (number, kind) in [CallKind::Create, CallKind::Allocate].into_iter().enumerate() {
        let world = World::new(220 + number as u64);
        let (db, space) = filled(&world);
        fail_next(&world, kind, "log/0", 1);
        let mut refused = 0;
        for number in 0..60 {
            if let Err(error) = space.put(key(&format!("more {number:02}")), value("m", 300)) {
                unavailable(&error);
                refused += 1;
            }
        }
        assert_eq!((refused, space.count().unwrap()), (1, 10 + 59), "{kind}");
        let state = read_all(&db).unwrap();
        let next = world.power_cut();
        drop((space, db));
        assert_eq!(check_reads(&open(&next, Seal::Plain).unwrap(), &state, &kind), 0);
    }
}
