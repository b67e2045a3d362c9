//! The log's job: syncs for those who wait without a thread, and marks the durable position of an idle log.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use pugdb_core::env::{Job, Next};
use pugdb_core::{Error, Lsn, Result};

use super::{Log, MARK_DELAY, RecordHead};

/// What the job has to do now. Decided here without I/O.
#[derive(Debug, PartialEq, Eq)]
enum Task {
    Sync(Lsn),
    Mark,
    Rest(Next),
}

struct LogJob {
    log: Arc<Log>,
}

impl Log {
    /// Starts the job.
    pub fn start(self: &Arc<Self>) {
        let job = self.context.env.executor.spawn("log", Box::new(LogJob { log: Arc::clone(self) }));
        *self.job.lock() = Some(job);
    }

    fn task(&self) -> Task {
        let durable = self.durable();
        let sync = self.sync.lock();
        if sync.closing || sync.failure.is_some() {
            return Task::Rest(if sync.closing { Next::Done } else { Next::Wait });
        }
        if sync.wanted > durable {
            return Task::Sync(sync.wanted);
        }
        // A record is on disk, and nothing on disk says so yet.
        if sync.stated < sync.records_end {
            let due = sync.last_sync + MARK_DELAY;
            return if self.context.env.clock.monotonic() >= due {
                Task::Mark
            } else {
                Task::Rest(Next::WaitUntil(due))
            };
        }
        Task::Rest(Next::Wait)
    }

    /// Writes a mark and makes it durable.
    fn mark(&self) -> Result<()> {
        let appended = self.append(&RecordHead::mark(self.context.env.clock.now()), &[])?;
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
    fn slice(&mut self) -> Next {
        let outcome: Result<(), Error> = match self.log.task() {
            Task::Rest(next) => return next,
            Task::Sync(lsn) => self.log.sync_to(lsn),
            Task::Mark => self.log.mark(),
        };
        match outcome {
            Ok(()) => Next::Again,
            // A failure is kept in the log, and its waiters have been told. A full disk leaves the mark for later.
            Err(_) => Next::WaitUntil(self.log.context.env.clock.monotonic() + MARK_DELAY * 10),
        }
    }
}
