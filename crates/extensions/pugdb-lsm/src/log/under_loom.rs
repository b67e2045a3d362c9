//! Who leads a sync and who waits for it, in all orders in which threads can meet:
//! `RUSTFLAGS="--cfg loom" cargo test -p pugdb-lsm --lib under_loom`. Disk and wakers are the simulator's and loom's.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64 as Count;

use loom::thread;
use pugdb_core::env::{Env, Executor, Job};
use pugdb_core::seam::Plain;
use pugdb_core::{DatabaseId, Incarnation, Timestamp};
use pugdb_sim::{CallKind, World};

use super::*;
use crate::table::LocalTables;

const PREEMPTIONS: usize = 2;

/// Waits on loom's threads; there are no jobs.
struct Waits;

impl Executor for Waits {
    fn spawn(&self, _: &'static str, _: Box<dyn Job>) -> JobHandle {
        unreachable!("the log's job is not started")
    }

    fn processors(&self) -> usize {
        2
    }

    fn block_until(&self, event: &Event, _: Option<Duration>, ready: &mut dyn FnMut() -> bool) -> bool {
        event.wait_on_thread(&|| None, ready)
    }
}

/// A log with one record, and the calls that its disk has seen.
struct Kit {
    log: Arc<Log>,
    begin: Lsn,
    /// Writes, and of them those before the last sync began.
    written: Arc<Count>,
    synced: Arc<Count>,
    world: World,
}

fn append(log: &Log) -> Lsn {
    log.append(&RecordHead::mark(Timestamp(0)), &[], Handover::Written).unwrap().end
}

impl Kit {
    fn new(fails: bool) -> Self {
        let world = World::new(1);
        let env = Env { executor: Arc::new(Waits), ..world.env() };
        let tables = Arc::new(LocalTables::new(&env, PathBuf::from("tables")));
        let (dir, database) = (PathBuf::from("db"), DatabaseId([7; 16]));
        let context = Context {
            env,
            dir,
            database,
            cipher: Arc::new(Plain),
            tables,
            observers: pugdb_core::observer::Observers::default(),
        };
        context.env.fs.create_dir_all(&context.log_dir()).unwrap();
        let scan = scan(&context, &LogState::default()).unwrap();
        let log = Log::new(context, LogOptions { segment_bytes: 4096 }, Incarnation::default(), &scan);
        let begin = append(&log);
        log.sync_to(begin).unwrap();
        let (written, synced) = (Arc::new(Count::new(0)), Arc::new(Count::new(0)));
        let (writes, syncs) = (Arc::clone(&written), Arc::clone(&synced));
        world.fail_when(move |call, _: &Path| {
            match call {
                CallKind::Write => _ = writes.fetch_add(1, Ordering::AcqRel),
                CallKind::SyncData if fails => return Some(ErrorKind::Other),
                CallKind::SyncData => syncs.store(writes.load(Ordering::Acquire), Ordering::Release),
                _ => {}
            }
            None
        });
        Self { log, begin, written, synced, world }
    }

    /// All threads append a record and wait for it.
    fn each(&self, threads: usize, check: impl Fn(&Log, Lsn, Result<()>) + Clone + Send + Sync + 'static) {
        let run = |log: Arc<Log>| {
            let check = check.clone();
            move || {
                if let Ok(appended) = log.append(&RecordHead::mark(Timestamp(0)), &[], Handover::Written) {
                    let outcome = log.sync_to(appended.end);
                    check(&log, appended.end, outcome);
                }
            }
        };
        let others: Vec<_> = (1..threads).map(|_| thread::spawn(run(Arc::clone(&self.log)))).collect();
        run(Arc::clone(&self.log))();
        others.into_iter().for_each(|other| other.join().unwrap());
    }
}

fn explore(test: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(test);
}

#[test]
fn what_is_waited_for_was_written_before_a_sync_began_and_nobody_waits_for_ever() {
    explore(|| {
        let kit = Kit::new(false);
        let (begin, synced) = (kit.begin, Arc::clone(&kit.synced));
        // The log began at 0, and records are alike: a position tells which write it was.
        let length = begin.0;
        kit.each(2, move |log, end, outcome| {
            outcome.unwrap();
            assert!(log.durable() >= end);
            assert!(synced.load(Ordering::Acquire) >= (end.0 - begin.0) / length, "it was not synced");
        });
        assert_eq!(kit.written.load(Ordering::Acquire), 2, "a record is a write");
        drop(kit.world);
    });
}

#[test]
fn a_sync_that_fails_is_told_to_all_who_wait() {
    explore(|| {
        let kit = Kit::new(true);
        let begin = kit.begin;
        kit.each(2, move |log, _, outcome| {
            assert!(outcome.is_err());
            assert_eq!(log.durable(), begin);
        });
        drop(kit.world);
    });
}
