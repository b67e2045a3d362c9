//! The same transactions over PugDB and over those of its peers that have optimistic ones: four reads, two of the four keys
//! written, every read checked at the commit. Each store in a process of its own, alone and with eight threads, on keys that hardly
//! ever meet and on keys that do. A transaction that has met another begins again, and counts once it is through.
//!
//! An acknowledged transaction survives the death of the process (`Durability::Os`), with all of them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use pugdb_bench::{machine, stores};
use pugdb_ycsb::{Key, Random, Stopwatch, Usage, key};
use serde::{Deserialize, Serialize};

/// Runs the same transactions over PugDB, RocksDB and fjall.
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// How many records there are
    #[arg(long, default_value_t = 200_000)]
    records: u64,
    /// How many of them the transactions are about, where they meet
    #[arg(long, default_value_t = 64)]
    hot: u64,
    /// How many transactions are committed, by all threads together
    #[arg(long, default_value_t = 200_000)]
    transactions: u64,
    /// The size of a value
    #[arg(long, default_value_t = 100)]
    value_bytes: usize,
    /// How often everything is measured; the table shows medians
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Where the stores lie, each in a directory of its own: a disk, not memory
    #[arg(long, default_value = "target/stores")]
    dir: PathBuf,
    /// The raw output, one JSON object a line
    #[arg(long, default_value = "results/transactions.jsonl")]
    out: PathBuf,
    /// Measure this one store in this process; for the program itself
    #[arg(long, hide = true)]
    child: Option<String>,
}

const STORES: &[&str] = if cfg!(feature = "peers") { &["pugdb", "rocksdb", "fjall"] } else { &["pugdb"] };
const THREADS: [u64; 2] = [1, 8];
const READS: usize = 4;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What a run has shown.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
    store: String,
    keys: u64,
    threads: u64,
    per_second: f64,
    cpu_us: f64,
    /// For each that was committed, how many had to begin again.
    conflicts: f64,
}

/// A store with transactions.
trait Transactional: Sync {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Failure>;

    /// Reads all keys, writes the first two, commits. False when it has met another one.
    fn transact(&self, keys: &[Key; READS], value: &[u8]) -> Result<bool, Failure>;
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.child {
        Some(store) => child(&arguments, store),
        None => run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("transactions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    std::fs::create_dir_all(&arguments.dir)?;
    let mut raw = std::fs::File::create(&arguments.out)?;
    let mut rows: Vec<Row> = Vec::new();
    for round in 0..arguments.rounds {
        for at in 0..STORES.len() {
            let store = STORES[(at + round as usize) % STORES.len()];
            eprintln!("round {round}, {store}");
            let mut process = Command::new(std::env::current_exe()?)
                .args(["--child", store])
                .args(["--records", &arguments.records.to_string()])
                .args(["--hot", &arguments.hot.to_string()])
                .args(["--transactions", &arguments.transactions.to_string()])
                .args(["--value-bytes", &arguments.value_bytes.to_string()])
                .arg("--dir")
                .arg(&arguments.dir)
                .stdout(Stdio::piped())
                .spawn()?;
            let stdout = process.stdout.take().ok_or("stdout was asked for")?;
            for line in BufReader::new(stdout).lines() {
                let line = line?;
                writeln!(raw, "{line}")?;
                rows.push(serde_json::from_str(&line)?);
            }
            if !process.wait()?.success() {
                return Err(format!("{store} has failed").into());
            }
        }
    }
    print(arguments, &rows);
    Ok(())
}

fn print(arguments: &Arguments, rows: &[Row]) {
    println!("{}, {}.\n", machine::describe(), machine::file_system(&arguments.dir));
    println!("{}\n", stores::versions());
    let columns = STORES.iter().map(|store| format!(" {store} |")).collect::<String>();
    println!("| |{columns}\n|---|{}", "---:|".repeat(STORES.len()));
    let figures: [(&str, fn(&Row) -> f64); 3] = [
        ("CPU us", |row| row.cpu_us),
        ("a second", |row| row.per_second),
        ("begun again", |row| row.conflicts),
    ];
    for keys in [arguments.records, arguments.hot] {
        for threads in THREADS {
            for (name, figure) in figures {
                let medians = STORES.iter().map(|store| {
                    let is_it =
                        |row: &&Row| row.store == *store && (row.keys, row.threads) == (keys, threads);
                    let mut all: Vec<f64> = rows.iter().filter(is_it).map(figure).collect();
                    all.sort_by(f64::total_cmp);
                    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
                });
                let medians: Vec<f64> = medians.collect();
                let cells = medians.iter().enumerate().map(|(at, median)| {
                    let shown =
                        if *median >= 1000.0 { format!("{median:.0}") } else { format!("{median:.2}") };
                    let is_compared = at > 0 && name != "begun again";
                    let ratio =
                        if is_compared { format!(" ({:.2}x)", median / medians[0]) } else { String::new() };
                    format!(" {shown}{ratio} |")
                });
                println!("| {keys} keys, {threads} threads, {name} |{}", cells.collect::<String>());
            }
        }
    }
}

fn child(arguments: &Arguments, store: &str) -> Result<(), Failure> {
    let dir = tempfile::Builder::new().prefix("pugdb-bench-").tempdir_in(&arguments.dir)?;
    let opened = open(store, dir.path())?;
    for record in 0..arguments.records {
        opened.put(&key(record), &vec![b'v'; arguments.value_bytes])?;
    }
    for keys in [arguments.records, arguments.hot] {
        for threads in THREADS {
            let row = measure(arguments, &*opened, keys, threads)?;
            println!("{}", serde_json::to_string(&Row { store: store.to_owned(), ..row })?);
        }
    }
    Ok(())
}

fn measure(
    arguments: &Arguments,
    store: &dyn Transactional,
    keys: u64,
    threads: u64,
) -> Result<Row, Failure> {
    let stopwatch = Stopwatch::new();
    let (conflicts, begin) = (AtomicU64::new(0), Usage::now(&stopwatch));
    let each = arguments.transactions / threads;
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                let conflicts = &conflicts;
                scope.spawn(move || -> Result<(), Failure> {
                    let mut random = Random::new(thread * 7919 + keys);
                    let mut value = vec![b'w'; arguments.value_bytes];
                    for number in 0..each {
                        value[..8].copy_from_slice(&number.to_le_bytes());
                        let mut chosen = [0; READS];
                        for at in 0..READS {
                            // Each another one.
                            chosen[at] = loop {
                                let record = random.below(keys);
                                if !chosen[..at].contains(&record) {
                                    break record;
                                }
                            };
                        }
                        while !store.transact(&chosen.map(key), &value)? {
                            conflicts.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        running.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread has panicked")?)
    })?;
    let end = Usage::now(&stopwatch);
    #[expect(clippy::cast_precision_loss, reason = "figures to look at")]
    let committed = (each * threads) as f64;
    #[expect(clippy::cast_precision_loss, reason = "figures to look at")]
    let conflicts = conflicts.into_inner() as f64 / committed;
    Ok(Row {
        store: String::new(),
        keys,
        threads,
        per_second: committed / end.wall_since(&begin).as_secs_f64(),
        cpu_us: end.processor_since(&begin).as_secs_f64() * 1e6 / committed,
        conflicts,
    })
}

fn open(store: &str, dir: &Path) -> Result<Box<dyn Transactional>, Failure> {
    match store {
        "pugdb" => Ok(Box::new(PugDb::open(dir)?)),
        #[cfg(feature = "peers")]
        "rocksdb" => Ok(Box::new(peers::RocksDb::open(dir)?)),
        #[cfg(feature = "peers")]
        "fjall" => Ok(Box::new(peers::Fjall::open(dir)?)),
        _ => Err(format!("there is no store {store} with transactions").into()),
    }
}

struct PugDb {
    db: pugdb::Database,
    keyspace: pugdb::Keyspace,
}

impl PugDb {
    fn open(dir: &Path) -> pugdb::Result<Self> {
        let db = pugdb::Database::builder()
            .memory_bytes(4 * stores::CACHE_BYTES)
            .cache_bytes(stores::CACHE_BYTES)
            .durability(pugdb::Durability::Os)
            .open(dir.join("data"))?;
        let keyspace = db.keyspace("transactions")?;
        Ok(Self { db, keyspace })
    }
}

impl Transactional for PugDb {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        Ok(self.keyspace.put(key, value)?)
    }

    fn transact(&self, keys: &[Key; READS], value: &[u8]) -> Result<bool, Failure> {
        let mut transaction = self.db.begin()?;
        for key in keys {
            transaction.get(&self.keyspace, key)?.ok_or("a record is missing")?;
        }
        for key in &keys[..2] {
            transaction.put(&self.keyspace, key, value)?;
        }
        match transaction.commit() {
            Ok(()) => Ok(true),
            Err(error) if error.is_retry() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(feature = "peers")]
mod peers {
    use std::path::Path;

    use fjall::{KeyspaceCreateOptions, OptimisticTxDatabase, OptimisticTxKeyspace, PersistMode, Readable};
    use pugdb_bench::stores::{self, CACHE_BYTES};
    use pugdb_ycsb::Key;
    use rocksdb::{ErrorKind, OptimisticTransactionDB};

    use super::{Failure, READS, Transactional};

    /// With the settings of the other benchmarks.
    pub(super) struct RocksDb(OptimisticTransactionDB);

    impl RocksDb {
        pub(super) fn open(dir: &Path) -> Result<Self, Failure> {
            Ok(Self(OptimisticTransactionDB::open(&stores::rocksdb::options(), dir.join("data"))?))
        }
    }

    impl Transactional for RocksDb {
        fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Failure> {
            Ok(self.0.put(key, value)?)
        }

        /// Only what is read "for update" is checked when it commits.
        fn transact(&self, keys: &[Key; READS], value: &[u8]) -> Result<bool, Failure> {
            let transaction = self.0.transaction();
            for key in keys {
                transaction.get_pinned_for_update(key, true)?.ok_or("a record is missing")?;
            }
            for key in &keys[..2] {
                transaction.put(key, value)?;
            }
            match transaction.commit() {
                Ok(()) => Ok(true),
                Err(error) if matches!(error.kind(), ErrorKind::Busy | ErrorKind::TryAgain) => Ok(false),
                Err(error) => Err(error.into()),
            }
        }
    }

    pub(super) struct Fjall {
        db: OptimisticTxDatabase,
        keyspace: OptimisticTxKeyspace,
    }

    impl Fjall {
        pub(super) fn open(dir: &Path) -> Result<Self, Failure> {
            let db = OptimisticTxDatabase::builder(dir.join("data")).cache_size(CACHE_BYTES as u64).open()?;
            let keyspace = db.keyspace("transactions", KeyspaceCreateOptions::default)?;
            Ok(Self { db, keyspace })
        }
    }

    impl Transactional for Fjall {
        fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Failure> {
            Ok(self.keyspace.insert(key, value)?)
        }

        /// Handed to the system when it is acknowledged, as the others'.
        fn transact(&self, keys: &[Key; READS], value: &[u8]) -> Result<bool, Failure> {
            let mut transaction = self.db.write_tx()?.durability(Some(PersistMode::Buffer));
            for key in keys {
                transaction.get(&self.keyspace, key)?.ok_or("a record is missing")?;
            }
            for key in &keys[..2] {
                transaction.insert(&self.keyspace, key.as_slice(), value);
            }
            Ok(transaction.commit()?.is_ok())
        }
    }
}
