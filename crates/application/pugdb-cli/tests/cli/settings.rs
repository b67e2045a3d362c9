//! Settings: flags over environment over a file, and what is wrong with them.

use std::path::Path;

use serde_json::Value;

use crate::command::{Run, pugdb, run};
use crate::directory::write;
use crate::server::program;

/// Runs with these variables, and with files of settings looked for as for anybody.
fn with(dir: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Run {
    let mut command = program();
    command.env_remove("PUGDB_CONFIG").env("HOME", dir).env_remove("XDG_CONFIG_HOME");
    command.envs(variables.iter().copied()).current_dir(dir).args(arguments);
    run(command, b"")
}

/// Value and source of a setting of ordinary commands.
fn shown(dir: &Path, variables: &[(&str, &str)], more: &[&str], name: &str) -> (String, String) {
    let arguments: Vec<&str> = ["config", "show", "--json"].iter().chain(more).copied().collect();
    let run = with(dir, variables, &arguments);
    assert_eq!(run.code, 0, "{run}");
    let lines = run.text().lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let line = lines.filter(|line| line["name"] == name).find(|line| line["commands"] != "serve").unwrap();
    (line["value"].as_str().unwrap_or("none").to_owned(), line["source"].as_str().unwrap().to_owned())
}

#[test]
fn flags_come_before_the_environment_and_that_before_the_file() {
    let dir = tempfile::tempdir().unwrap();
    for data in ["file", "environment", "flag", "./pugdb-data"] {
        pugdb(dir.path(), &["put", "where", data, "--data", data, "--no-encryption"]).gives(0, "");
    }
    let get = |variables: &[(&str, &str)], more: &[&str]| {
        let arguments: Vec<&str> = ["get", "where"].iter().chain(more).copied().collect();
        with(dir.path(), variables, &arguments).text().to_owned()
    };
    let variable = [("PUGDB_DATA", "environment")];
    assert_eq!(get(&[], &[]), "./pugdb-data");
    assert_eq!(shown(dir.path(), &[], &[], "data"), ("./pugdb-data".into(), "default".into()));
    write(&dir.path().join("pugdb.toml"), b"data = \"file\"\nmemory = \"64MiB\"\n");
    assert_eq!(get(&[], &[]), "file");
    assert_eq!(shown(dir.path(), &[], &[], "data"), ("file".into(), "file ./pugdb.toml".into()));
    assert_eq!(get(&variable, &[]), "environment");
    assert_eq!(
        shown(dir.path(), &variable, &[], "data"),
        ("environment".into(), "environment PUGDB_DATA".into())
    );
    assert_eq!(shown(dir.path(), &variable, &[], "memory"), ("64MiB".into(), "file ./pugdb.toml".into()));
    assert_eq!(get(&variable, &["--data", "flag"]), "flag");
    // Nothing is said by nothing.
    assert_eq!(get(&[("PUGDB_DATA", "")], &[]), "file");
}

#[test]
fn a_directory_and_a_server_exclude_each_other_only_on_the_same_level() {
    let dir = tempfile::tempdir().unwrap();
    pugdb(dir.path(), &["put", "k", "v", "--no-encryption"]).gives(0, "");
    let nowhere = [("PUGDB_URL", "redis://127.0.0.1:1")];
    with(dir.path(), &nowhere, &["get", "k"]).fails(4, &["no server answers on 127.0.0.1:1"]);
    with(dir.path(), &nowhere, &["get", "k", "--data", "pugdb-data"]).gives(0, "v");
    // What works on files only does not mind.
    assert_eq!(with(dir.path(), &nowhere, &["verify"]).code, 0);
    with(dir.path(), &[], &["verify", "--url", "redis://127.0.0.1:1"])
        .fails(2, &["not work through a server"]);
    let both = [("PUGDB_DATA", "pugdb-data"), ("PUGDB_URL", "redis://127.0.0.1:1")];
    with(dir.path(), &both, &["get", "k"]).fails(4, &["no server answers"]);
    write(&dir.path().join("pugdb.toml"), b"url = \"redis://127.0.0.1:1\"\n");
    with(dir.path(), &[("PUGDB_DATA", "pugdb-data")], &["get", "k"]).gives(0, "v");
}

#[test]
fn what_is_unknown_or_wrong_is_refused_with_a_suggestion() {
    let dir = tempfile::tempdir().unwrap();
    with(dir.path(), &[("PUGDB_DURABLITY", "os")], &["stats"]).fails(2, &["did you mean PUGDB_DURABILITY?"]);
    with(dir.path(), &[("PUGDB_MEMORY", "lots")], &["stats"]).fails(2, &["PUGDB_MEMORY: ", "64MiB"]);
    // As Kubernetes has it beside a service of this name.
    with(dir.path(), &[("PUGDB_PORT", "tcp://10.0.0.1:7379")], &["stats"]).fails(1, &["no database"]);
    let file = dir.path().join("pugdb.toml");
    write(&file, b"# a comment\nmemroy = \"1GiB\"\n");
    with(dir.path(), &[], &["stats"]).fails(2, &["./pugdb.toml", "\"memroy\"", "did you mean memory?"]);
    write(&file, b"data = [\n");
    with(dir.path(), &[], &["stats"]).fails(2, &["./pugdb.toml: line "]);
    write(&file, b"resp = 7379.5\n");
    with(dir.path(), &[], &["stats"]).fails(2, &["resp is given as float"]);
    // Help is there whatever the file says.
    assert_eq!(with(dir.path(), &[], &["get", "--help"]).code, 0);
    with(dir.path(), &[], &["stats", "--config", "elsewhere.toml"]).fails(2, &["elsewhere.toml"]);
}

#[test]
fn the_first_file_that_is_there_counts() {
    let dir = tempfile::tempdir().unwrap();
    let data = |variables: &[(&str, &str)], more: &[&str]| shown(dir.path(), variables, more, "data").0;
    write(&dir.path().join(".config/pugdb/pugdb.toml"), b"data = \"home\"\n");
    assert_eq!(data(&[], &[]), "home");
    write(&dir.path().join("xdg/pugdb/pugdb.toml"), b"data = \"xdg\"\n");
    let xdg = dir.path().join("xdg");
    assert_eq!(data(&[("XDG_CONFIG_HOME", xdg.to_str().unwrap())], &[]), "xdg");
    write(&dir.path().join("pugdb.toml"), b"data = \"here\"\n");
    assert_eq!(data(&[], &[]), "here");
    write(&dir.path().join("named.toml"), b"data = \"named\"\n");
    assert_eq!(data(&[("PUGDB_CONFIG", "named.toml")], &[]), "named");
    assert_eq!(data(&[("PUGDB_CONFIG", "other.toml")], &["--config", "named.toml"]), "named");
}

#[test]
fn a_server_takes_its_settings_from_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let remote = [("PUGDB_RESP", "0.0.0.0:0"), ("PUGDB_DATA", "data")];
    with(dir.path(), &remote, &["serve"]).fails(2, &["no TLS"]);
    let serve = with(dir.path(), &[("PUGDB_ALLOW_REMOTE_WITHOUT_ENCRYPTION", "yes")], &["serve"]);
    serve.fails(2, &["PUGDB_ALLOW_REMOTE_WITHOUT_ENCRYPTION", "true or false"]);
    write(&dir.path().join("pugdb.toml"), b"resp = \"nonsense\"\n");
    with(dir.path(), &[], &["serve"]).fails(2, &["127.0.0.1:7379"]);
    let run = with(dir.path(), &[("PUGDB_ALLOW_REMOTE_WITHOUT_ENCRYPTION", "true")], &["config", "show"]);
    let line = run.text().lines().find(|line| line.starts_with("allow_remote")).unwrap().to_owned();
    assert!(line.contains("  true  ") && line.contains("environment PUGDB_ALLOW"), "{line}");
    assert_eq!(run.text().lines().next(), Some("file: ./pugdb.toml"));
}

#[test]
fn an_address_that_is_listened_on_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let http = |variables: &[(&str, &str)]| {
        let run = with(dir.path(), variables, &["config", "show"]);
        let line = run.text().lines().find(|line| line.starts_with("http ")).unwrap();
        line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(http(&[]), "127.0.0.1:7080 default serve");
    assert_eq!(http(&[("PUGDB_HTTP", "127.0.0.1:1")]), "127.0.0.1:1 environment PUGDB_HTTP serve");
}

#[test]
fn what_was_typed_by_mistake_is_not_told_again() {
    let dir = tempfile::tempdir().unwrap();
    let pem = "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----";
    let address = "redis://ada:canary%@127.0.0.1";
    let file = dir.path().join("named.toml");
    write(&file, format!("url = \"{address}\"\n").as_bytes());
    let bad_password = "user and password in the address";
    for (variables, arguments, says) in [
        (&[][..], &["put", "key", "a", "canary"][..], "put what begins with - behind --"),
        (&[], &["put", "key", "-canary"], "put what begins with - behind --"),
        (&[], &["put", "key", pem], "put what begins with - behind --"),
        (&[], &["get", "key", "canary"], "Usage: pugdb get"),
        (&[], &["get", "key", "--kespace", "canary"], "'--keyspace'"),
        (&[], &["get", "key", "--url", address], bad_password),
        (&[], &["get", "key", "--config", "named.toml"], bad_password),
        (&[("PUGDB_URL", address)], &["get", "key"], bad_password),
    ] {
        let run = with(dir.path(), variables, arguments).gives(2, "").fails(2, &[says]);
        for secret in ["canary", "'-c'", "PRIVATE"] {
            assert!(!run.stderr.contains(secret), "{secret}: {run}");
        }
    }
}
