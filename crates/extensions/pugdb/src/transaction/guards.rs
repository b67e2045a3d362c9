//! Keys and ranges that others may not change unseen: what a transaction that is committing has scanned, and all that a prepared
//! one has read and will write. Every commit looks at them under the writer's lock; as long as there are none that costs nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pugdb_core::engine::KeyRange;
use pugdb_core::{Error, Key, KeySpan, KeyspaceId, Operation, Result};

use crate::batch::Changes;

/// All guards of a database. Changed and asked under the writer's lock.
#[derive(Default)]
pub(crate) struct Guards {
    all: Vec<Arc<Guard>>,
}

/// What somebody wants left alone.
pub(crate) struct Guard {
    /// What will be written by the one who holds on to it.
    written: Vec<Guarded>,
    read: Vec<Guarded>,
    kind: GuardKind,
}

/// Of one keyspace.
pub(crate) struct Guarded {
    pub(crate) keyspace: KeyspaceId,
    pub(crate) keys: BTreeSet<Key>,
    pub(crate) ranges: Vec<KeyRange>,
}

enum GuardKind {
    /// Who changes it breaks the guard.
    Watching(AtomicBool),
    /// Who changes it is refused.
    Holding,
}

impl Guard {
    /// Is told when something of it is changed.
    pub(crate) fn watching(read: Vec<Guarded>) -> Arc<Self> {
        Arc::new(Self { written: Vec::new(), read, kind: GuardKind::Watching(AtomicBool::new(false)) })
    }

    /// Nothing of it is changed as long as this is there.
    pub(crate) fn holding(written: Vec<Guarded>, read: Vec<Guarded>) -> Arc<Self> {
        Arc::new(Self { written, read, kind: GuardKind::Holding })
    }

    /// True when something of it was changed.
    pub(crate) fn is_broken(&self) -> bool {
        matches!(&self.kind, GuardKind::Watching(broken) if broken.load(Ordering::Acquire))
    }

    /// Notes that something is changed.
    fn meet(&self) -> Result<()> {
        match &self.kind {
            GuardKind::Watching(broken) => {
                broken.store(true, Ordering::Release);
                Ok(())
            }
            GuardKind::Holding => Err(Error::retry(
                "a prepared transaction holds on to what is to be changed; commit it or roll it back, or try again later",
            )),
        }
    }

    fn guards(&self, keyspace: KeyspaceId) -> impl Iterator<Item = &Guarded> {
        self.written.iter().chain(&self.read).filter(move |guarded| guarded.keyspace == keyspace)
    }

    /// True when one of the two writes what the other one reads or writes.
    fn is_at_odds_with(&self, other: &Self) -> bool {
        let writes_into = |one: &Self, other: &Self| {
            one.written.iter().any(|place| other.guards(place.keyspace).any(|guarded| guarded.meets(place)))
        };
        writes_into(self, other) || writes_into(other, self)
    }

    fn is_met_by(&self, changes: &Changes) -> bool {
        let is_truncated = changes.truncated.iter().any(|space| self.guards(space.id).next().is_some());
        is_truncated
            || changes.parts.iter().any(|part| {
                let mut guarded = self.guards(part.space.id);
                guarded.any(|guarded| part.ops.iter().any(|op| guarded.is_met_by(&op)))
            })
    }
}

impl Guarded {
    fn is_met_by(&self, op: &Operation<'_>) -> bool {
        match op {
            Operation::Entry(op) => {
                self.keys.contains(op.key) || self.ranges.iter().any(|range| range.contains(op.key))
            }
            Operation::DeleteRange(span) => self.overlaps(&span.range()),
        }
    }

    /// True when they have keys in common.
    fn meets(&self, other: &Self) -> bool {
        let contains = |one: &Self, key: &Key| {
            one.keys.contains(key) || one.ranges.iter().any(|range| range.contains(key))
        };
        self.keys.iter().any(|key| contains(other, key))
            || other.keys.iter().any(|key| contains(self, key))
            || self.ranges.iter().any(|range| other.overlaps(range))
    }

    fn overlaps(&self, range: &KeyRange) -> bool {
        let Some(span) = KeySpan::of(range) else { return false };
        let keys = span.raw().range();
        self.keys.range::<[u8], _>(keys.bounds()).next().is_some()
            || self
                .ranges
                .iter()
                .any(|range| KeySpan::of(range).is_some_and(|other| other.raw().overlaps(&span.raw())))
    }
}

impl Guards {
    pub(crate) fn add(&mut self, guard: &Arc<Guard>) {
        self.all.push(Arc::clone(guard));
    }

    /// Adds one that holds on to something.
    ///
    /// # Errors
    /// `Conflict` when that is at odds with what another one holds on to. Who only watches is told when it comes to the commit.
    pub(crate) fn add_holding(&mut self, guard: &Arc<Guard>) -> Result<()> {
        let is_holding = |other: &&Arc<Guard>| matches!(other.kind, GuardKind::Holding);
        let mut at_odds = self.all.iter().filter(is_holding).filter(|other| other.is_at_odds_with(guard));
        at_odds.next().map_or(Ok(()), |other| other.meet())?;
        self.add(guard);
        Ok(())
    }

    pub(crate) fn remove(&mut self, guard: &Arc<Guard>) {
        self.all.retain(|other| !Arc::ptr_eq(other, guard));
    }

    /// A commit is about to change this. `own` is the guard of the one who commits.
    ///
    /// # Errors
    /// `Conflict` when somebody holds on to some of it.
    pub(crate) fn meet(&self, changes: &Changes, own: Option<&Arc<Guard>>) -> Result<()> {
        if self.all.is_empty() {
            return Ok(());
        }
        self.meet_those(own, |guard| guard.is_met_by(changes))
    }

    /// Some keys of these ranges are about to be changed.
    ///
    /// # Errors
    /// As [`meet`](Self::meet).
    pub(crate) fn meet_ranges(&self, keyspace: KeyspaceId, ranges: &[KeyRange]) -> Result<()> {
        self.meet_those(None, |guard| {
            guard.guards(keyspace).any(|guarded| ranges.iter().any(|range| guarded.overlaps(range)))
        })
    }

    /// A keyspace is about to go.
    ///
    /// # Errors
    /// As [`meet`](Self::meet).
    pub(crate) fn meet_keyspace(&self, keyspace: KeyspaceId) -> Result<()> {
        self.meet_those(None, |guard| guard.guards(keyspace).next().is_some())
    }

    fn meet_those(&self, own: Option<&Arc<Guard>>, is_met: impl Fn(&Guard) -> bool) -> Result<()> {
        let is_other = |guard: &&Arc<Guard>| own.is_none_or(|own| !Arc::ptr_eq(own, guard));
        self.all.iter().filter(is_other).filter(|guard| is_met(guard)).try_for_each(|guard| guard.meet())
    }
}

impl fmt::Debug for Guards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guards({})", self.all.len())
    }
}
