//! The one place to which all is told that happens about users and rights. For now it counts.

use crate::clients::Client;
use crate::denials::Reason;
use crate::shared::Shared;

/// Something about users and rights. Names are of users; there is no key and no secret in it.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "names are for whoever records what is noted; nobody does yet")]
pub(crate) enum Note<'a> {
    LoggedIn(&'a str),
    /// The user that it was about, or that there is none.
    LoginFailed(&'a str),
    /// Too many from there had failed before.
    LoginHeldOff,
    /// What was missing, and to whom.
    Denied(Reason, &'a str),
    /// By whom, and which user or role.
    RightsChanged {
        by: &'a str,
        about: &'a str,
    },
}

impl Shared {
    /// Notes something. It neither waits nor fails.
    pub(crate) fn note(&self, client: &Client, note: Note<'_>) {
        // Who records it will want to know where it came from.
        let _ = client.id;
        let stats = &self.stats;
        match note {
            Note::LoggedIn(_) => stats.logins.add(1),
            Note::LoginFailed(_) => stats.login_failures.add(1),
            Note::LoginHeldOff => stats.logins_held_off.add(1),
            Note::Denied(Reason::Auth, _) => {}
            Note::Denied(Reason::Command, _) => stats.denied_commands.add(1),
            Note::Denied(Reason::Keyspace, _) => stats.denied_keyspaces.add(1),
            Note::Denied(Reason::Key, _) => stats.denied_keys.add(1),
            Note::Denied(Reason::Channel, _) => stats.denied_channels.add(1),
            Note::RightsChanged { .. } => stats.rights_changes.add(1),
        }
    }
}
