//! What somebody has changed and not yet committed, over a view of the database: reads see the own changes on top. Behind
//! `update_keys` and behind transactions.

use std::collections::btree_map::{self, BTreeMap};
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use pugdb_core::engine::{Direction, KeyRange, Scans};
use pugdb_core::{
    Entry, EntryOptions, Error, Key, KeySpan, KeyspaceId, Operation, Ops, RawOp, Result, Timestamp, Value,
};

use crate::batch::{Changes, Part};
use crate::database::Inner;
use crate::keyspace::Keyspace;
use crate::scan::Scan;
use crate::snapshot::Snapshot;
use crate::space::{Keeper, Space};
use crate::{sealed, write};

/// A view of the database, and changes on top of it.
pub(crate) struct Overlay {
    pub(crate) inner: Arc<Inner>,
    pub(crate) snapshot: Snapshot,
    changed: BTreeMap<KeyspaceId, Changed>,
    /// As a batch counts them.
    bytes: usize,
    /// How to take back what was done since the first savepoint, the last step last; `None` while there is no savepoint.
    undo: Option<Vec<Undo>>,
}

/// What has become of a keyspace.
struct Changed {
    space: Arc<Space>,
    truncated: bool,
    /// In order, none overlaps another or touches it. Deleted before the entries below were written.
    deleted: Vec<KeySpan>,
    entries: BTreeMap<Key, Own>,
}

/// What has become of a key.
#[derive(Clone)]
enum Own {
    /// Whatever was there before.
    Set(Entry),
    /// Operands on what is there, the oldest first.
    Merged(Vec<Value>),
}

/// How to take back a step.
enum Undo {
    /// What there was of a key.
    Key(KeyspaceId, Key, Option<Own>),
    /// What was deleted of a keyspace, and what there was of the keys that a range delete took away.
    Range(KeyspaceId, Vec<KeySpan>, Vec<(Key, Own)>),
}

/// What a reader finds of a key.
pub(crate) enum Seen {
    /// The own changes say it all.
    Own(Option<Entry>),
    /// What is beneath, which is to be read.
    Beneath,
    /// What comes of these operands and of what is beneath, which is to be read.
    Merged(Vec<Value>),
}

impl Own {
    fn cost_bytes(&self, key: &[u8]) -> usize {
        match self {
            Self::Set(entry) => entry.raw(key).cost_bytes(),
            Self::Merged(operands) => {
                operands.iter().map(|operand| RawOp::operand(key, operand).cost_bytes()).sum()
            }
        }
    }
}

impl Changed {
    fn new(space: &Arc<Space>) -> Self {
        let (deleted, entries) = Default::default();
        Self { space: Arc::clone(space), truncated: false, deleted, entries }
    }

    /// True when nothing beneath is seen of a key.
    fn hides(&self, key: &[u8]) -> bool {
        let before = self.deleted.partition_point(|span| *span.start <= *key);
        self.truncated || self.deleted[..before].last().is_some_and(|span| span.raw().contains(key))
    }

    fn cost_bytes(&self) -> usize {
        let entries: usize = self.entries.iter().map(|(key, own)| own.cost_bytes(key)).sum();
        entries + self.deleted.iter().map(span_cost).sum::<usize>()
    }
}

fn span_cost(span: &KeySpan) -> usize {
    Operation::DeleteRange(span.raw()).cost_bytes()
}

impl Overlay {
    pub(crate) fn new(inner: &Arc<Inner>) -> Self {
        let (inner, snapshot) = (Arc::clone(inner), Snapshot::new(inner));
        Self { inner, snapshot, changed: BTreeMap::new(), bytes: 0, undo: None }
    }

    /// The time by which expiry is judged.
    pub(crate) fn now(&self) -> Timestamp {
        self.snapshot.point().now
    }

    /// Refuses a keyspace of another database, and everything once the database is closed.
    pub(crate) fn check_owner(&self, keyspace: &Keyspace) -> Result<()> {
        self.inner.check_open()?;
        if Arc::ptr_eq(&self.inner, &keyspace.inner) {
            return Ok(());
        }
        Err(Error::invalid("the keyspace belongs to another database"))
    }

    // Reading.

    /// What the own changes say of a key.
    pub(crate) fn see(&self, space: &Space, key: &[u8]) -> Seen {
        let Some(changed) = self.changed.get(&space.id) else { return Seen::Beneath };
        match changed.entries.get(key) {
            Some(Own::Set(entry)) => Seen::Own(entry.is_live(self.now()).then(|| entry.clone())),
            Some(Own::Merged(operands)) => Seen::Merged(operands.clone()),
            None if changed.hides(key) => Seen::Own(None),
            None => Seen::Beneath,
        }
    }

    /// A key, with what is beneath at the view's place.
    pub(crate) fn get(&self, keyspace: &Keyspace, key: &[u8]) -> Result<Option<Entry>> {
        self.check_owner(keyspace)?;
        match self.see(&keyspace.space, key) {
            Seen::Own(entry) => Ok(entry),
            Seen::Beneath => self.snapshot.get_entry(keyspace, key),
            Seen::Merged(operands) => {
                let beneath = self.snapshot.get_entry(keyspace, key)?;
                fold(&keyspace.space, key, beneath, &operands).map(Some)
            }
        }
    }

    /// The entries of a range, the own changes among them.
    pub(crate) fn scan(
        &self,
        keyspace: &Keyspace,
        range: &KeyRange,
        direction: Direction,
    ) -> OverlayScan<'_> {
        let changed = self.changed.get(&keyspace.space.id);
        let mut scan = self.snapshot.scan(keyspace, range.clone());
        if direction == Direction::Reverse {
            scan = scan.reverse();
        }
        if changed.is_some_and(|changed| changed.truncated) {
            scan = scan.limit(0);
        }
        let ours = changed.filter(|_| !range.is_empty());
        let mut ours =
            ours.map(|changed| changed.entries.range::<[u8], _>(range.bounds())).unwrap_or_default();
        let next_own = take(&mut ours, direction);
        OverlayScan {
            space: Arc::clone(&keyspace.space),
            scan,
            next: None,
            changed,
            ours,
            next_own,
            direction,
            is_ordered: keyspace.space.engine().capabilities().scans == Scans::Ordered,
            now: self.now(),
        }
    }

    // Changing.

    /// Sets or deletes a key.
    pub(crate) fn set(&mut self, keyspace: &Keyspace, key: &[u8], entry: Entry) -> Result<()> {
        self.check_owner(keyspace)?;
        let key = Key::copy(key)?;
        self.insert(&keyspace.space, key, Own::Set(entry))
    }

    /// Sets a key to a value that is held against the limits.
    pub(crate) fn put(
        &mut self,
        keyspace: &Keyspace,
        key: &[u8],
        value: &[u8],
        options: EntryOptions,
    ) -> Result<()> {
        let entry = write::put_entry(&self.inner, &keyspace.space, value, options)?;
        self.set(keyspace, key, entry)
    }

    /// Adds an operand.
    pub(crate) fn merge(&mut self, keyspace: &Keyspace, key: &[u8], operand: &[u8]) -> Result<()> {
        self.check_owner(keyspace)?;
        write::check_value(&self.inner, operand)?;
        write::take_operator(&self.inner, &keyspace.space)?;
        let (space, key) = (&keyspace.space, Key::copy(key)?);
        let operand = Value::new(operand.to_vec())?;
        let own = match self.see(space, &key) {
            Seen::Own(entry) => Own::Set(fold(space, &key, entry, &[operand])?),
            Seen::Beneath => Own::Merged(vec![operand]),
            Seen::Merged(mut operands) => {
                operands.push(operand);
                Own::Merged(operands)
            }
        };
        self.insert(space, key, own)
    }

    /// Deletes all keys of a range, those too that were written here before.
    pub(crate) fn delete_range(&mut self, keyspace: &Keyspace, range: &KeyRange) -> Result<()> {
        self.check_owner(keyspace)?;
        if keyspace.space.engine().capabilities().scans == Scans::Unordered {
            return Err(Error::invalid(
                "the hash engine has no order and deletes no ranges; choose the btree or the lsm engine, or truncate",
            ));
        }
        let Some(mut span) = KeySpan::of(range) else { return Ok(()) };
        self.check_room(span_cost(&span))?;
        let changed = changed_mut(&mut self.changed, &keyspace.space);
        let deleted_before = self.undo.is_some().then(|| changed.deleted.clone());
        let raw = span.raw().range();
        let gone: Vec<Key> =
            changed.entries.range::<[u8], _>(raw.bounds()).map(|(key, _)| key.clone()).collect();
        let gone = gone.into_iter().filter_map(|key| changed.entries.remove_entry(&key));
        let gone: Vec<(Key, Own)> = gone.collect();
        // One span for all that touch each other.
        let touches = |other: &mut KeySpan| {
            other.end.as_ref().is_none_or(|end| *end >= span.start)
                && span.end.as_ref().is_none_or(|end| *end >= other.start)
        };
        let touching: Vec<KeySpan> = changed.deleted.extract_if(.., touches).collect();
        let less: usize = touching.iter().map(span_cost).sum();
        self.bytes -= less + gone.iter().map(|(key, own)| own.cost_bytes(key)).sum::<usize>();
        for other in touching {
            span.start = span.start.min(other.start);
            span.end = span.end.zip(other.end).map(|(one, other)| one.max(other));
        }
        self.bytes += span_cost(&span);
        let at = changed.deleted.partition_point(|other| other.start < span.start);
        changed.deleted.insert(at, span);
        if let (Some(undo), Some(deleted)) = (&mut self.undo, deleted_before) {
            undo.push(Undo::Range(keyspace.space.id, deleted, gone));
        }
        Ok(())
    }

    /// Deletes everything that was in a keyspace before. Not to be taken back.
    pub(crate) fn truncate(&mut self, keyspace: &Keyspace) -> Result<()> {
        self.check_owner(keyspace)?;
        let changed = changed_mut(&mut self.changed, &keyspace.space);
        self.bytes -= changed.cost_bytes();
        *changed = Changed { truncated: true, ..Changed::new(&keyspace.space) };
        Ok(())
    }

    fn insert(&mut self, space: &Arc<Space>, key: Key, own: Own) -> Result<()> {
        let cost = own.cost_bytes(&key);
        self.check_room(cost)?;
        let changed = changed_mut(&mut self.changed, space);
        let replaced = changed.entries.insert(key.clone(), own);
        self.bytes = self.bytes + cost - replaced.as_ref().map_or(0, |own| own.cost_bytes(&key));
        if let Some(undo) = &mut self.undo {
            undo.push(Undo::Key(space.id, key, replaced));
        }
        Ok(())
    }

    fn check_room(&self, more: usize) -> Result<()> {
        // A single change was held against the limits of keys and values.
        let too_much = self.bytes.saturating_add(more) > write::batch_bytes_max(&self.inner);
        if too_much && self.bytes > 0 { Err(write::batch_too_large(&self.inner)) } else { Ok(()) }
    }

    // Taking back.

    /// How far it has come: for [`roll_back`](Self::roll_back).
    pub(crate) fn mark(&mut self) -> usize {
        self.undo.get_or_insert_default().len()
    }

    /// Takes back what was done since the mark.
    pub(crate) fn roll_back(&mut self, mark: usize) {
        let Some(undo) = &mut self.undo else { return };
        for step in undo.drain(mark..).rev() {
            let (Undo::Key(id, ..) | Undo::Range(id, ..)) = &step;
            let Some(changed) = self.changed.get_mut(id) else { continue };
            match step {
                Undo::Key(_, key, Some(own)) => drop(changed.entries.insert(key, own)),
                Undo::Key(_, key, None) => drop(changed.entries.remove(&key)),
                Undo::Range(_, deleted, gone) => {
                    changed.deleted = deleted;
                    changed.entries.extend(gone);
                }
            }
        }
        self.bytes = self.changed.values().map(Changed::cost_bytes).sum();
    }

    // Committing.

    /// What is to be committed.
    pub(crate) fn into_changes(self) -> Result<Changes> {
        self.into_parts().map(|(_, changes)| changes)
    }

    /// The view, and what is to be committed.
    pub(crate) fn into_parts(self) -> Result<(Snapshot, Changes)> {
        let mut changes = Changes { bytes: self.bytes, ..Changes::default() };
        for Changed { space, truncated, deleted, entries } in self.changed.into_values() {
            if truncated {
                changes.truncated.push(Arc::clone(&space));
            }
            let mut ops = Ops::default();
            for span in &deleted {
                ops.push_range(span);
            }
            for (key, own) in entries {
                match own {
                    Own::Set(entry) => sealed::push(&self.inner, &space, &mut ops, &key, &entry)?,
                    Own::Merged(operands) => {
                        operands.iter().try_for_each(|operand| ops.push(&RawOp::operand(&key, operand)))?;
                    }
                }
            }
            if !ops.is_empty() {
                changes.parts.push(Part { space, ops });
            }
        }
        Ok((self.snapshot, changes))
    }
}

fn changed_mut<'a>(changed: &'a mut BTreeMap<KeyspaceId, Changed>, space: &Arc<Space>) -> &'a mut Changed {
    changed.entry(space.id).or_insert_with(|| Changed::new(space))
}

/// What comes of operands on what was there before.
pub(crate) fn fold(space: &Space, key: &[u8], beneath: Option<Entry>, operands: &[Value]) -> Result<Entry> {
    let Keeper::Lsm(trees) = &space.keeper else {
        return Err(Error::internal("an engine that folds nothing was given operands; please report it"));
    };
    if beneath.as_ref().is_some_and(|entry| entry.seal.is_some()) {
        return Err(sealed::nothing_to_merge_into());
    }
    let operands: Vec<&[u8]> = operands.iter().map(|operand| &**operand).collect();
    let value = trees.merge(key, beneath.as_ref().map(|entry| &*entry.value), &operands)?;
    Ok(Entry { value, ..beneath.unwrap_or_else(|| Entry::put(Value::default())) })
}

impl fmt::Debug for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keyspaces changed, {} bytes", self.changed.len(), self.bytes)
    }
}

type OwnEntries<'a> = btree_map::Range<'a, Key, Own>;

fn take<'a>(ours: &mut OwnEntries<'a>, direction: Direction) -> Option<(&'a Key, &'a Own)> {
    match direction {
        Direction::Forward => ours.next(),
        Direction::Reverse => ours.next_back(),
    }
}

/// Entries in order: those beneath, and the own changes on top.
pub(crate) struct OverlayScan<'a> {
    space: Arc<Space>,
    scan: Scan,
    /// The next entry beneath that was looked at.
    next: Option<(Key, Entry)>,
    changed: Option<&'a Changed>,
    ours: OwnEntries<'a>,
    next_own: Option<(&'a Key, &'a Own)>,
    direction: Direction,
    /// Otherwise our own come last.
    is_ordered: bool,
    now: Timestamp,
}

impl OverlayScan<'_> {
    pub(crate) fn advance(&mut self) -> Result<Option<(Key, Entry)>> {
        loop {
            if self.next.is_none() {
                self.next = self.scan.next_entry()?;
            }
            let own_is_next = match (&self.next, self.next_own) {
                (None, None) => return Ok(None),
                (None, Some(_)) => true,
                (Some(_), None) => false,
                (Some((theirs, _)), Some((own, _))) => {
                    self.is_ordered
                        && match self.direction {
                            Direction::Forward => own <= theirs,
                            Direction::Reverse => own >= theirs,
                        }
                }
            };
            let found = if own_is_next { self.take_own()? } else { self.take_beneath() };
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    fn take_own(&mut self) -> Result<Option<(Key, Entry)>> {
        let Some((key, own)) = self.next_own.take() else { return Ok(None) };
        self.next_own = take(&mut self.ours, self.direction);
        match own {
            Own::Set(entry) => Ok(entry.is_live(self.now).then(|| (key.clone(), entry.clone()))),
            Own::Merged(operands) => {
                let beneath = self.next.take_if(|(theirs, _)| theirs == key).map(|(_, entry)| entry);
                let entry = fold(&self.space, key, beneath, operands)?;
                Ok(Some((key.clone(), entry)))
            }
        }
    }

    /// The entry beneath, unless the own changes hide it.
    fn take_beneath(&mut self) -> Option<(Key, Entry)> {
        let is_hidden =
            |key: &Key| self.changed.is_some_and(|own| own.entries.contains_key(key) || own.hides(key));
        self.next.take().filter(|(key, _)| !is_hidden(key))
    }
}

/// The range of keys between what a scan began with and the last key it has shown, that one included.
pub(crate) fn shown_part(range: &KeyRange, last: &Key, direction: Direction) -> KeyRange {
    let last = Bound::Included(last.to_vec());
    match direction {
        Direction::Forward => KeyRange { start: range.start.clone(), end: last },
        Direction::Reverse => KeyRange { start: last, end: range.end.clone() },
    }
}
