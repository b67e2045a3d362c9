//! A scan of one table: says which block it needs, is given it, and shows one version of each key. No I/O inside.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::ops::{Bound, Range};
use std::sync::Arc;

use bytes::Bytes;
use pugdb_core::RawOp;
use pugdb_core::Seqno;
use pugdb_core::engine::{Direction, KeyRange};

use super::block::{Block, Edge};
use super::load::BlockRef;
use super::reader::Table;
use crate::values::Apart;

/// A scan that had to read so many blocks one after the other goes on: more are read at once from then on.
const READS_BEFORE_AHEAD: u32 = 2;
/// So much is read ahead at first, and twice as much each time after.
const AHEAD_BYTES_MIN: usize = 16 << 10;
/// And never more: a disk gives no more at once in less time, and memory is held for it.
const AHEAD_BYTES_MAX: usize = 256 << 10;

/// A scan under way: of each key in the range, in order, the newest version at or below a seqno.
///
/// While [`needs`](Self::needs) names a block, nothing can be seen: load it (with those of other scans, in one call)
/// and [`supply`](Self::supply) it. When neither [`needs`](Self::needs) nor [`peek`](Self::peek) has anything, the
/// scan is over.
pub struct TableScan {
    table: Arc<Table>,
    range: Arc<KeyRange>,
    direction: Direction,
    /// The newest stored seqno that is seen.
    seqno: Seqno,
    place: Place,
    /// What is shown.
    current: Option<Held>,
    /// Its key. Forward, once nothing is shown, of what was shown last: older versions of it are passed over.
    key: Vec<u8>,
    /// How many times the block it needed had to be read, one after the other.
    reads: u32,
    /// Blocks that were read with an earlier one, the next one first.
    ahead: VecDeque<(usize, Arc<Block>)>,
    /// Forward: something was shown. Reverse: the newest version so far of the key at hand; newer ones may follow.
    seen: Seen,
}

/// What a scan is at, where it lies.
#[derive(Clone, Copy)]
pub struct Peek<'a> {
    /// Its seqno, as readers see it.
    pub seqno: Seqno,
    /// Its key, and all that it says; without a value that lies in a value file.
    pub op: RawOp<'a>,
    /// Where its value lies, when that is not here.
    pub(crate) apart: Option<Apart<'a>>,
}

impl Peek<'_> {
    /// The length of its value, wherever that lies.
    pub(crate) fn value_bytes(&self) -> usize {
        self.apart.map_or(self.op.value.len(), |apart| apart.pointer.length)
    }
}

/// An entry that the scan has come to.
enum Held {
    /// In the block at hand.
    Here(usize),
    /// In a block that the scan has left.
    There(Arc<Block>, usize),
}

enum Seen {
    Nothing,
    Shown,
    Candidate(Held),
}

enum Place {
    /// This block is needed next.
    Needs(usize),
    In(Visit),
    Over,
}

/// A block that is visited.
struct Visit {
    number: usize,
    block: Arc<Block>,
    /// Forward: the next entry. Reverse: the entry visited last.
    next: usize,
    /// Forward: how many entries are in the range. Reverse: how many are before it.
    end: usize,
    /// The scan's key begins as all keys of this block do.
    has_prefix: bool,
}

impl TableScan {
    pub(super) fn new(table: Arc<Table>, range: Arc<KeyRange>, direction: Direction, seqno: Seqno) -> Self {
        let seqno = table.stored_seqno(seqno).filter(|_| !range.is_empty());
        let (place, key) = (Place::Over, Vec::new());
        let mut scan = Self {
            table,
            range,
            direction,
            seqno: seqno.unwrap_or_default(),
            place,
            current: None,
            key,
            reads: 0,
            ahead: VecDeque::new(),
            seen: Seen::Nothing,
        };
        if seqno.is_some() && is_before(scan.lower(), scan.upper()) {
            scan.place = scan.first();
        }
        scan
    }

    /// Goes on with another range, for a reader at `seqno`.
    pub(crate) fn restart(&mut self, range: &Arc<KeyRange>, seqno: Seqno) {
        *self = Self::new(Arc::clone(&self.table), Arc::clone(range), self.direction, seqno);
    }

    /// Where the scan begins.
    fn first(&self) -> Place {
        let index = &self.table.tail().index;
        let last = index.len() - 1;
        let edge = match self.direction {
            Direction::Forward => self.lower(),
            Direction::Reverse => self.upper(),
        };
        let first = index.partition(edge.0, |key, _| is_inside(key, edge));
        match self.direction {
            Direction::Forward if first > last => Place::Over,
            Direction::Forward => Place::Needs(first),
            Direction::Reverse => Place::Needs(first.min(last)),
        }
    }

    /// The edge before the first entry that may be shown.
    fn lower(&self) -> (&[u8], Edge) {
        let bounds = (&*self.table.bounds().first, Edge::At(Seqno::MAX));
        let asked = match &self.range.start {
            Bound::Included(key) => (key.as_slice(), Edge::At(Seqno::MAX)),
            Bound::Excluded(key) => (key.as_slice(), Edge::Past),
            Bound::Unbounded => return bounds,
        };
        if is_before(asked, bounds) { bounds } else { asked }
    }

    /// The edge behind the last one.
    fn upper(&self) -> (&[u8], Edge) {
        let bounds = (&*self.table.bounds().last, Edge::Past);
        let asked = match &self.range.end {
            Bound::Included(key) => (key.as_slice(), Edge::Past),
            Bound::Excluded(key) => (key.as_slice(), Edge::At(Seqno::MAX)),
            Bound::Unbounded => return bounds,
        };
        if is_before(bounds, asked) { bounds } else { asked }
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

    /// What is worth reading together with the block that the scan [`needs`](Self::needs), in the order in which it will need
    /// them.
    pub fn needs_ahead(&self) -> Vec<BlockRef> {
        let Place::Needs(needed) = self.place else { return Vec::new() };
        let Some(times) = self.reads.checked_sub(READS_BEFORE_AHEAD) else { return Vec::new() };
        let mut left = AHEAD_BYTES_MAX.min(AHEAD_BYTES_MIN << times.min(8));
        let (index, mut last) = (&self.table.tail().index, needed);
        let mut ahead = Vec::new();
        loop {
            let next = match self.direction {
                Direction::Forward if is_inside(index.last(last), self.upper()) => last + 1,
                Direction::Reverse if last > 0 && !is_inside(index.last(last - 1), self.lower()) => last - 1,
                _ => return ahead,
            };
            let length = index.length(next..next + 1);
            if next == index.len() || length > left {
                return ahead;
            }
            ahead.push(BlockRef::new(Arc::clone(&self.table), next));
            (left, last) = (left - length, next);
        }
    }

    /// Gives the scan the block it [`needs`](Self::needs), which had to be loaded, and those
    /// [ahead](Self::needs_ahead).
    pub fn supply_loaded(&mut self, block: Arc<Block>, ahead: impl Iterator<Item = (BlockRef, Arc<Block>)>) {
        self.reads += 1;
        self.ahead.extend(ahead.map(|(place, block)| (place.number(), block)));
        self.supply(block);
    }

    /// Takes the blocks it [`needs`](Self::needs) as long as they were read ahead or are in the cache.
    pub fn supply_cached(&mut self) {
        while self.current.is_none()
            && let Place::Needs(number) = self.place
        {
            if let Some((_, block)) = self.ahead.pop_front_if(|(ahead, _)| *ahead == number) {
                self.supply(block);
                continue;
            }
            let Some(block) = self.table.slots().get(number).clone() else { return };
            self.table.cache().hit();
            // What others have read is no reason to read ahead.
            self.reads = 0;
            self.supply(block);
        }
    }

    /// Gives the scan the block it [`needs`](Self::needs). It may then need another one.
    pub fn supply(&mut self, block: Arc<Block>) {
        let Place::Needs(number) = self.place else { return };
        let last = self.table.tail().index.last(number);
        let (lower, upper) = (self.lower(), self.upper());
        // The other ends of most blocks are within the range: only the first and the last one are searched.
        let end_is_inside = is_inside(last, upper);
        let (next, end) = match self.direction {
            Direction::Forward => {
                let begins_here = matches!(self.seen, Seen::Nothing);
                let next = if begins_here { block.seek(lower.0, lower.1) } else { 0 };
                (next, if end_is_inside { block.count() } else { block.seek(upper.0, upper.1) })
            }
            Direction::Reverse => {
                let next = if end_is_inside { block.count() } else { block.seek(upper.0, upper.1) };
                (next, block.seek(lower.0, lower.1).min(next))
            }
        };
        // The first values lie where nobody has looked yet.
        block.prefetch(match self.direction {
            Direction::Forward => next,
            Direction::Reverse => next.saturating_sub(1),
        });
        self.place = Place::In(Visit { number, block, next, end, has_prefix: false });
        self.settle();
    }

    /// True when there is something to see.
    pub fn is_ready(&self) -> bool {
        self.current.is_some()
    }

    /// The key and the seqno of what [`peek`](Self::peek) shows.
    pub fn peek_key(&self) -> Option<(&[u8], Seqno)> {
        let (block, position) = self.held()?;
        Some((&self.key, self.table.shown_seqno(block.seqno(position))))
    }

    /// What the scan is at.
    pub fn peek(&self) -> Option<Peek<'_>> {
        let (block, position) = self.held()?;
        let seqno = self.table.shown_seqno(block.seqno(position));
        Some(Peek { seqno, op: block.op(position, &self.key), apart: self.table.apart(block, position) })
    }

    /// A value that [`peek`](Self::peek) shows as something that can be kept.
    pub fn share(&self, value: &[u8]) -> Bytes {
        self.held().map_or_else(Bytes::new, |(block, _)| block.share(value))
    }

    fn held(&self) -> Option<(&Block, usize)> {
        match (self.current.as_ref()?, &self.place) {
            (Held::There(block, position), _) => Some((block, *position)),
            (Held::Here(position), Place::In(visit)) => Some((&visit.block, *position)),
            (Held::Here(_), _) => None,
        }
    }

    /// Goes on to the next key.
    pub fn advance(&mut self) {
        if self.current.take().is_some() {
            self.settle();
        }
    }

    /// Forward: the entries from the one that is shown on to `bound`, when all of them are plain puts above `floor`, each
    /// the only version of its key.
    pub(crate) fn plain_run(&self, bound: Option<&[u8]>, floor: Seqno) -> Option<(&Block, Range<usize>)> {
        let (Some(Held::Here(start)), Place::In(visit)) = (&self.current, &self.place) else { return None };
        let (start, block) = (*start, &*visit.block);
        let is_plain = self.direction == Direction::Forward
            && self.table.global_seqno().is_none()
            && block.is_plain(floor, self.seqno);
        if !is_plain {
            return None;
        }
        let end = match bound {
            Some(bound) => visit.end.min(block.seek_ahead(start, bound, Edge::At(Seqno::MAX))),
            None => visit.end,
        };
        Some((block, start..end.max(start + 1)))
    }

    /// Goes on behind so many entries of the [plain run](Self::plain_run).
    pub(crate) fn pass(&mut self, count: usize) {
        let (Some(Held::Here(start)), Place::In(visit)) = (&self.current, &mut self.place) else { return };
        let Some(last) = (start + count).checked_sub(1).filter(|_| count > 0) else { return };
        visit.block.copy_key(last, &mut self.key);
        visit.next = last + 1;
        self.current = None;
        self.settle();
    }

    /// Moves on until there is something to show, a block is needed, or the scan is over.
    fn settle(&mut self) {
        match self.direction {
            Direction::Forward => self.settle_forward(),
            Direction::Reverse => self.settle_back(),
        }
    }

    fn settle_forward(&mut self) {
        let Place::In(visit) = &mut self.place else { return };
        let (block, has_shown) = (&*visit.block, matches!(self.seen, Seen::Shown));
        while visit.next < visit.end {
            let position = visit.next;
            visit.next += 1;
            let can_be_older = has_shown && (position == 0 || block.has_versions());
            if can_be_older && block.has_key(position, &self.key) || block.seqno(position) > self.seqno {
                continue;
            }
            if visit.has_prefix {
                self.key.truncate(block.prefix().len());
                self.key.extend_from_slice(block.suffix(position));
            } else {
                block.copy_key(position, &mut self.key);
                visit.has_prefix = true;
            }
            self.current = Some(Held::Here(position));
            self.seen = Seen::Shown;
            return;
        }
        let following = visit.number + 1;
        let has_more = visit.end == block.count() && following < self.table.tail().index.len();
        self.place = if has_more { Place::Needs(following) } else { Place::Over };
    }

    fn settle_back(&mut self) {
        while let Place::In(visit) = &mut self.place
            && self.current.is_none()
        {
            if visit.next == visit.end {
                self.leave_back();
                continue;
            }
            let position = visit.next - 1;
            let has_candidate = matches!(self.seen, Seen::Candidate(_));
            if has_candidate && !visit.block.has_key(position, &self.key) {
                self.show_candidate();
                return;
            }
            visit.next = position;
            if visit.block.seqno(position) <= self.seqno {
                if !has_candidate {
                    visit.block.copy_key(position, &mut self.key);
                }
                self.seen = Seen::Candidate(Held::Here(position));
            }
        }
    }

    fn show_candidate(&mut self) {
        if let Seen::Candidate(held) = std::mem::replace(&mut self.seen, Seen::Nothing) {
            self.current = Some(held);
        }
    }

    /// Goes on to the block before, or shows the last key of this one first.
    fn leave_back(&mut self) {
        let Place::In(visit) = &self.place else { return };
        let index = &self.table.tail().index;
        let preceding = visit.number.checked_sub(1).filter(|_| visit.end == 0);
        let preceding = preceding.filter(|&number| !is_inside(index.last(number), self.lower()));
        match (preceding, &self.seen) {
            // Newer versions of the candidate can only lie there when that block ends with its key.
            (Some(number), Seen::Candidate(held)) if index.last(number) == &*self.key => {
                if let Held::Here(position) = held {
                    self.seen = Seen::Candidate(Held::There(Arc::clone(&visit.block), *position));
                }
                self.place = Place::Needs(number);
            }
            (_, Seen::Candidate(_)) => self.show_candidate(),
            (Some(number), _) => self.place = Place::Needs(number),
            (None, _) => self.place = Place::Over,
        }
    }
}

/// True when the versions of `key` lie before an edge.
fn is_inside(key: &[u8], edge: (&[u8], Edge)) -> bool {
    match key.cmp(edge.0) {
        Ordering::Equal => edge.1 == Edge::Past,
        order => order == Ordering::Less,
    }
}

/// True when there is something between two edges.
fn is_before(one: (&[u8], Edge), other: (&[u8], Edge)) -> bool {
    match one.0.cmp(other.0) {
        Ordering::Equal => (one.1, other.1) == (Edge::At(Seqno::MAX), Edge::Past),
        order => order == Ordering::Less,
    }
}
