//! The engines in memory pass, and so does a naive one; each way of breaking the naive one is found by the suite.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::Mutex;
use pugdb_core::engine::{
    BatchSize, Capabilities, Counts, Cursor, Direction, Engine, Entries, KeyRange, Operands, Persistence,
    ReadPoint, Scans,
};
use pugdb_core::memory::{Btree, Hash};
use pugdb_core::snapshots::Snapshots;
use pugdb_core::{Entry, Error, Found, Key, KeySpan, Operation, Ops, Result, Seqno, Timestamp};

use super::{Subject, run};

struct Memory<E> {
    snapshots: Arc<Snapshots>,
    engine: E,
}

impl Subject for Memory<Btree> {
    fn engine(&self) -> &dyn Engine {
        &self.engine
    }

    fn snapshots(&self) -> &Arc<Snapshots> {
        &self.snapshots
    }
}

#[test]
fn the_btree_passes() {
    for seed in 1..=3 {
        run(seed, &mut || {
            let snapshots = Snapshots::new(Seqno::ZERO);
            Box::new(Memory { engine: Btree::new(Arc::clone(&snapshots)), snapshots })
        });
    }
}

impl Subject for Memory<Hash> {
    fn engine(&self) -> &dyn Engine {
        &self.engine
    }

    fn snapshots(&self) -> &Arc<Snapshots> {
        &self.snapshots
    }
}

#[test]
fn the_hash_passes() {
    for seed in 1..=3 {
        run(seed, &mut || {
            let snapshots = Snapshots::new(Seqno::ZERO);
            Box::new(Memory { engine: Hash::new(Arc::clone(&snapshots), seed), snapshots })
        });
    }
}

/// What a naive engine does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    ForgetsTheFloor,
    FloorHidesThePast,
    KnowsOneFloorOnly,
    ReturnsExpired,
    ExpiresTooLate,
    ExpiredUncoversOlder,
    ReclaimsUnderSnapshots,
    ReclaimsWhatHides,
    CountsTheDead,
    IgnoresSnapshots,
    PrunesUnderSnapshots,
    ReplaysTwice,
    CountsSeqnosItself,
    FirstOfAnApplyWins,
    LosesMeta,
    LosesStamps,
    LosesEmptyValues,
    ReversesMultiGet,
    SortsMultiGet,
    GivesUpOnLongHistories,
    ForgetsOnReopen,
    ReverseOffByOne,
    ExcludedEndIsIncluded,
    SkipsBetweenBatches,
    RepeatsBetweenBatches,
    StopsAtADeadBatch,
    ScansAtTheNewest,
    ScanYieldsExpired,
    AnswersTooMuch,
    ScansByAnOrderItLacks,
    DeletesRangesOfThePast,
    DeletesRangesForGood,
    DeletesTheEndOfARange,
    KnowsOneRangeOnly,
    DeletesRangesWithoutOrder,
    TakesOperands,
    OverlooksChanges,
    OverlooksDeletedRanges,
    OverlooksNewKeysInRanges,
    SeesChangesEverywhere,
    Panics,
}

#[derive(Default)]
struct Content {
    versions: BTreeMap<Key, Vec<Found>>,
    floors: Vec<Seqno>,
    ranges: Vec<(Seqno, KeySpan)>,
    applied: Seqno,
}

#[derive(Clone)]
struct Naive {
    bug: Bug,
    scans: Scans,
    content: Arc<Mutex<Content>>,
}

impl Content {
    /// The newest range delete over a key that a reader sees.
    fn deleted(&self, bug: Bug, key: &[u8], seqno: Seqno) -> Seqno {
        let is_over = |(at, span): &&(Seqno, KeySpan)| {
            let is_at_end = span.end.as_ref().is_some_and(|end| **end == *key);
            (*at <= seqno || bug == Bug::DeletesRangesOfThePast)
                && (span.raw().contains(key) || is_at_end && bug == Bug::DeletesTheEndOfARange)
        };
        let newest = self.ranges.iter().filter(is_over).map(|(at, _)| *at).max();
        match newest {
            Some(_) if bug == Bug::DeletesRangesForGood => seqno,
            newest => newest.unwrap_or_default(),
        }
    }

    fn look(&self, bug: Bug, key: &[u8], versions: &[Found], point: ReadPoint) -> Option<Found> {
        let past = self.floors.last().is_some_and(|&floor| point.seqno < floor);
        if bug == Bug::GivesUpOnLongHistories && past && versions.len() > 20 {
            return None;
        }
        let seqno = if bug == Bug::IgnoresSnapshots { Seqno::MAX } else { point.seqno };
        let in_force = |floor: &&Seqno| bug == Bug::FloorHidesThePast || **floor <= seqno;
        let floor = self.floors.iter().filter(in_force).max().copied().unwrap_or_default();
        let floor = if bug == Bug::ForgetsTheFloor { Seqno::ZERO } else { floor };
        let floor = floor.max(self.deleted(bug, key, seqno));
        let mut visible = versions.iter().rev().filter(|found| found.seqno <= seqno && found.seqno > floor);
        let now = match bug {
            Bug::ReturnsExpired => Timestamp(0),
            Bug::ExpiresTooLate => Timestamp(point.now.0 - 1),
            _ => point.now,
        };
        let found = match bug {
            Bug::ExpiredUncoversOlder => visible.find(|found| {
                found.entry.is_live(now) || found.entry.kind == pugdb_core::EntryKind::Delete
            })?,
            _ => visible.next()?,
        };
        let mut found = found.clone();
        found.entry.meta = if bug == Bug::LosesMeta { 0 } else { found.entry.meta };
        found.entry.stamp = found.entry.stamp.filter(|_| bug != Bug::LosesStamps);
        let lost = bug == Bug::LosesEmptyValues && found.entry.value.is_empty();
        (found.entry.is_live(now) && !lost).then_some(found)
    }
}

impl Engine for Naive {
    fn capabilities(&self) -> Capabilities {
        let persistence = Persistence::Volatile;
        Capabilities { scans: self.scans, persistence, operands: Operands::Refused }
    }

    fn apply(&self, first: Seqno, ops: &Ops) -> Result<()> {
        if ops.has_ranges() && self.scans == Scans::Unordered && self.bug != Bug::DeletesRangesWithoutOrder {
            return Err(Error::invalid("a hash has no order to delete by"));
        }
        if ops.has_operands() && self.bug != Bug::TakesOperands {
            return Err(Error::invalid("it folds nothing"));
        }
        let mut content = self.content.lock();
        let applied = content.applied;
        let mut numbered: Vec<_> = (first.0..).map(Seqno).zip(ops.iter()).collect();
        if self.bug == Bug::FirstOfAnApplyWins {
            numbered.reverse();
        }
        for (mut seqno, op) in numbered {
            if self.bug == Bug::CountsSeqnosItself && seqno > applied {
                seqno = content.applied.plus(1);
            }
            let key_bytes = op.entry().map_or(0, |op| op.key.len());
            assert!(self.bug != Bug::Panics || key_bytes < 1000, "the engine broke");
            if seqno > applied || self.bug == Bug::ReplaysTwice {
                content.applied = content.applied.max(seqno);
                match op {
                    Operation::Entry(op) => {
                        let found = Found { seqno, entry: op.to_entry() };
                        content.versions.entry(op.to_key()).or_default().push(found);
                    }
                    Operation::DeleteRange(span) => {
                        if self.bug == Bug::KnowsOneRangeOnly {
                            content.ranges.clear();
                        }
                        content.ranges.push((seqno, span.to_span()));
                    }
                }
            }
        }
        Ok(())
    }

    fn truncate(&self, at: Seqno) -> Result<()> {
        let mut content = self.content.lock();
        content.applied = content.applied.max(at);
        if self.bug == Bug::KnowsOneFloorOnly {
            content.floors.clear();
        }
        content.floors.push(at);
        Ok(())
    }

    fn get(&self, key: &[u8], point: ReadPoint) -> Result<Option<Found>> {
        let content = self.content.lock();
        Ok(content.versions.get(key).and_then(|versions| content.look(self.bug, key, versions, point)))
    }

    fn changed_since(&self, key: &[u8], since: Seqno) -> Result<bool> {
        let content = self.content.lock();
        let newest = content.versions.get(key).and_then(|versions| versions.last()).map(|found| found.seqno);
        let deleted = match self.bug {
            Bug::OverlooksDeletedRanges => Seqno::ZERO,
            _ => content.deleted(Bug::None, key, Seqno::MAX),
        };
        let floor = content.floors.iter().max().copied();
        let newest = newest.max(floor).max(Some(deleted)) > Some(since);
        Ok(newest && self.bug != Bug::OverlooksChanges || self.bug == Bug::SeesChangesEverywhere)
    }

    fn range_changed_since(&self, range: &KeyRange, since: Seqno) -> Result<bool> {
        if self.scans == Scans::Unordered {
            return Ok(self.content.lock().applied > since);
        }
        let content = self.content.lock();
        let keys: Vec<(Key, bool)> = content
            .versions
            .iter()
            .filter(|(key, _)| range.contains(key))
            .map(|(key, versions)| (key.clone(), versions[0].seqno > since))
            .collect();
        drop(content);
        let is_overlooked = |is_new: bool| is_new && self.bug == Bug::OverlooksNewKeysInRanges;
        let mut keys = keys.into_iter().filter(|(_, is_new)| !is_overlooked(*is_new));
        keys.try_fold(false, |changed, (key, _)| Ok(changed || self.changed_since(&key, since)?))
    }

    fn multi_get(&self, keys: &[&[u8]], point: ReadPoint) -> Result<Vec<Option<Found>>> {
        let mut keys = keys.to_vec();
        if self.bug == Bug::SortsMultiGet {
            keys.sort_unstable();
        }
        let mut found = keys.iter().map(|key| self.get(key, point)).collect::<Result<Vec<_>>>()?;
        if self.bug == Bug::ReversesMultiGet {
            found.reverse();
        }
        Ok(found)
    }

    fn scan(&self, range: KeyRange, direction: Direction, point: ReadPoint) -> Result<Box<dyn Cursor>> {
        let is_whole = range == KeyRange::all() && direction == Direction::Forward;
        if self.scans == Scans::Unordered && self.bug != Bug::ScansByAnOrderItLacks && !is_whole {
            return Err(Error::invalid("a hash has no order to scan in"));
        }
        let seqno = if self.bug == Bug::ScansAtTheNewest { Seqno::MAX } else { point.seqno };
        let now = if self.bug == Bug::ScanYieldsExpired { Timestamp(0) } else { point.now };
        let point = ReadPoint { seqno, now };
        Ok(Box::new(NaiveCursor { engine: self.clone(), range, direction, point, skip: 0 }))
    }

    fn count(&self, range: KeyRange, point: ReadPoint) -> Result<Counts> {
        let size = BatchSize { entries: usize::MAX, bytes: usize::MAX };
        let now = if self.bug == Bug::CountsTheDead { Timestamp(0) } else { point.now };
        let mut cursor = self.scan(range, Direction::Forward, ReadPoint { now, ..point })?;
        let (mut counts, mut out) = (Counts::default(), Entries::default());
        cursor.fill(size, &mut out)?;
        for (_, found) in out.into_found() {
            counts.add(found.entry.expires_at);
        }
        Ok(counts)
    }
}

struct NaiveCursor {
    engine: Naive,
    range: KeyRange,
    direction: Direction,
    point: ReadPoint,
    skip: usize,
}

impl Cursor for NaiveCursor {
    fn fill(&mut self, size: BatchSize, out: &mut Entries) -> Result<()> {
        let bug = self.engine.bug;
        let content = self.engine.content.lock();
        let mut keys: Vec<_> = content.versions.iter().filter(|(key, _)| self.is_inside(key)).collect();
        if self.direction == Direction::Reverse {
            keys.reverse();
        }
        let (mut count, mut bytes, mut last) = (0, 0, None);
        for (key, versions) in keys.into_iter().skip(std::mem::take(&mut self.skip)) {
            if count > 0 && (count == size.entries || bytes >= size.bytes && bug != Bug::AnswersTooMuch) {
                break;
            }
            last = Some(key);
            match content.look(bug, key, versions, self.point) {
                Some(found) => {
                    (count, bytes) = (count + 1, bytes + key.len() + found.entry.value.len());
                    out.push_found(key, &found);
                }
                None if bug == Bug::StopsAtADeadBatch => count += 1,
                None => {}
            }
        }
        match last {
            Some(_) if bug == Bug::RepeatsBetweenBatches && content.versions.len() > 300 && count == 3 => {}
            Some(last) => self.range = self.range.after(last, self.direction),
            None => {}
        }
        self.skip = usize::from(bug == Bug::SkipsBetweenBatches);
        Ok(())
    }
}

impl NaiveCursor {
    fn is_inside(&self, key: &[u8]) -> bool {
        let KeyRange { start, end } = self.range.clone();
        let end = match (self.engine.bug, self.direction, end) {
            (Bug::ExcludedEndIsIncluded, Direction::Forward, Bound::Excluded(end)) => Bound::Included(end),
            (Bug::ReverseOffByOne, Direction::Reverse, Bound::Included(end)) => Bound::Excluded(end),
            (_, _, end) => end,
        };
        KeyRange { start, end }.contains(key)
    }
}

impl Subject for Memory<Naive> {
    fn engine(&self) -> &dyn Engine {
        &self.engine
    }

    fn snapshots(&self) -> &Arc<Snapshots> {
        &self.snapshots
    }

    fn maintain(&mut self) {
        if self.engine.bug == Bug::PrunesUnderSnapshots {
            let mut content = self.engine.content.lock();
            content.versions.values_mut().for_each(|versions| _ = versions.drain(..versions.len() - 1));
        }
        let is_dead = |found: &Found, now| found.entry.expires_at.is_some_and(|at| at <= now);
        let mut content = self.engine.content.lock();
        for versions in content.versions.values_mut() {
            match self.engine.bug {
                // In its place a delete, but too early.
                Bug::ReclaimsUnderSnapshots => {
                    let now = self.snapshots.time();
                    let dead = versions.iter_mut().filter(|found| is_dead(found, now));
                    dead.for_each(|found| found.entry = Entry::delete());
                }
                // At the right time, and nothing in its place.
                Bug::ReclaimsWhatHides => {
                    let now = self.snapshots.expiry_horizon();
                    versions.retain(|found| !is_dead(found, now));
                }
                _ => {}
            }
        }
    }

    /// What it has applied survives, the newest operation aside, which the replay brings back.
    fn reopen(&mut self) -> bool {
        let mut content = self.engine.content.lock();
        if self.engine.bug == Bug::ForgetsOnReopen {
            content.versions.clear();
        } else if content.floors.last() != Some(&content.applied) && content.applied > Seqno::ZERO {
            let lost = content.applied;
            content.versions.values_mut().for_each(|versions| versions.retain(|found| found.seqno < lost));
            content.ranges.retain(|(at, _)| *at < lost);
            content.applied = Seqno(lost.0 - 1);
        }
        true
    }
}

/// The suite's verdict: the message of its failure, if it fails.
fn verdict(bug: Bug, scans: Scans) -> Option<String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        run(11, &mut || {
            let snapshots = Snapshots::new(Seqno::ZERO);
            Box::new(Memory { snapshots, engine: Naive { bug, scans, content: Arc::default() } })
        });
    }));
    outcome.err().map(|payload| super::message(&*payload).to_owned())
}

#[test]
fn a_naive_engine_passes_with_and_without_order() {
    assert_eq!(verdict(Bug::None, Scans::Ordered), None);
    assert_eq!(verdict(Bug::None, Scans::Unordered), None);
}

#[test]
fn every_broken_engine_is_found_and_by_the_check_that_is_meant_to() {
    let table = [
        (Bug::ForgetsTheFloor, "old snapshots"),
        (Bug::FloorHidesThePast, "old snapshots"),
        (Bug::KnowsOneFloorOnly, "truncates between snapshots"),
        (Bug::CountsSeqnosItself, "gaps between seqnos"),
        (Bug::SortsMultiGet, "multi_get"),
        (Bug::GivesUpOnLongHistories, "random operations"),
        (Bug::ReturnsExpired, "expiry is exact"),
        (Bug::ExpiresTooLate, "expiry is exact"),
        (Bug::ExpiredUncoversOlder, "an expired entry hides older ones"),
        (Bug::ReclaimsUnderSnapshots, "expiry is exact"),
        (Bug::ReclaimsWhatHides, "an expired entry hides older ones"),
        (Bug::CountsTheDead, "expiry is exact"),
        (Bug::IgnoresSnapshots, "put, overwrite and delete"),
        (Bug::PrunesUnderSnapshots, "many keys"),
        (Bug::ReplaysTwice, "replay is a no-op"),
        (Bug::FirstOfAnApplyWins, "one apply is in order"),
        (Bug::LosesMeta, "attributes are kept"),
        (Bug::LosesStamps, "put, overwrite and delete"),
        (Bug::LosesEmptyValues, "extreme keys and values"),
        (Bug::ReversesMultiGet, "put, overwrite and delete"),
        (Bug::ForgetsOnReopen, "reopen and replay"),
        (Bug::ReverseOffByOne, "scan bounds"),
        (Bug::ExcludedEndIsIncluded, "scan bounds"),
        (Bug::SkipsBetweenBatches, "many keys"),
        (Bug::RepeatsBetweenBatches, "scan batches"),
        (Bug::StopsAtADeadBatch, "scan bounds"),
        (Bug::ScansAtTheNewest, "many keys"),
        (Bug::ScanYieldsExpired, "expiry is exact"),
        (Bug::AnswersTooMuch, "scan bounds"),
        (Bug::DeletesRangesOfThePast, "range delete"),
        (Bug::DeletesRangesForGood, "range delete"),
        (Bug::DeletesTheEndOfARange, "range delete"),
        (Bug::KnowsOneRangeOnly, "range delete"),
        (Bug::OverlooksChanges, "changes since a read"),
        (Bug::OverlooksDeletedRanges, "changes of ranges since a read"),
        (Bug::OverlooksNewKeysInRanges, "changes of ranges since a read"),
        (Bug::SeesChangesEverywhere, "changes since a read"),
        (Bug::Panics, "extreme keys and values"),
    ];
    let wrong: Vec<String> = table
        .into_iter()
        .filter_map(|(bug, check)| {
            let message = verdict(bug, Scans::Ordered).unwrap_or_else(|| "not found".into());
            let expected = format!("engine conformance, check {check:?}, seed 11");
            (!message.starts_with(&expected)).then(|| format!("{bug:?}: {message}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let message = verdict(Bug::LosesMeta, Scans::Unordered).unwrap();
    assert!(message.contains("attributes are kept"), "{message}");
}

#[test]
fn an_unordered_engine_must_refuse_what_needs_an_order_and_give_every_key_once() {
    let message = verdict(Bug::ScansByAnOrderItLacks, Scans::Unordered).unwrap();
    assert!(message.contains("scans by order are refused"), "{message}");
    let message = verdict(Bug::RepeatsBetweenBatches, Scans::Unordered).unwrap();
    assert!(message.contains("comes twice"), "{message}");
    let message = verdict(Bug::TakesOperands, Scans::Ordered).unwrap();
    assert!(message.contains("operands are refused"), "{message}");
    let message = verdict(Bug::DeletesRangesWithoutOrder, Scans::Unordered).unwrap();
    assert!(message.contains("range deletes are refused"), "{message}");
    let message = verdict(Bug::SkipsBetweenBatches, Scans::Unordered).unwrap();
    assert!(message.contains("without key Some"), "{message}");
}

#[test]
fn a_wrong_value_is_recognised() {
    let message = verdict(Bug::FirstOfAnApplyWins, Scans::Ordered).unwrap();
    assert!(message.contains("expected the value of seqno 4 for key 0x61"), "{message}");
}
