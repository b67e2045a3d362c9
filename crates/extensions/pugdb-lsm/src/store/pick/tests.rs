//! The picker: by tables of cases, and over long lives in which every version is followed.

use std::collections::BTreeMap;

use super::*;
use CompactionPolicy::{Fifo, LazyLeveled, Leveled, Tiered};

/// A table of this size is large in these tests.
const TABLE_BYTES: u64 = 100;
const SIZES: Sizes = Sizes { table_bytes: TABLE_BYTES, piece_bytes: TABLE_BYTES };

fn key(name: &str) -> Key {
    Key::copy(name.as_bytes()).unwrap()
}

fn table(bytes: u64, first: &str, last: &str) -> TableView {
    TableView {
        is_covered: false,
        covered: (0, 0),
        bytes,
        entries: bytes,
        deletes: 0,
        older: 0,
        bounds: Bounds { first: key(first), last: key(last) },
        is_quarantined: false,
        dead_at: None,
        expiries: Vec::new(),
        values: Vec::new(),
    }
}

pub(super) fn sized(bytes: u64) -> TableView {
    table(bytes, "", "")
}

/// Runs from the newest to the oldest.
pub(super) fn numbered(runs: impl IntoIterator<Item = Vec<TableView>>) -> Vec<RunView> {
    let runs: Vec<_> = runs.into_iter().collect();
    let count = runs.len() as u64;
    runs.into_iter().zip(0..).map(|(tables, at)| RunView { number: count - at, tables }).collect()
}

fn situation(policy: CompactionPolicy, runs: &[RunView]) -> Situation<'_> {
    let expired = Timestamp(0);
    Situation { policy, runs, sizes: SIZES, expired, is_quiet: false, rounds: &[] }
}

/// Which of the runs of these sizes are merged. A run of size 0 is damaged.
fn merged(policy: CompactionPolicy, sizes: &[u64], is_quiet: bool) -> Option<Range<usize>> {
    let runs = numbered(
        sizes.iter().map(|&bytes| vec![TableView { is_quarantined: bytes == 0, ..table(bytes, "a", "z") }]),
    );
    pick(&Situation { is_quiet, ..situation(policy, &runs) }).map(|work| match work {
        Work::Merge(round, _) => round.window(&runs),
        work => unreachable!("nothing is dead or expired: {work:?}"),
    })
}

#[test]
fn each_policy_has_its_own_idea_of_which_runs_become_one() {
    type Case = (CompactionPolicy, &'static [u64], Option<Range<usize>>);
    let cases: &[Case] = &[
        (LazyLeveled, &[], None),
        (LazyLeveled, &[5], None),
        (LazyLeveled, &[5, 5, 5, 5, 5, 5], None),
        (LazyLeveled, &[5, 5, 5, 5, 5, 5, 5], Some(0..7)),
        // The upper ones alone, while the last is much larger than all of them.
        (LazyLeveled, &[5, 5, 5, 5, 5, 5, 1000], Some(0..6)),
        (LazyLeveled, &[5, 5, 5, 5, 5, 1000], None),
        (LazyLeveled, &[5, 5, 30, 30, 30, 30, 1000], None),
        (LazyLeveled, &[5, 5, 30, 30, 30, 30, 30, 640], Some(0..8)),
        (LazyLeveled, &[5, 5, 30, 30, 30, 30, 30, 641], None),
        (LazyLeveled, &[30, 30, 30, 30, 30, 900], None),
        (Leveled, &[9, 100, 1100], None),
        (Leveled, &[10, 100, 1100], Some(0..2)),
        (Leveled, &[9, 100, 1000], Some(1..3)),
        (Tiered, &[5, 5, 5, 5, 5], None),
        (Tiered, &[5, 5, 5, 5, 5, 5], Some(0..6)),
        (Tiered, &[1, 100, 100, 100, 100, 100, 100], Some(1..7)),
        (Fifo, &[5, 5, 5, 5, 5, 5, 100, 100, 100, 100, 100, 100], Some(0..6)),
        (Fifo, &[5, 100, 100, 100, 100, 100, 100], None),
    ];
    for (policy, sizes, expected) in cases {
        assert_eq!(&merged(*policy, sizes, false), expected, "{policy:?} of {sizes:?}");
    }
}

#[test]
fn at_rest_little_is_left_above_the_last_run() {
    assert_eq!(merged(LazyLeveled, &[5, 5, 100], true), Some(0..3));
    assert_eq!(merged(LazyLeveled, &[5, 4, 100], true), None);
    for policy in [Leveled, Tiered, Fifo] {
        assert_eq!(merged(policy, &[4, 50, 1000], true), None, "{policy:?}");
    }
}

#[test]
fn a_delete_weighs_what_it_deletes() {
    let deletes = |deletes| {
        let upper = TableView { entries: 6, deletes, ..table(10, "a", "z") };
        let last = TableView { entries: 20, ..table(200, "a", "z") };
        let runs = numbered([vec![upper], vec![last]]);
        pick(&Situation { is_quiet: true, ..situation(LazyLeveled, &runs) }).is_some()
    };
    // Each is about an entry of ten bytes.
    assert!(!deletes(0) && deletes(1));
}

#[test]
fn a_damaged_run_is_never_picked_and_parts_the_others() {
    for policy in [LazyLeveled, Leveled, Tiered, Fifo] {
        assert_eq!(merged(policy, &[0; 40], true), None, "{policy:?}");
    }
    assert_eq!(merged(Tiered, &[5, 5, 5, 0, 5, 5, 5], false), None);
    assert_eq!(merged(Tiered, &[5, 0, 5, 5, 5, 5, 5, 5], false), Some(2..8));
    // Above a damaged one the oldest sound one takes in the others.
    assert_eq!(merged(LazyLeveled, &[50, 20, 100, 0, 100], true), Some(0..3));
}

#[test]
fn a_crowd_is_thinned_whatever_the_sizes() {
    let growing: Vec<u64> = (0..14).map(|power| 1 << (4 * power)).collect();
    for policy in [LazyLeveled, Leveled, Tiered] {
        assert_eq!(merged(policy, &growing[..12], false), None, "{policy:?}");
        assert_eq!(merged(policy, &growing, false), Some(0..14), "{policy:?}");
    }
    assert_eq!(merged(Fifo, &[100; 32], false), None);
    assert_eq!(merged(Fifo, &[100; 33], false), Some(0..16));
}

#[test]
fn a_long_merge_goes_on_and_lets_younger_runs_be_merged_meanwhile() {
    let sizes = |sizes: &[u64]| numbered(sizes.iter().map(|&bytes| vec![table(bytes, "a", "z")]));
    let runs = sizes(&[5, 5, 30, 900]);
    let round = Round { newest: 2, oldest: 1 };
    let next = |runs: &[RunView], rounds: &[Round]| match pick(&Situation {
        rounds,
        ..situation(LazyLeveled, runs)
    }) {
        Some(Work::Merge(round, _)) => Some(round),
        _ => None,
    };
    assert_eq!(next(&runs, &[]), None);
    assert_eq!(next(&runs, &[round]), Some(round));
    let crowded = sizes(&[5, 5, 5, 5, 5, 5, 30, 900]);
    let young = Round { newest: 8, oldest: 3 };
    assert_eq!(next(&crowded, &[round]), Some(young));
    assert_eq!(next(&crowded, &[round, young]), Some(young), "the younger one goes first");
    assert!(!round.is_over(&runs) && round.is_over(&runs[..3]) && round.is_over(&runs[3..]));
}

#[test]
fn a_piece_takes_whole_tables_of_the_target_and_leaves_the_rest_of_the_upper_ones() {
    let runs = numbered([
        vec![table(20, "a", "y")],
        vec![table(80, "b", "d"), table(90, "e", "f"), table(70, "g", "n"), table(90, "p", "z")],
    ]);
    let first = piece::merge(&runs, 0..2, SIZES);
    assert_eq!(first.inputs, [(0, 0), (1, 0), (1, 1)]);
    assert_eq!((first.before.clone(), first.target), (Some(key("g")), 1));
    // The rest of the upper one: what is before it in the target is not read again.
    let rest = numbered([vec![table(20, "g", "y")], runs[1].tables.clone()]);
    let last = piece::merge(&rest, 0..2, SIZES);
    assert_eq!((last.inputs, last.before), (vec![(0, 0), (1, 2), (1, 3)], None));
    // Where the target has no tables, a piece ends at any.
    let upper = ["a", "d", "g", "k", "p"].map(|first| table(90, first, &format!("{first}z")));
    let runs = numbered([upper.to_vec(), vec![table(10, "a", "z")]]);
    assert_eq!(piece::merge(&runs, 0..2, SIZES).before, Some(key("k")));
}

#[test]
fn what_overlaps_nothing_is_moved_and_what_is_not_reached_stays() {
    let runs = numbered([
        vec![table(10, "a", "c"), table(30, "h", "k"), table(5, "p", "q")],
        vec![table(20, "b", "d"), table(20, "l", "n"), table(20, "x", "z")],
    ]);
    let piece =
        piece::merge(&runs, 0..2, Sizes { table_bytes: TABLE_BYTES * 10, piece_bytes: TABLE_BYTES * 10 });
    // The last one of the newer run is alone, and too small to be moved.
    assert_eq!(piece.inputs, [(0, 0), (0, 1), (0, 2), (1, 0)]);
    let piece = piece::merge(&runs, 0..2, SIZES);
    assert_eq!(piece.inputs, [(0, 0), (0, 2), (1, 0)]);
    assert_eq!((piece.moved, piece.before), (vec![(0, 1)], None));
    assert_eq!(piece.guards, [key("h"), key("l"), key("x")], "what is written ends before each that stays");
}

/// A table whose bytes expire at these moments, a like part at each; all that is left over lives.
fn expiring(first: &str, last: &str, moments: &[u64]) -> TableView {
    let expiries = moments.iter().map(|&at| (Timestamp(at), 10)).collect();
    TableView { expiries, ..table(100, first, last) }
}

fn dead(first: &str, last: &str, at: u64) -> TableView {
    TableView { dead_at: Some(Timestamp(at)), ..expiring(first, last, &[at; 10]) }
}

/// What is done, in short, and when to look again.
fn at(runs: &[RunView], expired: u64) -> (Option<Done>, Option<u64>) {
    let expired = Timestamp(expired);
    let done = pick(&Situation { expired, ..situation(Tiered, runs) }).map(|work| match work {
        Work::Merge(round, _) => Merged(round.window(runs)),
        Work::Rewrite(piece) => Rewritten(piece.inputs),
        Work::Remove(places) => Removed(places),
    });
    (done, next_moment(runs, expired).map(|at| at.0))
}

#[derive(Debug, PartialEq, Eq)]
enum Done {
    Merged(Range<usize>),
    Rewritten(Vec<Place>),
    Removed(Vec<Place>),
}
use Done::{Merged, Removed, Rewritten};

#[test]
fn a_run_is_written_anew_when_half_of_it_has_expired() {
    let runs = numbered([vec![expiring("a", "m", &[1, 2, 3, 4, 5, 6])]]);
    assert_eq!(at(&runs, 4), (None, Some(5)));
    assert_eq!(at(&runs, 5), (Some(Rewritten(vec![(0, 0)])), Some(6)));
    let halved = numbered([vec![expiring("a", "m", &[1, 2, 3, 4, 5, 6]), table(100, "n", "z")]]);
    assert_eq!(at(&halved, 6), (None, None));
    let some =
        numbered([vec![table(20, "a", "b"), expiring("c", "m", &[1; 7]), expiring("n", "z", &[1; 9])]]);
    assert_eq!(
        at(&some, 6).0,
        Some(Rewritten(vec![(0, 1)])),
        "a piece at a time, and nothing that has not expired"
    );
}

#[test]
fn what_lies_beneath_is_taken_along_when_it_is_no_larger() {
    let top = || vec![expiring("a", "m", &[1, 1, 1, 1, 1, 1])];
    assert_eq!(at(&numbered([top(), vec![table(200, "a", "z")]]), 1).0, Some(Merged(0..2)));
    assert_eq!(at(&numbered([top(), vec![table(201, "a", "z")]]), 1).0, Some(Rewritten(vec![(0, 0)])));
    let damaged = TableView { is_quarantined: true, ..table(10, "a", "z") };
    assert_eq!(at(&numbered([top(), vec![damaged.clone()]]), 1).0, Some(Rewritten(vec![(0, 0)])));
    let spoiled = vec![expiring("a", "m", &[1; 10]), damaged];
    assert_eq!(at(&numbered([spoiled]), 1).0, None);
}

#[test]
fn a_table_in_which_nothing_lives_goes_unread() {
    let runs = numbered([vec![dead("a", "f", 5), table(4, "g", "z")], vec![table(500, "g", "z")]]);
    assert_eq!(at(&runs, 4), (None, Some(5)));
    assert_eq!(at(&runs, 5), (Some(Removed(vec![(0, 0)])), None));
}

#[test]
fn a_dead_table_stays_while_an_older_one_shares_its_keys() {
    let old = || vec![table(900, "f", "g")];
    assert_eq!(
        at(&numbered([vec![dead("a", "f", 5)], old()]), 5).0,
        Some(Rewritten(vec![(0, 0)])),
        "it becomes deletes"
    );
    let deletes = TableView { dead_at: Some(Timestamp(0)), ..table(100, "a", "f") };
    assert_eq!(at(&numbered([vec![deletes.clone()], old()]), 5).0, None);
    assert_eq!(
        at(&numbered([vec![deletes.clone()], vec![table(900, "g", "h")]]), 5).0,
        Some(Removed(vec![(0, 0)]))
    );
    // Newer ones are not hidden by it, and an older one that goes too is not in the way.
    assert_eq!(
        at(&numbered([old(), vec![deletes], vec![dead("a", "f", 5)]]), 5).0,
        Some(Removed(vec![(2, 0), (1, 0)]))
    );
}

#[test]
fn a_dead_table_that_is_damaged_is_never_removed_and_is_in_the_way() {
    let damaged = TableView { is_quarantined: true, ..dead("a", "f", 5) };
    assert_eq!(at(&numbered([vec![dead("a", "b", 5)], vec![damaged]]), 9).0, Some(Rewritten(vec![(0, 0)])));
}

/// A table of which range deletes hide so many bytes, in so many places.
fn covered(bytes: u64, first: &str, last: &str, covered: (u64, u64)) -> TableView {
    TableView { covered, ..table(bytes, first, last) }
}

#[test]
fn a_table_that_range_deletes_hide_goes_unread_whatever_lies_beneath() {
    let hidden = TableView { is_covered: true, ..table(100, "a", "f") };
    let runs = numbered([vec![hidden.clone(), table(4, "g", "z")], vec![table(500, "a", "z")]]);
    assert_eq!(at(&runs, 0).0, Some(Removed(vec![(0, 0)])));
    let damaged = TableView { is_quarantined: true, ..hidden };
    assert_eq!(at(&numbered([vec![damaged]]), 0).0, None);
}

#[test]
fn a_table_is_written_anew_when_range_deletes_hide_half_of_it_or_are_many() {
    const TABLE: u64 = 1 << 20;
    let all = TABLE / 2 - COVERED_PLACE_BYTES;
    let places = TABLE / 2 / COVERED_PLACE_BYTES;
    let cases = [
        ((0, 0), None),
        ((all - 1, 1), None),
        ((all, 1), Some(Rewritten(vec![(1, 1)]))),
        ((0, places - 1), None),
        ((0, places), Some(Rewritten(vec![(1, 1)]))),
    ];
    for (hidden, expected) in cases {
        let beneath = vec![table(TABLE, "a", "b"), covered(TABLE, "c", "d", hidden), table(TABLE, "e", "f")];
        assert_eq!(at(&numbered([vec![table(1, "a", "z")], beneath]), 0).0, expected, "{hidden:?}");
    }
    // Neither in a damaged run, nor a damaged table; somebody who asks for it gets what is there.
    let damaged = TableView { is_quarantined: true, ..covered(TABLE, "c", "d", (TABLE, 1)) };
    assert_eq!(at(&numbered([vec![damaged, covered(TABLE, "e", "f", (TABLE, 1))]]), 0).0, None);
    assert!(covered(TABLE, "c", "d", (0, 1)).can_shrink(&KeyRange::all(), Timestamp(0)));
    assert!(!table(TABLE, "c", "d").can_shrink(&KeyRange::all(), Timestamp(0)));
}

/// A tree of numbers, each entry a key and its seqno, which does what the picker says.
struct Life {
    policy: CompactionPolicy,
    random: fastrand::Rng,
    /// Newest first: number, tables.
    runs: Vec<(u64, Vec<Followed>)>,
    /// The newest seqno of each key.
    newest: BTreeMap<u32, u64>,
    rounds: Vec<Round>,
    seqno: u64,
    written: usize,
}

#[derive(Clone)]
struct Followed {
    entries: Vec<(u32, u64)>,
    first: u32,
    /// What the file holds, seen or not.
    bytes: u64,
}

fn name(key: u32) -> Key {
    Key::copy(&key.to_be_bytes()).unwrap()
}

impl Followed {
    fn new(entries: Vec<(u32, u64)>) -> Self {
        Self { first: entries[0].0, bytes: entries.len() as u64, entries }
    }

    fn last(&self) -> u32 {
        self.entries[self.entries.len() - 1].0
    }
}

impl Life {
    fn new(policy: CompactionPolicy, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self { policy, random, runs: vec![], newest: BTreeMap::new(), rounds: vec![], seqno: 0, written: 0 }
    }

    fn views(&self) -> Vec<RunView> {
        let view = |table: &Followed| TableView {
            bounds: Bounds { first: name(table.first), last: name(table.last()) },
            ..sized(table.bytes)
        };
        let run = |(number, tables): &(u64, Vec<Followed>)| RunView {
            number: *number,
            tables: tables.iter().map(view).collect(),
        };
        self.runs.iter().map(run).collect()
    }

    fn flush(&mut self, keys: Range<u32>, count: usize) {
        let mut entries = BTreeMap::new();
        for _ in 0..count {
            self.seqno += 1;
            entries.insert(self.random.u32(keys.clone()), self.seqno);
        }
        self.newest.extend(&entries);
        let number = self.runs.first().map_or(1, |run| run.0 + 1);
        self.written += entries.len();
        self.runs.insert(0, (number, vec![Followed::new(entries.into_iter().collect())]));
    }

    /// Does one piece of work. False when there is none.
    fn step(&mut self, is_quiet: bool) -> bool {
        let views = self.views();
        self.rounds.retain(|round| !round.is_over(&views));
        let rounds = self.rounds.clone();
        let next = pick(&Situation { is_quiet, rounds: &rounds, ..situation(self.policy, &views) });
        let Some(Work::Merge(round, piece)) = next else { return false };
        if self.rounds.last() != Some(&round) {
            self.rounds.push(round);
        }
        self.merge(&piece);
        true
    }

    fn merge(&mut self, piece: &Piece) {
        let before =
            piece.before.as_ref().map_or(u32::MAX, |key| u32::from_be_bytes((**key).try_into().unwrap()));
        let mut merged: BTreeMap<u32, u64> = BTreeMap::new();
        let mut places: Vec<&Place> = piece.inputs.iter().chain(&piece.moved).collect();
        places.sort();
        let mut target = Vec::new();
        for &&(run, table) in places.iter().rev() {
            let mut taken = self.runs[run].1.remove(table);
            if piece.moved.contains(&(run, table)) {
                target.push(taken);
                continue;
            }
            let rest = taken.entries.split_off(taken.entries.partition_point(|(key, _)| *key < before));
            for (key, seqno) in taken.entries {
                let newest = merged.entry(key).or_default();
                *newest = seqno.max(*newest);
            }
            if !rest.is_empty() {
                self.runs[run].1.insert(table, Followed { entries: rest, first: before, bytes: taken.bytes });
            }
        }
        self.written += merged.len();
        let guards: Vec<u32> =
            piece.guards.iter().map(|key| u32::from_be_bytes((**key).try_into().unwrap())).collect();
        let mut output: Vec<(u32, u64)> = Vec::new();
        for entry in merged {
            let is_guarded = output
                .last()
                .is_some_and(|last| guards.iter().any(|guard| last.0 < *guard && *guard <= entry.0));
            if is_guarded || output.len() as u64 >= TABLE_BYTES {
                target.push(Followed::new(std::mem::take(&mut output)));
            }
            output.push(entry);
        }
        if !output.is_empty() {
            target.push(Followed::new(output));
        }
        let run = &mut self.runs[piece.target].1;
        run.append(&mut target);
        run.sort_by_key(|table| table.first);
        self.runs.retain(|(_, tables)| !tables.is_empty());
    }

    fn check(&self) {
        for (_, tables) in &self.runs {
            assert!(tables.windows(2).all(|pair| pair[0].last() < pair[1].first), "tables of a run overlap");
        }
        for (key, seqno) in &self.newest {
            let mut found = self.runs.iter().flat_map(|(_, tables)| tables).filter_map(|table| {
                table.entries.binary_search_by_key(key, |entry| entry.0).ok().map(|at| table.entries[at].1)
            });
            assert_eq!(found.next(), Some(*seqno), "a newer version is beneath an older one");
            let older: Vec<u64> = found.collect();
            assert!(older.is_sorted_by(|one, other| one > other) && older.first() < Some(seqno));
        }
    }

    fn bytes(&self) -> u64 {
        self.runs.iter().flat_map(|(_, tables)| tables).map(|table| table.bytes).sum()
    }
}

#[test]
fn no_version_is_ever_above_a_newer_one_and_all_merges_end() {
    for (seed, policy) in (0..12).zip([LazyLeveled, Leveled, Tiered, Fifo].into_iter().cycle()) {
        let mut life = Life::new(policy, seed);
        for round in 0..120_u32 {
            // Anywhere, at the end, in one place.
            let keys = match (seed / 4 + u64::from(round) / 40) % 3 {
                0 => 0..3000,
                1 => round * 50..round * 50 + 100,
                _ => 700..760,
            };
            life.flush(keys, 40);
            let steps = life.random.usize(..4);
            for _ in 0..steps {
                life.step(false);
                life.check();
            }
        }
        let steps = (0..10_000).take_while(|_| life.step(true)).count();
        life.check();
        assert!(steps < 10_000, "{policy:?} with seed {seed} does not come to an end");
        if policy == LazyLeveled {
            let live = life.newest.len() as u64;
            assert!(life.bytes() * 10 <= live * 12, "{} bytes for {live} that live", life.bytes());
        }
    }
}

#[test]
fn lazy_leveling_writes_few_times_and_holds_little_that_is_old() {
    let written = |policy| {
        let mut life = Life::new(policy, 7);
        let mut most = 0;
        for _ in 0..400 {
            life.flush(0..5000, 50);
            while life.step(false) {}
            most = most.max(life.bytes());
        }
        (life.written / 20_000, most)
    };
    let (lazy, leveled, tiered) = (written(LazyLeveled), written(Leveled), written(Tiered));
    assert!(lazy.0 < leveled.0, "{lazy:?} {leveled:?} {tiered:?}");
    assert!(lazy.1 < 5000 * 3 / 2 && tiered.1 > lazy.1, "{lazy:?} {leveled:?} {tiered:?}");
}
