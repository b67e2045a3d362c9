//! The store: every tree of a database, the manifest they share, and the jobs that work for them.
//!
//! ```text
//! apply -> active memtable -> (full) sealed memtable -> flush job -> table, newest run -> compaction job -> fewer runs
//! ```
//!
//! The order that keeps the promise of a prefix: a table is durable and read again, the log is durable through
//! everything in it, the manifest names it, readers see it, the log is trimmed. The store knows the log only through
//! [`Gate`].

mod checkpoint;
mod compaction;
mod flush;
mod grace;
mod ingest;
mod keyspaces;
mod manual;
mod merge;
mod order;
mod pace;
mod part;
mod pick;
mod quiet;
mod repartition;
mod reserve;
mod rest;
mod scrub;
mod stored;
mod throttle;
mod unlink;
mod verify;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use pugdb_core::engine::EngineKind;
use pugdb_core::env::{Event, JobHandle, Next};
use pugdb_core::observer::DatabaseEvent;
use pugdb_core::snapshots::Snapshots;
use pugdb_core::{Error, FileId, Key, KeyspaceId, Result, Seqno, Timestamp};

pub use checkpoint::PinnedStore;
pub use ingest::SortedTables;
pub use pick::CompactionPolicy;
pub use repartition::Repartition;
pub use reserve::RESERVE;
pub use stored::StoredFile;
pub use verify::StoreVerify;

use self::grace::Grace;
use self::manual::Request;
use self::pace::{Account, Behind};
use self::part::Crew;
use self::pick::{Sizes, files_of, runs_behind};
use self::quiet::Quiet;
use self::reserve::Reserve;
use self::throttle::Throttle;
use crate::file::Context;
use crate::log::LogState;
use crate::manifest::{Edit, KeyspaceState, Manifest, State};
use crate::memtable::Memtable;
use crate::partition::{PartitionMap, Partitions};
use crate::table::{self, BlockCache};
use crate::tree::{EntryRules, Graveyard, LiveTable, Outputs, Run, Shelf, Tree, ValueFiles};
use crate::values::{self, Separation};
use crate::{Filters, Level, Operators};

/// Sizes of a store.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// A memtable of this size is sealed and flushed.
    pub memtable_bytes: usize,
    /// Writers wait when entries that are in no table take more than this.
    pub unflushed_bytes_max: usize,
    /// Table blocks kept in memory.
    pub cache_bytes: usize,
    /// How long an expired entry stays in its table, so that a calendar can be set right.
    pub expiry_grace: Duration,
    /// Which runs are merged, and when.
    pub policy: CompactionPolicy,
    /// About how large a table is, and how much one piece of a merge reads for each job.
    pub table_bytes: u64,
    /// How many jobs merge at the same time, 1 at least.
    pub compaction_jobs: usize,
    /// What compactions may read and write in a second; `None`: as much as they can.
    pub background_bytes_per_second: Option<u64>,
    /// Every table is read again when so long has passed; `None`: none is.
    pub scrub_interval: Option<Duration>,
    /// Room on the disk that is kept for deletes, flushes and merges on a full one; 0: none is.
    pub reserve_bytes: u64,
}

/// Writers wait when a tree has this many runs: compaction is behind, and reads grow slow.
const RUNS_MAX: usize = 48;
/// What a reader holds on to, though it has expired, is looked at again this much later.
const HELD_RETRY: Duration = Duration::from_secs(10);
/// The calendar may jump: nobody sleeps longer while something waits to expire.
const SLEEP_MAX: Duration = Duration::from_mins(10);

/// What the store needs of the log, without knowing it.
pub trait Gate: Send + Sync {
    /// Makes everything durable that was ever applied.
    fn make_durable(&self) -> Result<()>;

    /// What the manifest is to record of the log when operations before `first_unflushed` are in tables.
    fn log_state(&self, first_unflushed: Seqno) -> LogState;

    /// The manifest has recorded `state`: what lies before its start can go.
    fn recorded(&self, state: &LogState);

    /// The failure after which the log takes nothing more.
    fn failure(&self) -> Option<Error>;
}

/// All trees of a database.
pub struct Store {
    context: Context,
    options: StoreOptions,
    /// What compaction may forget.
    filters: Filters,
    /// What operands mean.
    operators: Operators,
    snapshots: Arc<Snapshots>,
    shelf: Arc<Shelf>,
    /// The log; absent while it is replayed, and in a store without one.
    gate: RwLock<Option<Arc<dyn Gate>>>,
    trees: RwLock<BTreeMap<KeyspaceId, Arc<Tree>>>,
    /// Keyspaces that have several of them.
    partitioned: RwLock<BTreeMap<KeyspaceId, Arc<Partitions>>>,
    /// Changes of keyspaces that the manifest does not know yet, by seqno. They go with its next edit.
    pending: Mutex<Vec<(Seqno, Edit)>>,
    /// Guards the order of edits, across the write and sync of each. Readers and writers of entries never take it.
    manifest: Mutex<Manifest>,
    /// Trees of dropped keyspaces that the manifest still knows.
    dropped: Mutex<BTreeMap<KeyspaceId, Arc<Tree>>>,
    jobs: Mutex<Vec<JobHandle>>,
    /// What is known of the clocks. `None` before the jobs are started: then nothing counts as expired.
    grace: Mutex<Option<Grace>>,
    /// When little is written.
    quiet: Mutex<Quiet>,
    closing: AtomicBool,
    /// Notified when a flush or compaction has ended, well or not.
    progress: Event,
    /// The write or sync of the manifest that failed. Nothing is written after it.
    failure: Mutex<Option<Error>>,
    /// What keeps flushes from ending: a full disk, say. It is tried again.
    trouble: Mutex<Option<Error>>,
    /// What keeps compactions from ending. Writers mind it only when there are too many runs.
    compaction_trouble: Mutex<Option<Error>>,
    /// Bytes of entries in memtables that are in no table.
    unflushed: AtomicUsize,
    /// Bytes of writes that were let in and are not applied yet.
    reserved: AtomicUsize,
    /// Writers who wait for room. The others need not tell anybody that they have given some back.
    waiting: AtomicUsize,
    /// Memtables were sealed because all of them together are too large. Taken back when no sealed one is left.
    is_pressed: AtomicBool,
    runs_max: AtomicUsize,
    /// Never notified: who pays for what is behind sleeps on it.
    pause: Event,
    account: Account,
    throttle: Throttle,
    reserve: Reserve,
    /// A flush, or a piece of a merge, is under way.
    is_flushing: AtomicBool,
    is_merging: AtomicBool,
    /// Guards how many stalls the observers were told of, and their time.
    told_stalls: Mutex<(u64, u64)>,
    counters: Counters,
    /// The piece of a merge that was cut last, for those who have time.
    called: Mutex<Weak<Crew>>,
    /// Ranges that somebody wants compacted now, and waits for.
    requests: Mutex<VecDeque<Arc<Request>>>,
}

/// What has happened since the open.
#[derive(Default)]
struct Counters {
    flushes: AtomicU64,
    flushed_bytes: AtomicU64,
    compactions: AtomicU64,
    compacted_bytes: AtomicU64,
    parts_beside: AtomicU64,
    filtered: AtomicU64,
    filter_panics: AtomicU64,
    folded: AtomicU64,
    operator_failures: AtomicU64,
    stalls: AtomicU64,
    stall_us: AtomicU64,
    scrubbed_tables: AtomicU64,
    scrubbed_bytes: AtomicU64,
    scrub_failures: AtomicU64,
    /// 0: there was none.
    scrub_pass_at: AtomicU64,
}

/// Sizes and counts.
#[derive(Clone, Debug, Default)]
pub struct StoreStats {
    /// Tables that take part in reads.
    pub tables: usize,
    /// Their bytes.
    pub table_bytes: u64,
    /// What they would take if nothing in them were compressed.
    pub table_bytes_uncompressed: u64,
    /// Value files into which they point.
    pub value_files: usize,
    /// Their bytes.
    pub value_bytes: u64,
    /// What tables point to of them; the rest is garbage.
    pub value_live_bytes: u64,
    /// Sorted runs.
    pub runs: usize,
    /// The bytes of each of them: a keyspace after the other, newest first.
    pub run_bytes: Vec<u64>,
    /// What range deletes have left to be hidden, in pieces that do not overlap.
    pub range_tombstones: usize,
    /// Entries in memtables.
    pub memtable_bytes: usize,
    /// Blocks in the cache.
    pub cache_bytes: usize,
    /// Filters and indexes of open tables.
    pub table_memory_bytes: usize,
    /// Blocks that readers found in the cache, near enough.
    pub cache_hits: u64,
    /// Blocks that they had to read.
    pub cache_misses: u64,
    /// Flushes since the open.
    pub flushes: u64,
    /// Bytes of the tables that they wrote.
    pub flushed_bytes: u64,
    /// Compactions since the open, each a piece of a merge.
    pub compactions: u64,
    /// Bytes of the tables that they wrote.
    pub compacted_bytes: u64,
    /// Parts of them that were merged by further jobs, at the same time as the rest.
    pub compaction_parts_beside: u64,
    /// How long compactions were held back since the open, in microseconds, all jobs together.
    pub held_us: u64,
    /// Entries that compaction filters have made go since the open.
    pub filtered: u64,
    /// How often a compaction filter panicked since the open.
    pub filter_panics: u64,
    /// Operands that flushes and compactions have made part of a value, or of another operand, since the open.
    pub folded: u64,
    /// How often a merge operator refused or panicked there since the open: those operands stay as they are.
    pub operator_failures: u64,
    /// How often a writer waited since the open, because flushes or compactions were behind.
    pub stalls: u64,
    /// How long, all waits together.
    pub stall_us: u64,
    /// Tables that were read again since the open, so that damage is found before it is needed.
    pub scrubbed_tables: u64,
    /// Their bytes, and those of values in value files.
    pub scrubbed_bytes: u64,
    /// How often one could not be read; that is tried again.
    pub scrub_failures: u64,
    /// When last all that was due had been read.
    pub scrub_pass_at: Option<Timestamp>,
    /// Tables with damaged parts.
    pub quarantined: usize,
    /// The reserve was given back and is not there again.
    pub is_disk_full: bool,
}

impl Store {
    /// The trees that the manifest knows. No table is opened: each is when it is first needed. The jobs are started by
    /// [`start`](Self::start).
    pub fn open(
        context: Context,
        options: StoreOptions,
        (filters, operators): (Filters, Operators),
        snapshots: Arc<Snapshots>,
        manifest: Manifest,
    ) -> Arc<Self> {
        let shelf = Arc::new(Shelf {
            context: context.clone(),
            cache: Arc::new(BlockCache::new(options.cache_bytes)),
            graveyard: Graveyard::new(&context),
            value_files: ValueFiles::default(),
        });
        let keyspaces = &manifest.state().keyspaces;
        let partitioned =
            || keyspaces.iter().filter_map(|(&id, state)| Some((id, state, state.partitions.as_ref()?)));
        // A partition is called like what it is a part of.
        let names: BTreeMap<KeyspaceId, &str> = partitioned()
            .flat_map(|(_, state, (map, _))| map.ids().iter().map(|&part| (part, &*state.name)))
            .collect();
        let open = |(&id, state): (&KeyspaceId, &KeyspaceState)| {
            let tree = Tree::new(&shelf, &snapshots, id, state);
            // No snapshot is older than the process.
            tree.set_filter(filters.of(names.get(&id).unwrap_or(&&*state.name), Seqno::ZERO));
            tree.set_options(state.options, &operators);
            (id, tree)
        };
        let on_disk = keyspaces.iter().filter(|(_, state)| state.engine == EngineKind::Lsm);
        let trees: BTreeMap<KeyspaceId, Arc<Tree>> = on_disk.map(open).collect();
        let several = |(id, _, (map, since)): (KeyspaceId, _, &(PartitionMap, Seqno))| {
            // All are there: that was checked when the manifest was read.
            let parts = map.ids().iter().filter_map(|part| trees.get(part).cloned()).collect();
            (id, Partitions::new(id, map.clone(), *since, parts))
        };
        let partitioned = partitioned().map(several).collect();
        let runs_max = trees.values().map(|tree| tree.version().mergeable_runs()).max().unwrap_or(0);
        Arc::new(Self {
            context,
            options,
            filters,
            operators,
            snapshots,
            shelf,
            gate: RwLock::new(None),
            trees: RwLock::new(trees),
            partitioned: RwLock::new(partitioned),
            pending: Mutex::default(),
            manifest: Mutex::new(manifest),
            dropped: Mutex::default(),
            jobs: Mutex::default(),
            grace: Mutex::default(),
            quiet: Mutex::default(),
            closing: AtomicBool::new(false),
            progress: Event::default(),
            failure: Mutex::default(),
            trouble: Mutex::default(),
            compaction_trouble: Mutex::default(),
            unflushed: AtomicUsize::new(0),
            reserved: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            is_pressed: AtomicBool::new(false),
            runs_max: AtomicUsize::new(runs_max),
            pause: Event::default(),
            account: Account::default(),
            throttle: Throttle::new(options.background_bytes_per_second),
            reserve: Reserve::default(),
            is_flushing: AtomicBool::new(false),
            is_merging: AtomicBool::new(false),
            told_stalls: Mutex::default(),
            counters: Counters::default(),
            called: Mutex::default(),
            requests: Mutex::default(),
        })
    }

    /// Connects the log and starts the jobs.
    pub fn start(self: &Arc<Self>, gate: Option<Arc<dyn Gate>>) {
        *self.gate.write() = gate;
        let stopwatch = self.context.env.clock.monotonic();
        *self.grace.lock() = Some(Grace::new(self.options.expiry_grace, stopwatch, self.snapshots.time()));
        self.quiet.lock().flushed(stopwatch);
        let executor = &self.context.env.executor;
        let flush = executor.spawn("flush", Box::new(flush::FlushJob::new(Arc::clone(self))));
        let compaction =
            executor.spawn("compaction", Box::new(compaction::CompactionJob::new(Arc::clone(self))));
        let order = executor.spawn("order", Box::new(order::OrderJob::new(Arc::clone(self))));
        let unlink = executor.spawn("unlink", Box::new(unlink::UnlinkJob::new(Arc::clone(self))));
        self.shelf.graveyard.employ(unlink.clone());
        let reserve = (self.options.reserve_bytes > 0)
            .then(|| executor.spawn("reserve", Box::new(reserve::ReserveJob::new(Arc::clone(self)))));
        let hand = |_| executor.spawn("compaction", Box::new(part::HandJob::new(Arc::clone(self))));
        let hands = (1..self.options.compaction_jobs).map(hand);
        let scrub = self.options.scrub_interval.map(|interval| {
            executor.spawn("scrub", Box::new(scrub::ScrubJob::new(Arc::clone(self), interval)))
        });
        *self.jobs.lock() =
            [flush, compaction, order, unlink].into_iter().chain(hands).chain(reserve).chain(scrub).collect();
    }

    /// What has expired at this moment can be given up: no reader is before it, now or later, and it has been the past
    /// for the grace period.
    fn expired(&self) -> Timestamp {
        let clock = &self.context.env.clock;
        let mut grace = self.grace.lock();
        let stood = grace.as_mut().map(|grace| grace.observe(clock.monotonic(), clock.now()));
        drop(grace);
        // First: from here on nobody is given an earlier time, and the manifest will say so before a table goes.
        stood.map_or(Timestamp(0), |stood| {
            self.snapshots.advance(stood);
            self.snapshots.expiry_horizon().min(stood)
        })
    }

    /// When the stopwatch may say that what expires at `moment` can be given up.
    fn look_again(&self, moment: Timestamp) -> Duration {
        let now = self.context.env.clock.monotonic();
        let due = self.grace.lock().as_ref().map_or(now, |grace| grace.when(moment));
        // It is due, and a reader from before is in the way.
        if due <= now { now + HELD_RETRY } else { due.min(now + SLEEP_MAX) }
    }

    /// From when on it counts as quiet, if nothing is flushed until then.
    fn quiet_at(&self) -> Duration {
        self.quiet.lock().since()
    }

    /// What the manifest says.
    pub fn state(&self) -> State {
        self.manifest.lock().state().clone()
    }

    /// What came of the merge operator, as far as it is no value.
    fn count_operator_failures(&self, outputs: &Outputs) {
        let failures = outputs.folding().map_or(0, |folding| folding.failures);
        self.counters.operator_failures.fetch_add(failures, Ordering::Relaxed);
    }

    /// Waits until there is room for `bytes` more in memory, and keeps it for the caller until the guard is dropped.
    ///
    /// # Errors
    /// `Unavailable` when flushes cannot end: the disk is full or failed.
    pub fn admit(&self, bytes: usize) -> Result<Admission<'_>> {
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        if self.try_reserve(bytes) {
            self.pay(bytes);
            return Ok(Admission { store: self, bytes });
        }
        self.wake();
        let mut is_admitted = false;
        let begun = self.context.env.clock.monotonic();
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.context.env.executor.block_until(&self.progress, None, &mut || {
            is_admitted = self.try_reserve(bytes);
            let is_over = is_admitted || self.closing.load(Ordering::Acquire) || self.obstacle().is_some();
            if !is_over {
                // Each time anew: what was sealed before may not have made room enough.
                self.seal_largest();
            }
            is_over
        });
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        self.count_stall(begun);
        if is_admitted {
            Ok(Admission { store: self, bytes })
        } else {
            Err(self.obstacle().unwrap_or_else(closing))
        }
    }

    /// Whether [`admit`](Self::admit) would make its caller wait now.
    pub fn would_wait(&self, bytes: usize) -> bool {
        let taken = self.reserved.load(Ordering::Relaxed) + self.unflushed.load(Ordering::Relaxed);
        let is_full = taken > 0 && taken + bytes > self.options.unflushed_bytes_max;
        is_full || self.has_too_many_runs() || self.behind().price(bytes as u64) > 0
    }

    /// Waits a little when flushes or compactions are behind, the longer the more they are: who is slowed down in time
    /// is not stopped.
    fn pay(&self, bytes: usize) {
        let price = self.behind().price(bytes as u64);
        if price == 0 {
            return self.account.forgive();
        }
        if let Some(pause) = self.account.charge(price) {
            let begun = self.context.env.clock.monotonic();
            self.context.env.executor.block_until(&self.pause, Some(begun + pause), &mut || false);
            self.count_stall(begun);
        }
    }

    /// How far flushes and compactions are behind.
    fn behind(&self) -> Behind {
        let taken = self.reserved.load(Ordering::Relaxed) + self.unflushed.load(Ordering::Relaxed);
        Behind {
            unflushed: taken as u64,
            unflushed_max: self.options.unflushed_bytes_max as u64,
            runs: self.runs_max.load(Ordering::Relaxed) as u64,
            runs_many: runs_behind(self.options.policy) as u64,
            runs_max: RUNS_MAX as u64,
        }
    }

    fn count_stall(&self, begun: Duration) {
        let stalled = self.context.env.clock.monotonic().saturating_sub(begun);
        let us = u64::try_from(stalled.as_micros()).unwrap_or(u64::MAX);
        self.counters.stalls.fetch_add(1, Ordering::Relaxed);
        self.counters.stall_us.fetch_add(us, Ordering::Relaxed);
    }

    /// Tells the observers, if there are any. For jobs that hold no lock.
    fn tell(&self, event: impl FnOnce() -> DatabaseEvent) {
        if !self.context.observers.is_empty() {
            self.context.observers.tell(&event());
        }
    }

    /// Tells of the writers that have waited since this was told last: they themselves may hold locks.
    fn tell_stalls(&self) {
        let counters = &self.counters;
        let (stalls, us) =
            (counters.stalls.load(Ordering::Relaxed), counters.stall_us.load(Ordering::Relaxed));
        let (told, told_us) = {
            let mut told = self.told_stalls.lock();
            std::mem::replace(&mut *told, (stalls, us))
        };
        if stalls > told {
            let took = Duration::from_micros(us.saturating_sub(told_us));
            self.tell(|| DatabaseEvent::Stalled { writes: stalls - told, took });
        }
    }

    fn try_reserve(&self, bytes: usize) -> bool {
        if self.has_too_many_runs() {
            return false;
        }
        let reserve = |reserved: usize| {
            let taken = reserved + self.unflushed.load(Ordering::Acquire);
            // One write alone is always let in: it has been held against the limits before.
            (taken == 0 || taken + bytes <= self.options.unflushed_bytes_max).then(|| reserved + bytes)
        };
        self.reserved.fetch_update(Ordering::SeqCst, Ordering::SeqCst, reserve).is_ok()
    }

    /// Counts what was applied, and seals memtables that are full. Called by the writer, in order.
    pub fn applied(&self, tree: &Arc<Tree>, bytes: usize) {
        let unflushed = self.unflushed.fetch_add(bytes, Ordering::AcqRel) + bytes;
        let (active, worth) = (tree.active_bytes(), rest::worth_bytes(self.options.memtable_bytes));
        if active >= tree.memtable_bytes_max(self.options.memtable_bytes) {
            tree.seal();
            self.wake();
        } else if active >= worth && active - bytes.min(active) < worth {
            // From now on the flush job looks whether it comes to rest.
            self.wake_flush();
        } else if unflushed > self.options.unflushed_bytes_max / 2 {
            // Many small memtables: none is full, and together they are too much.
            self.seal_largest();
        } else if tree.wants_merge() {
            self.wake();
        }
    }

    /// A range delete is visible: whole tables may be of no use any more.
    pub fn range_deleted(&self) {
        self.wake();
    }

    /// Has everything that is in memory flushed.
    fn seal_all(&self) {
        for tree in self.trees.read().values() {
            tree.seal();
        }
        self.wake_flush();
    }

    /// Seals the largest memtables if nothing is waiting to be flushed: as many as make one full one together.
    fn seal_largest(&self) {
        // Who has sealed some has looked at all keyspaces; until those are flushed nobody else need.
        if self.is_pressed.swap(true, Ordering::AcqRel) {
            return;
        }
        let trees: Vec<Arc<Tree>> = self.trees.read().values().cloned().collect();
        if trees.iter().all(|tree| tree.oldest_sealed().is_none()) {
            let mut sizes: Vec<(usize, &Arc<Tree>)> =
                trees.iter().map(|tree| (tree.active_bytes(), tree)).collect();
            sizes.sort_unstable_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
            let mut sealed = 0;
            for (bytes, tree) in sizes {
                if sealed >= self.options.memtable_bytes || bytes == 0 {
                    break;
                }
                sealed += if tree.seal() { bytes } else { 0 };
            }
        }
        self.wake_flush();
    }

    fn forget_bytes(&self, bytes: usize) {
        let _ = self
            .unflushed
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| Some(now.saturating_sub(bytes)));
    }

    /// Makes the flush job look for work.
    fn wake_flush(&self) {
        if let Some(flush) = self.jobs.lock().first() {
            flush.wake();
        }
    }

    /// Makes the compaction job look how the piece at hand stands.
    fn wake_compaction(&self) {
        if let Some(compaction) = self.jobs.lock().get(1) {
            compaction.wake();
        }
    }

    fn wake(&self) {
        for job in self.jobs.lock().iter() {
            job.wake();
        }
    }

    /// Writes everything that is in memory now to tables, and waits for it.
    ///
    /// # Errors
    /// `Unavailable` when the disk is full or failed.
    pub fn flush(&self) -> Result<()> {
        let trees = self.trees.read().values().cloned().collect();
        self.flush_trees(trees)
    }

    fn flush_trees(&self, trees: Vec<Arc<Tree>>) -> Result<()> {
        let mut waiting: Vec<(Arc<Tree>, Seqno)> = Vec::new();
        for tree in trees {
            tree.seal();
            let version = tree.version();
            let newest = version.memtables[1..].iter().map(|memtable| memtable.last()).max();
            waiting.extend(newest.map(|newest| (Arc::clone(&tree), newest)));
        }
        // What stood in the way before is tried again now.
        *self.trouble.lock() = None;
        self.wake();
        let is_done = || {
            waiting.iter().all(|(tree, newest)| tree.is_dropped() || tree.flushed() >= *newest)
                && self.pending.lock().is_empty()
        };
        self.context.env.executor.block_until(&self.progress, None, &mut || {
            is_done() || self.closing.load(Ordering::Acquire) || self.obstacle().is_some()
        });
        if is_done() { Ok(()) } else { Err(self.obstacle().unwrap_or_else(closing)) }
    }

    /// Writes what no log would bring back to tables, on this thread, behind [`stop`](Self::stop). The log has to be durable,
    /// for what is sealed of others is written with it.
    ///
    /// # Errors
    /// `Unavailable` when the disk is full or failed.
    pub fn flush_unlogged(self: &Arc<Self>) -> Result<()> {
        let trees: Vec<Arc<Tree>> = self.trees.read().values().cloned().collect();
        let mut is_waiting = false;
        for tree in trees.iter().filter(|tree| !tree.is_logged()) {
            tree.seal();
            is_waiting |= tree.oldest_sealed().is_some();
        }
        if is_waiting { self.flush_here() } else { Ok(()) }
    }

    /// Flushes sealed memtables on this thread: while the log is replayed no job runs yet.
    ///
    /// # Errors
    /// `Unavailable` when the disk is full or failed.
    pub fn flush_here(self: &Arc<Self>) -> Result<()> {
        let mut job = flush::FlushJob::new(Arc::clone(self));
        while job.step()? {}
        Ok(())
    }

    /// True when a memtable waits to be flushed.
    pub fn needs_flush(&self) -> bool {
        self.trees.read().values().any(|tree| tree.oldest_sealed().is_some())
    }

    /// True when everything is in tables and in the manifest: the log is not needed.
    pub fn is_flushed(&self) -> bool {
        self.pending.lock().is_empty() && self.trees.read().values().all(|tree| tree.first_in_log().is_none())
    }

    /// Where a job writes tables.
    fn sizes(&self) -> Sizes {
        let StoreOptions { table_bytes, compaction_jobs, .. } = self.options;
        Sizes { table_bytes, piece_bytes: table_bytes.saturating_mul(compaction_jobs as u64) }
    }

    fn outputs(&self, tree: &Tree, level: Level, rules: EntryRules, guards: Vec<Key>) -> Outputs {
        let sizes = (tree.options().table(level), self.options.table_bytes);
        Outputs::new(&self.shelf, tree.id(), sizes, rules, guards)
    }

    /// What becomes of values, when these value files are to go.
    fn separation(&self, tree: &Tree, collected: BTreeSet<FileId>) -> Arc<Separation> {
        let options = tree.options();
        Arc::new(Separation {
            bytes_min: options.separate_values,
            // A value stays where it is while its entry goes to the bottom.
            compression: options.bottom,
            sealing: options.sealing,
            file_bytes: self.options.table_bytes,
            collected,
        })
    }

    /// The failure after which nothing is written any more.
    pub fn failure(&self) -> Option<Error> {
        let own = self.failure.lock().clone();
        own.or_else(|| self.gate.read().as_ref().and_then(|gate| gate.failure()))
    }

    /// What keeps writers from going on: a failure, or trouble that may pass.
    fn obstacle(&self) -> Option<Error> {
        let of_flush = || self.trouble.lock().clone();
        let of_compaction = || self.compaction_trouble.lock().clone().filter(|_| self.has_too_many_runs());
        self.failure().or_else(of_flush).or_else(of_compaction)
    }

    fn has_too_many_runs(&self) -> bool {
        self.runs_max.load(Ordering::Acquire) >= RUNS_MAX
    }

    /// Nothing is to be written to it: whoever wants to is told why.
    pub fn refuse_writes(&self, reason: Error) {
        self.fail(reason);
    }

    /// Ends all writing, and tells those who wait.
    fn fail(&self, failure: Error) {
        self.failure.lock().get_or_insert(failure);
        self.progress.notify();
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// What a job is to do when there is nothing more to write: end, or rest after a failure. What it was at is
    /// written in vain.
    fn ended(&self) -> Option<Next> {
        if self.is_closing() {
            return Some(Next::Done);
        }
        self.failure().map(|_| {
            self.progress.notify();
            Next::Wait
        })
    }

    /// Runs a slice of a job. A panic in it, or in what is plugged in behind a seam, ends all writing and no thread.
    fn guarded(&self, slice: impl FnOnce() -> Next) -> Next {
        catch_unwind(AssertUnwindSafe(slice)).unwrap_or_else(|_| {
            self.fail(Error::internal(
                "a background job panicked; reads go on, writes are refused until the database is opened again; \
                 please report the message on standard error",
            ));
            Next::Wait
        })
    }

    /// Records `changes` and all pending edits before them, with what is known of the log, in one edit of the manifest.
    /// False for a change that was given up because its keyspace was dropped, or its table is gone; the others are recorded all the same.
    fn commit(&self, changes: &[Change<'_>]) -> Result<Vec<bool>> {
        let mut manifest = self.manifest.lock();
        let pending = std::mem::take(&mut *self.pending.lock());
        let outcome = self.commit_locked(&mut manifest, changes, &pending);
        if let Some(failure) = manifest.failure() {
            self.fail(failure.clone());
        }
        if outcome.is_err() {
            // Before the next commit can begin, and before what was added meanwhile: order is everything here.
            self.pending.lock().splice(0..0, pending.iter().cloned());
        }
        drop(manifest);
        if outcome.is_ok() {
            self.doom_dropped(&pending);
        }
        outcome
    }

    fn commit_locked(
        &self,
        manifest: &mut Manifest,
        changes: &[Change<'_>],
        pending: &[(Seqno, Edit)],
    ) -> Result<Vec<bool>> {
        // Looked at behind the pending edits: a drop that is among them has marked its tree before.
        let is_gone =
            |change: &Change<'_>| change.tree.is_dropped() || change.about.is_some_and(LiveTable::is_doomed);
        let is_recorded: Vec<bool> = changes.iter().map(|change| !is_gone(change)).collect();
        let recorded = || changes.iter().zip(&is_recorded).filter(|(_, is)| **is).map(|(change, _)| change);
        let gate = self.gate.read().clone();
        // The log first: the manifest must not know of anything that a power cut could still take from the log.
        gate.as_ref().map_or(Ok(()), |gate| gate.make_durable())?;
        let mut edits: Vec<Edit> = pending.iter().map(|(_, edit)| edit.clone()).collect();
        edits.extend(recorded().flat_map(|change| change.edits.iter().cloned()));
        let flushed = recorded().filter_map(|change| change.flushed.map(Arc::as_ptr)).collect();
        let state = gate.as_ref().map(|gate| gate.log_state(self.first_unflushed(&flushed)));
        if let Some(state) = &state {
            edits.push(Edit::Log(state.clone()));
            edits.push(Edit::Time(self.snapshots.time()));
        }
        manifest.commit(&edits)?;
        // Readers see the tables before the log that also holds their entries goes.
        recorded().for_each(|change| (change.install)());
        if let (Some(gate), Some(state)) = (&gate, &state) {
            gate.recorded(state);
        }
        Ok(is_recorded)
    }

    /// [`commit`](Self::commit) for changes that bring tables, each those of some outputs. They are removed when it is certain that the
    /// manifest does not name them; after a failed write or sync it is not.
    fn commit_tables(&self, changes: &[Change<'_>], outputs: Vec<Vec<Outputs>>) -> Result<Vec<bool>> {
        let outcome = self.commit(changes);
        let has_failed = self.failure().is_some();
        for (number, outputs) in outputs.into_iter().enumerate() {
            let is_named = match &outcome {
                Ok(is_recorded) => is_recorded[number],
                Err(_) => has_failed,
            };
            if is_named {
                outputs.into_iter().for_each(Outputs::release);
            }
        }
        outcome
    }

    /// The manifest names none of the dropped keyspaces' tables any more: they go with their last reader.
    fn doom_dropped(&self, recorded: &[(Seqno, Edit)]) {
        for (_, edit) in recorded {
            if let Edit::Drop { keyspace } = edit
                && let Some(tree) = self.dropped.lock().remove(keyspace)
            {
                tree.doom_all();
            }
        }
    }

    /// The oldest operation that would be lost without the log, when `flushed` are in tables.
    fn first_unflushed(&self, flushed: &BTreeSet<*const Memtable>) -> Seqno {
        // Read first: what becomes visible later has a larger seqno, and what is under way is not visible yet.
        let mut first = self.snapshots.visible().plus(1);
        let is_flushed = |memtable: &Arc<Memtable>| flushed.contains(&Arc::as_ptr(memtable));
        for tree in self.trees.read().values().filter(|tree| tree.is_logged()) {
            first = tree.first_unflushed_but(is_flushed).map_or(first, |of_tree| first.min(of_tree));
        }
        self.pending.lock().iter().map(|(at, _)| *at).fold(first, Seqno::min)
    }

    /// The oldest operations in memory keep the log from being trimmed. They are flushed next, and with them all that would
    /// soon be in the way: what lies in the older half of the operations that the log is needed for.
    pub fn seal_oldest(&self) {
        let trees = self.trees.read();
        let firsts: Vec<(Seqno, &Arc<Tree>)> =
            trees.values().filter_map(|tree| Some((tree.first_in_log()?, tree))).collect();
        if let Some(oldest) = firsts.iter().map(|(first, _)| *first).min() {
            let half = oldest.0 + self.snapshots.visible().0.saturating_sub(oldest.0) / 2;
            for (_, tree) in firsts.iter().filter(|(first, _)| first.0 <= half) {
                tree.seal();
            }
        }
        drop(trees);
        self.wake();
    }

    /// Sizes and counts.
    pub fn stats(&self) -> StoreStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (cache_hits, cache_misses) = self.shelf.cache.hits_and_misses();
        let mut stats = StoreStats {
            cache_hits,
            cache_misses,
            cache_bytes: self.shelf.cache.bytes(),
            table_memory_bytes: self.shelf.cache.table_bytes(),
            flushes: count(&self.counters.flushes),
            flushed_bytes: count(&self.counters.flushed_bytes),
            compactions: count(&self.counters.compactions),
            compacted_bytes: count(&self.counters.compacted_bytes),
            held_us: self.throttle.held_us(),
            filtered: count(&self.counters.filtered),
            compaction_parts_beside: count(&self.counters.parts_beside),
            filter_panics: count(&self.counters.filter_panics),
            folded: count(&self.counters.folded),
            operator_failures: count(&self.counters.operator_failures),
            stalls: count(&self.counters.stalls),
            stall_us: count(&self.counters.stall_us),
            scrubbed_tables: count(&self.counters.scrubbed_tables),
            scrubbed_bytes: count(&self.counters.scrubbed_bytes),
            scrub_failures: count(&self.counters.scrub_failures),
            scrub_pass_at: Some(Timestamp(count(&self.counters.scrub_pass_at))).filter(|at| at.0 > 0),
            is_disk_full: self.is_disk_full(),
            ..StoreStats::default()
        };
        for tree in self.trees.read().values() {
            let version = tree.version();
            let files = files_of(&compaction::views(&version, Seqno::ZERO, Seqno::ZERO));
            stats.value_files += files.len();
            stats.value_bytes += files.values().map(|file| file.bytes).sum::<u64>();
            stats.value_live_bytes += files.values().map(|file| file.live).sum::<u64>();
            stats.memtable_bytes += version.memtables.iter().map(|memtable| memtable.bytes()).sum::<usize>();
            stats.runs += version.runs.len();
            let bytes = |run: &Run| run.tables.iter().map(|live| live.meta().bytes).sum::<u64>();
            stats.run_bytes.extend(version.runs.iter().map(bytes));
            stats.range_tombstones += version.tombstones.count();
            for live in version.runs.iter().flat_map(|run| &run.tables) {
                stats.tables += 1;
                stats.table_bytes += live.meta().bytes;
                stats.table_bytes_uncompressed += live.meta().uncompressed_bytes();
                stats.quarantined += usize::from(live.is_quarantined());
            }
        }
        stats
    }

    /// A damaged table is never picked again, and never deleted: what is whole in it can still be read.
    fn quarantine(&self, tree: &Arc<Tree>, live: &LiveTable) -> Result<()> {
        let edits = vec![Edit::Quarantine { keyspace: tree.id(), file: live.id() }];
        let install = || live.quarantine();
        let change = Change { tree, about: Some(live), edits, flushed: None, install: Box::new(install) };
        self.commit(&[change])?;
        self.count_runs();
        Ok(())
    }

    /// Ends the jobs. What they were at is given up; nothing counted on it.
    ///
    /// # Errors
    /// `Internal` when a job had panicked.
    pub fn stop(&self) -> Result<()> {
        self.closing.store(true, Ordering::Release);
        self.progress.notify();
        self.wake();
        let jobs = std::mem::take(&mut *self.jobs.lock());
        let ended: Vec<Result<()>> = jobs.iter().map(|job| job.join(&*self.context.env.executor)).collect();
        self.shelf.graveyard.retire();
        // The jobs are gone: nothing calls the log through the gate any more.
        *self.gate.write() = None;
        ended.into_iter().collect()
    }

    /// The last words of a store in good order, after [`stop`](Self::stop).
    ///
    /// # Errors
    /// `Unavailable` when the disk is full or failed.
    pub fn record_close(&self, log: LogState, last: Seqno, time: Timestamp) -> Result<()> {
        let mut edits: Vec<Edit> = self.pending.lock().drain(..).map(|(_, edit)| edit).collect();
        edits.extend([Edit::Log(log), Edit::LastSeqno(last), Edit::Time(time)]);
        let mut manifest = self.manifest.lock();
        manifest.commit(&edits)?;
        manifest.seal()
    }

    /// Removes files that nothing names: outputs that were not finished, former manifests, a reserve that is not wanted any more.
    /// Returns how many of tables.
    ///
    /// None while a table or value file that the manifest names is not there: its name can stem from a manifest that has lost its last
    /// edits, and then the tables that took its place are among the nameless.
    pub fn remove_leftovers(&self) -> usize {
        let named: BTreeSet<String> = {
            let manifest = self.manifest.lock();
            let tables = manifest.state().keyspaces.values().flat_map(|keyspace| &keyspace.tables);
            let files = tables.flat_map(|table| {
                let values = table.meta.values.iter().map(|used| values::file_name(used.file));
                values.chain(std::iter::once(table::file_name(table.meta.id)))
            });
            files.collect()
        };
        let is_ours =
            |name: &str| table::parse_file_name(name).or_else(|| values::parse_file_name(name)).is_some();
        let (fs, mut removed) = (&self.context.env.fs, 0);
        let names = fs.list(&self.context.table_dir()).unwrap_or_default();
        let (there, nameless): (Vec<&String>, Vec<&String>) =
            names.iter().filter(|name| is_ours(name)).partition(|name| named.contains(*name));
        if there.len() < named.len() {
            return 0;
        }
        for name in nameless {
            removed += usize::from(fs.remove(&self.context.table_dir().join(name)).is_ok());
        }
        let current = self.manifest.lock().number();
        for name in fs.list(&self.context.dir).unwrap_or_default() {
            let is_old = crate::manifest::parse_name(&name).is_some_and(|number| number != current);
            if is_old || (name == RESERVE && self.options.reserve_bytes == 0) {
                let _ = fs.remove(&self.context.dir.join(name));
            }
        }
        removed
    }
}

/// Room in memory that is kept for a write until it is applied.
#[must_use = "the room is given back when this is dropped"]
pub struct Admission<'a> {
    store: &'a Store,
    bytes: usize,
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        self.store.reserved.fetch_sub(self.bytes, Ordering::SeqCst);
        // Who waits has said so before it looked at what is reserved: in this order one of both sees the other.
        if self.store.waiting.load(Ordering::SeqCst) > 0 {
            self.store.progress.notify();
        }
    }
}

/// What a job wants recorded.
struct Change<'a> {
    tree: &'a Arc<Tree>,
    /// The table that it is about: there is nothing to record when no manifest names that any more.
    about: Option<&'a LiveTable>,
    edits: Vec<Edit>,
    /// The memtable that is in tables then.
    flushed: Option<&'a Arc<Memtable>>,
    /// Makes readers see it, once it is recorded.
    install: Box<dyn Fn() + 'a>,
}

fn closing() -> Error {
    Error::closed("the database is being closed")
}

#[cfg(test)]
mod tests;
