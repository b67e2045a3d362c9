//! A scan over a tree: memtables and runs merged in key order, the newest version of each key chosen.
//!
//! All blocks that several sources need next are read in one call.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;

use pugdb_core::engine::{BatchSize, Counts, Cursor, Direction, KeyRange, ReadPoint, Room};
use pugdb_core::seam::Wait;
use pugdb_core::{Error, Found, Key, Result, Seqno};

use super::{Tree, Version};
use crate::file::Context;
use crate::memtable::Memtable;
use crate::table::{BlockCache, BlockRef, TableScan, load_blocks};

/// Entries taken from a memtable at a time.
const MEMTABLE_BATCH: BatchSize = BatchSize { entries: 64, bytes: 64 << 10 };

pub(super) struct TreeCursor {
    context: Context,
    cache: Arc<BlockCache>,
    /// Keeps memtables and tables alive.
    _version: Arc<Version>,
    sources: Vec<Source>,
    direction: Direction,
    point: ReadPoint,
    floor: Seqno,
    /// An entry that did not fit the last batch.
    held: Option<(Key, Found)>,
}

/// Where entries come from, newest source first. Each gives the newest version at the read point, a key at a time.
enum Source {
    Memtable {
        memtable: Arc<Memtable>,
        range: Option<KeyRange>,
        ready: VecDeque<(Key, Found)>,
    },
    /// The tables of a run, in the order of the scan; the first one is being read.
    Run(VecDeque<TableScan>),
}

impl TreeCursor {
    pub(super) fn new(
        tree: &Tree,
        version: Arc<Version>,
        range: &KeyRange,
        direction: Direction,
        point: ReadPoint,
    ) -> Result<Self> {
        let memtables = version.memtables.iter().map(|memtable| Source::Memtable {
            memtable: Arc::clone(memtable),
            range: Some(range.clone()),
            ready: VecDeque::new(),
        });
        let mut sources: Vec<Source> = memtables.collect();
        for run in &version.runs {
            let mut scans = VecDeque::new();
            for live in run.tables.iter().filter(|live| live.overlaps(range)) {
                let scan = live.table()?.scan(range.clone(), direction, point.seqno);
                match direction {
                    Direction::Forward => scans.push_back(scan),
                    Direction::Reverse => scans.push_front(scan),
                }
            }
            sources.push(Source::Run(scans));
        }
        let floor = version.floors.at(point.seqno);
        let (context, cache) = (tree.context.clone(), Arc::clone(&tree.cache));
        Ok(Self { context, cache, _version: version, sources, direction, point, floor, held: None })
    }

    /// Makes every source show its next entry, or be over.
    fn prepare(&mut self) -> Result<()> {
        loop {
            let mut needs: Vec<(usize, BlockRef)> = Vec::new();
            for (number, source) in self.sources.iter_mut().enumerate() {
                needs.extend(source.prepare(self.direction, self.point.seqno).map(|block| (number, block)));
            }
            if needs.is_empty() {
                return Ok(());
            }
            let refs: Vec<BlockRef> = needs.iter().map(|(_, block)| block.clone()).collect();
            let blocks = load_blocks(&self.context, &self.cache, &refs, Wait::Always)?;
            let blocks = blocks.ok_or_else(|| Error::internal("a store that may wait did not"))?;
            for ((number, _), block) in needs.into_iter().zip(blocks) {
                if let Source::Run(scans) = &mut self.sources[number]
                    && let Some(scan) = scans.front_mut()
                {
                    scan.supply(block)?;
                }
            }
        }
    }

    /// The next key's newest version, deletes included.
    fn next(&mut self) -> Result<Option<(Key, Found)>> {
        self.prepare()?;
        let mut best: Option<usize> = None;
        for (number, source) in self.sources.iter().enumerate() {
            let Some((key, found)) = source.peek() else { continue };
            let better =
                best.and_then(|best| self.sources[best].peek()).is_none_or(|(best_key, best_found)| {
                    let order = match self.direction {
                        Direction::Forward => key.cmp(best_key),
                        Direction::Reverse => best_key.cmp(key),
                    };
                    order.then(best_found.seqno.cmp(&found.seqno)) == Ordering::Less
                });
            if better {
                best = Some(number);
            }
        }
        let Some(best) = best else { return Ok(None) };
        let chosen = self.sources[best].take()?;
        // The same key's older versions in the other sources are hidden.
        if let Some((key, _)) = &chosen {
            for source in &mut self.sources {
                if source.peek().is_some_and(|(other, _)| other == key) {
                    source.take()?;
                }
            }
        }
        Ok(chosen)
    }
}

impl TreeCursor {
    /// Counts what is left. Values stay where they are: in the cache's blocks and the memtables.
    pub(super) fn count(mut self) -> Result<Counts> {
        let mut counts = Counts::default();
        while let Some((_, found)) = self.next()? {
            if self.is_live(&found) {
                counts.add(&found);
            }
        }
        Ok(counts)
    }

    fn is_live(&self, found: &Found) -> bool {
        found.entry.is_live(self.point.now) && found.seqno > self.floor
    }
}

impl Source {
    /// Moves on until an entry can be seen. Returns the block without which it cannot.
    fn prepare(&mut self, direction: Direction, seqno: Seqno) -> Option<BlockRef> {
        match self {
            Self::Memtable { memtable, range, ready } => {
                while ready.is_empty()
                    && let Some(left) = range.take()
                {
                    let mut batch = Vec::new();
                    let more = memtable.collect(&left, direction, seqno, MEMTABLE_BATCH, &mut batch);
                    *range = batch.last().filter(|_| more).map(|(last, _)| left.after(last, direction));
                    ready.extend(batch);
                }
                None
            }
            Self::Run(scans) => loop {
                let scan = scans.front()?;
                if scan.peek().is_some() {
                    return None;
                }
                if let Some(block) = scan.needs() {
                    return Some(block);
                }
                scans.pop_front();
            },
        }
    }

    fn peek(&self) -> Option<(&Key, &Found)> {
        match self {
            Self::Memtable { ready, .. } => ready.front().map(|(key, found)| (key, found)),
            Self::Run(scans) => scans.front()?.peek(),
        }
    }

    fn take(&mut self) -> Result<Option<(Key, Found)>> {
        match self {
            Self::Memtable { ready, .. } => Ok(ready.pop_front()),
            Self::Run(scans) => scans.front_mut().map_or(Ok(None), TableScan::next),
        }
    }
}

impl Cursor for TreeCursor {
    fn fill(&mut self, size: BatchSize, out: &mut Vec<(Key, Found)>) -> Result<()> {
        let mut room = Room::new(size);
        loop {
            let next = match self.held.take() {
                Some(held) => Some(held),
                None => self.next()?,
            };
            let Some((key, found)) = next else { return Ok(()) };
            if !self.is_live(&found) {
                continue;
            }
            if !room.take(&key, &found) {
                self.held = Some((key, found));
                return Ok(());
            }
            out.push((key, found));
        }
    }
}
