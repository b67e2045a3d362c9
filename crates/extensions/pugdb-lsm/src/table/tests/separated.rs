//! Tables whose values lie in value files: what comes back, in how many reads, and what becomes of damage.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use pugdb_core::seam::Sealing;
use pugdb_core::{ErrorKind, RawOp};

use super::*;
use crate::inspect::{Detail, inspect};
use crate::values::{self, Pointer, Separation, ValueWriter, WrittenValues, load_values};

/// Every second value is apart.
fn write(kit: &Kit, entries: &[(Key, Found)], compression: Compression) -> TableMeta {
    let mut table =
        TableWriter::create(&kit.context, KEYSPACE, TableOptions { block_bytes: 200, ..Default::default() })
            .unwrap();
    let mut values = ValueWriter::create(&kit.context, KEYSPACE, compression, Sealing::Sealed).unwrap();
    for (number, (key, found)) in entries.iter().enumerate() {
        let op = found.entry.raw(key);
        if number.is_multiple_of(2) && op.kind == EntryKind::Put {
            let (offset, bytes) = values.add(key, op.value).unwrap();
            let pointer = Pointer { file: 0, offset, bytes, length: op.value.len() };
            table.add_separated(found.seqno, &op, &values.unfinished(), &pointer).unwrap();
        } else {
            table.add(found.seqno, &op).unwrap();
        }
    }
    finish(values, table)
}

/// Ends both and makes them durable.
fn finish(values: ValueWriter, mut table: TableWriter) -> TableMeta {
    let written = values.finish().unwrap();
    table.finish_value_file(written.meta());
    WrittenValues::sync(vec![written]).unwrap();
    WrittenTable::sync(vec![table.finish().unwrap()]).unwrap().remove(0)
}

fn some() -> Vec<(Key, Found)> {
    let entry = |number: u8| {
        let found = put(u64::from(number) + 1, vec![number; 20 * usize::from(number)]);
        let expires_at = number.is_multiple_of(3).then_some(Timestamp(u64::from(number)));
        (key(&[number]), Found { entry: Entry { expires_at, meta: number % 4, ..found.entry }, ..found })
    };
    (0..40).map(entry).collect()
}

fn values_path(kit: &Kit, meta: &TableMeta) -> PathBuf {
    values::path(&kit.context, meta.values[0].file)
}

fn content(path: &Path) -> Vec<u8> {
    let file = OpenOptions::new().read(true).open(path).unwrap();
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn replace(path: &Path, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).truncate(true).open(path).unwrap();
    file.write_all_at(bytes, 0).unwrap();
}

#[test]
fn values_come_back_one_by_one_all_at_once_and_on_a_walk() {
    for cipher in [Arc::new(Plain) as Arc<dyn Cipher>, Arc::new(Toy { header_bytes: 5 })] {
        let (kit, entries) = (Kit::new(cipher), some());
        let meta = write(&kit, &entries, Compression::Lz4);
        let [used] = meta.values[..] else { unreachable!("there is one value file") };
        assert_eq!(used.bytes, used.record_bytes);
        let table = kit.open_with(&meta, 1 << 20, meta.bounds(), None).unwrap();
        for (key, found) in &entries {
            assert_eq!(table.get(key, Seqno::MAX).unwrap().as_ref(), Some(found));
        }
        let summary = table.verify().unwrap();
        assert_eq!((summary.values, summary.value_bytes), (20, used.bytes));
        assert_eq!(table.verify_new(&|_| false, |_| Access::Spare).unwrap().values, 0);
        // All of them, in any order and some twice, in one call.
        let located = |key: &Key| {
            let looked = table.look(key, KeyHash::of(key), Seqno::MAX, Wait::Never).unwrap().waited();
            looked.unwrap().unwrap().take_value()
        };
        let apart: Vec<&(Key, Found)> = entries.iter().rev().chain(&entries).step_by(2).collect();
        let (refs, right): (Vec<_>, Vec<_>) = apart
            .into_iter()
            .filter_map(|(key, found)| Some((located(key)?, found.entry.value.clone())))
            .unzip();
        assert!(refs.len() >= 20);
        let before = kit.calls();
        assert!(load_values(&refs, Wait::Never).unwrap().is_none(), "nothing is at hand");
        let values = load_values(&refs, Wait::Always).unwrap().unwrap();
        assert_eq!(kit.calls() - before, 2);
        assert!(values.iter().zip(&right).all(|(value, right)| *right == value[..]));
        // What is to move is shown where it was, in few reads.
        let separation = Separation {
            bytes_min: Some(200),
            compression: Compression::None,
            sealing: Sealing::Sealed,
            file_bytes: 0,
            collected: BTreeSet::default(),
        };
        let mut cursor = table.cursor(None).moving(Arc::new(separation));
        let before = kit.calls();
        for (_, found) in &entries {
            assert!(cursor.advance().unwrap());
            let Peek { seqno, op, apart } = cursor.current().unwrap();
            assert_eq!(seqno, found.seqno);
            match apart {
                Some(apart) => assert!(apart.pointer.length >= 200 && op.value.is_empty()),
                None => assert!(found.entry.value == *op.value),
            }
        }
        assert!(!cursor.advance().unwrap() && kit.calls() - before <= 8, "{}", kit.calls() - before);
    }
}

#[test]
fn every_damaged_byte_of_a_value_file_is_an_error_and_verify_finds_it() {
    let (kit, entries) = (Kit::new(Arc::new(Toy { header_bytes: 5 })), some());
    let meta = write(&kit, &entries[..12], Compression::Lz4);
    let path = values_path(&kit, &meta);
    let bytes = content(&path);
    let first = |table: &Table| table.get(&entries[0].0, Seqno::MAX);
    let (sound, mut errors) = (kit.open(&meta).unwrap(), 0);
    assert!(first(&sound).is_ok());
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        replace(&path, &damaged);
        for (key, found) in &entries[..12] {
            match sound.get(key, Seqno::MAX) {
                Ok(read) => assert_eq!(read.as_ref(), Some(found), "byte {at}"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corrupt);
                    assert!(error.to_string().contains("value file"), "{error}");
                    errors += 1;
                }
            }
        }
        assert!(sound.verify().is_err(), "byte {at} of {}", bytes.len());
    }
    assert!(errors > bytes.len() / 2);
    for length in 0..bytes.len() {
        replace(&path, &bytes[..length]);
        assert!(first(&kit.open(&meta).unwrap()).is_err(), "cut at {length}");
    }
    // Also where more than the beginning is there.
    let meta = write(&kit, &entries, Compression::None);
    let path = values_path(&kit, &meta);
    let bytes = content(&path);
    assert!(bytes.len() > 5000 && first(&kit.open(&meta).unwrap()).is_ok());
    kit.context.tables.forget(meta.values[0].file);
    replace(&path, &bytes[..bytes.len() - 1]);
    assert_eq!(first(&kit.open(&meta).unwrap()).unwrap_err().kind(), ErrorKind::Corrupt);
    kit.context.env.fs.remove(&path).unwrap();
    kit.context.tables.forget(meta.values[0].file);
    let table = kit.open(&meta).unwrap();
    assert_eq!(first(&table).unwrap_err().kind(), ErrorKind::Corrupt);
    // The others of the table are at hand.
    assert_eq!(table.get(&entries[1].0, Seqno::MAX).unwrap().as_ref(), Some(&entries[1].1));
}

#[test]
fn a_pointer_to_the_value_of_another_key_is_noticed() {
    let kit = Kit::plain();
    let mut table = TableWriter::create(&kit.context, KEYSPACE, TableOptions::default()).unwrap();
    let mut values = ValueWriter::create(&kit.context, KEYSPACE, Compression::None, Sealing::Sealed).unwrap();
    let place = |(offset, bytes)| Pointer { file: 0, offset, bytes, length: 4 };
    let ada = place(values.add(b"ada", b"1815").unwrap());
    let bob = place(values.add(b"bob", b"1816").unwrap());
    for (name, pointer) in [(b"ada", bob), (b"bob", ada)] {
        table.add_separated(Seqno(1), &RawOp::put(name, b""), &values.unfinished(), &pointer).unwrap();
    }
    let table = kit.open(&finish(values, table)).unwrap();
    for name in [b"ada", b"bob"] {
        let error = table.get(name, Seqno::MAX).unwrap_err();
        assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("another entry"), "{error}");
    }
    assert!(table.verify().is_err());
}

#[test]
fn a_table_is_not_finished_before_its_value_file() {
    let kit = Kit::plain();
    let mut table = TableWriter::create(&kit.context, KEYSPACE, TableOptions::default()).unwrap();
    let mut values = ValueWriter::create(&kit.context, KEYSPACE, Compression::None, Sealing::Sealed).unwrap();
    let (offset, bytes) = values.add(b"ada", b"1815").unwrap();
    let pointer = Pointer { file: 0, offset, bytes, length: 4 };
    table.add_separated(Seqno(1), &RawOp::put(b"ada", b""), &values.unfinished(), &pointer).unwrap();
    assert_eq!(table.finish().err().unwrap().kind(), ErrorKind::Internal);
    drop(values);
    assert!(kit.context.env.fs.list(&kit.context.table_dir()).unwrap().is_empty(), "no file is left");
}

#[test]
fn names_of_value_files_are_read_back() {
    let id = FileId([9; 16]);
    assert_eq!(values::parse_file_name(&values::file_name(id)), Some(id));
    assert_eq!(["", "LOCK", ".values", "12.values", &file_name(id)].map(values::parse_file_name), [None; 5]);
}

#[test]
fn a_value_file_is_shown_and_so_are_pointers_and_damage() {
    let (kit, entries) = (Kit::plain(), some());
    let meta = write(&kit, &entries, Compression::None);
    let (path, env) = (values_path(&kit, &meta), Env::os());
    let show = |path: &Path| {
        let mut parts = Vec::new();
        let shown = inspect(&env, path, &Plain, Detail::Entries, &mut |part| {
            parts.push(part);
            Ok(())
        });
        (shown.unwrap(), parts)
    };
    let (shown, parts) = show(&path);
    assert!(!shown.damaged && parts.iter().filter(|part| part.what == "value").count() == 20);
    let (_, parts) = show(&kit.path(&meta));
    let has = |part: &crate::inspect::Part, name| part.fields.iter().any(|(field, _)| *field == name);
    assert_eq!(parts.iter().filter(|part| has(part, "value_at")).count(), 20);
    let mut bytes = content(&path);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    replace(&path, &bytes);
    let (shown, parts) = show(&path);
    assert!(shown.damaged && parts.iter().filter(|part| part.what == "value").count() == 19);
    assert_eq!(parts.last().unwrap().what, "damage");
    replace(&path, &bytes[..last]);
    assert!(show(&path).0.damaged);
}
