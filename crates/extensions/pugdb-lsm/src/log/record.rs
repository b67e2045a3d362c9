//! What one log record says: a batch, a change of keyspaces, or a mark of the durable position.

use pugdb_core::coding::{Reader, put_varint};
use pugdb_core::{Error, KeyspaceId, Result, Seqno, Timestamp};

/// The kind of a record. The numbers are part of the disk format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// Truncations, swaps of names, then operations: one section a keyspace.
    Batch = 1,
    /// A keyspace comes into being; its section holds engine and name.
    CreateKeyspace = 2,
    /// A keyspace ends.
    DropKeyspace = 3,
    /// A keyspace's new tables are made otherwise; its section holds how.
    AlterKeyspace = 5,
    /// A keyspace's entries are in other trees from here on; its section holds which.
    PartitionKeyspace = 6,
    /// Nothing but the durable position in the frame's header, and the time.
    Mark = 4,
}

/// The head of a record: everything but the keyspaces' own bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// What it is.
    pub kind: RecordKind,
    /// The clock when it was written. Expiry never goes back behind it.
    pub now: Timestamp,
    /// The first seqno. Truncations and swaps take one each, in their order; then come the operations, in the order of
    /// the sections.
    pub first: Seqno,
    /// Keyspaces that forget everything before their seqno.
    pub truncated: Vec<KeyspaceId>,
    /// Keyspaces that exchange their names.
    pub swapped: Vec<(KeyspaceId, KeyspaceId)>,
    /// How many operations each section holds.
    pub counts: Vec<u64>,
    /// The keyspace that a change is about (its section may be sealed for good: the id stays readable).
    pub subject: KeyspaceId,
}

impl RecordHead {
    fn new(kind: RecordKind, now: Timestamp, first: Seqno) -> Self {
        Self {
            kind,
            now,
            first,
            truncated: Vec::new(),
            swapped: Vec::new(),
            counts: Vec::new(),
            subject: KeyspaceId(0),
        }
    }

    /// A batch of operations.
    pub fn batch(now: Timestamp, first: Seqno, counts: Vec<u64>) -> Self {
        Self { counts, ..Self::new(RecordKind::Batch, now, first) }
    }

    /// A change of a keyspace, which takes one seqno.
    pub fn change(kind: RecordKind, now: Timestamp, seqno: Seqno, subject: KeyspaceId) -> Self {
        Self { counts: vec![1], subject, ..Self::new(kind, now, seqno) }
    }

    /// A mark.
    pub fn mark(now: Timestamp) -> Self {
        Self::new(RecordKind::Mark, now, Seqno::ZERO)
    }

    /// The seqno of the first operation, behind truncations and swaps.
    pub fn first_operation(&self) -> Seqno {
        self.first.plus((self.truncated.len() + self.swapped.len()) as u64)
    }

    /// The last seqno of the record; zero for a mark.
    pub fn last(&self) -> Seqno {
        Seqno((self.first_operation().0 + self.counts.iter().sum::<u64>()).saturating_sub(1))
    }

    /// Appends the head's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.kind as u8);
        put_varint(out, self.now.0);
        put_varint(out, self.first.0);
        put_varint(out, u64::from(self.subject.0));
        put_varint(out, self.truncated.len() as u64);
        for keyspace in &self.truncated {
            put_varint(out, u64::from(keyspace.0));
        }
        put_varint(out, self.swapped.len() as u64);
        for (one, other) in &self.swapped {
            put_varint(out, u64::from(one.0));
            put_varint(out, u64::from(other.0));
        }
        put_varint(out, self.counts.len() as u64);
        for count in &self.counts {
            put_varint(out, *count);
        }
    }

    /// Reads the head's bytes.
    ///
    /// # Errors
    /// `Corrupt` when they are no head, `Unsupported` when it is one of a kind that came later, or says what its kind does
    /// not have.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        use RecordKind::{AlterKeyspace, Batch, CreateKeyspace, DropKeyspace, Mark, PartitionKeyspace};
        let mut reader = Reader::new(bytes);
        let number = reader.u8()?;
        let kind = [Batch, CreateKeyspace, DropKeyspace, Mark, AlterKeyspace, PartitionKeyspace]
            .into_iter()
            .find(|kind| *kind as u8 == number)
            .ok_or_else(|| unknown(number))?;
        let now = Timestamp(reader.varint()?);
        let first = Seqno(reader.varint()?);
        let subject = KeyspaceId(reader.varint_u32()?);
        let keyspace = |reader: &mut Reader<'_>| reader.varint_u32().map(KeyspaceId);
        let truncated = list(&mut reader, keyspace)?;
        let swapped = list(&mut reader, |reader| Ok((keyspace(reader)?, keyspace(reader)?)))?;
        let counts = list(&mut reader, Reader::varint)?;
        let changes = (truncated.len() + swapped.len()) as u64;
        let total =
            counts.iter().try_fold(first.0.saturating_add(changes), |sum, count| sum.checked_add(*count));
        if total.is_none_or(|total| total == u64::MAX) {
            return Err(Error::corrupt("a log record's head does not add up"));
        }
        if !reader.is_empty() {
            return Err(Error::newer("what stands behind the head of a log record"));
        }
        let head = Self { kind, now, first, truncated, swapped, counts, subject };
        head.check()?;
        Ok(head)
    }

    /// Refuses what the record's kind does not have: whoever replays it would pass it over.
    fn check(&self) -> Result<()> {
        let is_batch = self.kind == RecordKind::Batch;
        let has_changes = !self.truncated.is_empty() || !self.swapped.is_empty();
        let is_known = match self.kind {
            RecordKind::Batch => self.subject.0 == 0,
            RecordKind::Mark => self.subject.0 == 0 && self.counts.is_empty() && self.first == Seqno::ZERO,
            _ => self.counts == [1],
        };
        if is_known && (is_batch || !has_changes) {
            return Ok(());
        }
        Err(Error::newer(format_args!("a log record of kind {} with what others have", self.kind as u8)))
    }

    /// How many sections the record has.
    pub fn sections(&self) -> usize {
        match self.kind {
            RecordKind::Batch => self.counts.len(),
            RecordKind::CreateKeyspace | RecordKind::AlterKeyspace | RecordKind::PartitionKeyspace => 1,
            RecordKind::DropKeyspace | RecordKind::Mark => 0,
        }
    }
}

/// Bit 7 of a record's kind: the id of a sequence domain follows. There is none yet but that of stream 0, which is not named.
const HAS_DOMAIN: u8 = 1 << 7;

fn unknown(kind: u8) -> Error {
    if kind & HAS_DOMAIN != 0 {
        return Error::newer("a log record of a sequence domain");
    }
    Error::newer(format_args!("a log record of the kind {kind}"))
}

/// A length, then so many items.
fn list<'a, T>(
    reader: &mut Reader<'a>,
    mut item: impl FnMut(&mut Reader<'a>) -> Result<T>,
) -> Result<Vec<T>> {
    let count = reader.length()?;
    if count > reader.rest().len() {
        return Err(Error::corrupt("a log record lists more than it has bytes"));
    }
    (0..count).map(|_| item(reader)).collect()
}

#[cfg(test)]
mod tests {
    use pugdb_core::ErrorKind;

    use super::*;

    #[test]
    fn heads_round_trip_and_cuts_are_corrupt() {
        for head in [
            RecordHead::batch(Timestamp(1 << 40), Seqno(77), vec![3, 0, 500]),
            RecordHead::change(RecordKind::DropKeyspace, Timestamp(5), Seqno(9), KeyspaceId(12)),
            RecordHead::mark(Timestamp(0)),
            RecordHead {
                truncated: vec![KeyspaceId(3), KeyspaceId(400)],
                swapped: vec![(KeyspaceId(1), KeyspaceId(2))],
                ..RecordHead::batch(Timestamp(1), Seqno(7), vec![])
            },
        ] {
            let mut bytes = Vec::new();
            head.encode(&mut bytes);
            assert_eq!(RecordHead::decode(&bytes).unwrap(), head);
            for end in 0..bytes.len() {
                assert!(RecordHead::decode(&bytes[..end]).is_err());
            }
        }
        let batch = RecordHead::batch(Timestamp(0), Seqno(77), vec![3, 2]);
        assert_eq!(batch.last(), Seqno(81));
        let with_changes = RecordHead {
            truncated: vec![KeyspaceId(1)],
            swapped: vec![(KeyspaceId(1), KeyspaceId(2))],
            ..batch
        };
        assert_eq!((with_changes.first_operation(), with_changes.last()), (Seqno(79), Seqno(83)));
    }

    #[test]
    fn counts_that_overflow_are_corrupt() {
        let head = RecordHead::batch(Timestamp(0), Seqno(u64::MAX), vec![2]);
        let mut bytes = Vec::new();
        head.encode(&mut bytes);
        assert!(RecordHead::decode(&bytes).is_err());
    }

    fn refused(head: &RecordHead, change: impl FnOnce(&mut Vec<u8>)) -> ErrorKind {
        let mut bytes = Vec::new();
        head.encode(&mut bytes);
        change(&mut bytes);
        RecordHead::decode(&bytes).expect_err("it says what is not known").kind()
    }

    #[test]
    fn a_head_that_says_what_its_kind_does_not_have_is_of_a_newer_version() {
        use RecordKind::{AlterKeyspace, CreateKeyspace, DropKeyspace, PartitionKeyspace};
        let batch = RecordHead::batch(Timestamp(5), Seqno(9), vec![3]);
        for kind in (7..=u8::MAX).chain([0]) {
            assert_eq!(refused(&batch, |bytes| bytes[0] = kind), ErrorKind::Unsupported, "kind {kind}");
        }
        assert_eq!(refused(&batch, |bytes| bytes.push(0)), ErrorKind::Unsupported, "more behind it");
        let subject = KeyspaceId(4);
        let mut odd = vec![
            RecordHead { subject, ..batch.clone() },
            RecordHead { subject, ..RecordHead::mark(Timestamp(5)) },
            RecordHead { counts: vec![1], ..RecordHead::mark(Timestamp(5)) },
            RecordHead { first: Seqno(1), ..RecordHead::mark(Timestamp(5)) },
        ];
        let changes = [CreateKeyspace, DropKeyspace, AlterKeyspace, PartitionKeyspace]
            .map(|kind| RecordHead::change(kind, Timestamp(5), Seqno(9), subject));
        for head in changes.into_iter().chain([RecordHead::mark(Timestamp(5))]) {
            odd.push(RecordHead { truncated: vec![KeyspaceId(3)], ..head.clone() });
            odd.push(RecordHead { swapped: vec![(KeyspaceId(3), KeyspaceId(2))], ..head.clone() });
            odd.push(RecordHead { counts: vec![1, 1], ..head.clone() });
            odd.push(RecordHead { counts: vec![2], ..head });
        }
        for head in odd {
            assert_eq!(refused(&head, |_| ()), ErrorKind::Unsupported, "{head:?}");
        }
    }
}
