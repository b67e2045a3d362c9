//! Partitioned keyspaces: how their keys are distributed, and how their partitions fare.

mod change;

use pugdb_core::limits::PARTITIONS_MAX;
use pugdb_core::{Error, KeyspaceId, Result};
use pugdb_lsm::{PartitionBy, PartitionMap, Partitions};

pub(crate) use change::{Plan, change};

use crate::database::{Inner, Writer};
use crate::space::{Keeper, Space};

/// How the keys of a keyspace are distributed over its partitions when it is made.
///
/// ```
/// use pugdb::{Database, KeyspaceOptions, Partitioning};
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("data");
/// let db = Database::open(&path)?;
/// let by_name = Partitioning::Ranges { starts: vec![b"g".to_vec(), b"n".to_vec()] };
/// let users = db.partitioned_keyspace("users", &by_name, KeyspaceOptions::default())?;
/// users.put(b"grace", b"1906")?;
/// let partitions = users.partitions()?;
/// assert_eq!(partitions.iter().map(|one| one.approximate_keys).collect::<Vec<_>>(), [0, 1, 0]);
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Partitioning {
    /// By the hash of the key: load spreads by itself, and a scan of any range merges all partitions.
    Hash {
        /// How many there are: 1 to 256.
        partitions: usize,
    },
    /// By the key: a scan of a range reads those that have keys of it, and it is on the user to choose ranges that are
    /// written and read about as much.
    Ranges {
        /// The first key of each partition but the first one, which holds all before.
        starts: Vec<Vec<u8>>,
    },
}

/// How many partitions a keyspace has that is made with the partitioned engine, and nothing else said.
const PARTITIONS_DEFAULT: usize = 8;

impl Default for Partitioning {
    /// Eight partitions by hash.
    fn default() -> Self {
        Self::Hash { partitions: PARTITIONS_DEFAULT }
    }
}

impl Partitioning {
    /// Refuses what makes no map.
    pub(crate) fn check(&self) -> Result<()> {
        self.build(KeyspaceId(1)).map(drop)
    }

    /// The map, with numbers that the writer gives out.
    pub(crate) fn map(&self, writer: &mut Writer) -> Result<PartitionMap> {
        let first = writer.take_keyspace_ids(self.count())?;
        self.build(first)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Hash { partitions } => *partitions,
            Self::Ranges { starts } => starts.len() + 1,
        }
    }

    fn build(&self, first: KeyspaceId) -> Result<PartitionMap> {
        match self {
            Self::Hash { partitions } => PartitionMap::by_hash(*partitions, first),
            Self::Ranges { starts } if starts.len() >= PARTITIONS_MAX => Err(Error::invalid(format!(
                "a keyspace has 1 to {PARTITIONS_MAX} partitions; {} are asked for",
                starts.len() + 1
            ))),
            Self::Ranges { starts } => {
                let starts = std::iter::once(Vec::new()).chain(starts.iter().cloned());
                let ids = (first.0..).map(KeyspaceId);
                PartitionMap::new(PartitionBy::Range, starts.zip(ids).collect())
            }
        }
    }

    /// True when a keyspace is partitioned, and by the same.
    pub(crate) fn is_kind_of(&self, space: &Space) -> bool {
        let by = match self {
            Self::Hash { .. } => PartitionBy::Hash,
            Self::Ranges { .. } => PartitionBy::Range,
        };
        let Keeper::Lsm(trees) = &space.keeper else { return false };
        trees.several().is_some_and(|partitions| partitions.map().by() == by)
    }
}

/// Which keys a partition holds.
///
/// ```
/// use pugdb::{Database, KeyspaceOptions, PartitionKeys, Partitioning};
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("data");
/// let db = Database::open(&path)?;
/// let halves = Partitioning::Ranges { starts: vec![b"m".to_vec()] };
/// let users = db.partitioned_keyspace("users", &halves, KeyspaceOptions::default())?;
/// let second = &users.partitions()?[1];
/// assert_eq!(second.keys, PartitionKeys::Range { from: Some(b"m".to_vec()), to: None });
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub enum PartitionKeys {
    /// Those whose hash falls into these of the 65,536 slots.
    Slots(std::ops::Range<u32>),
    /// Those of a range.
    Range {
        /// The first key; `None` when there is no partition before.
        from: Option<Vec<u8>>,
        /// The first key of the next partition; `None` when there is none.
        to: Option<Vec<u8>>,
    },
}

/// One partition of a keyspace, as [`Keyspace::partitions`](crate::Keyspace::partitions) shows it.
///
/// ```
/// use pugdb::{Database, EngineKind, KeyspaceOptions};
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("data");
/// let db = Database::open(&path)?;
/// let partitioned = KeyspaceOptions { engine: Some(EngineKind::Partitioned), ..Default::default() };
/// let events = db.keyspace_with("events", partitioned)?;
/// events.put(b"a", b"1")?;
/// db.flush()?;
/// let full: Vec<_> = events.partitions()?.into_iter().filter(|one| one.table_bytes > 0).collect();
/// assert_eq!((full.len(), full[0].approximate_keys, full[0].runs, full[0].memtable_bytes), (1, 1, 1, 0));
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Partition {
    /// Its place among the others, from 0.
    pub number: usize,
    /// What it holds.
    pub keys: PartitionKeys,
    /// About how many keys there are, as [`approximate_counts`](crate::Keyspace::approximate_counts) counts them.
    pub approximate_keys: u64,
    /// Bytes of its tables.
    pub table_bytes: u64,
    /// Bytes of entries in its memtables.
    pub memtable_bytes: usize,
    /// Its sorted runs.
    pub runs: usize,
    /// Keys read and scans begun since the open, near enough: one in 64 is counted, for all.
    pub reads: u64,
    /// Operations written since the open.
    pub writes: u64,
    /// Both, since somebody looked ten seconds ago or earlier.
    pub recent_operations: u64,
    /// Of those operations it has had more than twice its share, and 10,000 at least: splitting it would spread the load.
    pub is_hot: bool,
}

/// The partitions of a keyspace now.
pub(crate) fn partitions(inner: &Inner, space: &Space) -> Result<Vec<Partition>> {
    inner.check_open()?;
    space.check_readable(inner.snapshots.visible())?;
    let partitions = several(space)?;
    let map = partitions.map();
    let views = partitions.views(inner.options.env.clock.monotonic());
    Ok(views
        .into_iter()
        .map(|view| {
            let sizes = view.tree.sizes();
            let (from, to) = map.bounds(view.number);
            let range =
                || PartitionKeys::Range { from: from.map(<[u8]>::to_vec), to: to.map(<[u8]>::to_vec) };
            Partition {
                number: view.number,
                keys: map.slots(view.number).map_or_else(range, PartitionKeys::Slots),
                approximate_keys: view.tree.approximate_counts().keys,
                table_bytes: sizes.table_bytes,
                memtable_bytes: sizes.memtable_bytes,
                runs: sizes.runs,
                reads: view.heat.reads,
                writes: view.heat.writes,
                recent_operations: view.recent.reads.saturating_add(view.recent.writes),
                is_hot: view.is_hot,
            }
        })
        .collect())
}

fn several(space: &Space) -> Result<&Partitions> {
    match &space.keeper {
        Keeper::Lsm(trees) => trees.several().map(|partitions| &**partitions),
        Keeper::Btree(_) | Keeper::Hash(_) => None,
    }
    .ok_or_else(|| Error::invalid("the keyspace has no partitions; only the partitioned engine makes some"))
}

/// Prints lengths: a user's bytes never reach a log or an error.
impl std::fmt::Debug for PartitionKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Slots(slots) => write!(f, "Slots({slots:?})"),
            Self::Range { from, to } => {
                let length = |key: &Option<Vec<u8>>| key.as_ref().map(Vec::len);
                write!(f, "Range(from {:?} bytes, to {:?} bytes)", length(from), length(to))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_map_is_refused() {
        let ranges =
            |starts: &[&[u8]]| Partitioning::Ranges { starts: starts.iter().map(|it| it.to_vec()).collect() };
        for wrong in [
            Partitioning::Hash { partitions: 0 },
            Partitioning::Hash { partitions: PARTITIONS_MAX + 1 },
            ranges(&[b""]),
            ranges(&[b"b", b"a"]),
            ranges(&[b"a", b"a"]),
            Partitioning::Ranges {
                starts: (1..=PARTITIONS_MAX as u64).map(|it| it.to_be_bytes().to_vec()).collect(),
            },
        ] {
            assert_eq!(wrong.check().unwrap_err().kind(), pugdb_core::ErrorKind::Invalid, "{wrong:?}");
        }
        for right in [
            Partitioning::default(),
            Partitioning::Hash { partitions: PARTITIONS_MAX },
            ranges(&[]),
            ranges(&[b"a"]),
        ] {
            right.check().unwrap();
        }
    }

    #[test]
    fn debug_prints_no_keys() {
        let keys = PartitionKeys::Range { from: None, to: Some(b"canary".to_vec()) };
        assert_eq!(format!("{keys:?}"), "Range(from None bytes, to Some(6) bytes)");
    }
}
