//! `CLIENT`: who is connected, and what a client says of itself.

use std::sync::Arc;

use bytes::Bytes;
use pugdb_wire::resp::Reply;

use super::table::{Command, commands};
use crate::arguments::{at, integer, is};
use crate::call::Call;
use crate::clients::Client;
use crate::failure::Failure;
use crate::limits::CLIENT_TEXT_BYTES_MAX;

#[rustfmt::skip]
pub(super) const SUBCOMMANDS: &[Command] = commands! {
    "client|getname" 2 [] [] Connection "2.6.9" Run(getname) "" "Returns the connection's name." "";
    "client|id" 2 [] [] Connection "5.0.0" Run(id) "" "Returns the connection's number." "";
    "client|info" 2 [] [] Connection "6.2.0" Run(info) "" "Describes the connection." "";
    "client|list" -2 [Admin Dangerous] [] Connection "2.4.0" Run(list) "[TYPE type | ID id [id ...]]" "Describes all connections." "";
    "client|no-evict" 3 [] [] Connection "7.0.0" Run(on_or_off) "ON | OFF" "Keeps the connection when memory runs out." "Nothing is evicted here, so it has no effect.";
    "client|no-touch" 3 [] [] Connection "7.2.0" Run(on_or_off) "ON | OFF" "Reads without refreshing keys." "Nothing ages by being read, so it has no effect.";
    "client|setinfo" 4 [] [] Connection "7.2.0" Run(setinfo) "LIB-NAME name | LIB-VER version" "Says which library the client uses." "";
    "client|setname" 3 [] [] Connection "2.6.9" Run(setname) "name" "Names the connection." "";
};

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
    let name = call.client.state().name;
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

/// `CLIENT LIST [TYPE type | ID id [id ...]]`
fn list(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let mut clients = call.shared.clients.all();
    match arguments.get(2..).unwrap_or_default() {
        [] => {}
        [option, kind] if is(option, "type") => {
            if ["master", "replica", "slave", "pubsub"].iter().any(|other| is(kind, other)) {
                clients.clear();
            } else if !is(kind, "normal") {
                return Err(Failure::new("ERR Unknown client type"));
            }
        }
        [option, ids @ ..] if is(option, "id") && !ids.is_empty() => {
            let read = |id: &Bytes| integer(id).and_then(|id| u64::try_from(id).ok()).filter(|&id| id > 0);
            let ids: Option<Vec<u64>> = ids.iter().map(read).collect();
            let ids = ids.ok_or(Failure::new("ERR Invalid client ID"))?;
            clients.retain(|client| ids.contains(&client.id));
        }
        _ => return Err(Failure::SYNTAX),
    }
    Ok(lines(&clients))
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
