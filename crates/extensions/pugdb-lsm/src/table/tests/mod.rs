//! Tests of sorted tables: against a model, on damaged files, on hostile bytes. Here is what they share.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use pugdb_core::engine::{BatchSize, Direction, Entries, KeyRange, Room};
use pugdb_core::env::Env;
use pugdb_core::seam::{Cipher, FileCipher, FileContext, Plain, RangeRequest, Scope, TableStore, Wait};
use pugdb_core::{
    DatabaseId, Entry, EntryKind, Error, FileId, Found, Key, KeyspaceId, Result, SealId, Seqno, Stamp,
    Timestamp, Value,
};
use xxhash_rust::xxh3::xxh3_128;

use super::*;

mod cache;
mod damage;
mod model;
mod prefix;
mod separated;
#[cfg(loom)]
mod under_loom;
mod writing;

const KEYSPACE: KeyspaceId = KeyspaceId(3);

/// A database's directory without a database.
struct Kit {
    context: Context,
    store: Arc<CountingStore>,
    _dir: tempfile::TempDir,
}

impl Kit {
    fn new(cipher: Arc<dyn Cipher>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let env = Env::os();
        let tables = dir.path().join("tables");
        env.fs.create_dir_all(&tables).unwrap();
        let store = Arc::new(CountingStore {
            inner: LocalTables::new(&env, tables),
            calls: AtomicUsize::new(0),
            gate: Mutex::new(()),
        });
        let tables: Arc<dyn TableStore> = store.clone();
        let database = DatabaseId([7; 16]);
        let context = Context {
            env,
            dir: dir.path().to_path_buf(),
            database,
            cipher,
            tables,
            observers: pugdb_core::observer::Observers::default(),
        };
        Self { context, store, _dir: dir }
    }

    fn plain() -> Self {
        Self::new(Arc::new(Plain))
    }

    fn write(&self, block_bytes: usize, entries: &[(Key, Found)]) -> TableMeta {
        self.write_compressed(block_bytes, Compression::None, entries)
    }

    fn write_compressed(
        &self,
        block_bytes: usize,
        compression: Compression,
        entries: &[(Key, Found)],
    ) -> TableMeta {
        let prefix = PrefixExtractor::Length(2);
        let options = TableOptions { block_bytes, compression, prefix, ..TableOptions::default() };
        let mut writer = TableWriter::create(&self.context, KEYSPACE, options).unwrap();
        for (key, found) in entries {
            writer.add(found.seqno, &found.entry.raw(key)).unwrap();
        }
        assert_eq!(writer.entries(), entries.len() as u64);
        let written = vec![writer.finish().unwrap()];
        WrittenTable::sync(written).unwrap().remove(0)
    }

    fn open(&self, meta: &TableMeta) -> Result<Arc<Table>> {
        self.open_with(meta, 0, meta.bounds(), None)
    }

    fn open_with(
        &self,
        meta: &TableMeta,
        cache_bytes: usize,
        bounds: Bounds,
        global: Option<Seqno>,
    ) -> Result<Arc<Table>> {
        let (cache, meta) = (Arc::new(BlockCache::new(cache_bytes)), Arc::new(meta.clone()));
        Table::open(&self.context, cache, meta, bounds, global)
    }

    fn path(&self, meta: &TableMeta) -> PathBuf {
        path(&self.context, meta.id)
    }

    fn calls(&self) -> usize {
        self.store.calls.load(Ordering::Relaxed)
    }
}

struct CountingStore {
    inner: LocalTables,
    calls: AtomicUsize,
    /// Held by a test that wants reads to wait.
    gate: Mutex<()>,
}

impl TableStore for CountingStore {
    fn read_ranges(&self, requests: &[RangeRequest], wait: Wait) -> Result<Option<Vec<Bytes>>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        drop(self.gate.lock());
        if wait == Wait::Never { Ok(None) } else { self.inner.read_ranges(requests, wait) }
    }

    fn forget(&self, file: FileId) {
        self.inner.forget(file);
    }
}

/// No cipher for anybody's secrets, but as strict as one: what was sealed for another place does not open.
struct Toy {
    header_bytes: usize,
}

struct ToyKeys(FileContext);

impl Cipher for Toy {
    fn create(&self, context: &FileContext) -> Result<(Vec<u8>, Arc<dyn FileCipher>)> {
        Ok((vec![0x5a; self.header_bytes], Arc::new(ToyKeys(*context))))
    }

    fn open(&self, context: &FileContext, header: &[u8]) -> Result<Arc<dyn FileCipher>> {
        assert_eq!(header, vec![0x5a; self.header_bytes]);
        Ok(Arc::new(ToyKeys(*context)))
    }
}

impl ToyKeys {
    fn tag(&self, scope: Scope, position: u64, associated: &[u8], data: &[u8]) -> [u8; 16] {
        assert_eq!(scope, Scope::Keyspace(KEYSPACE));
        let mut all = format!("{:?} {position} {associated:?} ", self.0.file).into_bytes();
        all.extend_from_slice(data);
        xxh3_128(&all).to_le_bytes()
    }
}

impl FileCipher for ToyKeys {
    fn tag_bytes(&self) -> usize {
        16
    }

    fn introduce(&self, _: KeyspaceId) -> Result<Vec<u8>> {
        unreachable!("a table belongs to one keyspace")
    }

    fn accept(&self, _: KeyspaceId, _: &[u8]) -> Result<()> {
        unreachable!("a table belongs to one keyspace")
    }

    fn seal(
        &self,
        scope: Scope,
        position: u64,
        associated: &[u8],
        data: &mut Vec<u8>,
        from: usize,
    ) -> Result<()> {
        let tag = self.tag(scope, position, associated, &data[from..]);
        data[from..].iter_mut().for_each(|byte| *byte ^= 0xa7);
        data.extend_from_slice(&tag);
        Ok(())
    }

    fn open(&self, scope: Scope, position: u64, associated: &[u8], sealed: &mut [u8]) -> Result<usize> {
        let (content, tag) = sealed.split_last_chunk_mut::<16>().unwrap();
        for byte in &mut *content {
            *byte ^= 0xa7;
        }
        if self.tag(scope, position, associated, content) != *tag {
            return Err(Error::corrupt("the seal does not open"));
        }
        Ok(content.len())
    }
}

fn key(bytes: &[u8]) -> Key {
    Key::copy(bytes).unwrap()
}

fn put(seqno: u64, value: impl Into<Bytes>) -> Found {
    Found { seqno: Seqno(seqno), entry: Entry::put(Value::new(value.into()).unwrap()) }
}

fn delete(seqno: u64) -> Found {
    Found { seqno: Seqno(seqno), entry: Entry::delete() }
}

/// Entries in the order of a table: some keys with one version and some with many.
fn random_entries(rng: &mut fastrand::Rng, keys: usize, seqnos: u64) -> Vec<(Key, Found)> {
    let mut entries = BTreeMap::new();
    for _ in 0..keys {
        let name: Vec<u8> = (0..rng.usize(0..6)).map(|_| rng.choice([0, b'a', b'b', 255]).unwrap()).collect();
        let versions = if rng.u8(..4) == 0 { 40 } else { rng.usize(1..4) };
        for _ in 0..versions {
            let seqno = rng.u64(1..seqnos);
            entries.insert((name.clone(), u64::MAX - seqno), random_found(rng, seqno));
        }
    }
    entries.into_iter().map(|((name, _), found)| (key(&name), found)).collect()
}

fn random_found(rng: &mut fastrand::Rng, seqno: u64) -> Found {
    if rng.u8(..5) == 0 {
        return delete(seqno);
    }
    let length = rng.usize(..40);
    let mut found = put(seqno, vec![rng.u8(..); length]);
    if rng.bool() {
        found.entry.meta = rng.u8(..);
        found.entry.expires_at = rng.bool().then(|| Timestamp(rng.u64(..)));
        found.entry.seal = rng.bool().then(|| SealId(rng.u64(..)));
        found.entry.stamp = rng.bool().then(|| Stamp([rng.u8(..); 16]));
    }
    found
}

/// What a read of one key should answer.
fn expected_get(entries: &[(Key, Found)], key: &[u8], seqno: Seqno) -> Option<Found> {
    entries
        .iter()
        .find(|(entry, found)| *entry == *key && found.seqno <= seqno)
        .map(|(_, found)| found.clone())
}

/// What a scan should answer.
fn expected_scan(
    entries: &[(Key, Found)],
    range: &KeyRange,
    direction: Direction,
    seqno: Seqno,
) -> Vec<(Key, Found)> {
    let mut seen = BTreeMap::new();
    for (key, found) in entries {
        if range.contains(key) && found.seqno <= seqno {
            seen.entry(key.clone()).or_insert_with(|| found.clone());
        }
    }
    match direction {
        Direction::Forward => seen.into_iter().collect(),
        Direction::Reverse => seen.into_iter().rev().collect(),
    }
}

fn run_scan(
    table: &Arc<Table>,
    range: &KeyRange,
    direction: Direction,
    seqno: Seqno,
) -> Result<Vec<(Key, Found)>> {
    let mut scan = table.scan(&Arc::new(range.clone()), direction, seqno);
    let mut out = Vec::new();
    loop {
        if let Some(block) = scan.needs() {
            assert!(scan.peek().is_none());
            let loaded = load_blocks(&[block], Access::Scan, Wait::Always)?;
            scan.supply(loaded.unwrap().pop().unwrap());
            continue;
        }
        // Every other time as many at once as a tree's scan would take.
        let bound = range.contains(b"ab").then_some(&b"ab"[..]).filter(|_| out.len() % 4 == 2);
        if out.len() % 2 == 0
            && let Some((block, positions)) = scan.plain_run(bound, Seqno::ZERO)
        {
            let asked = positions.len();
            let (mut room, mut entries) =
                (Room::new(BatchSize { entries: 3, bytes: 100 }), Entries::default());
            let count = block.pour(positions, &mut room, &mut entries);
            assert!(count == asked.min(3) || count < asked && entries.len() == count);
            out.extend(entries.into_found());
            scan.pass(count);
            continue;
        }
        let Some(peek) = scan.peek() else { return Ok(out) };
        assert_eq!(scan.peek_key(), Some((peek.op.key, peek.seqno)));
        let entry = peek.op.entry(|value| scan.share(value));
        out.push((key(peek.op.key), Found { seqno: peek.seqno, entry }));
        scan.advance();
    }
}

fn walk(table: &Arc<Table>) -> Result<Vec<(Key, Found)>> {
    let (mut cursor, mut out) = (table.cursor(None), Vec::new());
    while cursor.advance()? {
        let Peek { seqno, op, .. } = cursor.current().expect("it has advanced");
        let entry = op.entry(Bytes::copy_from_slice);
        out.push((key(op.key), Found { seqno, entry }));
    }
    assert!(cursor.current().is_none() && !cursor.advance()?);
    Ok(out)
}

/// Every range whose ends are among `keys`.
fn all_ranges(keys: &[Vec<u8>]) -> Vec<KeyRange> {
    let ends: Vec<Bound<Vec<u8>>> = keys
        .iter()
        .flat_map(|key| [Bound::Included(key.clone()), Bound::Excluded(key.clone())])
        .chain([Bound::Unbounded])
        .collect();
    ends.iter()
        .flat_map(|start| ends.iter().map(|end| KeyRange { start: start.clone(), end: end.clone() }))
        .collect()
}
