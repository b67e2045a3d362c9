//! Changes to the database and to the model, and what must be refused.

use pugdb::{Change, Durability, EngineKind, EntryOptions, Error, ErrorKind, Timestamp, WriteBatch};
use pugdb_core::KeySpan;
use pugdb_sim::{ModelEntry, ModelOp};

use super::{NAMES, Walk};
use crate::model_setup::is_refused;

impl Walk {
    /// A live entry, or one that has just expired or soon will.
    fn entry(&mut self) -> ModelEntry {
        let value = self.chance.value();
        let random = &mut self.chance.random;
        let expires_at = match random.u8(..20) {
            0..6 => Some(Timestamp(self.time.0 - 50).plus_ms(random.u64(..2000))),
            6 => Some(self.time.plus_ms(random.u64(..40_000_000_000))),
            _ => None,
        };
        ModelEntry { value, expires_at, meta: self.chance.meta() }
    }

    /// Splits a partition or merges two: nothing that anybody reads changes by it.
    pub(super) fn repartition(&mut self) {
        let (_, keyspace) = self.handle();
        if keyspace.engine() != EngineKind::Partitioned {
            return assert!(
                is_refused(&keyspace.partitions(), ErrorKind::Invalid),
                "one tree has no partitions"
            );
        }
        let partitions = keyspace.partitions().expect("it is open");
        let number = self.chance.random.usize(..partitions.len());
        let key = self.chance.random.bool().then(|| self.chance.key());
        let is_split = partitions.len() < 3 || partitions.len() < 9 && self.chance.random.bool();
        let outcome = if is_split {
            keyspace.split_partition(number, key.as_deref(), &mut |_| ())
        } else {
            keyspace.merge_partitions(number, &mut |_| ())
        };
        let now = keyspace.partitions().expect("it is open");
        if let Err(error) = outcome {
            // A key that is not inside, or a slot that cannot be split, or no partition behind it.
            assert_eq!((error.kind(), now.len()), (ErrorKind::Invalid, partitions.len()), "{error}");
            return;
        }
        assert_eq!(now.len(), if is_split { partitions.len() + 1 } else { partitions.len() - 1 });
        self.tally.repartitions += 1;
    }

    pub(super) fn put(&mut self) {
        let ((name, keyspace), key) = (self.handle(), self.chance.key());
        let before = self.now();
        let entry = self.entry();
        let outcome = if entry.expires_at.is_none() && entry.meta == 0 {
            keyspace.put(&key, &entry.value)
        } else {
            keyspace.put_with(&key, &entry.value, options(&entry))
        };
        outcome.expect("the disk is whole");
        self.commit_in(name, put(name, key, entry), before);
    }

    pub(super) fn merge(&mut self) {
        let ((name, keyspace), key) = (self.handle(), self.chance.key());
        let before = self.now();
        let operand = self.chance.operand();
        let outcome = keyspace.merge(&key, &operand);
        if keyspace.engine() != self.setup.durable() {
            return assert!(is_refused(&outcome, ErrorKind::Invalid), "memory merges nothing");
        }
        outcome.expect("the disk is whole");
        self.tally.merges += 1;
        self.commit_in(name, merge(name, key, operand), before);
    }

    pub(super) fn delete(&mut self) {
        let ((name, keyspace), key) = (self.handle(), self.chance.key());
        let before = self.now();
        keyspace.delete(&key).expect("the disk is whole");
        self.commit_in(name, delete(name, key), before);
    }

    pub(super) fn delete_range(&mut self) {
        let ((name, keyspace), range) = (self.handle(), self.chance.short_range());
        let before = self.now();
        let outcome = keyspace.delete_range(range.clone());
        if keyspace.engine() == EngineKind::Hash {
            return assert!(is_refused(&outcome, ErrorKind::Invalid), "a hash deletes no ranges");
        }
        outcome.expect("the disk is whole");
        self.tally.ranges += 1;
        if KeySpan::of(&range).is_some() {
            self.commit_in(name, ModelOp::DeleteRange { keyspace: name.into(), range }, before);
        }
    }

    /// Over one to three keyspaces, at a durability of its own or the database's, waited for or not.
    pub(super) fn batch(&mut self) {
        let spaces: Vec<_> = (0..self.chance.random.usize(1..=3)).map(|_| self.handle()).collect();
        let before = self.now();
        let mut batch = self.empty_batch();
        let mut ops = Vec::new();
        let many = self.chance.random.u8(..20) == 0;
        for _ in 0..self.chance.random.usize(1..if many { 120 } else { 9 }) {
            let (name, keyspace) = &spaces[self.chance.random.usize(..spaces.len())];
            let key = self.chance.key();
            if self.chance.random.u8(..40) == 0 && keyspace.engine() != EngineKind::Hash {
                let range = self.chance.short_range();
                if KeySpan::of(&range).is_some() {
                    ops.push(ModelOp::DeleteRange { keyspace: (*name).into(), range: range.clone() });
                }
                batch.delete_range(keyspace, range);
            } else if self.chance.random.u8(..4) == 0 && keyspace.engine() == self.setup.durable() {
                let operand = self.chance.operand();
                batch.merge(keyspace, &key, &operand);
                ops.push(merge(name, key, operand));
            } else if self.chance.random.u8(..4) == 0 {
                batch.delete(keyspace, &key);
                ops.push(delete(name, key));
            } else {
                let entry = self.entry();
                batch.put_with(keyspace, &key, &entry.value, options(&entry));
                ops.push(put(name, key, entry));
            }
        }
        assert_eq!(batch.len(), ops.len());
        let touched = |name: &str| ops.iter().any(|op| keyspace_of(op) == name);
        let volatile = NAMES.iter().filter(|name| touched(name) && self.is_volatile(name)).count();
        let durable = NAMES.iter().filter(|name| touched(name) && !self.is_volatile(name)).count();
        if volatile > 0 && durable > 0 {
            assert!(is_refused(&batch.commit(), ErrorKind::Invalid), "a batch mixes disk and memory");
            self.tally.mixed += 1;
            return;
        }
        self.send(batch);
        if ops.is_empty() {
            return;
        }
        if volatile > 0 { self.commit(&ops) } else { self.commit_logged(&ops, before) }
    }

    fn empty_batch(&mut self) -> WriteBatch {
        let batch = self.db().batch();
        match self.chance.random.u8(..3) {
            0 => batch,
            1 => batch.durability(Durability::Os),
            _ => batch.durability(Durability::Sync),
        }
    }

    fn send(&mut self, batch: WriteBatch) {
        if self.chance.random.bool() {
            return batch.commit().expect("the disk is whole");
        }
        let ticket = batch.commit_ticket().expect("the disk is whole");
        if self.chance.random.bool() {
            ticket.wait().expect("the disk is whole");
            assert!(ticket.is_done());
        }
    }

    pub(super) fn update(&mut self) {
        let ((name, keyspace), key) = (self.handle(), self.chance.key());
        let before = self.now();
        let (choice, entry) = (self.chance.random.u8(..5), self.entry());
        let (model, db) = (&self.model, self.db());
        let look = |now| model.get(model.commits(), now, name, &key);
        let outcome = keyspace.update(&key, |old| {
            // Time may have passed while it waited for room, and what was there may have expired.
            let found = old.and_then(ModelEntry::of);
            assert!(
                found.as_ref() == look(before) || found.as_ref() == look(db.now()),
                "update in {name:?} found {found:?}, not {:?}",
                look(before)
            );
            match choice {
                0 => Ok((Change::Keep, old.is_some())),
                1 => Ok((Change::Delete, old.is_some())),
                2 => Err(Error::conflict("the closure gives up")),
                _ => Ok((Change::Put(entry.value.clone(), options(&entry)), old.is_some())),
            }
        });
        match choice {
            0 => _ = outcome.expect("the disk is whole"),
            2 => assert!(is_refused(&outcome, ErrorKind::Conflict), "the closure's error comes back"),
            _ => {
                outcome.expect("the disk is whole");
                let op = if choice == 1 { delete(name, key) } else { put(name, key, entry) };
                self.commit_in(name, op, before);
            }
        }
    }

    pub(super) fn truncate(&mut self) {
        let (name, keyspace) = self.handle();
        let before = self.now();
        if self.chance.random.bool() {
            keyspace.truncate().expect("the disk is whole");
        } else {
            drop(keyspace.truncate_ticket().expect("the disk is whole"));
        }
        self.commit_in(name, ModelOp::Truncate(name.into()), before);
    }

    pub(super) fn drop_keyspace(&mut self) {
        let name = NAMES[self.chance.random.usize(..NAMES.len())];
        let before = self.now();
        let existed = self.db().drop_keyspace(name).expect("the disk is whole");
        assert_eq!(existed, self.handles.contains_key(name));
        if let Some(handle) = self.handles.remove(name) {
            self.stale.push(handle.keyspace);
            self.commit_logged(&[ModelOp::DropKeyspace(name.into())], before);
        }
    }

    /// What must be refused, and change nothing.
    pub(super) fn refused(&mut self) {
        let key = self.chance.key();
        if let Some(stale) = self.stale.last() {
            assert!(is_refused(&stale.get(&key), ErrorKind::NotFound), "a dropped keyspace is read");
            assert!(is_refused(&stale.put(&key, b"x"), ErrorKind::NotFound), "a dropped keyspace is written");
            assert!(is_refused(&stale.truncate(), ErrorKind::NotFound), "a dropped keyspace is truncated");
            assert!(is_refused(&stale.scan(..).next().expect("an error"), ErrorKind::NotFound));
        }
        let (_, keyspace) = self.handle();
        assert!(is_refused(&keyspace.put(vec![0; 70_000], b"x"), ErrorKind::Invalid), "a key too long");
        let mut batch = self.db().batch();
        batch.put(&keyspace, &key, b"must not be seen");
        batch.put(&keyspace, &key, vec![0; self.db().memory_bytes() / 4 + 1]);
        assert!(is_refused(&batch.commit(), ErrorKind::Invalid), "a value too large");
        self.db().batch().commit().expect("an empty batch is fine");
    }
}

fn options(entry: &ModelEntry) -> EntryOptions {
    EntryOptions { expires_at: entry.expires_at, meta: entry.meta, seal: None }
}

fn put(name: &str, key: Vec<u8>, entry: ModelEntry) -> ModelOp {
    ModelOp::Put { keyspace: name.into(), key, entry }
}

fn merge(name: &str, key: Vec<u8>, operand: Vec<u8>) -> ModelOp {
    ModelOp::Merge { keyspace: name.into(), key, operand }
}

fn delete(name: &str, key: Vec<u8>) -> ModelOp {
    ModelOp::Delete { keyspace: name.into(), key }
}

fn keyspace_of(op: &ModelOp) -> &str {
    match op {
        ModelOp::CreateKeyspace(name)
        | ModelOp::DropKeyspace(name)
        | ModelOp::Truncate(name)
        | ModelOp::Swap(name, _) => name,
        ModelOp::Put { keyspace, .. }
        | ModelOp::Merge { keyspace, .. }
        | ModelOp::Delete { keyspace, .. }
        | ModelOp::DeleteRange { keyspace, .. } => keyspace,
    }
}
