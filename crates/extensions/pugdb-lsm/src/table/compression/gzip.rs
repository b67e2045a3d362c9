//! Gzip (RFC 1952), by `flate2` with `zlib-rs`.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

pub(super) type State = Compress;

/// The largest window that deflate has: 32 KiB.
const WINDOW_BITS: u8 = 15;

pub(super) fn compressor(level: u8) -> State {
    Compress::new_gzip(Compression::new(level.into()), WINDOW_BITS)
}

/// True when `packed` holds all of `content`, which it does not when it would be longer than `room`.
pub(super) fn compress(state: &mut State, content: &[u8], packed: &mut Vec<u8>, room: usize) -> bool {
    packed.resize(room, 0);
    state.reset();
    let status = state.compress(content, packed, FlushCompress::Finish);
    packed.truncate(usize::try_from(state.total_out()).unwrap_or(0));
    matches!(status, Ok(Status::StreamEnd))
}

/// True when `content` was filled to its end by all of `packed`.
pub(super) fn decompress(packed: &[u8], content: &mut [u8]) -> bool {
    let mut state = Decompress::new_gzip(WINDOW_BITS);
    let status = state.decompress(packed, content, FlushDecompress::Finish);
    matches!(status, Ok(Status::StreamEnd))
        && state.total_in() == packed.len() as u64
        && state.total_out() == content.len() as u64
}
