//! What the cipher accepts, and each misuse and damage that it refuses.

use super::*;
use pugdb_core::seam::FileKind;
use pugdb_core::{DatabaseId, ErrorKind, FileId};

struct Seeded(Mutex<fastrand::Rng>);

impl Random for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().fill(bytes);
    }
}

const A: KeyspaceId = KeyspaceId(1);
const B: KeyspaceId = KeyspaceId(2);
const LOG: FileContext =
    FileContext { database: DatabaseId([1; 16]), file: FileId([2; 16]), kind: FileKind::Log, keyspace: None };
const TABLE: FileContext = FileContext { kind: FileKind::Table, keyspace: Some(A), ..LOG };

fn cipher(root: u64) -> TestCipher {
    TestCipher::new(root, Arc::new(Seeded(Mutex::new(fastrand::Rng::with_seed(root)))))
}

fn seal(file: &dyn FileCipher, scope: Scope, position: u64) -> Result<Vec<u8>> {
    let mut data = b"head: a piece of plaintext".to_vec();
    file.seal(scope, position, b"associated", &mut data, 6)?;
    Ok(data.split_off(6))
}

fn open(file: &dyn FileCipher, scope: Scope, position: u64, sealed: &[u8]) -> Result<Vec<u8>> {
    let mut sealed = sealed.to_vec();
    let length = file.open(scope, position, b"associated", &mut sealed)?;
    sealed.truncate(length);
    Ok(sealed)
}

fn kind<T>(result: Result<T>) -> ErrorKind {
    result.err().map(|error| error.kind()).unwrap()
}

#[test]
fn what_was_sealed_opens_in_the_writer_and_in_a_reader() {
    let cipher = cipher(7);
    let (header, writer) = cipher.create(&LOG).unwrap();
    let introduction = writer.introduce(A).unwrap();
    let framing = seal(&*writer, Scope::Database, 0).unwrap();
    let section = seal(&*writer, Scope::Keyspace(A), 0).unwrap();
    assert!(!framing.windows(5).any(|window| window == b"plain"));
    let reader = cipher.open(&LOG, &header).unwrap();
    reader.accept(A, &introduction).unwrap();
    reader.accept(A, &introduction).unwrap();
    for file in [writer, reader] {
        assert_eq!(open(&*file, Scope::Database, 0, &framing).unwrap(), b"a piece of plaintext");
        assert_eq!(open(&*file, Scope::Keyspace(A), 0, &section).unwrap(), b"a piece of plaintext");
    }
    assert_eq!((cipher.seals(), cipher.opens()), (2, 4));
}

#[test]
fn every_length_round_trips() {
    let (_, file) = cipher(7).create(&LOG).unwrap();
    for length in 0..40_u8 {
        let plain: Vec<u8> = (0..length).collect();
        let mut data = plain.clone();
        file.seal(Scope::Database, length.into(), &plain, &mut data, 0).unwrap();
        assert_eq!(data.len(), plain.len() + file.tag_bytes());
        let opened = file.open(Scope::Database, length.into(), &plain, &mut data).unwrap();
        assert_eq!(data[..opened], plain);
    }
}

#[test]
fn a_position_is_sealed_once_and_a_reopened_file_seals_nothing() {
    let cipher = cipher(7);
    let (header, writer) = cipher.create(&LOG).unwrap();
    writer.introduce(A).unwrap();
    seal(&*writer, Scope::Database, 5).unwrap();
    seal(&*writer, Scope::Keyspace(A), 5).unwrap();
    let error = seal(&*writer, Scope::Database, 5).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.to_string().contains("sealed twice"), "{error}");
    let reader = cipher.open(&LOG, &header).unwrap();
    assert_eq!(kind(seal(&*reader, Scope::Database, 6)), ErrorKind::Internal);
    assert_eq!(kind(reader.introduce(B)), ErrorKind::Internal);
}

#[test]
fn a_moved_or_damaged_piece_is_corrupt_and_wiped() {
    let cipher = cipher(7);
    let (header, writer) = cipher.create(&LOG).unwrap();
    let sealed = seal(&*writer, Scope::Database, 5).unwrap();
    for bit in 0..sealed.len() * 8 {
        let mut damaged = sealed.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(kind(writer.open(Scope::Database, 5, b"associated", &mut damaged)), ErrorKind::Corrupt);
        assert!(damaged.iter().all(|&byte| byte == 0));
    }
    assert_eq!(kind(open(&*writer, Scope::Database, 6, &sealed)), ErrorKind::Corrupt);
    assert_eq!(kind(writer.open(Scope::Database, 5, b"another", &mut sealed.clone())), ErrorKind::Corrupt);
    assert_eq!(kind(open(&*writer, Scope::Database, 5, &sealed[1..])), ErrorKind::Corrupt);
    assert_eq!(kind(open(&*writer, Scope::Database, 5, &[1; 15])), ErrorKind::Corrupt);
    // The same header and piece under another file's name.
    let elsewhere = [
        FileContext { database: DatabaseId([9; 16]), ..LOG },
        FileContext { file: FileId([9; 16]), ..LOG },
        FileContext { kind: FileKind::Manifest, ..LOG },
        FileContext { keyspace: Some(A), ..LOG },
    ];
    for context in elsewhere {
        assert_eq!(kind(cipher.open(&context, &header)), ErrorKind::Corrupt);
    }
    let (_, other) = cipher.create(&FileContext { file: FileId([9; 16]), ..LOG }).unwrap();
    assert_eq!(kind(open(&*other, Scope::Database, 5, &sealed)), ErrorKind::Corrupt);
}

#[test]
fn a_section_needs_its_introduction() {
    let cipher = cipher(7);
    let (header, writer) = cipher.create(&LOG).unwrap();
    assert_eq!(kind(seal(&*writer, Scope::Keyspace(A), 0)), ErrorKind::Internal);
    let introduction = writer.introduce(A).unwrap();
    assert_eq!(kind(writer.introduce(A)), ErrorKind::Internal);
    let sealed = seal(&*writer, Scope::Keyspace(A), 0).unwrap();
    let reader = cipher.open(&LOG, &header).unwrap();
    assert_eq!(kind(open(&*reader, Scope::Keyspace(A), 0, &sealed)), ErrorKind::Corrupt);
    assert_eq!(kind(reader.accept(B, &introduction)), ErrorKind::Corrupt);
    assert_eq!(kind(reader.accept(A, &introduction[1..])), ErrorKind::Corrupt);
    reader.accept(A, &introduction).unwrap();
    open(&*reader, Scope::Keyspace(A), 0, &sealed).unwrap();
    // The introduction of another life of the same file does not replace the one that is known.
    let (_, again) = cipher.create(&LOG).unwrap();
    assert_eq!(kind(reader.accept(A, &again.introduce(A).unwrap())), ErrorKind::Corrupt);
    open(&*reader, Scope::Keyspace(A), 0, &sealed).unwrap();
}

#[test]
fn one_keyspaces_key_never_opens_anothers_section() {
    let cipher = cipher(7);
    let (_, log) = cipher.create(&LOG).unwrap();
    log.introduce(A).unwrap();
    log.introduce(B).unwrap();
    let sealed = seal(&*log, Scope::Keyspace(B), 0).unwrap();
    assert_eq!(kind(open(&*log, Scope::Keyspace(A), 0, &sealed)), ErrorKind::Corrupt);
    assert_eq!(kind(open(&*log, Scope::Database, 0, &sealed)), ErrorKind::Corrupt);
    open(&*log, Scope::Keyspace(B), 0, &sealed).unwrap();
}

#[test]
fn a_table_knows_its_own_keyspace_and_no_other() {
    let cipher = cipher(7);
    let (header, writer) = cipher.create(&TABLE).unwrap();
    let block = seal(&*writer, Scope::Keyspace(A), 0).unwrap();
    let index = seal(&*writer, Scope::Database, 0).unwrap();
    assert_eq!(kind(seal(&*writer, Scope::Keyspace(B), 0)), ErrorKind::Internal);
    assert_eq!(kind(writer.introduce(B)), ErrorKind::Internal);
    let reader = cipher.open(&TABLE, &header).unwrap();
    open(&*reader, Scope::Keyspace(A), 0, &block).unwrap();
    open(&*reader, Scope::Database, 0, &index).unwrap();
    assert_eq!(kind(open(&*reader, Scope::Keyspace(B), 0, &block)), ErrorKind::Corrupt);
}

#[test]
fn a_destroyed_key_takes_everything_with_it_and_nothing_else() {
    let cipher = cipher(7);
    let (log_header, log) = cipher.create(&LOG).unwrap();
    let (table_header, _) = cipher.create(&TABLE).unwrap();
    let introductions = [log.introduce(A).unwrap(), log.introduce(B).unwrap()];
    cipher.destroy_keyspace(A);
    let reader = cipher.open(&LOG, &log_header).unwrap();
    assert_eq!(kind(reader.accept(A, &introductions[0])), ErrorKind::Erased);
    reader.accept(B, &introductions[1]).unwrap();
    assert_eq!(kind(cipher.open(&TABLE, &table_header)), ErrorKind::Erased);
    assert_eq!(kind(cipher.create(&TABLE)), ErrorKind::Erased);
}

#[test]
fn a_wrong_root_is_denied_and_a_damaged_header_is_corrupt() {
    let (header, _) = cipher(7).create(&LOG).unwrap();
    let error = cipher(8).open(&LOG, &header).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.to_string().contains("wrong key"), "{error}");
    for bit in 0..header.len() * 8 {
        let mut damaged = header.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(kind(cipher(7).open(&LOG, &damaged)), ErrorKind::Corrupt);
    }
    for end in 0..header.len() {
        assert_eq!(kind(cipher(7).open(&LOG, &header[..end])), ErrorKind::Corrupt);
    }
}

#[test]
fn headers_differ_in_length_and_two_files_share_no_keystream() {
    let cipher = cipher(7);
    let files: Vec<_> = (0..20).map(|_| cipher.create(&LOG).unwrap()).collect();
    let lengths: BTreeSet<_> = files.iter().map(|(header, _)| header.len()).collect();
    assert!(lengths.len() > 5, "{lengths:?}");
    let pieces: BTreeSet<_> =
        files.iter().map(|(_, file)| seal(&**file, Scope::Database, 0).unwrap()).collect();
    assert_eq!(pieces.len(), files.len());
}
