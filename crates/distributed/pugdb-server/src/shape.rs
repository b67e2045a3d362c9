//! Which keyspace a database's number stands for: looked up by every command, changed by `SWAPDB` alone.

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Connections share the parts among them; two that meet on one part do not hold each other up, for both only read.
const PARTS: usize = 64;

/// Keeps a chunk of commands and a change of names apart. Readers touch one part, each mostly its own, so they share
/// no memory that is written; the writer takes all parts.
#[derive(Debug)]
pub(crate) struct Shape {
    parts: Box<[Part]>,
}

/// On cache lines of its own.
#[repr(align(128))]
#[derive(Debug, Default)]
struct Part(RwLock<()>);

impl Shape {
    pub(crate) fn new() -> Self {
        Self { parts: (0..PARTS).map(|_| Part::default()).collect() }
    }

    /// Names stay as they are while the guard lives.
    pub(crate) fn keep(&self, client: u64) -> RwLockReadGuard<'_, ()> {
        let part = usize::try_from(client % PARTS as u64).unwrap_or(0);
        self.parts[part].0.read()
    }

    /// No other connection's command runs while the guards live. In the order of the parts, so that two of these do not
    /// wait in a circle.
    pub(crate) fn change(&self) -> Vec<RwLockWriteGuard<'_, ()>> {
        self.parts.iter().map(|part| part.0.write()).collect()
    }
}
