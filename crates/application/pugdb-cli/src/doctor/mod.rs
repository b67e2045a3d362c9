//! `doctor`: is this a place where a database does well? Each check is a line with a verdict and advice.
//!
//! | file | its part |
//! |---|---|
//! | `directory` | rights, lock, file system, space |
//! | `machine` | clock, file descriptors, memory |
//! | `sync` | how long a sync takes, and what that tells |

mod directory;
mod machine;
mod sync;

use std::path::{Path, PathBuf};

use clap::Args;
use pugdb::env::Env;
use pugdb::limits;
use serde::Serialize;

use crate::outcome::{Exit, Failure};
use crate::output::{Answer, Format};
use crate::target::DATA_DEFAULT;
use crate::text::human_bytes;

/// Check the directory, the disk and the machine
#[derive(Args, Debug)]
#[command(after_help = "\
It writes small files beside the database (or where it would be made) and removes them again; a server may run meanwhile.
Each line is ok, warn or fail. Code 0: all is ok. Code 3: there are warnings. Code 4: something fails.

Whether a disk tells the truth about a sync cannot be seen from here: only a power cut shows it. A sync that is faster than
any disk without a protected cache can be is told as a warning.

Examples:
  pugdb doctor
  pugdb doctor --data /var/lib/pugdb --json")]
pub(crate) struct DoctorArguments {
    /// The directory of the database, which need not be there yet
    #[arg(long, value_name = "DIR", default_value = DATA_DEFAULT)]
    data: PathBuf,
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
    let findings = examine(&arguments.data, &Env::os());
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
    stdout.finish()?;
    Ok(match findings.iter().map(|finding| finding.verdict).max() {
        Some(Verdict::Fail) => Exit::Unavailable,
        Some(Verdict::Warn) => Exit::Partial,
        Some(Verdict::Ok) | None => Exit::Done,
    })
}

fn examine(data: &Path, env: &Env) -> Vec<Finding> {
    let place = directory::place(data);
    let mut findings = vec![directory::rights(data, &place)];
    // Without rights nothing else can be tried there.
    if findings.iter().all(|finding| finding.verdict != Verdict::Fail) {
        let file_system = directory::file_system(&place);
        findings.push(directory::lock(&place, env));
        findings.push(directory::space(&place));
        findings.push(directory::describe(&file_system));
        findings.push(sync::sync(&place, &file_system, env));
    }
    findings.extend([
        machine::calendar(env),
        machine::stopwatch(env),
        machine::descriptors(),
        machine::memory(),
    ]);
    findings.push(data_model());
    findings
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
