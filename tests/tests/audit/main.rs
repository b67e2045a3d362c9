//! The audit log: that it has what it should, through crashes and on disks that fail, and that whoever changes it is found out: by the chain, or by a
//! second place where a chain alone cannot.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod attacks;
mod events;
mod faults;
mod keep;

use std::path::PathBuf;

use pugdb::audit::{AuditLog, AuditOptions, AuditReport, OnFailure, Record};
use pugdb::keys::KeyFile;
use pugdb::{Builder, Database, Result};
use pugdb_sim::World;

/// How a failing test is replayed.
const TARGET: &str = "-p pugdb-tests --test audit";
const DIR: &str = "db";
const FOLDER: &str = "db/audit";
const COPY: &str = "elsewhere/checkpoints";

fn plain(world: &World) -> Builder {
    Database::builder()
        .env(world.env())
        .memory_bytes(1 << 20)
        .memtable_bytes(4 << 10)
        .log_segment_bytes(8 << 10)
}

fn encrypted(world: &World) -> Builder {
    plain(world).root_key(KeyFile::new("keys/root.key"))
}

fn options(on_failure: OnFailure) -> AuditOptions {
    AuditOptions { on_failure, ..AuditOptions::default() }
}

/// Opens an encrypted database with an audit log and a second place.
fn open_with(world: &World, options: AuditOptions) -> Result<Database> {
    let made = world.env().fs.create_dir_all("elsewhere".as_ref());
    assert!(made.is_ok() || world.is_off());
    encrypted(world).audit(options).audit_copy(COPY).open(DIR)
}

fn open(world: &World) -> Result<Database> {
    open_with(world, options(OnFailure::Block))
}

fn log(world: &World) -> AuditLog {
    encrypted(world).audit_log(DIR).unwrap()
}

/// What the second place has.
fn known(world: &World) -> String {
    String::from_utf8_lossy(&world.read_file(COPY).unwrap()).into_owned()
}

/// The log by itself.
fn verify(world: &World) -> Result<AuditReport> {
    encrypted(world).audit_log(DIR)?.verify(None)
}

/// The log against its second place.
fn against(world: &World) -> Result<AuditReport> {
    encrypted(world).audit_log(DIR)?.verify(Some(&known(world)))
}

#[track_caller]
fn is_well(report: &AuditReport) {
    assert_eq!(report.problem, None);
}

fn records(world: &World) -> Vec<Record> {
    let mut records = Vec::new();
    let read = log(world).records(&mut |record| {
        records.push(record.clone());
        Ok(true)
    });
    read.unwrap();
    records
}

/// The segments, in order.
fn segments(world: &World) -> Vec<PathBuf> {
    let paths = world.files().into_iter().map(|(path, _)| path);
    let mut paths: Vec<_> = paths.filter(|path| path.starts_with(FOLDER)).collect();
    paths.sort();
    paths
}

/// Files of a directory, to be put back later.
fn copy_of(world: &World, part: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = world.files().into_iter().map(|(path, _)| path).filter(|path| path.starts_with(part));
    paths.map(|path| (path.clone(), world.read_file(&path).unwrap())).collect()
}

/// Puts a directory back as it was.
fn put_back(world: &World, part: &str, files: &[(PathBuf, Vec<u8>)]) {
    for (path, _) in world.files().into_iter().filter(|(path, _)| path.starts_with(part)) {
        world.remove_file(path).unwrap();
    }
    for (path, bytes) in files {
        world.write_file(path, bytes).unwrap();
    }
}
