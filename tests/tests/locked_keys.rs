//! Several keys as one step: updates under locks, what they see, who they keep out; and watches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pugdb::{Change, Database, EntryOptions, ErrorKind, Keyspace, LockScope, LockedKeys, Timestamp};
use pugdb_sim::{World, check};

const TARGET: &str = "-p pugdb-tests --test locked_keys";

fn number(value: Option<pugdb::Value>) -> i64 {
    value.map_or(0, |value| std::str::from_utf8(&value).expect("digits").parse().expect("a number"))
}

fn transfer(db: &Database, accounts: &Keyspace, from: &[u8], to: &[u8], amount: i64) {
    let keys = [(accounts.clone(), from), (accounts.clone(), to)];
    db.update_keys(LockScope::Keys(&keys), |locked| {
        let (left, right) = (number(locked.get(accounts, from)?), number(locked.get(accounts, to)?));
        locked.put(accounts, from, (left - amount).to_string())?;
        let right = if from == to { left } else { right + amount };
        locked.put(accounts, to, right.to_string())
    })
    .expect("it is open");
}

#[test]
fn transfers_between_threads_keep_their_sum_and_every_snapshot_sees_it() {
    let db = Database::in_memory().unwrap();
    let accounts = db.keyspace("accounts").unwrap();
    let names: Vec<Vec<u8>> = (0..20).map(|number| format!("account{number}").into_bytes()).collect();
    for name in &names {
        accounts.put(name, b"100").unwrap();
    }
    let sum = || {
        let snapshot = db.snapshot().unwrap();
        snapshot.scan(&accounts, ..).map(|entry| number(Some(entry.unwrap().1))).sum::<i64>()
    };
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (db, accounts, names) = (&db, &accounts, &names);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                for _ in 0..2_000 {
                    let mut name = || names[random.usize(..names.len())].clone();
                    let (from, to) = (name(), name());
                    transfer(db, accounts, &from, &to, 7);
                }
            });
        }
        for _ in 0..200 {
            assert_eq!(sum(), 2_000);
        }
    });
    assert_eq!(sum(), 2_000);
}

#[test]
fn a_scan_of_locked_keys_equals_a_sorted_map() {
    check(TARGET, "a_scan_of_locked_keys_equals_a_sorted_map", 0..300, |seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let db = Database::in_memory().unwrap();
        let space = db.keyspace("space").unwrap();
        let mut expected = BTreeMap::new();
        let mut key = || vec![b'a' + random.u8(..6); random.usize(..3)];
        for _ in 0..6 {
            let key = key();
            space.put(&key, b"old").unwrap();
            expected.insert(key, b"old".to_vec());
        }
        let keys: Vec<Vec<u8>> = (0..8).map(|_| key()).collect();
        let (start, end) = (key(), key());
        let truncates = random.u8(..4) == 0;
        let change = |locked: &mut LockedKeys| {
            if truncates {
                locked.put(&space, b"forgotten", b"")?;
                locked.truncate(&space)?;
                expected.clear();
            }
            for key in &keys {
                if random.bool() {
                    locked.put(&space, key, b"new")?;
                    expected.insert(key.clone(), b"new".to_vec());
                } else {
                    locked.delete(&space, key)?;
                    expected.remove(key);
                }
            }
            let read = |range: pugdb::KeyRange| -> pugdb::Result<Vec<_>> {
                locked
                    .scan(&space, range)?
                    .map(|entry| entry.map(|(key, entry)| (key.to_vec(), entry.value.to_vec())))
                    .collect()
            };
            let all = expected.clone().into_iter().collect::<Vec<_>>();
            assert_eq!(read((..).into())?, all);
            let within = all.into_iter().filter(|(key, _)| *key >= start && *key < end).collect::<Vec<_>>();
            assert_eq!(read((start.as_slice()..end.as_slice()).into())?, within);
            Ok(())
        };
        db.update_keys(LockScope::Everything, change).unwrap();
        let after: Vec<_> = space
            .scan(..)
            .map(|entry| entry.unwrap())
            .map(|(key, value)| (key.to_vec(), value.to_vec()))
            .collect();
        assert_eq!(after, expected.into_iter().collect::<Vec<_>>());
    });
}

#[test]
fn an_error_of_the_closure_changes_nothing_and_frees_the_locks() {
    let db = Database::in_memory().unwrap();
    let users = db.keyspace("users").unwrap();
    let failed = db.update_keys(LockScope::Everything, |locked| -> pugdb::Result<()> {
        locked.put(&users, b"ada", b"1815")?;
        Err(pugdb::Error::conflict("no"))
    });
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Conflict);
    assert!(!users.exists(b"ada").unwrap());
    users.put(b"ada", b"1815").unwrap();
}

#[test]
fn what_is_not_locked_is_refused() {
    let db = Database::in_memory().unwrap();
    let other = Database::in_memory().unwrap();
    let (users, foreign) = (db.keyspace("users").unwrap(), other.keyspace("users").unwrap());
    let keys = [(users.clone(), &b"ada"[..])];
    let invalid = |outcome: pugdb::Result<()>| assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Invalid);
    db.update_keys(LockScope::Keys(&keys), |locked| {
        invalid(locked.put(&users, b"grace", b"1906"));
        invalid(locked.delete(&users, b"grace"));
        invalid(locked.truncate(&users));
        invalid(locked.swap_names(&users, &users));
        invalid(locked.put(&foreign, b"ada", b""));
        invalid(locked.get(&foreign, b"ada").map(drop));
        invalid(locked.put(&users, b"ada", vec![0; 200 << 20]));
        // Another way in would wait for the lock that is held.
        invalid(users.put(b"ada", b""));
        invalid(db.update_keys(LockScope::Everything, |_| Ok(())));
        invalid(users.watch(b"ada").map(drop));
        Ok(())
    })
    .unwrap();
    assert_eq!(users.count().unwrap(), 0);
}

#[test]
fn changes_beyond_the_limit_of_a_batch_are_refused_and_memory_is_let_go() {
    let db = Database::builder().memory_bytes(4 << 20).in_memory().unwrap();
    let users = db.keyspace("users").unwrap();
    let outcome = db.update_keys(LockScope::Everything, |locked| {
        (0..100_u8).try_for_each(|key| locked.put(&users, [key], vec![0; 100_000]))
    });
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Invalid);
    // The same key again and again is one change.
    let put =
        |locked: &mut LockedKeys| (0..100).try_for_each(|_| locked.put(&users, b"key", vec![0; 100_000]));
    db.update_keys(LockScope::Everything, put).unwrap();
}

#[test]
fn keyspaces_of_memory_and_disk_are_not_mixed() {
    let world = World::new(1);
    let db = Database::builder().env(world.env()).open("/data").unwrap();
    let kept = db.keyspace("kept").unwrap();
    let options = pugdb::KeyspaceOptions { engine: Some(pugdb::EngineKind::Btree), ..Default::default() };
    let volatile = db.keyspace_with("volatile", options).unwrap();
    let mixed = db.update_keys(LockScope::Everything, |locked| {
        locked.put(&kept, b"a", b"")?;
        locked.truncate(&volatile)
    });
    assert_eq!(mixed.unwrap_err().kind(), ErrorKind::Invalid);
    db.swap_keyspaces("kept", "volatile").unwrap();
    volatile.put(b"a", b"").unwrap();
    drop((db, kept, volatile));
    let db = Database::builder().env(world.env()).open("/data").unwrap();
    let engine = |name| db.existing_keyspace(name).unwrap().unwrap().engine();
    assert_eq!((engine("kept"), engine("volatile")), (pugdb::EngineKind::Btree, pugdb::EngineKind::Lsm));
}

/// What may happen to a watched key, and whether that breaks the watch.
#[test]
fn a_watch_is_broken_by_every_change_of_its_key_and_by_nothing_else() {
    type Act = fn(&Database, &Keyspace, &World);
    let acts: [(&str, Act, bool, bool); 13] = [
        ("nothing", |_, _, _| {}, false, false),
        ("another key", |_, users, _| users.put(b"grace", b"1").unwrap(), false, false),
        ("a put", |_, users, _| users.put(b"ada", b"1").unwrap(), true, true),
        ("a delete", |_, users, _| users.delete(b"ada").unwrap(), true, true),
        (
            "an update",
            |_, users, _| users.update(b"ada", |_| Ok((Change::put(*b"1"), ()))).unwrap(),
            true,
            true,
        ),
        (
            "an update that keeps",
            |_, users, _| users.update(b"ada", |_| Ok((Change::Keep, ()))).unwrap(),
            false,
            false,
        ),
        (
            "a delete and the same again",
            |_, users, _| {
                users.delete(b"ada").unwrap();
                users.put(b"ada", b"1815").unwrap();
            },
            true,
            true,
        ),
        ("a truncation", |_, users, _| users.truncate().unwrap(), true, false),
        (
            "a truncation elsewhere",
            |db, _, _| db.keyspace("names").unwrap().truncate().unwrap(),
            false,
            false,
        ),
        ("an exchange of names", |db, _, _| db.swap_keyspaces("users", "names").unwrap(), true, false),
        ("a drop", |db, _, _| assert!(db.drop_keyspace("users").unwrap()), true, true),
        ("an expiry", |_, _, world| world.advance(Duration::from_secs(11)), true, false),
        ("less time", |_, _, world| world.advance(Duration::from_secs(9)), false, false),
    ];
    for (what, act, breaks_present, breaks_absent) in acts {
        for (present, breaks) in [(true, breaks_present), (false, breaks_absent)] {
            let world = World::new(1);
            let db = Database::builder().env(world.env()).in_memory().unwrap();
            let (users, _names) = (db.keyspace("users").unwrap(), db.keyspace("names").unwrap());
            if present {
                let expires_at = Some(Timestamp(db.now().0 + 10_000));
                users.put_with(b"ada", b"1815", EntryOptions { expires_at, ..Default::default() }).unwrap();
            }
            let (watch, gone) = (users.watch(b"ada").unwrap(), users.watch(b"ada").unwrap());
            drop(gone);
            act(&db, &users, &world);
            assert_eq!(watch.is_broken(), breaks, "{what}, present: {present}");
        }
    }
}

#[test]
fn optimistic_counters_lose_no_step() {
    let db = Arc::new(Database::in_memory().unwrap());
    let space = db.keyspace("space").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (db, space) = (&db, &space);
            scope.spawn(move || {
                let mut done = 0;
                while done < 500 {
                    let watch = space.watch(b"count").unwrap();
                    let seen = number(space.get(b"count").unwrap());
                    let keys = [(space.clone(), &b"count"[..])];
                    done += db
                        .update_keys(LockScope::Keys(&keys), |locked| {
                            if watch.is_broken() {
                                return Ok(0);
                            }
                            locked.put(space, b"count", (seen + 1).to_string()).map(|()| 1)
                        })
                        .unwrap();
                }
            });
        }
    });
    assert_eq!(number(space.get(b"count").unwrap()), 2_000);
}
