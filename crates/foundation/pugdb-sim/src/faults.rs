//! The calls a program makes to the disk: they are counted, can be traced, and fail when a test says so.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// What a call to the disk does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CallKind {
    /// `FileSystem::create`.
    Create,
    /// `FileSystem::open`.
    Open,
    /// `FileSystem::rename`; the path is the old name.
    Rename,
    /// `FileSystem::link`; the path is the first name.
    Link,
    /// `FileSystem::remove`.
    Remove,
    /// `FileSystem::remove_dir`.
    RemoveDir,
    /// `FileSystem::create_dir_all`.
    CreateDir,
    /// `FileSystem::sync_dir`.
    SyncDir,
    /// `FileSystem::list`.
    List,
    /// `FileSystem::lock`.
    Lock,
    /// `File::read_at`.
    Read,
    /// `File::write_at`.
    Write,
    /// `File::allocate`.
    Allocate,
    /// `File::truncate`.
    Truncate,
    /// `File::sync_data`.
    SyncData,
    /// `File::length`.
    Length,
}

impl CallKind {
    /// True for the calls that change nothing and make nothing durable.
    pub fn is_read(self) -> bool {
        matches!(self, Self::Open | Self::List | Self::Read | Self::Length)
    }
}

impl fmt::Display for CallKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Open => "open",
            Self::Rename => "rename",
            Self::Link => "link",
            Self::Remove => "remove",
            Self::RemoveDir => "remove_dir",
            Self::CreateDir => "create_dir",
            Self::SyncDir => "sync_dir",
            Self::List => "list",
            Self::Lock => "lock",
            Self::Read => "read",
            Self::Write => "write",
            Self::Allocate => "allocate",
            Self::Truncate => "truncate",
            Self::SyncData => "sync_data",
            Self::Length => "length",
        })
    }
}

pub(crate) type FailWhen = Arc<dyn Fn(CallKind, &Path) -> Option<io::ErrorKind> + Send + Sync>;
pub(crate) type IgnoreSyncs = Arc<dyn Fn(CallKind, &Path) -> bool + Send + Sync>;

/// What becomes of a call.
#[derive(Clone, Copy)]
pub(crate) enum Verdict {
    Go,
    Fail(io::ErrorKind),
    /// The machine stops in the middle of this call.
    Stop,
    /// The machine has stopped before.
    Off,
}

#[derive(Default)]
pub(crate) struct Faults {
    pub(crate) calls: u64,
    pub(crate) reads_uncounted: bool,
    pub(crate) once: BTreeMap<u64, io::ErrorKind>,
    pub(crate) from: Option<(u64, io::ErrorKind)>,
    pub(crate) stop: Option<u64>,
    pub(crate) off: bool,
    pub(crate) when: Option<FailWhen>,
    pub(crate) ignore_syncs: Option<IgnoreSyncs>,
    pub(crate) trace: Option<Vec<String>>,
}

impl Faults {
    /// Counts a call and judges it by its number. The number is `None` for a call that is not counted.
    pub(crate) fn judge(&mut self, kind: CallKind) -> (Option<u64>, Verdict) {
        if self.off {
            return (None, Verdict::Off);
        }
        if self.reads_uncounted && kind.is_read() {
            return (None, Verdict::Go);
        }
        self.calls += 1;
        let number = self.calls;
        let verdict = if self.stop.is_some_and(|stop| number >= stop) {
            self.off = true;
            Verdict::Stop
        } else if let Some(kind) = self.once.remove(&number) {
            Verdict::Fail(kind)
        } else {
            match self.from {
                Some((from, kind)) if number >= from => Verdict::Fail(kind),
                _ => Verdict::Go,
            }
        };
        (Some(number), verdict)
    }

    /// Notes a call; returns the line to [complete](Self::note_outcome).
    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) -> Option<usize> {
        let trace = self.trace.as_mut()?;
        trace.push(line());
        Some(trace.len() - 1)
    }

    pub(crate) fn note_outcome(&mut self, line: Option<usize>, error: &io::Error) {
        if let (Some(line), Some(trace)) = (line, &mut self.trace)
            && let Some(text) = trace.get_mut(line)
        {
            text.push_str(" -> ");
            text.push_str(&error.kind().to_string());
        }
    }
}
