//! Puts entries into keyspaces in batches bounded by count and bytes.

use pugdb::{Database, Durability, EntryOptions, Keyspace, WriteBatch, limits};

use crate::outcome::Failure;
use crate::target::Local;

const BATCH_ENTRIES_MAX: usize = 1_000;
const BATCH_BYTES_MAX: usize = 8 << 20;
/// More than what a batch counts for an entry beside key and value.
const ENTRY_OVERHEAD_BYTES: usize = 256;

/// Entries on their way in. Nothing is promised before [`finish`](Self::finish): then all of it is on disk.
pub(super) struct Loader {
    db: Database,
    batch: WriteBatch,
    entries: usize,
    bytes: usize,
    entry_bytes_max: usize,
}

impl Loader {
    pub(super) fn new(local: &Local) -> Self {
        let db = local.db.clone();
        Self {
            batch: fresh_batch(&db),
            entries: 0,
            bytes: 0,
            entry_bytes_max: entry_bytes_max(db.memory_bytes()),
            db,
        }
    }

    /// The largest value that can be put.
    pub(super) fn value_bytes_max(&self) -> usize {
        self.entry_bytes_max.min(limits::VALUE_BYTES_MAX)
    }

    /// Why an entry of this size cannot be put, if it cannot.
    pub(super) fn refuses(&self, key_bytes: usize, value_bytes: usize) -> Option<String> {
        if key_bytes > limits::KEY_BYTES_MAX {
            return Some(format!(
                "the key has {key_bytes} bytes; at most {} are allowed",
                limits::KEY_BYTES_MAX
            ));
        }
        let too_large =
            value_bytes > self.value_bytes_max() || key_bytes + value_bytes > self.entry_bytes_max;
        too_large.then(|| self.too_large())
    }

    /// The sentence about a value that is too large.
    pub(super) fn too_large(&self) -> String {
        let bytes_max = self.value_bytes_max();
        if bytes_max < limits::VALUE_BYTES_MAX {
            format!("a value has at most {bytes_max} bytes with this --memory; give more")
        } else {
            format!("a value has at most {bytes_max} bytes")
        }
    }

    /// True when the batch has to be committed before an entry of this size is put.
    pub(super) fn is_full(&self, key_bytes: usize, value_bytes: usize) -> bool {
        let bytes = key_bytes + value_bytes + ENTRY_OVERHEAD_BYTES;
        self.entries >= BATCH_ENTRIES_MAX || (self.entries > 0 && self.bytes + bytes > BATCH_BYTES_MAX)
    }

    /// Puts an entry that it does not [refuse](Self::refuses).
    pub(super) fn put(
        &mut self,
        keyspace: &Keyspace,
        key: &[u8],
        value: &[u8],
        options: EntryOptions,
    ) -> Result<(), Failure> {
        if self.is_full(key.len(), value.len()) {
            self.commit()?;
        }
        self.batch.put_with(keyspace, key, value, options);
        self.entries += 1;
        self.bytes += key.len() + value.len() + ENTRY_OVERHEAD_BYTES;
        Ok(())
    }

    /// Hands what is gathered to the operating system.
    fn commit(&mut self) -> Result<(), Failure> {
        if self.entries > 0 {
            self.commit_with(|_| Ok(()))?;
        }
        Ok(())
    }

    /// As [`commit`](Self::commit), with something more in the same batch.
    pub(super) fn commit_with(
        &mut self,
        add: impl FnOnce(&mut WriteBatch) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut batch = std::mem::replace(&mut self.batch, fresh_batch(&self.db));
        (self.entries, self.bytes) = (0, 0);
        add(&mut batch)?;
        batch.commit()?;
        Ok(())
    }

    /// Writes the rest, and closes the database in good order: all of it is on disk then.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        self.commit()?;
        Ok(self.db.close()?)
    }
}

/// A killed import is begun again, so single batches need not be synced: the close at the end syncs all.
fn fresh_batch(db: &Database) -> WriteBatch {
    db.batch().durability(Durability::Os)
}

fn entry_bytes_max(memory_bytes: usize) -> usize {
    (memory_bytes / limits::MEMORY_PART_MAX).min(limits::BATCH_BYTES_MAX).saturating_sub(ENTRY_OVERHEAD_BYTES)
}
