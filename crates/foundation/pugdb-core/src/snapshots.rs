//! What readers see: the newest published operation and the time; and the oldest ones that a snapshot still holds on to.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::entry::Timestamp;
use crate::ids::Seqno;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};

/// The visible seqno of a sequence domain, its time, and its live snapshots.
///
/// Invariant: an engine may forget a version only when a newer one is at or below [`horizon`](Self::horizon), or when
/// it had expired at the [`expiry_horizon`](Self::expiry_horizon). A snapshot is taken and the horizons are computed
/// under one lock, so a horizon is never past a snapshot that exists or one that is taken later.
///
/// The time is that of expiry: the latest that anybody was given. It never goes back.
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
    /// The latest time that a read or a write was given. Snapshots read it under the lock below.
    time: AtomicU64,
    /// The newest published operation. Changed under the lock below.
    visible: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The places of live snapshots, each once. Neither seqno nor moment ever goes back, so both ascend, and no memory
    /// is asked for while few are alive.
    live: VecDeque<Place>,
}

/// Where snapshots look.
#[derive(Debug)]
struct Place {
    seqno: Seqno,
    now: Timestamp,
    snapshots: usize,
}

impl Snapshots {
    /// Starts with everything up to `visible` published.
    pub fn new(visible: Seqno) -> Arc<Self> {
        let (time, visible) = (AtomicU64::new(0), AtomicU64::new(visible.0));
        Arc::new(Self { time, visible, state: Mutex::new(State { live: VecDeque::new() }) })
    }

    /// Makes every operation up to `seqno` visible. Publishing never goes back.
    pub fn publish(&self, seqno: Seqno) {
        let _state = self.state.lock();
        self.visible.fetch_max(seqno.0, Ordering::AcqRel);
    }

    /// The newest published operation.
    pub fn visible(&self) -> Seqno {
        Seqno(self.visible.load(Ordering::Acquire))
    }

    /// Everything visible, when the calendar says `now`, for a look that holds nothing. It is for a reader that has got hold
    /// of its engine's structures *before* it asks: no version that it needs had been forgotten then, because every horizon
    /// until then was at or below this.
    pub fn glance(&self, now: Timestamp) -> (Seqno, Timestamp) {
        let seqno = self.visible();
        let time = self.time();
        (seqno, if time < now { self.advance(now) } else { time })
    }

    /// The oldest read point that exists or can still come into being.
    pub fn horizon(&self) -> Seqno {
        let state = self.state.lock();
        // Under the lock: whoever takes a snapshot after this sees this or more.
        let visible = self.visible();
        state.live.front().map_or(visible, |oldest| oldest.seqno.min(visible))
    }

    /// Every place at which somebody can look, now or later, ascending: those of live snapshots, and the newest, which stands
    /// for all that come.
    pub fn read_points(&self) -> Vec<Seqno> {
        let state = self.state.lock();
        let visible = self.visible();
        let live = state.live.iter().map(|place| place.seqno.min(visible));
        let mut points: Vec<Seqno> = live.chain([visible]).collect();
        points.dedup();
        points
    }

    /// The time after the calendar has said `now`: never behind one that was given before.
    pub fn advance(&self, now: Timestamp) -> Timestamp {
        Timestamp(self.time.fetch_max(now.0, Ordering::AcqRel).max(now.0))
    }

    /// The latest time that was given.
    pub fn time(&self) -> Timestamp {
        Timestamp(self.time.load(Ordering::Acquire))
    }

    /// The earliest moment at which somebody can still judge expiry, now or later: what had expired at it is gone for
    /// everybody.
    pub fn expiry_horizon(&self) -> Timestamp {
        let state = self.state.lock();
        // Under the lock: whoever takes a snapshot after this is given this time or a later one.
        let time = self.time();
        state.live.front().map_or(time, |oldest| oldest.now.min(time))
    }

    /// A snapshot of everything visible, at the time that was given last.
    #[must_use]
    pub fn take(self: &Arc<Self>) -> SnapshotGuard {
        self.take_at(Timestamp(0))
    }

    /// A snapshot of everything visible, when the calendar says `now`.
    #[must_use]
    pub fn take_at(self: &Arc<Self>, now: Timestamp) -> SnapshotGuard {
        let mut state = self.state.lock();
        let (seqno, now) = (self.visible(), self.advance(now));
        match state.live.back_mut().filter(|last| (last.seqno, last.now) == (seqno, now)) {
            Some(last) => last.snapshots += 1,
            None => state.live.push_back(Place { seqno, now, snapshots: 1 }),
        }
        SnapshotGuard { snapshots: Arc::clone(self), seqno, now }
    }

    /// How many snapshots are alive.
    pub fn live(&self) -> usize {
        self.state.lock().live.iter().map(|place| place.snapshots).sum()
    }
}

/// Keeps the versions at one seqno readable until it is dropped, and what had not expired at one moment.
#[derive(Debug)]
pub struct SnapshotGuard {
    snapshots: Arc<Snapshots>,
    seqno: Seqno,
    now: Timestamp,
}

impl SnapshotGuard {
    /// The newest operation this snapshot sees.
    pub fn seqno(&self) -> Seqno {
        self.seqno
    }

    /// The moment at which it judges expiry.
    pub fn now(&self) -> Timestamp {
        self.now
    }
}

impl Clone for SnapshotGuard {
    fn clone(&self) -> Self {
        let mut state = self.snapshots.state.lock();
        if let Some(at) = state.find(self.seqno, self.now) {
            state.live[at].snapshots += 1;
        }
        drop(state);
        Self { snapshots: Arc::clone(&self.snapshots), ..*self }
    }
}

impl Drop for SnapshotGuard {
    fn drop(&mut self) {
        let mut state = self.snapshots.state.lock();
        if let Some(at) = state.find(self.seqno, self.now) {
            state.live[at].snapshots -= 1;
            if state.live[at].snapshots == 0 {
                state.live.remove(at);
            }
        }
    }
}

impl State {
    /// The place of a snapshot; it has one while it is alive.
    fn find(&self, seqno: Seqno, now: Timestamp) -> Option<usize> {
        self.live.binary_search_by(|place| (place.seqno, place.now).cmp(&(seqno, now))).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_goes_back_and_a_snapshot_holds_its_own() {
        let snapshots = Snapshots::new(Seqno(1));
        assert_eq!(snapshots.advance(Timestamp(50)), Timestamp(50));
        assert_eq!(snapshots.advance(Timestamp(20)), Timestamp(50));
        let early = snapshots.take_at(Timestamp(30));
        assert_eq!((early.now(), snapshots.expiry_horizon()), (Timestamp(50), Timestamp(50)));
        let late = snapshots.take_at(Timestamp(90));
        assert_eq!((late.now(), snapshots.expiry_horizon()), (Timestamp(90), Timestamp(50)));
        let copy = early.clone();
        drop(early);
        assert_eq!(snapshots.expiry_horizon(), Timestamp(50));
        drop(copy);
        assert_eq!((snapshots.expiry_horizon(), snapshots.live()), (Timestamp(90), 1));
    }

    #[test]
    fn a_glance_sees_what_a_snapshot_would_and_holds_nothing() {
        let snapshots = Snapshots::new(Seqno(1));
        assert_eq!(snapshots.glance(Timestamp(50)), (Seqno(1), Timestamp(50)));
        snapshots.publish(Seqno(3));
        assert_eq!(snapshots.glance(Timestamp(20)), (Seqno(3), Timestamp(50)));
        assert_eq!((snapshots.live(), snapshots.time()), (0, Timestamp(50)));
        assert_eq!(snapshots.read_points(), [Seqno(3)]);
        snapshots.publish(Seqno(2));
        assert_eq!((snapshots.visible(), snapshots.horizon()), (Seqno(3), Seqno(3)));
    }

    #[test]
    fn the_oldest_that_is_left_decides_in_whatever_order_they_go() {
        let snapshots = Snapshots::new(Seqno(0));
        let mut guards = Vec::new();
        for step in 1..=10 {
            snapshots.publish(Seqno(step));
            guards.push(snapshots.take_at(Timestamp(step / 2)));
            guards.push(snapshots.take());
        }
        for at in [7, 0, 3, 11, 0, 0, 9, 2] {
            drop(guards.remove(at));
            let oldest = guards.iter().map(SnapshotGuard::seqno).min();
            let earliest = guards.iter().map(SnapshotGuard::now).min();
            assert_eq!((Some(snapshots.horizon()), Some(snapshots.expiry_horizon())), (oldest, earliest));
            assert_eq!(snapshots.live(), guards.len());
            let mut points: Vec<Seqno> = guards.iter().map(SnapshotGuard::seqno).chain([Seqno(10)]).collect();
            points.dedup();
            assert_eq!(snapshots.read_points(), points);
        }
        guards.clear();
        assert_eq!(
            (snapshots.horizon(), snapshots.expiry_horizon(), snapshots.live()),
            (Seqno(10), Timestamp(5), 0)
        );
    }
}

/// `RUSTFLAGS="--cfg loom" cargo test -p pugdb-core --lib under_loom`
#[cfg(all(test, loom))]
mod under_loom {
    use loom::sync::atomic::AtomicU64 as Cell;
    use loom::thread;

    use super::*;

    /// What the engine has forgotten: everything below.
    fn forget(forgotten: &Cell, horizon: u64) {
        forgotten.fetch_max(horizon, Ordering::AcqRel);
    }

    #[test]
    fn nothing_is_forgotten_that_a_snapshot_can_see() {
        loom::model(|| {
            let snapshots = Snapshots::new(Seqno(1));
            let forgotten = Arc::new(Cell::new(0));
            let engine = {
                let (snapshots, forgotten) = (Arc::clone(&snapshots), Arc::clone(&forgotten));
                thread::spawn(move || {
                    snapshots.publish(Seqno(2));
                    forget(&forgotten, snapshots.horizon().0);
                })
            };
            let snapshot = snapshots.take();
            assert!(forgotten.load(Ordering::Acquire) <= snapshot.seqno().0);
            let copy = snapshot.clone();
            drop(snapshot);
            assert!(snapshots.read_points().contains(&copy.seqno()));
            engine.join().unwrap();
            assert!(forgotten.load(Ordering::Acquire) <= copy.seqno().0);
            assert!(snapshots.horizon() <= copy.seqno());
            drop(copy);
            assert_eq!((snapshots.horizon(), snapshots.live()), (Seqno(2), 0));
        });
    }

    #[test]
    fn nothing_expires_that_a_snapshot_can_see() {
        loom::model(|| {
            let snapshots = Snapshots::new(Seqno(1));
            let expired = Arc::new(Cell::new(0));
            let engine = {
                let (snapshots, expired) = (Arc::clone(&snapshots), Arc::clone(&expired));
                thread::spawn(move || {
                    assert!(snapshots.advance(Timestamp(20)) >= Timestamp(20));
                    forget(&expired, snapshots.expiry_horizon().0);
                })
            };
            let snapshot = snapshots.take_at(Timestamp(10));
            assert!(expired.load(Ordering::Acquire) <= snapshot.now().0);
            engine.join().unwrap();
            assert!(expired.load(Ordering::Acquire) <= snapshot.now().0);
            assert!(snapshots.time() == Timestamp(20) && snapshots.expiry_horizon() == snapshot.now());
        });
    }

    #[test]
    fn who_sees_an_operation_sees_what_was_written_before_it_was_published() {
        loom::model(|| {
            let snapshots = Snapshots::new(Seqno(1));
            let written = Arc::new(Cell::new(0));
            let writer = {
                let (snapshots, written) = (Arc::clone(&snapshots), Arc::clone(&written));
                thread::spawn(move || {
                    written.store(7, Ordering::Relaxed);
                    snapshots.publish(Seqno(2));
                })
            };
            let (seqno, _) = snapshots.glance(Timestamp(0));
            assert!(seqno == Seqno(1) || written.load(Ordering::Relaxed) == 7);
            writer.join().unwrap();
        });
    }

    #[test]
    fn what_a_reader_holds_is_not_older_than_what_it_looks_at() {
        loom::model(|| {
            let snapshots = Snapshots::new(Seqno(1));
            let forgotten = Arc::new(Cell::new(0));
            let engine = {
                let (snapshots, forgotten) = (Arc::clone(&snapshots), Arc::clone(&forgotten));
                thread::spawn(move || {
                    snapshots.publish(Seqno(2));
                    forget(&forgotten, snapshots.horizon().0);
                })
            };
            // First it gets hold of the structures, then it asks.
            let held = forgotten.load(Ordering::Acquire);
            assert!(held <= snapshots.glance(Timestamp(0)).0.0);
            engine.join().unwrap();
        });
    }
}
