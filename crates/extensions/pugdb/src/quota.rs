//! Quotas: how much a keyspace may take, how much it takes, and the check that is between the two. Write path, before step 4.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use pugdb_core::memory::Tidy;
use pugdb_core::{Error, Result};
use pugdb_lsm::TreeOptions;

use crate::batch::Changes;
use crate::database::Inner;
use crate::space::{Keeper, Space};

/// How much of something a keyspace may have: bytes or keys.
///
/// ```
/// use pugdb::Quota;
///
/// assert_eq!("1000".parse::<Quota>()?, Quota::AtMost(1000));
/// assert_eq!("none".parse::<Quota>()?, Quota::None);
/// assert_eq!(Quota::AtMost(1000).to_string(), "1000");
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Quota {
    /// As much as there is room for.
    #[default]
    None,
    /// So much and no more; not 0.
    AtMost(u64),
}

impl Quota {
    /// As it is written down.
    pub(crate) fn stored(self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::AtMost(most) => Some(most),
        }
    }

    pub(crate) fn of(stored: Option<u64>) -> Self {
        stored.map_or(Self::None, Self::AtMost)
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::AtMost(most) => write!(f, "{most}"),
        }
    }
}

impl FromStr for Quota {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match (text, text.parse()) {
            ("none", _) => Ok(Self::None),
            (_, Ok(most)) => Ok(Self::AtMost(most)),
            (_, Err(_)) => Err(Error::invalid("a quota is a number or `none`")),
        }
    }
}

/// What a keyspace takes, and what it may take, by [`Keyspace::usage`](crate::Keyspace::usage).
///
/// ```
/// use pugdb::{Database, KeyspaceOptions, Quota};
///
/// let db = Database::in_memory()?;
/// let quota_keys = Some(Quota::AtMost(2));
/// let users = db.keyspace_with("users", KeyspaceOptions { quota_keys, ..Default::default() })?;
/// users.put(b"ada", b"1815")?;
/// let usage = users.usage()?;
/// assert_eq!((usage.keys_estimate, usage.quota_keys, usage.quota_bytes), (1, Quota::AtMost(2), Quota::None));
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyspaceUsage {
    /// Bytes that it takes: of entries in memory, of tables, and of value files, garbage in them included. An entry in memory counts
    /// as in the budget of memory: key, value and 176 bytes.
    pub bytes: u64,
    /// About how many keys it has, as [`approximate_counts`](crate::Keyspace::approximate_counts) counts them.
    pub keys_estimate: u64,
    /// How many bytes it may take.
    pub quota_bytes: Quota,
    /// How many keys it may have.
    pub quota_keys: Quota,
}

/// The quotas of a keyspace, as its writers look at them.
pub(crate) struct Quotas {
    /// 0: none.
    bytes: AtomicU64,
    /// The same.
    keys: AtomicU64,
}

/// Bytes and keys: what there is, or what is to come.
#[derive(Clone, Copy, Default)]
struct Amount {
    bytes: u64,
    keys: u64,
}

impl Quotas {
    pub(crate) fn of(options: &TreeOptions) -> Self {
        let quotas = Self { bytes: AtomicU64::default(), keys: AtomicU64::default() };
        quotas.set(options);
        quotas
    }

    /// For the commits to come: who sets them holds the writer's lock, as those who look at them do.
    pub(crate) fn set(&self, options: &TreeOptions) {
        self.bytes.store(options.quota_bytes.unwrap_or(0), Ordering::Relaxed);
        self.keys.store(options.quota_keys.unwrap_or(0), Ordering::Relaxed);
    }

    /// Of bytes, then of keys.
    pub(crate) fn get(&self) -> (Option<u64>, Option<u64>) {
        let some = |quota: &AtomicU64| Some(quota.load(Ordering::Relaxed)).filter(|most| *most > 0);
        (some(&self.bytes), some(&self.keys))
    }

    fn is_none(&self) -> bool {
        self.get() == (None, None)
    }
}

/// Refuses changes that add to a keyspace what its quota does not allow. With the writer's lock held: two of them must not pass
/// together. What only removes is let in, or nobody could make room.
pub(crate) fn check(changes: &Changes) -> Result<()> {
    for part in changes.parts.iter().filter(|part| !part.space.quotas.is_none()) {
        let keys = part.ops.additions() as u64;
        if keys > 0 {
            let added = Amount { bytes: part.ops.cost_bytes() as u64, keys };
            let is_truncated = changes.truncated.iter().any(|space| space.id == part.space.id);
            check_space(&part.space, added, is_truncated)?;
        }
    }
    Ok(())
}

/// The same of files that are taken in, of so many bytes and entries.
pub(crate) fn check_files(space: &Space, bytes: u64, entries: u64) -> Result<()> {
    if space.quotas.is_none() {
        return Ok(());
    }
    check_space(space, Amount { bytes, keys: entries }, false)
}

fn check_space(space: &Space, added: Amount, is_truncated: bool) -> Result<()> {
    let (bytes, keys) = space.quotas.get();
    // A batch that truncates the keyspace begins with nothing.
    let used = || match (is_truncated, bytes.is_some(), keys.is_some()) {
        (true, _, _) => Amount::default(),
        (false, needs_bytes, needs_keys) => Amount {
            bytes: if needs_bytes { space.bytes() } else { 0 },
            keys: if needs_keys { space.key_estimate() } else { 0 },
        },
    };
    let mut is_tidy = false;
    loop {
        let Some(refusal) = refusal(space, used(), added) else { return Ok(()) };
        if is_tidy {
            return Err(refusal);
        }
        // In memory what was deleted counts until it is given back, which otherwise is done by the way.
        is_tidy = !space.tidy();
    }
}

/// What is said when a keyspace that has `used` has no room for what is `added`.
fn refusal(space: &Space, used: Amount, added: Amount) -> Option<Error> {
    let (bytes, keys) = space.quotas.get();
    let over = |verb, unit, most: Option<u64>, used: u64, added: u64| {
        let most = most.filter(|most| used.checked_add(added).is_none_or(|all| all > *most))?;
        Some(Error::over_quota(format!(
            "keyspace {:?} {verb} {used} of the {most} {unit} that its quota allows, and {added} more are to be written; delete \
             entries and compact, or raise the quota with alter",
            &*space.name()
        )))
    };
    over("takes", "bytes", bytes, used.bytes, added.bytes)
        .or_else(|| over("has about", "keys", keys, used.keys, added.keys))
}

/// How many versions are given back at a time before a writer is refused.
const TIDY_AT_ONCE: usize = 1024;

impl Space {
    /// What it takes, but for what was truncated away.
    fn bytes(&self) -> u64 {
        match &self.keeper {
            Keeper::Btree(engine) => engine.shown_bytes() as u64,
            Keeper::Hash(engine) => engine.shown_bytes() as u64,
            Keeper::Lsm(trees) => trees.sizes().bytes(),
        }
    }

    fn key_estimate(&self) -> u64 {
        match &self.keeper {
            Keeper::Btree(engine) => engine.approximate_counts().keys,
            Keeper::Hash(engine) => engine.approximate_counts().keys,
            Keeper::Lsm(trees) => trees.key_estimate(),
        }
    }

    /// Gives back some memory that nobody needs. True when there is more.
    fn tidy(&self) -> bool {
        match &self.keeper {
            Keeper::Btree(engine) => Tidy::tidy(&**engine, TIDY_AT_ONCE).is_busy,
            Keeper::Hash(engine) => Tidy::tidy(&**engine, TIDY_AT_ONCE).is_busy,
            Keeper::Lsm(_) => false,
        }
    }
}

/// What a keyspace takes now.
pub(crate) fn usage(inner: &Inner, space: &Space) -> Result<KeyspaceUsage> {
    inner.check_open()?;
    space.check_readable(inner.snapshots.visible())?;
    let (quota_bytes, quota_keys) = space.quotas.get();
    Ok(KeyspaceUsage {
        bytes: space.bytes(),
        keys_estimate: space.key_estimate(),
        quota_bytes: Quota::of(quota_bytes),
        quota_keys: Quota::of(quota_keys),
    })
}
