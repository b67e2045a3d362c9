//! The read path: pin a read point, look, choose. The engine does the looking, the fetching and the choosing.

use std::sync::Arc;

use pugdb_core::engine::ReadPoint;
use pugdb_core::snapshots::SnapshotGuard;
use pugdb_core::{Entry, Error, Result, Value};

use crate::database::Inner;
use crate::keyspace::Space;
use crate::snapshot::Snapshot;

/// A read point, and what keeps its versions alive.
pub(crate) struct Pinned {
    pub(crate) point: ReadPoint,
    /// `None` when the caller's snapshot keeps them.
    _guard: Option<SnapshotGuard>,
}

/// Pins the caller's snapshot, or everything visible now.
pub(crate) fn pin(inner: &Arc<Inner>, space: &Space, snapshot: Option<&Snapshot>) -> Result<Pinned> {
    inner.check_open()?;
    if snapshot.is_some_and(|snapshot| !Arc::ptr_eq(inner, &snapshot.inner)) {
        return Err(Error::invalid("the snapshot belongs to another database"));
    }
    let pinned = snapshot.map_or_else(
        || {
            let guard = inner.snapshots.take_at(inner.options.env.clock.now());
            Pinned { point: ReadPoint { seqno: guard.seqno(), now: guard.now() }, _guard: Some(guard) }
        },
        |snapshot| Pinned { point: snapshot.point(), _guard: None },
    );
    space.check_readable(pinned.point.seqno)?;
    Ok(pinned)
}

/// One key.
pub(crate) fn get(
    inner: &Arc<Inner>,
    space: &Space,
    key: &[u8],
    snapshot: Option<&Snapshot>,
) -> Result<Option<Entry>> {
    let pinned = pin(inner, space, snapshot)?;
    Ok(space.engine().get(key, pinned.point)?.map(|found| found.entry))
}

/// Several keys at one read point.
pub(crate) fn multi_get(
    inner: &Arc<Inner>,
    space: &Space,
    keys: &[&[u8]],
    snapshot: Option<&Snapshot>,
) -> Result<Vec<Option<Entry>>> {
    let pinned = pin(inner, space, snapshot)?;
    let found = space.engine().multi_get(keys, pinned.point)?;
    Ok(found.into_iter().map(|found| found.map(|found| found.entry)).collect())
}

/// The values of entries.
pub(crate) fn values(entries: Vec<Option<Entry>>) -> Vec<Option<Value>> {
    entries.into_iter().map(|entry| entry.map(|entry| entry.value)).collect()
}
