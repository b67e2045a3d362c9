//! One subject with its model: every write goes to both, every read is compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use pugdb_core::engine::{
    BatchSize, Counts, Cursor, Direction, Entries, KeyRange, Operands, ReadPoint, Scans,
};
use pugdb_core::snapshots::SnapshotGuard;
use pugdb_core::{
    Entry, EntryKind, EntryOptions, Error, Found, Key, KeySpan, Op, Ops, Seqno, Stamp, Timestamp, Value,
};

use super::{SPAN_MS_MAX, START, Subject};
use crate::model::{Model, ModelEntry, ModelOp, hex};

/// How often the subject is maintained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Maintenance {
    Never,
    /// After one write in so many, by chance.
    OneIn(u32),
}

/// A place in history: where the engine reads, and where the model does.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) point: ReadPoint,
    commit: usize,
}

impl Place {
    /// The same seqno with another clock.
    pub(super) fn at(self, now: Timestamp) -> Self {
        Self { point: ReadPoint { now, ..self.point }, ..self }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "(seqno {}, now {})", self.point.seqno, self.point.now.0)
    }
}

/// A place that a snapshot keeps readable.
#[derive(Clone)]
pub(super) struct View {
    pub(super) place: Place,
    _guard: SnapshotGuard,
}

/// What was done to the engine, to be done again by a replay.
#[derive(Clone)]
enum Step {
    Apply(Seqno, Vec<Write>),
    Truncate(Seqno),
}

/// One operation.
#[derive(Clone)]
pub(super) enum Write {
    Entry(Op),
    DeleteRange(KeySpan),
}

impl Write {
    /// `None` for a range without keys.
    pub(super) fn delete_range(range: &KeyRange) -> Option<Self> {
        KeySpan::of(range).map(Self::DeleteRange)
    }

    fn said(&self) -> ModelOp {
        let keyspace = KEYSPACE.to_owned();
        match self {
            Self::DeleteRange(span) => ModelOp::DeleteRange { keyspace, range: span.raw().range() },
            Self::Entry(op) if op.entry.kind == EntryKind::Operand => {
                ModelOp::Merge { keyspace, key: op.key.to_vec(), operand: op.entry.value.to_vec() }
            }
            Self::Entry(op) => match ModelEntry::of(&op.entry) {
                Some(entry) => ModelOp::Put { keyspace, key: op.key.to_vec(), entry },
                None => ModelOp::Delete { keyspace, key: op.key.to_vec() },
            },
        }
    }
}

fn encoded(writes: &[Write]) -> Ops {
    let mut ops = Ops::default();
    for write in writes {
        match write {
            Write::Entry(op) => ok("push", ops.push(&op.entry.raw(&op.key))),
            Write::DeleteRange(span) => ops.push_range(span),
        }
    }
    ops
}

pub(super) struct Harness {
    pub(super) random: fastrand::Rng,
    subject: Box<dyn Subject>,
    maintenance: Maintenance,
    now: Timestamp,
    /// The newest seqno that was given out.
    last: Seqno,
    model: Model,
    steps: Vec<Step>,
    written: BTreeMap<Seqno, Op>,
}

/// The model's one keyspace.
const KEYSPACE: &str = "engine";
const WHOLE: BatchSize = BatchSize { entries: 1000, bytes: 1 << 20 };

impl Harness {
    pub(super) fn new(
        mut subject: Box<dyn Subject>,
        random: fastrand::Rng,
        maintenance: Maintenance,
    ) -> Self {
        subject.set_clock(START);
        subject.snapshots().advance(START);
        let last = subject.snapshots().visible();
        let mut model = Model::default();
        model.commit(&[ModelOp::CreateKeyspace(KEYSPACE.into())]);
        let (steps, written) = Default::default();
        Self { random, subject, maintenance, now: START, last, model, steps, written }
    }

    pub(super) fn scans(&self) -> Scans {
        self.subject.engine().capabilities().scans
    }

    pub(super) fn operands(&self) -> Operands {
        self.subject.engine().capabilities().operands
    }

    // Writing.

    /// A put whose seqno will be `seqno`. The value says so, and its length and attributes follow from it.
    pub(super) fn op(key: &[u8], seqno: Seqno, options: EntryOptions) -> Op {
        let mut random = fastrand::Rng::with_seed(seqno.0);
        let length = if random.u8(..) == 0 { random.usize(..5000) } else { random.usize(..60) };
        let mut value = seqno.0.to_be_bytes().to_vec();
        value.extend(key.iter().take(8));
        value.extend((0..length).map(|_| random.u8(..)));
        let entry = Entry {
            // No seal: nothing is merged into what has one.
            stamp: random.bool().then(|| Stamp(random.u128(..).to_le_bytes())),
            ..Entry::put_with(Value::new(value).expect("far below the limit"), options)
        };
        Self::op_of(key, entry)
    }

    pub(super) fn op_of(key: &[u8], entry: Entry) -> Op {
        Op { key: Key::copy(key).expect("the suite makes keys within the limit"), entry }
    }

    /// The seqno of the next operation.
    pub(super) fn next(&self) -> Seqno {
        self.last.plus(1)
    }

    pub(super) fn put(&mut self, key: &[u8]) -> Seqno {
        self.put_with(key, EntryOptions::default())
    }

    pub(super) fn put_with(&mut self, key: &[u8], options: EntryOptions) -> Seqno {
        self.apply(vec![Self::op(key, self.next(), options)])
    }

    pub(super) fn put_all<K: AsRef<[u8]>>(&mut self, keys: impl IntoIterator<Item = K>) {
        let numbered = (self.next().0..).map(Seqno).zip(keys);
        let ops = numbered.map(|(seqno, key)| Self::op(key.as_ref(), seqno, EntryOptions::default()));
        let ops = ops.collect();
        self.apply(ops);
    }

    pub(super) fn delete(&mut self, key: &[u8]) -> Seqno {
        self.apply(vec![Self::op_of(key, Entry::delete())])
    }

    /// An operand that says so: `length` bytes of its seqno.
    pub(super) fn operand_op(key: &[u8], seqno: Seqno, length: usize) -> Op {
        let value = seqno.0.to_be_bytes().into_iter().rev().cycle().take(length).collect::<Vec<u8>>();
        Self::op_of(key, Entry::operand(Value::new(value).expect("far below the limit")))
    }

    pub(super) fn merge(&mut self, key: &[u8]) -> Seqno {
        self.apply(vec![Self::operand_op(key, self.next(), 5)])
    }

    /// The range must have keys.
    pub(super) fn delete_range(&mut self, range: impl Into<KeyRange>) -> Seqno {
        let write = Write::delete_range(&range.into());
        self.apply_all(vec![write.expect("a check deletes ranges that have keys")])
    }

    /// Applies and publishes `ops`; returns the first one's seqno.
    pub(super) fn apply(&mut self, ops: Vec<Op>) -> Seqno {
        self.apply_all(ops.into_iter().map(Write::Entry).collect())
    }

    /// The same for operations of all kinds.
    pub(super) fn apply_all(&mut self, writes: Vec<Write>) -> Seqno {
        let (first, before) = (self.next(), self.place());
        self.model.commit(&writes.iter().map(Write::said).collect::<Vec<_>>());
        let numbered = (first.0..).map(Seqno).zip(&writes);
        self.written.extend(numbered.filter_map(|(seqno, write)| match write {
            Write::Entry(op) => Some((seqno, op.clone())),
            Write::DeleteRange(_) => None,
        }));
        self.last = Seqno(self.last.0 + writes.len() as u64);
        let looked_at = writes.first().map(|write| match write {
            Write::Entry(op) => op.key.clone(),
            Write::DeleteRange(span) => span.start.clone(),
        });
        self.perform(Step::Apply(first, writes));
        // Applied and not published: whoever reads at what is visible sees the old entry still.
        if let Some(key) = looked_at {
            self.check_get(before, &key);
        }
        self.publish();
        first
    }

    pub(super) fn truncate(&mut self) -> Seqno {
        self.last = self.next();
        self.model.commit(&[ModelOp::Truncate(KEYSPACE.into())]);
        self.perform(Step::Truncate(self.last));
        self.publish();
        self.last
    }

    /// Leaves out `count` seqnos, which belong to another keyspace.
    pub(super) fn skip(&mut self, count: u64) {
        self.last = self.last.plus(count);
        self.publish();
    }

    fn perform(&mut self, step: Step) {
        self.send(&step);
        self.steps.push(step);
    }

    fn send(&self, step: &Step) {
        let engine = self.subject.engine();
        match step {
            Step::Apply(first, writes) => ok("apply", engine.apply(*first, &encoded(writes))),
            Step::Truncate(at) => ok("truncate", engine.truncate(*at)),
        }
    }

    fn publish(&mut self) {
        self.subject.snapshots().publish(self.last);
        match self.maintenance {
            Maintenance::OneIn(count) if self.random.u32(..count) == 0 => self.subject.maintain(),
            _ => {}
        }
    }

    /// How many applies and truncates there were.
    pub(super) fn steps(&self) -> usize {
        self.steps.len()
    }

    /// Sends some of them again, in their order.
    pub(super) fn replay(&self, steps: Range<usize>) {
        self.steps[steps].iter().for_each(|step| self.send(step));
    }

    /// Sends the newest `old` operations once more with `new` behind them, as one apply.
    pub(super) fn apply_overlapping(&mut self, old: usize, new: Vec<Op>) {
        let first = Seqno(self.last.0 + 1 - old as u64);
        let mut ops: Vec<Op> = self.written.range(first..).map(|(_, op)| op.clone()).collect();
        assert_eq!(ops.len(), old, "a check overlaps operations without gaps between them");
        ops.extend(new.iter().cloned());
        ok("apply", self.subject.engine().apply(first, &ops.into_iter().collect()));
        self.apply(new);
    }

    pub(super) fn advance(&mut self, milliseconds: u64) {
        self.now = self.now.plus_ms(milliseconds);
        assert!(self.now < START.plus_ms(SPAN_MS_MAX), "a check may not let that much time pass");
        self.set_clock();
    }

    fn set_clock(&mut self) {
        self.subject.set_clock(self.now);
        self.subject.snapshots().advance(self.now);
    }

    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    /// Reopens the subject, if it can be, and replays everything. The caller has dropped views and cursors.
    pub(super) fn reopen(&mut self) -> bool {
        assert_eq!(self.subject.snapshots().live(), 0, "a check drops its views before it reopens");
        let reopened = self.subject.reopen();
        if reopened {
            self.set_clock();
            self.replay(0..self.steps());
            self.subject.snapshots().publish(self.last);
        }
        reopened
    }

    // Reading.

    /// Here and now.
    pub(super) fn place(&self) -> Place {
        Place { point: ReadPoint { seqno: self.last, now: self.now }, commit: self.model.commits() }
    }

    pub(super) fn view(&self) -> View {
        let guard = self.subject.snapshots().take();
        assert_eq!((guard.seqno(), guard.now()), (self.last, self.now), "the suite alone publishes");
        View { place: self.place(), _guard: guard }
    }

    /// Says what a check expects, in its own words: the seqno of the entry that is found. The model must agree.
    pub(super) fn expect(&self, place: Place, key: &[u8], seqno: impl Into<Option<Seqno>>) {
        let (found, seqno) = (self.check_get(place, key), seqno.into());
        if found.as_ref().map(|found| found.seqno) != seqno {
            fail(&format!(
                "get of key {} at {place:?} found {}, not the entry of {seqno:?}",
                hex(key),
                self.say(found.as_ref())
            ));
        }
    }

    pub(super) fn check_get(&self, place: Place, key: &[u8]) -> Option<Found> {
        let found = ok("get", self.subject.engine().get(key, place.point));
        self.compare("get", place, key, found.as_ref());
        if ok("exists", self.subject.engine().exists(key, place.point)) != found.is_some() {
            fail(&format!("exists of key {} at {place:?} does not agree with get", hex(key)));
        }
        found
    }

    pub(super) fn check_multi_get(&self, place: Place, keys: &[&[u8]]) {
        let found = ok("multi_get", self.subject.engine().multi_get(keys, place.point));
        if found.len() != keys.len() {
            fail(&format!("multi_get of {} keys gave {} answers", keys.len(), found.len()));
        }
        for (key, found) in keys.iter().zip(&found) {
            self.compare("multi_get", place, key, found.as_ref());
        }
    }

    /// Reads everything that was ever written, in every way.
    pub(super) fn check_all(&self, place: Place) {
        let mut keys: Vec<&[u8]> = self.written.values().map(|op| &*op.key).collect();
        keys.extend([b"never written".as_slice(), b"", b"\0", b"\xff"]);
        keys.sort_unstable();
        keys.dedup();
        for key in &keys {
            self.check_get(place, key);
        }
        self.check_multi_get(place, &keys);
        self.check_scan(place, &KeyRange::all(), Direction::Forward, &mut || WHOLE);
        if self.scans() == Scans::Ordered {
            self.check_scan(place, &KeyRange::all(), Direction::Reverse, &mut || WHOLE);
        }
        self.check_count(place, &KeyRange::all());
    }

    /// Counts what a scan of the range would bring.
    pub(super) fn check_count(&self, place: Place, range: &KeyRange) {
        let now = place.point.now;
        let there = self.model.scan((place.commit, now), KEYSPACE, range, Direction::Forward, usize::MAX);
        let expiries = || there.iter().filter_map(|(_, entry)| entry.expires_at);
        let expected = Counts {
            keys: there.len() as u64,
            expiring: expiries().count() as u64,
            next_expiry: expiries().min(),
        };
        let counts = ok("count", self.subject.engine().count(range.clone(), place.point));
        if counts != expected {
            let range = say_range(range);
            fail(&format!("count of {range} at {place:?}: expected {expected:?}, found {counts:?}"));
        }
    }

    /// What a transaction asks that has read at `place`, which a view holds: has anybody changed the key since, or some key of the
    /// range? Whoever would read something else must be told; who reads what nobody has touched must not. In between, a delete of
    /// what was not there for one, both is right.
    pub(super) fn check_changed(&self, place: Place, key: &[u8], range: &KeyRange) {
        let Place { point: ReadPoint { seqno, now }, commit } = place;
        let engine = self.subject.engine();
        let newest = self.model.commits();
        let changed = ok("changed_since", engine.changed_since(key, seqno));
        let read = |commit| self.model.get(commit, now, KEYSPACE, key);
        let is_touched = self.is_touched(seqno, |touched| touched.contains(key));
        judge(
            &format!("changed_since of key {}", hex(key)),
            place,
            changed,
            read(commit) != read(newest),
            is_touched,
        );

        let changed = ok("range_changed_since", engine.range_changed_since(range, seqno));
        let read = |commit| self.model.scan((commit, now), KEYSPACE, range, Direction::Forward, usize::MAX);
        let is_touched = match self.scans() {
            Scans::Ordered => self.is_touched(seqno, |touched| touched.overlaps(range)),
            Scans::Unordered => self.is_touched(seqno, |_| true),
        };
        let what = format!("range_changed_since of {}", say_range(range));
        judge(&what, place, changed, read(commit) != read(newest), is_touched);
    }

    /// Whether an operation behind `since` names what `is_it` says.
    fn is_touched(&self, since: Seqno, is_it: impl Fn(&Touched<'_>) -> bool) -> bool {
        self.steps.iter().any(|step| match step {
            Step::Truncate(at) => *at > since && is_it(&Touched::All),
            Step::Apply(first, writes) => (first.0..).zip(writes).any(|(seqno, write)| {
                let touched = match write {
                    Write::Entry(op) => Touched::Key(&op.key),
                    Write::DeleteRange(span) => Touched::Span(span),
                };
                seqno > since.0 && is_it(&touched)
            }),
        })
    }

    pub(super) fn check_scan(
        &self,
        place: Place,
        range: &KeyRange,
        direction: Direction,
        size: &mut dyn FnMut() -> BatchSize,
    ) {
        let mut scan = self.start_scan(place, range, direction);
        while self.continue_scan(&mut scan, size()) == Progress::More {}
        // Over is over: asked once more, it brings nothing again.
        self.continue_scan(&mut scan, size());
    }

    pub(super) fn start_scan(&self, place: Place, range: &KeyRange, direction: Direction) -> OpenScan {
        let expected =
            self.model.scan((place.commit, place.point.now), KEYSPACE, range, direction, usize::MAX);
        let expected = expected.into_iter().map(|(key, _)| key.to_vec()).collect();
        let cursor = ok("scan", self.subject.engine().scan(range.clone(), direction, place.point));
        let what = format!("{direction:?} scan of {} at {place:?}", say_range(range));
        OpenScan { cursor, place, what, expected, done: 0, seen: BTreeSet::new() }
    }

    /// Brings one batch and compares it.
    pub(super) fn continue_scan(&self, scan: &mut OpenScan, size: BatchSize) -> Progress {
        // Something lies there already: a batch is appended.
        let mut out = Entries::default();
        out.push_found(&Key::default(), &Found { seqno: Seqno::MAX, entry: Entry::delete() });
        ok("fill", scan.cursor.fill(size, &mut out));
        let out: Vec<_> = out.into_found().collect();
        let (kept, batch) = out.split_first().expect("one element was put in");
        assert_eq!(kept.1.seqno, Seqno::MAX, "fill changed what was in the batch before");
        let what = &scan.what;
        if batch.len() > size.entries {
            fail(&format!("{what}: a batch of {} entries where {} were asked", batch.len(), size.entries));
        }
        // The entry that reaches the limit may pass it; one after that may not come.
        let bytes = batch.iter().rev().skip(1).map(|(key, found)| key.len() + found.entry.value.len());
        let bytes: usize = bytes.sum();
        if batch.len() > 1 && bytes >= size.bytes {
            fail(&format!("{what}: a batch goes on after {bytes} bytes where {} were asked", size.bytes));
        }
        for (key, found) in batch {
            match (self.scans(), scan.expected.get(scan.done)) {
                (Scans::Ordered, Some(expected)) if **expected == **key => {}
                // Without order: any of those that are expected, and none twice.
                (Scans::Unordered, _)
                    if scan.expected.binary_search_by(|expected| (**expected).cmp(&**key)).is_ok() =>
                {
                    if !scan.seen.insert(key.to_vec()) {
                        fail(&format!("{what}: key {} comes twice", hex(key)));
                    }
                }
                (_, expected) => fail(&format!(
                    "{what}: entry {} should be {}, and is key {} with {}",
                    scan.done,
                    expected.map_or("the end".into(), |key| format!("key {}", hex(key))),
                    hex(key),
                    self.say(Some(found))
                )),
            }
            self.compare(what, scan.place, key, Some(found));
            scan.done += 1;
        }
        match scan.expected.get(scan.done) {
            Some(_) if batch.is_empty() => {
                let mut left = scan.expected.iter().skip(if scan.seen.is_empty() { scan.done } else { 0 });
                let missing = left.find(|key| !scan.seen.contains(*key)).map(|key| hex(key));
                fail(&format!("{what}: over after {} entries, without key {missing:?}", scan.done))
            }
            _ if batch.is_empty() => Progress::Over,
            _ => Progress::More,
        }
    }

    /// A range delete is refused, and nothing is applied, as the capabilities say.
    pub(super) fn range_error(&self, range: &KeyRange) -> Option<Error> {
        let put = Write::Entry(Self::op(b"beside", self.next(), EntryOptions::default()));
        let writes: Vec<Write> = [put].into_iter().chain(Write::delete_range(range)).collect();
        self.subject.engine().apply(self.next(), &encoded(&writes)).err()
    }

    /// An operand is refused, and nothing is applied, as the capabilities say.
    pub(super) fn operand_error(&self, key: &[u8]) -> Option<Error> {
        let put = Self::op(b"beside", self.next(), EntryOptions::default());
        let ops = [put, Self::operand_op(key, self.next().plus(1), 5)];
        self.subject.engine().apply(self.next(), &ops.into_iter().collect()).err()
    }

    /// Scans are refused, as the capabilities say.
    pub(super) fn scan_error(&self, range: KeyRange, direction: Direction) -> Option<Error> {
        self.subject.engine().scan(range, direction, self.place().point).err()
    }

    /// The model says what is there; the operation at the found seqno says everything else about it.
    fn compare(&self, call: &str, place: Place, key: &[u8], found: Option<&Found>) {
        let expected = self.model.get(place.commit, place.point.now, KEYSPACE, key);
        let agrees = match (expected, found) {
            (None, None) => true,
            (Some(expected), Some(found)) => {
                let op = self.written.get(&found.seqno).filter(|op| *op.key == *key);
                found.seqno <= place.point.seqno
                    && ModelEntry::of(&found.entry).as_ref() == Some(expected)
                    // What was folded is nothing that was written: the model alone knows it.
                    && op.is_some_and(|op| op.entry.kind == EntryKind::Operand || op.entry == found.entry)
            }
            _ => false,
        };
        if !agrees {
            fail(&format!(
                "{call} of key {} at {place:?}: expected {}, found {}",
                hex(key),
                expected.map_or("nothing".into(), |entry| self.say_origin(&entry.value)),
                self.say(found)
            ));
        }
    }

    fn say(&self, found: Option<&Found>) -> String {
        let Some(Found { seqno, entry }) = found else { return "nothing".into() };
        let Entry { kind, meta, expires_at, .. } = entry;
        let value = self.say_origin(&entry.value);
        let attributes = self.written.get(seqno).is_some_and(|op| op.entry == *entry);
        let attributes = if attributes { "all as written" } else { "not as written" };
        format!("seqno {seqno} ({kind:?}, meta {meta}, expires at {expires_at:?}, {attributes}): {value}")
    }

    /// Where a value comes from: it begins with its seqno and its key.
    fn say_origin(&self, value: &[u8]) -> String {
        let origin = value.first_chunk().and_then(|seqno| {
            let seqno = Seqno(u64::from_be_bytes(*seqno));
            let op = self.written.get(&seqno).filter(|op| *op.entry.value == *value)?;
            Some(format!("the value of seqno {seqno} for key {}", hex(&op.key)))
        });
        origin.unwrap_or_else(|| format!("the value {}", hex(value)))
    }
}

/// What an operation is about.
enum Touched<'a> {
    Key(&'a [u8]),
    Span(&'a KeySpan),
    All,
}

impl Touched<'_> {
    fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::Key(touched) => *touched == key,
            Self::Span(span) => span.raw().contains(key),
            Self::All => true,
        }
    }

    fn overlaps(&self, range: &KeyRange) -> bool {
        match self {
            Self::Key(touched) => range.contains(touched),
            Self::Span(span) => KeySpan::of(range).is_some_and(|other| span.raw().overlaps(&other.raw())),
            Self::All => true,
        }
    }
}

fn judge(what: &str, place: Place, answer: bool, reads_differ: bool, is_touched: bool) {
    if reads_differ && !answer {
        fail(&format!("{what} since {place:?} says no, and a reader would see something else"));
    }
    if answer && !is_touched {
        fail(&format!("{what} since {place:?} says yes, and nobody has touched it"));
    }
}

/// A scan under way with what it has still to bring.
pub(super) struct OpenScan {
    cursor: Box<dyn Cursor>,
    place: Place,
    what: String,
    /// In the order of the scan; of an engine without order, in the order of keys.
    expected: Vec<Vec<u8>>,
    done: usize,
    /// What came already, where there is no order.
    seen: BTreeSet<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    More,
    Over,
}

fn say_range(range: &KeyRange) -> String {
    let say = |bound: &std::ops::Bound<Vec<u8>>| format!("{:?}", bound.as_ref().map(|key| hex(key)));
    format!("{}..{}", say(&range.start), say(&range.end))
}

fn ok<T>(call: &str, result: pugdb_core::Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => fail(&format!("{call} failed: {error:?}")),
    }
}

#[expect(clippy::panic, reason = "a suite for tests fails by a panic")]
pub(super) fn fail(message: &str) -> ! {
    panic!("{message}")
}
