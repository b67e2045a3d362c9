//! The memtable against a sorted map, alone and with readers beside the writer.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use pugdb_core::RawOp;
use pugdb_core::engine::{Direction, KeyRange};
use pugdb_core::{
    Entry, EntryKind, EntryOptions, Found, Key, Op, Operation, SealId, Seqno, Stamp, Timestamp, Value,
};

use super::Memtable;

fn put(key: &[u8], value: &[u8]) -> Op {
    Op { key: Key::copy(key).unwrap(), entry: Entry::put(Value::new(value.to_vec()).unwrap()) }
}

fn insert(memtable: &Memtable, seqno: u64, op: &Op) -> bool {
    memtable.insert([(Seqno(seqno), Operation::Entry(op.entry.raw(&op.key)))].into_iter())
}

#[derive(Default)]
struct Model(BTreeMap<Key, Vec<Found>>);

impl Model {
    fn insert(&mut self, seqno: u64, op: &Op) {
        let found = Found { seqno: Seqno(seqno), entry: op.entry.clone() };
        self.0.entry(op.key.clone()).or_default().push(found);
    }

    fn get(&self, key: &[u8], seqno: Seqno) -> Option<Found> {
        self.0.get(key)?.iter().rev().find(|found| found.seqno <= seqno).cloned()
    }

    fn scan(&self, range: &KeyRange, direction: Direction, seqno: Seqno) -> Vec<(Key, Found)> {
        let within = self.0.keys().filter(|key| range.contains(key));
        let visible = within.filter_map(|key| Some((key.clone(), self.get(key, seqno)?)));
        let mut all: Vec<_> = visible.collect();
        if direction == Direction::Reverse {
            all.reverse();
        }
        all
    }
}

/// All of a range.
fn scan(memtable: &Arc<Memtable>, range: &KeyRange, direction: Direction, seqno: Seqno) -> Vec<(Key, Found)> {
    let (mut scan, mut out) = (memtable.scan(range, direction, seqno), Vec::new());
    while let Some(peek) = scan.peek() {
        assert_eq!(scan.peek_key(), Some((peek.op.key, peek.seqno)));
        let entry = peek.op.entry(|value| scan.share(value));
        out.push((Key::copy(peek.op.key).unwrap(), Found { seqno: peek.seqno, entry }));
        scan.advance();
    }
    out
}

fn random_op(random: &mut fastrand::Rng, keys: usize) -> Op {
    // Some keys are the beginning of others, and many share their first eight bytes.
    let number = random.usize(..keys);
    let key = match number % 4 {
        0 => format!("k{number}").into_bytes(),
        1 => format!("shared-prefix-{number}").into_bytes(),
        2 => vec![0; number % 40],
        _ => (number as u64).to_be_bytes().to_vec(),
    };
    let mut op = put(&key, &vec![random.u8(..); [0, 1, 30, 500, 20_000][random.usize(..5)]]);
    if random.u8(..4) == 0 {
        op.entry = Entry::delete();
    }
    let some = |random: &mut fastrand::Rng| random.bool();
    if random.u8(..4) == 0 && op.entry.kind == EntryKind::Put {
        op.entry.kind = EntryKind::Operand;
    } else {
        op.entry.meta = random.u8(..2);
        op.entry.expires_at = some(random).then(|| Timestamp(random.u64(..)));
    }
    op.entry.seal = some(random).then(|| SealId(random.u64(..)));
    op.entry.stamp = some(random).then(|| Stamp([random.u8(..); 16]));
    op
}

/// A scan that sees nothing is counted as any other.
fn begin_scan(memtable: &Arc<Memtable>) {
    drop(memtable.scan(&KeyRange::all(), Direction::Forward, Seqno::MAX));
}

#[test]
fn scans_leave_the_more_runs_to_others_the_fewer_they_are() {
    let memtable = Arc::new(Memtable::new(1));
    let runs = |scans: usize| {
        for _ in 0..scans {
            begin_scan(&memtable);
            // As the job does when the next write tells it.
            if memtable.order.is_asked() {
                memtable.merge_step();
            }
        }
        memtable.order.runs()
    };
    for seqno in 1..=40_000_u64 {
        insert(&memtable, seqno, &put(&seqno.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes(), b"v"));
    }
    while memtable.merge_step() {}
    let before = runs(0);
    assert!(before > 4, "{before} runs");
    let small = runs(40_000 / 10 / 8);
    assert!((2..before).contains(&small), "{small} of {before} runs");
    assert_eq!(runs(3 * 40_000 / 10), 1);
    assert_eq!(scan(&memtable, &KeyRange::all(), Direction::Forward, Seqno::MAX).len(), 40_000);
}

#[test]
fn a_random_life_equals_a_sorted_map() {
    let sizes = [(5, 400), (300, 3_000), (5_000, 12_000)];
    for (seed, (keys, count)) in (0..).zip(sizes.into_iter().cycle().take(12)) {
        let mut random = fastrand::Rng::with_seed(seed);
        let (memtable, mut model) = (Arc::new(Memtable::new(random.u64(..))), Model::default());
        for seqno in 1..=count {
            let op = random_op(&mut random, keys);
            insert(&memtable, seqno, &op);
            model.insert(seqno, &op);
            if random.usize(..1_000) == 0 {
                while memtable.merge_step() {}
            }
            if random.usize(..4) == 0 {
                begin_scan(&memtable);
            }
        }
        assert_eq!((memtable.first(), memtable.last()), (Some(Seqno(1)), Seqno(count)));
        for _ in 0..500 {
            let (key, seqno) = (random_op(&mut random, keys).key, Seqno(random.u64(..=count + 1)));
            assert_eq!(memtable.get(&key, seqno), model.get(&key, seqno), "seed {seed}");
        }
        for _ in 0..40 {
            let mut bound = || {
                let key = random_op(&mut random, keys).key.to_vec();
                [Bound::Included(key.clone()), Bound::Excluded(key), Bound::Unbounded][random.usize(..3)]
                    .clone()
            };
            let range = KeyRange { start: bound(), end: bound() };
            let seqno = Seqno(random.u64(..=count + 1));
            for direction in [Direction::Forward, Direction::Reverse] {
                let (found, expected) =
                    (scan(&memtable, &range, direction, seqno), model.scan(&range, direction, seqno));
                assert!(
                    found == expected,
                    "seed {seed}, {range:?}, {direction:?}, {seqno}: {} and {}",
                    found.len(),
                    expected.len()
                );
            }
        }
        let mut versions = Vec::new();
        let (mut after, mut is_over) = (None, false);
        while !is_over {
            let mut visit = |seqno, op: &RawOp<'_>| {
                let entry = op.entry(Bytes::copy_from_slice);
                versions.push((Key::copy(op.key)?, Found { seqno, entry }));
                Ok(())
            };
            after = memtable.visit_versions(after.as_deref(), 10_000, &mut visit).unwrap();
            is_over = after.is_none();
        }
        let expected: Vec<_> = model
            .0
            .iter()
            .flat_map(|(key, all)| all.iter().rev().map(move |found| (key.clone(), found.clone())))
            .collect();
        assert!(versions == expected, "seed {seed}: a flush would write something else");
    }
}

#[test]
fn a_reader_far_in_the_past_finds_its_version_among_very_many() {
    let memtable = Arc::new(Memtable::new(1));
    let count = 300_000;
    for seqno in 1..=count {
        insert(&memtable, seqno, &put(b"hot", &seqno.to_le_bytes()));
    }
    // One by one this would be 30 thousand million steps.
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..100_000 {
        let seqno = Seqno(random.u64(1..=count));
        assert_eq!(memtable.get(b"hot", seqno).unwrap().seqno, seqno);
    }
    assert_eq!(memtable.get(b"hot", Seqno(0)), None);
}

#[test]
fn a_large_value_outlives_its_memtable() {
    let memtable = Arc::new(Memtable::new(1));
    insert(&memtable, 1, &put(b"large", &vec![7; 1 << 20]));
    insert(&memtable, 2, &put(b"small", b"7"));
    let large = memtable.get(b"large", Seqno::MAX).unwrap().entry.value;
    let small = memtable.get(b"small", Seqno::MAX).unwrap().entry.value;
    assert_eq!(Arc::strong_count(&memtable), 2);
    drop(memtable);
    assert!(large.len() == 1 << 20 && large.iter().all(|&byte| byte == 7) && small == b"7");
}

#[test]
fn its_bytes_are_those_of_its_operations_and_are_forgotten_once() {
    let memtable = Memtable::new(1);
    let ops = [put(b"a", b"1"), put(b"a", b"2"), put(b"b", b"")];
    memtable.insert((1..).map(Seqno).zip(ops.iter().map(|op| Operation::Entry(op.entry.raw(&op.key)))));
    let expected: usize = ops.iter().map(Op::cost_bytes).sum();
    assert_eq!((memtable.bytes(), memtable.forget(), memtable.forget()), (expected, expected, 0));
}

#[test]
fn readers_beside_the_writer_see_all_that_was_published() {
    const COUNT: u64 = 60_000;
    let memtable = Arc::new(Memtable::new(3));
    let (published, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    // Key number n is written at n, but for every third time: then an older key is written again.
    let key = |number: u64| (number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes();
    std::thread::scope(|scope| {
        for seed in 0..3 {
            let (memtable, published, is_over) = (&memtable, &published, &is_over);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                while !is_over.load(Ordering::Acquire) {
                    let point = published.load(Ordering::Acquire);
                    if point == 0 {
                        continue;
                    }
                    let number = Some(random.u64(1..=point)).filter(|number| number % 3 != 0).unwrap_or(1);
                    let found = memtable.get(&key(number), Seqno(point)).expect("it was published");
                    assert!(found.seqno.0 >= number && found.seqno.0 <= point);
                    begin_scan(memtable);
                    if random.u8(..20) == 0 {
                        let direction = if random.bool() { Direction::Forward } else { Direction::Reverse };
                        let all = scan(memtable, &KeyRange::all(), direction, Seqno(point));
                        let ascends = all.windows(2).all(|pair| match direction {
                            Direction::Forward => pair[0].0 < pair[1].0,
                            Direction::Reverse => pair[0].0 > pair[1].0,
                        });
                        assert!(ascends && all.iter().all(|(_, found)| found.seqno.0 <= point));
                        assert_eq!(all.len() as u64, point - point / 3, "a key is missing at {point}");
                    }
                }
            });
        }
        scope.spawn(|| {
            while !is_over.load(Ordering::Acquire) {
                memtable.merge_step();
            }
        });
        let mut random = fastrand::Rng::with_seed(9);
        for seqno in 1..=COUNT {
            let number = if seqno % 3 == 0 { random.u64(1..seqno) } else { seqno };
            let number = if number % 3 == 0 { 1 } else { number };
            insert(&memtable, seqno, &put(&key(number), &seqno.to_le_bytes()));
            published.store(seqno, Ordering::Release);
        }
        is_over.store(true, Ordering::Release);
    });
}

#[test]
fn an_entry_comes_back_as_it_went_in() {
    let memtable = Arc::new(Memtable::new(1));
    let options = EntryOptions { expires_at: Some(Timestamp(5)), meta: 9, seal: None };
    let op = Op { key: Key::default(), entry: Entry::put_with(Value::default(), options) };
    insert(&memtable, 7, &op);
    assert_eq!(memtable.get(b"", Seqno(7)), Some(Found { seqno: Seqno(7), entry: op.entry }));
    let delete = Op { key: Key::default(), entry: Entry::delete() };
    insert(&memtable, 8, &delete);
    assert_eq!(memtable.get(b"", Seqno(9)).unwrap().entry.kind, EntryKind::Delete);
}

#[test]
fn the_tally_follows_what_is_newest() {
    let memtable = Memtable::new(1);
    let mut brief = put(b"brief", b"v");
    brief.entry.expires_at = Some(Timestamp(1));
    let delete = |key: &[u8]| Op { key: Key::copy(key).unwrap(), entry: Entry::delete() };
    let mut tallies = Vec::new();
    let ops = [put(b"a", b"1"), put(b"a", b"2"), brief, delete(b"a"), put(b"brief", b"w"), put(b"a", b"3")];
    for (seqno, op) in (1..).zip(&ops) {
        insert(&memtable, seqno, op);
        let tally = memtable.tally();
        tallies.push((tally.puts(), tally.deletes(), tally.expiring()));
    }
    assert_eq!(tallies, [(1, 0, 0), (1, 0, 0), (2, 0, 1), (1, 1, 1), (1, 1, 0), (2, 0, 0)]);
}
