//! A piece of a table file: content, packed, then sealed, followed by the checksum of what is stored.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use pugdb_core::seam::{FileCipher, Scope};
use pugdb_core::{Error, FileId, KeyspaceId, Result};

use super::compression::{Compressor, unpack};
use crate::checksum::Checksum;

/// The checksum after each piece.
pub(super) const TRAILER_BYTES: usize = 8;

/// What a piece holds. The number is the seal's associated data, so one kind never passes for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum PieceKind {
    Data = 1,
    Filter = 2,
    Index = 3,
    Properties = 4,
}

impl PieceKind {
    fn name(self) -> &'static str {
        match self {
            Self::Data => "block",
            Self::Filter => "filter",
            Self::Index => "index",
            Self::Properties => "properties",
        }
    }
}

/// Seals and opens the pieces of one file.
pub(super) struct Pieces {
    id: FileId,
    scope: Scope,
    keys: Arc<dyn FileCipher>,
    checksum: Checksum,
}

impl Pieces {
    pub(super) fn new(id: FileId, keyspace: KeyspaceId, keys: Arc<dyn FileCipher>) -> Self {
        // Filter, index and properties are made of user keys too, so everything is the keyspace's.
        Self { id, scope: Scope::Keyspace(keyspace), keys, checksum: Checksum::of(id) }
    }

    /// Makes a piece of `data[from..]`, which will be stored at `offset`.
    pub(super) fn seal(
        &self,
        kind: PieceKind,
        offset: u64,
        compressor: &mut Compressor,
        data: &mut Vec<u8>,
        from: usize,
    ) -> Result<()> {
        compressor.pack(data, from);
        self.keys.seal(self.scope, offset, &[kind as u8], data, from)?;
        let checksum = self.checksum.at(offset, &data[from..]);
        data.extend_from_slice(&checksum.to_le_bytes());
        Ok(())
    }

    /// Verifies the piece stored at `offset` and returns its content.
    pub(super) fn open(&self, kind: PieceKind, offset: u64, mut stored: BytesMut) -> Result<Bytes> {
        let damaged = |damage| Error::corrupt(damage).at(self.place(kind, offset));
        let Some((sealed, checksum)) = stored.split_last_chunk::<TRAILER_BYTES>() else {
            return Err(damaged("too short; run `pugdb verify`"));
        };
        if self.checksum.at(offset, sealed) != u64::from_le_bytes(*checksum) {
            return Err(damaged("checksum mismatch; run `pugdb verify`"));
        }
        if sealed.len() < self.keys.tag_bytes() {
            return Err(damaged("too short for its seal; run `pugdb verify`"));
        }
        stored.truncate(stored.len() - TRAILER_BYTES);
        let opened = self.keys.open(self.scope, offset, &[kind as u8], &mut stored);
        let length = opened.map_err(|error| error.at(self.place(kind, offset)))?;
        stored.truncate(length);
        unpack(stored).map_err(|error| error.at(self.place(kind, offset)))
    }

    /// Names a piece in a message.
    pub(super) fn place(&self, kind: PieceKind, offset: u64) -> String {
        format!("table {} {} at byte {offset}", self.id, kind.name())
    }
}
