//! PugDB as a library: a privacy-first key-value database that lives in your program.
//!
//! ```
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("data");
//! let db = pugdb::Database::open(&path)?;
//! let users = db.keyspace("users")?;
//! users.put(b"ada", b"1815")?;
//! assert_eq!(users.get(b"ada")?.as_deref(), Some(&b"1815"[..]));
//!
//! let mut batch = db.batch();
//! batch.put(&users, b"grace", b"1906");
//! batch.delete(&users, b"ada");
//! batch.commit()?;
//! assert_eq!(users.scan(..).count(), 1);
//! db.close()?;
//! # Ok::<(), pugdb::Error>(())
//! ```
//!
//! A `put` returns after the log is on disk ([`Durability::Sync`]); [`Durability::Os`] is the weaker, faster choice, and
//! its loss window is written beside its name. The whole write path is told in `write/mod.rs`, the whole read path in
//! `read.rs`.

#![warn(clippy::missing_errors_doc)]

mod asynchronous;
pub mod audit;
mod batch;
mod builder;
mod bulk;
mod checkpoint;
mod count;
mod database;
mod durability;
mod durable;
mod encrypt;
mod handles;
mod ingest;
pub mod inspect;
mod key_locks;
pub mod keys;
mod keyspace;
mod latency;
mod locked_keys;
mod options;
mod overlay;
mod partition;
pub mod privacy;
mod quota;
mod read;
mod reader;
mod report;
mod rewrite;
pub mod rights;
mod scan;
mod sealed;
mod sizes;
mod slow;
mod snapshot;
mod space;
mod ticket;
mod transaction;
mod update;
mod watch;
mod write;

pub use asynchronous::{AsyncDatabase, AsyncKeyspace, AsyncScan, AsyncTransaction};
pub use batch::WriteBatch;
pub use builder::Builder;
pub use bulk::{BulkLoad, BulkProgress};
pub use count::KeyCounts;
pub use database::Database;
pub use durability::Durability;
pub use handles::{HandleCounts, HandleKind, OpenHandle};
pub use ingest::{SortedFile, SortedWriter};
pub use keyspace::Keyspace;
pub use latency::{Latencies, Latency};
pub use locked_keys::{LockScope, LockedKeys, LockedScan};
pub use options::KeyspaceOptions;
pub use partition::{Partition, PartitionKeys, Partitioning};
pub use quota::{KeyspaceUsage, Quota};
pub use report::{LogCut, RecoveryReport, Stats, VerifyReport};
pub use rewrite::Rewritten;
pub use scan::Scan;
pub use sealed::ErasureReport;
pub use sizes::Sizes;
pub use slow::{OperationKind, SlowOperation};
pub use snapshot::Snapshot;
pub use ticket::CommitTicket;
pub use transaction::{
    Isolation, PreparedTransaction, Savepoint, Transaction, TransactionOptions, TransactionScan,
};
pub use update::{Change, TimeToLive};
pub use watch::Watch;

pub use pugdb_core::engine::{EngineKind, KeyRange, Persistence};
pub use pugdb_core::observer::{DatabaseEvent, Observer};
pub use pugdb_core::seam::{AtHand, Sealing};
pub use pugdb_core::{DatabaseId, FileId, KeyspaceId};
pub use pugdb_core::{
    Entry, EntryKind, EntryOptions, Error, ErrorKind, Key, Result, SealId, Timestamp, Value,
};
pub use pugdb_core::{env, glob, limits, operators, seam};
pub use pugdb_lsm::store::CompactionPolicy;
pub use pugdb_lsm::table::{Compression, LocalTables, PrefixExtractor};
pub use pugdb_lsm::{Approximate, Logging};
