//! `serve`: starts, ends in good order, and says why it cannot start.

use std::io::{BufRead as _, Read as _, Write as _};

use rustix::process::{Pid, Signal, kill_process};

use crate::command::{pugdb, run};
use crate::server::{Client, Running, program};

#[test]
fn a_signal_ends_it_in_good_order() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Running::start(&data, &[]);
    assert!(
        server.greeting.starts_with(&format!("pugdb {}, data in ", env!("CARGO_PKG_VERSION"))),
        "{}",
        server.greeting
    );
    assert!(server.greeting.contains("a new database was made"), "{}", server.greeting);
    for signal in [Signal::TERM, Signal::INT] {
        let server = Running::start(&dir.path().join("other"), &[]);
        let mut client = Client::connect(server.address);
        assert_eq!(client.ask(&[b"SET", b"k", b"v"]), pugdb_wire::resp::Reply::OK);
        let (status, rest) = server.stop(signal);
        let said = rest.trim_end_matches(|end: char| end.is_ascii_digit() || end == '\n');
        assert_eq!(
            (status.code(), said),
            (Some(0), "stopping: finishing what clients have sent\nclosed in good order at generation ")
        );
        let again = Running::start(&dir.path().join("other"), &[]);
        assert!(again.greeting.contains("it was closed in good order"), "{}", again.greeting);
        assert_eq!(
            Client::connect(again.address).ask(&[b"GET", b"k"]),
            pugdb_wire::resp::Reply::Bulk("v".into())
        );
        again.stop(signal);
    }
}

#[test]
fn memory_suits_the_machine_unless_it_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let first_line = |more: &[&str]| {
        let server = Running::start(&dir.path().join("data"), more);
        let line = server.greeting.lines().next().unwrap().to_owned();
        server.stop(Signal::TERM);
        line
    };
    let asked = first_line(&["--memory", "64MiB"]);
    assert!(asked.ends_with("; memory 64.0 MiB, as asked for"), "{asked}");
    let chosen = first_line(&["--memory", "auto"]);
    assert!(chosen.contains("; memory ") && chosen.contains("a quarter of the "), "{chosen}");
    assert_eq!(first_line(&[]), chosen, "it is the default");
    // A setting for all commands alike.
    let mut command = program();
    command.env("PUGDB_MEMORY", "auto").args(["get", "k", "--data"]).arg(dir.path().join("data"));
    assert_eq!(run(command, b"").code, 1);
    pugdb(dir.path(), &["serve", "--memory", "automatic"]).fails(2, &["64MiB"]);
    pugdb(dir.path(), &["serve", "--memory", "1000"]).fails(2, &["memory_bytes is 1000"]);
}

fn starts_again_with_all_that_was_set(data: &std::path::Path) {
    let again = Running::start(data, &[]);
    assert!(again.greeting.contains("it was not closed in good order"), "{}", again.greeting);
    assert_eq!(
        Client::connect(again.address).ask(&[b"GET", b"k"]),
        pugdb_wire::resp::Reply::Bulk("v".into())
    );
}

#[test]
fn a_kill_is_told_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let server = Running::start(dir.path(), &[]);
    Client::connect(server.address).ask(&[b"SET", b"k", b"v"]);
    server.kill();
    starts_again_with_all_that_was_set(dir.path());
}

#[test]
fn a_directory_belongs_to_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let server = Running::start(&dir.path().join("data"), &[]);
    let holder = format!("in use by process {}; ", server.child.id());
    let stop = format!("{holder}stop it first");
    pugdb(dir.path(), &["serve", "--data", "data", "--resp", "127.0.0.1:0"]).gives(4, "").fails(4, &[&stop]);
    let use_url = format!("{holder}use --url redis://127.0.0.1:7379");
    let beside = ", or read beside it with --read-only\n";
    // Where a server cannot be asked instead, it is not advised.
    for (advice, end, commands) in [
        (&use_url, "\n", &[&["put", "k", "v"][..]][..]),
        (&use_url, beside, &[&["get", "k"], &["scan"], &["stats"]]),
        (&stop, "\n", &[&["import", "dir", "."], &["import", "csv", "-", "--key", "k"]]),
        (&stop, beside, &[&["verify"], &["export", "jsonl", "-"]]),
    ] {
        for command in commands {
            let command: Vec<&str> = command.iter().copied().chain(["--data", "data"]).collect();
            let run = pugdb(dir.path(), &command).gives(4, "").fails(4, &[&format!("{advice}{end}")]);
            assert_eq!(run.stderr.lines().count(), 1, "{run}");
        }
    }
}

#[test]
fn commands_read_beside_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let server = Running::start(&dir.path().join("data"), &["--no-encryption"]);
    let mut client = Client::connect(server.address);
    client.ask(&[b"SET", b"k", b"v"]);
    let beside = |command: &[&str]| {
        let command: Vec<&str> = command.iter().copied().chain(["--data", "data", "--read-only"]).collect();
        pugdb(dir.path(), &command)
    };
    beside(&["get", "k"]).gives(0, "v");
    beside(&["scan"]).gives(0, "k\tv\n");
    client.ask(&[b"SET", b"k", b"w"]);
    beside(&["get", "k"]).gives(0, "w");
    assert_eq!(beside(&["checkpoint", "copy"]).code, 0);
    assert_eq!(beside(&["verify"]).code, 0);
    for change in [&["put", "k", "x"][..], &["delete", "k"], &["compact"]] {
        beside(change).gives(4, "").fails(4, &["open for reading only"]);
    }
    pugdb(dir.path(), &["get", "k", "--data", "copy"]).gives(0, "w");
    pugdb(dir.path(), &["get", "k", "--read-only", "--url", "redis://127.0.0.1:1"])
        .fails(2, &["--read-only"]);
    assert!(!dir.path().join("data/readers").exists(), "nothing is left");
    server.stop(Signal::TERM);
}

#[test]
fn a_port_belongs_to_one_program() {
    let dir = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let run = pugdb(dir.path(), &["serve", "--resp", &address]).gives(4, "").fails(4, &[&address, "in use"]);
    assert_eq!(run.stderr.lines().count(), 1, "{run}");
}

#[test]
fn an_address_that_others_reach_needs_the_long_word() {
    let dir = tempfile::tempdir().unwrap();
    let remote = ["serve", "--resp", "0.0.0.0:0"];
    pugdb(dir.path(), &remote).gives(2, "").fails(2, &["no TLS", "--allow-remote-without-encryption"]);
    pugdb(dir.path(), &["serve", "--resp", "nonsense"]).fails(2, &["127.0.0.1:7379"]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was made");
    // The last one wins over the one that `start` gives.
    let accepted = Running::start(&dir.path().join("data"), &["--allow-remote-without-encryption"]);
    accepted.stop(Signal::TERM);
}

#[test]
fn the_line_that_says_ready_names_where_http_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let server = Running::start(&dir.path().join("a"), &["--http", "127.0.0.1:0"]);
    let (_, http) = server.greeting.trim_end().split_once("; http on ").unwrap();
    let answer = http_get(http, "/readyz");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nready\n"), "{answer}");
    assert!(http_get(http, "/metrics").contains("\npugdb_disk_free_bytes "));

    // An address that is asked for is taken or refused.
    let data = dir.path().join("b").display().to_string();
    let run = ["serve", "--data", &data, "--resp", "127.0.0.1:0", "--http", http];
    pugdb(dir.path(), &run).gives(4, "").fails(4, &[http, "in use"]);
    let remote = ["serve", "--data", "c", "--resp", "127.0.0.1:0", "--http", "0.0.0.0:0"];
    pugdb(dir.path(), &remote).fails(2, &["0.0.0.0:0", "--allow-remote-without-encryption"]);

    let off = Running::start(&dir.path().join("d"), &["--no-http"]);
    assert!(off.greeting.ends_with(", stop with Ctrl-C\n"), "{}", off.greeting);
    off.stop(Signal::TERM);
    server.stop(Signal::TERM);
}

fn http_get(address: &str, page: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.write_all(format!("GET {page} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn shutdown_by_a_client_and_a_socket_in_the_file_system() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("pugdb.sock");
    let more = ["--no-http", "--unix-socket", socket.to_str().unwrap(), "--max-clients", "2"];
    let mut server = Running::start(&dir.path().join("data"), &more);
    let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    stream.write_all(b"SET k v\r\nCONFIG GET maxclients\r\nSHUTDOWN\r\n").unwrap();
    let mut replies = String::new();
    stream.read_to_string(&mut replies).unwrap();
    assert_eq!(replies, "+OK\r\n*2\r\n$10\r\nmaxclients\r\n$1\r\n2\r\n");
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    assert!(!socket.exists());
    let again = Running::start(&dir.path().join("data"), &["--no-http"]);
    assert!(again.greeting.contains("it was closed in good order"), "{}", again.greeting);
    again.stop(Signal::TERM);
}

#[test]
fn a_directory_with_other_files_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    crate::directory::write(&dir.path().join("thesis.txt"), b"years of work");
    pugdb(dir.path(), &["serve", "--data", ".", "--resp", "127.0.0.1:0"]).fails(2, &["holds no database"]);
    pugdb(dir.path(), &["serve", "--data", "thesis.txt", "--resp", "127.0.0.1:0"]).fails(4, &["thesis.txt"]);
    let names: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["thesis.txt"]);
}

#[test]
fn a_second_signal_ends_it_at_once_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Running::start(dir.path(), &[]);
    let mut client = Client::connect(server.address);
    assert_eq!(client.ask(&[b"SET", b"k", b"v"]), pugdb_wire::resp::Reply::OK);
    // Replies that nobody reads, more than the sockets take: the server would wait some seconds for them to be read.
    assert_eq!(client.ask(&[b"SET", b"large", &vec![0; 1 << 20]]), pugdb_wire::resp::Reply::OK);
    assert!(client.send(&vec![vec![b"GET".to_vec(), b"large".to_vec()]; 64]));
    let id = Pid::from_raw(server.child.id().cast_signed()).unwrap();
    kill_process(id, Signal::INT).unwrap();
    let mut line = String::new();
    server.stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "stopping: finishing what clients have sent\n");
    kill_process(id, Signal::INT).unwrap();
    assert_eq!(server.child.wait().unwrap().code(), Some(130));
    starts_again_with_all_that_was_set(dir.path());
}

#[test]
fn what_it_says_about_itself_can_be_json() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = program();
    command.args(["serve", "--json", "--resp", "127.0.0.1:0", "--data"]).arg(dir.path().join("data"));
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let mut event =
        || -> serde_json::Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(event()["event"], "start");
    let made = event();
    assert!(made["event"] == "made" && made["encrypted"] == true, "{made}");
    assert!(made["provider"].as_str().unwrap().starts_with("the key file "), "{made}");
    let ready = event();
    assert!(
        ready["event"] == "ready" && ready["resp"].as_str().unwrap().starts_with("127.0.0.1:"),
        "{ready}"
    );
    kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), Signal::TERM).unwrap();
    assert_eq!((event()["event"].clone(), event()["event"].clone()), ("stopping".into(), "closed".into()));
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// Keys and values are in memory, and a core dump is a file that nobody looks after.
#[test]
fn a_server_leaves_no_core_dump_unless_it_is_asked_to() {
    let limit = |more: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        let server = Running::start(dir.path(), more);
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.child.id())).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        line.split_whitespace().nth(4).unwrap().to_owned()
    };
    let ours = std::fs::read_to_string("/proc/self/limits").unwrap();
    let ours = ours.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(limit(&[]), "0");
    assert_eq!(Some(limit(&["--allow-core-dumps"]).as_str()), ours.split_whitespace().nth(4));
}
