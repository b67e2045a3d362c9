//! A tree held fast: what a snapshot reads where a compaction filter may make entries go without a commit.

use std::sync::Arc;

use pugdb_core::engine::{Cursor, Direction, KeyRange, ReadPoint};
use pugdb_core::seam::{AtHand, Wait};
use pugdb_core::{Found, Result};

use super::{Tree, Version, scan};

/// The memtables and tables that a tree had at one moment. It answers at read points of that moment or from before, and
/// keeps their files.
#[derive(Clone)]
pub struct TreeView(Arc<Version>);

impl Tree {
    /// What the tree is made of now, if a filter may make entries go; without one, versions are kept by their seqnos.
    pub(crate) fn filtered_view(&self) -> Option<TreeView> {
        self.filter.read().is_some().then(|| TreeView(self.version()))
    }
}

impl TreeView {
    /// One key, if it is at hand or `wait` is [`Wait::Always`].
    ///
    /// # Errors
    /// As [`Engine::get`](pugdb_core::engine::Engine::get).
    pub fn look(&self, key: &[u8], point: ReadPoint, wait: Wait) -> Result<AtHand<Option<Found>>> {
        self.0.look(key, point, wait)
    }

    /// Whether a key is there. A value that lies apart is not fetched.
    ///
    /// # Errors
    /// As [`Engine::exists`](pugdb_core::engine::Engine::exists).
    pub fn exists(&self, key: &[u8], point: ReadPoint) -> Result<bool> {
        self.0.exists(key, point)
    }

    /// Several keys.
    ///
    /// # Errors
    /// As [`Engine::multi_get`](pugdb_core::engine::Engine::multi_get).
    pub fn multi_get(&self, keys: &[&[u8]], point: ReadPoint) -> Result<Vec<Option<Found>>> {
        self.0.multi_get(keys, point)
    }

    /// A range of keys.
    pub fn scan(&self, range: KeyRange, direction: Direction, point: ReadPoint) -> Box<dyn Cursor> {
        Box::new(scan::TreeCursor::new(&self.0, range, direction, point))
    }
}
