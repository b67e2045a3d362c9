//! What a store has to be able to do to be measured.

use pugdb::Result;

use crate::key::Key;

/// A store under measurement.
pub trait Store: Sync {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// A client of it, for one thread: a connection, prepared statements, or nothing much.
    fn client(&self) -> Result<Box<dyn Client + Send + '_>>;
}

/// What a store can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether it scans in the order of the keys; without it there is no workload E.
    pub scans: bool,
    /// How many entries of the load it is given at once. 1 where a put by itself is how it is meant to be used.
    pub load_batch: usize,
}

/// What one thread does to a store. A write returns when it is as durable as the store was told to make it.
pub trait Client {
    /// Shows `read` the value of a key; false when there is none.
    fn get(&mut self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool>;

    /// Sets a key.
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()>;

    /// Shows `read` the first `limit` entries from `start` on, in the order of the keys.
    fn scan(&mut self, start: &[u8], limit: usize, read: &mut dyn FnMut(&[u8], &[u8])) -> Result<()>;

    /// Sets many keys in one step of the load.
    fn put_many(&mut self, entries: &[(Key, Vec<u8>)]) -> Result<()> {
        entries.iter().try_for_each(|(key, value)| self.put(key, value))
    }
}
