//! Keys that change under load: a server whose keys are rotated and renewed, and whose subjects are erased, without a pause, is killed at
//! random moments. What was acknowledged is there, what was erased is erased, and an erasure that was cut off is done for all of a
//! subject's values or for none.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::thread;

use fastrand::Rng;
use pugdb_wire::resp::Reply;

use super::server::{Client, Running, program};
use super::{MEMORY, WRITERS, rounds_and_seed, wait};

/// How many subjects each round writes about.
const SUBJECTS: usize = 24;
/// How many of them nobody erases.
const KEPT: usize = 6;

/// What is known of a subject. Nobody writes about it in the rounds after its own.
#[derive(Default)]
struct Subject {
    /// Keys and values that were acknowledged.
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    is_kept: bool,
    erasure: Erasure,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Erasure {
    #[default]
    None,
    /// It was asked for, and the server was killed before it had answered.
    Unknown,
    Done,
}

type Subjects = BTreeMap<String, Subject>;

fn name_of(round: u64, number: usize) -> String {
    format!("subject-{round}-{number}")
}

fn value_of(key: &str, length: usize) -> Vec<u8> {
    format!("about {key} ").into_bytes().repeat(1 + length)
}

/// Writes until the connection is gone; what was acknowledged, with its subject.
fn write(address: SocketAddr, round: u64, writer: usize, mut random: Rng) -> Vec<(String, Vec<u8>, Vec<u8>)> {
    let (mut client, mut acknowledged) = (Client::connect(address), Vec::new());
    for number in 0.. {
        let (key, subject) = (format!("{round}:{writer}:{number}"), name_of(round, random.usize(..SUBJECTS)));
        let value = value_of(&key, random.usize(..40));
        let request = [b"SET", key.as_bytes(), &value, b"SUBJECT", subject.as_bytes()].map(<[u8]>::to_vec);
        match client.send(&[request.to_vec()]).then(|| client.reply()).flatten() {
            None => break,
            Some(Reply::Simple(_)) => acknowledged.push((subject, key.into_bytes(), value)),
            Some(reply) => panic!("SET answers {reply:?}"),
        }
    }
    acknowledged
}

/// Changes keys until the connection is gone. How many changes were acknowledged.
fn change_keys(address: SocketAddr, subjects: &mut Subjects, mut random: Rng) -> u64 {
    let (mut client, mut changes) = (Client::connect(address), 0);
    let mut ask = |words: &[&[u8]]| {
        let request: Vec<Vec<u8>> = words.iter().map(|word| word.to_vec()).collect();
        match client.send(&[request]).then(|| client.reply()).flatten() {
            Some(Reply::Error(message)) => panic!("a change of keys was refused: {message}"),
            reply => reply.is_some(),
        }
    };
    loop {
        let may_go = |of: &Subject| !of.is_kept && of.erasure != Erasure::Done;
        let there: Vec<&String> =
            subjects.iter().filter(|(_, of)| may_go(of)).map(|(name, _)| name).collect();
        let is_done = match random.usize(..4) {
            0 => ask(&[b"PUGDB", b"KEY-RENEW"]),
            1 | 2 if !there.is_empty() => {
                let name = there[random.usize(..there.len())].clone();
                let is_done = ask(&[b"PUGDB", b"ERASE-SUBJECT", name.as_bytes()]);
                let of = subjects.get_mut(&name).unwrap();
                of.erasure = if is_done { Erasure::Done } else { Erasure::Unknown };
                is_done
            }
            _ => ask(&[b"PUGDB", b"KEY-ROTATE"]),
        };
        if !is_done {
            return changes;
        }
        changes += 1;
    }
}

/// Reads all that was ever acknowledged. How many values were readable, and how many erased.
fn check(address: SocketAddr, subjects: &mut Subjects) -> (usize, usize) {
    let (mut client, mut readable, mut gone) = (Client::connect(address), 0, 0);
    for (name, subject) in subjects {
        let (mut found, mut erased) = (0, 0);
        let all: Vec<_> = subject.values.iter().collect();
        for values in all.chunks(200) {
            let keys = values.iter().map(|(key, _)| key.as_slice());
            let request: Vec<&[u8]> = [&b"MGET"[..]].into_iter().chain(keys).collect();
            let Reply::Array(replies) = client.ask(&request) else { panic!("MGET answers with an array") };
            assert_eq!(replies.len(), values.len());
            for ((key, value), reply) in values.iter().zip(replies) {
                match reply {
                    Reply::Bulk(read) if read == ***value => found += 1,
                    Reply::Error(message) if message.starts_with("ERASED ") => erased += 1,
                    // A merge has forgotten it.
                    Reply::Null if subject.erasure != Erasure::None => erased += 1,
                    other => panic!("{}: {other:?}", String::from_utf8_lossy(key)),
                }
            }
        }
        match subject.erasure {
            Erasure::None => assert_eq!(erased, 0, "{name} was never erased"),
            Erasure::Done => assert_eq!(found, 0, "{name} was erased"),
            Erasure::Unknown => assert!(found == 0 || erased == 0, "{name}: {found} there, {erased} erased"),
        }
        if subject.erasure == Erasure::Unknown && found == 0 {
            subject.erasure = Erasure::Done;
        }
        (readable, gone) = (readable + found, gone + erased);
    }
    (readable, gone)
}

#[test]
fn keys_change_and_subjects_go_under_load_while_the_server_is_killed() {
    let (rounds, seed, replay) = rounds_and_seed();
    println!("{replay}");
    let dir = tempfile::tempdir().unwrap();
    let (data, old) = (dir.path().join("data"), dir.path().join("old"));
    let root_key = format!("file:{}", dir.path().join("root.key").display());
    let flags = ["--memory", MEMORY, "--root-key", &root_key];
    let (mut random, mut subjects) = (Rng::with_seed(seed), Subjects::new());
    let (mut changes, mut result) = (0, (0, 0));
    fs::create_dir(&old).unwrap();
    for round in 0..rounds {
        let server = Running::start(&data, &flags);
        result = check(server.address, &mut subjects);
        // Whoever keeps it: one rotation later it opens no more.
        fs::copy(data.join("KEYRING"), old.join(round.to_string())).unwrap();
        let address = server.address;
        let written = thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let random = random.fork();
                    scope.spawn(move || write(address, round, writer, random))
                })
                .collect();
            let (fork, subjects) = (random.fork(), &mut subjects);
            let changer = scope.spawn(move || change_keys(address, subjects, fork));
            wait(&mut random, 300);
            server.kill();
            changes += changer.join().unwrap();
            writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
        });
        for (subject, key, value) in written {
            let is_kept = (0..KEPT).any(|number| subject == name_of(round, number));
            let subject = subjects.entry(subject).or_default();
            subject.is_kept = is_kept;
            subject.values.insert(key, value);
        }
    }
    let server = Running::start(&data, &flags);
    if rounds > 0 {
        result = check(server.address, &mut subjects);
        Client::connect(server.address).ask(&[b"PUGDB", b"KEY-ROTATE"]);
    }
    server.kill();
    let mut verify = program();
    verify.args(["erase", "--verify", "--root-key", &root_key, "--data"]).arg(&data);
    for round in 0..rounds {
        verify.arg("--old-keyring").arg(old.join(round.to_string()));
    }
    let verified = verify.output().unwrap();
    let text = String::from_utf8_lossy(&verified.stdout);
    assert!(verified.status.success() && text.contains(" 0 of them could be opened"), "{verified:?}");
    println!(
        "{rounds} rounds, {changes} changes of keys; {} values are there, {} erased\n{text}",
        result.0, result.1
    );
    assert!(rounds < 20 || (changes > 100 && result.0 > 100 && result.1 > 0), "the clients came to work");
}
