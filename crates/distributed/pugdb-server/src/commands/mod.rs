//! The commands: one table of all of them, and the way from a request to its reply.
//!
//! A row says how a command is called, how many arguments it has (its name counts; a negative number is a minimum),
//! what it does to the database, where its keys are (first, last, step; a negative last counts from the end), and
//! which function runs it. `COMMAND` shows the table to clients. Families of commands have a file each.

#![expect(
    clippy::unnecessary_wraps,
    reason = "all commands and sections have one type, so that a table can hold them"
)]

mod client;
mod config;
mod connection;
mod expiry;
mod info;
mod introspection;
mod keys;
mod scan;
mod strings;

use bytes::Bytes;
use pugdb_wire::resp::Reply;
use tokio::task::block_in_place;

use crate::failure::Failure;
use crate::output::{Output, Tells};
use crate::session::Session;

/// What a command does, in the words of `COMMAND INFO`, and one of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flag {
    /// Changes keys.
    Write,
    /// Tells of keys.
    Readonly,
    /// Can need more memory.
    Denyoom,
    /// Takes about the same time always.
    Fast,
    /// For operators.
    Admin,
    /// Needs no password.
    NoAuth,
    /// May run while data is loaded.
    Loading,
    /// Ours: can look at very many keys, and then must not hold up a thread that serves others.
    Walks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Connection,
    Generic,
    Server,
    String,
}

/// Where the keys are among the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyPlaces {
    first: i64,
    last: i64,
    step: i64,
}

type Run = fn(&mut Session, &[Bytes]) -> Result<Reply, Failure>;

pub(crate) struct Command {
    pub(crate) name: &'static str,
    arity: i64,
    flags: &'static [Flag],
    keys: KeyPlaces,
    group: Group,
    since: &'static str,
    summary: &'static str,
    run: Run,
}

macro_rules! table {
    ($($name:literal $arity:literal [$($flag:ident)*] ($first:literal $last:literal $step:literal)
       $group:ident $since:literal $run:path, $summary:literal;)*) => {
        /// All commands, in the order of their names.
        static TABLE: &[Command] = &[$(Command {
            name: $name,
            arity: $arity,
            flags: &[$(Flag::$flag),*],
            keys: KeyPlaces { first: $first, last: $last, step: $step },
            group: Group::$group,
            since: $since,
            summary: $summary,
            run: $run,
        }),*];
    };
}

table! {
    "auth" -2 [Fast NoAuth Loading] (0 0 0) Connection "1.0.0" connection::auth, "Says who the client is.";
    "client" -2 [Loading] (0 0 0) Connection "2.4.0" client::client, "Commands about connections.";
    "command" -1 [Loading] (0 0 0) Server "2.8.13" introspection::command, "Describes all commands.";
    "config" -2 [Admin Loading] (0 0 0) Server "2.0.0" config::config, "Commands about settings.";
    "dbsize" 1 [Readonly Walks] (0 0 0) Server "1.0.0" keys::dbsize, "Counts the keys of the database.";
    "decr" 2 [Write Denyoom Fast] (1 1 1) String "1.0.0" strings::decr, "Subtracts one from a number.";
    "decrby" 3 [Write Denyoom Fast] (1 1 1) String "1.0.0" strings::decrby, "Subtracts from a number.";
    "del" -2 [Write] (1 -1 1) Generic "1.0.0" keys::del, "Deletes keys.";
    "echo" 2 [Fast Loading] (0 0 0) Connection "1.0.0" connection::echo, "Returns its argument.";
    "exists" -2 [Readonly Fast] (1 -1 1) Generic "1.0.0" keys::exists, "Counts which of the keys exist.";
    "expire" -3 [Write Fast] (1 1 1) Generic "1.0.0" expiry::expire, "Lets a key expire after seconds.";
    "flushall" -1 [Write] (0 0 0) Server "1.0.0" keys::flushall, "Removes all keys of all databases.";
    "flushdb" -1 [Write] (0 0 0) Server "1.0.0" keys::flushdb, "Removes all keys of the database.";
    "get" 2 [Readonly Fast] (1 1 1) String "1.0.0" strings::get, "Returns the value of a key.";
    "hello" -1 [Fast NoAuth Loading] (0 0 0) Connection "6.0.0" connection::hello, "Chooses the protocol.";
    "incr" 2 [Write Denyoom Fast] (1 1 1) String "1.0.0" strings::incr, "Adds one to a number.";
    "incrby" 3 [Write Denyoom Fast] (1 1 1) String "1.0.0" strings::incrby, "Adds to a number.";
    "info" -1 [Loading Walks] (0 0 0) Server "1.0.0" info::info, "Describes the server and what it does.";
    "mget" -2 [Readonly] (1 -1 1) String "1.0.0" strings::mget, "Returns the values of several keys.";
    "mset" -3 [Write Denyoom] (1 -1 2) String "1.0.1" strings::mset, "Sets several keys in one step.";
    "persist" 2 [Write Fast] (1 1 1) Generic "2.2.0" expiry::persist, "Lets a key not expire.";
    "pexpire" -3 [Write Fast] (1 1 1) Generic "2.6.0" expiry::pexpire, "Lets a key expire after milliseconds.";
    "ping" -1 [Fast Loading] (0 0 0) Connection "1.0.0" connection::ping, "Shows that the server answers.";
    "pttl" 2 [Readonly Fast] (1 1 1) Generic "2.6.0" expiry::pttl, "Returns how long a key lives, in milliseconds.";
    "quit" -1 [Fast NoAuth Loading] (0 0 0) Connection "1.0.0" connection::quit, "Closes the connection.";
    "reset" 1 [Fast NoAuth Loading] (0 0 0) Connection "6.2.0" connection::reset, "Makes the connection as new.";
    "scan" -2 [Readonly Walks] (0 0 0) Generic "2.8.0" scan::scan, "Goes through the keys of the database.";
    "select" 2 [Fast Loading] (0 0 0) Connection "1.0.0" connection::select, "Chooses the database.";
    "set" -3 [Write Denyoom] (1 1 1) String "1.0.0" strings::set, "Sets a key.";
    "ttl" 2 [Readonly Fast] (1 1 1) Generic "1.0.0" expiry::ttl, "Returns how long a key lives, in seconds.";
    "type" 2 [Readonly Fast] (1 1 1) Generic "1.0.0" keys::type_of, "Returns the type of what a key holds.";
    "unlink" -2 [Write Fast] (1 -1 1) Generic "4.0.0" keys::del, "Deletes keys.";
}

impl Command {
    /// The command of that name, in whatever case.
    pub(crate) fn find(name: &[u8]) -> Option<&'static Self> {
        let lowercase = |byte: &u8| byte.to_ascii_lowercase();
        let found = TABLE.binary_search_by(|command| command.name.bytes().cmp(name.iter().map(lowercase)));
        found.ok().and_then(|index| TABLE.get(index))
    }

    fn has(&self, flag: Flag) -> bool {
        self.flags.contains(&flag)
    }

    fn tells(&self) -> Tells {
        if self.has(Flag::Write) || self.has(Flag::Readonly) { Tells::Data } else { Tells::Nothing }
    }

    fn takes(&self, arguments: usize) -> bool {
        fits(self.arity, arguments)
    }
}

/// Whether so many arguments, the name counted, are right for an arity.
fn fits(arity: i64, arguments: usize) -> bool {
    let arguments = i64::try_from(arguments).unwrap_or(i64::MAX);
    if arity >= 0 { arguments == arity } else { arguments >= -arity }
}

/// Runs a request and leaves its reply in the output.
pub(crate) fn run(session: &mut Session, arguments: &[Bytes], output: &mut Output) {
    let Some(name) = arguments.first() else { return };
    let (result, tells) = match Command::find(name) {
        Some(command) => {
            session.client.touch(command.name);
            (run_found(command, session, arguments), command.tells())
        }
        None => (unknown(session, name), Tells::Nothing),
    };
    if session.closing && session.silent {
        return;
    }
    let reply = result.unwrap_or_else(|failure| {
        session.shared.stats.errors.add(1);
        failure.to_reply()
    });
    output.push(&reply, tells, session.protocol);
}

fn run_found(command: &Command, session: &mut Session, arguments: &[Bytes]) -> Result<Reply, Failure> {
    if !command.takes(arguments.len()) {
        return Err(Failure::arguments(command.name));
    }
    if command.has(Flag::Walks) {
        return block_in_place(|| (command.run)(session, arguments));
    }
    (command.run)(session, arguments)
}

/// A browser that is tricked into talking to us begins with `POST`, or with headers of which `Host:` is always one.
/// What follows may be commands of an attacker: the connection ends without a reply, as in Redis.
fn unknown(session: &mut Session, name: &[u8]) -> Result<Reply, Failure> {
    if name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:") {
        session.closing = true;
        session.silent = true;
    }
    #[cfg(test)]
    assert_ne!(name, b"test.panic", "asked for by a test");
    Err(Failure::unknown_command(name))
}

/// A command behind a command: `CLIENT ID`. The arity counts both names.
struct Subcommand {
    name: &'static str,
    arity: i64,
    run: Run,
}

/// Runs the subcommand that the second argument names. `HELP` lists them.
fn run_subcommand(
    container: &str,
    subcommands: &[Subcommand],
    session: &mut Session,
    arguments: &[Bytes],
) -> Result<Reply, Failure> {
    let name = arguments.get(1).map(AsRef::as_ref).unwrap_or_default();
    if let Some(found) = subcommands.iter().find(|subcommand| crate::arguments::is(name, subcommand.name)) {
        if !fits(found.arity, arguments.len()) {
            return Err(Failure::arguments(&format!("{container}|{}", found.name)));
        }
        return (found.run)(session, arguments);
    }
    if crate::arguments::is(name, "help") {
        let container = container.to_ascii_uppercase();
        let title = format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
        let names = subcommands.iter().map(|subcommand| subcommand.name.to_ascii_uppercase());
        return Ok(Reply::Array([title].into_iter().chain(names).map(Reply::simple).collect()));
    }
    Err(Failure::unknown_subcommand(container, name))
}

/// A text of the server's own as a string.
fn text(text: impl Into<String>) -> Reply {
    Reply::Bulk(Bytes::from(text.into()))
}

/// A text of several lines, for people and for programs that split it.
fn verbatim(lines: String) -> Reply {
    Reply::Verbatim { format: *b"txt", text: Bytes::from(lines) }
}

/// A size as a number. Nothing here counts to 2^63.
fn count(count: usize) -> Reply {
    Reply::Integer(i64::try_from(count).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_that_find_relies_on() {
        assert!(TABLE.is_sorted_by(|a, b| a.name < b.name));
        for command in TABLE {
            let uppercase = command.name.to_ascii_uppercase();
            assert_eq!(Command::find(uppercase.as_bytes()).map(|found| found.name), Some(command.name));
        }
        assert!(Command::find(b"ge").is_none() && Command::find(b"").is_none());
    }

    #[test]
    fn a_negative_arity_is_a_minimum() {
        assert!(fits(2, 2) && !fits(2, 3) && fits(-2, 2) && fits(-2, 9) && !fits(-2, 1));
    }
}
