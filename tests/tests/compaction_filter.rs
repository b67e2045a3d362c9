//! Compaction filters: what they condemn goes and takes nothing older or newer with it or back with it, snapshots see
//! what they saw, and a filter that panics loses nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pugdb::seam::{CompactionFilter, FilteredEntry, Verdict};
use pugdb::{CompactionPolicy, Database, Durability, Keyspace, KeyspaceOptions, Snapshot};
use pugdb_sim::World;
use pugdb_tests::model_setup::{DIRECTORY, policy, table_file_bytes};

const TARGET: &str = "-p pugdb-tests --test compaction_filter";
const KEYS: u64 = 600;

/// Condemns values that begin with a number below this, of 8.
struct Below(u8);

impl CompactionFilter for Below {
    fn judge(&self, entry: &FilteredEntry<'_>) -> Verdict {
        if is_condemned(entry.value, self.0) { Verdict::Forget } else { Verdict::Keep }
    }
}

fn is_condemned(value: &[u8], below: u8) -> bool {
    value.first().is_some_and(|first| first % 8 < below)
}

fn open_with(
    world: &World,
    policy: CompactionPolicy,
    filters: &[(&str, Arc<dyn CompactionFilter>)],
) -> Database {
    let mut builder = Database::builder().env(world.env()).durability(Durability::Os).compaction(policy);
    for (keyspace, filter) in filters {
        builder = builder.compaction_filter(keyspace, Arc::clone(filter));
    }
    // Half of the values lie apart: a filter sees them all the same.
    let options = KeyspaceOptions { separate_values: Some(150), ..KeyspaceOptions::default() };
    let builder = builder.default_options(options);
    let builder = builder.memory_bytes(1 << 20).cache_bytes(16 << 10).memtable_bytes(8 << 10);
    builder.log_segment_bytes(64 << 10).open(DIRECTORY).expect("the disk is whole")
}

fn open(world: &World, policy: CompactionPolicy) -> Database {
    open_with(world, policy, &[("users", Arc::new(Below(3)))])
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn key(number: u64) -> Vec<u8> {
    format!("user{number:06}").into_bytes()
}

fn change(world: &World, users: &Keyspace, model: &mut Model, random: &mut fastrand::Rng) {
    for _ in 0..random.usize(20..200) {
        let key = key(random.u64(..KEYS));
        if random.u8(..5) == 0 {
            users.delete(&key).expect("the disk is whole");
            model.remove(&key);
        } else {
            let mut value = vec![0; random.usize(2..300)];
            // The rest of the value tells versions apart.
            (value[0], value[1]) = (random.u8(..8), random.u8(..));
            users.put(&key, &value).expect("the disk is whole");
            model.insert(key, value);
        }
        world.maybe_step();
    }
}

fn all(scan: pugdb::Scan) -> Model {
    scan.map(|entry| entry.expect("the disk is whole"))
        .map(|(key, value)| (key.to_vec(), value.to_vec()))
        .collect()
}

/// What is not condemned is there, and what is condemned is there or not, and never as it was before.
fn check(users: &Keyspace, model: &Model, what: &str) {
    let found = all(users.scan(..));
    assert!(
        found.iter().all(|(key, value)| model.get(key) == Some(value)),
        "{what}: an older version is back"
    );
    let mut missing = model.iter().filter(|(key, _)| !found.contains_key(*key));
    assert!(missing.all(|(_, value)| is_condemned(value, 3)), "{what}: too much went");
    for (key, value) in &found {
        let got = users.get(key).expect("the disk is whole");
        assert_eq!(got.as_deref(), Some(value.as_slice()), "{what}");
    }
    assert_eq!(users.count().expect("the disk is whole"), found.len() as u64, "{what}: a stale count");
}

#[test]
fn what_is_condemned_goes_and_nothing_older_comes_back_over_pieces_and_kills() {
    pugdb_sim::check(TARGET, "what_is_condemned_goes", 0..16, |seed| {
        let policy = policy(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut world, mut model, mut filtered) = (World::new(seed), Model::new(), 0);
        for life in 0..5 {
            let db = open(&world, policy);
            let users = db.keyspace("users").expect("the disk is whole");
            check(&users, &model, &format!("{policy:?} at the beginning of life {life}"));
            for _ in 0..6 {
                change(&world, &users, &mut model, &mut random);
                if random.bool() {
                    db.flush().expect("the disk is whole");
                }
                for _ in 0..random.usize(..300) {
                    world.step();
                }
                check(&users, &model, &format!("{policy:?} in life {life}"));
            }
            if random.u8(..3) == 0 {
                users.compact_range(..).expect("the disk is whole");
            }
            filtered += db.stats().expect("it is open").filtered;
            let next = world.kill();
            drop((users, db));
            world = next;
        }
        let db = open(&world, policy);
        let users = db.keyspace("users").expect("the disk is whole");
        users.compact_range(..).expect("the disk is whole");
        model.retain(|_, value| !is_condemned(value, 3));
        assert!(all(users.scan(..)) == model, "{policy:?}: something condemned has stayed");
        let stats = db.stats().expect("it is open");
        assert!(filtered + stats.filtered > 0 && stats.filter_panics == 0);
        world.run_until_idle();
        assert!(db.verify().expect("it is open").problems.is_empty());
        assert_eq!(stats.table_bytes + stats.value_bytes, table_file_bytes(&world), "files are left over");
    });
}

#[test]
fn a_snapshot_sees_the_same_for_as_long_as_it_lives() {
    pugdb_sim::check(TARGET, "a_snapshot_sees_the_same", 0..16, |seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let (world, mut model) = (World::new(seed), Model::new());
        let db = open(&world, policy(seed));
        let users = db.keyspace("users").expect("the disk is whole");
        let mut snapshots: Vec<(Snapshot, Option<Model>)> = Vec::new();
        for _ in 0..30 {
            change(&world, &users, &mut model, &mut random);
            for _ in 0..random.usize(..100) {
                world.step();
            }
            // Some look for the first time long after they were taken.
            let snapshot = db.snapshot().expect("it is open");
            let now = all(users.scan(..));
            let seen = all(snapshot.scan(&users, ..));
            assert!(now == seen, "nothing has run between the two");
            snapshots.push((snapshot, Some(seen)));
            if random.bool() {
                users.compact_range(..).expect("the disk is whole");
            }
            for (snapshot, seen) in &mut snapshots {
                let again = all(snapshot.scan(&users, ..));
                assert!(seen.as_ref().is_none_or(|seen| *seen == again), "a snapshot sees something else");
                for number in (0..KEYS).step_by(37) {
                    let (key, got) = (key(number), snapshot.get(&users, key(number)).expect("it reads"));
                    assert_eq!(got.as_deref(), again.get(&key).map(Vec::as_slice));
                    let several = snapshot.multi_get(&users, [&key]).expect("it reads");
                    assert_eq!(several[0], got);
                }
            }
            if random.u8(..3) == 0 {
                snapshots.remove(random.usize(..snapshots.len()));
            }
        }
        assert!(db.stats().expect("it is open").filtered > 0);
        drop(snapshots);
        world.advance(Duration::from_mins(2));
        world.run_until_idle();
        check(&users, &model, "at the end");
        let stats = db.stats().expect("it is open");
        assert_eq!(
            stats.table_bytes + stats.value_bytes,
            table_file_bytes(&world),
            "a snapshot's files are left over"
        );
    });
}

/// Panics when it is told to, and counts what it is asked.
#[derive(Default)]
struct Moody {
    panics: AtomicBool,
    asked: AtomicU64,
}

impl CompactionFilter for Moody {
    fn judge(&self, entry: &FilteredEntry<'_>) -> Verdict {
        self.asked.fetch_add(1, Ordering::Relaxed);
        assert!(entry.meta == 0 && entry.expires_at.is_none());
        assert!(!self.panics.load(Ordering::Relaxed), "a filter that panics");
        Below(3).judge(entry)
    }
}

#[test]
fn a_filter_that_panics_loses_nothing_and_is_asked_again_by_the_next_merge() {
    let (world, moody) = (World::new(5), Arc::new(Moody::default()));
    let db = open_with(&world, CompactionPolicy::LazyLeveled, &[("users", moody.clone())]);
    let (users, mut model) = (db.keyspace("users").expect("the disk is whole"), Model::new());
    let mut random = fastrand::Rng::with_seed(5);
    moody.panics.store(true, Ordering::Relaxed);
    for _ in 0..10 {
        change(&world, &users, &mut model, &mut random);
    }
    users.compact_range(..).expect("a panic of a filter is no failure");
    assert!(all(users.scan(..)) == model);
    let stats = db.stats().expect("it is open");
    assert!(stats.filtered == 0 && stats.filter_panics > 0);
    assert_eq!(stats.filter_panics, moody.asked.load(Ordering::Relaxed), "once in a merge, then no more");
    assert!(db.failure().is_none());

    moody.panics.store(false, Ordering::Relaxed);
    users.compact_range(..).expect("the disk is whole");
    model.retain(|_, value| !is_condemned(value, 3));
    assert!(all(users.scan(..)) == model);
}

#[test]
fn a_filter_belongs_to_a_name_and_goes_with_it() {
    let world = World::new(6);
    let filter: Arc<dyn CompactionFilter> = Arc::new(Below(8));
    let db = open_with(&world, CompactionPolicy::LazyLeveled, &[("old", filter)]);
    let (old, live) = (db.keyspace("old").unwrap(), db.keyspace("live").unwrap());
    let fill = || [&old, &live].map(|keyspace| keyspace.put("a", [1]).expect("the disk is whole"));
    let counts = || [&old, &live].map(|keyspace| keyspace.count().expect("the disk is whole"));
    let compact = || [&old, &live].map(|keyspace| keyspace.compact_range(..).expect("the disk is whole"));
    fill();
    let before = db.snapshot().unwrap();
    db.swap_keyspaces("old", "live").unwrap();
    compact();
    // Handles follow what they hold: `live` is called old now. The snapshot from before the swap still needs its entry.
    assert_eq!(counts(), [1, 1]);
    assert!(before.get(&live, "a").unwrap().is_some());
    drop(before);
    let after = db.snapshot().unwrap();
    compact();
    assert_eq!(counts(), [1, 0]);
    assert!(after.get(&live, "a").unwrap().is_some() && after.get(&old, "a").unwrap().is_some());
    drop(after);

    // Over a kill, from the log; and without the filter nothing goes.
    fill();
    let world = world.kill();
    drop((old, live, db));
    let db = open_with(&world, CompactionPolicy::LazyLeveled, &[]);
    for name in ["old", "live"] {
        let keyspace = db.keyspace(name).unwrap();
        keyspace.compact_range(..).unwrap();
        assert_eq!(keyspace.count().unwrap(), 1, "{name}");
    }
    db.close().unwrap();
    let db = open_with(&world, CompactionPolicy::LazyLeveled, &[("old", Arc::new(Below(8)))]);
    for (name, count) in [("old", 0), ("live", 1)] {
        let keyspace = db.keyspace(name).unwrap();
        keyspace.compact_range(..).unwrap();
        assert_eq!(keyspace.count().unwrap(), count, "{name}");
    }
}

/// Condemns everything, and counts what it is asked.
#[derive(Default)]
struct Harsh(AtomicU64);

impl CompactionFilter for Harsh {
    fn judge(&self, _: &FilteredEntry<'_>) -> Verdict {
        self.0.fetch_add(1, Ordering::Relaxed);
        Verdict::Forget
    }
}

#[test]
fn a_swap_in_the_midst_of_a_merge_begins_it_anew() {
    let (world, filter) = (World::new(7), Arc::new(Harsh::default()));
    let db = open_with(&world, CompactionPolicy::LazyLeveled, &[("old", filter.clone())]);
    let (old, _) = (db.keyspace("old").unwrap(), db.keyspace("live").unwrap());
    for number in 0..10_000 {
        old.put(key(number % KEYS), [7; 100]).unwrap();
        world.step();
        if filter.0.load(Ordering::Relaxed) > 0 {
            break;
        }
    }
    // A merge has forgotten entries, and nobody has seen it.
    assert_eq!(db.stats().unwrap().filtered, 0);
    db.swap_keyspaces("old", "live").unwrap();
    let count = old.count().unwrap();
    old.compact_range(..).unwrap();
    world.advance(Duration::from_mins(2));
    world.run_until_idle();
    assert_eq!(
        (old.count().unwrap(), db.stats().unwrap().filtered),
        (count, 0),
        "it is not called old any more"
    );
}
