//! Who may do what, kept in the database: users and roles are entries of a keyspace of its own, so they are as durable, as
//! sealed and as much a part of a checkpoint as all else. The rules are in the crate of keys; here they are stored, and
//! shared by every face. Whoever embeds the database may do everything: only faces ask.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use pugdb_core::coding::{Reader, put_bytes, put_varint};
use pugdb_core::engine::EngineKind;
use pugdb_core::{Error, Result};
use pugdb_lsm::TreeOptions;
pub use pugdb_security::rights::{
    Access, Action, Authenticator, Categories, DEFAULT_USER, Denial, GrantText, Grants, KeyUse, Known,
    Request, Rights, ScramVerifier, User, WordError, joined_words, limits, token_word,
};

use crate::audit::{self, Core, Event, ObjectKind, witnessed};
use crate::database::Inner;
use crate::key_locks::refuse_inside_update;
use crate::keyspace::Keyspace;
use crate::{Database, Durability, write};

/// Where rights are kept: `docs/format/rights.md`.
const KEYSPACE: &str = "pugdb.system.rights";
const LAYOUT: u8 = 1;
/// Says how many others there are. It is there as soon as anything was changed.
const HEAD: &[u8] = b"head";
const USER: u8 = b'u';
const ROLE: u8 = b'r';

/// What all handles share.
pub(crate) struct Shared {
    current: ArcSwap<Rights>,
    authenticator: Authenticator,
    /// Guards the order of changes. It is held across the sync of one, for which nobody waits who reads or writes entries.
    changing: Mutex<()>,
}

/// The rights of a database, as [`Database::rights`] gives them: what they are now, and the way to change them.
///
/// ```
/// let rights = pugdb::Database::in_memory()?.rights()?;
/// assert_eq!(rights.current().users().count(), 1);
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone)]
pub struct RightsHandle {
    inner: Arc<Inner>,
    shared: Arc<Shared>,
}

impl Database {
    /// Users, roles and what each may do: for those who let others at the database. Its own calls are checked by nobody.
    ///
    /// ```
    /// use pugdb::rights::{Access, Action, Categories, KeyUse, Request, WordError};
    ///
    /// let rights = pugdb::Database::in_memory()?.rights()?;
    /// rights.change(|rights, passwords| {
    ///     let ada = rights.user_mut("ada")?;
    ///     ["on", ">s3cret", "%R~cache:*", "+@read"].iter().try_for_each(|word| {
    ///         ada.apply(word.as_bytes(), passwords, &|_| true)
    ///     })
    /// })??;
    /// let now = rights.current();
    /// let ada = rights.log_in("ada", b"s3cret").unwrap();
    /// let get = Action { name: "get", categories: Categories::named("read").unwrap() };
    /// let keys = [KeyUse { keyspace: "db0", key: b"cache:1", access: Access::Read }];
    /// let request = Request { action: get, keyspaces: &[], keys: &keys, whole: None, channels: &[] };
    /// assert!(now.check(&ada, &request).is_ok() && rights.log_in("ada", b"secret").is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Corrupt` when what is kept cannot be read: then nobody has rights, rather than everybody. `Unavailable` when a newer
    /// version has written it; `Closed`.
    pub fn rights(&self) -> Result<RightsHandle> {
        self.inner.check_open()?;
        let mut known = self.inner.rights.lock();
        let shared = if let Some(shared) = &*known {
            Arc::clone(shared)
        } else {
            let authenticator = Authenticator::new(Arc::clone(&self.inner.options.env.random));
            let current = ArcSwap::from_pointee(load(&self.inner, &authenticator)?);
            let shared = Shared { current, authenticator, changing: Mutex::new(()) };
            Arc::clone(known.insert(Arc::new(shared)))
        };
        drop(known);
        Ok(RightsHandle { inner: Arc::clone(&self.inner), shared })
    }
}

impl fmt::Debug for RightsHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.current().fmt(f)
    }
}

impl RightsHandle {
    /// What the rights are now. It waits for nobody.
    ///
    /// ```
    /// let rights = pugdb::Database::in_memory()?.rights()?;
    /// assert!(rights.current().user("default").unwrap().may_do_everything());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn current(&self) -> Guard<Arc<Rights>> {
        self.shared.current.load()
    }

    /// Changes the rights, in one step and durably: when this returns, a crash does not bring the old ones back. An `Err` of
    /// the closure changes nothing, and is what the inner result holds.
    ///
    /// ```
    /// use pugdb::rights::WordError;
    ///
    /// let rights = pugdb::Database::in_memory()?.rights()?;
    /// let outcome = rights.change(|rights, passwords| {
    ///     rights.user_mut("ada")?.apply(b"nonsense", passwords, &|_| true)
    /// })?;
    /// assert_eq!(outcome, Err(WordError::Syntax));
    /// assert!(rights.current().user("ada").is_none());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// An [audit log](crate::audit) has it before it is done.
    ///
    /// # Errors
    /// As a commit; `Invalid` when a user or a role has become too large.
    pub fn change<R, E>(
        &self,
        decide: impl FnOnce(&mut Rights, &Authenticator) -> std::result::Result<R, E>,
    ) -> Result<std::result::Result<R, E>> {
        refuse_inside_update()?;
        let _order = self.shared.changing.lock();
        let before = self.shared.current.load_full();
        let mut after = Rights::clone(&before);
        let decided = match decide(&mut after, &self.shared.authenticator) {
            Ok(decided) => decided,
            Err(refused) => return Ok(Err(refused)),
        };
        if after != *before {
            let audit = self.inner.audit();
            witnessed(audit, |core| changed(core, &before, &after), || store(&self.inner, &before, &after))?;
            self.shared.current.store(Arc::new(after));
            self.shared.authenticator.forget();
        }
        Ok(Ok(decided))
    }

    /// Reads the rights again from where they are kept. Nothing else changes them, so they are the same, or there is damage.
    ///
    /// ```
    /// let rights = pugdb::Database::in_memory()?.rights()?;
    /// rights.reload()?;
    /// assert_eq!(rights.current().users().count(), 1);
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Database::rights`]; the rights stay what they were.
    pub fn reload(&self) -> Result<()> {
        let _order = self.shared.changing.lock();
        let rights = load(&self.inner, &self.shared.authenticator)?;
        if rights != **self.shared.current.load() {
            self.shared.current.store(Arc::new(rights));
            self.shared.authenticator.forget();
        }
        Ok(())
    }

    /// The user of this name, if the password or token is its own. It takes as long for a name that nobody has; what was right
    /// a moment ago is free.
    ///
    /// ```
    /// let rights = pugdb::Database::in_memory()?.rights()?;
    /// // Nobody has said yet that the default user needs a password.
    /// assert!(rights.log_in("default", b"").is_some());
    /// assert!(rights.log_in("ada", b"").is_none());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn log_in(&self, name: &str, secret: &[u8]) -> Option<Arc<User>> {
        let current = self.current();
        let user = current.user(name);
        let is_right = self.shared.authenticator.accepts(user.map(|user| &**user), secret);
        user.filter(|_| is_right).cloned()
    }

    /// As [`log_in`](Self::log_in), if it is free: no password is required, or the secret was right before.
    ///
    /// ```
    /// let rights = pugdb::Database::in_memory()?.rights()?;
    /// assert!(rights.log_in_again("default", b"").is_some());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn log_in_again(&self, name: &str, secret: &[u8]) -> Option<Arc<User>> {
        let current = self.current();
        let user = current.user(name)?;
        let is_free = (user.is_on() && user.needs_no_password())
            || self.shared.authenticator.remembers(Some(user), secret);
        is_free.then(|| Arc::clone(user))
    }
}

/// What the audit log has of a change: which users and roles.
fn changed(core: &Core, before: &Rights, after: &Rights) -> Event {
    let users = before.users().chain(after.users()).map(|user| user.name());
    let users = users.filter(|name| before.user(name) != after.user(name));
    let roles = before.roles().chain(after.roles()).map(|(name, _)| name);
    let roles = roles.filter(|name| before.role(name) != after.role(name));
    let names: BTreeSet<&str> = users.chain(roles).collect();
    names.into_iter().take(CHANGED_MAX).fold(Event::begun(audit::Action::Rights), |event, name| {
        event.on(core.object(ObjectKind::User, name))
    })
}

/// So many users and roles are named in one record. `ACL` changes one.
const CHANGED_MAX: usize = 64;

impl RightsHandle {
    /// Random bytes, for a secret that nobody can guess.
    ///
    /// ```
    /// let rights = pugdb::Database::in_memory()?.rights()?;
    /// assert!(rights.random(32).len() == 32 && rights.random(32) != rights.random(32));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn random(&self, bytes: usize) -> Vec<u8> {
        let mut random = vec![0; bytes];
        self.inner.options.env.random.fill(&mut random);
        random
    }
}

/// What is kept, strictly: what cannot be read must not look like no users.
fn load(inner: &Arc<Inner>, authenticator: &Authenticator) -> Result<Rights> {
    let mut rights = Rights::default();
    let Some(space) = inner.names.read().get(KEYSPACE).cloned() else { return Ok(rights) };
    let (mut found, mut counted, mut has_default) = (0, None, false);
    for entry in Keyspace::new(inner, space).scan(..) {
        let (key, value) = entry?;
        let mut reader = Reader::new(&value);
        let layout = reader.u8()?;
        if layout != LAYOUT {
            return Err(Error::unsupported(
                "users and rights were written by a newer version of PugDB; open the database with that one",
            ));
        }
        if *key == *HEAD {
            counted = Some(reader.varint()?);
        } else {
            let line = reader.bytes()?;
            has_default |= *key == *[b"u", DEFAULT_USER.as_bytes()].concat();
            match key.split_first() {
                Some((&USER, name)) => rights.add_written_user(name, line, authenticator)?,
                Some((&ROLE, name)) => rights.add_written_role(name, line)?,
                _ => return Err(damaged()),
            }
            found += 1;
        }
        if !reader.is_empty() {
            return Err(damaged());
        }
    }
    // The keyspace is made a moment before its first entries: then it is empty.
    let is_whole = counted == Some(found) && has_default;
    if is_whole || (counted, found) == (None, 0) { Ok(rights) } else { Err(damaged()) }
}

fn damaged() -> Error {
    Error::corrupt("the rights that are kept in the database cannot be read; run pugdb verify")
}

/// Users and roles as entries.
fn entries(rights: &Rights) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let entry = |kind: u8, name: &str, line: Vec<u8>| {
        if line.len() > limits::LINE_BYTES_MAX {
            let most = limits::LINE_BYTES_MAX;
            return Err(Error::invalid(format!("the rules of one user or role take more than {most} bytes")));
        }
        let mut value = vec![LAYOUT];
        put_bytes(&mut value, &line);
        Ok(([&[kind], name.as_bytes()].concat(), value))
    };
    let users = rights.users().map(|user| entry(USER, user.name(), user.to_line()));
    let roles = rights.roles().map(|(name, role)| entry(ROLE, name, role.to_line()));
    let mut all: BTreeMap<_, _> = users.chain(roles).collect::<Result<_>>()?;
    let mut head = vec![LAYOUT];
    put_varint(&mut head, all.len() as u64);
    all.insert(HEAD.to_vec(), head);
    Ok(all)
}

/// Writes what has changed, in one batch.
fn store(inner: &Arc<Inner>, before: &Rights, after: &Rights) -> Result<()> {
    let new = entries(after)?;
    let keyspace = keyspace(inner)?;
    // The first change writes all of it.
    let old = if keyspace.exists(HEAD)? { entries(before)? } else { BTreeMap::new() };
    let mut batch = Database { inner: Arc::clone(inner) }.batch().durability(Durability::Sync);
    for (key, value) in &new {
        if old.get(key) != Some(value) {
            batch.put(&keyspace, key, value);
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        batch.delete(&keyspace, key);
    }
    batch.commit()
}

fn keyspace(inner: &Arc<Inner>) -> Result<Keyspace> {
    let found = inner.names.read().get(KEYSPACE).cloned();
    let kind = if inner.durable.is_some() { EngineKind::Lsm } else { EngineKind::Btree };
    let create = || {
        write::create_keyspace(inner, KEYSPACE, kind, None, TreeOptions::default()).map(|(space, _)| space)
    };
    Ok(Keyspace::new(inner, found.map_or_else(create, Ok)?))
}

#[cfg(test)]
mod tests {
    use pugdb_core::ErrorKind;

    use super::*;
    use crate::keys::KeyFile;

    type Damage<'a> = &'a dyn Fn(&Keyspace, &[u8]);

    fn change(rights: &RightsHandle, name: &str, words: &[&str]) {
        let changed = rights.change(|rights, passwords| {
            let user = rights.user_mut(name)?;
            words.iter().try_for_each(|word| user.apply(word.as_bytes(), passwords, &|_| true))
        });
        changed.unwrap().unwrap();
    }

    fn lines(rights: &RightsHandle) -> Vec<String> {
        let lines = rights.current();
        lines.users().map(|user| format!("{} {}", user.name(), user.to_line().escape_ascii())).collect()
    }

    #[test]
    fn users_and_roles_are_there_again_after_a_reopen_and_in_a_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let (path, copy) = (dir.path().join("data"), dir.path().join("copy"));
        let key = KeyFile::new(dir.path().join("key"));
        let open = |path| Database::builder().root_key(key.clone()).open(path);
        let db = open(&path).unwrap();
        let rights = db.rights().unwrap();
        change(&rights, "ada", &["on", ">s3cret", "~a*", "+get", "role:reader"]);
        change(&rights, "eve", &["on", "nopass"]);
        let role = rights.change(|rights, _| rights.role_mut("reader")?.apply(b"+mget", &|_| true));
        role.unwrap().unwrap();
        assert!(
            rights.change(|rights, _| rights.remove_user("eve").then_some(()).ok_or(())).unwrap().is_ok()
        );
        let before = lines(&rights);
        db.checkpoint(&copy).unwrap();
        drop(rights);
        db.close().unwrap();
        let db = open(&path).unwrap();
        let rights = db.rights().unwrap();
        assert_eq!(lines(&rights), before);
        assert!(rights.current().role("reader").is_some() && rights.current().user("eve").is_none());
        assert!(rights.log_in("ada", b"s3cret").is_some() && rights.log_in("ada", b"other").is_none());
        assert!(
            rights.log_in_again("ada", b"s3cret").is_some() && rights.log_in_again("ada", b"x").is_none()
        );
        db.close().unwrap();
        let keyring = path.join("KEYRING");
        let db = Database::builder().root_key(key).keyring(keyring).open(&copy).unwrap();
        assert_eq!(lines(&db.rights().unwrap()), before);
        assert!(db.keyspaces().unwrap().is_empty());
        db.close().unwrap();
    }

    #[test]
    fn rights_that_cannot_be_read_are_an_error_and_never_no_users() {
        let other = |value: &[u8], place: usize| {
            let mut value = value.to_vec();
            value[place] ^= 1;
            value
        };
        let damages: &[(ErrorKind, Damage<'_>)] = &[
            (ErrorKind::Unsupported, &|keyspace, ada| keyspace.put(b"uada", other(ada, 0)).unwrap()),
            (ErrorKind::Corrupt, &|keyspace, ada| keyspace.put(b"uada", other(ada, 1)).unwrap()),
            (ErrorKind::Corrupt, &|keyspace, ada| keyspace.put(b"uada", &ada[..ada.len() - 1]).unwrap()),
            (ErrorKind::Corrupt, &|keyspace, ada| keyspace.put(b"uada", [ada, b" "].concat()).unwrap()),
            (ErrorKind::Corrupt, &|keyspace, _| keyspace.put(b"uada", b"").unwrap()),
            (ErrorKind::Corrupt, &|keyspace, _| keyspace.delete(b"uada").unwrap()),
            (ErrorKind::Corrupt, &|keyspace, _| keyspace.delete(HEAD).unwrap()),
            (ErrorKind::Corrupt, &|keyspace, ada| {
                keyspace.delete(b"udefault").unwrap();
                keyspace.put(b"ueve", ada).unwrap();
            }),
            (ErrorKind::Corrupt, &|keyspace, ada| {
                keyspace.delete(b"uada").unwrap();
                keyspace.put(b"xada", ada).unwrap();
            }),
        ];
        for (number, (kind, damage)) in damages.iter().enumerate() {
            let db = Database::in_memory().unwrap();
            let rights = db.rights().unwrap();
            change(&rights, "ada", &["on", ">s3cret", "~*", "+@all"]);
            let keyspace = keyspace(&db.inner).unwrap();
            damage(&keyspace, &keyspace.get(b"uada").unwrap().unwrap());
            assert_eq!(rights.reload().unwrap_err().kind(), *kind, "damage {number}");
            *db.inner.rights.lock() = None;
            assert_eq!(db.rights().unwrap_err().kind(), *kind, "damage {number}");
        }
    }

    #[test]
    fn a_change_that_is_refused_changes_nothing_and_one_that_is_too_large_is_refused() {
        let rights = Database::in_memory().unwrap().rights().unwrap();
        let refused = rights.change(|rights, passwords| {
            rights.user_mut("ada").unwrap().apply(b"nopass", passwords, &|_| true).unwrap();
            Err::<(), _>("no")
        });
        assert_eq!(refused.unwrap(), Err("no"));
        assert!(rights.current().user("ada").is_none());
        let pattern = "a".repeat(limits::PATTERN_BYTES_MAX - 4);
        let large = rights.change(|rights, passwords| {
            let user = rights.user_mut("ada")?;
            (0..255).try_for_each(|number| {
                user.apply(format!("~{number:03}{pattern}").as_bytes(), passwords, &|_| true)
            })?;
            user.apply(format!("(~{pattern} %R~{pattern} %W~{pattern})").as_bytes(), passwords, &|_| true)
        });
        assert_eq!(large.unwrap_err().kind(), ErrorKind::Invalid);
        assert!(rights.current().user("ada").is_none());
    }

    #[test]
    fn whoever_reads_beside_has_the_rights_of_its_moment_and_changes_none() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(dir.path().join("data")).unwrap();
        let rights = db.rights().unwrap();
        change(&rights, "ada", &["on", "nopass"]);
        let reader = Database::open_read_only(dir.path().join("data")).unwrap();
        let beside = reader.rights().unwrap();
        assert!(beside.log_in("ada", b"").is_some());
        let refused = beside.change(|rights, _| rights.remove_user("ada").then_some(()).ok_or(()));
        assert!(refused.is_err());
        db.close().unwrap();
    }
}
