//! A scan of one table: says which block it needs, is given it, and shows one version of each key. No I/O inside.

use std::sync::Arc;

use pugdb_core::engine::{Direction, KeyRange};
use pugdb_core::{Found, Key, Result, Seqno};

use super::block::Block;
use super::load::BlockRef;
use super::reader::Table;

/// A scan under way: of each key in the range, in order, the newest version at or below a seqno.
///
/// While [`needs`](Self::needs) names a block, nothing can be seen: load it (with those of other scans, in one call)
/// and [`supply`](Self::supply) it. When neither [`needs`](Self::needs) nor [`peek`](Self::peek) has anything, the
/// scan is over.
pub struct TableScan {
    table: Arc<Table>,
    range: KeyRange,
    direction: Direction,
    /// The newest stored seqno that is seen.
    seqno: Seqno,
    place: Place,
    /// What is shown.
    current: Option<(Key, Found)>,
    /// Forward: the key shown last, whose older versions are passed over.
    shown: Option<Key>,
    /// Reverse: the newest version so far of the key at hand; newer ones may follow.
    candidate: Option<(Key, Found)>,
}

enum Place {
    /// This block is needed next.
    Needs(usize),
    /// In a block. Forward: `next` entries were visited. Reverse: `next` are left.
    In {
        number: usize,
        block: Block,
        next: usize,
    },
    Over,
}

impl TableScan {
    pub(super) fn new(table: Arc<Table>, range: KeyRange, direction: Direction, seqno: Seqno) -> Self {
        let range = table.bounds().clamp(range);
        let seqno = table.stored_seqno(seqno).filter(|_| !range.is_empty());
        let index = &table.tail().index;
        let last = index.blocks().len() - 1;
        let first = match direction {
            Direction::Forward => index.partition(|key, _| is_before(&range, key)),
            Direction::Reverse => index.partition(|key, _| !range.ends_before(key)).min(last),
        };
        let place = if seqno.is_some() && first <= last { Place::Needs(first) } else { Place::Over };
        let seqno = seqno.unwrap_or_default();
        Self { table, range, direction, seqno, place, current: None, shown: None, candidate: None }
    }

    /// The block without which the scan cannot go on.
    pub fn needs(&self) -> Option<BlockRef> {
        match self.place {
            Place::Needs(number) if self.current.is_none() => {
                Some(BlockRef::new(Arc::clone(&self.table), number))
            }
            _ => None,
        }
    }

    /// Gives the scan the block it [`needs`](Self::needs). It may then need another one.
    ///
    /// # Errors
    /// `Corrupt` when the block's content is damaged.
    pub fn supply(&mut self, block: Block) -> Result<()> {
        let Place::Needs(number) = self.place else { return Ok(()) };
        let next = match self.direction {
            Direction::Forward => block.partition(|key, _| is_before(&self.range, key)),
            Direction::Reverse => block.partition(|key, _| !self.range.ends_before(key)),
        };
        let next = next.map_err(|error| error.at(self.table.tail().place(number)))?;
        self.place = Place::In { number, block, next };
        self.settle()
    }

    /// The key the scan is at, and its version.
    pub fn peek(&self) -> Option<(&Key, &Found)> {
        self.current.as_ref().map(|(key, found)| (key, found))
    }

    /// Goes on to the next key.
    ///
    /// # Errors
    /// `Corrupt` when the block's content is damaged.
    pub fn advance(&mut self) -> Result<()> {
        self.next().map(drop)
    }

    /// What [`peek`](Self::peek) shows; the scan goes on to the next key.
    ///
    /// # Errors
    /// `Corrupt` when the block's content is damaged; the entry is lost then.
    #[expect(clippy::should_implement_trait, reason = "an iterator would end where a scan needs a block")]
    pub fn next(&mut self) -> Result<Option<(Key, Found)>> {
        let current = self.current.take();
        if current.is_some() {
            self.settle()?;
        }
        Ok(current)
    }

    /// Moves on until there is something to show, a block is needed, or the scan is over.
    fn settle(&mut self) -> Result<()> {
        while let Place::In { number, .. } = self.place
            && self.current.is_none()
        {
            let step = match self.direction {
                Direction::Forward => self.step_forward(),
                Direction::Reverse => self.step_back(),
            };
            step.map_err(|error| error.at(self.table.tail().place(number)))?;
        }
        Ok(())
    }

    fn step_forward(&mut self) -> Result<()> {
        let Place::In { number, block, next } = &mut self.place else { return Ok(()) };
        if *next == block.count() {
            let following = *number + 1;
            let more = following < self.table.tail().index.blocks().len();
            self.place = if more { Place::Needs(following) } else { Place::Over };
            return Ok(());
        }
        let (seqno, raw) = block.raw(*next)?;
        if self.range.ends_before(raw.key) {
            self.place = Place::Over;
            return Ok(());
        }
        if seqno <= self.seqno && self.shown.as_ref().is_none_or(|shown| *shown != *raw.key) {
            let (key, found) = block.entry(*next)?;
            self.shown = Some(key.clone());
            self.current = Some((key, self.table.shown(found)));
        }
        *next += 1;
        Ok(())
    }

    fn step_back(&mut self) -> Result<()> {
        let Place::In { number, block, next } = &mut self.place else { return Ok(()) };
        let Some(at) = next.checked_sub(1) else {
            let Some(preceding) = number.checked_sub(1) else { return self.end_back() };
            let last = &self.table.tail().index.blocks()[preceding].last;
            // Newer versions of the candidate can only lie there when that block ends with its key.
            if self.candidate.as_ref().is_some_and(|(key, _)| *key != last[..]) {
                self.current = self.candidate.take();
            }
            self.place = if is_before(&self.range, last) { Place::Over } else { Place::Needs(preceding) };
            if let Place::Over = self.place {
                return self.end_back();
            }
            return Ok(());
        };
        let (seqno, raw) = block.raw(at)?;
        if self.candidate.as_ref().is_some_and(|(key, _)| *key != *raw.key) {
            self.current = self.candidate.take();
            return Ok(());
        }
        if is_before(&self.range, raw.key) {
            return self.end_back();
        }
        if seqno <= self.seqno {
            let (key, found) = block.entry(at)?;
            self.candidate = Some((key, self.table.shown(found)));
        }
        *next = at;
        Ok(())
    }

    /// No more entries: the candidate is the last one shown.
    #[expect(clippy::unnecessary_wraps, reason = "ends a step, and steps can fail")]
    fn end_back(&mut self) -> Result<()> {
        self.place = Place::Over;
        if self.current.is_none() {
            self.current = self.candidate.take();
        }
        Ok(())
    }
}

/// True when `key` lies before the lower end of the range.
fn is_before(range: &KeyRange, key: &[u8]) -> bool {
    !range.ends_before(key) && !range.contains(key)
}
