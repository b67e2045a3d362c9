//! `stats` and `verify`: what a database says about itself.

use crate::arguments::{StatsArguments, VerifyArguments};
use crate::outcome::{Exit, Failure};
use crate::output::{self, Answer};
use crate::target::{Access, Local, Place};
use crate::text::{count, human_bytes};

pub(crate) fn stats(arguments: &StatsArguments) -> Result<Exit, Failure> {
    match arguments.target.open(Access::Existing)? {
        Place::Local(local) => stats_local(&local, arguments.count)?,
        Place::Remote(mut remote) => {
            let mut stdout = Answer::new();
            stdout.line(remote.info()?.trim_end())?;
            if arguments.count {
                stdout.line(&format!("entries: {}", remote.count(&[b"DBSIZE"])?))?;
            }
            stdout.finish()?;
        }
    }
    Ok(Exit::Done)
}

fn stats_local(local: &Local, with_count: bool) -> Result<(), Failure> {
    let stats = local.db.stats()?;
    let recovery = local.db.recovery_report();
    let mut stdout = Answer::new();
    stdout.line(&format!("data: {}", local.data.display()))?;
    stdout.line(&format!("the last end: {recovery}"))?;
    stdout.line(&format!("keyspaces: {} ({})", stats.keyspaces, local.db.keyspaces()?.join(", ")))?;
    stdout.line(&format!(
        "tables: {} in {} runs, {}",
        stats.tables,
        stats.runs,
        human_bytes(stats.table_bytes)
    ))?;
    stdout.line(&format!("log: {}", human_bytes(stats.log_bytes)))?;
    stdout.line(&format!("memtables: {}", human_bytes(stats.memtable_bytes as u64)))?;
    stdout.line(&format!("damaged tables: {}", stats.quarantined))?;
    if with_count {
        stdout.line(&format!("entries in {}: {}", local.keyspace, local.existing()?.count()?))?;
    }
    stdout.finish()
}

pub(crate) fn verify(arguments: &VerifyArguments) -> Result<Exit, Failure> {
    arguments.target.check_local("verify")?;
    let local = arguments.target.open_local(Access::Existing)?;
    let report = local.db.verify()?;
    let mut stdout = Answer::new();
    // What the open just now had to give up is part of the answer.
    stdout.line(&format!("the last end: {}", local.db.recovery_report()))?;
    for problem in &report.problems {
        stdout.line(problem)?;
    }
    stdout.line(&format!(
        "read {} ({}, {}, {}, {})",
        human_bytes(report.bytes),
        count(report.tables as u64, "table", "tables"),
        count(report.blocks, "block", "blocks"),
        count(report.entries, "entry", "entries"),
        count(report.records, "log record", "log records"),
    ))?;
    stdout.line(&if report.problems.is_empty() {
        "everything is as it was written".to_owned()
    } else {
        format!(
            "{} found; restore what is damaged from a backup",
            count(report.problems.len() as u64, "problem", "problems")
        )
    })?;
    stdout.finish()?;
    if !report.problems.is_empty() {
        return Ok(Exit::Partial);
    }
    if let Some(failure) = local.db.failure() {
        output::note(&format!("pugdb: {failure}"));
    }
    Ok(Exit::Done)
}
