//! `import` and `export` of CSV and TSV: columns to entries and back.

use std::io::{self, Write};

use pugdb::{Keyspace, limits};

use super::arguments::{Encoding, SheetExport, SheetImport};
use super::csv::{BYTE_ORDER_MARK, Splitter, put_field};
use super::out::{self, Export};
use super::progress::Progress;
use super::row::Row;
use super::rows::{self, Input, Length, Request, Rows, Stop};
use crate::interrupt::Interrupt;
use crate::outcome::{Exit, Failure};
use crate::output::Format;
use crate::text::{base64, escaped, hex, unbase64, unescape, unhex};

/// An escape such as `\x00` writes a byte with four.
const ESCAPED_BYTES_MAX: usize = 4;
/// Columns of other use, quotes, delimiters.
const FIELDS_BYTES_MAX: usize = 64 << 10;
/// The columns of an export.
const COLUMNS: [&str; 3] = ["key", "value", "expires_at_ms"];

/// CSV or TSV.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sheet {
    pub(super) kind: &'static str,
    pub(super) delimiter: u8,
}

pub(super) const CSV: Sheet = Sheet { kind: "csv", delimiter: b',' };
pub(super) const TSV: Sheet = Sheet { kind: "tsv", delimiter: b'\t' };

pub(super) fn import(
    sheet: Sheet,
    arguments: &SheetImport,
    format: Format,
    interrupt: &Interrupt,
) -> Result<Exit, Failure> {
    let delimiter = arguments.delimiter.unwrap_or(sheet.delimiter);
    let mut rows =
        SheetRows { sheet, arguments, splitter: Splitter::new(delimiter), columns: None, names: Vec::new() };
    if arguments.no_header {
        rows.columns = Some(Columns::numbered(arguments).map_err(Failure::usage)?);
    }
    let SheetImport { file, target, resume, .. } = arguments;
    rows::import(Request { file, resume: resume.resume, target, format, interrupt }, &mut rows)
}

/// Which columns mean what, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Columns {
    key: usize,
    value: Option<usize>,
    expires_at_ms: Option<usize>,
}

impl Columns {
    /// Without names.
    fn numbered(arguments: &SheetImport) -> Result<Self, String> {
        let number = |text: &String| {
            let number = text.parse::<usize>().ok().filter(|&number| number > 0);
            number.map(|number| number - 1).ok_or("with --no-header a column is a number from 1".to_owned())
        };
        let key = arguments.key.as_ref().map(number).transpose()?.unwrap_or(0);
        let value = arguments.value.as_ref().map(number).transpose()?;
        Ok(Self { key, value, expires_at_ms: arguments.expires_at_ms.as_ref().map(number).transpose()? })
    }

    /// With names.
    fn named(arguments: &SheetImport, names: &[String]) -> Result<Self, String> {
        let Some(key) = &arguments.key else { return Self::of_export(names) };
        let find = |name: &String| {
            let mut found = names.iter().enumerate().filter(|(_, other)| *other == name);
            match (found.next(), found.next()) {
                (Some((number, _)), None) => Ok(number),
                (Some(_), Some(_)) => Err(format!("there are several columns {name:?}")),
                _ => Err(format!(
                    "there is no column {name:?} among the {} that the first line names; where it names none, say \
                     --no-header and the number of the column",
                    names.len()
                )),
            }
        };
        let value = arguments.value.as_ref().map(find).transpose()?;
        let expires_at_ms = arguments.expires_at_ms.as_ref().map(find).transpose()?;
        Ok(Self { key: find(key)?, value, expires_at_ms })
    }

    fn of_export(names: &[String]) -> Result<Self, String> {
        let of_export = names.len() >= 2 && names.len() <= COLUMNS.len() && *names == COLUMNS[..names.len()];
        if !of_export {
            return Err(format!(
                "say with --key which of the {} columns is the key (without --key they have to be those of an export, \
                 key,value,expires_at_ms)",
                names.len()
            ));
        }
        Ok(Self { key: 0, value: Some(1), expires_at_ms: (names.len() > 2).then_some(2) })
    }

    fn largest(self) -> usize {
        [Some(self.key), self.value, self.expires_at_ms].into_iter().flatten().max().unwrap_or(0)
    }
}

/// Rows of a sheet.
struct SheetRows<'a> {
    sheet: Sheet,
    arguments: &'a SheetImport,
    splitter: Splitter,
    columns: Option<Columns>,
    /// The names of the columns; numbers, when the first record has none. Every record has as many fields.
    names: Vec<String>,
}

impl SheetRows<'_> {
    /// What the first record says, or how many fields it has.
    fn learn_names(&mut self) -> Result<(), String> {
        let count = self.splitter.len();
        if let Some(columns) = self.columns {
            if columns.largest() >= count {
                return Err(format!(
                    "there is no column {}; a record has {count} fields",
                    columns.largest() + 1
                ));
            }
            self.names = (1..=count).map(|number| number.to_string()).collect();
            return Ok(());
        }
        let name = |number| String::from_utf8(self.splitter.field(number).to_vec());
        let names: Result<Vec<String>, _> = (0..count).map(name).collect();
        self.names = names.map_err(|_| "the name of a column is not UTF-8".to_owned())?;
        let columns = Columns::named(self.arguments, &self.names)?;
        let has_doubles = self.names.iter().enumerate().any(|(at, name)| self.names[..at].contains(name));
        if columns.value.is_none() && has_doubles {
            return Err("two columns have the same name, so they cannot become one JSON object; name one with --value".to_owned());
        }
        self.columns = Some(columns);
        Ok(())
    }

    fn entry(&self, columns: Columns) -> Result<Row, String> {
        let encoding = self.arguments.encoding;
        let bytes = |number: usize, what: &str| {
            decode(self.splitter.field(number), encoding).map_err(|reason| format!("the {what}: {reason}"))
        };
        let value = match columns.value {
            Some(number) => bytes(number, "value")?,
            None => self.object(columns)?,
        };
        let expires_at_ms = match columns.expires_at_ms.map(|number| self.splitter.field(number)) {
            None | Some(b"") => None,
            Some(digits) => {
                let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
                Some(number.ok_or("the expiry is no number of milliseconds")?)
            }
        };
        Ok(Row { key: bytes(columns.key, "key")?, value, expires_at_ms, meta: 0 })
    }

    /// All columns but the key's and the expiry's, as one object in their order.
    fn object(&self, columns: Columns) -> Result<Vec<u8>, String> {
        let mut object = vec![b'{'];
        for (number, name) in self.names.iter().enumerate() {
            if number == columns.key || columns.expires_at_ms == Some(number) {
                continue;
            }
            let text = std::str::from_utf8(self.splitter.field(number)).map_err(|_| {
                format!("column {} is not UTF-8, so it cannot be part of a JSON object", number + 1)
            })?;
            if object.len() > 1 {
                object.push(b',');
            }
            for (part, behind) in [(name.as_str(), Some(b':')), (text, None)] {
                serde_json::to_writer(&mut object, part).map_err(|error| error.to_string())?;
                object.extend(behind);
            }
        }
        object.push(b'}');
        Ok(object)
    }
}

impl Rows for SheetRows<'_> {
    fn kind(&self) -> &'static str {
        self.sheet.kind
    }

    fn reading(&self) -> String {
        let SheetImport { key, value, expires_at_ms, delimiter, no_header, encoding, .. } = self.arguments;
        format!("{key:?} {value:?} {expires_at_ms:?} {delimiter:?} {no_header} {encoding:?}")
    }

    fn row_bytes_max(&self, value_bytes_max: usize) -> usize {
        (value_bytes_max + limits::KEY_BYTES_MAX) * ESCAPED_BYTES_MAX + FIELDS_BYTES_MAX
    }

    fn begin(&mut self, input: &mut Input<'_>, bytes_max: usize) -> Result<(), Stop> {
        if self.arguments.no_header {
            return Ok(());
        }
        let mut row = Vec::new();
        match self.read(input, &mut row, bytes_max) {
            Ok(Length::Within) => {}
            Ok(Length::End) => return Ok(()),
            Ok(Length::Beyond) => return Err(Stop::Damaged("the first record is too long".to_owned())),
            Err(error) => return Err(Stop::Io(error)),
        }
        self.splitter.check().map_err(|flaw| Stop::Damaged(flaw.to_string()))?;
        self.learn_names().map_err(Stop::Usage)?;
        input.pass(&row);
        Ok(())
    }

    fn read(&mut self, input: &mut Input<'_>, row: &mut Vec<u8>, bytes_max: usize) -> io::Result<Length> {
        self.splitter.clear();
        loop {
            let start = row.len();
            match input.read_line(row, bytes_max - start)? {
                // A field that is still open is told by `parse`.
                Length::End if start > 0 => return Ok(Length::Within),
                Length::Within => {}
                ended => return Ok(ended),
            }
            let line = &row[start..];
            let is_first = start == 0 && input.is_at_start();
            let line = if is_first { line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line) } else { line };
            if !self.splitter.feed(line) {
                return Ok(Length::Within);
            }
        }
    }

    fn parse(&mut self, _: &[u8]) -> Result<Option<Row>, String> {
        self.splitter.check().map_err(|flaw| flaw.to_string())?;
        if self.splitter.is_blank() {
            return Ok(None);
        }
        if self.names.is_empty() {
            self.learn_names()?;
        }
        if self.splitter.len() != self.names.len() {
            return Err(format!(
                "the record has {} fields; the first one has {}",
                self.splitter.len(),
                self.names.len()
            ));
        }
        let columns = self.columns.ok_or("the first record names no columns")?;
        self.entry(columns).map(Some)
    }
}

fn decode(field: &[u8], encoding: Encoding) -> Result<Vec<u8>, &'static str> {
    match encoding {
        Encoding::Text if std::str::from_utf8(field).is_err() => {
            Err("it is not UTF-8; say with --encoding how bytes are spelled (raw takes them as they are)")
        }
        Encoding::Text | Encoding::Raw => Ok(field.to_vec()),
        Encoding::Escaped => unescape(field),
        Encoding::Hex => unhex(field),
        Encoding::Base64 => unbase64(field),
    }
}

fn encode(bytes: &[u8], encoding: Encoding) -> Result<Vec<u8>, &'static str> {
    Ok(match encoding {
        Encoding::Text if std::str::from_utf8(bytes).is_err() => {
            return Err("it is not UTF-8; say with --encoding how bytes are to be spelled");
        }
        Encoding::Text | Encoding::Raw => bytes.to_vec(),
        Encoding::Escaped => escaped(bytes).into_bytes(),
        Encoding::Hex => hex(bytes).into_bytes(),
        Encoding::Base64 => base64(bytes).into_bytes(),
    })
}

pub(super) fn export(
    sheet: Sheet,
    arguments: &SheetExport,
    format: Format,
    interrupt: &Interrupt,
) -> Result<Exit, Failure> {
    let delimiter = arguments.delimiter.unwrap_or(sheet.delimiter);
    let SheetExport { file, force, target, .. } = arguments;
    out::export(file, *force, target, &Written { arguments, delimiter }, format, interrupt)
}

/// The entries of a keyspace as records.
struct Written<'a> {
    arguments: &'a SheetExport,
    delimiter: u8,
}

impl Written<'_> {
    fn columns(&self) -> usize {
        if self.arguments.without_expiry { 2 } else { 3 }
    }

    fn record<F: AsRef<[u8]>>(&self, fields: &[F]) -> Vec<u8> {
        let mut record = Vec::new();
        for (number, field) in fields.iter().take(self.columns()).enumerate() {
            if number > 0 {
                record.push(self.delimiter);
            }
            put_field(&mut record, field.as_ref(), self.delimiter);
        }
        record.push(b'\n');
        record
    }
}

impl Export for Written<'_> {
    fn write(
        &self,
        keyspace: &Keyspace,
        output: &mut dyn Write,
        progress: &mut Progress,
        interrupt: &Interrupt,
        failure: &dyn Fn(io::Error) -> Failure,
    ) -> Result<(), Failure> {
        let encoding = self.arguments.encoding;
        if !self.arguments.no_header {
            output.write_all(&self.record(&COLUMNS)).map_err(failure)?;
        }
        let mut scan = keyspace.scan(..);
        while let Some((key, entry)) = scan.next_entry()? {
            interrupt.check()?;
            if entry.meta != 0 {
                progress.leave_out(&key, "it has a byte `meta`, which jsonl keeps");
                continue;
            }
            match (encode(&key, encoding), encode(&entry.value, encoding)) {
                (Ok(spelled_key), Ok(spelled_value)) => {
                    let expires_at_ms = entry.expires_at.map(|at| at.0.to_string()).unwrap_or_default();
                    let record = self.record(&[spelled_key, spelled_value, expires_at_ms.into_bytes()]);
                    output.write_all(&record).map_err(failure)?;
                    progress.add(key.len() + entry.value.len());
                }
                (Err(reason), _) | (_, Err(reason)) => progress.leave_out(&key, reason),
            }
        }
        Ok(())
    }
}
