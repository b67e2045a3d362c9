//! What somebody wants merged now: a range, of which everything that was there becomes one run, without what is old in it; or
//! files that are to be written anew, each in its run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pugdb_core::engine::KeyRange;
use pugdb_core::{FileId, KeyspaceId, Result, Timestamp};

use super::pick::{self, Piece, RunView, Sizes, TableView};
use super::{Store, StoredFile, closing};
use crate::tree::Version;

/// What is wanted, and whether it is done.
pub(super) struct Request {
    keyspace: KeyspaceId,
    what: What,
    is_done: AtomicBool,
}

enum What {
    /// All that lies in it.
    Range(KeyRange),
    /// Tables and value files. Where a run has a damaged table, they stay.
    Files(BTreeSet<FileId>),
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
    fn new(keyspace: KeyspaceId, what: What) -> Self {
        Self { keyspace, what, is_done: AtomicBool::new(false) }
    }

    pub(super) fn keyspace(&self) -> KeyspaceId {
        self.keyspace
    }

    /// The files of a keyspace that are to go.
    pub(super) fn files_of(&self, keyspace: KeyspaceId) -> impl Iterator<Item = FileId> {
        let files = match &self.what {
            What::Files(files) if self.keyspace == keyspace => Some(files),
            _ => None,
        };
        files.into_iter().flatten().copied()
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
        let range = match &self.request.what {
            What::Range(range) => range,
            What::Files(files) => return next_of(files, version, runs, sizes),
        };
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

/// The next piece of files that are written anew: of the oldest run first. What was written has another name.
fn next_of(files: &BTreeSet<FileId>, version: &Version, runs: &[RunView], sizes: Sizes) -> Option<Piece> {
    (0..runs.len()).rev().filter(|&run| !runs[run].is_quarantined()).find_map(|run| {
        pick::rewrite_some(runs, run, sizes, |table| {
            let id = version.runs[run].tables[table].id();
            let mut points_to = runs[run].tables[table].values.iter().map(|used| used.file);
            files.contains(&id) || points_to.any(|file| files.contains(&file))
        })
    })
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
        trees.iter().try_for_each(|tree| self.wait_for(Request::new(tree.id(), What::Range(range.clone()))))
    }

    /// Writes tables and value files anew, as their keyspaces' options are now and with the newest keys, and waits for it. Those of a run
    /// with a damaged table are left alone; so are files that are not there any more.
    ///
    /// # Errors
    /// As [`compact_range`](Self::compact_range).
    pub fn rewrite(&self, files: &[StoredFile]) -> Result<()> {
        let mut of_trees: BTreeMap<KeyspaceId, BTreeSet<FileId>> = BTreeMap::new();
        for stored in files {
            of_trees.entry(stored.tree).or_default().insert(stored.file);
        }
        of_trees
            .into_iter()
            .try_for_each(|(tree, files)| self.wait_for(Request::new(tree, What::Files(files))))
    }

    fn wait_for(&self, request: Request) -> Result<()> {
        let request = Arc::new(request);
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
        let request = |keyspace| Request::new(keyspace, What::Range(KeyRange::from(..)));
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
