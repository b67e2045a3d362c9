//! What the hash engine keeps of one key: its newest version in place, and older ones only while a snapshot needs them.

use crate::entry::{EntryKind, Found, Key, memory_bytes};
use crate::ids::Seqno;

use crate::memory::newest_at;

/// A key and its versions. Most keys have one.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) hash: u64,
    pub(super) key: Key,
    newest: Found,
    older: Option<Box<Older>>,
}

/// Versions that the newest one has replaced, ascending; never empty.
#[derive(Debug)]
struct Older(Vec<Found>);

impl Slot {
    pub(super) fn new(hash: u64, key: Key, newest: Found) -> Self {
        Self { hash, key, newest, older: None }
    }

    /// The newest version at or below `seqno`, deletes included.
    pub(super) fn at(&self, seqno: Seqno) -> Option<&Found> {
        if self.newest.seqno <= seqno {
            return Some(&self.newest);
        }
        self.older.as_ref().and_then(|older| newest_at(&older.0, seqno))
    }

    /// What a version of this key costs, near enough for a budget.
    pub(super) fn cost(&self, found: &Found) -> usize {
        memory_bytes(self.key.len(), found.entry.value.len())
    }

    /// Takes the next version in.
    pub(super) fn push(&mut self, found: Found) {
        debug_assert!(self.newest.seqno < found.seqno, "seqnos ascend");
        let replaced = std::mem::replace(&mut self.newest, found);
        match &mut self.older {
            Some(older) => older.0.push(replaced),
            None => self.older = Some(Box::new(Older(vec![replaced]))),
        }
    }

    /// Takes out the versions that nobody at or after `horizon` can see. The flag is true when nothing is left to be
    /// seen: the slot can go, and with it the version that is still in it.
    pub(super) fn prune(&mut self, horizon: Seqno) -> (Vec<Found>, bool) {
        if self.newest.seqno <= horizon {
            let gone = self.older.take().map_or_else(Vec::new, |older| older.0);
            return (gone, self.newest.entry.kind == EntryKind::Delete);
        }
        let Some(older) = &mut self.older else { return (Vec::new(), false) };
        let seen = older.0.partition_point(|version| version.seqno <= horizon);
        // The newest one at the horizon stays, unless all it says is that the key is gone.
        let is_gone = seen > 0 && older.0[seen - 1].entry.kind == EntryKind::Delete;
        let gone = older.0.drain(..if is_gone { seen } else { seen.saturating_sub(1) }).collect();
        self.drop_empty();
        (gone, false)
    }

    /// Takes out the versions at or below `floor`. The flag is true when all are: the slot can go, and with it the
    /// version that is still in it.
    pub(super) fn cut(&mut self, floor: Seqno) -> (Vec<Found>, bool) {
        let is_cut = self.newest.seqno <= floor;
        let Some(older) = &mut self.older else { return (Vec::new(), is_cut) };
        let seen = older.0.partition_point(|version| version.seqno <= floor);
        let gone = older.0.drain(..seen).collect();
        self.drop_empty();
        (gone, is_cut)
    }

    fn drop_empty(&mut self) {
        if self.older.as_ref().is_some_and(|older| older.0.is_empty()) {
            self.older = None;
        }
    }

    /// The version with this seqno.
    pub(super) fn version_mut(&mut self, seqno: Seqno) -> Option<&mut Found> {
        if self.newest.seqno == seqno {
            return Some(&mut self.newest);
        }
        let older = &mut self.older.as_mut()?.0;
        let at = older.binary_search_by_key(&seqno, |version| version.seqno).ok()?;
        Some(&mut older[at])
    }

    /// The version that stands for the key now.
    pub(super) fn newest(&self) -> &Found {
        &self.newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Entry, Value};

    fn found(seqno: u64, entry: Entry) -> Found {
        Found { seqno: Seqno(seqno), entry }
    }

    fn slot(seqnos: &[u64], deleted: u64) -> Slot {
        let entry = |seqno| if seqno == deleted { Entry::delete() } else { Entry::put(Value::default()) };
        let key = Key::copy(b"key").unwrap();
        let mut slot = Slot::new(7, key, found(seqnos[0], entry(seqnos[0])));
        seqnos[1..].iter().for_each(|&seqno| slot.push(found(seqno, entry(seqno))));
        slot
    }

    fn seqnos(gone: &[Found]) -> Vec<u64> {
        gone.iter().map(|found| found.seqno.0).collect()
    }

    #[test]
    fn each_reader_finds_its_own_version() {
        let slot = slot(&[2, 5, 9], 0);
        let at = |seqno| slot.at(Seqno(seqno)).map(|found| found.seqno.0);
        assert_eq!(
            [at(1), at(2), at(4), at(5), at(8), at(9)],
            [None, Some(2), Some(2), Some(5), Some(5), Some(9)]
        );
    }

    #[test]
    fn pruning_keeps_what_the_horizon_sees_and_says_when_nothing_is_left() {
        let mut slot = slot(&[2, 5, 9], 9);
        assert_eq!(slot.prune(Seqno(4)), (vec![], false));
        let (gone, is_over) = slot.prune(Seqno(6));
        assert_eq!((seqnos(&gone), is_over), (vec![2], false));
        let (gone, is_over) = slot.prune(Seqno(9));
        assert_eq!((seqnos(&gone), is_over), (vec![5], true));
    }

    #[test]
    fn an_old_delete_at_the_horizon_goes_with_what_it_hides() {
        let mut slot = slot(&[2, 5, 9], 5);
        let (gone, is_over) = slot.prune(Seqno(6));
        assert_eq!((seqnos(&gone), is_over), (vec![2, 5], false));
        assert!(slot.at(Seqno(6)).is_none() && slot.older.is_none());
    }

    #[test]
    fn one_version_takes_no_heap_beside_key_and_value() {
        assert!(slot(&[1], 0).older.is_none());
        assert!(size_of::<Slot>() <= 160, "{}", size_of::<Slot>());
    }
}
