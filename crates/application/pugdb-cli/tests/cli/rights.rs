//! Without rights: one sentence. Root has all rights, so the command runs as nobody then.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::command::{Run, pugdb, run};

const NOBODY: &str = "65534";

/// Runs `pugdb` as somebody who is not root.
fn unprivileged(program: &Path, dir: &Path, arguments: &[&str]) -> Run {
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir(dir).args(arguments).env("XDG_CONFIG_HOME", dir.join("config"));
    run(command, b"")
}

fn can_drop_rights() -> bool {
    !rustix::process::geteuid().is_root() || Command::new("setpriv").arg("--version").output().is_ok()
}

#[test]
fn missing_rights_are_one_clear_sentence() {
    if !can_drop_rights() {
        println!("skipped: this runs as root, and setpriv is not there to drop its rights");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let set_mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    set_mode(dir.path(), 0o755);
    // Others may not reach the build's directory.
    let program = dir.path().join("pugdb");
    fs::copy(env!("CARGO_BIN_EXE_pugdb"), &program).unwrap();
    set_mode(&program, 0o755);
    let denied = |arguments: &[&str], code: i32, parts: &[&str]| {
        let run = unprivileged(&program, dir.path(), arguments).fails(code, parts);
        assert_eq!(run.stderr.lines().count(), 1, "{run}");
    };

    set_mode(dir.path(), 0o555);
    denied(&["put", "k", "v"], 4, &["pugdb-data", "check owner and mode"]);
    denied(&["serve", "--resp", "127.0.0.1:0"], 4, &["pugdb-data", "check owner and mode"]);
    set_mode(dir.path(), 0o755);

    pugdb(dir.path(), &["put", "k", "v"]).gives(0, "");
    for mode in [0o000, 0o555] {
        // As root the files are root's; else their owner has taken the rights from himself.
        set_mode(&dir.path().join("pugdb-data"), mode);
        if rustix::process::geteuid().is_root() || mode == 0o000 {
            denied(&["get", "k"], 4, &["pugdb-data", "check owner and mode"]);
        }
    }
    set_mode(&dir.path().join("pugdb-data"), 0o755);
    pugdb(dir.path(), &["get", "k"]).gives(0, "v");
    set_mode(dir.path(), 0o555);
    if rustix::process::geteuid().is_root() {
        denied(&["export", "dir", "out", "--data", "nothing"], 1, &["no database"]);
    }
    set_mode(dir.path(), 0o755);
}

#[test]
fn a_file_that_cannot_be_read_is_left_out_of_an_import() {
    if !can_drop_rights() {
        println!("skipped: this runs as root, and setpriv is not there to drop its rights");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let set_mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    set_mode(dir.path(), 0o777);
    let program = dir.path().join("pugdb");
    fs::copy(env!("CARGO_BIN_EXE_pugdb"), &program).unwrap();
    set_mode(&program, 0o755);
    let tree = dir.path().join("tree");
    for name in ["open/file", "open/secret", "closed/file"] {
        crate::directory::write(&tree.join(name), name.as_bytes());
    }
    set_mode(&tree.join("open/secret"), 0o000);
    set_mode(&tree.join("closed"), 0o000);
    let run = unprivileged(&program, dir.path(), &["import", "dir", "tree"]);
    set_mode(&tree.join("closed"), 0o755);
    run.fails(3, &["left out: closed: ", "left out: open/secret: ", "imported 1 entry, ", "left out 2"]);
    unprivileged(&program, dir.path(), &["scan", "--keys-only"]).gives(0, "open/file\n");
}
