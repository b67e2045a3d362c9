//! A tree: one keyspace's memtables and sorted runs of tables. It knows no log: operations come with their seqnos, and
//! it says up to where they are in tables.
//!
//! Reads look at a [`Version`] that does not change: memtables, then runs, newest first. Writes go to the active
//! memtable; flush and compaction make tables and install a new version.

mod approximate;
mod chain;
mod changed;
mod filter;
mod folding;
mod footprint;
mod graveyard;
mod live;
mod operator;
mod outputs;
mod retention;
mod scan;
mod value_files;
mod view;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwap, Guard};
use parking_lot::{Mutex, RwLock};
use pugdb_core::engine::{
    Capabilities, Counts, Cursor, Direction, Engine, KeyRange, Operands, Persistence, ReadPoint, Scans,
};
use pugdb_core::memory::Floors;
use pugdb_core::seam::{AtHand, FileKind, Wait};
use pugdb_core::snapshots::Snapshots;
use pugdb_core::{EntryKind, Error, FileId, Found, KeyspaceId, Operation, Ops, Result, Seqno, Value};

pub use approximate::Approximate;
pub use filter::Filters;
pub use footprint::TreeSizes;
pub use operator::Operators;
pub use view::TreeView;

pub(crate) use filter::{Filter, Filtering};
pub(crate) use folding::Folding;
pub(crate) use graveyard::Graveyard;
pub(crate) use live::{LiveTable, Shelf};
pub(crate) use operator::Merging;
pub(crate) use outputs::{EntryRules, Outputs, sync_contents, sync_names};
pub(crate) use retention::{Cover, Retention};
pub(crate) use value_files::ValueFiles;

use self::footprint::Footprint;
use crate::file::Context;
use crate::manifest::{Edit, KeyspaceState};
use crate::memtable::Memtable;
use crate::options::{Logging, TreeOptions};
use crate::table::{self, Access, BlockRef, KeyHash, Located, load_blocks};
use crate::tombstones::{RangeTombstone, Tombstones};
use crate::values::{self, ValueRef, load_values};

/// A memtable of a partition is no smaller than this, if memtables are larger: tables would be many and small.
const PART_BYTES_MIN: usize = 1 << 20;

/// One keyspace's entries.
pub struct Tree {
    /// Where somebody can look: of range tombstones, those that nobody can tell apart are one.
    snapshots: Arc<Snapshots>,
    id: KeyspaceId,
    /// Set when the keyspace is dropped. Nothing is written for it any more; readers with older snapshots go on.
    dropped: AtomicBool,
    /// Of the hash tables of memtables.
    memtable_seed: u64,
    /// The active memtable has something for the background to merge.
    wants_merge: AtomicBool,
    /// How many trees its keyspace has.
    siblings: AtomicUsize,
    /// How its next tables are made.
    options: RwLock<TreeOptions>,
    /// What compaction may forget of it.
    filter: RwLock<Option<Filter>>,
    /// What folds its operands.
    merging: Arc<Merging>,
    /// How often a filter has made something go.
    filtered: AtomicU64,
    /// The number for the next flushed run.
    next_run: AtomicU64,
    /// What readers look at. Swapped whole, never changed.
    version: ArcSwap<Version>,
    /// Guards the making of the next version of the one above.
    installing: Mutex<()>,
    /// Guards the order of writes and the change of memtables: the newest applied seqno.
    applied: Mutex<Seqno>,
}

/// What a reader looks at.
pub(crate) struct Version {
    /// Newest first; the first one is being written.
    pub(crate) memtables: Vec<Arc<Memtable>>,
    /// Newest first. Shared: a range delete makes a version of its own.
    pub(crate) runs: Arc<Vec<Run>>,
    pub(crate) floors: Floors,
    /// Of operations in the memtables too.
    pub(crate) tombstones: Tombstones,
    /// Everything up to here is in the runs.
    pub(crate) flushed: Seqno,
    merging: Arc<Merging>,
    /// Of these tables, once somebody has asked.
    footprint: OnceLock<Footprint>,
}

/// Tables whose keys do not overlap, in key order.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) number: u64,
    pub(crate) tables: Vec<Arc<LiveTable>>,
}

/// Removes a table or a value file. Best effort: the next open removes what nothing names.
pub(crate) fn remove_file(context: &Context, kind: FileKind, id: FileId) {
    context.tables.forget(id);
    let path = if kind == FileKind::Values { values::path(context, id) } else { table::path(context, id) };
    let _ = context.env.fs.remove(&path);
}

impl Run {
    /// True when a table of it is damaged: it is never merged.
    pub(crate) fn is_quarantined(&self) -> bool {
        self.tables.iter().any(|live| live.is_quarantined())
    }

    /// False when no table of it has what this range tombstone hides.
    fn may_hold_hidden(&self, tombstone: &RangeTombstone) -> bool {
        let span = &tombstone.span;
        let start = self.tables.partition_point(|live| live.bounds().last < span.start);
        let is_in = |live: &&Arc<LiveTable>| span.end.as_ref().is_none_or(|end| live.bounds().first < *end);
        self.tables[start..].iter().take_while(is_in).any(|live| live.may_hold_hidden(tombstone.seqno))
    }

    /// The tables that can hold keys of a range.
    fn overlapping(&self, range: &KeyRange) -> std::ops::Range<usize> {
        let is_before = |live: &Arc<LiveTable>| range.starts_after(&live.bounds().last);
        let start = self.tables.partition_point(is_before);
        let rest = self.tables.get(start..).unwrap_or_default();
        start..start + rest.partition_point(|live| !range.ends_before(&live.bounds().first))
    }

    /// The one table that can hold a version of `key` above `floor`.
    fn table_for(&self, key: &[u8], floor: Seqno) -> Option<&Arc<LiveTable>> {
        let index = self.tables.partition_point(|live| *live.bounds().last < *key);
        self.tables.get(index).filter(|live| live.bounds().contains(key) && live.newest() > floor)
    }
}

impl Tree {
    /// The tree of a keyspace: its tables as the manifest knows them, none of them opened, and an empty memtable.
    pub(crate) fn new(
        shelf: &Arc<Shelf>,
        snapshots: &Arc<Snapshots>,
        id: KeyspaceId,
        state: &KeyspaceState,
    ) -> Arc<Self> {
        let added = state.tables.iter().map(|entry| (entry.run, LiveTable::closed(shelf, entry))).collect();
        let runs = TableChange { removed: Vec::new(), added }.applied_to(&[]);
        let mut seed = [0; 8];
        shelf.context.env.random.fill(&mut seed);
        let memtable_seed = u64::from_le_bytes(seed);
        let merging = Arc::new(Merging::default());
        let next_run = runs.first().map_or(1, |run| run.number + 1);
        let version = Version {
            memtables: vec![Arc::new(Memtable::new(memtable_seed))],
            runs: Arc::new(runs),
            floors: state.floors.clone(),
            tombstones: Tombstones::of(state.tombstones.iter().cloned(), &snapshots.read_points()),
            flushed: state.flushed,
            merging: Arc::clone(&merging),
            footprint: OnceLock::new(),
        };
        Arc::new(Self {
            snapshots: Arc::clone(snapshots),
            id,
            dropped: AtomicBool::new(false),
            memtable_seed,
            wants_merge: AtomicBool::new(false),
            siblings: AtomicUsize::new(1),
            options: RwLock::new(state.options),
            filter: RwLock::default(),
            merging,
            filtered: AtomicU64::new(0),
            next_run: AtomicU64::new(next_run),
            applied: Mutex::new(state.flushed),
            version: ArcSwap::from_pointee(version),
            installing: Mutex::new(()),
        })
    }

    /// Its keyspace.
    pub fn id(&self) -> KeyspaceId {
        self.id
    }

    /// How its new tables are made.
    pub fn options(&self) -> TreeOptions {
        *self.options.read()
    }

    /// Whether what is in its memtables is in the log too.
    pub fn is_logged(&self) -> bool {
        self.options.read().logging == Logging::Logged
    }

    pub(crate) fn set_options(&self, options: TreeOptions, operators: &Operators) {
        *self.options.write() = options;
        self.merging.learn(options.operator, operators);
    }

    /// What folds its operands when entries are written anew, if that is known.
    pub(crate) fn folding(&self) -> Option<Folding> {
        self.merging.operator().ok().map(Folding::new)
    }

    /// May operands be written?
    ///
    /// # Errors
    /// `Invalid` when the database was opened without the operator that folds them.
    pub fn check_operator(&self) -> Result<()> {
        self.merging.operator().map(drop)
    }

    /// What comes of operands, the oldest first, on a value.
    ///
    /// # Errors
    /// As [`check_operator`](Self::check_operator); `Invalid` when the operator refuses them, `Internal` when it panics.
    pub fn merge(&self, key: &[u8], existing: Option<&[u8]>, operands: &[&[u8]]) -> Result<Value> {
        self.merging.operator()?.merge(key, existing, operands)
    }

    pub(crate) fn filter(&self) -> Option<Filter> {
        self.filter.read().clone()
    }

    pub(crate) fn set_filter(&self, filter: Option<Filter>) {
        *self.filter.write() = filter;
    }

    /// How often a compaction filter has made entries go: each time without a commit.
    pub fn filtered(&self) -> u64 {
        self.filtered.load(Ordering::Acquire)
    }

    /// Something went, and readers see it.
    pub(crate) fn count_filtered(&self) {
        self.filtered.fetch_add(1, Ordering::AcqRel);
    }

    /// The newest operation that was applied.
    pub fn applied(&self) -> Seqno {
        *self.applied.lock()
    }

    /// Everything up to here is in its tables.
    pub fn flushed(&self) -> Seqno {
        self.glance().flushed
    }

    /// What readers look at now, to be kept.
    pub(crate) fn version(&self) -> Arc<Version> {
        self.version.load_full()
    }

    /// What readers look at now, for a short look: no count is changed.
    fn glance(&self) -> Guard<Arc<Version>> {
        self.version.load()
    }

    /// Swaps the version for one that `change` makes of it.
    fn install(&self, change: impl FnOnce(&Version) -> Version) {
        let installing = self.installing.lock();
        let next = Arc::new(change(&self.glance()));
        let old = self.version.swap(next);
        drop(installing);
        // Tables may be unlinked here: outside the lock.
        drop(old);
    }

    /// The oldest operation that is in no table.
    pub(crate) fn first_unflushed(&self) -> Option<Seqno> {
        self.first_unflushed_but(|_| false)
    }

    /// [`first_unflushed`](Self::first_unflushed) when these memtables are in tables.
    pub(crate) fn first_unflushed_but(&self, is_flushed: impl Fn(&Arc<Memtable>) -> bool) -> Option<Seqno> {
        let version = self.glance();
        let left = version.memtables.iter().filter(|memtable| !is_flushed(memtable));
        left.filter_map(|memtable| memtable.first()).min()
    }

    /// The oldest operation for which the log is needed.
    pub(crate) fn first_in_log(&self) -> Option<Seqno> {
        self.first_unflushed().filter(|_| self.is_logged())
    }

    /// Bytes in the active memtable.
    pub(crate) fn active_bytes(&self) -> usize {
        self.glance().memtables[0].bytes()
    }

    /// The last seqno of the active memtable, if that holds as much.
    pub(crate) fn active_last(&self, bytes_min: usize) -> Option<Seqno> {
        let active = &self.glance().memtables[0];
        (active.bytes() >= bytes_min).then(|| active.last())
    }

    /// When its memtable is full: all of a keyspace's are as large together as that of one tree. Spread over more memory, each write
    /// would find less of it in the processor's caches.
    pub(crate) fn memtable_bytes_max(&self, of_keyspace: usize) -> usize {
        let part = of_keyspace / self.siblings.load(Ordering::Relaxed).max(1);
        part.max(PART_BYTES_MIN.min(of_keyspace))
    }

    pub(crate) fn set_siblings(&self, trees: usize) {
        self.siblings.store(trees, Ordering::Relaxed);
    }

    /// Begins a new memtable, if the active one holds anything. False when it does not.
    pub(crate) fn seal(&self) -> bool {
        let _order = self.applied.lock();
        if self.glance().memtables[0].first().is_none() {
            return false;
        }
        self.install(|version| Version {
            memtables: std::iter::once(Arc::new(Memtable::new(self.memtable_seed)))
                .chain(version.memtables.iter().cloned())
                .collect(),
            ..version.clone()
        });
        true
    }

    /// The oldest sealed memtable.
    pub(crate) fn oldest_sealed(&self) -> Option<Arc<Memtable>> {
        let version = self.glance();
        version.memtables[1..].last().cloned()
    }

    /// Forgets truncations that no reader at or after `horizon` can tell apart.
    pub(crate) fn settle_floors(&self, horizon: Seqno) {
        let _order = self.applied.lock();
        self.install(|version| {
            let mut floors = version.floors.clone();
            floors.settle(horizon);
            Version { floors, ..version.clone() }
        });
    }

    /// [`apply`](Engine::apply) for operations of which others go elsewhere: their seqnos ascend. Returns what they count in the
    /// budget of memory.
    pub(crate) fn apply_some(&self, ops: &[(Seqno, Operation<'_>)]) -> usize {
        let mut applied = self.applied.lock();
        let newest = *applied;
        let new = &ops[ops.partition_point(|(seqno, _)| *seqno <= newest)..];
        self.insert(new.iter().copied());
        if new.iter().any(|(_, op)| matches!(op, Operation::DeleteRange(_))) {
            self.delete_ranges(new.iter().copied());
        }
        *applied = new.last().map_or(newest, |(last, _)| *last);
        new.iter().map(|(_, op)| op.cost_bytes()).sum()
    }

    /// Operations behind all others, with the order of writes held.
    fn insert<'o>(&self, ops: impl Iterator<Item = (Seqno, Operation<'o>)>) {
        let active = Arc::clone(&self.glance().memtables[0]);
        if active.insert(ops) {
            self.wants_merge.store(true, Ordering::Release);
        }
    }

    /// Range deletes hide from here on what their keys had before, as soon as they are visible.
    fn delete_ranges<'o>(&self, ops: impl Iterator<Item = (Seqno, Operation<'o>)>) {
        let new = ops.filter_map(|(seqno, op)| match op {
            Operation::Entry(_) => None,
            Operation::DeleteRange(span) => Some(RangeTombstone { span: span.to_span(), seqno }),
        });
        let new: Vec<RangeTombstone> = new.collect();
        if !new.is_empty() {
            self.install(|version| Version {
                tombstones: version.tombstones.with(new.into_iter(), &self.points(version)),
                ..version.clone()
            });
        }
    }

    /// Where somebody can look, ascending. Without a log also where a crash can leave the tree: a range delete that is
    /// lost then must not have taken the place of one that is not.
    fn points(&self, version: &Version) -> Vec<Seqno> {
        let mut points = self.snapshots.read_points();
        if !self.is_logged() {
            points.push(version.flushed);
            points.extend(version.memtables[1..].iter().map(|memtable| memtable.last()));
            points.sort_unstable();
        }
        points
    }

    /// Up to where range deletes count for what tables need not hold, when nobody reads before `horizon`: they are as durable
    /// as what is left away for them.
    pub(crate) fn deleted_through(&self, version: &Version, horizon: Seqno) -> Seqno {
        if self.is_logged() { horizon } else { horizon.min(version.flushed) }
    }

    /// What range deletes hide from every reader, now and later, as far as this tree has heard of them: during a replay
    /// others may follow that are older than what is visible.
    pub(crate) fn cover(&self, horizon: Seqno) -> Cover {
        // In this order: what was applied before is in the version behind it.
        let applied = self.applied();
        let version = self.version();
        let through = applied.min(self.deleted_through(&version, horizon));
        Cover::new(version.tombstones.clone(), through, applied.min(horizon))
    }

    /// What the manifest is told when the oldest memtable, which ends at `through`, is in tables: its range deletes.
    pub(crate) fn tombstones_edit(&self, through: Seqno) -> Option<Edit> {
        let version = self.version();
        let after = version.flushed;
        let is_in = |tombstone: &RangeTombstone| tombstone.seqno > after && tombstone.seqno <= through;
        let left: Vec<RangeTombstone> = version.tombstones.iter().filter(is_in).collect();
        let has_any = !left.is_empty();
        let edit = Edit::RangeTombstones { keyspace: self.id, after, through, left };
        has_any.then_some(edit)
    }

    /// Of the range tombstones up to `through` these are left.
    pub(crate) fn install_tombstones(&self, left: &[RangeTombstone], through: Seqno) {
        self.install(|version| {
            let newer = version.tombstones.iter().filter(|tombstone| tombstone.seqno > through);
            // Behind the version: what of it is not visible yet is one commit, between whose parts nobody reads.
            let tombstones = Tombstones::of(left.iter().cloned().chain(newer), &self.points(version));
            Version { tombstones, ..version.clone() }
        });
    }

    /// Whether the background has something to merge in the active memtable.
    pub(crate) fn wants_merge(&self) -> bool {
        self.wants_merge.load(Ordering::Acquire)
    }

    /// Merges a little of the active memtable's order, so that scans have less to do. False when nothing is left.
    pub(crate) fn merge_step(&self) -> bool {
        self.wants_merge.store(false, Ordering::Release);
        let active = Arc::clone(&self.glance().memtables[0]);
        let merged = active.merge_step();
        if merged {
            self.wants_merge.store(true, Ordering::Release);
        }
        merged
    }

    pub(crate) fn mark_dropped(&self) {
        self.dropped.store(true, Ordering::Release);
    }

    pub(crate) fn is_dropped(&self) -> bool {
        self.dropped.load(Ordering::Acquire)
    }

    /// All files go with their last reader. The manifest names none of them any more.
    pub(crate) fn doom_all(&self) {
        for run in self.version().runs.iter() {
            for live in &run.tables {
                live.doom();
            }
        }
    }

    pub(crate) fn take_run_number(&self) -> u64 {
        self.next_run.fetch_add(1, Ordering::AcqRel)
    }

    /// The oldest memtable is in these tables now.
    pub(crate) fn install_flush(&self, memtable: &Arc<Memtable>, change: &TableChange) {
        self.install(|version| Version {
            memtables: version
                .memtables
                .iter()
                .filter(|kept| !Arc::ptr_eq(kept, memtable))
                .cloned()
                .collect(),
            runs: Arc::new(change.applied_to(&version.runs)),
            flushed: version.flushed.max(memtable.last()),
            ..version.clone()
        });
    }

    /// True when a memtable has keys of one of these ranges.
    pub(crate) fn holds_in_memory(&self, ranges: &[KeyRange]) -> bool {
        self.glance().memtables.iter().any(|memtable| ranges.iter().any(|range| memtable.keys(range) > 0))
    }

    /// Tables whose entries all came at `at` take part in reads.
    pub(crate) fn install_ingested(&self, change: &TableChange, at: Seqno) {
        let mut applied = self.applied.lock();
        self.install_tables(change);
        *applied = applied.max(at);
    }

    /// Tables whose entries all came at `at` are all that there is up to there.
    pub(crate) fn install_copied(&self, change: &TableChange, at: Seqno) {
        let mut applied = self.applied.lock();
        self.install(|version| Version {
            runs: Arc::new(change.applied_to(&version.runs)),
            flushed: version.flushed.max(at),
            ..version.clone()
        });
        *applied = applied.max(at);
    }

    /// These tables take the place of those now. Files that no table shows any more go with their last reader.
    pub(crate) fn install_tables(&self, change: &TableChange) {
        self.install(|version| Version {
            runs: Arc::new(change.applied_to(&version.runs)),
            ..version.clone()
        });
        for gone in &change.removed {
            if !change.added.iter().any(|(_, live)| live.id() == gone.id()) {
                gone.doom();
            }
        }
    }
}

/// What becomes of tables in one step. A table that is removed and added again, in another run or with other bounds, keeps
/// its file.
#[derive(Default)]
pub(crate) struct TableChange {
    pub(crate) removed: Vec<Arc<LiveTable>>,
    /// With the numbers of their runs.
    pub(crate) added: Vec<(u64, Arc<LiveTable>)>,
}

impl TableChange {
    /// What the manifest is told.
    pub(crate) fn edits(&self, keyspace: KeyspaceId) -> Vec<Edit> {
        let removed = self.removed.iter().map(|live| Edit::RemoveTable { keyspace, file: live.id() });
        let added = self.added.iter().map(|(run, live)| Edit::AddTable { table: live.entry(*run) });
        removed.chain(added).collect()
    }

    fn applied_to(&self, runs: &[Run]) -> Vec<Run> {
        let is_gone = |live: &Arc<LiveTable>| self.removed.iter().any(|gone| Arc::ptr_eq(gone, live));
        let kept = |run: &Run| Run {
            number: run.number,
            tables: run.tables.iter().filter(|live| !is_gone(live)).cloned().collect(),
        };
        let mut runs: Vec<Run> = runs.iter().map(kept).collect();
        for (number, live) in &self.added {
            match runs.iter_mut().find(|run| run.number == *number) {
                Some(run) => run.tables.push(Arc::clone(live)),
                None => runs.push(Run { number: *number, tables: vec![Arc::clone(live)] }),
            }
        }
        ordered(runs)
    }
}

/// Runs newest first, their tables in key order.
fn ordered(mut runs: Vec<Run>) -> Vec<Run> {
    runs.retain(|run| !run.tables.is_empty());
    for run in &mut runs {
        run.tables.sort_by(|a, b| a.bounds().first.cmp(&b.bounds().first));
    }
    runs.sort_by_key(|run| std::cmp::Reverse(run.number));
    runs
}

impl Clone for Version {
    fn clone(&self) -> Self {
        Self {
            memtables: self.memtables.clone(),
            runs: Arc::clone(&self.runs),
            floors: self.floors.clone(),
            tombstones: self.tombstones.clone(),
            flushed: self.flushed,
            merging: Arc::clone(&self.merging),
            // The copy is to become another version.
            footprint: OnceLock::new(),
        }
    }
}

impl Engine for Tree {
    fn capabilities(&self) -> Capabilities {
        let (scans, persistence) = (Scans::Ordered, Persistence::Durable);
        Capabilities { scans, persistence, operands: Operands::Folded }
    }

    fn apply(&self, first: Seqno, ops: &Ops) -> Result<()> {
        let mut applied = self.applied.lock();
        let newest = *applied;
        self.insert(ops.behind(newest, first));
        if ops.has_ranges() {
            self.delete_ranges(ops.behind(newest, first));
        }
        *applied = newest.max(ops.last(first));
        Ok(())
    }

    fn truncate(&self, at: Seqno) -> Result<()> {
        let mut applied = self.applied.lock();
        let is_new = at > *applied;
        self.install(|version| {
            let (mut floors, mut memtables) = (version.floors.clone(), version.memtables.clone());
            floors.add(at);
            // What is hidden counts for nothing any more: so what comes does not go where it lies.
            if is_new && memtables[0].first().is_some() {
                memtables.insert(0, Arc::new(Memtable::new(self.memtable_seed)));
            }
            Version { memtables, floors, ..version.clone() }
        });
        *applied = applied.max(at);
        Ok(())
    }

    fn get(&self, key: &[u8], point: ReadPoint) -> Result<Option<Found>> {
        self.glance().get(key, point)
    }

    fn try_get(&self, key: &[u8], point: ReadPoint) -> Result<AtHand<Option<Found>>> {
        self.glance().look(key, point, Wait::Never)
    }

    fn exists(&self, key: &[u8], point: ReadPoint) -> Result<bool> {
        self.glance().exists(key, point)
    }

    fn multi_get(&self, keys: &[&[u8]], point: ReadPoint) -> Result<Vec<Option<Found>>> {
        self.version().multi_get(keys, point)
    }

    fn changed_since(&self, key: &[u8], since: Seqno) -> Result<bool> {
        self.glance().changed_since(key, since)
    }

    fn range_changed_since(&self, range: &KeyRange, since: Seqno) -> Result<bool> {
        self.version().range_changed_since(range, since)
    }

    fn scan(&self, range: KeyRange, direction: Direction, point: ReadPoint) -> Result<Box<dyn Cursor>> {
        Ok(Box::new(scan::TreeCursor::new(&self.version(), range, direction, point)))
    }

    fn count(&self, range: KeyRange, point: ReadPoint) -> Result<Counts> {
        scan::TreeCursor::new(&self.version(), range, Direction::Forward, point).count()
    }
}

/// A key on its way down the runs.
struct Descent {
    /// Its place in the list.
    number: usize,
    floor: Seqno,
    hash: KeyHash,
    /// The run to look at next.
    run: usize,
}

/// Fetches all values that lie in value files.
fn fetch_all(mut located: Vec<Option<Located>>) -> Result<Vec<Option<Found>>> {
    let (mut numbers, mut refs): (Vec<usize>, Vec<ValueRef>) = Default::default();
    for (number, located) in located.iter_mut().enumerate() {
        if let Some(value) = located.as_mut().and_then(Located::take_value) {
            numbers.push(number);
            refs.push(value);
        }
    }
    let values = load_values(&refs, Wait::Always)?.ok_or_else(did_not_wait)?;
    let mut found: Vec<Option<Found>> =
        located.into_iter().map(|located| located.map(|located| located.found)).collect();
    for (number, value) in numbers.into_iter().zip(values) {
        if let Some(found) = &mut found[number] {
            found.entry.value = Value::new(value)?;
        }
    }
    Ok(found)
}

fn did_not_wait() -> Error {
    Error::internal("a table store that may wait did not; please report it")
}

impl Tree {
    /// [`get`](Engine::get) at the read point that `point` gives when this has got hold of what it looks at: nothing has to
    /// be kept for it.
    #[inline]
    pub fn get_unpinned(
        &self,
        key: &[u8],
        wait: Wait,
        point: impl FnOnce() -> Result<ReadPoint>,
    ) -> Result<AtHand<Option<Found>>> {
        let version = self.glance();
        version.look(key, point()?, wait)
    }

    /// [`exists`](Engine::exists), with a read point as [`get_unpinned`](Self::get_unpinned) has it.
    pub fn exists_unpinned(&self, key: &[u8], point: impl FnOnce() -> Result<ReadPoint>) -> Result<bool> {
        let version = self.glance();
        version.exists(key, point()?)
    }
}

impl Version {
    /// The range tombstones up to what is in tables, and of them those that still hide something, or may: what a table holds
    /// of it was written before. `horizon` is where the oldest reader looks.
    pub(crate) fn flushed_tombstones(&self, horizon: Seqno) -> (usize, Vec<RangeTombstone>) {
        let flushed: Vec<RangeTombstone> =
            self.tombstones.iter().filter(|tombstone| tombstone.seqno <= self.flushed).collect();
        let is_needed = |tombstone: &RangeTombstone| {
            tombstone.seqno > horizon || self.runs.iter().any(|run| run.may_hold_hidden(tombstone))
        };
        (flushed.len(), flushed.into_iter().filter(is_needed).collect())
    }

    /// How many runs compaction can still bring down: those in quarantine are not for writers to wait for.
    pub(crate) fn mergeable_runs(&self) -> usize {
        self.runs.iter().filter(|run| !run.is_quarantined()).count()
    }

    fn get(&self, key: &[u8], point: ReadPoint) -> Result<Option<Found>> {
        self.look(key, point, Wait::Always)?.waited()
    }

    /// The newest version of a key that a reader at `seqno` must not see.
    #[inline]
    fn floor(&self, key: &[u8], seqno: Seqno) -> Seqno {
        let floor = self.floors.at(seqno);
        if self.tombstones.is_empty() { floor } else { floor.max(self.tombstones.floor(key, seqno)) }
    }

    /// Whether a reader sees anything of a key. Its value stays where it is.
    fn exists(&self, key: &[u8], point: ReadPoint) -> Result<bool> {
        let floor = self.floor(key, point.seqno);
        let mut found = self.look_in_memory(key, point.seqno);
        if found.is_none() {
            let located = self.look_in_runs(key, point.seqno, floor, Wait::Always)?.waited()?;
            found = located.map(|located| located.found);
        }
        match found {
            Some(found) if shows(&found, floor, point) => Ok(true),
            Some(found) => Ok(self.behind(&found, key, (point, floor), Wait::Always)?.waited()?.is_some()),
            None => Ok(false),
        }
    }

    /// What a reader sees of a key. What lies at or below its floor need not be looked for.
    fn look(&self, key: &[u8], point: ReadPoint, wait: Wait) -> Result<AtHand<Option<Found>>> {
        let floor = self.floor(key, point.seqno);
        if let Some(found) = self.look_in_memory(key, point.seqno) {
            if shows(&found, floor, point) {
                return Ok(AtHand::Yes(Some(found)));
            }
            return self.behind(&found, key, (point, floor), wait);
        }
        let AtHand::Yes(located) = self.look_in_runs(key, point.seqno, floor, wait)? else {
            return Ok(AtHand::WouldBlock);
        };
        // A value that nobody sees is not fetched.
        match located {
            Some(located) if shows(&located.found, floor, point) => Ok(located.fetch(wait)?.map(Some)),
            Some(located) => self.behind(&located.found, key, (point, floor), wait),
            None => Ok(AtHand::Yes(None)),
        }
    }

    /// What is there when the newest version alone shows nothing: it may be an operand.
    #[cold]
    #[inline(never)]
    fn behind(
        &self,
        newest: &Found,
        key: &[u8],
        (point, floor): (ReadPoint, Seqno),
        wait: Wait,
    ) -> Result<AtHand<Option<Found>>> {
        if newest.entry.kind != EntryKind::Operand || newest.seqno <= floor {
            return Ok(AtHand::Yes(None));
        }
        self.fold(key, point, floor, wait)
    }

    fn look_in_memory(&self, key: &[u8], seqno: Seqno) -> Option<Found> {
        self.memtables.iter().find_map(|memtable| memtable.get(key, seqno))
    }

    fn look_in_runs(
        &self,
        key: &[u8],
        seqno: Seqno,
        floor: Seqno,
        wait: Wait,
    ) -> Result<AtHand<Option<Located>>> {
        let hash = KeyHash::of(key);
        for run in self.runs.iter() {
            let Some(live) = run.table_for(key, floor) else { continue };
            let AtHand::Yes(table) = live.table(wait)? else { return Ok(AtHand::WouldBlock) };
            let looked = table.look(key, hash, seqno, wait)?;
            if !matches!(looked, AtHand::Yes(None)) {
                return Ok(looked);
            }
        }
        Ok(AtHand::Yes(None))
    }

    /// Several keys. Each goes down the runs as far as it comes with what is in memory; then the blocks that all of them
    /// need are read in one call. A second call is for those that a filter has sent to the wrong one. In the end all values are
    /// read in one call that lie in value files.
    fn multi_get(&self, keys: &[&[u8]], point: ReadPoint) -> Result<Vec<Option<Found>>> {
        let in_memory = |key: &&[u8]| self.look_in_memory(key, point.seqno).map(Located::from);
        let mut found: Vec<Option<Located>> = keys.iter().map(in_memory).collect();
        let mut descents: Vec<Descent> = (0..keys.len())
            .filter(|&number| found[number].is_none())
            .map(|number| {
                let key = keys[number];
                Descent { number, floor: self.floor(key, point.seqno), hash: KeyHash::of(key), run: 0 }
            })
            .collect();
        while !descents.is_empty() {
            let mut wanted: Vec<(Descent, BlockRef)> = Vec::new();
            for mut descent in descents.drain(..) {
                let block = self.descend(&mut descent, keys, point.seqno, &mut found)?;
                wanted.extend(block.map(|block| (descent, block)));
            }
            let refs: Vec<BlockRef> = wanted.iter().map(|(_, block)| block.clone()).collect();
            let blocks = load_blocks(&refs, Access::Point, Wait::Always)?.ok_or_else(did_not_wait)?;
            for ((descent, block_ref), block) in wanted.into_iter().zip(blocks) {
                let slot = &mut found[descent.number];
                *slot = block_ref.resolve(&block, keys[descent.number], point.seqno);
                if slot.is_none() {
                    descents.push(descent);
                }
            }
        }
        let shown = keys.iter().zip(found).map(|(key, located)| {
            let floor = self.floor(key, point.seqno);
            match located {
                Some(located) if !shows(&located.found, floor, point) => {
                    let found = self.behind(&located.found, key, (point, floor), Wait::Always)?.waited()?;
                    Ok(found.map(Located::from))
                }
                located => Ok(located),
            }
        });
        fetch_all(shown.collect::<Result<_>>()?)
    }

    /// Goes on until the key is found, in no run, or needs a block that is not in memory.
    fn descend(
        &self,
        descent: &mut Descent,
        keys: &[&[u8]],
        seqno: Seqno,
        found: &mut [Option<Located>],
    ) -> Result<Option<BlockRef>> {
        let key = keys[descent.number];
        while let Some(run) = self.runs.get(descent.run) {
            descent.run += 1;
            let table = run.table_for(key, descent.floor).map(|live| live.opened()).transpose()?;
            let Some(block) = table.and_then(|table| table.plan_get(key, descent.hash, seqno)) else {
                continue;
            };
            let Some(cached) = block.cached() else { return Ok(Some(block)) };
            found[descent.number] = block.resolve(&cached, key, seqno);
            if found[descent.number].is_some() {
                break;
            }
        }
        Ok(None)
    }
}

/// The last step of a read: the newest version counts when it is neither deleted nor expired, nor at or below the floor.
fn shows(found: &Found, floor: Seqno, point: ReadPoint) -> bool {
    found.entry.is_live(point.now) && found.seqno > floor
}
