//! A clock that stands still, and a disk whose syncs can be counted, held up and failed.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use pugdb::Timestamp;
use pugdb::env::os::{OsClock, OsFileSystem};
use pugdb::env::{Access, Clock, Env, File, FileLock, FileSystem};

/// 2026-01-01, as good as any.
const START_MS: u64 = 1_767_225_600_000;

/// The handles on the outside world of a test.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) clock: Arc<StillClock>,
    pub(crate) syncs: Arc<Syncs>,
}

impl World {
    pub(crate) fn new() -> Self {
        let clock = StillClock { now: AtomicU64::new(START_MS), stopwatch: OsClock::new() };
        Self { clock: Arc::new(clock), syncs: Arc::default() }
    }

    pub(crate) fn env(&self) -> Env {
        let clock: Arc<dyn Clock> = Arc::<StillClock>::clone(&self.clock);
        Env { clock, fs: Arc::new(WatchedFiles { syncs: Arc::clone(&self.syncs) }), ..Env::os() }
    }
}

/// Its calendar moves only when a test moves it.
pub(crate) struct StillClock {
    now: AtomicU64,
    stopwatch: OsClock,
}

impl StillClock {
    pub(crate) fn advance(&self, milliseconds: u64) {
        self.now.fetch_add(milliseconds, Ordering::SeqCst);
    }
}

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        self.stopwatch.monotonic()
    }
}

/// What becomes of syncs of file contents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fate {
    #[default]
    Pass,
    /// They wait until there is another fate.
    Hold,
    Fail,
    /// Those of the audit log fail.
    FailAudit,
}

#[derive(Default)]
pub(crate) struct Syncs {
    fate: Mutex<Fate>,
    changed: Condvar,
    count: AtomicU64,
}

impl Syncs {
    pub(crate) fn set(&self, fate: Fate) {
        *self.fate.lock() = fate;
        self.changed.notify_all();
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    fn pass(&self, is_audit: bool) -> io::Result<()> {
        let mut fate = self.fate.lock();
        while *fate == Fate::Hold {
            self.changed.wait(&mut fate);
        }
        self.count.fetch_add(1, Ordering::SeqCst);
        let fails = *fate == Fate::Fail || (is_audit && *fate == Fate::FailAudit);
        if fails { Err(io::Error::other("a test fails this sync")) } else { Ok(()) }
    }
}

struct WatchedFiles {
    syncs: Arc<Syncs>,
}

impl WatchedFiles {
    fn watch(&self, file: Arc<dyn File>, path: &Path) -> Arc<dyn File> {
        let is_audit = path.parent().is_some_and(|folder| folder.ends_with("audit"));
        Arc::new(WatchedFile { file, is_audit, syncs: Arc::clone(&self.syncs) })
    }
}

impl FileSystem for WatchedFiles {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        OsFileSystem.create(path).map(|file| self.watch(file, path))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        OsFileSystem.open(path, access).map(|file| self.watch(file, path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsFileSystem.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsFileSystem.link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        OsFileSystem.remove(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        OsFileSystem.remove_dir(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        OsFileSystem.create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        OsFileSystem.sync_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        OsFileSystem.list(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        OsFileSystem.lock(path)
    }
}

struct WatchedFile {
    file: Arc<dyn File>,
    is_audit: bool,
    syncs: Arc<Syncs>,
}

impl File for WatchedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.file.allocate(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.syncs.pass(self.is_audit)?;
        self.file.sync_data()
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.file.truncate(length)
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }
}
