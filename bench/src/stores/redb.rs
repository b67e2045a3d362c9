//! redb, with its defaults and the cache that all have.

use pugdb::Result;
use pugdb_ycsb::{Capabilities, Client, Key, Store};
use redb::{Database, Durability, ReadableDatabase as _, TableDefinition};

use super::{CACHE_BYTES, Class, Setup, failed};

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("ycsb");

struct Redb {
    db: Database,
    class: Class,
}

pub(super) fn open(setup: &Setup<'_>) -> Result<Box<dyn Store>> {
    let db = Database::builder()
        .set_cache_size(CACHE_BYTES)
        .create(setup.dir.join("data.redb"))
        .map_err(failed)?;
    let store = Redb { db, class: setup.class };
    store.write(|_| Ok(()), Durability::Immediate)?;
    Ok(Box::new(store))
}

type Table<'a> = redb::Table<'a, &'static [u8], &'static [u8]>;

impl Redb {
    /// A transaction a commit, as its documentation shows it.
    fn write(&self, work: impl FnOnce(&mut Table<'_>) -> Result<()>, durability: Durability) -> Result<()> {
        let mut transaction = self.db.begin_write().map_err(failed)?;
        transaction.set_durability(durability).map_err(failed)?;
        {
            let mut table = transaction.open_table(TABLE).map_err(failed)?;
            work(&mut table)?;
        }
        transaction.commit().map_err(failed)
    }

    /// `Durability::None` is its only level that does not sync. It is weaker than `Os`: what came after the last synced
    /// commit is gone with the process.
    fn durability(&self) -> Durability {
        match self.class {
            Class::Os => Durability::None,
            Class::Sync => Durability::Immediate,
        }
    }
}

impl Store for Redb {
    /// Its documentation advises to load in large transactions.
    fn capabilities(&self) -> Capabilities {
        Capabilities { scans: true, load_batch: 50_000 }
    }

    fn client(&self) -> Result<Box<dyn Client + Send + '_>> {
        Ok(Box::new(RedbClient(self)))
    }
}

struct RedbClient<'a>(&'a Redb);

impl Client for RedbClient<'_> {
    fn get(&mut self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let transaction = self.0.db.begin_read().map_err(failed)?;
        let table = transaction.open_table(TABLE).map_err(failed)?;
        let found = table.get(key).map_err(failed)?;
        if let Some(value) = &found {
            read(value.value());
        }
        Ok(found.is_some())
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let insert = |table: &mut Table<'_>| table.insert(key, value).map(|_| ()).map_err(failed);
        self.0.write(insert, self.0.durability())
    }

    fn scan(&mut self, start: &[u8], limit: usize, read: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
        let transaction = self.0.db.begin_read().map_err(failed)?;
        let table = transaction.open_table(TABLE).map_err(failed)?;
        table.range(start..).map_err(failed)?.take(limit).try_for_each(|entry| {
            let (key, value) = entry.map_err(failed)?;
            read(key.value(), value.value());
            Ok(())
        })
    }

    fn put_many(&mut self, entries: &[(Key, Vec<u8>)]) -> Result<()> {
        let insert = |table: &mut Table<'_>| {
            entries.iter().try_for_each(|(key, value)| {
                table.insert(key.as_slice(), value.as_slice()).map(|_| ()).map_err(failed)
            })
        };
        // A load that is never synced would keep all of its pages: it frees none before a synced commit.
        self.0.write(insert, Durability::Immediate)
    }
}
