//! A database that is not encrypted gets keys: it is closed in good order, opened with a new keyring, and when nothing but tables and value files
//! is left in the clear, log and manifest that are plain become an error. Those follow by [`rewrite`](Database::rewrite). `docs/adr/0055-plain-files-among-sealed-ones.md`.

use std::path::Path;
use std::sync::Arc;

use pugdb_core::env::Access;
use pugdb_core::{Error, ErrorKind, KeyspaceId, Result};
use pugdb_lsm::file::{Context, FileSeal, seal_of};
use pugdb_lsm::manifest::State;
use pugdb_security::{Adopted, Vault};

use crate::database::Inner;
use crate::{Builder, Database, audit};

impl Database {
    /// Opens a database that is not encrypted, closes it in good order, and opens it with keys.
    pub(crate) fn encrypt_with(options: Builder, dir: &Path) -> Result<Self> {
        if options.root_key.is_none() {
            return Err(Error::invalid("no root key was given that the database's keys could be under"));
        }
        let mut plain = options.clone();
        (plain.root_key, plain.audit, plain.create) = (None, None, false);
        match Self::open_with(plain, dir) {
            Ok(db) => db.close()?,
            // It is encrypted, and maybe not for long.
            Err(error) if error.kind() == ErrorKind::Denied => {}
            Err(error) => return Err(error),
        }
        Self::open_with(Builder { encrypts: true, create: false, ..options }, dir)
    }
}

/// What is to be known of a database that is not encrypted before it gets keys. Nothing of it may be in the log alone.
///
/// # Errors
/// `Conflict` when it may be, `Invalid` when there is an audit log.
pub(crate) fn adopted(context: &Context, state: &State) -> Result<Adopted> {
    if !(state.log.clean && state.log.start == state.log.durable) {
        return Err(Error::conflict(
            "the database was not closed in good order, or was used meanwhile; try again",
        ));
    }
    if !audit::list(&*context.env.fs, &audit::folder(context))?.is_empty() {
        return Err(Error::invalid(
            "the database has an audit log, which is plain and stays so; move its directory `audit` elsewhere, and another one begins",
        ));
    }
    let maps =
        state.keyspaces.iter().filter_map(|(owner, keyspace)| Some((*owner, keyspace.partitions.as_ref()?)));
    let owners = maps.flat_map(|(owner, (map, _))| map.ids().iter().map(move |part| (*part, owner)));
    let (database, next_keyspace) = (state.database, KeyspaceId(state.next_keyspace));
    Ok(Adopted { database, next_keyspace, owners: owners.collect() })
}

/// Ends the time in which log, manifest and prepared transactions may be as they were before the database was encrypted, when none of it is
/// left.
///
/// # Errors
/// What the disk says, and what keeps the provider from a new root key: the old one opens a keyring that lets plain files in.
pub(crate) fn end_plain_past(inner: &Inner) -> Result<()> {
    let Some(durable) = inner.durable.as_ref().filter(|durable| !durable.is_reader()) else { return Ok(()) };
    let is_own = |_: &&Arc<Vault>| inner.options.keyring.is_none();
    let Some(vault) = durable.vault.as_ref().filter(is_own).filter(|vault| vault.has_plain_past()) else {
        return Ok(());
    };
    let context = &durable.context;
    let (fs, dir) = (&context.env.fs, context.log_dir());
    let doing = |error| Error::io("look for files that are not sealed", error);
    // What was removed stays so, or a crash would bring back what nobody can read any more.
    fs.sync_dir(&dir).and_then(|()| fs.sync_dir(&context.dir)).map_err(doing)?;
    for name in fs.list(&dir).map_err(doing)? {
        let file = match fs.open(&dir.join(name), Access::Read) {
            // The log's own job has taken it meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            opened => opened.map_err(doing)?,
        };
        match seal_of(&*file, &*context.cipher) {
            // It could not be removed: the next open tries again.
            Ok((_, FileSeal::Plain)) => return Ok(()),
            Ok(_) => {}
            // It was made ahead of time, and has no header yet.
            Err(error) if error.kind() == ErrorKind::Corrupt => {}
            Err(error) => return Err(error),
        }
    }
    vault.forget_plain_past()
}
