//! The cache keeps to its bytes, several blocks are one read, and readers of one block are too.

use super::*;

/// A table of `keys` keys, one a block.
fn table(kit: &Kit, cache: &Arc<BlockCache>, keys: u8) -> Arc<Table> {
    let entries: Vec<_> = (0..keys).map(|name| (key(&[name]), put(1, vec![name; 200]))).collect();
    let meta = kit.write(0, &entries);
    Table::open(&kit.context, Arc::clone(cache), Arc::new(meta.clone()), meta.bounds(), None).unwrap()
}

fn no_cache() -> Arc<BlockCache> {
    Arc::new(BlockCache::new(0))
}

fn plan(table: &Arc<Table>, name: u8) -> BlockRef {
    table.plan_get(&[name], KeyHash::of(&[name]), Seqno::MAX).unwrap()
}

#[test]
fn blocks_of_several_tables_are_one_read_and_then_none() {
    let kit = Kit::plain();
    let cache = Arc::new(BlockCache::new(1 << 20));
    let tables = [table(&kit, &cache, 9), table(&kit, &cache, 9)];
    let wanted: Vec<(usize, u8)> = vec![(0, 3), (1, 3), (0, 8), (0, 3), (1, 0)];
    let blocks: Vec<BlockRef> = wanted.iter().map(|&(at, name)| plan(&tables[at], name)).collect();
    let before = kit.calls();
    assert!(load_blocks(&blocks, Access::Point, Wait::Never).unwrap().is_none(), "nothing is at hand");
    assert_eq!(kit.calls() - before, 1);
    for (wait, calls) in [(Wait::Always, 2), (Wait::Always, 2), (Wait::Never, 2)] {
        let loaded = load_blocks(&blocks, Access::Point, wait).unwrap().unwrap();
        assert_eq!(kit.calls() - before, calls);
        for ((block, content), (_, name)) in blocks.iter().zip(&loaded).zip(&wanted) {
            let found = block.resolve(content, &[*name], Seqno::MAX).unwrap().found;
            assert_eq!(found, put(1, vec![*name; 200]));
        }
    }
    drop((blocks, tables));
    while cache.let_go(1) {}
    assert_eq!(cache.bytes(), 0, "closed tables take their blocks along");
}

#[test]
fn opening_a_table_is_two_reads_and_walking_it_few() {
    let kit = Kit::plain();
    let meta = table(&kit, &no_cache(), 200).meta().clone();
    let before = kit.calls();
    let table = kit.open(&meta).unwrap();
    assert_eq!(kit.calls() - before, 2);
    assert_eq!(walk(&table).unwrap().len(), 200);
    assert_eq!(kit.calls() - before, 3, "200 blocks of 200 bytes are read ahead at once");
}

#[test]
fn the_cache_never_exceeds_its_bytes() {
    let kit = Kit::plain();
    let mut rng = fastrand::Rng::with_seed(1);
    let entries: Vec<_> =
        (0..200_u8).map(|name| (key(&[name]), put(1, vec![name; rng.usize(0..3000)]))).collect();
    let meta = kit.write(0, &entries);
    for bytes in [0, 1, 1000, 10_000, 50_000, 1 << 20, 64 << 20] {
        let cache = Arc::new(BlockCache::new(bytes));
        let table =
            Table::open(&kit.context, Arc::clone(&cache), Arc::new(meta.clone()), meta.bounds(), None)
                .unwrap();
        for _ in 0..2000 {
            let (key, found) = &entries[rng.usize(..entries.len())];
            assert_eq!(table.get(key, Seqno::MAX).unwrap().as_ref(), Some(found));
            assert!(cache.bytes() <= bytes);
        }
        assert!(cache.bytes() > 0 || bytes < 10_000, "{bytes}");
        let before = kit.calls();
        for (key, _) in &entries {
            table.get(key, Seqno::MAX).unwrap().unwrap();
        }
        assert_eq!(kit.calls() == before, bytes >= 1 << 20, "with room for all, all are hits");
    }
}

#[test]
fn hits_and_misses_are_counted() {
    let kit = Kit::plain();
    let cache = Arc::new(BlockCache::new(1 << 20));
    let table = table(&kit, &cache, 20);
    let get = |name: u8| table.get(&[name], Seqno::MAX).unwrap().unwrap();
    (0..10).for_each(|name| drop(get(name)));
    load_blocks(&[plan(&table, 3), plan(&table, 12), plan(&table, 13)], Access::Point, Wait::Always).unwrap();
    assert_eq!(cache.hits_and_misses().1, 12);
    let hits = |count: usize| {
        let before = cache.hits_and_misses().0;
        (0..count).for_each(|_| drop(get(3)));
        cache.hits_and_misses().0 - before
    };
    // A thread tells of 256 at once.
    assert!((768..=1_024).contains(&hits(1_000)));
    assert_eq!(cache.hits_and_misses().1, 12);
}

#[test]
fn filters_and_indexes_take_room_from_the_blocks_but_never_all_of_it() {
    let kit = Kit::plain();
    let alone = table(&kit, &no_cache(), 200);
    let (bytes, own) = (64 << 10, alone.memory_bytes());
    assert!(own > 200 * 20 && own < 200 * 80, "{own} bytes for 200 blocks");
    let cache = Arc::new(BlockCache::new(bytes));
    let read_all =
        |table: &Arc<Table>| (0..200).for_each(|name| drop(table.get(&[name], Seqno::MAX).unwrap()));
    let mut tables: Vec<Arc<Table>> = Vec::new();
    for count in 1..=bytes / own + 2 {
        tables.push(table(&kit, &cache, 200));
        read_all(&tables[count - 1]);
        assert_eq!(cache.table_bytes(), count * own);
        assert!(cache.bytes() <= (bytes - (count * own).min(bytes)).max(bytes / 4), "{count} tables");
        assert!(cache.bytes() > bytes / 5, "{count} tables");
    }
    // Nothing is read, but what an open table takes is there for blocks no more.
    let (before, few) = (cache.bytes(), tables.split_off(1));
    drop(few);
    assert_eq!(cache.bytes(), before, "who closes a table does not wait until its blocks are gone");
    while cache.let_go(100) {}
    read_all(&tables[0]);
    assert!(cache.bytes() > before && cache.bytes() > bytes - own - 1000, "room comes back");
    let opened: Vec<_> = (0..bytes / own).map(|_| table(&kit, &cache, 200)).collect();
    assert!(cache.bytes() <= bytes / 4);
    drop((tables, opened));
    while cache.let_go(100) {}
    assert_eq!((cache.bytes(), cache.table_bytes()), (0, 0));
}

#[test]
fn a_block_in_use_outlives_one_that_is_not() {
    let kit = Kit::plain();
    let cache = Arc::new(BlockCache::new(10 * 600));
    let table = table(&kit, &cache, 100);
    let get = |name: u8| table.get(&[name], Seqno::MAX).unwrap().unwrap();
    get(0);
    for name in 1..100 {
        get(name);
        let before = kit.calls();
        get(0);
        assert_eq!(kit.calls(), before, "after block {name}");
    }
}

#[test]
fn a_long_scan_leaves_what_points_read_in_the_cache() {
    let kit = Kit::plain();
    let cache = Arc::new(BlockCache::new(40 * 600));
    let (hot, long) = (table(&kit, &cache, 20), table(&kit, &cache, 250));
    let all: Vec<BlockRef> = (0..20).map(|name| plan(&hot, name)).collect();
    load_blocks(&all, Access::Point, Wait::Always).unwrap().unwrap();
    for _ in 0..2 {
        for name in 0..250 {
            load_blocks(&[plan(&long, name)], Access::Scan, Wait::Always).unwrap().unwrap();
        }
    }
    let kept = |block: &&BlockRef| {
        load_blocks(std::slice::from_ref(block), Access::Point, Wait::Never).unwrap().is_some()
    };
    assert_eq!(all.iter().filter(kept).count(), 20);
    // What is asked for again while it is on probation stays, too.
    for name in 0..250 {
        load_blocks(&[plan(&long, 7)], Access::Scan, Wait::Always).unwrap().unwrap();
        load_blocks(&[plan(&long, name)], Access::Scan, Wait::Always).unwrap().unwrap();
    }
    assert!(kept(&&plan(&long, 7)));
}

#[test]
fn what_is_read_to_check_a_new_table_need_not_be_read_again() {
    let kit = Kit::plain();
    let cache = Arc::new(BlockCache::new(50 * 600));
    let reads = |table: &Arc<Table>, names: std::ops::Range<u8>| {
        let before = kit.calls();
        names.for_each(|name| assert!(table.get(&[name], Seqno::MAX).unwrap().is_some()));
        kit.calls() - before
    };
    let (old, new) = (table(&kit, &cache, 30), table(&kit, &cache, 100));
    assert_eq!(reads(&old, 0..30), 30);
    new.verify_new(&|_| true, |_| Access::Spare).unwrap();
    assert_eq!(reads(&old, 0..30), 0, "what is kept for nobody displaces nothing");
    let kept = (0..100).filter(|&name| new.is_cached(&[name])).count();
    assert!((10..30).contains(&kept), "{kept} blocks where there was room");
    assert_eq!(reads(&new, 0..10), 0);
    let warm = table(&kit, &cache, 20);
    assert!(!warm.is_cached(&[3]));
    warm.verify_new(&|_| true, |last| if *last < [10][..] { Access::Point } else { Access::Spare }).unwrap();
    assert!((0..10).all(|name| warm.is_cached(&[name])), "what others were read for takes their places");
    assert!(!warm.is_cached(&[15]) && !warm.is_cached(&[99]));
}

#[test]
fn a_walk_takes_what_is_in_the_cache_and_leaves_nothing_there() {
    let kit = Kit::plain();
    let cache = Arc::new(BlockCache::new(1 << 20));
    let table = table(&kit, &cache, 100);
    for name in [0, 1, 50, 99] {
        table.get(&[name], Seqno::MAX).unwrap().unwrap();
    }
    let (before, bytes) = (kit.calls(), cache.bytes());
    let all = walk(&table).unwrap();
    assert!((0..100).eq(all.iter().map(|(key, _)| key[0])));
    assert_eq!(kit.calls() - before, 2, "what lies between those that are there");
    assert_eq!(cache.bytes(), bytes);
}

#[test]
fn readers_that_miss_the_same_block_read_it_once() {
    let kit = Kit::plain();
    for cache in [no_cache(), Arc::new(BlockCache::new(1 << 20))] {
        let table = table(&kit, &cache, 3);
        let before = kit.calls();
        let gate = kit.store.gate.lock();
        std::thread::scope(|scope| {
            let readers: Vec<_> =
                (0..8).map(|_| scope.spawn(|| table.get(&[1], Seqno::MAX).unwrap().unwrap())).collect();
            // All of them have found that it is missing, and one reads.
            while table.slots().waiting(1) < 7 {
                std::thread::yield_now();
            }
            drop(gate);
            for reader in readers {
                assert_eq!(reader.join().unwrap(), put(1, vec![1; 200]));
            }
        });
        assert_eq!(kit.calls() - before, 1);
        assert_eq!(table.slots().waiting(1), 0);
    }
}

#[test]
fn when_the_reader_of_a_block_fails_those_who_wait_try_for_themselves() {
    let kit = Kit::plain();
    let table = table(&kit, &no_cache(), 3);
    let moved = kit.path(table.meta()).with_extension("away");
    kit.context.env.fs.rename(&kit.path(table.meta()), &moved).unwrap();
    kit.context.tables.forget(table.meta().id);
    let before = kit.calls();
    let gate = kit.store.gate.lock();
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4).map(|_| scope.spawn(|| table.get(&[1], Seqno::MAX))).collect();
        while table.slots().waiting(1) < 3 {
            std::thread::yield_now();
        }
        drop(gate);
        for reader in readers {
            assert!(reader.join().unwrap().is_err());
        }
    });
    assert!(kit.calls() - before >= 2);
    kit.context.env.fs.rename(&moved, &kit.path(table.meta())).unwrap();
    assert!(table.get(&[1], Seqno::MAX).unwrap().is_some());
}

#[test]
fn threads_that_read_evict_and_close_get_what_was_written_within_the_bytes() {
    let kit = Kit::plain();
    let cache = Arc::new(BlockCache::new(30 * 600));
    let shared = [table(&kit, &cache, 100), table(&kit, &cache, 100)];
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (kit, cache, shared) = (&kit, &cache, &shared);
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(seed);
                for _ in 0..30 {
                    let own = table(kit, cache, 20);
                    for _ in 0..200 {
                        let (table, keys) =
                            rng.choice([(&shared[0], 100), (&shared[1], 100), (&own, 20)]).unwrap();
                        let name = rng.u8(..keys);
                        let access = rng.choice([Access::Point, Access::Scan]).unwrap();
                        let block = plan(table, name);
                        let content = load_blocks(std::slice::from_ref(&block), access, Wait::Always);
                        let content = content.unwrap().unwrap().pop().unwrap();
                        let found = block.resolve(&content, &[name], Seqno::MAX).map(|located| located.found);
                        assert_eq!(found, Some(put(1, vec![name; 200])));
                        assert!(cache.bytes() <= 30 * 600);
                    }
                }
            });
        }
    });
    assert!(cache.bytes() > 0);
    drop(shared);
    while cache.let_go(100) {}
    assert_eq!(cache.bytes(), 0);
}

#[test]
fn a_scan_needs_the_blocks_of_its_range_only() {
    let kit = Kit::plain();
    let table = table(&kit, &no_cache(), 100);
    for direction in [Direction::Forward, Direction::Reverse] {
        let before = kit.calls();
        assert_eq!(run_scan(&table, &KeyRange::from([40]..[43]), direction, Seqno::MAX).unwrap().len(), 3);
        assert!(kit.calls() - before <= 4, "{direction:?}: three keys, and the block that says they are all");
    }
}
