//! Copies the log up to a position, for a checkpoint. Its segments are opened first: what is trimmed meanwhile stays
//! readable. They are copied and never linked, for the last one is still written, and recovery may write to all of them.

use std::sync::Arc;

use pugdb_core::coding::index;
use pugdb_core::env::{Access, File};
use pugdb_core::seam::FileKind;
use pugdb_core::{Error, Incarnation, Lsn, Result};

use super::segment::{self, SegmentPlace};
use super::{Log, LogState, STREAM, SegmentEnd};
use crate::file::{Context, FileHeader};
use crate::frame::first_offset;

/// Copied at once.
const COPY_BYTES: usize = 1 << 20;

/// A stretch of the log, held fast.
pub struct PinnedLog {
    start: Lsn,
    end: Lsn,
    next_segment: u64,
    /// Number and end of each segment, and itself, in order.
    segments: Vec<(u64, SegmentEnd, Arc<dyn File>)>,
}

impl Log {
    /// Opens everything from `start`, where a segment begins, to the present end. The caller sees to it that nothing is
    /// trimmed meanwhile.
    ///
    /// # Errors
    /// What the disk says.
    pub fn pin(&self, start: Lsn) -> Result<PinnedLog> {
        let (end, next_segment, numbers) = {
            let tail = self.tail.lock();
            let closed = tail.closed.iter().copied();
            let current = tail.segment.iter().map(|segment| segment.closed_at(tail.end));
            let numbers: Vec<_> = closed.chain(current).filter(|(_, closed)| closed.end > start).collect();
            (tail.end, tail.next_number, numbers)
        };
        let open = |(number, end): (u64, SegmentEnd)| {
            let opened =
                self.context.env.fs.open(&segment::path(&self.context, STREAM, number), Access::Read);
            let name = segment::file_name(STREAM, number);
            let file =
                opened.map_err(|error| Error::io(format_args!("open the log segment {name}"), error))?;
            Ok((number, end, file))
        };
        let segments = numbers.into_iter().map(open).collect::<Result<_>>()?;
        Ok(PinnedLog { start, end, next_segment, segments })
    }
}

impl PinnedLog {
    /// Up to here.
    pub fn end(&self) -> Lsn {
        self.end
    }

    /// Writes the stretch, which must be durable, to the log directory of another context and makes it durable there,
    /// names included. Returns what a manifest says of such a log: it was closed in good order at its end.
    ///
    /// # Errors
    /// What the disk says; `Corrupt` when a header is damaged.
    pub fn copy_to(&self, context: &Context) -> Result<LogState> {
        for (number, end, file) in &self.segments {
            let name = segment::file_name(STREAM, *number);
            copy_segment(context, *number, end.end, &**file)
                .map_err(|error| error.at(format_args!("copy the log segment {name}")))?;
        }
        let synced = context.env.fs.sync_dir(&context.log_dir());
        synced.map_err(|error| Error::io("sync the log's directory", error))?;
        Ok(LogState {
            start: self.start,
            durable: self.end,
            ends: self.segments.iter().map(|(number, end, _)| (*number, *end)).collect(),
            next_segment: self.next_segment,
            clean: true,
            // What the original writes from here on is not the copy's.
            incarnation: Incarnation::random(&*context.env.random),
        })
    }
}

fn copy_segment(context: &Context, number: u64, end: Lsn, from: &dyn File) -> Result<()> {
    let opened = FileHeader::read(from, FileKind::Log, Some(context.database), &*context.cipher)?;
    let place = SegmentPlace::decode(&opened.header.extra, opened.header.context.file)?;
    let copy = || {
        // The padding of the last record can be missing: it means nothing.
        let length = (first_offset(opened.bytes) + (end.0 - place.first.0)).min(from.length()?);
        let to = context.env.fs.create(&segment::path(context, STREAM, number))?;
        let mut buffer = vec![0; COPY_BYTES.min(index(length))];
        let mut offset = 0;
        while offset < length {
            let part = &mut buffer[..COPY_BYTES.min(index(length - offset))];
            from.read_exact_at(part, offset)?;
            to.write_at(part, offset)?;
            offset += part.len() as u64;
        }
        to.sync_data()
    };
    copy().map_err(|error| Error::io("copy it", error))
}
