//! The simulated disk: a tree of directories and files in memory that knows what is durable and what is not.
//!
//! [`content`] is one file's bytes, [`directory`] one directory's names, [`fate`] what a power cut does to both, [`fs`]
//! the face to the program, where calls are counted and fail. This file ties names to files and accounts for space.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};

use fastrand::Rng;

use content::{Content, Moment};
use directory::{Change, Directory, Node};

mod content;
mod directory;
pub(crate) mod fate;
pub(crate) mod fs;
#[cfg(test)]
mod tests;

pub use fate::{ContentFate, NameFate};

const ROOT: u64 = 0;

#[derive(Clone)]
struct Inode {
    content: Content,
    /// The space it takes.
    allocated: u64,
    /// How many names it has now: none, one, more by links or by a rename that a power cut caught halfway.
    links: u32,
    /// How many open handles it has.
    handles: u32,
    locked: bool,
}

/// What systems allow a process when nobody has said anything.
const HANDLES_DEFAULT: usize = 1024;

/// All directories and files, by number.
#[derive(Clone)]
pub(crate) struct Disk {
    moment: Moment,
    next: u64,
    directories: BTreeMap<u64, Directory>,
    files: BTreeMap<u64, Inode>,
    capacity: Option<u64>,
    used: u64,
    /// How many files the process may have open.
    handles_max: usize,
}

impl Disk {
    pub(crate) fn new() -> Self {
        Self {
            moment: 0,
            next: ROOT + 1,
            directories: BTreeMap::from([(ROOT, Directory::default())]),
            files: BTreeMap::new(),
            capacity: None,
            used: 0,
            handles_max: HANDLES_DEFAULT,
        }
    }

    pub(crate) fn set_capacity(&mut self, bytes: Option<u64>) {
        self.capacity = bytes;
    }

    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    pub(crate) fn set_handles_max(&mut self, handles: usize) {
        self.handles_max = handles;
    }

    pub(crate) fn handles_max(&self) -> usize {
        self.handles_max
    }

    fn refuse_too_many_handles(&self) -> io::Result<()> {
        let handles: u32 = self.files.values().map(|inode| inode.handles).sum();
        if usize::try_from(handles).is_ok_and(|handles| handles < self.handles_max) {
            return Ok(());
        }
        Err(io::Error::other("too many open files"))
    }

    // Names.

    fn create(&mut self, path: &Path) -> io::Result<u64> {
        let (parent, name) = self.parent(path)?;
        if self.directory(parent).names().contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.refuse_too_many_handles()?;
        if self.free() == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = self.number();
        let inode = Inode { content: Content::default(), allocated: 0, links: 1, handles: 1, locked: false };
        self.files.insert(file, inode);
        self.change(parent, Change::Add { name: name.to_owned(), node: Node::File(file) });
        Ok(file)
    }

    fn open(&mut self, path: &Path) -> io::Result<u64> {
        let file = self.find_file(path)?;
        self.refuse_too_many_handles()?;
        self.inode(file).handles += 1;
        Ok(file)
    }

    fn close(&mut self, file: u64) {
        let inode = self.inode(file);
        inode.handles -= 1;
        self.release(file);
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (parent, old) = self.parent(from)?;
        let (new_parent, new) = self.parent(to)?;
        let node = *self.directory(parent).names().get(old).ok_or(io::ErrorKind::NotFound)?;
        if parent != new_parent {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        if old == new {
            return Ok(());
        }
        let replaced = match self.directory(parent).names().get(new) {
            Some(Node::Directory(_)) => return Err(io::ErrorKind::IsADirectory.into()),
            Some(Node::File(_)) if matches!(node, Node::Directory(_)) => {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            Some(Node::File(replaced)) => Some(*replaced),
            None => None,
        };
        self.change(parent, Change::Rename { from: old.to_owned(), to: new.to_owned(), node });
        if let Some(replaced) = replaced {
            self.unlink(replaced);
        }
        Ok(())
    }

    fn link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let file = self.find_file(from)?;
        let (parent, name) = self.parent(to)?;
        if self.directory(parent).names().contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.inode(file).links += 1;
        self.change(parent, Change::Add { name: name.to_owned(), node: Node::File(file) });
        Ok(())
    }

    fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        let directory = self.find_directory(&parts(path)?)?;
        let (parent, name) = self.parent(path)?;
        if !self.directory(directory).names().is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.change(parent, Change::Remove { name: name.to_owned() });
        Ok(())
    }

    pub(crate) fn remove(&mut self, path: &Path) -> io::Result<()> {
        let file = self.find_file(path)?;
        let (parent, name) = self.parent(path)?;
        self.change(parent, Change::Remove { name: name.to_owned() });
        self.unlink(file);
        Ok(())
    }

    fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let mut directory = ROOT;
        for name in parts(path)? {
            directory = match self.directory(directory).names().get(name) {
                Some(Node::Directory(next)) => *next,
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => {
                    let number = self.number();
                    self.directories.insert(number, Directory::default());
                    let node = Node::Directory(number);
                    self.change(directory, Change::Add { name: name.to_owned(), node });
                    number
                }
            };
        }
        Ok(())
    }

    pub(crate) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let directory = self.find_directory(&parts(path)?)?;
        if self.directories.get_mut(&directory).is_some_and(Directory::sync) {
            self.sweep();
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let directory = self.find_directory(&parts(path)?)?;
        Ok(self.directory(directory).names().keys().cloned().collect())
    }

    /// Every file with its length, by path.
    pub(crate) fn list_files(&self) -> Vec<(PathBuf, u64)> {
        let mut found = Vec::new();
        self.walk(ROOT, Path::new(""), &mut found);
        found.sort_unstable();
        found
    }

    fn walk(&self, directory: u64, path: &Path, found: &mut Vec<(PathBuf, u64)>) {
        for (name, node) in self.directory(directory).names() {
            let path = path.join(name);
            match node {
                Node::Directory(next) => self.walk(*next, &path, found),
                Node::File(file) => found.push((path, self.files[file].content.length())),
            }
        }
    }

    // Locks.

    /// The locked file, or what its holder wrote.
    fn lock(&mut self, path: &Path, holder: &str, rng: &mut Rng) -> io::Result<u64> {
        let file = match self.create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.open(path)?,
            created => created?,
        };
        if self.inode(file).locked {
            self.close(file);
            let text = String::from_utf8_lossy(&self.read_file(path)?).into_owned();
            return Err(io::Error::new(io::ErrorKind::WouldBlock, text));
        }
        if let Err(error) = self.write(file, holder.as_bytes(), 0, rng) {
            self.close(file);
            return Err(error);
        }
        self.inode(file).locked = true;
        Ok(file)
    }

    fn unlock(&mut self, file: u64) {
        self.inode(file).locked = false;
        self.close(file);
    }

    // Content.

    fn read(&self, file: u64, buffer: &mut [u8], offset: u64) -> usize {
        self.files[&file].content.read(buffer, offset)
    }

    fn length(&self, file: u64) -> u64 {
        self.files[&file].content.length()
    }

    /// On a full disk a part of the bytes can get through.
    fn write(&mut self, file: u64, bytes: &[u8], offset: u64, rng: &mut Rng) -> io::Result<()> {
        let end = offset.checked_add(bytes.len() as u64).ok_or(io::ErrorKind::InvalidInput)?;
        let room = self.files[&file].allocated.saturating_add(self.free());
        if end > room {
            let fits = index(room.saturating_sub(offset));
            self.write_freely(file, &bytes[..rng.usize(0..=fits)], offset);
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.write_freely(file, bytes, offset);
        Ok(())
    }

    /// A failing write: some of the bytes get through, if they fit.
    fn write_part(&mut self, file: u64, bytes: &[u8], offset: u64, rng: &mut Rng) {
        let part = &bytes[..rng.usize(0..=bytes.len())];
        if !part.is_empty() {
            // The call fails anyway.
            let _ = self.write(file, part, offset, rng);
        }
    }

    fn write_freely(&mut self, file: u64, bytes: &[u8], offset: u64) {
        if !bytes.is_empty() {
            let mut moment = self.moment;
            self.inode(file).content.write(&mut moment, bytes, offset);
            self.moment = moment;
            self.account(file);
        }
    }

    fn allocate(&mut self, file: u64, length: u64) -> io::Result<()> {
        if length > self.files[&file].allocated.saturating_add(self.free()) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut moment = self.moment;
        self.inode(file).content.grow(&mut moment, length);
        self.moment = moment;
        self.account(file);
        Ok(())
    }

    fn shrink(&mut self, file: u64, length: u64) {
        let mut moment = self.moment;
        self.inode(file).content.shrink(&mut moment, length);
        self.moment = moment;
    }

    fn sync(&mut self, file: u64) {
        self.inode(file).content.sync();
    }

    fn fail_sync(&mut self, file: u64) {
        self.inode(file).content.fail_sync();
    }

    // For tests: no call is counted, nothing fails, everything is durable at once.

    pub(crate) fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        let content = &self.files[&self.find_file(path)?].content;
        let mut bytes = vec![0; index(content.length())];
        content.read(&mut bytes, 0);
        Ok(bytes)
    }

    pub(crate) fn write_file(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let all = parts(path)?;
        let Some((_, directories)) = all.split_last() else {
            return Err(io::ErrorKind::IsADirectory.into());
        };
        self.create_dir_all(&directories.iter().collect::<PathBuf>())?;
        let capacity = self.capacity.take();
        let opened = match self.create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.open(path),
            created => created,
        };
        self.capacity = capacity;
        let file = opened?;
        self.inode(file).content.truncate(0);
        self.write_freely(file, bytes, 0);
        self.sync(file);
        self.account(file);
        self.close(file);
        for depth in 0..all.len() {
            self.sync_dir(&all[..depth].iter().collect::<PathBuf>())?;
        }
        Ok(())
    }

    pub(crate) fn truncate_file(&mut self, path: &Path, length: u64) -> io::Result<()> {
        let file = self.find_file(path)?;
        self.inode(file).content.truncate(length);
        self.account(file);
        Ok(())
    }

    pub(crate) fn flip_bit(&mut self, path: &Path, offset: u64, bit: u8) -> io::Result<()> {
        let file = self.find_file(path)?;
        if offset >= self.length(file) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.inode(file).content.flip_bit(offset, bit);
        Ok(())
    }

    // The end of a process or of the power.

    /// The process is gone: nobody holds a handle or a lock.
    pub(crate) fn let_go(&mut self) {
        for inode in self.files.values_mut() {
            inode.handles = 0;
            inode.locked = false;
        }
        self.sweep();
        self.used = self.files.values().filter(|inode| inode.links > 0).map(|inode| inode.allocated).sum();
    }

    /// The power is gone: what is left is durable.
    pub(crate) fn settle(&mut self, content: ContentFate, names: NameFate, rng: &mut Rng) {
        let oldest = self
            .files
            .values()
            .filter_map(|inode| inode.content.oldest_pending())
            .chain(self.directories.values().filter_map(Directory::oldest_pending))
            .min();
        let oldest = oldest.unwrap_or(self.moment + 1);
        let content_prefix = rng.u64(oldest..=self.moment + 1);
        let names_prefix = match content {
            ContentFate::Prefix => content_prefix,
            _ => rng.u64(oldest..=self.moment + 1),
        };
        for directory in self.directories.values_mut() {
            directory.settle(names, names_prefix, rng);
        }
        self.drop_unreachable();
        for inode in self.files.values_mut() {
            inode.content.settle(content, content_prefix, rng);
            inode.allocated = inode.content.length();
        }
        self.let_go();
    }

    fn drop_unreachable(&mut self) {
        let mut reached = BTreeMap::new();
        let mut files = BTreeMap::new();
        let mut open = vec![ROOT];
        while let Some(number) = open.pop() {
            let Some(directory) = self.directories.remove(&number) else { continue };
            for node in directory.names().values() {
                match node {
                    Node::Directory(next) => open.push(*next),
                    Node::File(file) => {
                        if let Some(mut inode) = self.files.remove(file) {
                            inode.links = 0;
                            files.insert(*file, inode);
                        }
                        if let Some(inode) = files.get_mut(file) {
                            inode.links += 1;
                        }
                    }
                }
            }
            reached.insert(number, directory);
        }
        self.directories = reached;
        self.files = files;
    }

    // Finding and accounting.

    fn parent<'a>(&self, path: &'a Path) -> io::Result<(u64, &'a str)> {
        let all = parts(path)?;
        let Some((name, directories)) = all.split_last() else {
            return Err(io::ErrorKind::IsADirectory.into());
        };
        Ok((self.find_directory(directories)?, name))
    }

    fn find_directory(&self, parts: &[&str]) -> io::Result<u64> {
        parts.iter().try_fold(ROOT, |directory, name| match self.directory(directory).names().get(*name) {
            Some(Node::Directory(next)) => Ok(*next),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        })
    }

    fn find_file(&self, path: &Path) -> io::Result<u64> {
        let (parent, name) = self.parent(path)?;
        match self.directory(parent).names().get(name) {
            Some(Node::File(file)) => Ok(*file),
            Some(Node::Directory(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn directory(&self, number: u64) -> &Directory {
        &self.directories[&number]
    }

    fn inode(&mut self, file: u64) -> &mut Inode {
        self.files.get_mut(&file).expect("a file is kept while a name or a handle needs it")
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    fn change(&mut self, directory: u64, change: Change) {
        let directory = self.directories.get_mut(&directory).expect("directories are never removed");
        directory.change(&mut self.moment, change);
    }

    fn free(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used))
    }

    fn account(&mut self, file: u64) {
        let inode = self.inode(file);
        let (before, after) = (inode.allocated, inode.content.length());
        inode.allocated = after;
        self.used = self.used - before + after;
    }

    fn unlink(&mut self, file: u64) {
        let inode = self.inode(file);
        inode.links -= 1;
        self.release(file);
    }

    /// Gives back the space of a file without names and handles. Its bytes stay while a power cut can bring it back.
    fn release(&mut self, file: u64) {
        let inode = self.inode(file);
        if inode.links == 0 && inode.handles == 0 {
            self.used -= std::mem::take(&mut inode.allocated);
            self.sweep();
        }
    }

    /// Forgets files that nothing can bring back.
    fn sweep(&mut self) {
        let mut needed: Vec<u64> = self
            .directories
            .values()
            .flat_map(Directory::mentions)
            .filter_map(|node| match node {
                Node::File(file) => Some(file),
                Node::Directory(_) => None,
            })
            .collect();
        needed.sort_unstable();
        self.files.retain(|file, inode| inode.handles > 0 || needed.binary_search(file).is_ok());
    }
}

/// A path's names. There is one root; whether a path starts with it makes no difference.
pub(crate) fn parts(path: &Path) -> io::Result<Vec<&str>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => names.push(name.to_str().ok_or(io::ErrorKind::InvalidInput)?),
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::ErrorKind::InvalidInput.into());
            }
        }
    }
    Ok(names)
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("PugDB needs a 64-bit platform")
}
