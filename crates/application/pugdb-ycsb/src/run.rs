//! A run: clients carry out their plans at the same time, check what they read, and note how long each operation took.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use pugdb::{Error, Result};

use crate::empty::EmptyStore;
use crate::key::{KEY_BYTES, Key, absent_key, key};
use crate::limits;
use crate::plan::{Operation, Plan, plan};
use crate::random::Random;
use crate::report::{Cost, Report, Tally};
use crate::store::{Client, Store};
use crate::usage::{Stopwatch, Usage, wait_until_idle};
use crate::value::Values;
use crate::workload::{Distribution, Workload};

/// What is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many records are loaded.
    pub records: u64,
    /// How many operations each workload after the load has, all clients together.
    pub operations: u64,
    /// The size of each value.
    pub value_bytes: usize,
    /// How many clients there are, a thread each.
    pub threads: usize,
    /// How popular the records are.
    pub distribution: Distribution,
    /// Everything that is drawn follows from it.
    pub seed: u64,
    /// How long a run waits at most for what the store has put off, so that it is counted where it belongs.
    pub patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            records: 100_000,
            operations: 100_000,
            value_bytes: 100,
            threads: 1,
            distribution: Distribution::Zipfian,
            seed: 1,
            patience: Duration::ZERO,
        }
    }
}

impl Settings {
    fn check(&self) -> Result<()> {
        let within = |name: &str, value: u64, min: u64, max: u64| {
            if (min..=max).contains(&value) {
                return Ok(());
            }
            Err(Error::invalid(format!("{value} {name} are asked for; {min} to {max} are possible")))
        };
        within("records", self.records, limits::RECORDS_MIN, limits::RECORDS_MAX)?;
        within("operations", self.operations, 1, limits::OPERATIONS_MAX)?;
        within("threads", self.threads as u64, 1, limits::THREADS_MAX as u64)
    }
}

/// A store and what was done to it so far.
pub struct Bench<'a> {
    store: &'a dyn Store,
    settings: Settings,
    values: Arc<Values>,
    records: u64,
    runs: u64,
}

impl<'a> Bench<'a> {
    /// Nothing is done yet: the store has to be empty.
    ///
    /// # Errors
    /// `Invalid` when a setting is out of range.
    pub fn new(store: &'a dyn Store, settings: Settings) -> Result<Self> {
        settings.check()?;
        let values = Arc::new(Values::new(settings.value_bytes, settings.seed)?);
        Ok(Self { store, settings, values, records: 0, runs: 0 })
    }

    /// How many clients the next runs have, and how many operations.
    ///
    /// # Errors
    /// `Invalid` when one is out of range.
    pub fn set_load(&mut self, threads: usize, operations: u64) -> Result<()> {
        let settings = Settings { operations, threads, ..self.settings.clone() };
        settings.check()?;
        self.settings = settings;
        Ok(())
    }

    /// How popular the records are in the next runs.
    pub fn set_distribution(&mut self, distribution: Distribution) {
        self.settings.distribution = distribution;
    }

    /// Runs one workload.
    ///
    /// # Errors
    /// `Invalid` when the store cannot do it or is not in the state for it, `Corrupt` when a value that was read is not
    /// one that was written for its key, and what the store returns.
    pub fn run(&mut self, workload: Workload) -> Result<Report> {
        self.check_possible(workload)?;
        let capabilities = self.store.capabilities();
        let batch = if workload == Workload::Load { capabilities.load_batch.max(1) } else { 1 };
        let shared = Shared::new(self, workload);
        let works: Vec<Work> = (0..self.settings.threads as u64)
            .map(|client| match workload {
                Workload::Load => Work::Load(self.part(self.settings.records, client), batch),
                _ => Work::Plan(self.plan(workload, client)),
            })
            .collect();
        let clients: Vec<_> = works.iter().map(|_| self.store.client()).collect::<Result<_>>()?;
        let (tally, cost) = carry_out(&shared, works, clients, self.settings.patience)?;
        let report = Report::new(workload, &self.settings, self.records, batch, &tally, &cost);
        self.records = shared.next.into_inner();
        self.runs += 1;
        Ok(report)
    }

    fn check_possible(&self, workload: Workload) -> Result<()> {
        if workload.scans() && !self.store.capabilities().scans {
            return Err(Error::invalid(
                "workload E scans in the order of the keys, and this store keeps none: leave E out",
            ));
        }
        match (workload == Workload::Load, self.records) {
            (true, 1..) => Err(Error::invalid("the store is loaded already: load an empty one")),
            (false, 0) => Err(Error::invalid(format!("workload {workload} needs records: load them first"))),
            _ => Ok(()),
        }
    }

    /// The part of `whole` that falls to a client.
    fn part(&self, whole: u64, client: u64) -> std::ops::Range<u64> {
        let clients = self.settings.threads as u64;
        whole * client / clients..whole * (client + 1) / clients
    }

    fn plan(&self, workload: Workload, client: u64) -> Plan {
        let part = self.part(self.settings.operations, client);
        let random = Random::for_part(self.settings.seed, self.runs << 8 | client);
        plan(workload, self.settings.distribution, self.records, part.end - part.start, random)
    }
}

/// What the yardstick itself takes for a workload: a run over a store that keeps nothing. Each value that is read is made
/// at that moment, which a true store has done before; so it is a little too much, never too little.
///
/// # Errors
/// `Invalid` when a setting is out of range.
pub fn overhead(settings: &Settings, workload: Workload) -> Result<Report> {
    settings.check()?;
    let values = Arc::new(Values::new(settings.value_bytes, settings.seed)?);
    let store = EmptyStore::new(Arc::clone(&values), workload != Workload::M);
    let settings = Settings { patience: Duration::ZERO, ..settings.clone() };
    let records = if workload == Workload::Load { 0 } else { settings.records };
    Bench { store: &store, settings, values, records, runs: 0 }.run(workload)
}

/// What the clients of one run share.
struct Shared {
    workload: Workload,
    values: Arc<Values>,
    run: u64,
    /// Records below are there from before the run.
    loaded: u64,
    /// The next record to insert.
    next: AtomicU64,
    /// All records below are inserted.
    acknowledged: AtomicU64,
    /// Which of the records from `loaded` on are inserted.
    inserted: Vec<AtomicBool>,
    /// Somebody failed: the others end.
    stop: AtomicBool,
}

/// What one client has to do.
enum Work {
    Load(std::ops::Range<u64>, usize),
    Plan(Plan),
}

/// The process counts as idle when it has done nothing for so long.
const IDLE: Duration = Duration::from_millis(50);
/// And after workloads that write most: a store may wait for some seconds whether more comes before it puts in order what it was
/// given, and the next workload would pay for that.
const IDLE_AFTER_FILL: Duration = Duration::from_secs(4);

/// All clients start together. The time ends with the last operation, the processor's time when the process is idle.
fn carry_out(
    shared: &Shared,
    works: Vec<Work>,
    clients: Vec<Box<dyn Client + Send + '_>>,
    patience: Duration,
) -> Result<(Tally, Cost)> {
    let start = Barrier::new(works.len() + 1);
    let stopwatch = Stopwatch::new();
    let (results, before) = std::thread::scope(|scope| {
        let threads: Vec<_> = (0_u64..)
            .zip(works.into_iter().zip(clients))
            .map(|(number, (work, client))| {
                let mut runner = Runner::new(shared, client, number, stopwatch);
                let start = &start;
                scope.spawn(move || {
                    // Once to say that it is there, once to hear that the clock runs.
                    start.wait();
                    start.wait();
                    let result = runner.work(work);
                    if result.is_err() {
                        shared.stop.store(true, Ordering::Relaxed);
                    }
                    result.map(|()| runner.tally)
                })
            })
            .collect();
        start.wait();
        let before = Usage::now(&stopwatch);
        start.wait();
        let results: Vec<Result<Tally>> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect();
        (results, before)
    });
    let wall = Usage::now(&stopwatch).wall_since(&before);
    let mut tally = Tally::new();
    for result in results {
        tally.add(&result?);
    }
    wait_until_idle(patience, if shared.workload.fills() { IDLE_AFTER_FILL } else { IDLE });
    Ok((tally, Cost { wall, processor: Usage::now(&stopwatch).processor_since(&before) }))
}

impl Shared {
    fn new(bench: &Bench<'_>, workload: Workload) -> Self {
        let (next, inserts) = match workload {
            Workload::Load => (bench.settings.records, 0),
            _ if workload.inserts() => (bench.records, bench.settings.operations),
            _ => (bench.records, 0),
        };
        Self {
            workload,
            values: Arc::clone(&bench.values),
            run: bench.runs,
            loaded: bench.records,
            next: AtomicU64::new(next),
            acknowledged: AtomicU64::new(bench.records),
            inserted: (0..inserts).map(|_| AtomicBool::new(false)).collect(),
            stop: AtomicBool::new(false),
        }
    }

    /// A record is inserted: those behind which no gap is left can be read from now on. Sequentially consistent, or two
    /// clients could each miss what the other has just done, and a gap would stay.
    fn acknowledge(&self, record: u64) {
        let flag =
            |record: u64| self.inserted.get(usize::try_from(record - self.loaded).unwrap_or(usize::MAX));
        if let Some(flag) = flag(record) {
            flag.store(true, Ordering::SeqCst);
        }
        loop {
            let end = self.acknowledged.load(Ordering::SeqCst);
            if !flag(end).is_some_and(|flag| flag.load(Ordering::SeqCst)) {
                return;
            }
            // When it fails, another client has done it.
            let _ = self.acknowledged.compare_exchange(end, end + 1, Ordering::SeqCst, Ordering::SeqCst);
        }
    }
}

/// One client at work.
struct Runner<'a> {
    shared: &'a Shared,
    client: Box<dyn Client + Send + 'a>,
    stopwatch: Stopwatch,
    tally: Tally,
    version: u64,
    value: Vec<u8>,
}

impl<'a> Runner<'a> {
    fn new(
        shared: &'a Shared,
        client: Box<dyn Client + Send + 'a>,
        number: u64,
        stopwatch: Stopwatch,
    ) -> Self {
        const { assert!(limits::THREADS_MAX <= 1 << 8) };
        // No two writes of one store have the same version.
        let version = shared.run << 48 | number << 40;
        Self { shared, client, stopwatch, tally: Tally::new(), version, value: Vec::new() }
    }

    fn work(&mut self, work: Work) -> Result<()> {
        match work {
            Work::Load(records, batch) => self.load(records, batch),
            Work::Plan(plan) => self.follow(&plan),
        }
    }

    fn load(&mut self, records: std::ops::Range<u64>, batch: usize) -> Result<()> {
        let entry_bytes = KEY_BYTES + self.shared.values.bytes();
        let batch = batch.min(limits::BATCH_BYTES_MAX / entry_bytes).max(1);
        let mut entries: Vec<(Key, Vec<u8>)> = Vec::new();
        let mut last = self.stopwatch.elapsed();
        let mut rest = records;
        while !rest.is_empty() && !self.shared.stop.load(Ordering::Relaxed) {
            let count = if batch == 1 {
                self.put(rest.start)?;
                1
            } else {
                let count = (rest.end - rest.start).min(batch as u64);
                entries.resize_with(usize::try_from(count).expect("at most a batch"), Default::default);
                for (record, entry) in (rest.start..).zip(&mut entries) {
                    self.version += 1;
                    entry.0 = key(record);
                    self.shared.values.make(&entry.0, self.version, &mut entry.1);
                }
                self.client.put_many(&entries)?;
                count
            };
            rest.start += count;
            // One look at the clock for each: the end of one is the start of the next.
            let now = self.stopwatch.elapsed();
            self.tally.record(now.saturating_sub(last), count);
            last = now;
        }
        Ok(())
    }

    fn follow(&mut self, plan: &Plan) -> Result<()> {
        let mut last = self.stopwatch.elapsed();
        for operation in plan.operations() {
            if self.shared.stop.load(Ordering::Relaxed) {
                break;
            }
            self.carry_out(operation)?;
            let now = self.stopwatch.elapsed();
            self.tally.record(now.saturating_sub(last), 1);
            last = now;
        }
        Ok(())
    }

    fn carry_out(&mut self, operation: Operation) -> Result<()> {
        match operation {
            Operation::Read(record) => self.read(record),
            Operation::ReadLatest(distance) => {
                let newest = self.shared.acknowledged.load(Ordering::SeqCst) - 1;
                self.read(newest.saturating_sub(distance))
            }
            Operation::Update(record) => self.put(record),
            Operation::Insert => {
                let record = self.shared.next.fetch_add(1, Ordering::Relaxed);
                self.put(record)?;
                self.shared.acknowledge(record);
                Ok(())
            }
            Operation::Scan(record, length) => self.scan(record, length),
            Operation::ReadModifyWrite(record) => {
                self.read(record)?;
                self.put(record)
            }
            Operation::Miss(number) => self.miss(number),
        }
    }

    fn put(&mut self, record: u64) -> Result<()> {
        let key = key(record);
        self.version += 1;
        self.shared.values.make(&key, self.version, &mut self.value);
        self.client.put(&key, &self.value)
    }

    fn read(&mut self, record: u64) -> Result<()> {
        let key = key(record);
        let values = &*self.shared.values;
        let mut right = false;
        let found = self.client.get(&key, &mut |value| right = values.is_of(&key, value))?;
        if !found {
            return Err(self.wrong("a get found nothing where a record had been written"));
        }
        if !right {
            return Err(self.wrong("a get gave a value that was not written for its key"));
        }
        self.tally.checked += 1;
        Ok(())
    }

    fn miss(&mut self, number: u64) -> Result<()> {
        if self.client.get(&absent_key(number), &mut |_| {})? {
            return Err(self.wrong("a get found a value for a key that was never written"));
        }
        self.tally.misses += 1;
        Ok(())
    }

    fn scan(&mut self, record: u64, length: u64) -> Result<()> {
        let start = key(record);
        let values = &*self.shared.values;
        let limit = usize::try_from(length).expect("at most limits::SCAN_LENGTH_MAX");
        let mut last = start;
        let (mut seen, mut begins_right, mut in_order, mut right) = (0, false, true, true);
        self.client.scan(&start, limit, &mut |key, value| {
            if seen == 0 {
                begins_right = key == start;
                in_order = key >= last.as_slice();
            } else {
                in_order &= key > last.as_slice();
            }
            seen += 1;
            match <Key>::try_from(key) {
                Ok(key) => last = key,
                Err(_) => right = false,
            }
            right &= values.is_of(key, value);
        })?;
        // What another client is inserting may or may not be there yet.
        if record < self.shared.loaded && !begins_right {
            return Err(self.wrong("a scan did not begin with the record at its start"));
        }
        if !in_order {
            return Err(self.wrong("a scan gave entries out of order"));
        }
        if seen > limit {
            return Err(self.wrong("a scan gave more entries than it was asked for"));
        }
        if !right {
            return Err(self.wrong("a scan gave a value that was not written for its key"));
        }
        self.tally.checked += seen as u64;
        Ok(())
    }

    fn wrong(&self, what: &str) -> Error {
        Error::corrupt(format!(
            "workload {}, operation {}: {what}; the figures of this run mean nothing",
            self.shared.workload,
            self.tally.operations + 1
        ))
    }
}
