//! Where scans stand: the cursors that `SCAN` hands out.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::limits::{CURSOR_BYTES_MAX, CURSORS_MAX};

/// The position of a scan: everything up to and with this key was looked at.
///
/// A scan goes through the keys in their order and goes on behind a key, so whoever is there for the whole scan is
/// met once, whatever comes and goes beside it. Nothing is pinned while the client is away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) database: usize,
    pub(crate) after: Bytes,
}

/// The cursors that may be asked for. A scan has two: the one handed out last, and the one before, for a client
/// whose connection broke before it had the answer asks again. The oldest go when there are too many.
#[derive(Debug)]
pub(crate) struct Cursors {
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    /// Begins anywhere below 2^52, so that a cursor of an earlier process is unknown here, and stays below 2^53, which
    /// clients that count in doubles need.
    last_id: u64,
    open: BTreeMap<u64, Open>,
    key_bytes: usize,
}

#[derive(Debug)]
struct Open {
    position: Position,
    /// The cursor from which the scan came here.
    from: Option<u64>,
}

impl Cursors {
    pub(crate) fn new() -> Self {
        let last_id = RandomState::new().build_hasher().finish() >> 12;
        Self { table: Mutex::new(Table { last_id, open: BTreeMap::new(), key_bytes: 0 }) }
    }

    /// Where a cursor stands.
    pub(crate) fn position(&self, id: u64) -> Option<Position> {
        self.table.lock().open.get(&id).map(|open| open.position.clone())
    }

    /// A cursor for the next step of a scan that was asked for with `from`.
    pub(crate) fn advance(&self, from: Option<u64>, position: Position) -> u64 {
        let mut table = self.table.lock();
        // The client has the cursor it came with, so it will not go back behind it.
        let before = from.and_then(|id| table.open.get(&id)).and_then(|open| open.from);
        if let Some(before) = before {
            table.remove(before);
        }
        table.last_id += 1;
        let id = table.last_id;
        table.key_bytes += position.after.len();
        table.open.insert(id, Open { position, from });
        while table.open.len() > CURSORS_MAX || (table.key_bytes > CURSOR_BYTES_MAX && table.open.len() > 1) {
            let oldest = table.open.first_key_value().map(|(&id, _)| id);
            table.remove(oldest.expect("it holds more than one"));
        }
        id
    }

    /// A scan has come to its end from this cursor, which may still be asked for again.
    pub(crate) fn finish(&self, from: u64) {
        let mut table = self.table.lock();
        let before = table.open.get(&from).and_then(|open| open.from);
        if let Some(before) = before {
            table.remove(before);
        }
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.table.lock().open.len()
    }
}

impl Table {
    fn remove(&mut self, id: u64) {
        if let Some(open) = self.open.remove(&id) {
            self.key_bytes -= open.position.after.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(key: &[u8]) -> Position {
        Position { database: 0, after: Bytes::copy_from_slice(key) }
    }

    #[test]
    fn a_scan_keeps_its_last_two_cursors() {
        let cursors = Cursors::new();
        let a = cursors.advance(None, position(b"a"));
        let b = cursors.advance(Some(a), position(b"b"));
        assert_eq!((cursors.position(a), cursors.position(b)), (Some(position(b"a")), Some(position(b"b"))));
        let c = cursors.advance(Some(b), position(b"c"));
        assert_eq!((cursors.position(a), cursors.position(b)), (None, Some(position(b"b"))));
        cursors.finish(c);
        assert_eq!((cursors.position(b), cursors.count()), (None, 1));
        assert!(c < 1 << 53);
    }

    #[test]
    fn the_oldest_cursors_go_when_there_are_too_many() {
        let cursors = Cursors::new();
        let first = cursors.advance(None, position(b"a"));
        let second = cursors.advance(None, position(b"a"));
        for _ in 1..CURSORS_MAX {
            cursors.advance(None, position(b"a"));
        }
        assert_eq!((cursors.count(), cursors.position(first)), (CURSORS_MAX, None));
        assert!(cursors.position(second).is_some());
    }

    #[test]
    fn the_oldest_cursors_go_when_their_keys_are_too_large() {
        let cursors = Cursors::new();
        let key = vec![b'k'; 65_535];
        for _ in 0..2000 {
            cursors.advance(None, position(&key));
        }
        assert!(cursors.table.lock().key_bytes <= CURSOR_BYTES_MAX);
        assert_eq!(cursors.count(), CURSOR_BYTES_MAX / key.len());
    }
}
