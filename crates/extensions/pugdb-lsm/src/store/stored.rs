//! Which tables and value files there are, and how each is sealed.

use std::collections::BTreeSet;

use pugdb_core::seam::{FileKind, Sealing};
use pugdb_core::{FileId, KeyspaceId};

use super::Store;

/// A table or a value file that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// The keyspace whose key it has; one without a name when it is a partition's.
    pub tree: KeyspaceId,
    /// Which of the two it is.
    pub kind: FileKind,
    /// Its identity.
    pub file: FileId,
    /// Its length.
    pub bytes: u64,
    /// Whether it can be read without a key.
    pub sealing: Sealing,
    /// Whether it is to be read without one: one that is written now would be so.
    pub wanted: Sealing,
}

impl Store {
    /// All tables and value files that take part in reads. One that only a snapshot or a reader needs does not, and goes with them.
    pub fn stored_files(&self) -> Vec<StoredFile> {
        let mut files = Vec::new();
        let trees: Vec<_> = self.trees.read().values().cloned().collect();
        for tree in trees {
            let (id, wanted) = (tree.id(), self.context.sealing(tree.options().sealing));
            let (version, mut seen) = (tree.version(), BTreeSet::new());
            for live in version.runs.iter().flat_map(|run| &run.tables) {
                let meta = live.meta();
                let table = (FileKind::Table, meta.id, meta.bytes, meta.sealing);
                let values = meta.values.iter();
                let values = values.map(|used| (FileKind::Values, used.file, used.file_bytes, used.sealing));
                let new = std::iter::once(table).chain(values).filter(|(_, file, ..)| seen.insert(*file));
                files.extend(new.map(|(kind, file, bytes, sealing)| StoredFile {
                    tree: id,
                    kind,
                    file,
                    bytes,
                    sealing,
                    wanted,
                }));
            }
        }
        files
    }
}
