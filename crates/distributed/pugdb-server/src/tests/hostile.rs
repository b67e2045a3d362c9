//! Bytes that no friend sends: one clear error, and the server lives on.

use super::harness::{Running, options, request};
use crate::ServerOptions;

/// Longer than a line may be.
static LONG_LINE: [u8; 70_000] = [b'x'; 70_000];

#[test]
fn broken_frames_get_an_error_and_the_connection_is_closed() {
    let server = Running::in_memory();
    let cases: &[(&[u8], &str)] = &[
        (b"*1\r\n$9223372036854775808\r\n", "-ERR Protocol error: invalid bulk length"),
        (b"*1\r\n$9223372036854775807\r\n", "-ERR Protocol error: invalid bulk length"),
        (b"*1\r\n$-1\r\n", "-ERR Protocol error: invalid bulk length"),
        (b"*9223372036854775807\r\n", "-ERR Protocol error: invalid multibulk length"),
        (b"*1048577\r\n", "-ERR Protocol error: invalid multibulk length"),
        (b"*x\r\n", "-ERR Protocol error: invalid multibulk length"),
        (b"*1\r\n+PING\r\n", "-ERR Protocol error: expected '$', got '+'"),
        (b"*1\r\n$4\r\nPINGxx", "-ERR Protocol error: expected CRLF"),
        (b"GET \"a\r\n", "-ERR Protocol error: unbalanced quotes in request"),
        (&LONG_LINE, "-ERR Protocol error: too big inline request"),
    ];
    for (bytes, error) in cases {
        let mut client = server.connect();
        client.send("PING\r\n");
        client.send(bytes);
        assert_eq!(
            (client.text(), client.text(), client.text()),
            ("+PONG".into(), (*error).into(), "closed".into())
        );
    }
    assert_eq!(server.shared.stats.protocol_errors.get(), cases.len() as u64);
    assert_eq!(server.connect().call(&["PING"]), "+PONG");
}

#[test]
fn random_bytes_end_in_replies_or_a_closed_connection() {
    let server = Running::in_memory();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..200 {
        let mut client = server.connect();
        let mut bytes = Vec::new();
        for _ in 0..300 {
            // xorshift, so that a failure can be repeated.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let alphabet = b"*$\r\n0123456789 PINGSETk\"'\\x\0\xff";
            bytes.push(alphabet[usize::try_from(state % alphabet.len() as u64).unwrap()]);
        }
        client.send(&bytes);
        client.finish();
    }
    assert_eq!(server.shared.stats.panics.get(), 0);
    assert_eq!(server.connect().call(&["PING"]), "+PONG");
}

#[test]
fn unfinished_commands_cannot_take_more_than_the_buffers_of_all() {
    let server = Running::in_memory_with(ServerOptions { buffer_bytes: 4 << 20, ..options() });
    let mut first = server.connect();
    let beginning = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$104857600\r\n";
    first.send(beginning);
    // One that fits is served beside it.
    assert_eq!(server.connect().call(&["SET", "b", "1"]), "+OK");
    // The server stops reading somewhere in here and resets a client that does not stop sending.
    let _ = std::io::Write::write_all(&mut first.stream, &vec![b'x'; 5 << 20]);
    assert_eq!(
        first.text(),
        "-OOM the commands and replies under way take all memory for buffers; try again"
    );
    assert_eq!(first.text(), "closed");
    drop(first);
    let mut after = server.connect();
    assert_eq!(after.call(&["SET", "a", &"x".repeat(2 << 20)]), "+OK");
    assert_eq!(server.shared.stats.out_of_buffers.get(), 1);
}

#[test]
fn a_reply_cannot_take_more_than_the_buffers_of_all() {
    let server = Running::in_memory_with(ServerOptions { buffer_bytes: 4 << 20, ..options() });
    let mut client = server.connect();
    assert_eq!(client.call(&["SET", "a", &"x".repeat(1 << 20)]), "+OK");
    let error = client.call(&["MGET", "a", "a", "a", "a"]);
    assert!(error.starts_with("-OOM the reply does not fit into the memory for buffers"), "{error}");
    assert!(client.call(&["MGET", "a", "a"]).starts_with("[\"xxx"));
    server.eventually(|shared| shared.budget.used() == 0);
}

#[test]
fn a_web_page_that_is_made_to_send_commands_is_cut_off() {
    let server = Running::in_memory();
    for request in ["POST / HTTP/1.1\r\nSET a 1\r\n", "GET / HTTP/1.1\r\nHost: localhost\r\nSET a 1\r\n"] {
        let mut client = server.connect();
        client.send(request);
        let replies = client.finish();
        assert!(replies.iter().all(|reply| reply.starts_with("-ERR wrong number")), "{replies:?}");
    }
    assert_eq!(server.connect().call(&["GET", "a"]), "nil");
}

#[test]
fn a_panic_ends_its_connection_only() {
    let server = Running::in_memory();
    let (mut victim, mut other) = (server.connect(), server.connect());
    assert_eq!(other.call(&["PING"]), "+PONG");
    victim.send("SET a 1\r\ntest.panic\r\nSET a 2\r\n");
    assert_eq!(
        (victim.text(), victim.text(), victim.text()),
        ("+OK".into(), "-ERR internal error".into(), "closed".into())
    );
    assert_eq!(other.call(&["GET", "a"]), "\"1\"");
    assert_eq!(server.shared.stats.panics.get(), 1);
}

#[test]
fn the_limits_of_the_database_are_told_in_figures() {
    let server = Running::on_disk();
    let mut client = server.connect();
    let long = "k".repeat(65_536);
    let told = "-ERR the key has 65536 bytes; at most 65535 are allowed";
    assert_eq!(client.call(&["SET", &long, "1"]), told);
    assert_eq!(client.call(&["MSET", "a", "1", &long, "1"]), told);
    assert_eq!(client.call(&["INCR", &long]), told);
    assert_eq!(client.call(&["MGET", "a", &long[1..]]), "[nil, nil]");
    let reply = client.call(&["GET", &long]);
    assert!(reply == "nil" || reply == told, "{reply}");
    client.send(request(&["SET", "a", &"x".repeat((128 << 20) + 1)]));
    let error = client.text();
    assert!(error.starts_with("-ERR the value has 134217729 bytes; at most "), "{error}");
    assert_eq!(client.call(&["GET", "a"]), "nil");
}
