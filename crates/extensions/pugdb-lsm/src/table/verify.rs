//! Reads a whole table again and checks every byte and every promise of the format.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use pugdb_core::coding::index;
use pugdb_core::seam::Wait;
use pugdb_core::{EntryKind, Error, FileId, Key, Result, Seqno, Timestamp};

use super::TableMeta;
use super::block::{Block, out_of_order};
use super::filter::KeyHash;
use super::tail::Tail;
use crate::file::Context;
use crate::values::{Apart, ValueFile, ValueRef, load_values};

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
    /// Values in value files that were read.
    pub values: u64,
    /// The length of their records.
    pub value_bytes: u64,
    /// The oldest version.
    pub min_seqno: Seqno,
    /// The newest version.
    pub max_seqno: Seqno,
}

/// Reads the file that `meta` describes, tail and all, and all values that it points to, of which nothing is remembered.
pub(crate) fn verify(context: &Context, meta: &Arc<TableMeta>) -> Result<TableSummary> {
    let mut walk = TableWalk::begin(context, meta)?;
    loop {
        if let Some(summary) = walk.step()? {
            return Ok(summary);
        }
    }
}

/// Reads what lies before a tail that was read just now, and values in those of its value files that `is_read` names. `keep`
/// is given every block that is sound.
pub(super) fn verify_blocks(
    context: &Context,
    meta: &TableMeta,
    tail: &Tail,
    values: &[Arc<ValueFile>],
    is_read: &dyn Fn(FileId) -> bool,
    mut keep: impl FnMut(usize, Block),
) -> Result<TableSummary> {
    let of = Subject { tail, meta, values, is_read };
    let mut check = Check::new(of);
    while !check.is_at_end(of) {
        check.step(context, of, &mut keep)?;
    }
    check.finish(of)
}

/// [`verify`] a step at a time.
pub(crate) struct TableWalk {
    context: Context,
    meta: Arc<TableMeta>,
    tail: Tail,
    values: Vec<Arc<ValueFile>>,
    check: Option<Check>,
}

impl TableWalk {
    /// Reads the tail.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub(crate) fn begin(context: &Context, meta: &Arc<TableMeta>) -> Result<Self> {
        let tail = Tail::read(context, meta)?;
        let values: Vec<_> =
            meta.values.iter().map(|used| ValueFile::new(context, meta.keyspace, used)).collect();
        let check = Some(Check::new(Subject { tail: &tail, meta, values: &values, is_read: &|_| true }));
        Ok(Self { context: context.clone(), meta: Arc::clone(meta), tail, values, check })
    }

    /// Reads about 256 KiB of the table, and the values to which that points. What the table holds, when all of it is sound.
    ///
    /// # Errors
    /// `Corrupt` when it is damaged, what the store says when it cannot be read.
    pub(crate) fn step(&mut self) -> Result<Option<TableSummary>> {
        let of = Subject { tail: &self.tail, meta: &self.meta, values: &self.values, is_read: &|_| true };
        match &mut self.check {
            Some(check) if !check.is_at_end(of) => check.step(&self.context, of, &mut |_, _| {})?,
            check => return check.take().map(|check| check.finish(of)).transpose(),
        }
        Ok(None)
    }

    /// How much it has read.
    pub(crate) fn bytes_read(&self) -> u64 {
        let values = |check: &Check| check.summary.value_bytes;
        let of_table = |check: &Check| self.tail.index.length(0..check.blocks.start) as u64;
        self.check.as_ref().map_or(0, |check| of_table(check) + values(check))
    }
}

/// What is checked.
#[derive(Clone, Copy)]
struct Subject<'a> {
    tail: &'a Tail,
    meta: &'a TableMeta,
    values: &'a [Arc<ValueFile>],
    is_read: &'a dyn Fn(FileId) -> bool,
}

struct Check {
    /// Those that are left.
    blocks: Range<usize>,
    /// How many bytes of each value file are pointed to.
    value_bytes: Vec<u64>,
    /// Values to be read, and the length of their records.
    wanted: (Vec<ValueRef>, usize),
    summary: TableSummary,
    first: Option<Key>,
    last: Option<(Vec<u8>, Seqno)>,
    last_expiry: Option<Timestamp>,
    content_bytes: u64,
}

impl Check {
    fn new(of: Subject<'_>) -> Self {
        let summary = TableSummary {
            id: of.meta.id,
            bytes: of.meta.bytes,
            blocks: 0,
            entries: 0,
            keys: 0,
            deletes: 0,
            expiring: 0,
            values: 0,
            value_bytes: 0,
            min_seqno: Seqno::MAX,
            max_seqno: Seqno::ZERO,
        };
        let (blocks, value_bytes) = (0..of.tail.index.len(), vec![0; of.values.len()]);
        let (first, last, last_expiry, content_bytes, wanted) = Default::default();
        Self { blocks, value_bytes, wanted, summary, first, last, last_expiry, content_bytes }
    }

    fn is_at_end(&self, of: Subject<'_>) -> bool {
        self.blocks.start >= of.tail.index.len()
    }

    fn step(&mut self, context: &Context, of: Subject<'_>, keep: &mut dyn FnMut(usize, Block)) -> Result<()> {
        let run = of.tail.next_run(self.blocks.clone(), READ_BYTES);
        for (number, block) in run.clone().zip(of.tail.read_run(&*context.tables, run.clone())?) {
            self.block(of, number, &block).map_err(|error| error.at(of.tail.place(number)))?;
            keep(number, block);
        }
        self.blocks.start = run.end;
        Ok(())
    }

    fn block(&mut self, of: Subject<'_>, number: usize, block: &Block) -> Result<()> {
        let mut key = Vec::new();
        for position in 0..block.count() {
            block.copy_key(position, &mut key);
            let (seqno, op) = (block.seqno(position), block.op(position, &key));
            self.entry(of, seqno, op.key)?;
            if let Some(apart) = block.pointer(position).and_then(|pointer| Apart::find(of.values, pointer)) {
                self.value(of, op.key, apart)?;
            }
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
        let handle = of.tail.index.handle(number);
        let last = self.last.as_ref().map(|(key, seqno)| (&key[..], *seqno));
        let ends_alike = last == Some((handle.last, handle.last_seqno));
        if ends_alike && handle.entries == block.count() as u64 {
            Ok(())
        } else {
            Err(Error::corrupt("the index does not agree with the block; restore the file from a backup"))
        }
    }

    fn value(&mut self, of: Subject<'_>, key: &[u8], apart: Apart<'_>) -> Result<()> {
        let pointer = apart.pointer;
        if let Some(bytes) = self.value_bytes.get_mut(index(pointer.file.into())) {
            *bytes += pointer.bytes as u64;
        }
        if (of.is_read)(apart.file.id()) {
            let (wanted, bytes) = &mut self.wanted;
            wanted.push(apart.of(key));
            *bytes += pointer.bytes;
            if *bytes >= READ_BYTES {
                self.read_values()?;
            }
        }
        Ok(())
    }

    fn read_values(&mut self) -> Result<()> {
        let (wanted, bytes) = std::mem::take(&mut self.wanted);
        load_values(&wanted, Wait::Always)?;
        self.summary.values += wanted.len() as u64;
        self.summary.value_bytes += bytes as u64;
        Ok(())
    }

    fn entry(&mut self, of: Subject<'_>, seqno: Seqno, key: &[u8]) -> Result<()> {
        let before = self.last.as_ref();
        let order = before.map_or(Ordering::Less, |(last, _)| last[..].cmp(key));
        if order == Ordering::Greater
            || order == Ordering::Equal && before.is_some_and(|(_, at)| *at <= seqno)
        {
            return Err(out_of_order());
        }
        if order == Ordering::Less {
            self.summary.keys += 1;
            if !of.tail.filter.may_contain(KeyHash::of(key)) {
                return Err(Error::corrupt("the filter misses a key; restore the file from a backup"));
            }
            let prefix = of.tail.prefix.hash_of(key);
            if prefix.is_some_and(|prefix| !of.tail.filter.may_contain(prefix)) {
                return Err(Error::corrupt("the filter misses a prefix; restore the file from a backup"));
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
    fn finish(self, of: Subject<'_>) -> Result<TableSummary> {
        self.summary(of).map_err(|error| error.at(format_args!("table {}", of.meta.id)))
    }

    fn summary(mut self, of: Subject<'_>) -> Result<TableSummary> {
        self.read_values()?;
        let (said, summary) = (of.meta, self.summary);
        let agrees = self.first.as_ref() == Some(&said.first)
            && self.last.as_ref().map(|(key, _)| &key[..]) == Some(&said.last[..])
            && summary.entries == said.entries
            && summary.keys == said.keys
            && summary.deletes == said.deletes
            && self.content_bytes == said.content_bytes
            && said.values.iter().map(|used| &used.bytes).eq(&self.value_bytes)
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
