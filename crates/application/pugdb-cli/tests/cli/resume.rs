//! Imports that are interrupted, and go on.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::command::{pugdb, pugdb_with};
use crate::directory::write;
use crate::server::program;

const ROWS: usize = 20_000;

fn rows() -> String {
    (0..ROWS).fold(String::new(), |mut rows, number| {
        writeln!(rows, "{{\"key\":\"k{number:06}\",\"value\":\"value {number}\"}}").unwrap();
        rows
    })
}

/// An import that reads from a pipe, so that the test decides how far it gets.
fn start(dir: &Path, more: &[&str]) -> Child {
    let arguments: Vec<&str> = ["import", "jsonl", "-"].iter().chain(more).copied().collect();
    let mut command = program();
    command
        .current_dir(dir)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), signal).unwrap();
}

fn keys(dir: &Path) -> usize {
    pugdb(dir, &["scan", "--keys-only"]).text().lines().count()
}

/// Waits until the import has written so many bytes of log: some batches, each with its note. Looking takes no lock.
fn wait_for_log(dir: &Path, bytes: u64) {
    let used = || -> u64 {
        let run = pugdb(dir, &["inspect", "--json"]);
        let files = run.text().lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        files
            .filter(|file| file["what"] == "log segment")
            .filter_map(|file| file["used_bytes"].as_u64())
            .sum()
    };
    let came = (0..10_000).any(|_| used() >= bytes);
    assert!(came, "the import does not come on");
}

#[test]
fn a_damaged_line_is_mended_and_the_import_goes_on_there() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rows");
    let good = rows();
    let at = good.match_indices('\n').nth(12_345).unwrap().0 + 1;
    write(&file, format!("{}{{broken\n{}", &good[..at], &good[at..]).as_bytes());
    let run = pugdb(dir.path(), &["import", "jsonl", "rows"]);
    run.fails(3, &["rows, line 12347: ", "--resume goes on there", "imported 12346 entries"]);
    // Not mended: it stops there again, and nothing is done twice.
    pugdb(dir.path(), &["import", "jsonl", "rows", "--resume"])
        .fails(3, &["going on at line 12347", "rows, line 12347: ", "imported 0 entries"]);
    write(&file, good.as_bytes());
    let run = pugdb(dir.path(), &["import", "jsonl", "rows", "--resume"]).gives(0, "");
    assert!(
        run.stderr.contains("going on at line 12347") && run.stderr.contains("imported 7654 entries"),
        "{run}"
    );
    assert_eq!(keys(dir.path()), ROWS);
    // Done: nothing is noted any more, and its place is gone.
    let stats = pugdb(dir.path(), &["stats"]);
    assert!(stats.text().contains("keyspaces: 1 (db0)"), "{stats}");
    let run = pugdb(dir.path(), &["import", "jsonl", "rows", "--resume"]).gives(0, "");
    assert!(run.stderr.contains("no interrupted import of rows is noted"), "{run}");
    assert_eq!(keys(dir.path()), ROWS);
}

#[test]
fn a_file_that_changed_before_the_place_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rows");
    let good = rows();
    write(&file, format!("{good}broken\n").as_bytes());
    pugdb(dir.path(), &["import", "jsonl", "rows"]).fails(3, &["line 20001"]);
    // The same length and the same name: only the bytes tell.
    write(&file, good.replacen("value 7\"", "value 8\"", 1).as_bytes());
    pugdb(dir.path(), &["import", "jsonl", "rows", "--resume"])
        .fails(2, &["rows has changed before line 20001", "without --resume"]);
    write(&file, &good.as_bytes()[..1_000]);
    pugdb(dir.path(), &["import", "jsonl", "rows", "--resume"]).fails(2, &["has changed"]);
}

#[test]
fn other_columns_are_another_import() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("sheet"), b"a,b,c\n1,2,3\n4,5\n");
    pugdb(dir.path(), &["import", "csv", "sheet", "--key", "a"]).fails(3, &["line 3"]);
    pugdb(dir.path(), &["import", "csv", "sheet", "--key", "b", "--resume"]).fails(2, &["other columns"]);
    write(&dir.path().join("sheet"), b"a,b,c\n1,2,3\n4,5,6\n");
    let run = pugdb(dir.path(), &["import", "csv", "sheet", "--key", "a", "--resume"]).gives(0, "");
    assert!(run.stderr.contains("imported 1 entry"), "{run}");
    pugdb(dir.path(), &["scan", "--keys-only"]).gives(0, "1\n4\n");
}

#[test]
fn ctrl_c_keeps_what_is_done_and_the_import_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (good, some) = (rows(), 10_000);
    let at = good.match_indices('\n').nth(some - 1).unwrap().0 + 1;
    let mut child = start(dir.path(), &[]);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&good.as_bytes()[..at]).unwrap();
    wait_for_log(dir.path(), 100_000);
    signal(&child, Signal::INT);
    // It looks at the signal before it takes another row.
    let _ = stdin.write_all(&good.as_bytes()[at..]);
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("stopped on request at stdin, line "), "{stderr}");
    let kept = keys(dir.path());
    assert!(
        kept > 0 && kept < ROWS && stderr.contains(&format!("imported {kept} entries")),
        "{kept}: {stderr}"
    );
    let run = pugdb_with(dir.path(), &["import", "jsonl", "-", "--resume"], good.as_bytes()).gives(0, "");
    assert!(run.stderr.contains(&format!("going on at line {}", kept + 1)), "{run}");
    assert!(run.stderr.contains(&format!("imported {} entries", ROWS - kept)), "{run}");
    assert_eq!(keys(dir.path()), ROWS);
}

/// The end of a child, which has to come while its stdin is open.
fn end_of(child: Child, stdin: ChildStdin) -> Output {
    let (sender, ended) = mpsc::channel();
    let ended = std::thread::scope(|scope| {
        scope.spawn(move || sender.send(child.wait_with_output()));
        let ended = ended.recv_timeout(Duration::from_secs(20));
        drop(stdin);
        ended
    });
    ended.expect("it ends and does not wait for stdin").unwrap()
}

#[test]
fn ctrl_c_ends_an_import_that_waits_for_rows() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = start(dir.path(), &[]);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(rows().as_bytes()).unwrap();
    wait_for_log(dir.path(), 100_000);
    signal(&child, Signal::INT);
    let output = end_of(child, stdin);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("--resume goes on there"), "{stderr}");
}

#[test]
fn ctrl_c_ends_an_import_that_waits_for_a_dump() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = program();
    command.current_dir(dir.path()).args(["import", "rdb", "-"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"REDIS0011").unwrap();
    while !dir.path().join("pugdb-data/CURRENT").exists() {
        std::thread::yield_now();
    }
    signal(&child, Signal::INT);
    let output = end_of(child, stdin);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("stopped on request"), "{stderr}");
}

#[test]
fn what_a_pipe_ends_with_at_ctrl_c_is_not_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let sheet = rows().replace("{\"key\":\"", "").replace("\",\"value\":\"", ",").replace("\"}", "");
    let import = ["import", "csv", "-", "--no-header", "--key", "1", "--value", "2"];
    let mut command = program();
    command.current_dir(dir.path()).args(import);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(sheet.as_bytes()).unwrap();
    wait_for_log(dir.path(), 100_000);
    signal(&child, Signal::INT);
    // As whoever writes into the pipe does that was stopped by the same Ctrl-C.
    let _ = stdin.write_all(b"torn,val");
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("--resume goes on there"), "{stderr}");
    pugdb(dir.path(), &["get", "torn"]).gives(1, "");
    let whole = format!("{sheet}torn,value\n");
    let resume: Vec<&str> = import.iter().copied().chain(["--resume"]).collect();
    pugdb_with(dir.path(), &resume, whole.as_bytes()).gives(0, "");
    pugdb(dir.path(), &["get", "torn"]).gives(0, "value");
}

#[test]
fn a_second_ctrl_c_ends_at_once() {
    let dir = tempfile::tempdir().unwrap();
    pugdb_with(dir.path(), &["import", "jsonl", "-"], rows().as_bytes()).gives(0, "");
    let mut command = program();
    command.current_dir(dir.path()).args(["export", "jsonl", "-"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0]).unwrap();
    // The pipe is full soon, and nobody reads on: nothing but a second signal ends it.
    signal(&child, Signal::INT);
    let ended = (0..10_000_000).find_map(|_| {
        signal(&child, Signal::INT);
        std::thread::yield_now();
        child.try_wait().unwrap()
    });
    let status = ended.expect("it ends");
    assert_eq!(status.code(), Some(130));
    drop(stdout);
}

#[test]
fn a_signal_ends_a_script_that_waits_for_commands() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = program();
    command.current_dir(dir.path()).arg("shell");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"put a 1\nget a\n").unwrap();
    let mut answer = [0; 2];
    child.stdout.as_mut().unwrap().read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"1\n");
    // Long enough for it to wait for the next command; where it does not yet, the test is only easier to pass.
    pugdb(dir.path(), &["--version"]).fails(0, &[]);
    signal(&child, Signal::TERM);
    assert_eq!(end_of(child, stdin).status.code(), Some(130));
}

#[test]
fn after_a_kill_note_and_rows_agree() {
    let dir = tempfile::tempdir().unwrap();
    let good = rows();
    let mut killed = 0;
    for round in 1..=4_u64 {
        let mut child = start(dir.path(), if round == 1 { &[] } else { &["--resume"] });
        let mut stdin = child.stdin.take().unwrap();
        let at = good.match_indices('\n').nth(ROWS / 5 * usize::try_from(round).unwrap()).unwrap().0 + 1;
        stdin.write_all(&good.as_bytes()[..at]).unwrap();
        wait_for_log(dir.path(), 60_000 * round);
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        killed += u32::from(output.status.code().is_none());
    }
    assert!(killed > 0);
    let before = keys(dir.path());
    assert!(before > 0 && before < ROWS);
    let run = pugdb_with(dir.path(), &["import", "jsonl", "-", "--resume"], good.as_bytes()).gives(0, "");
    // The note stands in the batch of the rows: no row is missing, none is imported twice.
    assert!(run.stderr.contains(&format!("imported {} entries", ROWS - before)), "{before}: {run}");
    assert_eq!(keys(dir.path()), ROWS);
}

#[test]
fn the_keyspace_of_the_notes_is_no_place_for_others() {
    let dir = tempfile::tempdir().unwrap();
    for command in [&["put", "k", "v"][..], &["import", "dir", "."]] {
        let command: Vec<&str> = command.iter().copied().chain(["--keyspace", "pugdb.imports"]).collect();
        pugdb(dir.path(), &command).fails(2, &["PugDB's own"]);
    }
}
