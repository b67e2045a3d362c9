//! The compaction job: merges runs, a piece at a time and a slice at a time. Inputs go only when the outputs were read
//! again and recorded. It wakes by itself when entries have expired that nobody can read any more, and when it has grown
//! quiet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pugdb_core::env::{Job, Next};
use pugdb_core::{ErrorKind, FileId, KeyspaceId, Result, Seqno, Timestamp};

use super::manual::{Manual, Rules};
use super::merge::{Damage, Merge};
use super::pick::{Piece, Place, Round, RunView, Situation, TableView, Work, collected, next_moment, pick};
use super::{Change, HELD_RETRY, Store};
use crate::Level;
use crate::manifest::Edit;
use crate::table::{Access, Peek};
use crate::tombstones::Tombstones;
use crate::tree::{
    EntryRules, Filtering, LiveTable, Outputs, Retention, Run, TableChange, Tree, Version, sync_contents,
    sync_names,
};

/// Entries merged in one slice.
const SLICE_ENTRIES: usize = 2048;
/// After trouble the compaction is begun anew this much later.
const BACK_OFF: Duration = Duration::from_millis(500);

pub(super) struct CompactionJob {
    store: Arc<Store>,
    task: Option<Box<Task>>,
    /// Merges under way that go on with another piece, each of newer runs than those before it.
    rounds: BTreeMap<KeyspaceId, Vec<Round>>,
    /// What somebody waits for.
    manual: Option<Manual>,
}

/// A piece of a merge.
struct Task {
    tree: Arc<Tree>,
    inputs: Vec<Arc<LiveTable>>,
    /// What becomes of tables, without what is written.
    tables: TableChange,
    /// The number of the run that takes in what is written.
    target: u64,
    merge: Merge,
    outputs: Outputs,
    stage: Stage,
}

enum Stage {
    Write,
    Check,
    Record,
}

/// What the picker is told of the runs, of which everything up to `floor` is truncated away for every reader, and range deletes
/// up to `deleted` count: nothing that would have to be read.
pub(super) fn views(version: &Version, floor: Seqno, deleted: Seqno) -> Vec<RunView> {
    version.runs.iter().map(|run| view(run, &version.tombstones, floor, deleted)).collect()
}

fn view(run: &Run, tombstones: &Tombstones, floor: Seqno, deleted: Seqno) -> RunView {
    let table = |live: &Arc<LiveTable>| {
        let meta = live.meta();
        let is_dead = meta.entries == meta.deletes.saturating_add(meta.expiries.entries);
        let dead_at = is_dead.then(|| meta.expiries.last().unwrap_or_default());
        let is_truncated = live.newest() <= floor;
        let stored = |&(at, bytes): &(Timestamp, u64)| (at, meta.stored_part(bytes));
        TableView {
            bytes: meta.bytes,
            entries: meta.entries,
            deletes: meta.deletes,
            older: meta.entries.saturating_sub(meta.keys),
            bounds: live.bounds().clone(),
            is_quarantined: live.is_quarantined(),
            dead_at: if is_truncated { Some(Timestamp(0)) } else { dead_at },
            // Weighed against lengths of files, which may be compressed.
            expiries: meta.expiries.steps().iter().map(stored).collect(),
            is_covered: live.is_covered(tombstones, deleted),
            covered: live.covered_bytes(tombstones, deleted),
            values: meta.values.clone(),
        }
    };
    RunView { number: run.number, tables: run.tables.iter().map(table).collect() }
}

fn live((run, table): Place, version: &Version) -> Arc<LiveTable> {
    Arc::clone(&version.runs[run].tables[table])
}

impl CompactionJob {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { store, task: None, rounds: BTreeMap::new(), manual: None }
    }

    /// Does one slice. Says when to look again if there is nothing to do.
    fn step(&mut self) -> Result<Next> {
        let mut task = match self.task.take() {
            Some(task) => task,
            None => match self.next_task()? {
                Ok(task) => task,
                Err(next) => return Ok(next),
            },
        };
        if task.tree.is_dropped() || !task.has_its_filter() {
            return Ok(Next::Again);
        }
        match task.stage {
            Stage::Write => match task.merge_slice() {
                Ok(true) => {}
                Ok(false) => task.stage = Stage::Check,
                Err(Damage { file: Some(file), error }) if error.kind() == ErrorKind::Corrupt => {
                    self.quarantine(&task, file)?;
                    return Ok(Next::Again);
                }
                Err(Damage { error, .. }) => return Err(error),
            },
            Stage::Check => {
                task.outputs.finish()?;
                sync_contents([&mut task.outputs].into_iter())?;
                sync_names(&self.store.shelf)?;
                let inputs = &task.inputs;
                task.outputs.check(|key| warmth(inputs, key))?;
                let has_panicked = task.outputs.filtering().is_some_and(|filtering| filtering.has_panicked);
                self.store.counters.filter_panics.fetch_add(u64::from(has_panicked), Ordering::Relaxed);
                self.store.count_operator_failures(&task.outputs);
                task.stage = Stage::Record;
            }
            Stage::Record => {
                self.record(*task)?;
                return Ok(Next::Again);
            }
        }
        self.task = Some(task);
        Ok(Next::Again)
    }

    /// What to do next; if there is nothing, when to look again though nothing is written.
    fn next_task(&mut self) -> Result<Result<Box<Task>, Next>> {
        if let Some(task) = self.manual_task()? {
            return Ok(Ok(task));
        }
        let store = Arc::clone(&self.store);
        let (expired, quiet_at) = (store.expired(), store.quiet_at());
        let now = store.context.env.clock.monotonic();
        let is_quiet = quiet_at <= now;
        let (mut moment, mut waits_for_quiet, mut is_held) = (None::<Timestamp>, false, false);
        let trees: Vec<Arc<Tree>> = store.trees.read().values().cloned().collect();
        self.rounds.retain(|id, _| store.tree(*id).is_some());
        for tree in trees {
            let version = tree.version();
            // Most of many keyspaces: there must be no cost to them.
            if version.runs.is_empty() && version.tombstones.is_empty() {
                continue;
            }
            let horizon = store.snapshots.horizon();
            if self.forget_tombstones(&tree, &version, horizon, is_quiet)? {
                return Ok(Err(Next::Again));
            }
            let runs = views(&version, version.floors.at(horizon), tree.deleted_through(&version, horizon));
            let mut rounds = self.rounds.remove(&tree.id()).unwrap_or_default();
            rounds.retain(|round| !round.is_over(&runs));
            let (policy, table_bytes) = (store.options.policy, store.options.table_bytes);
            let situation =
                Situation { policy, runs: &runs, table_bytes, expired, is_quiet, rounds: &rounds };
            match pick(&situation) {
                Some(Work::Merge(round, piece)) => {
                    if rounds.last() != Some(&round) {
                        rounds.push(round);
                    }
                    self.rounds.insert(tree.id(), rounds);
                    let is_bottom = version.runs.last().is_some_and(|run| run.number == round.oldest);
                    let task = self.task(&tree, &version, &piece, expired, is_bottom)?;
                    return Ok(task.ok_or(Next::Again));
                }
                Some(Work::Rewrite(piece)) => {
                    let is_bottom = piece.target + 1 == version.runs.len();
                    let task = self.task(&tree, &version, &piece, expired, is_bottom)?;
                    return Ok(task.ok_or(Next::Again));
                }
                Some(Work::Remove(places)) => {
                    self.rounds.insert(tree.id(), rounds);
                    let removed = places.into_iter().map(|place| live(place, &version)).collect();
                    self.commit(&tree, &TableChange { removed, added: Vec::new() }, None)?;
                    return Ok(Err(Next::Again));
                }
                None => {}
            }
            // A snapshot that needs what was deleted says nothing when it goes.
            is_held |= version.tombstones.iter().any(|tombstone| tombstone.seqno > horizon);
            moment = moment.into_iter().chain(next_moment(&runs, expired)).min();
            waits_for_quiet |= !is_quiet && pick(&Situation { is_quiet: true, ..situation }).is_some();
        }
        let look_again = moment.map(|moment| store.look_again(moment));
        let held_until = is_held.then_some(now + HELD_RETRY);
        let next = look_again.into_iter().chain(waits_for_quiet.then_some(quiet_at)).chain(held_until).min();
        Ok(Err(next.map_or(Next::Wait, Next::WaitUntil)))
    }

    /// The next piece of what somebody waits for.
    fn manual_task(&mut self) -> Result<Option<Box<Task>>> {
        let store = Arc::clone(&self.store);
        while let Some(request) = store.request() {
            let tree = store.tree(request.keyspace());
            let version = tree.as_ref().map(|tree| tree.version());
            let (Some(tree), Some(version)) = (tree, version) else {
                store.finish(&request);
                continue;
            };
            let horizon = store.snapshots.horizon();
            let runs = views(&version, version.floors.at(horizon), tree.deleted_through(&version, horizon));
            let manual = match self.manual.take() {
                Some(manual) if Arc::ptr_eq(manual.request(), &request) => manual,
                _ => Manual::begin(Arc::clone(&request), &runs),
            };
            let manual = self.manual.insert(manual);
            let expired = store.expired();
            let rules = Rules { expired, is_filtered: tree.filter().is_some() };
            let Some(piece) = manual.next(&version, &runs, &rules, store.options.table_bytes) else {
                self.manual = None;
                store.finish(&request);
                continue;
            };
            let is_bottom = piece.target + 1 == version.runs.len();
            if let Some(task) = self.task(&tree, &version, &piece, expired, is_bottom)? {
                return Ok(Some(task));
            }
        }
        Ok(None)
    }

    fn task(
        &self,
        tree: &Arc<Tree>,
        version: &Version,
        piece: &Piece,
        expired: Timestamp,
        is_bottom: bool,
    ) -> Result<Option<Box<Task>>> {
        let store = &self.store;
        let numbered = |place: &Place| (version.runs[place.0].number, live(*place, version));
        let inputs: Vec<(u64, Arc<LiveTable>)> = piece.inputs.iter().map(numbered).collect();
        let (target, before) = (version.runs[piece.target].number, piece.before.as_ref());
        let mut tables = TableChange::default();
        for (run, live) in &inputs {
            let rest = before.filter(|before| **before <= live.bounds().last).map(|before| live.from(before));
            tables.removed.push(Arc::clone(live));
            tables.added.extend(rest.map(|rest| (*run, rest)));
        }
        for place in &piece.moved {
            let moved = live(*place, version);
            tables.removed.push(Arc::clone(&moved));
            tables.added.push((target, moved));
        }
        let collected = collected(&views(version, Seqno::ZERO, Seqno::ZERO), store.options.table_bytes);
        let separation = store.separation(tree, collected);
        let merge = match Merge::new(&runs(&inputs), before, &separation) {
            Ok(merge) => merge,
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                // The table that could not be opened is in quarantine now: what can be done without it is another piece.
                store.count_runs();
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let horizon = store.snapshots.horizon();
        let floors = (horizon, version.floors.at(horizon));
        let retention = Retention::new(floors, tree.cover(horizon), expired, is_bottom);
        let level = if is_bottom { Level::Bottom } else { Level::Upper };
        let filtering = tree.filter().filter(|filter| filter.is_in_force(horizon)).map(Filtering::new);
        let rules = EntryRules { retention, filtering, folding: tree.folding(), separation };
        let outputs = store.outputs(tree, level, rules, piece.guards.clone());
        let inputs = inputs.into_iter().map(|(_, live)| live).collect();
        let tree = Arc::clone(tree);
        Ok(Some(Box::new(Task { tree, inputs, tables, target, merge, outputs, stage: Stage::Write })))
    }

    /// Forgets range tombstones that hide nothing any more: when they are half of all, so that a long list is not written
    /// for each of them, and when there is time.
    fn forget_tombstones(
        &self,
        tree: &Arc<Tree>,
        version: &Version,
        horizon: Seqno,
        is_quiet: bool,
    ) -> Result<bool> {
        let (count, left) = version.flushed_tombstones(horizon);
        let gone = count - left.len();
        if gone == 0 || gone < left.len() && !is_quiet {
            return Ok(false);
        }
        let (keyspace, through) = (tree.id(), version.flushed);
        let install = || tree.install_tombstones(&left, through);
        let edit = Edit::RangeTombstones { keyspace, after: Seqno::ZERO, through, left: left.clone() };
        let change = Change { tree, edits: vec![edit], flushed: None, install: Box::new(install) };
        Ok(self.store.commit(&[change])? == [true])
    }

    fn record(&self, task: Task) -> Result<()> {
        let Task { tree, mut tables, target, outputs, .. } = task;
        tables.added.extend(outputs.tables(target));
        self.commit(&tree, &tables, Some(outputs))
    }

    fn commit(&self, tree: &Arc<Tree>, tables: &TableChange, outputs: Option<Outputs>) -> Result<()> {
        let filtering = outputs.as_ref().and_then(Outputs::filtering);
        let filtered = filtering.map_or(0, |filtering| filtering.forgotten);
        let folded = outputs.as_ref().and_then(Outputs::folding).map_or(0, |folding| folding.folded);
        let install = || {
            tree.install_tables(tables);
            if filtered > 0 {
                tree.count_filtered();
            }
        };
        let edits = tables.edits(tree.id());
        let change = Change { tree, edits, flushed: None, install: Box::new(install) };
        let written = outputs.as_ref().map_or(0, Outputs::bytes);
        let recorded = self.store.commit_tables(&[change], outputs.into_iter().collect())?;
        if recorded == [true] {
            let counters = &self.store.counters;
            counters.compactions.fetch_add(1, Ordering::Relaxed);
            counters.compacted_bytes.fetch_add(written, Ordering::Relaxed);
            counters.filtered.fetch_add(filtered, Ordering::Relaxed);
            counters.folded.fetch_add(folded, Ordering::Relaxed);
            self.store.count_runs();
        }
        Ok(())
    }

    /// A damaged input is never picked again, and never deleted: what is whole in it can still be read.
    fn quarantine(&self, task: &Task, file: FileId) -> Result<()> {
        let edits = vec![Edit::Quarantine { keyspace: task.tree.id(), file }];
        let install = || {
            for live in task.inputs.iter().filter(|live| live.id() == file) {
                live.quarantine();
            }
        };
        let change = Change { tree: &task.tree, edits, flushed: None, install: Box::new(install) };
        self.store.commit(&[change])?;
        self.store.count_runs();
        Ok(())
    }
}

/// For whom a block is kept that was written anew: its place in the cache is that of those it was made of, as far as can be
/// told from one of its keys.
fn warmth(inputs: &[Arc<LiveTable>], key: &[u8]) -> Access {
    let here = inputs.iter().filter(|live| live.bounds().contains(key)).filter_map(|live| live.if_open());
    let (cached, all) =
        here.fold((0, 0), |(cached, all), table| (cached + usize::from(table.is_cached(key)), all + 1));
    if cached * 2 > all { Access::Point } else { Access::Spare }
}

/// The runs that these tables come from, their tables in key order.
fn runs(inputs: &[(u64, Arc<LiveTable>)]) -> Vec<Vec<Arc<LiveTable>>> {
    let mut runs: BTreeMap<u64, Vec<Arc<LiveTable>>> = BTreeMap::new();
    for (run, live) in inputs {
        runs.entry(*run).or_default().push(Arc::clone(live));
    }
    for tables in runs.values_mut() {
        tables.sort_by(|one, other| one.bounds().first.cmp(&other.bounds().first));
    }
    runs.into_values().collect()
}

impl Task {
    /// False when the keyspace has another name now, and with it another filter: what was made go may have to stay.
    fn has_its_filter(&self) -> bool {
        let now = self.tree.filter();
        let begun_with = self.outputs.filtering().map(|filtering| &filtering.filter);
        begun_with.is_none_or(|filter| now.is_some_and(|now| now.is_same(filter)))
    }

    /// Merges a slice; false at the end.
    fn merge_slice(&mut self) -> Result<bool, Damage> {
        for _ in 0..SLICE_ENTRIES {
            let Some(Peek { seqno, op, apart }) = self.merge.next()? else { return Ok(false) };
            self.outputs.add(seqno, &op, apart).map_err(|error| Damage { file: None, error })?;
        }
        Ok(true)
    }
}

impl Job for CompactionJob {
    fn run(&mut self) -> Next {
        let store = Arc::clone(&self.store);
        store.guarded(|| self.slice())
    }
}

impl CompactionJob {
    fn slice(&mut self) -> Next {
        if let Some(next) = self.store.ended() {
            self.task = None;
            return next;
        }
        match self.step() {
            Ok(next) => {
                *self.store.compaction_trouble.lock() = None;
                next
            }
            // Outputs are gone with the task, inputs untouched.
            Err(error) => {
                *self.store.compaction_trouble.lock() = Some(error);
                self.store.progress.notify();
                // Pending edits that were ours to record are the flush job's again, which may have seen none.
                self.store.wake_flush();
                Next::WaitUntil(self.store.context.env.clock.monotonic() + BACK_OFF)
            }
        }
    }
}
