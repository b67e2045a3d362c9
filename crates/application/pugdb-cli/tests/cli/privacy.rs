//! `privacy report`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use crate::command::pugdb;
use crate::directory::write;
use crate::server::Running;

const KEY: &[&str] = &["--root-key", "file:root.key"];

fn report(dir: &Path, more: &[&str]) -> Value {
    let run = pugdb(dir, &[&["privacy", "report", "--json"], more].concat());
    assert_eq!(run.code, 0, "{run}");
    serde_json::from_str(run.text()).unwrap()
}

fn encrypted() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(pugdb(dir.path(), &[&["init"], KEY].concat()).code, 0);
    pugdb(dir.path(), &[&["put", "ada", "1815"], KEY].concat()).gives(0, "");
    dir
}

fn warnings(report: &Value) -> String {
    report["warnings"].to_string()
}

#[test]
fn every_file_of_an_encrypted_database_is_told_with_its_key() {
    let dir = encrypted();
    pugdb(dir.path(), &[&["compact"][..], KEY].concat());
    assert_eq!(pugdb(dir.path(), &[&["key", "renew"], KEY].concat()).code, 0);
    pugdb(dir.path(), &[&["put", "bob", "1816"], KEY].concat()).gives(0, "");
    assert_eq!(pugdb(dir.path(), &[&["compact"], KEY].concat()).code, 0);
    pugdb(dir.path(), &[&["put", "cy", "1817"], KEY].concat()).gives(0, "");
    let report = report(dir.path(), KEY);
    assert_eq!((&report["encrypted"], &report["telemetry"]), (&Value::from(true), &Value::from("none")));
    let keys = &report["keys"];
    assert_eq!(keys["database_keys"].as_array().unwrap().len(), 2);
    assert!(keys["root_key"].as_str().unwrap().ends_with("root.key"));
    assert_eq!(keys["key_file"]["mode"], "0600, its owner alone");
    assert_eq!(keys["key_file"]["inside_data"], false);
    let files = report["files"].as_array().unwrap();
    for kind in ["log", "tables", "manifest", "audit log"] {
        assert!(files.iter().any(|files| files["kind"] == kind), "{kind} in {report}");
    }
    assert!(files.iter().all(|files| files["state"] == "sealed"), "{report}");
    let tables: Vec<_> = files.iter().filter(|files| files["kind"] == "tables").collect();
    let told: Vec<_> = tables.iter().map(|files| (&files["keyspace"], &files["key_generation"])).collect();
    assert_eq!(told.last(), Some(&(&Value::from("db0"), &Value::from(2))), "{report}");
    let on_disk = files.iter().map(|files| files["files"].as_u64().unwrap()).sum::<u64>();
    let mut there = 0;
    for folder in ["log", "tables", "audit"] {
        there += std::fs::read_dir(dir.path().join("pugdb-data").join(folder)).unwrap().count() as u64;
    }
    assert_eq!(on_disk, there + 1, "and the manifest: {report}");
    assert!(report["unreadable"].as_array().unwrap().is_empty(), "{report}");
    assert!(!warnings(&report).contains("key file") && warnings(&report).contains("without a password"));
}

#[test]
fn a_key_file_that_is_badly_kept_is_told() {
    let dir = encrypted();
    let inside = dir.path().join("pugdb-data/my.key");
    std::fs::copy(dir.path().join("root.key"), &inside).unwrap();
    std::fs::set_permissions(&inside, std::fs::Permissions::from_mode(0o600)).unwrap();
    let page = pugdb(dir.path(), &["privacy", "report", "--root-key", "file:pugdb-data/my.key"]);
    for part in [
        "* the key file lies inside the data directory",
        "0600, its owner alone",
        "Not PugDB's, in the data directory: `my.key`",
    ] {
        assert!(page.code == 0 && page.text().contains(part), "{part} is missing: {page}");
    }
}

#[test]
fn a_database_that_is_not_encrypted_is_plain_and_the_page_says_so_first() {
    let dir = tempfile::tempdir().unwrap();
    pugdb(dir.path(), &["put", "ada", "1815", "--no-encryption"]).gives(0, "");
    let report = report(dir.path(), &[]);
    assert_eq!((&report["encrypted"], &report["keys"]), (&Value::from(false), &Value::Null));
    assert!(report["files"].as_array().unwrap().iter().all(|files| files["state"] == "plain"), "{report}");
    assert!(report["plain"][0]["why"] == "the database was made without a root key", "{report}");
    let page = pugdb(dir.path(), &["privacy", "report"]);
    let (warned, rest) = page.text().split_once("## Encryption").unwrap();
    assert!(
        warned.contains("* the database is not encrypted") && rest.contains("**Not encrypted.**"),
        "{page}"
    );
    assert!(rest.contains("| telemetry") && !rest.contains("1815") && !rest.contains("ada"), "{page}");
}

#[test]
fn a_report_is_made_beside_a_server_and_changes_nothing() {
    let dir = encrypted();
    let data = dir.path().join("pugdb-data");
    let key = format!("file:{}", dir.path().join("root.key").display());
    let server = Running::start(&data, &["--root-key", &key, "--no-http"]);
    let report = report(dir.path(), KEY);
    assert!(report["files"].as_array().unwrap().iter().all(|files| files["state"] == "sealed"), "{report}");
    assert!(report["unreadable"].as_array().unwrap().is_empty(), "{report}");
    drop(server);
}

#[test]
fn without_its_database_or_its_key_there_is_no_report() {
    let dir = tempfile::tempdir().unwrap();
    pugdb(dir.path(), &["privacy", "report"]).fails(1, &["there is no database"]);
    let dir = encrypted();
    pugdb(dir.path(), &["privacy", "report"]).fails(4, &["--root-key"]);
    write(&dir.path().join("root.key"), b"");
    assert_ne!(pugdb(dir.path(), &[&["privacy", "report"], KEY].concat()).code, 0);
    pugdb(dir.path(), &["privacy", "report", "--url", "redis://127.0.0.1:1"]).fails(2, &["--read-only"]);
}
