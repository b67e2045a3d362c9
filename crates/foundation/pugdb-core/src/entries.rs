//! What one step of a scan brings: entries side by side in one piece of memory, to be looked at there or taken out.

use std::fmt;

use bytes::Bytes;

use crate::entry::{EntryKind, Found, Key, RawOp, SealId, Stamp, Timestamp};
use crate::ids::Seqno;

/// Values up to here are copied beside the keys. A larger one is lent, and keeps what it lies in in memory.
const COPIED_BYTES_MAX: usize = 4 << 10;

/// Entries in order. Keys and small values are copied into one buffer, which is used again for the next batch; what is
/// taken out shares it.
///
/// ```
/// use pugdb_core::engine::Entries;
/// use pugdb_core::{Entry, Found, Key, Seqno, Value};
///
/// let mut entries = Entries::default();
/// let entry = Entry::put(Value::new(b"1815".as_slice())?);
/// entries.push_found(&Key::copy(b"ada")?, &Found { seqno: Seqno(1), entry });
/// assert_eq!(entries.get(0).unwrap().1.value, b"1815");
/// assert_eq!(entries.take(0).unwrap().0, b"ada");
/// # Ok::<(), pugdb_core::Error>(())
/// ```
#[derive(Default)]
pub struct Entries {
    content: Content,
    rows: Vec<Row>,
    /// Large values.
    lent: Vec<Bytes>,
    /// Of entries that are no plain puts.
    fields: Vec<Fields>,
    parts: Parts,
}

/// Which parts of entries are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Parts {
    /// Keys and values.
    #[default]
    All,
    /// Keys; all values are empty, and none is read.
    Keys,
}

enum Content {
    /// Nobody else looks at it.
    Own(Vec<u8>),
    /// Entries were taken out.
    Shared(Bytes),
}

impl Default for Content {
    fn default() -> Self {
        Self::Own(Vec::new())
    }
}

/// Where an entry lies in the content.
struct Row {
    seqno: Seqno,
    key_start: u32,
    value_start: u32,
    value_end: u32,
    /// The value is not in the content: its number among those that are lent.
    lent: u32,
    /// Its number among those that are no plain puts.
    fields: u32,
}

/// No number.
const NONE: u32 = u32::MAX;

/// What an entry says beside key and value.
struct Fields {
    kind: EntryKind,
    meta: u8,
    expires_at: Option<Timestamp>,
    seal: Option<SealId>,
    stamp: Option<Stamp>,
}

impl Entries {
    /// An empty batch for these parts of entries.
    pub fn of(parts: Parts) -> Self {
        Self { parts, ..Self::default() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Takes all out, for the next batch.
    pub fn clear(&mut self) {
        match &mut self.content {
            Content::Own(own) => own.clear(),
            Content::Shared(_) => self.content = Content::default(),
        }
        self.rows.clear();
        self.lent.clear();
        self.fields.clear();
    }

    /// True when values are wanted, and not only keys.
    pub fn has_values(&self) -> bool {
        self.parts == Parts::All
    }

    /// Gives the entry number `number` another value: one that had to be fetched after the entry was found.
    pub fn set_value(&mut self, number: usize, value: Bytes) {
        if let Some(row) = self.rows.get_mut(number) {
            row.lent = position(self.lent.len());
            self.lent.push(value);
        }
    }

    /// Takes all behind the first `len` out again.
    pub fn truncate(&mut self, len: usize) {
        self.rows.truncate(len);
    }

    /// Makes room for so many entries of about so many bytes each.
    pub fn reserve(&mut self, entries: usize, entry_bytes: usize) {
        self.rows.reserve(entries);
        let bytes = entries.saturating_mul(entry_bytes);
        self.own_content().reserve(bytes);
    }

    /// Appends an entry. `share` makes something that can be kept of a large value.
    pub fn push(&mut self, seqno: Seqno, op: &RawOp<'_>, share: impl FnOnce() -> Bytes) {
        self.push_put(seqno, [op.key, &[]], op.value, share);
        if op.flags() != 0 {
            let &RawOp { kind, meta, expires_at, seal, stamp, .. } = op;
            let fields = position(self.fields.len());
            self.fields.push(Fields { kind, meta, expires_at, seal, stamp });
            if let Some(row) = self.rows.last_mut() {
                row.fields = fields;
            }
        }
    }

    /// Appends the entry number `number` of another batch, if it has one.
    pub fn push_from(&mut self, other: &Self, number: usize) {
        let Some((seqno, op)) = other.get(number) else { return };
        let lent = other.lent.get(other.rows[number].lent as usize);
        self.push(seqno, &op, || lent.cloned().unwrap_or_else(|| Bytes::copy_from_slice(op.value)));
    }

    /// Appends a plain put, whose key may lie in two parts.
    #[inline]
    pub fn push_put(&mut self, seqno: Seqno, key: [&[u8]; 2], value: &[u8], share: impl FnOnce() -> Bytes) {
        let value = if self.parts == Parts::Keys { &[] } else { value };
        let is_lent = value.len() > COPIED_BYTES_MAX;
        let content = self.own_content();
        let key_start = position(content.len());
        content.extend_from_slice(key[0]);
        content.extend_from_slice(key[1]);
        let value_start = position(content.len());
        if !is_lent {
            content.extend_from_slice(value);
        }
        let value_end = position(content.len());
        let mut lent = NONE;
        if is_lent {
            lent = position(self.lent.len());
            self.lent.push(share());
        }
        self.rows.push(Row { seqno, key_start, value_start, value_end, lent, fields: NONE });
    }

    /// Appends an entry that somebody owns.
    pub fn push_found(&mut self, key: &Key, found: &Found) {
        let value = &found.entry.value;
        self.push(found.seqno, &found.entry.raw(key), || value.clone().into_bytes());
    }

    /// The key and the value of the entry number `number`, where they lie.
    #[inline]
    pub fn key_value(&self, number: usize) -> Option<(&[u8], &[u8])> {
        let row = self.rows.get(number)?;
        let content: &[u8] = match &self.content {
            Content::Own(own) => own,
            Content::Shared(shared) => shared,
        };
        let value = match self.lent.get(row.lent as usize) {
            Some(lent) => lent,
            None => &content[row.value_start as usize..row.value_end as usize],
        };
        Some((&content[row.key_start as usize..row.value_start as usize], value))
    }

    /// False when all of them are puts with a key and a value, and nothing else.
    #[inline]
    pub fn has_fields(&self) -> bool {
        !self.fields.is_empty()
    }

    /// The key that seals the value of the entry number `number`, if one does.
    #[inline]
    pub fn seal(&self, number: usize) -> Option<SealId> {
        let row = self.rows.get(number)?;
        self.fields.get(row.fields as usize)?.seal
    }

    /// The entry number `number`, where it lies.
    pub fn get(&self, number: usize) -> Option<(Seqno, RawOp<'_>)> {
        let (key, value) = self.key_value(number)?;
        let row = &self.rows[number];
        let op = match self.fields.get(row.fields as usize) {
            None => RawOp::put(key, value),
            Some(&Fields { kind, meta, expires_at, seal, stamp }) => {
                RawOp { key, kind, meta, expires_at, seal, stamp, value }
            }
        };
        Some((row.seqno, op))
    }

    /// The entry number `number`, to be kept. It shares the batch's memory.
    pub fn take(&mut self, number: usize) -> Option<(Key, Found)> {
        self.rows.get(number)?;
        if let Content::Own(own) = &mut self.content {
            self.content = Content::Shared(std::mem::take(own).into());
        }
        let Content::Shared(shared) = &self.content else { return None };
        let row = &self.rows[number];
        let (seqno, op) = self.get(number)?;
        let key = shared.slice(row.key_start as usize..row.value_start as usize);
        let key = Key::new(key).expect("it was a key when it was pushed");
        let entry = op.entry(|_| match self.lent.get(row.lent as usize) {
            Some(lent) => lent.clone(),
            None => shared.slice(row.value_start as usize..row.value_end as usize),
        });
        Some((key, Found { seqno, entry }))
    }

    /// All of them, to be kept.
    pub fn into_found(mut self) -> impl Iterator<Item = (Key, Found)> {
        (0..self.len()).map_while(move |number| self.take(number))
    }

    fn own_content(&mut self) -> &mut Vec<u8> {
        if let Content::Shared(shared) = &self.content {
            // What was taken out keeps the old memory.
            self.content = Content::Own(shared.to_vec());
        }
        match &mut self.content {
            Content::Own(own) => own,
            Content::Shared(_) => unreachable!("it was replaced above"),
        }
    }
}

/// Prints the number: a user's bytes never reach a log or an error.
impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entries({})", self.rows.len())
    }
}

fn position(length: usize) -> u32 {
    u32::try_from(length).expect("a batch has some hundred kilobytes, and lends what is large")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Entry, Value};

    fn some(rng: &mut fastrand::Rng, number: u64) -> (Key, Found) {
        let value =
            vec![rng.u8(..); rng.choice([0, 5, COPIED_BYTES_MAX, COPIED_BYTES_MAX + 1, 70_000]).unwrap()];
        let mut entry = Entry::put(Value::new(value).unwrap());
        if rng.bool() {
            entry.meta = rng.u8(..);
            entry.expires_at = rng.bool().then(|| Timestamp(rng.u64(..)));
            entry.seal = rng.bool().then(|| SealId(rng.u64(..)));
            entry.stamp = rng.bool().then(|| Stamp([rng.u8(..); 16]));
        }
        let key = Key::copy(&number.to_be_bytes()[..rng.usize(..=8)]).unwrap();
        (key, Found { seqno: Seqno(number), entry })
    }

    #[test]
    fn what_is_pushed_is_seen_and_taken_whatever_was_taken_before() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut entries = Entries::default();
        for _ in 0..50 {
            let mut expected = Vec::new();
            for number in 0..rng.u64(..30) {
                let (key, found) = some(&mut rng, number);
                entries.push_found(&key, &found);
                expected.push((key, found));
                let at = rng.usize(..expected.len());
                if rng.u8(..4) == 0 {
                    assert_eq!(entries.take(at).as_ref(), Some(&expected[at]));
                }
                let (seqno, op) = entries.get(at).unwrap();
                let (key, found) = &expected[at];
                assert_eq!((seqno, op), (found.seqno, found.entry.raw(key)));
            }
            assert!(entries.get(expected.len()).is_none() && entries.take(expected.len()).is_none());
            let taken: Vec<_> = (0..entries.len()).map(|at| entries.take(at).unwrap()).collect();
            entries.clear();
            assert!(entries.is_empty());
            entries.push_found(&Key::default(), &some(&mut rng, 1).1);
            entries.clear();
            assert_eq!(taken, expected, "what was taken stays as it was");
        }
    }

    #[test]
    fn entries_of_another_batch_are_the_same_here() {
        let mut rng = fastrand::Rng::with_seed(2);
        let (mut from, mut to, mut expected) = (Entries::default(), Entries::default(), Vec::new());
        for number in 0..100 {
            let (key, found) = some(&mut rng, number);
            from.push_found(&key, &found);
            expected.push((key, found));
        }
        from.set_value(7, Bytes::from_static(b"fetched"));
        expected[7].1.entry.value = Value::new(&b"fetched"[..]).unwrap();
        (0..=100).for_each(|number| to.push_from(&from, number));
        assert!(to.into_found().eq(expected));
    }

    #[test]
    fn a_batch_of_keys_reads_no_value() {
        let mut entries = Entries::of(Parts::Keys);
        let value = vec![1; 70_000];
        entries.push(Seqno(1), &RawOp::put(b"ada", &value), || unreachable!("no value is wanted"));
        assert_eq!(entries.get(0), Some((Seqno(1), RawOp::put(b"ada", b""))));
        assert!(entries.take(0).unwrap().1.entry.value.is_empty());
    }

    #[test]
    fn a_value_that_comes_later_takes_the_place_of_the_first() {
        let mut entries = Entries::default();
        for key in [b"ada", b"bob"] {
            entries.push(Seqno(1), &RawOp::put(key, b"first"), Bytes::new);
        }
        entries.set_value(1, Bytes::from_static(b"later"));
        entries.set_value(2, Bytes::from_static(b"of nobody"));
        assert_eq!(entries.key_value(0), Some((&b"ada"[..], &b"first"[..])));
        assert_eq!(entries.get(1), Some((Seqno(1), RawOp::put(b"bob", b"later"))));
        assert_eq!(entries.take(1).unwrap().1.entry.value, b"later");
        entries.truncate(1);
        assert!(entries.get(1).is_none() && entries.len() == 1);
    }

    #[test]
    fn debug_prints_the_number_only() {
        let mut entries = Entries::default();
        entries.push(Seqno(1), &RawOp::put(b"canary", b"canary"), Bytes::new);
        assert_eq!(format!("{entries:?}"), "Entries(1)");
    }
}
