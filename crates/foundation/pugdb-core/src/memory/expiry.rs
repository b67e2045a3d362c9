//! Which versions in memory expire, and when: in the order of time, so that nobody looks for them.

use std::collections::BTreeMap;

use crate::entry::{EntryKind, Found, Timestamp};
use crate::ids::Seqno;

/// The versions with an expiry that a map holds, each with what finds it there.
#[derive(Debug)]
pub(super) struct ExpiryQueue<T> {
    /// A seqno is one version's alone.
    waiting: BTreeMap<(Timestamp, Seqno), T>,
}

impl<T> Default for ExpiryQueue<T> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new() }
    }
}

impl<T> ExpiryQueue<T> {
    /// A version comes into the map.
    pub(super) fn add(&mut self, found: &Found, place: impl FnOnce() -> T) {
        if let Some(at) = expiry(found) {
            self.waiting.insert((at, found.seqno), place());
        }
    }

    /// A version leaves the map.
    pub(super) fn remove(&mut self, found: &Found) {
        if let Some(at) = expiry(found) {
            self.waiting.remove(&(at, found.seqno));
        }
    }

    /// The version that expires first, when it has expired at `cutoff`. It is no longer waited for.
    pub(super) fn pop_expired(&mut self, cutoff: Timestamp) -> Option<(Seqno, T)> {
        let first = self.waiting.first_entry().filter(|first| first.key().0 <= cutoff)?;
        let ((_, seqno), place) = first.remove_entry();
        Some((seqno, place))
    }

    /// How many versions wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// When the first version expires.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.waiting.first_key_value().map(|((at, _), _)| *at)
    }
}

/// When a version expires, if it does.
pub(super) fn expiry(found: &Found) -> Option<Timestamp> {
    found.entry.expires_at.filter(|_| found.entry.kind == EntryKind::Put)
}
