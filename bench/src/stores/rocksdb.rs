//! RocksDB, as its wiki page "Setup Options and Basic Tuning" recommends for a start.

use pugdb::Result;
use pugdb_ycsb::{Capabilities, Client, Key, Store};
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, Options, ReadOptions, WriteBatch, WriteOptions,
};

use super::{CACHE_BYTES, Class, Setup, failed};

struct RocksDb {
    db: DB,
    class: Class,
}

/// The settings, for transactions too.
#[must_use]
pub fn options() -> Options {
    let mut table = BlockBasedOptions::default();
    // HyperClockCache is the default and the recommended cache since 10.7 (HISTORY.md); 0 lets it size its own table.
    table.set_block_cache(&Cache::new_hyper_clock_cache(CACHE_BYTES, 0));
    // "Bloom filters are beneficial for point lookups": 10 bits a key ("Basic Tuning").
    table.set_bloom_filter(10.0, false);
    // "Basic Tuning": so that memory is bounded by the cache, and the newest level's stay in it.
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    // "Basic Tuning": 16 KiB blocks. With 4 KiB, with filters outside of the cache, and with a hash index in each block the
    // figures are the same within their noise.
    table.set_block_size(16 << 10);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    // "Basic Tuning": cores of the machine for flushes and compactions.
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    options.increase_parallelism(i32::try_from(cores).unwrap_or(2));
    // "Basic Tuning": sync behind large writes instead of all at their end.
    options.set_bytes_per_sync(1 << 20);
    // "Basic Tuning" and the default since 11.5: LZ4 where it is linked in.
    options.set_compression_type(DBCompressionType::Lz4);
    options
}

pub(super) fn open(setup: &Setup<'_>) -> Result<Box<dyn Store>> {
    let db = DB::open(&options(), setup.dir.join("data")).map_err(failed)?;
    Ok(Box::new(RocksDb { db, class: setup.class }))
}

impl Store for RocksDb {
    fn capabilities(&self) -> Capabilities {
        Capabilities { scans: true, load_batch: if self.class == Class::Sync { 1_000 } else { 1 } }
    }

    fn client(&self) -> Result<Box<dyn Client + Send + '_>> {
        let mut write = WriteOptions::default();
        write.set_sync(self.class == Class::Sync);
        Ok(Box::new(RocksDbClient { db: &self.db, write }))
    }
}

struct RocksDbClient<'a> {
    db: &'a DB,
    write: WriteOptions,
}

impl Client for RocksDbClient<'_> {
    fn get(&mut self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool> {
        // A pinned slice saves the copy out of the cache ("PinnableSlice").
        let found = self.db.get_pinned(key).map_err(failed)?;
        if let Some(value) = &found {
            read(value);
        }
        Ok(found.is_some())
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.db.put_opt(key, value, &self.write).map_err(failed)
    }

    fn scan(&mut self, start: &[u8], limit: usize, read: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
        let mut iterator = self.db.raw_iterator_opt(ReadOptions::default());
        iterator.seek(start);
        let mut left = limit;
        while left > 0 {
            let Some((key, value)) = iterator.item() else { break };
            read(key, value);
            left -= 1;
            if left > 0 {
                iterator.next();
            }
        }
        iterator.status().map_err(failed)
    }

    fn put_many(&mut self, entries: &[(Key, Vec<u8>)]) -> Result<()> {
        let mut batch = WriteBatch::default();
        for (key, value) in entries {
            batch.put(key, value);
        }
        self.db.write_opt(batch, &self.write).map_err(failed)
    }
}
