//! Readers of two tables that share a cache, in all orders in which they can meet:
//! `RUSTFLAGS="--cfg loom" cargo test -p pugdb-lsm --lib under_loom`.
//!
//! Locks and waits are loom's. The slots are `arc_swap`'s, which loom does not see through: two readers of one block are out of its
//! reach, for it takes what one finds in a slot for something that nobody has handed over.

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
