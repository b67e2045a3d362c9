//! The compaction job: merges runs, a slice at a time. Inputs go only when the outputs were read again and recorded.
//! It wakes by itself when entries have expired that nobody can read any more.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pugdb_core::env::{Job, Next};
use pugdb_core::{Error, ErrorKind, FileId, Found, Key, Result, Timestamp};

use super::pick::{RunView, TableView, Work, next_moment, pick};
use super::{Change, Store};
use crate::manifest::Edit;
use crate::table::{Expiries, TableCursor};
use crate::tree::{LiveTable, Outputs, Retention, Run, Tree, Version};

/// Entries merged in one slice.
const SLICE_ENTRIES: usize = 2048;
/// After trouble the compaction is begun anew this much later.
const BACK_OFF: Duration = Duration::from_millis(500);

pub(super) struct CompactionJob {
    store: Arc<Store>,
    task: Option<Box<Merge>>,
}

enum Task {
    Merge(Box<Merge>),
    /// These tables go, unread.
    Remove(Arc<Tree>, Vec<Arc<LiveTable>>),
}

struct Merge {
    tree: Arc<Tree>,
    inputs: Vec<Run>,
    sources: Vec<Input>,
    outputs: Outputs,
    stage: Stage,
}

enum Stage {
    Write,
    Check,
    Record,
}

/// A run being merged: its tables one after the other.
struct Input {
    cursors: VecDeque<(FileId, TableCursor)>,
    ready: VecDeque<(Key, Found)>,
}

/// What went wrong, and in which input, if it was in one.
struct Damage {
    file: Option<FileId>,
    error: Error,
}

impl Input {
    fn new(run: &Run) -> Result<Self> {
        let cursor = |live: &Arc<LiveTable>| Ok((live.id(), live.table()?.cursor()));
        let cursors = run.tables.iter().map(cursor).collect::<Result<_>>()?;
        Ok(Self { cursors, ready: VecDeque::new() })
    }

    /// The next version; `None` at the end.
    fn peek(&mut self) -> Result<Option<&(Key, Found)>, Damage> {
        while self.ready.is_empty()
            && let Some((file, cursor)) = self.cursors.front_mut()
        {
            let mut versions = Vec::new();
            cursor.next_versions(&mut versions).map_err(|error| Damage { file: Some(*file), error })?;
            if versions.is_empty() {
                self.cursors.pop_front();
            }
            self.ready.extend(versions);
        }
        Ok(self.ready.front())
    }
}

/// The next version of all inputs: smallest key, newest first.
fn next_version(inputs: &mut [Input]) -> Result<Option<(Key, Found)>, Damage> {
    let mut best: Option<(usize, Key, Found)> = None;
    for (number, input) in inputs.iter_mut().enumerate() {
        let Some((key, found)) = input.peek()? else { continue };
        let is_first = best.as_ref().is_none_or(|(_, best_key, best_found)| {
            key.cmp(best_key).then(best_found.seqno.cmp(&found.seqno)).is_lt()
        });
        if is_first {
            best = Some((number, key.clone(), found.clone()));
        }
    }
    let Some((number, ..)) = best else { return Ok(None) };
    Ok(inputs[number].ready.pop_front())
}

/// What the picker is told of a run.
fn view(run: &Run) -> RunView {
    let table = |live: &Arc<LiveTable>| {
        let expiries = live.table().ok().and_then(|table| table.expiries());
        let expiring = expiries.map_or(0, |expiries| expiries.entries);
        let is_dead = live.meta.entries == live.meta.deletes.saturating_add(expiring);
        let last = expiries.and_then(Expiries::last);
        TableView {
            bytes: live.meta.bytes,
            bounds: live.bounds().clone(),
            is_quarantined: live.quarantined.load(Ordering::Acquire),
            dead_at: is_dead.then(|| last.unwrap_or_default()),
            expiries: expiries.map_or_else(Vec::new, |expiries| expiries.steps().to_vec()),
        }
    };
    RunView { tables: run.tables.iter().map(table).collect() }
}

impl CompactionJob {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { store, task: None }
    }

    /// Does one slice. Says when to look again if there is nothing to do.
    fn step(&mut self) -> Result<Next> {
        let mut task = match self.task.take() {
            Some(task) => task,
            None => match self.next_task() {
                Ok(Task::Merge(task)) => task,
                Ok(Task::Remove(tree, tables)) => return self.remove(&tree, &tables),
                Err(next) => return Ok(next),
            },
        };
        if task.tree.is_dropped() {
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
                task.outputs.check()?;
                task.stage = Stage::Record;
            }
            Stage::Record => {
                self.record(task)?;
                return Ok(Next::Again);
            }
        }
        self.task = Some(task);
        Ok(Next::Again)
    }

    /// What to do next; if there is nothing, when to look again though nothing is written.
    fn next_task(&self) -> Result<Task, Next> {
        let store = &self.store;
        let expired = store.expired();
        let mut next: Option<Timestamp> = None;
        for tree in store.trees.read().values() {
            let version = tree.version();
            let runs: Vec<RunView> = version.runs.iter().map(view).collect();
            let task = pick(&runs, expired).and_then(|work| match work {
                Work::Merge(window) => self.merge(tree, &version, window, expired),
                Work::Remove(tables) => {
                    let live = |(run, table): (usize, usize)| Arc::clone(&version.runs[run].tables[table]);
                    Some(Task::Remove(Arc::clone(tree), tables.into_iter().map(live).collect()))
                }
            });
            if let Some(task) = task {
                return Ok(task);
            }
            next = next.into_iter().chain(next_moment(&runs, expired)).min();
        }
        Err(next.map_or(Next::Wait, |moment| Next::WaitUntil(store.look_again(moment))))
    }

    fn merge(
        &self,
        tree: &Arc<Tree>,
        version: &Version,
        window: Range<usize>,
        expired: Timestamp,
    ) -> Option<Task> {
        let store = &self.store;
        let inputs = version.runs[window.clone()].to_vec();
        // A run with a table that cannot be read is quarantined, and none of those is picked.
        let sources = inputs.iter().map(Input::new).collect::<Result<_>>().ok()?;
        let horizon = store.snapshots.horizon();
        let is_bottom = window.end == version.runs.len();
        let retention = Retention::new(horizon, version.floors.at(horizon), expired, is_bottom);
        let outputs = Outputs::new(&store.context, &store.cache, tree.id(), store.options.table, retention);
        let tree = Arc::clone(tree);
        Some(Task::Merge(Box::new(Merge { tree, sources, inputs, outputs, stage: Stage::Write })))
    }

    fn remove(&self, tree: &Arc<Tree>, tables: &[Arc<LiveTable>]) -> Result<Next> {
        let keyspace = tree.id();
        let edits = tables.iter().map(|live| Edit::RemoveTable { keyspace, file: live.id() }).collect();
        let install = || tree.install_removal(tables);
        if self.store.commit(Some(&Change { tree, edits, flushed: None, install: &install }))? {
            self.store.compactions.fetch_add(1, Ordering::Relaxed);
            self.store.count_runs();
        }
        Ok(Next::Again)
    }

    fn record(&self, task: Box<Merge>) -> Result<()> {
        let Merge { tree, inputs, outputs, .. } = *task;
        let keyspace = tree.id();
        // The output is as new as its newest input: younger runs stay in front of it, older ones behind.
        let number = inputs.iter().map(|run| run.number).max().unwrap_or_default();
        let entries = outputs.entries(number);
        let old = inputs.iter().flat_map(|run| &run.tables);
        let mut edits: Vec<Edit> = old.map(|live| Edit::RemoveTable { keyspace, file: live.id() }).collect();
        edits.extend(entries.iter().map(|table| Edit::AddTable { table: table.clone() }));
        let runs = tree.open_tables(&entries)?;
        let install = || tree.install_compaction(&inputs, &runs);
        let change = Change { tree: &tree, edits, flushed: None, install: &install };
        if self.store.commit_tables(&change, outputs)? {
            self.store.compactions.fetch_add(1, Ordering::Relaxed);
            self.store.count_runs();
        }
        Ok(())
    }

    /// A damaged input is never picked again, and never deleted: what is whole in it can still be read.
    fn quarantine(&self, task: &Merge, file: FileId) -> Result<()> {
        let edits = vec![Edit::Quarantine { keyspace: task.tree.id(), file }];
        let install = || {
            for live in task.inputs.iter().flat_map(|run| &run.tables).filter(|live| live.id() == file) {
                live.quarantined.store(true, Ordering::Release);
            }
        };
        let change = Change { tree: &task.tree, edits, flushed: None, install: &install };
        self.store.commit(Some(&change)).map(drop)
    }
}

impl Merge {
    /// Merges a slice; false at the end.
    fn merge_slice(&mut self) -> Result<bool, Damage> {
        for _ in 0..SLICE_ENTRIES {
            let Some((key, found)) = next_version(&mut self.sources)? else { return Ok(false) };
            self.outputs.add(&key, &found).map_err(|error| Damage { file: None, error })?;
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
