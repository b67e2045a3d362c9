//! LMDB, by heed.

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions};
use pugdb::Result;
use pugdb_ycsb::{Capabilities, Client, Key, Store};

use super::{Class, Setup, failed};

/// The map is address space, and holds everything: there is no cache to set, the system's page cache is it.
const MAP_BYTES: usize = 32 << 30;
/// More than clients ever run here.
const READERS_MAX: u32 = 300;

struct Lmdb {
    env: &'static Env,
    db: Database<'static, Bytes, Bytes>,
}

#[expect(unsafe_code, reason = "heed leaves to its caller what a memory map needs")]
pub(super) fn open(setup: &Setup<'_>) -> Result<Box<dyn Store>> {
    let mut options = EnvOpenOptions::new();
    options.map_size(MAP_BYTES).max_readers(READERS_MAX);
    if setup.class == Class::Os {
        // lmdb.h on MDB_NOSYNC: with a writable map, MDB_MAPASYNC is the one to prefer when commits need no sync.
        // SAFETY: the flags weaken durability, which is what this class asks for, and nobody else maps the file.
        unsafe { options.flags(EnvFlags::WRITE_MAP | EnvFlags::MAP_ASYNC) };
    }
    // SAFETY: the directory is new and this process's own, so nobody changes the file under the map.
    let env = unsafe { options.open(setup.dir) }.map_err(failed)?;
    // The handle of the database borrows the environment; the process ends with its store.
    let env: &'static Env = Box::leak(Box::new(env));
    let transaction = env.write_txn().map_err(failed)?;
    let db = env
        .create_databases_and_commit(transaction, |opener, transaction| {
            opener.create_database(transaction, None).map(CommitOrAbort::<_, ()>::Commit)
        })
        .map_err(failed)?
        .unwrap_commit();
    Ok(Box::new(Lmdb { env, db }))
}

impl Store for Lmdb {
    /// A load in large transactions: each commit writes all pages on the way to the root.
    fn capabilities(&self) -> Capabilities {
        Capabilities { scans: true, load_batch: 50_000 }
    }

    fn client(&self) -> Result<Box<dyn Client + Send + '_>> {
        Ok(Box::new(LmdbClient(self)))
    }
}

struct LmdbClient<'a>(&'a Lmdb);

impl Client for LmdbClient<'_> {
    fn get(&mut self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let transaction = self.0.env.read_txn().map_err(failed)?;
        let found = self.0.db.get(&transaction, key).map_err(failed)?;
        if let Some(value) = found {
            read(value);
        }
        Ok(found.is_some())
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut transaction = self.0.env.write_txn().map_err(failed)?;
        self.0.db.put(&mut transaction, key, value).map_err(failed)?;
        transaction.commit().map_err(failed)
    }

    fn scan(&mut self, start: &[u8], limit: usize, read: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
        let transaction = self.0.env.read_txn().map_err(failed)?;
        let from = (std::ops::Bound::Included(start), std::ops::Bound::Unbounded);
        self.0.db.range(&transaction, &from).map_err(failed)?.take(limit).try_for_each(|entry| {
            let (key, value) = entry.map_err(failed)?;
            read(key, value);
            Ok(())
        })
    }

    fn put_many(&mut self, entries: &[(Key, Vec<u8>)]) -> Result<()> {
        let mut transaction = self.0.env.write_txn().map_err(failed)?;
        for (key, value) in entries {
            self.0.db.put(&mut transaction, key, value).map_err(failed)?;
        }
        transaction.commit().map_err(failed)
    }
}
