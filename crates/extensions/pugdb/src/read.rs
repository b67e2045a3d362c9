//! The read path: pin a read point, look, choose. The engine does the looking, the fetching and the choosing.

use std::sync::Arc;

use pugdb_core::engine::ReadPoint;
use pugdb_core::seam::{AtHand, Wait};
use pugdb_core::snapshots::SnapshotGuard;
use pugdb_core::{Entry, Error, Found, Result, Value};

use crate::audit;
use crate::database::Inner;
use crate::sealed;
use crate::slow::{OperationKind, Shape};
use crate::snapshot::Snapshot;
use crate::space::{Keeper, Space};

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
    look(inner, space, key, snapshot, Wait::Always)?.waited()
}

/// One key, if it is at hand or `wait` is [`Wait::Always`].
pub(crate) fn look(
    inner: &Arc<Inner>,
    space: &Space,
    key: &[u8],
    snapshot: Option<&Snapshot>,
    wait: Wait,
) -> Result<AtHand<Option<Entry>>> {
    audit::reading(inner, space, [key])?;
    let _timed = inner.timed(OperationKind::Get, || Shape::of_key(space.id, key));
    let looked = if let (Keeper::Lsm(trees), None) = (&space.keeper, snapshot) {
        // Nothing is pinned, so that readers write nothing that others read.
        inner.check_open()?;
        trees.get_unpinned(key, wait, || glance(inner, space))
    } else {
        let pinned = pin(inner, space, snapshot)?;
        match (snapshot.and_then(|snapshot| snapshot.view(space.id)), wait) {
            (Some(view), _) => view.look(key, pinned.point, wait),
            (None, Wait::Always) => space.engine().get(key, pinned.point).map(AtHand::Yes),
            (None, Wait::Never) => space.engine().try_get(key, pinned.point),
        }
    };
    match looked? {
        AtHand::WouldBlock => Ok(AtHand::WouldBlock),
        AtHand::Yes(None) => Ok(AtHand::Yes(None)),
        AtHand::Yes(Some(found)) => {
            sealed::open(inner, space, key, found.entry).map(|entry| AtHand::Yes(Some(entry)))
        }
    }
}

/// The read point of somebody who keeps nothing alive.
fn glance(inner: &Inner, space: &Space) -> Result<ReadPoint> {
    let (seqno, now) = inner.snapshots.glance(inner.options.env.clock.now());
    space.check_readable(seqno)?;
    Ok(ReadPoint { seqno, now })
}

/// Whether a key is there. A value that lies apart is not fetched.
pub(crate) fn exists(
    inner: &Arc<Inner>,
    space: &Space,
    key: &[u8],
    snapshot: Option<&Snapshot>,
) -> Result<bool> {
    audit::reading(inner, space, [key])?;
    let _timed = inner.timed(OperationKind::Exists, || Shape::of_key(space.id, key));
    if let (Keeper::Lsm(trees), None) = (&space.keeper, snapshot) {
        inner.check_open()?;
        return trees.exists_unpinned(key, || glance(inner, space));
    }
    let pinned = pin(inner, space, snapshot)?;
    match snapshot.and_then(|snapshot| snapshot.view(space.id)) {
        Some(view) => view.exists(key, pinned.point),
        None => space.engine().exists(key, pinned.point),
    }
}

/// Several keys at one read point.
pub(crate) fn multi_get(
    inner: &Arc<Inner>,
    space: &Space,
    keys: &[&[u8]],
    snapshot: Option<&Snapshot>,
) -> Result<Vec<Option<Entry>>> {
    let shape = || Shape {
        keyspace: Some(space.id),
        keys: keys.len(),
        bytes: keys.iter().map(|key| key.len()).sum(),
    };
    audit::reading(inner, space, keys.iter().copied())?;
    let _timed = inner.timed(OperationKind::MultiGet, shape);
    let pinned = pin(inner, space, snapshot)?;
    let found = match snapshot.and_then(|snapshot| snapshot.view(space.id)) {
        Some(view) => view.multi_get(keys, pinned.point),
        None => space.engine().multi_get(keys, pinned.point),
    }?;
    let open = |(found, key): (Option<Found>, &&[u8])| {
        found.map(|found| sealed::open(inner, space, key, found.entry)).transpose()
    };
    found.into_iter().zip(keys).map(open).collect()
}

/// The value of an entry.
pub(crate) fn value(looked: AtHand<Option<Entry>>) -> AtHand<Option<Value>> {
    looked.map(|entry| entry.map(|entry| entry.value))
}

/// The values of entries.
pub(crate) fn values(entries: Vec<Option<Entry>>) -> Vec<Option<Value>> {
    entries.into_iter().map(|entry| entry.map(|entry| entry.value)).collect()
}
