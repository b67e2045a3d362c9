//! The merge operator of the suites: one whose order matters, so that nothing can be folded twice, too late or not at all.

use pugdb_core::seam::MergeOperator;

/// Puts operands behind the value, one after the other.
///
/// ```
/// use pugdb_core::seam::MergeOperator;
/// use pugdb_sim::Concatenate;
///
/// let operator = Concatenate { combines: true };
/// assert_eq!(operator.merge(b"key", Some(b"a"), &[b"b", b"c"]), Some(b"abc".to_vec()));
/// assert_eq!(operator.combine(b"key", b"a", b"b"), Some(b"ab".to_vec()));
/// assert_eq!(Concatenate { combines: false }.combine(b"key", b"a", b"b"), None);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Concatenate {
    /// Whether two operands can become one. It makes no difference to readers.
    pub combines: bool,
}

impl MergeOperator for Concatenate {
    fn name(&self) -> &'static str {
        "concatenate"
    }

    fn merge(&self, _: &[u8], existing: Option<&[u8]>, operands: &[&[u8]]) -> Option<Vec<u8>> {
        Some([existing.unwrap_or_default(), &operands.concat()].concat())
    }

    fn combine(&self, _: &[u8], older: &[u8], newer: &[u8]) -> Option<Vec<u8>> {
        self.combines.then(|| [older, newer].concat())
    }
}
