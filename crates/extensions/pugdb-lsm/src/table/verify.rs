//! Reads a whole table again and checks every byte and every promise of the format.

use std::cmp::Ordering;

use pugdb_core::{EntryKind, Error, FileId, Key, Result, Seqno, Timestamp};

use super::TableMeta;
use super::block::{Block, out_of_order};
use super::filter::KeyHash;
use super::tail::Tail;
use crate::file::Context;

/// Read at once.
const READ_BYTES: usize = 256 << 10;

/// What a sound table holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSummary {
    /// The file.
    pub id: FileId,
    /// Its length.
    pub bytes: u64,
    /// Data blocks.
    pub blocks: u64,
    /// Versions.
    pub entries: u64,
    /// Distinct keys.
    pub keys: u64,
    /// Versions that are deletes.
    pub deletes: u64,
    /// Versions that expire.
    pub expiring: u64,
    /// The oldest version.
    pub min_seqno: Seqno,
    /// The newest version.
    pub max_seqno: Seqno,
}

/// Reads the file that `meta` describes, tail and all.
pub(crate) fn verify(context: &Context, meta: &TableMeta) -> Result<TableSummary> {
    verify_blocks(context, meta, &Tail::read(context, meta)?, |_, _| {})
}

/// Reads what lies before a tail that was read just now. `keep` is given every block that is sound.
pub(super) fn verify_blocks(
    context: &Context,
    meta: &TableMeta,
    tail: &Tail,
    mut keep: impl FnMut(usize, Block),
) -> Result<TableSummary> {
    let mut check = Check::new(tail, meta);
    let mut blocks = 0..tail.index.len();
    while !blocks.is_empty() {
        let run = tail.next_run(blocks.clone(), READ_BYTES);
        for (number, block) in run.clone().zip(tail.read_run(&*context.tables, run.clone())?) {
            check.block(number, &block).map_err(|error| error.at(tail.place(number)))?;
            keep(number, block);
        }
        blocks.start = run.end;
    }
    check.finish().map_err(|error| error.at(format_args!("table {}", meta.id)))
}

struct Check<'a> {
    tail: &'a Tail,
    meta: &'a TableMeta,
    summary: TableSummary,
    first: Option<Key>,
    last: Option<(Vec<u8>, Seqno)>,
    last_expiry: Option<Timestamp>,
    content_bytes: u64,
}

impl<'a> Check<'a> {
    fn new(tail: &'a Tail, meta: &'a TableMeta) -> Self {
        let summary = TableSummary {
            id: meta.id,
            bytes: meta.bytes,
            blocks: 0,
            entries: 0,
            keys: 0,
            deletes: 0,
            expiring: 0,
            min_seqno: Seqno::MAX,
            max_seqno: Seqno::ZERO,
        };
        Self { tail, meta, summary, first: None, last: None, last_expiry: None, content_bytes: 0 }
    }

    fn block(&mut self, number: usize, block: &Block) -> Result<()> {
        let mut key = Vec::new();
        for position in 0..block.count() {
            block.copy_key(position, &mut key);
            let (seqno, op) = (block.seqno(position), block.op(position, &key));
            self.entry(seqno, op.key)?;
            let is_delete = op.kind == EntryKind::Delete;
            self.summary.deletes += u64::from(is_delete);
            if let Some(at) = op.expires_at.filter(|_| !is_delete) {
                self.summary.expiring += 1;
                self.last_expiry = self.last_expiry.max(Some(at));
            }
            // The two keys take turns in two pieces of memory.
            let last = self.last.replace((std::mem::take(&mut key), seqno));
            key = last.map_or_else(Vec::new, |(key, _)| key);
        }
        self.summary.blocks += 1;
        self.content_bytes += block.content_bytes() as u64;
        let handle = self.tail.index.handle(number);
        let last = self.last.as_ref().map(|(key, seqno)| (&key[..], *seqno));
        let ends_alike = last == Some((handle.last, handle.last_seqno));
        if ends_alike && handle.entries == block.count() as u64 {
            Ok(())
        } else {
            Err(Error::corrupt("the index does not agree with the block; restore the file from a backup"))
        }
    }

    fn entry(&mut self, seqno: Seqno, key: &[u8]) -> Result<()> {
        let before = self.last.as_ref();
        let order = before.map_or(Ordering::Less, |(last, _)| last[..].cmp(key));
        if order == Ordering::Greater
            || order == Ordering::Equal && before.is_some_and(|(_, at)| *at <= seqno)
        {
            return Err(out_of_order());
        }
        if order == Ordering::Less {
            self.summary.keys += 1;
            if !self.tail.filter.may_contain(KeyHash::of(key)) {
                return Err(Error::corrupt("the filter misses a key; restore the file from a backup"));
            }
        }
        if self.first.is_none() {
            self.first = Some(Key::copy(key)?);
        }
        let summary = &mut self.summary;
        summary.entries += 1;
        summary.min_seqno = summary.min_seqno.min(seqno);
        summary.max_seqno = summary.max_seqno.max(seqno);
        Ok(())
    }

    /// The last key and the number of entries are those of the index, which agrees with the properties already, as those
    /// do with the manifest.
    fn finish(self) -> Result<TableSummary> {
        let (said, summary) = (self.meta, self.summary);
        let agrees = self.first.as_ref() == Some(&said.first)
            && self.last.as_ref().map(|(key, _)| &key[..]) == Some(&said.last[..])
            && summary.entries == said.entries
            && summary.keys == said.keys
            && summary.deletes == said.deletes
            && self.content_bytes == said.content_bytes
            && summary.min_seqno == said.min_seqno
            && summary.max_seqno == said.max_seqno
            && (said.expiries.entries, said.expiries.last()) == (summary.expiring, self.last_expiry);
        if agrees {
            Ok(summary)
        } else {
            Err(Error::corrupt(
                "the properties do not agree with the entries; restore the file from a backup",
            ))
        }
    }
}
