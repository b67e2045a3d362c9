//! The same YCSB over PugDB and over other embedded stores, in one run: each store in a process of its own, in
//! alternating order, several rounds. Raw output to a file, tables to stdout.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use pugdb::Result;
use pugdb_bench::control::Control;
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
    /// Which workloads, by name; the load comes first in any case
    #[arg(long, value_delimiter = ',', default_values_t = WORKLOADS.map(|(workload, distribution)| name(workload, distribution)))]
    workloads: Vec<String>,
    /// How many clients: each workload runs once for each number, the load for the first one
    #[arg(long, value_delimiter = ',', default_values_t = [1])]
    threads: Vec<usize>,
    /// Which durability: os, sync, or both
    #[arg(long, value_delimiter = ',', default_values = ["os", "sync"])]
    durability: Vec<String>,
    /// No store is begun after so many minutes
    #[arg(long, default_value_t = 20)]
    minutes: u64,
    /// A store that takes longer in one round is given up
    #[arg(long, default_value_t = 4)]
    store_minutes: u64,
    /// How long a store is left alone before its files and its memory are measured, in seconds
    #[arg(long, default_value_t = 0)]
    settle_seconds: u64,
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
    let control = Control::start(&arguments.dir)?;
    let began = Instant::now();
    'rounds: for round in 0..arguments.rounds {
        for durability in &arguments.durability {
            for store in order(&arguments.stores, round) {
                if began.elapsed() > Duration::from_mins(arguments.minutes) {
                    eprintln!("the {} minutes are over; the tables show what there is", arguments.minutes);
                    break 'rounds;
                }
                eprintln!("{:4} s  round {round}, {durability}, {store}", began.elapsed().as_secs());
                for line in measure(arguments, &control, &store, durability, round)? {
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
            "embedded --records {} --operations {} --value-bytes {} --rounds {} --threads {:?}",
            arguments.records,
            arguments.operations,
            arguments.value_bytes,
            arguments.rounds,
            arguments.threads
        ),
        load_average: machine::load_average(),
        versions: stores::versions(),
    })
}

/// Measures one store in a process of its own: neither its memory nor its threads outlive it.
fn measure(
    arguments: &Arguments,
    control: &Control,
    store: &str,
    durability: &str,
    round: u32,
) -> Result<Vec<Line>, Failure> {
    let threads: Vec<String> = arguments.threads.iter().map(ToString::to_string).collect();
    let mut process = Command::new(std::env::current_exe()?)
        .args(["--child", store, "--durability", durability])
        .args(["--round", &round.to_string()])
        .args(["--records", &arguments.records.to_string()])
        .args(["--operations", &arguments.operations.to_string()])
        .args(["--value-bytes", &arguments.value_bytes.to_string()])
        .args(["--store-minutes", &arguments.store_minutes.to_string()])
        .args(["--settle-seconds", &arguments.settle_seconds.to_string()])
        .args(["--threads", &threads.join(",")])
        .args(["--workloads", &arguments.workloads.join(",")])
        .arg("--dir")
        .arg(&arguments.dir)
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = process.stdout.take().ok_or("stdout was asked for")?;
    let mut lines = Vec::new();
    for line in BufReader::new(stdout).lines() {
        let mut line = serde_json::from_str(&line?)?;
        if let Line::Row(row) = &mut line {
            control.judge(row);
        }
        lines.push(line);
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
    let limit = Duration::from_mins(arguments.store_minutes);
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        eprintln!("given up after {} s", limit.as_secs());
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

/// What is run: a workload, how popular the records are, and how many clients there are.
type Step = (Workload, Distribution, usize);

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

    /// What is wanted of all workloads, in their order.
    fn steps(&self) -> Vec<Step> {
        let Arguments { workloads, threads, .. } = self.arguments;
        let is_wanted = |(workload, distribution): &(Workload, Distribution)| {
            *workload == Workload::Load || workloads.contains(&name(*workload, *distribution))
        };
        let each = |(workload, distribution)| {
            let times = if workload == Workload::Load { 1 } else { threads.len() };
            threads.iter().take(times).map(move |&threads| (workload, distribution, threads))
        };
        WORKLOADS.into_iter().filter(is_wanted).flat_map(each).collect()
    }

    fn yardstick(&self) -> Result<(), Failure> {
        for step @ (workload, distribution, threads) in self.steps() {
            let operations = self.operations(workload);
            let settings = Settings { operations, distribution, threads, ..self.settings() };
            self.print(step, &overhead(&settings, workload)?)?;
        }
        Ok(())
    }

    fn store(&self, dir: &Path, class: Class) -> Result<(), Failure> {
        let value_bytes = self.arguments.value_bytes;
        let store = stores::open(self.store, &Setup { dir, class, value_bytes })?;
        let mut bench = Bench::new(&*store, self.settings())?;
        match class {
            Class::Os => {
                for step @ (workload, distribution, threads) in self.steps() {
                    bench.set_load(threads, self.operations(workload))?;
                    bench.set_distribution(distribution);
                    self.print(step, &bench.run(workload)?)?;
                }
            }
            Class::Sync => {
                bench.run(Workload::Load)?;
                for (threads, operations) in SYNCED {
                    bench.set_load(threads, operations)?;
                    self.print((Workload::W, Distribution::Uniform, threads), &bench.run(Workload::W)?)?;
                }
            }
        }
        std::thread::sleep(Duration::from_secs(self.arguments.settle_seconds));
        let disk_bytes = machine::disk_bytes(dir);
        emit(&Line::End(End {
            store: self.store.to_owned(),
            durability: self.durability.to_owned(),
            round: self.arguments.round.unwrap_or_default(),
            disk_bytes,
            peak_memory_bytes: machine::peak_memory_bytes(),
            memory_bytes: machine::memory_bytes(),
            written_bytes: machine::written_bytes(),
        }))
    }

    fn print(&self, (workload, distribution, _): Step, report: &Report) -> Result<(), Failure> {
        let in_us = |time: &Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        emit(&Line::Row(Row {
            store: self.store.to_owned(),
            durability: self.durability.to_owned(),
            round: self.arguments.round.unwrap_or_default(),
            workload: name(workload, distribution),
            ops_per_second: report.ops_per_second,
            cpu_us_per_op: report.cpu_us_per_op,
            server_cpu_us_per_op: None,
            p50_us: report.p50_us,
            p99_us: report.p99_us,
            p999_us: report.p999_us,
            max_us: report.max_us,
            slow_us: report.slow.iter().map(|(start, end)| (in_us(start), in_us(end))).collect(),
            operations: report.operations,
            records: report.records,
            value_bytes: report.value_bytes,
            threads: report.threads,
            batch: report.batch,
            checked: report.checked,
            misses: report.misses,
            load_average: machine::load_average(),
            ..Row::default()
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
    // Of several clients the one may insert a record before the other's scan comes to the end, or behind it.
    for row in rows().filter(|row| row.threads == 1) {
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
