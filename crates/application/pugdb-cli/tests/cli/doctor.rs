//! `doctor`.

use serde_json::Value;

use crate::command::{pugdb, run};
use crate::directory::write;
use crate::server::program;

#[test]
fn every_check_has_a_verdict_and_bad_ones_have_advice() {
    let dir = tempfile::tempdir().unwrap();
    pugdb(dir.path(), &["put", "k", "v"]).gives(0, "");
    let run = pugdb(dir.path(), &["doctor", "--json"]);
    let lines: Vec<Value> = run.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (lines, sizes): (Vec<Value>, Vec<Value>) =
        lines.into_iter().partition(|line| line["check"].is_string());
    let checks: Vec<&str> = lines.iter().map(|line| line["check"].as_str().unwrap()).collect();
    let expected = [
        "rights",
        "lock",
        "space",
        "file system",
        "disk",
        "sync",
        "encryption",
        "calendar",
        "stopwatch",
        "processors",
        "descriptors",
        "memory",
        "limits",
    ];
    assert_eq!(checks, expected);
    for line in &lines {
        assert_eq!(line["verdict"] == "ok", line["advice"].is_null(), "{line}");
    }
    let settings: Vec<&str> = sizes.iter().map(|line| line["setting"].as_str().unwrap()).collect();
    let expected = [
        "memory_bytes",
        "cache_bytes",
        "memtable_bytes",
        "compaction_jobs",
        "server_threads",
        "table_files_max",
    ];
    assert_eq!(settings, expected);
    for line in &sizes {
        assert!(line["takes"].as_u64().unwrap() > 0 && !line["why"].as_str().unwrap().is_empty(), "{line}");
    }
    let worst = |verdict: &str| lines.iter().any(|line| line["verdict"] == verdict);
    let code = if worst("fail") {
        4
    } else if worst("warn") {
        3
    } else {
        0
    };
    assert_eq!(run.code, code, "{run}");
    let text = pugdb(dir.path(), &["doctor"]);
    assert!(text.text().contains("  sync  ") && text.text().contains("at most 65535 bytes"), "{text}");
    assert!(text.text().contains("\nserve takes ") && text.text().contains("\nmemory_bytes  "), "{text}");
    // Nothing of it stays.
    let names = std::fs::read_dir(dir.path())
        .unwrap()
        .chain(std::fs::read_dir(dir.path().join("pugdb-data")).unwrap());
    let left = names.filter(|name| name.as_ref().unwrap().file_name().to_string_lossy().contains("doctor"));
    assert_eq!(left.count(), 0);
}

#[test]
fn a_place_where_no_database_can_be_fails() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("file"), b"");
    let doctor = pugdb(dir.path(), &["doctor", "--data", "file"]);
    assert!(doctor.code == 4 && doctor.text().starts_with("fail  rights"), "{doctor}");
    // A limit of 100 open files.
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "ulimit -n 100; exec \"$0\" doctor"])
        .arg(program().get_program())
        .current_dir(dir.path());
    let doctor = run(command, b"");
    assert!(doctor.code == 4 && doctor.text().contains("fail  descriptors   100 open files"), "{doctor}");
}

#[test]
fn an_encrypted_database_gives_none_of_ten_thousand_secrets_away_and_the_control_finds_them() {
    let dir = tempfile::tempdir().unwrap();
    pugdb(dir.path(), &["put", "mine", "untouched"]).gives(0, "");
    let run = pugdb(dir.path(), &["doctor", "--privacy", "--json"]);
    assert_eq!(run.code, 0, "{run}");
    let told: Value = serde_json::from_str(run.text()).unwrap();
    assert_eq!(
        (&told["verdict"], &told["leaks"], &told["written"]),
        (&"ok".into(), &0.into(), &10_000.into())
    );
    let kinds = told["secrets"].as_array().unwrap();
    assert_eq!(kinds.len(), 9);
    for kind in kinds {
        let (written, found) =
            (kind["written"].as_u64().unwrap(), kind["found_in_control"].as_u64().unwrap());
        let is_kept = kind["kept_in_plain_text_without_encryption"] == true;
        assert!(if is_kept { found * 10 >= written * 9 } else { found == 0 }, "{kind}");
    }
    // There was some of everything to be searched.
    for files in ["log", "tables", "value files", "manifest", "audit log", "checkpoint", "KEYRING"] {
        let there = told["encrypted"].as_array().unwrap().iter().find(|row| row["in"] == files);
        assert!(
            there.is_some_and(|row| row["bytes"].as_u64() > Some(0) && row["found"] == 0),
            "{files}: {told}"
        );
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing of it stays");
    pugdb(dir.path(), &["get", "mine"]).gives(0, "untouched");
}
