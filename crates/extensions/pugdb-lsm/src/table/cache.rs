//! Blocks kept in memory, verified and opened, up to a number of bytes. Second chance (CLOCK) decides who goes.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use pugdb_core::FileId;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::block::Block;

/// A part of the cache under one lock; smaller ones would hold no large block.
const SHARD_BYTES_MIN: usize = 4 << 20;
const SHARDS_MAX: usize = 16;
/// What a block costs beside its content: map slot, queue slot, headers.
const SLOT_BYTES: usize = 160;

/// Blocks of all tables, bounded by bytes. A block that is still in use when it goes lives on until its last reader
/// is done.
pub struct BlockCache {
    shards: Vec<Mutex<Shard>>,
    shard_bytes: usize,
}

type BlockKey = (FileId, u64);

#[derive(Default)]
struct Shard {
    slots: HashMap<BlockKey, Slot>,
    /// Who is asked next whether it may go.
    queue: VecDeque<BlockKey>,
    bytes: usize,
}

struct Slot {
    block: Block,
    used: Used,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Used {
    SinceAsked,
    No,
}

impl BlockCache {
    /// A cache of at most `bytes`; 0 turns it off.
    pub fn new(bytes: usize) -> Self {
        let shards = (bytes / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX);
        Self { shard_bytes: bytes / shards, shards: (0..shards).map(|_| Mutex::default()).collect() }
    }

    /// What the blocks take now: never more than the cache was given.
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().bytes).sum()
    }

    /// Drops the blocks of a table that is gone.
    pub fn forget(&self, file: FileId) {
        for shard in &self.shards {
            let shard = &mut *shard.lock();
            shard.queue.retain(|key| key.0 != file);
            let bytes = &mut shard.bytes;
            shard.slots.retain(|key, slot| {
                let kept = key.0 != file;
                *bytes -= if kept { 0 } else { cost(&slot.block) };
                kept
            });
        }
    }

    /// The block at `offset` of `file`.
    pub(super) fn get(&self, file: FileId, offset: u64) -> Option<Block> {
        let key = (file, offset);
        let mut shard = self.shard(key).lock();
        let slot = shard.slots.get_mut(&key)?;
        slot.used = Used::SinceAsked;
        Some(slot.block.clone())
    }

    /// Keeps the block at `offset` of `file`, unless it is too large.
    pub(super) fn insert(&self, file: FileId, offset: u64, block: &Block) {
        if cost(block) <= self.shard_bytes {
            let key = (file, offset);
            self.shard(key).lock().insert(key, block.clone(), self.shard_bytes);
        }
    }

    fn shard(&self, (file, offset): BlockKey) -> &Mutex<Shard> {
        let hash = xxh3_64_with_seed(&file.0, offset);
        let at = (u128::from(hash) * self.shards.len() as u128) >> 64;
        &self.shards[usize::try_from(at).expect("the product's upper half is below the number of shards")]
    }
}

impl Shard {
    fn insert(&mut self, key: BlockKey, block: Block, bytes_max: usize) {
        if self.slots.contains_key(&key) {
            return; // Two readers missed it at once; both have the same bytes.
        }
        while self.bytes + cost(&block) > bytes_max {
            let Some(asked) = self.queue.pop_front() else { return };
            match self.slots.get_mut(&asked) {
                Some(slot) if slot.used == Used::SinceAsked => {
                    slot.used = Used::No;
                    self.queue.push_back(asked);
                }
                _ => self.bytes -= self.slots.remove(&asked).map_or(0, |slot| cost(&slot.block)),
            }
        }
        self.bytes += cost(&block);
        self.queue.push_back(key);
        self.slots.insert(key, Slot { block, used: Used::No });
    }
}

fn cost(block: &Block) -> usize {
    block.bytes() + SLOT_BYTES
}
