//! A database that a command makes: encrypted and with an audit log unless it is told otherwise, whichever command it is.

use std::path::{Path, PathBuf};

use pugdb::env::Env;
use pugdb::keys::KeyFile;
use pugdb::{Builder, Database};

use crate::outcome::Failure;
use crate::root_key::{KeyArguments, usual_directory};
use crate::target::{STOP_FIRST, open_database};

/// The advice where a key file cannot be made.
const ELSEWHERE: &str = "name a root key by --root-key, or say --no-encryption";

/// Whether there is a database in `data`.
pub(crate) fn is_there(data: &Path) -> bool {
    pugdb::inspect::files(data).is_ok()
}

/// The same builder, with the root key of the database that is to be made in `data`: the one that was named, or a key file where every
/// command finds it; none with `no_encryption`.
pub(crate) fn seal(
    builder: Builder,
    keys: &KeyArguments,
    no_encryption: bool,
    data: &Path,
) -> Result<Builder, Failure> {
    if no_encryption {
        return Ok(builder);
    }
    // Also the key of an attempt that was cut off.
    if keys.is_there(data)? {
        return Ok(keys.apply(builder, data)?);
    }
    let key = KeyFile::for_new_database(&Env::os(), &directory_of_keys(ELSEWHERE)?);
    Ok(keys.apply(builder, data)?.root_key(key))
}

/// As [`seal`], for a database that is in `data` and is not encrypted yet, or was not when an attempt began that was cut off.
pub(crate) fn seal_existing(builder: Builder, keys: &KeyArguments, data: &Path) -> Result<Builder, Failure> {
    if keys.is_there(data)? {
        return Ok(keys.apply(builder, data)?);
    }
    let directory = directory_of_keys("name a root key by --root-key")?;
    // Its key file is named after it, or no command would find it.
    let db = open_database(Database::builder().create_if_missing(false), data, STOP_FIRST)?;
    let database = db.id().ok_or_else(|| Failure::usage("a database in memory is not encrypted"))?;
    db.close()?;
    Ok(keys.apply(builder, data)?.root_key(KeyFile::of_database(&directory, database)))
}

fn directory_of_keys(advice: &str) -> Result<PathBuf, Failure> {
    usual_directory()
        .ok_or_else(|| Failure::usage(format!("there is no home directory for a root key: {advice}")))
}

/// Opens what is to be made.
pub(crate) fn open(builder: Builder, data: &Path, if_in_use: &str) -> Result<Database, Failure> {
    open_database(builder, data, if_in_use).map_err(|failure| {
        let of_key_file = ["could not read the key file", "could not write the key file"];
        if of_key_file.iter().any(|doing| failure.message.contains(doing)) {
            Failure::new(failure.exit, format!("{}; {ELSEWHERE}", failure.message))
        } else {
            failure
        }
    })
}

/// What is said of a database that was made: whether it is encrypted, where its key is, and what to do with that.
pub(crate) fn introduce(db: &Database, data: &Path) -> Vec<String> {
    let data = data.display();
    match db.keys() {
        Some(keys) => {
            let status = keys.status();
            vec![
                format!("an encrypted database was made in {data}; its root key is in {}", status.provider),
                status.safekeeping.to_owned(),
            ]
        }
        None => vec![format!("a database was made in {data}; it is not encrypted")],
    }
}
