//! `CLIENT`: who is connected, and what a client says of itself.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pugdb_wire::resp::Reply;
use tokio::time::Instant;

use super::table::{Command, commands};
use crate::arguments::{at, integer, is, need_integer};
use crate::call::Call;
use crate::clients::{Address, Client};
use crate::failure::Failure;
use crate::limits::{CLIENT_TEXT_BYTES_MAX, DELAY_MAX};
use crate::pause::Paused;
use crate::session::Replies;

#[rustfmt::skip]
pub(super) const SUBCOMMANDS: &[Command] = commands! {
    "client|getname" 2 [Loading] [] Connection "2.6.9" Run(getname) "" "Returns the connection's name." "";
    "client|id" 2 [Loading] [] Connection "5.0.0" Run(id) "" "Returns the connection's number." "";
    "client|info" 2 [Loading] [] Connection "6.2.0" Run(info) "" "Describes the connection." "The fields about buffers and events are left out.";
    "client|kill" -3 [Admin Dangerous Loading] [] Connection "2.4.0" Run(kill) "ip:port | [ID client-id] [TYPE NORMAL | MASTER | REPLICA | SLAVE | PUBSUB] [USER username] [ADDR ip:port] [LADDR ip:port] [SKIPME YES | NO]" "Closes connections." "Commands of the other connection that run at this moment end first.";
    "client|list" -2 [Admin Dangerous Loading] [] Connection "2.4.0" Run(list) "[TYPE NORMAL | MASTER | REPLICA | SLAVE | PUBSUB] [ID client-id [client-id ...]]" "Describes all connections." "The fields about buffers and events are left out.";
    "client|no-evict" 3 [Admin Dangerous Loading] [] Connection "7.0.0" Run(on_or_off) "ON | OFF" "Keeps the connection when memory runs out." "Nothing is evicted here, so it has no effect.";
    "client|no-touch" 3 [Loading] [] Connection "7.2.0" Run(on_or_off) "ON | OFF" "Reads without refreshing keys." "Nothing ages by being read, so it has no effect.";
    "client|pause" -3 [Admin Dangerous Loading Exclusive] [] Connection "3.0.0" Run(pause) "timeout [WRITE | ALL]" "Lets commands wait for some milliseconds." "CLIENT goes on, so UNPAUSE ends a pause of all commands too. An hour at most.";
    "client|reply" 3 [Loading] [] Connection "3.2.0" Run(reply) "ON | OFF | SKIP" "Says which replies the connection wants." "";
    "client|setinfo" 4 [Loading] [] Connection "7.2.0" Run(setinfo) "LIB-NAME libname | LIB-VER libver" "Says which library the client uses." "";
    "client|setname" 3 [Loading] [] Connection "2.6.9" Run(setname) "connection-name" "Names the connection." "";
    "client|unblock" -3 [Admin Dangerous Loading] [] Connection "5.0.0" Run(unblock) "client-id [TIMEOUT | ERROR]" "Lets a connection go on that waits for a key." "No command waits for a key yet, so it answers 0.";
    "client|unpause" 2 [Admin Dangerous Loading] [] Connection "6.2.0" Run(unpause) "" "Ends a pause." "";
};

/// Commands of Redis 7.2 behind `CLIENT` that come later.
pub(super) const LATER: &[&str] = &["caching", "getredir", "tracking", "trackinginfo"];

/// Whether Redis has a `CLIENT` command of this name that comes later here.
pub(super) fn comes_later(name: &[u8]) -> bool {
    LATER.iter().any(|later| is(name, later))
}

/// A name that can stand in the list of clients, which is separated by spaces and lines.
pub(super) fn checked_name(name: &Bytes) -> Result<String, Failure> {
    checked_text(name)
        .ok_or(Failure::new("ERR Client names cannot contain spaces, newlines or special characters."))
}

fn checked_text(text: &Bytes) -> Option<String> {
    let fine = text.len() <= CLIENT_TEXT_BYTES_MAX && text.iter().all(|byte| matches!(byte, b'!'..=b'~'));
    if fine { String::from_utf8(text.to_vec()).ok() } else { None }
}

fn getname(call: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    let name = call.client.see(|state| state.name.clone());
    Ok(if name.is_empty() { Reply::Null } else { super::text(name) })
}

fn setname(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let name = checked_name(at(arguments, 2)?)?;
    call.client.change(|state| state.name = name);
    Ok(Reply::OK)
}

fn setinfo(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let (option, text) = (at(arguments, 2)?, checked_text(at(arguments, 3)?));
    if is(option, "lib-name") {
        let refused = Failure::new("ERR lib-name cannot contain spaces, newlines or special characters.");
        let text = text.ok_or(refused)?;
        call.client.change(|state| state.library_name = text);
    } else if is(option, "lib-ver") {
        let refused = Failure::new("ERR lib-ver cannot contain spaces, newlines or special characters.");
        let text = text.ok_or(refused)?;
        call.client.change(|state| state.library_version = text);
    } else {
        return Err(Failure::new("ERR Unrecognized option; known are LIB-NAME and LIB-VER"));
    }
    Ok(Reply::OK)
}

fn id(call: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Ok(Reply::Integer(i64::try_from(call.client.id).unwrap_or(i64::MAX)))
}

fn info(call: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Ok(lines(&[Arc::clone(&call.client)]))
}

/// `CLIENT LIST [TYPE type] [ID id [id ...]]`
fn list(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let mut clients = call.shared.clients.all();
    match arguments.get(2..).unwrap_or_default() {
        [] => {}
        [option, kind] if is(option, "type") => {
            if !is_normal(kind)? {
                clients.clear();
            }
        }
        [option, ids @ ..] if is(option, "id") && !ids.is_empty() => {
            let ids: Option<HashSet<u64>> = ids.iter().map(|id| client_id(id)).collect();
            let ids = ids.ok_or(Failure::new("ERR Invalid client ID"))?;
            clients.retain(|client| ids.contains(&client.id));
        }
        _ => return Err(Failure::SYNTAX),
    }
    Ok(lines(&clients))
}

/// Whether a type of clients is the one that all have here.
fn is_normal(kind: &[u8]) -> Result<bool, Failure> {
    if ["master", "replica", "slave", "pubsub"].iter().any(|other| is(kind, other)) {
        return Ok(false);
    }
    if is(kind, "normal") { Ok(true) } else { Err(Failure::new("ERR Unknown client type")) }
}

fn client_id(id: &[u8]) -> Option<u64> {
    integer(id).and_then(|id| u64::try_from(id).ok()).filter(|&id| id > 0)
}

/// `CLIENT KILL`: what decides whom it means.
#[derive(Debug, Default)]
struct Victims {
    id: Option<u64>,
    address: Option<Bytes>,
    local_address: Option<Bytes>,
    user: Option<String>,
    /// No client is of this kind.
    none: bool,
    spares_caller: bool,
}

impl Victims {
    fn read(filters: &[Bytes], is_user: impl Fn(&str) -> bool) -> Result<Self, Failure> {
        let mut victims = Self { spares_caller: true, ..Self::default() };
        let mut rest = filters;
        while let [filter, value, after @ ..] = rest {
            match filter {
                filter if is(filter, "id") => {
                    let refused = Failure::new("ERR client-id should be greater than 0");
                    victims.id = Some(client_id(value).ok_or(refused)?);
                }
                filter if is(filter, "addr") => victims.address = Some(value.clone()),
                filter if is(filter, "laddr") => victims.local_address = Some(value.clone()),
                filter if is(filter, "type") => victims.none |= !is_normal(value)?,
                filter if is(filter, "user") => {
                    let name = std::str::from_utf8(value).ok().filter(|name| is_user(name));
                    victims.user = Some(name.ok_or(Failure::new("ERR No such user"))?.to_owned());
                }
                filter if is(filter, "skipme") && is(value, "yes") => victims.spares_caller = true,
                filter if is(filter, "skipme") && is(value, "no") => victims.spares_caller = false,
                _ => return Err(Failure::SYNTAX),
            }
            rest = after;
        }
        if rest.is_empty() { Ok(victims) } else { Err(Failure::SYNTAX) }
    }

    fn include(&self, client: &Client, caller: u64) -> bool {
        let is_at = |wanted: &Option<Bytes>, address: &Address| {
            wanted.as_ref().is_none_or(|wanted| address.to_string().as_bytes() == wanted)
        };
        !self.none
            && self.id.is_none_or(|id| id == client.id)
            && self.user.as_ref().is_none_or(|user| client.see(|state| state.is_known && state.user == *user))
            && is_at(&self.address, &client.address)
            && is_at(&self.local_address, &client.local_address)
            && !(self.spares_caller && client.id == caller)
    }
}

/// `CLIENT KILL ip:port`, `CLIENT KILL filter value [filter value ...]`
fn kill(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let (victims, is_old_form) = match arguments.get(2..).unwrap_or_default() {
        [address] => (Victims { address: Some(address.clone()), ..Victims::default() }, true),
        filters => {
            let rights = call.shared.rights.current();
            (Victims::read(filters, |name| rights.user(name).is_some())?, false)
        }
    };
    let shared = Arc::clone(&call.shared);
    let mut killed = 0;
    for client in shared.clients.all() {
        if !victims.include(&client, call.client.id) {
            continue;
        }
        killed += 1;
        if client.id == call.client.id {
            // After the reply.
            call.closing = true;
        } else {
            shared.clients.kill(&client);
        }
    }
    match (is_old_form, killed) {
        (true, 0) => Err(Failure::new("ERR No such client")),
        (true, _) => Ok(Reply::OK),
        (false, killed) => Ok(Reply::Integer(killed)),
    }
}

/// `CLIENT PAUSE timeout [WRITE | ALL]`
fn pause(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let paused = match arguments.get(3..).unwrap_or_default() {
        [] => Paused::All,
        [word] if is(word, "all") => Paused::All,
        [word] if is(word, "write") => Paused::Writes,
        [_] => return Err(Failure::new("ERR CLIENT PAUSE mode must be WRITE or ALL")),
        _ => return Err(Failure::arguments("client|pause")),
    };
    let milliseconds =
        integer(at(arguments, 2)?).ok_or(Failure::new("ERR timeout is not an integer or out of range"))?;
    let milliseconds = u64::try_from(milliseconds).map_err(|_| Failure::new("ERR timeout is negative"))?;
    let length = Duration::from_millis(milliseconds).min(DELAY_MAX);
    // Once the server ends, nobody waits any more.
    if !call.shared.is_ending() {
        call.shared.pause.begin(paused, Instant::now() + length);
    }
    Ok(Reply::OK)
}

/// `CLIENT UNPAUSE`
fn unpause(call: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    call.shared.pause.end();
    Ok(Reply::OK)
}

/// `CLIENT REPLY ON | OFF | SKIP`
fn reply(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let word = at(arguments, 2)?;
    if is(word, "on") {
        call.replies = Replies::All;
    } else if is(word, "off") {
        call.replies = Replies::None;
    } else if is(word, "skip") {
        if call.replies != Replies::None {
            call.replies = Replies::SkipNext;
        }
    } else {
        return Err(Failure::SYNTAX);
    }
    Ok(Reply::OK)
}

/// `CLIENT UNBLOCK client-id [TIMEOUT | ERROR]`
fn unblock(_: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    match arguments.get(3..).unwrap_or_default() {
        [] => {}
        [word] if is(word, "timeout") || is(word, "error") => {}
        _ => return Err(Failure::new("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")),
    }
    need_integer(at(arguments, 2)?)?;
    Ok(Reply::Integer(0))
}

/// Nothing is evicted here and nothing ages by reading, so there is nothing to turn off.
fn on_or_off(_: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let word = at(arguments, 2)?;
    if is(word, "on") || is(word, "off") { Ok(Reply::OK) } else { Err(Failure::SYNTAX) }
}

fn lines(clients: &[Arc<Client>]) -> Reply {
    let mut lines = String::new();
    for client in clients {
        client.describe(&mut lines);
        lines.push('\n');
    }
    super::verbatim(lines)
}
