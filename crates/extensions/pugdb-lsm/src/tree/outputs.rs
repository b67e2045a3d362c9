//! The tables that a flush or a compaction writes, and the value files beside them: cut by size, read again before they
//! count, removed when they do not.

use std::sync::Arc;

use pugdb_core::RawOp;
use pugdb_core::seam::FileKind;
use pugdb_core::{EntryKind, Error, FileId, Key, KeyspaceId, Result, Seqno};

use super::remove_file;
use super::retention::{Fate, Retention};
use super::value_files::ValueFiles;
use crate::file::Context;
use crate::table::{Access, BlockCache, Table, TableMeta, TableOptions, TableWriter};
use crate::values::{Apart, Pointer, Separation, ValueFileMeta, ValueWriter};

pub(crate) struct Outputs {
    context: Context,
    cache: Arc<BlockCache>,
    value_files: Arc<ValueFiles>,
    keyspace: KeyspaceId,
    options: TableOptions,
    /// A table is cut at this size: compactions of a part of a run become possible, and no file grows without bound.
    table_bytes: u64,
    retention: Retention,
    /// A table ends before each of these keys, the next one last.
    guards: Vec<Key>,
    separation: Arc<Separation>,
    writer: Option<TableWriter>,
    /// Where values go that are kept apart from the table at hand.
    value_writer: Option<ValueWriter>,
    /// The key at hand, and whether a version of it was written.
    last: Option<Vec<u8>>,
    is_begun: bool,
    /// Finished tables. They are removed with this value unless they were [released](Self::release).
    finished: Vec<TableMeta>,
    /// The same ones, once they were found sound.
    checked: Vec<Arc<Table>>,
    /// Finished value files, which go as tables do.
    finished_values: Vec<ValueFileMeta>,
    kept: u64,
}

impl Outputs {
    pub(crate) fn new(
        context: &Context,
        cache: &Arc<BlockCache>,
        (keyspace, value_files): (KeyspaceId, &Arc<ValueFiles>),
        (options, table_bytes): (TableOptions, u64),
        (retention, separation): (Retention, Arc<Separation>),
        mut guards: Vec<Key>,
    ) -> Self {
        guards.sort_unstable_by(|one, other| other.cmp(one));
        Self {
            context: context.clone(),
            cache: Arc::clone(cache),
            value_files: Arc::clone(value_files),
            keyspace,
            options,
            table_bytes,
            retention,
            guards,
            separation,
            writer: None,
            value_writer: None,
            last: None,
            is_begun: false,
            finished: Vec::new(),
            checked: Vec::new(),
            finished_values: Vec::new(),
            kept: 0,
        }
    }

    /// Takes the next version: keys in order, newest first within a key. Its value is in `op`, or stays where it is, `apart`.
    pub(crate) fn add(&mut self, seqno: Seqno, op: &RawOp<'_>, apart: Option<Apart<'_>>) -> Result<()> {
        if self.last.as_deref() != Some(op.key) {
            let last = self.last.get_or_insert_default();
            last.clear();
            last.extend_from_slice(op.key);
            self.is_begun = false;
            self.retention.begin_key();
        }
        let (op, apart) = match self.retention.fate(seqno, op) {
            Fate::Kept => (*op, apart),
            Fate::Emptied => {
                let (kind, value) = (EntryKind::Delete, &[][..]);
                (RawOp { kind, meta: 0, expires_at: None, seal: None, value, ..*op }, None)
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
        let (file, pointer) = match apart {
            Some(apart) => (*apart.file.meta(), apart.pointer),
            None if op.kind == EntryKind::Put && self.separation.wants(op.value.len()) => {
                self.write_value(&op)?
            }
            None => return self.writer.as_mut().map_or(Ok(()), |writer| writer.add(seqno, &op)),
        };
        self.writer.as_mut().map_or(Ok(()), |writer| writer.add_separated(seqno, &op, &file, &pointer))
    }

    /// Writes a value to the value file at hand.
    fn write_value(&mut self, op: &RawOp<'_>) -> Result<(ValueFileMeta, Pointer)> {
        let is_full = |writer: &ValueWriter| writer.bytes_written() >= self.separation.file_bytes;
        if self.value_writer.as_ref().is_some_and(is_full) {
            self.finish_values()?;
        }
        if self.value_writer.is_none() {
            let compression = self.separation.compression;
            self.value_writer = Some(ValueWriter::create(&self.context, self.keyspace, compression)?);
        }
        let none = || Error::internal("a value file was made and is not there; please report it");
        let writer = self.value_writer.as_mut().ok_or_else(none)?;
        let (offset, bytes) = writer.add(op.key, op.value)?;
        Ok((writer.unfinished(), Pointer { file: 0, offset, bytes, length: op.value.len() }))
    }

    /// Ends the value file at hand. It is durable before the table that points into it.
    fn finish_values(&mut self) -> Result<()> {
        let Some(writer) = self.value_writer.take() else { return Ok(()) };
        let meta = writer.finish()?;
        self.finished_values.push(meta);
        if let Some(table) = &mut self.writer {
            table.finish_value_file(&meta);
        }
        Ok(())
    }

    /// True when a table has to end before `key`.
    fn pass_guards(&mut self, key: &[u8]) -> bool {
        let guards = self.guards.len();
        while self.guards.pop_if(|guard| **guard <= *key).is_some() {}
        self.guards.len() < guards
    }

    fn finish_table(&mut self) -> Result<()> {
        self.finish_values()?;
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
            let is_new = |file: FileId| self.finished_values.iter().any(|meta| meta.id == file);
            let (cache, values) = (Arc::clone(&self.cache), self.value_files.open(&self.context, meta));
            let table = Table::open_with(&self.context, cache, meta.clone(), meta.bounds(), None, values)?;
            table.value_failure().map_or(Ok(()), |failure| Err(failure.clone()))?;
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

    /// What was written so far, in finished tables and value files.
    pub(crate) fn bytes(&self) -> u64 {
        let values: u64 = self.finished_values.iter().map(|meta| meta.bytes).sum();
        self.finished.iter().map(|meta| meta.bytes).sum::<u64>() + values
    }

    /// The tables that were [checked](Self::check).
    pub(crate) fn tables(&self) -> &[Arc<Table>] {
        &self.checked
    }

    /// The manifest names the tables now: they stay.
    pub(crate) fn release(mut self) {
        self.finished.clear();
        self.finished_values.clear();
    }
}

impl Drop for Outputs {
    fn drop(&mut self) {
        for meta in self.finished.drain(..) {
            remove_file(&self.context, FileKind::Table, meta.id);
        }
        for meta in self.finished_values.drain(..) {
            remove_file(&self.context, FileKind::Values, meta.id);
        }
    }
}
