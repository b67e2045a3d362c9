//! Keys, values and entries, and the one encoding of an entry that log and tables share.
//!
//! Layout (`docs/format/entry.md`): one flags byte says which optional fields follow, so a field that is absent
//! costs nothing.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

use crate::coding::{Reader, put_varint};
use crate::error::{Error, Result};
use crate::ids::Seqno;
use crate::limits;
use crate::span::RawSpan;

/// Milliseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Later than any moment: what expires then does not expire.
    pub const NEVER: Self = Self(u64::MAX);

    /// The time `milliseconds` later; the end of time when it does not fit.
    #[must_use]
    pub fn plus_ms(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }

    /// Day and time of the day in UTC, as RFC 3339 has them.
    ///
    /// ```
    /// use pugdb_core::Timestamp;
    ///
    /// assert_eq!(Timestamp(1_764_250_000_123).utc(), "2025-11-27T13:26:40.123Z");
    /// ```
    pub fn utc(self) -> String {
        let (days, ms) = (self.0 / 86_400_000, self.0 % 86_400_000);
        let [hours, minutes, seconds] = [ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60];
        // Years that begin in March have their leap day at the end: Hinnant, "chrono-compatible low-level date algorithms".
        let days = days + 719_468;
        let (era, day) = (days / 146_097, days % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = year + era * 400 + u64::from(month <= 2);
        format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{:03}Z", ms % 1000)
    }
}

/// Names the key that seals a single value: that of the subject whom it is about, who can be erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SealId(pub u64);

/// A hybrid logical clock reading and a replica, for synced keyspaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp(pub [u8; 16]);

macro_rules! byte_string {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Bytes);

        impl $name {
            /// The bytes, shared and not copied.
            pub fn into_bytes(self) -> Bytes {
                self.0
            }
        }

        impl Deref for $name {
            type Target = [u8];

            fn deref(&self) -> &[u8] {
                &self.0
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl Borrow<[u8]> for $name {
            fn borrow(&self) -> &[u8] {
                &self.0
            }
        }

        impl PartialEq<[u8]> for $name {
            fn eq(&self, other: &[u8]) -> bool {
                self.0 == other
            }
        }

        impl<const N: usize> PartialEq<[u8; N]> for $name {
            fn eq(&self, other: &[u8; N]) -> bool {
                self.0 == other[..]
            }
        }

        impl<const N: usize> PartialEq<&[u8; N]> for $name {
            fn eq(&self, other: &&[u8; N]) -> bool {
                self.0 == other[..]
            }
        }

        /// Prints the length: a user's bytes never reach a log or an error.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({} bytes)"), self.0.len())
            }
        }
    };
}

byte_string! {
    /// A key: at most 65,535 bytes, ordered bytewise. Cheap to clone; derefs to `[u8]`.
    ///
    /// ```
    /// use pugdb_core::Key;
    ///
    /// let key = Key::new(b"ada".as_slice()).unwrap();
    /// assert_eq!(&*key, b"ada");
    /// assert!(Key::new(vec![0; 70_000]).is_err());
    /// ```
    Key
}
byte_string! {
    /// A value: at most 512 MiB. Cheap to clone; derefs to `[u8]`.
    ///
    /// ```
    /// use pugdb_core::Value;
    ///
    /// let value = Value::new(b"1815".as_slice()).unwrap();
    /// assert_eq!(value, b"1815");
    /// ```
    Value
}

impl Key {
    /// Takes over the bytes.
    ///
    /// # Errors
    /// `Invalid` when there are more than 65,535.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self> {
        let bytes = bytes.into();
        Self::check(&bytes)?;
        Ok(Self(bytes))
    }

    /// Are these bytes within the limit?
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn check(bytes: &[u8]) -> Result<()> {
        within(bytes, "key", limits::KEY_BYTES_MAX)
    }

    /// Copies the bytes.
    ///
    /// # Errors
    /// `Invalid` when there are more than 65,535.
    pub fn copy(bytes: &[u8]) -> Result<Self> {
        Self::new(Bytes::copy_from_slice(bytes))
    }
}

impl Value {
    /// Takes over the bytes.
    ///
    /// # Errors
    /// `Invalid` when there are more than 512 MiB.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self> {
        let bytes = bytes.into();
        Self::check(&bytes)?;
        Ok(Self(bytes))
    }

    /// Are these bytes within the limit?
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn check(bytes: &[u8]) -> Result<()> {
        within(bytes, "value", limits::VALUE_BYTES_MAX)
    }
}

fn within(bytes: &[u8], what: &str, bytes_max: usize) -> Result<()> {
    if bytes.len() <= bytes_max {
        return Ok(());
    }
    Err(Error::invalid(format!("the {what} has {} bytes; at most {bytes_max} are allowed", bytes.len())))
}

/// What an entry says about its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// The key has this value.
    Put,
    /// The key is gone; older versions are hidden.
    Delete,
    /// The key's value is what a [`MergeOperator`](crate::seam::MergeOperator) makes of this and of the version before. It
    /// has neither expiry nor meta byte: those are its base's.
    Operand,
}

/// What a caller may say about an entry beside its value.
///
/// ```
/// use pugdb_core::{EntryOptions, Timestamp};
///
/// let options = EntryOptions { expires_at: Some(Timestamp(1_900_000_000_000)), ..Default::default() };
/// assert_eq!(options.meta, 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryOptions {
    /// From this moment on the entry is gone, and so are the versions beneath it. `None` is what the keyspace has as its default,
    /// which is never if nothing else was said; [`Timestamp::NEVER`] is never in any case.
    pub expires_at: Option<Timestamp>,
    /// One byte of the user's own; the server keeps the RESP type here (strings are 0).
    pub meta: u8,
    /// Whom the value is about: it is sealed with a key of theirs, and gone when they are erased. An encrypted database says which it is.
    pub seal: Option<SealId>,
}

impl EntryOptions {
    /// What an entry has, said so that whoever writes with it keeps it: an entry that does not expire is never to expire, whatever
    /// the keyspace's default; and whom it is about.
    ///
    /// ```
    /// use pugdb_core::{Entry, EntryOptions, Timestamp, Value};
    ///
    /// let kept = EntryOptions::of(&Entry::put(Value::default()));
    /// assert_eq!(kept.expires_at, Some(Timestamp::NEVER));
    /// ```
    pub fn of(entry: &Entry) -> Self {
        let expires_at = Some(entry.expires_at.unwrap_or(Timestamp::NEVER));
        Self { expires_at, meta: entry.meta, seal: entry.seal }
    }
}

/// One version of a key, without key and seqno.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Put, delete or operand.
    pub kind: EntryKind,
    /// One byte of the user's own.
    pub meta: u8,
    /// When it stops to exist.
    pub expires_at: Option<Timestamp>,
    /// The key that seals the value, if one does.
    pub seal: Option<SealId>,
    /// The replica's stamp, in a synced keyspace.
    pub stamp: Option<Stamp>,
    /// The value; empty for a delete.
    pub value: Value,
}

/// An entry found by a read, with its place in the order of operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// When it was written.
    pub seqno: Seqno,
    /// What was written.
    pub entry: Entry,
}

/// What a version costs in memory beside its key and value: map node, vector, entry.
const VERSION_OVERHEAD_BYTES: usize = 176;

/// Bytes a version takes up in memory, near enough for a budget.
pub(crate) fn memory_bytes(key: usize, value: usize) -> usize {
    key + value + VERSION_OVERHEAD_BYTES
}

/// One operation on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// The key.
    pub key: Key,
    /// What is to be said about it.
    pub entry: Entry,
}

// The flags byte: two bits of kind, four "is present" bits, two bits that must be zero.
const KIND_PUT: u8 = 0;
const KIND_DELETE: u8 = 1;
const KIND_OPERAND: u8 = 3;
/// No entry: an [`Operation`] on many keys.
const KIND_DELETE_RANGE: u8 = 2;
const KIND_MASK: u8 = 0b11;
const HAS_META: u8 = 1 << 2;
const HAS_EXPIRY: u8 = 1 << 3;
const HAS_SEAL: u8 = 1 << 4;
const HAS_STAMP: u8 = 1 << 5;
/// Of an entry in the log: its value lies elsewhere. Blocks of tables have it, and look at it themselves.
const APART: u8 = 1 << 6;
/// A second byte of flags follows. No version has one yet.
const MORE_FLAGS: u8 = 1 << 7;
const RESERVED: u8 = APART | MORE_FLAGS;
/// Flags, two lengths, meta byte, expiry, seal, stamp.
const FIELDS_BYTES_MAX: usize = 1 + 2 * 10 + 1 + 8 + 8 + 16;

impl Entry {
    /// A plain put.
    pub fn put(value: Value) -> Self {
        Self { kind: EntryKind::Put, meta: 0, expires_at: None, seal: None, stamp: None, value }
    }

    /// A put with options.
    pub fn put_with(value: Value, options: EntryOptions) -> Self {
        let EntryOptions { expires_at, meta, seal } = options;
        Self { meta, expires_at, seal, ..Self::put(value) }
    }

    /// A delete.
    pub fn delete() -> Self {
        Self { kind: EntryKind::Delete, ..Self::put(Value::default()) }
    }

    /// An operand.
    pub fn operand(value: Value) -> Self {
        Self { kind: EntryKind::Operand, ..Self::put(value) }
    }

    /// The operation that says this about `key`: a view.
    pub fn raw<'a>(&'a self, key: &'a [u8]) -> RawOp<'a> {
        let &Self { kind, meta, expires_at, seal, stamp, ref value } = self;
        RawOp { key, kind, meta, expires_at, seal, stamp, value }
    }

    /// True when a reader at `now` sees a value here: neither deleted nor expired.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.kind == EntryKind::Put && self.expires_at.is_none_or(|at| now < at)
    }
}

impl Op {
    /// Bytes this operation takes up in a memtable, near enough for a budget.
    pub fn cost_bytes(&self) -> usize {
        self.entry.raw(&self.key).cost_bytes()
    }

    /// Appends the operation, as [`RawOp::encode`] does.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.entry.raw(&self.key).encode(out);
    }

    /// Reads one operation. `share` makes a byte string of a part of the reader's slice (a copy, or a view).
    ///
    /// # Errors
    /// As [`RawOp::decode`].
    pub fn decode<'a>(reader: &mut Reader<'a>, share: &dyn Fn(&'a [u8]) -> Bytes) -> Result<Self> {
        let raw = RawOp::decode(reader)?;
        Ok(Self { key: Key(share(raw.key)), entry: raw.entry(share) })
    }
}

/// Appends key and entry, as [`RawOp::encode`] does.
pub fn encode(key: &Key, entry: &Entry, out: &mut Vec<u8>) {
    entry.raw(key).encode(out);
}

/// An operation as it lies in a buffer: nothing copied yet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RawOp<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Value, delete or operand.
    pub kind: EntryKind,
    /// The user's byte.
    pub meta: u8,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// What seals its value.
    pub seal: Option<SealId>,
    /// Where and when it was written.
    pub stamp: Option<Stamp>,
    /// The value; empty for a delete.
    pub value: &'a [u8],
}

/// Prints lengths: a user's bytes never reach a log or an error.
impl fmt::Debug for RawOp<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawOp({:?}, key {} bytes, value {} bytes)", self.kind, self.key.len(), self.value.len())
    }
}

impl<'a> RawOp<'a> {
    /// Reads one operation off the front.
    ///
    /// # Errors
    /// `Corrupt` when the bytes are no operation, `Unsupported` when their flags came later.
    pub fn decode(reader: &mut Reader<'a>) -> Result<Self> {
        let flags = reader.u8()?;
        Self::decode_behind(flags, reader)
    }

    /// [`decode`](Self::decode) behind the flags.
    fn decode_behind(flags: u8, reader: &mut Reader<'a>) -> Result<Self> {
        let kind = kind_of(flags)?;
        let key_length = reader.length()?;
        let value_length = if kind == EntryKind::Delete { 0 } else { reader.length()? };
        if key_length > limits::KEY_BYTES_MAX || value_length > limits::VALUE_BYTES_MAX {
            return Err(Error::corrupt("an entry is longer than an entry can be"));
        }
        let fields = Self::decode_fields(flags, reader)?;
        let key = reader.take(key_length)?;
        let value = reader.take(value_length)?;
        Ok(Self { key, value, ..fields })
    }

    /// Appends the operation: flags, key length, value length, optional fields, key, value.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(FIELDS_BYTES_MAX + self.key.len() + self.value.len());
        out.push(self.flags());
        put_varint(out, self.key.len() as u64);
        if self.kind != EntryKind::Delete {
            put_varint(out, self.value.len() as u64);
        }
        self.put_fields(out);
        out.extend_from_slice(self.key);
        if self.kind != EntryKind::Delete {
            out.extend_from_slice(self.value);
        }
    }

    /// The flags byte: the kind, and which [fields](Self::put_fields) there are. A plain put's is 0.
    pub fn flags(&self) -> u8 {
        let flag = |is_there: bool, flag: u8| if is_there { flag } else { 0 };
        let kind = match self.kind {
            EntryKind::Put => KIND_PUT,
            EntryKind::Delete => KIND_DELETE,
            EntryKind::Operand => KIND_OPERAND,
        };
        kind | flag(self.meta != 0, HAS_META)
            | flag(self.expires_at.is_some(), HAS_EXPIRY)
            | flag(self.seal.is_some(), HAS_SEAL)
            | flag(self.stamp.is_some(), HAS_STAMP)
    }

    /// Appends the fields that the flags tell of: meta, expiry, seal, stamp.
    pub fn put_fields(&self, out: &mut Vec<u8>) {
        if self.meta != 0 {
            out.push(self.meta);
        }
        if let Some(Timestamp(at)) = self.expires_at {
            out.extend_from_slice(&at.to_le_bytes());
        }
        if let Some(SealId(id)) = self.seal {
            out.extend_from_slice(&id.to_le_bytes());
        }
        if let Some(Stamp(stamp)) = self.stamp {
            out.extend_from_slice(&stamp);
        }
    }

    /// How many bytes [`put_fields`](Self::put_fields) appends.
    pub fn fields_bytes(&self) -> usize {
        let field = |is_there: bool, bytes: usize| if is_there { bytes } else { 0 };
        field(self.meta != 0, 1)
            + field(self.expires_at.is_some(), 8)
            + field(self.seal.is_some(), 8)
            + field(self.stamp.is_some(), 16)
    }

    /// Reads what [`put_fields`](Self::put_fields) has written. Key and value are empty.
    ///
    /// # Errors
    /// `Unsupported` when the flags are unknown, `Corrupt` when the fields are not there.
    pub fn decode_fields(flags: u8, reader: &mut Reader<'a>) -> Result<Self> {
        let kind = kind_of(flags)?;
        let meta = if flags & HAS_META != 0 { reader.u8()? } else { 0 };
        let expires_at = (flags & HAS_EXPIRY != 0).then(|| reader.u64()).transpose()?.map(Timestamp);
        let seal = (flags & HAS_SEAL != 0).then(|| reader.u64()).transpose()?.map(SealId);
        let stamp = (flags & HAS_STAMP != 0).then(|| reader.array()).transpose()?.map(Stamp);
        Ok(Self { key: &[], kind, meta, expires_at, seal, stamp, value: &[] })
    }

    /// An operand.
    pub fn operand(key: &'a [u8], value: &'a [u8]) -> Self {
        Self { kind: EntryKind::Operand, ..Self::put(key, value) }
    }

    /// A plain put: no field is there.
    pub fn put(key: &'a [u8], value: &'a [u8]) -> Self {
        Self { key, kind: EntryKind::Put, meta: 0, expires_at: None, seal: None, stamp: None, value }
    }

    /// True when a reader at `now` sees a value here: neither deleted nor expired.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.kind == EntryKind::Put && self.expires_at.is_none_or(|at| now < at)
    }

    /// The entry, its value made by `share`.
    pub fn entry(&self, share: impl FnOnce(&'a [u8]) -> Bytes) -> Entry {
        Entry {
            kind: self.kind,
            meta: self.meta,
            expires_at: self.expires_at,
            seal: self.seal,
            stamp: self.stamp,
            value: Value(share(self.value)),
        }
    }
}

/// One operation as it lies in a buffer, on one key or on many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// A key gets a version.
    Entry(RawOp<'a>),
    /// All that the keys of the span had before is gone.
    DeleteRange(RawSpan<'a>),
}

impl<'a> Operation<'a> {
    /// Reads one operation off the front.
    ///
    /// # Errors
    /// As [`RawOp::decode`].
    pub fn decode(reader: &mut Reader<'a>) -> Result<Self> {
        let flags = reader.u8()?;
        if flags != KIND_DELETE_RANGE {
            return RawOp::decode_behind(flags, reader).map(Self::Entry);
        }
        let start_length = reader.length()?;
        // None of it is left for "no end".
        let end_length = reader.length()?.checked_sub(1);
        if start_length.max(end_length.unwrap_or(0)) > limits::KEY_BYTES_MAX {
            return Err(Error::corrupt("the end of a range is longer than a key can be"));
        }
        let start = reader.take(start_length)?;
        let end = end_length.map(|length| reader.take(length)).transpose()?;
        if end.is_some_and(|end| end <= start) {
            return Err(Error::corrupt("a range delete has no keys"));
        }
        Ok(Self::DeleteRange(RawSpan { start, end }))
    }

    /// Appends the operation: an entry as [`RawOp::encode`] does; of a range delete flags, start length, end length and
    /// one, start, end.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Entry(op) => op.encode(out),
            Self::DeleteRange(RawSpan { start, end }) => {
                out.push(KIND_DELETE_RANGE);
                put_varint(out, start.len() as u64);
                put_varint(out, end.map_or(0, |end| end.len() as u64 + 1));
                out.extend_from_slice(start);
                out.extend_from_slice(end.unwrap_or_default());
            }
        }
    }

    /// The version that a key gets, unless it is about many keys.
    pub fn entry(&self) -> Option<RawOp<'a>> {
        match self {
            Self::Entry(op) => Some(*op),
            Self::DeleteRange(_) => None,
        }
    }

    /// When what it writes expires.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.entry().and_then(|op| op.expires_at)
    }

    /// Bytes this operation takes up in a memtable, near enough for a budget.
    pub fn cost_bytes(&self) -> usize {
        match self {
            Self::Entry(op) => op.cost_bytes(),
            Self::DeleteRange(span) => memory_bytes(span.start.len(), span.end.map_or(0, <[u8]>::len)),
        }
    }
}

#[inline]
fn kind_of(flags: u8) -> Result<EntryKind> {
    match flags & (KIND_MASK | RESERVED) {
        KIND_PUT => Ok(EntryKind::Put),
        KIND_DELETE => Ok(EntryKind::Delete),
        KIND_OPERAND if flags & (HAS_META | HAS_EXPIRY) == 0 => Ok(EntryKind::Operand),
        _ => Err(no_kind(flags)),
    }
}

/// The flags are whole, as a checksum has said of them: what they ask for came later.
#[cold]
fn no_kind(flags: u8) -> Error {
    match flags & (KIND_MASK | RESERVED) {
        KIND_OPERAND => Error::newer("an operand with a meta byte or an expiry"),
        _ if flags & MORE_FLAGS != 0 => Error::newer("an entry with a second byte of flags"),
        _ => Error::newer(format_args!("an entry with the flags {flags:#010b}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn round_trip(op: &Op) -> usize {
        let mut out = Vec::new();
        op.encode(&mut out);
        let mut reader = Reader::new(&out);
        assert_eq!(&Op::decode(&mut reader, &|bytes| Bytes::copy_from_slice(bytes)).unwrap(), op);
        assert!(reader.is_empty());
        out.len()
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        for (at, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_767_225_600_000, "2026-01-01T00:00:00.000Z"),
            (1_795_737_599_999, "2026-11-26T23:59:59.999Z"),
        ] {
            assert_eq!(Timestamp(at).utc(), text);
        }
        assert!(Timestamp::NEVER.utc().ends_with('Z'));
    }

    #[test]
    fn absent_fields_cost_nothing() {
        let key = Key::copy(b"key").unwrap();
        let value = Value::new(b"value".as_slice()).unwrap();
        let plain = Entry::put(value);
        assert_eq!(round_trip(&Op { key: key.clone(), entry: plain.clone() }), 3 + 3 + 5);
        assert_eq!(round_trip(&Op { key: key.clone(), entry: Entry::delete() }), 2 + 3);
        assert_eq!(
            round_trip(&Op { key: key.clone(), entry: Entry::operand(plain.value.clone()) }),
            3 + 3 + 5
        );
        let full = Entry {
            meta: 7,
            expires_at: Some(Timestamp(1)),
            seal: Some(SealId(2)),
            stamp: Some(Stamp([3; 16])),
            ..plain
        };
        assert_eq!(round_trip(&Op { key, entry: full }), 3 + 1 + 8 + 8 + 16 + 3 + 5);
    }

    #[test]
    fn every_cut_of_an_operation_is_corrupt_and_never_a_panic() {
        let key = Key::copy(b"key").unwrap();
        let mut out = Vec::new();
        Op { key, entry: Entry::put(Value::new(vec![1; 300]).unwrap()) }.encode(&mut out);
        for end in 0..out.len() {
            assert!(RawOp::decode(&mut Reader::new(&out[..end])).is_err());
        }
    }

    #[test]
    fn flags_that_came_later_are_of_a_newer_version_and_no_damage() {
        let plain = Entry::put(Value::new(b"1".as_slice()).unwrap());
        let all: Vec<u8> = [KIND_PUT, KIND_DELETE, KIND_OPERAND].map(|kind| kind | APART).into();
        let more: Vec<u8> = (0..=u8::MAX).filter(|flags| flags & MORE_FLAGS != 0).collect();
        let ranges: Vec<u8> = (2..6).map(|bit| KIND_DELETE_RANGE | 1 << bit).collect();
        for flags in [all, more, ranges].concat() {
            let mut out = Vec::new();
            plain.raw(b"key").encode(&mut out);
            out[0] = flags;
            for error in [
                RawOp::decode(&mut Reader::new(&out)).unwrap_err(),
                Operation::decode(&mut Reader::new(&out)).unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{flags:#b}: {error}");
                assert!(error.to_string().contains("newer version"), "{error}");
            }
        }
    }

    #[test]
    fn an_operand_with_a_meta_byte_or_an_expiry_is_refused() {
        let operand = Entry::operand(Value::new(b"1".as_slice()).unwrap());
        for entry in
            [Entry { meta: 1, ..operand.clone() }, Entry { expires_at: Some(Timestamp(1)), ..operand }]
        {
            let mut out = Vec::new();
            entry.raw(b"key").encode(&mut out);
            let error = RawOp::decode(&mut Reader::new(&out)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
        }
    }

    #[test]
    fn a_range_delete_is_read_again_and_every_cut_of_it_is_corrupt() {
        let spans: [(&[u8], Option<&[u8]>); 4] =
            [(b"", None), (b"", Some(b"a")), (b"key", Some(b"key\0")), (&[7; 300], None)];
        for (start, end) in spans {
            let op = Operation::DeleteRange(RawSpan { start, end });
            let mut out = Vec::new();
            op.encode(&mut out);
            let mut reader = Reader::new(&out);
            assert_eq!(Operation::decode(&mut reader).unwrap(), op);
            assert!(reader.is_empty());
            for cut in 0..out.len() {
                assert!(Operation::decode(&mut Reader::new(&out[..cut])).is_err());
            }
            // It is no entry, and has no field of one.
            assert!(RawOp::decode(&mut Reader::new(&out)).is_err());
            for flag in 2..8 {
                let mut flagged = out.clone();
                flagged[0] |= 1 << flag;
                assert!(Operation::decode(&mut Reader::new(&flagged)).is_err());
            }
        }
        let backwards: [&[u8]; 3] = [&[2, 1, 2, b'b', b'b'], &[2, 1, 2, b'b', b'a'], &[2, 0, 1]];
        for bytes in backwards {
            assert!(Operation::decode(&mut Reader::new(bytes)).is_err());
        }
        let mut long = vec![2];
        put_varint(&mut long, 0);
        put_varint(&mut long, limits::KEY_BYTES_MAX as u64 + 2);
        long.extend(vec![1; limits::KEY_BYTES_MAX + 1]);
        assert!(Operation::decode(&mut Reader::new(&long)).is_err());
    }

    #[test]
    fn debug_prints_lengths_only() {
        let op = Op {
            key: Key::copy(b"secret").unwrap(),
            entry: Entry::put(Value::new(b"canary".as_slice()).unwrap()),
        };
        let text = format!("{op:?}");
        assert!(!text.contains("secret") && !text.contains("canary"), "{text}");
    }
}
