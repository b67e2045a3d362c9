//! The conformance suite of the simulator on every engine: the btree, the hash, the lsm tree in five dresses, and partitions.
//!
//! The tree stands here alone, without a log: seqnos come from the suite, and after every reopen the suite applies
//! again all that it ever applied.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pugdb_core::engine::{Capabilities, Counts, Cursor, Direction, Engine, EngineKind, KeyRange, ReadPoint};
use pugdb_core::env::Clock;
use pugdb_core::memory::{Btree, Hash};
use pugdb_core::observer::Observers;
use pugdb_core::seam::{self, Cipher, Plain, TableStore};
use pugdb_core::snapshots::Snapshots;
use pugdb_core::{DatabaseId, Found, KeyspaceId, Ops, Result, Seqno, Timestamp};
use pugdb_lsm::file::Context;
use pugdb_lsm::manifest::{self, Manifest, State};
use pugdb_lsm::store::{CompactionPolicy, Store, StoreOptions};
use pugdb_lsm::table::{Compression, LocalTables, PrefixExtractor};
use pugdb_lsm::{Filters, Logging, OperatorName, Operators, PartitionBy, PartitionMap, TreeOptions, Trees};
use pugdb_sim::conformance::{self, Subject};
use pugdb_sim::{Concatenate, SlowStore, TestCipher, World};

const TARGET: &str = "-p pugdb-tests --test conformance";
const DIRECTORY: &str = "data";
const KEYSPACE: KeyspaceId = KeyspaceId(1);
/// What creates the keyspace takes the first seqno.
const CREATION: Seqno = Seqno(1);

const ROOMY: StoreOptions = StoreOptions {
    memtable_bytes: 64 << 10,
    unflushed_bytes_max: 256 << 10,
    cache_bytes: 256 << 10,
    expiry_grace: Duration::from_secs(5),
    policy: CompactionPolicy::LazyLeveled,
    table_bytes: 32 << 10,
    compaction_jobs: 1,
    background_bytes_per_second: None,
    scrub_interval: None,
    reserve_bytes: 0,
};
const SMALL: StoreOptions = StoreOptions {
    memtable_bytes: 32 << 10,
    unflushed_bytes_max: 128 << 10,
    cache_bytes: 16 << 10,
    expiry_grace: Duration::ZERO,
    policy: CompactionPolicy::LazyLeveled,
    table_bytes: 8 << 10,
    compaction_jobs: 2,
    background_bytes_per_second: Some(20_000),
    scrub_interval: Some(Duration::from_hours(1)),
    reserve_bytes: 16 << 10,
};
const TINY: StoreOptions = StoreOptions {
    memtable_bytes: 4 << 10,
    unflushed_bytes_max: 16 << 10,
    cache_bytes: 0,
    expiry_grace: Duration::ZERO,
    policy: CompactionPolicy::LazyLeveled,
    table_bytes: 1 << 10,
    compaction_jobs: 4,
    background_bytes_per_second: Some(1),
    scrub_interval: Some(Duration::from_mins(10)),
    reserve_bytes: 16 << 10,
};

const COARSE: TreeOptions = TreeOptions {
    upper: Compression::None,
    bottom: Compression::Lz4,
    block_bytes: 4 << 10,
    filter_bits: 10,
    prefix: PrefixExtractor::UpTo(b'a'),
    separate_values: None,
    logging: Logging::Logged,
    operator: None,
    default_expiry_ms: None,
    quota_bytes: None,
    quota_keys: None,
    sealing: seam::Sealing::Sealed,
};
const FINE: TreeOptions = TreeOptions {
    upper: Compression::Snappy,
    bottom: Compression::ZSTD,
    block_bytes: 512,
    filter_bits: 4,
    prefix: PrefixExtractor::Length(1),
    separate_values: Some(100),
    logging: Logging::Logged,
    operator: None,
    default_expiry_ms: None,
    quota_bytes: None,
    quota_keys: None,
    sealing: seam::Sealing::Sealed,
};
const FINEST: TreeOptions = TreeOptions {
    upper: Compression::Zstd { level: 3 },
    bottom: Compression::Gzip { level: 1 },
    block_bytes: 64,
    filter_bits: 0,
    prefix: PrefixExtractor::Length(2),
    separate_values: Some(8),
    logging: Logging::Unlogged,
    operator: None,
    default_expiry_ms: None,
    quota_bytes: None,
    quota_keys: None,
    sealing: seam::Sealing::Sealed,
};

/// What a tree wears.
#[derive(Clone, Copy)]
struct Dress {
    options: StoreOptions,
    tables: TreeOptions,
    sealing: Sealing,
    speed: Speed,
    parts: Parts,
}

/// How many trees share the keys.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parts {
    One,
    Hash(usize),
    /// Cut where the suite has keys.
    Ranges,
}

impl Parts {
    fn map(self) -> Option<PartitionMap> {
        let first = KeyspaceId(2);
        match self {
            Self::One => None,
            Self::Hash(count) => Some(PartitionMap::by_hash(count, first).expect("there are few")),
            Self::Ranges => {
                let starts: [&[u8]; 6] = [&[], &[0, 1], b"a", b"aab", &[0xfe], &[0xff, 0xff]];
                let starts = starts.iter().zip(2..).map(|(start, id)| (start.to_vec(), KeyspaceId(id)));
                Some(PartitionMap::new(PartitionBy::Range, starts.collect()).expect("they ascend"))
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sealing {
    Plain,
    TestCipher,
}

/// How long a read of a table takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speed {
    NoTime,
    /// 20 ms of the simulator's clock, while the jobs go on.
    Slow,
}

const PLAIN: Dress = Dress {
    options: ROOMY,
    tables: COARSE,
    sealing: Sealing::Plain,
    speed: Speed::NoTime,
    parts: Parts::One,
};

/// What all subjects of a run did: a suite that never reached a table would prove nothing.
#[derive(Debug, Default)]
struct Totals {
    flushes: u64,
    compactions: u64,
    runs_max: usize,
    folded: u64,
    slow_reads: u64,
    seals: u64,
    opens: u64,
    reopens: u64,
}

/// A tree that is alone in its store.
struct Alone {
    dress: Dress,
    totals: Rc<RefCell<Totals>>,
    random: fastrand::Rng,
    world: World,
    calendar: Arc<Calendar>,
    /// `None` only while it is reopened.
    life: Option<Life>,
}

/// The suite's calendar, and the stopwatch of the world.
struct Calendar {
    now: AtomicU64,
    stopwatch: Mutex<Arc<dyn Clock>>,
}

impl Clock for Calendar {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        self.stopwatch.lock().monotonic()
    }
}

/// What lives from one open to the next.
struct Life {
    snapshots: Arc<Snapshots>,
    writer: Writer,
    cipher: Option<TestCipher>,
    slow: Option<Arc<SlowStore>>,
}

/// The trees as a database writes to them: room is waited for, and the store hears of what was applied.
struct Writer {
    store: Arc<Store>,
    trees: Trees,
    /// Replayed operations take no room a second time.
    counted: AtomicU64,
}

impl Life {
    /// Opens what the disk holds, or begins.
    fn begin(dress: &Dress, world: &World, calendar: &Arc<Calendar>) -> Result<Self> {
        let mut env = world.env();
        *calendar.stopwatch.lock() = Arc::clone(&env.clock);
        env.clock = Arc::clone(calendar) as Arc<dyn Clock>;
        let directory = Path::new(DIRECTORY);
        let tables = directory.join("tables");
        env.fs.create_dir_all(&tables).expect("the disk of the world is whole");
        let local: Arc<dyn TableStore> = Arc::new(LocalTables::new(&env, tables));
        let slow =
            (dress.speed == Speed::Slow).then(|| Arc::new(SlowStore::new(Arc::clone(&local), env.clone())));
        let cipher =
            (dress.sealing == Sealing::TestCipher).then(|| TestCipher::new(17, Arc::clone(&env.random)));
        let mut context = Context {
            env,
            dir: directory.to_owned(),
            database: DatabaseId([0; 16]),
            cipher: cipher.clone().map_or_else(|| Arc::new(Plain) as Arc<dyn Cipher>, |it| Arc::new(it)),
            tables: slow.clone().map_or(local, |slow| slow as Arc<dyn TableStore>),
            observers: Observers::default(),
        };
        let (state, number) = if manifest::exists(&*context.env.fs, directory)? {
            let recovered = manifest::recover(&context)?;
            (recovered.state, recovered.number)
        } else {
            (State::new(manifest::new_database(&context)), 0)
        };
        context.database = state.database;
        let snapshots = Snapshots::new(state.last_seqno.max(CREATION));
        let manifest = Manifest::begin(context.clone(), state, number + 1)?;
        let mut operators = Operators::default();
        operators.insert("engine", Arc::new(Concatenate { combines: world.seed().is_multiple_of(2) }));
        let operator = Some(OperatorName::new("concatenate")?);
        let code = (Filters::default(), operators);
        let store = Store::open(context, dress.options, code, Arc::clone(&snapshots), manifest);
        store.remove_leftovers();
        let map = dress.parts.map();
        let kind = if map.is_some() { EngineKind::Partitioned } else { EngineKind::Lsm };
        let options = TreeOptions { operator, ..dress.tables };
        let trees = store.trees_of(KEYSPACE).unwrap_or_else(|| {
            let created = store.create(KEYSPACE, "engine", (kind, map.as_ref()), options, CREATION);
            created.expect("a keyspace on disk has a tree")
        });
        assert_eq!(trees.several().map(|partitions| partitions.map()), map);
        let counted = AtomicU64::new(trees.flushed().0);
        store.start(None);
        Ok(Self { snapshots, writer: Writer { store, trees, counted }, cipher, slow })
    }

    fn add_to(&self, totals: &mut Totals) {
        let stats = self.writer.store.stats();
        totals.flushes += stats.flushes;
        totals.compactions += stats.compactions;
        totals.folded += stats.folded;
        totals.slow_reads += self.slow.as_ref().map_or(0, |slow| slow.calls());
        totals.seals += self.cipher.as_ref().map_or(0, TestCipher::seals);
        totals.opens += self.cipher.as_ref().map_or(0, TestCipher::opens);
    }
}

impl Alone {
    fn new(dress: &Dress, seed: u64, totals: &Rc<RefCell<Totals>>) -> Self {
        let world = World::new(seed);
        let stopwatch = Mutex::new(world.env().clock);
        let calendar = Arc::new(Calendar { now: AtomicU64::new(conformance::START.0), stopwatch });
        let life = Life::begin(dress, &world, &calendar).expect("nothing fails in this world");
        let random = fastrand::Rng::with_seed(seed);
        Self { dress: *dress, totals: Rc::clone(totals), random, world, calendar, life: Some(life) }
    }

    fn life(&self) -> &Life {
        self.life.as_ref().expect("it is None only within reopen")
    }
}

impl Subject for Alone {
    fn engine(&self) -> &dyn Engine {
        &self.life().writer
    }

    fn snapshots(&self) -> &Arc<Snapshots> {
        &self.life().snapshots
    }

    fn set_clock(&mut self, now: Timestamp) {
        self.calendar.now.store(now.0, Ordering::Relaxed);
    }

    fn maintain(&mut self) {
        let choice = self.random.u8(..4);
        let store = &self.life().writer.store;
        match choice {
            0 => self.world.maybe_step(),
            1 => store.flush().expect("nothing fails in this world"),
            _ => {
                store.flush().expect("nothing fails in this world");
                self.world.run_until_idle();
            }
        }
        let runs = store.stats().runs;
        let runs_max = &mut self.totals.borrow_mut().runs_max;
        *runs_max = runs.max(*runs_max);
    }

    /// In turn: closed in good order, killed, without power. Whatever the disk still holds, the suite brings the rest.
    fn reopen(&mut self) -> bool {
        let life = self.life.take().expect("it is None only within reopen");
        let mut totals = self.totals.borrow_mut();
        life.add_to(&mut totals);
        totals.reopens += 1;
        match totals.reopens % 3 {
            0 => life.writer.store.stop().expect("no job has panicked"),
            1 => self.world = self.world.kill(),
            _ => self.world = self.world.power_cut(),
        }
        drop((totals, life));
        self.life = Some(
            Life::begin(&self.dress, &self.world, &self.calendar).expect("every file is as it was synced"),
        );
        true
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        if let Some(life) = &self.life {
            life.add_to(&mut self.totals.borrow_mut());
        }
    }
}

impl Engine for Writer {
    fn capabilities(&self) -> Capabilities {
        self.trees.engine().capabilities()
    }

    fn apply(&self, first: Seqno, ops: &Ops) -> Result<()> {
        let counted = self.counted.load(Ordering::Relaxed);
        let new = ops.behind(Seqno(counted), first);
        let bytes = new.map(|(_, op)| op.cost_bytes()).sum();
        let _room = self.store.admit(bytes)?;
        if let Some(tree) = self.trees.one() {
            tree.apply(first, ops)?;
            self.store.applied(tree, bytes);
        } else {
            // It counts what each tree has not had yet.
            self.store.apply(&self.trees, first, ops)?;
        }
        self.counted.fetch_max(ops.last(first).0, Ordering::Relaxed);
        Ok(())
    }

    fn truncate(&self, at: Seqno) -> Result<()> {
        self.counted.fetch_max(at.0, Ordering::Relaxed);
        self.store.truncate(&self.trees, at)
    }

    fn get(&self, key: &[u8], point: ReadPoint) -> Result<Option<Found>> {
        self.trees.engine().get(key, point)
    }

    fn multi_get(&self, keys: &[&[u8]], point: ReadPoint) -> Result<Vec<Option<Found>>> {
        self.trees.engine().multi_get(keys, point)
    }

    fn changed_since(&self, key: &[u8], since: Seqno) -> Result<bool> {
        self.trees.engine().changed_since(key, since)
    }

    fn range_changed_since(&self, range: &KeyRange, since: Seqno) -> Result<bool> {
        self.trees.engine().range_changed_since(range, since)
    }

    fn scan(&self, range: KeyRange, direction: Direction, point: ReadPoint) -> Result<Box<dyn Cursor>> {
        self.trees.engine().scan(range, direction, point)
    }

    fn count(&self, range: KeyRange, point: ReadPoint) -> Result<Counts> {
        self.trees.engine().count(range, point)
    }
}

/// Runs the suite on trees in this dress, and looks that their entries were in several tables at a time.
fn run(dress: &Dress, seed: u64) -> Totals {
    let totals = Rc::default();
    conformance::run(seed, &mut || Box::new(Alone::new(dress, seed, &totals)));
    let totals = Rc::into_inner(totals).expect("every subject is gone").into_inner();
    assert!(totals.flushes > 1000 && totals.compactions > 100, "{totals:?}");
    assert!(totals.folded > 1000, "{totals:?}");
    assert!(totals.runs_max >= 3 && totals.reopens >= 10, "{totals:?}");
    totals
}

struct Memory<E> {
    snapshots: Arc<Snapshots>,
    engine: E,
}

impl<E: Engine> Subject for Memory<E> {
    fn engine(&self) -> &dyn Engine {
        &self.engine
    }

    fn snapshots(&self) -> &Arc<Snapshots> {
        &self.snapshots
    }
}

#[test]
fn the_btree_conforms() {
    pugdb_sim::check(TARGET, "the_btree_conforms", 1..=8, |seed| {
        conformance::run(seed, &mut || {
            let snapshots = Snapshots::new(Seqno::ZERO);
            Box::new(Memory { engine: Btree::new(Arc::clone(&snapshots)), snapshots })
        });
    });
}

#[test]
fn the_hash_conforms() {
    pugdb_sim::check(TARGET, "the_hash_conforms", 1..=8, |seed| {
        conformance::run(seed, &mut || {
            let snapshots = Snapshots::new(Seqno::ZERO);
            Box::new(Memory { engine: Hash::new(Arc::clone(&snapshots), seed), snapshots })
        });
    });
}

#[test]
fn a_plain_tree_conforms() {
    pugdb_sim::check(TARGET, "a_plain_tree_conforms", 1..=4, |seed| {
        let totals = run(&PLAIN, seed);
        assert_eq!((totals.seals, totals.slow_reads), (0, 0));
    });
}

#[test]
fn a_tree_under_a_cipher_conforms() {
    pugdb_sim::check(TARGET, "a_tree_under_a_cipher_conforms", 11..=14, |seed| {
        let totals =
            run(&Dress { options: SMALL, tables: FINE, sealing: Sealing::TestCipher, ..PLAIN }, seed);
        assert!(totals.seals > 10_000 && totals.opens > 10_000, "{totals:?}");
    });
}

#[test]
fn a_tree_on_a_slow_store_conforms() {
    pugdb_sim::check(TARGET, "a_tree_on_a_slow_store_conforms", 21..=24, |seed| {
        let totals = run(&Dress { options: SMALL, tables: FINE, speed: Speed::Slow, ..PLAIN }, seed);
        assert!(totals.slow_reads > 10_000, "{totals:?}");
    });
}

#[test]
fn a_tree_under_a_cipher_on_a_slow_store_conforms() {
    pugdb_sim::check(TARGET, "a_tree_under_a_cipher_on_a_slow_store_conforms", 31..=34, |seed| {
        let totals = run(
            &Dress {
                options: SMALL,
                tables: FINE,
                sealing: Sealing::TestCipher,
                speed: Speed::Slow,
                ..PLAIN
            },
            seed,
        );
        assert!(totals.seals > 10_000 && totals.opens > 10_000, "{totals:?}");
        assert!(totals.slow_reads > 10_000, "{totals:?}");
    });
}

#[test]
fn a_tree_of_tiny_memtables_and_blocks_without_a_cache_conforms() {
    pugdb_sim::check(
        TARGET,
        "a_tree_of_tiny_memtables_and_blocks_without_a_cache_conforms",
        41..=43,
        |seed| {
            run(&Dress { options: TINY, tables: FINEST, ..PLAIN }, seed);
        },
    );
}

#[test]
fn partitions_by_hash_conform() {
    pugdb_sim::check(TARGET, "partitions_by_hash_conform", 51..=53, |seed| {
        run(&Dress { parts: Parts::Hash(5), ..PLAIN }, seed);
    });
}

#[test]
fn partitions_by_range_conform() {
    pugdb_sim::check(TARGET, "partitions_by_range_conform", 61..=63, |seed| {
        run(&Dress { options: SMALL, tables: FINE, parts: Parts::Ranges, ..PLAIN }, seed);
    });
}

#[test]
fn partitions_of_tiny_memtables_without_a_log_conform() {
    pugdb_sim::check(TARGET, "partitions_of_tiny_memtables_without_a_log_conform", 71..=72, |seed| {
        run(&Dress { options: TINY, tables: FINEST, parts: Parts::Hash(3), ..PLAIN }, seed);
    });
}

#[test]
fn a_single_partition_conforms() {
    pugdb_sim::check(TARGET, "a_single_partition_conforms", 81..=81, |seed| {
        run(&Dress { parts: Parts::Hash(1), ..PLAIN }, seed);
    });
}
