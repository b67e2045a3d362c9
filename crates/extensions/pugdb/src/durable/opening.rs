//! Opening a database on disk: the lock, the keys, the manifest, then the log behind it; or beside whoever has it open.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use pugdb_core::env::{Env, FileLock, sync_parents};
use pugdb_core::memory::Housekeeper;
use pugdb_core::observer::Observers;
use pugdb_core::seam::TableStore;
use pugdb_core::snapshots::Snapshots;
use pugdb_core::{Error, Incarnation, Lsn, Result};
use pugdb_lsm::file::Context;
use pugdb_lsm::log::{Log, LogOptions, LogState, Scan, scan};
use pugdb_lsm::manifest::{self, Manifest, State};
use pugdb_lsm::store::{Gate, PinnedStore, RESERVE, Store, StoreOptions};
use pugdb_lsm::table::LocalTables;
use pugdb_security::audit::Notary;
use pugdb_security::{KEYRING, Vault, VaultCipher};

use super::replay::Replay;
use super::{Durable, LOCK, LOG_SEGMENTS_MAX, LogGate, Role};
use crate::audit::{self, AUDIT, AuditLog, AuditOptions, KeyWitness};
use crate::checkpoint::FOLDERS;
use crate::database::{Inner, Names, Writer};
use crate::reader::{self, Lease, READERS};
use crate::report::{LogCut, RecoveryReport};
use crate::space::Keeper;
use crate::transaction::Guards;
use crate::{Builder, encrypt};

/// A file of this size is read and written at a disk's best pace; a merge takes in about as much at a time.
const TABLE_BYTES_MAX: u64 = 64 << 20;

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
