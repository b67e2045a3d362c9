//! Writes a table: entries in order, then filter, index, properties and footer. A failed one leaves no file behind.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use pugdb_core::RawOp;
use pugdb_core::coding::index;
use pugdb_core::env::{File, FileSystem};
use pugdb_core::seam::{FileContext, FileKind, Sealing};
use pugdb_core::{EntryKind, Error, FileId, Key, KeyspaceId, Result, Seqno, limits};

use super::block::{BLOCK_BYTES_MAX, BlockBuilder, Cell};
use super::compression::{Compression, Compressor};
use super::expiry::ExpirySketch;
use super::filter::{self, KeyHash};
use super::footer::Footer;
use super::index::IndexBuilder;
use super::piece::{PieceKind, Pieces};
use super::prefix::PrefixExtractor;
use super::properties::Properties;
use super::{TableMeta, path};
use crate::file::{Context, FileHeader};
use crate::values::{Pointer, ValueFileMeta, ValueUse};
use crate::written::Written;

/// Bytes collected before they are written: few system calls, little memory.
const WRITE_BYTES: usize = 256 << 10;

const _: () = assert!(limits::BLOCK_BYTES_MAX <= BLOCK_BYTES_MAX);

/// How a table is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableOptions {
    /// The content of a data block, about; at most 16 MiB. A larger entry gets a block of its own.
    pub block_bytes: usize,
    /// How blocks, index and properties are compressed, each for itself and where it gains enough.
    pub compression: Compression,
    /// Bits of filter for each key; none without a filter.
    pub filter_bits: u8,
    /// Whose prefixes the filter knows beside the keys.
    pub prefix: PrefixExtractor,
    /// Whether it is sealed, in a database that is encrypted.
    pub sealing: Sealing,
}

impl Default for TableOptions {
    fn default() -> Self {
        Self {
            block_bytes: 8 << 10,
            compression: Compression::None,
            filter_bits: 10,
            prefix: PrefixExtractor::None,
            sealing: Sealing::default(),
        }
    }
}

/// A table in the making. Dropped before [`finish`](Self::finish), it removes its file as well as it can.
pub struct TableWriter {
    id: FileId,
    keyspace: KeyspaceId,
    options: TableOptions,
    header_bytes: u64,
    fs: Arc<dyn FileSystem>,
    path: PathBuf,
    file: Arc<dyn File>,
    pieces: Pieces,
    compressor: Compressor,
    /// The content of the data blocks, before it was compressed.
    content_bytes: u64,
    /// How much of the file is written.
    written: u64,
    /// What comes next in the file.
    buffer: Vec<u8>,
    block: BlockBuilder,
    index: IndexBuilder,
    hashes: Vec<KeyHash>,
    /// Of the distinct prefixes of keys.
    prefixes: Vec<KeyHash>,
    expiries: ExpirySketch,
    values: Vec<ValueUse>,
    /// The numbers of value files in the list.
    value_files: BTreeMap<FileId, u32>,
    /// A pointer as it is stored.
    pointer: Vec<u8>,
    totals: Option<Totals>,
    state: State,
}

/// A table that is written, and not durable yet.
pub type WrittenTable = Written<TableMeta>;

/// What the entries so far come to.
struct Totals {
    entries: u64,
    deletes: u64,
    min_seqno: Seqno,
    max_seqno: Seqno,
    first: Key,
    last: Vec<u8>,
    last_seqno: Seqno,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Writing,
    /// A step failed: the file is of no use.
    Failed,
    Finished,
}

impl TableWriter {
    /// Begins a table with a fresh id in the directory of tables, which must exist.
    ///
    /// # Errors
    /// What the file system or the cipher says.
    pub fn create(context: &Context, keyspace: KeyspaceId, options: TableOptions) -> Result<Self> {
        let compressor = Compressor::new(options.compression)?;
        let id = FileId::random(&*context.env.random);
        let file_context = FileContext {
            database: context.database,
            file: id,
            kind: FileKind::Table,
            keyspace: Some(keyspace),
        };
        let sealing = context.sealing(options.sealing);
        let (cipher, keys) = context.cipher_of(sealing).create(&file_context)?;
        let header = FileHeader { context: file_context, extra: Vec::new(), cipher }.encode(&*keys)?;
        let path = path(context, id);
        let fs = Arc::clone(&context.env.fs);
        let file = fs.create(&path).map_err(|error| Error::io(format_args!("create table {id}"), error))?;
        Ok(Self {
            id,
            keyspace,
            options: TableOptions {
                block_bytes: options.block_bytes.min(BLOCK_BYTES_MAX),
                sealing,
                ..options
            },
            header_bytes: header.len() as u64,
            fs,
            path,
            file,
            pieces: Pieces::new(id, keyspace, keys),
            compressor,
            content_bytes: 0,
            written: 0,
            buffer: header,
            block: BlockBuilder::default(),
            index: IndexBuilder::default(),
            hashes: Vec::new(),
            prefixes: Vec::new(),
            expiries: ExpirySketch::default(),
            values: Vec::new(),
            value_files: BTreeMap::new(),
            pointer: Vec::new(),
            totals: None,
            state: State::Writing,
        })
    }

    /// The table's identity.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// How long the file is so far, with what is not written yet and without the tail.
    pub fn bytes_written(&self) -> u64 {
        self.written + self.buffer.len() as u64 + self.block.bytes() as u64
    }

    /// How many entries were added.
    pub fn entries(&self) -> u64 {
        self.totals.as_ref().map_or(0, |totals| totals.entries)
    }

    /// Appends the next entry: a larger key, or an older version of the same key.
    ///
    /// # Errors
    /// `Internal` when the entry is out of order, what the file system says when a write fails. The table cannot be
    /// finished after an error.
    pub fn add(&mut self, seqno: Seqno, op: &RawOp<'_>) -> Result<()> {
        self.step(|writer| writer.add_entry(seqno, op, Cell::Value))
    }

    /// [`add`](Self::add) for a put whose value lies in a value file. The value of `op` is not looked at, nor is the file's
    /// number in the pointer: the table numbers files itself. Of a file that is still being written the lengths come
    /// [later](Self::finish_value_file).
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn add_separated(
        &mut self,
        seqno: Seqno,
        op: &RawOp<'_>,
        file: &ValueFileMeta,
        pointer: &Pointer,
    ) -> Result<()> {
        self.step(|writer| {
            let number = writer.value_file(file)?;
            writer.values[index(number.into())].bytes += pointer.bytes as u64;
            let mut bytes = std::mem::take(&mut writer.pointer);
            bytes.clear();
            Pointer { file: number, ..*pointer }.encode(&mut bytes);
            let added = writer.add_entry(seqno, &RawOp { value: &bytes, ..*op }, Cell::Pointer);
            writer.pointer = bytes;
            added
        })
    }

    /// A value file that entries point to is finished: before the table is.
    pub fn finish_value_file(&mut self, file: &ValueFileMeta) {
        let number = self.value_files.get(&file.id);
        if let Some(used) = number.and_then(|number| self.values.get_mut(index((*number).into()))) {
            (used.file_bytes, used.record_bytes) = (file.bytes, file.record_bytes);
        }
    }

    /// Writes the tail. Nothing of the file is durable yet.
    ///
    /// # Errors
    /// `Internal` when no entry was added or a step failed before, what the file system says when a write fails.
    pub fn finish(mut self) -> Result<WrittenTable> {
        self.step(|writer| {
            let meta = writer.write_tail()?;
            writer.state = State::Finished;
            Ok(Written::new(meta, &writer.fs, &writer.path, &writer.file))
        })
    }

    /// Gives the table up and removes its file as well as it can.
    pub fn abandon(self) {
        drop(self);
    }

    /// A failed output is abandoned, never resumed: after the first error every step is one.
    fn step<R>(&mut self, step: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        if self.state != State::Writing {
            return Err(Error::internal("a table was written to after it had failed; please report it"));
        }
        let result = step(self);
        if result.is_err() {
            self.state = State::Failed;
        }
        result
    }

    /// The number of a value file in the table's list.
    fn value_file(&mut self, file: &ValueFileMeta) -> Result<u32> {
        if let Some(number) = self.value_files.get(&file.id) {
            return Ok(*number);
        }
        let number = u32::try_from(self.values.len());
        let number = number.map_err(|_| Error::internal("a table points into too many value files"))?;
        let &ValueFileMeta { id, bytes: file_bytes, record_bytes, sealing } = file;
        self.values.push(ValueUse { file: id, file_bytes, record_bytes, bytes: 0, sealing });
        self.value_files.insert(id, number);
        Ok(number)
    }

    fn add_entry(&mut self, seqno: Seqno, op: &RawOp<'_>, cell: Cell) -> Result<()> {
        let is_new_key = self.check_order(seqno, op.key)?;
        if self.block.count() > 0 && self.block.is_full(seqno, op, cell, self.options.block_bytes) {
            self.finish_block()?;
        }
        self.block.add(seqno, op, cell);
        if is_new_key {
            self.add_to_filter(op.key);
        }
        self.expiries.add(op);
        self.count(seqno, op)
    }

    fn add_to_filter(&mut self, key: &[u8]) {
        self.hashes.push(KeyHash::of(key));
        // Keys with the same prefix come one after the other.
        if let Some(prefix) = self.options.prefix.hash_of(key)
            && self.prefixes.last() != Some(&prefix)
        {
            self.prefixes.push(prefix);
        }
    }

    /// True when the key is another one than before. It guards data: an entry out of order would not be found.
    fn check_order(&self, seqno: Seqno, key: &[u8]) -> Result<bool> {
        let Some(totals) = &self.totals else { return Ok(true) };
        match totals.last[..].cmp(key) {
            Ordering::Less => Ok(true),
            Ordering::Equal if seqno < totals.last_seqno => Ok(false),
            _ => Err(Error::internal("entries were given to a table out of order; please report it")),
        }
    }

    fn count(&mut self, seqno: Seqno, op: &RawOp<'_>) -> Result<()> {
        if self.totals.is_none() {
            self.totals = Some(Totals {
                entries: 0,
                deletes: 0,
                min_seqno: Seqno::MAX,
                max_seqno: Seqno::ZERO,
                first: Key::copy(op.key)?,
                last: Vec::new(),
                last_seqno: seqno,
            });
        }
        if let Some(totals) = &mut self.totals {
            totals.entries += 1;
            totals.deletes += u64::from(op.kind == EntryKind::Delete);
            totals.min_seqno = totals.min_seqno.min(seqno);
            totals.max_seqno = totals.max_seqno.max(seqno);
            totals.last.clear();
            totals.last.extend_from_slice(op.key);
            totals.last_seqno = seqno;
        }
        Ok(())
    }

    fn finish_block(&mut self) -> Result<()> {
        let entries = self.block.count();
        let Some(totals) = self.totals.as_ref().filter(|_| entries > 0) else { return Ok(()) };
        let from = self.block.finish(&mut self.buffer);
        let offset = self.written + from as u64;
        self.content_bytes += (self.buffer.len() - from) as u64;
        self.pieces.seal(PieceKind::Data, offset, &mut self.compressor, &mut self.buffer, from)?;
        self.index.add(&totals.last, totals.last_seqno, self.buffer.len() - from, entries);
        if self.buffer.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn write_tail(&mut self) -> Result<TableMeta> {
        self.finish_block()?;
        if self.values.iter().any(|used| used.file_bytes == 0) {
            return Err(Error::internal("a table was finished before a value file of it; please report it"));
        }
        let tail_offset = self.bytes_written();
        let mut hashes = std::mem::take(&mut self.hashes);
        let keys = hashes.len() as u64;
        hashes.append(&mut self.prefixes);
        let bits = self.options.filter_bits;
        let filter_bytes =
            self.write_piece(PieceKind::Filter, |_, out| filter::encode(&hashes, bits, out))?;
        let index_bytes = self.write_piece(PieceKind::Index, |writer, out| writer.index.finish(out))?;
        let totals = self.totals.take();
        let totals = totals
            .ok_or_else(|| Error::internal("a table without entries was finished; please report it"))?;
        let properties = Properties {
            entries: totals.entries,
            keys,
            deletes: totals.deletes,
            min_seqno: totals.min_seqno,
            max_seqno: totals.max_seqno,
            first: totals.first,
            last: Key::new(totals.last)?,
            data_bytes: tail_offset - self.header_bytes,
            content_bytes: self.content_bytes,
            compression: self.options.compression,
            block_bytes: self.options.block_bytes as u64,
            filter_bits_per_key: bits.into(),
            prefix: self.options.prefix,
            expiries: std::mem::take(&mut self.expiries).finish(),
            values: std::mem::take(&mut self.values),
        };
        let properties_bytes = self.write_piece(PieceKind::Properties, |_, out| properties.encode(out))?;
        let header_bytes = self.header_bytes;
        let footer = Footer { header_bytes, tail_offset, filter_bytes, index_bytes, properties_bytes };
        let offset = self.bytes_written();
        footer.encode(self.id, offset, &mut self.buffer);
        self.flush()?;
        Ok(TableMeta {
            id: self.id,
            keyspace: self.keyspace,
            bytes: self.written,
            entries: properties.entries,
            deletes: properties.deletes,
            keys: properties.keys,
            data_bytes: properties.data_bytes,
            content_bytes: properties.content_bytes,
            expiries: properties.expiries,
            first: properties.first,
            last: properties.last,
            min_seqno: properties.min_seqno,
            max_seqno: properties.max_seqno,
            sealing: self.options.sealing,
            values: properties.values,
        })
    }

    /// Appends a piece of the tail and returns its stored length.
    fn write_piece(&mut self, kind: PieceKind, content: impl FnOnce(&Self, &mut Vec<u8>)) -> Result<u64> {
        let (offset, from) = (self.bytes_written(), self.buffer.len());
        let mut buffer = std::mem::take(&mut self.buffer);
        content(self, &mut buffer);
        // Bits of a filter are as good as random.
        let none = &mut Compressor::none();
        let compressor = if kind == PieceKind::Filter { none } else { &mut self.compressor };
        let sealed = self.pieces.seal(kind, offset, compressor, &mut buffer, from);
        self.buffer = buffer;
        sealed.map(|()| (self.buffer.len() - from) as u64)
    }

    fn flush(&mut self) -> Result<()> {
        let written = self.file.write_at(&self.buffer, self.written);
        written.map_err(|error| Error::io(format_args!("write table {}", self.id), error))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        // One huge value must not keep its memory until the table is done.
        self.buffer.shrink_to(2 * WRITE_BYTES);
        Ok(())
    }
}

impl Drop for TableWriter {
    fn drop(&mut self) {
        if self.state != State::Finished {
            // A file that stays is in no manifest; the next open removes it.
            let _ = self.fs.remove(&self.path);
        }
    }
}
