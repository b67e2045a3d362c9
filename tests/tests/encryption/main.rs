//! An encrypted database: nothing of the user's in any file, no nonce twice over any number of lives, the wrong key told from damage, keys
//! that are rotated and destroyed while the power fails.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

mod canaries;
mod conversion;
mod erasure;
mod forged;
mod nonces;
mod report;
mod rotation;
mod wrong_keys;

use pugdb::keys::KeyFile;
use pugdb::{Builder, Database, KeyspaceOptions, Result};
use pugdb_sim::World;

/// How a failing test is replayed.
const TARGET: &str = "-p pugdb-tests --test encryption";
const DIR: &str = "db";
const KEYRING: &str = "db/KEYRING";
const KEY_FILE: &str = "keys/root.key";

/// Everything is small, so that there is some of everything: tables, value files, segments.
fn small(world: &World) -> Builder {
    let options =
        KeyspaceOptions { block_bytes: Some(512), separate_values: Some(350), ..KeyspaceOptions::default() };
    Database::builder()
        .env(world.env())
        .default_options(options)
        .memory_bytes(1 << 20)
        .cache_bytes(64 << 10)
        .memtable_bytes(4 << 10)
        .log_segment_bytes(8 << 10)
}

fn encrypted(world: &World) -> Builder {
    small(world).root_key(KeyFile::new(KEY_FILE))
}

fn open(world: &World) -> Result<Database> {
    encrypted(world).open(DIR)
}

/// Two keyspaces in tables, value files and log.
fn fill(db: &Database) {
    let (users, names) = (db.keyspace("users").unwrap(), db.keyspace("names").unwrap());
    for round in 0..4_u8 {
        for number in 0..6_u8 {
            users.put([number], vec![round; 400]).unwrap();
            names.put([number, round], [round; 300]).unwrap();
        }
        if round < 3 {
            db.flush().unwrap();
        }
    }
}

fn is_filled(db: &Database) {
    let (users, names) = (db.keyspace("users").unwrap(), db.keyspace("names").unwrap());
    for number in 0..6_u8 {
        assert_eq!(users.get([number]).unwrap().unwrap(), [3; 400][..]);
        for round in 0..4_u8 {
            assert_eq!(names.get([number, round]).unwrap().unwrap(), [round; 300][..]);
        }
    }
}

/// Everything that is on the disk, to be put back later.
fn copy_of(world: &World, part: &str) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let files = world.files().into_iter().map(|(path, _)| path).filter(|path| path.starts_with(part));
    files.map(|path| (path.clone(), world.read_file(&path).unwrap())).collect()
}
