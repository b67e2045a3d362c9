//! A user: who it is, how it shows that, and what it may do. And a role, which is only what may be done.

use std::fmt;

use super::action::{Access, Action, Denial, Request};
use super::credential::{Credential, ScramVerifier};
use super::grant::Grant;

/// What may be done: by a user, or by all who have a role. One grant has to allow all of a request.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Grants {
    pub(super) root: Grant,
    pub(super) selectors: Vec<Grant>,
}

impl Grants {
    fn all(&self) -> impl Iterator<Item = &Grant> {
        std::iter::once(&self.root).chain(&self.selectors)
    }

    pub(super) fn check(&self, request: &Request<'_>) -> Result<(), Denial> {
        let mut furthest = Denial::Action;
        for grant in self.all() {
            match grant.check(request) {
                Ok(()) => return Ok(()),
                Err(denial) => furthest = furthest.max(denial),
            }
        }
        Err(furthest)
    }

    pub(super) fn may_see(&self, action: &Action<'_>, keyspace: &str, key: &[u8]) -> bool {
        self.all().any(|grant| {
            grant.allows_key(key, Access::Read)
                && grant.allows_keyspace(keyspace)
                && grant.allows_action(action)
        })
    }

    pub(super) fn sees_all(&self, action: &Action<'_>, keyspace: &str) -> bool {
        self.all().any(|grant| {
            grant.allows_all_keys(Access::Read)
                && grant.allows_keyspace(keyspace)
                && grant.allows_action(action)
        })
    }
}

impl fmt::Debug for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Grants")
    }
}

/// A user. A new one is off and may do nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    pub(super) name: String,
    pub(super) is_on: bool,
    pub(super) needs_no_password: bool,
    /// What `RESTORE` takes from this user is checked all the same; the word is kept for Redis.
    pub(super) skips_sanitizing: bool,
    pub(super) credentials: Vec<Credential>,
    pub(super) roles: Vec<String>,
    pub(super) grants: Grants,
}

impl User {
    /// A user that is off and may do nothing.
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            is_on: false,
            needs_no_password: false,
            skips_sanitizing: false,
            credentials: Vec::new(),
            roles: Vec::new(),
            grants: Grants::default(),
        }
    }

    /// Who everybody is before anything is said: may do everything.
    pub(super) fn open_default() -> Self {
        let grants = Grants { root: Grant::everything(), selectors: Vec::new() };
        Self { is_on: true, needs_no_password: true, grants, ..Self::new(super::DEFAULT_USER) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it may log in at all.
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Whether every password is right.
    pub fn needs_no_password(&self) -> bool {
        self.needs_no_password
    }

    /// Its roles.
    pub fn roles(&self) -> &[String] {
        &self.roles
    }

    /// Whether there is a way to be this user. A certificate alone does not count: whether connections show any, and whether it is anybody's,
    /// is not known here.
    pub fn can_log_in(&self) -> bool {
        let is_secret = |credential: &Credential| !matches!(credential, Credential::Certificate(_));
        self.is_on && (self.needs_no_password || self.credentials.iter().any(is_secret))
    }

    /// Whether it may do everything, whatever that is.
    pub fn may_do_everything(&self) -> bool {
        self.grants.root.is_everything()
    }

    /// What SCRAM-SHA-256 needs, one for each password that has it.
    pub fn scram_verifiers(&self) -> impl Iterator<Item = &ScramVerifier> {
        self.credentials.iter().filter_map(|credential| match credential {
            Credential::Password { scram, .. } => scram.as_ref(),
            Credential::Token(_) | Credential::Certificate(_) => None,
        })
    }

    /// Whether a certificate that bears this name is one of its credentials.
    pub(super) fn has_certificate(&self, name: &str) -> bool {
        self.credentials
            .iter()
            .any(|credential| matches!(credential, Credential::Certificate(known) if known == name))
    }
}

/// Nothing but the name: credentials and patterns are nobody's business.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("name", &self.name).field("is_on", &self.is_on).finish_non_exhaustive()
    }
}
