//! `bench ycsb`: the yardstick over an engine of PugDB, in a directory of its own.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use pugdb::{Database, Durability, EngineKind, Persistence};
use pugdb_ycsb::{Bench, Distribution, PugdbStore, Report, Settings, Workload, overhead};
use serde::Serialize;

use crate::keyspace::TableArguments;
use crate::outcome::{Exit, Failure};
use crate::output::{Answer, Format};
use crate::root_key::KeyArguments;
use crate::target::open_database;
use crate::text::{human_bytes, parse_size};

/// Measure how fast PugDB is on this machine
#[derive(Args, Debug)]
pub(crate) struct BenchArguments {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Debug, Subcommand)]
enum Benchmark {
    Ycsb(YcsbArguments),
}

/// The YCSB core workloads, every value that is read checked against its key
#[derive(Args, Debug)]
#[command(after_help = "\
Workloads, in the order in which they are given:
  load  insert every record                 A  half reads, half updates
  B     95 % reads, 5 % updates             C  reads
  D     95 % reads of the newest, inserts   E  95 % scans of 1 to 100, inserts
  F     half reads, half read-change-write  W  updates of any record
  M     gets of keys that are absent
What is not loaded is loaded first, unmeasured. CPU time is that of the whole process: background work, also what is put
off to the time after the last operation, and the yardstick itself, which has a column of its own. The next workload begins when
the process has been idle for a moment, after load and W for four seconds.

The directory is a new one below the system's temporary directory, and is removed at the end. That may be a disk in memory,
where a sync costs nothing: with --durability sync, name a directory on the disk that you mean.

Examples:
  pugdb bench ycsb
  pugdb bench ycsb --records 1000000 --operations 1000000 --workload load,C,E
  pugdb bench ycsb --durability sync --threads 32 --workload W --data /var/lib/bench
  pugdb bench ycsb --engine btree --json | jq .cpu_us_per_op")]
struct YcsbArguments {
    /// What keeps the entries
    #[arg(long, value_enum, default_value_t = Engine::Lsm)]
    engine: Engine,
    /// How many records are loaded; each key has 24 bytes
    #[arg(long, value_name = "COUNT", default_value_t = 100_000)]
    records: u64,
    /// How many operations a workload has
    #[arg(long, value_name = "COUNT", default_value_t = 100_000)]
    operations: u64,
    /// The size of a value
    #[arg(long, value_name = "BYTES", value_parser = parse_size, default_value = "100")]
    value_bytes: usize,
    /// How many clients work at the same time, a thread each
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    threads: usize,
    /// Which workloads, in this order [default: load,A,B,C,F,D,E; on the hash engine without E]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = |name: &str| name.parse::<Workload>())]
    workload: Vec<Workload>,
    /// What an acknowledged write survives: sync, group:5ms, periodic:1s or os; engines in memory have none [default: os]
    #[arg(long, value_name = "LEVEL")]
    durability: Option<Durability>,
    /// How popular the records are in A, B, C, E and F
    #[arg(long, value_enum, default_value_t = Popularity::Zipfian)]
    distribution: Popularity,
    /// The same number gives the same operations
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// What the database may hold in memory, such as 4GiB; a quarter of it keeps blocks of tables
    #[arg(long, value_name = "BYTES", value_parser = parse_size, default_value = "1GiB")]
    memory: usize,
    #[command(flatten)]
    tables: TableArguments,
    #[command(flatten)]
    keys: KeyArguments,
    /// A directory instead of a temporary one: empty, or made; it is kept
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Engine {
    /// On disk, ordered
    Lsm,
    /// On disk, ordered: eight trees, each with some of the keys
    Partitioned,
    /// In memory, in no order: no workload E
    Hash,
    /// In memory, ordered
    Btree,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Popularity {
    /// Some far more popular than others, strewn over all
    Zipfian,
    /// All the same
    Uniform,
}

impl Engine {
    fn kind(self) -> EngineKind {
        match self {
            Self::Lsm => EngineKind::Lsm,
            Self::Partitioned => EngineKind::Partitioned,
            Self::Hash => EngineKind::Hash,
            Self::Btree => EngineKind::Btree,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Lsm => "lsm",
            Self::Partitioned => "partitioned",
            Self::Hash => "hash",
            Self::Btree => "btree",
        }
    }

    /// Those of YCSB in the order that its authors recommend: what inserts records comes last.
    fn workloads(self) -> &'static [Workload] {
        let all =
            &[Workload::Load, Workload::A, Workload::B, Workload::C, Workload::F, Workload::D, Workload::E];
        if self.scans() { all } else { &all[..all.len() - 1] }
    }

    fn scans(self) -> bool {
        self != Self::Hash
    }

    fn in_memory(self) -> bool {
        self.kind().persistence() == Persistence::Volatile
    }
}

/// With synced commits a load record by record would measure the disk and take hours.
const SYNCED_LOAD_BATCH: usize = 1_000;
/// How many operations show what the yardstick takes itself.
const OVERHEAD_OPERATIONS_MAX: u64 = 100_000;
/// How long a workload waits at most for work that the engine has put off.
const PATIENCE: std::time::Duration = std::time::Duration::from_mins(1);

pub(crate) fn bench(arguments: &BenchArguments, format: Format) -> Result<Exit, Failure> {
    let Benchmark::Ycsb(arguments) = &arguments.benchmark;
    arguments.check()?;
    let place = Place::prepare(arguments.data.as_deref())?;
    let builder = arguments.keys.apply(Database::builder().memory_bytes(arguments.memory), place.path())?;
    let db = open_database(builder, place.path(), "choose another directory")?;
    let keyspace = db.keyspace_with("ycsb", arguments.tables.options(arguments.engine.kind()))?;
    let mut store =
        PugdbStore::new(db.clone(), keyspace.durability(arguments.durability()), arguments.engine.scans());
    if !arguments.engine.in_memory() && arguments.durability().is_synced() {
        store = store.load_batch(SYNCED_LOAD_BATCH);
    }
    let encrypted = db.keys().is_some();
    run(arguments, place.path(), &store, encrypted, format)?;
    db.close()?;
    place.finish()?;
    Ok(Exit::Done)
}

fn run(
    arguments: &YcsbArguments,
    place: &Path,
    store: &PugdbStore,
    encrypted: bool,
    format: Format,
) -> Result<(), Failure> {
    let settings = arguments.settings();
    let mut bench = Bench::new(store, settings.clone())?;
    if arguments.workloads().first() != Some(&Workload::Load) {
        bench.run(Workload::Load)?;
    }
    let mut stdout = Answer::new();
    if format == Format::Text {
        stdout.line(&arguments.title(place, encrypted))?;
        stdout.line(&Row::head())?;
    }
    for &workload in arguments.workloads() {
        // Each line is seen when it is known: a workload may take minutes.
        stdout.flush().map_err(|error| Failure::stdout(&error))?;
        let own = Settings {
            operations: settings.operations.min(OVERHEAD_OPERATIONS_MAX),
            records: settings.records.min(OVERHEAD_OPERATIONS_MAX),
            threads: 1,
            ..settings.clone()
        };
        let yardstick_us_per_op = overhead(&own, workload)?.cpu_us_per_op;
        let report = bench.run(workload)?;
        let row = Row {
            report,
            engine: arguments.engine.name(),
            durability: arguments.durability_name(),
            encrypted: encrypted && !arguments.engine.in_memory(),
            seed: settings.seed,
            yardstick_us_per_op,
        };
        stdout.line(&if format == Format::Json { row.json() } else { row.cells() })?;
    }
    stdout.finish()
}

impl YcsbArguments {
    /// Everything that can be refused before a byte is written.
    fn check(&self) -> Result<(), Failure> {
        if !self.engine.scans() && self.workloads().iter().any(|workload| workload.scans()) {
            return Err(Failure::usage(format!(
                "workload E scans in the order of the keys, and the {} engine keeps none: leave E out, or use lsm or \
                 btree",
                self.engine.name()
            )));
        }
        if self.engine.in_memory() && self.durability.is_some() {
            return Err(Failure::usage(format!(
                "the {} engine is in memory only, so there is no --durability to choose",
                self.engine.name()
            )));
        }
        if self.workloads().iter().skip(1).any(|&workload| workload == Workload::Load) {
            return Err(Failure::usage("load comes first, and once: the other workloads need its records"));
        }
        Ok(())
    }

    /// Those asked for, or all that the engine has.
    fn workloads(&self) -> &[Workload] {
        if self.workload.is_empty() { self.engine.workloads() } else { &self.workload }
    }

    fn durability(&self) -> Durability {
        self.durability.unwrap_or(Durability::Os)
    }

    fn durability_name(&self) -> String {
        if self.engine.in_memory() { "none".to_owned() } else { self.durability().to_string() }
    }

    fn settings(&self) -> Settings {
        Settings {
            records: self.records,
            operations: self.operations,
            value_bytes: self.value_bytes,
            threads: self.threads,
            distribution: match self.distribution {
                Popularity::Zipfian => Distribution::Zipfian,
                Popularity::Uniform => Distribution::Uniform,
            },
            seed: self.seed,
            patience: PATIENCE,
        }
    }

    fn title(&self, place: &Path, encrypted: bool) -> String {
        let survives = match self.durability() {
            _ if self.engine.in_memory() => "a write survives nothing",
            durability if durability.is_synced() => "a write survives a power cut",
            _ => "a write survives a kill, not a power cut",
        };
        format!(
            "engine {}, {}, durability {} ({survives}), {} records of {}, {} thread{}, {}, in {}",
            self.engine.name(),
            if encrypted && !self.engine.in_memory() { "encrypted" } else { "not encrypted" },
            self.durability_name(),
            self.records,
            human_bytes((pugdb_ycsb::KEY_BYTES + self.value_bytes) as u64),
            self.threads,
            if self.threads == 1 { "" } else { "s" },
            self.settings().distribution.name(),
            place.display(),
        )
    }
}

/// What is said about one workload.
#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    report: Report,
    engine: &'static str,
    durability: String,
    encrypted: bool,
    seed: u64,
    /// The part of `cpu_us_per_op` that the yardstick took itself, at most.
    yardstick_us_per_op: f64,
}

impl Row {
    fn head() -> String {
        format!(
            "{:8} {:>12} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
            "workload", "ops/s", "cpu us/op", "yardstick", "p50 us", "p99 us", "p99.9 us", "max us"
        )
    }

    fn cells(&self) -> String {
        let report = &self.report;
        format!(
            "{:8} {:>12.0} {:>10.2} {:>10.2} {:>10.2} {:>10.2} {:>10.2} {:>10.0}",
            report.workload.name(),
            report.ops_per_second,
            report.cpu_us_per_op,
            self.yardstick_us_per_op,
            report.p50_us,
            report.p99_us,
            report.p999_us,
            report.max_us
        )
    }

    fn json(&self) -> String {
        serde_json::to_string(self).expect("numbers and names become JSON")
    }
}

/// The directory of a run.
enum Place {
    Temporary(tempfile::TempDir),
    Given(PathBuf),
}

impl Place {
    fn prepare(given: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = given else {
            return tempfile::Builder::new()
                .prefix("pugdb-bench-")
                .tempdir()
                .map(Self::Temporary)
                .map_err(|error| Failure::io("make a temporary directory", &error));
        };
        match fs::read_dir(path).map(|mut entries| entries.next().is_some()) {
            Ok(false) => {}
            Ok(true) => {
                return Err(Failure::usage(format!(
                    "{} is not empty; a benchmark needs a directory of its own",
                    path.display()
                )));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::io(format!("read {}", path.display()), &error)),
        }
        Ok(Self::Given(path.to_owned()))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Temporary(dir) => dir.path(),
            Self::Given(path) => path,
        }
    }

    /// Removes what is temporary. When a run fails, its drop does.
    fn finish(self) -> Result<(), Failure> {
        let Self::Temporary(dir) = self else { return Ok(()) };
        dir.close().map_err(|error| Failure::io("remove the temporary directory", &error))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: BenchArguments,
    }

    fn parse(line: &str) -> Result<YcsbArguments, clap::Error> {
        let words = ["bench", "ycsb"].into_iter().chain(line.split_whitespace());
        let Benchmark::Ycsb(arguments) = Line::try_parse_from(words)?.arguments.benchmark;
        Ok(arguments)
    }

    #[test]
    fn workloads_come_in_the_order_in_which_they_are_given() {
        let names = |line| parse(line).unwrap().workloads().iter().map(|one| one.name()).collect::<Vec<_>>();
        assert_eq!(names(""), ["load", "A", "B", "C", "F", "D", "E"]);
        assert_eq!(names("--engine hash"), ["load", "A", "B", "C", "F", "D"]);
        assert_eq!(names("--workload e,load,W"), ["E", "load", "W"]);
        assert!(parse("--workload G").unwrap_err().to_string().contains("load, A, B"));
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_anything_is_written() {
        for (line, told) in [
            ("--engine hash --workload load,E", "order of the keys"),
            ("--engine btree --durability sync", "in memory only"),
            ("--workload C,load", "load comes first"),
        ] {
            let failure = parse(line).unwrap().check().unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{line}");
            assert!(failure.message.contains(told), "{line}: {}", failure.message);
        }
        for line in ["--engine btree", "--engine hash", "--durability sync"] {
            assert_eq!(parse(line).unwrap().check(), Ok(()), "{line}");
        }
    }

    #[test]
    fn head_and_cells_have_the_same_width() {
        let settings = Settings { records: 10, operations: 10, ..Settings::default() };
        let report = overhead(&settings, Workload::Load).unwrap();
        let row = Row {
            report,
            engine: "lsm",
            durability: "os".to_owned(),
            encrypted: false,
            seed: 1,
            yardstick_us_per_op: 0.1,
        };
        assert_eq!(Row::head().len(), row.cells().len());
    }
}
