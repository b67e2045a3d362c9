//! A log segment: one preallocated file, written once from front to back, never after a reopen.

use std::path::PathBuf;
use std::sync::Arc;

use pugdb_core::coding::Reader;
use pugdb_core::env::File;
use pugdb_core::seam::{FileContext, FileKind};
use pugdb_core::{Error, FileId, Lsn, Result, StreamId};

use crate::file::{Context, EXTRA_OFFSET, FileHeader, ID_OFFSET};
use crate::frame::{FrameEncoder, first_offset};

/// What a segment's header says about its place in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentPlace {
    /// The stream it belongs to.
    pub stream: StreamId,
    /// Its number: ascending, never reused.
    pub number: u64,
    /// The position of its first byte of content.
    pub first: Lsn,
    /// The durable position when it was made.
    pub durable: Lsn,
}

/// Where a segment's header holds its id: twice, so that its frames can prove themselves when one of them is damaged.
pub(super) const ID_OFFSETS: [u64; 2] = [ID_OFFSET, EXTRA_OFFSET + PLACE_BYTES];
/// Stream, number, first position, durable position.
const PLACE_BYTES: u64 = 4 + 3 * 8;

impl SegmentPlace {
    fn encode(self, id: FileId) -> Vec<u8> {
        let mut out = Vec::with_capacity(44);
        out.extend_from_slice(&self.stream.0.to_le_bytes());
        for number in [self.number, self.first.0, self.durable.0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&id.0);
        out
    }

    /// Reads what [`Segment::create`] wrote into the header of the file `id`.
    pub(super) fn decode(bytes: &[u8], id: FileId) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let stream = StreamId(reader.u32()?);
        let number = reader.u64()?;
        let (first, durable) = (Lsn(reader.u64()?), Lsn(reader.u64()?));
        if reader.rest() != id.0 || durable > first {
            return Err(Error::corrupt("a log segment's header does not add up"));
        }
        Ok(Self { stream, number, first, durable })
    }
}

/// The file name of a segment.
pub(super) fn file_name(stream: StreamId, number: u64) -> String {
    format!("{stream}-{number:010}.log")
}

/// Reads a file name that [`file_name`] made.
pub(crate) fn parse_name(name: &str) -> Option<(StreamId, u64)> {
    let (stream, number) = name.strip_suffix(".log")?.split_once('-')?;
    Some((StreamId(stream.parse().ok()?), number.parse().ok()?))
}

/// Where a segment lies.
pub(super) fn path(context: &Context, stream: StreamId, number: u64) -> PathBuf {
    context.log_dir().join(file_name(stream, number))
}

/// The segment that is being written.
pub(super) struct Segment {
    /// The file.
    pub file: Arc<dyn File>,
    /// Its place in the stream.
    pub place: SegmentPlace,
    /// What makes its frames.
    pub encoder: FrameEncoder,
    /// Where the first frame begins.
    frames: u64,
    capacity: u64,
}

impl Segment {
    /// Makes a segment with room for `room` bytes of frames. Nothing of it is durable yet.
    ///
    /// # Errors
    /// `Unavailable` when the disk has no room: nothing is left behind, and the caller may try again.
    pub(super) fn create(context: &Context, place: SegmentPlace, room: u64) -> Result<Self> {
        let path = path(context, place.stream, place.number);
        let doing = || format!("create the log segment {}", file_name(place.stream, place.number));
        let id = FileId::random(&*context.env.random);
        let identity =
            FileContext { database: context.database, file: id, kind: FileKind::Log, keyspace: None };
        let (cipher_header, cipher) = context.cipher.create(&identity)?;
        let header =
            FileHeader { context: identity, extra: place.encode(id), cipher: cipher_header }.encode();
        let frames = first_offset(header.len() as u64);
        let capacity = frames + room;
        let file = context.env.fs.create(&path).map_err(|error| Error::io(doing(), error))?;
        if let Err(error) = file.allocate(capacity).and_then(|()| file.write_at(&header, 0)) {
            // No frame was written, so an empty segment that stays behind is skipped by recovery.
            let _ = context.env.fs.remove(&path);
            return Err(Error::io(doing(), error));
        }
        Ok(Self { file, place, encoder: FrameEncoder::new(id, cipher), frames, capacity })
    }

    /// Gives back what was preallocated behind `end`. Best effort: it only takes space.
    pub(super) fn trim_tail(&self, end: Lsn) {
        let _ = self.file.truncate(self.offset(end));
    }

    /// Where the position lies in the file.
    pub(super) fn offset(&self, lsn: Lsn) -> u64 {
        self.frames + (lsn.0 - self.place.first.0)
    }

    /// True when `bytes` more fit behind `end`.
    pub(super) fn fits(&self, end: Lsn, bytes: u64) -> bool {
        self.offset(end) + bytes <= self.capacity
    }
}
