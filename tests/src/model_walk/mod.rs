//! The model test's walk: random operations on a database and on the model, every answer compared.
//!
//! | file | what the walk does there |
//! |---|---|
//! | `mod.rs` | the walk itself, its clock, its commits |
//! | `writes.rs` | changes, and what must be refused |
//! | `reads.rs` | reads of now, and of views and scans that are held for a while |
//! | `lives.rs` | ends and begins lives: by a close, by dropping all handles, by a kill |
//! | `tally.rs` | what it has seen |
//!
//! Reads are compared with the model at the time that the database judged expiry by. All that was committed is there
//! in the next life, for a kill takes nothing from the operating system.

mod lives;
mod reads;
mod tally;
mod writes;

use std::collections::BTreeMap;
use std::time::Duration;

use pugdb::{Database, Keyspace, KeyspaceOptions, Partitioning, Timestamp};
use pugdb_sim::{Model, ModelOp, World};

pub use tally::Tally;

use crate::chance::Chance;
use crate::model_setup::{Company, Opened, Setup, Trees};
use reads::{HeldScan, View};

/// The last one is the volatile one, where there is one.
pub(crate) const NAMES: [&str; 4] =
    ["canary-name a", "canary-name b", "canary-name c", "canary-name volatile"];
/// Everything is compared after so many steps.
const CHECK_EVERY: usize = 200;
const YEAR_MS: i64 = 365 * 24 * 3_600_000;

/// A keyspace as the walk holds it. A name that is dropped and made again has another number.
#[derive(Clone)]
struct Handle {
    number: usize,
    keyspace: Keyspace,
}

/// A database and its model on their way.
pub struct Walk {
    setup: Setup,
    world: World,
    chance: Chance,
    model: Model,
    /// `None` only while it is reopened.
    opened: Option<Opened>,
    handles: BTreeMap<&'static str, Handle>,
    /// Of keyspaces that were dropped.
    stale: Vec<Keyspace>,
    views: Vec<View>,
    scans: Vec<HeldScan>,
    /// The time that was shown last: expiry never goes back behind it.
    time: Timestamp,
    /// The time of the last commit in the log, which survives a kill.
    logged_time: Timestamp,
    tally: Tally,
}

impl Walk {
    /// Walks `steps` random operations in the world of `seed`.
    ///
    /// # Panics
    /// When the database does or says something else than the model.
    pub fn run(setup: Setup, seed: u64, steps: usize) -> Tally {
        let mut walk = Self::new(setup, seed);
        for step in 1..=steps {
            walk.step();
            if step % CHECK_EVERY == 0 {
                walk.check_state("on the way");
            }
        }
        walk.finish()
    }

    fn new(setup: Setup, seed: u64) -> Self {
        let world = World::new(seed);
        let (handles, stale, views, scans) = Default::default();
        let mut walk = Self {
            setup,
            world,
            chance: Chance::new(seed),
            model: Model::default(),
            opened: None,
            handles,
            stale,
            views,
            scans,
            time: Timestamp(0),
            logged_time: Timestamp(0),
            tally: Tally::default(),
        };
        walk.open();
        walk
    }

    fn db(&self) -> &Database {
        &self.opened.as_ref().expect("it is None only within reopen").db
    }

    fn step(&mut self) {
        self.tally.operations += 1;
        match self.chance.random.u32(..1000) {
            0..105 => self.put(),
            105..150 => self.merge(),
            150..200 => self.delete(),
            200..220 => self.delete_range(),
            220..400 => self.batch(),
            400..460 => self.update(),
            460..466 => self.truncate(),
            466..474 => self.drop_keyspace(),
            474..500 => self.refused(),
            500..620 => self.get(),
            620..660 => self.multi_get(),
            660..740 => self.scan(),
            740..745 => self.count(),
            745..770 => self.take_view(),
            770..830 => self.read_view(),
            830..845 => self.drop_view(),
            845..865 => self.open_scan(),
            865..900 => self.continue_scan(),
            900..940 => self.pass_time(),
            940..950 => self.db().flush().expect("the disk is whole"),
            950..960 if self.setup.trees == Trees::Several => self.repartition(),
            950..970 => self.world.run_until_idle(),
            970..973 => self.verify(),
            973..985 => self.reopen(),
            _ => self.world.maybe_step(),
        }
        if self.chance.random.bool() {
            self.world.maybe_step();
        }
    }

    // Time.

    /// The time that a read is judged by now. It never goes back.
    fn now(&mut self) -> Timestamp {
        let now = self.db().now();
        assert!(now >= self.time, "expiry went back from {:?} to {now:?}", self.time);
        self.time = now;
        now
    }

    fn pass_time(&mut self) {
        match self.chance.random.u32(..30) {
            0 => self.world.jump_calendar(YEAR_MS),
            1 => {
                self.world.jump_calendar(-YEAR_MS);
                let calendar = self.world.env().clock.now();
                self.tally.times_ahead += usize::from(self.now() > calendar);
            }
            2 => self.world.jump_calendar(self.chance.random.i64(-20_000..20_000)),
            // The calendar catches up with the time that was shown: expiry goes on.
            3..6 => {
                let behind = self.now().0.saturating_sub(self.world.env().clock.now().0);
                self.world.jump_calendar(behind.cast_signed());
            }
            _ => self.world.advance(Duration::from_millis(self.chance.random.u64(..1000))),
        }
    }

    // Keyspaces and commits.

    /// A keyspace, made if it does not exist: by the walk's own choice, so that the model knows.
    fn handle(&mut self) -> (&'static str, Keyspace) {
        let name = NAMES[self.chance.random.usize(..NAMES.len())];
        (name, self.handle_of(name))
    }

    fn handle_of(&mut self, name: &'static str) -> Keyspace {
        if let Some(handle) = self.handles.get(name) {
            return handle.keyspace.clone();
        }
        let keyspace = if self.is_volatile(name) {
            let options = KeyspaceOptions { engine: Some(self.setup.volatile), ..Default::default() };
            self.db().keyspace_with(name, options)
        } else if self.setup.trees == Trees::Several {
            let partitioning = self.partitioning();
            self.db().partitioned_keyspace(name, &partitioning, KeyspaceOptions::default())
        } else {
            self.db().keyspace(name)
        };
        let keyspace = keyspace.expect("a keyspace can be made");
        self.commit(&[ModelOp::CreateKeyspace(name.into())]);
        let handle = Handle { number: self.model.commits(), keyspace };
        self.handles.insert(name, handle.clone());
        handle.keyspace
    }

    fn partitioning(&mut self) -> Partitioning {
        if self.chance.random.bool() {
            return Partitioning::Hash { partitions: self.chance.random.usize(1..6) };
        }
        let mut starts: Vec<Vec<u8>> =
            (0..self.chance.random.usize(..5)).map(|_| self.chance.key()).collect();
        starts.sort_unstable();
        starts.dedup();
        starts.retain(|start| !start.is_empty());
        Partitioning::Ranges { starts }
    }

    fn is_volatile(&self, name: &str) -> bool {
        self.setup.company == Company::Volatile && name == NAMES[3]
    }

    fn commit(&mut self, ops: &[ModelOp]) {
        self.tally.commits += 1;
        self.model.commit(ops);
    }

    /// Whatever is logged from now on bears a time that is not before this one.
    fn commit_logged(&mut self, ops: &[ModelOp], before: Timestamp) {
        self.logged_time = self.logged_time.max(before);
        self.commit(ops);
    }

    fn commit_in(&mut self, name: &str, op: ModelOp, before: Timestamp) {
        if self.is_volatile(name) {
            self.commit(&[op]);
        } else {
            self.commit_logged(&[op], before);
        }
    }
}
