//! The unlink job: removes the files of tables that nobody reads any more, one after the other, and gives back the memory of
//! memtables and of blocks.

use std::sync::Arc;
use std::time::Duration;

use pugdb_core::env::{Job, Next};

use super::Store;

/// It looks so often whether the last reader of a memtable is done.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// And lets go so many blocks of closed tables in one slice.
const LET_GO: usize = 256;

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
        let graveyard = &self.store.shelf.graveyard;
        if graveyard.remove_next() || self.store.shelf.cache.let_go(LET_GO) {
            Next::Again
        } else if graveyard.free_memtables() {
            Next::WaitUntil(self.store.context.env.clock.monotonic() + LOOK_EVERY)
        } else {
            Next::Wait
        }
    }
}

impl Job for UnlinkJob {
    fn run(&mut self) -> Next {
        let store = Arc::clone(&self.store);
        store.guarded(|| self.slice())
    }
}
