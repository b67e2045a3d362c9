//! The cache keeps to its bytes, and several blocks are one read.

use super::*;

/// A table of `keys` keys, one a block.
fn table(kit: &Kit, keys: u8) -> Arc<Table> {
    let entries: Vec<_> = (0..keys).map(|name| (key(&[name]), put(1, vec![name; 200]))).collect();
    kit.open(&kit.write(0, &entries)).unwrap()
}

fn plan(table: &Arc<Table>, name: u8) -> BlockRef {
    table.plan_get(&[name], KeyHash::of(&[name]), Seqno::MAX).unwrap()
}

#[test]
fn blocks_of_several_tables_are_one_read_and_then_none() {
    let kit = Kit::plain();
    let tables = [table(&kit, 9), table(&kit, 9)];
    let wanted: Vec<(usize, u8)> = vec![(0, 3), (1, 3), (0, 8), (0, 3), (1, 0)];
    let blocks: Vec<BlockRef> = wanted.iter().map(|&(at, name)| plan(&tables[at], name)).collect();
    let cache = BlockCache::new(1 << 20);
    let before = kit.calls();
    assert!(load_blocks(&kit.context, &cache, &blocks, Wait::Never).unwrap().is_none(), "nothing is at hand");
    assert_eq!(kit.calls() - before, 1);
    for (wait, calls) in [(Wait::Always, 2), (Wait::Always, 2), (Wait::Never, 2)] {
        let loaded = load_blocks(&kit.context, &cache, &blocks, wait).unwrap().unwrap();
        assert_eq!(kit.calls() - before, calls);
        for ((block, content), (_, name)) in blocks.iter().zip(&loaded).zip(&wanted) {
            let found = block.resolve(content, &[*name], Seqno::MAX).unwrap().unwrap();
            assert_eq!(found, put(1, vec![*name; 200]));
        }
    }
    cache.forget(tables[0].meta().id);
    assert!(load_blocks(&kit.context, &cache, &blocks[..1], Wait::Never).unwrap().is_none());
    assert!(load_blocks(&kit.context, &cache, &blocks[1..2], Wait::Never).unwrap().is_some());
    cache.forget(tables[1].meta().id);
    assert_eq!(cache.bytes(), 0);
}

#[test]
fn opening_a_table_is_two_reads_and_walking_it_few() {
    let kit = Kit::plain();
    let meta = table(&kit, 200).meta().clone();
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
        let table = Table::open(&kit.context, Arc::clone(&cache), meta.clone(), meta.bounds(), None).unwrap();
        for _ in 0..2000 {
            let (key, found) = &entries[rng.usize(..entries.len())];
            assert_eq!(table.get(key, Seqno::MAX).unwrap().as_ref(), Some(found));
            assert!(cache.bytes() <= bytes);
        }
        assert_eq!(cache.bytes() > 0, bytes >= 1000, "{bytes}");
        let before = kit.calls();
        for (key, _) in &entries {
            table.get(key, Seqno::MAX).unwrap().unwrap();
        }
        assert_eq!(kit.calls() == before, bytes >= 1 << 20, "with room for all, all are hits");
    }
}

#[test]
fn a_block_in_use_outlives_one_that_is_not() {
    let kit = Kit::plain();
    let table = table(&kit, 100);
    let cache = BlockCache::new(10 * 400);
    let load =
        |name| load_blocks(&kit.context, &cache, &[plan(&table, name)], Wait::Always).unwrap().unwrap();
    load(0);
    for name in 1..100 {
        load(name);
        let before = kit.calls();
        load(0);
        assert_eq!(kit.calls(), before, "after block {name}");
    }
}

#[test]
fn a_scan_needs_the_blocks_of_its_range_only() {
    let kit = Kit::plain();
    let table = table(&kit, 100);
    for direction in [Direction::Forward, Direction::Reverse] {
        let before = kit.calls();
        assert_eq!(run_scan(&table, &KeyRange::from([40]..[43]), direction, Seqno::MAX).unwrap().len(), 3);
        assert!(kit.calls() - before <= 4, "{direction:?}: three keys, and the block that says they are all");
    }
}
