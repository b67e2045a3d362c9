//! The way from a request to its reply: find the command in the table, look whether it may run now, run it, count it.
//! Families of commands have a file each; `table.rs` lists them all.

#![expect(
    clippy::unnecessary_wraps,
    reason = "all commands and sections have one type, so that a table can hold them"
)]

mod acl;
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
mod permit;
mod privacy;
mod reference;
mod scan;
mod serialize;
mod server;
mod slowlog;
mod strings;
mod table;
mod transactions;

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use pugdb::audit::acting_as;
use pugdb_wire::resp::Reply;
use tokio::task::block_in_place;
use tokio::time::Instant;

use crate::arguments::{is, need_integer};
use crate::call::Call;
use crate::failure::Failure;
use crate::limits::HURRIED_BYTES;
use crate::output::{Output, Tells};
use crate::pause::Paused;
use crate::session::{Replies, Session};
use table::{Command, Does};

pub use permit::knows_action;
pub use reference::command_reference;
pub(crate) use table::{Flag, TABLE};
pub(crate) use transactions::{Transaction, Watches};

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
    if command.name == "client" && client::comes_later(name) {
        return Err(Failure::LATER);
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
        match call.actor.clone() {
            None => self.run_unrecorded(call, arguments),
            Some(actor) => {
                let shared = Arc::clone(&call.shared);
                shared.recorded(&actor, self.name(), || self.run_unrecorded(call, arguments))
            }
        }
    }

    fn run_unrecorded(self, call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
        match self.command.does {
            Does::Run(run) if self.has(Flag::Walks) => block_in_place(|| run(call, arguments)),
            Does::Run(run) => run(call, arguments),
            Does::Container(subcommands) => Ok(help(self.command.name, subcommands)),
        }
    }
}

/// The command of a request that is not checked yet: the one in a container, where it names one.
fn named(arguments: &[Bytes]) -> Option<&'static Command> {
    let (_, command) = Command::find(arguments.first()?)?;
    let subcommands = command.subcommands();
    if subcommands.is_empty() {
        return Some(command);
    }
    let name = arguments.get(1)?;
    subcommands.iter().find(|subcommand| is(name, subcommand.short_name()))
}

/// Whether a request may run only while no other connection's does.
pub(crate) fn is_exclusive(session: &Session, arguments: &[Bytes]) -> bool {
    let Some(command) = named(arguments) else { return false };
    match &session.transaction {
        Some(transaction) => command.name == "exec" && transaction.is_exclusive(),
        // Who may not run it does not make others wait.
        None => command.has(Flag::Exclusive) && permit::may_begin(session, command),
    }
}

/// Whether a request waits until a pause of all clients is over. `CLIENT` goes on, so that there is a way to end it.
pub(crate) fn is_held(session: &Session, arguments: &[Bytes]) -> bool {
    let Some(paused) = session.shared.pause.now() else { return false };
    if arguments.first().is_some_and(|name| is(name, "client")) {
        return false;
    }
    match paused {
        Paused::All => true,
        Paused::Writes => named(arguments).is_some_and(|command| {
            let runs_writes = || session.transaction.as_ref().is_some_and(Transaction::writes);
            command.has(Flag::Write) || (command.name == "exec" && runs_writes())
        }),
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
    if !session.refresh_rights() {
        session.closing = true;
        session.silent = true;
        return;
    }
    #[cfg(test)]
    assert_ne!(name, "test.panic", "asked for by a test");
    if session.replies == Replies::SkipNext {
        session.replies = Replies::SkipThis;
    }
    let (result, tells) = match find(arguments) {
        Ok(found) => run_or_queue(session, found, arguments),
        Err(failure) => {
            count_rejected(session, arguments);
            (Err(refused(session, failure)), Tells::Nothing)
        }
    };
    let reply = result.unwrap_or_else(|failure| {
        session.shared.stats.errors.add(1);
        session.shared.errors.add(failure.text());
        failure.to_reply()
    });
    let is_wanted = session.replies == Replies::All && !session.silent;
    if session.replies == Replies::SkipThis {
        session.replies = Replies::All;
    }
    if is_wanted {
        output.push(&reply, tells, session.protocol);
    }
}

/// Counts a request that names a command and cannot be run.
fn count_rejected(session: &Session, arguments: &[Bytes]) {
    let Some((index, command)) = arguments.first().and_then(|name| Command::find(name)) else { return };
    let subcommands = command.subcommands();
    let asked = |subcommand: &Command| arguments.get(1).is_some_and(|name| is(name, subcommand.short_name()));
    // What no command of a container is called counts for the container.
    let place = subcommands.iter().position(asked).unwrap_or(subcommands.len());
    session.shared.command_stats.of((index, place)).rejected.add(1);
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
    let database = session.transaction.as_ref().map_or(session.database, Transaction::database);
    if let Err(failure) = permit::check(session, found, arguments, database) {
        session.shared.command_stats.of(found.place()).rejected.add(1);
        return (Err(refused(session, failure)), Tells::Nothing);
    }
    if !found.has(Flag::Immediate)
        && let Some(transaction) = &mut session.transaction
    {
        let queued = transaction.queue(found, arguments);
        let length = transaction.len();
        session.client.change(|state| state.queued = Some(length));
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
    let (began, delay) = (Instant::now(), session.delay());
    let result = match session.actor.clone() {
        None => run(session),
        // What the database records of it has its user.
        Some(actor) => acting_as(&actor, || run(session)),
    };
    let mut took = began.elapsed();
    if found.name() == "debug|sleep" {
        // It is there to be seen as slow.
        took += session.delay().saturating_sub(delay);
    }
    session.note_command(found, arguments, took, result.is_err());
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

/// Bytes as hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

/// A size as a number. Nothing here counts to 2^63.
fn count(count: usize) -> Reply {
    Reply::Integer(i64::try_from(count).unwrap_or(i64::MAX))
}
