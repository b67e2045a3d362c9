//! What is seen from outside, again and again, and what it says in the end.

use std::fs;
use std::path::Path;
use std::time::Duration;

use pugdb::{Database, HandleCounts, Stats};

use crate::MEMORY_BYTES;
use crate::load::HELD_MAX;

/// One look at the process and its database.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    pub seconds: f64,
    pub operations: u64,
    pub resident_bytes: u64,
    pub threads: u64,
    pub open_files: u64,
    pub disk_bytes: u64,
    pub disk_files: u64,
    pub stats: Stats,
}

/// A figure of a sample that has to stay what it is: at most this much more in the last quarter than in the second.
struct Bound {
    name: &'static str,
    of: fn(&Sample) -> u64,
    percent: u64,
    and: u64,
}

/// The entries of the memory engines, what the threads know of their keys, and what they have in hand.
const TEST_BYTES: u64 = 8 << 20;

const BOUNDS: [Bound; 10] = [
    Bound { name: "resident bytes", of: |one| one.resident_bytes, percent: 5, and: 16 << 20 },
    // Those for futures come when they are needed and go when they are not.
    Bound { name: "threads", of: |one| one.threads, percent: 0, and: 16 },
    Bound { name: "open files", of: |one| one.open_files, percent: 20, and: 16 },
    Bound { name: "bytes on disk", of: |one| one.disk_bytes, percent: 20, and: 64 << 20 },
    Bound { name: "files on disk", of: |one| one.disk_files, percent: 20, and: 32 },
    Bound { name: "handles", of: |one| held(one.stats.handles), percent: 20, and: 16 },
    Bound { name: "accounted bytes", of: Sample::accounted_bytes, percent: 10, and: 8 << 20 },
    Bound { name: "runs", of: |one| one.stats.runs as u64, percent: 20, and: 16 },
    Bound { name: "log bytes", of: |one| one.stats.log_bytes, percent: 20, and: 32 << 20 },
    Bound { name: "range tombstones", of: |one| one.stats.range_tombstones as u64, percent: 50, and: 500 },
];

fn held(handles: HandleCounts) -> u64 {
    let HandleCounts { snapshots, scans, transactions, sorted_files, bulk_loads } = handles;
    (snapshots + scans + transactions + sorted_files + bulk_loads) as u64
}

impl Sample {
    pub(crate) fn take(db: &Database, dir: &Path, elapsed: Duration, operations: u64) -> Self {
        let (disk_files, disk_bytes) = files_below(dir);
        Self {
            seconds: elapsed.as_secs_f64(),
            operations,
            resident_bytes: resident_bytes(),
            threads: threads(),
            open_files: open_files(),
            disk_bytes,
            disk_files,
            stats: db.stats().unwrap(),
        }
    }

    fn accounted_bytes(&self) -> u64 {
        (self.stats.memtable_bytes + self.stats.cache_bytes + self.stats.table_memory_bytes) as u64
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        let stats = &self.stats;
        serde_json::json!({
            "seconds": (self.seconds * 10.0).round() / 10.0,
            "operations": self.operations,
            "resident": self.resident_bytes,
            "threads": self.threads,
            "files": self.open_files,
            "disk": self.disk_bytes,
            "disk_files": self.disk_files,
            "memtables": stats.memtable_bytes,
            "cache": stats.cache_bytes,
            "tables": stats.table_memory_bytes,
            "log": stats.log_bytes,
            "runs": stats.runs,
            "value_bytes": stats.value_bytes,
            "value_live": stats.value_live_bytes,
            "tombstones": stats.range_tombstones,
            "keyspaces": stats.keyspaces,
            "handles": held(stats.handles),
            "snapshots": stats.snapshots,
            "prepared": stats.prepared_transactions,
            "stalls": stats.stalls,
        })
    }
}

/// What a run has shown, in words.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Each figure, and what it may be.
    pub figures: Vec<String>,
    /// What is more than it may be.
    pub findings: Vec<String>,
}

/// Pure: what is to be said of a run that was seen so. Its first quarter is there to get warm.
pub(crate) fn judge(samples: &[Sample]) -> Verdict {
    let quarter = samples.len() / 4;
    assert!(quarter > 1, "{} samples say nothing", samples.len());
    let (second, last) = (&samples[quarter..2 * quarter], &samples[samples.len() - quarter..]);
    let mut verdict = Verdict::default();
    for bound in &BOUNDS {
        let (was, is) = (median(second, bound.of), median(last, bound.of));
        let may_be = was + was * bound.percent / 100 + bound.and;
        let figure = format!("{}: {was}, and {is} in the end; {may_be} is allowed", bound.name);
        if is > may_be {
            verdict.findings.push(figure.clone());
        }
        verdict.figures.push(figure);
    }
    let most = |of: fn(&Sample) -> u64| samples.iter().map(of).max().unwrap_or(0);
    let limits = [
        ("handles", most(|one| held(one.stats.handles)), HELD_MAX),
        ("prepared transactions", most(|one| one.stats.prepared_transactions as u64), 16),
        ("accounted bytes", most(Sample::accounted_bytes), MEMORY_BYTES as u64),
        (
            "resident bytes",
            most(|one| one.resident_bytes),
            MEMORY_BYTES as u64 * 11 / 10 + (64 << 20) + TEST_BYTES,
        ),
    ];
    for (name, most, limit) in limits {
        let figure = format!("{name}: {most} at most; {limit} is the limit");
        if most > limit {
            verdict.findings.push(figure.clone());
        }
        verdict.figures.push(figure);
    }
    verdict
}

fn median(samples: &[Sample], of: fn(&Sample) -> u64) -> u64 {
    let mut figures: Vec<u64> = samples.iter().map(of).collect();
    figures.sort_unstable();
    figures[figures.len() / 2]
}

/// What this process has in memory.
fn resident_bytes() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = pages.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}

pub(crate) fn threads() -> u64 {
    fs::read_dir("/proc/self/task").unwrap().count() as u64
}

pub(crate) fn open_files() -> u64 {
    fs::read_dir("/proc/self/fd").unwrap().count() as u64
}

/// How many files there are, and their bytes. They come and go meanwhile.
fn files_below(dir: &Path) -> (u64, u64) {
    let Ok(entries) = fs::read_dir(dir) else { return (0, 0) };
    let mut sum = (0, 0);
    for entry in entries.flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        let (files, bytes) = if metadata.is_dir() { files_below(&entry.path()) } else { (1, metadata.len()) };
        sum = (sum.0 + files, sum.1 + bytes);
    }
    sum
}

/// Changes a sample, by its number.
type Grow = fn(&mut Sample, u64);

/// A run in which nothing grows, but for one figure that `grow` makes of its number.
fn planted(grow: Grow) -> Vec<String> {
    let sample = |number| {
        let stats = Stats { memtable_bytes: 16 << 20, runs: 40, log_bytes: 8 << 20, ..Stats::default() };
        let (resident_bytes, disk_bytes) = (80 << 20, 200 << 20);
        let (threads, open_files, disk_files) = (20, 80, 90);
        let mut sample = Sample {
            resident_bytes,
            threads,
            open_files,
            disk_bytes,
            disk_files,
            stats,
            ..Sample::default()
        };
        grow(&mut sample, number);
        sample
    };
    let samples: Vec<Sample> = (0..720).map(sample).collect();
    judge(&samples).findings
}

#[test]
fn each_figure_that_grows_in_an_hour_is_found() {
    let leaks: [(&str, Grow); 10] = [
        ("resident bytes", |one, at| one.resident_bytes += at * (80 << 10)),
        ("threads", |one, at| one.threads += at / 18),
        ("open files", |one, at| one.open_files += at / 9),
        ("bytes on disk", |one, at| one.disk_bytes += at * (512 << 10)),
        ("files on disk", |one, at| one.disk_files += at / 5),
        ("handles", |one, at| one.stats.handles.scans += usize::try_from(at / 12).unwrap()),
        ("accounted bytes", |one, at| one.stats.memtable_bytes += usize::try_from(at).unwrap() * (32 << 10)),
        ("runs", |one, at| one.stats.runs += usize::try_from(at / 10).unwrap()),
        ("log bytes", |one, at| one.stats.log_bytes += at * (128 << 10)),
        ("range tombstones", |one, at| one.stats.range_tombstones += usize::try_from(at * 4).unwrap()),
    ];
    for (name, grow) in leaks {
        let found = planted(grow);
        assert!(found.len() == 1 && found[0].starts_with(name), "{name}: {found:?}");
    }
    assert_eq!(planted(|_, _| ()), Vec::<String>::new());
}

#[test]
fn what_goes_up_and_down_and_what_is_large_only_in_the_first_quarter_is_no_leak() {
    let waves = planted(|one, at| one.resident_bytes += (at % 7) * (4 << 20));
    assert_eq!(waves, Vec::<String>::new());
    let warming = planted(|one, at| one.disk_bytes += 180_u64.saturating_sub(at) * (1 << 20));
    assert_eq!(warming, Vec::<String>::new());
}

#[test]
fn a_limit_is_one_at_every_moment() {
    let once = planted(|one, at| one.stats.prepared_transactions += if at == 300 { 17 } else { 0 });
    assert!(once.len() == 1 && once[0].starts_with("prepared transactions: 17"), "{once:?}");
    let once = planted(|one, at| one.resident_bytes += if at == 30 { 100 << 20 } else { 0 });
    assert!(once.len() == 1 && once[0].starts_with("resident bytes"), "{once:?}");
    let once = planted(|one, at| one.stats.cache_bytes += if at == 30 { MEMORY_BYTES } else { 0 });
    assert!(once.len() == 1 && once[0].starts_with("accounted bytes"), "{once:?}");
}
