//! The checks that tell a story each: what is written, what must be read.

use std::ops::Bound;

use pugdb_core::engine::{BatchSize, Direction, KeyRange, Scans};
use pugdb_core::{Entry, EntryOptions, ErrorKind, SealId, Seqno, Stamp, Timestamp, Value, limits};

use super::harness::{Harness, OpenScan, Progress, Write, fail};

const DIRECTIONS: [Direction; 2] = [Direction::Forward, Direction::Reverse];
const SIZES: [BatchSize; 5] = [
    BatchSize { entries: 1, bytes: 1 << 20 },
    BatchSize { entries: 3, bytes: 1 << 20 },
    BatchSize { entries: 1000, bytes: 1 << 20 },
    BatchSize { entries: 1000, bytes: 100 },
    BatchSize { entries: 1000, bytes: 0 },
];

pub(super) fn put_overwrite_and_delete(h: &mut Harness) {
    h.expect(h.place(), b"a", None);
    let first = h.put(b"a");
    h.expect(h.place(), b"a", first);
    h.expect(h.place(), b"b", None);
    let second = h.put(b"a");
    h.expect(h.place(), b"a", second);
    h.delete(b"a");
    h.expect(h.place(), b"a", None);
    h.delete(b"a");
    h.delete(b"never there");
    h.expect(h.place(), b"a", None);
    let third = h.put(b"a");
    h.expect(h.place(), b"a", third);
    h.apply(Vec::new());
    h.check_all(h.place());
}

pub(super) fn extreme_keys_and_values(h: &mut Harness) {
    let longest = limits::KEY_BYTES_MAX;
    let keys = [
        vec![],
        vec![0],
        vec![0, 0],
        vec![0, 0xff],
        b"a".to_vec(),
        b"a\0".to_vec(),
        vec![0xff],
        vec![0xff, 0],
        vec![0xff; 300],
        vec![b'k'; longest],
        vec![b'k'; longest - 1],
        [vec![b'k'; longest - 1], vec![b'l']].concat(),
        vec![0xff; longest],
    ];
    for key in &keys {
        h.put(key);
        h.check_all(h.place());
    }
    for (key, length) in [(b"empty".as_slice(), 0), (b"", 0), (b"one", 1), (b"large", 200 << 10)] {
        let value = Value::new((0..=250).cycle().take(length).collect::<Vec<u8>>());
        let value = value.expect("far below the limit");
        let seqno = h.apply(vec![Harness::op_of(key, Entry::put(value))]);
        h.expect(h.place(), key, seqno);
    }
    h.check_all(h.place());
    for key in &keys {
        h.delete(key);
        h.expect(h.place(), key, None);
    }
    h.check_all(h.place());
}

pub(super) fn many_keys(h: &mut Harness) {
    let key = |number: usize| format!("key {:06}", number * 7919 % 3000).into_bytes();
    let numbers: Vec<usize> = (0..3000).collect();
    for chunk in numbers.chunks(150) {
        h.put_all(chunk.iter().map(|&number| key(number)));
    }
    h.check_all(h.place());
    let before = h.view();
    for number in (0..3000).step_by(50) {
        h.put_all((number..number + 50).step_by(5).map(key));
        let deletes =
            (number..number + 50).step_by(7).map(|number| Harness::op_of(&key(number), Entry::delete()));
        h.apply(deletes.collect());
    }
    h.check_all(h.place());
    h.check_all(before.place);
}

fn expires(at: Timestamp) -> EntryOptions {
    EntryOptions { expires_at: Some(at), ..EntryOptions::default() }
}

pub(super) fn expiry_is_exact(h: &mut Harness) {
    let at = h.now().plus_ms(1000);
    let just_before = Timestamp(at.0 - 1);
    let seqno = h.put_with(b"brief", expires(at));
    let lasting = h.put_with(b"lasting", expires(Timestamp(u64::MAX)));
    h.put_with(b"born dead", expires(h.now()));
    h.put_with(b"long dead", expires(Timestamp(0)));
    let early = h.view();
    for round in 0..3 {
        h.expect(early.place, b"brief", seqno);
        h.expect(early.place.at(just_before), b"brief", seqno);
        h.expect(early.place.at(at), b"brief", None);
        h.expect(early.place.at(at.plus_ms(1)), b"brief", None);
        h.expect(early.place, b"lasting", lasting);
        h.expect(early.place, b"born dead", None);
        h.expect(early.place, b"long dead", None);
        for now in [h.now(), just_before, at] {
            h.check_all(h.place().at(now));
        }
        // The second time around the clock is past the moment, and a snapshot from before it still reads.
        h.advance(if round == 0 { 1000 } else { 1 });
        h.put(b"other");
    }
    drop(early);
    h.put(b"other");
    h.check_all(h.place());
}

pub(super) fn an_expired_entry_hides_older_ones(h: &mut Harness) {
    let first = h.put(b"k");
    let old = h.view();
    let at = h.now().plus_ms(500);
    let second = h.put_with(b"k", expires(at));
    let young = h.view();
    h.expect(h.place(), b"k", second);
    h.advance(500);
    for _ in 0..3 {
        h.expect(h.place(), b"k", None);
        h.expect(old.place, b"k", first);
        h.expect(old.place.at(h.now()), b"k", first);
        h.expect(young.place, b"k", second);
        h.put(b"other");
        h.check_all(h.place());
    }
    drop((old, young));
    h.put(b"other");
    h.expect(h.place(), b"k", None);
    let third = h.put(b"k");
    h.expect(h.place(), b"k", third);
    h.put_with(b"k", expires(Timestamp(1)));
    h.expect(h.place(), b"k", None);
    h.delete(b"k");
    h.expect(h.place(), b"k", None);
    h.check_all(h.place());
}

pub(super) fn attributes_are_kept(h: &mut Harness) {
    let value = |text: &str| Value::new(text.as_bytes().to_vec()).expect("far below the limit");
    let later = h.now().plus_ms(30_000);
    let mut ops = Vec::new();
    for mask in 0..16_u8 {
        let has = |bit: u8| mask & 1 << bit != 0;
        let entry = Entry {
            meta: if has(0) { 200 + mask } else { 0 },
            expires_at: has(1).then_some(later),
            seal: has(2).then_some(SealId(u64::from(mask) << 40)),
            stamp: has(3).then_some(Stamp([mask; 16])),
            ..Entry::put(value(&format!("value {mask}")))
        };
        ops.push(Harness::op_of(&[mask], entry.clone()));
        // A delete may carry a stamp too; nobody sees it.
        let delete = Entry { kind: pugdb_core::EntryKind::Delete, value: Value::default(), ..entry };
        ops.push(Harness::op_of(&[mask, mask], delete));
    }
    h.apply(ops);
    // `check_all` compares every attribute with what was written.
    h.check_all(h.place());
    let held = h.view();
    for meta in 0..=255 {
        h.put_with(&[meta % 16], EntryOptions { meta, ..Default::default() });
    }
    h.check_all(h.place());
    h.check_all(held.place);
}

pub(super) fn one_apply_is_in_order(h: &mut Harness) {
    let held = h.view();
    let first = h.next();
    let put = |key: &[u8], offset| Harness::op(key, first.plus(offset), EntryOptions::default());
    let delete = |key: &[u8]| Harness::op_of(key, Entry::delete());
    h.apply(vec![
        put(b"a", 0),
        put(b"a", 1),
        delete(b"a"),
        put(b"a", 3),
        put(b"b", 4),
        delete(b"b"),
        delete(b"c"),
        put(b"c", 7),
    ]);
    h.expect(h.place(), b"a", first.plus(3));
    h.expect(h.place(), b"b", None);
    h.expect(h.place(), b"c", first.plus(7));
    h.check_all(h.place());
    h.check_all(held.place);
}

pub(super) fn gaps_between_seqnos(h: &mut Harness) {
    let mut views = Vec::new();
    for gap in [0, 1, 5, 1000, 1 << 20, 1 << 41] {
        h.skip(gap);
        views.push(h.view());
        h.put_all([b"a", b"b"]);
        h.skip(gap);
        views.push(h.view());
        h.delete(b"b");
        h.put(b"c");
    }
    h.skip(1 << 50);
    h.check_all(h.place());
    while let Some(view) = views.pop() {
        h.check_all(view.place);
        drop(view);
        h.put(b"d");
    }
    h.check_all(h.place());
}

pub(super) fn old_snapshots(h: &mut Harness) {
    let empty = h.view();
    let mut views = Vec::new();
    let mut seqnos = Vec::new();
    for round in 0..12 {
        let seqno = h.put(b"overwritten");
        seqnos.push(Some(seqno).filter(|_| round % 3 != 2));
        if round % 3 == 2 {
            h.delete(b"overwritten");
        }
        h.put(format!("key {round}").as_bytes());
        views.push(h.view());
    }
    h.truncate();
    h.put(b"after");
    for _ in 0..3 {
        h.expect(empty.place, b"overwritten", None);
        for (view, seqno) in views.iter().zip(&seqnos) {
            h.expect(view.place, b"overwritten", *seqno);
            h.check_all(view.place);
        }
        h.expect(h.place(), b"overwritten", None);
        h.put(b"after");
    }
    // Dropped in no particular order, the rest stays readable.
    while !views.is_empty() {
        views.swap_remove(views.len() / 2);
        h.put(b"after");
        for view in &views {
            h.check_all(view.place);
        }
    }
    h.check_all(empty.place);
    h.check_all(h.place());
}

pub(super) fn truncate(h: &mut Harness) {
    h.truncate();
    let kept = h.put(b"kept");
    h.put(b"later overwritten");
    let before = h.view();
    h.truncate();
    h.expect(h.place(), b"kept", None);
    h.expect(before.place, b"kept", kept);
    h.check_all(h.place());
    let new = h.put(b"later overwritten");
    h.expect(h.place(), b"later overwritten", new);
    h.expect(h.place(), b"kept", None);
    h.check_all(before.place);
    drop(before);
    for _ in 0..3 {
        h.put(b"other");
        h.expect(h.place(), b"later overwritten", new);
        h.expect(h.place(), b"kept", None);
        h.check_all(h.place());
    }
    // A delete beneath the cut, a put above it, and the other way round.
    h.delete(b"deleted before");
    h.put(b"deleted after");
    h.truncate();
    let put = h.put(b"deleted before");
    h.delete(b"deleted after");
    h.expect(h.place(), b"deleted before", put);
    h.expect(h.place(), b"deleted after", None);
    h.truncate();
    h.truncate();
    h.check_all(h.place());
}

pub(super) fn truncates_between_snapshots(h: &mut Harness) {
    let mut views = vec![(h.view(), None)];
    for round in 0..6 {
        let seqno = h.put(b"in every round");
        h.put(format!("round {round}").as_bytes());
        views.push((h.view(), Some(seqno)));
        h.truncate();
        views.push((h.view(), None));
    }
    let check = |h: &Harness, views: &[(super::harness::View, Option<Seqno>)]| {
        for (view, seqno) in views {
            h.expect(view.place, b"in every round", *seqno);
            h.check_all(view.place);
        }
    };
    check(h, &views);
    while !views.is_empty() {
        views.remove(if views.len() % 3 == 0 { views.len() - 1 } else { 0 });
        h.put(b"other");
        check(h, &views);
    }
    h.check_all(h.place());
}

pub(super) fn range_delete(h: &mut Harness) {
    h.delete_range(..);
    h.put_all([b"".as_slice(), b"a", b"ab", b"b", b"b\0", b"c", b"\xff\xff"]);
    let before = h.view();
    h.delete_range(b"ab".as_slice()..b"b\0");
    for (key, is_there) in [(b"a".as_slice(), true), (b"ab", false), (b"b", false), (b"b\0", true)] {
        assert_eq!(h.check_get(h.place(), key).is_some(), is_there, "a range ends before its end");
    }
    h.check_all(h.place());
    h.check_all(before.place);
    let new = h.put(b"b");
    h.expect(h.place(), b"b", new);
    h.expect(h.place(), b"ab", None);
    let between = h.view();
    // A delete beneath, and a put that is deleted, and the other way round; then the rest, and what is beside it.
    h.delete(b"b");
    h.delete_range(b"b".as_slice()..=b"b");
    h.expect(h.place(), b"b", None);
    h.delete_range(b"c".as_slice()..);
    h.delete_range(..b"a".as_slice());
    h.expect(h.place(), b"\xff\xff", None);
    h.expect(h.place(), b"", None);
    for _ in 0..3 {
        h.check_all(h.place());
        h.check_all(between.place);
        h.check_all(before.place);
        h.put(b"other");
    }
    drop((before, between));
    h.put(b"other");
    h.check_all(h.place());
    h.delete_range(..);
    h.put(b"after");
    h.check_all(h.place());
}

pub(super) fn range_deletes_in_one_apply(h: &mut Harness) {
    h.put_all([b"a", b"b", b"c"]);
    let held = h.view();
    let first = h.next();
    let put =
        |key: &[u8], offset| Write::Entry(Harness::op(key, first.plus(offset), EntryOptions::default()));
    let delete_range = |range: std::ops::Range<&[u8]>| Write::delete_range(&range.into()).into_iter();
    let mut writes = vec![put(b"a", 0), put(b"bb", 1)];
    writes.extend(delete_range(b"a"..b"c"));
    writes.push(put(b"b", 3));
    writes.extend(delete_range(b"b\0"..b"z"));
    writes.push(put(b"d", 5));
    h.apply_all(writes);
    h.expect(h.place(), b"a", None);
    h.expect(h.place(), b"b", first.plus(3));
    h.expect(h.place(), b"bb", None);
    h.expect(h.place(), b"c", None);
    h.expect(h.place(), b"d", first.plus(5));
    for _ in 0..3 {
        h.check_all(h.place());
        h.check_all(held.place);
        h.replay(0..h.steps());
        h.put(b"other");
    }
}

/// Nested and overlapping, each seen by a snapshot of its own.
pub(super) fn range_deletes_between_snapshots(h: &mut Harness) {
    let key = |number: u32| format!("key {number:03}").into_bytes();
    let mut views = vec![h.view()];
    for round in 0..8 {
        h.put_all((0..100).map(key));
        views.push(h.view());
        let (from, to) = (round * 7, 100 - round * 5);
        h.delete_range(key(from)..key(to));
        if round % 2 == 0 {
            views.push(h.view());
        }
        h.put_all((0..100).step_by(9).map(key));
        h.delete_range(key(from / 2)..key(from + 3));
        views.push(h.view());
    }
    let check = |h: &Harness, views: &[super::harness::View]| {
        for view in views {
            h.check_all(view.place);
        }
        h.check_all(h.place());
    };
    check(h, &views);
    while !views.is_empty() {
        views.remove(if views.len() % 3 == 0 { views.len() - 1 } else { 0 });
        h.put(b"other");
        check(h, &views);
    }
}

pub(super) fn range_deletes_and_the_rest(h: &mut Harness) {
    let later = h.now().plus_ms(1000);
    h.put_with(b"a", expires(later));
    h.put_with(b"b", expires(h.now()));
    h.delete(b"c");
    let held = h.view();
    h.delete_range(b"a".as_slice()..b"d");
    h.put_with(b"a", expires(later));
    h.put(b"c");
    h.check_all(h.place());
    h.advance(1000);
    // What expires lets nothing come back that a range delete has hidden.
    for _ in 0..3 {
        h.expect(h.place(), b"a", None);
        h.check_all(h.place());
        h.check_all(held.place);
        h.put(b"other");
    }
    h.truncate();
    h.put(b"a");
    h.delete_range(b"a".as_slice()..b"b");
    h.truncate();
    let new = h.put(b"a");
    h.expect(h.place(), b"a", new);
    drop(held);
    for number in 0..5 {
        h.put(b"b");
        h.delete_range(b"b".as_slice()..);
        h.check_all(h.place());
        if number % 2 == 0 && !h.reopen() {
            return;
        }
        h.check_all(h.place());
    }
}

pub(super) fn scans_pass_over_deleted_ranges(h: &mut Harness) {
    let key = |number: u32| format!("key {number:04}").into_bytes();
    h.put_all((0..600).map(key));
    let held = h.view();
    h.delete_range(key(50)..key(250));
    h.delete_range(key(200)..key(300));
    h.delete_range(key(300)..key(301));
    h.put_all([key(100), key(299), key(300)]);
    h.delete_range(key(560)..);
    h.put(&key(599));
    let dead = KeyRange { start: Bound::Excluded(key(100)), end: Bound::Excluded(key(299)) };
    for range in [KeyRange::all(), dead, KeyRange::from(key(60)..key(310)), KeyRange::from(..key(560))] {
        for direction in DIRECTIONS {
            for size in SIZES {
                h.check_scan(h.place(), &range, direction, &mut || size);
                h.check_scan(held.place, &range, direction, &mut || size);
            }
        }
        h.check_count(h.place(), &range);
        h.check_count(held.place, &range);
    }
}

pub(super) fn range_deletes_are_refused(h: &mut Harness) {
    h.put(b"a");
    for range in [KeyRange::all(), KeyRange::from(b"a"..b"b")] {
        let kind = h.range_error(&range).map(|error| error.kind());
        assert_eq!(kind, Some(ErrorKind::Invalid), "an engine without order deletes no ranges");
        h.expect(h.place(), b"beside", None);
    }
    let seqno = h.put(b"beside");
    h.expect(h.place(), b"beside", seqno);
    h.check_all(h.place());
}

pub(super) fn operands(h: &mut Harness) {
    let alone = h.merge(b"alone");
    h.expect(h.place(), b"alone", alone);
    h.put_with(b"put", EntryOptions { meta: 7, ..Default::default() });
    h.put(b"deleted");
    h.delete(b"deleted");
    let (put, deleted) = (h.merge(b"put"), h.merge(b"deleted"));
    h.expect(h.place(), b"put", put);
    h.expect(h.place(), b"deleted", deleted);
    for _ in 0..10 {
        for key in [b"alone".as_slice(), b"put", b"deleted"] {
            h.merge(key);
        }
        h.check_all(h.place());
    }
    // Several of one key in one apply, around a put and a delete.
    let first = h.next();
    let operand = |offset| Harness::operand_op(b"put", first.plus(offset), 3);
    h.apply(vec![
        operand(0),
        operand(1),
        Harness::op(b"put", first.plus(2), EntryOptions::default()),
        operand(3),
    ]);
    h.check_all(h.place());
    h.apply(vec![Harness::op_of(b"put", Entry::delete()), Harness::operand_op(b"put", h.next().plus(1), 0)]);
    h.check_all(h.place());
    h.delete(b"alone");
    h.expect(h.place(), b"alone", None);
    h.check_all(h.place());
}

pub(super) fn operands_on_what_expires(h: &mut Harness) {
    let at = h.now().plus_ms(1000);
    h.put_with(b"k", EntryOptions { expires_at: Some(at), meta: 3, seal: None });
    let held = h.view();
    h.merge(b"k");
    let between = h.view();
    for _ in 0..3 {
        h.merge(b"k");
        h.check_all(h.place());
    }
    h.advance(999);
    h.check_all(h.place());
    h.advance(1);
    // It counts from nothing now, operands from before too.
    let last = h.merge(b"k");
    h.expect(h.place(), b"k", last);
    for view in [held, between] {
        h.check_all(view.place);
        h.check_all(view.place.at(at));
    }
    for _ in 0..20 {
        h.merge(b"k");
        h.merge(b"other");
        h.advance(100);
        h.check_all(h.place());
    }
    h.put_with(b"k", EntryOptions { expires_at: Some(h.now()), ..Default::default() });
    h.merge(b"k");
    h.check_all(h.place());
}

pub(super) fn operands_between_snapshots(h: &mut Harness) {
    let mut views = vec![h.view()];
    for number in 0..40 {
        match number % 8 {
            3 => h.put(b"k"),
            6 => h.delete(b"k"),
            _ => h.merge(b"k"),
        };
        h.merge(b"l");
        if number % 3 == 0 {
            views.push(h.view());
        }
    }
    while !views.is_empty() {
        h.check_all(h.place());
        for view in &views {
            h.check_all(view.place);
        }
        views.swap_remove(views.len() / 2);
        h.merge(b"m");
    }
}

pub(super) fn operands_above_what_is_hidden(h: &mut Harness) {
    for round in 0..6 {
        h.put(b"k");
        h.merge(b"k");
        let held = h.view();
        match round % 2 {
            0 => h.truncate(),
            _ if h.scans() == Scans::Ordered => h.delete_range(b"a".as_slice()..),
            _ => h.delete(b"k"),
        };
        h.expect(h.place(), b"k", None);
        let last = h.merge(b"k");
        h.expect(h.place(), b"k", last);
        h.merge(b"k");
        h.check_all(h.place());
        h.check_all(held.place);
    }
}

pub(super) fn a_long_chain_of_operands(h: &mut Harness) {
    h.put(b"k");
    for _ in 0..20 {
        let first = h.next();
        h.apply((0..50).map(|offset| Harness::operand_op(b"k", first.plus(offset), 40)).collect());
        h.merge(b"j");
        h.merge(b"l");
    }
    let held = h.view();
    h.check_all(h.place());
    h.merge(b"k");
    h.check_all(held.place);
    drop(held);
    h.reopen();
    h.check_all(h.place());
}

pub(super) fn operands_are_refused(h: &mut Harness) {
    h.put(b"a");
    let kind = h.operand_error(b"a").map(|error| error.kind());
    assert_eq!(kind, Some(ErrorKind::Invalid), "an engine that folds nothing takes no operands");
    h.expect(h.place(), b"beside", None);
    h.check_all(h.place());
}

pub(super) fn replay_is_a_no_op(h: &mut Harness) {
    h.put(b"a");
    h.put(b"deleted");
    let held = h.view();
    let newest = h.put(b"a");
    h.delete(b"deleted");
    // One by one too: replayed to its end, even a log that is applied twice ends well.
    for steps in [0..1, 1..2, 2..3, 3..4, 0..2, 1..3, 0..4] {
        h.replay(steps);
        h.expect(h.place(), b"a", newest);
        h.expect(h.place(), b"deleted", None);
        h.check_all(h.place());
        h.check_all(held.place);
    }
    h.truncate();
    let after = h.put(b"after");
    for step in 0..h.steps() {
        h.replay(step..step + 1);
        h.replay(0..step);
        h.expect(h.place(), b"after", after);
        h.expect(h.place(), b"a", None);
        h.check_all(held.place);
        h.put(b"other");
    }
    // Half of an apply is known: that half is skipped, the rest is new.
    h.put_all([b"a", b"b", b"a"]);
    let new = Harness::op(b"a", h.next(), EntryOptions::default());
    h.apply_overlapping(2, vec![new]);
    h.check_all(h.place());
    h.check_all(held.place);
}

pub(super) fn reopen_and_replay(h: &mut Harness) {
    let later = h.now().plus_ms(1000);
    for round in 0..5 {
        h.put(b"in every round");
        h.put(format!("round {round}").as_bytes());
        h.put_with(b"expires", expires(later));
        h.delete(format!("round {}", round / 2).as_bytes());
        if round == 2 {
            h.truncate();
        }
        if !h.reopen() {
            return;
        }
        h.check_all(h.place());
        let held = h.view();
        h.put(b"in every round");
        h.check_all(held.place);
        drop(held);
        if !h.reopen() || !h.reopen() {
            fail("an engine that was reopened once cannot be reopened again");
        }
        h.check_all(h.place());
    }
    h.advance(1000);
    h.expect(h.place(), b"expires", None);
    h.check_all(h.place());
}

pub(super) fn multi_get(h: &mut Harness) {
    let key = |number: u32| number.to_be_bytes();
    h.check_multi_get(h.place(), &[]);
    h.check_multi_get(h.place(), &[b"", b"absent"]);
    h.put_all((0..200).map(key));
    let held = h.view();
    h.put_all((0..200).step_by(3).map(key));
    (0..200).step_by(5).for_each(|number| _ = h.delete(&key(number)));
    h.put_with(&key(1), expires(h.now()));
    let mut numbers: Vec<u32> = (0..250).chain(0..50).collect();
    h.random.shuffle(&mut numbers);
    let keys: Vec<_> = numbers.into_iter().map(key).collect();
    for chunk in [1, 2, 7, 300] {
        for keys in keys.chunks(chunk) {
            let keys: Vec<&[u8]> = keys.iter().map(<[u8; 4]>::as_slice).collect();
            h.check_multi_get(h.place(), &keys);
            h.check_multi_get(held.place, &keys);
        }
    }
}

/// Every pair of ends, at keys that exist and beside them, in every direction and batch size.
pub(super) fn scan_bounds(h: &mut Harness) {
    let there = [b"".as_slice(), b"\0", b"a", b"a\0", b"ab", b"b", b"b\xff", b"c", b"\xff", b"\xff\xff"];
    let absent = [b"\0\0".as_slice(), b"aa", b"d", b"\xff\0"];
    h.put_all(there);
    h.put_all(absent);
    for key in absent {
        h.delete(key);
    }
    let mut ends = vec![Bound::Unbounded];
    for key in there.iter().chain(&absent) {
        ends.extend([Bound::Included(key.to_vec()), Bound::Excluded(key.to_vec())]);
    }
    for start in &ends {
        for end in &ends {
            let range = KeyRange { start: start.clone(), end: end.clone() };
            for direction in DIRECTIONS {
                let size = SIZES[h.random.usize(..SIZES.len())];
                h.check_scan(h.place(), &range, direction, &mut || size);
            }
        }
    }
}

pub(super) fn scan_prefixes(h: &mut Harness) {
    h.put_all([
        b"".as_slice(),
        b"user",
        b"user:",
        b"user:1",
        b"user:2\0",
        b"user:\xff\xff",
        b"user;",
        b"\xff",
        b"\xff\xff\x01",
    ]);
    for prefix in [b"".as_slice(), b"u", b"user:", b"user:\xff", b"user:1", b"\xff", b"\xff\xff", b"none"] {
        for direction in DIRECTIONS {
            for size in SIZES {
                h.check_scan(h.place(), &KeyRange::prefix(prefix), direction, &mut || size);
            }
        }
    }
}

pub(super) fn scan_batches(h: &mut Harness) {
    let key = |number: u32| format!("key {number:04}").into_bytes();
    h.put_all((0..400).map(key));
    (0..400).step_by(4).for_each(|number| _ = h.delete(&key(number)));
    let middle = KeyRange { start: Bound::Included(key(17)), end: Bound::Excluded(key(303)) };
    for range in [KeyRange::all(), middle] {
        for direction in DIRECTIONS {
            for size in SIZES {
                h.check_scan(h.place(), &range, direction, &mut || size);
            }
            // The size may change from batch to batch.
            let mut sizes = SIZES.iter().cycle();
            h.check_scan(h.place(), &range, direction, &mut || *sizes.next().expect("a cycle has no end"));
        }
    }
}

pub(super) fn scans_pass_over_what_is_dead(h: &mut Harness) {
    let key = |number: u32| format!("key {number:04}").into_bytes();
    h.put_all((0..500).map(key));
    let held = h.view();
    let soon = h.now().plus_ms(10);
    for number in 0..500 {
        match number % 100 {
            0 => {}
            1..50 => _ = h.delete(&key(number)),
            _ => _ = h.put_with(&key(number), expires(soon)),
        }
    }
    h.advance(10);
    let dead = KeyRange { start: Bound::Excluded(key(100)), end: Bound::Excluded(key(200)) };
    let check = |h: &Harness| {
        for direction in DIRECTIONS {
            for size in SIZES {
                h.check_scan(h.place(), &KeyRange::all(), direction, &mut || size);
                h.check_scan(h.place(), &dead, direction, &mut || size);
                h.check_scan(held.place, &dead, direction, &mut || size);
            }
        }
    };
    check(h);
    h.truncate();
    h.put_all([key(0), key(499)]);
    check(h);
}

pub(super) fn a_scan_keeps_its_read_point(h: &mut Harness) {
    let key = |number: u32| format!("key {number:04}").into_bytes();
    h.put_all((0..300).step_by(2).map(key));
    let view = h.view();
    let mut scans = Vec::new();
    for direction in DIRECTIONS {
        for size in [SIZES[0], SIZES[1]] {
            let mut scan = h.start_scan(view.place, &KeyRange::all(), direction);
            h.continue_scan(&mut scan, size);
            // And one that has not begun when the writes come.
            scans.push((scan, size));
            scans.push((h.start_scan(view.place, &KeyRange::all(), direction), size));
        }
    }
    for round in 0..30 {
        let from = round * 10;
        h.put_all((from..from + 10).map(key));
        (from..from + 10).step_by(4).for_each(|number| _ = h.delete(&key(number)));
        end_round(h, round, &mut scans);
    }
    finish(h, scans);
    h.check_all(view.place);
    h.check_all(h.place());
}

/// Time passes and a truncation comes, once each; scans go on by a batch.
fn end_round(h: &mut Harness, round: u32, scans: &mut [(OpenScan, BatchSize)]) {
    match round {
        10 => h.advance(100),
        20 => _ = h.truncate(),
        _ => {}
    }
    for (scan, size) in scans {
        h.continue_scan(scan, *size);
    }
}

/// Scans go on to their ends.
fn finish(h: &Harness, scans: Vec<(OpenScan, BatchSize)>) {
    for (mut scan, _) in scans {
        while h.continue_scan(&mut scan, SIZES[2]) == Progress::More {}
    }
}

pub(super) fn a_walk_keeps_its_read_point(h: &mut Harness) {
    let key = |number: u32| format!("key {number:05}").into_bytes();
    h.put_all((0..300).step_by(2).map(key));
    let view = h.view();
    let mut scans = Vec::new();
    for size in [SIZES[0], SIZES[1]] {
        let mut scan = h.start_scan(view.place, &KeyRange::all(), Direction::Forward);
        h.continue_scan(&mut scan, size);
        scans.push((scan, size));
        // And one that has not begun when the writes come.
        scans.push((h.start_scan(view.place, &KeyRange::all(), Direction::Forward), size));
    }
    // Ten times as many keys: whatever holds them grows under the walks.
    for round in 0..30 {
        let from = round * 100;
        h.put_all((from..from + 100).map(key));
        let deletes =
            (from..from + 100).step_by(4).map(|number| Harness::op_of(&key(number), Entry::delete()));
        h.apply(deletes.collect());
        end_round(h, round, &mut scans);
    }
    finish(h, scans);
    for size in SIZES {
        h.check_scan(h.place(), &KeyRange::all(), Direction::Forward, &mut || size);
    }
}

pub(super) fn scans_by_order_are_refused(h: &mut Harness) {
    h.put(b"a");
    let bounded =
        [KeyRange::prefix(b"a"), KeyRange::from(b"a"..), KeyRange::from(..b"z"), KeyRange::from(b"a"..b"z")];
    let in_reverse = (KeyRange::all(), Direction::Reverse);
    let refused = bounded.into_iter().map(|range| (range, Direction::Forward)).chain([in_reverse]);
    for (range, direction) in refused {
        let kind = h.scan_error(range, direction).map(|error| error.kind());
        assert_eq!(
            kind,
            Some(ErrorKind::Invalid),
            "an engine without order refuses what needs one as `Invalid`"
        );
    }
    h.check_all(h.place());
}

pub(super) fn changes_since_a_read(h: &mut Harness) {
    let all = KeyRange::all();
    for key in [b"kept", b"over", b"gone"] {
        h.put(key);
    }
    let view = h.view();
    for key in [b"kept".as_slice(), b"over", b"gone", b"new", b"back"] {
        h.check_changed(view.place, key, &all);
    }
    h.put(b"other");
    h.put(b"over");
    h.delete(b"gone");
    h.put(b"new");
    h.put(b"back");
    h.delete(b"back");
    for _ in 0..40 {
        // Older and newer versions come into tables together, and are merged.
        h.put_all((0..20_u8).map(|number| [b'z', number]));
        for key in [b"kept".as_slice(), b"over", b"gone", b"new", b"back"] {
            h.check_changed(view.place, key, &all);
            h.check_changed(h.place(), key, &all);
        }
    }
    let before = h.view();
    h.truncate();
    for view in [&view, &before] {
        h.check_changed(view.place, b"kept", &all);
    }
}

pub(super) fn changes_of_ranges_since_a_read(h: &mut Harness) {
    let ranges =
        [KeyRange::from(b"b"..b"d"), KeyRange::from(b"x"..), KeyRange::from(..b"b"), KeyRange::prefix(b"c")];
    let check = |h: &Harness, place| {
        for range in &ranges {
            for key in [b"a", b"c", b"x"] {
                h.check_changed(place, key, range);
            }
        }
    };
    for key in [b"a", b"c", b"f", b"x"] {
        h.put(key);
    }
    let first = h.view();
    // Beside the ranges, then into them.
    h.put(b"f");
    h.delete_range(b"e"..b"g");
    for _ in 0..10 {
        h.put_all((0..20_u8).map(|number| [b'n', number]));
        check(h, first.place);
    }
    let second = h.view();
    h.put(b"cc");
    h.delete_range(b"x"..b"y");
    for _ in 0..10 {
        h.put_all((0..20_u8).map(|number| [b'n', number]));
        for view in [&first, &second] {
            check(h, view.place);
        }
    }
}
