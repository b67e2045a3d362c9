//! Merges in pieces: whatever the policy, whatever is dropped or damaged half-way, a reader sees the newest version, old
//! ones give their room back, and writers are slowed down before they are stopped.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pugdb::{CompactionPolicy, Database, Durability, ErrorKind, KeyRange, Keyspace, KeyspaceOptions};
use pugdb_sim::{CallKind, World};
use pugdb_tests::model_setup::{DIRECTORY, policy, table_file_bytes};

const TARGET: &str = "-p pugdb-tests --test compaction";
const VALUE_BYTES: usize = 200;

/// Memtables of 8 KiB, so tables of 16 KiB: a merge of all has many pieces.
fn open(world: &World, policy: CompactionPolicy) -> Database {
    let builder = Database::builder().env(world.env()).durability(Durability::Os).compaction(policy);
    let builder = builder.memory_bytes(1 << 20).cache_bytes(16 << 10).memtable_bytes(8 << 10);
    // In some worlds the larger half of the values is apart.
    let apart = if world.seed().is_multiple_of(3) { VALUE_BYTES } else { 0 };
    let options = KeyspaceOptions { separate_values: Some(apart), ..KeyspaceOptions::default() };
    let builder = builder.compaction_jobs(jobs(world));
    builder.log_segment_bytes(64 << 10).default_options(options).open(DIRECTORY).expect("the disk is whole")
}

/// One, or several that share the parts of a piece.
fn jobs(world: &World) -> usize {
    if (world.seed() / 4).is_multiple_of(2) { 3 } else { 1 }
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn key(number: u64) -> Vec<u8> {
    format!("user{number:06}").into_bytes()
}

/// Changes many keys: anywhere, in one place, or in order.
fn change(world: &World, users: &Keyspace, model: &mut Model, random: &mut fastrand::Rng, round: u64) {
    let keys = [0..2000, round * 40..round * 40 + 40, 500..520][random.usize(..3)].clone();
    for _ in 0..random.usize(20..200) {
        let key = key(random.u64(keys.clone()));
        if random.u8(..4) == 0 {
            users.delete(&key).expect("the disk is whole");
            model.remove(&key);
        } else {
            let value = vec![random.u8(..); random.usize(..2 * VALUE_BYTES)];
            users.put(&key, &value).expect("the disk is whole");
            model.insert(key, value);
        }
        world.maybe_step();
    }
}

fn read(users: &Keyspace) -> Model {
    let model: Model = users
        .scan(..)
        .map(|entry| entry.expect("the disk is whole"))
        .map(|(key, value)| (key.to_vec(), value.to_vec()))
        .collect();
    for number in 0..2000 {
        let (key, got) = (key(number), users.get(key(number)).expect("the disk is whole"));
        assert_eq!(got.as_deref(), model.get(&key).map(Vec::as_slice), "a get and a scan differ");
    }
    model
}

#[test]
fn every_policy_keeps_the_newest_version_over_pieces_and_kills() {
    pugdb_sim::check(TARGET, "every_policy_keeps", 0..24, |seed| {
        let policy = policy(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut world, mut model, mut compactions) = (World::new(seed), Model::new(), 0);
        for life in 0..5 {
            let db = open(&world, policy);
            let users = db.keyspace("users").expect("the disk is whole");
            assert!(read(&users) == model, "{policy:?} in life {life}");
            for round in 0..8 {
                change(&world, &users, &mut model, &mut random, life * 8 + round);
                if random.bool() {
                    db.flush().expect("the disk is whole");
                }
                for _ in 0..random.usize(..400) {
                    world.step();
                }
            }
            assert!(read(&users) == model, "{policy:?} at the end of life {life}");
            compactions += db.stats().expect("it is open").compactions;
            // In the midst of whatever the jobs are at.
            let next = world.kill();
            drop((users, db));
            world = next;
        }
        assert!(compactions > 4 || policy == CompactionPolicy::Fifo, "{policy:?}: {compactions}");
        let db = open(&world, policy);
        let users = db.keyspace("users").expect("the disk is whole");
        world.advance(Duration::from_mins(2));
        world.run_until_idle();
        assert!(read(&users) == model && db.verify().expect("it is open").problems.is_empty());
        let stats = db.stats().expect("it is open");
        assert_eq!(stats.table_bytes + stats.value_bytes, table_file_bytes(&world), "files are left over");
    });
}

fn live_bytes(model: &Model) -> u64 {
    model.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()
}

#[test]
fn a_scan_reads_on_though_all_that_it_reads_is_merged_meanwhile() {
    pugdb_sim::check(TARGET, "a_scan_reads_on", 0..8, |seed| {
        let world = World::new(seed);
        let db = open(&world, policy(seed));
        let (users, mut model) = (db.keyspace("users").expect("the disk is whole"), Model::new());
        let mut random = fastrand::Rng::with_seed(seed);
        for round in 0..12 {
            change(&world, &users, &mut model, &mut random, round);
            db.flush().expect("the disk is whole");
            (0..random.usize(..30)).for_each(|_| {
                world.step();
            });
        }
        let (seen, mut scan) = (model.clone(), users.scan(..));
        let mut scanned: Vec<_> = scan.by_ref().take(20).map(|entry| entry.expect("it is there").0).collect();
        for round in 0..4 {
            change(&world, &users, &mut model, &mut random, round);
            users.compact_range(..).expect("the disk is whole");
        }
        world.run_until_idle();
        let files = table_file_bytes(&world);
        scanned.extend(scan.by_ref().map(|entry| entry.expect("it is still there").0));
        assert!(scanned.iter().map(|key| &**key).eq(seen.keys().map(Vec::as_slice)));
        drop(scan);
        world.run_until_idle();
        assert!(read(&users) == model && table_file_bytes(&world) < files, "what was read last is left over");
    });
}

#[test]
fn at_rest_the_disk_holds_little_more_than_what_lives() {
    let world = World::new(7);
    let db = open(&world, CompactionPolicy::LazyLeveled);
    let users = db.keyspace("users").expect("the disk is whole");
    let (mut random, mut most, mut live) = (fastrand::Rng::with_seed(7), 0, 0);
    for round in 0..20_000_u64 {
        users.put(key(random.u64(..2000)), vec![1; VALUE_BYTES]).expect("the disk is whole");
        world.maybe_step();
        if round.is_multiple_of(100) {
            most = most.max(table_file_bytes(&world));
        }
    }
    live += 2000 * (VALUE_BYTES as u64 + 10);
    db.flush().expect("the disk is whole");
    world.advance(Duration::from_mins(2));
    world.run_until_idle();
    let stats = db.stats().expect("it is open");
    let bytes = table_file_bytes(&world);
    // What blocks and filters take is a tenth at this size of tables.
    assert!(bytes < live * 125 / 100, "{bytes} bytes of files for {live} that live: {stats:?}");
    assert!(most < live * 2, "{most} bytes of files at the height, for {live} that live");
    assert!(stats.write_amplification() < 9.0, "{} is written", stats.write_amplification());
    assert_eq!(stats.run_bytes.len(), stats.runs);
    assert_eq!(stats.run_bytes.iter().sum::<u64>(), stats.table_bytes);
}

#[test]
fn a_range_that_is_compacted_holds_nothing_that_nobody_can_see() {
    pugdb_sim::check(TARGET, "a_range_that_is_compacted", 0..16, |seed| {
        let world = World::new(seed);
        let db = open(&world, policy(seed));
        let (users, mut model) = (db.keyspace("users").expect("the disk is whole"), Model::new());
        let mut random = fastrand::Rng::with_seed(seed);
        let mut then = None;
        for round in 0..12 {
            change(&world, &users, &mut model, &mut random, round);
            if round == 4 {
                then = Some((db.snapshot().expect("it is open"), model.clone()));
            }
            db.flush().expect("the disk is whole");
        }
        let range = KeyRange::from(key(300)..key(900));
        users.compact_range(range).expect("the disk is whole");
        assert!(read(&users) == model, "a part was compacted");
        let (snapshot, seen) = then.expect("there were rounds enough");
        (0..1000).for_each(|number| users.delete(key(number)).expect("the disk is whole"));
        let mut left = model.split_off(&key(1000));
        users.compact_range(..).expect("the disk is whole");
        let scan = snapshot.scan(&users, ..).map(|entry| entry.expect("the disk is whole"));
        let scanned: Model = scan.map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        assert!(scanned == seen, "the snapshot sees something else");
        // What it kept lies in the one run that is left, under nothing.
        drop(snapshot);
        users.compact_range(..).expect("the disk is whole");
        world.run_until_idle();
        assert!(read(&users) == left);
        let stats = db.stats().expect("it is open");
        let bytes = table_file_bytes(&world);
        assert!(bytes < live_bytes(&left) * 13 / 10 + 2000, "{bytes} for {} that live", live_bytes(&left));
        users.truncate().expect("the disk is whole");
        left.clear();
        assert!(read(&users) == left && stats.table_bytes + stats.value_bytes == bytes);
    });
}

/// Two runs that share all their keys, and what they hold.
fn two_runs(users: &Keyspace, db: &Database) -> Model {
    let mut model = Model::new();
    for round in 0..2_u8 {
        for number in (0..2000).step_by(1 + usize::from(round)) {
            users.put(key(number), vec![round; VALUE_BYTES]).expect("the disk is whole");
            model.insert(key(number), vec![round; VALUE_BYTES]);
        }
        db.flush().expect("the disk is whole");
    }
    model
}

#[test]
fn the_parts_of_a_large_merge_are_shared_by_all_jobs() {
    pugdb_sim::check(TARGET, "the_parts_of_a_large_merge", 0..12, |seed| {
        let world = World::new(seed);
        let db = open(&world, policy(seed));
        let users = db.keyspace("users").expect("the disk is whole");
        let model = two_runs(&users, &db);
        users.compact_range(..).expect("the disk is whole");
        assert!(read(&users) == model);
        let stats = db.stats().expect("it is open");
        let (beside, all) = (stats.compaction_parts_beside, stats.compactions);
        assert_eq!(beside > 0, jobs(&world) > 1, "{beside} parts of {all} pieces were done beside");
    });
}

#[test]
fn a_merge_of_which_a_part_fails_leaves_nothing_of_the_others() {
    pugdb_sim::check(TARGET, "a_merge_of_which_a_part_fails", 0..24, |seed| {
        let world = World::new(seed);
        let db = open(&world, CompactionPolicy::Tiered);
        let users = db.keyspace("users").expect("the disk is whole");
        let model = two_runs(&users, &db);
        let syncs = AtomicU64::new(0);
        world.fail_when(move |call, path| {
            let is_sync = call == CallKind::SyncData && path.starts_with("data/tables");
            let is_failing = is_sync && syncs.fetch_add(1, Ordering::Relaxed) == seed;
            is_failing.then_some(std::io::ErrorKind::StorageFull)
        });
        match users.compact_range(..) {
            Ok(()) => assert!(seed > 4, "there was no part to fail"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable),
        }
        world.heal();
        world.advance(Duration::from_secs(2));
        users.compact_range(..).expect("the disk is whole");
        world.run_until_idle();
        let stats = db.stats().expect("it is open");
        assert_eq!(table_file_bytes(&world), stats.table_bytes + stats.value_bytes);
        assert!(read(&users) == model);
    });
}

#[test]
fn writers_are_slowed_down_before_they_are_stopped() {
    let world = World::new(3);
    let db = open(&world, CompactionPolicy::LazyLeveled);
    let users = db.keyspace("users").expect("the disk is whole");
    // No table can be made: what is written stays in memory.
    world.fail_when(|_, path| path.starts_with("data/tables").then_some(std::io::ErrorKind::StorageFull));
    let (mut longest, mut written, mut before) = (0, 0, db.stats().expect("it is open"));
    let refused = loop {
        if let Err(error) = users.put(key(written), vec![0; 1000]) {
            break error;
        }
        let stats = db.stats().expect("it is open");
        longest = longest.max(stats.stall_us - before.stall_us);
        (before, written) = (stats, written + 1);
    };
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    let slowed = before.stalls;
    assert!(slowed > written / 10 && slowed < written / 2, "{slowed} of {written} were slowed down");
    assert!((500..=1200).contains(&longest), "{longest} us before it was stopped");
}
