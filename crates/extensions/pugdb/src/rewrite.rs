//! Files that are not as they should be, written anew: plain ones that are to be sealed, sealed ones that are to be plain, and those whose key
//! is old.

use std::collections::BTreeMap;
use std::time::Duration;

use pugdb_core::env::Access;
use pugdb_core::seam::{FileKind, Sealing};
use pugdb_core::{Error, KeyspaceId, Result};
use pugdb_lsm::file::{Context, FileSeal, seal_of};
use pugdb_lsm::store::StoredFile;
use pugdb_lsm::{table, values};
use pugdb_security::KeyAge;

use crate::Database;
use crate::durable::Durable;
use crate::key_locks::refuse_inside_observer;

/// What [`Database::rewrite`] has done.
///
/// ```
/// use pugdb::{Database, Rewritten};
///
/// assert_eq!(Database::in_memory()?.rewrite(None)?, Rewritten::default());
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// How many tables and value files are gone.
    pub files: u64,
    /// How many bytes they had.
    pub bytes: u64,
    /// How many are left that should have gone: a damaged table is in their run, or they came meanwhile.
    pub left_files: u64,
    /// How many bytes those have.
    pub left_bytes: u64,
}

impl Database {
    /// Writes tables and value files anew that are not sealed as their keyspace [is to be](crate::KeyspaceOptions::sealing): after
    /// [`Builder::encrypt`](crate::Builder::encrypt), or when the option has changed. With `older_than` also those that are sealed with another key than the
    /// keyspace's newest, if that was made longer ago: so what was [renewed](crate::keys::Vault::renew) comes to all data. It waits for it,
    /// reads and writes go on meanwhile, and when it is cut off, what was done is done. A file goes when the last snapshot that needs it does.
    ///
    /// ```
    /// use std::time::Duration;
    /// use pugdb::Database;
    /// use pugdb::keys::KeyFile;
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let (path, key) = (dir.path().join("data"), dir.path().join("orders.key"));
    /// let db = Database::builder().root_key(KeyFile::new(&key)).open(&path)?;
    /// db.keyspace("users")?.put(b"ada", b"1815")?;
    /// db.flush()?;
    /// assert_eq!(db.rewrite(Some(Duration::ZERO))?.files, 0);
    /// db.keys().unwrap().renew()?;
    /// assert_eq!(db.rewrite(Some(Duration::ZERO))?.files, 1);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Unavailable` when the disk is full or failed, `Denied` when the database is only read, `Closed`; what keeps a file's header from being
    /// read, with `older_than`.
    pub fn rewrite(&self, older_than: Option<Duration>) -> Result<Rewritten> {
        self.inner.check_open()?;
        refuse_inside_observer()?;
        let Some(durable) = &self.inner.durable else { return Ok(Rewritten::default()) };
        if durable.is_reader() {
            return Err(crate::reader::read_only());
        }
        let cutoff = older_than.map(|age| {
            let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            self.inner.options.env.clock.now().0.saturating_sub(age)
        });
        let outdated = || outdated(durable, cutoff);
        let before = outdated()?;
        durable.store.rewrite(&before)?;
        let left = outdated()?;
        let bytes = |files: &[StoredFile]| files.iter().map(|stored| stored.bytes).sum::<u64>();
        let is_left = |stored: &&StoredFile| left.iter().any(|other| other.file == stored.file);
        let gone: Vec<StoredFile> = before.iter().filter(|stored| !is_left(stored)).copied().collect();
        Ok(Rewritten {
            files: gone.len() as u64,
            bytes: bytes(&gone),
            left_files: left.len() as u64,
            left_bytes: bytes(&left),
        })
    }
}

/// The files that would be made otherwise now; of the sealed ones those with a key that was made before `cutoff`, in milliseconds since 1970.
fn outdated(durable: &Durable, cutoff: Option<u64>) -> Result<Vec<StoredFile>> {
    let keys: BTreeMap<KeyspaceId, Vec<KeyAge>> =
        durable.vault.as_ref().map_or_else(BTreeMap::new, |vault| {
            vault.status().keyspaces.into_iter().map(|of| (of.keyspace, of.keys)).collect()
        });
    let mut files = Vec::new();
    for stored in durable.store.stored_files() {
        let is_outdated = stored.sealing != stored.wanted
            || match (cutoff, stored.sealing, keys.get(&stored.tree)) {
                (Some(cutoff), Sealing::Sealed, Some(keys)) => {
                    is_under_old_key(&durable.context, &stored, keys, cutoff)?
                }
                _ => false,
            };
        files.extend(is_outdated.then_some(stored));
    }
    Ok(files)
}

fn is_under_old_key(context: &Context, stored: &StoredFile, keys: &[KeyAge], cutoff: u64) -> Result<bool> {
    let path = match stored.kind {
        FileKind::Values => values::path(context, stored.file),
        _ => table::path(context, stored.file),
    };
    let file = match context.env.fs.open(&path, Access::Read) {
        Ok(file) => file,
        // A merge has taken it meanwhile.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Error::io(format_args!("open a file of keyspace {}", stored.tree), error)),
    };
    let FileSeal::Sealed(with) = seal_of(&*file, &*context.cipher)?.1 else { return Ok(false) };
    let older = keys.split_last().map_or(&[][..], |(_, older)| older);
    Ok(older.iter().any(|key| Some(key.number) == with.generation && key.made_at.0 < cutoff))
}
