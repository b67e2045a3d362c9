//! Which values are kept apart, and which of those that are stay where they are. Pure.

use std::collections::BTreeSet;

use pugdb_core::FileId;
use pugdb_core::seam::Sealing;

use crate::table::Compression;

/// How tables that are written anew treat values.
#[derive(Clone, Debug)]
pub(crate) struct Separation {
    /// Values of this length and longer go into value files; `None`: none does.
    pub(crate) bytes_min: Option<usize>,
    /// How each is compressed. It is written once and stays, wherever its entry goes.
    pub(crate) compression: Compression,
    /// Whether they are sealed, in a database that is encrypted.
    pub(crate) sealing: Sealing,
    /// About how long a value file is.
    pub(crate) file_bytes: u64,
    /// Value files that are to go: what is met of them is written anew.
    pub(crate) collected: BTreeSet<FileId>,
}

impl Separation {
    /// True when a value of so many bytes belongs into a value file.
    pub(crate) fn wants(&self, value_bytes: usize) -> bool {
        self.bytes_min.is_some_and(|min| value_bytes >= min)
    }

    /// True when a value of so many bytes stays in its value file.
    pub(crate) fn leaves(&self, file: FileId, value_bytes: usize) -> bool {
        self.wants(value_bytes) && !self.collected.contains(&file)
    }
}
