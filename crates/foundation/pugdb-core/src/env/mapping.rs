//! A file's pages in this process's memory: what is stored there is in the operating system's hands at once, without a
//! system call. It survives the death of the process as a `write` does.

#![expect(unsafe_code, reason = "one copy into mapped memory, within its bounds")]

use std::fs;
use std::io;

use memmap2::MmapRaw;

use super::Mapping;
use crate::coding::index;

/// Pages of a file whose space is taken: a store never finds the disk full.
pub(super) struct OsMapping(MmapRaw);

impl OsMapping {
    /// Maps all of `file`. `None` where a store could fail later, which would kill the process: on a file system that
    /// writes to new places (btrfs, ZFS), that has no promise of space (overlays, networks), or that is not known.
    pub(super) fn of(file: &fs::File) -> io::Result<Option<Self>> {
        if !keeps_its_space(file)? {
            return Ok(None);
        }
        Ok(Some(Self(MmapRaw::map_raw(file)?)))
    }
}

impl Mapping for OsMapping {
    fn write_at(&mut self, bytes: &[u8], offset: u64) {
        let start = index(offset);
        let fits = start.checked_add(bytes.len()).is_some_and(|end| end <= self.0.len());
        assert!(fits, "a record was to be stored behind the end of its segment");
        // SAFETY: the range lies within the mapping (asserted), which is writable and lives as long as `self`; `bytes`
        // cannot overlap it, for nobody is given a slice of it; `&mut self` keeps other writers out.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.as_mut_ptr().add(start), bytes.len()) };
    }
}

/// True on ext4, XFS and tmpfs: `fallocate` takes the space, and a store goes to that space.
#[cfg(target_os = "linux")]
fn keeps_its_space(file: &fs::File) -> io::Result<bool> {
    const KNOWN: [u64; 3] = [0xef53, 0x5846_5342, 0x0102_1994];
    let kind = u64::try_from(rustix::fs::fstatfs(file)?.f_type).unwrap_or(0);
    Ok(KNOWN.contains(&kind))
}

#[cfg(not(target_os = "linux"))]
fn keeps_its_space(_: &fs::File) -> io::Result<bool> {
    Ok(false)
}
