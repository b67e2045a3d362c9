//! A batch as the head and the sections of a log record. Write path, step 3.

use pugdb_core::{Seqno, Timestamp};
use pugdb_lsm::frame::Section;
use pugdb_lsm::log::RecordHead;

use crate::batch::{Changes, Part};

/// The head of the record of a batch.
pub(super) fn head(now: Timestamp, first: Seqno, changes: &Changes) -> RecordHead {
    let counts = changes.parts.iter().map(|part| part.ops.len() as u64).collect();
    RecordHead {
        truncated: changes.truncated.iter().map(|space| space.id).collect(),
        swapped: changes.swapped.iter().map(|(one, other)| (one.id, other.id)).collect(),
        ..RecordHead::batch(now, first, counts)
    }
}

/// The section of a keyspace: its operations as the batch has collected them.
pub(super) fn section(part: &Part) -> Section<'_> {
    Section { keyspace: part.space.id, bytes: part.ops.bytes() }
}
