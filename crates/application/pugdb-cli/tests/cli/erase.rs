//! `put --subject` and `erase`.

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use crate::command::{Run, pugdb};
use crate::directory::write;
use crate::server::Running;

fn with_key(dir: &Path, arguments: &[&str]) -> Run {
    pugdb(dir, &[arguments, &["--root-key", "file:keys/orders.key"]].concat())
}

fn made(dir: &Path) {
    for (key, subject) in [("1", "ada@example.org"), ("2", "ada@example.org"), ("3", "bob@example.org")] {
        with_key(dir, &["put", key, "an engine", "--subject", subject]).gives(0, "");
    }
    with_key(dir, &["put", "4", "nobody's"]).gives(0, "");
}

#[test]
fn a_subject_is_erased_and_the_certificate_says_so_and_names_nobody() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    fs::copy(dir.path().join("pugdb-data/KEYRING"), dir.path().join("old")).unwrap();
    with_key(dir.path(), &["get", "1"]).gives(0, "an engine");
    with_key(dir.path(), &["checkpoint", "copy"]);
    let erased = with_key(dir.path(), &["erase", "--subject", "ada@example.org", "--certificate", "ada.txt"]);
    erased.gives(0, "");
    with_key(dir.path(), &["get", "1"]).fails(4, &["was erased", "nothing brings it back"]);
    with_key(dir.path(), &["get", "3"]).gives(0, "an engine");
    with_key(dir.path(), &["scan"]).gives(0, "3\tan engine\n4\tnobody's\n");
    let copy = ["get", "1", "--data", "copy", "--keyring", "pugdb-data/KEYRING"];
    with_key(dir.path(), &copy).fails(4, &["was erased"]);

    let text = fs::read_to_string(dir.path().join("ada.txt")).unwrap();
    assert!(text.starts_with("PugDB erasure certificate 1\n") && text.contains("\nold root key destroyed\n"));
    assert!(!text.contains("ada@example") && text.contains("cannot be proved"), "{text}");
    let check = |more: &[&str]| with_key(dir.path(), &[&["erase", "--check", "ada.txt"], more].concat());
    let checked = check(&["--subject", "ada@example.org"]);
    assert!(
        checked.code == 0
            && checked.text().starts_with("signed by this database, unchanged: one subject, erased 20"),
        "{checked}"
    );
    check(&["--subject", "bob@example.org"]).fails(1, &["not about that name"]);
    let changed = text.replace("old root key destroyed", "old root key kept");
    write(&dir.path().join("ada.txt"), changed.as_bytes());
    check(&[]).fails(3, &["ada.txt", "was changed"]);
    write(&dir.path().join("ada.txt"), b"something else");
    check(&[]).fails(2, &["no erasure certificate"]);

    let verified = with_key(dir.path(), &["erase", "--verify", "--old-keyring", "old"]);
    verified.gives(
        0,
        "4 entries looked at, 1 of them sealed for subjects that are there\n\
         2 values are erased, 0 of them could be opened\n\
         0 keyspaces are erased and have no key\n\
         old does not open\n",
    );
    let open = with_key(dir.path(), &["erase", "--verify", "--json", "--old-keyring", "pugdb-data/KEYRING"]);
    assert!(
        open.code == 3 && open.text().contains("\"old_keyrings_that_open\":[\"pugdb-data/KEYRING\"]"),
        "{open}"
    );
    with_key(dir.path(), &["delete", "1"]).gives(0, "");
    with_key(dir.path(), &["put", "2", "again"]).gives(0, "");
    with_key(dir.path(), &["get", "2"]).gives(0, "again");
    // Where the certificate cannot be kept, it is shown.
    let again = with_key(dir.path(), &["erase", "--subject", "bob@example.org", "--certificate", "ada.txt"]);
    again.fails(
        2,
        &["PugDB erasure certificate 1", "it is erased", "signature ", "could not write the certificate"],
    );
}

#[test]
fn a_keyspace_is_erased_and_a_hold_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    with_key(dir.path(), &["put", "k", "v", "--keyspace", "orders"]).gives(0, "");
    let hold = |how: &str| with_key(dir.path(), &["erase", how, "--whole-keyspace", "orders"]);
    hold("--hold").gives(0, "1 held\n");
    hold("--hold").gives(0, "0 held\n");
    with_key(dir.path(), &["erase", "--hold", "--subject", "ada@example.org"]).gives(0, "1 held\n");
    let held = with_key(dir.path(), &["erase", "--held"]);
    assert!(held.text().contains("keyspace  orders  ") && held.text().contains("\nsubject   "), "{held}");
    with_key(dir.path(), &["erase", "--whole-keyspace", "orders"])
        .fails(4, &["under legal hold since 20", "release it first"]);
    with_key(dir.path(), &["erase", "--subject", "bob@example.org", "--subject", "ada@example.org"])
        .fails(4, &["under legal hold"]);
    with_key(dir.path(), &["get", "3"]).gives(0, "an engine");
    hold("--release").gives(0, "1 released\n");
    let erased = with_key(dir.path(), &["erase", "--whole-keyspace", "orders"]);
    assert!(erased.code == 0 && erased.text().contains("\nerased keyspace "), "{erased}");
    with_key(dir.path(), &["get", "k", "--keyspace", "orders"]).fails(1, &["there is no keyspace"]);
    with_key(dir.path(), &["erase", "--whole-keyspace", "orders"])
        .fails(1, &["there is no keyspace \"orders\""]);
    with_key(dir.path(), &["get", "1"]).gives(0, "an engine");
}

#[test]
fn what_cannot_be_erased_says_why() {
    let dir = tempfile::tempdir().unwrap();
    pugdb(dir.path(), &["put", "a", "1", "--no-encryption"]).gives(0, "");
    pugdb(dir.path(), &["erase", "--subject", "ada"]).fails(2, &["the database is not encrypted"]);
    pugdb(dir.path(), &["put", "a", "1", "--subject", "ada"]).fails(2, &["is not encrypted"]);
    pugdb(dir.path(), &["erase"]).fails(2, &["--subject"]);
    pugdb(dir.path(), &["erase", "--subject", "ada", "--url", "redis://127.0.0.1:1"])
        .fails(4, &["no server answers"]);
    for check in [["--check", "erase.rs"], ["--verify", "--old-keyring=old"]] {
        let words = [&["erase"], &check[..], &["--url", "redis://127.0.0.1:1"]].concat();
        pugdb(dir.path(), &words).fails(2, &["does not work through a server"]);
    }
}

#[test]
fn a_server_erases_and_changes_keys_while_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let key = format!("file:{}", dir.path().join("keys/orders.key").display());
    let server = Running::start(&dir.path().join("pugdb-data"), &["--root-key", &key]);
    let url = format!("redis://{}", server.address);
    let ask = |words: &[&str]| pugdb(dir.path(), &[words, &["--url", &url]].concat());
    ask(&["put", "1", "an engine", "--subject", "ada@example.org"]).gives(0, "");
    ask(&["put", "2", "a loom", "--subject", "bob@example.org", "--expire-in", "1000"]).gives(0, "");
    ask(&["put", "3", "a mill", "--keyspace", "db3"]).gives(0, "");

    ask(&["erase", "--hold", "--subject", "ada@example.org"]).gives(0, "1 held\n");
    ask(&["erase", "--hold", "--whole-keyspace", "db3"]).gives(0, "1 held\n");
    let held = ask(&["erase", "--held"]);
    assert!(held.text().contains("keyspace  db3 ") && held.text().contains("\nsubject   "), "{held}");
    ask(&["erase", "--subject", "ada@example.org"]).fails(4, &["refused", "under legal hold since 20"]);
    ask(&["erase", "--release", "--subject", "ada@example.org"]).gives(0, "1 released\n");
    ask(&["erase", "--release", "--whole-keyspace", "db3"]).gives(0, "1 released\n");
    ask(&["erase", "--subject", "ada@example.org", "--certificate", "ada.txt"]).gives(0, "");
    ask(&["get", "1"]).fails(4, &["ERASED"]);
    ask(&["get", "2"]).gives(0, "a loom");
    let erased = ask(&["erase", "--whole-keyspace", "db3", "--json"]);
    assert!(erased.code == 0 && erased.text().contains("\"old_root_key_destroyed\":true"), "{erased}");
    ask(&["erase", "--whole-keyspace", "db3"]).fails(1, &["there is no keyspace"]);
    ask(&["get", "3", "--keyspace", "db3"]).fails(1, &[]);
    ask(&["erase", "--verify"]).gives(
        0,
        "2 entries looked at, 1 of them sealed for subjects that are there\n\
         1 values are erased, 0 of them could be opened\n\
         1 keyspaces are erased and have no key\n",
    );
    let rotated = ask(&["key", "rotate"]);
    assert!(rotated.text().contains("the old root key is gone from"), "{rotated}");
    assert!(ask(&["key", "renew", "--json"]).text().contains("\"written_bytes\":"));
    let rewritten = ask(&["key", "rewrite", "--older-than", "0"]);
    assert!(rewritten.text().contains("files were written anew"), "{rewritten}");
    ask(&["key", "list"]).fails(2, &["key list", "does not work through a server"]);
    // What a server says of its keys is what its directory says.
    let status = ask(&["key", "status"]);
    assert!(status.text().contains("1 subjects and 1 keyspaces are erased"), "{status}");
    let as_json = ask(&["key", "status", "--json"]);
    server.stop(Signal::TERM);
    let here = |words: &[&str]| pugdb(dir.path(), &[words, &["--root-key", &key]].concat());
    assert_eq!(here(&["key", "status"]).text(), status.text());
    assert_eq!(here(&["key", "status", "--json"]).text(), as_json.text());
    here(&["erase", "--check", "ada.txt", "--subject", "bob@example.org"]).fails(1, &["not about that name"]);
    let checked = here(&["erase", "--check", "ada.txt", "--subject", "ada@example.org"]);
    assert!(checked.text().starts_with("signed by this database, unchanged: one subject"), "{checked}");
}
