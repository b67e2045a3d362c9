//! What a database says about itself: the last recovery, its sizes, its integrity.

use std::fmt;

use pugdb_core::Timestamp;

use crate::HandleCounts;

/// What was cut off the end of the log when the database was opened.
///
/// Only bytes that nothing states to be durable are ever cut: no acknowledged commit is among them, unless it asked for
/// less than [`Durability::Sync`](crate::Durability::Sync).
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("data");
/// let db = pugdb::Database::open(&path)?;
/// db.keyspace("users")?.put(b"ada", b"1815")?;
/// db.close()?;
///
/// let report = pugdb::Database::open(&path)?.recovery_report();
/// if let Some(cut) = &report.cut {
///     eprintln!("{} is cut at byte {}: {}", cut.file, cut.offset, cut.reason);
/// }
/// assert_eq!(report.cut, None); // it was closed in good order
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogCut {
    /// The file in which the log ended.
    pub file: String,
    /// The offset there.
    pub offset: u64,
    /// Bytes that had been written behind it.
    pub bytes: u64,
    /// Later log segments that were removed.
    pub segments_removed: usize,
    /// What was wrong there.
    pub reason: String,
}

/// What the last open found and did.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("data");
/// let db = pugdb::Database::open(&path)?;
/// db.keyspace("users")?.put(b"ada", b"1815")?;
/// drop(db); // without `close`: what is in memory is only in the log
///
/// let report = pugdb::Database::open(&path)?.recovery_report();
/// assert!(report.clean && report.operations == 1, "{report}");
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// There was no database: it was made.
    pub created: bool,
    /// The last process closed the database in good order.
    pub clean: bool,
    /// Log records that were read.
    pub records: u64,
    /// Operations that were applied again; the others were in tables already.
    pub operations: u64,
    /// Log segments that were read.
    pub segments: usize,
    /// What was cut off the end of the log.
    pub cut: Option<LogCut>,
    /// Bytes of a torn edit cut off the end of the manifest.
    pub manifest_cut_bytes: u64,
    /// Files that nothing names, removed: outputs that were not finished.
    pub files_removed: usize,
    /// Tables that were known to be damaged before: nothing of a table is read by an open. The others are found by who needs
    /// them, and by [`verify`](crate::Database::verify).
    pub quarantined: usize,
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.created {
            return f.write_str("a new database was made");
        }
        let ending =
            if self.clean { "it was closed in good order" } else { "it was not closed in good order" };
        write!(
            f,
            "{ending}; read {} log records in {} segments, applied {} operations again",
            self.records, self.segments, self.operations
        )?;
        if let Some(cut) = &self.cut {
            write!(
                f,
                "; the log was cut in {} at byte {} ({}; {} bytes and {} later segments given up, none of them \
                 acknowledged as synced)",
                cut.file, cut.offset, cut.reason, cut.bytes, cut.segments_removed
            )?;
        }
        if self.manifest_cut_bytes > 0 {
            write!(f, "; a torn manifest edit of {} bytes was given up", self.manifest_cut_bytes)?;
        }
        if self.files_removed > 0 {
            write!(f, "; {} unfinished files were removed", self.files_removed)?;
        }
        if self.quarantined > 0 {
            write!(
                f,
                "; {} tables are damaged: run `pugdb verify`, restore them from a backup",
                self.quarantined
            )?;
        }
        Ok(())
    }
}

/// Sizes and counts of a database.
///
/// ```
/// let db = pugdb::Database::in_memory()?;
/// assert_eq!(db.stats()?.keyspaces, 0);
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Keyspaces that exist.
    pub keyspaces: usize,
    /// Snapshots, scans and reads under way.
    pub snapshots: usize,
    /// Tables on disk.
    pub tables: usize,
    /// Their bytes.
    pub table_bytes: u64,
    /// What they would take if nothing in them were compressed.
    pub table_bytes_uncompressed: u64,
    /// Value files on disk, into which tables point.
    pub value_files: usize,
    /// Their bytes.
    pub value_bytes: u64,
    /// How many of them tables point to; the rest is collected in time.
    pub value_live_bytes: u64,
    /// Sorted runs, over all keyspaces.
    pub runs: usize,
    /// What range deletes have left to be hidden until merges have come by, in pieces that do not overlap.
    pub range_tombstones: usize,
    /// The bytes of each of them: a keyspace after the other, newest first.
    pub run_bytes: Vec<u64>,
    /// Entries in memory: memtables, and memory keyspaces.
    pub memtable_bytes: usize,
    /// Blocks in the cache.
    pub cache_bytes: usize,
    /// Filters and indexes of tables that were read or written. The cache has so much less room for blocks, but keeps a
    /// quarter of it in any case.
    pub table_memory_bytes: usize,
    /// Blocks that readers have found in the cache since the open, counted in portions of 256.
    pub cache_hits: u64,
    /// Blocks that they had to read.
    pub cache_misses: u64,
    /// Log records that are still needed.
    pub log_bytes: u64,
    /// Flushes since the open.
    pub flushes: u64,
    /// Bytes of the tables that they wrote.
    pub flushed_bytes: u64,
    /// Compactions since the open, each a piece of a merge.
    pub compactions: u64,
    /// Bytes of the tables that they wrote.
    pub compacted_bytes: u64,
    /// Parts of them that were merged by [further threads](crate::Builder::compaction_jobs), at the same time as the rest.
    pub compaction_parts_beside: u64,
    /// How long [the rate](crate::Builder::background_bytes_per_second) has held compactions back since the open, all threads
    /// together, in microseconds.
    pub compaction_held_us: u64,
    /// Entries that [compaction filters](crate::Builder::compaction_filter) have made go since the open.
    pub filtered: u64,
    /// How often a compaction filter panicked since the open.
    pub filter_panics: u64,
    /// Operands that flushes and compactions have made part of a value, or of another operand, since the open.
    pub folded: u64,
    /// How often a [merge operator](crate::Builder::merge_operator) refused or panicked there since the open: those operands
    /// stay as they are, and whoever reads the key is told.
    pub operator_failures: u64,
    /// How often a writer waited since the open, because flushes or compactions were behind.
    pub stalls: u64,
    /// How long, all waits together.
    pub stall_us: u64,
    /// Tables that were [read again](crate::Builder::scrub_interval) since the open.
    pub scrubbed_tables: u64,
    /// Their bytes, and those of their values in value files.
    pub scrubbed_bytes: u64,
    /// How often one could not be read for another reason than damage; that is tried again.
    pub scrub_failures: u64,
    /// When last all that was due had been read again.
    pub scrub_pass_at: Option<Timestamp>,
    /// Tables that were found to have damaged parts, or to be gone: readable where they are whole.
    pub quarantined: usize,
    /// [The reserve](crate::Builder::reserve_bytes) was given back because the disk is full: what adds is refused until it is there again.
    pub is_disk_full: bool,
    /// How often an observer has panicked.
    pub observer_panics: u64,
    /// How many operations took longer than [the builder](crate::Builder::slow_operations) was told, since the open.
    pub slow_operations: u64,
    /// What the program holds and has not dropped.
    pub handles: HandleCounts,
    /// Transactions that are prepared and neither committed nor rolled back.
    pub prepared_transactions: usize,
}

impl Stats {
    /// How many bytes of tables were written since the open for each byte that was flushed; 0 before the first flush.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::open(&path)?;
    /// assert_eq!(db.stats()?.write_amplification(), 0.0);
    /// db.keyspace("users")?.put(b"ada", b"1815")?;
    /// db.flush()?;
    /// assert_eq!(db.stats()?.write_amplification(), 1.0); // nothing was written a second time
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    pub fn write_amplification(&self) -> f64 {
        let written = self.flushed_bytes + self.compacted_bytes;
        if self.flushed_bytes == 0 { 0.0 } else { written as f64 / self.flushed_bytes as f64 }
    }
}

/// What a walk through every byte found.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("data");
/// let db = pugdb::Database::open(&path)?;
/// db.keyspace("users")?.put(b"ada", b"1815")?;
/// db.flush()?;
/// let report = db.verify()?;
/// assert_eq!((report.tables, report.entries), (1, 1));
/// assert!(report.problems.is_empty(), "{:?}", report.problems);
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Tables that were read.
    pub tables: usize,
    /// Blocks in them.
    pub blocks: u64,
    /// Entries in them.
    pub entries: u64,
    /// Bytes of tables and log that were read.
    pub bytes: u64,
    /// Log records that were read.
    pub records: u64,
    /// What is wrong, one sentence each; empty when everything is as it was written.
    pub problems: Vec<String>,
}
