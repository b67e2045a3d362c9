//! The commands of the shell: one table for names, help, completion and what is run.

use std::ops::Bound;

use pugdb::{Change, EntryOptions, KeyRange, Keyspace, Timestamp};
use pugdb_wire::resp::Reply;
use serde_json::json;

use super::render::{render, to_json};
use super::session::Session;
use super::table;
use crate::outcome::{Exit, Failure};
use crate::output::{Answer, Format, answer, answer_json};
use crate::remote::PutOptions;
use crate::report;
use crate::scan::{Query, Row, write_json};
use crate::target::Place;
use crate::text::{escaped, human_bytes};

/// Entries that `scan` shows to a person who names no number.
const SHOWN_ENTRIES: usize = 50;
/// As `put --expire-ms` has it.
const EXPIRE_MS_MAX: u64 = 100_000_000_000_000;

/// A word list: the arguments of a command.
type Words = [Vec<u8>];

/// A command.
pub(super) struct ShellCommand {
    pub(super) name: &'static str,
    pub(super) arguments: &'static str,
    pub(super) summary: &'static str,
    /// More than the summary, for `help COMMAND`.
    more: &'static str,
    /// How many arguments it takes.
    takes: (usize, usize),
    pub(super) completes: Completes,
    run: fn(&mut Session, &Words) -> Result<(), Failure>,
}

/// What the arguments of a command are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Completes {
    Nothing,
    /// The first one is a key.
    Key,
    /// All of them are keys.
    Keys,
    Keyspace,
    Command,
}

/// What comes after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Next,
    End,
}

pub(super) static COMMANDS: &[ShellCommand] = &[
    ShellCommand {
        name: "get",
        arguments: "KEY",
        summary: "print a value",
        more: "A value that is not printable UTF-8 appears with \\xNN. A key that does not exist is a failure (code 1).",
        takes: (1, 1),
        completes: Completes::Key,
        run: get,
    },
    ShellCommand {
        name: "put",
        arguments: "KEY VALUE [ex SECONDS | px MILLISECONDS] [subject NAME]",
        summary: "set a key",
        more: "ex and px say when it is gone; subject says whom it is about, and it goes when they are erased. A line that begins with a blank is not kept in the history.",
        takes: (2, 6),
        completes: Completes::Key,
        run: put,
    },
    ShellCommand {
        name: "delete",
        arguments: "KEY…",
        summary: "remove keys; prints how many there were",
        more: "",
        takes: (1, usize::MAX),
        completes: Completes::Keys,
        run: delete,
    },
    ShellCommand {
        name: "delete-range",
        arguments: "FROM [TO]",
        summary: "remove the keys from FROM on and before TO, in one step",
        more: "Without TO all that follow. \"\" is the first key there can be. A server has no such command.",
        takes: (1, 2),
        completes: Completes::Keys,
        run: delete_range,
    },
    ShellCommand {
        name: "exists",
        arguments: "KEY…",
        summary: "print how many of the keys exist",
        more: "",
        takes: (1, usize::MAX),
        completes: Completes::Keys,
        run: exists,
    },
    ShellCommand {
        name: "scan",
        arguments: "[PREFIX] [limit COUNT] [reverse] [keys]",
        summary: "print the entries whose keys begin so, in order",
        more: "A person sees a table of 50 at most, unless limit says another number; a script gets a line each, all of them.",
        takes: (0, 5),
        completes: Completes::Key,
        run: scan,
    },
    ShellCommand {
        name: "count",
        arguments: "[PREFIX]",
        summary: "print how many keys there are, or how many begin so",
        more: "It walks through all of them.",
        takes: (0, 1),
        completes: Completes::Key,
        run: count,
    },
    ShellCommand {
        name: "ttl",
        arguments: "KEY",
        summary: "print the seconds until a key is gone; -1 for never",
        more: "",
        takes: (1, 1),
        completes: Completes::Key,
        run: ttl,
    },
    ShellCommand {
        name: "expire",
        arguments: "KEY SECONDS",
        summary: "let a key be gone after so many seconds",
        more: "",
        takes: (2, 2),
        completes: Completes::Key,
        run: expire,
    },
    ShellCommand {
        name: "persist",
        arguments: "KEY",
        summary: "let a key stay",
        more: "",
        takes: (1, 1),
        completes: Completes::Key,
        run: persist,
    },
    ShellCommand {
        name: "use",
        arguments: "KEYSPACE",
        summary: "work on another keyspace",
        more: "With --data the first put makes it, if there is none. A server has db0 to db15.",
        takes: (1, 1),
        completes: Completes::Keyspace,
        run: choose,
    },
    ShellCommand {
        name: "keyspaces",
        arguments: "",
        summary: "print the names of the keyspaces",
        more: "",
        takes: (0, 0),
        completes: Completes::Nothing,
        run: keyspaces,
    },
    ShellCommand {
        name: "stats",
        arguments: "",
        summary: "print sizes and counts",
        more: "",
        takes: (0, 0),
        completes: Completes::Nothing,
        run: stats,
    },
    ShellCommand {
        name: "help",
        arguments: "[COMMAND]",
        summary: "print the commands, or more about one",
        more: "",
        takes: (0, 1),
        completes: Completes::Command,
        run: help,
    },
    ShellCommand {
        name: "exit",
        arguments: "",
        summary: "end the shell, as Ctrl-D and quit do",
        more: "",
        takes: (0, 0),
        completes: Completes::Nothing,
        run: |_, _| Ok(()),
    },
];

pub(super) fn find(name: &[u8]) -> Option<&'static ShellCommand> {
    let name = if name == b"quit" { b"exit" } else { name };
    COMMANDS.iter().find(|command| command.name.as_bytes() == name)
}

/// Runs a command, whose words there is at least one of.
pub(super) fn run(session: &mut Session, words: &Words) -> Result<Flow, Failure> {
    let Some((name, arguments)) = words.split_first() else { return Ok(Flow::Next) };
    session.refresh()?;
    let Some(command) = find(name) else {
        return if session.local().is_some() {
            Err(unknown(name))
        } else {
            pass_through(session, words).map(|()| Flow::Next)
        };
    };
    let (least, most) = command.takes;
    if !(least..=most).contains(&arguments.len()) {
        return Err(Failure::usage(usage(command)));
    }
    (command.run)(session, arguments)?;
    Ok(if command.name == "exit" { Flow::End } else { Flow::Next })
}

fn usage(command: &ShellCommand) -> String {
    format!("write it as: {} {}", command.name, command.arguments).trim_end().to_owned()
}

fn unknown(name: &[u8]) -> Failure {
    let given = String::from_utf8_lossy(name).to_lowercase();
    let likeness = |command: &ShellCommand| strsim::normalized_damerau_levenshtein(&given, command.name);
    let near = COMMANDS
        .iter()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .filter(|command| likeness(command) >= 0.6);
    Failure::usage(match near {
        Some(near) => format!("there is no such command; did you mean {}?", near.name),
        None => "there is no such command; `help` prints those there are".to_owned(),
    })
}

/// Sends the words to the server as they are.
fn pass_through(session: &mut Session, words: &Words) -> Result<(), Failure> {
    let format = session.format;
    let Some(remote) = session.remote() else { return Ok(()) };
    let is =
        |number: usize, text: &[u8]| words.get(number).is_some_and(|word| word.eq_ignore_ascii_case(text));
    if is(0, b"client") && is(1, b"reply") && !is(2, b"on") {
        return Err(Failure::usage("without replies the shell would wait for ever; it does not send this"));
    }
    let request: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    let reply = remote.exchange(&request)?;
    match (&reply, format) {
        (_, Format::Json) => answer_json(&to_json(&reply))?,
        // Printed as redis-cli does, where a person looks for an answer.
        _ => answer(&render(&reply))?,
    }
    // The words are told already.
    if matches!(reply, Reply::Error(_)) { Err(Failure::new(Exit::Unavailable, "")) } else { Ok(()) }
}

fn no_such_key() -> Failure {
    Failure::new(Exit::NotFound, "there is no such key")
}

/// The keyspace for reading; `None` when it is not there yet.
fn readable(session: &Session) -> Result<Option<Keyspace>, Failure> {
    match session.local() {
        Some(local) => Ok(local.db.existing_keyspace(&local.keyspace)?),
        None => Ok(None),
    }
}

fn get(session: &mut Session, words: &Words) -> Result<(), Failure> {
    let key = &words[0];
    let (value, expires_at_ms, meta) = match &mut session.place {
        Place::Remote(remote) => {
            let value = remote.get(key)?.ok_or_else(no_such_key)?;
            let with_expiry = session.format == Format::Json;
            (value, if with_expiry { remote.expires_at_ms(key)? } else { None }, 0)
        }
        Place::Local(_) => {
            let entry = readable(session)?
                .map_or(Ok(None), |keyspace| keyspace.get_entry(key))?
                .ok_or_else(no_such_key)?;
            (entry.value.into_bytes(), entry.expires_at.map(|at| at.0), entry.meta)
        }
    };
    match session.format {
        Format::Text => answer(&escaped(&value)),
        Format::Json => print_row(&Row { key, value: Some(&value), expires_at_ms, meta }),
    }
}

fn print_row(row: &Row<'_>) -> Result<(), Failure> {
    let mut line = Vec::new();
    write_json(row, &mut line);
    let mut stdout = Answer::new();
    stdout.write(&line)?;
    stdout.finish()
}

fn number(word: &[u8], what: &str, most: u64) -> Result<u64, Failure> {
    let number = std::str::from_utf8(word).ok().and_then(|text| text.parse().ok());
    number
        .filter(|number| (1..=most).contains(number))
        .ok_or_else(|| Failure::usage(format!("{what} is a whole number from 1 to {most}")))
}

fn put_options(mut words: &[Vec<u8>]) -> Result<PutOptions<'_>, Failure> {
    let mut options = PutOptions::default();
    while let [word, value, after @ ..] = words {
        words = after;
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        if is("subject") && options.subject.is_none() {
            let name = std::str::from_utf8(value);
            options.subject = Some(name.map_err(|_| Failure::usage("the name of a subject is text"))?);
        } else if is("ex") && options.expire_ms.is_none() {
            let seconds = number(value, "the number of seconds", EXPIRE_MS_MAX / 1_000)?;
            options.expire_ms = Some(seconds * 1_000);
        } else if is("px") && options.expire_ms.is_none() {
            options.expire_ms = Some(number(value, "the number of milliseconds", EXPIRE_MS_MAX)?);
        } else {
            return Err(Failure::usage(PUT));
        }
    }
    if words.is_empty() { Ok(options) } else { Err(Failure::usage(PUT)) }
}

const PUT: &str = "write it as: put KEY VALUE [ex SECONDS | px MILLISECONDS] [subject NAME]";

fn put(session: &mut Session, words: &Words) -> Result<(), Failure> {
    let options = put_options(&words[2..])?;
    match &mut session.place {
        Place::Remote(remote) => remote.put(&words[0], &words[1], &options)?,
        Place::Local(local) => {
            let expires_at = options.expire_ms.map(|ms| local.db.now().plus_ms(ms));
            let seal = options.subject.map(|name| local.db.subject(name)).transpose()?;
            let options = EntryOptions { expires_at, seal, ..EntryOptions::default() };
            local.for_writing()?.put_with(&words[0], &words[1], options)?;
        }
    }
    done(session)
}

/// A person wants to see that something happened.
fn done(session: &Session) -> Result<(), Failure> {
    if session.is_interactive && session.format == Format::Text { answer("OK") } else { Ok(()) }
}

fn tell_count(session: &Session, name: &str, count: u64) -> Result<(), Failure> {
    match session.format {
        Format::Text => answer(&count.to_string()),
        Format::Json => answer_json(&json!({ name: count })),
    }
}

fn delete(session: &mut Session, words: &Words) -> Result<(), Failure> {
    let deleted = match &mut session.place {
        Place::Remote(remote) => remote.count(&request(b"DEL", words))?,
        Place::Local(_) => {
            let Some(keyspace) = readable(session)? else { return tell_count(session, "deleted", 0) };
            let mut deleted = 0;
            for key in words {
                deleted += u64::from(keyspace.update(key, |old| {
                    let change = if old.is_some() { Change::Delete } else { Change::Keep };
                    Ok((change, old.is_some()))
                })?);
            }
            deleted
        }
    };
    tell_count(session, "deleted", deleted)
}

fn delete_range(session: &mut Session, words: &Words) -> Result<(), Failure> {
    if session.remote().is_some() {
        return Err(Failure::usage("a server deletes no ranges; name the data with --data"));
    }
    let Some(keyspace) = readable(session)? else { return done(session) };
    let end = words.get(1).map_or(Bound::Unbounded, |end| Bound::Excluded(end.clone()));
    keyspace.delete_range(KeyRange { start: Bound::Included(words[0].clone()), end })?;
    done(session)
}

fn exists(session: &mut Session, words: &Words) -> Result<(), Failure> {
    let found = match &mut session.place {
        Place::Remote(remote) => remote.count(&request(b"EXISTS", words))?,
        Place::Local(_) => {
            let Some(keyspace) = readable(session)? else { return tell_count(session, "exists", 0) };
            let found = words.iter().map(|key| keyspace.exists(key)).collect::<Result<Vec<_>, _>>()?;
            found.into_iter().map(u64::from).sum()
        }
    };
    tell_count(session, "exists", found)
}

fn request<'a>(name: &'a [u8], words: &'a Words) -> Vec<&'a [u8]> {
    [name].into_iter().chain(words.iter().map(Vec::as_slice)).collect()
}

fn scan(session: &mut Session, words: &Words) -> Result<(), Failure> {
    let (mut query, limit) = scan_query(words)?;
    query.with_expiry = session.format == Format::Json;
    let as_table = session.is_interactive && session.format == Format::Text;
    let shown = limit.unwrap_or(if as_table { SHOWN_ENTRIES } else { usize::MAX });
    // One more tells whether there are more.
    query.limit = shown.saturating_add(1);
    let (interrupt, format) = (session.interrupt.clone(), session.format);
    if session.local().is_some() && readable(session)?.is_none() {
        return Ok(());
    }
    let mut stdout = Answer::new();
    let mut rows = Vec::new();
    let (mut line, mut count) = (Vec::new(), 0);
    query.run(&mut session.place, &mut |row| {
        interrupt.check()?;
        count += 1;
        if count > shown {
            return Ok(());
        }
        if as_table {
            rows.push([escaped(row.key), row.value.map(escaped).unwrap_or_default()]);
            return Ok(());
        }
        line.clear();
        if format == Format::Json {
            write_json(row, &mut line);
        } else {
            line.extend_from_slice(escaped(row.key).as_bytes());
            if let Some(value) = row.value {
                line.push(b'\t');
                line.extend_from_slice(escaped(value).as_bytes());
            }
            line.push(b'\n');
        }
        stdout.write(&line)
    })?;
    if as_table {
        let heads = if query.keys_only { ["key", ""] } else { ["key", "value"] };
        table::print(&mut stdout, heads, &rows, &interrupt)?;
        if count > shown {
            stdout.line(&format!("… and more; `limit COUNT` shows more than {shown}"))?;
        }
    }
    stdout.finish()
}

/// `[PREFIX] [limit COUNT] [reverse] [keys]`. A prefix that reads like one of the words comes first.
fn scan_query(words: &Words) -> Result<(Query, Option<usize>), Failure> {
    let is_word = |word: &[u8]| matches!(word, b"limit" | b"reverse" | b"keys");
    let (prefix, mut rest) = match words {
        [prefix, rest @ ..] if !is_word(prefix) => (prefix.as_slice(), rest),
        words => (&b""[..], words),
    };
    let mut query = Query::of_prefix(prefix);
    let mut limit = None;
    while let [word, after @ ..] = rest {
        rest = after;
        match word.as_slice() {
            b"reverse" => query.reverse = true,
            b"keys" => query.keys_only = true,
            b"limit" if !after.is_empty() => {
                let count = number(&after[0], "the limit", 1 << 40)?;
                limit = Some(usize::try_from(count).unwrap_or(usize::MAX));
                rest = &after[1..];
            }
            _ => return Err(Failure::usage("write it as: scan [PREFIX] [limit COUNT] [reverse] [keys]")),
        }
    }
    Ok((query, limit))
}

fn count(session: &mut Session, words: &Words) -> Result<(), Failure> {
    let prefix = words.first().map(Vec::as_slice).unwrap_or_default();
    if prefix.is_empty()
        && let Some(remote) = session.remote()
    {
        let count = remote.count(&[b"DBSIZE"])?;
        return tell_count(session, "count", count);
    }
    let mut count = 0;
    let interrupt = session.interrupt.clone();
    match &mut session.place {
        Place::Remote(_) => {
            let query = Query { keys_only: true, ..Query::of_prefix(prefix) };
            query.run(&mut session.place, &mut |_| {
                interrupt.check()?;
                count += 1;
                Ok(())
            })?;
        }
        Place::Local(_) => {
            if let Some(keyspace) = readable(session)? {
                for entry in keyspace.scan(KeyRange::prefix(prefix)) {
                    entry?;
                    session.check_interrupt()?;
                    count += 1;
                }
            }
        }
    }
    tell_count(session, "count", count)
}

fn ttl(session: &mut Session, words: &Words) -> Result<(), Failure> {
    let seconds = match &mut session.place {
        Place::Remote(remote) => match remote.ask(&[b"TTL", &words[0]])? {
            Reply::Integer(-2) => return Err(no_such_key()),
            Reply::Integer(seconds) => seconds,
            _ => {
                return Err(Failure::new(
                    Exit::Unavailable,
                    "the server answered TTL in a way that is not known here",
                ));
            }
        },
        Place::Local(local) => {
            let keyspace = local.db.existing_keyspace(&local.keyspace)?.ok_or_else(no_such_key)?;
            let entry = keyspace.get_entry(&words[0])?.ok_or_else(no_such_key)?;
            // Rounded, as Redis does.
            let left = |at: Timestamp| (at.0.saturating_sub(local.db.now().0).saturating_add(500)) / 1_000;
            entry.expires_at.map_or(-1, |at| i64::try_from(left(at)).unwrap_or(i64::MAX))
        }
    };
    match session.format {
        Format::Text => answer(&seconds.to_string()),
        Format::Json => answer_json(&json!({ "ttl_seconds": (seconds >= 0).then_some(seconds) })),
    }
}

/// Gives a key another expiry; it has to be there.
fn set_expiry(session: &Session, key: &[u8], in_ms: Option<u64>) -> Result<(), Failure> {
    let Some(local) = session.local() else { return Ok(()) };
    let keyspace = local.db.existing_keyspace(&local.keyspace)?.ok_or_else(no_such_key)?;
    let expires_at = Some(in_ms.map_or(Timestamp::NEVER, |ms| local.db.now().plus_ms(ms)));
    let existed = keyspace.update(key, |old| {
        let change = old.map_or(Change::Keep, |entry| {
            Change::Put(entry.value.to_vec(), EntryOptions { expires_at, ..EntryOptions::of(entry) })
        });
        Ok((change, old.is_some()))
    })?;
    if existed { Ok(()) } else { Err(no_such_key()) }
}

fn expire(session: &mut Session, words: &Words) -> Result<(), Failure> {
    let seconds = number(&words[1], "the number of seconds", EXPIRE_MS_MAX / 1_000)?;
    match session.remote() {
        Some(remote) => {
            if remote.count(&[b"EXPIRE", &words[0], seconds.to_string().as_bytes()])? == 0 {
                return Err(no_such_key());
            }
        }
        None => set_expiry(session, &words[0], Some(seconds * 1_000))?,
    }
    done(session)
}

fn persist(session: &mut Session, words: &Words) -> Result<(), Failure> {
    match session.remote() {
        Some(remote) => {
            // 0 is also the answer for a key that has no expiry.
            if remote.count(&[b"PERSIST", &words[0]])? == 0 && remote.count(&[b"EXISTS", &words[0]])? == 0 {
                return Err(no_such_key());
            }
        }
        None => set_expiry(session, &words[0], None)?,
    }
    done(session)
}

fn choose(session: &mut Session, words: &Words) -> Result<(), Failure> {
    let name =
        std::str::from_utf8(&words[0]).map_err(|_| Failure::usage("the name of a keyspace is UTF-8"))?;
    session.choose(name)
}

fn keyspaces(session: &mut Session, _: &Words) -> Result<(), Failure> {
    let chosen = session.keyspace();
    let mut stdout = Answer::new();
    for name in session.keyspaces()? {
        match session.format {
            Format::Json => stdout.json(&json!({ "keyspace": name, "in_use": name == chosen }))?,
            Format::Text if session.is_interactive && name == chosen => {
                stdout.line(&format!("{name}  (in use)"))?;
            }
            Format::Text => stdout.line(&name)?,
        }
    }
    stdout.finish()
}

fn stats(session: &mut Session, _: &Words) -> Result<(), Failure> {
    if let Some(remote) = session.remote() {
        let info = remote.info()?;
        return match session.format {
            Format::Json => answer_json(&report::info_object(&info)),
            Format::Text => answer(escaped_lines(&info).trim_end()),
        };
    }
    let Some(local) = session.local() else { return Ok(()) };
    if session.format == Format::Json {
        return answer_json(&report::stats_object(local, false)?);
    }
    let mut stdout = Answer::new();
    let mut rows = report::stats_rows(local, false)?;
    rows.push(["memory".to_owned(), human_bytes(local.db.memory_bytes() as u64)]);
    if session.is_interactive {
        table::print(&mut stdout, ["what", "how much"], &rows, &session.interrupt)?;
    } else {
        for [name, value] in rows {
            stdout.line(&format!("{name}: {value}"))?;
        }
    }
    stdout.finish()
}

fn escaped_lines(text: &str) -> String {
    text.lines().map(|line| escaped(line.as_bytes())).collect::<Vec<_>>().join("\n")
}

fn help(session: &mut Session, words: &Words) -> Result<(), Failure> {
    let mut stdout = Answer::new();
    if let Some(name) = words.first() {
        let command = find(name).ok_or_else(|| unknown(name))?;
        stdout.line(&usage(command).replacen("write it as: ", "", 1))?;
        stdout.line(&format!("  {}", command.summary))?;
        if !command.more.is_empty() {
            stdout.line(&format!("  {}", command.more))?;
        }
        return stdout.finish();
    }
    let rows: Vec<[String; 2]> = COMMANDS
        .iter()
        .map(|command| [format!("{} {}", command.name, command.arguments), command.summary.to_owned()])
        .collect();
    stdout.table(&rows)?;
    stdout.line("")?;
    stdout.line("\"a b\" and 'a b' are one word; \"\\x00\\n\" is spelled so. A quote that is open, or a \\ at the end, goes on in the")?;
    stdout.line("next line. What begins with # is a comment. A line that begins with a blank is not kept in the history.")?;
    if session.remote().is_some() {
        stdout.line(
            "Any other word, and any in capitals, goes to the server as it is: SET a 1, INCR n, GET a.",
        )?;
    }
    stdout.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_scan() {
        let query = |line: &str| {
            let words: Vec<Vec<u8>> = line.split_whitespace().map(|word| word.as_bytes().to_vec()).collect();
            scan_query(&words).map(|(query, limit)| (query.prefix, limit, query.reverse, query.keys_only))
        };
        assert_eq!(query(""), Ok((Vec::new(), None, false, false)));
        assert_eq!(query("user: limit 7 reverse keys"), Ok((b"user:".to_vec(), Some(7), true, true)));
        assert_eq!(query("keys"), Ok((Vec::new(), None, false, true)));
        for line in ["a b", "a limit", "a limit 0", "a limit x", "a reverse b"] {
            assert!(query(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_near_name_is_suggested() {
        assert!(unknown(b"gte").message.contains("did you mean get?"));
        assert!(unknown(b"GET").message.contains("did you mean get?"));
        assert!(unknown(b"frobnicate").message.contains("`help`"));
        assert!(find(b"quit").is_some_and(|command| command.name == "exit") && find(b"GET").is_none());
    }
}
