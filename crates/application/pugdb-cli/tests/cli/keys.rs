//! `get`, `put`, `delete`, `exists`, `scan`, `stats`: on a directory, and the same through a server.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::process::Stdio;

use tempfile::TempDir;

use crate::command::{pugdb, pugdb_with};
use crate::server::{Running, program};

/// A directory, and where the commands of a test go: to its database, or to a server on it.
pub(crate) struct Face {
    pub(crate) dir: TempDir,
    pub(crate) server: Option<Running>,
}

impl Face {
    pub(crate) fn both() -> [Self; 2] {
        let [local, remote] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let server = Running::start(&remote.path().join("pugdb-data"), &[]);
        [Self { dir: local, server: None }, Self { dir: remote, server: Some(server) }]
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> crate::command::Run {
        self.run_with(arguments, b"")
    }

    pub(crate) fn run_with(&self, arguments: &[&str], stdin: &[u8]) -> crate::command::Run {
        let url = self.server.as_ref().map(|server| format!("redis://{}", server.address));
        let mut all = vec![arguments[0]];
        if let Some(url) = &url {
            all.extend(["--url", url]);
        }
        all.extend(&arguments[1..]);
        pugdb_with(self.dir.path(), &all, stdin)
    }
}

#[test]
fn a_key_is_put_read_and_deleted() {
    for face in Face::both() {
        face.run(&["put", "ada", "1815"]).gives(0, "");
        face.run(&["get", "ada"]).gives(0, "1815");
        face.run(&["exists", "ada"]).gives(0, "1\n");
        face.run(&["put", "ada", ""]).gives(0, "");
        face.run(&["get", "ada"]).gives(0, "");
        face.run(&["delete", "ada"]).gives(0, "");
        face.run(&["delete", "ada"]).gives(1, "").fails(1, &["no such key"]);
        face.run(&["get", "ada"]).gives(1, "").fails(1, &["no such key"]);
        face.run(&["exists", "ada"]).gives(1, "0\n");
        face.run(&["put", "", "the empty key"]).gives(0, "");
        face.run(&["get", ""]).gives(0, "the empty key");
    }
}

#[test]
fn both_faces_see_the_same_keys() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("pugdb-data");
    pugdb(dir.path(), &["put", "a", "1"]).gives(0, "");
    pugdb(dir.path(), &["put", "a", "2", "--keyspace", "db7"]).gives(0, "");
    let server = Running::start(&data, &[]);
    let url = format!("redis://{}", server.address);
    pugdb(dir.path(), &["get", "a", "--url", &url]).gives(0, "1");
    pugdb(dir.path(), &["get", "a", "--url", &format!("{url}/7")]).gives(0, "2");
    pugdb(dir.path(), &["get", "a", "--url", &url, "--keyspace", "db7"]).gives(0, "2");
    pugdb(dir.path(), &["put", "b", "3", "--url", &format!("{url}/7")]).gives(0, "");
    let (status, _) = server.stop(rustix::process::Signal::TERM);
    assert!(status.success());
    pugdb(dir.path(), &["get", "b", "--keyspace", "db7"]).gives(0, "3");
}

#[test]
fn bytes_come_from_arguments_files_and_stdin() {
    for face in Face::both() {
        let all: Vec<u8> = (0..=255).collect();
        let file = face.dir.path().join("file");
        crate::directory::write(&file, &all);
        face.run(&["put", "from file", "@file"]).gives(0, "");
        face.run(&["get", "from file"]).gives(0, &all);
        face.run_with(&["put", "from stdin", "-"], b"line\n\0").gives(0, "");
        face.run(&["get", "from stdin"]).gives(0, b"line\n\0");
        face.run_with(&["get", "-"], b"from file").gives(0, &all);
        face.run(&["put", "@file", "under a binary key"]).gives(0, "");
        face.run(&["get", "@file"]).gives(0, "under a binary key");
        face.run(&["put", "--literal", "@file", "-"]).gives(0, "");
        face.run(&["get", "--literal", "@file"]).gives(0, "-");
        face.run(&["put", "--escaped", r"a\x00b", r"\xff\t\\"]).gives(0, "");
        face.run(&["get", "-e", r"a\0b"]).fails(2, &["backslash"]);
        face.run(&["get", "-e", r"a\x00b"]).gives(0, b"\xff\t\\");
        face.run(&["put", "--", "-k", "-5"]).gives(0, "");
        face.run(&["get", "--", "-k"]).gives(0, "-5");
        face.run(&["put", "k", "@no such file"]).fails(2, &["the value", "no such file"]);
        face.run(&["put", "-", "-"]).fails(2, &["stdin"]);
        face.run_with(&["get", "-"], &vec![b'k'; 70_000]).fails(2, &["the key", "65535"]);
        let invalid = OsStr::from_bytes(b"\xff\xfe");
        if face.server.is_none() {
            pugdb(face.dir.path(), &[OsStr::new("put"), invalid, invalid]).gives(0, "");
            pugdb(face.dir.path(), &[OsStr::new("get"), invalid]).gives(0, b"\xff\xfe");
        }
    }
}

#[test]
fn an_expired_key_is_gone() {
    for face in Face::both() {
        face.run(&["put", "short", "1", "--expire-ms", "1"]).gives(0, "");
        face.run(&["put", "long", "1", "--expire-in", "1000"]).gives(0, "");
        face.run(&["exists", "long"]).gives(0, "1\n");
        // The next process starts more than a millisecond after the expiry was set; were it ever faster, it asks again.
        let gone = (0..1_000).any(|_| face.run(&["exists", "short"]).code == 1);
        assert!(gone);
        face.run(&["put", "k", "1", "--expire-in", "0"]).fails(2, &["expire-in"]);
        face.run(&["put", "k", "1", "--expire-in", "1", "--expire-ms", "1"])
            .fails(2, &["cannot be used with"]);
    }
}

#[test]
fn reading_makes_neither_a_database_nor_a_keyspace() {
    let dir = tempfile::tempdir().unwrap();
    for command in [&["get", "k"][..], &["exists", "k"], &["delete", "k"], &["scan"], &["stats"], &["verify"]]
    {
        pugdb(dir.path(), command).gives(1, "").fails(1, &["there is no database in ./pugdb-data"]);
    }
    pugdb(dir.path(), &["export", "jsonl", "out"]).fails(1, &["no database"]);
    pugdb(dir.path(), &["export", "dir", "out"]).fails(1, &["no database"]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);

    pugdb(dir.path(), &["put", "k", "v"])
        .gives(0, "")
        .fails(0, &["an encrypted database was made in ./pugdb-data; its root key is in the key file "]);
    for command in [&["get", "k"][..], &["exists", "k"], &["delete", "k"], &["scan"]] {
        let command: Vec<&str> = command.iter().copied().chain(["--keyspace", "users"]).collect();
        pugdb(dir.path(), &command).gives(1, "").fails(1, &["there is no keyspace \"users\""]);
    }
    let stats = pugdb(dir.path(), &["stats"]);
    assert!(stats.text().contains("keyspaces: 1 (db0)"), "{stats}");
}

#[test]
fn a_scan_prints_keys_and_values_in_order() {
    for face in Face::both() {
        for (key, value) in
            [("b", "2"), ("user:2", "bob"), ("a", "1"), ("user:1", "ada"), ("c", "3"), ("us[er", "")]
        {
            face.run(&["put", key, value]).gives(0, "");
        }
        face.run(&["put", "-e", r"user:\x00\xff", r"tab\tline\nback\\slash"]).gives(0, "");
        let last = "user:\\x00\\xff\ttab\\tline\\nback\\\\slash\n";
        let users = format!("{last}user:1\tada\nuser:2\tbob\n");
        face.run(&["scan", "--prefix", "user:"]).gives(0, &users);
        face.run(&["scan"]).gives(0, format!("a\t1\nb\t2\nc\t3\nus[er\t\n{users}"));
        face.run(&["scan", "--limit", "2"]).gives(0, "a\t1\nb\t2\n");
        face.run(&["scan", "--reverse", "--limit", "1"]).gives(0, "user:2\tbob\n");
        face.run(&["scan", "--start", "b", "--end", "us"]).gives(0, "b\t2\nc\t3\n");
        face.run(&["scan", "--prefix", "user:", "--start", "user:1", "--reverse"])
            .gives(0, "user:2\tbob\nuser:1\tada\n");
        face.run(&["scan", "--prefix", "us[", "--keys-only"]).gives(0, "us[er\n");
        face.run(&["scan", "-e", "--prefix", r"user:\x00"]).gives(0, last);
        face.run(&["scan", "--prefix", "nothing"]).gives(0, "");
        face.run(&["scan", "--start", "z", "--end", "a"]).gives(0, "");
        face.run(&["scan", "--limit", "0"]).gives(0, "");
    }
}

#[test]
fn a_long_scan_through_a_server_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    let rows: Vec<(String, String)> = (0..5_000).map(|n| (format!("k{n:05}"), "v".repeat(n % 300))).collect();
    let lines: String =
        rows.iter().map(|(key, value)| format!("{{\"key\":\"{key}\",\"value\":\"{value}\"}}\n")).collect();
    pugdb_with(dir.path(), &["import", "jsonl", "-"], lines.as_bytes()).gives(0, "");
    let server = Running::start(&dir.path().join("pugdb-data"), &[]);
    let url = format!("redis://{}", server.address);
    let expected: String = rows.iter().map(|(key, value)| format!("{key}\t{value}\n")).collect();
    pugdb(dir.path(), &["scan", "--url", &url]).gives(0, expected);
    let stats = pugdb(dir.path(), &["stats", "--url", &url, "--count"]);
    assert!(stats.text().contains("entries: 5000"), "{stats}");
}

#[test]
fn a_reader_that_has_enough_ends_a_scan_quietly() {
    let dir = tempfile::tempdir().unwrap();
    let value = "v".repeat(1_000);
    let lines: String = (0..5_000).map(|n| format!("{{\"key\":\"k{n}\",\"value\":\"{value}\"}}\n")).collect();
    pugdb_with(dir.path(), &["import", "jsonl", "-"], lines.as_bytes()).gives(0, "");
    for arguments in [&["scan"][..], &["export", "jsonl", "-"]] {
        let mut child = program()
            .current_dir(dir.path())
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut some = [0; 10];
        child.stdout.take().unwrap().read_exact(&mut some).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            (output.status.code(), output.stderr.escape_ascii().to_string()),
            (Some(0), String::new())
        );
    }
}

#[test]
fn stats_tell_sizes_and_counts() {
    let [local, remote] = Face::both();
    for face in [&local, &remote] {
        face.run(&["put", "a", "1"]).gives(0, "");
        face.run(&["put", "b", "2"]).gives(0, "");
    }
    let stats = local.run(&["stats", "--count"]);
    assert!(stats.code == 0 && stats.text().contains("entries in db0: 2\n"), "{stats}");
    let stats = remote.run(&["stats", "--count"]);
    assert!(stats.code == 0 && stats.text().ends_with("entries: 2\n"), "{stats}");
}

#[test]
fn a_wrong_command_line_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    let wrong = |arguments: &[&str], parts: &[&str]| drop(pugdb(dir.path(), arguments).fails(2, parts));
    wrong(&["servee"], &["serve"]);
    wrong(&["get"], &["<KEY>", "--help"]);
    wrong(&["get", "k", "--data", "d", "--url", "redis://127.0.0.1"], &["cannot be used with"]);
    wrong(&["get", "k", "--url", "127.0.0.1:7379"], &["redis://127.0.0.1:7379"]);
    wrong(&["get", "k", "--url", "redis://127.0.0.1", "--keyspace", "users"], &["db0 to db15"]);
    wrong(&["get", "k", "--url", "redis://127.0.0.1/1", "--keyspace", "db2"], &["different databases"]);
    for command in [
        &["verify"][..],
        &["compact"],
        &["import", "dir", "."],
        &["import", "jsonl", "-"],
        &["export", "dir", "d"],
    ] {
        let command: Vec<&str> = command.iter().copied().chain(["--url", "redis://127.0.0.1"]).collect();
        wrong(&command, &["does not work through a server yet", "--data"]);
    }
    wrong(&["put", "k", "v", "--memory", "lots"], &["64MiB"]);
    wrong(&["put", "k", "v", "--memory", "1KiB"], &["memory_bytes"]);
    wrong(&["put", "k", "v", "--keyspace", ""], &["name"]);
    pugdb(dir.path(), &["--version"]).gives(0, format!("pugdb {}\n", env!("CARGO_PKG_VERSION")));
    assert!(pugdb(dir.path(), &["--help"]).text().contains("Exit codes"));
}

#[test]
fn a_server_that_is_not_there_or_is_none_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let url = format!("redis://{address}");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
            // Until the command has gone.
            let _ = stream.read_to_end(&mut Vec::new());
        });
        pugdb(dir.path(), &["get", "k", "--url", &url])
            .gives(4, "")
            .fails(4, &["does not speak RESP", &address]);
    });
    pugdb(dir.path(), &["get", "k", "--url", &url])
        .gives(4, "")
        .fails(4, &["no server answers on", &address]);
}

#[test]
fn a_hundred_puts_do_not_fill_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..100 {
        pugdb(dir.path(), &["put", &format!("k{n:02}"), "v"]).gives(0, "");
    }
    let log = std::fs::read_dir(dir.path().join("pugdb-data/log")).unwrap();
    let log_bytes: u64 = log.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(log_bytes < 32 << 20, "{log_bytes} bytes of log");
    let keys: String = (0..100).map(|n| format!("k{n:02}\n")).collect();
    pugdb(dir.path(), &["scan", "--keys-only"]).gives(0, keys);
    // More than such a segment holds.
    let large = vec![7; 5 << 20];
    pugdb_with(dir.path(), &["put", "large", "-"], &large).gives(0, "");
    pugdb(dir.path(), &["get", "large"]).gives(0, large);
}
