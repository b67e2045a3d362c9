//! A file as a source of bytes: counted, and summed for the checksum at its end. No more of it is held than is asked for.

use std::io::{BufRead, Read as _};

use super::FileError;
use crate::rdb::{RdbError, Source, crc64};

/// Reads from front to back.
#[derive(Debug)]
pub(super) struct Stream<R> {
    input: R,
    position: u64,
    crc: u64,
}

impl<R: BufRead> Stream<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, position: 0, crc: 0 }
    }

    /// How many bytes were read.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The checksum of what was read.
    pub(super) fn crc(&self) -> u64 {
        self.crc
    }

    fn note(&mut self, bytes: &[u8]) {
        self.position += bytes.len() as u64;
        self.crc = crc64(self.crc, bytes);
    }
}

impl<R: BufRead> Source for Stream<R> {
    type Error = FileError;
    type Bytes = Vec<u8>;

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FileError> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        self.note(&bytes);
        Ok(bytes)
    }

    fn bytes(&mut self, count: usize) -> Result<Vec<u8>, FileError> {
        let mut bytes = Vec::new();
        self.input.by_ref().take(count as u64).read_to_end(&mut bytes)?;
        if bytes.len() < count {
            return Err(RdbError::Truncated.into());
        }
        self.note(&bytes);
        Ok(bytes)
    }

    fn skip(&mut self, count: u64) -> Result<(), FileError> {
        let mut left = count;
        while left > 0 {
            let chunk = self.input.fill_buf()?;
            let length = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if length == 0 {
                return Err(RdbError::Truncated.into());
            }
            self.crc = crc64(self.crc, &chunk[..length]);
            self.position += length as u64;
            self.input.consume(length);
            left -= length as u64;
        }
        Ok(())
    }
}
