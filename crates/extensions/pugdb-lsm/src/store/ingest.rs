//! Sorted tables from outside: written beside the tree, in its directory and under its keys, and taken in by one edit of
//! the manifest. Until then nothing names them, so what a crash leaves of them is removed by the next open.

use std::collections::BTreeSet;
use std::sync::Arc;

use pugdb_core::engine::KeyRange;
use pugdb_core::{Error, Key, KeyspaceId, RawOp, Result, Seqno};

use super::{Change, Store};
use crate::Level;
use crate::table::Access;
use crate::tree::{EntryRules, Outputs, Retention, Shelf, TableChange, Tree, sync_contents, sync_names};

/// What every entry of such a table carries. Readers see the seqno that the manifest has for the table.
const STORED_SEQNO: Seqno = Seqno(1);

/// Tables with one entry a key, which no manifest names. They are removed with this value, if they are not taken in.
pub struct SortedTables {
    shelf: Arc<Shelf>,
    keyspace: KeyspaceId,
    outputs: Outputs,
    first: Option<Key>,
    last: Option<Key>,
    entries: u64,
}

impl SortedTables {
    /// Appends an entry.
    ///
    /// # Errors
    /// `Invalid` when its key is not larger than the one before, what the disk says. The tables are of no use after an
    /// error of the disk.
    pub fn add(&mut self, op: &RawOp<'_>) -> Result<()> {
        if self.last.as_ref().is_some_and(|last| **last >= *op.key) {
            return Err(Error::invalid("the keys of a sorted file ascend, each once"));
        }
        let key = Key::copy(op.key)?;
        self.outputs.add(STORED_SEQNO, op, None)?;
        self.entries += 1;
        self.first.get_or_insert_with(|| key.clone());
        self.last = Some(key);
        Ok(())
    }

    /// How many entries were added.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Makes the tables durable and reads them again from disk.
    ///
    /// # Errors
    /// What the disk says; `Corrupt` when it does not hold what was written.
    pub fn finish(&mut self) -> Result<()> {
        self.outputs.finish()?;
        sync_contents([&mut self.outputs].into_iter())?;
        if self.outputs.bytes() > 0 {
            sync_names(&self.shelf)?;
        }
        // Nobody has read it yet: what is kept of it is the first to go.
        self.outputs.check(|_| Access::Scan)
    }

    /// All their keys; `None` without entries.
    fn range(&self) -> Option<KeyRange> {
        let (first, last) = self.first.as_ref().zip(self.last.as_ref())?;
        Some(KeyRange::from(&**first..=&**last))
    }
}

/// The ranges of files that are taken in together, in order.
///
/// # Errors
/// `Invalid` when two of them overlap.
pub(super) fn ranges(files: &[SortedTables]) -> Result<Vec<KeyRange>> {
    let mut bounds: Vec<(&Key, &Key)> =
        files.iter().filter_map(|file| file.first.as_ref().zip(file.last.as_ref())).collect();
    bounds.sort_unstable();
    if bounds.windows(2).any(|pair| pair[0].1 >= pair[1].0) {
        return Err(Error::invalid("two sorted files have keys of the same range; write them as one"));
    }
    Ok(files.iter().filter_map(SortedTables::range).collect())
}

impl Store {
    /// Tables to be filled beside a tree.
    pub fn sorted_tables(&self, tree: &Tree) -> SortedTables {
        // Most of the data, and not soon to be merged.
        let separation = self.separation(tree, BTreeSet::new());
        let rules = EntryRules { retention: Retention::all(), filtering: None, folding: None, separation };
        let outputs = self.outputs(tree, Level::Bottom, rules, Vec::new());
        let shelf = Arc::clone(&self.shelf);
        SortedTables { shelf, keyspace: tree.id(), outputs, first: None, last: None, entries: 0 }
    }

    /// Writes to tables what has to lie beneath `files`. Without a log it is everything: what is older than what is taken in
    /// must not be lost without it.
    ///
    /// # Errors
    /// `Invalid` when the files overlap or are another keyspace's; as [`flush`](Self::flush).
    pub fn make_way(&self, tree: &Arc<Tree>, files: &[SortedTables]) -> Result<Vec<KeyRange>> {
        if files.iter().any(|file| file.keyspace != tree.id()) {
            return Err(Error::invalid("a sorted file belongs to the keyspace whose writer made it"));
        }
        let ranges = ranges(files)?;
        if !tree.is_logged() || tree.holds_in_memory(&ranges) {
            self.flush_trees(vec![Arc::clone(tree)])?;
        }
        Ok(ranges)
    }

    /// Takes in files as the newest run, every entry with the seqno `at`. Nobody may write to the tree, or be given a read
    /// point at or behind `at`, from [`make_way`](Self::make_way) on until this returns.
    ///
    /// # Errors
    /// `NotFound` when the keyspace was dropped; `Unavailable` when the disk is full or failed. Nothing is taken in then, but
    /// for a failure of the manifest, behind which that is not known.
    pub fn ingest(&self, tree: &Arc<Tree>, files: Vec<SortedTables>, at: Seqno) -> Result<()> {
        let run = tree.take_run_number();
        let added = files.iter().flat_map(|file| file.outputs.tables_at(run, at)).collect();
        let tables = TableChange { removed: Vec::new(), added };
        let install = || tree.install_ingested(&tables, at);
        let edits = tables.edits(tree.id());
        let change = Change { tree, about: None, edits, flushed: None, install: Box::new(install) };
        let outcome = self.commit(&[change]);
        let is_named = outcome.as_ref().map_or_else(|_| self.failure().is_some(), |is| *is == [true]);
        if is_named {
            for file in files {
                file.outputs.release();
            }
        }
        if outcome? != [true] {
            return Err(Error::not_found("the keyspace was dropped; get a new handle by its name"));
        }
        self.count_runs();
        self.wake();
        Ok(())
    }
}
