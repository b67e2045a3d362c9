//! `inspect`: what files are made of, and never a user's bytes unless they are asked for.

use std::path::PathBuf;

use serde_json::Value;

use crate::command::{Run, pugdb, pugdb_with};
use crate::directory::{read, write};
use crate::server::{Client, Running};

fn lines(run: &Run) -> Vec<Value> {
    run.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A database with a table, and three entries in the log.
fn database(dir: &std::path::Path) {
    let rows: String =
        (0..500).map(|n| format!("{{\"key\":\"secret{n:03}\",\"value\":\"hidden{n}\"}}\n")).collect();
    let import = ["import", "jsonl", "-", "--keyspace", "secretspace", "--no-encryption"];
    pugdb_with(dir, &import, rows.as_bytes()).gives(0, "");
    for key in ["secreta", "secretb"] {
        pugdb(dir, &["put", key, "hidden", "--keyspace", "secretspace"]).gives(0, "");
    }
    pugdb(dir, &["delete", "secret007", "--keyspace", "secretspace"]).gives(0, "");
}

fn file_of(dir: &std::path::Path, folder: &str) -> PathBuf {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir.join("pugdb-data").join(folder))
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    files.pop().unwrap()
}

#[test]
fn the_files_are_listed_and_taken_apart_without_a_users_bytes() {
    let dir = tempfile::tempdir().unwrap();
    database(dir.path());
    let list = lines(&pugdb(dir.path(), &["inspect", "--json"]));
    let kinds: Vec<&str> = list.iter().map(|file| file["what"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["manifest", "log segment", "log segment", "log segment", "table"]);
    for kind in ["manifest", "log", "table"] {
        for more in [&[][..], &["--entries"]] {
            for format in [&[][..], &["--json"]] {
                let arguments: Vec<&str> =
                    ["inspect", kind].iter().chain(more).chain(format).copied().collect();
                let run = pugdb(dir.path(), &arguments);
                assert!(
                    run.code == 0 && !run.text().contains("secret") && !run.text().contains("hidden"),
                    "{run}"
                );
            }
        }
    }
    let entries = |kind: &str| {
        let run = pugdb(dir.path(), &["inspect", kind, "--entries", "--show-keys", "--json"]);
        assert!(run.code == 0 && !run.text().contains("hidden"), "{run}");
        lines(&run).into_iter().filter(|line| line["what"] == "entry").collect::<Vec<_>>()
    };
    let in_table = entries("table");
    assert_eq!((in_table.len(), &in_table[7]["key"]), (500, &Value::from("secret007")));
    assert_eq!((&in_table[7]["kind"], &in_table[7]["value_bytes"]), (&"put".into(), &7.into()));
    let in_log: Vec<(Value, Value)> =
        entries("log").into_iter().map(|line| (line["key"].clone(), line["kind"].clone())).collect();
    let expected = [("secreta", "put"), ("secretb", "put"), ("secret007", "delete")];
    assert_eq!(in_log, expected.map(|(key, kind)| (key.into(), kind.into())));
    let manifest = pugdb(dir.path(), &["inspect", "manifest", "--show-keys"]);
    assert!(
        manifest.text().contains("name=\"secretspace\"") && manifest.text().contains("first=\"secret000\""),
        "{manifest}"
    );
    let table = pugdb(dir.path(), &["inspect", "table"]);
    for part in ["header", "block", "filter", "index", "properties", "footer", "end"] {
        assert!(table.text().contains(&format!("  {part}  ")), "{part} in {table}");
    }
}

#[test]
fn it_looks_into_a_database_that_is_in_use_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Running::start(&dir.path().join("pugdb-data"), &[]);
    Client::connect(server.address).ask(&[b"SET", b"k", b"v"]);
    let run = pugdb(dir.path(), &["inspect", "log", "--entries"]);
    assert!(run.code == 0 && run.text().contains("kind=put  key=(1 bytes)  value_bytes=1"), "{run}");
    Client::connect(server.address).ask(&[b"SET", b"k", b"v"]);
}

#[test]
fn it_goes_on_behind_damage_and_says_where_it_stops() {
    let dir = tempfile::tempdir().unwrap();
    database(dir.path());
    let damage = |file: &PathBuf, at: usize| {
        let mut bytes = read(file);
        bytes[at] ^= 0x10;
        std::fs::remove_file(file).unwrap();
        write(file, &bytes);
    };
    let log = file_of(dir.path(), "log");
    damage(&log, 150);
    let run = pugdb(dir.path(), &["inspect", "log", log.to_str().unwrap()]);
    assert!(
        run.code == 3 && run.text().contains("  damage  ") && run.text().contains("         128  end"),
        "{run}"
    );
    let table = file_of(dir.path(), "tables");
    damage(&table, 200);
    let run = pugdb(dir.path(), &["inspect", "table", table.to_str().unwrap(), "--json"]);
    let parts: Vec<String> =
        lines(&run).iter().map(|line| line["what"].as_str().unwrap().to_owned()).collect();
    assert!(
        run.code == 3 && parts.contains(&"damage".to_owned()) && parts.contains(&"properties".to_owned()),
        "{run}"
    );
    damage(&table, 5);
    pugdb(dir.path(), &["inspect", "table", table.to_str().unwrap()]).fails(3, &[]);
    let list = pugdb(dir.path(), &["inspect"]);
    assert!(list.code == 3 && list.text().lines().count() == 5, "{list}");
    let end = read(&table).len();
    damage(&table, 5);
    damage(&table, end - 20);
    let run = pugdb(dir.path(), &["inspect", "table", table.to_str().unwrap()]);
    assert!(run.code == 3 && run.text().contains("only it says where the parts lie"), "{run}");
}

#[test]
fn what_is_no_such_file_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    pugdb(dir.path(), &["inspect"]).fails(1, &["there is no database in ./pugdb-data"]);
    pugdb(dir.path(), &["inspect", "log", "nowhere"]).fails(1, &["nowhere"]);
    pugdb(dir.path(), &["put", "k", "v"]).gives(0, "");
    let log = file_of(dir.path(), "log");
    pugdb(dir.path(), &["inspect", "table", log.to_str().unwrap()])
        .fails(2, &["is a log segment, not a table"]);
    write(&dir.path().join("file"), b"something else altogether");
    let run = pugdb(dir.path(), &["inspect", "log", "file"]);
    assert!(run.code == 3 && run.text().contains("does not begin as a PugDB file does"), "{run}");
}
