//! Prefixes in filters: tables are passed over without a look at index or block, and never one that has a key.

use super::super::tail::Tail;
use super::*;

fn write(kit: &Kit, prefix: PrefixExtractor, filter_bits: u8, keys: &[Vec<u8>]) -> TableMeta {
    let options = TableOptions { filter_bits, prefix, ..TableOptions::default() };
    let mut writer = TableWriter::create(&kit.context, KEYSPACE, options).unwrap();
    for (key, seqno) in keys.iter().zip(1..) {
        let found = if seqno % 3 == 0 { delete(seqno) } else { put(seqno, "value") };
        writer.add(found.seqno, &found.entry.raw(key)).unwrap();
    }
    WrittenTable::sync(vec![writer.finish().unwrap()]).unwrap().remove(0)
}

fn users(numbers: impl Iterator<Item = u32>) -> Vec<Vec<u8>> {
    numbers.flat_map(|number| (0..3).map(move |field| format!("{number:06}/{field}").into_bytes())).collect()
}

#[test]
fn few_absent_prefixes_pass_and_every_one_that_has_a_key_or_a_delete_does() {
    let kit = Kit::plain();
    let keys = users((0..4_000).step_by(2));
    for prefix in [PrefixExtractor::UpTo(b'/'), PrefixExtractor::Length(6)] {
        let meta = write(&kit, prefix, 10, &keys);
        assert_eq!((meta.keys, meta.entries), (6_000, 6_000), "prefixes are no keys");
        let table = kit.open(&meta).unwrap();
        table.verify().unwrap();
        // Room for keys and prefixes: 8,000 of 10 bits in lines of 512.
        let filter = Tail::read(&kit.context, &meta).unwrap().filter;
        assert_eq!(filter.bytes(), 80_000_usize.div_ceil(512) * 64);
        let calls = kit.calls();
        let passes = |number: u32| {
            let range = KeyRange::prefix(format!("{number:06}/").as_bytes());
            table.may_contain_any(&range)
        };
        assert!((0..4_000).step_by(2).all(passes));
        let passed = (1..4_000).step_by(2).filter(|number| passes(*number)).count();
        assert!(passed < 60, "{passed} of 2,000 absent prefixes pass");
        // What is no key does not pass for one because it is a prefix.
        let is_found = |number: &u32| table.may_contain(format!("{number:06}/").as_bytes());
        let passed = (2..3_998).step_by(2).filter(is_found).count();
        assert!(passed < 60, "{passed} of 1,998 prefixes pass for keys");
        assert_eq!(kit.calls(), calls, "nothing is read");
    }
}

#[test]
fn a_table_without_prefixes_or_without_a_filter_is_never_passed_over() {
    let kit = Kit::plain();
    for (prefix, filter_bits) in [(PrefixExtractor::None, 10), (PrefixExtractor::UpTo(b'/'), 0)] {
        let meta = write(&kit, prefix, filter_bits, &users(0..100));
        let table = kit.open(&meta).unwrap();
        table.verify().unwrap();
        assert!((100..200_u32).all(|number| table.may_contain_any(&KeyRange::prefix(&number.to_be_bytes()))));
    }
}

#[test]
fn keys_without_a_prefix_and_ranges_over_several_are_never_passed_over() {
    let kit = Kit::plain();
    let keys: Vec<Vec<u8>> = ["", "a", "ab", "abc/1", "b", "c/"].map(|key| key.as_bytes().to_vec()).into();
    let range = |start: &str, end: &str| KeyRange::from(start.as_bytes()..end.as_bytes());
    for prefix in [PrefixExtractor::UpTo(b'/'), PrefixExtractor::Length(3)] {
        let table = kit.open(&write(&kit, prefix, 20, &keys)).unwrap();
        for found in [
            KeyRange::all(),
            KeyRange::prefix(b""),
            KeyRange::prefix(b"a"),
            range("a", "b"),
            range("abb/", "abd"),
            range("aaa/", "abc/2"),
            KeyRange::from(b"aaa/".as_slice()..),
            KeyRange::from(..b"aaa/".as_slice()),
        ] {
            assert!(table.may_contain_any(&found), "{prefix} {found:?}");
        }
        assert!(!table.may_contain_any(&range("aaa/1", "aaa/2")), "{prefix}");
        assert!(!table.may_contain_any(&KeyRange::prefix(b"aaa/")), "{prefix}");
    }
}
