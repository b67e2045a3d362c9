//! Snappy's block format, by `snap`.

use snap::raw::{Decoder, Encoder, decompress_len, max_compress_len};

pub(super) type State = Encoder;

/// True when `packed` holds all of `content`.
pub(super) fn compress(state: &mut State, content: &[u8], packed: &mut Vec<u8>) -> bool {
    packed.resize(max_compress_len(content.len()), 0);
    let written = state.compress(content, packed);
    packed.truncate(written.as_ref().copied().unwrap_or(0));
    written.is_ok()
}

/// True when `content` was filled to its end.
pub(super) fn decompress(packed: &[u8], content: &mut [u8]) -> bool {
    decompress_len(packed).is_ok_and(|length| length == content.len())
        && Decoder::new().decompress(packed, content).is_ok_and(|written| written == content.len())
}
