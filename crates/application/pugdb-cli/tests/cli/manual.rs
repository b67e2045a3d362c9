//! `completions`, `man`, and the help of every command.

use crate::command::pugdb;
use crate::directory::read;

const COMMANDS: [&str; 20] = [
    "serve",
    "shell",
    "get",
    "put",
    "delete",
    "exists",
    "scan",
    "keyspace",
    "checkpoint",
    "stats",
    "verify",
    "compact",
    "import",
    "export",
    "inspect",
    "doctor",
    "privacy",
    "config",
    "completions",
    "man",
];

#[test]
fn completions_name_every_command() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let run = pugdb(dir.path(), &["completions", shell]);
        assert_eq!(run.code, 0, "{run}");
        for command in COMMANDS {
            assert!(run.text().contains(command), "{command} in {shell}");
        }
    }
    pugdb(dir.path(), &["completions", "cmd"]).fails(2, &["bash"]);
}

#[test]
fn there_is_a_page_for_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let page = pugdb(dir.path(), &["man"]);
    assert!(page.code == 0 && page.text().contains(".TH pugdb 1"), "{page}");
    pugdb(dir.path(), &["man", "new/pages"]).gives(0, "");
    for command in COMMANDS {
        let page = read(&dir.path().join(format!("new/pages/pugdb-{command}.1")));
        assert!(page.len() > 200, "{command}");
    }
    let page = String::from_utf8(read(&dir.path().join("new/pages/pugdb-import-csv.1"))).unwrap();
    assert!(page.contains("delimiter"), "{page}");
}

#[test]
fn nothing_is_coloured_in_a_pipe() {
    let dir = tempfile::tempdir().unwrap();
    pugdb(dir.path(), &["put", "k", "v"]).gives(0, "");
    for command in [
        &["--help"][..],
        &["nonsense"],
        &["doctor"],
        &["export", "jsonl", "out"],
        &["import", "jsonl", "out"],
    ] {
        let run = pugdb(dir.path(), command);
        assert!(!run.text().contains('\x1b') && !run.stderr.contains('\x1b'), "{run}");
    }
}

#[test]
fn every_command_has_examples() {
    let dir = tempfile::tempdir().unwrap();
    for command in COMMANDS {
        let help = pugdb(dir.path(), &[command, "--help"]);
        let has_examples = help.text().contains("Examples:") || command == "config";
        assert!(help.code == 0 && has_examples, "{help}");
    }
    for command in [
        &["config", "show"],
        &["import", "csv"],
        &["import", "rdb"],
        &["import", "jsonl"],
        &["export", "csv"],
    ] {
        let help = pugdb(dir.path(), &[command[0], command[1], "--help"]);
        assert!(help.code == 0 && help.text().contains("Examples:"), "{help}");
    }
}
