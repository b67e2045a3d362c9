//! The directory: may it be written, can it be locked, what is it on, does that turn, is there room.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use pugdb::env::{Env, Random as _, os};

use super::Finding;
use crate::text::human_bytes;

/// Less room than this, and the next log segment and a compaction may not fit.
const SPACE_BYTES_WARN: u64 = 1 << 30;
/// Less than a log segment.
const SPACE_BYTES_FAIL: u64 = 64 << 20;
const INODES_WARN: u64 = 1_000;

/// The directory itself, or the nearest one above it that is there: what holds for that holds for what is made in it.
pub(super) fn place(data: &Path) -> PathBuf {
    let there = data.ancestors().find_map(|path| {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        path.is_dir().then(|| path.to_owned())
    });
    there.unwrap_or_else(|| PathBuf::from("."))
}

/// A name that nobody else takes.
pub(super) fn scratch(place: &Path) -> PathBuf {
    let mut random = [0; 8];
    os::OsRandom.fill(&mut random);
    place.join(format!(".pugdb-doctor-{:016x}", u64::from_le_bytes(random)))
}

pub(super) fn rights(data: &Path, place: &Path) -> Finding {
    let advice = |place: &Path| {
        format!(
            "give the user who runs PugDB the right to write to {}, or choose another directory",
            place.display()
        )
    };
    if data.exists() && !data.is_dir() {
        return Finding::fail(
            "rights",
            format!("{} is no directory", data.display()),
            "choose another --data",
        );
    }
    let path = scratch(place);
    if let Err(error) = OpenOptions::new().write(true).create_new(true).open(&path) {
        return Finding::fail(
            "rights",
            format!("no file can be made in {}: {error}", place.display()),
            advice(place),
        );
    }
    if let Err(error) = std::fs::remove_file(&path) {
        return Finding::fail(
            "rights",
            format!("no file can be removed from {}: {error}", place.display()),
            advice(place),
        );
    }
    if let Some(error) = unreadable(data) {
        return Finding::fail("rights", error, advice(data));
    }
    let there = if data.is_dir() { "can be read and written" } else { "is not there yet and can be made" };
    Finding::ok("rights", format!("{} {there}", data.display()))
}

/// The first file of the database that cannot be opened for reading and writing.
fn unreadable(data: &Path) -> Option<String> {
    for folder in [data.to_owned(), data.join("log"), data.join("tables")] {
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Some(format!("{} cannot be read: {error}", folder.display())),
            Ok(entries) => entries,
        };
        let files = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file());
        for path in files {
            if let Err(error) = OpenOptions::new().read(true).write(true).open(&path) {
                return Some(format!("{} cannot be opened: {error}", path.display()));
            }
        }
    }
    None
}

pub(super) fn lock(place: &Path, env: &Env) -> Finding {
    let path = scratch(place);
    let held = env.fs.lock(&path);
    let second = env.fs.lock(&path);
    let finding = match (&held, &second) {
        (Ok(_), Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
            Finding::ok("lock", "a directory can belong to one process")
        }
        (Ok(_), _) => Finding::fail(
            "lock",
            "the file system grants one lock twice",
            "two processes could open one database; use a local file system",
        ),
        (Err(error), _) => Finding::fail(
            "lock",
            format!("no lock can be taken: {error}"),
            "use a file system that knows locks",
        ),
    };
    drop((held, second));
    // What stays is a small hidden file.
    let _ = std::fs::remove_file(&path);
    finding
}

pub(super) fn space(place: &Path) -> Finding {
    let status = match rustix::fs::statvfs(place) {
        Ok(status) => status,
        Err(error) => {
            return Finding::warn("space", format!("it cannot be asked for: {error}"), "look with df");
        }
    };
    let free = status.f_bavail.saturating_mul(status.f_frsize);
    let found = format!(
        "{} free of {}",
        human_bytes(free),
        human_bytes(status.f_blocks.saturating_mul(status.f_frsize))
    );
    judge_space(found, free, (status.f_files > 0).then_some(status.f_favail))
}

/// Pure: what so much room means. Some file systems have no fixed number of files.
fn judge_space(found: String, free_bytes: u64, free_files: Option<u64>) -> Finding {
    let advice =
        "make room: writes are refused when there is none, and tables are written anew while they are merged";
    if free_bytes < SPACE_BYTES_FAIL {
        Finding::fail("space", found, advice)
    } else if free_bytes < SPACE_BYTES_WARN {
        Finding::warn("space", found, advice)
    } else if let Some(files) = free_files.filter(|&files| files < INODES_WARN) {
        Finding::warn(
            "space",
            format!("{found}, but only {files} more files"),
            "remove files: every table is one",
        )
    } else {
        Finding::ok("space", found)
    }
}

/// Whether the disk turns: then a sync waits for it to come round.
#[cfg(target_os = "linux")]
pub(super) fn disk(place: &Path) -> Finding {
    use std::os::unix::fs::MetadataExt as _;

    let turns = place.metadata().ok().and_then(|metadata| {
        let device = metadata.dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let device = format!("/sys/dev/block/{major}:{minor}");
        // A partition has no queue of its own: that of its disk stands above it.
        let queues = [format!("{device}/queue"), format!("{device}/../queue")];
        queues.iter().find_map(|queue| std::fs::read_to_string(format!("{queue}/rotational")).ok())
    });
    describe_disk(turns.as_deref().map(str::trim))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn disk(_: &Path) -> Finding {
    describe_disk(None)
}

/// Pure: what `rotational` of `/sys` says. Some virtual disks say 1 of whatever is beneath them, so it is no warning.
fn describe_disk(turns: Option<&str>) -> Finding {
    Finding::ok(
        "disk",
        match turns {
            Some("0") => "it does not turn, or is virtual",
            Some("1") => {
                "it turns, or is virtual and says so: --durability group:5ms shares syncs if they are slow"
            }
            _ => "it is not known whether it turns",
        },
    )
}

/// What a directory lies on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileSystem {
    pub(super) name: String,
    pub(super) nature: Nature,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nature {
    /// On a disk of this machine, as far as is known.
    Local,
    /// Gone with the machine.
    Memory,
    /// Layers of a container: gone with it, as a rule.
    Layers,
    Network,
    Unknown,
}

#[cfg(target_os = "linux")]
pub(super) fn file_system(place: &Path) -> FileSystem {
    let Ok(status) = rustix::fs::statfs(place) else {
        return FileSystem { name: "unknown".to_owned(), nature: Nature::Unknown };
    };
    // Some architectures have the number signed; it has 32 bits.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the numbers of statfs(2) have 32 bits"
    )]
    let magic = status.f_type as u32;
    file_system_of(magic)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn file_system(_: &Path) -> FileSystem {
    FileSystem { name: "unknown".to_owned(), nature: Nature::Unknown }
}

/// The numbers of statfs(2).
#[cfg(target_os = "linux")]
fn file_system_of(magic: u32) -> FileSystem {
    let (name, nature) = match magic {
        0xef53 => ("ext4 (or ext2, ext3)", Nature::Local),
        0x5846_5342 => ("xfs", Nature::Local),
        0x9123_683e => ("btrfs", Nature::Local),
        0x2fc1_2fc1 => ("zfs", Nature::Local),
        0xf2f5_2010 => ("f2fs", Nature::Local),
        0xca45_1a4e => ("bcachefs", Nature::Local),
        0x0102_1994 => ("tmpfs", Nature::Memory),
        0x8584_58f6 => ("ramfs", Nature::Memory),
        0x794c_7630 => ("overlayfs", Nature::Layers),
        0x6969 => ("nfs", Nature::Network),
        0xfe53_4d42 => ("smb2", Nature::Network),
        0xff53_4d42 => ("cifs", Nature::Network),
        0x0102_1997 => ("9p", Nature::Network),
        0x00c3_6400 => ("ceph", Nature::Network),
        0x6573_5546 => ("fuse", Nature::Unknown),
        _ => return FileSystem { name: format!("number {magic:#x}"), nature: Nature::Unknown },
    };
    FileSystem { name: name.to_owned(), nature }
}

pub(super) fn describe(file_system: &FileSystem) -> Finding {
    let name = &file_system.name;
    match file_system.nature {
        Nature::Local => Finding::ok("file system", name),
        Nature::Memory => Finding::warn(
            "file system",
            format!("{name}: it is in memory"),
            "all of it is gone when the machine stops; use a directory on a disk",
        ),
        Nature::Layers => Finding::warn(
            "file system",
            format!("{name}: the layers of a container"),
            "it goes with the container as a rule; mount a volume for the data",
        ),
        Nature::Network => Finding::warn(
            "file system",
            format!("{name}: it is on another machine"),
            "locks and syncs are only as good as its server; use a local disk",
        ),
        Nature::Unknown => Finding::warn(
            "file system",
            format!("{name}: nothing is known of it"),
            "PugDB is tested on ext4 and xfs; test yours with a power cut",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn room_is_judged() {
        let verdict = |bytes, files| judge_space(String::new(), bytes, files).verdict;
        assert_eq!(verdict(100 << 30, Some(1_000_000)), Verdict::Ok);
        assert_eq!(verdict(100 << 30, None), Verdict::Ok);
        assert_eq!(verdict(100 << 30, Some(10)), Verdict::Warn);
        assert_eq!(verdict(500 << 20, None), Verdict::Warn);
        assert_eq!(verdict(1 << 20, None), Verdict::Fail);
    }

    #[test]
    fn a_disk_that_turns_is_told_from_one_that_does_not() {
        let found = |turns| describe_disk(turns).found;
        assert!(found(Some("1")).starts_with("it turns") && found(Some("0")).starts_with("it does not"));
        assert!(found(None).contains("not known") && found(Some("?")).contains("not known"));
    }

    #[test]
    fn the_place_is_the_nearest_directory() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(place(dir.path()), dir.path());
        assert_eq!(place(&dir.path().join("a/b/c")), dir.path());
        assert_eq!(place(Path::new("no such directory here")), Path::new("."));
    }

    #[test]
    fn a_directory_of_ones_own_passes_and_nothing_stays() {
        let dir = tempfile::tempdir().unwrap();
        let env = Env::os();
        assert_eq!(rights(dir.path(), dir.path()).verdict, Verdict::Ok);
        assert_eq!(lock(dir.path(), &env).verdict, Verdict::Ok);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let file = dir.path().join("file");
        OpenOptions::new().write(true).create_new(true).open(&file).unwrap();
        assert_eq!(rights(&file, dir.path()).verdict, Verdict::Fail);
    }
}
