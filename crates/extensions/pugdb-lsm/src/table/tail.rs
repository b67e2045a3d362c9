//! Opens a table's tail: header and footer in one read, then filter, index and properties in another.

use std::io;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use pugdb_core::coding::index;
use pugdb_core::seam::{FileKind, RangeRequest, TableStore, Wait};
use pugdb_core::{Error, FileId, Result};

use super::TableMeta;
use super::block::Block;
use super::filter::Filter;
use super::footer::{FOOTER_BYTES, Footer};
use super::index::Index;
use super::piece::{PieceKind, Pieces};
use super::prefix::PrefixExtractor;
use super::properties::Properties;
use crate::file::{Context, FileHeader, OpenedHeader};

/// Read together with the footer: most headers fit, so opening a table takes two reads.
const HEAD_BYTES: u64 = 1024;
/// No header is longer; a larger length is damage.
const HEAD_BYTES_MAX: u64 = 64 << 10;

/// What a table keeps in memory.
pub(super) struct Tail {
    id: FileId,
    pieces: Pieces,
    pub(super) filter: Filter,
    /// Whose prefixes the filter knows beside the keys.
    pub(super) prefix: PrefixExtractor,
    pub(super) index: Index,
    /// Into so many value files blocks may point.
    value_files: usize,
}

impl Tail {
    /// Reads and verifies the tail of the file that `meta` describes.
    pub(super) fn read(context: &Context, meta: &TableMeta) -> Result<Self> {
        // What the store and the pieces say names the table already.
        let placed = |error: Error| error.at(format_args!("table {}", meta.id));
        let end = meta.bytes.checked_sub(FOOTER_BYTES as u64);
        let end = end.ok_or_else(|| placed(disagrees("a length")))?;
        let head = 0..HEAD_BYTES.min(meta.bytes);
        let [head, footer] = read(context, meta.id, [head, end..meta.bytes])?;
        let footer = match Footer::decode(meta.id, end, &footer) {
            Ok(footer) => footer,
            Err(damaged) => {
                // A newer version may end otherwise, and its header says so.
                let head = 0..HEAD_BYTES_MAX.min(meta.bytes);
                let [head] = read(context, meta.id, [head])?;
                return Err(placed(FileHeader::refusal(&from(&head)).unwrap_or(damaged)));
            }
        };
        let tail = footer.tail_offset..end;
        let (head, tail) = if footer.header_bytes <= head.len() as u64 {
            let [tail] = read(context, meta.id, [tail])?;
            (head, tail)
        } else {
            let [head, tail] = read(context, meta.id, [0..footer.header_bytes.min(HEAD_BYTES_MAX), tail])?;
            (head, tail)
        };
        let header = open_header(context, meta, &footer, &head).map_err(placed)?;
        let pieces = Pieces::new(meta.id, meta.keyspace, header.cipher);
        let mut tail = into_mut(tail);
        let mut offset = footer.tail_offset;
        let mut part = |kind, length: u64| {
            let opened = pieces.open(kind, offset, tail.split_to(index(length)));
            offset += length;
            opened
        };
        let filter = part(PieceKind::Filter, footer.filter_bytes)?;
        let index = part(PieceKind::Index, footer.index_bytes)?;
        let properties = part(PieceKind::Properties, footer.properties_bytes)?;
        Self::decode(pieces, meta, &footer, [filter, index, properties]).map_err(placed)
    }

    fn decode(pieces: Pieces, meta: &TableMeta, footer: &Footer, parts: [Bytes; 3]) -> Result<Self> {
        let [filter, index, properties] = parts;
        let filter = Filter::decode(&filter)?;
        let index = Index::decode(&index, footer.header_bytes, footer.tail_offset)?;
        let properties = Properties::decode(&properties)?;
        if !properties.agree_with(meta) {
            return Err(disagrees("properties"));
        }
        let last = Some(index.last(index.len() - 1));
        let data_bytes = footer.tail_offset - footer.header_bytes;
        if last != Some(&properties.last)
            || index.entries() != Some(properties.entries)
            || data_bytes != properties.data_bytes
        {
            return Err(Error::corrupt("index and properties do not agree; run `pugdb verify`"));
        }
        let (prefix, value_files) = (properties.prefix, meta.values.len());
        Ok(Self { id: meta.id, pieces, filter, prefix, index, value_files })
    }

    /// What to read to have the blocks of `run`, which lie side by side.
    pub(super) fn request(&self, run: Range<usize>) -> RangeRequest {
        let (offset, length) = (self.offset(run.start), self.index.length(run));
        RangeRequest { kind: FileKind::Table, file: self.id, offset, length }
    }

    /// Verifies and opens the block number `number`.
    pub(super) fn open_block(&self, number: usize, stored: BytesMut) -> Result<Block> {
        let content = self.pieces.open(PieceKind::Data, self.offset(number), stored)?;
        Block::decode(content, self.value_files).map_err(|error| error.at(self.place(number)))
    }

    /// Reads several blocks side by side in one request, past the cache. Each has its own memory, so that none keeps that of
    /// the others.
    pub(super) fn read_run(&self, store: &dyn TableStore, run: Range<usize>) -> Result<Vec<Block>> {
        let bytes = read_ranges(store, &[self.request(run.clone())], Wait::Always)?;
        let stored = bytes.and_then(|mut bytes| bytes.pop()).ok_or_else(refused)?;
        let mut offset = 0;
        let open = |number: usize| {
            let end = offset + self.index.length(number..number + 1);
            let block = self.open_block(number, BytesMut::from(&stored[offset..end]));
            offset = end;
            block
        };
        run.map(open).collect()
    }

    /// The next blocks from `blocks` that are about `bytes` long together, and at least one.
    pub(super) fn next_run(&self, blocks: Range<usize>, bytes: usize) -> Range<usize> {
        let mut left = bytes;
        let more = blocks.clone().skip(1).take_while(|&number| {
            let length = self.index.length(number..number + 1);
            let fits = length <= left;
            left = left.saturating_sub(length);
            fits
        });
        blocks.start..(blocks.start + 1 + more.count()).min(blocks.end)
    }

    /// Where the block number `number` begins.
    pub(super) fn offset(&self, number: usize) -> u64 {
        self.index.offset(number)
    }

    /// Names a block in a message.
    pub(super) fn place(&self, number: usize) -> String {
        self.pieces.place(PieceKind::Data, self.offset(number))
    }
}

fn open_header(context: &Context, meta: &TableMeta, footer: &Footer, head: &Bytes) -> Result<OpenedHeader> {
    let cipher = context.cipher_of(meta.sealing);
    let header = FileHeader::read_with(&from(head), FileKind::Table, Some(context.database), cipher)?;
    let identity = &header.header.context;
    if identity.file != meta.id {
        return Err(disagrees("an id"));
    }
    if identity.keyspace != Some(meta.keyspace) {
        return Err(disagrees("a keyspace"));
    }
    if header.bytes != footer.header_bytes {
        return Err(disagrees("a header"));
    }
    Ok(header)
}

/// Tables are read through their store only: the header is in the bytes that it gave.
fn from(head: &Bytes) -> impl Fn(&mut [u8], u64) -> io::Result<()> {
    |buffer, offset| {
        let from = index(offset);
        let bytes = head.get(from..from + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

fn disagrees(what: &str) -> Error {
    Error::corrupt(format!(
        "the file has {what} other than the manifest says; run `pugdb verify` and restore the file from a backup"
    ))
}

fn refused() -> Error {
    Error::internal("a table store refused to wait though it may; please report it")
}

/// Reads `ranges` of one file and waits for them.
fn read<const N: usize>(context: &Context, file: FileId, ranges: [Range<u64>; N]) -> Result<[Bytes; N]> {
    let requests = ranges.map(|range| RangeRequest {
        kind: FileKind::Table,
        file,
        offset: range.start,
        length: index(range.end.saturating_sub(range.start)),
    });
    let read = read_ranges(&*context.tables, &requests, Wait::Always)?.ok_or_else(refused)?;
    read.try_into().map_err(|_| refused())
}

/// Asks the store, and checks that the answer has the shape of the question.
pub(crate) fn read_ranges(
    store: &dyn TableStore,
    requests: &[RangeRequest],
    wait: Wait,
) -> Result<Option<Vec<Bytes>>> {
    let Some(read) = store.read_ranges(requests, wait)? else { return Ok(None) };
    let lengths = requests.iter().map(|request| request.length);
    if lengths.eq(read.iter().map(Bytes::len)) {
        Ok(Some(read))
    } else {
        Err(Error::internal("a table store returned other ranges than it was asked for; please report it"))
    }
}

/// The bytes to open a seal in: the same ones when nobody else holds them.
pub(crate) fn into_mut(bytes: Bytes) -> BytesMut {
    bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]))
}
