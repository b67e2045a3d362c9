//! Could a history of transactions have run one after the other? A checker for histories in which every transaction appends its
//! number to lists and reads lists.
//!
//! A list tells the order of those who have written it, and what a transaction has read of a list tells whom it saw and
//! whom it did not. So the dependencies between transactions are known (Adya, "Weak consistency", 1999), and an anomaly is a circle
//! of them (the method of Kingsbury and Alvaro, "Elle", 2020):
//!
//! | edge | `a` comes before `b` because |
//! |---|---|
//! | ww | `b` appended right behind `a` |
//! | wr | `b` has read a list that ends with what `a` appended |
//! | rw | `a` has read a list that lacks what `b` appended next |
//! | time | `a` had committed when `b` began |
//!
//! A history is serializable when there is no circle; snapshot isolation allows only circles with two rw edges in a row.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A transaction that has committed. Moments are places in the history.
#[derive(Clone, Debug, Default)]
pub struct Committed {
    /// What it appended.
    pub number: u64,
    /// When it began, and when its commit returned.
    pub time: (u64, u64),
    /// Lists as it found them, its own appends left out.
    pub reads: Vec<(usize, Vec<u64>)>,
    /// Which lists it appended to.
    pub appends: Vec<usize>,
}

/// What is asked of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// No circle at all: in some order that keeps to the clock.
    Serializable,
    /// No circle but those of write skew.
    Snapshot,
}

/// Why one comes before the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// It wrote before.
    WriteWrite,
    /// The other one has read what it wrote.
    WriteRead,
    /// It has not seen what the other one wrote.
    ReadWrite,
    /// It was through before the other one began.
    Time,
}

/// What is wrong with a history.
#[derive(Clone, PartialEq, Eq)]
pub enum Anomaly {
    /// A committed append is not in its list: a lost update.
    Lost {
        /// Whose.
        number: u64,
        /// Where.
        list: usize,
    },
    /// A list holds what nobody committed, or something twice.
    Stray {
        /// What.
        number: u64,
        /// Where.
        list: usize,
    },
    /// What was read is no beginning of what the list became.
    NoPrefix {
        /// Who read it.
        number: u64,
        /// Which list.
        list: usize,
    },
    /// Transactions that each come before the next one, and the last before the first.
    Circle(Vec<(u64, Edge)>),
}

impl fmt::Debug for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { number, list } => {
                write!(f, "list {list} has lost what transaction {number} appended")
            }
            Self::Stray { number, list } => {
                write!(f, "list {list} holds {number}, which nobody committed once")
            }
            Self::NoPrefix { number, list } => {
                write!(f, "transaction {number} has read of list {list} what it never was")
            }
            Self::Circle(circle) => {
                circle.iter().try_for_each(|(number, edge)| write!(f, "{number} -{edge:?}-> "))?;
                write!(f, "{}", circle[0].0)
            }
        }
    }
}

/// Looks for anomalies. `lists` is what became of them.
///
/// # Errors
/// The first anomaly that is found.
pub fn check(level: Level, history: &[Committed], lists: &BTreeMap<usize, Vec<u64>>) -> Result<(), Anomaly> {
    let places: BTreeMap<u64, usize> =
        history.iter().enumerate().map(|(place, committed)| (committed.number, place)).collect();
    let empty = Vec::new();
    let list = |list: usize| lists.get(&list).unwrap_or(&empty);
    for (&number, content) in lists {
        let once: BTreeSet<u64> = content.iter().copied().collect();
        for &appended in content {
            let committed = places.get(&appended).map(|&place| &history[place]);
            let is_twice =
                once.len() != content.len() && content.iter().filter(|&&other| other == appended).count() > 1;
            if is_twice || !committed.is_some_and(|committed| committed.appends.contains(&number)) {
                return Err(Anomaly::Stray { number: appended, list: number });
            }
        }
    }
    let mut edges: Vec<Vec<(usize, Edge)>> = vec![Vec::new(); history.len()];
    for (place, committed) in history.iter().enumerate() {
        for &appended in &committed.appends {
            let content = list(appended);
            let Some(at) = content.iter().position(|&number| number == committed.number) else {
                return Err(Anomaly::Lost { number: committed.number, list: appended });
            };
            if let Some(next) = content.get(at + 1) {
                edges[place].push((places[next], Edge::WriteWrite));
            }
        }
        for (read, seen) in &committed.reads {
            let content = list(*read);
            if !content.starts_with(seen) {
                return Err(Anomaly::NoPrefix { number: committed.number, list: *read });
            }
            if let Some(writer) = seen.last() {
                edges[places[writer]].push((place, Edge::WriteRead));
            }
            // Its own append may be the next one.
            let next = content[seen.len()..].iter().find(|&&number| number != committed.number);
            if let Some(next) = next {
                edges[place].push((places[next], Edge::ReadWrite));
            }
        }
        if level == Level::Serializable {
            let later = history.iter().enumerate().filter(|(_, other)| committed.time.1 < other.time.0);
            edges[place].extend(later.map(|(other, _)| (other, Edge::Time)));
        }
    }
    let circle = match level {
        Level::Serializable if has_order(&edges) => None,
        Level::Serializable => circle_through(&edges, |_| true),
        // At most one rw edge: it, and a way back without any.
        Level::Snapshot => circle_through(&edges, |edge| edge != Edge::ReadWrite),
    };
    let number = |(place, edge): (usize, Edge)| (history[place].number, edge);
    circle.map_or(Ok(()), |circle| Err(Anomaly::Circle(circle.into_iter().map(number).collect())))
}

/// True when there is no circle: one place after the other can go that nothing comes before.
fn has_order(edges: &[Vec<(usize, Edge)>]) -> bool {
    let mut before = vec![0; edges.len()];
    edges.iter().flatten().for_each(|&(to, _)| before[to] += 1);
    let mut free: Vec<usize> = (0..edges.len()).filter(|&place| before[place] == 0).collect();
    let mut gone = 0;
    while let Some(place) = free.pop() {
        gone += 1;
        for &(to, _) in &edges[place] {
            before[to] -= 1;
            if before[to] == 0 {
                free.push(to);
            }
        }
    }
    gone == edges.len()
}

/// A circle of one edge of any kind, and else of edges that `is_used`.
fn circle_through(
    edges: &[Vec<(usize, Edge)>],
    is_used: impl Fn(Edge) -> bool,
) -> Option<Vec<(usize, Edge)>> {
    (0..edges.len()).find_map(|from| {
        edges[from].iter().find_map(|&(to, edge)| {
            let mut way = way(edges, to, from, &is_used)?;
            way.insert(0, (from, edge));
            Some(way)
        })
    })
}

/// The shortest way from one to the other: each place on it but the last, with the edge that leaves it.
fn way(
    edges: &[Vec<(usize, Edge)>],
    from: usize,
    to: usize,
    is_used: impl Fn(Edge) -> bool,
) -> Option<Vec<(usize, Edge)>> {
    let mut came: BTreeMap<usize, (usize, Edge)> = BTreeMap::new();
    let (mut ends, mut seen) = (vec![from], BTreeSet::from([from]));
    while !ends.is_empty() && !seen.contains(&to) {
        let mut next = Vec::new();
        for place in ends {
            for &(other, edge) in edges[place].iter().filter(|(_, edge)| is_used(*edge)) {
                if seen.insert(other) {
                    came.insert(other, (place, edge));
                    next.push(other);
                }
            }
        }
        ends = next;
    }
    seen.contains(&to).then(|| {
        let (mut way, mut place) = (Vec::new(), to);
        while let Some(&(before, edge)) = came.get(&place).filter(|_| place != from) {
            way.push((before, edge));
            place = before;
        }
        way.reverse();
        way
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A transaction that ran beside all others.
    fn beside(number: u64, reads: &[(usize, &[u64])], appends: &[usize]) -> Committed {
        let reads = reads.iter().map(|(list, seen)| (*list, seen.to_vec())).collect();
        Committed { number, time: (0, 100), reads, appends: appends.to_vec() }
    }

    fn judge(level: Level, history: &[Committed], lists: &[(usize, &[u64])]) -> Option<Anomaly> {
        let lists = lists.iter().map(|(list, content)| (*list, content.to_vec())).collect();
        check(level, history, &lists).err()
    }

    const LEVELS: [Level; 2] = [Level::Serializable, Level::Snapshot];

    #[test]
    fn one_after_the_other_is_right() {
        let history = [
            beside(1, &[(0, &[])], &[0]),
            beside(2, &[(0, &[1]), (1, &[])], &[0, 1]),
            beside(3, &[(1, &[2])], &[]),
        ];
        for level in LEVELS {
            assert_eq!(judge(level, &history, &[(0, &[1, 2]), (1, &[2])]), None);
        }
    }

    #[test]
    fn a_lost_update_is_found() {
        let history = [beside(1, &[(0, &[])], &[0]), beside(2, &[(0, &[])], &[0])];
        for level in LEVELS {
            // The second one has overwritten the list.
            assert_eq!(judge(level, &history, &[(0, &[2])]), Some(Anomaly::Lost { number: 1, list: 0 }));
            // Nothing is gone, and yet it has not seen what it wrote behind.
            assert!(matches!(judge(level, &history, &[(0, &[1, 2])]), Some(Anomaly::Circle(_))));
        }
    }

    #[test]
    fn write_skew_is_what_snapshot_isolation_allows() {
        let history = [beside(1, &[(0, &[]), (1, &[])], &[0]), beside(2, &[(0, &[]), (1, &[])], &[1])];
        let lists: &[(usize, &[u64])] = &[(0, &[1]), (1, &[2])];
        assert_eq!(judge(Level::Snapshot, &history, lists), None);
        let Some(Anomaly::Circle(circle)) = judge(Level::Serializable, &history, lists) else {
            panic!("write skew was missed")
        };
        assert_eq!(circle.len(), 2);
    }

    #[test]
    fn read_skew_and_dirty_reads_are_found() {
        // The reader has seen the first append of 1 and not the second one.
        let history = [beside(1, &[], &[0, 1]), beside(2, &[(0, &[1]), (1, &[])], &[])];
        for level in LEVELS {
            assert!(matches!(judge(level, &history, &[(0, &[1]), (1, &[1])]), Some(Anomaly::Circle(_))));
            let dirty = [beside(2, &[(0, &[7])], &[])];
            assert_eq!(judge(level, &dirty, &[]), Some(Anomaly::NoPrefix { number: 2, list: 0 }));
            assert_eq!(judge(level, &[], &[(0, &[7])]), Some(Anomaly::Stray { number: 7, list: 0 }));
        }
    }

    #[test]
    fn a_read_of_the_past_is_found_by_the_clock() {
        let first = Committed { time: (1, 2), ..beside(1, &[], &[0]) };
        let late = Committed { time: (3, 4), ..beside(2, &[(0, &[])], &[]) };
        let history = [first, late];
        assert!(matches!(judge(Level::Serializable, &history, &[(0, &[1])]), Some(Anomaly::Circle(_))));
    }

    #[test]
    fn circles_of_several_are_found() {
        let history =
            [beside(1, &[(0, &[])], &[1]), beside(2, &[(1, &[])], &[2]), beside(3, &[(2, &[])], &[0])];
        let lists: &[(usize, &[u64])] = &[(0, &[3]), (1, &[1]), (2, &[2])];
        let Some(Anomaly::Circle(circle)) = judge(Level::Serializable, &history, lists) else {
            panic!("a circle of three was missed")
        };
        assert_eq!(circle.len(), 3);
    }
}
