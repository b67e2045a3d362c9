//! Random operations against the model, with views and cursors held for a while.

use std::ops::Bound;

use pugdb_core::engine::{BatchSize, Direction, KeyRange, Operands, Scans};
use pugdb_core::{Entry, EntryOptions, Seqno, Timestamp};

use super::harness::{Harness, OpenScan, Place, Progress, View, Write};

/// How many steps a run has; most of them are a batch of several operations.
const STEPS: usize = 1500;
/// Everything is compared after so many steps.
const CHECK_EVERY: usize = 100;
const VIEWS_MAX: usize = 6;
const SCANS_MAX: usize = 4;
/// So that all steps together stay below the span of a check.
const ADVANCE_MS_LIMIT: u64 = 200;

struct Walk<'a> {
    h: &'a mut Harness,
    keys: Vec<Vec<u8>>,
    views: Vec<View>,
    /// Each with the view that keeps its read point.
    scans: Vec<(OpenScan, View)>,
}

pub(super) fn random_operations(h: &mut Harness) {
    let keys = keys(&mut h.random);
    let mut walk = Walk { h, keys, views: Vec::new(), scans: Vec::new() };
    for step in 1..=STEPS {
        walk.step();
        if step % CHECK_EVERY == 0 {
            walk.check();
        }
    }
    walk.finish();
}

/// Short keys over few letters, so that many share prefixes and the extremes are among them.
fn keys(random: &mut fastrand::Rng) -> Vec<Vec<u8>> {
    let letters = [0, 1, b'a', b'b', 0xfe, 0xff];
    let mut key = || (0..random.usize(..5)).map(|_| letters[random.usize(..letters.len())]).collect();
    let mut keys: Vec<Vec<u8>> = (0..250).map(|_| key()).collect();
    keys.push(vec![b'a'; 3000]);
    keys
}

impl Walk<'_> {
    fn step(&mut self) {
        match self.h.random.u32(..1000) {
            0..500 => self.write(),
            500..506 => _ = self.h.truncate(),
            506..520 => {
                let gap = 1 << self.h.random.u32(..12);
                self.h.skip(gap);
            }
            520..550 => {
                let steps = self.h.steps();
                let from = self.h.random.usize(..=steps);
                let to = self.h.random.usize(from..=steps.min(from + 50));
                self.h.replay(from..to);
            }
            550..600 => {
                let milliseconds = self.h.random.u64(1..ADVANCE_MS_LIMIT);
                self.h.advance(milliseconds);
            }
            600..650 if self.views.len() < VIEWS_MAX => self.views.push(self.h.view()),
            650..700 if !self.views.is_empty() => {
                let index = self.h.random.usize(..self.views.len());
                self.views.swap_remove(index);
            }
            700..740 => self.open_scan(),
            740..850 => self.continue_scan(),
            850..855 => self.reopen(),
            _ => self.read(),
        }
    }

    fn write(&mut self) {
        let (first, now) = (self.h.next(), self.h.now());
        let count = self.h.random.u64(1..=8);
        let writes = (0..count).map(|offset| self.op(first.plus(offset), now)).collect();
        self.h.apply_all(writes);
    }

    fn op(&mut self, seqno: Seqno, now: Timestamp) -> Write {
        if self.h.scans() == Scans::Ordered && self.h.random.u8(..12) == 0 {
            let range = self.short_range();
            if let Some(write) = Write::delete_range(&range) {
                return write;
            }
        }
        let key = self.key();
        if self.h.operands() == Operands::Folded && self.h.random.u8(..3) == 0 {
            let most = if self.h.random.u8(..20) == 0 { 300 } else { 12 };
            let length = self.h.random.usize(..most);
            return Write::Entry(Harness::operand_op(&key, seqno, length));
        }
        let random = &mut self.h.random;
        if random.u8(..5) == 0 {
            return Write::Entry(Harness::op_of(&key, Entry::delete()));
        }
        // Some already expired, most a while from now.
        let expires_at = (random.u8(..5) == 0).then(|| Timestamp(now.0 - 100).plus_ms(random.u64(..3000)));
        let meta = if random.bool() { random.u8(..) } else { 0 };
        Write::Entry(Harness::op(&key, seqno, EntryOptions { expires_at, meta, seal: None }))
    }

    fn key(&mut self) -> Vec<u8> {
        let index = self.h.random.usize(..self.keys.len());
        self.keys[index].clone()
    }

    /// Now, or one of the views.
    fn place(&mut self) -> Place {
        match self.h.random.usize(..=self.views.len()) {
            0 => self.h.place(),
            index => self.views[index - 1].place,
        }
    }

    fn read(&mut self) {
        let place = self.place();
        let count = self.h.random.usize(..12);
        let keys: Vec<_> = (0..count).map(|_| self.key()).collect();
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        for key in &keys {
            self.h.check_get(place, key);
        }
        self.h.check_multi_get(place, &keys);
        let (range, direction, size) = (self.range(), self.direction(), self.size());
        self.h.check_scan(place, &range, direction, &mut || size);
        self.h.check_count(place, &range);
        let key = self.key();
        self.h.check_changed(place, &key, &range);
    }

    fn open_scan(&mut self) {
        if self.scans.len() == SCANS_MAX {
            return;
        }
        let view = match self.h.random.usize(..=self.views.len()) {
            0 => self.h.view(),
            index => self.views[index - 1].clone(),
        };
        let (range, direction) = (self.range(), self.direction());
        let scan = self.h.start_scan(view.place, &range, direction);
        self.scans.push((scan, view));
    }

    fn continue_scan(&mut self) {
        if self.scans.is_empty() {
            return;
        }
        let (index, size) = (self.h.random.usize(..self.scans.len()), self.size());
        if self.h.continue_scan(&mut self.scans[index].0, size) == Progress::Over {
            self.scans.swap_remove(index);
        }
    }

    fn reopen(&mut self) {
        self.scans.clear();
        self.views.clear();
        if self.h.reopen() {
            self.h.check_all(self.h.place());
        }
    }

    fn range(&mut self) -> KeyRange {
        if self.h.scans() == Scans::Unordered {
            return KeyRange::all();
        }
        if self.h.random.u8(..5) == 0 {
            return KeyRange::prefix(&self.key());
        }
        KeyRange { start: self.bound(), end: self.bound() }
    }

    /// Mostly a small part of all keys, so that something is there to be deleted the next time.
    fn short_range(&mut self) -> KeyRange {
        let key = self.key();
        match self.h.random.u8(..8) {
            0 => self.range(),
            1..5 => KeyRange::prefix(&key),
            _ => {
                let mut sorted = self.keys.clone();
                sorted.sort_unstable();
                let from = sorted.partition_point(|other| *other < key);
                let to = (from + self.h.random.usize(1..20)).min(sorted.len() - 1);
                KeyRange::from(sorted[from].as_slice()..sorted[to].as_slice())
            }
        }
    }

    fn bound(&mut self) -> Bound<Vec<u8>> {
        match self.h.random.u8(..4) {
            0 => Bound::Unbounded,
            1 => Bound::Excluded(self.key()),
            _ => Bound::Included(self.key()),
        }
    }

    fn direction(&mut self) -> Direction {
        let is_forward = self.h.scans() == Scans::Unordered || self.h.random.bool();
        if is_forward { Direction::Forward } else { Direction::Reverse }
    }

    fn size(&mut self) -> BatchSize {
        let random = &mut self.h.random;
        BatchSize {
            entries: random.usize(1..40),
            bytes: if random.bool() { 1 << 20 } else { random.usize(1..200) },
        }
    }

    fn check(&mut self) {
        self.h.check_all(self.h.place());
        let place = self.place();
        self.h.check_all(place);
    }

    fn finish(mut self) {
        while !self.scans.is_empty() {
            self.continue_scan();
        }
        while let Some(view) = self.views.pop() {
            self.h.check_all(view.place);
        }
        self.write();
        self.h.check_all(self.h.place());
    }
}
