//! How the databases of the model test are opened, and what their files say to somebody who holds the disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pugdb::keys::KeyFile;
use pugdb::{
    Builder, CompactionPolicy, Compression, Database, Durability, EngineKind, ErrorKind, KeyspaceOptions,
    PrefixExtractor, Result,
};
use pugdb_core::coding::index;
use pugdb_core::seam::TableStore;
use pugdb_lsm::table::LocalTables;
use pugdb_sim::{Concatenate, Model, ModelEntry, ModelState, SlowStore, TestCipher, World};

use crate::model_walk::NAMES;

/// Where the database lies in the world.
pub const DIRECTORY: &str = "data";
/// What no file may show when a cipher seals: the beginnings of keys, values and the names of keyspaces.
pub const CANARIES: [&str; 3] = ["canary-key", "canary-value", "canary-name"];

/// What a database of the model test is made of.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// On disk or in memory.
    pub place: Place,
    /// Whether every byte is sealed.
    pub sealing: Sealing,
    /// How long a read of a table takes.
    pub reads: Reads,
    /// How large everything may grow.
    pub sizes: Sizes,
    /// Whether a keyspace in memory stands beside those on disk.
    pub company: Company,
    /// The engine of keyspaces in memory.
    pub volatile: EngineKind,
    /// How many trees each keyspace on disk has.
    pub trees: Trees,
}

/// How many trees a keyspace on disk has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trees {
    /// One.
    One,
    /// Partitions, which are split and merged on the way.
    Several,
}

/// Where the entries live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a directory of the world.
    Disk,
    /// In memory only.
    Memory,
}

/// What seals the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealing {
    /// Nothing.
    Plain,
    /// The strict cipher of the simulator.
    TestCipher,
    /// The database's own encryption.
    Keys,
}

/// How long a read of a table takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// No time.
    AtOnce,
    /// 20 ms of the simulator's clock, while the jobs go on.
    Slow,
}

/// How large memtables and log segments grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// As a user gets them; log segments are small enough to be searched.
    Default,
    /// As small as can be: something is always flushed, merged, rotated and trimmed.
    Small,
}

/// Which keyspaces there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    /// All with the default engine.
    Alike,
    /// One of them is in memory: empty after every open.
    Volatile,
}

/// A database that is open, and what it was opened with.
pub struct Opened {
    /// The database.
    pub db: Database,
    /// The slow store, if there is one.
    pub slow: Option<Arc<SlowStore>>,
}

impl Setup {
    /// On disk, with nothing special.
    pub const PLAIN: Self = Self {
        place: Place::Disk,
        sealing: Sealing::Plain,
        reads: Reads::AtOnce,
        sizes: Sizes::Default,
        company: Company::Alike,
        volatile: EngineKind::Btree,
        trees: Trees::One,
    };

    /// The engine of keyspaces on disk.
    pub fn durable(self) -> EngineKind {
        match self.trees {
            Trees::One => EngineKind::Lsm,
            Trees::Several => EngineKind::Partitioned,
        }
    }

    /// Opens what the world's disk holds, or begins.
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn open(self, world: &World, durability: Durability) -> Result<Opened> {
        self.open_with(world, |builder| builder.durability(durability))
    }

    /// As [`open`](Self::open), with the last word on the builder.
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn open_with(self, world: &World, adjust: impl FnOnce(Builder) -> Builder) -> Result<Opened> {
        self.open_in(world, DIRECTORY, adjust)
    }

    /// As [`open_with`](Self::open_with), in another directory of the world.
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn open_in(
        self,
        world: &World,
        directory: &str,
        adjust: impl FnOnce(Builder) -> Builder,
    ) -> Result<Opened> {
        let env = world.env();
        let mut builder = self.sizes.apply(Database::builder().env(env.clone()), world.seed());
        if self.place == Place::Memory {
            let builder = builder.default_engine(self.volatile);
            return adjust(builder).in_memory().map(|db| Opened { db, slow: None });
        }
        if self.sealing == Sealing::TestCipher {
            builder = builder.cipher(Arc::new(TestCipher::new(3, Arc::clone(&env.random))));
        }
        if self.sealing == Sealing::Keys {
            builder = builder.root_key(KeyFile::new("keys/root.key"));
        }
        let slow = (self.reads == Reads::Slow).then(|| {
            let local = LocalTables::new(&env, Path::new(directory).join("tables"));
            Arc::new(SlowStore::new(Arc::new(local), env))
        });
        if let Some(slow) = &slow {
            builder = builder.table_store(Arc::clone(slow) as Arc<dyn TableStore>);
        }
        for name in NAMES {
            let combines = world.seed().is_multiple_of(2);
            builder = builder.merge_operator(name, Arc::new(Concatenate { combines }));
        }
        adjust(builder).open(directory).map(|db| Opened { db, slow })
    }
}

/// All codecs.
pub const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Lz4,
    Compression::Snappy,
    Compression::Zstd { level: 3 },
    Compression::Gzip { level: 1 },
];

/// Of the scripts' keys, which are short.
const PREFIXES: [PrefixExtractor; 4] = [
    PrefixExtractor::Length(1),
    PrefixExtractor::UpTo(b'a'),
    PrefixExtractor::Length(2),
    PrefixExtractor::None,
];

impl Sizes {
    /// The same seed always has the same sizes, as one database has.
    fn apply(self, builder: Builder, seed: u64) -> Builder {
        let grow = seed % 5;
        match self {
            Self::Default => builder.log_segment_bytes(1 << 20),
            // Without a grace, too: what has expired goes with the next compaction.
            Self::Small => builder
                .expiry_grace(Duration::ZERO)
                .memory_bytes(1 << 20)
                .cache_bytes((16 << 10) << (grow % 2))
                .memtable_bytes((4 << 10) << grow)
                .compaction(policy(seed / 5))
                .scrub_interval(seed.is_multiple_of(2).then_some(Duration::from_mins(10)))
                .log_segment_bytes((4 << 10) << (3 - grow.min(3)))
                .table_files_max(1 + index(grow))
                .default_options(KeyspaceOptions {
                    upper_compression: Some(CODECS[index(seed % 5)]),
                    bottom_compression: Some(CODECS[index(seed / 5 % 5)]),
                    block_bytes: Some(256 << grow),
                    filter_bits: Some([0, 10, 20][index(seed % 3)]),
                    prefix: Some(PREFIXES[index(seed % 4)]),
                    separate_values: Some([8, 0, 100][index(seed % 3)]),
                    ..KeyspaceOptions::default()
                }),
        }
    }
}

/// One of all policies.
pub fn policy(seed: u64) -> CompactionPolicy {
    match seed % 4 {
        0 => CompactionPolicy::Leveled,
        1 => CompactionPolicy::Tiered,
        2 => CompactionPolicy::Fifo,
        _ => CompactionPolicy::LazyLeveled,
    }
}

/// Everything that a reader sees now, expiry judged by the database's own clock.
///
/// # Errors
/// As [`Database::snapshot`] and the reads on it.
pub fn state(db: &Database) -> Result<ModelState> {
    let snapshot = db.snapshot()?;
    let mut state = ModelState::new();
    for name in db.keyspaces()? {
        let keyspace = db.keyspace(&name)?;
        let mut scan = snapshot.scan(&keyspace, ..);
        let entries = state.entry(name).or_default();
        while let Some((key, entry)) = scan.next_entry()? {
            let entry = ModelEntry::of(&entry).expect("a scan yields no deletes");
            assert_eq!(entries.insert(key.to_vec(), entry), None, "a scan yields a key once");
        }
    }
    Ok(state)
}

/// Says where the database differs from the model's last commit; empty when it does not.
///
/// # Errors
/// As [`state`].
pub fn difference(db: &Database, model: &Model) -> Result<String> {
    let expected = model.state(model.commits(), db.now());
    state(db).map(|found| pugdb_sim::diff(&expected, &found))
}

/// True when the call was refused for this reason.
pub fn is_refused<T>(outcome: &Result<T>, kind: ErrorKind) -> bool {
    outcome.as_ref().err().is_some_and(|error| error.kind() == kind)
}

/// Which of the [`CANARIES`] somebody finds who reads all files of the world.
///
/// # Panics
/// When a file that is there cannot be read.
pub fn canaries_shown(world: &World) -> [bool; 3] {
    let mut shown = [false; 3];
    for (path, _) in world.files() {
        let bytes = world.read_file(&path).expect("the world lists only files that are there");
        for (start, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'c') {
            for (canary, shown) in CANARIES.iter().zip(&mut shown) {
                *shown |= bytes[start..].starts_with(canary.as_bytes());
            }
        }
        let name = path.to_string_lossy();
        assert!(!name.contains("canary"), "a file's name shows user bytes");
    }
    shown
}

/// The log segments there are, by number.
pub fn segments(world: &World) -> Vec<u64> {
    let files = under(world, "log").into_iter();
    let number = |(path, _): (PathBuf, u64)| path.file_stem()?.to_str()?.rsplit_once('-')?.1.parse().ok();
    files.filter_map(number).collect()
}

/// The bytes of all table files, whoever still reads them.
pub fn table_file_bytes(world: &World) -> u64 {
    under(world, "tables").into_iter().map(|(_, bytes)| bytes).sum()
}

fn under(world: &World, folder: &str) -> Vec<(PathBuf, u64)> {
    let folder = Path::new(DIRECTORY).join(folder);
    world.files().into_iter().filter(|(path, _)| path.starts_with(&folder)).collect()
}
