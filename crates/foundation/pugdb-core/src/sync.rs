//! Locks and atomics of what [loom](https://docs.rs/loom) looks through: those of `parking_lot` and of the standard library,
//! or with `--cfg loom` its own, which try the orders in which threads can meet.

#[cfg(not(loom))]
pub use parking_lot::{Condvar, Mutex, MutexGuard};
#[cfg(not(loom))]
pub use std::sync::atomic;

#[cfg(loom)]
pub use explored::{Condvar, Mutex, MutexGuard};
#[cfg(loom)]
pub use loom::sync::atomic;

/// Loom's, with the faces of `parking_lot`'s.
#[cfg(loom)]
mod explored {
    use std::ops::{Deref, DerefMut};
    use std::time::Duration;

    const UNPOISONED: &str = "a panic ends loom's run";

    /// A lock.
    #[derive(Debug, Default)]
    pub struct Mutex<T>(loom::sync::Mutex<T>);

    /// It is held. `None` only while it waits for a [`Condvar`].
    #[derive(Debug)]
    pub struct MutexGuard<'a, T>(Option<loom::sync::MutexGuard<'a, T>>);

    /// What is waited for.
    #[derive(Debug)]
    pub struct Condvar(loom::sync::Condvar);

    impl<T> Mutex<T> {
        /// A lock that is free.
        pub fn new(inner: T) -> Self {
            Self(loom::sync::Mutex::new(inner))
        }

        /// Waits until it is free.
        pub fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard(Some(self.0.lock().expect(UNPOISONED)))
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.0.as_ref().expect("nobody looks while it waits")
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_mut().expect("nobody looks while it waits")
        }
    }

    impl Default for Condvar {
        fn default() -> Self {
            Self(loom::sync::Condvar::new())
        }
    }

    impl Condvar {
        /// Wakes one who waits.
        pub fn notify_one(&self) {
            self.0.notify_one();
        }

        /// Wakes all.
        pub fn notify_all(&self) {
            self.0.notify_all();
        }

        /// Lets go of the lock and waits.
        pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            guard.0 = guard.0.take().map(|held| self.0.wait(held).expect(UNPOISONED));
        }

        /// Loom has no time: this waits until it is woken.
        pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _timeout: Duration) {
            self.wait(guard);
        }
    }
}
