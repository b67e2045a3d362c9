//! An open table: looks into bounds, filter and index, and says which block to read. Read path, steps "look" and
//! "choose".

use std::cmp::Ordering;
use std::ops::{Bound, ControlFlow, Range};
use std::sync::Arc;

use pugdb_core::engine::{Direction, KeyRange};
use pugdb_core::seam::{AtHand, Wait};
use pugdb_core::{Error, FileId, Found, Key, Result, Seqno, Value};

use super::block::Block;
use super::cache::{Access, BlockCache, Slots};
use super::cursor::TableCursor;
use super::filter::KeyHash;
use super::load::{self, BlockRef};
use super::prefix::PrefixExtractor;
use super::scan::TableScan;
use super::tail::Tail;
use super::verify::{self, TableSummary};
use super::{Bounds, TableMeta, entry_order};
use crate::file::Context;
use crate::values::{Apart, ValueFile, ValueRef};

/// An open table. Filter and index stay in memory; blocks come through the cache.
pub struct Table {
    context: Context,
    meta: Arc<TableMeta>,
    bounds: Bounds,
    /// Takes the place of every entry's seqno, for a file that was made elsewhere and ingested.
    global_seqno: Option<Seqno>,
    tail: Arc<Tail>,
    cached: Arc<Cached>,
    /// What its pointers name by their numbers.
    values: Arc<[Arc<ValueFile>]>,
}

/// What a table has of a key.
pub(crate) struct Located {
    /// The entry, without a value that lies in a value file.
    pub(crate) found: Found,
    /// Where the value lies, when it is not in the table.
    value: Option<Box<ValueRef>>,
}

impl Located {
    /// Where its value has to be fetched from.
    pub(crate) fn take_value(&mut self) -> Option<ValueRef> {
        self.value.take().map(|value| *value)
    }

    /// The entry, whole.
    ///
    /// # Errors
    /// `Corrupt` when the value is damaged, what the store says when it cannot be read.
    #[inline]
    pub(crate) fn fetch(self, wait: Wait) -> Result<AtHand<Found>> {
        match self.value {
            None => Ok(AtHand::Yes(self.found)),
            Some(value) => fetch_apart(self.found, &value, wait),
        }
    }
}

#[cold]
fn fetch_apart(mut found: Found, value: &ValueRef, wait: Wait) -> Result<AtHand<Found>> {
    let Some(value) = value.read(wait)? else { return Ok(AtHand::WouldBlock) };
    found.entry.value = Value::new(value)?;
    Ok(AtHand::Yes(found))
}

impl From<Found> for Located {
    fn from(found: Found) -> Self {
        Self { found, value: None }
    }
}

/// The blocks that are in the cache. They leave it with the last table that shows a part of the file.
struct Cached {
    slots: Arc<Slots>,
    cache: Arc<BlockCache>,
    /// What the table takes beside them, which the cache holds back for it.
    table_bytes: usize,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table({})", self.meta.id)
    }
}

impl Table {
    /// Opens the table that `meta` describes. Readers see the keys within `bounds` only. With a `global_seqno` every
    /// entry has that seqno, and a key's newest version is its only one.
    ///
    /// # Errors
    /// `Corrupt` when the tail is damaged or the file is another one than `meta` says, `NotFound` when it is gone,
    /// what the cipher says when the key is wrong.
    pub fn open(
        context: &Context,
        cache: Arc<BlockCache>,
        meta: Arc<TableMeta>,
        bounds: Bounds,
        global_seqno: Option<Seqno>,
    ) -> Result<Arc<Self>> {
        let values = meta.values.iter().map(|used| ValueFile::new(context, meta.keyspace, used)).collect();
        Self::open_with(context, cache, meta, bounds, global_seqno, values)
    }

    /// [`open`](Self::open) with value files that other tables may have too: those of `meta`, in their order. They are opened
    /// when a value in them is read.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(
        context: &Context,
        cache: Arc<BlockCache>,
        meta: Arc<TableMeta>,
        bounds: Bounds,
        global_seqno: Option<Seqno>,
        values: Arc<[Arc<ValueFile>]>,
    ) -> Result<Arc<Self>> {
        let tail = Arc::new(Tail::read(context, &meta)?);
        if values.len() != meta.values.len() {
            return Err(Error::internal(
                "a table was given other value files than its own; please report it",
            ));
        }
        let cached = Arc::new(Cached::new(cache, &tail));
        Ok(Arc::new(Self { context: context.clone(), meta, bounds, global_seqno, tail, cached, values }))
    }

    /// The same table, of which only keys within `bounds` are seen.
    #[must_use]
    pub fn within(&self, bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            context: self.context.clone(),
            meta: Arc::clone(&self.meta),
            bounds,
            global_seqno: self.global_seqno,
            tail: Arc::clone(&self.tail),
            cached: Arc::clone(&self.cached),
            values: Arc::clone(&self.values),
        })
    }

    /// The same table, every entry of which has the seqno `at`.
    #[must_use]
    pub fn with_global_seqno(&self, at: Seqno) -> Arc<Self> {
        Arc::new(Self {
            context: self.context.clone(),
            meta: Arc::clone(&self.meta),
            bounds: self.bounds.clone(),
            global_seqno: Some(at),
            tail: Arc::clone(&self.tail),
            cached: Arc::clone(&self.cached),
            values: Arc::clone(&self.values),
        })
    }

    /// What the manifest keeps of it.
    pub fn meta(&self) -> &Arc<TableMeta> {
        &self.meta
    }

    /// The keys that readers see.
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// The seqno that every entry has, if it is one.
    pub fn global_seqno(&self) -> Option<Seqno> {
        self.global_seqno
    }

    /// What part of its entries readers see, near enough: how many of how many blocks.
    pub fn shown_part(&self) -> (u64, u64) {
        let index = &self.tail.index;
        let before = index.partition(&self.bounds.first, |key, _| *key < *self.bounds.first);
        let upto = index.partition(&self.bounds.last, |key, _| *key < *self.bounds.last) + 1;
        (upto.saturating_sub(before) as u64, index.len() as u64)
    }

    /// The stored length of the blocks that hold nothing but keys from `start` on and before `end`, of those that readers
    /// see.
    pub fn bytes_between(&self, start: &[u8], end: Option<&[u8]>) -> u64 {
        let index = &self.tail.index;
        let first = index.partition(&self.bounds.first, |key, _| *key < *self.bounds.first);
        // The block in which it begins may hold others before.
        let begin = if *start <= *self.bounds.first {
            first
        } else {
            index.partition(start, |key, _| key < start) + 1
        };
        let last = &*self.bounds.last;
        let end = match end {
            Some(end) if end <= last => index.partition(end, |key, _| key < end),
            _ => index.partition(last, |key, _| key < last) + 1,
        };
        index.offset(end).saturating_sub(index.offset(begin))
    }

    /// The stored bytes, and the entries, of all blocks that may have keys of a range which readers see: those bytes with
    /// their part of filter and index. Too many by less than the first and the last of these blocks.
    pub fn approximate(&self, range: &KeyRange) -> (u64, u64) {
        let shown = KeyRange::from(&*self.bounds.first..=&*self.bounds.last);
        let (one, other) = (self.blocks_of(&shown), self.blocks_of(range));
        let blocks = one.start.max(other.start)..one.end.min(other.end);
        let index = &self.tail.index;
        let stored = index.offset(blocks.end).saturating_sub(index.offset(blocks.start));
        let entries = blocks.map(|number| index.handle(number).entries).sum();
        let part = u128::from(stored) * u128::from(self.meta.bytes) / u128::from(self.meta.data_bytes.max(1));
        (u64::try_from(part).unwrap_or(u64::MAX), entries)
    }

    /// Last keys of blocks that readers see something of, one in about as many stretches as are `wanted`, with the bytes of
    /// each stretch.
    ///
    /// # Errors
    /// None: keys of an index that was read are no longer than keys may be.
    pub fn anchors(&self, wanted: usize) -> Result<Vec<(Key, u64)>> {
        let blocks = self.blocks_of(&KeyRange::from(&*self.bounds.first..=&*self.bounds.last));
        let (index, stretch) = (&self.tail.index, blocks.len().div_ceil(wanted.max(1)).max(1));
        let starts = blocks.clone().step_by(stretch);
        let anchor = |start: usize| {
            let end = (start + stretch).min(blocks.end);
            Ok((Key::copy(index.last(end - 1))?, index.offset(end).saturating_sub(index.offset(start))))
        };
        starts.map(anchor).collect()
    }

    /// The blocks that may have keys of a range.
    fn blocks_of(&self, range: &KeyRange) -> Range<usize> {
        let index = &self.tail.index;
        let passed = |near: &Bound<Vec<u8>>, unbounded: usize, is_passed: &dyn Fn(&[u8]) -> bool| match near {
            Bound::Included(near) | Bound::Excluded(near) => index.partition(near, |last, _| is_passed(last)),
            Bound::Unbounded => unbounded,
        };
        let blocks = index.len();
        let start = passed(&range.start, 0, &|last| range.starts_after(last));
        // The block that ends behind the range may begin in it.
        let end = passed(&range.end, blocks, &|last| !range.ends_before(last)).saturating_add(1);
        start..end.min(blocks)
    }

    /// What filter, index and the slots of blocks take in memory.
    pub fn memory_bytes(&self) -> usize {
        self.cached.table_bytes
    }

    /// False when the table surely has no version of `key`.
    pub fn may_contain(&self, key: &[u8]) -> bool {
        self.may_contain_hashed(key, KeyHash::of(key))
    }

    /// [`may_contain`](Self::may_contain) for a key whose hash is known.
    pub fn may_contain_hashed(&self, key: &[u8], hash: KeyHash) -> bool {
        self.bounds.contains(key) && self.tail.filter.may_contain(hash)
    }

    /// False when the table surely has no version of a key in `range`: all keys there have a prefix, which the filter does not
    /// know. Neither index nor block is looked at.
    #[inline]
    pub fn may_contain_any(&self, range: &KeyRange) -> bool {
        let Tail { filter, prefix, .. } = &*self.tail;
        *prefix == PrefixExtractor::None
            || prefix.of_range(range).is_none_or(|prefix| filter.may_contain(KeyHash::of_prefix(prefix)))
    }

    /// The newest version of `key` at or below `seqno`, as it is: deletes and expired entries too.
    ///
    /// # Errors
    /// `Corrupt` when the block is damaged, what the store says when it cannot be read.
    pub fn get(&self, key: &[u8], seqno: Seqno) -> Result<Option<Found>> {
        let located = self.look(key, KeyHash::of(key), seqno, Wait::Always)?.waited()?;
        located.map(|located| located.fetch(Wait::Always)?.waited()).transpose()
    }

    /// [`get`](Self::get) for a key whose hash is known, which need not wait. A value that lies elsewhere is not fetched.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(crate) fn look(
        &self,
        key: &[u8],
        hash: KeyHash,
        seqno: Seqno,
        wait: Wait,
    ) -> Result<AtHand<Option<Located>>> {
        if !self.may_contain_hashed(key, hash) {
            return Ok(AtHand::Yes(None));
        }
        self.look_within(key, seqno, wait)
    }

    /// [`look`](Self::look) for a key that bounds and filter let pass.
    fn look_within(&self, key: &[u8], seqno: Seqno, wait: Wait) -> Result<AtHand<Option<Located>>> {
        let Some(number) = self.plan(key, seqno) else { return Ok(AtHand::Yes(None)) };
        if let Some(block) = &*self.slots().get(number) {
            self.cached.cache.hit();
            return Ok(AtHand::Yes(self.resolve(block, key, seqno)));
        }
        let block = load::load_one(self, number, wait)?;
        Ok(block.map_or(AtHand::WouldBlock, |block| AtHand::Yes(self.resolve(&block, key, seqno))))
    }

    /// Shows the versions of `key` at or below `seqno`, the newest first, without values that lie elsewhere.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(crate) fn visit_key(
        &self,
        key: &[u8],
        hash: KeyHash,
        seqno: Seqno,
        wait: Wait,
        visit: &mut dyn FnMut(Located) -> ControlFlow<()>,
    ) -> Result<AtHand<ControlFlow<()>>> {
        const GO_ON: AtHand<ControlFlow<()>> = AtHand::Yes(ControlFlow::Continue(()));
        let first = if self.may_contain_hashed(key, hash) { self.plan(key, seqno) } else { None };
        let (Some(first), Some(seqno)) = (first, self.stored_seqno(seqno)) else { return Ok(GO_ON) };
        for number in first..self.tail.index.len() {
            let cached = self.slots().get(number).clone();
            let loaded = cached.map_or_else(|| load::load_one(self, number, wait), |block| Ok(Some(block)));
            let Some(block) = loaded? else { return Ok(AtHand::WouldBlock) };
            let begin = if number == first { block.find(key, seqno) } else { Some(0) };
            for position in begin.unwrap_or(block.count())..block.count() {
                if !block.has_key(position, key) {
                    return Ok(GO_ON);
                }
                let value = self.apart(&block, position).map(|apart| Box::new(apart.of(key)));
                let located = Located { found: self.shown(block.found(position)), value };
                if visit(located).is_break() {
                    return Ok(AtHand::Yes(ControlFlow::Break(())));
                }
                // With a global seqno a key's newest version is its only one.
                if self.global_seqno.is_some() {
                    return Ok(GO_ON);
                }
            }
        }
        Ok(GO_ON)
    }

    /// The one block that holds the newest version of `key` at or below `seqno`, if the table has one. Gather these
    /// for several keys and tables, load them in one call, and ask [`BlockRef::resolve`].
    pub fn plan_get(self: &Arc<Self>, key: &[u8], hash: KeyHash, seqno: Seqno) -> Option<BlockRef> {
        let number = if self.may_contain_hashed(key, hash) { self.plan(key, seqno) } else { None };
        number.map(|number| BlockRef::new(Arc::clone(self), number))
    }

    /// A scan of `range`: the newest version at or below `seqno` of each key, deletes included.
    pub fn scan(self: &Arc<Self>, range: &Arc<KeyRange>, direction: Direction, seqno: Seqno) -> TableScan {
        TableScan::new(Arc::clone(self), Arc::clone(range), direction, seqno)
    }

    /// A walk over all versions within the table's bounds, of keys before `before`, past the cache.
    pub fn cursor(self: &Arc<Self>, before: Option<Key>) -> TableCursor {
        TableCursor::new(Arc::clone(self), before)
    }

    /// Reads the whole file again, past the cache, and checks every byte and every promise of the format, and with it all
    /// values that it points to.
    ///
    /// # Errors
    /// `Corrupt`, naming the file, the byte and the kind of damage.
    pub fn verify(&self) -> Result<TableSummary> {
        // The tail in memory was sound once; what counts is what the file holds now.
        verify::verify(&self.context, &self.meta)
    }

    /// [`verify`](Self::verify) for a table that was opened just now: its tail was read then. Values are read that lie in the
    /// value files that `is_new` names. What is read of the table is given to the cache, for whom `access` says when it is
    /// told the last key of a block.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub fn verify_new(
        &self,
        is_new: &dyn Fn(FileId) -> bool,
        access: impl Fn(&[u8]) -> Access,
    ) -> Result<TableSummary> {
        let (meta, values) = (&*self.meta, &*self.values);
        verify::verify_blocks(&self.context, meta, &self.tail, values, is_new, |number, block| {
            let access = access(self.tail.index.last(number));
            self.keep(number, &Arc::new(block), access);
        })
    }

    /// True when the block in which `key` lies, if it does, is in the cache.
    pub fn is_cached(&self, key: &[u8]) -> bool {
        let number = self.plan(key, Seqno::MAX);
        self.bounds.contains(key) && number.is_some_and(|number| self.slots().peek(number).is_some())
    }

    fn plan(&self, key: &[u8], seqno: Seqno) -> Option<usize> {
        let seqno = self.stored_seqno(seqno)?;
        // All entries of the blocks before come before (key, seqno), and this one's last entry does not.
        let number =
            self.tail.index.partition(key, |last, last_seqno| is_before(last, last_seqno, key, seqno));
        (number < self.tail.index.len()).then_some(number)
    }

    pub(super) fn resolve(&self, block: &Block, key: &[u8], seqno: Seqno) -> Option<Located> {
        let seqno = self.stored_seqno(seqno)?;
        block.find(key, seqno).map(|position| {
            let value = self.apart(block, position).map(|apart| Box::new(apart.of(key)));
            Located { found: self.shown(block.found(position)), value }
        })
    }

    /// Where the value of an entry lies when it is not in the block.
    pub(super) fn apart(&self, block: &Block, position: usize) -> Option<Apart<'_>> {
        Apart::find(&self.values, block.pointer(position)?)
    }

    /// Up to which stored seqno a reader at `seqno` sees; `None` when it sees nothing.
    pub(super) fn stored_seqno(&self, seqno: Seqno) -> Option<Seqno> {
        match self.global_seqno {
            Some(global) => (global <= seqno).then_some(Seqno::MAX),
            None => (self.meta.min_seqno <= seqno).then_some(seqno),
        }
    }

    /// The entry with the seqno that readers see.
    pub(super) fn shown(&self, found: Found) -> Found {
        Found { seqno: self.shown_seqno(found.seqno), ..found }
    }

    /// The seqno that readers see of an entry.
    pub(super) fn shown_seqno(&self, stored: Seqno) -> Seqno {
        self.global_seqno.unwrap_or(stored)
    }

    pub(super) fn context(&self) -> &Context {
        &self.context
    }

    pub(super) fn tail(&self) -> &Tail {
        &self.tail
    }

    pub(super) fn slots(&self) -> &Arc<Slots> {
        &self.cached.slots
    }

    /// Gives a block to the cache.
    /// The blocks of all tables that are in memory.
    pub(super) fn cache(&self) -> &BlockCache {
        &self.cached.cache
    }

    pub(super) fn keep(&self, number: usize, block: &Arc<Block>, access: Access) {
        self.cached.cache.insert(&self.cached.slots, number, block, access);
    }
}

impl Cached {
    fn new(cache: Arc<BlockCache>, tail: &Tail) -> Self {
        let slots = Slots::new(tail.index.len());
        let table_bytes = tail.filter.bytes() + tail.index.bytes() + slots.bytes();
        cache.hold(table_bytes);
        Self { slots, cache, table_bytes }
    }
}

impl Drop for Cached {
    fn drop(&mut self) {
        self.cache.close(&self.slots, self.table_bytes);
    }
}

fn is_before(entry: &[u8], entry_seqno: Seqno, key: &[u8], seqno: Seqno) -> bool {
    entry_order((entry, entry_seqno), (key, seqno)) == Ordering::Less
}
