//! Tables and value files as files in the database's directory.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use pugdb_core::env::{Access, Env, File, FileSystem};
use pugdb_core::seam::{FileKind, RangeRequest, TableStore, Wait};
use pugdb_core::{Error, FileId, Result};

use super::file_name;
use crate::values;

/// This part of the files that the process may have open is for tables and value files: the rest is for the log, for those being written,
/// and for whoever else lives in the process.
const OPEN_FILES_PART: usize = 4;
/// More are not kept open, however many the process may: to open one again takes some microseconds.
const OPEN_FILES_MAX: usize = 4096;
/// Fewer would be opened anew for nearly every read of a tree with several runs.
const OPEN_FILES_MIN: usize = 16;

const _: () = assert!(OPEN_FILES_MIN < OPEN_FILES_MAX);

/// Tables and value files in one directory, some of them kept open. A read that may not wait gets nothing: any one may have
/// to go to the disk.
pub struct LocalTables {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    open: Mutex<OpenFiles>,
}

/// Files that are open, up to a number. Second chance (CLOCK) decides which one is closed.
struct OpenFiles {
    files_max: usize,
    files: BTreeMap<FileId, OpenFile>,
    /// The file that was looked at last when one had to be closed: the next one to look at is behind it.
    hand: Option<FileId>,
}

#[derive(Clone)]
struct OpenFile {
    file: Arc<dyn File>,
    length: u64,
    /// It was read since it was looked at last.
    is_used: bool,
}

impl LocalTables {
    /// The tables in `dir` (what [`Context::table_dir`](crate::file::Context::table_dir) gives). A quarter of the files
    /// that the process may open are kept open, at least 16 and at most 4,096.
    pub fn new(env: &Env, dir: PathBuf) -> Self {
        Self::with_open_files(env, dir, Self::kept_open(env.fs.open_files_max()))
    }

    /// How many tables and value files are kept open in a process that may have so many open.
    ///
    /// ```
    /// use pugdb_lsm::table::LocalTables;
    ///
    /// assert_eq!([10, 1024, usize::MAX].map(LocalTables::kept_open), [16, 256, 4096]);
    /// ```
    #[must_use]
    pub fn kept_open(open_files_max: usize) -> usize {
        (open_files_max / OPEN_FILES_PART).clamp(OPEN_FILES_MIN, OPEN_FILES_MAX)
    }

    /// [`new`](Self::new), with so many files kept open at most, and at least one.
    pub fn with_open_files(env: &Env, dir: PathBuf, files_max: usize) -> Self {
        let open = OpenFiles { files_max: files_max.max(1), files: BTreeMap::new(), hand: None };
        Self { fs: Arc::clone(&env.fs), dir, open: Mutex::new(open) }
    }

    fn read(&self, request: RangeRequest) -> Result<Bytes> {
        let id = request.file;
        let OpenFile { file, length, .. } = self.open(request)?;
        // Before a buffer is made: a damaged length must not take all memory.
        if request.offset.checked_add(request.length as u64).is_none_or(|end| end > length) {
            return Err(Error::corrupt(format!(
                "{} {id} ends at byte {length}, before the {} bytes at byte {}; run `pugdb verify`",
                noun(request.kind),
                request.length,
                request.offset
            )));
        }
        let mut bytes = vec![0; request.length];
        let read = file.read_exact_at(&mut bytes, request.offset);
        read.map_err(|error| {
            Error::io(format_args!("read {} {id} at byte {}", noun(request.kind), request.offset), error)
        })?;
        Ok(bytes.into())
    }

    fn open(&self, request: RangeRequest) -> Result<OpenFile> {
        let id = request.file;
        if let Some(open) = self.open.lock().get(id) {
            return Ok(open);
        }
        let failed = |error| Error::io(format_args!("open {} {id}", noun(request.kind)), error);
        let name = if request.kind == FileKind::Values { values::file_name(id) } else { file_name(id) };
        let file = self.fs.open(&self.dir.join(name), Access::Read).map_err(failed)?;
        let length = file.length().map_err(failed)?;
        let open = OpenFile { file, length, is_used: false };
        let closed = self.open.lock().insert(id, open.clone());
        // Outside the lock: who reads it meanwhile closes it.
        drop(closed);
        Ok(open)
    }
}

fn noun(kind: FileKind) -> &'static str {
    if kind == FileKind::Values { "value file" } else { "table" }
}

impl OpenFiles {
    fn get(&mut self, id: FileId) -> Option<OpenFile> {
        let open = self.files.get_mut(&id)?;
        open.is_used = true;
        Some(open.clone())
    }

    /// Keeps a file open, and gives back the one that has to go for it.
    fn insert(&mut self, id: FileId, file: OpenFile) -> Option<OpenFile> {
        // Two readers may have opened it at once.
        let has_room = self.files.len() < self.files_max || self.files.contains_key(&id);
        let closed = if has_room { None } else { self.make_room() };
        self.files.insert(id, file).or(closed)
    }

    fn make_room(&mut self) -> Option<OpenFile> {
        loop {
            let behind = self.hand.map_or(Bound::Unbounded, Bound::Excluded);
            let next = self.files.range((behind, Bound::Unbounded)).next().or(self.files.first_key_value());
            let id = *next?.0;
            self.hand = Some(id);
            // Once around, and no file is in use any more.
            if !self.files.get_mut(&id).is_some_and(|open| std::mem::take(&mut open.is_used)) {
                return self.files.remove(&id);
            }
        }
    }
}

impl TableStore for LocalTables {
    fn read_ranges(&self, requests: &[RangeRequest], wait: Wait) -> Result<Option<Vec<Bytes>>> {
        if wait == Wait::Never {
            return Ok(None);
        }
        requests.iter().map(|&request| self.read(request)).collect::<Result<_>>().map(Some)
    }

    fn forget(&self, file: FileId) {
        let closed = self.open.lock().files.remove(&file);
        drop(closed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> FileId {
        FileId((number as u128).wrapping_mul(u128::MAX / 7).to_be_bytes())
    }

    fn kit(files_max: usize) -> (OpenFiles, OpenFile, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let file = Env::os().fs.create(&dir.path().join("file")).unwrap();
        let files = OpenFiles { files_max, files: BTreeMap::new(), hand: None };
        (files, OpenFile { file, length: 0, is_used: false }, dir)
    }

    #[test]
    fn files_kept_open_are_bounded_and_closed_in_turn() {
        let (mut files, open, _dir) = kit(64);
        for number in 0..2000 {
            assert_eq!(files.insert(id(number), open.clone()).is_some(), number >= 64);
            assert!(files.files.contains_key(&id(number)) && files.files.len() <= 64);
        }
        assert!(files.insert(id(1999), open).is_some(), "the same file was opened twice at once");
        assert_eq!(files.files.len(), 64);
    }

    #[test]
    fn a_file_that_is_read_outlives_those_that_are_not() {
        let (mut files, open, _dir) = kit(8);
        files.insert(id(0), open.clone());
        for number in 1..500 {
            assert!(files.get(id(0)).is_some(), "it was closed after {number} others");
            files.insert(id(number), open.clone());
        }
        for number in 500..517 {
            files.insert(id(number), open.clone());
        }
        assert!(files.get(id(0)).is_none(), "nobody reads it any more, and it is still open");
    }
}
