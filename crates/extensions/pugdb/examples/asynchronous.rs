//! Many tasks on one thread: each counts its visits, none of them keeps the others waiting.
//!
//! `cargo run -p pugdb --example asynchronous`

use std::path::Path;

use pugdb::{AsyncDatabase, AsyncKeyspace, Change, Result};

const TASKS: usize = 50;
const VISITS: u64 = 20;

fn main() -> Result<()> {
    let dir = std::env::temp_dir().join(format!("pugdb-asynchronous-{}", std::process::id()));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let result = runtime.block_on(run(&dir));
    let _ = std::fs::remove_dir_all(&dir);
    result
}

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
async fn run(dir: &Path) -> Result<()> {
    let db = AsyncDatabase::open(dir).await?;
    let visits = db.keyspace("visits").await?;
    let tasks: Vec<_> = (0..TASKS).map(|page| tokio::spawn(visit(visits.clone(), page))).collect();
    for task in tasks {
        task.await.expect("no task panics")?;
    }

    let (mut scan, mut sum) = (visits.scan(..), 0);
    while let Some((_, count)) = scan.next().await? {
        sum += u64::from(count[0]);
    }
    assert_eq!(sum, TASKS as u64 * VISITS);
    println!("{sum} visits of {TASKS} pages");
    db.close().await
}

async fn visit(visits: AsyncKeyspace, page: usize) -> Result<()> {
    for _ in 0..VISITS {
        let add_one =
            |old: Option<&pugdb::Entry>| Ok((Change::put([old.map_or(0, |old| old.value[0]) + 1]), ()));
        visits.update(format!("/page/{page}"), add_one).await?;
    }
    Ok(())
}
