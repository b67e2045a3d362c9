//! The yardstick: the YCSB core workloads over any [`Store`], every value that is read checked against its key.
//!
//! ```
//! use pugdb_ycsb::{Bench, PugdbStore, Settings, Workload};
//!
//! let db = pugdb::Database::in_memory()?;
//! let store = PugdbStore::new(db.clone(), db.keyspace("ycsb")?, true);
//! let settings = Settings { records: 1_000, operations: 2_000, ..Settings::default() };
//! let mut bench = Bench::new(&store, settings)?;
//! bench.run(Workload::Load)?;
//! let report = bench.run(Workload::C)?;
//! assert_eq!((report.operations, report.checked, report.misses), (2_000, 2_000, 0));
//! # Ok::<(), pugdb::Error>(())
//! ```
//!
//! The workloads are those of Cooper et al., "Benchmarking Cloud Serving Systems with YCSB" (2010), with the generators
//! of its program: [`Zipfian`] and what is built on it. [`plan`] lays a thread's operations down before the clock
//! starts, so that drawing them costs the run nothing; `run.rs` carries them out. One seed gives the same operations.

mod empty;
mod key;
pub mod limits;
mod plan;
mod pugdb_store;
mod random;
mod report;
mod run;
mod store;
#[cfg(test)]
mod tests;
mod usage;
mod value;
mod workload;
mod zipfian;

pub use key::{KEY_BYTES, Key, absent_key, key};
pub use plan::{Operation, Plan, plan};
pub use pugdb_store::PugdbStore;
pub use random::Random;
pub use report::{Report, SLOW};
pub use run::{Bench, Settings, overhead};
pub use store::{Capabilities, Client, Store};
pub use usage::{Stopwatch, Usage, moment};
pub use value::Values;
pub use workload::{Distribution, Workload};
pub use zipfian::{ScrambledZipfian, Zipfian};
