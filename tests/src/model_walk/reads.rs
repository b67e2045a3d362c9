//! Reads of the database as it is now, and of views and scans that are held for a while.

use std::collections::{BTreeMap, VecDeque};

use pugdb::{EngineKind, Entry, KeyCounts, Keyspace, Scan, Snapshot, Timestamp};
use pugdb_core::engine::{Direction, KeyRange};
use pugdb_sim::ModelEntry;

use super::{Handle, Walk};
use crate::chance::Question;

const VIEWS_MAX: usize = 5;
const SCANS_MAX: usize = 4;

/// A snapshot with its place in the model, and the keyspaces of its time.
pub(super) struct View {
    snapshot: Snapshot,
    commit: usize,
    now: Timestamp,
    handles: BTreeMap<&'static str, Handle>,
}

/// A scan under way with what it has still to bring.
pub(super) struct HeldScan {
    scan: Scan,
    expected: VecDeque<(Vec<u8>, ModelEntry)>,
    /// How many entries it may still bring.
    left: usize,
    order: Order,
    what: String,
}

/// Whether entries come in the order of their keys.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Keys,
    Any,
}

impl Walk {
    pub(super) fn get(&mut self) {
        let ((name, keyspace), key) = (self.handle(), self.chance.key());
        let now = self.now();
        let expected = self.model.get(self.model.commits(), now, name, &key);
        let value = expected.map(|entry| entry.value.as_slice());
        match self.chance.random.u8(..4) {
            0 => {
                let found = keyspace.get_entry(&key).expect("the disk is whole");
                assert_eq!(
                    found.as_ref().and_then(ModelEntry::of).as_ref(),
                    expected,
                    "get_entry in {name:?}"
                );
            }
            1 => {
                let found = keyspace.get_with(&key, <[u8]>::to_vec).expect("the disk is whole");
                assert!(found.as_deref() == value, "get_with in {name:?}");
            }
            2 => {
                let found = keyspace.exists(&key).expect("the disk is whole");
                assert_eq!(found, expected.is_some(), "exists in {name:?}");
            }
            _ => {
                let found = keyspace.get(&key).expect("the disk is whole");
                assert!(found.as_deref() == value, "get in {name:?}");
            }
        }
        let was_there = self.model.get(self.model.commits(), Timestamp(0), name, &key).is_some();
        self.tally.found += u64::from(value.is_some());
        self.tally.expired += u64::from(value.is_none() && was_there);
    }

    pub(super) fn multi_get(&mut self) {
        let (name, keyspace) = self.handle();
        let keys: Vec<_> = (0..self.chance.random.usize(..20)).map(|_| self.chance.key()).collect();
        let now = self.now();
        let found = keyspace.multi_get(&keys).expect("the disk is whole");
        let expected = keys.iter().map(|key| self.model.get(self.model.commits(), now, name, key));
        let expected = expected.map(|entry| entry.map(|entry| entry.value.as_slice()));
        assert!(found.iter().map(Option::as_deref).eq(expected), "multi_get in {name:?}");
    }

    pub(super) fn scan(&mut self) {
        let (name, keyspace) = self.handle();
        let question = self.chance.question();
        let place = (self.model.commits(), self.now());
        let mut held = self.hold(&keyspace, |range| keyspace.scan(range), place, name, &question);
        while held.advance() {
            self.tally.found += 1;
        }
    }

    pub(super) fn count(&mut self) {
        let (name, keyspace) = self.handle();
        // The second time it is remembered, unless something has expired.
        for _ in 0..2 {
            let all = (self.model.commits(), self.now());
            let there = self.model.scan(all, name, &KeyRange::all(), Direction::Forward, usize::MAX);
            let expiring = there.iter().filter(|(_, entry)| entry.expires_at.is_some()).count();
            let expected = KeyCounts { keys: there.len() as u64, expiring: expiring as u64 };
            assert_eq!(keyspace.counts().expect("the disk is whole"), expected, "counts of {name:?}");
        }
        keyspace.approximate_counts().expect("the database is open");
    }

    /// A scan of `question.range` with what it must bring. An engine without order is asked for everything.
    fn hold(
        &self,
        keyspace: &Keyspace,
        scan: impl FnOnce(KeyRange) -> Scan,
        place: (usize, Timestamp),
        name: &str,
        question: &Question,
    ) -> HeldScan {
        let order = if keyspace.engine() == EngineKind::Hash { Order::Any } else { Order::Keys };
        let whole = Question { range: KeyRange::all(), direction: Direction::Forward, limit: question.limit };
        let question = if order == Order::Any { &whole } else { question };
        let Question { range, direction, limit } = question;
        let limit_there = limit.filter(|_| order == Order::Keys).unwrap_or(usize::MAX);
        let expected = self.model.scan(place, name, range, *direction, limit_there);
        let expected = expected.into_iter().map(|(key, entry)| (key.to_vec(), entry.clone()));
        let expected: VecDeque<_> = expected.collect();
        let scan = scan(range.clone());
        let scan = if *direction == Direction::Reverse { scan.reverse() } else { scan };
        let scan = limit.iter().fold(scan, |scan, count| scan.limit(*count));
        let left = expected.len().min(limit.unwrap_or(usize::MAX));
        HeldScan { scan, expected, left, order, what: format!("scan of {name:?} at {place:?}, {question:?}") }
    }

    // Views and scans that are held.

    pub(super) fn take_view(&mut self) {
        if self.views.len() == VIEWS_MAX {
            return;
        }
        let snapshot = self.db().snapshot().expect("the database is open");
        let (commit, now) = (self.model.commits(), self.now());
        self.views.push(View { snapshot, commit, now, handles: self.handles.clone() });
    }

    pub(super) fn drop_view(&mut self) {
        if !self.views.is_empty() {
            self.views.swap_remove(self.chance.random.usize(..self.views.len()));
        }
    }

    pub(super) fn read_view(&mut self) {
        if self.views.is_empty() {
            return;
        }
        let number = self.chance.random.usize(..self.views.len());
        let keys: Vec<_> = (0..6).map(|_| self.chance.key()).collect();
        let question = self.chance.question();
        let view = &self.views[number];
        for (name, Handle { number, keyspace }) in &view.handles {
            let expected = |key| self.model.get(view.commit, view.now, name, key);
            for key in &keys {
                let found = view.snapshot.get_entry(keyspace, key).expect("the disk is whole");
                assert_eq!(
                    found.as_ref().and_then(ModelEntry::of).as_ref(),
                    expected(key),
                    "view of {name:?}"
                );
            }
            let found = view.snapshot.multi_get(keyspace, &keys).expect("the disk is whole");
            let expected = keys.iter().map(|key| expected(key).map(|entry| entry.value.as_slice()));
            assert!(found.iter().map(Option::as_deref).eq(expected), "multi_get in a view of {name:?}");
            let scan = |range| view.snapshot.scan(keyspace, range);
            let mut held = self.hold(keyspace, scan, (view.commit, view.now), name, &question);
            while held.advance() {}
            // What has the name today did not exist then.
            let today = self.handles.get(name).filter(|today| today.number != *number);
            if let Some(Handle { keyspace, .. }) = today {
                assert!(
                    view.snapshot.scan(keyspace, ..).next().is_none(),
                    "{name:?} was seen before its birth"
                );
            }
        }
    }

    pub(super) fn open_scan(&mut self) {
        if self.scans.len() == SCANS_MAX {
            return;
        }
        let question = Question { limit: None, ..self.chance.question() };
        let held = match self.chance.random.usize(..=self.views.len()) {
            0 => {
                let (name, keyspace) = self.handle();
                let place = (self.model.commits(), self.now());
                self.hold(&keyspace, |range| keyspace.scan(range), place, name, &question)
            }
            number => {
                let view = &self.views[number - 1];
                let Some((name, handle)) = view.handles.first_key_value() else { return };
                let scan = |range| view.snapshot.scan(&handle.keyspace, range);
                self.hold(&handle.keyspace, scan, (view.commit, view.now), name, &question)
            }
        };
        self.scans.push(held);
        // Its first entry fixes what it sees.
        self.advance_scan(self.scans.len() - 1, 1);
    }

    pub(super) fn continue_scan(&mut self) {
        if !self.scans.is_empty() {
            let (number, count) =
                (self.chance.random.usize(..self.scans.len()), self.chance.random.usize(1..40));
            self.advance_scan(number, count);
        }
    }

    fn advance_scan(&mut self, number: usize, count: usize) {
        if !(0..count).all(|_| self.scans[number].advance()) {
            self.scans.swap_remove(number);
        }
    }
}

impl HeldScan {
    /// Brings one entry and compares it. False at the end.
    fn advance(&mut self) -> bool {
        let found: Option<(_, Entry)> = self.scan.next_entry().expect("the disk is whole");
        let found = found.map(|(key, entry)| (key.to_vec(), ModelEntry::of(&entry).expect("a live entry")));
        let expected = match (self.order, &found) {
            _ if self.left == 0 => None,
            (Order::Keys, _) | (Order::Any, None) => self.expected.pop_front(),
            (Order::Any, Some(found)) => {
                let at = self.expected.iter().position(|expected| expected == found);
                at.and_then(|at| self.expected.remove(at))
            }
        };
        assert_eq!(found, expected, "{}", self.what);
        self.left = self.left.saturating_sub(1);
        found.is_some()
    }
}
