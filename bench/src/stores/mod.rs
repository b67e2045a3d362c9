//! The stores, each used as its own documentation recommends; every setting says where that is.

use std::path::Path;

use pugdb::{Error, Result};
use pugdb_ycsb::Store;

#[cfg(feature = "peers")]
mod fjall;
#[cfg(feature = "peers")]
mod lmdb;
mod pugdb_lsm;
#[cfg(feature = "peers")]
mod redb;
#[cfg(feature = "peers")]
pub mod rocksdb;
#[cfg(feature = "peers")]
mod sqlite;

/// What all stores with a setting for it keep of their tables or pages in memory.
pub const CACHE_BYTES: usize = 256 << 20;

/// What an acknowledged write survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The death of the process; after a power cut the last writes can be gone. redb has no such level: its nearest is
    /// weaker, and loses what came after the last synced commit with the process.
    Os,
    /// A power cut.
    Sync,
}

/// What a store is opened with.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// An empty directory.
    pub dir: &'a Path,
    /// How durable its writes are. A load is never synced put by put, but in batches.
    pub class: Class,
    /// The size of the values that are coming.
    pub value_bytes: usize,
}

/// The names of all stores, PugDB first.
pub const NAMES: &[&str] = if cfg!(feature = "peers") {
    &["pugdb", "rocksdb", "fjall", "redb", "lmdb", "sqlite"]
} else {
    &["pugdb"]
};

/// Opens a store by its name.
pub fn open(name: &str, setup: &Setup<'_>) -> Result<Box<dyn Store>> {
    match name {
        "pugdb" => pugdb_lsm::open(setup),
        #[cfg(feature = "peers")]
        "rocksdb" => rocksdb::open(setup),
        #[cfg(feature = "peers")]
        "fjall" => fjall::open(setup),
        #[cfg(feature = "peers")]
        "redb" => redb::open(setup),
        #[cfg(feature = "peers")]
        "lmdb" => lmdb::open(setup),
        #[cfg(feature = "peers")]
        "sqlite" => sqlite::open(setup),
        _ => Err(Error::invalid(format!("there is no store of that name; there are {}", NAMES.join(", ")))),
    }
}

/// An error of a peer.
#[cfg(feature = "peers")]
fn failed(error: impl std::fmt::Display) -> Error {
    Error::unavailable(error.to_string())
}

/// The versions that are built in, from the lock file.
#[must_use]
pub fn versions() -> String {
    let lock = include_str!("../../Cargo.lock");
    let version = |package: &str| {
        let head = format!("name = \"{package}\"\nversion = \"");
        lock.split_once(&head).and_then(|(_, rest)| rest.split('"').next()).unwrap_or("?").to_owned()
    };
    let packages: &[&str] = if cfg!(feature = "peers") {
        &[
            "pugdb",
            "rocksdb",
            "librocksdb-sys",
            "fjall",
            "redb",
            "heed",
            "lmdb-master-sys",
            "rusqlite",
            "libsqlite3-sys",
        ]
    } else {
        &["pugdb"]
    };
    packages.iter().map(|package| format!("{package} {}", version(package))).collect::<Vec<_>>().join(", ")
}
