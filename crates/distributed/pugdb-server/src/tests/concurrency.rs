//! Several connections on the same keys.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::scope;

use pugdb_wire::resp::Reply;

use super::harness::{Client, Running, request};

#[test]
fn increments_of_eight_connections_add_up() {
    for server in [Running::in_memory(), Running::on_disk()] {
        scope(|scope| {
            for _ in 0..8 {
                let mut client = server.connect();
                scope.spawn(move || {
                    // Pipelines of ten.
                    for _ in 0..50 {
                        client.send(request(&["INCR", "n"]).repeat(10));
                        for _ in 0..10 {
                            assert!(client.text().starts_with(':'));
                        }
                    }
                });
            }
        });
        assert_eq!(server.connect().call(&["GET", "n"]), "\"4000\"");
    }
}

#[test]
fn set_nx_has_one_winner() {
    let server = Running::on_disk();
    let wins: Vec<AtomicUsize> = (0..50).map(|_| AtomicUsize::new(0)).collect();
    scope(|scope| {
        for racer in 0..8 {
            let mut client = server.connect();
            let wins = &wins;
            scope.spawn(move || {
                for (key, won) in wins.iter().enumerate() {
                    let reply = client.call(&["SET", &key.to_string(), &racer.to_string(), "NX"]);
                    assert!(reply == "+OK" || reply == "nil", "{reply}");
                    won.fetch_add(usize::from(reply == "+OK"), Ordering::SeqCst);
                }
            });
        }
    });
    assert!(wins.iter().all(|won| won.load(Ordering::SeqCst) == 1));
}

#[test]
fn changes_of_a_part_of_a_string_are_not_lost() {
    const WRITERS: usize = 6;
    const ROUNDS: usize = 60;
    for server in [Running::in_memory(), Running::on_disk()] {
        scope(|scope| {
            for writer in 0..WRITERS {
                let mut client = server.connect();
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        let place = (writer * ROUNDS + round).to_string();
                        for command in [
                            &["APPEND", "appended", "x"][..],
                            &["SETRANGE", "range", &place, "x"],
                            &["SETBIT", "bits", &place, "1"],
                            &["BITFIELD", "field", "INCRBY", "u32", "#3", "1"],
                            &["INCRBYFLOAT", "sum", "0.1"],
                        ] {
                            client.send(request(command));
                        }
                        assert!((0..5).all(|_| !client.text().starts_with('-')));
                    }
                });
            }
        });
        let mut client = server.connect();
        let all = WRITERS * ROUNDS;
        let x = format!("\"{}\"", "x".repeat(all));
        assert_eq!(client.call(&["GET", "appended"]), x);
        assert_eq!(client.call(&["GET", "range"]), x);
        assert_eq!(client.call(&["BITCOUNT", "bits"]), format!(":{all}"));
        assert_eq!(client.call(&["BITFIELD", "field", "GET", "u32", "#3"]), format!("[:{all}]"));
        assert_eq!(client.call(&["GET", "sum"]), format!("\"{}\"", all / 10));
    }
}

#[test]
fn a_key_that_changes_its_name_is_always_in_one_place() {
    for server in [Running::in_memory(), Running::on_disk()] {
        let mut reader = server.connect();
        assert_eq!(reader.call(&["SET", "a", "1"]), "+OK");
        let over = AtomicBool::new(false);
        let moves = AtomicUsize::new(0);
        scope(|scope| {
            for _ in 0..2 {
                let mut client = server.connect();
                let (over, moves) = (&over, &moves);
                scope.spawn(move || {
                    while !over.load(Ordering::SeqCst) {
                        for (from, to) in [("a", "b"), ("b", "c"), ("c", "a")] {
                            let reply = client.call(&["RENAME", from, to]);
                            assert!(reply == "+OK" || reply == "-ERR no such key", "{reply}");
                            moves.fetch_add(usize::from(reply == "+OK"), Ordering::SeqCst);
                        }
                    }
                });
            }
            while moves.load(Ordering::SeqCst) < 1_000 {
                // Many at once: the moment at which it could be seen is short.
                reader.send(request(&["EXISTS", "a", "b", "c"]).repeat(200));
                assert!((0..200).all(|_| reader.text() == ":1"));
            }
            over.store(true, Ordering::SeqCst);
        });
    }
}

#[test]
fn msetnx_sets_all_of_its_keys_or_none() {
    let server = Running::on_disk();
    let wins: Vec<AtomicUsize> = (0..50).map(|_| AtomicUsize::new(0)).collect();
    scope(|scope| {
        for racer in 0..6 {
            let mut client = server.connect();
            let wins = &wins;
            scope.spawn(move || {
                for (round, won) in wins.iter().enumerate() {
                    // Half of them name the keys the other way round.
                    let mut keys = [format!("{round}:a"), format!("{round}:b")];
                    keys.rotate_left(racer % 2);
                    let value = racer.to_string();
                    let reply = client.call(&["MSETNX", &keys[0], &value, &keys[1], &value]);
                    won.fetch_add(usize::from(reply == ":1"), Ordering::SeqCst);
                    let values = client.call(&["MGET", &keys[0], &keys[1]]);
                    let (one, other) = values.trim_matches(['[', ']']).split_once(", ").unwrap();
                    assert!(one == other && one != "nil", "{values}");
                }
            });
        }
    });
    assert!(wins.iter().all(|won| won.load(Ordering::SeqCst) == 1));
}

#[test]
fn del_counts_a_key_once_however_many_delete_it() {
    let server = Running::in_memory();
    let keys: Vec<String> = (0..500).map(|key| key.to_string()).collect();
    let mut client = server.connect();
    for key in &keys {
        assert_eq!(client.call(&["SET", key, "1"]), "+OK");
    }
    let deleted = AtomicUsize::new(0);
    scope(|scope| {
        for _ in 0..4 {
            let mut client = server.connect();
            let (keys, deleted) = (&keys, &deleted);
            scope.spawn(move || {
                let arguments: Vec<&str> =
                    ["DEL"].into_iter().chain(keys.iter().map(String::as_str)).collect();
                let count = client.call(&arguments)[1..].parse().unwrap();
                deleted.fetch_add(count, Ordering::SeqCst);
            });
        }
    });
    assert_eq!(deleted.into_inner(), keys.len());
}

#[test]
fn a_scan_returns_every_key_that_is_there_all_the_time() {
    for server in [Running::in_memory(), Running::on_disk()] {
        let stable: BTreeSet<String> = (0..500).map(|key| format!("stable:{key}")).collect();
        let mut client = server.connect();
        for key in &stable {
            client.send(request(&["SET", key, "1"]));
        }
        assert!(stable.iter().all(|_| client.text() == "+OK"));
        let over = AtomicBool::new(false);
        scope(|scope| {
            for writer in 0..2 {
                let mut client = server.connect();
                let over = &over;
                scope.spawn(move || churn(&mut client, writer, over));
            }
            for arguments in [&["COUNT", "7"][..], &["COUNT", "50", "MATCH", "sta*"], &["MATCH", "*:*"]] {
                for _ in 0..3 {
                    let met = scan_all(&mut client, arguments);
                    let missing = stable.difference(&met).count();
                    assert_eq!(missing, 0, "keys that a scan with {arguments:?} has missed");
                }
            }
            over.store(true, Ordering::SeqCst);
        });
    }
}

/// Inserts and deletes keys before, between and behind the stable ones.
fn churn(client: &mut Client, writer: usize, over: &AtomicBool) {
    let mut round = 0;
    while !over.load(Ordering::SeqCst) {
        let keys =
            ["a", "stable:1", "stable:3x", "z"].map(|prefix| format!("{prefix}:{writer}:{}", round % 40));
        let inserts = round / 40 % 2 == 0;
        for key in &keys {
            client.send(if inserts { request(&["SET", key, "1"]) } else { request(&["DEL", key]) });
        }
        assert!(keys.iter().all(|_| !client.text().starts_with('-')));
        round += 1;
    }
}

fn scan_all(client: &mut Client, options: &[&str]) -> BTreeSet<String> {
    let mut met = BTreeSet::new();
    let mut cursor = "0".to_owned();
    loop {
        let arguments: Vec<&str> = ["SCAN", &cursor].into_iter().chain(options.iter().copied()).collect();
        client.send(request(&arguments));
        let Some(Reply::Array(parts)) = client.reply() else { panic!("no array") };
        let [Reply::Bulk(next), Reply::Array(keys)] = &parts[..] else { panic!("not a cursor and keys") };
        for key in keys {
            let Reply::Bulk(key) = key else { panic!("not a key") };
            met.insert(String::from_utf8(key.to_vec()).unwrap());
        }
        cursor = String::from_utf8(next.to_vec()).unwrap();
        if cursor == "0" {
            return met;
        }
    }
}

#[test]
fn the_last_cursor_may_be_used_again_and_an_older_one_may_not() {
    let server = Running::in_memory();
    let mut client = server.connect();
    assert_eq!(client.call(&["MSET", "a", "1", "b", "2", "c", "3", "d", "4"]), "+OK");
    let mut step = |cursor: &str| {
        let reply = client.call(&["SCAN", cursor, "COUNT", "1"]);
        let cursor = reply.split('"').nth(1).unwrap_or_default().to_owned();
        (reply.split_once(", ").map_or(reply.clone(), |(_, keys)| keys.to_owned()), cursor)
    };
    let (keys, first) = step("0");
    assert_eq!(keys, "[\"a\"]]");
    let (keys, second) = step(&first);
    assert_eq!(keys, "[\"b\"]]");
    // The answer was lost: the client asks again.
    assert_eq!(step(&first).0, "[\"b\"]]");
    assert_eq!(step(&second).0, "[\"c\"]]");
    assert_eq!(step(&first).0, "-ERR invalid cursor");
    // A cursor belongs to its database.
    assert_eq!(client.call(&["SELECT", "1"]), "+OK");
    assert_eq!(client.call(&["SCAN", &second]), "-ERR invalid cursor");
}
