//! Properties: what is written is read back however it is cut, and no bytes do harm.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::super::{Limits, Protocol, Reply, ReplyLimits, encode_request};
use super::{SMALL, SMALL_REPLIES, decode_replies, decode_requests};

/// The stream in pieces that begin and end anywhere.
fn cut<'a>(stream: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    ends.push(stream.len());
    ends.sort_unstable();
    let mut start = 0;
    ends.into_iter().map(|end| &stream[std::mem::replace(&mut start, end)..end]).collect()
}

/// Bytes that look like RESP often enough to get deep into the decoders.
fn resp_like() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        4 => select(vec!["*", "$", "+", "-", ":", "%", "~", ">", "|", "=", "!", "(", ",", "#", "_", "\"", "'"])
            .prop_map(|token| token.as_bytes().to_vec()),
        4 => (0_u32..12).prop_map(|number| number.to_string().into_bytes()),
        6 => Just(b"\r\n".to_vec()),
        3 => select(vec!["$1\r\na\r\n", "$0\r\n\r\n", "*2\r\n", "+OK\r\n", "_\r\n", "=5\r\ntxt:a\r\n", "|1\r\n", "PING x\r\n"])
            .prop_map(|token| token.as_bytes().to_vec()),
        1 => select(vec!["-1", "64", "65", "9223372036854775807", "18446744073709551616", "\\", " ", "\n", "\r"])
            .prop_map(|token| token.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..20),
    ];
    vec(token, 0..60).prop_map(|tokens| tokens.concat())
}

fn text() -> impl Strategy<Value = String> {
    vec(prop_oneof![Just(' '), Just('é'), proptest::char::range('!', '~')], 0..20)
        .prop_map(|chars| chars.into_iter().collect())
}

/// Every reply that reads back as itself: RESP3 has one null only, and not a number is not equal to itself.
fn reply() -> impl Strategy<Value = Reply> {
    let leaf = prop_oneof![
        text().prop_map(Reply::simple),
        text().prop_map(Reply::error),
        any::<i64>().prop_map(Reply::Integer),
        vec(any::<u8>(), 0..40).prop_map(|bytes| Reply::Bulk(bytes.into())),
        Just(Reply::Null),
        any::<f64>().prop_filter("equal to itself", |number| !number.is_nan()).prop_map(Reply::Double),
        any::<bool>().prop_map(Reply::Boolean),
        any::<i128>().prop_map(|number| Reply::BigNumber(number.to_string().into())),
        (any::<[u8; 3]>(), vec(any::<u8>(), 0..40))
            .prop_map(|(format, text)| Reply::Verbatim { format, text: text.into() }),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Reply::Array),
            vec(inner.clone(), 0..6).prop_map(Reply::Set),
            vec(inner.clone(), 0..6).prop_map(Reply::Push),
            vec((inner.clone(), inner), 0..4).prop_map(Reply::Map),
        ]
    })
}

proptest! {
    #[test]
    fn a_request_reads_back_however_it_is_cut(
        commands in vec(vec(vec(any::<u8>(), 0..50), 1..6), 0..6),
        cuts in vec(any::<Index>(), 0..40),
    ) {
        let mut stream = BytesMut::new();
        for command in &commands {
            encode_request(command, &mut stream);
        }
        let (read, error) = decode_requests(Limits::default(), cut(&stream, &cuts));
        prop_assert_eq!(error, None);
        let expected: Vec<Vec<Bytes>> =
            commands.into_iter().map(|command| command.into_iter().map(Bytes::from).collect()).collect();
        prop_assert!(read == expected);
    }

    #[test]
    fn a_reply_reads_back_however_it_is_cut(
        replies in vec(reply(), 0..4),
        cuts in vec(any::<Index>(), 0..40),
    ) {
        let mut stream = BytesMut::new();
        for reply in &replies {
            reply.encode(Protocol::Resp3, &mut stream);
        }
        let (read, error) = decode_replies(ReplyLimits::default(), cut(&stream, &cuts));
        prop_assert_eq!(error, None);
        prop_assert!(read == replies);
    }

    #[test]
    fn a_resp2_reply_is_one_reply(reply in reply()) {
        let mut stream = BytesMut::new();
        reply.encode(Protocol::Resp2, &mut stream);
        prop_assert!(!stream.iter().any(|byte| b"%~>=(#_".contains(byte)) || has_strings(&reply));
        let (read, error) = decode_replies(ReplyLimits::default(), [&stream[..]]);
        prop_assert_eq!((read.len(), error), (1, None));
        let mut again = BytesMut::new();
        read[0].encode(Protocol::Resp2, &mut again);
        prop_assert_eq!(again, stream);
    }

    #[test]
    fn no_bytes_harm_the_decoders(
        stream in prop_oneof![3 => resp_like(), 1 => vec(any::<u8>(), 0..300)],
        cuts in vec(any::<Index>(), 0..40),
    ) {
        let pieces = cut(&stream, &cuts);
        // The helpers check what is held in memory after every piece.
        prop_assert!(decode_requests(SMALL, pieces.clone()) == decode_requests(SMALL, [&stream[..]]));
        let (requests, _) = decode_requests(SMALL, [&stream[..]]);
        prop_assert!(requests.iter().all(|command| !command.is_empty()));
        let (whole, error) = decode_replies(SMALL_REPLIES, [&stream[..]]);
        let (in_pieces, error_in_pieces) = decode_replies(SMALL_REPLIES, pieces);
        // Not a number again: compare what would be sent on.
        prop_assert_eq!(error, error_in_pieces);
        prop_assert_eq!(sent_on(&whole), sent_on(&in_pieces));
    }
}

/// Whether bytes of the test's own making may look like a type of RESP3.
fn has_strings(reply: &Reply) -> bool {
    match reply {
        Reply::Null | Reply::NullArray | Reply::Integer(_) | Reply::Double(_) | Reply::Boolean(_) => false,
        Reply::Array(values) | Reply::Set(values) | Reply::Push(values) => values.iter().any(has_strings),
        Reply::Map(pairs) => pairs.iter().any(|(key, value)| has_strings(key) || has_strings(value)),
        _ => true,
    }
}

fn sent_on(replies: &[Reply]) -> BytesMut {
    let mut out = BytesMut::new();
    for reply in replies {
        reply.encode(Protocol::Resp3, &mut out);
    }
    out
}
