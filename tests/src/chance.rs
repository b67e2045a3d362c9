//! What is random in a test of a whole database: keys, values, ranges. The same seed always draws the same.

use std::ops::Bound;

use fastrand::Rng;
use pugdb_core::engine::{Direction, KeyRange};

/// What a scan is asked for.
#[derive(Clone, Debug)]
pub struct Question {
    /// The keys.
    pub range: KeyRange,
    /// From which end.
    pub direction: Direction,
    /// After how many it ends.
    pub limit: Option<usize>,
}

/// Draws from one seed, over keys that were drawn first.
pub struct Chance {
    /// For everything that is drawn elsewhere.
    pub random: Rng,
    keys: Vec<Vec<u8>>,
    values: u64,
}

impl Chance {
    /// The chances of this seed.
    pub fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let keys = keys(&mut random);
        Self { random, keys, values: 0 }
    }

    /// One of about 180 keys.
    pub fn key(&mut self) -> Vec<u8> {
        self.keys[self.random.usize(..self.keys.len())].clone()
    }

    /// A value that was never written before: an old one in its place is noticed.
    pub fn value(&mut self) -> Vec<u8> {
        self.values += 1;
        let random = &mut self.random;
        let length = match random.u8(..100) {
            0 => random.usize(..20_000),
            1..10 => random.usize(..2000),
            _ => random.usize(..60),
        };
        let mut value = format!("canary-value {} ", self.values).into_bytes();
        value.extend((0..length).map(|_| random.u8(..)));
        value
    }

    /// A user's byte, zero as often as not.
    pub fn meta(&mut self) -> u8 {
        if self.random.bool() { self.random.u8(..) } else { 0 }
    }

    /// An operand that was never written before. Some are long, most are not: values grow with each.
    pub fn operand(&mut self) -> Vec<u8> {
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
    pub fn short_range(&mut self) -> KeyRange {
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

    /// What a scan could be asked.
    pub fn question(&mut self) -> Question {
        let direction = if self.random.bool() { Direction::Forward } else { Direction::Reverse };
        let limit = self.random.bool().then(|| self.random.usize(..30));
        Question { range: self.range(), direction, limit }
    }
}

/// Short keys over few letters, so that many share prefixes and the extremes are among them, and some that can be
/// found in a file.
fn keys(random: &mut Rng) -> Vec<Vec<u8>> {
    let letters = [0, 1, b'a', b'b', 0xfe, 0xff];
    let mut short = || (0..random.usize(..4)).map(|_| letters[random.usize(..letters.len())]).collect();
    let mut keys: Vec<Vec<u8>> = (0..120).map(|_| short()).collect();
    keys.extend((0..60).map(|number| format!("canary-key {number:03}").into_bytes()));
    keys.push(vec![b'a'; 3000]);
    keys
}
