//! Nothing of this process's memory goes to a file when it ends badly: keys and values are in there.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Switches core dumps of this process off, and lets nobody but root attach a debugger, or read the memory by way of `/proc`: caches,
/// memtables and batches hold keys and values, opened. It is about the whole process, so the program decides, and a library does not.
///
/// To be called before a database is opened. What the system refuses is left as it is: the process works as well.
///
/// ```
/// pugdb_core::env::os::leave_no_core_dumps();
/// # let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or("Max core file size 0".into());
/// # let limit = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
/// assert_eq!(limit.split_whitespace().nth(4), Some("0"));
/// ```
pub fn leave_no_core_dumps() {
    // The limit is for systems that heed it; a program that takes dumps from the kernel heeds the other one alone.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), ..getrlimit(Resource::Core) });
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}
