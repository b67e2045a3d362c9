//! A database on disk: log, store and directory joined; closing. `opening.rs` opens it, `replay.rs` brings back what the log has.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use pugdb_core::engine::KeyRange;
use pugdb_core::{Error, KeyspaceId, Lsn, Result, Seqno, Timestamp};
use pugdb_lsm::file::Context;
use pugdb_lsm::log::{Log, LogState, scan};
use pugdb_lsm::manifest;
use pugdb_lsm::store::{Gate, Store};
use pugdb_security::Vault;

use crate::HandleCounts;
use crate::audit;
use crate::database::Writer;
use crate::report::{RecoveryReport, Stats, VerifyReport};

mod opening;
mod replay;

pub(crate) use opening::{audit_log, open, open_reader};

/// A tree whose memtable keeps more log than this alive is flushed: a quiet keyspace must not pin the log.
const LOG_SEGMENTS_MAX: u64 = 4;
pub(crate) const LOCK: &str = "LOCK";

/// The parts of a database on disk.
pub(crate) struct Durable {
    pub(crate) store: Arc<Store>,
    pub(crate) log: Arc<Log>,
    pub(crate) report: RecoveryReport,
    pub(crate) context: Context,
    pub(crate) vault: Option<Arc<Vault>>,
    gate: Arc<LogGate>,
    log_bytes_max: u64,
    /// The log's end when a flush was last asked for because of its length.
    asked_at: AtomicU64,
    role: Role,
    /// What is recorded of what is done.
    pub(crate) audit: Option<Arc<audit::Core>>,
    /// The lock or the lease. Held for its drop: another process may open the database then, or remove what a reader had.
    hold: Mutex<Option<Box<dyn Send>>>,
}

/// What an open database may do with its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Writer,
    /// It reads what another one writes, and has no jobs.
    Reader,
}

/// How much is done at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseMode {
    /// Memtables are written to tables.
    Flush,
    /// The log holds what memtables hold, and what it does not hold is written to tables.
    Quick,
}

impl Durable {
    pub(crate) fn flush(&self) -> Result<()> {
        self.store.flush()
    }

    pub(crate) fn compact_range(&self, keyspace: KeyspaceId, range: &KeyRange) -> Result<()> {
        self.store.compact_range(keyspace, range)
    }

    /// Write path, beside step 4: a log that has grown long is kept alive by somebody's old memtable.
    pub(crate) fn watch_log_size(&self, end: Lsn) {
        let counted_from = self.gate.start().0.max(self.asked_at.load(Ordering::Acquire));
        if end.0.saturating_sub(counted_from) > self.log_bytes_max {
            // Asked once for every stretch of log, not for every write.
            self.asked_at.store(end.0, Ordering::Release);
            self.store.seal_oldest();
        }
    }

    /// How far the log was ever durable.
    pub(crate) fn generation(&self) -> u64 {
        self.log.durable().0
    }

    pub(crate) fn is_reader(&self) -> bool {
        self.role == Role::Reader
    }

    /// The database's directory, a reader's too, whose own is in `readers/`.
    pub(crate) fn data_dir(&self) -> &Path {
        let own = &self.context.dir;
        let of_writer = if self.is_reader() { own.ancestors().nth(2) } else { None };
        of_writer.unwrap_or(own)
    }

    pub(crate) fn failure(&self) -> Option<Error> {
        self.log.failure().or_else(|| self.store.failure())
    }

    pub(crate) fn stats(&self) -> Stats {
        let store = self.store.stats();
        Stats {
            keyspaces: 0,
            snapshots: 0,
            tables: store.tables,
            table_bytes: store.table_bytes,
            table_bytes_uncompressed: store.table_bytes_uncompressed,
            value_files: store.value_files,
            value_bytes: store.value_bytes,
            value_live_bytes: store.value_live_bytes,
            runs: store.runs,
            range_tombstones: store.range_tombstones,
            run_bytes: store.run_bytes,
            memtable_bytes: store.memtable_bytes,
            cache_bytes: store.cache_bytes,
            table_memory_bytes: store.table_memory_bytes,
            cache_hits: store.cache_hits,
            cache_misses: store.cache_misses,
            log_bytes: self.log.live_bytes(self.gate.start()),
            flushes: store.flushes,
            flushed_bytes: store.flushed_bytes,
            compactions: store.compactions,
            compacted_bytes: store.compacted_bytes,
            compaction_held_us: store.held_us,
            filtered: store.filtered,
            compaction_parts_beside: store.compaction_parts_beside,
            filter_panics: store.filter_panics,
            folded: store.folded,
            operator_failures: store.operator_failures,
            stalls: store.stalls,
            stall_us: store.stall_us,
            scrubbed_tables: store.scrubbed_tables,
            scrubbed_bytes: store.scrubbed_bytes,
            scrub_failures: store.scrub_failures,
            scrub_pass_at: store.scrub_pass_at,
            quarantined: store.quarantined,
            is_disk_full: store.is_disk_full,
            handles: HandleCounts::default(),
            prepared_transactions: 0,
            slow_operations: 0,
            observer_panics: self.context.observers.panics(),
        }
    }

    pub(crate) fn verify(&self) -> Result<VerifyReport> {
        let tables = self.store.verify()?;
        let mut report = VerifyReport {
            tables: tables.tables,
            blocks: tables.blocks,
            entries: tables.entries,
            bytes: tables.bytes,
            records: 0,
            problems: tables.problems,
        };
        // Manifest and log are read as an open would read them. A file that goes meanwhile is no damage: look again.
        let mut outcome = self.verify_shared_files(&mut report);
        for _ in 0..2 {
            if outcome.is_err() {
                outcome = self.verify_shared_files(&mut report);
            }
        }
        report.problems.extend(outcome.err().map(|error| error.to_string()));
        Ok(report)
    }

    fn verify_shared_files(&self, report: &mut VerifyReport) -> Result<()> {
        let state = manifest::recover(&self.context)?.state.log;
        let scan = scan(&self.context, &LogState { clean: false, durable: self.log.durable(), ..state })?;
        report.records = scan.records;
        report.bytes += scan.segments.first().map_or(0, |first| scan.end.0 - first.place.first.0);
        Ok(())
    }

    /// Ends jobs and log. What can be made durable is.
    pub(crate) fn close(&self, mode: CloseMode, last: Seqno, time: Timestamp) -> Result<()> {
        // While there are keys and the lock. Whatever comes of it, the rest is closed.
        let audited = self.audit.as_ref().map_or(Ok(()), |audit| audit.close());
        let closed = self.close_files(mode, last, time);
        if let Some(vault) = &self.vault {
            // Behind the vault's own end: until then it refuses whoever would change keys that nobody records any more.
            vault.set_witness(None);
        }
        closed.and(audited)
    }

    fn close_files(&self, mode: CloseMode, last: Seqno, time: Timestamp) -> Result<()> {
        if self.is_reader() {
            let stopped = self.store.stop();
            self.let_go();
            return stopped;
        }
        let flushed = match mode {
            CloseMode::Flush => self.store.flush(),
            CloseMode::Quick => Ok(()),
        };
        let stopped = self.store.stop();
        let closed = self.log.close();
        let outcome = flushed.and(stopped).and(closed).and_then(|end| {
            // The log is durable to its end: a table may hold anything now.
            self.store.flush_unlogged()?;
            self.record_close(end, last, time)
        });
        self.let_go();
        outcome
    }

    /// In any case: the directory is free again, and whoever still holds the keys changes nothing there.
    fn let_go(&self) {
        if let Some(vault) = &self.vault {
            vault.close();
        }
        drop(self.hold.lock().take());
    }

    fn record_close(&self, (next_segment, end): (u64, Lsn), last: Seqno, time: Timestamp) -> Result<()> {
        let start = if self.store.is_flushed() { end } else { self.gate.start() };
        let ends = self.log.closed_segments().into_iter().filter(|(_, closed)| closed.end > start).collect();
        let incarnation = self.log.incarnation();
        let state = LogState { start, durable: end, ends, next_segment, clean: true, incarnation };
        self.store.record_close(state, last, time)?;
        self.log.trim(start);
        Ok(())
    }
}

/// What the store needs of the log, and nothing that would keep the database alive.
struct LogGate {
    log: Arc<Log>,
    writer: Arc<Mutex<Writer>>,
    /// Where the log begins that is still needed, as the manifest has it.
    start: AtomicU64,
}

impl LogGate {
    fn start(&self) -> Lsn {
        Lsn(self.start.load(Ordering::Acquire))
    }
}

impl Gate for LogGate {
    fn make_durable(&self) -> Result<()> {
        self.log.sync_to(self.log.end())
    }

    fn log_state(&self, first_unflushed: Seqno) -> LogState {
        let needed = self.writer.lock().sequencer.log_needed_from(first_unflushed);
        let start = needed.unwrap_or(Lsn(0)).max(self.start());
        let ends = self.log.closed_segments().into_iter().filter(|(_, closed)| closed.end > start).collect();
        LogState {
            start,
            durable: self.log.durable(),
            ends,
            next_segment: self.log.next_segment(),
            clean: false,
            incarnation: self.log.incarnation(),
        }
    }

    fn recorded(&self, state: &LogState) {
        self.start.fetch_max(state.start.0, Ordering::AcqRel);
        self.log.trim(state.start);
    }

    fn failure(&self) -> Option<Error> {
        self.log.failure()
    }
}
