//! Memory for keys: pages that no core dump takes along and that are not swapped out, as far as the system allows, cut into slots.
//!
//! Pages are never given back, so that a slot, once cleaned, is there for the next key.

use parking_lot::Mutex;
use zeroize::Zeroize as _;

/// Sizes of slots: what is derived, then what the library makes of a key.
const SLOT_BYTES: [usize; 3] = [64, 256, 1024];
/// The largest thing that has room in a slot.
pub(crate) const SLOT_BYTES_MAX: usize = SLOT_BYTES[2];
/// Every slot begins at a multiple of it: pages do, and all sizes are multiples of the smallest.
pub(crate) const SLOT_ALIGN: usize = SLOT_BYTES[0];
/// Mapped at once. The limit to what a process may lock is 8 MiB where nobody has changed it, and 64 KiB on old systems.
const REGION_BYTES: usize = 32 << 10;

/// How much memory holds keys, and how it is kept from leaving the process. A slot that is free counts, too.
///
/// ```
/// use pugdb_core::env::os::OsRandom;
/// use pugdb_security::{KeyMemory, Secret};
///
/// let _secret = Secret::random(&OsRandom);
/// let memory = KeyMemory::of_this_process();
/// assert!(memory.bytes > 0 && memory.kept_from_dumps <= memory.bytes && memory.kept_from_swap <= memory.bytes);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyMemory {
    /// Bytes of all slots.
    pub bytes: usize,
    /// Those of them that core dumps leave out: on Linux all, elsewhere none.
    pub kept_from_dumps: usize,
    /// Those of them that are locked in memory. The system's limit to that (`ulimit -l`) may be below what is needed.
    pub kept_from_swap: usize,
}

impl KeyMemory {
    /// What this process holds.
    ///
    /// ```
    /// assert_eq!(pugdb_security::KeyMemory::default().bytes, 0);
    /// let _all = pugdb_security::KeyMemory::of_this_process();
    /// ```
    pub fn of_this_process() -> Self {
        POOL.lock().memory
    }
}

struct Pool {
    /// Of each size.
    free: [Vec<&'static mut [u8]>; SLOT_BYTES.len()],
    memory: KeyMemory,
}

static POOL: Mutex<Pool> = Mutex::new(Pool {
    free: [const { Vec::new() }; SLOT_BYTES.len()],
    memory: KeyMemory { bytes: 0, kept_from_dumps: 0, kept_from_swap: 0 },
});

impl Pool {
    fn take(&mut self, class: usize) -> &'static mut [u8] {
        if let Some(slot) = self.free[class].pop() {
            return slot;
        }
        let mut slots = self.region().chunks_exact_mut(SLOT_BYTES[class]);
        let first = slots.next().expect("a region holds several slots of each size");
        self.free[class].extend(slots);
        first
    }

    /// New memory. What the system refuses is counted, and no reason to do without a database.
    fn region(&mut self) -> &'static mut [u8] {
        self.memory.bytes += REGION_BYTES;
        let Ok(map) = memmap2::MmapMut::map_anon(REGION_BYTES) else {
            // With room to begin where a slot may begin.
            let heap = Vec::leak(vec![0; REGION_BYTES + SLOT_ALIGN]);
            let skipped = heap.as_ptr().align_offset(SLOT_ALIGN);
            return &mut heap[skipped..skipped + REGION_BYTES];
        };
        #[cfg(target_os = "linux")]
        if map.advise(memmap2::Advice::DontDump).is_ok() {
            self.memory.kept_from_dumps += REGION_BYTES;
        }
        if map.lock().is_ok() {
            self.memory.kept_from_swap += REGION_BYTES;
        }
        let map: &'static mut memmap2::MmapMut = Box::leak(Box::new(map));
        map
    }
}

/// Room for one key, of its owner alone. It is clean when it is taken.
pub(crate) struct Slot(&'static mut [u8]);

impl Slot {
    /// A slot of so many bytes at least, at most [`SLOT_BYTES_MAX`].
    pub(crate) fn take(bytes: usize) -> Self {
        Self(POOL.lock().take(class_of(bytes)))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.0
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.0);
        bytes.zeroize();
        POOL.lock().free[class_of(bytes.len())].push(bytes);
    }
}

fn class_of(bytes: usize) -> usize {
    assert!(bytes <= SLOT_BYTES_MAX, "what goes into slots is checked when this is compiled");
    SLOT_BYTES.iter().take_while(|&&slot| slot < bytes).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_have_room_are_their_owners_alone_and_come_back_clean() {
        let mut slots: Vec<Slot> = (0..3_000).map(|n| Slot::take(1 + n * 7 % SLOT_BYTES_MAX)).collect();
        for (n, slot) in slots.iter_mut().enumerate() {
            assert!(slot.bytes().len() > n * 7 % SLOT_BYTES_MAX);
            assert_eq!(slot.bytes().as_ptr().align_offset(SLOT_ALIGN), 0);
            assert!(slot.bytes().iter().all(|&byte| byte == 0), "a slot is not clean");
            slot.bytes_mut().fill(u8::try_from(n % 255 + 1).unwrap());
        }
        for (n, slot) in slots.iter().enumerate() {
            assert!(slot.bytes().iter().all(|&byte| usize::from(byte) == n % 255 + 1));
        }
        drop(slots);
        for n in 0..3_000 {
            assert!(Slot::take(1 + n * 7 % SLOT_BYTES_MAX).bytes().iter().all(|&byte| byte == 0));
        }
    }
}

/// What a core dump takes along is asked of the kernel, in `/proc`.
#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests_of_dumps {
    use std::fs;
    use std::os::unix::fs::FileExt as _;

    use pugdb_core::env::os::OsRandom;

    use super::*;
    use crate::{AeadKey, Algorithm, Secret};

    /// Begin and end of each mapping that can be written, and its flags.
    fn mappings() -> Vec<(usize, usize, Vec<String>)> {
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut found: Vec<(usize, usize, Vec<String>)> = Vec::new();
        let mut is_writable = false;
        for line in smaps.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let (Some((from, to)), true) = (words[0].split_once('-'), words[0].len() > 12) {
                is_writable = words[1].starts_with("rw");
                let at = |digits| usize::from_str_radix(digits, 16).unwrap();
                found.push((at(from), at(to), Vec::new()));
            } else if words[0] == "VmFlags:" {
                let flags = words[1..].iter().map(ToString::to_string).collect();
                found.last_mut().unwrap().2 = flags;
                if !is_writable {
                    found.pop();
                }
            }
        }
        found
    }

    /// Whether a core dump would leave out the page at an address.
    fn is_kept_from_dumps(address: usize) -> bool {
        let mappings = mappings();
        let (.., flags) = mappings.iter().find(|(from, to, _)| (*from..*to).contains(&address)).unwrap();
        flags.iter().any(|flag| flag == "dd")
    }

    #[test]
    fn keys_and_what_is_made_of_them_are_in_pages_that_no_core_dump_takes_along() {
        let secret = Secret::random(&OsRandom);
        assert!(is_kept_from_dumps(secret.expose().as_ptr().addr()));
        let slot = Slot::take(SLOT_BYTES_MAX);
        assert!(is_kept_from_dumps(slot.bytes().as_ptr().addr()));
        let memory = KeyMemory::of_this_process();
        assert_eq!(memory.kept_from_dumps, memory.bytes);
        let key = AeadKey::new(Algorithm::Aes256Gcm, &secret);
        assert!(is_kept_from_dumps(key.address()));
    }

    #[test]
    fn a_new_secret_is_nowhere_in_what_a_core_dump_would_hold() {
        let secret = Secret::random(&OsRandom);
        let copy = secret.clone();
        let memory = fs::OpenOptions::new().read(true).open("/proc/self/mem").unwrap();
        let mut page = vec![0; 64 << 10];
        for (from, to, flags) in mappings() {
            if flags.iter().any(|flag| flag == "dd") {
                continue;
            }
            for at in (from..to).step_by(page.len()) {
                let part = &mut page[..(to - at).min(64 << 10)];
                // It may have been unmapped since.
                if memory.read_exact_at(part, at as u64).is_ok() {
                    let words = part.chunks_exact(8).position(|word| word == &copy.expose()[..8]);
                    assert_eq!(words, None, "a copy of the secret would be in a core dump");
                }
            }
        }
        drop(secret);
    }
}
