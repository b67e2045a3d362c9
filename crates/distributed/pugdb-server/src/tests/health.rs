//! The pages for probes and scrapers, and requests that no friend sends.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use pugdb::{Database, Durability, KeyspaceOptions, Partitioning};
use tokio::time::Instant;

use super::harness::{Running, options};
use super::world::Fate;
use crate::limits::{HTTP_CONNECTIONS_MAX, HTTP_WAIT};
use crate::{HttpAddress, Server, ServerOptions};

fn http_options() -> ServerOptions {
    ServerOptions { http: HttpAddress::At(SocketAddr::from(([127, 0, 0, 1], 0))), ..options() }
}

fn connect(server: &Running) -> TcpStream {
    let stream = TcpStream::connect(server.http_address.unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    stream
}

/// All that comes for some bytes.
fn ask(server: &Running, request: impl AsRef<[u8]>) -> String {
    let mut stream = connect(server);
    // The server may have heard enough before it has all.
    let _ = stream.write_all(request.as_ref());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

fn get(server: &Running, page: &str) -> String {
    ask(server, format!("GET {page} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
}

/// The status line's code, and the body.
fn parts(answer: &str) -> (&str, &str) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    (head.split(' ').nth(1).unwrap_or("none"), body)
}

#[test]
fn a_server_lives_and_is_ready_until_its_disk_fails() {
    let server = Running::on_disk_with(http_options());
    assert_eq!(parts(&get(&server, "/livez")), ("200", "the server answers\n"));
    assert_eq!(parts(&get(&server, "/readyz")), ("200", "ready\n"));
    let mut client = server.connect();
    assert_eq!(client.call(&["SET", "a", "1"]), "+OK");
    server.world.syncs.set(Fate::Fail);
    assert!(client.call(&["SET", "a", "2"]).starts_with("-UNAVAILABLE"));
    let answer = get(&server, "/readyz");
    let (code, body) = parts(&answer);
    assert_eq!(code, "503");
    assert!(body.starts_with("not ready: the database refuses writes"), "{body}");
    assert_eq!(parts(&get(&server, "/livez")).0, "200");
}

#[test]
fn a_server_that_ends_says_that_it_is_not_ready() {
    let shutdown_wait = Duration::from_mins(1);
    let mut server = Running::in_memory_with(ServerOptions { shutdown_wait, ..http_options() });
    let mut slow = server.connect();
    assert_eq!(slow.call(&["SET", "a", &"x".repeat(1 << 20)]), "+OK");
    // Its replies are not read for now, so the end has to wait for them.
    slow.send(super::harness::request(&["GET", "a"]).repeat(50));
    server.ask_to_stop();
    while !server.shared.is_ending() {
        std::thread::yield_now();
    }
    assert_eq!(parts(&get(&server, "/readyz")), ("503", "not ready: the server is shutting down\n"));
    for _ in 0..50 {
        slow.text();
    }
    server.wait_for_end();
}

#[test]
fn other_pages_methods_and_bytes_are_refused() {
    let server = Running::in_memory_with(http_options());
    assert_eq!(server.connect().call(&["SET", "secret", "canary"]), "+OK");
    for page in ["/", "/secret", "/keys/secret", "/../etc/passwd", "/livez/x"] {
        assert_eq!(parts(&get(&server, page)), ("404", "there are /livez, /readyz and /metrics\n"));
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "CONNECT"] {
        let answer = ask(&server, format!("{method} /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"));
        assert_eq!(parts(&answer).0, "405");
        assert!(answer.contains("\r\nAllow: GET, HEAD\r\n"), "{answer}");
    }
    let head = ask(&server, "HEAD /livez HTTP/1.1\r\n\r\n");
    assert_eq!(parts(&head), ("200", ""));
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\r\n\r\n"[..],
        b"SET a 1\r\n\r\n",
        b"*1\r\n$4\r\nPING\r\n\r\n",
        b"\r\n\r\n",
    ] {
        assert_eq!(parts(&ask(&server, bytes)).0, "400", "{bytes:?}");
    }
}

#[test]
fn a_request_is_bounded_in_bytes_and_what_follows_it_is_not_read() {
    let server = Running::in_memory_with(http_options());
    let huge = format!("GET /livez HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    assert_eq!(parts(&ask(&server, huge)).0, "431");
    assert_eq!(parts(&ask(&server, vec![b'x'; 1 << 20])).0, "431");
    // Pipelined requests and garbage: one answer, then the end.
    let many = "GET /livez HTTP/1.1\r\n\r\n".repeat(50) + "garbage";
    let answer = ask(&server, many);
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    assert!(answer.contains("\r\nConnection: close\r\n"));
}

#[test]
fn slow_requests_take_their_places_for_a_bounded_time() {
    let server = Running::in_memory_with(http_options());
    let began = Instant::now();
    let mut slow: Vec<TcpStream> = (0..HTTP_CONNECTIONS_MAX).map(|_| connect(&server)).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /livez HTTP/1.1\r\nX: ").unwrap();
    }
    // Now one more is closed without a word. The server may not have accepted all of them yet.
    let refused = (0..10_000).any(|_| {
        let mut stream = connect(&server);
        let _ = stream.write_all(b"GET /livez HTTP/1.1\r\n\r\n");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).is_err() || answer.is_empty()
    });
    assert!(refused);
    // The clients of the database do not notice.
    assert_eq!(server.connect().call(&["PING"]), "+PONG");
    for stream in &mut slow {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(parts(&answer).0, "408", "{answer}");
    }
    assert!(began.elapsed() >= HTTP_WAIT);
    drop(slow);
    // As soon as their ends are noticed.
    let served = (0..10_000).any(|_| {
        let mut stream = connect(&server);
        let _ = stream.write_all(b"GET /livez HTTP/1.1\r\n\r\n");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).is_ok() && parts(&answer).0 == "200"
    });
    assert!(served);
}

/// The samples of a page: name with labels, and value.
fn samples(body: &str) -> BTreeMap<String, f64> {
    let lines = body.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

#[test]
fn the_metrics_say_what_was_done_and_nothing_of_what_was_stored() {
    let server = Running::on_disk_with(http_options());
    let mut client = server.connect();
    assert_eq!(client.call(&["CLIENT", "SETNAME", "canary-name"]), "+OK");
    assert_eq!(client.call(&["SET", "canary-key", "canary-value", "EX", "100"]), "+OK");
    assert_eq!(client.call(&["GET", "canary-key"]), "\"canary-value\"");
    assert_eq!(client.call(&["GET", "canary-none"]), "nil");
    assert!(client.call(&["INCR", "canary-key"]).starts_with("-ERR"));
    assert!(client.call(&["canary-command"]).starts_with("-ERR"));
    assert!(client.call(&["GET"]).starts_with("-ERR"));
    server.db.flush().unwrap();
    let answer = get(&server, "/metrics");
    let (code, body) = parts(&answer);
    assert_eq!(code, "200");
    assert!(answer.contains("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{answer}");
    assert!(!answer.contains("canary"), "{answer}");
    let samples = samples(body);
    let exact = [
        ("pugdb_ready", 1.0),
        ("pugdb_clients", 1.0),
        ("pugdb_connections_total", 1.0),
        ("pugdb_command_duration_seconds_count{command=\"get\"}", 2.0),
        ("pugdb_command_duration_seconds_bucket{command=\"get\",le=\"+Inf\"}", 2.0),
        ("pugdb_command_duration_seconds_count{command=\"client|setname\"}", 1.0),
        ("pugdb_command_failures_total{command=\"incr\"}", 1.0),
        ("pugdb_command_rejections_total{command=\"get\"}", 1.0),
        ("pugdb_errors_total{error=\"ERR\"}", 3.0),
        ("pugdb_keyspace_hits_total", 1.0),
        ("pugdb_keyspace_misses_total", 1.0),
        ("pugdb_database_failed", 0.0),
        ("pugdb_tables", 1.0),
        ("pugdb_flushes_total", 1.0),
        ("pugdb_keys_estimate{database=\"db0\"}", 1.0),
        ("pugdb_expiring_keys_estimate{database=\"db0\"}", 1.0),
    ];
    for (name, value) in exact {
        assert_eq!(samples.get(name), Some(&value), "{name} in {body}");
    }
    for name in
        ["pugdb_log_bytes", "pugdb_tables_bytes", "pugdb_received_bytes_total", "pugdb_memory_limit_bytes"]
    {
        assert!(samples[name] > 0.0, "{name}");
    }
    assert!(body.contains("# HELP pugdb_keys_estimate Keys of a database; an estimate"));
    assert!(samples.keys().all(|name| name.starts_with("pugdb_")));

    let answer = ask(&server, "GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text\r\n\r\n");
    assert!(answer.contains("Content-Type: application/openmetrics-text; version=1.0.0"), "{answer}");
    assert!(answer.ends_with("# EOF\n") && !answer.contains("canary"));
}

#[test]
fn partitions_are_told_of_databases_and_of_no_other_keyspace() {
    let server = Running::on_disk_with(http_options());
    assert!(!get(&server, "/metrics").contains("partition"), "there are none");
    // Everything lies in the first of three partitions, and its reads and writes make that one hot.
    let starts = vec![b"m".to_vec(), b"t".to_vec()];
    let ranges = Partitioning::Ranges { starts };
    let partitioned =
        |name| server.db.partitioned_keyspace(name, &ranges, KeyspaceOptions::default()).unwrap();
    let (db3, _) = (partitioned("db3").durability(Durability::Os), partitioned("canary"));
    partitioned("db4");
    for number in 0..10_100_u32 {
        db3.put(format!("a{number}"), [7; 20]).unwrap();
    }
    let answer = get(&server, "/metrics");
    assert!(!answer.contains("canary"), "{answer}");
    let samples = samples(parts(&answer).1);
    let of = |name: &str, database: &str| samples.get(&format!("pugdb_{name}{{database=\"{database}\"}}"));
    for (database, hot) in [("db3", 1.0), ("db4", 0.0)] {
        assert_eq!(of("partitions", database), Some(&3.0), "{database}");
        assert_eq!(of("partitions_hot", database), Some(&hot), "{database}");
        assert_eq!(of("partition_smallest_bytes", database), Some(&0.0), "{database}");
    }
    assert!(of("partition_largest_bytes", "db3") > Some(&200_000.0), "{answer}");
    assert_eq!(of("partition_largest_bytes", "db4"), Some(&0.0));
    server.db.flush().unwrap();
    let flushed = get(&server, "/metrics");
    let largest = "pugdb_partition_largest_bytes{database=\"db3\"} ";
    assert!(flushed.contains(largest) && !flushed.contains(&format!("{largest}0\n")), "{flushed}");
}

#[test]
fn a_histogram_never_falls_and_ends_with_its_count() {
    let server = Running::in_memory_with(http_options());
    let mut client = server.connect();
    for _ in 0..1_000 {
        assert_eq!(client.call(&["PING"]), "+PONG");
    }
    assert_eq!(client.call(&["DEBUG", "SLEEP", "0.01"]), "+OK");
    let answer = get(&server, "/metrics");
    let buckets: Vec<f64> = parts(&answer)
        .1
        .lines()
        .filter(|line| line.starts_with("pugdb_command_duration_seconds_bucket{command=\"ping\""))
        .map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
        .collect();
    assert!(buckets.len() > 20 && buckets.is_sorted(), "{buckets:?}");
    assert_eq!(buckets.last(), Some(&1_000.0));
    let samples = samples(parts(&answer).1);
    assert!(samples["pugdb_command_duration_seconds_sum{command=\"debug|sleep\"}"] >= 0.01);
    let sleeps = |end: &str| {
        samples[&format!("pugdb_command_duration_seconds_bucket{{command=\"debug|sleep\",le=\"{end}\"}}")]
    };
    assert!(sleeps("0.008192") < 1.0 && sleeps("+Inf") > 0.0);
}

#[test]
fn an_address_that_another_program_has_is_given_up_or_refused_as_was_asked() {
    let other = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let taken = other.local_addr().unwrap();
    let bind = |http| Server::bind(ServerOptions { http, ..options() }, Database::in_memory().unwrap());
    assert_eq!(bind(HttpAddress::IfFree(taken)).unwrap().http_addr(), None);
    let refused = bind(HttpAddress::At(taken)).err().unwrap().to_string();
    assert!(refused.contains(&taken.to_string()) && refused.contains("another address"), "{refused}");
    drop(other);
    assert_eq!(bind(HttpAddress::IfFree(taken)).unwrap().http_addr(), Some(taken));
}
