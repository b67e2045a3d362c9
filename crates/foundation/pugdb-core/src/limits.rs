//! Every limit of the data model, with its reason, tied to its neighbours.

/// Longest key: its length fits 16 bits in every format, and a key must fit one index entry.
pub const KEY_BYTES_MAX: usize = 65_535;
/// Longest value, as Redis has it: a value is held whole in memory while it is written.
pub const VALUE_BYTES_MAX: usize = 512 << 20;
/// Largest batch: one batch is one log record, and a record's length fits 32 bits.
pub const BATCH_BYTES_MAX: usize = 1 << 30;
/// A value or a batch may take at most this part of `memory_bytes`, or one write could fill memory.
pub const MEMORY_PART_MAX: usize = 4;
/// What a database may hold in memory when nothing else is said.
pub const MEMORY_BYTES_DEFAULT: usize = 512 << 20;
/// Below this a memtable and a cache cannot do their work.
pub const MEMORY_BYTES_MIN: usize = 1 << 20;
/// Largest log segment that can be asked for: it is preallocated whole.
pub const LOG_SEGMENT_BYTES_MAX: u64 = 64 << 30;
/// Longest name of a keyspace: it appears in messages and file listings.
pub const KEYSPACE_NAME_BYTES_MAX: usize = 255;
/// Smallest block of a table that can be asked for: a cache line.
pub const BLOCK_BYTES_MIN: usize = 64;
/// Largest block of a table that can be asked for: a point read verifies and decompresses all of one.
pub const BLOCK_BYTES_MAX: usize = 1 << 20;
/// Most bits of filter for a key that can be asked for: with 20 already one absent key in thousands passes.
pub const FILTER_BITS_MAX: u8 = 20;
/// Longest name of a merge operator: it is written into the options of each keyspace that has one.
pub const OPERATOR_NAME_BYTES_MAX: usize = 63;
/// Smallest value that can be asked to be kept apart from its table: a shorter one is shorter than what points to it.
pub const SEPARATE_BYTES_MIN: usize = 8;
/// The most partitions that a keyspace has: each has a memtable of its own, and a scan by hash merges all of them.
pub const PARTITIONS_MAX: usize = 256;

const _: () = assert!(OPERATOR_NAME_BYTES_MAX < KEYSPACE_NAME_BYTES_MAX);
const _: () = assert!(SEPARATE_BYTES_MIN < VALUE_BYTES_MAX);
const _: () = assert!(BLOCK_BYTES_MIN < BLOCK_BYTES_MAX);
const _: () = assert!(KEY_BYTES_MAX <= u16::MAX as usize);
const _: () = assert!(VALUE_BYTES_MAX < BATCH_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX < u32::MAX as usize / 2);
const _: () = assert!((BATCH_BYTES_MAX as u64) < LOG_SEGMENT_BYTES_MAX);
