//! The real world: files by the operating system, one thread a background job.

use std::fs;
use std::io::{self, Read, Seek, Write};
use std::num::NonZero;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};

use super::mapping::OsMapping;
use super::{
    Access, Clock, Event, Executor, File, FileLock, FileSystem, Job, JobControl, JobHandle, Mapping, Next,
    Random,
};
use crate::entry::Timestamp;

mod dumps;

pub use dumps::leave_no_core_dumps;

/// Files of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsFileSystem;

struct OsFile(fs::File);

/// So many files are synced at the same time: more gain little.
const SYNC_THREADS: usize = 8;

/// As many links as Linux follows.
const LINKS_MAX: usize = 40;

fn panicked() -> io::Error {
    io::Error::other("the thread that synced a file panicked")
}

struct OsLock(#[expect(dead_code, reason = "held for its drop, which releases the lock")] fs::File);

impl FileLock for OsLock {}

impl FileSystem for OsFileSystem {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = fs::OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        Ok(Arc::new(OsFile(file)))
    }

    fn create_private(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        Ok(Arc::new(OsFile(options.open(path)?)))
    }

    fn is_private(&self, path: &Path) -> io::Result<bool> {
        let of_others = fs::metadata(path)?.mode() & 0o077;
        Ok(of_others == 0)
    }

    fn behind_links(&self, path: &Path) -> io::Result<PathBuf> {
        let mut path = path.to_owned();
        for _ in 0..LINKS_MAX {
            match fs::read_link(&path) {
                // Behind the directory of the link, unless it begins at the root.
                Ok(target) => path = path.parent().map_or_else(|| target.clone(), |dir| dir.join(&target)),
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) =>
                {
                    return Ok(path);
                }
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, "too many links lead from one to the next"))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let file = fs::OpenOptions::new().read(true).write(access == Access::ReadWrite).open(path)?;
        Ok(Arc::new(OsFile(file)))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place behind env.fs.rename")]
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    /// A file system with a journal makes one entry of what is asked for at the same time, and asks the disk once.
    fn sync_contents(&self, files: &[Arc<dyn File>]) -> io::Result<()> {
        let sync = |files: &[Arc<dyn File>]| files.iter().try_for_each(|file| file.sync_data());
        let mut parts = files.chunks(files.len().div_ceil(SYNC_THREADS).max(1));
        let own = parts.next().unwrap_or_default();
        thread::scope(|scope| {
            let start =
                |part| thread::Builder::new().spawn_scoped(scope, move || sync(part)).map_err(|_| part);
            let threads: Vec<_> = parts.map(start).collect();
            let mut outcome = sync(own);
            for thread in threads {
                // Where no thread could be started it is done here.
                let of_part =
                    thread.map_or_else(sync, |thread| thread.join().unwrap_or_else(|_| Err(panicked())));
                outcome = outcome.and(of_part);
            }
            outcome
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        fs::OpenOptions::new().read(true).open(path)?.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            names.extend(entry?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn open_files_max(&self) -> usize {
        let limit = getrlimit(Resource::Nofile).current;
        limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        let mut file =
            fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)?;
                file.rewind()?;
                file.write_all(std::process::id().to_string().as_bytes())?;
                Ok(Box::new(OsLock(file)))
            }
            Err(fs::TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Whatever cannot be read is an unknown holder; a process id has few digits.
                let _ = Read::by_ref(&mut file).take(20).read_to_string(&mut holder);
                Err(io::Error::new(io::ErrorKind::WouldBlock, holder))
            }
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

/// Whether a file's space is its own already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Space {
    Taken,
    /// A file system without `fallocate`: space is taken as it is written.
    AsWritten,
}

impl OsFile {
    #[cfg(target_os = "linux")]
    fn take_space(&self, length: u64) -> io::Result<Space> {
        if length == 0 || self.length()? >= length {
            return Ok(Space::AsWritten);
        }
        loop {
            match rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::empty(), 0, length) {
                Ok(()) => return Ok(Space::Taken),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                    self.0.set_len(length)?;
                    return Ok(Space::AsWritten);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn take_space(&self, length: u64) -> io::Result<Space> {
        if self.length()? < length {
            self.0.set_len(length)?;
        }
        Ok(Space::AsWritten)
    }
}

impl File for OsFile {
    fn read_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while !buffer.is_empty() {
            match self.0.read_at(buffer, offset) {
                Ok(0) => break,
                Ok(count) => {
                    done += count;
                    offset += count as u64;
                    buffer = &mut buffer[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.take_space(length).map(drop)
    }

    fn allocate_and_map(&self, length: u64) -> io::Result<Option<Box<dyn Mapping>>> {
        Ok(match self.take_space(length)? {
            Space::Taken => OsMapping::of(&self.0)?.map(|mapping| Box::new(mapping) as Box<dyn Mapping>),
            Space::AsWritten => None,
        })
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        if self.length()? <= length { Ok(()) } else { self.0.set_len(length) }
    }

    /// The standard library uses `fdatasync` on Linux and `F_FULLFSYNC` on macOS.
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

/// The system's calendar and stopwatch.
#[derive(Clone, Copy, Debug)]
pub struct OsClock {
    start: Instant,
}

impl OsClock {
    /// The stopwatch starts here.
    #[expect(clippy::disallowed_methods, reason = "this is the one place behind env.clock")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for OsClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for OsClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place behind env.clock")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// The system's random number generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsRandom;

impl Random for OsRandom {
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the kernel's generator works once the system has booted");
    }
}

/// One thread a job; waits block the calling thread.
#[derive(Clone, Copy, Debug)]
pub struct OsExecutor {
    clock: OsClock,
}

impl OsExecutor {
    /// Deadlines are moments of `clock`.
    pub fn new(clock: OsClock) -> Self {
        Self { clock }
    }
}

impl Executor for OsExecutor {
    #[expect(clippy::print_stderr, reason = "a thread that cannot start, or died, has nobody else to tell")]
    fn spawn(&self, name: &'static str, mut job: Box<dyn Job>) -> JobHandle {
        let control = Arc::new(JobControl::default());
        let handle = JobHandle::new(Arc::clone(&control));
        let clock = self.clock;
        let body = {
            let control = Arc::clone(&control);
            move || {
                // The closure owns the job, so a panic poisons nothing that is used afterwards.
                let outcome = catch_unwind(AssertUnwindSafe(|| run(job.as_mut(), &control, clock)));
                drop(job);
                control.finish(outcome.is_err());
            }
        };
        if let Err(error) = thread::Builder::new().name(format!("pugdb-{name}")).spawn(body) {
            eprintln!("pugdb: could not start the thread {name}: {error}");
            control.finish(true);
        }
        handle
    }

    fn processors(&self) -> usize {
        thread::available_parallelism().map_or(1, NonZero::get)
    }

    fn block_until(
        &self,
        event: &Event,
        deadline: Option<Duration>,
        ready: &mut dyn FnMut() -> bool,
    ) -> bool {
        let clock = self.clock;
        event.wait_on_thread(&|| deadline.map(|at| at.saturating_sub(clock.monotonic())), ready)
    }
}

fn run(job: &mut dyn Job, control: &JobControl, clock: OsClock) {
    loop {
        let deadline = match job.run() {
            Next::Again => continue,
            Next::Done => return,
            Next::Wait => None,
            Next::WaitUntil(at) => Some(at),
        };
        let timeout = || deadline.map(|at| at.saturating_sub(clock.monotonic()));
        control.event.wait_on_thread(&timeout, &mut || control.take_wake());
    }
}

#[cfg(test)]
mod tests;
