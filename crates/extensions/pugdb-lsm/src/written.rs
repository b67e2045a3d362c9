//! Tables and value files of which every byte is written and none is durable yet.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pugdb_core::env::{File, FileSystem};
use pugdb_core::{Error, Result};

/// A file that is written. Dropped before [`sync`](Self::sync), it removes its file as well as it can.
pub struct Written<M> {
    meta: M,
    fs: Arc<dyn FileSystem>,
    path: PathBuf,
    file: Arc<dyn File>,
    is_durable: bool,
}

impl<M> Written<M> {
    pub(crate) fn new(meta: M, fs: &Arc<dyn FileSystem>, path: &Path, file: &Arc<dyn File>) -> Self {
        let (fs, path, file) = (Arc::clone(fs), path.to_owned(), Arc::clone(file));
        Self { meta, fs, path, file, is_durable: false }
    }

    /// What others have to know of it.
    pub fn meta(&self) -> &M {
        &self.meta
    }
}

impl<M: Clone> Written<M> {
    /// Makes the content of files durable, all of them together. A name is durable once the caller has synced the
    /// directory.
    ///
    /// # Errors
    /// What the file system says; none of the files is left then.
    pub fn sync(written: Vec<Self>) -> Result<Vec<M>> {
        let Some(fs) = written.first().map(|written| Arc::clone(&written.fs)) else { return Ok(Vec::new()) };
        let files: Vec<Arc<dyn File>> = written.iter().map(|written| Arc::clone(&written.file)).collect();
        let synced = fs.sync_contents(&files);
        synced
            .map_err(|error| Error::io(format_args!("sync {} tables or value files", files.len()), error))?;
        let durable = |mut written: Self| {
            written.is_durable = true;
            written.meta.clone()
        };
        Ok(written.into_iter().map(durable).collect())
    }
}

impl<M> Drop for Written<M> {
    fn drop(&mut self) {
        if !self.is_durable {
            // No manifest names a file that stays; the next open removes it.
            let _ = self.fs.remove(&self.path);
        }
    }
}
