//! The order job: merges the sorted parts of memtables that are being written, so that a scan has few to merge.

use std::sync::Arc;

use pugdb_core::env::{Job, Next};

use super::Store;
use crate::tree::Tree;

pub(super) struct OrderJob {
    store: Arc<Store>,
}

impl OrderJob {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { store }
    }

    fn slice(&self) -> Next {
        if let Some(next) = self.store.ended() {
            return next;
        }
        let waiting = self.store.trees.read().values().find(|tree| tree.wants_merge()).cloned();
        match waiting.as_deref().map(Tree::merge_step) {
            Some(_) => Next::Again,
            None => Next::Wait,
        }
    }
}

impl Job for OrderJob {
    fn run(&mut self) -> Next {
        let store = Arc::clone(&self.store);
        store.guarded(|| self.slice())
    }
}
