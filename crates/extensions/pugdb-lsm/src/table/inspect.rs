//! A table for people: header, blocks, filter, index, properties, footer. It needs no manifest: the file says itself what
//! it is.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use pugdb_core::env::File;
use pugdb_core::seam::FileKind;
use pugdb_core::{Error, Key, KeyspaceId, Result};

use super::block::Block;
use super::filter::Filter;
use super::footer::{FOOTER_BYTES, Footer};
use super::index::Index;
use super::piece::{PieceKind, Pieces};
use super::properties::Properties;
use crate::file::OpenedHeader;
use crate::inspect::{Detail, Field, Inspected, Part, Visit, damage, entry, header, piece};
use crate::values::Pointer;

/// Shows each part of a table.
pub(crate) fn inspect(
    file: &Arc<dyn File>,
    opened: &OpenedHeader,
    detail: Detail,
    visit: &mut Visit<'_>,
) -> Result<Inspected> {
    visit(header(opened, Vec::new()))?;
    let context = &opened.header.context;
    let length = file.length().map_err(|error| Error::io("read a file's length", error))?;
    let footer_at = length.saturating_sub(FOOTER_BYTES as u64);
    let ended = |end, reason: &str, damaged| Inspected {
        kind: FileKind::Table,
        end,
        reason: reason.to_owned(),
        damaged,
    };
    let stored = piece(file, footer_at, FOOTER_BYTES as u64)?.unwrap_or_default();
    let footer = match Footer::decode(context.file, footer_at, &stored) {
        Ok(footer) => footer,
        Err(error) => {
            // Only it says where the other parts lie.
            visit(damage(footer_at, length - footer_at, error.to_string()))?;
            return Ok(ended(
                opened.bytes,
                "the footer is damaged, and only it says where the parts lie",
                true,
            ));
        }
    };
    let keyspace = context.keyspace.unwrap_or(KeyspaceId(0));
    let pieces = Pieces::new(context.file, keyspace, Arc::clone(&opened.cipher));
    let mut look = Look { file, pieces: &pieces, visit, is_damaged: false };
    let filter_at = footer.tail_offset;
    let index_at = filter_at + footer.filter_bytes;
    let index = look.part(PieceKind::Index, index_at, footer.index_bytes, |content| {
        Index::decode(content, footer.header_bytes, footer.tail_offset)
    })?;
    let properties_at = index_at + footer.index_bytes;
    let properties = look.part(PieceKind::Properties, properties_at, footer.properties_bytes, |content| {
        Properties::decode(content)
    })?;
    if let Some(index) = &index {
        // Where it is not known how many value files there are, every number passes.
        let value_files = properties.as_ref().map_or(usize::MAX, |properties| properties.values.len());
        look.blocks(index, value_files, detail)?;
    }
    let filter =
        look.part(PieceKind::Filter, filter_at, footer.filter_bytes, |content| Filter::decode(content))?;
    if let Some(filter) = filter {
        let fields = vec![("bits", (filter.bytes() as u64 * 8).into())];
        look.show(filter_at, footer.filter_bytes, "filter", fields)?;
    }
    if let Some(index) = &index {
        let fields =
            vec![("blocks", (index.len() as u64).into()), ("entries", index.entries().unwrap_or(0).into())];
        look.show(index_at, footer.index_bytes, "index", fields)?;
    }
    if let Some(properties) = properties {
        look.show(properties_at, footer.properties_bytes, "properties", fields_of(&properties))?;
    }
    look.show(footer_at, FOOTER_BYTES as u64, "footer", vec![("tail", footer.tail_offset.into())])?;
    let is_damaged = look.is_damaged;
    let reason = if is_damaged { "the end, with damage before" } else { "the end" };
    Ok(ended(length, reason, is_damaged))
}

struct Look<'a, 'b> {
    file: &'a Arc<dyn File>,
    pieces: &'a Pieces,
    visit: &'a mut Visit<'b>,
    is_damaged: bool,
}

impl Look<'_, '_> {
    fn show(
        &mut self,
        offset: u64,
        bytes: u64,
        what: &'static str,
        fields: Vec<(&'static str, Field)>,
    ) -> Result<()> {
        (self.visit)(Part { offset, bytes, what, fields })
    }

    /// Opens a piece and decodes it; `None` when it is damaged, which is shown.
    fn part<T>(
        &mut self,
        kind: PieceKind,
        offset: u64,
        bytes: u64,
        decode: impl FnOnce(&Bytes) -> Result<T>,
    ) -> Result<Option<T>> {
        let stored = piece(self.file, offset, bytes)?;
        let stored = stored.ok_or_else(|| Error::corrupt("the file ends before it"));
        let decoded = stored
            .and_then(|stored| self.pieces.open(kind, offset, BytesMut::from(&stored[..])))
            .and_then(|content| decode(&content));
        match decoded {
            Ok(decoded) => Ok(Some(decoded)),
            Err(error) => {
                self.is_damaged = true;
                (self.visit)(damage(offset, bytes, error.to_string()))?;
                Ok(None)
            }
        }
    }

    fn blocks(&mut self, index: &Index, value_files: usize, detail: Detail) -> Result<()> {
        for number in 0..index.len() {
            let handle = index.handle(number);
            let (offset, bytes) = (index.offset(number), index.length(number..number + 1) as u64);
            let block = self.part(PieceKind::Data, offset, bytes, |content| {
                Block::decode(content.clone(), value_files)
            })?;
            let Some(block) = block else { continue };
            let fields = vec![
                ("entries", handle.entries.into()),
                ("content_bytes", (block.content_bytes() as u64).into()),
                ("last_seqno", handle.last_seqno.0.into()),
                ("last", Bytes::copy_from_slice(handle.last).into()),
            ];
            self.show(offset, bytes, "block", fields)?;
            if detail == Detail::Entries {
                self.entries(&block, offset)?;
            }
        }
        Ok(())
    }

    fn entries(&mut self, block: &Block, offset: u64) -> Result<()> {
        block.entries().try_for_each(|(key, found, pointer)| {
            let mut part = entry(offset, &key, &found);
            if let Some(Pointer { file, offset, bytes: _, length }) = pointer {
                part.fields.retain(|(name, _)| *name != "value_bytes");
                part.fields.push(("value_bytes", (length as u64).into()));
                part.fields.push(("value_file", u64::from(file).into()));
                part.fields.push(("value_at", offset.into()));
            }
            (self.visit)(part)
        })
    }
}

fn fields_of(properties: &Properties) -> Vec<(&'static str, Field)> {
    let key = |key: &Key| Field::User(key.clone().into_bytes());
    vec![
        ("entries", properties.entries.into()),
        ("keys", properties.keys.into()),
        ("deletes", properties.deletes.into()),
        ("min_seqno", properties.min_seqno.0.into()),
        ("max_seqno", properties.max_seqno.0.into()),
        ("data_bytes", properties.data_bytes.into()),
        ("content_bytes", properties.content_bytes.into()),
        ("compression", properties.compression.to_string().into()),
        ("block_bytes", properties.block_bytes.into()),
        ("filter_bits_per_key", properties.filter_bits_per_key.into()),
        ("prefix", properties.prefix.to_string().into()),
        ("first", key(&properties.first)),
        ("last", key(&properties.last)),
        ("value_files", (properties.values.len() as u64).into()),
        ("value_bytes", properties.values.iter().map(|used| used.bytes).sum::<u64>().into()),
    ]
}
