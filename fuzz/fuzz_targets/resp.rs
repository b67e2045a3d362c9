//! Fuzzes the RESP codec: bytes never do harm, and a stream means the same whole and in pieces.

#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use pugdb_wire::resp::{
    Limits, Protocol, ProtocolError, Reply, ReplyDecoder, ReplyLimits, RequestDecoder, encode_request,
};

/// Small enough that the fuzzer reaches them.
const LIMITS: Limits =
    Limits { arguments_max: 16, bulk_bytes_max: 256, command_bytes_max: 4096, line_bytes_max: 128 };

const REPLY_LIMITS: ReplyLimits = ReplyLimits {
    depth_max: 6,
    elements_max: 16,
    bulk_bytes_max: 256,
    reply_bytes_max: 8192,
    line_bytes_max: 128,
};

// The first byte says how large the pieces are, the rest is the stream.
fuzz_target!(|data: &[u8]| {
    let Some((&piece, stream)) = data.split_first() else { return };
    let piece = usize::from(piece).max(1);

    let whole = requests(stream, stream.len().max(1));
    assert_eq!(requests(stream, piece), whole, "requests in pieces of {piece}");
    let mut again = BytesMut::new();
    for command in &whole.0 {
        encode_request(command, &mut again);
    }
    assert_eq!(requests(&again, piece), (whole.0, None), "requests written again");

    let (replies_whole, error) = replies(stream, stream.len().max(1));
    let sent_on = encoded(&replies_whole);
    let (replies_in_pieces, error_in_pieces) = replies(stream, piece);
    assert_eq!((encoded(&replies_in_pieces), error_in_pieces), (sent_on.clone(), error), "replies in pieces");
    // A lossy text may have grown over the small limits: the defaults hold it.
    let mut decoder = ReplyDecoder::new(ReplyLimits::default());
    let mut input = BytesMut::from(&sent_on[..]);
    for _ in &replies_whole {
        let reply = decoder.decode(&mut input).expect("what we write is a reply").expect("and complete");
        let mut out = BytesMut::new();
        reply.encode(Protocol::Resp2, &mut out);
    }
    assert!(input.is_empty());
});

fn requests(stream: &[u8], piece: usize) -> (Vec<Vec<Bytes>>, Option<ProtocolError>) {
    let mut decoder = RequestDecoder::new(LIMITS);
    let mut input = BytesMut::new();
    let mut commands = Vec::new();
    for bytes in stream.chunks(piece) {
        input.extend_from_slice(bytes);
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(request)) => commands.push(request.into_arguments()),
                Ok(None) => break,
                Err(error) => return (commands, Some(error)),
            }
        }
        assert!(decoder.buffered_bytes() <= LIMITS.command_bytes_max + LIMITS.line_bytes_max + piece);
    }
    (commands, None)
}

fn replies(stream: &[u8], piece: usize) -> (Vec<Reply>, Option<ProtocolError>) {
    let mut decoder = ReplyDecoder::new(REPLY_LIMITS);
    let mut input = BytesMut::new();
    let mut replies = Vec::new();
    for bytes in stream.chunks(piece) {
        input.extend_from_slice(bytes);
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(reply)) => replies.push(reply),
                Ok(None) => break,
                Err(error) => return (replies, Some(error)),
            }
        }
        assert!(input.len() <= REPLY_LIMITS.reply_bytes_max + REPLY_LIMITS.line_bytes_max + piece);
    }
    (replies, None)
}

fn encoded(replies: &[Reply]) -> BytesMut {
    let mut out = BytesMut::new();
    for reply in replies {
        reply.encode(Protocol::Resp3, &mut out);
    }
    out
}
