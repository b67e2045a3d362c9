//! The disk must be believed: what each fate leaves, what a failed sync does, what a full disk refuses.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use pugdb_core::env::{Access, File};

use super::{ContentFate, NameFate};
use crate::{CallKind, World};

fn create(world: &World, path: &str) -> Arc<dyn File> {
    world.env().fs.create(Path::new(path)).unwrap()
}

fn open(world: &World, path: &str) -> Arc<dyn File> {
    world.env().fs.open(Path::new(path), Access::ReadWrite).unwrap()
}

fn sync_dir(world: &World, path: &str) {
    world.env().fs.sync_dir(Path::new(path)).unwrap();
}

fn rename(world: &World, from: &str, to: &str) {
    world.env().fs.rename(Path::new(from), Path::new(to)).unwrap();
}

fn names(world: &World) -> Vec<String> {
    world.files().iter().map(|(path, _)| path.display().to_string()).collect()
}

/// A world with one durable file.
fn with_file(seed: u64, bytes: &[u8]) -> World {
    let world = World::new(seed);
    world.write_file("file", bytes).unwrap();
    world
}

#[test]
fn unsynced_content_is_lost_and_synced_content_stays() {
    let world = World::new(1);
    let file = create(&world, "file");
    sync_dir(&world, "");
    file.write_at(&[1; 1000], 0).unwrap();
    file.sync_data().unwrap();
    file.write_at(&[2; 1000], 500).unwrap();
    assert_eq!(world.read_file("file").unwrap()[499..501], [1, 2]);

    let lost = world.power_cut_as(ContentFate::Lost, NameFate::Lost);
    assert_eq!(lost.read_file("file").unwrap(), [1; 1000]);
    let kept = world.power_cut_as(ContentFate::Kept, NameFate::Lost);
    assert_eq!(kept.read_file("file").unwrap(), [[1; 500], [2; 500], [2; 500]].concat());
    for seed in 0..100 {
        let world = with_file(seed, &[7; 3000]);
        open(&world, "file").sync_data().unwrap();
        assert_eq!(world.power_cut().read_file("file").unwrap(), [7; 3000], "seed {seed}");
    }
}

#[test]
fn a_name_is_lost_without_a_sync_of_its_directory() {
    let world = World::new(1);
    world.env().fs.create_dir_all(Path::new("/db/log")).unwrap();
    let file = create(&world, "/db/log/1");
    file.write_at(b"pug", 0).unwrap();
    file.sync_data().unwrap();
    let survivors = |world: &World| names(&world.power_cut_as(ContentFate::Kept, NameFate::Lost));
    sync_dir(&world, "db/log");
    sync_dir(&world, "db");
    assert_eq!(survivors(&world), Vec::<String>::new(), "the root does not know db");
    let world = world.kill();
    sync_dir(&world, "");
    assert_eq!(survivors(&world), ["db/log/1"]);
}

#[test]
fn what_was_removed_can_come_back_until_the_directory_is_synced() {
    let world = with_file(1, b"pug");
    let held = open(&world, "file");
    world.env().fs.remove(Path::new("file")).unwrap();
    let mut buffer = [0; 3];
    held.read_exact_at(&mut buffer, 0).unwrap();
    assert_eq!(&buffer, b"pug", "an open handle keeps a removed file alive");
    drop(held);
    assert_eq!(names(&world), Vec::<String>::new());

    let world = world.kill();
    let back = world.power_cut_as(ContentFate::Lost, NameFate::Lost);
    assert_eq!(back.read_file("file").unwrap(), b"pug");
    assert_eq!(back.used(), 3);
    back.env().fs.remove(Path::new("file")).unwrap();
    sync_dir(&back, "");
    assert_eq!(names(&back.power_cut_as(ContentFate::Lost, NameFate::Lost)), Vec::<String>::new());
}

#[test]
fn a_renamed_file_never_loses_both_names() {
    let mut seen = BTreeSet::new();
    for seed in 0..400 {
        let world = World::new(seed);
        world.write_file("old", b"old").unwrap();
        world.write_file("new", b"new").unwrap();
        rename(&world, "new", "old");
        // The freed name is taken at once, which must not push the renamed file out.
        create(&world, "new").write_at(b"x", 0).unwrap();
        let after = world.power_cut_as(ContentFate::Lost, NameFate::Subset);
        let contents: Vec<_> = names(&after).iter().map(|name| after.read_file(name).unwrap()).collect();
        assert!(contents.iter().any(|content| content == b"new"), "seed {seed}: {contents:?}");
        assert!(names(&after).contains(&"old".to_owned()), "seed {seed}: a replaced name is never free");
        seen.insert(contents);
    }
    // old: old or new; new: new, empty or nothing.
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn a_linked_file_lives_as_long_as_one_of_its_names_and_takes_its_space_once() {
    let world = with_file(1, b"pug");
    let fs = world.env().fs;
    fs.create_dir_all(Path::new("copy")).unwrap();
    sync_dir(&world, "");
    fs.link(Path::new("file"), Path::new("copy/file")).unwrap();
    let exists = fs.link(Path::new("file"), Path::new("copy/file")).unwrap_err();
    assert_eq!(exists.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs.link(Path::new("gone"), Path::new("copy/x")).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(world.used(), 3);
    let cut = |world: &World| names(&world.power_cut_as(ContentFate::Lost, NameFate::Lost));
    assert_eq!(cut(&world), ["file"], "the second name is not durable yet");
    let world = world.kill();
    let fs = world.env().fs;
    sync_dir(&world, "copy");
    fs.remove(Path::new("file")).unwrap();
    sync_dir(&world, "");
    let after = world.power_cut_as(ContentFate::Lost, NameFate::Lost);
    assert_eq!((names(&after), after.used()), (vec!["copy/file".to_owned()], 3));
    assert_eq!(after.read_file("copy/file").unwrap(), b"pug");
    after.env().fs.remove(Path::new("copy/file")).unwrap();
    assert_eq!(after.used(), 0);
}

#[test]
fn a_directory_is_renamed_with_all_it_holds_and_never_has_two_names() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let world = World::new(seed);
        world.write_file("old/file", b"pug").unwrap();
        world.write_file("taken", b"").unwrap();
        let fs = world.env().fs;
        assert!(fs.rename(Path::new("old"), Path::new("taken")).is_err());
        rename(&world, "old", "new");
        assert_eq!(names(&world), ["new/file", "taken"]);
        seen.insert(names(&world.power_cut_as(ContentFate::Lost, NameFate::Subset)));
    }
    let name = |dir: &str| vec![format!("{dir}/file"), "taken".to_owned()];
    assert_eq!(seen, BTreeSet::from([name("old"), name("new")]));
}

#[test]
fn only_an_empty_directory_is_removed() {
    let world = World::new(1);
    let fs = world.env().fs;
    world.write_file("dir/file", b"pug").unwrap();
    assert_eq!(fs.remove_dir(Path::new("dir")).unwrap_err().kind(), io::ErrorKind::DirectoryNotEmpty);
    fs.remove(Path::new("dir/file")).unwrap();
    fs.remove_dir(Path::new("dir")).unwrap();
    assert_eq!(fs.list(Path::new("dir")).unwrap_err().kind(), io::ErrorKind::NotFound);
    fs.create_dir_all(Path::new("dir")).unwrap();
    assert_eq!(fs.list(Path::new("dir")).unwrap(), Vec::<String>::new());
}

#[test]
fn a_failed_sync_is_not_made_good_by_the_next_one() {
    let world = with_file(1, &[0; 2048]);
    let file = open(&world, "file");
    file.write_at(&[1; 1024], 0).unwrap();
    world.fail_call(world.calls() + 1, io::ErrorKind::Other);
    assert_eq!(file.sync_data().unwrap_err().kind(), io::ErrorKind::Other);
    file.write_at(&[2; 512], 0).unwrap();
    file.sync_data().unwrap();
    let now = [[2; 512], [1; 512], [0; 512], [0; 512]].concat();
    assert_eq!(world.read_file("file").unwrap(), now, "the cache still has it");

    let after = world.power_cut_as(ContentFate::Lost, NameFate::Lost).read_file("file").unwrap();
    assert_eq!(after, [[2; 512], [0; 512], [0; 512], [0; 512]].concat(), "only what was written again");
    let outcomes: BTreeSet<_> = (0..20)
        .map(|_| world.power_cut_as(ContentFate::Kept, NameFate::Lost).read_file("file").unwrap()[512])
        .collect();
    assert_eq!(outcomes, BTreeSet::from([0, 1]), "nobody knows");
}

#[test]
fn a_kill_keeps_the_content_and_not_its_durability() {
    let world = with_file(1, b"old");
    let file = open(&world, "file");
    file.write_at(b"new", 0).unwrap();
    let killed = world.kill();
    assert!(file.write_at(b"bad", 0).is_err(), "the old process is dead");
    assert_eq!(killed.read_file("file").unwrap(), b"new");
    let cut = killed.power_cut_as(ContentFate::Lost, NameFate::Lost);
    assert_eq!(cut.read_file("file").unwrap(), b"old");
    let killed = world.kill();
    open(&killed, "file").sync_data().unwrap();
    let cut = killed.power_cut_as(ContentFate::Lost, NameFate::Lost);
    assert_eq!(cut.read_file("file").unwrap(), b"new");
}

#[test]
fn the_prefix_fate_leaves_a_prefix_and_the_reordered_fate_does_not() {
    let survivors = |fate, seed| {
        let world = with_file(seed, &[0; 4 * 512]);
        let file = open(&world, "file");
        for sector in 0..4 {
            file.write_at(&[1; 512], sector * 512).unwrap();
        }
        let bytes = world.power_cut_as(fate, NameFate::Lost).read_file("file").unwrap();
        bytes.chunks(512).map(|sector| sector[0]).collect::<Vec<_>>()
    };
    let prefixes: BTreeSet<_> = (0..200).map(|seed| survivors(ContentFate::Prefix, seed)).collect();
    let expected = [[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]];
    assert_eq!(prefixes, expected.map(|sectors| sectors.to_vec()).into());
    let subsets: BTreeSet<_> = (0..400).map(|seed| survivors(ContentFate::Reordered, seed)).collect();
    assert_eq!(subsets.len(), 16);
}

#[test]
fn a_prefix_is_one_moment_for_content_and_names() {
    for seed in 0..200 {
        let world = World::new(seed);
        create(&world, "a").write_at(&[1; 512], 0).unwrap();
        create(&world, "b").write_at(&[1; 512], 0).unwrap();
        let after = world.power_cut_as(ContentFate::Prefix, NameFate::Prefix);
        if names(&after).contains(&"b".to_owned()) {
            assert_eq!(after.read_file("a").unwrap(), [1; 512], "seed {seed}");
        }
    }
}

#[test]
fn sectors_tear_and_appended_space_can_be_garbage() {
    let (mut torn, mut garbage, mut zeros) = (0, 0, 0);
    for seed in 0..200 {
        let world = with_file(seed, &[1; 700]);
        open(&world, "file").write_at(&[2; 1500], 0).unwrap();
        let after = world.power_cut_as(ContentFate::Torn, NameFate::Lost).read_file("file").unwrap();
        let first = &after[..512];
        torn += u32::from(first.contains(&1) && first.contains(&2));
        assert!(after.len() >= 700 && after.len() <= 1500);

        let after = world.power_cut_as(ContentFate::Unwritten, NameFate::Lost).read_file("file").unwrap();
        assert_eq!((&after[..700], after.len()), (&[1; 700][..], 1500), "seed {seed}");
        let new = &after[1024..];
        zeros += u32::from(new.iter().all(|byte| *byte == 0));
        garbage += u32::from(new.iter().any(|byte| !matches!(byte, 0..=2)));
    }
    assert!(torn > 20 && garbage > 20 && zeros > 20, "{torn} {garbage} {zeros}");
}

#[test]
fn every_fate_is_drawn() {
    let world = World::new(1);
    let fates: Vec<_> = (0..300).map(|_| world.power_cut().fate().unwrap()).collect();
    for content in ContentFate::ALL {
        for names in NameFate::ALL {
            assert!(fates.contains(&(content, names)), "{content:?} {names:?}");
        }
    }
}

#[test]
fn a_length_that_was_lost_leaves_zeros_behind_it() {
    let world = World::new(1);
    let file = create(&world, "file");
    sync_dir(&world, "");
    file.write_at(&[1; 100], 0).unwrap();
    file.sync_data().unwrap();
    file.write_at(&[2; 1000], 100).unwrap();
    let world = world.power_cut_as(ContentFate::Lost, NameFate::Lost);
    let file = open(&world, "file");
    file.allocate(2000).unwrap();
    assert_eq!(world.read_file("file").unwrap(), [vec![1; 100], vec![0; 1900]].concat());
    file.sync_data().unwrap();
    let world = world.power_cut();
    assert_eq!(world.files()[0].1, 2000);
}

#[test]
fn content_without_its_length_never_comes_to_light() {
    for seed in 0..50 {
        let world = with_file(seed, &[1; 100]);
        open(&world, "file").write_at(&[2; 1000], 100).unwrap();
        let world = world.power_cut_as(ContentFate::Reordered, NameFate::Lost);
        let length = world.read_file("file").unwrap().len();
        open(&world, "file").allocate(2000).unwrap();
        assert!(world.read_file("file").unwrap()[length..].iter().all(|byte| *byte == 0), "seed {seed}");
    }
}

#[test]
fn the_space_of_a_removed_file_is_free_once_its_process_is_dead() {
    let world = with_file(1, b"pug");
    let held = open(&world, "file");
    let next = world.kill();
    next.env().fs.remove(Path::new("file")).unwrap();
    assert_eq!(next.used(), 0, "a dead process holds nothing");

    let world = with_file(1, b"pug");
    let held_too = open(&world, "file");
    world.env().fs.remove(Path::new("file")).unwrap();
    assert_eq!((world.used(), world.kill().used()), (3, 0));
    drop((held, held_too));
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let world = World::new(1);
    world.set_capacity(Some(1000));
    let file = create(&world, "a");
    file.allocate(800).unwrap();
    let refused = |result: io::Result<()>| {
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
    };
    let other = create(&world, "b");
    refused(other.allocate(201));
    refused(other.write_at(&[1; 300], 0));
    assert!(world.used() <= 1000);
    file.write_at(&[1; 800], 0).unwrap();
    other.allocate(200).unwrap();
    refused(world.env().fs.create(Path::new("c")).map(drop));

    world.env().fs.remove(Path::new("a")).unwrap();
    assert_eq!(world.used(), 1000, "the open handle needs the space");
    drop(file);
    assert_eq!(world.used(), 200);
    create(&world, "c").allocate(800).unwrap();
    world.set_capacity(None);
    create(&world, "d").allocate(1 << 30).unwrap();
}

#[test]
fn a_failing_write_can_leave_a_part() {
    let lengths: BTreeSet<_> = (0..50)
        .map(|seed| {
            let world = World::new(seed);
            let file = create(&world, "file");
            world.fail_when(|kind, path| {
                (kind == CallKind::Write && path == Path::new("file")).then_some(io::ErrorKind::Other)
            });
            file.write_at(&[1; 3], 0).unwrap_err();
            world.heal();
            file.write_at(&[], 0).unwrap();
            world.files()[0].1
        })
        .collect();
    assert_eq!(lengths, BTreeSet::from([0, 1, 2, 3]));
}

#[test]
fn a_lying_disk_makes_nothing_durable() {
    let world = World::new(1);
    world.ignore_syncs(|kind, _| kind == CallKind::SyncData);
    let file = create(&world, "file");
    sync_dir(&world, "/");
    file.write_at(b"pug", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(world.power_cut_as(ContentFate::Lost, NameFate::Lost).files()[0].1, 0);

    let world = World::new(1);
    world.ignore_syncs(|kind, _| kind == CallKind::SyncDir);
    create(&world, "file").sync_data().unwrap();
    sync_dir(&world, "");
    assert!(world.power_cut_as(ContentFate::Lost, NameFate::Lost).files().is_empty());
}

#[test]
fn a_lock_names_its_holder_and_ends_with_the_process() {
    let world = World::new(1);
    let fs = world.env().fs;
    let held = fs.lock(Path::new("LOCK")).unwrap();
    let error = fs.lock(Path::new("LOCK")).err().unwrap();
    assert_eq!((error.kind(), error.to_string().as_str()), (io::ErrorKind::WouldBlock, "1000"));
    drop(held);
    let held = fs.lock(Path::new("LOCK")).unwrap();
    let next = world.kill();
    assert!(next.env().fs.lock(Path::new("LOCK")).is_ok());
    assert_eq!(next.read_file("LOCK").unwrap(), b"1001");
    drop(held);
}

#[test]
fn damage_and_repair_behind_the_programs_back_are_durable() {
    let world = World::new(1);
    world.write_file("db/file", b"pug").unwrap();
    world.flip_bit("/db/file", 1, 0).unwrap();
    assert_eq!(world.read_file("db/file").unwrap(), b"ptg");
    assert!(world.flip_bit("db/file", 3, 0).is_err());
    world.truncate_file("db/file", 2).unwrap();
    let world = world.power_cut_as(ContentFate::Lost, NameFate::Lost);
    assert_eq!(world.read_file("db/file").unwrap(), b"pt");
    world.write_file("db/file", b"x").unwrap();
    let world = world.power_cut_as(ContentFate::Lost, NameFate::Lost);
    assert_eq!(world.read_file("db/file").unwrap(), b"x");
    world.remove_file("db/file").unwrap();
    assert!(world.power_cut().files().is_empty());
}

#[test]
fn the_usual_mistakes_are_errors() {
    let world = with_file(1, b"pug");
    let fs = world.env().fs;
    let kind = |result: io::Result<()>| result.unwrap_err().kind();
    assert_eq!(kind(fs.create(Path::new("file")).map(drop)), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(fs.create(Path::new("no/file")).map(drop)), io::ErrorKind::NotFound);
    assert_eq!(kind(fs.open(Path::new("no"), Access::Read).map(drop)), io::ErrorKind::NotFound);
    assert_eq!(kind(fs.remove(Path::new("no"))), io::ErrorKind::NotFound);
    assert_eq!(kind(fs.sync_dir(Path::new("no"))), io::ErrorKind::NotFound);
    assert_eq!(kind(fs.create_dir_all(Path::new("file/dir"))), io::ErrorKind::NotADirectory);
    assert_eq!(kind(fs.open(Path::new("../file"), Access::Read).map(drop)), io::ErrorKind::InvalidInput);
    let file = fs.open(Path::new("file"), Access::Read).unwrap();
    assert_eq!(kind(file.write_at(b"x", 0)), io::ErrorKind::PermissionDenied);
    assert_eq!(file.read_at(&mut [0; 9], 1).unwrap(), 2);
    assert_eq!(file.read_at(&mut [0; 9], 9).unwrap(), 0);
    assert_eq!(fs.list(Path::new("/")).unwrap(), ["file"]);
}

/// The disk against a plain vector, with random reads and writes of any shape.
#[test]
fn bytes_read_are_the_bytes_written() {
    let mut rng = fastrand::Rng::with_seed(1);
    let world = World::new(1);
    let file = create(&world, "file");
    let mut model = Vec::new();
    for _ in 0..2000 {
        let (offset, length) = (rng.usize(0..5000), rng.usize(0..1500));
        if rng.bool() {
            let bytes = vec![rng.u8(..); length];
            file.write_at(&bytes, offset as u64).unwrap();
            if length > 0 {
                model.resize(model.len().max(offset + length), 0);
                model[offset..offset + length].copy_from_slice(&bytes);
            }
        } else {
            let mut buffer = vec![9; length];
            let count = file.read_at(&mut buffer, offset as u64).unwrap();
            let expected = &model[offset.min(model.len())..(offset + length).min(model.len())];
            assert_eq!(&buffer[..count], expected);
        }
        if rng.u8(..) < 8 {
            file.sync_data().unwrap();
        }
    }
    assert_eq!(world.read_file("file").unwrap(), model);
}
