//! Reading the log back after a close, a kill or a power cut: where does it end, and is what follows a torn tail or
//! damage? The rule: a cut is accepted only beyond the last position that anything states to be durable.
//!
//! Two passes: [`scan`] finds the end and changes nothing; then the end is made durable ([`Scan::make_durable`], and
//! the manifest records it); then [`Scan::replay`] hands out the records.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pugdb_core::coding::index;
use pugdb_core::env::{Access, File};
use pugdb_core::seam::{FileCipher, FileKind, Plain};
use pugdb_core::{Error, FileId, Incarnation, KeyspaceId, Lsn, Result};

use super::segment::{ID_OFFSETS, SegmentPlace, file_name, parse_name};
use super::{Creation, RecordHead, RecordKind, STREAM};
use crate::file::{Context, FileHeader, OpenedHeader};
use crate::frame::{Frame, FrameReader, Step, first_offset};
use crate::{PartitionMap, TreeOptions};

/// Recovered records are written again in pieces of this size.
const REWRITE_BYTES: usize = 1 << 20;

/// What the manifest knows of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// Nothing before this position is needed.
    pub start: Lsn,
    /// Everything before this position was durable when the manifest was written.
    pub durable: Lsn,
    /// The closed segments, by their numbers.
    pub ends: BTreeMap<u64, SegmentEnd>,
    /// No segment with this number or a larger one was ever written when the manifest was.
    pub next_segment: u64,
    /// The database was closed in good order then.
    pub clean: bool,
    /// Segments that are not among the closed ones were written by this opening of the database.
    pub incarnation: Incarnation,
}

/// A closed segment as the manifest knows it: a file of this number with another identity is none of this database's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentEnd {
    /// The file's identity.
    pub file: FileId,
    /// Where it ends; what lies behind in the file is not looked at.
    pub end: Lsn,
}

/// A segment that holds records that are needed.
pub struct OldSegment {
    /// Its place in the stream.
    pub place: SegmentPlace,
    /// Where its records end.
    pub end: Lsn,
    file: Arc<dyn File>,
    id: FileId,
    cipher: Arc<dyn FileCipher>,
    content: u64,
}

impl OldSegment {
    /// Writes everything from `durable` on again, the header too when all of it is young.
    fn rewrite_from(&self, durable: Lsn) -> io::Result<()> {
        if self.end <= durable {
            return Ok(());
        }
        let is_young = durable <= self.place.first;
        let mut offset = if is_young { 0 } else { self.content + (durable.0 - self.place.first.0) };
        // The padding of the last record can be missing: it means nothing.
        let end = (self.content + (self.end.0 - self.place.first.0)).min(self.file.length()?);
        while offset < end {
            let mut bytes = vec![0; REWRITE_BYTES.min(index(end - offset))];
            self.file.read_exact_at(&mut bytes, offset)?;
            self.file.write_at(&bytes, offset)?;
            offset += bytes.len() as u64;
        }
        Ok(())
    }
}

/// What was cut off the end of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The position of the first byte that was given up.
    pub lsn: Lsn,
    /// The file in which it lay.
    pub file: String,
    /// Its offset there.
    pub offset: u64,
    /// Bytes that had been written behind it, in this segment.
    pub bytes: u64,
    /// Later segments that were removed.
    pub segments_removed: usize,
    /// What was wrong there.
    pub reason: &'static str,
}

/// The log as it lies on disk.
pub struct Scan {
    /// The segments to be replayed, in order.
    pub segments: Vec<OldSegment>,
    /// Where the log ends: new records go here.
    pub end: Lsn,
    /// The number for the next segment.
    pub next_segment: u64,
    /// How many records there are.
    pub records: u64,
    /// What was cut off.
    pub cut: Option<Cut>,
    /// The furthest position that anything states to be durable.
    stated_durable: Lsn,
    /// Segments behind the cut, newest first: removed before the cut is made durable.
    behind_cut: Vec<PathBuf>,
    /// Segments that nothing needs any more.
    obsolete: Vec<PathBuf>,
}

/// A record as replay hands it out.
pub struct ScannedRecord<'a> {
    /// Where it begins.
    pub start: Lsn,
    /// The first position of its segment.
    pub segment_first: Lsn,
    /// What it says.
    pub head: RecordHead,
    reader: &'a FrameReader,
    frame: Frame,
}

impl ScannedRecord<'_> {
    /// The keyspaces that have a section.
    pub fn keyspaces(&self) -> Vec<KeyspaceId> {
        self.frame.keyspaces().collect()
    }

    /// Opens a section.
    ///
    /// # Errors
    /// As [`FrameReader::open_section`].
    pub fn section(&mut self, index: usize) -> Result<Vec<u8>> {
        self.reader.open_section(&mut self.frame, index)
    }
}

/// A segment file as found, before it is known where it ends.
enum Found {
    Good(Box<Candidate>),
    /// Its header is damaged: made in the moment of the crash, or broken since.
    Bad(PathBuf, String),
}

struct Candidate {
    place: SegmentPlace,
    path: PathBuf,
    name: String,
    file: Arc<dyn File>,
    id: FileId,
    cipher: Arc<dyn FileCipher>,
    content: u64,
}

/// Finds the end of the log. Changes nothing on disk.
///
/// # Errors
/// `Corrupt` when records are missing or damaged that something states to be durable.
pub fn scan(context: &Context, state: &LogState) -> Result<Scan> {
    let Listed { found, unused, next_number } = list(context)?;
    let mut walk = Walk {
        context,
        state,
        scan: Scan {
            segments: Vec::new(),
            end: state.start,
            next_segment: state.next_segment.max(next_number).max(1),
            records: 0,
            cut: None,
            stated_durable: state.durable,
            behind_cut: Vec::new(),
            obsolete: unused.into_iter().collect(),
        },
        durable: state.durable.max(state.start),
    };
    let found = walk.without_foreign(found)?;
    walk.run(found)?;
    Ok(walk.scan)
}

/// The stream's files.
struct Listed {
    /// By their numbers.
    found: Vec<Found>,
    /// The last one, when it was made ahead of time and never begun.
    unused: Option<PathBuf>,
    /// Above every number that a file has.
    next_number: u64,
}

fn list(context: &Context) -> Result<Listed> {
    let dir = context.log_dir();
    let names = context.env.fs.list(&dir).map_err(|error| Error::io("list the log's directory", error))?;
    let (mut found, mut next_number) = (Vec::new(), 0);
    for name in names {
        let Some((stream, number)) = parse_name(&name) else { continue };
        let at = |error: Error| error.at(format_args!("log segment {name}"));
        if stream != STREAM {
            // Its records are of this database, and nobody here would replay them.
            return Err(at(Error::newer(format_args!("stream {stream} of the log"))));
        }
        let next = number.checked_add(1).ok_or_else(|| at(Error::corrupt("no segment has this number")))?;
        next_number = next_number.max(next);
        found.push((number, open(context, dir.join(&name), &name, number).map_err(at)?));
    }
    found.sort_by_key(|(number, _)| *number);
    let mut found: Vec<Found> = found.into_iter().map(|(_, segment)| segment).collect();
    let unused = found.pop_if(|last| matches!(last, Found::Bad(path, _) if is_unused(context, path)));
    Ok(Listed { found, unused: unused.map(|last| last.path().clone()), next_number })
}

/// Opens the segment that should have this number.
///
/// # Errors
/// When its header is whole, whatever is wrong with it: `Corrupt` when it says that it is another file, `Unsupported` when a
/// newer version wrote it, what the cipher says. No crash has left it so, and it is not there to be cut.
fn open(context: &Context, path: PathBuf, name: &str, number: u64) -> Result<Found> {
    let file = context.env.fs.open(&path, Access::ReadWrite).map_err(|error| Error::io("open it", error))?;
    if !FileHeader::is_whole(&*file)? {
        return Ok(Found::Bad(path, name.to_owned()));
    }
    let opened = FileHeader::read(&*file, FileKind::Log, None, &*context.cipher)?;
    let OpenedHeader { header, bytes, cipher } = opened;
    let id = header.context.file;
    let place = SegmentPlace::decode(&header.extra, id)?;
    if header.context.database != context.database {
        return Err(Error::corrupt("it belongs to another database; put the right file in its place"));
    }
    if (place.stream, place.number) != (STREAM, number) {
        return Err(Error::corrupt(format!(
            "its header says that it is number {} of stream {}; put the right file in its place",
            place.number, place.stream
        )));
    }
    let (name, content) = (name.to_owned(), first_offset(bytes));
    Ok(Found::Good(Box::new(Candidate { place, path, name, file, id, cipher, content })))
}

/// True when the file has a length and holds nothing but zeros. One that cannot be read is not known to.
fn is_unused(context: &Context, path: &Path) -> bool {
    let read = || -> io::Result<bool> {
        let file = context.env.fs.open(path, Access::Read)?;
        let length = file.length()?;
        let mut bytes = vec![0; REWRITE_BYTES];
        for offset in (0..length).step_by(REWRITE_BYTES) {
            let count = file.read_at(&mut bytes, offset)?;
            if bytes[..count].iter().any(|&byte| byte != 0) {
                return Ok(false);
            }
        }
        Ok(length > 0)
    };
    read().unwrap_or(false)
}

/// How many bytes a segment with a damaged header states to be durable, told by its frames alone.
///
/// Frames are written behind a durable header or not synced yet: in a segment that a crash has torn while it was made
/// no frame states any of it to be durable.
fn stated_without_header(context: &Context, path: &Path) -> Result<u64> {
    let doing = |error| Error::io("read a log segment", error);
    let file = context.env.fs.open(path, Access::Read).map_err(doing)?;
    let mut stated = 0;
    for offset in ID_OFFSETS {
        let mut id = FileId([0; 16]);
        if file.read_at(&mut id.0, offset).map_err(doing)? < id.0.len() {
            continue;
        }
        let remains = FrameReader::new(Arc::clone(&file), id, Arc::new(Plain), u64::MAX)?.search(0)?;
        if let (Some(first), Some((at, lag))) = (remains.first_header, remains.stated_durable) {
            stated = stated.max(at.saturating_sub(lag).saturating_sub(first));
        }
    }
    Ok(stated)
}

/// Which opening a segment is of.
enum Origin {
    /// The manifest names it, or it was written since.
    Own,
    /// One before, and nothing needs it any more.
    Past,
    /// None of this database's.
    Elsewhere,
}

/// The walk from the first needed record to the end.
struct Walk<'a> {
    context: &'a Context,
    state: &'a LogState,
    scan: Scan,
    /// The furthest position that anything states to be durable.
    durable: Lsn,
}

impl Walk<'_> {
    /// Looks whose segments these are. One that an earlier opening has written and that the manifest does not name is not needed any more.
    ///
    /// # Errors
    /// `Corrupt` when one is of none of this database's openings: it comes from a copy that was written to.
    fn without_foreign(&mut self, found: Vec<Found>) -> Result<Vec<Found>> {
        let mut ours = Vec::with_capacity(found.len());
        for segment in found {
            match self.origin(&segment) {
                Origin::Own => ours.push(segment),
                Origin::Past => self.scan.obsolete.push(segment.path().clone()),
                Origin::Elsewhere => {
                    return Err(Error::corrupt(
                        "it was written by another opening of the database, perhaps of a copy; put the right file in its place",
                    )
                    .at(format_args!("log segment {}", crate::file::name(segment.path()))));
                }
            }
        }
        Ok(ours)
    }

    fn origin(&self, found: &Found) -> Origin {
        // What a damaged header hides is looked at where it matters.
        let Found::Good(candidate) = found else { return Origin::Own };
        let place = candidate.place;
        match self.state.ends.get(&place.number) {
            Some(known) if known.file == candidate.id => Origin::Own,
            None if place.incarnation == self.state.incarnation => Origin::Own,
            None if place.number < self.state.next_segment => Origin::Past,
            Some(_) | None => Origin::Elsewhere,
        }
    }

    fn run(&mut self, found: Vec<Found>) -> Result<()> {
        let (obsolete, needed) = split_obsolete(found, self.state.start);
        self.scan.obsolete.extend(obsolete.iter().map(|found| found.path().clone()));

        let mut rest = needed.into_iter().peekable();
        while let Some(found) = rest.next() {
            let next_first = match rest.peek() {
                Some(Found::Good(next)) => Some(next.place.first),
                _ => None,
            };
            let stopped = match found {
                Found::Good(candidate) if self.follows(&candidate) => {
                    self.read_segment(*candidate, next_first)?
                }
                Found::Good(candidate) => {
                    let reason = "the segment before it is missing";
                    Some(Stopped {
                        name: candidate.name.clone(),
                        offset: 0,
                        bytes: 0,
                        reason,
                        behind: Some(Found::Good(candidate)),
                    })
                }
                // Making it failed, and the next one took its place: it never held a record.
                Found::Bad(path, _) if next_first == Some(self.scan.end) => {
                    self.scan.obsolete.push(path);
                    None
                }
                Found::Bad(path, name) => {
                    let reason = "the segment's header is damaged";
                    Some(Stopped {
                        name: name.clone(),
                        offset: 0,
                        bytes: 0,
                        reason,
                        behind: Some(Found::Bad(path, name)),
                    })
                }
            };
            if let Some(stopped) = stopped {
                return self.cut(stopped, rest.collect());
            }
        }
        self.check_end(None)
    }

    /// A segment goes on where the one before it ended; the first one begins at the start.
    fn follows(&self, candidate: &Candidate) -> bool {
        candidate.place.first == self.scan.end
    }

    /// Reads a segment's frames. `Some` when they stop before they should.
    fn read_segment(&mut self, candidate: Candidate, next_first: Option<Lsn>) -> Result<Option<Stopped>> {
        let place = candidate.place;
        self.durable = self.durable.max(place.durable);
        let recorded_end = self.state.ends.get(&place.number).map(|known| known.end);
        let limit =
            recorded_end.map_or(u64::MAX, |end| candidate.content + (end.0 - place.first.0.min(end.0)));
        let mut reader = FrameReader::new(
            Arc::clone(&candidate.file),
            candidate.id,
            Arc::clone(&candidate.cipher),
            limit,
        )?;
        let lsn_at = |offset: u64| place.first.plus(offset - candidate.content);
        let mut offset = candidate.content;
        let reason = loop {
            match reader.step(offset).map_err(|error| error.at(&candidate.name))? {
                Step::Frame(mut frame) => {
                    let place = || format!("log segment {} at byte {offset}", candidate.name);
                    readable(&reader, &mut frame).map_err(|error| error.at(place()))?;
                    self.scan.records += 1;
                    let stated = frame.lag.map_or(0, |lag| lsn_at(offset).0.saturating_sub(lag));
                    self.durable = self.durable.max(Lsn(stated));
                    offset = frame.next;
                }
                Step::Blank => break None,
                Step::Damaged(reason) => break Some(reason),
            }
        };
        let end = lsn_at(offset);
        let name = candidate.name.clone();
        let whole = Some(end) == recorded_end
            || (recorded_end.is_none() && reason.is_none() && next_first == Some(end));
        let stopped = if whole {
            None
        } else {
            let remains = reader.search(offset)?;
            if let Some((at, lag)) = remains.stated_durable {
                self.durable = self.durable.max(Lsn(lsn_at(at).0.saturating_sub(lag)));
            }
            let bytes = remains.used_until - offset;
            let last = reason.is_none() && bytes == 0 && recorded_end.is_none();
            let reason = reason.unwrap_or("a gap where a record should begin");
            Some(Stopped { name, offset, bytes, reason, behind: None })
                .filter(|_| !last || next_first.is_some())
        };
        self.scan.end = end;
        let Candidate { file, id, cipher, content, .. } = candidate;
        self.scan.segments.push(OldSegment { place, end, file, id, cipher, content });
        Ok(stopped)
    }

    /// The records stop. What lies behind is either a torn tail, or evidence that something durable is damaged.
    fn cut(&mut self, stopped: Stopped, later: Vec<Found>) -> Result<()> {
        let Stopped { name, offset, bytes, reason, behind } = stopped;
        for found in behind.into_iter().chain(later) {
            match &found {
                Found::Good(candidate) => {
                    let Candidate { place, file, id, cipher, content, .. } = &**candidate;
                    self.durable = self.durable.max(place.durable);
                    let reader = FrameReader::new(Arc::clone(file), *id, Arc::clone(cipher), u64::MAX)?;
                    if let Some((at, lag)) = reader.search(*content)?.stated_durable {
                        let stated = place.first.0 + (at - content);
                        self.durable = self.durable.max(Lsn(stated.saturating_sub(lag)));
                    }
                }
                Found::Bad(path, name) => {
                    let stated = stated_without_header(self.context, path).map_err(|error| error.at(name))?;
                    // It begins at the end of what was read, or behind it.
                    self.durable = self.durable.max(self.scan.end.plus(stated));
                }
            }
            self.scan.behind_cut.insert(0, found.path().clone());
        }
        let segments_removed = self.scan.behind_cut.len();
        self.check_end(Some((&name, offset, reason)))?;
        self.scan.cut = Some(Cut { lsn: self.scan.end, file: name, offset, bytes, segments_removed, reason });
        Ok(())
    }

    fn check_end(&mut self, stopped: Option<(&str, u64, &str)>) -> Result<()> {
        let (end, durable) = (self.scan.end, self.durable);
        self.scan.stated_durable = durable;
        if end >= durable {
            return Ok(());
        }
        let missing = durable.0 - end.0;
        let place = match stopped {
            Some((name, offset, reason)) => format!("log segment {name} at byte {offset}: {reason}"),
            None => match self.scan.segments.last() {
                Some(last) => {
                    format!(
                        "log segment {}: it ends too early",
                        file_name(last.place.stream, last.place.number)
                    )
                }
                None => format!(
                    "the log from position {end} on is missing in {}",
                    self.context.log_dir().display()
                ),
            },
        };
        Err(Error::corrupt(format!(
            "{place}; at least {missing} bytes of acknowledged records are lost here; run `pugdb verify`, and restore \
             the file or the database from a backup"
        )))
    }
}

/// What a record's frame says about the whole of it.
fn head_of(frame: &Frame) -> Result<RecordHead> {
    let head = RecordHead::decode(&frame.head)?;
    if head.sections() != frame.keyspaces().count() {
        return Err(Error::corrupt("a record has other sections than its head counts"));
    }
    Ok(head)
}

/// Refuses a record that replay would not understand, while nothing on disk has been changed yet. The entries of batches are
/// looked at when they are applied: to do it here, too, would double the work of every recovery.
fn readable(reader: &FrameReader, frame: &mut Frame) -> Result<()> {
    let head = head_of(frame)?;
    if head.kind == RecordKind::Batch || head.sections() == 0 {
        return Ok(());
    }
    // One that nobody can open is replay's to judge: it may be of no use to it.
    let Ok(section) = reader.open_section(frame, 0) else { return Ok(()) };
    match head.kind {
        RecordKind::CreateKeyspace => Creation::decode(&section).map(drop),
        RecordKind::AlterKeyspace => TreeOptions::decode_alone(&section).map(drop),
        RecordKind::PartitionKeyspace => PartitionMap::decode_alone(&section).map(drop),
        RecordKind::Batch | RecordKind::DropKeyspace | RecordKind::Mark => Ok(()),
    }
}

/// Parts the segments into those that nothing needs any more and those from the start on.
///
/// The start is always a segment's first position or the end of the log, so a segment that begins before it also ends
/// before it. Of several that begin at the start only the last holds records: the others were cut at once. Removed
/// segments can be back after a power cut, one without the other.
fn split_obsolete(found: Vec<Found>, start: Lsn) -> (Vec<Found>, Vec<Found>) {
    let first = |found: &Found| match found {
        Found::Good(good) => Some(good.place.first),
        Found::Bad(..) => None,
    };
    let at_start = found.iter().rposition(|found| first(found) == Some(start));
    let before_start = || {
        found.iter().rposition(|found| first(found).is_some_and(|first| first < start)).map(|last| last + 1)
    };
    let needed_from = at_start.or_else(before_start).unwrap_or(0);
    let mut obsolete = found;
    let needed = obsolete.split_off(needed_from);
    (obsolete, needed)
}

/// Where the records stop, and why.
struct Stopped {
    name: String,
    offset: u64,
    bytes: u64,
    reason: &'static str,
    /// The segment itself, when none of it can be used.
    behind: Option<Found>,
}

impl Found {
    fn path(&self) -> &PathBuf {
        match self {
            Self::Good(candidate) => &candidate.path,
            Self::Bad(path, _) => path,
        }
    }
}

impl Scan {
    /// Makes what was found durable, and the cut too: removes what lies behind it, newest first.
    ///
    /// Recovered content may have been in the operating system's cache only, and after a failed sync it may count as
    /// clean there. So what nothing states to be durable is written once more, the same bytes in the same place, and
    /// then synced.
    ///
    /// # Errors
    /// What the disk says; nothing is lost, opening again starts over.
    pub fn make_durable(&self, context: &Context) -> Result<()> {
        for path in &self.behind_cut {
            context
                .env
                .fs
                .remove(path)
                .map_err(|error| Error::io("remove a log segment behind the cut", error))?;
        }
        for segment in &self.segments {
            let synced = segment.rewrite_from(self.stated_durable).and_then(|()| segment.file.sync_data());
            synced.map_err(|error| Error::io("sync the recovered log", error))?;
        }
        let synced = context.env.fs.sync_dir(&context.log_dir());
        synced.map_err(|error| Error::io("sync the log's directory", error))
    }

    /// Removes the segments that nothing needs. Best effort: the next open tries again.
    pub fn remove_obsolete(&self, context: &Context) {
        for path in &self.obsolete {
            let _ = context.env.fs.remove(path);
        }
    }

    /// Gives back what was preallocated behind the segments' ends. After the manifest has recorded the ends; best
    /// effort.
    pub fn trim_tails(&self) {
        for segment in &self.segments {
            let _ = segment.file.truncate(segment.content + (segment.end.0 - segment.place.first.0));
        }
    }

    /// Ends it at `end`, where a record begins or the log ends: what lies behind was written too late for whoever reads beside a writer.
    pub fn end_at(&mut self, end: Lsn) {
        self.segments.retain(|segment| segment.place.first < end);
        self.end = self.end.min(end);
        if let Some(last) = self.segments.last_mut() {
            last.end = last.end.min(end);
        }
        // Nobody has cut anything off.
        self.cut = None;
    }

    /// What the manifest has to record before the first new record.
    pub fn state(&self, start: Lsn, incarnation: Incarnation) -> LogState {
        LogState {
            start,
            durable: self.end,
            ends: self.ends().collect(),
            next_segment: self.next_segment,
            clean: false,
            incarnation,
        }
    }

    /// The segments as closed ones, by their numbers.
    pub(super) fn ends(&self) -> impl Iterator<Item = (u64, SegmentEnd)> {
        self.segments
            .iter()
            .map(|segment| (segment.place.number, SegmentEnd { file: segment.id, end: segment.end }))
    }

    /// Hands out every record in order.
    ///
    /// # Errors
    /// `Corrupt` when a record that the scan has seen whole is damaged now, and what `each` says.
    pub fn replay(&self, mut each: impl FnMut(&mut ScannedRecord<'_>) -> Result<()>) -> Result<()> {
        for segment in &self.segments {
            let name = file_name(segment.place.stream, segment.place.number);
            let limit = segment.content + (segment.end.0 - segment.place.first.0);
            let mut reader =
                FrameReader::new(Arc::clone(&segment.file), segment.id, Arc::clone(&segment.cipher), limit)?;
            let mut offset = segment.content;
            while offset < limit {
                let at = || format!("log segment {name} at byte {offset}");
                let frame = match reader.step(offset).map_err(|error| error.at(at()))? {
                    Step::Frame(frame) => frame,
                    Step::Blank | Step::Damaged(_) => {
                        return Err(Error::corrupt("the record changed while it was read").at(at()));
                    }
                };
                let next = frame.next;
                let start = segment.place.first.plus(offset - segment.content);
                let head = head_of(&frame).map_err(|error| error.at(at()))?;
                let mut record =
                    ScannedRecord { start, segment_first: segment.place.first, head, reader: &reader, frame };
                each(&mut record).map_err(|error| error.at(at()))?;
                offset = next;
            }
        }
        Ok(())
    }
}
