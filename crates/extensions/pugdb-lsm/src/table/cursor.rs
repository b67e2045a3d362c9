//! A walk over every version of a table, in order and past the cache: what compaction reads.

use std::ops::Range;
use std::sync::Arc;

use pugdb_core::{Found, Key, Result};

use super::reader::Table;

/// Read at once: large enough for a disk's best pace, small enough for a bounded slice of work.
const READ_AHEAD_BYTES: usize = 256 << 10;

/// A walk under way.
pub struct TableCursor {
    table: Arc<Table>,
    /// The blocks still to be read.
    blocks: Range<usize>,
    /// With a global seqno: the key whose older versions are passed over.
    last: Option<Key>,
}

impl TableCursor {
    pub(super) fn new(table: Arc<Table>) -> Self {
        let (index, bounds) = (&table.tail().index, table.bounds());
        let start = index.partition(&bounds.first, |key, _| *key < *bounds.first);
        let end = index.partition(&bounds.last, |key, _| *key <= *bounds.last) + 1;
        let blocks = start..end.min(index.blocks().len());
        Self { table, blocks, last: None }
    }

    /// Appends the next versions, of several blocks read in one call: by key, and newest first within a key.
    /// Appending nothing means the walk is over. A key's versions may go on in the next call.
    ///
    /// # Errors
    /// `Corrupt` when a block is damaged, what the store says when one cannot be read.
    pub fn next_versions(&mut self, out: &mut Vec<(Key, Found)>) -> Result<()> {
        let before = out.len();
        while out.len() == before && !self.blocks.is_empty() {
            let tail = self.table.tail();
            let run = tail.next_run(self.blocks.clone(), READ_AHEAD_BYTES);
            let blocks = tail.read_run(&*self.table.context().tables, run.clone())?;
            for (number, block) in run.clone().zip(blocks) {
                for position in 0..block.count() {
                    let entry = block.entry(position);
                    let (key, found) = entry.map_err(|error| error.at(self.table.tail().place(number)))?;
                    if self.table.bounds().contains(&key) && self.is_shown(&key) {
                        out.push((key, self.table.shown(found)));
                    }
                }
            }
            self.blocks.start = run.end;
        }
        Ok(())
    }

    fn is_shown(&mut self, key: &Key) -> bool {
        if self.table.global_seqno().is_none() {
            return true;
        }
        let new = self.last.as_ref() != Some(key);
        self.last = Some(key.clone());
        new
    }
}
