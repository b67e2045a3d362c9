//! Entries in memory: the versioned map, which is also the memtable of the durable engine, and the btree engine.

mod btree;
mod versions;

pub use btree::Btree;
pub use versions::{Floors, TrackGarbage, VersionedMap, newest_at};
