//! Writes files below one directory and nowhere else: every part of a path is opened from the one before, never through a
//! link.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const NEW_FILE: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
// The process's mask takes away what the user does not want to grant.
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o777);
const FILE_MODE: Mode = Mode::from_raw_mode(0o666);

/// Why a file was not written.
#[derive(Debug)]
pub(super) enum Refusal {
    /// This one cannot be; others can.
    This(String),
    /// No space, a broken disk: the others cannot be either.
    All(io::Error),
}

/// A directory to write files into.
pub(super) struct Folder {
    root: OwnedFd,
    force: bool,
    /// The folder of the file before, with its path: neighbours in key order mostly share it.
    last: Option<(Vec<u8>, OwnedFd)>,
}

impl Folder {
    /// Opens the directory, and makes it if there is none. `force` replaces files that are there.
    pub(super) fn open(path: &Path, force: bool) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        let root = rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty())?;
        Ok(Self { root, force, last: None })
    }

    /// Writes a file: all of it, or it is removed again.
    pub(super) fn write(&mut self, parts: &[&[u8]], content: &[u8]) -> Result<(), Refusal> {
        let Some((name, parents)) = parts.split_last() else {
            return Err(Refusal::This("an empty key is no path".to_owned()));
        };
        self.enter(parents)?;
        let folder = self.last.as_ref().map_or(&self.root, |(_, folder)| folder);
        let file = match rustix::fs::openat(folder, *name, NEW_FILE, FILE_MODE) {
            Err(Errno::EXIST) => {
                make_way(folder, name, self.force)?;
                rustix::fs::openat(folder, *name, NEW_FILE, FILE_MODE)
            }
            opened => opened,
        };
        let mut file = File::from(file.map_err(refusal)?);
        file.write_all(content).map_err(|error| {
            // The write's error is the one to tell.
            let _ = rustix::fs::unlinkat(folder, *name, AtFlags::empty());
            Refusal::All(error)
        })
    }

    /// Goes to the folder with this path below the root, and makes what is missing of it.
    fn enter(&mut self, parents: &[&[u8]]) -> Result<(), Refusal> {
        let path = parents.join(&b'/');
        if path.is_empty() {
            self.last = None;
            return Ok(());
        }
        if self.last.as_ref().is_some_and(|(last, _)| *last == path) {
            return Ok(());
        }
        let mut folder: Option<OwnedFd> = None;
        for part in parents {
            let parent = folder.as_ref().unwrap_or(&self.root);
            match rustix::fs::mkdirat(parent, *part, DIRECTORY_MODE) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(refusal(error)),
            }
            let opened = rustix::fs::openat(parent, *part, DIRECTORY | OFlags::NOFOLLOW, Mode::empty());
            folder = Some(opened.map_err(|error| match error {
                Errno::NOTDIR | Errno::LOOP => {
                    Refusal::This("a file or a link stands where a folder of its path has to be".to_owned())
                }
                error => refusal(error),
            })?);
        }
        self.last = folder.map(|folder| (path, folder));
        Ok(())
    }

    /// Everything written is on disk when this returns.
    pub(super) fn sync(&self) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        rustix::fs::syncfs(self.root.as_fd())?;
        #[cfg(not(target_os = "linux"))]
        rustix::fs::sync();
        Ok(())
    }
}

/// Removes the regular file that has the name. A new one takes its place: writing into the old one would write through
/// its other hard links.
fn make_way(folder: &OwnedFd, name: &[u8], force: bool) -> Result<(), Refusal> {
    let there = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(refusal)?;
    let reason = match FileType::from_raw_mode(there.st_mode) {
        FileType::Directory => "a folder has this name: another key needs it, or it was there before",
        FileType::RegularFile if force => {
            return rustix::fs::unlinkat(folder, name, AtFlags::empty()).map_err(refusal);
        }
        FileType::RegularFile => "the file is there already; --force replaces it",
        _ => "a link or a special file has this name",
    };
    Err(Refusal::This(reason.to_owned()))
}

/// Whether an error is about this path or about all of them.
fn refusal(error: Errno) -> Refusal {
    match error {
        Errno::NAMETOOLONG => Refusal::This("a part of the path is too long for the file system".to_owned()),
        Errno::INVAL | Errno::ILSEQ => Refusal::This("the file system does not allow this name".to_owned()),
        Errno::ACCESS
        | Errno::PERM
        | Errno::EXIST
        | Errno::ISDIR
        | Errno::NOTDIR
        | Errno::LOOP
        | Errno::NOENT => Refusal::This(error.to_string()),
        error => Refusal::All(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn reason(result: Result<(), Refusal>) -> String {
        match result.unwrap_err() {
            Refusal::This(reason) => reason,
            Refusal::All(error) => panic!("{error}"),
        }
    }

    fn read(path: impl AsRef<Path>) -> Vec<u8> {
        #[expect(clippy::disallowed_methods, reason = "the user's files, not the database's")]
        fs::read(path).unwrap()
    }

    fn write(path: impl AsRef<Path>, bytes: &[u8]) {
        #[expect(clippy::disallowed_methods, reason = "the user's files, not the database's")]
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn files_are_written_and_replaced_only_by_force() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("new/target");
        let mut folder = Folder::open(&root, false).unwrap();
        folder.write(&[b"a", b"b", b"c"], b"1").unwrap();
        folder.write(&[b"a", b"b", b"d"], b"").unwrap();
        folder.write(&[b"top"], b"2").unwrap();
        folder.write(&[b"a", b"\xff"], b"3").unwrap();
        assert!(reason(folder.write(&[b"top"], b"4")).contains("--force"));
        folder.sync().unwrap();
        assert_eq!((read(root.join("a/b/c")), read(root.join("top"))), (b"1".to_vec(), b"2".to_vec()));
        let other_name = dir.path().join("other name");
        fs::hard_link(root.join("top"), &other_name).unwrap();
        Folder::open(&root, true).unwrap().write(&[b"top"], b"5").unwrap();
        assert_eq!((read(root.join("top")), read(other_name)), (b"5".to_vec(), b"2".to_vec()));
    }

    #[test]
    fn links_are_not_followed_even_by_force() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs::create_dir(&root).unwrap();
        fs::create_dir(&outside).unwrap();
        write(outside.join("file"), b"keep");
        symlink(&outside, root.join("folder")).unwrap();
        symlink(outside.join("file"), root.join("file")).unwrap();
        symlink(outside.join("new"), root.join("dangling")).unwrap();
        for force in [false, true] {
            let mut folder = Folder::open(&root, force).unwrap();
            assert!(reason(folder.write(&[b"folder", b"x"], b"1")).contains("link"));
            assert!(reason(folder.write(&[b"file"], b"1")).contains("link"));
            assert!(reason(folder.write(&[b"dangling"], b"1")).contains("link"));
        }
        assert_eq!(read(outside.join("file")), b"keep");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    }

    #[test]
    fn a_file_and_a_folder_of_one_name_exclude_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = Folder::open(dir.path(), true).unwrap();
        folder.write(&[b"a", b"b"], b"1").unwrap();
        assert!(reason(folder.write(&[b"a"], b"2")).contains("folder"));
        folder.write(&[b"f"], b"1").unwrap();
        assert!(reason(folder.write(&[b"f", b"x"], b"2")).contains("a file or a link"));
        assert!(reason(folder.write(&[[b'n'; 256].as_slice()], b"2")).contains("too long"));
    }

    #[test]
    fn a_path_may_be_deeper_than_the_system_takes_in_one_call() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = Folder::open(dir.path(), false).unwrap();
        let parts = vec![b"0123456789".as_slice(); 600];
        folder.write(&parts, b"deep").unwrap();
        assert!(reason(folder.write(&parts, b"deep")).contains("--force"));
    }
}
