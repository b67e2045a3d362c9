//! Tables and value files that nobody reads any more, on their way out. To unlink a large file takes the system many milliseconds, which
//! the reader that was its last must not wait for: a job does it.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use pugdb_core::FileId;
use pugdb_core::env::JobHandle;
use pugdb_core::seam::FileKind;

use super::remove_file;
use crate::file::Context;

/// Files to be removed. Best effort: the next open removes what nothing names.
pub(crate) struct Graveyard {
    context: Context,
    files: Mutex<VecDeque<(FileKind, FileId)>>,
    /// Who removes them. While there is nobody, a file is removed by the one who brings it.
    job: Mutex<Option<JobHandle>>,
}

impl Graveyard {
    pub(crate) fn new(context: &Context) -> Arc<Self> {
        let (files, job) = (Mutex::default(), Mutex::default());
        Arc::new(Self { context: context.clone(), files, job })
    }

    /// From here on a job removes files.
    pub(crate) fn employ(&self, job: JobHandle) {
        *self.job.lock() = Some(job);
    }

    /// The job is over. What is left is removed here.
    pub(crate) fn retire(&self) {
        *self.job.lock() = None;
        while self.remove_next() {}
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
