//! What one log record says: a batch, a change of keyspaces, or a mark of the durable position.

use pugdb_core::coding::{Reader, put_varint};
use pugdb_core::{Error, KeyspaceId, Result, Seqno, Timestamp};

/// The kind of a record. The numbers are part of the disk format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// Operations: one section a keyspace.
    Batch = 1,
    /// A keyspace comes into being; its section holds engine and name.
    CreateKeyspace = 2,
    /// A keyspace ends.
    DropKeyspace = 3,
    /// A keyspace forgets everything before this seqno.
    TruncateKeyspace = 4,
    /// Nothing but the durable position in the frame's header, and the time.
    Mark = 5,
}

/// The head of a record: everything but the keyspaces' own bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// What it is.
    pub kind: RecordKind,
    /// The clock when it was written. Expiry never goes back behind it.
    pub now: Timestamp,
    /// The seqno of the first operation; later ones follow in the order of the sections.
    pub first: Seqno,
    /// How many operations each section holds.
    pub counts: Vec<u64>,
    /// The keyspace that a change is about (its section may be sealed for good: the id stays readable).
    pub subject: KeyspaceId,
}

impl RecordHead {
    /// A batch of operations.
    pub fn batch(now: Timestamp, first: Seqno, counts: Vec<u64>) -> Self {
        Self { kind: RecordKind::Batch, now, first, counts, subject: KeyspaceId(0) }
    }

    /// A change of a keyspace, which takes one seqno.
    pub fn change(kind: RecordKind, now: Timestamp, seqno: Seqno, subject: KeyspaceId) -> Self {
        Self { kind, now, first: seqno, counts: vec![1], subject }
    }

    /// A mark.
    pub fn mark(now: Timestamp) -> Self {
        Self { kind: RecordKind::Mark, now, first: Seqno::ZERO, counts: Vec::new(), subject: KeyspaceId(0) }
    }

    /// The last seqno of the record; zero for a mark.
    pub fn last(&self) -> Seqno {
        Seqno((self.first.0 + self.counts.iter().sum::<u64>()).saturating_sub(1))
    }

    /// The head's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        out.push(self.kind as u8);
        put_varint(&mut out, self.now.0);
        put_varint(&mut out, self.first.0);
        put_varint(&mut out, u64::from(self.subject.0));
        put_varint(&mut out, self.counts.len() as u64);
        for count in &self.counts {
            put_varint(&mut out, *count);
        }
        out
    }

    /// Reads the head's bytes.
    ///
    /// # Errors
    /// `Corrupt` when they are no head.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        use RecordKind::{Batch, CreateKeyspace, DropKeyspace, Mark, TruncateKeyspace};
        let mut reader = Reader::new(bytes);
        let number = reader.u8()?;
        let kind = [Batch, CreateKeyspace, DropKeyspace, TruncateKeyspace, Mark]
            .into_iter()
            .find(|kind| *kind as u8 == number)
            .ok_or_else(|| Error::corrupt("a log record has a kind this version does not know"))?;
        let now = Timestamp(reader.varint()?);
        let first = Seqno(reader.varint()?);
        let subject = KeyspaceId(reader.varint_u32()?);
        let sections = reader.length()?;
        if sections > reader.rest().len() {
            return Err(Error::corrupt("a log record has more sections than bytes"));
        }
        let counts = (0..sections).map(|_| reader.varint()).collect::<Result<Vec<_>>>()?;
        let total = counts.iter().try_fold(first.0, |sum, count| sum.checked_add(*count));
        if total.is_none() || !reader.is_empty() {
            return Err(Error::corrupt("a log record's head does not add up"));
        }
        Ok(Self { kind, now, first, counts, subject })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_round_trip_and_cuts_are_corrupt() {
        for head in [
            RecordHead::batch(Timestamp(1 << 40), Seqno(77), vec![3, 0, 500]),
            RecordHead::change(RecordKind::DropKeyspace, Timestamp(5), Seqno(9), KeyspaceId(12)),
            RecordHead::mark(Timestamp(0)),
        ] {
            let bytes = head.encode();
            assert_eq!(RecordHead::decode(&bytes).unwrap(), head);
            for end in 0..bytes.len() {
                assert!(RecordHead::decode(&bytes[..end]).is_err());
            }
        }
        assert_eq!(RecordHead::batch(Timestamp(0), Seqno(77), vec![3, 2]).last(), Seqno(81));
    }

    #[test]
    fn counts_that_overflow_are_corrupt() {
        let head = RecordHead::batch(Timestamp(0), Seqno(u64::MAX), vec![2]);
        assert!(RecordHead::decode(&head.encode()).is_err());
    }
}
