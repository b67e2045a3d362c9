//! A store that keeps nothing: what a run over it takes is what the yardstick itself takes.

use std::sync::Arc;

use pugdb::Result;

use crate::key::{Key, number_of, spell};
use crate::store::{Capabilities, Client, Store};
use crate::value::Values;

/// Forgets what it is given, and makes up the right answer to whatever is asked.
pub(crate) struct EmptyStore {
    values: Arc<Values>,
    has_every_key: bool,
}

impl EmptyStore {
    /// An empty store that answers every get with the right value, or every get with none.
    pub(crate) fn new(values: Arc<Values>, has_every_key: bool) -> Self {
        Self { values, has_every_key }
    }
}

impl Store for EmptyStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities { scans: true, load_batch: 1 }
    }

    fn client(&self) -> Result<Box<dyn Client + Send + '_>> {
        Ok(Box::new(EmptyClient { store: self, value: Vec::new() }))
    }
}

struct EmptyClient<'a> {
    store: &'a EmptyStore,
    value: Vec<u8>,
}

impl Client for EmptyClient<'_> {
    fn get(&mut self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool> {
        if self.store.has_every_key {
            self.store.values.make(key, 0, &mut self.value);
            read(&self.value);
        }
        Ok(self.store.has_every_key)
    }

    fn put(&mut self, _key: &[u8], _value: &[u8]) -> Result<()> {
        Ok(())
    }

    fn scan(&mut self, start: &[u8], limit: usize, read: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
        let first = number_of(start);
        for number in first..first + limit as u64 {
            let key: Key = spell(number);
            self.store.values.make(&key, 0, &mut self.value);
            read(&key, &self.value);
        }
        Ok(())
    }
}
