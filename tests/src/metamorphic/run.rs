//! A script on one database: what is answered, in words that do not depend on how the database is made.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use pugdb::{
    AtHand, Change as Changed, Database, Durability, EntryOptions, Error, ErrorKind, Keyspace, LockScope,
    LockedKeys, Result, Scan, Snapshot, Timestamp, Watch,
};
use pugdb_core::engine::Direction;
use pugdb_sim::{ModelEntry, World};

use super::script::{Change, Entry, HELD, Look, Op, Pass, SPACES};
use super::{Set, Tally};
use crate::chance::Question;
use crate::model_setup::{DIRECTORY, Opened, state};

pub(super) const NAMES: [&str; SPACES] = ["canary-name a", "canary-name b", "canary-name c", "canary-name d"];
/// A keyspace with a log, whose commits make all before them durable.
const ANCHOR: &str = "anchor";
const HOUR: Duration = Duration::from_hours(1);

/// A database on its way through a script.
pub(super) struct Run<'a> {
    set: &'a Set,
    world: World,
    start: Timestamp,
    hour: u64,
    /// `None` while it is reopened, and for good when that fails.
    opened: Option<Opened>,
    handles: [Option<Keyspace>; SPACES],
    snapshots: [Option<(Snapshot, [Option<Keyspace>; SPACES])>; HELD],
    scans: [Option<Scan>; HELD],
    watches: [Option<Watch>; HELD],
    copies: usize,
    flushes: u64,
    compactions: u64,
    parts_beside: u64,
    slow_reads: u64,
    refusals: u64,
}

/// How a life ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Close,
    Drop,
    Kill,
    PowerCut,
}

impl<'a> Run<'a> {
    pub(super) fn new(set: &'a Set) -> Self {
        let world = World::new(set.world);
        let start = world.env().clock.now();
        let mut run = Self {
            set,
            world,
            start,
            hour: 0,
            opened: None,
            handles: Default::default(),
            snapshots: Default::default(),
            scans: Default::default(),
            watches: Default::default(),
            copies: 0,
            flushes: 0,
            compactions: 0,
            parts_beside: 0,
            slow_reads: 0,
            refusals: 0,
        };
        run.open().expect("a new database");
        run
    }

    /// Does one step, and says what came of it.
    pub(super) fn step(&mut self, op: &Op) -> String {
        if self.opened.is_none() {
            return "it could not be opened".into();
        }
        let answer = self.try_step(op).unwrap_or_else(|error| {
            self.refusals += 1;
            format!("error: {:?}", error.kind())
        });
        // What else goes on differs from world to world.
        self.world.maybe_step();
        answer
    }

    /// Closes the database, and says what came of that.
    pub(super) fn finish(mut self, tally: &mut Tally) -> String {
        let outcome = self.close(tally);
        tally.flushes += self.flushes;
        tally.compactions += self.compactions;
        tally.parts_beside += self.parts_beside;
        tally.slow_reads += self.slow_reads;
        tally.refusals += self.refusals;
        outcome.map_or_else(|error| format!("error: {:?}", error.kind()), done)
    }

    fn close(&mut self, tally: &mut Tally) -> Result<()> {
        if self.opened.is_none() {
            return Ok(());
        }
        tally.value_file_bytes += self.db().stats()?.value_bytes;
        self.end(End::Close)
    }

    fn db(&self) -> &Database {
        &self.opened.as_ref().expect("a step asks first").db
    }

    fn try_step(&mut self, op: &Op) -> Result<String> {
        match op {
            Op::Change(change) => self.change(change),
            Op::Batch(changes, wait) => self.batch(changes, *wait),
            Op::Update(space, key, entry, goes_on) => self.update(*space, key, entry.as_ref(), *goes_on),
            Op::Locked(keys, changes) => self.locked(keys, changes),
            Op::LockedAll(space, question, changes, swap) => {
                self.locked_all(*space, question, changes, *swap)
            }
            Op::Drop(space) => {
                self.handles[*space] = None;
                self.db().drop_keyspace(NAMES[*space]).map(|existed| existed.to_string())
            }
            Op::Swap(one, other) => {
                let outcome = self.db().swap_keyspaces(NAMES[*one], NAMES[*other]);
                if outcome.is_ok() {
                    self.handles.swap(*one, *other);
                }
                outcome.map(done)
            }
            Op::Alter(space, choice) => self.handle(*space)?.alter(self.set.altered(*choice)).map(done),
            Op::Ingest(space, files) => self.ingest(*space, files),
            Op::Get(space, key, how) => get(&self.handle(*space)?, key, *how),
            Op::MultiGet(space, keys) => {
                let found = self.handle(*space)?.multi_get(keys)?;
                Ok(list(found.iter().map(|value| show(value.as_deref()))))
            }
            Op::Scan(space, question, pass) => {
                let keyspace = self.handle(*space)?;
                walk(asked(keyspace.scan(question.range.clone()), question), *pass, usize::MAX)
            }
            Op::Count(space) => {
                let keyspace = self.handle(*space)?;
                let (count, counts) = (keyspace.count()?, keyspace.counts()?);
                keyspace.approximate_counts()?;
                keyspace.approximate(..)?;
                Ok(format!("{count} {counts:?}"))
            }
            Op::Names => Ok(format!("{:?}", self.db().keyspaces()?)),
            Op::State => shown_state(self.db()),
            Op::TakeSnapshot(place) => {
                self.snapshots[*place] = Some((self.db().snapshot()?, self.handles.clone()));
                Ok(done(()))
            }
            Op::ReadSnapshot(place, keys, question, pass) => {
                self.read_snapshot(*place, keys, question, *pass)
            }
            Op::DropSnapshot(place) => {
                self.snapshots[*place] = None;
                Ok(done(()))
            }
            Op::OpenScan(place, space, question) => self.open_scan(*place, *space, question),
            Op::ContinueScan(place, count) => match &mut self.scans[*place] {
                Some(scan) => entries(scan, *count),
                None => Ok("none".into()),
            },
            Op::Watch(place, space, key) => {
                self.watches[*place] = Some(self.handle(*space)?.watch(key)?);
                Ok(done(()))
            }
            Op::AskWatch(place) => Ok(format!("{:?}", self.watches[*place].as_ref().map(Watch::is_broken))),
            Op::Flush => self.db().flush().map(done),
            Op::Compact(space, range) => self.handle(*space)?.compact_range(range.clone()).map(done),
            Op::Checkpoint => self.checkpoint(),
            Op::Verify => Ok(format!("{:?}", self.db().verify()?.problems)),
            Op::Reopen => self.reopen(End::Close),
            Op::Forsake => self.reopen(End::Drop),
            Op::Kill => self.reopen(End::Kill),
            Op::Crash => self.reopen(End::PowerCut),
            Op::Hour(hour) => {
                self.pass_time(*hour);
                Ok(done(()))
            }
            Op::Rest => {
                self.world.run_until_idle();
                Ok(done(()))
            }
        }
    }

    /// The keyspace of this name, made if it is not there.
    fn handle(&mut self, space: usize) -> Result<Keyspace> {
        if let Some(keyspace) = &self.handles[space] {
            return Ok(keyspace.clone());
        }
        let keyspace = self.db().keyspace(NAMES[space])?;
        self.handles[space] = Some(keyspace.clone());
        Ok(keyspace)
    }

    fn options(&self, entry: &Entry) -> EntryOptions {
        let half = u64::try_from(HOUR.as_millis()).expect("an hour") / 2;
        let expires_at = entry.expires_in.map(|hour| self.start.plus_ms((2 * hour + 1) * half));
        EntryOptions { expires_at, meta: entry.meta, seal: None }
    }

    /// Until it is `hour` since the beginning.
    fn pass_time(&mut self, hour: u64) {
        let since = Duration::from_millis(self.world.env().clock.now().0 - self.start.0);
        let late = since.saturating_sub(HOUR * u32::try_from(self.hour).expect("a script has few hours"));
        assert!(
            late < HOUR / 2,
            "waits have taken {late:?} of a script's hour: what has expired depends on it"
        );
        let until = HOUR * u32::try_from(hour).expect("a script has few hours");
        self.world.advance(until.saturating_sub(since));
        self.hour = hour;
    }

    // Changes.

    fn change(&mut self, change: &Change) -> Result<String> {
        match change {
            Change::Put(space, key, entry) => {
                let keyspace = self.handle(*space)?;
                let options = self.options(entry);
                if options == EntryOptions::default() {
                    keyspace.put(key, &entry.value)
                } else {
                    keyspace.put_with(key, &entry.value, options)
                }
            }
            Change::Merge(space, key, operand) => self.handle(*space)?.merge(key, operand),
            Change::Delete(space, key) => self.handle(*space)?.delete(key),
            Change::DeleteRange(space, range) => self.handle(*space)?.delete_range(range.clone()),
            Change::Truncate(space) => self.handle(*space)?.truncate(),
        }
        .map(done)
    }

    fn batch(&mut self, changes: &[Change], wait: bool) -> Result<String> {
        let mut batch = self.db().batch();
        for change in changes {
            match change {
                Change::Put(space, key, entry) => {
                    batch.put_with(&self.handle(*space)?, key, &entry.value, self.options(entry));
                }
                Change::Merge(space, key, operand) => batch.merge(&self.handle(*space)?, key, operand),
                Change::Delete(space, key) => batch.delete(&self.handle(*space)?, key),
                Change::DeleteRange(space, range) => batch.delete_range(&self.handle(*space)?, range.clone()),
                Change::Truncate(space) => batch.truncate(&self.handle(*space)?),
            }
        }
        let length = batch.len();
        let ticket = batch.commit_ticket()?;
        if wait {
            ticket.wait()?;
        }
        Ok(length.to_string())
    }

    fn update(&mut self, space: usize, key: &[u8], entry: Option<&Entry>, goes_on: bool) -> Result<String> {
        let keyspace = self.handle(space)?;
        let change = match (entry, goes_on) {
            (Some(entry), true) => Ok(Changed::Put(entry.value.clone(), self.options(entry))),
            (None, true) => Ok(Changed::Delete),
            (Some(_), false) => Ok(Changed::Keep),
            (None, false) => Err(Error::conflict("the closure gives up")),
        };
        let mut seen = String::new();
        let outcome = keyspace.update(key, |old| {
            seen = show_entry(old);
            change.map(|change| (change, ()))
        });
        match outcome {
            Err(error) if !goes_on && error.kind() == ErrorKind::Conflict => Ok(format!("gave up at {seen}")),
            outcome => outcome.map(|()| seen),
        }
    }

    fn spaces_of(&mut self, changes: &[Change]) -> Result<BTreeMap<usize, Keyspace>> {
        let spaces = changes.iter().map(|change| match change {
            Change::Put(space, ..)
            | Change::Merge(space, ..)
            | Change::Delete(space, _)
            | Change::DeleteRange(space, _)
            | Change::Truncate(space) => *space,
        });
        spaces.map(|space| Ok((space, self.handle(space)?))).collect()
    }

    fn make(
        &self,
        locked: &mut LockedKeys,
        spaces: &BTreeMap<usize, Keyspace>,
        changes: &[Change],
    ) -> Result<()> {
        for change in changes {
            match change {
                Change::Put(space, key, entry) => {
                    locked.put_with(&spaces[space], key, &entry.value, self.options(entry))?;
                }
                Change::Delete(space, key) => locked.delete(&spaces[space], key)?,
                Change::Truncate(space) => locked.truncate(&spaces[space])?,
                Change::Merge(..) | Change::DeleteRange(..) => {
                    return Err(Error::internal("locked keys have neither ranges nor operands"));
                }
            }
        }
        Ok(())
    }

    fn locked(&mut self, keys: &[(usize, Vec<u8>)], changes: &[Change]) -> Result<String> {
        let spaces = self.spaces_of(changes)?;
        let scope: Vec<_> = keys.iter().map(|(space, key)| (spaces[space].clone(), key.as_slice())).collect();
        self.db().update_keys(LockScope::Keys(&scope), |locked| {
            let look = |locked: &LockedKeys| -> Result<String> {
                let found: Result<Vec<_>> =
                    scope.iter().map(|(space, key)| locked.get_entry(space, key)).collect();
                Ok(list(found?.iter().map(|entry| show_entry(entry.as_ref()))))
            };
            let before = look(locked)?;
            self.make(locked, &spaces, changes)?;
            Ok(format!("{before} then {}", look(locked)?))
        })
    }

    fn locked_all(
        &mut self,
        space: usize,
        question: &Question,
        changes: &[Change],
        swap: Option<(usize, usize)>,
    ) -> Result<String> {
        let (keyspace, spaces) = (self.handle(space)?, self.spaces_of(changes)?);
        let swapped = match swap {
            Some((one, other)) => Some((self.handle(one)?, self.handle(other)?)),
            None => None,
        };
        let seen = self.db().update_keys(LockScope::Everything, |locked| {
            self.make(locked, &spaces, changes)?;
            if let Some((one, other)) = &swapped {
                locked.swap_names(one, other)?;
            }
            let mut seen = String::new();
            for item in locked.scan(&keyspace, question.range.clone())? {
                let (key, entry) = item?;
                let _ = write!(seen, "{}={}, ", show(Some(&key)), show_entry(Some(&entry)));
            }
            Ok(seen)
        })?;
        if let Some((one, other)) = swap {
            self.handles.swap(one, other);
        }
        Ok(seen)
    }

    fn ingest(&mut self, space: usize, files: &[Vec<(Vec<u8>, Entry)>]) -> Result<String> {
        let keyspace = self.handle(space)?;
        let mut sorted = Vec::new();
        for entries in files {
            let mut writer = keyspace.sorted_writer()?;
            for (key, entry) in entries {
                writer.put_with(key, &entry.value, self.options(entry))?;
            }
            sorted.push(writer.finish()?);
        }
        keyspace.ingest(sorted).map(done)
    }

    // Snapshots and scans that are held.

    fn read_snapshot(
        &self,
        place: usize,
        keys: &[Vec<u8>],
        question: &Question,
        pass: Pass,
    ) -> Result<String> {
        let Some((snapshot, handles)) = &self.snapshots[place] else { return Ok("none".into()) };
        let mut seen = String::new();
        for keyspace in handles.iter().flatten() {
            for key in keys {
                let entry = snapshot.get_entry(keyspace, key)?;
                assert_eq!(snapshot.exists(keyspace, key)?, entry.is_some());
                if let AtHand::Yes(value) = snapshot.try_get(keyspace, key)? {
                    assert_eq!(value, snapshot.get(keyspace, key)?);
                }
                seen += &show_entry(entry.as_ref());
            }
            let found = snapshot.multi_get_entries(keyspace, keys)?;
            seen += &list(found.iter().map(|entry| show_entry(entry.as_ref())));
            let values = snapshot.multi_get(keyspace, keys)?;
            seen += &list(values.iter().map(|value| show(value.as_deref())));
            let scan = asked(snapshot.scan(keyspace, question.range.clone()), question);
            seen += &walk(scan, pass, usize::MAX)?;
        }
        Ok(seen)
    }

    /// Its first entry fixes what it sees.
    fn open_scan(&mut self, place: usize, space: usize, question: &Question) -> Result<String> {
        let keyspace = self.handle(space)?;
        let held = self.snapshots[place].as_ref();
        let held = held.and_then(|(snapshot, handles)| Some((snapshot, handles[space].as_ref()?)));
        let range = question.range.clone();
        let scan = match held {
            Some((snapshot, then)) => snapshot.scan(then, range),
            None => keyspace.scan(range),
        };
        let scan = self.scans[place].insert(asked(scan, question));
        entries(scan, 1)
    }

    // Lives.

    fn checkpoint(&mut self) -> Result<String> {
        self.copies += 1;
        let directory = format!("copy-{}", self.copies);
        self.db().checkpoint(&directory)?;
        let copy = self.set.open(&self.world, &directory)?;
        let state = shown_state(&copy.db)?;
        copy.db.close()?;
        Ok(state)
    }

    fn reopen(&mut self, end: End) -> Result<String> {
        self.end(end)?;
        self.open()?;
        shown_state(self.db())
    }

    fn end(&mut self, end: End) -> Result<()> {
        let stats = self.db().stats()?;
        self.flushes += stats.flushes;
        self.compactions += stats.compactions;
        self.parts_beside += stats.compaction_parts_beside;
        assert_eq!(stats.quarantined, 0);
        self.slow_reads +=
            self.opened.as_ref().and_then(|opened| opened.slow.as_ref()).map_or(0, |slow| slow.calls());
        if matches!(end, End::Kill | End::PowerCut) {
            if self.set.is_unlogged() {
                self.db().flush()?;
            }
            // All that was acknowledged is before it, and so it is durable.
            Set::logged(self.db(), ANCHOR)?.durability(Durability::Sync).put("anchor", "")?;
        }
        (self.handles, self.snapshots) = Default::default();
        (self.scans, self.watches) = Default::default();
        let opened = self.opened.take().expect("a step asks first");
        match end {
            End::Close => opened.db.close()?,
            End::Drop => {}
            End::Kill => self.world = self.world.kill(),
            End::PowerCut => self.world = self.world.power_cut(),
        }
        Ok(())
    }

    fn open(&mut self) -> Result<()> {
        let opened = self.opened.insert(self.set.open(&self.world, DIRECTORY)?);
        for (name, handle) in NAMES.iter().zip(&mut self.handles) {
            *handle = opened.db.existing_keyspace(name)?;
        }
        Set::logged(&opened.db, ANCHOR).map(drop)
    }
}

fn done((): ()) -> String {
    "done".into()
}

fn asked(scan: Scan, question: &Question) -> Scan {
    let scan = if question.direction == Direction::Reverse { scan.reverse() } else { scan };
    question.limit.into_iter().fold(scan, Scan::limit)
}

fn get(keyspace: &Keyspace, key: &[u8], how: Look) -> Result<String> {
    Ok(match how {
        Look::Value => show(keyspace.get(key)?.as_deref()),
        Look::Entry => show_entry(keyspace.get_entry(key)?.as_ref()),
        Look::Lent => keyspace.get_with(key, |value| show(Some(value)))?.unwrap_or_else(|| show(None)),
        Look::Exists => keyspace.exists(key)?.to_string(),
        Look::AtHand => match keyspace.try_get(key)? {
            AtHand::Yes(value) => show(value.as_deref()),
            AtHand::WouldBlock => show(keyspace.get(key)?.as_deref()),
        },
    })
}

/// Up to `count` of what a scan brings.
fn walk(mut scan: Scan, pass: Pass, count: usize) -> Result<String> {
    let mut seen = String::new();
    match pass {
        Pass::Entries => return entries(&mut scan, count),
        Pass::Lent => {
            while let Some((key, value)) = scan.next_ref()? {
                let _ = write!(seen, "{}={}, ", show(Some(key)), show(Some(value)));
            }
        }
        Pass::Keys => {
            for item in scan.keys_only() {
                let (key, value) = item?;
                let _ = write!(seen, "{}={}, ", show(Some(&key)), show(Some(&value)));
            }
        }
        Pass::Values => {
            for item in scan {
                let (key, value) = item?;
                let _ = write!(seen, "{}={}, ", show(Some(&key)), show(Some(&value)));
            }
        }
    }
    Ok(seen)
}

fn entries(scan: &mut Scan, count: usize) -> Result<String> {
    let mut seen = String::new();
    for _ in 0..count {
        let Some((key, entry)) = scan.next_entry()? else { break };
        let _ = write!(seen, "{}={}, ", show(Some(&key)), show_entry(Some(&entry)));
    }
    Ok(seen)
}

fn shown_state(db: &Database) -> Result<String> {
    let mut seen = String::new();
    for (name, entries) in state(db)? {
        let _ = write!(seen, "{name}: ");
        for (key, entry) in entries {
            let _ = write!(seen, "{}={}, ", show(Some(&key)), show_model(Some(&entry)));
        }
    }
    Ok(seen)
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

/// Short bytes themselves, long ones by their beginning, length and hash.
fn show(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else { return "absent".into() };
    if bytes.len() <= 20 {
        return bytes.escape_ascii().to_string();
    }
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("{}…{}:{:x}", bytes[..20].escape_ascii(), bytes.len(), hasher.finish())
}

fn show_entry(entry: Option<&pugdb::Entry>) -> String {
    show_model(entry.and_then(ModelEntry::of).as_ref())
}

fn show_model(entry: Option<&ModelEntry>) -> String {
    let Some(entry) = entry else { return "absent".into() };
    let expiry = entry.expires_at.map_or(0, |Timestamp(at)| at);
    format!("{} meta {} until {expiry}", show(Some(&entry.value)), entry.meta)
}
