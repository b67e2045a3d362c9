//! `import rdb` on dumps made by hand. `tests/clients/rdb_import.py` imports those of a real server.

use crate::command::{pugdb, pugdb_with};
use crate::directory::write;

/// A dump without checksum: two databases, an expiry, an expired key, a list and a hash.
fn dump() -> Vec<u8> {
    let parts: [&[u8]; 11] = [
        b"REDIS0011\xfa\x09redis-ver\x057.2.0",
        b"\xfe\x00\xfb\x03\x01",
        b"\x00\x03ada\xc1\x17\x07",
        b"\xfc\x00\x20\x4a\xa9\xd1\x01\x00\x00\x00\x04long\x01v",
        b"\xfd\x01\x00\x00\x00\x00\x03old\x01v",
        b"\x01\x04list\x02\x01a\x01b",
        b"\x04\x04hash\x01\x01f\x01v",
        b"\xfe\x07",
        b"\x00\x02\xff\x00\xc3\x05\x0a\x00a\xe0\x00\x00",
        b"\xff",
        &[0; 8],
    ];
    parts.concat()
}

#[test]
fn strings_are_kept_and_others_counted_by_type() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("dump.rdb"), &dump());
    let run = pugdb(dir.path(), &["import", "rdb", "dump.rdb"]);
    run.fails(
        3,
        &[
            "skipped: 1 of type hash\n",
            "skipped: 1 of type list\n",
            "imported 3 entries",
            "skipped 1 that are expired; left out 2\n",
        ],
    );
    let rows = "{\"key\":\"ada\",\"value\":\"1815\"}\n{\"key\":\"long\",\"value\":\"v\",\"expires_at_ms\":2000000000000}\n";
    pugdb(dir.path(), &["export", "jsonl", "-"]).gives(0, rows);
    pugdb(dir.path(), &["scan", "--keyspace", "db7"]).gives(0, "\\xff\\x00\taaaaaaaaaa\n");
    // Again: nothing changes.
    assert_eq!(pugdb(dir.path(), &["import", "rdb", "dump.rdb"]).code, 3);
    pugdb(dir.path(), &["export", "jsonl", "-"]).gives(0, rows);
}

#[test]
fn one_database_can_be_chosen_and_named_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let one = ["import", "rdb", "-", "--database", "7", "--keyspace-prefix", "old-"];
    pugdb_with(dir.path(), &one, &dump()).gives(0, "");
    let stats = pugdb(dir.path(), &["stats"]);
    assert!(stats.text().contains("keyspaces: 1 (old-7)"), "{stats}");
    pugdb(dir.path(), &["import", "rdb", "-", "--keyspace", "users"]).fails(2, &["cannot be used with"]);
    pugdb(dir.path(), &["import", "rdb", "-", "--database", "seven"]).fails(2, &["a number from 0, or all"]);
}

#[test]
fn a_damaged_file_imports_nothing_unless_it_is_unchecked() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dump();
    write(&dir.path().join("short"), &whole[..whole.len() - 20]);
    let run = pugdb(dir.path(), &["import", "rdb", "short"]);
    run.fails(3, &["short, byte ", "the dump ends in the middle", "nothing was imported"]);
    let mut sum = whole.clone();
    let at = sum.len() - 1;
    sum[at] = 1;
    write(&dir.path().join("sum"), &sum);
    pugdb(dir.path(), &["import", "rdb", "sum"]).fails(3, &["the checksum at the end is another one"]);
    write(&dir.path().join("text"), b"REDISX is no dump, secret");
    let run = pugdb(dir.path(), &["import", "rdb", "text"]).fails(2, &["no dump of Redis"]);
    assert!(!run.stderr.contains("secret"), "{run}");
    write(&dir.path().join("new"), b"REDIS0099\xff");
    pugdb(dir.path(), &["import", "rdb", "new"]).fails(2, &["version 99; versions 1 to 12 are read"]);
    assert!(!dir.path().join("pugdb-data").exists());
    let run = pugdb(dir.path(), &["import", "rdb", "short", "--unchecked"]);
    run.fails(3, &["ends in the middle", "what comes before it was imported", "imported 2 entries"]);
    pugdb(dir.path(), &["scan"]).gives(0, "ada\t1815\nlong\tv\n");
}

#[test]
fn a_value_over_the_limit_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = b"REDIS0004\x00\x01a\x80".to_vec();
    bytes.extend_from_slice(&300_000_u32.to_be_bytes());
    bytes.extend_from_slice(&vec![b'x'; 300_000]);
    bytes.extend_from_slice(b"\x00\x01b\x01v\xff");
    let run = pugdb_with(dir.path(), &["import", "rdb", "-", "--memory", "1MiB"], &bytes);
    run.fails(3, &["left out: a key of database 0: a value has at most", "imported 1 entry", "left out 1\n"]);
    pugdb(dir.path(), &["scan"]).gives(0, "b\tv\n");
}
