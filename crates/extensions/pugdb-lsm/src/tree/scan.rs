//! A scan over a tree: memtables and runs merged in key order, the newest version of each key chosen.
//!
//! All blocks that several sources need next are read in one call. One source at a time gives its entries, as long as they
//! come before those of all others.

use std::cmp::Ordering;
use std::ops::{Bound, Range};
use std::sync::Arc;

use bytes::Bytes;
use pugdb_core::engine::{BatchSize, Counts, Cursor, Direction, Entries, KeyRange, ReadPoint, Room};
use pugdb_core::seam::Wait;
use pugdb_core::{EntryKind, Error, Found, Key, Result, Seqno, Timestamp};

use super::Version;
use crate::memtable::MemtableScan;
use crate::table::{Access, Block, BlockRef, Peek, TableScan, load_blocks};
use crate::tombstones::Stretch;
use crate::values::{ValueRef, load_values};

pub(super) struct TreeCursor {
    version: Arc<Version>,
    range: Arc<KeyRange>,
    sources: Vec<Source>,
    view: View,
    /// The newest truncation; above it range tombstones are a floor of their own, a stretch of keys after the other.
    truncated: Seqno,
    /// Around the key that was chosen last; none as long as there are no range tombstones.
    stretch: Option<Stretch>,
    /// Of the key that was chosen last: the sources that hold older versions of it.
    hidden: Vec<usize>,
    /// The key at which another source goes on.
    bound: Vec<u8>,
    /// Values could not be fetched, and the scan is behind their entries: it cannot go on.
    failure: Option<Error>,
}

/// What is seen of the entries, and in which order.
#[derive(Clone, Copy)]
struct View {
    direction: Direction,
    seqno: Seqno,
    now: Timestamp,
    /// Of the keys at hand.
    floor: Seqno,
}

/// Where entries come from, newest source first. Each gives the newest version at the read point, a key at a time.
enum Source {
    Memtable(MemtableScan),
    Run(RunScan),
}

/// The tables of a run, one after the other.
struct RunScan {
    /// Its place in the version.
    run: usize,
    /// The tables that are not begun. A run may have thousands, and a scan end in the first.
    left: Range<usize>,
    current: Option<TableScan>,
    /// No entry of the table at hand is newer.
    newest: Seqno,
}

/// A scan of one source, whose entries are looked at where they lie.
trait Walk {
    fn peek(&self) -> Option<Peek<'_>>;
    fn share(&self, value: &[u8]) -> Bytes;
    fn advance(&mut self);

    /// Gives a sink many entries at once, if it can.
    fn give_run(&mut self, _: Option<&[u8]>, _: View, _: &mut impl Sink) -> Option<Taken> {
        None
    }
}

/// What becomes of an entry that readers see.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    Yes,
    /// It was the last one.
    Last,
    /// There is no room for it.
    No,
}

/// What is done with the entries that readers see.
trait Sink {
    /// Takes an entry. `share` makes something that can be kept of its value.
    fn take(&mut self, peek: &Peek<'_>, share: &dyn Fn() -> Bytes) -> Taken;

    /// Takes plain puts of one block, and says how many, and what became of the one behind.
    fn take_run(&mut self, block: &Block, positions: Range<usize>) -> (usize, Taken);
}

/// Copies entries.
struct Fill<'a> {
    room: Room,
    out: &'a mut Entries,
    /// Values that are to be fetched when the batch is full, and the numbers of their entries.
    apart: (Vec<usize>, Vec<ValueRef>),
}

/// Counts them.
struct Count(Counts);

/// The source that is next.
struct Choice {
    source: usize,
    /// The source whose key is the first one behind that of the chosen one; none when all others are over.
    next: Option<usize>,
}

impl TreeCursor {
    pub(super) fn new(
        version: &Arc<Version>,
        range: KeyRange,
        direction: Direction,
        point: ReadPoint,
    ) -> Self {
        let range = Arc::new(range);
        let mut sources = Vec::with_capacity(version.memtables.len() + version.runs.len());
        for memtable in &version.memtables {
            sources.push(Source::Memtable(memtable.scan(&range, direction, point.seqno)));
        }
        for (run, tables) in version.runs.iter().enumerate() {
            let left = tables.overlapping(&range);
            if !left.is_empty() {
                sources.push(Source::Run(RunScan { run, left, current: None, newest: Seqno::ZERO }));
            }
        }
        let floor = version.floors.at(point.seqno);
        let view = View { direction, seqno: point.seqno, now: point.now, floor };
        let version = Arc::clone(version);
        let (hidden, bound, failure) = Default::default();
        Self { version, range, sources, view, truncated: floor, stretch: None, hidden, bound, failure }
    }

    /// Gives every entry that readers see to `sink`, until it has had enough or there are no more.
    fn walk(&mut self, sink: &mut impl Sink) -> Result<()> {
        loop {
            self.prepare()?;
            let Some(Choice { source, next }) = self.choose() else { return Ok(()) };
            if !self.version.tombstones.is_empty() && self.pass_cover(source) {
                continue;
            }
            let next = next.and_then(|next| self.sources[next].peek_key()).map(|(key, _)| key);
            let bound = self.view.first_of(next, self.stretch.as_ref()).map(|key| {
                self.bound.clear();
                self.bound.extend_from_slice(key);
                self.bound.as_slice()
            });
            // Of a key that others have too, this source shows one entry, and then they are moved on.
            let many = self.hidden.is_empty();
            let end = match &mut self.sources[source] {
                Source::Memtable(scan) => give(scan, (&self.version, self.view), bound, many, sink)?,
                Source::Run(run) => match &mut run.current {
                    Some(scan) => give(scan, (&self.version, self.view), bound, many, sink)?,
                    None => Taken::Yes,
                },
            };
            if end == Taken::No {
                return Ok(());
            }
            for &number in &self.hidden {
                self.sources[number].advance();
            }
            if end == Taken::Last {
                return Ok(());
            }
        }
    }

    /// Judges the chosen key and its neighbours by the floor that range tombstones make for them. Where they hide all that a
    /// source has, it goes on behind: true when one has.
    fn pass_cover(&mut self, chosen: usize) -> bool {
        let Some((key, _)) = self.sources[chosen].peek_key() else { return false };
        let View { direction, seqno, .. } = self.view;
        let tombstones = &self.version.tombstones;
        let stretch = self.stretch.take().filter(|stretch| stretch.contains(key));
        let stretch = &*self.stretch.insert(stretch.unwrap_or_else(|| tombstones.stretch(key, seqno)));
        self.view.floor = self.truncated.max(stretch.floor);
        let mut has_passed = false;
        for source in &mut self.sources {
            let newest = source.newest().min(seqno);
            let is_hidden =
                newest <= stretch.floor && source.peek_key().is_some_and(|(key, _)| stretch.contains(key));
            if is_hidden {
                let edge = tombstones.end_of_cover(stretch, direction, newest, seqno);
                source.restart(&self.range, edge, self.view);
                has_passed = true;
            }
        }
        has_passed
    }

    /// Makes every source show its next entry, or be over.
    fn prepare(&mut self) -> Result<()> {
        loop {
            let mut needs: Vec<(usize, usize)> = Vec::new();
            let mut refs: Vec<BlockRef> = Vec::new();
            for (number, source) in self.sources.iter_mut().enumerate() {
                let Source::Run(run) = source else { continue };
                if run.current.as_ref().is_none_or(|scan| !scan.is_ready()) {
                    let before = refs.len();
                    refs.extend(run.prepare(&self.version, &self.range, self.view)?);
                    if refs.len() > before {
                        refs.extend(run.current.iter().flat_map(TableScan::needs_ahead));
                        needs.push((number, refs.len() - before));
                    }
                }
            }
            if needs.is_empty() {
                return Ok(());
            }
            let blocks = load_blocks(&refs, Access::Scan, Wait::Always)?;
            let blocks = blocks.ok_or_else(|| Error::internal("a store that may wait did not"))?;
            let mut loaded = refs.into_iter().zip(blocks);
            for (number, count) in needs {
                let mine: Vec<_> = loaded.by_ref().take(count).collect();
                let mut mine = mine.into_iter();
                if let Source::Run(RunScan { current: Some(scan), .. }) = &mut self.sources[number]
                    && let Some((_, block)) = mine.next()
                {
                    scan.supply_loaded(block, mine);
                }
            }
        }
    }

    /// The source that shows the newest version of the next key, deletes included.
    fn choose(&mut self) -> Option<Choice> {
        self.hidden.clear();
        let (mut best, mut next) = (None, None);
        for (number, source) in self.sources.iter().enumerate() {
            let Some((key, seqno)) = source.peek_key() else { continue };
            let Some((best_number, best_key, best_seqno)) = best else {
                best = Some((number, key, seqno));
                continue;
            };
            match self.view.order(key, best_key) {
                Ordering::Greater => {
                    if next.is_none_or(|(_, next_key)| self.view.order(key, next_key) == Ordering::Less) {
                        next = Some((number, key));
                    }
                }
                Ordering::Equal if seqno < best_seqno => self.hidden.push(number),
                Ordering::Equal => {
                    self.hidden.push(best_number);
                    best = Some((number, key, seqno));
                }
                Ordering::Less => {
                    self.hidden.clear();
                    next = Some((best_number, best_key));
                    best = Some((number, key, seqno));
                }
            }
        }
        best.map(|(source, ..)| Choice { source, next: next.map(|(number, _)| number) })
    }

    /// Counts what is left. Values stay where they are: in the cache's blocks and the memtables.
    pub(super) fn count(mut self) -> Result<Counts> {
        let mut count = Count(Counts::default());
        self.walk(&mut count)?;
        Ok(count.0)
    }
}

/// Shows the entries of one source before `bound`; only the first one unless there may be `many`.
fn give<W: Walk>(
    walk: &mut W,
    (version, view): (&Version, View),
    bound: Option<&[u8]>,
    many: bool,
    sink: &mut impl Sink,
) -> Result<Taken> {
    let mut is_first = true;
    if many && let Some(taken) = walk.give_run(bound, view, sink) {
        return Ok(taken);
    }
    while let Some(peek) = walk.peek() {
        let is_before = |bound: &[u8]| view.order(peek.op.key, bound) == Ordering::Less;
        // The first one was chosen because it is.
        let is_next = is_first || many && bound.is_none_or(is_before);
        if !is_next {
            break;
        }
        is_first = false;
        let is_above = peek.seqno > view.floor;
        let taken = if is_above && peek.op.is_live(view.now) {
            sink.take(&peek, &|| walk.share(peek.op.value))
        } else if is_above && peek.op.kind == EntryKind::Operand {
            give_folded(version, view, peek.op.key, sink)?
        } else {
            Taken::Yes
        };
        if taken == Taken::No {
            return Ok(taken);
        }
        walk.advance();
        if taken == Taken::Last {
            return Ok(taken);
        }
    }
    Ok(Taken::Yes)
}

/// Shows what comes of the operands of a key. They may lie in other sources too, so they are looked for as those of one key.
#[cold]
fn give_folded(version: &Version, view: View, key: &[u8], sink: &mut impl Sink) -> Result<Taken> {
    let point = ReadPoint { seqno: view.seqno, now: view.now };
    let found = version.fold(key, point, view.floor, Wait::Always)?.waited()?;
    Ok(found.map_or(Taken::Yes, |Found { seqno, entry }| {
        let peek = Peek { seqno, op: entry.raw(key), apart: None };
        sink.take(&peek, &|| entry.value.clone().into_bytes())
    }))
}

impl View {
    /// The first place of two at which a source has to stop: the next key of another one, and the edge of a stretch. In
    /// reverse that edge is a key of the stretch, and stopping before it does no harm.
    fn first_of<'a>(self, next: Option<&'a [u8]>, stretch: Option<&'a Stretch>) -> Option<&'a [u8]> {
        let edge = stretch.and_then(|stretch| match self.direction {
            Direction::Forward => stretch.end.as_deref(),
            Direction::Reverse => Some(&*stretch.start),
        });
        match (next, edge) {
            (Some(next), Some(edge)) => {
                Some(if self.order(edge, next) == Ordering::Less { edge } else { next })
            }
            (next, edge) => next.or(edge),
        }
    }

    /// Which of two keys comes first.
    fn order(self, one: &[u8], other: &[u8]) -> Ordering {
        match self.direction {
            Direction::Forward => one.cmp(other),
            Direction::Reverse => other.cmp(one),
        }
    }
}

impl RunScan {
    /// Moves on until an entry can be seen. Returns the block without which it cannot.
    fn prepare(&mut self, version: &Version, range: &Arc<KeyRange>, view: View) -> Result<Option<BlockRef>> {
        loop {
            if let Some(scan) = &mut self.current {
                scan.supply_cached();
                if scan.is_ready() {
                    return Ok(None);
                }
                if let Some(block) = scan.needs() {
                    return Ok(Some(block));
                }
            }
            let next = match view.direction {
                Direction::Forward => self.left.next(),
                Direction::Reverse => self.left.next_back(),
            };
            let live = next.map(|next| &version.runs[self.run].tables[next]);
            let Some(live) = live else {
                self.current = None;
                return Ok(None);
            };
            if live.is_covered(&version.tombstones, view.seqno) {
                continue;
            }
            let table = live.opened()?;
            if table.may_contain_any(range) {
                self.newest = live.newest();
                self.current = Some(table.scan(range, view.direction, view.seqno));
            }
        }
    }
}

impl Source {
    fn peek_key(&self) -> Option<(&[u8], Seqno)> {
        match self {
            Self::Memtable(scan) => scan.peek_key(),
            Self::Run(run) => run.current.as_ref()?.peek_key(),
        }
    }

    fn advance(&mut self) {
        match self {
            Self::Memtable(scan) => scan.advance(),
            Self::Run(run) => {
                if let Some(scan) = &mut run.current {
                    scan.advance();
                }
            }
        }
    }

    /// No entry that it comes to, in the table at hand, is newer.
    fn newest(&self) -> Seqno {
        match self {
            Self::Memtable(scan) => scan.newest(),
            Self::Run(run) => run.newest,
        }
    }

    /// Goes on at an edge, wherever it is now: forward with the key there, in reverse with the one before. Without an edge
    /// there is nothing more in the memtable, or in the table at hand: others of the run may be newer.
    fn restart(&mut self, range: &KeyRange, edge: Option<Key>, view: View) {
        let rest = edge.map(|edge| match view.direction {
            Direction::Forward => KeyRange { start: Bound::Included(edge.to_vec()), end: range.end.clone() },
            Direction::Reverse => {
                KeyRange { start: range.start.clone(), end: Bound::Excluded(edge.to_vec()) }
            }
        });
        match (self, rest) {
            (Self::Memtable(scan), rest) => scan.restart(rest.as_ref(), view.direction),
            (Self::Run(RunScan { current: Some(scan), .. }), Some(rest)) => {
                scan.restart(&Arc::new(rest), view.seqno);
            }
            (Self::Run(run), _) => run.current = None,
        }
    }
}

impl Walk for MemtableScan {
    fn peek(&self) -> Option<Peek<'_>> {
        self.peek()
    }

    fn share(&self, value: &[u8]) -> Bytes {
        self.share(value)
    }

    fn advance(&mut self) {
        self.advance();
    }
}

impl Walk for TableScan {
    fn peek(&self) -> Option<Peek<'_>> {
        self.peek()
    }

    fn share(&self, value: &[u8]) -> Bytes {
        self.share(value)
    }

    fn advance(&mut self) {
        self.advance();
    }

    fn give_run(&mut self, bound: Option<&[u8]>, view: View, sink: &mut impl Sink) -> Option<Taken> {
        let (block, positions) = self.plain_run(bound, view.floor)?;
        let (count, taken) = sink.take_run(block, positions);
        self.pass(count);
        Some(taken)
    }
}

impl Sink for Fill<'_> {
    fn take(&mut self, peek: &Peek<'_>, share: &dyn Fn() -> Bytes) -> Taken {
        if !self.room.take_bytes(peek.op.key.len() + peek.value_bytes()) {
            return Taken::No;
        }
        if let Some(apart) = peek.apart.filter(|_| self.out.has_values()) {
            self.apart.0.push(self.out.len());
            self.apart.1.push(apart.of(peek.op.key));
        }
        self.out.push(peek.seqno, &peek.op, share);
        if self.room.is_full() { Taken::Last } else { Taken::Yes }
    }

    fn take_run(&mut self, block: &Block, positions: Range<usize>) -> (usize, Taken) {
        let asked = positions.len();
        let count = block.pour(positions, &mut self.room, self.out);
        (count, if count < asked || self.room.is_full() { Taken::Last } else { Taken::Yes })
    }
}

impl Fill<'_> {
    /// Fetches the values of the batch that lie in value files, in one call.
    fn fetch(&mut self) -> Result<()> {
        let (numbers, refs) = &self.apart;
        let values = load_values(refs, Wait::Always)?;
        let values = values.ok_or_else(|| Error::internal("a store that may wait did not"))?;
        for (number, value) in numbers.iter().zip(values) {
            self.out.set_value(*number, value);
        }
        Ok(())
    }
}

impl Sink for Count {
    fn take(&mut self, peek: &Peek<'_>, _: &dyn Fn() -> Bytes) -> Taken {
        self.0.add(peek.op.expires_at);
        Taken::Yes
    }

    fn take_run(&mut self, _: &Block, positions: Range<usize>) -> (usize, Taken) {
        self.0.keys += positions.len() as u64;
        (positions.len(), Taken::Yes)
    }
}

impl Cursor for TreeCursor {
    fn fill(&mut self, size: BatchSize, out: &mut Entries) -> Result<()> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let begun = out.len();
        let mut sink = Fill { room: Room::new(size), out, apart: Default::default() };
        let walked = self.walk(&mut sink).and_then(|()| sink.fetch());
        if let Err(failure) = &walked {
            // Entries without their values must not be seen, nor passed over.
            if !sink.apart.0.is_empty() {
                out.truncate(begun);
                self.failure = Some(failure.clone());
            }
        }
        walked
    }
}
