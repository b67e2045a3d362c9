//! Who may wait inside a command: decides whether a chunk of commands runs on its thread as it is, or hands the
//! thread's other work over first.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::block_in_place;

/// Database calls are synchronous. Nearly all are answered from memory in a microsecond; some wait, for a block from
/// disk or because writers are faster than flushes. Nobody knows beforehand which. Handing a thread's work over
/// (`block_in_place`) wakes another thread each time, which costs more than most chunks do. So a chunk runs as it is
/// while another thread of the runtime is free to serve everybody else, and only the last free one hands over.
///
/// Measured with `redis-benchmark -c 50 -P 16` on two cores (thousand GET a second in memory, middle of three runs):
/// never handing over 586, this gate with four threads 594, always handing over 411 to 415.
pub(crate) struct Gate {
    threads: usize,
    /// Threads that are inside a chunk without having handed over.
    held: AtomicUsize,
}

impl Gate {
    pub(crate) fn new(threads: usize) -> Self {
        Self { threads, held: AtomicUsize::new(0) }
    }

    /// Runs a chunk, which does not panic.
    pub(crate) fn run<R>(&self, chunk: impl FnOnce() -> R) -> R {
        if self.held.fetch_add(1, Ordering::Relaxed) + 1 < self.threads {
            let result = chunk();
            self.held.fetch_sub(1, Ordering::Relaxed);
            result
        } else {
            self.held.fetch_sub(1, Ordering::Relaxed);
            block_in_place(chunk)
        }
    }
}
