//! Metamorphic test: one random script over many sets of options, whose answers must all be the same.

use pugdb_tests::metamorphic::check;

const TARGET: &str = "-p pugdb-tests --test metamorphic";
const STEPS: usize = 500;
/// With the first one, which all others are held against.
const SETS: usize = 9;

/// `PUGDB_META_SEEDS=1000` runs more of them (CONTRIBUTING.md).
#[test]
fn whatever_a_database_is_made_of_it_gives_the_same_answers() {
    let count = std::env::var("PUGDB_META_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(10);
    let name = "whatever_a_database_is_made_of_it_gives_the_same_answers";
    pugdb_sim::check(TARGET, name, 1..=count, |seed| {
        let tally = check(seed, STEPS, SETS);
        assert!(tally.flushes > 100 && tally.compactions > 50 && tally.value_file_bytes > 0, "{tally:?}");
        assert!(tally.slow_reads > 100, "{tally:?}");
    });
}
