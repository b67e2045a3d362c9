//! Background jobs in bounded slices, and blocking waits that the simulator can turn into running other jobs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Condvar, Mutex};

/// What a job wants after a slice of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// There is more to do.
    Again,
    /// Nothing to do until somebody [wakes](JobHandle::wake) it.
    Wait,
    /// Nothing to do until woken or until this moment of the stopwatch.
    WaitUntil(Duration),
    /// The job is over.
    Done,
}

/// Work in the background, a slice at a time.
pub trait Job: Send {
    /// Does one bounded slice (a few milliseconds).
    fn run(&mut self) -> Next;
}

/// Runs jobs and lets callers wait.
pub trait Executor: Send + Sync {
    /// Starts a job.
    fn spawn(&self, name: &'static str, job: Box<dyn Job>) -> JobHandle;

    /// How many jobs can run at the same time.
    fn processors(&self) -> usize;

    /// Blocks until `ready` says so, looking again after each [`Event::notify`]. False when `deadline` (a moment of
    /// the stopwatch) came first.
    fn block_until(&self, event: &Event, deadline: Option<Duration>, ready: &mut dyn FnMut() -> bool)
    -> bool;
}

/// Something that callers wait for. Change the state first, then notify.
#[derive(Default)]
pub struct Event {
    mutex: Mutex<()>,
    condvar: Condvar,
}

impl Event {
    /// Makes every waiter look again.
    pub fn notify(&self) {
        // Passing through the mutex: a waiter that has just looked is asleep before the wake-up is sent.
        drop(self.mutex.lock());
        self.condvar.notify_all();
    }

    /// Makes one waiter look again, if there is one: enough where it does what all of them wait for.
    pub fn notify_one(&self) {
        drop(self.mutex.lock());
        self.condvar.notify_one();
    }

    /// Blocks this thread until `ready`, at most `timeout`. For real executors; callers use
    /// [`Executor::block_until`].
    pub fn wait_on_thread(
        &self,
        timeout: &dyn Fn() -> Option<Duration>,
        ready: &mut dyn FnMut() -> bool,
    ) -> bool {
        let mut guard = self.mutex.lock();
        loop {
            if ready() {
                return true;
            }
            match timeout() {
                None => self.condvar.wait(&mut guard),
                Some(Duration::ZERO) => return false,
                Some(left) => {
                    self.condvar.wait_for(&mut guard, left);
                }
            }
        }
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Event")
    }
}

/// The state that a job's handle shares with its executor.
#[derive(Debug, Default)]
pub struct JobControl {
    woken: AtomicBool,
    done: AtomicBool,
    panicked: AtomicBool,
    /// Notified on wake and on the end.
    pub event: Event,
}

impl JobControl {
    /// Takes the wake-up, if there is one.
    pub fn take_wake(&self) -> bool {
        self.woken.swap(false, Ordering::AcqRel)
    }

    /// True when somebody woke the job since it last looked.
    pub fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Acquire)
    }

    /// The executor says: it is over, in good order or by a panic.
    pub fn finish(&self, panicked: bool) {
        self.panicked.store(panicked, Ordering::Release);
        self.done.store(true, Ordering::Release);
        self.event.notify();
    }
}

/// A running job.
#[derive(Clone, Debug)]
pub struct JobHandle {
    control: Arc<JobControl>,
}

impl JobHandle {
    /// For executors.
    pub fn new(control: Arc<JobControl>) -> Self {
        Self { control }
    }

    /// Makes the job look for work.
    pub fn wake(&self) {
        if !self.control.woken.swap(true, Ordering::AcqRel) {
            self.control.event.notify();
        }
    }

    /// Waits until the job is over.
    ///
    /// # Errors
    /// `Internal` when it panicked.
    pub fn join(&self, executor: &dyn Executor) -> Result<()> {
        executor.block_until(&self.control.event, None, &mut || self.is_done());
        if self.control.panicked.load(Ordering::Acquire) {
            return Err(Error::internal(
                "a background job panicked; please report the message on standard error",
            ));
        }
        Ok(())
    }

    /// True when the job is over.
    pub fn is_done(&self) -> bool {
        self.control.done.load(Ordering::Acquire)
    }

    /// True when the job ended by a panic.
    pub fn has_panicked(&self) -> bool {
        self.control.panicked.load(Ordering::Acquire)
    }
}
