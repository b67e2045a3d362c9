//! Range tombstones: what range deletes hide, key by key, as floors under the versions of a tree. Pure.
//!
//! A key's floor at a read point is the newest range tombstone there that covers the key; versions below it are hidden
//! from the reader, wherever they lie. Tombstones are cut into fragments that do not overlap, so a floor is found by a
//! binary search. Of the tombstones over a fragment only those are kept that some reader can tell apart from newer ones.
//!
//! ```text
//! 9            |-------------|            fragments:  a..c 5   c..e 9 5   e..g 9
//! 5    |-------------|
//!      a       c     e       g            and only 9 over c..e when nobody reads between 5 and 9
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use pugdb_core::engine::Direction;
use pugdb_core::{Key, KeySpan, Seqno};

#[cfg(test)]
mod tests;

/// One range delete, or what is left of it.
#[derive(Clone, PartialEq, Eq)]
pub struct RangeTombstone {
    /// The keys whose older versions it hides.
    pub span: KeySpan,
    /// When.
    pub seqno: Seqno,
}

/// Prints lengths: a user's bytes never reach a log or an error.
impl fmt::Debug for RangeTombstone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {}", self.span, self.seqno)
    }
}

/// The range tombstones of a tree. Never changed: who adds one makes another set, which shares most of this one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tombstones {
    /// Largest first, each less than half of the one before, so that adding one costs a logarithm of what there is.
    levels: Vec<Arc<[Fragment]>>,
}

/// Neighbouring keys under the same tombstones.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fragment {
    span: KeySpan,
    /// Newest first, never empty.
    seqnos: Box<[Seqno]>,
}

/// Neighbouring keys that have the same floor at a read point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) start: Key,
    /// The first key behind it.
    pub(crate) end: Option<Key>,
    pub(crate) floor: Seqno,
}

impl Fragment {
    fn floor(&self, at: Seqno) -> Seqno {
        self.seqnos.iter().find(|seqno| **seqno <= at).copied().unwrap_or_default()
    }
}

impl Stretch {
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        *self.start <= *key && self.end.as_ref().is_none_or(|end| *key < **end)
    }
}

impl Tombstones {
    /// These tombstones. `points` is where somebody can look, ascending.
    pub(crate) fn of(tombstones: impl Iterator<Item = RangeTombstone>, points: &[Seqno]) -> Self {
        let fragments = fragmented(tombstones, points);
        Self { levels: if fragments.is_empty() { Vec::new() } else { vec![fragments.into()] } }
    }

    /// These and more, of one commit.
    #[must_use]
    pub(crate) fn with(&self, more: impl Iterator<Item = RangeTombstone>, points: &[Seqno]) -> Self {
        let mut levels = self.levels.clone();
        levels.extend(Self::of(more, points).levels);
        while let [.., larger, last] = &levels[..]
            && last.len() * 2 >= larger.len()
        {
            let both = larger.iter().chain(last.iter()).flat_map(Fragment::tombstones);
            let merged = fragmented(both, points).into();
            levels.truncate(levels.len() - 2);
            levels.push(merged);
        }
        Self { levels }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    /// How many there are, each counted once for every fragment that it covers.
    pub(crate) fn count(&self) -> usize {
        self.levels.iter().flat_map(|level| level.iter()).map(|fragment| fragment.seqnos.len()).sum()
    }

    /// All of them, cut as they are.
    pub(crate) fn iter(&self) -> impl Iterator<Item = RangeTombstone> {
        self.levels.iter().flat_map(|level| level.iter()).flat_map(Fragment::tombstones)
    }

    /// True when some key of `span` is covered by one that is newer than `seqno`.
    pub(crate) fn any_newer(&self, span: &KeySpan, seqno: Seqno) -> bool {
        self.levels.iter().any(|level| {
            // The last fragment that begins before may reach in.
            let start = upper_bound(level, &span.start).saturating_sub(1);
            let is_in = |fragment: &&Fragment| span.end.as_ref().is_none_or(|end| fragment.span.start < *end);
            let ends_before =
                |fragment: &Fragment| fragment.span.end.as_ref().is_some_and(|end| *end <= span.start);
            let mut fragments = level[start..].iter().take_while(is_in);
            fragments.any(|fragment| !ends_before(fragment) && fragment.seqnos[0] > seqno)
        })
    }

    /// The newest version of `key` that a reader at `at` must not see.
    pub(crate) fn floor(&self, key: &[u8], at: Seqno) -> Seqno {
        let floors = self.levels.iter().filter_map(|level| {
            let before = level[..upper_bound(level, key)].last()?;
            before.span.raw().contains(key).then(|| before.floor(at))
        });
        floors.max().unwrap_or_default()
    }

    /// The keys around `key` that have the same floor at `at`.
    pub(crate) fn stretch(&self, key: &[u8], at: Seqno) -> Stretch {
        let mut stretch = Stretch { start: Key::default(), end: None, floor: Seqno::ZERO };
        for level in &self.levels {
            let (before, behind) = level.split_at(upper_bound(level, key));
            let next = behind.first().map(|fragment| &fragment.span.start);
            let (start, end) = match before.last() {
                Some(fragment) if fragment.span.raw().contains(key) => {
                    stretch.floor = stretch.floor.max(fragment.floor(at));
                    (Some(&fragment.span.start), fragment.span.end.as_ref())
                }
                Some(fragment) => (fragment.span.end.as_ref(), next),
                None => (None, next),
            };
            if let Some(start) = start.filter(|start| **start > stretch.start) {
                stretch.start = start.clone();
            }
            if let Some(end) = end.filter(|end| stretch.end.as_ref().is_none_or(|least| *end < least)) {
                stretch.end = Some(end.clone());
            }
        }
        stretch
    }

    /// The stretches from `first` up to `last`, both included, in order.
    pub(crate) fn stretches<'a>(
        &'a self,
        first: &Key,
        last: &'a Key,
        at: Seqno,
    ) -> impl Iterator<Item = Stretch> + 'a {
        let mut next = Some(first.clone());
        std::iter::from_fn(move || {
            let key = next.take().filter(|key| key <= last)?;
            let stretch = self.stretch(&key, at);
            next.clone_from(&stretch.end);
            Some(stretch)
        })
    }

    /// True when a reader at `at` sees no version up to `newest` of the keys from `first` to `last`, both included.
    pub(crate) fn cover(&self, first: &Key, last: &Key, newest: Seqno, at: Seqno) -> bool {
        !self.is_empty() && self.stretches(first, last, at).all(|stretch| stretch.floor >= newest)
    }

    /// From a stretch on, in a direction: where the next one is in which a reader at `at` may see versions up to `newest`.
    /// Forward its first key, in reverse the first key behind it; `None` when there is no such stretch.
    pub(crate) fn end_of_cover(
        &self,
        from: &Stretch,
        direction: Direction,
        newest: Seqno,
        at: Seqno,
    ) -> Option<Key> {
        let mut stretch = from.clone();
        loop {
            let edge = match direction {
                Direction::Forward => stretch.end?,
                Direction::Reverse => Some(stretch.start).filter(|start| !start.is_empty())?,
            };
            stretch = match direction {
                Direction::Forward => self.stretch(&edge, at),
                Direction::Reverse => self.stretch_before(&edge, at),
            };
            if stretch.floor < newest {
                return Some(edge);
            }
        }
    }

    /// The stretch that ends before `edge`, the start of another one.
    fn stretch_before(&self, edge: &Key, at: Seqno) -> Stretch {
        let mut stretch = Stretch { start: Key::default(), end: Some(edge.clone()), floor: Seqno::ZERO };
        for level in &self.levels {
            let before = level.partition_point(|fragment| fragment.span.start < *edge);
            let Some(fragment) = level[..before].last() else { continue };
            let start = match &fragment.span.end {
                Some(end) if end < edge => end,
                _ => {
                    stretch.floor = stretch.floor.max(fragment.floor(at));
                    &fragment.span.start
                }
            };
            if *start > stretch.start {
                stretch.start = start.clone();
            }
        }
        stretch
    }
}

impl Fragment {
    fn tombstones(&self) -> impl Iterator<Item = RangeTombstone> {
        self.seqnos.iter().map(|&seqno| RangeTombstone { span: self.span.clone(), seqno })
    }
}

/// How many fragments begin at or before `key`.
fn upper_bound(level: &[Fragment], key: &[u8]) -> usize {
    level.partition_point(|fragment| *fragment.span.start <= *key)
}

/// Cuts tombstones at each other's ends.
fn fragmented(tombstones: impl Iterator<Item = RangeTombstone>, points: &[Seqno]) -> Vec<Fragment> {
    // Where one begins or ends; in replays the same one comes twice.
    let mut edges: Vec<(Key, Seqno, Edge)> = Vec::new();
    for RangeTombstone { span: KeySpan { start, end }, seqno } in tombstones {
        edges.push((start, seqno, Edge::Start));
        edges.extend(end.map(|end| (end, seqno, Edge::End)));
    }
    edges.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    let (mut fragments, mut over): (Vec<Fragment>, BTreeMap<Seqno, i64>) = Default::default();
    let mut edges = edges.into_iter().peekable();
    while let Some((start, seqno, edge)) = edges.next() {
        edge.pass(seqno, &mut over);
        while let Some((_, seqno, edge)) = edges.next_if(|(key, ..)| *key == start) {
            edge.pass(seqno, &mut over);
        }
        if over.is_empty() {
            continue;
        }
        let seqnos = told_apart(&over, points);
        let end = edges.peek().map(|(key, ..)| key.clone());
        match fragments.last_mut() {
            Some(last) if last.span.end.as_ref() == Some(&start) && last.seqnos == seqnos => {
                last.span.end = end;
            }
            _ => fragments.push(Fragment { span: KeySpan { start, end }, seqnos }),
        }
    }
    fragments
}

#[derive(Clone, Copy)]
enum Edge {
    Start,
    End,
}

impl Edge {
    fn pass(self, seqno: Seqno, over: &mut BTreeMap<Seqno, i64>) {
        let count = over.entry(seqno).or_default();
        match self {
            Self::Start => *count += 1,
            // At one key an end may come before the start that it meets: what counts is the sum.
            Self::End => *count -= 1,
        }
        if *count == 0 {
            over.remove(&seqno);
        }
    }
}

/// Those that somebody can tell apart from newer ones: the newest of all, and the newest at each read point.
fn told_apart(over: &BTreeMap<Seqno, i64>, points: &[Seqno]) -> Box<[Seqno]> {
    let mut seqnos = Vec::new();
    let mut next = over.keys().next_back();
    while let Some(&seqno) = next {
        seqnos.push(seqno);
        let older_points = points.partition_point(|point| *point < seqno);
        let point = older_points.checked_sub(1).map(|last| points[last]);
        next = point.and_then(|point| over.range(..=point).next_back()).map(|(seqno, _)| seqno);
    }
    seqnos.into()
}
