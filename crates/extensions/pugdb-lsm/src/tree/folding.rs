//! Folds operands when entries are written anew: a chain becomes a value where its base is known, and is made shorter where
//! it is not. What an operator refuses stays as it is.

use pugdb_core::{Entry, Seqno, Value};

use super::chain::{OPERAND_OVERHEAD_BYTES, PORTION_BYTES_MAX};
use super::operator::Operator;

/// An operator in one flush or merge.
pub(crate) struct Folding {
    operator: Operator,
    /// Operands that have become part of a value or of another operand.
    pub(crate) folded: u64,
    /// How often the operator refused or panicked.
    pub(crate) failures: u64,
    /// It is not called again.
    has_panicked: bool,
}

/// Operands of one key that all readers see, the newest first.
#[derive(Default)]
pub(super) struct Operands {
    pub(super) all: Vec<(Seqno, Entry)>,
    bytes: usize,
}

impl Operands {
    /// False when there is no room for one more.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.all.is_empty() || self.bytes + bytes + OPERAND_OVERHEAD_BYTES <= PORTION_BYTES_MAX
    }

    pub(super) fn push(&mut self, seqno: Seqno, entry: Entry) {
        self.bytes += entry.value.len() + OPERAND_OVERHEAD_BYTES;
        self.all.push((seqno, entry));
    }
}

impl Folding {
    pub(crate) fn new(operator: Operator) -> Self {
        Self { operator, folded: 0, failures: 0, has_panicked: false }
    }

    /// The value of operands on their base; `None` when they have to stay.
    pub(super) fn fold(&mut self, key: &[u8], existing: Option<&[u8]>, operands: &Operands) -> Option<Value> {
        if self.has_panicked {
            return None;
        }
        let oldest_first: Vec<&[u8]> = operands.all.iter().rev().map(|(_, entry)| &*entry.value).collect();
        match self.operator.merge(key, existing, &oldest_first) {
            Ok(value) => {
                self.folded += oldest_first.len() as u64;
                Some(value)
            }
            Err(error) => {
                self.failures += 1;
                self.has_panicked = error.kind() == pugdb_core::ErrorKind::Internal;
                None
            }
        }
    }

    fn combine_two(&mut self, key: &[u8], older: &[u8], newer: &[u8]) -> Option<Value> {
        if self.has_panicked {
            return None;
        }
        let combined = self.operator.combine(key, older, newer);
        self.has_panicked = combined.is_err();
        self.failures += u64::from(combined.is_err());
        combined.unwrap_or_default()
    }

    /// Makes neighbours one, in rounds, so that what grows is not copied for each of them. One that came of two has the seqno of the
    /// newer: all readers see both.
    pub(super) fn combine(&mut self, key: &[u8], operands: Operands) -> Vec<(Seqno, Entry)> {
        let mut all = operands.all;
        loop {
            let before = all.len();
            let mut shorter: Vec<(Seqno, Entry)> = Vec::with_capacity(before);
            let mut rest = all.into_iter();
            while let Some((seqno, newer)) = rest.next() {
                let Some((older_seqno, older)) = rest.next() else {
                    shorter.push((seqno, newer));
                    break;
                };
                let combined = self.combine_two(key, &older.value, &newer.value);
                match combined {
                    Some(value) => shorter.push((seqno, Entry { value, ..newer })),
                    _ => shorter.extend([(seqno, newer), (older_seqno, older)]),
                }
            }
            if shorter.len() == before {
                return shorter;
            }
            self.folded += (before - shorter.len()) as u64;
            all = shorter;
        }
    }
}
