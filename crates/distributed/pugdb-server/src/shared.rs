//! What all connections of a server share.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pugdb::audit::Audit;
use pugdb::rights::RightsHandle;
use pugdb::{Database, KeyCounts};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::ServerOptions;
use crate::budget::Budget;
use crate::clients::Clients;
use crate::cursors::Cursors;
use crate::denials::Denials;
use crate::failure::Failure;
use crate::gate::Gate;
use crate::limits::{COUNTED_KEYS_MAX, DATABASES};
use crate::login::Logins;
use crate::pause::ClientPause;
use crate::settings::Settings;
use crate::shape::Shape;
use crate::slowlog::{LatencyEvents, Slowlog};
use crate::stats::{AllCommandStats, ErrorCounts, Stats};
use crate::tls::{Handshakes, Tls};

/// The keyspaces behind the numbers of `SELECT`.
pub(crate) const KEYSPACES: [&str; DATABASES] = [
    "db0", "db1", "db2", "db3", "db4", "db5", "db6", "db7", "db8", "db9", "db10", "db11", "db12", "db13",
    "db14", "db15",
];

/// The database, and everything about the server that a command may ask for.
pub(crate) struct Shared {
    pub(crate) db: Database,
    /// Where it is recorded what somebody may have to answer for.
    pub(crate) audit: Option<Audit>,
    pub(crate) rights: RightsHandle,
    pub(crate) logins: Logins,
    pub(crate) denials: Denials,
    pub(crate) options: ServerOptions,
    /// Where it listens without TLS.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Where it listens with TLS.
    pub(crate) tls_addresses: Vec<SocketAddr>,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) handshakes: Arc<Handshakes>,
    pub(crate) started_at: Instant,
    /// 40 hexadecimal digits, other ones after every start.
    pub(crate) run_id: String,
    pub(crate) budget: Arc<Budget>,
    pub(crate) clients: Arc<Clients>,
    pub(crate) cursors: Cursors,
    pub(crate) gate: Arc<Gate>,
    pub(crate) stats: Stats,
    pub(crate) command_stats: AllCommandStats,
    pub(crate) errors: ErrorCounts,
    pub(crate) settings: Settings,
    pub(crate) pause: ClientPause,
    pub(crate) slowlog: Slowlog,
    pub(crate) latency: LatencyEvents,
    pub(crate) saves: Saves,
    /// Commands in the last second.
    pub(crate) operations_per_second: AtomicU64,
    /// A client asks the server to end.
    pub(crate) end: Notify,
    /// It is ending.
    is_ending: AtomicBool,
    pub(crate) shape: Shape,
    /// A sync has failed and its waiters know: what is read from now on is served without waiting for it.
    sync_failed: AtomicBool,
}

impl Shared {
    pub(crate) fn new(
        options: ServerOptions,
        db: Database,
        (addresses, tls_addresses): (Vec<SocketAddr>, Vec<SocketAddr>),
        tls: Option<Arc<Tls>>,
        threads: usize,
    ) -> pugdb::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            rights: db.rights()?,
            audit: db.audit(),
            logins: Logins::new(),
            denials: Denials::default(),
            addresses,
            tls_addresses,
            tls,
            handshakes: Arc::default(),
            started_at: Instant::now(),
            run_id: run_id(),
            budget: Budget::new(options.buffer_bytes),
            clients: Arc::default(),
            cursors: Cursors::new(),
            gate: Arc::new(Gate::new(threads)),
            stats: Stats::default(),
            command_stats: AllCommandStats::new(),
            errors: ErrorCounts::default(),
            settings: Settings::new(&options),
            pause: ClientPause::default(),
            slowlog: Slowlog::default(),
            latency: LatencyEvents::default(),
            saves: Saves::new(db.now().0 / 1000),
            operations_per_second: AtomicU64::new(0),
            end: Notify::new(),
            is_ending: AtomicBool::new(false),
            shape: Shape::new(),
            db,
            sync_failed: AtomicBool::new(false),
            options,
        }))
    }

    pub(crate) fn sync_failed(&self) -> bool {
        self.sync_failed.load(Ordering::Acquire)
    }

    pub(crate) fn note_sync_failure(&self) {
        self.stats.sync_failures.add(1);
        self.sync_failed.store(true, Ordering::Release);
    }

    /// Seconds since 1970, as the database has them.
    pub(crate) fn now_s(&self) -> u64 {
        self.db.now().0 / 1000
    }

    /// From now on the server ends: nobody waits for a pause any more, and `/readyz` says so.
    pub(crate) fn note_end(&self) {
        self.is_ending.store(true, Ordering::Release);
        self.pause.end();
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Acquire)
    }

    /// As after the start: what `CONFIG RESETSTAT` does.
    pub(crate) fn reset_stats(&self) {
        self.stats.reset();
        self.command_stats.reset();
        self.errors.reset();
    }

    /// How many keys a database has. From some size on nobody wants to wait for a count, and it is an estimate.
    pub(crate) fn estimate_keys(&self, database: usize) -> Result<KeyCounts, Failure> {
        let name = KEYSPACES.get(database).copied().unwrap_or_default();
        let Some(keyspace) = self.db.existing_keyspace(name)? else { return Ok(KeyCounts::default()) };
        let estimate = keyspace.approximate_counts()?;
        if estimate.keys > COUNTED_KEYS_MAX {
            return Ok(estimate);
        }
        // Whoever watches the server has to be answered when a table is damaged, too.
        Ok(keyspace.counts().unwrap_or(estimate))
    }
}

/// What `SAVE` and `BGSAVE` did. One of them runs at a time.
#[derive(Debug)]
pub(crate) struct Saves {
    is_running: AtomicBool,
    has_failed: AtomicBool,
    /// Seconds since 1970.
    last_s: AtomicU64,
}

/// The right to save, given back when it is dropped.
pub(crate) struct SaveTurn(Arc<Shared>);

impl Saves {
    fn new(now_s: u64) -> Self {
        Self {
            is_running: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
            last_s: AtomicU64::new(now_s),
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.is_running.load(Ordering::Acquire)
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    pub(crate) fn last_s(&self) -> u64 {
        self.last_s.load(Ordering::Acquire)
    }
}

impl Shared {
    /// The turn to save, unless somebody has it.
    pub(crate) fn begin_save(self: &Arc<Self>) -> Option<SaveTurn> {
        let was_running = self.saves.is_running.swap(true, Ordering::AcqRel);
        (!was_running).then(|| SaveTurn(Arc::clone(self)))
    }
}

impl SaveTurn {
    /// Writes memtables to tables.
    pub(crate) fn save(self) -> pugdb::Result<()> {
        let Shared { db, saves, .. } = &*self.0;
        let saved = db.flush();
        saves.has_failed.store(saved.is_err(), Ordering::Release);
        if saved.is_ok() {
            saves.last_s.store(db.now().0 / 1000, Ordering::Release);
        }
        saved
    }
}

impl Drop for SaveTurn {
    fn drop(&mut self) {
        self.0.saves.is_running.store(false, Ordering::Release);
    }
}

fn run_id() -> String {
    let random = || RandomState::new().build_hasher().finish();
    let mut id = format!("{:016x}{:016x}{:016x}", random(), random(), random());
    id.truncate(40);
    id
}
