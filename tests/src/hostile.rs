//! What the hostile tests share: a small database with something of everything in it, and the oracle of its reads.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pugdb::keys::KeyFile;
use pugdb::{Builder, Change, Database, EntryOptions, Error, ErrorKind, Keyspace, Result};
use pugdb_sim::{TestCipher, World};

/// Where the database lies in every world.
pub const DIR: &str = "db";
/// Where the root key lies, with [`Seal::Keys`].
pub const KEY_FILE: &str = "keys/root.key";
/// Is in every key, value and name: no message may show it.
pub const CANARY: &str = "c4n4ry";
/// Small, so that a few commits fill several.
pub const SEGMENT_BYTES: u64 = 4096;
/// An idle log has its mark after this time.
pub const MARK_TIME: Duration = Duration::from_millis(20);

/// What a reader must see: by keyspace, then by key.
pub type State = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

/// What seals the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seal {
    /// Nothing.
    Plain,
    /// The strict test cipher.
    Cipher,
    /// The database's own encryption.
    Keys,
}

/// How the database's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// `close`: everything is in tables, the log is gone.
    Closed,
    /// The last handle was dropped: a clean end, and the log is still needed.
    Dropped,
    /// Killed after the mark of the durable position was written.
    KilledWithMark,
    /// Killed before it was.
    KilledAtOnce,
}

/// The bytes that one commit put into the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The segment.
    pub file: PathBuf,
    /// The first byte.
    pub start: u64,
    /// Behind the last byte.
    pub end: u64,
}

/// A key, as all keys of these tests are.
pub fn key(name: &str) -> Vec<u8> {
    format!("{CANARY}/{name}").into_bytes()
}

/// A value of `bytes` bytes that says whose it is.
pub fn value(owner: &str, bytes: usize) -> Vec<u8> {
    let text = format!("{CANARY} {owner} ");
    text.bytes().cycle().take(bytes.max(text.len())).collect()
}

/// A keyspace's name.
pub fn name(name: &str) -> String {
    format!("{CANARY}-{name}")
}

/// Small settings in `world`.
pub fn builder(world: &World, seal: Seal) -> Builder {
    let env = world.env();
    let builder = Database::builder().memory_bytes(1 << 20).log_segment_bytes(SEGMENT_BYTES);
    match seal {
        Seal::Plain => builder.env(env),
        Seal::Cipher => builder.cipher(Arc::new(TestCipher::new(7, Arc::clone(&env.random)))).env(env),
        Seal::Keys => builder.root_key(KeyFile::new(KEY_FILE)).env(env),
    }
}

/// Opens the database of `world`.
///
/// # Errors
/// As [`Builder::open`].
pub fn open(world: &World, seal: Seal) -> Result<Database> {
    builder(world, seal).open(DIR)
}

/// Holds a message against the rules for all of them: one sentence, nothing of the user's, no bug. Returns it.
///
/// # Panics
/// When it breaks one.
pub fn decent(error: &Error) -> String {
    let text = error.to_string();
    assert_ne!(error.kind(), ErrorKind::Internal, "{text}");
    shows_no_user_bytes(&text);
    shows_no_user_bytes(&format!("{error:?}"));
    assert!(!text.contains('\n') && (10..400).contains(&text.len()), "one clear sentence: {text}");
    text
}

/// # Panics
/// When `text` holds something of the user's.
pub fn shows_no_user_bytes(text: &str) {
    assert!(!text.to_lowercase().contains(CANARY), "the user's bytes are shown: {text}");
    let hex = CANARY.bytes().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    assert!(!text.to_lowercase().contains(&hex), "the user's bytes are shown in hexadecimal: {text}");
    let list = format!("{:?}", CANARY.as_bytes());
    assert!(!text.contains(list.trim_matches(['[', ']'])), "the user's bytes are shown as a list: {text}");
}

/// A database whose process has ended, and everything that was acknowledged before.
pub struct Fixture {
    world: World,
    seal: Seal,
    /// What a reader saw after each commit; the first is the empty beginning.
    pub states: Vec<State>,
    /// Where each commit lies in the log: the first one made `states[1]`.
    pub records: Vec<Record>,
}

impl Fixture {
    /// Writes the database in a world of its own: keyspaces made, dropped and emptied, tables with several versions of a
    /// key, one table of several blocks, several log segments, batches over two keyspaces.
    pub fn new(seed: u64, seal: Seal, ending: Ending) -> Self {
        let world = World::new(seed);
        let author = Author::new(&world, seal);
        author.write_story();
        let Author { db, states, records, .. } = author;
        if ending == Ending::KilledWithMark {
            world.advance(MARK_TIME);
            world.run_until_idle();
        }
        if ending == Ending::Closed {
            db.close().expect("the simulated disk is well");
        }
        if matches!(ending, Ending::KilledWithMark | Ending::KilledAtOnce) {
            // Dropping a handle of a killed process changes nothing on the disk it leaves behind.
            let after = world.kill();
            drop(db);
            return Self { world: after, seal, states: states.into_inner(), records: records.into_inner() };
        }
        drop(db);
        Self { world: world.kill(), seal, states: states.into_inner(), records: records.into_inner() }
    }

    /// The disk as the process left it: a copy to do harm to.
    pub fn copy(&self) -> World {
        self.world.kill()
    }

    /// Opens the database of a copy.
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn open(&self, copy: &World) -> Result<Database> {
        open(copy, self.seal)
    }

    /// Everything that was acknowledged.
    pub fn state(&self) -> &State {
        self.states.last().expect("there is the empty beginning")
    }

    /// The database's files, but for the lock, with their lengths.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        self.world.files().into_iter().filter(|(path, _)| !path.ends_with("LOCK")).collect()
    }

    /// The files whose path contains `part`.
    pub fn files_of(&self, part: &str) -> Vec<(PathBuf, u64)> {
        let mut files = self.files();
        files.retain(|(path, _)| path.to_string_lossy().contains(part));
        files
    }
}

/// Writes a database and keeps account of it.
pub struct Author {
    world: World,
    db: Database,
    states: RefCell<Vec<State>>,
    records: RefCell<Vec<Record>>,
}

impl Author {
    /// A new database in `world`.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new(world: &World, seal: Seal) -> Self {
        let db = open(world, seal).expect("the simulated disk is well");
        let (states, records) = (RefCell::new(vec![State::new()]), RefCell::default());
        Self { world: world.clone(), db, states, records }
    }

    /// The database.
    pub fn db(&self) -> &Database {
        &self.db
    }

    /// What a reader must see now.
    pub fn state(&self) -> State {
        self.states.borrow().last().cloned().unwrap_or_default()
    }

    /// One commit, done to the database and noted in the state.
    fn commit<R>(&self, act: impl FnOnce(&Database) -> Result<R>, note: impl FnOnce(&mut State)) -> R {
        self.world.keep_trace(true);
        let result = act(&self.db).expect("the simulated disk is well");
        self.records.borrow_mut().extend(self.world.trace().iter().find_map(|line| log_write(line)));
        self.world.keep_trace(false);
        let mut state = self.state();
        note(&mut state);
        self.states.borrow_mut().push(state);
        assert_eq!(self.records.borrow().len() + 1, self.states.borrow().len(), "a commit has one record");
        result
    }

    /// Makes a keyspace.
    pub fn create(&self, space: &str) -> Keyspace {
        let name = name(space);
        self.commit(|db| db.keyspace(&name), |state| drop(state.insert(name.clone(), BTreeMap::new())))
    }

    /// Sets a key.
    pub fn put(&self, space: &Keyspace, name: &str, bytes: usize) {
        let (key, value) = (key(name), value(name, bytes));
        let note = |state: &mut State| drop(entries(state, space).insert(key.clone(), value.clone()));
        self.commit(|_| space.put(&key, &value), note);
    }

    fn delete(&self, space: &Keyspace, name: &str) {
        let key = key(name);
        self.commit(|_| space.delete(&key), |state| drop(entries(state, space).remove(&key)));
    }

    fn flush(&self) {
        self.db.flush().expect("the simulated disk is well");
    }

    fn write_story(&self) {
        let (alpha, beta) = (self.create("alpha"), self.create("beta"));
        for number in 0..6 {
            self.put(&alpha, &format!("old {number}"), 40);
        }
        for number in 0..3 {
            self.put(&beta, &format!("large {number}"), 6000);
        }
        let doomed = self.create("doomed");
        self.put(&doomed, "lost", 20);
        self.flush();

        self.put(&alpha, "old 0", 50);
        self.delete(&alpha, "old 1");
        self.put(&alpha, "new", 30);
        let emptied = self.create("emptied");
        self.put(&emptied, "before", 30);
        self.flush();

        self.commit(|db| db.drop_keyspace(&doomed.name()), |state| drop(state.remove(&*doomed.name())));
        self.commit(|_| emptied.truncate(), |state| entries(state, &emptied).clear());
        self.put(&emptied, "after", 30);
        let gamma = self.create("gamma");
        self.delete(&alpha, "old 2");
        self.batch_over(&alpha, &gamma);
        let options = EntryOptions { meta: 9, ..EntryOptions::default() };
        let (counter, four) = (key("counter"), value("four", 4));
        self.commit(
            |_| gamma.update(&counter, |_| Ok((Change::Put(four.clone(), options), ()))),
            |state| drop(entries(state, &gamma).insert(counter.clone(), four.clone())),
        );
        // From here on only the log knows: no edit of the manifest comes after.
        self.world.run_until_idle();
        for number in 0..10 {
            self.put(&gamma, &format!("recent {number}"), 400);
        }
        self.put(&alpha, "old 3", 60);
        self.put(&gamma, "last", 70);
    }

    fn batch_over(&self, alpha: &Keyspace, gamma: &Keyspace) {
        let (both, gone) = (key("both"), key("old 4"));
        let (left, right) = (value("left", 100), value("right", 90));
        let act = |db: &Database| {
            let mut batch = db.batch();
            batch.put(alpha, &both, &left);
            batch.put(gamma, &both, &right);
            batch.delete(alpha, &gone);
            batch.commit()
        };
        self.commit(act, |state| {
            entries(state, alpha).insert(both.clone(), left.clone());
            entries(state, alpha).remove(&gone);
            entries(state, gamma).insert(both.clone(), right.clone());
        });
    }
}

fn entries<'a>(state: &'a mut State, space: &Keyspace) -> &'a mut BTreeMap<Vec<u8>, Vec<u8>> {
    state.get_mut(&*space.name()).expect("the keyspace was created")
}

/// Reads a trace line as `17 write db/log/0-0000000001.log 96+80`; the header at the front is no record.
fn log_write(line: &str) -> Option<Record> {
    let mut words = line.split(' ').skip(1);
    let (kind, path, range) = (words.next()?, words.next()?, words.next()?);
    let (start, length) = range.split_once('+')?;
    let (start, length): (u64, u64) = (start.parse().ok()?, length.parse().ok()?);
    let is_record = kind == "write" && path.contains("/log/") && start > 0;
    is_record.then(|| Record { file: path.into(), start, end: start + length })
}

/// Reads everything in every way and returns how many reads were `Corrupt`. All others are right.
///
/// # Panics
/// With a recipe, when an answer is wrong or an error of another kind.
pub fn check_reads(db: &Database, state: &State, what: &dyn std::fmt::Debug) -> usize {
    let names = db.keyspaces().expect("the database is open");
    assert!(names.iter().eq(state.keys()), "other keyspaces after {what:?}");
    let mut corrupt = 0;
    let mut failed = |error: &Error| {
        assert_eq!(error.kind(), ErrorKind::Corrupt, "after {what:?}: {}", decent(error));
        corrupt += 1;
    };
    for (name, entries) in state {
        let space = db.keyspace(name).expect("it exists");
        for (key, value) in entries {
            match space.get(key) {
                Ok(found) => assert!(found.as_deref() == Some(value), "a wrong value after {what:?}"),
                Err(error) => failed(&error),
            }
        }
        for absent in ["before", "lost", "old 1", "old 2", "old 4", "zz"].map(key) {
            match space.get(&absent) {
                Ok(found) => {
                    assert!(found.as_deref() == entries.get(&absent).map(Vec::as_slice), "after {what:?}");
                }
                Err(error) => failed(&error),
            }
        }
        match space.multi_get(entries.keys()) {
            Ok(found) => {
                let right = found.iter().zip(entries.values()).all(|(a, b)| a.as_deref() == Some(b));
                assert!(right && found.len() == entries.len(), "wrong values after {what:?}");
            }
            Err(error) => failed(&error),
        }
        for reverse in [false, true] {
            let scan = if reverse { space.scan(..).reverse() } else { space.scan(..) };
            let mut expected: Vec<_> = entries.iter().collect();
            if reverse {
                expected.reverse();
            }
            let mut expected = expected.into_iter();
            let mut is_whole = true;
            for entry in scan {
                match entry {
                    Ok((key, value)) => {
                        let right = expected.next().is_some_and(|(k, v)| *key == **k && *value == **v);
                        assert!(right, "a wrong entry in a scan after {what:?}");
                    }
                    Err(error) => {
                        failed(&error);
                        is_whole = false;
                    }
                }
            }
            assert!(!is_whole || expected.next().is_none(), "a scan ends too early after {what:?}");
        }
    }
    corrupt
}

/// Everything that `db` holds.
///
/// # Errors
/// The first error of a read.
pub fn read_all(db: &Database) -> Result<State> {
    let mut state = State::new();
    for name in db.keyspaces()? {
        let mut entries = BTreeMap::new();
        for entry in db.keyspace(&name)?.scan(..) {
            let (key, value) = entry?;
            entries.insert(key.to_vec(), value.to_vec());
        }
        state.insert(name, entries);
    }
    Ok(state)
}
