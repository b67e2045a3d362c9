//! What a database can say of its own privacy: which files are sealed, with which keys, and what is plain text.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pugdb_core::engine::Persistence;
use pugdb_core::env::{Access, FileSystem};
use pugdb_core::seam::{Cipher, FileContext, FileKind};
use pugdb_core::{Error, ErrorKind, KeyspaceId, Result};
use pugdb_lsm::file::{name, seal_of};
use pugdb_security::{Held, KeyStatus};

pub use pugdb_lsm::file::FileSeal;

use crate::Database;
use crate::audit;
use crate::durable::Durable;
use crate::space::Keeper;

/// Of segments of the audit log.
const AUDIT_ENDING: &str = ".audit";

/// What is known of how private a database is. Made by [`Database::privacy`].
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("data");
/// let db = pugdb::Database::open(&path)?;
/// let users = db.keyspace("users")?;
/// let report = db.privacy()?;
/// assert!(report.keys.is_none() && !report.files.is_empty()); // not encrypted
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PrivacyReport {
    /// Its keys, when it is encrypted.
    pub keys: Option<KeyStatus>,
    /// How many subjects are under legal hold.
    pub held_subjects: usize,
    /// How many keyspaces are under legal hold.
    pub held_keyspaces: usize,
    /// Every file with a header, by kind, keyspace and seal. None of a database in memory.
    pub files: Vec<FileGroup>,
    /// Files whose header could not be read, and why.
    pub unreadable: Vec<String>,
    /// The keyspaces there are, the database's own too.
    pub keyspaces: Vec<KeyspacePrivacy>,
    /// True when there is an audit log.
    pub is_audited: bool,
    /// How many users there are beside `default`.
    pub users: usize,
    /// True when somebody may log in without a password.
    pub is_open_to_all: bool,
}

/// Files that are alike.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("data");
/// let db = pugdb::Database::open(&path)?;
/// let users = db.keyspace("users")?;
/// let report = db.privacy()?;
/// assert!(report.files.iter().all(|group| group.seal == pugdb::privacy::FileSeal::Plain && group.files > 0));
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileGroup {
    /// What they hold.
    pub kind: FileKind,
    /// Whose bytes they hold, a partition's counted as its keyspace's; `None` for log, manifest and audit log, which all share.
    pub keyspace: Option<KeyspaceId>,
    /// How they are sealed. What keyspaces have in a shared file is sealed with their own keys, this is about the rest of it.
    pub seal: FileSeal,
    /// How many there are.
    pub files: u64,
    /// How long they are together, room that was taken ahead included.
    pub bytes: u64,
}

/// Where one keyspace has its entries.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("data");
/// let db = pugdb::Database::open(&path)?;
/// let users = db.keyspace("users")?;
/// let report = db.privacy()?;
/// assert_eq!((report.keyspaces[0].name.as_str(), report.keyspaces[0].id), ("users", users.id()));
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyspacePrivacy {
    /// Its name.
    pub name: String,
    /// Its number, which stands in file headers.
    pub id: KeyspaceId,
    /// Whether it ever touches the disk.
    pub persistence: Persistence,
}

impl Database {
    /// How the database's bytes lie on disk: reads the header of each file, and no more of it.
    ///
    /// What is written meanwhile may be missing. Works [beside a writer](crate::Builder::open_read_only), too.
    ///
    /// ```
    /// use pugdb::keys::KeyFile;
    /// use pugdb::privacy::FileSeal;
    /// use pugdb::Database;
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let (path, key) = (dir.path().join("data"), dir.path().join("orders.key"));
    /// let db = Database::builder().root_key(KeyFile::new(&key)).open(&path)?;
    /// db.keyspace("users")?.put(b"ada", b"1815")?;
    /// db.flush()?;
    /// let report = db.privacy()?;
    /// assert!(report.files.iter().all(|group| matches!(group.seal, FileSeal::Sealed(_))));
    /// assert!(report.is_open_to_all && report.users == 0); // nobody has made users yet
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Closed`; `Corrupt` when the rights cannot be read; what the disk says. A file that cannot be read is a line in the report.
    pub fn privacy(&self) -> Result<PrivacyReport> {
        self.inner.check_open()?;
        let keys = self.keys();
        let held = keys.as_ref().map(|keys| keys.held()).unwrap_or_default();
        let held_subjects = held.iter().filter(|held| matches!(held, Held::Subject(..))).count();
        let rights = self.rights()?;
        let rights = rights.current();
        let mut report = PrivacyReport {
            keys: keys.map(|keys| keys.status()),
            held_subjects,
            held_keyspaces: held.len() - held_subjects,
            files: Vec::new(),
            unreadable: Vec::new(),
            keyspaces: Vec::new(),
            is_audited: false,
            users: rights.users().filter(|user| user.name() != "default").count(),
            is_open_to_all: rights.users().any(|user| user.is_on() && user.needs_no_password()),
        };
        let owners = self.keyspaces_of(&mut report);
        if let Some(durable) = &self.inner.durable {
            look_at_files(durable, &owners, &mut report)?;
        }
        report.is_audited = report.files.iter().any(|group| group.kind == FileKind::Audit);
        Ok(report)
    }

    /// Notes the keyspaces, and of each partition whose it is.
    fn keyspaces_of(&self, report: &mut PrivacyReport) -> BTreeMap<KeyspaceId, KeyspaceId> {
        let spaces: Vec<_> = self.inner.names.read().values().cloned().collect();
        let mut owners = BTreeMap::new();
        for space in spaces {
            let persistence = match &space.keeper {
                Keeper::Lsm(trees) => {
                    owners.extend(trees.all().iter().map(|tree| (tree.id(), space.id)));
                    Persistence::Durable
                }
                Keeper::Btree(_) | Keeper::Hash(_) => Persistence::Volatile,
            };
            report.keyspaces.push(KeyspacePrivacy {
                name: space.name().to_string(),
                id: space.id,
                persistence,
            });
        }
        owners
    }
}

fn look_at_files(
    durable: &Durable,
    owners: &BTreeMap<KeyspaceId, KeyspaceId>,
    report: &mut PrivacyReport,
) -> Result<()> {
    let context = &durable.context;
    let fs = &*context.env.fs;
    let mut groups: BTreeMap<(u8, Option<KeyspaceId>, FileSeal), FileGroup> = BTreeMap::new();
    for path in files(fs, durable.data_dir())? {
        let (found, bytes) = match look_at(fs, &path, &*context.cipher) {
            Ok(Some(found)) => found,
            Ok(None) => continue,
            // Merged away, or its segment is not needed any more.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => {
                report.unreadable.push(error.at(name(&path)).to_string());
                continue;
            }
        };
        let (about, seal) = found;
        let keyspace = about.keyspace.map(|id| owners.get(&id).copied().unwrap_or(id));
        let group = groups.entry((about.kind as u8, keyspace, seal)).or_insert(FileGroup {
            kind: about.kind,
            keyspace,
            seal,
            files: 0,
            bytes: 0,
        });
        group.files += 1;
        group.bytes += bytes;
    }
    report.files = groups.into_values().collect();
    Ok(())
}

type Found = ((FileContext, FileSeal), u64);

/// `None` when the file holds nothing yet: the log's next segment is made ahead of time.
fn look_at(fs: &dyn FileSystem, path: &Path, cipher: &dyn Cipher) -> Result<Option<Found>> {
    let doing = |error| Error::io("read the file header", error);
    let file = fs.open(path, Access::Read).map_err(doing)?;
    let mut beginning = [0; 16];
    let read = file.read_at(&mut beginning, 0).map_err(doing)?;
    if read == 0 || beginning == [0; 16] {
        return Ok(None);
    }
    Ok(Some((seal_of(&*file, cipher)?, file.length().map_err(doing)?)))
}

/// Every file that begins with a header.
fn files(fs: &dyn FileSystem, dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = crate::inspect::files_in(fs, dir)?;
    let folder = dir.join(audit::AUDIT);
    match fs.list(&folder) {
        Ok(names) => {
            files.extend(
                names.iter().filter(|name| name.ends_with(AUDIT_ENDING)).map(|name| folder.join(name)),
            );
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io(format!("list {}", folder.display()), error)),
    }
    Ok(files)
}
