//! Value files: large values beside the tables, so that a merge moves where they lie and not what they are.
//!
//! ```text
//! flush, merge: value ──> ValueWriter ──> value file          table: key, seqno, fields, Pointer
//! read:         Pointer ──> ValueRef ──> load_values (one call for all of a batch) ──> record verified ──> value
//! ```
//!
//! A table names the value files it points into, and how many bytes of each; a file's live bytes are the sum over the
//! tables that readers see. The format is drawn in `docs/format/values.md`.

use std::path::PathBuf;

use pugdb_core::FileId;
use pugdb_core::seam::Sealing;

use crate::file::Context;

mod file;
mod inspect;
mod pointer;
mod record;
mod separation;
mod writer;

pub use file::ValueFile;
pub(crate) use file::{Apart, ValueRef, load_values};
pub(crate) use inspect::inspect;
pub use pointer::Pointer;
pub use record::{Record, Records};
pub(crate) use separation::Separation;
pub use writer::{ValueFileMeta, ValueWriter, WrittenValues};

/// What a table needs of a value file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueUse {
    /// The file.
    pub file: FileId,
    /// Its length.
    pub file_bytes: u64,
    /// The length of all records in it.
    pub record_bytes: u64,
    /// The length of those that the table points to.
    pub bytes: u64,
    /// Whether it can be read without a key.
    pub sealing: Sealing,
}

/// Where the value file `id` lies: beside the tables.
pub fn path(context: &Context, id: FileId) -> PathBuf {
    context.table_dir().join(file_name(id))
}

/// The name of the value file `id` in its directory.
pub fn file_name(id: FileId) -> String {
    format!("{id}.values")
}

/// The value file a name in the directory stands for; `None` when it is no value file's name.
pub fn parse_file_name(name: &str) -> Option<FileId> {
    FileId::parse(name.strip_suffix(".values")?)
}
