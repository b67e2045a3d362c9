//! A small notebook: batches over two keyspaces, scans, snapshots, expiry. Run it twice: it remembers.
//!
//! ```sh
//! cargo run -p pugdb --example notes -- ./notes
//! ```

use pugdb::{Change, Database, EntryOptions, Result};

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
fn main() -> Result<()> {
    let dir = std::env::args().nth(1).unwrap_or_else(|| "./notes".to_owned());
    let db = Database::open(&dir)?;
    println!("{dir}: {}", db.recovery_report());

    let (notes, by_day) = (db.keyspace("notes")?, db.keyspace("by_day")?);
    // Read, decide and write as one step: no other writer comes between.
    let number = notes.update(b"next", |old| {
        let number = old.map_or(1, |entry| entry.value[0]);
        Ok((Change::put([number.wrapping_add(1)]), number))
    })?;

    // Both keyspaces or neither, also after a crash.
    let mut batch = db.batch();
    batch.put(&notes, format!("note:{number:03}"), format!("the {number}. note"));
    batch.put(&by_day, format!("2026-11-22/{number:03}"), format!("note:{number:03}"));
    batch.commit()?;

    // Gone in a minute, to every reader at the same moment.
    let in_a_minute = Some(db.now().plus_ms(60_000));
    notes.put_with(
        b"draft",
        b"for a minute",
        EntryOptions { expires_at: in_a_minute, ..Default::default() },
    )?;

    // What a snapshot sees does not change.
    let snapshot = db.snapshot()?;
    notes.delete(format!("note:{number:03}"))?;
    println!("the snapshot has {} entries:", snapshot.scan(&notes, ..).count());
    for entry in snapshot.scan(&notes, b"note:".as_slice()..b"note;".as_slice()).reverse().limit(3) {
        let (key, value) = entry?;
        println!("  {} = {}", String::from_utf8_lossy(&key), String::from_utf8_lossy(&value));
    }
    println!("the database has {} keys in by_day", by_day.count()?);
    db.close()
}
