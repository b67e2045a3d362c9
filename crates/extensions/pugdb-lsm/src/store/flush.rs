//! The flush job: writes sealed memtables to tables, oldest first, a slice at a time. Those of many trees go together, so
//! that one sync of the directory and one of the manifest serve all of them.
//!
//! ```text
//! write each ─> sync all contents ─> sync the directory ─> read each again ─> one edit of the manifest
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pugdb_core::RawOp;
use pugdb_core::env::{Job, Next};
use pugdb_core::observer::DatabaseEvent;
use pugdb_core::{Error, Result, Timestamp};

use super::rest::{self, Rest};
use super::{Change, Store};
use crate::Level;
use crate::manifest::Edit;
use crate::memtable::Memtable;
use crate::table::Access;
use crate::tree::{EntryRules, Outputs, Retention, TableChange, Tree, sync_contents, sync_names};

/// Bytes of entries written in one slice.
const SLICE_BYTES: usize = 256 << 10;
/// Files of memtables that are written together, a table and perhaps a value file each: they are open until they are synced,
/// and the two syncs that they share are little against those of their own.
const GROUP_FILES_MAX: usize = 64;
/// After trouble the flush is begun anew this much later.
const BACK_OFF: Duration = Duration::from_millis(200);

pub(super) struct FlushJob {
    store: Arc<Store>,
    group: Option<Group>,
    rest: Rest,
    /// What is flushed now was at rest, all of it.
    is_resting: bool,
}

/// Memtables that are written together.
struct Group {
    parts: Vec<Part>,
    stage: Stage,
    begun: Duration,
}

/// A memtable on its way into tables.
struct Part {
    tree: Arc<Tree>,
    memtable: Arc<Memtable>,
    outputs: Outputs,
}

/// What is done next, and to which part.
enum Stage {
    Write { part: usize, after: Option<Vec<u8>> },
    Sync,
    Check { part: usize },
    Record,
}

impl FlushJob {
    pub(super) fn new(store: Arc<Store>) -> Self {
        let mut rest = Rest::default();
        rest.flushed(store.context.env.clock.monotonic());
        Self { store, group: None, rest, is_resting: false }
    }

    /// Does one slice. False when there is nothing to do.
    pub(super) fn step(&mut self) -> Result<bool> {
        let Some(mut group) = self.group.take().or_else(|| self.next_group()) else {
            return self.record_pending();
        };
        if matches!(group.stage, Stage::Record) {
            self.record(group)?;
            return Ok(true);
        }
        let moved = group.bytes_moved();
        group.step(&self.store)?;
        self.store.charge_beside(group.bytes_moved().saturating_sub(moved));
        self.group = Some(group);
        Ok(true)
    }

    /// The oldest memtable that is sealed, and those of other trees that are no more than one full one together.
    fn next_group(&self) -> Option<Group> {
        let store = &self.store;
        let trees = store.trees.read();
        let mut sealed: Vec<(&Arc<Tree>, Arc<Memtable>)> =
            trees.values().filter_map(|tree| Some((tree, tree.oldest_sealed()?))).collect();
        sealed.sort_unstable_by_key(|(_, memtable)| memtable.last());
        let (mut bytes, mut files) = (0, 0);
        let fits = |(tree, memtable): &(&Arc<Tree>, Arc<Memtable>)| {
            let is_first = files == 0;
            bytes += memtable.bytes();
            files += 1 + usize::from(tree.options().separate_values.is_some());
            is_first || bytes <= store.options.memtable_bytes && files <= GROUP_FILES_MAX
        };
        let together = sealed.into_iter().take_while(fits);
        let expired = store.expired();
        let parts: Vec<Part> = together.map(|(tree, memtable)| self.part(tree, memtable, expired)).collect();
        let begun = store.context.env.clock.monotonic();
        (!parts.is_empty()).then_some(Group { parts, stage: Stage::Write { part: 0, after: None }, begun })
    }

    fn part(&self, tree: &Arc<Tree>, memtable: Arc<Memtable>, expired: Timestamp) -> Part {
        let horizon = self.store.snapshots.horizon();
        let version = tree.version();
        let is_bottom = version.runs.is_empty();
        let floors = (horizon, version.floors.at(horizon));
        let retention = Retention::new(floors, tree.cover(horizon), expired, is_bottom);
        // Young, also where nothing lies beneath yet: it will soon be merged.
        let separation = self.store.separation(tree, BTreeSet::new());
        let rules = EntryRules { retention, filtering: None, folding: tree.folding(), separation };
        let outputs = self.store.outputs(tree, Level::Upper, rules, Vec::new());
        Part { tree: Arc::clone(tree), memtable, outputs }
    }

    /// Seals what has come to rest. If there is none, says when to look again.
    fn seal_resting(&mut self) -> Option<Next> {
        let store = &self.store;
        let (now, worth) =
            (store.context.env.clock.monotonic(), rest::worth_bytes(store.options.memtable_bytes));
        let trees = store.trees.read();
        let large = trees.iter().filter_map(|(&id, tree)| Some((id, tree.active_last(worth)?)));
        let (at_rest, next) = self.rest.look(now, large);
        self.is_resting = !at_rest.is_empty();
        if !self.is_resting {
            return Some(next.map_or(Next::Wait, Next::WaitUntil));
        }
        at_rest.iter().filter_map(|id| trees.get(id)).for_each(|tree| {
            tree.seal();
        });
        None
    }

    fn record(&mut self, group: Group) -> Result<()> {
        let (store, mut parts, mut outputs) = (&self.store, Vec::new(), Vec::new());
        let begun = group.begun;
        for part in group.parts.into_iter().filter(|part| !part.tree.is_dropped()) {
            let added = part.outputs.tables(part.tree.take_run_number());
            parts.push((part.tree, part.memtable, TableChange { removed: Vec::new(), added }));
            outputs.push(part.outputs);
        }
        let changes: Vec<Change<'_>> = parts.iter().map(change).collect();
        let written: Vec<u64> = outputs.iter().map(Outputs::bytes).collect();
        let forgotten: Vec<bool> = outputs.iter().map(Outputs::has_forgotten).collect();
        let folding = |outputs: &Outputs| outputs.folding().map_or(0, |folding| folding.folded);
        let folded: Vec<u64> = outputs.iter().map(folding).collect();
        let outputs = outputs.into_iter().map(|outputs| vec![outputs]).collect();
        let recorded = store.commit_tables(&changes, outputs)?;
        drop(changes);
        let (mut memtables, mut bytes) = (0, 0);
        let sizes = written.into_iter().zip(folded).zip(forgotten);
        for (((tree, memtable, _), ((written, folded), has_forgotten)), _) in
            parts.iter().zip(sizes).zip(recorded).filter(|(_, is)| *is)
        {
            if has_forgotten {
                tree.count_filtered();
            }
            store.forget_bytes(memtable.forget());
            (memtables, bytes) = (memtables + 1, bytes + written);
            store.counters.flushes.fetch_add(1, Ordering::Relaxed);
            store.counters.flushed_bytes.fetch_add(written, Ordering::Relaxed);
            store.counters.folded.fetch_add(folded, Ordering::Relaxed);
        }
        let now = store.context.env.clock.monotonic();
        self.rest.flushed(now);
        // It is as quiet as before: space can be made at once.
        if !self.is_resting {
            store.quiet.lock().flushed(now);
        }
        store.count_runs();
        store.settled(None);
        store.wake();
        for (_, memtable, _) in parts {
            store.shelf.graveyard.bury_memtable(memtable);
        }
        store.tell(|| DatabaseEvent::Flushed { memtables, bytes, took: now.saturating_sub(begun) });
        store.tell_stalls();
        Ok(())
    }

    fn record_pending(&self) -> Result<bool> {
        // Nothing is sealed: who is pressed for room may seal more.
        if self.store.is_pressed.swap(false, Ordering::AcqRel) {
            self.store.progress.notify();
        }
        if self.store.pending.lock().is_empty() {
            return Ok(false);
        }
        self.store.commit(&[])?;
        self.store.settled(None);
        Ok(true)
    }
}

impl Group {
    /// What was written so far, and read again.
    fn bytes_moved(&self) -> u64 {
        let checked = match self.stage {
            Stage::Write { .. } | Stage::Sync => 0,
            Stage::Check { part } => part,
            Stage::Record => self.parts.len(),
        };
        let written = |parts: &[Part]| parts.iter().map(|part| part.outputs.bytes_written()).sum::<u64>();
        written(&self.parts) + written(&self.parts[..checked])
    }

    /// One step of one part. Those whose keyspace was dropped meanwhile are passed over, and go with the group.
    fn step(&mut self, store: &Store) -> Result<()> {
        match &mut self.stage {
            Stage::Write { part, after } => match self.parts.get_mut(*part) {
                Some(Part { tree, memtable, outputs }) => {
                    if !tree.is_dropped() {
                        let mut add = |seqno, op: &RawOp<'_>| outputs.add(seqno, op, None);
                        *after = memtable.visit_versions(after.as_deref(), SLICE_BYTES, &mut add)?;
                    }
                    if tree.is_dropped() || after.is_none() {
                        (*part, *after) = (*part + 1, None);
                        outputs.finish()?;
                    }
                }
                None => self.stage = Stage::Sync,
            },
            Stage::Sync => {
                sync_contents(self.parts.iter_mut().map(|part| &mut part.outputs))?;
                if self.parts.iter().any(|part| part.outputs.bytes() > 0) {
                    sync_names(&store.shelf)?;
                }
                self.stage = Stage::Check { part: 0 };
            }
            Stage::Check { part } => match self.parts.get_mut(*part) {
                // Its key may be gone with it.
                Some(next) if next.tree.is_dropped() => *part += 1,
                Some(next) => {
                    *part += 1;
                    // What was written just now may be asked for soon, or never again.
                    next.outputs.check(|_| Access::Scan)?;
                    store.count_operator_failures(&next.outputs);
                }
                None => self.stage = Stage::Record,
            },
            Stage::Record => {}
        }
        Ok(())
    }
}

/// What the manifest is told of a memtable that is in tables, and what readers see then.
fn change((tree, memtable, tables): &(Arc<Tree>, Arc<Memtable>, TableChange)) -> Change<'_> {
    let mut edits = tables.edits(tree.id());
    // Of its range deletes the tables hold nothing: with the log they would be gone.
    edits.extend(tree.tombstones_edit(memtable.last()));
    edits.push(Edit::Flushed { keyspace: tree.id(), seqno: memtable.last() });
    let install = || tree.install_flush(memtable, tables);
    Change { tree, about: None, edits, flushed: Some(memtable), install: Box::new(install) }
}

impl Store {
    /// A flush has ended, well or not: writers who wait look again.
    pub(super) fn settled(&self, trouble: Option<Error>) {
        *self.trouble.lock() = trouble;
        self.progress.notify();
    }

    pub(super) fn count_runs(&self) {
        let most = self.trees.read().values().map(|tree| tree.version().mergeable_runs()).max();
        self.runs_max.store(most.unwrap_or(0), Ordering::Release);
        self.progress.notify();
    }
}

impl Job for FlushJob {
    fn run(&mut self) -> Next {
        let store = Arc::clone(&self.store);
        store.guarded(|| self.slice())
    }
}

impl FlushJob {
    fn slice(&mut self) -> Next {
        if let Some(next) = self.store.ended() {
            self.group = None;
            return next;
        }
        let step = self.step();
        self.store.is_flushing.store(self.group.is_some(), Ordering::Release);
        match step {
            Ok(true) => Next::Again,
            Ok(false) => {
                // Nothing is left to do: what was in the way is not any more.
                if self.store.trouble.lock().take().is_some() {
                    self.store.progress.notify();
                }
                self.seal_resting().unwrap_or(Next::Again)
            }
            Err(error) => {
                // The output is gone with the task; the memtable is still there and is written again.
                if self.store.spend_reserve(&error) {
                    return Next::Again;
                }
                self.store.settled(Some(error));
                Next::WaitUntil(self.store.context.env.clock.monotonic() + BACK_OFF)
            }
        }
    }
}
