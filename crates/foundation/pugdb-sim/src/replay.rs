//! Runs a test over many seeds; a failure names its seed and the one command that replays it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Runs `test` with each seed. Where `PUGDB_SEED` is set, only with that one.
///
/// `target` is what stands between `cargo test` and the test's name, such as `-p pugdb-tests --test crash`.
///
/// # Panics
/// With the panic of `test`, after the command that replays it went to standard error.
#[expect(clippy::print_stderr, reason = "a test tool: this is how it reports")]
pub fn check(target: &str, name: &str, seeds: impl IntoIterator<Item = u64>, test: impl Fn(u64)) {
    let run = |seed| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(seed))) {
            eprintln!("seed {seed} fails; replay: PUGDB_SEED={seed} cargo test {target} {name}");
            resume_unwind(panic);
        }
    };
    match std::env::var("PUGDB_SEED") {
        Ok(seed) => run(seed.trim().parse().expect("PUGDB_SEED is a number")),
        Err(_) => seeds.into_iter().for_each(run),
    }
}
