//! Which runs to merge. Pure: sizes in, a window of runs out.
//!
//! Size-tiered: runs of like size are merged when there are enough of them, so an entry is rewritten about once for
//! every fourfold growth of the tree. A simple policy (`docs/adr/`).

use std::ops::Range;

/// A run as the picker sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunSize {
    pub(super) bytes: u64,
    /// It has a damaged table: it is left alone.
    pub(super) is_quarantined: bool,
}

/// So many runs of like size are merged.
const WIDTH_MIN: usize = 4;
/// Never more at once: a merge holds a block of each in memory.
const WIDTH_MAX: usize = 16;
/// With more runs than this the youngest are merged whatever their sizes: reads look into every run.
const RUNS_MANY: usize = 12;

/// The runs to merge, as a range of `runs` (newest first).
pub(super) fn pick(runs: &[RunSize]) -> Option<Range<usize>> {
    let window = |start: usize, is_alike: &dyn Fn(u64, u64) -> bool| {
        let (mut end, mut sum) = (start, 0);
        while end < runs.len()
            && end - start < WIDTH_MAX
            && !runs[end].is_quarantined
            && (end == start || is_alike(runs[end].bytes, sum))
        {
            sum += runs[end].bytes;
            end += 1;
        }
        start..end
    };
    let alike = (0..runs.len())
        .map(|start| window(start, &|bytes, sum| bytes <= sum.saturating_mul(2)))
        .find(|window| window.len() >= WIDTH_MIN);
    let crowded = || {
        let widest =
            (0..runs.len()).map(|start| window(start, &|_, _| true)).find(|window| window.len() >= 2);
        widest.filter(|_| runs.len() > RUNS_MANY)
    };
    alike.or_else(crowded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(sizes: &[u64]) -> Option<Range<usize>> {
        let runs: Vec<_> = sizes.iter().map(|&bytes| RunSize { bytes, is_quarantined: bytes == 0 }).collect();
        pick(&runs)
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
}
