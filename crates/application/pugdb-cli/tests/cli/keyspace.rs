//! `keyspace list`, `create` and `alter`; what `stats` and `inspect` tell of compression.

use serde_json::{Value, json};

use crate::command::{Run, pugdb, pugdb_with};
use crate::server::Running;

fn lines(run: &Run) -> Vec<Value> {
    run.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn keyspaces_are_made_listed_and_altered() {
    let dir = tempfile::tempdir().unwrap();
    let pugdb = |arguments: &[&str]| pugdb(dir.path(), arguments);
    pugdb(&["keyspace", "list"]).fails(1, &["there is no database"]);
    pugdb(&["keyspace", "create", "archive", "--compression", "zstd:3", "--filter-bits", "4"]).gives(0, "");
    pugdb(&["keyspace", "alter", "archive", "--default-expiry", "3600"]).gives(0, "");
    pugdb(&["put", "ada", "1815"]).gives(0, "");
    pugdb(&["keyspace", "create", "scratch", "--unlogged"]).gives(0, "");
    let listed = lines(&pugdb(&["keyspace", "list", "--json"]));
    let about = format!("{} B", listed[1]["bytes_estimate"]);
    let expected = format!(
        "keyspace  engine  log  about  entries  compression  of young tables  blocks  filter bits  prefix  values apart  expiry  takes  keys\n\
                    archive   lsm     yes  0 B    0        zstd:3       none             8192    4            none    -             3600s   0 B    0\n\
                    db0       lsm     yes  {about:<5}  1        lz4          none             8192    10           none    -             -       {about}  1\n\
                    scratch   lsm     no   0 B    0        lz4          none             8192    10           none    -             -       0 B    0\n"
    );
    pugdb(&["keyspace", "list"]).gives(0, &expected);

    pugdb(&[
        "keyspace",
        "alter",
        "db0",
        "--compression",
        "gzip:6",
        "--upper-compression",
        "snappy",
        "--block-bytes",
        "16KiB",
        "--prefix",
        "up-to:/",
        "--separate-values",
        "4KiB",
    ])
    .gives(0, "");
    let listed = lines(&pugdb(&["keyspace", "list", "--json"]));
    let bytes = listed[1]["bytes_estimate"].as_u64().unwrap();
    assert!((100..1000).contains(&bytes), "a table of one entry: {bytes}");
    let db0 = json!({
        "keyspace": "db0", "engine": "lsm", "logged": true, "compression": "gzip:6", "upper_compression": "snappy",
        "block_bytes": 16384, "filter_bits": 10, "prefix": "up-to:/", "separate_values": 4096, "bytes_estimate": bytes,
        "entries_estimate": 1, "default_expiry_seconds": null, "bytes": bytes, "keys_estimate": 1, "quota_bytes": null,
        "quota_keys": null,
        "sealing": "sealed",
    });
    assert_eq!(listed[1], db0);
    assert_eq!(listed[0]["default_expiry_seconds"], json!(3600.0));
    pugdb(&["keyspace", "alter", "archive", "--default-expiry", "0"]).gives(0, "");
    assert_eq!(lines(&pugdb(&["keyspace", "list", "--json"]))[0]["default_expiry_seconds"], json!(null));
    pugdb(&["get", "ada"]).gives(0, "1815");
}

#[test]
fn quotas_are_set_shown_kept_and_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let pugdb = |arguments: &[&str]| pugdb(dir.path(), arguments);
    pugdb(&["keyspace", "create", "db0", "--quota-bytes", "4KiB", "--quota-keys", "2"]).gives(0, "");
    pugdb(&["put", "ada", "1815"]).gives(0, "");
    pugdb(&["put", "bob", &"x".repeat(5000)])
        .fails(4, &["keyspace \"db0\" takes", "of the 4096 bytes", "alter"]);
    pugdb(&["put", "bob", "1920"]).gives(0, "");
    pugdb(&["put", "cat", "1"]).fails(4, &["has about 2 of the 2 keys"]);
    let listed = &lines(&pugdb(&["keyspace", "list", "--json"]))[0];
    assert_eq!(
        (&listed["quota_bytes"], &listed["quota_keys"], &listed["keys_estimate"]),
        (&json!(4096), &json!(2), &json!(2))
    );
    let text = pugdb(&["keyspace", "list"]).text().to_owned();
    assert!(text.contains(" of 4.0 KiB  2 of 2\n"), "{text}");
    pugdb(&["delete", "bob"]).gives(0, "");
    pugdb(&["compact"]);
    pugdb(&["put", "cat", "1"]).gives(0, "");
    pugdb(&["keyspace", "alter", "db0", "--quota-keys", "none"]).gives(0, "");
    pugdb(&["put", "dan", "1"]).gives(0, "");
    pugdb(&["put", "eve", &"x".repeat(5000)]).fails(4, &["4096 bytes"]);
    pugdb(&["keyspace", "alter", "db0", "--quota-bytes", "none"]).gives(0, "");
    pugdb(&["put", "eve", &"x".repeat(5000)]).gives(0, "");
    let listed = &lines(&pugdb(&["keyspace", "list", "--json"]))[0];
    assert_eq!((&listed["quota_bytes"], &listed["quota_keys"]), (&json!(null), &json!(null)));
    pugdb(&["keyspace", "alter", "db0", "--quota-bytes", "0"]).fails(2, &["a quota of 0"]);
    pugdb(&["keyspace", "alter", "db0", "--quota-keys", "many"]).fails(2, &["a number or `none`"]);
}

#[test]
fn what_is_not_there_or_cannot_be_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let pugdb = |arguments: &[&str]| pugdb(dir.path(), arguments);
    pugdb(&["put", "ada", "1815"]).gives(0, "");
    pugdb(&["keyspace", "alter", "users", "--compression", "lz4"])
        .fails(1, &["there is no keyspace \"users\""]);
    pugdb(&["keyspace", "alter", "db0", "--compression", "zstd:20"]).fails(2, &["1 to 19"]);
    pugdb(&["keyspace", "alter", "db0", "--separate-values", "7"]).fails(2, &["8 to 536870912"]);
    pugdb(&["keyspace", "alter", "db0", "--compression", "lz5"]).fails(2, &["none, lz4, snappy, zstd"]);
    pugdb(&["keyspace", "create", "db0", "--compression", "snappy"]).fails(4, &["other options; alter it"]);
    pugdb(&["keyspace", "create", "db0", "--compression", "lz4"]).gives(0, "");
    pugdb(&["keyspace", "create", "db0", "--unlogged"]).fails(4, &["other options"]);
    let server = Running::start(&dir.path().join("pugdb-data"), &[]);
    let url = format!("redis://{}", server.address);
    pugdb(&["keyspace", "list", "--url", &url]).fails(2, &["through a server"]);
    pugdb(&["keyspace", "list"]).fails(4, &["stop it first"]);
}

#[test]
fn large_values_lie_in_files_of_their_own_that_stats_verify_and_inspect_know() {
    let dir = tempfile::tempdir().unwrap();
    let pugdb = |arguments: &[&str]| pugdb(dir.path(), arguments);
    pugdb(&["keyspace", "create", "db0", "--separate-values", "1KiB", "--compression", "none"]).gives(0, "");
    let large = "x".repeat(2000);
    pugdb(&["put", "ada", &large]).gives(0, "");
    pugdb(&["put", "bob", "small"]).gives(0, "");
    pugdb(&["compact", "--json"]);
    let stats = &lines(&pugdb(&["stats", "--json"]))[0];
    let bytes = |name: &str| stats[name].as_u64().unwrap();
    assert_eq!(bytes("value_files"), 1);
    assert!(bytes("value_bytes") > 2000 && bytes("value_live_bytes") > 2000 && bytes("table_bytes") < 2000);
    pugdb(&["get", "ada"]).gives(0, &large);
    assert_eq!(lines(&pugdb(&["verify", "--json"]))[0]["problems"], json!([]));
    let inspected = pugdb(&["inspect", "values", "--json"]);
    assert!(inspected.text().contains("\"value_bytes\":2000") && !inspected.text().contains("xxx"));
}

#[test]
fn stats_and_inspect_tell_how_much_compression_gains() {
    let dir = tempfile::tempdir().unwrap();
    pugdb(dir.path(), &["keyspace", "create", "db0", "--upper-compression", "zstd"]).gives(0, "");
    let rows: String =
        (0..2000).map(|n| format!("{{\"key\":\"k{n:06}\",\"value\":\"always the same\"}}\n")).collect();
    pugdb_with(dir.path(), &["import", "jsonl", "-"], rows.as_bytes()).gives(0, "");
    let stats = &lines(&pugdb(dir.path(), &["stats", "--json"]))[0];
    let (bytes, plain) =
        (stats["table_bytes"].as_u64().unwrap(), stats["table_bytes_uncompressed"].as_u64().unwrap());
    assert!(0 < bytes && bytes * 2 < plain, "{stats}");
    let text = pugdb(dir.path(), &["stats"]);
    assert!(text.text().contains("(compressed ") && text.text().contains(" to 1)"), "{text}");
    let parts = lines(&pugdb(dir.path(), &["inspect", "table", "--json"]));
    let properties = parts.iter().find(|part| part["what"] == "properties").unwrap();
    assert_eq!(properties["compression"], "zstd:1");
    assert!(properties["content_bytes"].as_u64() > properties["data_bytes"].as_u64());
    let edits = lines(&pugdb(dir.path(), &["inspect", "manifest", "--json"]));
    let created = edits.iter().find(|edit| edit["kind"] == "create keyspace").unwrap();
    assert_eq!(
        (&created["upper_compression"], &created["bottom_compression"]),
        (&json!("zstd:1"), &json!("lz4"))
    );
}

#[test]
fn partitions_are_made_listed_split_and_merged() {
    let dir = tempfile::tempdir().unwrap();
    let pugdb = |arguments: &[&str]| pugdb(dir.path(), arguments);
    pugdb(&["keyspace", "create", "users", "--split-at", "g", "--split-at", "n\\x00"]).gives(0, "");
    for name in ["ada", "bob", "cat", "dan", "gus", "zoe"] {
        pugdb(&["put", "--keyspace", "users", name, "1"]).gives(0, "");
    }
    let numbers = |keyspace: &str| {
        let listed = lines(&pugdb(&["keyspace", "partitions", keyspace, "--json"]));
        listed.iter().map(|line| line["keys_estimate"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(numbers("users"), [4, 1, 1]);
    pugdb(&["keyspace", "split", "users", "0"]).gives(0, "there were 3 partitions, and are 4\n");
    pugdb(&["keyspace", "split", "users", "3", "--at", "z", "--json"])
        .gives(0, "{\"partitions\":5,\"partitions_before\":4}\n");
    assert_eq!(numbers("users"), [2, 2, 1, 0, 1]);
    let text = pugdb(&["keyspace", "partitions", "users"]).text().to_owned();
    let keys: Vec<&str> = text.lines().map(|line| line[11..31].trim()).collect();
    assert_eq!(
        keys,
        ["keys", "before cat", "from cat before g", "from g before n\\x00", "from n\\x00 before z", "from z"],
        "{text}"
    );
    pugdb(&["keyspace", "merge", "users", "2"]).gives(0, "there were 5 partitions, and are 4\n");
    pugdb(&["scan", "--keyspace", "users"]).gives(0, "ada\t1\nbob\t1\ncat\t1\ndan\t1\ngus\t1\nzoe\t1\n");
    assert_eq!(pugdb(&["verify"]).code, 0);

    pugdb(&["keyspace", "create", "clicks", "--partitions", "4"]).gives(0, "");
    pugdb(&["keyspace", "create", "clicks", "--partitions", "8"]).gives(0, "");
    assert_eq!(numbers("clicks"), [0; 4], "it was there");
    let slots = &lines(&pugdb(&["keyspace", "partitions", "clicks", "--json"]))[1]["keys"];
    assert_eq!(*slots, json!({ "first_slot": 16384, "last_slot": 32767 }));
    let engines = lines(&pugdb(&["keyspace", "list", "--json"]));
    assert!(engines.iter().all(|line| line["engine"] == "partitioned"), "{engines:?}");
}

#[test]
fn partitions_that_are_not_there_or_cannot_be_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let pugdb = |arguments: &[&str]| pugdb(dir.path(), arguments);
    pugdb(&["put", "ada", "1815"]).gives(0, "");
    pugdb(&["keyspace", "create", "users", "--partitions", "2"]).gives(0, "");
    pugdb(&["keyspace", "partitions", "db0"]).fails(2, &["has no partitions", "--partitions"]);
    pugdb(&["keyspace", "split", "nobody", "0"]).fails(1, &["there is no keyspace \"nobody\""]);
    pugdb(&["keyspace", "split", "users", "2"]).fails(2, &["from 0 to 1"]);
    pugdb(&["keyspace", "split", "users", "0", "--at", "k"]).fails(2, &["leave the key out"]);
    pugdb(&["keyspace", "merge", "users", "1"]).fails(2, &["there is none"]);
    pugdb(&["keyspace", "create", "more", "--partitions", "257"]).fails(2, &["1 to 256"]);
    pugdb(&["keyspace", "create", "more", "--split-at", "b", "--split-at", "a"]).fails(2, &["ascend"]);
    pugdb(&["keyspace", "create", "more", "--split-at", "\\q"]).fails(2, &["backslash"]);
    pugdb(&["keyspace", "create", "more", "--split-at", "b", "--partitions", "2"])
        .fails(2, &["cannot be used"]);
    pugdb(&["keyspace", "create", "users", "--split-at", "b"]).fails(4, &["something else"]);
    pugdb(&["keyspace", "create", "db0", "--partitions", "2"]).fails(4, &["another engine"]);
}
