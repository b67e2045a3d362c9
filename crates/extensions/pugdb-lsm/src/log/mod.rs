//! The log: appends records to a stream of segments, makes them durable, reads them back by position, trims.
//!
//! It knows nothing of trees. Appends come in order, one at a time; syncs happen outside every lock, one in flight,
//! and one sync answers everybody who waits for a position at or before it. Write path, steps 4 and 7
//! (`docs/internals/write-path.md`).

mod copy;
mod creation;
mod inspect;
mod job;
mod record;
mod recover;
mod segment;
#[cfg(all(test, loom))]
mod under_loom;

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use pugdb_core::env::{Event, File, JobHandle};
use pugdb_core::sync::Mutex;
use pugdb_core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use pugdb_core::{Error, Incarnation, Lsn, Result, StreamId};

pub use copy::PinnedLog;
pub use creation::Creation;
pub(crate) use inspect::inspect;
pub use record::{RecordHead, RecordKind};
pub use recover::{Cut, LogState, OldSegment, Scan, ScannedRecord, SegmentEnd, scan};
pub(crate) use segment::EXTRA_BYTES as SEGMENT_EXTRA_BYTES;
pub use segment::{SegmentPlace, parse_name};

use crate::file::Context;
use crate::frame::Section;
use segment::{Prepared, Segment};

/// The one stream of a database that is alone.
pub const STREAM: StreamId = StreamId(0);
/// After the last sync, a mark of the durable position follows within this time.
pub const MARK_DELAY: Duration = Duration::from_millis(10);

/// Not even a log that nobody waits for stays unsynced for longer: an error of the disk must come to light.
pub const SYNC_DELAY_MAX: Duration = Duration::from_secs(5);
/// What a section takes beside its bytes, at most: a keyspace's key, wrapped, lengths and tags.
const SECTION_OVERHEAD_BYTES: usize = 2048;
/// No moment.
const NOT_DUE: u64 = u64::MAX;

/// How the log is laid out.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// Room for frames in a segment; a larger record gets a larger segment.
    pub segment_bytes: u64,
}

impl Default for LogOptions {
    /// 64 MiB: preallocation is rare, and a trim frees a useful amount.
    fn default() -> Self {
        Self { segment_bytes: 64 << 20 }
    }
}

/// How a record gets into the operating system's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handover {
    /// By a store into the mapped segment, where there is a mapping: the cheapest by far. The next sync writes whole pages of
    /// the cache, which can be large ones.
    Stored,
    /// By a write: for a record that is about to be synced. The sync writes the blocks that it touched.
    Written,
}

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its first byte.
    pub start: Lsn,
    /// Behind its last byte: durable when the log is durable up to here.
    pub end: Lsn,
    /// The first position of its segment.
    pub segment_first: Lsn,
}

/// An open log stream.
pub struct Log {
    context: Context,
    options: LogOptions,
    /// This opening of the database, which every new segment names.
    incarnation: Incarnation,
    /// Everything before this position is on disk. Never goes back.
    durable: AtomicU64,
    /// A write or sync failed; what it was stands in `sync`.
    has_failed: AtomicBool,
    /// The job looks by itself before a mark could be due.
    is_job_watching: AtomicBool,
    /// The moment at which a sync is due for those who do not wait for it; [`NOT_DUE`] when none is.
    sync_due: AtomicU64,
    /// Threads that wait for a sync, by the parity of its round: when one ends, those are woken whom it has made durable, and
    /// one of those who wait for the next, to lead it.
    rounds: [Event; 2],
    /// Notified when a sync ends, for those who do not lead one yet.
    synced: Event,
    /// The job that syncs for futures, writes marks and makes segments; set once when it starts.
    job: Mutex<Option<JobHandle>>,
    /// The end of the log, and what has not been synced.
    tail: Mutex<Tail>,
    /// Who syncs, and who waits.
    sync: Mutex<SyncState>,
}

struct Tail {
    segment: Option<Segment>,
    /// The segment after it, made ahead of time.
    next: Option<Prepared>,
    /// The job has been told that the next segment is wanted.
    is_next_asked: bool,
    /// Segments that are full, each with its end. The job closes them: unmapping many pages takes a while.
    full: Vec<(Segment, Lsn)>,
    /// The record's head under way; kept, so that records ask for no memory.
    head: Vec<u8>,
    next_number: u64,
    end: Lsn,
    /// Files with content that is not durable, oldest first. The last one is the current segment.
    dirty: Vec<Arc<dyn File>>,
    /// A segment's name is not durable yet.
    names_dirty: bool,
    /// The end of the newest record that is no mark.
    records_end: Lsn,
    /// The newest frame: where it ends, and the durable position it states.
    newest: (Lsn, Lsn),
    /// Closed segments, oldest first, with their numbers.
    closed: Vec<(u64, SegmentEnd)>,
}

#[derive(Default)]
struct SyncState {
    in_flight: bool,
    /// Syncs begun so far.
    round: usize,
    /// What the sync in flight makes durable; `None` until it has looked.
    target: Option<Lsn>,
    /// The first write or sync that failed. Nothing is written after it.
    failure: Option<Error>,
    /// Futures waiting for a position.
    wakers: Vec<(Lsn, Waker)>,
    /// When the last sync ended.
    last_sync: Duration,
    /// The furthest durable position that a durable frame states.
    stated: Lsn,
    /// The end of the newest record, marks not counted, that a sync has covered.
    records_end: Lsn,
    /// Syncs of which the observers were not told.
    untold: Untold,
    closing: bool,
}

/// Syncs, all together.
#[derive(Clone, Copy, Debug, Default)]
struct Untold {
    syncs: u64,
    bytes: u64,
    took: Duration,
    slowest: Duration,
}

impl Untold {
    fn add(&mut self, bytes: u64, took: Duration) {
        self.syncs += 1;
        self.bytes += bytes;
        self.took += took;
        self.slowest = self.slowest.max(took);
    }
}

impl Log {
    /// A log that goes on at `end`, everything before being durable. The first append makes a new segment.
    pub fn new(context: Context, options: LogOptions, incarnation: Incarnation, scan: &Scan) -> Arc<Self> {
        let end = scan.end;
        Arc::new(Self {
            context,
            options,
            incarnation,
            durable: AtomicU64::new(end.0),
            has_failed: AtomicBool::new(false),
            is_job_watching: AtomicBool::new(false),
            sync_due: AtomicU64::new(NOT_DUE),
            rounds: [Event::default(), Event::default()],
            synced: Event::default(),
            job: Mutex::new(None),
            tail: Mutex::new(Tail {
                segment: None,
                next: None,
                is_next_asked: false,
                full: Vec::new(),
                head: Vec::new(),
                next_number: scan.next_segment,
                end,
                dirty: Vec::new(),
                names_dirty: false,
                records_end: end,
                newest: (end, end),
                closed: scan.ends().collect(),
            }),
            sync: Mutex::new(SyncState { stated: end, records_end: end, ..SyncState::default() }),
        })
    }

    /// Everything before this position is on disk.
    pub fn durable(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    /// Behind the newest record.
    pub fn end(&self) -> Lsn {
        self.tail.lock().end
    }

    /// Bytes of disk that live segments stand for, preallocation not counted.
    pub fn live_bytes(&self, start: Lsn) -> u64 {
        self.end().0.saturating_sub(start.0)
    }

    /// Appends a record. It is in the operating system's hands when this returns, and durable after
    /// [`sync_to`](Self::sync_to) its end.
    ///
    /// # Errors
    /// `Unavailable` when there is no room for a new segment (nothing was written; try again later), or when a write
    /// or sync failed before or now (nothing will be written until the database is opened again).
    pub fn append(
        &self,
        head: &RecordHead,
        sections: &[Section<'_>],
        handover: Handover,
    ) -> Result<Appended> {
        let (appended, wants_next) = self.append_locked(head, sections, handover);
        if wants_next {
            self.wake_job();
        }
        if appended.is_err() && self.has_failed.load(Ordering::Acquire) {
            // Outside the lock: nothing will become durable any more, and those who wait must hear of it.
            self.release_waiters(self.durable());
        }
        appended
    }

    /// Also says whether the job has something to prepare.
    fn append_locked(
        &self,
        head: &RecordHead,
        sections: &[Section<'_>],
        handover: Handover,
    ) -> (Result<Appended>, bool) {
        let tail = &mut *self.tail.lock();
        let appended = self.append_to(tail, head, sections, handover);
        let wants_next = !tail.is_next_asked && tail.wants_next();
        tail.is_next_asked |= wants_next;
        (appended, wants_next)
    }

    fn append_to(
        &self,
        tail: &mut Tail,
        head: &RecordHead,
        sections: &[Section<'_>],
        handover: Handover,
    ) -> Result<Appended> {
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        tail.head.clear();
        head.encode(&mut tail.head);
        let durable = self.durable();
        self.make_room(tail, sections, durable)?;
        let segment = tail.segment.as_mut().expect("make_room leaves a segment");
        let start = tail.end;
        let length = segment
            .append((start, durable), &tail.head, sections, handover)
            .map_err(|error| self.fail(&error))?;
        tail.end = start.plus(length);
        tail.newest = (tail.end, durable);
        if head.kind != RecordKind::Mark {
            tail.records_end = tail.end;
        }
        Ok(Appended { start, end: tail.end, segment_first: segment.place.first })
    }

    /// Goes to a new segment when the record does not fit the current one.
    fn make_room(&self, tail: &mut Tail, sections: &[Section<'_>], durable: Lsn) -> Result<()> {
        if tail.segment.as_ref().is_some_and(|segment| segment.fits(tail.end, &tail.head, sections)) {
            return Ok(());
        }
        let bytes: u64 = sections.iter().map(|section| section.bytes.len() as u64).sum();
        let need = bytes + (tail.head.len() + SECTION_OVERHEAD_BYTES * (sections.len() + 1)) as u64;
        let prepared = match tail.next.take() {
            Some(next) if next.has_room(need) => next,
            too_small => {
                if let Some(too_small) = too_small {
                    // Its number has passed.
                    too_small.remove(&self.context);
                }
                let number = tail.take_number();
                Prepared::create(&self.context, STREAM, number, self.options.segment_bytes.max(need))?
            }
        };
        let is_name_durable = prepared.is_name_durable;
        let segment = prepared.begin(&self.context, (STREAM, self.incarnation), tail.end, durable)?;
        if let Some(old) = tail.segment.take() {
            tail.closed.push(old.closed_at(tail.end));
            tail.full.push((old, tail.end));
        }
        tail.dirty.push(Arc::clone(&segment.file));
        tail.names_dirty |= !is_name_durable;
        tail.segment = Some(segment);
        tail.is_next_asked = false;
        Ok(())
    }

    /// Makes everything before `lsn` durable: waits for the sync in flight, or becomes the one who syncs.
    ///
    /// # Errors
    /// `Unavailable` when a write or sync failed: whether the records are on disk is unknown.
    pub fn sync_to(&self, lsn: Lsn) -> Result<()> {
        self.sync_by(lsn, Duration::ZERO)
    }

    /// Waits until everything before `lsn` is durable; at the moment `by` of the stopwatch at the latest it becomes the one
    /// who syncs. A sync that somebody else needs earlier carries it too.
    ///
    /// # Errors
    /// As [`sync_to`](Self::sync_to).
    pub fn sync_by(&self, lsn: Lsn, by: Duration) -> Result<()> {
        while self.durable() < lsn {
            let is_time = by.is_zero() || self.context.env.clock.monotonic() >= by;
            let mut sync = self.sync.lock();
            if let Some(failure) = &sync.failure {
                return Err(failure.clone());
            }
            if is_time && !sync.in_flight {
                sync.in_flight = true;
                sync.round += 1;
                sync.target = None;
                drop(sync);
                self.lead_sync();
                continue;
            }
            // Who looks before the sync has looked is covered by it: what is waited for was appended before.
            let is_covered = sync.target.is_none_or(|target| lsn <= target);
            let round = sync.round + usize::from(!is_covered);
            drop(sync);
            let (event, deadline) =
                if is_time { (&self.rounds[round % 2], None) } else { (&self.synced, Some(by)) };
            self.context.env.executor.block_until(event, deadline, &mut || {
                self.durable() >= lsn
                    || self.has_failed.load(Ordering::Acquire)
                    || (is_time && !self.sync.lock().in_flight)
            });
        }
        Ok(())
    }

    /// Nobody waits, and a sync is to come within `delay` all the same: at most [`SYNC_DELAY_MAX`].
    pub fn sync_within(&self, delay: Duration) {
        // One that is due comes soon enough; the clock need not be asked.
        if delay < SYNC_DELAY_MAX || self.sync_due.load(Ordering::Acquire) == NOT_DUE {
            self.want_sync(self.context.env.clock.monotonic() + delay.min(SYNC_DELAY_MAX));
        }
    }

    /// Has the job sync at the moment `by`.
    fn want_sync(&self, by: Duration) {
        let by = micros(by);
        if by < self.sync_due.fetch_min(by, Ordering::AcqRel) {
            self.wake_job();
        }
    }

    /// One sync for everything appended so far. `in_flight` is ours.
    fn lead_sync(&self) {
        // First: whoever wants a sync from here on may have appended behind what this one covers.
        self.sync_due.store(NOT_DUE, Ordering::Release);
        let (target, newest, records_end, files, names_dirty) = {
            let tail = self.tail.lock();
            (tail.end, tail.newest, tail.records_end, tail.dirty.clone(), tail.names_dirty)
        };
        self.sync.lock().target = Some(target);
        let begun = self.context.env.clock.monotonic();
        let outcome = self.sync_files(&files, names_dirty);
        let ended = self.context.env.clock.monotonic();
        if outcome.is_ok() {
            let mut tail = self.tail.lock();
            // Of the files that were synced only the last can still grow.
            tail.dirty.drain(..files.len().saturating_sub(1));
            if tail.dirty.len() <= 1 {
                tail.names_dirty = false;
            }
        }
        let mut bytes = 0;
        if let Err(error) = &outcome {
            let _ = self.fail(error);
        } else {
            bytes = target.0.saturating_sub(self.durable.fetch_max(target.0, Ordering::AcqRel));
        }
        let mut sync = self.sync.lock();
        sync.in_flight = false;
        let round = sync.round;
        if outcome.is_ok() {
            sync.last_sync = ended;
            sync.untold.add(bytes, ended.saturating_sub(begun));
            sync.stated = sync.stated.max(newest.1);
            sync.records_end = sync.records_end.max(records_end);
        }
        drop(sync);
        self.release_waiters(target);
        self.rounds[round % 2].notify();
        self.rounds[(round + 1) % 2].notify_one();
        // A mark will be due. A job that looks by itself soon sees that, and most commits need not wake it.
        if !self.is_job_watching.load(Ordering::Acquire) {
            self.wake_job();
        }
    }

    /// Wakes the futures that wait for a position up to `durable`, and everybody after a failure.
    fn release_waiters(&self, durable: Lsn) {
        let mut sync = self.sync.lock();
        let failed = sync.failure.is_some();
        let wakers = std::mem::take(&mut sync.wakers);
        let (woken, waiting): (Vec<_>, Vec<_>) =
            wakers.into_iter().partition(|(lsn, _)| failed || *lsn <= durable);
        sync.wakers = waiting;
        drop(sync);
        self.synced.notify();
        if failed {
            self.rounds.iter().for_each(Event::notify);
        }
        for (_, waker) in woken {
            waker.wake();
        }
    }

    fn sync_files(&self, files: &[Arc<dyn File>], names_dirty: bool) -> Result<()> {
        for file in files {
            file.sync_data().map_err(|error| Error::io("sync the log", error))?;
        }
        if names_dirty { self.sync_names() } else { Ok(()) }
    }

    fn sync_names(&self) -> Result<()> {
        let synced = self.context.env.fs.sync_dir(&self.context.log_dir());
        synced.map_err(|error| Error::io("sync the log's directory", error))
    }

    /// The failure that ended all writing, if there was one.
    pub fn failure(&self) -> Option<Error> {
        if self.has_failed.load(Ordering::Acquire) { self.sync.lock().failure.clone() } else { None }
    }

    /// Ends all writing, and returns what every writer is told from now on.
    fn fail(&self, error: &Error) -> Error {
        let told = Error::unavailable(format!(
            "{}; whether the last commits are on disk is unknown: reads go on, writes are refused until the \
             database is opened again",
            error.cause()
        ));
        let failure = self.sync.lock().failure.get_or_insert(told).clone();
        self.has_failed.store(true, Ordering::Release);
        // It tells the observers: whoever has failed may hold a lock.
        self.wake_job();
        failure
    }

    /// True when `lsn` is durable; else `waker` is woken when it is, or when it never will be. The sync comes at the moment
    /// `by` at the latest.
    ///
    /// # Errors
    /// As [`sync_to`](Self::sync_to).
    pub fn poll_durable(&self, lsn: Lsn, by: Duration, waker: &Waker) -> Result<bool> {
        if self.durable() >= lsn {
            return Ok(true);
        }
        let mut sync = self.sync.lock();
        if let Some(failure) = &sync.failure {
            return Err(failure.clone());
        }
        // Looked at again under the lock: the sync that ends now takes the wakers under it.
        if self.durable() >= lsn {
            return Ok(true);
        }
        if !sync.wakers.iter().any(|(at, known)| *at == lsn && known.will_wake(waker)) {
            sync.wakers.push((lsn, waker.clone()));
        }
        drop(sync);
        self.want_sync(by);
        Ok(false)
    }

    fn wake_job(&self) {
        if let Some(job) = &*self.job.lock() {
            job.wake();
        }
    }

    /// Removes the segments that end at or before `lsn`. The caller has recorded durably that nothing before `lsn` is
    /// needed. Names that come back after a power cut are removed by the next open.
    pub fn trim(&self, lsn: Lsn) {
        let mut gone = Vec::new();
        {
            let mut tail = self.tail.lock();
            let count = tail.closed.partition_point(|(_, closed)| closed.end <= lsn);
            gone.extend(tail.closed.drain(..count));
        }
        for (number, _) in gone {
            let _ = self.context.env.fs.remove(&segment::path(&self.context, STREAM, number));
        }
    }

    /// This opening of the database.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The number for the next segment.
    pub fn next_segment(&self) -> u64 {
        self.tail.lock().next_number
    }

    /// What the manifest records of the log: the closed segments with their numbers.
    pub fn closed_segments(&self) -> Vec<(u64, SegmentEnd)> {
        self.tail.lock().closed.clone()
    }

    /// Makes everything durable, ends the job, and returns the number for the next segment and the end of the log.
    /// Appends are over: the caller has seen to that.
    ///
    /// # Errors
    /// As [`sync_to`](Self::sync_to).
    pub fn close(&self) -> Result<(u64, Lsn)> {
        let outcome = self.sync_to(self.end());
        self.sync.lock().closing = true;
        self.wake_job();
        let job = self.job.lock().take();
        let joined = job.map_or(Ok(()), |job| job.join(&*self.context.env.executor));
        outcome.and(joined)?;
        // The job may have written a mark since.
        self.sync_to(self.end())?;
        self.close_full();
        let mut tail = self.tail.lock();
        let end = tail.end;
        if let Some(next) = tail.next.take() {
            next.remove(&self.context);
        }
        if let Some(last) = tail.segment.take() {
            tail.closed.push(last.closed_at(end));
            last.close(end);
        }
        Ok((tail.next_number, end))
    }
}

fn micros(moment: Duration) -> u64 {
    u64::try_from(moment.as_micros()).unwrap_or(NOT_DUE - 1)
}

impl Tail {
    /// A number is used once, even when making the segment fails and leaves a file behind.
    fn take_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number - 1
    }

    /// True when it is time to make the next segment.
    fn wants_next(&self) -> bool {
        let is_half_full = self.segment.as_ref().is_some_and(|segment| segment.is_half_full(self.end));
        is_half_full && self.next.is_none()
    }
}
