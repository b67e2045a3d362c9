//! Partitions are split and merged: what they hold is written anew to other trees, beside those that readers see, and then the map
//! changes in one step of the log.
//!
//! | step | what | what a crash leaves |
//! |---|---|---|
//! | 1 flush | the partitions that are to go, so that all is in tables | |
//! | 2 copy | what is newest in them, into tables of the new trees, as a merge does it | files that nothing names |
//! | 3 record | new trees and their tables, in one edit of the manifest | trees that no map names: the next open drops them |
//! | 4 log | the new map, under a seqno | before: the old map; behind: the new one |
//! | 5 change | readers of that seqno and later see the new trees, the others the old ones | |
//! | 6 forget | the old trees, with the next edit of the manifest | the log says it again |
//!
//! Nobody commits meanwhile.

use std::sync::Arc;

use pugdb_core::engine::EngineKind;
use pugdb_core::{Error, KeyspaceId, Result, Seqno};

use super::Store;
use super::compaction::views;
use super::ingest::{PartTables, finish};
use super::merge::Merge;
use super::pick::files_of;
use crate::Level;
use crate::manifest::Edit;
use crate::partition::{PartitionMap, Partitions};
use crate::table::Peek;
use crate::tombstones::Tombstones;
use crate::tree::{Cover, EntryRules, Retention, Tree, Version};
use crate::values::Separation;

/// How many versions are copied between two looks at whether it is still wanted.
const STEP_ENTRIES: usize = 1024;

/// New trees that are being filled. Dropped before it is recorded, it leaves nothing.
pub struct Repartition<'a> {
    store: &'a Store,
    map: PartitionMap,
    merge: Merge,
    /// Keep the files that are read.
    _versions: Vec<Arc<Version>>,
    /// What the map says of the new trees alone.
    beside: PartitionMap,
    /// What the new trees get; empty when it was taken in, or given up.
    parts: Vec<PartTables>,
    /// Those that the map before did not have.
    new: Vec<KeyspaceId>,
    read: u64,
    is_recorded: bool,
}

impl Repartition<'_> {
    /// Copies a little. True when there is more.
    ///
    /// # Errors
    /// What the disk says; `Corrupt` when what is to be copied is damaged.
    pub fn step(&mut self) -> Result<bool> {
        for _ in 0..STEP_ENTRIES {
            let Some(Peek { seqno, op, apart }) = self.merge.next().map_err(|damage| damage.error)? else {
                return Ok(false);
            };
            let part = self.beside.route(op.key);
            self.parts[part].outputs.add(seqno, &op, apart)?;
            self.read += 1;
        }
        Ok(true)
    }

    /// How many versions of entries were read.
    pub fn read(&self) -> u64 {
        self.read
    }

    /// The map that there will be.
    pub fn map(&self) -> &PartitionMap {
        &self.map
    }

    /// Makes the tables durable and records them: nothing up to `at` is to come to the new trees any more.
    ///
    /// # Errors
    /// As [`Store::ingest`].
    pub fn record(&mut self, at: Seqno) -> Result<()> {
        let mut parts = std::mem::take(&mut self.parts);
        finish(&self.store.shelf, &mut parts)?;
        let edits = |tree: &Arc<Tree>| {
            let (keyspace, options) = (tree.id(), tree.options());
            let create = Edit::Create { keyspace, name: String::new(), engine: EngineKind::Lsm, at, options };
            vec![create, Edit::Flushed { keyspace, seqno: at }]
        };
        self.store.take_in(parts, None, edits, |tree, tables| tree.install_copied(tables, at))?;
        self.is_recorded = true;
        Ok(())
    }
}

impl Drop for Repartition<'_> {
    fn drop(&mut self) {
        if !self.is_recorded {
            for &id in &self.new {
                self.store.uproot(id);
            }
        }
    }
}

impl Store {
    /// Begins to write the partitions anew that `map` does not have: `partitions` are those of the keyspace of this name. Nobody may
    /// write to them from here on until the map has changed.
    ///
    /// # Errors
    /// As [`flush`](Self::flush); `Corrupt` when a table is damaged.
    pub fn repartition<'a>(
        &'a self,
        partitions: &Partitions,
        name: &str,
        map: PartitionMap,
    ) -> Result<Repartition<'a>> {
        let old: Vec<Arc<Tree>> =
            partitions.trees().into_iter().filter(|tree| !map.ids().contains(&tree.id())).collect();
        self.flush_trees(old.clone())?;
        let versions: Vec<Arc<Version>> = old.iter().map(|tree| tree.version()).collect();
        let known = partitions.map();
        let new: Vec<KeyspaceId> = map.ids().iter().copied().filter(|id| !known.ids().contains(id)).collect();
        let beside = map.only(&new)?;

        // No value stays in a file of a tree that goes.
        let collected =
            versions.iter().flat_map(|version| files_of(&views(version, Seqno::ZERO, Seqno::ZERO)));
        let options = partitions.any().options();
        let separation = Arc::new(Separation {
            bytes_min: options.separate_values,
            compression: options.bottom,
            sealing: options.sealing,
            file_bytes: self.options.table_bytes,
            collected: collected.map(|(file, _)| file).collect(),
        });
        let inputs = versions.iter().flat_map(|version| version.runs.iter().map(|run| run.tables.clone()));
        let merge = Merge::new(&inputs.collect::<Vec<_>>(), None, &separation)?;
        let rules = || EntryRules {
            retention: self.newest_of(&versions),
            filtering: None,
            folding: old.first().and_then(|tree| tree.folding()),
            separation: Arc::clone(&separation),
        };
        let part = |&id: &KeyspaceId| {
            let tree = self.plant(id, name, options, Seqno::ZERO);
            let outputs = self.outputs(&tree, Level::Bottom, rules(), Vec::new());
            PartTables { tree, outputs }
        };
        let parts = new.iter().map(part).collect();
        Ok(Repartition {
            store: self,
            map,
            merge,
            _versions: versions,
            beside,
            parts,
            new,
            read: 0,
            is_recorded: false,
        })
    }

    /// What is newest of each key stays, as if nobody read what was before: those who do read the old trees. What truncations and range
    /// deletes hide in one of them they hide in all.
    fn newest_of(&self, versions: &[Arc<Version>]) -> Retention {
        let floor = versions.iter().map(|version| version.floors.at(Seqno::MAX)).max().unwrap_or_default();
        let newest = self.snapshots.visible();
        let tombstones = versions.iter().flat_map(|version| version.tombstones.iter());
        let cover = Cover::new(Tombstones::of(tombstones, &[]), newest, newest);
        Retention::new((newest, floor), cover, self.expired(), true)
    }

    /// The map of a keyspace is this one from `at` on: the log says so. A replayed change changes nothing.
    ///
    /// # Errors
    /// `Corrupt` when one of its trees is missing.
    pub fn change_partitions(&self, partitions: &Partitions, map: &PartitionMap, at: Seqno) -> Result<()> {
        let keyspace = partitions.id();
        if partitions.is_known(at) {
            return Ok(());
        }
        let trees: Option<Vec<Arc<Tree>>> = map.ids().iter().map(|&id| self.tree(id)).collect();
        let missing = || {
            Error::corrupt(format!("the log speaks of a partition of keyspace {keyspace} that is missing"))
        };
        let old = partitions.map();
        partitions.change(map.clone(), at, trees.ok_or_else(missing)?);
        let gone: Vec<KeyspaceId> = old.ids().iter().copied().filter(|id| !map.ids().contains(id)).collect();
        for &id in &gone {
            self.fell(id);
        }
        let drops = gone.into_iter().map(|keyspace| Edit::Drop { keyspace });
        let edits = std::iter::once(Edit::Partitions { keyspace, map: map.clone(), at }).chain(drops);
        self.pending.lock().extend(edits.map(|edit| (at, edit)));
        self.wake();
        Ok(())
    }

    /// Drops trees that belong to no keyspace: a change of partitions that a crash has cut before the log knew of it. For the time
    /// behind a replay.
    pub fn drop_orphans(&self, at: Seqno) {
        let known: Vec<KeyspaceId> = {
            let partitioned = self.partitioned.read();
            partitioned.values().flat_map(|partitions| partitions.map().ids().to_vec()).collect()
        };
        let nameless: Vec<KeyspaceId> = {
            let manifest = self.manifest.lock();
            let keyspaces = &manifest.state().keyspaces;
            keyspaces.iter().filter(|(_, state)| state.is_partition()).map(|(id, _)| *id).collect()
        };
        for keyspace in nameless.into_iter().filter(|id| !known.contains(id)) {
            // One whose drop was replayed is felled already, and to drop it twice changes nothing.
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
