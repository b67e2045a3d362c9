//! Somebody who can write the disk and makes every checksum anew: what is not secret is still not theirs to change.

use std::path::{Path, PathBuf};

use pugdb::{ErrorKind, FileId};
use pugdb_lsm::checksum::Checksum;
use pugdb_sim::World;
use pugdb_tests::hostile::decent;
use xxhash_rust::xxh3::xxh3_64;

use super::{DIR, fill, is_filled, open};

const FRAME: &[u8; 4] = b"PgF1";
const FRAME_HEADER: usize = 32;
/// Where a file's header says how long it is, and where it has the file's id.
const LENGTH_AT: usize = 12;
const ID_AT: usize = 32;

/// The log is still needed.
fn dropped() -> World {
    let world = World::new(1);
    let db = open(&world).unwrap();
    fill(&db);
    drop(db);
    world.kill()
}

pub(super) fn files(world: &World, part: &str) -> Vec<PathBuf> {
    let paths = world.files().into_iter().map(|(path, _)| path);
    paths
        .filter(|path| path.starts_with(Path::new(DIR).join(part)) || path.to_string_lossy().contains(part))
        .collect()
}

pub(super) fn header_length(bytes: &[u8]) -> usize {
    u32::from_le_bytes(bytes[LENGTH_AT..LENGTH_AT + 4].try_into().unwrap()) as usize
}

pub(super) fn checksum(bytes: &[u8]) -> Checksum {
    Checksum::of(FileId(bytes[ID_AT..ID_AT + 16].try_into().unwrap()))
}

/// Changes a bit of a header, and makes the checksum that says it is whole.
fn forge_header(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut forged = bytes.to_vec();
    forged[at] ^= 1;
    let end = header_length(bytes) - 8;
    let sum = checksum(&forged).at(0, &forged[..end]);
    forged[end..end + 8].copy_from_slice(&sum.to_le_bytes());
    forged
}

/// Opens it and reads everything: an error, and none of them a bug.
pub(super) fn is_refused(world: &World, what: &dyn std::fmt::Debug) {
    let outcome = open(world).and_then(|db| {
        let problems = db.verify()?.problems;
        if let Some(problem) = problems.first() {
            return Err(pugdb::Error::corrupt(problem.clone()));
        }
        is_filled(&db);
        Ok(())
    });
    let error = outcome.err().unwrap_or_else(|| panic!("nobody noticed {what:?}"));
    // Version, kind and features say how a header is read, and so how its seal is: they come first.
    let is_refusal = matches!(
        error.kind(),
        ErrorKind::Corrupt | ErrorKind::Denied | ErrorKind::Invalid | ErrorKind::Unsupported
    );
    assert!(is_refusal, "{what:?}: {error}");
    decent(&error);
}

#[test]
fn a_changed_header_under_a_right_checksum_is_noticed_in_every_kind_of_file() {
    let world = dropped();
    for part in ["log", "manifest-", ".table", ".values"] {
        let paths = files(&world, part);
        // The last one is in use, whatever was given up before.
        let path = paths.last().unwrap_or_else(|| panic!("there is no {part}"));
        let bytes = world.read_file(path).unwrap();
        for at in 8..header_length(&bytes) - 8 {
            let copy = world.kill();
            copy.write_file(path, &forge_header(&bytes, at)).unwrap();
            is_refused(&copy, &(path, at));
        }
    }
}

#[test]
fn what_a_frame_states_of_durability_is_bound_to_its_seal() {
    let world = dropped();
    let mut frames = 0;
    for path in files(&world, "log").into_iter().chain(files(&world, "manifest-")) {
        let bytes = world.read_file(&path).unwrap();
        let starts = (0..bytes.len() - FRAME_HEADER).step_by(8).filter(|&at| bytes[at..at + 4] == *FRAME);
        for start in starts {
            let mut forged = bytes.clone();
            forged[start + 12] ^= 8;
            let sum = checksum(&bytes).at(start as u64, &forged[start..start + 24]);
            forged[start + 24..start + 32].copy_from_slice(&sum.to_le_bytes());
            let copy = world.kill();
            copy.write_file(&path, &forged).unwrap();
            is_refused(&copy, &(&path, start));
            frames += 1;
        }
    }
    assert!(frames > 20, "{frames}");
}

/// `CURRENT` with other words, and the checksum that says that it is whole.
fn forge_current(words: &[&str]) -> Vec<u8> {
    let line = words.join(" ");
    format!("{line} {:016x}\n", xxh3_64(line.as_bytes())).into_bytes()
}

#[test]
fn what_names_the_manifest_is_bound_to_the_key_of_the_database() {
    let world = dropped();
    let path = Path::new(DIR).join("CURRENT");
    let text = String::from_utf8(world.read_file(&path).unwrap()).unwrap();
    let words: Vec<&str> = text.trim_end().split(' ').collect();
    let ["pugdb", "1", number, file, durable, tag, _] = words[..] else { panic!("{text}") };
    let earlier = durable.parse::<u64>().unwrap() - 8;
    let flipped = format!("{}{}", if file.starts_with('0') { '1' } else { '0' }, &file[1..]);
    let last = tag.len() - 1;
    let other_tag = format!("{}{}", &tag[..last], if tag.ends_with('0') { '1' } else { '0' });
    let other_key = format!("{}{}", if tag.starts_with('0') { '1' } else { '0' }, &tag[1..]);
    for forged in [
        ["pugdb", "1", number, file, &earlier.to_string(), tag],
        ["pugdb", "1", number, file, "0", tag],
        ["pugdb", "1", number, &flipped, durable, tag],
        ["pugdb", "1", "7", file, durable, tag],
        ["pugdb", "1", number, file, durable, "-"],
        ["pugdb", "1", number, file, durable, &tag[..64]],
        ["pugdb", "1", number, file, durable, &other_tag],
        ["pugdb", "1", number, file, durable, &other_key],
        ["pugdb", "1", number, file, durable, "0"],
        ["pugdb", "1", number, file, durable, "\u{e9}\u{e9}"],
    ] {
        let copy = world.kill();
        copy.write_file(&path, &forge_current(&forged)).unwrap();
        is_refused(&copy, &forged);
    }
    // And what was not forged opens.
    let copy = world.kill();
    copy.write_file(&path, &forge_current(&words[..6])).unwrap();
    is_filled(&open(&copy).unwrap());
}
