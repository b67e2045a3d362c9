//! A full disk: writes fail with one sentence, reads go on, nothing acknowledged is lost, and when there is space again
//! everything goes on by itself.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pugdb::env::{Env, Event};
use pugdb::{Database, Error, ErrorKind, Keyspace};
use pugdb_sim::World;
use pugdb_tests::hostile::{Seal, State, check_reads, decent, key, name, open, value};

use super::TARGET;

/// Longer than any back-off.
const PATIENCE: Duration = Duration::from_millis(250);

pub(super) fn is_full(error: &Error) {
    let text = decent(error);
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{text}");
    assert!(error.is_disk_full(), "a full disk is not said to be one: {text}");
}

/// A database that is written to until and after the disk is full, and what it has acknowledged.
struct Tenant {
    world: World,
    db: Database,
    space: Keyspace,
    state: State,
    next: usize,
}

impl Tenant {
    fn new(seed: u64) -> Self {
        let world = World::new(seed);
        let db = open(&world, Seal::Plain).unwrap();
        let space = db.keyspace(&name("full")).unwrap();
        let state = State::from([(name("full"), BTreeMap::new())]);
        let mut tenant = Self { world, db, space, state, next: 0 };
        for round in 0..30 {
            tenant.put().unwrap();
            if round == 20 {
                tenant.db.flush().unwrap();
            }
        }
        tenant
    }

    /// One put; the state knows it when it was acknowledged, and only then.
    fn put(&mut self) -> pugdb::Result<()> {
        self.next += 1;
        let text = format!("{:02}", self.next % 40);
        let (key, value) = (key(&text), value(&format!("{}", self.next), 300));
        self.space.put(&key, &value)?;
        self.state.get_mut(&*self.space.name()).unwrap().insert(key, value);
        Ok(())
    }

    fn check(&self, what: &str) {
        assert_eq!(check_reads(&self.db, &self.state, &what), 0);
        assert!(self.db.failure().is_none(), "a full disk is no failure for good: {what}");
    }

    fn rest(&self) {
        for _ in 0..4 {
            self.world.advance(PATIENCE);
            self.world.run_until_idle();
        }
    }

    /// Writes until the disk is full.
    fn fill(&mut self, slack: u64) {
        self.world.set_capacity(Some(self.world.used() + slack));
        for _ in 0..2000 {
            if let Err(error) = self.put() {
                return is_full(&error);
            }
        }
        panic!("the disk never fills up");
    }

    /// Everything that needs space fails in the same way; what needs none works.
    fn live_on_a_full_disk(&mut self) {
        self.check("on the full disk");
        for attempt in 0..6 {
            if let Err(error) = self.db.flush() {
                is_full(&error);
            }
            for outcome in [self.put(), self.put()] {
                outcome.err().iter().for_each(is_full);
            }
            if let Err(error) = self.db.keyspace(&name(&format!("new {attempt}"))) {
                is_full(&error);
            } else {
                self.state.insert(name(&format!("new {attempt}")), BTreeMap::new());
            }
            self.rest();
            self.check("after tries on the full disk");
        }
        assert_eq!(self.db.verify().unwrap().problems, [""; 0]);
    }

    /// Nobody reopens or flushes anything: time passes.
    fn recover_by_itself(&mut self) {
        self.world.set_capacity(None);
        self.rest();
        for _ in 0..100 {
            self.put().unwrap();
        }
        self.db.flush().unwrap();
        self.check("with space again");
        assert_eq!(self.db.stats().unwrap().memtable_bytes, 0);
    }

    fn after_power_cut(self) -> (World, State) {
        let next = self.world.power_cut();
        (next, self.state)
    }
}

#[test]
fn a_full_disk_fails_writes_keeps_reads_and_heals_by_itself() {
    // The slack decides which call is the first to find the disk full.
    pugdb_sim::check(TARGET, "a_full_disk_fails_writes", 80..140, |seed| {
        let slack = (seed - 80) * 257;
        let mut tenant = Tenant::new(seed);
        tenant.fill(slack);
        tenant.live_on_a_full_disk();
        if seed % 2 == 0 {
            tenant.recover_by_itself();
        }
        let (next, state) = tenant.after_power_cut();
        // Still full when it is opened again: that fails well or works.
        match open(&next, Seal::Plain) {
            Ok(db) => assert_eq!(check_reads(&db, &state, &"the power cut"), 0),
            Err(error) => is_full(&error),
        }
        next.set_capacity(None);
        let db = open(&next, Seal::Plain).unwrap();
        assert_eq!(check_reads(&db, &state, &"the power cut"), 0);
        db.keyspace(&name("full")).unwrap().put(key("again"), b"v").unwrap();
    });
}

#[test]
fn writers_held_back_by_full_memory_go_on_when_the_disk_has_space_again() {
    let world = World::new(141);
    let db = open(&world, Seal::Plain).unwrap();
    let space = db.keyspace(&name("large")).unwrap();
    // Room for the log, none for tables: memory fills up until a write is refused.
    world.fail_when(|_, path| {
        path.to_string_lossy().contains("tables/").then_some(io::ErrorKind::StorageFull)
    });
    let mut acknowledged = 0;
    let refused = (0..2000_u32).find_map(|number| {
        let outcome = space.put(number.to_be_bytes(), value("v", 4000));
        acknowledged += u32::from(outcome.is_ok());
        outcome.err()
    });
    is_full(&refused.expect("memory is bounded: a write has to be refused"));
    assert!(db.stats().unwrap().memtable_bytes <= 1 << 20, "more than memory_bytes in memory");
    assert_eq!(space.count().unwrap(), u64::from(acknowledged));
    world.heal();
    world.advance(PATIENCE);
    world.run_until_idle();
    assert!(db.stats().unwrap().flushes > 0, "the flush did not begin anew by itself");
    space.put(b"after", b"v").unwrap();
    assert_eq!(space.count().unwrap(), u64::from(acknowledged) + 1);
}

#[test]
fn a_full_disk_while_a_database_is_made_or_opened_is_said_and_passes() {
    let mut made = 0;
    for slack in (0..72_000).step_by(401).chain(0..12) {
        let world = World::new(142);
        world.set_capacity(Some(slack));
        match open(&world, Seal::Plain) {
            Ok(db) => {
                made += 1;
                db.keyspaces().unwrap();
            }
            Err(error) => is_full(&error),
        }
        world.set_capacity(None);
        let next = if slack % 2 == 0 { world.kill() } else { world.power_cut() };
        let db = open(&next, Seal::Plain).unwrap_or_else(|error| panic!("slack {slack}: {error}"));
        db.keyspace("k").unwrap().put(b"k", b"v").unwrap();
        db.close().unwrap();
        // And an existing one, with as little space.
        next.set_capacity(Some(next.used() + slack));
        match open(&next, Seal::Plain) {
            Ok(db) => assert_eq!(db.keyspace("k").unwrap().get(b"k").unwrap().unwrap(), b"v"),
            Err(error) => is_full(&error),
        }
        next.set_capacity(None);
        let db = open(&next, Seal::Plain).unwrap();
        assert_eq!(db.keyspace("k").unwrap().get(b"k").unwrap().unwrap(), b"v");
    }
    assert!(made > 0, "it was never made");
}

/// A small file system in memory, gone when it is dropped.
pub(super) struct Tmpfs(pub(super) PathBuf);

impl Tmpfs {
    pub(super) fn mount(at: &Path) -> Result<Self, String> {
        let options = ["-t", "tmpfs", "-o", "size=8m", "pugdb-hostile"];
        let output =
            Command::new("mount").args(options).arg(at).output().map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(Self(at.to_owned()))
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: also when a test that failed still holds files open.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Looks again and again until `ready`.
pub(super) fn eventually(env: &Env, mut ready: impl FnMut() -> bool) -> bool {
    let end = env.clock.monotonic() + Duration::from_secs(20);
    while !ready() {
        let now = env.clock.monotonic();
        if now > end {
            return false;
        }
        env.executor.block_until(&Event::default(), Some(now + Duration::from_millis(20)), &mut || false);
    }
    true
}

#[test]
fn a_real_full_disk_heals_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let tmpfs = match Tmpfs::mount(dir.path()) {
        Ok(tmpfs) => tmpfs,
        Err(reason) => return println!("skipped: no tmpfs can be mounted here: {reason}"),
    };
    let (data, env) = (tmpfs.0.join("data"), Env::os());
    let builder = || Database::builder().memory_bytes(2 << 20).log_segment_bytes(256 << 10);
    let db = builder().open(&data).unwrap();
    let space = db.keyspace("full").unwrap();
    // Somebody else's file takes half of the disk.
    let ballast = tmpfs.0.join("ballast");
    env.fs.create(&ballast).and_then(|file| file.allocate(4 << 20)).unwrap();
    let payload = |number: u32| vec![u8::try_from(number % 251).unwrap(); 10_000];
    let mut acknowledged = Vec::new();
    let refused = (0..2000_u32).find_map(|number| {
        let outcome = space.put(number.to_be_bytes(), payload(number));
        if outcome.is_ok() {
            acknowledged.push(number);
        }
        outcome.err()
    });
    is_full(&refused.expect("8 MiB are full some time"));
    if let Err(error) = db.flush() {
        is_full(&error);
    }
    assert!(db.failure().is_none());
    let check = |space: &Keyspace, acknowledged: &[u32]| {
        for &number in acknowledged {
            assert!(space.get(number.to_be_bytes()).unwrap().unwrap() == payload(number)[..]);
        }
        assert_eq!(space.count().unwrap(), acknowledged.len() as u64);
    };
    check(&space, &acknowledged);

    env.fs.remove(&ballast).unwrap();
    let number = 100_000_u32;
    let again = eventually(&env, || space.put(number.to_be_bytes(), payload(number)).is_ok());
    assert!(again, "no write goes on though there is space again");
    acknowledged.push(number);
    db.flush().unwrap();
    check(&space, &acknowledged);
    db.close().unwrap();
    drop((space, db));
    let db = builder().open(&data).unwrap();
    check(&db.keyspace("full").unwrap(), &acknowledged);
    assert_eq!(db.verify().unwrap().problems, [""; 0]);
}
