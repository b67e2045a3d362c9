//! One thread that talks over many connections, each with so many requests on their way, as `redis-benchmark` does it.
//! Every value that comes back is checked against its key.

use std::collections::VecDeque;
use std::io::{self, Error, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use pugdb_ycsb::{Key, Operation, Values, key};
use rustix::event::epoll;

use crate::protocol::{Answer, Protocol};

/// What one run over sockets saw.
pub struct Seen {
    /// From sending a request to reading its answer, in nanoseconds.
    pub latencies: Histogram<u64>,
    /// How many requests were answered.
    pub operations: u64,
    /// How many values came back, each checked.
    pub checked: u64,
    /// From the first request to the last answer.
    pub wall: Duration,
}

/// How many connections, and how many requests each has on their way.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Sockets.
    pub connections: usize,
    /// Requests that are sent before their answers are awaited.
    pub depth: usize,
}

/// When a run ends.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// All operations are through.
    Done,
    /// The time is over; the operations begin anew when they are through.
    After(Duration),
}

/// What is read at once.
const READ_BYTES: usize = 64 << 10;

enum Expected {
    Value(Key),
    Done,
}

struct Connection {
    stream: TcpStream,
    out: Vec<u8>,
    written: usize,
    input: Vec<u8>,
    /// What is expected, and how long its request was.
    expected: VecDeque<(Expected, usize)>,
    sent: Instant,
}

/// Which operations are next, and until when.
struct Course<'a> {
    operations: &'a [Operation],
    next: usize,
    depth: usize,
    until: Until,
    began: Instant,
}

impl Course<'_> {
    fn is_over(&self, now: Instant) -> bool {
        matches!(self.until, Until::After(limit) if now.duration_since(self.began) >= limit)
    }

    fn next(&mut self) -> Option<Operation> {
        if matches!(self.until, Until::After(_)) && self.next == self.operations.len() {
            self.next = 0;
        }
        let operation = self.operations.get(self.next).copied();
        self.next += 1;
        operation
    }
}

/// Whose answers are read here.
pub struct Talk<'a> {
    /// Where the server listens.
    pub address: SocketAddr,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// How values are made and known again.
    pub values: &'a Values,
    /// Versions of values count up from here; no two writes have the same.
    pub version: u64,
}

fn wrong(what: impl Into<String>) -> Error {
    Error::new(io::ErrorKind::InvalidData, what.into())
}

impl Talk<'_> {
    /// Carries out `operations` and ends with an error at the first wrong answer.
    pub fn run(&mut self, operations: &[Operation], shape: Shape, until: Until) -> io::Result<Seen> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut connections = Vec::with_capacity(shape.connections);
        for number in 0..shape.connections {
            let connection = self.connect()?;
            let data = epoll::EventData::new_u64(number as u64);
            epoll::add(
                &epoll,
                &connection.stream,
                data,
                epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET,
            )?;
            connections.push(connection);
        }
        let mut seen = Seen {
            latencies: Histogram::new_with_max(60_000_000_000, 3)
                .map_err(|error| Error::other(error.to_string()))?,
            operations: 0,
            checked: 0,
            wall: Duration::ZERO,
        };
        let mut buffer = vec![0; READ_BYTES];
        let mut course = Course { operations, next: 0, depth: shape.depth, until, began: Instant::now() };
        for connection in &mut connections {
            self.send(connection, &mut course)?;
        }
        let mut events = Vec::with_capacity(shape.connections);
        while connections.iter().any(|connection| !connection.expected.is_empty()) {
            events.clear();
            epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None)?;
            for event in &events {
                let number = usize::try_from(event.data.u64()).expect("it is a number of a connection");
                let connection = &mut connections[number];
                flush(connection)?;
                self.receive(connection, &mut buffer, &mut seen)?;
                if connection.expected.is_empty() {
                    self.send(connection, &mut course)?;
                }
            }
        }
        seen.wall = course.began.elapsed();
        Ok(seen)
    }

    fn connect(&self) -> io::Result<Connection> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        self.protocol.greet(&mut stream)?;
        stream.set_nonblocking(true)?;
        Ok(Connection {
            stream,
            out: Vec::new(),
            written: 0,
            input: Vec::new(),
            expected: VecDeque::new(),
            sent: Instant::now(),
        })
    }

    fn send(&mut self, connection: &mut Connection, course: &mut Course<'_>) -> io::Result<()> {
        connection.sent = Instant::now();
        if course.is_over(connection.sent) {
            return Ok(());
        }
        let mut value = Vec::new();
        for _ in 0..course.depth {
            let Some(operation) = course.next() else { break };
            let before = connection.out.len();
            let expected = match operation {
                Operation::Read(record) => {
                    let key = key(record);
                    self.protocol.get(&key, &mut connection.out);
                    Expected::Value(key)
                }
                Operation::Update(record) => {
                    let key = key(record);
                    self.version += 1;
                    self.values.make(&key, self.version, &mut value);
                    self.protocol.put(&key, &value, &mut connection.out);
                    Expected::Done
                }
                _ => return Err(wrong("over sockets there are reads and updates only")),
            };
            connection.expected.push_back((expected, connection.out.len() - before));
        }
        flush(connection)
    }

    fn receive(&self, connection: &mut Connection, buffer: &mut [u8], seen: &mut Seen) -> io::Result<()> {
        // Edge triggered: until there is no more.
        loop {
            match connection.stream.read(buffer) {
                Ok(0) => return Err(wrong("the server hung up")),
                Ok(count) => connection.input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let mut used = 0;
        while let Some((expected, sent)) = connection.expected.front() {
            let rest = &connection.input[used..];
            let Some((length, answer)) = self.protocol.answer(rest, *sent)? else { break };
            match (expected, answer) {
                (Expected::Value(key), Answer::Value(value))
                    if self.values.is_of(key, &rest[value.clone()]) =>
                {
                    seen.checked += 1;
                }
                (_, Answer::Done) if self.protocol == Protocol::Echo => {}
                (Expected::Done, Answer::Done) => {}
                (_, Answer::Refused(reason)) => return Err(wrong(format!("the server refused: {reason}"))),
                _ => return Err(wrong("an answer is not the one to its request; the figures mean nothing")),
            }
            used += length;
            connection.expected.pop_front();
            seen.operations += 1;
            let latency = connection.sent.elapsed().as_nanos();
            seen.latencies.saturating_record(u64::try_from(latency).unwrap_or(u64::MAX));
        }
        connection.input.drain(..used);
        Ok(())
    }
}

fn flush(connection: &mut Connection) -> io::Result<()> {
    while connection.written < connection.out.len() {
        match connection.stream.write(&connection.out[connection.written..]) {
            Ok(count) => connection.written += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    connection.out.clear();
    connection.written = 0;
    Ok(())
}
