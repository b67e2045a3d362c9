//! Commands and replies over TLS, small and large, to clients that read slowly, vanish, or are one too many.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use pugdb::env::Env;
use rustls::version::{TLS12, TLS13};
use tokio::runtime::Builder;
use tokio::task::yield_now;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::parts::{Authority, Files, Secure, TlsClient, any_port, trusting, trusting_with, with_tls};
use crate::ServerOptions;
use crate::budget::Budget;
use crate::limits::TLS_CONNECTION_BYTES;
use crate::tests::harness::request;
use crate::tls::{Secured, Tls};

#[test]
fn commands_are_answered_over_both_versions() {
    let server = Secure::start();
    for (version, name) in [(&TLS12, "1.2"), (&TLS13, "1.3")] {
        let config = trusting_with(&server.authority, None, &[version]);
        let mut client = TlsClient::connect(server.address(), config).unwrap();
        assert_eq!(client.call(&["SET", "a", name]), "+OK");
        assert_eq!(client.call(&["GET", "a"]), format!("\"{name}\""));
        let described = client.call(&["CLIENT", "INFO"]);
        assert!(described.contains(&format!(" tls={name}")) && !described.contains("tls-cn"), "{described}");
        assert_eq!((client.call(&["QUIT"]), client.text()), ("+OK".into(), "closed".into()));
    }
    // Beside it everything is plain.
    let mut plain = server.running.connect();
    assert_eq!(plain.call(&["GET", "a"]), "\"1.3\"");
    assert!(!plain.call(&["CLIENT", "INFO"]).contains(" tls="));
    let info = plain.call(&["INFO", "everything"]);
    assert!(
        info.contains("name=tls,bind=127.0.0.1,port=") && info.contains("pugdb_tls_handshakes:2"),
        "{info}"
    );
    assert!(info.contains("tls_certificate_expires_at:4102444800"), "{info}");
}

#[test]
fn pipelines_of_megabytes_go_both_ways() {
    const COUNT: usize = 128;
    let server = Secure::start();
    let mut client = server.connect();
    let value = |number: usize| format!("{number:04}").repeat(16 << 10);
    let mut sets = Vec::new();
    let mut gets = Vec::new();
    for number in 0..COUNT {
        sets.extend_from_slice(&request(&["SET", &number.to_string(), &value(number)]));
        gets.extend_from_slice(&request(&["GET", &number.to_string()]));
    }
    client.send(sets).unwrap();
    for _ in 0..COUNT {
        assert_eq!(client.text(), "+OK");
    }
    client.send(gets).unwrap();
    for number in 0..COUNT {
        assert!(client.text() == format!("\"{}\"", value(number)), "{number}");
    }
    let large = "x".repeat(24 << 20);
    assert_eq!(client.call(&["SET", "large", &large]), "+OK");
    assert!(client.call(&["GET", "large"]) == format!("\"{large}\""));
}

#[test]
fn who_does_not_read_is_not_served_and_takes_no_memory() {
    const REPLIES: usize = 1_000;
    let server = Secure::start();
    let mut other = server.running.connect();
    let value = "x".repeat(100_000);
    assert_eq!(other.call(&["SET", "a", &value]), "+OK");
    let mut slow = server.connect();
    slow.send(request(&["GET", "a"]).repeat(REPLIES)).unwrap();
    let (mut used_max, mut rounds) = (0, 0);
    while rounds < 2_000 {
        assert_eq!(other.call(&["PING"]), "+PONG");
        let used = server.running.shared.budget.used();
        used_max = used_max.max(used);
        rounds += usize::from(used_max > TLS_CONNECTION_BYTES);
    }
    assert!(used_max < 2 << 20, "{used_max} bytes of buffers for a client that does not read");
    for _ in 0..REPLIES {
        assert_eq!(slow.text().len(), value.len() + 2);
    }
}

#[test]
fn the_last_bytes_reach_a_client_that_reads_slowly() {
    let server = Secure::start();
    let mut other = server.running.connect();
    let mut client = server.connect();
    let value = "x".repeat(24 << 20);
    assert_eq!(other.call(&["SET", "a", &value]), "+OK");
    client.send(request(&["GET", "a"])).unwrap();
    // The server is always ahead: when it has nothing left to seal, the socket is full.
    let (mut left, mut chunk) = (value.len() + "$25165824\r\n\r\n".len(), vec![0; 32 << 10]);
    while left > 0 {
        left -= client.stream.read(&mut chunk).unwrap();
        assert_eq!(other.call(&["PING"]), "+PONG");
    }
}

#[test]
fn what_was_received_is_read_without_a_wait() {
    let (authority, files) = (Authority::new(), Files::new());
    let tls = Tls::new(files.write_identity(&authority.issue("the server")), Env::os()).unwrap();
    let listener = std::net::TcpListener::bind(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let received = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = TlsClient::connect(address, trusting(&authority, None)).unwrap();
            client.send("one ").unwrap();
            client.send("two").unwrap();
            client.end_sending();
        });
        runtime.block_on(async {
            let socket = listener.accept().unwrap().0;
            socket.set_nonblocking(true).unwrap();
            let socket = tokio::net::TcpStream::from_std(socket).unwrap();
            let stream = TlsAcceptor::from(tls.config()).accept(socket).await.unwrap();
            let mut secured = Secured::of(stream, Budget::new(0).reservation());
            let (mut received, mut space) = (Vec::new(), [0; 2]);
            let whole = async {
                loop {
                    match secured.read_received(&mut space) {
                        Ok(0) => break,
                        Ok(count) => received.extend_from_slice(&space[..count]),
                        Err(error) if error.kind() == ErrorKind::WouldBlock => yield_now().await,
                        Err(error) => panic!("{error}"),
                    }
                }
            };
            timeout(Duration::from_mins(1), whole).await.unwrap();
            received
        })
    });
    assert_eq!(received, b"one two");
}

#[test]
fn who_reads_nothing_for_too_long_is_closed() {
    let server =
        Secure::start_with(|options, _| ServerOptions { stall_wait: Duration::from_millis(50), ..options });
    let mut client = server.connect();
    assert_eq!(client.call(&["SET", "a", &"x".repeat(1 << 20)]), "+OK");
    client.send(request(&["GET", "a"]).repeat(64)).unwrap();
    server.running.eventually(|shared| shared.stats.stalled.get() == 1 && shared.clients.count() == 1);
}

#[test]
fn a_client_that_vanishes_in_the_middle_leaves_nothing_behind() {
    let server = Secure::start();
    for _ in 0..50 {
        let mut client = server.connect();
        assert_eq!(client.call(&["PING"]), "+PONG");
        // A record of which the second half never comes, and a command of which the rest never comes.
        client.send(b"*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$100000\r\nxxxx").unwrap();
        client.stream.sock.write_all(&[23, 3, 3, 0x40, 0, 1, 2, 3]).unwrap();
    }
    server.running.eventually(|shared| shared.clients.count() == 1 && shared.budget.used() == 0);
    assert_eq!(server.running.shared.stats.panics.get(), 0);
    assert_eq!(server.connect().call(&["GET", "b"]), "nil");
}

#[test]
fn who_ends_his_side_gets_all_replies_and_a_goodbye() {
    let server = Secure::start();
    let mut client = server.connect();
    client.send(request(&["INCR", "n"]).repeat(1_000)).unwrap();
    client.end_sending();
    for number in 1..=1_000 {
        assert_eq!(client.text(), format!(":{number}"));
    }
    assert_eq!(client.text(), "closed");
}

#[test]
fn a_client_that_says_goodbye_while_it_waits_is_not_waited_for() {
    let server = Secure::start();
    let mut client = server.connect();
    assert_eq!(client.call(&["PING"]), "+PONG");
    let mut waits = server.connect();
    // It waits for replicas, which never come, and is gone without having read anything.
    waits.send(request(&["WAIT", "1", "3600000"])).unwrap();
    server
        .running
        .eventually(|shared| shared.clients.all().iter().any(|client| client.see(|state| state.is_waiting)));
    waits.end_sending();
    server.running.eventually(|shared| shared.clients.count() == 2);
}

#[test]
fn one_client_too_many_is_told_so_over_tls() {
    let server = Secure::start_with(|options, _| ServerOptions { max_clients: 1, ..options });
    let mut first = server.connect();
    assert_eq!(first.call(&["PING"]), "+PONG");
    let mut second = server.connect();
    assert_eq!(
        (second.text(), second.text()),
        ("-ERR max number of clients reached".into(), "closed".into())
    );
    assert_eq!(first.call(&["PING"]), "+PONG");
    assert_eq!(server.running.shared.stats.rejected.get(), 1);
}

#[test]
fn a_shutdown_answers_what_was_received_over_tls() {
    let mut server = Secure::start();
    let (mut busy, mut idle) = (server.connect(), server.connect());
    assert_eq!((idle.call(&["PING"]), busy.call(&["PING"])), ("+PONG".into(), "+PONG".into()));
    busy.send(request(&["INCR", "n"]).repeat(1_000)).unwrap();
    server.running.ask_to_stop();
    for number in 1..=1_000 {
        assert_eq!(busy.text(), format!(":{number}"));
    }
    assert_eq!((busy.text(), idle.text()), ("closed".into(), "closed".into()));
    server.running.wait_for_end();
}

#[test]
fn a_shutdown_does_not_wait_for_handshakes() {
    // An hour, so that a wait for one of them is seen.
    let server = Secure::start_with(|options, _| {
        let wait = Duration::from_hours(1);
        with_tls(ServerOptions { shutdown_wait: wait, ..options }, |tls| tls.handshake_wait = wait)
    });
    let mut silent: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    for stream in silent.iter_mut().take(10) {
        stream.write_all(&[22, 3, 1, 2, 0, 1, 0]).unwrap();
    }
    server.running.eventually(|shared| shared.handshakes.count() == 20);
    let Secure { mut running, .. } = server;
    running.ask_to_stop();
    running.wait_for_end();
}

#[test]
fn what_tls_holds_of_a_connection_is_counted() {
    let server = Secure::start();
    let clients: Vec<TlsClient> = (0..20).map(|_| server.connect()).collect();
    server.running.eventually(|shared| shared.budget.used() == 20 * TLS_CONNECTION_BYTES);
    drop(clients);
    server.running.eventually(|shared| shared.budget.used() == 0);
    // Without room nobody is let in, and nothing worse.
    let small = Secure::start_with(|options, _| ServerOptions { buffer_bytes: 50_000, ..options });
    assert!(small.connect_as(None).is_err());
    assert_eq!(small.running.shared.stats.out_of_buffers.get(), 1);
    assert_eq!(small.running.connect().call(&["PING"]), "+PONG");
}

#[test]
fn pages_are_answered_over_tls() {
    let server = Secure::start_with(|options, _| with_tls(options, |tls| tls.http = Some(any_port())));
    let address = server.running.tls_http_address.unwrap();
    let get = |page: &str| {
        let config = trusting_with(&server.authority, None, rustls::DEFAULT_VERSIONS);
        let mut client = TlsClient::connect(address, config).unwrap();
        client.send(format!("GET {page} HTTP/1.1\r\n\r\n")).unwrap();
        let mut answer = String::new();
        client.stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(get("/readyz").ends_with("\r\n\r\nready\n"));
    let metrics = get("/metrics");
    assert!(metrics.contains("\npugdb_tls_certificate_expiry_timestamp_seconds 4102444800\n"), "{metrics}");
    assert!(metrics.contains("\npugdb_tls_handshakes_total 2\n"), "{metrics}");
    let mut plain = TcpStream::connect(address).unwrap();
    plain.write_all(b"GET /readyz HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    plain.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 400 ") && body.contains("https://"), "{answer}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{answer}");
}
