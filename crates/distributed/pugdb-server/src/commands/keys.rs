//! Commands on keys, whatever they hold, and on whole databases.

use bytes::Bytes;
use pugdb::Change;
use pugdb_wire::resp::Reply;

use super::count;
use crate::arguments::{at, is};
use crate::failure::Failure;
use crate::session::{STRING, Session};
use crate::shared::KEYSPACES;

/// `DEL key [key ...]`, `UNLINK key [key ...]`: how many there were. Each key by itself is one step.
pub(super) fn del(session: &mut Session, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let Some(keyspace) = session.keyspace()? else { return Ok(Reply::Integer(0)) };
    let mut deleted = 0;
    for key in arguments.iter().skip(1) {
        let existed = session.update(&keyspace, key, |old| {
            Ok(if old.is_some() { (Change::Delete, true) } else { (Change::Keep, false) })
        })?;
        deleted += usize::from(existed);
    }
    Ok(count(deleted))
}

/// `EXISTS key [key ...]`: a key that is named twice counts twice.
pub(super) fn exists(session: &mut Session, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let keys = arguments.get(1..).unwrap_or_default();
    let mut found = 0;
    if let Some(keyspace) = session.keyspace()? {
        for key in keys {
            found += usize::from(keyspace.exists(key)?);
        }
    }
    session.count_reads(keys.len(), found);
    Ok(count(found))
}

/// `TYPE key`
pub(super) fn type_of(session: &mut Session, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let Some(keyspace) = session.keyspace()? else { return Ok(Reply::simple("none")) };
    Ok(Reply::simple(keyspace.get_entry(at(arguments, 1)?)?.map_or("none", |entry| type_name(entry.meta))))
}

/// The type that a meta byte stands for.
pub(super) fn type_name(meta: u8) -> &'static str {
    if meta == STRING { "string" } else { "unknown" }
}

/// `DBSIZE`. Exact, so it goes through all keys.
pub(super) fn dbsize(session: &mut Session, _: &[Bytes]) -> Result<Reply, Failure> {
    let keys = session.shared.count_keys(session.database)?.keys;
    Ok(Reply::Integer(i64::try_from(keys).unwrap_or(i64::MAX)))
}

/// `FLUSHDB [ASYNC | SYNC]`
pub(super) fn flushdb(session: &mut Session, arguments: &[Bytes]) -> Result<Reply, Failure> {
    check_flush_option(arguments)?;
    if let Some(keyspace) = session.keyspace()? {
        session.wait_for(keyspace.truncate_ticket()?);
    }
    Ok(Reply::OK)
}

/// `FLUSHALL [ASYNC | SYNC]`: the databases that `SELECT` reaches, one after the other. Other keyspaces are not Redis's
/// to remove.
pub(super) fn flushall(session: &mut Session, arguments: &[Bytes]) -> Result<Reply, Failure> {
    check_flush_option(arguments)?;
    for name in KEYSPACES {
        if let Some(keyspace) = session.shared.db.existing_keyspace(name)? {
            session.wait_for(keyspace.truncate_ticket()?);
        }
    }
    Ok(Reply::OK)
}

/// Both ways are the same here: the keys are gone at once and their space comes back later.
fn check_flush_option(arguments: &[Bytes]) -> Result<(), Failure> {
    match arguments {
        [_] => Ok(()),
        [_, option] if is(option, "async") || is(option, "sync") => Ok(()),
        _ => Err(Failure::SYNTAX),
    }
}
