//! A log segment for people: its header, each record, each entry.

use std::sync::Arc;

use bytes::Bytes;
use pugdb_core::coding::Reader;
use pugdb_core::entry::Operation;
use pugdb_core::env::File;
use pugdb_core::seam::FileKind;
use pugdb_core::{Found, Lsn, Result, Seqno};

use super::{Creation, RecordHead, RecordKind, SegmentPlace};
use crate::file::OpenedHeader;
use crate::frame::{Frame, FrameReader, Step, first_offset};
use crate::inspect::{
    Detail, Field, Inspected, Part, Visit, damage, entry, header, option_fields, range_delete,
};
use crate::{PartitionMap, TreeOptions};

/// Shows each part of a segment.
pub(crate) fn inspect(
    file: Arc<dyn File>,
    opened: &OpenedHeader,
    detail: Detail,
    visit: &mut Visit<'_>,
) -> Result<Inspected> {
    let id = opened.header.context.file;
    let place = SegmentPlace::decode(&opened.header.extra, id)?;
    let more = vec![
        ("stream", u64::from(place.stream.0).into()),
        ("number", place.number.into()),
        ("first_lsn", place.first.0.into()),
        ("durable_lsn", place.durable.0.into()),
        ("incarnation", place.incarnation.to_string().into()),
    ];
    visit(header(opened, more))?;
    let first = first_offset(opened.bytes);
    let mut reader = FrameReader::new(file, id, Arc::clone(&opened.cipher), u64::MAX)?;
    let mut end = first;
    loop {
        let mut frame = match reader.step(end)? {
            Step::Frame(frame) => frame,
            Step::Blank => {
                let reason = "nothing more was written".to_owned();
                return Ok(Inspected { kind: FileKind::Log, end, reason, damaged: false });
            }
            Step::Damaged(reason) => {
                let remains = reader.search(end)?;
                let later = remains
                    .first_header
                    .map_or(String::new(), |at| format!("; a later record begins at byte {at}"));
                visit(damage(end, remains.used_until - end, format!("{reason}{later}")))?;
                return Ok(Inspected { kind: FileKind::Log, end, reason: reason.to_owned(), damaged: true });
            }
        };
        let head = RecordHead::decode(&frame.head)?;
        visit(record(&frame, &head, place.first.plus(end - first)))?;
        show_sections(&reader, &mut frame, &head, detail, visit)?;
        end = frame.next;
    }
}

fn record(frame: &Frame, head: &RecordHead, lsn: Lsn) -> Part {
    let kind = match head.kind {
        RecordKind::Batch => "batch",
        RecordKind::CreateKeyspace => "create keyspace",
        RecordKind::DropKeyspace => "drop keyspace",
        RecordKind::AlterKeyspace => "alter keyspace",
        RecordKind::PartitionKeyspace => "partition keyspace",
        RecordKind::Mark => "mark",
    };
    let mut fields: Vec<(&'static str, Field)> =
        vec![("kind", kind.into()), ("lsn", lsn.0.into()), ("now_ms", head.now.0.into())];
    fields.extend(frame.lag.map(|lag| ("lag", lag.into())));
    if head.kind != RecordKind::Mark {
        fields.push(("first_seqno", head.first.0.into()));
        fields.push(("last_seqno", head.last().0.into()));
    }
    if head.subject.0 != 0 {
        fields.push(("keyspace", u64::from(head.subject.0).into()));
    }
    if !head.truncated.is_empty() {
        let told: Vec<String> = head.truncated.iter().map(ToString::to_string).collect();
        fields.push(("truncated", told.join(",").into()));
    }
    if !head.swapped.is_empty() {
        let told: Vec<String> = head.swapped.iter().map(|(one, other)| format!("{one}:{other}")).collect();
        fields.push(("swapped_names", told.join(",").into()));
    }
    if head.kind == RecordKind::Batch {
        let sections = frame.keyspaces().zip(&head.counts);
        let told: Vec<String> = sections.map(|(keyspace, count)| format!("{keyspace}:{count}")).collect();
        fields.push(("operations", told.join(",").into()));
    }
    Part { offset: frame.offset, bytes: frame.next - frame.offset, what: "record", fields }
}

fn show_sections(
    reader: &FrameReader,
    frame: &mut Frame,
    head: &RecordHead,
    detail: Detail,
    visit: &mut Visit<'_>,
) -> Result<()> {
    let offset = frame.offset;
    let mut seqno = head.first_operation();
    let count = frame.keyspaces().count();
    for index in 0..count {
        let operations = head.counts.get(index).copied().unwrap_or(0);
        let shown = match head.kind {
            RecordKind::Batch if detail == Detail::Entries => {
                let section = reader.open_section(frame, index)?;
                entries(&section, offset, operations, seqno, visit)
            }
            RecordKind::CreateKeyspace => {
                let section = reader.open_section(frame, index)?;
                visit(keyspace(&section, offset, created))
            }
            RecordKind::AlterKeyspace => {
                let section = reader.open_section(frame, index)?;
                visit(keyspace(&section, offset, altered))
            }
            RecordKind::PartitionKeyspace => {
                let section = reader.open_section(frame, index)?;
                visit(keyspace(&section, offset, partitioned))
            }
            _ => Ok(()),
        };
        shown?;
        seqno = Seqno(seqno.0.saturating_add(operations));
    }
    Ok(())
}

fn entries(section: &[u8], offset: u64, count: u64, first: Seqno, visit: &mut Visit<'_>) -> Result<()> {
    let mut reader = Reader::new(section);
    for number in 0..count {
        let seqno = Seqno(first.0.saturating_add(number));
        match Operation::decode(&mut reader) {
            Ok(Operation::Entry(op)) => {
                let found = Found { seqno, entry: op.entry(Bytes::copy_from_slice) };
                visit(entry(offset, &op.to_key(), &found))?;
            }
            Ok(Operation::DeleteRange(span)) => visit(range_delete(offset, &span, seqno))?,
            Err(error) => return visit(damage(offset, 0, error.to_string())),
        }
    }
    Ok(())
}

type Fields = Vec<(&'static str, Field)>;

/// What the section of a keyspace's creation or change holds.
fn keyspace(section: &[u8], offset: u64, decode: impl FnOnce(&[u8]) -> Result<Fields>) -> Part {
    match decode(section) {
        Ok(fields) => Part { offset, bytes: 0, what: "keyspace", fields },
        Err(error) => damage(offset, 0, error.to_string()),
    }
}

fn created(section: &[u8]) -> Result<Fields> {
    let Creation { engine, options, partitions, name } = Creation::decode(section)?;
    let mut fields: Fields = vec![("engine", format!("{engine:?}").to_lowercase().into())];
    fields.extend(partitions.map(|map| ("partitions", (map.len() as u64).into())));
    fields.extend(option_fields(&options));
    fields.push(("name", Field::User(name.into_bytes().into())));
    Ok(fields)
}

fn altered(section: &[u8]) -> Result<Fields> {
    TreeOptions::decode_alone(section).map(|options| option_fields(&options))
}

fn partitioned(section: &[u8]) -> Result<Fields> {
    let map = PartitionMap::decode_alone(section)?;
    Ok(vec![("partitions", (map.len() as u64).into())])
}
