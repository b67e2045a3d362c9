//! Merge operators: the same value whatever was folded already and who looks, and what an operator refuses is told and never
//! lost. The model, conformance and crash suites merge too; here stands what they cannot single out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pugdb::operators::{Add, Append, Extreme};
use pugdb::seam::{CompactionFilter, FilteredEntry, MergeOperator, Verdict};
use pugdb::{
    AtHand, Builder, Change, Database, Durability, EngineKind, EntryOptions, ErrorKind, Keyspace,
    KeyspaceOptions, LockScope, Result,
};
use pugdb_sim::{Concatenate, World};
use pugdb_tests::model_setup::{DIRECTORY, policy};

const TARGET: &str = "-p pugdb-tests --test merge";

fn builder(world: &World) -> Builder {
    let options = KeyspaceOptions { separate_values: Some(150), ..KeyspaceOptions::default() };
    let builder = Database::builder().env(world.env()).durability(Durability::Os).default_options(options);
    builder.memory_bytes(1 << 20).cache_bytes(16 << 10).memtable_bytes(8 << 10).log_segment_bytes(64 << 10)
}

fn open(world: &World, operators: &[(&str, Arc<dyn MergeOperator>)]) -> Result<Database> {
    let give = |builder: Builder, (name, operator): &(&str, Arc<dyn MergeOperator>)| {
        builder.merge_operator(name, Arc::clone(operator))
    };
    operators.iter().fold(builder(world), give).open(DIRECTORY)
}

fn adding(world: &World) -> Database {
    open(world, &[("visits", Arc::new(Add))]).expect("the disk is whole")
}

fn kind<T>(outcome: Result<T>) -> ErrorKind {
    outcome.err().expect("it is refused").kind()
}

/// Everything that is to be done is done.
fn settle(world: &World) {
    world.advance(Duration::from_mins(2));
    world.run_until_idle();
}

/// Reads a key in every way there is.
fn everywhere(db: &Database, keyspace: &Keyspace, key: &[u8]) -> Option<Vec<u8>> {
    let value = keyspace.get(key).expect("it reads").map(|value| value.to_vec());
    let is_it = |found: Option<&[u8]>| assert_eq!(found, value.as_deref());
    is_it(keyspace.get_with(key, <[u8]>::to_vec).expect("it reads").as_deref());
    is_it(keyspace.get_entry(key).expect("it reads").as_ref().map(|entry| &*entry.value));
    assert_eq!(keyspace.exists(key).expect("it reads"), value.is_some());
    is_it(keyspace.multi_get([key, b"absent"]).expect("it reads")[0].as_deref());
    if let AtHand::Yes(found) = keyspace.try_get(key).expect("it reads") {
        is_it(found.as_deref());
    }
    let is_here = |entry: Result<(pugdb::Key, pugdb::Value)>| {
        let (found, value) = entry.expect("it reads");
        (*found == *key).then_some(value)
    };
    is_it(keyspace.scan(..).find_map(is_here).as_deref());
    is_it(keyspace.scan(..).reverse().find_map(is_here).as_deref());
    let here = keyspace.scan(key..).keys_only().next().map(|entry| entry.expect("it reads").0);
    assert_eq!(here.is_some_and(|found| *found == *key), value.is_some());
    let snapshot = db.snapshot().expect("it is open");
    is_it(snapshot.get(keyspace, key).expect("it reads").as_deref());
    assert_eq!(snapshot.exists(keyspace, key).expect("it reads"), value.is_some());
    let updated = keyspace.update(key, |old| Ok((Change::Keep, old.map(|entry| entry.value.to_vec()))));
    is_it(updated.expect("it reads").as_deref());
    let locked =
        db.update_keys(LockScope::Keys(&[(keyspace.clone(), key)]), |locked| locked.get(keyspace, key));
    is_it(locked.expect("it reads").as_deref());
    let count = keyspace.scan(..).count() as u64;
    assert_eq!(keyspace.count().expect("it reads"), count);
    value
}

#[test]
fn every_way_to_read_gives_the_folded_value_wherever_the_operands_lie() {
    let world = World::new(1);
    let db = adding(&world);
    let visits = db.keyspace("visits").unwrap();
    visits.put("b", "10").unwrap();
    visits.put("z", "0").unwrap();
    let mut sum = 10;
    for round in 0..12 {
        for number in 1..=3 {
            visits.merge("b", number.to_string()).unwrap();
            sum += number;
        }
        visits.merge("alone", "1").unwrap();
        assert_eq!(everywhere(&db, &visits, b"b"), Some(sum.to_string().into_bytes()));
        assert_eq!(everywhere(&db, &visits, b"alone"), Some((round + 1).to_string().into_bytes()));
        if round % 2 == 0 {
            db.flush().unwrap();
        }
        world.maybe_step();
    }
    visits.compact_range(..).unwrap();
    assert_eq!(everywhere(&db, &visits, b"b"), Some(sum.to_string().into_bytes()));
    settle(&world);
    let stats = db.stats().unwrap();
    assert!(stats.folded > 10 && stats.operator_failures == 0, "{stats:?}");
    assert_eq!(db.verify().unwrap().entries, 3, "three keys, three values");
}

#[test]
fn meta_and_expiry_are_those_of_the_base_and_what_has_expired_counts_from_nothing() {
    for is_flushed in [false, true] {
        let world = World::new(2);
        let db = adding(&world);
        let visits = db.keyspace("visits").unwrap();
        let settle = || {
            if is_flushed {
                db.flush().unwrap();
                visits.compact_range(..).unwrap();
            }
        };
        let expires_at = Some(db.now().plus_ms(10_000));
        visits.put_with("a", "40", EntryOptions { expires_at, meta: 7, seal: None }).unwrap();
        settle();
        visits.merge("a", "2").unwrap();
        settle();
        let entry = visits.get_entry("a").unwrap().unwrap();
        assert_eq!((&*entry.value, entry.meta, entry.expires_at), (&b"42"[..], 7, expires_at));
        world.advance(Duration::from_secs(10));
        // The operand is from before, and is still there.
        settle();
        let entry = visits.get_entry("a").unwrap().unwrap();
        assert_eq!((&*entry.value, entry.meta, entry.expires_at), (&b"2"[..], 0, None));
        // The grace is over, the expired one goes.
        world.advance(Duration::from_hours(2));
        settle();
        visits.merge("a", "1").unwrap();
        settle();
        assert_eq!(everywhere(&db, &visits, b"a"), Some(b"3".to_vec()));
        if is_flushed {
            assert_eq!(db.verify().unwrap().entries, 1);
        }
    }
}

#[test]
fn a_key_with_a_hundred_thousand_operands_is_read_and_folded() {
    const OPERANDS: u64 = 100_000;
    for is_flushed in [false, true] {
        let world = World::new(3);
        let builder = Database::builder().env(world.env()).durability(Durability::Os).memory_bytes(128 << 20);
        let builder = builder.merge_operator("log", Arc::new(Concatenate { combines: false }));
        let db = builder.open(DIRECTORY).unwrap();
        let log = db.keyspace("log").unwrap();
        log.put("key", "begin ").unwrap();
        let snapshot = db.snapshot().unwrap();
        let mut expected = b"begin ".to_vec();
        for first in (0..OPERANDS).step_by(1000) {
            let mut batch = db.batch();
            for number in first..first + 1000 {
                batch.merge(&log, "key", number.to_be_bytes());
                expected.extend(number.to_be_bytes());
            }
            batch.commit().unwrap();
            if is_flushed && first % 20_000 == 0 {
                db.flush().unwrap();
            }
        }
        // More than a portion: it is walked again and again.
        assert!(*log.get("key").unwrap().unwrap() == *expected);
        assert_eq!(snapshot.get(&log, "key").unwrap().unwrap(), b"begin ");
        drop(snapshot);
        // Each merge folds a portion more, the oldest first.
        for _ in 0..4 {
            log.compact_range(..).unwrap();
            assert!(*log.get("key").unwrap().unwrap() == *expected);
        }
        assert_eq!(db.verify().unwrap().entries, 1);
        assert_eq!(db.stats().unwrap().folded, OPERANDS);
    }
}

#[test]
fn operands_above_the_bottom_become_one_where_the_operator_combines_them() {
    for combines in [false, true] {
        let world = World::new(4);
        let db = open(&world, &[("log", Arc::new(Concatenate { combines }))]).unwrap();
        let log = db.keyspace("log").unwrap();
        log.put("key", "begin").unwrap();
        db.flush().unwrap();
        (0..20).for_each(|_| log.merge("key", "x").unwrap());
        // Its base lies in another table.
        db.flush().unwrap();
        assert_eq!(db.verify().unwrap().entries, if combines { 2 } else { 21 });
        assert_eq!(log.get("key").unwrap().unwrap().len(), 25);
    }
}

#[test]
fn without_its_operator_a_key_cannot_be_read_and_nothing_is_lost() {
    let world = World::new(5);
    let db = adding(&world);
    let visits = db.keyspace("visits").unwrap();
    visits.put("plain", "1").unwrap();
    visits.put("key", "1").unwrap();
    visits.merge("key", "1").unwrap();
    assert_eq!(visits.merge_operator().as_deref(), Some("add i64 decimal"));
    // A close would fold it.
    let world = world.kill();
    drop((visits, db));

    let db = open(&world, &[]).unwrap();
    let visits = db.keyspace("visits").unwrap();
    let error = visits.get("key").unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("add i64 decimal"), "{error}");
    assert_eq!(kind(visits.exists("key")), ErrorKind::Invalid);
    assert_eq!(kind(visits.multi_get(["plain", "key"])), ErrorKind::Invalid);
    assert_eq!(kind(visits.count()), ErrorKind::Invalid);
    assert_eq!(kind(visits.scan(..).next().unwrap()), ErrorKind::Invalid);
    assert_eq!(kind(visits.merge("key", "1")), ErrorKind::Invalid);
    assert_eq!(visits.get("plain").unwrap().unwrap(), b"1");
    // What is merged keeps the operands, and writes go on beneath and above.
    visits.put("other", "1").unwrap();
    visits.compact_range(..).unwrap();
    assert_eq!(kind(visits.get("key")), ErrorKind::Invalid);
    db.close().unwrap();

    let other = open(&world, &[("visits", Arc::new(Append::new(",")))]);
    let error = other.unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("add i64 decimal"), "{error}");
    let db = adding(&world);
    assert_eq!(db.keyspace("visits").unwrap().get("key").unwrap().unwrap(), b"2");
}

#[test]
fn a_keyspace_that_was_given_no_operator_or_is_in_memory_merges_nothing() {
    let world = World::new(6);
    let db = open(&world, &[("memory", Arc::new(Add)), ("hash", Arc::new(Add))]).unwrap();
    let plain = db.keyspace("plain").unwrap();
    assert_eq!(kind(plain.merge("key", "1")), ErrorKind::Invalid);
    for (name, engine) in [("memory", EngineKind::Btree), ("hash", EngineKind::Hash)] {
        let options = KeyspaceOptions { engine: Some(engine), ..KeyspaceOptions::default() };
        let memory = db.keyspace_with(name, options).unwrap();
        let error = memory.merge("key", "1").unwrap_err();
        assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("lsm"), "{error}");
    }
    let long: Arc<dyn MergeOperator> = Arc::new(Append::new("a very long separator".repeat(9)));
    assert_eq!(kind(open(&World::new(6), &[("log", long)])), ErrorKind::Invalid);
}

/// Refuses `no`, panics at `panic` when it is told to.
#[derive(Default)]
struct Moody {
    panics: AtomicBool,
    calls: AtomicU64,
}

impl MergeOperator for Moody {
    fn name(&self) -> &'static str {
        "moody"
    }

    fn merge(&self, _: &[u8], existing: Option<&[u8]>, operands: &[&[u8]]) -> Option<Vec<u8>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        assert!(!self.panics.load(Ordering::Relaxed), "an operator that panics");
        let refuses = operands.contains(&&b"no"[..]);
        (!refuses).then(|| [existing.unwrap_or_default(), &operands.concat()].concat())
    }

    fn combine(&self, _: &[u8], _: &[u8], _: &[u8]) -> Option<Vec<u8>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        assert!(!self.panics.load(Ordering::Relaxed), "an operator that panics");
        None
    }
}

#[test]
fn what_an_operator_refuses_is_an_error_of_its_readers_until_something_lies_above() {
    let (world, moody) = (World::new(7), Arc::new(Moody::default()));
    let db = open(&world, &[("log", moody.clone())]).unwrap();
    let log = db.keyspace("log").unwrap();
    for key in ["good", "bad"] {
        log.put(key, "a").unwrap();
        log.merge(key, if key == "bad" { "no" } else { "b" }).unwrap();
    }
    for _ in 0..2 {
        assert_eq!(log.get("good").unwrap().unwrap(), b"ab");
        assert_eq!(kind(log.get("bad")), ErrorKind::Invalid);
        db.flush().unwrap();
        log.compact_range(..).unwrap();
    }
    assert!(db.stats().unwrap().operator_failures > 0 && db.failure().is_none());
    log.put("bad", "c").unwrap();
    log.merge("bad", "d").unwrap();
    log.compact_range(..).unwrap();
    assert_eq!(log.get("bad").unwrap().unwrap(), b"cd");
    assert_eq!(db.verify().unwrap().entries, 2);
}

#[test]
fn an_operator_that_panics_loses_nothing_and_is_called_once_in_a_merge() {
    let (world, moody) = (World::new(8), Arc::new(Moody::default()));
    let db = open(&world, &[("log", moody.clone())]).unwrap();
    let log = db.keyspace("log").unwrap();
    for number in 0..20 {
        log.put(number.to_string(), "a").unwrap();
        log.merge(number.to_string(), "b").unwrap();
    }
    moody.panics.store(true, Ordering::Relaxed);
    assert_eq!(kind(log.get("3")), ErrorKind::Internal);
    let calls = moody.calls.load(Ordering::Relaxed);
    db.flush().unwrap();
    assert_eq!(moody.calls.load(Ordering::Relaxed), calls + 1);
    assert_eq!(db.stats().unwrap().operator_failures, 1);
    moody.panics.store(false, Ordering::Relaxed);
    log.compact_range(..).unwrap();
    assert!((0..20).all(|number| log.get(number.to_string()).unwrap().unwrap() == b"ab"));
    assert_eq!(db.verify().unwrap().entries, 20);

    // Above the bottom it is asked to combine them.
    for number in 0..20 {
        log.merge(number.to_string(), "c").unwrap();
        log.merge(number.to_string(), "d").unwrap();
    }
    moody.panics.store(true, Ordering::Relaxed);
    let calls = moody.calls.load(Ordering::Relaxed);
    db.flush().unwrap();
    assert!(db.stats().unwrap().operator_failures > 1);
    moody.panics.store(false, Ordering::Relaxed);
    assert!(moody.calls.load(Ordering::Relaxed) - calls < 5, "once for each memtable");
    assert!((0..20).all(|number| log.get(number.to_string()).unwrap().unwrap() == b"abcd"));
}

#[test]
fn an_operator_follows_what_a_keyspace_holds_when_names_are_exchanged() {
    let world = World::new(9);
    let operators: [(&str, Arc<dyn MergeOperator>); 2] =
        [("old", Arc::new(Add)), ("seen", Arc::new(Extreme::Greatest))];
    let db = open(&world, &operators).unwrap();
    let (old, new, seen) =
        (db.keyspace("old").unwrap(), db.keyspace("new").unwrap(), db.keyspace("seen").unwrap());
    old.merge("key", "1").unwrap();
    seen.merge("key", "b").unwrap();
    // Opened again, `seen` would be given the operator of `old`.
    assert_eq!(kind(db.swap_keyspaces("old", "seen")), ErrorKind::Invalid);
    db.swap_keyspaces("old", "new").unwrap();
    old.merge("key", "1").unwrap();
    new.merge("key", "5").unwrap();
    let world = world.kill();
    drop((old, new, seen, db));
    let db = open(&world, &operators).unwrap();
    for (name, value) in [("new", b"2"), ("old", b"5"), ("seen", b"b")] {
        let keyspace = db.keyspace(name).unwrap();
        keyspace.compact_range(..).unwrap();
        assert_eq!(keyspace.get("key").unwrap().unwrap(), value, "{name}");
    }
}

/// Condemns values of more than three bytes.
struct Short;

impl CompactionFilter for Short {
    fn judge(&self, entry: &FilteredEntry<'_>) -> Verdict {
        if entry.value.len() > 3 { Verdict::Forget } else { Verdict::Keep }
    }
}

#[test]
fn a_filter_judges_what_was_folded_and_nothing_beneath_operands() {
    let world = World::new(10);
    let builder = builder(&world).merge_operator("log", Arc::new(Concatenate { combines: true }));
    let db = builder.compaction_filter("log", Arc::new(Short)).open(DIRECTORY).unwrap();
    let log = db.keyspace("log").unwrap();
    for (key, value, operand) in [("long", "ab", "cd"), ("short", "a", "b"), ("base", "abcd", "")] {
        log.put(key, value).unwrap();
        log.merge(key, operand).unwrap();
    }
    db.flush().unwrap();
    log.compact_range(..).unwrap();
    assert_eq!(log.get("short").unwrap().unwrap(), b"ab");
    assert_eq!((log.get("long").unwrap(), log.get("base").unwrap()), (None, None));

    // A snapshot keeps the operand apart from its base: that is not judged, for it is no value of the key.
    log.put("base", "abcd").unwrap();
    let snapshot = db.snapshot().unwrap();
    log.merge("base", "e").unwrap();
    db.flush().unwrap();
    log.compact_range(..).unwrap();
    assert_eq!(log.get("base").unwrap().unwrap(), b"abcde");
    drop(snapshot);
}

#[test]
fn ready_made_operators_give_what_their_names_say_over_any_history() {
    pugdb_sim::check(TARGET, "ready_made_operators_give_what_their_names_say", 0..8, |seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let world = World::new(seed);
        let operators: [(&str, Arc<dyn MergeOperator>); 3] = [
            ("sum", Arc::new(Add)),
            ("list", Arc::new(Append::new(","))),
            ("least", Arc::new(Extreme::Least)),
        ];
        let give = |builder: Builder, (name, operator): &(&str, Arc<dyn MergeOperator>)| {
            builder.merge_operator(name, Arc::clone(operator))
        };
        let db =
            operators.iter().fold(builder(&world).compaction(policy(seed)), give).open(DIRECTORY).unwrap();
        let spaces = operators.each_ref().map(|(name, _)| db.keyspace(name).unwrap());
        let mut model: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
        for _ in 0..1500 {
            let (key, number) = (random.u64(..40), random.i64(-99..99));
            let is_put = random.u8(..12) == 0;
            for space in &spaces {
                let (key, number) = (key.to_be_bytes(), number.to_string());
                if is_put { space.put(key, number).unwrap() } else { space.merge(key, number).unwrap() }
            }
            let numbers = model.entry(key).or_default();
            if is_put {
                numbers.clear();
            }
            numbers.push(number);
            world.maybe_step();
            if random.u8(..100) == 0 {
                db.flush().unwrap();
                world.run_until_idle();
            }
        }
        for (key, numbers) in &model {
            let texts: Vec<String> = numbers.iter().map(i64::to_string).collect();
            let expected = [
                numbers.iter().sum::<i64>().to_string(),
                texts.join(","),
                texts.iter().min().unwrap().clone(),
            ];
            for (space, expected) in spaces.iter().zip(expected) {
                assert_eq!(&*space.get(key.to_be_bytes()).unwrap().unwrap(), expected.as_bytes());
            }
        }
        assert!(db.stats().unwrap().folded > 500);
    });
}
