//! The memory that all connections share for their buffers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes to be given out, and how many are.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0) })
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Nothing yet, to be grown.
    pub(crate) fn reservation(self: &Arc<Self>) -> Reservation {
        Reservation { budget: Arc::clone(self), bytes: 0 }
    }
}

/// The budget has nothing left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Exhausted;

/// A part of the budget, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Reservation {
    /// Grows or shrinks to `bytes`. What cannot be had leaves it as it is.
    pub(crate) fn set(&mut self, bytes: usize) -> Result<(), Exhausted> {
        if bytes > self.bytes {
            let more = bytes - self.bytes;
            let grow = |used: usize| used.checked_add(more).filter(|&used| used <= self.budget.limit);
            let grown = self.budget.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow);
            grown.map_err(|_| Exhausted)?;
        } else if bytes < self.bytes {
            self.budget.used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
        Ok(())
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_share_the_limit_and_give_back() {
        let budget = Budget::new(100);
        let (mut a, mut b) = (budget.reservation(), budget.reservation());
        assert_eq!((a.set(60), b.set(41), b.set(40)), (Ok(()), Err(Exhausted), Ok(())));
        assert_eq!((a.set(10), b.set(90)), (Ok(()), Ok(())));
        assert_eq!(a.set(usize::MAX), Err(Exhausted));
        drop(b);
        assert_eq!((budget.used(), a.bytes()), (10, 10));
    }
}
