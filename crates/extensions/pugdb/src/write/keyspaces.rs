//! Changes of keyspaces: create, alter and drop, log records with a seqno on the same path as a batch; and what a batch does to
//! their names.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::MutexGuard;
use pugdb_core::engine::EngineKind;
use pugdb_core::seam::Sealing;
use pugdb_core::{Error, KeyspaceId, Lsn, Result, Seqno};
use pugdb_lsm::TreeOptions;
use pugdb_lsm::frame::Section;
use pugdb_lsm::log::{Creation, RecordHead, RecordKind};
use pugdb_security::{Certificate, Vault};

use super::{log, publish, ticket};
use crate::audit::{self, Action, Count, about_keyspace, witnessed};
use crate::database::{Inner, Names, Writer};
use crate::durable::Durable;
use crate::key_locks::refuse_inside_observer;
use crate::partition::Partitioning;
use crate::space::{Erasure, Keeper, Space};
use crate::transaction::{PREPARED_KEYSPACE, SYSTEM_PREFIX};
use crate::{CommitTicket, KeyspaceOptions};

/// The keyspace of this name, made if it does not exist.
pub(crate) fn create_keyspace(
    inner: &Inner,
    name: &str,
    engine: EngineKind,
    partitioning: Option<&Partitioning>,
    options: TreeOptions,
) -> Result<(Arc<Space>, CommitTicket)> {
    refuse_after_failure(inner)?;
    let order = inner.changing.lock();
    inner.check_open()?;
    if let Some(space) = inner.names.read().get(name) {
        // Another thread was faster; its commit may still be on the way to the disk.
        return Ok((Arc::clone(space), inner.shown_ticket()));
    }
    let about = |core: &audit::Core| about_keyspace(core, Action::KeyspaceCreate, name);
    witnessed(inner.audit(), about, || make_keyspace(inner, &order, name, (engine, partitioning), options))
}

/// A keyspace of a name that is free, as who holds this lock knows.
fn make_keyspace(
    inner: &Inner,
    order: &MutexGuard<'_, ()>,
    name: &str,
    (engine, partitioning): (EngineKind, Option<&Partitioning>),
    options: TreeOptions,
) -> Result<(Arc<Space>, CommitTicket)> {
    provide_keys(inner, order, None, partitioning.map_or(0, Partitioning::count))?;
    let mut writer = inner.writer.lock();
    inner.check_open()?;
    let id = writer.take_keyspace_id()?;
    let partitions = partitioning.map(|partitioning| partitioning.map(&mut writer)).transpose()?;
    let seqno = writer.sequencer.reserve(1);
    let creation = Creation { engine, options, partitions, name: name.to_owned() };
    let section = Section { keyspace: id, bytes: &creation.encode() };
    let end = log_change(inner, &mut writer, RecordKind::CreateKeyspace, seqno, id, &[section])?;
    let kind = (engine, creation.partitions.as_ref());
    let trees = match &inner.durable {
        Some(durable) => durable.store.create(id, name, kind, options, seqno),
        None => None,
    };
    let volatile = || Keeper::volatile(engine, &inner.options.env, &inner.snapshots, &inner.housekeeper);
    let keeper = trees.map_or_else(volatile, Keeper::Lsm);
    let space = Space::new(id, (name, seqno), engine, keeper, &options);
    inner.names.write().insert(name.to_owned(), Arc::clone(&space));
    publish(inner, seqno, end, inner.options.durability);
    drop(writer);
    Ok((space, ticket(inner, end, inner.options.durability)))
}

/// Changes how the tables of a keyspace are made.
pub(crate) fn alter_keyspace(inner: &Inner, space: &Space, options: KeyspaceOptions) -> Result<CommitTicket> {
    refuse_after_failure(inner)?;
    options.check_for(space.kind)?;
    if options.engine.is_some_and(|engine| engine != space.kind) {
        return Err(Error::invalid("the engine of a keyspace does not change; make another one and copy it"));
    }
    let about = |core: &audit::Core| about_keyspace(core, Action::KeyspaceAlter, &space.name());
    witnessed(inner.audit(), about, || alter(inner, space, options))
}

fn alter(inner: &Inner, space: &Space, options: KeyspaceOptions) -> Result<CommitTicket> {
    let _order = inner.changing.lock();
    let mut writer = inner.writer.lock();
    inner.check_open()?;
    space.check_writable()?;
    let (Some(durable), Keeper::Lsm(trees)) = (&inner.durable, &space.keeper) else {
        let written = options.tables(space.written_options())?;
        // It is empty when it is opened again, and was made with the options of its creation.
        if inner.durable.is_some() && written != space.written_options() {
            return Err(Error::invalid(
                "the default expiry and the quotas of a keyspace in memory are set when it is made; make another one",
            ));
        }
        space.set_options(&written);
        return Ok(CommitTicket::done());
    };
    if options.logging.is_some_and(|logging| logging != trees.options().logging) {
        return Err(Error::invalid(
            "whether a keyspace is logged does not change; make another one and copy it",
        ));
    }
    let tables = options.tables(trees.options())?;
    if tables == trees.options() {
        return Ok(inner.shown_ticket());
    }
    let mut bytes = Vec::new();
    tables.encode(&mut bytes);
    let seqno = writer.sequencer.reserve(1);
    let section = Section { keyspace: space.id, bytes: &bytes };
    let end = log_change(inner, &mut writer, RecordKind::AlterKeyspace, seqno, space.id, &[section])?;
    durable.store.alter(space.id, tables, seqno);
    space.set_options(&tables);
    publish(inner, seqno, end, inner.options.durability);
    drop(writer);
    Ok(ticket(inner, end, inner.options.durability))
}

/// Makes sure that operands of a keyspace mean something: the first merge writes down the name of the operator that it was given.
pub(crate) fn take_operator(inner: &Inner, space: &Space) -> Result<()> {
    let (Some(durable), Keeper::Lsm(trees)) = (&inner.durable, &space.keeper) else {
        return Err(Error::invalid(
            "a keyspace in memory merges nothing; only the lsm engine does: choose it, or update the key",
        ));
    };
    if trees.options().operator.is_some() {
        return trees.check_operator();
    }
    refuse_after_failure(inner)?;
    let _order = inner.changing.lock();
    let mut writer = inner.writer.lock();
    inner.check_open()?;
    space.check_writable()?;
    if trees.options().operator.is_none() {
        let missing = || {
            Error::invalid(
                "the keyspace has no merge operator; give one to the builder when the database is opened",
            )
        };
        let operator = Some(inner.options.operators.given_to(&space.name()).ok_or_else(missing)?);
        let options = TreeOptions { operator, ..trees.options() };
        let mut bytes = Vec::new();
        options.encode(&mut bytes);
        let seqno = writer.sequencer.reserve(1);
        let section = Section { keyspace: space.id, bytes: &bytes };
        // Nobody waits for it: the operands follow it in the log.
        let end = log_change(inner, &mut writer, RecordKind::AlterKeyspace, seqno, space.id, &[section])?;
        durable.store.alter(space.id, options, seqno);
        publish(inner, seqno, end, inner.options.durability);
    }
    drop(writer);
    trees.check_operator()
}

/// Refuses names with which the database would not open again: a keyspace would be given another merge operator than its own.
pub(super) fn check_swaps(inner: &Inner, swapped: &[(Arc<Space>, Arc<Space>)]) -> Result<()> {
    let mut names: BTreeMap<KeyspaceId, Arc<str>> = BTreeMap::new();
    for (one, other) in swapped {
        let [was_one, was_other] =
            [one, other].map(|space| names.get(&space.id).cloned().unwrap_or_else(|| space.name()));
        names.extend([(one.id, was_other), (other.id, was_one)]);
    }
    let spaces = swapped.iter().flat_map(|(one, other)| [one, other]);
    spaces
        .filter_map(|space| Some((names.get(&space.id)?, space.operator())))
        .try_for_each(|(name, operator)| inner.options.operators.check_for(name, operator))
}

/// Ends the keyspace of this name. `None` when there is none.
pub(crate) fn drop_keyspace(inner: &Inner, name: &str) -> Result<Option<CommitTicket>> {
    refuse_after_failure(inner)?;
    let order = inner.changing.lock();
    let Some(space) = inner.names.read().get(name).cloned() else {
        return inner.check_open().map(|()| None);
    };
    let about = |core: &audit::Core| about_keyspace(core, Action::KeyspaceDrop, name);
    witnessed(inner.audit(), about, || drop_space(inner, &order, &space).map(|(_, ticket)| Some(ticket)))
}

/// Ends a keyspace, and says which name it had in the end.
fn drop_space(inner: &Inner, _order: &MutexGuard<'_, ()>, space: &Space) -> Result<(Arc<str>, CommitTicket)> {
    let mut writer = inner.writer.lock();
    inner.check_open()?;
    writer.guards.meet_keyspace(space.id)?;
    let seqno = writer.sequencer.reserve(1);
    let end = log_change(inner, &mut writer, RecordKind::DropKeyspace, seqno, space.id, &[])?;
    // A batch may have given it another one just now.
    let name = space.name();
    inner.names.write().remove(&*name);
    space.mark_dropped(seqno);
    if let Some(durable) = &inner.durable {
        durable.store.drop_keyspace(space.id, seqno);
    }
    publish(inner, seqno, end, inner.options.durability);
    drop(writer);
    Ok((name, ticket(inner, end, inner.options.durability)))
}

/// Ends the keyspace of this name and destroys its keys. `None` when there is none.
///
/// What is to come stands in the keyring before anything happens: an open ends what was begun.
pub(crate) fn erase_keyspace(inner: &Inner, name: &str) -> Result<Option<Certificate>> {
    refuse_after_failure(inner)?;
    let keys = inner.durable.as_ref().and_then(|durable| Some((durable, durable.vault.as_ref()?)));
    let (durable, vault) = keys.ok_or_else(|| {
        Error::invalid("the database is not encrypted, so there is no key to destroy; drop the keyspace, and copies as well")
    })?;
    let order = inner.changing.lock();
    let found = inner.names.read().get(name).filter(|_| !name.starts_with(SYSTEM_PREFIX)).cloned();
    let Some(space) = found else { return inner.check_open().map(|()| None) };
    let about = |core: &audit::Core| {
        about_keyspace(core, Action::EraseKeyspace, name).count(Count::Keyspace, u64::from(space.id.0))
    };
    witnessed(inner.audit(), about, || erase_space(inner, &order, (durable, vault), &space).map(Some))
}

/// No key erases what was never sealed: the keyspace's own files, and those of what was `prepared` before the database was encrypted.
fn refuse_plain_files(durable: &Durable, keyspace: KeyspaceId, prepared: Option<KeyspaceId>) -> Result<()> {
    let trees_of = |id| durable.store.trees_of(id).map_or_else(Vec::new, |trees| trees.all());
    let trees = [trees_of(keyspace), prepared.map_or_else(Vec::new, trees_of)].concat();
    let is_own = |tree: KeyspaceId| trees.iter().any(|own| own.id() == tree);
    let mut files = durable.store.stored_files().into_iter().filter(|stored| is_own(stored.tree));
    if files.all(|stored| stored.sealing == Sealing::Sealed) {
        return Ok(());
    }
    Err(Error::invalid(
        "the keyspace, or what was prepared, has files that are not sealed, and no key erases those: `pugdb key rewrite` seals the ones that \
         are to be; \
         copies have them still; or drop it",
    ))
}

fn erase_space(
    inner: &Inner,
    order: &MutexGuard<'_, ()>,
    (durable, vault): (&Durable, &Vault),
    space: &Space,
) -> Result<Certificate> {
    vault.check_erasable(space.id)?;
    let prepared = inner.names.read().get(PREPARED_KEYSPACE).map(|space| space.id);
    refuse_plain_files(durable, space.id, prepared)?;
    let unused = {
        let writer = inner.writer.lock();
        inner.check_open()?;
        // Nobody prepares a transaction until this has ended: that takes the same order.
        writer.guards.meet_keyspace(space.id)?;
        space.mark(Erasure::Begun);
        KeyspaceId(writer.next_keyspace)
    };
    let begun = vault.begin_keyspace_erasure(space.id, unused);
    let dropped = begun.and_then(|()| drop_space(inner, order, space));
    let (name, ticket) = dropped.map_err(|error| match vault.give_up_keyspace_erasure(space.id, unused) {
        Ok(()) => {
            space.mark(Erasure::None);
            error
        }
        // What nobody can take back may be done by the next open: until then nothing more is lost.
        Err(_) => Error::unavailable(format!(
            "{}; the keyspace is refused until the database is opened again, which may erase it",
            error.cause()
        )),
    })?;
    space.mark(Erasure::Done);
    ticket.wait()?;
    durable.store.record_changes()?;
    vault.end_keyspace_erasure(space.id, unused, &name)
}

/// Two keyspaces exchange their names.
pub(super) fn swap_names(inner: &Inner, names: &mut Names, pair: &(Arc<Space>, Arc<Space>), at: Seqno) {
    let (one, other) = pair;
    if !one.swap_names(other, at) {
        return;
    }
    let renamed = [one, other].map(|space| (space, space.name()));
    for (space, name) in &renamed {
        names.insert(name.to_string(), Arc::clone(space));
    }
    if let Some(durable) = &inner.durable {
        durable.store.swap_names(renamed.each_ref().map(|(space, name)| (space.id, &**name)), at);
    }
}

/// Sees to it that what is made next has keys: so many partitions of `owner`, or a keyspace with so many. Their file is written before the
/// log, and outside of the writer's lock. Only who holds the lock `changing` makes keyspaces.
pub(crate) fn provide_keys(
    inner: &Inner,
    _order: &MutexGuard<'_, ()>,
    owner: Option<KeyspaceId>,
    partitions: usize,
) -> Result<()> {
    let Some(durable) = &inner.durable else { return Ok(()) };
    let cipher = &durable.context.cipher;
    let next = inner.writer.lock().next_keyspace;
    let partitions = u32::try_from(partitions).unwrap_or(u32::MAX);
    let first = if owner.is_some() {
        next
    } else {
        let behind = next.saturating_add(1);
        cipher.provide(KeyspaceId(next)..KeyspaceId(behind), None)?;
        behind
    };
    if partitions == 0 {
        return Ok(());
    }
    let owner = owner.unwrap_or(KeyspaceId(next));
    cipher.provide(KeyspaceId(first)..KeyspaceId(first.saturating_add(partitions)), Some(owner))
}

/// A change takes no room in memory, but after a failure nothing is written any more.
fn refuse_after_failure(inner: &Inner) -> Result<()> {
    inner.check_open()?;
    refuse_inside_observer()?;
    inner.durable.as_ref().and_then(Durable::failure).map_or(Ok(()), Err)
}

pub(crate) fn log_change(
    inner: &Inner,
    writer: &mut Writer,
    kind: RecordKind,
    seqno: Seqno,
    id: KeyspaceId,
    sections: &[Section<'_>],
) -> Result<Lsn> {
    log(inner, writer, &RecordHead::change(kind, inner.now(), seqno, id), sections, inner.options.durability)
}
