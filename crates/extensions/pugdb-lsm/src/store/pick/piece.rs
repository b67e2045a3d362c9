//! How far one piece of a merge goes, and what becomes of each table in its way. Pure.
//!
//! A merge moves keys down into the oldest of its runs, from the smallest key on. A piece ends before a key: tables of
//! smaller keys are used up, and one that goes on behind it shows from then on only what is left of it. So the runs
//! never share a version, whatever was done, and a version is never above a newer one.
//!
//! ```text
//!  newer   |------a------|   |---b---|        before the piece
//!  newest  |--c--|
//!  target  |-d-| |-e-|  |-f-|    |--g--|
//!                       ^ before
//!  newer                |-a--|   |---b---|    a piece later: c, d and e are used up
//!  target  |--new--|    |-f-|    |--g--|
//! ```

use std::ops::Range;

use pugdb_core::Key;

use super::policy::MOVED_PART;
use super::{Place, RunView, Sizes, TableView};

/// One piece of a merge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Piece {
    /// The run that takes in what is written.
    pub(in crate::store) target: usize,
    /// The tables that are read.
    pub(in crate::store) inputs: Vec<Place>,
    /// The tables that go into the target as they are.
    pub(in crate::store) moved: Vec<Place>,
    /// Only keys before this one.
    pub(in crate::store) before: Option<Key>,
    /// No table that is written goes on at or behind one of these: there a table of the target begins that stays.
    pub(in crate::store) guards: Vec<Key>,
}

/// The first piece of the merge of the runs in `window`, of which there are two or more.
pub(super) fn merge(runs: &[RunView], window: Range<usize>, sizes: Sizes) -> Piece {
    let target = window.end - 1;
    let upper: Vec<(Place, &TableView)> = (window.start..target).flat_map(|run| places(runs, run)).collect();
    let before = end_of_piece(&upper, &runs[target].tables, sizes.piece_bytes);
    let is_in = |table: &TableView| before.as_ref().is_none_or(|before| *table.first() < *before);
    let is_whole = |table: &TableView| before.as_ref().is_none_or(|before| table.bounds.last < *before);
    let upper: Vec<(Place, &TableView)> = upper.into_iter().filter(|(_, table)| is_in(table)).collect();
    let beneath: Vec<(Place, &TableView)> = places(runs, target).filter(|(_, table)| is_in(table)).collect();
    let is_alone = |&(place, table): &(Place, &TableView)| {
        table.bytes >= sizes.table_bytes / MOVED_PART
            && is_whole(table)
            && !upper.iter().chain(&beneath).any(|&(other, at)| other != place && at.overlaps(table))
    };
    let (moved, read): (Vec<_>, Vec<_>) = upper.iter().partition(|table| is_alone(table));
    let (rewritten, staying): (Vec<_>, Vec<_>) =
        beneath.iter().partition(|(_, table)| read.iter().any(|(_, upper)| upper.overlaps(table)));
    let mut guards: Vec<Key> = moved.iter().chain(&staying).map(|(_, table)| table.first().clone()).collect();
    guards.sort();
    let only_place = |(place, _): (Place, &TableView)| place;
    Piece {
        target,
        inputs: read.into_iter().chain(rewritten).map(only_place).collect(),
        moved: moved.into_iter().map(only_place).collect(),
        before,
        guards,
    }
}

/// Tables of the run that are worth it, about as many as make a piece.
pub(in crate::store) fn rewrite(
    runs: &[RunView],
    run: usize,
    sizes: Sizes,
    is_worth: impl Fn(usize) -> bool,
) -> Option<Piece> {
    let (mut inputs, mut guards, mut bytes) = (Vec::new(), Vec::new(), 0);
    for (place, table) in places(runs, run) {
        if bytes < sizes.piece_bytes && is_worth(place.1) {
            bytes += table.bytes;
            inputs.push(place);
        } else {
            guards.push(table.first().clone());
        }
    }
    (!inputs.is_empty()).then_some(Piece { target: run, inputs, moved: Vec::new(), before: None, guards })
}

fn places(runs: &[RunView], run: usize) -> impl Iterator<Item = (Place, &TableView)> {
    runs[run].tables.iter().enumerate().map(move |(table, view)| ((run, table), view))
}

/// The key before which the piece ends: where a table of the target begins, when tables of about a piece's size are
/// used up, or where any does, when it is twice as much. That is what it needs of room, and what is lost when it is given
/// up. A table that goes on behind the end counts for nothing: a small part of it is read.
fn end_of_piece(upper: &[(Place, &TableView)], target: &[TableView], piece_bytes: u64) -> Option<Key> {
    let start = upper.iter().map(|(_, table)| table.first()).min()?;
    let beneath = target.iter().filter(|table| table.bounds.last >= *start).map(|table| (table, true));
    let tables: Vec<(&TableView, bool)> =
        beneath.chain(upper.iter().map(|&(_, table)| (table, false))).collect();
    let mut ends: Vec<(&Key, u64)> =
        tables.iter().map(|(table, _)| (&table.bounds.last, table.bytes)).collect();
    let mut starts: Vec<(&Key, bool)> =
        tables.iter().map(|&(table, is_target)| (table.first(), is_target)).collect();
    ends.sort_unstable();
    starts.sort_unstable();
    let (mut used, mut ends) = (0, ends.into_iter().peekable());
    for (first, is_target) in starts {
        while let Some((_, bytes)) = ends.next_if(|(last, _)| *last < first) {
            used += bytes;
        }
        // Behind the smallest key of all, so that something is done.
        let is_end = used >= piece_bytes.saturating_mul(2) || used >= piece_bytes && is_target;
        if is_end && first > start {
            return Some(first.clone());
        }
    }
    None
}
