//! The log's job: syncs for those who do not do it themselves, makes the next segment ahead of time, closes full ones, and
//! marks the durable position of an idle log.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pugdb_core::env::{Job, Next};
use pugdb_core::observer::DatabaseEvent;
use pugdb_core::{Error, Result};

use super::segment::Prepared;
use super::{Handover, Log, MARK_DELAY, NOT_DUE, RecordHead, STREAM, Untold, micros};

/// What the job has to do now. Decided here without I/O.
#[derive(Debug, PartialEq, Eq)]
enum Task {
    Sync,
    CloseFull,
    PrepareNext,
    Mark,
    Rest(Next),
}

struct LogJob {
    log: Arc<Log>,
    has_told_failure: bool,
}

impl Log {
    /// Starts the job.
    pub fn start(self: &Arc<Self>) {
        let job = self
            .context
            .env
            .executor
            .spawn("log", Box::new(LogJob { log: Arc::clone(self), has_told_failure: false }));
        *self.job.lock() = Some(job);
    }

    fn task(&self) -> Task {
        // First: a sync that ends from here on wakes the job.
        self.is_job_watching.store(false, Ordering::Release);
        let now = self.context.env.clock.monotonic();
        let due = self.sync_due.load(Ordering::Acquire);
        let (has_full, wants_next) = {
            let tail = self.tail.lock();
            (!tail.full.is_empty(), tail.wants_next())
        };
        let sync = self.sync.lock();
        if sync.closing || sync.failure.is_some() {
            return Task::Rest(if sync.closing { Next::Done } else { Next::Wait });
        }
        // First: a commit that finds none has to make it, and nobody waits for the others as it does.
        if wants_next {
            return Task::PrepareNext;
        }
        if due <= micros(now) {
            return Task::Sync;
        }
        if has_full {
            return Task::CloseFull;
        }
        let due = (due != NOT_DUE).then(|| Duration::from_micros(due));
        // A record is on disk, and nothing on disk says so yet.
        let mark = (sync.stated < sync.records_end).then(|| sync.last_sync + MARK_DELAY);
        if mark.is_some_and(|mark| mark <= now) {
            return Task::Mark;
        }
        Task::Rest(due.into_iter().chain(mark).min().map_or(Next::Wait, Next::WaitUntil))
    }

    /// Syncs for those who do not do it themselves.
    fn sync_for_others(&self) -> Result<()> {
        // First: who wants a sync from here on may have appended behind the end.
        self.sync_due.store(NOT_DUE, Ordering::Release);
        self.sync_to(self.end())
    }

    /// Closes the segments that are full.
    pub(super) fn close_full(&self) {
        let full = std::mem::take(&mut self.tail.lock().full);
        for (segment, end) in full {
            segment.close(end);
        }
    }

    /// Makes the next segment, its name durable, so that the commit that needs it does not have to.
    fn prepare_next(&self) -> Result<()> {
        let number = self.tail.lock().take_number();
        let mut next = Prepared::create(&self.context, STREAM, number, self.options.segment_bytes)?;
        if let Err(error) = self.sync_names() {
            // Nobody can say which names are on disk now: as after any failed sync, nothing more is written.
            let error = self.fail(&error);
            self.release_waiters(self.durable());
            next.remove(&self.context);
            return Err(error);
        }
        next.is_name_durable = true;
        let mut tail = self.tail.lock();
        let is_passed = tail.segment.as_ref().is_none_or(|segment| segment.place.number > number);
        if is_passed || tail.next.is_some() {
            drop(tail);
            next.remove(&self.context);
        } else {
            tail.next = Some(next);
        }
        Ok(())
    }

    /// Writes a mark and makes it durable.
    fn mark(&self) -> Result<()> {
        let appended =
            self.append(&RecordHead::mark(self.context.env.clock.now()), &[], Handover::Written)?;
        self.sync_to(appended.end)
    }
}

impl Job for LogJob {
    fn run(&mut self) -> Next {
        // A panic, in a cipher for example, must not leave those asleep who wait for this job.
        catch_unwind(AssertUnwindSafe(|| self.slice())).unwrap_or_else(|_| {
            let _ = self.log.fail(&Error::internal("a background job of the log panicked"));
            self.log.release_waiters(self.log.durable());
            Next::Wait
        })
    }
}

impl LogJob {
    /// Tells the observers what has happened since it did last. It holds no lock, which those who sync may.
    fn tell(&mut self) {
        let Log { context, .. } = &*self.log;
        if context.observers.is_empty() {
            return;
        }
        let Untold { syncs, bytes, took, slowest } = std::mem::take(&mut self.log.sync.lock().untold);
        if syncs > 0 {
            context.observers.tell(&DatabaseEvent::Synced { syncs, bytes, took, slowest });
        }
        if let Some(error) = self.log.failure().filter(|_| !self.has_told_failure) {
            self.has_told_failure = true;
            context.observers.tell(&DatabaseEvent::Failed { error });
        }
    }

    fn slice(&mut self) -> Next {
        self.tell();
        let outcome: Result<(), Error> = match self.log.task() {
            Task::Rest(next) => {
                let soon = self.log.context.env.clock.monotonic() + MARK_DELAY;
                let is_watching = matches!(next, Next::WaitUntil(at) if at <= soon);
                self.log.is_job_watching.store(is_watching, Ordering::Release);
                return next;
            }
            Task::Sync => self.log.sync_for_others(),
            Task::CloseFull => {
                self.log.close_full();
                Ok(())
            }
            Task::PrepareNext => self.log.prepare_next(),
            Task::Mark => self.log.mark(),
        };
        if outcome.is_ok() {
            return Next::Again;
        }
        // A failure is kept in the log, and its waiters have been told. A full disk leaves mark or segment for later, and
        // must not keep those waiting who want a sync.
        let later = self.log.context.env.clock.monotonic() + MARK_DELAY * 10;
        let due = Duration::from_micros(self.log.sync_due.load(Ordering::Acquire));
        Next::WaitUntil(later.min(due))
    }
}
