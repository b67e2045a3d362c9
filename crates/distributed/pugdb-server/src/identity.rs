//! Who a connection is: the user that it has logged in as, with the rights of this moment.

use std::sync::Arc;

use pugdb::rights::{Action, DEFAULT_USER, Denial, Request, Rights, RightsHandle, User};

/// The user of a connection. Whatever changes its rights counts for the next command.
pub(crate) struct Identity {
    rights: Arc<Rights>,
    /// `None`: it has not said who it is.
    user: Option<Arc<User>>,
}

/// The user that everybody is who need not say who it is.
fn anybody(rights: &Rights) -> Option<Arc<User>> {
    rights.user(DEFAULT_USER).filter(|user| user.is_on() && user.needs_no_password()).cloned()
}

impl Identity {
    /// Of a connection that has said nothing yet.
    pub(crate) fn of_nobody(handle: &RightsHandle) -> Self {
        let rights = Arc::clone(&handle.current());
        Self { user: anybody(&rights), rights }
    }

    /// Of a connection that has logged in as this user. `None` when the user has changed since that was looked at: nobody knows whether what
    /// was right then is right now.
    pub(crate) fn of(user: Arc<User>, handle: &RightsHandle) -> Option<Self> {
        let rights = Arc::clone(&handle.current());
        let is_same = rights.user(user.name()).is_some_and(|now| Arc::ptr_eq(now, &user) && now.is_on());
        is_same.then_some(Self { rights, user: Some(user) })
    }

    /// Whether it is this very user already.
    pub(crate) fn is(&self, user: &Arc<User>) -> bool {
        self.user.as_ref().is_some_and(|own| Arc::ptr_eq(own, user))
    }

    /// Notices changes. False when the user is gone, or switched off: then the connection ends.
    #[must_use]
    pub(crate) fn refresh(&mut self, handle: &RightsHandle) -> bool {
        let current = handle.current();
        if Arc::ptr_eq(&current, &self.rights) {
            return true;
        }
        let user = match &self.user {
            None => anybody(&current),
            Some(user) => match current.user(user.name()).filter(|user| user.is_on()) {
                Some(user) => Some(Arc::clone(user)),
                // It stays as it was, so whoever asks again hears the same.
                None => return false,
            },
        };
        (self.user, self.rights) = (user, Arc::clone(&current));
        true
    }

    pub(crate) fn is_known(&self) -> bool {
        self.user.is_some()
    }

    pub(crate) fn name(&self) -> &str {
        self.user.as_ref().map_or(DEFAULT_USER, |user| user.name())
    }

    /// Whether nothing has to be asked.
    pub(crate) fn may_do_everything(&self) -> bool {
        self.user.as_ref().is_some_and(|user| user.may_do_everything())
    }

    /// Whether it may do all of a request. Nobody may do nothing.
    pub(crate) fn check(&self, request: &Request<'_>) -> Result<(), Denial> {
        self.user.as_ref().map_or(Err(Denial::Action), |user| self.rights.check(user, request))
    }

    /// What of a keyspace a command may show that looks around.
    pub(crate) fn sight(&self, action: Action<'static>, keyspace: &'static str) -> Sight {
        let seen = self.user.as_ref().map(|user| (Arc::clone(&self.rights), Arc::clone(user)));
        let filter = seen.filter(|(rights, user)| !rights.sees_all(user, &action, keyspace));
        Sight { filter, is_blind: self.user.is_none(), action, keyspace }
    }
}

/// What of a keyspace a command may show.
pub(crate) struct Sight {
    /// `None`: all of it.
    filter: Option<(Arc<Rights>, Arc<User>)>,
    is_blind: bool,
    action: Action<'static>,
    keyspace: &'static str,
}

impl Sight {
    #[cfg(test)]
    pub(crate) fn of_all() -> Self {
        let action = Action { name: "scan", categories: pugdb::rights::Categories::NONE };
        Self { filter: None, is_blind: false, action, keyspace: "db0" }
    }

    pub(crate) fn sees_all(&self) -> bool {
        self.filter.is_none() && !self.is_blind
    }

    pub(crate) fn sees(&self, key: &[u8]) -> bool {
        match &self.filter {
            Some((rights, user)) => rights.may_see(user, &self.action, self.keyspace, key),
            None => !self.is_blind,
        }
    }
}
