//! What to compact. Pure: sizes, bounds and expiries in, a piece of work out.
//!
//! `policy` says which runs become one, `piece` how far one piece of that goes: never more than some tables at a time, so
//! that a merge of any size needs little room and stands in nobody's way. A merge that is under way is a [`Round`].
//!
//! Expiry: a table in which nothing lives is removed unread, and a run of which a large part has expired is written anew,
//! also when nothing is written any more.
//!
//! Value files: `values` says which of them hold too much garbage, and tables that point into those are written anew.

mod piece;
mod policy;
#[cfg(test)]
mod tests;
mod values;

use std::ops::Range;

use pugdb_core::engine::KeyRange;
use pugdb_core::{Key, Timestamp};

pub(super) use piece::{Piece, rewrite as rewrite_some};
pub use policy::CompactionPolicy;
pub(super) use policy::runs_behind;
pub(super) use values::{collected, files_of};

use crate::table::Bounds;
use crate::values::ValueUse;

/// A run as the picker sees it.
#[derive(Clone, Debug)]
pub(super) struct RunView {
    pub(super) number: u64,
    pub(super) tables: Vec<TableView>,
}

/// A table as the picker sees it.
#[derive(Clone, Debug)]
pub(super) struct TableView {
    pub(super) bytes: u64,
    pub(super) entries: u64,
    pub(super) deletes: u64,
    /// Versions beneath newer ones of the same key.
    pub(super) older: u64,
    pub(super) bounds: Bounds,
    /// It is damaged: its run is left alone, and it is never removed.
    pub(super) is_quarantined: bool,
    /// From this moment on all that it holds is deleted or expired.
    pub(super) dead_at: Option<Timestamp>,
    /// At each moment so many bytes more have expired; ascending.
    pub(super) expiries: Vec<(Timestamp, u64)>,
    /// Range deletes hide all that it holds, and nobody reads before them.
    pub(super) is_covered: bool,
    /// How many bytes of it they hide, and in how many places.
    pub(super) covered: (u64, u64),
    /// The value files that it points into.
    pub(super) values: Vec<ValueUse>,
}

/// A table's place: the number of its run among the runs, and its own in the run.
pub(super) type Place = (usize, usize);

/// A merge of several runs that goes on, piece by piece, until only the oldest of them is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Round {
    /// The numbers of the runs at its ends.
    pub(super) newest: u64,
    pub(super) oldest: u64,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// A piece of the merge of several runs into the oldest of them.
    Merge(Round, Piece),
    /// Tables of one run are written anew, without what has expired, or with other value files.
    Rewrite(Piece),
    /// These tables go, unread.
    Remove(Vec<Place>),
}

/// How large things are to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// A table that is written.
    pub(super) table_bytes: u64,
    /// About what one piece of a merge reads.
    pub(super) piece_bytes: u64,
}

/// All that a decision rests on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation<'a> {
    pub(super) policy: CompactionPolicy,
    /// Newest first.
    pub(super) runs: &'a [RunView],
    pub(super) sizes: Sizes,
    /// What had expired at this moment may be given up.
    pub(super) expired: Timestamp,
    /// Little is written: time to make space.
    pub(super) is_quiet: bool,
    /// Merges under way, each of newer runs than those before it.
    pub(super) rounds: &'a [Round],
}

/// A run is written anew when one part in so many of its bytes has expired: a byte is written for each that comes back,
/// and what has expired never takes more room than what lives.
const EXPIRED_PART: u64 = 2;
/// The same of a table, for what range deletes hide in it.
const COVERED_PART: u64 = 2;
/// What a place counts in which a range delete hides something, beside the bytes it hides: as long as such places are left
/// in tables, reads have to know of the range delete, and it takes memory.
const COVERED_PLACE_BYTES: u64 = 4 << 10;

impl RunView {
    fn bytes(&self) -> u64 {
        self.tables.iter().map(|table| table.bytes).sum()
    }

    pub(super) fn is_quarantined(&self) -> bool {
        self.tables.iter().any(|table| table.is_quarantined)
    }

    fn expired_bytes(&self, expired: Timestamp) -> u64 {
        self.tables.iter().map(|table| table.expired_bytes(expired)).sum()
    }

    fn is_worth_rewriting(&self, expired: Timestamp) -> bool {
        let bytes = self.expired_bytes(expired);
        bytes > 0 && bytes >= self.bytes() / EXPIRED_PART && !self.is_quarantined()
    }
}

impl TableView {
    fn first(&self) -> &Key {
        &self.bounds.first
    }

    fn overlaps(&self, other: &Self) -> bool {
        *self.bounds.first <= *other.bounds.last && *other.bounds.first <= *self.bounds.last
    }

    /// Whether it can be written anew and has keys in `range`.
    pub(super) fn is_in(&self, range: &KeyRange) -> bool {
        !self.is_quarantined && !range.starts_after(&self.bounds.last) && !range.ends_before(self.first())
    }

    /// Whether writing it anew, at the bottom of the tree, may make something in `range` go.
    pub(super) fn can_shrink(&self, range: &KeyRange, expired: Timestamp) -> bool {
        self.is_in(range)
            && (self.deletes > 0 || self.older > 0 || self.expired_bytes(expired) > 0 || self.covered.1 > 0)
    }

    /// Half of it would go, because of range deletes.
    fn is_worth_rewriting(&self) -> bool {
        let (bytes, places) = self.covered;
        places > 0
            && bytes.saturating_add(places.saturating_mul(COVERED_PLACE_BYTES)) >= self.bytes / COVERED_PART
    }

    fn expired_bytes(&self, expired: Timestamp) -> u64 {
        self.expiries.iter().filter(|(at, _)| *at <= expired).map(|(_, bytes)| bytes).sum()
    }
}

impl Round {
    /// The runs it is about. Fewer than two: it is over.
    fn window(&self, runs: &[RunView]) -> Range<usize> {
        let start = runs.partition_point(|run| run.number > self.newest);
        start..runs.partition_point(|run| run.number >= self.oldest)
    }

    /// True when nothing is left to do, or a part of it is damaged.
    pub(super) fn is_over(&self, runs: &[RunView]) -> bool {
        let window = self.window(runs);
        window.len() < 2 || runs[window].iter().any(RunView::is_quarantined)
    }
}

/// What to do next. Rounds that are over are no part of the situation.
pub(super) fn pick(situation: &Situation<'_>) -> Option<Work> {
    let &Situation { policy, runs, sizes, expired, is_quiet, rounds } = situation;
    let dead = dead_tables(runs, expired);
    if !dead.is_empty() {
        return Some(Work::Remove(dead));
    }
    // What is newer than all that is under way may be merged meanwhile: a long round must not let young runs pile up.
    let merge = |window: Range<usize>| {
        let round = Round { newest: runs[window.start].number, oldest: runs[window.end - 1].number };
        Work::Merge(round, piece::merge(runs, window, sizes))
    };
    if let Some(round) = rounds.last() {
        let window = round.window(runs);
        let young = policy::young(policy, &runs[..window.start]).map(merge);
        return young.or_else(|| Some(Work::Merge(*round, piece::merge(runs, window, sizes))));
    }
    let expiring = || {
        // The oldest first, and with it what lies beneath and is no larger: at the bottom an expired entry leaves nothing.
        let worth = (0..runs.len()).rev().find(|&run| runs[run].is_worth_rewriting(expired))?;
        let window = policy::alike(runs, worth);
        if window.len() > 1 {
            return Some(merge(window));
        }
        let has_expired = |table: usize| runs[worth].tables[table].expired_bytes(expired) > 0;
        piece::rewrite(runs, worth, sizes, has_expired).map(Work::Rewrite)
    };
    let deleted = || {
        let sound = (0..runs.len()).rev().filter(|&run| !runs[run].is_quarantined());
        let mut pieces = sound.filter_map(|run| {
            piece::rewrite(runs, run, sizes, |table| runs[run].tables[table].is_worth_rewriting())
        });
        pieces.next().map(Work::Rewrite)
    };
    let wanted = policy::wanted(policy, runs, sizes.table_bytes, is_quiet).map(merge);
    wanted.or_else(expiring).or_else(deleted).or_else(|| values::collect(runs, sizes).map(Work::Rewrite))
}

/// The next piece of a merge of all runs up to the one with the number `newest`, as long as a part of `range` lies in
/// several of them. Damaged runs part the others.
pub(super) fn merge_range(runs: &[RunView], newest: u64, range: &KeyRange, sizes: Sizes) -> Option<Piece> {
    let is_in =
        |table: &TableView| !range.starts_after(&table.bounds.last) && !range.ends_before(table.first());
    let mut windows = policy::sound_windows(runs).map(|window| {
        let window = window.start.max(runs.partition_point(|run| run.number > newest))..window.end;
        policy::oldest(window)
    });
    let wanted = windows.find(|window| {
        window.len() > 1 && runs[window.start..window.end - 1].iter().flat_map(|run| &run.tables).any(is_in)
    });
    wanted.map(|window| piece::merge(runs, window, sizes))
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

/// The tables in which nothing lives and that hide nothing: no older table that stays shares their keys, or range deletes
/// hide what lies beneath as they hide the table.
fn dead_tables(runs: &[RunView], expired: Timestamp) -> Vec<Place> {
    let (mut dead, mut older): (Vec<Place>, Vec<&TableView>) = Default::default();
    let has_expired = |table: &TableView| table.dead_at.is_some_and(|at| at <= expired);
    let is_dead = |table: &TableView| !table.is_quarantined && (table.is_covered || has_expired(table));
    if !runs.iter().flat_map(|run| &run.tables).any(is_dead) {
        return dead;
    }
    for (number, run) in runs.iter().enumerate().rev() {
        let mut staying = Vec::new();
        for (position, table) in run.tables.iter().enumerate() {
            if is_dead(table) && (table.is_covered || !older.iter().any(|older| older.overlaps(table))) {
                dead.push((number, position));
            } else {
                staying.push(table);
            }
        }
        older.append(&mut staying);
    }
    dead
}
