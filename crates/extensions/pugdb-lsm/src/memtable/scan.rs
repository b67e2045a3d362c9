//! A scan of a memtable: shows keys and versions where they lie, and copies nothing.

#![expect(unsafe_code, reason = "it points into the memtable that it keeps alive")]

use std::sync::Arc;

use bytes::Bytes;
use pugdb_core::Seqno;
use pugdb_core::engine::{Direction, KeyRange};

use super::Memtable;
use super::cells::{Cell, Node};
use super::order::KeyScan;
use crate::prefetch::prefetch;
use crate::table::Peek;

/// Few at first: a short scan may end here, or have most of its keys elsewhere.
const KEYS_TOGETHER_MIN: usize = 4;
/// A processor waits for about so many places in memory at once.
const KEYS_TOGETHER_MAX: usize = 16;

/// Of each key in a range, in order, the newest version at or below a seqno, deletes included.
pub(crate) struct MemtableScan {
    keys: KeyScan,
    seqno: Seqno,
    // `'static` stands for the life of the memtable below. Nothing that is given out lives longer than a borrow of this.
    current: Option<(Cell<'static>, Node<'static>)>,
    /// What comes next, the last one first.
    ahead: Vec<(Cell<'static>, Node<'static>)>,
    /// How many keys are looked at together next time.
    together: usize,
    /// Where all of the above lies: it goes last.
    memtable: Arc<Memtable>,
}

impl MemtableScan {
    pub(super) fn new(memtable: Arc<Memtable>, range: &KeyRange, direction: Direction, seqno: Seqno) -> Self {
        let is_empty = memtable.is_empty() || range.is_empty();
        let keys = if is_empty { KeyScan::over() } else { memtable.order.scan(range, direction) };
        let mut scan =
            Self { keys, seqno, current: None, ahead: Vec::new(), together: KEYS_TOGETHER_MIN, memtable };
        scan.advance();
        scan
    }

    /// Goes on with another range; without one it is over.
    pub(crate) fn restart(&mut self, range: Option<&KeyRange>, direction: Direction) {
        let keys = range.filter(|range| !range.is_empty());
        self.keys = keys.map_or_else(KeyScan::over, |range| self.memtable.order.scan(range, direction));
        (self.together, self.current) = (KEYS_TOGETHER_MIN, None);
        self.ahead.clear();
        self.advance();
    }

    /// The last seqno that its memtable holds.
    pub(crate) fn newest(&self) -> Seqno {
        self.memtable.last()
    }

    /// What the scan is at.
    pub(crate) fn peek(&self) -> Option<Peek<'_>> {
        self.current.map(|(cell, node)| Peek { seqno: node.seqno(), op: node.raw(cell.key()), apart: None })
    }

    /// The key and the seqno of what [`peek`](Self::peek) shows.
    pub(crate) fn peek_key(&self) -> Option<(&[u8], Seqno)> {
        self.current.map(|(cell, node)| (cell.key(), node.seqno()))
    }

    /// A value that [`peek`](Self::peek) shows as something that can be kept.
    pub(crate) fn share(&self, value: &[u8]) -> Bytes {
        self.memtable.share(value)
    }

    /// Goes on to the next key.
    pub(crate) fn advance(&mut self) {
        if self.ahead.is_empty() {
            self.look_ahead();
        }
        self.current = self.ahead.pop();
    }

    /// Looks at the versions of several keys. Each lies somewhere else, and the processor waits for all of them at once.
    fn look_ahead(&mut self) {
        while self.ahead.is_empty() {
            for _ in 0..self.together {
                let Some(item) = self.keys.next() else { break };
                // SAFETY: its arena is the memtable's, which lives as long as this scan.
                let cell: Cell<'static> = unsafe { item.cell() };
                self.ahead.push((cell, cell.newest()));
            }
            if self.ahead.is_empty() {
                return;
            }
            for (_, newest) in &self.ahead {
                newest.prefetch();
            }
            self.together = (self.together * 2).min(KEYS_TOGETHER_MAX);
            let seqno = self.seqno;
            self.ahead.retain_mut(|(cell, node)| match cell.visible(seqno) {
                Some(visible) => {
                    *node = visible;
                    prefetch(visible.value());
                    true
                }
                None => false,
            });
            self.ahead.reverse();
        }
    }
}
