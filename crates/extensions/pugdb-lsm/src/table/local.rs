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

/// Files kept open. Every table costs a descriptor, and a process has about a thousand.
const OPEN_FILES_MAX: usize = 512;

/// Tables and value files in one directory. A read that may not wait gets nothing: any one may have to go to the disk.
pub struct LocalTables {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    open: Mutex<OpenFiles>,
}

#[derive(Default)]
struct OpenFiles {
    files: BTreeMap<FileId, OpenFile>,
    /// The file that was closed last: the next one to close is behind it.
    hand: Option<FileId>,
}

#[derive(Clone)]
struct OpenFile {
    file: Arc<dyn File>,
    length: u64,
}

impl LocalTables {
    /// The tables in `dir` (what [`Context::table_dir`](crate::file::Context::table_dir) gives).
    pub fn new(env: &Env, dir: PathBuf) -> Self {
        Self { fs: Arc::clone(&env.fs), dir, open: Mutex::default() }
    }

    fn read(&self, request: RangeRequest) -> Result<Bytes> {
        let id = request.file;
        let OpenFile { file, length } = self.open(request)?;
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
        if let Some(open) = self.open.lock().files.get(&id) {
            return Ok(open.clone());
        }
        let failed = |error| Error::io(format_args!("open {} {id}", noun(request.kind)), error);
        let name = if request.kind == FileKind::Values { values::file_name(id) } else { file_name(id) };
        let file = self.fs.open(&self.dir.join(name), Access::Read).map_err(failed)?;
        let length = file.length().map_err(failed)?;
        let open = OpenFile { file, length };
        self.open.lock().insert(id, open.clone());
        Ok(open)
    }
}

fn noun(kind: FileKind) -> &'static str {
    if kind == FileKind::Values { "value file" } else { "table" }
}

impl OpenFiles {
    fn insert(&mut self, id: FileId, file: OpenFile) {
        if self.files.len() >= OPEN_FILES_MAX {
            let behind = self.hand.map_or(Bound::Unbounded, Bound::Excluded);
            let next = self.files.range((behind, Bound::Unbounded)).next().or(self.files.first_key_value());
            self.hand = next.map(|(&id, _)| id);
            self.hand.and_then(|closed| self.files.remove(&closed));
        }
        self.files.insert(id, file);
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
        self.open.lock().files.remove(&file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_kept_open_are_bounded_and_closed_in_turn() {
        let dir = tempfile::tempdir().unwrap();
        let file = Env::os().fs.create(&dir.path().join("file")).unwrap();
        let open = OpenFile { file, length: 0 };
        let mut files = OpenFiles::default();
        let id = |number: usize| FileId((number as u128).wrapping_mul(u128::MAX / 7).to_be_bytes());
        for number in 0..2000 {
            files.insert(id(number), open.clone());
            assert!(files.files.contains_key(&id(number)) && files.files.len() <= OPEN_FILES_MAX);
        }
    }
}
