//! `import jsonl` and `export jsonl`.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::command::{pugdb, pugdb_with};
use crate::directory::{read, write};

#[test]
fn a_hundred_thousand_rows_come_back_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(3);
    let mut rows = String::new();
    for number in 0..100_000_u64 {
        // In the order of the keys and in the spelling of an export, so that both files are equal.
        if number % 3 == 0 {
            let padding = "x".repeat(random.usize(..100));
            write!(rows, "{{\"key\":\"k{number:06}\",\"value\":\"größe\\n{padding}\"").unwrap();
        } else {
            let key = STANDARD.encode(format!("k{number:06}"));
            let value: Vec<u8> =
                [0xff].into_iter().chain((0..random.usize(..100)).map(|_| random.u8(..))).collect();
            write!(rows, "{{\"key_base64\":\"{key}\",\"value_base64\":\"{}\"", STANDARD.encode(value))
                .unwrap();
        }
        if number % 5 == 0 {
            write!(rows, ",\"expires_at_ms\":{}", 4_000_000_000_000 + number).unwrap();
        }
        if number % 11 == 0 {
            write!(rows, ",\"meta\":{}", number % 255 + 1).unwrap();
        }
        rows.push_str("}\n");
    }
    write(&dir.path().join("in.jsonl"), rows.as_bytes());
    let import = pugdb(dir.path(), &["import", "jsonl", "in.jsonl", "--keyspace", "rows"]).gives(0, "");
    assert!(import.stderr.contains("imported 100000 entries, "), "{import}");
    let export = pugdb(dir.path(), &["export", "jsonl", "out.jsonl", "--keyspace", "rows"]).gives(0, "");
    assert!(export.stderr.contains("exported 100000 entries, "), "{export}");
    assert!(read(&dir.path().join("out.jsonl")) == rows.as_bytes(), "the files differ");
}

#[test]
fn stdin_and_stdout_are_files_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let lines = "{\"key\":\"b\",\"value\":\"2\"}\r\n\n  \n{\"value_base64\":\"AP8=\",\"key\":\"a\"}";
    pugdb_with(dir.path(), &["import", "jsonl", "-"], lines.as_bytes()).gives(0, "");
    let exported = "{\"key_base64\":\"YQ==\",\"value_base64\":\"AP8=\"}\n{\"key\":\"b\",\"value\":\"2\"}\n";
    pugdb(dir.path(), &["export", "jsonl", "-"]).gives(0, exported);
    pugdb_with(dir.path(), &["import", "jsonl", "-"], b"").gives(0, "");
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_row() {
    let dir = tempfile::tempdir().unwrap();
    let file = "\u{feff}{\"key\":\"a\",\"value\":\"1\"}\r\n\u{feff}{\"key\":\"b\",\"value\":\"\u{feff}\"}\n";
    pugdb_with(dir.path(), &["import", "jsonl", "-"], file.as_bytes()).gives(0, "");
    pugdb(dir.path(), &["get", "a"]).gives(0, "1");
    pugdb(dir.path(), &["get", "b"]).gives(0, "\u{feff}");
}

#[test]
fn an_expiry_is_kept_and_what_has_expired_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let lines = "{\"key\":\"past\",\"value\":\"\",\"expires_at_ms\":1}\n\
                 {\"key\":\"future\",\"value\":\"\",\"expires_at_ms\":4000000000000}\n";
    pugdb_with(dir.path(), &["import", "jsonl", "-"], lines.as_bytes()).gives(0, "");
    pugdb(dir.path(), &["export", "jsonl", "-"]).gives(0, lines.lines().nth(1).unwrap().to_owned() + "\n");
}

#[test]
fn a_damaged_line_ends_the_import_with_its_number_and_without_its_content() {
    let dir = tempfile::tempdir().unwrap();
    for (bad, reason) in [
        ("{\"key\":\"secret\"", "not valid JSON"),
        ("{\"key\":\"secret\",\"value\":\"secret\",\"vlaue\":1}", "and nothing else"),
        ("{\"key\":\"secret\",\"value_base64\":\"se cret\"}", "not base64"),
        ("{\"value\":\"secret\"}", "key or key_base64 is missing"),
    ] {
        let lines =
            format!("{{\"key\":\"a\",\"value\":\"1\"}}\n\n{bad}\n{{\"key\":\"z\",\"value\":\"2\"}}\n");
        write(&dir.path().join("rows"), lines.as_bytes());
        let run = pugdb(dir.path(), &["import", "jsonl", "rows"]);
        let run = run
            .fails(3, &["rows, line 3: ", reason, "the lines before it were imported", "imported 1 entry"]);
        assert!(!run.stderr.contains("secret") && !run.stderr.contains("vlaue"), "{run}");
        pugdb(dir.path(), &["scan"]).gives(0, "a\t1\n");
    }
}

#[test]
fn an_entry_over_a_limit_is_left_out_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let lines = format!(
        "{{\"key\":\"{}\",\"value\":\"\"}}\n{{\"key\":\"k\",\"value\":\"{}\"}}\n{{\"key\":\"ok\",\"value\":\"\"}}\n",
        "k".repeat(65_536),
        "v".repeat(300 << 10),
    );
    let run = pugdb_with(dir.path(), &["import", "jsonl", "-", "--memory", "1MiB"], lines.as_bytes());
    run.fails(
        3,
        &[
            "left out: line 1: the key has 65536 bytes",
            "left out: line 2: a value has at most",
            "left out 2\n",
        ],
    );
    pugdb(dir.path(), &["scan"]).gives(0, "ok\t\n");
}

#[test]
fn a_line_without_end_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let endless = vec![b'['; 4 << 20];
    let run = pugdb_with(dir.path(), &["import", "jsonl", "-", "--memory", "1MiB"], &endless);
    run.fails(3, &["stdin, line 1: the line has more than"]);
}

#[test]
fn an_export_replaces_a_file_only_by_force() {
    let dir = tempfile::tempdir().unwrap();
    pugdb(dir.path(), &["put", "a", "1"]).gives(0, "");
    let out = dir.path().join("out");
    write(&out, b"old and longer than the new one");
    pugdb(dir.path(), &["export", "jsonl", "out"]).fails(2, &["--force"]);
    assert_eq!(read(&out), b"old and longer than the new one");
    pugdb(dir.path(), &["export", "jsonl", "out", "--force"]).gives(0, "");
    assert_eq!(read(&out), b"{\"key\":\"a\",\"value\":\"1\"}\n");
    pugdb(dir.path(), &["export", "jsonl", "no/such/folder"]).fails(2, &["no/such/folder"]);
    // A full disk is an error, not a short file.
    pugdb(dir.path(), &["export", "jsonl", "/dev/full", "--force"]).fails(4, &["/dev/full"]);
}
