//! Is one combiner enough? The same puts by one to eight threads over a keyspace with one tree, over one with eight partitions behind one
//! combiner and log, and over eight databases with a combiner and a log each, which share nothing: more than partitions with
//! combiners of their own on one log could ever gain.
//!
//! An acknowledged put survives the death of the process (`Durability::Os`). Background work is in the figures.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use pugdb::{Database, Durability, Keyspace, KeyspaceOptions, Partitioning};
use pugdb_bench::{machine, stores};
use pugdb_ycsb::{Random, Stopwatch, Usage, key};
use serde::Serialize;

/// Runs the same puts over one tree, eight partitions, eight databases.
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// How many records the puts are about
    #[arg(long, default_value_t = 500_000)]
    records: u64,
    /// How many puts there are, by all threads together
    #[arg(long, default_value_t = 500_000)]
    operations: u64,
    /// The size of a value
    #[arg(long, default_value_t = 100)]
    value_bytes: usize,
    /// How often everything is measured; the table shows medians
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Where the stores lie, each in a directory of its own: a disk, not memory
    #[arg(long, default_value = "target/stores")]
    dir: PathBuf,
    /// The raw output, one JSON object a line
    #[arg(long, default_value = "results/combiners.jsonl")]
    out: PathBuf,
}

const PARTS: usize = 8;
const THREADS: [u64; 4] = [1, 2, 4, 8];

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
enum Shape {
    OneTree,
    Partitions,
    Databases,
}

const SHAPES: [Shape; 3] = [Shape::OneTree, Shape::Partitions, Shape::Databases];

/// What a run has shown.
#[derive(Clone, Debug, Serialize)]
struct Row {
    shape: Shape,
    threads: u64,
    per_second: f64,
    cpu_us: f64,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("combiners: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    std::fs::create_dir_all(&arguments.dir)?;
    let mut raw = std::fs::File::create(&arguments.out)?;
    let mut all: BTreeMap<(u64, Shape), Vec<Row>> = BTreeMap::new();
    for round in 0..arguments.rounds as usize {
        for threads in THREADS {
            for at in 0..SHAPES.len() {
                let shape = SHAPES[(at + round) % SHAPES.len()];
                let row = measure(arguments, shape, threads)?;
                writeln!(raw, "{}", serde_json::to_string(&row)?)?;
                all.entry((threads, shape)).or_default().push(row);
            }
        }
    }
    println!("{}, {}.\n", machine::describe(), machine::file_system(&arguments.dir));
    println!("| puts by | one tree | {PARTS} partitions | {PARTS} databases |\n|---|---:|---:|---:|");
    for threads in THREADS {
        for (name, figure) in
            [("k a second", (|row| row.per_second / 1000.0) as fn(&Row) -> f64), ("CPU us", |row| row.cpu_us)]
        {
            let medians = SHAPES.map(|shape| {
                let mut figures: Vec<f64> = all[&(threads, shape)].iter().map(figure).collect();
                figures.sort_by(f64::total_cmp);
                figures[figures.len() / 2]
            });
            let cells: String = medians
                .iter()
                .map(|median| format!(" {median:.2} ({:.2}x) |", median / medians[0]))
                .collect();
            println!("| {threads} threads, {name} |{cells}");
        }
    }
    Ok(())
}

fn measure(arguments: &Arguments, shape: Shape, threads: u64) -> Result<Row, Failure> {
    let dir = tempfile::Builder::new().prefix("pugdb-bench-").tempdir_in(&arguments.dir)?;
    let keyspaces = open(dir.path(), shape)?;
    let keyspaces = &keyspaces;
    let stopwatch = Stopwatch::new();
    let begin = Usage::now(&stopwatch);
    let each = arguments.operations / threads;
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || -> Result<(), Failure> {
                    let mut random = Random::for_part(17, thread);
                    let mut value = vec![b'v'; arguments.value_bytes];
                    for number in 0..each {
                        value[..8].copy_from_slice(&number.to_le_bytes());
                        let record = random.below(arguments.records);
                        let part = usize::try_from(record)? % keyspaces.len();
                        keyspaces[part].put(key(record), &value)?;
                    }
                    Ok(())
                })
            })
            .collect();
        running.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread has panicked")?)
    })?;
    let end = Usage::now(&stopwatch);
    #[expect(clippy::cast_precision_loss, reason = "figures to look at")]
    let operations = (each * threads) as f64;
    Ok(Row {
        shape,
        threads,
        per_second: operations / end.wall_since(&begin).as_secs_f64(),
        cpu_us: end.processor_since(&begin).as_secs_f64() * 1e6 / operations,
    })
}

fn open(dir: &Path, shape: Shape) -> Result<Vec<Keyspace>, Failure> {
    let count = if shape == Shape::Databases { PARTS } else { 1 };
    let open = |number: usize| {
        let db = Database::builder()
            .memory_bytes(4 * stores::CACHE_BYTES / count)
            .cache_bytes(stores::CACHE_BYTES / count)
            .durability(Durability::Os)
            .open(dir.join(number.to_string()))?;
        match shape {
            Shape::Partitions => {
                let partitioning = Partitioning::Hash { partitions: PARTS };
                db.partitioned_keyspace("puts", &partitioning, KeyspaceOptions::default())
            }
            Shape::OneTree | Shape::Databases => db.keyspace("puts"),
        }
    };
    Ok((0..count).map(open).collect::<pugdb::Result<_>>()?)
}
