//! Sorted tables from outside: written beside the tree, in its directory and under its keys, and taken in by one edit of
//! the manifest. Until then nothing names them, so what a crash leaves of them is removed by the next open.

use std::collections::BTreeSet;
use std::sync::Arc;

use pugdb_core::engine::KeyRange;
use pugdb_core::{Error, Key, KeyspaceId, RawOp, Result, Seqno};

use super::{Change, Store};
use crate::manifest::Edit;
use crate::table::Access;
use crate::tree::{EntryRules, Outputs, Retention, Shelf, TableChange, Tree, sync_contents, sync_names};
use crate::{Level, PartitionMap, Trees};

/// What every entry of such a table carries. Readers see the seqno that the manifest has for the table.
const STORED_SEQNO: Seqno = Seqno(1);

/// Tables with one entry a key for the trees of a keyspace, which no manifest names. They are removed with this value, if they are
/// not taken in.
pub struct SortedTables {
    shelf: Arc<Shelf>,
    keyspace: KeyspaceId,
    /// Which of them gets a key, if there are several.
    map: Option<PartitionMap>,
    /// For each tree.
    parts: Vec<PartTables>,
    first: Option<Key>,
    last: Option<Key>,
    entries: u64,
}

/// What one tree is to get.
pub(super) struct PartTables {
    pub(super) tree: Arc<Tree>,
    pub(super) outputs: Outputs,
}

/// Makes tables durable and reads them again from disk.
pub(super) fn finish(shelf: &Shelf, parts: &mut [PartTables]) -> Result<()> {
    parts.iter_mut().try_for_each(|part| part.outputs.finish())?;
    sync_contents(parts.iter_mut().map(|part| &mut part.outputs))?;
    if parts.iter().any(|part| part.outputs.bytes() > 0) {
        sync_names(shelf)?;
    }
    // Nobody has read it yet: what is kept of it is the first to go.
    parts.iter_mut().try_for_each(|part| part.outputs.check(|_| Access::Scan))
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
        let part = self.map.as_ref().map_or(0, |map| map.route(op.key));
        self.parts[part].outputs.add(STORED_SEQNO, op, None)?;
        self.entries += 1;
        self.first.get_or_insert_with(|| key.clone());
        self.last = Some(key);
        Ok(())
    }

    /// How many entries were added.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// How long its files are, once they are finished.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.outputs.bytes()).sum()
    }

    /// Makes the tables durable and reads them again from disk.
    ///
    /// # Errors
    /// What the disk says; `Corrupt` when it does not hold what was written.
    pub fn finish(&mut self) -> Result<()> {
        finish(&self.shelf, &mut self.parts)
    }

    /// All their keys; `None` without entries.
    fn range(&self) -> Option<KeyRange> {
        let (first, last) = self.first.as_ref().zip(self.last.as_ref())?;
        Some(KeyRange::from(&**first..=&**last))
    }

    fn is_for(&self, keyspace: KeyspaceId, trees: &[Arc<Tree>]) -> bool {
        let is_there = |part: &PartTables| trees.iter().any(|tree| Arc::ptr_eq(tree, &part.tree));
        self.keyspace == keyspace && self.parts.iter().all(is_there)
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
    /// Tables to be filled beside the trees of a keyspace.
    pub fn sorted_tables(&self, keyspace: KeyspaceId, trees: &Trees) -> SortedTables {
        let map = trees.several().map(|partitions| partitions.map());
        let part = |tree: Arc<Tree>| {
            // Most of the data, and not soon to be merged.
            let separation = self.separation(&tree, BTreeSet::new());
            let rules =
                EntryRules { retention: Retention::all(), filtering: None, folding: None, separation };
            let outputs = self.outputs(&tree, Level::Bottom, rules, Vec::new());
            PartTables { tree, outputs }
        };
        let (shelf, parts) = (Arc::clone(&self.shelf), trees.all().into_iter().map(part).collect());
        SortedTables { shelf, keyspace, map, parts, first: None, last: None, entries: 0 }
    }

    /// Writes to tables what has to lie beneath `files`. Without a log it is everything: what is older than what is taken in
    /// must not be lost without it.
    ///
    /// # Errors
    /// `Invalid` when the files overlap or are another keyspace's, or its partitions are others now; as [`flush`](Self::flush).
    pub fn make_way(
        &self,
        keyspace: KeyspaceId,
        trees: &Trees,
        files: &[SortedTables],
    ) -> Result<Vec<KeyRange>> {
        let trees = trees.all();
        if files.iter().any(|file| !file.is_for(keyspace, &trees)) {
            return Err(Error::invalid(
                "a sorted file belongs to the keyspace whose writer made it, with the partitions that it had then; write it anew",
            ));
        }
        let ranges = ranges(files)?;
        let is_in_the_way = |tree: &Arc<Tree>| !tree.is_logged() || tree.holds_in_memory(&ranges);
        let in_the_way: Vec<Arc<Tree>> = trees.into_iter().filter(is_in_the_way).collect();
        if !in_the_way.is_empty() {
            self.flush_trees(in_the_way)?;
        }
        Ok(ranges)
    }

    /// Takes in files as the newest runs, every entry with the seqno `at`. Nobody may write to the trees, or be given a read
    /// point at or behind `at`, from [`make_way`](Self::make_way) on until this returns.
    ///
    /// # Errors
    /// `NotFound` when the keyspace was dropped; `Unavailable` when the disk is full or failed. Nothing is taken in then, but
    /// for a failure of the manifest, behind which that is not known.
    pub fn ingest(&self, files: Vec<SortedTables>, at: Seqno) -> Result<()> {
        let parts = files.into_iter().flat_map(|file| file.parts).collect();
        self.take_in(parts, Some(at), |_| Vec::new(), |tree, tables| tree.install_ingested(tables, at))
    }

    /// Takes in tables in one edit of the manifest, behind other edits for each tree that gets some, or could have. Their entries
    /// have the seqno `at`, or their own.
    pub(super) fn take_in(
        &self,
        parts: Vec<PartTables>,
        at: Option<Seqno>,
        before: impl Fn(&Arc<Tree>) -> Vec<Edit>,
        install: impl Fn(&Tree, &TableChange),
    ) -> Result<()> {
        let mut taken: Vec<(Arc<Tree>, TableChange)> = Vec::new();
        for part in &parts {
            let known = taken.iter().position(|(tree, _)| Arc::ptr_eq(tree, &part.tree));
            let place = known.unwrap_or_else(|| {
                taken.push((Arc::clone(&part.tree), TableChange::default()));
                taken.len() - 1
            });
            let tables = at.map_or_else(|| part.outputs.tables(0), |at| part.outputs.tables_at(0, at));
            taken[place].1.added.extend(tables);
        }
        for (tree, tables) in &mut taken {
            let run = tree.take_run_number();
            tables.added.iter_mut().for_each(|(number, _)| *number = run);
        }
        let change = |(tree, tables)| {
            let (tree, tables): (&Arc<Tree>, &TableChange) = (tree, tables);
            let edits = before(tree).into_iter().chain(tables.edits(tree.id())).collect();
            let install = || install(tree, tables);
            Change { tree, about: None, edits, flushed: None, install: Box::new(install) }
        };
        let changes: Vec<Change<'_>> = taken.iter().map(|(tree, tables)| change((tree, tables))).collect();
        let outcome = self.commit(&changes);
        let all = |is: &Vec<bool>| is.iter().all(|is| *is);
        let is_named = outcome.as_ref().map_or_else(|_| self.failure().is_some(), all);
        if is_named {
            for part in parts {
                part.outputs.release();
            }
        }
        if !all(&outcome?) {
            return Err(Error::not_found("the keyspace was dropped; get a new handle by its name"));
        }
        self.count_runs();
        self.wake();
        Ok(())
    }
}
