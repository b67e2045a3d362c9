//! The one place to which all is told that happens about users and rights, and by which commands of operators go: it counts, and the audit
//! log has what somebody may have to answer for.

use pugdb::ErrorKind;
use pugdb::audit::{Action, Actor, Event, ObjectKind};
use pugdb::rights::User;

use crate::clients::Client;
use crate::denials::Reason;
use crate::failure::Failure;
use crate::shared::Shared;

/// Something about users and rights. Names are of users; there is no key and no secret in it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Note<'a> {
    LoggedIn(&'a User),
    /// The user that it was about, or that there is none.
    LoginFailed(&'a str),
    /// Too many from there had failed before.
    LoginHeldOff,
    /// What was missing. The list of denials has it, and no record each: who is refused could fill the disk.
    Denied(Reason),
    /// The audit log has it from the database, which knows what has changed.
    RightsChanged,
}

impl Shared {
    /// Notes something.
    ///
    /// # Errors
    /// What keeps it from the audit log, where nothing may be done that is not there.
    pub(crate) fn note(&self, client: &Client, note: Note<'_>) -> Result<(), Failure> {
        let stats = &self.stats;
        match note {
            Note::LoggedIn(_) => stats.logins.add(1),
            Note::LoginFailed(_) => stats.login_failures.add(1),
            Note::LoginHeldOff => stats.logins_held_off.add(1),
            Note::Denied(Reason::Auth) => {}
            Note::Denied(Reason::Command) => stats.denied_commands.add(1),
            Note::Denied(Reason::Keyspace) => stats.denied_keyspaces.add(1),
            Note::Denied(Reason::Key) => stats.denied_keys.add(1),
            Note::Denied(Reason::Channel) => stats.denied_channels.add(1),
            Note::RightsChanged => stats.rights_changes.add(1),
        }
        let Some(audit) = &self.audit else { return Ok(()) };
        let (name, event) = match note {
            // Who everybody may be has shown nothing, and could fill the disk with it.
            Note::LoggedIn(user) if user.needs_no_password() => return Ok(()),
            Note::LoggedIn(user) => (user.name(), Event::done(Action::Auth)),
            Note::LoginFailed(name) => (name, Event::done(Action::Auth).failed(ErrorKind::Denied)),
            Note::LoginHeldOff | Note::Denied(_) | Note::RightsChanged => return Ok(()),
        };
        let event = event.on(audit.object(ObjectKind::User, name.as_bytes()));
        Ok(audit.record(&Actor::new(name, &client.address.to_string()), event)?)
    }

    /// Does what a command asks for, and records it before, where somebody may have to answer for it.
    pub(crate) fn recorded<T>(
        &self,
        actor: &Actor,
        command: &str,
        work: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let (Some(audit), Some(action)) = (&self.audit, recorded_as(command)) else { return work() };
        let event = Event::begun(action).on(audit.object(ObjectKind::Name, command.as_bytes()));
        let mut refused = None;
        let outcome = audit.witness(actor, event, || {
            work().map_err(|failure| {
                refused = Some(failure);
                // It only says in the log that it was not done.
                pugdb::Error::invalid("refused")
            })
        });
        outcome.map_err(|error| refused.unwrap_or_else(|| error.into()))
    }
}

/// What the log calls a command that it has to have, with the command's name beside it; `None` for all others. What changes rights the
/// database records itself, in the name of who acts.
fn recorded_as(command: &str) -> Option<Action> {
    Some(match command {
        "config|set" | "config|resetstat" | "config|rewrite" => Action::Config,
        "flushall" | "flushdb" => Action::Flush,
        "shutdown" => Action::Shutdown,
        "client|kill" | "client|pause" | "client|unpause" | "swapdb" | "slowlog|reset" | "latency|reset"
        | "pugdb|key-rewrite" => Action::Admin,
        name if name.starts_with("debug|") => Action::Admin,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::TABLE;

    #[test]
    fn what_is_recorded_is_in_the_table() {
        let names = TABLE.iter().flat_map(|command| {
            let subcommands = command.subcommands().iter().map(|subcommand| subcommand.name);
            subcommands.chain([command.name])
        });
        let recorded = names.filter(|name| recorded_as(name).is_some()).count();
        assert!(recorded >= 12, "{recorded}");
        assert_eq!((recorded_as("get"), recorded_as("config|get")), (None, None));
    }
}
