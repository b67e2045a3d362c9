//! Where the bytes of RDB come from: a slice that is all there, or a stream that is read as it comes.

use super::RdbError;

/// Bytes from front to back. A dump in memory is one (a slice, which moves on); a file that [`super::FileReader`]
/// reads is another. Lengths and strings are read from either by the same functions.
///
/// ```
/// use pugdb_wire::rdb::{RdbError, Source};
///
/// let mut source = &b"REDIS0011"[..];
/// assert_eq!(source.array::<5>(), Ok(*b"REDIS"));
/// assert_eq!(source.skip(2), Ok(()));
/// assert_eq!(source.bytes(3), Err(RdbError::Truncated));
/// assert_eq!(source.bytes(2), Ok(&b"11"[..]));
/// ```
pub trait Source {
    /// What can go wrong: a slice only ends too early, a file can also fail.
    type Error: From<RdbError>;
    /// Bytes that were taken: lent by a slice, owned by a stream.
    type Bytes: AsRef<[u8]> + Into<Vec<u8>>;

    /// The next `N` bytes.
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Self::Error>;

    /// As many bytes as there have to be. They take memory only as they come: `count` may be a lie.
    fn bytes(&mut self, count: usize) -> Result<Self::Bytes, Self::Error>;

    /// Passes over bytes, and keeps none.
    fn skip(&mut self, count: u64) -> Result<(), Self::Error>;
}

impl<'a> Source for &'a [u8] {
    type Error = RdbError;
    type Bytes = &'a [u8];

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RdbError> {
        let (taken, rest) = self.split_first_chunk().ok_or(RdbError::Truncated)?;
        *self = rest;
        Ok(*taken)
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], RdbError> {
        let (taken, rest) = self.split_at_checked(count).ok_or(RdbError::Truncated)?;
        *self = rest;
        Ok(taken)
    }

    fn skip(&mut self, count: u64) -> Result<(), RdbError> {
        self.bytes(usize::try_from(count).map_err(|_| RdbError::Truncated)?).map(drop)
    }
}
