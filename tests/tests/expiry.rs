//! Expired entries give their space back: after a grace period, without a write, never to a reader's surprise, and
//! whatever the calendar does.

use std::time::Duration;

use pugdb::{
    Builder, Change, Compression, Database, Durability, EngineKind, EntryOptions, KeyCounts, Keyspace,
    KeyspaceOptions, TimeToLive, Timestamp,
};
use pugdb_sim::World;
use pugdb_tests::model_setup::{DIRECTORY, table_file_bytes};

const TARGET: &str = "-p pugdb-tests --test expiry";
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const YEAR_MS: i64 = 365 * 24 * 3_600_000;
/// Longer than the store waits for a reader that is in the way.
const PATIENCE: Duration = Duration::from_secs(11);
const KEYS: u32 = 200;
const VALUE_BYTES: usize = 500;

fn open_with(world: &World, adjust: impl FnOnce(Builder) -> Builder) -> Database {
    let builder = Database::builder()
        .env(world.env())
        .durability(Durability::Os)
        .log_segment_bytes(1 << 20)
        .default_options(compressed(Compression::None));
    adjust(builder).open(DIRECTORY).expect("the disk is whole")
}

/// The same above and at the bottom. Sizes of files tell what is in them where nothing is compressed.
fn compressed(codec: Compression) -> KeyspaceOptions {
    KeyspaceOptions {
        upper_compression: Some(codec),
        bottom_compression: Some(codec),
        ..KeyspaceOptions::default()
    }
}

/// With the grace as a user gets it, which is an hour.
fn open(world: &World) -> Database {
    open_with(world, |builder| builder)
}

fn users(db: &Database) -> Keyspace {
    db.keyspace("users").expect("the disk is whole")
}

fn key(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

/// One batch, flushed: a table of its own.
fn fill(
    db: &Database,
    space: &Keyspace,
    keys: impl Iterator<Item = u32>,
    expires_at: impl Into<Option<Timestamp>>,
) {
    let (mut batch, expires_at) = (db.batch(), expires_at.into());
    let options = EntryOptions { expires_at, ..EntryOptions::default() };
    keys.for_each(|number| batch.put_with(space, key(number), vec![7; VALUE_BYTES], options));
    batch.commit().expect("the disk is whole");
    db.flush().expect("the disk is whole");
}

fn after(db: &Database, time: Duration) -> Timestamp {
    db.now().plus_ms(u64::try_from(time.as_millis()).expect("no test waits that long"))
}

fn pass(world: &World, time: Duration) {
    world.advance(time);
    world.run_until_idle();
}

/// How many of the keys have a value; reads of every kind agree.
fn count(space: &Keyspace) -> u32 {
    let got = (0..KEYS).filter(|&number| space.get(key(number)).expect("the disk is whole").is_some());
    let got = u32::try_from(got.count()).expect("there are few");
    let scanned = space.scan(..).inspect(|entry| assert!(entry.is_ok())).count();
    assert_eq!((scanned, space.count().expect("the disk is whole")), (got as usize, u64::from(got)));
    got
}

/// Bytes of tables, which are the bytes of their files: nothing is left behind.
fn table_bytes(db: &Database, world: &World) -> u64 {
    let bytes = db.stats().expect("it is open").table_bytes;
    assert_eq!(bytes, table_file_bytes(world));
    assert!(db.verify().expect("it is open").problems.is_empty());
    bytes
}

#[test]
fn an_expired_data_set_gives_its_space_back_after_the_grace_though_nothing_is_written() {
    let world = World::new(1);
    let db = open(&world);
    let users = users(&db);
    // Three runs, which share keys: what is old in them goes when it is quiet.
    for _ in 0..3 {
        fill(&db, &users, 0..KEYS, after(&db, DAY));
    }
    world.run_until_idle();
    let live = u64::from(KEYS) * VALUE_BYTES as u64;
    assert!(table_bytes(&db, &world) > 3 * live);
    pass(&world, Duration::from_mins(1));
    let full = table_bytes(&db, &world);
    assert!(full > live && full < live * 11 / 10 && count(&users) == KEYS);
    pass(&world, DAY);
    assert_eq!((count(&users), table_bytes(&db, &world)), (0, full), "hidden, and within the grace");
    pass(&world, Duration::from_mins(58));
    assert_eq!(table_bytes(&db, &world), full, "still within the grace");
    pass(&world, Duration::from_mins(4));
    assert_eq!((count(&users), table_bytes(&db, &world)), (0, 0));
    // And there is nothing that a new life would find.
    drop((users, db));
    let db = open(&world);
    assert_eq!((count(&self::users(&db)), table_bytes(&db, &world)), (0, 0));
}

#[test]
fn what_lives_beside_expired_entries_is_kept() {
    let world = World::new(2);
    let db = open(&world);
    let users = users(&db);
    fill(&db, &users, 0..KEYS, None);
    let lives = table_bytes(&db, &world);
    fill(&db, &users, (KEYS..4 * KEYS).chain(0..10), after(&db, DAY));
    pass(&world, DAY + 2 * HOUR);
    let left = table_bytes(&db, &world);
    assert!(left > lives / 2 && left <= lives, "{left} of {lives}");
    assert_eq!(count(&users), KEYS - 10);
    assert!((0..10).all(|number| !users.exists(key(number)).expect("the disk is whole")));
}

/// A table in which a third of the entries expires each day is written anew when it is worth while, and not each day.
#[test]
fn a_run_is_written_anew_when_half_of_it_has_expired_and_not_before() {
    let sizes = sizes_day_by_day(Compression::None);
    for (day, &size) in (0..).zip(&sizes) {
        let live = sizes[0] * (10 - day) / 10;
        assert!(size <= 2 * live + sizes[0] / 10, "day {day}: {sizes:?}");
    }
}

/// What has expired is counted in bytes of entries, and weighed against what they take in a file: a hundredth, here.
#[test]
fn a_compressed_run_is_not_written_anew_more_often_than_another() {
    sizes_day_by_day(Compression::Lz4);
}

/// A tenth of a run expires each day.
fn sizes_day_by_day(codec: Compression) -> Vec<u64> {
    let world = World::new(3);
    let db = open_with(&world, |builder| builder.default_options(compressed(codec)));
    let users = users(&db);
    let mut batch = db.batch();
    for number in 0..KEYS {
        let expires_at = Some(after(&db, DAY * (1 + number % 10)));
        batch.put_with(
            &users,
            key(number),
            [7; VALUE_BYTES],
            EntryOptions { expires_at, ..Default::default() },
        );
    }
    batch.commit().expect("the disk is whole");
    db.flush().expect("the disk is whole");
    pass(&world, Duration::ZERO);
    let mut sizes = vec![table_bytes(&db, &world)];
    for day in 1..=10 {
        pass(&world, DAY + if day == 1 { 2 * HOUR } else { Duration::ZERO });
        sizes.push(table_bytes(&db, &world));
        assert_eq!(count(&users), KEYS - KEYS / 10 * day);
    }
    let rewrites = sizes.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(sizes[10] == 0 && rewrites < 6, "{sizes:?}");
    sizes
}

#[test]
fn a_calendar_that_jumps_a_year_and_back_within_the_grace_loses_nothing() {
    let world = World::new(4);
    let db = open(&world);
    let users = users(&db);
    fill(&db, &users, 0..KEYS, after(&db, DAY * 30));
    pass(&world, 2 * HOUR);
    let full = table_bytes(&db, &world);
    world.jump_calendar(YEAR_MS);
    for _ in 0..5 {
        pass(&world, Duration::from_mins(11));
        assert_eq!((count(&users), table_bytes(&db, &world)), (0, full), "hidden, and there");
    }
    world.jump_calendar(-YEAR_MS);
    pass(&world, 10 * HOUR);
    assert_eq!(
        (count(&users), table_bytes(&db, &world)),
        (0, full),
        "the time of this life does not go back"
    );
    // Nothing was written in the wrong year: no file has seen it, and the next life does not know it.
    let world = world.kill();
    drop((users, db));
    let db = open(&world);
    assert_eq!((count(&self::users(&db)), table_bytes(&db, &world)), (KEYS, full));
    pass(&world, DAY * 32);
    assert_eq!((count(&self::users(&db)), table_bytes(&db, &world)), (0, 0));
}

#[test]
fn a_calendar_that_stays_a_year_ahead_is_believed_after_the_grace() {
    let world = World::new(5);
    let db = open(&world);
    let users = users(&db);
    fill(&db, &users, 0..KEYS, after(&db, DAY * 30));
    pass(&world, 2 * HOUR);
    world.jump_calendar(YEAR_MS);
    // The store notices within ten minutes.
    pass(&world, Duration::from_mins(11));
    pass(&world, Duration::from_mins(59));
    assert!(table_bytes(&db, &world) > 0);
    pass(&world, Duration::from_mins(2));
    assert_eq!((count(&users), table_bytes(&db, &world)), (0, 0));
}

#[test]
fn what_was_believed_when_entries_were_given_up_is_the_past_in_every_later_life() {
    let world = World::new(9);
    let db = open(&world);
    let expires_at = after(&db, DAY * 30);
    fill(&db, &users(&db), 0..KEYS, expires_at);
    // Nobody reads and nobody writes: the store alone sees the wrong year, and believes it. The log is at rest by then.
    pass(&world, Duration::from_secs(1));
    world.jump_calendar(YEAR_MS);
    pass(&world, Duration::from_mins(11));
    pass(&world, 2 * HOUR);
    assert_eq!(table_file_bytes(&world), 0);
    world.jump_calendar(-YEAR_MS);
    let world = world.kill();
    drop(db);
    assert!(open(&world).now() >= expires_at);
}

#[test]
fn a_snapshot_from_before_reads_while_compaction_runs_and_space_comes_back_after_it() {
    let world = World::new(6);
    let db = open_with(&world, |builder| builder.expiry_grace(Duration::ZERO));
    let users = users(&db);
    fill(&db, &users, 0..KEYS, after(&db, HOUR));
    let snapshot = db.snapshot().expect("it is open");
    let full = table_bytes(&db, &world);
    for round in 0..6 {
        pass(&world, HOUR);
        // Merges come by as well.
        fill(&db, &users, std::iter::once(KEYS + round), after(&db, Duration::ZERO));
        world.run_until_idle();
        let read = |number: u32| snapshot.get(&users, key(number)).expect("the disk is whole");
        assert!((0..KEYS).all(|number| read(number).is_some_and(|value| value.len() == VALUE_BYTES)));
        assert_eq!((snapshot.scan(&users, ..).count(), count(&users)), (KEYS as usize, 0));
    }
    assert!(table_bytes(&db, &world) >= full);
    drop(snapshot);
    pass(&world, PATIENCE);
    assert_eq!((count(&users), table_bytes(&db, &world)), (0, 0));
}

#[test]
fn an_expired_entry_never_lets_an_older_one_come_back() {
    pugdb_sim::check(TARGET, "an_expired_entry_never_lets_an_older_one_come_back", 10..30, |seed| {
        let world = World::new(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        let db = open_with(&world, |builder| builder.expiry_grace(Duration::ZERO));
        let users = users(&db);
        // At the bottom a large run that lives; what hides a part of it lies above.
        fill(&db, &users, 0..5 * KEYS, None);
        fill(&db, &users, 0..KEYS, after(&db, HOUR));
        for round in 0..12 {
            match random.u8(..3) {
                0 => fill(&db, &users, 10 * KEYS..10 * KEYS + random.u32(1..4 * KEYS), after(&db, DAY)),
                1 => fill(&db, &users, 20 * KEYS..20 * KEYS + random.u32(1..KEYS), None),
                _ => {}
            }
            pass(&world, HOUR / 2);
            assert_eq!(db.stats().expect("it is open").quarantined, 0);
            let there = (0..KEYS).filter(|&number| users.exists(key(number)).expect("the disk is whole"));
            assert_eq!(there.count(), if round == 0 { KEYS as usize } else { 0 }, "round {round}");
            assert!((KEYS..5 * KEYS).all(|number| users.exists(key(number)).expect("the disk is whole")));
        }
        assert!(db.stats().expect("it is open").compactions > 0);
    });
}

/// The machine stops at every call of the reclamation in turn, by a kill or without power.
#[test]
fn a_crash_while_space_comes_back_loses_nothing_and_brings_nothing_back() {
    for call in 1.. {
        let world = World::new(call);
        let db = open_with(&world, |builder| builder.expiry_grace(Duration::ZERO));
        let users = users(&db).durability(Durability::Sync);
        // One run that goes unread, one that is written anew, and one that hides entries beneath it.
        fill(&db, &users, 0..20, None);
        fill(&db, &users, (10..80).chain(90..100), after(&db, HOUR));
        fill(&db, &users, 500..600, after(&db, HOUR));
        users.put(key(80), b"lives").expect("the disk is whole");
        world.run_until_idle();
        world.advance(HOUR);
        world.stop_at(world.calls() + call);
        for _ in 0..10 {
            pass(&world, Duration::from_secs(1));
        }
        let was_stopped = world.is_off();
        let world = if call % 2 == 0 { world.kill() } else { world.power_cut() };
        drop((users, db));
        let db = open_with(&world, |builder| builder.expiry_grace(Duration::ZERO));
        for _ in 0..2 {
            let users = self::users(&db);
            let there = (0..600).filter(|&number| users.exists(key(number)).expect("the disk is whole"));
            assert_eq!(there.collect::<Vec<_>>(), (0..10).chain([80]).collect::<Vec<_>>(), "call {call}");
            assert!(db.verify().expect("it is open").problems.is_empty());
            pass(&world, DAY);
        }
        if !was_stopped {
            assert!(call > 10, "the reclamation makes calls: {call}");
            return;
        }
    }
}

#[test]
fn what_nobody_can_read_in_memory_goes_though_nothing_is_written() {
    for engine in [EngineKind::Btree, EngineKind::Hash] {
        let world = World::new(7);
        let in_memory = Database::builder().env(world.env()).default_engine(engine).in_memory();
        let beside_durable = open(&world);
        for db in [in_memory.expect("nothing is out of range"), beside_durable] {
            let options = KeyspaceOptions { engine: Some(engine), ..Default::default() };
            let space = db.keyspace_with("sessions", options).expect("a new keyspace");
            let bytes = || db.stats().expect("it is open").memtable_bytes;
            let before = bytes();
            let mut batch = db.batch();
            for number in 0..20_000 {
                let expires_at = Some(after(&db, HOUR));
                batch.put_with(
                    &space,
                    key(number),
                    [7; 100],
                    EntryOptions { expires_at, ..Default::default() },
                );
            }
            batch.put(&space, b"lives", b"on");
            batch.commit().expect("there is room");
            let snapshot = db.snapshot().expect("it is open");
            pass(&world, HOUR);
            assert_eq!(space.counts().expect("it is open").keys, 1);
            assert_eq!(snapshot.scan(&space, ..).count(), 20_001, "{engine:?}: a snapshot from before");
            assert!(bytes() > 20_000 * 100);
            drop(snapshot);
            pass(&world, PATIENCE);
            assert!(bytes() - before < 1000, "{engine:?}: {} bytes", bytes());
            // And what a large batch deletes.
            let mut batch = db.batch();
            (0..20_000).for_each(|number| batch.put(&space, key(number), [7; 100]));
            batch.commit().expect("there is room");
            let mut batch = db.batch();
            (0..20_000).for_each(|number| batch.delete(&space, key(number)));
            batch.commit().expect("there is room");
            pass(&world, PATIENCE);
            assert!(bytes() - before < 1000, "{engine:?}: {} bytes", bytes());
            // And what a truncation hides.
            space.truncate().expect("it is open");
            world.run_until_idle();
            assert_eq!(bytes(), before, "{engine:?}");
            db.close().expect("the disk is whole");
        }
    }
}

#[test]
fn a_count_is_remembered_until_a_commit_or_an_expiry() {
    let world = World::new(8);
    // Without a cache: who counts has to read.
    let db = open_with(&world, |builder| builder.cache_bytes(0));
    let (users, others) = (users(&db), db.keyspace("others").expect("the disk is whole"));
    fill(&db, &users, 0..KEYS, None);
    users
        .put_with(key(0), b"brief", EntryOptions { expires_at: Some(after(&db, HOUR)), ..Default::default() })
        .expect("it is whole");
    let reads = |counted: u64| {
        let before = world.calls();
        let counts = users.counts().expect("the disk is whole");
        assert_eq!(counts.keys, counted);
        (world.calls() - before, counts.expiring)
    };
    db.flush().expect("the disk is whole");
    world.run_until_idle();
    let (first, expiring) = reads(KEYS.into());
    assert!(first > 0 && expiring == 1, "{first} reads");
    others.put(b"a", b"b").expect("the disk is whole");
    assert_eq!(reads(KEYS.into()), (0, 1), "another keyspace's commit");
    world.advance(HOUR);
    let (anew, expiring) = reads(u64::from(KEYS) - 1);
    assert!(anew > 0 && expiring == 0, "an expiry: {anew} reads");
    users.delete(key(1)).expect("the disk is whole");
    assert_eq!(reads(u64::from(KEYS) - 2).1, 0, "a commit");
    users.truncate().expect("the disk is whole");
    assert_eq!(reads(0).1, 0, "a truncation");
    assert_eq!(users.approximate_counts().expect("it is open"), KeyCounts::default());
}

#[test]
fn an_approximate_count_is_right_when_each_key_stands_in_one_place() {
    let world = World::new(9);
    let db = open(&world);
    for engine in [EngineKind::Lsm, EngineKind::Btree, EngineKind::Hash] {
        let name = format!("{engine:?}");
        let space = db
            .keyspace_with(&name, KeyspaceOptions { engine: Some(engine), ..Default::default() })
            .expect("there is room");
        let approximate = || space.approximate_counts().expect("it is open");
        fill(&db, &space, KEYS / 4..KEYS, None);
        fill(&db, &space, 0..KEYS / 4, Some(after(&db, HOUR)));
        let counts = KeyCounts { keys: KEYS.into(), expiring: (KEYS / 4).into() };
        assert_eq!(
            (approximate(), space.counts().expect("the disk is whole")),
            (counts, counts),
            "{engine:?}"
        );
        db.flush().expect("the disk is whole");
        assert_eq!(approximate(), counts, "{engine:?}: in tables");
        for number in 0..10 {
            space.delete(key(number)).expect("there is room");
        }
        // The housekeeper looks once a minute at the least.
        pass(&world, Duration::from_secs(61));
        assert_eq!(approximate().keys, u64::from(KEYS) - 10, "{engine:?}: after deletes");
    }
}

// Defaults, and changes of one key's expiry.

fn with_default(engine: Option<EngineKind>, expiry: Duration) -> KeyspaceOptions {
    KeyspaceOptions { engine, default_expiry: Some(expiry), ..KeyspaceOptions::default() }
}

#[test]
fn what_is_written_without_an_expiry_lives_as_long_as_the_keyspaces_default() {
    for engine in [None, Some(EngineKind::Btree), Some(EngineKind::Hash)] {
        let world = World::new(71);
        let db = open(&world);
        let space = db.keyspace_with("sessions", with_default(engine, HOUR)).unwrap();
        assert_eq!(space.options().default_expiry, Some(HOUR));
        space.put(b"put", b"1").unwrap();
        let mut batch = db.batch();
        batch.put(&space, b"batch", b"1");
        batch.commit().unwrap();
        let mut transaction = db.begin().unwrap();
        transaction.put(&space, b"transaction", b"1").unwrap();
        transaction.commit().unwrap();
        space.update(b"update", |_| Ok((Change::put(b"1"), ()))).unwrap();
        let never = EntryOptions { expires_at: Some(Timestamp::NEVER), ..Default::default() };
        space.put_with(b"never", b"1", never).unwrap();
        let short = EntryOptions { expires_at: Some(db.now().plus_ms(1000)), ..Default::default() };
        space.put_with(b"short", b"1", short).unwrap();
        let mut expected = 6;
        if engine.is_none() {
            let mut writer = space.sorted_writer().unwrap();
            writer.put(b"sorted", b"1").unwrap();
            space.ingest([writer.finish().unwrap()]).unwrap();
            expected += 1;
        }
        assert_eq!(space.count().unwrap(), expected);
        assert_eq!(space.ttl(b"never").unwrap(), TimeToLive::Forever);
        assert_eq!(space.ttl(b"put").unwrap(), TimeToLive::Left(HOUR));
        world.advance(Duration::from_secs(1));
        assert_eq!(space.count().unwrap(), expected - 1);
        // To the millisecond.
        world.advance(Duration::from_millis(3_600_000 - 1001));
        assert_eq!(space.ttl(b"put").unwrap(), TimeToLive::Left(Duration::from_millis(1)));
        assert_eq!(space.count().unwrap(), expected - 1);
        world.advance(Duration::from_millis(1));
        assert_eq!(space.count().unwrap(), 1);
        assert_eq!(space.ttl(b"put").unwrap(), TimeToLive::Absent);
        assert!(space.exists(b"never").unwrap());
    }
}

#[test]
fn a_default_expiry_is_kept_over_crashes_and_can_change_for_what_comes() {
    let world = World::new(72);
    let db = open(&world);
    let space = db.keyspace_with("sessions", with_default(None, HOUR)).unwrap();
    space.put(b"before", b"1").unwrap();
    space.alter(with_default(None, DAY)).unwrap();
    space.put(b"day", b"1").unwrap();
    // The change is in the log, and the manifest does not know it.
    space.durability(Durability::Sync).put(b"last", b"1").unwrap();
    let world = world.power_cut();
    drop((space, db));
    let db = open(&world);
    let space = db.keyspace("sessions").unwrap();
    assert_eq!(space.options().default_expiry, Some(DAY));
    assert!(db.keyspace_with("sessions", with_default(None, HOUR)).is_err());
    let TimeToLive::Left(left) = space.ttl(b"before").unwrap() else { panic!("it has an expiry") };
    assert!(left <= HOUR);
    space.put(b"after", b"1").unwrap();
    assert_eq!(space.ttl(b"after").unwrap(), TimeToLive::Left(DAY));
    space.alter(with_default(None, Duration::ZERO)).unwrap();
    assert_eq!(space.options().default_expiry, None);
    space.put(b"for ever", b"1").unwrap();
    assert_eq!(space.ttl(b"for ever").unwrap(), TimeToLive::Forever);
    assert!(space.alter(with_default(None, Duration::from_micros(1))).is_err());
    // What does not expire does not begin to when its value changes.
    space.alter(with_default(None, HOUR)).unwrap();
    space.fetch_update(b"for ever", |_| Some(b"2".to_vec())).unwrap();
    assert_eq!(space.ttl(b"for ever").unwrap(), TimeToLive::Forever);
    db.close().unwrap();
    let db = open(&world);
    assert_eq!(db.keyspace("sessions").unwrap().options().default_expiry, Some(HOUR));
}

#[test]
fn a_key_is_made_to_expire_and_to_stay_and_keeps_its_value_and_its_meta_byte() {
    for engine in [None, Some(EngineKind::Btree), Some(EngineKind::Hash)] {
        let world = World::new(73);
        let db = open(&world);
        let space = db.keyspace_with("space", KeyspaceOptions { engine, ..Default::default() }).unwrap();
        let at = db.now().plus_ms(5000);
        assert!(!space.expire(b"k", at).unwrap() && !space.persist(b"k").unwrap());
        space.put_with(b"k", b"v", EntryOptions { meta: 7, ..Default::default() }).unwrap();
        assert!(space.expire(b"k", at).unwrap());
        let entry = space.get_entry(b"k").unwrap().unwrap();
        assert_eq!((&*entry.value, entry.meta, entry.expires_at), (&b"v"[..], 7, Some(at)));
        assert!(space.persist(b"k").unwrap() && !space.persist(b"k").unwrap());
        let entry = space.get_entry(b"k").unwrap().unwrap();
        assert_eq!((&*entry.value, entry.meta, entry.expires_at), (&b"v"[..], 7, None));
        space.expire(b"k", at).unwrap();
        world.advance(Duration::from_secs(5));
        assert!(!space.persist(b"k").unwrap(), "it came back");
        assert!(!space.exists(b"k").unwrap());
    }
}

/// A year forward, a year back: what has expired stays gone, a snapshot keeps what it saw, and a default counts from the time that
/// everybody is given.
#[test]
fn defaults_and_snapshots_stand_a_calendar_that_jumps_a_year_both_ways() {
    for engine in [None, Some(EngineKind::Btree), Some(EngineKind::Hash)] {
        let world = World::new(74);
        let db = open(&world);
        let space = db.keyspace_with("sessions", with_default(engine, HOUR)).unwrap();
        space.put(b"old", b"1").unwrap();
        let before = db.snapshot().unwrap();
        let transaction = db.begin().unwrap();
        world.jump_calendar(YEAR_MS);
        assert!(!space.exists(b"old").unwrap());
        assert!(before.exists(&space, b"old").unwrap() && transaction.exists(&space, b"old").unwrap());
        space.put(b"future", b"1").unwrap();
        world.jump_calendar(-2 * YEAR_MS);
        // Time does not go back, so nothing comes back, and nothing lives longer than it should.
        assert!(!space.exists(b"old").unwrap() && space.exists(b"future").unwrap());
        assert!(before.exists(&space, b"old").unwrap() && transaction.exists(&space, b"old").unwrap());
        space.put(b"past", b"1").unwrap();
        assert_eq!(space.ttl(b"past").unwrap(), TimeToLive::Left(HOUR));
        world.jump_calendar(YEAR_MS);
        assert!(space.exists(b"past").unwrap() && space.exists(b"future").unwrap());
        world.jump_calendar(YEAR_MS);
        world.advance(HOUR);
        assert!(!space.exists(b"past").unwrap() && !space.exists(b"future").unwrap());
        assert!(before.exists(&space, b"old").unwrap());
    }
}
