//! An ordered map that keeps every version of a key, so that a reader in the past finds its own.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use parking_lot::RwLock;

use super::expiry::ExpiryQueue;
use crate::engine::{BatchSize, Counts, Direction, KeyRange, ReadPoint, Room};
use crate::entry::{Entry, EntryKind, Found, Key, Operation, Timestamp, memory_bytes};
use crate::ids::Seqno;
use crate::soon;
use crate::span::RawSpan;

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

    /// True when a truncation hides the newest operation, and so everything.
    pub fn hide(&self, newest: Seqno) -> bool {
        self.cuts.last().is_some_and(|&cut| cut >= newest)
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
    /// The keys of versions that expire.
    expiring: ExpiryQueue<Key>,
}

fn cost(key: &Key, found: &Found) -> usize {
    memory_bytes(key.len(), found.entry.value.len())
}

/// What a change of the map leaves to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leftovers {
    /// What is left of the budget.
    pub budget: usize,
    /// How many keys wait for the horizon to pass.
    pub garbage: usize,
    /// When the first version expires.
    pub next_expiry: Option<Timestamp>,
}

/// An operation that has copied what the map will hold: before the lock is taken.
enum Change<'o> {
    Insert(Key, Entry),
    DeleteRange(RawSpan<'o>),
}

impl<'o> From<Operation<'o>> for Change<'o> {
    fn from(operation: Operation<'o>) -> Self {
        match operation {
            Operation::Entry(op) => Self::Insert(op.to_key(), op.to_entry()),
            Operation::DeleteRange(span) => Self::DeleteRange(span),
        }
    }
}

impl VersionedMap {
    /// Adds the next version of each key, and remembers what it replaces for [`prune`](Self::prune), which it does as well: a lock
    /// that every reader takes is asked for once. A range delete is a delete of every key that is there.
    pub fn apply<'o>(
        &self,
        operations: impl Iterator<Item = (Seqno, Operation<'o>)>,
        horizon: Seqno,
        budget: usize,
    ) -> Leftovers {
        let changes: Vec<_> = operations.map(|(seqno, operation)| (seqno, Change::from(operation))).collect();
        let mut old = Vec::new();
        let mut state = soon::write(&self.state);
        for (seqno, change) in changes {
            match change {
                Change::Insert(key, entry) => state.insert(key, Found { seqno, entry }),
                Change::DeleteRange(span) => state.delete_range(&span, seqno),
            }
        }
        state.prune(horizon, budget, &mut old)
    }

    /// Drops at most `budget` times versions of a key that nobody at or after `horizon` can see.
    pub fn prune(&self, horizon: Seqno, budget: usize) -> Leftovers {
        // What is dropped is freed when the lock is.
        let mut old = Vec::new();
        soon::write(&self.state).prune(horizon, budget, &mut old)
    }

    /// Drops at most `budget` versions that had expired at `cutoff`: they become deletes in their places, and go as
    /// deletes do. `applied` is the newest seqno in the map.
    pub fn expire(&self, cutoff: Timestamp, horizon: Seqno, applied: Seqno, budget: usize) -> Leftovers {
        let mut old = Vec::new();
        let mut state = soon::write(&self.state);
        let state = &mut *state;
        let mut left = budget;
        while left > 0
            && let Some((seqno, key)) = state.expiring.pop_expired(cutoff)
        {
            left -= 1;
            let Some(versions) = state.entries.get_mut(&key) else { continue };
            let Ok(at) = versions.binary_search_by_key(&seqno, |version| version.seqno) else { continue };
            state.bytes -= versions[at].entry.value.len();
            versions[at].entry = Entry::delete();
            if applied <= horizon {
                state.prune_key(&key, horizon, &mut old);
            } else {
                state.garbage.push_back((applied, key));
            }
        }
        state.leftovers(left)
    }

    /// Drops every version at or below `floor`.
    pub fn drop_through(&self, floor: Seqno) {
        let mut state = soon::write(&self.state);
        let state = &mut *state;
        let mut entries = std::mem::take(&mut state.entries);
        entries.retain(|key, versions| {
            let seen = versions.partition_point(|version| version.seqno <= floor);
            versions.drain(..seen).for_each(|old| state.forget(key, &old));
            !versions.is_empty()
        });
        state.entries = entries;
        state.garbage.retain(|&(seqno, _)| seqno > floor);
    }

    /// The newest version of `key` at or below `seqno`, deletes included.
    pub fn get(&self, key: &[u8], seqno: Seqno) -> Option<Found> {
        let state = soon::read(&self.state);
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
        let state = soon::read(&self.state);
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

    /// True when a key of `range` has a version newer than `seqno`.
    pub fn has_newer(&self, range: &KeyRange, seqno: Seqno) -> bool {
        let is_newer = |versions: &Vec<Found>| versions.last().is_some_and(|last| last.seqno > seqno);
        let state = soon::read(&self.state);
        !range.is_empty()
            && state.entries.range::<[u8], _>(range.bounds()).any(|(_, versions)| is_newer(versions))
    }

    /// Appends every version of the keys after `after`, key by key and newest first, until `bytes` are passed.
    /// Returns false when there are no more keys.
    pub fn collect_versions(&self, after: Option<&Key>, bytes: usize, out: &mut Vec<(Key, Found)>) -> bool {
        let state = soon::read(&self.state);
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

    /// Counts the live entries of at most `size` keys of `range` that are above `floor`. Returns the key to go on after,
    /// unless the range is exhausted.
    pub fn count_live(
        &self,
        range: &KeyRange,
        point: ReadPoint,
        floor: Seqno,
        size: usize,
        counts: &mut Counts,
    ) -> Option<Key> {
        if range.is_empty() {
            return None;
        }
        let state = soon::read(&self.state);
        for (visited, (key, versions)) in state.entries.range::<[u8], _>(range.bounds()).enumerate() {
            let found = newest_at(versions, point.seqno);
            if let Some(found) = found.filter(|found| found.entry.is_live(point.now) && found.seqno > floor) {
                counts.add(found.entry.expires_at);
            }
            if visited + 1 == size {
                return Some(key.clone());
            }
        }
        None
    }

    /// How many versions there are.
    pub fn count(&self) -> usize {
        soon::read(&self.state).count
    }

    /// How many entries there are, those that a delete stands for included.
    pub fn approximate_counts(&self) -> Counts {
        let state = soon::read(&self.state);
        Counts {
            keys: state.entries.len() as u64,
            expiring: state.expiring.len() as u64,
            next_expiry: state.expiring.next(),
        }
    }

    /// What they cost, near enough for a budget.
    pub fn bytes(&self) -> usize {
        soon::read(&self.state).bytes
    }
}

impl State {
    fn insert(&mut self, key: Key, found: Found) {
        self.bytes += cost(&key, &found);
        self.count += 1;
        let versions = self.entries.entry(key.clone()).or_default();
        let replaces = !versions.is_empty() || found.entry.kind == EntryKind::Delete;
        self.expiring.add(&found, || key.clone());
        if replaces {
            self.garbage.push_back((found.seqno, key));
        }
        debug_assert!(versions.last().is_none_or(|last| last.seqno < found.seqno), "seqnos ascend");
        versions.push(found);
    }

    fn delete_range(&mut self, span: &RawSpan<'_>, seqno: Seqno) {
        let end = span.end.map_or(Bound::Unbounded, Bound::Excluded);
        for (key, versions) in self.entries.range_mut::<[u8], _>((Bound::Included(span.start), end)) {
            // What is deleted already is not there to be deleted.
            if versions.last().is_none_or(|last| last.entry.kind == EntryKind::Delete) {
                continue;
            }
            let found = Found { seqno, entry: Entry::delete() };
            self.bytes += cost(key, &found);
            self.count += 1;
            self.garbage.push_back((seqno, key.clone()));
            versions.push(found);
        }
    }

    /// A version has left the map.
    fn forget(&mut self, key: &Key, old: &Found) {
        self.count -= 1;
        self.bytes -= cost(key, old);
        self.expiring.remove(old);
    }

    fn prune(&mut self, horizon: Seqno, budget: usize, old: &mut Vec<Found>) -> Leftovers {
        let mut left = budget;
        while left > 0 && self.garbage.front().is_some_and(|&(seqno, _)| seqno <= horizon) {
            let Some((_, key)) = self.garbage.pop_front() else { break };
            self.prune_key(&key, horizon, old);
            left -= 1;
        }
        self.leftovers(left)
    }

    /// What goes is left in `old`.
    fn prune_key(&mut self, key: &Key, horizon: Seqno, old: &mut Vec<Found>) {
        let Some(versions) = self.entries.get_mut(key) else { return };
        let seen = versions.partition_point(|version| version.seqno <= horizon);
        // The newest one at the horizon stays, unless all it says is that the key is gone.
        let gone = seen > 0 && versions[seen - 1].entry.kind == EntryKind::Delete;
        let before = old.len();
        old.extend(versions.drain(..if gone { seen } else { seen.saturating_sub(1) }));
        if versions.is_empty() {
            self.entries.remove(key);
        }
        for old in &old[before..] {
            self.forget(key, old);
        }
    }

    fn leftovers(&self, budget: usize) -> Leftovers {
        Leftovers { budget, garbage: self.garbage.len(), next_expiry: self.expiring.next() }
    }
}

/// A version as a map keeps it.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Value;

    fn key(name: &str) -> Key {
        Key::copy(name.as_bytes()).unwrap()
    }

    fn insert(map: &VersionedMap, items: impl IntoIterator<Item = (Key, Found)>) {
        for (key, found) in items {
            map.apply([(found.seqno, Operation::Entry(found.entry.raw(&key)))].into_iter(), Seqno::ZERO, 0);
        }
    }

    fn put(seqno: u64, name: &str) -> (Key, Found) {
        (
            key(name),
            Found {
                seqno: Seqno(seqno),
                entry: Entry::put(Value::new(seqno.to_le_bytes().to_vec()).unwrap()),
            },
        )
    }

    fn delete(seqno: u64, name: &str) -> (Key, Found) {
        (key(name), Found { seqno: Seqno(seqno), entry: Entry::delete() })
    }

    #[test]
    fn each_reader_finds_its_own_version() {
        let map = VersionedMap::default();
        insert(&map, [put(1, "a"), put(5, "a"), delete(9, "a")]);
        let at = |seqno| map.get(b"a", Seqno(seqno)).map(|found| found.seqno.0);
        assert_eq!([at(0), at(1), at(4), at(5), at(9)], [None, Some(1), Some(1), Some(5), Some(9)]);
    }

    #[test]
    fn pruning_keeps_what_the_horizon_sees_and_ends_empty() {
        let map = VersionedMap::default();
        insert(&map, [put(1, "a"), put(5, "a"), delete(9, "a")]);
        map.prune(Seqno(4), 9);
        assert_eq!(map.count(), 3);
        map.prune(Seqno(6), 9);
        assert_eq!((map.count(), map.get(b"a", Seqno(6)).unwrap().seqno), (2, Seqno(5)));
        map.prune(Seqno(9), 9);
        assert_eq!((map.count(), map.bytes()), (0, 0));
    }

    #[test]
    fn a_range_delete_deletes_what_is_there_and_leaves_nothing_behind() {
        let map = VersionedMap::default();
        insert(&map, [put(1, "a"), put(2, "b"), put(3, "c"), delete(4, "b"), put(5, "d")]);
        let span = RawSpan { start: b"b", end: Some(b"d") };
        map.apply([(Seqno(6), Operation::DeleteRange(span))].into_iter(), Seqno::ZERO, 0);
        insert(&map, [put(7, "c")]);
        let at =
            |key: &[u8], seqno| map.get(key, Seqno(seqno)).filter(|found| found.entry.kind == EntryKind::Put);
        let live =
            |seqno| [b"a", b"b", b"c", b"d"].map(|key| at(key, seqno).map_or(0, |found| found.seqno.0));
        assert_eq!(
            [live(3), live(5), live(6), live(7)],
            [[1, 2, 3, 0], [1, 0, 3, 5], [1, 0, 0, 5], [1, 0, 7, 5]]
        );
        // Nothing is said about what was deleted before.
        assert_eq!(map.count(), 7);
        map.prune(Seqno(7), 9);
        assert_eq!((map.count(), map.prune(Seqno(7), 0).garbage), (3, 0));
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
        insert(&map, (1..=9).map(|seqno| put(seqno, &format!("k{seqno}"))));
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
