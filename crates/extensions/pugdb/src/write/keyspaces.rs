//! Changes of keyspaces: create, drop, truncate. Log records with a seqno, on the same path as a batch.

use std::sync::Arc;

use pugdb_core::coding::Reader;
use pugdb_core::engine::EngineKind;
use pugdb_core::{Error, KeyspaceId, Lsn, Result, Seqno};
use pugdb_lsm::frame::Section;
use pugdb_lsm::log::{RecordHead, RecordKind};

use super::{log, publish, ticket};
use crate::database::{Inner, Writer};
use crate::durable::Durable;
use crate::keyspace::{Keeper, Space};
use crate::{CommitTicket, Durability};

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
    let section = Section { keyspace: id, bytes: encode_creation(name, engine) };
    let end = log(inner, &mut writer, &head, &[section])?;
    let tree = match &inner.durable {
        Some(durable) => durable.store.create(id, name, engine, seqno)?,
        None => None,
    };
    let volatile = || Keeper::volatile(engine, &inner.options.env, &inner.snapshots, &inner.housekeeper);
    let keeper = tree.map_or_else(volatile, Keeper::Lsm);
    let space = Space::new(id, name, engine, keeper);
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

/// Empties a keyspace.
pub(crate) fn truncate(inner: &Inner, space: &Arc<Space>, durability: Durability) -> Result<CommitTicket> {
    // Whoever has read a key and is about to write it is through first.
    let _locks = inner.locks.all()?;
    refuse_after_failure(inner)?;
    let mut writer = inner.writer.lock();
    inner.check_open()?;
    space.check_writable()?;
    let seqno = writer.sequencer.reserve(1);
    let end = match (&inner.durable, &space.keeper) {
        (Some(durable), Keeper::Lsm(tree)) => {
            let end = log_change(inner, &mut writer, RecordKind::TruncateKeyspace, seqno, space.id)?;
            durable.store.truncate(tree, seqno)?;
            end
        }
        (_, Keeper::Btree(_) | Keeper::Hash(_)) => {
            space.engine().truncate(seqno)?;
            Lsn(0)
        }
        (None, Keeper::Lsm(_)) => return Err(Error::internal("a tree without a log")),
    };
    publish(inner, seqno, end, durability);
    drop(writer);
    Ok(ticket(inner, end, durability))
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
