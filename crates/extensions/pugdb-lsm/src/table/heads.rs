//! Eight bytes of each of many sorted keys, side by side: a search looks at a few cache lines of them, and at one key.

use std::cmp::Ordering;
use std::ops::Range;

/// For keys in ascending order: what follows the part that all of them begin with, as numbers in the same order.
///
/// Keys of one keyspace often begin alike, and those of one block even more so.
#[derive(Debug)]
pub(super) struct Heads {
    prefix: Box<[u8]>,
    heads: Box<[u64]>,
}

impl Heads {
    /// Of at least one key.
    pub(super) fn new<'a>(first: &[u8], last: &[u8], keys: impl Iterator<Item = &'a [u8]>) -> Self {
        let common = first.iter().zip(last).take_while(|(one, other)| one == other).count();
        let heads = keys.map(|key| head_of(key.get(common..).unwrap_or_default())).collect();
        Self { prefix: first[..common].into(), heads }
    }

    /// The keys that may equal `key`: all before them are smaller, all behind them larger.
    pub(super) fn near(&self, key: &[u8]) -> Range<usize> {
        let (begin, rest) = key.split_at(self.prefix.len().min(key.len()));
        match begin.cmp(&self.prefix) {
            Ordering::Less => return 0..0,
            Ordering::Greater => return self.heads.len()..self.heads.len(),
            Ordering::Equal => {}
        }
        let head = head_of(rest);
        let start = self.heads.partition_point(|&other| other < head);
        let same = self.heads[start..].iter().take_while(|&&other| other == head).count();
        start..start + same
    }

    /// What it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.prefix.len() + size_of_val(&*self.heads)
    }
}

/// The first eight bytes as a number in the same order. Zeros stand for missing bytes, so equal heads say nothing yet.
pub(crate) fn head_of(key: &[u8]) -> u64 {
    if let Some(head) = key.first_chunk::<8>() {
        return u64::from_be_bytes(*head);
    }
    let mut head = [0; 8];
    head[..key.len()].copy_from_slice(key);
    u64::from_be_bytes(head)
}

/// [`head_of`] the `length` bytes at `start`, which need not be looked at one by one when eight are there.
pub(super) fn head_at(bytes: &[u8], start: usize, length: usize) -> u64 {
    match bytes.get(start..).and_then(<[u8]>::first_chunk::<8>) {
        Some(_) if length == 0 => 0,
        Some(head) => u64::from_be_bytes(*head) & u64::MAX << (64 - 8 * length.min(8)),
        None => head_of(bytes.get(start..start + length).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_holds_every_equal_key_and_parts_the_others() {
        let mut random = fastrand::Rng::with_seed(1);
        for round in 0..500 {
            let begin: &[u8] = [&b""[..], b"a", b"user0000", b"a long beginning of all keys"][round % 4];
            let key = |random: &mut fastrand::Rng| {
                let tail = (0..random.usize(..12)).map(|_| [0, 1, 255][random.usize(..3)]);
                begin.iter().copied().chain(tail).collect::<Vec<u8>>()
            };
            let mut keys: Vec<Vec<u8>> = (0..random.usize(1..60)).map(|_| key(&mut random)).collect();
            keys.sort();
            let heads = Heads::new(&keys[0], &keys[keys.len() - 1], keys.iter().map(Vec::as_slice));
            let others = [b"".to_vec(), b"a".to_vec(), b"user0001".to_vec(), b"user".to_vec(), vec![255; 40]];
            let others = others.into_iter().chain((0..50).map(|_| key(&mut random)));
            for wanted in others.chain(keys.clone()) {
                let near = heads.near(&wanted);
                assert!(keys[..near.start].iter().all(|key| *key < wanted), "round {round}");
                assert!(keys[near.end..].iter().all(|key| *key > wanted), "round {round}");
            }
        }
    }
}
