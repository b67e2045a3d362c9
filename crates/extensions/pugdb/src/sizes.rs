//! What the settings of a database come to: the one place where one size follows from another.

use pugdb_lsm::table::LocalTables;

use crate::Builder;

const MEMTABLE_BYTES_MAX: usize = 64 << 20;
/// The others are for those who read and write.
const PROCESSORS_PER_COMPACTION_JOB: usize = 2;
/// More of them outrun most disks.
const COMPACTION_JOBS_DEFAULT_MAX: usize = 4;

/// What a database would take: what was said, and what follows from it. Made by [`Builder::sizes`].
///
/// ```
/// let sizes = pugdb::Database::builder().memory_bytes(1 << 30).sizes();
/// assert_eq!((sizes.cache_bytes, sizes.memtable_bytes), (256 << 20, 64 << 20));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sizes {
    /// What the database may hold in memory.
    pub memory_bytes: usize,
    /// The part of it that keeps blocks of tables, and what is needed to find them.
    pub cache_bytes: usize,
    /// The size at which a memtable is written to a table.
    pub memtable_bytes: usize,
    /// How many threads merge tables.
    pub compaction_jobs: usize,
    /// How many tables and value files are kept open.
    pub table_files_max: usize,
}

impl Builder {
    /// What a database opened with these settings would take on this machine. Nothing is opened.
    ///
    /// ```
    /// let builder = pugdb::Database::builder().memory_bytes(64 << 20).compaction_jobs(3);
    /// let sizes = builder.sizes();
    /// assert_eq!((sizes.memory_bytes, sizes.cache_bytes), (64 << 20, 16 << 20));
    /// assert_eq!((sizes.memtable_bytes, sizes.compaction_jobs), (8 << 20, 3));
    /// // Of the files that the process may open, a quarter.
    /// assert!((16..=4096).contains(&sizes.table_files_max));
    /// ```
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        let memory = self.memory_bytes;
        let processors = self.env.executor.processors();
        let jobs = (processors / PROCESSORS_PER_COMPACTION_JOB).clamp(1, COMPACTION_JOBS_DEFAULT_MAX);
        Sizes {
            memory_bytes: memory,
            cache_bytes: self.cache_bytes.unwrap_or(memory / 4),
            memtable_bytes: self.memtable_bytes.unwrap_or((memory / 8).min(MEMTABLE_BYTES_MAX)),
            compaction_jobs: self.compaction_jobs.unwrap_or(jobs),
            table_files_max: self
                .table_files_max
                .unwrap_or_else(|| LocalTables::kept_open(self.env.fs.open_files_max())),
        }
    }
}
