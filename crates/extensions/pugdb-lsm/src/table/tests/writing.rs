//! What a writer refuses, and what is left when it fails.

use std::io;
use std::path::Path;

use pugdb_core::ErrorKind;
use pugdb_core::env::os::OsFileSystem;
use pugdb_core::env::{Access, File, FileLock, FileSystem};

use super::*;

fn add(writer: &mut TableWriter, key: &[u8], found: &Found) -> Result<()> {
    writer.add(found.seqno, &found.entry.raw(key))
}

fn files(kit: &Kit) -> Vec<String> {
    kit.context.env.fs.list(&kit.context.table_dir()).unwrap()
}

#[test]
fn entries_out_of_order_are_refused_and_the_file_is_removed() {
    let cases = [[(b"b", 1), (b"a", 2)], [(b"a", 1), (b"a", 2)], [(b"a", 1), (b"a", 1)]];
    for [(first, first_seqno), (second, second_seqno)] in cases {
        let kit = Kit::plain();
        let mut writer = TableWriter::create(&kit.context, KEYSPACE, TableOptions::default()).unwrap();
        add(&mut writer, first, &put(first_seqno, "")).unwrap();
        let error = add(&mut writer, second, &put(second_seqno, "")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert_eq!(files(&kit).len(), 1);
        assert_eq!(
            writer.finish().err().unwrap().kind(),
            ErrorKind::Internal,
            "it cannot be finished any more"
        );
        assert_eq!(files(&kit), [""; 0]);
    }
}

#[test]
fn an_empty_and_an_abandoned_table_leave_no_file() {
    let kit = Kit::plain();
    let create = || TableWriter::create(&kit.context, KEYSPACE, TableOptions::default()).unwrap();
    assert_eq!(create().finish().err().unwrap().kind(), ErrorKind::Internal);
    let mut writer = create();
    add(&mut writer, b"a", &put(1, vec![0; 1 << 20])).unwrap();
    writer.abandon();
    drop(create());
    assert_eq!(files(&kit), [""; 0]);
}

#[test]
fn names_of_tables_are_read_back() {
    let kit = Kit::plain();
    let meta = kit.write(0, &[(key(b"a"), put(1, ""))]);
    assert_eq!(files(&kit), [file_name(meta.id)]);
    assert_eq!(parse_file_name(&file_name(meta.id)), Some(meta.id));
    assert_eq!(["", "LOCK", ".table", "12.table"].map(parse_file_name), [None; 4]);
}

/// A file system whose disk is full after some bytes of each file.
struct SmallDisk(u64);

struct SmallFile(Arc<dyn File>, u64);

impl FileSystem for SmallDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(SmallFile(OsFileSystem.create(path)?, self.0)))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        OsFileSystem.open(path, access)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsFileSystem.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsFileSystem.link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        OsFileSystem.remove(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        OsFileSystem.remove_dir(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        OsFileSystem.create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        OsFileSystem.sync_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        OsFileSystem.list(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        OsFileSystem.lock(path)
    }
}

impl File for SmallFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if offset + bytes.len() as u64 > self.1 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.write_at(bytes, offset)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.0.allocate(length)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.0.truncate(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }
}

#[test]
fn a_full_disk_says_so_and_leaves_no_file() {
    let mut outcomes = Vec::new();
    for disk_bytes in [0, 100, 300 << 10, 1 << 30] {
        let mut kit = Kit::plain();
        kit.context.env.fs = Arc::new(SmallDisk(disk_bytes));
        let mut writer = TableWriter::create(&kit.context, KEYSPACE, TableOptions::default()).unwrap();
        let added: Result<()> =
            (0..100_u32).try_for_each(|name| add(&mut writer, &name.to_be_bytes(), &put(1, vec![0; 5000])));
        match added.and_then(|()| writer.finish()).and_then(|written| WrittenTable::sync(vec![written])) {
            Ok(_) => assert_eq!(files(&kit).len(), 1),
            Err(error) => assert!(error.is_disk_full() && files(&kit).is_empty(), "{error}"),
        }
        outcomes.push(files(&kit).len());
    }
    assert_eq!(outcomes, [0, 0, 0, 1]);
}
