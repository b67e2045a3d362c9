//! Tables, value files and memtables that nobody reads any more, on their way out. To unlink a large file takes the system many
//! milliseconds, and so does giving back the memory of a memtable. The reader that was its last must not wait for that: a
//! job does it.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use pugdb_core::FileId;
use pugdb_core::env::JobHandle;
use pugdb_core::seam::FileKind;

use super::remove_file;
use crate::file::Context;
use crate::memtable::Memtable;

/// Files to be removed. Best effort: the next open removes what nothing names.
pub(crate) struct Graveyard {
    context: Context,
    files: Mutex<VecDeque<(FileKind, FileId)>>,
    /// They are in tables. Held here too, so that no reader's hold is the last one.
    memtables: Mutex<Vec<Arc<Memtable>>>,
    /// Who removes them. While there is nobody, a file is removed by the one who brings it.
    job: Mutex<Option<JobHandle>>,
}

impl Graveyard {
    pub(crate) fn new(context: &Context) -> Arc<Self> {
        let (files, memtables, job) = Default::default();
        Arc::new(Self { context: context.clone(), files, memtables, job })
    }

    /// From here on a job removes files.
    pub(crate) fn employ(&self, job: JobHandle) {
        *self.job.lock() = Some(job);
    }

    /// The job is over. What is left is removed here.
    pub(crate) fn retire(&self) {
        *self.job.lock() = None;
        while self.remove_next() {}
        let left = std::mem::take(&mut *self.memtables.lock());
        drop(left);
    }

    /// This memtable is in tables: it goes when its last reader is done.
    pub(crate) fn bury_memtable(&self, memtable: Arc<Memtable>) {
        let job = self.job.lock().clone();
        if let Some(job) = job {
            self.memtables.lock().push(memtable);
            job.wake();
        }
    }

    /// Gives back the memory of memtables that nobody reads. True when some are left.
    pub(crate) fn free_memtables(&self) -> bool {
        let mut memtables = self.memtables.lock();
        let all = std::mem::take(&mut *memtables);
        let gone: Vec<_>;
        (*memtables, gone) = all.into_iter().partition(|memtable| Arc::strong_count(memtable) > 1);
        let is_any_left = !memtables.is_empty();
        drop(memtables);
        drop(gone);
        is_any_left
    }

    /// Nobody reads this file any more.
    pub(super) fn bury(&self, kind: FileKind, file: FileId) {
        let job = self.job.lock().clone();
        self.files.lock().push_back((kind, file));
        match job {
            Some(job) => job.wake(),
            None => while self.remove_next() {},
        }
    }

    /// Removes a file. False when there is none.
    pub(crate) fn remove_next(&self) -> bool {
        let next = self.files.lock().pop_front();
        next.map(|(kind, file)| remove_file(&self.context, kind, file)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use pugdb_core::DatabaseId;
    use pugdb_core::env::{Env, JobControl};
    use pugdb_core::seam::Plain;

    use super::*;
    use crate::table::LocalTables;

    #[test]
    fn a_memtable_is_freed_by_the_job_and_not_by_its_last_reader() {
        let dir = tempfile::tempdir().unwrap();
        let env = Env::os();
        let tables = Arc::new(LocalTables::new(&env, dir.path().join("tables")));
        let (dir, database, cipher) = (dir.path().to_path_buf(), DatabaseId([7; 16]), Arc::new(Plain));
        let graveyard = Graveyard::new(&Context {
            env,
            dir,
            database,
            cipher,
            tables,
            observers: pugdb_core::observer::Observers::default(),
        });
        graveyard.employ(JobHandle::new(Arc::new(JobControl::default())));

        let reader = Arc::new(Memtable::new(1));
        let memory = Arc::downgrade(&reader);
        graveyard.bury_memtable(Arc::clone(&reader));
        assert!(graveyard.free_memtables(), "somebody reads it, so the job looks again");
        assert!(memory.upgrade().is_some());
        drop(reader);
        assert!(memory.upgrade().is_some(), "the last reader gives nothing back");
        assert!(!graveyard.free_memtables());
        assert!(memory.upgrade().is_none(), "the job does");
    }
}
