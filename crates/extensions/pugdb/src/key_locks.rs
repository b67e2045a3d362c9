//! Locks on keys, in stripes: what makes a read-modify-write one step. Held until applied, and across
//! a sync only while sorted files are taken in (`ingest.rs`).

use std::cell::Cell;
use std::thread::LocalKey;

use parking_lot::{Mutex, MutexGuard};
use pugdb_core::{Error, KeyspaceId, Result};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// More stripes than threads that write at once, so that neighbours seldom meet.
const STRIPES: usize = 1024;

/// The stripes. Every writer holds those of its keys, taken in ascending order, so nobody waits in a circle.
pub(crate) struct KeyLocks {
    stripes: Box<[Mutex<()>]>,
}

thread_local! {
    /// True while this thread runs a caller's closure under a key lock.
    static IN_UPDATE: Cell<bool> = const { Cell::new(false) };
    /// True while this thread tells an observer something: it may be the one that makes room for writers.
    static IN_OBSERVER: Cell<bool> = const { Cell::new(false) };
}

impl KeyLocks {
    pub(crate) fn new() -> Self {
        Self { stripes: (0..STRIPES).map(|_| Mutex::new(())).collect() }
    }

    /// Locks one key.
    pub(crate) fn one(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<MutexGuard<'_, ()>> {
        refuse_inside_update()?;
        Ok(self.stripes[stripe(keyspace, key)].lock())
    }

    /// Locks stripes, in their order, so that nobody waits in a circle.
    pub(crate) fn stripes(&self, stripes: &Stripes) -> Result<Held<'_>> {
        refuse_inside_update()?;
        Ok(match stripes {
            Stripes::One(number) => Held::One { _guard: self.stripes[*number].lock() },
            Stripes::Some(numbers) => {
                let guards = numbers.iter().map(|&number| self.stripes[number].lock());
                Held::Many { _guards: guards.collect() }
            }
            Stripes::All => Held::Many { _guards: self.stripes.iter().map(Mutex::lock).collect() },
        })
    }
}

impl KeyLocks {
    /// Locks stripes if nobody has one of them. Not for all of them.
    pub(crate) fn try_stripes(&self, stripes: &Stripes) -> Result<Option<Held<'_>>> {
        refuse_inside_update()?;
        Ok(match stripes {
            Stripes::One(number) => self.stripes[*number].try_lock().map(|guard| Held::One { _guard: guard }),
            Stripes::Some(numbers) => {
                let guards = numbers.iter().map(|&number| self.stripes[number].try_lock());
                guards.collect::<Option<Vec<_>>>().map(|guards| Held::Many { _guards: guards })
            }
            Stripes::All => None,
        })
    }
}

/// Stripes that are locked until it is dropped.
pub(crate) enum Held<'a> {
    One { _guard: MutexGuard<'a, ()> },
    Many { _guards: Vec<MutexGuard<'a, ()>> },
}

fn stripe(keyspace: KeyspaceId, key: &[u8]) -> usize {
    let hash = xxh3_64_with_seed(key, u64::from(keyspace.0));
    usize::try_from(hash % STRIPES as u64).expect("a stripe's number is small")
}

/// Which stripes are to be locked.
#[derive(Debug)]
pub(crate) enum Stripes {
    /// What most writes need; it asks for no memory.
    One(usize),
    /// Ascending, each once.
    Some(Vec<usize>),
    /// For what touches a whole keyspace.
    All,
}

impl Stripes {
    /// The stripes of these keys.
    pub(crate) fn of<'a>(keys: impl Iterator<Item = (KeyspaceId, &'a [u8])>) -> Self {
        let mut all = keys.map(|(keyspace, key)| stripe(keyspace, key));
        let (first, second) = (all.next(), all.next());
        if let (Some(first), None) = (first, second) {
            return Self::One(first);
        }
        let mut numbers: Vec<usize> = first.into_iter().chain(second).collect();
        for number in all {
            numbers.push(number);
            // A huge batch needs no more numbers than there are stripes.
            if numbers.len() == 4 * STRIPES {
                numbers.sort_unstable();
                numbers.dedup();
            }
        }
        numbers.sort_unstable();
        numbers.dedup();
        Self::Some(numbers)
    }

    /// Whether everything is.
    pub(crate) fn are_all(&self) -> bool {
        matches!(self, Self::All)
    }

    /// Whether this key is under a lock.
    pub(crate) fn hold(&self, keyspace: KeyspaceId, key: &[u8]) -> bool {
        match self {
            Self::One(number) => *number == stripe(keyspace, key),
            Self::Some(numbers) => numbers.binary_search(&stripe(keyspace, key)).is_ok(),
            Self::All => true,
        }
    }
}

/// Refuses what could wait for the key lock that this thread holds.
pub(crate) fn refuse_inside_update() -> Result<()> {
    refuse_inside_observer()?;
    if IN_UPDATE.get() {
        return Err(Error::invalid(
            "a write inside an `update` closure would wait for itself; return the change from the closure instead",
        ));
    }
    Ok(())
}

/// Runs a caller's closure under a key lock. Writes from inside are refused; they could wait for themselves.
pub(crate) fn inside_update<R>(run: impl FnOnce() -> R) -> R {
    inside(&IN_UPDATE, run)
}

/// Refuses what could wait for the job that tells an observer something on this thread.
pub(crate) fn refuse_inside_observer() -> Result<()> {
    if IN_OBSERVER.get() {
        return Err(Error::invalid(
            "an observer only reads: a write, a flush, a compaction or a close could wait for the thread that told it; leave that \
             to another thread",
        ));
    }
    Ok(())
}

/// Tells an observer something. What could wait for this thread is refused inside.
pub(crate) fn inside_observer(tell: impl FnOnce()) {
    inside(&IN_OBSERVER, tell);
}

fn inside<R>(place: &'static LocalKey<Cell<bool>>, run: impl FnOnce() -> R) -> R {
    struct Leave(&'static LocalKey<Cell<bool>>);

    impl Drop for Leave {
        fn drop(&mut self) {
            self.0.set(false);
        }
    }

    place.set(true);
    let _leave = Leave(place);
    run()
}
