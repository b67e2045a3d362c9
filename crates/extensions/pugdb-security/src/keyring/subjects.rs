//! The keys of subjects: the leaves of one tree, of which a keyring keeps what is left. Why, and what an erasure costs, is in
//! `docs/adr/0050-erasure.md`.
//!
//! ```text
//!            root                 without leaf 5 (101):       .
//!       0 ───┴─── 1                                      0 ───┴─── .
//!     ┌─┴─┐     ┌─┴─┐                                  kept      ┌─┴─┐
//!     .   .     .   .                                            .   11 kept
//!   000 ... 011 100 ... 111                                   100 kept
//! ```
//!
//! Goldreich, Goldwasser and Micali, "How to construct random functions", 1986. The depth is 64 here.

use std::collections::{BTreeMap, BTreeSet};

use pugdb_core::SealId;
use pugdb_core::coding::{Reader, put_varint};
use pugdb_core::env::Random;
use pugdb_core::{Error, Result};
use zeroize::Zeroizing;

use crate::derive::tree_child;
use crate::secret::{KEY_BYTES, Secret};

/// Bits of a leaf's number.
const DEPTH: u8 = 64;
/// What an erasure takes in the keyring at most: its number, and a node for each bit of it.
pub(crate) const ERASURE_BYTES_MAX: usize = 8 + KEY_BYTES * DEPTH as usize;

/// All subjects' keys but those that were erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SubjectKeys {
    erased: BTreeSet<u64>,
    /// The roots of the largest trees without an erased leaf, by the first leaf of each.
    nodes: BTreeMap<u64, Node>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    /// How many bits its leaves have in common.
    depth: u8,
    secret: Secret,
}

/// How the last leaf differs from the first at most, below a node.
fn leaves_behind(depth: u8) -> u64 {
    u64::MAX.checked_shr(depth.into()).unwrap_or(0)
}

/// The first leaf of the two nodes below: one with the leaf `id` and one without.
fn halves(id: u64, depth: u8) -> (u64, u64) {
    let half = (leaves_behind(depth) >> 1) + 1;
    let start = id & !(half - 1);
    (start, start ^ half)
}

fn bit(id: u64, depth: u8) -> u8 {
    u8::from(id & ((leaves_behind(depth) >> 1) + 1) != 0)
}

impl SubjectKeys {
    pub(crate) fn new(random: &dyn Random) -> Self {
        let root = Node { depth: 0, secret: Secret::random(random) };
        Self { erased: BTreeSet::new(), nodes: BTreeMap::from([(0, root)]) }
    }

    /// The key of a subject; `None` when it was erased.
    pub(crate) fn leaf(&self, SealId(id): SealId) -> Option<Secret> {
        let (&start, node) = self.nodes.range(..=id).next_back()?;
        if id - start > leaves_behind(node.depth) {
            return None;
        }
        let mut secret = Zeroizing::new(*node.secret.expose());
        for depth in node.depth..DEPTH {
            tree_child(&mut secret, bit(id, depth));
        }
        Some(Secret::copy(&secret))
    }

    /// Destroys the key of a subject, and no other. False when it was erased before.
    pub(crate) fn erase(&mut self, SealId(id): SealId) -> bool {
        if !self.erased.insert(id) {
            return false;
        }
        let (&start, _) = self.nodes.range(..=id).next_back().expect("what is not erased has a node");
        let node = self.nodes.remove(&start).expect("it was just found");
        let mut secret = Zeroizing::new(*node.secret.expose());
        for depth in node.depth..DEPTH {
            let (_, beside) = halves(id, depth);
            let mut kept = secret.clone();
            tree_child(&mut kept, 1 - bit(id, depth));
            self.nodes.insert(beside, Node { depth: depth + 1, secret: Secret::copy(&kept) });
            tree_child(&mut secret, bit(id, depth));
        }
        true
    }

    pub(crate) fn is_erased(&self, SealId(id): SealId) -> bool {
        self.erased.contains(&id)
    }

    /// The subjects that were erased.
    pub(crate) fn erased(&self) -> impl ExactSizeIterator<Item = SealId> {
        self.erased.iter().copied().map(SealId)
    }

    /// How long [`encode`](Self::encode) makes it.
    pub(crate) fn encoded_bytes(&self) -> usize {
        10 + self.erased.len() * 8 + self.nodes.len() * KEY_BYTES
    }

    /// Which nodes there are follows from what was erased: only the secrets stand there, in order.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.erased.len() as u64);
        for id in &self.erased {
            out.extend_from_slice(&id.to_le_bytes());
        }
        for node in self.nodes.values() {
            out.extend_from_slice(node.secret.expose());
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let mut erased = Vec::new();
        for _ in 0..reader.length()? {
            erased.push(reader.u64()?);
        }
        if !erased.is_sorted_by(|one, next| one < next) {
            return Err(Error::corrupt("the keyring names erased subjects out of order"));
        }
        let mut places = Vec::new();
        cover(&erased, 0, 0, &mut places);
        let mut nodes = BTreeMap::new();
        for (start, depth) in places {
            let bytes = reader.take(KEY_BYTES)?;
            let secret = Secret::fill(|secret| secret.copy_from_slice(bytes));
            nodes.insert(start, Node { depth, secret });
        }
        Ok(Self { erased: erased.into_iter().collect(), nodes })
    }
}

/// The largest trees below a node that have none of the leaves `erased`, which are all below it.
fn cover(erased: &[u64], start: u64, depth: u8, places: &mut Vec<(u64, u8)>) {
    if erased.is_empty() {
        places.push((start, depth));
    } else if depth < DEPTH {
        let (_, second) = halves(start, depth);
        let (left, right) = erased.split_at(erased.partition_point(|id| *id < second));
        cover(left, start, depth + 1, places);
        cover(right, second, depth + 1, places);
    }
}

#[cfg(test)]
mod tests {
    use pugdb_core::env::os::OsRandom;

    use super::*;

    fn some_ids() -> Vec<u64> {
        let mut ids = vec![0, 1, 2, 3, u64::MAX, u64::MAX - 1, 1 << 63, (1 << 63) - 1];
        let mut number = 1815_u64;
        for _ in 0..200 {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ids.push(number);
        }
        ids
    }

    #[test]
    fn an_erased_key_is_gone_and_each_other_one_is_what_it_was() {
        let mut keys = SubjectKeys::new(&OsRandom);
        let ids = some_ids();
        let before: Vec<Secret> = ids.iter().map(|id| keys.leaf(SealId(*id)).unwrap()).collect();
        assert!((1..before.len()).all(|at| before[at] != before[at - 1]));
        for (at, &id) in ids.iter().enumerate() {
            assert!(keys.erase(SealId(id)) && !keys.erase(SealId(id)));
            for (number, (other, secret)) in ids.iter().zip(&before).enumerate() {
                let expected = (number > at).then_some(secret);
                assert_eq!(keys.leaf(SealId(*other)).as_ref(), expected, "{at} {number}");
            }
            // A neighbour that nobody has used yet.
            assert!(ids.contains(&(id ^ 1)) || keys.leaf(SealId(id ^ 1)).is_some());
        }
        assert_eq!(keys.erased().len(), ids.len());
    }

    #[test]
    fn nothing_of_the_way_to_an_erased_key_is_kept() {
        let mut keys = SubjectKeys::new(&OsRandom);
        let id = 0xa5a5_0000_ffff_1234;
        let mut way = vec![keys.nodes[&0].secret.clone()];
        for depth in 0..DEPTH {
            let mut secret = Zeroizing::new(*way.last().unwrap().expose());
            tree_child(&mut secret, bit(id, depth));
            way.push(Secret::copy(&secret));
        }
        assert_eq!(way.last(), keys.leaf(SealId(id)).as_ref());
        keys.erase(SealId(id));
        let mut bytes = Vec::new();
        keys.encode(&mut bytes);
        assert!(bytes.len() <= keys.encoded_bytes() && bytes.len() <= 1 + ERASURE_BYTES_MAX);
        assert!(!way.iter().any(|secret| bytes.windows(KEY_BYTES).any(|window| window == secret.expose())));
    }

    #[test]
    fn they_are_read_as_they_were_written_and_nothing_else_is() {
        let mut keys = SubjectKeys::new(&OsRandom);
        for id in [None, Some(7), Some(6), Some(u64::MAX), Some(1 << 40)] {
            id.map(|id| keys.erase(SealId(id)));
            let mut bytes = Vec::new();
            keys.encode(&mut bytes);
            assert_eq!(SubjectKeys::decode(&mut Reader::new(&bytes)).unwrap(), keys);
            for length in 0..bytes.len() {
                assert!(SubjectKeys::decode(&mut Reader::new(&bytes[..length])).is_err());
            }
        }
        for wrong in [[7_u64, 7], [7, 6]] {
            let mut bytes = vec![2];
            bytes.extend(wrong.iter().flat_map(|id| id.to_le_bytes()));
            bytes.resize(1 << 16, 1);
            assert!(SubjectKeys::decode(&mut Reader::new(&bytes)).is_err());
        }
    }

    #[test]
    fn a_thousand_erasures_take_what_the_decision_says() {
        let mut keys = SubjectKeys::new(&OsRandom);
        for _ in 0..1000 {
            let mut id = [0; 8];
            OsRandom.fill(&mut id);
            keys.erase(SealId(u64::from_le_bytes(id)));
        }
        let each = keys.encoded_bytes() / 1000;
        assert!((1600..1900).contains(&each), "{each}");
    }
}
