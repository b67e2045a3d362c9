//! Locks that are held for less time than a switch of threads takes: whoever finds one taken looks again for a while before it lets
//! another thread run.

use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// How often: about as long as a commit holds the writer. A switch of threads costs several commits.
const LOOKS: u32 = 100;

/// Locks what is not held for long.
///
/// ```
/// let lock = parking_lot::Mutex::new(1);
/// *pugdb_core::soon::lock(&lock) += 1;
/// assert_eq!(*lock.lock(), 2);
/// ```
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    look(|| if mutex.is_locked() { None } else { mutex.try_lock() }).unwrap_or_else(|| mutex.lock())
}

/// Shares what nobody changes for long.
pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    look(|| if lock.is_locked_exclusive() { None } else { lock.try_read() }).unwrap_or_else(|| lock.read())
}

/// Locks what is neither read nor changed for long.
pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    look(|| if lock.is_locked() { None } else { lock.try_write() }).unwrap_or_else(|| lock.write())
}

fn look<G>(mut attempt: impl FnMut() -> Option<G>) -> Option<G> {
    for _ in 0..LOOKS {
        if let Some(guard) = attempt() {
            return Some(guard);
        }
        std::hint::spin_loop();
    }
    None
}
