//! Many connections, slow ones, and the end of all of them.

use std::net::TcpStream;

use super::harness::{Client, Running, options, request};
use crate::{Server, ServerOptions};

#[test]
fn a_thousand_idle_connections_cost_no_buffers_and_hinder_nobody() {
    if open_files_max() < 2_200 {
        eprintln!("skipped: this process may not open 2,200 files");
        return;
    }
    let server = Running::in_memory();
    let mut idle: Vec<Client> = (0..1_000).map(|_| server.connect()).collect();
    for client in &mut idle {
        assert_eq!(client.call(&["PING"]), "+PONG");
    }
    let mut working = server.connect();
    for number in 1..=1_000 {
        assert_eq!(working.call(&["INCR", "n"]), format!(":{number}"));
    }
    assert_eq!(server.shared.clients.count(), 1_001);
    server.eventually(|shared| shared.budget.used() == 0);
}

fn open_files_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default();
    line.split_whitespace().nth(3).and_then(|soft| soft.parse().ok()).unwrap_or(0)
}

#[test]
fn one_client_too_many_is_told_so() {
    let server = Running::in_memory_with(ServerOptions { max_clients: 2, ..options() });
    let (mut first, mut second) = (server.connect(), server.connect());
    assert_eq!((first.call(&["PING"]), second.call(&["PING"])), ("+PONG".into(), "+PONG".into()));
    let mut third = server.connect();
    assert_eq!((third.text(), third.text()), ("-ERR max number of clients reached".into(), "closed".into()));
    assert_eq!(first.call(&["QUIT"]), "+OK");
    assert_eq!(first.text(), "closed");
    drop(first);
    // Its place is free as soon as the server has noticed.
    let admitted = (0..10_000).any(|_| {
        let mut fourth = server.connect();
        // It may be refused before it has sent anything.
        let _ = std::io::Write::write_all(&mut fourth.stream, b"PING\r\n");
        fourth.text() == "+PONG"
    });
    assert!(admitted);
    assert!(server.shared.stats.rejected.get() >= 1);
}

#[test]
fn a_client_that_does_not_read_is_not_served_and_takes_no_memory() {
    const REPLIES: usize = 2_000;
    let server = Running::in_memory();
    let mut other = server.connect();
    let value = "x".repeat(100_000);
    assert_eq!(other.call(&["SET", "a", &value]), "+OK");
    let mut slow = server.connect();
    slow.send(request(&["GET", "a"]).repeat(REPLIES));
    let mut used_max = 0;
    // Until it has begun, and then for a while.
    let mut rounds = 0;
    while rounds < 2_000 {
        assert_eq!(other.call(&["PING"]), "+PONG");
        let used = server.shared.budget.used();
        used_max = used_max.max(used);
        rounds += usize::from(used_max > 0);
    }
    assert!(used_max < 2 << 20, "{used_max} bytes of buffers for a client that does not read");
    for _ in 0..REPLIES {
        assert_eq!(slow.text().len(), value.len() + 2);
    }
}

#[test]
fn a_shutdown_answers_what_was_received_and_then_closes() {
    for mut server in [Running::in_memory(), Running::on_disk()] {
        let (mut busy, mut idle) = (server.connect(), server.connect());
        assert_eq!(idle.call(&["PING"]), "+PONG");
        assert_eq!(busy.call(&["PING"]), "+PONG");
        busy.send(request(&["INCR", "n"]).repeat(1_000));
        server.ask_to_stop();
        for number in 1..=1_000 {
            assert_eq!(busy.text(), format!(":{number}"));
        }
        assert_eq!((busy.text(), idle.text()), ("closed".into(), "closed".into()));
        server.wait_for_end();
        assert!(TcpStream::connect(server.shared.addresses[0]).is_err(), "nobody listens any more");
        let stored = server.db.keyspace("db0").unwrap().get(b"n").unwrap().unwrap();
        assert_eq!(stored, b"1000");
    }
}

#[test]
fn a_shutdown_does_not_wait_for_ever_for_a_client_that_does_not_read() {
    let shutdown_wait = std::time::Duration::from_millis(50);
    let mut server = Running::in_memory_with(ServerOptions { shutdown_wait, ..options() });
    let mut slow = server.connect();
    assert_eq!(slow.call(&["SET", "a", &"x".repeat(1 << 20)]), "+OK");
    slow.send(request(&["GET", "a"]).repeat(100));
    server.ask_to_stop();
    server.wait_for_end();
}

#[test]
fn an_address_in_use_is_one_clear_sentence() {
    let server = Running::in_memory();
    let address = server.shared.addresses[0];
    let options = ServerOptions { addresses: vec![address], ..ServerOptions::default() };
    let error = Server::bind(options, server.db.clone()).err().unwrap();
    assert_eq!(
        error.to_string(),
        format!("the address {address} is in use by another program; stop it or listen on another address")
    );
}

#[test]
fn it_listens_on_several_addresses() {
    let addresses = vec!["127.0.0.1:0".parse().unwrap(), "127.0.0.2:0".parse().unwrap()];
    let server = Running::in_memory_with(ServerOptions { addresses, ..ServerOptions::default() });
    assert_eq!(server.connect().call(&["SET", "a", "1"]), "+OK");
    assert_eq!(Client::connect(server.shared.addresses[1]).call(&["GET", "a"]), "\"1\"");
}
