//! What all connections of a server share.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pugdb::Database;
use tokio::time::Instant;

use crate::ServerOptions;
use crate::budget::Budget;
use crate::clients::Clients;
use crate::cursors::Cursors;
use crate::failure::Failure;
use crate::gate::Gate;
use crate::limits::{COUNT_TIME_SHARE, DATABASES};
use crate::shape::Shape;
use crate::stats::{AllCommandStats, Stats};

/// The keyspaces behind the numbers of `SELECT`.
pub(crate) const KEYSPACES: [&str; DATABASES] = [
    "db0", "db1", "db2", "db3", "db4", "db5", "db6", "db7", "db8", "db9", "db10", "db11", "db12", "db13",
    "db14", "db15",
];

/// The database, and everything about the server that a command may ask for.
pub(crate) struct Shared {
    pub(crate) db: Database,
    pub(crate) options: ServerOptions,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) started_at: Instant,
    /// 40 hexadecimal digits, other ones after every start.
    pub(crate) run_id: String,
    pub(crate) budget: Arc<Budget>,
    pub(crate) clients: Arc<Clients>,
    pub(crate) cursors: Cursors,
    pub(crate) gate: Arc<Gate>,
    pub(crate) stats: Stats,
    pub(crate) command_stats: AllCommandStats,
    pub(crate) shape: Shape,
    /// A sync has failed and its waiters know: what is read from now on is served without waiting for it.
    sync_failed: AtomicBool,
    /// What `INFO` last counted in each database.
    counts: Mutex<[Option<Counted>; DATABASES]>,
}

/// The keys of a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyCount {
    pub(crate) keys: u64,
    pub(crate) expires: u64,
}

#[derive(Clone, Copy)]
struct Counted {
    count: KeyCount,
    at: Instant,
    took: Duration,
}

impl Shared {
    pub(crate) fn new(
        options: ServerOptions,
        db: Database,
        addresses: Vec<SocketAddr>,
        threads: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            db,
            addresses,
            started_at: Instant::now(),
            run_id: run_id(),
            budget: Budget::new(options.buffer_bytes),
            clients: Arc::default(),
            cursors: Cursors::new(),
            gate: Arc::new(Gate::new(threads)),
            stats: Stats::default(),
            command_stats: AllCommandStats::new(),
            shape: Shape::new(),
            sync_failed: AtomicBool::new(false),
            counts: Mutex::new([None; DATABASES]),
            options,
        })
    }

    pub(crate) fn sync_failed(&self) -> bool {
        self.sync_failed.load(Ordering::Acquire)
    }

    pub(crate) fn note_sync_failure(&self) {
        self.sync_failed.store(true, Ordering::Release);
    }

    /// The keys of a database, counted one by one. A count that took long is used again for a while.
    pub(crate) fn recent_key_count(&self, database: usize) -> Result<KeyCount, Failure> {
        let known = self.counts.lock().get(database).copied().flatten();
        if let Some(known) = known.filter(|known| known.at.elapsed() < known.took * COUNT_TIME_SHARE) {
            return Ok(known.count);
        }
        let start = Instant::now();
        let count = self.count_keys(database)?;
        if let Some(slot) = self.counts.lock().get_mut(database) {
            let took = start.elapsed();
            // Small databases are counted each time, for nobody waits for that.
            *slot = (took > Duration::from_millis(20)).then(|| Counted { count, at: Instant::now(), took });
        }
        Ok(count)
    }

    /// The keys of a database, counted one by one.
    pub(crate) fn count_keys(&self, database: usize) -> Result<KeyCount, Failure> {
        let mut count = KeyCount::default();
        let name = KEYSPACES.get(database).copied().unwrap_or_default();
        let Some(keyspace) = self.db.existing_keyspace(name)? else { return Ok(count) };
        let mut scan = keyspace.scan(..);
        while let Some((_, entry)) = scan.next_entry()? {
            count.keys += 1;
            count.expires += u64::from(entry.expires_at.is_some());
        }
        Ok(count)
    }
}

fn run_id() -> String {
    let random = || RandomState::new().build_hasher().finish();
    let mut id = format!("{:016x}{:016x}{:016x}", random(), random(), random());
    id.truncate(40);
    id
}
