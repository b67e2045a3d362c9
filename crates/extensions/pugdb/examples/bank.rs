//! Transfers between accounts by several threads, an audit beside them, and a transfer to another bank in two phases.
//!
//! `cargo run -p pugdb --example bank`

use std::path::Path;

use pugdb::{Database, Error, Keyspace, Result, Value};

const ACCOUNTS: u64 = 20;
const START: u64 = 100;

fn main() -> Result<()> {
    let dir = std::env::temp_dir().join(format!("pugdb-bank-{}", std::process::id()));
    let result = run(&dir);
    let _ = std::fs::remove_dir_all(&dir);
    result
}

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
fn run(dir: &Path) -> Result<()> {
    let db = Database::open(dir.join("here"))?;
    let accounts = db.keyspace("accounts")?;
    for number in 0..ACCOUNTS {
        accounts.put(name(number), START.to_string())?;
    }

    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let (db, accounts) = (&db, &accounts);
                scope.spawn(move || {
                    for step in 0..100 {
                        let (from, to) = ((thread * 7 + step) % ACCOUNTS, (thread + step * 3) % ACCOUNTS);
                        match transfer(db, accounts, from, to, 30) {
                            // Nothing has changed: nobody has lost a thing.
                            Err(error) if error.kind() == pugdb::ErrorKind::NotFound => {}
                            result => result?,
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        // Whoever looks sees each transfer whole.
        for _ in 0..20 {
            assert_eq!(sum(&db, &accounts)?, ACCOUNTS * START);
        }
        threads.into_iter().try_for_each(|thread| thread.join().expect("no thread panics"))
    })?;
    assert_eq!(sum(&db, &accounts)?, ACCOUNTS * START);

    // Another bank, another database: both prepare, and then both commit.
    let there = Database::open(dir.join("there"))?;
    let theirs = there.keyspace("accounts")?;
    let mut pay = db.begin()?;
    let all = balance(pay.get(&accounts, name(0))?)?;
    pay.put(&accounts, name(0), "0")?;
    let mut receive = there.begin()?;
    receive.put(&theirs, "from here", all.to_string())?;
    let (pay, receive) = (pay.prepare("payment 1")?, receive.prepare("payment 1")?);
    // From here on a crash does not undo it: `Database::prepared_transactions` lists it after the next open.
    pay.commit()?;
    receive.commit()?;
    assert_eq!(sum(&db, &accounts)? + sum(&there, &theirs)?, ACCOUNTS * START);
    println!("{} in {ACCOUNTS} accounts here, {all} there", sum(&db, &accounts)?);
    there.close()?;
    db.close()
}

fn name(number: u64) -> String {
    format!("account {number:03}")
}

fn balance(value: Option<Value>) -> Result<u64> {
    let Some(value) = value else { return Ok(0) };
    let number = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| Error::corrupt("an account holds no number"))
}

fn transfer(db: &Database, accounts: &Keyspace, from: u64, to: u64, amount: u64) -> Result<()> {
    if from == to {
        return Ok(());
    }
    db.transact(|tx| {
        let (ours, theirs) = (balance(tx.get(accounts, name(from))?)?, balance(tx.get(accounts, name(to))?)?);
        let left = ours.checked_sub(amount).ok_or_else(|| Error::not_found("there is not enough money"))?;
        tx.put(accounts, name(from), left.to_string())?;
        tx.put(accounts, name(to), (theirs + amount).to_string())
    })
}

fn sum(db: &Database, accounts: &Keyspace) -> Result<u64> {
    let snapshot = db.snapshot()?;
    snapshot.scan(accounts, ..).map(|entry| balance(Some(entry?.1))).sum()
}
