//! The second place: a file elsewhere to which each checkpoint is added. It shows what a chain alone cannot: an end that was cut off, a fork, a log
//! that somebody with all keys has written anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pugdb_core::coding::index;
use pugdb_core::env::{Access, Env, File};
use pugdb_core::{Error, ErrorKind, Result};
use pugdb_security::audit::{ChainHash, Checkpoint, Notary, TreeHash};

use super::segment::Stand;

/// The last checkpoint lies within so many bytes of the file's end.
const TAIL_BYTES: u64 = 4 << 10;

/// The file, to be added to.
pub(super) struct Second {
    path: PathBuf,
    /// Open, and how long it is; `None` after a failure.
    file: Option<(Arc<dyn File>, u64)>,
}

impl Second {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), file: None }
    }

    /// Adds a checkpoint, durably. What a failure has left of one is left as it is: the file may be one that can only grow.
    pub(super) fn append(&mut self, env: &Env, checkpoint: &Checkpoint) -> Result<()> {
        let (file, end) = match self.file.take() {
            Some(open) => open,
            None => self.open(env)?,
        };
        let mut text = checkpoint.to_string();
        if end > 0 && tail(&*file, end, 1).map_err(doing)? != b"\n" {
            text.insert(0, '\n');
        }
        file.write_at(text.as_bytes(), end).and_then(|()| file.sync_data()).map_err(doing)?;
        self.file = Some((file, end + text.len() as u64));
        Ok(())
    }

    fn open(&self, env: &Env) -> Result<(Arc<dyn File>, u64)> {
        let file = match env.fs.open(&self.path, Access::ReadWrite) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                env.fs.create(&self.path).map_err(doing)?
            }
            file => file.map_err(doing)?,
        };
        // Also of a file that is there: who has made it may not have come so far.
        let parent = self.path.parent().filter(|dir| !dir.as_os_str().is_empty());
        env.fs.sync_dir(parent.unwrap_or_else(|| Path::new("."))).map_err(doing)?;
        let length = file.length().map_err(doing)?;
        Ok((file, length))
    }

    /// Refuses a log that is not the one that the last checkpoint here is about, or is shorter. It costs one read.
    pub(super) fn check(&self, env: &Env, notary: &Notary, stand: &Stand) -> Result<()> {
        let Some(last) = self.last(env)? else { return Ok(()) };
        let advice = "run `pugdb audit verify --against` with that file; it opens with another copy, or when failures are to be passed over";
        check_signer(&last, notary)?;
        if last.size > stand.tree.size() {
            return Err(Error::corrupt(format!(
                "the audit log has {} records and its second place knows of {}: its end was taken away, or an older copy was put back; {advice}",
                stand.tree.size(),
                last.size
            )));
        }
        if last.size == stand.tree.size() && last.root != stand.tree.root() {
            return Err(Error::corrupt(format!(
                "the audit log is not the one that its second place knows: it was changed; {advice}"
            )));
        }
        Ok(())
    }

    fn last(&self, env: &Env) -> Result<Option<Checkpoint>> {
        let file = match env.fs.open(&self.path, Access::Read) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(doing)?,
        };
        let length = file.length().map_err(doing)?;
        let bytes = tail(&*file, length, TAIL_BYTES).map_err(doing)?;
        let text = String::from_utf8_lossy(&bytes);
        Ok(Checkpoint::split(&text).filter_map(|text| Checkpoint::parse(text).ok()).last())
    }
}

fn tail(file: &dyn File, length: u64, bytes: u64) -> std::io::Result<Vec<u8>> {
    let mut tail = vec![0; index(bytes.min(length))];
    file.read_exact_at(&mut tail, length - bytes.min(length))?;
    Ok(tail)
}

fn doing(error: std::io::Error) -> Error {
    Error::io("write the copy of the audit log's checkpoints", error)
}

fn check_signer(checkpoint: &Checkpoint, notary: &Notary) -> Result<()> {
    if checkpoint.database != notary.database() {
        return Err(Error::corrupt(
            "a checkpoint in the second place is of another database; give each database a file of its own",
        ));
    }
    if checkpoint.signer != notary.signer() {
        return Err(Error::corrupt("a checkpoint in the second place is signed by another key, or by none"));
    }
    Ok(())
}

/// What a second place says, to be held against the log while that is read.
pub(super) struct Expected {
    by_size: BTreeMap<u64, Vec<(TreeHash, ChainHash)>>,
    /// Checkpoints that are whole.
    pub(super) checkpoints: u64,
    /// Pieces that a crash has left.
    pub(super) torn: u64,
    /// Checkpoints about what was removed from the log since.
    pub(super) removed: u64,
    /// The last size at which all was well.
    pub(super) good: u64,
}

/// Lines of a checkpoint, its title and its signature among them.
const CHECKPOINT_LINES: usize = 8;

impl Expected {
    /// # Errors
    /// `Corrupt` when a checkpoint in it was changed, or another database or key has made it.
    pub(super) fn parse(text: &str, notary: &Notary) -> Result<Self> {
        let mut expected = Self { by_size: BTreeMap::new(), checkpoints: 0, torn: 0, removed: 0, good: 0 };
        for piece in Checkpoint::split(text) {
            if piece.trim().is_empty() {
                continue;
            }
            // What stands behind a whole one does not make it less.
            let whole: usize = piece.split_inclusive('\n').take(CHECKPOINT_LINES).map(str::len).sum();
            let (piece, rest) = piece.split_at(whole);
            expected.torn += u64::from(!rest.trim().is_empty());
            if !piece.ends_with('\n') {
                expected.torn += 1;
                continue;
            }
            match Checkpoint::parse(piece) {
                Ok(checkpoint) => {
                    check_signer(&checkpoint, notary)?;
                    expected.checkpoints += 1;
                    let known = expected.by_size.entry(checkpoint.size).or_default();
                    if !known.contains(&(checkpoint.root, checkpoint.last)) {
                        known.push((checkpoint.root, checkpoint.last));
                    }
                }
                // What a crash has left of one has not its form. One that has, and is not what was signed, is somebody's doing.
                Err(error) if error.kind() == ErrorKind::Invalid => expected.torn += 1,
                Err(error) => return Err(error.at("the second place")),
            }
        }
        Ok(expected)
    }

    /// The log is first known here. What is wrong, and from which record on.
    pub(super) fn begin(&mut self, stand: &Stand) -> Option<(u64, String)> {
        let kept = self.by_size.split_off(&stand.tree.size());
        let gone = std::mem::replace(&mut self.by_size, kept);
        // Of no records there is nothing to be checked.
        self.removed = gone.into_keys().filter(|size| *size > 0).count() as u64;
        if self.removed > 0 && self.by_size.is_empty() {
            // Whoever removes records leaves the checkpoint up to which they go: without it anything could be behind.
            let what = "everything that the second place knows of was removed from the log".to_owned();
            return Some((stand.tree.size() + 1, what));
        }
        self.at(stand)
    }

    /// The log has come to here.
    pub(super) fn at(&mut self, stand: &Stand) -> Option<(u64, String)> {
        let known = self.by_size.remove(&stand.tree.size())?;
        let own = (stand.tree.root(), stand.last);
        if known.iter().any(|other| *other != own) {
            let (from, to) = (self.good + 1, stand.tree.size());
            let what = format!(
                "records {from} to {to} are not those that the second place knows: the log was changed, or has a fork"
            );
            return Some((from, what));
        }
        self.good = stand.tree.size();
        None
    }

    /// The log ends here.
    pub(super) fn end(&self, last: u64) -> Option<String> {
        let (&most, _) = self.by_size.last_key_value()?;
        Some(format!(
            "the log ends behind record {last}, and the second place knows of {most}: its end was taken away"
        ))
    }
}
