//! A database on disk: log, store and directory joined; opening with recovery; closing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use pugdb_core::coding::Reader;
use pugdb_core::engine::{EngineKind, KeyRange};
use pugdb_core::env::{Env, FileLock, sync_parents};
use pugdb_core::memory::Housekeeper;
use pugdb_core::observer::Observers;
use pugdb_core::seam::TableStore;
use pugdb_core::snapshots::Snapshots;
use pugdb_core::{Error, ErrorKind, Incarnation, KeyspaceId, Lsn, Ops, Result, Seqno, Timestamp};
use pugdb_lsm::file::Context;
use pugdb_lsm::log::{Creation, Log, LogOptions, LogState, RecordKind, Scan, ScannedRecord, scan};
use pugdb_lsm::manifest::{self, Manifest, State};
use pugdb_lsm::store::{Gate, PinnedStore, RESERVE, Store, StoreOptions};
use pugdb_lsm::table::LocalTables;
use pugdb_lsm::{Operators, PartitionMap, Sequencer, TreeOptions, Trees};
use pugdb_security::audit::Notary;
use pugdb_security::{KEYRING, Vault, VaultCipher};

use crate::audit::{self, AUDIT, AuditLog, AuditOptions, KeyWitness};
use crate::checkpoint::FOLDERS;
use crate::database::{Inner, Names, Writer};
use crate::reader::{self, Lease, READERS};
use crate::report::{LogCut, RecoveryReport, Stats, VerifyReport};
use crate::space::{Keeper, Space};
use crate::transaction::Guards;
use crate::{Builder, HandleCounts, encrypt};

/// A tree whose memtable keeps more log than this alive is flushed: a quiet keyspace must not pin the log.
const LOG_SEGMENTS_MAX: u64 = 4;
/// A file of this size is read and written at a disk's best pace; a merge takes in about as much at a time.
const TABLE_BYTES_MAX: u64 = 64 << 20;
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

/// Opens the database in `dir`, or makes one.
pub(crate) fn open(options: Builder, dir: &Path) -> Result<Arc<Inner>> {
    let env = options.env.clone();
    let doing = |error| Error::io(format!("open the directory {}", dir.display()), error);
    let is_database = manifest::exists(&*env.fs, dir)?;
    if !is_database {
        if !options.create || options.expected_generation > 0 {
            return Err(Error::not_found(format!("there is no database in {}", dir.display())));
        }
        env.fs.create_dir_all(dir).map_err(doing)?;
    }
    let mut opening = Opening { options, env: env.clone(), dir: dir.to_owned(), vault: None };
    if !is_database {
        opening.refuse_other_files()?;
    }
    let lock = env.fs.lock(&dir.join(LOCK)).map_err(|error| in_use(dir, error))?;
    if is_database && opening.options.expected_generation > 0 {
        // Before anything is changed, in the keyring and at its provider too.
        let options = opening.options.clone();
        let mut looking = Opening { options, env: env.clone(), dir: dir.to_owned(), vault: None };
        looking.unlock_beside()?;
        let (context, recovered) = looking.read_manifest(false)?;
        looking.refuse_older(scan(&context, &recovered.state.log)?.end)?;
    }
    for folder in FOLDERS {
        env.fs.create_dir_all(&dir.join(folder)).map_err(doing)?;
    }
    reader::sweep(&*env.fs, dir);
    if opening.options.reserve_bytes > 0 {
        // An open needs room too. The reserve is made anew when it has come through.
        let _ = env.fs.remove(&dir.join(RESERVE));
    }
    opening.unlock(is_database)?;
    opening.run(lock)
}

/// Opens the database in `dir` for reading, whoever writes it.
pub(crate) fn open_reader(options: &Builder, dir: &Path) -> Result<Arc<Inner>> {
    let env = &options.env;
    if options.table_store.is_some() {
        return Err(Error::invalid("reading beside a writer needs tables in the database's own directory"));
    }
    if !manifest::exists(&*env.fs, dir)? {
        return Err(Error::not_found(format!("there is no database in {}", dir.display())));
    }
    reader::with_lease(env, dir, |lease| {
        let mut opening =
            Opening { options: options.clone(), env: env.clone(), dir: dir.to_owned(), vault: None };
        // Each time anew: the writer may have made keys since.
        opening.unlock_beside()?;
        opening.read_beside(lease)
    })
}

/// The audit log of the database in `dir`, to be read.
pub(crate) fn audit_log(options: &Builder, dir: &Path) -> Result<AuditLog> {
    let (env, dir) = (options.env.clone(), dir.to_owned());
    let mut opening = Opening { options: options.clone(), env, dir, vault: None };
    opening.unlock_beside()?;
    let mut context = opening.context();
    context.database = match &opening.vault {
        Some(vault) => vault.database(),
        None => audit::database(&context)?,
    };
    let notary = notary(opening.vault.as_ref(), &context);
    Ok(AuditLog::new(context, notary))
}

fn notary(vault: Option<&Arc<Vault>>, context: &Context) -> Notary {
    vault.map_or_else(|| Notary::nobody(context.database), |vault| Notary::of(Arc::clone(vault)))
}

fn in_use(dir: &Path, error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::WouldBlock {
        return Error::unavailable(format!(
            "{} is in use by process {}; use --url to talk to its server, or stop it first",
            dir.display(),
            error
        ));
    }
    Error::io(format!("lock {}", dir.display()), error)
}

/// What the steps of an open share.
struct Opening {
    options: Builder,
    env: Env,
    dir: PathBuf,
    /// The keys of an encrypted database.
    vault: Option<Arc<Vault>>,
}

impl Opening {
    fn keyring(&self) -> PathBuf {
        self.options.keyring.clone().unwrap_or_else(|| self.dir.join(KEYRING))
    }

    /// Finds the keys, or makes them with the database.
    fn unlock(&mut self, is_database: bool) -> Result<()> {
        let keyring = self.keyring();
        let has_keyring = Vault::exists(&self.env, &keyring)?;
        match (self.options.root_key.clone(), has_keyring) {
            (None, false) => {}
            (None, true) => return self.refuse_without_key(),
            (Some(_), _) if self.options.keyring.is_some() && !is_database => {
                let dir = self.dir.display();
                return Err(Error::not_found(format!(
                    "there is no database in {dir} that the keyring of another one could open"
                )));
            }
            (Some(_), _) if self.options.keyring.is_some() => self.unlock_beside()?,
            (Some(root), true) => self.take(Vault::open(&self.env, &keyring, root)?),
            (Some(root), false) if is_database && self.options.encrypts => {
                let (context, recovered) = self.read_manifest(false)?;
                let adopted = encrypt::adopted(&context, &recovered.state)?;
                self.take(Vault::adopt(&self.env, &keyring, root, adopted)?);
            }
            (Some(_), false) if is_database => return Err(self.no_keyring()),
            (Some(root), false) => {
                // It goes nowhere where a database may have been.
                self.refuse_lost_manifest()?;
                self.take(Vault::create(&self.env, &keyring, root)?);
            }
        }
        if is_database { Ok(()) } else { self.refuse_lost_manifest() }
    }

    fn unlock_beside(&mut self) -> Result<()> {
        let keyring = self.keyring();
        match (&self.options.root_key, Vault::exists(&self.env, &keyring)?) {
            (None, false) => Ok(()),
            (None, true) => self.refuse_without_key(),
            (Some(_), false) if self.options.encrypts => Ok(()),
            (Some(_), false) => Err(self.no_keyring()),
            (Some(root), true) => {
                let vault = Vault::open_beside(&self.env, &keyring, Arc::clone(root))?;
                self.take(vault);
                Ok(())
            }
        }
    }

    fn take(&mut self, vault: Arc<Vault>) {
        self.options.cipher = Arc::new(VaultCipher::new(Arc::clone(&vault)));
        self.vault = Some(vault);
    }

    fn refuse_without_key(&self) -> Result<()> {
        Err(Error::denied(format!("the database in {} is encrypted; give its root key", self.dir.display())))
    }

    fn no_keyring(&self) -> Error {
        Error::not_found(format!(
            "the database in {} has no keyring: it is not encrypted and opens without a root key, or its keyring has to be put back",
            self.dir.display()
        ))
    }

    /// A directory with somebody's other files is no place for a database, nor is one that has lost its CURRENT.
    fn refuse_other_files(&self) -> Result<()> {
        let list = |dir: &Path| self.env.fs.list(dir).map_err(|error| Error::io("list the directory", error));
        let names = list(&self.dir)?;
        let is_ours = |name: &String| {
            matches!(
                name.as_str(),
                LOCK | READERS
                    | RESERVE
                    | KEYRING
                    | AUDIT
                    | "KEYRING.new"
                    | "log"
                    | "tables"
                    | "CURRENT.new"
                    | "lost+found"
            ) || manifest::parse_name(name).is_some()
        };
        if names.iter().any(|name| !is_ours(name)) {
            return Err(Error::invalid(format!(
                "{} is not empty and holds no database; choose another directory",
                self.dir.display()
            )));
        }
        for folder in FOLDERS.iter().chain(&[AUDIT]) {
            if names.iter().any(|name| name == folder) && !list(&self.dir.join(folder))?.is_empty() {
                return Err(self.lost("log segments, tables or an audit log"));
            }
        }
        Ok(())
    }

    /// What a creation that was cut off leaves behind is no database's.
    fn refuse_lost_manifest(&self) -> Result<()> {
        let names = self.env.fs.list(&self.dir).map_err(|error| Error::io("list the directory", error))?;
        for number in names.iter().filter_map(|name| manifest::parse_name(name)) {
            if manifest::was_current(&self.context(), number)? {
                return Err(self.lost("a manifest"));
            }
        }
        Ok(())
    }

    fn lost(&self, what: &str) -> Error {
        let dir = self.dir.display();
        Error::corrupt(format!("{dir} holds {what} but no CURRENT file; restore it from a backup"))
    }

    fn run(self, lock: Box<dyn FileLock>) -> Result<Arc<Inner>> {
        let created = !manifest::exists(&*self.env.fs, &self.dir)?;
        let (context, recovered) = self.read_manifest(created)?;
        let loss = recovered.loss();
        self.recover(lock, created, context, recovered).map_err(|error| match loss {
            Some(loss) => error.at(loss),
            None => error,
        })
    }

    fn recover(
        self,
        lock: Box<dyn FileLock>,
        created: bool,
        context: Context,
        recovered: manifest::Recovered,
    ) -> Result<Arc<Inner>> {
        // The log's end is found and made durable before the new manifest states it.
        let scan = scan(&context, &recovered.state.log)?;
        scan.make_durable(&context)?;
        let clean = recovered.state.log.clean;
        let mut state = recovered.state;
        state.log = scan.state(state.log.start, Incarnation::random(&*self.env.random));
        if created {
            // Before CURRENT: where it is found, the names of the directories above it are durable.
            sync_parents(&*self.env.fs, &self.dir)?;
        }
        let manifest = Manifest::begin(context.clone(), state.clone(), recovered.number + 1)?;

        let rebuilt = self.rebuild(&context, manifest, &scan, &state)?;
        scan.remove_obsolete(&context);
        scan.trim_tails();
        if let Some(vault) = self.vault.as_ref().filter(|_| self.options.keyring.is_none()) {
            encrypt::end_plain_past(&context, vault)?;
        }
        let report = RecoveryReport {
            created,
            clean,
            manifest_cut_bytes: recovered.cut_bytes,
            files_removed: rebuilt.store.remove_leftovers(),
            ..rebuilt.report(&scan)
        };
        let audit = self.begin_audit(&context, &report)?;
        let held = (context, Role::Writer, Box::new(lock) as Box<dyn Send>);
        Ok(self.finish(held, &scan, &state.log, rebuilt, (report, audit)))
    }

    /// Opens the audit log, if there is to be one, and has it told of changes of keys.
    fn begin_audit(&self, context: &Context, report: &RecoveryReport) -> Result<Option<Arc<audit::Core>>> {
        let Some(options) = self.options.audit.clone() else { return Ok(None) };
        let copy = self.options.audit_copy.clone().or(options.copy);
        let options = AuditOptions { copy, ..options };
        let core = audit::Core::open(options, context, notary(self.vault.as_ref(), context), report)?;
        if let Some(vault) = &self.vault {
            vault.set_witness(Some(Arc::new(KeyWitness(Arc::downgrade(&core)))));
        }
        Ok(Some(core))
    }

    /// Reads what somebody else may be writing at this moment. Nothing is cut, and nothing removed.
    fn read_beside(self, lease: Lease) -> Result<Arc<Inner>> {
        // Commits that are found now were made before the manifest is read below: what it alone knows of and came before them, sorted
        // files and partitions, is in it.
        let (shared, before) = self.read_manifest(false)?;
        let found = scan(&shared, &before.state.log)?.end;
        let (shared, recovered) = self.read_manifest(false)?;
        let dir = lease.dir().to_owned();
        let context = Context { dir: dir.clone(), tables: self.local_tables(&dir), ..shared.clone() };
        PinnedStore::of(&shared, &recovered.state).place_tables(&context)?;
        lease.link_log(&shared)?;
        let mut scan = scan(&context, &recovered.state.log)?;
        // What came behind them may follow on what this manifest does not know, but for what it says to be durable.
        scan.end_at(found.max(recovered.state.log.durable));
        self.refuse_older(scan.end)?;
        let clean = recovered.state.log.clean;
        let mut state = recovered.state;
        state.log = scan.state(state.log.start, state.log.incarnation);
        let manifest = Manifest::begin(context.clone(), state.clone(), 1)?;
        let rebuilt = self.rebuild(&context, manifest, &scan, &state)?;
        let report =
            RecoveryReport { clean, manifest_cut_bytes: recovered.cut_bytes, ..rebuilt.report(&scan) };
        let held = (context, Role::Reader, Box::new(lease) as Box<dyn Send>);
        Ok(self.finish(held, &scan, &state.log, rebuilt, (report, None)))
    }

    /// A database that ends before what somebody has seen of it was put back from a copy. Nothing is changed in it.
    fn refuse_older(&self, end: Lsn) -> Result<()> {
        let expected = self.options.expected_generation;
        if end.0 >= expected {
            return Ok(());
        }
        Err(Error::denied(format!(
            "the database in {} is at generation {end} and was at {expected} before: it was put back from an older copy, or has lost its \
             end; restore the newer one, or expect less",
            self.dir.display()
        )))
    }

    /// The trees as the manifest and the log behind it have them.
    fn rebuild(&self, context: &Context, manifest: Manifest, scan: &Scan, state: &State) -> Result<Rebuilt> {
        let snapshots = Snapshots::new(state.last_seqno);
        let options = self.store_options();
        let code = (self.options.filters.clone(), self.options.operators.clone());
        let store = Store::open(context.clone(), options, code, Arc::clone(&snapshots), manifest);
        let housekeeper = Housekeeper::new(&self.env, Arc::clone(&snapshots));
        let volatile = |kind| Keeper::volatile(kind, &self.env, &snapshots, &housekeeper);
        let mut replay = Replay::new(&store, &snapshots, &volatile, state);
        let mut records = 0;
        scan.replay(|record| {
            records += 1;
            replay.record(record)
        })?;
        replay.check_operators(&self.options.operators)?;
        store.drop_orphans(snapshots.visible());
        store.flush_here()?;
        let Replay { keyspaces, sequencer, next_keyspace, time, operations, .. } = replay;
        snapshots.advance(time);
        let names = keyspaces.into_values().map(|space| (space.name().to_string(), space)).collect();
        // Numbers are not used again, whether or not anybody can say any more that they were.
        let next_keyspace = next_keyspace.max(context.cipher.erased_below().0);
        let writer = Writer { sequencer, next_keyspace, guards: Guards::default() };
        Ok(Rebuilt { store, snapshots, housekeeper, names, writer, records, operations })
    }

    /// Joins log and trees, and has the jobs begin.
    fn finish(
        self,
        (context, role, hold): (Context, Role, Box<dyn Send>),
        scan: &Scan,
        log_state: &LogState,
        rebuilt: Rebuilt,
        (report, audit): (RecoveryReport, Option<Arc<audit::Core>>),
    ) -> Arc<Inner> {
        let Rebuilt { store, snapshots, housekeeper, names, writer, .. } = rebuilt;
        let log_options = self
            .options
            .log_segment_bytes
            .map_or_else(LogOptions::default, |segment_bytes| LogOptions { segment_bytes });
        let log = Log::new(context.clone(), log_options, log_state.incarnation, scan);
        let writer = Arc::new(Mutex::new(writer));
        let gate = Arc::new(LogGate {
            log: Arc::clone(&log),
            writer: Arc::clone(&writer),
            start: AtomicU64::new(log_state.start.0),
        });
        match role {
            Role::Writer => {
                log.start();
                store.start(Some(Arc::clone(&gate) as Arc<dyn Gate>));
            }
            Role::Reader => store.refuse_writes(reader::read_only()),
        }
        let durable = Durable {
            store,
            log,
            report,
            context,
            vault: self.vault,
            gate,
            log_bytes_max: LOG_SEGMENTS_MAX * log_options.segment_bytes,
            asked_at: AtomicU64::new(0),
            role,
            audit,
            hold: Mutex::new(Some(hold)),
        };
        Arc::new(Inner::new(self.options, snapshots, housekeeper, Some(durable), names, writer))
    }

    /// The database's id is not known yet.
    fn context(&self) -> Context {
        let tables = self.options.table_store.clone().unwrap_or_else(|| self.local_tables(&self.dir));
        Context {
            env: self.env.clone(),
            dir: self.dir.clone(),
            database: pugdb_core::DatabaseId([0; 16]),
            cipher: Arc::clone(&self.options.cipher),
            tables,
            observers: Observers::new(self.options.observers.clone()),
        }
    }

    fn local_tables(&self, dir: &Path) -> Arc<dyn TableStore> {
        let files = self.options.sizes().table_files_max;
        Arc::new(LocalTables::with_open_files(&self.env, dir.join("tables"), files))
    }

    fn read_manifest(&self, created: bool) -> Result<(Context, manifest::Recovered)> {
        let mut context = self.context();
        let recovered = if created {
            let state = State::new(manifest::new_database(&context));
            manifest::Recovered { state, number: 0, cut_bytes: 0 }
        } else {
            manifest::recover(&context)?
        };
        context.database = recovered.state.database;
        Ok((context, recovered))
    }

    fn store_options(&self) -> StoreOptions {
        let sizes = self.options.sizes();
        StoreOptions {
            memtable_bytes: sizes.memtable_bytes,
            unflushed_bytes_max: sizes.memory_bytes / 2,
            cache_bytes: sizes.cache_bytes,
            expiry_grace: self.options.expiry_grace,
            policy: self.options.compaction,
            table_bytes: (2 * sizes.memtable_bytes as u64).min(TABLE_BYTES_MAX),
            compaction_jobs: sizes.compaction_jobs,
            background_bytes_per_second: self.options.background_bytes_per_second,
            scrub_interval: self.options.scrub_interval,
            reserve_bytes: self.options.reserve_bytes,
        }
    }
}

/// What an open has made of manifest and log.
struct Rebuilt {
    store: Arc<Store>,
    snapshots: Arc<Snapshots>,
    housekeeper: Arc<Housekeeper>,
    names: Names,
    writer: Writer,
    /// How many of both were replayed.
    records: u64,
    operations: u64,
}

impl Rebuilt {
    fn report(&self, scan: &Scan) -> RecoveryReport {
        RecoveryReport {
            records: self.records,
            operations: self.operations,
            segments: scan.segments.len(),
            cut: scan.cut.as_ref().map(|cut| LogCut {
                file: cut.file.clone(),
                offset: cut.offset,
                bytes: cut.bytes,
                segments_removed: cut.segments_removed,
                reason: cut.reason.to_owned(),
            }),
            quarantined: self.store.stats().quarantined,
            ..RecoveryReport::default()
        }
    }
}

/// The log's records on their way back into the trees.
struct Replay<'a> {
    store: &'a Arc<Store>,
    snapshots: &'a Arc<Snapshots>,
    /// Makes the engine of a keyspace that is not on disk.
    volatile: &'a dyn Fn(EngineKind) -> Keeper,
    keyspaces: BTreeMap<KeyspaceId, Arc<Space>>,
    sequencer: Sequencer,
    next_keyspace: u32,
    time: Timestamp,
    operations: u64,
}

impl<'a> Replay<'a> {
    fn new(
        store: &'a Arc<Store>,
        snapshots: &'a Arc<Snapshots>,
        volatile: &'a dyn Fn(EngineKind) -> Keeper,
        state: &State,
    ) -> Self {
        let mut replay = Self {
            store,
            snapshots,
            volatile,
            keyspaces: BTreeMap::new(),
            sequencer: Sequencer::starting_after(state.last_seqno),
            next_keyspace: state.next_keyspace,
            time: state.time,
            operations: 0,
        };
        for (&id, keyspace) in state.keyspaces.iter().filter(|(_, keyspace)| !keyspace.is_partition()) {
            replay.add(
                id,
                (&keyspace.name, keyspace.named),
                keyspace.engine,
                store.trees_of(id).map(Keeper::Lsm),
                &keyspace.options,
            );
        }
        replay
    }

    fn add(
        &mut self,
        id: KeyspaceId,
        name: (&str, Seqno),
        engine: EngineKind,
        keeper: Option<Keeper>,
        options: &TreeOptions,
    ) {
        let keeper = keeper.unwrap_or_else(|| (self.volatile)(engine));
        self.keyspaces.insert(id, Space::new(id, name, engine, keeper, options));
    }

    /// Refuses operators that are not those of the keyspaces, by the names that they have in the end.
    fn check_operators(&self, operators: &Operators) -> Result<()> {
        self.keyspaces.values().try_for_each(|space| operators.check_for(&space.name(), space.operator()))
    }

    fn record(&mut self, record: &mut ScannedRecord<'_>) -> Result<()> {
        let head = record.head.clone();
        self.time = self.time.max(head.now);
        match head.kind {
            RecordKind::Mark => return Ok(()),
            RecordKind::Batch => self.batch(record)?,
            RecordKind::CreateKeyspace => self.create(record)?,
            RecordKind::AlterKeyspace => self.alter(record)?,
            RecordKind::PartitionKeyspace => self.partition(record)?,
            RecordKind::DropKeyspace => {
                if self.keyspaces.remove(&head.subject).is_some() {
                    self.store.drop_keyspace(head.subject, head.first);
                }
            }
        }
        self.sequencer.skip_to(head.last());
        self.sequencer.relate(head.first, record.segment_first);
        self.snapshots.publish(head.last());
        if self.store.needs_flush() {
            self.store.flush_here()?;
        }
        Ok(())
    }

    fn create(&mut self, record: &mut ScannedRecord<'_>) -> Result<()> {
        let (id, at) = (record.head.subject, record.head.first);
        // The manifest knows it already, or knows that it was dropped.
        if id.0 < self.next_keyspace {
            return Ok(());
        }
        let section = match record.section(0) {
            // Nobody can read what it was. All that was written to it follows, and is passed over.
            Err(error) if error.kind() == ErrorKind::Erased => {
                self.next_keyspace = id.0 + 1;
                return Ok(());
            }
            section => section?,
        };
        let Creation { engine, options, partitions, name } = Creation::decode(&section)?;
        let trees = self.store.create(id, &name, (engine, partitions.as_ref()), options, at);
        self.add(id, (&name, at), engine, trees.map(Keeper::Lsm), &options);
        let parts = partitions.iter().flat_map(PartitionMap::ids);
        self.next_keyspace = parts.copied().fold(id, KeyspaceId::max).0 + 1;
        Ok(())
    }

    fn alter(&mut self, record: &mut ScannedRecord<'_>) -> Result<()> {
        // One that is gone was dropped later. What the manifest knows already ends as it knows it: later changes follow.
        if let Some(space) = self.keyspaces.get(&record.head.subject)
            && matches!(space.keeper, Keeper::Lsm(_))
        {
            let options = TreeOptions::decode(&mut Reader::new(&record.section(0)?))?;
            space.set_options(&options);
            self.store.alter(space.id, options, record.head.first);
        }
        Ok(())
    }

    fn partition(&mut self, record: &mut ScannedRecord<'_>) -> Result<()> {
        let section = match record.section(0) {
            Err(error) if error.kind() == ErrorKind::Erased => return Ok(()),
            section => section?,
        };
        let map = PartitionMap::decode_whole(&mut Reader::new(&section))?;
        let next = map.ids().iter().map(|id| id.0).max().unwrap_or(0).saturating_add(1);
        self.next_keyspace = self.next_keyspace.max(next);
        // One that is gone was dropped later.
        if let Some(space) = self.keyspaces.get(&record.head.subject)
            && let Keeper::Lsm(Trees::Several(partitions)) = &space.keeper
        {
            self.store.change_partitions(partitions, &map, record.head.first)?;
        }
        Ok(())
    }

    fn batch(&mut self, record: &mut ScannedRecord<'_>) -> Result<()> {
        let mut next = record.head.first;
        for id in &record.head.truncated {
            if let Some(Keeper::Lsm(trees)) = self.keyspaces.get(id).map(|space| &space.keeper) {
                self.store.truncate(trees, next)?;
            }
            next = next.plus(1);
        }
        for (one, other) in &record.head.swapped {
            // One that is gone was dropped later, and the manifest knows of both.
            if let (Some(one), Some(other)) = (self.keyspaces.get(one), self.keyspaces.get(other))
                && one.swap_names(other, next)
            {
                let (name, other_name) = (one.name(), other.name());
                self.store.swap_names([(one.id, &name), (other.id, &other_name)], next);
            }
            next = next.plus(1);
        }
        let mut first = next;
        for (index, id) in record.keyspaces().into_iter().enumerate() {
            let count = record.head.counts[index];
            let next = first.plus(count);
            match self.keyspaces.get(&id).map(|space| &space.keeper) {
                Some(Keeper::Lsm(trees)) if trees.flushed().plus(1) < next => {
                    let ops = Ops::decode(record.section(index)?, count)?;
                    self.store.apply(trees, first, &ops)?;
                    self.operations += count;
                }
                Some(_) => {}
                // Dropped since: its bytes stay sealed.
                None if id.0 < self.next_keyspace => {}
                None => {
                    return Err(Error::corrupt(format!(
                        "the record changes keyspace {id}, which was never created"
                    )));
                }
            }
            first = next;
        }
        Ok(())
    }
}
