//! Segments of the audit log: files of frames that are written by one open and never gone on with. Drawn in `docs/format/audit.md`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pugdb_core::coding::{Reader, put_varint};
use pugdb_core::env::{Access, File, FileSystem};
use pugdb_core::seam::{FileContext, FileKind};
use pugdb_core::{DatabaseId, Error, ErrorKind, FileId, Result, Timestamp};
use pugdb_lsm::file::{Context, FileHeader, name};
use pugdb_lsm::frame::{FrameEncoder, FrameReader, Step, first_offset};
use pugdb_security::audit::{ChainHash, Frontier, RECORD_BYTES_MAX, Record};

/// Where the segments lie in a database's directory.
pub(crate) const AUDIT: &str = "audit";
const ENDING: &str = ".audit";
const NEW: &str = ".new";
const START: u8 = 1;
const RECORD: u8 = 2;
const CHECKPOINT: u8 = 3;
/// A frame's content is no longer: the longest record, and what says what it is.
const CONTENT_BYTES_MAX: usize = RECORD_BYTES_MAX + 1;
/// Neither a segment nor a record has a larger number, so that there is always a next one.
const NUMBER_MAX: u64 = 1 << 60;
/// States nothing about what is durable: the file has no name yet.
const LAG_UNKNOWN: u64 = u64::MAX;

/// The directory of the audit log.
pub(crate) fn folder(context: &Context) -> PathBuf {
    context.dir.join(AUDIT)
}

fn file_name(number: u64) -> String {
    format!("{number:010}{ENDING}")
}

pub(super) fn path(context: &Context, number: u64) -> PathBuf {
    folder(context).join(file_name(number))
}

fn new_path(context: &Context, number: u64) -> PathBuf {
    folder(context).join(format!("{}{NEW}", file_name(number)))
}

/// Reads a name that [`file_name`] made, and no other that means the same.
fn parse_name(name: &str) -> Option<u64> {
    let number = name.strip_suffix(ENDING)?.parse().ok()?;
    (number < NUMBER_MAX && file_name(number) == name).then_some(number)
}

/// The numbers of the segments, ascending. None when there is no audit log.
pub(crate) fn list(fs: &dyn FileSystem, folder: &Path) -> Result<Vec<u64>> {
    match fs.list(folder) {
        Ok(names) => {
            let mut numbers: Vec<u64> = names.iter().filter_map(|name| parse_name(name)).collect();
            numbers.sort_unstable();
            Ok(numbers)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io("list the audit log", error)),
    }
}

/// Removes what segments that were never finished have left.
pub(super) fn remove_unfinished(fs: &dyn FileSystem, folder: &Path) {
    let names = fs.list(folder).unwrap_or_default();
    for name in names.iter().filter(|name| name.strip_suffix(NEW).and_then(parse_name).is_some()) {
        let _ = fs.remove(&folder.join(name));
    }
}

/// The database whose audit log lies in the directory, as its first segment says.
pub(crate) fn database(context: &Context) -> Result<DatabaseId> {
    let numbers = list(&*context.env.fs, &folder(context))?;
    let missing =
        || Error::not_found("there is no audit log here; it is made when the database is opened with one");
    let path = path(context, *numbers.first().ok_or_else(missing)?);
    let doing = |error| Error::io("open a segment of the audit log", error);
    let file = context.env.fs.open(&path, Access::Read).map_err(doing)?;
    let opened = FileHeader::read_any(&*file, &*context.cipher).map_err(|error| error.at(name(&path)))?;
    Ok(opened.header.context.database)
}

/// Where a log stands: behind so many records, with this link, and this tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stand {
    pub(super) last: ChainHash,
    pub(super) tree: Frontier,
}

impl Stand {
    /// The number of the record that comes next.
    pub(super) fn next(&self) -> u64 {
        self.tree.size() + 1
    }
}

/// The first frame of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) stand: Stand,
    pub(super) at: Timestamp,
}

impl Start {
    fn encode(&self) -> Vec<u8> {
        let mut out = vec![START];
        put_varint(&mut out, self.stand.next());
        put_varint(&mut out, self.at.0);
        out.extend_from_slice(&self.stand.last);
        self.stand.tree.roots().iter().for_each(|root| out.extend_from_slice(root));
        out
    }

    fn decode(content: &[u8]) -> Result<Self> {
        let damaged = || Error::corrupt("the beginning of a segment of the audit log is damaged");
        let mut reader = Reader::new(content);
        let size = reader.varint()?.checked_sub(1).filter(|size| *size < NUMBER_MAX).ok_or_else(damaged)?;
        let (at, last) = (Timestamp(reader.varint()?), reader.array()?);
        let roots = (0..size.count_ones()).map(|_| reader.array()).collect::<Result<Vec<_>>>()?;
        let tree = Frontier::from_parts(size, roots)?;
        if reader.is_empty() { Ok(Self { stand: Stand { last, tree }, at }) } else { Err(damaged()) }
    }
}

/// The content of a frame with a record.
pub(super) fn record_content(record: &[u8]) -> Vec<u8> {
    [&[RECORD], record].concat()
}

/// The content of a frame with a checkpoint.
pub(super) fn checkpoint_content(text: &str) -> Vec<u8> {
    [&[CHECKPOINT], text.as_bytes()].concat()
}

/// A segment that is written.
pub(super) struct OpenSegment {
    pub(super) number: u64,
    pub(super) file: Arc<dyn File>,
    encoder: FrameEncoder,
    pub(super) end: u64,
    /// Durable up to here.
    pub(super) durable: u64,
}

impl OpenSegment {
    /// Makes a segment that begins with `contents`. It has its name when it is durable, so that what has a name is whole at its beginning.
    pub(super) fn begin<'a>(
        context: &Context,
        number: u64,
        start: &Start,
        contents: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Self> {
        let fs = &*context.env.fs;
        let id = FileId::random(&*context.env.random);
        let file_context =
            FileContext { database: context.database, file: id, kind: FileKind::Audit, keyspace: None };
        let (sealed, keys) = context.cipher.create(&file_context)?;
        let header =
            FileHeader { context: file_context, extra: number.to_le_bytes().to_vec(), cipher: sealed };
        let mut bytes = header.encode(&*keys)?;
        bytes.resize(pugdb_core::coding::index(first_offset(bytes.len() as u64)), 0);
        let mut encoder = FrameEncoder::new(id, keys);
        let start = start.encode();
        // Of its own lifetime, as the first one is.
        let contents = contents.map(|content| -> &[u8] { content });
        for content in std::iter::once(&*start).chain(contents) {
            let frame = encoder.encode(bytes.len() as u64, LAG_UNKNOWN, content, &[])?;
            bytes.extend_from_slice(frame);
        }
        let (new, named) = (new_path(context, number), path(context, number));
        let _ = fs.remove(&new);
        let made = (|| {
            let file = fs.create(&new)?;
            file.write_at(&bytes, 0)?;
            file.sync_data()?;
            fs.rename(&new, &named)?;
            fs.sync_dir(&folder(context))?;
            Ok(file)
        })();
        let file = made.map_err(|error| Error::io("begin a segment of the audit log", error))?;
        let end = bytes.len() as u64;
        Ok(Self { number, file, encoder, end, durable: end })
    }

    /// Writes a frame behind the others.
    pub(super) fn append(&mut self, content: &[u8]) -> Result<()> {
        let frame = self.encoder.encode(self.end, self.end - self.durable, content, &[])?;
        let length = frame.len() as u64;
        self.file.write_at(frame, self.end).map_err(|error| Error::io("write the audit log", error))?;
        self.end += length;
        Ok(())
    }
}

/// What a segment holds next.
pub(super) enum Item {
    Record { bytes: Vec<u8>, record: Box<Record> },
    Checkpoint(String),
    End(Tail),
}

/// How a segment ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    Whole,
    /// So many bytes that nothing states to be durable, and that are no whole frame: as a crash leaves them.
    Torn {
        offset: u64,
        bytes: u64,
    },
    /// Damage before what was durable.
    Damaged {
        what: String,
    },
}

/// A segment that is read.
pub(super) struct SegmentReader {
    pub(super) start: Start,
    frames: FrameReader,
    at: u64,
    length: u64,
}

impl SegmentReader {
    /// # Errors
    /// `Corrupt` when it does not begin as one does, `NotFound`, what cipher and disk say.
    pub(super) fn open(context: &Context, number: u64) -> Result<Self> {
        let path = path(context, number);
        Self::open_file(context, &path, number).map_err(|error| error.at(name(&path)))
    }

    fn open_file(context: &Context, path: &Path, number: u64) -> Result<Self> {
        let doing = |error| Error::io("open a segment of the audit log", error);
        let file = context.env.fs.open(path, Access::Read).map_err(doing)?;
        let opened = FileHeader::read(&*file, FileKind::Audit, Some(context.database), &*context.cipher)?;
        if opened.header.extra != number.to_le_bytes() {
            return Err(Error::corrupt("it is another segment than its name says"));
        }
        let length = file.length().map_err(doing)?;
        let mut frames = FrameReader::new(file, opened.header.context.file, opened.cipher, length)?;
        let at = first_offset(opened.bytes);
        let damaged = || Error::corrupt("the beginning of a segment of the audit log is damaged");
        let Step::Frame(frame) = frames.step(at)? else { return Err(damaged()) };
        let start = match frame.head.split_first() {
            Some((&START, content)) => Start::decode(content)?,
            Some((&(RECORD | CHECKPOINT), _)) | None => return Err(damaged()),
            Some(_) => return Err(newer()),
        };
        Ok(Self { start, frames, at: frame.next, length })
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// # Errors
    /// What the disk says; `Unsupported` for what a newer version has written. Damage is no error here.
    pub(super) fn next(&mut self) -> Result<Item> {
        let frame = match self.frames.step(self.at) {
            Ok(Step::Frame(frame)) => frame,
            Ok(Step::Blank) => return self.tail("nothing was written here"),
            Ok(Step::Damaged(what)) => return self.tail(what),
            // Its checksum is right and its seal is not: no crash does that.
            Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(damaged(error.cause())),
            Err(error) => return Err(error),
        };
        let item = match frame.head.split_first() {
            Some((&RECORD, bytes)) => match Record::decode(bytes) {
                Ok(record) => Item::Record { bytes: bytes.to_vec(), record: Box::new(record) },
                // Whoever went on from before it would fork the log.
                Err(error) if error.kind() == ErrorKind::Unsupported => return Err(error),
                Err(error) => damaged(error.cause()),
            },
            Some((&CHECKPOINT, text)) if text.len() < CONTENT_BYTES_MAX => match std::str::from_utf8(text) {
                Ok(text) => Item::Checkpoint(text.to_owned()),
                Err(_) => damaged("a checkpoint is no text"),
            },
            Some((&(START | CHECKPOINT), _)) | None => damaged("a frame is not what comes here"),
            Some(_) => return Err(newer()),
        };
        if !matches!(item, Item::End(_)) {
            self.at = frame.next;
        }
        Ok(item)
    }

    /// What lies behind the last whole frame: nothing, what a crash has torn, or damage.
    fn tail(&self, what: &str) -> Result<Item> {
        let remains = self.frames.search(self.at)?;
        let is_durable_beyond =
            remains.stated_durable.is_some_and(|(at, lag)| at.saturating_sub(lag) > self.at);
        Ok(Item::End(if is_durable_beyond {
            Tail::Damaged { what: format!("{what}, and what comes behind it states that it was durable") }
        } else if remains.used_until == self.at {
            Tail::Whole
        } else {
            Tail::Torn { offset: self.at, bytes: remains.used_until - self.at }
        }))
    }
}

fn newer() -> Error {
    Error::unsupported(
        "the audit log was written by a newer version of PugDB; open the database with that one",
    )
}

fn damaged(what: &str) -> Item {
    Item::End(Tail::Damaged { what: what.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_was_written() {
        assert_eq!(parse_name("0000000012.audit"), Some(12));
        for other in [
            "12.audit",
            "+000000012.audit",
            "0000000012.audit.new",
            "0000000012",
            ".audit",
            "18446744073709551615.audit",
        ] {
            assert_eq!(parse_name(other), None, "{other}");
        }
    }

    #[test]
    fn where_a_segment_begins_is_read_as_it_was_written() {
        let mut stand = Stand { last: [3; 32], ..Stand::default() };
        for count in 0..9_u8 {
            let start = Start { stand: stand.clone(), at: Timestamp(1_764_250_000_123) };
            let content = start.encode();
            assert_eq!(Start::decode(&content[1..]).unwrap(), start);
            (1..content.len()).for_each(|end| assert!(Start::decode(&content[1..end]).is_err(), "{end}"));
            stand.tree.push([count; 32]);
        }
        assert!(Start::decode(&[0, 0]).is_err());
        // A number behind which there is none: 2^64 - 1, of a log whose tree has 63 full subtrees.
        let many = [&[0xff; 9][..], &[1, 0], &[0; 64 * 32]].concat();
        assert!(Start::decode(&many).is_err());
    }
}
