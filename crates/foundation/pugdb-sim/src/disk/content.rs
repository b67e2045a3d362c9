//! One file's bytes: what a read sees, and for every 512-byte sector what a power cut may leave of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use fastrand::Rng;

use super::fate::ContentFate;
use super::index;

/// What a disk writes whole, unless it tears.
pub(crate) const SECTOR_BYTES: usize = 512;
const SECTOR: u64 = SECTOR_BYTES as u64;

type Bytes = [u8; SECTOR_BYTES];
type Sector = Arc<Bytes>;

/// The order of everything that happened to the disk.
pub(super) type Moment = u64;

/// A sector whose durable content is not (known to be) what a read sees.
#[derive(Clone)]
struct Dirty {
    /// What the medium holds for sure; `None` is zeros.
    durable: Option<Sector>,
    /// What was written since, in order.
    versions: Vec<(Moment, Sector)>,
    /// A failed sync marked it clean: no later sync carries it, unless it is written again.
    abandoned: bool,
}

/// A missing sector is zeros, so allocated space costs nothing, and a copy of a clean file is one reference.
#[derive(Clone, Default)]
pub(super) struct Content {
    sectors: Arc<BTreeMap<u64, Sector>>,
    length: u64,
    durable_length: u64,
    /// Lengths since the durable one, in order.
    lengths: Vec<(Moment, u64)>,
    dirty: BTreeMap<u64, Dirty>,
}

impl Content {
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let count = index(self.length.saturating_sub(offset)).min(buffer.len());
        let buffer = &mut buffer[..count];
        buffer.fill(0);
        let end = offset.saturating_add(count as u64);
        for (number, sector) in self.sectors.range(offset / SECTOR..end.div_ceil(SECTOR)) {
            let start = number * SECTOR;
            let from = start.max(offset);
            let to = (start + SECTOR).min(end);
            buffer[index(from - offset)..index(to - offset)]
                .copy_from_slice(&sector[index(from - start)..index(to - start)]);
        }
        count
    }

    /// Every sector is a moment of its own, and the new length the last: a prefix may end within a write.
    pub(super) fn write(&mut self, moment: &mut Moment, mut bytes: &[u8], offset: u64) {
        let mut at = offset;
        let sectors = Arc::make_mut(&mut self.sectors);
        while !bytes.is_empty() {
            let within = index(at % SECTOR);
            let count = (SECTOR_BYTES - within).min(bytes.len());
            let number = at / SECTOR;
            let old = sectors.get(&number);
            let mut new = old.map_or([0; SECTOR_BYTES], |old| **old);
            new[within..within + count].copy_from_slice(&bytes[..count]);
            let new = Arc::new(new);
            let dirty = self.dirty.entry(number).or_insert_with(|| Dirty {
                durable: old.cloned(),
                versions: Vec::new(),
                abandoned: false,
            });
            *moment += 1;
            dirty.versions.push((*moment, Arc::clone(&new)));
            dirty.abandoned = false;
            sectors.insert(number, new);
            bytes = &bytes[count..];
            at += count as u64;
        }
        self.grow(moment, at);
    }

    pub(super) fn grow(&mut self, moment: &mut Moment, length: u64) {
        if length > self.length {
            *moment += 1;
            self.length = length;
            self.lengths.push((*moment, length));
        }
    }

    /// Cuts off at `length`: what lies behind reads as zeros if the file grows again, or if a power cut takes the new
    /// length back.
    pub(super) fn shrink(&mut self, moment: &mut Moment, length: u64) {
        if length >= self.length {
            return;
        }
        let gone: Vec<u64> = self.sectors.range(length / SECTOR..).map(|(number, _)| *number).collect();
        for number in gone {
            let from = (number * SECTOR).max(length);
            let to = (number * SECTOR + SECTOR).min(self.length);
            if from < to {
                self.write(moment, &vec![0; index(to - from)], from);
            }
        }
        *moment += 1;
        self.length = length;
        self.lengths.push((*moment, length));
    }

    /// Makes everything durable that no failed sync has abandoned.
    pub(super) fn sync(&mut self) {
        self.dirty.retain(|_, dirty| dirty.abandoned);
        self.lengths.clear();
        self.durable_length = self.length;
    }

    /// What the kernel does: the sectors stay in its cache and count as clean. The length is the file system's own
    /// affair and goes with the next sync.
    pub(super) fn fail_sync(&mut self) {
        for dirty in self.dirty.values_mut() {
            dirty.abandoned = true;
        }
    }

    /// The first moment that is not durable.
    pub(super) fn oldest_pending(&self) -> Option<Moment> {
        let sectors = self.dirty.values().filter_map(|dirty| dirty.versions.first());
        let lengths = self.lengths.first().map(|(moment, _)| *moment);
        sectors.map(|(moment, _)| *moment).chain(lengths).min()
    }

    /// The power is cut: what is left is durable. `prefix` is the first moment that [`ContentFate::Prefix`] loses.
    pub(super) fn settle(&mut self, fate: ContentFate, prefix: Moment, rng: &mut Rng) {
        if self.dirty.is_empty() && self.lengths.is_empty() {
            return;
        }
        let length = self.surviving_length(fate, prefix, rng);
        let sectors = Arc::make_mut(&mut self.sectors);
        for (number, dirty) in std::mem::take(&mut self.dirty) {
            match dirty.survivor(fate, prefix, self.durable_length.saturating_sub(number * SECTOR), rng) {
                Some(sector) => sectors.insert(number, sector),
                None => sectors.remove(&number),
            };
        }
        self.replace_length(length);
    }

    /// Cuts off or extends, durably, and makes everything else durable too. For tests.
    pub(super) fn truncate(&mut self, length: u64) {
        self.dirty.clear();
        self.replace_length(length);
    }

    /// Flips a bit of every version there is.
    pub(super) fn flip_bit(&mut self, offset: u64, bit: u8) {
        let number = offset / SECTOR;
        let flip = |sector: &mut Sector| Arc::make_mut(sector)[index(offset % SECTOR)] ^= 1 << (bit % 8);
        flip(Arc::make_mut(&mut self.sectors).entry(number).or_insert_with(zeros));
        if let Some(dirty) = self.dirty.get_mut(&number) {
            flip(dirty.durable.get_or_insert_with(zeros));
            dirty.versions.iter_mut().for_each(|(_, sector)| flip(sector));
        }
    }

    fn surviving_length(&self, fate: ContentFate, prefix: Moment, rng: &mut Rng) -> u64 {
        let version = |count: usize| if count == 0 { self.durable_length } else { self.lengths[count - 1].1 };
        let all = self.lengths.len();
        match fate {
            ContentFate::Lost => self.durable_length,
            ContentFate::Kept | ContentFate::Unwritten => self.length,
            ContentFate::Prefix => version(self.lengths.partition_point(|(moment, _)| *moment < prefix)),
            ContentFate::Reordered => version(rng.usize(0..=all)),
            ContentFate::Torn => {
                let count = rng.usize(0..=all);
                let length = version(count);
                // Within a write the length moves on with the sectors.
                let before = version(count.saturating_sub(1)).min(length);
                if rng.bool() { length } else { (rng.u64(before..=length) / SECTOR * SECTOR).max(before) }
            }
        }
    }

    fn replace_length(&mut self, length: u64) {
        // What lies behind the end is zeros, should the file ever grow again.
        let first_gone = length.div_ceil(SECTOR);
        if self.sectors.range(length / SECTOR..).next().is_some() {
            let sectors = Arc::make_mut(&mut self.sectors);
            sectors.split_off(&first_gone);
            let within = index(length % SECTOR);
            if within > 0
                && let Some(last) = sectors.get_mut(&(length / SECTOR))
            {
                Arc::make_mut(last)[within..].fill(0);
            }
        }
        self.length = length;
        self.durable_length = length;
        self.lengths.clear();
    }
}

impl Dirty {
    /// `durable_bytes`: how much of the file's durable length lies behind the sector's start.
    fn survivor(
        &self,
        fate: ContentFate,
        prefix: Moment,
        durable_bytes: u64,
        rng: &mut Rng,
    ) -> Option<Sector> {
        let version = |count: usize| {
            if count == 0 { self.durable.clone() } else { Some(Arc::clone(&self.versions[count - 1].1)) }
        };
        let all = self.versions.len();
        match fate {
            ContentFate::Lost => version(0),
            // A sync failed: nobody knows whether the medium has it.
            ContentFate::Kept | ContentFate::Prefix if self.abandoned => version(rng.usize(0..=all)),
            ContentFate::Kept => version(all),
            ContentFate::Prefix => version(self.versions.partition_point(|(moment, _)| *moment < prefix)),
            ContentFate::Reordered => version(rng.usize(0..=all)),
            ContentFate::Torn => {
                let (new, old) = (version(rng.usize(0..=all)), version(rng.usize(0..=all)));
                if rng.bool() { new } else { Some(tear(new, old, rng)) }
            }
            ContentFate::Unwritten => {
                let kept = usize::try_from(durable_bytes).map_or(SECTOR_BYTES, |b| b.min(SECTOR_BYTES));
                let mut sector = version(0).unwrap_or_else(zeros);
                let bytes = &mut Arc::make_mut(&mut sector)[kept..];
                if rng.bool() {
                    bytes.fill(0);
                } else {
                    rng.fill(bytes);
                }
                Some(sector)
            }
        }
    }
}

fn tear(new: Option<Sector>, old: Option<Sector>, rng: &mut Rng) -> Sector {
    let mut sector = new.unwrap_or_else(zeros);
    let old = old.unwrap_or_else(zeros);
    let at = rng.usize(1..SECTOR_BYTES);
    Arc::make_mut(&mut sector)[at..].copy_from_slice(&old[at..]);
    sector
}

fn zeros() -> Sector {
    Arc::new([0; SECTOR_BYTES])
}
