//! `MULTI`, `EXEC` and `WATCH` among many clients: sums are kept, steps are not lost, and every key has a history that some
//! order of its reads and writes explains.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::scope;
use std::time::Duration;

use pugdb::env::Clock;
use pugdb::env::os::OsClock;
use pugdb::{Database, KeyspaceOptions, Quota};

use super::harness::{Client, Running, options, request};
use super::history::{Event, contradiction};
use crate::ServerOptions;

const CLIENTS: u64 = 32;
const KEYS: [&str; 4] = ["a", "b", "c", "d"];

#[test]
fn a_counter_under_watch_loses_no_step() {
    for server in [Running::in_memory(), Running::on_disk()] {
        let retries = AtomicU64::new(0);
        scope(|scope| {
            for _ in 0..CLIENTS {
                let mut client = server.connect();
                let retries = &retries;
                scope.spawn(move || {
                    for _ in 0..20 {
                        while !increment(&mut client) {
                            retries.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(server.connect().call(&["GET", "count"]), format!("\"{}\"", CLIENTS * 20));
        assert!(retries.into_inner() > 0, "they never met: nothing was tested");
    }
}

/// One step, unless somebody else was faster.
fn increment(client: &mut Client) -> bool {
    assert_eq!(client.call(&["WATCH", "count"]), "+OK");
    let value = number(&client.call(&["GET", "count"]));
    assert_eq!(client.call(&["MULTI"]), "+OK");
    assert_eq!(client.call(&["SET", "count", &(value + 1).to_string()]), "+QUEUED");
    match client.call(&["EXEC"]).as_str() {
        "[+OK]" => true,
        "nil array" => false,
        other => panic!("{other}"),
    }
}

fn number(reply: &str) -> i64 {
    if reply == "nil" { 0 } else { reply.trim_matches('"').parse().unwrap() }
}

#[test]
fn transfers_keep_their_sum_and_nobody_sees_half_of_one() {
    for server in [Running::in_memory(), Running::on_disk()] {
        let mut client = server.connect();
        for key in KEYS {
            assert_eq!(client.call(&["SET", key, "1000"]), "+OK");
        }
        scope(|scope| {
            for seed in 0..CLIENTS {
                let mut client = server.connect();
                scope.spawn(move || {
                    for step in 0..30 {
                        let (from, to) = (KEYS[place(seed + step)], KEYS[place(seed + step * 3 + 1)]);
                        let amount = (seed % 7).to_string();
                        client.send(
                            [
                                request(&["MULTI"]),
                                request(&["DECRBY", from, &amount]),
                                request(&["INCRBY", to, &amount]),
                                request(&["EXEC"]),
                            ]
                            .concat(),
                        );
                        let replies: Vec<String> = (0..4).map(|_| client.text()).collect();
                        assert!(replies[3].starts_with("[:"), "{replies:?}");
                        assert_eq!(sum(&client.call(&["MGET", "a", "b", "c", "d"])), 4000);
                    }
                });
            }
        });
        assert_eq!(sum(&client.call(&["MGET", "a", "b", "c", "d"])), 4000);
    }
}

/// The place in [`KEYS`] that a number falls on.
fn place(number: u64) -> usize {
    usize::try_from(number % KEYS.len() as u64).unwrap()
}

fn sum(reply: &str) -> i64 {
    reply.trim_matches(['[', ']']).split(", ").map(number).sum()
}

#[test]
fn every_key_has_a_history_that_some_order_explains() {
    for server in [Running::in_memory(), Running::on_disk()] {
        let (clock, values) = (OsClock::new(), AtomicU64::new(1));
        let histories: Vec<Vec<(usize, Event)>> = scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|seed| {
                    let (mut client, clock, values) = (server.connect(), &clock, &values);
                    scope.spawn(move || {
                        let mut events = Vec::new();
                        for step in 0..60 {
                            let act = seed.wrapping_mul(2_654_435_761).wrapping_add(step * 40_503) >> 3;
                            events.extend(read_or_write(&mut client, clock, values, act));
                        }
                        events
                    })
                })
                .collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        for (index, key) in KEYS.iter().enumerate() {
            let history: Vec<Event> = histories
                .iter()
                .flatten()
                .filter(|(of, _)| *of == index)
                .map(|(_, event)| event.clone())
                .collect();
            assert!(history.iter().filter(|event| event.is_write).count() > 100);
            assert_eq!(contradiction(&history), None, "key {key}");
            // The checker is awake: an old value, seen again at the end, is noticed.
            let mut planted = history;
            let first =
                planted.iter().filter(|event| event.is_write).min_by_key(|event| event.end).unwrap().clone();
            let end = Duration::from_hours(1);
            planted.push(Event { start: end, end: end * 2, is_write: false, ..first });
            assert!(contradiction(&planted).is_some(), "a stale read of {key} passes");
        }
    }
}

/// One call that reads or writes a key or two, alone or in a transaction.
fn read_or_write(client: &mut Client, clock: &OsClock, values: &AtomicU64, act: u64) -> Vec<(usize, Event)> {
    let (one, other) = (place(act), place(act / 4 + 1 + act));
    let value = values.fetch_add(1, Ordering::Relaxed);
    let text = value.to_string();
    let start = clock.monotonic();
    let (is_write, seen) = match act / 16 % 4 {
        0 => (true, vec![(one, client.call(&["SET", KEYS[one], &text]))]),
        1 => (false, vec![(one, client.call(&["GET", KEYS[one]]))]),
        // A write of one key and a read of another in one step.
        2 if one != other => {
            client.send(
                [
                    request(&["MULTI"]),
                    request(&["SET", KEYS[one], &text]),
                    request(&["GET", KEYS[other]]),
                    request(&["EXEC"]),
                ]
                .concat(),
            );
            let replies: Vec<String> = (0..4).map(|_| client.text()).collect();
            let read = replies[3].strip_prefix("[+OK, ").and_then(|rest| rest.strip_suffix(']')).unwrap();
            let end = clock.monotonic();
            let write = Event { start, end, is_write: true, value };
            let read = Event { start, end, is_write: false, value: number(read).cast_unsigned() };
            return vec![(one, write), (other, read)];
        }
        _ => {
            let reply = client.call(&["MGET", KEYS[one], KEYS[other]]);
            let mut read = reply.trim_matches(['[', ']']).split(", ").map(str::to_owned);
            let seen = vec![(one, read.next().unwrap()), (other, read.next().unwrap())];
            (false, seen)
        }
    };
    let end = clock.monotonic();
    let event = |(index, reply): (usize, String)| {
        let value = if is_write { value } else { number(&reply).cast_unsigned() };
        (index, Event { start, end, is_write, value })
    };
    seen.into_iter().map(event).collect()
}

#[test]
fn very_many_watched_keys_are_bounded_by_memory_and_by_nothing_else() {
    let keys: Vec<String> = (0..200_000).map(|number| format!("key{number}")).collect();
    let watch: Vec<&str> = ["WATCH"].into_iter().chain(keys.iter().map(String::as_str)).collect();
    let server = Running::in_memory();
    let (mut client, mut other) = (server.connect(), server.connect());
    // Looking through all of them for each would take minutes.
    assert_eq!(client.call(&watch), "+OK");
    assert_eq!(other.call(&["SET", "key150000", "v"]), "+OK");
    assert_eq!(client.call(&["MULTI"]), "+OK");
    assert_eq!(client.call(&["SET", "key1", "v"]), "+QUEUED");
    assert_eq!(client.call(&["EXEC"]), "nil array");

    let server = Running::in_memory_with(ServerOptions { buffer_bytes: 32 << 20, ..options() });
    let mut client = server.connect();
    let refused = client.call(&watch);
    assert!(refused.starts_with("-OOM"), "{refused}");
    assert_eq!(client.call(&["UNWATCH"]), "+OK");
    server.eventually(|shared| shared.budget.used() < 1 << 20);
}

#[test]
fn replies_of_a_transaction_that_nobody_can_be_sent_are_not_kept() {
    let server = Running::on_disk();
    let mut client = server.connect();
    assert_eq!(client.call(&["SET", "large", &"v".repeat(1 << 20)]), "+OK");
    assert_eq!(client.call(&["MULTI"]), "+OK");
    for _ in 0..600 {
        assert_eq!(client.call(&["GET", "large"]), "+QUEUED");
    }
    assert_eq!(client.call(&["INCR", "count"]), "+QUEUED");
    let refused = client.call(&["EXEC"]);
    assert!(refused.contains("larger than 512 MiB") && refused.contains("carried out"), "{refused}");
    assert_eq!(client.call(&["GET", "count"]), "\"1\"");
}

#[test]
fn a_write_over_the_quota_is_told_as_redis_tells_of_full_memory_and_a_transaction_is_all_or_nothing() {
    let quota_bytes = Some(Quota::AtMost(2000));
    let few = KeyspaceOptions { quota_bytes, ..KeyspaceOptions::default() };
    let server = Running::on_disk_as(Database::builder().default_options(few), options());
    let mut client = server.connect();
    let large = "v".repeat(2000);
    assert_eq!(client.call(&["SET", "small", "1"]), "+OK");
    let refused = client.call(&["SET", "large", &large]);
    assert!(refused.starts_with("-OOM keyspace \"db0\" takes 182 of the 2000 bytes"), "{refused}");
    assert_eq!(client.call(&["MULTI"]), "+OK");
    assert_eq!(client.call(&["INCR", "small"]), "+QUEUED");
    assert_eq!(client.call(&["SET", "large", &large]), "+QUEUED");
    let refused = client.call(&["EXEC"]);
    assert!(refused.starts_with("-OOM keyspace"), "{refused}");
    assert_eq!(client.call(&["MGET", "small", "large"]), "[\"1\", nil]");
    assert_eq!(client.call(&["SELECT", "1"]), "+OK");
    assert_eq!(client.call(&["SET", "small", "1"]), "+OK", "each database has its own");
    assert_eq!(client.call(&["SELECT", "0"]), "+OK");
    assert_eq!(client.call(&["SET", "more", &"v".repeat(1600)]), "+OK");
    assert!(client.call(&["INCR", "small"]).starts_with("-OOM"));
    assert_eq!(client.call(&["DEL", "more"]), ":1");
    assert_eq!(client.call(&["FLUSHDB"]), "+OK");
    assert_eq!(client.call(&["INCR", "small"]), ":1");
}
