//! From a key of a block to its first entry, for reads of one key: a small hash table, made when the block is decoded.
//!
//! A search among the heads looks at three lines of memory, one after the other. This looks at one.

/// The positions fit into the slots.
const ENTRIES_MAX: usize = u8::MAX as usize;
/// At most this part of the slots is taken: two of three.
const SLOTS_PER_ENTRIES: (usize, usize) = (3, 2);

/// Open addressing. A slot is zero, or eight bits of the hash and the position plus one.
#[derive(Default)]
pub(super) struct Places {
    slots: Box<[u16]>,
}

impl Places {
    /// For so many entries; without slots, when they are too many.
    pub(super) fn of(entries: usize) -> Self {
        if entries >= ENTRIES_MAX {
            return Self::default();
        }
        let slots = (entries * SLOTS_PER_ENTRIES.0 / SLOTS_PER_ENTRIES.1 + 1).next_power_of_two();
        Self { slots: vec![0; slots].into() }
    }

    /// True when nothing is found here, whatever the block holds.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Adds the first entry of a key.
    pub(super) fn add(&mut self, suffix: &[u8], position: usize) {
        if self.slots.is_empty() {
            return;
        }
        let (mut slot, tag) = self.place(suffix);
        while self.slots[slot] != 0 {
            slot = (slot + 1) & (self.slots.len() - 1);
        }
        let position = u8::try_from(position + 1).expect("there are fewer than 255 entries");
        self.slots[slot] = u16::from_be_bytes([tag, position]);
    }

    /// The first entry of a key, which is the one for which `is_it` holds.
    pub(super) fn find(&self, suffix: &[u8], is_it: impl Fn(usize) -> bool) -> Option<usize> {
        let (mut slot, tag) = self.place(suffix);
        loop {
            // A third of the slots is empty, so this ends.
            let [other, position] = self.slots[slot].to_be_bytes();
            let position = usize::from(position).checked_sub(1)?;
            if other == tag && is_it(position) {
                return Some(position);
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
    }

    /// What the slots take in memory.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.slots)
    }

    fn place(&self, suffix: &[u8]) -> (usize, u8) {
        let hash = hash_of(suffix);
        let [tag, ..] = hash.to_be_bytes();
        (pugdb_core::coding::index(hash >> 16) & (self.slots.len() - 1), tag)
    }
}

/// Of the first and the last eight bytes, and the length: suffixes are short, and the whole key was hashed for the filter.
/// Whoever makes many of them alike makes a search walk through one block.
fn hash_of(suffix: &[u8]) -> u64 {
    // Multiplication by a large odd number (Knuth, The Art of Computer Programming, volume 3, section 6.4).
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let (first, last) = if let (Some(first), Some(last)) = (suffix.first_chunk(), suffix.last_chunk()) {
        (u64::from_le_bytes(*first), u64::from_le_bytes(*last))
    } else {
        let mut bytes = [0; 8];
        bytes[..suffix.len()].copy_from_slice(suffix);
        (u64::from_le_bytes(bytes), 0)
    };
    let mixed = (first ^ suffix.len() as u64).wrapping_mul(FACTOR);
    (mixed ^ mixed >> 32 ^ last.rotate_left(32)).wrapping_mul(FACTOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_and_no_other_whatever_they_hash_to() {
        let mut rng = fastrand::Rng::with_seed(1);
        for entries in [1, 2, 60, 254] {
            for alike in [false, true] {
                // Alike: first and last bytes, and so the hash, are the same for all.
                let key = |number: usize| {
                    let middle = number.to_le_bytes();
                    if alike { [&[7; 8][..], &middle, &[9; 8]].concat() } else { middle[..3].to_vec() }
                };
                let mut places = Places::of(entries);
                (0..entries).for_each(|position| places.add(&key(position), position));
                for _ in 0..300 {
                    let wanted = rng.usize(..entries * 2);
                    let found = places.find(&key(wanted), |position| position == wanted);
                    assert_eq!(found, (wanted < entries).then_some(wanted));
                }
            }
        }
        assert!(Places::of(255).is_empty() && Places::of(1 << 20).is_empty());
    }
}
