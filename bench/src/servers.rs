//! Starts servers of its own, each on a free port of the loopback with its data in a directory of its own, and stops them
//! by their process.

use std::fs;
use std::io::{Error, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::protocol::{Protocol, postgres_query};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `pugdb`.
    pub pugdb: PathBuf,
    /// `valkey-server`.
    pub valkey: Option<PathBuf>,
    /// `redis-server`.
    pub redis: PathBuf,
    /// The directory of `initdb` and `postgres`.
    pub postgres: PathBuf,
}

/// A server that runs until it is dropped.
pub struct Server {
    process: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// How it is spoken to.
    pub protocol: Protocol,
}

/// How long a server may take to be ready, and to end.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// The names of all servers. The echo is no store: it is what the loopback and the client allow.
pub const NAMES: [&str; 5] = ["pugdb", "valkey", "redis", "postgresql", "echo"];

impl Server {
    /// Starts a server. `synced` asks for writes that survive a power cut when they are answered.
    pub fn start(name: &str, programs: &Programs, dir: &Path, synced: bool) -> Result<Self> {
        let port = free_port()?;
        let (command, protocol) = match name {
            "pugdb" => (pugdb(&programs.pugdb, dir, port, synced), Protocol::Resp),
            "valkey" => {
                let program =
                    programs.valkey.as_deref().ok_or("valkey-server was not found; name it by --valkey")?;
                (redis(program, dir, port, synced), Protocol::Resp)
            }
            "redis" => (redis(&programs.redis, dir, port, synced), Protocol::Resp),
            "postgresql" => (postgres(&programs.postgres, dir, port, synced)?, Protocol::Postgres),
            "echo" => (echo(port)?, Protocol::Echo),
            _ => {
                return Err(format!("there is no server of that name; there are {}", NAMES.join(", ")).into());
            }
        };
        let server = Self { process: spawn(command, dir)?, address: ([127, 0, 0, 1], port).into(), protocol };
        server.await_ready()?;
        if protocol == Protocol::Postgres {
            server.create_table()?;
        }
        Ok(server)
    }

    fn await_ready(&self) -> Result<()> {
        let began = Instant::now();
        let mut last = String::from("it did not answer");
        while began.elapsed() < READY_LIMIT {
            match TcpStream::connect(self.address).and_then(|mut stream| self.try_ping(&mut stream)) {
                Ok(()) => return Ok(()),
                Err(error) => last = error.to_string(),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(format!("a server was not ready in {} s: {last}", READY_LIMIT.as_secs()).into())
    }

    fn try_ping(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        match self.protocol {
            Protocol::Resp => {
                stream.write_all(b"*1\r\n$4\r\nPING\r\n")?;
                let mut pong = [0; 7];
                stream.read_exact(&mut pong)?;
                if &pong == b"+PONG\r\n" { Ok(()) } else { Err(Error::other("it is loading")) }
            }
            // The table is missing until it is ready, and that is an answer.
            Protocol::Postgres => match self.protocol.greet(stream) {
                Err(error) if error.to_string().contains("ycsb") => Ok(()),
                other => other,
            },
            Protocol::Echo => Ok(()),
        }
    }

    fn create_table(&self) -> Result<()> {
        let mut stream = TcpStream::connect(self.address)?;
        // Signing in succeeds, preparing does not: the table comes now, and then a new connection is made.
        let _ = self.protocol.greet(&mut stream);
        postgres_query(&mut stream, "CREATE TABLE ycsb (key bytea PRIMARY KEY, value bytea NOT NULL)")?;
        Ok(())
    }

    /// What the processor has done for it so far, its children included. The system counts in hundredths of a second.
    #[must_use]
    pub fn processor_time(&self) -> Duration {
        let own = i64::from(self.process.id());
        let Ok(entries) = fs::read_dir("/proc") else { return Duration::ZERO };
        let ticks: u64 = entries
            .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok())
            .filter_map(|stat| {
                // The name in parentheses may hold anything, so count from behind it: the state is field 3.
                let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
                let pid: i64 = stat.split(' ').next()?.parse().ok()?;
                let parent: i64 = fields.get(1)?.parse().ok()?;
                let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
                match () {
                    // Its own time, and that of children that have ended.
                    () if pid == own => Some(number(14)? + number(15)? + number(16)? + number(17)?),
                    () if parent == own => Some(number(14)? + number(15)?),
                    () => None,
                }
            })
            .sum();
        Duration::from_millis(ticks * 10)
    }

    /// Waits until the server does nothing, a few seconds at most: what it put off belongs to the run before.
    pub fn await_idle(&self) {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(5) {
            let before = self.processor_time();
            std::thread::sleep(Duration::from_millis(100));
            if self.processor_time().saturating_sub(before) < Duration::from_millis(10) {
                break;
            }
        }
    }
}

impl Drop for Server {
    /// Ends it in good order, and after a while in any case.
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.process);
        // PostgreSQL takes SIGINT for "now, but in good order"; the others take it, too.
        let _ = kill_process(pid, Signal::INT);
        let began = Instant::now();
        while began.elapsed() < READY_LIMIT {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn spawn(mut command: Command, dir: &Path) -> Result<Child> {
    let log = fs::File::create(dir.join("server.log"))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let program = command.get_program().to_string_lossy().into_owned();
    command.spawn().map_err(|error| format!("could not start {program}: {error}").into())
}

fn pugdb(program: &Path, dir: &Path, port: u16, synced: bool) -> Command {
    let mut command = Command::new(program);
    // As the others: none of them encrypts.
    command.args(["serve", "--no-encryption", "--data"]).arg(dir.join("data"));
    command.args(["--resp", &format!("127.0.0.1:{port}")]);
    command.args(["--durability", if synced { "sync" } else { "os" }]);
    command
}

/// The append-only file is the only way in which Redis and Valkey keep each write. `everysec` hands it to the system
/// before the answer leaves, as PugDB's `os` does, and syncs it each second.
fn redis(program: &Path, dir: &Path, port: u16, synced: bool) -> Command {
    let mut command = Command::new(program);
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(dir);
    command.args(["--appendonly", "yes", "--appendfsync", if synced { "always" } else { "everysec" }]);
    command
}

/// `synchronous_commit = off` answers before the log is with the system, and flushes it within a fraction of a second:
/// weaker than the `os` of the others.
fn postgres(programs: &Path, dir: &Path, port: u16, synced: bool) -> Result<Command> {
    let data = dir.join("data");
    // It refuses to run as root.
    let user = rustix::process::geteuid().is_root().then(postgres_user).transpose()?;
    if let Some((uid, gid)) = user {
        std::os::unix::fs::chown(dir, Some(uid), Some(gid))?;
    }
    let command = |program: &str| {
        let mut command = Command::new(programs.join(program));
        if let Some((uid, gid)) = user {
            command.uid(uid).gid(gid);
        }
        command.current_dir(dir).arg("-D").arg(&data);
        command
    };
    let made = command("initdb")
        .args(["--username=postgres", "--auth=trust", "--no-sync", "--locale=C"])
        .output()?;
    if !made.status.success() {
        return Err(format!("initdb: {}", String::from_utf8_lossy(&made.stderr)).into());
    }
    let mut server = command("postgres");
    for setting in [
        "listen_addresses=127.0.0.1",
        &format!("port={port}"),
        &format!("unix_socket_directories={}", dir.display()),
        &format!("synchronous_commit={}", if synced { "on" } else { "off" }),
        // A quarter of a small machine's memory, as its documentation recommends for a start; and what all have here.
        "shared_buffers=256MB",
        "max_connections=200",
        // Fewer checkpoints while it is measured.
        "max_wal_size=4GB",
    ] {
        server.arg("-c").arg(setting);
    }
    Ok(server)
}

fn postgres_user() -> Result<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd")?;
    let fields = users.lines().find_map(|line| line.strip_prefix("postgres:x:"));
    let mut numbers = fields.unwrap_or_default().split(':').map_while(|field| field.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(uid), Some(gid)) => Ok((uid, gid)),
        _ => Err("there is no user postgres, and PostgreSQL refuses to run as root".into()),
    }
}

fn echo(port: u16) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--echo", &port.to_string()]);
    Ok(command)
}
