//! The nouns of PugDB, the contract every engine keeps, the seams, and the door to the outside world.
//!
//! Everything else in the house stands on this crate, and it stands on nothing of the house:
//!
//! | module | what it holds |
//! |---|---|
//! | [`error`] | [`Error`]: eight kinds, each saying what to do |
//! | [`ids`] | [`Seqno`], [`Lsn`], [`KeyspaceId`], [`FileId`], [`DatabaseId`] |
//! | [`entry`] | [`Key`], [`Value`], [`Entry`], [`Operation`] and their one encoding |
//! | [`engine`] | [`Engine`](engine::Engine): one keyspace, read at a (seqno, now) |
//! | [`snapshots`] | what is visible, and the oldest version anybody still needs |
//! | [`memory`] | the versioned map, the engines btree and hash, their housekeeper |
//! | [`seam`] | [`Cipher`](seam::Cipher) and [`TableStore`](seam::TableStore): what others plug in |
//! | [`observer`] | [`Observer`](observer::Observer): who is told what happens |
//! | [`operators`] | ready-made merge operators |
//! | [`mod@env`] | files, clock, randomness, background jobs and every blocking wait |
//! | [`glob`] | patterns of keys and names |
//! | [`limits`] | every limit, with its reason |
//! | [`soon`] | locks that are held for less than a switch of threads takes |
//! | [`sync`] | the locks and atomics that loom can look through |

#[cfg(not(target_pointer_width = "64"))]
compile_error!("PugDB needs a 64-bit platform: file offsets and memory sizes share one width");
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
compile_error!("PugDB is written for Linux and macOS; their file semantics are what its durability rests on");

pub mod coding;
pub mod engine;
mod entries;
pub mod entry;
pub mod env;
pub mod error;
pub mod glob;
pub mod ids;
pub mod limits;
pub mod memory;
pub mod observer;
pub mod operators;
mod ops;
pub mod seam;
pub mod snapshots;
pub mod soon;
mod span;
pub mod sync;

pub use entry::{
    Entry, EntryKind, EntryOptions, Found, Key, Op, Operation, RawOp, SealId, Stamp, Timestamp, Value,
};
pub use error::{Error, ErrorKind, Result};
pub use ids::{DatabaseId, FileId, Incarnation, KeyspaceId, Lsn, Seqno, StreamId};
pub use ops::Ops;
pub use span::{KeySpan, RawSpan};
