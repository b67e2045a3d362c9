//! fjall, with the settings that its documentation comes with, and the cache that all have.

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use pugdb::Result;
use pugdb_ycsb::{Capabilities, Client, Key, Store};

use super::{CACHE_BYTES, Class, Setup, failed};

struct Fjall {
    db: Database,
    keyspace: Keyspace,
    class: Class,
}

pub(super) fn open(setup: &Setup<'_>) -> Result<Box<dyn Store>> {
    // README: the cache takes 20 to 25 of 100 of the memory, or more when all fits into it. All else stays at its
    // default: 64 MiB memtables, blocks of 4 KiB, LZ4, as many workers as cores, and each insert flushed to the system.
    let db =
        Database::builder(setup.dir.join("data")).cache_size(CACHE_BYTES as u64).open().map_err(failed)?;
    let keyspace = db.keyspace("ycsb", KeyspaceCreateOptions::default).map_err(failed)?;
    Ok(Box::new(Fjall { db, keyspace, class: setup.class }))
}

impl Store for Fjall {
    fn capabilities(&self) -> Capabilities {
        Capabilities { scans: true, load_batch: if self.class == Class::Sync { 1_000 } else { 1 } }
    }

    fn client(&self) -> Result<Box<dyn Client + Send + '_>> {
        Ok(Box::new(FjallClient(self)))
    }
}

struct FjallClient<'a>(&'a Fjall);

impl FjallClient<'_> {
    /// "fdatasync" is how its documentation makes a write durable: `PersistMode::SyncData`.
    fn persist(&self) -> Result<()> {
        match self.0.class {
            Class::Os => Ok(()),
            Class::Sync => self.0.db.persist(PersistMode::SyncData).map_err(failed),
        }
    }
}

impl Client for FjallClient<'_> {
    fn get(&mut self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let found = self.0.keyspace.get(key).map_err(failed)?;
        if let Some(value) = &found {
            read(value);
        }
        Ok(found.is_some())
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.0.keyspace.insert(key, value).map_err(failed)?;
        self.persist()
    }

    fn scan(&mut self, start: &[u8], limit: usize, read: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
        self.0.keyspace.range(start..).take(limit).try_for_each(|entry| {
            let (key, value) = entry.into_inner().map_err(failed)?;
            read(&key, &value);
            Ok(())
        })
    }

    fn put_many(&mut self, entries: &[(Key, Vec<u8>)]) -> Result<()> {
        let mut batch = self.0.db.batch();
        for (key, value) in entries {
            batch.insert(&self.0.keyspace, key.as_slice(), value.as_slice());
        }
        batch.commit().map_err(failed)?;
        self.persist()
    }
}
