//! The write path, from a batch to a durable commit.
//!
//! | step | what | invariant |
//! |---|---|---|
//! | 1 admit | limits, open database, room in memory (`admit.rs`) | nothing is reserved for a refused write |
//! | 2 lock | the stripes of all keys ([`KeyLocks`](crate::key_locks::KeyLocks)) | a read-modify-write is one step |
//! | 3 encode | the sections are what the batch has collected ([`Ops`]), outside the writer lock (`encode.rs`) | nothing is serialised twice |
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
use std::time::Duration;

use pugdb_core::{Entry, Key, Lsn, Ops, Result, Seqno, Value, soon};
use pugdb_lsm::frame::Section;
use pugdb_lsm::log::{Handover, RecordHead, SYNC_DELAY_MAX};

pub(crate) use admit::{batch_bytes_max, batch_too_large, is_logged};
pub(crate) use keyspaces::{
    alter_keyspace, create_keyspace, drop_keyspace, erase_keyspace, log_change, provide_keys, take_operator,
};

use crate::batch::{Changes, Part, WriteBatch};
use crate::database::{Inner, Names, Writer};
use crate::durable::Durable;
use crate::key_locks::Stripes;
use crate::locked_keys::{LockScope, LockedKeys};
use crate::slow::OperationKind;
use crate::space::{Keeper, Space};
use crate::transaction::{Guard, Watching};
use crate::{Change, CommitTicket, Durability, EntryOptions, audit, key_locks, quota, read, sealed};

/// Commits a batch.
pub(crate) fn commit(batch: WriteBatch) -> Result<CommitTicket> {
    let WriteBatch { inner, durability, changes, .. } = batch;
    if changes.is_empty() {
        inner.check_open()?;
        return Ok(CommitTicket::done());
    }
    let _timed = inner.timed(OperationKind::Commit, || changes.shape());
    let _room = admit::admit(&inner, &changes)?;
    let stripes = batch_stripes(&changes);
    let _locks = inner.locks.stripes(&stripes)?;
    commit_locked(&inner, &changes, durability, &Own::Nothing)
}

/// What came of a commit that must not wait.
pub(crate) enum Tried {
    Done(Result<CommitTicket>),
    /// For room, or for a key that somebody has locked.
    WouldWait(WriteBatch),
}

/// Commits a batch, if nothing has to be waited for.
pub(crate) fn try_commit(batch: WriteBatch) -> Tried {
    let inner = Arc::clone(&batch.inner);
    if !batch.is_sound() || batch.changes.is_empty() {
        return Tried::Done(batch.commit_ticket());
    }
    let waits = |durable: &Durable| durable.store.would_wait(batch.changes.bytes);
    let stripes = batch_stripes(&batch.changes);
    if inner.durable.as_ref().is_some_and(waits) {
        return Tried::WouldWait(batch);
    }
    let _timed = inner.timed(OperationKind::Commit, || batch.changes.shape());
    let locked = inner.locks.try_stripes(&stripes).and_then(|locks| {
        let Some(locks) = locks else { return Ok(None) };
        let _room = admit::admit(&inner, &batch.changes)?;
        let ticket = commit_locked(&inner, &batch.changes, batch.durability, &Own::Nothing);
        drop(locks);
        ticket.map(Some)
    });
    match locked {
        Ok(Some(ticket)) => Tried::Done(Ok(ticket)),
        Ok(None) => Tried::WouldWait(batch),
        Err(error) => Tried::Done(Err(error)),
    }
}

/// The stripes of all keys that a batch changes.
fn batch_stripes(changes: &Changes) -> Stripes {
    if !changes.truncated.is_empty() || changes.has_ranges() {
        // Whoever has read a key and is about to write it is through first.
        return Stripes::All;
    }
    Stripes::of(
        changes
            .parts
            .iter()
            .flat_map(|part| part.ops.iter().filter_map(|op| op.entry()).map(|op| (part.space.id, op.key))),
    )
}

/// Commits changes that `check` finds right, which asks with all stripes locked. It may leave a watch over ranges, which nobody must
/// have broken in the end.
pub(crate) fn commit_checked(
    inner: &Arc<Inner>,
    changes: &Changes,
    stripes: &Stripes,
    durability: Durability,
    check: impl FnOnce() -> Result<Option<Watching>>,
) -> Result<CommitTicket> {
    let _timed = inner.timed(OperationKind::Commit, || changes.shape());
    let _room = admit::admit(inner, changes)?;
    let _locks = inner.locks.stripes(stripes)?;
    let own = check()?.map_or(Own::Nothing, Own::Watch);
    commit_locked(inner, changes, durability, &own)
}

/// Commits what a prepared transaction has held on to, and lets go of it.
pub(crate) fn commit_held(
    inner: &Arc<Inner>,
    changes: &Changes,
    stripes: &Stripes,
    held: &Arc<Guard>,
) -> Result<CommitTicket> {
    let _timed = inner.timed(OperationKind::Commit, || changes.shape());
    let _room = admit::admit(inner, changes)?;
    let _locks = inner.locks.stripes(stripes)?;
    commit_locked(inner, changes, Durability::Sync, &Own::Held(held))
}

/// What a commit itself has guarded.
enum Own<'a> {
    Nothing,
    /// Broken, it ends the commit.
    Watch(Watching),
    /// Let go of when the commit can be seen.
    Held(&'a Arc<Guard>),
}

impl Own<'_> {
    fn guard(&self) -> Option<&Arc<Guard>> {
        match self {
            Self::Nothing => None,
            Self::Watch(watch) => Some(watch.guard()),
            Self::Held(guard) => Some(guard),
        }
    }
}

/// Reads, decides and commits one key under its lock.
pub(crate) fn update<R>(
    inner: &Arc<Inner>,
    space: &Arc<Space>,
    key: &[u8],
    durability: Durability,
    decide: impl FnOnce(Option<&Entry>) -> Result<(Change, R)>,
) -> Result<(R, CommitTicket)> {
    Key::check(key)?;
    inner.check_open()?;
    let _lock = inner.locks.one(space.id, key)?;
    let old = read::get(inner, space, key, None)?;
    let (change, result) = key_locks::inside_update(|| decide(old.as_ref()))?;
    let entry = match change {
        Change::Keep => return Ok((result, inner.shown_ticket())),
        Change::Delete => Entry::delete(),
        Change::Put(value, options) => put_entry(inner, space, value, options)?,
    };
    let mut ops = Ops::default();
    sealed::push(inner, space, &mut ops, key, &entry)?;
    let bytes = ops.cost_bytes();
    let parts = vec![Part { space: Arc::clone(space), ops }];
    let changes = Changes { parts, bytes, ..Changes::default() };
    // Under the key lock: a flush, which makes room, needs no key lock.
    let _timed = inner.timed(OperationKind::Commit, || changes.shape());
    let _room = admit::admit(inner, &changes)?;
    Ok((result, commit_locked(inner, &changes, durability, &Own::Nothing)?))
}

/// Reads, decides and commits several keys, or everything there is, under their locks.
pub(crate) fn update_locked<R>(
    inner: &Arc<Inner>,
    scope: LockScope<'_>,
    decide: impl FnOnce(&mut LockedKeys) -> Result<R>,
) -> Result<(R, CommitTicket)> {
    inner.check_open()?;
    let stripes = match scope {
        LockScope::Keys(keys) => Stripes::of(keys.iter().map(|(keyspace, key)| (keyspace.space.id, *key))),
        LockScope::Everything => Stripes::All,
    };
    let _locks = inner.locks.stripes(&stripes)?;
    let mut locked = LockedKeys::new(inner, stripes)?;
    let result = key_locks::inside_update(|| decide(&mut locked))?;
    let changes = locked.into_changes()?;
    if changes.is_empty() {
        return Ok((result, inner.shown_ticket()));
    }
    let _timed = inner.timed(OperationKind::Commit, || changes.shape());
    let _room = admit::admit(inner, &changes)?;
    Ok((result, commit_locked(inner, &changes, inner.options.durability, &Own::Nothing)?))
}

/// An entry with a value that was held against the limits, not sealed yet.
pub(crate) fn put_entry(
    inner: &Inner,
    space: &Space,
    value: impl AsRef<[u8]> + Into<Vec<u8>>,
    options: EntryOptions,
) -> Result<Entry> {
    // Looked at before it is copied: a refused value costs nothing.
    sealed::check(inner, value.as_ref(), options.seal)?;
    let expires_at = space.expiry(options.expires_at, || inner.now());
    Ok(Entry::put_with(Value::new(value.into())?, EntryOptions { expires_at, ..options }))
}

/// Holds a value against the limits of this database.
pub(crate) fn check_value(inner: &Inner, value: &[u8]) -> Result<()> {
    check_value_bytes(inner, value.len())
}

/// As [`check_value`], for a value of so many bytes.
pub(crate) fn check_value_bytes(inner: &Inner, bytes: usize) -> Result<()> {
    if bytes <= inner.options.write_bytes_max() {
        return Ok(());
    }
    Err(admit::value_too_large(inner, bytes))
}

/// Steps 3 to 6, with the key locks held. What the audit log has to have of it is there first.
fn commit_locked(
    inner: &Arc<Inner>,
    changes: &Changes,
    durability: Durability,
    own: &Own<'_>,
) -> Result<CommitTicket> {
    match inner.audit() {
        None => commit_steps(inner, changes, durability, own),
        Some(core) => audit::committing(core, changes, || commit_steps(inner, changes, durability, own)),
    }
}

fn commit_steps(
    inner: &Arc<Inner>,
    changes: &Changes,
    durability: Durability,
    own: &Own<'_>,
) -> Result<CommitTicket> {
    let is_logged = is_logged(inner, changes)?;
    let (one, many);
    let sections: &[Section<'_>] = if let [part] = &*changes.parts {
        // No memory of its own for what most writes are.
        one = [encode::section(part)];
        &one
    } else {
        many = changes.parts.iter().map(encode::section).collect::<Vec<_>>();
        &many
    };

    // Here, where the keys cannot change: it may have to read, which nobody does with the writer's lock. What is not written
    // after all has broken watches for nothing, which is allowed.
    inner.watches.note(inner, changes)?;
    let mut writer = soon::lock(&inner.writer);
    inner.check_open()?;
    for space in changes.spaces() {
        space.check_writable()?;
    }
    if !changes.swapped.is_empty() {
        keyspaces::check_swaps(inner, &changes.swapped)?;
    }
    if let Own::Watch(watch) = own {
        watch.check()?;
    }
    writer.guards.meet(changes, own.guard())?;
    // What was prepared was asked about then, and has the promise that it can be committed.
    if !matches!(own, Own::Held(_)) {
        quota::check(changes)?;
    }
    let first = writer.sequencer.reserve(changes.seqnos());
    let end = if is_logged {
        log(inner, &mut writer, &encode::head(inner.now(), first, changes), sections, durability)?
    } else {
        Lsn(0)
    };
    // Held until it is published: who finds a keyspace by its new name sees all of the commit.
    let mut names = (!changes.swapped.is_empty()).then(|| inner.names.write());
    apply(inner, first, changes, names.as_deref_mut())?;
    publish(inner, first.plus(changes.seqnos() - 1), end, durability);
    if let Own::Held(guard) = own {
        writer.guards.remove(guard);
    }
    drop(writer);
    if let Some(durable) = inner.durable.as_ref().filter(|_| changes.has_ranges()) {
        durable.store.range_deleted();
    }
    Ok(ticket(inner, end, durability))
}

/// Step 4: one record, in the operating system's hands when this returns. Returns its end.
fn log(
    inner: &Inner,
    writer: &mut Writer,
    head: &RecordHead,
    sections: &[Section<'_>],
    durability: Durability,
) -> Result<Lsn> {
    let Some(durable) = &inner.durable else { return Ok(Lsn(0)) };
    let handover = if durability.is_synced() { Handover::Written } else { Handover::Stored };
    let append = || durable.log.append(head, sections, handover);
    // Without room for the next segment nothing was written; the reserve makes some.
    let again = |error| if durable.store.spend_reserve(&error) { append() } else { Err(error) };
    let appended = append().or_else(again)?;
    writer.sequencer.relate(head.first, appended.segment_first);
    durable.watch_log_size(appended.end);
    Ok(appended.end)
}

/// Step 5, in the order in which recovery does it.
fn apply(inner: &Inner, first: Seqno, changes: &Changes, names: Option<&mut Names>) -> Result<()> {
    let mut next = first;
    for space in &changes.truncated {
        match (&inner.durable, &space.keeper) {
            (Some(durable), Keeper::Lsm(trees)) => durable.store.truncate(trees, next)?,
            _ => space.engine().truncate(next)?,
        }
        next = next.plus(1);
    }
    if let Some(names) = names {
        for pair in &changes.swapped {
            keyspaces::swap_names(inner, names, pair, next);
            next = next.plus(1);
        }
    }
    for part in &changes.parts {
        match (&inner.durable, &part.space.keeper) {
            (Some(durable), Keeper::Lsm(trees)) => durable.store.apply(trees, next, &part.ops)?,
            _ => part.space.engine().apply(next, &part.ops)?,
        }
        next = next.plus(part.ops.len() as u64);
    }
    Ok(())
}

/// Step 6: all of it becomes visible at once.
pub(crate) fn publish(inner: &Inner, last: Seqno, end: Lsn, durability: Durability) {
    // First: who sees the commit must find it among those a reply has to wait for.
    if durability.is_synced() {
        inner.synced_commits_end.fetch_max(end.0, Ordering::AcqRel);
    }
    inner.snapshots.publish(last);
}

/// Steps 7 and 8: what the caller waits for.
fn ticket(inner: &Inner, end: Lsn, durability: Durability) -> CommitTicket {
    let Some(durable) = &inner.durable else { return CommitTicket::done() };
    let (log, now) = (&durable.log, || inner.options.env.clock.monotonic());
    match durability {
        Durability::Sync => CommitTicket::at(log, end, Duration::ZERO),
        Durability::Group { max_delay } => CommitTicket::at(log, end, now() + max_delay),
        Durability::Periodic { interval } => {
            log.sync_within(interval);
            CommitTicket::done()
        }
        Durability::Os => {
            log.sync_within(SYNC_DELAY_MAX);
            CommitTicket::done()
        }
    }
}
