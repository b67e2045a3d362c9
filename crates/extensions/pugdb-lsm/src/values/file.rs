//! An open value file, and the values that readers fetch from several of them in one call.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use pugdb_core::coding::index;
use pugdb_core::seam::{FileKind, RangeRequest, Wait};
use pugdb_core::{Error, FileId, KeyspaceId, Result};

use super::record::{Record, Records};
use super::{Pointer, ValueFileMeta, ValueUse};
use crate::file::{Context, FileHeader};
use crate::table::{KeyHash, into_mut, read_ranges};

/// Read to find the header: most are shorter.
const HEAD_BYTES: u64 = 1024;
/// No header is longer; a larger length is damage.
const HEAD_BYTES_MAX: u64 = 64 << 10;
/// Records that lie no farther apart are read in one range: a seek costs more.
const GAP_BYTES_MAX: u64 = 4 << 10;
/// But a range grows no longer than this when a record more is taken in.
const STRETCH_BYTES_MAX: u64 = 1 << 20;

/// A value file, open. One that cannot be opened keeps its place: a read of a value in it is an error.
pub struct ValueFile {
    context: Context,
    meta: ValueFileMeta,
    records: Result<Records>,
}

/// A value that lies in a value file, as a table that is looked at tells of it.
#[derive(Clone, Copy)]
pub(crate) struct Apart<'a> {
    pub(crate) file: &'a Arc<ValueFile>,
    pub(crate) pointer: Pointer,
}

/// A value that lies in a value file, to be fetched.
pub(crate) struct ValueRef {
    file: Arc<ValueFile>,
    pointer: Pointer,
    /// Whose value it must be.
    key: KeyHash,
}

impl Apart<'_> {
    /// To be fetched for `key`.
    pub(crate) fn of(self, key: &[u8]) -> ValueRef {
        ValueRef { file: Arc::clone(self.file), pointer: self.pointer, key: KeyHash::of(key) }
    }
}

impl std::fmt::Debug for ValueFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ValueFile({})", self.meta.id)
    }
}

impl ValueFile {
    /// Opens the value file that a table needs. What goes wrong is kept, and is the answer to each read.
    pub fn open(context: &Context, keyspace: KeyspaceId, used: &ValueUse) -> Arc<Self> {
        let &ValueUse { file: id, file_bytes: bytes, record_bytes, .. } = used;
        let records = open(context, keyspace, used)
            .map(|keys| Records::new(id, keyspace, keys))
            .map_err(|error| error.at(format_args!("value file {id}")));
        Arc::new(Self { context: context.clone(), meta: ValueFileMeta { id, bytes, record_bytes }, records })
    }

    /// Its identity.
    pub fn id(&self) -> FileId {
        self.meta.id
    }

    /// What its writer said about it.
    pub fn meta(&self) -> &ValueFileMeta {
        &self.meta
    }

    /// What went wrong when it was opened.
    pub fn failure(&self) -> Option<&Error> {
        self.records.as_ref().err()
    }

    fn request(&self, range: Range<u64>) -> RangeRequest {
        let length = index(range.end.saturating_sub(range.start));
        RangeRequest { kind: FileKind::Values, file: self.id(), offset: range.start, length }
    }
}

fn open(
    context: &Context,
    keyspace: KeyspaceId,
    used: &ValueUse,
) -> Result<Arc<dyn pugdb_core::seam::FileCipher>> {
    let request = |range: Range<u64>| RangeRequest {
        kind: FileKind::Values,
        file: used.file,
        offset: range.start,
        length: index(range.end - range.start),
    };
    let mut head_bytes = HEAD_BYTES.min(used.file_bytes);
    loop {
        // The last byte, too: a file that was cut off is noticed before a value is missed.
        let requests = [request(0..head_bytes), request(used.file_bytes.saturating_sub(1)..used.file_bytes)];
        let read = read_ranges(&*context.tables, &requests, Wait::Always)?.ok_or_else(did_not_wait)?;
        let is_cut = std::cell::Cell::new(false);
        let header = FileHeader::read_with(
            &|buffer, offset| {
                let from = index(offset);
                let bytes = read[0].get(from..from + buffer.len());
                is_cut.set(bytes.is_none());
                buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            },
            FileKind::Values,
            Some(context.database),
            &*context.cipher,
        );
        let longer = HEAD_BYTES_MAX.min(used.file_bytes);
        if is_cut.get() && head_bytes < longer {
            head_bytes = longer;
            continue;
        }
        let header = header?;
        let identity = &header.header.context;
        if identity.file != used.file || identity.keyspace != Some(keyspace) {
            return Err(Error::corrupt(
                "the file is another one than a table says; run `pugdb verify` and restore it from a backup",
            ));
        }
        return Ok(header.cipher);
    }
}

impl ValueRef {
    /// The value, unless it is not at hand and `wait` is [`Wait::Never`].
    pub(crate) fn read(&self, wait: Wait) -> Result<Option<Bytes>> {
        let request = self.file.request(self.range());
        // A file that could not be opened is not asked.
        self.records()?;
        let read = read_ranges(&*self.file.context.tables, &[request], wait)?;
        let Some(stored) = read.and_then(|mut read| read.pop()) else { return Ok(None) };
        self.open(into_mut(stored)).map(Some)
    }

    /// Where its record lies.
    fn range(&self) -> Range<u64> {
        let start = self.pointer.offset;
        start..start.saturating_add(self.pointer.bytes as u64)
    }

    fn records(&self) -> Result<&Records> {
        self.file.records.as_ref().map_err(Clone::clone)
    }

    fn open(&self, stored: BytesMut) -> Result<Bytes> {
        let records = self.records()?;
        let Record { key, value } = records.open(self.pointer.offset, stored)?;
        if key != self.key || value.len() != self.pointer.length {
            return Err(Error::corrupt("it is the value of another entry; run `pugdb verify`")
                .at(records.place(self.pointer.offset)));
        }
        Ok(value)
    }
}

/// The values, in the order of `refs`, in one call to the table store. `None` when `wait` is [`Wait::Never`] and some are
/// not at hand.
///
/// # Errors
/// `Corrupt` when a record is damaged or not what a table says, what the store says when one cannot be read.
pub(crate) fn load_values(refs: &[ValueRef], wait: Wait) -> Result<Option<Vec<Bytes>>> {
    let [first, _, ..] = refs else {
        let values = refs.iter().map(|only| only.read(wait)).collect::<Result<Vec<_>>>()?;
        return Ok(values.into_iter().collect());
    };
    let mut order: Vec<usize> = (0..refs.len()).collect();
    order.sort_unstable_by_key(|&number| (refs[number].file.id(), refs[number].pointer.offset));
    let stretches = stretches(refs, &order)?;
    let requests: Vec<RangeRequest> = stretches
        .iter()
        .map(|(numbers, range)| refs[order[numbers.start]].file.request(range.clone()))
        .collect();
    let tables = &first.file.context.tables;
    let Some(read) = read_ranges(&**tables, &requests, wait)? else { return Ok(None) };
    let mut values = vec![Bytes::new(); refs.len()];
    for ((numbers, range), bytes) in stretches.into_iter().zip(read) {
        if let [only] = order[numbers.clone()] {
            values[only] = refs[only].open(into_mut(bytes))?;
            continue;
        }
        for &number in &order[numbers] {
            let wanted = &refs[number];
            let from = index(wanted.pointer.offset - range.start);
            // Each has its own memory, so that none keeps that of the others.
            values[number] = wanted.open(BytesMut::from(&bytes[from..from + wanted.pointer.bytes]))?;
        }
    }
    Ok(Some(values))
}

/// Ranges of files that hold all records: places in `order`, and where in the file.
fn stretches(refs: &[ValueRef], order: &[usize]) -> Result<Vec<(Range<usize>, Range<u64>)>> {
    let mut stretches: Vec<(Range<usize>, Range<u64>)> = Vec::new();
    for (place, &number) in order.iter().enumerate() {
        refs[number].records()?;
        let range = refs[number].range();
        if let Some((numbers, stretch)) = stretches.last_mut()
            && refs[order[numbers.start]].file.id() == refs[number].file.id()
            && range.start <= stretch.end.saturating_add(GAP_BYTES_MAX)
            && range.end.max(stretch.end) - stretch.start <= STRETCH_BYTES_MAX
        {
            numbers.end = place + 1;
            stretch.end = stretch.end.max(range.end);
        } else {
            stretches.push((place..place + 1, range));
        }
    }
    Ok(stretches)
}

fn did_not_wait() -> Error {
    Error::internal("a table store that may wait did not; please report it")
}
