//! What a command sees: the database its connection has selected, and where to leave tickets and wishes.

use std::sync::Arc;

use bytes::Bytes;
use pugdb::{Change, CommitTicket, Entry, Keyspace};
use pugdb_wire::resp::Protocol;

use crate::clients::Client;
use crate::failure::Failure;
use crate::shared::{KEYSPACES, Shared};

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
    /// For the writes whose replies are not sent.
    ticket: Option<CommitTicket>,
}

impl Session {
    pub(crate) fn new(shared: Arc<Shared>, client: Arc<Client>) -> Self {
        Self {
            shared,
            client,
            protocol: Protocol::default(),
            database: 0,
            closing: false,
            silent: false,
            ticket: None,
        }
    }

    /// As a new connection.
    pub(crate) fn reset(&mut self) {
        self.set_protocol(Protocol::default());
        self.select(0);
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

    fn keyspace_name(&self) -> &'static str {
        KEYSPACES.get(self.database).copied().unwrap_or_default()
    }

    /// The selected database, if anything was ever written to it.
    pub(crate) fn keyspace(&self) -> Result<Option<Keyspace>, Failure> {
        Ok(self.shared.db.existing_keyspace(self.keyspace_name())?)
    }

    /// The selected database, made if need be.
    pub(crate) fn keyspace_to_write(&self) -> Result<Keyspace, Failure> {
        Ok(self.shared.db.keyspace(self.keyspace_name())?)
    }

    /// The string at a key.
    pub(crate) fn string(&self, key: &Bytes) -> Result<Option<Bytes>, Failure> {
        let entry = match self.keyspace()? {
            Some(keyspace) => keyspace.get_entry(key)?,
            None => None,
        };
        self.count_reads(1, usize::from(entry.is_some()));
        match entry {
            Some(entry) if entry.meta == STRING => Ok(Some(entry.value.into_bytes())),
            Some(_) => Err(Failure::WRONG_TYPE),
            None => Ok(None),
        }
    }

    pub(crate) fn count_reads(&self, keys: usize, found: usize) {
        self.shared.stats.hits.add(found);
        self.shared.stats.misses.add(keys - found);
    }

    /// Reads, decides and writes one key as one step. An `Err` of the closure changes nothing.
    pub(crate) fn update<R>(
        &mut self,
        keyspace: &Keyspace,
        key: &Bytes,
        decide: impl FnOnce(Option<&Entry>) -> Result<(Change, R), Failure>,
    ) -> Result<R, Failure> {
        let ((result, changed), ticket) = keyspace.update_ticket(key, |old| {
            let (change, result) = match decide(old) {
                Ok((change, result)) => (change, Ok(result)),
                Err(failure) => (Change::Keep, Err(failure)),
            };
            let changed = change != Change::Keep;
            Ok((change, (result, changed)))
        })?;
        // What changed nothing is a read, and waits as reads do.
        if changed {
            self.wait_for(ticket);
        }
        result
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
