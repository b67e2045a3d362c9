//! Commands on keys, whatever they hold, and on whole databases.

use std::ops::RangeInclusive;

use bytes::Bytes;
use pugdb::{Change, Keyspace};
use pugdb_wire::resp::Reply;

use super::count;
use crate::arguments::{at, is};
use crate::call::Call;
use crate::failure::Failure;
use crate::limits::DATABASES;
use crate::session::STRING;

/// `DEL key [key ...]`, `UNLINK key [key ...]`: how many there were.
pub(super) fn del(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let Some(keyspace) = call.keyspace()? else { return Ok(Reply::Integer(0)) };
    if let [_, key] = arguments {
        let existed = call.update(&keyspace, key, |old| {
            Ok(if old.is_some() { (Change::Delete, true) } else { (Change::Keep, false) })
        })?;
        return Ok(Reply::Integer(i64::from(existed)));
    }
    let keys: Vec<_> = arguments.iter().skip(1).map(|key| (keyspace.clone(), key.as_ref())).collect();
    let deleted = call.update_keys(&keys, |locked| {
        let mut deleted = 0;
        for (keyspace, key) in &keys {
            if locked.get_entry(keyspace, key)?.is_some() {
                locked.delete(keyspace, key)?;
                deleted += 1;
            }
        }
        Ok(deleted)
    })?;
    Ok(count(deleted))
}

/// `EXISTS key [key ...]`, `TOUCH key [key ...]`: a key that is named twice counts twice.
pub(super) fn exists(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let keys = arguments.get(1..).unwrap_or_default();
    let mut found = 0;
    let view = call.view()?;
    for key in keys {
        found += usize::from(view.entry(key)?.is_some());
    }
    call.count_reads(keys.len(), found);
    Ok(count(found))
}

/// `TYPE key`
pub(super) fn type_of(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    Ok(Reply::simple(call.entry(at(arguments, 1)?)?.map_or("none", |entry| type_name(entry.meta))))
}

/// The type that a meta byte stands for.
pub(super) fn type_name(meta: u8) -> &'static str {
    if meta == STRING { "string" } else { "unknown" }
}

/// `DBSIZE`. Exact, so it goes through all keys.
pub(super) fn dbsize(call: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    let keys = call.shared.count_keys(call.database)?.keys;
    Ok(Reply::Integer(i64::try_from(keys).unwrap_or(i64::MAX)))
}

/// `FLUSHDB [ASYNC | SYNC]`
pub(super) fn flushdb(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    check_flush_option(arguments)?;
    let databases = call.database..=call.database;
    flush(call, databases)
}

/// `FLUSHALL [ASYNC | SYNC]`: the databases that `SELECT` reaches, in one step. Other keyspaces are not Redis's to remove.
pub(super) fn flushall(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    check_flush_option(arguments)?;
    flush(call, 0..=DATABASES - 1)
}

fn flush(call: &mut Call<'_>, databases: RangeInclusive<usize>) -> Result<Reply, Failure> {
    let keyspaces: Vec<Option<Keyspace>> =
        databases.map(|database| call.keyspace_of(database)).collect::<Result<_, _>>()?;
    call.update_everything(|locked| {
        for keyspace in keyspaces.iter().flatten() {
            locked.truncate(keyspace)?;
        }
        Ok(Reply::OK)
    })
}

/// Both ways are the same here: the keys are gone at once and their space comes back later.
fn check_flush_option(arguments: &[Bytes]) -> Result<(), Failure> {
    match arguments {
        [_] => Ok(()),
        [_, option] if is(option, "async") || is(option, "sync") => Ok(()),
        _ => Err(Failure::SYNTAX),
    }
}

// PLACEHOLDERS
pub(super) fn copy(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}

pub(super) fn keys(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}

pub(super) fn move_key(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}

pub(super) fn randomkey(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}

pub(super) fn rename(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}

pub(super) fn renamenx(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}

pub(super) fn swapdb(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}
