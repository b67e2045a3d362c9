//! What was refused for want of rights, for `ACL LOG`: a bounded ring. It has no key and no value.

use std::borrow::Cow;
use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::limits::{DENIALS, DENIALS_ALIKE_S};

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Auth,
    Command,
    Keyspace,
    Key,
    Channel,
}

impl Reason {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Command => "command",
            Self::Keyspace => "keyspace",
            Self::Key => "key",
            Self::Channel => "channel",
        }
    }
}

/// What it was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Object {
    Command(Cow<'static, str>),
    Keyspace(&'static str),
    /// So many bytes.
    Key(usize),
    /// A command that is about all keys.
    AllKeys,
}

impl Object {
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Command(name) => name.clone().into_owned(),
            Self::Keyspace(name) => (*name).to_owned(),
            Self::Key(bytes) => format!("({bytes} bytes)"),
            Self::AllKeys => "(all keys)".to_owned(),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct DenialEntry {
    pub(crate) id: u64,
    pub(crate) count: u64,
    pub(crate) reason: Reason,
    pub(crate) is_in_transaction: bool,
    pub(crate) object: Object,
    pub(crate) user: String,
    /// The line of `CLIENT INFO`.
    pub(crate) client: String,
    /// Milliseconds since 1970.
    pub(crate) first_ms: u64,
    pub(crate) last_ms: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Denials {
    /// The newest first.
    entries: Mutex<(u64, VecDeque<DenialEntry>)>,
}

impl Denials {
    /// Adds one; what is like one of the last minute only counts there.
    pub(crate) fn add(&self, mut entry: DenialEntry) {
        let mut guard = self.entries.lock();
        let (next_id, entries) = &mut *guard;
        let is_alike = |known: &DenialEntry| {
            (known.reason, known.is_in_transaction, &known.object, &known.user)
                == (entry.reason, entry.is_in_transaction, &entry.object, &entry.user)
                && entry.last_ms.saturating_sub(known.last_ms) < DENIALS_ALIKE_S * 1000
        };
        if let Some(known) = entries.iter().position(is_alike).and_then(|place| entries.remove(place)) {
            entry = DenialEntry { id: known.id, count: known.count + 1, first_ms: known.first_ms, ..entry };
        } else {
            entry.id = *next_id;
            *next_id += 1;
        }
        entries.push_front(entry);
        entries.truncate(DENIALS);
    }

    pub(crate) fn newest(&self, count: usize) -> Vec<DenialEntry> {
        self.entries.lock().1.iter().take(count).cloned().collect()
    }

    /// Forgets all; numbers go on.
    pub(crate) fn clear(&self) {
        self.entries.lock().1.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(bytes: usize, last_ms: u64) -> DenialEntry {
        DenialEntry {
            id: 0,
            count: 1,
            reason: Reason::Key,
            is_in_transaction: false,
            object: Object::Key(bytes),
            user: "ada".into(),
            client: String::new(),
            first_ms: last_ms,
            last_ms,
        }
    }

    #[test]
    fn denials_that_are_alike_are_counted_and_the_list_is_bounded() {
        let denials = Denials::default();
        for at in [1_000, 2_000, 61_999, 200_000] {
            denials.add(entry(3, at));
        }
        let found = denials.newest(10);
        let counts: Vec<_> = found.iter().map(|entry| (entry.id, entry.count, entry.first_ms)).collect();
        assert_eq!(counts, [(1, 1, 200_000), (0, 3, 1_000)]);
        for number in 0..10_000 {
            denials.add(entry(number, 300_000));
        }
        assert_eq!(denials.newest(usize::MAX).len(), DENIALS);
        denials.clear();
        assert!(denials.newest(1).is_empty());
    }
}
