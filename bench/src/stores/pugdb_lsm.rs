//! PugDB, its durable engine.

use pugdb::{Database, Durability, Result};
use pugdb_ycsb::{PugdbStore, Store};

use super::{CACHE_BYTES, Class, Setup};

/// As `docs/guide` has it: memory in one number, a quarter of it for the cache.
pub(super) fn open(setup: &Setup<'_>) -> Result<Box<dyn Store>> {
    let durability = match setup.class {
        Class::Os => Durability::Os,
        Class::Sync => Durability::Sync,
    };
    let db = Database::builder()
        .memory_bytes(4 * CACHE_BYTES)
        .cache_bytes(CACHE_BYTES)
        .durability(durability)
        .open(setup.dir.join("data"))?;
    let keyspace = db.keyspace("ycsb")?;
    let store = PugdbStore::new(db, keyspace, true);
    Ok(Box::new(match setup.class {
        Class::Os => store,
        Class::Sync => store.load_batch(1_000),
    }))
}
