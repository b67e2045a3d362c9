//! An ordered map that keeps every version of a key, so that a reader in the past finds its own.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use parking_lot::RwLock;

use crate::engine::{BatchSize, Direction, KeyRange, Room};
use crate::entry::{Entry, Found, Key, memory_bytes};
use crate::ids::Seqno;

/// Where truncations cut history off. A version at or below the floor of a read point is hidden from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Floors {
    /// The seqnos of the truncations, ascending.
    cuts: Vec<Seqno>,
}

impl Floors {
    /// Adds a truncation. A replayed one changes nothing.
    pub fn add(&mut self, at: Seqno) {
        if self.cuts.last().is_none_or(|&last| last < at) {
            self.cuts.push(at);
        }
    }

    /// The newest version that a read at `seqno` must not see.
    pub fn at(&self, seqno: Seqno) -> Seqno {
        let passed = self.cuts.partition_point(|&cut| cut <= seqno);
        passed.checked_sub(1).map_or(Seqno::ZERO, |last| self.cuts[last])
    }

    /// Forgets the cuts that no read point at or after `horizon` can tell apart, and returns the one that stays.
    pub fn settle(&mut self, horizon: Seqno) -> Seqno {
        let floor = self.at(horizon);
        self.cuts.retain(|&cut| cut >= floor);
        floor
    }

    /// The cuts, ascending.
    pub fn cuts(&self) -> &[Seqno] {
        &self.cuts
    }
}

/// The newest of `versions` (ascending by seqno) at or below `seqno`.
pub fn newest_at(versions: &[Found], seqno: Seqno) -> Option<&Found> {
    let seen = versions.partition_point(|version| version.seqno <= seqno);
    seen.checked_sub(1).map(|last| &versions[last])
}

/// Keys in order, each with its versions. One writer, any number of readers.
///
/// A scan takes a batch of entries under the lock and lets go of it, so a slow reader holds up nobody.
#[derive(Debug, Default)]
pub struct VersionedMap {
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<Key, Vec<Found>>,
    /// How many versions there are.
    count: usize,
    /// What they cost, near enough for a budget.
    bytes: usize,
    /// Keys that have a version which can go once the horizon has passed the seqno; ascending.
    garbage: VecDeque<(Seqno, Key)>,
}

fn cost(key: &Key, found: &Found) -> usize {
    memory_bytes(key, &found.entry)
}

impl VersionedMap {
    /// Adds the next version of a key. `track_garbage`: remember what it replaces, for [`prune`](Self::prune).
    pub fn insert(&self, items: impl Iterator<Item = (Key, Found)>, track_garbage: TrackGarbage) {
        let mut state = self.state.write();
        let state = &mut *state;
        for (key, found) in items {
            state.bytes += cost(&key, &found);
            state.count += 1;
            let versions = state.entries.entry(key.clone()).or_default();
            let replaces = !versions.is_empty() || found.entry.kind == crate::EntryKind::Delete;
            if track_garbage == TrackGarbage::Yes && replaces {
                state.garbage.push_back((found.seqno, key));
            }
            debug_assert!(versions.last().is_none_or(|last| last.seqno < found.seqno), "seqnos ascend");
            versions.push(found);
        }
    }

    /// Drops versions that nobody at or after `horizon` can see.
    pub fn prune(&self, horizon: Seqno) {
        let mut state = self.state.write();
        let state = &mut *state;
        while state.garbage.front().is_some_and(|&(seqno, _)| seqno <= horizon) {
            let Some((_, key)) = state.garbage.pop_front() else { break };
            let Some(versions) = state.entries.get_mut(&key) else { continue };
            let seen = versions.partition_point(|version| version.seqno <= horizon);
            // The newest one at the horizon stays, unless all it says is that the key is gone.
            let gone = seen > 0 && versions[seen - 1].entry.kind == crate::EntryKind::Delete;
            for old in versions.drain(..if gone { seen } else { seen.saturating_sub(1) }) {
                state.count -= 1;
                state.bytes -= cost(&key, &old);
            }
            if versions.is_empty() {
                state.entries.remove(&key);
            }
        }
    }

    /// Drops every version at or below `floor`.
    pub fn drop_through(&self, floor: Seqno) {
        let mut state = self.state.write();
        let state = &mut *state;
        state.entries.retain(|key, versions| {
            let seen = versions.partition_point(|version| version.seqno <= floor);
            for old in versions.drain(..seen) {
                state.count -= 1;
                state.bytes -= cost(key, &old);
            }
            !versions.is_empty()
        });
        state.garbage.retain(|&(seqno, _)| seqno > floor);
    }

    /// The newest version of `key` at or below `seqno`, deletes included.
    pub fn get(&self, key: &[u8], seqno: Seqno) -> Option<Found> {
        let state = self.state.read();
        newest_at(state.entries.get(key)?, seqno).cloned()
    }

    /// Appends the newest version at or below `seqno` of each key in `range`, deletes included, until the batch is
    /// full. Returns false when the range is exhausted.
    pub fn collect(
        &self,
        range: &KeyRange,
        direction: Direction,
        seqno: Seqno,
        size: BatchSize,
        out: &mut Vec<(Key, Found)>,
    ) -> bool {
        if range.is_empty() {
            return false;
        }
        let state = self.state.read();
        let entries = state.entries.range::<[u8], _>(range.bounds());
        let mut room = Room::new(size);
        let mut take = |(key, versions): (&Key, &Vec<Found>)| {
            let Some(found) = newest_at(versions, seqno) else { return true };
            let fits = room.take(key, found);
            if fits {
                out.push((key.clone(), found.clone()));
            }
            fits
        };
        match direction {
            Direction::Forward => !entries.into_iter().all(&mut take),
            Direction::Reverse => !entries.into_iter().rev().all(&mut take),
        }
    }

    /// Appends every version of the keys after `after`, key by key and newest first, until `bytes` are passed.
    /// Returns false when there are no more keys.
    pub fn collect_versions(&self, after: Option<&Key>, bytes: usize, out: &mut Vec<(Key, Found)>) -> bool {
        let state = self.state.read();
        let start = after.map_or(Bound::Unbounded, |key| Bound::Excluded(&**key));
        let mut left = bytes;
        for (key, versions) in state.entries.range::<[u8], _>((start, Bound::Unbounded)) {
            if left == 0 {
                return true;
            }
            for found in versions.iter().rev() {
                left = left.saturating_sub(cost(key, found));
                out.push((key.clone(), found.clone()));
            }
        }
        false
    }

    /// How many versions there are.
    pub fn count(&self) -> usize {
        self.state.read().count
    }

    /// What they cost, near enough for a budget.
    pub fn bytes(&self) -> usize {
        self.state.read().bytes
    }
}

/// Does an insert remember what it replaces?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackGarbage {
    /// Yes: somebody will prune.
    Yes,
    /// No: the map dies as a whole, as a memtable does.
    No,
}

/// A version as a map keeps it.
pub(super) fn found(seqno: Seqno, entry: &Entry) -> Found {
    Found { seqno, entry: entry.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Value;

    fn key(name: &str) -> Key {
        Key::copy(name.as_bytes()).unwrap()
    }

    fn put(seqno: u64, name: &str) -> (Key, Found) {
        (key(name), found(Seqno(seqno), &Entry::put(Value::new(seqno.to_le_bytes().to_vec()).unwrap())))
    }

    fn delete(seqno: u64, name: &str) -> (Key, Found) {
        (key(name), found(Seqno(seqno), &Entry::delete()))
    }

    #[test]
    fn each_reader_finds_its_own_version() {
        let map = VersionedMap::default();
        map.insert([put(1, "a"), put(5, "a"), delete(9, "a")].into_iter(), TrackGarbage::Yes);
        let at = |seqno| map.get(b"a", Seqno(seqno)).map(|found| found.seqno.0);
        assert_eq!([at(0), at(1), at(4), at(5), at(9)], [None, Some(1), Some(1), Some(5), Some(9)]);
    }

    #[test]
    fn pruning_keeps_what_the_horizon_sees_and_ends_empty() {
        let map = VersionedMap::default();
        map.insert([put(1, "a"), put(5, "a"), delete(9, "a")].into_iter(), TrackGarbage::Yes);
        map.prune(Seqno(4));
        assert_eq!(map.count(), 3);
        map.prune(Seqno(6));
        assert_eq!((map.count(), map.get(b"a", Seqno(6)).unwrap().seqno), (2, Seqno(5)));
        map.prune(Seqno(9));
        assert_eq!((map.count(), map.bytes()), (0, 0));
    }

    #[test]
    fn floors_hide_the_past_from_the_present_only() {
        let mut floors = Floors::default();
        floors.add(Seqno(5));
        floors.add(Seqno(9));
        floors.add(Seqno(9));
        assert_eq!(
            [floors.at(Seqno(4)), floors.at(Seqno(5)), floors.at(Seqno(20))],
            [Seqno(0), Seqno(5), Seqno(9)]
        );
        assert_eq!(floors.settle(Seqno(7)), Seqno(5));
        assert_eq!(floors.cuts(), [Seqno(5), Seqno(9)]);
        assert_eq!(floors.settle(Seqno(9)), Seqno(9));
        assert_eq!(floors.cuts(), [Seqno(9)]);
    }

    #[test]
    fn a_batch_ends_when_it_is_full_and_the_range_goes_on() {
        let map = VersionedMap::default();
        map.insert((1..=9).map(|seqno| put(seqno, &format!("k{seqno}"))), TrackGarbage::No);
        let size = BatchSize { entries: 4, bytes: 1 << 20 };
        for direction in [Direction::Forward, Direction::Reverse] {
            let (mut range, mut out) = (KeyRange::all(), Vec::new());
            let mut rounds = 1;
            while map.collect(&range, direction, Seqno::MAX, size, &mut out) {
                range = range.after(&out.last().unwrap().0, direction);
                rounds += 1;
            }
            assert_eq!((out.len(), rounds), (9, 3));
        }
    }
}
