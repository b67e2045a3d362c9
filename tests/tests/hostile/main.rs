//! Hostile places, disks and callers: one clear sentence, no panic, never a wrong value, nothing acknowledged is lost.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests and what they share")]

mod closed;
mod damage;
mod directory;
mod failed_calls;
mod full_disk;
mod limits;
mod newer;
mod pasted;
mod quarantine;
mod reserve;

/// How a failing test is replayed.
const TARGET: &str = "-p pugdb-tests --test hostile";
