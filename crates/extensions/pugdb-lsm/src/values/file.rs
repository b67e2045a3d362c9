//! An open value file, and the values that readers fetch from several of them in one call.

use std::io;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use pugdb_core::coding::index;
use pugdb_core::seam::{FileCipher, FileKind, RangeRequest, Wait};
use pugdb_core::{Error, ErrorKind, FileId, KeyspaceId, Result};

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

/// A value file, opened when a value in it is first read. Where that goes wrong, the read is an error.
pub struct ValueFile {
    context: Context,
    meta: ValueFileMeta,
    keyspace: KeyspaceId,
    /// There from the first read on: the file is opened then. Damage is kept, and is the answer to each read.
    records: OnceLock<Result<Records>>,
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

impl<'a> Apart<'a> {
    /// Where the value lies that `pointer` leads to, in a table with these value files. Blocks are held against their number
    /// when they are decoded.
    pub(crate) fn find(files: &'a [Arc<ValueFile>], pointer: Pointer) -> Option<Self> {
        files.get(index(pointer.file.into())).map(|file| Self { file, pointer })
    }

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
    /// The value file that a table needs. Nothing is read.
    pub fn new(context: &Context, keyspace: KeyspaceId, used: &ValueUse) -> Arc<Self> {
        let &ValueUse { file: id, file_bytes: bytes, record_bytes, sealing, .. } = used;
        let meta = ValueFileMeta { id, bytes, record_bytes, sealing };
        Arc::new(Self { context: context.clone(), meta, keyspace, records: OnceLock::new() })
    }

    /// Its identity.
    pub fn id(&self) -> FileId {
        self.meta.id
    }

    /// What its writer said about it.
    pub fn meta(&self) -> &ValueFileMeta {
        &self.meta
    }

    /// What opens its records. Several who need it at the same time may read its header: none waits for another.
    ///
    /// # Errors
    /// `Corrupt` when the file is damaged, another one or gone, from then on; what the store says when it cannot be read, and
    /// what the cipher says when the key is wrong, which is tried again the next time.
    fn records(&self, wait: Wait) -> Result<Option<&Records>> {
        if self.records.get().is_none() {
            let opened = match self.open(wait).map_err(missing_is_damage) {
                Ok(None) => return Ok(None),
                Ok(Some(keys)) => Ok(Records::new(self.id(), self.keyspace, keys)),
                Err(error) => Err(error.at(format_args!("value file {}", self.id()))),
            };
            if let Err(error) = opened.as_ref().map_err(Clone::clone)
                && error.kind() != ErrorKind::Corrupt
            {
                return Err(error);
            }
            let _ = self.records.set(opened);
        }
        self.records.get().map(|records| records.as_ref().map_err(Clone::clone)).transpose()
    }

    fn open(&self, wait: Wait) -> Result<Option<Arc<dyn FileCipher>>> {
        let length = self.meta.bytes;
        let mut head_bytes = HEAD_BYTES.min(length);
        loop {
            // The last byte, too: a file that was cut off is noticed before a value is missed.
            let requests = [self.request(0..head_bytes), self.request(length.saturating_sub(1)..length)];
            let Some(read) = read_ranges(&*self.context.tables, &requests, wait)? else { return Ok(None) };
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
                Some(self.context.database),
                self.context.cipher_of(self.meta.sealing),
            );
            let longer = HEAD_BYTES_MAX.min(length);
            if is_cut.get() && head_bytes < longer {
                head_bytes = longer;
                continue;
            }
            let header = header?;
            let identity = &header.header.context;
            if identity.file != self.id() || identity.keyspace != Some(self.keyspace) {
                return Err(Error::corrupt(
                    "the file is another one than a table says; run `pugdb verify` and restore it from a backup",
                ));
            }
            return Ok(Some(header.cipher));
        }
    }

    fn request(&self, range: Range<u64>) -> RangeRequest {
        let length = index(range.end.saturating_sub(range.start));
        RangeRequest { kind: FileKind::Values, file: self.id(), offset: range.start, length }
    }
}

/// A file that a table points into is there. One of another version is not damaged.
fn missing_is_damage(error: Error) -> Error {
    if error.kind() == ErrorKind::NotFound {
        return Error::corrupt(format!("{error}; a table points into it; restore it from a backup"));
    }
    error
}

impl ValueRef {
    /// The value, unless it is not at hand and `wait` is [`Wait::Never`].
    pub(crate) fn read(&self, wait: Wait) -> Result<Option<Bytes>> {
        let request = self.file.request(self.range());
        let Some(records) = self.file.records(wait)? else { return Ok(None) };
        let read = read_ranges(&*self.file.context.tables, &[request], wait)?;
        let Some(stored) = read.and_then(|mut read| read.pop()) else { return Ok(None) };
        self.open(records, into_mut(stored)).map(Some)
    }

    /// Where its record lies.
    fn range(&self) -> Range<u64> {
        let start = self.pointer.offset;
        start..start.saturating_add(self.pointer.bytes as u64)
    }

    fn open(&self, records: &Records, stored: BytesMut) -> Result<Bytes> {
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
    let mut records = Vec::with_capacity(refs.len());
    for wanted in refs {
        let Some(of_file) = wanted.file.records(wait)? else { return Ok(None) };
        records.push(of_file);
    }
    let mut order: Vec<usize> = (0..refs.len()).collect();
    order.sort_unstable_by_key(|&number| (refs[number].file.id(), refs[number].pointer.offset));
    let stretches = stretches(refs, &order);
    let requests: Vec<RangeRequest> = stretches
        .iter()
        .map(|(numbers, range)| refs[order[numbers.start]].file.request(range.clone()))
        .collect();
    let tables = &first.file.context.tables;
    let Some(read) = read_ranges(&**tables, &requests, wait)? else { return Ok(None) };
    let mut values = vec![Bytes::new(); refs.len()];
    for ((numbers, range), bytes) in stretches.into_iter().zip(read) {
        if let [only] = order[numbers.clone()] {
            values[only] = refs[only].open(records[only], into_mut(bytes))?;
            continue;
        }
        for &number in &order[numbers] {
            let wanted = &refs[number];
            let from = index(wanted.pointer.offset - range.start);
            // Each has its own memory, so that none keeps that of the others.
            let stored = BytesMut::from(&bytes[from..from + wanted.pointer.bytes]);
            values[number] = wanted.open(records[number], stored)?;
        }
    }
    Ok(Some(values))
}

/// Ranges of files that hold all records: places in `order`, and where in the file.
fn stretches(refs: &[ValueRef], order: &[usize]) -> Vec<(Range<usize>, Range<u64>)> {
    let mut stretches: Vec<(Range<usize>, Range<u64>)> = Vec::new();
    for (place, &number) in order.iter().enumerate() {
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
    stretches
}
