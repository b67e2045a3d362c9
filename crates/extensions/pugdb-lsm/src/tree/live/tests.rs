//! Who opens a table, and who waits for that.

use std::sync::atomic::AtomicUsize;
use std::thread;

use bytes::Bytes;
use pugdb_core::env::Env;
use pugdb_core::seam::{Plain, RangeRequest, TableStore};
use pugdb_core::{DatabaseId, Entry, KeyspaceId, Value};

use super::*;
use crate::table::{LocalTables, TableOptions, TableWriter, WrittenTable};

/// Counts calls, and lets none through until somebody opens the gate.
struct Gated {
    inner: LocalTables,
    calls: AtomicUsize,
    gate: Mutex<()>,
}

impl TableStore for Gated {
    fn read_ranges(&self, requests: &[RangeRequest], wait: Wait) -> Result<Option<Vec<Bytes>>> {
        self.calls.fetch_add(1, Ordering::AcqRel);
        drop(self.gate.lock());
        self.inner.read_ranges(requests, wait)
    }

    fn forget(&self, file: FileId) {
        self.inner.forget(file);
    }
}

/// A closed table of one entry.
fn closed() -> (Arc<LiveTable>, Arc<Gated>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let env = Env::os();
    let path = dir.path().join("tables");
    env.fs.create_dir_all(&path).unwrap();
    let inner = LocalTables::new(&env, path);
    let store = Arc::new(Gated { inner, calls: AtomicUsize::new(0), gate: Mutex::new(()) });
    let context = Context {
        env,
        dir: dir.path().to_path_buf(),
        database: DatabaseId([1; 16]),
        cipher: Arc::new(Plain),
        tables: Arc::clone(&store) as Arc<dyn TableStore>,
        observers: pugdb_core::observer::Observers::default(),
    };
    let mut writer = TableWriter::create(&context, KeyspaceId(1), TableOptions::default()).unwrap();
    let entry = Entry::put(Value::new(b"1815".to_vec()).unwrap());
    writer.add(Seqno(1), &entry.raw(b"ada")).unwrap();
    let meta = WrittenTable::sync(vec![writer.finish().unwrap()]).unwrap().remove(0);
    let graveyard = Graveyard::new(&context);
    let (cache, value_files) = (Arc::new(BlockCache::new(1 << 20)), ValueFiles::default());
    let shelf = Arc::new(Shelf { context, cache, graveyard, value_files });
    let bounds = (meta.first.clone(), meta.last.clone());
    let (meta, run) = (Arc::new(meta), 1);
    let entry = TableEntry { meta, run, global_seqno: None, bounds, quarantined: false, cleared: Seqno(0) };
    (LiveTable::closed(&shelf, &entry), store, dir)
}

#[test]
fn readers_who_need_a_table_at_the_same_time_open_it_once() {
    let (live, store, _dir) = closed();
    let gate = store.gate.lock();
    thread::scope(|scope| {
        let readers: Vec<_> = (0..8).map(|_| scope.spawn(|| live.opened().map(Arc::clone))).collect();
        while store.calls.load(Ordering::Acquire) == 0 {
            thread::yield_now();
        }
        assert!(matches!(live.table(Wait::Never), Ok(AtHand::WouldBlock)));
        drop(gate);
        let tables: Vec<Arc<Table>> =
            readers.into_iter().map(|reader| reader.join().unwrap().unwrap()).collect();
        assert!(tables.iter().all(|table| Arc::ptr_eq(table, &tables[0])));
    });
    // Header and footer, then the tail.
    assert_eq!(store.calls.load(Ordering::Acquire), 2);
    assert!(matches!(live.table(Wait::Never), Ok(AtHand::Yes(_))));
    // A part of it is the same file, opened already.
    let part = live.from(&live.bounds().last);
    assert!(part.opened().is_ok() && part.opened_by_job().is_ok());
    assert_eq!(store.calls.load(Ordering::Acquire), 2);
}

#[test]
fn a_job_waits_for_no_reader_and_both_get_one_table() {
    let (live, store, _dir) = closed();
    let gate = store.gate.lock();
    thread::scope(|scope| {
        let reader = scope.spawn(|| live.opened().map(Arc::clone));
        while store.calls.load(Ordering::Acquire) == 0 {
            thread::yield_now();
        }
        let job = scope.spawn(|| live.opened_by_job().map(Arc::clone));
        while store.calls.load(Ordering::Acquire) < 2 {
            thread::yield_now();
        }
        drop(gate);
        let (reader, job) = (reader.join().unwrap().unwrap(), job.join().unwrap().unwrap());
        assert!(Arc::ptr_eq(&reader, &job));
    });
}
