//! A value file for people: header, and one part for each record. Never a value.

use std::sync::Arc;

use bytes::BytesMut;
use pugdb_core::env::File;
use pugdb_core::seam::FileKind;
use pugdb_core::{Error, KeyspaceId, Result};

use super::record::{LENGTH_BYTES, Records};
use crate::file::OpenedHeader;
use crate::inspect::{Inspected, Part, Visit, damage, header, piece};

/// Shows each record of a value file.
pub(crate) fn inspect(
    file: &Arc<dyn File>,
    opened: &OpenedHeader,
    visit: &mut Visit<'_>,
) -> Result<Inspected> {
    visit(header(opened, Vec::new()))?;
    let context = &opened.header.context;
    let length = file.length().map_err(|error| Error::io("read a file's length", error))?;
    let keyspace = context.keyspace.unwrap_or(KeyspaceId(0));
    let records = Records::new(context.file, keyspace, Arc::clone(&opened.cipher));
    let (mut offset, mut is_damaged) = (opened.bytes, false);
    let ended = |end, reason: &str, damaged| Inspected {
        kind: FileKind::Values,
        end,
        reason: reason.to_owned(),
        damaged,
    };
    while offset < length {
        let head = piece(file, offset, LENGTH_BYTES as u64)?.and_then(|head| head.first_chunk().copied());
        let bytes = head.map(Records::length).filter(|bytes| *bytes <= length - offset);
        let Some(bytes) = bytes else {
            // Only it says where the next one begins.
            visit(damage(offset, length - offset, "the length of a record is damaged"))?;
            return Ok(ended(
                offset,
                "a damaged length, and only it says where the next record begins",
                true,
            ));
        };
        let stored = piece(file, offset, bytes)?.unwrap_or_default();
        match records.open(offset, BytesMut::from(&stored[..])) {
            Ok(record) => {
                let fields = vec![("value_bytes", (record.value.len() as u64).into())];
                visit(Part { offset, bytes, what: "value", fields })?;
            }
            Err(error) => {
                is_damaged = true;
                visit(damage(offset, bytes, error.to_string()))?;
            }
        }
        offset += bytes;
    }
    let reason = if is_damaged { "the end, with damage before" } else { "the end" };
    Ok(ended(length, reason, is_damaged))
}
