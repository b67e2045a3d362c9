//! What keeps the entries of a keyspace on disk: one tree, or several that share its keys.

use std::sync::Arc;

use pugdb_core::engine::{Counts, Engine, KeyRange, ReadPoint};
use pugdb_core::seam::{AtHand, Wait};
use pugdb_core::{Found, Ops, Result, Seqno, Value};

use super::Partitions;
use crate::TreeOptions;
use crate::tree::{Approximate, Tree, TreeSizes};

/// The trees of a keyspace.
#[derive(Clone)]
pub enum Trees {
    /// All of it.
    One(Arc<Tree>),
    /// Each some of its keys.
    Several(Arc<Partitions>),
}

impl Trees {
    /// As an engine.
    pub fn engine(&self) -> &dyn Engine {
        match self {
            Self::One(tree) => &**tree,
            Self::Several(partitions) => &**partitions,
        }
    }

    /// The tree, if it is one.
    pub fn one(&self) -> Option<&Arc<Tree>> {
        match self {
            Self::One(tree) => Some(tree),
            Self::Several(_) => None,
        }
    }

    /// The partitions, if there are any.
    pub fn several(&self) -> Option<&Arc<Partitions>> {
        match self {
            Self::One(_) => None,
            Self::Several(partitions) => Some(partitions),
        }
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Tree>> {
        match self {
            Self::One(tree) => vec![Arc::clone(tree)],
            Self::Several(partitions) => partitions.trees(),
        }
    }

    /// What all of them have in common is asked of this one.
    fn any(&self) -> Arc<Tree> {
        match self {
            Self::One(tree) => Arc::clone(tree),
            Self::Several(partitions) => partitions.any(),
        }
    }

    /// How new tables are made.
    pub fn options(&self) -> TreeOptions {
        match self {
            Self::One(tree) => tree.options(),
            Self::Several(partitions) => partitions.any().options(),
        }
    }

    /// Whether what is in memtables is in the log too.
    pub fn is_logged(&self) -> bool {
        match self {
            Self::One(tree) => tree.is_logged(),
            Self::Several(partitions) => partitions.any().is_logged(),
        }
    }

    /// May operands be written?
    ///
    /// # Errors
    /// As [`Tree::check_operator`].
    pub fn check_operator(&self) -> Result<()> {
        self.any().check_operator()
    }

    /// What comes of operands on a value.
    ///
    /// # Errors
    /// As [`Tree::merge`].
    pub fn merge(&self, key: &[u8], existing: Option<&[u8]>, operands: &[&[u8]]) -> Result<Value> {
        self.any().merge(key, existing, operands)
    }

    /// The newest operation that was applied.
    pub fn applied(&self) -> Seqno {
        self.all().iter().map(|tree| tree.applied()).max().unwrap_or_default()
    }

    /// Everything up to here is in tables.
    pub fn flushed(&self) -> Seqno {
        match self {
            Self::One(tree) => tree.flushed(),
            Self::Several(partitions) => {
                partitions.trees().iter().map(|tree| tree.flushed()).min().unwrap_or_default()
            }
        }
    }

    /// How often a compaction filter has made entries go.
    pub fn filtered(&self) -> u64 {
        self.all().iter().map(|tree| tree.filtered()).sum()
    }

    /// About how many entries there are, as [`Tree::approximate_counts`] says.
    pub fn approximate_counts(&self) -> Counts {
        self.all().iter().fold(Counts::default(), |sum, tree| sum.with(tree.approximate_counts()))
    }

    /// What they take, all together.
    pub fn sizes(&self) -> TreeSizes {
        match self {
            Self::One(tree) => tree.sizes(),
            Self::Several(partitions) => partitions.sizes(),
        }
    }

    /// About how many keys there are, as [`Tree::key_estimate`] says.
    pub fn key_estimate(&self) -> u64 {
        match self {
            Self::One(tree) => tree.key_estimate(),
            Self::Several(partitions) => partitions.key_estimate(),
        }
    }

    /// About how much a range holds.
    ///
    /// # Errors
    /// As [`Tree::approximate`].
    pub fn approximate(&self, range: &KeyRange) -> Result<Approximate> {
        match self {
            Self::One(tree) => tree.approximate(range),
            Self::Several(partitions) => partitions.approximate(range),
        }
    }

    /// As [`Tree::get_unpinned`].
    ///
    /// # Errors
    /// As it.
    #[inline]
    pub fn get_unpinned(
        &self,
        key: &[u8],
        wait: Wait,
        point: impl FnOnce() -> Result<ReadPoint>,
    ) -> Result<AtHand<Option<Found>>> {
        match self {
            Self::One(tree) => tree.get_unpinned(key, wait, point),
            Self::Several(partitions) => partitions.get_unpinned(key, wait, point),
        }
    }

    /// As [`Tree::exists_unpinned`].
    ///
    /// # Errors
    /// As it.
    pub fn exists_unpinned(&self, key: &[u8], point: impl FnOnce() -> Result<ReadPoint>) -> Result<bool> {
        match self {
            Self::One(tree) => tree.exists_unpinned(key, point),
            Self::Several(partitions) => partitions.exists_unpinned(key, point),
        }
    }

    /// [`Engine::apply`] that says what each tree got.
    pub(crate) fn apply_counted(
        &self,
        first: Seqno,
        ops: &Ops,
        count: &mut dyn FnMut(&Arc<Tree>, usize),
    ) -> Result<()> {
        match self {
            Self::One(tree) => {
                tree.apply(first, ops)?;
                count(tree, ops.cost_bytes());
                Ok(())
            }
            Self::Several(partitions) => partitions.apply_counted(first, ops, count),
        }
    }
}
