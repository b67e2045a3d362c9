//! `keyspace partitions`, `keyspace split`, `keyspace merge`: the partitions of a keyspace, and how they change.

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pugdb::{EngineKind, Keyspace, Partition, PartitionKeys};
use serde_json::json;

use crate::arguments::Target;
use crate::outcome::{Exit, Failure};
use crate::output::{Answer, Format, answer_json};
use crate::target::Local;
use crate::text::{count, escaped, human_bytes, unescape};

#[derive(Args, Debug)]
pub(crate) struct PartitionsArguments {
    /// The keyspace's name
    name: String,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Args, Debug)]
pub(crate) struct SplitArguments {
    /// The keyspace's name
    name: String,
    /// Which partition, counted from 0
    number: usize,
    /// The first key of the second half, where partitions hold ranges; \xNN is a byte [default: the middle of its keys]
    #[arg(long, value_name = "KEY", value_parser = parse_key)]
    at: Option<StartKey>,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Args, Debug)]
pub(crate) struct MergeArguments {
    /// The keyspace's name
    name: String,
    /// Which partition, counted from 0: it becomes one with the next
    number: usize,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// The key at which a partition begins.
#[derive(Clone, Debug)]
pub(crate) struct StartKey(pub(crate) Vec<u8>);

pub(crate) fn parse_key(text: &str) -> Result<StartKey, String> {
    unescape(text.as_bytes()).map(StartKey).map_err(str::to_owned)
}

pub(crate) fn list(local: &Local, arguments: &PartitionsArguments, format: Format) -> Result<Exit, Failure> {
    let keyspace = partitioned(local, &arguments.name)?;
    let mut stdout = Answer::new();
    let mut rows = vec![["partition", "keys", "about", "tables", "in memory", "runs"].map(str::to_owned)];
    for partition in keyspace.partitions()? {
        if format == Format::Json {
            stdout.json(&told(&partition))?;
            continue;
        }
        rows.push([
            partition.number.to_string(),
            match &partition.keys {
                PartitionKeys::Slots(slots) => format!("slots {} to {}", slots.start, slots.end - 1),
                PartitionKeys::Range { from, to } => match (from, to) {
                    (None, None) => "all".to_owned(),
                    (Some(from), None) => format!("from {}", escaped(from)),
                    (None, Some(to)) => format!("before {}", escaped(to)),
                    (Some(from), Some(to)) => format!("from {} before {}", escaped(from), escaped(to)),
                },
            },
            partition.approximate_keys.to_string(),
            human_bytes(partition.table_bytes),
            human_bytes(partition.memtable_bytes as u64),
            partition.runs.to_string(),
        ]);
    }
    if format == Format::Text {
        stdout.table(&rows)?;
    }
    stdout.finish()?;
    Ok(Exit::Done)
}

fn told(partition: &Partition) -> serde_json::Value {
    let key = |key: &Option<Vec<u8>>| key.as_deref().map(escaped);
    let keys = match &partition.keys {
        PartitionKeys::Slots(slots) => json!({ "first_slot": slots.start, "last_slot": slots.end - 1 }),
        PartitionKeys::Range { from, to } => json!({ "from": key(from), "before": key(to) }),
    };
    json!({
        "partition": partition.number,
        "keys": keys,
        "keys_estimate": partition.approximate_keys,
        "table_bytes": partition.table_bytes,
        "memtable_bytes": partition.memtable_bytes,
        "runs": partition.runs,
    })
}

pub(crate) fn split(local: &Local, arguments: &SplitArguments, format: Format) -> Result<Exit, Failure> {
    let keyspace = partitioned(local, &arguments.name)?;
    let at = arguments.at.as_ref().map(|at| &*at.0);
    change(local, &keyspace, format, |progress| keyspace.split_partition(arguments.number, at, progress))
}

pub(crate) fn merge(local: &Local, arguments: &MergeArguments, format: Format) -> Result<Exit, Failure> {
    let keyspace = partitioned(local, &arguments.name)?;
    change(local, &keyspace, format, |progress| keyspace.merge_partitions(arguments.number, progress))
}

fn change(
    local: &Local,
    keyspace: &Keyspace,
    format: Format,
    change: impl FnOnce(&mut dyn FnMut(u64)) -> pugdb::Result<()>,
) -> Result<Exit, Failure> {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5));
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} versions of entries copied") {
        bar.set_style(style);
    }
    let before = keyspace.partitions()?.len();
    let changed = change(&mut |copied| bar.set_position(copied));
    bar.finish_and_clear();
    changed?;
    let after = keyspace.partitions()?.len();
    local.db.close()?;
    if format == Format::Json {
        answer_json(&json!({ "partitions_before": before, "partitions": after }))?;
        return Ok(Exit::Done);
    }
    let mut stdout = Answer::new();
    let partitions = |number: usize| count(number as u64, "partition", "partitions");
    stdout.line(&format!("there were {}, and are {after}", partitions(before)))?;
    stdout.finish()?;
    Ok(Exit::Done)
}

fn partitioned(local: &Local, name: &str) -> Result<Keyspace, Failure> {
    let missing = || Failure::new(Exit::NotFound, format!("there is no keyspace {name:?}"));
    let keyspace = local.db.existing_keyspace(name)?.ok_or_else(missing)?;
    if keyspace.engine() != EngineKind::Partitioned {
        return Err(Failure::usage(format!(
            "the keyspace {name:?} has no partitions; they are made with it, by `keyspace create --partitions`"
        )));
    }
    Ok(keyspace)
}
