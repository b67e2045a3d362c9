//! Subjects and keyspaces that are erased: here, for who is in the middle of reading, in copies of before; and their neighbours stay.

use std::sync::Arc;

use pugdb::keys::{Certificate, GivenKey};
use pugdb::operators::Append;
use pugdb::{
    Database, EngineKind, EntryOptions, Error, ErrorKind, Keyspace, KeyspaceOptions, LockScope, Partitioning,
    Result, Timestamp,
};
use pugdb_sim::{CallKind, World};
use pugdb_tests::hostile::decent;

use super::{DIR, KEY_FILE, KEYRING, TARGET, copy_of, encrypted, fill, is_filled, open, small};

const ADA: &str = "ada@example.org";
const BOB: &str = "bob@example.org";

fn of(db: &Database, subject: &str) -> EntryOptions {
    EntryOptions { seal: Some(db.subject(subject).unwrap()), ..EntryOptions::default() }
}

/// Values of two subjects and of nobody, short and long, in a table, a value file, a memtable and the log.
fn write_orders(db: &Database) -> Keyspace {
    let orders = db.keyspace("orders").unwrap();
    for round in 0..2_u8 {
        for number in 0..5_u8 {
            let length = if number % 2 == 0 { 40 } else { 500 };
            orders.put_with([b'a', round, number], vec![number; length], of(db, ADA)).unwrap();
            orders.put_with([b'b', round, number], vec![number; length], of(db, BOB)).unwrap();
            orders.put([b'c', round, number], vec![number; length]).unwrap();
        }
        if round == 0 {
            db.flush().unwrap();
        }
    }
    orders
}

/// A database with all of it.
fn with_orders(seed: u64) -> (World, Database) {
    let world = World::new(seed);
    let db = open(&world).unwrap();
    fill(&db);
    write_orders(&db);
    (world, db)
}

/// How many calls of the operating system it takes.
fn calls_of((world, db): (World, Database), erase: impl FnOnce(&Database)) -> u64 {
    let before = world.calls();
    erase(&db);
    world.calls() - before
}

/// One call fails, or it and all that follow.
fn fail_or_stop(world: &World, way: u32, call: u64) {
    match way {
        0 => world.fail_call(world.calls() + call, std::io::ErrorKind::Other),
        _ => world.stop_at(world.calls() + call),
    }
}

fn value(key: &[u8]) -> Vec<u8> {
    vec![key[2]; if key[2].is_multiple_of(2) { 40 } else { 500 }]
}

fn keys() -> impl Iterator<Item = [u8; 3]> {
    [b'a', b'b', b'c']
        .into_iter()
        .flat_map(|who| (0..2).flat_map(move |round| (0..5).map(move |number| [who, round, number])))
}

/// All that was written for those that are erased is, whichever way it is read, and all else is there.
fn check_orders(erased: &[u8], mut get: impl FnMut(&[u8]) -> Result<Option<pugdb::Value>>) {
    for key in keys() {
        match get(&key) {
            Ok(found) => {
                assert!(!erased.contains(&key[0]), "{key:?}");
                assert_eq!(found.unwrap(), value(&key)[..]);
            }
            Err(error) => {
                assert!(erased.contains(&key[0]), "{key:?}: {error}");
                assert_eq!(error.kind(), ErrorKind::Erased, "{}", decent(&error));
            }
        }
    }
}

fn check_scans(erased: &[u8], db: &Database) {
    let orders = db.keyspace("orders").unwrap();
    let expected: Vec<[u8; 3]> = keys().filter(|key| !erased.contains(&key[0])).collect();
    let found: Vec<_> = orders.scan(..).map(|entry| entry.unwrap()).collect();
    assert_eq!(found.len(), expected.len());
    for ((key, content), expected) in found.iter().zip(&expected) {
        assert!(*key == *expected && *content == value(expected)[..]);
    }
    let reversed: Vec<_> = orders.scan(..).reverse().map(|entry| entry.unwrap().0).collect();
    assert!(reversed.iter().rev().eq(found.iter().map(|(key, _)| key)));
    assert_eq!(orders.scan(..).limit(7).count(), 7.min(expected.len()));
    assert_eq!(orders.scan(..).keys_only().count(), expected.len());
    let (mut scan, mut count) = (orders.scan(..), 0);
    while let Some((key, content)) = scan.next_ref().unwrap() {
        assert!(key == expected[count] && *content == value(key));
        count += 1;
    }
    assert_eq!(count, expected.len());
}

#[test]
fn what_was_written_for_a_subject_is_erased_for_everybody_and_its_neighbours_are_not() {
    let world = World::new(1);
    let db = open(&world).unwrap();
    fill(&db);
    let orders = write_orders(&db);
    check_orders(&[], |key| orders.get(key));
    check_scans(&[], &db);
    let entry = orders.get_entry([b'a', 0, 0]).unwrap().unwrap();
    assert!(entry.seal == of(&db, ADA).seal && entry.seal != of(&db, BOB).seal);
    db.checkpoint("copy").unwrap();
    let backup = copy_of(&world, DIR);

    let (snapshot, transaction) = (db.snapshot().unwrap(), db.begin().unwrap());
    let mut running = orders.scan(..);
    running.next().unwrap().unwrap();
    let reader = encrypted(&world).open_read_only(DIR).unwrap();
    let read = reader.keyspace("orders").unwrap();
    check_orders(&[], |key| read.get(key));

    let certificate = db.erase_subjects(&[ADA]).unwrap();
    assert!(certificate.is_root_key_destroyed);
    check_orders(b"a", |key| orders.get(key));
    check_orders(b"a", |key| snapshot.get(&orders, key));
    check_orders(b"a", |key| transaction.get(&orders, key));
    check_orders(b"a", |key| orders.get_with(key, |value| pugdb::Value::new(value.to_vec()).unwrap()));
    check_orders(b"a", |key| orders.multi_get([key]).map(|mut all| all.remove(0)));
    check_orders(b"a", |key| db.update_keys(LockScope::Everything, |locked| locked.get(&orders, key)));
    assert!(running.all(|entry| entry.is_ok_and(|(key, _)| key[0] != b'a')));
    check_scans(b"a", &db);
    // Another process looks at the keyring each second.
    world.advance(std::time::Duration::from_secs(2));
    check_orders(b"a", |key| read.get(key));
    // One that cannot find out what was erased shows nothing that is sealed, time and again.
    db.keys().unwrap().rotate().unwrap();
    world.advance(std::time::Duration::from_secs(2));
    world.fail_when(|kind, path| {
        (kind == CallKind::Read && path.ends_with("KEYRING")).then_some(std::io::ErrorKind::Other)
    });
    for _ in 0..3 {
        assert_eq!(read.get([b'b', 0, 0]).unwrap_err().kind(), ErrorKind::Unavailable);
    }
    world.heal();
    check_orders(b"a", |key| read.get(key));
    reader.close().unwrap();
    drop((snapshot, transaction));
    is_filled(&db);

    assert_eq!(orders.count().unwrap(), 30, "the keys are there");
    // What comes behind it is somebody else, and is written over what was erased.
    orders.put_with([b'a', 0, 0], b"again", of(&db, ADA)).unwrap();
    assert_eq!(orders.get([b'a', 0, 0]).unwrap().unwrap(), b"again");
    assert_ne!(of(&db, ADA).seal, entry.seal);
    orders.delete([b'a', 0, 1]).unwrap();
    assert_eq!(orders.get([b'a', 0, 1]).unwrap(), None);
    orders
        .put_with([b'a', 0, 0], value(&[b'a', 0, 0]), EntryOptions { seal: entry.seal, ..of(&db, ADA) })
        .unwrap_err();
    db.close().unwrap();

    let db = open(&world).unwrap();
    let orders = db.keyspace("orders").unwrap();
    assert_eq!(orders.get([b'a', 0, 0]).unwrap().unwrap(), b"again");
    let second = db.erase_subjects(&[ADA]).unwrap();
    assert_eq!(orders.get([b'a', 0, 0]).unwrap_err().kind(), ErrorKind::Erased);
    assert_eq!(second.erased, certificate.erased, "it is the same name");
    check_scans(b"a", &db);
    // A merge makes the entries go for good, and the last count is none any more.
    assert!(orders.count().unwrap() > 20);
    orders.compact_range(..).unwrap();
    assert_eq!(orders.get([b'a', 0, 0]).unwrap(), None);
    assert_eq!(orders.count().unwrap(), 20);
    check_scans(b"a", &db);
    assert!(db.verify().unwrap().problems.is_empty());
    db.close().unwrap();

    // A copy of before, opened with the keyring of today, which is another directory's to change.
    let db = encrypted(&world).keyring(KEYRING).open("copy").unwrap();
    let orders = db.keyspace("orders").unwrap();
    for error in [db.erase_subjects(&[BOB]).unwrap_err(), db.erase_keyspace("orders").unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Denied, "{}", decent(&error));
    }
    check_orders(b"a", |key| orders.get(key));
    check_scans(b"a", &db);
    is_filled(&db);
    db.close().unwrap();
    // And a backup with its own keyring, whose root key is gone.
    for (path, bytes) in &backup {
        world.write_file(path, bytes).unwrap();
    }
    let error = open(&world).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{}", decent(&error));
}

#[test]
fn what_lies_at_the_bottom_is_rewritten_when_some_of_it_was_erased() {
    let world = World::new(12);
    let db = open(&world).unwrap();
    let orders = write_orders(&db);
    db.flush().unwrap();
    orders.compact_range(..).unwrap();
    db.erase_subjects(&[ADA, BOB]).unwrap();
    assert_eq!(db.verify_erasure().unwrap().erased, 20);
    assert_eq!(orders.count().unwrap(), 30);
    orders.compact_range(..).unwrap();
    assert_eq!((db.verify_erasure().unwrap().erased, orders.count().unwrap()), (0, 10));
    check_scans(b"ab", &db);
    // An older version does not come up where a newer one was erased.
    orders.put([b'c', 0, 0], "older").unwrap();
    db.flush().unwrap();
    orders.put_with([b'c', 0, 0], "newer", of(&db, "cat")).unwrap();
    db.erase_subjects(&["cat"]).unwrap();
    db.flush().unwrap();
    assert_ne!(orders.get([b'c', 0, 0]).unwrap_or_default().unwrap_or_default(), b"older");
    orders.compact_range(..).unwrap();
    assert_eq!(orders.get([b'c', 0, 0]).unwrap(), None);
}

#[test]
fn a_root_key_that_cannot_be_destroyed_is_named_in_the_certificate_and_a_backup_of_before_is_readable() {
    let world = World::new(2);
    let key = Arc::new(GivenKey::new(pugdb::keys::Secret::random(&*world.env().random)));
    let open = || small(&world).root_key(Arc::clone(&key)).open(DIR);
    let db = open().unwrap();
    let orders = write_orders(&db);
    db.flush().unwrap();
    let backup = copy_of(&world, DIR);
    let certificate = db.erase_subjects(&[ADA]).unwrap();
    assert!(!certificate.is_root_key_destroyed && certificate.proves().contains("cannot be destroyed"));
    check_orders(b"a", |key| orders.get(key));
    db.close().unwrap();
    // This is what it warns of.
    for (path, bytes) in &backup {
        world.write_file(path, bytes).unwrap();
    }
    let db = open().unwrap();
    let orders = db.keyspace("orders").unwrap();
    check_orders(&[], |key| orders.get(key));
}

#[test]
fn each_way_to_write_keeps_the_subject() {
    let world = World::new(3);
    let db = encrypted(&world).merge_operator("log", Arc::new(Append::new(","))).open(DIR).unwrap();
    let orders = db.keyspace("orders").unwrap();
    let ada = of(&db, ADA);
    let options = || KeyspaceOptions { engine: Some(EngineKind::Btree), ..KeyspaceOptions::default() };
    let memory = db.keyspace_with("memory", options()).unwrap();
    memory.put_with("k", "secret", ada).unwrap();

    orders.put_with("put", "secret", ada).unwrap();
    let mut batch = db.batch();
    batch.put_with(&orders, "batch", "secret", ada);
    batch.commit().unwrap();
    db.transact(|transaction| transaction.put_with(&orders, "transaction", "secret", ada)).unwrap();
    let mut prepared = db.begin().unwrap();
    prepared.put_with(&orders, "prepared", "secret", ada).unwrap();
    assert_eq!(prepared.get(&orders, "prepared").unwrap().unwrap(), b"secret");
    prepared.prepare("one").unwrap().commit().unwrap();
    db.update_keys(LockScope::Everything, |locked| locked.put_with(&orders, "locked", "secret", ada))
        .unwrap();
    let mut load = orders.bulk_load().unwrap();
    load.put_with("bulk", "secret", ada).unwrap();
    load.finish().unwrap();
    let mut sorted = orders.sorted_writer().unwrap();
    sorted.put_with("sorted", "secret", ada).unwrap();
    orders.ingest([sorted.finish().unwrap()]).unwrap();
    // What changes an entry says nothing of its subject.
    for key in ["expire", "swap", "fetch"] {
        orders.put_with(key, "secret", ada).unwrap();
    }
    assert!(orders.expire("expire", Timestamp(u64::MAX - 1)).unwrap());
    assert!(orders.compare_and_set("swap", Some(b"secret"), Some(b"secret2")).unwrap());
    orders.fetch_update("fetch", |old| Some([old.unwrap(), b"2"].concat())).unwrap();
    let keys =
        ["put", "batch", "transaction", "prepared", "locked", "bulk", "sorted", "expire", "swap", "fetch"];
    for key in keys {
        let entry = orders.get_entry(key).unwrap().unwrap();
        assert!(entry.seal == ada.seal && entry.value.starts_with(b"secret"), "{key}");
    }
    assert_eq!(orders.scan(..).count(), keys.len());

    // Operands find nothing that they could be merged into, whether or not they were written anew.
    let log = db.keyspace("log").unwrap();
    log.put_with("k", "secret", ada).unwrap();
    log.put("plain", "1").unwrap();
    log.merge("k", "2").unwrap();
    log.merge("plain", "2").unwrap();
    for _ in 0..2 {
        assert_eq!(log.get("k").unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(log.get("plain").unwrap().unwrap(), b"1,2");
        assert_eq!((log.scan(..).count(), log.count().unwrap()), (1, 2), "its neighbours are shown");
        db.flush().unwrap();
        log.compact_range(..).unwrap();
    }
    log.put_with("k", "secret", ada).unwrap();
    db.transact(|transaction| transaction.merge(&log, "k", "2")).unwrap();
    assert_eq!(log.get("k").unwrap_err().kind(), ErrorKind::Invalid);
    log.put("k", "over").unwrap();

    db.erase_subjects(&[ADA]).unwrap();
    for key in keys {
        assert_eq!(orders.get(key).unwrap_err().kind(), ErrorKind::Erased, "{key}");
        assert_eq!(orders.fetch_update(key, |_| None).unwrap_err().kind(), ErrorKind::Erased);
    }
    assert_eq!(memory.get("k").unwrap_err().kind(), ErrorKind::Erased);
    assert_eq!(orders.scan(..).count() + memory.scan(..).count(), 0);
    let error = orders.put_with("late", "secret", ada).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Erased, "who kept the number writes nothing that cannot be read");
    assert_eq!(log.get("k").unwrap().unwrap(), b"over");
    db.close().unwrap();

    let db = encrypted(&world).open(DIR).unwrap();
    let orders = db.keyspace("orders").unwrap();
    assert!(keys.iter().all(|key| orders.get(key).unwrap_err().kind() == ErrorKind::Erased));
}

#[test]
fn a_transaction_that_was_begun_before_does_not_commit_for_a_subject_that_is_gone() {
    let world = World::new(4);
    let db = open(&world).unwrap();
    let orders = db.keyspace("orders").unwrap();
    let mut transaction = db.begin().unwrap();
    transaction.put_with(&orders, "k", "secret", of(&db, ADA)).unwrap();
    db.erase_subjects(&[ADA]).unwrap();
    assert_eq!(transaction.commit().unwrap_err().kind(), ErrorKind::Erased);
    assert_eq!(orders.get("k").unwrap(), None);
}

#[test]
fn only_an_encrypted_database_has_subjects() {
    let world = World::new(5);
    let db = small(&world).open(DIR).unwrap();
    let orders = db.keyspace("orders").unwrap();
    let sealed = EntryOptions { seal: Some(pugdb::SealId(7)), ..EntryOptions::default() };
    let errors = [
        db.subject(ADA).unwrap_err(),
        db.erase_subjects(&[ADA]).unwrap_err(),
        db.erase_keyspace("orders").unwrap_err(),
        orders.put_with("k", "v", sealed).unwrap_err(),
        Database::in_memory().unwrap().subject(ADA).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Invalid, "{}", decent(&error));
    }
    let db = open(&World::new(6)).unwrap();
    for name in [String::new(), "x".repeat(5000)] {
        assert_eq!(db.subject(&name).unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(db.erase_subjects(&[ADA, &name]).unwrap_err().kind(), ErrorKind::Invalid);
    }
    assert_eq!(db.erase_subjects(&[] as &[&str]).unwrap_err().kind(), ErrorKind::Invalid);
    let orders = db.keyspace("orders").unwrap();
    orders.put_with("k", "v", of(&db, ADA)).unwrap();
    assert_eq!(orders.get("k").unwrap().unwrap(), b"v");
}

#[test]
fn a_legal_hold_keeps_everything_until_it_is_released() {
    let world = World::new(7);
    let db = open(&world).unwrap();
    let orders = write_orders(&db);
    let keys = db.keys().unwrap();
    assert!(keys.hold_subject(ADA.as_bytes()).unwrap() && !keys.hold_subject(ADA.as_bytes()).unwrap());
    assert!(keys.hold_keyspace(orders.id()).unwrap());
    assert_eq!(keys.held().len(), 2);
    db.close().unwrap();
    let db = open(&world).unwrap();
    let orders = db.keyspace("orders").unwrap();
    let before = world.read_file(KEYRING).unwrap();
    for error in [db.erase_subjects(&[BOB, ADA]).unwrap_err(), db.erase_keyspace("orders").unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Denied, "{}", decent(&error));
        assert!(error.to_string().contains("legal hold since 20"), "{error}");
    }
    assert!(world.read_file(KEYRING).unwrap() == before, "nothing was even begun");
    check_orders(&[], |key| orders.get(key));
    let keys = db.keys().unwrap();
    assert!(keys.release_subject(ADA.as_bytes()).unwrap() && !keys.release_subject(BOB.as_bytes()).unwrap());
    db.erase_subjects(&[BOB, ADA]).unwrap();
    check_orders(b"ab", |key| orders.get(key));
    assert!(keys.release_keyspace(orders.id()).unwrap() && !keys.release_keyspace(orders.id()).unwrap());
    assert!(db.erase_keyspace("orders").unwrap().is_some());
}

#[test]
fn an_erasure_of_subjects_that_fails_or_is_cut_at_each_call_is_done_or_not() {
    pugdb_sim::check(TARGET, "an_erasure_of_subjects", 0..2, |seed| {
        let calls = calls_of(with_orders(seed), |db| drop(db.erase_subjects(&[ADA]).unwrap()));
        for call in 0..calls {
            for way in 0..3 {
                let (world, db) = with_orders(seed);
                fail_or_stop(&world, way, call);
                let outcome = db.erase_subjects(&[ADA]);
                let world = if way == 1 { world.kill() } else { world.power_cut() };
                let db = open(&world).unwrap_or_else(|error| panic!("call {call}: {error}"));
                let orders = db.keyspace("orders").unwrap();
                let is_erased = orders.get([b'a', 0, 0]).is_err();
                assert!(is_erased || outcome.is_err(), "what was acknowledged stays: call {call}");
                // A flush in the open may have forgotten it.
                let get = |key: &[u8]| orders.get(key)?.ok_or_else(|| Error::erased("it is gone")).map(Some);
                check_orders(if is_erased { b"a" } else { b"" }, get);
                is_filled(&db);
                db.close().unwrap();
            }
        }
    });
}

fn partitioned(db: &Database) -> Keyspace {
    let parts = db
        .partitioned_keyspace(
            "parts",
            &Partitioning::Ranges { starts: vec![vec![10], vec![20]] },
            KeyspaceOptions::default(),
        )
        .unwrap();
    for number in 0..30_u8 {
        parts.put([number], vec![number; 100]).unwrap();
    }
    parts
}

#[test]
fn a_keyspace_that_is_erased_is_gone_for_everybody_here_and_in_every_copy() {
    let world = World::new(8);
    let db = open(&world).unwrap();
    fill(&db);
    let (orders, parts) = (write_orders(&db), partitioned(&db));
    db.checkpoint("copy").unwrap();
    // It has the keyspaces in its log alone.
    let late = db.keyspace("late").unwrap();
    late.put("k", "v").unwrap();
    db.checkpoint("copy-2").unwrap();
    let later = db.keyspace("later").unwrap();
    later.put("k", "v").unwrap();
    let backup = copy_of(&world, DIR);
    let (snapshot, mut scan) = (db.snapshot().unwrap(), orders.scan(..));
    scan.next().unwrap().unwrap();

    let ids = [orders.id(), late.id(), parts.id(), later.id()];
    for (name, id) in ["orders", "late", "parts", "later"].into_iter().zip(ids) {
        let certificate = db.erase_keyspace(name).unwrap().unwrap();
        let keys = db.keys().unwrap();
        assert!(certificate.is_root_key_destroyed && keys.is_about(&certificate.erased[0], name.as_bytes()));
        assert_eq!(Certificate::parse(&certificate.to_string()).unwrap(), certificate);
        let status = keys.status();
        assert!(status.erased_keyspaces.iter().any(|(erased, _)| *erased == id));
        assert!(status.keyspaces.iter().all(|keyspace| keyspace.keyspace != id));
        assert!(db.erase_keyspace(name).unwrap().is_none());
    }
    assert!(db.keys().unwrap().status().erased_keyspaces.len() >= 3 + 3, "with its partitions");
    for key in keys() {
        let errors = [
            orders.get(key).unwrap_err(),
            snapshot.get(&orders, key).unwrap_err(),
            orders.put(key, "x").unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Erased, "{}", decent(&error));
        }
    }
    assert_eq!(scan.next().unwrap().unwrap_err().kind(), ErrorKind::Erased, "in the middle of a batch");
    assert_eq!(orders.scan(..).next().unwrap().unwrap_err().kind(), ErrorKind::Erased);
    is_filled(&db);
    drop(snapshot);
    // The log still has sections of what is gone.
    assert!(db.verify().unwrap().problems.is_empty());
    db.checkpoint("copy-3").unwrap();
    let reader = encrypted(&world).open_read_only(DIR).unwrap();
    is_filled(&reader);
    reader.close().unwrap();
    // Its name is free, and what is made anew has another key.
    let again = db.keyspace("orders").unwrap();
    assert!(!ids.contains(&again.id()));
    again.put("k", "v").unwrap();
    db.flush().unwrap();
    db.close().unwrap();

    let db = open(&world).unwrap();
    is_filled(&db);
    assert_eq!(db.keyspace("orders").unwrap().get("k").unwrap().unwrap(), b"v");
    assert_eq!(db.keyspaces().unwrap().len(), 3);
    assert!(db.verify().unwrap().problems.is_empty());
    db.close().unwrap();

    for copy in ["copy", "copy-2", "copy-3"] {
        for _ in 0..2 {
            let db = encrypted(&world)
                .keyring(KEYRING)
                .open(copy)
                .unwrap_or_else(|error| panic!("{copy}: {error}"));
            is_filled(&db);
            let mut names = db.keyspaces().unwrap();
            names.sort();
            assert_eq!(names, ["names", "users"], "{copy}");
            assert!(db.verify().unwrap().problems.is_empty());
            db.close().unwrap();
        }
        let tables =
            world.files().into_iter().filter(|(path, _)| path.starts_with(format!("{copy}/tables"))).count();
        assert!(tables > 0 && tables < 20, "{copy}: {tables}");
    }
    is_erased_in_copies_of_files(&world, &backup, &ids);
}

fn is_erased_in_copies_of_files(
    world: &World,
    backup: &[(std::path::PathBuf, Vec<u8>)],
    ids: &[pugdb::KeyspaceId],
) {
    // A copy of the files of a running database, put back beside the keyring of today: the log alone knows of `later`.
    for (path, _) in
        world.files().iter().filter(|(path, _)| path.starts_with(DIR) && !path.ends_with("KEYRING"))
    {
        world.remove_file(path).unwrap();
    }
    for (path, bytes) in backup.iter().filter(|(path, _)| !path.ends_with("KEYRING")) {
        world.write_file(path, bytes).unwrap();
    }
    for _ in 0..2 {
        let db = open(world).unwrap();
        is_filled(&db);
        assert_eq!(db.keyspaces().unwrap().len(), 2);
        assert!(!ids.contains(&db.keyspace("new").unwrap().id()));
        db.drop_keyspace("new").unwrap();
        db.close().unwrap();
    }
    // And with its own, whose root key is gone.
    for (path, bytes) in backup {
        world.write_file(path, bytes).unwrap();
    }
    assert_eq!(open(world).unwrap_err().kind(), ErrorKind::Denied);
}

/// A copy from before a split has tables under the keys of partitions that are not there any more.
#[test]
fn partitions_that_were_split_and_merged_away_are_erased_with_their_keyspace() {
    let world = World::new(10);
    let db = open(&world).unwrap();
    fill(&db);
    let parts = partitioned(&db);
    db.flush().unwrap();
    let made = |db: &Database| db.keys().unwrap().status().erased_keyspaces.len();
    parts.split_partition(1, None, &mut |_| {}).unwrap();
    parts.merge_partitions(2, &mut |_| {}).unwrap();
    let other = db
        .partitioned_keyspace("other", &Partitioning::Hash { partitions: 2 }, KeyspaceOptions::default())
        .unwrap();
    other.put("k", "v").unwrap();
    db.erase_keyspace("parts").unwrap().unwrap();
    assert_eq!(made(&db), 1 + 3 + 2 + 1, "itself, the first ones, those of the split, that of the merge");
    assert_eq!(other.get("k").unwrap().unwrap(), b"v");
    let plain = db.keyspace("plain").unwrap();
    plain.put("k", "v").unwrap();
    db.close().unwrap();
    let db = open(&world).unwrap();
    is_filled(&db);
    assert_eq!(db.keyspace("other").unwrap().get("k").unwrap().unwrap(), b"v");
    assert_eq!(db.keyspace("plain").unwrap().get("k").unwrap().unwrap(), b"v");
}

#[test]
fn an_erasure_of_a_keyspace_that_fails_or_is_cut_at_each_call_is_done_or_not() {
    pugdb_sim::check(TARGET, "an_erasure_of_a_keyspace", 0..2, |seed| {
        let prepared = || {
            let (world, db) = with_orders(seed);
            // It is given keys for two, and needs one.
            partitioned(&db).merge_partitions(0, &mut |_| {}).unwrap();
            (world, db)
        };
        let name = if seed % 2 == 0 { "orders" } else { "parts" };
        let calls = calls_of(prepared(), |db| drop(db.erase_keyspace(name).unwrap().unwrap()));
        for call in 0..calls {
            for way in 0..3 {
                let (world, db) = prepared();
                let keyspace = db.keyspace(name).unwrap().id();
                fail_or_stop(&world, way, call);
                let outcome = db.erase_keyspace(name);
                let mut late = None;
                if way == 0 {
                    world.heal();
                    // Whatever has become of it, the neighbours can be read, and what is made now stays.
                    is_filled(&db);
                    late = db.keyspace("late").and_then(|late| late.put("k", "v")).ok();
                    assert!(late.is_some() || db.failure().is_some(), "call {call}");
                }
                let world = if way == 1 { world.kill() } else { world.power_cut() };
                for _ in 0..2 {
                    let db = open(&world).unwrap_or_else(|error| panic!("call {call}, way {way}: {error}"));
                    is_filled(&db);
                    if late.is_some() {
                        assert_eq!(
                            db.keyspace("late").unwrap().get("k").unwrap().unwrap(),
                            b"v",
                            "call {call}"
                        );
                    }
                    let keys = db.keys().unwrap().status();
                    let has_keys = keys.keyspaces.iter().any(|keys| keys.keyspace == keyspace);
                    assert!(outcome.is_err() || !has_keys, "what was acknowledged stays: call {call}");
                    let is_there = db.keyspaces().unwrap().iter().any(|there| there == name);
                    // A drop whose record failed may be there or not, and then nothing is to be erased any more.
                    assert!(has_keys == is_there || way == 0 && has_keys, "call {call}, way {way}");
                    if is_there && name == "orders" {
                        let orders = db.keyspace(name).unwrap();
                        check_orders(&[], |key| orders.get(key));
                    }
                    db.keyspace("new").unwrap().put("k", "v").unwrap();
                    db.close().unwrap();
                }
            }
        }
    });
}

#[test]
fn a_keyspace_that_must_not_be_erased_is_as_it_was() {
    let world = World::new(11);
    let db = open(&world).unwrap();
    let orders = write_orders(&db);
    let mut transaction = db.begin().unwrap();
    transaction.put(&orders, "k", "v").unwrap();
    let prepared = transaction.prepare("one").unwrap();
    let generation = db.keys().unwrap().status().keyring_generation;
    for (name, kind) in [("orders", Some(ErrorKind::Conflict)), ("pugdb.system.prepared", None)] {
        let outcome = db.erase_keyspace(name);
        assert_eq!(
            outcome.map_or_else(|error| Some(error.kind()), |done| done.map(|_| ErrorKind::Internal)),
            kind
        );
    }
    assert_eq!(db.keys().unwrap().status().keyring_generation, generation, "nothing was even begun");
    prepared.commit().unwrap();
    assert_eq!(orders.get("k").unwrap().unwrap(), b"v");
    check_orders(&[], |key| orders.get(key));
    db.close().unwrap();
    let db = open(&world).unwrap();
    let orders = db.keyspace("orders").unwrap();
    check_orders(&[], |key| orders.get(key));
}

/// What was prepared lies in an entry of another keyspace, and goes with its own all the same.
#[test]
fn what_was_prepared_is_erased_with_its_keyspace() {
    let world = World::new(13);
    let db = open(&world).unwrap();
    fill(&db);
    let (orders, users) = (db.keyspace("orders").unwrap(), db.keyspace("users").unwrap());
    let mut transaction = db.begin().unwrap();
    transaction.put(&orders, "k", "v").unwrap();
    transaction.put(&users, "late", "v").unwrap();
    let prepared = transaction.prepare("one").unwrap();
    db.checkpoint("copy").unwrap();
    prepared.commit().unwrap();
    db.erase_keyspace("orders").unwrap().unwrap();
    assert_eq!(users.get("late").unwrap().unwrap(), b"v");
    db.close().unwrap();

    let db = encrypted(&world).keyring(KEYRING).open("copy").unwrap();
    is_filled(&db);
    let prepared = |db: &Database| db.prepared_transaction("one").unwrap().unwrap();
    let error = prepared(&db).commit().unwrap_err();
    assert!(error.kind() == ErrorKind::Erased && error.to_string().contains("roll it back"), "{error}");
    let users = db.keyspace("users").unwrap();
    assert_eq!(users.put("late", "w").unwrap_err().kind(), ErrorKind::Conflict, "it holds on to the rest");
    prepared(&db).rollback().unwrap();
    users.put("late", "w").unwrap();
}

/// A key file on a disk that is read-only now: the database opens, and what was to be erased is.
#[test]
fn an_erasure_that_an_open_cannot_end_does_not_keep_it_from_opening() {
    pugdb_sim::check(TARGET, "an_erasure_that_an_open_cannot_end", 0..1, |seed| {
        let calls = calls_of(with_orders(seed), |db| drop(db.erase_keyspace("orders").unwrap().unwrap()));
        let mut begun = 0;
        for call in 0..calls {
            let (world, db) = with_orders(seed);
            world.stop_at(world.calls() + call);
            let _ = db.erase_keyspace("orders");
            let world = world.kill();
            let text = String::from_utf8(world.read_file(KEY_FILE).unwrap()).unwrap();
            if text.lines().filter(|line| line.starts_with("key ")).count() > 1 {
                // In the middle of a rotation, which has to be ended.
                continue;
            }
            world.fail_when(|kind, path| {
                use CallKind::{Create, Remove, Rename, Write};
                (matches!(kind, Create | Remove | Rename | Write) && path.starts_with("keys"))
                    .then_some(std::io::ErrorKind::ReadOnlyFilesystem)
            });
            let db = open(&world).unwrap_or_else(|error| panic!("call {call}: {error}"));
            is_filled(&db);
            begun += u32::from(!db.keyspaces().unwrap().contains(&"orders".to_owned()));
        }
        assert!(begun > 0);
    });
}

#[test]
fn keys_that_are_gone_are_in_no_file_any_more() {
    let world = World::new(9);
    let db = open(&world).unwrap();
    write_orders(&db);
    let before = world.read_file(KEYRING).unwrap();
    let root = world.read_file(KEY_FILE).unwrap();
    db.erase_subjects(&[ADA]).unwrap();
    // Neither the old keyring nor the old root key is anywhere.
    for (path, _) in world.files() {
        let bytes = world.read_file(&path).unwrap();
        assert!(bytes != before && bytes != root, "{}", path.display());
    }
}
