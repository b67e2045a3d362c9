//! Readers of one block, in all orders in which they can meet:
//! `RUSTFLAGS="--cfg loom" cargo test -p pugdb-lsm --lib under_loom`.
//!
//! Locks and waits are loom's. The slots are not: what `arc_swap` does between its own atomics is not tried here, each of its
//! calls is one step.

use loom::thread;

use super::*;

const PREEMPTIONS: usize = 2;

/// A table of nine keys, one a block, that is written once.
fn written() -> (Arc<Kit>, TableMeta) {
    let kit = Kit::plain();
    let entries: Vec<_> = (0..9_u8).map(|name| (key(&[name]), put(1, vec![name; 200]))).collect();
    let meta = kit.write(0, &entries);
    (Arc::new(kit), meta)
}

fn explore(test: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(test);
}

/// Reads these keys of a table with a thread for each.
fn read_beside(table: &Arc<Table>, names: [u8; 2]) {
    let read = |table: Arc<Table>, name: u8| {
        move || assert_eq!(table.get(&[name], Seqno::MAX).unwrap(), Some(put(1, vec![name; 200])))
    };
    let other = thread::spawn(read(Arc::clone(table), names[1]));
    read(Arc::clone(table), names[0])();
    other.join().unwrap();
}

#[test]
fn two_readers_of_a_block_read_it_once_however_they_meet() {
    let (kit, meta) = written();
    explore(move || {
        let table = kit.open_with(&meta, 1 << 20, meta.bounds(), None).unwrap();
        let before = kit.calls();
        read_beside(&table, [3, 3]);
        assert_eq!(kit.calls() - before, 1);
    });
}

#[test]
fn a_cache_keeps_to_its_bytes_and_gives_them_back_however_readers_meet() {
    const BYTES: usize = 3000;
    let (kit, meta) = written();
    explore(move || {
        let cache = Arc::new(BlockCache::new(BYTES));
        let open = || {
            let (cache, meta) = (Arc::clone(&cache), Arc::new(meta.clone()));
            Table::open(&kit.context, cache, meta.clone(), meta.bounds(), None).unwrap()
        };
        let (one, other) = (open(), open());
        let reader = thread::spawn(move || {
            one.get(&[1], Seqno::MAX).unwrap().unwrap();
        });
        other.get(&[2], Seqno::MAX).unwrap().unwrap();
        drop(other);
        assert!(cache.bytes() <= BYTES);
        cache.let_go(1);
        reader.join().unwrap();
        while cache.let_go(1) {}
        assert_eq!((cache.bytes(), cache.table_bytes()), (0, 0));
    });
}
