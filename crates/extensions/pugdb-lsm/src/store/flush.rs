//! The flush job: writes sealed memtables to tables, oldest first, a slice at a time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pugdb_core::RawOp;
use pugdb_core::env::{Job, Next};
use pugdb_core::{Error, Result, Seqno};

use super::{Change, Store};
use crate::Level;
use crate::manifest::Edit;
use crate::memtable::Memtable;
use crate::table::Access;
use crate::tree::{Outputs, Retention, TableChange, Tree};

/// Bytes of entries written in one slice.
const SLICE_BYTES: usize = 256 << 10;
/// After trouble the flush is begun anew this much later.
const BACK_OFF: Duration = Duration::from_millis(200);

pub(super) struct FlushJob {
    store: Arc<Store>,
    task: Option<Task>,
}

struct Task {
    tree: Arc<Tree>,
    memtable: Arc<Memtable>,
    outputs: Outputs,
    stage: Stage,
}

enum Stage {
    Write { after: Option<Vec<u8>> },
    Check,
    Record,
}

impl FlushJob {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { store, task: None }
    }

    /// Does one slice. False when there is nothing to do.
    pub(super) fn step(&mut self) -> Result<bool> {
        let Some(mut task) = self.task.take().or_else(|| self.next_task()) else {
            return self.record_pending();
        };
        if task.tree.is_dropped() {
            return Ok(true);
        }
        match &mut task.stage {
            Stage::Write { after } => {
                let mut add = |seqno, op: &RawOp<'_>| task.outputs.add(seqno, op, None);
                *after = task.memtable.visit_versions(after.as_deref(), SLICE_BYTES, &mut add)?;
                if after.is_none() {
                    task.outputs.finish()?;
                    task.stage = Stage::Check;
                }
            }
            Stage::Check => {
                // What was written just now may be asked for soon, or never again.
                task.outputs.check(|_| Access::Scan)?;
                task.stage = Stage::Record;
            }
            Stage::Record => {
                self.record(task)?;
                return Ok(true);
            }
        }
        self.task = Some(task);
        Ok(true)
    }

    fn next_task(&self) -> Option<Task> {
        let store = &self.store;
        let trees = store.trees.read();
        let sealed = trees.values().filter_map(|tree| Some((tree, tree.oldest_sealed()?)));
        let (tree, memtable) = sealed.min_by_key(|(_, memtable)| memtable.last())?;
        let horizon = store.snapshots.horizon();
        let version = tree.version();
        let is_bottom = version.runs.is_empty();
        let retention = Retention::new(horizon, version.floors.at(horizon), store.expired(), is_bottom);
        // Young, also where nothing lies beneath yet: it will soon be merged.
        let outputs =
            store.outputs(tree, Level::Upper, retention, Vec::new(), store.separation(tree, BTreeSet::new()));
        Some(Task { tree: Arc::clone(tree), memtable, outputs, stage: Stage::Write { after: None } })
    }

    fn record(&self, task: Task) -> Result<()> {
        let Task { tree, memtable, outputs, .. } = task;
        let (keyspace, seqno): (_, Seqno) = (tree.id(), memtable.last());
        let added = tree.live(outputs.tables(), tree.take_run_number());
        let tables = TableChange { removed: Vec::new(), added };
        let mut edits = tables.edits(keyspace);
        edits.push(Edit::Flushed { keyspace, seqno });
        let install = || tree.install_flush(&memtable, &tables);
        let change = Change { tree: &tree, edits, flushed: Some(&memtable), install: &install };
        let written = outputs.bytes();
        if self.store.commit_tables(&change, outputs)? {
            self.store.forget_bytes(memtable.forget());
            self.store.counters.flushes.fetch_add(1, Ordering::Relaxed);
            self.store.counters.flushed_bytes.fetch_add(written, Ordering::Relaxed);
            self.store.quiet.lock().flushed(self.store.context.env.clock.monotonic());
            self.store.count_runs();
        }
        self.store.settled(None);
        self.store.wake();
        Ok(())
    }

    fn record_pending(&self) -> Result<bool> {
        if self.store.pending.lock().is_empty() {
            return Ok(false);
        }
        self.store.commit(None)?;
        self.store.settled(None);
        Ok(true)
    }
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
            self.task = None;
            return next;
        }
        match self.step() {
            Ok(true) => Next::Again,
            Ok(false) => {
                // Nothing is left to do: what was in the way is not any more.
                if self.store.trouble.lock().take().is_some() {
                    self.store.progress.notify();
                }
                Next::Wait
            }
            Err(error) => {
                // The output is gone with the task; the memtable is still there and is written again.
                self.store.settled(Some(error));
                Next::WaitUntil(self.store.context.env.clock.monotonic() + BACK_OFF)
            }
        }
    }
}
