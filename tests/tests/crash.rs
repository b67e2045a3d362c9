//! Crash suites: scripts cut at every call to the disk, calls that fail, recoveries that are cut. What is left is always
//! a prefix of the commits, with everything acknowledged at its durability, and never half a batch.

use std::io;

use pugdb_sim::check;
use pugdb_tests::crash::Dress;
use pugdb_tests::crash_scripts::{
    FLUSH_BEFORE_SYNC, GROUPS, LOG_ONLY, OPERANDS, PARTITIONS, RANGES, TABLES, UNLOGGED, cut_at_calls,
    cut_recovery, fail_each_call, random_script,
};

const TARGET: &str = "-p pugdb-tests --test crash";

#[test]
fn a_log_cut_at_every_call_leaves_a_prefix() {
    check(TARGET, "a_log_cut_at_every_call_leaves_a_prefix", 0..3, |seed| {
        cut_at_calls(seed, LOG_ONLY, Dress::Plain, 1, &|_| {});
    });
}

#[test]
fn a_sealed_log_cut_at_every_call_leaves_a_prefix() {
    check(TARGET, "a_sealed_log_cut_at_every_call_leaves_a_prefix", 3..4, |seed| {
        cut_at_calls(seed, LOG_ONLY, Dress::Sealed, 1, &|_| {});
    });
}

/// Keys are made, keyrings are written and root keys are destroyed on the way.
#[test]
fn an_encrypted_database_cut_at_every_call_leaves_a_prefix() {
    check(TARGET, "an_encrypted_database_cut_at_every_call_leaves_a_prefix", 5..6, |seed| {
        cut_at_calls(seed, LOG_ONLY, Dress::Encrypted, 1, &|_| {});
        cut_recovery(seed, TABLES, Dress::Encrypted, 43);
        fail_each_call(seed, TABLES, Dress::Encrypted, io::ErrorKind::Other, 3);
        fail_each_call(seed, TABLES, Dress::Encrypted, io::ErrorKind::StorageFull, 3);
    });
}

#[test]
fn tables_cut_at_every_call_leave_a_prefix() {
    check(TARGET, "tables_cut_at_every_call_leave_a_prefix", 10..12, |seed| {
        cut_at_calls(seed, TABLES, Dress::Plain, 1, &|_| {});
    });
}

#[test]
fn tables_of_several_keyspaces_flushed_together_and_cut_at_every_call_leave_a_prefix() {
    let name = "tables_of_several_keyspaces_flushed_together_and_cut_at_every_call_leave_a_prefix";
    check(TARGET, name, 60..63, |seed| {
        let dress = if seed % 2 == 0 { Dress::Plain } else { Dress::Sealed };
        cut_at_calls(seed, GROUPS, dress, 1, &|_| {});
    });
}

#[test]
fn range_deletes_cut_at_every_call_leave_a_prefix() {
    check(TARGET, "range_deletes_cut_at_every_call_leave_a_prefix", 17..19, |seed| {
        cut_at_calls(seed, RANGES, if seed == 17 { Dress::Plain } else { Dress::Sealed }, 1, &|_| {});
    });
}

#[test]
fn operands_cut_at_every_call_leave_a_prefix_and_count_once() {
    check(TARGET, "operands_cut_at_every_call_leave_a_prefix_and_count_once", 70..73, |seed| {
        let dress = if seed == 70 { Dress::Sealed } else { Dress::Plain };
        cut_at_calls(seed, OPERANDS, dress, 1, &|_| {});
        cut_recovery(seed, OPERANDS, Dress::Plain, 43);
        fail_each_call(seed, OPERANDS, Dress::Plain, io::ErrorKind::Other, 3);
        fail_each_call(seed, OPERANDS, Dress::Plain, io::ErrorKind::StorageFull, 3);
    });
}

#[test]
fn partitions_cut_at_every_call_of_a_split_or_merge_are_as_before_or_as_after() {
    let name = "partitions_cut_at_every_call_of_a_split_or_merge_are_as_before_or_as_after";
    check(TARGET, name, 80..83, |seed| {
        let dress = if seed == 80 { Dress::Sealed } else { Dress::Plain };
        cut_at_calls(seed, PARTITIONS, dress, 1, &|_| {});
        cut_recovery(seed, PARTITIONS, Dress::Plain, 43);
        fail_each_call(seed, PARTITIONS, Dress::Plain, io::ErrorKind::Other, 3);
        fail_each_call(seed, PARTITIONS, Dress::Plain, io::ErrorKind::StorageFull, 3);
    });
}

#[test]
fn tables_do_not_outlive_the_log_before_them() {
    check(TARGET, "tables_do_not_outlive_the_log_before_them", 13..17, |seed| {
        cut_at_calls(seed, FLUSH_BEFORE_SYNC, Dress::Plain, 1, &|_| {});
    });
}

#[test]
fn sealed_tables_cut_at_every_call_leave_a_prefix() {
    check(TARGET, "sealed_tables_cut_at_every_call_leave_a_prefix", 12..13, |seed| {
        cut_at_calls(seed, TABLES, Dress::Sealed, 1, &|_| {});
    });
}

#[test]
fn a_keyspace_without_a_log_keeps_a_prefix_of_its_own_and_takes_none_from_others() {
    const NAME: &str = "a_keyspace_without_a_log_keeps_a_prefix_of_its_own_and_takes_none_from_others";
    check(TARGET, NAME, 40..44, |seed| {
        let dress = if seed == 40 { Dress::Sealed } else { Dress::Plain };
        cut_at_calls(seed, UNLOGGED, dress, 1, &|_| {});
        cut_recovery(seed, UNLOGGED, Dress::Plain, 31);
        fail_each_call(seed, UNLOGGED, Dress::Plain, io::ErrorKind::StorageFull, 3);
        fail_each_call(seed, UNLOGGED, Dress::Plain, io::ErrorKind::Other, 3);
    });
}

#[test]
fn a_recovery_that_is_cut_leaves_a_prefix() {
    check(TARGET, "a_recovery_that_is_cut_leaves_a_prefix", 20..22, |seed| {
        cut_recovery(seed, LOG_ONLY, Dress::Plain, 11);
        cut_recovery(seed, TABLES, Dress::Plain, 43);
        cut_recovery(seed, GROUPS, Dress::Plain, 43);
        cut_recovery(seed, RANGES, Dress::Plain, 43);
    });
}

#[test]
fn a_call_that_fails_gives_an_error_or_the_right_answer() {
    check(TARGET, "a_call_that_fails_gives_an_error_or_the_right_answer", 30..31, |seed| {
        for kind in [io::ErrorKind::Other, io::ErrorKind::StorageFull] {
            fail_each_call(seed, LOG_ONLY, Dress::Plain, kind, 1);
            fail_each_call(seed, TABLES, Dress::Plain, kind, 1);
            fail_each_call(seed, GROUPS, Dress::Plain, kind, 1);
            fail_each_call(seed, RANGES, Dress::Plain, kind, 1);
        }
    });
}

/// `PUGDB_CRASH_SEEDS=1000` runs more of them (CONTRIBUTING.md).
#[test]
fn random_scripts_cut_at_random_calls_leave_a_prefix() {
    let count = std::env::var("PUGDB_CRASH_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(24);
    check(TARGET, "random_scripts_cut_at_random_calls_leave_a_prefix", 1000..1000 + count, |seed| {
        let script = random_script(seed, 120);
        let dress = [Dress::Sealed, Dress::Plain, Dress::Encrypted]
            [usize::try_from(seed % 3).expect("it is below 3")];
        cut_at_calls(seed, &script, dress, 97, &|_| {});
        cut_recovery(seed, &script, dress, 499);
    });
}

#[test]
fn random_scripts_with_failing_calls_give_errors_or_right_answers() {
    let count = std::env::var("PUGDB_CRASH_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(12);
    check(
        TARGET,
        "random_scripts_with_failing_calls_give_errors_or_right_answers",
        2000..2000 + count,
        |seed| {
            let script = random_script(seed, 80);
            let kind = [io::ErrorKind::Other, io::ErrorKind::StorageFull][usize::from(seed % 2 == 0)];
            fail_each_call(seed, &script, Dress::Plain, kind, 41);
        },
    );
}
