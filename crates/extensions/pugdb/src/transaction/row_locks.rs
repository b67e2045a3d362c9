//! Locks on rows that transactions take before they change them (`get_for_update`): who comes later waits for the first one's
//! end instead of failing at its own. They order those who take them and nobody else; whether a commit is right is decided
//! when it commits, by what was changed, so a plain put needs none.
//!
//! A transaction waits for one row at a time, so who waits for whom is a chain. A chain that closes is a deadlock, and whoever
//! closes it is told at once to begin anew. Rows are handed over in the order of asking.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pugdb_core::env::{Env, Event};
use pugdb_core::{Error, Key, KeyspaceId, Result};

/// Which transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TransactionId(u64);

type RowKey = (KeyspaceId, Key);

/// The locks of a database.
#[derive(Default)]
pub(crate) struct RowLocks {
    last_id: AtomicU64,
    /// Guards all of it. Held for a look and a note, never while somebody waits.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rows: HashMap<RowKey, Row>,
    /// Whom a waiting transaction waits for.
    waits_for: HashMap<TransactionId, TransactionId>,
}

struct Row {
    owner: TransactionId,
    waiters: VecDeque<Arc<Waiter>>,
}

struct Waiter {
    id: TransactionId,
    /// The row is this one's now.
    granted: AtomicBool,
    event: Event,
}

impl State {
    /// True when `from` waits, over others or not, for `target`.
    fn leads_to(&self, from: TransactionId, target: TransactionId) -> bool {
        let mut next = Some(from);
        while let Some(id) = next {
            if id == target {
                return true;
            }
            next = self.waits_for.get(&id).copied();
        }
        false
    }

    /// The row goes to the one who has waited longest, if somebody waits.
    fn hand_over(&mut self, key: &RowKey) {
        let Some(row) = self.rows.get_mut(key) else { return };
        let Some(first) = row.waiters.pop_front() else {
            self.rows.remove(key);
            return;
        };
        row.owner = first.id;
        self.waits_for.remove(&first.id);
        for waiter in &row.waiters {
            self.waits_for.insert(waiter.id, first.id);
        }
        first.granted.store(true, Ordering::Release);
        first.event.notify();
    }
}

impl RowLocks {
    pub(crate) fn next_id(&self) -> TransactionId {
        TransactionId(self.last_id.fetch_add(1, Ordering::Relaxed))
    }

    /// How many rows are locked, and how many transactions wait.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.rows.len(), state.waits_for.len())
    }

    /// True when it was not locked by this one already.
    fn lock(&self, env: &Env, id: TransactionId, key: &RowKey, patience: Duration) -> Result<bool> {
        let waiter = {
            let mut state = self.state.lock();
            let Some(row) = state.rows.get(key) else {
                state.rows.insert(key.clone(), Row { owner: id, waiters: VecDeque::new() });
                return Ok(true);
            };
            let owner = row.owner;
            if owner == id {
                return Ok(false);
            }
            if state.leads_to(owner, id) {
                return Err(Error::retry(
                    "a deadlock: two transactions wait for a row that the other one has locked; begin this one again",
                ));
            }
            let waiter = Arc::new(Waiter { id, granted: AtomicBool::new(false), event: Event::default() });
            state.waits_for.insert(id, owner);
            if let Some(row) = state.rows.get_mut(key) {
                row.waiters.push_back(Arc::clone(&waiter));
            }
            waiter
        };
        let deadline = env.clock.monotonic().checked_add(patience);
        let is_granted = || waiter.granted.load(Ordering::Acquire);
        if env.executor.block_until(&waiter.event, deadline, &mut || is_granted()) {
            return Ok(true);
        }
        let mut state = self.state.lock();
        // It may have come in the last moment.
        if is_granted() {
            return Ok(true);
        }
        state.waits_for.remove(&id);
        if let Some(row) = state.rows.get_mut(key) {
            row.waiters.retain(|other| other.id != id);
        }
        Err(Error::retry(format!(
            "another transaction has kept a row locked for {} ms; begin this one again, or let it wait longer",
            patience.as_millis()
        )))
    }

    fn unlock(&self, keys: impl Iterator<Item = RowKey>) {
        let mut state = self.state.lock();
        keys.for_each(|key| state.hand_over(&key));
    }
}

impl fmt::Debug for RowLocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (locked, waiting) = self.counts();
        write!(f, "RowLocks({locked} locked, {waiting} waiting)")
    }
}

/// The rows that a transaction has locked, until this is dropped.
pub(crate) struct LockedRows {
    locks: Arc<RowLocks>,
    id: Option<TransactionId>,
    rows: Vec<RowKey>,
}

impl LockedRows {
    pub(crate) fn none(locks: &Arc<RowLocks>) -> Self {
        Self { locks: Arc::clone(locks), id: None, rows: Vec::new() }
    }

    /// Locks a row, after those that asked for it before.
    pub(crate) fn lock(
        &mut self,
        env: &Env,
        (keyspace, key): (KeyspaceId, &[u8]),
        patience: Duration,
    ) -> Result<()> {
        let row = (keyspace, Key::copy(key)?);
        let id = *self.id.get_or_insert_with(|| self.locks.next_id());
        if self.locks.lock(env, id, &row, patience)? {
            self.rows.push(row);
        }
        Ok(())
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Lets those go that were locked behind the first `kept`.
    pub(crate) fn release(&mut self, kept: usize) {
        if self.rows.len() > kept {
            self.locks.unlock(self.rows.drain(kept..));
        }
    }
}

impl Drop for LockedRows {
    fn drop(&mut self) {
        self.release(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pugdb_core::ErrorKind;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn row(name: &[u8]) -> (KeyspaceId, &[u8]) {
        (KeyspaceId(1), name)
    }

    /// Waits until so many transactions wait.
    fn until_waiting(locks: &RowLocks, count: usize) {
        while locks.counts().1 != count {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_row_goes_from_one_to_the_next_in_the_order_of_asking() {
        let (locks, env) = (Arc::new(RowLocks::default()), Env::os());
        let order = Mutex::new(Vec::new());
        let mut first = LockedRows::none(&locks);
        first.lock(&env, row(b"a"), PATIENCE).unwrap();
        first.lock(&env, row(b"a"), PATIENCE).unwrap();
        assert_eq!(first.len(), 1);
        std::thread::scope(|scope| {
            for number in 0..3 {
                let (locks, env, order) = (&locks, &env, &order);
                scope.spawn(move || {
                    let mut rows = LockedRows::none(locks);
                    rows.lock(env, row(b"a"), PATIENCE).unwrap();
                    order.lock().push(number);
                    rows.release(0);
                });
                until_waiting(locks, number + 1);
            }
            first.release(0);
        });
        assert_eq!(*order.lock(), [0, 1, 2]);
        assert_eq!(locks.counts(), (0, 0));
    }

    #[test]
    fn whoever_closes_a_circle_is_told_and_the_others_go_on() {
        let (locks, env) = (Arc::new(RowLocks::default()), Env::os());
        let mut rows: Vec<LockedRows> = (0..3).map(|_| LockedRows::none(&locks)).collect();
        let names: [&[u8]; 3] = [b"a", b"b", b"c"];
        for (rows, name) in rows.iter_mut().zip(names) {
            rows.lock(&env, row(name), PATIENCE).unwrap();
        }
        let [one, other, last] = &mut rows[..] else { unreachable!() };
        std::thread::scope(|scope| {
            let (locks, env) = (&locks, &env);
            scope.spawn(move || {
                one.lock(env, row(b"b"), PATIENCE).unwrap();
                one.release(0);
            });
            until_waiting(locks, 1);
            scope.spawn(move || {
                other.lock(env, row(b"c"), PATIENCE).unwrap();
                other.release(0);
            });
            until_waiting(locks, 2);
            let closed = last.lock(env, row(b"a"), PATIENCE).unwrap_err();
            assert!(closed.kind() == ErrorKind::Conflict && closed.is_retry(), "{closed}");
            last.release(0);
        });
        assert_eq!(locks.counts(), (0, 0));
    }

    #[test]
    fn a_circle_through_a_row_that_was_handed_over_is_seen() {
        let (locks, env) = (Arc::new(RowLocks::default()), Env::os());
        let mut first = LockedRows::none(&locks);
        first.lock(&env, row(b"a"), PATIENCE).unwrap();
        std::thread::scope(|scope| {
            let (locks, env) = (&locks, &env);
            let second = scope.spawn(move || {
                let mut rows = LockedRows::none(locks);
                rows.lock(env, row(b"a"), PATIENCE).unwrap();
                // The third one waits for this one now, without having done anything.
                let result = rows.lock(env, row(b"b"), PATIENCE);
                rows.release(0);
                result
            });
            until_waiting(locks, 1);
            let third = scope.spawn(move || {
                let mut rows = LockedRows::none(locks);
                rows.lock(env, row(b"b"), PATIENCE).unwrap();
                let result = rows.lock(env, row(b"a"), PATIENCE);
                rows.release(0);
                result
            });
            until_waiting(locks, 2);
            first.release(0);
            let results = [second.join().unwrap(), third.join().unwrap()];
            // Told at once, and not because it has waited too long.
            let errors: Vec<String> =
                results.iter().filter_map(|result| Some(result.as_ref().err()?.to_string())).collect();
            assert!(errors.len() == 1 && errors[0].contains("deadlock"), "{errors:?}");
        });
        assert_eq!(locks.counts(), (0, 0));
    }

    #[test]
    fn nobody_waits_longer_than_it_said() {
        let (locks, env) = (Arc::new(RowLocks::default()), Env::os());
        let [mut first, mut second] = [(); 2].map(|()| LockedRows::none(&locks));
        first.lock(&env, row(b"a"), PATIENCE).unwrap();
        let late = second.lock(&env, row(b"a"), Duration::from_millis(5)).unwrap_err();
        assert!(late.is_retry() && late.to_string().contains("5 ms"), "{late}");
        assert_eq!(locks.counts(), (1, 0));
        first.release(0);
        second.lock(&env, row(b"a"), Duration::ZERO).unwrap();
        second.release(0);
    }
}
