//! A root key in a file that only its owner can read.

use std::io;
use std::path::{Path, PathBuf};

use pugdb_core::coding::index;
use pugdb_core::env::{Access, Env, sync_parents};
use pugdb_core::{DatabaseId, Error, Result};
use zeroize::Zeroizing;

use super::{Kind, RootProvider, hex, unhex};
use crate::keyring::file::{beside, replace};
use crate::newer;
use crate::secret::Secret;

/// The root key in a file of text, `0600`. It belongs outside of the data directory: on another disk, where no backup of the data goes.
///
/// ```
/// use pugdb_security::{KeyFile, RootProvider as _};
///
/// let provider = KeyFile::new("/etc/pugdb/orders.key");
/// assert_eq!(provider.describe(), "the key file /etc/pugdb/orders.key");
/// assert!(provider.destroys());
/// ```
#[derive(Clone, Debug)]
pub struct KeyFile {
    path: PathBuf,
    /// The one that a new database gets, when the file is named after it.
    new: Option<DatabaseId>,
}

/// What is said to whoever finds the file. Any such line may be there.
const COMMENT: &str = "# The root key of a PugDB database. Who has it and the database's directory can read the database; \
                       without it nobody can.\n";
const TITLE: &str = "pugdb-root-key 1";
/// There are two keys during a rotation, and more where databases were begun and not finished.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// So many, with room to spare, are read.
const KEYS_MAX: usize = 256;

/// What the file says.
struct Content {
    database: DatabaseId,
    /// The database is being made, and has no keyring yet. A key file without this belongs to a database that there is.
    is_begun: bool,
    /// Ascending numbers.
    keys: Vec<(u64, Secret)>,
}

impl Content {
    fn encode(&self) -> Zeroizing<String> {
        let mut out = Zeroizing::new(String::with_capacity(COMMENT.len() + 128 + 96 * self.keys.len()));
        out.push_str(COMMENT);
        out.push_str(TITLE);
        out.push('\n');
        let mut line =
            |name: &str, text: &str| [name, " ", text, "\n"].iter().for_each(|part| out.push_str(part));
        line("database", &hex(&self.database.0));
        if self.is_begun {
            line("begun", "and not finished");
        }
        for (number, key) in &self.keys {
            line(&format!("key {number}"), &Zeroizing::new(hex(key.expose())));
        }
        let checksum = xxhash_rust::xxh3::xxh3_64(out.as_bytes());
        out.push_str("check ");
        out.push_str(&hex(&checksum.to_be_bytes()));
        out.push('\n');
        out
    }

    /// What is whole. `None` when it was cut or changed; an error when a newer version wrote it.
    fn decode(text: &str) -> Result<Option<Self>> {
        let whole = text.rsplit_once("check ").filter(|(content, check)| {
            let checksum = u64::from_str_radix(check.trim_end(), 16);
            checksum == Ok(xxhash_rust::xxh3::xxh3_64(content.as_bytes()))
        });
        let Some((content, _)) = whole else { return Ok(None) };
        let mut lines = content.lines().skip_while(|line| line.starts_with('#'));
        match lines.next() {
            Some(TITLE) => Self::decode_lines(lines).ok_or_else(|| newer("the key file")).map(Some),
            Some(title) if title.starts_with("pugdb-root-key ") => Err(newer("the key file")),
            _ => Ok(None),
        }
    }

    /// What stands behind the title. `None` for lines that this version does not write.
    fn decode_lines<'a>(mut lines: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut database = DatabaseId([0; 16]);
        unhex(lines.next()?.strip_prefix("database ")?, &mut database.0)?;
        let mut lines = lines.peekable();
        let is_begun = lines.next_if(|line| line.starts_with("begun ")).is_some();
        let mut keys = Vec::new();
        for line in lines {
            let (number, digits) = line.strip_prefix("key ")?.split_once(' ')?;
            let mut read = None;
            let key = Secret::fill(|bytes| read = unhex(digits, bytes));
            read?;
            keys.push((number.parse().ok()?, key));
        }
        (!keys.is_empty()).then_some(Self { database, is_begun, keys })
    }
}

impl KeyFile {
    /// The key in the file at `path`, which is made with the database.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), new: None }
    }

    /// The key of a database that is to be made, in `dir`, which is made too: a file that is named after the database.
    ///
    /// ```
    /// use pugdb_core::env::Env;
    /// use pugdb_security::{KeyFile, Vault};
    ///
    /// # let home = tempfile::tempdir().unwrap();
    /// let (keys, keyring) = (home.path().join("keys"), home.path().join("KEYRING"));
    /// let provider = KeyFile::for_new_database(&Env::os(), &keys);
    /// Vault::create(&Env::os(), &keyring, std::sync::Arc::new(provider.clone()))?;
    /// let found = KeyFile::find(&Env::os(), &keys, &keyring)?.unwrap();
    /// assert_eq!(found.path(), provider.path());
    /// # Ok::<(), pugdb_core::Error>(())
    /// ```
    pub fn for_new_database(env: &Env, dir: &Path) -> Self {
        let database = DatabaseId::random(&*env.random);
        Self { new: Some(database), ..Self::of_database(dir, database) }
    }

    /// The key of a database that there is, in `dir`, which is made if need be: where [`find`](Self::find) looks for it.
    ///
    /// ```
    /// use pugdb_core::DatabaseId;
    /// use pugdb_security::KeyFile;
    ///
    /// let key = KeyFile::of_database("keys".as_ref(), DatabaseId([0xab; 16]));
    /// assert_eq!(key.path().file_name().unwrap(), "abababababababababababababababab.key");
    /// ```
    pub fn of_database(dir: &Path, database: DatabaseId) -> Self {
        Self::new(named(dir, database))
    }

    /// The key file in `dir` that is named after the database of a keyring; `None` when there is no such file.
    ///
    /// # Errors
    /// `NotFound` without the keyring, `Corrupt` when it is damaged; what the disk says.
    pub fn find(env: &Env, dir: &Path, keyring: &Path) -> Result<Option<Self>> {
        let sealed = crate::keyring::file::read(env, keyring)?;
        let database = sealed.ok_or_else(|| Error::not_found("there is no keyring"))?.database;
        let found = Self::new(named(dir, database));
        Ok(found.read(env)?.map(|_| found))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn read(&self, env: &Env) -> Result<Option<Content>> {
        let doing = |error| Error::io(format!("read {}", self.describe()), error);
        let file = match env.fs.open(&self.path, Access::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(doing)?,
        };
        if !env.fs.is_private(&self.path).map_err(doing)? {
            let path = self.path.display();
            return Err(Error::denied(format!(
                "others than its owner can read the key file {path}; run `chmod 600 {path}`"
            )));
        }
        let length = file.length().map_err(doing)?.min(FILE_BYTES_MAX);
        let mut bytes = Zeroizing::new(vec![0; index(length)]);
        file.read_exact_at(&mut bytes, 0).map_err(doing)?;
        let content = std::str::from_utf8(&bytes).ok().map(Content::decode).transpose()?.flatten();
        content
            .map(Some)
            .ok_or_else(|| Error::corrupt(format!("{} is damaged; put back a copy of it", self.describe())))
    }

    fn content(&self, env: &Env, database: DatabaseId) -> Result<Option<Content>> {
        let content = self.read(env)?;
        if content.as_ref().is_some_and(|content| content.database != database) {
            return Err(Error::denied(format!(
                "{} is of another database; name this one's own, or a new path for a new one",
                self.describe()
            )));
        }
        Ok(content)
    }

    fn write(&self, env: &Env, content: &Content) -> Result<()> {
        let doing = |error| Error::io(format!("write {}", self.describe()), error);
        // The old key is in the file behind a link, and would stay there if the link were replaced.
        let path = env.fs.behind_links(&self.path).map_err(doing)?;
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            env.fs.create_dir_all(dir).map_err(doing)?;
            sync_parents(&*env.fs, dir)?;
        }
        replace(env, &path, content.encode().as_bytes(), true).map_err(doing)
    }
}

fn named(dir: &Path, database: DatabaseId) -> PathBuf {
    dir.join(format!("{database}.key"))
}

/// The number of the root key that made it stands before what was wrapped.
fn split(wrapped: &[u8]) -> Result<(u64, &[u8])> {
    let (number, wrapped) = Kind::KeyFile
        .of(wrapped)?
        .split_first_chunk::<8>()
        .ok_or_else(|| Error::corrupt("the keyring was not made with a key file, or was changed"))?;
    Ok((u64::from_le_bytes(*number), wrapped))
}

impl RootProvider for KeyFile {
    fn describe(&self) -> String {
        format!("the key file {}", self.path.display())
    }

    fn protects(&self) -> &'static str {
        "a copy of the data without the key file: a backup, a bucket, a lost disk. It does not protect the data from who has the whole machine, \
         or reads the key file as its owner or as root."
    }

    fn destroys(&self) -> bool {
        true
    }

    fn begun(&self, env: &Env) -> Result<Option<DatabaseId>> {
        Ok(self.read(env)?.filter(|content| content.is_begun).map(|content| content.database).or(self.new))
    }

    fn wrap(&self, env: &Env, database: DatabaseId, epoch: &Secret) -> Result<Vec<u8>> {
        let mut content =
            self.content(env, database)?.unwrap_or(Content { database, is_begun: true, keys: Vec::new() });
        if content.keys.len() >= KEYS_MAX {
            return Err(Error::unavailable(format!(
                "rotations failed too often; open the database again, which ends them in {}",
                self.describe()
            )));
        }
        let number = content.keys.iter().map(|(number, _)| *number).max().unwrap_or(0) + 1;
        let root = Secret::random(&*env.random);
        content.keys.push((number, root.clone()));
        self.write(env, &content)?;
        let mut out = vec![Kind::KeyFile as u8];
        out.extend_from_slice(&number.to_le_bytes());
        out.extend_from_slice(&super::wrap(env, &root, database, &number.to_le_bytes(), epoch));
        Ok(out)
    }

    fn unwrap(&self, env: &Env, database: DatabaseId, wrapped: &[u8]) -> Result<Secret> {
        let content = self.content(env, database)?.ok_or_else(|| {
            Error::not_found(format!(
                "{} is not there; without it the database cannot be read",
                self.describe()
            ))
        })?;
        let (number, wrapped) = split(wrapped)?;
        let Some((_, root)) = content.keys.iter().find(|(of, _)| *of == number) else {
            return Err(Error::denied(format!(
                "the keyring was sealed with root key {number}, and {} has {}: one of the two is an older copy",
                self.describe(),
                content.keys.iter().map(|(number, _)| number.to_string()).collect::<Vec<_>>().join(" and "),
            )));
        };
        super::unwrap(root, database, &number.to_le_bytes(), wrapped)?.ok_or_else(|| {
            Error::denied(format!("{} has another key than the one that sealed the keyring", self.describe()))
        })
    }

    fn settle(&self, env: &Env, database: DatabaseId, wrapped: &[u8]) -> Result<()> {
        // What an attempt that was cut off has left.
        let _ = env.fs.behind_links(&self.path).and_then(|path| env.fs.remove(&beside(&path)));
        let (number, _) = split(wrapped)?;
        let content = self.content(env, database)?;
        let Some(mut content) = content.filter(|content| content.keys.iter().any(|(of, _)| *of == number))
        else {
            return Err(Error::denied(format!(
                "root key {number} is not in {} any more: two databases were made with it at the same time, or it is another copy",
                self.describe()
            )));
        };
        if content.keys.len() > 1 || content.is_begun {
            content.keys.retain(|(of, _)| *of == number);
            content.is_begun = false;
            self.write(env, &content)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;

    use pugdb_core::ErrorKind;

    use super::*;
    use crate::Vault;

    #[test]
    fn key_file_and_keyring_are_their_owners_and_a_key_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (key, keyring) = (dir.path().join("deep/root.key"), dir.path().join("KEYRING"));
        let provider = Arc::new(KeyFile::new(&key));
        drop(Vault::create(&Env::os(), &keyring, provider.clone()).unwrap());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!([mode(&key), mode(&keyring)], [0o600; 2]);
        for open_mode in [0o640, 0o604, 0o644] {
            fs::set_permissions(&key, fs::Permissions::from_mode(open_mode)).unwrap();
            let error = Vault::open(&Env::os(), &keyring, provider.clone()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied);
            assert!(error.to_string().contains("run `chmod 600"), "{error}");
        }
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        Vault::open(&Env::os(), &keyring, provider).unwrap().rotate().unwrap();
        assert_eq!([mode(&key), mode(&keyring)], [0o600; 2]);
    }

    #[test]
    fn behind_links_the_file_itself_is_replaced_and_has_no_old_key_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let disk = at("disk");
        fs::create_dir(&disk).unwrap();
        // One leads nowhere yet: the disk of the keys is there, and no key.
        std::os::unix::fs::symlink("near", at("root.key")).unwrap();
        std::os::unix::fs::symlink("disk/orders.key", at("near")).unwrap();
        let provider = Arc::new(KeyFile::new(at("root.key")));
        let vault = Vault::create(&Env::os(), &at("KEYRING"), provider.clone()).unwrap();
        let behind = || fs::read_to_string(disk.join("orders.key")).unwrap();
        let old = behind();
        vault.rotate().unwrap();
        let old_key = old.lines().find(|line| line.starts_with("key 1 ")).unwrap();
        assert!(!behind().contains(old_key) && behind().contains("\nkey 2 "));
        for link in ["root.key", "near"] {
            assert!(fs::symlink_metadata(at(link)).unwrap().is_symlink(), "{link} was replaced");
        }
        drop(vault);
        // What a rotation that was cut off has left behind the links goes with the next open.
        replace(&Env::os(), &disk.join("orders.key.new"), b"an old key", true).unwrap();
        Vault::open(&Env::os(), &at("KEYRING"), provider).unwrap();
        assert_eq!(fs::read_dir(&disk).unwrap().count(), 1, "something is left beside it");
        // In a circle.
        std::os::unix::fs::symlink("one", at("other")).unwrap();
        std::os::unix::fs::symlink("other", at("one")).unwrap();
        let lost = KeyFile::new(at("one"));
        assert!(lost.wrap(&Env::os(), DatabaseId([1; 16]), &Secret::copy(&[1; 32])).is_err());
    }

    #[test]
    fn what_is_no_key_file_is_refused_and_none_of_it_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root.key");
        let secret = Secret::copy(&[0xab; 32]);
        let whole =
            Content { database: DatabaseId([1; 16]), is_begun: true, keys: vec![(1, secret)] }.encode();
        assert!(Content::decode(&whole).unwrap().is_some());
        for length in 0..whole.len() - 1 {
            assert!(Content::decode(&whole[..length]).unwrap().is_none(), "{length}");
        }
        for text in ["", "abab", "# The root key\n", &whole.replace("key 1", "key one")] {
            replace(&Env::os(), &path, text.as_bytes(), true).unwrap();
            let error = KeyFile::new(&path).begun(&Env::os()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            assert!(!error.to_string().contains("abab"), "{error}");
        }
        let checked = |content: &str| {
            format!("{content}check {:016x}\n", xxhash_rust::xxh3::xxh3_64(content.as_bytes()))
        };
        let content = whole.rsplit_once("check ").unwrap().0;
        assert_eq!(checked(content), *whole);
        let read = |content: &str| Content::decode(&checked(content));
        assert!(read(&content.replace("# The", "# Another comment\n# The")).unwrap().is_some());
        assert!(read("# A text\n").unwrap().is_none());
        for newer in [("root-key 1", "root-key 2"), ("begun ", "added "), ("key 1", "key one")] {
            let error = read(&content.replace(newer.0, newer.1)).map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{newer:?}");
        }
    }

    #[test]
    fn a_key_file_of_a_database_that_there_is_makes_no_second_one() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        let provider = Arc::new(KeyFile::new(dir.path().join("root.key")));
        Vault::create(&Env::os(), &one, provider.clone()).unwrap();
        let error = Vault::create(&Env::os(), &other, provider.clone()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(error.to_string().contains("is of another database"), "{error}");
        Vault::open(&Env::os(), &one, provider.clone()).unwrap();
        // One that was begun and came to nothing is gone on with.
        let lost = Arc::new(KeyFile::new(dir.path().join("lost.key")));
        let database = DatabaseId([7; 16]);
        lost.wrap(&Env::os(), database, &Secret::copy(&[1; 32])).unwrap();
        assert_eq!(Vault::create(&Env::os(), &other, lost.clone()).unwrap().database(), database);
        assert_eq!(lost.begun(&Env::os()).unwrap(), None);
    }

    #[test]
    fn of_two_databases_made_at_once_with_one_key_file_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let provider = KeyFile::new(dir.path().join("root.key"));
        let (env, database) = (Env::os(), DatabaseId([7; 16]));
        let one = provider.wrap(&env, database, &Secret::copy(&[1; 32])).unwrap();
        // The other one takes it for its own attempt.
        let other =
            provider.wrap(&env, provider.begun(&env).unwrap().unwrap(), &Secret::copy(&[2; 32])).unwrap();
        provider.settle(&env, database, &one).unwrap();
        assert_eq!(provider.settle(&env, database, &other).unwrap_err().kind(), ErrorKind::Denied);
        assert!(provider.unwrap(&env, database, &one).is_ok());
    }

    #[test]
    fn rotations_that_never_come_through_end_before_the_file_is_too_long() {
        let dir = tempfile::tempdir().unwrap();
        let provider = KeyFile::new(dir.path().join("root.key"));
        let (env, database, epoch) = (Env::os(), DatabaseId([7; 16]), Secret::copy(&[1; 32]));
        let first = provider.wrap(&env, database, &epoch).unwrap();
        let outcomes: Vec<_> = (0..300).map(|_| provider.wrap(&env, database, &epoch)).collect();
        assert_eq!(outcomes.last().unwrap().as_ref().unwrap_err().kind(), ErrorKind::Unavailable);
        assert!(provider.unwrap(&env, database, &first).is_ok());
        provider.settle(&env, database, &first).unwrap();
        provider.wrap(&env, database, &epoch).unwrap();
    }
}
