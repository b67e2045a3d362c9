//! Tests of the codec: tables of what Redis accepts and refuses, properties over random bytes, and work counted.

mod properties;
mod replies;
mod requests;

use bytes::{Bytes, BytesMut};

use super::{Limits, ProtocolError, Reply, ReplyDecoder, ReplyLimits, RequestDecoder};

/// What a decoder makes of a whole stream: its messages in order, and the error it ended with.
type Outcome<T> = (Vec<T>, Option<ProtocolError>);

/// Limits that a test reaches with a few bytes.
const SMALL: Limits =
    Limits { arguments_max: 8, bulk_bytes_max: 64, command_bytes_max: 800, line_bytes_max: 64 };

const SMALL_REPLIES: ReplyLimits = ReplyLimits {
    depth_max: 4,
    elements_max: 8,
    bulk_bytes_max: 64,
    reply_bytes_max: 1024,
    line_bytes_max: 64,
};

fn decode_requests<'a>(limits: Limits, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome<Vec<Bytes>> {
    let mut decoder = RequestDecoder::new(limits);
    let mut input = BytesMut::new();
    let mut requests = Vec::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(request)) => requests.push(request.into_arguments()),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.decode(&mut input), Err(error), "an error is for good");
                    return (requests, Some(error));
                }
            }
        }
        // What waits is one command within its limits, plus what the last piece brought and a line that may grow.
        let most = limits.command_bytes_max + limits.line_bytes_max + piece.len();
        assert!(decoder.buffered_bytes() <= most, "{} bytes wait", decoder.buffered_bytes());
        assert!(input.len() <= decoder.buffered_bytes());
    }
    (requests, None)
}

fn decode_replies<'a>(limits: ReplyLimits, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome<Reply> {
    let mut decoder = ReplyDecoder::new(limits);
    let mut input = BytesMut::new();
    let mut replies = Vec::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(reply)) => replies.push(reply),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.decode(&mut input), Err(error), "an error is for good");
                    return (replies, Some(error));
                }
            }
        }
        assert!(input.len() <= limits.reply_bytes_max + limits.line_bytes_max + piece.len());
    }
    (replies, None)
}

/// The stream whole, and byte by byte: a decoder must not see a difference.
fn decode_requests_both_ways(limits: Limits, stream: &[u8]) -> Outcome<Vec<Bytes>> {
    let whole = decode_requests(limits, [stream]);
    assert_eq!(decode_requests(limits, stream.chunks(1)), whole, "byte by byte as in one piece");
    whole
}

fn decode_replies_both_ways(limits: ReplyLimits, stream: &[u8]) -> Outcome<Reply> {
    let whole = decode_replies(limits, [stream]);
    assert_eq!(decode_replies(limits, stream.chunks(1)), whole, "byte by byte as in one piece");
    whole
}
