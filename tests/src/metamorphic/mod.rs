//! Metamorphic runs: one random script over databases that are made in different ways, whose answers must all be the same.
//!
//! | file | what it is |
//! |---|---|
//! | `mod.rs` | runs a script in each set of options and compares the answers |
//! | `script.rs` | what is asked and changed, drawn from a seed before any database is there |
//! | `run.rs` | does it on one database, and says what was answered |
//! | `sets.rs` | the sets of options |
//!
//! Left out is what may differ: approximate numbers (which are asked for, and not compared), and compaction filters, which
//! forget when there is a merge.
//!
//! No model tells what is right, so nothing has to be left out that a model does not know. What all sets do wrong alike is
//! not noticed here: that is for the model test. The idea is that of Pebble's `internal/metamorphic`.

mod run;
mod script;
mod sets;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use script::Script;
use sets::Set;

/// What one set of options answered, an answer for each step and one for the end.
type Answers = Vec<String>;

/// Runs the script of `seed` in the sets `0..sets`. Set 0 is what a user gets who says nothing; all are held against it.
///
/// # Panics
/// When the answers of two sets differ: with both sets and the first step at which they do.
#[expect(clippy::panic, reason = "a test tool: this is how it reports")]
pub fn check(seed: u64, steps: usize, sets: usize) -> Tally {
    let script = Script::draw(seed, steps);
    let mut tally = Tally::default();
    let reference = Set::of(&script, 0);
    let expected = answers(&script, &reference, &mut tally);
    for number in 1..sets {
        let set = Set::of(&script, number);
        let found = answers(&script, &set, &mut tally);
        let Some(at) = (0..=steps).find(|&at| expected[at] != found[at]) else { continue };
        let [left, right] = around_difference(&expected[at], &found[at]);
        panic!(
            "step {at} of seed {seed} has two answers in sets 0 and {}: {:?}\n{reference:?}\n  answers {left}\n{set:?}\n  \
             answers {right}",
            set.number,
            script.ops.get(at)
        );
    }
    tally
}

fn answers(script: &Script, set: &Set, tally: &mut Tally) -> Answers {
    let mut run = run::Run::new(set);
    let mut answers = Vec::with_capacity(script.ops.len() + 1);
    for (at, op) in script.ops.iter().enumerate() {
        let answer = catch_unwind(AssertUnwindSafe(|| run.step(op))).unwrap_or_else(|panic| {
            say(&format!("at step {at} of seed {}: {op:?}\n{set:?}", script.seed));
            resume_unwind(panic);
        });
        answers.push(answer);
    }
    answers.push(run.finish(tally));
    answers
}

#[expect(clippy::print_stderr, reason = "a test tool: this is how it reports")]
fn say(text: &str) {
    eprintln!("{text}");
}

/// The two from a little before their first difference on: answers can be long.
fn around_difference(left: &str, right: &str) -> [String; 2] {
    let same = left.chars().zip(right.chars()).take_while(|(left, right)| left == right).count();
    let from = same.saturating_sub(80);
    [left, right].map(|text| text.chars().skip(from).take(400).collect())
}

/// What happened in all sets together: a run in which nothing happened proves nothing.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Memtables written to tables.
    pub flushes: u64,
    /// Merges.
    pub compactions: u64,
    /// Parts of merges that further threads merged.
    pub parts_beside: u64,
    /// Reads that took their time.
    pub slow_reads: u64,
    /// Bytes of values that lie beside their tables, as far as they were there at an end.
    pub value_file_bytes: u64,
    /// Answers that were errors, by intent or not.
    pub refusals: u64,
}
