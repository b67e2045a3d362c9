//! The durable engine: log, trees of sorted tables, manifest, recovery.
//!
//! | module | what it does |
//! |---|---|
//! | [`log`] | appends records, makes them durable, reads them back after a crash |
//! | [`Sequencer`] | gives every operation its seqno |
//! | [`TreeOptions`] | how a keyspace's tables are made |
//! | [`Tree`] | one keyspace: memtables and sorted runs |
//! | [`partition`] | one keyspace over several trees |
//! | [`store`] | all trees, their manifest, flush and compaction |
//! | `tombstones` | what range deletes hide |
//! | [`table`] | sorted tables: blocks, index, filter |
//! | [`values`] | value files: large values beside the tables |
//! | [`manifest`] | which tables there are, and how far the log is needed |
//! | [`frame`], [`file`](mod@file), [`checksum`] | what the files are made of |
//! | [`mod@inspect`] | shows a file's parts to people |
//!
//! Log, tree and sequencer are three parts: the crate `pugdb` joins them in its `write/` folder.

pub mod checksum;
mod envelope;
pub mod file;
pub mod frame;
pub mod inspect;
pub mod log;
pub mod manifest;
mod memtable;
mod options;
pub mod partition;
mod prefetch;
mod sequencer;
pub mod store;
pub mod table;
mod tombstones;
mod tree;
pub mod values;
mod written;

pub use options::{Level, Logging, OperatorName, TreeOptions};
pub use partition::{KeyspaceView, PartitionBy, PartitionMap, Partitions, Trees};
pub use sequencer::Sequencer;
pub use tombstones::RangeTombstone;
pub use tree::{Approximate, Filters, Operators, Tree, TreeSizes, TreeView};
pub use written::Written;
