//! `import` and `export` of CSV and TSV.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::command::{pugdb, pugdb_with};
use crate::directory::{read, write};

#[test]
fn columns_become_values_or_one_object() {
    let dir = tempfile::tempdir().unwrap();
    let sheet = "id,name,note\r\n1,Ada,\"wrote, \"\"the first\"\"\nprogram\"\r\n\n2,Grace,\r\n";
    write(&dir.path().join("people.csv"), sheet.as_bytes());
    let import = pugdb(dir.path(), &["import", "csv", "people.csv", "--key", "id"]).gives(0, "");
    assert!(import.stderr.contains("imported 2 entries"), "{import}");
    pugdb(dir.path(), &["get", "1"])
        .gives(0, "{\"name\":\"Ada\",\"note\":\"wrote, \\\"the first\\\"\\nprogram\"}");
    pugdb(dir.path(), &["get", "2"]).gives(0, "{\"name\":\"Grace\",\"note\":\"\"}");
    let one = ["import", "csv", "people.csv", "--key", "name", "--value", "id", "--keyspace", "names"];
    pugdb(dir.path(), &one).gives(0, "");
    pugdb(dir.path(), &["scan", "--keyspace", "names"]).gives(0, "Ada\t1\nGrace\t2\n");
}

#[test]
fn a_delimiter_a_missing_header_and_a_mark_before_the_text() {
    let dir = tempfile::tempdir().unwrap();
    let numbered = ["import", "tsv", "-", "--no-header", "--key", "2", "--value", "1"];
    pugdb_with(dir.path(), &numbered, b"\xef\xbb\xbfone\ta\ntwo\tb").gives(0, "");
    pugdb(dir.path(), &["scan"]).gives(0, "a\tone\nb\ttwo\n");
    let semicolon = ["import", "csv", "-", "--delimiter", ";", "--key", "k", "--expires-at-ms", "until"];
    pugdb_with(dir.path(), &semicolon, b"\xef\xbb\xbfk;until;v\na;;x\nb;4000000000000;\"y;z\"\nc;1;gone\n")
        .gives(0, "");
    pugdb(dir.path(), &["scan"]).gives(0, "a\t{\"v\":\"x\"}\nb\t{\"v\":\"y;z\"}\n");
    let run = pugdb(dir.path(), &["export", "csv", "-"]);
    assert!(run.text().ends_with("b,\"{\"\"v\"\":\"\"y;z\"\"}\",4000000000000\n"), "{run}");
    let all = ["import", "csv", "-", "--no-header", "--key", "1", "--keyspace", "all"];
    pugdb_with(dir.path(), &all, b"k,x,y\n").gives(0, "");
    pugdb(dir.path(), &["get", "k", "--keyspace", "all"]).gives(0, "{\"2\":\"x\",\"3\":\"y\"}");
}

#[test]
fn an_export_comes_back_in_every_encoding() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(61);
    let mut rows = String::new();
    for number in 0..200 {
        let value: Vec<u8> =
            (0..random.usize(..60)).map(|_| *random.choice(b",\"\n\r\t\\;ab\xff\x00").unwrap()).collect();
        let key = STANDARD.encode(format!("key {number} \"{}\"\n", "x".repeat(number % 7)));
        let expiry = if number % 3 == 0 { ",\"expires_at_ms\":4000000000000" } else { "" };
        let value = STANDARD.encode(value);
        writeln!(rows, "{{\"key_base64\":\"{key}\",\"value_base64\":\"{value}\"{expiry}}}").unwrap();
    }
    pugdb_with(dir.path(), &["import", "jsonl", "-"], rows.as_bytes()).gives(0, "");
    let whole = pugdb(dir.path(), &["export", "jsonl", "-"]);
    assert_eq!(whole.text().lines().count(), 200);
    for kind in ["csv", "tsv"] {
        for encoding in ["raw", "escaped", "hex", "base64"] {
            let (file, data) = (format!("{encoding}.{kind}"), format!("{encoding}-{kind}"));
            pugdb(dir.path(), &["export", kind, &file, "--encoding", encoding]).gives(0, "");
            pugdb(dir.path(), &["import", kind, &file, "--encoding", encoding, "--data", &data]).gives(0, "");
            pugdb(dir.path(), &["export", "jsonl", "-", "--data", &data]).gives(0, &whole.stdout);
        }
    }
    let plain = pugdb(dir.path(), &["export", "csv", "plain.csv"]);
    let left_out = whole.text().lines().filter(|line| line.contains("_base64")).count();
    plain.fails(3, &["it is not UTF-8; say with --encoding", &format!("left out {left_out}\n")]);
}

#[test]
fn what_only_jsonl_keeps_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let lines = b"{\"key\":\"a\",\"value\":\"1\",\"meta\":3}\n{\"key\":\"b\",\"value\":\"2\"}\n";
    pugdb_with(dir.path(), &["import", "jsonl", "-"], lines).gives(0, "");
    pugdb(dir.path(), &["export", "csv", "-", "--no-header", "--without-expiry"])
        .gives(3, "b,2\n")
        .fails(3, &["left out: a: it has a byte `meta`"]);
}

#[test]
fn a_wrong_record_ends_the_import_with_its_line_and_without_its_content() {
    let dir = tempfile::tempdir().unwrap();
    for (bad, reason) in [
        ("secret", "the record has 1 fields; the first one has 2"),
        ("secret,secret,secret", "the record has 3 fields"),
        ("secret,5\" secret", "a quote stands within a field"),
        ("\"secret\"secret,x", "behind a closing quote"),
    ] {
        let sheet = format!("k,v\na,\"1\n2\"\n{bad}\nz,3\n");
        let run =
            pugdb_with(dir.path(), &["import", "csv", "-", "--key", "k", "--value", "v"], sheet.as_bytes());
        let run = run
            .fails(3, &["stdin, line 4: ", reason, "the lines before it were imported", "imported 1 entry"]);
        assert!(!run.stderr.contains("secret"), "{run}");
        pugdb(dir.path(), &["scan"]).gives(0, "a\t1\\n2\n");
    }
    let run = pugdb_with(dir.path(), &["import", "csv", "-", "--key", "k"], b"k,v\na,\"secret\nmore\n");
    run.fails(3, &["stdin, line 2: a quoted field is not closed"]);
    let latin = pugdb_with(dir.path(), &["import", "csv", "-", "--key", "k"], b"k,v\n\xff,1\n");
    latin.fails(3, &["the key: it is not UTF-8; say with --encoding"]);
    let expiry = ["import", "csv", "-", "--key", "k", "--value", "v", "--expires-at-ms", "v"];
    pugdb_with(dir.path(), &expiry, b"k,v\na,soon\n").fails(3, &["the expiry is no number"]);
}

#[test]
fn columns_that_are_not_there_make_no_database() {
    let dir = tempfile::tempdir().unwrap();
    let import = |arguments: &[&str], sheet: &str| {
        let all: Vec<&str> = ["import", "csv", "-"].iter().chain(arguments).copied().collect();
        pugdb_with(dir.path(), &all, sheet.as_bytes())
    };
    // Without a line of names these are a key and a value.
    for (arguments, says) in
        [(&["--key", "nope"][..], "no column \"nope\" among the 2"), (&[], "of the 2 columns")]
    {
        let run = import(arguments, "canary,secret\n").fails(2, &[says]);
        assert!(!run.stderr.contains("canary") && !run.stderr.contains("secret"), "{run}");
    }
    import(&["--key", "a"], "a,a,b\n").fails(2, &["several columns \"a\""]);
    import(&["--key", "b"], "a,a,b\n").fails(2, &["two columns have the same name"]);
    import(&[], "id,name\n1,Ada\n").fails(2, &["say with --key"]);
    import(&["--value", "v"], "").fails(2, &["--key"]);
    import(&["--no-header", "--key", "name"], "").fails(2, &["a column is a number from 1"]);
    import(&["--key", "k", "--delimiter", "ab"], "").fails(2, &["one ASCII character"]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    import(&["--no-header", "--key", "3"], "a,b\n")
        .fails(3, &["there is no column 3; a record has 2 fields"]);
}

#[test]
fn an_export_is_quoted_where_it_has_to_be() {
    let dir = tempfile::tempdir().unwrap();
    for (key, value) in
        [("a", "plain"), ("b", "with,comma"), ("c", "with \"quote\""), ("d", "two\nlines"), ("e", "")]
    {
        pugdb(dir.path(), &["put", key, value]).gives(0, "");
    }
    pugdb(dir.path(), &["export", "csv", "out.csv", "--without-expiry"]).gives(0, "");
    let text = "key,value\na,plain\nb,\"with,comma\"\nc,\"with \"\"quote\"\"\"\nd,\"two\nlines\"\ne,\n";
    assert_eq!(read(&dir.path().join("out.csv")), text.as_bytes());
    pugdb(dir.path(), &["export", "csv", "out.csv"]).fails(2, &["--force"]);
}
