//! The world as a whole: one seed is one history, the scheduler leaves nothing out, a stopped machine stays stopped.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pugdb_core::Timestamp;
use pugdb_core::env::{Access, Env, Event, Job, Next};

use crate::World;

/// A job made of a closure.
struct Task<F>(F);

impl<F: FnMut() -> Next + Send> Job for Task<F> {
    fn run(&mut self) -> Next {
        (self.0)()
    }
}

fn task(run: impl FnMut() -> Next + Send + 'static) -> Box<dyn Job> {
    Box::new(Task(run))
}

type Diary = Arc<Mutex<Vec<&'static str>>>;

fn panic_text(run: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
    panic.downcast_ref::<String>().cloned().unwrap_or_else(|| (*panic.downcast_ref::<&str>().unwrap()).into())
}

/// A little of everything, with a job that writes between the foreground's calls.
fn busy_history(world: &World) -> io::Result<()> {
    let env = world.env();
    env.fs.create_dir_all(Path::new("db"))?;
    let log = env.fs.create(Path::new("db/log"))?;
    env.fs.sync_dir(Path::new("db"))?;
    let background = env.fs.open(Path::new("db/log"), Access::ReadWrite)?;
    let mut round = 0;
    env.executor.spawn(
        "writer",
        task(move || {
            round += 1;
            // A stopped machine is the foreground's affair.
            let _ = background.write_at(&[round; 700], 10_000 + u64::from(round) * 700);
            if round == 20 { Next::Done } else { Next::Again }
        }),
    );
    for number in 0_u8..20 {
        let mut id = [0; 4];
        env.random.fill(&mut id);
        log.write_at(&id, u64::from(number) * 300)?;
        world.maybe_step();
        if number % 4 == 0 {
            log.sync_data()?;
        }
        if number % 5 == 0 {
            let name = format!("db/{number}");
            env.fs.create(Path::new(&name))?.write_at(&[number; 600], 0)?;
            env.fs.rename(Path::new(&name), Path::new("db/table"))?;
        }
    }
    Ok(())
}

fn remains(world: &World) -> Vec<(String, Vec<u8>)> {
    let files = world.files().into_iter();
    files.map(|(path, _)| (path.display().to_string(), world.read_file(&path).unwrap())).collect()
}

#[test]
fn one_seed_is_one_history() {
    let live = |seed| {
        let world = World::new(seed);
        world.keep_trace(true);
        world.fail_call(30, io::ErrorKind::Other);
        world.stop_at(50);
        let outcome = format!("{:?}", busy_history(&world));
        let cuts: Vec<_> = (0..4).map(|_| world.power_cut()).map(|cut| (cut.fate(), remains(&cut))).collect();
        (world.trace(), outcome, cuts, world.env().clock.monotonic())
    };
    for seed in 0..20 {
        assert!(live(seed) == live(seed), "seed {seed} lives twice");
    }
    assert!(live(1) != live(2));
}

#[test]
fn the_trace_numbers_calls_and_shows_errors() {
    let world = World::new(1);
    world.keep_trace(true);
    let fs = world.env().fs;
    fs.create_dir_all(Path::new("/log")).unwrap();
    let file = fs.create(Path::new("/log/0-1.log")).unwrap();
    file.allocate(4096).unwrap();
    file.write_at(b"pug", 9).unwrap();
    world.count_reads(false);
    file.length().unwrap();
    world.fail_call(5, io::ErrorKind::TimedOut);
    file.sync_data().unwrap_err();
    fs.rename(Path::new("/log/0-1.log"), Path::new("/log/1")).unwrap();
    assert_eq!(
        world.trace(),
        [
            "1 create_dir log",
            "2 create log/0-1.log",
            "3 allocate log/0-1.log 4096",
            "4 write log/0-1.log 9+3",
            "5 sync_data log/0-1.log -> timed out",
            "6 rename log/0-1.log to log/1",
        ]
    );
    assert_eq!(world.calls(), 6);
}

#[test]
fn a_fault_shifts_no_random_id() {
    let ids = |fail| {
        let world = World::new(3);
        let env = world.env();
        let file = env.fs.create(Path::new("file")).unwrap();
        if fail {
            world.fail_call(2, io::ErrorKind::Other);
        }
        let _ = file.write_at(&[1; 100], 0);
        let mut id = [0; 16];
        env.random.fill(&mut id);
        id
    };
    assert_eq!(ids(false), ids(true));
}

#[test]
fn a_stopped_machine_stays_stopped() {
    let world = World::new(1);
    let total = {
        busy_history(&world).unwrap();
        world.run_until_idle();
        world.calls()
    };
    for stop in 1..=total {
        let world = World::new(1);
        world.stop_at(stop);
        let _ = busy_history(&world);
        world.run_until_idle();
        assert!(world.is_off());
        assert_eq!(world.calls(), stop, "later calls are not even counted");
        let before = remains(&world);
        let env = world.env();
        assert_eq!(env.fs.list(Path::new("")).unwrap_err().to_string(), "the machine is off");
        env.fs.create(Path::new("more")).err().unwrap();
        assert_eq!(before, remains(&world));
        let next = world.kill();
        assert!(!next.is_off());
        assert_eq!(before, remains(&next));
        next.env().fs.list(Path::new("")).unwrap();
    }
}

#[test]
fn sticky_faults_last_until_healed() {
    let world = World::new(1);
    let fs = world.env().fs;
    world.fail_from(2, io::ErrorKind::PermissionDenied);
    fs.create(Path::new("a")).unwrap();
    for _ in 0..3 {
        let error = fs.create(Path::new("b")).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }
    world.heal();
    fs.create(Path::new("b")).unwrap();
}

#[test]
fn the_calendar_jumps_and_the_stopwatch_does_not() {
    let world = World::new(1);
    let clock = world.env().clock;
    let start = clock.now();
    world.advance(Duration::from_secs(2));
    assert_eq!(clock.now(), start.plus_ms(2000));
    world.jump_calendar(-5000);
    assert_eq!(clock.now(), Timestamp(start.0 - 3000));
    assert_eq!(clock.monotonic(), Duration::from_secs(2));
    assert!(world.kill().env().clock.monotonic() > Duration::from_secs(2));
}

fn order(seed: u64) -> Vec<&'static str> {
    let world = World::new(seed);
    let diary = Diary::default();
    for name in ["a", "b", "c"] {
        let (diary, mut left) = (diary.clone(), 3);
        world.env().executor.spawn(
            name,
            task(move || {
                diary.lock().push(name);
                left -= 1;
                if left == 0 { Next::Done } else { Next::Again }
            }),
        );
    }
    world.run_until_idle();
    Mutex::into_inner(Arc::into_inner(diary).expect("finished jobs are dropped"))
}

#[test]
fn the_seed_orders_the_jobs() {
    assert_eq!(order(1), order(1));
    assert_eq!(order(1).len(), 9);
    let orders: std::collections::BTreeSet<_> = (0..50).map(order).collect();
    assert!(orders.len() > 30, "{}", orders.len());
}

#[test]
fn timers_fire_in_order_and_time_moves_only_when_nothing_runs() {
    let world = World::new(1);
    let env = world.env();
    let diary = Diary::default();
    for (name, second) in [("late", 3), ("early", 1), ("middle", 2)] {
        let (diary, clock, at) = (diary.clone(), env.clock.clone(), Duration::from_secs(second));
        env.executor.spawn(
            name,
            task(move || {
                if clock.monotonic() < at {
                    return Next::WaitUntil(at);
                }
                diary.lock().push(name);
                Next::Done
            }),
        );
    }
    world.run_until_idle();
    assert!(diary.lock().is_empty() && env.clock.monotonic() < Duration::from_secs(1));
    let event = Event::default();
    assert!(!env.executor.block_until(&event, Some(Duration::from_millis(2500)), &mut || false));
    assert_eq!(*diary.lock(), ["early", "middle"]);
    assert!(env.executor.block_until(&event, None, &mut || diary.lock().len() == 3));
    assert!(env.clock.monotonic() < Duration::from_secs(4));
}

#[test]
fn a_job_waits_until_it_is_woken() {
    let world = World::new(1);
    let env = world.env();
    let count = Arc::new(AtomicU32::new(0));
    let handle = {
        let count = count.clone();
        env.executor.spawn(
            "sleeper",
            task(move || if count.fetch_add(1, Ordering::Relaxed) == 2 { Next::Done } else { Next::Wait }),
        )
    };
    world.run_until_idle();
    assert_eq!(count.load(Ordering::Relaxed), 1);
    assert!(!world.step());
    handle.wake();
    assert!(world.step() && !world.step());
    assert!(!handle.is_done());
    handle.wake();
    handle.join(&*env.executor).unwrap();
    assert_eq!(count.load(Ordering::Relaxed), 3);
}

/// `outer` starts `inner` and waits for it in the middle of its own slice.
fn nest(env: &Env, done: &Arc<AtomicU32>) {
    let (outer_env, done) = (env.clone(), done.clone());
    env.executor.spawn(
        "outer",
        task(move || {
            let mut left = 3;
            let inner = outer_env.executor.spawn(
                "inner",
                task(move || {
                    left -= 1;
                    if left == 0 { Next::Done } else { Next::Again }
                }),
            );
            inner.join(&*outer_env.executor).unwrap();
            done.fetch_add(1, Ordering::Relaxed);
            Next::Done
        }),
    );
}

#[test]
fn a_job_can_wait_for_another() {
    for seed in 0..20 {
        let world = World::new(seed);
        let done = Arc::new(AtomicU32::new(0));
        for _ in 0..3 {
            nest(&world.env(), &done);
        }
        world.run_until_idle();
        assert_eq!(done.load(Ordering::Relaxed), 3);
    }
}

#[test]
fn a_deadlock_is_reported_with_the_seed_and_the_jobs() {
    let world = World::new(77);
    let env = world.env();
    env.executor.spawn("sleeper", task(|| Next::Wait));
    let stuck = env.clone();
    env.executor.spawn(
        "stuck",
        task(move || {
            stuck.executor.block_until(&Event::default(), None, &mut || false);
            Next::Done
        }),
    );
    let text = panic_text(|| {
        env.executor.block_until(&Event::default(), None, &mut || false);
    });
    assert!(text.starts_with("deadlock:") && text.contains("seed 77"), "{text}");
    assert!(text.contains("sleeper (waits to be woken)"), "{text}");
    assert!(text.contains("stuck (busy"), "{text}");
}

#[test]
fn a_jobs_panic_fails_the_test_and_the_world_goes_on() {
    let world = World::new(1);
    let env = world.env();
    let handle = env.executor.spawn("panics", task(|| panic!("on purpose")));
    assert_eq!(panic_text(|| world.run_until_idle()), "on purpose");
    assert!(handle.has_panicked());
    assert!(handle.join(&*env.executor).is_err());
    let done = Arc::new(AtomicU32::new(0));
    nest(&env, &done);
    world.run_until_idle();
    assert_eq!(done.load(Ordering::Relaxed), 1);
}

#[test]
fn jobs_that_never_rest_are_reported() {
    let world = World::new(1);
    world.env().executor.spawn("restless", task(|| Next::Again));
    assert!(panic_text(|| world.run_until_idle()).starts_with("livelock:"));
}

/// A job that holds the world's door, as every real one does.
fn spawn_holder(world: &World) -> std::sync::Weak<()> {
    let (env, token) = (world.env(), Arc::new(()));
    let weak = Arc::downgrade(&token);
    world.env().executor.spawn(
        "holder",
        task(move || {
            let _ = (&env, &token);
            Next::Wait
        }),
    );
    weak
}

#[test]
fn jobs_end_with_their_life_and_leak_nothing() {
    let world = World::new(1);
    let killed = spawn_holder(&world);
    let next = world.kill();
    assert!(killed.upgrade().is_none());
    let dropped = spawn_holder(&next);
    drop(next);
    assert!(dropped.upgrade().is_none());
}

#[test]
fn check_runs_every_seed_and_fails_with_the_first_bad_one() {
    let seen = Mutex::new(Vec::new());
    let run = || {
        crate::check("-p pugdb-sim", "check", 0..9, |seed| {
            seen.lock().push(seed);
            assert!(seed < 3, "too big");
        });
    };
    assert_eq!(panic_text(run), "too big");
    assert_eq!(*seen.lock(), [0, 1, 2, 3]);
}
