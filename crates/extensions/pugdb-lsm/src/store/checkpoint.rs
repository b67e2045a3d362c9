//! The tables and value files of one moment, held fast, and linked or copied into the directory of a checkpoint.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use pugdb_core::coding::index;
use pugdb_core::seam::{FileKind, RangeRequest, Wait};
use pugdb_core::{Error, FileId, Lsn, Result};

use super::Store;
use crate::file::Context;
use crate::manifest::{State, TableEntry};
use crate::tree::Version;
use crate::{table, values};

/// Copied at once.
const COPY_BYTES: u64 = 1 << 20;

/// What the manifest said at one moment, and the files that it named: none of them goes while this lives.
pub struct PinnedStore {
    context: Context,
    /// What the manifest said.
    pub state: State,
    _versions: Vec<Arc<Version>>,
}

impl Store {
    /// Holds the present tables fast, and with them what `pin_log` makes of the position from which the log is needed.
    ///
    /// # Errors
    /// Those of `pin_log`.
    pub fn pin<L>(&self, pin_log: impl FnOnce(Lsn) -> Result<L>) -> Result<(PinnedStore, L)> {
        // Tables and log are trimmed only behind an edit, under this lock.
        let manifest = self.manifest.lock();
        let state = manifest.state().clone();
        let log = pin_log(state.log.start)?;
        // In this order: a tree that is dropped meanwhile is found among the dropped before it leaves the others.
        let mut versions: Vec<Arc<Version>> = self.trees.read().values().map(|tree| tree.version()).collect();
        versions.extend(self.dropped.lock().values().map(|tree| tree.version()));
        drop(manifest);
        Ok((PinnedStore { context: self.context.clone(), state, _versions: versions }, log))
    }
}

impl PinnedStore {
    /// What a manifest names that somebody else may be writing. Nothing holds the files: one may be gone before it is placed.
    pub fn of(context: &Context, state: &State) -> Self {
        Self { context: context.clone(), state: state.clone(), _versions: Vec::new() }
    }

    /// Gives every table and value file a name in the table directory of another context and makes the names durable. One
    /// that cannot be linked, because it lies in another file system or store, is copied.
    ///
    /// # Errors
    /// What the disk says; `NotFound` when a file is gone.
    pub fn place_tables(&self, context: &Context) -> Result<()> {
        // Two entries can show parts of one file.
        let entries = self.state.keyspaces.values().flat_map(|keyspace| &keyspace.tables);
        let mut files: BTreeMap<FileId, (FileKind, u64)> = BTreeMap::new();
        for TableEntry { meta, .. } in entries {
            files.insert(meta.id, (FileKind::Table, meta.bytes));
            files.extend(meta.values.iter().map(|used| (used.file, (FileKind::Values, used.file_bytes))));
        }
        for (id, (kind, length)) in files {
            let path = if kind == FileKind::Values { values::path } else { table::path };
            let (from, to) = (path(&self.context, id), path(context, id));
            if context.env.fs.link(&from, &to).is_err() {
                let copied = self.copy(context, &to, (kind, id), length);
                copied.map_err(|error| error.at(format_args!("copy {id}")))?;
            }
        }
        let synced = context.env.fs.sync_dir(&context.table_dir());
        synced.map_err(|error| Error::io("sync the directory of the tables", error))
    }

    fn copy(&self, context: &Context, to: &Path, from: (FileKind, FileId), length: u64) -> Result<()> {
        let doing = |error| Error::io("write the copy", error);
        let file = context.env.fs.create(to).map_err(doing)?;
        let mut offset = 0;
        while offset < length {
            let bytes = self.read(from, offset, COPY_BYTES.min(length - offset))?;
            file.write_at(&bytes, offset).map_err(doing)?;
            offset += bytes.len() as u64;
        }
        file.sync_data().map_err(doing)
    }

    fn read(&self, (kind, file): (FileKind, FileId), offset: u64, length: u64) -> Result<bytes::Bytes> {
        let request = RangeRequest { kind, file, offset, length: index(length) };
        let read = self.context.tables.read_ranges(&[request], Wait::Always)?;
        let bytes = read.and_then(|mut ranges| ranges.pop()).filter(|bytes| bytes.len() as u64 == length);
        bytes.ok_or_else(|| {
            Error::internal("a table store returned other ranges than it was asked for; please report it")
        })
    }
}
