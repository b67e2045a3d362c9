//! `keyspace list`, `create` and `alter`: how keyspaces are made. Of their partitions, `partitions.rs`.

use std::time::Duration;

use clap::{Args, Subcommand};
use pugdb::{
    Compression, EngineKind, KeyspaceOptions, Logging, Partitioning, PrefixExtractor, Quota, Sealing,
};
use serde_json::json;

use crate::arguments::Target;
use crate::outcome::{Exit, Failure};
use crate::output::{Answer, Format};
use crate::partitions::{self, MergeArguments, PartitionsArguments, SplitArguments, StartKey, parse_key};
use crate::target::{Access, Local};
use crate::text::{human_bytes, parse_size};

/// List, make and change keyspaces
#[derive(Args, Debug)]
#[command(after_help = "\
It works on the directory, so it needs --data, and no server may run on it.

Compression is one of none, lz4, snappy, zstd:1 to zstd:19 and gzip:1 to gzip:9. A changed option counts for tables that are
written from now on; those that there are stay as they are until they are merged.

Examples:
  pugdb keyspace list
  pugdb keyspace create archive --compression zstd:3
  pugdb keyspace create scratch --unlogged
  pugdb keyspace alter db0 --compression zstd --upper-compression lz4
  pugdb keyspace create images --separate-values 4KiB
  pugdb keyspace create events --prefix up-to:/
  pugdb keyspace create sessions --default-expiry 3600
  pugdb keyspace create uploads --quota-bytes 1GiB --quota-keys 1000000
  pugdb keyspace alter uploads --quota-keys none
  pugdb keyspace create clicks --partitions 8
  pugdb keyspace create users --split-at g --split-at n
  pugdb keyspace split users 1")]
pub(crate) struct KeyspaceArguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print the keyspaces, about how much they hold, and how they are made
    List(ListArguments),
    /// Make a keyspace; code 4 if it is there and made otherwise
    Create(CreateArguments),
    /// Change how the tables of a keyspace are made from now on
    Alter(ChangeArguments),
    /// Print the partitions of a keyspace: which keys each holds, and how much
    Partitions(PartitionsArguments),
    /// Make two partitions of one: all that it holds is written anew
    Split(SplitArguments),
    /// Make one partition of two that are neighbours: all that they hold is written anew
    Merge(MergeArguments),
}

#[derive(Args, Debug)]
struct ListArguments {
    #[command(flatten)]
    target: Target,
}

#[derive(Args, Debug)]
struct CreateArguments {
    #[command(flatten)]
    change: ChangeArguments,
    /// Write nothing of it to the log: after a crash it holds what it held at one of its flushes
    #[arg(long)]
    unlogged: bool,
    /// Distribute its keys over so many trees, by their hash; 1 to 256
    #[arg(long, value_name = "COUNT", conflicts_with = "split_at")]
    partitions: Option<usize>,
    /// Distribute its keys over trees by ranges: where the next one begins; can be given several times, \xNN is a byte
    #[arg(long, value_name = "KEY", value_parser = parse_key)]
    split_at: Vec<StartKey>,
}

impl CreateArguments {
    fn partitioning(&self) -> Option<Partitioning> {
        let hash = self.partitions.map(|partitions| Partitioning::Hash { partitions });
        let starts = || self.split_at.iter().map(|start| start.0.clone()).collect();
        hash.or_else(|| (!self.split_at.is_empty()).then(|| Partitioning::Ranges { starts: starts() }))
    }
}

#[derive(Args, Debug)]
struct ChangeArguments {
    /// The keyspace's name
    name: String,
    #[command(flatten)]
    tables: TableArguments,
    #[command(flatten)]
    target: Target,
}

/// How tables are made.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct TableArguments {
    /// How old tables are compressed, where most of the data is [default: lz4]
    #[arg(long, value_name = "CODEC", value_parser = |text: &str| text.parse::<Compression>())]
    compression: Option<Compression>,
    /// How young tables are compressed, which will soon be merged [default: none]
    #[arg(long, value_name = "CODEC", value_parser = |text: &str| text.parse::<Compression>())]
    upper_compression: Option<Compression>,
    /// How much of a table is read and decompressed at once, about [default: 8KiB]
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    block_bytes: Option<usize>,
    /// Bits of filter for each key, which let most searches for absent keys end in memory; 0 to 20 [default: 10]
    #[arg(long, value_name = "BITS")]
    filter_bits: Option<u8>,
    /// What of a key filters know beside all of it, for scans of a prefix: length:N, up-to:BYTE or none [default: none]
    #[arg(long, value_name = "PREFIX", value_parser = |text: &str| text.parse::<PrefixExtractor>())]
    prefix: Option<PrefixExtractor>,
    /// Keep values of so many bytes and more in files of their own, which merges leave alone; 0: none [default: 0]
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    separate_values: Option<usize>,
    /// Entries that are written without an expiry of their own live so many seconds; 0: for ever [default: 0]
    #[arg(long, value_name = "SECONDS")]
    default_expiry: Option<u64>,
    /// How many bytes it may take, in memory and on disk: a size, or none [default: none]
    #[arg(long, value_name = "BYTES", value_parser = parse_quota)]
    quota_bytes: Option<Quota>,
    /// How many keys it may have, by estimate: a number, or none [default: none]
    #[arg(long, value_name = "COUNT", value_parser = |text: &str| text.parse::<Quota>())]
    quota_keys: Option<Quota>,
    /// Whether its tables are sealed, in a database that is encrypted: sealed or plain [default: sealed]
    #[arg(long, value_name = "SEALING", value_parser = |text: &str| text.parse::<Sealing>())]
    sealing: Option<Sealing>,
}

/// A quota of bytes.
fn parse_quota(text: &str) -> Result<Quota, String> {
    if text == "none" {
        return Ok(Quota::None);
    }
    parse_size(text).map(|bytes| Quota::AtMost(bytes as u64))
}

impl TableArguments {
    /// As options of a keyspace of this engine.
    pub(crate) fn options(self, engine: EngineKind) -> KeyspaceOptions {
        KeyspaceOptions {
            engine: Some(engine),
            upper_compression: self.upper_compression,
            bottom_compression: self.compression,
            block_bytes: self.block_bytes,
            filter_bits: self.filter_bits,
            prefix: self.prefix,
            separate_values: self.separate_values,
            logging: None,
            default_expiry: self.default_expiry.map(Duration::from_secs),
            quota_bytes: self.quota_bytes,
            quota_keys: self.quota_keys,
            sealing: self.sealing,
        }
    }
}

impl KeyspaceArguments {
    pub(crate) fn target_mut(&mut self) -> &mut Target {
        match &mut self.action {
            Action::List(arguments) => &mut arguments.target,
            Action::Create(arguments) => &mut arguments.change.target,
            Action::Alter(arguments) => &mut arguments.target,
            Action::Partitions(arguments) => &mut arguments.target,
            Action::Split(arguments) => &mut arguments.target,
            Action::Merge(arguments) => &mut arguments.target,
        }
    }
}

pub(crate) fn keyspace(arguments: &KeyspaceArguments, format: Format) -> Result<Exit, Failure> {
    match &arguments.action {
        Action::List(arguments) => list(&open(&arguments.target, Access::Existing)?, format)?,
        Action::Create(arguments) => {
            let change = &arguments.change;
            let local = open(&change.target, Access::Create)?;
            let logging = Some(if arguments.unlogged { Logging::Unlogged } else { Logging::Logged });
            let options = |engine| KeyspaceOptions { logging, ..change.tables.options(engine) };
            match arguments.partitioning() {
                Some(partitioning) => {
                    let options = options(EngineKind::Partitioned);
                    local.db.partitioned_keyspace(&change.name, &partitioning, options)?
                }
                None => local.db.keyspace_with(&change.name, options(EngineKind::Lsm))?,
            };
            local.db.close()?;
        }
        Action::Partitions(arguments) => {
            return partitions::list(&open(&arguments.target, Access::Existing)?, arguments, format);
        }
        Action::Split(arguments) => {
            return partitions::split(&open(&arguments.target, Access::Existing)?, arguments, format);
        }
        Action::Merge(arguments) => {
            return partitions::merge(&open(&arguments.target, Access::Existing)?, arguments, format);
        }
        Action::Alter(arguments) => {
            let local = open(&arguments.target, Access::Existing)?;
            let missing =
                || Failure::new(Exit::NotFound, format!("there is no keyspace {:?}", arguments.name));
            let keyspace = local.db.existing_keyspace(&arguments.name)?.ok_or_else(missing)?;
            keyspace.alter(arguments.tables.options(keyspace.engine()))?;
            local.db.close()?;
        }
    }
    Ok(Exit::Done)
}

fn open(target: &Target, access: Access) -> Result<Local, Failure> {
    target.check_local("keyspace")?;
    target.open_local(access)
}

fn list(local: &Local, format: Format) -> Result<(), Failure> {
    let mut stdout = Answer::new();
    let mut rows = vec![
        [
            "keyspace",
            "engine",
            "log",
            "about",
            "entries",
            "compression",
            "of young tables",
            "blocks",
            "filter bits",
            "prefix",
            "values apart",
            "expiry",
            "takes",
            "keys",
        ]
        .map(str::to_owned),
    ];
    for name in local.db.keyspaces()? {
        // One that went meanwhile is not there.
        let Some(keyspace) = local.db.existing_keyspace(&name)? else { continue };
        let (options, size, usage) = (keyspace.options(), keyspace.approximate(..)?, keyspace.usage()?);
        let engine = format!("{:?}", keyspace.engine()).to_lowercase();
        let is_logged = options.logging == Some(Logging::Logged);
        let codec = |codec: Option<Compression>| codec.map(|codec| codec.to_string());
        if format == Format::Json {
            stdout.json(&json!({
                "keyspace": name,
                "engine": engine,
                "logged": is_logged,
                "bytes_estimate": size.bytes,
                "entries_estimate": size.entries,
                "compression": codec(options.bottom_compression),
                "upper_compression": codec(options.upper_compression),
                "block_bytes": options.block_bytes,
                "filter_bits": options.filter_bits,
                "prefix": options.prefix.map(|prefix| prefix.to_string()),
                "separate_values": options.separate_values,
                "default_expiry_seconds": options.default_expiry.map(|expiry| expiry.as_secs_f64()),
                "bytes": usage.bytes,
                "keys_estimate": usage.keys_estimate,
                "quota_bytes": most(usage.quota_bytes),
                "quota_keys": most(usage.quota_keys),
                "sealing": options.sealing.map(|sealing| sealing.to_string()),
            }))?;
            continue;
        }
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        rows.push([
            name,
            engine,
            if is_logged { "yes" } else { "no" }.to_owned(),
            human_bytes(size.bytes),
            size.entries.to_string(),
            or_dash(codec(options.bottom_compression)),
            or_dash(codec(options.upper_compression)),
            or_dash(options.block_bytes.map(|bytes| bytes.to_string())),
            or_dash(options.filter_bits.map(|bits| bits.to_string())),
            or_dash(options.prefix.map(|prefix| prefix.to_string())),
            or_dash(options.separate_values.filter(|bytes| *bytes > 0).map(|bytes| bytes.to_string())),
            or_dash(options.default_expiry.map(|expiry| format!("{expiry:?}"))),
            of_quota(usage.quota_bytes, usage.bytes, human_bytes),
            of_quota(usage.quota_keys, usage.keys_estimate, |keys| keys.to_string()),
        ]);
    }
    if format == Format::Text {
        stdout.table(&rows)?;
    }
    stdout.finish()
}

fn most(quota: Quota) -> Option<u64> {
    match quota {
        Quota::None => None,
        Quota::AtMost(most) => Some(most),
    }
}

/// What there is, and of how much, if that is bounded.
fn of_quota(quota: Quota, used: u64, show: impl Fn(u64) -> String) -> String {
    most(quota).map_or_else(|| show(used), |most| format!("{} of {}", show(used), show(most)))
}
