//! The write path, from a batch to a durable commit.
//!
//! | step | what | invariant |
//! |---|---|---|
//! | 1 admit | limits, open database, room in memory (`admit.rs`) | nothing is reserved for a refused write |
//! | 2 lock | the stripes of all keys ([`KeyLocks`](crate::key_locks::KeyLocks)) | a read-modify-write is one step |
//! | 3 encode | sections serialised outside the writer lock (`encode.rs`) | |
//! | 4 log | seqnos, then one record to the preallocated log | log order is seqno order |
//! | 5 apply | memtables, in the same order | |
//! | 6 publish | the last seqno becomes visible | a reader sees all of a batch or none of it |
//! | 7 sync | outside every lock, by the ticket ([`Log::sync_to`](pugdb_lsm::log::Log::sync_to)) | one sync carries many commits |
//! | 8 acknowledge | the ticket is done | acknowledged is durable |
//!
//! Changes of keyspaces (`keyspaces.rs`) take the same path with a record of their own.

mod admit;
mod encode;
mod keyspaces;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pugdb_core::{Entry, Key, Lsn, Op, Result, Seqno, Value};
use pugdb_lsm::frame::Section;
use pugdb_lsm::log::RecordHead;

pub(crate) use admit::{batch_bytes_max, batch_too_large, value_too_large};
pub(crate) use encode::operations;
pub(crate) use keyspaces::{create_keyspace, decode_creation, drop_keyspace, truncate};

use crate::batch::{Part, WriteBatch};
use crate::database::{Inner, Writer};
use crate::keyspace::{Change, Keeper, Space};
use crate::{CommitTicket, Durability, key_locks, read};

/// Commits a batch.
pub(crate) fn commit(batch: WriteBatch) -> Result<CommitTicket> {
    let WriteBatch { inner, durability, parts, bytes, .. } = batch;
    if parts.is_empty() {
        inner.check_open()?;
        return Ok(CommitTicket::done());
    }
    let _room = admit::admit(&inner, bytes)?;
    let keys = parts.iter().flat_map(|part| part.ops.iter().map(|op| (part.space.id, &*op.key)));
    let _locks = inner.locks.many(keys)?;
    commit_locked(&inner, &parts, durability)
}

/// Reads, decides and commits one key under its lock.
pub(crate) fn update<R>(
    inner: &Arc<Inner>,
    space: &Arc<Space>,
    key: &[u8],
    durability: Durability,
    decide: impl FnOnce(Option<&Entry>) -> Result<(Change, R)>,
) -> Result<(R, CommitTicket)> {
    let key = Key::copy(key)?;
    inner.check_open()?;
    let _lock = inner.locks.one(space.id, &key)?;
    let old = read::get(inner, space, &key, None)?;
    let (change, result) = key_locks::inside_update(|| decide(old.as_ref()))?;
    let entry = match change {
        Change::Keep => return Ok((result, inner.shown_ticket())),
        Change::Delete => Entry::delete(),
        Change::Put(value, _) if value.len() > inner.options.write_bytes_max() => {
            return Err(value_too_large(inner, value.len()));
        }
        Change::Put(value, options) => Entry::put_with(Value::new(value)?, options),
    };
    let op = Op { key, entry };
    // Under the key lock: a flush, which makes room, needs no key lock.
    let _room = admit::admit(inner, op.cost_bytes())?;
    let part = Part { space: Arc::clone(space), ops: vec![op] };
    let ticket = commit_locked(inner, &[part], durability)?;
    Ok((result, ticket))
}

/// Steps 3 to 6; the caller holds the key locks.
fn commit_locked(inner: &Inner, parts: &[Part], durability: Durability) -> Result<CommitTicket> {
    let is_logged = admit::is_logged(inner, parts)?;
    let sections = if is_logged { encode::sections(parts) } else { Vec::new() };
    let counts: Vec<u64> = parts.iter().map(|part| part.ops.len() as u64).collect();
    let total = counts.iter().sum();

    let mut writer = inner.writer.lock();
    inner.check_open()?;
    for part in parts {
        part.space.check_writable()?;
    }
    let first = writer.sequencer.reserve(total);
    let end = if is_logged {
        log(inner, &mut writer, &RecordHead::batch(inner.now(), first, counts), &sections)?
    } else {
        Lsn(0)
    };
    apply(inner, first, parts)?;
    publish(inner, first.plus(total - 1), end, durability);
    drop(writer);
    Ok(ticket(inner, end, durability))
}

/// Step 4: one record, in the operating system's hands when this returns. Returns its end.
fn log(inner: &Inner, writer: &mut Writer, head: &RecordHead, sections: &[Section]) -> Result<Lsn> {
    let Some(durable) = &inner.durable else { return Ok(Lsn(0)) };
    let appended = durable.log.append(head, sections)?;
    writer.sequencer.relate(head.first, appended.segment_first);
    durable.watch_log_size(appended.end);
    Ok(appended.end)
}

/// Step 5: the memtables, in the order of the seqnos.
fn apply(inner: &Inner, first: Seqno, parts: &[Part]) -> Result<()> {
    let mut next = first;
    for part in parts {
        part.space.engine().apply(next, &part.ops)?;
        next = next.plus(part.ops.len() as u64);
        if let (Some(durable), Keeper::Lsm(tree)) = (&inner.durable, &part.space.keeper) {
            durable.store.applied(tree, part.ops.iter().map(Op::cost_bytes).sum());
        }
    }
    Ok(())
}

/// Step 6: all of it becomes visible at once.
fn publish(inner: &Inner, last: Seqno, end: Lsn, durability: Durability) {
    // First: who sees the commit must find it among those a reply has to wait for.
    if durability == Durability::Sync {
        inner.synced_commits_end.fetch_max(end.0, Ordering::AcqRel);
    }
    inner.snapshots.publish(last);
}

/// Steps 7 and 8: what the caller waits for.
fn ticket(inner: &Inner, end: Lsn, durability: Durability) -> CommitTicket {
    match (&inner.durable, durability) {
        (Some(durable), Durability::Sync) => CommitTicket::at(&durable.log, end),
        _ => CommitTicket::done(),
    }
}
