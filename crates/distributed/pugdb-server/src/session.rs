//! The state of a connection between commands: what it has selected, queued and watched, and what its replies wait for.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use pugdb::audit::Actor;
use pugdb::keys::Fingerprint;
use pugdb::rights::User;
use pugdb::{CommitTicket, EntryOptions, Keyspace};
use pugdb_wire::resp::Protocol;

use crate::clients::Client;
use crate::commands::{Flag, Found, Transaction, Watches};
use crate::denials::{DenialEntry, Object, Reason};
use crate::failure::Failure;
use crate::identity::Identity;
use crate::limits::DELAY_MAX;
use crate::login;
use crate::notes::Note;
use crate::shared::Shared;
use crate::slowlog;

/// The meta byte of a string, the one RESP type there is so far.
pub(crate) const STRING: u8 = 0;
/// A string that says nothing else.
pub(crate) const STRING_OPTIONS: EntryOptions = EntryOptions { expires_at: None, meta: STRING, seal: None };

/// The state of a connection that commands read and change.
pub(crate) struct Session {
    pub(crate) shared: Arc<Shared>,
    pub(crate) client: Arc<Client>,
    pub(crate) protocol: Protocol,
    pub(crate) database: usize,
    /// Close when the replies so far are sent.
    pub(crate) closing: bool,
    /// Close without a reply to the last command.
    pub(crate) silent: bool,
    pub(crate) replies: Replies,
    /// What the reply to the last command waits for; no thread does.
    delay: Duration,
    /// Who runs commands here.
    pub(crate) identity: Identity,
    /// What is queued since `MULTI`.
    pub(crate) transaction: Option<Transaction>,
    /// What `WATCH` looks after.
    watches: Watches,
    /// For the writes whose replies are not sent.
    ticket: Option<CommitTicket>,
    /// Who acts here, where there is an audit log.
    pub(crate) actor: Option<Actor>,
}

/// Which replies a client wants, as it says by `CLIENT REPLY`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Replies {
    #[default]
    All,
    None,
    /// All but the one to the next command.
    SkipNext,
    /// All but the one to the command that runs.
    SkipThis,
}

impl Session {
    pub(crate) fn new(shared: Arc<Shared>, client: Arc<Client>) -> Self {
        let watches = Watches::new(shared.budget.reservation());
        let identity = Identity::of_nobody(&shared.rights);
        let mut session = Self {
            shared,
            client,
            protocol: Protocol::default(),
            database: 0,
            closing: false,
            silent: false,
            replies: Replies::default(),
            delay: Duration::ZERO,
            identity,
            transaction: None,
            watches,
            ticket: None,
            actor: None,
        };
        session.show_identity();
        session
    }

    /// Lets others see who it is.
    fn show_identity(&mut self) {
        let (user, is_known) = (self.identity.name().to_owned(), self.identity.is_known());
        if self.shared.audit.is_some() {
            self.actor = Some(Actor::new(&user, &self.client.address.to_string()));
        }
        self.client.change(|state| (state.user, state.is_known) = (user, is_known));
    }

    /// From now on it is this user, who has shown that. False when the user has changed meanwhile, and nothing else has.
    #[must_use]
    pub(crate) fn become_user(&mut self, user: Arc<User>) -> bool {
        let Some(identity) = Identity::of(user, &self.shared.rights) else { return false };
        self.identity = identity;
        self.show_identity();
        true
    }

    /// Lets it be the user of the certificate that its client has shown: the one that names its fingerprint, its common name, or one of the
    /// names that it is for.
    pub(crate) fn log_in_by_its_certificate(&mut self) {
        let client = Arc::clone(&self.client);
        let Some(certificate) = client.certificate() else { return };
        let fingerprint = certificate.fingerprint.to_string();
        // A name that looks like a fingerprint could be somebody else's.
        let names = certificate.common_name.iter().chain(&certificate.names);
        let names = names.filter(|name| name.parse::<Fingerprint>().is_err());
        let _ = std::iter::once(&fingerprint).chain(names).any(|name| self.log_in_by_certificate(name));
    }

    /// Lets it be the user whose certificate bears this name, if there is one. The certificate was verified.
    pub(crate) fn log_in_by_certificate(&mut self, name: &str) -> bool {
        let user = self.shared.rights.current().user_of_certificate(name).cloned();
        let Some(user) = user else { return false };
        if self.shared.note(&self.client, Note::LoggedIn(&user)).is_err() {
            // It must not go on as somebody else.
            self.closing = true;
            return true;
        }
        self.become_user(user)
    }

    /// Notices changes of rights. False when its user is gone.
    #[must_use]
    pub(crate) fn refresh_rights(&mut self) -> bool {
        let was_known = self.identity.is_known();
        let is_there = self.identity.refresh(&self.shared.rights);
        if was_known != self.identity.is_known() {
            self.show_identity();
        }
        is_there
    }

    /// Notes what was refused for want of rights.
    pub(crate) fn note_denial(&self, reason: Reason, object: Object, user: &str) {
        // It was refused, whether or not that is noted.
        let _ = self.shared.note(&self.client, Note::Denied(reason));
        let (mut client, now_ms) = (String::new(), self.shared.db.now().0);
        self.client.describe(&mut client);
        self.shared.denials.add(DenialEntry {
            id: 0,
            count: 1,
            reason,
            is_in_transaction: self
                .client
                .see(|state| state.queued.is_some() || state.last_command == "exec"),
            object,
            user: user.to_owned(),
            client,
            first_ms: now_ms,
            last_ms: now_ms,
        });
    }

    /// As a new connection.
    pub(crate) fn reset(&mut self) {
        self.set_protocol(Protocol::default());
        self.select(0);
        self.set_transaction(None);
        self.take_watches();
        self.replies = Replies::default();
        self.client.change(|state| state.name.clear());
        self.identity = Identity::of_nobody(&self.shared.rights);
        self.show_identity();
        self.log_in_by_its_certificate();
    }

    /// Begins a transaction, or ends it.
    pub(crate) fn set_transaction(&mut self, transaction: Option<Transaction>) -> Option<Transaction> {
        self.client.change(|state| state.queued = transaction.as_ref().map(Transaction::len));
        std::mem::replace(&mut self.transaction, transaction)
    }

    /// Watches a key.
    pub(crate) fn add_watch(&mut self, keyspace: &Keyspace, key: &[u8]) -> Result<(), Failure> {
        if let Some(watch) = self.watches.add(keyspace, key)? {
            self.client.change(|state| state.watches.push(Arc::clone(watch)));
        }
        Ok(())
    }

    /// Watches nothing any more.
    pub(crate) fn take_watches(&mut self) -> Watches {
        if !self.watches.is_empty() {
            self.client.change(|state| state.watches = Vec::new());
        }
        let none = Watches::new(self.shared.budget.reservation());
        std::mem::replace(&mut self.watches, none)
    }

    /// The reply to this command is sent after so long.
    pub(crate) fn wait_before_reply(&mut self, delay: Duration) {
        self.delay = self.delay.saturating_add(delay).min(DELAY_MAX);
    }

    pub(crate) fn delay(&self) -> Duration {
        self.delay
    }

    pub(crate) fn take_delay(&mut self) -> Duration {
        std::mem::take(&mut self.delay)
    }

    pub(crate) fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
        self.client.change(|state| state.protocol = protocol);
    }

    pub(crate) fn select(&mut self, database: usize) {
        self.database = database;
        self.client.change(|state| state.database = database);
    }

    pub(crate) fn count_reads(&self, keys: usize, found: usize) {
        self.shared.stats.hits.add(found);
        self.shared.stats.misses.add(keys - found);
    }

    /// Notes how a command went.
    pub(crate) fn note_command(&self, found: Found, arguments: &[Bytes], took: Duration, failed: bool) {
        let shared = &self.shared;
        shared.command_stats.of(found.place()).note(took, failed);
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let slow = shared.settings.slowlog_us.load(Ordering::Relaxed);
        if u64::try_from(slow).is_ok_and(|slow| microseconds >= slow) {
            self.note_slow(found, arguments, microseconds);
        }
        let threshold = shared.settings.latency_ms.load(Ordering::Relaxed);
        if threshold > 0 && microseconds / 1000 >= threshold {
            let event = if found.has(Flag::Fast) { "fast-command" } else { "command" };
            shared.latency.add(event, shared.now_s(), microseconds / 1000);
        }
    }

    #[cold]
    fn note_slow(&self, found: Found, arguments: &[Bytes], microseconds: u64) {
        // The commands that it ran are there by themselves. Logins are slow on purpose, and strangers' would push out what matters.
        if found.name() == "exec" || login::is_login(arguments) {
            return;
        }
        let shared = &self.shared;
        // How long a password is, is nobody's business either.
        let is_secret = matches!(found.name(), "acl|setuser" | "config|set");
        let shown = if is_secret { &[][..] } else { arguments.get(1..).unwrap_or_default() };
        let words = slowlog::words_of(found.name(), shown.iter().map(Bytes::len));
        let entries_max = shared.settings.slowlog_entries.load(Ordering::Relaxed);
        shared.slowlog.add(words, microseconds, shared.now_s(), &self.client, entries_max);
    }

    /// The replies wait until this is done.
    pub(crate) fn wait_for(&mut self, ticket: CommitTicket) {
        self.ticket = Some(match self.ticket.take() {
            Some(earlier) => earlier.and(ticket),
            None => ticket,
        });
    }

    /// What the replies wait for.
    pub(crate) fn take_ticket(&mut self) -> Option<CommitTicket> {
        self.ticket.take()
    }
}
