//! The sets of options: how one and the same database can be made.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use pugdb::{
    Builder, CompactionPolicy, Compression, Database, Durability, EngineKind, KeyspaceOptions, Logging,
    PrefixExtractor, Result,
};
use pugdb_sim::{Concatenate, World};

use super::Script;
use super::run::NAMES;
use crate::model_setup::{CODECS, Opened, Reads, Sealing, Setup, policy};

/// All that a database can be made of. `Debug` tells a reader of a failure all of it.
#[derive(Clone, Debug)]
pub(super) struct Set {
    /// 0 is what a user gets who says nothing.
    pub(super) number: usize,
    /// What the world of this run follows from: each has its own chances, of jobs as of power cuts.
    pub(super) world: u64,
    /// Which runs are merged.
    pub(super) policy: CompactionPolicy,
    /// How its keyspaces are made.
    pub(super) options: KeyspaceOptions,
    /// What seals, and how long a read takes.
    pub(super) setup: Setup,
    /// What a commit survives when nothing else is said.
    pub(super) durability: Durability,
    /// Sizes; `None` says nothing.
    pub(super) sizes: Option<SetSizes>,
}

/// How much there is of everything.
#[derive(Clone, Debug)]
pub(super) struct SetSizes {
    memory: usize,
    cache: usize,
    memtable: usize,
    segment: u64,
    files: usize,
    jobs: usize,
    grace: Duration,
}

impl Set {
    /// The set of this number for a script. Any five in a row have all policies and codecs, any three a slow store.
    pub(super) fn of(script: &Script, number: usize) -> Self {
        let world = script.seed.wrapping_mul(1000).wrapping_add(number as u64);
        if number == 0 {
            return Self {
                number,
                world,
                policy: CompactionPolicy::default(),
                options: KeyspaceOptions::default(),
                setup: Setup::PLAIN,
                durability: Durability::Sync,
                sizes: None,
            };
        }
        let mut random = Rng::with_seed(world);
        let logging = (script.is_apart && random.bool()).then_some(Logging::Unlogged);
        let sizes = SetSizes {
            memory: [1 << 20, 2 << 20, 32 << 20][random.usize(..3)],
            cache: [0, 2 << 10, 64 << 10, 256 << 10][random.usize(..4)],
            memtable: [4 << 10, 16 << 10, 64 << 10][random.usize(..3)],
            segment: [4 << 10, 32 << 10, 1 << 20][random.usize(..3)],
            files: [1, 3, 1000][random.usize(..3)],
            jobs: 1 + random.usize(..4),
            grace: [Duration::ZERO, Duration::from_hours(1)][random.usize(..2)],
        };
        let engine = random.bool().then_some(EngineKind::Partitioned);
        let sealing = if random.bool() { Sealing::TestCipher } else { Sealing::Plain };
        let reads = if number.is_multiple_of(3) { Reads::Slow } else { Reads::AtOnce };
        let durabilities = [
            Durability::Sync,
            Durability::Os,
            Durability::Group { max_delay: Duration::from_millis(2) },
            Durability::Periodic { interval: Duration::from_millis(200) },
        ];
        Self {
            number,
            world,
            policy: policy(number as u64),
            options: KeyspaceOptions { engine, logging, ..tables(world, number) },
            setup: Setup { sealing, reads, ..Setup::PLAIN },
            durability: durabilities[random.usize(..4)],
            sizes: Some(sizes),
        }
    }

    /// Opens what is in this directory of the world, or begins.
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub(super) fn open(&self, world: &World, directory: &str) -> Result<Opened> {
        self.setup.open_in(world, directory, |builder| self.adjust(builder))
    }

    fn adjust(&self, mut builder: Builder) -> Builder {
        for name in NAMES {
            let combines = self.number.is_multiple_of(2);
            builder = builder.merge_operator(name, Arc::new(Concatenate { combines }));
        }
        let builder =
            builder.compaction(self.policy).default_options(self.options).durability(self.durability);
        let Some(sizes) = &self.sizes else { return builder };
        builder
            .memory_bytes(sizes.memory)
            .cache_bytes(sizes.cache)
            .memtable_bytes(sizes.memtable)
            .log_segment_bytes(sizes.segment)
            .table_files_max(sizes.files)
            .compaction_jobs(sizes.jobs)
            .expiry_grace(sizes.grace)
    }

    /// Whether a crash takes from its keyspaces what was not flushed.
    pub(super) fn is_unlogged(&self) -> bool {
        self.options.logging == Some(Logging::Unlogged)
    }

    /// What a keyspace is altered to.
    pub(super) fn altered(&self, choice: usize) -> KeyspaceOptions {
        tables(self.world.wrapping_add(choice as u64), choice)
    }

    /// A keyspace with a log, whatever the others have.
    ///
    /// # Errors
    /// As [`Database::keyspace_with`].
    pub(super) fn logged(db: &Database, name: &str) -> Result<pugdb::Keyspace> {
        let logged = KeyspaceOptions { logging: Some(Logging::Logged), ..KeyspaceOptions::default() };
        db.keyspace_with(name, logged)
    }
}

/// How tables are made.
fn tables(seed: u64, number: usize) -> KeyspaceOptions {
    let mut random = Rng::with_seed(seed);
    let codec = |number: usize| -> Option<Compression> { Some(CODECS[number % CODECS.len()]) };
    KeyspaceOptions {
        upper_compression: codec(number),
        bottom_compression: codec(number / CODECS.len() + 2 * number + 1),
        block_bytes: Some([64, 256, 1000, 8 << 10][random.usize(..4)]),
        filter_bits: Some([0, 2, 10, 20][random.usize(..4)]),
        prefix: Some(
            [PrefixExtractor::None, PrefixExtractor::Length(2), PrefixExtractor::UpTo(b'a')]
                [random.usize(..3)],
        ),
        separate_values: Some([0, 0, 8, 30, 500][random.usize(..5)]),
        ..KeyspaceOptions::default()
    }
}
