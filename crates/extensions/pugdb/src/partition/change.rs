//! Splitting a partition, and merging two: what they hold is copied while nobody writes to the database, and one step of the log
//! makes it count. What a crash leaves is told in the store's `repartition.rs`.

use std::sync::Arc;

use pugdb_core::engine::{EngineKind, KeyRange};
use pugdb_core::{Error, KeyspaceId, Result};
use pugdb_lsm::frame::Section;
use pugdb_lsm::log::RecordKind;
use pugdb_lsm::partition::SLOTS;
use pugdb_lsm::{PartitionBy, PartitionMap};

use super::several;
use crate::audit::{self, Action, about_keyspace, witnessed};
use crate::database::{Inner, Writer};
use crate::key_locks::{Stripes, refuse_inside_update};
use crate::read::pin;
use crate::scan::Scan;
use crate::space::Space;
use crate::write;

/// What the partitions are to be.
pub(crate) enum Plan<'a> {
    /// The partition `number` becomes two, of which the second begins at `at`: in the middle, if that is not said.
    Split { number: usize, at: Option<&'a [u8]> },
    /// The partition `number` and the one behind it become one.
    Merge { number: usize },
}

/// Changes the partitions of a keyspace, durable when this returns. `progress` is told how many versions of entries were read.
pub(crate) fn change(
    inner: &Arc<Inner>,
    space: &Arc<Space>,
    plan: &Plan<'_>,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    refuse_inside_update()?;
    inner.check_open()?;
    let about = |core: &audit::Core| about_keyspace(core, Action::Repartition, &space.name());
    witnessed(inner.audit(), about, || change_recorded(inner, space, plan, progress))
}

fn change_recorded(
    inner: &Arc<Inner>,
    space: &Arc<Space>,
    plan: &Plan<'_>,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let partitions = several(space)?;
    let Some(durable) = &inner.durable else {
        return Err(Error::internal(format!(
            "the {:?} engine in memory; please report it",
            EngineKind::Partitioned
        )));
    };
    durable.failure().map_or(Ok(()), Err)?;
    durable.store.refuse_on_full_disk()?;
    // Nobody commits until it is done: writers wait for the first of these, changes of keyspaces for the second.
    let _keys = inner.locks.stripes(&Stripes::All)?;
    let order = inner.changing.lock();
    write::provide_keys(inner, &order, Some(space.id), 2)?;
    inner.check_open()?;
    space.check_writable()?;
    let place = plan.place(inner, space, &partitions.map())?;
    let map = plan.map(&partitions.map(), &place, &mut inner.writer.lock())?;

    let mut copy = durable.store.repartition(partitions, &space.name(), map)?;
    while copy.step()? {
        inner.check_open()?;
        progress(copy.read());
    }
    let at = inner.writer.lock().sequencer.reserve(1);
    copy.record(at)?;

    let mut writer = inner.writer.lock();
    let mut bytes = Vec::new();
    copy.map().encode_whole(&mut bytes);
    let section = Section { keyspace: space.id, bytes: &bytes };
    let end = write::log_change(inner, &mut writer, RecordKind::PartitionKeyspace, at, space.id, &[section])?;
    durable.store.change_partitions(partitions, copy.map(), at)?;
    write::publish(inner, at, end, inner.options.durability);
    drop(writer);
    durable.store.settle_partitions();
    durable.log.sync_to(end)
}

impl Plan<'_> {
    /// Where the second half of a split begins.
    fn place(&self, inner: &Arc<Inner>, space: &Arc<Space>, map: &PartitionMap) -> Result<Vec<u8>> {
        let Self::Split { number, at } = self else { return Ok(Vec::new()) };
        match (map.by(), at) {
            _ if *number >= map.len() => Err(Error::invalid(format!(
                "there is no partition {number}: they are counted from 0 to {}",
                map.len() - 1
            ))),
            (PartitionBy::Range, Some(at)) => Ok(at.to_vec()),
            (PartitionBy::Range, None) => middle_key(inner, space, map, *number),
            (PartitionBy::Hash, None) => {
                let slots = map.slots(*number).unwrap_or(0..SLOTS);
                if slots.len() < 2 {
                    return Err(Error::invalid("the partition has one slot only, and is split no further"));
                }
                let middle = u16::try_from(slots.start.midpoint(slots.end)).unwrap_or(u16::MAX);
                Ok(middle.to_be_bytes().to_vec())
            }
            (PartitionBy::Hash, Some(_)) => Err(Error::invalid(
                "a partition by hash is split in the middle of its slots; leave the key out",
            )),
        }
    }

    fn map(&self, map: &PartitionMap, place: &[u8], writer: &mut Writer) -> Result<PartitionMap> {
        match self {
            Self::Split { number, .. } => {
                let first = writer.take_keyspace_ids(2)?;
                map.split(*number, place, [first, KeyspaceId(first.0 + 1)])
            }
            Self::Merge { number } => map.merged(*number, writer.take_keyspace_id()?),
        }
    }
}

/// The key with as many before it in its partition as behind it.
fn middle_key(inner: &Arc<Inner>, space: &Arc<Space>, map: &PartitionMap, number: usize) -> Result<Vec<u8>> {
    let (from, to) = map.bounds(number);
    let range = match (from, to) {
        (Some(from), Some(to)) => KeyRange::from(from..to),
        (Some(from), None) => KeyRange::from(from..),
        (None, Some(to)) => KeyRange::from(..to),
        (None, None) => KeyRange::all(),
    };
    let keys = {
        let pinned = pin(inner, space, None)?;
        space.engine().count(range.clone(), pinned.point)?.keys
    };
    let mut scan = Scan::new(inner, space, range, None).keys_only();
    let mut before = 0;
    while let Some((key, _)) = scan.next_ref()? {
        if before > 0 && before >= keys / 2 {
            return Ok(key.to_vec());
        }
        before += 1;
    }
    Err(Error::invalid(
        "the partition has less than two keys, and so no middle; say at which key to split it",
    ))
}
