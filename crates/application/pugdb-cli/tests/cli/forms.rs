//! `--hex`, `--base64`, `--raw` and `--json`: the same on a directory and through a server.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::command::{Run, pugdb};
use crate::keys::Face;

/// The one object that was printed.
fn object(run: &Run) -> Value {
    serde_json::from_slice(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run}"))
}

#[test]
fn keys_and_values_go_in_and_out_as_digits() {
    for face in Face::both() {
        face.run(&["put", "--hex", "6100FF", "00ff0a"]).gives(0, "");
        face.run(&["get", "--hex", "6100ff"]).gives(0, "00ff0a\n");
        face.run(&["get", "--base64", "YQD/"]).gives(0, "AP8K\n");
        face.run(&["get", "--escaped", r"a\x00\xff"]).gives(0, b"\x00\xff\n");
        face.run(&["exists", "--base64", "YQD/"]).gives(0, "1\n");
        face.run(&["scan", "--hex"]).gives(0, "6100ff\t00ff0a\n");
        face.run(&["scan", "--base64", "--prefix", "YQ=="]).gives(0, "YQD/\tAP8K\n");
        face.run(&["scan", "--raw"]).gives(0, b"a\x00\xff\t\x00\xff\n\n");
        face.run(&["scan", "--hex", "--keys-only", "--start", "61", "--end", "62"]).gives(0, "6100ff\n");
        face.run(&["delete", "--hex", "6100ff"]).gives(0, "");
        face.run(&["put", "--raw", "@file", "-"]).gives(0, "");
        face.run(&["get", "--raw", "@file"]).gives(0, "-");
        face.run(&["get", "--hex", "6"]).fails(2, &["the key", "hexadecimal"]);
        face.run(&["put", "--base64", "YQ==", "?"]).fails(2, &["the value", "base64"]);
        face.run(&["get", "--hex", "--raw", "61"]).fails(2, &["cannot be used with"]);
    }
}

#[test]
fn what_is_printed_can_be_json() {
    for face in Face::both() {
        face.run(&["put", "ada", "1815"]).gives(0, "");
        face.run(&["put", "--hex", "ff", "00"]).gives(0, "");
        face.run(&["get", "ada", "--json"]).gives(0, "{\"key\":\"ada\",\"value\":\"1815\"}\n");
        let base64 = format!("{{\"key_base64\":\"/w==\",\"value_base64\":\"{}\"}}\n", STANDARD.encode([0]));
        face.run(&["get", "--hex", "ff", "--json"]).gives(0, &base64);
        face.run(&["scan", "--json"]).gives(0, format!("{{\"key\":\"ada\",\"value\":\"1815\"}}\n{base64}"));
        face.run(&["scan", "--json", "--keys-only"])
            .gives(0, "{\"key\":\"ada\"}\n{\"key_base64\":\"/w==\"}\n");
        face.run(&["exists", "ada", "--json"]).gives(0, "{\"exists\":true}\n");
        face.run(&["exists", "bob", "--json"]).gives(1, "{\"exists\":false}\n");
        face.run(&["delete", "bob", "--json"]).gives(1, "{\"deleted\":false}\n");
        face.run(&["delete", "ada", "--json"]).gives(0, "{\"deleted\":true}\n");
        face.run(&["get", "ada", "--json"]).gives(1, "");
        let stats = object(&face.run(&["stats", "--count", "--json"]));
        assert_eq!(stats["entries"], 1, "{stats}");
    }
}

#[test]
fn an_expiry_is_told_in_json() {
    let dir = tempfile::tempdir().unwrap();
    pugdb(dir.path(), &["put", "k", "v", "--expire-in", "1000"]).gives(0, "");
    let run = pugdb(dir.path(), &["get", "k", "--json"]);
    assert!(object(&run)["expires_at_ms"].as_u64().unwrap() > 1_700_000_000_000, "{run}");
}

#[test]
fn reports_are_objects() {
    let dir = tempfile::tempdir().unwrap();
    pugdb(dir.path(), &["put", "k", "v", "--no-encryption"]).gives(0, "");
    let verify = object(&pugdb(dir.path(), &["verify", "--json"]));
    // The keyspace, the entry, and a mark where the process took longer than 10 ms to end.
    let records = verify["records"].as_u64().unwrap();
    assert!(verify["problems"] == Value::Array(Vec::new()) && (2..=3).contains(&records), "{verify}");
    pugdb(dir.path(), &["put", "k", "v"]).gives(0, "");
    let compact = object(&pugdb(dir.path(), &["compact", "--json"]));
    let bytes = |name: &str| compact[name].as_u64().unwrap();
    assert!(bytes("table_bytes") > 0 && bytes("table_bytes") <= bytes("table_bytes_before"), "{compact}");
    pugdb(dir.path(), &["compact", "--keyspace", "none"]).fails(1, &["none"]);
    assert!(pugdb(dir.path(), &["compact"]).text().starts_with("tables took "));
    let export = object(&pugdb(dir.path(), &["export", "jsonl", "out", "--json"]));
    assert_eq!((&export["exported"], &export["left_out"]), (&1.into(), &0.into()), "{export}");
    let import = object(&pugdb(dir.path(), &["import", "jsonl", "out", "--json"]));
    assert_eq!(import["imported"], 1, "{import}");
    // Stdout belongs to the rows.
    pugdb(dir.path(), &["export", "jsonl", "-", "--json"]).gives(0, "{\"key\":\"k\",\"value\":\"v\"}\n");
}
