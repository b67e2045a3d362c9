//! Looks into the files of a database, for people: what records, edits and blocks there are. It reads only and takes no
//! lock, so it works beside a process that has the database open; what that process writes meanwhile may be missing.

use std::path::{Path, PathBuf};

use pugdb_core::env::{Env, FileSystem};
use pugdb_core::seam::Cipher;
use pugdb_core::{Error, Result};

pub use pugdb_lsm::inspect::{Detail, Field, Inspected, Part};

/// Shows each part of a file of a database to `visit`, whose error ends it. Values are never shown; keys and names of
/// keyspaces are [`Field::User`].
///
/// ```
/// use pugdb::inspect::{self, Detail};
/// use pugdb::seam::Plain;
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("data");
/// let db = pugdb::Database::open(&path)?;
/// db.keyspace("users")?.put(b"ada", b"1815")?;
/// db.close()?;
///
/// let mut entries = 0;
/// for file in inspect::files(&path)? {
///     let seen = inspect::file(&file, &Plain, Detail::Entries, &mut |part| {
///         entries += u64::from(part.what == "entry");
///         Ok(())
///     })?;
///     assert!(!seen.damaged);
/// }
/// assert_eq!(entries, 1);
/// # Ok::<(), pugdb::Error>(())
/// ```
///
/// # Errors
/// What `visit` says; `NotFound` without the file, `Denied` without the rights, `Corrupt` when it does not begin as a
/// file of PugDB does, `Unsupported` when it has a newer version, what the cipher says without the right key. Damage further
/// on is a part called `damage`, and [`Inspected::damaged`].
pub fn file(
    path: impl AsRef<Path>,
    cipher: &dyn Cipher,
    detail: Detail,
    visit: &mut dyn FnMut(Part) -> Result<()>,
) -> Result<Inspected> {
    pugdb_lsm::inspect::inspect(&Env::os(), path.as_ref(), cipher, detail, visit)
}

/// The files of a database that [`file()`] can look into: manifests, log segments, tables, value files.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("data");
/// let db = pugdb::Database::open(&path)?;
/// let files = pugdb::inspect::files(&path)?; // while it is open
/// assert!(files[0].file_name().unwrap().to_str().unwrap().starts_with("manifest-"));
/// # Ok::<(), pugdb::Error>(())
/// ```
///
/// # Errors
/// `NotFound` without the directory or a database in it, `Denied` without the rights.
pub fn files(dir: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    files_in(&*Env::os().fs, dir.as_ref())
}

pub(crate) fn files_in(fs: &dyn FileSystem, dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for (folder, prefix, suffix) in
        [("", "manifest-", ""), ("log", "", ".log"), ("tables", "", ".table"), ("tables", "", ".values")]
    {
        let folder = dir.join(folder);
        let names = match fs.list(&folder) {
            // A new database has no tables yet.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && prefix.is_empty() => continue,
            names => names.map_err(|error| Error::io(format!("list {}", folder.display()), error))?,
        };
        let is_one = |name: &&String| name.starts_with(prefix) && name.ends_with(suffix);
        files.extend(names.iter().filter(is_one).map(|name| folder.join(name)));
    }
    if files.is_empty() {
        return Err(Error::not_found("the directory holds no database"));
    }
    Ok(files)
}
