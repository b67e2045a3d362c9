//! `key encrypt`, `key rewrite` and keyspaces that are left plain.

use std::path::Path;

use serde_json::Value;

use crate::command::{Run, pugdb};
use crate::directory::read;

const KEY: &str = "file:keys/orders.key";

/// Files of tables that have this text.
fn shows(dir: &Path, text: &str) -> usize {
    let tables = std::fs::read_dir(dir.join("pugdb-data/tables")).unwrap();
    let has = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    tables.filter(|entry| has(&read(&entry.as_ref().unwrap().path()))).count()
}

#[track_caller]
fn done_well(run: &Run) {
    assert_eq!(run.code, 0, "{run}");
}

#[test]
fn a_database_is_encrypted_afterwards_and_opens_with_its_key_only() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    pugdb(dir, &["init", "--no-encryption"]);
    pugdb(dir, &["put", "ada", "a difference engine"]).gives(0, "");
    done_well(&pugdb(dir, &["compact"]));
    assert!(shows(dir, "a difference engine") > 0, "the control");
    let done = pugdb(dir, &["key", "encrypt", "--root-key", KEY]);
    assert!(done.code == 0 && done.text().starts_with("1 files were written anew, "), "{done}");
    assert!(
        done.stderr.contains("is encrypted from now on") && done.stderr.contains("keep copies"),
        "{done}"
    );
    assert_eq!(shows(dir, "a difference engine"), 0);
    pugdb(dir, &["get", "ada"]).fails(4, &["is encrypted; give its root key by --root-key"]);
    pugdb(dir, &["get", "ada", "--root-key", KEY]).gives(0, "a difference engine");
    // It has an audit log, as every encrypted database; and a second time nothing is left to do.
    done_well(&pugdb(dir, &["audit", "verify", "--root-key", KEY]));
    let again = pugdb(dir, &["key", "encrypt", "--root-key", KEY, "--json"]);
    assert!(again.code == 0 && again.text().contains("\"rewritten_files\":0"), "{again}");
    pugdb(dir, &["key", "encrypt", "--root-key", "file:keys/other.key"]).fails(1, &["is not there"]);
    pugdb(dir, &["key", "encrypt", "--data", "nowhere", "--root-key", KEY])
        .fails(1, &["there is no database"]);
}

/// Nobody names a key: the file is where every command looks for it, also if the first attempt has made no more than that.
#[test]
fn without_a_root_key_its_file_is_made_where_every_command_finds_it() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    pugdb(dir, &["put", "ada", "1815", "--no-encryption"]).gives(0, "");
    let done = pugdb(dir, &["key", "encrypt"]);
    assert!(done.code == 0 && done.stderr.contains("is encrypted from now on"), "{done}");
    pugdb(dir, &["get", "ada"]).gives(0, "1815");
    let again = pugdb(dir, &["key", "encrypt"]);
    assert!(again.code == 0 && again.text().starts_with("0 files"), "{again}");
    pugdb(dir, &["get", "ada"]).gives(0, "1815");
}

#[test]
fn keyspaces_are_left_plain_and_sealed_again_and_old_keys_are_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let run = |arguments: &[&str]| pugdb(dir, &[arguments, &["--root-key", KEY]].concat());
    done_well(&run(&["init"]));
    done_well(&run(&["keyspace", "create", "tiles", "--sealing", "plain"]));
    run(&["put", "ada", "a difference engine", "--keyspace", "tiles"]).gives(0, "");
    run(&["put", "ada", "an analytical engine"]).gives(0, "");
    done_well(&run(&["compact"]));
    done_well(&run(&["compact", "--keyspace", "tiles"]));
    assert!(shows(dir, "a difference engine") > 0 && shows(dir, "an analytical engine") == 0);
    run(&["erase", "--whole-keyspace", "tiles"]).fails(2, &["no key erases those"]);
    done_well(&run(&["keyspace", "alter", "tiles", "--sealing", "sealed"]));
    let done = run(&["key", "rewrite"]);
    assert!(done.code == 0 && done.text().starts_with("1 files were written anew, "), "{done}");
    assert_eq!(shows(dir, "a difference engine"), 0);
    run(&["get", "ada", "--keyspace", "tiles"]).gives(0, "a difference engine");

    done_well(&run(&["key", "renew"]));
    let rewritten = |age: &str| run(&["key", "rewrite", "--older-than", age, "--json"]).text().to_owned();
    assert!(rewritten("1d").contains("\"rewritten_files\":0"));
    let list = run(&["key", "list"]);
    assert!(list.text().contains("keyspace tiles  2, newest"), "{list}");
    assert!(!rewritten("0").contains("\"rewritten_files\":0"));
    let sealed_with_old_keys = || {
        let listed = run(&["key", "list", "--json"]);
        let rows = listed.text().lines().map(|row| serde_json::from_str::<Value>(row).unwrap());
        let old = rows.filter(|row| row["keyspace"] == "tiles" && row["newest"] == false);
        old.map(|row| row["files"].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!(sealed_with_old_keys(), 0);
    assert!(rewritten("0").contains("\"rewritten_files\":0"));
    run(&["key", "rewrite", "--older-than", "old"]).fails(2, &["as 30d"]);
}
