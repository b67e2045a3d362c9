//! Opening for reading beside whoever writes: a directory of the reader's own, with a second name for every file that it needs.
//!
//! | step | what | why it holds |
//! |---|---|---|
//! | 1 lease | a directory in `readers/`, locked | who finds it unlocked may remove it: its reader is gone |
//! | 2 log | its end is found, nothing is cut | records of the past are whole, that of this moment may not be |
//! | 3 manifest | read as it is after that | sorted files and partitions stand in it alone: those from before the end are there |
//! | 4 names | tables, value files and log segments are linked | the writer removes names; a file stays while it has another one |
//! | 5 trees | the log is replayed into memtables, and into tables of its own where they grow large | |
//!
//! The writer knows nothing of it and is never in its way. It may be faster: then a file that the manifest names is gone, or the log
//! goes on behind a record that was not yet whole. So all of it is done again, from the first step.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pugdb_core::env::{Env, FileLock, FileSystem};
use pugdb_core::{Error, ErrorKind, FileId, Result};
use pugdb_lsm::file::Context;
use pugdb_lsm::log;

use crate::checkpoint::{FOLDERS, remove_our_files};
use crate::durable::LOCK;

/// Where readers have their directories.
pub(crate) const READERS: &str = "readers";
/// A writer that is faster so many times is not one: then it is damage.
const ATTEMPTS: usize = 16;

/// The directory of one reader. Dropped, it is removed.
pub(crate) struct Lease {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    _lock: Box<dyn FileLock>,
}

impl Lease {
    /// Makes a directory for a reader of the database in `dir`.
    fn take(env: &Env, dir: &Path) -> Result<Self> {
        loop {
            let own = dir.join(READERS).join(FileId::random(&*env.random).to_string());
            let lease = Self::make(&env.fs, &own);
            let doing =
                |error| Error::io(format_args!("make the reader's directory {}", own.display()), error);
            if let Some(lease) = lease.map_err(doing)? {
                return Ok(lease);
            }
        }
    }

    /// `None` when somebody has removed the directory before it was locked: it looked like one that was left behind.
    fn make(fs: &Arc<dyn FileSystem>, dir: &Path) -> io::Result<Option<Self>> {
        let lock = match fs.create_dir_all(dir).and_then(|()| fs.lock(&dir.join(LOCK))) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotFound) => {
                return Ok(None);
            }
            lock => lock?,
        };
        if !fs.list(dir).is_ok_and(|names| names.iter().any(|name| name == LOCK)) {
            return Ok(None);
        }
        let lease = Self { fs: Arc::clone(fs), dir: dir.to_owned(), _lock: lock };
        for folder in FOLDERS {
            fs.create_dir_all(&dir.join(folder))?;
        }
        Ok(Some(lease))
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Gives the segments of the log a second name.
    pub(crate) fn link_log(&self, context: &Context) -> Result<()> {
        let (from, to) = (context.log_dir(), self.dir.join("log"));
        let names = self.fs.list(&from).map_err(|error| Error::io("list the log's directory", error))?;
        for name in names.iter().filter(|name| log::parse_name(name).is_some()) {
            let linked = self.fs.link(&from.join(name), &to.join(name));
            linked.map_err(|error| Error::io(format_args!("link the log segment {name}"), error))?;
        }
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        remove(&*self.fs, &self.dir);
        // When it was the last one.
        let _ = self.dir.parent().map(|readers| self.fs.remove_dir(readers));
    }
}

/// Removes what readers have left that were killed. Best effort: the next open does it again.
pub(crate) fn sweep(fs: &dyn FileSystem, dir: &Path) {
    let readers = dir.join(READERS);
    let Ok(names) = fs.list(&readers) else { return };
    for name in names {
        let left = readers.join(name);
        // Whoever can lock it knows that its reader is gone.
        if let Ok(_lock) = fs.lock(&left.join(LOCK)) {
            remove(fs, &left);
        }
    }
    let _ = fs.remove_dir(&readers);
}

fn remove(fs: &dyn FileSystem, dir: &Path) {
    remove_our_files(fs, dir);
    for folder in FOLDERS {
        let _ = fs.remove_dir(&dir.join(folder));
    }
    let _ = fs.remove(&dir.join(LOCK));
    let _ = fs.remove_dir(dir);
}

/// Opens with a lease, again and again while the writer is faster.
pub(crate) fn with_lease<T>(env: &Env, dir: &Path, open: impl Fn(Lease) -> Result<T>) -> Result<T> {
    sweep(&*env.fs, dir);
    let mut attempt = 1;
    loop {
        let outcome = open(Lease::take(env, dir)?);
        let is_overtaken = |error: &Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt);
        match outcome {
            Err(error) if is_overtaken(&error) && attempt < ATTEMPTS => attempt += 1,
            outcome => return outcome,
        }
    }
}

/// What everything is refused with that would change a database opened for reading only.
pub(crate) fn read_only() -> Error {
    Error::denied("the database is open for reading only; whoever writes opens it with `Database::open`")
}
