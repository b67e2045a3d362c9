//! Can the crash suites fail? For every sync the database makes there is a disk here that says yes to it and makes
//! nothing durable, as if the call were not in the code. The crash suite must then go red.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use pugdb_sim::CallKind;
use pugdb_tests::crash::Dress;
use pugdb_tests::crash_scripts::{LOG_ONLY, TABLES, cut_at_calls};

/// Runs the crash suite on a disk that lies about some syncs, until it goes red.
fn goes_red(script: &str, lie: fn(CallKind, &Path) -> bool) {
    // The panics are wanted here: they are not printed.
    std::panic::set_hook(Box::new(|_| {}));
    let red = (0..20).any(|seed| {
        let suite = || cut_at_calls(seed, script, Dress::Plain, 1, &|world| world.ignore_syncs(lie));
        catch_unwind(AssertUnwindSafe(suite)).is_err()
    });
    let _ = std::panic::take_hook();
    assert!(red, "the crash suite does not notice the missing sync");
}

fn is_in(path: &Path, folder: &str) -> bool {
    path.parent().is_some_and(|parent| parent.ends_with(folder))
}

fn name_starts(path: &Path, start: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start))
}

fn name_ends(path: &Path, end: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(end))
}

#[test]
fn without_the_sync_of_the_log_the_suite_is_red() {
    goes_red(LOG_ONLY, |kind, path| kind == CallKind::SyncData && is_in(path, "log"));
}

#[test]
fn without_the_sync_of_tables_the_suite_is_red() {
    goes_red(TABLES, |kind, path| kind == CallKind::SyncData && name_ends(path, ".table"));
}

#[test]
fn without_the_sync_of_value_files_the_suite_is_red() {
    goes_red(TABLES, |kind, path| kind == CallKind::SyncData && name_ends(path, ".values"));
}

#[test]
fn without_the_sync_of_the_manifest_the_suite_is_red() {
    goes_red(TABLES, |kind, path| kind == CallKind::SyncData && name_starts(path, "manifest"));
}

#[test]
fn without_the_sync_of_the_new_current_the_suite_is_red() {
    goes_red(LOG_ONLY, |kind, path| kind == CallKind::SyncData && name_starts(path, "CURRENT"));
}

#[test]
fn without_the_sync_of_the_directory_of_the_log_the_suite_is_red() {
    goes_red(LOG_ONLY, |kind, path| kind == CallKind::SyncDir && path.ends_with("log"));
}

#[test]
fn without_the_sync_of_the_directory_of_the_tables_the_suite_is_red() {
    goes_red(TABLES, |kind, path| kind == CallKind::SyncDir && path.ends_with("tables"));
}

#[test]
fn without_the_sync_of_the_directory_of_the_database_the_suite_is_red() {
    goes_red(LOG_ONLY, |kind, path| kind == CallKind::SyncDir && path.ends_with("db"));
}

#[test]
fn without_the_sync_of_the_directory_above_the_suite_is_red() {
    goes_red(LOG_ONLY, |kind, path| {
        kind == CallKind::SyncDir
            && path.parent().is_none_or(|above| above.as_os_str().is_empty())
            && !path.ends_with("db")
    });
}
