//! Which value files are collected: what lives in them is written anew, and they go. Pure.
//!
//! Garbage comes about when a merge leaves out an entry whose value lies in a value file. A merge that meets a value in a
//! file that is mostly garbage moves the value. That bounds no garbage where nothing is merged: so tables are written anew
//! that point into the files with the least life, as long as too large a part of all is garbage.

use std::collections::{BTreeMap, BTreeSet};

use pugdb_core::FileId;

use super::{Piece, RunView, Sizes, piece};

/// A file shorter than one part in so many of a table is taken in by the merges that come by: there would be too many.
const SMALL_PART: u64 = 16;
/// A file of which less than one part in so many lives is left by every merge that comes by.
const LIVE_PART: u64 = 2;
/// When more than one part in so many of all value files is garbage, it is collected though nothing else is to be done: a
/// third more room than what lives, for the writing of three bytes for each that comes back at the most.
const GARBAGE_PART: u64 = 4;

/// A value file as the picker sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct FileView {
    /// Its length.
    pub(in crate::store) bytes: u64,
    /// Of its records.
    records: u64,
    /// Of those that tables point to.
    pub(in crate::store) live: u64,
    /// A damaged table points into it, which is never written anew.
    is_held: bool,
}

impl FileView {
    fn garbage(&self) -> u64 {
        self.records.saturating_sub(self.live)
    }

    fn is_mostly_garbage(&self) -> bool {
        self.live < self.records / LIVE_PART
    }
}

/// The value files into which tables point.
pub(in crate::store) fn files_of(runs: &[RunView]) -> BTreeMap<FileId, FileView> {
    let mut files: BTreeMap<FileId, FileView> = BTreeMap::new();
    for table in runs.iter().flat_map(|run| &run.tables) {
        for used in &table.values {
            let file = files.entry(used.file).or_default();
            (file.bytes, file.records) = (used.file_bytes, used.record_bytes);
            // A table that shows only a part of itself counts as a whole while a merge goes on, and then two count the same.
            file.live = file.live.saturating_add(used.bytes).min(file.records);
            file.is_held |= table.is_quarantined;
        }
    }
    files
}

/// The value files whose values are moved when they are met: those that are mostly garbage or small, and as long as too large a part
/// of all is garbage those with the least life, about as much as makes a piece.
pub(in crate::store) fn collected(runs: &[RunView], table_bytes: u64) -> BTreeSet<FileId> {
    let files = files_of(runs);
    let is_met = |file: &FileView| file.is_mostly_garbage() || file.bytes < table_bytes / SMALL_PART;
    let mut collected: BTreeSet<FileId> =
        files.iter().filter(|(_, file)| is_met(file)).map(|(id, _)| *id).collect();
    collected.extend(worst(&files, table_bytes));
    collected
}

/// Tables of one run that point into files that are to be collected though nothing else is to be done.
pub(super) fn collect(runs: &[RunView], sizes: Sizes) -> Option<Piece> {
    let worst = worst(&files_of(runs), sizes.table_bytes);
    if worst.is_empty() {
        return None;
    }
    // The oldest run first: there most values are.
    (0..runs.len()).rev().find_map(|run| {
        let points = |table: usize| {
            let values = &runs[run].tables[table].values;
            values.iter().any(|used| worst.contains(&used.file))
        };
        let is_sound = !runs[run].is_quarantined();
        is_sound.then(|| piece::rewrite(runs, run, sizes, points)).flatten()
    })
}

/// The files with the least life, when too large a part of all is garbage: so many that about as much as a piece takes lives
/// in them.
fn worst(files: &BTreeMap<FileId, FileView>, table_bytes: u64) -> Vec<FileId> {
    let mut free: Vec<(&FileId, &FileView)> = files.iter().filter(|(_, file)| !file.is_held).collect();
    let (bytes, garbage) = free.iter().fold((0_u64, 0_u64), |(bytes, garbage), (_, file)| {
        (bytes.saturating_add(file.records), garbage.saturating_add(file.garbage()))
    });
    if garbage <= bytes / GARBAGE_PART {
        return Vec::new();
    }
    let share = |file: &FileView| u128::from(file.live) * 1_000_000 / u128::from(file.records.max(1));
    free.sort_by_key(|(id, file)| (share(file), **id));
    let mut left = table_bytes;
    let mut is_first = true;
    free.into_iter()
        .take_while(|(_, file)| {
            let fits = file.garbage() > 0 && (is_first || file.live <= left);
            is_first = false;
            left = left.saturating_sub(file.live);
            fits
        })
        .map(|(id, _)| *id)
        .collect()
}

#[cfg(test)]
mod tests {
    use pugdb_core::seam::Sealing;

    use super::super::tests::{numbered, sized};
    use super::*;
    use crate::store::pick::TableView;
    use crate::values::ValueUse;

    const TABLE_BYTES: u64 = 1600;
    const SIZES: Sizes = Sizes { table_bytes: TABLE_BYTES, piece_bytes: TABLE_BYTES };

    fn id(number: u8) -> FileId {
        FileId([number; 16])
    }

    /// A table that points to so many bytes of files, of which all have 1000 bytes of records.
    fn pointing(to: &[(u8, u64)]) -> TableView {
        let values = to.iter().map(|&(number, bytes)| ValueUse {
            file: id(number),
            file_bytes: 1100,
            record_bytes: 1000,
            bytes,
            sealing: Sealing::Sealed,
        });
        TableView { values: values.collect(), ..sized(100) }
    }

    #[test]
    fn what_lives_in_a_file_is_the_sum_over_all_tables() {
        let runs = numbered([vec![pointing(&[(1, 300), (2, 1)])], vec![pointing(&[(1, 200), (3, 1000)])]]);
        let files = files_of(&runs);
        let live = |number| (files[&id(number)].bytes, files[&id(number)].live);
        assert_eq!([1, 2, 3].map(live), [(1100, 500), (1100, 1), (1100, 1000)]);
        // A table that is on its way in two runs at once does not make more live than there is.
        let twice = numbered([vec![pointing(&[(1, 800)])], vec![pointing(&[(1, 800)])]]);
        assert_eq!(files_of(&twice)[&id(1)].live, 1000);
    }

    #[test]
    fn files_that_are_mostly_garbage_or_small_are_left_by_every_merge() {
        let runs = numbered([vec![pointing(&[(1, 499), (2, 500), (3, 1000), (4, 1000), (5, 1000)])]]);
        assert_eq!(collected(&runs, TABLE_BYTES), BTreeSet::from([id(1)]));
        assert_eq!(collected(&runs, 16 * 1100), BTreeSet::from([id(1)]));
        let all = [1, 2, 3, 4, 5].map(id);
        assert_eq!(collected(&runs, 16 * 1101), BTreeSet::from(all));
    }

    #[test]
    fn tables_are_written_anew_as_long_as_more_than_a_quarter_is_garbage() {
        let places = |runs: &[RunView]| collect(runs, SIZES).map(|piece| piece.inputs);
        let quarter = numbered([vec![pointing(&[(1, 750), (2, 750)])]]);
        assert_eq!(places(&quarter), None);
        // The files with the least life, about a piece of them, and the oldest run first.
        let runs = numbered([
            vec![pointing(&[(1, 100)]), pointing(&[(3, 900)])],
            vec![pointing(&[(4, 1000)]), pointing(&[(2, 600)]), pointing(&[(5, 950), (1, 100)])],
        ]);
        assert_eq!(places(&runs), Some(vec![(1, 1), (1, 2)]));
        let none = numbered([vec![sized(100)]]);
        assert_eq!(places(&none), None);
    }

    #[test]
    fn what_a_damaged_table_points_to_is_left_alone() {
        let damaged = TableView { is_quarantined: true, ..pointing(&[(1, 10), (2, 10)]) };
        let runs = numbered([vec![damaged], vec![pointing(&[(1, 10), (3, 1000)])]]);
        assert_eq!(collect(&runs, SIZES), None);
    }

    #[test]
    fn collecting_ends_with_little_garbage_and_writes_a_few_bytes_for_each_that_comes_back() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..200 {
            let mut next = 100;
            let table = |rng: &mut fastrand::Rng| {
                let to: Vec<(u8, u64)> = (0..rng.u8(1..6))
                    .map(|_| rng.u8(..20))
                    .collect::<BTreeSet<u8>>()
                    .into_iter()
                    .map(|number| (number, rng.u64(1..120)))
                    .collect();
                pointing(&to)
            };
            let mut runs = numbered((0..3).map(|_| (0..4).map(|_| table(&mut rng)).collect::<Vec<_>>()));
            let garbage = |runs: &[RunView]| files_of(runs).values().map(FileView::garbage).sum::<u64>();
            let (before, mut written, mut steps) = (garbage(&runs), 0, 0);
            while let Some(piece) = collect(&runs, SIZES) {
                let going = collected(&runs, TABLE_BYTES);
                for (run, table) in piece.inputs {
                    let values = &mut runs[run].tables[table].values;
                    let (gone, mut kept): (Vec<ValueUse>, Vec<ValueUse>) =
                        values.iter().partition(|used| going.contains(&used.file));
                    let bytes = gone.iter().map(|used| used.bytes).sum();
                    kept.push(ValueUse {
                        file: id(next),
                        file_bytes: bytes + 100,
                        record_bytes: bytes,
                        bytes,
                        sealing: Sealing::Sealed,
                    });
                    (*values, written, next) = (kept, written + bytes, next + 1);
                }
                steps += 1;
                assert!(steps < 100, "it ends");
            }
            let files = files_of(&runs);
            let bytes: u64 = files.values().map(|file| file.records).sum();
            assert!(garbage(&runs) * GARBAGE_PART <= bytes, "{files:?}");
            assert!(written <= 3 * before, "{written} for {before}");
        }
    }
}
