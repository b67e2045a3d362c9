//! The kill test: SIGKILL at random moments while four writers run; nothing that was acknowledged is lost, and nothing
//! is there that was never sent.
//!
//! 20 rounds on one database directory; `PUGDB_KILL_ROUNDS=200` for more. A failure prints its seed:
//! `PUGDB_KILL_SEED=… cargo test -p pugdb-cli --test kill` replays the same requests and moments (the machine's own
//! timing aside).

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

mod keys;
#[path = "../support/server.rs"]
mod server;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use pugdb_wire::resp::Reply;
use rustix::process::Signal;
use server::{Client, Running};

const WRITERS: usize = 4;
const KEYS: usize = 150;
const PIPELINE_MAX: usize = 24;
const PADDING_MAX: usize = 1_500;
/// Small, so that memtables are flushed and tables compacted while the writers run.
const MEMORY: &str = "8MiB";

/// One change of one key. Every set has a number of its own, so no two states look alike.
#[derive(Clone, Debug)]
enum Op {
    Set { key: usize, number: u64, padding: usize },
    Del { key: usize },
    Incr,
}

/// What a writer's keys hold.
type State = BTreeMap<Vec<u8>, Vec<u8>>;

/// A writer with keys that nobody else touches.
struct Writer {
    name: usize,
    random: Rng,
    next_number: u64,
    /// After the last check.
    state: State,
    /// Sent since then, in order, and how many of them were acknowledged.
    sent: Vec<Op>,
    acknowledged: usize,
}

impl Writer {
    fn key(&self, key: usize) -> Vec<u8> {
        format!("writer{}:{key}", self.name).into_bytes()
    }

    fn counter(&self) -> Vec<u8> {
        format!("writer{}:counter", self.name).into_bytes()
    }

    fn random_op(&mut self) -> Op {
        let key = self.random.usize(..KEYS);
        match self.random.u32(..10) {
            0..=6 => {
                self.next_number += 1;
                Op::Set { key, number: self.next_number, padding: self.random.usize(..PADDING_MAX) }
            }
            7 | 8 => Op::Del { key },
            _ => Op::Incr,
        }
    }

    fn value(number: u64, padding: usize) -> Vec<u8> {
        let mut value = format!("{number}:").into_bytes();
        value.resize(value.len() + padding, b'a' + (number % 26) as u8);
        value
    }

    fn request(&self, op: &Op) -> Vec<Vec<u8>> {
        match *op {
            Op::Set { key, number, padding } => {
                vec![b"SET".to_vec(), self.key(key), Self::value(number, padding)]
            }
            Op::Del { key } => vec![b"DEL".to_vec(), self.key(key)],
            Op::Incr => vec![b"INCR".to_vec(), self.counter()],
        }
    }

    fn apply(&self, op: &Op, state: &mut State) {
        match *op {
            Op::Set { key, number, padding } => {
                state.insert(self.key(key), Self::value(number, padding));
            }
            Op::Del { key } => {
                state.remove(&self.key(key));
            }
            Op::Incr => {
                let old = state.get(&self.counter()).map_or(0, |digits| number(digits));
                state.insert(self.counter(), (old + 1).to_string().into_bytes());
            }
        }
    }

    /// Writes until the connection is gone.
    fn work(&mut self, address: SocketAddr) {
        let mut client = Client::connect(address);
        loop {
            let pipeline: Vec<Op> =
                (0..self.random.usize(1..=PIPELINE_MAX)).map(|_| self.random_op()).collect();
            let requests: Vec<_> = pipeline.iter().map(|op| self.request(op)).collect();
            let length = pipeline.len();
            // Before they go out: whatever becomes of the call, they may have been sent.
            self.sent.extend(pipeline);
            if !client.send(&requests) {
                return;
            }
            for _ in 0..length {
                match client.reply() {
                    None => return,
                    Some(Reply::Error(message)) => panic!("a write was refused: {message}"),
                    Some(_) => self.acknowledged += 1,
                }
            }
        }
    }

    /// What is there now has to be the state after the acknowledged requests and after none, some or all of those
    /// behind them, in their order. How many survived beyond the acknowledged ones.
    fn check(&mut self, client: &mut Client) -> Result<usize, String> {
        let found = self.read(client);
        let (sent, acknowledged) = (std::mem::take(&mut self.sent), std::mem::take(&mut self.acknowledged));
        let mut state = std::mem::take(&mut self.state);
        for op in &sent[..acknowledged] {
            self.apply(op, &mut state);
        }
        let at_least = state.clone();
        let mut beyond = 0;
        while state != found {
            let Some(op) = sent.get(acknowledged + beyond) else {
                return Err(self.describe(&at_least, &found, sent.len() - acknowledged));
            };
            self.apply(op, &mut state);
            beyond += 1;
        }
        self.state = found;
        Ok(beyond)
    }

    fn read(&self, client: &mut Client) -> State {
        let mut keys: Vec<_> = (0..KEYS).map(|key| self.key(key)).collect();
        keys.push(self.counter());
        let mut request: Vec<&[u8]> = vec![b"MGET"];
        request.extend(keys.iter().map(Vec::as_slice));
        let Reply::Array(values) = client.ask(&request) else { panic!("MGET answers with an array") };
        assert_eq!(values.len(), keys.len());
        let there = keys.into_iter().zip(values).filter_map(|(key, value)| match value {
            Reply::Bulk(value) => Some((key, value.to_vec())),
            Reply::Null => None,
            other => panic!("MGET answers with {other:?}"),
        });
        there.collect()
    }

    fn describe(&self, at_least: &State, found: &State, unknown: usize) -> String {
        let short = |value: Option<&Vec<u8>>| {
            value.map_or("absent".to_owned(), |value| {
                String::from_utf8_lossy(&value[..value.len().min(12)]).into_owned()
            })
        };
        let keys: std::collections::BTreeSet<_> = at_least.keys().chain(found.keys()).collect();
        let differences: Vec<String> = keys
            .into_iter()
            .filter(|key| at_least.get(*key) != found.get(*key))
            .take(10)
            .map(|key| {
                let name = String::from_utf8_lossy(key);
                format!("{name}: acknowledged {}, found {}", short(at_least.get(key)), short(found.get(key)))
            })
            .collect();
        format!(
            "writer {}: no order of events explains this ({unknown} requests unacknowledged): {differences:#?}",
            self.name
        )
    }
}

/// Rounds and seed, as they are asked for, and how to replay them.
fn rounds_and_seed() -> (u64, u64, String) {
    let variable = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().expect("a number"));
    let rounds = variable("PUGDB_KILL_ROUNDS").unwrap_or(20);
    let seed = variable("PUGDB_KILL_SEED").unwrap_or_else(|| fastrand::u64(..));
    let replay = format!(
        "replay: PUGDB_KILL_SEED={seed} PUGDB_KILL_ROUNDS={rounds} cargo test -p pugdb-cli --test kill"
    );
    (rounds, seed, replay)
}

/// The moment of the kill is what is random.
fn wait(random: &mut Rng, most_ms: u64) {
    #[expect(clippy::disallowed_methods, reason = "a server is left alone for a while, and then killed")]
    thread::sleep(Duration::from_millis(random.u64(20..most_ms)));
}

fn number(digits: &[u8]) -> u64 {
    std::str::from_utf8(digits).unwrap().parse().unwrap()
}

#[test]
fn nothing_acknowledged_is_lost_when_the_server_is_killed() {
    let (rounds, seed, replay) = rounds_and_seed();
    println!("{replay}");
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut random = Rng::with_seed(seed);
    let mut writers: Vec<Writer> = (0..WRITERS)
        .map(|name| Writer {
            name,
            random: random.fork(),
            next_number: 0,
            state: State::new(),
            sent: Vec::new(),
            acknowledged: 0,
        })
        .collect();
    let (mut acknowledged, mut survived, mut unknown, mut was_clean) = (0, 0, 0, false);
    for round in 0..rounds {
        // Every level of durability survives a kill.
        let durability = if round % 4 == 3 { "os" } else { "sync" };
        let server = Running::start(&data, &["--memory", MEMORY, "--durability", durability]);
        println!("round {round}: {}", server.greeting.trim_end());
        assert_eq!(server.greeting.contains("it was closed in good order"), was_clean, "{}", server.greeting);
        survived += check_all(&mut writers, server.address);

        // Now and then the end is an orderly one, in the middle of the work as well.
        was_clean = round % 7 == 6;
        thread::scope(|scope| {
            let address = server.address;
            for writer in &mut writers {
                scope.spawn(move || writer.work(address));
            }
            wait(&mut random, 300);
            if was_clean {
                let (status, rest) = server.stop(Signal::TERM);
                assert!(status.success() && rest.contains("closed in good order"), "{status}: {rest}");
            } else {
                server.kill();
            }
        });
        acknowledged += writers.iter().map(|writer| writer.acknowledged).sum::<usize>();
        unknown += writers.iter().map(|writer| writer.sent.len() - writer.acknowledged).sum::<usize>();
    }
    let server = Running::start(&data, &["--memory", MEMORY]);
    survived += check_all(&mut writers, server.address);
    println!(
        "{rounds} rounds, {acknowledged} changes acknowledged and all found; {survived} of {unknown} others found, too"
    );
    assert!(rounds == 0 || acknowledged > 1_000, "the writers came to write");
}

/// Checks the keys of each writer, and that there are no others. How many unacknowledged changes survived.
fn check_all(writers: &mut [Writer], address: SocketAddr) -> usize {
    let mut client = Client::connect(address);
    let checked: Result<Vec<usize>, String> =
        writers.iter_mut().map(|writer| writer.check(&mut client)).collect();
    let survived = checked.unwrap_or_else(|difference| panic!("{difference}"));
    let keys: usize = writers.iter().map(|writer| writer.state.len()).sum();
    assert_eq!(
        client.ask(&[b"DBSIZE"]),
        Reply::Integer(i64::try_from(keys).unwrap()),
        "keys that nobody wrote"
    );
    survived.into_iter().sum()
}
