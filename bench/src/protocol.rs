//! What goes over the sockets: RESP, PostgreSQL's extended protocol, or bytes that come back as they are.

use std::io::{self, Error, Read, Write};
use std::net::TcpStream;

/// How to talk to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Redis, Valkey, PugDB.
    Resp,
    /// PostgreSQL, with statements that are prepared once.
    Postgres,
    /// The commands of RESP to a server that sends back what it gets: no server of that kind is faster.
    Echo,
}

/// What a request is answered with.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The value is this part of the input.
    Value(std::ops::Range<usize>),
    /// There is none.
    Missing,
    /// It is written.
    Done,
    /// It was refused.
    Refused(String),
}

fn wrong(what: &str) -> Error {
    Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

impl Protocol {
    /// What has to be said before the first request, on a socket that still blocks.
    pub fn greet(self, stream: &mut TcpStream) -> io::Result<()> {
        match self {
            Self::Resp | Self::Echo => Ok(()),
            Self::Postgres => postgres::greet(stream),
        }
    }

    /// Adds a request for a value.
    pub fn get(self, key: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Resp | Self::Echo => resp(&[b"GET", key], out),
            Self::Postgres => postgres::execute(b"get", &[key], out),
        }
    }

    /// Adds a request to write a value.
    pub fn put(self, key: &[u8], value: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Resp | Self::Echo => resp(&[b"SET", key, value], out),
            Self::Postgres => postgres::execute(b"put", &[key, value], out),
        }
    }

    /// Reads the answer to one request off the front of `input`, once it is whole: how many bytes it took, and what it
    /// is. An echo is as long as what was `sent`.
    pub fn answer(self, input: &[u8], sent: usize) -> io::Result<Option<(usize, Answer)>> {
        match self {
            Self::Resp => resp_answer(input),
            Self::Postgres => postgres::answer(input),
            Self::Echo => Ok((input.len() >= sent).then_some((sent, Answer::Done))),
        }
    }
}

fn resp(words: &[&[u8]], out: &mut Vec<u8>) {
    let number = |mark: u8, number: usize, out: &mut Vec<u8>| {
        out.push(mark);
        out.extend_from_slice(number.to_string().as_bytes());
        out.extend_from_slice(b"\r\n");
    };
    number(b'*', words.len(), out);
    for word in words {
        number(b'$', word.len(), out);
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

fn resp_answer(input: &[u8]) -> io::Result<Option<(usize, Answer)>> {
    let Some(end) = input.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
    let (line, after) = (&input[1..end], end + 2);
    match input[0] {
        b'+' => Ok(Some((after, Answer::Done))),
        b'-' => Ok(Some((after, Answer::Refused(String::from_utf8_lossy(line).into_owned())))),
        b'$' if line == b"-1" => Ok(Some((after, Answer::Missing))),
        b'$' => {
            let length = std::str::from_utf8(line).ok().and_then(|digits| digits.parse::<usize>().ok());
            let length = length.ok_or_else(|| wrong("a length that is no number"))?;
            let whole = after + length + 2;
            Ok((input.len() >= whole).then_some((whole, Answer::Value(after..after + length))))
        }
        _ => Err(wrong("an answer that a GET or SET does not have")),
    }
}

/// The part of PostgreSQL's protocol 3.0 that is needed: "Message Formats" in its documentation.
mod postgres {
    use super::{Answer, Error, Read, TcpStream, Write, io, wrong};

    /// A message: a letter, its length with itself but without the letter, its content.
    fn message(letter: u8, content: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
        out.push(letter);
        lengthed(content, out);
    }

    fn lengthed(content: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
        let at = out.len();
        out.extend_from_slice(&[0; 4]);
        content(out);
        let length = u32::try_from(out.len() - at).expect("messages here are small");
        out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }

    fn text(words: &[&[u8]], out: &mut Vec<u8>) {
        for word in words {
            out.extend_from_slice(word);
            out.push(0);
        }
    }

    /// Signs in without a password, and prepares the two statements.
    pub(super) fn greet(stream: &mut TcpStream) -> io::Result<()> {
        let mut out = Vec::new();
        let startup = |out: &mut Vec<u8>| {
            out.extend_from_slice(&196_608_u32.to_be_bytes());
            text(&[b"user", b"postgres", b"database", b"postgres", b""], out);
        };
        lengthed(startup, &mut out);
        run(stream, &out)?;
        let mut out = Vec::new();
        let put = b"INSERT INTO ycsb VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        for (name, query) in
            [(b"get".as_slice(), b"SELECT value FROM ycsb WHERE key = $1".as_slice()), (b"put", put)]
        {
            let parse = |out: &mut Vec<u8>| {
                text(&[name, query], out);
                out.extend_from_slice(&[0, 0]);
            };
            message(b'P', parse, &mut out);
        }
        message(b'S', |_| {}, &mut out);
        run(stream, &out)
    }

    /// Sends a plain query and waits for its end.
    pub fn query(stream: &mut TcpStream, query: &str) -> io::Result<()> {
        let mut out = Vec::new();
        message(b'Q', |out| text(&[query.as_bytes()], out), &mut out);
        run(stream, &out)
    }

    fn run(stream: &mut TcpStream, out: &[u8]) -> io::Result<()> {
        stream.write_all(out)?;
        let mut input = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            if let Some((_, answer)) = answer(&input)? {
                return match answer {
                    Answer::Refused(reason) => Err(Error::other(reason)),
                    _ => Ok(()),
                };
            }
            match stream.read(&mut buffer)? {
                0 => return Err(wrong("the server hung up")),
                count => input.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// Bind, execute, sync: a transaction of its own, as a request without pipelining is.
    pub(super) fn execute(statement: &[u8], parameters: &[&[u8]], out: &mut Vec<u8>) {
        let short = |number: usize| u16::try_from(number).expect("one or two").to_be_bytes();
        let bind = |out: &mut Vec<u8>| {
            text(&[b"", statement], out);
            // All parameters are binary, and so is the result.
            out.extend_from_slice(&[0, 1, 0, 1]);
            out.extend_from_slice(&short(parameters.len()));
            for parameter in parameters {
                let length = u32::try_from(parameter.len()).expect("values here are small");
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(parameter);
            }
            out.extend_from_slice(&[0, 1, 0, 1]);
        };
        message(b'B', bind, out);
        message(b'E', |out| out.extend_from_slice(&[0; 5]), out);
        message(b'S', |_| {}, out);
    }

    /// All messages up to "ready for query" are the answer to one request.
    pub(super) fn answer(input: &[u8]) -> io::Result<Option<(usize, Answer)>> {
        let mut at = 0;
        let mut answer = Answer::Missing;
        loop {
            let Some(head) = input.get(at..at + 5) else { return Ok(None) };
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            if length < 4 {
                return Err(wrong("a message shorter than its own length"));
            }
            let (content, end) = (at + 5, at + 1 + length);
            if input.len() < end {
                return Ok(None);
            }
            match head[0] {
                b'Z' => return Ok(Some((end, answer))),
                // One column: its number, its length, its bytes.
                b'D' => answer = Answer::Value((content + 6).min(end)..end),
                b'C' if input[content..end].starts_with(b"INSERT") => answer = Answer::Done,
                b'E' => {
                    answer =
                        Answer::Refused(String::from_utf8_lossy(&input[content..end]).replace('\0', " "));
                }
                _ => {}
            }
            at = end;
        }
    }
}

pub use postgres::query as postgres_query;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_resp_are_read_when_they_are_whole() {
        let input = b"$3\r\nabc\r\n+OK\r\n";
        for cut in 0..9 {
            assert_eq!(Protocol::Resp.answer(&input[..cut], 0).expect("it is right so far"), None, "{cut}");
        }
        let (used, value) = Protocol::Resp.answer(input, 0).expect("it is right").expect("it is whole");
        assert_eq!((used, value), (9, Answer::Value(4..7)));
        assert_eq!(Protocol::Resp.answer(b"+OK\r\n", 0).expect("it is right"), Some((5, Answer::Done)));
        assert_eq!(Protocol::Resp.answer(b"$-1\r\n", 0).expect("it is right"), Some((5, Answer::Missing)));
        let refused = Protocol::Resp.answer(b"-ERR no\r\n", 0).expect("it is right");
        assert_eq!(refused, Some((9, Answer::Refused("ERR no".to_owned()))));
        assert!(Protocol::Resp.answer(b"*1\r\n", 0).is_err());
    }

    #[test]
    fn answers_of_postgres_end_when_it_is_ready_again() {
        let mut input = Vec::new();
        input.extend_from_slice(b"2\0\0\0\x04");
        input.extend_from_slice(b"D\0\0\0\x0d\0\x01\0\0\0\x03abc");
        input.extend_from_slice(b"C\0\0\0\x0dSELECT 1\0");
        input.extend_from_slice(b"Z\0\0\0\x05I");
        for cut in 0..input.len() {
            assert_eq!(
                Protocol::Postgres.answer(&input[..cut], 0).expect("it is right so far"),
                None,
                "{cut}"
            );
        }
        let (used, answer) = Protocol::Postgres.answer(&input, 0).expect("it is right").expect("it is whole");
        let Answer::Value(value) = answer else { panic!("{answer:?}") };
        assert_eq!((used, &input[value]), (input.len(), b"abc".as_slice()));
    }
}
