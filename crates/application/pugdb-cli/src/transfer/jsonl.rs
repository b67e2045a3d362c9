//! `import jsonl` and `export jsonl`: one JSON object a line, streamed both ways.

use std::io::{self, Write};
use std::path::Path;

use pugdb::{Keyspace, limits};

use super::csv::BYTE_ORDER_MARK;
use super::out::{self, Export};
use super::progress::Progress;
use super::row::{Row, RowRef};
use super::rows::{Input, Length, Rows, Stop};
use crate::arguments::Target;
use crate::interrupt::Interrupt;
use crate::outcome::{Exit, Failure};
use crate::output::Format;

/// JSON writes a byte with at most six, as `\u0000`.
const ESCAPED_BYTES_MAX: usize = 6;
/// Names, braces, numbers.
const FIELDS_BYTES_MAX: usize = 1 << 10;

/// A line of JSON for a row.
pub(super) struct JsonRows;

impl Rows for JsonRows {
    fn kind(&self) -> &'static str {
        "jsonl"
    }

    fn reading(&self) -> String {
        String::new()
    }

    fn row_bytes_max(&self, value_bytes_max: usize) -> usize {
        line_bytes_max(value_bytes_max)
    }

    fn begin(&mut self, _: &mut Input<'_>, _: usize) -> Result<(), Stop> {
        Ok(())
    }

    fn read(&mut self, input: &mut Input<'_>, row: &mut Vec<u8>, bytes_max: usize) -> io::Result<Length> {
        input.read_line(row, bytes_max)
    }

    fn parse(&mut self, row: &[u8]) -> Result<Option<Row>, String> {
        // At the beginning of a file, or of one that another was appended to.
        let row = row.strip_prefix(BYTE_ORDER_MARK).unwrap_or(row);
        if row.trim_ascii().is_empty() {
            return Ok(None);
        }
        Row::parse(row).map(Some).map_err(|error| error.to_string())
    }
}

/// The longest line that an entry can need.
fn line_bytes_max(value_bytes_max: usize) -> usize {
    (value_bytes_max + limits::KEY_BYTES_MAX) * ESCAPED_BYTES_MAX + FIELDS_BYTES_MAX
}

/// Writes the entries of a keyspace as lines of JSON.
pub(super) struct JsonExport;

impl Export for JsonExport {
    fn write(
        &self,
        keyspace: &Keyspace,
        output: &mut dyn Write,
        progress: &mut Progress,
        interrupt: &Interrupt,
        failure: &dyn Fn(io::Error) -> Failure,
    ) -> Result<(), Failure> {
        let mut scan = keyspace.scan(..);
        while let Some((key, entry)) = scan.next_entry()? {
            interrupt.check()?;
            let row = RowRef {
                key: &key,
                value: &entry.value,
                expires_at_ms: entry.expires_at.map(|at| at.0),
                meta: entry.meta,
            };
            row.write(output).map_err(failure)?;
            progress.add(key.len() + entry.value.len());
        }
        Ok(())
    }
}

pub(super) fn export(
    file: &Path,
    force: bool,
    target: &Target,
    format: Format,
    interrupt: &Interrupt,
) -> Result<Exit, Failure> {
    out::export(file, force, target, &JsonExport, format, interrupt)
}

#[cfg(test)]
mod tests {
    use super::*;

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
