//! What is recorded: who, what, to what, and what came of it.

use pugdb::audit::{
    Action, Actor, AuditAccess, AuditOptions, AuditRule, Checkpoint, Count, Event, InclusionProof,
    ObjectKind, OnFailure, Outcome, acting_as,
};
use pugdb::{ErrorKind, Partitioning};
use pugdb_sim::World;

use super::{
    COPY, DIR, against, encrypted, is_well, known, log, open, open_with, options, plain, records, verify,
};

/// What stands in the log, as `action outcome`.
fn lines(world: &World) -> Vec<String> {
    records(world).iter().map(|record| format!("{} {}", record.event.action, record.event.outcome)).collect()
}

#[test]
fn what_the_database_does_is_recorded_before_and_after() {
    let world = World::new(1);
    let db = open(&world).unwrap();
    db.keyspace("users").unwrap();
    db.keyspace("users").unwrap();
    db.keyspace("orders").unwrap().truncate().unwrap();
    db.swap_keyspaces("users", "orders").unwrap();
    db.drop_keyspace("users").unwrap();
    assert!(!db.drop_keyspace("users").unwrap());
    db.checkpoint("copy").unwrap();
    db.verify().unwrap();
    db.audit().unwrap().verify().unwrap();
    db.close().unwrap();
    assert_eq!(
        lines(&world),
        [
            "open done",
            "keyspace.create begun",
            "keyspace.create done",
            "keyspace.create begun",
            "keyspace.create done",
            "keyspace.truncate begun",
            "keyspace.truncate done",
            "keyspace.swap begun",
            "keyspace.swap done",
            "keyspace.drop begun",
            "keyspace.drop done",
            "checkpoint begun",
            "checkpoint done",
            "verify done",
            "verify done",
            "close done",
        ]
    );
    let records = records(&world);
    assert!(records.iter().zip(1..).all(|(record, number)| record.number == number));
    let began = |at: usize| records[at].count(Count::Began);
    assert_eq!([began(2), began(4), began(1)], [Some(2), Some(4), None]);
    assert_eq!(records[0].count(Count::Clean), Some(1));
    is_well(&against(&world).unwrap());
}

#[test]
fn keys_and_erasures_are_recorded_and_refusals_as_well() {
    let world = World::new(2);
    let db = open(&world).unwrap();
    db.keyspace("orders").unwrap();
    let keys = db.keys().unwrap();
    keys.rotate().unwrap();
    keys.renew().unwrap();
    keys.hold_subject(b"ada").unwrap();
    assert_eq!(db.erase_subjects(&["ada"]).unwrap_err().kind(), ErrorKind::Denied);
    keys.release_subject(b"ada").unwrap();
    db.erase_subjects(&["ada", "bob"]).unwrap();
    keys.hold_keyspace(db.keyspace("orders").unwrap().id()).unwrap();
    assert!(db.erase_keyspace("orders").is_err());
    keys.release_keyspace(db.keyspace("orders").unwrap().id()).unwrap();
    db.erase_keyspace("orders").unwrap().unwrap();
    db.close().unwrap();
    let ends: Vec<_> = lines(&world).into_iter().filter(|line| !line.ends_with("begun")).collect();
    assert_eq!(
        ends,
        [
            "open done",
            "keyspace.create done",
            "key.rotate done",
            "key.renew done",
            "hold done",
            "erase.subjects refused",
            "release done",
            "erase.subjects done",
            "hold done",
            "erase.keyspace refused",
            "release done",
            "erase.keyspace done",
            "close done",
        ]
    );
    let (log, records) = (log(&world), records(&world));
    let about = |name: &[u8]| records.iter().filter(|record| log.is_about(record, name)).count();
    assert_eq!((about(b"ada"), about(b"bob"), about(b"orders"), about(b"nobody")), (8, 2, 6, 0));
    let refused = records.iter().find(|record| record.event.outcome == Outcome::Refused).unwrap();
    assert_eq!(refused.event.reason, Some(ErrorKind::Denied.into()));
}

#[test]
fn partitions_that_are_split_are_recorded() {
    let world = World::new(3);
    let db = open(&world).unwrap();
    let by = Partitioning::Hash { partitions: 2 };
    let events = db.partitioned_keyspace("events", &by, pugdb::KeyspaceOptions::default()).unwrap();
    events.split_partition(0, None, &mut |_| {}).unwrap();
    assert!(events.split_partition(9, None, &mut |_| {}).is_err());
    db.close().unwrap();
    let lines = lines(&world);
    assert!(lines.contains(&"keyspace.repartition done".to_owned()));
    assert!(lines.contains(&"keyspace.repartition refused".to_owned()));
}

#[test]
fn reads_and_writes_are_recorded_where_a_rule_asks_for_it_and_nowhere_else() {
    let world = World::new(4);
    let rule = AuditRule { prefix: b"board:".to_vec(), ..AuditRule::new("salaries", AuditAccess::All) };
    let db = open_with(&world, AuditOptions { rules: vec![rule], ..options(OnFailure::Block) }).unwrap();
    let (salaries, other) = (db.keyspace("salaries").unwrap(), db.keyspace("other").unwrap());
    let audit = db.audit().unwrap();
    let before = audit.stats().records;
    salaries.put(b"staff:ada", b"1").unwrap();
    salaries.get(b"staff:ada").unwrap();
    other.put(b"board:ada", b"1").unwrap();
    other.get(b"board:ada").unwrap();
    assert_eq!(audit.stats().records, before);

    salaries.put(b"board:ada", b"2").unwrap();
    salaries.get(b"board:ada").unwrap();
    salaries.exists(b"board:bob").unwrap();
    salaries.multi_get([b"board:ada".as_slice(), b"board:bob", b"staff:ada"]).unwrap();
    assert_eq!(salaries.scan(..).count(), 2);
    db.snapshot().unwrap().get(&salaries, b"board:ada").unwrap();
    db.transact(|transaction| transaction.get(&salaries, b"board:ada")).unwrap();
    salaries.delete(b"board:ada").unwrap();
    let mut batch = db.batch();
    batch.put(&salaries, b"board:bob", b"3");
    batch.put(&salaries, b"board:eve", b"4");
    batch.put(&salaries, b"staff:eve", b"5");
    batch.commit().unwrap();
    salaries.delete_range(b"a".as_slice()..b"c".as_slice()).unwrap();
    db.close().unwrap();

    let log = log(&world);
    let accesses: Vec<_> = records(&world)
        .into_iter()
        .filter(|record| matches!(record.event.action, Action::Read | Action::Write))
        .map(|record| {
            let keys = [b"board:ada", b"board:bob", b"board:eve"].map(|key| log.is_about(&record, key));
            assert!(log.is_about(&record, b"salaries") && record.event.outcome == Outcome::Begun);
            (record.event.action, keys)
        })
        .collect();
    let (read, write) = (Action::Read, Action::Write);
    assert_eq!(
        accesses,
        [
            (write, [true, false, false]),
            (read, [true, false, false]),
            (read, [false, true, false]),
            (read, [true, true, false]),
            (read, [false, false, false]),
            (read, [true, false, false]),
            (read, [true, false, false]),
            (write, [true, false, false]),
            (write, [false, true, true]),
            (write, [false, false, false]),
        ]
    );
}

#[test]
fn a_write_that_was_recorded_and_failed_has_another_record() {
    let world = World::new(5);
    let rules = vec![AuditRule::new("users", AuditAccess::Writes)];
    let db = open_with(&world, AuditOptions { rules, ..options(OnFailure::Block) }).unwrap();
    let users = db.keyspace("users").unwrap();
    world.fail_when(|_, path| path.starts_with("db/log").then_some(std::io::ErrorKind::Other));
    while users.put(b"ada", vec![7; 5000]).is_ok() {}
    world.heal();
    let _ = db.close();
    let lines = lines(&world);
    assert_eq!(lines.iter().filter(|line| *line == "write failed").count(), 1, "{lines:?}");
}

#[test]
fn a_program_above_records_in_the_name_of_its_users() {
    let world = World::new(6);
    let db = open(&world).unwrap();
    let (audit, ada) = (db.audit().unwrap(), Actor::new("ada", "192.0.2.7:4711"));
    let denied =
        Event::done(Action::Auth).failed(ErrorKind::Denied).on(audit.object(ObjectKind::User, b"ada"));
    audit.record(&ada, denied).unwrap();
    acting_as(&ada, || db.keyspace("users")).unwrap();
    let panicked = std::panic::catch_unwind(|| acting_as(&ada, || panic!("in somebody's name")));
    assert!(panicked.is_err());
    db.keyspace("orders").unwrap();
    let failed = audit.witness(&ada, Event::begun(Action::Config), || -> pugdb::Result<()> {
        Err(pugdb::Error::invalid("no such setting"))
    });
    assert!(failed.is_err());
    db.close().unwrap();
    assert_eq!(audit.record(&ada, Event::done(Action::Auth)).unwrap_err().kind(), ErrorKind::Closed);
    let by_ada: Vec<_> = records(&world)
        .into_iter()
        .filter(|record| record.actor == ada)
        .map(|record| format!("{} {}", record.event.action, record.event.outcome))
        .collect();
    assert_eq!(
        by_ada,
        ["auth refused", "keyspace.create begun", "keyspace.create done", "config begun", "config refused"]
    );
}

#[test]
fn an_erasure_of_many_is_several_records_and_names_all_of_them() {
    let world = World::new(7);
    let db = open(&world).unwrap();
    let names: Vec<String> = (0..2100).map(|number| format!("subject-{number}")).collect();
    db.erase_subjects(&names.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    db.close().unwrap();
    let (log, records) = (log(&world), records(&world));
    let erasures = records.iter().filter(|record| record.event.action == Action::EraseSubjects);
    let counts: Vec<_> = erasures.clone().map(|record| record.event.objects.len()).collect();
    assert_eq!(counts, [1024, 1024, 52, 1024, 1024, 52]);
    assert!(erasures.clone().all(|record| record.count(Count::Objects) == Some(2100)));
    assert_eq!(records.iter().filter(|record| log.is_about(record, b"subject-2099")).count(), 2);
    is_well(&against(&world).unwrap());
}

#[test]
fn a_proof_needs_nothing_but_its_checkpoint_and_the_public_key() {
    let world = World::new(8);
    for _ in 0..3 {
        let db = open(&world).unwrap();
        db.keyspace("users").unwrap();
        db.drop_keyspace("users").unwrap();
        db.close().unwrap();
    }
    let signer = log(&world).signer().unwrap();
    for number in 1..=records(&world).len() as u64 {
        let (proof, checkpoint) = log(&world).prove(number).unwrap();
        let proof = InclusionProof::parse(&proof.to_string()).unwrap();
        let checkpoint = Checkpoint::parse(&checkpoint.to_string()).unwrap();
        proof.check(&checkpoint).unwrap();
        assert_eq!((proof.record.number, checkpoint.signer), (number, Some(signer)));
    }
    assert_eq!(log(&world).prove(0).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(log(&world).prove(1000).unwrap_err().kind(), ErrorKind::NotFound);
    // Each checkpoint of the second place goes on from the one before.
    let known = known(&world);
    let checkpoints: Vec<_> =
        Checkpoint::split(&known).map(|text| Checkpoint::parse(text).unwrap()).collect();
    for pair in checkpoints.windows(2) {
        log(&world).prove_growth(&pair[0], &pair[1]).unwrap().check(&pair[0], &pair[1]).unwrap();
        assert!(pair[0].size < pair[1].size);
    }
    assert!(checkpoints.len() > 2);
}

#[test]
fn a_database_that_is_not_encrypted_has_a_log_that_says_it_is_not_signed() {
    let world = World::new(9);
    let open = || plain(&world).audit(options(OnFailure::Block)).audit_copy(COPY).open(DIR).unwrap();
    world.env().fs.create_dir_all("elsewhere".as_ref()).unwrap();
    let db = open();
    db.keyspace("users").unwrap();
    db.close().unwrap();
    let log = plain(&world).audit_log(DIR).unwrap();
    assert!(log.signer().is_none());
    let report = log.verify(Some(&known(&world))).unwrap();
    is_well(&report);
    assert!(!report.is_signed && report.shows().contains("not signed"));
    assert!(known(&world).contains("signer none\nsignature none\n"));
    open().close().unwrap();
    is_well(&plain(&world).audit_log(DIR).unwrap().verify(Some(&known(&world))).unwrap());
}

#[test]
fn it_is_read_beside_the_writer_and_in_a_copy() {
    let world = World::new(10);
    let db = open(&world).unwrap();
    db.keyspace("users").unwrap();
    let report = verify(&world).unwrap();
    is_well(&report);
    assert_eq!((report.last, report.is_closed), (3, false));
    db.close().unwrap();
    for (path, bytes) in super::copy_of(&world, DIR) {
        world.write_file(std::path::Path::new("copy").join(path.strip_prefix(DIR).unwrap()), &bytes).unwrap();
    }
    world.remove_file("copy/KEYRING").unwrap();
    let copy = encrypted(&world).keyring("db/KEYRING").audit_log("copy").unwrap();
    is_well(&copy.verify(Some(&known(&world))).unwrap());
    assert_eq!(plain(&world).audit_log("nowhere").unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_database_without_an_audit_log_has_none() {
    let world = World::new(11);
    let db = encrypted(&world).open(DIR).unwrap();
    assert!(db.audit().is_none());
    db.keys().unwrap().rotate().unwrap();
    db.close().unwrap();
    assert_eq!(verify(&world).unwrap_err().kind(), ErrorKind::NotFound);
    // It can be begun later.
    open(&world).unwrap().close().unwrap();
    is_well(&verify(&world).unwrap());
}

/// Sealed or not: what was acted on, and what was written, is in no file of the log, its second place or a proof. Who acted is.
#[test]
fn no_name_no_key_and_no_value_is_in_the_log() {
    for is_sealed in [true, false] {
        let world = World::new(12);
        world.env().fs.create_dir_all("elsewhere".as_ref()).unwrap();
        let builder = if is_sealed { encrypted(&world) } else { plain(&world) };
        let rules = vec![AuditRule::new("canary-space", AuditAccess::All)];
        let actor = Actor::new("sparrow", "test");
        let audited = AuditOptions { rules, actor, ..options(OnFailure::Block) };
        let db = builder.clone().audit(audited).audit_copy(COPY).open(DIR).unwrap();
        let space = db.keyspace("canary-space").unwrap();
        space.put(b"canary-key", b"canary-value").unwrap();
        space.get(b"canary-key").unwrap();
        if is_sealed {
            db.erase_subjects(&["canary-subject"]).unwrap();
        }
        db.checkpoint("canary-copy").unwrap();
        db.close().unwrap();
        let (proof, checkpoint) = builder.audit_log(DIR).unwrap().prove(3).unwrap();
        let mut texts = vec![format!("{proof}{checkpoint}").into_bytes(), known(&world).into_bytes()];
        texts.extend(super::segments(&world).iter().map(|path| world.read_file(path).unwrap()));
        let has =
            |name: &[u8]| texts.iter().any(|text| text.windows(name.len()).any(|window| window == name));
        assert!(!has(b"canary"));
        // In a proof, and where nothing is sealed.
        assert!(has(b"sparrow"));
        assert_eq!(texts[2].windows(7).any(|window| window == b"sparrow"), !is_sealed);
    }
}

#[test]
fn checkpoints_of_every_life_count_and_nobody_writes_after_the_close() {
    let world = World::new(61);
    for life in 1..4_u64 {
        let db = open(&world).unwrap();
        let audit = db.audit().unwrap();
        db.keyspace("users").unwrap();
        db.close().unwrap();
        assert_eq!(audit.checkpoint().unwrap_err().kind(), ErrorKind::Closed);
        let report = against(&world).unwrap();
        is_well(&report);
        assert_eq!((report.checkpoints, report.covered), (life, report.last), "{report:?}");
    }
    // Beside a life that has made none yet, all before can be proved.
    let covered = verify(&world).unwrap().last;
    let _open = open(&world).unwrap();
    let (proof, checkpoint) = log(&world).prove(covered).unwrap();
    proof.check(&checkpoint).unwrap();
}
