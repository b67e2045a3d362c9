//! The suite every engine passes: named checks, each on fresh subjects, each against the model.
//!
//! | file | what it holds |
//! |---|---|
//! | `mod.rs` | what is tested ([`Subject`]) and how the checks are run |
//! | `harness.rs` | one subject with its model: writes go to both, reads are compared |
//! | `checks.rs` | the checks that tell a story each |
//! | `random.rs` | random operations, views and cursors held for a while |
//! | `tests.rs` | the engines in memory pass; engines broken on purpose do not |

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use pugdb_core::Timestamp;
use pugdb_core::engine::{Engine, Operands, Scans};
use pugdb_core::snapshots::Snapshots;

mod checks;
mod harness;
mod random;
#[cfg(test)]
mod tests;

use harness::{Harness, Maintenance};

/// The calendar when a check begins. Within a check less than [`SPAN_MS_MAX`] passes.
pub const START: Timestamp = Timestamp(1_750_000_000_000);
/// No check lets more time pass.
pub const SPAN_MS_MAX: u64 = 60_000;

/// An engine under test with what keeps it alive. One that folds operands does it as [`Concatenate`](crate::Concatenate) does.
pub trait Subject {
    /// The engine.
    fn engine(&self) -> &dyn Engine;

    /// Where the suite publishes what it has applied, and takes its snapshots.
    fn snapshots(&self) -> &Arc<Snapshots>;

    /// Called now and then: flush, compact, run background jobs.
    fn maintain(&mut self) {}

    /// The calendar goes forward to `now`. For an engine that looks at a clock of its own; the suite itself tells
    /// [`snapshots`](Self::snapshots), where its views hold on to their own `now`.
    fn set_clock(&mut self, now: Timestamp) {
        let _ = now;
    }

    /// Opens the engine again from whatever it has persisted, like after a crash; the suite then replays everything it
    /// has ever applied. No snapshot or cursor is alive. False when the engine cannot be reopened.
    fn reopen(&mut self) -> bool {
        false
    }
}

/// Which engines a check is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    Order,
    NoOrder,
    Operands,
    NoOperands,
}

struct Check {
    name: &'static str,
    needs: Needs,
    run: fn(&mut Harness),
    /// It runs once for each, on a fresh subject.
    maintenance: &'static [Maintenance],
}

const STORY: &[Maintenance] = &[Maintenance::Never, Maintenance::OneIn(1), Maintenance::OneIn(3)];
const RANDOM: &[Maintenance] = &[Maintenance::OneIn(6), Maintenance::OneIn(60)];

const fn story(name: &'static str, needs: Needs, run: fn(&mut Harness)) -> Check {
    Check { name, needs, run, maintenance: STORY }
}

const CHECKS: &[Check] = &[
    story("put, overwrite and delete", Needs::Nothing, checks::put_overwrite_and_delete),
    story("extreme keys and values", Needs::Nothing, checks::extreme_keys_and_values),
    story("many keys", Needs::Nothing, checks::many_keys),
    story("expiry is exact", Needs::Nothing, checks::expiry_is_exact),
    story("an expired entry hides older ones", Needs::Nothing, checks::an_expired_entry_hides_older_ones),
    story("attributes are kept", Needs::Nothing, checks::attributes_are_kept),
    story("one apply is in order", Needs::Nothing, checks::one_apply_is_in_order),
    story("gaps between seqnos", Needs::Nothing, checks::gaps_between_seqnos),
    story("old snapshots", Needs::Nothing, checks::old_snapshots),
    story("truncate", Needs::Nothing, checks::truncate),
    story("truncates between snapshots", Needs::Nothing, checks::truncates_between_snapshots),
    story("range delete", Needs::Order, checks::range_delete),
    story("range deletes in one apply", Needs::Order, checks::range_deletes_in_one_apply),
    story("range deletes between snapshots", Needs::Order, checks::range_deletes_between_snapshots),
    story("range deletes are refused", Needs::NoOrder, checks::range_deletes_are_refused),
    story("operands", Needs::Operands, checks::operands),
    story("operands on what expires", Needs::Operands, checks::operands_on_what_expires),
    story("operands between snapshots", Needs::Operands, checks::operands_between_snapshots),
    story("operands above what is hidden", Needs::Operands, checks::operands_above_what_is_hidden),
    story("a long chain of operands", Needs::Operands, checks::a_long_chain_of_operands),
    story("operands are refused", Needs::NoOperands, checks::operands_are_refused),
    story("replay is a no-op", Needs::Nothing, checks::replay_is_a_no_op),
    story("reopen and replay", Needs::Nothing, checks::reopen_and_replay),
    story("range deletes and the rest", Needs::Order, checks::range_deletes_and_the_rest),
    story("multi_get", Needs::Nothing, checks::multi_get),
    story("scan bounds", Needs::Order, checks::scan_bounds),
    story("scan prefixes", Needs::Order, checks::scan_prefixes),
    story("scan batches", Needs::Order, checks::scan_batches),
    story("scans pass over what is dead", Needs::Order, checks::scans_pass_over_what_is_dead),
    story("scans pass over deleted ranges", Needs::Order, checks::scans_pass_over_deleted_ranges),
    story("a scan keeps its read point", Needs::Order, checks::a_scan_keeps_its_read_point),
    story("a walk keeps its read point", Needs::NoOrder, checks::a_walk_keeps_its_read_point),
    story("changes since a read", Needs::Nothing, checks::changes_since_a_read),
    story("changes of ranges since a read", Needs::Order, checks::changes_of_ranges_since_a_read),
    story("scans by order are refused", Needs::NoOrder, checks::scans_by_order_are_refused),
    Check {
        name: "random operations",
        needs: Needs::Nothing,
        run: random::random_operations,
        maintenance: RANDOM,
    },
];

/// Runs every check on subjects that `make` makes. The same seed does the same again.
///
/// # Panics
/// When a check fails; the message names check and seed.
///
/// ```
/// use std::sync::Arc;
/// use pugdb_core::Seqno;
/// use pugdb_core::engine::Engine;
/// use pugdb_core::memory::Btree;
/// use pugdb_core::snapshots::Snapshots;
/// use pugdb_sim::conformance::{self, Subject};
///
/// struct Memory { snapshots: Arc<Snapshots>, engine: Btree }
///
/// impl Subject for Memory {
///     fn engine(&self) -> &dyn Engine { &self.engine }
///     fn snapshots(&self) -> &Arc<Snapshots> { &self.snapshots }
/// }
///
/// conformance::run_only("truncate", 1, &mut || {
///     let snapshots = Snapshots::new(Seqno::ZERO);
///     Box::new(Memory { engine: Btree::new(snapshots.clone()), snapshots })
/// });
/// ```
pub fn run(seed: u64, make: &mut dyn FnMut() -> Box<dyn Subject>) {
    for check in CHECKS {
        run_check(check, seed, make);
    }
}

/// Runs one check by its name, as a failure of [`run`] prints it.
///
/// # Panics
/// When the check fails, or no check has that name.
pub fn run_only(name: &str, seed: u64, make: &mut dyn FnMut() -> Box<dyn Subject>) {
    let check = CHECKS.iter().find(|check| check.name == name);
    run_check(check.expect("the name is one that a failure printed"), seed, make);
}

fn run_check(check: &Check, seed: u64, make: &mut dyn FnMut() -> Box<dyn Subject>) {
    for &maintenance in check.maintenance {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut harness = Harness::new(make(), fastrand::Rng::with_seed(seed), maintenance);
            let needed = match check.needs {
                Needs::Nothing => true,
                Needs::Order => harness.scans() == Scans::Ordered,
                Needs::NoOrder => harness.scans() == Scans::Unordered,
                Needs::Operands => harness.operands() == Operands::Folded,
                Needs::NoOperands => harness.operands() == Operands::Refused,
            };
            if needed {
                (check.run)(&mut harness);
            }
        }));
        if let Err(payload) = outcome {
            harness::fail(&format!(
                "engine conformance, check {:?}, seed {seed}, maintenance {maintenance:?}: {}\n\
                 again with: conformance::run_only({:?}, {seed}, …)",
                check.name,
                message(&*payload),
                check.name
            ));
        }
    }
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a panic without words")
}
