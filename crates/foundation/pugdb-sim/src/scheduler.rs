//! Background jobs on one thread: whoever waits runs the others, in an order that the seed decides.
//!
//! No lock is held while a job runs or a caller is asked whether it is ready. A job that waits in the middle of a slice
//! runs others on top of its own stack; it is busy meanwhile and never entered again.

use std::any::Any;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use parking_lot::Mutex;
use pugdb_core::env::{Event, Executor, Job, JobControl, JobHandle, Next};

use crate::world::{Machine, Part};

/// More slices than any wait needs: beyond it, nothing moves on.
const SLICES_MAX: u32 = 1_000_000;
const SLICE_TIME: Duration = Duration::from_micros(5);

pub(crate) struct Scheduler {
    jobs: Mutex<Jobs>,
}

struct Jobs {
    next: u64,
    slots: Vec<Slot>,
    chance: Rng,
}

struct Slot {
    id: u64,
    name: &'static str,
    control: Arc<JobControl>,
    wants: Next,
    /// `None` while it runs.
    job: Option<Box<dyn Job>>,
}

struct Slice {
    id: u64,
    control: Arc<JobControl>,
    job: Box<dyn Job>,
}

impl Slot {
    fn is_runnable(&self, now: Duration) -> bool {
        let due = match self.wants {
            Next::Again => true,
            Next::WaitUntil(at) => at <= now || self.control.is_woken(),
            Next::Wait | Next::Done => self.control.is_woken(),
        };
        due && self.job.is_some()
    }
}

impl Scheduler {
    pub(crate) fn new(chance: Rng) -> Self {
        Self { jobs: Mutex::new(Jobs { next: 0, slots: Vec::new(), chance }) }
    }

    /// A successor for the next life: other choices, the same seed.
    pub(crate) fn successor(&self) -> Self {
        Self::new(self.jobs.lock().chance.fork())
    }

    /// Drops all jobs as if their process had died.
    pub(crate) fn clear(&self) {
        let slots = std::mem::take(&mut self.jobs.lock().slots);
        for slot in slots {
            drop(slot.job);
            slot.control.finish(false);
        }
    }

    fn add(&self, name: &'static str, job: Box<dyn Job>) -> JobHandle {
        let control = Arc::new(JobControl::default());
        let mut jobs = self.jobs.lock();
        let id = jobs.next;
        jobs.next += 1;
        let slot = Slot { id, name, control: Arc::clone(&control), wants: Next::Again, job: Some(job) };
        jobs.slots.push(slot);
        JobHandle::new(control)
    }

    /// How many slices to run between two steps of the foreground.
    fn some(&self, max: usize) -> usize {
        self.jobs.lock().chance.usize(0..=max)
    }

    fn pick(&self, now: Duration) -> Option<Slice> {
        let jobs = &mut *self.jobs.lock();
        let runnable = || jobs.slots.iter().enumerate().filter(|(_, slot)| slot.is_runnable(now));
        let count = runnable().count();
        if count == 0 {
            return None;
        }
        let (at, _) = runnable().nth(jobs.chance.usize(0..count))?;
        let slot = &mut jobs.slots[at];
        if slot.wants != Next::Again {
            slot.control.take_wake();
        }
        let job = slot.job.take()?;
        Some(Slice { id: slot.id, control: Arc::clone(&slot.control), job })
    }

    /// Runs one slice. A panic is the job's end and the caller's too: the test must fail.
    fn run(&self, mut slice: Slice) {
        match catch_unwind(AssertUnwindSafe(|| slice.job.run())) {
            Ok(Next::Done) => self.retire(slice, None),
            Ok(next) => {
                let mut jobs = self.jobs.lock();
                if let Some(slot) = jobs.slots.iter_mut().find(|slot| slot.id == slice.id) {
                    slot.wants = next;
                    slot.job = Some(slice.job);
                } else {
                    // The world ended while it ran.
                    drop(jobs);
                    drop(slice);
                }
            }
            Err(panic) => self.retire(slice, Some(panic)),
        }
    }

    fn retire(&self, slice: Slice, panic: Option<Box<dyn Any + Send>>) {
        let slot = {
            let mut jobs = self.jobs.lock();
            let at = jobs.slots.iter().position(|slot| slot.id == slice.id);
            at.map(|at| jobs.slots.remove(at))
        };
        drop(slot);
        drop(slice.job);
        slice.control.finish(panic.is_some());
        // A second panic while the first unwinds would abort and hide both.
        if let Some(panic) = panic
            && !std::thread::panicking()
        {
            resume_unwind(panic);
        }
    }

    fn next_timer(&self) -> Option<Duration> {
        let jobs = self.jobs.lock();
        let idle = jobs.slots.iter().filter(|slot| slot.job.is_some());
        idle.filter_map(|slot| if let Next::WaitUntil(at) = slot.wants { Some(at) } else { None }).min()
    }

    fn describe(&self) -> String {
        let jobs = self.jobs.lock();
        let mut text = String::new();
        for slot in &jobs.slots {
            let separator = if text.is_empty() { "" } else { ", " };
            let state = match (slot.job.is_some(), slot.wants) {
                (false, _) => "busy, waits further down this stack".to_owned(),
                (true, Next::WaitUntil(at)) => format!("waits until {at:?}"),
                (true, Next::Again) => "ready".to_owned(),
                (true, Next::Wait | Next::Done) => "waits to be woken".to_owned(),
            };
            let _ = write!(text, "{separator}{} ({state})", slot.name);
        }
        if text.is_empty() {
            "there are none; was the last World handle dropped, or the power cut?".clone_into(&mut text);
        }
        text
    }
}

impl Machine {
    /// Runs one slice of a job that can run now, if there is one.
    pub(crate) fn step(&self) -> bool {
        let Some(slice) = self.scheduler.pick(self.now()) else { return false };
        self.advance(SLICE_TIME);
        self.scheduler.run(slice);
        true
    }

    pub(crate) fn maybe_step(&self, max: usize) {
        for _ in 0..self.scheduler.some(max) {
            if !self.step() {
                return;
            }
        }
    }

    pub(crate) fn run_until_idle(&self) {
        for _ in 0..SLICES_MAX {
            if !self.step() {
                return;
            }
        }
        self.give_up("livelock: the jobs never come to rest");
    }

    /// Every wait of the program. What cannot come true is reported, with the seed.
    fn wait(&self, deadline: Option<Duration>, ready: &mut dyn FnMut() -> bool) -> bool {
        let mut late = false;
        for _ in 0..SLICES_MAX {
            if ready() {
                return true;
            }
            if late {
                return false;
            }
            // Whoever only polls gives one slice away, as other threads would go on meanwhile.
            late = deadline.is_some_and(|deadline| deadline <= self.now());
            if self.step() {
                continue;
            }
            if late {
                return false;
            }
            match deadline.into_iter().chain(self.scheduler.next_timer()).min() {
                Some(at) => self.advance_to(at),
                None => return self.give_up("deadlock: nothing can run and no timer is set"),
            }
        }
        self.give_up("livelock: what is waited for never happens")
    }

    /// Fails the test, unless it is failing already: then the wait is over.
    #[expect(clippy::panic, reason = "a test tool: this is how it reports")]
    fn give_up(&self, what: &str) -> bool {
        if std::thread::panicking() {
            return false;
        }
        panic!("{what}; seed {}; jobs: {}", self.seed, self.scheduler.describe())
    }
}

impl Executor for Part {
    fn spawn(&self, name: &'static str, job: Box<dyn Job>) -> JobHandle {
        self.0.scheduler.add(name, job)
    }

    /// One thread runs all jobs; this many have enough of them for some to meet.
    fn processors(&self) -> usize {
        4
    }

    fn block_until(&self, _: &Event, deadline: Option<Duration>, ready: &mut dyn FnMut() -> bool) -> bool {
        self.0.wait(deadline, ready)
    }
}
