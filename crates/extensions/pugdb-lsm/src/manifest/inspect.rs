//! A manifest for people: its header and each edit.

use std::collections::BTreeSet;
use std::sync::Arc;

use pugdb_core::coding::Reader;
use pugdb_core::env::File;
use pugdb_core::seam::FileKind;
use pugdb_core::{Key, Result};

use super::edit::{Edit, TableEntry};
use crate::PartitionBy;
use crate::file::OpenedHeader;
use crate::frame::{FrameReader, Step, first_offset};
use crate::inspect::{Field, Inspected, Part, Visit, damage, header, option_fields};

type Fields = Vec<(&'static str, Field)>;

/// Shows each part of a manifest.
pub(crate) fn inspect(
    file: Arc<dyn File>,
    opened: &OpenedHeader,
    visit: &mut Visit<'_>,
) -> Result<Inspected> {
    let number = Reader::new(&opened.header.extra).u64().ok();
    visit(header(opened, number.map(|number| ("number", number.into())).into_iter().collect()))?;
    let id = opened.header.context.file;
    let mut reader = FrameReader::new(file, id, Arc::clone(&opened.cipher), u64::MAX)?;
    let mut end = first_offset(opened.bytes);
    let mut erased = BTreeSet::new();
    loop {
        let mut frame = match reader.step(end)? {
            Step::Frame(frame) => frame,
            Step::Blank => {
                let reason = "nothing more was written".to_owned();
                return Ok(Inspected { kind: FileKind::Manifest, end, reason, damaged: false });
            }
            Step::Damaged(reason) => {
                let remains = reader.search(end)?;
                visit(damage(end, remains.used_until - end, reason))?;
                return Ok(Inspected {
                    kind: FileKind::Manifest,
                    end,
                    reason: reason.to_owned(),
                    damaged: true,
                });
            }
        };
        let edits = super::edits(&reader, &mut frame, &mut erased)?;
        let fields = vec![("edits", (edits.len() as u64).into())];
        visit(Part { offset: end, bytes: frame.next - end, what: "record", fields })?;
        for edit in &edits {
            visit(Part { offset: end, bytes: 0, what: "edit", fields: fields_of(edit) })?;
        }
        end = frame.next;
    }
}

fn fields_of(edit: &Edit) -> Fields {
    let keyspace = |id: pugdb_core::KeyspaceId| ("keyspace", Field::Number(id.0.into()));
    let (kind, more): (&str, Fields) = match edit {
        Edit::Log(log) => (
            "log",
            vec![
                ("start_lsn", log.start.0.into()),
                ("durable_lsn", log.durable.0.into()),
                ("next_segment", log.next_segment.into()),
                ("ends", (log.ends.len() as u64).into()),
                ("incarnation", log.incarnation.to_string().into()),
                ("closed", if log.clean { "in good order" } else { "not" }.into()),
            ],
        ),
        Edit::LastSeqno(seqno) => ("last seqno", vec![("seqno", seqno.0.into())]),
        Edit::Time(time) => ("time", vec![("now_ms", time.0.into())]),
        Edit::NextKeyspace(next) => ("next keyspace", vec![("number", u64::from(*next).into())]),
        Edit::Create { keyspace: id, name, engine, at, options } => {
            let mut fields = vec![
                keyspace(*id),
                ("engine", format!("{engine:?}").to_lowercase().into()),
                ("seqno", at.0.into()),
            ];
            fields.extend(option_fields(options));
            fields.push(("name", Field::User(name.clone().into_bytes().into())));
            ("create keyspace", fields)
        }
        Edit::Options { keyspace: id, options } => {
            ("alter keyspace", [vec![keyspace(*id)], option_fields(options)].concat())
        }
        Edit::Rename { keyspace: id, name, at } => (
            "rename keyspace",
            vec![
                keyspace(*id),
                ("seqno", at.0.into()),
                ("name", Field::User(name.clone().into_bytes().into())),
            ],
        ),
        Edit::Partitions { keyspace: id, map, at } => {
            let ids: Vec<String> = map.ids().iter().map(ToString::to_string).collect();
            let by = match map.by() {
                PartitionBy::Hash => "hash",
                PartitionBy::Range => "range",
            };
            let told = vec![
                keyspace(*id),
                ("seqno", at.0.into()),
                ("by", by.into()),
                ("trees", ids.join(",").into()),
            ];
            ("partition keyspace", told)
        }
        Edit::Drop { keyspace: id } => ("drop keyspace", vec![keyspace(*id)]),
        Edit::Truncate { keyspace: id, at } => {
            ("truncate keyspace", vec![keyspace(*id), ("seqno", at.0.into())])
        }
        Edit::Flushed { keyspace: id, seqno } => ("flushed", vec![keyspace(*id), ("seqno", seqno.0.into())]),
        Edit::RangeTombstones { keyspace: id, after, through, left } => (
            "range tombstones",
            vec![
                keyspace(*id),
                ("after", after.0.into()),
                ("through", through.0.into()),
                ("left", (left.len() as u64).into()),
            ],
        ),
        Edit::AddTable { table } => ("add table", table_fields(table)),
        Edit::RemoveTable { keyspace: id, file } => {
            ("remove table", vec![keyspace(*id), ("file", file.to_string().into())])
        }
        Edit::Quarantine { keyspace: id, file } => {
            ("quarantine", vec![keyspace(*id), ("file", file.to_string().into())])
        }
    };
    [vec![("kind", kind.into())], more].concat()
}

fn table_fields(table: &TableEntry) -> Fields {
    let meta = &table.meta;
    let key = |key: &Key| Field::User(key.clone().into_bytes());
    let mut fields: Fields = vec![
        ("keyspace", Field::Number(meta.keyspace.0.into())),
        ("file", meta.id.to_string().into()),
        ("run", table.run.into()),
        ("bytes", meta.bytes.into()),
        ("entries", meta.entries.into()),
        ("deletes", meta.deletes.into()),
        ("keys", meta.keys.into()),
        ("data_bytes", meta.data_bytes.into()),
        ("content_bytes", meta.content_bytes.into()),
        ("expiring", meta.expiries.entries.into()),
        ("min_seqno", meta.min_seqno.0.into()),
        ("max_seqno", meta.max_seqno.0.into()),
        ("cleared", table.cleared.0.into()),
        ("first", key(&meta.first)),
        ("last", key(&meta.last)),
    ];
    fields.extend(table.global_seqno.map(|seqno| ("global_seqno", seqno.0.into())));
    if table.quarantined {
        fields.push(("quarantined", "yes".into()));
    }
    fields
}
