//! Which runs become one. Pure.

use std::ops::Range;

use super::{RunView, TableView};

/// Which sorted runs are merged, and when: how often an entry is written against how many runs a read looks into and how
/// much room old versions take.
///
/// | policy | an entry is written | runs | room beside what lives |
/// |---|---|---|---|
/// | [`LazyLeveled`](Self::LazyLeveled) | few times | one large, some small | a quarter while writing, a tenth at rest |
/// | [`Leveled`](Self::Leveled) | often | fewest | a tenth |
/// | [`Tiered`](Self::Tiered) | fewest times | most | as much again and more |
/// | [`Fifo`](Self::Fifo) | once or twice | as time goes | what has expired in part |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CompactionPolicy {
    /// All that is old in one run, and above it runs of like size that are merged when there are six: Dayan and Idreos,
    /// "Dostoevsky" (2018).
    #[default]
    LazyLeveled,
    /// Each run is a tenth of the one beneath it, or less: for little room and fast scans.
    Leveled,
    /// Runs of like size are merged when there are six, the oldest too: for writes above all.
    Tiered,
    /// Runs are merged while they are small. From then on tables go whole, unread, when all in them has expired: for
    /// entries that expire in about the order in which they come.
    Fifo,
}

/// So many runs of like size are merged.
const WIDTH_MIN: usize = 6;
/// Never more at once: a merge holds some blocks of each in memory.
const WIDTH_MAX: usize = 16;
/// With more runs than this the youngest are merged whatever their sizes: reads look into every run.
const RUNS_MANY: usize = 12;
/// Who does not merge for the sake of reads is only kept from having writers wait.
const RUNS_MANY_FIFO: usize = 32;
/// Above the last run there is at most one part in so many of it, while there is something to write. With a sixth a byte
/// is written 7.8 times instead of 6.1, when a flush is a hundredth of the data (ADR 19).
const UPPER_PART: u64 = 4;
/// The same at rest: what takes room beside what lives.
const UPPER_PART_QUIET: u64 = 10;
/// Leveled: a run and the one beneath it.
const LEVEL_RATIO: u64 = 10;
/// A table goes into another run as it is, unread, when it shares no keys with others and has at least one part in so
/// many of a table's size. Smaller ones would become too many.
pub(super) const MOVED_PART: u64 = 16;

/// The runs that are to become one, when no merge is under way.
pub(super) fn wanted(
    policy: CompactionPolicy,
    runs: &[RunView],
    table_bytes: u64,
    is_quiet: bool,
) -> Option<Range<usize>> {
    sound_windows(runs).find_map(|window| {
        let found = wanted_within(policy, &runs[window.clone()], table_bytes, is_quiet)?;
        Some(window.start + found.start..window.start + found.end)
    })
}

/// A damaged run is left alone: it parts those above it from those beneath. Newest first; some are empty.
pub(super) fn sound_windows(runs: &[RunView]) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    runs.split(RunView::is_quarantined).map(move |window| {
        let window = start..start + window.len();
        start = window.end + 1;
        window
    })
}

/// The oldest runs of a window, as many as are merged at once.
pub(super) fn oldest(window: Range<usize>) -> Range<usize> {
    window.start.max(window.end.saturating_sub(WIDTH_MAX))..window.end
}

/// With more runs than this compaction is behind.
pub(in crate::store) fn runs_behind(policy: CompactionPolicy) -> usize {
    runs_many(policy) + RUNS_MANY / 3
}

fn runs_many(policy: CompactionPolicy) -> usize {
    if policy == CompactionPolicy::Fifo { RUNS_MANY_FIFO } else { RUNS_MANY }
}

fn wanted_within(
    policy: CompactionPolicy,
    runs: &[RunView],
    table_bytes: u64,
    is_quiet: bool,
) -> Option<Range<usize>> {
    let (last, upper) = runs.split_last()?;
    let by_policy = match policy {
        CompactionPolicy::LazyLeveled => {
            let part = if is_quiet { UPPER_PART_QUIET } else { UPPER_PART };
            let many = |bytes: u64| {
                is_quiet || upper.first().is_some_and(|newest| bytes >= newest.bytes() * WIDTH_MIN as u64)
            };
            let bytes: u64 = upper.iter().map(RunView::bytes).sum();
            if !upper.is_empty() && many(bytes) && weight(upper, last).saturating_mul(part) >= last.bytes() {
                Some(oldest(0..runs.len()))
            } else {
                tier(upper)
            }
        }
        CompactionPolicy::Leveled => {
            let is_too_large = |pair: &[RunView]| pair[0].bytes() * LEVEL_RATIO >= pair[1].bytes();
            runs.windows(2).position(is_too_large).map(|at| at..at + 2)
        }
        CompactionPolicy::Tiered => tier(runs),
        CompactionPolicy::Fifo => {
            // A run as large as a table is merged no more.
            tier(&runs[..runs.iter().position(|run| run.bytes() >= table_bytes).unwrap_or(runs.len())])
        }
    };
    by_policy.or_else(|| apart(runs, table_bytes)).or_else(|| crowd(policy, runs))
}

/// The runs that are to become one, of those that are newer than a merge under way.
pub(super) fn young(policy: CompactionPolicy, runs: &[RunView]) -> Option<Range<usize>> {
    let sound = runs.iter().position(RunView::is_quarantined).unwrap_or(runs.len());
    let runs = &runs[..sound];
    tier(runs).or_else(|| crowd(policy, runs))
}

/// What merging `upper` into `last` may bring back: their own bytes, and for each delete an entry beneath.
fn weight(upper: &[RunView], last: &RunView) -> u64 {
    let entries: u64 = last.tables.iter().map(|table| table.entries).sum();
    let deletes: u64 = upper.iter().flat_map(|run| &run.tables).map(|table| table.deletes).sum();
    let bytes: u64 = upper.iter().map(RunView::bytes).sum();
    bytes.saturating_add(deletes.saturating_mul(last.bytes() / entries.max(1)))
}

/// The youngest runs of like size, when there are enough of them.
fn tier(runs: &[RunView]) -> Option<Range<usize>> {
    (0..runs.len()).map(|start| alike(runs, start)).find(|window| window.len() >= WIDTH_MIN)
}

/// The runs from `start` on that are merged together: as long as the next one is not much larger than those before.
pub(super) fn alike(runs: &[RunView], start: usize) -> Range<usize> {
    let (mut end, mut sum) = (start, 0_u64);
    while end < runs.len()
        && end - start < WIDTH_MAX
        && !runs[end].is_quarantined()
        && (end == start || runs[end].bytes() <= sum.saturating_mul(2))
    {
        sum += runs[end].bytes();
        end += 1;
    }
    start..end
}

/// Two neighbours that share no keys, of tables that are large enough to be moved.
fn apart(runs: &[RunView], table_bytes: u64) -> Option<Range<usize>> {
    let is_apart = |pair: &[RunView]| {
        pair[0].tables.iter().all(|table| table.bytes >= table_bytes / MOVED_PART)
            && !share_keys(&pair[0].tables, &pair[1].tables)
    };
    runs.windows(2).position(is_apart).map(|at| at..at + 2)
}

/// Whether tables of two runs overlap, both in key order.
fn share_keys(one: &[TableView], other: &[TableView]) -> bool {
    one.iter().any(|table| {
        let next = other.partition_point(|other| *other.bounds.last < *table.bounds.first);
        other.get(next).is_some_and(|other| other.overlaps(table))
    })
}

/// The youngest runs, when there are too many.
fn crowd(policy: CompactionPolicy, runs: &[RunView]) -> Option<Range<usize>> {
    (runs.len() > runs_many(policy)).then(|| 0..runs.len().min(WIDTH_MAX))
}
