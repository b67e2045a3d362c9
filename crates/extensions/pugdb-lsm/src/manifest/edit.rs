//! One change of what the manifest knows, and its encoding: numbers in the frame's head, a keyspace's own bytes (name,
//! key bounds) in the keyspace's section.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pugdb_core::coding::{Reader, put_bytes, put_varint};
use pugdb_core::engine::EngineKind;
use pugdb_core::seam::Sealing;
use pugdb_core::{Error, FileId, Incarnation, Key, KeySpan, KeyspaceId, Lsn, Result, Seqno, Timestamp};

use crate::TreeOptions;
use crate::frame::Section;
use crate::log::{LogState, SegmentEnd};
use crate::partition::PartitionMap;
use crate::table::{Expiries, TableMeta, decode_values, encode_values};
use crate::tombstones::RangeTombstone;

/// A table as the manifest knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableEntry {
    /// What its writer said about it.
    pub meta: Arc<TableMeta>,
    /// The sorted run it belongs to. Larger numbers are newer.
    pub run: u64,
    /// Stands for the seqno of every entry, in a table made elsewhere.
    pub global_seqno: Option<Seqno>,
    /// Reads are clamped to these keys, both included.
    pub bounds: (Key, Key),
    /// A part of it is damaged: it is read where it is whole, never compacted, never deleted.
    pub quarantined: bool,
    /// When it was written, nothing was left in it of what range deletes up to here hide.
    pub cleared: Seqno,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// What is known of the log.
    Log(LogState),
    /// No seqno beyond this one was used.
    LastSeqno(Seqno),
    /// The calendar has been here: expiry never goes back behind it.
    Time(Timestamp),
    /// No keyspace with this number or a larger one was ever created.
    NextKeyspace(u32),
    /// A keyspace comes into being.
    Create {
        /// Its number.
        keyspace: KeyspaceId,
        /// Its name.
        name: String,
        /// What keeps its entries.
        engine: EngineKind,
        /// When.
        at: Seqno,
        /// How its tables are made.
        options: TreeOptions,
    },
    /// A keyspace's new tables are made like this.
    Options {
        /// Its number.
        keyspace: KeyspaceId,
        /// How.
        options: TreeOptions,
    },
    /// A keyspace has this name from `at` on.
    Rename {
        /// Its number.
        keyspace: KeyspaceId,
        /// Its new name.
        name: String,
        /// When.
        at: Seqno,
    },
    /// The trees that hold a keyspace's entries from `at` on: those of keyspaces without a name.
    Partitions {
        /// Its number.
        keyspace: KeyspaceId,
        /// Which tree holds which keys.
        map: PartitionMap,
        /// When.
        at: Seqno,
    },
    /// A keyspace ends, with all its tables.
    Drop {
        /// Its number.
        keyspace: KeyspaceId,
    },
    /// A keyspace forgets everything before `at`.
    Truncate {
        /// Its number.
        keyspace: KeyspaceId,
        /// When.
        at: Seqno,
    },
    /// Everything up to here is in the keyspace's tables.
    Flushed {
        /// Its number.
        keyspace: KeyspaceId,
        /// Up to and including this one.
        seqno: Seqno,
    },
    /// Of the keyspace's range tombstones with seqnos behind `after`, up to `through`, these are left.
    RangeTombstones {
        /// Its number.
        keyspace: KeyspaceId,
        /// Those up to here stay as they are.
        after: Seqno,
        /// And those behind this one.
        through: Seqno,
        /// What is left.
        left: Vec<RangeTombstone>,
    },
    /// A table takes part in reads.
    AddTable {
        /// The table.
        table: TableEntry,
    },
    /// A table takes no part any more.
    RemoveTable {
        /// Its keyspace.
        keyspace: KeyspaceId,
        /// The table.
        file: FileId,
    },
    /// A table has damaged parts.
    Quarantine {
        /// Its keyspace.
        keyspace: KeyspaceId,
        /// The table.
        file: FileId,
    },
}

impl Edit {
    /// The keyspace it is about, if it is about one.
    pub(super) fn keyspace(&self) -> Option<KeyspaceId> {
        match self {
            Self::Log(_) | Self::LastSeqno(_) | Self::Time(_) | Self::NextKeyspace(_) => None,
            Self::Create { keyspace, .. }
            | Self::Options { keyspace, .. }
            | Self::Rename { keyspace, .. }
            | Self::Partitions { keyspace, .. }
            | Self::Drop { keyspace }
            | Self::Truncate { keyspace, .. }
            | Self::Flushed { keyspace, .. }
            | Self::RangeTombstones { keyspace, .. }
            | Self::RemoveTable { keyspace, .. }
            | Self::Quarantine { keyspace, .. } => Some(*keyspace),
            Self::AddTable { table } => Some(table.meta.keyspace),
        }
    }

    /// The seqno that it says was used, if it says so of one.
    pub(super) fn seqno(&self) -> Seqno {
        match self {
            Self::Log(_)
            | Self::Time(_)
            | Self::NextKeyspace(_)
            | Self::Create { .. }
            | Self::Options { .. }
            | Self::Rename { .. }
            | Self::Drop { .. }
            | Self::RemoveTable { .. }
            | Self::Quarantine { .. } => Seqno::ZERO,
            Self::LastSeqno(seqno)
            | Self::Partitions { at: seqno, .. }
            | Self::Truncate { at: seqno, .. }
            | Self::Flushed { seqno, .. } => *seqno,
            Self::RangeTombstones { left, .. } => {
                left.iter().map(|tombstone| tombstone.seqno).max().unwrap_or_default()
            }
            Self::AddTable { table } => table.global_seqno.unwrap_or(table.meta.max_seqno),
        }
    }
}

const LOG: u8 = 1;
const LAST_SEQNO: u8 = 2;
const TIME: u8 = 3;
const CREATE: u8 = 4;
const DROP: u8 = 5;
const TRUNCATE: u8 = 6;
const FLUSHED: u8 = 7;
const ADD_TABLE: u8 = 8;
const REMOVE_TABLE: u8 = 9;
const QUARANTINE: u8 = 10;
const NEXT_KEYSPACE: u8 = 11;
const RENAME: u8 = 12;
const OPTIONS: u8 = 13;
const RANGE_TOMBSTONES: u8 = 14;
const PARTITIONS: u8 = 15;

const HAS_GLOBAL_SEQNO: u8 = 1;
const IS_QUARANTINED: u8 = 2;
const HAS_VALUES: u8 = 4;
const IS_PLAIN: u8 = 8;
/// An extension follows, as its length and its bytes. No version has one yet.
const HAS_EXTENSION: u8 = 128;

/// The head of a frame that holds `edits`, and the bytes of each keyspace's section.
pub(super) fn encode(edits: &[Edit]) -> (Vec<u8>, BTreeMap<KeyspaceId, Vec<u8>>) {
    let mut head = Vec::new();
    let mut sections: BTreeMap<KeyspaceId, Vec<u8>> = BTreeMap::new();
    put_varint(&mut head, edits.len() as u64);
    for edit in edits {
        encode_one(edit, &mut head, &mut sections);
    }
    (head, sections)
}

/// [`encode`]'s sections, to be written.
pub(super) fn sections(bytes: &BTreeMap<KeyspaceId, Vec<u8>>) -> Vec<Section<'_>> {
    bytes.iter().map(|(&keyspace, bytes)| Section { keyspace, bytes }).collect()
}

fn encode_one(edit: &Edit, head: &mut Vec<u8>, sections: &mut BTreeMap<KeyspaceId, Vec<u8>>) {
    let mut numbers = |tag: u8, numbers: &[u64]| {
        head.push(tag);
        for number in numbers {
            put_varint(head, *number);
        }
    };
    match edit {
        Edit::Log(state) => {
            let clean = u64::from(state.clean);
            numbers(
                LOG,
                &[state.start.0, state.durable.0, state.next_segment, clean, state.ends.len() as u64],
            );
            for (segment, closed) in &state.ends {
                put_varint(head, *segment);
                put_varint(head, closed.end.0);
                head.extend_from_slice(&closed.file.0);
            }
            head.extend_from_slice(&state.incarnation.0);
        }
        Edit::LastSeqno(seqno) => numbers(LAST_SEQNO, &[seqno.0]),
        Edit::Time(time) => numbers(TIME, &[time.0]),
        Edit::NextKeyspace(next) => numbers(NEXT_KEYSPACE, &[u64::from(*next)]),
        Edit::Create { keyspace, name, engine, at, options } => {
            numbers(CREATE, &[u64::from(keyspace.0), at.0, u64::from(*engine as u8)]);
            options.encode(head);
            put_bytes(sections.entry(*keyspace).or_default(), name.as_bytes());
        }
        Edit::Options { keyspace, options } => {
            numbers(OPTIONS, &[u64::from(keyspace.0)]);
            options.encode(head);
        }
        Edit::Rename { keyspace, name, at } => {
            numbers(RENAME, &[u64::from(keyspace.0), at.0]);
            put_bytes(sections.entry(*keyspace).or_default(), name.as_bytes());
        }
        Edit::Partitions { keyspace, map, at } => {
            numbers(PARTITIONS, &[u64::from(keyspace.0), at.0]);
            map.encode(head, sections.entry(*keyspace).or_default());
        }
        Edit::Drop { keyspace } => numbers(DROP, &[u64::from(keyspace.0)]),
        Edit::Truncate { keyspace, at } => numbers(TRUNCATE, &[u64::from(keyspace.0), at.0]),
        Edit::Flushed { keyspace, seqno } => numbers(FLUSHED, &[u64::from(keyspace.0), seqno.0]),
        Edit::RangeTombstones { keyspace, after, through, left } => {
            numbers(RANGE_TOMBSTONES, &[u64::from(keyspace.0), after.0, through.0, left.len() as u64]);
            encode_tombstones(left, head, sections.entry(*keyspace).or_default());
        }
        Edit::AddTable { table } => {
            let meta = &table.meta;
            let keyspace = u64::from(meta.keyspace.0);
            let (min, max) = (meta.min_seqno.0, meta.max_seqno.0);
            numbers(ADD_TABLE, &[keyspace, table.run, meta.bytes, meta.entries, min, max, meta.deletes]);
            for number in [meta.keys, meta.data_bytes, meta.content_bytes, meta.expiries.entries] {
                put_varint(head, number);
            }
            put_bytes(head, &meta.expiries.encode_steps());
            put_varint(head, table.cleared.0);
            let flags = table.global_seqno.map_or(0, |_| HAS_GLOBAL_SEQNO)
                | if table.quarantined { IS_QUARANTINED } else { 0 }
                | if meta.values.is_empty() { 0 } else { HAS_VALUES }
                | if meta.sealing == Sealing::Plain { IS_PLAIN } else { 0 };
            head.push(flags);
            if let Some(seqno) = table.global_seqno {
                put_varint(head, seqno.0);
            }
            head.extend_from_slice(&meta.id.0);
            if !meta.values.is_empty() {
                encode_values(&meta.values, head);
            }
            let section = sections.entry(meta.keyspace).or_default();
            for key in [&meta.first, &meta.last, &table.bounds.0, &table.bounds.1] {
                put_bytes(section, key);
            }
        }
        Edit::RemoveTable { keyspace, file } | Edit::Quarantine { keyspace, file } => {
            let tag = if matches!(edit, Edit::RemoveTable { .. }) { REMOVE_TABLE } else { QUARANTINE };
            numbers(tag, &[u64::from(keyspace.0)]);
            head.extend_from_slice(&file.0);
        }
    }
}

fn encode_tombstones(tombstones: &[RangeTombstone], head: &mut Vec<u8>, section: &mut Vec<u8>) {
    for RangeTombstone { span, seqno } in tombstones {
        put_varint(head, seqno.0);
        head.push(u8::from(span.end.is_some()));
        put_bytes(section, &span.start);
        span.end.iter().for_each(|end| put_bytes(section, end));
    }
}

/// The sections of a frame, on their way into edits.
struct Sections<'a> {
    readers: BTreeMap<KeyspaceId, Reader<'a>>,
    /// Keyspaces whose sections nobody can open any more.
    erased: &'a BTreeSet<KeyspaceId>,
}

impl<'a> Sections<'a> {
    /// `None` when it was erased.
    fn of(&mut self, keyspace: KeyspaceId) -> Result<Option<&mut Reader<'a>>> {
        match self.readers.get_mut(&keyspace) {
            Some(reader) => Ok(Some(reader)),
            None if self.erased.contains(&keyspace) => Ok(None),
            None => Err(Error::corrupt("a manifest record lacks a keyspace's section")),
        }
    }
}

/// Reads the edits of a frame. Of those about `erased` keyspaces only the numbers are left that must not be used again.
///
/// # Errors
/// `Corrupt` when the bytes are no edits, `Unsupported` when they say what this version does not know, or more than it reads.
pub(super) fn decode(
    head: &[u8],
    sections: &[(KeyspaceId, Vec<u8>)],
    erased: &BTreeSet<KeyspaceId>,
) -> Result<Vec<Edit>> {
    let mut reader = Reader::new(head);
    let count = reader.length()?;
    let readers: BTreeMap<_, _> =
        sections.iter().map(|(keyspace, bytes)| (*keyspace, Reader::new(bytes))).collect();
    if readers.len() != sections.len() {
        return Err(Error::corrupt("a manifest record has two sections of one keyspace"));
    }
    let mut sections = Sections { readers, erased };
    let mut edits = Vec::new();
    for _ in 0..count {
        let edit = decode_one(&mut reader, &mut sections)?;
        let is_erased = edit.keyspace().is_some_and(|keyspace| erased.contains(&keyspace));
        edits.push(if is_erased { Edit::LastSeqno(edit.seqno()) } else { edit });
    }
    if !reader.is_empty() || sections.readers.values().any(|section| !section.is_empty()) {
        return Err(Error::newer("what stands behind the last edit of a manifest record"));
    }
    Ok(edits)
}

fn decode_one(head: &mut Reader<'_>, sections: &mut Sections<'_>) -> Result<Edit> {
    let tag = head.u8()?;
    Ok(match tag {
        LOG => {
            let (start, durable, next_segment) = (Lsn(head.varint()?), Lsn(head.varint()?), head.varint()?);
            let clean = match head.varint()? {
                0 => false,
                1 => true,
                other => return Err(Error::newer(format_args!("a log that was closed as {other} says"))),
            };
            let count = head.length()?;
            let mut ends = BTreeMap::new();
            for _ in 0..count {
                let (segment, end) = (head.varint()?, Lsn(head.varint()?));
                ends.insert(segment, SegmentEnd { file: FileId(head.array()?), end });
            }
            let incarnation = Incarnation(head.array()?);
            Edit::Log(LogState { start, durable, ends, next_segment, clean, incarnation })
        }
        LAST_SEQNO => Edit::LastSeqno(Seqno(head.varint()?)),
        TIME => Edit::Time(Timestamp(head.varint()?)),
        NEXT_KEYSPACE => Edit::NextKeyspace(head.varint_u32()?),
        CREATE => {
            let (keyspace, at) = (KeyspaceId(head.varint_u32()?), Seqno(head.varint()?));
            let engine = u8::try_from(head.varint()?).ok().and_then(EngineKind::from_number);
            let engine = engine.ok_or_else(|| Error::newer("the engine of a keyspace"))?;
            let options = TreeOptions::decode(head)?;
            match sections.of(keyspace)? {
                Some(section) => Edit::Create { keyspace, name: name(section)?, engine, at, options },
                None => Edit::NextKeyspace(keyspace.0.saturating_add(1)),
            }
        }
        OPTIONS => {
            let keyspace = KeyspaceId(head.varint_u32()?);
            Edit::Options { keyspace, options: TreeOptions::decode(head)? }
        }
        RENAME => {
            let (keyspace, at) = (KeyspaceId(head.varint_u32()?), Seqno(head.varint()?));
            match sections.of(keyspace)? {
                Some(section) => Edit::Rename { keyspace, name: name(section)?, at },
                None => Edit::LastSeqno(Seqno::ZERO),
            }
        }
        PARTITIONS => {
            let (keyspace, at) = (KeyspaceId(head.varint_u32()?), Seqno(head.varint()?));
            let map = PartitionMap::decode_head(head)?;
            match sections.of(keyspace)? {
                Some(section) => Edit::Partitions { keyspace, map: PartitionMap::decode(map, section)?, at },
                None => Edit::LastSeqno(at),
            }
        }
        DROP => Edit::Drop { keyspace: KeyspaceId(head.varint_u32()?) },
        TRUNCATE => Edit::Truncate { keyspace: KeyspaceId(head.varint_u32()?), at: Seqno(head.varint()?) },
        FLUSHED => Edit::Flushed { keyspace: KeyspaceId(head.varint_u32()?), seqno: Seqno(head.varint()?) },
        RANGE_TOMBSTONES => decode_tombstones(head, sections)?,
        ADD_TABLE => decode_table(head, sections)?,
        REMOVE_TABLE => {
            Edit::RemoveTable { keyspace: KeyspaceId(head.varint_u32()?), file: FileId(head.array()?) }
        }
        QUARANTINE => {
            Edit::Quarantine { keyspace: KeyspaceId(head.varint_u32()?), file: FileId(head.array()?) }
        }
        _ => return Err(Error::newer(format_args!("manifest edit {tag}"))),
    })
}

fn decode_tombstones(head: &mut Reader<'_>, sections: &mut Sections<'_>) -> Result<Edit> {
    let keyspace = KeyspaceId(head.varint_u32()?);
    let (after, through, count) = (Seqno(head.varint()?), Seqno(head.varint()?), head.length()?);
    let numbers: Vec<(Seqno, u8)> =
        (0..count).map(|_| Ok((Seqno(head.varint()?), head.u8()?))).collect::<Result<_>>()?;
    let Some(section) = sections.of(keyspace)? else { return Ok(Edit::LastSeqno(through)) };
    let key = |bytes| Key::copy(bytes).map_err(|_| Error::corrupt("a range tombstone's end is no key"));
    let mut left = Vec::new();
    for (seqno, has_end) in numbers {
        let start = key(section.bytes()?)?;
        let end = match has_end {
            0 => None,
            1 => Some(key(section.bytes()?)?),
            _ => return Err(Error::newer("the end of a range tombstone in the manifest")),
        };
        if seqno <= after || seqno > through || end.as_ref().is_some_and(|end| *end <= start) {
            return Err(Error::corrupt("a range tombstone in the manifest hides nothing"));
        }
        left.push(RangeTombstone { span: KeySpan { start, end }, seqno });
    }
    Ok(Edit::RangeTombstones { keyspace, after, through, left })
}

fn decode_table(head: &mut Reader<'_>, sections: &mut Sections<'_>) -> Result<Edit> {
    let keyspace = KeyspaceId(head.varint_u32()?);
    let (run, bytes, entries) = (head.varint()?, head.varint()?, head.varint()?);
    let (min_seqno, max_seqno, deletes) = (Seqno(head.varint()?), Seqno(head.varint()?), head.varint()?);
    let (keys, data_bytes, content_bytes) = (head.varint()?, head.varint()?, head.varint()?);
    let expiries = Expiries::decode(head.varint()?, head.bytes()?)?;
    let cleared = Seqno(head.varint()?);
    let flags = head.u8()?;
    let known = HAS_GLOBAL_SEQNO | IS_QUARANTINED | HAS_VALUES | IS_PLAIN;
    match flags & !known {
        0 => {}
        more if more & HAS_EXTENSION != 0 => {
            return Err(Error::newer("the extension of a table in the manifest"));
        }
        more => return Err(Error::newer(format_args!("a table in the manifest with the flags {more}"))),
    }
    let global_seqno = (flags & HAS_GLOBAL_SEQNO != 0).then(|| head.varint()).transpose()?.map(Seqno);
    let sealing = if flags & IS_PLAIN == 0 { Sealing::Sealed } else { Sealing::Plain };
    let id = FileId(head.array()?);
    let values = if flags & HAS_VALUES != 0 { decode_values(head)? } else { Vec::new() };
    let Some(section) = sections.of(keyspace)? else {
        return Ok(Edit::LastSeqno(global_seqno.unwrap_or(max_seqno)));
    };
    let mut key = || -> Result<Key> {
        Key::copy(section.bytes()?).map_err(|_| Error::corrupt("a table's bound in the manifest is no key"))
    };
    let (first, last, bounds) = (key()?, key()?, (key()?, key()?));
    let meta = TableMeta {
        id,
        keyspace,
        bytes,
        entries,
        deletes,
        keys,
        data_bytes,
        content_bytes,
        expiries,
        first,
        last,
        min_seqno,
        max_seqno,
        sealing,
        values,
    };
    let quarantined = flags & IS_QUARANTINED != 0;
    let table = TableEntry { meta: Arc::new(meta), run, global_seqno, bounds, quarantined, cleared };
    Ok(Edit::AddTable { table })
}

fn name(section: &mut Reader<'_>) -> Result<String> {
    let name = String::from_utf8(section.bytes()?.to_vec());
    name.map_err(|_| Error::corrupt("a keyspace's name is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pugdb_core::ErrorKind;
    use pugdb_core::engine::KeyRange;

    const KEYSPACE: KeyspaceId = KeyspaceId(3);

    fn tombstone(range: impl Into<KeyRange>, seqno: u64) -> RangeTombstone {
        RangeTombstone { span: KeySpan::of(&range.into()).unwrap(), seqno: Seqno(seqno) }
    }

    fn map() -> PartitionMap {
        let partitions = [(&b""[..], 4), (b"m", 5)].map(|(start, id)| (start.to_vec(), KeyspaceId(id)));
        PartitionMap::new(crate::PartitionBy::Range, partitions.to_vec()).unwrap()
    }

    fn edits() -> Vec<Edit> {
        let left = vec![tombstone(b"a"..b"b", 7), tombstone(b"b".as_slice().., 300), tombstone(.., 8)];
        let (after, through) = (Seqno(6), Seqno(300));
        vec![
            Edit::RangeTombstones { keyspace: KEYSPACE, after, through, left },
            Edit::RangeTombstones { keyspace: KEYSPACE, after: Seqno(0), through, left: Vec::new() },
            Edit::Partitions { keyspace: KEYSPACE, map: map(), at: Seqno(7) },
        ]
    }

    fn encoded(edits: &[Edit]) -> (Vec<u8>, Vec<(KeyspaceId, Vec<u8>)>) {
        let (head, sections) = encode(edits);
        (head, sections.into_iter().collect())
    }

    #[test]
    fn range_tombstones_and_partitions_are_read_again_and_every_cut_of_them_is_an_error() {
        let (head, sections) = encoded(&edits());
        assert_eq!(decode(&head, &sections, &BTreeSet::new()).unwrap(), edits());
        for end in 0..head.len() {
            assert!(decode(&head[..end], &sections, &BTreeSet::new()).is_err());
        }
        for end in 0..sections[0].1.len() {
            assert!(decode(&head, &[(KEYSPACE, sections[0].1[..end].to_vec())], &BTreeSet::new()).is_err());
        }
    }

    #[test]
    fn every_other_byte_gives_other_edits_or_an_error_and_never_a_panic() {
        let (head, sections) = encoded(&edits());
        for at in 0..head.len() {
            for byte in 0..=u8::MAX {
                let mut other = head.clone();
                other[at] = byte;
                assert!(
                    byte == head[at] || decode(&other, &sections, &BTreeSet::new()).ok() != Some(edits())
                );
            }
        }
    }

    fn refused(head: &[u8], sections: &[(KeyspaceId, Vec<u8>)]) -> ErrorKind {
        decode(head, sections, &BTreeSet::new()).expect_err("it says what is not known").kind()
    }

    #[test]
    fn what_a_record_says_beyond_what_is_read_is_of_a_newer_version() {
        let (head, sections) = encoded(&edits());
        let longer = |mut sections: Vec<(KeyspaceId, Vec<u8>)>| {
            sections[0].1.push(0);
            sections
        };
        assert_eq!(
            refused(&[&head[..], &[0]].concat(), &sections),
            ErrorKind::Unsupported,
            "behind the edits"
        );
        assert_eq!(refused(&head, &longer(sections.clone())), ErrorKind::Unsupported, "behind the keys");
        let other = [&sections[..], &[(KeyspaceId(9), vec![1])]].concat();
        assert_eq!(refused(&head, &other), ErrorKind::Unsupported, "a section that no edit reads");
        assert!(
            decode(&head, &[&sections[..], &[(KeyspaceId(9), Vec::new())]].concat(), &BTreeSet::new())
                .is_ok()
        );
        let twice = [&sections[..], &sections[..]].concat();
        assert_eq!(refused(&head, &twice), ErrorKind::Corrupt, "two sections of one keyspace");
    }

    #[test]
    fn edits_and_what_they_say_that_came_later_are_of_a_newer_version() {
        for tag in [0].into_iter().chain(PARTITIONS + 1..=u8::MAX) {
            assert_eq!(refused(&[1, tag], &[]), ErrorKind::Unsupported, "edit {tag}");
        }
        let log = |clean: u8| [&[1, LOG, 0, 0, 1, clean, 0][..], &[7; 16]].concat();
        for clean in [0, 1] {
            let edits = decode(&log(clean), &[], &BTreeSet::new()).unwrap();
            assert!(matches!(&edits[..], [Edit::Log(log)] if log.clean == (clean == 1)), "{edits:?}");
        }
        for clean in 2..128 {
            assert_eq!(refused(&log(clean), &[]), ErrorKind::Unsupported, "clean {clean}");
        }
        let keyspace = [(KEYSPACE, vec![1, b'a'])];
        for (what, head) in [
            ("an engine", &[1, CREATE, 3, 9, 5, 0][..]),
            ("an option", &[1, CREATE, 3, 9, 1, 3, 13, 1, 0]),
            ("partitions by something", &[1, PARTITIONS, 3, 9, 3, 1, 4]),
            ("257 partitions", &[1, PARTITIONS, 3, 9, 1, 0x81, 2, 4]),
            ("an end", &[1, RANGE_TOMBSTONES, 3, 0, 9, 1, 5, 2]),
        ] {
            assert_eq!(refused(head, &keyspace), ErrorKind::Unsupported, "{what}");
        }
    }

    #[test]
    fn tombstones_that_hide_nothing_are_corrupt() {
        let wrong = [
            tombstone(b"a"..b"b", 6),
            tombstone(b"a"..b"b", 301),
            RangeTombstone {
                span: KeySpan { start: Key::copy(b"b").unwrap(), end: Key::copy(b"b").ok() },
                seqno: Seqno(7),
            },
        ];
        for tombstone in wrong {
            let (after, through) = (Seqno(6), Seqno(300));
            let edit = Edit::RangeTombstones { keyspace: KEYSPACE, after, through, left: vec![tombstone] };
            let (head, sections) = encoded(&[edit]);
            assert_eq!(decode(&head, &sections, &BTreeSet::new()).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }
}
