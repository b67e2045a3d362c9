//! The state of a connection between commands: what it has selected, queued and watched, and what its replies wait for.

use std::sync::Arc;

use std::time::Duration;

use bytes::Bytes;
use pugdb::CommitTicket;
use pugdb_wire::resp::Protocol;

use crate::clients::Client;
use crate::commands::{Found, Transaction, Watched};
use crate::shared::Shared;

/// The meta byte of a string, the one RESP type there is so far.
pub(crate) const STRING: u8 = 0;

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
    /// Who runs commands here. There is one user, until there are rights.
    pub(crate) user: &'static str,
    /// What is queued since `MULTI`.
    pub(crate) transaction: Option<Transaction>,
    /// What `WATCH` looks after.
    pub(crate) watches: Vec<Watched>,
    /// For the writes whose replies are not sent.
    ticket: Option<CommitTicket>,
}

/// The user of a connection that has not said who it is.
pub(crate) const DEFAULT_USER: &str = "default";

impl Session {
    pub(crate) fn new(shared: Arc<Shared>, client: Arc<Client>) -> Self {
        Self {
            shared,
            client,
            protocol: Protocol::default(),
            database: 0,
            closing: false,
            silent: false,
            user: DEFAULT_USER,
            transaction: None,
            watches: Vec::new(),
            ticket: None,
        }
    }

    /// As a new connection.
    pub(crate) fn reset(&mut self) {
        self.set_protocol(Protocol::default());
        self.select(0);
        self.transaction = None;
        self.watches.clear();
        self.client.change(|state| state.name.clear());
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
    pub(crate) fn note_command(&self, found: Found, _arguments: &[Bytes], took: Duration, failed: bool) {
        self.shared.command_stats.of(found.place()).note(took, failed);
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
