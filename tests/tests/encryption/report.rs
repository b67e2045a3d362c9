//! `Database::privacy`: every file by keyspace and key, whatever was renewed, erased, split or changed.

use std::path::{Path, PathBuf};

use pugdb::keys::VaultCipher;
use pugdb::privacy::{FileSeal, PrivacyReport};
use pugdb::seam::FileKind;
use pugdb::{Database, EngineKind, KeyspaceId, KeyspaceOptions, Persistence};
use pugdb_core::env::Access;
use pugdb_lsm::file::seal_of;
use pugdb_sim::World;

use super::{DIR, encrypted, fill, open, small};

/// Generation and how many, of the files of this kind and keyspace.
fn told(report: &PrivacyReport, kind: FileKind, keyspace: Option<KeyspaceId>) -> Vec<(Option<u64>, u64)> {
    let groups = report.files.iter().filter(|group| group.kind == kind && group.keyspace == keyspace);
    groups
        .map(|group| match group.seal {
            FileSeal::Sealed(with) => (with.generation, group.files),
            other => panic!("{kind:?} is {other:?}"),
        })
        .collect()
}

fn tables(world: &World) -> Vec<PathBuf> {
    let files = world.files().into_iter().map(|(path, _)| path);
    files.filter(|path| path.extension().is_some_and(|ending| ending == "table")).collect()
}

#[test]
fn each_file_is_told_with_its_keyspace_and_the_generation_of_its_key() {
    let world = World::new(1);
    let db = open(&world).unwrap();
    fill(&db);
    let users = db.existing_keyspace("users").unwrap().unwrap();
    let parts = KeyspaceOptions { engine: Some(EngineKind::Partitioned), ..KeyspaceOptions::default() };
    let parts = db.keyspace_with("parts", parts).unwrap();
    let memory = KeyspaceOptions { engine: Some(EngineKind::Btree), ..KeyspaceOptions::default() };
    db.keyspace_with("memory", memory).unwrap().put(b"k", b"v").unwrap();
    parts.put(b"k", b"v").unwrap();
    db.flush().unwrap();
    let before = db.privacy().unwrap();
    assert!(told(&before, FileKind::Table, Some(users.id())).iter().all(|(number, _)| *number == Some(1)));

    db.keys().unwrap().renew().unwrap();
    users.put([9], [9; 400]).unwrap();
    parts.put(b"l", b"v").unwrap();
    db.flush().unwrap();
    let report = db.privacy().unwrap();
    for kind in [FileKind::Table, FileKind::Values] {
        let told = told(&report, kind, Some(users.id()));
        assert_eq!(
            told.iter().map(|(number, _)| *number).collect::<Vec<_>>(),
            [Some(1), Some(2)],
            "{kind:?}"
        );
    }
    // Partitions have keyspaces of their own, and are told as the keyspace that they are of.
    let of_parts = told(&report, FileKind::Table, Some(parts.id()));
    assert_eq!(of_parts.iter().map(|(_, files)| files).sum::<u64>(), 2);
    let counted: u64 =
        report.files.iter().filter(|group| group.kind == FileKind::Table).map(|group| group.files).sum();
    assert_eq!(counted, tables(&world).len() as u64);
    assert!(
        !told(&report, FileKind::Log, None).is_empty() && !told(&report, FileKind::Manifest, None).is_empty()
    );
    let kept: Vec<_> = report.keyspaces.iter().map(|space| (&*space.name, space.persistence)).collect();
    let (on_disk, in_memory) = (Persistence::Durable, Persistence::Volatile);
    assert_eq!(kept, [("memory", in_memory), ("names", on_disk), ("parts", on_disk), ("users", on_disk)]);
    assert!(!report.is_audited && report.keys.is_some());
    assert_eq!(report.unreadable, [""; 0]);
}

#[test]
fn a_changed_header_is_not_believed_and_named() {
    let world = World::new(2);
    let db = open(&world).unwrap();
    fill(&db);
    let table = tables(&world).remove(0);
    let bytes = world.read_file(&table).unwrap();
    // The id of the key that its own was derived from: behind e, c, layout and algorithm.
    let file = world.env().fs.open(&table, Access::ReadWrite).unwrap();
    file.write_at(&[bytes[62] ^ 1], 62).unwrap();
    let report = db.privacy().unwrap();
    let name = table.file_name().unwrap().to_str().unwrap();
    assert!(report.unreadable.len() == 1 && report.unreadable[0].contains(name), "{:?}", report.unreadable);
}

#[test]
fn a_file_whose_key_was_destroyed_is_told_as_erased() {
    let world = World::new(3);
    let db = open(&world).unwrap();
    fill(&db);
    let env = world.env();
    let table = world.read_file(&tables(&world)[0]).unwrap();
    let copy = env.fs.create(Path::new("copy")).unwrap();
    copy.write_at(&table, 0).unwrap();
    let cipher = VaultCipher::new(db.keys().unwrap());
    let (context, seal) = seal_of(&*copy, &cipher).unwrap();
    assert!(matches!(seal, FileSeal::Sealed(_)));
    for name in ["users", "names"] {
        db.erase_keyspace(name).unwrap().unwrap();
    }
    assert_eq!(seal_of(&*copy, &cipher).unwrap(), (context, FileSeal::Erased));
    assert_eq!(db.privacy().unwrap().keys.unwrap().erased_keyspaces.len(), 2);
}

#[test]
fn a_plain_database_is_plain_and_a_reader_sees_what_the_writer_sees() {
    let world = World::new(4);
    let db = small(&world).open(DIR).unwrap();
    fill(&db);
    let plain = db.privacy().unwrap();
    assert!(plain.files.len() > 3 && plain.files.iter().all(|group| group.seal == FileSeal::Plain));
    assert!(plain.keys.is_none() && Database::in_memory().unwrap().privacy().unwrap().files.is_empty());

    let world = World::new(5);
    let db = open(&world).unwrap();
    fill(&db);
    db.keys().unwrap().hold_subject(b"ada").unwrap();
    let reader = encrypted(&world).open_read_only(DIR).unwrap();
    let (writer, reader) = (db.privacy().unwrap(), reader.privacy().unwrap());
    assert_eq!(writer.files, reader.files);
    assert_eq!((writer.held_subjects, reader.held_subjects, reader.held_keyspaces), (1, 1, 0));
}
