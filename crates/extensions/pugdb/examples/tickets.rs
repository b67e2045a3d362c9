//! Many commits, one sync: commit without waiting, then wait for the last ticket.
//!
//! ```sh
//! cargo run --release -p pugdb --example tickets
//! ```

use pugdb::{Database, Result};

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
fn main() -> Result<()> {
    let dir = std::env::temp_dir().join(format!("pugdb-tickets-{}", std::process::id()));
    let db = Database::open(&dir)?;
    let orders = db.keyspace("orders")?;

    let mut last = None;
    for number in 0..10_000_u32 {
        let mut batch = db.batch();
        batch.put(&orders, number.to_be_bytes(), b"paid");
        // Applied and visible at once; durable when the ticket is done.
        last = Some(batch.commit_ticket()?);
    }
    // Tickets are ordered: when the last one is done, so are all before it. A future can await it, too.
    if let Some(ticket) = last {
        ticket.wait()?;
    }
    println!("{} orders are on disk", orders.count()?);
    db.close()
}
