//! The load: what each thread does to its own keys, and what it knows of them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use pugdb::env::{Clock, Env};
use pugdb::{
    AsyncDatabase, Database, Durability, EngineKind, EntryOptions, ErrorKind, Keyspace, KeyspaceOptions,
    Partitioning, Persistence, Result, Scan, Snapshot, Timestamp, Transaction, TransactionOptions, Value,
};

pub(crate) const THREADS: usize = 4;
/// The threads and the user of futures do as much each.
const PARTS: u32 = 5;
const _: () = assert!(PARTS as usize == THREADS + 1);
/// What a thread holds at most of snapshots and scans, and what it uses for a moment.
const HELD: usize = 8;
pub(crate) const HELD_MAX: u64 = (THREADS * (2 * HELD + 2) + 8) as u64;
/// For how many of its operations a thread holds them.
const HOLDS_FOR: u64 = 2000;
const SHARED_KEYS: u64 = 32;

const PLAIN: &str = "plain";
const LARGE: &str = "large";
const EXPIRING: &str = "expiring";
pub(crate) const PARTITIONED: &str = "partitioned";
const HASH: &str = "hash";
const BTREE: &str = "btree";
pub(crate) const COUNTERS: &str = "counters";

/// The keyspaces, and the share of the keys that each has, in hundredths.
const SPACES: [(&str, usize); 7] =
    [(PLAIN, 30), (LARGE, 10), (EXPIRING, 15), (PARTITIONED, 25), (HASH, 5), (BTREE, 5), (COUNTERS, 10)];

/// How long all of it lasts, how fast it is, and how it ends.
pub(crate) struct Load {
    pub lasts: Duration,
    pub done: AtomicU64,
    per_second: u64,
    keys: usize,
    clock: Arc<dyn Clock>,
    begins: OnceLock<Duration>,
    /// Whether a thread has failed, so that all the others end too.
    failed: Mutex<bool>,
    fails: Condvar,
}

/// Ends all threads when one panics: nobody waits for the hour to pass then.
pub(crate) struct EndsAll<'a>(&'a Load);

impl Drop for EndsAll<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            *self.0.failed.lock() = true;
            self.0.fails.notify_all();
        }
    }
}

impl Load {
    pub(crate) fn new(env: &Env, lasts: Duration, per_second: u64) -> Self {
        let keys = if lasts < Duration::from_mins(1) { 20_000 } else { 200_000 };
        let (clock, failed) = (Arc::clone(&env.clock), Mutex::new(false));
        let begins = OnceLock::new();
        Self {
            lasts,
            done: AtomicU64::new(0),
            per_second,
            keys,
            clock,
            begins,
            failed,
            fails: Condvar::new(),
        }
    }

    pub(crate) fn guard(&self) -> EndsAll<'_> {
        EndsAll(self)
    }

    /// Since this was asked for the first time.
    pub(crate) fn elapsed(&self) -> Duration {
        let now = self.clock.monotonic();
        now.saturating_sub(*self.begins.get_or_init(|| now))
    }

    /// Lets the time pass. False: it is over.
    pub(crate) fn wait_for(&self, time: Duration) -> bool {
        let until = self.elapsed() + time;
        let mut failed = self.failed.lock();
        loop {
            let now = self.elapsed();
            if *failed || now >= self.lasts {
                return false;
            }
            if now >= until {
                return true;
            }
            self.fails.wait_for(&mut failed, until.saturating_sub(now));
        }
    }
}

/// Makes a thread as fast as it is to be, and no faster. What it is behind it does not make good: a stall is not followed by a storm.
struct Pace<'a> {
    load: &'a Load,
    each: Duration,
    due: Duration,
}

impl<'a> Pace<'a> {
    /// Of a thread that does one of `parts` of all.
    fn new(load: &'a Load, parts: u32) -> Self {
        let each = Duration::from_secs(1) * parts / u32::try_from(load.per_second).unwrap();
        Self { load, each, due: load.elapsed() }
    }

    /// False: the time is over.
    fn next(&mut self) -> bool {
        self.load.done.fetch_add(1, Ordering::Relaxed);
        let now = self.load.elapsed();
        self.due = (self.due + self.each).max(now.saturating_sub(Duration::from_millis(100)));
        // In portions: a wait for each operation would cost more than the operation.
        if self.due > now + Duration::from_millis(5) {
            return self.load.wait_for(self.due.saturating_sub(now));
        }
        now < self.load.lasts
    }
}

pub(crate) struct Spaces {
    all: Vec<Keyspace>,
    shared: Keyspace,
}

impl Spaces {
    pub(crate) fn open(db: &Database) -> Self {
        let open = |&(name, _): &(&str, usize)| match name {
            LARGE => {
                let options = KeyspaceOptions { separate_values: Some(1024), ..KeyspaceOptions::default() };
                db.keyspace_with(name, options).unwrap()
            }
            PARTITIONED => {
                let hash = Partitioning::Hash { partitions: 4 };
                db.partitioned_keyspace(name, &hash, KeyspaceOptions::default()).unwrap()
            }
            HASH | BTREE => {
                let engine = if name == HASH { EngineKind::Hash } else { EngineKind::Btree };
                let options = KeyspaceOptions { engine: Some(engine), ..KeyspaceOptions::default() };
                db.keyspace_with(name, options).unwrap()
            }
            _ => db.keyspace(name).unwrap(),
        };
        Self { all: SPACES.iter().map(open).collect(), shared: db.keyspace("shared").unwrap() }
    }

    pub(crate) fn named(&self, name: &str) -> &Keyspace {
        &self.all[SPACES.iter().position(|space| space.0 == name).unwrap()]
    }

    /// Those on disk, one after the other.
    pub(crate) fn on_disk(&self, number: usize) -> &Keyspace {
        self.all
            .iter()
            .filter(|keyspace| keyspace.engine().persistence() == Persistence::Durable)
            .cycle()
            .nth(number)
            .unwrap()
    }

    /// How often all threads together have counted.
    pub(crate) fn shared_sum(&self) -> u64 {
        self.shared.scan(..).map(|entry| number_of(&entry.unwrap().1)).sum()
    }
}

fn is_in_memory(space: usize) -> bool {
    [HASH, BTREE].contains(&SPACES[space].0)
}

fn number_of(value: &[u8]) -> u64 {
    u64::from_be_bytes(value.try_into().unwrap())
}

/// What a thread knows of a key.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// The version that was written last, or what a counter has come to; 0: it is not there.
    version: u64,
    expires_at: Timestamp,
}

const ABSENT: Known = Known { version: 0, expires_at: Timestamp::NEVER };

/// What a key has to hold, read between two moments.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Must {
    Hold,
    BeAbsent,
    /// It expired just then.
    Either,
}

impl Known {
    fn must(self, (before, after): (Timestamp, Timestamp)) -> Must {
        match self {
            Self { version: 0, .. } => Must::BeAbsent,
            Self { expires_at, .. } if expires_at > after => Must::Hold,
            Self { expires_at, .. } if expires_at <= before => Must::BeAbsent,
            _ => Must::Either,
        }
    }
}

fn value(space: usize, number: usize, version: u64) -> Vec<u8> {
    let name = SPACES[space].0;
    if name == COUNTERS {
        return version.to_string().into_bytes();
    }
    let mut random = fastrand::Rng::with_seed(version << 20 ^ number as u64);
    let length = if name == LARGE { random.usize(200..6000) } else { random.usize(8..200) };
    let mut value = vec![0; length];
    random.fill(&mut value);
    value
}

struct HeldSnapshot {
    snapshot: Snapshot,
    taken: (Timestamp, Timestamp),
    known: Vec<(usize, usize, Known)>,
    until: u64,
}

struct HeldScan {
    scan: Scan,
    space: usize,
    /// What is still to come, the next one first.
    to_come: VecDeque<(usize, Known)>,
}

/// One of the threads. It alone writes its keys.
pub(crate) struct Worker<'a> {
    load: &'a Load,
    db: &'a Database,
    spaces: &'a Spaces,
    thread: usize,
    random: fastrand::Rng,
    /// By keyspace and number.
    known: Vec<Vec<Known>>,
    version: u64,
    steps: u64,
    snapshots: VecDeque<HeldSnapshot>,
    scans: VecDeque<HeldScan>,
    /// How often it has counted in the keyspace that all share.
    pub increments: u64,
}

impl<'a> Worker<'a> {
    pub(crate) fn new(load: &'a Load, db: &'a Database, spaces: &'a Spaces, thread: usize) -> Self {
        let known = SPACES.iter().map(|space| vec![ABSENT; load.keys * space.1 / 100 / THREADS]).collect();
        Self {
            load,
            db,
            spaces,
            thread,
            random: fastrand::Rng::with_seed(thread as u64),
            known,
            version: 0,
            steps: 0,
            snapshots: VecDeque::new(),
            scans: VecDeque::new(),
            increments: 0,
        }
    }

    pub(crate) fn populate(&mut self) {
        for space in 0..SPACES.len() {
            for number in 0..self.known[space].len() {
                self.put(space, number);
            }
        }
    }

    pub(crate) fn run(&mut self) {
        let _ends_all = self.load.guard();
        let mut pace = Pace::new(self.load, PARTS);
        while pace.next() {
            self.steps += 1;
            self.step();
        }
        while let Some(held) = self.snapshots.pop_front() {
            self.check_snapshot(&held);
        }
        self.scans.clear();
        for space in 0..SPACES.len() {
            for number in 0..self.known[space].len() {
                self.get(space, number);
            }
        }
    }

    fn step(&mut self) {
        if self.snapshots.front().is_some_and(|held| held.until < self.steps) {
            let held = self.snapshots.pop_front().unwrap();
            self.check_snapshot(&held);
        }
        let (space, number) = self.any_key();
        match self.random.u32(..10_000) {
            0..4500 => self.get(space, number),
            4500..5000 => self.multi_get(space),
            5000..7600 => self.put(space, number),
            7600..8100 => self.delete(space, number),
            8100..8400 => self.batch(),
            8400..8900 => self.scan(space, number),
            8900..9400 => self.count_in_transaction(),
            9400..9700 => self.merge(),
            9700..9760 => self.take_snapshot(),
            9760..9820 => self.begin_scan(),
            9820..9950 => self.go_on_with_a_scan(),
            9950..9980 => self.delete_range(space, number),
            9980..9994 => self.in_two_phases(space, number),
            9994..9997 => self.ingest(number),
            9997..9999 => self.bulk_load(number),
            _ => self.db.batch().durability(Durability::Sync).commit().unwrap(),
        }
    }

    /// A random one; half of all are of the first tenth.
    fn any_key(&mut self) -> (usize, usize) {
        let space = self.random.usize(..SPACES.len());
        let keys = self.known[space].len();
        let keys = if self.random.bool() { keys / 10 } else { keys };
        (space, self.random.usize(..keys))
    }

    fn key(&self, number: usize) -> Vec<u8> {
        format!("thread {} key {number:06}", self.thread).into_bytes()
    }

    fn now(&self) -> Timestamp {
        self.db.now()
    }

    fn check(&self, (space, number): (usize, usize), found: Option<&[u8]>, known: Known, must: Must) {
        let is_right = match (found, must) {
            (None, Must::Either | Must::BeAbsent) => true,
            (Some(found), Must::Either | Must::Hold) => found == value(space, number, known.version),
            _ => false,
        };
        let length = found.map(<[u8]>::len);
        let name = SPACES[space].0;
        assert!(is_right, "{name}: key {number} of thread {}: {length:?} bytes of {known:?}", self.thread);
    }

    fn get(&mut self, space: usize, number: usize) {
        let (before, known) = (self.now(), self.known[space][number]);
        let found = self.spaces.all[space].get(self.key(number)).unwrap();
        self.check((space, number), found.as_deref(), known, known.must((before, self.now())));
    }

    fn multi_get(&mut self, space: usize) {
        let numbers: Vec<usize> = (0..10).map(|_| self.random.usize(..self.known[space].len())).collect();
        let before = self.now();
        let found = self.spaces.all[space].multi_get(numbers.iter().map(|&number| self.key(number))).unwrap();
        let between = (before, self.now());
        for (number, found) in numbers.into_iter().zip(found) {
            let known = self.known[space][number];
            self.check((space, number), found.as_deref(), known, known.must(between));
        }
    }

    /// The next version of a key, and how it is written.
    fn next(&mut self, space: usize, number: usize) -> (Vec<u8>, EntryOptions) {
        self.version += 1;
        let mut options = EntryOptions::default();
        let mut expires_at = Timestamp::NEVER;
        if SPACES[space].0 == EXPIRING && self.random.u8(..8) > 0 {
            expires_at = self.now().plus_ms(self.random.u64(500..30_000));
            options.expires_at = Some(expires_at);
        }
        self.known[space][number] = Known { version: self.version, expires_at };
        (value(space, number, self.version), options)
    }

    fn put(&mut self, space: usize, number: usize) {
        let (value, options) = self.next(space, number);
        self.spaces.all[space].put_with(self.key(number), value, options).unwrap();
    }

    fn delete(&mut self, space: usize, number: usize) {
        self.known[space][number] = ABSENT;
        self.spaces.all[space].delete(self.key(number)).unwrap();
    }

    fn batch(&mut self) {
        let mut batch = self.db.batch();
        for _ in 0..6 {
            let (space, number) = self.any_key();
            if is_in_memory(space) {
                continue; // a batch is of keyspaces on disk, or of keyspaces in memory
            }
            if self.random.u8(..6) == 0 {
                self.known[space][number] = ABSENT;
                batch.delete(&self.spaces.all[space], self.key(number));
            } else {
                let (value, options) = self.next(space, number);
                batch.put_with(&self.spaces.all[space], self.key(number), value, options);
            }
        }
        batch.commit().unwrap();
    }

    fn merge(&mut self) {
        let space = SPACES.len() - 1;
        let number = self.random.usize(..self.known[space].len());
        self.known[space][number].version += 1;
        self.spaces.all[space].merge(self.key(number), b"1").unwrap();
    }

    fn delete_range(&mut self, space: usize, number: usize) {
        if SPACES[space].0 == HASH {
            return; // it has no order
        }
        let end = (number + 20).min(self.known[space].len());
        self.known[space][number..end].fill(ABSENT);
        self.spaces.all[space].delete_range(self.key(number)..self.key(end)).unwrap();
    }

    /// Forwards or backwards over some keys.
    fn scan(&mut self, space: usize, number: usize) {
        if SPACES[space].0 == HASH {
            return;
        }
        let end = (number + 40).min(self.known[space].len());
        let (before, is_reverse) = (self.now(), self.random.bool());
        let scan = self.spaces.all[space].scan(self.key(number)..self.key(end));
        let scan = if is_reverse { scan.reverse() } else { scan };
        let found: Result<Vec<_>> = scan.collect();
        let between = (before, self.now());
        let mut found = found.unwrap();
        if is_reverse {
            found.reverse();
        }
        let mut found = found.into_iter().peekable();
        for number in number..end {
            let (key, known) = (self.key(number), self.known[space][number]);
            let value = found.next_if(|entry| *entry.0 == *key).map(|entry| entry.1);
            self.check((space, number), value.as_deref(), known, known.must(between));
        }
        assert!(found.next().is_none(), "a scan has found a key that is out of place");
    }

    fn take_snapshot(&mut self) {
        if self.snapshots.len() >= HELD {
            return;
        }
        let before = self.now();
        let snapshot = self.db.snapshot().unwrap();
        let taken = (before, self.now());
        let keys: Vec<(usize, usize)> = (0..10).map(|_| self.any_key()).collect();
        let known = keys.into_iter().map(|(space, number)| (space, number, self.known[space][number]));
        let known = known.collect();
        self.snapshots.push_back(HeldSnapshot { snapshot, taken, known, until: self.steps + HOLDS_FOR });
    }

    fn check_snapshot(&self, held: &HeldSnapshot) {
        for &(space, number, known) in &held.known {
            let found = held.snapshot.get(&self.spaces.all[space], self.key(number)).unwrap();
            self.check((space, number), found.as_deref(), known, known.must(held.taken));
        }
    }

    fn begin_scan(&mut self) {
        let space = [0, 1, 3, 5, 6][self.random.usize(..5)];
        if self.scans.len() >= HELD {
            self.scans.pop_front();
        }
        let (start, keys) = (self.random.usize(..self.known[space].len()), self.known[space].len());
        let end = (start + 200).min(keys);
        let to_come = (start..end).map(|number| (number, self.known[space][number]));
        let to_come = to_come.filter(|(_, known)| known.version > 0).collect();
        let mut held =
            HeldScan { scan: self.spaces.all[space].scan(self.key(start)..self.key(end)), space, to_come };
        // From its first entry on it sees what there was.
        self.go_on(&mut held);
        self.scans.push_back(held);
    }

    fn go_on_with_a_scan(&mut self) {
        let Some(mut held) = self.scans.pop_front() else { return };
        if self.go_on(&mut held) {
            self.scans.push_back(held);
        }
    }

    /// Reads some more of a scan. False: it is over.
    fn go_on(&self, held: &mut HeldScan) -> bool {
        for _ in 0..20 {
            let expected = held.to_come.pop_front();
            let found: Option<(_, Value)> = held.scan.next().transpose().unwrap();
            let Some((number, known)) = expected else {
                assert!(found.is_none(), "a scan has found too much");
                return false;
            };
            let (key, found) = found.unwrap();
            assert!(*key == *self.key(number), "a scan has lost key {number} of {}", SPACES[held.space].0);
            self.check((held.space, number), Some(&found), known, Must::Hold);
        }
        true
    }

    /// Counts in a key that the other threads count in too.
    fn count_in_transaction(&mut self) {
        let key = self.random.u64(..SHARED_KEYS).to_be_bytes();
        let options = TransactionOptions { attempts: 100_000, ..Default::default() };
        let (shared, locks) = (&self.spaces.shared, self.random.u8(..4) == 0);
        let count = |transaction: &mut Transaction| {
            let found = if locks {
                transaction.get_for_update(shared, key)?
            } else {
                transaction.get(shared, key)?
            };
            let count = found.map_or(0, |value| number_of(&value));
            transaction.put(shared, key, (count + 1).to_be_bytes())
        };
        self.db.transact_with(options, count).unwrap();
        self.increments += 1;
    }

    /// Prepared, and committed or taken back; or only begun.
    fn in_two_phases(&mut self, space: usize, number: usize) {
        if is_in_memory(space) {
            return;
        }
        let mut transaction = self.db.begin().unwrap();
        let key = self.key(number);
        transaction.get(&self.spaces.all[space], &key).unwrap();
        let known = self.known[space][number];
        let (value, options) = self.next(space, number);
        transaction.put_with(&self.spaces.all[space], &key, value, options).unwrap();
        if SPACES[space].0 == EXPIRING || self.random.u8(..3) == 0 {
            self.known[space][number] = known;
            return transaction.rollback();
        }
        let prepared = transaction.prepare(&format!("{} {}", self.thread, self.version)).unwrap();
        if self.random.bool() {
            prepared.commit().unwrap();
        } else {
            self.known[space][number] = known;
            prepared.rollback().unwrap();
        }
    }

    fn ingest(&mut self, number: usize) {
        let space = self.random.usize(..2);
        let keys = self.known[space].len();
        let (start, end) = (number.min(keys), (number + 300).min(keys));
        let mut writer = self.spaces.all[space].sorted_writer().unwrap();
        for number in start..end {
            let (value, options) = self.next(space, number);
            writer.put_with(self.key(number), value, options).unwrap();
        }
        if start < end {
            self.spaces.all[space].ingest([writer.finish().unwrap()]).unwrap();
        }
    }

    fn bulk_load(&mut self, number: usize) {
        let space = self.random.usize(2..4);
        let keys = self.known[space].len();
        let (start, end) = (number.min(keys), (number + 300).min(keys));
        loop {
            let mut load = self.spaces.all[space].bulk_load().unwrap();
            for number in (start..end).rev() {
                let (value, options) = self.next(space, number);
                load.put_with(self.key(number), value, options).unwrap();
            }
            let Err(error) = load.finish() else { return };
            // Its partitions have changed meanwhile: it is written anew.
            let is_split = SPACES[space].0 == PARTITIONED && error.kind() == ErrorKind::Invalid;
            assert!(is_split, "a load has failed: {error}");
        }
    }
}

/// A user of futures, with keys of its own.
pub(crate) fn run_futures(load: &Load, db: &AsyncDatabase) {
    let _ends_all = load.guard();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let keyspace = db.keyspace("futures").await.unwrap();
        let mut random = fastrand::Rng::with_seed(0xf);
        let mut known = vec![0_u64; load.keys / 20];
        let mut pace = Pace::new(load, PARTS);
        for version in 1.. {
            if !pace.next() {
                break;
            }
            let number = random.usize(..known.len());
            let key = number.to_be_bytes();
            match random.u8(..10) {
                0..5 => {
                    let found = keyspace.get(key).await.unwrap();
                    let expected = (known[number] > 0).then(|| value(0, number, known[number]));
                    assert!(found.as_deref() == expected.as_deref(), "key {number} of the user of futures");
                }
                5..8 => {
                    keyspace.put(key, value(0, number, version)).await.unwrap();
                    known[number] = version;
                }
                8 => {
                    keyspace.delete(key).await.unwrap();
                    known[number] = 0;
                }
                _ => {
                    let end = (number + 30).min(known.len());
                    let mut scan = keyspace.scan(key..end.to_be_bytes());
                    let mut found = 0;
                    while scan.next().await.unwrap().is_some() {
                        found += 1;
                    }
                    assert_eq!(found, known[number..end].iter().filter(|&&version| version > 0).count());
                }
            }
        }
    });
}
