//! Changes of keyspaces: create and drop, log records with a seqno on the same path as a batch; and what a batch does to
//! their names.

use std::sync::Arc;

use pugdb_core::coding::Reader;
use pugdb_core::engine::EngineKind;
use pugdb_core::{Error, KeyspaceId, Lsn, Result, Seqno};
use pugdb_lsm::frame::Section;
use pugdb_lsm::log::{RecordHead, RecordKind};

use super::{log, publish, ticket};
use crate::CommitTicket;
use crate::database::{Inner, Names, Writer};
use crate::durable::Durable;
use crate::keyspace::{Keeper, Space};

/// The keyspace of this name, made if it does not exist.
pub(crate) fn create_keyspace(
    inner: &Inner,
    name: &str,
    engine: EngineKind,
) -> Result<(Arc<Space>, CommitTicket)> {
    refuse_after_failure(inner)?;
    let mut writer = inner.writer.lock();
    inner.check_open()?;
    if let Some(space) = inner.names.read().get(name) {
        // Another thread was faster; its commit may still be on the way to the disk.
        return Ok((Arc::clone(space), inner.shown_ticket()));
    }
    let id = writer.take_keyspace_id()?;
    let seqno = writer.sequencer.reserve(1);
    let head = RecordHead::change(RecordKind::CreateKeyspace, inner.now(), seqno, id);
    let section = Section { keyspace: id, bytes: &encode_creation(name, engine) };
    let end = log(inner, &mut writer, &head, &[section])?;
    let tree = match &inner.durable {
        Some(durable) => durable.store.create(id, name, engine, seqno)?,
        None => None,
    };
    let volatile = || Keeper::volatile(engine, &inner.options.env, &inner.snapshots, &inner.housekeeper);
    let keeper = tree.map_or_else(volatile, Keeper::Lsm);
    let space = Space::new(id, (name, seqno), engine, keeper);
    inner.names.write().insert(name.to_owned(), Arc::clone(&space));
    publish(inner, seqno, end, inner.options.durability);
    drop(writer);
    Ok((space, ticket(inner, end, inner.options.durability)))
}

/// Ends the keyspace of this name. `None` when there is none.
pub(crate) fn drop_keyspace(inner: &Inner, name: &str) -> Result<Option<CommitTicket>> {
    refuse_after_failure(inner)?;
    let mut writer = inner.writer.lock();
    inner.check_open()?;
    let Some(space) = inner.names.read().get(name).cloned() else { return Ok(None) };
    let seqno = writer.sequencer.reserve(1);
    let end = log_change(inner, &mut writer, RecordKind::DropKeyspace, seqno, space.id)?;
    inner.names.write().remove(name);
    space.mark_dropped(seqno);
    if let Some(durable) = &inner.durable {
        durable.store.drop_keyspace(space.id, seqno);
    }
    publish(inner, seqno, end, inner.options.durability);
    drop(writer);
    Ok(Some(ticket(inner, end, inner.options.durability)))
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

/// A change takes no room in memory, but after a failure nothing is written any more.
fn refuse_after_failure(inner: &Inner) -> Result<()> {
    inner.check_open()?;
    inner.durable.as_ref().and_then(Durable::failure).map_or(Ok(()), Err)
}

fn log_change(
    inner: &Inner,
    writer: &mut Writer,
    kind: RecordKind,
    seqno: Seqno,
    id: KeyspaceId,
) -> Result<Lsn> {
    log(inner, writer, &RecordHead::change(kind, inner.now(), seqno, id), &[])
}

/// A creation's section: the engine's number, then the name.
fn encode_creation(name: &str, engine: EngineKind) -> Vec<u8> {
    let mut bytes = vec![engine as u8];
    bytes.extend_from_slice(name.as_bytes());
    bytes
}

/// Reads what [`encode_creation`] wrote.
///
/// # Errors
/// `Corrupt` when it is no creation.
pub(crate) fn decode_creation(section: &[u8]) -> Result<(EngineKind, String)> {
    let mut reader = Reader::new(section);
    let engine = EngineKind::from_number(reader.u8()?);
    let engine =
        engine.ok_or_else(|| Error::corrupt("a keyspace has an engine this version does not know"))?;
    let name = String::from_utf8(reader.rest().to_vec());
    Ok((engine, name.map_err(|_| Error::corrupt("a keyspace's name is not UTF-8"))?))
}
