//! What a tree takes, and about how many keys it has, from what its tables and memtables say about themselves: no file is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use pugdb_core::Seqno;
use pugdb_core::engine::Counts;

use super::live::LiveTable;
use super::{Tree, Version};
use crate::memtable::Memtable;

/// What a tree takes, but for what was truncated away and is about to go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeSizes {
    /// Bytes of its tables.
    pub table_bytes: u64,
    /// Bytes of the value files into which they point: whole files, with what is garbage in them.
    pub value_bytes: u64,
    /// Bytes of entries in its memtables.
    pub memtable_bytes: usize,
    /// Its sorted runs.
    pub runs: usize,
}

impl TreeSizes {
    /// In memory and on disk.
    pub fn bytes(&self) -> u64 {
        self.table_bytes.saturating_add(self.value_bytes).saturating_add(self.memtable_bytes as u64)
    }

    /// Both together.
    #[must_use]
    pub(crate) fn with(self, other: Self) -> Self {
        Self {
            table_bytes: self.table_bytes.saturating_add(other.table_bytes),
            value_bytes: self.value_bytes.saturating_add(other.value_bytes),
            memtable_bytes: self.memtable_bytes.saturating_add(other.memtable_bytes),
            runs: self.runs + other.runs,
        }
    }
}

/// What the tables of a version come to. They do not change, so it is added up once for each version: by who asks first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Footprint {
    table_bytes: u64,
    value_bytes: u64,
    tally: Tally,
}

/// How many versions there are of which kind, near enough.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    puts: u64,
    deletes: u64,
    /// Of the puts.
    expiring: u64,
}

impl Tree {
    /// What it takes.
    pub fn sizes(&self) -> TreeSizes {
        let version = self.glance();
        let &Footprint { table_bytes, value_bytes, .. } = version.footprint();
        let memtable_bytes = version.shown_memtables().map(|memtable| memtable.bytes()).sum();
        TreeSizes { table_bytes, value_bytes, memtable_bytes, runs: version.runs.len() }
    }

    /// How many entries there are, near enough, from what tables and memtables say about themselves. A key that is in
    /// several of them counts in each, and a delete takes one away, whether it hides one or not.
    pub fn approximate_counts(&self) -> Counts {
        let version = self.version();
        version.counts(version.tally())
    }

    /// How many of them have a value, cheap enough to be asked before each write: of tables, what was known when it was first asked
    /// since they are these.
    pub fn key_estimate(&self) -> u64 {
        let version = self.glance();
        version.counts(version.footprint().tally).keys
    }
}

impl Version {
    fn footprint(&self) -> &Footprint {
        self.footprint.get_or_init(|| {
            let table_bytes = self.shown_tables().map(|live| live.meta().bytes).sum();
            // Several tables point into one file.
            let used = self.shown_tables().flat_map(|live| &live.meta().values);
            let files: BTreeMap<_, _> = used.map(|used| (used.file, used.file_bytes)).collect();
            Footprint { table_bytes, value_bytes: files.values().sum(), tally: self.tally() }
        })
    }

    /// The tables of which something is not truncated away.
    fn shown_tables(&self) -> impl Iterator<Item = &Arc<LiveTable>> {
        let floor = self.floors.at(Seqno::MAX);
        self.runs.iter().flat_map(|run| &run.tables).filter(move |live| live.newest() > floor)
    }

    /// The memtables of which something is not truncated away.
    fn shown_memtables(&self) -> impl Iterator<Item = &Arc<Memtable>> {
        let floor = self.floors.at(Seqno::MAX);
        self.memtables.iter().filter(move |memtable| memtable.last() > floor)
    }

    /// What the tables hold.
    fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for live in self.shown_tables().filter(|live| !live.is_covered(&self.tombstones, Seqno::MAX)) {
            let meta = live.meta();
            let (shown, whole) = live.shown_part();
            let (hidden, _) = live.covered_bytes(&self.tombstones, Seqno::MAX);
            let (data, hidden) = (u128::from(meta.data_bytes), u128::from(hidden.min(meta.data_bytes)));
            let part = |count: u64| {
                let shown = u128::from(count) * u128::from(shown) / u128::from(whole.max(1));
                u64::try_from(shown * (data - hidden) / data.max(1)).unwrap_or(u64::MAX)
            };
            tally.puts += part(meta.keys.saturating_sub(meta.deletes));
            tally.deletes += part(meta.deletes);
            tally.expiring += part(meta.expiries.entries);
        }
        tally
    }

    /// How many entries there are when the tables hold so many.
    fn counts(&self, mut tally: Tally) -> Counts {
        for memtable in self.shown_memtables() {
            tally.puts += memtable.tally().puts();
            tally.deletes += memtable.tally().deletes();
            tally.expiring += memtable.tally().expiring();
        }
        let keys = tally.puts.saturating_sub(tally.deletes);
        Counts { keys, expiring: tally.expiring.min(keys), next_expiry: None }
    }
}
