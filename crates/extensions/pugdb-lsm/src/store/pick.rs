//! What to compact. Pure: sizes, bounds and expiries in, a piece of work out.
//!
//! Size-tiered: runs of like size are merged when there are enough of them, so an entry is rewritten about once for
//! every fourfold growth of the tree. A simple policy (`docs/adr/`).
//!
//! Expiry: a table in which nothing lives is removed unread, and a run of which a large part has expired is written anew,
//! also when nothing is written any more.

use std::ops::Range;

use pugdb_core::Timestamp;

use crate::table::Bounds;

/// A run as the picker sees it.
#[derive(Clone, Debug)]
pub(super) struct RunView {
    pub(super) tables: Vec<TableView>,
}

/// A table as the picker sees it.
#[derive(Clone, Debug)]
pub(super) struct TableView {
    pub(super) bytes: u64,
    pub(super) bounds: Bounds,
    /// It is damaged: its run is left alone, and it is never removed.
    pub(super) is_quarantined: bool,
    /// From this moment on all that it holds is deleted or expired.
    pub(super) dead_at: Option<Timestamp>,
    /// At each moment so many bytes more have expired; ascending.
    pub(super) expiries: Vec<(Timestamp, u64)>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// These runs become one, as a range of the runs (newest first). One alone is written anew.
    Merge(Range<usize>),
    /// These tables go, unread: run and table.
    Remove(Vec<(usize, usize)>),
}

/// So many runs of like size are merged.
const WIDTH_MIN: usize = 4;
/// Never more at once: a merge holds a block of each in memory.
const WIDTH_MAX: usize = 16;
/// With more runs than this the youngest are merged whatever their sizes: reads look into every run.
const RUNS_MANY: usize = 12;
/// A run is written anew when one part in so many of its bytes has expired: a byte is written for each that comes back,
/// and what has expired never takes more room than what lives.
const EXPIRED_PART: u64 = 2;

impl RunView {
    fn bytes(&self) -> u64 {
        self.tables.iter().map(|table| table.bytes).sum()
    }

    fn is_quarantined(&self) -> bool {
        self.tables.iter().any(|table| table.is_quarantined)
    }

    fn expired_bytes(&self, expired: Timestamp) -> u64 {
        let steps = self.tables.iter().flat_map(|table| &table.expiries);
        steps.filter(|(at, _)| *at <= expired).map(|(_, bytes)| bytes).sum()
    }

    fn is_worth_rewriting(&self, expired: Timestamp) -> bool {
        let bytes = self.expired_bytes(expired);
        bytes > 0 && bytes >= self.bytes() / EXPIRED_PART && !self.is_quarantined()
    }
}

impl TableView {
    fn overlaps(&self, other: &Self) -> bool {
        *self.bounds.first <= *other.bounds.last && *other.bounds.first <= *self.bounds.last
    }
}

/// What to do with `runs` (newest first), when what had expired at `expired` may be given up.
pub(super) fn pick(runs: &[RunView], expired: Timestamp) -> Option<Work> {
    let dead = dead_tables(runs, expired);
    if !dead.is_empty() {
        return Some(Work::Remove(dead));
    }
    let alike =
        (0..runs.len()).map(|start| window(runs, start, is_alike)).find(|window| window.len() >= WIDTH_MIN);
    let crowded = || {
        let widest =
            (0..runs.len()).map(|start| window(runs, start, |_, _| true)).find(|window| window.len() >= 2);
        widest.filter(|_| runs.len() > RUNS_MANY)
    };
    // The oldest first, and with it what lies beneath and is no larger: at the bottom an expired entry leaves nothing.
    let expired = || {
        let worth = (0..runs.len()).rev().find(|&run| runs[run].is_worth_rewriting(expired))?;
        Some(window(runs, worth, is_alike))
    };
    alike.or_else(crowded).or_else(expired).map(Work::Merge)
}

/// The first moment after `expired` at which there may be something to do though nothing is written.
pub(super) fn next_moment(runs: &[RunView], expired: Timestamp) -> Option<Timestamp> {
    let dead = runs.iter().flat_map(|run| &run.tables).filter_map(|table| table.dead_at);
    let worth = runs.iter().filter_map(|run| {
        let steps = run.tables.iter().flat_map(|table| &table.expiries).map(|(at, _)| *at);
        steps.filter(|at| *at > expired && run.is_worth_rewriting(*at)).min()
    });
    dead.filter(|at| *at > expired).chain(worth).min()
}

fn is_alike(bytes: u64, sum: u64) -> bool {
    bytes <= sum.saturating_mul(2)
}

/// The runs from `start` on that may be merged: as long as the next one is alike to the sum of those before.
fn window(runs: &[RunView], start: usize, is_alike: impl Fn(u64, u64) -> bool) -> Range<usize> {
    let (mut end, mut sum) = (start, 0);
    while end < runs.len()
        && end - start < WIDTH_MAX
        && !runs[end].is_quarantined()
        && (end == start || is_alike(runs[end].bytes(), sum))
    {
        sum += runs[end].bytes();
        end += 1;
    }
    start..end
}

/// The tables in which nothing lives and that hide nothing: no older table that stays shares their keys.
fn dead_tables(runs: &[RunView], expired: Timestamp) -> Vec<(usize, usize)> {
    let (mut dead, mut older): (Vec<(usize, usize)>, Vec<&TableView>) = Default::default();
    for (number, run) in runs.iter().enumerate().rev() {
        let mut staying = Vec::new();
        for (position, table) in run.tables.iter().enumerate() {
            let is_dead = !table.is_quarantined && table.dead_at.is_some_and(|at| at <= expired);
            if is_dead && !older.iter().any(|older| older.overlaps(table)) {
                dead.push((number, position));
            } else {
                staying.push(table);
            }
        }
        older.append(&mut staying);
    }
    dead
}

#[cfg(test)]
mod tests {
    use super::*;
    use pugdb_core::Key;

    fn table(bytes: u64, first: &str, last: &str) -> TableView {
        let key = |name: &str| Key::copy(name.as_bytes()).unwrap();
        TableView {
            bytes,
            bounds: Bounds { first: key(first), last: key(last) },
            is_quarantined: false,
            dead_at: None,
            expiries: Vec::new(),
        }
    }

    fn run(tables: impl IntoIterator<Item = TableView>) -> RunView {
        RunView { tables: tables.into_iter().collect() }
    }

    fn picked(sizes: &[u64]) -> Option<Range<usize>> {
        let view = |&bytes: &u64| run([TableView { is_quarantined: bytes == 0, ..table(bytes, "a", "z") }]);
        let runs: Vec<_> = sizes.iter().map(view).collect();
        pick(&runs, Timestamp(0)).map(|work| match work {
            Work::Merge(window) => window,
            Work::Remove(_) => unreachable!("nothing is dead"),
        })
    }

    #[test]
    fn four_alike_are_merged_and_a_much_larger_one_is_left() {
        assert_eq!(picked(&[]), None);
        assert_eq!(picked(&[5, 5, 5]), None);
        assert_eq!(picked(&[5, 5, 5, 5]), Some(0..4));
        assert_eq!(picked(&[5, 5, 5, 5, 1000]), Some(0..4));
        assert_eq!(picked(&[1, 100, 100, 100, 100]), Some(1..5));
    }

    #[test]
    fn a_quarantined_run_is_never_picked() {
        assert_eq!(picked(&[5, 5, 0, 5, 5]), None);
        assert_eq!(picked(&[5, 0, 5, 5, 5, 5]), Some(2..6));
        assert_eq!(picked(&[0; 30]), None);
    }

    #[test]
    fn a_crowd_is_thinned_whatever_the_sizes() {
        let growing: Vec<u64> = (0..14).map(|power| 1 << (3 * power)).collect();
        assert_eq!(picked(&growing[..12]), None);
        assert_eq!(picked(&growing), Some(0..14));
    }

    /// A table whose bytes expire at these moments, a like part at each; all that is left over lives.
    fn expiring(first: &str, last: &str, moments: &[u64]) -> TableView {
        let expiries = moments.iter().map(|&at| (Timestamp(at), 10)).collect();
        TableView { expiries, ..table(100, first, last) }
    }

    fn dead(first: &str, last: &str, at: u64) -> TableView {
        TableView { dead_at: Some(Timestamp(at)), ..expiring(first, last, &[at; 10]) }
    }

    fn at(runs: &[RunView], expired: u64) -> (Option<Work>, Option<u64>) {
        let expired = Timestamp(expired);
        (pick(runs, expired), next_moment(runs, expired).map(|at| at.0))
    }

    #[test]
    fn a_run_is_written_anew_when_half_of_it_has_expired() {
        let runs = [run([expiring("a", "m", &[1, 2, 3, 4, 5, 6])])];
        assert_eq!(at(&runs, 4), (None, Some(5)));
        assert_eq!(at(&runs, 5), (Some(Work::Merge(0..1)), Some(6)));
        let halved = [run([expiring("a", "m", &[1, 2, 3, 4, 5, 6]), table(100, "n", "z")])];
        assert_eq!(at(&halved, 6), (None, None));
    }

    #[test]
    fn what_lies_beneath_is_taken_along_when_it_is_no_larger() {
        let top = || run([expiring("a", "m", &[1, 1, 1, 1, 1, 1])]);
        assert_eq!(at(&[top(), run([table(200, "a", "z")])], 1).0, Some(Work::Merge(0..2)));
        assert_eq!(at(&[top(), run([table(201, "a", "z")])], 1).0, Some(Work::Merge(0..1)));
        let damaged = TableView { is_quarantined: true, ..table(10, "a", "z") };
        assert_eq!(at(&[top(), run([damaged.clone()])], 1).0, Some(Work::Merge(0..1)));
        let spoiled = run([expiring("a", "m", &[1; 10]), damaged]);
        assert_eq!(at(&[spoiled], 1).0, None);
    }

    #[test]
    fn a_table_in_which_nothing_lives_goes_unread() {
        let runs = [run([dead("a", "f", 5), table(100, "g", "z")]), run([table(500, "g", "z")])];
        assert_eq!(at(&runs, 4), (None, Some(5)));
        assert_eq!(at(&runs, 5), (Some(Work::Remove(vec![(0, 0)])), None));
    }

    #[test]
    fn a_dead_table_stays_while_an_older_one_shares_its_keys() {
        let old = || run([table(900, "f", "g")]);
        assert_eq!(
            at(&[run([dead("a", "f", 5)]), old()], 5).0,
            Some(Work::Merge(0..1)),
            "it becomes deletes"
        );
        let deletes = TableView { dead_at: Some(Timestamp(0)), ..table(100, "a", "f") };
        assert_eq!(at(&[run([deletes.clone()]), old()], 5).0, None);
        assert_eq!(
            at(&[run([deletes.clone()]), run([table(900, "g", "h")])], 5).0,
            Some(Work::Remove(vec![(0, 0)]))
        );
        // Newer ones are not hidden by it, and an older one that goes too is not in the way.
        assert_eq!(
            at(&[old(), run([deletes]), run([dead("a", "f", 5)])], 5).0,
            Some(Work::Remove(vec![(2, 0), (1, 0)]))
        );
    }

    #[test]
    fn a_dead_table_that_is_damaged_is_never_removed_and_is_in_the_way() {
        let damaged = TableView { is_quarantined: true, ..dead("a", "f", 5) };
        assert_eq!(at(&[run([dead("a", "b", 5)]), run([damaged])], 9).0, Some(Work::Merge(0..1)));
    }
}
