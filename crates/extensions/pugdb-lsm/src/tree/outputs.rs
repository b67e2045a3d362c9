//! The tables that a flush or a compaction writes, and the value files beside them: cut by size, read again before they
//! count, removed when they do not.

use std::sync::Arc;

use bytes::Bytes;
use pugdb_core::RawOp;
use pugdb_core::seam::{FileKind, Wait};
use pugdb_core::{EntryKind, Error, ErrorKind, FileId, Key, KeyspaceId, Result, Seqno};

use super::filter::Filtering;
use super::folding::{Folding, Operands};
use super::live::{LiveTable, Shelf};
use super::remove_file;
use super::retention::{Base, Fate, Retention};
use crate::table::{Access, Table, TableMeta, TableOptions, TableWriter, WrittenTable};
use crate::values::{Apart, Pointer, Separation, ValueFileMeta, ValueWriter, WrittenValues};

/// Makes the content of all tables and value files durable, those of several outputs together. Their names are when their
/// directory was [synced](sync_names).
pub(crate) fn sync_contents<'a>(outputs: impl Iterator<Item = &'a mut Outputs>) -> Result<()> {
    let mut outputs: Vec<&mut Outputs> = outputs.collect();
    let counts: Vec<usize> = outputs.iter().map(|outputs| outputs.written_values.len()).collect();
    let written = outputs.iter_mut().flat_map(|outputs| outputs.written_values.drain(..)).collect();
    let mut durable = WrittenValues::sync(written)?.into_iter();
    for (outputs, count) in outputs.iter_mut().zip(counts) {
        outputs.durable_values.extend(durable.by_ref().take(count));
    }
    let counts: Vec<usize> = outputs.iter().map(|outputs| outputs.written.len()).collect();
    let written = outputs.iter_mut().flat_map(|outputs| outputs.written.drain(..)).collect();
    let mut durable = WrittenTable::sync(written)?.into_iter().map(Arc::new);
    for (outputs, count) in outputs.into_iter().zip(counts) {
        outputs.durable.extend(durable.by_ref().take(count));
    }
    Ok(())
}

/// Makes the names of all tables and value files durable that were made so far.
pub(crate) fn sync_names(shelf: &Shelf) -> Result<()> {
    let synced = shelf.context.env.fs.sync_dir(&shelf.context.table_dir());
    synced.map_err(|error| Error::io("sync the directory of the tables", error))
}

/// What becomes of the entries that are given to it.
pub(crate) struct EntryRules {
    pub(crate) retention: Retention,
    pub(crate) filtering: Option<Filtering>,
    pub(crate) folding: Option<Folding>,
    pub(crate) separation: Arc<Separation>,
}

pub(crate) struct Outputs {
    shelf: Arc<Shelf>,
    keyspace: KeyspaceId,
    options: TableOptions,
    /// A table is cut at this size: compactions of a part of a run become possible, and no file grows without bound.
    table_bytes: u64,
    retention: Retention,
    filtering: Option<Filtering>,
    folding: Option<Folding>,
    /// A table ends before each of these keys, the next one last.
    guards: Vec<Key>,
    separation: Arc<Separation>,
    writer: Option<TableWriter>,
    /// Where values go that are kept apart from the table at hand.
    value_writer: Option<ValueWriter>,
    /// The key at hand, and whether a version of it was written.
    last: Option<Vec<u8>>,
    is_begun: bool,
    /// Operands of the key at hand that may be folded, and whether newer ones were written, for there was no room for more.
    chain: Operands,
    is_chain_cut: bool,
    /// Tables whose content is not durable yet.
    written: Vec<WrittenTable>,
    /// Tables whose content is. They are removed with this value unless they were [released](Self::release).
    durable: Vec<Arc<TableMeta>>,
    /// Of those, the ones that were read again.
    checked: Vec<Arc<Table>>,
    /// Value files whose content is not durable yet.
    written_values: Vec<WrittenValues>,
    /// Value files whose content is. They go as tables do.
    durable_values: Vec<ValueFileMeta>,
    kept: u64,
    /// How many went because nobody can open their values any more.
    erased: u64,
    /// The length of all that is finished.
    finished_bytes: u64,
}

impl Outputs {
    pub(crate) fn new(
        shelf: &Arc<Shelf>,
        keyspace: KeyspaceId,
        (options, table_bytes): (TableOptions, u64),
        EntryRules { retention, filtering, folding, separation }: EntryRules,
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
            folding,
            guards,
            separation,
            writer: None,
            value_writer: None,
            last: None,
            is_begun: false,
            chain: Operands::default(),
            is_chain_cut: false,
            written: Vec::new(),
            durable: Vec::new(),
            checked: Vec::new(),
            written_values: Vec::new(),
            durable_values: Vec::new(),
            kept: 0,
            erased: 0,
            finished_bytes: 0,
        }
    }

    /// Takes the next version: keys in order, newest first within a key. Its value is in `op`, or stays where it is, `apart`.
    pub(crate) fn add(&mut self, seqno: Seqno, op: &RawOp<'_>, apart: Option<Apart<'_>>) -> Result<()> {
        if self.last.as_deref() != Some(op.key) {
            self.end_chain(self.retention.base_at_end(), None)?;
            let last = self.last.get_or_insert_default();
            last.clear();
            last.extend_from_slice(op.key);
            (self.is_begun, self.is_chain_cut) = (false, false);
            self.retention.begin_key(op.key);
        }
        let fate = self.retention.fate(seqno, op);
        if fate == Fate::Chained {
            return self.chain(seqno, op);
        }
        if self.end_chain(self.retention.base(), Some((op, apart)))? {
            return Ok(());
        }
        match self.judge(fate, op, apart)? {
            Fate::Emptied => self.write(seqno, &emptied(op), None),
            Fate::Forgotten => Ok(()),
            Fate::Kept | Fate::Chained => self.write(seqno, op, apart),
        }
    }

    /// Keeps an operand until it is known what lies beneath it.
    fn chain(&mut self, seqno: Seqno, op: &RawOp<'_>) -> Result<()> {
        if self.folding.is_none() {
            return self.write(seqno, op, None);
        }
        if !self.chain.has_room(op.value.len()) {
            // The older ones are folded, these another time.
            self.leave_chain()?;
            self.is_chain_cut = true;
        }
        self.chain.push(seqno, op.to_entry());
        Ok(())
    }

    /// Folds the operands at hand with what they rest on, which may be `version`. True when the two are one now.
    fn end_chain(&mut self, base: Base, version: Option<(&RawOp<'_>, Option<Apart<'_>>)>) -> Result<bool> {
        let (Some((seqno, _)), Some(folding)) = (self.chain.all.first(), &mut self.folding) else {
            return Ok(false);
        };
        let (seqno, key) = (*seqno, self.last.clone().unwrap_or_default());
        // Of a base that lies apart and cannot be read nothing is made: its reader is told.
        let (below, existing) = match (base, version) {
            // Nor of one that only its subject's key opens.
            (Base::Value, Some((op, _))) if op.seal.is_some() => (Some(*op), None),
            (Base::Value, Some((op, None))) => (Some(*op), Some(Bytes::copy_from_slice(op.value))),
            (Base::Value, Some((op, Some(apart)))) => match apart.of(op.key).read(Wait::Always) {
                Err(error) if error.kind() != ErrorKind::Corrupt => return Err(error),
                read => (Some(*op), read.unwrap_or_default()),
            },
            _ => (None, None),
        };
        let can_fold = base == Base::Nothing || existing.is_some();
        let folded = if can_fold { folding.fold(&key, existing.as_deref(), &self.chain) } else { None };
        let Some(value) = folded else {
            if base == Base::Open {
                self.leave_chain()?;
            } else {
                self.write_operands(&key)?;
            }
            return Ok(false);
        };
        self.chain = Operands::default();
        let op = RawOp { key: &key, value: &value, ..below.unwrap_or_else(|| RawOp::put(&[], &[])) };
        let is_newest = !self.is_chain_cut && !self.retention.has_operands_above();
        let is_condemned =
            is_newest && self.filtering.as_mut().is_some_and(|filtering| filtering.forgets(&op));
        match (is_condemned, self.retention.given_up()) {
            (false, _) => self.write(seqno, &op, None)?,
            (true, Fate::Emptied) => self.write(seqno, &emptied(&op), None)?,
            (true, _) => {}
        }
        Ok(true)
    }

    /// Writes the operands at hand as operands, as few as can be.
    fn leave_chain(&mut self) -> Result<()> {
        let key = self.last.clone().unwrap_or_default();
        if let Some(folding) = &mut self.folding {
            let operands = std::mem::take(&mut self.chain);
            self.chain.all = folding.combine(&key, operands);
        }
        self.write_operands(&key)
    }

    fn write_operands(&mut self, key: &[u8]) -> Result<()> {
        let operands = std::mem::take(&mut self.chain);
        operands.all.iter().try_for_each(|(seqno, entry)| self.write(*seqno, &entry.raw(key), None))
    }

    /// Writes a version of the key at hand.
    fn write(&mut self, seqno: Seqno, op: &RawOp<'_>, apart: Option<Apart<'_>>) -> Result<()> {
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
        let (file, pointer) = match apart {
            Some(apart) => (*apart.file.meta(), apart.pointer),
            None if op.kind == EntryKind::Put && self.separation.wants(op.value.len()) => {
                self.write_value(op)?
            }
            None => return self.writer.as_mut().map_or(Ok(()), |writer| writer.add(seqno, op)),
        };
        self.writer.as_mut().map_or(Ok(()), |writer| writer.add_separated(seqno, op, &file, &pointer))
    }

    /// Writes a value to the value file at hand.
    fn write_value(&mut self, op: &RawOp<'_>) -> Result<(ValueFileMeta, Pointer)> {
        let is_full = |writer: &ValueWriter| writer.bytes_written() >= self.separation.file_bytes;
        if self.value_writer.as_ref().is_some_and(is_full) {
            self.finish_values()?;
        }
        if self.value_writer.is_none() {
            let Separation { compression, sealing, .. } = *self.separation;
            let writer = ValueWriter::create(&self.shelf.context, self.keyspace, compression, sealing)?;
            self.value_writer = Some(writer);
        }
        let none = || Error::internal("a value file was made and is not there; please report it");
        let writer = self.value_writer.as_mut().ok_or_else(none)?;
        let (offset, bytes) = writer.add(op.key, op.value)?;
        Ok((writer.unfinished(), Pointer { file: 0, offset, bytes, length: op.value.len() }))
    }

    /// Ends the value file at hand, before the table that points into it: that one tells how long it is.
    fn finish_values(&mut self) -> Result<()> {
        let Some(writer) = self.value_writer.take() else { return Ok(()) };
        let written = writer.finish()?;
        self.finished_bytes += written.meta().bytes;
        if let Some(table) = &mut self.writer {
            table.finish_value_file(written.meta());
        }
        self.written_values.push(written);
        Ok(())
    }

    /// Asks the filter about a version that is kept, if it is to be asked. What was erased goes, and no filter sees what is sealed.
    fn judge(&mut self, fate: Fate, op: &RawOp<'_>, apart: Option<Apart<'_>>) -> Result<Fate> {
        let is_asked = fate == Fate::Kept && op.kind == EntryKind::Put && self.retention.is_settled();
        if let Some(seal) = op.seal {
            let is_erased = is_asked && self.shelf.context.cipher.is_erased(seal);
            self.erased += u64::from(is_erased);
            return Ok(if is_erased { self.retention.given_up() } else { fate });
        }
        let Some(filtering) = self.filtering.as_mut().filter(|_| is_asked) else { return Ok(fate) };
        let is_condemned = match apart.map(|apart| apart.of(op.key).read(Wait::Always)).transpose() {
            Ok(None) => filtering.forgets(op),
            Ok(Some(value)) => value.is_some_and(|value| filtering.forgets(&RawOp { value: &value, ..*op })),
            // Nobody can judge it: it stays as it is, and its reader is told.
            Err(error) if error.kind() == ErrorKind::Corrupt => false,
            Err(error) => return Err(error),
        };
        Ok(if is_condemned { self.retention.given_up() } else { fate })
    }

    /// True when entries went without a commit.
    pub(crate) fn has_forgotten(&self) -> bool {
        self.erased > 0 || self.filtering.as_ref().is_some_and(|filtering| filtering.forgotten > 0)
    }

    /// What came of the keyspace's filter, if it has one.
    pub(crate) fn filtering(&self) -> Option<&Filtering> {
        self.filtering.as_ref()
    }

    /// What came of the keyspace's merge operator, if there is one.
    pub(crate) fn folding(&self) -> Option<&Folding> {
        self.folding.as_ref()
    }

    /// True when a table has to end before `key`.
    fn pass_guards(&mut self, key: &[u8]) -> bool {
        let guards = self.guards.len();
        while self.guards.pop_if(|guard| **guard <= *key).is_some() {}
        self.guards.len() < guards
    }

    /// Nothing follows: every byte is written.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.end_chain(self.retention.base_at_end(), None)?;
        self.finish_table()
    }

    /// Ends the table at hand, if there is one, and its value file.
    fn finish_table(&mut self) -> Result<()> {
        self.finish_values()?;
        if let Some(writer) = self.writer.take() {
            self.finished_bytes += writer.bytes_written();
            self.written.push(writer.finish()?);
        }
        Ok(())
    }

    /// Reads every table again from disk: checksums, order, counts. Inputs go only when this is well. Blocks that are
    /// read here are kept for whom `access` says, which is told the last key of each.
    pub(crate) fn check(&mut self, access: impl Fn(&[u8]) -> Access) -> Result<()> {
        let mut entries = 0;
        for meta in &self.durable {
            let Shelf { context, cache, value_files, .. } = &*self.shelf;
            let is_new = |file: FileId| self.durable_values.iter().any(|meta| meta.id == file);
            let (cache, values) = (Arc::clone(cache), value_files.open(context, meta));
            let table = Table::open_with(context, cache, Arc::clone(meta), meta.bounds(), None, values)?;
            entries += table.verify_new(&is_new, &access)?.entries;
            self.checked.push(table);
        }
        if entries != self.kept {
            return Err(Error::internal(
                "the tables written hold another number of entries than were given to them",
            ));
        }
        Ok(())
    }

    /// How much was written so far, durable or not.
    pub(crate) fn bytes_written(&self) -> u64 {
        let values = self.value_writer.as_ref().map_or(0, ValueWriter::bytes_written);
        self.finished_bytes + self.writer.as_ref().map_or(0, TableWriter::bytes_written) + values
    }

    /// How long the tables and value files are whose content is durable.
    pub(crate) fn bytes(&self) -> u64 {
        let values: u64 = self.durable_values.iter().map(|meta| meta.bytes).sum();
        self.durable.iter().map(|meta| meta.bytes).sum::<u64>() + values
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
        self.durable_values.clear();
    }
}

/// What is written in place of a version that only hides others.
fn emptied<'a>(op: &RawOp<'a>) -> RawOp<'a> {
    RawOp { kind: EntryKind::Delete, meta: 0, expires_at: None, seal: None, value: &[], ..*op }
}

impl Drop for Outputs {
    fn drop(&mut self) {
        for meta in self.durable.drain(..) {
            remove_file(&self.shelf.context, FileKind::Table, meta.id);
        }
        for meta in self.durable_values.drain(..) {
            remove_file(&self.shelf.context, FileKind::Values, meta.id);
        }
    }
}
