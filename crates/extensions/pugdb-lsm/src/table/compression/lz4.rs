//! LZ4's block format, by `lz4_flex`, which has no unsafe code in this build.

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};

pub(super) type State = CompressTable;

/// True when `packed` holds all of `content`.
pub(super) fn compress(state: &mut State, content: &[u8], packed: &mut Vec<u8>) -> bool {
    packed.resize(get_maximum_output_size(content.len()), 0);
    let written = compress_into_with_table(content, packed, state);
    packed.truncate(written.as_ref().copied().unwrap_or(0));
    written.is_ok()
}

/// True when `content` was filled to its end.
pub(super) fn decompress(packed: &[u8], content: &mut [u8]) -> bool {
    decompress_into(packed, content).is_ok_and(|written| written == content.len())
}
