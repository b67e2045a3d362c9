//! The door to the outside world: files, time, randomness, background jobs and every blocking wait.
//!
//! Nothing below the server touches the operating system in another way, so the simulator can stand in for all of it
//! and one seed replays a failure. [`os`] is the real thing.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::entry::Timestamp;
use crate::error::{Error, Result};

mod executor;
mod mapping;
pub mod os;

pub use executor::{Event, Executor, Job, JobControl, JobHandle, Next};

/// The outside world, as a handful of shared parts.
#[derive(Clone)]
pub struct Env {
    /// Files and directories.
    pub fs: Arc<dyn FileSystem>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for ids and salts.
    pub random: Arc<dyn Random>,
    /// Background jobs and blocking waits.
    pub executor: Arc<dyn Executor>,
}

impl Env {
    /// The operating system's files, clock, randomness and threads.
    pub fn os() -> Self {
        // One stopwatch for both: deadlines are moments of the clock.
        let clock = os::OsClock::new();
        Self {
            fs: Arc::new(os::OsFileSystem),
            clock: Arc::new(clock),
            random: Arc::new(os::OsRandom),
            executor: Arc::new(os::OsExecutor::new(clock)),
        }
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Env")
    }
}

/// What systems allow a process to have open when nobody has said anything.
const OPEN_FILES_DEFAULT: usize = 1024;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// For reading.
    Read,
    /// For reading and writing.
    ReadWrite,
}

/// Files and directories. Nothing survives a power cut before it is synced: content by [`File::sync_data`], names by
/// [`sync_dir`](Self::sync_dir) on their directory.
pub trait FileSystem: Send + Sync {
    /// Makes a new, empty file. Fails when the name exists.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// As [`create`](Self::create), and only the file's owner can read it.
    fn create_private(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.create(path)
    }

    /// True when only the file's owner can read it.
    fn is_private(&self, path: &Path) -> io::Result<bool> {
        self.open(path, Access::Read).map(|_| true)
    }

    /// The file that `path` leads to, through links by name; there need not be one. Who puts another file in its place does that there, so
    /// that the links stay.
    fn behind_links(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(path.to_owned())
    }

    /// Opens an existing file.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>>;

    /// Gives a file another name in the same directory, replacing the file that had it; or a directory, to which the name
    /// must be free.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file one more name, in any directory of the same file system. Fails when the name exists.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes a directory and its parents; fine when they exist.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Makes content and length of several files durable, as [`File::sync_data`] does for each, in any order. After an error
    /// it is unknown of each of them whether it is.
    fn sync_contents(&self, files: &[Arc<dyn File>]) -> io::Result<()> {
        files.iter().try_for_each(|file| file.sync_data())
    }

    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, in order. Names that are not UTF-8 are left out.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// How many files this process may have open at once.
    fn open_files_max(&self) -> usize {
        OPEN_FILES_DEFAULT
    }

    /// Takes the exclusive lock on `path` (made if absent), writing this process's id into it. `WouldBlock` when
    /// another holds it; the message then holds what the other wrote.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>>;
}

/// Makes the names of a new directory and of those above it durable.
///
/// # Errors
/// What the disk says.
pub fn sync_parents(fs: &dyn FileSystem, dir: &Path) -> Result<()> {
    for parent in dir.ancestors().skip(1) {
        match fs.sync_dir(parent) {
            // A directory that may not be read was there before us: nothing in it is ours.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            outcome => {
                let doing = || format!("sync the directory {}", parent.display());
                outcome.map_err(|error| Error::io(doing(), error))?;
            }
        }
    }
    Ok(())
}

/// A lock that is held until it is dropped.
pub trait FileLock: Send + Sync {}

/// An open file. Reads and writes name their offset; there is no cursor.
pub trait File: Send + Sync {
    /// Reads up to `buffer.len()` bytes; fewer only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the file at least `length` bytes long, filled with zeros, its space taken.
    fn allocate(&self, length: u64) -> io::Result<()>;

    /// As [`allocate`](Self::allocate), and gives a window to the file where a store into it can never fail; elsewhere
    /// `None`, and the file is written by [`write_at`](Self::write_at).
    fn allocate_and_map(&self, length: u64) -> io::Result<Option<Box<dyn Mapping>>> {
        self.allocate(length).map(|()| None)
    }

    /// Cuts the file off at `length`; fine when it is shorter.
    fn truncate(&self, length: u64) -> io::Result<()>;

    /// Makes content and length durable (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;

    /// The file's length in bytes.
    fn length(&self) -> io::Result<u64>;

    /// Fills `buffer` or fails with `UnexpectedEof`.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if self.read_at(buffer, offset)? == buffer.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

/// A window to all of a file. It ends with its drop, and must be gone before the file is cut.
pub trait Mapping: Send + Sync {
    /// Stores all of `bytes` in the file. They are in the operating system's hands as those of [`File::write_at`] are.
    ///
    /// # Panics
    /// When they do not lie within the window.
    fn write_at(&mut self, bytes: &[u8], offset: u64);
}

/// Time.
pub trait Clock: Send + Sync {
    /// The calendar: may jump.
    fn now(&self) -> Timestamp;

    /// The stopwatch: never goes back.
    fn monotonic(&self) -> Duration;
}

/// Randomness.
pub trait Random: Send + Sync {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}
