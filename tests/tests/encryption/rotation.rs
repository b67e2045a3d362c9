//! Keys that are rotated while the power fails: the old keyring with its root key or the new one with its own, and never neither.

use std::io;

use pugdb::keys::{Rotation, Vault};
use pugdb::{ErrorKind, Result};
use pugdb_sim::World;

use super::{DIR, KEY_FILE, KEYRING, TARGET, fill, is_filled, open};

fn prepared(seed: u64) -> World {
    let world = World::new(seed);
    let db = open(&world).unwrap();
    fill(&db);
    db.close().unwrap();
    world
}

/// How many root keys the key file holds.
fn root_keys(world: &World) -> usize {
    let text = String::from_utf8(world.read_file(KEY_FILE).unwrap()).unwrap();
    text.lines().filter(|line| line.starts_with("key ")).count()
}

fn calls_of(seed: u64, change: impl Fn(&Vault) -> Result<Rotation>) -> u64 {
    let world = prepared(seed);
    let db = open(&world).unwrap();
    let before = world.calls();
    change(&db.keys().unwrap()).unwrap();
    world.calls() - before
}

fn cut_at_each_call(name: &str, change: impl Fn(&Vault) -> Result<Rotation>) {
    pugdb_sim::check(TARGET, name, 0..3, |seed| {
        let calls = calls_of(seed, &change);
        assert!(calls > 10, "{calls}");
        for call in 0..=calls {
            for is_kill in [true, false] {
                let world = prepared(seed);
                let db = open(&world).unwrap();
                let keys = db.keys().unwrap();
                let generation = keys.status().keyring_generation;
                world.stop_at(world.calls() + call);
                let outcome = change(&keys);
                let world = if is_kill { world.kill() } else { world.power_cut() };
                let db = open(&world).unwrap_or_else(|error| panic!("call {call}: {error}"));
                is_filled(&db);
                let now = db.keys().unwrap().status().keyring_generation;
                assert!(now == generation || now == generation + 1);
                assert!(outcome.is_err() || now == generation + 1, "what was acknowledged stays");
                assert_eq!(root_keys(&world), 1, "an open ends what was begun: call {call}");
                db.close().unwrap();
            }
        }
    });
}

#[test]
fn a_rotation_cut_at_each_call_leaves_the_old_keys_or_the_new_ones() {
    cut_at_each_call("a_rotation_cut_at_each_call", Vault::rotate);
}

#[test]
fn new_keys_cut_at_each_call_leave_the_old_ones_or_the_new_ones() {
    cut_at_each_call("new_keys_cut_at_each_call", Vault::renew);
}

/// What a kill has left is read, and its root key made the only one: it has to be durable by then.
#[test]
fn a_kill_an_open_and_a_power_cut_leave_keys_that_open_it() {
    pugdb_sim::check(TARGET, "a_kill_an_open_and_a_power_cut", 0..4, |seed| {
        for call in 0..calls_of(seed, Vault::rotate) {
            for opening in [0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 40] {
                let world = prepared(seed);
                let db = open(&world).unwrap();
                world.stop_at(world.calls() + call);
                let _ = db.keys().unwrap().rotate();
                let world = world.kill();
                world.stop_at(world.calls() + opening);
                let _ = open(&world);
                let world = world.power_cut();
                is_filled(
                    &open(&world).unwrap_or_else(|error| panic!("call {call}, then {opening}: {error}")),
                );
            }
        }
    });
}

/// Nobody knows whether the first one is on disk when the second one begins.
#[test]
fn two_rotations_that_fail_one_after_the_other_leave_keys_that_open_it() {
    pugdb_sim::check(TARGET, "two_rotations_that_fail", 0..2, |seed| {
        let calls = calls_of(seed, Vault::rotate);
        for first in 0..calls {
            for second in (0..calls).step_by(2) {
                let world = prepared(seed);
                let db = open(&world).unwrap();
                world.fail_call(world.calls() + first, io::ErrorKind::Other);
                let _ = db.keys().unwrap().rotate();
                world.heal();
                world.stop_at(world.calls() + second);
                let _ = db.keys().unwrap().rotate();
                let world = if (first + second / 2) % 2 == 0 { world.kill() } else { world.power_cut() };
                is_filled(
                    &open(&world).unwrap_or_else(|error| panic!("calls {first} and {second}: {error}")),
                );
            }
        }
    });
}

#[test]
fn keys_that_outlive_their_database_change_nothing() {
    let world = prepared(3);
    let db = open(&world).unwrap();
    let stale = db.keys().unwrap();
    db.close().unwrap();
    let db = open(&world).unwrap();
    db.keys().unwrap().rotate().unwrap();
    let before = world.read_file(KEYRING).unwrap();
    for error in [stale.rotate().unwrap_err(), stale.renew().unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    }
    assert!(world.read_file(KEYRING).unwrap() == before);
    // Nor does a vault that somebody opened without the database's lock.
    let key = std::sync::Arc::new(pugdb::keys::KeyFile::new(KEY_FILE));
    let other = Vault::open(&world.env(), KEYRING.as_ref(), key).unwrap();
    db.keys().unwrap().rotate().unwrap();
    assert_eq!(other.rotate().unwrap_err().kind(), ErrorKind::Conflict);
    db.close().unwrap();
    is_filled(&open(&world).unwrap());
}

#[test]
fn a_reader_goes_on_while_the_writer_takes_new_keys() {
    let world = prepared(4);
    let db = open(&world).unwrap();
    let reader = super::encrypted(&world).open_read_only(DIR).unwrap();
    db.keys().unwrap().renew().unwrap();
    fill(&db);
    db.flush().unwrap();
    is_filled(&reader);
    let error = reader.keys().unwrap().rotate().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    is_filled(&super::encrypted(&world).open_read_only(DIR).unwrap());
}

#[test]
fn a_rotation_whose_calls_fail_leaves_keys_that_work() {
    pugdb_sim::check(TARGET, "a_rotation_whose_calls_fail", 0..2, |seed| {
        for call in 0..calls_of(seed, Vault::rotate) {
            let world = prepared(seed);
            let db = open(&world).unwrap();
            world.fail_call(world.calls() + call, io::ErrorKind::Other);
            let outcome = db.keys().unwrap().rotate();
            world.heal();
            // The open database goes on, whatever came of it, and the next attempt succeeds.
            db.keyspace("users").unwrap().put("more", "1").unwrap();
            db.keys().unwrap().rotate().unwrap_or_else(|error| panic!("call {call}, {outcome:?}: {error}"));
            db.close().unwrap();
            let db = open(&world).unwrap();
            is_filled(&db);
            assert_eq!(root_keys(&world), 1);
        }
    });
}

/// More keyspaces than there are spare keys for: those that were made have keys that are on disk.
#[test]
fn keyspaces_that_were_made_have_their_keys_whatever_fails_or_ends_meanwhile() {
    pugdb_sim::check(TARGET, "keyspaces_that_were_made_have_their_keys", 0..40, |seed| {
        let world = World::new(seed);
        let db = open(&world).unwrap();
        let mut made = Vec::new();
        let fails_at = fastrand::Rng::with_seed(seed).u64(0..900);
        if seed % 2 == 0 {
            world.fail_when(move |_, path| {
                (path.to_string_lossy().contains("KEYRING") && !fails_at.is_multiple_of(4))
                    .then_some(io::ErrorKind::Other)
            });
        } else {
            world.stop_at(world.calls() + fails_at);
        }
        for number in 0..50 {
            let outcome = db.keyspace(&format!("space{number}")).and_then(|space| space.put("a", "1"));
            if outcome.is_ok() {
                made.push(number);
            }
        }
        if seed % 2 == 0 {
            assert!(made.len() == 50 || made.len() >= 10, "{}", made.len());
            // What failed for want of keys can be made when the disk is well.
            world.heal();
            for number in 0..50 {
                db.keyspace(&format!("space{number}")).and_then(|space| space.put("a", "1")).unwrap();
            }
            made = (0..50).collect();
        }
        let world = world.power_cut();
        let db = open(&world).unwrap_or_else(|error| panic!("{} keyspaces: {error}", made.len()));
        for number in made {
            let space = db.existing_keyspace(&format!("space{number}")).unwrap().unwrap();
            assert_eq!(space.get("a").unwrap().unwrap(), b"1");
        }
    });
}

#[test]
fn a_rotation_writes_the_keyring_and_no_data() {
    let world = prepared(1);
    let db = open(&world).unwrap();
    let data = |world: &World| {
        let mut files = world.files();
        files.retain(|(path, _)| path.starts_with(DIR) && !path.ends_with("KEYRING"));
        files.into_iter().map(|(path, _)| (world.read_file(&path).unwrap(), path)).collect::<Vec<_>>()
    };
    let (before, keyring) = (data(&world), world.read_file(KEYRING).unwrap());
    let rotation = db.keys().unwrap().rotate().unwrap();
    assert!(data(&world) == before, "no file of the data was touched");
    let after = world.read_file(KEYRING).unwrap();
    assert_ne!(keyring, after);
    assert_eq!(rotation.bytes, after.len() as u64);
    is_filled(&db);
}

#[test]
fn new_files_are_made_with_new_keys_and_old_ones_are_read_with_theirs() {
    let world = prepared(2);
    let db = open(&world).unwrap();
    let keys = db.keys().unwrap();
    assert_eq!(keys.status().database_keys.len(), 1);
    keys.renew().unwrap();
    let status = keys.status();
    assert_eq!(status.database_keys.iter().map(|key| key.number).collect::<Vec<_>>(), [1, 2]);
    assert!(status.keyspaces.iter().all(|keyspace| keyspace.keys.len() == 2));
    is_filled(&db);
    fill(&db);
    db.close().unwrap();
    is_filled(&open(&world).unwrap());
}
