//! How many keys a keyspace has: counted once, and remembered until a commit or an expiry changes it.

use std::sync::Arc;

use parking_lot::Mutex;
use pugdb_core::engine::{Counts, KeyRange};
use pugdb_core::{Result, Seqno, Timestamp};
use pugdb_lsm::Approximate;

use crate::database::Inner;
use crate::read::pin;
use crate::space::{Keeper, Space};

/// How many keys a keyspace has, by [`Keyspace::counts`](crate::Keyspace::counts).
///
/// ```
/// use pugdb::{EntryOptions, KeyCounts};
///
/// let db = pugdb::Database::in_memory()?;
/// let sessions = db.keyspace("sessions")?;
/// let in_a_minute = Some(db.now().plus_ms(60_000));
/// sessions.put_with(b"token", b"ada", EntryOptions { expires_at: in_a_minute, ..Default::default() })?;
/// sessions.put(b"forever", b"bob")?;
/// assert_eq!(sessions.counts()?, KeyCounts { keys: 2, expiring: 1 });
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyCounts {
    /// Keys that have a value.
    pub keys: u64,
    /// How many of them have an expiry.
    pub expiring: u64,
}

impl From<Counts> for KeyCounts {
    fn from(counts: Counts) -> Self {
        Self { keys: counts.keys, expiring: counts.expiring }
    }
}

/// The last count of a keyspace.
#[derive(Default)]
pub(crate) struct LastCount {
    /// Guards the count and what it is true for.
    counted: Mutex<Option<Counted>>,
}

#[derive(Clone, Copy)]
struct Counted {
    /// The newest operation on the keyspace.
    applied: Seqno,
    /// How often a compaction filter had made something go.
    filtered: u64,
    /// When it was counted.
    now: Timestamp,
    counts: Counts,
}

impl Counted {
    /// Nothing was written since, nothing is being written, and nothing has expired since.
    fn is_true(&self, applied: Seqno, filtered: u64, now: Timestamp) -> bool {
        let is_unchanged = (self.applied, self.filtered) == (applied, filtered);
        is_unchanged && self.now <= now && self.counts.next_expiry.is_none_or(|next| now < next)
    }
}

/// Counts the keys that a read now would see.
pub(crate) fn exact(inner: &Arc<Inner>, space: &Space) -> Result<KeyCounts> {
    // Before all else: what goes later makes the count untrue.
    let filtered = space.filtered();
    let pinned = pin(inner, space, None)?;
    let point = pinned.point;
    // Behind the pin: all that was applied by then is seen, unless it is newer than what is seen.
    let applied = space.applied();
    let last = *space.last_count.counted.lock();
    let counts = match last.filter(|last| last.is_true(applied, filtered, point.now)) {
        Some(last) if applied <= point.seqno => last.counts,
        _ => space.engine().count(KeyRange::all(), point)?,
    };
    if applied <= point.seqno {
        *space.last_count.counted.lock() = Some(Counted { applied, filtered, now: point.now, counts });
    }
    Ok(counts.into())
}

/// About how much a range of keys holds.
pub(crate) fn range(inner: &Arc<Inner>, space: &Space, range: KeyRange) -> Result<Approximate> {
    let pinned = pin(inner, space, None)?;
    if let Keeper::Lsm(trees) = &space.keeper {
        return trees.approximate(&range);
    }
    let keys = space.engine().count(range, pinned.point)?.keys;
    let (bytes, all) = (space.volatile_bytes() as u128, space.approximate_counts().keys.max(keys).max(1));
    let bytes = bytes * u128::from(keys) / u128::from(all);
    Ok(Approximate { bytes: u64::try_from(bytes).unwrap_or(u64::MAX), entries: keys })
}

/// Asks tables and memory for what they know without looking.
pub(crate) fn approximate(inner: &Inner, space: &Space) -> Result<KeyCounts> {
    inner.check_open()?;
    space.check_readable(inner.snapshots.visible())?;
    Ok(space.approximate_counts().into())
}
