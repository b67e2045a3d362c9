//! A log segment: one preallocated file, written once from front to back, never after a reopen.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use pugdb_core::coding::Reader;
use pugdb_core::env::{File, Mapping};
use pugdb_core::seam::{FileCipher, FileContext, FileKind};
use pugdb_core::{Error, FileId, Incarnation, Lsn, Result, StreamId};

use super::{Handover, SegmentEnd};
use crate::file::{Context, EXTRA_OFFSET, FileHeader, ID_OFFSET};
use crate::frame::{FrameEncoder, Section, first_offset};

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
    /// Which opening of the database has made it.
    pub incarnation: Incarnation,
}

/// Where a segment's header holds its id: twice, so that its frames can prove themselves when one of them is damaged.
pub(super) const ID_OFFSETS: [u64; 2] = [ID_OFFSET, EXTRA_OFFSET + PLACE_BYTES];
/// Stream, number, first position, durable position, incarnation.
const PLACE_BYTES: u64 = 4 + 3 * 8 + 16;
/// What a segment's header keeps for the log: its place, and the id a second time.
pub(crate) const EXTRA_BYTES: usize = 60;
const _: () = assert!(EXTRA_BYTES as u64 == PLACE_BYTES + 16);

impl SegmentPlace {
    fn encode(self, id: FileId) -> Vec<u8> {
        let mut out = Vec::with_capacity(EXTRA_BYTES);
        out.extend_from_slice(&self.stream.0.to_le_bytes());
        for number in [self.number, self.first.0, self.durable.0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.incarnation.0);
        out.extend_from_slice(&id.0);
        out
    }

    /// Reads what [`Prepared::begin`] wrote into the header of the file `id`.
    pub(super) fn decode(bytes: &[u8], id: FileId) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let stream = StreamId(reader.u32()?);
        let number = reader.u64()?;
        let (first, durable) = (Lsn(reader.u64()?), Lsn(reader.u64()?));
        let incarnation = Incarnation(reader.array()?);
        if reader.rest() != id.0 || durable > first {
            return Err(Error::corrupt("a log segment's header does not add up"));
        }
        Ok(Self { stream, number, first, durable, incarnation })
    }
}

/// The file name of a segment.
pub(super) fn file_name(stream: StreamId, number: u64) -> String {
    format!("{stream}-{number:010}.log")
}

/// Reads a file name that [`file_name`] made.
pub fn parse_name(name: &str) -> Option<(StreamId, u64)> {
    let (stream, number) = name.strip_suffix(".log")?.split_once('-')?;
    let (stream, number) = (StreamId(stream.parse().ok()?), number.parse().ok()?);
    // No other spelling: two files would have one place.
    (file_name(stream, number) == name).then_some((stream, number))
}

/// Where a segment lies.
pub(super) fn path(context: &Context, stream: StreamId, number: u64) -> PathBuf {
    context.log_dir().join(file_name(stream, number))
}

/// A segment file that is made and not begun: its space is taken, all of it is zeros. Made in the background, so that no
/// commit waits for it.
pub(super) struct Prepared {
    /// Its number.
    pub number: u64,
    /// Its name survives a power cut.
    pub is_name_durable: bool,
    file: Arc<dyn File>,
    mapping: Option<Box<dyn Mapping>>,
    path: PathBuf,
    identity: FileContext,
    cipher_header: Vec<u8>,
    cipher: Arc<dyn FileCipher>,
    frames: u64,
    capacity: u64,
}

impl Prepared {
    /// Makes a file with room for `room` bytes of frames.
    ///
    /// # Errors
    /// `Unavailable` when the disk has no room: nothing is left behind, and the caller may try again.
    pub(super) fn create(context: &Context, stream: StreamId, number: u64, room: u64) -> Result<Self> {
        let path = path(context, stream, number);
        let id = FileId::random(&*context.env.random);
        let identity =
            FileContext { database: context.database, file: id, kind: FileKind::Log, keyspace: None };
        let (cipher_header, cipher) = context.cipher.create(&identity)?;
        // Where the frames begin does not depend on what the place says.
        let place = SegmentPlace {
            stream,
            number,
            first: Lsn(0),
            durable: Lsn(0),
            incarnation: Incarnation([0; 16]),
        };
        let frames = first_offset(header(identity, place, cipher_header.clone()).length(&*cipher));
        let capacity = frames + room;
        let file = context.env.fs.create(&path).map_err(|error| creating(stream, number, error))?;
        match file.allocate_and_map(capacity) {
            Ok(mapping) => Ok(Self {
                number,
                is_name_durable: false,
                file,
                mapping,
                path,
                identity,
                cipher_header,
                cipher,
                frames,
                capacity,
            }),
            Err(error) => {
                let _ = context.env.fs.remove(&path);
                Err(creating(stream, number, error))
            }
        }
    }

    /// True when it has room for `bytes` of frames.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        self.frames + bytes <= self.capacity
    }

    /// Begins it: from here on frames can be written. Nothing of it is durable yet.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be written; it is removed then, and the caller may try again.
    pub(super) fn begin(
        self,
        context: &Context,
        (stream, incarnation): (StreamId, Incarnation),
        first: Lsn,
        durable: Lsn,
    ) -> Result<Segment> {
        let place = SegmentPlace { stream, number: self.number, first, durable, incarnation };
        let header = header(self.identity, place, self.cipher_header).encode(&*self.cipher)?;
        let mut segment = Segment {
            file: self.file,
            id: self.identity.file,
            place,
            encoder: FrameEncoder::new(self.identity.file, self.cipher),
            mapping: self.mapping,
            frames: self.frames,
            capacity: self.capacity,
        };
        if let Err(error) = segment.write(&header, 0) {
            // No frame was written, so an empty segment that stays behind is skipped by recovery.
            let _ = context.env.fs.remove(&self.path);
            return Err(creating(stream, place.number, error));
        }
        Ok(segment)
    }

    /// Gives it up. What stays behind is all zeros, which recovery removes.
    pub(super) fn remove(self, context: &Context) {
        drop(self.mapping);
        let _ = context.env.fs.remove(&self.path);
    }
}

fn header(identity: FileContext, place: SegmentPlace, cipher: Vec<u8>) -> FileHeader {
    FileHeader { context: identity, extra: place.encode(identity.file), cipher }
}

fn creating(stream: StreamId, number: u64, error: io::Error) -> Error {
    Error::io(format!("create the log segment {}", file_name(stream, number)), error)
}

/// The segment that is being written.
pub(super) struct Segment {
    /// The file.
    pub file: Arc<dyn File>,
    id: FileId,
    /// Its place in the stream.
    pub place: SegmentPlace,
    encoder: FrameEncoder,
    /// The way into the file without a system call, where there is one.
    mapping: Option<Box<dyn Mapping>>,
    /// Where the first frame begins.
    frames: u64,
    capacity: u64,
}

impl Segment {
    /// Writes a frame at `start`; it states that everything before `durable` is durable. Returns its length.
    ///
    /// # Errors
    /// What cipher or file system say. Whether the frame is in the file is unknown then.
    pub(super) fn append(
        &mut self,
        (start, durable): (Lsn, Lsn),
        head: &[u8],
        sections: &[Section<'_>],
        handover: Handover,
    ) -> Result<u64> {
        let offset = self.offset(start);
        let frame = self.encoder.encode(offset, start.0 - durable.0, head, sections)?;
        let mapping = self.mapping.as_mut().filter(|_| handover == Handover::Stored);
        let written = write(&self.file, mapping, frame, offset);
        written.map_err(|error| Error::io("write the log", error))?;
        Ok(frame.len() as u64)
    }

    fn write(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        write(&self.file, self.mapping.as_mut(), bytes, offset)
    }

    /// Its number, and itself closed at `end`.
    pub(super) fn closed_at(&self, end: Lsn) -> (u64, SegmentEnd) {
        (self.place.number, SegmentEnd { file: self.id, end })
    }

    /// Gives back what was preallocated behind `end`. Best effort: it only takes space.
    pub(super) fn close(self, end: Lsn) {
        let length = self.offset(end);
        // First: pages that are mapped must not be cut off.
        drop(self.mapping);
        let _ = self.file.truncate(length);
    }

    /// Where the position lies in the file.
    fn offset(&self, lsn: Lsn) -> u64 {
        self.frames + (lsn.0 - self.place.first.0)
    }

    /// True when the record surely fits behind `end`.
    pub(super) fn fits(&self, end: Lsn, head: &[u8], sections: &[Section<'_>]) -> bool {
        self.offset(end) + self.encoder.size_max(head, sections) <= self.capacity
    }

    /// True when more than half of it is used: it is time to prepare the next one.
    pub(super) fn is_half_full(&self, end: Lsn) -> bool {
        self.offset(end) > self.capacity / 2
    }
}

fn write(
    file: &Arc<dyn File>,
    mapping: Option<&mut Box<dyn Mapping>>,
    bytes: &[u8],
    offset: u64,
) -> io::Result<()> {
    match mapping {
        Some(mapping) => {
            mapping.write_at(bytes, offset);
            Ok(())
        }
        None => file.write_at(bytes, offset),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_has_one_name() {
        for (stream, number) in [(0, 1), (0, 10_000_000_000), (7, 12), (u32::MAX, u64::MAX)] {
            let name = file_name(StreamId(stream), number);
            assert_eq!(parse_name(&name), Some((StreamId(stream), number)));
        }
        for other in [
            "0-7.log",
            "0-+000000007.log",
            "00-0000000007.log",
            "+0-0000000007.log",
            "0-00000000007.log",
            "0-0000000007.LOG",
            "0-.log",
        ] {
            assert_eq!(parse_name(other), None, "{other}");
        }
    }
}
