//! Nothing of this process's memory goes to a file when it ends badly: keys and values are in there.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Switches core dumps off, and lets nobody but root attach a debugger, or read the memory by way of `/proc`.
///
/// To be called before there are keys in memory.
pub(crate) fn switch_off() {
    // The limit is for systems that heed it; a program that takes dumps from the kernel heeds the other one alone. Whatever is refused
    // leaves a process that works as well.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), ..getrlimit(Resource::Core) });
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}
