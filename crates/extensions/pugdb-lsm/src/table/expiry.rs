//! When how much of a table expires: what tells the picker that a table is worth writing anew, without reading it.

use pugdb_core::RawOp;
use pugdb_core::coding::{Reader, put_varint};
use pugdb_core::{EntryKind, Error, Result, Timestamp};

/// At most so many steps a writer keeps with a table.
const STEPS_MAX: usize = 16;
/// And a reader takes in as many: a later writer may keep more.
const STEPS_READ_MAX: usize = 256;
const _: () = assert!(STEPS_MAX <= STEPS_READ_MAX);
/// Entries that a writer remembers before it puts neighbours together: bounded memory, and little lost.
const REMEMBERED_MAX: usize = 4096;
/// What an entry takes in a block beside key and value: seqno, offset, flags, lengths, expiry.
const ENTRY_OVERHEAD: u64 = 24;

/// How many entries of a table expire, and when how many of its bytes have expired.
///
/// Moments are rounded up: never is more said to have expired than has. The last one is exact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expiries {
    /// Puts with an expiry.
    pub entries: u64,
    /// At this moment so many bytes more have expired; moments ascend.
    steps: Vec<(Timestamp, u64)>,
}

impl Expiries {
    /// The moments, ascending, each with the bytes that expire up to it and after the one before.
    pub fn steps(&self) -> &[(Timestamp, u64)] {
        &self.steps
    }

    /// When the last entry with an expiry expires.
    pub fn last(&self) -> Option<Timestamp> {
        self.steps.last().map(|(at, _)| *at)
    }

    /// The steps: moments as differences, and bytes, all varints.
    pub(crate) fn encode_steps(&self) -> Vec<u8> {
        let (mut out, mut before) = (Vec::new(), 0);
        for (at, bytes) in &self.steps {
            put_varint(&mut out, at.0 - before);
            put_varint(&mut out, *bytes);
            before = at.0;
        }
        out
    }

    pub(crate) fn decode(entries: u64, steps: &[u8]) -> Result<Self> {
        let (mut reader, mut decoded) = (Reader::new(steps), Vec::<(Timestamp, u64)>::new());
        while !reader.is_empty() {
            if decoded.len() == STEPS_READ_MAX {
                return Err(Error::newer(format_args!(
                    "more than {STEPS_READ_MAX} moments of expiry in a table"
                )));
            }
            let before = decoded.last().map_or(0, |(at, _)| at.0);
            let (step, bytes) = (reader.varint()?, reader.varint()?);
            let at = before.checked_add(step).filter(|_| decoded.is_empty() || step > 0);
            decoded.push((Timestamp(at.ok_or_else(|| Error::corrupt("moments do not ascend"))?), bytes));
        }
        if decoded.is_empty() != (entries == 0) {
            return Err(Error::corrupt("the moments do not agree with the entries that expire"));
        }
        Ok(Self { entries, steps: decoded })
    }
}

/// What a writer remembers of the entries that expire.
#[derive(Debug, Default)]
pub(super) struct ExpirySketch {
    entries: u64,
    remembered: Vec<(Timestamp, u64)>,
}

impl ExpirySketch {
    pub(super) fn add(&mut self, op: &RawOp<'_>) {
        let Some(at) = op.expires_at.filter(|_| op.kind == EntryKind::Put) else { return };
        let bytes = (op.key.len() + op.value.len()) as u64 + ENTRY_OVERHEAD;
        self.entries += 1;
        self.remembered.push((at, bytes));
        if self.remembered.len() == REMEMBERED_MAX {
            self.condense(REMEMBERED_MAX / 2);
        }
    }

    pub(super) fn finish(mut self) -> Expiries {
        self.condense(STEPS_MAX);
        Expiries { entries: self.entries, steps: self.remembered }
    }

    /// Puts neighbours together until at most `steps` are left, each with a like part of the bytes. A step has the
    /// moment of its latest entry.
    fn condense(&mut self, steps: usize) {
        self.remembered.sort_unstable();
        let total: u64 = self.remembered.iter().map(|(_, bytes)| bytes).sum();
        // One step is kept back for what is left at the end.
        let step_bytes = total / (steps as u64 - 1) + 1;
        let mut condensed: Vec<(Timestamp, u64)> = Vec::with_capacity(steps);
        for (at, bytes) in self.remembered.drain(..) {
            match condensed.last_mut() {
                Some(last) if last.0 == at || last.1 < step_bytes => *last = (at, last.1 + bytes),
                _ => condensed.push((at, bytes)),
            }
        }
        self.remembered = condensed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pugdb_core::{Entry, EntryOptions, Value};

    fn sketch(moments: impl Iterator<Item = u64>) -> Expiries {
        let mut sketch = ExpirySketch::default();
        for at in moments {
            let options = EntryOptions { expires_at: Some(Timestamp(at)), ..EntryOptions::default() };
            let entry = Entry::put_with(Value::new(vec![0; 72]).unwrap(), options);
            sketch.add(&entry.raw(b"four"));
        }
        sketch.finish()
    }

    fn bytes_at(expiries: &Expiries, time: u64) -> u64 {
        expiries.steps().iter().take_while(|(at, _)| at.0 <= time).map(|(_, bytes)| bytes).sum()
    }

    #[test]
    fn few_moments_are_kept_exactly() {
        let expiries = sketch([7, 5, 7, 9].into_iter());
        let steps = [(5, 100), (7, 200), (9, 100)].map(|(at, bytes)| (Timestamp(at), bytes));
        assert_eq!((expiries.entries, expiries.steps()), (4, &steps[..]));
    }

    #[test]
    fn many_moments_are_rounded_up_and_nothing_is_lost() {
        // 7919 and 100,003 have no common divisor: all moments, in no order.
        let expiries = sketch((0..100_003).map(|number| number * 7919 % 100_003));
        assert!(expiries.steps().len() <= STEPS_MAX && expiries.steps().len() > STEPS_MAX / 2);
        assert_eq!((expiries.entries, expiries.last()), (100_003, Some(Timestamp(100_002))));
        for time in (0..100_003).step_by(1000) {
            let (said, expired) = (bytes_at(&expiries, time), (time + 1) * 100);
            assert!(said <= expired && expired - said < 10_000_300 / 5, "{said} of {expired} at {time}");
        }
        assert_eq!(bytes_at(&expiries, 100_002), 10_000_300);
    }

    #[test]
    fn a_table_without_expiry_has_no_steps() {
        let mut sketch = ExpirySketch::default();
        let delete = Entry { expires_at: Some(Timestamp(1)), ..Entry::delete() };
        sketch.add(&delete.raw(b""));
        assert_eq!(sketch.finish(), Expiries::default());
    }

    #[test]
    fn steps_come_back_and_every_cut_is_corrupt() {
        let expiries = sketch([1 << 40, u64::MAX, 3].into_iter());
        let bytes = expiries.encode_steps();
        assert_eq!(Expiries::decode(3, &bytes).unwrap(), expiries);
        assert!(Expiries::decode(0, &bytes).is_err() && Expiries::decode(3, &[]).is_err());
        for end in (0..bytes.len()).filter(|end| Expiries::decode(3, &bytes[..*end]).is_ok()) {
            // Between two steps a cut cannot be seen here; the properties' own length shows it.
            assert!(expiries.steps().len() > Expiries::decode(3, &bytes[..end]).unwrap().steps().len());
        }
        assert!(Expiries::decode(3, &[5, 1, 0, 1]).is_err());
    }

    #[test]
    fn a_reader_takes_more_steps_than_a_writer_keeps_and_not_any_number() {
        let steps = |count: u64| (0..count).flat_map(|_| [1, 9]).collect::<Vec<u8>>();
        for count in [STEPS_MAX + 1, STEPS_READ_MAX] {
            let bytes = steps(count as u64);
            let read = Expiries::decode(300, &bytes).unwrap();
            assert_eq!((read.steps().len(), read.encode_steps()), (count, bytes));
        }
        let error = Expiries::decode(300, &steps(STEPS_READ_MAX as u64 + 1)).unwrap_err();
        assert_eq!(error.kind(), pugdb_core::ErrorKind::Unsupported);
    }
}
