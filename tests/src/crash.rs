//! The crash harness: runs a script of operations on a database in the simulated world, remembers what was attempted
//! and what was acknowledged, and checks what is left after a crash against the model.
//!
//! A script is text, a step a line:
//!
//! ```text
//! create users              make a keyspace
//! hash users 3              make one of three partitions by hash
//! ranges users c f          make one of three partitions, which begin at nothing, c and f
//! split users 1 d / merge users 0        change its partitions: at d, or in the middle if nothing is said
//! put users a 1             a durable put; `a=1*300` style repeats are written 1*300
//! os users b 2              a put that only the operating system has
//! delete users a            a durable delete
//! range users a c           a durable range delete: from a on, before c; without c all that follow
//! put users +a 1            puts an operand: 1 comes behind what is there; so in a batch, and in the keyspace without a log
//! batch users a 2; names x 9; users -b; range names a b
//! ticket users c 3          a commit whose durability nobody waits for yet
//! wait                      for all tickets
//! truncate users / drop users
//! scratch a 1               a put into the keyspace without a log, which is made if it is not there; scratch -a deletes,
//! scratch truncate          and this forgets all of it
//! scratch range a c         and this a range of it
//! flush / step / jobs / tick
//! close                     in good order, and open again
//! reopen                    without a close, and open again
//! ```

#![expect(clippy::panic, reason = "a harness fails by panics, as its tests do")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pugdb::keys::KeyFile;
use pugdb::{
    Builder, CommitTicket, Compression, Database, Durability, EngineKind, Error, ErrorKind, Keyspace,
    KeyspaceOptions, Logging, Partitioning, PrefixExtractor, Result,
};
use pugdb_core::coding::index;
use pugdb_core::engine::KeyRange;
use pugdb_sim::{Concatenate, Model, ModelEntry, ModelOp, ModelState, TestCipher, World, diff};

/// Where the database lies in the simulated world.
pub const DIR: &str = "/db";
/// Where the root key lies, with [`Dress::Encrypted`].
pub const KEY_FILE: &str = "/keys/root.key";

/// How the database under test is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dress {
    /// Nothing is sealed.
    Plain,
    /// Everything is sealed by the strict test cipher.
    Sealed,
    /// Everything is sealed with the database's own encryption.
    Encrypted,
}

/// Opens the database with sizes so small that everything happens.
///
/// # Errors
/// As [`Builder::open`].
pub fn open(world: &World, dress: Dress) -> Result<Database> {
    let env = world.env();
    let mut builder = builder(world.seed()).env(env.clone());
    builder = match dress {
        Dress::Plain => builder,
        Dress::Sealed => builder.cipher(Arc::new(TestCipher::new(7, Arc::clone(&env.random)))),
        Dress::Encrypted => builder.root_key(KeyFile::new(KEY_FILE)),
    };
    for name in ["users", "names", "places", "dates", SCRATCH] {
        builder =
            builder.merge_operator(name, Arc::new(Concatenate { combines: world.seed().is_multiple_of(2) }));
    }
    builder.open(DIR)
}

fn builder(seed: u64) -> Builder {
    Database::builder()
        .memory_bytes(1 << 20)
        .cache_bytes(64 << 10)
        .memtable_bytes(4 << 10)
        .log_segment_bytes(8 << 10)
        .table_files_max(2)
        .default_options(KeyspaceOptions {
            upper_compression: Some(Compression::Lz4),
            bottom_compression: Some(Compression::ZSTD),
            block_bytes: Some(1 << 10),
            separate_values: Some([8, 100, 0][index(seed % 3)]),
            prefix: Some([PrefixExtractor::Length(2), PrefixExtractor::UpTo(b'-')][index(seed % 2)]),
            ..KeyspaceOptions::default()
        })
}

/// A run of a script in one life of the machine.
pub struct Run {
    /// The world it runs in.
    pub world: World,
    dress: Dress,
    db: Option<Database>,
    tickets: Vec<(usize, CommitTicket)>,
    /// Everything that was attempted, a commit each.
    pub model: Model,
    /// The newest commit that must survive a power cut.
    pub synced: usize,
    /// The newest commit that must survive a kill.
    pub written: usize,
    /// Errors that were met, in order.
    pub errors: Vec<Error>,
    /// A commit whose log record could not be written: whether it is there shows after the next open.
    unknown: Option<Vec<ModelOp>>,
    scratch: Scratch,
    /// The keyspace whose partitions were changed last, and how many it may have.
    partitions: Option<(String, Vec<usize>)>,
}

/// The keyspace without a log, which the model has as an empty one.
const SCRATCH: &str = "scratch";

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// What it held after each of its commits.
#[derive(Clone)]
struct Scratch {
    history: Vec<Entries>,
    /// The newest of them that must survive.
    flushed: usize,
}

impl Run {
    /// Nothing has happened yet: not even the first open.
    pub fn new(world: World, dress: Dress) -> Self {
        Self {
            world,
            dress,
            db: None,
            tickets: Vec::new(),
            model: Model::default(),
            synced: 0,
            written: 0,
            errors: Vec::new(),
            unknown: None,
            scratch: Scratch { history: vec![Entries::new()], flushed: 0 },
            partitions: None,
        }
    }

    /// Runs the lines of a script until the machine stops. Errors are remembered; what a failed commit left visible is
    /// found out by reading.
    pub fn script(&mut self, script: &str) {
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if self.world.is_off() {
                break;
            }
            let mut outcome = self.line(line);
            if outcome.is_err() && line.starts_with("create") && !self.world.is_off() {
                // The rest of the script needs it.
                outcome = self.line(line);
            }
            if let Err(error) = outcome {
                assert_ne!(error.kind(), ErrorKind::Internal, "at `{line}`: {error}");
                self.errors.push(error);
            }
        }
    }

    /// The machine is off or the process is dead: nothing of the program is left.
    pub fn drop_handles(&mut self) {
        self.tickets.clear();
        self.db = None;
    }

    /// The open database.
    ///
    /// # Errors
    /// As [`open`].
    pub fn db(&mut self) -> Result<Database> {
        if let Some(db) = &self.db {
            return Ok(db.clone());
        }
        let db = open(&self.world, self.dress)?;
        if let Some(ops) = self.unknown.take() {
            let before = self.model.commits();
            if state(&db)? != self.model.state(before, db.now()) {
                self.model.commit(&ops);
            }
        }
        let scratch = self.scratch.found(&db, "opened again")?;
        self.scratch.history.truncate(scratch + 1);
        self.scratch.flushed = scratch;
        // Recovery has made what it found durable before it lets anybody in.
        self.synced = self.model.commits();
        self.written = self.synced;
        self.db = Some(db.clone());
        Ok(db)
    }

    fn line(&mut self, line: &str) -> Result<()> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            // A keyspace that is there is no commit.
            "create" if self.db()?.existing_keyspace(rest)?.is_some() => Ok(()),
            "create" => {
                self.change(&[ModelOp::CreateKeyspace(rest.to_owned())], |db| db.keyspace(rest).map(drop))
            }
            "hash" | "ranges" => self.partitioned(word, rest),
            "split" | "merge" => self.repartition(word, rest),
            // Nor is the end of one that is not.
            "drop" if self.db()?.existing_keyspace(rest)?.is_none() => Ok(()),
            "drop" => {
                self.partitions = None;
                self.change(&[ModelOp::DropKeyspace(rest.to_owned())], |db| db.drop_keyspace(rest).map(drop))
            }
            "truncate" => {
                self.change(&[ModelOp::Truncate(rest.to_owned())], |db| existing(db, rest)?.truncate())
            }
            "swap" => {
                self.partitions = None;
                let (one, other) = rest.split_once(' ').expect("two names");
                self.change(&[ModelOp::Swap(one.to_owned(), other.to_owned())], |db| {
                    db.swap_keyspaces(one, other)
                })
            }
            "put" | "delete" | "batch" => self.batch(rest, word == "delete", Some(Durability::Sync)),
            "range" => self.batch(line, false, Some(Durability::Sync)),
            "os" => self.batch(rest, false, Some(Durability::Os)),
            "ticket" => self.batch(rest, false, None),
            "wait" => self.wait(),
            "scratch" => self.scratch(rest),
            "flush" => {
                self.db()?.flush()?;
                self.scratch.flushed = self.scratch.history.len() - 1;
                Ok(())
            }
            "step" => {
                self.db()?;
                self.world.maybe_step();
                Ok(())
            }
            "jobs" => {
                self.db()?;
                self.world.run_until_idle();
                Ok(())
            }
            "tick" => {
                self.db()?;
                self.world.advance(Duration::from_millis(300));
                self.world.run_until_idle();
                Ok(())
            }
            "close" => {
                let closed = self.db()?.close();
                if closed.is_ok() {
                    self.scratch.flushed = self.scratch.history.len() - 1;
                }
                self.tickets.clear();
                self.db = None;
                self.db().and(closed)
            }
            "reopen" => {
                self.drop_handles();
                self.db().map(drop)
            }
            _ => panic!("no such step: {line}"),
        }
    }

    fn partitioned(&mut self, word: &str, text: &str) -> Result<()> {
        let (name, how) = text.split_once(' ').expect("a name, and how it is partitioned");
        if self.db()?.existing_keyspace(name)?.is_some() {
            return Ok(());
        }
        let partitioning = if word == "hash" {
            Partitioning::Hash { partitions: how.parse().expect("a count") }
        } else {
            Partitioning::Ranges { starts: how.split(' ').map(|start| start.as_bytes().to_vec()).collect() }
        };
        self.change(&[ModelOp::CreateKeyspace(name.to_owned())], |db| {
            db.partitioned_keyspace(name, &partitioning, KeyspaceOptions::default()).map(drop)
        })
    }

    /// Changes no entry, and waits until all is durable.
    fn repartition(&mut self, word: &str, text: &str) -> Result<()> {
        let db = self.db()?;
        let mut words = text.split(' ');
        let (name, number) = words.next().zip(words.next()).expect("a name and a number");
        let (keyspace, number) = (existing(&db, name)?, number.parse().expect("a number"));
        let at = words.next().map(str::as_bytes);
        if keyspace.engine() != EngineKind::Partitioned {
            // Nor what is partitioned.
            return Ok(());
        }
        let before = keyspace.partitions()?.len();
        let (outcome, after) = if word == "split" {
            (keyspace.split_partition(number, at, &mut |_| ()), before + 1)
        } else {
            (keyspace.merge_partitions(number, &mut |_| ()), before.saturating_sub(1))
        };
        let is_done = outcome.is_ok();
        if outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::Invalid) {
            // A random script does not know which there are.
            return Ok(());
        }
        let counts = if is_done { vec![after] } else { vec![before, after] };
        self.partitions = Some((name.to_owned(), counts));
        if is_done {
            self.written = self.model.commits();
            self.synced = self.written;
        }
        outcome
    }

    /// A commit that waits for its durability.
    fn change(&mut self, ops: &[ModelOp], commit: impl FnOnce(&Database) -> Result<()>) -> Result<()> {
        let db = self.db()?;
        let outcome = commit(&db);
        if outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            return outcome;
        }
        self.settle(ops, outcome.is_ok(), outcome.is_ok())?;
        outcome
    }

    fn batch(&mut self, text: &str, is_delete: bool, durability: Option<Durability>) -> Result<()> {
        let db = self.db()?;
        let mut batch = db.batch().durability(durability.unwrap_or(Durability::Sync));
        let mut ops = Vec::new();
        for part in text.split(';') {
            if let Some(name) = part.trim().strip_prefix("truncate ") {
                batch.truncate(&existing(&db, name)?);
                ops.push(ModelOp::Truncate(name.to_owned()));
                continue;
            }
            if let Some(words) = part.trim().strip_prefix("range ") {
                let (keyspace, ends) = words.split_once(' ').expect("a keyspace and where the range begins");
                let range = match ends.split_once(' ') {
                    Some((start, end)) => KeyRange::from(start..end),
                    None => KeyRange::from(ends..),
                };
                batch.delete_range(&existing(&db, keyspace)?, range.clone());
                ops.push(ModelOp::DeleteRange { keyspace: keyspace.to_owned(), range });
                continue;
            }
            let mut words = part.split_whitespace();
            let (Some(keyspace), Some(key)) = (words.next(), words.next()) else {
                panic!("no such operation: {part}")
            };
            let value = words.next();
            let handle = existing(&db, keyspace)?;
            let (name, is_put) = (keyspace.to_owned(), !is_delete && value.is_some());
            if let Some(key) = key.strip_prefix('+') {
                let operand = repeated(value.unwrap_or_default());
                batch.merge(&handle, key, &operand);
                ops.push(ModelOp::Merge { keyspace: name, key: key.as_bytes().to_vec(), operand });
            } else if is_put {
                let value = repeated(value.unwrap_or_default());
                batch.put(&handle, key, &value);
                let entry = ModelEntry { value, expires_at: None, meta: 0 };
                ops.push(ModelOp::Put { keyspace: name, key: key.as_bytes().to_vec(), entry });
            } else {
                let key = key.trim_start_matches('-');
                batch.delete(&handle, key);
                ops.push(ModelOp::Delete { keyspace: name, key: key.as_bytes().to_vec() });
            }
        }
        // Only ranges without keys: nothing is written, and what came before is made no more durable.
        let is_empty = batch.is_empty();
        let ticket = batch.commit_ticket();
        match (ticket, durability) {
            (Ok(ticket), None) => {
                self.settle(&ops, true, false)?;
                if !is_empty {
                    self.tickets.push((self.model.commits(), ticket));
                }
                Ok(())
            }
            (Ok(ticket), Some(level)) => {
                let outcome = ticket.wait();
                self.settle(
                    &ops,
                    outcome.is_ok(),
                    outcome.is_ok() && level == Durability::Sync && !is_empty,
                )?;
                outcome
            }
            (Err(error), _) => {
                self.settle(&ops, false, false)?;
                Err(error)
            }
        }
    }

    /// A change of the keyspace without a log.
    fn scratch(&mut self, text: &str) -> Result<()> {
        if self.db()?.existing_keyspace(SCRATCH)?.is_none() {
            let options = KeyspaceOptions { logging: Some(Logging::Unlogged), ..KeyspaceOptions::default() };
            let make = |db: &Database| db.keyspace_with(SCRATCH, options).map(drop);
            self.change(&[ModelOp::CreateKeyspace(SCRATCH.to_owned())], make)?;
        }
        let scratch = existing(&self.db()?, SCRATCH)?;
        let mut after = self.scratch.history.last().cloned().unwrap_or_default();
        let outcome = match text.split_once(' ') {
            Some(("range", ends)) => {
                let (start, end) = ends.split_once(' ').expect("where the range begins and where it ends");
                after.retain(|key, _| !(start.as_bytes()..end.as_bytes()).contains(&&**key));
                scratch.delete_range(start..end)
            }
            Some((key, operand)) if key.starts_with('+') => {
                let (key, operand) = (&key[1..], repeated(operand));
                after.entry(key.as_bytes().to_vec()).or_default().extend_from_slice(&operand);
                scratch.merge(key, operand)
            }
            Some((key, value)) => {
                let value = repeated(value);
                after.insert(key.as_bytes().to_vec(), value.clone());
                scratch.put(key, value)
            }
            None if text == "truncate" => {
                after.clear();
                scratch.truncate()
            }
            None => {
                let key = text.trim_start_matches('-');
                after.remove(key.as_bytes());
                scratch.delete(key)
            }
        };
        // No disk is asked: it is there or it is not.
        if outcome.is_ok() {
            self.scratch.history.push(after);
        }
        outcome
    }

    fn wait(&mut self) -> Result<()> {
        for (commit, ticket) in std::mem::take(&mut self.tickets) {
            ticket.wait()?;
            self.synced = self.synced.max(commit);
        }
        Ok(())
    }

    /// Notes a commit. One that failed may have happened or not: whoever can still read looks.
    fn settle(&mut self, ops: &[ModelOp], is_applied: bool, is_synced: bool) -> Result<()> {
        let before = self.model.commits();
        self.model.commit(ops);
        if is_applied {
            self.written = self.model.commits();
            if is_synced {
                self.synced = self.written;
            }
            return Ok(());
        }
        if self.world.is_off() {
            return Ok(());
        }
        let db = self.db()?;
        let now = db.now();
        let state = state(&db)?;
        if state == self.model.state(before, now) {
            self.model.truncate_to(before);
            // Refused for good: the first one may still be found on the disk.
            if db.failure().is_some() {
                self.unknown.get_or_insert_with(|| ops.to_vec());
            }
        } else {
            let expected = self.model.state(self.model.commits(), now);
            assert_eq!(state, expected, "a failed commit left half of it: {}", diff(&state, &expected));
        }
        Ok(())
    }

    /// Opens the database in `world`, which the crash has left, and checks that it holds a prefix of the commits that
    /// reaches at least to `from`. Then writes more, cuts the power, and checks again.
    pub fn check_after(&mut self, world: &World, from: usize, what: &str) {
        let commits = self.model.commits();
        if let Some(ops) = self.unknown.clone() {
            self.model.commit(&ops);
        }
        self.check_prefix(world, from, what);
        self.model.truncate_to(commits);
    }

    fn check_prefix(&self, world: &World, from: usize, what: &str) {
        let place = || format!("{what}, fate {:?}, commits {from}..={} ", world.fate(), self.model.commits());
        let db =
            open(world, self.dress).unwrap_or_else(|error| panic!("{}: does not open: {error:?}", place()));
        let commit = self.check_state(&db, from, &place());
        // Whether it is there `check_state` has said: one whose making nobody acknowledged may not be.
        if let Some((name, counts)) = &self.partitions
            && let Some(keyspace) = db.existing_keyspace(name).expect("the disk is well")
        {
            let count = keyspace.partitions().expect("it has some").len();
            assert!(counts.contains(&count), "{}: {count} partitions, which is none of {counts:?}", place());
        }
        let scratch = self.scratch.found(&db, &place()).expect("it reads");
        let report = db.verify().expect("verify reads the disk");
        assert_eq!(report.problems, Vec::<String>::new(), "{}", place());

        // What comes after the crash must be seen, and must survive the next one: seqnos went on, the cut is durable.
        let mut model = self.model.clone();
        model.truncate_to(commit);
        let users = db.keyspace("users").expect("the disk is well");
        model.commit(&[ModelOp::CreateKeyspace("users".to_owned())]);
        for key in ["a", "b", "new"] {
            users.put(key, b"after").expect("the disk is well");
            let entry = ModelEntry { value: b"after".to_vec(), expires_at: None, meta: 0 };
            model.commit(&[ModelOp::Put { keyspace: "users".to_owned(), key: key.into(), entry }]);
        }
        // The power goes first: a drop would close the database in good order.
        let again = world.power_cut();
        drop((users, db));
        let db = open(&again, self.dress)
            .unwrap_or_else(|error| panic!("{}; then {:?}: does not open: {error:?}", place(), again.fate()));
        let (state, expected) = (state(&db).expect("it reads"), model.state(model.commits(), db.now()));
        assert_eq!(state, expected, "{}; then {:?}: {}", place(), again.fate(), diff(&state, &expected));
        let kept = Scratch { history: vec![self.scratch.history[scratch].clone()], flushed: 0 };
        kept.found(&db, &place()).expect("it reads");
    }

    /// The commit up to which the database holds everything.
    fn check_state(&self, db: &Database, from: usize, place: &str) -> usize {
        let state = state(db).unwrap_or_else(|error| panic!("{place}: does not read: {error:?}"));
        let now = db.now();
        let found = self.model.matching_prefix(&state, from, self.model.commits(), now);
        found.unwrap_or_else(|| {
            let wanted = self.model.state(from, now);
            panic!(
                "{place}: no prefix; against what was acknowledged: {}; recovery: {}",
                diff(&state, &wanted),
                db.recovery_report()
            )
        })
    }
}

impl Scratch {
    /// After which of its commits it was as it is in `db`: the last one that fits, not before what must survive.
    fn found(&self, db: &Database, place: &str) -> Result<usize> {
        let mut entries = Entries::new();
        if let Some(keyspace) = db.existing_keyspace(SCRATCH)? {
            for entry in keyspace.scan(..) {
                let (key, value) = entry?;
                entries.insert(key.to_vec(), value.to_vec());
            }
        }
        let newest = self.history.iter().rposition(|state| *state == entries);
        let newest = newest.filter(|newest| *newest >= self.flushed);
        Ok(newest.unwrap_or_else(|| {
            let told = |state: &Entries| -> Vec<(String, usize, Option<u8>)> {
                let short = |(key, value): (&Vec<u8>, &Vec<u8>)| {
                    (String::from_utf8_lossy(key).into_owned(), value.len(), value.first().copied())
                };
                state.iter().map(short).collect()
            };
            let wanted: Vec<_> = self.history[self.flushed..].iter().map(told).collect();
            panic!(
                "{place}: the keyspace without a log holds {:?}, which is none of {wanted:?}",
                told(&entries)
            )
        }))
    }
}

fn existing(db: &Database, name: &str) -> Result<Keyspace> {
    db.existing_keyspace(name)?.ok_or_else(|| Error::not_found("no such keyspace"))
}

/// `ab*3` is `ababab`.
fn repeated(text: &str) -> Vec<u8> {
    match text.split_once('*') {
        Some((part, count)) => part.repeat(count.parse().expect("a count")).into_bytes(),
        None => text.as_bytes().to_vec(),
    }
}

/// Everything the database holds.
///
/// # Errors
/// What reading says.
pub fn state(db: &Database) -> Result<ModelState> {
    let mut state = ModelState::new();
    let snapshot = db.snapshot()?;
    for name in db.keyspaces()? {
        let keyspace = existing(db, &name)?;
        let mut entries = BTreeMap::new();
        if name == SCRATCH {
            state.insert(name, entries);
            continue;
        }
        let mut scan = snapshot.scan(&keyspace, ..);
        while let Some((key, entry)) = scan.next_entry()? {
            let kept =
                ModelEntry { value: entry.value.to_vec(), expires_at: entry.expires_at, meta: entry.meta };
            entries.insert(key.to_vec(), kept);
        }
        state.insert(name, entries);
    }
    Ok(state)
}
