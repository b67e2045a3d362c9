//! Which versions go on living when entries are written anew. Pure.

use pugdb_core::RawOp;
use pugdb_core::{EntryKind, Seqno, Timestamp};

use crate::tombstones::{Stretch, Tombstones};

/// What becomes of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is written as it is.
    Kept,
    /// It has expired for everybody, and may still hide something: a delete is written in its place.
    Emptied,
    /// It is not written.
    Forgotten,
    /// An operand that all readers see with what lies beneath: what becomes of it is known when that is.
    Chained,
}

/// Which operands of a key have been met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operands {
    None,
    /// All readers see them.
    Seen,
    /// And some do not see the newest ones.
    Above,
}

/// What the operands of a key rest on, those that all readers see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    /// On the value of the version that was asked about last: together they are one value, for every reader.
    Value,
    /// On nothing, for every reader.
    Nothing,
    /// On something that is not known here, or that will go before they do: they stay.
    Open,
}

/// Decides version by version, for keys in order and newest first within a key.
///
/// Kept are all versions newer than the horizon and the newest one at it; that one goes too when it is a delete and
/// nothing older lies beneath. Versions at or below the floor were truncated away, those below a range tombstone deleted.
/// An entry that had expired at a moment
/// that no reader is before, and for the grace period, is as good as a delete.
///
/// Operands settle nothing: what lies beneath them is needed until they are folded with it. So the versions of a key at or
/// below the horizon are a chain of operands and then, if it is here, its [`Base`]. A base that has an expiry which is still to come
/// stays beneath: when it has gone, the operands count from nothing.
#[derive(Debug)]
pub(crate) struct Retention {
    horizon: Seqno,
    floor: Seqno,
    cover: Cover,
    /// What has expired at this moment is gone for every reader, and the grace period is over.
    expired: Timestamp,
    /// Nothing older than the input exists in this tree.
    is_bottom: bool,
    /// A version of the key at or below the horizon has been seen: the rest is invisible.
    is_settled: bool,
    /// The floor of the key at hand.
    key_floor: Seqno,
    /// Of a key with operands: what lies at or below is not folded with what lies above.
    seen_floor: Seqno,
    /// What lies beneath the operands of the key at hand, as far as it was seen.
    base: Base,
    /// Of the key at hand.
    operands: Operands,
}

/// What range deletes hide from all readers.
#[derive(Debug, Default)]
pub(crate) struct Cover {
    tombstones: Tombstones,
    /// Those up to here count, and all of them are known. No reader is before it, now or later.
    through: Seqno,
    /// Those up to here all readers see, and a crash may take those behind the others: nothing is left away for them, and
    /// nothing that they are between becomes one.
    seen: Seqno,
    /// Around the key at hand.
    stretch: Option<Stretch>,
}

impl Cover {
    pub(crate) fn new(tombstones: Tombstones, through: Seqno, seen: Seqno) -> Self {
        Self { tombstones, through, seen, stretch: None }
    }

    /// The newest version of a key that no reader sees, and that may be seen again after a crash.
    fn seen_floor(&self, key: &[u8]) -> Seqno {
        if self.seen > self.through { self.tombstones.floor(key, self.seen) } else { Seqno::ZERO }
    }

    /// The newest version of a key that nobody can see.
    fn floor(&mut self, key: &[u8]) -> Seqno {
        if self.tombstones.is_empty() {
            return Seqno::ZERO;
        }
        let stretch = self.stretch.take().filter(|stretch| stretch.contains(key));
        self.stretch.insert(stretch.unwrap_or_else(|| self.tombstones.stretch(key, self.through))).floor
    }
}

impl Retention {
    pub(crate) fn new(
        (horizon, floor): (Seqno, Seqno),
        cover: Cover,
        expired: Timestamp,
        is_bottom: bool,
    ) -> Self {
        Self {
            horizon,
            floor,
            cover,
            expired,
            is_bottom,
            is_settled: false,
            key_floor: floor,
            seen_floor: Seqno::ZERO,
            base: Base::Open,
            operands: Operands::None,
        }
    }

    /// Up to which range delete nothing is left of what they hide.
    pub(crate) fn cleared(&self) -> Seqno {
        self.cover.through
    }

    /// All are kept: there is one version of each key, and nobody reads it yet.
    pub(crate) fn all() -> Self {
        Self::new((Seqno::ZERO, Seqno::ZERO), Cover::default(), Timestamp(0), false)
    }

    /// What follows is about another key.
    pub(crate) fn begin_key(&mut self, key: &[u8]) {
        (self.is_settled, self.base, self.seen_floor) = (false, Base::Open, Seqno::ZERO);
        self.operands = Operands::None;
        self.key_floor = self.floor.max(self.cover.floor(key));
    }

    /// True when the version whose fate was asked for last is the newest of its key that all readers see, and no operand makes
    /// something else of it.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_settled && self.operands == Operands::None
    }

    /// What operands rest on, when the version whose fate was asked for last is the first one beneath them.
    pub(crate) fn base(&self) -> Base {
        self.base
    }

    /// What operands rest on when nothing of their key follows.
    pub(crate) fn base_at_end(&self) -> Base {
        if self.is_bottom { Base::Nothing } else { Base::Open }
    }

    /// True when there are operands above those that all readers see: they make something else of what comes of these.
    pub(crate) fn has_operands_above(&self) -> bool {
        self.operands == Operands::Above
    }

    /// What becomes of that version when it is as good as a delete.
    pub(crate) fn given_up(&self) -> Fate {
        if self.is_bottom { Fate::Forgotten } else { Fate::Emptied }
    }

    /// What becomes of the key's next version.
    pub(crate) fn fate(&mut self, seqno: Seqno, op: &RawOp<'_>) -> Fate {
        if self.is_settled || seqno <= self.key_floor {
            self.base = Base::Nothing;
            return Fate::Forgotten;
        }
        if op.kind == EntryKind::Operand {
            let is_seen_by_all = seqno <= self.horizon;
            if self.operands == Operands::None {
                // Newest first: where all readers see this one, they see those beneath too.
                self.operands = if is_seen_by_all { Operands::Seen } else { Operands::Above };
                self.seen_floor = self.cover.seen_floor(op.key);
            }
            self.base = Base::Open;
            return if is_seen_by_all && seqno > self.seen_floor { Fate::Chained } else { Fate::Kept };
        }
        let is_expired = op.expires_at.is_some_and(|at| at <= self.expired);
        let is_delete = is_expired || op.kind == EntryKind::Delete;
        let is_newest = seqno <= self.horizon;
        self.is_settled = is_newest;
        self.base = match op.expires_at {
            _ if seqno <= self.seen_floor => Base::Open,
            _ if is_delete => Base::Nothing,
            Some(_) => Base::Open,
            None => Base::Value,
        };
        match (is_newest && self.is_bottom && is_delete, is_expired) {
            (true, _) => Fate::Forgotten,
            (false, true) => Fate::Emptied,
            (false, false) => Fate::Kept,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pugdb_core::engine::KeyRange;
    use pugdb_core::{Entry, KeySpan, Value};

    use crate::tombstones::RangeTombstone;

    /// What a version says: a value, a delete, a value until a moment, or an operand.
    #[derive(Clone, Copy)]
    enum Said {
        Put,
        Delete,
        Until(u64),
        Operand,
    }
    use Said::{Delete, Operand, Put, Until};

    /// The seqnos that are written; of those that are emptied, the negative.
    fn written(retention: &mut Retention, versions: &[(&str, i64, Said)]) -> Vec<i64> {
        let (mut written, mut last) = (Vec::new(), "");
        for &(name, seqno, said) in versions {
            let entry = match said {
                Put => Entry::put(Value::default()),
                Delete => Entry::delete(),
                Operand => Entry::operand(Value::default()),
                Until(at) => Entry { expires_at: Some(Timestamp(at)), ..Entry::put(Value::default()) },
            };
            if name != last {
                retention.begin_key(name.as_bytes());
                last = name;
            }
            match retention.fate(Seqno(seqno.unsigned_abs()), &entry.raw(name.as_bytes())) {
                Fate::Kept | Fate::Chained => written.push(seqno),
                Fate::Emptied => written.push(-seqno),
                Fate::Forgotten => {}
            }
        }
        written
    }

    fn retention(horizon: u64, floor: u64, expired: u64, is_bottom: bool) -> Retention {
        let floors = (Seqno(horizon), Seqno(floor));
        Retention::new(floors, Cover::default(), Timestamp(expired), is_bottom)
    }

    const HISTORY: [(&str, i64, Said); 6] =
        [("a", 9, Put), ("a", 5, Delete), ("a", 3, Put), ("b", 8, Delete), ("b", 2, Put), ("c", 1, Put)];

    #[test]
    fn the_newest_version_at_the_horizon_is_kept_for_old_snapshots() {
        assert_eq!(written(&mut retention(6, 0, 0, false), &HISTORY), [9, 5, 8, 2, 1]);
        assert_eq!(written(&mut retention(9, 0, 0, false), &HISTORY), [9, 8, 1]);
    }

    #[test]
    fn a_delete_goes_at_the_bottom_only() {
        assert_eq!(written(&mut retention(6, 0, 0, true), &HISTORY), [9, 8, 2, 1]);
        assert_eq!(written(&mut retention(9, 0, 0, true), &HISTORY), [9, 1]);
    }

    #[test]
    fn truncated_versions_go() {
        assert_eq!(written(&mut retention(9, 8, 0, true), &HISTORY), [9]);
    }

    /// A range was deleted: from `start` on, before `end`.
    fn deleting(start: &str, end: &str, seqno: u64, through: u64, is_bottom: bool) -> Retention {
        let span = KeySpan::of(&KeyRange::from(start..end)).unwrap();
        let tombstones = Tombstones::of([RangeTombstone { span, seqno: Seqno(seqno) }].into_iter(), &[]);
        let cover = Cover::new(tombstones, Seqno(through), Seqno(through));
        Retention::new((Seqno(through), Seqno(0)), cover, Timestamp(0), is_bottom)
    }

    #[test]
    fn versions_below_a_range_tombstone_go_wherever_they_lie() {
        assert_eq!(written(&mut deleting("a", "c", 4, 6, false), &HISTORY), [9, 5, 8, 1]);
        assert_eq!(written(&mut deleting("a", "c", 4, 6, true), &HISTORY), [9, 8, 1]);
        assert_eq!(written(&mut deleting("b", "d", 9, 9, false), &HISTORY), [9]);
    }

    #[test]
    fn a_range_tombstone_that_not_every_reader_sees_hides_nothing_yet() {
        assert_eq!(written(&mut deleting("a", "c", 4, 3, false), &HISTORY), [9, 5, 3, 8, 2, 1]);
    }

    const EXPIRING: [(&str, i64, Said); 5] =
        [("a", 9, Until(70)), ("a", 5, Until(50)), ("a", 3, Put), ("b", 2, Until(50)), ("c", 1, Until(51))];

    #[test]
    fn an_expired_entry_is_kept_whole_until_its_grace_is_over() {
        assert_eq!(written(&mut retention(9, 0, 49, true), &EXPIRING), [9, 2, 1]);
    }

    #[test]
    fn an_expired_entry_goes_at_the_bottom_with_all_that_it_hides() {
        assert_eq!(written(&mut retention(9, 0, 50, true), &EXPIRING), [9, 1]);
        assert_eq!(written(&mut retention(9, 0, 70, true), &EXPIRING), []);
    }

    #[test]
    fn above_the_bottom_an_expired_entry_goes_on_hiding_as_a_delete() {
        assert_eq!(written(&mut retention(9, 0, 50, false), &EXPIRING), [9, -2, 1]);
        assert_eq!(written(&mut retention(9, 0, 70, false), &EXPIRING), [-9, -2, -1]);
    }

    #[test]
    fn an_old_snapshot_keeps_what_an_expired_entry_hides_from_others() {
        // A reader at 4 sees the put; nobody sees the expired ones.
        assert_eq!(written(&mut retention(4, 0, 70, true), &EXPIRING), [-9, -5, 3]);
    }

    /// Of the one key `a`: how many operands are a chain, and what the first of all chains rests on.
    fn chain(retention: &mut Retention, versions: &[(i64, Said)]) -> (usize, Base) {
        retention.begin_key(b"a");
        let mut chained = 0;
        for &(seqno, said) in versions {
            let entry = match said {
                Put => Entry::put(Value::default()),
                Delete => Entry::delete(),
                Until(at) => Entry { expires_at: Some(Timestamp(at)), ..Entry::put(Value::default()) },
                Operand => Entry::operand(Value::default()),
            };
            match retention.fate(Seqno(seqno.unsigned_abs()), &entry.raw(b"a")) {
                Fate::Chained => chained += 1,
                _ if chained > 0 => return (chained, retention.base()),
                _ => {}
            }
        }
        (chained, retention.base_at_end())
    }

    #[test]
    fn operands_rest_on_the_value_beneath_and_on_nothing_where_nothing_is_left() {
        let table = [
            (&[(9, Operand), (7, Operand), (5, Put), (3, Put)][..], Base::Value),
            (&[(9, Operand), (7, Operand), (5, Delete), (3, Put)], Base::Nothing),
            // What expires has not gone yet, is about to go, has gone for everybody.
            (&[(9, Operand), (7, Operand), (5, Until(51))], Base::Open),
            (&[(9, Operand), (7, Operand), (5, Until(50))], Base::Nothing),
        ];
        for (versions, base) in table {
            for is_bottom in [false, true] {
                assert_eq!(chain(&mut retention(9, 0, 50, is_bottom), versions), (2, base));
            }
        }
        // Truncated for everybody: whatever it is.
        let truncated = [(9, Operand), (7, Operand), (5, Put)];
        assert_eq!(chain(&mut retention(9, 6, 50, false), &truncated), (2, Base::Nothing));
    }

    #[test]
    fn without_a_base_operands_rest_on_nothing_at_the_bottom_only() {
        let versions = [(9, Operand), (7, Operand)];
        assert_eq!(chain(&mut retention(9, 0, 0, true), &versions), (2, Base::Nothing));
        assert_eq!(chain(&mut retention(9, 0, 0, false), &versions), (2, Base::Open));
    }

    #[test]
    fn operands_that_a_snapshot_does_not_see_stay_apart_and_so_does_their_base() {
        let versions = [(9, Operand), (8, Operand), (6, Operand), (5, Operand), (4, Put), (3, Put)];
        assert_eq!(chain(&mut retention(7, 0, 0, true), &versions), (2, Base::Value));
        assert_eq!(chain(&mut retention(4, 0, 0, true), &versions), (0, Base::Nothing));
        let named: Vec<_> = versions.iter().map(|&(seqno, said)| ("a", seqno, said)).collect();
        assert_eq!(written(&mut retention(4, 0, 0, true), &named), [9, 8, 6, 5, 4]);
        assert_eq!(
            written(&mut retention(7, 0, 0, false), &named),
            [9, 8, 6, 5, 4],
            "the base settles, operands do not"
        );
    }

    #[test]
    fn a_delete_beneath_operands_goes_at_the_bottom_only() {
        let versions = [("a", 9, Operand), ("a", 5, Delete), ("a", 3, Put)];
        assert_eq!(written(&mut retention(9, 0, 0, false), &versions), [9, 5]);
        assert_eq!(written(&mut retention(9, 0, 0, true), &versions), [9]);
        let versions = [("a", 9, Operand), ("a", 5, Until(50)), ("a", 3, Put)];
        assert_eq!(written(&mut retention(9, 0, 50, false), &versions), [9, -5]);
        assert_eq!(written(&mut retention(9, 0, 49, false), &versions), [9, 5]);
    }

    #[test]
    fn a_filter_is_not_asked_about_a_value_beneath_operands() {
        for (above, is_asked) in [(Operand, false), (Put, true)] {
            let mut retention = retention(5, 0, 0, true);
            chain(&mut retention, &[(9, above), (5, Put)]);
            assert_eq!(retention.is_settled(), is_asked);
        }
    }

    #[test]
    fn nothing_is_folded_across_a_range_tombstone_that_a_crash_can_take() {
        let span = KeySpan::of(&KeyRange::from("a".."b")).unwrap();
        let tombstones = Tombstones::of([RangeTombstone { span, seqno: Seqno(6) }].into_iter(), &[]);
        // Everybody sees it, and it is in no manifest.
        let cover = || Cover::new(tombstones.clone(), Seqno(5), Seqno(9));
        let retention = || Retention::new((Seqno(9), Seqno(0)), cover(), Timestamp(0), true);
        assert_eq!(chain(&mut retention(), &[(9, Operand), (8, Operand), (5, Put)]), (2, Base::Open));
        assert_eq!(chain(&mut retention(), &[(9, Operand), (5, Operand), (4, Put)]), (1, Base::Open));
        assert_eq!(chain(&mut retention(), &[(9, Operand), (8, Put)]), (1, Base::Value));
    }
}
