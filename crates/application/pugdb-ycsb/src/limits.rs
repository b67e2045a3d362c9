//! Every limit of the yardstick, with its reason.

use crate::key::KEY_BYTES;

/// Fewest records: the generators divide by what is between the first and the last.
pub const RECORDS_MIN: u64 = 2;
/// Most records: an index and a scan's length share one word of the plan.
pub const RECORDS_MAX: u64 = 1 << 40;
/// Most operations of one workload: the plan lies in memory, eight bytes each.
pub const OPERATIONS_MAX: u64 = 100_000_000;
/// Smallest value: a version, a checksum, and something to check.
pub const VALUE_BYTES_MIN: usize = 24;
/// Largest value: each client holds one, and so does a batch of the load for each record.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// Most clients: one thread each.
pub const THREADS_MAX: usize = 256;
/// Longest scan of workload E, as YCSB has it.
pub const SCAN_LENGTH_MAX: u64 = 100;
/// What a batch of the load holds at most, so that large values make small batches.
pub const BATCH_BYTES_MAX: usize = 16 << 20;
/// How many of the slowest operations a client notes, with the moment of each.
pub const SLOW_NOTED_MAX: usize = 1_000;

const _: () = assert!(VALUE_BYTES_MAX + KEY_BYTES < BATCH_BYTES_MAX);
const _: () = assert!(KEY_BYTES <= pugdb::limits::KEY_BYTES_MAX);
