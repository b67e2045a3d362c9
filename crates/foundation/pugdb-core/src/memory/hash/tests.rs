//! What the hash engine gives back and when, and that a walk gives every key once.

use super::*;
use crate::entry::{EntryOptions, Op, Value};

/// An engine with the one who writes to it.
struct Writer {
    snapshots: Arc<Snapshots>,
    engine: Hash,
    last: Seqno,
}

impl Writer {
    fn new() -> Self {
        let snapshots = Snapshots::new(Seqno::ZERO);
        Self { engine: Hash::new(Arc::clone(&snapshots), 7), snapshots, last: Seqno::ZERO }
    }

    fn apply(&mut self, ops: impl IntoIterator<Item = (u32, Entry)>) {
        let op = |(number, entry)| Op { key: key(number), entry };
        let ops: Ops = ops.into_iter().map(op).collect();
        self.engine.apply(self.last.plus(1), &ops).unwrap();
        self.last = self.last.plus(ops.len() as u64);
        self.snapshots.publish(self.last);
    }

    fn point(&self) -> ReadPoint {
        ReadPoint { seqno: self.last, now: self.snapshots.time() }
    }

    /// Keys, versions, bytes, leftovers and entries that expire.
    fn sizes(&self) -> [usize; 5] {
        let state = self.engine.state.lock();
        let expiring = usize::from(state.expiring.next().is_some());
        [state.keys, state.versions, state.bytes, state.garbage.len(), expiring]
    }

    fn capacity(&self) -> usize {
        self.engine.shards.shards.iter().map(|shard| shard.slots.read().capacity()).sum()
    }

    fn tidy(&self) {
        while self.engine.tidy(1000).is_busy {}
    }
}

fn key(number: u32) -> Key {
    Key::copy(&number.to_be_bytes()).unwrap()
}

fn put() -> Entry {
    Entry::put(Value::new(vec![1; 100]).unwrap())
}

fn brief(expires_at: u64) -> Entry {
    let options = EntryOptions { expires_at: Some(Timestamp(expires_at)), ..EntryOptions::default() };
    Entry::put_with(Value::new(vec![1; 100]).unwrap(), options)
}

#[test]
fn deleted_keys_give_all_of_their_memory_back() {
    let mut writer = Writer::new();
    writer.apply((0..100_000).map(|number| (number, put())));
    let full = writer.capacity();
    let held = writer.snapshots.take();
    writer.apply((0..100_000).map(|number| (number, Entry::delete())));
    writer.tidy();
    assert_eq!(writer.sizes()[..2], [100_000, 200_000], "a snapshot needs them");
    drop(held);
    writer.tidy();
    assert_eq!(writer.sizes(), [0; 5]);
    assert!(writer.capacity() < full / 8, "{} of {full}", writer.capacity());
    writer.apply([(1, Entry::delete())]);
    assert_eq!(writer.sizes(), [0; 5], "a delete of nothing leaves nothing");
}

#[test]
fn a_key_that_is_written_again_and_again_keeps_two_versions_at_most() {
    let mut writer = Writer::new();
    for _ in 0..1000 {
        writer.apply([(1, put())]);
        assert!(writer.sizes()[1] <= 2);
    }
    writer.tidy();
    assert_eq!(writer.sizes()[..2], [1, 1]);
}

#[test]
fn a_truncation_gives_memory_back_without_another_write() {
    let mut writer = Writer::new();
    writer.apply((0..10_000).map(|number| (number, brief(1_000_000))));
    writer.last = writer.last.plus(1);
    writer.engine.truncate(writer.last).unwrap();
    writer.snapshots.publish(writer.last);
    assert_eq!(writer.engine.approximate_counts(), Counts::default());
    writer.tidy();
    assert_eq!(writer.sizes(), [0; 5]);
}

#[test]
fn expired_entries_give_memory_back_when_no_snapshot_judges_before() {
    let mut writer = Writer::new();
    writer.snapshots.advance(Timestamp(1000));
    writer.apply((0..1000).map(|number| (number, brief(2000 + u64::from(number)))));
    writer.apply([(1, brief(1999)), (2, put()), (3, brief(9000))]);
    let early = writer.snapshots.take();
    writer.snapshots.advance(Timestamp(5000));
    writer.tidy();
    let at = |now, number: u32| {
        let point = ReadPoint { seqno: writer.last, now: Timestamp(now) };
        writer.engine.get(&number.to_be_bytes(), point).unwrap().is_some()
    };
    assert!((0..1000).all(|number| at(1000, number)), "the snapshot reads at its own moment");
    assert_eq!((at(5000, 1), at(5000, 2), at(5000, 3), at(5000, 4)), (false, true, true, false));
    drop(early);
    writer.tidy();
    assert_eq!(writer.sizes()[..2], [2, 2]);
    writer.snapshots.advance(Timestamp(9000));
    writer.tidy();
    assert_eq!((writer.sizes()[..2].to_vec(), writer.sizes()[3..].to_vec()), (vec![1, 1], vec![0, 0]));
}

#[test]
fn an_expired_entry_that_hides_an_older_version_goes_with_it_and_not_before() {
    let mut writer = Writer::new();
    writer.snapshots.advance(Timestamp(100));
    writer.apply([(1, put())]);
    let old = writer.snapshots.take();
    writer.apply([(1, brief(50))]);
    writer.tidy();
    let at = |seqno| writer.engine.get(&key(1), ReadPoint { seqno, now: Timestamp(100) }).unwrap();
    assert!(at(old.seqno()).is_some() && at(writer.last).is_none());
    assert_eq!(writer.sizes()[..2], [1, 2]);
    drop(old);
    writer.tidy();
    assert_eq!(writer.sizes(), [0; 5]);
}

#[test]
fn a_shard_of_many_parts_is_walked_once_whatever_is_inserted_meanwhile() {
    let mut writer = Writer::new();
    let many = u32::try_from(SHARDS * PART_ENTRIES * 3).unwrap();
    writer.apply((0..many).map(|number| (number, Entry::put(Value::default()))));
    let guard = writer.snapshots.take();
    let mut cursor = writer.engine.scan(KeyRange::all(), Direction::Forward, writer.point()).unwrap();
    let (mut seen, mut batch) = (vec![false; many as usize], Entries::default());
    let mut next = many;
    loop {
        cursor.fill(BatchSize { entries: 10_000, bytes: 1 << 20 }, &mut batch).unwrap();
        if batch.is_empty() {
            break;
        }
        for (key, _) in std::mem::take(&mut batch).into_found() {
            let number = u32::from_be_bytes((*key).try_into().unwrap());
            assert!(!std::mem::replace(&mut seen[number as usize], true), "a key comes once");
        }
        writer.apply((next..next + 5000).map(|number| (number, Entry::put(Value::default()))));
        next += 5000;
    }
    assert!(seen.iter().all(|seen| *seen));
    drop(guard);
    let counts = writer.engine.count(KeyRange::all(), writer.point()).unwrap();
    assert_eq!((counts.keys, counts.expiring), (u64::from(next), 0));
}
