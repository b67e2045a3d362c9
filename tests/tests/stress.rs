//! Sixteen threads in a process that is killed at any moment, again and again; what has to be there is kept by another one.
//!
//! The expected state is a file that outlives the process: for each key what was acknowledged last, what is under way, and in
//! which batch. After each SIGKILL the database is opened here, and every key holds the one or the other, whole batches
//! at a time. Each round opens with other sizes, another policy and another durability; every level survives a kill.
//!
//! `PUGDB_STRESS_ROUNDS=1000 cargo test --release -p pugdb-tests --test stress` is the long run.

#![expect(clippy::unwrap_used, reason = "a test's helper fails as its test does")]

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pugdb::{Builder, CompactionPolicy, Database, Durability, Keyspace, KeyspaceOptions};
use pugdb_tests::killed::{run_and_kill, told};

const THREADS: usize = 16;
const KEYS: usize = 2048;
const KEYSPACES: [&str; 2] = ["left", "right"];
const SLOT_BYTES: usize = 24;

/// What is known of a key: the version acknowledged last, the one under way, and the batch it is part of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Slot {
    acknowledged: u64,
    pending: u64,
    batch: u64,
}

/// The slots, in a file: a written slot is in the operating system's hands, and survives the kill.
struct Expected(File);

impl Expected {
    fn open(dir: &Path) -> Self {
        let path = dir.join("expected");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap();
        file.set_len((KEYSPACES.len() * KEYS * SLOT_BYTES) as u64).unwrap();
        Self(file)
    }

    fn get(&self, slot: usize) -> Slot {
        let mut bytes = [0; SLOT_BYTES];
        self.0.read_exact_at(&mut bytes, (slot * SLOT_BYTES) as u64).unwrap();
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        Slot { acknowledged: word(0), pending: word(8), batch: word(16) }
    }

    fn set(&self, slot: usize, what: Slot) {
        let words = [what.acknowledged, what.pending, what.batch].map(u64::to_le_bytes);
        self.0.write_all_at(words.as_flattened(), (slot * SLOT_BYTES) as u64).unwrap();
    }
}

fn key(slot: usize) -> Vec<u8> {
    format!("key {:05}", slot % KEYS).into_bytes()
}

/// Every eighth version of a key is a delete; version 0 is what was there before the first write.
fn is_absent(version: u64) -> bool {
    version.is_multiple_of(8)
}

/// A value tells its key and version, and its length follows from them.
fn value(slot: usize, version: u64) -> Vec<u8> {
    let length = usize::try_from(version.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54).unwrap();
    let mut value = version.to_le_bytes().to_vec();
    value.extend_from_slice(&(slot as u64).to_le_bytes());
    value.resize(16 + length, version.to_le_bytes()[0]);
    value
}

/// The version that a value tells; 0 for none.
fn version(slot: usize, found: Option<&[u8]>) -> u64 {
    let Some(found) = found else { return 0 };
    let version = u64::from_le_bytes(found[..8].try_into().unwrap());
    assert_eq!(found, value(slot, version), "key {slot} holds what was never written");
    version
}

fn options(random: &mut fastrand::Rng) -> Builder {
    let policies = [CompactionPolicy::LazyLeveled, CompactionPolicy::Leveled, CompactionPolicy::Tiered];
    let durabilities = [
        Durability::Os,
        Durability::Os,
        Durability::Periodic { interval: Duration::from_millis(5) },
        Durability::Group { max_delay: Duration::from_millis(1) },
        Durability::Sync,
    ];
    let separate_values = Some([0, 64, 1 << 10][random.usize(..3)]);
    let options = KeyspaceOptions { separate_values, ..KeyspaceOptions::default() };
    Database::builder()
        .default_options(options)
        .memory_bytes(16 << 20)
        .memtable_bytes([64 << 10, 256 << 10, 2 << 20][random.usize(..3)])
        .cache_bytes([0, 64 << 10, 4 << 20][random.usize(..3)])
        .log_segment_bytes([128 << 10, 1 << 20, 8 << 20][random.usize(..3)])
        .compaction(policies[random.usize(..3)])
        .scrub_interval(Some(Duration::from_secs(1)))
        .background_bytes_per_second([1 << 40, 8 << 20, 1][random.usize(..3)])
        .durability(durabilities[random.usize(..5)])
}

/// One of the threads: it alone writes the keys whose number leaves its own when divided by their number.
struct Worker<'a> {
    number: usize,
    random: fastrand::Rng,
    db: &'a Database,
    keyspaces: &'a [Keyspace],
    expected: &'a Expected,
    batches: u64,
}

impl Worker<'_> {
    fn own_slot(&mut self) -> usize {
        let slots = KEYSPACES.len() * KEYS / THREADS;
        self.random.usize(..slots) * THREADS + self.number
    }

    fn step(&mut self) {
        match self.random.u32(..1000) {
            0..600 => self.write(1),
            600..750 => {
                let count = self.random.usize(2..9);
                self.write(count);
            }
            750..900 => self.read_own(),
            900..985 => self.read_other(),
            985..998 => self.scan(),
            998 => self.db.flush().unwrap(),
            _ => self.keyspaces[0].compact_range(..).unwrap(),
        }
    }

    fn write(&mut self, count: usize) {
        let slots: Vec<usize> = (0..count).map(|_| self.own_slot()).collect();
        let slots: BTreeMap<usize, Slot> =
            slots.into_iter().map(|slot| (slot, self.expected.get(slot))).collect();
        self.batches += 1;
        let id = self.batches * THREADS as u64 + self.number as u64;
        let mut batch = self.db.batch();
        for (&slot, known) in &slots {
            let pending = known.acknowledged + 1;
            self.expected.set(slot, Slot { pending, batch: id, ..*known });
            let keyspace = &self.keyspaces[slot / KEYS];
            if is_absent(pending) && slot % 3 == 0 {
                batch.delete_range(keyspace, key(slot)..=key(slot));
            } else if is_absent(pending) {
                batch.delete(keyspace, key(slot));
            } else {
                batch.put(keyspace, key(slot), value(slot, pending));
            }
        }
        batch.commit().unwrap();
        for (slot, known) in slots {
            let version = known.acknowledged + 1;
            self.expected.set(slot, Slot { acknowledged: version, pending: version, batch: 0 });
        }
    }

    fn read_own(&mut self) {
        let slot = self.own_slot();
        let known = self.expected.get(slot).acknowledged;
        let found = self.keyspaces[slot / KEYS].get(key(slot)).unwrap();
        let expected = if is_absent(known) { 0 } else { known };
        assert_eq!(version(slot, found.as_deref()), expected, "key {slot} of thread {}", self.number);
    }

    /// A key that another thread may be writing: never older than what was acknowledged before the read.
    fn read_other(&mut self) {
        let slot = self.random.usize(..KEYSPACES.len() * KEYS);
        let before = self.expected.get(slot).acknowledged;
        let found = self.keyspaces[slot / KEYS].get(key(slot)).unwrap();
        let after = self.expected.get(slot).pending;
        let seen = version(slot, found.as_deref());
        let may_be_absent = (before..=after).any(is_absent);
        assert!(
            (seen == 0 && may_be_absent) || (before..=after).contains(&seen),
            "{seen}: {before} to {after}"
        );
    }

    fn scan(&mut self) {
        let keyspace = self.random.usize(..KEYSPACES.len());
        let start = key(self.random.usize(..KEYS));
        let mut last = None;
        for entry in self.keyspaces[keyspace].scan(start..).take(100) {
            let (found, value) = entry.unwrap();
            let number: usize = std::str::from_utf8(&found[4..]).unwrap().parse().unwrap();
            version(keyspace * KEYS + number, Some(&value));
            assert!(last.replace(number).is_none_or(|last| last < number));
        }
    }
}

/// What the killed process does. Without the directory in its environment this is an ordinary run of the tests.
#[test]
fn the_process_that_is_killed() {
    let Some((dir, seed)) = told() else { return };
    let mut random = fastrand::Rng::with_seed(seed);
    let db = options(&mut random).open(dir.join("db")).unwrap();
    let keyspaces = KEYSPACES.map(|name| db.keyspace(name).unwrap());
    let expected = Expected::open(&dir);
    std::thread::scope(|scope| {
        for number in 0..THREADS {
            let random = fastrand::Rng::with_seed(random.u64(..));
            let (db, keyspaces, expected) = (&db, &keyspaces, &expected);
            let mut worker = Worker { number, random, db, keyspaces, expected, batches: 0 };
            scope.spawn(move || {
                loop {
                    worker.step();
                }
            });
        }
    });
}

/// Opens what the kill has left and holds every key against what is known. What was under way is settled then.
fn check(dir: &Path, builder: Builder) -> u64 {
    let db = builder.open(dir.join("db")).unwrap();
    let keyspaces = KEYSPACES.map(|name| db.keyspace(name).unwrap());
    let expected = Expected::open(dir);
    let (mut batches, mut acknowledged): (BTreeMap<u64, Vec<bool>>, u64) = (BTreeMap::new(), 0);
    for slot in 0..KEYSPACES.len() * KEYS {
        let known = expected.get(slot);
        let found = version(slot, keyspaces[slot / KEYS].get(key(slot)).unwrap().as_deref());
        let is = |version: u64| found == if is_absent(version) { 0 } else { version };
        let (is_old, is_new) = (is(known.acknowledged), is(known.pending));
        assert!(is_old || is_new, "key {slot} holds version {found} of {known:?}");
        if known.batch != 0 && is_old != is_new {
            batches.entry(known.batch).or_default().push(is_new);
        }
        let settled = if is_new { known.pending } else { known.acknowledged };
        expected.set(slot, Slot { acknowledged: settled, pending: settled, batch: 0 });
        acknowledged += settled;
    }
    for (batch, members) in batches {
        assert!(members.iter().all(|&member| member == members[0]), "half of batch {batch} is there");
    }
    let report = db.verify().unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    db.close().unwrap();
    acknowledged
}

#[test]
fn a_process_that_is_killed_at_any_moment_loses_nothing_that_it_has_acknowledged() {
    let rounds: u64 = std::env::var("PUGDB_STRESS_ROUNDS").map_or(6, |rounds| rounds.parse().unwrap());
    let scratch = tempfile::tempdir().unwrap();
    let dir: PathBuf = scratch.path().to_owned();
    let mut acknowledged = 0;
    for seed in 0..rounds {
        let mut random = fastrand::Rng::with_seed(seed ^ 0x5eed);
        let after = Duration::from_millis(random.u64(50..1500));
        run_and_kill("the_process_that_is_killed", &dir, seed, after);
        let now = check(&dir, options(&mut random));
        assert!(now >= acknowledged);
        acknowledged = now;
    }
    assert!(acknowledged > rounds * 10, "hardly anything was written: {acknowledged}");
    eprintln!("{rounds} rounds, {acknowledged} changes of keys acknowledged, all found");
}
