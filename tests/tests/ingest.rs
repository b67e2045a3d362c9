//! Sorted files: between two commits or not at all, for readers, for snapshots and after a crash at any call; and nothing of
//! those that were not taken in is left over.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use pugdb::{
    Database, Durability, EngineKind, EntryOptions, ErrorKind, Keyspace, KeyspaceOptions, Logging, Result,
};
use pugdb_sim::World;
use pugdb_tests::model_setup::{DIRECTORY, policy, table_file_bytes};

const TARGET: &str = "-p pugdb-tests --test ingest";

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn try_open(world: &World, seed: u64) -> Result<Database> {
    let builder = Database::builder().env(world.env()).durability(Durability::Os).compaction(policy(seed));
    let builder = builder.memory_bytes(1 << 20).cache_bytes(16 << 10).memtable_bytes(8 << 10);
    builder.log_segment_bytes(64 << 10).open(DIRECTORY)
}

fn open(world: &World, seed: u64) -> Database {
    try_open(world, seed).expect("the disk is whole")
}

fn key(number: u64) -> Vec<u8> {
    format!("user{number:06}").into_bytes()
}

fn all(scan: pugdb::Scan) -> Model {
    scan.map(|entry| entry.expect("the disk is whole"))
        .map(|(key, value)| (key.to_vec(), value.to_vec()))
        .collect()
}

/// A file of `count` keys from `first` on, every `step`-th.
fn file(users: &Keyspace, (first, step, count): (u64, u64, u64), value: &[u8]) -> Result<pugdb::SortedFile> {
    let mut writer = users.sorted_writer()?;
    for number in 0..count {
        writer.put(key(first + number * step), value)?;
    }
    writer.finish()
}

fn note(model: &mut Model, (first, step, count): (u64, u64, u64), value: &[u8]) {
    model.extend((0..count).map(|number| (key(first + number * step), value.to_vec())));
}

#[test]
fn files_hide_what_is_older_and_are_hidden_by_what_is_newer() {
    pugdb_sim::check(TARGET, "files_hide_what_is_older", 0..16, |seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut world, mut model) = (World::new(seed), Model::new());
        for life in 0..4 {
            let db = open(&world, seed);
            let users = db.keyspace("users").expect("the disk is whole");
            assert!(all(users.scan(..)) == model, "life {life}");
            let mut snapshots = Vec::new();
            for _ in 0..12 {
                if random.u8(..4) == 0 {
                    snapshots.push((db.snapshot().expect("it is open"), model.clone()));
                }
                match random.u8(..8) {
                    0..3 => {
                        let value = vec![random.u8(..); random.usize(..200)];
                        let keys = (random.u64(..1000), random.u64(1..4), random.u64(1..200));
                        let next = (keys.0 + keys.1 * keys.2, 1, random.u64(1..50));
                        let files = [next, keys].map(|keys| file(&users, keys, &value).expect("it is whole"));
                        users.ingest(files).expect("the disk is whole");
                        note(&mut model, keys, &value);
                        note(&mut model, next, &value);
                    }
                    3 if random.u8(..4) == 0 => {
                        users.truncate().expect("the disk is whole");
                        model.clear();
                    }
                    _ => {
                        for _ in 0..random.usize(..100) {
                            let key = key(random.u64(..1500));
                            if random.u8(..3) == 0 {
                                users.delete(&key).expect("the disk is whole");
                                model.remove(&key);
                            } else {
                                let value = vec![random.u8(..); random.usize(..200)];
                                users.put(&key, &value).expect("the disk is whole");
                                model.insert(key, value);
                            }
                            world.maybe_step();
                        }
                    }
                }
                (0..random.usize(..100)).for_each(|_| {
                    world.step();
                });
                assert!(all(users.scan(..)) == model, "a scan sees something else");
                for number in (0..1500).step_by(41) {
                    let got = users.get(key(number)).expect("the disk is whole");
                    assert_eq!(got.as_deref(), model.get(&key(number)).map(Vec::as_slice));
                }
                assert_eq!(users.count().expect("it is open"), model.len() as u64, "a stale count");
                for (snapshot, seen) in &snapshots {
                    assert!(all(snapshot.scan(&users, ..)) == *seen, "a snapshot sees what came later");
                }
            }
            drop(snapshots);
            let next = world.kill();
            drop((users, db));
            world = next;
        }
        let db = open(&world, seed);
        let users = db.keyspace("users").expect("the disk is whole");
        users.compact_range(..).expect("the disk is whole");
        world.run_until_idle();
        assert!(all(users.scan(..)) == model && db.verify().expect("it is open").problems.is_empty());
        let bytes = db.stats().expect("it is open").table_bytes;
        assert_eq!(bytes, table_file_bytes(&world), "files are left over");
    });
}

/// What is in the two keyspaces after each step; the last number that was acknowledged as durable.
struct Life {
    states: Vec<[Model; 2]>,
    durable: usize,
}

impl Life {
    fn step(
        &mut self,
        change: impl FnOnce(&mut [Model; 2]),
        commit: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let mut next = self.states.last().expect("it begins with one").clone();
        change(&mut next);
        self.states.push(next);
        commit()
    }

    fn run(&mut self, world: &World, seed: u64) -> Result<()> {
        let db = try_open(world, seed)?;
        let (users, names) = (db.keyspace("users")?, db.keyspace("names")?);
        for round in 0..3_u8 {
            for number in 0..20 {
                let value = [round; 100];
                let (in_users, in_names) = (key(number * 7), key(number));
                self.step(
                    |state| drop(state[0].insert(in_users.clone(), value.to_vec())),
                    || users.put(&in_users, value),
                )?;
                self.step(
                    |state| drop(state[1].insert(in_names.clone(), value.to_vec())),
                    || names.put(&in_names, value),
                )?;
            }
            let (one, other) = ((u64::from(round), 2, 100), (300, 1, 20));
            let files = [file(&users, one, &[round; 90])?, file(&users, other, &[round; 90])?];
            let _given_up = file(&users, (0, 1, 50), b"never taken in")?;
            let change = |state: &mut [Model; 2]| {
                note(&mut state[0], one, &[round; 90]);
                note(&mut state[0], other, &[round; 90]);
            };
            self.step(change, || users.ingest(files))?;
            // And with it all that came before.
            self.durable = self.states.len() - 1;
            // Nothing is to be flushed for this one, which would sync the directory too.
            let far = (1000 + u64::from(round) * 10, 1, 10);
            let alone = file(&users, far, b"alone")?;
            self.step(|state| note(&mut state[0], far, b"alone"), || users.ingest([alone]))?;
            self.durable = self.states.len() - 1;
        }
        Ok(())
    }

    fn check(&self, world: &World, seed: u64, what: &str) {
        let opened = try_open(world, seed);
        assert!(opened.is_ok(), "{what}: {opened:?}");
        let db = opened.expect("it was looked at");
        let found = ["users", "names"].map(|name| {
            let keyspace = db.existing_keyspace(name).expect("it is open");
            keyspace.map_or_else(Model::new, |keyspace| all(keyspace.scan(..)))
        });
        assert!(self.states[self.durable..].contains(&found), "{what}: no prefix, or files half there");
        assert!(db.verify().expect("it is open").problems.is_empty(), "{what}");
        world.run_until_idle();
        let bytes = db.stats().expect("it is open").table_bytes;
        assert_eq!(bytes, table_file_bytes(world), "{what}: files are left over");
    }
}

#[test]
fn cut_at_every_call_all_files_are_there_or_none_and_a_prefix_with_them() {
    pugdb_sim::check(TARGET, "cut_at_every_call", 20..23, |seed| {
        let begin = || Life { states: vec![[Model::new(), Model::new()]], durable: 0 };
        let whole = World::new(seed);
        begin().run(&whole, seed).expect("nothing is cut");
        for call in 1..=whole.calls() {
            let (world, mut life) = (World::new(seed), begin());
            world.stop_at(call);
            let _ = life.run(&world, seed);
            for after in [world.power_cut(), world.power_cut(), world.kill()] {
                life.check(&after, seed, &format!("seed {seed}, call {call}, {:?}", after.fate()));
            }
        }
    });
}

#[test]
fn a_call_that_fails_leaves_all_or_none_and_the_rest_goes_on() {
    pugdb_sim::check(TARGET, "a_call_that_fails", 30..32, |seed| {
        let whole = World::new(seed);
        let begin = || Life { states: vec![[Model::new(), Model::new()]], durable: 0 };
        begin().run(&whole, seed).expect("nothing fails");
        for call in (1..=whole.calls()).step_by(2) {
            for kind in [std::io::ErrorKind::StorageFull, std::io::ErrorKind::Other] {
                let (world, mut life) = (World::new(seed), begin());
                world.fail_call(call, kind);
                let _ = life.run(&world, seed);
                world.heal();
                for after in [world.kill(), world.power_cut()] {
                    life.check(&after, seed, &format!("seed {seed}, call {call} failed with {kind:?}"));
                }
            }
        }
    });
}

#[test]
fn what_is_wrong_is_refused_and_changes_nothing() {
    let world = World::new(4);
    let db = open(&world, 0);
    let (users, names) = (db.keyspace("users").unwrap(), db.keyspace("names").unwrap());
    let invalid = |outcome: Result<()>| assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Invalid);
    let of = |keyspace: &Keyspace, first| file(keyspace, (first, 1, 10), b"1").unwrap();
    invalid(users.ingest([of(&users, 0), of(&users, 9)]));
    invalid(users.ingest([of(&users, 0), of(&names, 100)]));
    let other = Database::builder().env(World::new(5).env()).memory_bytes(1 << 20).open("other").unwrap();
    invalid(users.ingest([of(&other.keyspace("users").unwrap(), 0)]));
    let memory = Database::in_memory().unwrap().keyspace("users").unwrap();
    invalid(memory.sorted_writer().map(drop));
    invalid(memory.ingest([]));
    let mut writer = users.sorted_writer().unwrap();
    writer.put(key(5), b"1").unwrap();
    for wrong in [key(5), key(4), vec![b'x'; 70_000]] {
        invalid(writer.put(wrong, b"1"));
    }
    invalid(writer.put(key(6), vec![0; 600_000]));
    let options = EntryOptions { meta: 3, ..EntryOptions::default() };
    writer.put_with(key(7), b"2", options).unwrap();
    let watch = users.watch(key(7)).unwrap();
    users.ingest([writer.finish().unwrap(), users.sorted_writer().unwrap().finish().unwrap()]).unwrap();
    assert!(watch.is_broken());
    assert_eq!((users.count().unwrap(), users.get_entry(key(7)).unwrap().unwrap().meta), (2, 3));
    let left = of(&users, 0);
    db.drop_keyspace("users").unwrap();
    assert_eq!(users.ingest([left]).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(users.sorted_writer().unwrap_err().kind(), ErrorKind::NotFound);
    let left = of(&names, 0);
    db.close().unwrap();
    assert_eq!(names.ingest([left]).unwrap_err().kind(), ErrorKind::Closed);
    let db = open(&world, 0);
    world.run_until_idle();
    assert_eq!((db.stats().unwrap().table_bytes, table_file_bytes(&world)), (0, 0), "files are left over");
}

#[test]
fn without_a_log_nothing_older_is_lost_under_a_file() {
    let world = World::new(6);
    let db = open(&world, 0);
    let options = KeyspaceOptions { logging: Some(Logging::Unlogged), ..KeyspaceOptions::default() };
    let cache = db.keyspace_with("cache", options).unwrap();
    cache.put("far away", "1").unwrap();
    cache.ingest([file(&cache, (0, 1, 10), b"1").unwrap()]).unwrap();
    let after = world.kill();
    drop((cache, db));
    assert_eq!(open(&after, 0).keyspace("cache").unwrap().count().unwrap(), 11);
}

/// On the real system: files with one value in all their keys, writers of other keys that publish seqnos meanwhile.
#[test]
fn beside_writers_and_snapshots_files_are_there_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::builder().durability(Durability::Os).memory_bytes(4 << 20).open(dir.path()).unwrap();
    let users = db.keyspace("users").unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0_u64.. {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                users.put(key(500_000 + number % 1000), number.to_be_bytes()).unwrap();
                // In the range of the files, and hidden by the next one.
                users.put(key(number % 200 * 2 + 1), b"between").unwrap();
            }
        });
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let snapshot = db.snapshot().unwrap();
                let look = || [0, 2, 100, 398].map(|number| snapshot.get(&users, key(number)).unwrap());
                let seen = look();
                assert!(seen.iter().all(|value| *value == seen[0]), "a part of a file is seen");
                std::thread::yield_now();
                assert_eq!(look(), seen, "a snapshot sees a file that came later");
            }
        });
        for round in 0..60_u8 {
            let half = |first| file(&users, (first, 2, 100), &[round; 10]).unwrap();
            users.ingest([half(0), half(200)]).unwrap();
            assert_eq!(users.get(key(398)).unwrap().unwrap(), [round; 10]);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    db.close().unwrap();
    let db = Database::open(dir.path()).unwrap();
    assert_eq!(db.keyspace("users").unwrap().get(key(0)).unwrap().unwrap(), [59; 10]);
    assert!(db.verify().unwrap().problems.is_empty());
}

#[test]
fn a_bulk_load_in_any_order_is_as_so_many_puts_and_keeps_to_its_memory() {
    for engine in [EngineKind::Lsm, EngineKind::Btree, EngineKind::Hash] {
        let world = World::new(31);
        let builder = Database::builder().env(world.env()).memory_bytes(8 << 20);
        let db = builder.open("bulk").expect("the disk is whole");
        let options = KeyspaceOptions { engine: Some(engine), ..KeyspaceOptions::default() };
        let space = db.keyspace_with("space", options).expect("it is open");
        space.put(b"before", b"1").expect("it is open");
        space.put(5_u32.to_be_bytes(), b"older").expect("it is open");
        let mut random = fastrand::Rng::with_seed(7);
        let (mut load, mut expected) = (space.bulk_load().expect("it is open"), BTreeMap::new());
        for number in 0..30_000_u32 {
            let (key, value) = (random.u32(..20_000).to_be_bytes(), [number.to_be_bytes(); 20].concat());
            load.put(key, &value).expect("the disk is whole");
            expected.insert(key.to_vec(), value);
        }
        // What is wrong is left out, and nothing else.
        assert_eq!(load.put(vec![0; 70_000], b"").map_err(|error| error.kind()), Err(ErrorKind::Invalid));
        assert_eq!(load.put(b"k", vec![0; 3 << 20]).map_err(|error| error.kind()), Err(ErrorKind::Invalid));
        let before = load.progress();
        assert!(before.portions > 3 && before.waiting > 0, "{before:?}");
        let done = load.finish().expect("the disk is whole");
        assert!(done.waiting == 0 && done.portions == before.portions + 1 && done.entries <= 30_000);
        expected.insert(b"before".to_vec(), b"1".to_vec());
        let found: BTreeMap<Vec<u8>, Vec<u8>> = space
            .scan(..)
            .map(|entry| entry.expect("the disk is whole"))
            .map(|(key, value)| (key.to_vec(), value.to_vec()))
            .collect();
        expected.entry(5_u32.to_be_bytes().to_vec()).or_insert_with(|| b"older".to_vec());
        assert!(found == expected, "{engine:?}: {} entries, {} expected", found.len(), expected.len());
        // Given up: what was taken in stays, the rest was never there.
        let mut load = space.bulk_load().expect("it is open");
        load.put(b"never", b"1").expect("it is open");
        drop(load);
        assert!(!space.exists(b"never").expect("it is open"));
    }
}
