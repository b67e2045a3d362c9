//! The bank: sixteen threads move money between accounts in transactions, in a process that is killed at any moment, again and again.
//! No money is made or lost, whoever looks and whenever, and every transfer that was acknowledged is there.
//!
//! Accounts lie in two keyspaces, of which one is partitioned; its partitions are split and merged meanwhile. Some transfers
//! prepare first, and what a kill leaves of those is decided afterwards, one way or the other. A second bank is encrypted, and its keys
//! are rotated, renewed and taken to all data meanwhile.
//!
//! `PUGDB_BANK_ROUNDS=200 cargo test --release -p pugdb-tests --test bank` is the long run.

#![expect(clippy::unwrap_used, reason = "a test's helper fails as its test does")]

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use pugdb::keys::{KeyFile, Vault};
use pugdb::{
    Builder, Database, Durability, Isolation, Keyspace, KeyspaceOptions, Partition, PartitionKeys,
    Partitioning, Result, Snapshot, Transaction, TransactionOptions,
};
use pugdb_tests::killed::{run_and_kill, told};

const THREADS: u64 = 16;
const ACCOUNTS: u64 = 64;
const START: u64 = 1000;
const KEY: &str = "root.key";

/// How many transfers of each thread were acknowledged: a file, which outlives the process.
struct Acknowledged(File);

impl Acknowledged {
    fn open(dir: &Path) -> Self {
        let path = dir.join("acknowledged");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap();
        file.set_len(THREADS * 8).unwrap();
        Self(file)
    }

    fn get(&self, thread: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, thread * 8).unwrap();
        u64::from_le_bytes(bytes)
    }

    fn set(&self, thread: u64, count: u64) {
        self.0.write_all_at(&count.to_le_bytes(), thread * 8).unwrap();
    }
}

struct Bank {
    db: Database,
    /// Even accounts lie in the first one, odd ones in the second, which is partitioned.
    accounts: [Keyspace; 2],
    /// How many transfers each thread has made: written by each of them.
    made: Keyspace,
}

impl Bank {
    fn open(dir: &Path, builder: Builder) -> Self {
        let db = builder.open(dir.join("db")).unwrap();
        let hash = Partitioning::Hash { partitions: 2 };
        let odd = db.partitioned_keyspace("odd", &hash, KeyspaceOptions::default()).unwrap();
        let accounts = [db.keyspace("even").unwrap(), odd];
        let made = db.keyspace("made").unwrap();
        Self { db, accounts, made }
    }

    fn endow(&self) {
        let mut batch = self.db.batch();
        for account in 0..ACCOUNTS {
            batch.put(self.keyspace(account), account.to_be_bytes(), START.to_be_bytes());
        }
        batch.commit().unwrap();
    }

    fn keyspace(&self, account: u64) -> &Keyspace {
        &self.accounts[usize::from(account % 2 == 1)]
    }

    /// All money there is, at one moment.
    fn sum(&self, snapshot: &Snapshot) -> u64 {
        let mut scans = self.accounts.iter().map(|accounts| snapshot.scan(accounts, ..));
        scans.by_ref().flatten().map(|entry| number(&entry.unwrap().1)).sum()
    }
}

fn number(value: &[u8]) -> u64 {
    u64::from_be_bytes(value.try_into().unwrap())
}

/// With the root key of the bank in `dir`, if it has one.
fn options(dir: &Path, random: &mut fastrand::Rng) -> Builder {
    let durabilities =
        [Durability::Os, Durability::Group { max_delay: Duration::from_millis(1) }, Durability::Sync];
    let builder = Database::builder();
    let builder =
        if dir.join(KEY).exists() { builder.root_key(KeyFile::new(dir.join(KEY))) } else { builder };
    builder
        .memory_bytes(16 << 20)
        .memtable_bytes([16 << 10, 256 << 10][random.usize(..2)])
        .cache_bytes([0, 1 << 20][random.usize(..2)])
        .log_segment_bytes([64 << 10, 1 << 20][random.usize(..2)])
        .durability(durabilities[random.usize(..3)])
}

struct Teller<'a> {
    bank: &'a Bank,
    thread: u64,
    random: fastrand::Rng,
}

impl Teller<'_> {
    /// Moves what a random account can give, in a transaction of one kind or another.
    fn transfer(&mut self, made: u64) {
        let from = self.random.u64(..ACCOUNTS);
        let to = (from + self.random.u64(1..ACCOUNTS)) % ACCOUNTS;
        let amount = self.random.u64(1..50);
        let isolation = if self.random.bool() { Isolation::Serializable } else { Isolation::Snapshot };
        let options = TransactionOptions { isolation, attempts: 10_000, ..Default::default() };
        let (locks, in_two_phases) = (self.random.bool(), self.random.u8(..20) == 0);
        let step = |transaction: &mut Transaction| self.step(transaction, (from, to), amount, locks, made);
        if !in_two_phases {
            return self.bank.db.transact_with(options, step).unwrap();
        }
        // In two phases: what has met another one there begins again here.
        let name = format!("transfer {} of {}", made, self.thread);
        loop {
            let mut transaction = self.bank.db.begin_with(options).unwrap();
            let prepared = self
                .step(&mut transaction, (from, to), amount, false, made)
                .and_then(|()| transaction.prepare(&name));
            match prepared {
                Ok(prepared) => return prepared.commit().unwrap(),
                Err(error) => assert!(error.is_retry(), "{error:?}"),
            }
        }
    }

    fn step(
        &self,
        transaction: &mut Transaction,
        (from, to): (u64, u64),
        amount: u64,
        locks: bool,
        made: u64,
    ) -> Result<()> {
        let bank = self.bank;
        let mut balance = |account: u64| {
            let keyspace = bank.keyspace(account);
            let key = account.to_be_bytes();
            let found = if locks {
                transaction.get_for_update(keyspace, key)?
            } else {
                transaction.get(keyspace, key)?
            };
            Ok::<u64, pugdb::Error>(number(&found.expect("no account is ever closed")))
        };
        // In one order, so that those who lock do not wait in a circle.
        let (first, second) = (balance(from.min(to))?, balance(from.max(to))?);
        let (rich, poor) = if from < to { (first, second) } else { (second, first) };
        let amount = amount.min(rich);
        transaction.put(bank.keyspace(from), from.to_be_bytes(), (rich - amount).to_be_bytes())?;
        transaction.put(bank.keyspace(to), to.to_be_bytes(), (poor + amount).to_be_bytes())?;
        transaction.put(&bank.made, self.thread.to_be_bytes(), (made + 1).to_be_bytes())
    }
}

/// New root keys all the time, now and then new keys of everything, and those for all data.
fn change_locks(db: &Database, keys: &Vault) {
    loop {
        keys.renew().unwrap();
        db.rewrite(Some(Duration::ZERO)).unwrap();
        for _ in 0..20 {
            keys.rotate().unwrap();
        }
    }
}

/// What the killed process does. An ordinary run of the tests does nothing here.
#[test]
fn the_bank_that_is_killed() {
    let Some((dir, seed)) = told() else { return };
    let mut random = fastrand::Rng::with_seed(seed);
    let bank = Bank::open(&dir, options(&dir, &mut random));
    let acknowledged = Acknowledged::open(&dir);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (bank, acknowledged) = (&bank, &acknowledged);
            let mut teller = Teller { bank, thread, random: fastrand::Rng::with_seed(random.u64(..)) };
            scope.spawn(move || {
                for made in acknowledged.get(thread).. {
                    teller.transfer(made);
                    acknowledged.set(thread, made + 1);
                }
            });
        }
        scope.spawn(|| {
            loop {
                let snapshot = bank.db.snapshot().unwrap();
                assert_eq!(bank.sum(&snapshot), ACCOUNTS * START);
                drop(snapshot);
                let audited = bank.db.transact(|transaction| {
                    let mut sum = 0;
                    for accounts in &bank.accounts {
                        for entry in transaction.scan(accounts, ..) {
                            sum += number(&entry?.1);
                        }
                    }
                    Ok(sum)
                });
                assert_eq!(audited.unwrap(), ACCOUNTS * START);
            }
        });
        if let Some(keys) = bank.db.keys() {
            let db = &bank.db;
            scope.spawn(move || change_locks(db, &keys));
        }
        scope.spawn(|| {
            // The wider one: what a kill leaves of three is merged from the left, and the others would grow ever narrower.
            loop {
                let odd = &bank.accounts[1];
                let slots = |one: &Partition| match &one.keys {
                    PartitionKeys::Slots(slots) => slots.len(),
                    PartitionKeys::Range { .. } => 0,
                };
                let widest = odd.partitions().unwrap().into_iter().max_by_key(slots).unwrap().number;
                odd.split_partition(widest, None, &mut |_| ()).unwrap();
                odd.merge_partitions(widest, &mut |_| ()).unwrap();
            }
        });
    });
}

/// Opens what the kill has left, decides what is undecided, counts. Returns how many transfers there have been.
fn check(dir: &Path, random: &mut fastrand::Rng) -> u64 {
    let bank = Bank::open(dir, options(dir, random));
    let acknowledged = Acknowledged::open(dir);
    for prepared in bank.db.prepared_transactions().unwrap() {
        let prepared = bank.db.prepared_transaction(&prepared).unwrap().unwrap();
        if random.bool() { prepared.commit().unwrap() } else { prepared.rollback().unwrap() }
    }
    assert_eq!(bank.sum(&bank.db.snapshot().unwrap()), ACCOUNTS * START, "money was made or lost");
    for thread in 0..THREADS {
        let known = acknowledged.get(thread);
        let made = bank.made.get(thread.to_be_bytes()).unwrap().map_or(0, |made| number(&made));
        assert!(
            made == known || made == known + 1,
            "thread {thread} has made {made}, and {known} were acknowledged"
        );
        acknowledged.set(thread, made);
    }
    let partitions = bank.accounts[1].partitions().unwrap().len();
    assert!(partitions == 2 || partitions == 3, "{partitions}");
    if partitions == 3 {
        bank.accounts[1].merge_partitions(0, &mut |_| ()).unwrap();
    }
    let report = bank.db.verify().unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    bank.db.close().unwrap();
    (0..THREADS).map(|thread| acknowledged.get(thread)).sum()
}

/// A bank with its money, closed.
fn founded() -> tempfile::TempDir {
    let scratch = tempfile::tempdir().unwrap();
    let bank = Bank::open(scratch.path(), Database::builder());
    bank.endow();
    bank.db.close().unwrap();
    scratch
}

#[test]
fn a_bank_that_is_killed_at_any_moment_neither_makes_nor_loses_money() {
    let scratch = founded();
    eprintln!("{}", kill_again_and_again(scratch.path()));
}

#[test]
fn a_bank_whose_keys_are_rotated_when_it_is_killed_opens_with_what_is_left() {
    let scratch = founded();
    let encrypted = || Database::builder().root_key(KeyFile::new(scratch.path().join(KEY)));
    let db = encrypted().encrypt(scratch.path().join("db")).unwrap();
    let generation = |db: &Database| db.keys().unwrap().status().keyring_generation;
    let before = generation(&db);
    db.close().unwrap();
    let done = kill_again_and_again(scratch.path());
    let db = encrypted().open(scratch.path().join("db")).unwrap();
    let rotations = generation(&db) - before;
    assert!(rotations > 20, "hardly any key was changed: {rotations}");
    eprintln!("{done}, {rotations} changes of keys");
}

/// Says what was done.
fn kill_again_and_again(dir: &Path) -> String {
    let rounds: u64 = std::env::var("PUGDB_BANK_ROUNDS").map_or(4, |rounds| rounds.parse().unwrap());
    let mut transfers = 0;
    for seed in 0..rounds {
        let mut random = fastrand::Rng::with_seed(seed ^ 0xba9c);
        let after = Duration::from_millis(random.u64(100..1500));
        run_and_kill("the_bank_that_is_killed", dir, seed, after);
        let now = check(dir, &mut random);
        assert!(now >= transfers);
        transfers = now;
    }
    assert!(transfers > rounds * 10, "hardly anything happened: {transfers}");
    format!("{rounds} rounds, {transfers} transfers")
}
