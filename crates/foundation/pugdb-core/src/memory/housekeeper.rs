//! Housekeeping in memory: the job that gives back what nobody can read any more, when no write comes by to do it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use crate::entry::Timestamp;
use crate::env::{Clock, Env, Executor, Job, JobHandle, Next};
use crate::error::Result;
use crate::snapshots::Snapshots;

/// What one slice gives back of one engine, at most.
const SLICE: usize = 1024;
/// What a reader holds on to is looked at again this much later.
const RETRY: Duration = Duration::from_secs(1);
/// Entries that expire one soon after the other are given back together.
const SLEEP_MIN: Duration = Duration::from_millis(100);
/// The calendar may jump: nobody sleeps longer while something waits to expire.
const SLEEP_MAX: Duration = Duration::from_mins(1);

/// An engine in memory that can be tidied up.
pub trait Tidy: Send + Sync {
    /// Gives back at most `budget` versions that nobody can read any more.
    fn tidy(&self, budget: usize) -> Tidied;
}

/// What an engine says after it was tidied up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tidied {
    /// There is more that can be given back now.
    pub is_busy: bool,
    /// Something waits for a reader to end.
    pub is_held: bool,
    /// When the next entry expires.
    pub next_expiry: Option<Timestamp>,
}

/// Tidies engines up in the background. The job begins with the first need for it.
pub struct Housekeeper {
    clock: Arc<dyn Clock>,
    executor: Arc<dyn Executor>,
    snapshots: Arc<Snapshots>,
    engines: Mutex<Vec<Weak<dyn Tidy>>>,
    /// When the job looks again by itself; whatever is due before has to wake it.
    planned: AtomicU64,
    job: Mutex<Option<JobHandle>>,
    is_closing: AtomicBool,
}

impl Housekeeper {
    /// One for all engines that share `snapshots`.
    pub fn new(env: &Env, snapshots: Arc<Snapshots>) -> Arc<Self> {
        Arc::new(Self {
            clock: Arc::clone(&env.clock),
            executor: Arc::clone(&env.executor),
            snapshots,
            engines: Mutex::default(),
            planned: AtomicU64::new(u64::MAX),
            job: Mutex::default(),
            is_closing: AtomicBool::new(false),
        })
    }

    /// Looks after an engine from now on, until its last handle goes.
    pub fn watch(&self, engine: Weak<dyn Tidy>) {
        self.engines.lock().push(engine);
    }

    /// Something can be given back at `at`.
    pub fn expect(self: &Arc<Self>, at: Timestamp) {
        if at.0 >= self.planned.load(Ordering::Acquire) || self.is_closing.load(Ordering::Acquire) {
            return;
        }
        let mut job = self.job.lock();
        let begin = || self.executor.spawn("memory", Box::new(Sweep(Arc::clone(self))));
        job.get_or_insert_with(begin).wake();
    }

    /// Something is left over that can be given back when it is published, or a reader is gone, and perhaps nobody writes
    /// before. When the job has planned to look anyhow, that is soon enough: who writes all the time wakes nobody.
    pub fn expect_leftovers(self: &Arc<Self>) {
        self.expect(Timestamp(u64::MAX - 1));
    }

    /// Ends the job.
    ///
    /// # Errors
    /// `Internal` when it had panicked.
    pub fn stop(&self) -> Result<()> {
        self.is_closing.store(true, Ordering::Release);
        let job = self.job.lock().take();
        job.map_or(Ok(()), |job| {
            job.wake();
            job.join(&*self.executor)
        })
    }

    fn slice(&self) -> Next {
        if self.is_closing.load(Ordering::Acquire) {
            return Next::Done;
        }
        // Before the engines are asked: who adds something behind their backs wakes the job.
        self.planned.store(u64::MAX, Ordering::SeqCst);
        let engines: Vec<Arc<dyn Tidy>> = {
            let mut engines = self.engines.lock();
            engines.retain(|engine| engine.strong_count() > 0);
            engines.iter().filter_map(Weak::upgrade).collect()
        };
        let now = self.snapshots.advance(self.clock.now());
        let said: Vec<Tidied> = engines.iter().map(|engine| engine.tidy(SLICE)).collect();
        if said.iter().any(|said| said.is_busy) {
            return Next::Again;
        }
        let retry = said.iter().any(|said| said.is_held).then_some(RETRY);
        let next = said.iter().filter_map(|said| said.next_expiry).min();
        let until_next = next.map(|next| Duration::from_millis(next.0.saturating_sub(now.0)));
        let until_next = until_next.map(|sleep| sleep.clamp(SLEEP_MIN, SLEEP_MAX));
        let Some(sleep) = retry.into_iter().chain(until_next).min() else { return Next::Wait };
        let planned = now.plus_ms(u64::try_from(sleep.as_millis()).unwrap_or(u64::MAX));
        self.planned.store(planned.0, Ordering::SeqCst);
        Next::WaitUntil(self.clock.monotonic() + sleep)
    }
}

impl fmt::Debug for Housekeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Housekeeper")
    }
}

struct Sweep(Arc<Housekeeper>);

impl Job for Sweep {
    fn run(&mut self) -> Next {
        self.0.slice()
    }
}
