//! Partitions are split and merged: what they hold is written anew to other trees, beside those that readers see, and then the map
//! changes in one step of the log.
//!
//! | step | what | what a crash leaves |
//! |---|---|---|
//! | 1 copy | the entries that are seen now, into tables of the new trees | files that nothing names |
//! | 2 record | new trees and their tables, in one edit of the manifest | trees that no map names: the next open drops them |
//! | 3 log | the new map, under a seqno | before: the old map; behind: the new one |
//! | 4 change | readers of that seqno and later see the new trees, the others the old ones | |
//! | 5 forget | the old trees, with the next edit of the manifest | the log says it again |
//!
//! Nobody commits meanwhile.

use std::sync::Arc;

use pugdb_core::engine::{BatchSize, Cursor, EngineKind, Entries, ReadPoint};
use pugdb_core::{Error, KeyspaceId, Result, Seqno};

use super::{SortedTables, Store};
use crate::manifest::Edit;
use crate::partition::{PartitionMap, Partitions};
use crate::tree::Tree;

/// What is copied between two looks at whether it is still wanted.
const STEP: BatchSize = BatchSize { entries: 1024, bytes: 1 << 20 };

/// New trees that are being filled. Dropped before it is recorded, it leaves nothing.
pub struct Repartition<'a> {
    store: &'a Store,
    map: PartitionMap,
    /// Those that the map before did not have.
    new: Vec<Arc<Tree>>,
    from: Box<dyn Cursor>,
    batch: Entries,
    /// `None` when they were taken in, or given up.
    tables: Option<SortedTables>,
    copied: u64,
    is_recorded: bool,
}

impl Repartition<'_> {
    /// Copies a little. True when there is more.
    ///
    /// # Errors
    /// What the disk says; `Corrupt` when what is to be copied is damaged.
    pub fn step(&mut self) -> Result<bool> {
        self.batch.clear();
        self.from.fill(STEP, &mut self.batch)?;
        let Some(tables) = &mut self.tables else { return Ok(false) };
        for number in 0..self.batch.len() {
            let Some((_, op)) = self.batch.get(number) else { break };
            tables.add(&op)?;
        }
        self.copied += self.batch.len() as u64;
        Ok(!self.batch.is_empty())
    }

    /// How many entries were copied.
    pub fn copied(&self) -> u64 {
        self.copied
    }

    /// The map that there will be.
    pub fn map(&self) -> &PartitionMap {
        &self.map
    }

    /// Makes the tables durable and records them, every entry with the seqno `at`.
    ///
    /// # Errors
    /// As [`Store::ingest`].
    pub fn record(&mut self, at: Seqno) -> Result<()> {
        let Some(mut tables) = self.tables.take() else { return Ok(()) };
        tables.finish()?;
        let edits = |tree: &Arc<Tree>| {
            let (keyspace, options) = (tree.id(), tree.options());
            let create = Edit::Create { keyspace, name: String::new(), engine: EngineKind::Lsm, at, options };
            vec![create, Edit::Flushed { keyspace, seqno: at }]
        };
        self.store.take_in(vec![tables], at, edits, |tree, tables| tree.install_copied(tables, at))?;
        self.is_recorded = true;
        Ok(())
    }
}

impl Drop for Repartition<'_> {
    fn drop(&mut self) {
        if !self.is_recorded {
            self.new.iter().for_each(|tree| self.store.uproot(tree.id()));
        }
    }
}

impl Store {
    /// Begins to write the partitions anew that `map` does not have: `partitions` are those of the keyspace of this name, and what is
    /// copied is what a reader at `point` sees.
    ///
    /// # Errors
    /// Those of the scan.
    pub fn repartition<'a>(
        &'a self,
        partitions: &Partitions,
        name: &str,
        map: PartitionMap,
        point: ReadPoint,
    ) -> Result<Repartition<'a>> {
        let old = partitions.map();
        let options = partitions.any().options();
        let is_new = |id: &KeyspaceId| !old.ids().contains(id);
        let from = partitions.scan_some(|id| !map.ids().contains(&id), point)?;
        let new: Vec<Arc<Tree>> = map
            .ids()
            .iter()
            .filter(|id| is_new(id))
            .map(|&id| self.plant(id, name, options, Seqno::ZERO))
            .collect();
        let beside = map.only(&new.iter().map(|tree| tree.id()).collect::<Vec<_>>())?;
        let tables = self.tables_beside(partitions.id(), Some(beside), new.clone());
        let (batch, tables) = (Entries::default(), Some(tables));
        Ok(Repartition { store: self, map, new, from, batch, tables, copied: 0, is_recorded: false })
    }

    /// The map of a keyspace is this one from `at` on: the log says so. A replayed change changes nothing.
    ///
    /// # Errors
    /// `Corrupt` when one of its trees is missing.
    pub fn change_partitions(&self, partitions: &Partitions, map: &PartitionMap, at: Seqno) -> Result<()> {
        let keyspace = partitions.id();
        let trees: Option<Vec<Arc<Tree>>> = map.ids().iter().map(|&id| self.tree(id)).collect();
        if partitions.is_known(at) {
            return Ok(());
        }
        let missing = || {
            Error::corrupt(format!("the log speaks of a partition of keyspace {keyspace} that is missing"))
        };
        let old = partitions.map();
        partitions.change(map.clone(), at, trees.ok_or_else(missing)?);
        let gone: Vec<KeyspaceId> = old.ids().iter().copied().filter(|id| !map.ids().contains(id)).collect();
        gone.iter().for_each(|&id| self.fell(id));
        let drops = gone.into_iter().map(|keyspace| Edit::Drop { keyspace });
        let edits = std::iter::once(Edit::Partitions { keyspace, map: map.clone(), at }).chain(drops);
        self.pending.lock().extend(edits.map(|edit| (at, edit)));
        self.wake();
        Ok(())
    }

    /// Drops trees that belong to no keyspace: a change of partitions that a crash has cut before the log knew of it. For the time
    /// behind a replay.
    pub fn drop_orphans(&self, at: Seqno) {
        let known: Vec<KeyspaceId> =
            self.partitioned.read().values().flat_map(|partitions| partitions.map().ids().to_vec()).collect();
        let nameless: Vec<KeyspaceId> = {
            let manifest = self.manifest.lock();
            let keyspaces = &manifest.state().keyspaces;
            keyspaces.iter().filter(|(_, state)| state.is_partition()).map(|(id, _)| *id).collect()
        };
        for keyspace in nameless.into_iter().filter(|id| !known.contains(id)) {
            // One whose drop was replayed is felled already, and dropping it twice changes nothing.
            self.fell(keyspace);
            self.pending.lock().push((at, Edit::Drop { keyspace }));
        }
    }

    /// What readers from before a change of partitions needed can go, when none is left.
    pub fn settle_partitions(&self) {
        let horizon = self.snapshots.horizon();
        self.partitioned.read().values().for_each(|partitions| partitions.settle(horizon));
    }
}
