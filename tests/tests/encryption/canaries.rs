//! Ten thousand secrets as keys, as many as values, some as names of keyspaces: no byte of them in any file, and all of them without encryption.

use std::collections::HashSet;

use pugdb::{Builder, KeyspaceOptions, Logging};
use pugdb_sim::World;

use super::{DIR, encrypted, small};

const SECRETS: usize = 10_000;
/// The last digits, for what a key has in common with the one before it is not stored again.
const WINDOW: usize = 12;

fn secret(kind: &str, number: usize) -> String {
    // Alike from afar and each of its own, so that neither compression nor chance hides one.
    let number = number as u64 * 8 + kind.len() as u64;
    format!("{kind}-{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Writes them in every way there is, and returns every byte of every file after a kill.
fn disk(seed: u64, builder: impl Fn(&World) -> Builder) -> Vec<u8> {
    let world = World::new(seed);
    let uncompressed = KeyspaceOptions {
        upper_compression: Some(pugdb::Compression::None),
        bottom_compression: Some(pugdb::Compression::None),
        ..KeyspaceOptions::default()
    };
    let db = builder(&world).default_options(uncompressed).memory_bytes(4 << 20).open(DIR).unwrap();
    let spaces: Vec<_> = (0..4).map(|number| db.keyspace(&secret("name", number)).unwrap()).collect();
    let unlogged = KeyspaceOptions { logging: Some(Logging::Unlogged), ..uncompressed };
    let unlogged = db.keyspace_with(&secret("name", 4), unlogged).unwrap();
    for number in 0..SECRETS {
        let value = format!("{} {}", secret("value", number), "x".repeat(number % 600));
        let space = if number % 7 == 0 { &unlogged } else { &spaces[number % 4] };
        space.put(secret("key", number), value).unwrap();
        match number % 500 {
            250 => db.flush().unwrap(),
            499 => spaces[number % 4].compact_range(..).unwrap(),
            _ => {}
        }
    }
    unlogged.compact_range(..).unwrap();
    db.checkpoint("copy").unwrap();
    drop((spaces, unlogged, db));
    let world = world.kill();
    let files = world.files();
    files
        .iter()
        .flat_map(|(path, _)| {
            [path.to_string_lossy().into_owned().into_bytes(), world.read_file(path).unwrap()].concat()
        })
        .collect()
}

fn found(disk: &[u8]) -> usize {
    let mut all: Vec<String> = (0..5).map(|number| secret("name", number)).collect();
    all.extend((0..SECRETS).flat_map(|number| [secret("key", number), secret("value", number)]));
    // All at once: a search through megabytes for each would take long.
    let digits: HashSet<&[u8]> = all.iter().map(|text| &text.as_bytes()[text.len() - WINDOW..]).collect();
    assert_eq!(digits.len(), all.len());
    disk.windows(WINDOW).filter(|window| digits.contains(window)).collect::<HashSet<_>>().len()
}

#[test]
fn no_file_shows_a_key_a_value_or_a_name_and_without_encryption_they_all_do() {
    let sealed = disk(1, encrypted);
    assert_eq!(found(&sealed), 0);
    let plain = disk(1, small);
    let count = found(&plain);
    // The rest shares more digits with its neighbour.
    assert!(count > (2 * SECRETS) * 9 / 10, "the control: {count}");
}
