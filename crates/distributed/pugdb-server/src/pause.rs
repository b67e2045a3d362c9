//! `CLIENT PAUSE`: commands that wait until it is over. No thread waits with them.

use std::pin::pin;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// Which commands wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paused {
    /// Those that write.
    Writes,
    All,
}

/// A pause of all clients, or none.
#[derive(Debug, Default)]
pub(crate) struct ClientPause {
    /// 0: none. A command looks at this alone while there is none.
    kind: AtomicU8,
    /// Guards the change of `kind`: when it is over.
    until: Mutex<Option<Instant>>,
    ended: Notify,
}

impl ClientPause {
    /// Begins a pause, or adds to one: of two kinds and two ends the stronger and the later one count.
    pub(crate) fn begin(&self, paused: Paused, end: Instant) {
        let mut until = self.until.lock();
        let now = Instant::now();
        let earlier = until.filter(|&earlier| earlier > now);
        *until = Some(earlier.map_or(end, |earlier| earlier.max(end)));
        let all = paused == Paused::All || (earlier.is_some() && self.kind.load(Ordering::Relaxed) == 2);
        self.kind.store(if all { 2 } else { 1 }, Ordering::Release);
    }

    /// Lets all go on.
    pub(crate) fn end(&self) {
        let mut until = self.until.lock();
        *until = None;
        self.kind.store(0, Ordering::Release);
        drop(until);
        self.ended.notify_waiters();
    }

    /// Which commands wait now.
    pub(crate) fn now(&self) -> Option<Paused> {
        let paused = match self.kind.load(Ordering::Acquire) {
            0 => return None,
            1 => Paused::Writes,
            _ => Paused::All,
        };
        let until = *self.until.lock();
        if until.is_some_and(|until| Instant::now() < until) { Some(paused) } else { None }
    }

    /// Done when no pause is on.
    pub(crate) async fn over(&self) {
        loop {
            let mut ended = pin!(self.ended.notified());
            // Before the look: an end between both is not missed.
            ended.as_mut().enable();
            if self.now().is_none() {
                return;
            }
            let Some(until) = *self.until.lock() else { return };
            // Either way there may be a new pause, or a longer one.
            let _ = timeout_at(until, ended).await;
        }
    }
}
