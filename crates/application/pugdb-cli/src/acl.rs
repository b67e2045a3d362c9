//! `acl`: users, roles and what they may do; through a server, or in the files of a database that nobody serves.

use std::path::PathBuf;

use bytes::Bytes;
use clap::{Args, Subcommand};
use pugdb::rights::{Rights, WordError, joined_words, token_word};
use pugdb_server::knows_action;
use pugdb_wire::resp::Reply;
use serde_json::json;
use zeroize::Zeroizing;

use crate::arguments::Target;
use crate::outcome::{Exit, Failure};
use crate::output::{self, Answer, Format, answer_json};
use crate::password;
use crate::remote::Remote;
use crate::target::{Access, Local, Place};
use crate::text::{escaped, hex};

/// A name that begins so is a role's.
const ROLE: &str = "role:";
/// What nobody can guess.
const TOKEN_BYTES: usize = 32;

/// Show and change users, roles and what they may do
#[derive(Args, Debug)]
#[command(after_help = "\
Users are in the database. Through --url a server changes them, and its rules count at once; with --data the files of a
database are changed that no server has open, by whoever may write them and knows the root key: the way back when nobody
can log in any more.

The words are those of ACL SETUSER: on, off, ~pattern, %R~pattern, +command, -@category, keyspace:db0, role:NAME, and so
on. A user whose name begins with role: is a role, which others can have. Flags stand before the words.

Examples:
  pugdb acl list
  pugdb acl set --new-password-file ada.txt ada on '~cache:*' +@read +set
  pugdb acl set --new-password-file default.txt default     nobody without a password any more
  pugdb acl set role:reader '~*' +@read -@dangerous
  pugdb acl token metrics --url redis://127.0.0.1:7379 --user ada
  pugdb acl del ada
  pugdb acl log --url redis://127.0.0.1:7379 --user ada")]
pub(crate) struct AclArguments {
    #[command(subcommand)]
    command: AclCommand,
}

#[derive(Debug, Subcommand)]
enum AclCommand {
    /// Print every user and role as the words that make it
    List(AclTarget),
    /// Print one user or role as the words that make it
    Get(NameArguments),
    /// Make or change a user or a role
    Set(SetArguments),
    /// Remove a user or a role
    Del(NameArguments),
    /// Give a user a new token, and print it: this once, for it is kept nowhere
    Token(NameArguments),
    /// Print who one is on a server
    Whoami(AclTarget),
    /// Print what a server has refused
    Log(AclTarget),
}

#[derive(Args, Debug)]
struct AclTarget {
    #[command(flatten)]
    target: Target,
}

#[derive(Args, Debug)]
struct NameArguments {
    /// The user, or role:NAME
    name: String,
    #[command(flatten)]
    target: Target,
}

#[derive(Args, Debug)]
struct SetArguments {
    /// The user, or role:NAME
    name: String,
    /// A new password is the first line of this file; - for stdin
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
    /// What to change; options come before it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WORD")]
    words: Vec<String>,
}

impl AclArguments {
    pub(crate) fn target_mut(&mut self) -> &mut Target {
        match &mut self.command {
            AclCommand::List(place) | AclCommand::Whoami(place) | AclCommand::Log(place) => &mut place.target,
            AclCommand::Get(named) | AclCommand::Del(named) | AclCommand::Token(named) => &mut named.target,
            AclCommand::Set(set) => &mut set.target,
        }
    }
}

pub(crate) fn acl(arguments: &AclArguments, format: Format) -> Result<Exit, Failure> {
    match &arguments.command {
        AclCommand::List(place) => list(&place.target, format),
        AclCommand::Get(named) => get(named, format),
        AclCommand::Set(arguments) => set(arguments),
        AclCommand::Del(named) => del(named),
        AclCommand::Token(named) => token(named, format),
        AclCommand::Whoami(place) => whoami(&place.target, format),
        AclCommand::Log(place) => log(&place.target, format),
    }
}

/// `user ada on ...`: kind, name and words, as `ACL LIST` has them.
fn lines(place: &mut Place) -> Result<Vec<Bytes>, Failure> {
    match place {
        Place::Remote(remote) => {
            let Reply::Array(lines) = remote.ask(&[b"ACL", b"LIST"])? else { return Err(unexpected("LIST")) };
            let bulk = |line| if let Reply::Bulk(line) = line { Some(line) } else { None };
            lines.into_iter().map(bulk).collect::<Option<_>>().ok_or_else(|| unexpected("LIST"))
        }
        Place::Local(local) => {
            let handle = local.db.rights()?;
            let rights = handle.current();
            let line = |kind: &str, name: &str, line: Vec<u8>| {
                Bytes::from([kind.as_bytes(), name.as_bytes(), b" ", &line].concat())
            };
            let users = rights.users().map(|user| line("user ", user.name(), user.to_line()));
            let roles = rights.roles().map(|(name, role)| line("role ", name, role.to_line()));
            Ok(users.chain(roles).collect())
        }
    }
}

fn unexpected(command: &str) -> Failure {
    Failure::new(
        Exit::Unavailable,
        format!("the server answered ACL {command} in a way that is not known here"),
    )
}

fn list(target: &Target, format: Format) -> Result<Exit, Failure> {
    let lines = lines(&mut target.open(Access::Existing)?)?;
    print(&lines, format)?;
    if lines.iter().any(|line| line.starts_with(b"user default on nopass ") && line.ends_with(b" +@all")) {
        output::note(
            "pugdb: the user default needs no password: whoever reaches the server may do what it may",
        );
    }
    Ok(Exit::Done)
}

fn print(lines: &[Bytes], format: Format) -> Result<(), Failure> {
    let mut stdout = Answer::new();
    for line in lines {
        let text = escaped(line);
        if format == Format::Text {
            stdout.line(&text)?;
            continue;
        }
        let mut parts = text.splitn(3, ' ');
        let mut part = || parts.next().unwrap_or_default().to_owned();
        stdout.json(&json!({ "kind": part(), "name": part(), "words": part() }))?;
    }
    stdout.finish()
}

/// How the line of a user or a role begins.
fn beginning(name: &str) -> String {
    name.strip_prefix(ROLE).map_or_else(|| format!("user {name} "), |role| format!("role {role} "))
}

fn not_there() -> Failure {
    Failure::new(Exit::NotFound, "there is no such user or role")
}

fn get(arguments: &NameArguments, format: Format) -> Result<Exit, Failure> {
    let lines = lines(&mut arguments.target.open(Access::Existing)?)?;
    let begin = beginning(&arguments.name);
    let found = lines.into_iter().find(|line| line.starts_with(begin.as_bytes())).ok_or_else(not_there)?;
    print(&[found], format)?;
    Ok(Exit::Done)
}

/// Lets words change a user or a role.
fn change(place: &mut Place, name: &str, words: &[Zeroizing<String>]) -> Result<(), Failure> {
    match place {
        Place::Remote(remote) => {
            let mut request: Vec<&[u8]> = vec![b"ACL", b"SETUSER", name.as_bytes()];
            request.extend(words.iter().map(|word| word.as_bytes()));
            remote.ask(&request).map(drop)
        }
        Place::Local(local) => change_local(local, name, words),
    }
}

fn change_local(local: &Local, name: &str, words: &[Zeroizing<String>]) -> Result<(), Failure> {
    let texts: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    let joined = joined_words(&texts).map_err(|_| Failure::usage("a parenthesis is not closed"))?;
    let rights = local.db.rights()?;
    let changed = rights.change(|rights, passwords| -> Result<(), (usize, WordError)> {
        let place = |number: usize| move |error| (number, error);
        if let Some(role) = name.strip_prefix(ROLE) {
            let role = rights.role_mut(role).map_err(place(0))?;
            let mut words = joined.iter().enumerate();
            words.try_for_each(|(number, word)| role.apply(word, &knows_action).map_err(place(number + 1)))
        } else {
            let user = rights.user_mut(name).map_err(place(0))?;
            let mut words = joined.iter().enumerate();
            words.try_for_each(|(number, word)| {
                user.apply(word, passwords, &knows_action).map_err(place(number + 1))
            })
        }
    })?;
    changed.map_err(|(number, error)| match number {
        0 => Failure::usage(format!("the name of the user or role: {error}")),
        number => Failure::usage(format!("word {number}: {error}")),
    })?;
    local.db.close()?;
    Ok(())
}

fn set(arguments: &SetArguments) -> Result<Exit, Failure> {
    // No word begins so, and what follows the first one is taken for words.
    if arguments.words.iter().any(|word| word.starts_with("--")) {
        return Err(Failure::usage(format!(
            "options come before the words: pugdb acl set {} --new-password-file FILE on ...",
            arguments.name
        )));
    }
    let mut words: Vec<Zeroizing<String>> = arguments.words.iter().cloned().map(Zeroizing::new).collect();
    if words.iter().any(|word| word.starts_with('>')) {
        output::note(
            "pugdb: everybody on this machine can see a password on a command line; use --new-password-file",
        );
    }
    if let Some(path) = &arguments.new_password_file {
        let password = password::from_file(path)?;
        words.insert(0, Zeroizing::new(format!(">{}", password.as_str())));
        // A user with a password and a way in without one is what nobody means.
        words.insert(0, Zeroizing::new("resetpass".to_owned()));
    }
    change(&mut arguments.target.open(Access::Existing)?, &arguments.name, &words)?;
    Ok(Exit::Done)
}

fn del(arguments: &NameArguments) -> Result<Exit, Failure> {
    let name = arguments.name.as_str();
    let is_gone = match arguments.target.open(Access::Existing)? {
        Place::Remote(mut remote) => remote.count(&[b"ACL", b"DELUSER", name.as_bytes()])? > 0,
        Place::Local(local) => {
            let remove = |rights: &mut Rights| match name.strip_prefix(ROLE) {
                Some(role) => rights.remove_role(role),
                None => rights.remove_user(name),
            };
            let gone = local.db.rights()?.change(|rights, _| Ok::<_, Failure>(remove(rights)))??;
            local.db.close()?;
            gone
        }
    };
    if is_gone { Ok(Exit::Done) } else { Err(not_there()) }
}

fn token(arguments: &NameArguments, format: Format) -> Result<Exit, Failure> {
    let mut place = arguments.target.open(Access::Existing)?;
    let secret = match &mut place {
        Place::Local(local) => hex(&local.db.rights()?.random(TOKEN_BYTES)),
        Place::Remote(remote) => genpass(remote)?,
    };
    let secret = Zeroizing::new(secret);
    let word = Zeroizing::new(token_word(secret.as_bytes()));
    change(&mut place, &arguments.name, &[word])?;
    match format {
        Format::Text => output::answer(secret.as_str())?,
        Format::Json => answer_json(&json!({ "user": arguments.name, "token": secret.as_str() }))?,
    }
    Ok(Exit::Done)
}

fn genpass(remote: &mut Remote) -> Result<String, Failure> {
    let Reply::Bulk(secret) = remote.ask(&[b"ACL", b"GENPASS"])? else { return Err(unexpected("GENPASS")) };
    let secret = String::from_utf8(secret.to_vec()).map_err(|_| unexpected("GENPASS"))?;
    if secret.len() == 2 * TOKEN_BYTES { Ok(secret) } else { Err(unexpected("GENPASS")) }
}

fn remote(target: &Target, command: &str) -> Result<Remote, Failure> {
    match target.open(Access::Existing)? {
        Place::Remote(remote) => Ok(*remote),
        Place::Local(_) => Err(Failure::usage(format!("{command} is about a server; name it by --url"))),
    }
}

fn whoami(target: &Target, format: Format) -> Result<Exit, Failure> {
    let Reply::Bulk(name) = remote(target, "acl whoami")?.ask(&[b"ACL", b"WHOAMI"])? else {
        return Err(unexpected("WHOAMI"));
    };
    match format {
        Format::Text => output::answer(&escaped(&name))?,
        Format::Json => answer_json(&json!({ "user": escaped(&name) }))?,
    }
    Ok(Exit::Done)
}

fn log(target: &Target, format: Format) -> Result<Exit, Failure> {
    let reply = remote(target, "acl log")?.ask(&[b"ACL", b"LOG", b"128"])?;
    let Reply::Array(entries) = reply else { return Err(unexpected("LOG")) };
    let mut rows = vec![["count", "reason", "object", "user", "age", "client"].map(str::to_owned)];
    for entry in &entries {
        let Reply::Array(fields) = entry else { return Err(unexpected("LOG")) };
        let field = |name: &str| {
            let (pairs, _) = fields.as_chunks::<2>();
            let found =
                pairs.iter().find(|[key, _]| *key == Reply::Bulk(Bytes::copy_from_slice(name.as_bytes())));
            found.map_or_else(String::new, |[_, value]| match value {
                Reply::Bulk(text) => escaped(text),
                Reply::Integer(number) => number.to_string(),
                _ => String::new(),
            })
        };
        let client = field("client-info");
        let address = client.split(' ').find_map(|word| word.strip_prefix("addr=")).unwrap_or_default();
        let row = ["count", "reason", "object", "username", "age-seconds"].map(&field);
        let [count, reason, object, user, age] = row;
        rows.push([count, reason, object, user, age, address.to_owned()]);
    }
    let mut stdout = Answer::new();
    if format == Format::Json {
        for [count, reason, object, user, age, client] in rows.iter().skip(1) {
            stdout.json(&json!({
                "count": count, "reason": reason, "object": object, "user": user, "age_seconds": age, "client": client,
            }))?;
        }
    } else {
        stdout.table(&rows)?;
    }
    stdout.finish()?;
    Ok(Exit::Done)
}
