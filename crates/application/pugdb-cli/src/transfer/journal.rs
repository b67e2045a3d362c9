//! How far an import of rows has come, noted in the same batch as the rows themselves: after a kill the note and the rows
//! agree, and `--resume` goes on behind them.
//!
//! A note lies in the keyspace [`IMPORTS_KEYSPACE`]. Its key is the kind of file, the keyspace of the rows and the path;
//! its value is JSON: how the rows are read, where the import is (bytes and lines), and a hash of all bytes before that
//! place. The import that goes on reads them again and compares: it does not trust names, sizes or times. A note is
//! removed with the last batch.

use pugdb::{Database, Keyspace, WriteBatch};
use serde::{Deserialize, Serialize};

use super::rows::Place;
use crate::outcome::Failure;
use crate::target::{IMPORTS_KEYSPACE, Local};

/// The notes of one import.
pub(super) struct Journal {
    db: Database,
    key: Vec<u8>,
    /// How the rows are read: an import that reads them in another way is another one.
    reading: String,
    /// Made when something is noted first: a small import needs none.
    keyspace: Option<Keyspace>,
    is_noted: bool,
}

#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
struct Note {
    reading: String,
    bytes: u64,
    lines: u64,
    xxh3: u64,
}

impl Journal {
    /// The notes of the import of the file with this full path.
    pub(super) fn new(local: &Local, kind: &str, path: &[u8], reading: String) -> Result<Self, Failure> {
        let key = [kind.as_bytes(), b"\0", local.keyspace.as_bytes(), b"\0", path].concat();
        let keyspace = local.db.existing_keyspace(IMPORTS_KEYSPACE)?;
        let is_noted = keyspace.as_ref().map_or(Ok(false), |keyspace| keyspace.exists(&key))?;
        Ok(Self { db: local.db.clone(), key, reading, keyspace, is_noted })
    }

    /// Where an earlier import of the file stopped.
    pub(super) fn noted(&self) -> Result<Option<Place>, Failure> {
        let stored = self.keyspace.as_ref().map_or(Ok(None), |keyspace| keyspace.get(&self.key))?;
        let Some(stored) = stored else { return Ok(None) };
        let note: Note = serde_json::from_slice(&stored).map_err(|_| {
            Failure::usage("what is noted of the interrupted import is not of this version; import again without --resume")
        })?;
        if note.reading != self.reading {
            return Err(Failure::usage(
                "the interrupted import read the file with other columns, delimiter or encoding; give the same, or import again \
                 without --resume",
            ));
        }
        Ok(Some(Place { bytes: note.bytes, lines: note.lines, hash: note.xxh3 }))
    }

    /// Adds to a batch that the import has come this far.
    pub(super) fn note(&mut self, place: Place, batch: &mut WriteBatch) -> Result<(), Failure> {
        let keyspace = match &self.keyspace {
            Some(keyspace) => keyspace,
            None => self.keyspace.insert(self.db.keyspace(IMPORTS_KEYSPACE)?),
        };
        let Place { bytes, lines, hash: xxh3 } = place;
        let note = Note { reading: self.reading.clone(), bytes, lines, xxh3 };
        let value = serde_json::to_vec(&note).map_err(|error| Failure::usage(error.to_string()))?;
        batch.put(keyspace, &self.key, value);
        self.is_noted = true;
        Ok(())
    }

    /// Adds to the last batch that nothing is left to be done.
    pub(super) fn forget(&self, batch: &mut WriteBatch) {
        if let Some(keyspace) = self.keyspace.as_ref().filter(|_| self.is_noted) {
            batch.delete(keyspace, &self.key);
        }
    }

    /// After the last batch: a keyspace without notes is not needed.
    pub(super) fn tidy(&self) -> Result<(), Failure> {
        if let Some(keyspace) = self.keyspace.as_ref().filter(|_| self.is_noted)
            && keyspace.scan(..).next().transpose()?.is_none()
        {
            self.db.drop_keyspace(IMPORTS_KEYSPACE)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(dir: &tempfile::TempDir) -> Local {
        let data = dir.path().join("data");
        Local { db: Database::open(&data).unwrap(), data, keyspace: "db0".to_owned() }
    }

    #[test]
    fn a_note_is_found_by_the_same_import_only_and_forgotten_with_the_last_batch() {
        let dir = tempfile::tempdir().unwrap();
        let local = local(&dir);
        let journal = |kind, path: &str, reading: &str| {
            Journal::new(&local, kind, path.as_bytes(), reading.to_owned()).unwrap()
        };
        let mut first = journal("csv", "/a", "key");
        assert_eq!(first.noted().unwrap(), None);
        let place = Place { bytes: 7, lines: 2, hash: u64::MAX };
        let mut batch = local.db.batch();
        first.note(place, &mut batch).unwrap();
        batch.commit().unwrap();
        assert_eq!(journal("csv", "/a", "key").noted().unwrap(), Some(place));
        assert_eq!(journal("tsv", "/a", "key").noted().unwrap(), None);
        assert_eq!(journal("csv", "/b", "key").noted().unwrap(), None);
        assert!(journal("csv", "/a", "other").noted().unwrap_err().message.contains("other columns"));
        let again = journal("csv", "/a", "key");
        let mut batch = local.db.batch();
        again.forget(&mut batch);
        batch.commit().unwrap();
        again.tidy().unwrap();
        assert_eq!(local.db.keyspaces().unwrap(), [] as [String; 0]);
    }
}
