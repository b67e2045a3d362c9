//! A test that runs another test of its program in a process of its own and kills that one at any moment.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pugdb_core::env::{Env, Event};

const DIR: &str = "PUGDB_KILLED_DIR";
const SEED: &str = "PUGDB_KILLED_SEED";

/// What the process that will be killed is to do; `None` in an ordinary run of the tests. A panic of any of its threads ends all of
/// it: that is how the other process learns of it.
///
/// # Panics
/// When only one of the two variables is set.
pub fn told() -> Option<(PathBuf, u64)> {
    let dir = std::env::var(DIR).ok()?;
    std::panic::set_hook(Box::new(|what| {
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "{what}");
        std::process::abort();
    }));
    let seed = std::env::var(SEED).expect("it is set with the directory").parse().expect("it is a number");
    Some((dir.into(), seed))
}

/// Runs `test`, which asks [`told`], and kills its process after this long.
///
/// # Panics
/// When it ends by itself: a check in it has failed.
pub fn run_and_kill(test: &str, dir: &Path, seed: u64, after: Duration) {
    let env = Env::os();
    let mut child = Command::new(std::env::current_exe().expect("it runs"));
    child.args(["--exact", test, "--nocapture"]).env(DIR, dir).env(SEED, seed.to_string());
    let mut child = child.spawn().expect("the program starts again");
    let until = env.clock.monotonic() + after;
    let mut has_ended = || child.try_wait().expect("it is our child").is_some();
    let ended = env.executor.block_until(&Event::default(), Some(until), &mut has_ended);
    assert!(!ended && !has_ended(), "seed {seed}: a check of the process has failed; see above");
    child.kill().expect("it lives");
    child.wait().expect("it is our child");
}
