//! Loads blocks of several tables in one call: from the cache, the rest in one read. Readers that miss the same block at
//! the same time read it once. Read path, step 3.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use pugdb_core::env::Event;
use pugdb_core::seam::Wait;
use pugdb_core::sync::Mutex;
use pugdb_core::{Result, Seqno};

use super::block::Block;
use super::cache::Access;
use super::reader::{Located, Table};
use super::tail::{into_mut, read_ranges};

/// One data block of one table.
#[derive(Clone, Debug)]
pub struct BlockRef {
    table: Arc<Table>,
    number: usize,
}

impl BlockRef {
    pub(super) fn new(table: Arc<Table>, number: usize) -> Self {
        Self { table, number }
    }

    /// The table.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// The block, if it is in the cache.
    pub fn cached(&self) -> Option<Arc<Block>> {
        let cached = self.table.slots().get(self.number).clone();
        if cached.is_some() {
            self.table.cache().hit();
        }
        cached
    }

    /// The newest version of `key` at or below `seqno`, from the block that
    /// [`plan_get`](Table::plan_get) named for the same key and seqno.
    pub(crate) fn resolve(&self, block: &Block, key: &[u8], seqno: Seqno) -> Option<Located> {
        self.table.resolve(block, key, seqno)
    }
}

/// The blocks, in the order of `blocks`: from the cache, and all others in one call to the table store. `None` when
/// `wait` is [`Wait::Never`] and some are not at hand.
///
/// # Errors
/// `Corrupt` when a block is damaged, what the store says when one cannot be read.
pub fn load_blocks(blocks: &[BlockRef], access: Access, wait: Wait) -> Result<Option<Vec<Arc<Block>>>> {
    let blocks: Vec<(&Table, usize)> = blocks.iter().map(|block| (&*block.table, block.number)).collect();
    load(&blocks, access, wait)
}

/// [`load_blocks`] for (table, block number).
pub(super) fn load(
    blocks: &[(&Table, usize)],
    access: Access,
    wait: Wait,
) -> Result<Option<Vec<Arc<Block>>>> {
    let mut loaded: Vec<Option<Arc<Block>>> =
        blocks.iter().map(|&(table, number)| table.slots().get(number).clone()).collect();
    loop {
        let mut missing = Missing::default();
        for (position, &(table, number)) in blocks.iter().enumerate() {
            if loaded[position].is_none() {
                missing.add(table, number, position, wait);
            }
        }
        if missing.is_empty() {
            return Ok(loaded.into_iter().collect());
        }
        if !missing.read(access, wait, &mut loaded)? {
            return Ok(None);
        }
    }
}

/// One block, which is not in the cache: a read of one key makes no lists.
pub(super) fn load_one(table: &Table, number: usize, wait: Wait) -> Result<Option<Arc<Block>>> {
    if wait == Wait::Always
        && let Turn::Ours(landing) = Landing::begin(table, number)
    {
        let request = table.tail().request(number..number + 1);
        let read = read_ranges(&*table.context().tables, &[request], wait)?;
        let Some(stored) = read.and_then(|mut read| read.pop()) else { return Ok(None) };
        let block = Arc::new(table.tail().open_block(number, into_mut(stored))?);
        table.keep(number, &block, Access::Point);
        table.cache().missed(1);
        landing.land(&block);
        return Ok(Some(block));
    }
    let loaded = load(&[(table, number)], Access::Point, wait)?;
    Ok(loaded.and_then(|mut blocks| blocks.pop()))
}

/// What is missing, each block once.
#[derive(Default)]
struct Missing<'a> {
    wanted: Vec<Wanted<'a>>,
}

struct Wanted<'a> {
    table: &'a Table,
    number: usize,
    /// Who asked for it.
    positions: Vec<usize>,
    turn: Turn<'a>,
}

impl Wanted<'_> {
    /// True when `next` lies behind it in the same file.
    fn is_beside(&self, next: &Self) -> bool {
        std::ptr::eq(self.table, next.table) && self.number + 1 == next.number
    }
}

/// The blocks of a stretch. Each has its own memory, so that none keeps that of the others.
fn split(stretch: &[Wanted<'_>], bytes: Bytes) -> Vec<BytesMut> {
    if stretch.len() == 1 {
        return vec![into_mut(bytes)];
    }
    let mut rest = bytes;
    let length = |wanted: &Wanted<'_>| wanted.table.tail().index.length(wanted.number..wanted.number + 1);
    stretch.iter().map(|wanted| BytesMut::from(&rest.split_to(length(wanted))[..])).collect()
}

/// Who reads a block that is missing.
enum Turn<'a> {
    /// This reader does.
    Ours(Landing<'a>),
    /// Another one is at it.
    Theirs(Arc<Flight>),
    /// This reader does if it need not wait, and nobody shall wait for it.
    Alone,
}

impl<'a> Missing<'a> {
    fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    fn add(&mut self, table: &'a Table, number: usize, position: usize, wait: Wait) {
        // Few are asked for at once: one for each run, or one for each key of a list.
        let same = |wanted: &&mut Wanted<'_>| std::ptr::eq(wanted.table, table) && wanted.number == number;
        if let Some(wanted) = self.wanted.iter_mut().find(same) {
            wanted.positions.push(position);
            return;
        }
        let turn = if wait == Wait::Never { Turn::Alone } else { Landing::begin(table, number) };
        self.wanted.push(Wanted { table, number, positions: vec![position], turn });
    }

    /// Reads what nobody else reads, then waits for the others: nobody waits for us any more by then. False when it would
    /// have to wait and may not. Some can still be missing after it: their readers have failed.
    fn read(self, access: Access, wait: Wait, loaded: &mut [Option<Arc<Block>>]) -> Result<bool> {
        let (theirs, mut ours): (Vec<_>, Vec<_>) =
            self.wanted.into_iter().partition(|wanted| matches!(wanted.turn, Turn::Theirs(_)));
        ours.sort_by_key(|wanted| (wanted.table.meta().id, wanted.number));
        if let Some(first) = ours.first() {
            let store = &first.table.context().tables;
            // Blocks side by side are one range.
            let stretches: Vec<&[Wanted<'_>]> = ours.chunk_by(Wanted::is_beside).collect();
            let request = |stretch: &&[Wanted<'_>]| {
                let (first, last) = (&stretch[0], &stretch[stretch.len() - 1]);
                first.table.tail().request(first.number..last.number + 1)
            };
            let requests: Vec<_> = stretches.iter().map(request).collect();
            let Some(read) = read_ranges(&**store, &requests, wait)? else { return Ok(false) };
            let lengths: Vec<usize> = stretches.iter().map(|stretch| stretch.len()).collect();
            first.table.cache().missed(ours.len());
            let mut stored = Vec::with_capacity(ours.len());
            for (bytes, blocks) in read.into_iter().zip(lengths) {
                stored.extend(split(&ours[stored.len()..][..blocks], bytes));
            }
            for (wanted, stored) in ours.into_iter().zip(stored) {
                let block = Arc::new(wanted.table.tail().open_block(wanted.number, stored)?);
                wanted.table.keep(wanted.number, &block, access);
                if let Turn::Ours(landing) = wanted.turn {
                    landing.land(&block);
                }
                wanted.positions.into_iter().for_each(|position| loaded[position] = Some(Arc::clone(&block)));
            }
        }
        for wanted in theirs {
            let Turn::Theirs(flight) = &wanted.turn else { continue };
            let executor = &wanted.table.context().env.executor;
            executor.block_until(&flight.landed, None, &mut || {
                !matches!(*flight.outcome.lock(), Outcome::Unknown)
            });
            if let Outcome::Landed(block) = &*flight.outcome.lock() {
                wanted.positions.iter().for_each(|&position| loaded[position] = Some(Arc::clone(block)));
            }
        }
        Ok(true)
    }
}

/// A block that somebody reads.
#[derive(Default)]
pub(super) struct Flight {
    outcome: Mutex<Outcome>,
    landed: Event,
}

/// How a flight ends.
#[derive(Default)]
enum Outcome {
    /// It has not.
    #[default]
    Unknown,
    Landed(Arc<Block>),
    /// Its reader has failed, and others try for themselves.
    Failed,
}

/// The reader's end of a flight. However it ends, those who wait are told.
struct Landing<'a> {
    table: &'a Table,
    number: usize,
    flight: Arc<Flight>,
}

impl<'a> Landing<'a> {
    /// Begins to read a block, unless somebody else has begun.
    fn begin(table: &'a Table, number: usize) -> Turn<'a> {
        let mut flights = table.slots().flights.lock();
        if let Some(flight) = flights.get(&number) {
            return Turn::Theirs(Arc::clone(flight));
        }
        let flight = Arc::new(Flight::default());
        if let Some(block) = &*table.slots().get(number) {
            // It came between the look into the cache and this one.
            *flight.outcome.lock() = Outcome::Landed(Arc::clone(block));
            return Turn::Theirs(flight);
        }
        flights.insert(number, Arc::clone(&flight));
        Turn::Ours(Self { table, number, flight })
    }

    /// It is there, and in the cache if that has room.
    fn land(self, block: &Arc<Block>) {
        *self.flight.outcome.lock() = Outcome::Landed(Arc::clone(block));
    }
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.table.slots().flights.lock().remove(&self.number);
        let mut outcome = self.flight.outcome.lock();
        if matches!(*outcome, Outcome::Unknown) {
            *outcome = Outcome::Failed;
        }
        drop(outcome);
        self.flight.landed.notify();
    }
}
