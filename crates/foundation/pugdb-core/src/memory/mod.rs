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

use crate::error::{Error, Result};
use crate::ops::Ops;

pub use btree::Btree;
pub use hash::Hash;
pub use housekeeper::{Housekeeper, Tidied, Tidy};
pub use versions::{Floors, Leftovers, VersionedMap, newest_at};

/// Engines in memory fold nothing: a read that did would have to take locks that writers need.
fn refuse_operands(ops: &Ops) -> Result<()> {
    if ops.has_operands() {
        return Err(Error::invalid(
            "an engine in memory folds no operands; choose the lsm engine for merges",
        ));
    }
    Ok(())
}
