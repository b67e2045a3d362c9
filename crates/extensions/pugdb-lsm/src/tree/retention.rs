//! Which versions go on living when entries are written anew. Pure.

use pugdb_core::{EntryKind, Found, Key, Seqno};

/// Decides version by version, for keys in order and newest first within a key.
///
/// Kept are all versions newer than the horizon and the newest one at it; that one goes too when it is a delete and
/// nothing older lies beneath. Versions at or below the floor were truncated away. Expired entries are kept: they hide
/// what is beneath, and dropping them needs a grace period, which does not exist yet.
#[derive(Debug)]
pub(crate) struct Retention {
    horizon: Seqno,
    floor: Seqno,
    /// Nothing older than the input exists in this tree.
    is_bottom: bool,
    key: Option<Key>,
    /// A version of the key at or below the horizon has been seen: the rest is invisible.
    is_settled: bool,
}

impl Retention {
    pub(crate) fn new(horizon: Seqno, floor: Seqno, is_bottom: bool) -> Self {
        Self { horizon, floor, is_bottom, key: None, is_settled: false }
    }

    /// True when this version is needed.
    pub(crate) fn keep(&mut self, key: &Key, found: &Found) -> bool {
        if self.key.as_ref() != Some(key) {
            self.key = Some(key.clone());
            self.is_settled = false;
        }
        if self.is_settled || found.seqno <= self.floor {
            return false;
        }
        if found.seqno > self.horizon {
            return true;
        }
        self.is_settled = true;
        !(self.is_bottom && found.entry.kind == EntryKind::Delete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pugdb_core::{Entry, Value};

    fn kept(retention: &mut Retention, versions: &[(&str, u64, bool)]) -> Vec<u64> {
        let mut kept = Vec::new();
        for &(name, seqno, is_delete) in versions {
            let entry = if is_delete { Entry::delete() } else { Entry::put(Value::default()) };
            let key = Key::copy(name.as_bytes()).unwrap();
            if retention.keep(&key, &Found { seqno: Seqno(seqno), entry }) {
                kept.push(seqno);
            }
        }
        kept
    }

    const HISTORY: [(&str, u64, bool); 6] =
        [("a", 9, false), ("a", 5, true), ("a", 3, false), ("b", 8, true), ("b", 2, false), ("c", 1, false)];

    #[test]
    fn the_newest_version_at_the_horizon_is_kept_for_old_snapshots() {
        assert_eq!(kept(&mut Retention::new(Seqno(6), Seqno(0), false), &HISTORY), [9, 5, 8, 2, 1]);
        assert_eq!(kept(&mut Retention::new(Seqno(9), Seqno(0), false), &HISTORY), [9, 8, 1]);
    }

    #[test]
    fn a_delete_goes_at_the_bottom_only() {
        assert_eq!(kept(&mut Retention::new(Seqno(6), Seqno(0), true), &HISTORY), [9, 8, 2, 1]);
        assert_eq!(kept(&mut Retention::new(Seqno(9), Seqno(0), true), &HISTORY), [9, 1]);
    }

    #[test]
    fn truncated_versions_go() {
        assert_eq!(kept(&mut Retention::new(Seqno(9), Seqno(8), true), &HISTORY), [9]);
    }
}
