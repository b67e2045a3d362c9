//! Zstandard's frame, by `zstd`. Its contexts are large: a writer has one, and so has each thread that reads.

use std::cell::RefCell;

use pugdb_core::{Error, Result};
use zstd::bulk::{Compressor, Decompressor};

pub(super) type State = Compressor<'static>;

thread_local! {
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

pub(super) fn compressor(level: u8) -> Result<State> {
    Compressor::new(level.into()).map_err(|error| Error::io("begin to compress", error))
}

/// True when `packed` holds all of `content`, which it does not when it would be longer than `room`.
pub(super) fn compress(state: &mut State, content: &[u8], packed: &mut Vec<u8>, room: usize) -> bool {
    packed.resize(room, 0);
    let written = state.compress_to_buffer(content, packed.as_mut_slice());
    packed.truncate(written.as_ref().copied().unwrap_or(0));
    written.is_ok()
}

/// True when `content` was filled to its end.
pub(super) fn decompress(packed: &[u8], content: &mut [u8]) -> bool {
    DECOMPRESSOR.with_borrow_mut(|slot| {
        // Taken out: after a failure the next one begins with a new context.
        let Some(mut decompressor) = slot.take().or_else(|| Decompressor::new().ok()) else { return false };
        let written = decompressor.decompress_to_buffer(packed, content);
        if written.is_ok() {
            *slot = Some(decompressor);
        }
        written.is_ok_and(|written| written == content.len())
    })
}
