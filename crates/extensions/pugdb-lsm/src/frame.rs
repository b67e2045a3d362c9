//! Frames: the records of the two shared files, log segment and manifest. Each is whole or it is nothing.
//!
//! A frame has a head (sealed under the database's key) and one section per keyspace (each sealed under that
//! keyspace's key). Its header states how far the file was durable when the frame was written: that is how recovery
//! tells a torn tail from damage. Drawn in `docs/format/frame.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pugdb_core::coding::{Reader, index, put_bytes, put_varint};
use pugdb_core::env::File;
use pugdb_core::seam::{FileCipher, Scope};
use pugdb_core::{Error, FileId, KeyspaceId, Result};

use crate::checksum::Checksum;

const MAGIC: [u8; 4] = *b"PgF1";
/// Magic, body length, framing length, durable lag, body checksum, header checksum.
pub const HEADER_BYTES: usize = 4 + 4 + 4 + 4 + 8 + 8;
/// What of the header is bound to the framing's seal: all but the checksums, which can be made anew by anybody.
const BOUND_BYTES: usize = 16;
/// Frames begin at multiples of this, so that a search for one looks at few places.
pub const ALIGNMENT: u64 = 8;
/// A lag that does not fit states nothing.
const LAG_UNKNOWN: u32 = u32::MAX;
const SEARCH_BYTES: usize = 1 << 20;

/// Where the first frame of a file begins, behind a header of `header_bytes`.
pub fn first_offset(header_bytes: u64) -> u64 {
    header_bytes.next_multiple_of(ALIGNMENT)
}

/// One section to be written: a keyspace's bytes.
#[derive(Clone, Copy)]
pub struct Section<'a> {
    /// Whose bytes these are.
    pub keyspace: KeyspaceId,
    /// The bytes.
    pub bytes: &'a [u8],
}

/// Writes the frames of one file.
pub struct FrameEncoder {
    checksum: Checksum,
    cipher: Arc<dyn FileCipher>,
    /// Keyspaces whose section key this file holds already.
    introduced: BTreeSet<KeyspaceId>,
    /// The frame under way; kept, so that frames ask for no memory.
    frame: Vec<u8>,
}

/// A frame that was large gives its memory back.
const FRAME_BYTES_KEPT: usize = 1 << 20;

impl FrameEncoder {
    /// For a new file.
    pub fn new(file: FileId, cipher: Arc<dyn FileCipher>) -> Self {
        Self { checksum: Checksum::of(file), cipher, introduced: BTreeSet::new(), frame: Vec::new() }
    }

    /// How many bytes the frame takes at most.
    pub fn size_max(&self, head: &[u8], sections: &[Section<'_>]) -> u64 {
        // An introduction is what a key is derived from: far below this.
        const SECTION_OVERHEAD: usize = 1024;
        let content: usize = sections.iter().map(|section| section.bytes.len() + SECTION_OVERHEAD).sum();
        (HEADER_BYTES + head.len() + SECTION_OVERHEAD + content) as u64
    }

    /// The frame's bytes for `offset`, padded to the alignment. `lag`: how many bytes before this frame were not
    /// durable yet.
    pub fn encode(&mut self, offset: u64, lag: u64, head: &[u8], sections: &[Section<'_>]) -> Result<&[u8]> {
        self.frame.clear();
        self.frame.shrink_to(FRAME_BYTES_KEPT);
        self.frame.resize(HEADER_BYTES, 0);
        self.put_framing(head, sections)?;
        let frame = &mut self.frame;
        let lag = u32::try_from(lag).unwrap_or(LAG_UNKNOWN);
        let tag = self.cipher.tag_bytes();
        let framing_length = frame.len() - HEADER_BYTES + tag;
        let sections_length: usize = sections.iter().map(|section| section.bytes.len() + tag).sum();
        frame[..4].copy_from_slice(&MAGIC);
        frame[4..8].copy_from_slice(&fits(framing_length + sections_length)?.to_le_bytes());
        frame[8..12].copy_from_slice(&fits(framing_length)?.to_le_bytes());
        frame[12..16].copy_from_slice(&lag.to_le_bytes());
        let bound: [u8; BOUND_BYTES] = frame[..BOUND_BYTES].try_into().expect("the header is longer");
        self.cipher.seal(Scope::Database, offset + HEADER_BYTES as u64, &bound, frame, HEADER_BYTES)?;
        for section in sections {
            let from = frame.len();
            frame.extend_from_slice(section.bytes);
            self.cipher.seal(Scope::Keyspace(section.keyspace), offset + from as u64, &[], frame, from)?;
        }
        let body_checksum = self.checksum.at(offset + HEADER_BYTES as u64, &frame[HEADER_BYTES..]);
        frame[16..24].copy_from_slice(&body_checksum.to_le_bytes());
        let header_checksum = self.checksum.at(offset, &frame[..24]);
        frame[24..32].copy_from_slice(&header_checksum.to_le_bytes());
        frame.resize(frame.len().next_multiple_of(index(ALIGNMENT)), 0);
        Ok(frame)
    }

    /// What is sealed first: which sections there are, the keys they need, the head.
    fn put_framing(&mut self, head: &[u8], sections: &[Section<'_>]) -> Result<()> {
        let frame = &mut self.frame;
        put_varint(frame, sections.len() as u64);
        for section in sections {
            put_varint(frame, u64::from(section.keyspace.0));
            put_varint(frame, (section.bytes.len() + self.cipher.tag_bytes()) as u64);
            let introduction = if self.introduced.insert(section.keyspace) {
                self.cipher.introduce(section.keyspace)?
            } else {
                Vec::new()
            };
            put_bytes(frame, &introduction);
        }
        put_bytes(frame, head);
        Ok(())
    }
}

fn fits(length: usize) -> Result<u32> {
    u32::try_from(length)
        .map_err(|_| Error::invalid("a batch's log record has more than 4 GiB; split the batch"))
}

/// A frame header that has proved itself.
#[derive(Clone, Copy)]
struct Header {
    body_length: usize,
    framing_length: usize,
    lag: Option<u64>,
    body_checksum: u64,
}

impl Header {
    fn decode(bytes: &[u8], offset: u64, checksum: Checksum) -> Option<Self> {
        let (content, stored) = bytes.get(..HEADER_BYTES)?.split_last_chunk::<8>()?;
        if content[..4] != MAGIC || checksum.at(offset, content) != u64::from_le_bytes(*stored) {
            return None;
        }
        let mut reader = Reader::new(&content[4..]);
        let body_length = index(u64::from(reader.u32().ok()?));
        let framing_length = index(u64::from(reader.u32().ok()?));
        let lag = reader.u32().ok()?;
        let body_checksum = reader.u64().ok()?;
        let lag = (lag != LAG_UNKNOWN).then_some(u64::from(lag));
        (framing_length <= body_length).then_some(Self { body_length, framing_length, lag, body_checksum })
    }
}

/// What lies at an offset.
pub enum Step {
    /// A whole frame.
    Frame(Frame),
    /// Nothing was written here: zeros, or the end of the file.
    Blank,
    /// Bytes that are no whole frame.
    Damaged(&'static str),
}

/// A whole frame, its sections still sealed.
pub struct Frame {
    /// Where it begins in the file.
    pub offset: u64,
    /// Where the next one begins.
    pub next: u64,
    /// How many bytes before it were not durable when it was written; `None` states nothing.
    pub lag: Option<u64>,
    /// What the writer said about the whole.
    pub head: Vec<u8>,
    sections: Vec<(KeyspaceId, u64, Vec<u8>)>,
}

impl Frame {
    /// The keyspaces that have a section, in order.
    pub fn keyspaces(&self) -> impl Iterator<Item = KeyspaceId> + '_ {
        self.sections.iter().map(|section| section.0)
    }
}

/// Reads the frames of one file, in order.
pub struct FrameReader {
    file: Arc<dyn File>,
    checksum: Checksum,
    cipher: Arc<dyn FileCipher>,
    /// Nothing at or beyond this offset is looked at.
    limit: u64,
    /// Section keys that could not be had, and why. Only a reader who needs the section minds.
    refused: BTreeMap<KeyspaceId, Error>,
}

impl FrameReader {
    /// Reads `file` up to `limit`, at most to its end.
    pub fn new(file: Arc<dyn File>, id: FileId, cipher: Arc<dyn FileCipher>, limit: u64) -> Result<Self> {
        let length = file.length().map_err(|error| Error::io("read a file's length", error))?;
        Ok(Self {
            file,
            checksum: Checksum::of(id),
            cipher,
            limit: limit.min(length),
            refused: BTreeMap::new(),
        })
    }

    /// What lies at `offset`.
    ///
    /// # Errors
    /// What the disk says. Damage is no error here: the caller knows what it means. A frame that proves itself and does not hold
    /// together is `Corrupt`, one that holds more than this version reads is `Unsupported`.
    pub fn step(&mut self, offset: u64) -> Result<Step> {
        let left = self.limit.saturating_sub(offset);
        let mut bytes = vec![0; HEADER_BYTES.min(index(left))];
        self.read(&mut bytes, offset)?;
        if bytes.iter().all(|&byte| byte == 0) {
            return Ok(Step::Blank);
        }
        let Some(header) = Header::decode(&bytes, offset, self.checksum) else {
            return Ok(Step::Damaged("no frame begins here"));
        };
        if header.body_length as u64 > left - HEADER_BYTES as u64 {
            return Ok(Step::Damaged("the frame is longer than the file"));
        }
        let body_offset = offset + HEADER_BYTES as u64;
        let mut body = vec![0; header.body_length];
        self.read(&mut body, body_offset)?;
        if self.checksum.at(body_offset, &body) != header.body_checksum {
            return Ok(Step::Damaged("checksum mismatch"));
        }
        let next = (body_offset + header.body_length as u64).next_multiple_of(ALIGNMENT);
        let sealed_sections = body.split_off(header.framing_length);
        let length = self.cipher.open(Scope::Database, body_offset, &bytes[..BOUND_BYTES], &mut body)?;
        let frame =
            self.split(&body[..length], &sealed_sections, body_offset + header.framing_length as u64)?;
        Ok(Step::Frame(Frame { offset, next, lag: header.lag, ..frame }))
    }

    fn split(&mut self, framing: &[u8], mut sealed: &[u8], mut offset: u64) -> Result<Frame> {
        let mut reader = Reader::new(framing);
        let count = reader.length()?;
        let mut sections = Vec::new();
        for _ in 0..count {
            let keyspace = KeyspaceId(reader.varint_u32()?);
            let length = reader.length()?;
            let introduction = reader.bytes()?;
            let (section, rest) = sealed
                .split_at_checked(length)
                .ok_or_else(|| Error::corrupt("a section is longer than its frame"))?;
            sealed = rest;
            if !introduction.is_empty()
                && let Err(error) = self.cipher.accept(keyspace, introduction)
            {
                self.refused.insert(keyspace, error);
            }
            sections.push((keyspace, offset, section.to_vec()));
            offset += length as u64;
        }
        let head = reader.bytes()?.to_vec();
        // Checksum and seal are right: whoever wrote it meant something by it.
        if !reader.is_empty() || !sealed.is_empty() {
            return Err(Error::newer("what stands behind the head or the last section of a record"));
        }
        Ok(Frame { offset: 0, next: 0, lag: None, head, sections })
    }

    /// Opens the section at `index` of a frame of this file.
    ///
    /// # Errors
    /// `Corrupt` when it is not what was sealed, what the cipher says when the keyspace's key cannot be had.
    pub fn open_section(&self, frame: &mut Frame, index: usize) -> Result<Vec<u8>> {
        let (keyspace, offset, sealed) = &mut frame.sections[index];
        if let Some(error) = self.refused.get(keyspace) {
            return Err(error.clone());
        }
        let mut bytes = std::mem::take(sealed);
        let length = self.cipher.open(Scope::Keyspace(*keyspace), *offset, &[], &mut bytes)?;
        bytes.truncate(length);
        Ok(bytes)
    }

    /// Looks through everything from `offset` on for frame headers: how far does any of them state the file to be
    /// durable, as `position of the header - lag`; and where does the last byte lie that is not zero?
    ///
    /// A header alone is evidence, even when its body is torn: it was written after the sync that it speaks of.
    pub fn search(&self, offset: u64) -> Result<Remains> {
        let mut remains = Remains { first_header: None, stated_durable: None, used_until: offset };
        let mut at = offset.next_multiple_of(ALIGNMENT);
        let mut window = Vec::new();
        while at < self.limit {
            // Windows overlap by a header, so that none is missed at a seam.
            window.resize(SEARCH_BYTES.min(index(self.limit - at)), 0);
            self.read(&mut window, at)?;
            if let Some(last) = window.iter().rposition(|&byte| byte != 0) {
                remains.used_until = at + last as u64 + 1;
                for start in (0..=last).step_by(index(ALIGNMENT)) {
                    let Some(header) = Header::decode(&window[start..], at + start as u64, self.checksum)
                    else {
                        continue;
                    };
                    remains.first_header.get_or_insert(at + start as u64);
                    let stated = header.lag.map(|lag| (at + start as u64, lag));
                    remains.stated_durable = remains
                        .stated_durable
                        .into_iter()
                        .chain(stated)
                        .max_by_key(|&(at, lag)| i128::from(at) - i128::from(lag));
                }
            }
            if window.len() < SEARCH_BYTES {
                break;
            }
            at += (SEARCH_BYTES - HEADER_BYTES) as u64;
        }
        Ok(remains)
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_exact_at(buffer, offset).map_err(|error| Error::io("read a frame", error))
    }
}

/// What lies beyond a damaged place.
#[derive(Clone, Copy, Debug)]
pub struct Remains {
    /// Where the first header lies.
    pub first_header: Option<u64>,
    /// The header that states the furthest durable position: where it lies, and its lag.
    pub stated_durable: Option<(u64, u64)>,
    /// Where the last byte that is not zero ends.
    pub used_until: u64,
}

#[cfg(test)]
mod tests {
    use pugdb_core::seam::Plain;

    use super::*;

    #[test]
    fn frames_use_one_buffer_again_and_a_large_one_gives_its_memory_back() {
        let mut encoder = FrameEncoder::new(FileId([1; 16]), Arc::new(Plain));
        let mut frame = |bytes: usize| {
            let section = Section { keyspace: KeyspaceId(1), bytes: &vec![7; bytes] };
            let frame = encoder.encode(64, 0, b"head", &[section]).unwrap();
            assert!(frame.len() >= bytes);
            (frame.as_ptr().addr(), encoder.frame.capacity())
        };
        let (place, _) = frame(1000);
        // Smaller ones ask for no memory.
        assert!((0..100).all(|bytes| frame(bytes).0 == place));
        assert!(frame(8 << 20).1 > 8 << 20);
        assert!(frame(10).1 <= FRAME_BYTES_KEPT);
    }

    /// A file of one frame, in memory.
    struct Image(Vec<u8>);

    impl File for Image {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
            let rest = self.0.get(index(offset)..).unwrap_or_default();
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        }

        fn write_at(&self, _: &[u8], _: u64) -> std::io::Result<()> {
            Err(std::io::ErrorKind::ReadOnlyFilesystem.into())
        }

        fn allocate(&self, _: u64) -> std::io::Result<()> {
            Err(std::io::ErrorKind::ReadOnlyFilesystem.into())
        }

        fn truncate(&self, _: u64) -> std::io::Result<()> {
            Err(std::io::ErrorKind::ReadOnlyFilesystem.into())
        }

        fn sync_data(&self) -> std::io::Result<()> {
            Ok(())
        }

        fn length(&self) -> std::io::Result<u64> {
            Ok(self.0.len() as u64)
        }
    }

    /// Reads a frame with this body, of which so much is framing; both checksums are right.
    fn step(body: &[u8], framing: usize) -> Result<Step> {
        let id = FileId([1; 16]);
        let mut frame = MAGIC.to_vec();
        for number in [body.len(), framing, 0] {
            frame.extend_from_slice(&u32::try_from(number).unwrap().to_le_bytes());
        }
        frame.extend_from_slice(&Checksum::of(id).at(HEADER_BYTES as u64, body).to_le_bytes());
        let checksum = Checksum::of(id).at(0, &frame);
        frame.extend_from_slice(&checksum.to_le_bytes());
        frame.extend_from_slice(body);
        FrameReader::new(Arc::new(Image(frame)), id, Arc::new(Plain), u64::MAX).unwrap().step(0)
    }

    #[test]
    fn a_frame_that_holds_more_than_is_read_is_of_a_newer_version() {
        // One section of three bytes, without an introduction; a head of two.
        let framing = [1, 9, 3, 0, 2, b'h', b'd'];
        let whole = step(&[&framing[..], b"abc"].concat(), framing.len()).unwrap();
        let Step::Frame(whole) = whole else { panic!("it is whole") };
        assert_eq!((whole.head.as_slice(), whole.sections.len()), (&b"hd"[..], 1));
        let more_framing = [&framing[..], &[0], b"abc"].concat();
        let more_sealed = [&framing[..], b"abcd"].concat();
        for (body, framing) in [(more_framing, framing.len() + 1), (more_sealed, framing.len())] {
            let error = step(&body, framing).err().unwrap();
            assert_eq!(error.kind(), pugdb_core::ErrorKind::Unsupported, "{error}");
        }
        let error = step(&[&framing[..], b"ab"].concat(), framing.len()).err().unwrap();
        assert_eq!(error.kind(), pugdb_core::ErrorKind::Corrupt, "{error}");
    }
}
