//! The tables that a flush or a compaction writes: cut by size, read again before they count, removed when they do not.

use std::sync::Arc;

use pugdb_core::RawOp;
use pugdb_core::{EntryKind, Error, Key, KeyspaceId, Result, Seqno};

use super::filter::Filtering;
use super::live::{LiveTable, Shelf};
use super::remove_table;
use super::retention::{Fate, Retention};
use crate::table::{Access, Table, TableMeta, TableOptions, TableWriter, WrittenTable};

/// Makes the content of all tables durable, those of several outputs together. Their names are when their directory was
/// [synced](sync_names).
pub(crate) fn sync_contents<'a>(outputs: impl Iterator<Item = &'a mut Outputs>) -> Result<()> {
    let mut outputs: Vec<&mut Outputs> = outputs.collect();
    let counts: Vec<usize> = outputs.iter().map(|outputs| outputs.written.len()).collect();
    let written = outputs.iter_mut().flat_map(|outputs| outputs.written.drain(..)).collect();
    let mut durable = WrittenTable::sync(written)?.into_iter().map(Arc::new);
    for (outputs, count) in outputs.into_iter().zip(counts) {
        outputs.durable.extend(durable.by_ref().take(count));
    }
    Ok(())
}

/// Makes the names of all tables durable that were made so far.
pub(crate) fn sync_names(shelf: &Shelf) -> Result<()> {
    let synced = shelf.context.env.fs.sync_dir(&shelf.context.table_dir());
    synced.map_err(|error| Error::io("sync the directory of the tables", error))
}

pub(crate) struct Outputs {
    shelf: Arc<Shelf>,
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
    /// Tables whose content is not durable yet.
    written: Vec<WrittenTable>,
    /// Tables whose content is. They are removed with this value unless they were [released](Self::release).
    durable: Vec<Arc<TableMeta>>,
    /// Of those, the ones that were read again.
    checked: Vec<Arc<Table>>,
    kept: u64,
}

impl Outputs {
    pub(crate) fn new(
        shelf: &Arc<Shelf>,
        keyspace: KeyspaceId,
        (options, table_bytes): (TableOptions, u64),
        (retention, filtering): (Retention, Option<Filtering>),
        mut guards: Vec<Key>,
    ) -> Self {
        guards.sort_unstable_by(|one, other| other.cmp(one));
        Self {
            shelf: Arc::clone(shelf),
            keyspace,
            options,
            table_bytes,
            retention,
            filtering,
            guards,
            writer: None,
            last: None,
            is_begun: false,
            written: Vec::new(),
            durable: Vec::new(),
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
            self.retention.begin_key(op.key);
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
            self.writer = Some(TableWriter::create(&self.shelf.context, self.keyspace, self.options)?);
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

    /// Ends the table at hand, if there is one: every byte of it is written.
    pub(crate) fn finish_table(&mut self) -> Result<()> {
        if let Some(writer) = self.writer.take() {
            self.written.push(writer.finish()?);
        }
        Ok(())
    }

    /// Reads every table again from disk: checksums, order, counts. Inputs go only when this is well. Blocks that are
    /// read here are kept for whom `access` says, which is told the last key of each.
    pub(crate) fn check(&mut self, access: impl Fn(&[u8]) -> Access) -> Result<()> {
        let mut entries = 0;
        for meta in &self.durable {
            let Shelf { context, cache, .. } = &*self.shelf;
            let table = Table::open(context, Arc::clone(cache), Arc::clone(meta), meta.bounds(), None)?;
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

    /// How long the tables are whose content is durable.
    pub(crate) fn bytes(&self) -> u64 {
        self.durable.iter().map(|meta| meta.bytes).sum()
    }

    /// The tables that were read again, as readers will see them in the run with this number.
    pub(crate) fn tables(&self, run: u64) -> Vec<(u64, Arc<LiveTable>)> {
        let live = |table: &Arc<Table>| {
            (run, LiveTable::open(&self.shelf, Arc::clone(table), self.retention.cleared()))
        };
        self.checked.iter().map(live).collect()
    }

    /// [`tables`](Self::tables) whose every entry has the seqno `at`.
    pub(crate) fn tables_at(&self, run: u64, at: Seqno) -> Vec<(u64, Arc<LiveTable>)> {
        let live = |table: &Arc<Table>| (run, LiveTable::open(&self.shelf, table.with_global_seqno(at), at));
        self.checked.iter().map(live).collect()
    }

    /// The manifest names the tables now: they stay.
    pub(crate) fn release(mut self) {
        self.durable.clear();
    }
}

impl Drop for Outputs {
    fn drop(&mut self) {
        for meta in self.durable.drain(..) {
            remove_table(&self.shelf.context, meta.id);
        }
    }
}
