//! Proofs for who has nothing but a checkpoint and the public key: that a record is in the log, that the log only grew.

use std::fmt;

use pugdb_core::{DatabaseId, Error, Result};

use super::chain::{ChainHash, chain};
use super::checkpoint::Checkpoint;
use super::merkle::{TreeHash, is_consistent, is_included, leaf};
use super::record::{RECORD_BYTES_MAX, Record};
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
    /// `Invalid` when it is no proof, or is written in another way.
    pub fn parse(text: &str) -> Result<Self> {
        let other = || Error::invalid("this is no proof of inclusion, or one of another version");
        Self::read(text).filter(|read| read.to_string() == text).ok_or_else(other)
    }

    fn read(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        (lines.next()? == INCLUSION_TITLE).then_some(())?;
        let mut database = DatabaseId([0; 16]);
        unhex(lines.next()?.strip_prefix("database ")?, &mut database.0)?;
        let digits = lines.next()?.strip_prefix("record ")?;
        (digits.len() <= 2 * RECORD_BYTES_MAX).then_some(())?;
        let mut bytes = vec![0; digits.len() / 2];
        unhex(digits, &mut bytes)?;
        let record = Record::decode(&bytes).ok()?;
        lines.next()?;
        let mut previous = [0; 32];
        unhex(lines.next()?.strip_prefix("previous ")?, &mut previous)?;
        let size = lines.next()?.strip_prefix("size ")?.parse().ok()?;
        Some(Self { database, record, previous, size, path: read_path(lines)? })
    }
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

fn write_path(f: &mut fmt::Formatter<'_>, path: &[TreeHash]) -> fmt::Result {
    path.iter().try_for_each(|hash| writeln!(f, "path {}", hex(hash)))
}

/// The whole proof, as [`InclusionProof::parse`] reads it. What the record says in words stands there for people, and is checked as well.
impl fmt::Display for InclusionProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record { number, at, actor, event } = &self.record;
        let plain = |text: &str| text.escape_default().to_string();
        writeln!(f, "{INCLUSION_TITLE}\ndatabase {}", hex(&self.database.0))?;
        writeln!(f, "record {}", hex(&self.record.encode()))?;
        writeln!(
            f,
            "says {number} {} {} {} by \"{}\" from \"{}\"",
            at.utc(),
            event.action,
            event.outcome,
            plain(actor.name()),
            plain(actor.source())
        )?;
        writeln!(f, "previous {}\nsize {}", hex(&self.previous), self.size)?;
        write_path(f, &self.path)
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
    /// `Invalid` when it is no proof, or is written in another way.
    pub fn parse(text: &str) -> Result<Self> {
        let other = || Error::invalid("this is no proof of consistency, or one of another version");
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
        write_path(f, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use pugdb_core::{ErrorKind, Timestamp};

    use super::*;
    use crate::audit::{
        Action, Actor, CHAIN_BEGIN, Event, Frontier, Gather, consistency_spans, inclusion_spans,
    };

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
