//! The tables that a flush or a compaction writes: cut by size, read again before they count, removed when they do not.

use std::sync::Arc;

use pugdb_core::RawOp;
use pugdb_core::{EntryKind, Error, Key, KeyspaceId, Result, Seqno};

use super::filter::Filtering;
use super::remove_table;
use super::retention::{Fate, Retention};
use crate::file::Context;
use crate::table::{Access, BlockCache, Table, TableMeta, TableOptions, TableWriter};

pub(crate) struct Outputs {
    context: Context,
    cache: Arc<BlockCache>,
    keyspace: KeyspaceId,
    options: TableOptions,
    /// A table is cut at this size: compactions of a part of a run become possible, and no file grows without bound.
    table_bytes: u64,
    retention: Retention,
    filtering: Option<Filtering>,
    /// A table ends before each of these keys, the next one last.
    guards: Vec<Key>,
    writer: Option<TableWriter>,
    /// The key at hand, and whether a version of it was written.
    last: Option<Vec<u8>>,
    is_begun: bool,
    /// Finished tables. They are removed with this value unless they were [released](Self::release).
    finished: Vec<TableMeta>,
    /// The same ones, once they were found sound.
    checked: Vec<Arc<Table>>,
    kept: u64,
}

impl Outputs {
    pub(crate) fn new(
        context: &Context,
        cache: &Arc<BlockCache>,
        keyspace: KeyspaceId,
        (options, table_bytes): (TableOptions, u64),
        (retention, filtering): (Retention, Option<Filtering>),
        mut guards: Vec<Key>,
    ) -> Self {
        guards.sort_unstable_by(|one, other| other.cmp(one));
        Self {
            context: context.clone(),
            cache: Arc::clone(cache),
            keyspace,
            options,
            table_bytes,
            retention,
            filtering,
            guards,
            writer: None,
            last: None,
            is_begun: false,
            finished: Vec::new(),
            checked: Vec::new(),
            kept: 0,
        }
    }

    /// Takes the next version: keys in order, newest first within a key.
    pub(crate) fn add(&mut self, seqno: Seqno, op: &RawOp<'_>) -> Result<()> {
        if self.last.as_deref() != Some(op.key) {
            let last = self.last.get_or_insert_default();
            last.clear();
            last.extend_from_slice(op.key);
            self.is_begun = false;
            self.retention.begin_key();
        }
        let op = match self.fate(seqno, op) {
            Fate::Kept => *op,
            Fate::Emptied => {
                RawOp { kind: EntryKind::Delete, meta: 0, expires_at: None, seal: None, value: &[], ..*op }
            }
            Fate::Forgotten => return Ok(()),
        };
        // All versions of a key stay in one table: the tables of a run do not overlap.
        if !self.is_begun {
            let is_full =
                self.writer.as_ref().is_some_and(|writer| writer.bytes_written() >= self.table_bytes);
            if self.pass_guards(op.key) || is_full {
                self.finish_table()?;
            }
        }
        if self.writer.is_none() {
            self.writer = Some(TableWriter::create(&self.context, self.keyspace, self.options)?);
        }
        self.is_begun = true;
        self.kept += 1;
        self.writer.as_mut().map_or(Ok(()), |writer| writer.add(seqno, &op))
    }

    fn fate(&mut self, seqno: Seqno, op: &RawOp<'_>) -> Fate {
        let fate = self.retention.fate(seqno, op);
        let is_asked = fate == Fate::Kept && op.kind == EntryKind::Put && self.retention.is_settled();
        let is_condemned = is_asked && self.filtering.as_mut().is_some_and(|filtering| filtering.forgets(op));
        if is_condemned { self.retention.given_up() } else { fate }
    }

    /// What came of the keyspace's filter, if it has one.
    pub(crate) fn filtering(&self) -> Option<&Filtering> {
        self.filtering.as_ref()
    }

    /// True when a table has to end before `key`.
    fn pass_guards(&mut self, key: &[u8]) -> bool {
        let guards = self.guards.len();
        while self.guards.pop_if(|guard| **guard <= *key).is_some() {}
        self.guards.len() < guards
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

    /// Reads every table again from disk: checksums, order, counts. Inputs go only when this is well. Blocks that are
    /// read here are kept for whom `access` says, which is told the last key of each.
    pub(crate) fn check(&mut self, access: impl Fn(&[u8]) -> Access) -> Result<()> {
        let mut entries = 0;
        for meta in &self.finished {
            let table =
                Table::open(&self.context, Arc::clone(&self.cache), meta.clone(), meta.bounds(), None)?;
            entries += table.verify_new(&access)?.entries;
            self.checked.push(table);
        }
        if entries != self.kept {
            return Err(Error::internal(
                "the tables written hold another number of entries than were given to them",
            ));
        }
        Ok(())
    }

    /// What was written so far, in finished tables.
    pub(crate) fn bytes(&self) -> u64 {
        self.finished.iter().map(|meta| meta.bytes).sum()
    }

    /// The tables that were [checked](Self::check).
    pub(crate) fn tables(&self) -> &[Arc<Table>] {
        &self.checked
    }

    /// The manifest names the tables now: they stay.
    pub(crate) fn release(mut self) {
        self.finished.clear();
    }
}

impl Drop for Outputs {
    fn drop(&mut self) {
        for meta in self.finished.drain(..) {
            remove_table(&self.context, meta.id);
        }
    }
}
