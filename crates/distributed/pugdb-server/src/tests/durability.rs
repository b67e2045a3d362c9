//! A reply leaves when what it tells of is durable, and not before.

use super::harness::{Client, Running, options};
use super::world::Fate;
use crate::ServerOptions;

#[test]
fn replies_wait_for_the_sync_and_hold_no_thread() {
    let server = Running::on_disk_with(ServerOptions { threads: Some(2), ..options() });
    let mut bystander = server.connect();
    assert_eq!(bystander.call(&["SET", "a", "old"]), "+OK");

    server.world.syncs.set(Fate::Hold);
    // More writers than threads, and readers of what they write.
    let mut writers: Vec<Client> = (0..10).map(|_| server.connect()).collect();
    for writer in &mut writers {
        writer.send("PING\r\nSET a new\r\n");
    }
    let db0 = server.db.keyspace("db0").unwrap();
    while db0.get(b"a").unwrap().unwrap() != b"new" {
        assert_eq!(bystander.call(&["PING"]), "+PONG");
    }
    let mut reader = server.connect();
    reader.send("GET a\r\n");
    // It has run when it is among those whose last command is a GET.
    while !server.shared.clients.all().iter().any(|client| client.see(|state| state.last_command == "get")) {
        assert_eq!(bystander.call(&["PING"]), "+PONG");
    }
    for _ in 0..100 {
        assert_eq!(bystander.call(&["PING"]), "+PONG");
    }
    assert!(writers.iter_mut().all(Client::is_silent), "a reply came before its write was durable");
    assert!(reader.is_silent(), "a reply showed what was not durable");

    server.world.syncs.set(Fate::Pass);
    assert_eq!(reader.text(), "\"new\"");
    for writer in &mut writers {
        assert_eq!((writer.text(), writer.text()), ("+PONG".into(), "+OK".into()));
    }
}

#[test]
fn after_a_failed_sync_writes_are_refused_and_reads_go_on() {
    let server = Running::on_disk();
    let mut client = server.connect();
    assert_eq!(client.call(&["MSET", "a", "1", "n", "1"]), "+OK");

    // Held until the commands have run: were the idle sync to fail before, the write would be refused at once.
    server.world.syncs.set(Fate::Hold);
    client.send("PING\r\nGET a\r\nSET a 2\r\nECHO x\r\n");
    server.eventually(|shared| {
        shared.clients.all().iter().any(|client| client.see(|state| state.last_command == "echo"))
    });
    server.world.syncs.set(Fate::Fail);
    assert_eq!(client.text(), "+PONG");
    let (read, written) = (client.text(), client.text());
    assert!(read.starts_with("-UNAVAILABLE "), "{read}");
    assert!(written.starts_with("-UNAVAILABLE "), "{written}");
    assert!(written.contains("is unknown"), "{written}");
    assert_eq!(client.text(), "\"x\"");

    // The disk is said to be well again, but nobody knows what it lost.
    server.world.syncs.set(Fate::Pass);
    for write in [&["SET", "b", "1"][..], &["INCR", "n"], &["DEL", "a"], &["FLUSHDB"], &["EXPIRE", "n", "10"]]
    {
        let refused = client.call(write);
        assert!(refused.starts_with("-UNAVAILABLE "), "{write:?}: {refused}");
    }
    assert_eq!(client.call(&["GET", "n"]), "\"1\"");
    assert_eq!(client.call(&["DEL", "missing"]), ":0");
    assert_eq!(client.call(&["SET", "n", "2", "NX"]), "nil");
    assert_eq!(client.call(&["DBSIZE"]), ":2");
    assert!(client.call(&["INFO", "persistence"]).contains("aof_last_write_status:err\\r\\n"));
    assert_eq!(server.connect().call(&["PING"]), "+PONG");
}

#[test]
fn what_was_acknowledged_is_there_when_the_database_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    for round in 0..3 {
        let db = pugdb::Database::open(&path).unwrap();
        let server = crate::Server::bind(options(), db.clone()).unwrap();
        let address = server.local_addr();
        let (ended, end) = tokio::sync::oneshot::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(|| server.run(async { drop(end.await) }));
            let mut client = Client::connect(address);
            assert_eq!(client.call(&["INCR", "n"]), format!(":{}", round + 1));
            assert_eq!(client.call(&["SET", &format!("k{round}"), "v", "EX", "1000"]), "+OK");
            assert_eq!(client.call(&["DBSIZE"]), format!(":{}", round + 2));
            drop(ended);
        });
        db.close().unwrap();
    }
}

#[test]
fn commands_that_wait_inside_the_database_do_not_hold_up_others() {
    let server = Running::on_disk_with(ServerOptions { threads: Some(2), ..options() });
    let mut bystander = server.connect();
    assert_eq!(bystander.call(&["PING"]), "+PONG");
    server.world.syncs.set(Fate::Hold);
    // The first write to a database makes its keyspace, and waits for that in its thread.
    let mut blocked: Vec<Client> = (1..=6).map(|_| server.connect()).collect();
    for (number, client) in blocked.iter_mut().enumerate() {
        client.send(format!("SELECT {number}\r\nSET a 1\r\n"));
    }
    let is_in_set =
        |client: &&std::sync::Arc<crate::clients::Client>| client.see(|state| state.last_command == "set");
    while server.shared.clients.all().iter().filter(is_in_set).count() < blocked.len() {
        assert_eq!(bystander.call(&["PING"]), "+PONG");
    }
    for _ in 0..100 {
        assert_eq!(server.connect().call(&["PING"]), "+PONG");
    }
    server.world.syncs.set(Fate::Pass);
    for client in &mut blocked {
        assert_eq!((client.text(), client.text()), ("+OK".into(), "+OK".into()));
    }
}
