//! `checkpoint`: a directory that opens as the database was, and does not change with it.

use std::os::unix::fs::MetadataExt as _;

use serde_json::Value;

use crate::command::{pugdb, pugdb_with};
use crate::server::Running;

#[test]
fn a_checkpoint_is_a_database_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| pugdb(dir.path(), arguments);
    run(&["checkpoint", "copy"]).fails(1, &["there is no database in ./pugdb-data"]);
    let rows: String = (0..2000).map(|n| format!("{{\"key\":\"k{n:06}\",\"value\":\"v{n}\"}}\n")).collect();
    pugdb_with(dir.path(), &["import", "jsonl", "-", "--no-encryption"], rows.as_bytes()).gives(0, "");
    run(&["put", "ada", "1815"]).gives(0, "");

    let made: Value = serde_json::from_str(run(&["checkpoint", "copies/first", "--json"]).text()).unwrap();
    assert!(made["tables"].as_u64().unwrap() > 0 && made["directory"] == "copies/first", "{made}");
    run(&["checkpoint", "copies/first"]).fails(2, &["copies/first exists"]);
    let linked = std::fs::read_dir(dir.path().join("copies/first/tables")).unwrap();
    assert!(linked.map(|table| table.unwrap().metadata().unwrap().nlink()).all(|names| names == 2));

    run(&["put", "ada", "1852"]).gives(0, "");
    run(&["put", "ada", "1816", "--data", "copies/first"]).gives(0, "");
    run(&["get", "ada"]).gives(0, "1852");
    run(&["get", "ada", "--data", "copies/first"]).gives(0, "1816");
    for data in ["pugdb-data", "copies/first"] {
        assert_eq!(run(&["verify", "--data", data]).code, 0);
        run(&["get", "k001999", "--data", data]).gives(0, "v1999");
    }
    let text = run(&["checkpoint", "second"]);
    assert!(text.code == 0 && text.text().starts_with("second holds "), "{text}");

    let server = Running::start(&dir.path().join("pugdb-data"), &[]);
    let url = format!("redis://{}", server.address);
    run(&["checkpoint", "third", "--url", &url]).fails(2, &["through a server"]);
    run(&["checkpoint", "third"]).fails(4, &["stop it first"]);
    assert!(!dir.path().join("third").exists());
}
