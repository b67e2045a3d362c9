//! Whatever a table answers, a list of its entries answers too.

use super::*;

fn ciphers() -> [Arc<dyn Cipher>; 3] {
    [Arc::new(Plain), Arc::new(Toy { header_bytes: 33 }), Arc::new(Toy { header_bytes: 3000 })]
}

#[test]
fn reads_equal_a_model_at_every_seqno() {
    for (seed, (keys, cipher)) in (0..).zip((1..48).step_by(4).zip(ciphers().into_iter().cycle())) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let kit = Kit::new(cipher);
        let entries = random_entries(&mut rng, keys, 120);
        let meta = kit.write(rng.usize(0..600), &entries);
        let table = kit.open_with(&meta, 1 << 20, meta.bounds(), None).unwrap();
        let mut keys: Vec<Vec<u8>> = entries.iter().map(|(key, _)| key.to_vec()).collect();
        keys.extend([b"absent".to_vec(), vec![], vec![255; 7]]);
        keys.dedup();
        for name in &keys {
            for seqno in 0..=121 {
                let found = table.get(name, Seqno(seqno)).unwrap();
                assert_eq!(found, expected_get(&entries, name, Seqno(seqno)), "seed {seed} seqno {seqno}");
            }
        }
        assert_eq!(walk(&table).unwrap(), entries, "seed {seed}");
        let summary = table.verify().unwrap();
        let deletes = entries.iter().filter(|(_, found)| found.entry.kind == EntryKind::Delete).count();
        assert_eq!((summary.entries, summary.deletes), (entries.len() as u64, deletes as u64), "seed {seed}");
        assert_eq!((summary.keys, summary.bytes), (table.meta().keys, meta.bytes));
        assert_eq!(meta.bytes, std::fs::metadata(kit.path(&meta)).unwrap().len());
    }
}

#[test]
fn scans_of_every_range_equal_a_model_in_both_directions() {
    for seed in 0..8 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let kit = Kit::plain();
        let entries = random_entries(&mut rng, 8, 60);
        let meta = kit.write(rng.usize(0..400), &entries);
        let table = kit.open(&meta).unwrap();
        let mut keys: Vec<Vec<u8>> = entries.iter().map(|(key, _)| key.to_vec()).collect();
        keys.extend([vec![], b"aab0".to_vec(), vec![255; 9]]);
        keys.sort();
        keys.dedup();
        for range in all_ranges(&keys) {
            for direction in [Direction::Forward, Direction::Reverse] {
                for seqno in [0, 1, 20, 40, 59, u64::MAX].map(Seqno) {
                    let scanned = run_scan(&table, &range, direction, seqno).unwrap();
                    let expected = expected_scan(&entries, &range, direction, seqno);
                    assert_eq!(scanned, expected, "seed {seed} {range:?} {direction:?} {seqno}");
                }
            }
        }
    }
}

#[test]
fn versions_of_one_key_span_blocks() {
    let kit = Kit::plain();
    let mut entries = vec![(key(b"a"), put(7, "first"))];
    entries.extend((1..=500).rev().map(|seqno| (key(b"k"), put(seqno * 2, seqno.to_le_bytes().to_vec()))));
    entries.push((key(b"z"), delete(3)));
    let meta = kit.write(40, &entries);
    let table = kit.open(&meta).unwrap();
    assert!(table.verify().unwrap().blocks > 100);
    for seqno in (0..=1001).map(Seqno) {
        let expected = expected_get(&entries, b"k", seqno);
        let calls = kit.calls();
        assert_eq!(table.get(b"k", seqno).unwrap(), expected);
        assert!(kit.calls() - calls <= 1, "a get reads one block");
        for direction in [Direction::Forward, Direction::Reverse] {
            let expected = expected_scan(&entries, &KeyRange::all(), direction, seqno);
            assert_eq!(run_scan(&table, &KeyRange::all(), direction, seqno).unwrap(), expected);
        }
    }
}

#[test]
fn small_and_large_keys_and_values_come_back() {
    for cipher in ciphers() {
        let kit = Kit::new(cipher);
        let mut entries = Vec::new();
        for name in [vec![], vec![1], vec![2; 65_535], vec![3; 65_535]] {
            for (seqno, bytes) in [(9, 0), (8, 1), (7, 1 << 20), (6, 300_000)] {
                entries.push((key(&name), put(seqno, vec![7; bytes])));
            }
        }
        let meta = kit.write(8 << 10, &entries);
        let table = kit.open(&meta).unwrap();
        for (key, found) in &entries {
            assert_eq!(table.get(key, found.seqno).unwrap().as_ref(), Some(found));
        }
        assert_eq!(walk(&table).unwrap(), entries);
        table.verify().unwrap();
    }
}

#[test]
fn readers_see_nothing_outside_the_bounds() {
    let kit = Kit::plain();
    let names: Vec<Vec<u8>> = (b'b'..=b'y').map(|name| vec![name]).collect();
    let entries: Vec<_> =
        names.iter().flat_map(|name| [5, 3].map(|seqno| (key(name), put(seqno, name.clone())))).collect();
    let metas = [0, 40, 300, 8 << 10].map(|block_bytes| kit.write(block_bytes, &entries));
    let bounds = [(b'b', b'y'), (b'e', b'k'), (b'e', b'e'), (b'y', b'y'), (b'a', b'a'), (b'z', b'z')];
    for (meta, (first, last)) in metas.iter().flat_map(|meta| bounds.map(|bounds| (meta, bounds))) {
        let bounds = Bounds { first: key(&[first]), last: key(&[last]) };
        let table = kit.open_with(meta, 0, bounds.clone(), None).unwrap();
        let within: Vec<_> = entries.iter().filter(|(key, _)| bounds.contains(key)).cloned().collect();
        for name in b'a'..=b'z' {
            assert_eq!(table.get(&[name], Seqno(4)).unwrap(), expected_get(&within, &[name], Seqno(4)));
            assert!(bounds.contains(&[name]) || !table.may_contain(&[name]));
        }
        assert_eq!(walk(&table).unwrap(), within);
        let ends = [b"b", b"e", b"f", b"k", b"l", b"y"].map(|end| end.to_vec());
        for range in all_ranges(&ends) {
            for direction in [Direction::Forward, Direction::Reverse] {
                let expected = expected_scan(&within, &range, direction, Seqno(5));
                assert_eq!(run_scan(&table, &range, direction, Seqno(5)).unwrap(), expected, "{range:?}");
            }
        }
        assert_eq!(table.verify().unwrap().entries, meta.entries, "verify sees the whole file");
    }
}

#[test]
fn a_global_seqno_takes_the_place_of_every_other() {
    let kit = Kit::plain();
    let entries = [(key(b"a"), put(5, "new")), (key(b"a"), put(2, "old")), (key(b"b"), put(0, "b"))];
    let meta = kit.write(0, &entries);
    let table = kit.open_with(&meta, 0, meta.bounds(), Some(Seqno(70))).unwrap();
    let shown = vec![(key(b"a"), put(70, "new")), (key(b"b"), put(70, "b"))];
    assert_eq!(table.get(b"a", Seqno(69)).unwrap(), None);
    assert_eq!(table.get(b"a", Seqno(70)).unwrap(), Some(shown[0].1.clone()));
    assert_eq!(walk(&table).unwrap(), shown);
    for direction in [Direction::Forward, Direction::Reverse] {
        let scan = |seqno| run_scan(&table, &KeyRange::all(), direction, Seqno(seqno)).unwrap();
        assert_eq!(scan(69), []);
        assert_eq!(scan(70), expected_scan(&shown, &KeyRange::all(), direction, Seqno(70)));
    }
    table.verify().unwrap();
}

#[test]
fn large_values_are_views_of_their_block() {
    let kit = Kit::plain();
    let meta = kit.write(8 << 10, &[(key(b"a"), put(1, vec![7; 256])), (key(b"b"), put(2, "other"))]);
    let table = kit.open(&meta).unwrap();
    let block = table.plan_get(b"a", KeyHash::of(b"a"), Seqno::MAX).unwrap();
    let loaded = load_blocks(std::slice::from_ref(&block), Access::Point, Wait::Always);
    let content = loaded.unwrap().unwrap().pop().unwrap();
    let first = block.resolve(&content, b"a", Seqno::MAX).unwrap();
    let again = block.resolve(&content, b"a", Seqno::MAX).unwrap();
    assert_eq!(first.found.entry.value.as_ptr(), again.found.entry.value.as_ptr());
}

#[test]
fn a_sealed_table_shows_no_user_byte() {
    let kit = Kit::new(Arc::new(Toy { header_bytes: 10 }));
    let meta =
        kit.write(64, &[(key(b"canary-key"), put(1, "canary-value")), (key(b"canary-last"), delete(2))]);
    let bytes =
        std::fs::OpenOptions::new().read(true).open(kit.path(&meta)).map(std::io::Read::bytes).unwrap();
    let bytes: Vec<u8> = bytes.collect::<std::io::Result<_>>().unwrap();
    assert!(!bytes.windows(6).any(|window| window == b"canary"));
    let table = kit.open(&meta).unwrap();
    assert!(!format!("{table:?} {meta:?}").contains("canary"));
}

#[test]
fn an_older_version_in_the_next_block_is_passed_over_wherever_blocks_end() {
    let kit = Kit::plain();
    let entries = [("a", 1), ("b", 9), ("b", 5), ("c", 1), ("d", 7), ("d", 3)];
    let entries = entries.map(|(name, seqno)| (key(name.as_bytes()), put(seqno, "value")));
    for block_bytes in 0..150 {
        let table = kit.open(&kit.write(block_bytes, &entries)).unwrap();
        for direction in [Direction::Forward, Direction::Reverse] {
            for seqno in [4, 6, 9].map(Seqno) {
                let expected = expected_scan(&entries, &KeyRange::all(), direction, seqno);
                assert_eq!(run_scan(&table, &KeyRange::all(), direction, seqno).unwrap(), expected);
            }
        }
    }
}
