//! The way from a request to its reply: find the command in the table, look whether it may run now, run it, count it.
//! Families of commands have a file each; `table.rs` lists them all.

#![expect(
    clippy::unnecessary_wraps,
    reason = "all commands and sections have one type, so that a table can hold them"
)]

mod bitfield;
mod bits;
mod client;
mod config;
mod connection;
mod expiry;
mod info;
mod introspection;
mod keys;
mod latency;
mod lcs;
mod memory;
mod numbers;
mod scan;
mod serialize;
mod server;
mod slowlog;
mod strings;
mod table;
mod transactions;

use bytes::Bytes;
use pugdb_wire::resp::Reply;
use tokio::task::block_in_place;
use tokio::time::Instant;

use crate::arguments::{is, need_integer};
use crate::call::Call;
use crate::failure::Failure;
use crate::limits::HURRIED_BYTES;
use crate::output::{Output, Tells};
use crate::session::Session;
use table::{Command, Does, Flag};

pub(crate) use table::TABLE;
pub(crate) use transactions::{Transaction, Watched};

/// A command, and where it stands in the table.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    command: &'static Command,
    /// Its place, and the one among the container's commands. `HELP` of a container has the place behind the last.
    place: (usize, usize),
}

/// What a request asks for, or the reason why there is no such thing.
fn find(arguments: &[Bytes]) -> Result<Found, Failure> {
    let name = arguments.first().map(AsRef::as_ref).unwrap_or_default();
    let Some((index, command)) = Command::find(name) else { return Err(unknown(name)) };
    let subcommands = command.subcommands();
    if subcommands.is_empty() {
        return Found { command, place: (index, 0) }.with(arguments);
    }
    let Some(name) = arguments.get(1) else {
        // A container that may be called alone then does what its INFO does.
        let info = subcommands.iter().position(|subcommand| subcommand.short_name() == "info");
        let info = info.filter(|_| command.takes(1)).map(|place| (place, &subcommands[place]));
        let (place, command) = info.ok_or_else(|| Failure::arguments(command.name))?;
        return Ok(Found { command, place: (index, place) });
    };
    if let Some(place) = subcommands.iter().position(|subcommand| is(name, subcommand.short_name())) {
        return Found { command: &subcommands[place], place: (index, place) }.with(arguments);
    }
    if is(name, "help") && arguments.len() == 2 {
        return Ok(Found { command, place: (index, subcommands.len()) });
    }
    Err(Failure::unknown_subcommand(command.name, name))
}

/// The names of Redis that are no command here say so; whatever else is unknown is not repeated if it may be data.
fn unknown(name: &[u8]) -> Failure {
    if table::comes_later(name) { Failure::LATER } else { Failure::unknown_command(name) }
}

impl Found {
    /// The same, if it takes so many arguments.
    fn with(self, arguments: &[Bytes]) -> Result<Self, Failure> {
        if self.command.takes(arguments.len()) {
            Ok(self)
        } else {
            Err(Failure::arguments(self.command.name))
        }
    }

    pub(crate) fn name(self) -> &'static str {
        self.command.name
    }

    pub(crate) fn place(self) -> (usize, usize) {
        self.place
    }

    pub(crate) fn has(self, flag: Flag) -> bool {
        self.command.has(flag)
    }

    fn keys_of(self, arguments: &[Bytes]) -> impl Iterator<Item = &Bytes> + use<'_> {
        self.command.keys_of(arguments)
    }

    fn tells(self) -> Tells {
        let data = [Flag::Write, Flag::Readonly, Flag::NoMulti].iter().any(|flag| self.has(*flag));
        if data || self.name() == "exec" { Tells::Data } else { Tells::Nothing }
    }

    fn run(self, call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
        match self.command.does {
            Does::Run(run) if self.has(Flag::Walks) => block_in_place(|| run(call, arguments)),
            Does::Run(run) => run(call, arguments),
            Does::Container(subcommands) => Ok(help(self.command.name, subcommands)),
        }
    }
}

/// Whether a request may run only while no other connection's does.
pub(crate) fn is_exclusive(session: &Session, arguments: &[Bytes]) -> bool {
    let Some((_, command)) = arguments.first().and_then(|name| Command::find(name)) else { return false };
    match &session.transaction {
        Some(transaction) => command.name == "exec" && transaction.is_exclusive(),
        None => command.has(Flag::Exclusive),
    }
}

/// Runs a request and leaves its reply in the output.
pub(crate) fn run(session: &mut Session, arguments: &[Bytes], output: &mut Output) {
    let Some(name) = arguments.first() else { return };
    if is_of_a_browser(name) {
        session.closing = true;
        session.silent = true;
        return;
    }
    #[cfg(test)]
    assert_ne!(name, "test.panic", "asked for by a test");
    let (result, tells) = match find(arguments) {
        Ok(found) => run_or_queue(session, found, arguments),
        Err(failure) => (Err(refused(session, failure)), Tells::Nothing),
    };
    let reply = result.unwrap_or_else(|failure| {
        session.shared.stats.errors.add(1);
        failure.to_reply()
    });
    output.push(&reply, tells, session.protocol);
}

/// A command that cannot even begin takes a transaction with it.
fn refused(session: &mut Session, failure: Failure) -> Failure {
    if let Some(transaction) = &mut session.transaction {
        transaction.abort();
    }
    failure
}

fn run_or_queue(session: &mut Session, found: Found, arguments: &[Bytes]) -> (Result<Reply, Failure>, Tells) {
    session.client.touch(found.name());
    if !found.has(Flag::Immediate)
        && let Some(transaction) = &mut session.transaction
    {
        let queued = transaction.queue(found, arguments);
        return (queued.map_err(|failure| refused(session, failure)), Tells::Nothing);
    }
    let result =
        count_and_time(session, found, arguments, |session| found.run(&mut Call::alone(session), arguments));
    (result, found.tells())
}

/// Runs a command and notes how long it took and how it ended.
fn count_and_time(
    session: &mut Session,
    found: Found,
    arguments: &[Bytes],
    run: impl FnOnce(&mut Session) -> Result<Reply, Failure>,
) -> Result<Reply, Failure> {
    let began = Instant::now();
    let result = run(session);
    session.note_command(found, arguments, began.elapsed(), result.is_err());
    result
}

/// A browser that is tricked into talking to us begins with `POST`, or with headers of which `Host:` is always one.
/// What follows may be commands of an attacker: the connection ends without a reply, as in Redis.
fn is_of_a_browser(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
}

/// The commands of a container, a line each.
fn help(container: &str, subcommands: &[Command]) -> Reply {
    let container = container.to_ascii_uppercase();
    let title = format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
    let lines = subcommands.iter().flat_map(|subcommand| {
        let call = format!("{} {}", subcommand.short_name().to_ascii_uppercase(), subcommand.syntax);
        [call.trim_end().to_owned(), format!("    {}", subcommand.summary)]
    });
    let last = ["HELP".to_owned(), "    Lists these commands.".to_owned()];
    Reply::Array([title].into_iter().chain(lines).chain(last).map(Reply::simple).collect())
}

/// The number of a database, from 0 to below `end`.
fn need_integer_in(argument: Option<&Bytes>, end: usize) -> Result<usize, Failure> {
    let number = need_integer(argument.ok_or(Failure::SYNTAX)?)?;
    if i32::try_from(number).is_err() {
        return Err(Failure::new("ERR value is out of range, value must between -2147483648 and 2147483647"));
    }
    let number = usize::try_from(number).ok().filter(|&number| number < end);
    number.ok_or(Failure::NO_SUCH_DATABASE)
}

/// Does what takes long for very many bytes; then others do not wait for it.
fn unhurried<R>(bytes: usize, work: impl FnOnce() -> R) -> R {
    if bytes > HURRIED_BYTES { block_in_place(work) } else { work() }
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
