//! `COMMAND`: shows the table of commands to clients.

use bytes::Bytes;
use pugdb::glob;
use pugdb_wire::resp::Reply;

use super::table::{Access, Command, Flag, Group, KeyPlaces, TABLE, commands};
use super::{count, text};
use crate::arguments::is;
use crate::call::Call;
use crate::failure::Failure;

#[rustfmt::skip]
pub(super) const SUBCOMMANDS: &[Command] = commands! {
    "command|count" 2 [Loading] [] Server "2.8.13" Run(number) "" "Counts the commands." "";
    "command|docs" -2 [Loading] [] Server "7.0.0" Run(docs) "[name ...]" "Documents commands." "Without the arguments one by one.";
    "command|getkeys" -3 [Loading] [] Server "2.8.13" Run(getkeys) "command [argument ...]" "Finds the keys among the arguments of a command." "";
    "command|getkeysandflags" -3 [Loading] [] Server "7.0.0" Run(getkeysandflags) "command [argument ...]" "Finds the keys among the arguments of a command, and what happens to each." "";
    "command|info" -2 [Loading] [] Server "2.8.13" Run(info) "[name ...]" "Describes commands." "";
    "command|list" -2 [Loading] [] Server "7.0.0" Run(list) "[FILTERBY MODULE name | ACLCAT category | PATTERN pattern]" "Lists the names of commands." "";
};

fn number(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Ok(count(TABLE.len()))
}

/// The command, or the one in a container, of a name such as `get` or `client|list`.
fn find(name: &[u8]) -> Option<&'static Command> {
    let mut parts = name.splitn(2, |&byte| byte == b'|');
    let (_, command) = Command::find(parts.next()?)?;
    match parts.next() {
        Some(name) => command.subcommands().iter().find(|subcommand| is(name, subcommand.short_name())),
        None => Some(command),
    }
}

/// `COMMAND INFO [name ...]`
fn info(_: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let names = arguments.get(2..).unwrap_or_default();
    if names.is_empty() {
        return Ok(Reply::Array(TABLE.iter().map(describe).collect()));
    }
    Ok(Reply::Array(names.iter().map(|name| find(name).map_or(Reply::NullArray, describe)).collect()))
}

/// `COMMAND DOCS [name ...]`
fn docs(_: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let names = arguments.get(2..).unwrap_or_default();
    if names.is_empty() {
        return Ok(Reply::Map(TABLE.iter().map(document).collect()));
    }
    Ok(Reply::Map(names.iter().filter_map(|name| find(name)).map(document).collect()))
}

fn document(command: &Command) -> (Reply, Reply) {
    let fields = [("summary", command.summary), ("since", command.since), ("group", command.group.name())];
    let mut fields: Vec<_> = fields.into_iter().map(|(name, value)| (text(name), text(value))).collect();
    if !command.subcommands().is_empty() {
        let subcommands = command.subcommands().iter().map(document).collect();
        fields.push((text("subcommands"), Reply::Map(subcommands)));
    }
    (text(command.name), Reply::Map(fields))
}

/// `COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern]`
fn list(_: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let all = || TABLE.iter().flat_map(|command| std::iter::once(command).chain(command.subcommands()));
    let name = |command: &Command| text(command.name);
    let names = match arguments.get(2..).unwrap_or_default() {
        [] => all().map(name).collect(),
        [filter, kind, _] if is(filter, "filterby") && is(kind, "module") => Vec::new(),
        [filter, kind, category] if is(filter, "filterby") && is(kind, "aclcat") => {
            let belongs =
                |command: &&Command| categories(command).iter().any(|known| is(category, &known[1..]));
            all().filter(belongs).map(name).collect()
        }
        [filter, kind, pattern] if is(filter, "filterby") && is(kind, "pattern") => {
            let pattern = pattern.to_ascii_lowercase();
            all().filter(|command| glob::matches(&pattern, command.name.as_bytes())).map(name).collect()
        }
        _ => return Err(Failure::SYNTAX),
    };
    Ok(Reply::Array(names))
}

/// `COMMAND GETKEYS name [argument ...]`
fn getkeys(_: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let keys = places_and_request(arguments)?;
    Ok(Reply::Array(keys.into_iter().map(|(_, key)| Reply::Bulk(key.clone())).collect()))
}

/// `COMMAND GETKEYSANDFLAGS name [argument ...]`
fn getkeysandflags(_: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let entry = |(places, key): (&KeyPlaces, &Bytes)| {
        Reply::Array(vec![Reply::Bulk(key.clone()), simple(access_flags(places.access).to_vec())])
    };
    Ok(Reply::Array(places_and_request(arguments)?.into_iter().map(entry).collect()))
}

fn places_and_request(arguments: &[Bytes]) -> Result<Vec<(&'static KeyPlaces, &Bytes)>, Failure> {
    let request = arguments.get(2..).unwrap_or_default();
    let container = request.first().and_then(|name| Command::find(name)).map(|(_, command)| command);
    let command = container.ok_or(Failure::new("ERR Invalid command specified"))?;
    let subcommand = request
        .get(1)
        .and_then(|name| command.subcommands().iter().find(|subcommand| is(name, subcommand.short_name())));
    let command = subcommand.unwrap_or(command);
    if command.keys.is_empty() {
        return Err(Failure::new("ERR The command has no key arguments"));
    }
    if !command.takes(request.len()) {
        return Err(Failure::new("ERR Invalid number of arguments specified for command"));
    }
    let keys = command.keys.iter().flat_map(|places| places.of(request).map(move |key| (places, key)));
    Ok(keys.collect())
}

/// The entry of `COMMAND INFO`.
fn describe(command: &Command) -> Reply {
    let (first, last, step) = command.keys.first().map_or((0, 0, 0), |places| {
        let last = command.keys.last().map_or(places.last, |last| last.last);
        (places.first, last, places.step)
    });
    Reply::Array(vec![
        text(command.name),
        Reply::Integer(command.arity),
        simple(command.flags.iter().filter_map(|flag| flag_name(*flag)).collect()),
        Reply::Integer(first),
        Reply::Integer(last),
        Reply::Integer(step),
        simple(categories(command)),
        // There are no tips.
        Reply::Array(Vec::new()),
        Reply::Array(command.keys.iter().map(key_specification).collect()),
        Reply::Array(command.subcommands().iter().map(describe).collect()),
    ])
}

/// Where keys are, in the words of a Redis key specification.
fn key_specification(places: &KeyPlaces) -> Reply {
    let pairs = |pairs: Vec<(&str, Reply)>| {
        Reply::Map(pairs.into_iter().map(|(name, value)| (text(name), value)).collect())
    };
    let number = Reply::Integer;
    // Counted from the first key when it is no count from the end.
    let last = if places.last < 0 { places.last } else { places.last - places.first };
    let begin = pairs(vec![("type", text("index")), ("spec", pairs(vec![("index", number(places.first))]))]);
    let range = vec![("lastkey", number(last)), ("keystep", number(places.step)), ("limit", number(0))];
    let find = pairs(vec![("type", text("range")), ("spec", pairs(range))]);
    pairs(vec![
        ("flags", simple(access_flags(places.access).to_vec())),
        ("begin_search", begin),
        ("find_keys", find),
    ])
}

fn simple(words: Vec<&'static str>) -> Reply {
    Reply::Set(words.into_iter().map(Reply::simple).collect())
}

fn access_flags(access: Access) -> [&'static str; 2] {
    match access {
        Access::Read => ["RO", "access"],
        Access::Update => ["RW", "update"],
        Access::Overwrite => ["OW", "update"],
        Access::Remove => ["RM", "delete"],
    }
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
        Flag::NoMulti => "no_multi",
        Flag::Dangerous | Flag::Immediate | Flag::Walks | Flag::Whole | Flag::Exclusive => return None,
    })
}

/// The categories of access control that a command belongs to, by the rules of Redis.
pub(super) fn categories(command: &Command) -> Vec<&'static str> {
    let mut categories = Vec::new();
    let (writes, reads) = (command.has(Flag::Write), command.has(Flag::Readonly));
    if writes {
        categories.push("@write");
    }
    if reads {
        categories.push("@read");
    }
    match command.group {
        // A container does nothing itself.
        _ if !command.subcommands().is_empty() && command.name != "command" => {}
        _ if command.name.starts_with("command") || command.name == "wait" => categories.push("@connection"),
        Group::Bitmap => categories.push("@bitmap"),
        Group::Connection => categories.push("@connection"),
        Group::Generic => categories.push("@keyspace"),
        Group::Server if writes || reads => categories.push("@keyspace"),
        Group::Server => {}
        Group::String => categories.push("@string"),
        Group::Transactions => categories.push("@transaction"),
    }
    if command.has(Flag::Admin) {
        categories.push("@admin");
    }
    if command.has(Flag::Admin) || command.has(Flag::Dangerous) {
        categories.push("@dangerous");
    }
    categories.push(if command.has(Flag::Fast) { "@fast" } else { "@slow" });
    categories
}
