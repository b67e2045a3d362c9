//! The disk's face to the program: every call is counted, judged, then done, failed or done in part.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use pugdb_core::env::{Access, File, FileLock, FileSystem};

use super::{Disk, parts};
use crate::faults::{CallKind, Verdict};
use crate::world::{Machine, Part};

const CALL_TIME: Duration = Duration::from_micros(2);
const SYNC_TIME: Duration = Duration::from_micros(90);

struct OpenFile {
    machine: Arc<Machine>,
    file: u64,
    path: PathBuf,
    access: Access,
}

struct HeldLock {
    machine: Arc<Machine>,
    file: u64,
}

/// What a call is about, for the trace.
struct Subject<'a> {
    kind: CallKind,
    path: &'a Path,
    detail: Detail<'a>,
}

enum Detail<'a> {
    None,
    To(&'a Path),
    Range(u64, usize),
    Length(u64),
}

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.as_os_str().is_empty() { Path::new(".") } else { self.path };
        write!(f, "{} {}", self.kind, path.display())?;
        match self.detail {
            Detail::None => Ok(()),
            Detail::To(to) => write!(f, " to {}", to.display()),
            Detail::Range(offset, length) => write!(f, " {offset}+{length}"),
            Detail::Length(length) => write!(f, " {length}"),
        }
    }
}

impl Machine {
    /// One call: `act` does it, `spoil` does what a call that fails in the middle still does.
    fn call<T>(
        &self,
        subject: &Subject<'_>,
        act: impl FnOnce(&mut Disk, &mut Rng) -> io::Result<T>,
        spoil: impl FnOnce(&mut Disk, &mut Rng, Verdict),
    ) -> io::Result<T> {
        let (number, mut verdict, when, line) = {
            let mut state = self.state.lock();
            let (number, verdict) = state.faults.judge(subject.kind);
            let line = number.and_then(|number| state.faults.note(|| format!("{number} {subject}")));
            let time = if subject.kind == CallKind::SyncData { SYNC_TIME } else { CALL_TIME };
            state.clock += time;
            (number, verdict, state.faults.when.clone(), line)
        };
        // The test's own code runs outside the lock: it may look at the world.
        if let (Verdict::Go, Some(when)) = (verdict, when)
            && let Some(kind) = when(subject.kind, subject.path)
        {
            verdict = Verdict::Fail(kind);
        }
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let outcome = match verdict {
            Verdict::Go => act(&mut state.disk, &mut state.chance),
            Verdict::Off => Err(io::Error::other("the machine is off")),
            Verdict::Stop => {
                spoil(&mut state.disk, &mut state.chance, verdict);
                Err(io::Error::other("the machine is off"))
            }
            Verdict::Fail(kind) => {
                spoil(&mut state.disk, &mut state.chance, verdict);
                let number = number.unwrap_or(state.faults.calls);
                Err(io::Error::new(kind, format!("the test failed call {number} {subject}: {kind}")))
            }
        };
        if let Err(error) = &outcome {
            state.faults.note_outcome(line, error);
        }
        outcome
    }

    fn simple_call<T>(
        &self,
        kind: CallKind,
        path: &Path,
        act: impl FnOnce(&mut Disk) -> io::Result<T>,
    ) -> io::Result<T> {
        let path = plain(path)?;
        let subject = Subject { kind, path: &path, detail: Detail::None };
        self.call(&subject, |disk, _| act(disk), |_, _, _| {})
    }

    /// Does the disk lie about this sync?
    fn lies(&self, kind: CallKind, path: &Path) -> bool {
        let lie = self.state.lock().faults.ignore_syncs.clone();
        lie.is_some_and(|lie| lie(kind, path))
    }
}

impl Part {
    fn file(&self, file: u64, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(OpenFile { machine: Arc::clone(&self.0), file, path: plain(path)?, access }))
    }
}

impl FileSystem for Part {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = self.0.simple_call(CallKind::Create, path, |disk| disk.create(path))?;
        self.file(file, path, Access::ReadWrite)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let file = self.0.simple_call(CallKind::Open, path, |disk| disk.open(path))?;
        self.file(file, path, access)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (old, new) = (plain(from)?, plain(to)?);
        let subject = Subject { kind: CallKind::Rename, path: &old, detail: Detail::To(&new) };
        self.0.call(&subject, |disk, _| disk.rename(&old, &new), |_, _, _| {})
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (old, new) = (plain(from)?, plain(to)?);
        let subject = Subject { kind: CallKind::Link, path: &old, detail: Detail::To(&new) };
        self.0.call(&subject, |disk, _| disk.link(&old, &new), |_, _, _| {})
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.0.simple_call(CallKind::RemoveDir, path, |disk| disk.remove_dir(path))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.simple_call(CallKind::Remove, path, |disk| disk.remove(path))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.simple_call(CallKind::CreateDir, path, |disk| disk.create_dir_all(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let lies = self.0.lies(CallKind::SyncDir, &plain(path)?);
        self.0.simple_call(CallKind::SyncDir, path, |disk| {
            if lies { disk.list(path).map(drop) } else { disk.sync_dir(path) }
        })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.0.simple_call(CallKind::List, path, |disk| disk.list(path))
    }

    fn open_files_max(&self) -> usize {
        self.0.state.lock().disk.handles_max()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        let plain = plain(path)?;
        let subject = Subject { kind: CallKind::Lock, path: &plain, detail: Detail::None };
        let holder = self.0.process.to_string();
        let file = self.0.call(&subject, |disk, rng| disk.lock(path, &holder, rng), |_, _, _| {})?;
        Ok(Box::new(HeldLock { machine: Arc::clone(&self.0), file }))
    }
}

impl OpenFile {
    fn subject(&self, kind: CallKind, detail: Detail<'static>) -> Subject<'_> {
        Subject { kind, path: &self.path, detail }
    }

    fn refuse_read_only(&self) -> io::Result<()> {
        match self.access {
            Access::ReadWrite => Ok(()),
            Access::Read => {
                Err(io::Error::new(io::ErrorKind::PermissionDenied, "the file is open for reading"))
            }
        }
    }
}

impl File for OpenFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let subject = self.subject(CallKind::Read, Detail::Range(offset, buffer.len()));
        self.machine.call(&subject, |disk, _| Ok(disk.read(self.file, buffer, offset)), |_, _, _| {})
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.refuse_read_only()?;
        let subject = self.subject(CallKind::Write, Detail::Range(offset, bytes.len()));
        self.machine.call(
            &subject,
            |disk, rng| disk.write(self.file, bytes, offset, rng),
            |disk, rng, _| disk.write_part(self.file, bytes, offset, rng),
        )
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.refuse_read_only()?;
        let subject = self.subject(CallKind::Allocate, Detail::Length(length));
        self.machine.call(&subject, |disk, _| disk.allocate(self.file, length), |_, _, _| {})
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.refuse_read_only()?;
        let subject = self.subject(CallKind::Truncate, Detail::Length(length));
        self.machine.call(
            &subject,
            |disk, _| {
                disk.shrink(self.file, length);
                Ok(())
            },
            |_, _, _| {},
        )
    }

    fn sync_data(&self) -> io::Result<()> {
        let lies = self.machine.lies(CallKind::SyncData, &self.path);
        self.machine.call(
            &self.subject(CallKind::SyncData, Detail::None),
            |disk, _| {
                if !lies {
                    disk.sync(self.file);
                }
                Ok(())
            },
            |disk, _, verdict| {
                // When the machine stops, nobody is left to mark anything.
                if let Verdict::Fail(_) = verdict {
                    disk.fail_sync(self.file);
                }
            },
        )
    }

    fn length(&self) -> io::Result<u64> {
        let subject = self.subject(CallKind::Length, Detail::None);
        self.machine.call(&subject, |disk, _| Ok(disk.length(self.file)), |_, _, _| {})
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.machine.state.lock().disk.close(self.file);
    }
}

impl FileLock for HeldLock {}

impl Drop for HeldLock {
    fn drop(&mut self) {
        self.machine.state.lock().disk.unlock(self.file);
    }
}

/// The path as predicates and traces see it: without a root, without dots.
fn plain(path: &Path) -> io::Result<PathBuf> {
    Ok(parts(path)?.iter().collect())
}
