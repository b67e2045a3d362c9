//! A Merkle tree over the chain's hashes, as RFC 6962 and RFC 9162 have it: SHA-256, leaves and nodes told apart by their first byte.
//!
//! Only the roots of full subtrees are kept ([`Frontier`]), 64 at most. What a proof needs beside is gathered by reading the log once ([`Gather`]).

use pugdb_core::{Error, Result};
use ring::digest::{Context, SHA256, digest};

/// A hash in the tree.
pub type TreeHash = [u8; 32];

/// What a leaf counts as.
pub fn leaf(content: &[u8]) -> TreeHash {
    hash(&[&[0], content])
}

fn node(left: &TreeHash, right: &TreeHash) -> TreeHash {
    hash(&[&[1], left, right])
}

fn hash(parts: &[&[u8]]) -> TreeHash {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// A tree that grows at its end: its size, and the roots of its full subtrees, the largest first. There is one for each bit of the size.
///
/// ```
/// use pugdb_security::audit::{Frontier, leaf};
///
/// let mut tree = Frontier::default();
/// tree.push(leaf(b"one"));
/// let before = tree.root();
/// tree.push(leaf(b"two"));
/// assert_eq!((tree.size(), tree.roots().len()), (2, 1));
/// assert_ne!(tree.root(), before);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    roots: Vec<TreeHash>,
}

impl Frontier {
    /// A tree of so many leaves from the roots of its full subtrees.
    ///
    /// # Errors
    /// `Corrupt` when there are more or fewer than such a tree has.
    pub fn from_parts(size: u64, roots: Vec<TreeHash>) -> Result<Self> {
        if roots.len() == size.count_ones() as usize {
            return Ok(Self { size, roots });
        }
        Err(Error::corrupt("a tree of the audit log has another number of roots than its size says"))
    }

    /// How many leaves it has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots of its full subtrees, the largest first.
    pub fn roots(&self) -> &[TreeHash] {
        &self.roots
    }

    /// Adds a leaf.
    pub fn push(&mut self, leaf: TreeHash) {
        self.push_tree(0, leaf);
    }

    /// Adds a full subtree of `2^height` leaves, where the tree has a place for one.
    fn push_tree(&mut self, height: u32, root: TreeHash) {
        let mut joined = root;
        for _ in 0..(self.size >> height).trailing_ones() {
            let left = self.roots.pop().expect("there is a root for each bit of the size");
            joined = node(&left, &joined);
        }
        self.roots.push(joined);
        self.size += 1 << height;
    }

    /// The hash of the whole tree.
    pub fn root(&self) -> TreeHash {
        let mut roots = self.roots.iter().rev();
        let Some(last) = roots.next() else {
            return digest(&SHA256, b"").as_ref().try_into().expect("SHA-256 has 32 bytes");
        };
        roots.fold(*last, |right, left| node(left, &right))
    }

    /// The full subtrees: where each begins, its height, its root.
    fn pieces(&self) -> impl Iterator<Item = (u64, u32, &TreeHash)> {
        let heights = (0..u64::BITS).rev().filter(|height| self.size >> height & 1 == 1);
        heights.zip(&self.roots).scan(0, |start, (height, root)| {
            let at = *start;
            *start += 1 << height;
            Some((at, height, root))
        })
    }
}

/// The leaves from `start` to before `end`, of which a proof needs the hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first leaf, from 0.
    pub start: u64,
    /// Behind the last one.
    pub end: u64,
}

/// The largest power of two below `count`, which is at least 2.
fn split(count: u64) -> u64 {
    1 << (u64::BITS - 1 - (count - 1).leading_zeros())
}

/// What shows that leaf `index` is in a tree of `size` leaves, in the order of the proof. `index` is below `size`.
pub fn inclusion_spans(index: u64, size: u64) -> Vec<Span> {
    let (mut start, mut end) = (0, size);
    let mut spans = Vec::new();
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            spans.push(Span { start: middle, end });
            end = middle;
        } else {
            spans.push(Span { start, end: middle });
            start = middle;
        }
    }
    spans.reverse();
    spans
}

/// What shows that a tree of `second` leaves begins with one of `first` leaves, in the order of the proof. `first` is at most `second`.
pub fn consistency_spans(first: u64, second: u64) -> Vec<Span> {
    let (mut start, mut end, mut is_whole) = (0, second, true);
    let mut spans = Vec::new();
    if first == 0 {
        return spans;
    }
    while first < end {
        let middle = start + split(end - start);
        if first <= middle {
            spans.push(Span { start: middle, end });
            end = middle;
        } else {
            spans.push(Span { start, end: middle });
            (start, is_whole) = (middle, false);
        }
    }
    if !is_whole {
        spans.push(Span { start, end });
    }
    spans.reverse();
    spans
}

/// Makes the hashes of several spans while the leaves pass by, in order.
pub struct Gather {
    spans: Vec<(Span, Frontier)>,
    /// Places in `spans`, by where they begin.
    order: Vec<usize>,
    /// The first in `order` that is not complete.
    at: usize,
}

impl Gather {
    /// For spans that do not overlap. `before` are the leaves that will not pass by.
    ///
    /// # Errors
    /// `NotFound` when a span needs one of these leaves by itself.
    pub fn new(spans: &[Span], before: &Frontier) -> Result<Self> {
        let mut spans: Vec<_> = spans.iter().map(|span| (*span, Frontier::default())).collect();
        for (start, height, root) in before.pieces() {
            let end = start + (1 << height);
            for (span, tree) in &mut spans {
                if span.start <= start && end <= span.end {
                    tree.push_tree(height, *root);
                } else if span.start < end && start < span.end {
                    return Err(Error::not_found(
                        "the proof needs records that were removed from the audit log; prove a later one, or from a copy",
                    ));
                }
            }
        }
        let mut order: Vec<usize> = (0..spans.len()).collect();
        order.sort_by_key(|&place| spans[place].0.start);
        Ok(Self { spans, order, at: 0 })
    }

    /// The next leaf passes by.
    pub fn push(&mut self, index: u64, leaf: TreeHash) {
        while let Some(&place) = self.order.get(self.at) {
            let (span, tree) = &mut self.spans[place];
            if index < span.end {
                if span.start <= index {
                    tree.push(leaf);
                }
                return;
            }
            self.at += 1;
        }
    }

    /// The hashes, in the order in which the spans were given.
    ///
    /// # Errors
    /// `NotFound` when leaves are missing.
    pub fn finish(self) -> Result<Vec<TreeHash>> {
        let hash = |(span, tree): (Span, Frontier)| {
            if tree.size() == span.end - span.start {
                return Ok(tree.root());
            }
            Err(Error::not_found("the audit log is shorter than the checkpoint that the proof is for"))
        };
        self.spans.into_iter().map(hash).collect()
    }
}

/// True when `path` shows that `leaf` stands at `index` in the tree of `size` leaves with this root (RFC 9162, 2.1.3.2).
pub(crate) fn is_included(index: u64, size: u64, leaf: TreeHash, path: &[TreeHash], root: &TreeHash) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, leaf);
    for other in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node(other, &hash);
            skip_lonely(&mut at, &mut last);
        } else {
            hash = node(&hash, other);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && hash == *root
}

/// Levels on which a left end has no neighbour.
fn skip_lonely(at: &mut u64, last: &mut u64) {
    while *at & 1 == 0 && *at != 0 {
        (*at, *last) = (*at >> 1, *last >> 1);
    }
}

/// True when `path` shows that the tree `second` begins with the tree `first`, each a size and a root (RFC 9162, 2.1.4.2).
pub(crate) fn is_consistent(first: (u64, &TreeHash), second: (u64, &TreeHash), path: &[TreeHash]) -> bool {
    if first.0 == second.0 {
        return path.is_empty() && first.1 == second.1;
    }
    if first.0 == 0 {
        return path.is_empty() && *first.1 == Frontier::default().root();
    }
    if first.0 > second.0 {
        return false;
    }
    let mut path = path.iter();
    let begin = if first.0.is_power_of_two() { Some(first.1) } else { path.next() };
    let Some(begin) = begin else { return false };
    let (mut at, mut last) = (first.0 - 1, second.0 - 1);
    while at & 1 == 1 {
        (at, last) = (at >> 1, last >> 1);
    }
    let (mut old, mut new) = (*begin, *begin);
    for other in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            (old, new) = (node(other, &old), node(other, &new));
            skip_lonely(&mut at, &mut last);
        } else {
            new = node(&new, other);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && old == *first.1 && new == *second.1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{hex, unhex};

    /// The leaves of the reference implementation of Certificate Transparency.
    const LEAVES: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];

    /// Its roots, by size.
    const ROOTS: [&str; 9] = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn tree(size: usize) -> Frontier {
        let mut tree = Frontier::default();
        LEAVES[..size].iter().for_each(|content| tree.push(leaf(content)));
        tree
    }

    fn gathered(spans: &[Span], size: usize, before: usize) -> Result<Vec<TreeHash>> {
        let mut gather = Gather::new(spans, &tree(before))?;
        (before..size).for_each(|at| gather.push(at as u64, leaf(LEAVES[at])));
        gather.finish()
    }

    fn texts(hashes: &[TreeHash]) -> Vec<String> {
        hashes.iter().map(|hash| hex(hash)).collect()
    }

    #[test]
    fn the_roots_are_the_published_ones() {
        for (size, root) in ROOTS.iter().enumerate() {
            assert_eq!(hex(&tree(size).root()), *root, "{size}");
        }
    }

    #[test]
    fn inclusion_paths_are_the_published_ones() {
        for (index, size, path) in [
            (0, 1, vec![]),
            (
                0,
                8,
                vec![
                    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
                ],
            ),
            (
                5,
                8,
                vec![
                    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
                ],
            ),
            (2, 3, vec!["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
            (
                1,
                5,
                vec![
                    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
                    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                ],
            ),
        ] {
            let spans = inclusion_spans(index, size);
            let gathered = gathered(&spans, usize::try_from(size).unwrap(), 0).unwrap();
            assert_eq!(texts(&gathered), path, "{index} in {size}");
        }
    }

    #[test]
    fn consistency_paths_are_the_published_ones() {
        for (first, second, path) in [
            (1, 1, vec![]),
            (
                1,
                8,
                vec![
                    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
                ],
            ),
            (
                6,
                8,
                vec![
                    "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
                ],
            ),
            (
                2,
                5,
                vec![
                    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                ],
            ),
        ] {
            let spans = consistency_spans(first, second);
            let gathered = gathered(&spans, usize::try_from(second).unwrap(), 0).unwrap();
            assert_eq!(texts(&gathered), path, "{first} in {second}");
        }
    }

    #[test]
    fn every_proof_holds_for_what_it_is_about_and_for_nothing_else() {
        for size in 1..=8_usize {
            let (count, root) = (size as u64, tree(size).root());
            for index in 0..count {
                let path = gathered(&inclusion_spans(index, count), size, 0).unwrap();
                let of = |at: u64| leaf(LEAVES[usize::try_from(at).unwrap()]);
                assert!(is_included(index, count, of(index), &path, &root));
                for other in (0..count).filter(|other| *other != index) {
                    assert!(!is_included(other, count, of(index), &path, &root));
                    assert!(!is_included(index, count, of(other), &path, &root));
                }
                assert!(!is_included(count, count, of(index), &path, &root));
                let longer: Vec<_> = path.iter().copied().chain([root]).collect();
                assert!(!is_included(index, count, of(index), &longer, &root));
            }
            for first in 0..=size {
                let path = gathered(&consistency_spans(first as u64, count), size, 0).unwrap();
                let old = tree(first).root();
                assert!(is_consistent((first as u64, &old), (count, &root), &path), "{first} in {size}");
                let mut forged = old;
                forged[7] ^= 1;
                assert!(!is_consistent((first as u64, &forged), (count, &root), &path));
                // Everything begins with nothing.
                assert!(first == 0 || !is_consistent((first as u64, &old), (count, &forged), &path));
                assert!(!is_consistent((count + 1, &old), (count, &root), &path));
                for at in 0..path.len() {
                    let mut path = path.clone();
                    path[at][0] ^= 1;
                    assert!(!is_consistent((first as u64, &old), (count, &root), &path));
                }
            }
        }
    }

    #[test]
    fn proofs_about_what_is_kept_need_nothing_of_what_was_removed() {
        for size in 1..=8_usize {
            for removed in 0..=size {
                for (index, content) in LEAVES.iter().enumerate().take(size).skip(removed) {
                    let spans = inclusion_spans(index as u64, size as u64);
                    let path = gathered(&spans, size, removed).unwrap();
                    let root = tree(size).root();
                    assert!(is_included(index as u64, size as u64, leaf(content), &path, &root));
                }
            }
        }
        assert!(gathered(&inclusion_spans(1, 8), 8, 4).is_err());
    }

    #[test]
    fn a_frontier_has_as_many_roots_as_its_size_says() {
        let mut root = [0; 32];
        unhex(ROOTS[4], &mut root).unwrap();
        assert_eq!(Frontier::from_parts(4, vec![root]).unwrap(), tree(4));
        assert!(Frontier::from_parts(5, vec![root]).is_err());
        assert!(Frontier::from_parts(0, vec![root]).is_err());
    }
}
