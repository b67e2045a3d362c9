//! Ready-made merge operators: a sum, a list, the greatest and the least.

use crate::seam::MergeOperator;

/// Adds whole numbers, 64 bits with a sign, written in decimal as people and Redis write them. A key that is not there counts as
/// 0. It refuses what is no number, and a sum out of range.
///
/// ```
/// use pugdb_core::operators::Add;
/// use pugdb_core::seam::MergeOperator;
///
/// assert_eq!(Add.merge(b"visits", Some(b"40"), &[b"3", b"-1"]), Some(b"42".to_vec()));
/// assert_eq!(Add.merge(b"visits", None, &[b"1"]), Some(b"1".to_vec()));
/// assert_eq!(Add.merge(b"visits", Some(b"many"), &[b"1"]), None);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Add;

fn number(bytes: &[u8]) -> Option<i64> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

impl MergeOperator for Add {
    fn name(&self) -> &'static str {
        "add i64 decimal"
    }

    fn merge(&self, _: &[u8], existing: Option<&[u8]>, operands: &[&[u8]]) -> Option<Vec<u8>> {
        let start = existing.map_or(Some(0), number)?;
        let sum = operands.iter().try_fold(start, |sum, operand| sum.checked_add(number(operand)?))?;
        Some(sum.to_string().into_bytes())
    }

    fn combine(&self, _: &[u8], older: &[u8], newer: &[u8]) -> Option<Vec<u8>> {
        Some(number(older)?.checked_add(number(newer)?)?.to_string().into_bytes())
    }
}

/// Appends operands to the value, with a separator between two of them. A key that is not there gets the first one without.
///
/// ```
/// use pugdb_core::operators::Append;
/// use pugdb_core::seam::MergeOperator;
///
/// let lines = Append::new("\n");
/// assert_eq!(lines.merge(b"log", Some(b"a"), &[b"b", b"c"]), Some(b"a\nb\nc".to_vec()));
/// assert_eq!(lines.merge(b"log", None, &[b"a"]), Some(b"a".to_vec()));
/// assert_ne!(lines.name(), Append::new(",").name()); // a keyspace keeps to one of them
/// ```
#[derive(Clone, Debug)]
pub struct Append {
    separator: Vec<u8>,
    name: String,
}

impl Append {
    /// With these bytes between two operands; the name tells a few of them, so keep to eight at most.
    pub fn new(separator: impl Into<Vec<u8>>) -> Self {
        let separator = separator.into();
        let name = format!("append {}", separator.escape_ascii());
        Self { separator, name }
    }

    fn join<'a>(&self, parts: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut joined = Vec::new();
        for (number, part) in parts.enumerate() {
            if number > 0 {
                joined.extend_from_slice(&self.separator);
            }
            joined.extend_from_slice(part);
        }
        joined
    }
}

impl MergeOperator for Append {
    fn name(&self) -> &str {
        &self.name
    }

    fn merge(&self, _: &[u8], existing: Option<&[u8]>, operands: &[&[u8]]) -> Option<Vec<u8>> {
        Some(self.join(existing.into_iter().chain(operands.iter().copied())))
    }

    fn combine(&self, _: &[u8], older: &[u8], newer: &[u8]) -> Option<Vec<u8>> {
        Some(self.join([older, newer].into_iter()))
    }
}

/// Keeps the greatest of all, bytewise, or the least.
///
/// ```
/// use pugdb_core::operators::Extreme;
/// use pugdb_core::seam::MergeOperator;
///
/// assert_eq!(Extreme::Greatest.merge(b"seen", Some(b"b"), &[b"a", b"c"]), Some(b"c".to_vec()));
/// assert_eq!(Extreme::Least.merge(b"seen", None, &[b"b", b"a"]), Some(b"a".to_vec()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extreme {
    /// The one that sorts last.
    Greatest,
    /// The one that sorts first.
    Least,
}

impl Extreme {
    fn of<'a>(self, all: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
        let extreme = match self {
            Self::Greatest => all.max(),
            Self::Least => all.min(),
        };
        extreme.map(<[u8]>::to_vec)
    }
}

impl MergeOperator for Extreme {
    fn name(&self) -> &'static str {
        match self {
            Self::Greatest => "greatest",
            Self::Least => "least",
        }
    }

    fn merge(&self, _: &[u8], existing: Option<&[u8]>, operands: &[&[u8]]) -> Option<Vec<u8>> {
        self.of(existing.into_iter().chain(operands.iter().copied()))
    }

    fn combine(&self, _: &[u8], older: &[u8], newer: &[u8]) -> Option<Vec<u8>> {
        self.of([older, newer].into_iter())
    }
}
