//! A scan of one table: says which block it needs, is given it, and shows one version of each key. No I/O inside.

use std::ops::Bound;
use std::sync::Arc;

use pugdb_core::engine::{Direction, KeyRange};
use pugdb_core::{EntryKind, Error, Found, Key, Result, Seqno, Timestamp};

use super::block::{Block, Spot};
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
    current: Option<Held>,
    /// Forward: the key shown last, whose older versions are passed over.
    shown: Shown,
    /// Reverse: the newest version so far of the key at hand; newer ones may follow.
    candidate: Option<Held>,
}

/// What merging asks of the entry that a scan is at.
#[derive(Clone, Copy)]
pub struct Peek<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// Its seqno, as readers see it.
    pub seqno: Seqno,
    /// Value or delete.
    pub kind: EntryKind,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// How long its value is.
    pub value_bytes: usize,
}

impl Peek<'_> {
    /// True when a reader at `now` sees a value.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.kind == EntryKind::Put && self.expires_at.is_none_or(|at| now < at)
    }
}

/// An entry that the scan has come to: where it lies in the block at hand, or itself when that block is gone.
enum Held {
    Here(Spot),
    Owned(Key, Found),
}

enum Shown {
    Nothing,
    /// In the block at hand.
    Here(Spot),
    Owned(Key),
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
        let first = match (direction, &range.start, &range.end) {
            (Direction::Forward, Bound::Unbounded, _) => 0,
            (Direction::Forward, Bound::Included(near) | Bound::Excluded(near), _) => {
                index.partition(near, |key, _| range.starts_after(key))
            }
            (Direction::Reverse, _, Bound::Unbounded) => last,
            (Direction::Reverse, _, Bound::Included(near) | Bound::Excluded(near)) => {
                index.partition(near, |key, _| !range.ends_before(key)).min(last)
            }
        };
        let place = if seqno.is_some() && first <= last { Place::Needs(first) } else { Place::Over };
        let seqno = seqno.unwrap_or_default();
        Self { table, range, direction, seqno, place, current: None, shown: Shown::Nothing, candidate: None }
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
        let next = match (self.direction, &self.range.start, &self.range.end) {
            (Direction::Forward, Bound::Unbounded, _) => Ok(0),
            (Direction::Forward, Bound::Included(near) | Bound::Excluded(near), _) => {
                block.partition(near, |key, _| self.range.starts_after(key))
            }
            (Direction::Reverse, _, Bound::Unbounded) => Ok(block.count()),
            (Direction::Reverse, _, Bound::Included(near) | Bound::Excluded(near)) => {
                block.partition(near, |key, _| !self.range.ends_before(key))
            }
        };
        let next = next.map_err(|error| error.at(self.table.tail().place(number)))?;
        self.place = Place::In { number, block, next };
        self.settle()
    }

    /// What the scan is at.
    pub fn peek(&self) -> Option<Peek<'_>> {
        match self.current.as_ref()? {
            Held::Here(spot) => Some(Peek {
                key: self.block()?.key(spot),
                seqno: self.table.shown_seqno(spot.seqno),
                kind: spot.kind,
                expires_at: spot.expires_at,
                value_bytes: spot.value_bytes,
            }),
            Held::Owned(key, found) => Some(Peek {
                key,
                seqno: found.seqno,
                kind: found.entry.kind,
                expires_at: found.entry.expires_at,
                value_bytes: found.entry.value.len(),
            }),
        }
    }

    /// Goes on to the next key.
    ///
    /// # Errors
    /// `Corrupt` when the block's content is damaged.
    pub fn advance(&mut self) -> Result<()> {
        match self.current.take() {
            Some(_) => self.settle(),
            None => Ok(()),
        }
    }

    /// What [`peek`](Self::peek) shows; the scan goes on to the next key.
    ///
    /// # Errors
    /// `Corrupt` when the block's content is damaged; the entry is lost then.
    #[expect(clippy::should_implement_trait, reason = "an iterator would end where a scan needs a block")]
    pub fn next(&mut self) -> Result<Option<(Key, Found)>> {
        let Some(current) = self.current.take() else { return Ok(None) };
        let entry = self.own(current)?;
        self.settle()?;
        Ok(Some(entry))
    }

    fn block(&self) -> Option<&Block> {
        match &self.place {
            Place::In { block, .. } => Some(block),
            _ => None,
        }
    }

    /// The entry itself, its key and value still views of the block.
    fn own(&self, held: Held) -> Result<(Key, Found)> {
        match (held, &self.place) {
            (Held::Owned(key, found), _) => Ok((key, found)),
            (Held::Here(spot), Place::In { number, block, .. }) => {
                let (key, found) =
                    block.at(&spot).map_err(|error| error.at(self.table.tail().place(*number)))?;
                Ok((key, self.table.shown(found)))
            }
            (Held::Here(_), _) => Err(Error::internal("a scan has let go of the block that it shows")),
        }
    }

    /// Makes an entry outlive the block at hand.
    fn keep(&self, held: Option<Held>) -> Result<Option<Held>> {
        held.map(|held| self.own(held).map(|(key, found)| Held::Owned(key, found))).transpose()
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
            if let Shown::Here(spot) = &self.shown {
                self.shown = Shown::Owned(block.owned_key(spot)?);
            }
            let following = *number + 1;
            let more = following < self.table.tail().index.blocks().len();
            self.place = if more { Place::Needs(following) } else { Place::Over };
            return Ok(());
        }
        let spot = block.spot(*next)?;
        let key = block.key(&spot);
        if self.range.ends_before(key) {
            self.place = Place::Over;
            return Ok(());
        }
        *next += 1;
        let is_older = match &self.shown {
            Shown::Nothing => false,
            Shown::Here(shown) => block.key(shown) == key,
            Shown::Owned(shown) => *shown == *key,
        };
        if spot.seqno <= self.seqno && !is_older {
            self.shown = Shown::Here(spot.clone());
            self.current = Some(Held::Here(spot));
        }
        Ok(())
    }

    fn step_back(&mut self) -> Result<()> {
        let Place::In { number, block, next } = &self.place else { return Ok(()) };
        let Some(at) = next.checked_sub(1) else {
            let Some(preceding) = number.checked_sub(1) else { return self.end_back() };
            let last = &self.table.tail().index.blocks()[preceding].last;
            let is_over = self.range.starts_after(last);
            // Newer versions of the candidate can only lie there when that block ends with its key.
            let is_whole = self.candidate.as_ref().is_some_and(|held| self.key_of(held) != &last[..]);
            if is_over {
                return self.end_back();
            }
            let candidate = self.candidate.take();
            let candidate = self.keep(candidate)?;
            *(if is_whole { &mut self.current } else { &mut self.candidate }) = candidate;
            self.place = Place::Needs(preceding);
            return Ok(());
        };
        let spot = block.spot(at)?;
        let key = block.key(&spot);
        if self.candidate.as_ref().is_some_and(|held| self.key_of(held) != key) {
            self.current = self.candidate.take();
            return Ok(());
        }
        if self.range.starts_after(key) {
            return self.end_back();
        }
        if spot.seqno <= self.seqno {
            self.candidate = Some(Held::Here(spot));
        }
        if let Place::In { next, .. } = &mut self.place {
            *next = at;
        }
        Ok(())
    }

    fn key_of<'a>(&'a self, held: &'a Held) -> &'a [u8] {
        match (held, self.block()) {
            (Held::Owned(key, _), _) => key,
            (Held::Here(spot), Some(block)) => block.key(spot),
            (Held::Here(_), None) => &[],
        }
    }

    /// No more entries: the candidate is the last one shown.
    fn end_back(&mut self) -> Result<()> {
        let last = self.candidate.take();
        self.current = self.keep(last)?;
        self.place = Place::Over;
        Ok(())
    }
}
