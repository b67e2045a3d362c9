//! The same YCSB over PugDB and over other embedded stores, in one run: each store in a process of its own, in
//! alternating order, several rounds. Raw output to a file, tables to stdout.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use pugdb::Result;
use pugdb_bench::machine;
use pugdb_bench::record::{About, End, Line, Row};
use pugdb_bench::stores::{self, Class, NAMES, Setup};
use pugdb_bench::tables::{self, YARDSTICK};
use pugdb_ycsb::{Bench, Distribution, Report, Settings, Workload, overhead};

/// Runs the same YCSB over PugDB, RocksDB, fjall, redb, LMDB and `SQLite`.
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// How many records are loaded
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    /// How many operations a workload has; E has a fifth
    #[arg(long, default_value_t = 300_000)]
    operations: u64,
    /// The size of a value
    #[arg(long, default_value_t = 100)]
    value_bytes: usize,
    /// How often everything is measured; the tables show medians
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Which stores
    #[arg(long, value_delimiter = ',', default_values_t = NAMES.iter().map(ToString::to_string))]
    stores: Vec<String>,
    /// Which durability: os, sync, or both
    #[arg(long, value_delimiter = ',', default_values = ["os", "sync"])]
    durability: Vec<String>,
    /// No store is begun after so many minutes
    #[arg(long, default_value_t = 20)]
    minutes: u64,
    /// Where the stores lie, each in a directory of its own: a disk, not memory
    #[arg(long, default_value = "target/stores")]
    dir: PathBuf,
    /// The raw output, one JSON object a line
    #[arg(long, default_value = "results/embedded-100.jsonl")]
    out: PathBuf,
    /// Measure this one store in this process and print its lines; for the program itself
    #[arg(long, hide = true, requires = "round")]
    child: Option<String>,
    /// See `--child`
    #[arg(long, hide = true)]
    round: Option<u32>,
}

/// A store that takes longer is given up.
const CHILD_LIMIT: Duration = Duration::from_mins(4);
/// How long a run waits for what a store has put off.
const PATIENCE: Duration = Duration::from_secs(20);
/// Clients and commits of each run with synced commits. One takes 0.1 to 3 ms, whatever the store.
const SYNCED: [(usize, u64); 3] = [(1, 600), (8, 1_600), (32, 3_200)];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.child {
        Some(store) => child(&arguments, store),
        None => run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("embedded: {error}");
            ExitCode::FAILURE
        }
    }
}

type Failure = Box<dyn std::error::Error>;

fn run(arguments: &Arguments) -> Result<(), Failure> {
    fs::create_dir_all(&arguments.dir)?;
    if let Some(folder) = arguments.out.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut raw = File::create(&arguments.out)?;
    let mut lines = vec![about(arguments)];
    writeln!(raw, "{}", serde_json::to_string(&lines[0])?)?;
    let began = Instant::now();
    'rounds: for round in 0..arguments.rounds {
        for durability in &arguments.durability {
            for store in order(&arguments.stores, round) {
                if began.elapsed() > Duration::from_mins(arguments.minutes) {
                    eprintln!("the {} minutes are over; the tables show what there is", arguments.minutes);
                    break 'rounds;
                }
                eprintln!("{:4} s  round {round}, {durability}, {store}", began.elapsed().as_secs());
                for line in measure(arguments, &store, durability, round)? {
                    writeln!(raw, "{}", serde_json::to_string(&line)?)?;
                    lines.push(line);
                }
            }
        }
    }
    same_answers(&lines)?;
    println!("{}", tables::embedded(&lines));
    Ok(())
}

/// The yardstick itself first; then the stores, beginning with another one each round, so that none always comes when
/// the machine is warm, or after the same one.
fn order(stores: &[String], round: u32) -> Vec<String> {
    let mut order = stores.to_vec();
    let by = round as usize % order.len().max(1);
    order.rotate_left(by);
    order.insert(0, YARDSTICK.to_owned());
    order
}

fn about(arguments: &Arguments) -> Line {
    Line::About(About {
        machine: machine::describe(),
        file_system: machine::file_system(&arguments.dir),
        command: format!(
            "embedded --records {} --operations {} --value-bytes {} --rounds {}",
            arguments.records, arguments.operations, arguments.value_bytes, arguments.rounds
        ),
        load_average: machine::load_average(),
        versions: stores::versions(),
    })
}

/// Measures one store in a process of its own: neither its memory nor its threads outlive it.
fn measure(arguments: &Arguments, store: &str, durability: &str, round: u32) -> Result<Vec<Line>, Failure> {
    let mut process = Command::new(std::env::current_exe()?)
        .args(["--child", store, "--durability", durability])
        .args(["--round", &round.to_string()])
        .args(["--records", &arguments.records.to_string()])
        .args(["--operations", &arguments.operations.to_string()])
        .args(["--value-bytes", &arguments.value_bytes.to_string()])
        .arg("--dir")
        .arg(&arguments.dir)
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = process.stdout.take().ok_or("stdout was asked for")?;
    let mut lines = Vec::new();
    for line in BufReader::new(stdout).lines() {
        lines.push(serde_json::from_str(&line?)?);
    }
    let status = process.wait()?;
    if !status.success() {
        lines.push(Line::Failed {
            store: store.to_owned(),
            durability: durability.to_owned(),
            round,
            reason: format!("ended with {status}"),
        });
    }
    Ok(lines)
}

fn child(arguments: &Arguments, store: &str) -> Result<(), Failure> {
    // Nothing but the end of the process stops a store that hangs in a call.
    std::thread::spawn(|| {
        std::thread::sleep(CHILD_LIMIT);
        eprintln!("given up after {} s", CHILD_LIMIT.as_secs());
        std::process::exit(1);
    });
    let class = match arguments.durability.as_slice() {
        [one] if one == "os" => Class::Os,
        [one] if one == "sync" => Class::Sync,
        _ => return Err("a durability is os or sync".into()),
    };
    let child = Child { arguments, store, durability: &arguments.durability[0] };
    let dir = tempfile::Builder::new().prefix("pugdb-bench-").tempdir_in(&arguments.dir)?;
    match (store, class) {
        (YARDSTICK, Class::Os) => child.yardstick()?,
        (YARDSTICK, Class::Sync) => {}
        _ => child.store(dir.path(), class)?,
    }
    dir.close()?;
    Ok(())
}

struct Child<'a> {
    arguments: &'a Arguments,
    store: &'a str,
    durability: &'a str,
}

/// The workloads, and whether all records are as popular. Reads come first, on what was loaded; then what changes it.
const WORKLOADS: [(Workload, Distribution); 10] = [
    (Workload::Load, Distribution::Zipfian),
    (Workload::C, Distribution::Zipfian),
    (Workload::C, Distribution::Uniform),
    (Workload::M, Distribution::Uniform),
    (Workload::E, Distribution::Zipfian),
    (Workload::W, Distribution::Uniform),
    (Workload::A, Distribution::Zipfian),
    (Workload::B, Distribution::Zipfian),
    (Workload::D, Distribution::Zipfian),
    (Workload::F, Distribution::Zipfian),
];

fn name(workload: Workload, distribution: Distribution) -> String {
    match (workload, distribution) {
        (Workload::C, Distribution::Uniform) => "C uniform".to_owned(),
        _ => workload.name().to_owned(),
    }
}

impl Child<'_> {
    fn settings(&self) -> Settings {
        Settings {
            records: self.arguments.records,
            operations: self.arguments.operations,
            value_bytes: self.arguments.value_bytes,
            patience: PATIENCE,
            ..Settings::default()
        }
    }

    fn operations(&self, workload: Workload) -> u64 {
        if workload == Workload::E { self.arguments.operations / 5 } else { self.arguments.operations }
    }

    fn yardstick(&self) -> Result<(), Failure> {
        for (workload, distribution) in WORKLOADS {
            let settings =
                Settings { operations: self.operations(workload), distribution, ..self.settings() };
            self.print(&name(workload, distribution), &overhead(&settings, workload)?)?;
        }
        Ok(())
    }

    fn store(&self, dir: &Path, class: Class) -> Result<(), Failure> {
        let value_bytes = self.arguments.value_bytes;
        let store = stores::open(self.store, &Setup { dir, class, value_bytes })?;
        let mut bench = Bench::new(&*store, self.settings())?;
        match class {
            Class::Os => {
                for (workload, distribution) in WORKLOADS {
                    bench.set_load(1, self.operations(workload))?;
                    bench.set_distribution(distribution);
                    self.print(&name(workload, distribution), &bench.run(workload)?)?;
                }
            }
            Class::Sync => {
                bench.run(Workload::Load)?;
                for (threads, operations) in SYNCED {
                    bench.set_load(threads, operations)?;
                    self.print("W", &bench.run(Workload::W)?)?;
                }
            }
        }
        let disk_bytes = machine::disk_bytes(dir);
        emit(&Line::End(End {
            store: self.store.to_owned(),
            durability: self.durability.to_owned(),
            round: self.arguments.round.unwrap_or_default(),
            disk_bytes,
            peak_memory_bytes: machine::peak_memory_bytes(),
        }))
    }

    fn print(&self, workload: &str, report: &Report) -> Result<(), Failure> {
        emit(&Line::Row(Row {
            store: self.store.to_owned(),
            durability: self.durability.to_owned(),
            round: self.arguments.round.unwrap_or_default(),
            workload: workload.to_owned(),
            ops_per_second: report.ops_per_second,
            cpu_us_per_op: report.cpu_us_per_op,
            server_cpu_us_per_op: None,
            p50_us: report.p50_us,
            p99_us: report.p99_us,
            p999_us: report.p999_us,
            max_us: report.max_us,
            operations: report.operations,
            records: report.records,
            value_bytes: report.value_bytes,
            threads: report.threads,
            batch: report.batch,
            checked: report.checked,
            misses: report.misses,
            load_average: machine::load_average(),
        }))
    }
}

fn emit(line: &Line) -> Result<(), Failure> {
    println!("{}", serde_json::to_string(line)?);
    Ok(())
}

/// All stores were asked the same, so all must have shown as many values. A scan that ends early would show here.
fn same_answers(lines: &[Line]) -> Result<(), Failure> {
    let rows = || {
        lines.iter().filter_map(|line| match line {
            Line::Row(row) if row.store != YARDSTICK => Some(row),
            _ => None,
        })
    };
    for row in rows() {
        let differs = |other: &&Row| {
            (&other.workload, &other.durability, other.threads)
                == (&row.workload, &row.durability, row.threads)
                && (other.checked, other.misses) != (row.checked, row.misses)
        };
        if let Some(other) = rows().find(differs) {
            return Err(format!(
                "workload {}: {} showed {} values and {} showed {}: one of them is wrong, and the figures mean nothing",
                row.workload, row.store, row.checked, other.store, other.checked
            )
            .into());
        }
    }
    Ok(())
}
