//! The audit log as it lies on disk, read from its beginning: verified, shown, proved. It changes nothing and takes no lock, so it works beside whoever
//! writes, and on copies.

use std::collections::BTreeMap;
use std::fmt;

use pugdb_core::{Error, ErrorKind, Result};
use pugdb_lsm::file::Context;
use pugdb_security::audit::{
    Action, ChainHash, Checkpoint, ConsistencyProof, Count, Gather, InclusionProof, Notary, Object,
    ObjectKind, Record, TreeHash, chain, consistency_spans, inclusion_spans, leaf,
};

use super::second::Expected;
use super::segment::{Item, SegmentReader, Stand, Start, Tail, folder, list};

/// Records that one segment has beyond the beginning of the next: those that were not synced when a write failed.
const OVERLAP_MAX: usize = 1 << 16;

/// The audit log of a database, to be read: of [`Audit::log`](super::Audit::log) while it is open here, of
/// [`Builder::audit_log`](crate::Builder::audit_log) beside another process or in a copy.
///
/// ```
/// use pugdb::Database;
/// use pugdb::audit::AuditOptions;
/// use pugdb::keys::KeyFile;
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let (path, key) = (dir.path().join("data"), dir.path().join("orders.key"));
/// let builder = Database::builder().root_key(KeyFile::new(&key));
/// builder.clone().audit(AuditOptions::default()).open(&path)?.close()?;
///
/// let log = builder.audit_log(&path)?;
/// let report = log.verify(None)?;
/// assert!(report.problem.is_none() && report.records > 0);
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone)]
pub struct AuditLog {
    context: Context,
    notary: Notary,
}

/// Where the log is not what was written.
///
/// ```
/// use pugdb::audit::AuditProblem;
///
/// let problem = AuditProblem { record: 7, segment: 2, what: "records are missing".into() };
/// assert_eq!(problem.to_string(), "record 7 (segment 2): records are missing");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditProblem {
    /// The first record that is not there, or not as it was.
    pub record: u64,
    /// The segment in which that was noticed.
    pub segment: u64,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for AuditProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {} (segment {}): {}", self.record, self.segment, self.what)
    }
}

/// What came of holding a log against its second place.
///
/// ```
/// use pugdb::audit::AuditAgainst;
///
/// assert_eq!(AuditAgainst::default().through, 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditAgainst {
    /// Checkpoints in it.
    pub checkpoints: u64,
    /// Pieces of checkpoints, as a crash leaves them.
    pub torn: u64,
    /// Checkpoints about records that were removed from the log since.
    pub removed: u64,
    /// Through this record the log is the one that the second place knows.
    pub through: u64,
}

/// What [`AuditLog::verify`] has found.
///
/// ```
/// use pugdb::audit::AuditReport;
///
/// let report = AuditReport::default();
/// assert!(report.problem.is_none());
/// // What a chain cannot show is part of the answer.
/// assert!(report.shows().contains("second place"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditReport {
    /// Files.
    pub segments: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// The first record that is kept: 1, if none was removed.
    pub first: u64,
    /// How many records were read.
    pub records: u64,
    /// The number of the last one.
    pub last: u64,
    /// The chain's hash of the last one.
    pub link: ChainHash,
    /// The root of the tree over all.
    pub root: TreeHash,
    /// Checkpoints in the log.
    pub checkpoints: u64,
    /// The last record that a checkpoint in the log covers.
    pub covered: u64,
    /// True when the checkpoints are signed.
    pub is_signed: bool,
    /// Records that could not be written at the time, as the log itself says.
    pub missing: u64,
    /// Bytes at the very end that are no whole record, and that nothing states to be durable.
    pub torn_bytes: u64,
    /// True when the last record says that the database was closed.
    pub is_closed: bool,
    /// What the second place says, if there is one.
    pub against: Option<AuditAgainst>,
    /// The first thing that is wrong. Behind it nothing was read.
    pub problem: Option<AuditProblem>,
}

impl AuditReport {
    /// What is shown by it, and what is not.
    ///
    /// ```
    /// use pugdb::audit::{AuditAgainst, AuditReport};
    ///
    /// let mut report = AuditReport::default();
    /// report.against = Some(AuditAgainst::default());
    /// assert!(report.shows().contains("behind the last checkpoint"));
    /// ```
    pub fn shows(&self) -> &'static str {
        match (&self.against, self.is_signed) {
            (Some(_), true) => {
                "Through the last checkpoint of the second place no record was changed, taken away, added or moved since that was made, \
                 whoever has the disk and the keys, as long as he cannot write the second place. What lies behind the last checkpoint \
                 is only as sure as the chain: its end may have been cut off. That what was done was recorded truly, nobody can prove."
            }
            (Some(_), false) => {
                "Through the last checkpoint of the second place the log is the one that is known there. The checkpoints are not signed, \
                 for the database is not encrypted: whoever can write the second place can put others there. What lies behind the last \
                 checkpoint is only as sure as the chain: its end may have been cut off."
            }
            (None, true) => {
                "Nobody without the keyring has changed a record, or taken one out of the middle. A chain alone does not show that its end \
                 was cut off, that an older copy of it was put back, or that somebody who has the keyring has written all of it anew: \
                 that needs checkpoints in a second place (--against)."
            }
            (None, false) => {
                "No record was damaged by accident or changed without care. The database is not encrypted, so whoever can write the disk \
                 can write all of the log anew; a chain alone does not show that, nor that its end was cut off: that needs checkpoints in \
                 a second place (--against)."
            }
        }
    }
}

/// What a walk comes by.
pub(super) enum Seen<'a> {
    /// The first segment.
    Begin,
    /// A record, and the link before it.
    Record(&'a Record, ChainHash),
    Checkpoint(&'a str),
}

/// How a walk goes on.
pub(super) enum Flow {
    On,
    Enough,
    /// The first record that is wrong, and what is.
    Problem(u64, String),
}

type Visit<'a> = dyn FnMut(&Seen<'_>, &Stand) -> Result<Flow> + 'a;

/// A walk through all segments.
struct Walk<'a, 'v> {
    log: &'a AuditLog,
    visit: &'v mut Visit<'v>,
    stand: Stand,
    /// Records beyond the beginning of the next segment, which has to have the same.
    overlap: BTreeMap<u64, ChainHash>,
    /// What was removed at the beginning, until a record says so.
    removed: Option<Stand>,
    report: AuditReport,
    is_enough: bool,
}

impl AuditLog {
    pub(crate) fn new(context: Context, notary: Notary) -> Self {
        Self { context, notary }
    }

    /// The public key that its checkpoints are signed with; `None` when they are not.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::builder().audit(pugdb::audit::AuditOptions::default()).open(&path)?;
    /// // A database without keys cannot sign.
    /// assert!(db.audit().unwrap().log().signer().is_none());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn signer(&self) -> Option<[u8; 32]> {
        self.notary.signer()
    }

    /// What stands for a name in the records of this database.
    ///
    /// ```
    /// use pugdb::audit::ObjectKind;
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::builder().audit(pugdb::audit::AuditOptions::default()).open(&path)?;
    /// let log = db.audit().unwrap().log();
    /// assert_eq!(log.object(ObjectKind::Keyspace, b"users"), log.object(ObjectKind::Keyspace, b"users"));
    /// assert_ne!(log.object(ObjectKind::Keyspace, b"users"), log.object(ObjectKind::Subject, b"users"));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn object(&self, kind: ObjectKind, name: &[u8]) -> Object {
        self.notary.object(kind, name)
    }

    /// True when a record is about this name, whatever has it: a keyspace, a key, a subject, a user.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::builder().audit(pugdb::audit::AuditOptions::default()).open(&path)?;
    /// db.keyspace("users")?;
    /// let (log, mut about) = (db.audit().unwrap().log(), 0);
    /// log.records(&mut |record| {
    ///     about += usize::from(log.is_about(record, b"users"));
    ///     Ok(true)
    /// })?;
    /// assert_eq!(about, 2); // that it is about to be made, and that it was
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn is_about(&self, record: &Record, name: &[u8]) -> bool {
        record.event.objects.iter().any(|object| self.object(object.kind, name) == *object)
    }

    /// Reads all of it and checks every link, seal and signature, and, with the text of a second place, that it is the log that is known there.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let (path, copy) = (dir.path().join("data"), dir.path().join("checkpoints"));
    /// let builder = pugdb::Database::builder().audit(pugdb::audit::AuditOptions::default()).audit_copy(&copy);
    /// builder.clone().open(&path)?.close()?;
    /// let known = std::fs::read_to_string(&copy).unwrap();
    /// let report = builder.audit_log(&path)?.verify(Some(&known))?;
    /// assert_eq!(report.against.unwrap().through, report.last);
    /// assert!(report.problem.is_none() && report.is_closed);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` when there is no audit log, `Denied` when the keyring is another one; what the disk says. What was changed is no error, but
    /// [`AuditReport::problem`].
    pub fn verify(&self, against: Option<&str>) -> Result<AuditReport> {
        let expected = against.map(|text| Expected::parse(text, &self.notary)).transpose();
        let mut expected = match expected {
            Ok(expected) => expected,
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                let mut report = self.verify(None)?;
                let what = error.cause().to_owned();
                report.problem.get_or_insert(AuditProblem { record: 1, segment: 0, what });
                return Ok(report);
            }
            Err(error) => return Err(error),
        };
        let (mut checkpoints, mut covered, mut missing) = (0, 0, 0);
        let mut report = self.walk(&mut |seen, stand| {
            let problem = match seen {
                Seen::Begin => expected.as_mut().and_then(|expected| expected.begin(stand)),
                Seen::Record(record, _) => {
                    missing += record.count(Count::Missing).unwrap_or(0);
                    expected.as_mut().and_then(|expected| expected.at(stand))
                }
                Seen::Checkpoint(text) => {
                    let mistake = self.mistake(text, stand).map(|what| (covered + 1, what));
                    (checkpoints, covered) = (checkpoints + 1, stand.tree.size());
                    mistake
                }
            };
            Ok(problem.map_or(Flow::On, |(record, what)| Flow::Problem(record, what)))
        })?;
        (report.checkpoints, report.covered, report.missing) = (checkpoints, covered, missing);
        if let Some(expected) = expected {
            let (record, segment) = (report.last + 1, report.segments);
            let end = report.problem.is_none().then(|| expected.end(report.last)).flatten();
            report.problem = report.problem.or(end.map(|what| AuditProblem { record, segment, what }));
            report.against = Some(AuditAgainst {
                checkpoints: expected.checkpoints,
                torn: expected.torn,
                removed: expected.removed,
                through: expected.good,
            });
        }
        Ok(report)
    }

    /// What is wrong with a checkpoint of the log itself.
    fn mistake(&self, text: &str, stand: &Stand) -> Option<String> {
        let checkpoint = match Checkpoint::parse(text) {
            Ok(checkpoint) => checkpoint,
            Err(error) => return Some(error.cause().to_owned()),
        };
        if checkpoint.signer != self.notary.signer() || checkpoint.database != self.context.database {
            return Some("a checkpoint is signed by another key".to_owned());
        }
        let own = (stand.tree.size(), stand.tree.root(), stand.last);
        (own != (checkpoint.size, checkpoint.root, checkpoint.last))
            .then(|| "the records before a checkpoint are not those that it is about".to_owned())
    }

    /// Shows each record to `visit`, the oldest first, until that says false.
    ///
    /// ```
    /// use pugdb::audit::Action;
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::builder().audit(pugdb::audit::AuditOptions::default()).open(&path)?;
    /// let mut first = None;
    /// db.audit().unwrap().log().records(&mut |record| {
    ///     first = Some((record.number, record.event.action));
    ///     Ok(false)
    /// })?;
    /// assert_eq!(first, Some((1, Action::Open)));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// What `visit` says; as [`verify`](Self::verify), and `Corrupt` where the log was changed: what lies before was shown.
    pub fn records(&self, visit: &mut dyn FnMut(&Record) -> Result<bool>) -> Result<()> {
        let report = self.walk(&mut |seen, _| match seen {
            Seen::Record(record, _) if !visit(record)? => Ok(Flow::Enough),
            _ => Ok(Flow::On),
        })?;
        refuse_problem(report.problem)
    }

    /// The newest checkpoint in the log.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::builder().audit(pugdb::audit::AuditOptions::default()).open(&path)?;
    /// let made = db.audit().unwrap().checkpoint()?;
    /// assert_eq!(db.audit().unwrap().log().checkpoint()?, Some(made));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`records`](Self::records).
    pub fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        let mut newest = None;
        let report = self.walk(&mut |seen, stand| {
            if let Seen::Checkpoint(text) = seen {
                if let Some(what) = self.mistake(text, stand) {
                    return Ok(Flow::Problem(stand.tree.size().max(1), what));
                }
                newest = Some(Checkpoint::parse(text)?);
            }
            Ok(Flow::On)
        })?;
        refuse_problem(report.problem)?;
        Ok(newest)
    }

    /// A proof that a record is in the log, as it is, for the newest checkpoint. It can be checked without database and keyring.
    ///
    /// ```
    /// use pugdb::audit::{Checkpoint, InclusionProof};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::builder().audit(pugdb::audit::AuditOptions::default()).open(&path)?;
    /// db.audit().unwrap().checkpoint()?;
    /// let (proof, checkpoint) = db.audit().unwrap().log().prove(1)?;
    ///
    /// let (proof, checkpoint) = (proof.to_string(), checkpoint.to_string());
    /// let checkpoint = Checkpoint::parse(&checkpoint)?;
    /// InclusionProof::parse(&proof)?.check(&checkpoint)?;
    /// assert!(proof.contains("open done by"));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` when there is no such record, or no checkpoint covers it yet; as [`records`](Self::records).
    pub fn prove(&self, number: u64) -> Result<(InclusionProof, Checkpoint)> {
        let missing = || Error::not_found(format!("there is no record {number} in the audit log"));
        let at = number.checked_sub(1).ok_or_else(missing)?;
        let newest = self.checkpoint()?.filter(|checkpoint| checkpoint.size >= number);
        let checkpoint = newest.ok_or_else(|| {
            Error::not_found(format!(
                "no checkpoint covers record {number} yet: one is made every minute, and when the database is closed"
            ))
        })?;
        let mut found = None;
        let spans = inclusion_spans(at, checkpoint.size);
        let path = self.gather(&spans, checkpoint.size, &mut |record, previous| {
            if record.number == number {
                found = Some((record.clone(), previous));
            }
        })?;
        let (record, previous) = found.ok_or_else(missing)?;
        let (database, size) = (self.context.database, checkpoint.size);
        Ok((InclusionProof { database, record, previous, size, path }, checkpoint))
    }

    /// A proof that the log has only grown between two checkpoints.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("data");
    /// let db = pugdb::Database::builder().audit(pugdb::audit::AuditOptions::default()).open(&path)?;
    /// let audit = db.audit().unwrap();
    /// let first = audit.checkpoint()?;
    /// db.keyspace("users")?;
    /// let second = audit.checkpoint()?;
    /// let proof = audit.log().prove_growth(&first, &second)?;
    /// proof.check(&first, &second)?;
    /// assert!(proof.sizes.0 < proof.sizes.1);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` when the second one is the earlier one, `NotFound` when the log is shorter, or has not kept what is needed.
    pub fn prove_growth(&self, first: &Checkpoint, second: &Checkpoint) -> Result<ConsistencyProof> {
        if first.size > second.size {
            return Err(Error::invalid("the first checkpoint is about a longer log than the second one"));
        }
        let spans = consistency_spans(first.size, second.size);
        let path = self.gather(&spans, second.size, &mut |_, _| {})?;
        Ok(ConsistencyProof { database: self.context.database, sizes: (first.size, second.size), path })
    }

    /// The hashes of spans, while the log passes by as far as it has `size` records.
    fn gather(
        &self,
        spans: &[pugdb_security::audit::Span],
        size: u64,
        visit: &mut dyn FnMut(&Record, ChainHash),
    ) -> Result<Vec<TreeHash>> {
        let mut gather = None;
        let report = self.walk(&mut |seen, stand| {
            match (seen, &mut gather) {
                (Seen::Begin, _) => gather = Some(Gather::new(spans, &stand.tree)?),
                (Seen::Record(record, previous), Some(gather)) => {
                    gather.push(record.number - 1, leaf(&stand.last));
                    visit(record, *previous);
                }
                _ => {}
            }
            Ok(if stand.tree.size() >= size { Flow::Enough } else { Flow::On })
        })?;
        refuse_problem(report.problem)?;
        gather.ok_or_else(|| Error::not_found("the audit log is empty"))?.finish()
    }

    /// Goes through all segments. What is wrong ends it, and stands in the report.
    pub(super) fn walk(
        &self,
        visit: &mut dyn FnMut(&Seen<'_>, &Stand) -> Result<Flow>,
    ) -> Result<AuditReport> {
        let numbers = list(&*self.context.env.fs, &folder(&self.context))?;
        if numbers.is_empty() {
            return Err(Error::not_found(
                "there is no audit log here; it is made when the database is opened with one",
            ));
        }
        let mut walk = Walk {
            log: self,
            visit,
            stand: Stand::default(),
            overlap: BTreeMap::new(),
            removed: None,
            report: AuditReport { is_signed: self.notary.signer().is_some(), ..AuditReport::default() },
            is_enough: false,
        };
        walk.segments(&numbers)?;
        Ok(walk.end())
    }
}

fn refuse_problem(problem: Option<AuditProblem>) -> Result<()> {
    problem.map_or(Ok(()), |problem| Err(Error::corrupt(format!("the audit log was changed: {problem}"))))
}

impl Walk<'_, '_> {
    fn is_over(&self) -> bool {
        self.is_enough || self.report.problem.is_some()
    }

    fn problem(&mut self, segment: u64, what: impl Into<String>) {
        let record = self.stand.next();
        self.report.problem.get_or_insert(AuditProblem { record, segment, what: what.into() });
    }

    fn see(&mut self, segment: u64, seen: &Seen<'_>) -> Result<()> {
        match (self.visit)(seen, &self.stand)? {
            Flow::On => {}
            Flow::Enough => self.is_enough = true,
            Flow::Problem(record, what) => {
                self.report.problem.get_or_insert(AuditProblem { record, segment, what });
            }
        }
        Ok(())
    }

    fn segments(&mut self, numbers: &[u64]) -> Result<()> {
        let mut ahead = Some(SegmentReader::open(&self.log.context, numbers[0]));
        for (at, &number) in numbers.iter().enumerate() {
            let Some(opened) = ahead.take() else { return Ok(()) };
            let reader = match opened {
                Ok(reader) => reader,
                Err(error)
                    if error.kind() == ErrorKind::Corrupt
                        || (at > 0 && error.kind() == ErrorKind::Denied) =>
                {
                    self.problem(number, error.cause());
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            if at > 0 && number != numbers[at - 1] + 1 {
                self.problem(number - 1, "a segment is missing");
                return Ok(());
            }
            self.begin(at == 0, number, &reader.start)?;
            if self.is_over() {
                return Ok(());
            }
            ahead = numbers.get(at + 1).map(|&next| SegmentReader::open(&self.log.context, next));
            let next = ahead.as_ref().and_then(|opened| opened.as_ref().ok());
            let stop = next.map(|next| next.start.stand.next());
            self.segment(reader, number, stop, at + 1 == numbers.len())?;
            if self.is_over() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn begin(&mut self, is_first: bool, number: u64, start: &Start) -> Result<()> {
        self.report.segments += 1;
        if is_first {
            self.stand = start.stand.clone();
            self.report.first = self.stand.next();
            self.removed = (self.stand.tree.size() > 0).then(|| self.stand.clone());
            return self.see(number, &Seen::Begin);
        }
        if start.stand != self.stand {
            self.problem(number, "the segment does not go on where the one before it ends");
        }
        Ok(())
    }

    fn segment(
        &mut self,
        mut reader: SegmentReader,
        number: u64,
        stop: Option<u64>,
        is_last: bool,
    ) -> Result<()> {
        self.report.bytes += reader.length();
        // Where this segment stands, beyond what counts of it.
        let mut beyond = (self.stand.next(), self.stand.last);
        let tail = loop {
            let is_beyond = stop.is_some_and(|stop| self.stand.next() >= stop);
            match reader.next()? {
                Item::Record { bytes, record } if is_beyond => {
                    self.surplus(number, &mut beyond, &bytes, &record);
                }
                Item::Record { bytes, record } => {
                    self.record(number, &bytes, &record)?;
                    beyond = (self.stand.next(), self.stand.last);
                }
                // One at the very end of what counts is about that.
                Item::Checkpoint(_) if is_beyond && beyond.0 > self.stand.next() => {}
                Item::Checkpoint(text) => self.see(number, &Seen::Checkpoint(&text))?,
                Item::End(tail) => break tail,
            }
            if self.is_over() {
                return Ok(());
            }
        };
        match tail {
            Tail::Damaged { what } => self.problem(number, what),
            Tail::Torn { bytes, .. } if is_last => self.report.torn_bytes = bytes,
            Tail::Torn { .. } | Tail::Whole => {}
        }
        if let Some(stop) = stop.filter(|stop| self.stand.next() < *stop) {
            self.problem(
                number,
                format!("records are missing up to {}, where the next segment begins", stop - 1),
            );
        }
        Ok(())
    }

    fn record(&mut self, segment: u64, bytes: &[u8], record: &Record) -> Result<()> {
        if record.number != self.stand.next() {
            self.problem(segment, format!("record {} stands in its place", record.number));
            return Ok(());
        }
        let previous = self.stand.last;
        let link = chain(self.log.context.database, &previous, bytes);
        if self.overlap.remove(&record.number).is_some_and(|other| other != link) {
            self.problem(segment, "two segments have different records of this number: the log has a fork");
            return Ok(());
        }
        self.stand.last = link;
        self.stand.tree.push(leaf(&link));
        self.report.records += 1;
        self.report.is_closed = record.event.action == Action::Close;
        if record.event.action == Action::Trim {
            self.removal(record);
        }
        self.see(segment, &Seen::Record(record, previous))
    }

    /// A record beyond the beginning of the next segment: that one has to have it, too.
    fn surplus(&mut self, segment: u64, beyond: &mut (u64, ChainHash), bytes: &[u8], record: &Record) {
        let link = chain(self.log.context.database, &beyond.1, bytes);
        let is_known = self.overlap.insert(record.number, link).is_none_or(|other| other == link);
        if record.number != beyond.0 || !is_known || self.overlap.len() > OVERLAP_MAX {
            self.problem(segment, "records follow that the next segment does not know: the log has a fork");
        }
        *beyond = (beyond.0 + 1, link);
    }

    /// A record that says what was removed.
    fn removal(&mut self, record: &Record) {
        let is_it = self.removed.as_ref().is_some_and(|removed| {
            record.count(Count::Through) == Some(removed.tree.size())
                && record.object(ObjectKind::Root) == Some(removed.tree.root())
                && record.object(ObjectKind::Link) == Some(removed.last)
        });
        if is_it {
            self.removed = None;
        }
    }

    fn end(mut self) -> AuditReport {
        if !self.is_over() {
            let last = self.report.segments;
            if !self.overlap.is_empty() {
                self.problem(last, "records follow that the next segment does not know: the log has a fork");
            }
            if let Some(removed) = self.removed.take() {
                let what =
                    format!("records 1 to {} were removed, and no record says so", removed.tree.size());
                self.report.problem.get_or_insert(AuditProblem { record: 1, segment: 1, what });
            }
        }
        let Self { stand, mut report, .. } = self;
        (report.last, report.link, report.root) = (stand.tree.size(), stand.last, stand.tree.root());
        report
    }
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuditLog({:?})", self.notary)
    }
}
