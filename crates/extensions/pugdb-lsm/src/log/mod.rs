//! The log: appends records to a stream of segments, makes them durable, reads them back by position, trims.
//!
//! It knows nothing of trees. Appends come in order, one at a time; syncs happen outside every lock, one in flight,
//! and one sync answers everybody who waits for a position at or before it. Write path, steps 4 and 7
//! (`docs/internals/write-path.md`).

mod inspect;
mod job;
mod record;
mod recover;
mod segment;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;
use pugdb_core::env::{Event, File, JobHandle};
use pugdb_core::{Error, Lsn, Result, StreamId};

pub(crate) use inspect::inspect;
pub use record::{RecordHead, RecordKind};
pub use recover::{Cut, LogState, OldSegment, Scan, ScannedRecord, scan};
pub use segment::SegmentPlace;

use crate::file::Context;
use crate::frame::Section;
use segment::Segment;

/// The one stream of a database that is alone.
pub const STREAM: StreamId = StreamId(0);
/// After the last sync, a mark of the durable position follows within this time.
pub const MARK_DELAY: Duration = Duration::from_millis(10);

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
    /// Everything before this position is on disk. Never goes back.
    durable: AtomicU64,
    /// Notified when a sync ends.
    synced: Event,
    /// The job that syncs for futures and writes marks; set once when it starts.
    job: Mutex<Option<JobHandle>>,
    /// The end of the log, and what has not been synced.
    tail: Mutex<Tail>,
    /// Who syncs, and who waits.
    sync: Mutex<SyncState>,
}

struct Tail {
    segment: Option<Segment>,
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
    /// Closed segments, oldest first: number and end.
    closed: Vec<(u64, Lsn)>,
}

#[derive(Default)]
struct SyncState {
    in_flight: bool,
    /// The first write or sync that failed. Nothing is written after it.
    failure: Option<Error>,
    /// Futures waiting for a position.
    wakers: Vec<(Lsn, Waker)>,
    /// The furthest position a future waits for.
    wanted: Lsn,
    /// When the last sync ended.
    last_sync: Duration,
    /// The furthest durable position that a durable frame states.
    stated: Lsn,
    /// The end of the newest record, marks not counted, that a sync has covered.
    records_end: Lsn,
    closing: bool,
}

impl Log {
    /// A log that goes on at `end`, everything before being durable. The first append makes a new segment.
    pub fn new(context: Context, options: LogOptions, scan: &Scan) -> Arc<Self> {
        let end = scan.end;
        Arc::new(Self {
            context,
            options,
            durable: AtomicU64::new(end.0),
            synced: Event::default(),
            job: Mutex::new(None),
            tail: Mutex::new(Tail {
                segment: None,
                next_number: scan.next_segment,
                end,
                dirty: Vec::new(),
                names_dirty: false,
                records_end: end,
                newest: (end, end),
                closed: scan.segments.iter().map(|segment| (segment.place.number, segment.end)).collect(),
            }),
            sync: Mutex::new(SyncState {
                stated: end,
                records_end: end,
                wanted: end,
                ..SyncState::default()
            }),
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
    pub fn append(&self, head: &RecordHead, sections: &[Section]) -> Result<Appended> {
        let appended = self.append_locked(head, sections);
        if appended.is_err() && self.failure().is_some() {
            // Outside the lock: nothing will become durable any more, and those who wait must hear of it.
            self.release_waiters(self.durable());
        }
        appended
    }

    fn append_locked(&self, head: &RecordHead, sections: &[Section]) -> Result<Appended> {
        let mut tail = self.tail.lock();
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        let head_bytes = head.encode();
        let durable = self.durable();
        self.make_room(&mut tail, &head_bytes, sections, durable)?;
        let tail = &mut *tail;
        let segment = tail.segment.as_mut().expect("make_room leaves a segment");
        let start = tail.end;
        let offset = segment.offset(start);
        let written =
            segment.encoder.encode(offset, start.0 - durable.0, &head_bytes, sections).and_then(|frame| {
                segment.file.write_at(&frame, offset).map_err(|error| Error::io("write the log", error))?;
                Ok(frame.len() as u64)
            });
        let length = written.map_err(|error| self.fail(&error))?;
        tail.end = start.plus(length);
        tail.newest = (tail.end, durable);
        if head.kind != RecordKind::Mark {
            tail.records_end = tail.end;
        }
        Ok(Appended { start, end: tail.end, segment_first: segment.place.first })
    }

    /// Goes to a new segment when the record does not fit the current one.
    fn make_room(&self, tail: &mut Tail, head: &[u8], sections: &[Section], durable: Lsn) -> Result<()> {
        // Any encoder knows the sizes; a fresh segment's overhead is the largest.
        let bytes: u64 = sections.iter().map(|section| section.bytes.len() as u64).sum();
        let need = tail.segment.as_ref().map_or(0, |segment| segment.encoder.size_max(head, sections));
        if tail.segment.as_ref().is_some_and(|segment| segment.fits(tail.end, need)) {
            return Ok(());
        }
        let number = tail.next_number;
        // A number is used once, even when making the segment fails and leaves a file behind.
        tail.next_number += 1;
        let place = SegmentPlace { stream: STREAM, number, first: tail.end, durable };
        let overhead = (head.len() + 2048 * (sections.len() + 1)) as u64;
        let room = self.options.segment_bytes.max(bytes + overhead);
        let segment = Segment::create(&self.context, place, room)?;
        if let Some(old) = tail.segment.take() {
            old.trim_tail(tail.end);
            tail.closed.push((old.place.number, tail.end));
        }
        tail.dirty.push(Arc::clone(&segment.file));
        tail.names_dirty = true;
        tail.segment = Some(segment);
        Ok(())
    }

    /// Makes everything before `lsn` durable: waits for the sync in flight, or becomes the one who syncs.
    ///
    /// # Errors
    /// `Unavailable` when a write or sync failed: whether the records are on disk is unknown.
    pub fn sync_to(&self, lsn: Lsn) -> Result<()> {
        loop {
            if self.durable() >= lsn {
                return Ok(());
            }
            {
                let mut sync = self.sync.lock();
                if let Some(failure) = &sync.failure {
                    return Err(failure.clone());
                }
                if !sync.in_flight {
                    sync.in_flight = true;
                    drop(sync);
                    self.lead_sync();
                    continue;
                }
            }
            self.context.env.executor.block_until(&self.synced, None, &mut || {
                self.durable() >= lsn || !self.sync.lock().in_flight
            });
        }
    }

    /// One sync for everything appended so far. `in_flight` is ours.
    fn lead_sync(&self) {
        let (target, newest, records_end, files, names_dirty) = {
            let tail = self.tail.lock();
            (tail.end, tail.newest, tail.records_end, tail.dirty.clone(), tail.names_dirty)
        };
        let outcome = self.sync_files(&files, names_dirty);
        if outcome.is_ok() {
            let mut tail = self.tail.lock();
            // Of the files that were synced only the last can still grow.
            tail.dirty.drain(..files.len().saturating_sub(1));
            if tail.dirty.len() <= 1 {
                tail.names_dirty = false;
            }
        }
        if let Err(error) = &outcome {
            let _ = self.fail(error);
        } else {
            self.durable.fetch_max(target.0, Ordering::AcqRel);
        }
        let mut sync = self.sync.lock();
        sync.in_flight = false;
        if outcome.is_ok() {
            sync.last_sync = self.context.env.clock.monotonic();
            sync.stated = sync.stated.max(newest.1);
            sync.records_end = sync.records_end.max(records_end);
        }
        drop(sync);
        self.release_waiters(target);
        self.wake_job();
    }

    /// Wakes everybody who waits for a position up to `durable`, or everybody after a failure.
    fn release_waiters(&self, durable: Lsn) {
        let mut sync = self.sync.lock();
        let failed = sync.failure.is_some();
        let wakers = std::mem::take(&mut sync.wakers);
        let (woken, waiting): (Vec<_>, Vec<_>) =
            wakers.into_iter().partition(|(lsn, _)| failed || *lsn <= durable);
        sync.wakers = waiting;
        drop(sync);
        self.synced.notify();
        for (_, waker) in woken {
            waker.wake();
        }
    }

    fn sync_files(&self, files: &[Arc<dyn File>], names_dirty: bool) -> Result<()> {
        for file in files {
            file.sync_data().map_err(|error| Error::io("sync the log", error))?;
        }
        if names_dirty {
            let synced = self.context.env.fs.sync_dir(&self.context.log_dir());
            synced.map_err(|error| Error::io("sync the log's directory", error))?;
        }
        Ok(())
    }

    /// The failure that ended all writing, if there was one.
    pub fn failure(&self) -> Option<Error> {
        self.sync.lock().failure.clone()
    }

    /// Ends all writing, and returns what every writer is told from now on.
    fn fail(&self, error: &Error) -> Error {
        let told = Error::unavailable(format!(
            "{}; whether the last commits are on disk is unknown: reads go on, writes are refused until the \
             database is opened again",
            error.cause()
        ));
        self.sync.lock().failure.get_or_insert(told).clone()
    }

    /// True when `lsn` is durable; else `waker` is woken when it is, or when it never will be.
    ///
    /// # Errors
    /// As [`sync_to`](Self::sync_to).
    pub fn poll_durable(&self, lsn: Lsn, waker: &Waker) -> Result<bool> {
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
        sync.wanted = sync.wanted.max(lsn);
        drop(sync);
        self.wake_job();
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
            let count = tail.closed.partition_point(|&(_, end)| end <= lsn);
            gone.extend(tail.closed.drain(..count));
        }
        for (number, _) in gone {
            let _ = self.context.env.fs.remove(&segment::path(&self.context, STREAM, number));
        }
    }

    /// The number for the next segment.
    pub fn next_segment(&self) -> u64 {
        self.tail.lock().next_number
    }

    /// What the manifest records of the log: the numbers and ends of the closed segments.
    pub fn closed_segments(&self) -> Vec<(u64, Lsn)> {
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
        let mut tail = self.tail.lock();
        let end = tail.end;
        if let Some(last) = tail.segment.take() {
            last.trim_tail(end);
            tail.closed.push((last.place.number, end));
        }
        Ok((tail.next_number, end))
    }
}
