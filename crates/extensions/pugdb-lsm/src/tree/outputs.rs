//! The tables that a flush or a compaction writes: cut by size, read again before they count, removed when they do not.

use std::sync::Arc;

use pugdb_core::{Entry, Error, Found, Key, KeyspaceId, Result};

use super::remove_table;
use super::retention::{Fate, Retention};
use crate::file::Context;
use crate::manifest::TableEntry;
use crate::table::{BlockCache, Table, TableMeta, TableOptions, TableWriter};

/// A table is cut at this size: compactions of a part of a run become possible, and no file grows without bound.
const TABLE_BYTES: u64 = 64 << 20;

pub(crate) struct Outputs {
    context: Context,
    cache: Arc<BlockCache>,
    keyspace: KeyspaceId,
    options: TableOptions,
    retention: Retention,
    writer: Option<TableWriter>,
    last: Option<Key>,
    /// Finished tables. They are removed with this value unless they were [released](Self::release).
    finished: Vec<TableMeta>,
    kept: u64,
}

impl Outputs {
    pub(crate) fn new(
        context: &Context,
        cache: &Arc<BlockCache>,
        keyspace: KeyspaceId,
        options: TableOptions,
        retention: Retention,
    ) -> Self {
        Self {
            context: context.clone(),
            cache: Arc::clone(cache),
            keyspace,
            options,
            retention,
            writer: None,
            last: None,
            finished: Vec::new(),
            kept: 0,
        }
    }

    /// Takes the next version: keys in order, newest first within a key.
    pub(crate) fn add(&mut self, key: &Key, found: &Found) -> Result<()> {
        let emptied;
        let found = match self.retention.fate(key, found) {
            Fate::Kept => found,
            Fate::Emptied => {
                let entry = Entry { stamp: found.entry.stamp, ..Entry::delete() };
                emptied = Found { entry, ..*found };
                &emptied
            }
            Fate::Forgotten => return Ok(()),
        };
        // All versions of a key stay in one table: the tables of a run do not overlap.
        if self.last.as_ref() != Some(key) {
            if self.writer.as_ref().is_some_and(|writer| writer.bytes_written() >= TABLE_BYTES) {
                self.finish_table()?;
            }
            self.last = Some(key.clone());
        }
        if self.writer.is_none() {
            self.writer = Some(TableWriter::create(&self.context, self.keyspace, self.options)?);
        }
        self.kept += 1;
        self.writer.as_mut().map_or(Ok(()), |writer| writer.add(key, found))
    }

    fn finish_table(&mut self) -> Result<()> {
        if let Some(writer) = self.writer.take() {
            self.finished.push(writer.finish()?);
        }
        Ok(())
    }

    /// Ends the last table and makes all of them durable, names included.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.finish_table()?;
        if self.finished.is_empty() {
            return Ok(());
        }
        let synced = self.context.env.fs.sync_dir(&self.context.table_dir());
        synced.map_err(|error| Error::io("sync the directory of the tables", error))
    }

    /// Reads every table again from disk: checksums, order, counts. Inputs go only when this is well.
    pub(crate) fn check(&self) -> Result<()> {
        let mut entries = 0;
        for meta in &self.finished {
            let table =
                Table::open(&self.context, Arc::clone(&self.cache), meta.clone(), meta.bounds(), None)?;
            entries += table.verify()?.entries;
        }
        if entries != self.kept {
            return Err(Error::internal(
                "the tables written hold another number of entries than were given to them",
            ));
        }
        Ok(())
    }

    /// The tables as the manifest will know them.
    pub(crate) fn entries(&self, run: u64) -> Vec<TableEntry> {
        let entry = |meta: &TableMeta| TableEntry {
            meta: meta.clone(),
            run,
            global_seqno: None,
            bounds: (meta.first.clone(), meta.last.clone()),
            quarantined: false,
        };
        self.finished.iter().map(entry).collect()
    }

    /// The manifest names the tables now: they stay.
    pub(crate) fn release(mut self) {
        self.finished.clear();
    }
}

impl Drop for Outputs {
    fn drop(&mut self) {
        for meta in self.finished.drain(..) {
            remove_table(&self.context, &self.cache, meta.id);
        }
    }
}
