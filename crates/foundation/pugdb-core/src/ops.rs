//! Operations on one keyspace in the form in which they travel: a batch collects them so, the log keeps these bytes, an
//! engine reads them, and a replay does it again. Nothing is encoded twice, and no operation asks for memory of its own.

use std::fmt;

use bytes::Bytes;

use crate::coding::Reader;
use crate::entry::{Entry, EntryKind, Key, Op, Operation, RawOp, Value, memory_bytes};
use crate::error::{Error, Result};
use crate::ids::Seqno;
use crate::span::KeySpan;

/// Operations, one behind the other, each as [`Operation::encode`] writes it.
///
/// ```
/// use pugdb_core::{Entry, Ops, Value};
///
/// let mut ops = Ops::default();
/// ops.push(&Entry::put(Value::new(&b"1815"[..])?).raw(b"ada"))?;
/// ops.push(&Entry::delete().raw(b"grace"))?;
/// let keys: Vec<&[u8]> = ops.iter().filter_map(|op| op.entry()).map(|op| op.key).collect();
/// assert_eq!(keys, [&b"ada"[..], b"grace"]);
/// assert_eq!(Ops::decode(ops.bytes().to_vec(), 2)?.len(), 2);
/// # Ok::<(), pugdb_core::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Ops {
    /// Whole operations: checked when they came in.
    bytes: Vec<u8>,
    count: usize,
    /// How many of them delete ranges.
    ranges: usize,
    /// How many of them are operands.
    operands: usize,
    /// How many of them delete a key.
    deletes: usize,
    cost_bytes: usize,
}

impl Ops {
    /// Takes over what the log has brought back.
    ///
    /// # Errors
    /// `Corrupt` when it is not `count` operations and nothing else.
    pub fn decode(bytes: Vec<u8>, count: u64) -> Result<Self> {
        let (mut reader, mut ops) = (Reader::new(&bytes), Self::default());
        while !reader.is_empty() {
            ops.count(&Operation::decode(&mut reader)?);
        }
        if ops.count as u64 != count {
            return Err(Error::corrupt("a log record holds another number of operations than it says"));
        }
        ops.bytes = bytes;
        Ok(ops)
    }

    /// Adds an operation.
    ///
    /// # Errors
    /// `Invalid` when key or value are beyond the limits.
    pub fn push(&mut self, op: &RawOp<'_>) -> Result<()> {
        Key::check(op.key)?;
        Value::check(op.value)?;
        op.encode(&mut self.bytes);
        self.count(&Operation::Entry(*op));
        Ok(())
    }

    /// Adds a range delete.
    pub fn push_range(&mut self, span: &KeySpan) {
        let op = Operation::DeleteRange(span.raw());
        op.encode(&mut self.bytes);
        self.count(&op);
    }

    fn count(&mut self, op: &Operation<'_>) {
        self.count += 1;
        match op {
            Operation::DeleteRange(_) => self.ranges += 1,
            Operation::Entry(op) => match op.kind {
                EntryKind::Put => {}
                EntryKind::Operand => self.operands += 1,
                EntryKind::Delete => self.deletes += 1,
            },
        }
        self.cost_bytes = self.cost_bytes.saturating_add(op.cost_bytes());
    }

    /// The operations, in order.
    pub fn iter(&self) -> impl Iterator<Item = Operation<'_>> {
        let mut reader = Reader::new(&self.bytes);
        std::iter::from_fn(move || {
            let more = !reader.is_empty();
            more.then(|| Operation::decode(&mut reader).expect("each was checked when it came in"))
        })
    }

    /// The operations behind `applied`, with their seqnos, when the first of all has the seqno `first`.
    pub fn behind(&self, applied: Seqno, first: Seqno) -> impl Iterator<Item = (Seqno, Operation<'_>)> {
        (first.0..).map(Seqno).zip(self.iter()).filter(move |(seqno, _)| *seqno > applied)
    }

    /// The seqno of the last operation, when the first one has `first`.
    pub fn last(&self, first: Seqno) -> Seqno {
        Seqno((first.0 + self.count as u64).saturating_sub(1))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// True when one of them deletes a range.
    pub fn has_ranges(&self) -> bool {
        self.ranges > 0
    }

    /// True when one of them is an operand.
    pub fn has_operands(&self) -> bool {
        self.operands > 0
    }

    /// How many of them may add a key: puts and operands.
    pub fn additions(&self) -> usize {
        self.count - self.ranges - self.deletes
    }

    /// Bytes they take up in a memtable, near enough for a budget.
    pub fn cost_bytes(&self) -> usize {
        self.cost_bytes
    }

    /// The bytes, as the log keeps them.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl FromIterator<Op> for Ops {
    /// Keys and values of an [`Op`] are within the limits.
    fn from_iter<I: IntoIterator<Item = Op>>(ops: I) -> Self {
        let mut all = Self::default();
        for op in ops {
            let raw = op.entry.raw(&op.key);
            raw.encode(&mut all.bytes);
            all.count(&Operation::Entry(raw));
        }
        all
    }
}

/// Prints lengths: a user's bytes never reach a log or an error.
impl fmt::Debug for Ops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ops({}, {} bytes)", self.count, self.bytes.len())
    }
}

impl RawOp<'_> {
    /// Bytes this operation takes up in a memtable, near enough for a budget.
    pub fn cost_bytes(&self) -> usize {
        memory_bytes(self.key.len(), self.value.len())
    }

    /// An entry of its own.
    pub fn to_entry(&self) -> Entry {
        self.entry(Bytes::copy_from_slice)
    }

    /// A key of its own.
    pub fn to_key(&self) -> Key {
        Key::copy(self.key).expect("an operation's key was held against the limit")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Ops {
        let value = Value::new(vec![1; 300]).unwrap();
        let op = |key: &[u8], entry| Op { key: Key::copy(key).unwrap(), entry };
        [op(b"ada", Entry::put(value)), op(b"grace", Entry::delete())].into_iter().collect()
    }

    #[test]
    fn what_is_collected_is_read_again() {
        let ops = two();
        let mut pushed = Ops::default();
        ops.iter().for_each(|op| pushed.push(&op.entry().unwrap()).unwrap());
        assert_eq!(pushed, ops);
        assert_eq!(Ops::decode(ops.bytes().to_vec(), 2).unwrap(), ops);
        assert_eq!(ops.cost_bytes(), ops.iter().map(|op| op.cost_bytes()).sum::<usize>());
    }

    #[test]
    fn a_range_delete_travels_with_the_others() {
        let mut ops = two();
        assert!(!ops.has_ranges());
        let span = KeySpan::of(&crate::engine::KeyRange::from(b"a"..)).unwrap();
        ops.push_range(&span);
        let read = Ops::decode(ops.bytes().to_vec(), 3).unwrap();
        assert!(read == ops && read.has_ranges());
        assert_eq!(read.iter().last(), Some(Operation::DeleteRange(span.raw())));
        assert_eq!(read.cost_bytes(), read.iter().map(|op| op.cost_bytes()).sum::<usize>());
        assert_eq!(read.behind(Seqno(8), Seqno(7)).map(|(seqno, _)| seqno.0).collect::<Vec<_>>(), [9]);
    }

    #[test]
    fn operands_are_counted_when_they_come_in_and_when_they_come_back() {
        let mut ops = two();
        assert!(!ops.has_operands());
        ops.push(&RawOp::operand(b"ada", b"1")).unwrap();
        assert!(ops.has_operands() && Ops::decode(ops.bytes().to_vec(), 3).unwrap().has_operands());
        ops.push_range(&KeySpan::of(&crate::engine::KeyRange::from(b"a"..)).unwrap());
        assert_eq!((ops.len(), ops.additions()), (4, 2), "a put and an operand; not what deletes");
    }

    #[test]
    fn another_number_or_a_cut_is_corrupt() {
        let ops = two();
        for count in [0, 1, 3, u64::MAX] {
            assert!(Ops::decode(ops.bytes().to_vec(), count).is_err());
        }
        for end in 1..ops.bytes().len() {
            assert!(Ops::decode(ops.bytes()[..end].to_vec(), 2).is_err());
        }
    }

    #[test]
    fn what_is_beyond_a_limit_is_not_taken() {
        let mut ops = Ops::default();
        let key = vec![0; crate::limits::KEY_BYTES_MAX + 1];
        assert!(ops.push(&Entry::delete().raw(&key)).is_err());
        assert!(ops.is_empty() && ops.bytes().is_empty());
        assert!(ops.push(&Entry::delete().raw(&key[1..])).is_ok());
    }
}
