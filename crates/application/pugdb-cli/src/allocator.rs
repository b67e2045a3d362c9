//! The allocator of the C library, told how many threads really run at the same time.

/// One arena for each processor, at least two. Left alone, glibc makes eight for each, and every arena keeps most of what
/// its threads gave back: half an hour of load on a database of 256 MiB ended with twice the resident memory. Whoever sets
/// `MALLOC_ARENA_MAX` decides.
///
/// To be called before there is a second thread.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn limit_arenas() {
    if std::env::var_os("MALLOC_ARENA_MAX").is_some() {
        return;
    }
    let processors = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let arenas = i32::try_from(processors).unwrap_or(i32::MAX).max(2);
    #[expect(unsafe_code, reason = "a function of the C library")]
    // SAFETY: it sets a number, and nobody allocates beside it. Refused, it changes nothing.
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, arenas) };
}

/// Other allocators need no such word.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn limit_arenas() {}
