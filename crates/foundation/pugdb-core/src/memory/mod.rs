//! Entries in memory: the versioned map, which is also the memtable of the durable engine, and two engines.
//!
//! | file | what it holds |
//! |---|---|
//! | `versions.rs` | [`VersionedMap`]: keys in order, each with its versions |
//! | `btree.rs` | [`Btree`]: an ordered engine |
//! | `hash/` | [`Hash`](struct@Hash): an engine for points, without order; what it keeps of one key |
//! | `expiry.rs` | which versions expire, and when |
//! | `housekeeper.rs` | [`Housekeeper`]: the job that gives memory back when no write comes by |

mod btree;
mod expiry;
mod hash;
mod housekeeper;
mod versions;

pub use btree::Btree;
pub use hash::Hash;
pub use housekeeper::{Housekeeper, Tidied, Tidy};
pub use versions::{Floors, VersionedMap, newest_at};
