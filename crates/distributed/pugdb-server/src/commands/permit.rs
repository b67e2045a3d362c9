//! Whether a command may run: the only place that asks. What a command touches follows from its row in the table; what
//! cannot be told from the row is told here.

use std::borrow::Cow;
use std::str;
use std::sync::OnceLock;

use bytes::Bytes;
use pugdb::rights::{Access as Right, Action, Categories, Denial, KeyUse, Request};

use super::Found;
use super::introspection::categories;
use super::keys::named_databases;
use super::need_integer_in;
use super::table::{Access, Command, Flag, LATER, TABLE};
use crate::arguments::is;
use crate::denials::{Object, Reason};
use crate::failure::Failure;
use crate::identity::Sight;
use crate::limits::DATABASES;
use crate::session::Session;
use crate::shared::KEYSPACES;

/// What a command wants to do.
pub(super) struct Asked<'a> {
    name: Cow<'static, str>,
    categories: Categories,
    keyspaces: Vec<&'a str>,
    keys: Vec<KeyUse<'a>>,
    whole: Option<Right>,
}

/// Commands that write a key and tell no value, though their rows say that they look at it. As in Redis they tell whether there was one, or how
/// long it is.
const WRITE_ONLY: &[&str] =
    &["append", "expire", "expireat", "persist", "pexpire", "pexpireat", "setnx", "setrange"];

/// Commands whose argument is the name of a keyspace.
const KEYSPACE_NAMED: &[&str] = &["pugdb|erase-keyspace", "pugdb|hold-keyspace", "pugdb|release-keyspace"];

fn keyspace(database: usize) -> &'static str {
    KEYSPACES.get(database).copied().unwrap_or_default()
}

/// What becomes of keys at a place in the table.
fn right(command: &str, access: Access, arguments: &[Bytes]) -> Right {
    match access {
        Access::Read => Right::Read,
        Access::Overwrite | Access::Remove => Right::Write,
        Access::Update if WRITE_ONLY.contains(&command) => Right::Write,
        // Only its GET tells what was there. A subject of that name asks for more than it needs.
        Access::Update if command == "set" && !arguments.iter().skip(3).any(|word| is(word, "get")) => {
            Right::Write
        }
        Access::Update => Right::ReadWrite,
    }
}

impl<'a> Asked<'a> {
    /// What a request would touch from a database.
    pub(super) fn of(found: Found, arguments: &'a [Bytes], database: usize) -> Self {
        let command = found.command;
        let name = action_name(command);
        let named = || named_databases(command.name, arguments);
        let touches = !command.keys.is_empty()
            || [Flag::Write, Flag::Readonly, Flag::Whole].iter().any(|flag| command.has(*flag));
        let databases: Vec<usize> = match command.name {
            // A subject has values anywhere.
            "flushall" | "pugdb|erase-subject" => (0..DATABASES).collect(),
            "swapdb" => named(),
            "select" => need_integer_in(arguments.get(1), DATABASES).into_iter().collect(),
            _ if touches => vec![database],
            _ => Vec::new(),
        };
        let whole = match command.name {
            "flushall" | "flushdb" | "pugdb|erase-subject" | "pugdb|erase-keyspace" => Some(Right::Write),
            "swapdb" => Some(Right::ReadWrite),
            _ => None,
        };
        let here = keyspace(database);
        // A copy and a move end in the database that they name.
        let there = match command.name {
            "copy" | "move" => named().last().map_or(here, |database| keyspace(*database)),
            _ => here,
        };
        let mut keys = Vec::new();
        for (place, places) in command.keys.iter().enumerate() {
            let access = right(command.name, places.access, arguments);
            let keyspace = if place == 0 { here } else { there };
            keys.extend(places.of(arguments).map(|key| KeyUse { keyspace, key, access }));
        }
        if command.name == "move" {
            let moved = keys.first().map(|key| KeyUse { keyspace: there, access: Right::Write, ..*key });
            keys.extend(moved);
        }
        let named = arguments.get(2).filter(|_| KEYSPACE_NAMED.contains(&command.name));
        let named = named.map(|name| str::from_utf8(name).unwrap_or_default());
        let keyspaces = databases.into_iter().map(|database| keyspace(database)).chain(named).collect();
        Self { name, categories: category_set(command), keyspaces, keys, whole }
    }

    pub(super) fn request(&self) -> Request<'_> {
        Request {
            action: Action { name: &self.name, categories: self.categories },
            keyspaces: &self.keyspaces,
            keys: &self.keys,
            whole: self.whole,
            channels: &[],
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The key that is missing.
    pub(super) fn key(&self, place: usize) -> Option<&'a [u8]> {
        if self.whole.is_some() { None } else { self.keys.get(place).map(|key| key.key) }
    }
}

/// `HELP` of a container is the part of it that has no row.
fn action_name(command: &'static Command) -> Cow<'static, str> {
    if command.subcommands().is_empty() {
        Cow::Borrowed(command.name)
    } else {
        Cow::Owned(format!("{}|help", command.name))
    }
}

/// The categories of a command, worked out once.
pub(super) fn category_set(command: &Command) -> Categories {
    static SETS: OnceLock<std::collections::HashMap<&'static str, Categories>> = OnceLock::new();
    let all = || TABLE.iter().flat_map(|command| std::iter::once(command).chain(command.subcommands()));
    let set_of = |command: &Command| {
        let names =
            categories(command).into_iter().filter_map(|name| Categories::named(name.strip_prefix('@')?));
        names.fold(Categories::NONE, Categories::and)
    };
    let sets = SETS.get_or_init(|| all().map(|command| (command.name, set_of(command))).collect());
    sets.get(command.name).copied().unwrap_or_default()
}

/// The action of a command in the table.
pub(super) fn action(name: &'static str) -> Action<'static> {
    let command = TABLE.iter().flat_map(|command| std::iter::once(command).chain(command.subcommands()));
    let found = command.into_iter().find(|command| command.name == name);
    Action { name, categories: found.map(category_set).unwrap_or_default() }
}

/// Whether rules of [rights](pugdb::rights) may be about this: a command in lower case, one behind a container, or one of
/// Redis that comes later.
///
/// ```
/// assert!(pugdb_server::knows_action("config|set") && !pugdb_server::knows_action("nonsense"));
/// ```
pub fn knows_action(name: &str) -> bool {
    let (container, part) = name.split_once('|').map_or((name, None), |(name, part)| (name, Some(part)));
    let Some((_, command)) = Command::find(container.as_bytes()).filter(|(_, found)| found.name == container)
    else {
        return part.is_none() && LATER.contains(&name);
    };
    let subcommands = command.subcommands();
    part.is_none_or(|part| {
        !subcommands.is_empty()
            && (part == "help" || subcommands.iter().any(|subcommand| subcommand.short_name() == part))
    })
}

/// What a command that looks around may show of a database.
pub(super) fn sight(session: &Session, name: &'static str) -> Sight {
    session.identity.sight(action(name), keyspace(session.database))
}

/// Whether a command may run at all, whatever it is about.
pub(super) fn may_begin(session: &Session, command: &'static Command) -> bool {
    let name = action_name(command);
    let action = Action { name: &name, categories: category_set(command) };
    let request = Request { action, keyspaces: &[], keys: &[], whole: None, channels: &[] };
    session.identity.may_do_everything() || session.identity.check(&request).is_ok()
}

/// Refuses what the connection's user may not do, and notes it.
pub(super) fn check(
    session: &Session,
    found: Found,
    arguments: &[Bytes],
    database: usize,
) -> Result<(), Failure> {
    refused(session, found, arguments, database, |denial, asked| {
        let (user, command) = (session.identity.name(), asked.name());
        match denial {
            Denial::Action => Failure::owned(format!(
                "NOPERM User {user} has no permissions to run the '{command}' command"
            )),
            Denial::Keyspace => Failure::new("NOPERM No permissions to access a database"),
            Denial::Key(_) => Failure::new("NOPERM No permissions to access a key"),
            Denial::Channel(_) => Failure::new("NOPERM No permissions to access a channel"),
        }
    })
}

/// Refuses a queued command whose right has gone since, in the words of Redis.
pub(super) fn check_again(session: &Session, found: Found, arguments: &[Bytes]) -> Result<(), Failure> {
    refused(session, found, arguments, session.database, |denial, _| {
        let reason = match denial {
            Denial::Action => "no permission to execute the command",
            Denial::Key(_) => "no permission to touch the specified keys",
            Denial::Channel(_) => {
                "no permission to access one of the channels used as arguments to the command"
            }
            Denial::Keyspace => "no permission",
        };
        no_longer(reason)
    })
}

/// What is said of a queued command whose database its connection did not get to.
pub(super) fn elsewhere() -> Failure {
    no_longer("its database was not selected")
}

fn no_longer(reason: &str) -> Failure {
    Failure::owned(format!(
        "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This \
         command is no longer allowed for the following reason: {reason}"
    ))
}

/// The check, and what is said of a denial.
fn refused(
    session: &Session,
    found: Found,
    arguments: &[Bytes],
    database: usize,
    say: impl FnOnce(Denial, &Asked<'_>) -> Failure,
) -> Result<(), Failure> {
    let identity = &session.identity;
    if found.has(Flag::NoAuth) || identity.may_do_everything() {
        return Ok(());
    }
    if !identity.is_known() {
        return Err(Failure::NO_AUTH);
    }
    let asked = Asked::of(found, arguments, database);
    let Err(denial) = identity.check(&asked.request()) else { return Ok(()) };
    let (reason, object) = match denial {
        Denial::Action => (Reason::Command, Object::Command(asked.name.clone())),
        Denial::Keyspace => (Reason::Keyspace, Object::Keyspace(keyspace(database))),
        Denial::Key(place) => {
            (Reason::Key, asked.key(place).map_or(Object::AllKeys, |key| Object::Key(key.len())))
        }
        Denial::Channel(_) => (Reason::Channel, Object::AllKeys),
    };
    session.note_denial(reason, object, identity.name());
    Err(say(denial, &asked))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Vec<String> {
        let words: Vec<Bytes> = line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
        let asked = Asked::of(super::super::find(&words).unwrap(), &words, 3);
        let access = |access| match access {
            Right::Read => "r",
            Right::Write => "w",
            Right::ReadWrite => "rw",
        };
        let keys = asked.keys.iter().map(|used| {
            format!("{}:{}:{}", access(used.access), used.keyspace, String::from_utf8_lossy(used.key))
        });
        let whole = asked.whole.map(|right| format!("all:{}", access(right)));
        let keyspaces = asked.keyspaces.iter().map(|&name| name.to_owned());
        [asked.name.clone().into_owned()].into_iter().chain(keyspaces).chain(keys).chain(whole).collect()
    }

    #[test]
    fn what_a_command_touches_follows_from_its_row() {
        let cases: &[(&str, &[&str])] = &[
            ("GET a", &["get", "db3", "r:db3:a"]),
            ("SET a 1", &["set", "db3", "w:db3:a"]),
            ("SET a 1 EX 5", &["set", "db3", "w:db3:a"]),
            ("SET get get", &["set", "db3", "w:db3:get"]),
            ("SET a 1 gEt", &["set", "db3", "rw:db3:a"]),
            ("GETEX a", &["getex", "db3", "rw:db3:a"]),
            ("GETDEL a", &["getdel", "db3", "rw:db3:a"]),
            ("GETSET a 1", &["getset", "db3", "rw:db3:a"]),
            ("INCR a", &["incr", "db3", "rw:db3:a"]),
            ("APPEND a 1", &["append", "db3", "w:db3:a"]),
            ("EXPIRE a 1", &["expire", "db3", "w:db3:a"]),
            ("SETBIT a 1 1", &["setbit", "db3", "rw:db3:a"]),
            ("BITFIELD a GET u8 0", &["bitfield", "db3", "rw:db3:a"]),
            ("DEL a b", &["del", "db3", "w:db3:a", "w:db3:b"]),
            ("MGET a b", &["mget", "db3", "r:db3:a", "r:db3:b"]),
            ("MSET a 1 b 2", &["mset", "db3", "w:db3:a", "w:db3:b"]),
            ("RENAME a b", &["rename", "db3", "rw:db3:a", "w:db3:b"]),
            ("COPY a b", &["copy", "db3", "r:db3:a", "w:db3:b"]),
            ("COPY a b DB 5", &["copy", "db3", "r:db3:a", "w:db5:b"]),
            ("COPY a b REPLACE DB 5", &["copy", "db3", "r:db3:a", "w:db5:b"]),
            ("MOVE a 5", &["move", "db3", "rw:db3:a", "w:db5:a"]),
            ("BITOP AND to a b", &["bitop", "db3", "w:db3:to", "r:db3:a", "r:db3:b"]),
            ("SWAPDB 1 2", &["swapdb", "db1", "db2", "all:rw"]),
            ("FLUSHDB", &["flushdb", "db3", "all:w"]),
            ("SELECT 7", &["select", "db7"]),
            ("SELECT x", &["select"]),
            ("OBJECT ENCODING a", &["object|encoding", "db3", "r:db3:a"]),
            ("MEMORY USAGE a", &["memory|usage", "db3", "r:db3:a"]),
            ("DUMP a", &["dump", "db3", "r:db3:a"]),
            ("WATCH a b", &["watch", "db3", "r:db3:a", "r:db3:b"]),
            ("KEYS *", &["keys", "db3"]),
            ("SCAN 0", &["scan", "db3"]),
            ("PING", &["ping"]),
            ("COMMAND", &["command|info"]),
            ("COMMAND HELP", &["command|help"]),
            ("ACL HELP", &["acl|help"]),
            ("CONFIG GET x", &["config|get"]),
            ("SET a 1 SUBJECT ada", &["set", "db3", "w:db3:a"]),
            ("SET a 1 SUBJECT subject GET", &["set", "db3", "rw:db3:a"]),
            ("PUGDB ERASE-KEYSPACE orders", &["pugdb|erase-keyspace", "orders", "all:w"]),
            ("PUGDB HOLD-KEYSPACE db5", &["pugdb|hold-keyspace", "db5"]),
            ("PUGDB HOLD-SUBJECT db5", &["pugdb|hold-subject"]),
            ("PUGDB KEY-REWRITE 5", &["pugdb|key-rewrite"]),
        ];
        for (line, expected) in cases {
            assert_eq!(asked(line), *expected, "{line}");
        }
        assert_eq!(asked("FLUSHALL").len(), 1 + DATABASES + 1);
        assert_eq!(asked("PUGDB ERASE-SUBJECT ada").len(), 1 + DATABASES + 1);
    }

    #[test]
    fn rules_may_be_about_every_command_and_about_nothing_else() {
        for command in TABLE.iter().flat_map(|command| std::iter::once(command).chain(command.subcommands()))
        {
            assert!(knows_action(command.name), "{}", command.name);
            assert_eq!(action(command.name).categories, category_set(command));
            assert!(category_set(command) != Categories::NONE);
        }
        assert!(knows_action("acl|help") && knows_action("hset") && knows_action("eval"));
        for name in ["", "nonsense", "get|a", "config|nonsense", "config|", "GET", "hset|a", "|"] {
            assert!(!knows_action(name), "{name}");
        }
    }
}
