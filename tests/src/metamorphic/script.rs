//! What is asked and changed: drawn from a seed before any database is there, so that it is the same for all.

use pugdb_core::engine::KeyRange;

use crate::chance::{Chance, Question};

/// How many keyspaces there are names for.
pub(super) const SPACES: usize = 4;
/// How many snapshots, scans and watches are held at a time, of each.
pub(super) const HELD: usize = 4;
/// Everything is compared after so many steps.
const STATE_EVERY: usize = 100;

/// A put: value, user's byte, and the hour in whose middle it expires. Hours, because a database that is slower than
/// another one has a clock that is a little ahead: all have the same hour.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The value.
    pub(super) value: Vec<u8>,
    /// The user's byte.
    pub(super) meta: u8,
    /// The hour since the beginning.
    pub(super) expires_in: Option<u64>,
}

/// A change to one keyspace.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// A key gets a value.
    Put(usize, Vec<u8>, Entry),
    /// It gets an operand.
    Merge(usize, Vec<u8>, Vec<u8>),
    /// It loses it.
    Delete(usize, Vec<u8>),
    /// So do all in a range.
    DeleteRange(usize, KeyRange),
    /// So do all.
    Truncate(usize),
}

/// How a key is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) enum Look {
    /// `get`
    Value,
    /// `get_entry`
    Entry,
    /// `get_with`
    Lent,
    /// `exists`
    Exists,
    /// `try_get`, and `get` when it would have had to wait
    AtHand,
}

/// How a scan is walked through.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pass {
    /// `next_entry`
    Entries,
    /// `next_ref`
    Lent,
    /// `keys_only`
    Keys,
    /// As an iterator
    Values,
}

/// A step. Numbers are those of keyspaces, or of places for what is held.
#[derive(Clone, Debug)]
pub(super) enum Op {
    /// A change by its own call.
    Change(Change),
    /// Changes in a batch; whether the caller waits.
    Batch(Vec<Change>, bool),
    /// A closure that puts, deletes (`None`), or with `false` keeps or fails.
    Update(usize, Vec<u8>, Option<Entry>, bool),
    /// Several keys locked, looked at, changed.
    Locked(Vec<(usize, Vec<u8>)>, Vec<Change>),
    /// Everything locked: scanned, changed, two names exchanged.
    LockedAll(usize, Question, Vec<Change>, Option<(usize, usize)>),
    /// A keyspace goes.
    Drop(usize),
    /// Two exchange their names.
    Swap(usize, usize),
    /// A keyspace gets other options, each set's own.
    Alter(usize, usize),
    /// Sorted files come in.
    Ingest(usize, Vec<Vec<(Vec<u8>, Entry)>>),
    /// One key.
    Get(usize, Vec<u8>, Look),
    /// Several.
    MultiGet(usize, Vec<Vec<u8>>),
    /// A range.
    Scan(usize, Question, Pass),
    /// How many keys there are.
    Count(usize),
    /// Which keyspaces.
    Names,
    /// Everything.
    State,
    /// A snapshot is taken into a place.
    TakeSnapshot(usize),
    /// One is read: keys and a range of each keyspace of its time.
    ReadSnapshot(usize, Vec<Vec<u8>>, Question, Pass),
    /// One is dropped.
    DropSnapshot(usize),
    /// A scan is begun into a place: of the present, or of the snapshot of the same place.
    OpenScan(usize, usize, Question),
    /// One goes on so far.
    ContinueScan(usize, usize),
    /// A watch over a key.
    Watch(usize, usize, Vec<u8>),
    /// Has it seen something?
    AskWatch(usize),
    /// Memtables become tables.
    Flush,
    /// A range is compacted.
    Compact(usize, KeyRange),
    /// A copy is made, opened and read.
    Checkpoint,
    /// Every byte is read.
    Verify,
    /// The database is closed in good order, and opened.
    Reopen,
    /// All handles are dropped without a word.
    Forsake,
    /// The process is killed.
    Kill,
    /// The power goes. What was acknowledged before was durable.
    Crash,
    /// It is this hour since the beginning.
    Hour(u64),
    /// Jobs run until none wants to.
    Rest,
}

/// A script.
pub(super) struct Script {
    /// What it was drawn from.
    pub(super) seed: u64,
    /// No commit is over two keyspaces: so keyspaces without a log give the same answers.
    pub(super) is_apart: bool,
    /// The steps.
    pub(super) ops: Vec<Op>,
}

impl Script {
    /// The script of this seed.
    pub(super) fn draw(seed: u64, steps: usize) -> Self {
        let mut draw = Draw { chance: Chance::new(seed), is_apart: seed % 2 == 1, hour: 0 };
        let mut ops: Vec<Op> = Vec::with_capacity(steps);
        while ops.len() < steps {
            let op = if ops.len() % STATE_EVERY == STATE_EVERY - 1 { Op::State } else { draw.op() };
            ops.push(op);
        }
        Self { seed, is_apart: draw.is_apart, ops }
    }
}

struct Draw {
    chance: Chance,
    is_apart: bool,
    hour: u64,
}

impl Draw {
    fn op(&mut self) -> Op {
        let (space, place) = (self.space(), self.below(HELD));
        match self.below(1000) {
            0..100 => Op::Change(self.put(space)),
            100..130 => Op::Change(self.merge(space)),
            130..170 => Op::Change(Change::Delete(space, self.chance.key())),
            170..195 => Op::Change(Change::DeleteRange(space, self.chance.short_range())),
            195..201 => Op::Change(Change::Truncate(space)),
            201..330 => {
                let many = if self.below(20) == 0 { 120 } else { 9 };
                Op::Batch(self.changes(many, true), self.chance.random.bool())
            }
            330..370 => {
                let entry = self.chance.random.bool().then(|| self.entry());
                Op::Update(space, self.chance.key(), entry, self.below(4) > 0)
            }
            370..400 => self.locked(),
            400..415 => {
                let changes = self.changes(6, false);
                let swap = (!self.is_apart && self.below(4) == 0).then(|| (space, self.space()));
                Op::LockedAll(space, self.chance.question(), changes, swap)
            }
            415..420 => Op::Drop(space),
            420..426 => Op::Swap(space, self.space()),
            426..434 => Op::Alter(space, self.below(1000)),
            434..446 => self.ingest(space),
            446..570 => Op::Get(space, self.chance.key(), self.look()),
            570..610 => {
                let count = self.below(20);
                Op::MultiGet(space, (0..count).map(|_| self.chance.key()).collect())
            }
            610..700 => Op::Scan(space, self.chance.question(), self.pass()),
            700..708 => Op::Count(space),
            708..710 => Op::Names,
            710..735 => Op::TakeSnapshot(place),
            735..790 => {
                let keys = (0..6).map(|_| self.chance.key()).collect();
                Op::ReadSnapshot(place, keys, self.chance.question(), self.pass())
            }
            790..800 => Op::DropSnapshot(place),
            800..820 => Op::OpenScan(place, space, self.chance.question()),
            820..850 => Op::ContinueScan(place, 1 + self.below(40)),
            850..858 => Op::Watch(place, space, self.chance.key()),
            858..874 => Op::AskWatch(place),
            874..884 => Op::Flush,
            884..892 => Op::Compact(space, self.chance.question().range),
            892..895 => Op::Checkpoint,
            895..898 => Op::Verify,
            898..903 => Op::Reopen,
            903..905 => Op::Forsake,
            905..911 => Op::Kill,
            911..918 => Op::Crash,
            918..960 => {
                self.hour += 1 + self.chance.random.u64(..3);
                Op::Hour(self.hour)
            }
            _ => Op::Rest,
        }
    }

    fn below(&mut self, end: usize) -> usize {
        self.chance.random.usize(..end)
    }

    /// The first ones more often than the last.
    fn space(&mut self) -> usize {
        let end = 1 + self.below(SPACES);
        self.below(end)
    }

    fn entry(&mut self) -> Entry {
        let (value, meta) = (self.chance.value(), self.chance.meta());
        let expires_in = match self.below(20) {
            // Some in hours that are over.
            0..6 => Some((self.hour + self.chance.random.u64(..12)).saturating_sub(2)),
            6 => Some(self.hour + self.chance.random.u64(..10_000)),
            _ => None,
        };
        Entry { value, meta, expires_in }
    }

    fn put(&mut self, space: usize) -> Change {
        Change::Put(space, self.chance.key(), self.entry())
    }

    fn merge(&mut self, space: usize) -> Change {
        Change::Merge(space, self.chance.key(), self.chance.operand())
    }

    /// Up to `end` changes of up to three keyspaces, or of one where they are kept apart. Under locks there are neither
    /// ranges nor operands.
    fn changes(&mut self, end: usize, in_batch: bool) -> Vec<Change> {
        let spaces: Vec<usize> =
            (0..if self.is_apart { 1 } else { 1 + self.below(3) }).map(|_| self.space()).collect();
        let count = 1 + self.below(end);
        let mut changes = Vec::with_capacity(count);
        for _ in 0..count {
            let space = spaces[self.below(spaces.len())];
            changes.push(match self.below(40) {
                0 if in_batch => Change::DeleteRange(space, self.chance.short_range()),
                1 if self.below(8) == 0 => Change::Truncate(space),
                2..12 => Change::Delete(space, self.chance.key()),
                12..17 if in_batch => self.merge(space),
                _ => self.put(space),
            });
        }
        changes
    }

    fn locked(&mut self) -> Op {
        let mut changes = self.changes(5, false);
        changes.retain(|change| !matches!(change, Change::Truncate(_)));
        let keys = changes.iter().filter_map(|change| match change {
            Change::Put(space, key, _) | Change::Delete(space, key) => Some((*space, key.clone())),
            Change::Merge(..) | Change::DeleteRange(..) | Change::Truncate(_) => None,
        });
        Op::Locked(keys.collect(), changes)
    }

    /// One file, or two of which the second begins behind the first; now and then they overlap, which is refused.
    fn ingest(&mut self, space: usize) -> Op {
        let count = self.below(60);
        let mut keys: Vec<_> = (0..count).map(|_| self.chance.key()).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut first: Vec<_> = keys.into_iter().map(|key| (key, self.entry())).collect();
        let mut second = first.split_off(self.below(first.len() + 1));
        if let Some(last) = first.last().filter(|_| self.below(8) == 0) {
            second.insert(0, last.clone());
        }
        Op::Ingest(space, vec![first, second])
    }

    fn look(&mut self) -> Look {
        [Look::Value, Look::Entry, Look::Lent, Look::Exists, Look::AtHand][self.below(5)]
    }

    fn pass(&mut self) -> Pass {
        [Pass::Entries, Pass::Lent, Pass::Keys, Pass::Values][self.below(4)]
    }
}
