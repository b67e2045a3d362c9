//! Who may do what: users and roles, the rules of what each may do, and how a user shows who it is. One engine for every
//! face. It reads no disk and asks no clock: a check is a pure function of the rights and of what is to be done.
//!
//! | module | what it is |
//! |---|---|
//! | `action.rs` | what a face asks for: [`Request`]; what is missing: [`Denial`] |
//! | `grant.rs`, `user.rs` | what may be done, and by whom |
//! | `words.rs` | the language, which is that of Redis's ACLs |
//! | `credential.rs`, `authenticator.rs` | passwords, tokens, certificates |
//! | `limits.rs` | how much of all this there may be |
//!
//! ```
//! use std::sync::Arc;
//!
//! use pugdb_core::env::os::OsRandom;
//! use pugdb_security::rights::*;
//!
//! let passwords = Authenticator::new(Arc::new(OsRandom));
//! let mut rights = Rights::default();
//! for word in ["on", ">s3cret", "~cache:*", "+get"] {
//!     rights.user_mut("ada")?.apply(word.as_bytes(), &passwords, &|name| name == "get")?;
//! }
//! let ada = rights.user("ada").unwrap();
//! assert!(passwords.accepts(Some(ada), b"s3cret") && !passwords.accepts(Some(ada), b"secret"));
//!
//! let get = Action { name: "get", categories: Categories::NONE };
//! for (key, outcome) in [("cache:1", Ok(())), ("salary:1", Err(Denial::Key(0)))] {
//!     let keys = [KeyUse { keyspace: "db0", key: key.as_bytes(), access: Access::Read }];
//!     let request = Request { action: get, keyspaces: &[], keys: &keys, whole: None, channels: &[] };
//!     assert_eq!(rights.check(ada, &request), outcome);
//! }
//! # Ok::<(), WordError>(())
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use pugdb_core::{Error, Result};

mod action;
mod authenticator;
mod credential;
mod grant;
pub mod limits;
#[cfg(test)]
mod tests;
mod user;
mod words;

pub use action::{Access, Action, Categories, Denial, KeyUse, Request};
pub use authenticator::Authenticator;
pub use credential::{ScramVerifier, token_word};
pub use user::{Grants, User};
pub use words::{GrantText, Known, WordError, joined_words};

/// The user that everybody is who has not said otherwise.
pub const DEFAULT_USER: &str = "default";

/// All users and roles. Before anybody has changed anything there is one user, [`DEFAULT_USER`], who needs no password and
/// may do everything.
#[derive(Clone, PartialEq, Eq)]
pub struct Rights {
    users: BTreeMap<String, Arc<User>>,
    roles: BTreeMap<String, Arc<Grants>>,
}

impl Default for Rights {
    fn default() -> Self {
        let open = User::open_default();
        Self { users: [(open.name.clone(), Arc::new(open))].into(), roles: BTreeMap::new() }
    }
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rights({} users, {} roles)", self.users.len(), self.roles.len())
    }
}

impl Rights {
    /// The users, by name.
    pub fn users(&self) -> impl Iterator<Item = &Arc<User>> {
        self.users.values()
    }

    /// The roles, by name.
    pub fn roles(&self) -> impl Iterator<Item = (&str, &Grants)> {
        self.roles.iter().map(|(name, grants)| (name.as_str(), &**grants))
    }

    /// The user of this name.
    pub fn user(&self, name: &str) -> Option<&Arc<User>> {
        self.users.get(name)
    }

    /// The role of this name.
    pub fn role(&self, name: &str) -> Option<&Grants> {
        self.roles.get(name).map(|grants| &**grants)
    }

    /// The user of this name, to be changed; made, off and without rights, if there is none.
    ///
    /// # Errors
    /// `Syntax` for a name that is none, `TooMuch` when there are too many users.
    pub fn user_mut(&mut self, name: &str) -> std::result::Result<&mut User, WordError> {
        if !self.users.contains_key(name) {
            check_name(name)?;
            if self.users.len() >= limits::USERS_MAX {
                return Err(WordError::TooMuch("users", limits::USERS_MAX));
            }
        }
        let user = self.users.entry(name.to_owned()).or_insert_with(|| Arc::new(User::new(name)));
        Ok(Arc::make_mut(user))
    }

    /// The role of this name, to be changed; made, without rights, if there is none.
    ///
    /// # Errors
    /// `Syntax` for a name that is none, `TooMuch` when there are too many roles.
    pub fn role_mut(&mut self, name: &str) -> std::result::Result<&mut Grants, WordError> {
        if !self.roles.contains_key(name) {
            check_name(name)?;
            if self.roles.len() >= limits::ROLES_MAX {
                return Err(WordError::TooMuch("roles", limits::ROLES_MAX));
            }
        }
        Ok(Arc::make_mut(self.roles.entry(name.to_owned()).or_default()))
    }

    /// Removes a user; false when there is none. The default user stays: [`DEFAULT_USER`] can be switched off.
    pub fn remove_user(&mut self, name: &str) -> bool {
        name != DEFAULT_USER && self.users.remove(name).is_some()
    }

    /// Removes a role, and takes it from all who have it; false when there is none.
    pub fn remove_role(&mut self, name: &str) -> bool {
        let was_there = self.roles.remove(name).is_some();
        if was_there {
            for user in self.users.values_mut().filter(|user| user.roles.iter().any(|role| role == name)) {
                Arc::make_mut(user).roles.retain(|role| role != name);
            }
        }
        was_there
    }

    /// Whether a user may do all of a request: one grant, its own or a role's, has to allow all of it.
    ///
    /// # Errors
    /// What is missing.
    pub fn check(&self, user: &User, request: &Request<'_>) -> std::result::Result<(), Denial> {
        if user.may_do_everything() {
            return Ok(());
        }
        let mut denied = match user.grants.check(request) {
            Ok(()) => return Ok(()),
            Err(denial) => denial,
        };
        for role in user.roles.iter().filter_map(|name| self.role(name)) {
            match role.check(request) {
                Ok(()) => return Ok(()),
                Err(denial) => denied = denied.max(denial),
            }
        }
        Err(denied)
    }

    /// Whether an action may tell a user that a key is there.
    pub fn may_see(&self, user: &User, action: &Action<'_>, keyspace: &str, key: &[u8]) -> bool {
        self.grants_of(user).any(|grants| grants.may_see(action, keyspace, key))
    }

    /// Whether that is so for every key of a keyspace: then nobody has to ask for each.
    pub fn sees_all(&self, user: &User, action: &Action<'_>, keyspace: &str) -> bool {
        self.grants_of(user).any(|grants| grants.sees_all(action, keyspace))
    }

    fn grants_of<'a>(&'a self, user: &'a User) -> impl Iterator<Item = &'a Grants> {
        std::iter::once(&user.grants).chain(user.roles.iter().filter_map(|name| self.role(name)))
    }

    /// Whether somebody is left who can log in and do this: the last one must not be shut out by mistake.
    pub fn is_left_to_somebody(&self, action: &Action<'_>) -> bool {
        let request = Request { action: *action, keyspaces: &[], keys: &[], whole: None, channels: &[] };
        self.users().any(|user| user.can_log_in() && self.check(user, &request).is_ok())
    }

    /// The user whose certificate bears this name. `None` as well when it is off, or when two have the same.
    pub fn user_of_certificate(&self, name: &str) -> Option<&Arc<User>> {
        let mut found = self.users().filter(|user| user.has_certificate(name));
        let user = found.next()?;
        (found.next().is_none() && user.is_on).then_some(user)
    }

    /// Adds a user as [`User::to_line`] wrote it. What is not exactly that is an error: rights that are half understood
    /// are wrong rights.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn add_written_user(&mut self, name: &[u8], line: &[u8], passwords: &Authenticator) -> Result<()> {
        let name = written_name(name)?;
        let mut user = User::new(name);
        for word in written_words(line)? {
            // A password in the clear, or its removal, is nothing that is ever written.
            if matches!(word.first(), Some(b'>' | b'<' | b'!')) {
                return Err(damaged());
            }
            user.apply(&word, passwords, &is_well_formed).map_err(|_| damaged())?;
        }
        if user.to_line() != line || self.users.len() > limits::USERS_MAX {
            return Err(damaged());
        }
        self.users.insert(name.to_owned(), Arc::new(user));
        Ok(())
    }

    /// Adds a role as [`Grants::to_line`] wrote it.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn add_written_role(&mut self, name: &[u8], line: &[u8]) -> Result<()> {
        let name = written_name(name)?;
        let mut role = Grants::default();
        for word in written_words(line)? {
            role.apply(&word, &is_well_formed).map_err(|_| damaged())?;
        }
        if role.to_line() != line || self.roles.len() >= limits::ROLES_MAX {
            return Err(damaged());
        }
        self.roles.insert(name.to_owned(), Arc::new(role));
        Ok(())
    }
}

/// What a name of an action looks like. Which ones there are is the face's to say, when rights are given.
fn is_well_formed(name: &str) -> bool {
    let is_fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.|".contains(&byte);
    (1..=limits::NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_fine)
}

fn check_name(name: &str) -> std::result::Result<(), WordError> {
    words::name(name.as_bytes(), limits::NAME_BYTES_MAX).map(drop).ok_or(WordError::Syntax)
}

fn written_name(name: &[u8]) -> Result<&str> {
    words::name(name, limits::NAME_BYTES_MAX).ok_or_else(damaged)
}

fn written_words(line: &[u8]) -> Result<Vec<Vec<u8>>> {
    if line.len() > limits::LINE_BYTES_MAX {
        return Err(damaged());
    }
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    joined_words(&words).map_err(|_| damaged())
}

fn damaged() -> Error {
    Error::corrupt("the rights that are kept in the database cannot be read; run pugdb verify")
}
