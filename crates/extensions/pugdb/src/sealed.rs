//! Values that are sealed for whom they are about: before anything else sees them, and opened last of all (ADR 50).

use std::borrow::Cow;
use std::sync::Arc;

use pugdb_core::engine::{BatchSize, Direction, Entries, KeyRange};
use pugdb_core::{Entry, EntryKind, Error, ErrorKind, KeyspaceId, Ops, RawOp, Result, SealId, Value};
use pugdb_security::{VALUE_SEAL_BYTES, Vault};

use crate::database::Inner;
use crate::read::pin;
use crate::space::Space;
use crate::write;

impl Inner {
    fn vault(&self) -> Option<&Vault> {
        self.durable.as_ref()?.vault.as_deref()
    }
}

/// Holds a value against the limits, with the seal that it is to have.
pub(crate) fn check(inner: &Inner, value: &[u8], seal: Option<SealId>) -> Result<()> {
    let seal_bytes = match seal {
        None => 0,
        Some(_) if inner.vault().is_some() => VALUE_SEAL_BYTES,
        Some(_) => {
            return Err(Error::invalid(
                "only an encrypted database seals values for a subject; make one with a root key",
            ));
        }
    };
    write::check_value_bytes(inner, value.len().saturating_add(seal_bytes))
}

/// A value as it is stored.
pub(crate) fn seal<'a>(
    inner: &Inner,
    space: &Space,
    key: &[u8],
    value: &'a [u8],
    seal: Option<SealId>,
) -> Result<Cow<'a, [u8]>> {
    match (seal, inner.vault()) {
        (Some(seal), Some(vault)) => vault.seal_value(space.id, seal, key, value).map(Cow::Owned),
        (Some(_), None) => check(inner, value, seal).map(|()| Cow::Borrowed(value)),
        (None, _) => Ok(Cow::Borrowed(value)),
    }
}

/// Adds an entry to what is to be committed, its value as it is stored.
pub(crate) fn push(inner: &Inner, space: &Space, ops: &mut Ops, key: &[u8], entry: &Entry) -> Result<()> {
    let value = seal(inner, space, key, &entry.value, entry.seal)?;
    ops.push(&RawOp { value: &value, ..entry.raw(key) })
}

/// An entry as it was written.
pub(crate) fn open(inner: &Inner, space: &Space, key: &[u8], entry: Entry) -> Result<Entry> {
    let Some(seal) = entry.seal else { return Ok(entry) };
    if entry.kind == EntryKind::Operand {
        return Err(nothing_to_merge_into());
    }
    let value = Value::new(open_value(inner, space.id, seal, key, &entry.value)?)?;
    Ok(Entry { value, ..entry })
}

/// How bytes of a keyspace lie in an entry of another one. The numbers are part of the disk format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Cover {
    /// As they are: in a database that is not encrypted, or was not when they were written.
    Plain = 0,
    /// Sealed, so that they go when their keyspace is erased.
    Sealed = 1,
}

impl Cover {
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        [Self::Plain, Self::Sealed].into_iter().find(|cover| *cover as u8 == number)
    }
}

/// Bytes of a keyspace that are to lie in an entry of another one, at `place` and nowhere else.
pub(crate) fn seal_part(
    inner: &Inner,
    keyspace: KeyspaceId,
    place: &[u8],
    bytes: &[u8],
) -> Result<(Cover, Vec<u8>)> {
    match inner.vault() {
        Some(vault) => Ok((Cover::Sealed, vault.seal_part(keyspace, place, bytes)?)),
        None => Ok((Cover::Plain, bytes.to_vec())),
    }
}

/// What [`seal_part`] was given.
pub(crate) fn open_part(
    inner: &Inner,
    keyspace: KeyspaceId,
    place: &[u8],
    (cover, bytes): (Cover, &[u8]),
) -> Result<Vec<u8>> {
    match (cover, inner.vault()) {
        (Cover::Sealed, Some(vault)) => vault.open_part(keyspace, place, bytes),
        (Cover::Sealed, None) => Err(Error::corrupt(
            "a part of an entry is sealed in a database that is not encrypted; run `pugdb verify`",
        )),
        // Later it would be somebody else's: the open that ends the plain past has sealed all there were (ADR 55).
        (Cover::Plain, Some(vault)) if !vault.has_plain_past() => Err(Error::denied(
            "a part of an entry is not sealed, and the database is encrypted: it was put there by somebody else",
        )),
        (Cover::Plain, _) => Ok(bytes.to_vec()),
    }
}

/// What the reader of operands is told whose base is sealed.
pub(crate) fn nothing_to_merge_into() -> Error {
    Error::invalid("a value that is sealed for a subject cannot be merged into; put the key, or delete it")
}

/// A value as it was written.
pub(crate) fn open_value(
    inner: &Inner,
    keyspace: KeyspaceId,
    seal: SealId,
    key: &[u8],
    sealed: &[u8],
) -> Result<Vec<u8>> {
    let vault = inner.vault().ok_or_else(|| {
        Error::corrupt(
            "a value is sealed for a subject in a database that is not encrypted; run `pugdb verify`",
        )
    })?;
    vault.open_value(keyspace, seal, key, sealed)
}

/// True when an entry has no value that could be shown: it was erased, or something was merged into it.
pub(crate) fn is_hidden(inner: &Inner, batch: &Entries, at: usize) -> bool {
    let Some(seal) = batch.seal(at) else { return false };
    let is_operand = batch.get(at).is_some_and(|(_, op)| op.kind == EntryKind::Operand);
    is_operand || inner.vault().is_some_and(|vault| vault.is_erased(seal).unwrap_or(false))
}

/// What [`Database::verify_erasure`](crate::Database::verify_erasure) has found.
///
/// ```
/// use pugdb::{Database, ErasureReport};
///
/// // Without keys there is nothing that could have been erased.
/// assert_eq!(Database::in_memory()?.verify_erasure()?, ErasureReport::default());
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErasureReport {
    /// How many entries were looked at.
    pub entries: u64,
    /// How many values are sealed for a subject, and can be read.
    pub sealed: u64,
    /// How many values were erased, and could not be opened. Merges forget them.
    pub erased: u64,
    /// How many values could be opened whose subject was erased: it has to be none.
    pub opened: u64,
    /// How many values could not be opened for another reason.
    pub damaged: u64,
    /// How many keyspaces were erased, and have no key.
    pub erased_keyspaces: usize,
}

/// How many entries are looked at in one go.
const VERIFIED_TOGETHER: BatchSize = BatchSize { entries: 1024, bytes: 256 << 10 };

/// Tries to open each value that is sealed.
pub(crate) fn verify(inner: &Arc<Inner>) -> Result<ErasureReport> {
    inner.check_open()?;
    let mut report = ErasureReport::default();
    let Some(vault) = inner.vault() else { return Ok(report) };
    report.erased_keyspaces = vault.status().erased_keyspaces.len();
    let spaces: Vec<Arc<Space>> = inner.names.read().values().cloned().collect();
    for space in spaces {
        let pinned = pin(inner, &space, None)?;
        let mut cursor = space.engine().scan(KeyRange::all(), Direction::Forward, pinned.point)?;
        let mut batch = Entries::default();
        loop {
            inner.check_open()?;
            batch.clear();
            cursor.fill(VERIFIED_TOGETHER, &mut batch)?;
            if batch.is_empty() {
                break;
            }
            (0..batch.len()).for_each(|at| report.add(vault, space.id, &batch, at));
        }
    }
    Ok(report)
}

impl ErasureReport {
    fn add(&mut self, vault: &Vault, keyspace: KeyspaceId, batch: &Entries, at: usize) {
        self.entries += 1;
        let (Some(seal), Some((key, value))) = (batch.seal(at), batch.key_value(at)) else { return };
        let count = match (vault.open_value(keyspace, seal, key, value), vault.is_erased(seal)) {
            (Ok(_), Ok(false)) => &mut self.sealed,
            (Ok(_), _) => &mut self.opened,
            (Err(error), _) if error.kind() == ErrorKind::Erased => &mut self.erased,
            (Err(_), _) => &mut self.damaged,
        };
        *count += 1;
    }
}
