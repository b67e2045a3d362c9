//! How much a range of keys holds, from the indexes of tables and the order of memtables: no block is read.

use pugdb_core::engine::KeyRange;
use pugdb_core::{ErrorKind, Result, Seqno};

use super::live::LiveTable;
use super::{Tree, Version};

/// About how much a range of keys holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Approximate {
    /// Bytes: of tables as they are stored, with their part of filters and indexes; of memtables as they count in the
    /// budget of memory.
    pub bytes: u64,
    /// Versions in tables, deletes among them, and keys in memtables.
    pub entries: u64,
}

impl Tree {
    /// About how much a range of keys holds.
    ///
    /// Of each table every block is counted that may have keys of the range, so its entries are never too few, and too many
    /// by less than what the first and the last of these blocks hold. Keys in memtables are counted exactly; their bytes are
    /// those of an average key. What was truncated away counts while it lies beside newer
    /// entries, and what a range delete hides while it lies beside others in a table or in a memtable. Tables are opened where the
    /// range begins or ends in them; damaged ones count whole.
    ///
    /// # Errors
    /// What the store says when a table cannot be read.
    pub fn approximate(&self, range: &KeyRange) -> Result<Approximate> {
        self.version().approximate(range)
    }
}

impl Version {
    fn approximate(&self, range: &KeyRange) -> Result<Approximate> {
        let floor = self.floors.at(Seqno::MAX);
        let mut sum = Approximate::default();
        if range.is_empty() {
            return Ok(sum);
        }
        for memtable in self.memtables.iter().filter(|memtable| memtable.last() > floor) {
            let (keys, all) = (memtable.keys(range), memtable.keys(&KeyRange::all()));
            sum.entries += keys;
            sum.bytes += part(memtable.bytes() as u64, keys, all);
        }
        for run in self.runs.iter() {
            for live in run.tables.get(run.overlapping(range)).unwrap_or_default() {
                if live.newest() <= floor || live.is_covered(&self.tombstones, Seqno::MAX) {
                    continue;
                }
                let (bytes, entries) = of_table(live, range)?;
                sum.bytes += bytes;
                sum.entries += entries;
            }
        }
        Ok(sum)
    }
}

/// Bytes and entries of a table.
fn of_table(live: &LiveTable, range: &KeyRange) -> Result<(u64, u64)> {
    let (meta, bounds) = (live.meta(), live.bounds());
    let whole = (meta.bytes, meta.entries);
    let is_shown_whole = (&bounds.first, &bounds.last) == (&meta.first, &meta.last);
    if is_shown_whole && range.contains(&meta.first) && range.contains(&meta.last) {
        return Ok(whole);
    }
    match live.opened() {
        Ok(table) => Ok(table.approximate(range)),
        // Of a table that cannot be opened nothing smaller can be told than the whole.
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(whole),
        Err(error) => Err(error),
    }
}

/// The part of `whole` that so many of so many are.
fn part(whole: u64, some: u64, all: u64) -> u64 {
    let part = u128::from(whole) * u128::from(some) / u128::from(all.max(1));
    u64::try_from(part).unwrap_or(u64::MAX)
}
