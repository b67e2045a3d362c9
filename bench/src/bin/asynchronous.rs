//! What the asynchronous face adds to a get of a key that is in memory: the same gets by the blocking handle and by a future, in turns, on
//! one thread. Nothing is spawned: what is at hand is answered in the first poll.

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use pugdb::{AsyncDatabase, Database, Durability};
use pugdb_ycsb::{Random, Stopwatch, key};

const RECORDS: u64 = 100_000;
const GETS: u64 = 1_000_000;
const ROUNDS: usize = 7;

fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let dir = tempfile::Builder::new().prefix("pugdb-bench-").tempdir_in("target")?;
    let db = Database::builder().durability(Durability::Os).open(dir.path().join("data"))?;
    let blocking = db.keyspace("records")?;
    for record in 0..RECORDS {
        blocking.put(key(record), [b'v'; 100])?;
    }
    db.flush()?;
    for record in 0..RECORDS {
        blocking.get(key(record))?.ok_or("a record is missing")?;
    }
    let mut context = Context::from_waker(Waker::noop());
    let face = AsyncDatabase::from(db.clone());
    let mut opening = pin!(face.keyspace("records"));
    let asynchronous = loop {
        match opening.as_mut().poll(&mut context) {
            Poll::Ready(keyspace) => break keyspace?,
            Poll::Pending => std::thread::yield_now(),
        }
    };
    let (stopwatch, mut times) = (Stopwatch::new(), [Vec::new(), Vec::new()]);
    for round in 0..ROUNDS {
        for (face, times) in times.iter_mut().enumerate() {
            let mut random = Random::new(round as u64);
            let begun = stopwatch.elapsed();
            for _ in 0..GETS {
                let key = key(random.below(RECORDS));
                if face == 0 {
                    blocking.get(key)?.ok_or("a record is missing")?;
                    continue;
                }
                match pin!(asynchronous.get(key)).poll(&mut context) {
                    Poll::Ready(found) => found?.ok_or("a record is missing")?,
                    Poll::Pending => return Err("a record was not in memory".into()),
                };
            }
            let took = stopwatch.elapsed().saturating_sub(begun);
            #[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
            times.push(took.as_secs_f64() * 1e9 / GETS as f64);
        }
    }
    let [blocking, asynchronous] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[ROUNDS / 2]
    });
    println!(
        "get {blocking:.0} ns, by a future {asynchronous:.0} ns: {:.0} ns more",
        asynchronous - blocking
    );
    db.close()?;
    Ok(())
}
