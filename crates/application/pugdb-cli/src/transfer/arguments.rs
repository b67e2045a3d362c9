//! The arguments of `import` and `export`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::arguments::Target;

/// Bring in a directory tree, JSONL, CSV, TSV or a Redis dump
#[derive(Args, Debug)]
#[command(after_help = "\
What an import writes replaces values of the same keys and leaves others alone, so importing again changes nothing.
Ctrl-C keeps what is done and ends with code 130; a second one ends at once.

Examples:
  pugdb import jsonl backup.jsonl
  pugdb import csv people.csv --key id --keyspace people
  pugdb import jsonl backup.jsonl --resume     after an interruption: goes on where it stopped
  pugdb import rdb /var/lib/redis/dump.rdb")]
pub(crate) struct ImportArguments {
    #[command(subcommand)]
    pub(super) source: ImportSource,
}

#[derive(Debug, Subcommand)]
pub(super) enum ImportSource {
    /// A directory tree: the path is the key, the content the value
    #[command(after_help = "\
A key is the path below PATH with / between its parts, byte for byte. Only regular files are kept: links and special files
are listed and skipped, empty directories, owners, modes and times are not kept. A file that cannot be read or is too large
is listed and skipped, and the code is 3. Everything is on disk when the command ends; when it is stopped, what it wrote so
far stays.

Examples:
  pugdb import dir /usr/share/doc --keyspace docs")]
    Dir {
        /// The directory
        path: PathBuf,
        #[command(flatten)]
        target: Target,
    },
    /// A file of JSON objects, one a line
    #[command(after_help = "\
A line: {\"key\":\"ada\",\"value\":\"1815\"}. Bytes that are not UTF-8 come as \"key_base64\" or \"value_base64\" instead.
Optional: \"expires_at_ms\" (milliseconds since 1970) and \"meta\" (the entry's own byte, 0 to 255). Nothing else is allowed.
The first line that is wrong ends the import with its number and code 3; the lines before it stay imported.

Examples:
  pugdb import jsonl backup.jsonl
  zcat backup.jsonl.gz | pugdb import jsonl -")]
    Jsonl {
        /// The file, or - for stdin
        file: PathBuf,
        #[command(flatten)]
        resume: Resume,
        #[command(flatten)]
        target: Target,
    },
    /// A file of comma-separated values
    #[command(after_help = CSV_HELP)]
    Csv(SheetImport),
    /// A file of tab-separated values, quoted as in CSV
    #[command(after_help = CSV_HELP)]
    Tsv(SheetImport),
    /// A dump that redis-server or valkey-server saved
    #[command(after_help = "\
Strings are kept, with their expiry: database N becomes the keyspace dbN. Lists, sets, sorted sets, hashes, streams, modules
and function libraries are skipped, counted by their type and listed at the end, and the code is 3. Keys that have expired
already are skipped and counted. Versions 1 to 12 of the format are read.

A file is read twice: first all of it is checked, its checksum too, then it is imported. So a damaged file imports nothing.
--unchecked reads once and keeps what comes before the damage; stdin is always read so.

Examples:
  pugdb import rdb dump.rdb
  pugdb import rdb dump.rdb --database 3 --keyspace-prefix old-db
  redis-cli --rdb - | pugdb import rdb -")]
    Rdb(RdbImport),
}

const CSV_HELP: &str = "\
Quotes are as RFC 4180 has them: a field with a delimiter, a quote or a line end stands in \"quotes\", a quote in it is
doubled. The first record names the columns. --key and the others name a column by its name, or by its number from 1 with
--no-header. Without --key the columns are those of an export: key, value and perhaps expires_at_ms. Without --value the
value is a JSON object of all other columns. Every record has as many fields as the first. The first one that is wrong ends
the import with its line and code 3; those before it stay imported.

Examples:
  pugdb import csv people.csv --key id
  pugdb import csv people.csv --key id --value name --delimiter ';'
  pugdb import tsv pairs.tsv --no-header --key 1 --value 2
  pugdb export csv backup.csv && pugdb import csv backup.csv --data other";

/// Going on with an import that was interrupted.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct Resume {
    /// Go on where an import of this file into this keyspace stopped
    #[arg(
        long,
        long_help = "Go on where an import of this file into this keyspace stopped. While an import runs, each batch notes in \
                     the keyspace pugdb.imports how far it is, together with the entries themselves. What lies before that \
                     place has to be as it was; it is read again and compared"
    )]
    pub(super) resume: bool,
}

/// `import csv` and `import tsv`.
#[derive(Args, Debug)]
pub(super) struct SheetImport {
    /// The file, or - for stdin
    pub(super) file: PathBuf,
    /// The column that is the key
    #[arg(long, value_name = "COLUMN")]
    pub(super) key: Option<String>,
    /// The column that is the value [default: all others, as one JSON object]
    #[arg(long, value_name = "COLUMN", requires = "key")]
    pub(super) value: Option<String>,
    /// The column that says when the entry expires, in milliseconds since 1970; an empty field says never
    #[arg(long, value_name = "COLUMN", requires = "key")]
    pub(super) expires_at_ms: Option<String>,
    /// What separates fields: one ASCII character [default: a comma; a tab for tsv]
    #[arg(long, value_name = "CHARACTER", value_parser = parse_delimiter)]
    pub(super) delimiter: Option<u8>,
    /// The first record is an entry, and columns have numbers from 1
    #[arg(long, requires = "key")]
    pub(super) no_header: bool,
    /// How keys and values are spelled
    #[arg(long, value_enum, default_value_t = Encoding::Text)]
    pub(super) encoding: Encoding,
    #[command(flatten)]
    pub(super) resume: Resume,
    #[command(flatten)]
    pub(super) target: Target,
}

/// `export csv` and `export tsv`.
#[derive(Args, Debug)]
pub(super) struct SheetExport {
    /// The file, or - for stdout
    pub(super) file: PathBuf,
    /// Replace the file if it is there already
    #[arg(long)]
    pub(super) force: bool,
    /// What separates fields: one ASCII character [default: a comma; a tab for tsv]
    #[arg(long, value_name = "CHARACTER", value_parser = parse_delimiter)]
    pub(super) delimiter: Option<u8>,
    /// No first record with the names of the columns
    #[arg(long)]
    pub(super) no_header: bool,
    /// No column `expires_at_ms`: the expiry is lost
    #[arg(long)]
    pub(super) without_expiry: bool,
    /// How keys and values are spelled
    #[arg(long, value_enum, default_value_t = Encoding::Text)]
    pub(super) encoding: Encoding,
    #[command(flatten)]
    pub(super) target: Target,
}

/// How bytes stand in a field of CSV.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Encoding {
    /// As UTF-8; what is not UTF-8 is refused in an import and left out of an export
    Text,
    /// As they are, whatever they are
    Raw,
    /// With \t, \n, \r, \\ and \xNN, as `scan` prints them
    Escaped,
    /// As hexadecimal digits
    Hex,
    /// As base64 (standard alphabet, padded)
    Base64,
}

/// `import rdb`.
#[derive(Args, Debug)]
pub(super) struct RdbImport {
    /// The file, or - for stdin
    #[arg(conflicts_with = "keyspace")]
    pub(super) file: PathBuf,
    /// Only this database of the dump, or all
    #[arg(long, value_name = "NUMBER", default_value = "all", value_parser = parse_database)]
    pub(super) database: Database,
    /// What comes before the database's number in the name of the keyspace
    #[arg(long, value_name = "TEXT", default_value = "db")]
    pub(super) keyspace_prefix: String,
    /// Read the file once: keep what comes before damage
    #[arg(long)]
    pub(super) unchecked: bool,
    #[command(flatten)]
    pub(super) target: Target,
}

/// Which databases of a dump are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Database {
    All,
    One(u64),
}

impl Database {
    pub(super) fn wants(self, number: u64) -> bool {
        match self {
            Self::All => true,
            Self::One(one) => one == number,
        }
    }
}

fn parse_database(text: &str) -> Result<Database, String> {
    if text == "all" {
        return Ok(Database::All);
    }
    text.parse().map(Database::One).map_err(|_| "a database is a number from 0, or all".to_owned())
}

fn parse_delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        b"\\t" => Ok(b'\t'),
        [b'"' | b'\n' | b'\r' | 0x80..] => Err("quotes and line ends cannot separate fields".to_owned()),
        [byte] => Ok(*byte),
        _ => Err("a delimiter is one ASCII character, such as ; or \\t".to_owned()),
    }
}

/// Write out a directory tree, JSONL, CSV or TSV
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  pugdb export jsonl backup.jsonl
  pugdb export csv - --keyspace people | head
  pugdb export dir ./restored --keyspace docs")]
pub(crate) struct ExportArguments {
    #[command(subcommand)]
    pub(super) destination: ExportDestination,
}

#[derive(Debug, Subcommand)]
pub(super) enum ExportDestination {
    /// A directory tree: the key is the path, the value the content
    #[command(after_help = "\
A key that is no safe path (absolute, with empty parts, `.`, `..` or NUL, a part too long for the file system, or a file where
another key needs a folder) is listed and left out, and the code is 3. Links in the target are never followed. Expiry is
not kept; use jsonl for that.")]
    Dir {
        /// The directory; it is made if there is none
        path: PathBuf,
        /// Replace files that are there already
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        target: Target,
    },
    /// A file of JSON objects, one a line, as `import jsonl` reads it
    Jsonl {
        /// The file, or - for stdout
        file: PathBuf,
        /// Replace the file if it is there already
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        target: Target,
    },
    /// A file of comma-separated values: key, value, `expires_at_ms`
    #[command(after_help = SHEET_EXPORT_HELP)]
    Csv(SheetExport),
    /// A file of tab-separated values: key, value, `expires_at_ms`
    #[command(after_help = SHEET_EXPORT_HELP)]
    Tsv(SheetExport),
}

const SHEET_EXPORT_HELP: &str = "\
Fields are quoted where RFC 4180 asks for it. An entry that is not UTF-8 is listed and left out (code 3), unless --encoding
says how bytes are spelled; give the import the same. The entry's own byte `meta` is kept by jsonl only: an entry that has
one is left out.

Examples:
  pugdb export csv people.csv --keyspace people
  pugdb export tsv - --encoding base64 --no-header";

impl ImportArguments {
    /// Where it goes.
    pub(crate) fn target_mut(&mut self) -> &mut Target {
        match &mut self.source {
            ImportSource::Dir { target, .. } | ImportSource::Jsonl { target, .. } => target,
            ImportSource::Csv(sheet) | ImportSource::Tsv(sheet) => &mut sheet.target,
            ImportSource::Rdb(dump) => &mut dump.target,
        }
    }
}

impl ExportArguments {
    /// Where it comes from.
    pub(crate) fn target_mut(&mut self) -> &mut Target {
        match &mut self.destination {
            ExportDestination::Dir { target, .. } | ExportDestination::Jsonl { target, .. } => target,
            ExportDestination::Csv(sheet) | ExportDestination::Tsv(sheet) => &mut sheet.target,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delimiters() {
        for (text, delimiter) in
            [(",", b','), (";", b';'), ("\\t", b'\t'), ("\t", b'\t'), ("|", b'|'), (" ", b' ')]
        {
            assert_eq!(parse_delimiter(text), Ok(delimiter));
        }
        for text in ["", "\"", "\n", "\r", "ab", "é", "\\n"] {
            assert!(parse_delimiter(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn databases() {
        assert_eq!(parse_database("all"), Ok(Database::All));
        assert_eq!(parse_database("12"), Ok(Database::One(12)));
        assert!(parse_database("-1").is_err() && parse_database("").is_err());
        assert!(Database::All.wants(7) && Database::One(7).wants(7) && !Database::One(7).wants(0));
    }
}
