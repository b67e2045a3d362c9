//! What a transaction has read, to be looked at again when it commits: keys and ranges, and never without bound. What is too much
//! to remember key by key becomes a range, which may find a conflict where there is none, and never misses one.

use std::ops::Bound;
use std::sync::Arc;

use pugdb_core::engine::KeyRange;
use pugdb_core::{KeyspaceId, Result, Seqno};

use crate::space::Space;

/// Keys of one keyspace that are remembered one by one,
const KEYS_MAX: usize = 1 << 16;
/// and the bytes that they take.
const KEY_BYTES_MAX: usize = 4 << 20;
/// Ranges of one keyspace that are remembered one by one.
const RANGES_MAX: usize = 1 << 10;

/// All that was read.
#[derive(Default)]
pub(crate) struct Reads {
    spaces: Vec<SpaceReads>,
}

/// What was read of one keyspace.
pub(crate) struct SpaceReads {
    pub(crate) space: Arc<Space>,
    /// As the view shows them.
    pub(crate) keys: KeyList,
    pub(crate) ranges: Vec<KeyRange>,
    /// How often several ranges have become one.
    joined: u32,
}

/// Keys in one piece of memory.
#[derive(Default)]
pub(crate) struct KeyList {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl KeyList {
    fn push(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start..end])
    }

    fn is_full(&self) -> bool {
        self.ends.len() >= KEYS_MAX || self.bytes.len() >= KEY_BYTES_MAX
    }

    /// Each key once.
    fn compact(&mut self) {
        let mut keys: Vec<&[u8]> = self.iter().collect();
        keys.sort_unstable();
        keys.dedup();
        let mut compact = Self::default();
        for key in keys {
            compact.push(key);
        }
        *self = compact;
    }
}

impl SpaceReads {
    fn new(space: &Arc<Space>) -> Self {
        let (keys, ranges) = Default::default();
        Self { space: Arc::clone(space), keys, ranges, joined: 0 }
    }

    fn add_key(&mut self, key: &[u8]) {
        if self.keys.is_full() {
            self.keys.compact();
            // A compaction is worth its time when it frees a half.
            if self.keys.ends.len() > KEYS_MAX / 2 || self.keys.bytes.len() > KEY_BYTES_MAX / 2 {
                let hull = hull(self.keys.iter().map(|key| (Bound::Included(key), Bound::Included(key))));
                self.keys = KeyList::default();
                self.add_range(hull);
            }
        }
        self.keys.push(key);
    }

    fn add_range(&mut self, range: KeyRange) -> usize {
        if self.ranges.len() == RANGES_MAX {
            self.ranges = vec![hull(self.ranges.iter().map(KeyRange::bounds))];
            self.joined += 1;
        }
        self.ranges.push(range);
        self.ranges.len() - 1
    }
}

/// The smallest range around all of these.
fn hull<'a>(mut ranges: impl Iterator<Item = (Bound<&'a [u8]>, Bound<&'a [u8]>)>) -> KeyRange {
    let first = ranges.next().unwrap_or((Bound::Unbounded, Bound::Unbounded));
    let (start, end) = ranges.fold(first, |(start, end), (other_start, other_end)| {
        let start = match (start, other_start) {
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => Bound::Unbounded,
            (
                Bound::Included(one) | Bound::Excluded(one),
                Bound::Included(other) | Bound::Excluded(other),
            ) => Bound::Included(one.min(other)),
        };
        let end = match (end, other_end) {
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => Bound::Unbounded,
            (
                Bound::Included(one) | Bound::Excluded(one),
                Bound::Included(other) | Bound::Excluded(other),
            ) => Bound::Included(one.max(other)),
        };
        (start, end)
    });
    KeyRange { start: start.map(<[u8]>::to_vec), end: end.map(<[u8]>::to_vec) }
}

/// Which range a scan has noted, to be cut to what the scan has shown.
pub(crate) struct Noted {
    keyspace: KeyspaceId,
    at: usize,
    joined: u32,
}

impl Reads {
    fn of(&mut self, space: &Arc<Space>) -> &mut SpaceReads {
        let at = self.spaces.iter().position(|reads| reads.space.id == space.id).unwrap_or_else(|| {
            self.spaces.push(SpaceReads::new(space));
            self.spaces.len() - 1
        });
        &mut self.spaces[at]
    }

    /// A key was read in the view.
    pub(crate) fn key(&mut self, space: &Arc<Space>, key: &[u8]) {
        self.of(space).add_key(key);
    }

    /// A range will be read in the view.
    pub(crate) fn range(&mut self, space: &Arc<Space>, range: &KeyRange) -> Noted {
        let reads = self.of(space);
        let at = reads.add_range(range.clone());
        Noted { keyspace: space.id, at, joined: reads.joined }
    }

    /// Only this part of it was read.
    pub(crate) fn narrow(&mut self, noted: &Noted, part: KeyRange) {
        let reads = self.spaces.iter_mut().find(|reads| reads.space.id == noted.keyspace);
        // It may have become part of a larger one meanwhile.
        let reads = reads.filter(|reads| reads.joined == noted.joined);
        if let Some(range) = reads.and_then(|reads| reads.ranges.get_mut(noted.at)) {
            *range = part;
        }
    }

    pub(crate) fn spaces(&self) -> impl Iterator<Item = &SpaceReads> {
        self.spaces.iter()
    }

    pub(crate) fn has_ranges(&self) -> bool {
        self.spaces.iter().any(|reads| !reads.ranges.is_empty())
    }

    /// Whether anybody has changed any of it behind `since`.
    pub(crate) fn changed_since(&self, since: Seqno) -> Result<bool> {
        for reads in &self.spaces {
            let engine = reads.space.engine();
            for key in reads.keys.iter() {
                if engine.changed_since(key, since)? {
                    return Ok(true);
                }
            }
            for range in &reads.ranges {
                if engine.range_changed_since(range, since)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// All keys that were read one by one.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (KeyspaceId, &[u8])> {
        self.spaces.iter().flat_map(|reads| reads.keys.iter().map(|key| (reads.space.id, key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hull_is_around_all() {
        let ranges = [KeyRange::from(b"b"..b"c"), KeyRange::from(b"f"..=b"g"), KeyRange::from(b"a"..b"b")];
        assert_eq!(hull(ranges.iter().map(KeyRange::bounds)), KeyRange::from(b"a"..=b"g"));
        let open = [KeyRange::from(b"b"..), KeyRange::from(b"a"..b"b")];
        assert_eq!(hull(open.iter().map(KeyRange::bounds)), KeyRange::from(b"a"..));
    }

    #[test]
    fn what_is_too_much_to_remember_becomes_a_range_around_it() {
        let mut reads = Reads::default();
        let space = space();
        for number in 0..=KEYS_MAX as u64 {
            reads.key(&space, &number.to_be_bytes());
        }
        let noted = reads.range(&space, &KeyRange::from(b"x"..b"z"));
        for number in 0..RANGES_MAX as u64 {
            reads.range(&space, &KeyRange::prefix(&number.to_be_bytes()));
        }
        // Its place is taken: cut to nothing, it would take all others with it.
        reads.narrow(&noted, KeyRange::from(b"x"..b"x"));
        let covers = |key: &[u8]| {
            let mut ranges = reads.spaces().flat_map(|reads| &reads.ranges);
            ranges.any(|range| range.contains(key)) || reads.keys().any(|(_, read)| read == key)
        };
        assert!((0..=KEYS_MAX as u64).all(|number| covers(&number.to_be_bytes())));
        assert!(covers(b"xx") && !covers(b"zz"));
        assert!(reads.keys().count() <= KEYS_MAX);
    }

    fn space() -> Arc<Space> {
        let db = crate::Database::in_memory().unwrap();
        Arc::clone(&db.keyspace("space").unwrap().space)
    }

    #[test]
    fn keys_that_are_read_again_and_again_take_no_more_room() {
        let mut list = KeyList::default();
        for number in 0..1000_u32 {
            list.push(&(number % 10).to_be_bytes());
        }
        list.compact();
        assert_eq!(list.iter().count(), 10);
    }
}
