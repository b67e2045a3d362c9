//! Keyspaces come, change and go: the trees at once, the manifest with its next edit.

use std::sync::Arc;

use pugdb_core::engine::{Engine, EngineKind};
use pugdb_core::{KeyspaceId, Ops, Result, Seqno};

use super::Store;
use crate::TreeOptions;
use crate::manifest::{Edit, KeyspaceState};
use crate::partition::{KeyspaceView, PartitionMap, Partitions, Trees};
use crate::tree::Tree;

impl Store {
    /// The tree of a keyspace that has one, or of a partition.
    pub fn tree(&self, keyspace: KeyspaceId) -> Option<Arc<Tree>> {
        self.trees.read().get(&keyspace).cloned()
    }

    /// The trees of a keyspace.
    pub fn trees_of(&self, keyspace: KeyspaceId) -> Option<Trees> {
        let partitions = self.partitioned.read().get(&keyspace).cloned().map(Trees::Several);
        partitions.or_else(|| self.tree(keyspace).map(Trees::One))
    }

    /// Of each keyspace whose entries can go without a commit, what a snapshot has to keep. Ask behind the taking of its seqno.
    pub fn filtered_views(&self) -> Vec<(KeyspaceId, KeyspaceView)> {
        if self.filters.is_empty() {
            return Vec::new();
        }
        let several = self.partitioned.read();
        let of_several = several.iter().filter_map(|(&id, partitions)| {
            Some((id, KeyspaceView::Partitions(partitions.filtered_view()?)))
        });
        let trees = self.trees.read();
        let of_one =
            trees.iter().filter_map(|(&id, tree)| Some((id, KeyspaceView::Tree(tree.filtered_view()?))));
        of_one.chain(of_several).collect()
    }

    /// A keyspace comes into being: `None` when its engine keeps it in memory. `partitions` says which trees hold it that is to
    /// have several. A replayed creation changes nothing.
    pub fn create(
        &self,
        id: KeyspaceId,
        name: &str,
        (engine, partitions): (EngineKind, Option<&PartitionMap>),
        options: TreeOptions,
        at: Seqno,
    ) -> Option<Trees> {
        let mut edits = vec![create_edit(id, name, engine, options, at)];
        let trees = match (engine, partitions) {
            (EngineKind::Partitioned, Some(map)) => {
                for &part in map.ids() {
                    edits.push(create_edit(part, "", EngineKind::Lsm, options, at));
                }
                edits.push(Edit::Partitions { keyspace: id, map: map.clone(), at });
                let trees = map.ids().iter().map(|&part| self.plant(part, name, options, at)).collect();
                let partitions = Partitions::new(id, map.clone(), at, trees);
                self.partitioned.write().insert(id, Arc::clone(&partitions));
                Some(Trees::Several(partitions))
            }
            (EngineKind::Lsm | EngineKind::Partitioned, _) => {
                Some(Trees::One(self.plant(id, name, options, at)))
            }
            (EngineKind::Btree | EngineKind::Hash, _) => None,
        };
        self.pending.lock().extend(edits.into_iter().map(|edit| (at, edit)));
        self.wake();
        trees
    }

    /// A new tree, of a keyspace of this name.
    pub(super) fn plant(&self, id: KeyspaceId, name: &str, options: TreeOptions, at: Seqno) -> Arc<Tree> {
        let state = KeyspaceState::empty(name, EngineKind::Lsm, at, options);
        let tree = Tree::new(&self.shelf, &self.snapshots, id, &state);
        tree.set_filter(self.filters.of(name, at));
        tree.set_options(options, &self.operators);
        self.trees.write().insert(id, Arc::clone(&tree));
        tree
    }

    /// A keyspace ends. Readers with older snapshots keep its trees.
    pub fn drop_keyspace(&self, id: KeyspaceId, at: Seqno) {
        let partitions = self.partitioned.write().remove(&id);
        let parts = partitions.map_or_else(Vec::new, |partitions| partitions.trees());
        let ids: Vec<KeyspaceId> = parts.iter().map(|tree| tree.id()).chain([id]).collect();
        for &tree in &ids {
            self.fell(tree);
        }
        self.pending.lock().extend(ids.into_iter().map(|keyspace| (at, Edit::Drop { keyspace })));
        self.wake();
    }

    /// Records the changes of keyspaces that wait for the next edit: nothing is written any more about those that were dropped.
    ///
    /// # Errors
    /// What the disk says.
    pub fn record_changes(&self) -> Result<()> {
        self.commit(&[]).map(drop)
    }

    /// A new tree is not wanted after all. The manifest has not heard of it.
    pub(super) fn uproot(&self, id: KeyspaceId) {
        if let Some(tree) = self.trees.write().remove(&id) {
            tree.mark_dropped();
        }
    }

    /// Nobody writes to this tree any more.
    pub(super) fn fell(&self, id: KeyspaceId) {
        let Some(tree) = self.tree(id) else { return };
        // First: who looks for all trees finds it in one place or the other.
        self.dropped.lock().insert(id, Arc::clone(&tree));
        self.trees.write().remove(&id);
        tree.mark_dropped();
        for memtable in &tree.version().memtables {
            self.forget_bytes(memtable.forget());
        }
        self.count_runs();
    }

    /// Two keyspaces have exchanged their names: here are the new ones.
    pub fn swap_names(&self, names: [(KeyspaceId, &str); 2], at: Seqno) {
        for (keyspace, name) in names {
            for tree in self.trees_of(keyspace).iter().flat_map(Trees::all) {
                tree.set_filter(self.filters.of(name, at));
            }
        }
        let rename =
            |(keyspace, name): (KeyspaceId, &str)| (at, Edit::Rename { keyspace, name: name.to_owned(), at });
        self.pending.lock().extend(names.map(rename));
        self.wake();
    }

    /// A keyspace's tables are made like this from now on.
    pub fn alter(&self, keyspace: KeyspaceId, options: TreeOptions, at: Seqno) {
        let trees = self.trees_of(keyspace).map_or_else(Vec::new, |trees| trees.all());
        for tree in &trees {
            tree.set_options(options, &self.operators);
        }
        let ids = trees.iter().map(|tree| tree.id()).filter(|id| *id != keyspace).chain([keyspace]);
        self.pending.lock().extend(ids.map(|keyspace| (at, Edit::Options { keyspace, options })));
        self.wake();
    }

    /// Operations on a keyspace, in the order of the log. Write path, step 5.
    ///
    /// # Errors
    /// As [`Engine::apply`].
    pub fn apply(&self, trees: &Trees, first: Seqno, ops: &Ops) -> Result<()> {
        trees.apply_counted(first, ops, &mut |tree, bytes| self.applied(tree, bytes))
    }

    /// A keyspace forgets everything before `at`.
    ///
    /// # Errors
    /// As [`Engine::truncate`].
    pub fn truncate(&self, trees: &Trees, at: Seqno) -> Result<()> {
        for tree in trees.all() {
            // First: a flush that leaves away what is truncated records the truncation with it. There may be no log to tell.
            self.pending.lock().push((at, Edit::Truncate { keyspace: tree.id(), at }));
            tree.truncate(at)?;
            tree.settle_floors(self.snapshots.horizon());
        }
        // Tables that hold nothing newer can go.
        self.wake();
        Ok(())
    }
}

fn create_edit(
    keyspace: KeyspaceId,
    name: &str,
    engine: EngineKind,
    options: TreeOptions,
    at: Seqno,
) -> Edit {
    Edit::Create { keyspace, name: name.to_owned(), engine, at, options }
}
