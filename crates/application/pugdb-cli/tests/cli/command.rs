//! Runs `pugdb` once.

use std::ffi::OsStr;
use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::server::program;

/// How a run ended.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

/// Runs `pugdb` with these arguments in this directory.
pub(crate) fn pugdb(dir: &Path, arguments: &[impl AsRef<OsStr>]) -> Run {
    pugdb_with(dir, arguments, b"")
}

/// As [`pugdb`], with something on stdin.
pub(crate) fn pugdb_with(dir: &Path, arguments: &[impl AsRef<OsStr>], stdin: &[u8]) -> Run {
    let mut command = program();
    command.current_dir(dir).args(arguments);
    run(command, stdin)
}

pub(crate) fn run(mut command: Command, stdin: &[u8]) -> Run {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        // It may end without having read all of it.
        scope.spawn(move || input.write_all(stdin));
        child.wait_with_output().unwrap()
    });
    Run {
        code: output.status.code().unwrap_or_else(|| panic!("ended by a signal: {}", output.status)),
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Run {
    /// Asserts the end: code and stdout.
    #[track_caller]
    pub(crate) fn gives(self, code: i32, stdout: impl AsRef<[u8]>) -> Self {
        assert_eq!(self.code, code, "{self}");
        assert_eq!(
            self.stdout.escape_ascii().to_string(),
            stdout.as_ref().escape_ascii().to_string(),
            "{self}"
        );
        self.without_panic()
    }

    /// Asserts that it failed with this code and a sentence that contains all of these.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, parts: &[&str]) -> Self {
        assert_eq!(self.code, code, "{self}");
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is missing: {self}");
        }
        self.without_panic()
    }

    #[track_caller]
    fn without_panic(self) -> Self {
        assert!(!self.stderr.contains("panicked"), "{self}");
        self
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "code {}, stdout {}, stderr {}", self.code, self.stdout.escape_ascii(), self.stderr)
    }
}
