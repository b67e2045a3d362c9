//! The properties: what a table says about itself, as numbered fields. Of the numbers that it does not know a reader skips those
//! from 64 on, and with one below it does not read the table.

use std::collections::{BTreeMap, BTreeSet};

use pugdb_core::coding::{Reader, put_bytes, put_varint};
use pugdb_core::seam::Sealing;
use pugdb_core::{Error, ErrorKind, FileId, Key, Result, Seqno};

use super::TableMeta;
use super::compression::Compression;
use super::expiry::Expiries;
use super::prefix::PrefixExtractor;
use crate::values::ValueUse;

const ENTRIES: u64 = 1;
const KEYS: u64 = 2;
const DELETES: u64 = 3;
const MIN_SEQNO: u64 = 4;
const MAX_SEQNO: u64 = 5;
const FIRST_KEY: u64 = 6;
const LAST_KEY: u64 = 7;
const DATA_BYTES: u64 = 8;
const BLOCK_BYTES: u64 = 9;
const FILTER_BITS_PER_KEY: u64 = 10;
const EXPIRING: u64 = 11;
const EXPIRY_STEPS: u64 = 12;
const CONTENT_BYTES: u64 = 13;
const COMPRESSION: u64 = 14;
const VALUES: u64 = 15;
const PREFIX: u64 = 16;
const KNOWN: std::ops::RangeInclusive<u64> = ENTRIES..=PREFIX;
/// From here on a property is one that a reader may pass over who does not know it.
const MAY_BE_SKIPPED: u64 = 64;

/// What a table says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Properties {
    /// Versions.
    pub(super) entries: u64,
    /// Distinct keys.
    pub(super) keys: u64,
    /// Versions that are deletes.
    pub(super) deletes: u64,
    pub(super) min_seqno: Seqno,
    pub(super) max_seqno: Seqno,
    pub(super) first: Key,
    pub(super) last: Key,
    /// The stored length of all data blocks.
    pub(super) data_bytes: u64,
    /// The content of all data blocks, before it was compressed.
    pub(super) content_bytes: u64,
    /// How blocks were to be compressed, where that gains enough.
    pub(super) compression: Compression,
    /// How large a block was meant to be.
    pub(super) block_bytes: u64,
    /// How many bits of filter a key was given.
    pub(super) filter_bits_per_key: u64,
    /// Whose prefixes the filter knows beside the keys.
    pub(super) prefix: PrefixExtractor,
    pub(super) expiries: Expiries,
    /// The value files that pointers name by their numbers.
    pub(super) values: Vec<ValueUse>,
}

impl Properties {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        // What need not be there comes first: where the end is cut off, something is missing that must be there.
        if !self.values.is_empty() {
            let mut bytes = Vec::new();
            encode_values(&self.values, &mut bytes);
            field(out, VALUES, &bytes);
        }
        if self.prefix != PrefixExtractor::None {
            field(out, PREFIX, &self.prefix.to_bytes());
        }
        number(out, ENTRIES, self.entries);
        number(out, KEYS, self.keys);
        number(out, DELETES, self.deletes);
        number(out, MIN_SEQNO, self.min_seqno.0);
        number(out, MAX_SEQNO, self.max_seqno.0);
        field(out, FIRST_KEY, &self.first);
        field(out, LAST_KEY, &self.last);
        number(out, DATA_BYTES, self.data_bytes);
        number(out, CONTENT_BYTES, self.content_bytes);
        field(out, COMPRESSION, &self.compression.to_bytes());
        number(out, BLOCK_BYTES, self.block_bytes);
        number(out, FILTER_BITS_PER_KEY, self.filter_bits_per_key);
        number(out, EXPIRING, self.expiries.entries);
        field(out, EXPIRY_STEPS, &self.expiries.encode_steps());
    }

    pub(super) fn decode(content: &[u8]) -> Result<Self> {
        // What came later is no damage.
        let damaged = |error: Error| match error.kind() {
            ErrorKind::Unsupported => error,
            _ => Error::corrupt("the properties are damaged; run `pugdb verify`"),
        };
        let fields = Fields::decode(content).map_err(damaged)?;
        let read = || -> Result<Self> {
            Ok(Self {
                entries: fields.number(ENTRIES)?,
                keys: fields.number(KEYS)?,
                deletes: fields.number(DELETES)?,
                min_seqno: Seqno(fields.number(MIN_SEQNO)?),
                max_seqno: Seqno(fields.number(MAX_SEQNO)?),
                first: Key::copy(fields.get(FIRST_KEY)?)?,
                last: Key::copy(fields.get(LAST_KEY)?)?,
                data_bytes: fields.number(DATA_BYTES)?,
                content_bytes: fields.number(CONTENT_BYTES)?,
                compression: fields.compression()?,
                block_bytes: fields.number(BLOCK_BYTES)?,
                filter_bits_per_key: fields.number(FILTER_BITS_PER_KEY)?,
                prefix: fields.prefix()?,
                expiries: Expiries::decode(fields.number(EXPIRING)?, fields.get(EXPIRY_STEPS)?)?,
                values: fields.values()?,
            })
        };
        read().map_err(damaged)
    }

    /// True when the manifest describes this table.
    pub(super) fn agree_with(&self, meta: &TableMeta) -> bool {
        self.entries == meta.entries
            && self.deletes == meta.deletes
            && self.keys == meta.keys
            && self.data_bytes == meta.data_bytes
            && self.content_bytes == meta.content_bytes
            && self.expiries == meta.expiries
            && self.min_seqno == meta.min_seqno
            && self.max_seqno == meta.max_seqno
            && self.first == meta.first
            && self.last == meta.last
            && self.values == meta.values
    }
}

/// Appends a list of value files: their number, then of each its id, its length, that of its records, that of those that
/// are pointed to, and whether it is plain.
pub(crate) fn encode_values(values: &[ValueUse], out: &mut Vec<u8>) {
    put_varint(out, values.len() as u64);
    for used in values {
        out.extend_from_slice(&used.file.0);
        let is_plain = u64::from(used.sealing == Sealing::Plain);
        for number in [used.file_bytes, used.record_bytes, used.bytes, is_plain] {
            put_varint(out, number);
        }
    }
}

/// Reads what [`encode_values`] wrote.
///
/// # Errors
/// `Corrupt` when it is no list of value files, or one is named twice; `Unsupported` when one is sealed in a way that came later.
pub(crate) fn decode_values(reader: &mut Reader<'_>) -> Result<Vec<ValueUse>> {
    let count = reader.varint()?;
    let mut values: Vec<ValueUse> = Vec::new();
    let mut names = BTreeSet::new();
    for _ in 0..count {
        let file = FileId(reader.array()?);
        let (file_bytes, record_bytes, bytes) = (reader.varint()?, reader.varint()?, reader.varint()?);
        let sealing = match reader.varint()? {
            0 => Sealing::Sealed,
            1 => Sealing::Plain,
            _ => return Err(Error::newer("how a value file is sealed")),
        };
        if !names.insert(file) {
            return Err(Error::corrupt("a value file is named twice"));
        }
        values.push(ValueUse { file, file_bytes, record_bytes, bytes, sealing });
    }
    Ok(values)
}

fn field(out: &mut Vec<u8>, id: u64, bytes: &[u8]) {
    put_varint(out, id);
    put_bytes(out, bytes);
}

fn number(out: &mut Vec<u8>, id: u64, value: u64) {
    let mut bytes = Vec::with_capacity(10);
    put_varint(&mut bytes, value);
    field(out, id, &bytes);
}

struct Fields<'a>(BTreeMap<u64, &'a [u8]>);

impl<'a> Fields<'a> {
    fn decode(content: &'a [u8]) -> Result<Self> {
        let mut reader = Reader::new(content);
        let mut fields = BTreeMap::new();
        while !reader.is_empty() {
            let id = reader.varint()?;
            if id < MAY_BE_SKIPPED && !KNOWN.contains(&id) {
                return Err(Error::newer(format_args!("property {id} of a table")));
            }
            if fields.insert(id, reader.bytes()?).is_some() {
                return Err(Error::corrupt("a field is there twice"));
            }
        }
        Ok(Self(fields))
    }

    fn get(&self, id: u64) -> Result<&'a [u8]> {
        self.0.get(&id).copied().ok_or_else(|| Error::corrupt("a field is missing"))
    }

    fn values(&self) -> Result<Vec<ValueUse>> {
        if !self.0.contains_key(&VALUES) {
            return Ok(Vec::new());
        }
        let mut reader = Reader::new(self.get(VALUES)?);
        let values = decode_values(&mut reader)?;
        if reader.is_empty() { Ok(values) } else { Err(longer(VALUES)) }
    }

    fn compression(&self) -> Result<Compression> {
        let bytes = self.get(COMPRESSION)?.try_into();
        Compression::from_bytes(bytes.map_err(|_| Error::corrupt("a field has another length"))?)
    }

    fn prefix(&self) -> Result<PrefixExtractor> {
        let Some(bytes) = self.0.get(&PREFIX) else { return Ok(PrefixExtractor::None) };
        let bytes = (*bytes).try_into();
        PrefixExtractor::from_bytes(bytes.map_err(|_| Error::corrupt("a field has another length"))?)
    }

    fn number(&self, id: u64) -> Result<u64> {
        let mut reader = Reader::new(self.get(id)?);
        let value = reader.varint()?;
        if reader.is_empty() { Ok(value) } else { Err(longer(id)) }
    }
}

fn longer(id: u64) -> Error {
    Error::newer(format_args!("what more property {id} of a table says"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties() -> Properties {
        Properties {
            entries: 300,
            keys: 200,
            deletes: 3,
            min_seqno: Seqno(4),
            max_seqno: Seqno(u64::MAX),
            first: Key::copy(b"").unwrap(),
            last: Key::copy(&[255; 300]).unwrap(),
            data_bytes: 1 << 40,
            content_bytes: 1 << 41,
            compression: Compression::Zstd { level: 3 },
            block_bytes: 8192,
            filter_bits_per_key: 10,
            prefix: PrefixExtractor::UpTo(b':'),
            expiries: Expiries::decode(7, &[4, 100, 3, 50]).unwrap(),
            values: vec![ValueUse {
                file: FileId([9; 16]),
                file_bytes: 1 << 30,
                record_bytes: 1 << 29,
                bytes: 300,
                sealing: Sealing::Plain,
            }],
        }
    }

    #[test]
    fn of_unknown_properties_those_from_64_on_are_skipped_and_the_others_keep_the_table_closed() {
        let mut out = Vec::new();
        properties().encode(&mut out);
        let with = |id| {
            let mut out = out.clone();
            field(&mut out, id, b"from a later version");
            Properties::decode(&out)
        };
        for id in [64, 65, 127, 128, 4711, u64::MAX] {
            assert_eq!(with(id).unwrap(), properties(), "{id}");
        }
        for id in (17..64).chain([0]) {
            let error = with(id).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{id}: {error}");
        }
    }

    #[test]
    fn properties_that_say_more_than_this_version_reads_are_of_a_newer_one() {
        let mut whole = Vec::new();
        properties().encode(&mut whole);
        let last = |id, bytes: &[u8]| {
            // Behind the others, which have all but this one.
            let mut fields = Fields::decode(&whole).unwrap().0;
            fields.remove(&id);
            let mut out = Vec::new();
            for (id, bytes) in &fields {
                field(&mut out, *id, bytes);
            }
            field(&mut out, id, bytes);
            Properties::decode(&out).unwrap_err()
        };
        let many: Vec<u8> = (0..257).flat_map(|_| [1, 1]).collect();
        let cases: [(u64, &[u8]); 7] = [
            (ENTRIES, &[5, 0]),
            (COMPRESSION, &[5, 0]),
            (COMPRESSION, &[3, 20]),
            (COMPRESSION, &[1, 1]),
            (PREFIX, &[3, 0]),
            (VALUES, &[0, 0]),
            (EXPIRY_STEPS, &many),
        ];
        for (id, bytes) in cases {
            let error = last(id, bytes);
            assert_eq!(error.kind(), ErrorKind::Unsupported, "property {id}: {error}");
        }
        assert_eq!(last(ENTRIES, &[]).kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn every_cut_and_every_repeated_field_is_corrupt() {
        let mut out = Vec::new();
        properties().encode(&mut out);
        for end in 0..out.len() {
            assert!(Properties::decode(&out[..end]).is_err());
        }
        number(&mut out, KEYS, 200);
        assert!(Properties::decode(&out).is_err());
    }
}
