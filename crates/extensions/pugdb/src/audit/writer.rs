//! Writing the audit log: one record after the other, synced where that matters, begun anew behind a failure.
//!
//! A failed write or sync ends a segment. What was not durable in it is kept in memory, and is the beginning of the next one: the same records, for
//! somebody may find the old ones on the disk.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pugdb_core::env::{Env, Job, JobHandle, Next};
use pugdb_core::{Error, Result, Timestamp};
use pugdb_lsm::file::Context;
use pugdb_security::audit::{
    Action, Actor, Checkpoint, Count, Event, Notary, OBJECTS_MAX, Object, ObjectKind, Record, chain, leaf,
};

use super::log::AuditLog;
use super::options::{AuditKeep, AuditOptions, OnFailure};
use super::recover::recover;
use super::second::Second;
use super::segment::{
    OpenSegment, SegmentReader, Stand, Start, checkpoint_content, folder, list, path, record_content,
};
use crate::RecoveryReport;

/// What need not be synced at once is, this much later.
const SYNC_DELAY: Duration = Duration::from_secs(1);
/// So much is kept in memory until it is durable; then whoever brings more waits for a sync.
const PENDING_MAX: usize = 1024;
const PENDING_BYTES_MAX: usize = 1 << 20;

/// The open audit log.
pub(crate) struct Core {
    pub(super) options: AuditOptions,
    pub(super) context: Context,
    pub(super) notary: Notary,
    is_closed: AtomicBool,
    /// Records that could not be written when they came, in all.
    missed: AtomicU64,
    /// Checkpoints that did not come to the second place at once.
    copy_failures: AtomicU64,
    /// So many contents of frames are durable, since the open.
    durable: AtomicU64,
    job: Mutex<Option<JobHandle>>,
    /// Guards the order of checkpoints in the second place. Held across a sync: only who makes a checkpoint takes it.
    copying: Mutex<Option<Second>>,
    /// Guards syncs. Held across one: who waits for it wants to be durable, too.
    syncing: Mutex<()>,
    /// Guards the order of records. Held across a sync only where a segment is begun.
    writer: Mutex<Writer>,
}

#[derive(Default)]
struct Writer {
    /// `None` behind a failure.
    segment: Option<OpenSegment>,
    /// The last segment that was begun.
    number: u64,
    /// Where the log stands.
    stand: Stand,
    /// Where what is durable ends.
    durable: Stand,
    /// The contents of frames behind that, by what was pushed before them.
    pending: VecDeque<Vec<u8>>,
    pending_bytes: usize,
    /// How many contents were ever pushed.
    pushed: u64,
    /// Records that are missing, and of which no record says so yet.
    missing: u64,
    /// Since when something waits for a sync, by the stopwatch.
    unsynced_since: Option<Duration>,
    /// The size at the last checkpoint, and when that was.
    checkpoint: (u64, Duration),
    /// The second place does not have it yet.
    is_copy_due: bool,
}

/// What came of adding a record.
struct Appended {
    /// The number of the first record.
    first: u64,
    /// What has to be durable for it.
    pushed: u64,
    /// So much waits for a sync that whoever comes has to.
    is_full: bool,
    /// The job has something to plan.
    wakes: bool,
}

impl Writer {
    fn push(&mut self, content: Vec<u8>) -> Result<()> {
        let appended = match &mut self.segment {
            Some(segment) => segment.append(&content),
            None => Ok(()),
        };
        self.pending_bytes += content.len();
        self.pending.push_back(content);
        self.pushed += 1;
        if appended.is_err() {
            self.segment = None;
        }
        appended
    }

    /// All that was pushed before `pushed` is durable, and the log stood there.
    fn settle(&mut self, pushed: u64, stand: Stand) {
        let left = usize::try_from(self.pushed - pushed).unwrap_or(usize::MAX);
        while self.pending.len() > left {
            let content = self.pending.pop_front().unwrap_or_default();
            self.pending_bytes -= content.len();
        }
        self.durable = stand;
        if self.pending.is_empty() {
            self.unsynced_since = None;
        }
    }
}

/// What an audit log has been through since it was opened.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("data");
/// let db = pugdb::Database::builder().audit(pugdb::audit::AuditOptions::default()).open(&path)?;
/// let stats = db.audit().unwrap().stats();
/// assert_eq!((stats.records, stats.missed, stats.is_failing), (1, 0, false));
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditStats {
    /// Records in the log, those of earlier opens and removed ones, too.
    pub records: u64,
    /// Records that could not be written since the open.
    pub missed: u64,
    /// Checkpoints that could not be copied to the second place at once.
    pub copy_failures: u64,
    /// True while it cannot be written.
    pub is_failing: bool,
}

impl Core {
    /// Opens the audit log, and records that.
    pub(crate) fn open(
        options: AuditOptions,
        context: &Context,
        notary: Notary,
        report: &RecoveryReport,
    ) -> Result<Arc<Self>> {
        let recovered = recover(context)?;
        let second = options.copy.as_deref().map(Second::new);
        let writer = Writer {
            number: recovered.segment,
            durable: recovered.stand.clone(),
            checkpoint: (recovered.stand.tree.size(), context.env.clock.monotonic()),
            stand: recovered.stand,
            ..Writer::default()
        };
        let differs =
            second.as_ref().map_or(Ok(()), |second| second.check(&context.env, &notary, &writer.stand));
        if options.on_failure == OnFailure::Block {
            differs.clone()?;
        }
        let core = Arc::new(Self {
            durable: AtomicU64::new(0),
            options,
            context: context.clone(),
            notary,
            is_closed: AtomicBool::new(false),
            missed: AtomicU64::new(0),
            copy_failures: AtomicU64::new(0),
            job: Mutex::default(),
            copying: Mutex::new(second),
            syncing: Mutex::default(),
            writer: Mutex::new(writer),
        });
        let actor = core.options.actor.clone();
        if recovered.is_damaged || differs.is_err() {
            core.record(&actor, Event::done(Action::Damage).count(Count::Bytes, recovered.torn_bytes))?;
        }
        let is_clean = report.clean || report.created;
        let opened = Event::done(Action::Open)
            .count(Count::Clean, u64::from(is_clean))
            .count(Count::Replayed, report.records)
            .count(Count::CutBytes, report.cut.as_ref().map_or(0, |cut| cut.bytes));
        core.record(&actor, opened)?;
        // What cannot be removed now is the next time.
        let _ = core.trim();
        let job = core.context.env.executor.spawn("audit", Box::new(Tender(Arc::downgrade(&core))));
        *core.job.lock() = Some(job);
        Ok(core)
    }

    pub(super) fn env(&self) -> &Env {
        &self.context.env
    }

    pub(super) fn log(&self) -> AuditLog {
        AuditLog::new(self.context.clone(), self.notary.clone())
    }

    pub(crate) fn object(&self, kind: ObjectKind, name: impl AsRef<[u8]>) -> Object {
        self.notary.object(kind, name.as_ref())
    }

    /// Writes an event, of which a large one becomes several records, and makes it durable where that is asked for. Returns the number of the
    /// first record; `None` when it is missing, and that is to be passed over.
    pub(super) fn record(&self, actor: &Actor, event: Event) -> Result<Option<u64>> {
        let is_synced = event.action.is_synced();
        let written = self.append_all(actor, event).and_then(|appended| {
            if appended.wakes
                && let Some(job) = &*self.job.lock()
            {
                job.wake();
            }
            if is_synced || appended.is_full {
                self.sync_to(appended.pushed)?;
            }
            Ok(appended.first)
        });
        match written {
            Ok(first) => Ok(Some(first)),
            Err(_) if self.options.on_failure == OnFailure::Continue => Ok(None),
            Err(error) => {
                Err(error.at("the audit log cannot be written, and what it does not have is not done"))
            }
        }
    }

    fn append_all(&self, actor: &Actor, mut event: Event) -> Result<Appended> {
        let mut rest = event.objects.split_off(event.objects.len().min(OBJECTS_MAX));
        if !rest.is_empty() {
            event = event.clone().count(Count::Objects, (event.objects.len() + rest.len()) as u64);
        }
        let mut writer = self.writer.lock();
        let is_rested = writer.unsynced_since.is_none();
        let first = self.append(&mut writer, actor, event.clone())?;
        while !rest.is_empty() {
            let more = rest.split_off(rest.len().min(OBJECTS_MAX));
            let part = Event { objects: std::mem::replace(&mut rest, more), ..event.clone() };
            self.append(&mut writer, actor, part.count(Count::Began, first))?;
        }
        let is_full = writer.pending.len() > PENDING_MAX || writer.pending_bytes > PENDING_BYTES_MAX;
        let is_long = writer.segment.as_ref().is_some_and(|open| open.end >= self.options.segment_bytes);
        if is_long {
            // The next one begins with what is not durable yet.
            self.begin(&mut writer)?;
        }
        let is_many = writer.stand.tree.size() - writer.checkpoint.0 >= self.options.checkpoint_records;
        Ok(Appended { first, pushed: writer.pushed, is_full, wakes: is_rested || is_many })
    }

    fn append(&self, writer: &mut Writer, actor: &Actor, event: Event) -> Result<u64> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Error::closed("the database was closed, and its audit log with it"));
        }
        if writer.segment.is_none() {
            self.begin(writer).inspect_err(|_| self.miss(writer))?;
        }
        let missing = std::mem::take(&mut writer.missing);
        if missing > 0 {
            let said = Event::done(Action::Missing).count(Count::Missing, missing);
            self.push(writer, &self.options.actor, said).inspect_err(|_| self.miss(writer))?;
        }
        self.push(writer, actor, event)?;
        Ok(writer.stand.tree.size())
    }

    fn miss(&self, writer: &mut Writer) {
        writer.missing += 1;
        self.missed.fetch_add(1, Ordering::Relaxed);
    }

    fn push(&self, writer: &mut Writer, actor: &Actor, event: Event) -> Result<()> {
        let env = self.env();
        let record = Record { number: writer.stand.next(), at: env.clock.now(), actor: actor.clone(), event };
        let bytes = record.encode();
        writer.stand.last = chain(self.context.database, &writer.stand.last, &bytes);
        writer.stand.tree.push(leaf(&writer.stand.last));
        writer.unsynced_since.get_or_insert_with(|| env.clock.monotonic());
        writer.push(record_content(&bytes))
    }

    /// Begins a segment with all that is not durable.
    fn begin(&self, writer: &mut Writer) -> Result<()> {
        writer.segment = None;
        let start = Start { stand: writer.durable.clone(), at: self.now() };
        let number = writer.number + 1;
        let contents = writer.pending.iter().map(Vec::as_slice);
        writer.segment = Some(OpenSegment::begin(&self.context, number, &start, contents)?);
        writer.number = number;
        let (pushed, stand) = (writer.pushed, writer.stand.clone());
        self.durable.fetch_max(pushed, Ordering::AcqRel);
        writer.settle(pushed, stand);
        Ok(())
    }

    fn now(&self) -> Timestamp {
        self.env().clock.now()
    }

    /// Makes durable what was pushed before there were so many.
    fn sync_to(&self, wanted: u64) -> Result<()> {
        let is_durable = || self.durable.load(Ordering::Acquire) >= wanted;
        if is_durable() {
            return Ok(());
        }
        let _turn = self.syncing.lock();
        if is_durable() {
            return Ok(());
        }
        let (file, segment, end, pushed, stand) = {
            let writer = self.writer.lock();
            let Some(open) = &writer.segment else {
                return Err(Error::unavailable("a write of the audit log failed"));
            };
            (Arc::clone(&open.file), open.number, open.end, writer.pushed, writer.stand.clone())
        };
        let synced = file.sync_data();
        let mut writer = self.writer.lock();
        let Some(open) = writer.segment.as_mut().filter(|open| open.number == segment) else {
            // A new segment was begun meanwhile, with all that was not durable, or a write has failed.
            return if is_durable() {
                Ok(())
            } else {
                Err(Error::unavailable("a write of the audit log failed"))
            };
        };
        if let Err(error) = synced {
            // What a failed sync has left on the disk nobody knows, and another one would not say.
            writer.segment = None;
            return Err(Error::io("sync the audit log", error));
        }
        open.durable = end;
        self.durable.fetch_max(pushed, Ordering::AcqRel);
        writer.settle(pushed, stand);
        Ok(())
    }

    /// States where the log stands, signed where there are keys: in the log, and in the second place.
    pub(super) fn checkpoint(&self) -> Result<Checkpoint> {
        let mut copying = self.copying.lock();
        // Asked under the lock that the close takes: what another process has by then is not written to.
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Error::closed("the database was closed, and its audit log with it"));
        }
        let (checkpoint, pushed) = {
            let mut writer = self.writer.lock();
            if writer.segment.is_none() {
                self.begin(&mut writer)?;
            }
            let checkpoint = self.notary.checkpoint(&writer.stand.tree, writer.stand.last, self.now());
            writer.unsynced_since.get_or_insert_with(|| self.env().clock.monotonic());
            writer.push(checkpoint_content(&checkpoint.to_string()))?;
            (checkpoint, writer.pushed)
        };
        self.sync_to(pushed)?;
        let copied = copying.as_mut().map_or(Ok(()), |second| second.append(self.env(), &checkpoint));
        let mut writer = self.writer.lock();
        writer.checkpoint = (checkpoint.size, self.env().clock.monotonic());
        writer.is_copy_due = copied.is_err();
        drop(writer);
        copied.inspect_err(|_| {
            self.copy_failures.fetch_add(1, Ordering::Relaxed);
        })?;
        Ok(checkpoint)
    }

    /// Makes all that was written durable.
    fn sync_all(&self) -> Result<()> {
        let pushed = {
            let mut writer = self.writer.lock();
            if writer.segment.is_none() && !writer.pending.is_empty() {
                self.begin(&mut writer)?;
            }
            writer.pushed
        };
        self.sync_to(pushed)
    }

    pub(super) fn stats(&self) -> AuditStats {
        let writer = self.writer.lock();
        AuditStats {
            records: writer.stand.tree.size(),
            missed: self.missed.load(Ordering::Relaxed),
            copy_failures: self.copy_failures.load(Ordering::Relaxed),
            is_failing: writer.segment.is_none() && !self.is_closed.load(Ordering::Acquire),
        }
    }

    /// A slice of the job: syncs, checkpoints and removals that are due.
    fn tend(&self) -> Next {
        if self.is_closed.load(Ordering::Acquire) {
            return Next::Done;
        }
        let now = self.env().clock.monotonic();
        let (unsynced_since, new, at, is_copy_due) = {
            let writer = self.writer.lock();
            let (covered, at) = writer.checkpoint;
            (writer.unsynced_since, writer.stand.tree.size() - covered, at, writer.is_copy_due)
        };
        let sync_at = unsynced_since.map(|since| since + SYNC_DELAY);
        let checkpoint_at = (new > 0 || is_copy_due).then(|| at + self.options.checkpoint_interval);
        let is_many = new >= self.options.checkpoint_records;
        // A failure shows with the next record. Until then it is tried again in a while.
        let mut is_failed = false;
        if is_many || checkpoint_at.is_some_and(|at| at <= now) {
            is_failed |= self.checkpoint().is_err();
            is_failed |= self.trim().is_err();
        } else if sync_at.is_some_and(|at| at <= now) {
            is_failed |= self.sync_all().is_err();
        } else {
            return [sync_at, checkpoint_at].into_iter().flatten().min().map_or(Next::Wait, Next::WaitUntil);
        }
        if is_failed { Next::WaitUntil(now + SYNC_DELAY) } else { Next::Again }
    }

    /// Removes the oldest segments that need not be kept. A record says so first, and with which root and link they ended.
    fn trim(&self) -> Result<()> {
        let (fs, folder) = (&*self.env().fs, folder(&self.context));
        let newest = self.writer.lock().number;
        while let Some((oldest, start)) = self.removable(&list(fs, &folder)?, newest)? {
            if start.stand.tree.size() > 0 {
                let stand = &start.stand;
                let said = Event::done(Action::Trim)
                    .count(Count::Through, stand.tree.size())
                    .on(Object { kind: ObjectKind::Root, digest: stand.tree.root() })
                    .on(Object { kind: ObjectKind::Link, digest: stand.last });
                let actor = self.options.actor.clone();
                let written = self.append_all(&actor, said);
                written.and_then(|appended| self.sync_to(appended.pushed))?;
                self.checkpoint()?;
            }
            let removed = fs.remove(&path(&self.context, oldest)).and_then(|()| fs.sync_dir(&folder));
            removed.map_err(|error| Error::io("remove a segment of the audit log", error))?;
        }
        Ok(())
    }

    /// The oldest segment, if it need not be kept, and where the one behind it begins.
    fn removable(&self, numbers: &[u64], newest: u64) -> Result<Option<(u64, Start)>> {
        let &[oldest, next, ..] = numbers else { return Ok(None) };
        if self.options.keep == AuditKeep::All || next > newest {
            return Ok(None);
        }
        let start = SegmentReader::open(&self.context, next)?.start;
        let is_removable = match self.options.keep {
            AuditKeep::All => false,
            AuditKeep::Bytes(most) => {
                let mut bytes = 0;
                for &number in numbers {
                    bytes += self.length(&path(&self.context, number))?;
                }
                bytes > most
            }
            AuditKeep::Age(age) => {
                let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
                start.at.0 < self.now().0.saturating_sub(age_ms)
            }
        };
        Ok(is_removable.then_some((oldest, start)))
    }

    fn length(&self, path: &Path) -> Result<u64> {
        let file = self.env().fs.open(path, pugdb_core::env::Access::Read);
        let length = file.and_then(|file| file.length());
        length.map_err(|error| Error::io("look at a segment of the audit log", error))
    }

    /// Records that the database is closed, states where the log ends, and ends it.
    pub(crate) fn close(&self) -> Result<()> {
        let actor = super::acting().unwrap_or_else(|| self.options.actor.clone());
        let closed = self.record(&actor, Event::done(Action::Close)).and_then(|written| {
            let stated = self.checkpoint();
            match written {
                Some(_) if self.options.on_failure == OnFailure::Block => stated.map(drop),
                _ => Ok(()),
            }
        });
        let stopped = self.end();
        closed.and(stopped)
    }

    /// Ends it as a kill would.
    pub(crate) fn end(&self) -> Result<()> {
        {
            let _nobody_writes = self.copying.lock();
            self.is_closed.store(true, Ordering::Release);
        }
        let job = self.job.lock().take();
        job.map_or(Ok(()), |job| {
            job.wake();
            job.join(&*self.env().executor)
        })
    }
}

/// The job.
struct Tender(std::sync::Weak<Core>);

impl Job for Tender {
    fn run(&mut self) -> Next {
        self.0.upgrade().map_or(Next::Done, |core| core.tend())
    }
}
