//! Random histories of transactions, on one thread with crashes between and on several, judged by a checker: could they have run one
//! after the other?

#![expect(clippy::unwrap_used, reason = "a test's helper fails as its test does")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pugdb::{Change, Database, Durability, ErrorKind, Isolation, Keyspace, Transaction, TransactionOptions};
use pugdb_sim::{World, check};
use pugdb_tests::crash::{self, Dress};
use pugdb_tests::serializability::{self, Committed, Level};

const TARGET: &str = "-p pugdb-tests --test histories";

fn begin(db: &Database, isolation: Isolation) -> Transaction {
    db.begin_with(TransactionOptions { isolation, ..Default::default() }).unwrap()
}

fn is_conflict(result: pugdb::Result<()>) -> bool {
    let Err(error) = result else { return false };
    assert!(error.kind() == ErrorKind::Conflict && error.is_retry(), "{error}");
    true
}

/// One of several transactions that run beside each other on one thread.
struct Running {
    transaction: Transaction,
    number: u64,
    began: u64,
    reads: Vec<(usize, Vec<u64>)>,
    appends: BTreeSet<usize>,
}

fn list_key(list: usize) -> Vec<u8> {
    format!("list {list:02}").into_bytes()
}

fn numbers(value: Option<&[u8]>) -> Vec<u64> {
    let words = value.unwrap_or_default().as_chunks::<8>().0;
    words.iter().map(|word| u64::from_le_bytes(*word)).collect()
}

fn bytes(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

impl Running {
    /// What it sees of a list: others' appends, and its own at the end.
    fn saw(&mut self, list: usize, mut found: Vec<u64>) -> Vec<u64> {
        let all = found.clone();
        if self.appends.contains(&list) {
            assert_eq!(found.pop(), Some(self.number), "its own append is not there");
        }
        self.reads.push((list, found));
        all
    }

    fn read(&mut self, space: &Keyspace, list: usize) -> Vec<u64> {
        let found = numbers(self.transaction.get(space, list_key(list)).unwrap().as_deref());
        self.saw(list, found)
    }

    fn append(&mut self, space: &Keyspace, list: usize) {
        let mut content = self.read(space, list);
        if self.appends.insert(list) {
            content.push(self.number);
            self.transaction.put(space, list_key(list), bytes(&content)).unwrap();
        }
    }

    fn scan(&mut self, space: &Keyspace, lists: std::ops::Range<usize>, is_reverse: bool, stop: usize) {
        let range = list_key(lists.start)..list_key(lists.end);
        let scan = self.transaction.scan(space, range);
        let mut scan = if is_reverse { scan.reverse() } else { scan };
        let mut found: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
        let (mut last, mut is_over) = (None, false);
        for _ in 0..=stop {
            let Some(entry) = scan.next() else {
                is_over = true;
                break;
            };
            let (key, value) = entry.unwrap();
            let list: usize = std::str::from_utf8(&key[5..]).unwrap().parse().unwrap();
            found.insert(list, numbers(Some(&value)));
            last = Some(list);
        }
        drop(scan);
        // Lists between those that it has shown are empty.
        let shown = match (last, is_over) {
            (_, true) => lists,
            (Some(last), false) if is_reverse => last..lists.end,
            (Some(last), false) => lists.start..last + 1,
            (None, false) => 0..0,
        };
        for list in shown {
            self.saw(list, found.remove(&list).unwrap_or_default());
        }
        assert!(found.is_empty());
    }
}

/// Lists that transactions on one thread append to.
const LISTS: usize = 8;
const STEPS: usize = 600;

/// Random transactions beside each other, with flushes, merges and crashes between.
struct History {
    random: fastrand::Rng,
    isolation: Isolation,
    dress: Dress,
    world: World,
    db: Database,
    space: Keyspace,
    running: Vec<Running>,
    committed: Vec<Committed>,
    moment: u64,
    /// The number given last.
    last: u64,
    conflicts: u64,
}

impl History {
    fn new(seed: u64, isolation: Isolation, dress: Dress) -> Self {
        let (random, world) = (fastrand::Rng::with_seed(seed), World::new(seed));
        let db = crash::open(&world, dress).unwrap();
        let space = db.keyspace("lists").unwrap();
        let (running, committed) = Default::default();
        let (moment, last, conflicts) = (0, 0, 0);
        Self { random, isolation, dress, world, db, space, running, committed, moment, last, conflicts }
    }

    fn step(&mut self) {
        self.moment += 1;
        match self.random.u32(..100) {
            0..15 if self.running.len() < 5 => self.begin(),
            0..60 if !self.running.is_empty() => self.act(),
            60..80 if !self.running.is_empty() => self.commit(),
            80..83 if !self.running.is_empty() => _ = self.take_running(),
            83..88 => self.write_plainly(),
            88..92 => self.db.flush().unwrap(),
            92..95 => self.space.compact_range(..).unwrap(),
            95..98 => self.world.run_until_idle(),
            98 => self.crash(),
            _ => self.world.advance(Duration::from_millis(self.random.u64(..2000))),
        }
    }

    fn begin(&mut self) {
        self.last += 1;
        let (transaction, appends) = (begin(&self.db, self.isolation), BTreeSet::new());
        let (number, began) = (self.last, self.moment);
        self.running.push(Running { transaction, number, began, reads: Vec::new(), appends });
    }

    fn take_running(&mut self) -> Running {
        let at = self.random.usize(..self.running.len());
        self.running.swap_remove(at)
    }

    fn act(&mut self) {
        let (random, space) = (&mut self.random, &self.space);
        let at = random.usize(..self.running.len());
        let one = &mut self.running[at];
        match random.u8(..10) {
            0..3 => _ = one.read(space, random.usize(..LISTS)),
            3..7 => one.append(space, random.usize(..LISTS)),
            7 => {
                let savepoint = one.transaction.savepoint();
                one.transaction.put(space, list_key(random.usize(..LISTS)), b"taken back").unwrap();
                one.transaction.rollback_to(&savepoint).unwrap();
            }
            8 => {
                let list = random.usize(..LISTS);
                match one.transaction.get_for_update(space, list_key(list)) {
                    Ok(found) => _ = one.saw(list, numbers(found.as_deref())),
                    Err(error) => assert!(error.is_retry(), "{error}"),
                }
            }
            _ => {
                let start = random.usize(..LISTS);
                let end = random.usize(start..=LISTS);
                one.scan(space, start..end, random.bool(), random.usize(..LISTS));
            }
        }
    }

    fn commit(&mut self) {
        let Running { transaction, number, began, reads, appends } = self.take_running();
        if is_conflict(transaction.commit()) {
            self.conflicts += 1;
        } else {
            let (time, appends) = ((began, self.moment), appends.into_iter().collect());
            self.committed.push(Committed { number, time, reads, appends });
        }
    }

    /// A write that is no transaction.
    fn write_plainly(&mut self) {
        self.last += 1;
        let (number, list) = (self.last, self.random.usize(..LISTS));
        let seen = self.space.update(list_key(list), |old| {
            let seen = numbers(old.map(|entry| &*entry.value));
            Ok((Change::put(bytes(&[&seen[..], &[number]].concat())), seen))
        });
        let (time, reads) = ((self.moment, self.moment), vec![(list, seen.unwrap())]);
        self.committed.push(Committed { number, time, reads, appends: vec![list] });
    }

    /// All that has committed was synced.
    fn crash(&mut self) {
        self.running.clear();
        self.world = if self.random.bool() { self.world.power_cut() } else { self.world.kill() };
        self.db = crash::open(&self.world, self.dress).unwrap();
        self.space = self.db.keyspace("lists").unwrap();
    }
}

/// What became of the lists has to agree with what everybody saw.
fn judge(isolation: Isolation, committed: &[Committed], space: &Keyspace, lists: usize) {
    let content = |list| (list, numbers(space.get(list_key(list)).unwrap().as_deref()));
    let level = match isolation {
        Isolation::Serializable => Level::Serializable,
        Isolation::Snapshot => Level::Snapshot,
    };
    let judged = serializability::check(level, committed, &(0..lists).map(content).collect());
    assert_eq!(judged.err(), None, "{isolation:?}");
}

/// Returns how many commits met others.
fn history(seed: u64, isolation: Isolation, dress: Dress) -> u64 {
    let mut history = History::new(seed, isolation, dress);
    (0..STEPS).for_each(|_| history.step());
    history.running.clear();
    judge(isolation, &history.committed, &history.space, LISTS);
    assert!(history.committed.len() > 30, "hardly anything was committed");
    history.conflicts
}

#[test]
fn random_histories_could_have_run_one_after_the_other() {
    let conflicts = AtomicU64::new(0);
    check(TARGET, "random_histories_could_have_run_one_after_the_other", 0..60, |seed| {
        let dress = if seed % 4 == 0 { Dress::Sealed } else { Dress::Plain };
        conflicts.fetch_add(history(seed, Isolation::Serializable, dress), Ordering::Relaxed);
    });
    assert!(conflicts.into_inner() > 0, "they never met");
}

#[test]
fn random_histories_of_snapshots_lose_nothing_and_tear_nothing() {
    check(TARGET, "random_histories_of_snapshots_lose_nothing_and_tear_nothing", 100..130, |seed| {
        history(seed, Isolation::Snapshot, Dress::Plain);
    });
}

/// The same on real threads: their time is the order in which they count.
#[test]
fn histories_of_threads_could_have_run_one_after_the_other() {
    const LISTS: usize = 6;
    for isolation in [Isolation::Snapshot, Isolation::Serializable] {
        let dir = tempfile::tempdir().unwrap();
        let builder = Database::builder().memtable_bytes(64 << 10).durability(Durability::Os);
        let db = builder.open(dir.path().join("data")).unwrap();
        let space = db.keyspace("lists").unwrap();
        let (clock, last) = (AtomicU64::new(0), AtomicU64::new(0));
        let run = |seed| {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut committed = Vec::new();
            for _ in 0..60 {
                let began = clock.fetch_add(1, Ordering::SeqCst);
                let number = last.fetch_add(1, Ordering::SeqCst);
                let transaction = begin(&db, isolation);
                let mut one =
                    Running { transaction, number, began, reads: Vec::new(), appends: BTreeSet::new() };
                for _ in 0..random.usize(1..5) {
                    match random.u8(..4) {
                        0 => _ = one.read(&space, random.usize(..LISTS)),
                        1 => one.scan(&space, 0..LISTS, random.bool(), random.usize(..LISTS)),
                        _ => one.append(&space, random.usize(..LISTS)),
                    }
                }
                let Running { transaction, reads, appends, .. } = one;
                if !is_conflict(transaction.commit()) {
                    let time = (began, clock.fetch_add(1, Ordering::SeqCst));
                    committed.push(Committed { number, time, reads, appends: appends.into_iter().collect() });
                }
            }
            committed
        };
        let committed: Vec<Committed> = std::thread::scope(|scope| {
            let run = &run;
            let threads: Vec<_> = (0..6).map(|seed| scope.spawn(move || run(seed))).collect();
            let flushes = scope.spawn(|| (0..20).for_each(|_| db.flush().unwrap()));
            flushes.join().unwrap();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        judge(isolation, &committed, &space, LISTS);
        assert!(committed.len() > 60, "{}", committed.len());
    }
}
