//! May this write come in? Limits, an open database, room in memory. Write path, step 1.

use pugdb_core::engine::Persistence;
use pugdb_core::{Error, Result, limits};
use pugdb_lsm::store::Admission;

use crate::batch::Changes;
use crate::database::Inner;
use crate::key_locks::refuse_inside_update;

/// Refuses what breaks a rule, then waits for room in memory, which is kept until the guard is dropped.
pub(super) fn admit<'a>(inner: &'a Inner, changes: &Changes) -> Result<Option<Admission<'a>>> {
    inner.check_open()?;
    // Before the wait: the thread may be the one that would make room.
    refuse_inside_update()?;
    match &inner.durable {
        Some(durable) if !changes.parts.is_empty() => {
            if durable.store.is_disk_full() && changes.adds() {
                durable.store.refuse_on_full_disk()?;
            }
            durable.store.admit(changes.bytes).map(Some)
        }
        // What only removes needs no room, and may be what makes some.
        Some(durable) => durable.failure().map_or(Ok(None), Err),
        None => Ok(None),
    }
}

/// True when the changes are logged, false when a crash may take them.
///
/// # Errors
/// `Invalid` when some are and some are not, or a keyspace without a log is one of several: half of the batch could be lost.
pub(crate) fn is_logged(inner: &Inner, changes: &Changes) -> Result<bool> {
    // What most writes are; it asks for no memory.
    if let ([part], true) = (&*changes.parts, changes.truncated.is_empty() && changes.swapped.is_empty()) {
        return Ok(inner.durable.is_some() && part.space.is_logged());
    }
    let spaces = changes.truncated.iter().chain(changes.parts.iter().map(|part| &part.space));
    let (logged, others): (Vec<_>, Vec<_>) = spaces.partition(|space| space.is_logged());
    if inner.durable.is_none() || others.is_empty() {
        return Ok(inner.durable.is_some());
    }
    let unlogged = others.iter().find(|space| space.kind.persistence() == Persistence::Durable);
    if let Some(unlogged) = unlogged {
        // Each of them is flushed by itself, so not even two of them would be all or nothing.
        let swapped = changes.swapped.iter().map(|(one, _)| one);
        let mut all = logged.iter().chain(&others).copied().chain(swapped);
        if let Some(other) = all.find(|space| space.id != unlogged.id) {
            return Err(Error::invalid(format!(
                "the batch changes {:?}, which has no log, and {:?}; it could not be all or nothing after a crash",
                &*unlogged.name(),
                &*other.name()
            )));
        }
    }
    // Names are on disk, those of keyspaces in memory too.
    if !logged.is_empty() || !changes.swapped.is_empty() {
        return Err(Error::invalid(
            "the batch mixes keyspaces on disk with keyspaces in memory; it could not be all or nothing after a crash",
        ));
    }
    Ok(false)
}

/// The most that the operations of one batch may take.
pub(crate) fn batch_bytes_max(inner: &Inner) -> usize {
    limits::BATCH_BYTES_MAX.min(inner.options.write_bytes_max())
}

pub(crate) fn batch_too_large(inner: &Inner) -> Error {
    Error::invalid(format!(
        "the batch is too large: at most {} bytes and a quarter of memory_bytes, which is {} here; split it",
        limits::BATCH_BYTES_MAX,
        inner.options.write_bytes_max()
    ))
}

pub(super) fn value_too_large(inner: &Inner, bytes: usize) -> Error {
    Error::invalid(format!(
        "the value has {bytes} bytes; at most {} and a quarter of memory_bytes, which is {} here, are allowed",
        limits::VALUE_BYTES_MAX,
        inner.options.write_bytes_max()
    ))
}
