//! Writes a value file: one record behind the other. A failed one leaves no file behind.

use std::path::PathBuf;
use std::sync::Arc;

use pugdb_core::env::{File, FileSystem};
use pugdb_core::seam::{FileContext, FileKind, Sealing};
use pugdb_core::{Error, FileId, KeyspaceId, Result};

use super::path;
use super::record::Records;
use crate::file::{Context, FileHeader};
use crate::table::KeyHash;
use crate::table::compression::{Compression, Compressor};
use crate::written::Written;

/// Bytes collected before they are written: few system calls, little memory.
const WRITE_BYTES: usize = 256 << 10;

/// A value file that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueFileMeta {
    /// Its identity.
    pub id: FileId,
    /// Its length.
    pub bytes: u64,
    /// The length of all its records.
    pub record_bytes: u64,
    /// Whether it can be read without a key.
    pub sealing: Sealing,
}

/// A value file in the making. Dropped before [`finish`](Self::finish), it removes its file as well as it can.
pub struct ValueWriter {
    id: FileId,
    sealing: Sealing,
    fs: Arc<dyn FileSystem>,
    path: PathBuf,
    file: Arc<dyn File>,
    records: Records,
    compressor: Compressor,
    /// How much of the file is written.
    written: u64,
    /// What comes next in the file.
    buffer: Vec<u8>,
    record_bytes: u64,
    is_finished: bool,
}

/// A value file that is written, and not durable yet.
pub type WrittenValues = Written<ValueFileMeta>;

impl ValueWriter {
    /// Begins a value file with a fresh id in the directory of tables, which must exist.
    ///
    /// # Errors
    /// What the file system or the cipher says.
    pub fn create(
        context: &Context,
        keyspace: KeyspaceId,
        compression: Compression,
        sealing: Sealing,
    ) -> Result<Self> {
        let compressor = Compressor::new(compression)?;
        let id = FileId::random(&*context.env.random);
        let file_context = FileContext {
            database: context.database,
            file: id,
            kind: FileKind::Values,
            keyspace: Some(keyspace),
        };
        let sealing = context.sealing(sealing);
        let (cipher, keys) = context.cipher_of(sealing).create(&file_context)?;
        let header = FileHeader { context: file_context, extra: Vec::new(), cipher }.encode(&*keys)?;
        let (path, fs) = (path(context, id), Arc::clone(&context.env.fs));
        let file =
            fs.create(&path).map_err(|error| Error::io(format_args!("create value file {id}"), error))?;
        Ok(Self {
            id,
            sealing,
            fs,
            path,
            file,
            records: Records::new(id, keyspace, keys),
            compressor,
            written: 0,
            buffer: header,
            record_bytes: 0,
            is_finished: false,
        })
    }

    /// The file as it is known before it is finished: without lengths.
    pub fn unfinished(&self) -> ValueFileMeta {
        ValueFileMeta { id: self.id, bytes: 0, record_bytes: 0, sealing: self.sealing }
    }

    /// How long the file is so far, with what is not written yet.
    pub fn bytes_written(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Appends a value, and says where its record begins and how long it is. After an error the file is of no use.
    ///
    /// # Errors
    /// What the cipher says, and the file system when a write fails.
    pub fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(u64, usize)> {
        let (offset, from) = (self.bytes_written(), self.buffer.len());
        self.records.seal(offset, KeyHash::of(key), value, &mut self.compressor, &mut self.buffer)?;
        let bytes = self.buffer.len() - from;
        self.record_bytes += bytes as u64;
        if self.buffer.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok((offset, bytes))
    }

    /// Writes what is left. Nothing of the file is durable yet.
    ///
    /// # Errors
    /// What the file system says when a write fails.
    pub fn finish(mut self) -> Result<WrittenValues> {
        self.flush()?;
        self.is_finished = true;
        let meta =
            ValueFileMeta { bytes: self.written, record_bytes: self.record_bytes, ..self.unfinished() };
        Ok(Written::new(meta, &self.fs, &self.path, &self.file))
    }

    fn flush(&mut self) -> Result<()> {
        let written = self.file.write_at(&self.buffer, self.written);
        written.map_err(|error| Error::io(format_args!("write value file {}", self.id), error))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        // One huge value must not keep its memory until the file is done.
        self.buffer.shrink_to(2 * WRITE_BYTES);
        Ok(())
    }
}

impl Drop for ValueWriter {
    fn drop(&mut self) {
        if !self.is_finished {
            // A file that stays is named by no table; the next open removes it.
            let _ = self.fs.remove(&self.path);
        }
    }
}
