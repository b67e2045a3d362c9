//! `import` and `export`: whole keyspaces in and out, one entry at a time.
//!
//! | file | its part |
//! |---|---|
//! | `tree` | walks a directory for `import dir` |
//! | `safe_path` | decides which keys may become paths |
//! | `folder` | writes files below one directory and nowhere else |
//! | `row` | a line of JSONL to an entry and back |
//! | `loader` | puts entries in batches |
//! | `progress` | counts, shows a bar, lists what is left out |
//! | `directory`, `jsonl` | put the parts together |

mod directory;
mod folder;
mod jsonl;
mod loader;
mod progress;
mod row;
mod safe_path;
mod tree;

use crate::arguments::{ExportArguments, ExportDestination, ImportArguments, ImportSource};
use crate::outcome::{Exit, Failure};

pub(crate) fn import(arguments: &ImportArguments) -> Result<Exit, Failure> {
    match &arguments.source {
        ImportSource::Dir { path, target } => directory::import(path, target),
        ImportSource::Jsonl { file, target } => jsonl::import(file, target),
    }
}

pub(crate) fn export(arguments: &ExportArguments) -> Result<Exit, Failure> {
    match &arguments.destination {
        ExportDestination::Dir { path, force, target } => directory::export(path, *force, target),
        ExportDestination::Jsonl { file, force, target } => jsonl::export(file, *force, target),
    }
}
