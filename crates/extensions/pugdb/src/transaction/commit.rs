//! The end of a transaction: has anybody changed what it is about? Then the write path, step 1 to 8.
//!
//! It holds the locks of all keys that it asks about, as every writer does of what it writes; so they do not change between the
//! question and the commit, and nothing is asked, and no disk read, under the writer's lock. Ranges have no locks: a guard over
//! them is broken by whoever commits into them meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;

use pugdb_core::{EntryKind, Error, Operation, Result, Seqno};

use super::Isolation;
use super::guards::{Guard, Guarded};
use super::reads::Reads;
use crate::batch::Changes;
use crate::database::Inner;
use crate::key_locks::Stripes;
use crate::overlay::Overlay;
use crate::{CommitTicket, Durability, write};

pub(super) fn conflict() -> Error {
    Error::retry(
        "another transaction or write has changed meanwhile what this transaction is about; begin it again",
    )
}

/// Commits what a transaction has changed, if that is still right.
pub(super) fn commit(
    inner: &Arc<Inner>,
    overlay: Overlay,
    reads: &Reads,
    isolation: Isolation,
    durability: Durability,
) -> Result<CommitTicket> {
    // Held to the end: it keeps the versions that answer whether something was changed.
    let (snapshot, changes) = overlay.into_parts()?;
    inner.check_open()?;
    if changes.is_empty() {
        // All that it has read was so at one moment.
        return Ok(inner.shown_ticket());
    }
    let since = snapshot.point().seqno;
    let stripes = stripes(&changes, reads, isolation);
    let is_watched = isolation == Isolation::Serializable && reads.has_ranges() && !stripes.are_all();
    write::commit_checked(inner, &changes, &stripes, durability, || {
        let watch = is_watched.then(|| Watching::begin(inner, reads));
        check(&changes, reads, since, isolation)?;
        Ok(watch)
    })
}

/// The locks of all keys that it writes, and of those that must not change.
fn stripes(changes: &Changes, reads: &Reads, isolation: Isolation) -> Stripes {
    if changes.has_ranges() {
        return Stripes::All;
    }
    let written = changes
        .parts
        .iter()
        .flat_map(|part| part.ops.iter().filter_map(|op| op.entry()).map(|op| (part.space.id, op.key)));
    match isolation {
        Isolation::Snapshot => Stripes::of(written),
        Isolation::Serializable => Stripes::of(written.chain(reads.keys())),
    }
}

/// Refuses a transaction when somebody has changed behind `since` what it is about.
pub(super) fn check(changes: &Changes, reads: &Reads, since: Seqno, isolation: Isolation) -> Result<()> {
    let changed = match isolation {
        Isolation::Serializable => reads.changed_since(since)?,
        Isolation::Snapshot => written_since(changes, since)?,
    };
    if changed { Err(conflict()) } else { Ok(()) }
}

fn written_since(changes: &Changes, since: Seqno) -> Result<bool> {
    for part in &changes.parts {
        let engine = part.space.engine();
        for op in part.ops.iter() {
            let changed = match op {
                // It loses nobody's update: it comes on top.
                Operation::Entry(op) if op.kind == EntryKind::Operand => Ok(false),
                Operation::Entry(op) => engine.changed_since(op.key, since),
                Operation::DeleteRange(span) => engine.range_changed_since(&span.range(), since),
            };
            if changed? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// A guard over all ranges that a transaction has scanned, until this is dropped.
pub(crate) struct Watching {
    inner: Arc<Inner>,
    guard: Arc<Guard>,
}

impl Watching {
    /// From here on every commit meets it; all that came before can be seen.
    fn begin(inner: &Arc<Inner>, reads: &Reads) -> Self {
        let places = reads.spaces().map(|reads| Guarded {
            keyspace: reads.space.id,
            keys: BTreeSet::new(),
            ranges: reads.ranges.clone(),
        });
        let guard = Guard::watching(places.collect());
        inner.writer.lock().guards.add(&guard);
        Self { inner: Arc::clone(inner), guard }
    }

    pub(crate) fn guard(&self) -> &Arc<Guard> {
        &self.guard
    }

    /// Refuses the commit when somebody else's has come into a range.
    pub(crate) fn check(&self) -> Result<()> {
        if self.guard.is_broken() { Err(conflict()) } else { Ok(()) }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.inner.writer.lock().guards.remove(&self.guard);
    }
}
