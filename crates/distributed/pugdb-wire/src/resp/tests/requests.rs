//! What the server's decoder accepts, what it refuses and in which words, and how much work it does.

use bytes::{Bytes, BytesMut};

use super::super::limits::{ARGUMENT_OVERHEAD_BYTES, ARGUMENTS_MAX, LINE_BYTES_MAX};
use super::super::{Limits, ProtocolError, RequestDecoder, encode_request};
use super::{SMALL, decode_requests, decode_requests_both_ways};

/// A command as the tables write it.
type Words = &'static [&'static [u8]];

fn commands(stream: &[u8]) -> Vec<Vec<Bytes>> {
    let (commands, error) = decode_requests_both_ways(Limits::default(), stream);
    assert_eq!(error, None);
    commands
}

fn refusal(stream: &[u8]) -> String {
    let (_, error) = decode_requests_both_ways(Limits::default(), stream);
    error.expect("the stream is refused").to_string()
}

#[test]
fn arrays_of_strings_are_commands() {
    let cases: &[(&[u8], &[Words])] = &[
        (b"*1\r\n$4\r\nPING\r\n", &[&[b"PING"]]),
        (b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n", &[&[b"ECHO", b""]]),
        (b"*2\r\n$3\r\nGET\r\n$4\r\n\r\n\x00\xff\r\n", &[&[b"GET", b"\r\n\x00\xff"]]),
        (b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nQUIT\r\n", &[&[b"PING"], &[b"QUIT"]]),
        (b"*0\r\n*-1\r\n*-10\r\n\r\n\n*1\r\n$4\r\nPING\r\n", &[&[b"PING"]]),
        (b"PING\r\n*1\r\n$4\r\nQUIT\r\n", &[&[b"PING"], &[b"QUIT"]]),
        (b"*2\r\n$4\r\nECHO\r\n$5\r\nhal", &[]),
        (b"*1048576\r\n", &[]),
        (b"", &[]),
    ];
    for (stream, expected) in cases {
        assert_eq!(commands(stream), *expected, "{}", stream.escape_ascii());
    }
}

#[test]
fn inline_commands_follow_the_quoting_rules_of_redis() {
    let cases: &[(&[u8], Words)] = &[
        (b"PING\r\n", &[b"PING"]),
        (b"PING\n", &[b"PING"]),
        (b"  SET\t a  b  \r\n", &[b"SET", b"a", b"b"]),
        (br#"SET a "b c""#, &[b"SET", b"a", b"b c"]),
        (br#"SET a "" ''"#, &[b"SET", b"a", b"", b""]),
        (br#"ECHO "\n\r\t\b\a\\\"\q""#, &[b"ECHO", b"\n\r\t\x08\x07\\\"q"]),
        (br#"ECHO "\x00\xfF\xg0""#, &[b"ECHO", b"\x00\xffxg0"]),
        (br"ECHO 'it\'s \n \x41'", &[b"ECHO", br"it's \n \x41"]),
        (br#"ECHO a"b c""#, &[b"ECHO", b"ab c"]),
        (br"ECHO a\b", &[b"ECHO", br"a\b"]),
        (b"ECHO a\x0bb\x0b c", &[b"ECHO", b"a\x0bb\x0b", b"c"]),
        (b"ECHO \xff\x00", &[b"ECHO", b"\xff\x00"]),
        (b"$4", &[b"$4"]),
    ];
    for (line, expected) in cases {
        let mut stream = line.to_vec();
        if !stream.ends_with(b"\n") {
            stream.extend_from_slice(b"\r\n");
        }
        assert_eq!(commands(&stream), [*expected], "{}", line.escape_ascii());
    }
    for unbalanced in [r#"ECHO "a"#, "ECHO 'a", r#"ECHO "a"b"#, "ECHO 'a'b", r#"ECHO ""#, r#"ECHO "a\"#] {
        let stream = format!("{unbalanced}\r\n");
        assert_eq!(
            refusal(stream.as_bytes()),
            "Protocol error: unbalanced quotes in request",
            "{unbalanced}"
        );
    }
}

#[test]
fn what_is_no_command_is_refused_in_the_words_of_redis() {
    let multibulk = "Protocol error: invalid multibulk length";
    let bulk = "Protocol error: invalid bulk length";
    let cases: &[(&[u8], &str)] = &[
        (b"*1000000000\r\n", multibulk),
        (b"*1048577\r\n", multibulk),
        (b"*9223372036854775807\r\n", multibulk),
        (b"*9223372036854775808\r\n", multibulk),
        (b"*99999999999999999999999\r\n", multibulk),
        (b"*\r\n", multibulk),
        (b"*-\r\n", multibulk),
        (b"*+1\r\n", multibulk),
        (b"*01\r\n", multibulk),
        (b"*-0\r\n", multibulk),
        (b"* 1\r\n", multibulk),
        (b"*1 \r\n", multibulk),
        (b"*1\n", multibulk),
        (b"*1x\r\n", multibulk),
        (b"*\xff\r\n", multibulk),
        (b"*1\r\n$-1\r\n", bulk),
        (b"*1\r\n$536870913\r\n", bulk),
        (b"*1\r\n$9223372036854775807\r\n", bulk),
        (b"*1\r\n$9223372036854775808\r\n", bulk),
        (b"*1\r\n$18446744073709551615\r\n", bulk),
        (b"*1\r\n$\r\n", bulk),
        (b"*1\r\n$00\r\n", bulk),
        (b"*1\r\n$4\nPING\r\n", bulk),
        (b"*1\r\nx", "Protocol error: expected '$', got 'x'"),
        (b"*1\r\n:1\r\n", "Protocol error: expected '$', got ':'"),
        (b"*1\r\n\xff", "Protocol error: expected '$', got '?'"),
        (b"*1\r\n\x1b[2J", "Protocol error: expected '$', got '?'"),
        (b"*1\r\n\r\n", "Protocol error: expected '$', got '?'"),
        (b"*1\r\n$4\r\nPINGPONG", "Protocol error: expected CRLF"),
        (b"*1\r\n$4\r\nPING\n\n", "Protocol error: expected CRLF"),
    ];
    for (stream, expected) in cases {
        assert_eq!(refusal(stream), *expected, "{}", stream.escape_ascii());
    }
}

#[test]
fn a_line_without_an_end_is_refused_at_64_kib() {
    let cases = [
        ("", "Protocol error: too big inline request"),
        ("*", "Protocol error: too big mbulk count string"),
        ("*1\r\n$", "Protocol error: too big bulk count string"),
    ];
    for (start, expected) in cases {
        let line_start = start.rfind(['*', '$']).map_or(0, |at| start.len() - at);
        let longest = format!("{start}{}", "1".repeat(LINE_BYTES_MAX - line_start));
        assert_eq!(commands(longest.as_bytes()), [] as [Vec<Bytes>; 0], "{start}: 64 KiB may still end");
        assert_eq!(refusal(format!("{longest}1").as_bytes()), expected);
    }
    // The end that comes too late is no end, also if all of it came at once.
    let late = format!("{}\r\n", "1".repeat(LINE_BYTES_MAX));
    assert_eq!(refusal(late.as_bytes()), "Protocol error: too big inline request");
}

#[test]
fn a_command_has_an_end_to_its_size() {
    let argument = b"$64\r\n0123456789012345678901234567890123456789012345678901234567890123\r\n";
    let mut stream = b"*8\r\n".to_vec();
    while stream.len() + argument.len() <= SMALL.command_bytes_max {
        stream.extend_from_slice(argument);
    }
    // Not one byte of the argument that is too much is waited for.
    assert_eq!(decode_requests(SMALL, [&stream[..]]), (vec![], Some(ProtocolError::TooBigCommand)));
    // The size is counted anew for each command.
    let (commands, error) = decode_requests_both_ways(SMALL, &b"*1\r\n$4\r\nPING\r\n".repeat(100));
    assert_eq!((commands.len(), error), (100, None));
    let words = "a ".repeat(9);
    let (_, error) = decode_requests_both_ways(SMALL, format!("{words}\r\n").as_bytes());
    assert_eq!(error, Some(ProtocolError::TooBigInline));
}

#[test]
fn empty_arguments_are_not_free() {
    let stream = format!("*100\r\n{}", "$0\r\n\r\n".repeat(100));
    let enough = stream.len() + 100 * ARGUMENT_OVERHEAD_BYTES;
    let limits = Limits { command_bytes_max: enough, ..Limits::default() };
    let (commands, error) = decode_requests_both_ways(limits, stream.as_bytes());
    assert_eq!((commands.len(), error), (1, None));
    let limits = Limits { command_bytes_max: enough - 1, ..limits };
    let (_, error) = decode_requests_both_ways(limits, stream.as_bytes());
    assert_eq!(error, Some(ProtocolError::TooBigCommand));
}

#[test]
fn an_announcement_costs_no_memory() {
    for stream in ["*1048576\r\n", "*1048576\r\n$536870912\r\n", "*1048576\r\n$0\r\n\r\n$536870912\r\nx"] {
        let mut decoder = RequestDecoder::new(Limits::default());
        let mut input = BytesMut::from(stream);
        let capacity = input.capacity();
        assert_eq!(decoder.decode(&mut input), Ok(None));
        assert_eq!(input.capacity(), capacity, "the decoder does not reserve");
        assert!(decoder.buffered_bytes() <= stream.len() + ARGUMENT_OVERHEAD_BYTES);
    }
}

#[test]
fn a_command_in_many_pieces_is_read_once() {
    let value = vec![b'v'; 1 << 20];
    let mut stream = BytesMut::new();
    encode_request(&[b"SET".as_slice(), b"key", &value], &mut stream);
    let headers = b"*3\r\n$3\r\n$3\r\n$1048576\r\n".len();
    let mut decoder = RequestDecoder::new(Limits::default());
    let mut input = BytesMut::new();
    let mut commands = Vec::new();
    for byte in &stream {
        input.extend_from_slice(&[*byte]);
        commands.extend(decoder.decode(&mut input).expect("it is a command"));
    }
    assert_eq!(commands[0].arguments()[2], value);
    assert_eq!(decoder.examined_bytes(), headers, "a header once, a value never");
}

#[test]
fn a_long_line_in_many_pieces_is_read_once() {
    let line = format!("ECHO {}\r\n", "x".repeat(LINE_BYTES_MAX - 10));
    let mut decoder = RequestDecoder::new(Limits::default());
    let mut input = BytesMut::new();
    for byte in line.as_bytes() {
        input.extend_from_slice(&[*byte]);
        decoder.decode(&mut input).expect("it is a line");
    }
    assert_eq!(decoder.examined_bytes(), line.len());
}

#[test]
fn sixty_four_mebibytes_in_small_reads_are_one_slice_of_the_input() {
    let value_bytes = 64 << 20;
    let piece = [b'v'; 1024];
    let mut decoder = RequestDecoder::new(Limits::default());
    let mut input = BytesMut::from(format!("*1\r\n${value_bytes}\r\n").as_str());
    for sent in (0..value_bytes).step_by(piece.len()) {
        assert_eq!(decoder.decode(&mut input), Ok(None));
        assert_eq!(decoder.needed_hint(), value_bytes - sent + 2);
        input.extend_from_slice(&piece);
    }
    input.extend_from_slice(b"\r\n");
    let first = input[b"*1\r\n$67108864\r\n".len()..].as_ptr();
    let request = decoder.decode(&mut input).expect("it is a command").expect("it is complete");
    assert_eq!(request.arguments()[0].as_ptr(), first, "not copied");
    assert_eq!(request.arguments()[0].len(), value_bytes);
    assert_eq!(decoder.examined_bytes(), b"*1\r\n$67108864\r\n".len());
}

#[test]
fn the_most_arguments_fit() {
    let stream = format!("*{ARGUMENTS_MAX}\r\n{}", "$1\r\na\r\n".repeat(ARGUMENTS_MAX));
    let (commands, error) = decode_requests(Limits::default(), stream.as_bytes().chunks(1 << 16));
    assert_eq!((commands.len(), commands[0].len(), error), (1, ARGUMENTS_MAX, None));
}

#[test]
fn a_login_raises_the_limits() {
    let mut decoder = RequestDecoder::new(Limits::UNAUTHENTICATED);
    let mut input = BytesMut::from("*2\r\n$4\r\nAUTH\r\n$1\r\nx\r\n*1\r\n$16385\r\n");
    assert!(decoder.decode(&mut input).expect("within the limits").is_some());
    decoder.set_limits(Limits::default());
    assert_eq!(decoder.decode(&mut input), Ok(None));
    let (_, error) = decode_requests_both_ways(Limits::UNAUTHENTICATED, b"*1\r\n$16385\r\n");
    assert_eq!(error, Some(ProtocolError::InvalidBulkLength));
}

#[test]
fn a_caller_who_takes_from_the_input_gets_no_panic() {
    let mut decoder = RequestDecoder::new(Limits::default());
    let mut input = BytesMut::from("*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$9\r\n");
    assert_eq!(decoder.decode(&mut input), Ok(None));
    input.clear();
    assert_eq!(decoder.decode(&mut input), Ok(None));
}

#[test]
fn nothing_printable_shows_a_users_bytes() {
    let mut decoder = RequestDecoder::new(Limits::default());
    let mut input = BytesMut::from("*2\r\n$3\r\nSET\r\n$6\r\ncanary\r\n*2\r\n$6\r\ncanary\r\ncanary");
    let request = decoder.decode(&mut input).expect("a command").expect("complete");
    let error = decoder.decode(&mut input).expect_err("no command");
    let printed = format!("{request:?} {decoder:?} {error:?} {error} {:?}", error.to_reply());
    assert!(!printed.contains("canary") && !printed.contains("99, 97"), "{printed}");
    assert_eq!(format!("{request:?}"), "Request[3 bytes, 6 bytes]");
}
