//! `stats`, `verify` and `checkpoint`: what a database says about itself, and a copy of it.

use pugdb::Stats;
use pugdb::keys::KEYRING;
use serde_json::{Map, Value, json};

use crate::arguments::{CheckpointArguments, StatsArguments, VerifyArguments};
use crate::outcome::{Exit, Failure};
use crate::output::{self, Answer, Format, answer_json};
use crate::target::{Access, Local, Place};
use crate::text::{count, human_bytes};

pub(crate) fn stats(arguments: &StatsArguments, format: Format) -> Result<Exit, Failure> {
    match arguments.target.open(Access::Existing)? {
        Place::Local(local) if format == Format::Json => {
            answer_json(&stats_object(&local, arguments.count)?)?;
        }
        Place::Local(local) => stats_local(&local, arguments.count)?,
        Place::Remote(mut remote) if format == Format::Json => {
            let mut object = info_object(&remote.info()?);
            if arguments.count {
                object.insert("entries".to_owned(), remote.count(&[b"DBSIZE"])?.into());
            }
            answer_json(&object)?;
        }
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
    let mut stdout = Answer::new();
    for [name, value] in stats_rows(local, with_count)? {
        stdout.line(&format!("{name}: {value}"))?;
    }
    stdout.finish()
}

/// Names and values of what there is to say.
pub(crate) fn stats_rows(local: &Local, with_count: bool) -> Result<Vec<[String; 2]>, Failure> {
    let (stats, recovery) = (local.db.stats()?, local.db.recovery_report());
    let tables = format!(
        "{} in {} runs, {} (compressed {:.2} to 1)",
        stats.tables,
        stats.runs,
        human_bytes(stats.table_bytes),
        compression_ratio(&stats),
    );
    let values = format!(
        "{}, {}, of which {} are alive",
        stats.value_files,
        human_bytes(stats.value_bytes),
        human_bytes(stats.value_live_bytes),
    );
    let mut rows = vec![
        ["data".to_owned(), local.data.display().to_string()],
        ["the last end".to_owned(), recovery.to_string()],
        ["keyspaces".to_owned(), format!("{} ({})", stats.keyspaces, local.db.keyspaces()?.join(", "))],
        ["tables".to_owned(), tables],
        ["value files".to_owned(), values],
        ["generation".to_owned(), local.db.generation().to_string()],
        ["log".to_owned(), human_bytes(stats.log_bytes)],
        ["memtables".to_owned(), human_bytes(stats.memtable_bytes as u64)],
        ["damaged tables".to_owned(), stats.quarantined.to_string()],
    ];
    if with_count {
        rows.push([format!("entries in {}", local.keyspace), local.existing()?.count()?.to_string()]);
    }
    Ok(rows)
}

/// How many times larger the tables would be if nothing in them were compressed.
#[expect(clippy::cast_precision_loss, reason = "it is printed with two digits")]
fn compression_ratio(stats: &Stats) -> f64 {
    let bytes = |bytes: u64| bytes.max(1) as f64;
    bytes(stats.table_bytes_uncompressed) / bytes(stats.table_bytes)
}

/// What [`stats_rows`] tells, as an object.
pub(crate) fn stats_object(local: &Local, with_count: bool) -> Result<Map<String, Value>, Failure> {
    let (stats, recovery) = (local.db.stats()?, local.db.recovery_report());
    let value = json!({
        "data": local.data.display().to_string(),
        "closed_in_good_order": recovery.clean || recovery.created,
        "recovery": recovery.to_string(),
        "keyspaces": local.db.keyspaces()?,
        "tables": stats.tables,
        "table_bytes": stats.table_bytes,
        "table_bytes_uncompressed": stats.table_bytes_uncompressed,
        "value_files": stats.value_files,
        "value_bytes": stats.value_bytes,
        "value_live_bytes": stats.value_live_bytes,
        "runs": stats.runs,
        "run_bytes": stats.run_bytes,
        "generation": local.db.generation(),
        "log_bytes": stats.log_bytes,
        "memtable_bytes": stats.memtable_bytes,
        "cache_bytes": stats.cache_bytes,
        "table_memory_bytes": stats.table_memory_bytes,
        "cache_hits": stats.cache_hits,
        "cache_misses": stats.cache_misses,
        "damaged_tables": stats.quarantined,
    });
    let Value::Object(mut object) = value else { return Ok(Map::new()) };
    if with_count {
        object.insert("keyspace".to_owned(), local.keyspace.clone().into());
        object.insert("entries".to_owned(), local.existing()?.count()?.into());
    }
    Ok(object)
}

/// The lines `name:value` of a server's `INFO`; whole numbers become numbers.
pub(crate) fn info_object(text: &str) -> Map<String, Value> {
    let pairs =
        text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.trim().split_once(':'));
    let value = |text: &str| text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from);
    pairs.map(|(name, text)| (name.to_owned(), value(text))).collect()
}

pub(crate) fn checkpoint(arguments: &CheckpointArguments, format: Format) -> Result<Exit, Failure> {
    arguments.target.check_local_reading("checkpoint")?;
    let local = arguments.target.open_local(Access::Existing)?;
    local.db.checkpoint(&arguments.directory)?;
    let stats = local.db.stats()?;
    if local.db.keys().is_some() {
        let keyring = local.data.join(KEYRING);
        output::note(&format!(
            "pugdb: the copy has no keyring, which would keep keys that are destroyed later; open it with --keyring {}",
            keyring.display()
        ));
    }
    local.db.close()?;
    let directory = arguments.directory.display();
    if format == Format::Json {
        answer_json(
            &json!({ "directory": directory.to_string(), "tables": stats.tables, "table_bytes": stats.table_bytes, "value_bytes": stats.value_bytes }),
        )?;
    } else {
        let tables = count(stats.tables as u64, "table", "tables");
        output::answer(&format!(
            "{directory} holds {tables}, {}",
            human_bytes(stats.table_bytes + stats.value_bytes)
        ))?;
    }
    Ok(Exit::Done)
}

pub(crate) fn verify(arguments: &VerifyArguments, format: Format) -> Result<Exit, Failure> {
    arguments.target.check_local_reading("verify")?;
    let local = arguments.target.open_local(Access::Existing)?;
    let report = local.db.verify()?;
    let exit = if report.problems.is_empty() { Exit::Done } else { Exit::Partial };
    let problems: Vec<&str> = report.problems.iter().map(|problem| without_advice(problem)).collect();
    if format == Format::Json {
        answer_json(&json!({
            "recovery": local.db.recovery_report().to_string(),
            "tables": report.tables,
            "blocks": report.blocks,
            "entries": report.entries,
            "records": report.records,
            "bytes": report.bytes,
            "problems": problems,
        }))?;
        return Ok(exit);
    }
    let mut stdout = Answer::new();
    // What the open just now had to give up is part of the answer.
    stdout.line(&format!("the last end: {}", local.db.recovery_report()))?;
    for problem in &problems {
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
    if let Some(failure) = local.db.failure() {
        output::note(&format!("pugdb: {failure}"));
    }
    Ok(exit)
}

/// A problem without the advice to do what has just been done.
fn without_advice(problem: &str) -> &str {
    problem.strip_suffix("; run `pugdb verify`").unwrap_or(problem)
}
