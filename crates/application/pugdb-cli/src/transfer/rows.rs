//! Imports of rows from a file or stdin: JSONL, CSV, TSV. One loop for all; a [`Rows`] knows the format.

use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use pugdb::{EntryOptions, Keyspace, Timestamp};
use xxhash_rust::xxh3::Xxh3;

use super::journal::Journal;
use super::loader::Loader;
use super::progress::Progress;
use super::row::Row;
use crate::arguments::Target;
use crate::interrupt::Interrupt;
use crate::outcome::{Exit, Failure};
use crate::output::{self, Format};
use crate::patient::PatientStdin;
use crate::target::Access;

pub(super) const BUFFER_BYTES: usize = 256 << 10;
/// Names of columns take no more.
const HEADER_BYTES_MAX: usize = 1 << 20;
/// A buffer that grew beyond this is let go after its row.
const ROW_BYTES_KEPT: usize = 1 << 20;

/// A format of rows.
pub(super) trait Rows {
    /// `jsonl`, `csv`, `tsv`.
    fn kind(&self) -> &'static str;

    /// How the rows are read, where there is a choice.
    fn reading(&self) -> String;

    /// The longest row that an entry can need.
    fn row_bytes_max(&self, value_bytes_max: usize) -> usize;

    /// Reads what comes before the first row, and [passes](Input::pass) it.
    fn begin(&mut self, input: &mut Input<'_>, bytes_max: usize) -> Result<(), Stop>;

    /// Reads one row as it stands, its end included.
    fn read(&mut self, input: &mut Input<'_>, row: &mut Vec<u8>, bytes_max: usize) -> io::Result<Length>;

    /// The entry of a row, `None` for a blank one, or what is wrong with it.
    fn parse(&mut self, row: &[u8]) -> Result<Option<Row>, String>;
}

/// Why an import ends before the end of its input.
pub(super) enum Stop {
    Damaged(String),
    /// The command line asks for something that the file does not have.
    Usage(String),
    Io(io::Error),
    Interrupted,
}

/// How far into the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) bytes: u64,
    pub(super) lines: u64,
    /// Of all bytes before.
    pub(super) hash: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Length {
    Within,
    Beyond,
    End,
}

/// The bytes of a file or of stdin. What is passed is counted and hashed.
pub(super) struct Input<'a> {
    reader: &'a mut dyn BufRead,
    bytes: u64,
    lines: u64,
    hash: Box<Xxh3>,
}

impl<'a> Input<'a> {
    pub(super) fn new(reader: &'a mut dyn BufRead) -> Self {
        Self { reader, bytes: 0, lines: 0, hash: Box::new(Xxh3::new()) }
    }

    /// Appends one line, its end included. A line that has more than `bytes_max` is not read to its end.
    pub(super) fn read_line(&mut self, line: &mut Vec<u8>, bytes_max: usize) -> io::Result<Length> {
        let before = line.len();
        (&mut *self.reader).take(bytes_max as u64 + 1).read_until(b'\n', line)?;
        Ok(match line.len() - before {
            0 => Length::End,
            read if read > bytes_max => Length::Beyond,
            _ => Length::Within,
        })
    }

    /// These bytes, which were read, are done with.
    pub(super) fn pass(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        self.lines += bytes.split(|&byte| byte == b'\n').count() as u64 - 1;
    }

    /// True before anything was passed.
    pub(super) fn is_at_start(&self) -> bool {
        self.bytes == 0
    }

    fn place(&self) -> Place {
        Place { bytes: self.bytes, lines: self.lines, hash: self.hash.digest() }
    }

    /// Reads up to a place of before; false when the bytes are not those that were read then.
    fn pass_up_to(&mut self, place: Place) -> io::Result<bool> {
        while self.bytes < place.bytes {
            let chunk = self.reader.fill_buf()?;
            let left = usize::try_from(place.bytes - self.bytes).unwrap_or(usize::MAX);
            let length = chunk.len().min(left);
            if length == 0 {
                return Ok(false);
            }
            self.hash.update(&chunk[..length]);
            self.bytes += length as u64;
            self.reader.consume(length);
        }
        self.lines = place.lines;
        Ok(self.place() == place)
    }
}

/// What an import is given beside its rows.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) file: &'a Path,
    pub(super) resume: bool,
    pub(super) target: &'a Target,
    pub(super) format: Format,
    pub(super) interrupt: &'a Interrupt,
}

pub(super) fn import(request: Request<'_>, rows: &mut dyn Rows) -> Result<Exit, Failure> {
    request.target.check_local("import")?;
    // Before the database is opened: a wrong path must not make one.
    if request.file == Path::new("-") {
        let mut stdin = BufReader::with_capacity(BUFFER_BYTES, PatientStdin::new(request.interrupt.clone()));
        return import_from(request, rows, &mut stdin, "stdin", b"-", None);
    }
    let name = request.file.display().to_string();
    let failure = |error| Failure::io(format!("read {name}"), &error);
    let opened = OpenOptions::new().read(true).open(request.file).map_err(failure)?;
    let metadata = opened.metadata().map_err(failure)?;
    let path = request.file.canonicalize().map_err(failure)?;
    let bytes = metadata.is_file().then_some(metadata.len());
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, opened);
    import_from(request, rows, &mut reader, &name, path.as_os_str().as_bytes(), bytes)
}

fn import_from(
    request: Request<'_>,
    rows: &mut dyn Rows,
    reader: &mut dyn BufRead,
    name: &str,
    path: &[u8],
    bytes: Option<u64>,
) -> Result<Exit, Failure> {
    // Before the database is opened, too: columns that are not there must not make one.
    let mut input = Input::new(reader);
    if let Err(stop) = rows.begin(&mut input, HEADER_BYTES_MAX) {
        let stop = if request.interrupt.came() { Stop::Interrupted } else { stop };
        return Err(failure_of(stop, name, 0));
    }
    let local = request.target.open_local(Access::Create)?;
    let mut import = Import {
        loader: Loader::new(&local),
        keyspace: local.for_writing()?,
        journal: Journal::new(&local, rows.kind(), path, rows.reading())?,
        progress: Progress::start("imported", bytes, request.format),
        input,
        interrupt: request.interrupt,
    };
    let row_bytes_max = rows.row_bytes_max(import.loader.value_bytes_max());
    if request.resume {
        import.go_on(name)?;
    }
    let stopped = import.run(rows, row_bytes_max)?;
    import.end(name, stopped)
}

/// How an early end is told: where, why, and what becomes of the rest.
fn failure_of(stop: Stop, name: &str, lines_before: u64) -> Failure {
    let at = format!("{name}, line {}", lines_before + 1);
    let rest = if lines_before == 0 {
        "nothing was imported"
    } else {
        "the lines before it were imported, and --resume goes on there"
    };
    match stop {
        Stop::Damaged(message) => Failure::new(Exit::Partial, format!("{at}: {message}; {rest}")),
        Stop::Usage(message) => Failure::usage(format!("{name}: {message}")),
        Stop::Interrupted => Failure::new(Exit::Interrupted, format!("stopped on request at {at}; {rest}")),
        Stop::Io(error) => Failure::io(format!("read {name}"), &error),
    }
}

/// An import on its way.
struct Import<'a> {
    loader: Loader,
    keyspace: Keyspace,
    journal: Journal,
    progress: Progress,
    input: Input<'a>,
    interrupt: &'a Interrupt,
}

impl Import<'_> {
    /// Goes to where the import stopped before.
    fn go_on(&mut self, name: &str) -> Result<(), Failure> {
        let Some(place) = self.journal.noted()? else {
            output::note(&format!(
                "pugdb: no interrupted import of {name} is noted: it begins at the first line"
            ));
            return Ok(());
        };
        let is_same = self.input.pass_up_to(place);
        self.interrupt.check()?;
        let is_same = is_same.map_err(|error| Failure::io(format!("read {name}"), &error))?;
        if !is_same {
            return Err(Failure::usage(format!(
                "{name} has changed before line {}, where the import stopped; import it again without --resume",
                place.lines + 1
            )));
        }
        output::note(&format!("pugdb: going on at line {}", place.lines + 1));
        Ok(())
    }

    /// Imports row by row; why it ends early, if it does.
    fn run(&mut self, rows: &mut dyn Rows, row_bytes_max: usize) -> Result<Option<Stop>, Failure> {
        let mut row = Vec::new();
        loop {
            row.clear();
            let read = rows.read(&mut self.input, &mut row, row_bytes_max);
            // Behind the read: the same Ctrl-C ends who writes into a pipe, so an end is none, and a row may be half of one.
            if self.interrupt.came() {
                return Ok(Some(Stop::Interrupted));
            }
            match read {
                Ok(Length::End) => return Ok(None),
                Ok(Length::Within) => {}
                Ok(Length::Beyond) => {
                    let message =
                        format!("the line has more than {row_bytes_max} bytes: its value is too large");
                    return Ok(Some(Stop::Damaged(message)));
                }
                Err(error) => return Ok(Some(Stop::Io(error))),
            }
            match rows.parse(&row) {
                Ok(Some(entry)) => self.put(&entry)?,
                Ok(None) => {}
                Err(message) => return Ok(Some(Stop::Damaged(message))),
            }
            self.input.pass(&row);
            self.progress.set_position(self.input.bytes);
            if row.capacity() > ROW_BYTES_KEPT {
                row = Vec::new();
            }
        }
    }

    fn put(&mut self, row: &Row) -> Result<(), Failure> {
        if let Some(reason) = self.loader.refuses(row.key.len(), row.value.len()) {
            self.progress.leave_out_place(&format!("line {}", self.input.lines + 1), &reason);
            return Ok(());
        }
        if self.loader.is_full(row.key.len(), row.value.len()) {
            // The row at hand is not passed yet, and not in the batch.
            let place = self.input.place();
            self.loader.commit_with(|batch| self.journal.note(place, batch))?;
        }
        // As it was, whatever the keyspace's default.
        let expires_at = Some(row.expires_at_ms.map_or(Timestamp::NEVER, Timestamp));
        let options = EntryOptions { expires_at, meta: row.meta, seal: None };
        self.loader.put(&self.keyspace, &row.key, &row.value, options)?;
        self.progress.add(row.key.len() + row.value.len());
        Ok(())
    }

    /// Brings what there is to the disk: what came before a wrong line stays.
    fn end(mut self, name: &str, stopped: Option<Stop>) -> Result<Exit, Failure> {
        let place = self.input.place();
        match &stopped {
            None => {
                self.loader.commit_with(|batch| {
                    self.journal.forget(batch);
                    Ok(())
                })?;
                self.journal.tidy()?;
            }
            // At the very beginning there is nothing to go on from.
            Some(_) if place.bytes == 0 => {}
            Some(_) => self.loader.commit_with(|batch| self.journal.note(place, batch))?,
        }
        self.loader.finish()?;
        let exit = self.progress.finish()?;
        stopped.map_or(Ok(exit), |stop| Err(failure_of(stop, name, place.lines)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_up_to_the_limit() {
        let mut bytes = b"ab\n\nabc\nabcd".as_slice();
        let mut input = Input::new(&mut bytes);
        let mut next = |bytes_max| {
            let mut line = Vec::new();
            (input.read_line(&mut line, bytes_max).unwrap(), line)
        };
        assert_eq!(next(3), (Length::Within, b"ab\n".to_vec()));
        assert_eq!(next(3), (Length::Within, b"\n".to_vec()));
        assert_eq!(next(3), (Length::Beyond, b"abc\n".to_vec()));
        assert_eq!(next(4), (Length::Within, b"abcd".to_vec()));
        assert_eq!(next(4), (Length::End, Vec::new()));
    }

    #[test]
    fn a_place_is_found_again_only_behind_the_same_bytes() {
        let mut bytes = b"one\ntwo\nthree\n".as_slice();
        let mut input = Input::new(&mut bytes);
        for _ in 0..2 {
            let mut line = Vec::new();
            input.read_line(&mut line, 100).unwrap();
            input.pass(&line);
        }
        let place = input.place();
        assert_eq!((place.bytes, place.lines), (8, 2));
        for (bytes, same) in
            [("one\ntwo\nother", true), ("one\ntwx\nthree\n", false), ("one\ntw", false), ("", false)]
        {
            let mut bytes = bytes.as_bytes();
            let mut input = Input::new(&mut bytes);
            assert_eq!(input.pass_up_to(place).unwrap(), same);
            assert!(!same || input.place() == place);
        }
    }
}
