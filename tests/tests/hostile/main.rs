//! Hostile places, disks and callers: one clear sentence, no panic, never a wrong value, nothing acknowledged is lost.

mod closed;
mod damage;
mod directory;
mod failed_calls;
mod full_disk;
mod limits;
mod pasted;
mod quarantine;

/// How a failing test is replayed.
const TARGET: &str = "-p pugdb-tests --test hostile";
