//! A key that is wrong, missing, another database's or from last week; files that are plain where they should not be.

use pugdb::ErrorKind;
use pugdb::keys::{GivenKey, KeyFile, Secret};
use pugdb_core::env::os::OsRandom;
use pugdb_sim::World;
use pugdb_tests::hostile::decent;

use super::{DIR, KEY_FILE, KEYRING, copy_of, encrypted, fill, is_filled, open, small};

fn closed(seed: u64) -> World {
    let world = World::new(seed);
    let db = open(&world).unwrap();
    fill(&db);
    db.close().unwrap();
    world
}

/// What an open says; afterwards the right key still opens it.
#[track_caller]
fn refused(world: &World, outcome: pugdb::Result<pugdb::Database>, kind: ErrorKind, part: &str) {
    let error = outcome.unwrap_err();
    let text = decent(&error);
    assert_eq!(error.kind(), kind, "{text}");
    assert!(text.contains(part), "{text}");
    let db = open(world).unwrap();
    is_filled(&db);
    db.close().unwrap();
}

#[test]
fn without_its_root_key_it_does_not_open_and_says_what_is_missing() {
    let world = closed(1);
    refused(&world, small(&world).open(DIR), ErrorKind::Denied, "is encrypted; give its root key");
    refused(&world, small(&world).open_read_only(DIR), ErrorKind::Denied, "is encrypted; give its root key");
    let elsewhere = small(&world).root_key(KeyFile::new("nowhere/root.key"));
    refused(&world, elsewhere.open(DIR), ErrorKind::NotFound, "the key file nowhere/root.key is not there");
}

#[test]
fn a_wrong_root_key_is_denied_and_not_taken_for_damage() {
    let world = World::new(2);
    let key = GivenKey::new(Secret::random(&OsRandom));
    let db = small(&world).root_key(key.clone()).open(DIR).unwrap();
    fill(&db);
    db.close().unwrap();
    let other = GivenKey::new(Secret::random(&OsRandom));
    let error = small(&world).root_key(other).open(DIR).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{}", decent(&error));
    assert!(decent(&error).contains("wrong key"));
    is_filled(&small(&world).root_key(key).open(DIR).unwrap());
}

#[test]
fn a_key_file_of_another_database_is_named() {
    let (world, other) = (closed(3), closed(4));
    let key = world.read_file(KEY_FILE).unwrap();
    world.write_file(KEY_FILE, &other.read_file(KEY_FILE).unwrap()).unwrap();
    let error = open(&world).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(decent(&error).contains("is of another database"), "{error}");
    world.write_file(KEY_FILE, &key).unwrap();
    is_filled(&open(&world).unwrap());
}

#[test]
fn a_keyring_of_another_database_is_refused_with_its_key_or_without() {
    let (world, other) = (closed(5), closed(6));
    let (keyring, key) = (world.read_file(KEYRING).unwrap(), world.read_file(KEY_FILE).unwrap());
    world.write_file(KEYRING, &other.read_file(KEYRING).unwrap()).unwrap();
    let error = open(&world).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{}", decent(&error));
    world.write_file(KEY_FILE, &other.read_file(KEY_FILE).unwrap()).unwrap();
    let error = open(&world).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(decent(&error).contains("it is another database's"), "{error}");
    world.write_file(KEYRING, &keyring).unwrap();
    world.write_file(KEY_FILE, &key).unwrap();
    is_filled(&open(&world).unwrap());
}

#[test]
fn last_weeks_keyring_does_not_open_after_a_rotation() {
    let world = closed(7);
    let old = world.read_file(KEYRING).unwrap();
    let db = open(&world).unwrap();
    assert!(db.keys().unwrap().rotate().unwrap().destroyed);
    db.close().unwrap();
    let new = world.read_file(KEYRING).unwrap();
    world.write_file(KEYRING, &old).unwrap();
    let error = open(&world).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(decent(&error).contains("one of the two is an older copy"), "{error}");
    world.write_file(KEYRING, &new).unwrap();
    is_filled(&open(&world).unwrap());
}

/// A root key that is given is not destroyed: the old keyring opens, but has not the keys that were made since.
#[test]
fn last_weeks_keyring_that_lacks_a_key_is_told_from_damage() {
    let world = World::new(8);
    let key = GivenKey::new(Secret::random(&OsRandom));
    let db = small(&world).root_key(key.clone()).open(DIR).unwrap();
    fill(&db);
    let old = world.read_file(KEYRING).unwrap();
    db.keys().unwrap().renew().unwrap();
    db.close().unwrap();
    // The manifest is sealed with a new key now.
    let db = small(&world).root_key(key.clone()).open(DIR).unwrap();
    db.close().unwrap();
    let new = world.read_file(KEYRING).unwrap();
    world.write_file(KEYRING, &old).unwrap();
    let error = small(&world).root_key(key.clone()).open(DIR).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(decent(&error).contains("older than the data"), "{error}");
    world.write_file(KEYRING, &new).unwrap();
    is_filled(&small(&world).root_key(key).open(DIR).unwrap());
}

#[test]
fn a_keyring_cut_off_anywhere_or_missing_is_an_error_and_loses_nothing() {
    let world = closed(9);
    let whole = world.read_file(KEYRING).unwrap();
    for length in 0..whole.len() {
        world.write_file(KEYRING, &whole[..length]).unwrap();
        let error = open(&world).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{length}: {}", decent(&error));
    }
    world.remove_file(KEYRING).unwrap();
    let error = open(&world).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(decent(&error).contains("has no keyring"), "{error}");
    // It is not taken for a database without encryption, either.
    let error = small(&world).open(DIR).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{}", decent(&error));
    world.write_file(KEYRING, &whole).unwrap();
    is_filled(&open(&world).unwrap());
}

/// Whoever can write the disk can make checksums anew: the seals notice.
#[test]
fn a_changed_byte_under_a_right_checksum_is_noticed_in_keyring_and_key_file() {
    let world = closed(10);
    let whole = world.read_file(KEYRING).unwrap();
    let body = whole.len() - 8;
    for at in 0..body {
        let mut forged = whole.clone();
        forged[at] ^= 1;
        let checksum = xxhash_rust::xxh3::xxh3_64(&forged[..body]);
        forged[body..].copy_from_slice(&checksum.to_le_bytes());
        world.write_file(KEYRING, &forged).unwrap();
        let error = open(&world).unwrap_err();
        assert_ne!(error.kind(), ErrorKind::Internal, "{at}: {}", decent(&error));
    }
    world.write_file(KEYRING, &whole).unwrap();
    is_filled(&open(&world).unwrap());
}

#[test]
fn a_plain_database_is_not_opened_with_a_root_key() {
    let world = World::new(11);
    let db = small(&world).open(DIR).unwrap();
    fill(&db);
    db.close().unwrap();
    let error = open(&world).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(decent(&error).contains("it is not encrypted and opens without a root key"), "{error}");
    assert!(world.read_file(KEY_FILE).is_err(), "nothing was made");
    is_filled(&small(&world).open(DIR).unwrap());
}

/// All of the plain files of a database, in the place of the sealed ones: whoever can write the disk would choose what is read.
#[test]
fn plain_files_in_an_encrypted_database_are_refused() {
    let (world, plain) = (closed(12), World::new(13));
    let db = small(&plain).open(DIR).unwrap();
    fill(&db);
    db.close().unwrap();
    let ours = copy_of(&world, DIR);
    for (path, _) in ours.iter().filter(|(path, _)| !path.ends_with("KEYRING")) {
        world.remove_file(path).unwrap();
    }
    for (path, bytes) in copy_of(&plain, DIR) {
        world.write_file(&path, &bytes).unwrap();
    }
    let error = open(&world).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(decent(&error).contains("the file is not encrypted, and the database is"), "{error}");
}

#[test]
fn a_checkpoint_opens_with_the_keyring_of_its_database_and_not_without() {
    let world = World::new(14);
    let db = open(&world).unwrap();
    fill(&db);
    db.checkpoint("copy").unwrap();
    assert!(world.files().iter().all(|(path, _)| !path.starts_with("copy") || !path.ends_with("KEYRING")));
    let error = encrypted(&world).open("copy").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{}", decent(&error));
    let copy = encrypted(&world).keyring(KEYRING).open("copy").unwrap();
    is_filled(&copy);
    copy.keyspace("users").unwrap().put("of the copy", "1").unwrap();
    // It has keys for some more keyspaces, and makes none for others.
    let mut made = (0..64).map(|number| copy.keyspace(&format!("more{number}")));
    let error = made.find_map(Result::err).unwrap();
    assert_eq!(error.kind(), ErrorKind::Denied, "{}", decent(&error));
    let error = copy.keys().unwrap().rotate().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{}", decent(&error));
    let error = encrypted(&world).keyring(KEYRING).open("no such").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{}", decent(&error));
    copy.close().unwrap();
    is_filled(&encrypted(&world).keyring(KEYRING).open("copy").unwrap());
    db.close().unwrap();
    is_filled(&open(&world).unwrap());
}
