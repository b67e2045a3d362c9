//! A walk over every version of a table, in order: what compaction reads. It shows each version where it lies. Blocks that
//! are in the cache it takes from there, and puts none into it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use pugdb_core::seam::Wait;
use pugdb_core::{Error, Key, RawOp, Result};

use super::block::Block;
use super::reader::Table;
use super::scan::Peek;
use crate::values::{Separation, load_values};

/// Read at once: large enough for a disk's best pace, small enough for a bounded slice of work.
const READ_AHEAD_BYTES: usize = 256 << 10;

/// A walk under way. It begins before the first version: [`advance`](Self::advance) comes first.
pub struct TableCursor {
    table: Arc<Table>,
    /// It shows keys before this one.
    before: Option<Key>,
    /// The blocks still to be read.
    blocks: Range<usize>,
    /// Blocks that were read, the first one being walked.
    ready: VecDeque<Arc<Block>>,
    /// The next entry of that block.
    next: usize,
    current: Option<usize>,
    /// The key of the entry that was visited last, once there is one.
    key: Vec<u8>,
    is_begun: bool,
    moving: Option<Arc<Separation>>,
    /// Values of the block being walked that do not stay where they are, by the numbers of their entries.
    fetched: VecDeque<(usize, Bytes)>,
    /// Counts what is read.
    meter: Arc<AtomicU64>,
}

impl TableCursor {
    pub(super) fn new(table: Arc<Table>, before: Option<Key>) -> Self {
        let (index, bounds) = (&table.tail().index, table.bounds());
        let start = index.partition(&bounds.first, |key, _| *key < *bounds.first);
        let last = before.as_ref().map_or(&bounds.last, |before| before.min(&bounds.last));
        let end = index.partition(last, |key, _| *key <= **last) + 1;
        let blocks = start..end.min(index.len());
        Self {
            table,
            before,
            blocks,
            ready: VecDeque::new(),
            next: 0,
            current: None,
            key: Vec::new(),
            is_begun: false,
            moving: None,
            fetched: VecDeque::new(),
            meter: Arc::default(),
        }
    }

    /// The same walk, which fetches values that do not stay in their value files, and shows them as if they lay here.
    #[must_use]
    pub(crate) fn moving(self, separation: Arc<Separation>) -> Self {
        Self { moving: Some(separation), ..self }
    }

    /// The same walk, which counts on `meter` the bytes that it reads from the store.
    #[must_use]
    pub(crate) fn metered(self, meter: &Arc<AtomicU64>) -> Self {
        Self { meter: Arc::clone(meter), ..self }
    }

    /// The version it is at: by key, and newest first within a key. `None` before the first and behind the last.
    pub fn current(&self) -> Option<Peek<'_>> {
        let (block, position) = (self.ready.front()?, self.current?);
        let seqno = self.table.shown_seqno(block.seqno(position));
        let op = block.op(position, &self.key);
        Some(match self.fetched.front() {
            Some((fetched, value)) if *fetched == position => {
                Peek { seqno, op: RawOp { value, ..op }, apart: None }
            }
            _ => Peek { seqno, op, apart: self.table.apart(block, position) },
        })
    }

    /// Goes on to the next version. False when there is none. Several blocks are read in one call, and so are several
    /// values.
    ///
    /// # Errors
    /// `Corrupt` when a block is damaged, what the store says when one cannot be read.
    pub fn advance(&mut self) -> Result<bool> {
        loop {
            let Some(block) = self.ready.front() else {
                if self.blocks.is_empty() {
                    self.current = None;
                    return Ok(false);
                }
                self.read()?;
                continue;
            };
            if self.next == block.count() {
                self.ready.pop_front();
                (self.next, self.current) = (0, None);
                self.fetched.clear();
                continue;
            }
            let position = self.next;
            self.next += 1;
            // With a global seqno a key's newest version is its only one.
            let is_older =
                self.table.global_seqno().is_some() && self.is_begun && block.has_key(position, &self.key);
            block.copy_key(position, &mut self.key);
            self.is_begun = true;
            let is_shown = !is_older
                && self.table.bounds().contains(&self.key)
                && self.before.as_ref().is_none_or(|before| *self.key < **before);
            if is_shown {
                self.fetch(position)?;
                self.current = Some(position);
                return Ok(true);
            }
        }
    }

    /// Has the value of an entry at hand, if it does not stay where it is. Those of the entries behind come along.
    fn fetch(&mut self, position: usize) -> Result<()> {
        let (Some(separation), Some(block)) = (&self.moving, self.ready.front()) else { return Ok(()) };
        while self.fetched.pop_front_if(|(fetched, _)| *fetched < position).is_some() {}
        let moves = |position: usize| {
            let apart = self.table.apart(block, position)?;
            (!separation.leaves(apart.file.id(), apart.pointer.length)).then_some(apart)
        };
        if self.fetched.front().is_some_and(|(fetched, _)| *fetched == position) || moves(position).is_none()
        {
            return Ok(());
        }
        let (mut positions, mut refs, mut left) = (Vec::new(), Vec::new(), READ_AHEAD_BYTES);
        let (mut key, mut read) = (Vec::new(), 0);
        for (position, apart) in (position..block.count()).filter_map(|at| Some((at, moves(at)?))) {
            let bytes = apart.pointer.bytes.max(apart.pointer.length);
            if bytes > left && !refs.is_empty() {
                break;
            }
            left = left.saturating_sub(bytes);
            block.copy_key(position, &mut key);
            read += apart.pointer.bytes as u64;
            positions.push(position);
            refs.push(apart.of(&key));
        }
        let values = load_values(&refs, Wait::Always)?;
        self.meter.fetch_add(read, Ordering::Relaxed);
        let values = values.ok_or_else(|| Error::internal("a store that may wait did not"))?;
        self.fetched = positions.into_iter().zip(values).collect();
        Ok(())
    }

    fn read(&mut self) -> Result<()> {
        let cached = |number: usize| self.table.slots().peek(number).clone();
        if let Some(block) = cached(self.blocks.start) {
            self.ready.push_back(block);
            self.blocks.start += 1;
            return Ok(());
        }
        let tail = self.table.tail();
        let run = tail.next_run(self.blocks.clone(), READ_AHEAD_BYTES);
        let end = run.clone().find(|&number| cached(number).is_some()).unwrap_or(run.end);
        let blocks = tail.read_run(&*self.table.context().tables, run.start..end)?;
        self.meter.fetch_add(tail.index.length(run.start..end) as u64, Ordering::Relaxed);
        self.ready = blocks.into_iter().map(Arc::new).collect();
        self.blocks.start = end;
        Ok(())
    }
}
