//! `import jsonl` and `export jsonl`: one JSON object a line, streamed both ways.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read as _, Write};
use std::path::Path;

use pugdb::{EntryOptions, Keyspace, Timestamp, limits};

use super::loader::Loader;
use super::progress::Progress;
use super::row::{Row, RowRef};
use crate::arguments::Target;
use crate::outcome::{Exit, Failure};
use crate::output::Answer;
use crate::target::Access;

const BUFFER_BYTES: usize = 256 << 10;
/// A line buffer that grew beyond this is let go after its line.
const LINE_BYTES_KEPT: usize = 1 << 20;
/// JSON writes a byte with at most six, as `\u0000`.
const ESCAPED_BYTES_MAX: usize = 6;
/// Names, braces, numbers.
const FIELDS_BYTES_MAX: usize = 1 << 10;

pub(super) fn import(file: &Path, target: &Target) -> Result<Exit, Failure> {
    target.check_local("import")?;
    // Before the database is opened: a wrong path must not make one.
    if file == Path::new("-") {
        let stdin = BufReader::with_capacity(BUFFER_BYTES, io::stdin().lock());
        return import_from(stdin, None, "stdin", target);
    }
    let name = file.display().to_string();
    let failure = |error| Failure::io(format!("read {name}"), &error);
    let opened = OpenOptions::new().read(true).open(file).map_err(failure)?;
    let metadata = opened.metadata().map_err(failure)?;
    let bytes = metadata.is_file().then_some(metadata.len());
    import_from(BufReader::with_capacity(BUFFER_BYTES, opened), bytes, &name, target)
}

fn import_from(
    mut input: impl BufRead,
    bytes: Option<u64>,
    name: &str,
    target: &Target,
) -> Result<Exit, Failure> {
    let local = target.open_local(Access::Create)?;
    let mut loader = Loader::new(&local)?;
    let mut progress = Progress::start("imported", bytes);
    let line_bytes_max = line_bytes_max(loader.value_bytes_max());
    let mut line = Vec::new();
    let (mut number, mut position) = (0_u64, 0_u64);
    let stopped = loop {
        number += 1;
        match read_line(&mut input, &mut line, line_bytes_max) {
            Ok(Length::End) => break None,
            Ok(Length::Within) => {}
            Ok(Length::Beyond) => {
                let message =
                    format!("the line has more than {line_bytes_max} bytes: its value is too large");
                break Some(damaged(name, number, &message));
            }
            Err(error) => break Some(Failure::io(format!("read {name}"), &error)),
        }
        position += line.len() as u64;
        if let Err(message) = import_line(&line, number, &mut loader, &mut progress)? {
            break Some(damaged(name, number, &message));
        }
        progress.set_position(position);
        if line.capacity() > LINE_BYTES_KEPT {
            line = Vec::new();
        }
    };
    // What came before a wrong line stays, so it is brought to the disk as well.
    loader.finish()?;
    let exit = progress.finish();
    stopped.map_or(Ok(exit), Err)
}

/// Puts the entry of a line; the inner error says what is wrong with the line.
fn import_line(
    line: &[u8],
    number: u64,
    loader: &mut Loader,
    progress: &mut Progress,
) -> Result<Result<(), String>, Failure> {
    if line.trim_ascii().is_empty() {
        return Ok(Ok(()));
    }
    let row = match Row::parse(line) {
        Ok(row) => row,
        Err(error) => return Ok(Err(error.to_string())),
    };
    if let Some(reason) = loader.refuses(row.key.len(), row.value.len()) {
        progress.leave_out_place(&format!("line {number}"), &reason);
        return Ok(Ok(()));
    }
    let options = EntryOptions { expires_at: row.expires_at_ms.map(Timestamp), meta: row.meta };
    loader.put(&row.key, &row.value, options)?;
    progress.add(row.key.len() + row.value.len());
    Ok(Ok(()))
}

fn damaged(name: &str, line: u64, message: &str) -> Failure {
    Failure::new(Exit::Partial, format!("{name}, line {line}: {message}; the lines before it were imported"))
}

/// The longest line that an entry can need.
fn line_bytes_max(value_bytes_max: usize) -> usize {
    (value_bytes_max + limits::KEY_BYTES_MAX) * ESCAPED_BYTES_MAX + FIELDS_BYTES_MAX
}

#[derive(Debug, PartialEq, Eq)]
enum Length {
    Within,
    Beyond,
    End,
}

/// Reads one line, its end included, into `line`.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>, bytes_max: usize) -> io::Result<Length> {
    line.clear();
    input.take(bytes_max as u64 + 1).read_until(b'\n', line)?;
    Ok(if line.is_empty() {
        Length::End
    } else if line.len() > bytes_max {
        Length::Beyond
    } else {
        Length::Within
    })
}

pub(super) fn export(file: &Path, force: bool, target: &Target) -> Result<Exit, Failure> {
    target.check_local("export")?;
    let local = target.open_local(Access::Existing)?;
    let keyspace = local.existing()?;
    if file == Path::new("-") {
        let mut stdout = Answer::new();
        let exit = export_to(&keyspace, &mut stdout, |error| Failure::stdout(&error))?;
        stdout.finish()?;
        return Ok(exit);
    }
    let failure = |error: io::Error| Failure::io(format!("write {}", file.display()), &error);
    let opened = create(file, force).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::usage(format!("{} is there already; --force replaces it", file.display()))
        }
        _ => failure(error),
    })?;
    let is_file = opened.metadata().map_err(failure)?.is_file();
    let mut output = BufWriter::with_capacity(BUFFER_BYTES, opened);
    let exported = export_to(&keyspace, &mut output, failure).and_then(|exit| {
        output.flush().map_err(failure)?;
        if is_file {
            output.get_ref().sync_all().map_err(failure)?;
        }
        Ok(exit)
    });
    if exported.is_err() && is_file {
        // Half an export must not look like one. The first error is the one to tell.
        let _ = std::fs::remove_file(file);
    }
    exported
}

fn create(file: &Path, force: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true);
    if force { options.create(true).truncate(true) } else { options.create_new(true) }.open(file)
}

fn export_to(
    keyspace: &Keyspace,
    output: &mut impl Write,
    failure: impl Fn(io::Error) -> Failure,
) -> Result<Exit, Failure> {
    let mut progress = Progress::start("exported", None);
    let mut scan = keyspace.scan(..);
    while let Some((key, entry)) = scan.next_entry()? {
        let row = RowRef {
            key: &key,
            value: &entry.value,
            expires_at_ms: entry.expires_at.map(|at| at.0),
            meta: entry.meta,
        };
        row.write(output).map_err(&failure)?;
        progress.add(key.len() + entry.value.len());
    }
    // Before the summary: it must not praise what a full disk still refuses.
    output.flush().map_err(&failure)?;
    Ok(progress.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_up_to_the_limit() {
        let mut input = b"ab\n\nabc\nabcd".as_slice();
        let mut line = Vec::new();
        let mut next = |bytes_max| (read_line(&mut input, &mut line, bytes_max).unwrap(), line.clone());
        assert_eq!(next(3), (Length::Within, b"ab\n".to_vec()));
        assert_eq!(next(3), (Length::Within, b"\n".to_vec()));
        assert_eq!(next(3), (Length::Beyond, b"abc\n".to_vec()));
        assert_eq!(next(4), (Length::Within, b"abcd".to_vec()));
        assert_eq!(next(4), (Length::End, Vec::new()));
    }

    #[test]
    fn the_longest_spelling_of_the_largest_entry_fits_on_a_line() {
        let (key, value) = (vec![0; limits::KEY_BYTES_MAX], vec![1; 1000]);
        let mut line = Vec::new();
        RowRef { key: &key, value: &value, expires_at_ms: Some(u64::MAX), meta: 255 }
            .write(&mut line)
            .unwrap();
        assert!(line.len() <= line_bytes_max(value.len()));
        assert!(line.len() > (key.len() + value.len()) * 5);
    }
}
