//! Who may wait inside a command: decides whether a chunk of commands runs on its thread as it is, or hands the
//! thread's other work over first; and watches that nobody is left waiting behind a chunk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};

use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::block_in_place;

use crate::limits::{HANDED_OVER_MAX, WATCH_PAUSE, WATCH_PAUSES_IDLE};

/// Database calls are synchronous. Nearly all are answered from memory in a microsecond; some wait, for a block from
/// disk or because writers are faster than flushes. Nobody knows beforehand which. Handing a thread's work over
/// (`block_in_place`) wakes another thread each time, which costs more than most chunks do. So a chunk runs as it is
/// while another thread of the runtime is free to serve everybody else, and only the last free one hands over.
///
/// A free thread may be asleep, though, with the sockets' events left to the very thread that now waits: the runtime
/// has one thread look at them at a time. The [`Watchman`] notices that chunks run and none ends, and wakes one.
///
/// Each chunk that hands over takes a thread of its own for as long as it runs, so there is a limit to those; who comes
/// then waits its turn without a thread.
///
/// Measured with `redis-benchmark -c 50 -P 16` on two cores (thousand GET a second in memory, middle of three runs):
/// never handing over 586, this gate with four threads 594, always handing over 411 to 415.
pub(crate) struct Gate {
    threads: usize,
    /// Threads that are inside a chunk without having handed over.
    held: AtomicUsize,
    /// Chunks that have ended on such a thread.
    passed: AtomicU64,
    /// Places for chunks that hand over.
    places: Semaphore,
    /// The watchman sleeps until a chunk begins.
    resting: AtomicBool,
    /// Guards the watchman's decision to sleep: true when the server is over.
    over: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    pub(crate) fn new(threads: usize) -> Self {
        Self {
            threads,
            held: AtomicUsize::new(0),
            passed: AtomicU64::new(0),
            places: Semaphore::new(HANDED_OVER_MAX),
            resting: AtomicBool::new(false),
            over: Mutex::new(false),
            changed: Condvar::new(),
        }
    }

    /// How many serve connections.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Runs a chunk, which does not panic.
    pub(crate) async fn run<R>(&self, chunk: impl FnOnce() -> R) -> R {
        // With the store and the load of the watchman in the other order, one of both sees the other.
        if self.held.fetch_add(1, Ordering::SeqCst) + 1 >= self.threads {
            self.held.fetch_sub(1, Ordering::SeqCst);
            // It is never closed.
            let _place = self.places.acquire().await;
            return block_in_place(chunk);
        }
        if self.resting.load(Ordering::SeqCst) {
            let _asleep_or_awake = self.over.lock();
            self.changed.notify_one();
        }
        let result = chunk();
        self.passed.fetch_add(1, Ordering::Relaxed);
        self.held.fetch_sub(1, Ordering::SeqCst);
        result
    }

    /// Looks at short intervals whether chunks run and none has ended; sleeps when there are none for a while.
    fn watch(&self, runtime: &Handle) {
        let (mut passed_before, mut idle) = (0, 0);
        let mut over = self.over.lock();
        while !*over {
            let (held, passed) = (self.held.load(Ordering::SeqCst), self.passed.load(Ordering::Relaxed));
            let progress = passed != passed_before;
            passed_before = passed;
            if held > 0 && !progress {
                // Whatever is spawned from here wakes a thread that sleeps, and that looks at the sockets then.
                drop(runtime.spawn(async {}));
            }
            idle = if held > 0 || progress { 0 } else { idle + 1 };
            if idle < WATCH_PAUSES_IDLE {
                self.changed.wait_for(&mut over, WATCH_PAUSE);
                continue;
            }
            self.resting.store(true, Ordering::SeqCst);
            if self.held.load(Ordering::SeqCst) == 0 {
                self.changed.wait(&mut over);
            }
            self.resting.store(false, Ordering::SeqCst);
            idle = 0;
        }
    }
}

/// The thread that watches a gate, until it is dropped.
pub(crate) struct Watchman {
    gate: Arc<Gate>,
    thread: Option<JoinHandle<()>>,
}

impl Watchman {
    pub(crate) fn start(gate: &Arc<Gate>, runtime: Handle) -> std::io::Result<Self> {
        let watched = Arc::clone(gate);
        let thread = Builder::new().name("pugdb-watch".into()).spawn(move || watched.watch(&runtime))?;
        Ok(Self { gate: Arc::clone(gate), thread: Some(thread) })
    }
}

impl Drop for Watchman {
    fn drop(&mut self) {
        *self.gate.over.lock() = true;
        self.gate.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // It has no reason to panic, and nobody could be told here.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn very_many_chunks_that_wait_take_a_bounded_number_of_threads() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
        let gate = Arc::new(Gate::new(2));
        let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let barrier = Arc::new(Barrier::new(HANDED_OVER_MAX));
        let chunks = (0..HANDED_OVER_MAX * 10).map(|_| {
            let (gate, inside, most) = (Arc::clone(&gate), Arc::clone(&inside), Arc::clone(&most));
            let barrier = Arc::clone(&barrier);
            runtime.spawn(async move {
                let wait = || {
                    most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    barrier.wait();
                    inside.fetch_sub(1, Ordering::SeqCst);
                };
                gate.run(wait).await;
            })
        });
        let chunks: Vec<_> = chunks.collect();
        runtime.block_on(async {
            for chunk in chunks {
                chunk.await.unwrap();
            }
        });
        let most = most.load(Ordering::SeqCst);
        assert!((HANDED_OVER_MAX..=HANDED_OVER_MAX + 1).contains(&most), "{most} at a time");
    }
}
