//! A keyspace as all its handles share it: what keeps its entries, its name, and whether it is still there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use parking_lot::RwLock;
use pugdb_core::engine::{Counts, Engine, EngineKind};
use pugdb_core::env::Env;
use pugdb_core::memory::{Btree, Hash, Housekeeper};
use pugdb_core::snapshots::Snapshots;
use pugdb_core::{Error, KeyspaceId, Result, Seqno, Timestamp};
use pugdb_lsm::{OperatorName, TreeOptions, Trees};

use crate::KeyspaceOptions;
use crate::count::LastCount;
use crate::quota::Quotas;

/// A keyspace as all its handles share it.
pub(crate) struct Space {
    pub(crate) id: KeyspaceId,
    pub(crate) kind: EngineKind,
    pub(crate) keeper: Keeper,
    /// Its name, and the seqno since which it has it.
    name: RwLock<(Arc<str>, Seqno)>,
    pub(crate) last_count: LastCount,
    /// The seqno of the drop; `u64::MAX` while it exists.
    dropped: AtomicU64,
    /// An [`Erasure`]: of all of it, for all snapshots.
    erasure: AtomicU8,
    /// How many milliseconds an entry lives that says nothing else; 0 for ever.
    default_expiry: AtomicU64,
    pub(crate) quotas: Quotas,
}

/// How far the erasure of a keyspace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Erasure {
    /// There is none.
    None = NO_ERASURE,
    /// It may come to be, or be given up.
    Begun = 1,
    /// Nobody needs it any more.
    Done = 2,
}

const NO_ERASURE: u8 = 0;

#[cold]
fn refuse(erasure: u8) -> Error {
    if erasure == Erasure::Done as u8 {
        return Error::erased(
            "the keyspace was erased: its key was destroyed, and nothing brings its data back",
        );
    }
    Error::unavailable("the keyspace is being erased; if that came to nothing, open the database again")
}

/// The engine behind a keyspace.
pub(crate) enum Keeper {
    Btree(Arc<Btree>),
    Hash(Arc<Hash>),
    Lsm(Trees),
}

impl Keeper {
    /// An empty engine in memory.
    pub(crate) fn volatile(
        kind: EngineKind,
        env: &Env,
        snapshots: &Arc<Snapshots>,
        housekeeper: &Arc<Housekeeper>,
    ) -> Self {
        let snapshots = Arc::clone(snapshots);
        if kind == EngineKind::Hash {
            let mut seed = [0; 8];
            env.random.fill(&mut seed);
            return Self::Hash(Hash::watched(snapshots, u64::from_le_bytes(seed), housekeeper));
        }
        Self::Btree(Btree::watched(snapshots, housekeeper))
    }
}

impl Space {
    pub(crate) fn new(
        id: KeyspaceId,
        (name, since): (&str, Seqno),
        kind: EngineKind,
        keeper: Keeper,
        options: &TreeOptions,
    ) -> Arc<Self> {
        let (name, last_count) = (RwLock::new((Arc::from(name), since)), LastCount::default());
        let (dropped, default_expiry) = (AtomicU64::new(u64::MAX), AtomicU64::default());
        let quotas = Quotas::of(options);
        let space = Self {
            id,
            kind,
            keeper,
            name,
            last_count,
            dropped,
            erasure: AtomicU8::new(NO_ERASURE),
            default_expiry,
            quotas,
        };
        space.set_default_expiry(options.default_expiry_ms);
        Arc::new(space)
    }

    /// What writers look at is this from here on.
    pub(crate) fn set_options(&self, options: &TreeOptions) {
        self.set_default_expiry(options.default_expiry_ms);
        self.quotas.set(options);
    }

    fn set_default_expiry(&self, milliseconds: Option<u64>) {
        self.default_expiry.store(milliseconds.unwrap_or(0), Ordering::Release);
    }

    fn default_expiry_ms(&self) -> Option<u64> {
        Some(self.default_expiry.load(Ordering::Acquire)).filter(|milliseconds| *milliseconds > 0)
    }

    /// When an entry expires for which this is asked, written at `now`. Write path, step 1.
    pub(crate) fn expiry(
        &self,
        asked: Option<Timestamp>,
        now: impl FnOnce() -> Timestamp,
    ) -> Option<Timestamp> {
        match asked {
            None => self.default_expiry_ms().map(|milliseconds| now().plus_ms(milliseconds)),
            asked => asked.filter(|at| *at != Timestamp::NEVER),
        }
    }

    pub(crate) fn name(&self) -> Arc<str> {
        Arc::clone(&self.name.read().0)
    }

    /// Two keyspaces exchange their names at a seqno. False when that is past for them: a replay brings it again.
    pub(crate) fn swap_names(&self, other: &Self, at: Seqno) -> bool {
        let (mut mine, mut theirs) = (self.name.write(), other.name.write());
        let is_news = mine.1.max(theirs.1) < at;
        if is_news {
            std::mem::swap(&mut mine.0, &mut theirs.0);
            (mine.1, theirs.1) = (at, at);
        }
        is_news
    }

    pub(crate) fn engine(&self) -> &dyn Engine {
        match &self.keeper {
            Keeper::Btree(engine) => &**engine,
            Keeper::Hash(engine) => &**engine,
            Keeper::Lsm(trees) => trees.engine(),
        }
    }

    pub(crate) fn options(&self) -> KeyspaceOptions {
        let tables = match &self.keeper {
            Keeper::Lsm(trees) => Some(trees.options()),
            Keeper::Btree(_) | Keeper::Hash(_) => None,
        };
        KeyspaceOptions::of(self.kind, tables, &self.written_options())
    }

    /// The options that writers look at, and defaults for all others.
    pub(crate) fn written_options(&self) -> TreeOptions {
        let (quota_bytes, quota_keys) = self.quotas.get();
        let default_expiry_ms = self.default_expiry_ms();
        TreeOptions { default_expiry_ms, quota_bytes, quota_keys, ..TreeOptions::default() }
    }

    /// Whether its changes are in the log of a database that has one.
    pub(crate) fn is_logged(&self) -> bool {
        match &self.keeper {
            Keeper::Btree(_) | Keeper::Hash(_) => false,
            Keeper::Lsm(trees) => trees.is_logged(),
        }
    }

    /// Whose operands it may hold.
    pub(crate) fn operator(&self) -> Option<OperatorName> {
        match &self.keeper {
            Keeper::Btree(_) | Keeper::Hash(_) => None,
            Keeper::Lsm(trees) => trees.options().operator,
        }
    }

    pub(crate) fn volatile_bytes(&self) -> usize {
        match &self.keeper {
            Keeper::Btree(engine) => engine.bytes(),
            Keeper::Hash(engine) => engine.bytes(),
            Keeper::Lsm(_) => 0,
        }
    }

    /// The newest operation that was applied, visible or not yet.
    pub(crate) fn applied(&self) -> Seqno {
        match &self.keeper {
            Keeper::Btree(engine) => engine.applied(),
            Keeper::Hash(engine) => engine.applied(),
            Keeper::Lsm(trees) => trees.applied(),
        }
    }

    /// How often entries went without a commit.
    pub(crate) fn filtered(&self) -> u64 {
        match &self.keeper {
            Keeper::Btree(_) | Keeper::Hash(_) => 0,
            Keeper::Lsm(trees) => trees.filtered(),
        }
    }

    pub(crate) fn approximate_counts(&self) -> Counts {
        match &self.keeper {
            Keeper::Btree(engine) => engine.approximate_counts(),
            Keeper::Hash(engine) => engine.approximate_counts(),
            Keeper::Lsm(trees) => trees.approximate_counts(),
        }
    }

    pub(crate) fn mark_dropped(&self, at: Seqno) {
        self.dropped.store(at.0, Ordering::Release);
    }

    /// From here on nobody reads or writes it, whatever snapshot he has; or everybody again.
    pub(crate) fn mark(&self, erasure: Erasure) {
        self.erasure.store(erasure as u8, Ordering::Release);
    }

    pub(crate) fn check_not_erased(&self) -> Result<()> {
        match self.erasure.load(Ordering::Acquire) {
            NO_ERASURE => Ok(()),
            erasure => Err(refuse(erasure)),
        }
    }

    /// Refuses a write after the drop.
    pub(crate) fn check_writable(&self) -> Result<()> {
        // No operation has the largest seqno: it stands for "not dropped".
        self.check_readable(Seqno(u64::MAX - 1))
    }

    /// Refuses a read at or after the drop.
    pub(crate) fn check_readable(&self, at: Seqno) -> Result<()> {
        self.check_not_erased()?;
        if self.dropped.load(Ordering::Acquire) <= at.0 {
            return Err(Error::not_found("the keyspace was dropped; get a new handle by its name"));
        }
        Ok(())
    }
}
