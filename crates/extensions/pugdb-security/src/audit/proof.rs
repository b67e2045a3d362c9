//! Proofs for who has nothing but a checkpoint and the public key: that a record is in the log, that the log only grew.

use std::fmt;

use pugdb_core::{DatabaseId, Error, Result};

use super::chain::{ChainHash, chain};
use super::checkpoint::Checkpoint;
use super::merkle::{TreeHash, is_consistent, is_included, leaf};
use super::record::{Action, Outcome, RECORD_BYTES_MAX, Record};
use crate::certificate::is_of_newer;
use crate::newer;
use crate::provider::{hex, unhex};

const INCLUSION_TITLE: &str = "PugDB audit proof of inclusion 1";
const CONSISTENCY_TITLE: &str = "PugDB audit proof of consistency 1";
/// A tree has no more levels.
const PATH_MAX: usize = 64;

/// Shows that a record is in the log that a checkpoint is about, at its place, as it is.
///
/// It shows this record and no other: of those beside it there are hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InclusionProof {
    /// The database.
    pub database: DatabaseId,
    /// The record.
    pub record: Record,
    /// The link before it.
    pub previous: ChainHash,
    /// The size of the tree that it is about.
    pub size: u64,
    /// The hashes beside the way to the root.
    pub path: Vec<TreeHash>,
}

impl InclusionProof {
    /// Holds it against a checkpoint. Whose that is has to be asked of [`Checkpoint::signer`].
    ///
    /// # Errors
    /// `Invalid` when the checkpoint is about another database or another size, `Corrupt` when the record is not in it.
    pub fn check(&self, checkpoint: &Checkpoint) -> Result<()> {
        check_about(self.database, self.size, checkpoint)?;
        let link = chain(self.database, &self.previous, &self.record.encode());
        let is_there =
            self.record.number.checked_sub(1).is_some_and(|index| {
                is_included(index, self.size, leaf(&link), &self.path, &checkpoint.root)
            });
        if is_there {
            Ok(())
        } else {
            Err(Error::corrupt("the record is not in the log that the checkpoint is about"))
        }
    }

    /// Reads what its text says.
    ///
    /// # Errors
    /// `Invalid` when it is no proof, or is written in another way, `Unsupported` when it is one of a newer version.
    pub fn parse(text: &str) -> Result<Self> {
        if is_of_newer(text, INCLUSION_TITLE) {
            return Err(newer("the proof"));
        }
        let (read, says) = Self::read(text).ok_or_else(other_than_inclusion)?;
        // What was read is written again, but for names that another version may not have.
        if read.is_said_by(says) && read.text(says) == text { Ok(read) } else { Err(other_than_inclusion()) }
    }

    /// The proof, and what it says in words.
    fn read(text: &str) -> Option<(Self, &str)> {
        let mut lines = text.lines();
        (lines.next()? == INCLUSION_TITLE).then_some(())?;
        let mut database = DatabaseId([0; 16]);
        unhex(lines.next()?.strip_prefix("database ")?, &mut database.0)?;
        let digits = lines.next()?.strip_prefix("record ")?;
        (digits.len() <= 2 * RECORD_BYTES_MAX).then_some(())?;
        let mut bytes = vec![0; digits.len() / 2];
        unhex(digits, &mut bytes)?;
        let record = Record::decode(&bytes).ok()?;
        let says = lines.next()?;
        let mut previous = [0; 32];
        unhex(lines.next()?.strip_prefix("previous ")?, &mut previous)?;
        let size = lines.next()?.strip_prefix("size ")?.parse().ok()?;
        Some((Self { database, record, previous, size, path: read_path(lines)? }, says))
    }

    /// What stands there for people around the names of what was done and of what came of it.
    fn says_around(&self) -> (String, String) {
        let Record { number, at, actor, .. } = &self.record;
        let plain = |text: &str| text.escape_default().to_string();
        let (name, source) = (plain(actor.name()), plain(actor.source()));
        (format!("says {number} {} ", at.utc()), format!(" by \"{name}\" from \"{source}\""))
    }

    /// What the record says, in the words of this version.
    fn says(&self) -> String {
        let (before, behind) = self.says_around();
        format!("{before}{} {}{behind}", self.record.event.action, self.record.event.outcome)
    }

    /// Whether a line says what the record does. One of another version knows other names for the same numbers.
    fn is_said_by(&self, line: &str) -> bool {
        let (before, behind) = self.says_around();
        let Some(names) = line.strip_prefix(&*before).and_then(|rest| rest.strip_suffix(&*behind)) else {
            return false;
        };
        let event = &self.record.event;
        let mut places = names.match_indices(' ');
        places.any(|(at, _)| {
            let (action, outcome) = (&names[..at], &names[at + 1..]);
            let numbered = [("action", event.action.number()), ("outcome", event.outcome.number())]
                .map(|(what, number)| format!("{what} {number}"));
            can_mean(action, &event.action.name(), &numbered[0], Action::from_name(action).is_some())
                && can_mean(
                    outcome,
                    &event.outcome.name(),
                    &numbered[1],
                    Outcome::from_name(outcome).is_some(),
                )
        })
    }

    fn text(&self, says: &str) -> String {
        let (database, record) = (hex(&self.database.0), hex(&self.record.encode()));
        let (previous, size, path) = (hex(&self.previous), self.size, path_lines(&self.path));
        format!(
            "{INCLUSION_TITLE}\ndatabase {database}\nrecord {record}\n{says}\nprevious {previous}\nsize {size}\n{path}"
        )
    }
}

/// Whether a version that is older or newer than this one can have called something so: by its number when it had no name for it, or by a name that
/// this one does not have. A name that is known means nothing else.
fn can_mean(text: &str, name: &str, numbered: &str, is_known: bool) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || b"._".contains(&byte);
    let has_no_name = name == numbered;
    text == name
        || text == numbered
        || (has_no_name && !is_known && !text.is_empty() && text.bytes().all(is_word))
}

fn other_than_inclusion() -> Error {
    Error::invalid("this is no proof of inclusion")
}

fn check_about(database: DatabaseId, size: u64, checkpoint: &Checkpoint) -> Result<()> {
    if checkpoint.database != database {
        return Err(Error::invalid("the checkpoint is of another database"));
    }
    if checkpoint.size != size {
        return Err(Error::invalid(format!(
            "the proof is about a log of {size} records, the checkpoint about one of {}",
            checkpoint.size
        )));
    }
    Ok(())
}

fn read_path<'a>(lines: impl Iterator<Item = &'a str>) -> Option<Vec<TreeHash>> {
    let mut path = Vec::new();
    for line in lines {
        (path.len() < PATH_MAX).then_some(())?;
        let mut hash = [0; 32];
        unhex(line.strip_prefix("path ")?, &mut hash)?;
        path.push(hash);
    }
    Some(path)
}

fn path_lines(path: &[TreeHash]) -> String {
    path.iter().flat_map(|hash| ["path ".to_owned(), hex(hash), "\n".to_owned()]).collect()
}

/// The whole proof, as [`InclusionProof::parse`] reads it. What the record says in words stands there for people, and is checked as well.
impl fmt::Display for InclusionProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(&self.says()))
    }
}

/// Shows that the log that one checkpoint is about goes on as the one of a later checkpoint: nothing was changed or taken away in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsistencyProof {
    /// The database.
    pub database: DatabaseId,
    /// The sizes of the two trees.
    pub sizes: (u64, u64),
    /// What of the trees is needed.
    pub path: Vec<TreeHash>,
}

impl ConsistencyProof {
    /// Holds it against two checkpoints. Whose they are has to be asked of [`Checkpoint::signer`].
    ///
    /// # Errors
    /// `Invalid` when they are about another database or other sizes, `Corrupt` when the later log does not begin with the earlier one.
    pub fn check(&self, first: &Checkpoint, second: &Checkpoint) -> Result<()> {
        check_about(self.database, self.sizes.0, first)?;
        check_about(self.database, self.sizes.1, second)?;
        if is_consistent((first.size, &first.root), (second.size, &second.root), &self.path) {
            return Ok(());
        }
        Err(Error::corrupt(
            "the later log does not begin with the earlier one: the log was changed in between",
        ))
    }

    /// Reads what its text says.
    ///
    /// # Errors
    /// `Invalid` when it is no proof, or is written in another way, `Unsupported` when it is one of a newer version.
    pub fn parse(text: &str) -> Result<Self> {
        if is_of_newer(text, CONSISTENCY_TITLE) {
            return Err(newer("the proof"));
        }
        let other = || Error::invalid("this is no proof of consistency");
        Self::read(text).filter(|read| read.to_string() == text).ok_or_else(other)
    }

    fn read(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        (lines.next()? == CONSISTENCY_TITLE).then_some(())?;
        let mut database = DatabaseId([0; 16]);
        unhex(lines.next()?.strip_prefix("database ")?, &mut database.0)?;
        let (first, second) = lines.next()?.strip_prefix("sizes ")?.split_once(' ')?;
        let sizes = (first.parse().ok()?, second.parse().ok()?);
        Some(Self { database, sizes, path: read_path(lines)? })
    }
}

/// The whole proof, as [`ConsistencyProof::parse`] reads it.
impl fmt::Display for ConsistencyProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, second) = self.sizes;
        writeln!(f, "{CONSISTENCY_TITLE}\ndatabase {}\nsizes {first} {second}", hex(&self.database.0))?;
        f.write_str(&path_lines(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use pugdb_core::{ErrorKind, Timestamp};

    use super::*;
    use crate::audit::{Actor, CHAIN_BEGIN, Event, Frontier, Gather, consistency_spans, inclusion_spans};

    const DATABASE: DatabaseId = DatabaseId([5; 16]);

    struct Log {
        records: Vec<Record>,
        links: Vec<ChainHash>,
    }

    impl Log {
        fn new(count: u64) -> Self {
            let (mut links, mut last) = (Vec::new(), CHAIN_BEGIN);
            let record = |number| Record {
                number,
                at: Timestamp(number * 1000),
                actor: Actor::new("ada", "a \"test\"\n"),
                event: Event::done(Action::Open),
            };
            let records: Vec<_> = (1..=count).map(record).collect();
            for record in &records {
                last = chain(DATABASE, &last, &record.encode());
                links.push(last);
            }
            Self { records, links }
        }

        fn checkpoint(&self, size: usize) -> Checkpoint {
            let mut tree = Frontier::default();
            self.links[..size].iter().for_each(|link| tree.push(leaf(link)));
            let last = size.checked_sub(1).map_or(CHAIN_BEGIN, |at| self.links[at]);
            Checkpoint::new(DATABASE, (size as u64, tree.root(), last), Timestamp(1), None)
        }

        fn gather(&self, spans: &[super::super::Span], size: usize) -> Vec<TreeHash> {
            let mut gather = Gather::new(spans, &Frontier::default()).unwrap();
            self.links[..size].iter().enumerate().for_each(|(at, link)| gather.push(at as u64, leaf(link)));
            gather.finish().unwrap()
        }

        fn inclusion(&self, at: usize, size: usize) -> InclusionProof {
            InclusionProof {
                database: DATABASE,
                record: self.records[at].clone(),
                previous: at.checked_sub(1).map_or(CHAIN_BEGIN, |before| self.links[before]),
                size: size as u64,
                path: self.gather(&inclusion_spans(at as u64, size as u64), size),
            }
        }
    }

    #[test]
    fn a_proof_holds_for_its_checkpoint_and_no_other() {
        let log = Log::new(9);
        for at in 0..9 {
            let proof = log.inclusion(at, 9);
            let read = InclusionProof::parse(&proof.to_string()).unwrap();
            assert_eq!(read, proof);
            read.check(&log.checkpoint(9)).unwrap();
            assert_eq!(read.check(&log.checkpoint(8)).unwrap_err().kind(), ErrorKind::Invalid);
            let mut changed = proof.clone();
            changed.record.event.action = Action::Close;
            assert_eq!(changed.check(&log.checkpoint(9)).unwrap_err().kind(), ErrorKind::Corrupt);
            let mut moved = proof.clone();
            moved.record.number = 0;
            assert_eq!(moved.check(&log.checkpoint(9)).unwrap_err().kind(), ErrorKind::Corrupt);
        }
        let mut other = log.checkpoint(9);
        other.database = DatabaseId([6; 16]);
        assert_eq!(log.inclusion(0, 9).check(&other).unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[test]
    fn each_byte_of_a_proof_counts() {
        let log = Log::new(5);
        let (text, checkpoint) = (log.inclusion(2, 5).to_string(), log.checkpoint(5));
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            let checked = InclusionProof::parse(&changed).and_then(|proof| proof.check(&checkpoint));
            assert!(checked.is_err(), "{at}");
            let cut = InclusionProof::parse(&text[..at]).and_then(|proof| proof.check(&checkpoint));
            assert!(cut.is_err(), "{at}");
        }
    }

    /// A proof outlives versions: what a newer one has a name for, an older one knows by its number, and the reverse.
    #[test]
    fn a_proof_is_read_by_versions_that_know_other_names() {
        let mut log = Log::new(5);
        log.records[2].event.action = Action::from_number(30);
        let proof = log.inclusion(2, 5);
        let text = proof.to_string();
        assert!(text.contains(" action 30 done by "), "{text}");
        let said = |name: &str| text.replace(" action 30 done ", &format!(" {name} "));
        for name in ["action 30 done", "action 30 outcome 2", "backup done", "backup.full outcome 2"] {
            assert_eq!(InclusionProof::parse(&said(name)).unwrap(), proof, "{name}");
        }
        // What is known is not said of something else.
        for name in [
            "open done",
            "action 1 done",
            "action 31 done",
            "backup failed",
            "backup",
            " done",
            "a\u{200f}b done",
            "action 30  done",
        ] {
            assert_eq!(InclusionProof::parse(&said(name)).unwrap_err().kind(), ErrorKind::Invalid, "{name}");
        }
        let known = log.inclusion(1, 5).to_string();
        let numbered = known.replace(" open done ", " action 1 outcome 2 ");
        assert_eq!(InclusionProof::parse(&numbered).unwrap(), log.inclusion(1, 5));
        assert!(InclusionProof::parse(&known.replace(" open done ", " backup done ")).is_err());
        for (text, other) in [(&text, "inclusion 2\n"), (&known, "inclusion 12\n")] {
            let newer = text.replace("inclusion 1\n", other);
            assert_eq!(InclusionProof::parse(&newer).unwrap_err().kind(), ErrorKind::Unsupported);
        }
    }

    #[test]
    fn a_log_that_grew_is_told_from_one_that_was_changed() {
        let log = Log::new(7);
        for first in 0..=7_usize {
            let spans = consistency_spans(first as u64, 7);
            let proof = ConsistencyProof {
                database: DATABASE,
                sizes: (first as u64, 7),
                path: log.gather(&spans, 7),
            };
            let read = ConsistencyProof::parse(&proof.to_string()).unwrap();
            read.check(&log.checkpoint(first), &log.checkpoint(7)).unwrap();
            let mut forged = log.checkpoint(first);
            forged.root[0] ^= 1;
            assert_eq!(read.check(&forged, &log.checkpoint(7)).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }
}
