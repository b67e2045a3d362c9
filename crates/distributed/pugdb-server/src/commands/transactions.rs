//! Transactions: `MULTI` queues commands, `EXEC` runs them as one step, if nothing that was watched has changed.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use pugdb::{Keyspace, KeyspaceId, LockScope, LockedKeys, Watch};
use pugdb_wire::resp::Reply;

use super::keys::named_databases;
use super::table::Flag;
use super::{Found, count_and_time, need_integer_in, permit};
use crate::budget::Reservation;
use crate::call::Call;
use crate::failure::Failure;
use crate::limits::{DATABASES, QUEUED_OVERHEAD_BYTES, REPLY_BYTES_MAX, WATCHED_OVERHEAD_BYTES};
use crate::output::encoded_bytes_max;
use crate::session::Session;

/// What a connection has queued since `MULTI`.
pub(crate) struct Transaction {
    queued: Vec<Queued>,
    /// A command could not be queued: `EXEC` will run none.
    is_aborted: bool,
    /// The database that will be selected when the next command runs.
    database: usize,
    /// For the arguments.
    reserved: Reservation,
}

struct Queued {
    found: Found,
    arguments: Vec<Bytes>,
    /// The database that will be selected when it runs.
    database: usize,
}

/// `MULTI`
pub(super) fn multi(call: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    if call.transaction.is_some() {
        return Err(Failure::new("ERR MULTI calls can not be nested"));
    }
    let reserved = call.shared.budget.reservation();
    let database = call.database;
    call.set_transaction(Some(Transaction { queued: Vec::new(), is_aborted: false, database, reserved }));
    Ok(Reply::OK)
}

/// `DISCARD`
pub(super) fn discard(call: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    if call.set_transaction(None).is_none() {
        return Err(Failure::new("ERR DISCARD without MULTI"));
    }
    call.take_watches();
    Ok(Reply::OK)
}

/// `WATCH key [key ...]`
pub(super) fn watch(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    if call.transaction.is_some() {
        return Err(Failure::new("ERR WATCH inside MULTI is not allowed"));
    }
    // A key that is not there is watched too, so its keyspace has to be.
    let keyspace = call.keyspace_to_write()?;
    for key in arguments.iter().skip(1) {
        call.add_watch(&keyspace, key)?;
    }
    Ok(Reply::OK)
}

/// `UNWATCH`
pub(super) fn unwatch(call: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    call.take_watches();
    Ok(Reply::OK)
}

/// The keys that a client watches, each once.
pub(crate) struct Watches {
    list: Vec<Watched>,
    known: HashSet<(KeyspaceId, Bytes)>,
    /// For the keys.
    reserved: Reservation,
}

struct Watched {
    keyspace: Keyspace,
    key: Bytes,
    watch: Arc<Watch>,
}

impl Watches {
    pub(crate) fn new(reserved: Reservation) -> Self {
        Self { list: Vec::new(), known: HashSet::new(), reserved }
    }

    /// Watches a key, too; `None` when it does already.
    pub(crate) fn add(&mut self, keyspace: &Keyspace, key: &[u8]) -> Result<Option<&Arc<Watch>>, Failure> {
        let key = Bytes::copy_from_slice(key);
        if self.known.contains(&(keyspace.id(), key.clone())) {
            return Ok(None);
        }
        let bytes = self.reserved.bytes() + key.len() + WATCHED_OVERHEAD_BYTES;
        self.reserved.set(bytes).map_err(|_| Failure::OUT_OF_BUFFERS)?;
        let watch = Arc::new(keyspace.watch(&key)?);
        self.known.insert((keyspace.id(), key.clone()));
        self.list.push(Watched { keyspace: keyspace.clone(), key, watch });
        Ok(self.list.last().map(|watched| &watched.watch))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    fn are_broken(&self) -> bool {
        self.list.iter().any(|watched| watched.watch.is_broken())
    }
}

impl Transaction {
    /// A command was refused before it could be queued.
    pub(super) fn abort(&mut self) {
        self.is_aborted = true;
    }

    /// Adds a command, to be run by `EXEC`.
    pub(super) fn queue(&mut self, found: Found, arguments: &[Bytes]) -> Result<Reply, Failure> {
        if found.has(Flag::NoMulti) {
            return Err(Failure::new("ERR Command not allowed inside a transaction"));
        }
        let bytes: usize = arguments.iter().map(|argument| argument.len() + QUEUED_OVERHEAD_BYTES).sum();
        let reserved = self.reserved.bytes() + bytes;
        self.reserved.set(reserved).map_err(|_| Failure::OUT_OF_BUFFERS)?;
        // Copied: they may be parts of a buffer that is much larger.
        let arguments: Vec<Bytes> =
            arguments.iter().map(|argument| Bytes::copy_from_slice(argument)).collect();
        self.queued.push(Queued { found, database: self.database, arguments });
        if let Some(queued) = self.queued.last()
            && queued.found.name() == "select"
            && let Ok(index) = need_integer_in(queued.arguments.get(1), DATABASES)
        {
            self.database = index;
        }
        Ok(Reply::simple("QUEUED"))
    }

    /// The database that will be selected when the next command runs.
    pub(super) fn database(&self) -> usize {
        self.database
    }

    /// How many commands are queued.
    pub(crate) fn len(&self) -> usize {
        self.queued.len()
    }

    /// Whether a command of it writes.
    pub(super) fn writes(&self) -> bool {
        self.queued.iter().any(|queued| queued.found.has(Flag::Write))
    }

    /// Whether a command of it may run only while no other one does.
    pub(super) fn is_exclusive(&self) -> bool {
        self.queued.iter().any(|queued| queued.found.has(Flag::Exclusive))
    }
}

/// `EXEC`
pub(super) fn exec(call: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    let Some(transaction) = call.set_transaction(None) else {
        return Err(Failure::new("ERR EXEC without MULTI"));
    };
    let watches = call.take_watches();
    if transaction.is_aborted {
        return Err(Failure::new("EXECABORT Transaction discarded because of previous errors."));
    }
    let Transaction { queued, .. } = transaction;
    // Refused without a look at the queue, which makes keyspaces.
    if watches.are_broken() {
        return Ok(Reply::NullArray);
    }
    let keys = locked_keys(call, &queued, &watches)?;
    let scope = match &keys {
        Some(keys) => LockScope::Keys(keys),
        None => LockScope::Everything,
    };
    let mut fatal = None;
    let db = call.shared.db.clone();
    let outcome = db.update_keys_ticket(scope, |locked| {
        if watches.are_broken() {
            return Ok(Reply::NullArray);
        }
        run_all(call, &queued, locked).map_err(|failure| {
            fatal = Some(failure);
            // It only carries the way out: the failure itself is what counts.
            pugdb::Error::conflict("refused")
        })
    });
    match (outcome, fatal) {
        (_, Some(failure)) => Err(failure),
        (Ok((reply, ticket)), None) => {
            call.wait_for(ticket);
            Ok(reply)
        }
        (Err(error), None) => Err(error.into()),
    }
}

/// Runs the queue. An error of one command is its reply, and the others keep their effects, as in Redis; one of the
/// database ends it all, for then nothing may have happened. Replies that nobody will be sent are not kept.
fn run_all(session: &mut Session, queued: &[Queued], locked: &mut LockedKeys) -> Result<Reply, Failure> {
    let (mut replies, mut bytes) = (Vec::new(), 0_usize);
    // While it waited for its keys, rights may have gone.
    let is_there = session.refresh_rights();
    session.closing |= !is_there;
    for Queued { found, arguments, database } in queued {
        let may = match is_there {
            true if session.database == *database => permit::check_again(session, *found, arguments),
            // The right to go there has gone, and what was meant for there is not done here.
            true => Err(permit::elsewhere()),
            false => Err(Failure::NO_AUTH),
        };
        if let Err(failure) = may {
            bytes = bytes.saturating_add(failure.text().len());
            replies.push(failure.to_reply());
            continue;
        }
        let ran = count_and_time(session, *found, arguments, |session| {
            found.run(&mut Call::within(session, locked), arguments)
        });
        let reply = match ran {
            Ok(reply) => reply,
            Err(failure) if failure.is_of_database() => return Err(failure),
            Err(failure) => failure.to_reply(),
        };
        bytes = bytes.saturating_add(encoded_bytes_max(&reply));
        if bytes > REPLY_BYTES_MAX {
            replies = Vec::new();
        } else {
            replies.push(reply);
        }
    }
    Ok(if bytes > REPLY_BYTES_MAX { Failure::REPLY_TOO_LARGE.to_reply() } else { Reply::Array(replies) })
}

type LockedKey<'a> = (Keyspace, &'a [u8]);

/// The keys that the commands and the watches name, in the keyspaces they will be looked for; `None` for all keys.
fn locked_keys<'a>(
    call: &Call<'_>,
    queued: &'a [Queued],
    watches: &'a Watches,
) -> Result<Option<Vec<LockedKey<'a>>>, Failure> {
    // Made first: nobody can make one while the keys are locked, and what is read there is to be locked too.
    for Queued { found, arguments, database } in queued.iter().filter(|queued| queued.found.has(Flag::Write))
    {
        for database in named_databases(found.name(), arguments).into_iter().chain([*database]) {
            call.keyspace_to_write_of(database)?;
        }
    }
    if queued.iter().any(|queued| queued.found.has(Flag::Whole)) {
        return Ok(None);
    }
    let mut keys: Vec<LockedKey<'a>> = Vec::new();
    for Queued { found, arguments, database } in queued {
        // What is only read in a database that is not there is not there.
        let Some(keyspace) = call.keyspace_of(*database)? else { continue };
        keys.extend(found.keys_of(arguments).map(|key| (keyspace.clone(), key.as_ref())));
    }
    keys.extend(watches.list.iter().map(|watched| (watched.keyspace.clone(), watched.key.as_ref())));
    Ok(Some(keys))
}
