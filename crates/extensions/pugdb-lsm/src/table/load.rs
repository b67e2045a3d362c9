//! Loads blocks of several tables in one call: from the cache, the rest in one read. Read path, step "fetch".

use std::collections::BTreeMap;
use std::sync::Arc;

use pugdb_core::seam::{TableStore, Wait};
use pugdb_core::{FileId, Found, Result, Seqno};

use super::block::Block;
use super::cache::BlockCache;
use super::reader::Table;
use super::tail::{into_mut, read_ranges};
use crate::file::Context;

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

    /// The newest version of `key` at or below `seqno`, from the block that
    /// [`plan_get`](Table::plan_get) named for the same key and seqno.
    ///
    /// # Errors
    /// `Corrupt` when the block's content is damaged.
    pub fn resolve(&self, block: &Block, key: &[u8], seqno: Seqno) -> Result<Option<Found>> {
        self.table.resolve(self.number, block, key, seqno)
    }
}

/// The blocks, in the order of `blocks`: from the cache, and all others in one call to the table store. `None` when
/// `wait` is [`Wait::Never`] and some are not at hand.
///
/// # Errors
/// `Corrupt` when a block is damaged, what the store says when one cannot be read.
pub fn load_blocks(
    context: &Context,
    cache: &BlockCache,
    blocks: &[BlockRef],
    wait: Wait,
) -> Result<Option<Vec<Block>>> {
    let blocks: Vec<(&Table, usize)> = blocks.iter().map(|block| (&*block.table, block.number)).collect();
    load(&*context.tables, cache, &blocks, wait)
}

/// [`load_blocks`] for (table, block number).
pub(super) fn load(
    store: &dyn TableStore,
    cache: &BlockCache,
    blocks: &[(&Table, usize)],
    wait: Wait,
) -> Result<Option<Vec<Block>>> {
    let mut loaded: Vec<Option<Block>> = blocks
        .iter()
        .map(|&(table, number)| cache.get(table.meta().id, table.tail().offset(number)))
        .collect();
    if loaded.iter().any(Option::is_none) {
        // Several keys may need one block: it is read once.
        let mut missing: BTreeMap<(FileId, usize), Vec<usize>> = BTreeMap::new();
        for (position, &(table, number)) in blocks.iter().enumerate() {
            if loaded[position].is_none() {
                missing.entry((table.meta().id, number)).or_default().push(position);
            }
        }
        let requests: Vec<_> = missing
            .iter()
            .map(|(&(_, number), positions)| blocks[positions[0]].0.tail().request(number..number + 1))
            .collect();
        let Some(read) = read_ranges(store, &requests, wait)? else { return Ok(None) };
        for (((_, number), positions), stored) in missing.into_iter().zip(read) {
            let table = blocks[positions[0]].0;
            let block = table.tail().open_block(number, into_mut(stored))?;
            cache.insert(table.meta().id, table.tail().offset(number), &block);
            for position in positions {
                loaded[position] = Some(block.clone());
            }
        }
    }
    Ok(loaded.into_iter().collect())
}
