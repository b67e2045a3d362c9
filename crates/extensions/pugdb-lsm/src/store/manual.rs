//! A range that somebody wants compacted now: everything that was there becomes one run, without what is old in it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pugdb_core::engine::KeyRange;
use pugdb_core::{FileId, KeyspaceId, Result, Timestamp};

use super::pick::{self, Piece, RunView, Sizes, TableView};
use super::{Store, closing};
use crate::tree::Version;

/// What is wanted, and whether it is done.
pub(super) struct Request {
    keyspace: KeyspaceId,
    range: KeyRange,
    is_done: AtomicBool,
}

/// What may go beside old versions.
pub(super) struct Rules {
    /// What had expired at this moment.
    pub(super) expired: Timestamp,
    /// The keyspace has a filter, which has to be asked about every entry, or some may have been erased.
    pub(super) is_filtered: bool,
}

/// A request that the job is at.
pub(super) struct Manual {
    request: Arc<Request>,
    /// Younger runs are none of its business, or it would never end.
    newest: u64,
    /// When all is one run: tables of it that hold what can go.
    rewritten: Option<BTreeSet<FileId>>,
}

impl Request {
    pub(super) fn keyspace(&self) -> KeyspaceId {
        self.keyspace
    }
}

impl Manual {
    pub(super) fn begin(request: Arc<Request>, runs: &[RunView]) -> Self {
        Self { request, newest: runs.first().map_or(0, |run| run.number), rewritten: None }
    }

    pub(super) fn request(&self) -> &Arc<Request> {
        &self.request
    }

    /// The next piece of it.
    pub(super) fn next(
        &mut self,
        version: &Version,
        runs: &[RunView],
        rules: &Rules,
        sizes: Sizes,
    ) -> Option<Piece> {
        let range = &self.request.range;
        if self.rewritten.is_none()
            && let Some(piece) = pick::merge_range(runs, self.newest, range, sizes)
        {
            return Some(piece);
        }
        let bottom = runs.len().checked_sub(1)?;
        let id = |table: usize| version.runs[bottom].tables[table].id();
        let wanted = self.rewritten.get_or_insert_with(|| {
            let tables = runs[bottom].tables.iter().enumerate();
            let can_shrink = |table: &TableView| {
                table.can_shrink(range, rules.expired) || (rules.is_filtered && table.is_in(range))
            };
            tables.filter(|(_, table)| can_shrink(table)).map(|(table, _)| id(table)).collect()
        });
        let piece = pick::rewrite_some(runs, bottom, sizes, |table| wanted.contains(&id(table)))?;
        for (_, table) in &piece.inputs {
            wanted.remove(&id(*table));
        }
        Some(piece)
    }
}

impl Store {
    /// Merges all that a keyspace holds in a range, and waits for it: no version is left there that nobody can see, no
    /// delete and no expired entry whose grace is over, but for those that a snapshot needs. The keyspace's filter, if it
    /// has one, is asked about all of it. Keys before the range may be merged along. Damaged tables are left alone.
    ///
    /// # Errors
    /// `Unavailable` when the disk is full or failed, `Closed` when the database is closed meanwhile.
    pub fn compact_range(&self, keyspace: KeyspaceId, range: &KeyRange) -> Result<()> {
        self.flush()?;
        let trees = self.trees_of(keyspace).map_or_else(Vec::new, |trees| trees.all());
        trees.iter().try_for_each(|tree| self.compact_tree(tree.id(), range.clone()))
    }

    fn compact_tree(&self, keyspace: KeyspaceId, range: KeyRange) -> Result<()> {
        let request = Arc::new(Request { keyspace, range, is_done: AtomicBool::new(false) });
        self.requests.lock().push_back(Arc::clone(&request));
        *self.compaction_trouble.lock() = None;
        self.wake();
        let is_done = || request.is_done.load(Ordering::Acquire);
        let trouble = || self.failure().or_else(|| self.compaction_trouble.lock().clone());
        self.context.env.executor.block_until(&self.progress, None, &mut || {
            is_done() || self.closing.load(Ordering::Acquire) || trouble().is_some()
        });
        if is_done() {
            return Ok(());
        }
        self.requests.lock().retain(|other| !Arc::ptr_eq(other, &request));
        Err(trouble().unwrap_or_else(closing))
    }

    /// Has all trees merged so, one after the other, and waits for nothing. What was asked for before is done first.
    pub(super) fn compact_all_later(&self) {
        let trees: Vec<KeyspaceId> = self.trees.read().keys().copied().collect();
        let request =
            |keyspace| Request { keyspace, range: KeyRange::from(..), is_done: AtomicBool::new(false) };
        self.requests.lock().extend(trees.into_iter().map(request).map(Arc::new));
        self.wake();
    }

    /// It is done, or its keyspace is gone.
    pub(super) fn finish(&self, request: &Arc<Request>) {
        self.requests.lock().retain(|other| !Arc::ptr_eq(other, request));
        request.is_done.store(true, Ordering::Release);
        self.progress.notify();
    }

    /// True when nobody asks for anything.
    pub(super) fn has_no_requests(&self) -> bool {
        self.requests.lock().is_empty()
    }

    /// What the compaction job is asked for next.
    pub(super) fn request(&self) -> Option<Arc<Request>> {
        self.requests.lock().front().cloned()
    }
}
