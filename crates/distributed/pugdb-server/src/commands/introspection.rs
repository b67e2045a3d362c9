//! `COMMAND`: shows the table of commands to clients.

use bytes::Bytes;
use pugdb_wire::resp::Reply;

use super::{Command, Flag, Group, KeyPlaces, Subcommand, TABLE, count, run_subcommand, text};
use crate::arguments::is;
use crate::failure::Failure;
use crate::glob;
use crate::session::Session;

const SUBCOMMANDS: &[Subcommand] = &[
    Subcommand { name: "count", arity: 2, run: number },
    Subcommand { name: "docs", arity: -2, run: docs },
    Subcommand { name: "getkeys", arity: -3, run: getkeys },
    Subcommand { name: "info", arity: -2, run: info },
    Subcommand { name: "list", arity: -2, run: list },
];

/// `COMMAND [subcommand]`
pub(super) fn command(session: &mut Session, arguments: &[Bytes]) -> Result<Reply, Failure> {
    if arguments.len() == 1 {
        return Ok(Reply::Array(TABLE.iter().map(describe).collect()));
    }
    run_subcommand("command", SUBCOMMANDS, session, arguments)
}

fn number(_: &mut Session, _: &[Bytes]) -> Result<Reply, Failure> {
    Ok(count(TABLE.len()))
}

/// `COMMAND INFO [name ...]`
fn info(_: &mut Session, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let names = arguments.get(2..).unwrap_or_default();
    if names.is_empty() {
        return Ok(Reply::Array(TABLE.iter().map(describe).collect()));
    }
    Ok(Reply::Array(
        names.iter().map(|name| Command::find(name).map_or(Reply::NullArray, describe)).collect(),
    ))
}

/// `COMMAND DOCS [name ...]`
fn docs(_: &mut Session, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let names = arguments.get(2..).unwrap_or_default();
    let document = |command: &Command| {
        let group = match command.group {
            Group::Connection => "connection",
            Group::Generic => "generic",
            Group::Server => "server",
            Group::String => "string",
        };
        let fields = [("summary", command.summary), ("since", command.since), ("group", group)];
        let fields = fields.into_iter().map(|(name, value)| (text(name), text(value))).collect();
        (text(command.name), Reply::Map(fields))
    };
    if names.is_empty() {
        return Ok(Reply::Map(TABLE.iter().map(document).collect()));
    }
    Ok(Reply::Map(names.iter().filter_map(|name| Command::find(name)).map(document).collect()))
}

/// `COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern]`
fn list(_: &mut Session, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let name = |command: &Command| text(command.name);
    let names = match arguments.get(2..).unwrap_or_default() {
        [] => TABLE.iter().map(name).collect(),
        [filter, kind, _] if is(filter, "filterby") && is(kind, "module") => Vec::new(),
        [filter, kind, category] if is(filter, "filterby") && is(kind, "aclcat") => {
            let belongs =
                |command: &&Command| categories(command).iter().any(|known| is(category, &known[1..]));
            TABLE.iter().filter(belongs).map(name).collect()
        }
        [filter, kind, pattern] if is(filter, "filterby") && is(kind, "pattern") => {
            let pattern = pattern.to_ascii_lowercase();
            TABLE
                .iter()
                .filter(|command| glob::matches(&pattern, command.name.as_bytes()))
                .map(name)
                .collect()
        }
        _ => return Err(Failure::SYNTAX),
    };
    Ok(Reply::Array(names))
}

/// `COMMAND GETKEYS name [argument ...]`
fn getkeys(_: &mut Session, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let request = arguments.get(2..).unwrap_or_default();
    let command = request.first().and_then(|name| Command::find(name));
    let command = command.ok_or(Failure::new("ERR Invalid command specified"))?;
    if command.keys.first == 0 {
        return Err(Failure::new("ERR The command has no key arguments"));
    }
    if !command.takes(request.len()) {
        return Err(Failure::new("ERR Invalid number of arguments specified for command"));
    }
    Ok(Reply::Array(keys(command.keys, request).cloned().map(Reply::Bulk).collect()))
}

/// The keys of a request, its name counted.
fn keys(places: KeyPlaces, request: &[Bytes]) -> impl Iterator<Item = &Bytes> {
    let place = |number: i64| usize::try_from(number).unwrap_or(0);
    let end = if places.last < 0 {
        request.len().saturating_sub(place(-places.last - 1))
    } else {
        place(places.last + 1).min(request.len())
    };
    request.iter().take(end).skip(place(places.first)).step_by(place(places.step).max(1))
}

/// The entry of `COMMAND INFO`.
fn describe(command: &Command) -> Reply {
    let simple = |words: Vec<&'static str>| Reply::Set(words.into_iter().map(Reply::simple).collect());
    Reply::Array(vec![
        text(command.name),
        Reply::Integer(command.arity),
        simple(command.flags.iter().filter_map(|flag| flag_name(*flag)).collect()),
        Reply::Integer(command.keys.first),
        Reply::Integer(command.keys.last),
        Reply::Integer(command.keys.step),
        simple(categories(command)),
        // Tips, key specifications and subcommands: none are needed to route by first, last and step.
        Reply::Array(Vec::new()),
        Reply::Array(Vec::new()),
        Reply::Array(Vec::new()),
    ])
}

fn flag_name(flag: Flag) -> Option<&'static str> {
    Some(match flag {
        Flag::Write => "write",
        Flag::Readonly => "readonly",
        Flag::Denyoom => "denyoom",
        Flag::Fast => "fast",
        Flag::Admin => "admin",
        Flag::NoAuth => "no_auth",
        Flag::Loading => "loading",
        Flag::Walks => return None,
    })
}

fn categories(command: &Command) -> Vec<&'static str> {
    let mut categories = Vec::new();
    if command.has(Flag::Write) {
        categories.push("@write");
    }
    if command.has(Flag::Readonly) {
        categories.push("@read");
    }
    match command.group {
        Group::Connection => categories.push("@connection"),
        Group::String => categories.push("@string"),
        Group::Generic => categories.push("@keyspace"),
        Group::Server if command.has(Flag::Write) || command.has(Flag::Readonly) => {
            categories.push("@keyspace");
        }
        Group::Server => {}
    }
    if command.has(Flag::Admin) {
        categories.extend(["@admin", "@dangerous"]);
    }
    categories.push(if command.has(Flag::Fast) { "@fast" } else { "@slow" });
    categories
}
