//! How a keyspace is made is written down with it: it counts over any number of opens and crashes, whatever the builder
//! says, until it is altered; and it decides how tables are written.

use pugdb::{Builder, Compression, Database, EngineKind, ErrorKind, KeyspaceOptions, Result};
use pugdb_sim::World;

const DIRECTORY: &str = "db";

fn builder(world: &World) -> Builder {
    Database::builder()
        .env(world.env())
        .memory_bytes(1 << 20)
        .cache_bytes(64 << 10)
        .memtable_bytes(32 << 10)
        .log_segment_bytes(8 << 10)
}

fn open(world: &World) -> Database {
    builder(world).open(DIRECTORY).expect("the disk is well")
}

/// Bottom and upper codec, and bits of filter.
fn options(bottom: Compression, upper: Compression, filter_bits: u8) -> KeyspaceOptions {
    KeyspaceOptions {
        upper_compression: Some(upper),
        bottom_compression: Some(bottom),
        filter_bits: Some(filter_bits),
        ..KeyspaceOptions::default()
    }
}

fn told(db: &Database, name: &str) -> (Option<Compression>, Option<Compression>, Option<u8>) {
    let options = db.existing_keyspace(name).expect("it is open").expect("it was made").options();
    (options.bottom_compression, options.upper_compression, options.filter_bits)
}

const FIRST: (Compression, Compression, u8) = (Compression::Zstd { level: 7 }, Compression::Snappy, 4);
const SECOND: (Compression, Compression, u8) = (Compression::Gzip { level: 2 }, Compression::Lz4, 0);

fn all((bottom, upper, bits): (Compression, Compression, u8)) -> KeyspaceOptions {
    options(bottom, upper, bits)
}

fn some(
    (bottom, upper, bits): (Compression, Compression, u8),
) -> (Option<Compression>, Option<Compression>, Option<u8>) {
    (Some(bottom), Some(upper), Some(bits))
}

#[test]
fn options_outlive_opens_from_the_log_and_from_the_manifest_whatever_the_builder_says() {
    let world = World::new(1);
    let db = open(&world);
    db.keyspace_with("archive", all(FIRST)).unwrap();
    db.keyspace("usual").unwrap();
    let usual = told(&db, "usual");
    assert_eq!(usual, (Some(Compression::Lz4), Some(Compression::None), Some(10)));
    drop(db);
    let others = |world: &World| builder(world).default_options(all(SECOND)).open(DIRECTORY).unwrap();
    // Killed: from the log. Then from the manifest, twice.
    let world = world.kill();
    for _ in 0..3 {
        let db = others(&world);
        assert_eq!((told(&db, "archive"), told(&db, "usual")), (some(FIRST), usual));
        db.close().unwrap();
    }
    let db = others(&world);
    db.keyspace("new").unwrap();
    let half = KeyspaceOptions { filter_bits: Some(7), ..KeyspaceOptions::default() };
    db.keyspace_with("half", half).unwrap();
    assert_eq!(told(&db, "new"), some(SECOND));
    assert_eq!(told(&db, "half"), some((SECOND.0, SECOND.1, 7)));
}

#[test]
fn options_that_are_altered_stay_so_and_others_are_a_conflict() {
    let world = World::new(2);
    let db = open(&world);
    let archive = db.keyspace_with("archive", all(FIRST)).unwrap();
    let conflict = db.keyspace_with("archive", all(SECOND)).unwrap_err();
    assert_eq!(conflict.kind(), ErrorKind::Conflict);
    // What is asked for and so already, or not asked for, is no conflict.
    let one = KeyspaceOptions { upper_compression: Some(FIRST.1), ..KeyspaceOptions::default() };
    db.keyspace_with("archive", one).unwrap();
    archive.alter(one).unwrap();
    archive.alter(KeyspaceOptions { filter_bits: Some(9), ..KeyspaceOptions::default() }).unwrap();
    assert_eq!(told(&db, "archive"), some((FIRST.0, FIRST.1, 9)));
    archive.alter(all(SECOND)).unwrap();
    drop((archive, db));
    let world = world.power_cut();
    let db = open(&world);
    assert_eq!(told(&db, "archive"), some(SECOND));
    db.close().unwrap();
    assert_eq!(told(&open(&world), "archive"), some(SECOND));
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let world = World::new(3);
    let db = open(&world);
    let users = db.keyspace("users").unwrap();
    let before = users.options();
    let block = |bytes| KeyspaceOptions { block_bytes: Some(bytes), ..KeyspaceOptions::default() };
    let wrong = [
        options(Compression::Zstd { level: 0 }, Compression::None, 10),
        options(Compression::Zstd { level: 20 }, Compression::None, 10),
        options(Compression::None, Compression::Gzip { level: 10 }, 10),
        options(Compression::None, Compression::None, 21),
        block(63),
        block((1 << 20) + 1),
        KeyspaceOptions { engine: Some(EngineKind::Hash), ..block(4096) },
    ];
    for options in wrong {
        let refused =
            |outcome: Result<()>| assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Invalid, "{options:?}");
        refused(users.alter(options));
        refused(db.keyspace_with("new", options).map(drop));
        if options.engine.is_none() {
            refused(builder(&World::new(4)).default_options(options).open(DIRECTORY).map(drop));
        }
    }
    assert_eq!((users.options(), db.keyspaces().unwrap()), (before, vec!["users".to_owned()]));
    let hash = KeyspaceOptions { engine: Some(EngineKind::Hash), ..KeyspaceOptions::default() };
    assert_eq!(users.alter(hash).unwrap_err().kind(), ErrorKind::Invalid, "an engine does not change");
    let counters = db.keyspace_with("counters", hash).unwrap();
    assert_eq!(counters.alter(block(4096)).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(db.keyspace_with("counters", block(4096)).unwrap_err().kind(), ErrorKind::Conflict);
    db.drop_keyspace("users").unwrap();
    assert_eq!(users.alter(all(FIRST)).unwrap_err().kind(), ErrorKind::NotFound);
}

/// Lengths of the tables, and what they would be without compression.
fn sizes(db: &Database) -> (u64, u64) {
    let stats = db.stats().expect("it is open");
    (stats.table_bytes, stats.table_bytes_uncompressed)
}

#[test]
fn young_tables_have_the_upper_codec_and_merged_ones_that_of_the_bottom() {
    for (upper, bottom) in [
        (Compression::None, Compression::Lz4),
        (Compression::Snappy, Compression::None),
        (Compression::Gzip { level: 9 }, Compression::ZSTD),
    ] {
        let world = World::new(5);
        let db = open(&world);
        let users = db.keyspace_with("users", options(bottom, upper, 10)).unwrap();
        let is_smaller = |(bytes, uncompressed): (u64, u64)| bytes * 2 < uncompressed;
        for round in 0..8_u64 {
            for number in 0..20_u64 {
                users.put(format!("{number:04}"), vec![u8::try_from(round).unwrap(); 500]).unwrap();
            }
            db.flush().unwrap();
            if round == 0 {
                assert_eq!(is_smaller(sizes(&db)), upper != Compression::None, "{upper} above");
            }
            world.run_until_idle();
        }
        let stats = db.stats().unwrap();
        assert!(stats.compactions > 0);
        if stats.runs == 1 {
            assert_eq!(is_smaller(sizes(&db)), bottom != Compression::None, "{bottom} at the bottom");
        }
        assert!(db.verify().unwrap().problems.is_empty());
        assert_eq!(users.get("0007").unwrap().unwrap(), [7; 500]);
    }
}

#[test]
fn a_changed_codec_counts_for_new_tables_and_old_ones_are_read_on() {
    let world = World::new(6);
    let db = open(&world);
    let users = db.keyspace("users").unwrap();
    let codecs =
        ["none", "lz4", "snappy", "zstd:3", "gzip:6"].map(|codec| codec.parse::<Compression>().unwrap());
    for (number, codec) in codecs.into_iter().cycle().take(11).enumerate() {
        users
            .alter(KeyspaceOptions { upper_compression: Some(codec), ..KeyspaceOptions::default() })
            .unwrap();
        users.put(format!("{number:02}"), vec![b'x'; 5000]).unwrap();
        db.flush().unwrap();
        for earlier in 0..=number {
            assert_eq!(users.get(format!("{earlier:02}")).unwrap().unwrap(), [b'x'; 5000]);
        }
    }
    assert_eq!(users.count().unwrap(), 11);
    db.close().unwrap();
    let db = open(&world);
    assert_eq!(db.keyspace("users").unwrap().count().unwrap(), 11);
    assert!(db.verify().unwrap().problems.is_empty());
}

/// Cut at every call to the disk: the options are those of a prefix that reaches at least to what was acknowledged.
#[test]
fn options_after_a_crash_are_those_of_a_prefix() {
    const STEPS: [Option<(Compression, Compression, u8)>; 5] =
        [Some(FIRST), None, Some(SECOND), Some((Compression::Lz4, Compression::None, 20)), Some(FIRST)];
    let run = |world: &World| {
        let mut acknowledged = 0;
        let mut life = || -> Result<()> {
            let mut db = builder(world).open(DIRECTORY)?;
            db.keyspace_with("users", all((Compression::None, Compression::None, 1)))?;
            acknowledged = 1;
            for (number, step) in STEPS.into_iter().enumerate() {
                match step {
                    Some(step) => db.keyspace("users")?.alter(all(step))?,
                    None => db.keyspace("users")?.put("a", vec![7; 40_000])?,
                }
                acknowledged = number + 2;
                if number == 2 {
                    db.flush()?;
                    db.close()?;
                    db = builder(world).open(DIRECTORY)?;
                }
            }
            db.close()
        };
        let outcome = life();
        (acknowledged, outcome)
    };
    let whole = World::new(7);
    run(&whole).1.unwrap();
    let mut told_after = vec![None, Some(some((Compression::None, Compression::None, 1)))];
    for step in STEPS {
        told_after.push(step.map_or(*told_after.last().expect("it has two"), |step| Some(some(step))));
    }
    for call in 1..=whole.calls() {
        let world = World::new(7);
        world.stop_at(call);
        let (acknowledged, _) = run(&world);
        for after in [world.power_cut(), world.power_cut(), world.kill()] {
            let db = builder(&after).open(DIRECTORY).unwrap_or_else(|error| panic!("call {call}: {error}"));
            let found = db.existing_keyspace("users").unwrap().map(|_| told(&db, "users"));
            assert!(
                told_after[acknowledged..].contains(&found),
                "call {call}: {found:?} after {acknowledged}"
            );
        }
    }
}
