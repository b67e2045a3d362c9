//! What of the audit log can be chosen.

use std::path::PathBuf;
use std::time::Duration;

use pugdb_core::{Error, Result};
use pugdb_security::audit::Actor;

/// What happens to an operation that cannot be written into the audit log.
///
/// ```
/// use pugdb::audit::OnFailure;
///
/// assert_eq!(OnFailure::default(), OnFailure::Block);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// It is refused, and not done.
    #[default]
    Block,
    /// It is done. What is missing is counted, and a record says how much that is when it works again.
    Continue,
}

/// How much of the audit log is kept.
///
/// ```
/// use std::time::Duration;
/// use pugdb::audit::AuditKeep;
///
/// assert_eq!(AuditKeep::default(), AuditKeep::All);
/// let year = AuditKeep::Age(Duration::from_hours(24 * 365));
/// assert_ne!(year, AuditKeep::Bytes(1 << 30));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuditKeep {
    /// All of it, for ever.
    #[default]
    All,
    /// About so many bytes: whole segments are removed, the oldest first.
    Bytes(u64),
    /// Segments whose newest record is not older.
    Age(Duration),
}

/// Which accesses to a keyspace are recorded, one by one.
///
/// ```
/// use pugdb::audit::{AuditAccess, AuditRule};
///
/// let rule = AuditRule::new("salaries", AuditAccess::All);
/// assert!(rule.prefix.is_empty() && rule.accesses == AuditAccess::All);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditAccess {
    /// Reading.
    Reads,
    /// Changing.
    Writes,
    /// Both.
    All,
}

/// Says which reads and writes are recorded: none, if there is no rule.
///
/// ```
/// use pugdb::audit::{Action, AuditAccess, AuditLog, AuditOptions, AuditRule};
/// use pugdb::{Database, keys::KeyFile};
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let (path, key) = (dir.path().join("data"), dir.path().join("orders.key"));
/// let rule = AuditRule { prefix: b"board:".to_vec(), ..AuditRule::new("salaries", AuditAccess::Reads) };
/// let options = AuditOptions { rules: vec![rule], ..AuditOptions::default() };
/// let db = Database::builder().root_key(KeyFile::new(&key)).audit(options).open(&path)?;
/// let salaries = db.keyspace("salaries")?;
/// salaries.get(b"board:ada")?;
/// salaries.get(b"other")?;
/// let mut reads = 0;
/// db.audit().unwrap().log().records(&mut |record| {
///     reads += usize::from(record.event.action == Action::Read);
///     Ok(true)
/// })?;
/// assert_eq!(reads, 1);
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRule {
    /// The keyspace, by the name that it has at the time.
    pub keyspace: String,
    /// Only keys that begin so.
    pub prefix: Vec<u8>,
    /// What is recorded.
    pub accesses: AuditAccess,
}

impl AuditRule {
    /// A rule for all keys of a keyspace.
    ///
    /// ```
    /// use pugdb::audit::{AuditAccess, AuditRule};
    ///
    /// assert_eq!(AuditRule::new("salaries", AuditAccess::Writes).keyspace, "salaries");
    /// ```
    pub fn new(keyspace: &str, accesses: AuditAccess) -> Self {
        Self { keyspace: keyspace.to_owned(), prefix: Vec::new(), accesses }
    }

    fn is_about(&self, keyspace: &str, is_read: bool) -> bool {
        let is_meant = match self.accesses {
            AuditAccess::Reads => is_read,
            AuditAccess::Writes => !is_read,
            AuditAccess::All => true,
        };
        is_meant && self.keyspace == keyspace
    }
}

/// Whether a key of a keyspace is to be recorded.
pub(crate) fn is_recorded(rules: &[AuditRule], keyspace: &str, key: &[u8], is_read: bool) -> bool {
    rules.iter().any(|rule| rule.is_about(keyspace, is_read) && key.starts_with(&rule.prefix))
}

/// Whether an access to a range of a keyspace is to be recorded: any rule about it counts, whatever its prefix.
pub(crate) fn is_range_recorded(rules: &[AuditRule], keyspace: &str, is_read: bool) -> bool {
    rules.iter().any(|rule| rule.is_about(keyspace, is_read))
}

/// Settings of the audit log, for [`Builder::audit`](crate::Builder::audit).
///
/// ```
/// use pugdb::audit::{Actor, AuditOptions, OnFailure};
///
/// let options = AuditOptions { actor: Actor::new("backup", "nightly.sh"), ..AuditOptions::default() };
/// assert_eq!((options.on_failure, options.actor.name()), (OnFailure::Block, "backup"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditOptions {
    /// What happens when it cannot be written.
    pub on_failure: OnFailure,
    /// How much is kept.
    pub keep: AuditKeep,
    /// Which reads and writes are recorded.
    pub rules: Vec<AuditRule>,
    /// Who acts, where nobody has said anything else by [`acting_as`](crate::audit::acting_as).
    pub actor: Actor,
    /// A segment is ended at this size. Default 8 MiB, at least 4 KiB.
    pub segment_bytes: u64,
    /// A checkpoint is made after so many records. Default 1,024.
    pub checkpoint_records: u64,
    /// A checkpoint is made after this time, if there is a new record. Default a minute.
    pub checkpoint_interval: Duration,
    /// The second place: each checkpoint is added to this file. See [`Builder::audit_copy`](crate::Builder::audit_copy).
    pub copy: Option<PathBuf>,
}

const SEGMENT_BYTES_MIN: u64 = 4 << 10;

impl Default for AuditOptions {
    fn default() -> Self {
        Self {
            on_failure: OnFailure::Block,
            keep: AuditKeep::All,
            rules: Vec::new(),
            actor: Actor::new("program", &format!("process {}", std::process::id())),
            segment_bytes: 8 << 20,
            checkpoint_records: 1024,
            checkpoint_interval: Duration::from_mins(1),
            copy: None,
        }
    }
}

impl AuditOptions {
    pub(crate) fn check(&self) -> Result<()> {
        if self.segment_bytes < SEGMENT_BYTES_MIN {
            return Err(Error::invalid(format!(
                "a segment of the audit log has at least {SEGMENT_BYTES_MIN} bytes; {} were asked for",
                self.segment_bytes
            )));
        }
        if self.checkpoint_records == 0 {
            return Err(Error::invalid(
                "a checkpoint of the audit log is made after 1 record at least, not 0",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_about_its_keyspace_its_keys_and_its_accesses() {
        let rule = AuditRule { prefix: b"a".to_vec(), ..AuditRule::new("users", AuditAccess::Reads) };
        let rules = [rule, AuditRule::new("orders", AuditAccess::Writes)];
        assert!(is_recorded(&rules, "users", b"ada", true));
        assert!(!is_recorded(&rules, "users", b"bob", true));
        assert!(!is_recorded(&rules, "users", b"ada", false));
        assert!(is_recorded(&rules, "orders", b"", false));
        assert!(!is_recorded(&rules, "other", b"ada", true));
        assert!(is_range_recorded(&rules, "users", true) && !is_range_recorded(&rules, "users", false));
    }
}
