//! A scan of a memtable: shows keys and versions where they lie, and copies those that are picked.

#![expect(unsafe_code, reason = "it points into the memtable that it keeps alive")]

use std::sync::Arc;

use bytes::Bytes;
use pugdb_core::engine::{Direction, KeyRange};
use pugdb_core::{Found, Key, Seqno};

use super::cells::{Cell, Node};
use super::order::KeyScan;
use super::{COPIED_BYTES_MAX, Memtable};
use crate::table::Peek;

/// Of each key in a range, in order, the newest version at or below a seqno, deletes included.
pub(crate) struct MemtableScan {
    keys: KeyScan,
    seqno: Seqno,
    // `'static` stands for the life of the memtable below. Nothing that is given out lives longer than a borrow of this.
    current: Option<(Cell<'static>, Node<'static>)>,
    picked: Vec<(Cell<'static>, Node<'static>)>,
    /// Where all of the above lies: it goes last.
    memtable: Arc<Memtable>,
}

impl MemtableScan {
    pub(super) fn new(memtable: Arc<Memtable>, range: &KeyRange, direction: Direction, seqno: Seqno) -> Self {
        let is_empty = memtable.is_empty() || range.is_empty();
        let keys = if is_empty { KeyScan::over() } else { memtable.order.scan(range, direction) };
        let mut scan = Self { keys, seqno, current: None, picked: Vec::new(), memtable };
        scan.advance();
        scan
    }

    /// What the scan is at.
    pub(crate) fn peek(&self) -> Option<Peek<'_>> {
        self.current.map(|(cell, node)| Peek {
            key: cell.key(),
            seqno: node.seqno(),
            kind: node.kind(),
            expires_at: node.expires_at(),
            value_bytes: node.value().len(),
        })
    }

    /// Goes on to the next key.
    pub(crate) fn advance(&mut self) {
        self.current = None;
        while let Some(item) = self.keys.next() {
            // SAFETY: its arena is the memtable's, which lives as long as this scan.
            let cell: Cell<'static> = unsafe { item.cell() };
            if let Some(node) = cell.visible(self.seqno) {
                self.current = Some((cell, node));
                return;
            }
        }
    }

    /// Picks what [`peek`](Self::peek) shows, and goes on to the next key.
    pub(crate) fn pick(&mut self) {
        self.picked.extend(self.current);
        self.advance();
    }

    /// What was picked since the last call, in order.
    pub(crate) fn take_picked(&mut self) -> impl Iterator<Item = (Key, Found)> + use<> {
        copies(&self.memtable, std::mem::take(&mut self.picked))
    }
}

/// Entries that leave a memtable together: small keys and values are copied into one piece of memory, which costs far
/// less than a piece for each; large values are lent.
pub(super) fn copies<'a>(
    memtable: &Arc<Memtable>,
    entries: Vec<(Cell<'a>, Node<'a>)>,
) -> impl Iterator<Item = (Key, Found)> + use<'a> {
    let copied = |value: &[u8]| if value.len() <= COPIED_BYTES_MAX { value.len() } else { 0 };
    let sizes = entries.iter().map(|(cell, node)| cell.key().len() + copied(node.value()));
    let mut content = Vec::with_capacity(sizes.sum());
    for (cell, node) in &entries {
        content.extend_from_slice(cell.key());
        content.extend_from_slice(&node.value()[..copied(node.value())]);
    }
    let (content, mut at) = (Bytes::from(content), 0);
    let memtable = Arc::clone(memtable);
    entries.into_iter().map(move |(cell, node)| {
        let mut take = |length: usize| {
            at += length;
            content.slice(at - length..at)
        };
        let key = Key::new(take(cell.key().len())).expect("it was a key when it was put");
        let is_copied = copied(node.value()) == node.value().len();
        let found = node.found(|value| if is_copied { take(value.len()) } else { memtable.share(value) });
        (key, found)
    })
}
