//! `put --subject` and `erase`.

use std::fs;
use std::path::Path;

use crate::command::{Run, pugdb};
use crate::directory::write;

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
        .fails(2, &["stop the server"]);
    pugdb(dir.path(), &["put", "a", "1", "--subject", "ada", "--url", "redis://127.0.0.1:1"])
        .fails(2, &["--url"]);
}
