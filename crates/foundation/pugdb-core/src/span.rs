//! Keys side by side, as a range delete names them: both ends in one form, whatever form they were asked for in.

use std::fmt;
use std::ops::Bound;

use crate::engine::KeyRange;
use crate::entry::Key;
use crate::limits::KEY_BYTES_MAX;

/// The keys from `start` on and before `end`; all from `start` on when there is no end. Never empty.
///
/// ```
/// use pugdb_core::KeySpan;
/// use pugdb_core::engine::KeyRange;
///
/// let span = KeySpan::of(&KeyRange::from(b"a"..=b"b")).unwrap();
/// assert!(span.raw().contains(b"a") && span.raw().contains(b"b"));
/// assert!(!span.raw().contains(b"b\0"));
/// assert_eq!(KeySpan::of(&KeyRange::from(b"b"..b"a")), None);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct KeySpan {
    /// The first key.
    pub start: Key,
    /// The first key behind it.
    pub end: Option<Key>,
}

impl KeySpan {
    /// The keys of a range; `None` when there are none. Ends may be longer than a key can be.
    pub fn of(range: &KeyRange) -> Option<Self> {
        let start = match &range.start {
            Bound::Unbounded => Key::default(),
            Bound::Included(key) => from(key)?,
            Bound::Excluded(key) => behind(key)?,
        };
        let end = match &range.end {
            Bound::Unbounded => None,
            Bound::Included(key) => behind(key),
            Bound::Excluded(key) => from(key),
        };
        let is_empty = end.as_ref().is_some_and(|end| *end <= start);
        (!is_empty).then_some(Self { start, end })
    }

    /// A view.
    pub fn raw(&self) -> RawSpan<'_> {
        RawSpan { start: &self.start, end: self.end.as_deref() }
    }
}

/// The first key at or behind these bytes; `None` when there is none.
fn from(bytes: &[u8]) -> Option<Key> {
    if bytes.len() > KEY_BYTES_MAX { behind(bytes) } else { Key::copy(bytes).ok() }
}

/// The first key behind these bytes; `None` when there is none.
fn behind(bytes: &[u8]) -> Option<Key> {
    let next = match bytes.get(..KEY_BYTES_MAX) {
        None => [bytes, &[0]].concat(),
        // No key is longer: the next one differs in a byte that both have.
        Some(longest) => match KeyRange::prefix(longest).end {
            Bound::Excluded(end) => end,
            Bound::Included(_) | Bound::Unbounded => return None,
        },
    };
    Key::new(next).ok()
}

/// Prints lengths: a user's bytes never reach a log or an error.
impl fmt::Debug for KeySpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.raw().fmt(f)
    }
}

/// A [`KeySpan`] as it lies in a buffer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RawSpan<'a> {
    /// The first key.
    pub start: &'a [u8],
    /// The first key behind it.
    pub end: Option<&'a [u8]>,
}

impl RawSpan<'_> {
    /// True when `key` lies inside.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.start <= key && self.end.is_none_or(|end| key < end)
    }

    /// True when some key lies in both.
    pub fn overlaps(&self, other: &RawSpan<'_>) -> bool {
        other.end.is_none_or(|end| self.start < end) && self.end.is_none_or(|end| other.start < end)
    }

    /// The same keys as a range.
    pub fn range(&self) -> KeyRange {
        let end = self.end.map_or(Bound::Unbounded, |end| Bound::Excluded(end.to_vec()));
        KeyRange { start: Bound::Included(self.start.to_vec()), end }
    }

    /// A span of its own.
    pub fn to_span(&self) -> KeySpan {
        let key = |bytes: &[u8]| Key::copy(bytes).expect("an operation's keys were held against the limit");
        KeySpan { start: key(self.start), end: self.end.map(key) }
    }
}

/// Prints lengths: a user's bytes never reach a log or an error.
impl fmt::Debug for RawSpan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end {
            Some(end) => write!(f, "span({} bytes..{} bytes)", self.start.len(), end.len()),
            None => write!(f, "span({} bytes..)", self.start.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys at and beside all ends that a test uses.
    fn probes() -> Vec<Vec<u8>> {
        let longest = vec![0xff; KEY_BYTES_MAX];
        let mut odd = longest.clone();
        odd[7] = 3;
        let mut next = odd[..8].to_vec();
        next[7] = 4;
        let short: [&[u8]; 8] = [b"", b"\0", b"a", b"a\0", b"a\0\0", b"b", b"\xff", b"\xff\xff"];
        short.into_iter().map(<[u8]>::to_vec).chain([longest, odd, next]).collect()
    }

    #[test]
    fn a_span_holds_the_keys_of_its_range_and_no_others() {
        let mut ends = vec![Bound::Unbounded];
        for key in probes() {
            let mut too_long = key.clone();
            too_long.resize(KEY_BYTES_MAX + 2, 0xff);
            ends.extend(
                [key, too_long]
                    .into_iter()
                    .flat_map(|key| [Bound::Included(key.clone()), Bound::Excluded(key)]),
            );
        }
        for start in &ends {
            for end in &ends {
                let range = KeyRange { start: start.clone(), end: end.clone() };
                let span = KeySpan::of(&range);
                for key in probes() {
                    let is_in = span.as_ref().is_some_and(|span| span.raw().contains(&key));
                    assert_eq!(is_in, range.contains(&key), "{} bytes", key.len());
                    if let Some(span) = &span {
                        assert_eq!(span.raw().range().contains(&key), is_in);
                        assert_eq!(span.raw().to_span(), *span);
                    }
                }
            }
        }
    }

    #[test]
    fn a_range_without_keys_is_no_span() {
        let excluded = |key: &[u8]| Bound::Excluded(key.to_vec());
        let empty = [
            KeyRange::from(b"b"..b"b"),
            KeyRange::from(b"b"..=b"a"),
            KeyRange::from(..b""),
            // Ordered, and yet nothing lies between.
            KeyRange { start: excluded(b"a"), end: excluded(b"a\0") },
            KeyRange { start: Bound::Excluded(vec![0xff; KEY_BYTES_MAX]), end: Bound::Unbounded },
        ];
        for range in empty {
            assert_eq!(KeySpan::of(&range), None);
        }
    }

    #[test]
    fn debug_prints_lengths_only() {
        let text = format!("{:?}", KeySpan::of(&KeyRange::from(b"canary"..)));
        assert!(!text.contains("canary") && text.contains("6 bytes"), "{text}");
    }
}
