//! `audit`, and what other commands leave in the audit log.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::command::{Run, pugdb};
use crate::directory::{read, write};
use crate::server::Running;

const KEY: [&str; 2] = ["--root-key", "file:keys/orders.key"];

fn with_key(dir: &Path, arguments: &[&str]) -> Run {
    pugdb(dir, &[arguments, &KEY].concat())
}

/// A database with some history: 1 open, 2 close; 3 open, 4 and 5 a keyspace, 6 close; 7 open, 8 and 9 a rotation, 10 close.
fn made(dir: &Path) {
    assert_eq!(with_key(dir, &["init"]).code, 0);
    with_key(dir, &["keyspace", "create", "users"]);
    with_key(dir, &["key", "rotate"]);
}

/// The actions that `show` prints.
fn actions(dir: &Path, more: &[&str]) -> Vec<String> {
    let shown = with_key(dir, &[&["audit", "show", "--json"], more].concat());
    let lines = shown.text();
    let action = |line: &str| {
        let record: Value = serde_json::from_str(line).unwrap();
        format!("{} {}", record["action"].as_str().unwrap(), record["outcome"].as_str().unwrap())
    };
    lines.lines().map(action).collect()
}

#[test]
fn what_was_done_is_shown_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    let all = actions(dir.path(), &[]);
    let expected = [
        "open done",
        "close done",
        "open done",
        "keyspace.create begun",
        "keyspace.create done",
        "close done",
        "open done",
        "key.rotate begun",
        "key.rotate done",
        "close done",
    ];
    assert_eq!(all, expected);
    assert_eq!(actions(dir.path(), &["--about", "users"]), expected[3..5]);
    assert_eq!(actions(dir.path(), &["--action", "close", "--limit", "2"]), ["close done", "close done"]);
    assert_eq!(actions(dir.path(), &["--actor", "nobody"]), [""; 0]);
    assert_eq!(actions(dir.path(), &["--since", "2100-01-01"]), [""; 0]);
    assert_eq!(actions(dir.path(), &["--since", "2020-01-01T00:00Z"]).len(), 10);
    with_key(dir.path(), &["audit", "show", "--action", "sleep"]).fails(2, &["key.rotate"]);
    with_key(dir.path(), &["audit", "show", "--since", "yesterday"]).fails(2, &["2026-11-27"]);
    let text = with_key(dir.path(), &["audit", "show", "--limit", "1"]);
    assert!(text.text().starts_with("10\t20") && text.text().contains("\tclose\tdone"), "{text}");
    pugdb(dir.path(), &["audit", "show"]).fails(4, &["is encrypted"]);
}

#[test]
fn a_log_that_was_changed_is_told_with_the_first_record_and_the_code_of_damage() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    let verified = with_key(dir.path(), &["audit", "verify"]);
    let text = verified.text();
    assert!(verified.code == 0 && text.starts_with("records 1 to 10 read, in 3 segments, "), "{verified}");
    assert!(
        text.contains("every record is as it was written\n")
            && text.contains("does not show that its end was cut off")
    );
    let segment = dir.path().join("pugdb-data/audit/0000000002.audit");
    let whole = read(&segment);
    let mut bytes = whole.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    write(&segment, &bytes);
    let found = with_key(dir.path(), &["audit", "verify", "--json"]);
    let report: Value = serde_json::from_str(found.text()).unwrap();
    assert_eq!((found.code, report["problem"]["segment"].as_u64()), (3, Some(2)));
    assert!(with_key(dir.path(), &["audit", "verify"]).text().contains("behind it nothing was read"));
    assert_eq!(with_key(dir.path(), &["audit", "show"]).code, 3);
    write(&segment, &whole);
    assert_eq!(with_key(dir.path(), &["audit", "verify"]).code, 0);
}

#[test]
fn a_proof_is_checked_without_the_database() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    let proof = with_key(dir.path(), &["audit", "prove", "5"]);
    assert_eq!(proof.code, 0);
    let elsewhere = tempfile::tempdir().unwrap();
    write(&elsewhere.path().join("proof"), proof.text().as_bytes());
    let status = with_key(dir.path(), &["key", "status", "--json"]);
    let status: Value = serde_json::from_str(status.text()).unwrap();
    let signer = status["certificates_signed_with"].as_str().unwrap();
    let checked = pugdb(elsewhere.path(), &["audit", "check", "proof", "--signer", signer]);
    assert!(checked.code == 0 && checked.text().ends_with("signed by that key\n"), "{checked}");
    assert!(
        checked.text().contains("\tkeyspace.create\tdone")
            && checked.text().contains("is in the log of 10 records")
    );
    pugdb(elsewhere.path(), &["audit", "check", "proof", "--signer", &"0".repeat(64)])
        .fails(3, &["another key"]);
    let changed = proof.text().replacen("record 01", "record 02", 1);
    write(&elsewhere.path().join("changed"), changed.as_bytes());
    pugdb(elsewhere.path(), &["audit", "check", "changed"]).fails(2, &["no proof of inclusion"]);
    with_key(dir.path(), &["audit", "prove", "99"]).fails(1, &["record 99"]);
}

#[test]
fn an_export_is_recorded_and_a_database_without_an_audit_log_has_none() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    with_key(dir.path(), &["put", "ada", "1815"]).gives(0, "");
    assert_eq!(with_key(dir.path(), &["export", "jsonl", "out.jsonl"]).code, 0);
    assert_eq!(with_key(dir.path(), &["export", "dir", "out"]).code, 0);
    assert_ne!(with_key(dir.path(), &["export", "csv", "out.jsonl"]).code, 0);
    let exports = actions(dir.path(), &["--action", "export", "--about", "db0"]);
    assert_eq!(
        exports,
        ["export begun", "export done", "export begun", "export done", "export begun", "export failed"]
    );
    let other = ["--data", "other", "--root-key", "file:keys/other.key"];
    assert_eq!(pugdb(dir.path(), &[&["init", "--no-audit"], &other[..]].concat()).code, 0);
    pugdb(dir.path(), &[&["audit", "verify"], &other[..]].concat()).fails(1, &["no audit log"]);
    assert_eq!(pugdb(dir.path(), &["init", "--data", "plain", "--no-encryption"]).code, 0);
    pugdb(dir.path(), &["audit", "show", "--data", "plain"]).fails(1, &["no audit log"]);
}

#[test]
fn a_server_keeps_one_for_an_encrypted_database_with_a_second_place() {
    let dir = tempfile::tempdir().unwrap();
    let (data, key) = (dir.path().join("pugdb-data"), dir.path().join("orders.key"));
    let (key, copy) = (format!("file:{}", key.display()), dir.path().join("known").display().to_string());
    let flags = ["--root-key", &*key, "--audit-copy", &*copy];
    Running::start(&data, &flags).stop(Signal::TERM);
    let server = Running::start(&data, &flags);
    // Beside it.
    let verify = ["audit", "verify", "--root-key", &*key, "--against", &*copy];
    let verified = pugdb(dir.path(), &verify);
    assert!(verified.code == 0 && verified.text().contains("the same through record 2\n"), "{verified}");
    server.stop(Signal::TERM);
    // The last life is taken away.
    fs::remove_file(data.join("audit/0000000002.audit")).unwrap();
    assert_eq!(pugdb(dir.path(), &verify[..4]).code, 0);
    let found = pugdb(dir.path(), &verify);
    assert!(found.code == 3 && found.text().contains("its end was taken away"), "{found}");
    pugdb(dir.path(), &[&["serve"], &flags[..]].concat()).fails(3, &["its end was taken away", "--against"]);
    let goes_on = [&flags[..], &["--audit-on-failure", "continue"]].concat();
    Running::start(&data, &goes_on).stop(Signal::TERM);
    let off = dir.path().join("off");
    Running::start(&off, &["--root-key", &key.replace("orders", "off"), "--audit", "off"]).stop(Signal::TERM);
    assert!(!off.join("audit").exists());
    let plain = dir.path().join("plain");
    Running::start(&plain, &["--no-encryption"]).stop(Signal::TERM);
    assert!(!plain.join("audit").exists());
    Running::start(&plain, &["--audit", "on"]).stop(Signal::TERM);
    assert!(plain.join("audit").exists());
}
