//! `import` and `export`: whole keyspaces in and out, one entry at a time.
//!
//! | file | its part |
//! |---|---|
//! | `arguments` | what the command line says |
//! | `rows` | imports rows of any format, and goes on where an import stopped |
//! | `journal` | notes how far an import is, together with its rows |
//! | `row`, `jsonl` | a line of JSON to an entry and back |
//! | `csv`, `sheet` | a record of CSV to fields and back; fields to an entry and back |
//! | `rdb` | reads the dump of a Redis server |
//! | `out` | writes an export to a file or stdout |
//! | `tree`, `safe_path`, `folder`, `directory` | a directory walked; keys that may be paths; files written below one directory |
//! | `loader` | puts entries in batches |
//! | `progress` | counts, shows a bar, lists what is left out |

mod arguments;
mod csv;
mod directory;
mod folder;
mod journal;
mod jsonl;
mod loader;
mod out;
mod progress;
mod rdb;
mod row;
mod rows;
mod safe_path;
mod sheet;
mod tree;

use crate::interrupt::Interrupt;
use crate::outcome::{Exit, Failure};
use crate::output::Format;
pub(crate) use arguments::{ExportArguments, ImportArguments};
use arguments::{ExportDestination, ImportSource};
pub(crate) use row::RowRef;
use rows::Request;

pub(crate) fn import(arguments: &ImportArguments, format: Format) -> Result<Exit, Failure> {
    let interrupt = &Interrupt::install();
    match &arguments.source {
        ImportSource::Dir { path, target } => directory::import(path, target, format, interrupt),
        ImportSource::Jsonl { file, resume, target } => {
            let resume = resume.resume;
            rows::import(Request { file, resume, target, format, interrupt }, &mut jsonl::JsonRows)
        }
        ImportSource::Csv(arguments) => sheet::import(sheet::CSV, arguments, format, interrupt),
        ImportSource::Tsv(arguments) => sheet::import(sheet::TSV, arguments, format, interrupt),
        ImportSource::Rdb(arguments) => rdb::import(arguments, format, interrupt),
    }
}

pub(crate) fn export(arguments: &ExportArguments, format: Format) -> Result<Exit, Failure> {
    let interrupt = &Interrupt::install();
    match &arguments.destination {
        ExportDestination::Dir { path, force, target } => {
            directory::export(path, *force, target, format, interrupt)
        }
        ExportDestination::Jsonl { file, force, target } => {
            jsonl::export(file, *force, target, format, interrupt)
        }
        ExportDestination::Csv(arguments) => sheet::export(sheet::CSV, arguments, format, interrupt),
        ExportDestination::Tsv(arguments) => sheet::export(sheet::TSV, arguments, format, interrupt),
    }
}
