//! Writes the secrets as a program with the library would, in every way there is. Step 2a.

use std::path::{Path, PathBuf};

use pugdb::audit::{Action, Actor, AuditOptions, Event};
use pugdb::keys::KeyFile;
use pugdb::{
    Builder, Compression, Database, Durability, EntryOptions, ErrorKind, Keyspace, KeyspaceOptions, Result,
};

use super::secrets::{Kind, Secrets};

/// Small, so that there is some of everything: tables, value files, segments.
const MEMTABLE_BYTES: usize = 64 << 10;
const SEGMENT_BYTES: u64 = 1 << 20;
const MEMORY_BYTES: usize = 64 << 20;
const SEPARATE_BYTES: usize = 600;
/// What the secret in a large value stands between.
const PADDING: [usize; 3] = [0, 300, 1_500];
/// What fills the memtables between two flushes.
const FLUSH_EVERY: usize = 500;
/// How many keys the server writes, not the library.
pub(super) const OF_SERVER: usize = 500;

/// One database of the trial, and what lies around it.
pub(super) struct Trial {
    pub(super) root: PathBuf,
    pub(super) is_encrypted: bool,
}

impl Trial {
    pub(super) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// A copy of it, as a server that was killed has left it.
    pub(super) fn killed(&self) -> PathBuf {
        self.root.join("killed")
    }

    pub(super) fn key_file(&self) -> PathBuf {
        self.root.join("keys/root.key")
    }

    /// What was printed and answered.
    pub(super) fn output(&self) -> PathBuf {
        self.root.join("output")
    }

    fn builder(&self) -> Builder {
        let options = KeyspaceOptions { separate_values: Some(SEPARATE_BYTES), ..KeyspaceOptions::default() };
        let audit = AuditOptions { copy: Some(self.root.join("audit-copy")), ..AuditOptions::default() };
        let builder = Database::builder()
            .default_options(options)
            .memory_bytes(MEMORY_BYTES)
            .memtable_bytes(MEMTABLE_BYTES)
            .log_segment_bytes(SEGMENT_BYTES)
            .durability(Durability::Os)
            .audit(audit);
        if self.is_encrypted { builder.root_key(KeyFile::new(self.key_file())) } else { builder }
    }

    /// Everything the library does, and an end without a close: the log has to be replayed.
    pub(super) fn work_with_library(&self, secrets: &Secrets) -> Result<()> {
        let db = self.builder().open(self.data())?;
        let spaces = keyspaces(&db, secrets)?;
        write(&db, &spaces, secrets)?;
        change(&db, &spaces, secrets)?;
        transact(&db, &spaces, secrets)?;
        let audit = db.audit();
        for (actor, record) in secrets.of(Kind::Actor).iter().zip(audit.iter().cycle()) {
            record.record(&Actor::new(actor, actor), Event::done(Action::Config))?;
        }
        db.checkpoint(self.root.join("checkpoint"))?;
        self.change_keys(&db, secrets)
    }

    fn change_keys(&self, db: &Database, secrets: &Secrets) -> Result<()> {
        let [.., erased, dropped] = secrets.of(Kind::Keyspace) else { return Ok(()) };
        db.drop_keyspace(dropped)?;
        let Some(keys) = db.keys().filter(|_| self.is_encrypted) else { return Ok(()) };
        keys.renew()?;
        keys.hold_subject(secrets.of(Kind::Subject)[0].as_bytes())?;
        let certificate = db.erase_subjects(&secrets.of(Kind::Subject)[100..200])?;
        write_text(&self.output().join("certificate.txt"), &certificate.to_string())?;
        db.erase_keyspace(erased)?;
        keys.rotate()?;
        Ok(())
    }
}

pub(super) fn write_text(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;

    let file = std::fs::File::create(path).and_then(|mut file| file.write_all(text.as_bytes()));
    file.map_err(|error| pugdb::Error::io(format!("write {}", path.display()), error))
}

fn keyspaces(db: &Database, secrets: &Secrets) -> Result<Vec<Keyspace>> {
    let uncompressed = KeyspaceOptions {
        upper_compression: Some(Compression::None),
        bottom_compression: Some(Compression::None),
        ..KeyspaceOptions::default()
    };
    let names = secrets.of(Kind::Keyspace).iter().enumerate();
    names
        .map(|(number, name)| {
            let options = if number % 2 == 0 { uncompressed } else { KeyspaceOptions::default() };
            db.keyspace_with(name, options)
        })
        .collect()
}

/// Small and large, expiring, for subjects, in batches.
fn write(db: &Database, spaces: &[Keyspace], secrets: &Secrets) -> Result<()> {
    let subjects = secrets.of(Kind::Subject);
    let keys = &secrets.of(Kind::Key)[OF_SERVER..];
    let values = &secrets.of(Kind::Value)[OF_SERVER..];
    for (number, (key, value)) in keys.iter().zip(values).enumerate() {
        let space = &spaces[number % spaces.len()];
        let padding = "x".repeat(PADDING[number % PADDING.len()]);
        let value = format!("{padding}{value}{padding}");
        let options = EntryOptions {
            expires_at: (number % 11 == 0).then(|| db.now().plus_ms(1)),
            seal: seal(db, subjects.get(number))?,
            ..EntryOptions::default()
        };
        if number % 5 == 0 && options.seal.is_none() {
            let mut batch = db.batch();
            batch.put(space, key, &value);
            batch.put(&spaces[0], format!("batch {number}"), "");
            batch.commit()?;
        } else {
            space.put_with(key, value, options)?;
        }
        if number % FLUSH_EVERY == FLUSH_EVERY - 1 {
            db.flush()?;
        }
    }
    Ok(())
}

/// Only an encrypted database has keys of subjects; a subject's name is asked for in any case.
fn seal(db: &Database, subject: Option<&String>) -> Result<Option<pugdb::SealId>> {
    match subject.map(|name| db.subject(name)) {
        Some(Err(error)) if error.kind() == ErrorKind::Invalid => Ok(None),
        seal => seal.transpose(),
    }
}

/// Updates, deletes, range deletes, merges of tables.
fn change(db: &Database, spaces: &[Keyspace], secrets: &Secrets) -> Result<()> {
    for (number, key) in
        secrets.of(Kind::Key)[OF_SERVER..].iter().enumerate().filter(|(number, _)| number % 7 == 3)
    {
        let space = &spaces[number % spaces.len()];
        match number % 3 {
            0 => space.delete(key)?,
            1 => space.delete_range(key.as_bytes()..=key.as_bytes())?,
            _ => drop(space.fetch_update(key, |old| old.map(|old| [old, b"!"].concat()))),
        }
    }
    db.flush()?;
    spaces.iter().step_by(3).try_for_each(|space| space.compact_range(..))
}

/// One in two phases for each name: some are committed, one is left to be decided.
fn transact(db: &Database, spaces: &[Keyspace], secrets: &Secrets) -> Result<()> {
    let values = secrets.of(Kind::Value);
    let left = values.iter().rev();
    for (number, (name, value)) in secrets.of(Kind::Transaction).iter().zip(left).enumerate() {
        let mut transaction = db.begin()?;
        transaction.put(&spaces[number], format!("prepared {number}"), value)?;
        let prepared = transaction.prepare(name)?;
        if number > 0 {
            prepared.commit()?;
        }
    }
    Ok(())
}
