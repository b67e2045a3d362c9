//! What all edits so far add up to. Pure: no disk here.

use std::collections::{BTreeMap, BTreeSet};

use pugdb_core::engine::EngineKind;
use pugdb_core::memory::Floors;
use pugdb_core::{DatabaseId, Error, FileId, KeyspaceId, Result, Seqno, Timestamp};

use super::edit::{Edit, TableEntry};
use crate::TreeOptions;
use crate::log::LogState;
use crate::partition::PartitionMap;
use crate::tombstones::RangeTombstone;

/// What the manifest knows of a keyspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyspaceState {
    /// Its name.
    pub name: String,
    /// What keeps its entries.
    pub engine: EngineKind,
    /// How its new tables are made.
    pub options: TreeOptions,
    /// When it came into being.
    pub created: Seqno,
    /// Since when it has its name.
    pub named: Seqno,
    /// Everything up to here is in its tables.
    pub flushed: Seqno,
    /// Its truncations.
    pub floors: Floors,
    /// What is left of its range deletes.
    pub tombstones: Vec<RangeTombstone>,
    /// Its tables, in the order they were added.
    pub tables: Vec<TableEntry>,
    /// Which other trees hold its entries, and since when, if it is partitioned.
    pub partitions: Option<(PartitionMap, Seqno)>,
}

impl KeyspaceState {
    /// A new keyspace.
    pub fn empty(name: &str, engine: EngineKind, created: Seqno, options: TreeOptions) -> Self {
        Self {
            name: name.to_owned(),
            engine,
            options,
            created,
            named: created,
            flushed: Seqno::ZERO,
            floors: Floors::default(),
            tombstones: Vec::new(),
            tables: Vec::new(),
            partitions: None,
        }
    }

    /// True for the tree of a partition, which nobody finds by a name.
    pub fn is_partition(&self) -> bool {
        self.name.is_empty()
    }
}

/// What the manifest knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The database's identity.
    pub database: DatabaseId,
    /// The number for the next keyspace: none is used twice.
    pub next_keyspace: u32,
    /// The keyspaces that exist.
    pub keyspaces: BTreeMap<KeyspaceId, KeyspaceState>,
    /// What is known of the log.
    pub log: LogState,
    /// No seqno beyond this one was used by a table or before the last open.
    pub last_seqno: Seqno,
    /// The calendar has been here.
    pub time: Timestamp,
}

/// What a [`State`] was before some edits: of its keyspaces only those that they are about, for there may be thousands.
#[must_use = "edits that are not recorded are taken back"]
#[derive(Debug)]
pub(super) struct Undo {
    next_keyspace: u32,
    keyspaces: BTreeMap<KeyspaceId, Option<KeyspaceState>>,
    log: LogState,
    last_seqno: Seqno,
    time: Timestamp,
}

impl State {
    /// A new database.
    pub fn new(database: DatabaseId) -> Self {
        Self {
            database,
            next_keyspace: 1,
            keyspaces: BTreeMap::new(),
            log: LogState { next_segment: 1, ..LogState::default() },
            last_seqno: Seqno::ZERO,
            time: Timestamp(0),
        }
    }

    /// Takes in an edit. Edits that a replay brings a second time change nothing.
    ///
    /// # Errors
    /// `Corrupt` when it is about a keyspace or table that never was.
    pub fn apply(&mut self, edit: &Edit) -> Result<()> {
        // No log may say that these were used, and nothing of them need be in a table.
        self.last_seqno = self.last_seqno.max(edit.seqno());
        match edit {
            Edit::Log(log) => self.log = log.clone(),
            Edit::LastSeqno(_) => {}
            Edit::Time(time) => self.time = self.time.max(*time),
            Edit::NextKeyspace(next) => self.next_keyspace = self.next_keyspace.max(*next),
            Edit::Create { keyspace, name, engine, at, options } => {
                if keyspace.0 >= self.next_keyspace {
                    self.next_keyspace = keyspace.0 + 1;
                    self.keyspaces.insert(*keyspace, KeyspaceState::empty(name, *engine, *at, *options));
                }
            }
            Edit::Options { keyspace, options } => self.keyspace(*keyspace)?.options = *options,
            Edit::Rename { keyspace, name, at } => {
                let state = self.keyspace(*keyspace)?;
                (state.name, state.named) = (name.clone(), *at);
            }
            Edit::Partitions { keyspace, map, at } => {
                self.keyspace(*keyspace)?.partitions = Some((map.clone(), *at));
            }
            Edit::Drop { keyspace } => {
                self.keyspaces.remove(keyspace);
            }
            Edit::Truncate { keyspace, at } => {
                let floors = &mut self.keyspace(*keyspace)?.floors;
                floors.add(*at);
                // No snapshot outlives the process: only the newest cut counts for who reads this.
                floors.settle(Seqno::MAX);
            }
            Edit::Flushed { keyspace, seqno } => {
                let state = self.keyspace(*keyspace)?;
                state.flushed = state.flushed.max(*seqno);
            }
            Edit::RangeTombstones { keyspace, after, through, left } => {
                let tombstones = &mut self.keyspace(*keyspace)?.tombstones;
                tombstones.retain(|old| old.seqno <= *after || old.seqno > *through);
                tombstones.extend(left.iter().cloned());
            }
            Edit::AddTable { table } => {
                self.keyspace(table.meta.keyspace)?.tables.push(table.clone());
            }
            Edit::RemoveTable { keyspace, file } => {
                let position = self.position(*keyspace, *file)?;
                self.keyspace(*keyspace)?.tables.remove(position);
            }
            Edit::Quarantine { keyspace, file } => {
                let position = self.position(*keyspace, *file)?;
                self.keyspace(*keyspace)?.tables[position].quarantined = true;
            }
        }
        Ok(())
    }

    /// Takes in several edits, all or none. What it returns takes them back.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub(super) fn apply_all(&mut self, edits: &[Edit]) -> Result<Undo> {
        let about: BTreeSet<KeyspaceId> = edits.iter().filter_map(Edit::keyspace).collect();
        let before = about.into_iter().map(|id| (id, self.keyspaces.get(&id).cloned()));
        let undo = Undo {
            next_keyspace: self.next_keyspace,
            keyspaces: before.collect(),
            log: self.log.clone(),
            last_seqno: self.last_seqno,
            time: self.time,
        };
        match edits.iter().try_for_each(|edit| self.apply(edit)) {
            Ok(()) => Ok(undo),
            Err(error) => {
                self.take_back(undo);
                Err(error)
            }
        }
    }

    /// Makes what [`apply_all`](Self::apply_all) has done undone, when nothing was applied since.
    pub(super) fn take_back(&mut self, undo: Undo) {
        let Undo { next_keyspace, keyspaces, log, last_seqno, time } = undo;
        for (id, before) in keyspaces {
            match before {
                Some(state) => drop(self.keyspaces.insert(id, state)),
                None => drop(self.keyspaces.remove(&id)),
            }
        }
        (self.next_keyspace, self.log, self.last_seqno, self.time) = (next_keyspace, log, last_seqno, time);
    }

    /// Holds what it says of partitions against what there is.
    ///
    /// # Errors
    /// `Corrupt` when one is missing.
    pub(super) fn check_partitions(&self) -> Result<()> {
        for (id, state) in self.keyspaces.iter().filter(|(_, state)| state.engine == EngineKind::Partitioned)
        {
            let is_tree =
                |part: &KeyspaceId| self.keyspaces.get(part).is_some_and(KeyspaceState::is_partition);
            if state.partitions.as_ref().is_none_or(|(map, _)| !map.ids().iter().all(is_tree)) {
                return Err(Error::corrupt(format!("the manifest lacks a partition of keyspace {id}")));
            }
        }
        Ok(())
    }

    fn keyspace(&mut self, id: KeyspaceId) -> Result<&mut KeyspaceState> {
        let unknown =
            || Error::corrupt(format!("the manifest speaks of keyspace {id}, which it never created"));
        self.keyspaces.get_mut(&id).ok_or_else(unknown)
    }

    fn position(&mut self, keyspace: KeyspaceId, file: FileId) -> Result<usize> {
        let unknown = || Error::corrupt(format!("the manifest speaks of table {file}, which it never added"));
        self.keyspace(keyspace)?.tables.iter().position(|table| table.meta.id == file).ok_or_else(unknown)
    }

    /// The edits that build this state from nothing.
    pub fn snapshot(&self) -> Vec<Edit> {
        let mut edits =
            vec![Edit::Log(self.log.clone()), Edit::LastSeqno(self.last_seqno), Edit::Time(self.time)];
        for (&keyspace, state) in &self.keyspaces {
            let (name, engine, at) = (state.name.clone(), state.engine, state.created);
            edits.push(Edit::Create { keyspace, name: name.clone(), engine, at, options: state.options });
            if state.named > at {
                edits.push(Edit::Rename { keyspace, name, at: state.named });
            }
            if let Some((map, at)) = &state.partitions {
                edits.push(Edit::Partitions { keyspace, map: map.clone(), at: *at });
            }
            edits.extend(state.floors.cuts().iter().map(|&at| Edit::Truncate { keyspace, at }));
            edits.push(Edit::Flushed { keyspace, seqno: state.flushed });
            if let Some(through) = state.tombstones.iter().map(|tombstone| tombstone.seqno).max() {
                let left = state.tombstones.clone();
                edits.push(Edit::RangeTombstones { keyspace, after: Seqno::ZERO, through, left });
            }
            edits.extend(state.tables.iter().map(|table| Edit::AddTable { table: table.clone() }));
        }
        // Behind the creations, which count up too: a number that was used and dropped is not used again.
        edits.push(Edit::NextKeyspace(self.next_keyspace));
        edits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pugdb_core::KeySpan;
    use pugdb_core::engine::KeyRange;

    #[test]
    fn a_map_whose_tree_is_missing_is_corrupt() {
        let mut state = State::new(DatabaseId([1; 16]));
        let options = TreeOptions::default();
        let create = |id, name: &str, engine| Edit::Create {
            keyspace: KeyspaceId(id),
            name: name.to_owned(),
            engine,
            at: Seqno(1),
            options,
        };
        let map = PartitionMap::by_hash(2, KeyspaceId(2)).unwrap();
        state.apply(&create(1, "users", EngineKind::Partitioned)).unwrap();
        assert!(state.check_partitions().is_err(), "no map");
        state.apply(&Edit::Partitions { keyspace: KeyspaceId(1), map, at: Seqno(7) }).unwrap();
        state.apply(&create(2, "", EngineKind::Lsm)).unwrap();
        assert!(state.check_partitions().is_err(), "the second one is missing");
        let mut named = state.clone();
        named.apply(&create(3, "names", EngineKind::Lsm)).unwrap();
        assert!(named.check_partitions().is_err(), "it is somebody's own");
        state.apply(&create(3, "", EngineKind::Lsm)).unwrap();
        state.check_partitions().unwrap();
        assert_eq!(state.last_seqno, Seqno(7));
        let mut again = State::new(DatabaseId([1; 16]));
        state.snapshot().iter().for_each(|edit| again.apply(edit).unwrap());
        assert_eq!(again, state);
    }

    #[test]
    fn range_tombstones_replace_those_of_their_window_and_are_in_the_snapshot() {
        let keyspace = KeyspaceId(1);
        let one =
            |seqno: u64| RangeTombstone { span: KeySpan::of(&KeyRange::all()).unwrap(), seqno: Seqno(seqno) };
        let edit = |after, through, left: &[u64]| Edit::RangeTombstones {
            keyspace,
            after: Seqno(after),
            through: Seqno(through),
            left: left.iter().copied().map(one).collect(),
        };
        let mut state = State::new(DatabaseId([1; 16]));
        let (name, engine, options) = ("a".to_owned(), EngineKind::Lsm, TreeOptions::default());
        state.apply(&Edit::Create { keyspace, name, engine, at: Seqno(1), options }).unwrap();
        let seqnos = |state: &State| {
            let mut seqnos: Vec<u64> =
                state.keyspaces[&keyspace].tombstones.iter().map(|one| one.seqno.0).collect();
            seqnos.sort_unstable();
            seqnos
        };
        for (change, left) in [
            (edit(1, 9, &[3, 5, 9]), &[3, 5, 9][..]),
            // A flush that is recorded a second time, the next one, and what compaction has done away with.
            (edit(1, 9, &[3, 5, 9]), &[3, 5, 9]),
            (edit(9, 20, &[12]), &[3, 5, 9, 12]),
            (edit(0, 9, &[5]), &[5, 12]),
        ] {
            state.apply(&change).unwrap();
            assert_eq!(seqnos(&state), left);
        }
        assert_eq!(state.last_seqno, Seqno(12), "no operation may come below a range delete again");
        let mut again = State::new(DatabaseId([1; 16]));
        state.snapshot().iter().for_each(|edit| again.apply(edit).unwrap());
        assert_eq!(again, state);
    }
}
