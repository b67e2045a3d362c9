//! Fuzzes what holds keys: a keyring's file, the keys in it, key headers, parts, values and wrapped keys. Damaged and hostile bytes are an error,
//! never a panic, and what is read is written again as what means the same.

#![no_main]

use std::path::Path;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use pugdb_core::env::Env;
use pugdb_core::seam::{Cipher, FileContext, FileKind};
use pugdb_core::{DatabaseId, FileId, KeyspaceId, SealId};
use pugdb_security::{GivenKey, KeyFile, RootProvider, Secret, Vault, VaultCipher, keyring_bytes_again};
use pugdb_sim::World;
use xxhash_rust::xxh3::xxh3_64;

const KEYRING: &str = "KEYRING";
const ONE: KeyspaceId = KeyspaceId(1);
const DATABASE: DatabaseId = DatabaseId([5; 16]);

fn root() -> GivenKey {
    GivenKey::new(Secret::copy(&[1; 32]))
}

struct Place {
    world: World,
    env: Env,
    vault: Arc<Vault>,
}

impl Place {
    fn new() -> Self {
        let world = World::new(1);
        let env = world.env();
        let vault = Vault::create(&env, Path::new(KEYRING), Arc::new(root()));
        Self { world, env, vault: vault.expect("an empty disk takes a keyring") }
    }
}

// libFuzzer calls from one thread.
thread_local! {
    static PLACE: Place = Place::new();
}

// The first byte chooses who reads the rest.
fuzz_target!(|data: &[u8]| {
    let Some((&mode, data)) = data.split_first() else { return };
    PLACE.with(|place| match mode % 6 {
        0 => keyring(place, data.to_vec()),
        1 => keyring(place, enveloped(data)),
        2 => keys(data),
        3 => headers(place, data),
        4 => {
            let _ = place.vault.open_part(ONE, b"place", data);
            let _ = place.vault.open_value(ONE, SealId(7), b"key", data);
        }
        _ => wrapped(place, data),
    });
});

fn keyring(place: &Place, bytes: Vec<u8>) {
    let other = Path::new("OTHER");
    place.world.write_file(other, &bytes).expect("the disk is whole");
    // Nobody seals one by chance: what opens is the golden one of the crate's tests, which has the same root key.
    if let Ok(vault) = Vault::open_beside(&place.env, other, Arc::new(root())) {
        assert_eq!(vault.database(), DATABASE);
    }
}

/// With the length and the checksum that are right, so that what is behind them is reached.
fn enveloped(data: &[u8]) -> Vec<u8> {
    let mut bytes = [b"PugKeys\n", data].concat();
    bytes.resize(bytes.len().max(16), 0);
    let length = u32::try_from(bytes.len() + 8).expect("inputs are short");
    bytes[12..16].copy_from_slice(&length.to_le_bytes());
    let sum = xxh3_64(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

/// What lies under a keyring's seal.
fn keys(data: &[u8]) {
    if let Ok(again) = keyring_bytes_again(data) {
        assert_eq!(keyring_bytes_again(&again).expect("it was a keyring"), again);
    }
}

fn headers(place: &Place, data: &[u8]) {
    let cipher = VaultCipher::new(Arc::clone(&place.vault));
    let database = place.vault.database();
    for (kind, keyspace) in [(FileKind::Log, None), (FileKind::Table, Some(ONE))] {
        let context = FileContext { database, file: FileId([6; 16]), kind, keyspace };
        let _ = cipher.open(&context, data);
        let _ = cipher.sealed_with(&context, data);
        let (_, keys) = cipher.create(&context).expect("the keyspace has keys");
        let _ = keys.accept(ONE, data);
    }
    let _ = cipher.check(b"statement", data);
}

/// Not a passphrase's: each would cost what a guess does.
fn wrapped(place: &Place, data: &[u8]) {
    let _ = root().unwrap(&place.env, DATABASE, data);
    let _ = KeyFile::new("missing.key").unwrap(&place.env, DATABASE, data);
}
