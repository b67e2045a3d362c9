//! How a command ends: the exit codes, and the one sentence that goes with a failure.

use std::fmt;
use std::io;
use std::process::ExitCode;

use pugdb::ErrorKind;

/// The exit codes, as `--help` and `docs/guide/cli.md` list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It is done.
    Done = 0,
    /// The key, keyspace or database does not exist.
    NotFound = 1,
    /// The command line or the request breaks a rule. Clap ends with the same number.
    Usage = 2,
    /// Stored or given data is damaged, or a part was left out.
    Partial = 3,
    /// It cannot be done now: in use, no rights, no server, no space.
    Unavailable = 4,
    /// A bug in PugDB.
    Internal = 5,
    /// Ctrl-C came, and what was asked for is not done.
    Interrupted = 130,
    /// SIGTERM came a second time.
    Terminated = 143,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command ended early.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// One sentence for the person in front; empty when there is nothing to say.
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// An error of the operating system on something the user named. `doing` completes "could not …".
    pub(crate) fn io(doing: impl fmt::Display, error: &io::Error) -> Self {
        let exit = match error.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::AlreadyExists
            | io::ErrorKind::InvalidInput => Exit::Usage,
            _ => Exit::Unavailable,
        };
        Self::new(exit, format!("could not {doing}: {error}"))
    }

    /// A failure to write to stdout. Whoever closed the pipe has read enough: that is a quiet end.
    pub(crate) fn stdout(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Exit::Done, ""),
            _ => Self::io("write to stdout", error),
        }
    }

    /// The same failure with more to say in front.
    pub(crate) fn at(self, place: impl fmt::Display) -> Self {
        Self { message: format!("{place}: {}", self.message), ..self }
    }
}

impl From<pugdb::Error> for Failure {
    fn from(error: pugdb::Error) -> Self {
        let exit = match error.kind() {
            ErrorKind::Invalid => Exit::Usage,
            ErrorKind::NotFound => Exit::NotFound,
            ErrorKind::Corrupt => Exit::Partial,
            ErrorKind::Conflict
            | ErrorKind::Unavailable
            | ErrorKind::Denied
            | ErrorKind::Unsupported
            | ErrorKind::Erased
            | ErrorKind::Closed => Exit::Unavailable,
            ErrorKind::Internal => Exit::Internal,
        };
        Self::new(exit, error.to_string())
    }
}
