//! `acl`, and who one is on a server: with a file, a variable, an address.

use std::path::Path;

use crate::command::{Run, pugdb, pugdb_with, run};
use crate::server::{Running, program};

/// Runs with a password in the environment.
fn with_password(dir: &Path, password: &str, arguments: &[&str]) -> Run {
    let mut command = program();
    command.current_dir(dir).args(arguments).env("PUGDB_PASSWORD", password);
    run(command, b"")
}

#[test]
fn users_are_made_in_the_files_and_counted_on_by_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path();
    pugdb(here, &["put", "cache:1", "x"]).gives(0, "");
    let open = "user default on nopass sanitize-payload ~* &* +@all\n";
    pugdb(here, &["acl", "list"]).gives(0, open).fails(0, &["default needs no password"]);
    let set = |arguments: &[&str], stdin: &[u8]| pugdb_with(here, arguments, stdin);
    set(&["acl", "set", "--new-password-file", "-", "ada", "on", "~*", "+@all"], b"s3cret\n").gives(0, "");
    set(&["acl", "set", "ada", "on", "--new-password-file", "-"], b"s3cret\n")
        .fails(2, &["options come before the words"]);
    set(&["acl", "set", "bob", "on", "~cache:*", "-@all", "+get", "role:reader"], b"").gives(0, "");
    set(&["acl", "set", "role:reader", "%R~cache:*", "+@read"], b"").gives(0, "");
    set(&["acl", "set", "default", "off"], b"").gives(0, "");
    set(&["acl", "set", "bob", "nonsense"], b"").fails(2, &["word 1: Syntax error"]);
    set(&["acl", "set", "bob", "on", "+nonsense"], b"").fails(2, &["word 2: Unknown command"]);
    set(&["acl", "set", "b b", "on"], b"").fails(2, &["the name of the user or role"]);
    set(&["acl", "set", "bob", "(~a"], b"").fails(2, &["parenthesis"]);
    set(&["acl", "set", "bob", ">hunter2"], b"").gives(0, "").fails(0, &["can see a password"]);
    set(&["acl", "set", "bob", "resetpass"], b"").gives(0, "");
    let bob = "user bob on sanitize-payload role:reader ~cache:* resetchannels -@all +get\n";
    pugdb(here, &["acl", "get", "bob"]).gives(0, bob);
    pugdb(here, &["acl", "get", "role:reader"])
        .gives(0, "role reader %R~cache:* resetchannels -@all +@read\n");
    pugdb(here, &["acl", "get", "eve"]).fails(1, &["no such user"]);
    pugdb(here, &["acl", "get", "bob", "--json"]).gives(
        0,
        "{\"kind\":\"user\",\"name\":\"bob\",\"words\":\"on sanitize-payload role:reader ~cache:* resetchannels -@all +get\"}\n",
    );
    let token = pugdb(here, &["acl", "token", "bob"]);
    assert!(token.code == 0 && token.text().trim().len() == 64, "{token}");
    let token = token.text().trim().to_owned();
    pugdb(here, &["acl", "whoami"]).fails(2, &["--url"]);

    let server = Running::start(&here.join("pugdb-data"), &[]);
    let url = format!("redis://{}", server.address);
    pugdb(here, &["get", "cache:1", "--url", &url]).fails(4, &["NOAUTH", "--password-file"]);
    let as_ada = ["--url", &url, "--user", "ada"];
    let ada = |arguments: &[&str]| with_password(here, "s3cret", &[arguments, &as_ada[..]].concat());
    ada(&["get", "cache:1"]).gives(0, "x");
    ada(&["acl", "whoami"]).gives(0, "ada\n");
    pugdb(here, &[&["get", "cache:1"][..], &as_ada].concat()).fails(2, &["no terminal to ask on"]);
    with_password(here, "wrong", &[&["get", "cache:1"][..], &as_ada].concat()).fails(4, &["WRONGPASS"]);
    crate::directory::write(&here.join("bob"), format!("{token}\n").as_bytes());
    let bob = ["--url", &url, "--user", "bob", "--password-file", "bob"];
    pugdb(here, &[&["get", "cache:1"][..], &bob].concat()).gives(0, "x");
    pugdb(here, &[&["get", "other"][..], &bob].concat()).fails(4, &["NOPERM"]);
    pugdb(here, &[&["acl", "list"][..], &bob].concat()).fails(4, &["NOPERM", "acl|list"]);
    ada(&["acl", "log"]).fails(0, &[]).text().contains("(5 bytes)").then_some(()).unwrap();
    ada(&["acl", "del", "bob"]).gives(0, "");
    ada(&["acl", "del", "bob"]).fails(1, &["no such user"]);
    ada(&["acl", "token", "ada"]).fails(0, &[]);
    with_password(
        here,
        "s3cret",
        &["acl", "set", "--url", &url, "--user", "ada", "eve", "on", "nopass", "+ping"],
    )
    .gives(0, "");
    with_password(here, "s3cret", &["acl", "set", "--url", &url, "--user", "ada", "ada", "off"])
        .fails(4, &["nobody who may change rights"]);

    // In the address, with a word about it; and the same in a file of settings, which is not seen by others.
    let full = format!("redis://ada:s3cret@{}", server.address);
    let seen = pugdb(here, &["acl", "whoami", "--url", &full]).gives(0, "ada\n");
    assert!(seen.stderr.contains("can see a password") && !seen.stderr.contains("s3cret"), "{seen}");
    let mut quiet = program();
    quiet.current_dir(here).args(["acl", "whoami"]).env("PUGDB_URL", &full);
    let quiet = run(quiet, b"").gives(0, "ada\n");
    assert_eq!(quiet.stderr, "");
    let mut shown = program();
    shown.current_dir(here).args(["config", "show"]).env("PUGDB_URL", &full);
    let shown = run(shown, b"");
    assert!(shown.text().contains("redis://...@") && !shown.text().contains("s3cret"), "{shown}");
    with_password(here, "s3cret", &["shell", "--url", &url, "--user", "ada"]).gives(0, "");
    drop(server);
}

#[test]
fn users_outlive_a_kill_and_the_files_are_the_way_back() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("pugdb-data");
    let server = Running::start(&data, &[]);
    let url = format!("redis://{}", server.address);
    pugdb_with(
        dir.path(),
        &["acl", "set", "--url", &url, "--new-password-file", "-", "default"],
        b"s3cret\n",
    )
    .gives(0, "");
    server.kill();
    let server = Running::start(&data, &[]);
    let url = format!("redis://{}", server.address);
    pugdb(dir.path(), &["get", "a", "--url", &url]).fails(4, &["NOAUTH"]);
    with_password(dir.path(), "s3cret", &["put", "a", "1", "--url", &url]).gives(0, "");
    server.kill();
    pugdb(dir.path(), &["acl", "set", "default", "off"]).gives(0, "");
    pugdb(dir.path(), &["acl", "set", "default", "on", "nopass"]).gives(0, "");
    let server = Running::start(&data, &[]);
    let url = format!("redis://{}", server.address);
    pugdb(dir.path(), &["get", "a", "--url", &url]).gives(0, "1");
}
