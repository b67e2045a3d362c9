//! `SQLite`, bundled, with a connection for each client.

use std::path::PathBuf;
use std::time::Duration;

use pugdb::Result;
use pugdb_ycsb::{Capabilities, Client, Key, Store};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{CACHE_BYTES, Class, Setup, failed};

/// withoutrowid.html: such a table is for keys that are no integers, when a row is below a twentieth of a page.
const WITHOUT_ROWID_VALUE_BYTES_MAX: usize = 4096 / 20 - 24;
/// How long a writer waits for the one before it.
const BUSY_TIMEOUT: Duration = Duration::from_mins(1);

struct Sqlite {
    path: PathBuf,
    class: Class,
}

pub(super) fn open(setup: &Setup<'_>) -> Result<Box<dyn Store>> {
    let store = Sqlite { path: setup.dir.join("data.sqlite"), class: setup.class };
    let suffix = if setup.value_bytes <= WITHOUT_ROWID_VALUE_BYTES_MAX { "WITHOUT ROWID" } else { "" };
    let create = format!("CREATE TABLE ycsb (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL) {suffix}");
    store.connect()?.execute_batch(&create).map_err(failed)?;
    Ok(Box::new(store))
}

impl Sqlite {
    fn connect(&self) -> Result<Connection> {
        let connection = Connection::open(&self.path).map_err(failed)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
        // wal.html and pragma.html: WAL with synchronous NORMAL "is a good choice for most applications"; FULL syncs
        // each commit.
        let synchronous = match self.class {
            Class::Os => "NORMAL",
            Class::Sync => "FULL",
        };
        // A negative cache_size counts KiB. Where many connections share the work, each has a part of the cache.
        let cache_bytes = if self.class == Class::Sync { CACHE_BYTES / 16 } else { CACHE_BYTES };
        let settings = format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous}; PRAGMA cache_size = -{};",
            cache_bytes / 1024
        );
        connection.execute_batch(&settings).map_err(failed)?;
        Ok(connection)
    }
}

impl Store for Sqlite {
    /// faq.html, question 19: many inserts belong into one transaction.
    fn capabilities(&self) -> Capabilities {
        Capabilities { scans: true, load_batch: 50_000 }
    }

    fn client(&self) -> Result<Box<dyn Client + Send + '_>> {
        Ok(Box::new(SqliteClient(self.connect()?)))
    }
}

/// Its statements are prepared once and kept.
struct SqliteClient(Connection);

const PUT: &str =
    "INSERT INTO ycsb (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";

impl Client for SqliteClient {
    fn get(&mut self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let mut statement = self.0.prepare_cached("SELECT value FROM ycsb WHERE key = ?1").map_err(failed)?;
        let found = statement
            .query_row([key], |row| {
                read(row.get_ref(0)?.as_blob()?);
                Ok(())
            })
            .optional()
            .map_err(failed)?;
        Ok(found.is_some())
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.0.prepare_cached(PUT).map_err(failed)?.execute(params![key, value]).map_err(failed)?;
        Ok(())
    }

    fn scan(&mut self, start: &[u8], limit: usize, read: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
        let select = "SELECT key, value FROM ycsb WHERE key >= ?1 ORDER BY key LIMIT ?2";
        let mut statement = self.0.prepare_cached(select).map_err(failed)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows = statement.query(params![start, limit]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let blob = |column| row.get_ref(column).map_err(failed)?.as_blob().map_err(failed);
            read(blob(0)?, blob(1)?);
        }
        Ok(())
    }

    fn put_many(&mut self, entries: &[(Key, Vec<u8>)]) -> Result<()> {
        let transaction = self.0.transaction().map_err(failed)?;
        {
            let mut statement = transaction.prepare_cached(PUT).map_err(failed)?;
            for (key, value) in entries {
                statement.execute(params![key, value]).map_err(failed)?;
            }
        }
        transaction.commit().map_err(failed)
    }
}
