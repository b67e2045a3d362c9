//! The audit log: what was done, by whom, to what, and what came of it, in files that show whether somebody has changed them.
//!
//! ```
//! use pugdb::Database;
//! use pugdb::audit::{Action, AuditOptions};
//! use pugdb::keys::KeyFile;
//!
//! # let dir = tempfile::tempdir().unwrap();
//! # let (path, key, copy) = (dir.path().join("data"), dir.path().join("orders.key"), dir.path().join("elsewhere"));
//! let builder = Database::builder().root_key(KeyFile::new(&key)).audit(AuditOptions::default()).audit_copy(&copy);
//! let db = builder.clone().open(&path)?;
//! db.keyspace("orders")?;
//! db.erase_subjects(&["ada"])?;
//! db.close()?;
//!
//! let log = builder.audit_log(&path)?;
//! let mut erasures = 0;
//! log.records(&mut |record| {
//!     erasures += usize::from(record.event.action == Action::EraseSubjects && log.is_about(record, b"ada"));
//!     Ok(true)
//! })?;
//! assert_eq!(erasures, 2); // that it is about to be done, and that it was
//! let report = log.verify(Some(&std::fs::read_to_string(&copy).unwrap()))?;
//! assert!(report.problem.is_none());
//! # Ok::<(), pugdb::Error>(())
//! ```
//!
//! | file | its part |
//! |---|---|
//! | `writer.rs` | one record after the other, synced where that matters; checkpoints; what is removed in the end |
//! | `segment.rs` | the files |
//! | `recover.rs` | where the log goes on after an open |
//! | `log.rs` | [`AuditLog`]: reads all of it, verifies, proves |
//! | `second.rs` | the second place: checkpoints elsewhere |
//! | `witness.rs` | what the database itself has recorded |
//! | `options.rs` | [`AuditOptions`] |
//!
//! What a chain can show and what it cannot is in `docs/guide/audit.md`, why it is so in `docs/adr/0052-audit-log.md`.

mod log;
mod options;
mod recover;
mod second;
mod segment;
mod witness;
mod writer;

use std::fmt;
use std::sync::Arc;

use pugdb_core::Result;
pub use pugdb_security::audit::{
    Action, Actor, Checkpoint, ConsistencyProof, Count, Event, InclusionProof, Object, ObjectKind, Outcome,
    Reason, Record, UnknownNumber,
};

pub use log::{AuditAgainst, AuditLog, AuditProblem, AuditReport};
pub use options::{AuditAccess, AuditKeep, AuditOptions, AuditRule, OnFailure};
pub(crate) use segment::{AUDIT, database, folder, list};
use witness::acting;
pub use witness::acting_as;
pub(crate) use witness::{KeyWitness, about_keyspace, committing, reading, scanning, taking_in, witnessed};
pub use writer::AuditStats;
pub(crate) use writer::Core;

use crate::Database;

/// The audit log of an open database. Cheap to clone.
///
/// ```
/// use pugdb::audit::{Action, Actor, AuditOptions, Event, ObjectKind};
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("data");
/// let db = pugdb::Database::builder().audit(AuditOptions::default()).open(&path)?;
/// let audit = db.audit().unwrap();
/// // What a program above the database has to say: here that somebody has not been let in.
/// let event = Event::done(Action::Auth).failed(pugdb::ErrorKind::Denied).on(audit.object(ObjectKind::User, b"ada"));
/// audit.record(&Actor::new("ada", "192.0.2.7:4711"), event)?;
/// assert_eq!(audit.stats().records, 2);
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone)]
pub struct Audit(Arc<Core>);

impl Audit {
    /// Records an event. It is durable when this returns, but for reads and writes, which are within a second.
    ///
    /// ```
    /// use pugdb::audit::{Action, Actor, AuditOptions, Event};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::builder().audit(AuditOptions::default()).open(&path)?;
    /// db.audit().unwrap().record(&Actor::new("ada", "192.0.2.7:4711"), Event::done(Action::Config))?;
    /// assert!(db.audit().unwrap().verify()?.problem.is_none());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// Where [`OnFailure::Block`] was chosen, what keeps it from being written: then do not do it. `Closed`.
    pub fn record(&self, actor: &Actor, event: Event) -> Result<()> {
        self.0.record(actor, event).map(drop)
    }

    /// Does something between two records: that it is about to be done, and what came of it.
    ///
    /// ```
    /// use pugdb::audit::{Action, Actor, AuditOptions, Event};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::builder().audit(AuditOptions::default()).open(&path)?;
    /// let audit = db.audit().unwrap();
    /// let ada = Actor::new("ada", "192.0.2.7:4711");
    /// let done = audit.witness(&ada, Event::begun(Action::Admin), || Ok("compacted"))?;
    /// assert_eq!((done, audit.stats().records), ("compacted", 3));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// What the work says; as [`record`](Self::record), and then it was not done.
    pub fn witness<T>(&self, actor: &Actor, event: Event, work: impl FnOnce() -> Result<T>) -> Result<T> {
        acting_as(actor, || witnessed(Some(&self.0), |_| event, work))
    }

    /// What stands for a name in records: keyed with the keyring, where there is one.
    ///
    /// ```
    /// use pugdb::audit::{AuditOptions, ObjectKind};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::builder().audit(AuditOptions::default()).open(&path)?;
    /// let audit = db.audit().unwrap();
    /// assert_ne!(audit.object(ObjectKind::User, b"ada"), audit.object(ObjectKind::User, b"bob"));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn object(&self, kind: ObjectKind, name: &[u8]) -> Object {
        self.0.object(kind, name)
    }

    /// States where the log stands now: in the log, and in the second place. It happens by itself every minute, every 1,024 records, and when the
    /// database is closed.
    ///
    /// ```
    /// use pugdb::audit::AuditOptions;
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::builder().audit(AuditOptions::default()).open(&path)?;
    /// let checkpoint = db.audit().unwrap().checkpoint()?;
    /// assert_eq!(checkpoint.size, 1);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// What keeps it from being written, here or in the second place.
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        self.0.checkpoint()
    }

    /// The log, to be read.
    ///
    /// ```
    /// use pugdb::audit::AuditOptions;
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::builder().audit(AuditOptions::default()).open(&path)?;
    /// assert_eq!(db.audit().unwrap().log().verify(None)?.last, 1);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn log(&self) -> AuditLog {
        self.0.log()
    }

    /// As [`AuditLog::verify`] without a second place; that it was done is recorded.
    ///
    /// ```
    /// use pugdb::audit::AuditOptions;
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::builder().audit(AuditOptions::default()).open(&path)?;
    /// assert!(db.audit().unwrap().verify()?.problem.is_none());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`AuditLog::verify`] and [`record`](Self::record).
    pub fn verify(&self) -> Result<AuditReport> {
        let report = self.log().verify(None)?;
        let problems = u64::from(report.problem.is_some());
        self.0.note(
            Event::done(Action::Verify)
                .on(self.object(ObjectKind::Name, b"audit"))
                .count(Count::Problems, problems),
        )?;
        Ok(report)
    }

    /// How it is doing.
    ///
    /// ```
    /// use pugdb::audit::AuditOptions;
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::builder().audit(AuditOptions::default()).open(&path)?;
    /// assert!(!db.audit().unwrap().stats().is_failing);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn stats(&self) -> AuditStats {
        self.0.stats()
    }
}

impl Audit {
    /// Whether reads or writes are recorded by [rules](AuditOptions::rules): then it matters for each of them who acts.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::builder().audit(pugdb::audit::AuditOptions::default()).open(&path)?;
    /// assert!(!db.audit().unwrap().has_rules());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn has_rules(&self) -> bool {
        self.0.rules().is_some()
    }
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Audit({} records)", self.stats().records)
    }
}

impl Database {
    /// The audit log, when the database was opened with one.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::open(&path)?;
    /// assert!(db.audit().is_none());
    /// db.close()?;
    /// let db = pugdb::Database::builder().audit(pugdb::audit::AuditOptions::default()).open(&path)?;
    /// assert!(db.audit().is_some());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn audit(&self) -> Option<Audit> {
        self.inner.audit().cloned().map(Audit)
    }
}
