//! Threads for what may wait for the disk or for others, so that no thread of a runtime does. Made when they are needed, and let go
//! when they are not.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use pugdb_core::env::{Env, Job, JobHandle, Next};
use pugdb_core::{Error, Result};

/// More than this wait in line. So many, because one may hold a row that the others wait for.
const THREADS_MAX: usize = 512;
/// A thread that has nothing to do for so long ends.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// Does what is to be done, and gives what tells of the result: whoever is told may be back with more before this thread is.
type Work = Box<dyn FnOnce() -> Tell + Send>;
type Tell = Box<dyn FnOnce()>;

/// The threads of an asynchronous database.
pub(super) struct Pool {
    env: Env,
    /// Guards who does what.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Work>,
    /// By number; those that ended are taken out.
    threads: Vec<(u64, JobHandle)>,
    /// The numbers of those that have nothing to do.
    idle: Vec<u64>,
    /// How many have done their work, and only tell of it: each takes one more when it has.
    telling: usize,
    last_number: u64,
}

impl Pool {
    pub(super) fn new(env: Env) -> Arc<Self> {
        Arc::new(Self { env, state: Mutex::default() })
    }

    /// Does something elsewhere. It is not begun when the future is dropped before, and goes on to its end when it was.
    pub(super) fn run<R: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce() -> Result<R> + Send + 'static,
    ) -> Elsewhere<R> {
        let slot = Arc::new(Slot { state: Mutex::new(SlotState::Waiting(None)) });
        let theirs = Arc::clone(&slot);
        self.send(Box::new(move || {
            if !theirs.is_wanted() {
                return Box::new(|| ());
            }
            // Nothing of it is used after a panic.
            let result = catch_unwind(AssertUnwindSafe(work));
            let result = result.unwrap_or_else(|panic| Err(panicked(&*panic)));
            Box::new(move || theirs.fill(result))
        }));
        Elsewhere { slot }
    }

    fn send(self: &Arc<Self>, work: Work) {
        let mut state = self.state.lock();
        state.waiting.push_back(work);
        if let Some(number) = state.idle.pop() {
            if let Some((_, thread)) = state.threads.iter().find(|(other, _)| *other == number) {
                thread.wake();
            }
        } else if state.waiting.len() > state.telling && state.threads.len() < THREADS_MAX {
            state.last_number += 1;
            let number = state.last_number;
            let thread = Thread { pool: Arc::clone(self), number, idle_until: None, is_telling: false };
            // With the lock held: the thread finds its own handle here when it looks.
            let handle = self.env.executor.spawn("pugdb-async", Box::new(thread));
            state.threads.push((number, handle));
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        write!(
            f,
            "Pool({} threads, {} idle, {} in line)",
            state.threads.len(),
            state.idle.len(),
            state.waiting.len()
        )
    }
}

struct Thread {
    pool: Arc<Pool>,
    number: u64,
    idle_until: Option<Duration>,
    /// Counted among those that tell.
    is_telling: bool,
}

impl Job for Thread {
    fn run(&mut self) -> Next {
        let mut state = self.pool.state.lock();
        if std::mem::take(&mut self.is_telling) {
            state.telling -= 1;
        }
        // Woken or not: it is not idle while it is here.
        state.idle.retain(|other| *other != self.number);
        if let Some(work) = state.waiting.pop_front() {
            drop(state);
            self.idle_until = None;
            let tell = work();
            self.pool.state.lock().telling += 1;
            self.is_telling = true;
            // Whoever is told may panic, and somebody may count on this thread.
            let _ = catch_unwind(AssertUnwindSafe(tell));
            return Next::Again;
        }
        let now = self.pool.env.clock.monotonic();
        let until = *self.idle_until.get_or_insert(now + IDLE_MAX);
        if until <= now {
            state.threads.retain(|(other, _)| *other != self.number);
            return Next::Done;
        }
        state.idle.push(self.number);
        Next::WaitUntil(until)
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let is_known = panic.is::<&str>() || panic.is::<String>();
    // What it says may hold what it was working on.
    Error::internal(if is_known {
        "what was to be done elsewhere has panicked; its message is on standard error"
    } else {
        "what was to be done elsewhere has panicked"
    })
}

/// The result of what is done elsewhere.
pub(super) struct Elsewhere<R> {
    slot: Arc<Slot<R>>,
}

struct Slot<R> {
    state: Mutex<SlotState<R>>,
}

enum SlotState<R> {
    Waiting(Option<Waker>),
    Done(Result<R>),
    /// Nobody waits any more, or the result was taken.
    Over,
}

impl<R> Slot<R> {
    fn is_wanted(&self) -> bool {
        matches!(*self.state.lock(), SlotState::Waiting(_))
    }

    fn fill(&self, result: Result<R>) {
        let mut state = self.state.lock();
        if let SlotState::Waiting(waker) = &mut *state {
            let waker = waker.take();
            *state = SlotState::Done(result);
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl<R> Future for Elsewhere<R> {
    type Output = Result<R>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<R>> {
        let mut state = self.slot.state.lock();
        match &mut *state {
            SlotState::Waiting(waker) => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
            SlotState::Done(_) => match std::mem::replace(&mut *state, SlotState::Over) {
                SlotState::Done(result) => Poll::Ready(result),
                SlotState::Waiting(_) | SlotState::Over => Poll::Pending,
            },
            SlotState::Over => Poll::Ready(Err(Error::internal("a future was polled after its end"))),
        }
    }
}

impl<R> Drop for Elsewhere<R> {
    fn drop(&mut self) {
        *self.slot.state.lock() = SlotState::Over;
    }
}
