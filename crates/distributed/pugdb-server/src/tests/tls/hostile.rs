//! Those that do not speak TLS where they should, or do where they should not, or say nothing.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustls::AlertDescription;
use socket2::SockRef;

use super::parts::{Secure, TlsClient, trusting, with_tls};
use crate::limits::TLS_HANDSHAKES_MAX;

/// Sends this and reads to the end.
fn answer_to(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

#[test]
fn a_plain_command_at_the_port_of_tls_gets_a_sentence() {
    let server = Secure::start();
    for command in [&b"PING\r\n"[..], b"*1\r\n$4\r\nPING\r\n", b"GET / HTTP/1.1\r\n\r\n"] {
        let answer = String::from_utf8(answer_to(server.address(), command)).unwrap();
        assert!(
            answer.starts_with("-ERR this address speaks TLS only") && answer.ends_with("\r\n"),
            "{answer}"
        );
    }
    server.running.eventually(|shared| shared.stats.tls_failures.get() == 3);
}

#[test]
fn tls_at_the_plain_port_is_refused_in_its_own_words() {
    let server = Secure::start();
    let plain = server.running.shared.addresses[0];
    let error = TlsClient::connect(plain, trusting(&server.authority, None)).err().unwrap();
    let reason = error.get_ref().and_then(|reason| reason.downcast_ref::<rustls::Error>());
    assert_eq!(reason, Some(&rustls::Error::AlertReceived(AlertDescription::HandshakeFailure)));
    server
        .running
        .eventually(|shared| shared.stats.protocol_errors.get() == 1 && shared.clients.count() == 1);
}

#[test]
fn versions_before_1_2_are_refused() {
    let server = Secure::start();
    // A greeting as one of TLS 1.0 (1) or 1.1 (2) makes it: version, 32 bytes, no session, one cipher, no compression.
    for minor in [0, 1, 2] {
        let mut hello = vec![3, minor];
        hello.extend_from_slice(&[7; 32]);
        hello.extend_from_slice(&[0, 0, 2, 0xc0, 0x2b, 1, 0]);
        // An extension: signatures by ECDSA with SHA-256.
        hello.extend_from_slice(&[0, 8, 0, 13, 0, 4, 0, 2, 4, 3]);
        let mut message = vec![1, 0, 0, u8::try_from(hello.len()).unwrap()];
        message.append(&mut hello);
        let mut record = vec![22, 3, 1, 0, u8::try_from(message.len()).unwrap()];
        record.append(&mut message);
        let answer = answer_to(server.address(), &record);
        // A fatal alert: protocol_version.
        assert!(matches!(answer[..], [21, 3, _, 0, 2, 2, 70]), "{answer:?}");
    }
}

#[test]
fn ten_thousand_strings_of_nonsense_end_in_closed_connections() {
    let server = Secure::start();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = || {
        // xorshift, so that a failure can be repeated.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..10_000_u32 {
        let length = usize::try_from(random() % 600).unwrap();
        let mut bytes: Vec<u8> = (0..length).map(|_| u8::try_from(random() & 0xff).unwrap()).collect();
        // Half of them get as far as the library: records with a plausible head.
        if round % 2 == 0 && length > 12 {
            bytes[..3].copy_from_slice(&[22, 3, 1]);
            bytes[3] &= 1;
            bytes[5] = if round % 4 == 0 { 1 } else { bytes[5] };
        }
        let mut stream = TcpStream::connect(server.address()).unwrap();
        // It may be refused while it still sends, and leaves no port behind.
        let _ = stream.write_all(&bytes);
        let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    }
    assert_eq!(server.running.shared.stats.panics.get(), 0);
    server.running.eventually(|shared| shared.handshakes.count() == 0 && shared.budget.used() == 0);
    assert_eq!(server.connect().call(&["PING"]), "+PONG");
}

#[test]
fn records_that_are_no_records_end_a_connection_and_nothing_else() {
    let server = Secure::start();
    let mut other = server.connect();
    for bytes in [
        &[23, 3, 3, 0, 20][..],
        &[23, 3, 3, 0xff, 0xff],
        &[22, 3, 3, 0, 4, 0, 0, 0, 0],
        &[20, 3, 3, 0, 1, 1],
        b"GET a\r\n",
        &[0; 100],
    ] {
        let mut client = server.connect();
        assert_eq!(client.call(&["PING"]), "+PONG");
        client.stream.sock.write_all(bytes).unwrap();
        client.stream.sock.write_all(&[0x5a; 64]).unwrap();
        let _ = client.stream.sock.shutdown(std::net::Shutdown::Write);
        assert_ne!(client.text(), "+PONG");
        assert_eq!(other.call(&["PING"]), "+PONG");
    }
    server.running.eventually(|shared| shared.clients.count() == 2);
    assert_eq!(server.running.shared.stats.panics.get(), 0);
}

#[test]
fn handshakes_that_stall_are_ended() {
    let server = Secure::start_with(|options, _| {
        with_tls(options, |tls| tls.handshake_wait = Duration::from_millis(50))
    });
    for beginning in [&[][..], &[22], &[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]] {
        let answer = answer_to(server.address(), beginning);
        assert_eq!(answer, b"");
    }
    server.running.eventually(|shared| shared.stats.tls_failures.get() == 3);
    server.running.eventually(|shared| shared.handshakes.count() == 0 && shared.budget.used() == 0);
}

#[test]
fn those_who_say_nothing_keep_nobody_out() {
    let server = Secure::start_with(|options, _| {
        with_tls(options, |tls| tls.handshake_wait = Duration::from_hours(1))
    });
    let silent: Vec<TcpStream> =
        (0..TLS_HANDSHAKES_MAX + 40).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    let mut client = server.connect();
    assert_eq!(client.call(&["PING"]), "+PONG");
    // The oldest have lost their places, the newest have theirs.
    for mut stream in silent.iter().take(40) {
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
    let shared = &server.running.shared;
    assert!(shared.handshakes.count() <= TLS_HANDSHAKES_MAX && shared.stats.tls_evicted.get() >= 40);
    assert_eq!(shared.clients.count(), 1, "none of them is a client");
    drop(silent);
    server.running.eventually(|shared| shared.handshakes.count() == 0);
}
