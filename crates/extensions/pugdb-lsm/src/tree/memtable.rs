//! The memtable: the newest entries of a tree, in memory until they are flushed. A simple structure, to be
//! replaced by a faster one (`docs/adr/`).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pugdb_core::memory::{TrackGarbage, VersionedMap};
use pugdb_core::{Found, Key, Seqno};

/// Entries in memory. One writer, any number of readers; sealed when a newer memtable takes its place.
#[derive(Debug, Default)]
pub(crate) struct Memtable {
    pub(crate) map: VersionedMap,
    /// The first and the last seqno; zero while it is empty.
    first: AtomicU64,
    last: AtomicU64,
    /// Its bytes are no longer counted as waiting for a flush.
    is_forgotten: AtomicBool,
}

impl Memtable {
    pub(crate) fn insert(&self, items: impl Iterator<Item = (Key, Found)>) {
        let numbered = items.inspect(|(_, found)| {
            let seqno = found.seqno.0;
            let _ = self.first.compare_exchange(0, seqno, Ordering::AcqRel, Ordering::Acquire);
            self.last.store(seqno, Ordering::Release);
        });
        self.map.insert(numbered, TrackGarbage::No);
    }

    /// The first seqno it holds.
    pub(crate) fn first(&self) -> Option<Seqno> {
        Some(Seqno(self.first.load(Ordering::Acquire))).filter(|seqno| *seqno != Seqno::ZERO)
    }

    /// Its bytes, for the one who takes them out of the count; zero for everybody after.
    pub(crate) fn forget(&self) -> usize {
        if self.is_forgotten.swap(true, Ordering::AcqRel) { 0 } else { self.map.bytes() }
    }

    /// The last seqno it holds.
    pub(crate) fn last(&self) -> Seqno {
        Seqno(self.last.load(Ordering::Acquire))
    }
}
