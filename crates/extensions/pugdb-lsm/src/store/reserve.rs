//! The reserve: a file that takes room while there is some. When the disk is full it is given back, so that deletes, flushes and merges
//! go on and make room, and nothing comes in that would take it from them. When there is room for the reserve again, and for
//! something beside it, it is made anew, and everything goes on.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pugdb_core::env::{Access, Job, Next};
use pugdb_core::observer::DatabaseEvent;
use pugdb_core::{Error, Seqno};

use super::Store;

/// The file in the database's directory.
pub const RESERVE: &str = "RESERVE";
/// A reserve that is spent is tried to be made anew so often.
const RETRY: Duration = Duration::from_secs(1);

/// Whether the reserve is there.
#[derive(Default)]
pub(super) struct Reserve {
    /// It was given back: the disk is full.
    is_spent: AtomicBool,
}

pub(super) struct ReserveJob {
    store: Arc<Store>,
    /// When it was told that the disk is full.
    full_since: Option<Duration>,
    has_looked: bool,
    room: Room,
}

/// How far what was deleted is on its way to become room. A few deletes alone would be flushed by nobody, and merged by nobody.
#[derive(Default)]
struct Room {
    /// Everything up to here was flushed, and merges were asked for.
    merged: Seqno,
    /// Everything up to here is being flushed.
    sealed: Option<Seqno>,
}

impl Room {
    fn make(&mut self, store: &Store) {
        match self.sealed {
            None if store.snapshots.visible() > self.merged => {
                self.sealed = Some(store.snapshots.visible());
                store.seal_all();
            }
            Some(sealed) if !store.needs_flush() && store.has_no_requests() => {
                (self.merged, self.sealed) = (sealed, None);
                store.compact_all_later();
            }
            _ => {}
        }
    }
}

impl Store {
    /// True from the moment at which the reserve was given back to that at which it is there again.
    pub fn is_disk_full(&self) -> bool {
        self.reserve.is_spent.load(Ordering::Acquire)
    }

    /// What is refused while the disk is full, because it would add to it.
    ///
    /// # Errors
    /// `Unavailable` when it is.
    pub fn refuse_on_full_disk(&self) -> pugdb_core::Result<()> {
        if !self.is_disk_full() {
            return Ok(());
        }
        let full = io::Error::from(io::ErrorKind::StorageFull);
        Err(Error::io(
            "add to the database: deletes and reads go on until the reserve can be made anew",
            full,
        ))
    }

    /// Something had no room on the disk. True when it may try again at once: the reserve was given back just now.
    pub fn spend_reserve(&self, error: &Error) -> bool {
        let has_one = error.is_disk_full() && self.options.reserve_bytes > 0;
        if !has_one || self.reserve.is_spent.swap(true, Ordering::AcqRel) {
            return false;
        }
        let _ = self.context.env.fs.remove(&self.reserve_path());
        self.wake();
        true
    }

    fn reserve_path(&self) -> PathBuf {
        self.context.dir.join(RESERVE)
    }

    /// Takes the room, and half as much for a moment: who goes on with nothing beside the reserve would stop again at once.
    fn make_reserve(&self) -> io::Result<()> {
        let (fs, path, bytes) = (&self.context.env.fs, self.reserve_path(), self.options.reserve_bytes);
        let file = match fs.create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs.open(&path, Access::ReadWrite),
            created => created,
        }?;
        if file.length()? == bytes {
            return Ok(());
        }
        let made = file.allocate(bytes + bytes / 2).and_then(|()| file.truncate(bytes));
        made.inspect_err(|_| {
            // Some systems take what there is before they say that it is not enough.
            let _ = fs.remove(&path);
        })
    }
}

impl ReserveJob {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { store, full_since: None, has_looked: false, room: Room::default() }
    }

    fn slice(&mut self) -> Next {
        let store = &self.store;
        if let Some(next) = store.ended() {
            return next;
        }
        if self.has_looked && !store.is_disk_full() {
            return Next::Wait;
        }
        self.has_looked = true;
        let now = store.context.env.clock.monotonic();
        if store.make_reserve().is_err() {
            store.reserve.is_spent.store(true, Ordering::Release);
            if self.full_since.replace(self.full_since.unwrap_or(now)).is_none() {
                store.tell(|| DatabaseEvent::DiskFull { reserve_bytes: store.options.reserve_bytes });
            }
            self.room.make(store);
            return Next::WaitUntil(now + RETRY);
        }
        store.reserve.is_spent.store(false, Ordering::Release);
        if let Some(since) = self.full_since.take() {
            store.tell(|| DatabaseEvent::DiskFreed { took: now.saturating_sub(since) });
        }
        Next::Again
    }
}

impl Job for ReserveJob {
    fn run(&mut self) -> Next {
        let store = Arc::clone(&self.store);
        store.guarded(|| self.slice())
    }
}
