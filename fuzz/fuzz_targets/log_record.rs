//! Fuzzes the log's frames, record heads and operations: damaged and hostile bytes give errors, no panic, and no memory
//! beyond what they themselves take.

#![no_main]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use libfuzzer_sys::fuzz_target;
use pugdb_core::coding::{Reader, put_bytes, put_varint};
use pugdb_core::env::File;
use pugdb_core::seam::Plain;
use pugdb_core::{FileId, KeySpan, Operation};
use pugdb_lsm::checksum::Checksum;
use pugdb_lsm::frame::{ALIGNMENT, FrameReader, HEADER_BYTES, Step};
use pugdb_lsm::log::RecordHead;

const ID: FileId = FileId([7; 16]);
const MAGIC: [u8; 4] = *b"PgF1";
/// Decoded numbers, handles and vectors take a few times what they are encoded in, and an empty section, of three bytes,
/// a slot in a list that doubles.
const MEMORY_FACTOR: usize = 64;
const MEMORY_FREE: usize = 16 << 10;

/// Counts what is allocated.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call goes to the system's allocator with the layout that came in; counting touches no memory of theirs.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the pointer came from `System.alloc` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// A file in memory that is only read.
struct Image(Vec<u8>);

impl File for Image {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.0.get(offset..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }
}

// The first byte says how much of a frame is made right, so that bytes without a right checksum come far, too.
fuzz_target!(|data: &[u8]| {
    let Some((&mode, data)) = data.split_first() else { return };
    let mut image = Vec::new();
    match mode % 4 {
        0 => image.extend_from_slice(data),
        1 => frames(data, &mut image, |body| (body.to_vec(), body.len())),
        2 => frames(data, &mut image, |body| {
            let framing = body.first().map_or(0, |&length| usize::from(length).min(body.len()));
            (body.to_vec(), framing)
        }),
        _ => frames(data, &mut image, one_section),
    }
    // What lies behind the last whole frame is searched, too.
    image.extend_from_slice(&data[..data.len().min(40)]);
    let size = image.len();

    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    read(image);
    let taken = PEAK.load(Ordering::Relaxed) - before;
    assert!(taken <= MEMORY_FACTOR * size + MEMORY_FREE, "{taken} bytes of memory for {size} bytes of log");
});

/// Frames with right checksums around bodies of the fuzzer's own. `shape` gives a body and how much of it is framing.
fn frames(mut data: &[u8], image: &mut Vec<u8>, shape: impl Fn(&[u8]) -> (Vec<u8>, usize)) {
    while let Some((&length, rest)) = data.split_first() {
        let (body, rest) = rest.split_at(usize::from(length).min(rest.len()));
        let (body, framing) = shape(body);
        frame(image, &body, framing, u32::from(length) * 8);
        data = rest;
    }
}

/// A head and one section, each of the fuzzer's own bytes.
fn one_section(bytes: &[u8]) -> (Vec<u8>, usize) {
    let middle = bytes.first().map_or(0, |&at| usize::from(at).min(bytes.len()));
    let (head, section) = bytes.split_at(middle);
    let mut body = Vec::new();
    put_varint(&mut body, 1);
    put_varint(&mut body, 3);
    put_varint(&mut body, section.len() as u64);
    put_bytes(&mut body, b"");
    put_bytes(&mut body, head);
    let framing = body.len();
    body.extend_from_slice(section);
    (body, framing)
}

fn frame(image: &mut Vec<u8>, body: &[u8], framing: usize, lag: u32) {
    let (checksum, offset) = (Checksum::of(ID), image.len() as u64);
    let mut header = MAGIC.to_vec();
    for number in [body.len(), framing] {
        header.extend_from_slice(&u32::try_from(number).expect("bodies are short").to_le_bytes());
    }
    header.extend_from_slice(&lag.to_le_bytes());
    header.extend_from_slice(&checksum.at(offset + HEADER_BYTES as u64, body).to_le_bytes());
    let sum = checksum.at(offset, &header);
    header.extend_from_slice(&sum.to_le_bytes());
    image.extend_from_slice(&header);
    image.extend_from_slice(body);
    let aligned = image.len().next_multiple_of(usize::try_from(ALIGNMENT).expect("it is small"));
    image.resize(aligned, 0);
}

/// Reads a segment as recovery does.
fn read(image: Vec<u8>) {
    let size = image.len() as u64;
    let file: Arc<dyn File> = Arc::new(Image(image));
    let mut reader = FrameReader::new(file, ID, Arc::new(Plain), u64::MAX).expect("the length is known");
    let mut offset = 0;
    while let Ok(Step::Frame(mut frame)) = reader.step(offset) {
        assert!(frame.next > offset && frame.next <= size.next_multiple_of(ALIGNMENT), "the walk goes on");
        offset = frame.next;
        if let Ok(head) = RecordHead::decode(&frame.head) {
            let mut again = Vec::new();
            head.encode(&mut again);
            assert_eq!(RecordHead::decode(&again).ok(), Some(head.clone()), "a head written again");
            let _ = head.last();
        }
        for index in 0..frame.keyspaces().count() {
            if let Ok(section) = reader.open_section(&mut frame, index) {
                operations(&section);
            }
        }
    }
    let remains = reader.search(offset).expect("the image can be read");
    assert!(remains.used_until <= size.max(offset));
    if let Some((at, _)) = remains.stated_durable {
        assert!(at >= offset && at < size, "a header lies in the file");
    }
}

fn operations(section: &[u8]) {
    let mut reader = Reader::new(section);
    while !reader.is_empty() {
        let Ok(op) = Operation::decode(&mut reader) else { return };
        let mut again = Vec::new();
        op.encode(&mut again);
        assert_eq!(Operation::decode(&mut Reader::new(&again)).ok(), Some(op), "an operation written again");
        if let Operation::DeleteRange(span) = op {
            assert_eq!(
                KeySpan::of(&span.range()),
                Some(span.to_span()),
                "a range delete has keys, within the limits"
            );
        }
    }
}
