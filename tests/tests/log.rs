//! The log between commits: segments made ahead of time, the levels of durability, and who syncs when nobody waits.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pugdb::{Builder, CommitTicket, Database, Durability, ErrorKind, Keyspace};
use pugdb_sim::{CallKind, World};

const SEGMENT_BYTES: u64 = 64 << 10;
const DELAY: Duration = Duration::from_millis(50);

fn builder(world: &World) -> Builder {
    Database::builder().env(world.env()).memory_bytes(4 << 20).log_segment_bytes(SEGMENT_BYTES)
}

fn open(world: &World, durability: Durability) -> (Database, Keyspace) {
    let db = builder(world).durability(durability).open("db").expect("a new database");
    let keys = db.keyspace("keys").expect("a new keyspace");
    // The mark of the durable position is through, too: nothing wants a sync any more.
    for _ in 0..2 {
        world.advance(Duration::from_millis(10));
        world.run_until_idle();
    }
    (db, keys)
}

/// Writes `count` values of 1,000 bytes.
fn write(keys: &Keyspace, from: u64, count: u64) {
    (from..from + count)
        .for_each(|number| keys.put(number.to_be_bytes(), vec![7; 1000]).expect("there is room"));
}

fn segments(world: &World) -> Vec<String> {
    let files = world.files().into_iter();
    let names = files.filter(|(path, _)| path.starts_with("db/log"));
    names.map(|(path, _)| path.file_name().unwrap_or_default().to_string_lossy().into_owned()).collect()
}

/// Counts the calls of a kind to the log from now on.
fn count(world: &World, kind: CallKind) -> Arc<AtomicUsize> {
    let counter = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&counter);
    world.fail_when(move |call, path: &Path| {
        let is_meant = call == kind && path.to_string_lossy().contains("log");
        counted.fetch_add(usize::from(is_meant), Ordering::AcqRel);
        None
    });
    counter
}

#[test]
fn the_next_segment_is_there_before_a_commit_needs_it() {
    let world = World::new(1);
    let (_db, keys) = open(&world, Durability::Os);
    write(&keys, 0, 20);
    assert_eq!(segments(&world).len(), 1);
    write(&keys, 20, 20);
    world.run_until_idle();
    assert_eq!(segments(&world).len(), 2, "half of the first one is used");
    let (created, synced) = (count(&world, CallKind::Create), segments(&world));
    write(&keys, 40, 40);
    assert_eq!((created.load(Ordering::Acquire), segments(&world)), (0, synced), "no commit has made a file");
}

#[test]
fn the_next_segment_is_made_before_a_sync_that_nobody_waits_for() {
    let world = World::new(1);
    let (_db, keys) = open(&world, Durability::Os);
    write(&keys, 0, 40);
    let synced = count(&world, CallKind::SyncData);
    // The sync of a log that was written is due.
    world.advance(Duration::from_secs(6));
    while segments(&world).len() < 2 {
        assert!(world.step(), "nobody makes the next segment");
    }
    assert_eq!(synced.load(Ordering::Acquire), 0);
    world.run_until_idle();
    assert!(synced.load(Ordering::Acquire) > 0);
}

#[test]
fn a_segment_that_was_made_and_never_begun_goes_without_a_word() {
    for seed in 0..20 {
        let world = World::new(seed);
        let (db, keys) = open(&world, Durability::Sync);
        write(&keys, 0, 40);
        world.run_until_idle();
        let made = segments(&world).pop().unwrap();
        let next = world.kill();
        drop((keys, db));
        let db = builder(&next).open("db").unwrap();
        let report = db.recovery_report();
        assert_eq!((&report.cut, report.clean, report.operations), (&None, false, 40));
        assert!(!segments(&next).contains(&made), "{made} is still there");
        let keys = db.keyspace("keys").unwrap();
        write(&keys, 40, 100);
        assert_eq!(keys.count().unwrap(), 140);
    }
}

#[test]
fn a_closed_log_leaves_no_segment_behind_that_was_made_ahead() {
    let world = World::new(3);
    let (db, keys) = open(&world, Durability::Os);
    write(&keys, 0, 40);
    world.run_until_idle();
    let made = segments(&world).pop().unwrap();
    db.close().unwrap();
    assert!(!segments(&world).contains(&made));
    let db = builder(&world).open("db").unwrap();
    assert!(db.recovery_report().clean);
}

#[test]
fn a_record_that_the_next_segment_has_no_room_for_gets_one_of_its_own() {
    let world = World::new(4);
    let (db, keys) = open(&world, Durability::Os);
    write(&keys, 0, 40);
    world.run_until_idle();
    keys.put(b"large", vec![1; 200_000]).unwrap();
    write(&keys, 40, 100);
    let next = world.kill();
    drop((keys, db));
    let db = builder(&next).open("db").unwrap();
    let keys = db.keyspace("keys").unwrap();
    assert_eq!((keys.count().unwrap(), keys.get(b"large").unwrap().unwrap().len()), (141, 200_000));
}

#[test]
fn after_its_name_could_not_be_synced_ahead_of_time_nothing_is_written() {
    let world = World::new(5);
    let (db, keys) = open(&world, Durability::Os);
    world.fail_when(|call, path| {
        (call == CallKind::SyncDir && path.ends_with("db/log")).then_some(io::ErrorKind::Other)
    });
    write(&keys, 0, 40);
    world.run_until_idle();
    world.heal();
    assert_eq!(keys.put(b"k", b"v").unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(keys.count().unwrap(), 40);
    assert!(db.failure().is_some());
}

/// A ticket that only its job brings to an end: nobody blocks on it.
fn is_ready(ticket: &CommitTicket) -> bool {
    let mut ticket = std::pin::pin!(ticket.clone());
    match ticket.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome.map(|()| true).expect("the disk is well"),
        Poll::Pending => false,
    }
}

fn ticket(db: &Database, keys: &Keyspace, number: u64) -> CommitTicket {
    let mut batch = db.batch();
    batch.put(keys, number.to_be_bytes(), b"v");
    batch.commit_ticket().expect("there is room")
}

#[test]
fn commits_of_a_group_share_a_sync_that_comes_when_the_delay_is_over() {
    let world = World::new(6);
    let (db, keys) = open(&world, Durability::Group { max_delay: DELAY });
    let synced = count(&world, CallKind::SyncData);
    let first = ticket(&db, &keys, 0);
    assert!(!is_ready(&first));
    world.advance(DELAY / 2);
    let second = ticket(&db, &keys, 1);
    assert!(!is_ready(&second));
    assert_eq!((first.is_done(), synced.load(Ordering::Acquire)), (false, 0));
    world.advance(DELAY / 2);
    world.run_until_idle();
    assert!(first.is_done() && second.is_done());
    assert_eq!(
        synced.load(Ordering::Acquire),
        1,
        "the first one's delay is over, and the second one shares its sync"
    );
}

#[test]
fn a_thread_that_waits_for_a_group_lets_the_delay_pass_and_no_more() {
    let world = World::new(7);
    let (_db, keys) = open(&world, Durability::Group { max_delay: DELAY });
    let clock = world.env().clock;
    let began = clock.monotonic();
    keys.put(b"k", b"v").unwrap();
    let took = clock.monotonic().saturating_sub(began);
    assert!(took >= DELAY && took < 2 * DELAY, "{took:?}");
}

#[test]
fn whoever_needs_a_sync_at_once_takes_the_group_along() {
    let world = World::new(8);
    let (db, keys) = open(&world, Durability::Group { max_delay: DELAY });
    let waiting = ticket(&db, &keys, 0);
    keys.durability(Durability::Sync).put(b"now", b"v").unwrap();
    assert!(waiting.is_done());
}

#[test]
fn a_periodic_commit_is_on_disk_when_its_interval_is_over() {
    for seed in 0..20 {
        let world = World::new(seed);
        let (db, keys) = open(&world, Durability::Periodic { interval: DELAY });
        write(&keys, 0, 5);
        world.advance(DELAY);
        world.run_until_idle();
        write(&keys, 5, 5);
        let next = world.power_cut();
        drop((keys, db));
        let keys = builder(&next).open("db").unwrap().keyspace("keys").unwrap();
        let count = keys.count().unwrap();
        assert!((5..=10).contains(&count), "{count} of them");
    }
}

#[test]
fn nothing_stays_unsynced_for_longer_than_five_seconds() {
    let world = World::new(9);
    let (db, keys) = open(&world, Durability::Os);
    // With nothing else that would sync: an error of the disk comes to light all the same.
    write(&keys, 0, 1);
    world.fail_when(|call, path| {
        (call == CallKind::SyncData && path.to_string_lossy().contains("log")).then_some(io::ErrorKind::Other)
    });
    world.advance(Duration::from_millis(4900));
    world.run_until_idle();
    assert!(db.failure().is_none());
    world.advance(Duration::from_millis(100));
    world.run_until_idle();
    assert!(db.failure().is_some(), "nobody has looked");
}

#[test]
fn the_mark_comes_in_time_though_the_job_has_something_due_much_later() {
    let world = World::new(10);
    let (_db, keys) = open(&world, Durability::Os);
    write(&keys, 0, 1);
    world.run_until_idle();
    let synced = count(&world, CallKind::SyncData);
    keys.durability(Durability::Sync).put(b"k", b"v").unwrap();
    world.advance(Duration::from_millis(10));
    world.run_until_idle();
    assert_eq!(synced.load(Ordering::Acquire), 2, "the commit and its mark");
}

#[test]
fn a_quiet_keyspace_does_not_keep_the_log_of_a_busy_one() {
    let world = World::new(10);
    let (db, busy) = open(&world, Durability::Os);
    let quiet = db.keyspace("quiet").expect("a new keyspace");
    quiet.put("once", "upon a time").expect("there is room");
    for round in 0..60 {
        write(&busy, round * 20, 20);
        world.run_until_idle();
    }
    let kept = db.stats().expect("it is open").log_bytes;
    assert!(kept <= 6 * SEGMENT_BYTES, "{kept} bytes of log are kept of 1.2 MB");
    assert_eq!(quiet.get("once").expect("it is readable").as_deref(), Some(&b"upon a time"[..]));
}

#[test]
fn threads_that_commit_at_once_share_syncs_and_none_is_left_asleep() {
    const THREADS: u64 = 16;
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path().join("db")).unwrap();
    let keys = db.keyspace("keys").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let keys = match thread % 4 {
                0 => keys.durability(Durability::Group { max_delay: Duration::from_millis(1) }),
                1 => keys.durability(Durability::Os),
                _ => keys.clone(),
            };
            scope.spawn(move || {
                (0..50).for_each(|number| keys.put((thread * 50 + number).to_be_bytes(), b"v").unwrap());
            });
        }
    });
    assert_eq!(keys.count().unwrap(), THREADS * 50);
}
