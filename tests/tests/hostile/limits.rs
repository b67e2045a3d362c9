//! Too long, too large, too little: one `Invalid` that names the figures, nothing changed, the database goes on.

use pugdb::{Change, Database, Error, ErrorKind, Keyspace, limits};
use pugdb_sim::World;
use pugdb_tests::hostile::{CANARY, Seal, builder, decent, name, open, read_all};

const MEMORY: usize = 2 << 20;
const QUARTER: usize = MEMORY / 4;

/// The refusal of `outcome`: `Invalid`, with every one of `figures` in its sentence.
fn invalid<T>(outcome: pugdb::Result<T>, figures: &[usize]) {
    let error: Error = outcome.err().expect("the request breaks a limit");
    let text = decent(&error);
    assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
    for figure in figures {
        assert!(text.contains(&figure.to_string()), "{figure} is not named: {text}");
    }
}

fn canary_bytes(length: usize) -> Vec<u8> {
    CANARY.bytes().cycle().take(length).collect()
}

/// A database on disk and one in memory, each with a keyspace that holds one key.
fn subjects(world: &World) -> [(Database, Keyspace); 2] {
    let on_disk = builder(world, Seal::Plain).memory_bytes(MEMORY).open("db").unwrap();
    let in_memory = builder(world, Seal::Plain).memory_bytes(MEMORY).in_memory().unwrap();
    [on_disk, in_memory].map(|db| {
        let space = db.keyspace(&name("kept")).unwrap();
        space.put(b"kept", b"1").unwrap();
        (db, space)
    })
}

#[test]
fn keys_end_at_65535_bytes() {
    let world = World::new(60);
    for (db, space) in subjects(&world) {
        let before = read_all(&db).unwrap();
        let (longest, longer) = (canary_bytes(65_535), canary_bytes(65_536));
        let figures = [65_536, 65_535];
        invalid(space.put(&longer, b"v"), &figures);
        invalid(space.delete(&longer), &figures);
        invalid(space.update(&longer, |_| Ok((Change::put("v"), ()))), &figures);
        let mut batch = db.batch();
        batch.put(&space, b"other", b"v");
        batch.put(&space, &longer, b"v");
        batch.delete(&space, b"kept");
        invalid(batch.commit(), &figures);
        // No key is that long, so there is nothing to find; and nothing breaks on the way.
        assert_eq!(space.get(&longer).unwrap(), None);
        assert!(!space.exists(&longer).unwrap());
        assert_eq!(space.multi_get([&longer[..], b"kept"]).unwrap()[1].as_deref(), Some(&b"1"[..]));
        assert_eq!(space.scan(longer.as_slice()..).count(), 1);
        assert_eq!(space.prefix(&longer).count(), 0);
        assert_eq!(read_all(&db).unwrap(), before);

        space.put(&longest, b"v").unwrap();
        space.put(b"", b"the empty key").unwrap();
        db.flush().unwrap();
        assert_eq!(space.get(&longest).unwrap().unwrap(), b"v");
        assert_eq!(space.get(b"").unwrap().unwrap(), b"the empty key");
        assert_eq!(space.count().unwrap(), 3);
        db.close().unwrap();
    }
    let space = open(&world, Seal::Plain).unwrap().keyspace(&name("kept")).unwrap();
    assert_eq!(space.get(canary_bytes(65_535)).unwrap().unwrap(), b"v");
}

#[test]
fn values_end_at_a_quarter_of_the_memory() {
    let world = World::new(61);
    for (db, space) in subjects(&world) {
        let before = read_all(&db).unwrap();
        for length in [QUARTER + 1, MEMORY, 3 * MEMORY] {
            let value = canary_bytes(length);
            let figures = [length, limits::VALUE_BYTES_MAX, QUARTER];
            invalid(space.put(b"large", &value), &figures);
            invalid(space.update(b"large", |_| Ok((Change::put(value.clone()), ()))), &figures);
            let mut batch = db.batch();
            batch.put(&space, b"other", b"v");
            batch.put(&space, b"large", &value);
            invalid(batch.commit(), &figures);
        }
        assert_eq!(read_all(&db).unwrap(), before);
        // At the limit it fits, by every way in.
        let largest = canary_bytes(QUARTER);
        for round in 0..6_u8 {
            space.put([round], &largest).unwrap();
            space.update([round, 1], |_| Ok((Change::put(largest.clone()), ()))).unwrap();
        }
        for round in 0..6_u8 {
            assert!(space.get([round]).unwrap().unwrap() == largest[..]);
            assert!(space.get([round, 1]).unwrap().unwrap() == largest[..]);
        }
    }
}

#[test]
fn batches_end_at_a_quarter_of_the_memory() {
    let world = World::new(62);
    for (db, space) in subjects(&world) {
        let before = read_all(&db).unwrap();
        let value = canary_bytes(10_000);
        let mut batch = db.batch();
        for number in 0..1000_u32 {
            batch.put(&space, number.to_be_bytes(), &value);
        }
        invalid(batch.commit(), &[limits::BATCH_BYTES_MAX, QUARTER]);
        // Without values: the operations alone are too many.
        let mut batch = db.batch();
        for number in 0..100_000_u32 {
            batch.delete(&space, number.to_be_bytes());
        }
        invalid(batch.commit_ticket(), &[limits::BATCH_BYTES_MAX, QUARTER]);
        assert_eq!(read_all(&db).unwrap(), before);

        let mut batch = db.batch();
        for number in 0..40_u32 {
            batch.put(&space, number.to_be_bytes(), &value);
        }
        assert_eq!(batch.len(), 40);
        batch.commit().unwrap();
        assert_eq!(space.count().unwrap(), 41);
        db.batch().commit().unwrap();
    }
}

#[test]
fn names_of_keyspaces_are_short_and_printable() {
    let world = World::new(63);
    for (db, _) in subjects(&world) {
        let before = db.keyspaces().unwrap();
        let long = "ä".repeat(128);
        for bad in ["", &long, &"n".repeat(256), "a\nb", "a\0", "\u{7f}", "\u{85}", "\u{1b}[31mred"] {
            invalid(db.keyspace(bad), &[1, 255]);
            assert!(!db.drop_keyspace(bad).unwrap());
            assert!(db.existing_keyspace(bad).unwrap().is_none());
        }
        assert_eq!(db.keyspaces().unwrap(), before);
        for good in [&long[..254], &"n".repeat(255), " ", "../../etc/passwd", "CURRENT", "漢字", "a b"] {
            db.keyspace(good).unwrap().put(b"k", good).unwrap();
        }
        db.close().unwrap();
    }
    let db = open(&world, Seal::Plain).unwrap();
    assert_eq!(db.keyspaces().unwrap().len(), 8);
    assert_eq!(db.keyspace("../../etc/passwd").unwrap().get(b"k").unwrap().unwrap(), b"../../etc/passwd");
    let inside = |path: &std::path::Path| path.starts_with("db");
    assert!(world.files().iter().all(|(path, _)| inside(path)), "a name became a path");
}

#[test]
fn settings_out_of_range_are_refused_before_anything_is_made() {
    let world = World::new(64);
    let small = || builder(&world, Seal::Plain);
    for memory in [0, 1, limits::MEMORY_BYTES_MIN - 1] {
        invalid(small().memory_bytes(memory).open("db"), &[memory, limits::MEMORY_BYTES_MIN]);
        invalid(small().memory_bytes(memory).in_memory(), &[memory, limits::MEMORY_BYTES_MIN]);
    }
    for cache in [MEMORY + 1, MEMORY / 2 + 1, usize::MAX] {
        invalid(small().memory_bytes(MEMORY).cache_bytes(cache).open("db"), &[cache, MEMORY]);
        invalid(small().memory_bytes(MEMORY).memtable_bytes(cache).open("db"), &[cache, MEMORY]);
    }
    for segment in [u64::MAX, u64::MAX / 2, 1 << 60] {
        let segment_figure = usize::try_from(segment).unwrap();
        invalid(small().log_segment_bytes(segment).open("db"), &[segment_figure]);
    }
    assert_eq!(world.files(), []);
}

#[test]
fn the_smallest_settings_work() {
    let world = World::new(65);
    let smallest = || builder(&world, Seal::Plain).cache_bytes(0).memtable_bytes(0).log_segment_bytes(0);
    let db = smallest().open("db").unwrap();
    let space = db.keyspace("small").unwrap();
    for number in 0..200_u32 {
        space.put(number.to_be_bytes(), vec![1; 5000]).unwrap();
    }
    assert_eq!(space.count().unwrap(), 200);
    let next = world.kill();
    drop((space, db));
    let db =
        builder(&next, Seal::Plain).cache_bytes(0).memtable_bytes(0).log_segment_bytes(0).open("db").unwrap();
    assert_eq!(db.keyspace("small").unwrap().count().unwrap(), 200);
    let huge = Database::builder().memory_bytes(usize::MAX).in_memory().unwrap();
    huge.keyspace("k").unwrap().put(b"k", b"v").unwrap();
}
