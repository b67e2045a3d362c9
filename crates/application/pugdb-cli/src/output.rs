//! Everything that is printed goes through here: answers to stdout, words for people to stderr. Nothing is coloured, so
//! there is no colour to be switched off; clap and the progress bar look at the terminal and at `NO_COLOR` themselves.

use std::io::{self, BufWriter, IsTerminal as _, StdoutLock, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::outcome::Failure;

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Json,
}

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

    /// A value as a line of JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.0, value).map_err(|error| Failure::stdout(&error.into()))?;
        self.write(b"\n")
    }

    /// Rows in columns, the first row as their heads.
    pub(crate) fn table<const N: usize>(&mut self, rows: &[[String; N]]) -> Result<(), Failure> {
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..N).map(width).collect();
        for row in rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            self.line(cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
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

/// Puts bytes into an object: `name` when they are text, `name_base64` when they are not UTF-8.
pub(crate) fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_) => object.insert(format!("{name}_base64"), STANDARD.encode(bytes).into()),
    };
}

/// One object as the whole answer.
pub(crate) fn answer_json(value: &impl Serialize) -> Result<(), Failure> {
    let mut stdout = Answer::new();
    stdout.json(value)?;
    stdout.finish()
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

/// What is asked of a person, who answers on the same line.
pub(crate) fn question(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = write!(stderr, "{text}").and_then(|()| stderr.flush());
}

pub(crate) fn failure(failure: &Failure) {
    if !failure.message.is_empty() {
        note(&format!("pugdb: {}", failure.message));
    }
}

pub(crate) fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}
