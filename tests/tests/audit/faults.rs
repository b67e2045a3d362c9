//! Crashes, failed syncs, full disks: what was acknowledged is there, nothing that a crash does looks like somebody's doing, and who may not act
//! without a record does not.

use std::io;
use std::time::Duration;

use pugdb::audit::{Action, AuditAccess, AuditOptions, AuditRule, OnFailure};
use pugdb::{Database, ErrorKind};
use pugdb_sim::{ContentFate, NameFate, World};

use super::{TARGET, against, is_well, open, open_with, options, records, verify};

fn with_rule(on_failure: OnFailure) -> AuditOptions {
    AuditOptions {
        rules: vec![AuditRule::new("users", AuditAccess::All)],
        segment_bytes: 4 << 10,
        checkpoint_records: 16,
        checkpoint_interval: Duration::from_secs(5),
        ..options(on_failure)
    }
}

/// Some of everything. Returns how many records had to be durable when it was last told so.
fn work(world: &World, db: &Database, rounds: u32) -> u64 {
    let audit = db.audit().unwrap();
    let mut durable = 0;
    for round in 0..rounds {
        let name = format!("k{}", round % 3);
        if db.keyspace(&name).is_ok() && db.drop_keyspace(&name).is_ok() {
            durable = audit.stats().records;
        }
        if let Ok(users) = db.keyspace("users") {
            let _ = users.put([u8::try_from(round % 200).unwrap()], b"value");
            let _ = users.get([1]);
        }
        if round % 5 == 4 {
            world.advance(Duration::from_secs(2));
        }
        world.maybe_step();
    }
    durable
}

#[test]
fn crash_after_crash_what_was_acknowledged_is_there_and_nothing_looks_changed() {
    pugdb_sim::check(TARGET, "crash_after_crash", 0..60, |seed| {
        let mut world = World::new(seed);
        let mut durable = 0;
        for life in 0..6_u64 {
            if let Ok(db) = open_with(&world, with_rule(OnFailure::Block)) {
                durable = durable.max(db.audit().unwrap().stats().records);
                world.stop_at(world.calls() + 20 + (seed * 31 + life * 17) % 150);
                durable = durable.max(work(&world, &db, 30));
                drop(db);
            }
            world = if (seed + life) % 3 == 0 { world.kill() } else { world.power_cut() };
            let report = verify(&world).unwrap();
            is_well(&report);
            assert!(report.last >= durable, "{} of {durable} records", report.last);
            // What the second place knows was durable first.
            if world.read_file(super::COPY).is_ok() {
                is_well(&against(&world).unwrap());
            }
        }
        open(&world).unwrap().close().unwrap();
        is_well(&against(&world).unwrap());
    });
}

#[test]
fn a_call_that_fails_anywhere_leaves_a_log_that_goes_on_and_verifies() {
    let calls = {
        let world = World::new(70);
        let db = open_with(&world, with_rule(OnFailure::Block)).unwrap();
        let before = world.calls();
        work(&world, &db, 12);
        world.calls() - before
    };
    for (from, on_failure) in [(0, OnFailure::Block), (1, OnFailure::Continue)] {
        for call in (from..calls).step_by(2) {
            let world = World::new(70);
            let db = open_with(&world, with_rule(on_failure)).unwrap();
            world.fail_call(world.calls() + 1 + call, io::ErrorKind::Other);
            work(&world, &db, 12);
            world.heal();
            work(&world, &db, 2);
            let _ = db.close();
            drop(db);
            is_well(&verify(&world).unwrap());
            let world = world.power_cut();
            is_well(&against(&world).unwrap());
            open(&world).unwrap().close().unwrap();
            is_well(&against(&world).unwrap());
        }
    }
}

/// Fails syncs of the audit log.
fn break_syncs(world: &World) {
    world.fail_when(|kind, path| {
        let is_audit = path.starts_with("db/audit");
        (is_audit && kind == pugdb_sim::CallKind::SyncData).then_some(io::ErrorKind::Other)
    });
}

/// After a sync that failed, what is read back may be in the cache alone: an open that only syncs again makes nothing durable.
#[test]
fn an_open_writes_again_what_a_failed_sync_has_given_up() {
    let world = World::new(79);
    let db = open_with(&world, with_rule(OnFailure::Block)).unwrap();
    let users = db.keyspace("users").unwrap();
    users.put(b"ada", b"1815").unwrap();
    // From here on also nothing new can be begun, so the records stay where they were written.
    world.fail_when(|kind, path| {
        let is_audit = path.starts_with("db/audit");
        let fails = matches!(kind, pugdb_sim::CallKind::SyncData | pugdb_sim::CallKind::Create);
        (is_audit && fails).then_some(io::ErrorKind::Other)
    });
    assert!(db.keyspace("more").is_err());
    let world = world.kill();
    open(&world).unwrap().close().unwrap();
    let world = world.power_cut_as(ContentFate::Lost, NameFate::Lost);
    is_well(&against(&world).unwrap());
    open(&world).unwrap().close().unwrap();
    is_well(&against(&world).unwrap());
}

#[test]
fn who_must_not_act_without_a_record_does_not() {
    let world = World::new(71);
    let db = open_with(&world, with_rule(OnFailure::Block)).unwrap();
    let users = db.keyspace("users").unwrap();
    users.put(b"ada", b"1815").unwrap();
    break_syncs(&world);
    for _ in 0..3 {
        let error = db.keyspace("more").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().starts_with("the audit log cannot be written"), "{error}");
    }
    assert!(db.audit().unwrap().stats().is_failing);
    assert!(db.erase_subjects(&["ada"]).is_err());
    assert!(db.keys().unwrap().rotate().is_err());
    assert!(db.drop_keyspace("users").is_err());
    assert!(users.truncate().is_err());
    assert!(users.put(b"bob", b"1920").is_err() && users.get(b"ada").is_err());
    assert_eq!(db.keyspaces().unwrap(), ["users"]);
    // A keyspace that no rule is about goes on.
    world.heal();
    assert_eq!(users.get(b"ada").unwrap().unwrap(), b"1815");
    assert!(users.get(b"bob").unwrap().is_none());
    db.keyspace("more").unwrap();
    assert!(!db.audit().unwrap().stats().is_failing);
    db.close().unwrap();
    is_well(&against(&world).unwrap());
}

#[test]
fn who_may_act_without_a_record_does_and_the_log_says_how_many_are_missing() {
    let world = World::new(72);
    let db = open_with(&world, with_rule(OnFailure::Continue)).unwrap();
    break_syncs(&world);
    for name in ["one", "two", "three"] {
        db.keyspace(name).unwrap();
    }
    assert_eq!(db.keyspaces().unwrap().len(), 3);
    let missed = db.audit().unwrap().stats().missed;
    // The first was written and not synced: it is kept and comes later.
    assert_eq!(missed, 5);
    world.heal();
    db.keyspace("four").unwrap();
    db.close().unwrap();
    let report = against(&world).unwrap();
    is_well(&report);
    assert_eq!(report.missing, missed);
    let created = |record: &&pugdb::audit::Record| record.event.action == Action::KeyspaceCreate;
    assert_eq!(records(&world).iter().filter(created).count(), 3);
}

#[test]
fn on_a_full_disk_nothing_is_done_that_is_not_recorded_and_it_goes_on_by_itself() {
    for on_failure in [OnFailure::Block, OnFailure::Continue] {
        let world = World::new(73);
        let db = open_with(&world, options(on_failure)).unwrap();
        db.keyspace("users").unwrap();
        world.fail_when(|kind, path| {
            let takes = matches!(kind, pugdb_sim::CallKind::Write | pugdb_sim::CallKind::Create);
            (takes && path.starts_with("db/audit")).then_some(io::ErrorKind::StorageFull)
        });
        let made = db.keyspace("more");
        match on_failure {
            OnFailure::Block => assert!(made.unwrap_err().is_disk_full()),
            OnFailure::Continue => drop(made.unwrap()),
        }
        world.heal();
        db.keyspace("again").unwrap();
        db.close().unwrap();
        is_well(&against(&world).unwrap());
    }
}

#[test]
fn a_second_place_that_fails_is_told_and_tried_again() {
    let world = World::new(74);
    let db = open(&world).unwrap();
    world.fail_when(|kind, path| {
        (path.starts_with("elsewhere") && kind == pugdb_sim::CallKind::SyncData)
            .then_some(io::ErrorKind::Other)
    });
    assert!(db.audit().unwrap().checkpoint().is_err());
    // Acts are recorded all the same.
    db.keyspace("users").unwrap();
    assert_eq!(db.audit().unwrap().stats().copy_failures, 1);
    world.heal();
    world.advance(Duration::from_mins(2));
    world.run_until_idle();
    let report = against(&world).unwrap();
    is_well(&report);
    assert_eq!(report.against.unwrap().through, report.last);
    db.close().unwrap();
}

#[test]
fn what_is_not_synced_at_once_is_within_a_second() {
    let world = World::new(75);
    let db = open_with(&world, with_rule(OnFailure::Block)).unwrap();
    let users = db.keyspace("users").unwrap();
    world.run_until_idle();
    users.get(b"ada").unwrap();
    let last = db.audit().unwrap().stats().records;
    world.advance(Duration::from_secs(1));
    world.run_until_idle();
    let fate = (ContentFate::Lost, NameFate::Lost);
    let world = world.power_cut_as(fate.0, fate.1);
    assert_eq!(verify(&world).unwrap().last, last);
}

#[test]
fn a_torn_end_is_no_damage_and_is_cut_by_the_next_open() {
    let world = World::new(76);
    let db = open_with(&world, with_rule(OnFailure::Block)).unwrap();
    let users = db.keyspace("users").unwrap();
    (0..9).for_each(|number| drop(users.get([number]).unwrap()));
    let world = world.kill();
    drop((users, db));
    let path = super::segments(&world).pop().unwrap();
    let length = world.read_file(&path).unwrap().len() as u64;
    world.truncate_file(&path, length - 30).unwrap();
    let report = verify(&world).unwrap();
    is_well(&report);
    assert!(report.torn_bytes > 0);
    open(&world).unwrap().close().unwrap();
    let after = verify(&world).unwrap();
    is_well(&after);
    assert_eq!(after.torn_bytes, 0);
    assert_eq!(world.read_file(&path).unwrap().len() as u64, length - 30 - report.torn_bytes);
}

#[test]
fn threads_that_act_at_once_leave_one_chain() {
    let dir = tempfile::tempdir().unwrap();
    let builder = Database::builder().root_key(pugdb::keys::KeyFile::new(dir.path().join("key")));
    let (path, copy) = (dir.path().join("data"), dir.path().join("copy"));
    let audited = builder.clone().audit(with_rule(OnFailure::Block)).audit_copy(&copy);
    let db = audited.open(&path).unwrap();
    let users = db.keyspace("users").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let (db, users) = (&db, &users);
            scope.spawn(move || {
                for round in 0..20 {
                    db.keyspace(&format!("k{thread}")).unwrap();
                    users.put([thread, round], b"value").unwrap();
                    users.get([thread, round]).unwrap();
                    db.drop_keyspace(&format!("k{thread}")).unwrap();
                }
            });
        }
    });
    db.close().unwrap();
    let mut known = String::new();
    let file = std::fs::File::options().read(true).open(&copy).unwrap();
    io::Read::read_to_string(&mut { file }, &mut known).unwrap();
    let report = builder.audit_log(&path).unwrap().verify(Some(&known)).unwrap();
    is_well(&report);
    assert_eq!((report.last, report.is_closed), (4 + 4 * 20 * 6, true));
    assert!(report.segments > 3 && report.against.unwrap().checkpoints > 3);
}
