//! What 10,000 keyspaces with one small entry each cost: a table for each of them, an open, a flush, a close, memory.
//!
//! A directory that holds them already is only opened and read.
//!
//! `ulimit -n 1024; cargo run --release -p pugdb --example many_keyspaces -- target/many-keyspaces 10000`

use std::fmt::Arguments;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pugdb::env::Env;
use pugdb::{Database, Durability, Error, Keyspace, Result};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().unwrap_or_else(|| "target/many-keyspaces".to_owned()));
    let count = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(10_000);
    let watch = Watch::new();

    if !dir.join("CURRENT").exists() {
        write(&dir, count, &watch)?;
    }
    let db = Database::builder().durability(Durability::Os).create_if_missing(false).open(&dir)?;
    watch.say(format_args!("reopen with {} tables", db.stats()?.tables), count);
    let read = |key: &[u8]| -> Result<()> {
        for number in 0..count {
            let found = db.keyspace(&name(number))?.get(key)?;
            if found.as_deref() != Some(&b"value"[..]) {
                return Err(Error::internal(format!("keyspace {number} has lost its entry")));
            }
        }
        Ok(())
    };
    read(b"key")?;
    watch.say("read each once", count);
    read(b"key")?;
    watch.say("read each again", count);
    let problems = db.verify()?.problems;
    watch.say(format_args!("verify, {} problems", problems.len()), count);
    db.close()?;
    watch.say("close, with nothing to flush", count);
    Ok(())
}

fn name(number: usize) -> String {
    format!("keyspace {number}")
}

fn write(dir: &Path, count: usize, watch: &Watch) -> Result<()> {
    let db = Database::builder().durability(Durability::Os).open(dir)?;
    watch.say("open, new", count);
    let spaces = (0..count).map(|number| db.keyspace(&name(number))).collect::<Result<Vec<Keyspace>>>()?;
    watch.say("create keyspaces", count);
    db.flush()?;
    watch.say("record them in the manifest", count);
    spaces.iter().try_for_each(|space| space.put(b"key", b"value"))?;
    watch.say("write an entry to each", count);
    db.flush()?;
    watch.say("flush", count);
    drop(spaces);
    db.close()?;
    watch.say("close", count);
    Ok(())
}

/// Says what each step took.
struct Watch {
    env: Env,
    last: std::cell::Cell<(Duration, usize)>,
}

impl Watch {
    fn new() -> Self {
        let env = Env::os();
        let last = (env.clock.monotonic(), resident_bytes()).into();
        Self { env, last }
    }

    fn say(&self, step: impl std::fmt::Display, count: usize) {
        let (now, bytes) = (self.env.clock.monotonic(), resident_bytes());
        let (before, bytes_before) = self.last.get();
        let (ms, files) = (now.saturating_sub(before).as_millis(), open_files());
        let more = bytes.saturating_sub(bytes_before) / count.max(1);
        line(format_args!(
            "{ms:8} ms  {:5} MiB resident, +{more:5} B a keyspace  {files:5} open files  {step}",
            bytes >> 20
        ));
        self.last.set((self.env.clock.monotonic(), bytes));
    }
}

/// What the process holds in memory; 0 where the system does not say.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

fn line(text: Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
