//! Walks a directory tree for `import dir`: what is there, one thing at a time, links never followed.

use std::fs::{self, DirEntry, FileType, OpenOptions, ReadDir};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// A directory, by what no second name can hide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

/// One thing in the tree.
#[derive(Debug)]
pub(super) struct Found {
    /// The path below the root, its parts joined by `/`.
    pub(super) key: Vec<u8>,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    /// A regular file, to be opened at this path.
    File(PathBuf),
    /// Something that is no regular file and no directory, with the word for it.
    Other(&'static str),
    /// A directory that is not walked: it holds the database itself.
    Excluded,
    /// It could not be looked at.
    Unreadable(io::Error),
}

/// An iterator over everything but directories. One directory is open at a time, however deep the tree is.
pub(super) struct Tree {
    excluded: Option<Identity>,
    /// The directory that is being read, and its key.
    reading: Option<(ReadDir, Vec<u8>)>,
    /// Directories that were seen and not read yet, with their keys.
    waiting: Vec<(PathBuf, Vec<u8>)>,
}

impl Tree {
    pub(super) fn new(root: &Path, excluded: Option<Identity>) -> Self {
        Self { excluded, reading: None, waiting: vec![(root.to_owned(), Vec::new())] }
    }

    fn open_next(&mut self) -> Option<Result<(), Found>> {
        let (path, key) = self.waiting.pop()?;
        let opened = match self.excluded {
            Some(excluded) if Identity::of(&path).is_ok_and(|identity| identity == excluded) => {
                return Some(Err(Found { key, what: What::Excluded }));
            }
            _ => fs::read_dir(&path),
        };
        Some(match opened {
            Ok(entries) => {
                self.reading = Some((entries, key));
                Ok(())
            }
            Err(error) => Err(Found { key, what: What::Unreadable(error) }),
        })
    }

    /// What an entry is; `None` for a directory, which is walked later.
    fn look_at(&mut self, entry: &DirEntry, parent: &[u8]) -> Option<Found> {
        let mut key = parent.to_vec();
        if !key.is_empty() {
            key.push(b'/');
        }
        key.extend_from_slice(entry.file_name().as_bytes());
        let what = match entry.file_type() {
            Ok(kind) if kind.is_dir() => {
                self.waiting.push((entry.path(), key));
                return None;
            }
            Ok(kind) if kind.is_file() => What::File(entry.path()),
            Ok(kind) => What::Other(word_for(kind)),
            Err(error) => What::Unreadable(error),
        };
        Some(Found { key, what })
    }
}

impl Iterator for Tree {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        loop {
            let Some((mut entries, key)) = self.reading.take() else {
                match self.open_next()? {
                    Ok(()) => continue,
                    Err(found) => return Some(found),
                }
            };
            let found = match entries.next() {
                None => continue,
                Some(Ok(entry)) => self.look_at(&entry, &key),
                Some(Err(error)) => Some(Found { key: key.clone(), what: What::Unreadable(error) }),
            };
            self.reading = Some((entries, key));
            if found.is_some() {
                return found;
            }
        }
    }
}

fn word_for(kind: FileType) -> &'static str {
    if kind.is_symlink() {
        "a link"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

/// A file's content.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    Bytes(Vec<u8>),
    TooLarge,
    /// It became something else since the directory was read.
    NoFile,
}

/// Reads a regular file of at most `bytes_max`. It neither follows a link nor waits for a pipe that took its place.
pub(super) fn read_file(path: &Path, bytes_max: usize) -> io::Result<Content> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path);
    let file = match file {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Ok(Content::NoFile);
        }
        file => file?,
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(Content::NoFile);
    }
    let bytes_max = bytes_max as u64;
    if metadata.len() > bytes_max {
        return Ok(Content::TooLarge);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    // It may grow while it is read.
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    Ok(if bytes.len() as u64 > bytes_max { Content::TooLarge } else { Content::Bytes(bytes) })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(path: &Path, bytes: &[u8]) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        #[expect(clippy::disallowed_methods, reason = "the user's files, not the database's")]
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn a_tree_is_walked_without_following_links_and_without_the_database() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        write(&root.join("a/b/c"), b"1");
        write(&root.join("d"), b"");
        write(&root.join("data/wal"), b"x");
        symlink("/etc", root.join("a/etc")).unwrap();
        symlink("..", root.join("a/up")).unwrap();
        fs::create_dir(root.join("empty")).unwrap();
        let excluded = Identity::of(&root.join("data")).unwrap();
        let mut seen: Vec<String> = Tree::new(root, Some(excluded))
            .map(|found| {
                let what = match found.what {
                    What::File(path) => {
                        assert_eq!(path, root.join(String::from_utf8(found.key.clone()).unwrap()));
                        "file"
                    }
                    What::Other(word) => word,
                    What::Excluded => "excluded",
                    What::Unreadable(_) => "unreadable",
                };
                format!("{} {what}", String::from_utf8(found.key).unwrap())
            })
            .collect();
        seen.sort();
        assert_eq!(seen, ["a/b/c file", "a/etc a link", "a/up a link", "d file", "data excluded"]);
    }

    #[test]
    fn a_file_is_read_up_to_the_limit_and_a_link_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        write(&file, b"abcd");
        assert_eq!(read_file(&file, 4).unwrap(), Content::Bytes(b"abcd".to_vec()));
        assert_eq!(read_file(&file, 3).unwrap(), Content::TooLarge);
        let link = dir.path().join("link");
        symlink(&file, &link).unwrap();
        assert_eq!(read_file(&link, 9).unwrap(), Content::NoFile);
        assert_eq!(read_file(dir.path(), 9).unwrap(), Content::NoFile);
        // A pipe without a writer would block an open that waits.
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert_eq!(read_file(&pipe, 9).unwrap(), Content::NoFile);
    }
}
