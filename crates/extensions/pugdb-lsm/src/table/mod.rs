//! Sorted tables: immutable files of entries in order, written once, read by block.
//!
//! ```text
//! TableWriter: add, add, … finish ──> WrittenTable: sync ──> TableMeta (kept by the manifest)
//! TableMeta ──> Table::open (filter and index stay in memory)
//!   get:  bounds, filter, index -> a block's slot in the cache, else load_blocks (read, verify, open) -> resolve
//!   scan: TableScan says which block it needs and is given it; it does no I/O of its own
//!   walk: TableCursor reads runs of blocks past the cache, for compaction
//!   check: Table::verify reads every byte again
//! ```
//!
//! Entries are in the order of their keys, and newest first within a key. The format is drawn in
//! `docs/format/table.md`.

use std::cmp::Ordering;
use std::ops::Bound;
use std::path::PathBuf;

use pugdb_core::engine::KeyRange;
use pugdb_core::seam::Sealing;
use pugdb_core::{FileId, Key, KeyspaceId, Seqno};

use crate::file::Context;
use crate::values::ValueUse;

mod block;
mod cache;
pub mod compression;
mod cursor;
mod expiry;
mod filter;
mod footer;
mod heads;
mod index;
mod inspect;
mod load;
mod local;
mod piece;
mod prefix;
mod properties;
mod reader;
mod scan;
mod tail;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

pub use block::Block;
pub use cache::{Access, BlockCache};
pub use compression::Compression;
pub use cursor::TableCursor;
pub use expiry::Expiries;
pub use filter::KeyHash;
pub(crate) use heads::head_of;
pub(crate) use inspect::inspect;
pub use load::{BlockRef, load_blocks};
pub use local::LocalTables;
pub use prefix::PrefixExtractor;
pub(crate) use properties::{decode_values, encode_values};
pub(crate) use reader::Located;
pub use reader::Table;
pub use scan::{Peek, TableScan};
pub(crate) use tail::{into_mut, read_ranges};
pub use verify::TableSummary;
pub(crate) use verify::{TableWalk, verify};
pub use writer::{TableOptions, TableWriter, WrittenTable};

/// What the manifest keeps of a table: enough to open it, to notice when the file is another one, and to choose what is
/// compacted without opening any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableMeta {
    /// The file's identity; its name is made of it.
    pub id: FileId,
    /// Whose entries it holds.
    pub keyspace: KeyspaceId,
    /// The length of the file.
    pub bytes: u64,
    /// How many entries (versions) it holds; never zero.
    pub entries: u64,
    /// How many of them are deletes.
    pub deletes: u64,
    /// How many distinct keys they have.
    pub keys: u64,
    /// The stored length of all data blocks.
    pub data_bytes: u64,
    /// The content of all data blocks, before it was compressed.
    pub content_bytes: u64,
    /// When how much of it expires.
    pub expiries: Expiries,
    /// The smallest key.
    pub first: Key,
    /// The largest key.
    pub last: Key,
    /// The oldest entry.
    pub min_seqno: Seqno,
    /// The newest entry.
    pub max_seqno: Seqno,
    /// Whether it can be read without a key.
    pub sealing: Sealing,
    /// The value files that it points into.
    pub values: Vec<ValueUse>,
}

impl TableMeta {
    /// All keys of the table.
    pub fn bounds(&self) -> Bounds {
        Bounds { first: self.first.clone(), last: self.last.clone() }
    }

    /// What so many bytes of keys and values are about worth in the file, where they are compressed.
    pub fn stored_part(&self, bytes: u64) -> u64 {
        let part = u128::from(bytes) * u128::from(self.data_bytes) / u128::from(self.content_bytes.max(1));
        u64::try_from(part).unwrap_or(u64::MAX)
    }

    /// How long the file would be if nothing in it were compressed: the data blocks' content, and the rest.
    pub fn uncompressed_bytes(&self) -> u64 {
        let rest = self.bytes.saturating_sub(self.data_bytes);
        rest.saturating_add(self.content_bytes.max(self.data_bytes))
    }
}

/// The keys, both ends included, that a reader may see of a table. A linked or split table shows a part of its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The smallest key that is seen.
    pub first: Key,
    /// The largest key that is seen.
    pub last: Key,
}

impl Bounds {
    /// True when `key` may be seen.
    pub fn contains(&self, key: &[u8]) -> bool {
        *self.first <= *key && *key <= *self.last
    }

    /// The part of `range` within the bounds.
    #[must_use]
    pub fn clamp(&self, range: KeyRange) -> KeyRange {
        let start = match range.start {
            Bound::Included(key) if *key >= *self.first => Bound::Included(key),
            Bound::Excluded(key) if *key >= *self.first => Bound::Excluded(key),
            _ => Bound::Included(self.first.to_vec()),
        };
        let end = match range.end {
            Bound::Included(key) if *key <= *self.last => Bound::Included(key),
            Bound::Excluded(key) if *key <= *self.last => Bound::Excluded(key),
            _ => Bound::Included(self.last.to_vec()),
        };
        KeyRange { start, end }
    }
}

/// Where the table `id` lies.
pub fn path(context: &Context, id: FileId) -> PathBuf {
    context.table_dir().join(file_name(id))
}

/// The name of the table `id` in its directory.
pub fn file_name(id: FileId) -> String {
    format!("{id}.table")
}

/// The table a name in the directory stands for; `None` when it is no table's name.
pub fn parse_file_name(name: &str) -> Option<FileId> {
    FileId::parse(name.strip_suffix(".table")?)
}

/// The order of entries: by key, and within a key newest first.
fn entry_order(left: (&[u8], Seqno), right: (&[u8], Seqno)) -> Ordering {
    left.0.cmp(right.0).then(right.1.cmp(&left.1))
}
