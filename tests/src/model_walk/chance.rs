//! What is random: keys, values, ranges.

use std::ops::Bound;

use fastrand::Rng;
use pugdb::Timestamp;
use pugdb_core::engine::{Direction, KeyRange};
use pugdb_sim::ModelEntry;

use super::Walk;
use super::reads::Question;

impl Walk {
    pub(super) fn key(&mut self) -> Vec<u8> {
        self.keys[self.random.usize(..self.keys.len())].clone()
    }

    /// A value that was never written before: an old one in its place is noticed.
    pub(super) fn entry(&mut self) -> ModelEntry {
        self.values += 1;
        let random = &mut self.random;
        let length = match random.u8(..100) {
            0 => random.usize(..20_000),
            1..10 => random.usize(..2000),
            _ => random.usize(..60),
        };
        let mut value = format!("canary-value {} ", self.values).into_bytes();
        value.extend((0..length).map(|_| random.u8(..)));
        let expires_at = match random.u8(..20) {
            0..6 => Some(Timestamp(self.time.0 - 50).plus_ms(random.u64(..2000))),
            6 => Some(self.time.plus_ms(random.u64(..40_000_000_000))),
            _ => None,
        };
        ModelEntry { value, expires_at, meta: if random.bool() { random.u8(..) } else { 0 } }
    }

    /// An operand that was never written before. Some are long, most are not: values grow with each.
    pub(super) fn operand(&mut self) -> Vec<u8> {
        self.values += 1;
        let random = &mut self.random;
        let length = if random.u8(..30) == 0 { random.usize(..3000) } else { random.usize(..20) };
        let mut operand = format!("canary-value {} ", self.values).into_bytes();
        operand.extend((0..length).map(|_| random.u8(..)));
        operand
    }

    fn range(&mut self) -> KeyRange {
        let (first, second) = (self.key(), self.key());
        match self.random.u8(..8) {
            0 => KeyRange::all(),
            1 => KeyRange::prefix(&first[..first.len().min(1)]),
            2 => KeyRange::prefix(&first),
            3 => KeyRange::from(first.as_slice()..),
            4 => KeyRange::from(..=first.as_slice()),
            5 => KeyRange { start: Bound::Excluded(first), end: Bound::Included(second) },
            // Now and then the ends are the wrong way round.
            _ => KeyRange::from(first.as_slice()..second.as_slice()),
        }
    }

    /// Mostly few keys, so that something is there to be deleted the next time.
    pub(super) fn short_range(&mut self) -> KeyRange {
        let key = self.key();
        match self.random.u8(..10) {
            0 => self.range(),
            1..5 if !key.is_empty() => KeyRange::prefix(&key),
            _ => {
                let mut sorted = self.keys.clone();
                sorted.sort_unstable();
                let from = sorted.partition_point(|other| *other < key);
                let to = (from + self.random.usize(..8)).min(sorted.len() - 1);
                KeyRange::from(sorted[from].as_slice()..=sorted[to].as_slice())
            }
        }
    }

    pub(super) fn question(&mut self) -> Question {
        let direction = if self.random.bool() { Direction::Forward } else { Direction::Reverse };
        let limit = self.random.bool().then(|| self.random.usize(..30));
        Question { range: self.range(), direction, limit }
    }
}

/// Short keys over few letters, so that many share prefixes and the extremes are among them, and some that can be
/// found in a file.
pub(super) fn keys(random: &mut Rng) -> Vec<Vec<u8>> {
    let letters = [0, 1, b'a', b'b', 0xfe, 0xff];
    let mut short = || (0..random.usize(..4)).map(|_| letters[random.usize(..letters.len())]).collect();
    let mut keys: Vec<Vec<u8>> = (0..120).map(|_| short()).collect();
    keys.extend((0..60).map(|number| format!("canary-key {number:03}").into_bytes()));
    keys.push(vec![b'a'; 3000]);
    keys
}
