//! The unlink job: removes the files of tables that nobody reads any more, one after the other.

use std::sync::Arc;

use pugdb_core::env::{Job, Next};

use super::Store;

pub(super) struct UnlinkJob {
    store: Arc<Store>,
}

impl UnlinkJob {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { store }
    }

    fn slice(&self) -> Next {
        if self.store.is_closing() {
            return Next::Done;
        }
        if self.store.shelf.graveyard.remove_next() { Next::Again } else { Next::Wait }
    }
}

impl Job for UnlinkJob {
    fn run(&mut self) -> Next {
        let store = Arc::clone(&self.store);
        store.guarded(|| self.slice())
    }
}
