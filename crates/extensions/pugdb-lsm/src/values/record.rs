//! A record of a value file: one value, compressed and sealed by itself, which proves that it is the value of its key.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use pugdb_core::coding::index;
use pugdb_core::seam::{FileCipher, Scope};
use pugdb_core::{Error, FileId, KeyspaceId, Result};

use crate::checksum::Checksum;
use crate::table::KeyHash;
use crate::table::compression::{Compressor, unpack};

/// The length of what is sealed, tag included.
pub(super) const LENGTH_BYTES: usize = 4;
const HASH_BYTES: usize = 8;
const CHECKSUM_BYTES: usize = 8;
/// Associated with each seal: what tables associate with theirs has other numbers.
const ASSOCIATED: [u8; 1] = [5];

/// Seals and opens the records of one file.
pub struct Records {
    id: FileId,
    scope: Scope,
    keys: Arc<dyn FileCipher>,
    checksum: Checksum,
}

/// A record that was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The hash of the key whose value it is.
    pub key: KeyHash,
    /// The value.
    pub value: Bytes,
}

impl Records {
    /// For the value file `id` of a keyspace.
    pub fn new(id: FileId, keyspace: KeyspaceId, keys: Arc<dyn FileCipher>) -> Self {
        Self { id, scope: Scope::Keyspace(keyspace), keys, checksum: Checksum::of(id) }
    }

    /// Appends the record of a value, which will be stored at `offset`.
    ///
    /// # Errors
    /// What the cipher says.
    pub fn seal(
        &self,
        offset: u64,
        key: KeyHash,
        value: &[u8],
        compressor: &mut Compressor,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let from = out.len();
        out.extend_from_slice(&[0; LENGTH_BYTES]);
        // A key's hash tells who has the key that it may be here: it is sealed with the value.
        out.extend_from_slice(&key.to_bytes());
        out.extend_from_slice(value);
        let sealed_at = from + LENGTH_BYTES;
        compressor.pack(out, sealed_at + HASH_BYTES);
        self.keys.seal(self.scope, offset, &ASSOCIATED, out, sealed_at)?;
        let length = u32::try_from(out.len() - sealed_at).expect("a value has at most 512 MiB");
        out[from..sealed_at].copy_from_slice(&length.to_le_bytes());
        let checksum = self.checksum.at(offset, &out[from..]);
        out.extend_from_slice(&checksum.to_le_bytes());
        Ok(())
    }

    /// Verifies the record stored at `offset` and opens it.
    ///
    /// # Errors
    /// `Corrupt` when it is not what was stored there.
    pub fn open(&self, offset: u64, mut stored: BytesMut) -> Result<Record> {
        let damaged = |damage: &str| Error::corrupt(format!("{damage}; run `pugdb verify`"));
        let mut open = || -> Result<Record> {
            let (record, checksum) =
                stored.split_last_chunk::<CHECKSUM_BYTES>().ok_or_else(|| damaged("too short"))?;
            if self.checksum.at(offset, record) != u64::from_le_bytes(*checksum) {
                return Err(damaged("checksum mismatch"));
            }
            let (length, sealed) =
                record.split_first_chunk::<LENGTH_BYTES>().ok_or_else(|| damaged("too short"))?;
            if index(u64::from(u32::from_le_bytes(*length))) != sealed.len() {
                return Err(damaged("another length than it says"));
            }
            if sealed.len() < self.keys.tag_bytes() {
                return Err(damaged("too short for its seal"));
            }
            stored.truncate(stored.len() - CHECKSUM_BYTES);
            stored.advance(LENGTH_BYTES);
            let content = self.keys.open(self.scope, offset, &ASSOCIATED, &mut stored)?;
            stored.truncate(content);
            let key = stored.first_chunk::<HASH_BYTES>().ok_or_else(|| damaged("too short"))?;
            let key = KeyHash::from_bytes(*key);
            stored.advance(HASH_BYTES);
            Ok(Record { key, value: unpack(std::mem::take(&mut stored))? })
        };
        open().map_err(|error| error.at(self.place(offset)))
    }

    /// How long the record is that begins with these bytes.
    pub(super) fn length(head: [u8; LENGTH_BYTES]) -> u64 {
        u64::from(u32::from_le_bytes(head)) + (LENGTH_BYTES + CHECKSUM_BYTES) as u64
    }

    /// Names a record in a message.
    pub(super) fn place(&self, offset: u64) -> String {
        format!("value file {} record at byte {offset}", self.id)
    }
}

#[cfg(test)]
mod tests {
    use pugdb_core::seam::Plain;

    use super::super::Pointer;
    use super::*;
    use crate::table::compression::Compression;

    fn records() -> Records {
        Records::new(FileId([7; 16]), KeyspaceId(3), Arc::new(Plain))
    }

    fn sealed(offset: u64, value: &[u8], compression: Compression) -> Vec<u8> {
        let (mut out, mut compressor) = (vec![1; 5], Compressor::new(compression).unwrap());
        records().seal(offset, KeyHash::of(b"ada"), value, &mut compressor, &mut out).unwrap();
        out.split_off(5)
    }

    fn open(offset: u64, bytes: &[u8]) -> Result<Record> {
        records().open(offset, BytesMut::from(bytes))
    }

    #[test]
    fn a_record_has_these_bytes() {
        let right = [
            &[0x0d, 0, 0, 0][..],
            &[0x2f, 0x80, 0x2c, 0x95, 0x63, 0x44, 0x1d, 0x69],
            b"1815\0",
            &[0xfb, 0xf0, 0x9e, 0x53, 0xfa, 0x53, 0x4a, 0x4c],
        ];
        assert_eq!(sealed(96, b"1815", Compression::None), right.concat());
        let mut pointer = Vec::new();
        Pointer { file: 1, offset: 300, bytes: 25, length: 4 }.encode(&mut pointer);
        assert_eq!(pointer, [1, 0xac, 2, 25, 4]);
    }

    #[test]
    fn what_is_sealed_is_opened_and_compressed_where_that_gains() {
        for (value, is_shorter) in [(&b""[..], false), (b"1815", false), (&[7; 5000], true)] {
            for compression in [Compression::None, Compression::Lz4, Compression::ZSTD] {
                let bytes = sealed(96, value, compression);
                let record = open(96, &bytes).unwrap();
                assert_eq!((record.key, &record.value[..]), (KeyHash::of(b"ada"), value));
                let shrinks = is_shorter && compression != Compression::None;
                assert_eq!(bytes.len() < value.len(), shrinks);
                assert!(bytes.len() <= value.len() + super::super::pointer::RECORD_OVERHEAD_MAX);
            }
        }
    }

    #[test]
    fn a_record_elsewhere_with_another_byte_or_cut_is_corrupt() {
        let bytes = sealed(96, &[7; 100], Compression::Lz4);
        assert!(open(97, &bytes).is_err(), "another place");
        let other = Records::new(FileId([8; 16]), KeyspaceId(3), Arc::new(Plain));
        assert!(other.open(96, BytesMut::from(&bytes[..])).is_err(), "another file");
        for at in 0..bytes.len() {
            assert!(open(96, &bytes[..at]).is_err(), "cut at {at}");
            for byte in (0..=u8::MAX).filter(|byte| *byte != bytes[at]) {
                let mut damaged = bytes.clone();
                damaged[at] = byte;
                let error = open(96, &damaged).unwrap_err();
                assert_eq!(error.kind(), pugdb_core::ErrorKind::Corrupt);
            }
        }
    }

    #[test]
    fn hostile_records_with_right_checksums_never_panic() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let mut bytes: Vec<u8> = (0..rng.usize(..60)).map(|_| rng.u8(..)).collect();
            if rng.bool() && bytes.len() > LENGTH_BYTES {
                let length = u32::try_from(bytes.len() - LENGTH_BYTES).unwrap();
                bytes[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
            }
            bytes.extend_from_slice(&Checksum::of(FileId([7; 16])).at(96, &bytes).to_le_bytes());
            if let Ok(record) = open(96, &bytes) {
                assert!(record.value.len() <= 16 << 20);
            }
            let _ = Pointer::decode(&bytes);
        }
    }

    #[test]
    fn every_cut_pointer_and_one_to_too_much_is_corrupt() {
        let pointer = Pointer { file: 300, offset: 1 << 40, bytes: 70_000, length: 90_000 };
        let mut bytes = Vec::new();
        pointer.encode(&mut bytes);
        assert_eq!(Pointer::decode(&bytes).unwrap(), pointer);
        for end in 0..bytes.len() {
            assert!(Pointer::decode(&bytes[..end]).is_err());
        }
        bytes.push(0);
        assert!(Pointer::decode(&bytes).is_err());
        for (record, length) in [(200, 100), (1 << 30, 1 << 30)] {
            let mut bytes = Vec::new();
            Pointer { file: 0, offset: 0, bytes: record, length }.encode(&mut bytes);
            assert!(Pointer::decode(&bytes).is_err(), "{record} bytes for {length}");
        }
    }
}
