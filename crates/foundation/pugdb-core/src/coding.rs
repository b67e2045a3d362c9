//! Bytes to numbers and back: little-endian integers and LEB128 varints, never trusting a length.

use crate::error::{Error, Result};

/// Appends `value` as a LEB128 varint: seven bits a byte, least significant first.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

/// Appends a varint length and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A 64-bit length as an index. Lossless: the crate compiles on 64-bit platforms only.
pub fn index(value: u64) -> usize {
    usize::try_from(value).expect("usize has 64 bits: checked at compile time in lib.rs")
}

/// Reads numbers and byte strings off the front of a slice.
///
/// ```
/// use pugdb_core::coding::{Reader, put_bytes, put_varint};
///
/// let mut out = Vec::new();
/// put_varint(&mut out, 300);
/// put_bytes(&mut out, b"pug");
/// let mut reader = Reader::new(&out);
/// assert_eq!(reader.varint().unwrap(), 300);
/// assert_eq!(reader.bytes().unwrap(), b"pug");
/// assert!(reader.is_empty());
/// ```
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// True when nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Takes `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or_else(short)?;
        self.rest = rest;
        Ok(head)
    }

    /// Takes an array of `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or_else(short)?;
        self.rest = rest;
        Ok(*head)
    }

    /// Takes one byte.
    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    /// Takes a little-endian u16.
    pub fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Takes a little-endian u32.
    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Takes a little-endian u64.
    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Takes a varint of at most ten bytes.
    pub fn varint(&mut self) -> Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Error::corrupt("a variable-length number does not fit 64 bits"))
    }

    /// Takes a varint that must fit a length in memory.
    pub fn length(&mut self) -> Result<usize> {
        Ok(index(self.varint()?))
    }

    /// Takes a varint that must fit 32 bits.
    pub fn varint_u32(&mut self) -> Result<u32> {
        u32::try_from(self.varint()?).map_err(|_| Error::corrupt("a number does not fit 32 bits"))
    }

    /// Takes a varint length and that many bytes.
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let count = self.length()?;
        self.take(count)
    }
}

fn short() -> Error {
    Error::corrupt("a structure ends before its last field")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip_at_every_length() {
        for shift in 0..64 {
            for value in [1_u64 << shift, (1_u64 << shift) - 1, u64::MAX >> shift] {
                let mut out = Vec::new();
                put_varint(&mut out, value);
                assert_eq!(Reader::new(&out).varint().unwrap(), value);
            }
        }
    }

    #[test]
    fn a_varint_past_64_bits_is_corrupt() {
        assert!(Reader::new(&[0xff; 10]).varint().is_err());
        assert!(Reader::new(&[0xff; 9]).varint().is_err());
        assert!(Reader::new(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2]).varint().is_err());
    }

    #[test]
    fn a_length_past_the_end_is_corrupt() {
        assert!(Reader::new(&[5, 1, 2]).bytes().is_err());
        assert!(Reader::new(&[]).u64().is_err());
    }
}
