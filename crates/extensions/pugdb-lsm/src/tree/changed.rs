//! Has anybody changed a key, or a range of keys, since a read? What a transaction asks before it commits.
//!
//! Nothing is written down for it: versions carry their seqnos, and what was written lately lies in the memtables, whose hash
//! index answers for a key in two cache misses. A table is looked at only when something in it is newer than the read: one that
//! was flushed or merged meanwhile. The reader's snapshot keeps newer versions from being forgotten.

use std::sync::Arc;

use pugdb_core::engine::{Direction, KeyRange};
use pugdb_core::seam::Wait;
use pugdb_core::{KeySpan, Result, Seqno};

use super::{Version, did_not_wait};
use crate::table::{Access, Table, TableScan, load_blocks};

impl Version {
    /// Whether a key has a version behind `since`, or was deleted with a range or a truncation.
    pub(super) fn changed_since(&self, key: &[u8], since: Seqno) -> Result<bool> {
        let floor = self.floor(key, Seqno::MAX);
        if floor > since {
            return Ok(true);
        }
        for memtable in self.memtables.iter().filter(|memtable| memtable.last() > since) {
            if let Some(newest) = memtable.newest(key) {
                return Ok(newest > since);
            }
        }
        let located = self.look_in_runs(key, Seqno::MAX, since, Wait::Always)?.waited()?;
        Ok(located.is_some_and(|located| located.found.seqno > since))
    }

    /// [`changed_since`](Self::changed_since) for any key of a range.
    pub(super) fn range_changed_since(&self, range: &KeyRange, since: Seqno) -> Result<bool> {
        let Some(span) = KeySpan::of(range) else { return Ok(false) };
        if self.floors.at(Seqno::MAX) > since || self.tombstones.any_newer(&span, since) {
            return Ok(true);
        }
        for memtable in self.memtables.iter().filter(|memtable| memtable.last() > since) {
            let mut scan = memtable.scan(range, Direction::Forward, Seqno::MAX);
            while let Some((_, seqno)) = scan.peek_key() {
                if seqno > since {
                    return Ok(true);
                }
                scan.advance();
            }
        }
        let range = Arc::new(range.clone());
        for run in self.runs.iter() {
            let tables = &run.tables[run.overlapping(&range)];
            for live in tables.iter().filter(|live| live.newest() > since) {
                if table_changed_since(live.opened()?, &range, since)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

fn table_changed_since(table: &Arc<Table>, range: &Arc<KeyRange>, since: Seqno) -> Result<bool> {
    let mut scan = table.scan(range, Direction::Forward, Seqno::MAX);
    loop {
        scan.supply_cached();
        if let Some(needed) = scan.needs() {
            load(&mut scan, needed)?;
        }
        let Some((_, seqno)) = scan.peek_key() else {
            if scan.needs().is_some() {
                continue;
            }
            return Ok(false);
        };
        if seqno > since {
            return Ok(true);
        }
        scan.advance();
    }
}

fn load(scan: &mut TableScan, needed: crate::table::BlockRef) -> Result<()> {
    let mut refs = vec![needed];
    refs.extend(scan.needs_ahead());
    let blocks = load_blocks(&refs, Access::Scan, Wait::Always)?.ok_or_else(did_not_wait)?;
    let mut loaded = refs.into_iter().zip(blocks);
    if let Some((_, block)) = loaded.next() {
        scan.supply_loaded(block, loaded);
    }
    Ok(())
}
