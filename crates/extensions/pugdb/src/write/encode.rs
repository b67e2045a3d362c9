//! A batch's operations as the sections of a log record, and back. Write path, step 3; recovery reads it.

use bytes::Bytes;
use pugdb_core::coding::Reader;
use pugdb_core::{Error, Op, Result, Seqno, Timestamp};
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

/// One section a keyspace, its operations in order.
pub(super) fn sections(parts: &[Part]) -> Vec<Section> {
    let section = |part: &Part| {
        let mut bytes = Vec::new();
        part.ops.iter().for_each(|op| op.encode(&mut bytes));
        Section { keyspace: part.space.id, bytes }
    };
    parts.iter().map(section).collect()
}

/// The operations of a section.
///
/// # Errors
/// `Corrupt` when it does not hold `count` operations and nothing else.
pub(crate) fn operations(section: Vec<u8>, count: u64) -> Result<Vec<Op>> {
    let section = Bytes::from(section);
    let mut reader = Reader::new(&section);
    let mut ops = Vec::new();
    while !reader.is_empty() {
        ops.push(Op::decode(&mut reader, &|part| Bytes::copy_from_slice(part))?);
    }
    if ops.len() as u64 == count {
        Ok(ops)
    } else {
        Err(Error::corrupt("a log record holds another number of operations than it says"))
    }
}
