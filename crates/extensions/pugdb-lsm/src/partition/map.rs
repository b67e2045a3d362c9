//! Which partition holds a key. Pure: no tree here.

use std::fmt;
use std::ops::{Bound, Range};

use pugdb_core::coding::{Reader, put_bytes, put_varint};
use pugdb_core::engine::KeyRange;
use pugdb_core::limits::{KEY_BYTES_MAX, PARTITIONS_MAX};
use pugdb_core::{Error, KeyspaceId, Result};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// By what keys are distributed. The numbers are part of the disk format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PartitionBy {
    /// By the hash of the key: keys that are neighbours lie in different partitions, and load spreads by itself.
    Hash = 1,
    /// By the key: each partition holds a range of keys, so a scan of a short range reads one.
    Range = 2,
}

/// Slots of keys that are distributed by their hash: the unit in which such partitions are split.
pub const SLOTS: u32 = 1 << 16;

/// Of the slots. Part of the disk format, and another one than filters and memtables have, or the keys of one partition would lie side
/// by side in those.
const SLOT_SEED: u64 = 0x7075_6764_625f_736c;

/// The slot of a key.
pub fn slot(key: &[u8]) -> u16 {
    let hash = xxh3_64_with_seed(key, SLOT_SEED);
    u16::try_from(hash >> 48).expect("it has 16 bits")
}

/// The partitions of a keyspace in order, each with the place at which it begins: a key, or the two bytes of a slot, the larger
/// one first. The first one begins at nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct PartitionMap {
    by: PartitionBy,
    starts: Vec<Vec<u8>>,
    /// The number of each partition: that of the tree that holds it, taken from those of keyspaces.
    ids: Vec<KeyspaceId>,
    /// The first slot of each; empty when keys are distributed by themselves.
    slots: Vec<u16>,
}

impl PartitionMap {
    /// A map of these partitions.
    ///
    /// # Errors
    /// `Invalid` when there are none or too many, the first does not begin at nothing, or the others do not ascend, are no keys,
    /// or no slots.
    pub fn new(by: PartitionBy, partitions: Vec<(Vec<u8>, KeyspaceId)>) -> Result<Self> {
        let (starts, ids): (Vec<Vec<u8>>, Vec<KeyspaceId>) = partitions.into_iter().unzip();
        if !(1..=PARTITIONS_MAX).contains(&ids.len()) {
            return Err(Error::invalid(format!(
                "a keyspace has 1 to {PARTITIONS_MAX} partitions; {} are asked for",
                ids.len()
            )));
        }
        if !starts[0].is_empty() || starts.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(Error::invalid(
                "the keys at which partitions begin ascend, each once, and none is empty",
            ));
        }
        let slots = match by {
            PartitionBy::Range if starts.iter().any(|start| start.len() > KEY_BYTES_MAX) => {
                return Err(Error::invalid("a partition begins at a key that is longer than keys can be"));
            }
            PartitionBy::Range => Vec::new(),
            PartitionBy::Hash => {
                let others =
                    starts[1..].iter().map(|start| Some(u16::from_be_bytes(start[..].try_into().ok()?)));
                let slots: Option<Vec<u16>> = std::iter::once(Some(0)).chain(others).collect();
                slots
                    .filter(|slots| slots.windows(2).all(|pair| pair[0] < pair[1]))
                    .ok_or_else(|| Error::invalid("a partition by hash begins at a slot of two bytes"))?
            }
        };
        let mut known = ids.clone();
        known.sort_unstable();
        known.dedup();
        if known.len() < ids.len() {
            return Err(Error::invalid("two partitions have the same number"));
        }
        Ok(Self { by, starts, ids, slots })
    }

    /// So many partitions of as many slots each, with numbers from `first` on.
    ///
    /// # Errors
    /// `Invalid` when there are none or too many.
    pub fn by_hash(count: usize, first: KeyspaceId) -> Result<Self> {
        if !(1..=PARTITIONS_MAX).contains(&count) {
            return Err(Error::invalid(format!(
                "a keyspace has 1 to {PARTITIONS_MAX} partitions; {count} are asked for"
            )));
        }
        let start = |number: u32| {
            let slot =
                u16::try_from(SLOTS as usize * number as usize / count).expect("it is below the slots");
            if number == 0 { Vec::new() } else { slot.to_be_bytes().to_vec() }
        };
        let count = u32::try_from(count).expect("there are few");
        Self::new(
            PartitionBy::Hash,
            (0..count).map(|number| (start(number), KeyspaceId(first.0 + number))).collect(),
        )
    }

    /// By what keys are distributed.
    pub fn by(&self) -> PartitionBy {
        self.by
    }

    /// The partitions' numbers, in order.
    pub fn ids(&self) -> &[KeyspaceId] {
        &self.ids
    }

    /// How many partitions there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Never: there is one at least.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The partition that holds a key.
    #[inline]
    pub fn route(&self, key: &[u8]) -> usize {
        if self.ids.len() == 1 {
            return 0;
        }
        let behind = match self.by {
            PartitionBy::Hash => {
                let slot = slot(key);
                self.slots.partition_point(|start| *start <= slot)
            }
            PartitionBy::Range => self.starts.partition_point(|start| **start <= *key),
        };
        // The first one begins at nothing, which is at or before everything.
        behind - 1
    }

    /// The partitions that can hold keys of a range.
    pub fn overlapping(&self, range: &KeyRange) -> Range<usize> {
        if self.by == PartitionBy::Hash {
            return 0..self.len();
        }
        let first = match &range.start {
            Bound::Unbounded => 0,
            Bound::Included(key) | Bound::Excluded(key) => self.route(key),
        };
        // One that begins behind the end holds none of it.
        let end = self.starts.partition_point(|start| !range.ends_before(start));
        first..end.max(first + 1)
    }

    /// Where a partition begins, and where the next one does. `None`: nobody is before or behind it.
    pub fn bounds(&self, number: usize) -> (Option<&[u8]>, Option<&[u8]>) {
        let start = self.starts.get(number).filter(|start| !start.is_empty());
        (start.map(Vec::as_slice), self.starts.get(number + 1).map(Vec::as_slice))
    }

    /// The slots of a partition by hash: the first one, and the first one behind.
    pub fn slots(&self, number: usize) -> Option<Range<u32>> {
        let start = u32::from(*self.slots.get(number)?);
        Some(start..self.slots.get(number + 1).map_or(SLOTS, |next| u32::from(*next)))
    }

    /// The map when the partition `number` is two, of which the second begins at `at`.
    ///
    /// # Errors
    /// `Invalid` when there is no such partition, or `at` is not inside it; as [`new`](Self::new).
    pub fn split(&self, number: usize, at: &[u8], ids: [KeyspaceId; 2]) -> Result<Self> {
        let (start, end) = self.bounds(number);
        let is_inside = number < self.len()
            && !at.is_empty()
            && start.is_none_or(|start| start < at)
            && end.is_none_or(|end| at < end);
        if !is_inside {
            return Err(Error::invalid("a partition is split at a place inside it"));
        }
        let mut partitions: Vec<(Vec<u8>, KeyspaceId)> = self.partitions().collect();
        partitions[number].1 = ids[0];
        partitions.insert(number + 1, (at.to_vec(), ids[1]));
        Self::new(self.by, partitions)
    }

    /// The map when the partition `number` and the one behind it are one.
    ///
    /// # Errors
    /// `Invalid` when there are no such two.
    pub fn merged(&self, number: usize, id: KeyspaceId) -> Result<Self> {
        if number + 1 >= self.len() {
            return Err(Error::invalid("a partition is merged with the one behind it, and there is none"));
        }
        let mut partitions: Vec<(Vec<u8>, KeyspaceId)> = self.partitions().collect();
        partitions[number].1 = id;
        partitions.remove(number + 1);
        Self::new(self.by, partitions)
    }

    /// The partitions with these numbers, each with what lies before it and in none of them: for keys that are in one of them.
    pub(crate) fn only(&self, ids: &[KeyspaceId]) -> Result<Self> {
        let mut partitions: Vec<(Vec<u8>, KeyspaceId)> =
            self.partitions().filter(|(_, id)| ids.contains(id)).collect();
        if let Some((start, _)) = partitions.first_mut() {
            start.clear();
        }
        Self::new(self.by, partitions)
    }

    fn partitions(&self) -> impl Iterator<Item = (Vec<u8>, KeyspaceId)> {
        self.starts.iter().cloned().zip(self.ids.iter().copied())
    }

    /// Numbers to one buffer, keys to another: those are a keyspace's own bytes.
    pub(crate) fn encode(&self, head: &mut Vec<u8>, section: &mut Vec<u8>) {
        head.push(self.by as u8);
        put_varint(head, self.ids.len() as u64);
        self.ids.iter().for_each(|id| put_varint(head, u64::from(id.0)));
        self.starts[1..].iter().for_each(|start| put_bytes(section, start));
    }

    /// Numbers, and keys behind them.
    pub fn encode_whole(&self, out: &mut Vec<u8>) {
        let mut section = Vec::new();
        self.encode(out, &mut section);
        out.extend_from_slice(&section);
    }

    /// Reads what [`encode_whole`](Self::encode_whole) wrote.
    ///
    /// # Errors
    /// `Corrupt` when it is no map, `Unsupported` when it is one of a kind or a size that came later.
    pub fn decode_whole(reader: &mut Reader<'_>) -> Result<Self> {
        let head = Self::decode_head(reader)?;
        Self::decode(head, reader)
    }

    /// [`decode_whole`](Self::decode_whole), with nothing behind it.
    ///
    /// # Errors
    /// As [`decode_whole`](Self::decode_whole).
    pub fn decode_alone(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let map = Self::decode_whole(&mut reader)?;
        if reader.is_empty() {
            Ok(map)
        } else {
            Err(Error::newer("what stands behind the partitions of a keyspace"))
        }
    }

    /// Reads the numbers that [`encode`](Self::encode) wrote.
    pub(crate) fn decode_head(head: &mut Reader<'_>) -> Result<(PartitionBy, Vec<KeyspaceId>)> {
        let by = match head.u8()? {
            1 => PartitionBy::Hash,
            2 => PartitionBy::Range,
            _ => return Err(Error::newer("by what the keys of a partitioned keyspace are distributed")),
        };
        let count = head.length()?;
        match count {
            0 => return Err(Error::corrupt("a partitioned keyspace has no partitions")),
            1..=PARTITIONS_MAX => {}
            _ => return Err(Error::newer(format_args!("a keyspace with {count} partitions"))),
        }
        let ids = (0..count).map(|_| head.varint_u32().map(KeyspaceId)).collect::<Result<_>>()?;
        Ok((by, ids))
    }

    /// Reads the keys that [`encode`](Self::encode) wrote.
    pub(crate) fn decode(
        (by, ids): (PartitionBy, Vec<KeyspaceId>),
        section: &mut Reader<'_>,
    ) -> Result<Self> {
        let mut partitions = Vec::with_capacity(ids.len());
        for (number, id) in ids.into_iter().enumerate() {
            let start = if number == 0 { &[][..] } else { section.bytes()? };
            partitions.push((start.to_vec(), id));
        }
        Self::new(by, partitions).map_err(|_| Error::corrupt("a map of partitions does not hold together"))
    }
}

/// Prints the number: a user's bytes never reach a log or an error.
impl fmt::Debug for PartitionMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PartitionMap({} by {:?})", self.len(), self.by)
    }
}

#[cfg(test)]
mod tests {
    use pugdb_core::ErrorKind;

    use super::*;

    fn ids(from: u32, count: u32) -> Vec<KeyspaceId> {
        (from..from + count).map(KeyspaceId).collect()
    }

    fn ranges(starts: &[&str]) -> PartitionMap {
        let starts = std::iter::once("").chain(starts.iter().copied());
        let partitions = starts.zip(2..).map(|(start, id)| (start.as_bytes().to_vec(), KeyspaceId(id)));
        PartitionMap::new(PartitionBy::Range, partitions.collect()).unwrap()
    }

    #[test]
    fn each_key_has_one_partition_and_a_range_those_of_its_keys() {
        let map = ranges(&["c", "m", "mm"]);
        let keys = ["", "a", "bzzz", "c", "d", "m", "ma", "mm", "zz"];
        assert_eq!(keys.map(|key| map.route(key.as_bytes())), [0, 0, 0, 1, 1, 2, 2, 3, 3]);
        let all: Vec<KeyRange> = keys
            .iter()
            .flat_map(|from| {
                keys.iter().flat_map(move |to| {
                    let bounds = [Bound::Unbounded, Bound::Included(*from), Bound::Excluded(*from)];
                    bounds.into_iter().flat_map(move |start| {
                        [Bound::Unbounded, Bound::Included(*to), Bound::Excluded(*to)].map(|end| (start, end))
                    })
                })
            })
            .map(|(start, end)| KeyRange::from((start.map(str::as_bytes), end.map(str::as_bytes))))
            .collect();
        for range in all.iter().filter(|range| !range.is_empty()) {
            let overlapping = map.overlapping(range);
            for key in keys.iter().filter(|key| range.contains(key.as_bytes())) {
                assert!(overlapping.contains(&map.route(key.as_bytes())), "{range:?} {key}");
            }
        }
        assert_eq!(map.overlapping(&KeyRange::from(b"c"..b"m")), 1..2);
        assert_eq!(map.overlapping(&KeyRange::from(b"c"..=b"m")), 1..3);
        assert_eq!(
            map.overlapping(&KeyRange::from(b"x"..b"a")),
            3..4,
            "of an empty range, one that finds nothing"
        );
        assert_eq!(map.overlapping(&KeyRange::all()), 0..4);
    }

    #[test]
    fn keys_by_hash_are_spread_evenly_and_where_they_always_were() {
        for count in [1, 2, 3, 8, 256] {
            let map = PartitionMap::by_hash(count, KeyspaceId(9)).unwrap();
            assert_eq!(map.ids(), ids(9, u32::try_from(count).unwrap()));
            let mut keys = vec![0_usize; count];
            for number in 0..50_000_u64 {
                let key = format!("user{number}");
                let part = map.route(key.as_bytes());
                assert!(map.slots(part).unwrap().contains(&u32::from(slot(key.as_bytes()))));
                keys[part] += 1;
            }
            let fair = 50_000 / count;
            assert!(keys.iter().all(|keys| (fair * 7 / 10..=fair * 13 / 10).contains(keys)), "{keys:?}");
        }
        // On disk: no version may put a key elsewhere.
        assert_eq!([slot(b""), slot(b"ada"), slot(&[255; 100])], SLOTS_OF_OLD);
    }

    const SLOTS_OF_OLD: [u16; 3] = [4506, 61_523, 9781];

    #[test]
    fn a_split_and_a_merge_give_the_map_that_there_was() {
        let map = ranges(&["c", "m"]);
        let split = map.split(1, b"f", [KeyspaceId(20), KeyspaceId(21)]).unwrap();
        assert_eq!((split.route(b"e"), split.route(b"f"), split.route(b"m")), (1, 2, 3));
        assert_eq!(split.ids(), [KeyspaceId(2), KeyspaceId(20), KeyspaceId(21), KeyspaceId(4)]);
        let merged = split.merged(1, KeyspaceId(3)).unwrap();
        assert_eq!(merged, map);
        for (number, at) in [(1, &b"c"[..]), (1, b"m"), (1, b"a"), (1, b"z"), (3, b"z"), (0, b"")] {
            assert!(map.split(number, at, [KeyspaceId(20), KeyspaceId(21)]).is_err());
        }
        assert!(map.merged(2, KeyspaceId(9)).is_err() && map.split(1, b"f", [KeyspaceId(2); 2]).is_err());
        let hash = PartitionMap::by_hash(2, KeyspaceId(1)).unwrap();
        let split = hash.split(0, &0x4000_u16.to_be_bytes(), [KeyspaceId(3), KeyspaceId(4)]).unwrap();
        assert_eq!(
            [0, 1, 2].map(|number| split.slots(number).unwrap()),
            [0..0x4000, 0x4000..0x8000, 0x8000..SLOTS]
        );
        assert!(hash.split(0, b"abc", [KeyspaceId(3), KeyspaceId(4)]).is_err(), "no slot");
    }

    #[test]
    fn maps_are_read_again_and_others_than_those_are_errors() {
        for map in
            [ranges(&["c", "m", "mm"]), ranges(&[]), PartitionMap::by_hash(5, KeyspaceId(300)).unwrap()]
        {
            let (mut head, mut section) = (Vec::new(), Vec::new());
            map.encode(&mut head, &mut section);
            let decode = |head: &[u8], section: &[u8]| {
                let head = PartitionMap::decode_head(&mut Reader::new(head))?;
                PartitionMap::decode(head, &mut Reader::new(section))
            };
            assert_eq!(decode(&head, &section).unwrap(), map);
            assert!((0..head.len()).all(|end| decode(&head[..end], &section).is_err()));
            assert!((0..section.len()).all(|end| decode(&head, &section[..end]).is_err()));
            for at in 0..head.len() {
                for byte in 0..=u8::MAX {
                    let mut other = head.clone();
                    other[at] = byte;
                    assert!(byte == head[at] || decode(&other, &section).ok().as_ref() != Some(&map));
                }
            }
        }
        let mut whole = Vec::new();
        ranges(&["c", "m"]).encode_whole(&mut whole);
        assert_eq!(PartitionMap::decode_alone(&whole).unwrap(), ranges(&["c", "m"]));
        for (bytes, kind) in [
            ([&whole[..], &[0]].concat(), ErrorKind::Unsupported),
            (vec![0, 1, 4], ErrorKind::Unsupported),
            (vec![3, 1, 4], ErrorKind::Unsupported),
            (vec![1, 0x81, 2, 4], ErrorKind::Unsupported),
            (vec![1, 0], ErrorKind::Corrupt),
        ] {
            assert_eq!(PartitionMap::decode_alone(&bytes).unwrap_err().kind(), kind, "{bytes:?}");
        }
        let of = |by, starts: &[&[u8]]| {
            let partitions = starts.iter().zip(1..).map(|(start, id)| (start.to_vec(), KeyspaceId(id)));
            PartitionMap::new(by, partitions.collect())
        };
        let (no, a, b, long): (&[u8], &[u8], &[u8], &[u8]) = (b"", b"a", b"b", &vec![0; KEY_BYTES_MAX + 1]);
        for starts in [&[][..], &[a], &[no, no], &[no, b, a], &[no, long]] {
            assert!(of(PartitionBy::Range, starts).is_err());
        }
        for starts in [&[no, a][..], &[no, &[0, 0]], &[no, &[1, 0], &[1, 0]]] {
            assert!(of(PartitionBy::Hash, starts).is_err());
        }
        assert!(PartitionMap::by_hash(0, KeyspaceId(1)).is_err());
        assert!(PartitionMap::by_hash(PARTITIONS_MAX + 1, KeyspaceId(1)).is_err());
    }
}
