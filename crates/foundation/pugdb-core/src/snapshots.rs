//! What readers see: the newest published operation, and the oldest one that a snapshot still holds on to.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::ids::Seqno;

/// The visible seqno of a sequence domain and its live snapshots.
///
/// Invariant: an engine may forget a version only when a newer one is at or below [`horizon`](Self::horizon). A
/// snapshot is taken and the horizon is computed under one lock, so a horizon is never past a snapshot that exists
/// or one that is taken later.
///
/// ```
/// use pugdb_core::Seqno;
/// use pugdb_core::snapshots::Snapshots;
///
/// let snapshots = Snapshots::new(Seqno(5));
/// let snapshot = snapshots.take();
/// snapshots.publish(Seqno(9));
/// assert_eq!((snapshot.seqno(), snapshots.horizon()), (Seqno(5), Seqno(5)));
/// drop(snapshot);
/// assert_eq!(snapshots.horizon(), Seqno(9));
/// ```
#[derive(Debug)]
pub struct Snapshots {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    visible: Seqno,
    /// How many snapshots hold each seqno.
    live: BTreeMap<Seqno, usize>,
}

impl Snapshots {
    /// Starts with everything up to `visible` published.
    pub fn new(visible: Seqno) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { visible, live: BTreeMap::new() }) })
    }

    /// Makes every operation up to `seqno` visible. Publishing never goes back.
    pub fn publish(&self, seqno: Seqno) {
        let mut state = self.state.lock();
        state.visible = state.visible.max(seqno);
    }

    /// The newest published operation.
    pub fn visible(&self) -> Seqno {
        self.state.lock().visible
    }

    /// The oldest read point that exists or can still come into being.
    pub fn horizon(&self) -> Seqno {
        let state = self.state.lock();
        state.live.first_key_value().map_or(state.visible, |(&oldest, _)| oldest.min(state.visible))
    }

    /// A snapshot of everything visible now.
    #[must_use]
    pub fn take(self: &Arc<Self>) -> SnapshotGuard {
        let mut state = self.state.lock();
        let seqno = state.visible;
        *state.live.entry(seqno).or_insert(0) += 1;
        SnapshotGuard { snapshots: Arc::clone(self), seqno }
    }

    /// How many snapshots are alive.
    pub fn live(&self) -> usize {
        self.state.lock().live.values().sum()
    }
}

/// Keeps the versions at one seqno readable until it is dropped.
#[derive(Debug)]
pub struct SnapshotGuard {
    snapshots: Arc<Snapshots>,
    seqno: Seqno,
}

impl SnapshotGuard {
    /// The newest operation this snapshot sees.
    pub fn seqno(&self) -> Seqno {
        self.seqno
    }
}

impl Clone for SnapshotGuard {
    fn clone(&self) -> Self {
        *self.snapshots.state.lock().live.entry(self.seqno).or_insert(0) += 1;
        Self { snapshots: Arc::clone(&self.snapshots), seqno: self.seqno }
    }
}

impl Drop for SnapshotGuard {
    fn drop(&mut self) {
        let mut state = self.snapshots.state.lock();
        if let Some(count) = state.live.get_mut(&self.seqno) {
            *count -= 1;
            if *count == 0 {
                state.live.remove(&self.seqno);
            }
        }
    }
}
