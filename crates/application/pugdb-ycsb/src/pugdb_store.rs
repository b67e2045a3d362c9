//! A keyspace of PugDB as a store.

use pugdb::{Database, Keyspace, Result};

use crate::key::Key;
use crate::store::{Capabilities, Client, Store};

/// A keyspace, written with the durability that its handle has.
#[derive(Debug)]
pub struct PugdbStore {
    db: Database,
    keyspace: Keyspace,
    capabilities: Capabilities,
}

impl PugdbStore {
    /// A store that is loaded put by put. `scans` tells whether the keyspace's engine keeps the order of the keys.
    pub fn new(db: Database, keyspace: Keyspace, scans: bool) -> Self {
        Self { db, keyspace, capabilities: Capabilities { scans, load_batch: 1 } }
    }

    /// The same, loaded in batches of this many entries.
    #[must_use]
    pub fn load_batch(mut self, entries: usize) -> Self {
        self.capabilities.load_batch = entries;
        self
    }
}

impl Store for PugdbStore {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn client(&self) -> Result<Box<dyn Client + Send + '_>> {
        Ok(Box::new(PugdbClient(self)))
    }
}

struct PugdbClient<'a>(&'a PugdbStore);

impl Client for PugdbClient<'_> {
    fn get(&mut self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool> {
        Ok(self.0.keyspace.get_with(key, read)?.is_some())
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.0.keyspace.put(key, value)
    }

    fn scan(&mut self, start: &[u8], limit: usize, read: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
        let mut scan = self.0.keyspace.scan(start..).limit(limit);
        while let Some((key, value)) = scan.next_ref()? {
            read(key, value);
        }
        Ok(())
    }

    fn put_many(&mut self, entries: &[(Key, Vec<u8>)]) -> Result<()> {
        let mut batch = self.0.db.batch();
        for (key, value) in entries {
            batch.put(&self.0.keyspace, key, value);
        }
        batch.commit()
    }
}
