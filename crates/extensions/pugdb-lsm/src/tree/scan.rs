//! A scan over a tree: memtables and runs merged in key order, the newest version of each key chosen.
//!
//! All blocks that several sources need next are read in one call.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use pugdb_core::engine::{BatchSize, Counts, Cursor, Direction, KeyRange, ReadPoint, Room};
use pugdb_core::seam::Wait;
use pugdb_core::{Error, Found, Key, Result, Seqno};

use super::{Tree, Version};
use crate::file::Context;
use crate::memtable::MemtableScan;
use crate::table::{BlockCache, BlockRef, Peek, TableScan, load_blocks};

pub(super) struct TreeCursor {
    context: Context,
    cache: Arc<BlockCache>,
    sources: Vec<Source>,
    direction: Direction,
    point: ReadPoint,
    floor: Seqno,
    /// Of the key that was chosen last: the sources that hold older versions of it.
    hidden: Vec<usize>,
}

/// Where entries come from, newest source first. Each gives the newest version at the read point, a key at a time.
enum Source {
    Memtable(MemtableScan),
    Run(Box<RunScan>),
}

/// The tables of a run, one after the other.
struct RunScan {
    range: KeyRange,
    direction: Direction,
    seqno: Seqno,
    /// Holds the run, which has this place in it.
    version: Arc<Version>,
    run: usize,
    /// The tables that are not begun. A run may have thousands, and a scan end in the first.
    left: Range<usize>,
    current: Option<TableScan>,
}

/// What a batch holds: entries of tables as they came, and which memtable gives the next of those it picked.
enum Taken {
    Entry((Key, Found)),
    PickedBy(usize),
}

impl TreeCursor {
    pub(super) fn new(
        tree: &Tree,
        version: &Arc<Version>,
        range: &KeyRange,
        direction: Direction,
        point: ReadPoint,
    ) -> Self {
        let memtables = version.memtables.iter();
        let mut sources: Vec<Source> = memtables
            .map(|memtable| Source::Memtable(memtable.scan(range, direction, point.seqno)))
            .collect();
        sources.extend(version.runs.iter().enumerate().map(|(run, tables)| {
            Source::Run(Box::new(RunScan {
                range: range.clone(),
                direction,
                seqno: point.seqno,
                version: Arc::clone(version),
                run,
                left: tables.overlapping(range),
                current: None,
            }))
        }));
        let floor = version.floors.at(point.seqno);
        let (context, cache) = (tree.context.clone(), Arc::clone(&tree.cache));
        Self { context, cache, sources, direction, point, floor, hidden: Vec::new() }
    }

    /// Makes every source show its next entry, or be over.
    fn prepare(&mut self) -> Result<()> {
        loop {
            let mut needs: Vec<(usize, BlockRef)> = Vec::new();
            for (number, source) in self.sources.iter_mut().enumerate() {
                needs.extend(source.prepare()?.map(|block| (number, block)));
            }
            if needs.is_empty() {
                return Ok(());
            }
            let refs: Vec<BlockRef> = needs.iter().map(|(_, block)| block.clone()).collect();
            let blocks = load_blocks(&self.context, &self.cache, &refs, Wait::Always)?;
            let blocks = blocks.ok_or_else(|| Error::internal("a store that may wait did not"))?;
            for ((number, _), block) in needs.into_iter().zip(blocks) {
                if let Source::Run(run) = &mut self.sources[number]
                    && let Some(scan) = &mut run.current
                {
                    scan.supply(block)?;
                }
            }
        }
    }

    /// The source that shows the newest version of the next key, deletes included.
    fn choose(&mut self) -> Result<Option<usize>> {
        self.prepare()?;
        self.hidden.clear();
        let mut best: Option<(usize, Peek<'_>)> = None;
        for (number, source) in self.sources.iter().enumerate() {
            let Some(peek) = source.peek() else { continue };
            let Some((best_number, best_peek)) = best else {
                best = Some((number, peek));
                continue;
            };
            let order = match self.direction {
                Direction::Forward => peek.key.cmp(best_peek.key),
                Direction::Reverse => best_peek.key.cmp(peek.key),
            };
            match order {
                Ordering::Greater => continue,
                Ordering::Equal if peek.seqno < best_peek.seqno => {
                    self.hidden.push(number);
                    continue;
                }
                Ordering::Equal => self.hidden.push(best_number),
                Ordering::Less => self.hidden.clear(),
            }
            best = Some((number, peek));
        }
        Ok(best.map(|(number, _)| number))
    }

    /// Goes on behind the key that was chosen, in the sources that hold older versions of it.
    fn pass_hidden(&mut self) -> Result<()> {
        self.hidden.iter().try_for_each(|&number| self.sources[number].advance())
    }
}

impl TreeCursor {
    /// Counts what is left. Values stay where they are: in the cache's blocks and the memtables.
    pub(super) fn count(mut self) -> Result<Counts> {
        let mut counts = Counts::default();
        while let Some(number) = self.choose()? {
            if let Some(peek) = self.live(number) {
                counts.add(peek.expires_at);
            }
            self.sources[number].advance()?;
            self.pass_hidden()?;
        }
        Ok(counts)
    }

    /// What a source shows, if a reader sees it.
    fn live(&self, number: usize) -> Option<Peek<'_>> {
        self.sources[number].peek().filter(|peek| peek.is_live(self.point.now) && peek.seqno > self.floor)
    }

    /// Takes entries until a batch is full.
    fn take(&mut self, size: BatchSize) -> Result<Vec<Taken>> {
        let mut room = Room::new(size);
        let mut taken = Vec::new();
        while let Some(number) = self.choose()? {
            match self.live(number).map(|peek| peek.key.len() + peek.value_bytes) {
                None => self.sources[number].advance()?,
                Some(bytes) if !room.take_bytes(bytes) => break,
                Some(_) => match &mut self.sources[number] {
                    Source::Memtable(scan) => {
                        scan.pick();
                        taken.push(Taken::PickedBy(number));
                    }
                    Source::Run(run) => {
                        let next = run.current.as_mut().map_or(Ok(None), TableScan::next)?;
                        taken.extend(next.map(Taken::Entry));
                    }
                },
            }
            self.pass_hidden()?;
        }
        Ok(taken)
    }
}

impl RunScan {
    /// Goes on to the next table. False when there is none.
    fn begin_next(&mut self) -> Result<bool> {
        let next = match self.direction {
            Direction::Forward => self.left.next(),
            Direction::Reverse => self.left.next_back(),
        };
        let tables = &self.version.runs[self.run].tables;
        let table = next.map(|next| tables[next].table()).transpose()?;
        self.current = table.map(|table| table.scan(self.range.clone(), self.direction, self.seqno));
        Ok(self.current.is_some())
    }
}

impl Source {
    /// Moves on until an entry can be seen. Returns the block without which it cannot.
    fn prepare(&mut self) -> Result<Option<BlockRef>> {
        let Self::Run(run) = self else { return Ok(None) };
        loop {
            if let Some(scan) = &run.current {
                if scan.peek().is_some() {
                    return Ok(None);
                }
                if let Some(block) = scan.needs() {
                    return Ok(Some(block));
                }
            }
            if !run.begin_next()? {
                return Ok(None);
            }
        }
    }

    fn peek(&self) -> Option<Peek<'_>> {
        match self {
            Self::Memtable(scan) => scan.peek(),
            Self::Run(run) => run.current.as_ref()?.peek(),
        }
    }

    fn advance(&mut self) -> Result<()> {
        match self {
            Self::Memtable(scan) => scan.advance(),
            Self::Run(run) => run.current.as_mut().map_or(Ok(()), TableScan::advance)?,
        }
        Ok(())
    }

    fn take_picked(&mut self) -> Option<impl Iterator<Item = (Key, Found)> + use<>> {
        match self {
            Self::Memtable(scan) => Some(scan.take_picked()),
            Self::Run(_) => None,
        }
    }
}

impl Cursor for TreeCursor {
    fn fill(&mut self, size: BatchSize, out: &mut Vec<(Key, Found)>) -> Result<()> {
        let taken = self.take(size)?;
        let mut picked: Vec<_> = self.sources.iter_mut().map(Source::take_picked).collect();
        out.extend(taken.into_iter().filter_map(|one| match one {
            Taken::Entry(entry) => Some(entry),
            Taken::PickedBy(number) => picked[number].as_mut()?.next(),
        }));
        Ok(())
    }
}
