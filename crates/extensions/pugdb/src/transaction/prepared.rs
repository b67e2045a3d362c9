//! The two phases of a commit that somebody else decides: a transaction is prepared, and later, perhaps after a crash, committed or
//! rolled back by its name.
//!
//! A prepared transaction is an entry in a keyspace of the database's own, written like any other: it holds what is to be
//! written and what was read. Its commit is one batch that writes that and removes the entry; so after any crash it is prepared
//! or committed, never half. As long as it is there a [guard](super::guards) refuses writes of all that it is about, from the
//! moment at which it is found right.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use pugdb_core::coding::{Reader, put_bytes, put_varint};
use pugdb_core::engine::{EngineKind, KeyRange};
use pugdb_core::{Entry, Error, ErrorKind, Key, KeyspaceId, Operation, Ops, Result};
use pugdb_lsm::TreeOptions;
use pugdb_security::PART_SEAL_BYTES;

use super::guards::{Guard, Guarded};
use super::reads::Reads;
use super::{Isolation, commit};
use crate::batch::{Changes, Part};
use crate::database::Inner;
use crate::key_locks::{Stripes, refuse_inside_update};
use crate::keyspace::Keyspace;
use crate::overlay::Overlay;
use crate::sealed::Cover;
use crate::space::Space;
use crate::{Durability, quota, sealed, write};

/// Names of keyspaces that begin so are the database's own.
pub(crate) const SYSTEM_PREFIX: &str = "pugdb.system.";
/// Where prepared transactions are kept.
pub(crate) const KEYSPACE: &str = "pugdb.system.prepared";
/// The layout of an entry there: `docs/format/prepared.md`.
const LAYOUT: u8 = 1;
const NAME_BYTES_MAX: usize = 255;

/// All transactions that are prepared and not decided.
#[derive(Default)]
pub(crate) struct Prepared {
    /// Guards the names.
    all: Mutex<BTreeMap<String, Arc<State>>>,
}

struct State {
    guard: Arc<Guard>,
    /// Not to be decided: it is not durable yet, or somebody is deciding it.
    is_busy: AtomicBool,
}

/// A transaction that can be committed and rolled back, whatever happens, until it is. Made by
/// [`Transaction::prepare`](super::Transaction::prepare), and found again by
/// [`Database::prepared_transaction`](crate::Database::prepared_transaction). Dropping it decides nothing.
///
/// ```
/// let db = pugdb::Database::in_memory()?;
/// let users = db.keyspace("users")?;
/// let mut transaction = db.begin()?;
/// transaction.put(&users, b"ada", b"1815")?;
/// let prepared = transaction.prepare("order 17")?;
/// assert_eq!(users.put(b"ada", b"1").unwrap_err().kind(), pugdb::ErrorKind::Conflict);
/// prepared.commit()?;
/// assert_eq!(users.get(b"ada")?.unwrap(), b"1815");
/// # Ok::<(), pugdb::Error>(())
/// ```
#[must_use = "it holds on to what it is about until it is committed or rolled back"]
pub struct PreparedTransaction {
    inner: Arc<Inner>,
    name: String,
    state: Arc<State>,
}

/// What an entry holds.
struct Record {
    /// By keyspace: how many operations, and those.
    parts: Vec<(KeyspaceId, Ops)>,
    reads: Vec<Guarded>,
    /// There was more, of a keyspace that was erased.
    is_erased: bool,
    /// Something in it is not sealed.
    is_plain: bool,
}

impl Record {
    fn of(reads: Vec<Guarded>) -> Self {
        Self { parts: Vec::new(), reads, is_erased: false, is_plain: false }
    }
}

/// Seals what is to stand there of a keyspace, at a place.
type SealPart<'a> = &'a dyn Fn(KeyspaceId, &[u8], &[u8]) -> Result<(Cover, Vec<u8>)>;
/// Opens it.
type OpenPart<'a> = &'a dyn Fn(KeyspaceId, &[u8], (Cover, &[u8])) -> Result<Vec<u8>>;

/// What a part of an entry is about. The numbers are part of the disk format.
#[derive(Clone, Copy)]
enum Role {
    Writes = 1,
    Reads = 2,
}

/// Where a part lies, as its seal has it: all but the name has a fixed length, so no two places are the same bytes.
fn place_of(name: &str, number: u64, role: Role) -> Vec<u8> {
    [name.as_bytes(), &number.to_le_bytes(), &[role as u8]].concat()
}

/// Makes a transaction ready to be decided.
pub(super) fn prepare(
    inner: &Arc<Inner>,
    overlay: Overlay,
    reads: &Reads,
    isolation: Isolation,
    name: &str,
) -> Result<PreparedTransaction> {
    refuse_inside_update()?;
    inner.check_open()?;
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(Error::invalid(format!("a prepared transaction's name has 1 to {NAME_BYTES_MAX} bytes")));
    }
    let (snapshot, changes) = overlay.into_parts()?;
    let system = system_keyspace(inner)?;
    check_logged(inner, &system, &changes)?;
    let record = Record::of(read_places(reads, isolation));
    let parts = changes.parts.iter().map(|part| (part.space.id, &part.ops));
    let bytes = record
        .encode(name, parts, &|keyspace, place, bytes| sealed::seal_part(inner, keyspace, place, bytes))?;
    // With room for the seals that it gets if the database is encrypted before it is decided.
    let seals = (changes.parts.len() + record.reads.len()) * PART_SEAL_BYTES;
    write::check_value_bytes(inner, bytes.len() + seals)
        .map_err(|error| error.at("the transaction, to be prepared"))?;
    let written = written_places(changes.parts.iter().map(|part| (part.space.id, &part.ops)));
    let guard = Guard::holding(written, record.reads);
    let state = Arc::new(State { guard: Arc::clone(&guard), is_busy: AtomicBool::new(true) });
    inner.prepared.add(name, &state)?;
    let mut undecided = Undecided { inner, name, guard: Some(&guard) };
    {
        // Sorted files come in under this lock, and under no other one that could be held here.
        let _changing = inner.changing.lock();
        let mut writer = inner.writer.lock();
        // Now and not when it is committed: that has to be possible then.
        quota::check(&changes)?;
        writer.guards.add_holding(&guard)?;
        drop(writer);
        // Whatever came before the guard can be seen here, and nothing comes behind it.
        commit::check(&changes, reads, snapshot.point().seqno, isolation)?;
    }
    system.put(name, bytes)?;
    undecided.guard = None;
    drop(undecided);
    state.is_busy.store(false, Ordering::Release);
    Ok(PreparedTransaction { inner: Arc::clone(inner), name: name.to_owned(), state })
}

/// Lets everything go when the preparation comes to nothing.
struct Undecided<'a> {
    inner: &'a Inner,
    name: &'a str,
    /// `None` when it has come to something.
    guard: Option<&'a Arc<Guard>>,
}

impl Drop for Undecided<'_> {
    fn drop(&mut self) {
        if let Some(guard) = self.guard {
            self.inner.writer.lock().guards.remove(guard);
            self.inner.prepared.remove(self.name);
        }
    }
}

/// Finds what was prepared before the database was opened.
pub(crate) fn recover(inner: &Arc<Inner>) -> Result<()> {
    let Some(space) = inner.names.read().get(KEYSPACE).cloned() else { return Ok(()) };
    for entry in Keyspace::new(inner, space).scan(..) {
        let (name, bytes) = entry?;
        let name = std::str::from_utf8(&name).map_err(|_| damaged())?;
        let record = Record::decode(name, &bytes, &|keyspace, place, covered| {
            sealed::open_part(inner, keyspace, place, covered)
        })?;
        seal_again(inner, name, &record)?;
        let written = written_places(record.parts.iter().map(|(id, ops)| (*id, ops)));
        let guard = Guard::holding(written, record.reads);
        inner.writer.lock().guards.add(&guard);
        inner.prepared.add(name, &Arc::new(State { guard, is_busy: AtomicBool::new(false) }))?;
    }
    Ok(())
}

/// What was prepared before the database was encrypted is sealed by the open that ends its plain past.
fn seal_again(inner: &Arc<Inner>, name: &str, record: &Record) -> Result<()> {
    let writes =
        inner.durable.as_ref().is_some_and(|durable| durable.vault.is_some() && !durable.is_reader());
    if !(writes && record.is_plain) {
        return Ok(());
    }
    let parts = record.parts.iter().map(|(id, ops)| (*id, ops));
    let bytes = record
        .encode(name, parts, &|keyspace, place, bytes| sealed::seal_part(inner, keyspace, place, bytes))?;
    system_keyspace(inner)?.put(name, bytes)
}

fn system_keyspace(inner: &Arc<Inner>) -> Result<Keyspace> {
    let found = inner.names.read().get(KEYSPACE).cloned();
    let kind = if inner.durable.is_some() { EngineKind::Lsm } else { EngineKind::Btree };
    let create = || {
        write::create_keyspace(inner, KEYSPACE, kind, None, TreeOptions::default()).map(|(space, _)| space)
    };
    let space = found.map_or_else(create, Ok)?;
    Ok(Keyspace::new(inner, space).durability(Durability::Sync))
}

/// Refuses changes that could not be committed together with the entry.
fn check_logged(inner: &Inner, system: &Keyspace, changes: &Changes) -> Result<()> {
    let mut ops = Ops::default();
    ops.push(&Entry::delete().raw(b""))?;
    let all = changes.parts.iter().map(|part| (&part.space, Ops::default()));
    let parts = all.chain([(&system.space, ops)]).map(|(space, ops)| Part { space: Arc::clone(space), ops });
    write::is_logged(inner, &Changes { parts: parts.collect(), ..Changes::default() }).map(drop)
}

fn read_places(reads: &Reads, isolation: Isolation) -> Vec<Guarded> {
    if isolation == Isolation::Snapshot {
        return Vec::new();
    }
    let places = reads.spaces().map(|reads| Guarded {
        keyspace: reads.space.id,
        keys: reads.keys.iter().map(own_key).collect(),
        ranges: reads.ranges.clone(),
    });
    places.collect()
}

fn written_places<'a>(parts: impl Iterator<Item = (KeyspaceId, &'a Ops)>) -> Vec<Guarded> {
    let places = parts.map(|(keyspace, ops)| {
        let mut place = Guarded { keyspace, keys: BTreeSet::new(), ranges: Vec::new() };
        for op in ops.iter() {
            match op {
                Operation::Entry(op) => _ = place.keys.insert(op.to_key()),
                Operation::DeleteRange(span) => place.ranges.push(span.range()),
            }
        }
        place
    });
    places.collect()
}

fn own_key(key: &[u8]) -> Key {
    Key::copy(key).expect("a key that was read was held against the limit")
}

impl Prepared {
    fn add(&self, name: &str, state: &Arc<State>) -> Result<()> {
        let mut all = self.all.lock();
        if all.contains_key(name) {
            return Err(Error::conflict(
                "there is a prepared transaction of this name; decide it first, or choose another name",
            ));
        }
        all.insert(name.to_owned(), Arc::clone(state));
        Ok(())
    }

    fn remove(&self, name: &str) {
        self.all.lock().remove(name);
    }

    /// Those that can be decided.
    pub(crate) fn names(&self) -> Vec<String> {
        let all = self.all.lock();
        let ready = all.iter().filter(|(_, state)| !state.is_busy.load(Ordering::Acquire));
        ready.map(|(name, _)| name.clone()).collect()
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prepared({})", self.all.lock().len())
    }
}

impl PreparedTransaction {
    /// The one of this name, if it is prepared.
    pub(crate) fn find(inner: &Arc<Inner>, name: &str) -> Option<Self> {
        let state = inner.prepared.all.lock().get(name).cloned()?;
        let is_ready = !state.is_busy.load(Ordering::Acquire);
        is_ready.then(|| Self { inner: Arc::clone(inner), name: name.to_owned(), state })
    }

    /// Its name.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let mut transaction = db.begin()?;
    /// transaction.put(&db.keyspace("users")?, b"ada", b"1815")?;
    /// let prepared = transaction.prepare("order 17")?;
    /// assert_eq!(prepared.name(), "order 17");
    /// prepared.rollback()?;
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The second phase: all changes take place. Durable when this returns.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// let mut transaction = db.begin()?;
    /// transaction.put(&users, b"ada", b"1815")?;
    /// transaction.prepare("order 17")?.commit()?;
    /// assert!(users.exists(b"ada")? && db.prepared_transactions()?.is_empty());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` when it was decided already, `Conflict` when somebody is deciding it; `Closed`; `Unavailable` when the disk is full
    /// or failed: it stays prepared.
    pub fn commit(self) -> Result<()> {
        self.decide(|record, changes| {
            if record.is_erased {
                return Err(Error::erased(
                    "a keyspace that it writes was erased, so it cannot take place as a whole; roll it back",
                ));
            }
            for (id, ops) in record.parts {
                let space = self.space(id)?;
                changes.bytes += ops.cost_bytes();
                changes.parts.push(Part { space, ops });
            }
            Ok(())
        })
    }

    /// Gives it up: nothing takes place. Durable when this returns.
    ///
    /// ```
    /// let db = pugdb::Database::in_memory()?;
    /// let users = db.keyspace("users")?;
    /// let mut transaction = db.begin()?;
    /// transaction.put(&users, b"ada", b"1815")?;
    /// transaction.prepare("order 17")?.rollback()?;
    /// assert!(!users.exists(b"ada")? && db.prepared_transactions()?.is_empty());
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn rollback(self) -> Result<()> {
        self.decide(|_, _| Ok(()))
    }

    fn decide(&self, fill: impl FnOnce(Record, &mut Changes) -> Result<()>) -> Result<()> {
        refuse_inside_update()?;
        let system = system_keyspace(&self.inner)?;
        if self.state.is_busy.swap(true, Ordering::AcqRel) {
            return Err(Error::conflict("somebody else is deciding this prepared transaction"));
        }
        let decided = self.decide_alone(&system, fill);
        if decided.is_ok() {
            self.inner.prepared.remove(&self.name);
        }
        self.state.is_busy.store(false, Ordering::Release);
        decided
    }

    fn decide_alone(
        &self,
        system: &Keyspace,
        fill: impl FnOnce(Record, &mut Changes) -> Result<()>,
    ) -> Result<()> {
        let decided = || Error::not_found("the prepared transaction was decided already");
        let bytes = system.get(&self.name)?.ok_or_else(decided)?;
        let mut changes = Changes::default();
        let record = Record::decode(&self.name, &bytes, &|keyspace, place, covered| {
            sealed::open_part(&self.inner, keyspace, place, covered)
        })?;
        fill(record, &mut changes)?;
        let mut ops = Ops::default();
        ops.push(&Entry::delete().raw(self.name.as_bytes()))?;
        changes.bytes += ops.cost_bytes();
        changes.parts.push(Part { space: Arc::clone(&system.space), ops });
        let written = changes
            .parts
            .iter()
            .flat_map(|part| part.ops.iter().filter_map(|op| op.entry()).map(|op| (part.space.id, op.key)));
        let stripes = if changes.has_ranges() { Stripes::All } else { Stripes::of(written) };
        write::commit_held(&self.inner, &changes, &stripes, &self.state.guard)?.wait()
    }

    fn space(&self, id: KeyspaceId) -> Result<Arc<Space>> {
        let names = self.inner.names.read();
        let found = names.values().find(|space| space.id == id).cloned();
        // It cannot be dropped: the guard sees to that.
        found.ok_or_else(damaged)
    }
}

impl fmt::Debug for PreparedTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PreparedTransaction({:?})", self.name)
    }
}

fn damaged() -> Error {
    Error::corrupt("what was written down of a prepared transaction is damaged; run `pugdb verify`")
}

impl Record {
    fn encode<'a>(
        &self,
        name: &str,
        parts: impl ExactSizeIterator<Item = (KeyspaceId, &'a Ops)>,
        seal: SealPart<'_>,
    ) -> Result<Vec<u8>> {
        let mut out = vec![LAYOUT];
        let put = |out: &mut Vec<u8>, keyspace, (number, role): (u64, Role), bytes: &[u8]| {
            let (cover, bytes) = seal(keyspace, &place_of(name, number, role), bytes)?;
            out.push(cover as u8);
            put_bytes(out, &bytes);
            Result::Ok(())
        };
        put_varint(&mut out, parts.len() as u64);
        for (number, (id, ops)) in (0..).zip(parts) {
            out.extend(id.0.to_le_bytes());
            put_varint(&mut out, ops.len() as u64);
            put(&mut out, id, (number, Role::Writes), ops.bytes())?;
        }
        put_varint(&mut out, self.reads.len() as u64);
        for (number, place) in (0..).zip(&self.reads) {
            out.extend(place.keyspace.0.to_le_bytes());
            put(&mut out, place.keyspace, (number, Role::Reads), &encode_place(place))?;
        }
        Ok(out)
    }

    fn decode(name: &str, bytes: &[u8], open: OpenPart<'_>) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != LAYOUT {
            return Err(Error::unsupported(
                "a prepared transaction was written by a newer version of PugDB; open the database with that one",
            ));
        }
        let mut record = Self::of(Vec::new());
        let mut is_plain = false;
        let mut part = |reader: &mut Reader<'_>, keyspace, number: u64, role| {
            let cover = Cover::from_number(reader.u8()?).ok_or_else(damaged)?;
            is_plain |= cover == Cover::Plain;
            match open(keyspace, &place_of(name, number, role), (cover, reader.bytes()?)) {
                // Of an erased keyspace there is nothing that could be held on to.
                Err(error) if error.kind() == ErrorKind::Erased => Ok(None),
                opened => opened.map(Some),
            }
        };
        for number in 0..reader.varint()? {
            let (id, count) = (KeyspaceId(reader.u32()?), reader.varint()?);
            match part(&mut reader, id, number, Role::Writes)? {
                Some(bytes) => record.parts.push((id, Ops::decode(bytes, count)?)),
                None => record.is_erased = true,
            }
        }
        for number in 0..reader.varint()? {
            let keyspace = KeyspaceId(reader.u32()?);
            if let Some(bytes) = part(&mut reader, keyspace, number, Role::Reads)? {
                record.reads.push(decode_place(keyspace, &bytes)?);
            }
        }
        record.is_plain = is_plain;
        if reader.is_empty() { Ok(record) } else { Err(damaged()) }
    }
}

fn encode_place(place: &Guarded) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, place.keys.len() as u64);
    place.keys.iter().for_each(|key| put_bytes(&mut out, key));
    put_varint(&mut out, place.ranges.len() as u64);
    for range in &place.ranges {
        put_bound(&mut out, &range.start);
        put_bound(&mut out, &range.end);
    }
    out
}

fn decode_place(keyspace: KeyspaceId, bytes: &[u8]) -> Result<Guarded> {
    let mut reader = Reader::new(bytes);
    let mut place = Guarded { keyspace, keys: BTreeSet::new(), ranges: Vec::new() };
    for _ in 0..reader.varint()? {
        place.keys.insert(Key::copy(reader.bytes()?)?);
    }
    for _ in 0..reader.varint()? {
        let (start, end) = (bound(&mut reader)?, bound(&mut reader)?);
        place.ranges.push(KeyRange { start, end });
    }
    if reader.is_empty() { Ok(place) } else { Err(damaged()) }
}

fn put_bound(out: &mut Vec<u8>, bound: &Bound<Vec<u8>>) {
    match bound {
        Bound::Unbounded => out.push(0),
        Bound::Included(key) => {
            out.push(1);
            put_bytes(out, key);
        }
        Bound::Excluded(key) => {
            out.push(2);
            put_bytes(out, key);
        }
    }
}

fn bound(reader: &mut Reader<'_>) -> Result<Bound<Vec<u8>>> {
    Ok(match reader.u8()? {
        0 => Bound::Unbounded,
        1 => Bound::Included(reader.bytes()?.to_vec()),
        2 => Bound::Excluded(reader.bytes()?.to_vec()),
        _ => return Err(damaged()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Database;
    use crate::keys::KeyFile;

    const NAME: &str = "order 17";
    const PLAIN: SealPart<'_> = &|_, _, bytes| Ok((Cover::Plain, bytes.to_vec()));
    const OPEN: OpenPart<'_> = &|_, _, (_, bytes)| Ok(bytes.to_vec());

    fn record() -> (Vec<u8>, Ops) {
        let mut ops = Ops::default();
        ops.push(&Entry::delete().raw(b"gone")).unwrap();
        ops.push(&Entry::put(pugdb_core::Value::new(vec![7; 300]).unwrap()).raw(b"there")).unwrap();
        let place = Guarded {
            keyspace: KeyspaceId(9),
            keys: [own_key(b"read"), own_key(b"")].into(),
            ranges: vec![KeyRange::from(b"a"..b"c"), KeyRange::all(), KeyRange::from(b"x"..=b"y")],
        };
        (Record::of(vec![place]).encode(NAME, [(KeyspaceId(3), &ops)].into_iter(), PLAIN).unwrap(), ops)
    }

    #[test]
    fn what_is_written_down_is_read_again() {
        let (bytes, ops) = record();
        let read = Record::decode(NAME, &bytes, OPEN).unwrap();
        assert_eq!(read.parts, [(KeyspaceId(3), ops)]);
        assert!(read.is_plain);
        let parts = read.parts.iter().map(|(id, ops)| (*id, ops)).collect::<Vec<_>>();
        assert_eq!(read.encode(NAME, parts.into_iter(), PLAIN).unwrap(), bytes);
        assert_eq!((read.reads[0].keys.len(), read.reads[0].ranges.len()), (2, 3));
    }

    #[test]
    fn what_was_erased_is_left_out_and_the_rest_is_read() {
        let (bytes, ops) = record();
        let without = |erased: u32| {
            let open = move |id: KeyspaceId, _: &[u8], (_, bytes): (Cover, &[u8])| {
                if id.0 == erased { Err(Error::erased("gone")) } else { Ok(bytes.to_vec()) }
            };
            Record::decode(NAME, &bytes, &open).unwrap()
        };
        let (written, read) = (without(3), without(9));
        assert!(written.is_erased && written.parts.is_empty() && written.reads.len() == 1);
        assert!(!read.is_erased && read.parts == [(KeyspaceId(3), ops)] && read.reads.is_empty());
        let denied = |_: KeyspaceId, _: &[u8], _: (Cover, &[u8])| Err(Error::denied("wrong key"));
        assert_eq!(kind_of(&bytes, &denied), Some(ErrorKind::Denied));
    }

    #[test]
    fn a_cut_or_a_tail_is_an_error() {
        let (bytes, _) = record();
        for end in 0..bytes.len() {
            assert!(Record::decode(NAME, &bytes[..end], OPEN).is_err(), "cut at {end}");
        }
        assert_eq!(kind_of(&[&bytes[..], &[0]].concat(), OPEN), Some(ErrorKind::Corrupt));
        // Behind layout, count, keyspace and the number of operations.
        let mut uncovered = bytes.clone();
        assert_eq!(std::mem::replace(&mut uncovered[7], 2), Cover::Plain as u8);
        assert_eq!(kind_of(&uncovered, OPEN), Some(ErrorKind::Corrupt));
    }

    /// Whatever is there, and no more memory than it has bytes.
    #[test]
    fn a_flipped_bit_is_an_error_or_makes_another_entry_that_is_whole() {
        let (bytes, _) = record();
        for bit in 8..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            match Record::decode(NAME, &changed, OPEN) {
                Ok(read) => {
                    let parts = read.parts.iter().map(|(id, ops)| (*id, ops)).collect::<Vec<_>>();
                    let again = read.encode(NAME, parts.into_iter(), PLAIN).unwrap();
                    assert_eq!(Record::decode(NAME, &again, OPEN).unwrap().parts, read.parts, "bit {bit}");
                }
                Err(error) => assert!(
                    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Invalid | ErrorKind::Unsupported),
                    "bit {bit}: {error}"
                ),
            }
        }
    }

    #[test]
    fn another_layout_is_a_newer_versions() {
        let (bytes, _) = record();
        let newer = [&[LAYOUT + 1], &bytes[1..]].concat();
        assert_eq!(kind_of(&newer, OPEN), Some(ErrorKind::Unsupported));
    }

    /// What is sealed for a place opens nowhere else.
    #[test]
    fn each_part_is_bound_to_the_name_its_number_and_its_role() {
        let (bytes, ops) = record();
        let mut read = Record::decode(NAME, &bytes, OPEN).unwrap();
        let places = std::cell::RefCell::new(Vec::new());
        let seal = |_: KeyspaceId, place: &[u8], bytes: &[u8]| {
            places.borrow_mut().push(place.to_vec());
            Ok((Cover::Sealed, bytes.to_vec()))
        };
        read.reads.push(Guarded { keyspace: KeyspaceId(10), keys: BTreeSet::new(), ranges: Vec::new() });
        let parts = [(KeyspaceId(3), &ops), (KeyspaceId(4), &ops)];
        let sealed = read.encode(NAME, parts.into_iter(), &seal).unwrap();
        let place = |number: u8, role: u8| [NAME.as_bytes(), &[number, 0, 0, 0, 0, 0, 0, 0, role]].concat();
        let expected = [place(0, 1), place(1, 1), place(0, 2), place(1, 2)];
        assert_eq!(places.take(), expected);
        let open = |_: KeyspaceId, place: &[u8], (cover, bytes): (Cover, &[u8])| {
            assert_eq!(cover, Cover::Sealed);
            places.borrow_mut().push(place.to_vec());
            Ok(bytes.to_vec())
        };
        assert!(!Record::decode(NAME, &sealed, &open).unwrap().is_plain);
        assert_eq!(places.take(), expected);
    }

    /// Behind the conversion it is somebody else's: whoever can write a plain table could prepare what he likes.
    #[test]
    fn a_plain_entry_in_a_database_that_was_always_encrypted_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let open = |path| Database::builder().root_key(KeyFile::new(dir.path().join("key"))).open(path);
        let db = open(dir.path().join("data")).unwrap();
        let mut transaction = db.begin().unwrap();
        transaction.put(&db.keyspace("users").unwrap(), "k", "v").unwrap();
        drop(transaction.prepare("sealed").unwrap());
        db.close().unwrap();
        let db = open(dir.path().join("data")).unwrap();
        db.prepared_transaction("sealed").unwrap().unwrap().commit().unwrap();
        system_keyspace(&db.inner).unwrap().put(NAME, record().0).unwrap();
        db.close().unwrap();
        let error = open(dir.path().join("data")).unwrap_err();
        assert!(error.kind() == ErrorKind::Denied && error.to_string().contains("is not sealed"), "{error}");
    }

    fn kind_of(bytes: &[u8], open: OpenPart<'_>) -> Option<ErrorKind> {
        Record::decode(NAME, bytes, open).err().map(|error| error.kind())
    }
}
