//! The database for programs with a runtime: the same answers, no thread of the runtime waits, and a future that is dropped leaves
//! nothing half-done.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;
use pugdb::{AsyncDatabase, Change, Database, Durability, ErrorKind, KeyspaceOptions, TransactionOptions};
use pugdb_core::seam::TableStore;
use pugdb_lsm::table::LocalTables;
use pugdb_sim::{SlowStore, World};

/// On one thread: whoever waits on it is found out, for nothing goes on then.
fn on_one_thread<R>(work: impl Future<Output = R>) -> R {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(work)
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Runs a future in the world: its jobs are the other threads.
fn in_world<R>(world: &World, future: impl Future<Output = R>) -> R {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(result) = poll_once(future.as_mut()) {
            return result;
        }
        if !world.step() {
            world.advance(Duration::from_millis(1));
        }
    }
}

#[test]
fn everything_that_the_blocking_one_does_it_does() {
    on_one_thread(async {
        let dir = tempfile::tempdir().unwrap();
        let db = AsyncDatabase::open(dir.path().join("data")).await.unwrap();
        let users = db.keyspace("users").await.unwrap();
        for number in 0..3000_u32 {
            users.durability(Durability::Os).put(number.to_be_bytes(), b"value").await.unwrap();
        }
        users.put(b"synced", b"1").await.unwrap();
        db.flush().await.unwrap();
        assert_eq!(users.count().await.unwrap(), 3001);
        let mut scan = users.scan(..);
        let (mut entries, mut last) = (0, None);
        while let Some((key, _)) = scan.next().await.unwrap() {
            assert!(last.replace(key.clone()).is_none_or(|last| last < key));
            entries += 1;
        }
        assert_eq!(entries, 3001);
        assert!(scan.next().await.unwrap().is_none(), "over is over");
        let mut stream = users.scan(..10_u32.to_be_bytes().as_slice()).reverse();
        let first = poll_fn(|context| Pin::new(&mut stream).poll_next(context)).await;
        assert_eq!(first.unwrap().unwrap().0, 9_u32.to_be_bytes());

        let snapshot = db.snapshot().unwrap();
        users.delete_range(..).await.unwrap();
        assert_eq!(users.count().await.unwrap(), 0);
        assert_eq!(users.at(&snapshot).get(b"synced").await.unwrap().unwrap(), b"1");
        assert!(users.at(&snapshot).scan(..).next().await.unwrap().is_some());
        drop(snapshot);

        let mut transaction = db.begin().unwrap();
        assert_eq!(transaction.get(&users, b"k").await.unwrap(), None);
        transaction.put(&users, b"k", b"1").unwrap();
        users.put(b"k", b"other").await.unwrap();
        let error = transaction.commit().await.unwrap_err();
        assert!(error.is_retry());
        db.close().await.unwrap();
        assert_eq!(users.get(b"k").await.unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(users.put(b"k", b"1").await.unwrap_err().kind(), ErrorKind::Closed);
    });
}

#[test]
fn what_is_in_memory_is_answered_in_the_first_poll_and_what_is_not_elsewhere() {
    let world = World::new(5);
    let env = world.env();
    let local = Arc::new(LocalTables::new(&env, "data/tables".into()));
    let slow = Arc::new(SlowStore::new(local, env.clone()));
    let builder =
        Database::builder().env(env).cache_bytes(0).table_store(Arc::clone(&slow) as Arc<dyn TableStore>);
    let db = AsyncDatabase::from(builder.durability(Durability::Os).open("data").unwrap());
    let users = in_world(&world, db.keyspace("users")).unwrap();
    // A write and a read of what is in memory: nothing but the poll.
    assert!(matches!(poll_once(pin!(users.put(b"k", b"1"))), Poll::Ready(Ok(()))));
    assert!(matches!(poll_once(pin!(users.get(b"k"))), Poll::Ready(Ok(Some(_)))));
    in_world(&world, db.flush()).unwrap();
    let calls = slow.calls();
    let mut get = Box::pin(users.get(b"k"));
    assert!(poll_once(get.as_mut()).is_pending());
    assert_eq!(slow.calls(), calls, "the poll has waited for the disk");
    assert!(in_world(&world, get).unwrap().is_some());
    assert!(slow.calls() > calls);
    // And what nobody waits for any more is not done.
    let calls = slow.calls();
    let mut get = Box::pin(users.get(b"k"));
    assert!(poll_once(get.as_mut()).is_pending());
    drop(get);
    world.run_until_idle();
    assert_eq!(slow.calls(), calls);
}

#[test]
fn one_who_calls_again_and_again_needs_one_thread_and_several_at_once_need_several() {
    for seed in 0..8 {
        let world = World::new(seed);
        let builder = Database::builder().env(world.env()).durability(Durability::Os);
        let db = AsyncDatabase::from(builder.open("data").unwrap());
        let has_threads = |count: usize| format!("{db:?}").contains(&format!("Pool({count} threads"));
        for _ in 0..100 {
            in_world(&world, db.flush()).unwrap();
            assert!(has_threads(1), "seed {seed}: {db:?}");
        }
        // One has been told of its result, and the thread that told it is not back yet: it takes one of the next two.
        let mut flushes = [Box::pin(db.flush()), Box::pin(db.flush())];
        for flush in &mut flushes {
            assert!(poll_once(flush.as_mut()).is_pending());
        }
        assert!(has_threads(2), "seed {seed}: {db:?}");
        for flush in flushes {
            in_world(&world, flush).unwrap();
        }
        assert!(has_threads(2), "seed {seed}: {db:?}");
    }
}

#[test]
fn a_put_to_a_key_that_somebody_holds_waits_elsewhere() {
    let db = AsyncDatabase::in_memory().unwrap();
    let users = on_one_thread(db.keyspace("users")).unwrap();
    let (holds, lets_go) = (Barrier::new(2), Barrier::new(2));
    std::thread::scope(|scope| {
        let holder = scope.spawn(|| {
            users.blocking().update(b"k", |_| {
                holds.wait();
                lets_go.wait();
                Ok((Change::put(b"first"), ()))
            })
        });
        holds.wait();
        on_one_thread(async {
            let mut put = Box::pin(users.put(b"k", b"second"));
            assert!(poll_once(put.as_mut()).is_pending());
            // Others go on.
            users.put(b"other", b"1").await.unwrap();
            lets_go.wait();
            put.await.unwrap();
        });
        holder.join().unwrap().unwrap();
    });
    assert_eq!(users.blocking().get(b"k").unwrap().unwrap(), b"second");
}

#[test]
fn futures_that_are_dropped_at_any_poll_leave_all_or_nothing() {
    let mut seen = [0; 2];
    for polls in 0..12 {
        for steps in [0, 1, 5, 50] {
            let world = World::new(polls * 100 + steps);
            let db = AsyncDatabase::from(Database::builder().env(world.env()).open("data").unwrap());
            let users = in_world(&world, db.keyspace("users")).unwrap();
            let mut batch = db.blocking().batch();
            (0..10_u8).for_each(|number| batch.put(users.blocking(), [number], b"1"));
            let mut commit = Box::pin(db.commit(batch));
            let mut transaction = Box::pin(async {
                let mut transaction = db.begin()?;
                transaction.get_for_update(&users, b"row").await?;
                (0..10_u8).try_for_each(|number| transaction.put(&users, [b'x', number], b"1"))?;
                transaction.commit().await
            });
            let mut are_over = [false; 2];
            for _ in 0..polls {
                are_over[0] = are_over[0] || poll_once(commit.as_mut()).is_ready();
                are_over[1] = are_over[1] || poll_once(transaction.as_mut()).is_ready();
                for _ in 0..steps {
                    world.step();
                }
            }
            drop((commit, transaction));
            world.run_until_idle();
            // In memory, and after a crash.
            let world = world.kill();
            drop((users, db));
            let db = Database::builder().env(world.env()).open("data").unwrap();
            let users = db.keyspace("users").unwrap();
            for prefix in [0..10_u8, b'x'..b'x' + 1] {
                let count = users.scan([prefix.start].as_slice()..[prefix.end].as_slice()).count();
                assert!(count == 0 || count == 10, "{count} of 10 after {polls} polls");
                seen[usize::from(count == 10)] += 1;
            }
            // Nothing is locked any more.
            let options = TransactionOptions { lock_wait: Duration::ZERO, ..Default::default() };
            db.begin_with(options).unwrap().get_for_update(&users, b"row").unwrap();
        }
    }
    assert!(seen.iter().all(|&times| times > 10), "{seen:?}");
}

#[test]
fn a_transaction_whose_future_was_dropped_says_so_and_lets_its_rows_go() {
    let world = World::new(8);
    let db = AsyncDatabase::from(Database::builder().env(world.env()).open("data").unwrap());
    let users = in_world(&world, db.keyspace("users")).unwrap();
    let mut transaction = db.begin().unwrap();
    let mut locked = Box::pin(transaction.get_for_update(&users, b"row"));
    assert!(poll_once(locked.as_mut()).is_pending());
    drop(locked);
    assert_eq!(transaction.put(&users, b"k", b"1").unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(in_world(&world, transaction.get(&users, b"k")).unwrap_err().kind(), ErrorKind::Invalid);
    world.run_until_idle();
    let options = TransactionOptions { lock_wait: Duration::ZERO, ..Default::default() };
    let mut other = db.blocking().begin_with(options).unwrap();
    other.get_for_update(users.blocking(), b"row").unwrap();
}

#[test]
fn a_panic_elsewhere_is_an_error_and_the_next_call_goes_on() {
    on_one_thread(async {
        let db = AsyncDatabase::in_memory().unwrap();
        let users = db.keyspace("users").await.unwrap();
        let panicked = users.update(b"k", |_| -> pugdb::Result<(Change, ())> { panic!("canary") }).await;
        let error = panicked.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(!error.to_string().contains("canary"));
        users.update(b"k", |_| Ok((Change::put(b"1"), ()))).await.unwrap();
        assert!(users.exists(b"k").await.unwrap());
    });
}

#[test]
fn many_who_wait_for_a_row_do_not_keep_its_owner_from_its_commit() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let db = AsyncDatabase::in_memory().unwrap();
        let counters = db.keyspace("counters").await.unwrap();
        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let (db, counters) = (db.clone(), counters.clone());
                tokio::spawn(async move {
                    loop {
                        let mut transaction = db.begin()?;
                        let old = transaction.get_for_update(&counters, b"visits").await;
                        let result = match old {
                            Ok(old) => {
                                let next = old.map_or(0, |old| old[0]) + 1;
                                transaction.put(&counters, b"visits", [next])?;
                                transaction.commit().await
                            }
                            Err(error) => Err(error),
                        };
                        match result {
                            Err(error) if error.is_retry() => {}
                            result => return result,
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        assert_eq!(counters.get(b"visits").await.unwrap().unwrap(), [100]);
    });
}

#[test]
fn the_runtime_goes_on_while_writers_are_held_back() {
    on_one_thread(async {
        let dir = tempfile::tempdir().unwrap();
        let builder =
            Database::builder().memory_bytes(8 << 20).memtable_bytes(64 << 10).durability(Durability::Os);
        let db = AsyncDatabase::open_with(builder, dir.path().join("data")).await.unwrap();
        let users = db.keyspace_with("users", KeyspaceOptions::default()).await.unwrap();
        let ticks = Arc::new(AtomicU64::new(0));
        let theirs = Arc::clone(&ticks);
        let ticking = tokio::spawn(async move {
            loop {
                theirs.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        for number in 0..4000_u32 {
            users.put(number.to_be_bytes(), vec![7; 4000]).await.unwrap();
            tokio::task::yield_now().await;
        }
        ticking.abort();
        assert!(ticks.load(Ordering::Relaxed) >= 4000);
        assert_eq!(users.count().await.unwrap(), 4000);
    });
}
