//! An hour of steady mixed load, after which memory, threads, files, disk and handles are what they were: what is given back
//! is given back in full, however often.
//!
//! Four threads and a user of futures read and write keyspaces of every kind, each thread its own keys, so that it knows what
//! every read has to find. A fifth splits and merges partitions, makes checkpoints, makes and drops keyspaces. The load is the same
//! from the first second to the last, and so is what it needs, or something leaks.
//!
//! `MALLOC_ARENA_MAX=2 PUGDB_SOAK_SECONDS=3600 cargo test --release -p pugdb-tests --test soak -- --nocapture` is the long run, with
//! as many arenas of glibc as the server takes on two processors: left alone, glibc keeps twice as much. It prints a sample
//! as a line of JSON every five seconds. `PUGDB_SOAK_PER_SECOND` is how many operations there are a second, all threads together.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test's helper fails as its test does")]

mod load;
mod samples;
mod steward;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pugdb::env::Env;
use pugdb::operators::Add;
use pugdb::{AsyncDatabase, Database, DatabaseEvent, Durability, Observer};

use load::{Load, Spaces, THREADS, Worker};
use samples::{Sample, judge, open_files, threads};

pub(crate) const MEMORY_BYTES: usize = 64 << 20;
const CACHE_BYTES: usize = 16 << 20;
const SAMPLES: u32 = 720;

#[derive(Default)]
struct Events(AtomicU64);

impl Observer for Events {
    fn on_event(&self, _: &DatabaseEvent) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |value| value.parse().unwrap())
}

fn open(dir: &Path, events: &Arc<Events>) -> Database {
    Database::builder()
        .memory_bytes(MEMORY_BYTES)
        .cache_bytes(CACHE_BYTES)
        .log_segment_bytes(8 << 20)
        .durability(Durability::Os)
        .expiry_grace(Duration::from_secs(2))
        .track_handles(true)
        .slow_operations(Duration::from_millis(200))
        .merge_operator(load::COUNTERS, Arc::new(Add))
        .observer(Arc::clone(events) as Arc<dyn Observer>)
        .open(dir.join("data"))
        .unwrap()
}

/// Runs the load, and looks at it from outside. Returns what was seen.
fn run(load: &Load, dir: &Path, events: &Arc<Events>, tell: &dyn Fn(&Sample)) -> Vec<Sample> {
    let db = open(dir, events);
    let spaces = Spaces::open(&db);
    let mut workers: Vec<Worker<'_>> =
        (0..THREADS).map(|thread| Worker::new(load, &db, &spaces, thread)).collect();
    workers.iter_mut().for_each(Worker::populate);
    db.flush().unwrap();
    let every = (load.lasts / SAMPLES).clamp(Duration::from_millis(50), Duration::from_secs(5));
    let mut samples = Vec::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = workers.iter_mut().map(|worker| scope.spawn(|| worker.run())).collect();
        let future = scope.spawn(|| load::run_futures(load, &AsyncDatabase::from(db.clone())));
        let steward = scope.spawn(|| steward::run(load, &db, &spaces, dir));
        while load.wait_for(every) {
            let sample = Sample::take(&db, dir, load.elapsed(), load.done.load(Ordering::Relaxed));
            tell(&sample);
            samples.push(sample);
        }
        for thread in threads {
            thread.join().unwrap();
        }
        future.join().unwrap();
        steward.join().unwrap();
    });
    let increments: u64 = workers.iter().map(|worker| worker.increments).sum();
    assert_eq!(spaces.shared_sum(), increments, "a transaction was lost, or counted twice");
    let report = db.verify().unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    let stats = db.stats().unwrap();
    assert_eq!((stats.observer_panics, stats.operator_failures, stats.quarantined), (0, 0, 0));
    db.close().unwrap();
    samples
}

#[test]
fn after_hours_of_the_same_load_memory_files_threads_disk_and_handles_are_flat() {
    let seconds = setting("PUGDB_SOAK_SECONDS", 6);
    let load = Load::new(&Env::os(), Duration::from_secs(seconds), setting("PUGDB_SOAK_PER_SECOND", 15_000));
    let (events, scratch) = (Arc::new(Events::default()), tempfile::tempdir().unwrap());
    let before = (open_files(), threads());
    let samples = run(&load, scratch.path(), &events, &|sample| eprintln!("{}", sample.json()));
    let after = (open_files(), threads());
    eprintln!("before {before:?}, after {after:?}, {} events", events.0.load(Ordering::Relaxed));
    let verdict = judge(&samples);
    eprintln!("{}", verdict.figures.join("\n"));
    assert!(verdict.findings.is_empty(), "{}", verdict.findings.join("\n"));
    assert!(after.0 <= before.0, "{} files were open before, and {} are after", before.0, after.0);
    assert!(events.0.load(Ordering::Relaxed) > seconds, "hardly anything happened");
}
