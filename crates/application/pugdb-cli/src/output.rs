//! Everything that is printed goes through here: answers to stdout, words for people to stderr.

use std::io::{self, BufWriter, IsTerminal as _, StdoutLock, Write};

use crate::outcome::Failure;

/// Buffered stdout. It is flushed by [`finish`](Self::finish); a pipe that nobody reads any longer ends the command
/// quietly.
pub(crate) struct Answer(BufWriter<StdoutLock<'static>>);

impl Answer {
    pub(crate) fn new() -> Self {
        Self(BufWriter::with_capacity(64 << 10, io::stdout().lock()))
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.0.write_all(bytes).map_err(|error| Failure::stdout(&error))
    }

    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.write(text.as_bytes())?;
        self.write(b"\n")
    }

    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        self.0.flush().map_err(|error| Failure::stdout(&error))
    }
}

/// For the writers of formats, which know `io::Write` only.
impl Write for Answer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// One line as the whole answer, seen at once.
pub(crate) fn answer(text: &str) -> Result<(), Failure> {
    let mut stdout = Answer::new();
    stdout.line(text)?;
    stdout.finish()
}

/// A line of `serve` about itself, seen at once. A server goes on when nobody reads.
pub(crate) fn status(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}

/// A line for the person in front. Nobody can be told that stderr is gone, so that is not an error.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

pub(crate) fn failure(failure: &Failure) {
    if !failure.message.is_empty() {
        note(&format!("pugdb: {}", failure.message));
    }
}

pub(crate) fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}
