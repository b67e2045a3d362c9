//! What one connection does to others and to the server: pauses, kills, silence, saves and the end.

use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use tokio::time::Instant;

use super::harness::{Client, Running, options, request};
use super::world::Fate;
use crate::limits::COUNTED_KEYS_MAX;
use crate::{Server, ServerOptions};

/// Waits until a command of another connection is held up.
fn wait_for_a_waiter(server: &Running, count: usize) {
    server.eventually(|shared| {
        shared.clients.all().iter().filter(|client| client.see(|state| state.is_waiting)).count() == count
    });
}

#[test]
fn a_pause_of_writes_holds_writes_and_lets_reads_pass() {
    let server = Running::on_disk_with(ServerOptions { threads: Some(2), ..options() });
    let (mut admin, mut reader) = (server.connect(), server.connect());
    assert_eq!(admin.call(&["SET", "a", "1"]), "+OK");
    assert_eq!(admin.call(&["CLIENT", "PAUSE", "60000", "WRITE"]), "+OK");
    // More than there are threads.
    let mut writers: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    for writer in &mut writers {
        writer.send("GET a\r\nINCR a\r\nGET a\r\n");
        assert_eq!(writer.text(), "\"1\"");
    }
    let mut transaction = server.connect();
    for (command, reply) in [("MULTI", "+OK"), ("GET", "+QUEUED"), ("EXEC", "[\"1\"]")] {
        let call = if command == "GET" { vec!["GET", "a"] } else { vec![command] };
        assert_eq!(transaction.call(&call), reply);
    }
    // Nobody waits before somebody has looked.
    server.eventually(|shared| {
        shared.clients.all().iter().filter(|client| client.see(|state| state.is_waiting)).count()
            == writers.len()
    });
    assert_eq!(reader.call(&["GET", "a"]), "\"1\"");
    assert!(admin.call(&["CLIENT", "LIST"]).contains("flags=b "));
    assert!(writers.iter_mut().all(Client::is_silent), "a write was not held");
    assert_eq!(admin.call(&["CLIENT", "UNPAUSE"]), "+OK");
    let mut sum = 0;
    for writer in &mut writers {
        let written: i32 = writer.text().trim_start_matches(':').parse().unwrap();
        sum += written;
        assert!(writer.text().starts_with('"'));
    }
    assert_eq!(sum, 2 + 3 + 4 + 5 + 6);
    assert_eq!(admin.call(&["SET", "a", "1"]), "+OK");
}

#[test]
fn an_exec_with_writes_waits_for_the_end_of_a_pause() {
    let server = Running::in_memory();
    let (mut admin, mut writer) = (server.connect(), server.connect());
    assert_eq!((writer.call(&["MULTI"]), writer.call(&["SET", "a", "1"])), ("+OK".into(), "+QUEUED".into()));
    assert_eq!(admin.call(&["CLIENT", "PAUSE", "60000", "WRITE"]), "+OK");
    writer.send(request(&["EXEC"]));
    wait_for_a_waiter(&server, 1);
    assert_eq!(admin.call(&["GET", "a"]), "nil");
    assert_eq!(admin.call(&["CLIENT", "UNPAUSE"]), "+OK");
    assert_eq!(writer.text(), "[+OK]");
}

#[test]
fn a_pause_of_all_ends_by_itself() {
    let server = Running::in_memory();
    let (mut admin, mut other) = (server.connect(), server.connect());
    assert_eq!(other.call(&["PING"]), "+PONG");
    let began = Instant::now();
    assert_eq!(admin.call(&["CLIENT", "PAUSE", "300"]), "+OK");
    // A weaker and shorter one takes nothing away.
    assert_eq!(admin.call(&["CLIENT", "PAUSE", "1", "WRITE"]), "+OK");
    assert_eq!(other.call(&["PING"]), "+PONG");
    assert!(began.elapsed() >= Duration::from_millis(295), "{:?}", began.elapsed());
    assert!(server.shared.pause.now().is_none());
}

#[test]
fn a_pause_ends_when_the_server_does() {
    let mut server = Running::in_memory();
    let (mut admin, mut other) = (server.connect(), server.connect());
    assert_eq!(admin.call(&["CLIENT", "PAUSE", "3600000", "WRITE"]), "+OK");
    other.send(request(&["SET", "a", "1"]));
    wait_for_a_waiter(&server, 1);
    server.ask_to_stop();
    assert_eq!((other.text(), other.text()), ("+OK".into(), "closed".into()));
    server.wait_for_end();
}

#[test]
fn a_client_that_leaves_during_a_pause_gives_its_place_back() {
    let server = Running::in_memory();
    let (mut admin, mut other) = (server.connect(), server.connect());
    assert_eq!(admin.call(&["CLIENT", "PAUSE", "3600000", "WRITE"]), "+OK");
    other.send(request(&["SET", "a", "1"]));
    wait_for_a_waiter(&server, 1);
    drop(other);
    let places = |admin: &mut Client| admin.call(&["INFO", "clients"]).contains("connected_clients:1\\r");
    assert!((0..1_000_000).any(|_| places(&mut admin)));
    assert_eq!(admin.call(&["CLIENT", "UNPAUSE"]), "+OK");
    assert_eq!(admin.call(&["GET", "a"]), "nil");
}

#[test]
fn a_kill_ends_idle_paused_sleeping_and_unread_connections() {
    let server = Running::in_memory();
    let mut admin = server.connect();
    assert_eq!(admin.call(&["SET", "a", &"x".repeat(1 << 20)]), "+OK");
    let mut victims: Vec<Client> = (0..4).map(|_| server.connect()).collect();
    let ids: Vec<String> = victims.iter_mut().map(|victim| victim.call(&["CLIENT", "ID"])).collect();
    victims[1].send(request(&["DEBUG", "SLEEP", "3600"]));
    victims[2].send(request(&["WAIT", "1", "3600000"]));
    victims[3].send(request(&["GET", "a"]).repeat(100));
    wait_for_a_waiter(&server, 2);
    let began = Instant::now();
    for id in &ids {
        let id = id.trim_start_matches(':');
        assert_eq!(admin.call(&["CLIENT", "KILL", "ID", id]), ":1");
        assert_eq!(admin.call(&["CLIENT", "LIST", "ID", id]), "\"\"");
    }
    server.eventually(|shared| shared.budget.used() == 0);
    for mut victim in victims {
        let mut rest = Vec::new();
        // What was under way may still come, and then the end.
        let _ = victim.stream.read_to_end(&mut rest);
        assert!(rest.len() < 100 << 20);
    }
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());

    let mut victim = server.connect();
    let address = victim.stream.local_addr().unwrap().to_string();
    assert_eq!(victim.call(&["PING"]), "+PONG");
    assert_eq!(admin.call(&["CLIENT", "KILL", &address]), "+OK");
    assert_eq!(victim.text(), "closed");
    assert_eq!(admin.call(&["CLIENT", "KILL", &address]), "-ERR No such client");
    let mut others: Vec<Client> = (0..3).map(|_| server.connect()).collect();
    for other in &mut others {
        assert_eq!(other.call(&["PING"]), "+PONG");
    }
    assert_eq!(admin.call(&["CLIENT", "KILL", "TYPE", "normal", "USER", "default"]), ":3");
    assert_eq!(admin.call(&["PING"]), "+PONG");
}

#[test]
fn a_kill_ends_a_pipeline_that_never_pauses() {
    let server = Running::in_memory();
    let (mut admin, mut victim) = (server.connect(), server.connect());
    let id = victim.call(&["CLIENT", "ID"]);
    let mut sender = victim.stream.try_clone().unwrap();
    let send = move || {
        let pings = request(&["CLIENT", "REPLY", "OFF"]).repeat(1_000);
        // Until the server does not take it any more.
        while std::io::Write::write_all(&mut sender, &pings).is_ok() {}
    };
    let busy = std::thread::Builder::new().spawn(send).unwrap();
    server.eventually(|shared| shared.stats.commands.get() > 10_000);
    assert_eq!(admin.call(&["CLIENT", "KILL", "ID", id.trim_start_matches(':')]), ":1");
    busy.join().unwrap();
    assert_eq!(victim.text(), "closed");
}

#[test]
fn replies_are_left_out_as_the_client_asks() {
    let server = Running::on_disk();
    let mut client = server.connect();
    client.send("CLIENT REPLY SKIP\r\nSET a 1\r\nGET a\r\n");
    assert_eq!(client.text(), "\"1\"");
    client.send(
        "CLIENT REPLY OFF\r\nINCR a\r\nWHAT\r\nCLIENT REPLY SKIP\r\nINCR a\r\nCLIENT REPLY ON\r\nGET a\r\n",
    );
    assert_eq!((client.text(), client.text()), ("+OK".into(), "\"3\"".into()));
    client.send("CLIENT REPLY SKIP\r\nCLIENT REPLY ON\r\nCLIENT REPLY OFF\r\nRESET\r\nPING\r\n");
    // As in Redis, the ON that is to be skipped answers all the same.
    assert_eq!(
        (client.text(), client.text(), client.text()),
        ("+OK".into(), "+RESET".into(), "+PONG".into())
    );
}

#[test]
fn a_sleep_and_a_wait_hold_no_thread() {
    let server = Running::in_memory_with(ServerOptions { threads: Some(2), ..options() });
    let mut sleepers: Vec<Client> = (0..8).map(|_| server.connect()).collect();
    let began = Instant::now();
    for (number, sleeper) in sleepers.iter_mut().enumerate() {
        let command = if number % 2 == 0 { ["DEBUG", "SLEEP", "0.3"] } else { ["WAIT", "2", "300"] };
        sleeper.send([request(&["PING"]), request(&command), request(&["PING"])].concat());
    }
    wait_for_a_waiter(&server, 8);
    for (number, sleeper) in sleepers.iter_mut().enumerate() {
        let reply = if number % 2 == 0 { "+OK" } else { ":0" };
        assert_eq!(
            (sleeper.text(), sleeper.text(), sleeper.text()),
            ("+PONG".into(), reply.into(), "+PONG".into())
        );
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(295) && took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn a_second_save_at_a_time_is_refused() {
    let server = Running::on_disk();
    let mut client = server.connect();
    assert_eq!(client.call(&["SET", "a", "1"]), "+OK");
    server.world.syncs.set(Fate::Hold);
    assert_eq!(client.call(&["BGSAVE"]), "+Background saving started");
    assert!(client.call(&["INFO", "persistence"]).contains("rdb_bgsave_in_progress:1\\r"));
    assert_eq!(client.call(&["BGSAVE"]), "-ERR Background save already in progress");
    assert_eq!(client.call(&["SAVE"]), "-ERR Background save already in progress");
    server.world.syncs.set(Fate::Pass);
    server.eventually(|shared| !shared.saves.is_running());
    assert_eq!(client.call(&["SAVE"]), "+OK");
    assert!(server.db.stats().unwrap().tables > 0);
    assert!(client.call(&["INFO", "persistence"]).contains("rdb_last_bgsave_status:ok\\r"));
}

#[test]
fn shutdown_ends_the_server_as_a_signal_does() {
    for words in [&["SHUTDOWN"][..], &["SHUTDOWN", "NOSAVE", "NOW", "FORCE"], &["shutdown", "save"]] {
        let mut server = Running::on_disk();
        let (mut admin, mut busy, mut idle) = (server.connect(), server.connect(), server.connect());
        assert_eq!((idle.call(&["PING"]), busy.call(&["PING"])), ("+PONG".into(), "+PONG".into()));
        busy.send(request(&["INCR", "n"]).repeat(1_000));
        admin.send(request(words));
        assert_eq!(admin.text(), "closed", "success has no reply");
        for number in 1..=1_000 {
            assert_eq!(busy.text(), format!(":{number}"));
        }
        assert_eq!((busy.text(), idle.text()), ("closed".into(), "closed".into()));
        server.wait_for_end();
        assert_eq!(server.db.keyspace("db0").unwrap().get(b"n").unwrap().unwrap(), b"1000");
    }
}

#[test]
fn a_client_that_reads_nothing_for_too_long_is_closed() {
    let stall_wait = Duration::from_millis(50);
    let server = Running::in_memory_with(ServerOptions { stall_wait, ..options() });
    let mut slow = server.connect();
    assert_eq!(slow.call(&["SET", "a", &"x".repeat(1 << 20)]), "+OK");
    slow.send(request(&["GET", "a"]).repeat(100));
    server.eventually(|shared| shared.stats.stalled.get() == 1 && shared.budget.used() == 0);
    assert!(server.connect().call(&["INFO", "stats"]).contains("pugdb_connections_stalled:1\\r"));
}

#[test]
fn a_silent_client_is_closed_after_the_time_that_was_set() {
    let server = Running::in_memory();
    let (mut silent, mut sleeping, mut admin) = (server.connect(), server.connect(), server.connect());
    assert_eq!(silent.call(&["PING"]), "+PONG");
    sleeping.send(request(&["DEBUG", "SLEEP", "3"]));
    assert_eq!(admin.call(&["CONFIG", "SET", "timeout", "1"]), "+OK");
    // Who works stays.
    server.eventually(|shared| shared.stats.idle_closed.get() >= 1);
    assert_eq!(silent.text(), "closed");
    assert_eq!(sleeping.text(), "+OK", "who waits for a reply is not idle");
}

fn unix_options(path: &std::path::Path) -> ServerOptions {
    ServerOptions { unix_socket: Some(path.to_owned()), ..options() }
}

fn ping(path: &std::path::Path) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    std::io::Write::write_all(&mut stream, b"PING\r\nCLIENT INFO\r\nQUIT\r\n").unwrap();
    let mut replies = String::new();
    stream.read_to_string(&mut replies).unwrap();
    replies
}

#[test]
fn a_socket_in_the_file_system_belongs_to_its_owner_and_goes_with_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pugdb.sock");
    let mut server = Running::in_memory_with(unix_options(&path));
    let file = std::fs::symlink_metadata(&path).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    let replies = ping(&path);
    assert!(replies.starts_with("+PONG\r\n") && replies.ends_with("+OK\r\n"), "{replies}");
    assert!(replies.contains(&format!("addr={0}:0 laddr={0}:0 ", path.display())), "{replies}");
    assert!(replies.contains("flags=U "), "{replies}");
    assert!(server.connect().call(&["CONFIG", "GET", "unixsocket"]).contains("pugdb.sock"));
    server.ask_to_stop();
    server.wait_for_end();
    assert!(!path.exists());
}

#[test]
fn a_socket_is_replaced_only_if_nobody_listens() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pugdb.sock");
    // Its file stays behind, as after a kill.
    drop(UnixListener::bind(&path).unwrap());
    let server = Running::in_memory_with(unix_options(&path));
    assert!(ping(&path).starts_with("+PONG"));
    let error = Server::bind(unix_options(&path), server.db.clone()).err().unwrap();
    assert!(error.to_string().contains("is in use by another program"), "{error}");
    assert!(ping(&path).starts_with("+PONG"), "the refused one took the file");

    let other = dir.path().join("letter.txt");
    #[expect(clippy::disallowed_methods, reason = "a file that is none of the database's")]
    std::fs::write(&other, "dear").unwrap();
    let error = Server::bind(unix_options(&other), server.db.clone()).err().unwrap();
    assert!(error.to_string().contains("is no socket"), "{error}");
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "dear");
}

#[test]
fn a_limit_of_clients_can_be_changed_while_it_runs() {
    let server = Running::in_memory();
    let mut admin = server.connect();
    assert_eq!(admin.call(&["CONFIG", "SET", "maxclients", "1"]), "+OK");
    let mut second = server.connect();
    assert_eq!(
        (second.text(), second.text()),
        ("-ERR max number of clients reached".into(), "closed".into())
    );
    assert_eq!(admin.call(&["CONFIG", "SET", "maxclients", "2"]), "+OK");
    assert_eq!(server.connect().call(&["PING"]), "+PONG");
}

#[test]
fn the_keys_of_a_large_database_are_estimated() {
    let server = Running::on_disk();
    let mut client = server.connect();
    for first in (0..COUNTED_KEYS_MAX * 2).step_by(1_000) {
        let words: Vec<String> =
            (first..first + 1_000).flat_map(|key| [key.to_string(), "v".to_owned()]).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert_eq!(client.call(&[&["MSET"], words.as_slice()].concat()), "+OK");
    }
    assert_eq!(client.call(&["SETEX", "0", "1000", "v"]), "+OK");
    let keys = COUNTED_KEYS_MAX * 2;
    let info = client.call(&["INFO", "keyspace"]);
    assert!(info.contains(&format!("db0:keys={keys},expires=1,avg_ttl=0,estimated=1")), "{info}");
    assert_eq!(client.call(&["DBSIZE"]), format!(":{keys}"));
}

#[test]
fn info_goes_on_when_a_table_is_damaged() {
    let server = Running::on_disk_without_cache();
    let mut client = server.connect();
    assert_eq!(client.call(&["SET", "key", "value"]), "+OK");
    assert_eq!(client.call(&["SAVE"]), "+OK");
    for table in std::fs::read_dir(server.dir.as_ref().unwrap().path().join("data/tables")).unwrap() {
        let path = table.unwrap().path();
        let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
        let mut bytes = Vec::new();
        (&file).read_to_end(&mut bytes).unwrap();
        let value = bytes.windows(5).position(|window| window == b"value").unwrap();
        file.write_all_at(b"V", value as u64).unwrap();
    }
    assert!(client.call(&["DBSIZE"]).starts_with("-CORRUPT"), "it was not damaged");
    let info = client.call(&["INFO", "keyspace"]);
    assert!(info.contains("db0:keys=1,expires=0,avg_ttl=0,estimated=1"), "{info}");
}
