//! Where the memtable's bytes lie: a cell for each key, a node for each version of it, in memory that only grows.
//!
//! ```text
//! cell   newest node (8) | key bytes (2) | zeros (6) | key
//! node   older node (8) | far node (8) | depth (4) | value bytes (4) | seqno (8) | flags (1) | meta (1) | zeros (6)
//!        | expiry (8)? | seal (8)? | stamp (16)? | value
//! ```
//!
//! Everything in a cell and a node is written before a reader can find it and never changes, but for `newest`, which is
//! an atomic. Nothing is freed before the whole arena is. That is why readers need no lock, and it is all that the
//! `unsafe` here rests on.
//!
//! A key's versions are a list from the newest to the oldest. So that a reader far in the past does not walk through a
//! million of them, each node also points far back, at distances that make any one reachable in a logarithm of
//! steps: E. W. Myers, "An applicative random-access stack", Information Processing Letters 17 (1983).

#![expect(
    unsafe_code,
    reason = "readers follow pointers that the one writer has published; see the proof above"
)]

use std::cmp::Ordering as Order;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering};

use bytes::Bytes;
use pugdb_core::{EntryKind, Found, RawOp, SealId, Seqno, Stamp, Timestamp};

use crate::prefetch::prefetch_at;

/// The first chunk; the next ones double up to the last size. An idle keyspace costs no chunk at all.
const CHUNK_BYTES_MIN: usize = 4 << 10;
const CHUNK_BYTES_MAX: usize = 1 << 20;
/// Cells and nodes begin at multiples of this, so that a pointer to one has zeros to spare.
pub(super) const ALIGN: usize = 16;

const IS_DELETE: u8 = 1;
const HAS_EXPIRY: u8 = 2;
const HAS_SEAL: u8 = 4;
const HAS_STAMP: u8 = 8;
const IS_OPERAND: u8 = 16;

#[repr(C, align(16))]
struct CellHead {
    newest: AtomicPtr<NodeHead>,
    key_bytes: u16,
}

#[repr(C, align(16))]
struct NodeHead {
    older: *const NodeHead,
    far: *const NodeHead,
    seqno: u64,
    depth: u32,
    value_bytes: u32,
    flags: u8,
    meta: u8,
}

/// A key and its versions, alive as long as the arena that it was made in.
#[derive(Clone, Copy)]
pub(super) struct Cell<'a> {
    head: NonNull<CellHead>,
    arena: PhantomData<&'a Arena>,
}

/// A version of a key.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    head: NonNull<NodeHead>,
    arena: PhantomData<&'a Arena>,
}

// SAFETY: a version is a shared reference to memory that does not change.
unsafe impl Send for Node<'_> {}
// SAFETY: as above.
unsafe impl Sync for Node<'_> {}
// SAFETY: a cell is a shared reference to memory that is only written through the atomic in it.
unsafe impl Send for Cell<'_> {}
// SAFETY: as above.
unsafe impl Sync for Cell<'_> {}

impl<'a> Cell<'a> {
    /// Its address: a multiple of [`ALIGN`], below 2^48.
    pub(super) fn address(self) -> usize {
        self.head.as_ptr().expose_provenance()
    }

    /// The cell at an address.
    ///
    /// # Safety
    /// The address is that of a cell of an arena that lives for `'a`, and was published with release order and read with
    /// acquire order.
    pub(super) unsafe fn at(address: usize) -> Self {
        let head = ptr::with_exposed_provenance_mut::<CellHead>(address);
        // SAFETY: the address of a cell is not zero.
        let head = unsafe { NonNull::new_unchecked(head) };
        Self { head, arena: PhantomData }
    }

    fn head(self) -> &'a CellHead {
        // SAFETY: it points to a cell that was written before its address was published, in memory that lives for 'a.
        unsafe { self.head.as_ref() }
    }

    pub(super) fn key(self) -> &'a [u8] {
        let length = usize::from(self.head().key_bytes);
        // SAFETY: the key stands behind the head, in the same allocation.
        let start = unsafe { self.head.as_ptr().add(1) };
        // SAFETY: `length` bytes of key were written there before the cell was published, and do not change.
        unsafe { std::slice::from_raw_parts(start.cast::<u8>(), length) }
    }

    /// Its newest version.
    pub(super) fn newest(self) -> Node<'a> {
        let newest = self.head().newest.load(Ordering::Acquire);
        // SAFETY: a cell is published with its first node in place, and the pointer is never null after.
        let head = unsafe { NonNull::new_unchecked(newest) };
        Node { head, arena: PhantomData }
    }

    /// Its newest version that a reader at `seqno` can see.
    pub(super) fn visible(self, seqno: Seqno) -> Option<Node<'a>> {
        let mut node = self.newest();
        while node.seqno() > seqno {
            // As far as possible without passing a version that can be seen.
            node = match node.far() {
                Some(far) if far.seqno() > seqno => far,
                _ => node.older()?,
            };
        }
        Some(node)
    }
}

impl<'a> Node<'a> {
    fn head(self) -> &'a NodeHead {
        // SAFETY: it points to a node that was written before it was published, in memory that lives for 'a.
        unsafe { self.head.as_ref() }
    }

    /// Asks for it before it is needed.
    pub(super) fn prefetch(self) {
        prefetch_at(self.head.as_ptr());
    }

    pub(super) fn seqno(self) -> Seqno {
        Seqno(self.head().seqno)
    }

    pub(super) fn kind(self) -> EntryKind {
        kind_of(self.head().flags)
    }

    pub(super) fn expires_at(self) -> Option<Timestamp> {
        let is_there = self.head().flags & HAS_EXPIRY != 0;
        let at = || *self.rest().first_chunk().expect("it is the first of the fields");
        is_there.then(|| Timestamp(u64::from_le_bytes(at())))
    }

    /// The version before it.
    pub(super) fn older(self) -> Option<Self> {
        NonNull::new(self.head().older.cast_mut()).map(|head| Self { head, arena: PhantomData })
    }

    fn far(self) -> Option<Self> {
        NonNull::new(self.head().far.cast_mut()).map(|head| Self { head, arena: PhantomData })
    }

    /// The optional fields and the value.
    fn rest(self) -> &'a [u8] {
        let head = self.head();
        let length = optional_bytes(head.flags) + head.value_bytes as usize;
        // SAFETY: they stand behind the head, in the same allocation.
        let start = unsafe { self.head.as_ptr().add(1) };
        // SAFETY: `length` bytes were written there before the node was published, and do not change.
        unsafe { std::slice::from_raw_parts(start.cast::<u8>(), length) }
    }

    pub(super) fn value(self) -> &'a [u8] {
        &self.rest()[optional_bytes(self.head().flags)..]
    }

    /// The entry, with the value as `share` makes it.
    pub(super) fn found(self, share: impl FnOnce(&'a [u8]) -> Bytes) -> Found {
        Found { seqno: self.seqno(), entry: self.raw(&[]).entry(share) }
    }

    /// What it says about `key`, where it lies.
    pub(super) fn raw(self, key: &'a [u8]) -> RawOp<'a> {
        let head = self.head();
        let mut rest = self.rest();
        let mut take = |flag: u8, bytes: usize| {
            (head.flags & flag != 0).then(|| {
                let (field, after) = rest.split_at(bytes);
                rest = after;
                field
            })
        };
        let number = |field: &[u8]| u64::from_le_bytes(field.try_into().expect("eight bytes were taken"));
        let expires_at = take(HAS_EXPIRY, 8).map(|field| Timestamp(number(field)));
        let seal = take(HAS_SEAL, 8).map(|field| SealId(number(field)));
        let stamp =
            take(HAS_STAMP, 16).map(|field| Stamp(field.try_into().expect("sixteen bytes were taken")));
        let kind = kind_of(head.flags);
        RawOp { key, kind, meta: head.meta, expires_at, seal, stamp, value: rest }
    }
}

fn kind_of(flags: u8) -> EntryKind {
    match flags & (IS_DELETE | IS_OPERAND) {
        0 => EntryKind::Put,
        IS_OPERAND => EntryKind::Operand,
        _ => EntryKind::Delete,
    }
}

fn flags_of(op: &RawOp<'_>) -> u8 {
    let flag = |is_there: bool, flag: u8| if is_there { flag } else { 0 };
    flag(op.kind == EntryKind::Delete, IS_DELETE)
        | flag(op.kind == EntryKind::Operand, IS_OPERAND)
        | flag(op.expires_at.is_some(), HAS_EXPIRY)
        | flag(op.seal.is_some(), HAS_SEAL)
        | flag(op.stamp.is_some(), HAS_STAMP)
}

fn optional_bytes(flags: u8) -> usize {
    let field = |flag: u8, bytes: usize| if flags & flag == 0 { 0 } else { bytes };
    field(HAS_EXPIRY, 8) + field(HAS_SEAL, 8) + field(HAS_STAMP, 16)
}

/// Memory that grows by chunks and is freed as a whole. One writer; readers reach it through cells and nodes.
#[derive(Default)]
pub(super) struct Arena {
    chunks: Vec<Box<[Block]>>,
    /// What is left of the newest ordinary chunk.
    free: Option<NonNull<Block>>,
    free_blocks: usize,
    bytes: usize,
}

/// The unit of the arena.
#[repr(C, align(16))]
#[derive(Clone, Copy)]
struct Block([u8; ALIGN]);

// SAFETY: the pointer leads into `chunks`, which moves along.
unsafe impl Send for Arena {}

impl Arena {
    /// Room for so many bytes, zeroed, that does not move as long as the arena lives.
    fn allocate(&mut self, bytes: usize) -> NonNull<Block> {
        let blocks = bytes.div_ceil(ALIGN);
        if blocks > self.free_blocks {
            let next = (self.bytes.next_power_of_two() / ALIGN)
                .clamp(CHUNK_BYTES_MIN / ALIGN, CHUNK_BYTES_MAX / ALIGN);
            if blocks > next / 4 {
                // Large things have a chunk of their own, and what is left of the present one is used on.
                return self.add_chunk(blocks);
            }
            self.free = Some(self.add_chunk(next));
            self.free_blocks = next;
        }
        let start = self.free.expect("there is a chunk: it has room");
        // SAFETY: `blocks` are left in this chunk, so the end is within it or just behind.
        self.free = Some(unsafe { start.add(blocks) });
        self.free_blocks -= blocks;
        start
    }

    fn add_chunk(&mut self, blocks: usize) -> NonNull<Block> {
        let mut chunk = vec![Block([0; ALIGN]); blocks].into_boxed_slice();
        let start = NonNull::from(&mut chunk[..]).cast::<Block>();
        assert!(start.as_ptr().addr() >> 48 == 0, "an address of a user's process has 48 bits");
        self.bytes += blocks * ALIGN;
        self.chunks.push(chunk);
        start
    }

    /// A cell for a key, with its first version.
    pub(super) fn add_cell<'a>(&mut self, seqno: Seqno, op: &RawOp<'_>) -> Cell<'a> {
        let key = op.key;
        let head = self.allocate(size_of::<CellHead>() + key.len()).cast::<CellHead>();
        let newest = self.add_node(seqno, op, None);
        let key_bytes = u16::try_from(key.len()).expect("a key has at most 65,535 bytes");
        let cell = CellHead { newest: AtomicPtr::new(newest.as_ptr()), key_bytes };
        // SAFETY: there is room for a head, aligned, that nobody else knows of yet.
        unsafe { head.write(cell) };
        // SAFETY: behind the head there is room for the key.
        let start = unsafe { head.add(1) };
        // SAFETY: as above; the key is somebody else's memory.
        unsafe { ptr::copy_nonoverlapping(key.as_ptr(), start.as_ptr().cast::<u8>(), key.len()) };
        Cell { head, arena: PhantomData }
    }

    /// Puts a newer version in front of a cell's others. Readers find it from here on.
    pub(super) fn add_version(&mut self, cell: Cell<'_>, seqno: Seqno, op: &RawOp<'_>) {
        let node = self.add_node(seqno, op, Some(cell.newest()));
        cell.head().newest.store(node.as_ptr(), Ordering::Release);
    }

    fn add_node(&mut self, seqno: Seqno, op: &RawOp<'_>, older: Option<Node<'_>>) -> NonNull<NodeHead> {
        let flags = flags_of(op);
        let bytes = size_of::<NodeHead>() + optional_bytes(flags) + op.value.len();
        let head = self.allocate(bytes).cast::<NodeHead>();
        let node = NodeHead {
            older: older.map_or(ptr::null(), |older| older.head.as_ptr()),
            far: older.map_or(ptr::null(), far_from),
            seqno: seqno.0,
            depth: older.map_or(0, |older| older.head().depth + 1),
            value_bytes: u32::try_from(op.value.len()).expect("a value has at most 512 MiB"),
            flags,
            meta: op.meta,
        };
        // SAFETY: there is room for a head, aligned, that nobody else knows of yet.
        unsafe { head.write(node) };
        // SAFETY: behind the head there is room for the rest.
        let mut end = unsafe { head.add(1) }.as_ptr().cast::<u8>();
        let expiry = op.expires_at.map(|Timestamp(at)| at.to_le_bytes());
        let seal = op.seal.map(|SealId(id)| id.to_le_bytes());
        let stamp = op.stamp.map(|Stamp(stamp)| stamp);
        let fields = [
            expiry.as_ref().map(<[u8; 8]>::as_slice),
            seal.as_ref().map(<[u8; 8]>::as_slice),
            stamp.as_ref().map(<[u8; 16]>::as_slice),
            Some(op.value),
        ];
        for field in fields.into_iter().flatten() {
            // SAFETY: `bytes` counts every field, so it lies within the room.
            unsafe { ptr::copy_nonoverlapping(field.as_ptr(), end, field.len()) };
            // SAFETY: as above.
            end = unsafe { end.add(field.len()) };
        }
        head
    }
}

/// Where a node in front of `older` points far back to: beyond the next two equal leaps, or to `older` itself.
fn far_from(older: Node<'_>) -> *const NodeHead {
    fn leap(node: Node<'_>) -> Option<(u32, Node<'_>)> {
        node.far().map(|far| (node.head().depth - far.head().depth, far))
    }
    if let Some((length, far)) = leap(older)
        && let Some((next_length, farther)) = leap(far)
        && length == next_length
    {
        return farther.head.as_ptr();
    }
    older.head.as_ptr()
}

/// A key as it stands in the order: its head, by which nearly all comparisons are decided without a look at the cell,
/// and the cell.
#[derive(Clone, Copy)]
pub(super) struct Item {
    head: Head,
    address: usize,
}

/// The first sixteen bytes of a key as numbers in the same order. Eight would not do: keys of one keyspace often begin
/// alike. Zeros stand for missing bytes, so equal heads say nothing yet.
pub(super) type Head = [u64; 2];

pub(super) fn head_of(key: &[u8]) -> Head {
    let mut head = [0; 16];
    let length = key.len().min(head.len());
    head[..length].copy_from_slice(&key[..length]);
    let (first, second) = head.split_at(8);
    [first, second].map(|half| u64::from_be_bytes(half.try_into().expect("eight of sixteen bytes")))
}

impl Item {
    pub(super) fn new(cell: Cell<'_>) -> Self {
        Self { head: head_of(cell.key()), address: cell.address() }
    }

    /// The first bytes of its key.
    pub(super) fn head(self) -> Head {
        self.head
    }

    /// Asks for its cell before it is needed.
    pub(super) fn prefetch(self) {
        prefetch_at(ptr::without_provenance::<CellHead>(self.address));
    }

    /// Its cell.
    ///
    /// # Safety
    /// The arena it was made in lives for `'a`, and the item came here with acquire order.
    pub(super) unsafe fn cell<'a>(self) -> Cell<'a> {
        // SAFETY: the caller says so.
        unsafe { Cell::at(self.address) }
    }

    /// How its key compares with another one, whose head is known.
    ///
    /// # Safety
    /// As for [`cell`](Self::cell).
    pub(super) unsafe fn cmp_key(self, head: Head, key: &[u8]) -> Order {
        self.head.cmp(&head).then_with(|| {
            // SAFETY: the caller says so.
            unsafe { self.cell() }.key().cmp(key)
        })
    }

    /// How two items compare.
    ///
    /// # Safety
    /// As for [`cell`](Self::cell), for both.
    pub(super) unsafe fn cmp(self, other: Self) -> Order {
        self.head.cmp(&other.head).then_with(|| {
            // SAFETY: the caller says so.
            let (mine, theirs) = unsafe { (self.cell(), other.cell()) };
            mine.key().cmp(theirs.key())
        })
    }
}

/// Bytes of an arena, lent to whoever keeps the memtable alive for them.
pub(super) struct Lent<T> {
    start: *const u8,
    length: usize,
    _owner: T,
}

// SAFETY: the bytes do not change, and whoever has the owner may be anywhere.
unsafe impl<T: Send> Send for Lent<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Lent<T> {}

impl<T> Lent<T> {
    /// # Safety
    /// The bytes stay where they are, unchanged, as long as `owner` lives.
    pub(super) unsafe fn new(owner: T, bytes: &[u8]) -> Self {
        Self { start: bytes.as_ptr(), length: bytes.len(), _owner: owner }
    }
}

impl<T> AsRef<[u8]> for Lent<T> {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the owner lives as long as this, and the bytes with it.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }
}
