//! Keys of a keyspace that are destroyed: nothing brings it back, here or in a copy, and its neighbours are whole.

use pugdb::ErrorKind;
use pugdb_sim::World;
use pugdb_tests::hostile::decent;

use super::{KEYRING, copy_of, encrypted, fill, open};

#[test]
fn what_was_sealed_with_destroyed_keys_is_erased_here_and_in_every_copy() {
    let world = World::new(1);
    let db = open(&world).unwrap();
    fill(&db);
    let users = db.keyspace("users").unwrap();
    db.checkpoint("copy").unwrap();
    let backup = copy_of(&world, "db");
    db.close().unwrap();

    let db = open(&world).unwrap();
    let destroyed = db.keys().unwrap().destroy_keyspaces(&[users.id()]).unwrap();
    assert!(destroyed.destroyed);
    let status = db.keys().unwrap().status();
    let of_users = status.keyspaces.iter().find(|keyspace| keyspace.keyspace == users.id()).unwrap();
    assert!(of_users.keys.is_empty() && of_users.destroyed_at.is_some());
    db.close().unwrap();

    for (dir, keyring) in [("db", None), ("copy", Some(KEYRING))] {
        let builder = encrypted(&world);
        let builder = keyring.map_or(builder.clone(), |keyring| builder.keyring(keyring));
        let error = match builder.open(dir) {
            Err(error) => error,
            Ok(db) => db.keyspace("users").unwrap().get([1]).unwrap_err(),
        };
        assert_eq!(error.kind(), ErrorKind::Erased, "{dir}: {}", decent(&error));
    }
    // A whole backup of the directory, from before: its keyring needs a root key that is gone.
    for (path, bytes) in backup {
        world.write_file(&path, &bytes).unwrap();
    }
    let error = open(&world).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{}", decent(&error));
}
