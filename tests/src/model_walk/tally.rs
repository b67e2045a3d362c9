//! What a walk has seen.

/// What a walk has seen: a walk in which nothing happened proves nothing.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Random operations.
    pub operations: usize,
    /// Commits, a batch being one.
    pub commits: usize,
    /// Lives after the first.
    pub reopens: usize,
    /// Those that began after a kill.
    pub kills: usize,
    /// Operations that recovery applied again.
    pub replayed: u64,
    /// Range deletes, those in batches aside.
    pub ranges: usize,
    /// Merges, those in batches aside.
    pub merges: usize,
    /// Operands that were folded in the background.
    pub folded: u64,
    /// Memtables written to tables.
    pub flushes: u64,
    /// Compactions.
    pub compactions: u64,
    /// Partitions that were split or merged.
    pub repartitions: usize,
    /// Reads that took their time.
    pub slow_reads: u64,
    /// Batches refused because they mixed what is on disk with what is in memory.
    pub mixed: usize,
    /// Reads that found something.
    pub found: u64,
    /// Reads of a key whose entry has expired.
    pub expired: u64,
    /// Jumps back after which the database's time was ahead of the calendar.
    pub times_ahead: usize,
    /// The number of the newest log segment.
    pub segment_last: u64,
    /// The most log segments that were there at a time.
    pub segments_max: usize,
    /// Which canaries were found in the files of the world.
    pub shown: [bool; 3],
}
