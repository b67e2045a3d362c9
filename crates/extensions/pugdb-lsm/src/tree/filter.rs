//! Asks a keyspace's compaction filter about entries, and survives its panics.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use pugdb_core::seam::{CompactionFilter, FilteredEntry, Verdict};
use pugdb_core::{RawOp, Seqno};

/// The filters of a database's keyspaces, by name.
#[derive(Clone, Default)]
pub struct Filters(BTreeMap<String, Arc<dyn CompactionFilter>>);

impl Filters {
    /// The keyspace of this name has this filter.
    pub fn insert(&mut self, keyspace: &str, filter: Arc<dyn CompactionFilter>) {
        self.0.insert(keyspace.to_owned(), filter);
    }

    /// True when there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The filter of a keyspace that has had its name since `since`.
    pub(crate) fn of(&self, keyspace: &str, since: Seqno) -> Option<Filter> {
        self.0.get(keyspace).map(|filter| Filter { filter: Arc::clone(filter), since })
    }
}

impl fmt::Debug for Filters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filters({})", self.0.len())
    }
}

/// What a tree's entries are held against.
#[derive(Clone)]
pub(crate) struct Filter {
    filter: Arc<dyn CompactionFilter>,
    /// A snapshot from before did not take hold of the tree for it.
    since: Seqno,
}

impl Filter {
    /// True when no snapshot that could miss something is alive.
    pub(crate) fn is_in_force(&self, horizon: Seqno) -> bool {
        self.since <= horizon
    }

    /// True when it is the same one, of the same time.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.filter, &other.filter) && self.since == other.since
    }
}

/// A filter in one merge.
pub(crate) struct Filtering {
    pub(crate) filter: Filter,
    /// How many entries went.
    pub(crate) forgotten: u64,
    pub(crate) has_panicked: bool,
}

impl Filtering {
    pub(crate) fn new(filter: Filter) -> Self {
        Self { filter, forgotten: 0, has_panicked: false }
    }

    /// True when the entry goes.
    pub(crate) fn forgets(&mut self, op: &RawOp<'_>) -> bool {
        if self.has_panicked {
            return false;
        }
        let mut entry = FilteredEntry::new(op.key, op.value);
        (entry.meta, entry.expires_at) = (op.meta, op.expires_at);
        // A filter that panics half-way says nothing, whatever it has changed of its own.
        let verdict = catch_unwind(AssertUnwindSafe(|| self.filter.filter.judge(&entry)));
        self.has_panicked = verdict.is_err();
        let forgets = verdict.is_ok_and(|verdict| verdict == Verdict::Forget);
        self.forgotten += u64::from(forgets);
        forgets
    }
}
