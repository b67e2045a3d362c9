//! A scan that nobody goes on with holds what it looks at, and no more of what is written meanwhile.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test's helper fails as its test does")]

use std::fs;

use pugdb::{Database, Durability};

/// What this process has in memory.
fn resident_bytes() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = pages.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[test]
fn memory_stays_flat_under_an_idle_scan_and_a_full_load_of_writes() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::builder()
        .memory_bytes(16 << 20)
        .memtable_bytes(1 << 20)
        .durability(Durability::Os)
        .open(dir.path().join("data"))
        .unwrap();
    let keyspace = db.keyspace("users").unwrap();
    let write = |rounds: u64| {
        for number in 0..rounds {
            keyspace.put((number * 7919 % 20_000).to_be_bytes(), [7; 500]).unwrap();
        }
    };
    write(20_000);
    let mut scan = keyspace.scan(..);
    assert!(scan.next().unwrap().is_ok());
    write(40_000);
    let before = resident_bytes();
    write(200_000);
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 24 << 20, "{grown} bytes more after 100 MB of writes");
    assert_eq!(scan.map(Result::unwrap).count() + 1, 20_000, "and it still sees what was there");
}
