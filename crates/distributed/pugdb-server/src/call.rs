//! One command under way: the session it runs in, and the transaction it may be part of. What commands do to the
//! database goes through here, so each is written once and runs alone or inside `EXEC`.

use std::ops::{Deref, DerefMut};

use bytes::Bytes;
use pugdb::{
    Change, Entry, EntryOptions, ErrorKind, Key, KeyRange, Keyspace, LockScope, LockedKeys, LockedScan, Scan,
    SealId, Snapshot, Timestamp,
};
use pugdb_wire::resp::limits::BULK_BYTES_MAX;

use crate::failure::Failure;
use crate::session::{STRING, Session};
use crate::shared::KEYSPACES;

/// A command under way. It is its session, and more.
pub(crate) struct Call<'a> {
    session: &'a mut Session,
    /// The keys of the transaction that it is part of.
    locked: Option<&'a mut LockedKeys>,
}

impl Deref for Call<'_> {
    type Target = Session;

    fn deref(&self) -> &Session {
        self.session
    }
}

impl DerefMut for Call<'_> {
    fn deref_mut(&mut self) -> &mut Session {
        self.session
    }
}

impl<'a> Call<'a> {
    /// A command by itself.
    pub(crate) fn alone(session: &'a mut Session) -> Self {
        Self { session, locked: None }
    }

    /// A command of a transaction that runs.
    pub(crate) fn within(session: &'a mut Session, locked: &'a mut LockedKeys) -> Self {
        Self { session, locked: Some(locked) }
    }

    /// Whether it is part of a transaction that runs.
    pub(crate) fn is_in_transaction(&self) -> bool {
        self.locked.is_some()
    }

    /// The time by which expiry is judged. Inside a transaction it stands still.
    pub(crate) fn now(&self) -> Timestamp {
        self.locked.as_ref().map_or_else(|| self.shared.db.now(), |locked| locked.now())
    }

    /// A database, if anything was ever written to it.
    pub(crate) fn keyspace_of(&self, database: usize) -> Result<Option<Keyspace>, Failure> {
        let name = KEYSPACES.get(database).copied().unwrap_or_default();
        Ok(match &self.locked {
            Some(locked) => locked.keyspace(name)?,
            None => self.shared.db.existing_keyspace(name)?,
        })
    }

    /// The selected database, if anything was ever written to it.
    pub(crate) fn keyspace(&self) -> Result<Option<Keyspace>, Failure> {
        self.keyspace_of(self.database)
    }

    /// A database, made if need be. `EXEC` has made those of its commands before: a new keyspace is a commit of its own,
    /// and the keys that are locked would wait for it.
    pub(crate) fn keyspace_to_write_of(&self, database: usize) -> Result<Keyspace, Failure> {
        match (self.keyspace_of(database)?, &self.locked) {
            (Some(keyspace), _) => Ok(keyspace),
            (None, None) => {
                Ok(self.shared.db.keyspace(KEYSPACES.get(database).copied().unwrap_or_default())?)
            }
            (None, Some(_)) => Err(Failure::INTERNAL),
        }
    }

    /// The selected database, made if need be.
    pub(crate) fn keyspace_to_write(&self) -> Result<Keyspace, Failure> {
        self.keyspace_to_write_of(self.database)
    }

    /// The entry at a key.
    pub(crate) fn entry_in(&self, keyspace: &Keyspace, key: &[u8]) -> Result<Option<Entry>, Failure> {
        Ok(match &self.locked {
            Some(locked) => locked.get_entry(keyspace, key)?,
            None => keyspace.get_entry(key)?,
        })
    }

    /// The entry at a key of the selected database.
    pub(crate) fn entry(&self, key: &[u8]) -> Result<Option<Entry>, Failure> {
        let keyspace = self.keyspace()?;
        keyspace.map_or(Ok(None), |keyspace| self.entry_in(&keyspace, key))
    }

    /// The string at a key, counted as a read.
    pub(crate) fn string(&self, key: &[u8]) -> Result<Option<Bytes>, Failure> {
        let entry = self.entry(key)?;
        self.count_reads(1, usize::from(entry.is_some()));
        entry.map(string_of).transpose()
    }

    /// The longest string that is stored: 512 MiB, or a quarter of the database's memory.
    pub(crate) fn value_bytes_max(&self) -> usize {
        BULK_BYTES_MAX.min(self.shared.db.memory_bytes() / MEMORY_PART)
    }

    /// Whom a value is to be about.
    pub(crate) fn subject(&self, name: &[u8]) -> Result<SealId, Failure> {
        self.shared.db.subject(name).map_err(|error| match error.kind() {
            // It is the request that is wrong, and the rest of a transaction is carried out.
            ErrorKind::Invalid => Failure::owned(format!("ERR {error}")),
            _ => error.into(),
        })
    }

    /// The keys of the selected database.
    pub(crate) fn count_keys(&self) -> Result<u64, Failure> {
        let Some(keyspace) = self.keyspace()? else { return Ok(0) };
        match &self.locked {
            Some(locked) => {
                Ok(locked.scan(&keyspace, ..)?.try_fold(0, |count, entry| entry.map(|_| count + 1))?)
            }
            None => Ok(keyspace.count()?),
        }
    }

    /// Several entries of the selected database at one moment.
    pub(crate) fn view(&self) -> Result<View<'_>, Failure> {
        let keyspace = self.keyspace()?;
        let source = match &self.locked {
            Some(locked) => Source::Locked(locked),
            None => Source::Snapshot(self.shared.db.snapshot()?),
        };
        Ok(View { keyspace, source })
    }

    /// Reads, decides and writes one key as one step. An `Err` of the closure changes nothing.
    pub(crate) fn update<R>(
        &mut self,
        keyspace: &Keyspace,
        key: &[u8],
        decide: impl FnOnce(Option<&Entry>) -> Result<(Change, R), Failure>,
    ) -> Result<R, Failure> {
        if let Some(locked) = &mut self.locked {
            let (change, result) = decide(locked.get_entry(keyspace, key)?.as_ref())?;
            match change {
                Change::Keep => {}
                Change::Put(value, options) => locked.put_with(keyspace, key, value, options)?,
                Change::Delete => locked.delete(keyspace, key)?,
            }
            return Ok(result);
        }
        let ((result, changed), ticket) = keyspace.update_ticket(key, |old| {
            let (change, result) = match decide(old) {
                Ok((change, result)) => (change, Ok(result)),
                Err(failure) => (Change::Keep, Err(failure)),
            };
            let changed = change != Change::Keep;
            Ok((change, (result, changed)))
        })?;
        // What changed nothing is a read, and waits as reads do.
        if changed {
            self.wait_for(ticket);
        }
        result
    }

    /// Sets keys of the selected database in one step, without a look at what was there.
    pub(crate) fn put_all<'k>(
        &mut self,
        entries: impl Iterator<Item = (&'k Bytes, &'k Bytes)>,
        options: EntryOptions,
    ) -> Result<(), Failure> {
        let keyspace = self.keyspace_to_write()?;
        if let Some(locked) = &mut self.locked {
            for (key, value) in entries {
                locked.put_with(&keyspace, key, value, options)?;
            }
            return Ok(());
        }
        let mut batch = self.shared.db.batch();
        for (key, value) in entries {
            batch.put_with(&keyspace, key, value, options);
        }
        let ticket = batch.commit_ticket()?;
        self.wait_for(ticket);
        Ok(())
    }

    /// Reads, decides and writes several keys, each in its keyspace, as one step. An `Err` of the closure changes
    /// nothing when the command is alone, so the closure decides before it writes.
    pub(crate) fn update_keys<R>(
        &mut self,
        keys: &[(Keyspace, &[u8])],
        decide: impl FnOnce(&mut LockedKeys) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        self.locked_update(LockScope::Keys(keys), decide)
    }

    /// As [`update_keys`](Self::update_keys), with every key locked.
    pub(crate) fn update_everything<R>(
        &mut self,
        decide: impl FnOnce(&mut LockedKeys) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        self.locked_update(LockScope::Everything, decide)
    }

    fn locked_update<R>(
        &mut self,
        scope: LockScope<'_>,
        decide: impl FnOnce(&mut LockedKeys) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        if let Some(locked) = &mut self.locked {
            return decide(locked);
        }
        let mut refused = None;
        let outcome = self.shared.db.update_keys_ticket(scope, |locked| {
            decide(locked).map_err(|failure| {
                refused = Some(failure);
                // It only carries the way out: the failure itself is what counts.
                pugdb::Error::conflict("refused")
            })
        });
        match (outcome, refused) {
            (_, Some(failure)) => Err(failure),
            (Ok((result, ticket)), None) => {
                self.wait_for(ticket);
                Ok(result)
            }
            (Err(error), None) => Err(error.into()),
        }
    }
}

/// What an entry that is put and larger than this would be refused for.
const MEMORY_PART: usize = 4;

/// The string in an entry.
pub(crate) fn string_of(entry: Entry) -> Result<Bytes, Failure> {
    if entry.meta == STRING { Ok(entry.value.into_bytes()) } else { Err(Failure::WRONG_TYPE) }
}

/// A database at one moment: as a snapshot has it, or as the transaction under way sees it.
pub(crate) struct View<'a> {
    /// `None`: nothing was ever written to it.
    keyspace: Option<Keyspace>,
    source: Source<'a>,
}

enum Source<'a> {
    Snapshot(Snapshot),
    Locked(&'a LockedKeys),
}

/// Keys and entries of a view, in order.
pub(crate) enum ViewScan<'a> {
    Empty,
    Snapshot(Box<Scan>),
    Locked(Box<LockedScan<'a>>),
}

impl View<'_> {
    #[cfg(test)]
    pub(crate) fn of_now(keyspace: &Keyspace) -> Self {
        Self { keyspace: Some(keyspace.clone()), source: Source::Snapshot(keyspace.snapshot().unwrap()) }
    }

    /// The entry at a key.
    pub(crate) fn entry(&self, key: &[u8]) -> Result<Option<Entry>, Failure> {
        let Some(keyspace) = &self.keyspace else { return Ok(None) };
        Ok(match &self.source {
            Source::Snapshot(snapshot) => snapshot.get_entry(keyspace, key)?,
            Source::Locked(locked) => locked.get_entry(keyspace, key)?,
        })
    }

    /// Whether there is an entry at a key.
    pub(crate) fn exists(&self, key: &[u8]) -> Result<bool, Failure> {
        let Some(keyspace) = &self.keyspace else { return Ok(false) };
        Ok(match &self.source {
            Source::Snapshot(snapshot) => snapshot.exists(keyspace, key)?,
            Source::Locked(locked) => locked.get_entry(keyspace, key)?.is_some(),
        })
    }

    /// The entries at some keys, fetched together.
    pub(crate) fn entries(&self, keys: &[Bytes]) -> Result<Vec<Option<Entry>>, Failure> {
        let Some(keyspace) = &self.keyspace else { return Ok(vec![None; keys.len()]) };
        match &self.source {
            Source::Snapshot(snapshot) => Ok(snapshot.multi_get_entries(keyspace, keys)?),
            Source::Locked(locked) => {
                keys.iter().map(|key| locked.get_entry(keyspace, key).map_err(Failure::from)).collect()
            }
        }
    }

    /// The entries in a range.
    pub(crate) fn scan(&self, range: KeyRange) -> Result<ViewScan<'_>, Failure> {
        let Some(keyspace) = &self.keyspace else { return Ok(ViewScan::Empty) };
        Ok(match &self.source {
            Source::Snapshot(snapshot) => ViewScan::Snapshot(Box::new(snapshot.scan(keyspace, range))),
            Source::Locked(locked) => ViewScan::Locked(Box::new(locked.scan(keyspace, range)?)),
        })
    }
}

impl View<'_> {
    /// The first keys of a range, up to two.
    pub(crate) fn first_keys(&self, range: KeyRange) -> Result<(Option<Key>, Option<Key>), Failure> {
        let mut scan = self.scan(range)?;
        let first = scan.next_entry()?;
        let second = if first.is_some() { scan.next_entry()? } else { None };
        Ok((first.map(|(key, _)| key), second.map(|(key, _)| key)))
    }

    /// The last key of a range, where it can be told: a transaction under way only goes forward.
    pub(crate) fn last_key(&self, range: KeyRange) -> Result<Option<Key>, Failure> {
        Ok(match (&self.keyspace, &self.source) {
            (Some(keyspace), Source::Snapshot(snapshot)) => {
                snapshot.scan(keyspace, range).reverse().limit(1).next_entry()?.map(|(key, _)| key)
            }
            (None, _) | (_, Source::Locked(_)) => None,
        })
    }
}

impl ViewScan<'_> {
    pub(crate) fn next_entry(&mut self) -> Result<Option<(Key, Entry)>, Failure> {
        Ok(match self {
            Self::Empty => None,
            Self::Snapshot(scan) => scan.next_entry()?,
            Self::Locked(scan) => scan.next().transpose()?,
        })
    }
}
