//! `ACL`: users, roles and what they may do; and `requirepass`, which is the default user's password.

use std::str;
use std::sync::Arc;

use bytes::Bytes;
use pugdb::rights::{
    Action, Authenticator, Categories, DEFAULT_USER, Denial, GrantText, Rights, User, WordError, joined_words,
};
use pugdb_wire::resp::Reply;

use super::permit::{self, Asked};
use super::table::{Command, TABLE, commands};
use super::{count, hex, text};
use crate::arguments::{at, integer, is};
use crate::call::Call;
use crate::denials::DenialEntry;
use crate::failure::{Failure, printable};
use crate::limits::{DENIALS_SHOWN, GENERATED_BITS_MAX};
use crate::notes::Note;

#[rustfmt::skip]
pub(super) const SUBCOMMANDS: &[Command] = commands! {
    "acl|cat" -2 [Loading] [] Server "6.0.0" Run(cat) "[category]" "Lists the categories, or the commands of one." "";
    "acl|deluser" -3 [Admin Dangerous Loading NoMulti] [] Server "6.0.0" Run(deluser) "username [username ...]" "Removes users, and closes their connections." "Durable when it answers. `role:NAME` removes a role. The last one who may change rights cannot be removed. Not inside MULTI.";
    "acl|dryrun" -4 [Admin Dangerous Loading] [] Server "7.0.0" Run(dryrun) "username command [arg ...]" "Tells whether a user might run a command." "";
    "acl|genpass" -2 [Loading] [] Server "6.0.0" Run(genpass) "[bits]" "Makes a secret that nobody can guess." "";
    "acl|getuser" 3 [Admin Dangerous Loading] [] Server "6.0.0" Run(getuser) "username" "Describes a user." "Passwords are shown as what is kept of them: Argon2id and SCRAM-SHA-256 verifiers; digests without a word before them, as in Redis. There are two fields more, roles and keyspaces.";
    "acl|list" 2 [Admin Dangerous Loading] [] Server "6.0.0" Run(list) "" "Lists the users as the words that make them." "Roles stand behind the users.";
    "acl|load" 2 [Admin Dangerous Loading NoMulti] [] Server "6.0.0" Run(load) "" "Reads the users again." "There is no file: they are kept in the database, and every change is there already. Not inside MULTI.";
    "acl|log" -2 [Admin Dangerous Loading] [] Server "6.0.0" Run(log) "[count | RESET]" "Shows what was refused." "A key is told by its length, and a name that is no user's not at all.";
    "acl|save" 2 [Admin Dangerous Loading] [] Server "6.0.0" Run(save) "" "Writes the users." "Every change is durable when it answers, so there is nothing to do.";
    "acl|setuser" -3 [Admin Dangerous Loading NoMulti] [] Server "6.0.0" Run(setuser) "username [rule [rule ...]]" "Makes or changes a user." "Durable when it answers. `off` closes the connections of the user. More words: keyspace:PATTERN, allkeyspaces, resetkeyspaces, role:NAME, -role:NAME, cert:NAME, -cert:NAME, and verifiers as they are listed; `role:NAME` for a username makes a role. No rule about a first argument. Patterns in a selector have no parentheses. Nobody may be left without rights to change rights. Not inside MULTI.";
    "acl|users" 2 [Admin Dangerous Loading] [] Server "6.0.0" Run(users) "" "Lists the names of users." "";
    "acl|whoami" 2 [Loading] [] Server "6.0.0" Run(whoami) "" "Returns the user's name." "";
};

/// A name that begins so is a role's.
const ROLE: &str = "role:";

const LAST_ONE: Failure = Failure::new(
    "ERR that would leave nobody who may change rights; give them to another user first. `pugdb acl` on the closed \
     database can do it all the same",
);

/// `ACL WHOAMI`
fn whoami(call: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Ok(text(call.identity.name()))
}

/// `ACL CAT [category]`
fn cat(_: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let [_, _, wanted @ ..] = arguments else { return Err(Failure::SYNTAX) };
    let Some(category) = wanted.first() else {
        return Ok(Reply::Array(Categories::all_names().iter().map(|name| text(*name)).collect()));
    };
    let found = str::from_utf8(category).ok().and_then(Categories::named);
    let (Some(category), 1) = (found, wanted.len()) else {
        return Err(Failure::new("ERR Unknown category; ACL CAT lists them"));
    };
    let all = TABLE.iter().flat_map(|command| match command.subcommands() {
        [] => std::slice::from_ref(command),
        subcommands => subcommands,
    });
    let of_it = all.filter(|command| permit::category_set(command).contains(category));
    Ok(Reply::Array(of_it.map(|command| text(command.name)).collect()))
}

/// `ACL USERS`
fn users(call: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Ok(Reply::Array(call.shared.rights.current().users().map(|user| text(user.name())).collect()))
}

/// `ACL LIST`
fn list(call: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    let rights = call.shared.rights.current();
    let line = |kind: &str, name: &str, line: Vec<u8>| {
        Reply::Bulk(Bytes::from([kind.as_bytes(), name.as_bytes(), b" ", &line].concat()))
    };
    let users = rights.users().map(|user| line("user ", user.name(), user.to_line()));
    let roles = rights.roles().map(|(name, role)| line("role ", name, role.to_line()));
    Ok(Reply::Array(users.chain(roles).collect()))
}

fn grant_fields(grant: GrantText) -> Vec<(Reply, Reply)> {
    let keyspaces = grant.keyspaces.unwrap_or_else(|| b"*".to_vec());
    vec![
        (text("commands"), text(grant.actions)),
        (text("keys"), Reply::Bulk(Bytes::from(grant.keys))),
        (text("channels"), Reply::Bulk(Bytes::from(grant.channels))),
        (text("keyspaces"), Reply::Bulk(Bytes::from(keyspaces))),
    ]
}

/// `ACL GETUSER username`
fn getuser(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let rights = call.shared.rights.current();
    let name = str::from_utf8(at(arguments, 2)?).unwrap_or_default();
    let texts = |words: &[String]| Reply::Array(words.iter().map(|word| text(word.as_str())).collect());
    let (mut fields, grants) = if let Some(role) = name.strip_prefix(ROLE).and_then(|name| rights.role(name))
    {
        (Vec::new(), role)
    } else if let Some(user) = rights.user(name) {
        let passwords: Vec<String> = user
            .credential_words()
            .into_iter()
            .map(|word| word.strip_prefix('#').map(str::to_owned).unwrap_or(word))
            .collect();
        let flags = Reply::Set(user.flags().into_iter().map(text).collect());
        (vec![(text("flags"), flags), (text("passwords"), texts(&passwords))], user.grants())
    } else {
        return Ok(Reply::NullArray);
    };
    let mut grants = grants.texts().into_iter();
    let mut root = grants.next().map(grant_fields).unwrap_or_default();
    let keyspaces = root.pop();
    fields.extend(root);
    fields.push((
        text("selectors"),
        Reply::Array(grants.map(|grant| Reply::Map(grant_fields(grant))).collect()),
    ));
    fields.extend(keyspaces);
    if let Some(user) = rights.user(name) {
        fields.push((text("roles"), texts(user.roles())));
    }
    Ok(Reply::Map(fields))
}

/// Changes the rights, unless nobody were left who may.
fn change(
    call: &Call<'_>,
    decide: impl FnOnce(&mut Rights, &Authenticator) -> Result<usize, Failure>,
) -> Result<usize, Failure> {
    let setuser: Action<'static> = permit::action("acl|setuser");
    let changed = call.shared.rights.change(|rights, passwords| {
        let had_one = rights.is_left_to_somebody(&setuser);
        let changed = decide(rights, passwords)?;
        if had_one && !rights.is_left_to_somebody(&setuser) { Err(LAST_ONE) } else { Ok(changed) }
    })??;
    call.shared.note(&call.client, Note::RightsChanged)?;
    Ok(changed)
}

/// Ends the connections of users that are no more, or off; the one that has asked for it, after its reply.
fn close_connections(call: &mut Call<'_>) {
    let shared = Arc::clone(&call.shared);
    let rights = shared.rights.current();
    let is_gone = |name: &str| !rights.user(name).is_some_and(|user| user.is_on());
    for client in shared.clients.all() {
        if !client.see(|state| state.is_known && is_gone(&state.user)) {
            continue;
        }
        if client.id == call.client.id {
            call.closing = true;
        } else {
            shared.clients.kill(&client);
        }
    }
}

/// A name that may be a user's or, behind `role:`, a role's.
fn checked_name(name: &[u8]) -> Result<&str, Failure> {
    let refused = Failure::new("ERR Usernames can't contain spaces or null characters");
    let name = str::from_utf8(name).map_err(|_| refused.clone())?;
    let is_bad = |char: char| char.is_whitespace() || char.is_control();
    if name.is_empty() || name.chars().any(is_bad) { Err(refused) } else { Ok(name) }
}

/// What is repeated of a word: a name of a command, and of anything else only its beginning.
fn shown(word: &[u8]) -> String {
    match word {
        [b'+' | b'-', name @ ..] if printable(name).is_some() => String::from_utf8_lossy(word).into_owned(),
        [first @ (b'+' | b'-' | b'~' | b'%' | b'&' | b'>' | b'<' | b'#' | b'!' | b'$' | b'('), ..] => {
            format!("{}...", char::from(*first))
        }
        _ => "...".to_owned(),
    }
}

fn word_failure(word: &[u8], error: WordError) -> Failure {
    Failure::owned(format!("ERR Error in ACL SETUSER modifier '{}': {error}", shown(word)))
}

/// `ACL SETUSER username [rule [rule ...]]`
fn setuser(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let name = checked_name(at(arguments, 2)?)?;
    let words = joined_words(arguments.get(3..).unwrap_or_default())
        .map_err(|_| Failure::new("ERR Unmatched parenthesis in acl selector starting at '(...'."))?;
    let name_failure = |error: WordError| match error {
        WordError::Syntax => Failure::new("ERR this is not a name that a user can have"),
        error => Failure::owned(format!("ERR {error}")),
    };
    tokio::task::block_in_place(|| {
        change(call, |rights, passwords| {
            if let Some(role) = name.strip_prefix(ROLE) {
                let role = rights.role_mut(role).map_err(name_failure)?;
                for word in &words {
                    role.apply(word, &permit::knows_action).map_err(|error| word_failure(word, error))?;
                }
            } else {
                let user = rights.user_mut(name).map_err(name_failure)?;
                for word in &words {
                    user.apply(word, passwords, &permit::knows_action)
                        .map_err(|error| word_failure(word, error))?;
                }
            }
            Ok(1)
        })
    })?;
    close_connections(call);
    Ok(Reply::OK)
}

/// `ACL DELUSER username [username ...]`
fn deluser(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let names: Vec<&str> =
        arguments.iter().skip(2).map(|name| str::from_utf8(name).unwrap_or_default()).collect();
    if names.contains(&DEFAULT_USER) {
        return Err(Failure::new("ERR The 'default' user cannot be removed"));
    }
    let removed = change(call, |rights, _| {
        let gone = names.iter().filter(|name| match name.strip_prefix(ROLE) {
            Some(role) => rights.remove_role(role),
            None => rights.remove_user(name),
        });
        Ok(gone.count())
    })?;
    close_connections(call);
    Ok(count(removed))
}

/// `ACL DRYRUN username command [arg ...]`
fn dryrun(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let rights = call.shared.rights.current();
    let user: Option<&Arc<User>> = str::from_utf8(at(arguments, 2)?).ok().and_then(|name| rights.user(name));
    let user = user.ok_or(Failure::new("ERR User not found"))?;
    let request = arguments.get(3..).unwrap_or_default();
    if Command::find(at(request, 0)?).is_none() {
        return Err(Failure::new("ERR Command not found"));
    }
    let found = super::find(request)?;
    let asked = Asked::of(found, request, call.database);
    if found.has(super::Flag::NoAuth) {
        return Ok(Reply::OK);
    }
    let (name, command) = (user.name(), asked.name());
    // A user's own words may be repeated to who has just said them.
    let reason = match rights.check(user, &asked.request()) {
        Ok(()) => return Ok(Reply::OK),
        Err(Denial::Action) => {
            format!("User {name} has no permissions to run the '{command}' command").into_bytes()
        }
        Err(Denial::Keyspace) => {
            format!("User {name} has no permissions to access the database").into_bytes()
        }
        Err(Denial::Key(place)) => match asked.key(place) {
            Some(key) => {
                let begin = format!("User {name} has no permissions to access the '");
                [begin.as_bytes(), key, b"' key"].concat()
            }
            None => format!("User {name} has no permissions to access all keys").into_bytes(),
        },
        Err(Denial::Channel(_)) => format!("User {name} has no permissions to access a channel").into_bytes(),
    };
    Ok(Reply::Bulk(Bytes::from(reason)))
}

/// `ACL GENPASS [bits]`
fn genpass(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let bits = match arguments.get(2..).unwrap_or_default() {
        [] => Some(256),
        [bits] => integer(bits).and_then(|bits| usize::try_from(bits).ok()),
        _ => return Err(Failure::arguments("acl|genpass")),
    };
    let bits = bits.filter(|bits| (1..=GENERATED_BITS_MAX).contains(bits)).ok_or(Failure::new(
        "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096",
    ))?;
    let digits = bits.div_ceil(4);
    let mut secret = hex(&call.shared.rights.random(digits.div_ceil(2)));
    secret.truncate(digits);
    Ok(text(secret))
}

/// `ACL LOAD`
fn load(call: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    call.shared.rights.reload()?;
    Ok(Reply::OK)
}

/// `ACL SAVE`
fn save(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Ok(Reply::OK)
}

/// `ACL LOG [count | RESET]`
fn log(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let most = match arguments.get(2..).unwrap_or_default() {
        [] => DENIALS_SHOWN,
        [word] if is(word, "reset") => {
            call.shared.denials.clear();
            return Ok(Reply::OK);
        }
        [number] => integer(number)
            .and_then(|number| usize::try_from(number).ok())
            .ok_or(Failure::new("ERR value is out of range, must be positive"))?,
        _ => return Err(Failure::arguments("acl|log")),
    };
    let now_ms = call.shared.db.now().0;
    let entries = call.shared.denials.newest(most);
    Ok(Reply::Array(entries.into_iter().map(|entry| log_entry(entry, now_ms)).collect()))
}

fn log_entry(entry: DenialEntry, now_ms: u64) -> Reply {
    let number = |number: u64| Reply::Integer(i64::try_from(number).unwrap_or(i64::MAX));
    let context = if entry.is_in_transaction { "multi" } else { "toplevel" };
    #[expect(clippy::cast_precision_loss, reason = "an age in seconds for people")]
    let age = now_ms.saturating_sub(entry.last_ms) as f64 / 1000.0;
    Reply::Map(vec![
        (text("count"), number(entry.count)),
        (text("reason"), text(entry.reason.name())),
        (text("context"), text(context)),
        (text("object"), text(entry.object.text())),
        (text("username"), text(entry.user)),
        (text("age-seconds"), Reply::Double(age)),
        (text("client-info"), text(entry.client)),
        (text("entry-id"), number(entry.id)),
        (text("timestamp-created"), number(entry.first_ms)),
        (text("timestamp-last-updated"), number(entry.last_ms)),
    ])
}

/// Gives the default user this one password, or lets it be without one.
pub(super) fn require_password(call: &Call<'_>, password: &[u8]) -> Result<(), Failure> {
    if call.is_in_transaction() {
        return Err(Failure::new("ERR requirepass inside MULTI is not allowed"));
    }
    let changed = tokio::task::block_in_place(|| {
        change(call, |rights, passwords| {
            let failure = |error: WordError| Failure::owned(format!("ERR {error}"));
            let user = rights.user_mut(DEFAULT_USER).map_err(failure)?;
            user.apply(b"resetpass", passwords, &permit::knows_action).map_err(failure)?;
            let word = if password.is_empty() { b"nopass".to_vec() } else { [b">", password].concat() };
            user.apply(&word, passwords, &permit::knows_action).map_err(failure)?;
            Ok(1)
        })
    });
    changed.map(drop)
}
