//! The contract of an engine: one keyspace, changed by operations with seqnos, read at a (seqno, now).

use std::ops::Bound;

pub use crate::entries::{Entries, Parts};
use crate::entry::{Found, Key, Timestamp};
use crate::error::Result;
use crate::ids::Seqno;
use crate::ops::Ops;
use crate::seam::AtHand;

/// Where in history a read looks: at everything up to `seqno`, with expiry judged at `now`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadPoint {
    /// The newest operation that is seen.
    pub seqno: Seqno,
    /// The moment at which expiry is judged.
    pub now: Timestamp,
}

/// Which engine keeps a keyspace's entries. The numbers are part of the disk format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EngineKind {
    /// Sorted tables on disk behind the log: durable, ordered.
    #[default]
    Lsm = 1,
    /// A map in memory: volatile, ordered.
    Btree = 2,
    /// A hash table in memory: volatile, for points, without order.
    Hash = 3,
    /// Several trees of sorted tables, each for some of the keys: durable, ordered.
    Partitioned = 4,
}

impl EngineKind {
    /// Reads the number on disk.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Lsm, Self::Btree, Self::Hash, Self::Partitioned].into_iter().find(|kind| *kind as u8 == number)
    }

    /// Where this engine's entries live.
    pub fn persistence(self) -> Persistence {
        match self {
            Self::Lsm | Self::Partitioned => Persistence::Durable,
            Self::Btree | Self::Hash => Persistence::Volatile,
        }
    }
}

/// What an engine can do. What it cannot is a typed error at the border, not a surprise inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether scans come in key order.
    pub scans: Scans,
    /// Whether entries outlive the process.
    pub persistence: Persistence,
    /// Whether operands can be applied.
    pub operands: Operands,
}

/// What an engine does with operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operands {
    /// It folds them with what was there before, when they are read or later.
    Folded,
    /// It takes none: an apply that holds one is `Invalid`.
    Refused,
}

/// How an engine scans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scans {
    /// In key order, both directions.
    Ordered,
    /// The whole keyspace, forward, each entry once and in no order. Ranges, prefixes and reverse are `Invalid`.
    Unordered,
}

/// Where an engine's entries live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// On disk, behind the log.
    Durable,
    /// In memory only: never logged, empty on open.
    Volatile,
}

/// A range of keys, each end included, excluded or open.
///
/// ```
/// use pugdb_core::engine::KeyRange;
///
/// let range = KeyRange::prefix(b"user:");
/// assert!(range.contains(b"user:1"));
/// assert!(!range.contains(b"user;"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// The lower end.
    pub start: Bound<Vec<u8>>,
    /// The upper end.
    pub end: Bound<Vec<u8>>,
}

impl KeyRange {
    /// Every key.
    pub fn all() -> Self {
        Self { start: Bound::Unbounded, end: Bound::Unbounded }
    }

    /// The keys that begin with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        let start = Bound::Included(prefix.to_vec());
        // The first key after the prefix: drop trailing 0xff, add one to the last byte that is left.
        let kept = prefix.iter().rposition(|&byte| byte != 0xff);
        let end = kept.map_or(Bound::Unbounded, |last| {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            Bound::Excluded(end)
        });
        Self { start, end }
    }

    /// Both ends, as the standard library's maps take them.
    pub fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (self.start.as_ref().map(Vec::as_slice), self.end.as_ref().map(Vec::as_slice))
    }

    /// True when `key` lies inside.
    pub fn contains(&self, key: &[u8]) -> bool {
        !self.starts_after(key) && !self.ends_before(key)
    }

    /// True when `key` lies before the lower end.
    pub fn starts_after(&self, key: &[u8]) -> bool {
        match &self.start {
            Bound::Included(start) => key < start.as_slice(),
            Bound::Excluded(start) => key <= start.as_slice(),
            Bound::Unbounded => false,
        }
    }

    /// True when `key` lies beyond the upper end.
    pub fn ends_before(&self, key: &[u8]) -> bool {
        match &self.end {
            Bound::Included(end) => key > end.as_slice(),
            Bound::Excluded(end) => key >= end.as_slice(),
            Bound::Unbounded => false,
        }
    }

    /// True when no key can lie inside.
    pub fn is_empty(&self) -> bool {
        match (&self.start, &self.end) {
            (Bound::Included(start), Bound::Included(end)) => start > end,
            (Bound::Included(start) | Bound::Excluded(start), Bound::Excluded(end))
            | (Bound::Excluded(start), Bound::Included(end)) => start >= end,
            _ => false,
        }
    }

    /// The part of the range that a scan has still to visit after it has seen `key`.
    #[must_use]
    pub fn after(&self, key: &[u8], direction: Direction) -> Self {
        let seen = Bound::Excluded(key.to_vec());
        match direction {
            Direction::Forward => Self { start: seen, end: self.end.clone() },
            Direction::Reverse => Self { start: self.start.clone(), end: seen },
        }
    }
}

macro_rules! from_std_ranges {
    ($($range:ident { $($end:ident),+ } => ($start_bound:expr, $end_bound:expr);)*) => {$(
        impl<B: AsRef<[u8]>> From<std::ops::$range<B>> for KeyRange {
            fn from(range: std::ops::$range<B>) -> Self {
                let std::ops::$range { $($end),+ } = range;
                Self { start: $start_bound, end: $end_bound }
            }
        }
    )*};
}

from_std_ranges! {
    Range { start, end } => (included(start), excluded(end));
    RangeFrom { start } => (included(start), Bound::Unbounded);
    RangeTo { end } => (Bound::Unbounded, excluded(end));
    RangeToInclusive { end } => (Bound::Unbounded, included(end));
}

impl<B: AsRef<[u8]>> From<std::ops::RangeInclusive<B>> for KeyRange {
    fn from(range: std::ops::RangeInclusive<B>) -> Self {
        let (start, end) = range.into_inner();
        Self { start: included(start), end: included(end) }
    }
}

impl From<std::ops::RangeFull> for KeyRange {
    fn from(_: std::ops::RangeFull) -> Self {
        Self::all()
    }
}

impl<B: AsRef<[u8]>> From<(Bound<B>, Bound<B>)> for KeyRange {
    fn from((start, end): (Bound<B>, Bound<B>)) -> Self {
        Self { start: start.map(|key| key.as_ref().to_vec()), end: end.map(|key| key.as_ref().to_vec()) }
    }
}

fn included(key: impl AsRef<[u8]>) -> Bound<Vec<u8>> {
    Bound::Included(key.as_ref().to_vec())
}

fn excluded(key: impl AsRef<[u8]>) -> Bound<Vec<u8>> {
    Bound::Excluded(key.as_ref().to_vec())
}

/// Which way a scan runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the smallest key up.
    Forward,
    /// From the largest key down.
    Reverse,
}

/// How much one step of a scan brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSize {
    /// At most this many entries; one always fits.
    pub entries: usize,
    /// At most this many bytes of keys and values; one entry always fits.
    pub bytes: usize,
}

/// What is left of a [`BatchSize`] while a batch is filled.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    left: BatchSize,
    is_empty: bool,
}

impl Room {
    /// Nothing taken yet.
    pub fn new(size: BatchSize) -> Self {
        Self { left: size, is_empty: true }
    }

    /// Takes room for an entry; false when the batch is full. The first entry always fits.
    pub fn take(&mut self, key: &Key, found: &Found) -> bool {
        self.take_bytes(key.len() + found.entry.value.len())
    }

    /// Makes room for an entry of so many bytes of key and value; false when the batch is full.
    pub fn take_bytes(&mut self, bytes: usize) -> bool {
        if !self.is_empty && (self.left.entries == 0 || self.left.bytes < bytes) {
            return false;
        }
        self.is_empty = false;
        self.left.entries = self.left.entries.saturating_sub(1);
        self.left.bytes = self.left.bytes.saturating_sub(bytes);
        true
    }

    /// True when no other entry fits.
    pub fn is_full(&self) -> bool {
        !self.is_empty && self.left.entries == 0
    }
}

/// How many entries there are, and how long that stays true by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Live entries.
    pub keys: u64,
    /// How many of them expire.
    pub expiring: u64,
    /// When the first of them does.
    pub next_expiry: Option<Timestamp>,
}

impl Counts {
    /// Counts a live entry by when it expires.
    pub fn add(&mut self, expires_at: Option<Timestamp>) {
        self.keys += 1;
        if let Some(at) = expires_at {
            self.expiring += 1;
            self.next_expiry = Some(self.next_expiry.map_or(at, |next| next.min(at)));
        }
    }

    /// Counts entries that were counted elsewhere.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            keys: self.keys.saturating_add(other.keys),
            expiring: self.expiring.saturating_add(other.expiring),
            next_expiry: self.next_expiry.into_iter().chain(other.next_expiry).min(),
        }
    }
}

/// What a count brings in one step when an engine has no better way.
const COUNT_BATCH: BatchSize = BatchSize { entries: 1024, bytes: 1 << 20 };

/// A scan under way. It owns what it needs; dropping it ends the scan.
pub trait Cursor: Send {
    /// Appends the next live entries to `out`, in order. Appending nothing means the scan is over.
    fn fill(&mut self, size: BatchSize, out: &mut Entries) -> Result<()>;
}

/// One keyspace's entries. Operations come from one writer at a time, in the order of their seqnos; reads come from
/// any thread at any time.
pub trait Engine: Send + Sync {
    /// What this engine can do.
    fn capabilities(&self) -> Capabilities;

    /// Applies `ops` with the seqnos `first`, `first + 1`, … Operations at or below the newest applied seqno are
    /// skipped: a replay is a no-op. A range delete hides every version of its keys with a smaller seqno from reads at or
    /// after its own.
    ///
    /// # Errors
    /// `Invalid`, and nothing is applied, when a range is to be deleted and the engine has no order, or there is an operand
    /// and the engine folds none.
    fn apply(&self, first: Seqno, ops: &Ops) -> Result<()>;

    /// Hides every entry with a seqno below `at` from reads at or after `at`. Older read points still see them.
    fn truncate(&self, at: Seqno) -> Result<()>;

    /// The newest entry of `key` at `point`, unless it is deleted or expired. For every read: `point.seqno` is held by
    /// a [`SnapshotGuard`](crate::snapshots::SnapshotGuard), or versions it needs could be forgotten meanwhile.
    fn get(&self, key: &[u8], point: ReadPoint) -> Result<Option<Found>>;

    /// [`get`](Self::get) without a wait for a slow medium.
    fn try_get(&self, key: &[u8], point: ReadPoint) -> Result<AtHand<Option<Found>>> {
        self.get(key, point).map(AtHand::Yes)
    }

    /// Whether [`get`](Self::get) finds an entry. A value that lies apart from its key is not fetched.
    fn exists(&self, key: &[u8], point: ReadPoint) -> Result<bool> {
        self.get(key, point).map(|found| found.is_some())
    }

    /// [`get`](Self::get) for several keys, in their order.
    fn multi_get(&self, keys: &[&[u8]], point: ReadPoint) -> Result<Vec<Option<Found>>> {
        keys.iter().map(|key| self.get(key, point)).collect()
    }

    /// Whether anybody has changed `key` behind `since`: a transaction that has read it there asks before it commits. The
    /// caller holds a snapshot at or before `since`, and the key's lock, so nothing is on its way. What has deleted a key that
    /// was not there may count, and expiry does not: nobody has to change anything for that.
    fn changed_since(&self, key: &[u8], since: Seqno) -> Result<bool>;

    /// [`changed_since`](Self::changed_since) for any key of `range`. An engine without order answers for all of its keys.
    fn range_changed_since(&self, range: &KeyRange, since: Seqno) -> Result<bool>;

    /// A scan of the live entries in `range` at `point`. The caller keeps the read point alive in
    /// [`Snapshots`](crate::snapshots::Snapshots) as long as the cursor.
    ///
    /// # Errors
    /// `Invalid` when the engine has no order and more is asked than the whole keyspace, forward.
    fn scan(&self, range: KeyRange, direction: Direction, point: ReadPoint) -> Result<Box<dyn Cursor>>;

    /// How many live entries `range` has at `point`. An engine that can, looks at no values.
    ///
    /// # Errors
    /// As [`scan`](Self::scan).
    fn count(&self, range: KeyRange, point: ReadPoint) -> Result<Counts> {
        let mut cursor = self.scan(range, Direction::Forward, point)?;
        let (mut counts, mut batch) = (Counts::default(), Entries::of(Parts::Keys));
        loop {
            cursor.fill(COUNT_BATCH, &mut batch)?;
            if batch.is_empty() {
                return Ok(counts);
            }
            (0..batch.len()).filter_map(|at| batch.get(at)).for_each(|(_, op)| counts.add(op.expires_at));
            batch.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_of_0xff_has_no_upper_end() {
        assert_eq!(KeyRange::prefix(&[0xff, 0xff]).end, Bound::Unbounded);
        assert_eq!(KeyRange::prefix(&[1, 0xff]).end, Bound::Excluded(vec![2]));
        assert_eq!(KeyRange::prefix(&[]), KeyRange { start: Bound::Included(vec![]), end: Bound::Unbounded });
    }

    #[test]
    fn empty_ranges_are_recognised() {
        let range = |start, end| KeyRange { start, end };
        assert!(range(Bound::Included(vec![2]), Bound::Included(vec![1])).is_empty());
        assert!(range(Bound::Included(vec![1]), Bound::Excluded(vec![1])).is_empty());
        assert!(!range(Bound::Included(vec![1]), Bound::Included(vec![1])).is_empty());
        assert!(!KeyRange::all().is_empty());
    }
}
