//! The log's records on their way back into the trees. Part of an open, behind the manifest.

use std::collections::BTreeMap;
use std::sync::Arc;

use pugdb_core::engine::EngineKind;
use pugdb_core::snapshots::Snapshots;
use pugdb_core::{Error, ErrorKind, KeyspaceId, Ops, Result, Seqno, Timestamp};
use pugdb_lsm::log::{Creation, RecordKind, ScannedRecord};
use pugdb_lsm::manifest::State;
use pugdb_lsm::store::Store;
use pugdb_lsm::{Operators, PartitionMap, Sequencer, TreeOptions, Trees};

use crate::space::{Keeper, Space};

/// What an open has read so far.
pub(super) struct Replay<'a> {
    store: &'a Arc<Store>,
    snapshots: &'a Arc<Snapshots>,
    /// Makes the engine of a keyspace that is not on disk.
    volatile: &'a dyn Fn(EngineKind) -> Keeper,
    pub(super) keyspaces: BTreeMap<KeyspaceId, Arc<Space>>,
    pub(super) sequencer: Sequencer,
    pub(super) next_keyspace: u32,
    pub(super) time: Timestamp,
    pub(super) operations: u64,
}

impl<'a> Replay<'a> {
    pub(super) fn new(
        store: &'a Arc<Store>,
        snapshots: &'a Arc<Snapshots>,
        volatile: &'a dyn Fn(EngineKind) -> Keeper,
        state: &State,
    ) -> Self {
        let mut replay = Self {
            store,
            snapshots,
            volatile,
            keyspaces: BTreeMap::new(),
            sequencer: Sequencer::starting_after(state.last_seqno),
            next_keyspace: state.next_keyspace,
            time: state.time,
            operations: 0,
        };
        for (&id, keyspace) in state.keyspaces.iter().filter(|(_, keyspace)| !keyspace.is_partition()) {
            replay.add(
                id,
                (&keyspace.name, keyspace.named),
                keyspace.engine,
                store.trees_of(id).map(Keeper::Lsm),
                &keyspace.options,
            );
        }
        replay
    }

    fn add(
        &mut self,
        id: KeyspaceId,
        name: (&str, Seqno),
        engine: EngineKind,
        keeper: Option<Keeper>,
        options: &TreeOptions,
    ) {
        let keeper = keeper.unwrap_or_else(|| (self.volatile)(engine));
        self.keyspaces.insert(id, Space::new(id, name, engine, keeper, options));
    }

    /// Refuses operators that are not those of the keyspaces, by the names that they have in the end.
    pub(super) fn check_operators(&self, operators: &Operators) -> Result<()> {
        self.keyspaces.values().try_for_each(|space| operators.check_for(&space.name(), space.operator()))
    }

    pub(super) fn record(&mut self, record: &mut ScannedRecord<'_>) -> Result<()> {
        let head = record.head.clone();
        self.time = self.time.max(head.now);
        match head.kind {
            RecordKind::Mark => return Ok(()),
            RecordKind::Batch => self.batch(record)?,
            RecordKind::CreateKeyspace => self.create(record)?,
            RecordKind::AlterKeyspace => self.alter(record)?,
            RecordKind::PartitionKeyspace => self.partition(record)?,
            RecordKind::DropKeyspace => {
                if self.keyspaces.remove(&head.subject).is_some() {
                    self.store.drop_keyspace(head.subject, head.first);
                }
            }
        }
        self.sequencer.skip_to(head.last());
        self.sequencer.relate(head.first, record.segment_first);
        self.snapshots.publish(head.last());
        if self.store.needs_flush() {
            self.store.flush_here()?;
        }
        Ok(())
    }

    fn create(&mut self, record: &mut ScannedRecord<'_>) -> Result<()> {
        let (id, at) = (record.head.subject, record.head.first);
        // The manifest knows it already, or knows that it was dropped.
        if id.0 < self.next_keyspace {
            return Ok(());
        }
        let section = match record.section(0) {
            // Nobody can read what it was. All that was written to it follows, and is passed over.
            Err(error) if error.kind() == ErrorKind::Erased => {
                self.next_keyspace = id.0 + 1;
                return Ok(());
            }
            section => section?,
        };
        let Creation { engine, options, partitions, name } = Creation::decode(&section)?;
        let trees = self.store.create(id, &name, (engine, partitions.as_ref()), options, at);
        self.add(id, (&name, at), engine, trees.map(Keeper::Lsm), &options);
        let parts = partitions.iter().flat_map(PartitionMap::ids);
        self.next_keyspace = parts.copied().fold(id, KeyspaceId::max).0 + 1;
        Ok(())
    }

    fn alter(&mut self, record: &mut ScannedRecord<'_>) -> Result<()> {
        // One that is gone was dropped later. What the manifest knows already ends as it knows it: later changes follow.
        if let Some(space) = self.keyspaces.get(&record.head.subject)
            && matches!(space.keeper, Keeper::Lsm(_))
        {
            let options = TreeOptions::decode_alone(&record.section(0)?)?;
            space.set_options(&options);
            self.store.alter(space.id, options, record.head.first);
        }
        Ok(())
    }

    fn partition(&mut self, record: &mut ScannedRecord<'_>) -> Result<()> {
        let section = match record.section(0) {
            Err(error) if error.kind() == ErrorKind::Erased => return Ok(()),
            section => section?,
        };
        let map = PartitionMap::decode_alone(&section)?;
        let next = map.ids().iter().map(|id| id.0).max().unwrap_or(0).saturating_add(1);
        self.next_keyspace = self.next_keyspace.max(next);
        // One that is gone was dropped later.
        if let Some(space) = self.keyspaces.get(&record.head.subject)
            && let Keeper::Lsm(Trees::Several(partitions)) = &space.keeper
        {
            self.store.change_partitions(partitions, &map, record.head.first)?;
        }
        Ok(())
    }

    fn batch(&mut self, record: &mut ScannedRecord<'_>) -> Result<()> {
        let mut next = record.head.first;
        for id in &record.head.truncated {
            if let Some(Keeper::Lsm(trees)) = self.keyspaces.get(id).map(|space| &space.keeper) {
                self.store.truncate(trees, next)?;
            }
            next = next.plus(1);
        }
        for (one, other) in &record.head.swapped {
            // One that is gone was dropped later, and the manifest knows of both.
            if let (Some(one), Some(other)) = (self.keyspaces.get(one), self.keyspaces.get(other))
                && one.swap_names(other, next)
            {
                let (name, other_name) = (one.name(), other.name());
                self.store.swap_names([(one.id, &name), (other.id, &other_name)], next);
            }
            next = next.plus(1);
        }
        let mut first = next;
        for (index, id) in record.keyspaces().into_iter().enumerate() {
            let count = record.head.counts[index];
            let next = first.plus(count);
            match self.keyspaces.get(&id).map(|space| &space.keeper) {
                Some(Keeper::Lsm(trees)) if trees.flushed().plus(1) < next => {
                    let ops = Ops::decode(record.section(index)?, count)?;
                    self.store.apply(trees, first, &ops)?;
                    self.operations += count;
                }
                Some(_) => {}
                // Dropped since: its bytes stay sealed.
                None if id.0 < self.next_keyspace => {}
                None => {
                    return Err(Error::corrupt(format!(
                        "the record changes keyspace {id}, which was never created"
                    )));
                }
            }
            first = next;
        }
        Ok(())
    }
}
