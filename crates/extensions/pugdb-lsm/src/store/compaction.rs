//! The compaction job: merges runs, a piece at a time and a slice at a time. Inputs go only when the outputs were read
//! again and recorded. It wakes by itself when entries have expired that nobody can read any more, and when it has grown
//! quiet. A large piece is cut into [parts](super::part), for which it has hands: jobs that do nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pugdb_core::env::{Job, Next};
use pugdb_core::observer::DatabaseEvent;
use pugdb_core::{ErrorKind, Key, KeyspaceId, Result, Seqno, Timestamp};

use super::manual::{Manual, Rules};
use super::merge::{Damage, Merge};
use super::part::{self, Crew, Part, Standing};
use super::pick::{Piece, Place, Round, RunView, Situation, TableView, Work, collected, next_moment, pick};
use super::throttle::Hold;
use super::{Change, HELD_RETRY, Store};
use crate::Level;
use crate::manifest::Edit;
use crate::tombstones::Tombstones;
use crate::tree::{
    EntryRules, Filter, Filtering, LiveTable, Outputs, Retention, Run, TableChange, Tree, Version, sync_names,
};

/// After trouble the compaction is begun anew this much later.
const BACK_OFF: Duration = Duration::from_millis(500);

pub(super) struct CompactionJob {
    store: Arc<Store>,
    task: Option<Box<Task>>,
    /// Merges under way that go on with another piece, each of newer runs than those before it.
    rounds: BTreeMap<KeyspaceId, Vec<Round>>,
    /// What somebody waits for.
    manual: Option<Manual>,
    hold: Hold,
}

/// A piece of a merge.
struct Task {
    crew: Led,
    /// The part that is in this job's hands.
    part: Option<Part>,
    /// What the entries are held against.
    filter: Option<Filter>,
    /// What becomes of tables, without what is written.
    tables: TableChange,
    /// The number of the run that takes in what is written.
    target: u64,
    begun: Duration,
}

/// A crew, until its piece is recorded or given up.
struct Led(Arc<Crew>);

impl Drop for Led {
    fn drop(&mut self) {
        self.0.give_up();
    }
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
        Self { store, task: None, rounds: BTreeMap::new(), manual: None, hold: Hold::default() }
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
        if task.crew.0.tree.is_dropped() || !task.has_its_filter() {
            return Ok(Next::Again);
        }
        let crew = Arc::clone(&task.crew.0);
        let part = task.part.take().or_else(|| crew.take());
        if let Some(part) = part.filter(|_| !crew.is_damaged()) {
            let held = self.store.hold(&mut self.hold);
            task.part = if held.is_some() { Some(part) } else { part.step(&self.store) };
            self.task = Some(task);
            return Ok(held.unwrap_or(Next::Again));
        }
        match crew.standing() {
            Standing::Working => {
                self.task = Some(task);
                return Ok(Next::Wait);
            }
            Standing::Done(outputs) => self.record(*task, outputs)?,
            Standing::Damaged(Damage { file: Some(file), error }) if error.kind() == ErrorKind::Corrupt => {
                if let Some(live) = crew.inputs.iter().find(|live| live.id() == file) {
                    self.store.quarantine(&crew.tree, live)?;
                }
            }
            Standing::Damaged(Damage { error, .. }) => return Err(error),
        }
        Ok(Next::Again)
    }

    /// What to do next; if there is nothing, when to look again though nothing is written.
    fn next_task(&mut self) -> Result<Result<Box<Task>, Next>> {
        if let Some(task) = self.manual_task()? {
            return Ok(Ok(task));
        }
        let store = Arc::clone(&self.store);
        store.settle_partitions();
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
            let (policy, sizes) = (store.options.policy, store.sizes());
            let situation = Situation { policy, runs: &runs, sizes, expired, is_quiet, rounds: &rounds };
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
                    let begun = self.store.context.env.clock.monotonic();
                    self.commit(&tree, &TableChange { removed, added: Vec::new() }, Vec::new(), begun)?;
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
            let rules =
                Rules { expired, is_filtered: tree.filter().is_some() || store.context.cipher.has_erased() };
            let Some(piece) = manual.next(&version, &runs, &rules, store.sizes()) else {
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
        let mut collected = collected(&views(version, Seqno::ZERO, Seqno::ZERO), store.options.table_bytes);
        // A value does not stay in a file that is not sealed as its keyspace is to be.
        let sealing = store.context.sealing(tree.options().sealing);
        let values = inputs.iter().flat_map(|(_, live)| &live.meta().values);
        collected.extend(values.filter(|used| used.sealing != sealing).map(|used| used.file));
        collected.extend(self.manual.iter().flat_map(|manual| manual.request().files_of(tree.id())));
        let separation = store.separation(tree, collected);
        let horizon = store.snapshots.horizon();
        let filter = tree.filter().filter(|filter| filter.is_in_force(horizon));
        let level = if is_bottom { Level::Bottom } else { Level::Upper };
        let outputs = || {
            let floors = (horizon, version.floors.at(horizon));
            let retention = Retention::new(floors, tree.cover(horizon), expired, is_bottom);
            let filtering = filter.clone().map(Filtering::new);
            let separation = Arc::clone(&separation);
            let rules = EntryRules { retention, filtering, folding: tree.folding(), separation };
            store.outputs(tree, level, rules, piece.guards.clone())
        };
        let part = |(from, before): (Option<&Key>, Option<&Key>)| {
            Ok((Merge::new(&runs(&inputs, from, before), before, &separation)?, outputs()))
        };
        let cuts = self.cuts(&inputs, before);
        let parts = cuts.and_then(|cuts| {
            let starts = std::iter::once(None).chain(cuts.iter().map(Some));
            let ends = cuts.iter().map(Some).chain([before]);
            starts.zip(ends).map(part).collect::<Result<Vec<_>>>()
        });
        let parts = match parts {
            Ok(parts) => parts,
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                // The table that could not be opened is in quarantine now: what can be done without it is another piece.
                store.count_runs();
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let is_large = parts.len() > 1;
        let crew = Crew::new(tree, inputs.into_iter().map(|(_, live)| live).collect(), parts);
        if is_large {
            store.call_hands(&crew);
        }
        let begun = self.store.context.env.clock.monotonic();
        Ok(Some(Box::new(Task { crew: Led(crew), part: None, filter, tables, target, begun })))
    }

    /// The keys at which a piece is cut, so that all hands have something to do.
    fn cuts(&self, inputs: &[(u64, Arc<LiveTable>)], before: Option<&Key>) -> Result<Vec<Key>> {
        let options = &self.store.options;
        let bytes: u64 = inputs.iter().map(|(_, live)| live.meta().bytes).sum();
        let wanted = usize::try_from((bytes + options.table_bytes / 2) / options.table_bytes.max(1));
        let parts = wanted.unwrap_or(usize::MAX).min(options.compaction_jobs);
        if parts < 2 {
            return Ok(Vec::new());
        }
        let mut anchors = Vec::new();
        for (_, live) in inputs {
            anchors.extend(live.opened_by_job()?.anchors(part::ANCHORS)?);
        }
        anchors.retain(|(key, _)| before.is_none_or(|before| key < before));
        Ok(part::cuts(anchors, parts))
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
        let change =
            Change { tree, about: None, edits: vec![edit], flushed: None, install: Box::new(install) };
        Ok(self.store.commit(&[change])? == [true])
    }

    fn record(&self, task: Task, outputs: Vec<Outputs>) -> Result<()> {
        let Task { crew, mut tables, target, begun, .. } = task;
        sync_names(&self.store.shelf)?;
        let panicked =
            outputs.iter().filter_map(Outputs::filtering).filter(|filtering| filtering.has_panicked);
        self.store.counters.filter_panics.fetch_add(panicked.count() as u64, Ordering::Relaxed);
        for outputs in &outputs {
            self.store.count_operator_failures(outputs);
        }
        tables.added.extend(outputs.iter().flat_map(|outputs| outputs.tables(target)));
        self.commit(&crew.0.tree, &tables, outputs, begun)
    }

    fn commit(
        &self,
        tree: &Arc<Tree>,
        tables: &TableChange,
        outputs: Vec<Outputs>,
        begun: Duration,
    ) -> Result<()> {
        let filtering = outputs.iter().filter_map(Outputs::filtering);
        let filtered = filtering.map(|filtering| filtering.forgotten).sum();
        let folded = outputs.iter().filter_map(Outputs::folding).map(|folding| folding.folded).sum();
        let has_forgotten = outputs.iter().any(Outputs::has_forgotten);
        let install = || {
            tree.install_tables(tables);
            if has_forgotten {
                tree.count_filtered();
            }
        };
        let edits = tables.edits(tree.id());
        let change = Change { tree, about: None, edits, flushed: None, install: Box::new(install) };
        let written = outputs.iter().map(Outputs::bytes).sum();
        let recorded = self.store.commit_tables(&[change], vec![outputs])?;
        if recorded == [true] {
            let counters = &self.store.counters;
            counters.compactions.fetch_add(1, Ordering::Relaxed);
            counters.compacted_bytes.fetch_add(written, Ordering::Relaxed);
            counters.filtered.fetch_add(filtered, Ordering::Relaxed);
            counters.folded.fetch_add(folded, Ordering::Relaxed);
            self.store.count_runs();
            self.store.tell(|| DatabaseEvent::Compacted {
                tables_in: tables.removed.len() as u64,
                tables_out: tables.added.len() as u64,
                bytes: written,
                took: self.store.context.env.clock.monotonic().saturating_sub(begun),
            });
            self.store.tell_stalls();
        }
        Ok(())
    }
}

/// The runs that these tables come from, their tables in key order, without keys before `from` and, where they can be told by
/// a table's bounds, from `before` on.
fn runs(
    inputs: &[(u64, Arc<LiveTable>)],
    from: Option<&Key>,
    before: Option<&Key>,
) -> Vec<Vec<Arc<LiveTable>>> {
    let mut runs: BTreeMap<u64, Vec<Arc<LiveTable>>> = BTreeMap::new();
    for (run, live) in inputs {
        let bounds = live.bounds();
        if from.is_some_and(|from| bounds.last < *from)
            || before.is_some_and(|before| bounds.first >= *before)
        {
            continue;
        }
        let rest = from.filter(|from| bounds.first < **from).map(|from| live.from(from));
        runs.entry(*run).or_default().push(rest.unwrap_or_else(|| Arc::clone(live)));
    }
    for tables in runs.values_mut() {
        tables.sort_by(|one, other| one.bounds().first.cmp(&other.bounds().first));
    }
    runs.into_values().collect()
}

impl Task {
    /// False when the keyspace has another name now, and with it another filter: what was made go may have to stay.
    fn has_its_filter(&self) -> bool {
        let now = self.crew.0.tree.filter();
        self.filter.as_ref().is_none_or(|filter| now.is_some_and(|now| now.is_same(filter)))
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
        let step = self.step();
        self.store.is_merging.store(self.task.is_some(), Ordering::Release);
        match step {
            Ok(next) => {
                *self.store.compaction_trouble.lock() = None;
                next
            }
            // Outputs are gone with the task, inputs untouched.
            Err(error) => {
                if self.store.spend_reserve(&error) {
                    return Next::Again;
                }
                *self.store.compaction_trouble.lock() = Some(error);
                self.store.progress.notify();
                // Pending edits that were ours to record are the flush job's again, which may have seen none.
                self.store.wake_flush();
                Next::WaitUntil(self.store.context.env.clock.monotonic() + BACK_OFF)
            }
        }
    }
}
