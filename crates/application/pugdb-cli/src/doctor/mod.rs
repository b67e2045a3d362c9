//! `doctor`: is this a place where a database does well? Each check is a line with a verdict and advice.
//!
//! | file | its part |
//! |---|---|
//! | `custody` | is it encrypted, and who else can read data and key |
//! | `directory` | rights, lock, file system, space, the disk's kind |
//! | `machine` | clock, processors, file descriptors, memory |
//! | `privacy` | with `--privacy`: does an encrypted database give anything away |
//! | `sizes` | what `serve` takes of that |
//! | `sync` | how long a sync takes, and what that tells |

mod custody;
mod directory;
mod machine;
mod privacy;
mod sizes;
mod sync;

use std::path::{Path, PathBuf};

use clap::Args;
use pugdb::env::Env;
use pugdb::{Database, limits};
use pugdb_server::ServerOptions;
use serde::Serialize;

use crate::outcome::{Exit, Failure};
use crate::output::{Answer, Format};
use crate::serve::raise_open_files;
use crate::sizing::{Memory, MemoryLimit, SERVE_MEMORY_BYTES};
use crate::target::DATA_DEFAULT;
use crate::text::human_bytes;
use sizes::{Given, Size};

/// Check the directory, the disk and the machine
#[derive(Args, Debug)]
#[command(after_help = "\
It writes small files beside the database (or where it would be made) and removes them again; a server may run meanwhile.
Each line is ok, warn or fail. Code 0: all is ok. Code 3: there are warnings. Code 4: something fails. Behind them stands
what `pugdb serve` takes here when nothing is said, and why.

Whether a disk tells the truth about a sync cannot be seen from here: only a power cut shows it. A sync that is faster than
any disk without a protected cache can be is told as a warning.

--privacy makes two databases in a directory of its own beside the data, one encrypted, one not, and removes them again: 10,000
secrets as keys, values, names of keyspaces, subjects and users, passwords. A program writes them, a server that is killed,
commands; then every byte of every file, reply and line of output is searched for them. Code 0: the encrypted one has none, and
in the other they are found, so the search works. Your own data is not touched.

Examples:
  pugdb doctor
  pugdb doctor --data /var/lib/pugdb --json
  pugdb doctor --privacy")]
pub(crate) struct DoctorArguments {
    /// The directory of the database, which need not be there yet
    #[arg(long, value_name = "DIR", default_value = DATA_DEFAULT)]
    data: PathBuf,
    /// Try instead whether an encrypted database gives anything away: 10,000 secrets are written and looked for in every byte that is left
    #[arg(long)]
    privacy: bool,
    /// With --privacy, keep the directory in which it was tried
    #[arg(long, requires = "privacy")]
    keep: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// What a check found.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, found: found.into(), advice: None }
    }

    fn warn(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Warn, found: found.into(), advice: Some(advice.into()) }
    }

    fn fail(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Fail, found: found.into(), advice: Some(advice.into()) }
    }
}

pub(crate) fn doctor(arguments: &DoctorArguments, format: Format) -> Result<Exit, Failure> {
    if arguments.privacy {
        return privacy::try_privacy(&arguments.data, arguments.keep, format);
    }
    let env = Env::os();
    let limit = MemoryLimit::ask();
    let findings = examine(&arguments.data, limit, &env);
    let sizes = sizes_here(limit, &env);
    let mut stdout = Answer::new();
    for finding in &findings {
        if format == Format::Json {
            stdout.json(finding)?;
            continue;
        }
        let verdict = format!("{:?}", finding.verdict).to_lowercase();
        stdout.line(&format!("{verdict:4}  {:12}  {}", finding.check, finding.found))?;
        if let Some(advice) = &finding.advice {
            stdout.line(&format!("{:4}  {:12}  {advice}", "", ""))?;
        }
    }
    if format == Format::Json {
        sizes.iter().try_for_each(|size| stdout.json(size))?;
    } else {
        stdout.line("")?;
        let head = ["serve takes", "", "why"].map(str::to_owned);
        let rows: Vec<_> = std::iter::once(head).chain(sizes.iter().map(Size::row)).collect();
        stdout.table(&rows)?;
    }
    stdout.finish()?;
    Ok(match findings.iter().map(|finding| finding.verdict).max() {
        Some(Verdict::Fail) => Exit::Unavailable,
        Some(Verdict::Warn) => Exit::Partial,
        Some(Verdict::Ok) | None => Exit::Done,
    })
}

fn examine(data: &Path, limit: Option<MemoryLimit>, env: &Env) -> Vec<Finding> {
    let place = directory::place(data);
    let mut findings = vec![directory::rights(data, &place)];
    // Without rights nothing else can be tried there.
    if findings.iter().all(|finding| finding.verdict != Verdict::Fail) {
        let file_system = directory::file_system(&place);
        findings.push(directory::lock(&place, env));
        findings.push(directory::space(&place));
        findings.push(directory::describe(&file_system));
        findings.push(directory::disk(&place));
        findings.push(sync::sync(&place, &file_system, env));
        findings.push(custody::encryption(data));
    }
    findings.extend([
        machine::calendar(env),
        machine::stopwatch(env),
        machine::processors(env),
        machine::descriptors(),
        machine::memory(limit),
    ]);
    findings.push(data_model());
    findings
}

/// What a server takes that is started as this process is, with no settings.
fn sizes_here(limit: Option<MemoryLimit>, env: &Env) -> Vec<Size> {
    // First, as `serve` does it: files for tables are a part of all.
    let open_files = raise_open_files();
    let memory = Memory::Auto.choose(SERVE_MEMORY_BYTES, limit);
    let given = Given {
        processors: env.executor.processors(),
        open_files,
        server_threads: ServerOptions::threads_default(),
    };
    sizes::sizes(&memory, &Database::builder().memory_bytes(memory.bytes).sizes(), given)
}

fn data_model() -> Finding {
    Finding::ok(
        "limits",
        format!(
            "a key has at most {} bytes, a value {}, a batch {}; a value and a batch at most a quarter of --memory",
            limits::KEY_BYTES_MAX,
            human_bytes(limits::VALUE_BYTES_MAX as u64),
            human_bytes(limits::BATCH_BYTES_MAX as u64),
        ),
    )
}
