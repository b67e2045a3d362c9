//! How replies are written for either protocol, and what the client's decoder accepts and refuses.

use bytes::{Bytes, BytesMut};

use super::super::limits::{DEPTH_MAX, LINE_BYTES_MAX, VALUE_OVERHEAD_BYTES};
use super::super::{Protocol, ProtocolError, Reply, ReplyDecoder, ReplyLimits};
use super::{SMALL_REPLIES, decode_replies, decode_replies_both_ways};

fn bulk(text: &'static str) -> Reply {
    Reply::Bulk(Bytes::from_static(text.as_bytes()))
}

fn encoded(reply: &Reply, protocol: Protocol) -> String {
    let mut out = BytesMut::new();
    reply.encode(protocol, &mut out);
    String::from_utf8(out.to_vec()).expect("the tests' replies are text")
}

#[test]
fn every_type_is_written_for_both_protocols() {
    let pairs = vec![(bulk("k"), Reply::Double(1.5)), (Reply::Null, Reply::Boolean(false))];
    let verbatim = Reply::Verbatim { format: *b"txt", text: "Some".into() };
    let cases = [
        (Reply::OK, "+OK\r\n", "+OK\r\n"),
        (Reply::error("ERR no"), "-ERR no\r\n", "-ERR no\r\n"),
        (Reply::error("ERR a\r\nb\nc\r"), "-ERR a  b c \r\n", "-ERR a  b c \r\n"),
        (Reply::simple("a\r\nb"), "+a  b\r\n", "+a  b\r\n"),
        (Reply::Integer(0), ":0\r\n", ":0\r\n"),
        (Reply::Integer(-10), ":-10\r\n", ":-10\r\n"),
        (Reply::Integer(i64::MAX), ":9223372036854775807\r\n", ":9223372036854775807\r\n"),
        (Reply::Integer(i64::MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n"),
        (bulk(""), "$0\r\n\r\n", "$0\r\n\r\n"),
        (bulk("a\r\nb"), "$4\r\na\r\nb\r\n", "$4\r\na\r\nb\r\n"),
        (Reply::Null, "$-1\r\n", "_\r\n"),
        (Reply::NullArray, "*-1\r\n", "_\r\n"),
        (Reply::Array(vec![]), "*0\r\n", "*0\r\n"),
        (
            Reply::Array(vec![Reply::Null, Reply::Array(vec![Reply::NullArray])]),
            "*2\r\n$-1\r\n*1\r\n*-1\r\n",
            "*2\r\n_\r\n*1\r\n_\r\n",
        ),
        (
            Reply::Map(pairs),
            "*4\r\n$1\r\nk\r\n$3\r\n1.5\r\n$-1\r\n:0\r\n",
            "%2\r\n$1\r\nk\r\n,1.5\r\n_\r\n#f\r\n",
        ),
        (Reply::Set(vec![bulk("m")]), "*1\r\n$1\r\nm\r\n", "~1\r\n$1\r\nm\r\n"),
        (Reply::Push(vec![bulk("m")]), "*1\r\n$1\r\nm\r\n", ">1\r\n$1\r\nm\r\n"),
        (Reply::Boolean(true), ":1\r\n", "#t\r\n"),
        (Reply::Boolean(false), ":0\r\n", "#f\r\n"),
        (Reply::BigNumber("-123".into()), "$4\r\n-123\r\n", "(-123\r\n"),
        (verbatim, "$4\r\nSome\r\n", "=8\r\ntxt:Some\r\n"),
    ];
    for (reply, resp2, resp3) in cases {
        assert_eq!(encoded(&reply, Protocol::Resp2), resp2);
        assert_eq!(encoded(&reply, Protocol::Resp3), resp3);
    }
}

#[test]
fn doubles_look_as_in_redis() {
    let cases = [
        (0.0, "0"),
        (-0.0, "-0"),
        (3.0, "3"),
        (-1.5, "-1.5"),
        (0.1, "0.1"),
        (0.000_001, "0.000001"),
        (0.000_000_1, "1e-7"),
        (-2.5e-10, "-2.5e-10"),
        (0.1 + 0.2, "0.30000000000000004"),
        (1_700_000_000_000.0, "1700000000000"),
        (1e15, "1000000000000000"),
        (1e20, "1e+20"),
        (-1.25e300, "-1.25e+300"),
        (12_345.123_456_78, "1.234512345678e+4"),
        (f64::INFINITY, "inf"),
        (f64::NEG_INFINITY, "-inf"),
        (f64::NAN, "nan"),
    ];
    for (number, text) in cases {
        assert_eq!(encoded(&Reply::Double(number), Protocol::Resp3), format!(",{text}\r\n"));
        let resp2 = format!("${}\r\n{text}\r\n", text.len());
        assert_eq!(encoded(&Reply::Double(number), Protocol::Resp2), resp2);
    }
}

#[test]
fn every_type_is_read() {
    let one_two = vec![Reply::Integer(1), Reply::Integer(2)];
    let cases: Vec<(&[u8], Reply)> = vec![
        (b"+OK\r\n", Reply::OK),
        (b"+\r\n", Reply::simple("")),
        (b"-ERR no\r\n", Reply::error("ERR no")),
        (b"-ERR \xff\r\n", Reply::error("ERR \u{fffd}")),
        (b"!6\r\nERR a\n\r\n", Reply::error("ERR a\n")),
        (b":+7\r\n", Reply::Integer(7)),
        (b":-7\r\n", Reply::Integer(-7)),
        (b"$3\r\n\r\n$\r\n", bulk("\r\n$")),
        (b"$0\r\n\r\n", bulk("")),
        (b"$-1\r\n", Reply::Null),
        (b"*-1\r\n", Reply::NullArray),
        (b"_\r\n", Reply::Null),
        (b"*0\r\n", Reply::Array(vec![])),
        (b"*2\r\n:1\r\n:2\r\n", Reply::Array(one_two.clone())),
        (b"~2\r\n:1\r\n:2\r\n", Reply::Set(one_two.clone())),
        (b">2\r\n:1\r\n:2\r\n", Reply::Push(one_two)),
        (b"%1\r\n+a\r\n*1\r\n_\r\n", Reply::Map(vec![(Reply::simple("a"), Reply::Array(vec![Reply::Null]))])),
        (b"%0\r\n", Reply::Map(vec![])),
        (b",1.5\r\n", Reply::Double(1.5)),
        (b",1e3\r\n", Reply::Double(1000.0)),
        (b",-inf\r\n", Reply::Double(f64::NEG_INFINITY)),
        (b"#t\r\n", Reply::Boolean(true)),
        (b"#f\r\n", Reply::Boolean(false)),
        (b"(-12345678901234567890\r\n", Reply::BigNumber("-12345678901234567890".into())),
        (b"=7\r\nmkd:# a\r\n", Reply::Verbatim { format: *b"mkd", text: "# a".into() }),
        (b"=4\r\ntxt:\r\n", Reply::Verbatim { format: *b"txt", text: Bytes::new() }),
    ];
    for (stream, expected) in cases {
        let outcome = decode_replies_both_ways(ReplyLimits::default(), stream);
        assert_eq!(outcome, (vec![expected], None), "{}", stream.escape_ascii());
    }
    // Not a number is not equal to itself, so that the table cannot hold it.
    let (nan, _) = decode_replies(ReplyLimits::default(), [b",nan\r\n".as_slice()]);
    assert_eq!(encoded(&nan[0], Protocol::Resp3), ",nan\r\n");
}

#[test]
fn attributes_are_read_and_skipped() {
    let cases: &[(&[u8], Reply)] = &[
        (b"|1\r\n+ttl\r\n:3\r\n:1\r\n", Reply::Integer(1)),
        (b"|0\r\n:1\r\n", Reply::Integer(1)),
        (b"|1\r\n+a\r\n*2\r\n:8\r\n:9\r\n|1\r\n+b\r\n:3\r\n:1\r\n", Reply::Integer(1)),
        (b"*2\r\n|1\r\n+a\r\n:9\r\n:1\r\n:2\r\n", Reply::Array(vec![Reply::Integer(1), Reply::Integer(2)])),
        (b"*1\r\n|1\r\n|1\r\n+x\r\n+y\r\n+a\r\n:9\r\n*0\r\n", Reply::Array(vec![Reply::Array(vec![])])),
    ];
    for (stream, expected) in cases {
        let outcome = decode_replies_both_ways(ReplyLimits::default(), stream);
        assert_eq!(outcome, (vec![expected.clone()], None), "{}", stream.escape_ascii());
    }
    // What is annotated is part of the reply: without it there is none yet.
    assert_eq!(decode_replies_both_ways(ReplyLimits::default(), b"*1\r\n|1\r\n+a\r\n:9\r\n"), (vec![], None));
}

#[test]
fn what_is_no_reply_is_refused() {
    use ProtocolError::{
        ExpectedCrlf, InvalidReplyLength, InvalidReplyValue, TooBigReply, TooBigReplyLine, TooDeepReply,
        UnknownReplyType,
    };
    let cases: &[(&[u8], ProtocolError)] = &[
        (b"HTTP/1.1 200\r\n", UnknownReplyType),
        (b"\r\n", UnknownReplyType),
        (b"\xff\r\n", UnknownReplyType),
        (b"$9223372036854775807\r\n", InvalidReplyLength),
        (b"$9223372036854775808\r\n", InvalidReplyLength),
        (b"$-2\r\n", InvalidReplyLength),
        (b"$65\r\n", InvalidReplyLength),
        (b"$?\r\n", InvalidReplyLength),
        (b"!65\r\n", InvalidReplyLength),
        (b"=-1\r\n", InvalidReplyLength),
        (b"*9\r\n", InvalidReplyLength),
        (b"%5\r\n", InvalidReplyLength),
        (b"%9223372036854775807\r\n", InvalidReplyLength),
        (b"|4611686018427387904\r\n", InvalidReplyLength),
        (b"~-1\r\n", InvalidReplyLength),
        (b"*?\r\n", InvalidReplyLength),
        (b":\r\n", InvalidReplyValue),
        (b":1.5\r\n", InvalidReplyValue),
        (b":9223372036854775808\r\n", InvalidReplyValue),
        (b",x\r\n", InvalidReplyValue),
        (b"#true\r\n", InvalidReplyValue),
        (b"_x\r\n", InvalidReplyValue),
        (b"(12a\r\n", InvalidReplyValue),
        (b"(-\r\n", InvalidReplyValue),
        (b"=3\r\ntxt\r\n", InvalidReplyValue),
        (b"=4\r\ntext\r\n", InvalidReplyValue),
        (b"+OK\n", ExpectedCrlf),
        (b"$2\r\nOKOK", ExpectedCrlf),
        (b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n", TooDeepReply),
        (b"*1\r\n*1\r\n*1\r\n|1\r\n|1\r\n", TooDeepReply),
        (&[b'+'; 65], TooBigReplyLine),
        (&b"|0\r\n".repeat(100), TooBigReply),
    ];
    for (stream, expected) in cases {
        let (_, error) = decode_replies_both_ways(SMALL_REPLIES, stream);
        assert_eq!(error, Some(*expected), "{}", stream.escape_ascii());
    }
}

#[test]
fn a_reply_has_an_end_to_its_size() {
    let nulls = [b"*3\r\n".as_slice(), &b"_\r\n".repeat(3)].concat();
    let strings = [b"*3\r\n".as_slice(), &b"$9\r\n123456789\r\n".repeat(3)].concat();
    for stream in [nulls, strings] {
        let enough = stream.len() + 4 * VALUE_OVERHEAD_BYTES;
        let limits = ReplyLimits { reply_bytes_max: enough, ..ReplyLimits::default() };
        let (replies, error) = decode_replies_both_ways(limits, &stream);
        assert_eq!((replies.len(), error), (1, None));
        let limits = ReplyLimits { reply_bytes_max: enough - 1, ..limits };
        let (_, error) = decode_replies_both_ways(limits, &stream);
        assert_eq!(error, Some(ProtocolError::TooBigReply));
    }
    // The size is counted anew for each reply.
    let (replies, error) = decode_replies_both_ways(SMALL_REPLIES, &b"*1\r\n_\r\n".repeat(100));
    assert_eq!((replies.len(), error), (100, None));
    // Not one byte of the string that is too much is waited for.
    let limits = ReplyLimits { reply_bytes_max: 1000, ..ReplyLimits::default() };
    let outcome = decode_replies_both_ways(limits, b"$1000\r\n");
    assert_eq!(outcome, (vec![], Some(ProtocolError::TooBigReply)));
}

#[test]
fn depth_ends_before_the_stack_does() {
    let deep = |levels: usize| [b"*1\r\n".repeat(levels), b":1\r\n".to_vec()].concat();
    let (replies, error) = decode_replies_both_ways(ReplyLimits::default(), &deep(usize::from(DEPTH_MAX)));
    assert_eq!((replies.len(), error), (1, None));
    let (_, error) = decode_replies_both_ways(ReplyLimits::default(), &deep(1_000_000));
    assert_eq!(error, Some(ProtocolError::TooDeepReply));
    // The most that a caller can ask for.
    let limits = ReplyLimits { depth_max: u8::MAX, ..ReplyLimits::default() };
    let (replies, error) = decode_replies_both_ways(limits, &deep(usize::from(u8::MAX)));
    assert_eq!((replies.len(), error), (1, None));
}

#[test]
fn a_reply_in_many_pieces_is_scanned_once() {
    let values = vec![Reply::Bulk(vec![b'v'; 1000].into()); 1000];
    let mut stream = BytesMut::new();
    Reply::Array(values.clone()).encode(Protocol::Resp3, &mut stream);
    let headers = b"*1000\r\n".len() + 1000 * b"$1000\r\n".len();
    let mut decoder = ReplyDecoder::new(ReplyLimits::default());
    let mut input = BytesMut::new();
    let mut replies = Vec::new();
    for piece in stream.chunks(7) {
        input.extend_from_slice(piece);
        replies.extend(decoder.decode(&mut input).expect("it is a reply"));
    }
    assert_eq!(replies, [Reply::Array(values)]);
    assert_eq!(decoder.examined_bytes(), headers, "a header once, a string never");
}

#[test]
fn a_line_of_a_reply_has_an_end() {
    let longest = format!("+{}\r\n", "x".repeat(LINE_BYTES_MAX - 2));
    let (replies, error) = decode_replies_both_ways(ReplyLimits::default(), longest.as_bytes());
    assert_eq!((replies.len(), error), (1, None));
    let longer = format!("+{}\r\n", "x".repeat(LINE_BYTES_MAX - 1));
    let (_, error) = decode_replies_both_ways(ReplyLimits::default(), longer.as_bytes());
    assert_eq!(error, Some(ProtocolError::TooBigReplyLine));
}

#[test]
fn nothing_printable_shows_a_users_bytes() {
    let canary = || Bytes::from_static(b"canary");
    let cases = [
        (Reply::Bulk(canary()), "Bulk(6 bytes)"),
        (Reply::simple("canary".to_owned()), "Simple(6 bytes)"),
        (Reply::error("ERR canary".to_owned()), "Error(10 bytes)"),
        (Reply::Verbatim { format: *b"txt", text: canary() }, "Verbatim(6 bytes)"),
        (Reply::BigNumber("4711".into()), "BigNumber(4 bytes)"),
        (Reply::Integer(4711), "Integer(..)"),
        (Reply::Double(4711.0), "Double(..)"),
        (Reply::Boolean(true), "Boolean(..)"),
        (Reply::Array(vec![Reply::Bulk(canary())]), "Array(1 values)"),
        (Reply::Set(vec![Reply::Bulk(canary())]), "Set(1 values)"),
        (Reply::Push(vec![Reply::Bulk(canary())]), "Push(1 values)"),
        (Reply::Map(vec![(Reply::Bulk(canary()), Reply::Null)]), "Map(1 pairs)"),
        (Reply::Null, "Null"),
        (Reply::NullArray, "NullArray"),
        (Reply::OK, "Simple(\"OK\")"),
    ];
    for (reply, printed) in cases {
        assert_eq!(format!("{reply:?}"), printed);
    }
    let mut decoder = ReplyDecoder::new(ReplyLimits::default());
    decoder.decode(&mut BytesMut::from("*2\r\n+canary\r\n$9\r\ncanary")).expect("a reply");
    assert!(!format!("{decoder:?}").contains("canary"));
}
