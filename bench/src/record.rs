//! The raw output: one JSON object a line.

use serde::{Deserialize, Serialize};

/// What is known of one workload over one store in one round.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Row {
    /// `pugdb`, `rocksdb` …
    pub store: String,
    /// How durable its commits were: `os` or `sync`.
    pub durability: String,
    /// Which round, from 0.
    pub round: u32,
    /// Which workload; `C uniform` is C with the other distribution.
    pub workload: String,
    /// Operations in a second by the wall's clock.
    pub ops_per_second: f64,
    /// Microseconds of processor time an operation, background work included; over sockets of server and client.
    pub cpu_us_per_op: f64,
    /// Over sockets: the server's part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_cpu_us_per_op: Option<f64>,
    /// Latencies in microseconds.
    pub p50_us: f64,
    /// See above.
    pub p99_us: f64,
    /// See above.
    pub p999_us: f64,
    /// See above.
    pub max_us: f64,
    /// The slowest of those during which the control thread was not held up too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calm_max_us: Option<f64>,
    /// How much too late the control thread was at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_max_us: Option<f64>,
    /// When slow operations began and ended, by the clock that all processes share: for who runs the control thread.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slow_us: Vec<(u64, u64)>,
    /// How many operations.
    pub operations: u64,
    /// How many records the store held before.
    pub records: u64,
    /// The size of a value.
    pub value_bytes: usize,
    /// Clients, or over sockets connections.
    pub threads: usize,
    /// Entries that were given to the store at once in a load; over sockets, commands that were sent before an answer
    /// was awaited.
    pub batch: usize,
    /// Values that were read and checked.
    pub checked: u64,
    /// Gets that found nothing.
    pub misses: u64,
    /// The machine's load average at the end.
    pub load_average: f64,
}

/// What is known of a store when its round is over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct End {
    /// As in [`Row`].
    pub store: String,
    /// As in [`Row`].
    pub durability: String,
    /// As in [`Row`].
    pub round: u32,
    /// What its directory takes.
    pub disk_bytes: u64,
    /// The most memory the process had at once.
    pub peak_memory_bytes: u64,
    /// What it has in the end.
    #[serde(default)]
    pub memory_bytes: u64,
    /// What it has written to files.
    #[serde(default)]
    pub written_bytes: u64,
}

/// What the figures belong to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct About {
    /// Cores, processor, kernel.
    pub machine: String,
    /// The type of the file system.
    pub file_system: String,
    /// The command's arguments.
    pub command: String,
    /// The load average before.
    pub load_average: f64,
    /// The versions of all stores.
    pub versions: String,
}

/// A line of raw output.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Line {
    /// The first of a run.
    About(About),
    /// A workload's figures.
    Row(Row),
    /// A store's end.
    End(End),
    /// A store that could not be measured, and why.
    Failed {
        /// As in [`Row`].
        store: String,
        /// As in [`Row`].
        durability: String,
        /// As in [`Row`].
        round: u32,
        /// The last words.
        reason: String,
    },
}
