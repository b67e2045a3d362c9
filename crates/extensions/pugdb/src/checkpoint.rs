//! A checkpoint: a second directory that opens as the database was at one moment. It is made under another name and
//! gets its own as the last step, so it is whole or not there.
//!
//! | step | what | why the copy is a prefix |
//! |---|---|---|
//! | 1 flush | memtables become tables | little log is left to be copied |
//! | 2 pin | the manifest's state, its tables, the log from where it is needed to its end | one moment, as a crash would leave it |
//! | 3 sync | the log up to that end | what is in the copy can be lost in neither |
//! | 4 tables | linked, or copied from another store or to another disk | they never change |
//! | 5 log | copied up to the end | the original's is written on |
//! | 6 manifest | begun anew | it says that the log was closed there in good order |
//! | 7 name | the directory is renamed, its parents synced | |

use std::io::ErrorKind as IoErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pugdb_core::env::{Env, FileLock, FileSystem, sync_parents};
use pugdb_core::{Error, Result, Timestamp};
use pugdb_lsm::file::Context;
use pugdb_lsm::manifest::{self, Manifest, State};
use pugdb_lsm::table::LocalTables;
use pugdb_lsm::{log, table, values};

use crate::durable::{Durable, LOCK};

pub(crate) const FOLDERS: [&str; 2] = ["log", "tables"];

/// Makes a checkpoint in the directory `target`, which must not exist.
pub(crate) fn checkpoint(durable: &Durable, target: &Path, now: Timestamp) -> Result<()> {
    let env = &durable.context.env;
    refuse_existing(&*env.fs, target)?;
    if !durable.is_reader() {
        durable.store.flush()?;
    }
    let (tables, log) = durable.store.pin(|start| durable.log.pin(start))?;
    durable.log.sync_to(log.end())?;

    let place = Unfinished::make(env, target)?;
    let copy = Context {
        dir: place.dir.clone(),
        tables: Arc::new(LocalTables::new(env, place.dir.join("tables"))),
        ..durable.context.clone()
    };
    tables.place_tables(&copy)?;
    let log = log.copy_to(&copy)?;
    let time = tables.state.time.max(now);
    Manifest::begin(copy, State { log, time, ..tables.state.clone() }, 1)?;
    place.finish(target)
}

fn refuse_existing(fs: &dyn FileSystem, target: &Path) -> Result<()> {
    match fs.list(target) {
        Err(error) if error.kind() == IoErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == IoErrorKind::PermissionDenied => {
            Err(Error::io(format_args!("look for {}", target.display()), error))
        }
        _ => Err(Error::invalid(format!(
            "{} exists; a checkpoint makes its directory itself",
            target.display()
        ))),
    }
}

/// The directory under its other name. Dropped before it is [finished](Self::finish), it is removed as well as it can be.
struct Unfinished {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    is_finished: bool,
    /// Held for its drop: nobody else makes a checkpoint of this name meanwhile.
    _lock: Box<dyn FileLock>,
}

impl Unfinished {
    fn make(env: &Env, target: &Path) -> Result<Self> {
        let name = target
            .file_name()
            .ok_or_else(|| Error::invalid(format!("{} is no name for a new directory", target.display())))?;
        let mut unfinished = name.to_owned();
        unfinished.push(".unfinished");
        let dir = target.with_file_name(unfinished);
        let doing = |error| Error::io(format_args!("make the directory {}", dir.display()), error);
        let fs = Arc::clone(&env.fs);
        fs.create_dir_all(&dir).map_err(doing)?;
        refuse_other_files(&*fs, &dir)?;
        let lock = fs.lock(&dir.join(LOCK)).map_err(|error| match error.kind() {
            IoErrorKind::WouldBlock => Error::unavailable(format!(
                "another checkpoint of this name is being made in {}; wait for it",
                dir.display()
            )),
            _ => doing(error),
        })?;
        let place = Self { fs, dir, is_finished: false, _lock: lock };
        // What an attempt that failed has left.
        place.clear();
        for folder in FOLDERS {
            let made = place.fs.create_dir_all(&place.dir.join(folder));
            made.map_err(|error| {
                Error::io(format_args!("make a directory in {}", place.dir.display()), error)
            })?;
        }
        Ok(place)
    }

    fn finish(mut self, target: &Path) -> Result<()> {
        refuse_existing(&*self.fs, target)?;
        let renamed = self.fs.rename(&self.dir, target);
        renamed.map_err(|error| Error::io(format_args!("give {} its name", target.display()), error))?;
        self.is_finished = true;
        sync_parents(&*self.fs, target)
    }

    fn clear(&self) {
        remove_our_files(&*self.fs, &self.dir);
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        // Best effort: the next checkpoint of this name begins with the same.
        self.clear();
        for folder in FOLDERS {
            let _ = self.fs.remove_dir(&self.dir.join(folder));
        }
        let _ = self.fs.remove(&self.dir.join(LOCK));
        let _ = self.fs.remove_dir(&self.dir);
    }
}

/// Removes the files of a database in `dir`, the one first that makes a database of them, and not its lock.
pub(crate) fn remove_our_files(fs: &dyn FileSystem, dir: &Path) {
    let remove = |folder: &Path, is_ours: &dyn Fn(&str) -> bool| {
        for name in fs.list(folder).unwrap_or_default().iter().filter(|name| is_ours(name)) {
            let _ = fs.remove(&folder.join(name));
        }
    };
    let _ = fs.remove(&dir.join(manifest::CURRENT));
    remove(dir, &|name| name != LOCK && is_ours(name));
    remove(&dir.join("log"), &|name| log::parse_name(name).is_some());
    remove(&dir.join("tables"), &|name| {
        table::parse_file_name(name).or_else(|| values::parse_file_name(name)).is_some()
    });
}

/// A file of a database's own directory.
fn is_ours(name: &str) -> bool {
    matches!(name, LOCK | "CURRENT" | "CURRENT.new") || manifest::parse_name(name).is_some()
}

fn refuse_other_files(fs: &dyn FileSystem, dir: &Path) -> Result<()> {
    let names = fs.list(dir).map_err(|error| Error::io(format_args!("list {}", dir.display()), error))?;
    if names.iter().all(|name| is_ours(name) || FOLDERS.contains(&name.as_str())) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{} holds other files; choose another name for the checkpoint",
        dir.display()
    )))
}
